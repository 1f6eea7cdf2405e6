//! The seam for protocols: decodes messages to commands, and encodes deliveries to messages.
//!
//! A [`Protocol`] is chosen by path and subprotocol and shared by its connections; a [`Conversation`] is one
//! connection's part of it. Both run on the shard's thread and must not block. The protocol encodes a publication once
//! for all receivers; the conversation encodes messages for one connection. [`Echo`] is the smallest protocol.

pub(crate) mod chat;
pub(crate) mod events;
pub(crate) mod exchange;
pub(crate) mod native;
pub(crate) mod piece;
pub(crate) mod socketio;
pub(crate) mod stream;

use crate::protocol::socketio::MembersQuestion;
use crate::request::{Peer, RequestInfo};
use fanfare_hub::{
    AppCommand, ConnId, Disconnect, HeartbeatKind, Limits, Now, OverRate, Push, Reply, Request, Seat, ShardId,
};
use std::any::Any;
use std::sync::Arc;

/// One whole message of a transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// UTF-8 text.
    Text(&'a str),
    /// Any bytes.
    Binary(&'a [u8]),
}

impl<'a> Message<'a> {
    /// A text that was written here, so that it is UTF-8.
    pub(crate) fn written(text: &'a [u8]) -> Self {
        Message::Text(std::str::from_utf8(text).unwrap_or_default())
    }
}

/// The result of encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoded {
    /// The appended bytes are a text message.
    Text,
    /// The appended bytes begin a text message, and each receiver's [`Conversation::encode_rest`] ends it. For pushes
    /// only.
    Begun,
    /// The appended bytes are a binary message.
    Binary,
    /// The appended bytes are several messages, each by [`put_message`]. They stay together, in order.
    Several,
    /// The appended bytes are the payload of the transport's own ping.
    Ping,
    /// The appended bytes are a text message, and the last one: then the connection ends.
    Last(Disconnect),
    /// The appended bytes are a binary message, and the last one: then the connection ends.
    LastBinary(Disconnect),
    /// This protocol has no message for it.
    Nothing,
    /// This protocol has no message for the error that answers a command: the client's message is ignored. The log has
    /// the error.
    Ignored,
    /// This protocol has no message for it, and the client must not miss it: the connection ends.
    Close(Disconnect),
}

/// Appends one of [several](Encoded::Several) messages. It is at most 4 GiB long.
pub fn put_message(out: &mut Vec<u8>, message: Message<'_>) {
    let (is_text, bytes) = match message {
        Message::Text(text) => (true, text.as_bytes()),
        Message::Binary(bytes) => (false, bytes),
    };
    out.push(u8::from(is_text));
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// The messages that [`put_message`] has appended: whether each is text, and its bytes.
pub(crate) fn several(mut out: &[u8]) -> impl Iterator<Item = (bool, &[u8])> {
    std::iter::from_fn(move || {
        let ([is_text, len @ ..], rest) = out.split_first_chunk::<5>()?;
        let (bytes, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        out = rest;
        Some((*is_text == 1, bytes))
    })
}

/// A message that goes straight back to its connection: a part of the bytes of [`Actions`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct ImmediateAnswer {
    /// Where its bytes end. They begin at the end of the answer before it.
    pub(crate) end: usize,
    /// It is a text message; otherwise it is a binary one.
    pub(crate) is_text: bool,
}

/// How a client has broken the rules. Engine.IO's reference server tells these apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Breach {
    /// Of its transport: frames, requests, heartbeats.
    Transport,
    /// By a packet of Engine.IO that is none.
    Packet,
    /// By a message of Socket.IO that is none, or that comes at the wrong moment.
    Message,
}

/// The actions that a conversation requests after one message.
#[derive(Debug, Default)]
pub struct Actions {
    /// The time at which the message came.
    pub now: Now,
    /// Commands for the hub, in order.
    pub requests: Vec<Request>,
    /// The session of the connection that they are for.
    pub seat: Seat,
    /// The bytes of all [`answers`](Self::answers), in order.
    pub(crate) answer_bytes: Vec<u8>,
    pub(crate) answers: Vec<ImmediateAnswer>,
    pub(crate) close: Option<Disconnect>,
    /// The client has broken the protocol so, and the words for it.
    pub(crate) breach: Option<(Breach, String)>,
    pub(crate) ignored: Option<&'static str>,
    /// A client of Socket.IO asks to enter a namespace that has handlers.
    pub(crate) entering: Option<Box<socketio::Entering>>,
    /// Questions of the application to clients.
    pub(crate) questions: Vec<MembersQuestion>,
    /// Operations of the application on sockets, whose answers nobody waits for.
    pub(crate) operations: Vec<AppCommand>,
    /// The connection is not read until the handlers have caught up.
    pub(crate) busy: bool,
    /// The client's end of the connection, for the log.
    pub(crate) peer: Peer,
}

impl Actions {
    /// Sends a message straight back to this connection.
    pub fn answer(&mut self, message: Message<'_>) {
        let (bytes, is_text) = match message {
            Message::Text(text) => (text.as_bytes(), true),
            Message::Binary(bytes) => (bytes, false),
        };
        self.answer_bytes.extend_from_slice(bytes);
        self.answers.push(ImmediateAnswer { end: self.answer_bytes.len(), is_text });
    }

    /// Counts the message as ignored (`fanfare_messages_ignored_total`). `cause` is one of a few fixed words.
    pub fn ignored(&mut self, cause: &'static str) {
        self.ignored = Some(cause);
    }

    /// Ends the connection after what was sent.
    pub fn close(&mut self, reason: Disconnect) {
        self.close = Some(reason);
    }

    pub(crate) fn begin(&mut self, now: Now, peer: Peer) {
        self.now = now;
        self.peer = peer;
        self.requests.clear();
        self.seat = Seat::default();
        self.answer_bytes.clear();
        self.answers.clear();
        self.close = None;
        self.breach = None;
        self.ignored = None;
        self.entering = None;
        self.busy = false;
        self.questions.clear();
        self.operations.clear();
    }
}

/// The surroundings of a conversation: the node with its secret and limits, and the connection with its shard.
#[derive(Clone)]
pub struct Place {
    node: Arc<Node>,
    shard: ShardId,
    /// The connection that is being opened.
    connection: ConnId,
}

pub(crate) struct Node {
    pub(crate) id: u64,
    pub(crate) secret: [u8; 32],
    pub(crate) limits: Limits,
}

impl Place {
    pub(crate) fn new(node: Arc<Node>, shard: ShardId) -> Self {
        Place { node, shard, connection: ConnId { index: 0, generation: 0 } }
    }

    /// The same for this connection.
    pub(crate) fn open(&mut self, connection: ConnId) {
        self.connection = connection;
    }

    /// The connection, on its shard.
    pub(crate) fn connection(&self) -> ConnId {
        self.connection
    }

    /// The id of this run of the node: other nodes and earlier runs have others.
    pub fn node(&self) -> u64 {
        self.node.id
    }

    /// The shard that holds the connection.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// The key of the node's seals.
    pub fn secret(&self) -> &[u8] {
        &self.node.secret
    }

    /// The node's bounds.
    pub fn limits(&self) -> &Limits {
        &self.node.limits
    }
}

/// A format of messages that clients use.
pub trait Protocol: Send + Sync + 'static {
    /// A connection has been upgraded: its conversation begins. Its first requests and messages go into `actions`.
    /// `request` is the one that the connection began with, if [`needs_request`](Self::needs_request) is true. Keep a
    /// clone of it for later use.
    fn open(&self, place: &Place, request: Option<&Arc<RequestInfo>>, actions: &mut Actions) -> Box<dyn Conversation>;

    /// Whether [`open`](Self::open) needs the request. If neither the protocol nor a handler needs it, none is kept.
    fn needs_request(&self) -> bool {
        false
    }

    /// Encodes a push for every connection that speaks this, appended to `out`, which is empty.
    fn encode_push(&self, push: &Push, now: Now, out: &mut Vec<u8>) -> Encoded;

    /// The WebSocket subprotocol by which a client asks for it; `None` serves clients that ask for none.
    fn subprotocol(&self) -> Option<&'static str> {
        None
    }

    /// Its name in metrics. Default: its subprotocol, or `custom`.
    fn name(&self) -> &'static str {
        self.subprotocol().unwrap_or("custom")
    }

    /// The largest message of a client, in bytes. Default: the server's `message_bytes_max`.
    fn message_bytes_max(&self, limits: &Limits) -> usize {
        limits.message_bytes_max
    }

    /// True where a client leaves by a command alone: one whose connection ends, however it is closed, may come back to
    /// its session. Default: a transport that is closed properly ends the session.
    fn leaves_by_command(&self) -> bool {
        false
    }

    /// Whether a connection has several sessions, one after the other or at a time.
    #[doc(hidden)]
    fn has_seats(&self) -> bool {
        false
    }

    /// How long a session outlives its connection, in ms; 0 ends both together.
    fn grace_ms(&self) -> u32 {
        0
    }

    /// Time between heartbeats, in ms.
    fn heartbeat_ms(&self) -> u32 {
        30_000
    }

    /// Time for a connection's first valid `connect`, in ms. Default: the server's `connect_timeout`.
    fn connect_timeout_ms(&self) -> Option<u64> {
        None
    }

    /// What happens to commands of a client that does more than its rates allow. Default: they are refused, and the
    /// conversation gets the errors. A protocol that cannot tell its clients lets them wait.
    fn over_rate(&self) -> OverRate {
        OverRate::Refuse
    }

    /// The kind of the heartbeats over WebSocket.
    fn heartbeat(&self) -> HeartbeatKind {
        HeartbeatKind::Asks
    }
}

/// A protocol, and the path at which it is spoken.
#[derive(Clone)]
pub(crate) struct ProtocolAtPath {
    pub(crate) path: String,
    pub(crate) protocol: Arc<dyn Protocol>,
    /// Set for Socket.IO: then requests are judged by the rules of Engine.IO besides.
    pub(crate) engine_io: Option<socketio::SocketIo>,
}

impl ProtocolAtPath {
    /// True if an upgrade at `path` with this subprotocol leads here.
    pub(crate) fn is(&self, path: &str, subprotocol: Option<&str>) -> bool {
        self.path == path && self.protocol.subprotocol() == subprotocol
    }
}

/// One connection's part of a protocol.
pub trait Conversation {
    /// A message has come. Its requests, and immediate answers, go into `actions`.
    fn message(&mut self, message: Message<'_>, actions: &mut Actions);

    /// Encodes an answer of the hub, appended to `out`, which is empty.
    fn encode_reply(&mut self, reply: &Reply, now: Now, out: &mut Vec<u8>) -> Encoded;

    /// The same for an answer to the session in one of several [seats](Actions::seat).
    fn encode_reply_in(&mut self, seat: Seat, reply: &Reply, now: Now, out: &mut Vec<u8>) -> Encoded {
        let _ = seat;
        self.encode_reply(reply, now, out)
    }

    /// Encodes the last message before the server ends the connection, appended to `out`, which is empty. `None`: the
    /// protocol's [`Push::Disconnect`] serves.
    fn last_words(&mut self, reason: Disconnect, out: &mut Vec<u8>) -> Option<Encoded> {
        let _ = (reason, out);
        None
    }

    /// A publication that ends sessions ([`Act::Disconnect`](fanfare_hub::Act)) goes to this connection, encoded for all.
    fn pushed(&mut self, push: &Push) {
        let _ = push;
    }

    /// Ends a message that [`Protocol::encode_push`] has [begun](Encoded::Begun) for all receivers of `push`: appends
    /// what this connection alone is to have, to `out`, which is empty.
    fn encode_rest(&mut self, push: &Push, out: &mut Vec<u8>) {
        let _ = (push, out);
    }

    /// Whether this connection gets a push of presence that was encoded for all. A protocol whose clients ignore known
    /// changes by their `seq` can always answer true. A protocol without such a number can skip changes here that it
    /// has already sent.
    fn takes_presence(&mut self, push: &Push) -> bool {
        let _ = push;
        true
    }

    /// Itself, where the server knows more of it than this trait does.
    #[doc(hidden)]
    fn as_any(&mut self) -> Option<&mut dyn Any> {
        None
    }
}

/// Sends every message back as it came.
#[derive(Debug, Clone, Copy, Default)]
pub struct Echo {
    message_bytes_max: Option<usize>,
}

impl Echo {
    /// An echo that takes messages of up to `bytes`.
    #[must_use]
    pub fn message_bytes_max(self, bytes: usize) -> Self {
        Echo { message_bytes_max: Some(bytes) }
    }
}

impl Protocol for Echo {
    fn name(&self) -> &'static str {
        "echo"
    }

    fn open(
        &self,
        _place: &Place,
        _request: Option<&Arc<RequestInfo>>,
        actions: &mut Actions,
    ) -> Box<dyn Conversation> {
        actions.requests.push(Request { id: None, command: fanfare_hub::Command::Connect(Box::default()) });
        Box::new(*self)
    }

    fn encode_push(&self, push: &Push, _now: Now, _out: &mut Vec<u8>) -> Encoded {
        match push {
            Push::Ping => Encoded::Ping,
            Push::Disconnect { reason, .. } => Encoded::Close(*reason),
            _ => Encoded::Nothing,
        }
    }

    fn message_bytes_max(&self, limits: &Limits) -> usize {
        self.message_bytes_max.unwrap_or(limits.message_bytes_max)
    }
}

impl Conversation for Echo {
    fn message(&mut self, message: Message<'_>, actions: &mut Actions) {
        actions.answer(message);
    }

    fn encode_reply(&mut self, _reply: &Reply, _now: Now, _out: &mut Vec<u8>) -> Encoded {
        Encoded::Nothing
    }
}
