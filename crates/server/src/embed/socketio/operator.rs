//! The receivers of an event: rooms, without rooms, without the sender.

use super::asking::AskingAll;
use super::io::Io;
use super::sequence::Sending;
use super::socket::Socket;
use super::sockets::{Changing, RemoteSocket};
use crate::protocol::socketio::{Operation, Payload};
use fanfare_hub::{
    AppAnswer, Audience, ClientId, Error, ErrorCode, IDEMPOTENCY_KEY_BYTES_MAX, MemberInfo, MembersOp, ROOM_BYTES_MAX,
    Room,
};
use serde::Serialize;
use tokio::sync::oneshot;

/// The sockets that an event is for, chosen step by step: `socket.to("a").except("b").emit("event", &data)`.
#[derive(Clone)]
#[must_use = "an audience gets an event by `emit`"]
pub struct BroadcastOperator {
    io: Io,
    audience: Audience,
    is_volatile: bool,
    key: Option<Box<str>>,
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
    pub(super) fn all(io: &Io) -> Self {
        BroadcastOperator { io: io.clone(), audience: Audience::default(), is_volatile: false, key: None, wrong: None }
    }

    /// All sockets but one.
    pub(super) fn but_for(socket: &Socket) -> Self {
        let audience = Audience { except: vec![socket.client()], ..Audience::default() };
        BroadcastOperator { audience, ..Self::all(socket.io()) }
    }

    /// One socket.
    pub(super) fn only(io: &Io, client: ClientId) -> Self {
        let audience = Audience { only: vec![client], ..Audience::default() };
        BroadcastOperator { audience, ..Self::all(io) }
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

    /// The event is lost for sockets that do not take more at the moment.
    pub fn volatile(mut self) -> Self {
        self.is_volatile = true;
        self
    }

    /// The event takes effect once: for 2 minutes a later one with this key, of any socket here, is dropped.
    /// A client that says its events again until they are acknowledged (`retries`) sends an id with each, and the
    /// handler gives it here. It has 1 to 64 bytes. Volatile events and questions have none.
    pub fn idempotency_key(mut self, key: impl Into<Box<str>>) -> Self {
        let key = key.into();
        if key.is_empty() || key.len() > IDEMPOTENCY_KEY_BYTES_MAX {
            let message =
                format!("an idempotency key must have 1 to {IDEMPOTENCY_KEY_BYTES_MAX} bytes, found {}", key.len());
            self.wrong = Some(Error::new(ErrorCode::BadRequest, message));
        }
        self.key = Some(key);
        self
    }

    /// Sends the event.
    pub fn emit(self, event: &str, args: impl Serialize) -> Sending {
        let sequence = self.io.sequence();
        if let Some(error) = self.wrong {
            return sequence.refused(error);
        }
        let payload = Payload::event(event, &args);
        if self.is_volatile {
            let op = |payload: Payload| MembersOp::Volatile { data: payload.into_data() };
            return sequence.put_made(payload.map(|payload| Operation::Members(self.audience, op(payload), None)));
        }
        sequence.put_made(payload.map(|payload| Operation::Emit { payload, audience: self.audience, key: self.key }))
    }

    /// Sends the event to each socket when it is awaited, and waits for their acks.
    ///
    /// ```no_run
    /// # async fn run(io: fanfare::socketio::Io) -> Result<(), fanfare::socketio::AckError> {
    /// use std::time::Duration;
    ///
    /// let votes = io.to("jury").emit_with_ack::<u8>("vote", ()).timeout(Duration::from_secs(60)).await?;
    /// println!("{} of {} have voted: {:?}", votes.answers.len(), votes.asked, votes.answers);
    /// # Ok(())
    /// # }
    /// ```
    pub fn emit_with_ack<R>(self, event: &str, args: impl Serialize) -> AskingAll<R> {
        let sequence = self.io.sequence().clone();
        match self.wrong {
            Some(error) => AskingAll::failed(sequence, error),
            None => AskingAll::new(sequence, Payload::event(event, &args), self.audience),
        }
    }

    /// The sockets of the audience, in no order. Each has the rooms that it was in where this took its place behind all
    /// that this handler did before. Only namespaces with handlers have such lists.
    ///
    /// # Errors
    /// `unavailable` if the server stops.
    pub async fn fetch_sockets(self) -> Result<Vec<RemoteSocket>, Error> {
        let io = self.io.clone();
        match self.ask(MembersOp::List).answer().await? {
            AppAnswer::Members(members) => {
                let found = |member: MemberInfo| Some((io.sockets().get(member.client)?, member.rooms));
                Ok(members.into_iter().filter_map(found).map(|it| RemoteSocket::new(it, io.clone())).collect())
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Lets the sockets of the audience enter rooms, in the order of what this handler does.
    pub fn sockets_join(self, rooms: impl IntoRooms) -> Changing {
        let rooms = match rooms_of(rooms) {
            Ok(rooms) => rooms,
            Err(error) => return Changing::failed(self.io.sequence().refused(error)),
        };
        self.sockets().iter().for_each(|socket| socket.note_join(&rooms));
        self.ask(MembersOp::Join { rooms })
    }

    /// Takes the sockets of the audience out of rooms, in the order of what this handler does: events before it still
    /// reach them.
    pub fn sockets_leave(self, rooms: impl IntoRooms) -> Changing {
        let rooms = match rooms_of(rooms) {
            Ok(rooms) => rooms,
            Err(error) => return Changing::failed(self.io.sequence().refused(error)),
        };
        self.sockets().iter().for_each(|socket| socket.note_leave(&rooms));
        self.ask(MembersOp::Leave { rooms })
    }

    /// Disconnects the sockets of the audience, behind what this handler did before. `close` ends their connections
    /// too.
    pub fn disconnect_sockets(self, close: bool) -> Changing {
        self.ask(MembersOp::Disconnect { whole: close })
    }

    fn ask(self, op: MembersOp) -> Changing {
        let sequence = self.io.sequence();
        if let Some(error) = self.wrong {
            return Changing::failed(sequence.refused(error));
        }
        let (reply, answer) = oneshot::channel();
        Changing::new(sequence.put(Operation::Members(self.audience, op, Some(reply))), answer)
    }

    /// Those that handlers know, as they see them.
    fn sockets(&self) -> Vec<Socket> {
        match self.wrong {
            Some(_) => Vec::new(),
            None => self.io.sockets().of(self.io.namespace(), &self.audience),
        }
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
