//! A socket as handlers see it: one client in one namespace.

use super::asking::Asking;
use super::data::SocketExtensions;
use super::handshake::Handshake;
use super::io::Io;
use super::operator::{BroadcastOperator, IntoRooms, rooms_of};
use super::sequence::{Sending, Sequence};
use crate::protocol::socketio::{Operation, Payload};
use fanfare_hub::{Caller, ClientId, Room, UserId};
use serde::Serialize;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One client in one namespace: `socket` in JavaScript. A clone is the same socket; it may outlive the handler, and be
/// used from any thread.
///
/// Operations need no `await`. All that a handler does takes effect in program order, and the client gets events in the
/// order in which they were emitted.
#[derive(Clone)]
pub struct Socket(pub(super) Arc<SocketParts>);

pub(super) struct SocketParts {
    pub(super) id: Box<str>,
    pub(super) client: ClientId,
    pub(super) caller: Caller,
    pub(super) handshake: Handshake,
    pub(super) data: SocketExtensions,
    pub(super) io: Io,
    /// In the order in which they were joined. The first one is that of its id.
    pub(super) rooms: Mutex<Vec<Room>>,
    pub(super) recovered: bool,
    pub(super) has_left: AtomicBool,
}

impl Socket {
    /// Its id, which is also the name of a room that it alone is in.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// Its id as the hub's client.
    pub fn client(&self) -> ClientId {
        self.0.client
    }

    /// The user that a guard, or `on_connect` of the server, has named for it.
    pub fn user(&self) -> Option<&UserId> {
        self.0.caller.user.as_ref()
    }

    /// What its handlers know of it.
    pub(super) fn caller(&self) -> &Caller {
        &self.0.caller
    }

    /// What the client brought when it entered.
    pub fn handshake(&self) -> &Handshake {
        &self.0.handshake
    }

    /// The program's values of this socket: `socket.data`.
    pub fn data(&self) -> &SocketExtensions {
        &self.0.data
    }

    /// Its namespace, with all sockets in it. Operations by it are in one order with those of this socket.
    pub fn io(&self) -> &Io {
        &self.0.io
    }

    /// The name of its namespace.
    pub fn namespace(&self) -> &str {
        self.0.io.namespace()
    }

    /// True if its client was cut off and goes on as the socket that it was: with its id, its rooms, its values, and
    /// the events that it missed. See docs/socketio.md, "Connection state recovery".
    pub fn recovered(&self) -> bool {
        self.0.recovered
    }

    /// False once it has left the namespace, or its connection has ended.
    pub fn connected(&self) -> bool {
        !self.0.has_left.load(SeqCst)
    }

    /// Sends an event to this socket. A tuple is several arguments; see [`Binary`](crate::socketio::Binary) for bytes.
    pub fn emit(&self, event: &str, args: impl Serialize) -> Sending {
        self.own().emit(event, args)
    }

    /// Sends an event to this socket, and waits for the ack when it is awaited. A tuple takes the arguments of the ack
    /// one by one.
    ///
    /// ```no_run
    /// # async fn run(socket: fanfare::socketio::Socket) -> Result<(), fanfare::socketio::AckError> {
    /// use std::time::Duration;
    ///
    /// let name: String = socket.emit_with_ack("what is your name", ()).await?;
    /// let (x, y): (f64, f64) = socket.emit_with_ack("where are you", name).timeout(Duration::from_secs(1)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn emit_with_ack<R>(&self, event: &str, args: impl Serialize) -> Asking<R> {
        Asking::new(self.sequence(), Payload::event(event, &args))
    }

    /// To the other sockets in a room, or in any of several.
    pub fn to(&self, rooms: impl IntoRooms) -> BroadcastOperator {
        self.broadcast().to(rooms)
    }

    /// The same as [`to`](Self::to).
    pub fn within(&self, rooms: impl IntoRooms) -> BroadcastOperator {
        self.to(rooms)
    }

    /// The same as [`to`](Self::to).
    pub fn in_(&self, rooms: impl IntoRooms) -> BroadcastOperator {
        self.to(rooms)
    }

    /// To the other sockets of the namespace, but for those in these rooms.
    pub fn except(&self, rooms: impl IntoRooms) -> BroadcastOperator {
        self.broadcast().except(rooms)
    }

    /// To the other sockets of the namespace.
    pub fn broadcast(&self) -> BroadcastOperator {
        BroadcastOperator::but_for(self)
    }

    /// An event that is lost if the connection does not take more at this moment: `socket.volatile.emit`.
    pub fn volatile(&self) -> BroadcastOperator {
        self.own().volatile()
    }

    /// Enters a room, or several. A socket that is there stays there.
    pub fn join(&self, rooms: impl IntoRooms) -> Sending {
        let rooms = match rooms_of(rooms) {
            Ok(rooms) => rooms,
            Err(error) => return self.sequence().refused(error),
        };
        let mut joined = self.joined();
        self.add(&mut joined, &rooms);
        // Sent under the lock: the list and the operations have one order.
        self.sequence().put(Operation::Join(rooms))
    }

    /// Leaves a room.
    pub fn leave(&self, room: &str) -> Sending {
        let Some(room) = Room::new(room) else { return self.sequence().nothing() };
        let mut joined = self.joined();
        self.remove(&mut joined, std::slice::from_ref(&room));
        self.sequence().put(Operation::Leave(room))
    }

    /// The rooms that it is in, in the order in which it joined them. The first one is the room of its id, unless it
    /// has left that. In `on_disconnect` they are those that it was in.
    pub fn rooms(&self) -> Vec<Room> {
        self.joined().clone()
    }

    /// Takes it out of the namespace: its client gets `disconnect` with the reason `io server disconnect`, and does not
    /// come back by itself. `close` ends the whole connection, with all its namespaces.
    pub fn disconnect(&self, close: bool) -> Sending {
        self.sequence().put(Operation::Disconnect { close })
    }

    /// Another socket's handler lets it enter rooms, or it is in them from the beginning.
    pub(super) fn note_join(&self, rooms: &[Room]) {
        self.add(&mut self.joined(), rooms);
    }

    /// Another socket's handler takes it out of rooms.
    pub(super) fn note_leave(&self, rooms: &[Room]) {
        self.remove(&mut self.joined(), rooms);
    }

    /// It leaves: nobody finds it by its rooms any more. It still knows them. False where it has left before.
    pub(super) fn leaves(&self) -> bool {
        let joined = self.joined();
        let is_first = !self.0.has_left.swap(true, SeqCst);
        if is_first {
            self.0.io.sockets().left(&self.0, &joined);
        }
        is_first
    }

    fn add(&self, joined: &mut Vec<Room>, rooms: &[Room]) {
        let before = joined.len();
        for room in rooms {
            if !joined.contains(room) {
                joined.push(room.clone());
            }
        }
        if self.connected() {
            self.0.io.sockets().list(self, &joined[before..]);
        }
    }

    fn remove(&self, joined: &mut Vec<Room>, rooms: &[Room]) {
        joined.retain(|room| !rooms.contains(room));
        self.0.io.sockets().unlist(self, rooms);
    }

    pub(super) fn is_in(&self, rooms: &[Room]) -> bool {
        let joined = self.joined();
        rooms.iter().any(|room| joined.contains(room))
    }

    fn joined(&self) -> MutexGuard<'_, Vec<Room>> {
        self.0.rooms.lock().unwrap_or_else(PoisonError::into_inner) // nothing in here panics between two changes
    }

    pub(super) fn sequence(&self) -> &Sequence {
        self.0.io.sequence()
    }

    /// To this socket alone.
    fn own(&self) -> BroadcastOperator {
        BroadcastOperator::only(&self.0.io, self.0.client)
    }

    pub(super) fn acknowledge(&self, id: u64, payload: Payload) -> Sending {
        self.sequence().put(Operation::Ack(id, payload))
    }
}

impl Drop for SocketParts {
    fn drop(&mut self) {
        self.io.sockets().forget(self);
    }
}

impl PartialEq for Socket {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Socket {}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("id", &self.id()).field("namespace", &self.namespace()).finish_non_exhaustive()
    }
}
