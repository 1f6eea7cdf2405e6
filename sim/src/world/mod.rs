//! The world of one seed: shards, network, stores and clients in one thread, and a clock that only goes on when all
//! is quiet.
//!
//! It is the shell of the hub: it executes each list of effects in order, encodes a push once, appends it to the
//! outboxes, carries messages between shards and wakes them. It decides nothing about channels. Every draw comes from
//! the seed, so a seed is a history. Faults happen for a while, then all faults end, and then all promises must be
//! fulfilled.

mod app;
mod clients;
mod commands;
mod drain;
mod faults;
mod forward;
mod leave;
mod network;
mod polls;
mod sends;
mod signals;

use crate::app::App;
use crate::application::{Application, ScheduledAnswer};
use crate::chances::{Chances, pick};
use crate::checker::{Checker, Verdict};
use crate::client::{Client, Numbers};
use crate::core_client::CoreClient;
use crate::counts::Counts;
use crate::forwards::Forwards;
use crate::kept::KeptSignals;
use crate::ledger::Kept;
use crate::lives::Lives;
use crate::model::Policy;
use crate::pipe::{Pipe, SinceFull};
use crate::plan::{CORES, Drawn, Plan};
use crate::polling::PollAnswer;
use crate::rates::Rates;
use crate::sends::{Outgoing, SendJudge};
use crate::shrink::Smaller;
use crate::store::Stores;
use crate::trace::Trace;
use crate::watch::Said;
use crate::wire::{self, ToClient};
use bytes::Bytes;
use fanfare_client::core::Input as CoreInput;
use fanfare_hub::{
    AppAnswer, AppToken, Appended, ChannelName, ClientId, ConnId, Effect, Effects, Error, HookAnswer, HookToken, Input,
    Now, OpToken, PeerMessage, PollTable, Push, ReplyBody, Request, RequestId, Rng, Shard, ShardConfig, ShardId,
    StoreAnswer,
};
use faults::Fault;
use polls::PollRequest;
use sends::SendAnswer;
use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

/// Virtual milliseconds between the last fault and the judgement: silent connections are found (two heartbeats), graces
/// end, and then the 15 s of promise 3.
const CALM_MS: u64 = 27_000;
/// A run that takes more steps than this does not come to rest.
const STEPS_MAX: u64 = 2_000_000;
/// Steps at one instant: with more of them than this, the virtual clock does not advance any more.
const STEPS_AT_ONCE_MAX: u64 = 50_000;

pub(crate) struct World {
    plan: Plan,
    /// Of each client: the client cores come after the others.
    client_rngs: Vec<Rng>,
    numbers: Vec<Numbers>,
    app_rng: Rng,
    app_numbers: Numbers,
    whisper_rng: Rng,
    whisper_numbers: Numbers,
    /// Whose callers a handler ends.
    handler_rng: Rng,
    /// Of each kind of fault.
    fault_rngs: Vec<Rng>,
    /// Links that are stuck.
    stick_rng: Rng,
    /// Clients that leave a connection before they have a session on it.
    flit_rng: Rng,
    chances: Chances,
    now_ms: u64,
    wall_ms: u64,
    queue: BinaryHeap<Reverse<(u64, u64, usize)>>,
    events: Vec<Option<(u32, Event)>>,
    free: Vec<usize>,
    seq: u64,
    shards: Vec<Core>,
    pipes: Vec<Pipe>,
    clients: Vec<Client>,
    stores: Rc<RefCell<Stores>>,
    /// Clients that are the real core; numbered after the others.
    cores: Vec<CoreClient>,
    checker: Checker,
    app: App,
    app_answers: Vec<(AppToken, AppAnswer)>,
    application: Application,
    forwards: Forwards,
    /// The sends of each session, as its client keeps them.
    outgoing: BTreeMap<ClientId, Outgoing>,
    send_judge: SendJudge,
    /// The number of the last poll.
    next_poll: u64,
    rates: Rates,
    kept: KeptSignals,
    lives: Lives,
    /// What was answered in the call that is being made: the connection, the id and the error.
    answered_now: Vec<(usize, Option<RequestId>, Option<Error>)>,
    /// Of each client: it is stopped until then.
    frozen_until_ms: Vec<u64>,
    /// The channel that the rules have shut.
    shut: Option<ChannelName>,
    /// Counts the servers that have been there.
    life: u32,
    /// The server stops: the window of its clients, once it drains.
    draining: Option<u64>,
    /// It closes its connections, and accepts none.
    is_closing: bool,
    /// Clients whose connection was opened while the server stopped.
    late_comers: HashSet<usize>,
    placement_key: u64,
    /// The last judgement but one is over, and all clients leave.
    leaving: bool,
    policy: Policy,
    counts: Counts,
    trace: Trace,
    /// Commands that no text of the native protocol can say.
    unspoken: Vec<Request>,
    calm: bool,
    /// The time since which it is stuck.
    calm_ms: u64,
    /// How many signals had found no room behind fan-outs before the last one was sent.
    signals_shed: u64,
    /// Counts the inputs of all shards.
    turn: u64,
}

/// The author's number of what the application publishes.
const APP: u64 = 200;
const WHISPERS: u64 = 201;

/// What goes from one shard to another.
enum Carried {
    Message(PeerMessage),
    /// A poll for a session that the other shard may have.
    Poll(PollRequest),
}

/// The link from one shard to another.
struct Link {
    /// What arrives together.
    messages: VecDeque<Vec<Carried>>,
    /// What the turn has said so far.
    turn: Vec<Carried>,
    /// When the last of them arrives.
    last_ms: u64,
    rng: Rng,
}

impl Link {
    fn new(chances: Chances, from: usize, to: usize) -> Self {
        let number = (from as u64) << 32 | to as u64;
        Link { messages: VecDeque::new(), turn: Vec::new(), last_ms: 0, rng: chances.of("link", number) }
    }
}

/// A shard and what its shell keeps for it.
struct Core {
    shard: Shard,
    effects: Effects,
    /// From each shard.
    inbox: Vec<Link>,
    rng: Rng,
    wake_ms: Option<u64>,
    continuing: bool,
    stalled_until_ms: u64,
    /// Its polled connections.
    polls: PollTable,
    /// Pipe of each connection index, with the generation that it stands for.
    conns: Vec<(u32, Option<usize>)>,
}

#[derive(Debug)]
enum Event {
    Wake { shard: usize, at_ms: u64 },
    Continue { shard: usize },
    Inbox { shard: usize, from: usize },
    Answer { shard: usize, told: Option<(OpToken, StoreAnswer)> },
    EndCaller { client: ClientId, channel: Option<ChannelName> },
    Hook { shard: usize, token: HookToken, number: u64, answer: Box<HookAnswer> },
    CoreToken { client: usize },
    Up { pipe: usize },
    Flush { pipe: usize },
    Down { pipe: usize, bytes: Bytes },
    ServerCloses { pipe: usize, finally: bool },
    ClientCloses { pipe: usize },
    CoreOpened { pipe: usize },
    CoreWake { client: usize },
    Tick { client: usize },
    App,
    Whisper,
    Forward,
    Request { shard: usize, input: Box<Input> },
    PollArrives { shard: usize, request: PollRequest },
    PollOver { pipe: usize, turn: u64 },
    PollHeard { pipe: usize, request: u64, answer: PollAnswer },
    PollNext { pipe: usize },
    PollForget { pipe: usize },
    LetIn { pipe: usize },
    SendOut { pipe: usize },
    SendArrives { shard: usize, pipe: usize, body: Rc<str> },
    SendAnswered(Box<SendAnswer>),
    Fault(Fault),
    Stick,
    Flit,
    Leap { pipe: usize, to: usize },
    Mend { pipe: usize },
    Reopen,
    Heal,
    Look,
    Drain,
    Settle { until_ms: u64 },
    Restart,
    Empty,
    LastPublish,
    LastSignal,
    LastQuestion,
    End,
}

impl Event {
    /// It is for the process of a shard, and is lost with it.
    fn is_of_a_shard(&self) -> bool {
        matches!(
            self,
            Event::Wake { .. }
                | Event::Continue { .. }
                | Event::Inbox { .. }
                | Event::Answer { .. }
                | Event::Hook { .. }
                | Event::Request { .. }
                | Event::PollArrives { .. }
                | Event::PollOver { .. }
                | Event::PollForget { .. }
                | Event::LetIn { .. }
                | Event::SendArrives { .. }
        )
    }
}

impl World {
    pub(crate) fn new(seed: u64, events: usize, smaller: &Smaller) -> Self {
        let Drawn { plan, chances } = Drawn::of(seed, smaller);
        let now_ms = 1_000_000 + chances.of("clock", 0).below(1_000_000);
        let wall_ms = 1_700_000_000_000;
        let now = Now { mono_ms: now_ms, wall_ms };
        let stores = Stores::new(plan.shards, &plan.limits, plan.faults.store, chances);
        let rules = Arc::new(plan.rules(None));
        let (limits, hooks) = (Arc::new(plan.limits.clone()), Arc::new(plan.hooks.hooks.clone()));
        let placement_key = chances.of("placement", 0).next_u64();
        let shards = (0..plan.shards).map(|me| {
            let config = ShardConfig {
                me: ShardId(me as u16),
                shards: plan.shards,
                rules: rules.clone(),
                hooks: hooks.clone(),
                limits: limits.clone(),
                seed: chances.of("hub", me as u64).next_u64(),
                placement_key,
            };
            Core {
                shard: Shard::new(config, Stores::store(&stores, me), now),
                effects: Effects::new(),
                inbox: (0..plan.shards).map(|from| Link::new(chances, from, me)).collect(),
                rng: chances.of("shard", me as u64),
                wake_ms: None,
                continuing: false,
                stalled_until_ms: 0,
                polls: PollTable::default(),
                conns: Vec::new(),
            }
        });
        let shards = shards.collect();
        let asks = plan.hooks.hooks.connect;
        let grants = plan.hooks.grant.is_some();
        let numbers_of_all = (0..plan.clients).chain((0..plan.cores).map(|core| CORES + core));
        let mut client_rngs: Vec<Rng> = numbers_of_all.clone().map(|n| chances.of("client", n as u64)).collect();
        let (of_clients, of_cores) = client_rngs.split_at_mut(plan.clients);
        let cores = of_cores.iter_mut().enumerate().map(|(n, rng)| CoreClient::new(n, rng, asks, grants)).collect();
        let clients = of_clients.iter_mut().enumerate().map(|(n, rng)| Client::new(n, rng)).collect();
        let numbers = numbers_of_all.map(|n| Numbers::new(n as u64)).collect();
        let mut trace = Trace::new(events);
        trace.note(now_ms, || format!("{plan:?}"));
        World {
            client_rngs,
            numbers,
            app_rng: chances.of("app", 0),
            app_numbers: Numbers::new(APP),
            whisper_rng: chances.of("whispers", 0),
            whisper_numbers: Numbers::new(WHISPERS),
            handler_rng: chances.of("handlers that end their callers", 0),
            fault_rngs: Fault::ALL.iter().map(|fault| chances.of("fault", *fault as u64)).collect(),
            stick_rng: chances.of("stuck links", 0),
            flit_rng: chances.of("flits", 0),
            chances,
            now_ms,
            wall_ms,
            queue: BinaryHeap::new(),
            events: Vec::new(),
            free: Vec::new(),
            seq: 0,
            shards,
            pipes: Vec::new(),
            clients,
            stores,
            cores,
            checker: Checker::new(plan.hooks.grant.clone(), plan.limits.rooms_max),
            app: App::new(plan.faults.store.silent + plan.faults.store.stuck == 0, plan.limits.store_timeout_ms),
            app_answers: Vec::new(),
            application: Application::new(plan.hooks.clone(), chances),
            rates: Rates::default(),
            kept: KeptSignals::new(&plan.limits),
            lives: Lives::new(&plan.limits),
            answered_now: Vec::new(),
            frozen_until_ms: vec![0; plan.clients + plan.cores],
            shut: None,
            life: 0,
            draining: None,
            is_closing: false,
            late_comers: HashSet::new(),
            placement_key,
            leaving: false,
            forwards: Forwards::new(chances.of("forwards", 0)),
            outgoing: BTreeMap::new(),
            send_judge: SendJudge::default(),
            next_poll: 0,
            policy: Policy::new(&plan.rules),
            counts: Counts::default(),
            trace,
            unspoken: Vec::new(),
            calm: false,
            calm_ms: 0,
            signals_shed: 0,
            turn: 0,
            plan,
        }
    }

    /// Runs the whole story. The error says which promise was broken.
    pub(crate) fn run(&mut self) -> Verdict {
        let chaos_ms = self.plan.chaos_ms;
        for client in 0..self.clients.len() + self.cores.len() {
            let after = self.client_rngs[client].below(200);
            self.after(after, Event::Tick { client });
        }
        for shard in 0..self.shards.len() {
            self.after(0, Event::Wake { shard, at_ms: self.now_ms });
            self.shards[shard].wake_ms = Some(self.now_ms);
        }
        if let Some((after_ms, _)) = self.plan.restart {
            self.after(after_ms, Event::Drain);
        }
        self.after(400, Event::Look);
        if self.plan.app {
            self.after(300, Event::App);
        }
        if self.plan.whispers {
            self.after(700, Event::Whisper);
        }
        if self.plan.forwards {
            self.after(400, Event::Forward);
        }
        for fault in Fault::ALL {
            if !fault.is_in(&self.plan.faults) {
                continue;
            }
            self.after(500, Event::Fault(fault));
        }
        if self.plan.faults.stuck_links {
            self.after(500, Event::Stick);
        }
        if self.plan.faults.flits {
            self.after(600, Event::Flit);
        }
        self.after(chaos_ms, Event::Heal);
        self.after(chaos_ms + CALM_MS - 15_000, Event::LastPublish);
        self.after(chaos_ms + CALM_MS - 12_000, Event::LastSignal);
        self.after(chaos_ms + CALM_MS - 2_000, Event::LastQuestion);
        self.after(chaos_ms + CALM_MS, Event::End);
        let mut at_once = 0;
        for _ in 0..STEPS_MAX {
            let Some(Reverse((at_ms, _, slot))) = self.queue.pop() else {
                return Err("nothing happens any more".into());
            };
            at_once = if at_ms == self.now_ms { at_once + 1 } else { 0 };
            if at_once > STEPS_AT_ONCE_MAX {
                return Err(format!("the virtual clock stands still: {at_once} steps at {at_ms} ms"));
            }
            self.wall_ms += at_ms - self.now_ms;
            self.now_ms = at_ms;
            let Some((life, event)) = self.events[slot].take() else { continue };
            self.free.push(slot);
            if life != self.life && event.is_of_a_shard() {
                continue;
            }
            if matches!(event, Event::End) {
                self.judge()?;
                self.leave()?;
                continue;
            }
            if matches!(event, Event::Empty) {
                return self.judge_empty();
            }
            self.step(event)?;
        }
        Err(format!("the world does not come to rest: {STEPS_MAX} steps"))
    }

    /// The properties of the run, for the report.
    pub(crate) fn into_report(mut self) -> (Counts, Vec<String>) {
        self.counts.add(&self.checker.counts);
        for core in &self.cores {
            self.counts.core_messages += core.messages;
            self.counts.core_gaps += core.gaps;
        }
        self.counts.kept_signals += self.kept.came;
        self.counts.moved_signals += self.kept.moved;
        self.counts.rates_judged += self.rates.judged;
        self.counts.rates_refused += self.rates.refused;
        self.counts.rates_continued += self.rates.continued;
        self.counts.resumed_in_time += self.lives.within;
        self.counts.resumed_too_late += self.lives.after;
        self.counts.mute += self.lives.mute;
        self.counts.sends_answered += self.send_judge.answered;
        self.counts.sends_again += self.send_judge.again;
        self.counts.hook_asked += self.application.asked;
        self.counts.hook_late += self.application.late;
        self.counts.hook_missing += self.application.missing;
        self.counts.hook_denied += self.application.denied;
        self.counts.hook_edited += self.application.edited;
        self.counts.granted += self.application.granted_by_token;
        self.counts.grants_ended += self.application.grants_ended();
        let stores = self.stores.borrow();
        let (duplicates, expired, shed) = stores.key_counts();
        self.counts.key_duplicates += duplicates;
        self.counts.keys_expired += expired;
        self.counts.keys_shed += shed;
        self.counts.store_losses = stores.losses;
        self.counts.store_unknown = stores.unknowns;
        self.counts.store_silent = stores.silences;
        self.counts.store_stuck = stores.stuck;
        (self.counts.clone(), self.trace.into_lines())
    }

    fn now(&self) -> Now {
        Now { mono_ms: self.now_ms, wall_ms: self.wall_ms }
    }

    fn after(&mut self, ms: u64, event: Event) {
        self.at(self.now_ms + ms, event);
    }

    fn at(&mut self, at_ms: u64, event: Event) {
        let slot = match self.free.pop() {
            Some(slot) => {
                self.events[slot] = Some((self.life, event));
                slot
            }
            None => {
                self.events.push(Some((self.life, event)));
                self.events.len() - 1
            }
        };
        self.seq += 1;
        self.queue.push(Reverse((at_ms, self.seq, slot)));
    }

    /// The number of a client that stays the same when others are taken away.
    fn number_of(&self, client: usize) -> u64 {
        match client.checked_sub(self.clients.len()) {
            Some(core) => (CORES + core) as u64,
            None => client as u64,
        }
    }

    /// The shard that a client's next connection comes to.
    fn any_shard(&mut self, client: usize) -> usize {
        let shards = (0..self.shards.len()).map(|shard| (shard as u64, shard));
        pick(&mut self.client_rngs[client], shards).unwrap_or(0)
    }

    /// Postpones an event of a shard that stands still. True where it was postponed.
    fn stands_still(&mut self, shard: usize) -> Option<u64> {
        let until = self.shards[shard].stalled_until_ms;
        (until > self.now_ms).then_some(until)
    }

    fn step(&mut self, event: Event) -> Verdict {
        let shard = match &event {
            Event::Wake { shard, .. }
            | Event::Continue { shard }
            | Event::Inbox { shard, .. }
            | Event::Answer { shard, .. }
            | Event::Hook { shard, .. }
            | Event::Request { shard, .. }
            | Event::PollArrives { shard, .. }
            | Event::SendArrives { shard, .. } => Some(*shard),
            Event::Up { pipe }
            | Event::Flush { pipe }
            | Event::ServerCloses { pipe, .. }
            | Event::PollOver { pipe, .. }
            | Event::PollForget { pipe }
            | Event::LetIn { pipe } => Some(self.pipes[*pipe].shard),
            _ => None,
        };
        if let Some(until) = shard.and_then(|shard| self.stands_still(shard)) {
            self.at(until, event);
            return Ok(());
        }
        match event {
            Event::Wake { shard, at_ms } => {
                if self.shards[shard].wake_ms == Some(at_ms) {
                    self.shards[shard].wake_ms = None;
                    self.handle(shard, Input::Wake)?;
                }
            }
            Event::Continue { shard } => {
                self.shards[shard].continuing = false;
                self.counts.continued += 1;
                self.handle(shard, Input::Continue)?;
            }
            Event::Inbox { shard, from } => {
                for message in self.shards[shard].inbox[from].messages.pop_front().into_iter().flatten() {
                    let (now_ms, to) = (self.now_ms, shard);
                    match message {
                        Carried::Message(message) => {
                            self.trace.note(now_ms, || format!("shard {from} → {to}: {message:?}"));
                            self.handle(shard, Input::Peer { from: ShardId(from as u16), message })?;
                        }
                        Carried::Poll(request) => self.poll_arrives(shard, request)?,
                    }
                }
            }
            Event::Answer { shard, told } => {
                let now = self.now();
                let told = told.or_else(|| self.stores.borrow_mut().next_answer(now, shard));
                self.store_answers();
                let Some((token, answer)) = told else { return Ok(()) };
                self.trace.note(self.now_ms, || format!("store of shard {shard} answers {token:?}: {answer:?}"));
                self.handle(shard, Input::Answer { token, answer })?;
            }
            Event::Hook { shard, token, number, answer } => {
                self.trace
                    .note(self.now_ms, || format!("the application answers {token:?} of shard {shard}: {answer:?}"));
                self.application.answers(number, &answer);
                self.handle(shard, Input::HookAnswer { token, answer })?;
            }
            Event::EndCaller { client, channel } => self.end_caller(client, channel)?,
            Event::CoreToken { client } => self.core_token(client)?,
            Event::Up { pipe } => self.read(pipe)?,
            Event::Flush { pipe } => self.flush(pipe)?,
            Event::Down { pipe, bytes } => self.down(pipe, bytes)?,
            Event::ServerCloses { pipe, finally } => {
                let Pipe { shard, conn, server_open, .. } = self.pipes[pipe];
                if server_open {
                    self.pipes[pipe].server_open = false;
                    self.over(pipe);
                    self.ends(pipe, finally);
                    self.trace.note(self.now_ms, || format!("server sees the end of pipe {pipe} (finally: {finally})"));
                    self.handle(shard, Input::Closed { conn, finally })?;
                }
            }
            Event::ClientCloses { pipe } => self.client_closed(pipe, false, None)?,
            Event::CoreOpened { pipe } => {
                if self.pipes[pipe].client_open {
                    self.core(self.pipes[pipe].client, CoreInput::Opened)?;
                }
            }
            Event::CoreWake { client } => match self.frozen_until_ms[client] {
                until_ms if until_ms > self.now_ms => self.at(until_ms, event),
                _ => self.core(client, CoreInput::Wake)?,
            },
            Event::Tick { client } => self.tick(client)?,
            Event::App => self.app_tick()?,
            Event::Whisper => self.whisper()?,
            Event::Forward => self.forward_tick()?,
            Event::Request { shard, input } => self.handle(shard, *input)?,
            Event::PollArrives { shard, request } => self.poll_arrives(shard, request)?,
            Event::PollOver { pipe, turn } => self.poll_ready(pipe, turn)?,
            Event::PollHeard { pipe, request, answer } => self.poll_heard(pipe, request, answer)?,
            Event::PollNext { pipe } => self.keep_polling(pipe)?,
            Event::PollForget { pipe } => self.remove_polled(pipe),
            Event::LetIn { pipe } => self.let_in(pipe)?,
            Event::SendOut { pipe } => self.send_out(pipe)?,
            Event::SendArrives { shard, pipe, body } => self.send_arrives(shard, pipe, &body)?,
            Event::SendAnswered(answer) => self.send_heard(*answer)?,
            Event::Fault(fault) => self.fault(fault)?,
            Event::Stick => self.stick()?,
            Event::Flit => self.flit()?,
            Event::Leap { pipe, to } => self.leap(pipe, to)?,
            Event::Mend { pipe } => self.mend(pipe)?,
            Event::Reopen => self.reload(None)?,
            Event::Heal => self.heal()?,
            Event::Look => self.look()?,
            Event::Drain => self.drain()?,
            Event::Settle { until_ms } => self.settle(until_ms)?,
            Event::Restart => self.restart()?,
            Event::LastPublish => self.last_publish()?,
            Event::LastSignal => self.last_signal()?,
            Event::LastQuestion => self.last_question()?,
            Event::End | Event::Empty => {}
        }
        Ok(())
    }

    /// The shell: one input, then the hub's effects, in order.
    fn handle(&mut self, shard: usize, input: Input) -> Verdict {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut effects = std::mem::take(&mut self.shards[shard].effects);
            effects.clear();
            let now = self.now();
            self.turn += 1;
            let full = if let Input::Full(conn) = &input { Some(*conn) } else { None };
            self.kept.at(self.now_ms);
            self.signals_given(shard, &input);
            self.shards[shard].shard.handle(now, input, &mut effects);
            let full = full.and_then(|conn| self.pipe_of(shard, conn));
            let mut must_close = false;
            if let Some(pipe) = full {
                self.pipes[pipe].full = Some(SinceFull::default());
                self.pipes[pipe].full_ms = Some(self.now_ms);
                // Where a store loses, subscribers are set back without a word, and catch up.
                // What a client subscribes to by sends is not watched, and may be catching up.
                let must = self.pipes[pipe].watch.full() && self.pipes[pipe].apart.is_none();
                must_close = must && !self.plan.loses();
            }
            let mut list = effects.take_list();
            self.is_sliced(&list, &effects)?;
            for effect in list.drain(..) {
                self.effect(shard, effect, &effects, &mut inputs)?;
            }
            effects.put_back(list);
            if let Some(pipe) = full.filter(|pipe| must_close && self.pipes[*pipe].server_open) {
                return Err(format!("pipe {pipe} is slow and follows a channel that disconnects for it"));
            }
            self.after_handle(shard, &effects);
            self.shards[shard].effects = effects;
        }
        self.carry(shard);
        self.app_answers()?;
        self.signals_told()?;
        self.bounds(shard)
    }

    fn effect(&mut self, shard: usize, effect: Effect, effects: &Effects, inputs: &mut VecDeque<Input>) -> Verdict {
        match effect {
            Effect::Push { push, to, .. } => {
                let recipients = effects.recipients(to);
                self.trace.note(self.now_ms, || format!("shard {shard} tells {recipients:?}: {push:?}"));
                let counts = matches!(push, Push::Message { .. } | Push::Messages { .. });
                let message = Rc::new(ToClient::Push(push));
                let frame = wire::encode(&message, shard, self.wall_ms, &self.plan.limits);
                for conn in recipients {
                    let turn = self.turn;
                    if let Some(pipe) = self.pipe_of(shard, *conn) {
                        if let ToClient::Push(push) = &*message {
                            self.application.pushed(pipe, push);
                        }
                        let (said, pipe) = (self.said(), &mut self.pipes[pipe]);
                        if let ToClient::Push(Push::Signal(signal)) = &*message
                            && let Some(to) = signal.signal.to
                        {
                            pipe.signals_told.insert(signal.signal.data.clone());
                            self.kept.told(to, &signal.signal.data);
                        }
                        let is_of_the_moment = |push: &Push| {
                            matches!(push, Push::Signal(_) | Push::Presence(_) | Push::PresenceCount { .. })
                        };
                        if let (ToClient::Push(push), Some(_)) = (&*message, &pipe.full)
                            && is_of_the_moment(push)
                        {
                            return Err(format!("promise 6: a full connection is told {push:?}"));
                        }
                        if let ToClient::Push(Push::Unsubscribed { channel, .. }) = &*message
                            && let Some(client) = pipe.session
                        {
                            self.kept.left(client, channel);
                        }
                        if let (ToClient::Push(Push::Unsubscribed { channel, .. }), Some(_)) = (&*message, &pipe.apart)
                        {
                            self.checker.end_told(pipe.number, channel);
                        }
                        if let ToClient::Push(Push::Disconnect { delay_ms, .. }) = &*message {
                            pipe.drain_delay_ms = Some(*delay_ms);
                        }
                        if let ToClient::Push(push) = &*message {
                            let batch = pipe.watch.pushed(push, said, &self.plan, &self.stores.borrow().ledger)?;
                            self.counts.batches += u64::from(batch);
                        }
                    }
                    self.counts.prompt += u64::from(counts && self.said().is_prompt);
                    if let Some(since) = self.full_of(shard, *conn).filter(|_| counts) {
                        since.turns += usize::from(since.last_turn != turn);
                        since.last_turn = turn;
                    }
                    self.append(shard, *conn, &message, frame.clone(), inputs);
                    if let (Some(pipe), ToClient::Push(Push::Signal(signal))) = (self.pipe_of(shard, *conn), &*message)
                        && signal.signal.to.is_some()
                    {
                        self.poll_directed(pipe);
                    }
                }
            }
            Effect::Reply { conn, reply, .. } => {
                self.trace.note(self.now_ms, || format!("shard {shard} answers {conn:?}: {reply:?}"));
                if let Some(pipe) = self.pipe_of(shard, conn) {
                    if let ReplyBody::Connected(connected) = &reply.body {
                        self.checker.taken_up(pipe, connected.client);
                    }
                    let asked = |channel: &ChannelName| self.checker.habit(pipe, reply.id.as_ref(), channel);
                    self.pipes[pipe].watch.replied(self.now_ms, &reply.body, &self.plan, &asked)?;
                    self.checker.said(pipe, &reply, &self.stores.borrow());
                    if let ReplyBody::Subscribed(subscribed) = &reply.body
                        && let (Some(_), Some(_)) = (&self.pipes[pipe].full, subscribed.publications.first())
                    {
                        return Err(format!("promise 6: a full connection is given a page: {subscribed:?}"));
                    }
                    self.answers(pipe, shard, &reply)?;
                }
                let message = Rc::new(ToClient::Reply(reply));
                let frame = wire::encode(&message, shard, self.wall_ms, &self.plan.limits);
                if let Some(since) = self.full_of(shard, conn) {
                    since.answers += 1;
                }
                if let (Some(pipe), ToClient::Reply(reply)) = (self.pipe_of(shard, conn), &*message) {
                    if let ReplyBody::Connected(connected) = &reply.body {
                        self.forwards.connected(self.now_ms, connected.client, pipe, shard);
                        self.send_judge.is_resumed(connected.client);
                    }
                    self.application.said(pipe, reply);
                    self.poll_replied(pipe, reply);
                }
                self.append(shard, conn, &message, frame, inputs);
            }
            Effect::Pause(conn) => {
                self.counts.held += 1;
                if let Some(pipe) = self.pipe_of(shard, conn) {
                    self.pipes[pipe].held = true;
                }
            }
            Effect::Resume(conn) => {
                if let Some(pipe) = self.pipe_of(shard, conn) {
                    self.pipes[pipe].held = false;
                    self.pipes[pipe].alive_ms = self.now_ms;
                    self.after(0, Event::Up { pipe });
                }
            }
            Effect::Close { conn, reason } => self.server_closes(shard, conn, reason)?,
            Effect::Answer { token, answer } => self.app_answers.push((token, answer)),
            Effect::Answers { .. } => unreachable!("nobody puts questions to members"),
            Effect::Forwarded(forwarded) => self.forwarded(&forwarded)?,
            Effect::Ask { token, question, .. } => {
                self.trace.note(self.now_ms, || format!("shard {shard} asks as {token:?}: {question:?}"));
                self.may_end_caller(&question);
                let answering = self.application.asked(self.now(), &question, self.plan.limits.hook_timeout_ms);
                if let Some(ScheduledAnswer { number, answer, after_ms }) = answering {
                    self.after(after_ms, Event::Hook { shard, token, number, answer });
                }
            }
            Effect::Notice(notice) => {
                self.trace.note(self.now_ms, || format!("shard {shard} tells the application {notice:?}"));
                self.application.told(&notice);
            }
            Effect::Tell { shard: to, message } => {
                let to = usize::from(to.0);
                self.shards[to].inbox[shard].turn.push(Carried::Message(message));
                if !self.plan.batched_links {
                    self.carry(shard);
                }
            }
        }
        Ok(())
    }

    /// What a shard has said goes on its way: in order from one shard to another, and in no order beside what others
    /// say or what is said to others. That is less than the real carrier keeps.
    fn carry(&mut self, from: usize) {
        for to in 0..self.shards.len() {
            let link = &mut self.shards[to].inbox[from];
            if link.turn.is_empty() {
                continue;
            }
            let mut late = link.rng.below(3);
            let (one_in, late_max_ms) = if self.plan.faults.slow_links { (6, 200) } else { (30, 80) };
            if !self.calm && link.rng.below(one_in) == 0 {
                late += link.rng.below(late_max_ms);
            }
            let turn = std::mem::take(&mut link.turn);
            self.counts.batched_links += u64::from(turn.len() > 1);
            link.messages.push_back(turn);
            link.last_ms = link.last_ms.max(self.now_ms + late);
            let at_ms = link.last_ms;
            self.at(at_ms, Event::Inbox { shard: to, from });
        }
    }

    fn said(&self) -> Said {
        let (page_bytes_max, steady) = (self.plan.limits.page_bytes_max, !self.plan.loses());
        let is_prompt = !self.plan.faults.shard_stalls && self.plan.is_exact();
        Said { now_ms: self.now_ms, turn: self.turn, page_bytes_max, steady, is_prompt }
    }

    fn after_handle(&mut self, shard: usize, effects: &Effects) {
        if effects.again() && !self.shards[shard].continuing {
            self.shards[shard].continuing = true;
            let rng = &mut self.shards[shard].rng;
            let busy = !self.calm && rng.below(10) == 0;
            let later = rng.below(if busy { 60 } else { 3 });
            self.after(later, Event::Continue { shard });
        }
        let wake_ms = effects.wake_ms().map(|at| at.max(self.now_ms));
        if let Some(at_ms) = wake_ms.filter(|at| self.shards[shard].wake_ms.is_none_or(|set| *at < set)) {
            self.shards[shard].wake_ms = Some(at_ms);
            self.at(at_ms, Event::Wake { shard, at_ms });
        }
        self.store_answers();
    }

    /// Answers of the stores go on their way.
    fn store_answers(&mut self) {
        let answers = std::mem::take(&mut self.stores.borrow_mut().answers);
        for (shard, at_ms, told) in answers {
            self.counts.store_late += 1;
            self.at(at_ms, Event::Answer { shard, told });
        }
    }

    fn append(
        &mut self,
        shard: usize,
        conn: ConnId,
        message: &Rc<ToClient>,
        frame: Bytes,
        inputs: &mut VecDeque<Input>,
    ) {
        let Some(index) = self.pipe_of(shard, conn) else { return };
        let owner = self.number_of(self.pipes[index].client);
        if let Some((client, channel)) = self.app.overhears(index, owner, message) {
            self.application.grants([client].into(), &channel);
        }
        let frame = match self.pipes[index].polling {
            Some(_) => wire::encode_entry(message, shard, self.wall_ms, &self.plan.limits),
            None => frame,
        };
        let pipe = &mut self.pipes[index];
        let largest = if wire::is_page(message) { &mut pipe.page_frame_max } else { &mut pipe.frame_max };
        *largest = (*largest).max(frame.len());
        pipe.said.push_back(message.clone());
        pipe.said_count += 1;
        if pipe.outbox.push(frame, self.plan.limits.outbox_bytes_max) == Appended::Full {
            self.counts.full += 1;
            self.trace.note(self.now_ms, || format!("pipe {index} is full"));
            inputs.push_back(Input::Full(conn));
        }
        self.flush_later(index);
    }

    fn full_of(&mut self, shard: usize, conn: ConnId) -> Option<&mut SinceFull> {
        let pipe = self.pipe_of(shard, conn)?;
        self.pipes[pipe].full.as_mut()
    }

    fn pipe_of(&self, shard: usize, conn: ConnId) -> Option<usize> {
        let (generation, pipe) = *self.shards[shard].conns.get(conn.index as usize)?;
        pipe.filter(|pipe| generation == conn.generation && self.pipes[*pipe].server_open)
    }

    /// Promise 8: work over many sessions is done in slices. A session that loses a subscription is at least one step,
    /// and one step of each waiting kind of work is done.
    fn is_sliced(&self, list: &[Effect], effects: &Effects) -> Verdict {
        let ended = list.iter().filter_map(|effect| match effect {
            Effect::Push { push: Push::Unsubscribed { .. }, to, .. } => Some(effects.recipients(*to)),
            _ => None,
        });
        let sessions: HashSet<ConnId> = ended.flatten().copied().collect();
        let max = self.plan.limits.fanout_slice + 2;
        if sessions.len() > max {
            return Err(format!("promise 8: {} sessions lose subscriptions in one turn, {max} may", sessions.len()));
        }
        Ok(())
    }

    /// Promise 6: accounted bytes stay within their bound.
    fn bounds(&mut self, shard: usize) -> Verdict {
        self.application.broken()?;
        self.stores.borrow_mut().verdict()?;
        let questions = self.shards[shard].shard.stats().questions;
        if questions > self.plan.limits.questions_max {
            return Err(format!("promise 6: {questions} questions, the limit is {}", self.plan.limits.questions_max));
        }
        let limits = &self.plan.limits;
        let waiting = self.shards[shard].shard.stats().store_waiting_bytes;
        let waiting_max = limits.store_waiting_bytes_max + 2 * limits.message_bytes_max;
        if waiting > waiting_max {
            return Err(format!("promise 6: {waiting} bytes wait for the store, {waiting_max} may"));
        }
        self.held(shard)?;
        let limits = &self.plan.limits;
        let used = self.stores.borrow().bytes_used(shard);
        if used > limits.history_bytes_max {
            return Err(format!("promise 6: history of {used} bytes, the limit is {}", limits.history_bytes_max));
        }
        // In addition there is the page of an edge that was behind, which ends with the publication that exceeds the
        // page.
        let (waiting, max) = (self.shards[shard].shard.fanout_waiting_bytes(), limits.fanout_waiting_bytes_max);
        if waiting > max + limits.page_bytes_max + 2 * limits.message_bytes_max {
            return Err(format!("promise 6: {waiting} bytes wait behind a fan-out, the limit is {max}"));
        }
        for (index, pipe) in self.pipes.iter().enumerate().filter(|(_, p)| p.shard == shard && p.server_open) {
            // One turn gives a page without a request and the publication that exceeds it, a page to a client that
            // catches up, one answer that is a page, and a short answer to each command that had been read.
            let frames = limits.outstanding_max + limits.subscriptions_max + limits.signals_waiting_max + 4;
            let max = limits.outbox_bytes_max
                + 2 * limits.page_bytes_max
                + pipe.page_frame_max
                + limits.message_bytes_max
                + frames * pipe.frame_max;
            if pipe.outbox.bytes() > max {
                return Err(format!("promise 6: {} bytes wait for pipe {index}, {max} may", pipe.outbox.bytes()));
            }
            // From the time at which the hub knows that it is full: the page on its way, and the answers to earlier
            // commands.
            let Some(SinceFull { turns, answers, .. }) = pipe.full else { continue };
            let answers_max = limits.outstanding_max + limits.subscriptions_max;
            if turns > 1 || answers > answers_max {
                return Err(format!(
                    "promise 6: pipe {index} was full, and then came publications in {turns} turns (1 may) and \
                     {answers} answers ({answers_max} may)"
                ));
            }
        }
        Ok(())
    }

    fn judge(&mut self) -> Verdict {
        let online = self.clients.iter().filter(|client| client.online).count();
        if online < self.clients.len() {
            return Err(format!("promise 3: {online} of {} clients are online", self.clients.len()));
        }
        for client in &self.clients {
            let Some(pipe) = client.pipe else { continue };
            let live = self.checker.subscribed(pipe);
            let is_missing =
                |channel: &&ChannelName| !live.contains(channel) && !self.checker.is_uncertain(pipe, channel);
            if let Some(wanted) = client.wanted.keys().find(is_missing) {
                return Err(format!("promise 3: client {} wants {wanted} and is not subscribed", client.number));
            }
        }
        if self.plan.app {
            let (subscribers, connected) = self.checker.subscribers();
            self.app.finish(&subscribers, connected)?;
        }
        self.forwards.verdict()?;
        self.send_judge.verdict()?;
        let sessions: usize = self.shards.iter().map(|core| core.shard.stats().sessions).sum();
        if sessions != self.lives.online() {
            return Err(format!("lives: {} sessions have a connection, and there are {sessions}", self.lives.online()));
        }
        self.application.finish(self.shards.iter().map(|core| core.shard.stats().sessions).sum())?;
        // The application is not asked about its own publications, and about none for an audience.
        let is_asked_for = |kept: &Kept| kept.client().is_some() && kept.publication.audience.is_none();
        for (channel, _, kept) in self.stores.borrow().ledger.all().filter(|(_, _, kept)| is_asked_for(kept)) {
            self.application.check_kept(channel, kept.publication.data.bytes())?;
        }
        for core in &self.cores {
            core.finish(&self.stores.borrow())?;
            for (channel, names) in core.presences().filter(|(channel, _)| self.plan.channels.contains(channel)) {
                self.counts.core_presences += 1;
                if core.pipe.is_some() {
                    self.checker.presence_agrees(&channel, names)?;
                }
            }
        }
        if self.signals_shed == self.shed_signals() {
            self.checker.finish_last_signal()?;
        }
        self.checker.finish(&self.stores.borrow(), &self.plan.channels)
    }
}
