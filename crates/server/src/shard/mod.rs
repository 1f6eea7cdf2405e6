//! One shard's shell: the table of its connections, and the loop that gives inputs to the hub and performs its effects.
//!
//! The shell owns sockets and time and decides nothing. `act` gives one input to the hub and performs the effects: a
//! push is encoded once for each wire and appended, shared, to the outbox of every receiver; the outboxes that have
//! something are *dirty* and are written once a turn (`flush`). Everything here runs on one thread: no lock, and no
//! task is woken to deliver. `accept` takes connections in, `read` runs one, `peers` carries messages between shards.

mod accept;
mod app;
mod application;
mod corked;
mod detached;
mod drain;
mod engine;
mod flush;
mod http;
mod http_connection;
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
use crate::framing::{Form, Framing, Wire};
use crate::logs;
use crate::protocol::socketio::Asker;
use crate::protocol::{self, Actions, Conversation, Encoded, ImmediateAnswer, Message, Place};
use bytes::Bytes;
use fanfare_hub::{
    Act, Appended, Attachment, ConnId, Disconnect, Effect, Effects, Error, ErrorCode, HeartbeatKind, HookAnswer, Input,
    Noted, Now, Opened, Outbox, PollTable, Push, ReplyBody, Request, Seat, Shard, ShardId, WireId,
};
use fanfare_wire::websocket::deflate::Inflater;
use slab::Slab;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use crate::request::{Peer, RequestInfo};
use crate::transport::socket::WriteHalf;
use corked::Corks;
use detached::Detached;
use flush::Dirty;

pub(crate) use drain::{DrainBarrier, DrainReport};
use http_connection::HttpConnection;
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
    asking: Slab<Asker>,
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
    /// How often its figures were asked for.
    figures_sent: u64,
    /// Counted by the store, which the hub has.
    store_times: Rc<RefCell<StoreTimes>>,
}

struct Slot {
    generation: u32,
    conn: Option<Connection>,
}

/// The shell's part of one connection. Its reader (`read`) holds the rest.
struct Connection {
    wire: WireId,
    /// For the log.
    peer: Peer,
    sink: Sink,
    outbox: Outbox,
    conversation: Box<dyn Conversation>,
    dirty: bool,
    /// The socket took no more; a task waits until it does.
    blocked: bool,
    /// Not read: the hub has paused it.
    paused: bool,
    /// Not read: its outbox is above [`CHOKED_MARKS`], because the peer does not read its answers.
    choked: bool,
    /// Not read: its events fill the queues of the application's handlers.
    busy: bool,
    /// The commands of its last message that follow the one that paused or choked it. They are handled before any
    /// other byte.
    unread: Option<Box<Unread>>,
    /// The close frame is in the outbox; further input is ignored.
    closing: bool,
    /// The reader, if it waits for something other than bytes.
    reader: Option<Waker>,
}

/// Commands of one message that wait.
struct Unread {
    seat: Seat,
    requests: std::vec::IntoIter<Request>,
}

impl Connection {
    /// Bytes that the peer takes are a sign of life: it is not pinged while so much waits for it, or it is not read.
    fn reading_is_life(&self) -> bool {
        self.choked || self.outbox.is_full()
    }
}

/// Where the bytes of a connection go.
enum Sink {
    Socket(WriteHalf),
    /// No socket: a request fetches them from the outbox.
    Detached(Box<Detached>),
}

impl Sink {
    /// True while bytes that left the outbox still wait for the socket.
    fn is_pending(&self) -> bool {
        matches!(self, Sink::Socket(socket) if socket.is_pending())
    }
}

impl From<WriteHalf> for Sink {
    fn from(socket: WriteHalf) -> Self {
        Sink::Socket(socket)
    }
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
            store_times: Rc::default(),
            figures_sent: 0,
            hub,
            effects: Effects::new(),
            inputs: VecDeque::new(),
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

    /// Takes a connection in that speaks `wire`.
    fn open(
        &mut self,
        now: Now,
        sink: impl Into<Sink>,
        peer: Peer,
        wire: WireId,
        request: Option<Arc<RequestInfo>>,
    ) -> ConnId {
        let protocol = self.wire(wire).protocol.clone();
        let asked = request.clone();
        let heartbeat = protocol.heartbeat();
        self.open_as(now, sink, peer, (wire, heartbeat), request, |place, actions| {
            protocol.open(place, asked.as_ref(), actions)
        })
    }

    /// The same for a connection whose conversation begins in another way.
    fn open_as(
        &mut self,
        now: Now,
        sink: impl Into<Sink>,
        peer: Peer,
        (wire, heartbeat): (WireId, HeartbeatKind),
        request: Option<Arc<RequestInfo>>,
        begin: impl FnOnce(&Place, &mut Actions) -> Box<dyn Conversation>,
    ) -> ConnId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.conns.push(Slot { generation: 0, conn: None });
            (self.conns.len() - 1) as u32
        });
        let slot = &mut self.conns[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        let id = ConnId { index, generation: slot.generation };
        let protocol = self.wire(wire).protocol.clone();
        let mut actions = std::mem::take(&mut self.actions);
        actions.begin(now, peer);
        self.place.open(id);
        let conversation = begin(&self.place, &mut actions);
        let attachment = request.filter(|_| self.handlers_need_request).map(Attachment::new);
        let opened = Opened {
            wire,
            grace_ms: protocol.grace_ms(),
            heartbeat_ms: protocol.heartbeat_ms(),
            heartbeat,
            connect_timeout_ms: protocol.connect_timeout_ms(),
            attachment,
        };
        self.conns[index as usize].conn = Some(Connection {
            wire,
            peer,
            sink: sink.into(),
            outbox: Outbox::default(),
            conversation,
            dirty: false,
            blocked: false,
            paused: false,
            choked: false,
            busy: false,
            unread: None,
            closing: false,
            reader: None,
        });
        self.open += 1;
        let counts = self.counters.wire(wire);
        counts.open += 1;
        counts.opened += 1;
        self.act(now, Input::Opened { conn: id, opened });
        self.carry_out(now, id, &mut actions);
        self.actions = actions;
        id
    }

    fn conn(&mut self, id: ConnId) -> Option<&mut Connection> {
        self.conns.get_mut(id.index as usize).filter(|slot| slot.generation == id.generation)?.conn.as_mut()
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
        self.commands(now, id, actions.seat, &mut actions.requests);
        if let Some(reason) = actions.close {
            self.act(now, Input::Close { conn: id, reason });
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

    /// Handles the inputs that arose while effects were performed.
    fn settle(&mut self, now: Now) {
        while let Some(input) = self.inputs.pop_front() {
            self.step(now, input);
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
            logs::say(note, note.conn.and_then(|id| peer_of(&self.conns, id)).as_ref());
            if let Noted::Reloaded { ended, .. } = note.what
                && let Some(judging) = self.judging.pop_front()
            {
                judging.done(ended);
            }
        }
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

    fn perform(&mut self, now: Now, effect: Effect) {
        match effect {
            Effect::Push { push, wire, to } => {
                let mut scratch = std::mem::take(&mut self.scratch);
                scratch.clear();
                let encoded = self.wire(wire).protocol.encode_push(&push, now, &mut scratch);
                let effects = std::mem::take(&mut self.effects);
                let mut recipients = effects.recipients(to);
                let takers;
                if matches!(push, Push::Presence(_) | Push::PresenceSnapshot { .. }) {
                    takers = self.takers(recipients, &push);
                    recipients = &takers;
                } else if let Push::Volatile { .. } = push {
                    takers = recipients.iter().copied().filter(|&id| self.is_writable(id)).collect();
                    recipients = &takers;
                }
                if matches!(push, Push::Disconnect { reason: Disconnect::Shutdown, .. }) {
                    self.notified += recipients.len();
                }
                match form(encoded) {
                    _ if recipients.is_empty() => {}
                    Ok(Some(form)) if encoded == Encoded::Begun => {
                        self.counters.pushed(wire, &push, recipients.len());
                        self.push_begun(recipients, self.wire(wire).framing, (form, &scratch), &push);
                    }
                    Ok(Some(_)) if encoded == Encoded::Several => {
                        self.counters.pushed(wire, &push, recipients.len());
                        let frames = together(self.wire(wire).framing, &scratch);
                        recipients.iter().for_each(|&id| self.append(id, frames.clone()));
                    }
                    Ok(Some(form)) => {
                        self.counters.pushed(wire, &push, recipients.len());
                        self.push(recipients, wire, form, &scratch);
                        if let Push::Message { publication, .. } = &push
                            && let Some(Act::Disconnect { .. }) = publication.act.as_deref()
                        {
                            recipients.iter().for_each(|&id| self.pushed(id, &push));
                        }
                        if matches!(&push, Push::Signal(signal) if signal.signal.to.is_some()) {
                            recipients.iter().for_each(|&id| self.poll_directed(id));
                        }
                        if let Encoded::Last(reason) | Encoded::LastBinary(reason) = encoded {
                            recipients.iter().for_each(|&id| self.part(id, reason));
                        }
                    }
                    Ok(None) => {}
                    Err(reason) => recipients.iter().for_each(|&id| self.part(id, reason)),
                }
                self.effects = effects;
                self.scratch = scratch;
            }
            Effect::Reply { conn: id, seat, reply } => {
                let mut scratch = std::mem::take(&mut self.scratch);
                scratch.clear();
                self.judge_opening(id, &reply);
                if let Some(conn) = self.conn(id) {
                    let encoded = conn.conversation.encode_reply_in(seat, &reply, now, &mut scratch);
                    if let (Encoded::Ignored, ReplyBody::Error(error)) = (encoded, &reply.body) {
                        logs::ignored(error, &conn.peer);
                    }
                    match form(encoded) {
                        Ok(Some(_)) if encoded == Encoded::Several => self.answer_several(id, &scratch),
                        Ok(Some(form)) => self.answer(id, form, &scratch),
                        Ok(None) => {}
                        Err(reason) => self.part(id, reason),
                    }
                }
                self.scratch = scratch;
            }
            Effect::Pause(id) => {
                if let Some(conn) = self.conn(id) {
                    conn.paused = true;
                }
            }
            Effect::Resume(id) => {
                if let Some(conn) = self.conn(id) {
                    conn.paused = false;
                    wake(&mut conn.reader);
                }
                self.wake_engine(id);
            }
            Effect::Close { conn: id, reason } => {
                self.last_word(now, id, reason);
                self.end_opening(id, reason);
                self.goodbye(id, reason.code(), reason.row().word, reason.row().word);
                if reason == Disconnect::HeartbeatTimeout {
                    self.end_silent(id);
                }
            }
            Effect::Answer { token, answer } => self.answered(token, answer),
            Effect::Answers { token, answers } => self.members_answered(token, *answers),
            Effect::Forwarded(forwarded) => self.forwarded(*forwarded),
            Effect::Ask { token, question, attachment } => match &self.dispatcher {
                Some(dispatcher) => dispatcher.ask(token, *question, attachment.as_ref()),
                None => {
                    let error = Error::new(ErrorCode::Denied, "the rule says `hook`, and this server has no handlers");
                    let answer = Box::new(HookAnswer::Refused(error));
                    self.inputs.push_back(Input::HookAnswer { token, answer });
                }
            },
            Effect::Notice(notice) => {
                if let Some(dispatcher) = &self.dispatcher {
                    dispatcher.tell(*notice);
                }
            }
            Effect::Tell { shard, message } => {
                self.links.tell(shard, message, self.counters.stamped());
                wake(&mut self.flusher);
            }
        }
    }

    /// Sends a message of which every receiver gets the beginning, and an end of its own.
    fn push_begun(&mut self, recipients: &[ConnId], framing: Framing, (form, begun): (Form, &[u8]), push: &Push) {
        let begun = framing.frame(form, begun);
        let mut rest = Vec::new();
        for &id in recipients {
            let Some(conn) = self.conn(id) else { continue };
            rest.clear();
            conn.conversation.encode_rest(push, &mut rest);
            self.append(id, begun.clone());
            self.append(id, framing.frame(form, &rest));
        }
    }

    /// Appends a message that is for this connection alone.
    fn answer(&mut self, id: ConnId, form: Form, payload: &[u8]) {
        let Some(wire) = self.conn(id).map(|conn| conn.wire) else { return };
        self.counters.wire(wire).messages_out += 1;
        let framing = self.wire(wire).framing;
        let frame = match framing.deflates(form, payload.len()) {
            None => framing.frame(form, payload),
            Some(deflate) => {
                let deflated = self.deflaters.deflate(deflate, payload);
                self.counters.deflated(wire, payload.len(), deflated.len());
                framing.frame(form, deflated)
            }
        };
        self.append(id, frame);
    }

    /// The same for several messages that stay together.
    fn answer_several(&mut self, id: ConnId, several: &[u8]) {
        let Some(wire) = self.conn(id).map(|conn| conn.wire) else { return };
        self.counters.wire(wire).messages_out += 1;
        let frames = together(self.wire(wire).framing, several);
        self.append(id, frames);
    }

    fn pushed(&mut self, id: ConnId, push: &Push) {
        if let Some(conn) = self.conn(id) {
            conn.conversation.pushed(push);
        }
    }

    /// Whether the peer takes more at once: its socket does, or it polls at this moment.
    fn is_writable(&mut self, id: ConnId) -> bool {
        self.conn(id).is_some_and(|conn| match &conn.sink {
            Sink::Socket(_) => !conn.blocked,
            Sink::Detached(detached) => detached.fetcher.is_some(),
        })
    }

    /// Those of `all` whose conversation takes a push of presence.
    fn takers(&mut self, all: &[ConnId], push: &Push) -> Vec<ConnId> {
        let mut takes = |id| self.conn(id).is_some_and(|conn| conn.conversation.takes_presence(push));
        all.iter().copied().filter(|&id| takes(id)).collect()
    }

    /// As [`Self::append`], for a connection without corked frames.
    fn append_uncorked(&mut self, id: ConnId, frame: Bytes) {
        let mark = self.config.limits.outbox_bytes_max;
        let Some(slot) = self.conns.get_mut(id.index as usize).filter(|slot| slot.generation == id.generation) else {
            return;
        };
        let Some(conn) = slot.conn.as_mut().filter(|conn| !conn.closing) else { return };
        self.counters.outbox_bytes += frame.len();
        if conn.outbox.push(frame, mark) == Appended::Full {
            self.inputs.push_back(Input::Full(id));
        }
        conn.choked |= conn.outbox.memory_bytes() > mark.saturating_mul(CHOKED_MARKS);
        self.is_dirty(id);
    }

    /// Answers a ping. It goes past the cork: a pong may stand between any two frames.
    fn pong(&mut self, id: ConnId, payload: &[u8]) {
        let Some(wire) = self.conn(id).filter(|conn| !conn.closing).map(|conn| conn.wire) else { return };
        let frame = self.wire(wire).framing.frame(Form::Pong, payload);
        let Some(conn) = self.conn(id) else { return };
        let before = conn.outbox.bytes();
        conn.outbox.pong(frame);
        let after = conn.outbox.bytes();
        self.counters.outbox_bytes = self.counters.outbox_bytes + after - before;
        self.is_dirty(id);
    }

    /// The connection has something to write.
    fn is_dirty(&mut self, id: ConnId) {
        let Some(conn) = self.conn(id) else { return };
        if let Sink::Detached(detached) = &mut conn.sink {
            return wake(&mut detached.fetcher);
        }
        if !conn.dirty && !conn.blocked {
            conn.dirty = true;
            self.dirty.push(id.index);
            wake(&mut self.flusher);
        }
    }

    /// Sends the reason for the end of a connection as a message of its protocol, if the protocol has one. The close
    /// code gives the reason too.
    fn last_word(&mut self, now: Now, id: ConnId, reason: Disconnect) {
        let Some(wire) = self.conn(id).map(|conn| conn.wire) else { return };
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        let push = Push::Disconnect { reason, delay_ms: 0 };
        let own = self.conn(id).and_then(|conn| conn.conversation.last_words(reason, &mut scratch));
        let encoded = own.unwrap_or_else(|| self.wire(wire).protocol.encode_push(&push, now, &mut scratch));
        match form(encoded) {
            Ok(Some(_)) if encoded == Encoded::Several => self.answer_several(id, &scratch),
            Ok(Some(form)) => self.answer(id, form, &scratch),
            _ => {}
        }
        self.scratch = scratch;
    }

    /// Ends a connection whose protocol has no message for a push that the client must not miss. It ends at once: the
    /// peer must not see later effects of the same input, such as the page after a gap. Otherwise it would miss
    /// something without notice.
    fn part(&mut self, id: ConnId, reason: Disconnect) {
        self.end_opening(id, reason);
        self.goodbye(id, reason.code(), reason.row().word, reason.row().word);
        self.inputs.push_back(Input::Closed { conn: id, finally: !reason.reconnect() });
    }

    /// Writes the end of the connection behind everything else. `why` is its reason in metrics.
    fn goodbye(&mut self, id: ConnId, code: u16, reason: &str, why: &'static str) {
        if let Some(wire) = self.conn(id).map(|conn| conn.wire) {
            let end = self.wire(wire).framing.end(code, reason);
            self.append(id, end);
        }
        self.begin_closing(id, why);
    }

    /// Nothing more is appended. The reader waits for the peer's end for `close_timeout`.
    fn begin_closing(&mut self, id: ConnId, why: &'static str) {
        if let Some(conn) = self.conn(id) {
            let ends = !std::mem::replace(&mut conn.closing, true);
            conn.paused = false;
            conn.choked = false;
            conn.busy = false;
            wake(&mut conn.reader);
            if ends {
                application::ended(&mut *conn.conversation, why);
                self.counters.ended(why);
            }
        }
        self.wake_engine(id);
    }

    /// Removes a connection. Its socket is closed when its reader ends too.
    fn remove(&mut self, id: ConnId) {
        if let Some(mut conn) = self
            .conns
            .get_mut(id.index as usize)
            .filter(|slot| slot.generation == id.generation)
            .and_then(|slot| slot.conn.take())
        {
            application::ended(&mut *conn.conversation, "gone"); // unless it was told another reason before
            self.free.push(id.index);
            self.open -= 1;
            self.counters.wire(conn.wire).open -= 1;
            self.counters.outbox_bytes -= conn.outbox.bytes();
            wake(&mut conn.reader);
            if let Sink::Detached(mut detached) = conn.sink {
                wake(&mut detached.fetcher);
                if let Some(state) = &mut detached.engine {
                    state.wake();
                }
                if let Some(state) = detached.polled.take() {
                    self.forget_polls(id, state);
                }
            }
        }
    }

    /// True where the end of a connection ends its sessions too, as its transport says by `finally`.
    fn is_final(&self, id: ConnId, finally: bool) -> bool {
        let conn = self.conns.get(id.index as usize).filter(|slot| slot.generation == id.generation);
        let conn = conn.and_then(|slot| slot.conn.as_ref());
        finally && !conn.is_some_and(|conn| self.wire(conn.wire).protocol.leaves_by_command())
    }

    /// A connection's socket is gone.
    fn lost(&mut self, now: Now, id: ConnId, finally: bool) {
        let finally = self.is_final(id, finally);
        if let Some(conn) = self.conn(id) {
            if !conn.closing {
                self.counters.ended("gone");
            }
            self.remove(id);
            self.act(now, Input::Closed { conn: id, finally });
        }
    }
}

/// The frames of several messages, as one piece of the outbox. They are not compressed.
fn together(framing: Framing, several: &[u8]) -> Bytes {
    let mut frames = Vec::with_capacity(several.len() + 16);
    for (is_text, message) in protocol::several(several) {
        framing.put(&mut frames, if is_text { Form::Text } else { Form::Binary }, message);
    }
    frames.into()
}

/// The form of the message, if one was encoded.
fn form(encoded: Encoded) -> Result<Option<Form>, Disconnect> {
    match encoded {
        Encoded::Text | Encoded::Begun | Encoded::Several | Encoded::Last(_) => Ok(Some(Form::Text)),
        Encoded::Binary | Encoded::LastBinary(_) => Ok(Some(Form::Binary)),
        Encoded::Ping => Ok(Some(Form::Ping)),
        Encoded::Nothing | Encoded::Ignored => Ok(None),
        Encoded::Close(reason) => Err(reason),
    }
}

/// The peer of an open connection.
fn peer_of(conns: &[Slot], id: ConnId) -> Option<Peer> {
    let slot = conns.get(id.index as usize).filter(|slot| slot.generation == id.generation)?;
    slot.conn.as_ref().map(|conn| conn.peer)
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

    /// Of one shard, which has one protocol and no connections yet.
    pub(super) fn shell() -> Shared {
        shell_of(Config::default(), Arc::new(Echo::default()), 1, Links::new(shard_id(0), Vec::new()))
    }

    /// Of one of several shards.
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
