//! A connection as the shell keeps it, and its opening. Its end is in `ends`.
//!
//! It has a place in the shell's table, whose generation tells it from earlier ones of the same place.

use super::Shell;
use super::detached::Detached;
use crate::protocol::{Actions, Conversation, Place};
use crate::request::{CarriedToken, Peer, RequestInfo};
use crate::transport::socket::WriteHalf;
use fanfare_hub::{
    Attachment, Command, ConnId, Error, ErrorCode, HeartbeatKind, Input, Now, Opened, Outbox, Request, Seat, WireId,
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
    /// The log and the handlers know of its end.
    pub(super) has_ended: bool,
    /// On the monotonic clock.
    pub(super) opened_ms: u64,
    /// The reader, if it waits for something other than bytes.
    pub(super) reader: Option<Waker>,
    /// The token that its request carried, until it is not needed any more.
    pub(super) token: Option<Box<CarriedToken>>,
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
        let token = request.as_ref().and_then(|request| request.token.clone()).map(Box::new);
        let attachment = request.filter(|_| self.handlers_need_request).map(Attachment::new);
        let opened = Opened {
            wire,
            grace_ms: protocol.grace_ms(),
            heartbeat_ms: protocol.heartbeat_ms(),
            heartbeat,
            connect_timeout_ms: protocol.connect_timeout_ms(),
            over_rate: protocol.over_rate(),
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
            has_ended: false,
            opened_ms: now.mono_ms,
            reader: None,
            token,
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

    /// Gives the `connect` among these commands the token that the connection's request carried. Another token in the
    /// command is an error, but for a cookie, which gives way.
    pub(super) fn show_token(&mut self, id: ConnId, requests: &mut [Request]) {
        let Some(CarriedToken { token, is_cookie }) = self.conn(id).and_then(|conn| conn.token.as_deref()) else {
            return;
        };
        for request in requests {
            let Command::Connect(connect) = &mut request.command else { continue };
            if connect.only_resume {
                continue; // nobody is to be asked about it
            }
            match &connect.token {
                None => connect.token = Some(token.clone()),
                Some(shown) if *is_cookie || shown == token => {}
                Some(_) => {
                    let words = "`connect` and the request of this connection hold two different tokens: show one";
                    request.command = Command::Invalid(Error::new(ErrorCode::BadRequest, words));
                }
            }
        }
    }

    /// A session has begun on this connection. Where no other can begin, its token is not needed any more.
    pub(super) fn forget_token(&mut self, id: ConnId) {
        let Some(wire) = self.conn(id).filter(|conn| conn.token.is_some()).map(|conn| conn.wire) else { return };
        if self.wire(wire).protocol.has_seats() {
            return;
        }
        if let Some(conn) = self.conn(id) {
            conn.token = None;
        }
    }

    pub(super) fn conn(&mut self, id: ConnId) -> Option<&mut Connection> {
        self.conns.get_mut(id.index as usize).filter(|slot| slot.generation == id.generation)?.conn.as_mut()
    }
}

/// The peer of an open connection.
pub(super) fn peer_of(conns: &[Slot], id: ConnId) -> Option<Peer> {
    let slot = conns.get(id.index as usize).filter(|slot| slot.generation == id.generation)?;
    slot.conn.as_ref().map(|conn| conn.peer)
}
