//! The sockets of namespaces with handlers: found by an audience, and changed from outside.
//!
//! A socket is listed in each room that it is in, but for that of its own id, so those of a room are found without a
//! look at all others. Only connected sockets are listed.

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
pub(crate) struct Sockets(Arc<Mutex<Lists>>);

#[derive(Default)]
struct Lists {
    clients: HashMap<ClientId, Weak<SocketParts>>,
    /// By name, those with connected sockets.
    namespaces: HashMap<Arc<str>, NamespaceLists>,
}

#[derive(Default)]
struct NamespaceLists {
    all: Listed,
    rooms: HashMap<Room, Listed>,
}

/// By their addresses in memory: a socket that goes on after a cut has the id of the one before.
type Listed = HashMap<usize, Weak<SocketParts>>;

fn address(socket: &SocketParts) -> usize {
    std::ptr::from_ref(socket).addr()
}

impl NamespaceLists {
    fn unlist(&mut self, socket: &SocketParts, rooms: &[Room]) {
        for room in rooms {
            if let Some(listed) = self.rooms.get_mut(room) {
                listed.remove(&address(socket));
                if listed.is_empty() {
                    self.rooms.remove(room);
                }
            }
        }
    }
}

impl Sockets {
    /// A socket has entered.
    pub(super) fn insert(&self, socket: &Socket) {
        let namespace = socket.0.io.sequence().namespace();
        let mut lists = self.lock();
        lists.clients.insert(socket.client(), Arc::downgrade(&socket.0));
        let of_namespace = lists.namespaces.entry(namespace.clone()).or_default();
        of_namespace.all.insert(address(&socket.0), Arc::downgrade(&socket.0));
    }

    /// It is in these rooms now.
    pub(super) fn list(&self, socket: &Socket, rooms: &[Room]) {
        let mut lists = self.lock();
        let Some(of_namespace) = lists.namespaces.get_mut(socket.namespace()) else { return };
        // Its own room has no list: most sockets are in no other.
        for room in rooms.iter().filter(|room| room.as_str() != socket.id()) {
            let listed = of_namespace.rooms.entry(room.clone()).or_default();
            listed.insert(address(&socket.0), Arc::downgrade(&socket.0));
        }
    }

    /// It is not in these rooms any more.
    pub(super) fn unlist(&self, socket: &Socket, rooms: &[Room]) {
        if let Some(of_namespace) = self.lock().namespaces.get_mut(socket.namespace()) {
            of_namespace.unlist(&socket.0, rooms);
        }
    }

    /// It has left, and was in these rooms: nobody finds it by them. Its id still names it.
    pub(super) fn left(&self, socket: &SocketParts, rooms: &[Room]) {
        let namespace = socket.io.namespace();
        let mut lists = self.lock();
        let Some(of_namespace) = lists.namespaces.get_mut(namespace) else { return };
        of_namespace.unlist(socket, rooms);
        of_namespace.all.remove(&address(socket));
        if of_namespace.all.is_empty() {
            lists.namespaces.remove(namespace);
        }
    }

    /// Nobody has it any more.
    pub(super) fn forget(&self, gone: &SocketParts) {
        self.left(gone, &gone.rooms.lock().unwrap_or_else(PoisonError::into_inner));
        let mut lists = self.lock();
        if lists.clients.get(&gone.client).is_some_and(|listed| std::ptr::eq(listed.as_ptr(), gone)) {
            lists.clients.remove(&gone.client);
        }
    }

    pub(super) fn get(&self, client: ClientId) -> Option<Socket> {
        let socket = self.lock().clients.get(&client)?.upgrade();
        socket.map(Socket)
    }

    /// Those of a namespace that an audience includes and that have not left. It costs what the rooms of the audience
    /// have, or for an audience without rooms the namespace.
    pub(super) fn of(&self, namespace: &str, audience: &Audience) -> Vec<Socket> {
        let mut found: HashMap<usize, Arc<SocketParts>> = HashMap::new();
        {
            let lists = self.lock();
            let of_namespace = lists.namespaces.get(namespace);
            let client = |client: ClientId| lists.clients.get(&client).and_then(Weak::upgrade);
            // A socket that is dropped takes itself out of the lists: not while they are locked.
            let mut add = |socket: Arc<SocketParts>| drop(found.insert(address(&socket), socket));
            match (audience.only.as_slice(), audience.rooms.as_slice()) {
                ([], []) => of_namespace.iter().flat_map(|it| it.all.values()).filter_map(Weak::upgrade).for_each(add),
                ([], rooms) => {
                    for room in rooms {
                        let listed =
                            of_namespace.and_then(|it| it.rooms.get(room)).into_iter().flat_map(HashMap::values);
                        listed.filter_map(Weak::upgrade).for_each(&mut add);
                        room.as_str().parse().ok().and_then(client).into_iter().for_each(&mut add);
                    }
                }
                (only, _) => only.iter().filter_map(|&only| client(only)).for_each(add),
            }
        }
        let mut found: Vec<Socket> = found.into_values().map(Socket).collect();
        found.retain(|socket| {
            socket.connected()
                && socket.namespace() == namespace
                && audience.includes(socket.client())
                && (audience.rooms.is_empty() || socket.is_in(&audience.rooms))
                && !socket.is_in(&audience.except_rooms)
        });
        found
    }

    fn lock(&self) -> MutexGuard<'_, Lists> {
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
