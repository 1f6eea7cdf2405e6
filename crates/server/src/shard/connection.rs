//! A connection as the shell keeps it: from its opening to its end.
//!
//! It has a place in the shell's table, whose generation tells it from earlier ones of the same place. An end is
//! written behind everything else; the connection is removed when its reader ends or the peer has gone.

use super::detached::Detached;
use super::{Shell, application, form, wake};
use crate::protocol::{Actions, Conversation, Encoded, Place};
use crate::request::{Peer, RequestInfo};
use crate::transport::socket::WriteHalf;
use fanfare_hub::{
    Attachment, ConnId, Disconnect, HeartbeatKind, Input, Now, Opened, Outbox, Push, Request, Seat, WireId,
};
use std::sync::Arc;
use std::task::Waker;

pub(super) struct Slot {
    pub(super) generation: u32,
    pub(super) conn: Option<Connection>,
}

/// The shell's part of one connection. Its reader (`read`) holds the rest.
pub(super) struct Connection {
    pub(super) wire: WireId,
    /// For the log.
    pub(super) peer: Peer,
    pub(super) sink: Sink,
    pub(super) outbox: Outbox,
    pub(super) conversation: Box<dyn Conversation>,
    pub(super) dirty: bool,
    /// The socket took no more; a task waits until it does.
    pub(super) blocked: bool,
    /// Not read: the hub has paused it.
    pub(super) paused: bool,
    /// Not read: its outbox is above [`CHOKED_MARKS`], because the peer does not read its answers.
    pub(super) choked: bool,
    /// Not read: its events fill the queues of the application's handlers.
    pub(super) busy: bool,
    /// The commands of its last message that follow the one that paused or choked it. They are handled before any
    /// other byte.
    pub(super) unread: Option<Box<Unread>>,
    /// The close frame is in the outbox; further input is ignored.
    pub(super) closing: bool,
    /// The reader, if it waits for something other than bytes.
    pub(super) reader: Option<Waker>,
}

/// Commands of one message that wait.
pub(super) struct Unread {
    pub(super) seat: Seat,
    pub(super) requests: std::vec::IntoIter<Request>,
}

impl Connection {
    /// Bytes that the peer takes are a sign of life: it is not pinged while so much waits for it, or it is not read.
    pub(super) fn reading_is_life(&self) -> bool {
        self.choked || self.outbox.is_full()
    }
}

/// Where the bytes of a connection go.
pub(super) enum Sink {
    Socket(WriteHalf),
    /// No socket: a request fetches them from the outbox.
    Detached(Box<Detached>),
}

impl Sink {
    /// True while bytes that left the outbox still wait for the socket.
    pub(super) fn is_pending(&self) -> bool {
        matches!(self, Sink::Socket(socket) if socket.is_pending())
    }
}

impl From<WriteHalf> for Sink {
    fn from(socket: WriteHalf) -> Self {
        Sink::Socket(socket)
    }
}

impl Shell {
    /// Takes a connection in that speaks `wire`.
    pub(super) fn open(
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
    pub(super) fn open_as(
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

    pub(super) fn conn(&mut self, id: ConnId) -> Option<&mut Connection> {
        self.conns.get_mut(id.index as usize).filter(|slot| slot.generation == id.generation)?.conn.as_mut()
    }

    /// Sends the reason for the end of a connection as a message of its protocol, if the protocol has one. The close
    /// code gives the reason too.
    pub(super) fn last_word(&mut self, now: Now, id: ConnId, reason: Disconnect) {
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
    pub(super) fn part(&mut self, id: ConnId, reason: Disconnect) {
        self.end_opening(id, reason);
        self.goodbye(id, reason.code(), reason.row().word, reason.row().word);
        self.inputs.push_back(Input::Closed { conn: id, finally: !reason.reconnect() });
    }

    /// Writes the end of the connection behind everything else. `why` is its reason in metrics.
    pub(super) fn goodbye(&mut self, id: ConnId, code: u16, reason: &str, why: &'static str) {
        if let Some(wire) = self.conn(id).map(|conn| conn.wire) {
            let end = self.wire(wire).framing.end(code, reason);
            self.append(id, end);
        }
        self.begin_closing(id, why);
    }

    /// Nothing more is appended. The reader waits for the peer's end for `close_timeout`.
    pub(super) fn begin_closing(&mut self, id: ConnId, why: &'static str) {
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
    pub(super) fn remove(&mut self, id: ConnId) {
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
    pub(super) fn is_final(&self, id: ConnId, finally: bool) -> bool {
        let conn = self.conns.get(id.index as usize).filter(|slot| slot.generation == id.generation);
        let conn = conn.and_then(|slot| slot.conn.as_ref());
        finally && !conn.is_some_and(|conn| self.wire(conn.wire).protocol.leaves_by_command())
    }

    /// A connection's socket is gone.
    pub(super) fn lost(&mut self, now: Now, id: ConnId, finally: bool) {
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

/// The peer of an open connection.
pub(super) fn peer_of(conns: &[Slot], id: ConnId) -> Option<Peer> {
    let slot = conns.get(id.index as usize).filter(|slot| slot.generation == id.generation)?;
    slot.conn.as_ref().map(|conn| conn.peer)
}
