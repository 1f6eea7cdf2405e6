//! The world of one seed: shards, network, stores and clients in one thread, and a clock that only goes on when all
//! is quiet.
//!
//! `shell` executes the hub's effects, `events` says what happens next, `judge` and the checker hold the promises, and
//! the other modules are the actions of clients, network, application and faults. None of them decides anything about
//! channels. Every draw comes from the seed, so a seed is a history. Faults happen for a while, then all faults end,
//! and then all promises must be fulfilled.

mod app;
mod chats;
mod clients;
mod commands;
mod core_http;
mod drain;
mod engine;
mod events;
mod faults;
mod forward;
mod judge;
mod leave;
mod network;
mod polls;
mod readers;
mod sends;
mod shell;
mod signals;
mod strict;

use crate::app::App;
use crate::application::Application;
use crate::chances::{Chances, pick};
use crate::chat::ChatClient;
use crate::checker::{Checker, Verdict};
use crate::client::{Client, Numbers};
use crate::core_client::CoreClient;
use crate::core_requests::CoreRequests;
use crate::counts::Counts;
use crate::forwards::Forwards;
use crate::kept::KeptSignals;
use crate::lives::Lives;
use crate::model::Policy;
use crate::pipe::Pipe;
use crate::plan::{CHATS, CORES, Drawn, Plan, READERS};
use crate::quotas::Quotas;
use crate::rates::Rates;
use crate::readers::Reader;
use crate::sends::{Outgoing, SendJudge};
use crate::shrink::Smaller;
use crate::store::Stores;
use crate::strict::{Seen, Strict};
use crate::trace::Trace;
use events::Event;
use fanfare_hub::{
    AppAnswer, AppToken, ChannelName, ClientId, Effects, Error, Now, PollTable, Request, RequestId, Rng, Shard,
    ShardConfig, ShardId,
};
use faults::Fault;
use shell::{Carried, Core, Link};
use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashSet};
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
    /// Of each client that begins by requests.
    engine_rngs: BTreeMap<usize, Rng>,
    /// Clients that leave a connection before they have a session on it.
    flit_rng: Rng,
    /// What happens to connections of readers.
    reader_fault_rng: Rng,
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
    /// Clients that speak the chat protocol; numbered after those.
    chats: Vec<ChatClient>,
    /// Readers of plain event streams; numbered after those.
    readers: Vec<Reader>,
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
    strict: Strict,
    quotas: Quotas,
    kept: KeptSignals,
    lives: Lives,
    /// The answers of the call that is being made: the connection, the id and the error.
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
    /// How many entries had been accepted anywhere when that began.
    turn_order: u64,
}

/// The author's number of what the application publishes.
const APP: u64 = 200;
const WHISPERS: u64 = 201;

impl World {
    pub(crate) fn new(seed: u64, mut trace: Trace, smaller: &Smaller) -> Self {
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
                open: Vec::new(),
            }
        });
        let shards = shards.collect();
        let asks = plan.hooks.hooks.connect;
        let grants = plan.hooks.grant.is_some();
        let numbers_of_all = (0..plan.clients)
            .chain((0..plan.cores).map(|core| CORES + core))
            .chain((0..plan.chats).map(|chat| CHATS + chat))
            .chain((0..plan.readers).map(|reader| READERS + reader));
        let mut client_rngs: Vec<Rng> = numbers_of_all.clone().map(|n| chances.of("client", n as u64)).collect();
        let (of_clients, rest) = client_rngs.split_at_mut(plan.clients);
        let (of_cores, rest) = rest.split_at_mut(plan.cores);
        let (of_chats, of_readers) = rest.split_at_mut(plan.chats);
        let transports = |n| plan.transports(chances.of("core transports", n as u64));
        let requests = |n| CoreRequests::new(chances.of("core requests", n as u64));
        let core = |(n, rng)| CoreClient::new(n, rng, (asks, grants), transports(n), requests(n));
        let cores = of_cores.iter_mut().enumerate().map(core).collect();
        let clients = of_clients.iter_mut().enumerate().map(|(n, rng)| Client::new(n, rng)).collect();
        let chats = of_chats.iter_mut().map(ChatClient::new).collect();
        let readers = of_readers.iter_mut().enumerate().map(|(n, rng)| Reader::new(n, rng, &plan)).collect();
        let numbers = numbers_of_all.map(|n| Numbers::new(n as u64)).collect();
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
            engine_rngs: BTreeMap::new(),
            flit_rng: chances.of("flits", 0),
            reader_fault_rng: chances.of("reader faults", 0),
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
            chats,
            readers,
            checker: Checker::new(plan.hooks.grant.clone(), plan.limits.rooms_max),
            app: App::new(plan.faults.store.silent + plan.faults.store.stuck == 0, plan.limits.store_timeout_ms),
            app_answers: Vec::new(),
            application: Application::new(plan.hooks.clone(), chances),
            rates: Rates::default(),
            strict: Strict::default(),
            quotas: Quotas::new(plan.quotas, plan.shards),
            kept: KeptSignals::new(&plan.limits),
            lives: Lives::new(&plan.limits),
            answered_now: Vec::new(),
            frozen_until_ms: vec![0; plan.clients + plan.cores + plan.chats + plan.readers],
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
            turn_order: 0,
            plan,
        }
    }

    /// Runs the whole story. The error says which promise was broken.
    pub(crate) fn run(&mut self) -> Verdict {
        let chaos_ms = self.plan.chaos_ms;
        for client in 0..self.clients.len() + self.cores.len() + self.chats.len() + self.readers.len() {
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
        if self.plan.readers > 0 {
            self.after(700, Event::ReaderFault);
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
            self.trace.step(at_ms);
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
    pub(crate) fn into_report(mut self) -> (Counts, Trace) {
        self.counts.add(&self.checker.counts);
        for core in &self.cores {
            self.counts.core_messages += core.messages;
            self.counts.core_gaps += core.gaps;
        }
        self.counts.kept_signals += self.kept.came;
        self.counts.moved_signals += self.kept.moved;
        self.counts.quotas_judged += self.quotas.judged;
        self.counts.quotas_refused += self.quotas.refused;
        self.counts.quotas_refused_users += self.quotas.refused_users;
        self.counts.quotas_continued += self.quotas.continued;
        self.counts.rates_judged += self.rates.judged;
        self.counts.rates_refused += self.rates.refused;
        self.counts.rates_continued += self.rates.continued;
        let Seen { too_long, sieved_out, sieved, senders_hidden, .. } = self.strict.seen;
        let Seen { past_read, past_hidden, places_full, places_refused, .. } = self.strict.seen;
        self.counts.too_long += too_long;
        self.counts.sieved_out += sieved_out;
        self.counts.sieved += sieved;
        self.counts.senders_hidden += senders_hidden;
        self.counts.past_read += past_read;
        self.counts.past_hidden += past_hidden;
        self.counts.places_full += places_full;
        self.counts.places_refused += places_refused;
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
        let (notices, vacated) = self.application.notice_counts();
        self.counts.notices += notices;
        self.counts.vacated += vacated;
        let stores = self.stores.borrow();
        let (duplicates, expired, shed) = stores.key_counts();
        self.counts.key_duplicates += duplicates;
        self.counts.keys_expired += expired;
        self.counts.keys_shed += shed;
        self.counts.store_losses = stores.losses;
        self.counts.store_unknown = stores.unknowns;
        self.counts.store_silent = stores.silences;
        self.counts.store_stuck = stores.stuck;
        (self.counts.clone(), self.trace)
    }

    fn now(&self) -> Now {
        Now { mono_ms: self.now_ms, wall_ms: self.wall_ms }
    }

    /// The number of a client that stays the same when others are taken away.
    fn number_of(&self, client: usize) -> u64 {
        if let Some(reader) = self.reader_of(client) {
            return (READERS + reader) as u64;
        }
        if let Some(chat) = self.chat_of(client) {
            return (CHATS + chat) as u64;
        }
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
}
