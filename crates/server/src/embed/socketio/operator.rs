//! For whom an event is: rooms, without rooms, without the sender.

use super::sequence::{Sending, Sequence};
use super::socket::Socket;
use crate::protocol::socketio::{Operation, Payload};
use fanfare_hub::{Audience, Error, ErrorCode, ROOM_BYTES_MAX, Room};
use serde::Serialize;

/// The sockets that an event is for, chosen step by step: `socket.to("a").except("b").emit("event", &data)`.
#[derive(Clone)]
#[must_use = "an audience gets an event by `emit`"]
pub struct BroadcastOperator {
    sequence: Sequence,
    audience: Audience,
    wrong: Option<Error>,
}

/// The name of a room, or of several.
pub trait IntoRooms {
    /// The names.
    fn into_rooms(self) -> Vec<String>;
}

/// Checks names of rooms.
///
/// # Errors
/// A name is too long.
pub(super) fn rooms_of(rooms: impl IntoRooms) -> Result<Vec<Room>, Error> {
    let too_long = |name: &str| {
        let message = format!("the name of a room of {} bytes exceeds the limit of {ROOM_BYTES_MAX}", name.len());
        Error::new(ErrorCode::BadRequest, message)
    };
    rooms.into_rooms().iter().map(|name| Room::new(name).ok_or_else(|| too_long(name))).collect()
}

impl BroadcastOperator {
    /// All sockets.
    pub(super) fn all(sequence: Sequence) -> Self {
        BroadcastOperator { sequence, audience: Audience::default(), wrong: None }
    }

    /// All sockets but one.
    pub(super) fn but_for(socket: &Socket) -> Self {
        let audience = Audience { except: vec![socket.client()], ..Audience::default() };
        BroadcastOperator { audience, ..Self::all(socket.sequence().clone()) }
    }

    /// One socket.
    pub(super) fn only(socket: &Socket) -> Self {
        let audience = Audience { only: vec![socket.client()], ..Audience::default() };
        BroadcastOperator { audience, ..Self::all(socket.sequence().clone()) }
    }

    /// Only sockets in this room. Several calls, or several names, mean any of the rooms. Each socket gets the event
    /// once.
    pub fn to(mut self, rooms: impl IntoRooms) -> Self {
        match rooms_of(rooms) {
            Ok(rooms) => self.audience.rooms.extend(rooms),
            Err(error) => self.wrong = Some(error),
        }
        self
    }

    /// The same as [`to`](Self::to).
    pub fn within(self, rooms: impl IntoRooms) -> Self {
        self.to(rooms)
    }

    /// The same as [`to`](Self::to).
    pub fn in_(self, rooms: impl IntoRooms) -> Self {
        self.to(rooms)
    }

    /// Not the sockets in these rooms. A socket is excluded by its id, which is the name of its own room.
    pub fn except(mut self, rooms: impl IntoRooms) -> Self {
        match rooms_of(rooms) {
            Ok(rooms) => self.audience.except_rooms.extend(rooms),
            Err(error) => self.wrong = Some(error),
        }
        self
    }

    /// Only the sockets of this node. There is one node today, so this changes nothing.
    pub fn local(self) -> Self {
        self
    }

    /// Sends the event.
    pub fn emit(self, event: &str, args: impl Serialize) -> Sending {
        if let Some(error) = self.wrong {
            return self.sequence.refused(error);
        }
        let payload = Payload::event(event, &args);
        self.sequence.put_made(payload.map(|payload| Operation::Emit(payload, self.audience)))
    }
}

impl IntoRooms for &str {
    fn into_rooms(self) -> Vec<String> {
        vec![self.to_owned()]
    }
}

impl IntoRooms for String {
    fn into_rooms(self) -> Vec<String> {
        vec![self]
    }
}

impl IntoRooms for &String {
    fn into_rooms(self) -> Vec<String> {
        vec![self.clone()]
    }
}

impl IntoRooms for &Room {
    fn into_rooms(self) -> Vec<String> {
        vec![self.as_str().to_owned()]
    }
}

impl<T: AsRef<str>> IntoRooms for &[T] {
    fn into_rooms(self) -> Vec<String> {
        self.iter().map(|room| room.as_ref().to_owned()).collect()
    }
}

impl<T: AsRef<str>, const N: usize> IntoRooms for [T; N] {
    fn into_rooms(self) -> Vec<String> {
        self.as_slice().into_rooms()
    }
}

impl<T: AsRef<str>> IntoRooms for Vec<T> {
    fn into_rooms(self) -> Vec<String> {
        self.as_slice().into_rooms()
    }
}
