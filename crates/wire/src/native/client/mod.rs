//! The client's side of the protocol: [`ClientRequest`] to text, text to [`ServerMessage`]s.
//!
//! Everything is owned. Epochs and client ids are opaque texts here, as the protocol has it: a client compares them
//! and sends them back. Messages of an unknown type are [`ServerMessage::Unknown`], unknown fields are ignored, so
//! that a newer server can say more. Payloads are kept as they came.

mod decode;
mod encode;
mod exchange;

pub use decode::{DecodeError, decode, decode_many};
pub use encode::{PONG, encode};
pub use exchange::{
    PollAnswer, SendAnswer, decode_poll_answer, decode_refusal, decode_send_answer, encode_attempt, encode_poll,
    encode_send,
};

use bytes::Bytes;
pub use fanfare_hub::{Batch, Slow};
use fanfare_hub::{Data, PresenceKind, RequestId};
use std::sync::Arc;

/// A place in a channel, as the server sent it. Compare it for equality, keep it, send it back; do not compute with it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Position {
    /// Equal offsets in two epochs are different messages.
    pub epoch: Arc<str>,
    /// Rises within an epoch, not always by one.
    pub offset: u64,
}

/// One command with its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientRequest {
    /// With an id there is exactly one reply, without one at most an error.
    pub id: Option<RequestId>,
    /// The command.
    pub command: ClientCommand,
}

/// The commands of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientCommand {
    /// The first command of a connection.
    Connect {
        /// The client's token.
        token: Option<Box<str>>,
        /// The session that it comes from.
        ticket: Option<Box<str>>,
        /// A random value of this client, the same on all its connections and on no other's.
        page: Option<Box<str>>,
        /// The last answer to its polls that it has had, where it polled before.
        ack: Option<u64>,
        /// Subscriptions made in the same step.
        subscribe: Vec<Subscribe>,
    },
    /// Follows a channel.
    Subscribe(Box<Subscribe>),
    /// Follows several channels; the reply is one `result`, see [`decode_many`].
    SubscribeMany(Vec<Subscribe>),
    /// Ends a subscription.
    Unsubscribe {
        /// The channel.
        channel: Arc<str>,
    },
    /// Appends to a channel.
    Publish(Box<Publish>),
    /// Asks for retained publications.
    History {
        /// The channel.
        channel: Arc<str>,
        /// From where.
        from: HistoryFrom,
        /// At most so many; the server's default where absent.
        limit: Option<u32>,
    },
    /// Asks who is present.
    Presence {
        /// The channel.
        channel: Arc<str>,
    },
    /// Fire and forget.
    Signal {
        /// The channel.
        channel: Arc<str>,
        /// Its kind.
        event: Box<str>,
        /// JSON.
        data: Bytes,
        /// Only this client.
        to: Option<Arc<str>>,
    },
    /// Enters the channel, or changes one's entry.
    PresenceSet {
        /// The channel.
        channel: Arc<str>,
        /// JSON.
        data: Bytes,
    },
    /// Leaves the presence of the channel.
    PresenceClear {
        /// The channel.
        channel: Arc<str>,
    },
    /// Shows a new token before the old one expires.
    Refresh {
        /// It.
        token: Box<str>,
    },
    /// Calls a method of the application.
    Rpc {
        /// Its name.
        method: Box<str>,
        /// JSON.
        data: Bytes,
    },
    /// Ends the session.
    Disconnect,
    /// Answers a heartbeat.
    Pong,
}

/// How a channel is to be followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// The channel.
    pub channel: Arc<str>,
    /// The place that the client has reached.
    pub since: Option<Position>,
    /// The newest n, where `since` is absent or cannot be honoured.
    pub recent: Option<u32>,
    /// Joins and leaves are wanted.
    pub presence: bool,
    /// Signals are wanted.
    pub signals: bool,
    /// Publications come gathered, in arrays: fewer and larger frames for a client that does not need each at once.
    pub batch: Option<Batch>,
    /// The reaction when this client reads too slowly, if it wants another one than the channel's rule. `Latest`:
    /// a [`Gap`](ServerMessage::Gap) and the newest publication in place of all that was missed. The server refuses a
    /// choice that asks more of it than the rule's.
    pub slow: Option<Slow>,
}

impl Subscribe {
    /// The defaults for `channel`: live publications and signals.
    pub fn new(channel: impl Into<Arc<str>>) -> Self {
        Subscribe {
            channel: channel.into(),
            since: None,
            recent: None,
            presence: false,
            signals: true,
            batch: None,
            slow: None,
        }
    }
}

/// A publication that is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// The channel.
    pub channel: Arc<str>,
    /// The payload.
    pub data: Data,
    /// Optional event name.
    pub event: Option<Box<str>>,
    /// Idempotency key.
    pub idempotency_key: Option<Box<str>>,
    /// Whether the publisher wants its own copy.
    pub echo: bool,
}

/// Where a history query begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HistoryFrom {
    /// The newest ones.
    Newest,
    /// Those after a position, oldest first.
    Since(Position),
    /// The last ones before a position.
    Before(Position),
}

/// A message of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerMessage {
    /// To `connect`.
    Connected(Box<Connected>),
    /// To `subscribe`, and for each subscription of `connect`.
    Subscribed(Box<Subscribed>),
    /// To `unsubscribe`; without an id the server ended the subscription.
    Unsubscribed(Box<Unsubscribed>),
    /// To `publish`.
    Published {
        /// The command's.
        id: Option<RequestId>,
        /// Where it stands.
        position: Position,
        /// True when the key had been used for the same payload.
        duplicate: bool,
    },
    /// To `history`.
    History(Box<History>),
    /// To `presence`; without an id it replaces the known presence.
    Presence(Box<Presence>),
    /// To everything else that went well.
    Result {
        /// The command's.
        id: Option<RequestId>,
        /// JSON, where there is something to say.
        data: Option<Bytes>,
        /// To `refresh`: how many ms the token is good for.
        expires_ms: Option<u64>,
    },
    /// Refused.
    Error(Box<ErrorReply>),
    /// A publication.
    Message {
        /// Its channel.
        channel: Arc<str>,
        /// The epoch of its offset, where it is the first one in it; else it is in the epoch of the one before.
        epoch: Option<Arc<str>>,
        /// It.
        publication: Box<Publication>,
    },
    /// A signal.
    Signal(Box<Signal>),
    /// Somebody entered, left or changed.
    PresenceChange(Box<PresenceChange>),
    /// The number of members, where only that is sent.
    PresenceCount {
        /// The channel.
        channel: Arc<str>,
        /// How many.
        count: u64,
        /// The channel's presence number.
        seq: u64,
    },
    /// Live from here; earlier publications are lost.
    Gap {
        /// The channel.
        channel: Arc<str>,
        /// Where it goes on.
        position: Position,
        /// True for a new epoch.
        reset: bool,
    },
    /// The session's new name.
    Ticket {
        /// It.
        ticket: Box<str>,
    },
    /// The token expires soon: time to show a newer one.
    TokenExpiring {
        /// In how many ms.
        expires_ms: u64,
    },
    /// Is anybody there?
    Ping,
    /// The connection ends.
    Disconnect {
        /// The close code that follows.
        code: u16,
        /// A stable word.
        reason: Box<str>,
        /// Whether to come back.
        retry: bool,
        /// When, in ms.
        delay_ms: u64,
    },
    /// Something that this version does not know.
    Unknown {
        /// Its type.
        kind: Box<str>,
    },
}

/// The session that a connection now serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// The command's.
    pub id: Option<RequestId>,
    /// One's own public id.
    pub client: Arc<str>,
    /// One's own user.
    pub user: Option<Arc<str>>,
    /// True when it is the session that the ticket named.
    pub session_resumed: bool,
    /// The ticket to come back with.
    pub ticket: Option<Box<str>>,
    /// How many ms the token is good for; `None` is without end.
    pub expires_ms: Option<u64>,
    /// Milliseconds between heartbeats.
    pub ping_ms: u64,
    /// E.g. `fanfare.v1`.
    pub protocol: Box<str>,
    /// The features of this server.
    pub features: Vec<Box<str>>,
    /// Its limits, as far as it names them.
    pub limits: ServerLimits,
}

/// The limits of a server; `None` where it does not name one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ServerLimits {
    /// Bytes of one payload.
    pub message_bytes: Option<u64>,
    /// Subscriptions of one connection.
    pub subscriptions: Option<u64>,
    /// Bytes of presence data.
    pub presence_bytes: Option<u64>,
    /// Bytes of the idempotency keys that a channel remembers.
    pub idempotency_keys_bytes: Option<u64>,
    /// For how many ms it remembers one.
    pub idempotency_keys_ttl_ms: Option<u64>,
}

/// A subscription that is live, or will be after the pages that follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribed {
    /// The command's.
    pub id: Option<RequestId>,
    /// The channel.
    pub channel: Arc<str>,
    /// The place after `publications`.
    pub position: Position,
    /// With `since`: whether everything after it follows.
    pub recovered: Option<bool>,
    /// The first page.
    pub publications: Vec<Publication>,
    /// True when more follow as messages, before anything live.
    pub more: bool,
}

/// A subscription that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsubscribed {
    /// The command's; `None` where the server ended it.
    pub id: Option<RequestId>,
    /// The channel.
    pub channel: Arc<str>,
    /// `requested`, or an error's word.
    pub code: Box<str>,
    /// Why, in a sentence.
    pub message: Option<Box<str>>,
    /// The rule that decided.
    pub rule: Option<Box<str>>,
}

/// A page of history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// The command's.
    pub id: Option<RequestId>,
    /// The channel.
    pub channel: Arc<str>,
    /// The channel's newest place.
    pub top: Position,
    /// Oldest first.
    pub publications: Vec<Publication>,
    /// True when the query would have found more.
    pub more: bool,
    /// With `since`: true if publications between that place and the first of this page, or the newest position if the
    /// page is empty, are not in the history any more, or may not be read by this client.
    pub gap: bool,
    /// True if the requested position is not in the channel's log: it is of another epoch, or beyond the top. The
    /// client must load its copy of the channel again.
    pub reset: bool,
}

/// The presence of a channel, at `seq`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// The command's.
    pub id: Option<RequestId>,
    /// The channel.
    pub channel: Arc<str>,
    /// Changes at or below it are contained.
    pub seq: u64,
    /// How many have entered.
    pub count: u64,
    /// The members, unless only the count is sent.
    pub entries: Option<Vec<PresenceEntry>>,
}

/// A member that is present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceEntry {
    /// The session.
    pub client: Arc<str>,
    /// Its user, trusted.
    pub user: Option<Arc<str>>,
    /// JSON from the token or a hook, trusted.
    pub info: Option<Bytes>,
    /// JSON that the client gave about itself.
    pub data: Option<Bytes>,
}

/// How the presence of a channel changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceChange {
    /// The channel.
    pub channel: Arc<str>,
    /// The change.
    pub kind: PresenceKind,
    /// Whose.
    pub entry: PresenceEntry,
    /// The channel's presence number: ignore a change at or below the known one.
    pub seq: u64,
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorReply {
    /// The command's, where it had one that could be read.
    pub id: Option<RequestId>,
    /// A stable word; new ones may come.
    pub code: Box<str>,
    /// One sentence for people.
    pub message: Box<str>,
    /// Whether the same command may succeed later.
    pub retryable: bool,
    /// When, in ms.
    pub retry_after_ms: Option<u64>,
    /// The channel it is about.
    pub channel: Option<Arc<str>>,
    /// The rule that decided.
    pub rule: Option<Box<str>>,
}

/// One entry of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// Its place in the channel's epoch.
    pub offset: u64,
    /// The payload.
    pub data: Data,
    /// Event name.
    pub event: Option<Box<str>>,
    /// The publisher's idempotency key.
    pub idempotency_key: Option<Box<str>>,
    /// The publisher; `None` for the application.
    pub from: Option<From>,
    /// The server's time, in ms since 1970.
    pub ts_ms: u64,
}

/// The sender of a publication or signal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct From {
    /// The session.
    pub client: Option<Arc<str>>,
    /// Its user, trusted.
    pub user: Option<Arc<str>>,
}

/// A signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signal {
    /// The channel.
    pub channel: Arc<str>,
    /// Its kind.
    pub event: Box<str>,
    /// JSON.
    pub data: Bytes,
    /// The sender.
    pub from: From,
}
