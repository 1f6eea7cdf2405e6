//! One shard's shell: the table of its connections, and the loop that gives inputs to the hub and performs its effects.
//!
//! The shell owns sockets and time and decides nothing. `act` gives one input to the hub and performs the effects: a
//! push is encoded once for each wire and appended, shared, to the outbox of every receiver; the outboxes that have
//! something are *dirty* and are written once a turn (`flush`). Everything here runs on one thread: no lock, and no
//! task is woken to deliver. `accept` takes connections in, `read` runs one, `peers` carries messages between shards.

mod accept;
mod app;
mod application;
mod connection;
mod corked;
mod detached;
mod drain;
mod effects;
mod ends;
mod engine;
mod flush;
mod http;
mod http_connection;
mod inspect;
mod peers;
mod polls;
mod read;
pub(crate) mod streams;

use crate::clock::Clock;
use crate::config::Config;
use crate::control::Judging;
use crate::counters::{Figures, ShardCounters, StoreTimes};
use crate::embed::Dispatcher;
use crate::framing::deflate::Deflaters;
use crate::framing::{Form, Wire};
use crate::journal::{Journal, Tail};
use crate::logs;
use crate::protocol::socketio::AskKey;
use crate::protocol::{Actions, ImmediateAnswer, Message, Place};
use crate::request::Peer;
use fanfare_hub::{ConnId, Effects, Input, Noted, Now, PollTable, Request, Seat, Shard, ShardId, WireId};
use fanfare_wire::websocket::deflate::Inflater;
use slab::Slab;
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use connection::{Connection, Sink, Slot, Unread, peer_of};
use corked::Corks;
use effects::form;
use flush::Dirty;
use http_connection::HttpConnection;

pub(crate) use drain::{DrainBarrier, DrainReport};
pub(crate) use peers::{Batch, Inbox, Links, run};

/// A shard's shell, shared by the tasks of its thread. No borrow is held across an `.await`.
pub(crate) type Shared = Rc<RefCell<Shell>>;

/// Bytes read at once; one buffer serves every connection of the shard.
const READ_BYTES: usize = 64 << 10;
/// A connection is not read while its outbox costs more than so many times `outbox_bytes_max`. Pushes stop as soon as
/// one mark is reached and a page follows. Only answers to the peer's own commands go beyond, so this slows down a
/// peer that sends commands and does not read the answers.
const CHOKED_MARKS: usize = 4;

/// Inputs, and effects with their receivers, that one task causes before other tasks run: a few milliseconds at most.
/// The hub bounds the effects of one input; this bounds the number of inputs in one turn.
/// (4096 cut a burst of eight publications to 1,000 members in two, each written by itself: bench `native-fanout`,
/// window 8, twice the CPU.)
const TURN_WORK: usize = 32_768;

pub(crate) struct Shell {
    hub: Shard,
    effects: Effects,
    /// Inputs that arose while effects were performed.
    inputs: VecDeque<Input>,
    /// Clients of Socket.IO that do not go on as the sockets that they were.
    anew: VecDeque<(ConnId, Seat)>,
    /// By [`WireId`].
    wires: Vec<Wire>,
    place: Place,
    conns: Vec<Slot>,
    free: Vec<u32>,
    open: usize,
    /// These frames go to the outboxes before any other.
    corks: Corks,
    /// Readers that have not ended: a connection that was closed is not over before its peer has seen it.
    readers: usize,
    /// Other connections: of HTTP, or of no known protocol yet.
    http_connections: Slab<Rc<http_connection::HttpState>>,
    /// Connections with something to write.
    dirty: Dirty,
    /// The hub was interrupted and wants to go on.
    again: bool,
    /// Counts inputs, and effects with their receivers. After [`TURN_WORK`] of them a task lets others run.
    work: usize,
    /// Reloads that the hub has not finished.
    judging: VecDeque<Arc<Judging>>,
    wake_ms: Option<u64>,
    /// Commands of the application that wait for their answers.
    asked: Slab<app::PendingAnswers>,
    /// Questions to members of channels, whose askers wait for the answers.
    asking: Slab<app::PendingQuestion>,
    /// Their places, of those that have a name.
    asking_by_key: HashMap<AskKey, usize>,
    /// Requests that brought a command for a session and wait for its answer.
    forwards: Slab<detached::Answer>,
    /// The connections whose messages are polled.
    polls: PollTable,
    /// Takes the hub's questions; `None` if there is no handler.
    dispatcher: Option<Dispatcher>,
    /// The hub keeps the request of each connection for the handlers.
    handlers_need_request: bool,
    links: Links,
    buffer: Vec<u8>,
    /// Compresses messages, for all connections.
    deflaters: Deflaters,
    /// Decompresses them; made for the first connection that may send compressed ones.
    inflater: Option<Box<Inflater>>,
    scratch: Vec<u8>,
    actions: Actions,
    clock: Clock,
    config: Arc<Config>,
    /// No more commands are taken in: the server is about to end.
    closing: bool,
    /// All clients were asked to come back elsewhere.
    draining: bool,
    /// How many of them were notified.
    notified: usize,
    /// How many of them did not leave in time.
    cut_off: usize,
    /// Marks that other shards have sent ([`Batch`]).
    marks: usize,
    flusher: Option<Waker>,
    timer: Option<Waker>,
    counters: ShardCounters,
    /// What happened lately.
    journal: Journal,
    /// How often its figures were asked for.
    figures_sent: u64,
    /// Counted by the store, which the hub has.
    store_times: Rc<RefCell<StoreTimes>>,
}

impl Shell {
    pub(crate) fn new(
        hub: Shard,
        config: Arc<Config>,
        wires: Vec<Wire>,
        place: Place,
        links: Links,
        dispatcher: Option<Dispatcher>,
        clock: Clock,
    ) -> Self {
        Shell {
            counters: ShardCounters::new(wires.len()),
            journal: Journal::default(),
            store_times: Rc::default(),
            figures_sent: 0,
            hub,
            effects: Effects::new(),
            inputs: VecDeque::new(),
            anew: VecDeque::new(),
            corks: Corks::new(wires.len()),
            wires,
            place,
            conns: Vec::new(),
            free: Vec::new(),
            open: 0,
            readers: 0,
            http_connections: Slab::new(),
            dirty: Dirty::default(),
            again: false,
            work: 0,
            judging: VecDeque::new(),
            wake_ms: None,
            asked: Slab::new(),
            handlers_need_request: dispatcher.as_ref().is_some_and(|dispatcher| dispatcher.handlers.need_request()),
            asking: Slab::new(),
            asking_by_key: HashMap::new(),
            forwards: Slab::new(),
            polls: PollTable::default(),
            dispatcher,
            links,
            buffer: vec![0; READ_BYTES],
            deflaters: Deflaters::default(),
            inflater: None,
            scratch: Vec::new(),
            actions: Actions::default(),
            clock,
            config,
            closing: false,
            draining: false,
            notified: 0,
            cut_off: 0,
            marks: 0,
            flusher: None,
            timer: None,
        }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// The time; it is also the arrival time of the next input.
    pub(crate) fn now(&self) -> Now {
        let (now, at) = self.clock.now_at();
        self.counters.stamp(at);
        now
    }

    /// Sets the place where the hub's store records its times.
    pub(crate) fn watch_store(&mut self, times: Rc<RefCell<StoreTimes>>) {
        self.store_times = times;
    }

    /// Lets those who watch see what happens here.
    pub(crate) fn show_to(&mut self, tail: Tail) {
        self.journal = Journal::new(tail);
    }

    fn figures(&mut self) -> Figures {
        self.figures_sent += 1;
        Figures {
            number: self.figures_sent,
            hub: self.hub.stats(),
            open: self.open,
            accepted: self.counters.accepted,
            http_connections: self.http_open(),
            wires: self.counters.wires.clone(),
            ended: self.counters.ended.clone(),
            ignored: self.counters.ignored.clone(),
            outbox_bytes: self.counters.outbox_bytes,
            delivered: self.counters.delivered,
            store: *self.store_times.borrow(),
        }
    }

    /// The protocol and the framing of a wire.
    fn wire(&self, wire: WireId) -> &Wire {
        &self.wires[usize::from(wire.0)]
    }

    /// A whole message has come from a connection.
    fn message(&mut self, now: Now, id: ConnId, message: Message<'_>) {
        let mut actions = std::mem::take(&mut self.actions);
        actions.begin(now, Peer::Unknown);
        if let Some(conn) = self.conn(id) {
            actions.peer = conn.peer;
            conn.conversation.message(message, &mut actions);
            let wire = conn.wire;
            self.counters.wire(wire).messages_in += 1;
            if let Some(cause) = actions.ignored {
                self.counters.ignored(wire, cause);
            }
            self.tell_handlers(id, &mut actions);
        }
        self.carry_out(now, id, &mut actions);
        self.actions = actions;
    }

    /// Performs the actions of a conversation.
    fn carry_out(&mut self, now: Now, id: ConnId, actions: &mut Actions) {
        let mut start = 0;
        for &ImmediateAnswer { end, is_text } in &actions.answers {
            let form = if is_text { Form::Text } else { Form::Binary };
            self.answer(id, form, &actions.answer_bytes[start..end]);
            start = end;
        }
        self.show_token(id, &mut actions.requests);
        self.commands(now, id, actions.seat, &mut actions.requests);
        if let Some(reason) = actions.close {
            self.act(now, Input::Close { conn: id, reason });
        }
        if let Some((breach, why)) = actions.breach.take() {
            self.breach(now, id, breach, why);
        }
        self.settle(now);
    }

    /// Gives the commands of one message to the hub, as many as fit into one turn. It stops when the connection is
    /// paused or choked. Otherwise an array of short commands could ask for a page each although many pages wait.
    fn commands(&mut self, now: Now, id: ConnId, seat: Seat, requests: &mut Vec<Request>) {
        let mut requests = requests.drain(..);
        if self.are_left(now, id, seat, &mut requests) {
            let left: Vec<Request> = requests.collect();
            if let Some(conn) = self.conn(id) {
                conn.unread = Some(Box::new(Unread { seat, requests: left.into_iter() }));
            }
        }
    }

    /// Gives commands to the hub until one of them pauses the connection. True if commands are left.
    fn are_left(
        &mut self,
        now: Now,
        id: ConnId,
        seat: Seat,
        requests: &mut impl ExactSizeIterator<Item = Request>,
    ) -> bool {
        let begin = self.work;
        while let Some(request) = requests.next() {
            self.act(now, Input::Command { conn: id, seat, request });
            let is_spent = self.work - begin >= TURN_WORK;
            if requests.len() > 0
                && let Some(conn) = self.conn(id)
                && (conn.paused || conn.choked || is_spent)
            {
                return true;
            }
        }
        false
    }

    /// Continues with commands that were left unread. True if there were any. The remaining ones are not moved in
    /// memory.
    fn unread(&mut self, id: ConnId) -> bool {
        let Some(mut unread) = self.conn(id).and_then(|conn| conn.unread.take()) else { return false };
        let now = self.now();
        if self.are_left(now, id, unread.seat, &mut unread.requests)
            && let Some(conn) = self.conn(id)
        {
            conn.unread = Some(unread);
        }
        self.settle(now);
        true
    }

    /// Gives an input to the hub and performs its effects, and those of the inputs that follow from it.
    fn act(&mut self, now: Now, input: Input) {
        self.step(now, input);
        self.settle(now);
    }

    /// Puts other rules in force. The hub checks subscriptions in slices. For each reload, in order, it reports the
    /// number of subscriptions that it ended.
    fn reload(&mut self, now: Now, judging: Arc<Judging>) {
        let rules = judging.rules.clone();
        self.judging.push_back(judging);
        self.act(now, Input::Reload(rules));
    }

    /// Handles the inputs that arose while effects were performed, and what replies have led to.
    fn settle(&mut self, now: Now) {
        loop {
            while let Some(input) = self.inputs.pop_front() {
                self.step(now, input);
            }
            let Some((id, seat)) = self.anew.pop_front() else { return };
            self.begin_anew(now, id, seat);
        }
    }

    fn step(&mut self, now: Now, input: Input) {
        self.effects.clear();
        self.hub.handle(now, input, &mut self.effects);
        if !self.effects.begun_ms().is_empty() {
            self.counters.begun(self.effects.begun_ms());
        }
        self.work += self.effects.work();
        for note in self.effects.notes() {
            let peer = note.conn.and_then(|id| peer_of(&self.conns, id));
            logs::say(note, peer.as_ref());
            self.journal.noted(now, note, peer.as_ref());
            if let Noted::Reloaded { ended, .. } = note.what
                && let Some(judging) = self.judging.pop_front()
            {
                judging.done(ended);
            }
        }
        self.tell_ends(now);
        let mut list = self.effects.take_list();
        for effect in list.drain(..) {
            self.perform(now, effect);
        }
        self.effects.put_back(list);
        if self.effects.again() && !self.again {
            self.again = true;
            wake(&mut self.flusher);
        }
        let wake_ms = self.effects.wake_ms();
        if wake_ms.is_some() && (self.wake_ms.is_none() || wake_ms < self.wake_ms) {
            wake(&mut self.timer);
        }
        self.wake_ms = wake_ms;
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

pub(crate) fn shard_id(index: usize) -> ShardId {
    ShardId(u16::try_from(index).expect("the configuration allows at most 1024 shards"))
}

/// Ends the process when a task of the shard panics. tokio would catch the panic and continue, for example without the
/// shared read buffer that the task had taken: then every connection of the shard would seem closed. A node with a
/// broken shard is worse than none.
pub(crate) struct Fatal;

impl Drop for Fatal {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("a shard panicked; its state cannot be trusted, so the process ends");
            crate::logs::flush_last_words();
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framing::Framing;
    use crate::protocol::{Echo, Node, Protocol};
    use fanfare_hub::{MemoryStore, ShardConfig};

    /// The shell of a server with one shard. It has one protocol and no connections yet.
    pub(super) fn shell() -> Shared {
        shell_of(Config::default(), Arc::new(Echo::default()), 1, Links::new(shard_id(0), Vec::new()))
    }

    /// The shell of one of several shards.
    pub(super) fn shell_of(config: Config, protocol: Arc<dyn Protocol>, shards: usize, links: Links) -> Shared {
        let (clock, me) = (Clock::system(), links.me());
        let limits = Arc::new(config.limits.clone());
        let store = Box::new(MemoryStore::new(&limits, 1));
        let rules = config.rules.clone();
        let shard =
            ShardConfig { me, shards, rules, hooks: Arc::default(), limits: limits.clone(), seed: 2, placement_key: 3 };
        let place = Place::new(Arc::new(Node { id: 4, secret: [0; 32], limits: (*limits).clone() }), me);
        let hub = Shard::new(shard, store, clock.now());
        // Two wires alike.
        let wires = vec![Wire { protocol, framing: Framing::WebSocket }; 2];
        let shell = Shell::new(hub, Arc::new(config), wires, place, links, None, clock);
        Rc::new(RefCell::new(shell))
    }
}
