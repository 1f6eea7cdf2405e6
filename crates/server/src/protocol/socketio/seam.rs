//! The seam between the protocol and the code that handles its events: what each tells the other.
//!
//! A namespace may have handlers ([`SocketHandlers`]). A client that asks to enter it is [`Entering`], and the answer
//! is a [`Decision`]. From then on its [`HandledSocket`] is told what it does, on the shard of its connection: nothing
//! there may block. Everything about one socket is told in order: `known`, `entered`, its events, `left`. Handlers
//! answer with [`Operation`]s, which take effect in the order in which they were sent.

use super::Reason;
use crate::config::namespace::NamespacePattern;
use crate::request::RequestInfo;
use bytes::Bytes;
use fanfare_hub::{
    Answers, AppAnswer, Attachment, Audience, ChannelName, ConnId, Connected, Data, Error, Identified, MembersOp, Room,
    Seat,
};
use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// The namespaces that have handlers.
pub(crate) trait SocketHandlers: Send + Sync + fmt::Debug {
    /// Their names and patterns.
    fn patterns(&self) -> Vec<NamespacePattern>;

    /// The handlers of a namespace. Only their owner knows more of them.
    fn of(&self, namespace: &str) -> Option<Opaque>;

    /// True if one of them looks at the request that a connection began with.
    fn need_request(&self) -> bool;
}

/// A value of the other side.
pub(crate) type Opaque = Arc<dyn Any + Send + Sync>;

/// A client's socket, on the side of the handlers.
pub(crate) trait HandledSocket: Send + Sync {
    fn key(&self) -> SocketKey;

    /// What its client showed when it asked: a JSON object.
    fn auth_json(&self) -> &str;

    /// What the handlers keep of its connection.
    fn of_connection(&self) -> Opaque;

    /// What the hub is to keep of its session.
    fn program(&self) -> Attachment;

    /// The hub knows the client.
    fn known(&self, connected: &Connected);

    /// The client has entered. `recovered`: it goes on as the socket that it was, in these rooms.
    fn entered(&self, recovered: Option<&[Room]>);

    /// The client has sent an event; `args` is a JSON array. False if the connection must not be read now. It may be
    /// read again after a `Control::SocketIoReady`.
    fn event(&self, name: &str, args: String, attachments: Vec<Bytes>, ack: Option<u64>) -> bool;

    /// The socket has left, or its connection has ended. Only the first reason counts. False as of `event`.
    fn left(&self, reason: Reason) -> bool;
}

/// A client asks to enter a namespace that has handlers.
pub(crate) struct Entering {
    pub(crate) seat: Seat,
    pub(crate) namespace: Arc<str>,
    pub(crate) handlers: Opaque,
    /// Guards are not asked: the socket was let in before, and may only go on.
    pub(crate) goes_on: bool,
    /// A JSON object.
    pub(crate) auth: Option<Box<str>>,
    pub(crate) request: Option<Arc<RequestInfo>>,
    /// See [`HandledSocket::of_connection`]; `None` for the first one of a connection.
    pub(crate) of_connection: Option<Opaque>,
}

impl fmt::Debug for Entering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The `auth` of a client may be secret.
        f.debug_struct("Entering").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// The decision about a client that asked to enter.
pub(crate) struct Decision {
    pub(crate) seat: Seat,
    pub(crate) result: Result<Admission, Unwanted>,
}

/// A client may enter.
pub(crate) struct Admission {
    pub(crate) handled: Box<dyn HandledSocket>,
    /// The user that a guard has named.
    pub(crate) identity: Option<Box<Identified>>,
}

/// A client may not enter.
pub(crate) enum Unwanted {
    Refused {
        message: Box<str>,
        /// JSON.
        data: Option<Bytes>,
    },
    /// Nobody was asked, as too many clients wait: it is to come back.
    Overloaded,
}

/// The JSON of an event or an ack, an array, and its attachments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Payload {
    pub(crate) json: Vec<u8>,
    pub(crate) attachments: Vec<Bytes>,
}

/// The arguments of an ack that a client has sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AckArgs {
    /// A JSON array.
    pub(crate) json: Box<str>,
    pub(crate) attachments: Vec<Bytes>,
}

/// Where an ack goes. It is dropped if none can come any more.
pub(crate) type AckSender = oneshot::Sender<AckArgs>;

/// An operation of a handler.
pub(crate) enum Operation {
    /// The socket enters rooms.
    Join(Vec<Room>),
    /// The socket leaves a room.
    Leave(Room),
    /// An event to an audience of the namespace. `key`: one with this key has no effect if there was one before.
    Emit { payload: Payload, audience: Audience, key: Option<Box<str>> },
    /// An event to the socket that asks for an ack, for so many ms.
    Ask(AskKey, Payload, u64, AckSender),
    /// The answer to an event of the socket's client.
    Ack(u64, Payload),
    /// The socket leaves the namespace; `close` ends its connection too.
    Disconnect { close: bool },
    /// Something to the sockets of an audience, and who waits for the answer.
    Members(Audience, MembersOp, Option<oneshot::Sender<AppAnswer>>),
    /// An event to the sockets of an audience that asks each for an ack, and how many ms they have.
    AskAll(AskKey, Payload, Audience, u64, OnAnswers),
    /// The acks of an event are waited for so many ms from now on; 0: nobody waits for them any more.
    AskUntil(AskKey, u64),
}

/// Names an event that asks for acks. Never two of a process have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct AskKey(u64);

impl AskKey {
    pub(crate) fn new() -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        AskKey(NUMBERS.fetch_add(1, Relaxed))
    }
}

/// An operation on its way to a shard.
pub(crate) struct OnItsWay {
    pub(crate) namespace: Arc<str>,
    pub(crate) operation: Operation,
    /// Dropped when the shard has taken it.
    pub(crate) hold: Box<dyn Send>,
}

/// Names a socket: its seat, which other sockets may have had before. Never two sockets of a process have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SocketKey {
    pub(crate) conn: ConnId,
    pub(crate) seat: Seat,
    number: u64,
}

impl SocketKey {
    pub(crate) fn new(conn: ConnId, seat: Seat) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        SocketKey { conn, seat, number: NUMBERS.fetch_add(1, Relaxed) }
    }
}

/// Takes the answers of members, or the reason why nobody was asked. Dropped where the server ends before.
pub(crate) type OnAnswers = Box<dyn FnOnce(Result<Answers, Error>) + Send>;

/// A question to the members of a channel that an audience includes.
pub(crate) struct MembersQuestion {
    /// By this its time can be changed.
    pub(crate) key: Option<AskKey>,
    pub(crate) channel: ChannelName,
    pub(crate) audience: Audience,
    pub(crate) data: Data,
    /// After so many ms nobody waits for further answers.
    pub(crate) timeout_ms: u64,
    pub(crate) on_answers: OnAnswers,
    /// Held until the question is published.
    pub(crate) room: Option<OwnedSemaphorePermit>,
}

impl fmt::Debug for MembersQuestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MembersQuestion").field("channel", &self.channel).finish_non_exhaustive()
    }
}
