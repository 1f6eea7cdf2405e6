//! A namespace with all its sockets: `io` in JavaScript.

use super::operator::{BroadcastOperator, IntoRooms};
use super::sequence::{Sending, Sequence};
use serde::Serialize;
use std::fmt;

/// A namespace with all its sockets: `io`, or `io.of("/name")`, in JavaScript. In a handler it is the namespace of the
/// handler's socket, and what it does is in one order with what the socket does.
/// [`Handle::socketio`](crate::Handle::socketio) gives it to the rest of the program.
#[derive(Clone)]
pub struct Io(Sequence);

impl Io {
    pub(crate) fn new(sequence: Sequence) -> Self {
        Io(sequence)
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

    fn all(&self) -> BroadcastOperator {
        BroadcastOperator::all(self.0.clone())
    }
}

impl fmt::Debug for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io").field("namespace", &self.namespace()).finish_non_exhaustive()
    }
}
