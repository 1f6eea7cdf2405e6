//! A namespace with all its sockets: `io` in JavaScript.

use super::asking::AskingAll;
use super::operator::{BroadcastOperator, IntoRooms};
use super::sequence::{Sending, Sequence};
use super::sockets::{Changing, RemoteSocket, Sockets};
use fanfare_hub::Error;
use serde::Serialize;
use std::fmt;

/// A namespace with all its sockets: `io`, or `io.of("/name")`, in JavaScript. In a handler it is the namespace of the
/// handler's socket, and what it does is in one order with what the socket does.
/// [`Handle::socketio`](crate::Handle::socketio) gives it to the rest of the program.
#[derive(Clone)]
pub struct Io(Sequence, Sockets);

impl Io {
    pub(crate) fn new(sequence: Sequence, sockets: Sockets) -> Self {
        Io(sequence, sockets)
    }

    pub(super) fn sockets(&self) -> &Sockets {
        &self.1
    }

    pub(super) fn sequence(&self) -> &Sequence {
        &self.0
    }

    /// Its name.
    pub fn namespace(&self) -> &str {
        self.0.namespace()
    }

    /// Sends an event to every socket. A tuple is several arguments; see [`Binary`](crate::socketio::Binary) for bytes.
    pub fn emit(&self, event: &str, args: impl Serialize) -> Sending {
        self.all().emit(event, args)
    }

    /// To the sockets in a room, or in any of several.
    pub fn to(&self, rooms: impl IntoRooms) -> BroadcastOperator {
        self.all().to(rooms)
    }

    /// The same as [`to`](Self::to).
    pub fn within(&self, rooms: impl IntoRooms) -> BroadcastOperator {
        self.to(rooms)
    }

    /// The same as [`to`](Self::to).
    pub fn in_(&self, rooms: impl IntoRooms) -> BroadcastOperator {
        self.to(rooms)
    }

    /// To every socket but those in these rooms.
    pub fn except(&self, rooms: impl IntoRooms) -> BroadcastOperator {
        self.all().except(rooms)
    }

    /// Events that are lost for sockets that do not take more at the moment.
    pub fn volatile(&self) -> BroadcastOperator {
        self.all().volatile()
    }

    /// An event that takes effect once: see [`BroadcastOperator::idempotency_key`].
    pub fn idempotency_key(&self, key: impl Into<Box<str>>) -> BroadcastOperator {
        self.all().idempotency_key(key)
    }

    /// Only the sockets of this node. There is one node today, so this changes nothing.
    pub fn local(&self) -> BroadcastOperator {
        self.all()
    }

    /// Sends an event to every socket, and waits for their acks. See [`BroadcastOperator::emit_with_ack`].
    pub fn emit_with_ack<R>(&self, event: &str, args: impl Serialize) -> AskingAll<R> {
        self.all().emit_with_ack(event, args)
    }

    /// All sockets. See [`BroadcastOperator::fetch_sockets`].
    ///
    /// # Errors
    /// `unavailable` if the server stops.
    pub async fn fetch_sockets(&self) -> Result<Vec<RemoteSocket>, Error> {
        self.all().fetch_sockets().await
    }

    /// Lets all sockets enter rooms. See [`BroadcastOperator::sockets_join`].
    pub fn sockets_join(&self, rooms: impl IntoRooms) -> Changing {
        self.all().sockets_join(rooms)
    }

    /// Takes all sockets out of rooms. See [`BroadcastOperator::sockets_leave`].
    pub fn sockets_leave(&self, rooms: impl IntoRooms) -> Changing {
        self.all().sockets_leave(rooms)
    }

    /// Disconnects all sockets. See [`BroadcastOperator::disconnect_sockets`].
    pub fn disconnect_sockets(&self, close: bool) -> Changing {
        self.all().disconnect_sockets(close)
    }

    fn all(&self) -> BroadcastOperator {
        BroadcastOperator::all(self)
    }
}

impl fmt::Debug for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io").field("namespace", &self.namespace()).finish_non_exhaustive()
    }
}
