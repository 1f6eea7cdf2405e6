//! The sockets of namespaces with handlers: found by an audience, and changed from outside.

use super::data::SocketExtensions;
use super::handshake::Handshake;
use super::io::Io;
use super::operator::{BroadcastOperator, IntoRooms};
use super::sequence::Sending;
use super::socket::{Socket, SocketParts};
use fanfare_hub::{AppAnswer, Audience, ClientId, Error, ErrorCode, Room, UserId};
use serde::Serialize;
use std::collections::HashMap;
use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::oneshot;

/// All of a server. A clone is the same list.
#[derive(Clone, Default)]
pub(crate) struct Sockets(Arc<Mutex<HashMap<ClientId, Weak<SocketParts>>>>);

impl Sockets {
    pub(super) fn insert(&self, socket: &Socket) {
        self.lock().insert(socket.client(), Arc::downgrade(&socket.0));
    }

    pub(super) fn get(&self, client: ClientId) -> Option<Socket> {
        let socket = self.lock().get(&client)?.upgrade();
        socket.map(Socket)
    }

    /// A socket that has recovered has the id of the one before, which may be dropped later.
    pub(super) fn forget(&self, gone: &SocketParts) {
        let mut list = self.lock();
        if list.get(&gone.client).is_some_and(|listed| std::ptr::eq(listed.as_ptr(), gone)) {
            list.remove(&gone.client);
        }
    }

    /// Those of a namespace that an audience includes and that have not left.
    pub(super) fn of(&self, namespace: &str, audience: &Audience) -> Vec<Socket> {
        // A socket that is dropped takes itself out of the list: not while that is locked.
        let all: Vec<Socket> = match audience.only.as_slice() {
            [] => self.lock().values().filter_map(Weak::upgrade).map(Socket).collect(),
            only => {
                let list = self.lock();
                only.iter().filter_map(|client| list.get(client)?.upgrade()).map(Socket).collect()
            }
        };
        let mut all = all;
        all.retain(|socket| {
            socket.connected()
                && socket.namespace() == namespace
                && audience.includes(socket.client())
                && (audience.rooms.is_empty() || socket.is_in(&audience.rooms))
                && !socket.is_in(&audience.except_rooms)
        });
        all
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ClientId, Weak<SocketParts>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner) // nothing in here panics between two changes
    }
}

/// A change of other sockets that was sent. It needs no `await`: it has its place in the order of all that the handler
/// does. Awaiting it waits until it has that place.
///
/// # Errors
/// As of [`Sending`], and `unavailable` if the server stops.
pub struct Changing {
    sending: Sending,
    answer: Option<oneshot::Receiver<AppAnswer>>,
}

impl Changing {
    pub(super) fn new(sending: Sending, answer: oneshot::Receiver<AppAnswer>) -> Self {
        Changing { sending, answer: Some(answer) }
    }

    pub(super) fn failed(sending: Sending) -> Self {
        Changing { sending, answer: None }
    }

    pub(super) async fn answer(self) -> Result<AppAnswer, Error> {
        self.sending.result()?;
        let stopped = || Error::new(ErrorCode::Unavailable, "the server has stopped");
        let answer = match self.answer {
            Some(answer) => answer.await.map_err(|_| stopped())?,
            None => return Err(stopped()),
        };
        if let AppAnswer::Error(error) = answer { Err(error) } else { Ok(answer) }
    }
}

impl IntoFuture for Changing {
    type Output = Result<(), Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.answer().await.map(drop) })
    }
}

/// A socket of a list ([`Io::fetch_sockets`]). Its operations are in one order with those of the handler that has the
/// list.
#[derive(Debug, Clone)]
pub struct RemoteSocket {
    socket: Socket,
    rooms: Vec<Room>,
    io: Io,
}

impl RemoteSocket {
    pub(super) fn new((socket, rooms): (Socket, Vec<Room>), io: Io) -> Self {
        RemoteSocket { socket, rooms, io }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        self.socket.id()
    }

    /// Its user.
    pub fn user(&self) -> Option<&UserId> {
        self.socket.user()
    }

    /// What its client brought.
    pub fn handshake(&self) -> &Handshake {
        self.socket.handshake()
    }

    /// The program's values of it.
    pub fn data(&self) -> &SocketExtensions {
        self.socket.data()
    }

    /// The rooms that it was in, in the order in which it joined them.
    pub fn rooms(&self) -> &[Room] {
        &self.rooms
    }

    /// Sends it an event.
    pub fn emit(&self, event: &str, args: impl Serialize) -> Sending {
        self.only().emit(event, args)
    }

    /// Lets it enter rooms.
    pub fn join(&self, rooms: impl IntoRooms) -> Changing {
        self.only().sockets_join(rooms)
    }

    /// Takes it out of rooms.
    pub fn leave(&self, rooms: impl IntoRooms) -> Changing {
        self.only().sockets_leave(rooms)
    }

    /// Takes it out of the namespace; `close` ends its connection too.
    pub fn disconnect(&self, close: bool) -> Changing {
        self.only().disconnect_sockets(close)
    }

    fn only(&self) -> BroadcastOperator {
        BroadcastOperator::only(&self.io, self.socket.client())
    }
}
