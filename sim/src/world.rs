//! The world of one seed: shards, network, stores and clients in one thread, and a clock that only goes on when all is quiet.
//!
//! It is the shell of the hub: it takes each list of effects in order, encodes a push once, appends it to the outboxes,
//! carries messages between shards and wakes them. It decides nothing about channels. Every draw comes from the seed, so a
//! seed is a history. Story: faults happen for a while, then everything heals, and all promises must come true.

use crate::checker::{Checker, Verdict};
use crate::client::{Act, Client, Numbers};
use crate::core_client::CoreClient;
use crate::counts::Counts;
use crate::pipe::{Heard, Pipe, SinceFull};
use crate::plan::Plan;
use crate::store::Stores;
use crate::trace::Trace;
use crate::wire::{self, ToClient};
use bytes::Bytes;
use fanfare_client::core::{Input as CoreInput, Output as CoreOutput};
use fanfare_hub::{
    Answer, Appended, ChannelName, Command, ConnId, Disconnect, Effect, Effects, Input, Now, OpToken, Opened,
    PeerMessage, Push, Reply, ReplyBody, Request, Rng, Rules, Shard, ShardConfig, ShardId, WireId,
};
use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

/// Virtual milliseconds between the last fault and the judgement: silent connections are found (two heartbeats), graces
/// end, and then the 15 s of promise 3.
const CALM_MS: u64 = 27_000;
/// A run that takes more steps than this does not come to rest.
const STEPS_MAX: u64 = 2_000_000;

pub(crate) struct World {
    plan: Plan,
    rng: Rng,
    now_ms: u64,
    wall_ms: u64,
    queue: BinaryHeap<Reverse<(u64, u64, usize)>>,
    events: Vec<Option<Event>>,
    free: Vec<usize>,
    seq: u64,
    shards: Vec<Core>,
    pipes: Vec<Pipe>,
    clients: Vec<Client>,
    stores: Rc<RefCell<Stores>>,
    /// Clients that are the real core; numbered after the others.
    cores: Vec<CoreClient>,
    numbers: Numbers,
    checker: Checker,
    rules: Arc<Rules>,
    counts: Counts,
    trace: Trace,
    calm: bool,
    /// Counts the inputs of all shards.
    turn: u64,
}

/// A shard and what its shell keeps for it.
struct Core {
    shard: Shard,
    effects: Effects,
    inbox: VecDeque<(ShardId, PeerMessage)>,
    inbox_last_ms: u64,
    wake_ms: Option<u64>,
    continuing: bool,
    stalled_until_ms: u64,
    /// Pipe of each connection index, with the generation that it stands for.
    conns: Vec<(u32, Option<usize>)>,
}

#[derive(Debug)]
enum Event {
    Wake { shard: usize, at_ms: u64 },
    Continue { shard: usize },
    Inbox { shard: usize },
    Answer { shard: usize, told: Option<(OpToken, Answer)> },
    Up { pipe: usize },
    Flush { pipe: usize },
    Down { pipe: usize, bytes: Bytes },
    ServerCloses { pipe: usize, finally: bool },
    ClientCloses { pipe: usize },
    CoreOpened { pipe: usize },
    CoreWake { client: usize },
    Tick { client: usize },
    Fault,
    Mend { pipe: usize },
    Reopen,
    Heal,
    LastPublish,
    LastQuestion,
    End,
}

impl World {
    pub(crate) fn new(seed: u64, events: usize) -> Self {
        let mut rng = Rng::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xFA4F);
        let plan = Plan::draw(&mut rng);
        let now_ms = 1_000_000 + rng.below(1_000_000);
        let wall_ms = 1_700_000_000_000;
        let now = Now { mono_ms: now_ms, wall_ms };
        let stores = Stores::new(plan.shards, &plan.limits, plan.faults.store, Rng::new(rng.next_u64()));
        let rules = Arc::new(plan.rules(None));
        let limits = Arc::new(plan.limits.clone());
        let placement_key = rng.next_u64();
        let shards = (0..plan.shards).map(|me| {
            let config = ShardConfig {
                me: ShardId(me as u16),
                shards: plan.shards,
                rules: rules.clone(),
                limits: limits.clone(),
                seed: rng.next_u64(),
                placement_key,
            };
            Core {
                shard: Shard::new(config, Stores::store(&stores, me), now),
                effects: Effects::new(),
                inbox: VecDeque::new(),
                inbox_last_ms: 0,
                wake_ms: None,
                continuing: false,
                stalled_until_ms: 0,
                conns: Vec::new(),
            }
        });
        let shards = shards.collect();
        let cores = (0..plan.cores).map(|number| CoreClient::new(number, &mut rng)).collect();
        let clients = (0..plan.clients).map(|number| Client::new(number, &mut rng)).collect();
        let mut trace = Trace::new(events);
        trace.note(now_ms, || format!("{plan:?}"));
        World {
            rng,
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
            numbers: Numbers::default(),
            checker: Checker::default(),
            rules,
            counts: Counts::default(),
            trace,
            calm: false,
            turn: 0,
            plan,
        }
    }

    /// Runs the whole story. The error says which promise was broken.
    pub(crate) fn run(&mut self) -> Verdict {
        let chaos_ms = self.plan.chaos_ms;
        for client in 0..self.clients.len() + self.cores.len() {
            let after = self.rng.below(200);
            self.after(after, Event::Tick { client });
        }
        for shard in 0..self.shards.len() {
            self.after(0, Event::Wake { shard, at_ms: self.now_ms });
            self.shards[shard].wake_ms = Some(self.now_ms);
        }
        self.after(500, Event::Fault);
        self.after(chaos_ms, Event::Heal);
        self.after(chaos_ms + CALM_MS - 15_000, Event::LastPublish);
        self.after(chaos_ms + CALM_MS - 2_000, Event::LastQuestion);
        self.after(chaos_ms + CALM_MS, Event::End);
        for _ in 0..STEPS_MAX {
            let Some(Reverse((at_ms, _, slot))) = self.queue.pop() else {
                return Err("nothing happens any more".into());
            };
            self.wall_ms += at_ms - self.now_ms;
            self.now_ms = at_ms;
            let Some(event) = self.events[slot].take() else { continue };
            self.free.push(slot);
            if matches!(event, Event::End) {
                return self.judge();
            }
            self.step(event)?;
        }
        Err(format!("the world does not come to rest: {STEPS_MAX} steps"))
    }

    /// What the run was, for the report.
    pub(crate) fn into_report(mut self) -> (Counts, Vec<String>) {
        self.counts.add(&self.checker.counts);
        for core in &self.cores {
            self.counts.core_messages += core.messages;
            self.counts.core_gaps += core.gaps;
        }
        let stores = self.stores.borrow();
        self.counts.store_losses = stores.losses;
        self.counts.store_unknown = stores.unknowns;
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
                self.events[slot] = Some(event);
                slot
            }
            None => {
                self.events.push(Some(event));
                self.events.len() - 1
            }
        };
        self.seq += 1;
        self.queue.push(Reverse((at_ms, self.seq, slot)));
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
            | Event::Inbox { shard }
            | Event::Answer { shard, .. } => Some(*shard),
            Event::Up { pipe } | Event::Flush { pipe } | Event::ServerCloses { pipe, .. } => {
                Some(self.pipes[*pipe].shard)
            }
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
            Event::Inbox { shard } => {
                if let Some((from, message)) = self.shards[shard].inbox.pop_front() {
                    let (now_ms, to) = (self.now_ms, shard);
                    self.trace.note(now_ms, || format!("shard {} → {to}: {message:?}", from.0));
                    self.handle(shard, Input::Peer { from, message })?;
                }
            }
            Event::Answer { shard, told } => {
                let told = told.or_else(|| self.stores.borrow_mut().next_answer(shard));
                let Some((token, answer)) = told else { return Ok(()) };
                self.trace.note(self.now_ms, || format!("store of shard {shard} answers {token:?}: {answer:?}"));
                self.handle(shard, Input::Answer { token, answer })?;
            }
            Event::Up { pipe } => self.read(pipe)?,
            Event::Flush { pipe } => self.flush(pipe)?,
            Event::Down { pipe, bytes } => self.down(pipe, bytes)?,
            Event::ServerCloses { pipe, finally } => {
                let Pipe { shard, conn, server_open, .. } = self.pipes[pipe];
                if server_open {
                    self.pipes[pipe].server_open = false;
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
            Event::CoreWake { client } => self.core(client, CoreInput::Wake)?,
            Event::Tick { client } => self.tick(client)?,
            Event::Fault => self.fault()?,
            Event::Mend { pipe } => self.mend(pipe)?,
            Event::Reopen => self.reload(None)?,
            Event::Heal => self.heal()?,
            Event::LastPublish => self.last_publish()?,
            Event::LastQuestion => self.last_question()?,
            Event::End => {}
        }
        Ok(())
    }

    /// The shell: one input, then whatever the hub says must be done, in order.
    fn handle(&mut self, shard: usize, input: Input) -> Verdict {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut effects = std::mem::take(&mut self.shards[shard].effects);
            effects.clear();
            let now = self.now();
            self.turn += 1;
            let full = if let Input::Full(conn) = &input { Some(*conn) } else { None };
            self.shards[shard].shard.handle(now, input, &mut effects);
            if let Some(pipe) = full.and_then(|conn| self.pipe_of(shard, conn)) {
                self.pipes[pipe].full = Some(SinceFull::default());
            }
            let mut list = effects.take_list();
            for effect in list.drain(..) {
                self.effect(shard, effect, &effects, &mut inputs);
            }
            effects.put_back(list);
            self.after_handle(shard, &effects);
            self.shards[shard].effects = effects;
        }
        self.bounds(shard)
    }

    fn effect(&mut self, shard: usize, effect: Effect, effects: &Effects, inputs: &mut VecDeque<Input>) {
        match effect {
            Effect::Push { push, to, .. } => {
                let recipients = effects.recipients(to);
                self.trace.note(self.now_ms, || format!("shard {shard} tells {recipients:?}: {push:?}"));
                let counts = matches!(push, Push::Message { .. });
                let message = Rc::new(ToClient::Push(push));
                let frame = wire::encode(&message, shard, self.wall_ms, &self.plan.limits);
                for conn in recipients {
                    let turn = self.turn;
                    if let Some(since) = self.full_of(shard, *conn).filter(|_| counts) {
                        since.turns += usize::from(since.last_turn != turn);
                        since.last_turn = turn;
                    }
                    self.append(shard, *conn, &message, frame.clone(), inputs);
                }
            }
            Effect::Reply { conn, reply } => {
                self.trace.note(self.now_ms, || format!("shard {shard} answers {conn:?}: {reply:?}"));
                let message = Rc::new(ToClient::Reply(reply));
                let frame = wire::encode(&message, shard, self.wall_ms, &self.plan.limits);
                if let Some(since) = self.full_of(shard, conn) {
                    since.answers += 1;
                }
                self.append(shard, conn, &message, frame, inputs);
            }
            Effect::Hold(conn) => {
                self.counts.held += 1;
                if let Some(pipe) = self.pipe_of(shard, conn) {
                    self.pipes[pipe].held = true;
                }
            }
            Effect::Resume(conn) => {
                if let Some(pipe) = self.pipe_of(shard, conn) {
                    self.pipes[pipe].held = false;
                    self.after(0, Event::Up { pipe });
                }
            }
            Effect::Close { conn, reason } => self.server_closes(shard, conn, reason),
            Effect::Tell { shard: to, message } => {
                let to = usize::from(to.0);
                let mut late = self.rng.below(3);
                let (one_in, late_max_ms) = if self.plan.faults.slow_links { (6, 200) } else { (30, 80) };
                if !self.calm && self.rng.below(one_in) == 0 {
                    late += self.rng.below(late_max_ms);
                }
                let core = &mut self.shards[to];
                core.inbox.push_back((ShardId(shard as u16), message));
                core.inbox_last_ms = core.inbox_last_ms.max(self.now_ms + late);
                let at_ms = core.inbox_last_ms;
                self.at(at_ms, Event::Inbox { shard: to });
            }
        }
    }

    fn after_handle(&mut self, shard: usize, effects: &Effects) {
        if effects.again() && !self.shards[shard].continuing {
            self.shards[shard].continuing = true;
            let busy = !self.calm && self.rng.below(10) == 0;
            let later = self.rng.below(if busy { 60 } else { 3 });
            self.after(later, Event::Continue { shard });
        }
        let wake_ms = effects.wake_ms().map(|at| at.max(self.now_ms));
        if let Some(at_ms) = wake_ms.filter(|at| self.shards[shard].wake_ms.is_none_or(|set| *at < set)) {
            self.shards[shard].wake_ms = Some(at_ms);
            self.at(at_ms, Event::Wake { shard, at_ms });
        }
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
        let pipe = &mut self.pipes[index];
        pipe.frame_max = pipe.frame_max.max(frame.len());
        pipe.said.push_back(message.clone());
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

    /// Promise 6: what is accounted stays within its bound.
    fn bounds(&self, shard: usize) -> Verdict {
        let limits = &self.plan.limits;
        let used = self.stores.borrow().bytes_used(shard);
        if used > limits.history_bytes_max {
            return Err(format!("promise 6: history of {used} bytes, the limit is {}", limits.history_bytes_max));
        }
        for (index, pipe) in self.pipes.iter().enumerate().filter(|(_, p)| p.shard == shard && p.server_open) {
            // A turn gives a page of each channel, and an answer to each command that had been read.
            let frames = limits.outstanding_max + limits.subscriptions_max + limits.signals_waiting_max + 4;
            let pages = 1 + self.plan.channels.len();
            let max = limits.outbox_bytes_max + pages * limits.page_bytes_max + frames * pipe.frame_max;
            if pipe.outbox.bytes() > max {
                return Err(format!("promise 6: {} bytes wait for pipe {index}, {max} may", pipe.outbox.bytes()));
            }
            // From when the hub knows that it is full: the page that was on its way, and what had been asked before.
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
        let now = self.now();
        let online = self.clients.iter().filter(|client| client.online).count();
        if online < self.clients.len() {
            return Err(format!("promise 3: {online} of {} clients are online", self.clients.len()));
        }
        for client in &self.clients {
            let Some(pipe) = client.pipe else { continue };
            let live = self.checker.subscribed(pipe);
            if let Some(wanted) = client.wanted.keys().find(|channel| !live.contains(channel)) {
                return Err(format!("promise 3: client {} wants {wanted} and is not subscribed", client.number));
            }
        }
        let rules = self.rules.clone();
        for core in &self.cores {
            core.finish(now, &mut self.stores.borrow_mut(), &rules)?;
        }
        self.checker.finish(now, &mut self.stores.borrow_mut(), &rules, &self.plan.channels)
    }
}

/// What the network does.
impl World {
    fn open(&mut self, client: usize, shard: usize) -> Verdict {
        let index =
            self.shards[shard].conns.iter().position(|(_, pipe)| pipe.is_none_or(|p| !self.pipes[p].server_open));
        let core = &mut self.shards[shard];
        let index = index.unwrap_or_else(|| {
            core.conns.push((0, None));
            core.conns.len() - 1
        });
        let pipe = self.pipes.len();
        core.conns[index].0 += 1;
        core.conns[index].1 = Some(pipe);
        let conn = ConnId { index: index as u32, generation: core.conns[index].0 };
        self.pipes.push(Pipe::new(shard, conn, client));
        self.trace.note(self.now_ms, || format!("client {client} opens pipe {pipe} to shard {shard} as {conn:?}"));
        self.checker.opened(pipe, shard);
        let opened = Opened {
            wire: WireId((client % 2) as u8),
            grace_ms: self.plan.limits.grace_ms as u32,
            heartbeat_ms: self.plan.limits.heartbeat_ms as u32,
        };
        self.handle(shard, Input::Opened { conn, opened })?;
        if client >= self.clients.len() {
            let core = &mut self.cores[client - self.plan.clients];
            core.pipe = Some(pipe);
            let late = 1 + self.rng.below(20);
            self.after(late, Event::CoreOpened { pipe });
            return Ok(());
        }
        let connector = &mut self.clients[client];
        connector.pipe = Some(pipe);
        connector.shard = shard;
        connector.heard_ms = self.now_ms;
        let request = connector.connect(&mut self.rng);
        self.send(pipe, request)
    }

    /// A command in the hub's words, written as a client does. The server must read it as it was meant.
    fn send(&mut self, index: usize, request: Request) -> Verdict {
        let client = &self.clients[self.pipes[index].client];
        let with_info = matches!(&request.command, Command::Connect(connect) if connect.info.is_some());
        let text =
            wire::write_command(&request, wire::token_of(client.user.as_ref(), with_info), client.sealed.clone());
        let read = wire::read_commands(&text, self.wall_ms, &self.plan.limits)?;
        let is_connect = matches!(request.command, Command::Connect(_));
        if !is_connect && read != [request.clone()] {
            return Err(format!("wire: {request:?} was read as {read:?}"));
        }
        self.send_text(index, &text)
    }

    fn send_text(&mut self, index: usize, text: &str) -> Verdict {
        self.trace.note(self.now_ms, || format!("client {} sends on pipe {index}: {text}", self.pipes[index].client));
        for request in wire::read_commands(text, self.wall_ms, &self.plan.limits)? {
            self.checker.sent(index, &request, &self.stores.borrow());
        }
        let pipe = &mut self.pipes[index];
        if pipe.half_open || !pipe.server_open {
            return Ok(());
        }
        let mut frame = wire::frame_up(text, self.rng.next_u64());
        // Now and then a frame arrives in two pieces, the second of them never where the connection ends in between.
        let cut = if self.rng.below(8) == 0 { self.rng.below(frame.len() as u64) as usize } else { 0 };
        let rest = frame.split_off(cut);
        for piece in [frame, rest].into_iter().filter(|piece| !piece.is_empty()) {
            let late = 1 + self.rng.below(12);
            let pipe = &mut self.pipes[index];
            pipe.up_last_ms = pipe.up_last_ms.max(self.now_ms + late);
            let at_ms = pipe.up_last_ms;
            pipe.up.push_back((at_ms, piece));
            self.at(at_ms, Event::Up { pipe: index });
        }
        Ok(())
    }

    fn read(&mut self, pipe: usize) -> Verdict {
        let Pipe { shard, conn, server_open, .. } = self.pipes[pipe];
        if server_open && !self.pipes[pipe].held {
            self.handle(shard, Input::Alive(conn))?;
        }
        while let Some(request) = self.pipes[pipe].read(self.now_ms, self.wall_ms, &self.plan.limits)? {
            self.handle(shard, Input::Command { conn, request })?;
        }
        Ok(())
    }

    fn flush_later(&mut self, pipe: usize) {
        if !std::mem::replace(&mut self.pipes[pipe].flushing, true) {
            let later = self.rng.below(2);
            self.after(later, Event::Flush { pipe });
        }
    }

    fn flush(&mut self, index: usize) -> Verdict {
        let (window, outbox_max) = (self.plan.window, self.plan.limits.outbox_bytes_max);
        let late = 1 + self.rng.below(10);
        let pipe = &mut self.pipes[index];
        pipe.flushing = false;
        let room = window.saturating_sub(pipe.in_flight);
        if room == 0 || pipe.outbox.is_empty() {
            return Ok(());
        }
        let (shard, conn, open) = (pipe.shard, pipe.conn, pipe.server_open);
        let (bytes, drained) = pipe.write(room, outbox_max);
        pipe.in_flight += bytes.len();
        pipe.down_last_ms = pipe.down_last_ms.max(self.now_ms + late);
        let at_ms = pipe.down_last_ms;
        self.at(at_ms, Event::Down { pipe: index, bytes });
        if open {
            self.handle(shard, Input::Alive(conn))?;
            if drained {
                self.counts.drained += 1;
                self.pipes[index].full = None;
                self.trace.note(self.now_ms, || format!("pipe {index} has drained"));
                self.handle(shard, Input::Drained(conn))?;
            }
        }
        if !self.pipes[index].outbox.is_empty() {
            self.flush_later(index);
        }
        Ok(())
    }

    fn down(&mut self, index: usize, bytes: Bytes) -> Verdict {
        let pipe = &mut self.pipes[index];
        if pipe.half_open {
            return Ok(()); // never acknowledged: the window stays full
        }
        if pipe.stalled {
            pipe.waiting.push(bytes);
            return Ok(());
        }
        pipe.in_flight -= bytes.len();
        self.flush_later(index);
        if !self.pipes[index].client_open {
            return Ok(());
        }
        for heard in self.pipes[index].hear(&bytes)? {
            match heard {
                Heard::Text(text) => self.hear(index, &text)?,
                Heard::Close(code) => {
                    self.trace.note(self.now_ms, || format!("pipe {index} is closed with {code:?}"));
                    self.client_closed(index, false, code)?;
                }
            }
            if !self.pipes[index].client_open {
                break;
            }
        }
        Ok(())
    }

    /// A client reads one text: it must be what the hub said, and may be said.
    fn hear(&mut self, index: usize, text: &str) -> Verdict {
        let client = self.pipes[index].client;
        let said = self.pipes[index].said.pop_front().ok_or("wire: a text that nobody said")?;
        let read = wire::read_message(text)?;
        if !wire::agrees(&read, &said) {
            return Err(format!("wire: {said:?} was read as {read:?}"));
        }
        self.trace.note(self.now_ms, || format!("client {client} receives on pipe {index}: {text}"));
        let (now, rules) = (self.now(), self.rules.clone());
        self.checker.got(now, index, &said, &mut self.stores.borrow_mut(), &rules)?;
        if client >= self.clients.len() {
            if let ToClient::Reply(Reply { body: ReplyBody::Connected(connected), .. }) = &*said {
                self.cores[client - self.plan.clients].known_as(connected.client);
            }
            return self.core(client, CoreInput::Text(text));
        }
        if let Some(sealed) = wire::ticket_in(&read) {
            self.clients[client].sealed = Some(sealed);
        }
        match self.clients[client].got(self.now_ms, &said) {
            Some(answer) => self.send(index, answer),
            None => Ok(()),
        }
    }

    fn server_closes(&mut self, shard: usize, conn: ConnId, reason: Disconnect) {
        let Some(index) = self.pipe_of(shard, conn) else { return };
        self.trace.note(self.now_ms, || format!("shard {shard} closes pipe {index}: {reason}"));
        match reason {
            Disconnect::Moved => self.counts.moved += 1,
            Disconnect::Slow => self.counts.slow += 1,
            Disconnect::HeartbeatTimeout => self.counts.timeouts += 1,
            _ => {}
        }
        // Say why, write what waits, and close: the farewell stands behind everything else.
        let farewell = Rc::new(ToClient::Push(Push::Disconnect { reason, delay_ms: 0 }));
        let frame = wire::encode(&farewell, shard, self.wall_ms, &self.plan.limits);
        let pipe = &mut self.pipes[index];
        pipe.said.push_back(farewell);
        pipe.outbox.push(frame, usize::MAX);
        pipe.outbox.push(wire::encode_close(reason), usize::MAX);
        pipe.server_open = false;
        self.flush_later(index);
        let pipe = &mut self.pipes[index];
        if !pipe.half_open && !pipe.stalled {
            let at_ms = pipe.down_last_ms.max(self.now_ms) + 200;
            self.at(at_ms, Event::ClientCloses { pipe: index });
        }
    }

    fn client_closed(&mut self, index: usize, finally: bool, code: Option<u16>) -> Verdict {
        let pipe = &mut self.pipes[index];
        if !std::mem::take(&mut pipe.client_open) {
            return Ok(());
        }
        let client = pipe.client;
        self.trace.note(self.now_ms, || format!("client {client} is done with pipe {index}"));
        self.checker.closed(index, finally);
        if client >= self.clients.len() {
            if self.cores[client - self.plan.clients].pipe == Some(index) {
                self.cores[client - self.plan.clients].pipe = None;
                return self.core(client, CoreInput::Closed(code));
            }
        } else if self.clients[client].pipe == Some(index) {
            self.clients[client].closed(self.now_ms, &mut self.rng);
        }
        Ok(())
    }

    /// Both ends are told that the connection is gone, each in its own time.
    fn cut(&mut self, pipe: usize, finally: bool) -> Verdict {
        self.server_hears_end(pipe, finally);
        self.client_closed(pipe, finally, None)
    }

    fn server_hears_end(&mut self, pipe: usize, finally: bool) {
        if !self.pipes[pipe].half_open {
            let late_max_ms = if self.rng.below(4) == 0 { 1_500 } else { 30 };
            let late = self.rng.below(late_max_ms);
            self.after(late, Event::ServerCloses { pipe, finally });
        }
    }

    fn mend(&mut self, index: usize) -> Verdict {
        if !std::mem::take(&mut self.pipes[index].stalled) {
            return Ok(());
        }
        for bytes in std::mem::take(&mut self.pipes[index].waiting) {
            self.down(index, bytes)?;
        }
        if !self.pipes[index].server_open {
            self.after(20, Event::ClientCloses { pipe: index });
        }
        Ok(())
    }
}

/// What clients do.
impl World {
    fn tick(&mut self, client: usize) -> Verdict {
        let pace = self.plan.pace_ms;
        let next = 1 + self.rng.below(if self.calm { 400 } else { 2 * pace });
        self.after(next, Event::Tick { client });
        if client >= self.clients.len() {
            return self.tick_core(client);
        }
        let now_ms = self.now_ms;
        let Some(pipe) = self.clients[client].pipe else {
            if now_ms >= self.clients[client].retry_ms {
                let shard = self.rng.below(self.shards.len() as u64) as usize;
                return self.open(client, shard);
            }
            return Ok(());
        };
        let silence_max_ms = 2 * self.plan.limits.heartbeat_ms + 500;
        let mut acts = vec![self.clients[client].upkeep(now_ms, silence_max_ms)];
        if matches!(acts[0], Act::Nothing) && !self.calm && self.clients[client].online {
            // Now and then somebody has much to say.
            let many = if self.rng.below(40) == 0 { self.rng.below(20) } else { 1 };
            let pad = self.plan.payload_max;
            let actor = &mut self.clients[client];
            acts.extend((0..many).map(|_| actor.act(&mut self.rng, &self.plan.channels, &mut self.numbers, pad)));
        }
        for act in acts {
            match act {
                Act::Send(request) => self.send(pipe, request)?,
                Act::Close { finally } => {
                    return self.cut(pipe, finally);
                }
                Act::Nothing => {}
            }
        }
        Ok(())
    }

    /// Epochs that were lost without a word are found with the next operation: there is one on every channel.
    fn last_publish(&mut self) -> Verdict {
        if self.stores.borrow().losses == 0 && self.rng.below(2) == 0 {
            return Ok(());
        }
        let Some(client) = self.clients.iter().position(|client| client.online) else { return Ok(()) };
        let Some(pipe) = self.clients[client].pipe else { return Ok(()) };
        for channel in self.plan.channels.clone() {
            let request = self.clients[client].last_publish(&channel, &mut self.rng, &mut self.numbers);
            self.send(pipe, request)?;
        }
        Ok(())
    }

    fn last_question(&mut self) -> Verdict {
        self.checker.expect_presences(&self.plan.channels)?;
        for client in 0..self.clients.len() {
            let Some(pipe) = self.clients[client].pipe.filter(|_| self.clients[client].online) else { continue };
            for channel in self.checker.subscribed(pipe) {
                let request = self.clients[client].ask_presence(&channel);
                self.send(pipe, request)?;
            }
        }
        Ok(())
    }
}

/// What the real client core does.
impl World {
    fn tick_core(&mut self, client: usize) -> Verdict {
        let index = client - self.plan.clients;
        if !self.cores[index].is_started {
            self.cores[index].is_started = true;
            return self.core(client, CoreInput::Start);
        }
        if !self.calm {
            let pad = self.plan.payload_max;
            self.cores[index].act(self.now_ms, &mut self.rng, &self.plan.channels, &mut self.numbers, pad);
        }
        self.core_outputs(client)
    }

    fn core(&mut self, client: usize, input: CoreInput<'_>) -> Verdict {
        self.cores[client - self.plan.clients].core.handle(self.now_ms, input);
        self.core_outputs(client)
    }

    fn core_outputs(&mut self, client: usize) -> Verdict {
        let index = client - self.plan.clients;
        while let Some(output) = self.cores[index].core.poll_output() {
            let pipe = self.cores[index].pipe;
            match (output, pipe) {
                (CoreOutput::Connect, _) => {
                    let shard = self.rng.below(self.shards.len() as u64) as usize;
                    self.open(client, shard)?;
                }
                (CoreOutput::Send(text), Some(pipe)) => self.send_text(pipe, &text)?,
                (CoreOutput::Close(code), Some(pipe)) => {
                    self.trace.note(self.now_ms, || format!("client {client} leaves pipe {pipe} with {code}"));
                    self.cores[index].pipe = None;
                    self.server_hears_end(pipe, false);
                    self.client_closed(pipe, false, None)?;
                }
                (CoreOutput::Send(_) | CoreOutput::Close(_), None) => {}
                (output, _) => {
                    self.trace.note(self.now_ms, || format!("client {client} tells its application {output:?}"));
                    self.cores[index].told(output, &self.stores.borrow())?;
                }
            }
        }
        if let Some(at_ms) = self.cores[index].core.wake_ms() {
            let at_ms = at_ms.max(self.now_ms + 1);
            if self.cores[index].wake_ms.is_none_or(|set| at_ms < set || set <= self.now_ms) {
                self.cores[index].wake_ms = Some(at_ms);
                self.at(at_ms, Event::CoreWake { client });
            }
        }
        Ok(())
    }
}

/// What goes wrong.
impl World {
    fn fault(&mut self) -> Verdict {
        if self.calm {
            return Ok(());
        }
        let next = 50 + self.rng.below(900);
        self.after(next, Event::Fault);
        let faults = self.plan.faults.clone();
        let open: Vec<usize> = (0..self.pipes.len()).filter(|p| self.pipes[*p].client_open).collect();
        let pipe = (!open.is_empty()).then(|| open[self.rng.below(open.len() as u64) as usize]);
        let shard = self.rng.below(self.shards.len() as u64) as usize;
        match (self.rng.below(8), pipe) {
            (0, Some(pipe)) if faults.cuts => self.cut(pipe, false)?,
            (1, Some(pipe)) if faults.half_open => {
                self.trace.note(self.now_ms, || format!("pipe {pipe} is half open from here on"));
                self.pipes[pipe].half_open = true;
            }
            (2 | 3, Some(pipe)) if faults.stalls && !self.pipes[pipe].stalled => {
                self.trace.note(self.now_ms, || format!("pipe {pipe} is not read for a while"));
                self.pipes[pipe].stalled = true;
                let long = 100 + self.rng.below(5_000);
                self.after(long, Event::Mend { pipe });
            }
            (4, _) if faults.shard_stalls => {
                self.counts.shard_stalls += 1;
                let long = self.rng.below(400);
                self.trace.note(self.now_ms, || format!("shard {shard} stands still for {long} ms"));
                self.shards[shard].stalled_until_ms = self.now_ms + long;
            }
            (5, _) if faults.clock_steps => {
                self.counts.clock_steps += 1;
                let step = self.rng.below(120_000);
                self.wall_ms = if self.rng.below(2) == 0 { self.wall_ms + step } else { self.wall_ms - step };
            }
            (6, _) if faults.store.loses => {
                self.trace.note(self.now_ms, || format!("the store of shard {shard} loses everything"));
                self.stores.borrow_mut().lose(shard, &self.plan.limits);
            }
            (7, _) if faults.reloads => {
                let channel = self.plan.channels[self.rng.below(self.plan.channels.len() as u64) as usize].clone();
                self.reload(Some(channel))?;
                let long = 100 + self.rng.below(1_500);
                self.after(long, Event::Reopen);
            }
            _ => {}
        }
        Ok(())
    }

    fn reload(&mut self, shut: Option<ChannelName>) -> Verdict {
        self.trace.note(self.now_ms, || format!("the rules shut {shut:?}"));
        if let Some(channel) = &shut {
            self.checker.shut(channel);
        }
        self.rules = Arc::new(self.plan.rules(shut.as_ref()));
        for shard in 0..self.shards.len() {
            self.handle(shard, Input::Reload(self.rules.clone()))?;
        }
        Ok(())
    }

    /// The last fault is over. A half-open connection stays what it is until somebody notices.
    fn heal(&mut self) -> Verdict {
        self.trace.note(self.now_ms, || "everything heals".to_owned());
        self.calm = true;
        self.stores.borrow_mut().faults = Default::default();
        for pipe in 0..self.pipes.len() {
            self.mend(pipe)?;
        }
        for core in &mut self.shards {
            core.stalled_until_ms = 0;
        }
        self.reload(None)
    }
}
