//! The messages: commands, replies and pushes, independent of any wire format. The same types serve every protocol.

use crate::act::Act;
use crate::attachment::Attachment;
use crate::disconnect::Disconnect;
use crate::error::Error;
use crate::ids::{ClientId, Epoch, Position, Room, UserId};
use crate::labels::Labels;
use crate::name::ChannelName;
use crate::page_id::PageId;
use crate::quota::{Cost, Rate};
use crate::rules::{Grant, Slow};
use crate::token::UserToken;
use bytes::Bytes;
use std::sync::Arc;

/// The longest `event` name, in bytes.
pub const EVENT_BYTES_MAX: usize = 64;
/// The longest idempotency key, in bytes.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 64;
/// The longest text `id` of a command, in bytes.
pub const REQUEST_ID_BYTES_MAX: usize = 64;
/// The largest offset, numeric id and duration: the largest integer that a JavaScript number holds exactly.
pub const NUMBER_MAX: u64 = (1 << 53) - 1;

/// True for a valid name of an event: 1 to [`EVENT_BYTES_MAX`] bytes without control characters, quotes and
/// backslashes, so that every wire can write it as it is.
pub fn is_event(text: &str) -> bool {
    let forbidden = |c: char| c.is_control() || matches!(c, '"' | '\\');
    (1..=EVENT_BYTES_MAX).contains(&text.len()) && !text.contains(forbidden)
}

/// A payload, kept as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// One valid JSON text without raw line breaks outside of strings (there are none inside of strings either).
    Json(Bytes),
    /// Any bytes; written as base64 where the wire is text.
    Binary(Bytes),
}

impl Data {
    /// The payload's bytes.
    pub fn bytes(&self) -> &Bytes {
        match self {
            Data::Json(bytes) | Data::Binary(bytes) => bytes,
        }
    }
}

/// The sender of a publication or signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    /// The session, or `None` for the application.
    pub client: Option<ClientId>,
    /// Its user, from a token or hook.
    pub user: Option<UserId>,
}

/// The receivers of a publication, where they are fewer than all subscribers. Holds live, in history and in recovery.
///
/// A subscription is in a room from its [`RoomCommand::Join`] to its [`RoomCommand::Leave`]: it sees exactly the
/// publications to that room whose places lie between the two. A reader of history without a subscription is in no
/// room.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub struct Audience {
    /// Only clients in at least one of these rooms, where not empty.
    pub rooms: Vec<Room>,
    /// Not clients in any of these rooms.
    pub except_rooms: Vec<Room>,
    /// Only these clients, where not empty.
    pub only: Vec<ClientId>,
    /// Not these clients.
    pub except: Vec<ClientId>,
}

impl Audience {
    /// Bytes that it takes, with an estimate of the overhead.
    pub(crate) fn cost(&self) -> usize {
        let rooms =
            self.rooms.iter().chain(&self.except_rooms).map(|room| size_of::<Room>() + 16 + room.as_str().len());
        size_of::<Audience>()
            + 16
            + size_of::<ClientId>() * (self.only.len() + self.except.len())
            + rooms.sum::<usize>()
    }

    /// True when `client` is meant by its id. Rooms are judged by the shard that knows the subscription.
    pub fn includes(&self, client: ClientId) -> bool {
        (self.only.is_empty() || self.only.contains(&client)) && !self.except.contains(&client)
    }
}

/// One entry of a channel. Shared by reference between shards, pages and fan-outs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// Its offset in the channel's epoch.
    pub offset: u64,
    /// The place before it: at `prev` this is the next one. Offsets need not be dense.
    pub prev: u64,
    /// The server's time of the append, in ms since 1970.
    pub ts_ms: u64,
    /// The payload.
    pub data: Data,
    /// Optional event name.
    pub event: Option<Box<str>>,
    /// The publisher's idempotency key.
    pub idempotency_key: Option<Box<str>>,
    /// The publisher, as far as the channel's rule shows it.
    pub from: Option<Sender>,
    /// The publisher's session where it is not shown, and wants no copy. (Boxed: the others pay for a pointer.)
    pub hidden: Option<Box<ClientId>>,
    /// The audience, if it is not for all.
    pub audience: Option<Box<Audience>>,
    /// Its effect on the members in its audience, besides being shown, or instead.
    pub act: Option<Box<Act>>,
    /// False when the publisher asked not to get its own copy live.
    pub echo: bool,
    /// The epoch, in the first publication of one: its live copy shows subscribers where they are now. (Boxed: the
    /// others pay for a pointer.)
    pub begins: Option<Box<Epoch>>,
}

impl Publication {
    /// The bytes that it takes while it is kept: payload, texts and an estimate of the overhead.
    pub fn cost(&self) -> usize {
        const OVERHEAD: usize = std::mem::size_of::<Publication>() + 64;
        OVERHEAD
            + self.data.bytes().len()
            + self.event.as_deref().map_or(0, str::len)
            + self.idempotency_key.as_deref().map_or(0, str::len)
            + self.audience.as_deref().map_or(0, Audience::cost)
            + self.act.as_deref().map_or(0, Act::cost)
            + self.from.as_ref().and_then(|from| from.user.as_ref()).map_or(0, |user| user.0.len())
    }

    /// The session that published it, where that matters: where it is shown, or wants no copy.
    pub(crate) fn client(&self) -> Option<ClientId> {
        self.hidden.as_deref().copied().or_else(|| self.from.as_ref()?.client)
    }

    /// True when it is not for every subscriber: its audience is limited, or its publisher does not want its own copy.
    pub fn is_narrow(&self) -> bool {
        self.audience.is_some() || !self.echo
    }

    /// True when clients are shown it.
    pub fn is_shown(&self) -> bool {
        self.act.as_deref().is_none_or(Act::is_shown)
    }

    /// True when it does something to the members that come to it, besides being shown.
    pub(crate) fn does(&self) -> bool {
        self.act.as_deref().is_some_and(|act| !matches!(act, Act::Answer { .. }))
    }

    /// True when it is only for clients in certain rooms.
    pub fn is_to_rooms(&self) -> bool {
        self.audience.as_deref().is_some_and(|audience| !audience.rooms.is_empty())
    }

    /// True when `client` is to have it in history and recovery, as far as ids say (live, its own copy may be unwanted
    /// besides).
    pub fn is_for(&self, client: ClientId) -> bool {
        self.audience.as_deref().is_none_or(|a| a.includes(client))
    }
}

/// The `id` of a command: its reply carries the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RequestId {
    /// An integer 0..=2⁵³−1.
    Number(u64),
    /// A text of up to 64 bytes.
    Text(Box<str>),
}

/// One command of a client. With an `id` it gets exactly one reply, without one at most an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The id, where a reply is wanted.
    pub id: Option<RequestId>,
    /// The command.
    pub command: Command,
}

/// A command of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// The first command of a connection.
    Connect(Box<Connect>),
    /// Subscribes to one or several channels; `many` decides the form of the reply.
    Subscribe {
        /// One entry a channel.
        subs: Vec<SubOptions>,
        /// True when the client sent a list: then one `result` holds all the answers.
        many: bool,
    },
    /// Ends a subscription, and with it the presence in the channel.
    Unsubscribe {
        /// The channel.
        channel: ChannelName,
    },
    /// Appends to a channel.
    Publish(Box<Publish>),
    /// Asks for retained publications.
    History {
        /// The channel.
        channel: ChannelName,
        /// Which ones.
        query: HistoryQuery,
    },
    /// Asks who is present.
    Presence {
        /// The channel.
        channel: ChannelName,
    },
    /// Sends a signal.
    Signal(Box<Signal>),
    /// Enters the channel, or changes one's entry.
    PresenceSet {
        /// The channel.
        channel: ChannelName,
        /// JSON that others see.
        data: Bytes,
        /// The identity that the client claims, if the protocol has one.
        person: Option<Box<str>>,
    },
    /// Leaves the presence of the channel and stays subscribed.
    PresenceClear {
        /// The channel.
        channel: ChannelName,
    },
    /// About rooms of a channel. For the server's own protocols: the native one has no rooms.
    Room(Box<RoomCommand>),
    /// Calls a method of the application.
    Rpc {
        /// Which.
        method: Box<str>,
        /// The arguments: JSON.
        data: Bytes,
    },
    /// Shows a newer token of the same user.
    Refresh {
        /// As the client sent it; never logged.
        token: UserToken,
    },
    /// Ends the session; the connection stays, and another session may begin in this seat. For protocols whose
    /// connections carry sessions that come and go.
    Leave,
    /// Ends the session, and its connection with it: the client leaves and will not come back.
    Disconnect,
    /// Answers a heartbeat.
    Pong,
    /// A message that could not be decoded, so that it is answered and counted in its turn.
    Invalid(Error),
}

impl Command {
    /// What it takes of the rates of its client. A subscription costs as much as a message.
    pub(crate) fn cost(&self) -> Cost {
        let bytes = match self {
            Command::Publish(publish) => publish.data.bytes().len(),
            Command::Signal(signal) => signal.data.len(),
            Command::PresenceSet { data, .. } | Command::Rpc { data, .. } => data.len(),
            Command::Room(command) => match &**command {
                RoomCommand::Publish { publish, .. } => publish.data.bytes().len(),
                RoomCommand::Answer { data, .. } => data.bytes().len(),
                RoomCommand::Join { .. } | RoomCommand::Leave { .. } => 0,
            },
            _ => 0,
        };
        let messages = if let Command::Subscribe { subs, .. } = self { subs.len().max(1) } else { 1 };
        Cost { messages: messages as u64, bytes: bytes as u64, channels: 0 }
    }
}

/// A command about the rooms of a channel. A connection's commands of this kind and its publications to the channel
/// take effect in the order sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoomCommand {
    /// Enters a room. The subscription must be live. One that is in the room stays there.
    Join {
        /// The channel.
        channel: ChannelName,
        /// The room.
        room: Room,
    },
    /// Leaves a room; nothing happens where the subscription is not in it.
    Leave {
        /// The channel.
        channel: ChannelName,
        /// The room.
        room: Room,
    },
    /// Appends to the channel, for an audience.
    Publish {
        /// The publication.
        publish: Publish,
        /// Its receivers.
        audience: Audience,
    },
    /// Answers a question of the application ([`MembersOp::Ask`](crate::MembersOp)). Nothing happens where the session
    /// is not asked this, or has answered.
    Answer {
        /// The channel.
        channel: ChannelName,
        /// The number of the question.
        id: u64,
        /// The answer.
        data: Data,
    },
}

impl RoomCommand {
    /// The channel that it is about.
    pub fn channel(&self) -> &ChannelName {
        match self {
            RoomCommand::Join { channel, .. }
            | RoomCommand::Leave { channel, .. }
            | RoomCommand::Answer { channel, .. } => channel,
            RoomCommand::Publish { publish, .. } => &publish.channel,
        }
    }
}

/// The facts about a caller that the transport and the authentication found, and the session that it wants to take up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Connect {
    /// A token, unchecked: the application is asked about it. Never logged.
    pub token: Option<UserToken>,
    /// The user, where the protocol itself has proven that. Where the application is asked
    /// ([`Hooks::connect`](crate::Hooks)) its word counts, and this does not.
    pub user: Option<UserId>,
    /// Other facts that were proven.
    pub proof: Proof,
    /// The session of an earlier connection, from a ticket whose seal was checked. As long as that session lives
    /// nobody is asked where no token is shown; when it is gone the ticket is worth nothing, and this is a `connect`
    /// like any first one.
    pub resume: Option<Resume>,
    /// Only that session is wanted. Where it does not go on no other one begins, and the answer is the error
    /// `not_connected`: the protocol asks anew, with what it has not shown yet.
    pub only_resume: bool,
    /// The page that it comes from. A session with an open connection is taken over by the page that opened it and by
    /// no other.
    pub page: Option<PageId>,
    /// The last answer to its polls that the client has had, where the session was polled: the signals for it alone in
    /// later answers ([`Input::PollAnswered`](crate::Input)) come again. `None`: it says nothing, and all come again that
    /// it has not acknowledged.
    pub ack: Option<u64>,
    /// Subscriptions made in the same step.
    pub subscribe: Vec<SubOptions>,
    /// What the program keeps of the session from now on, as long as that lives, on whichever shard.
    pub program: Option<Attachment>,
}

/// The content of a ticket: the session that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resume {
    /// The shard that owned it when the ticket was made.
    pub shard: crate::ids::ShardId,
    /// Its client id.
    pub client: ClientId,
}

/// How a channel is to be followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubOptions {
    /// The channel.
    pub channel: ChannelName,
    /// Where the client was.
    pub since: Option<Position>,
    /// The newest n, where `since` is absent or cannot be honoured.
    pub recent: Option<u32>,
    /// Joins and leaves are wanted.
    pub presence: bool,
    /// Signals are wanted.
    pub signals: bool,
    /// Deliveries are to be gathered.
    pub batch: Option<Batch>,
    /// The reaction when this subscriber reads too slowly, in place of the rule's. Only
    /// one that asks no more of the server than the rule's.
    pub slow: Option<Slow>,
    /// The place and the rooms of the subscription are kept while its session lives without a connection, and a
    /// subscription of the same session that asks for this too goes on with them. `since` is then the last publication
    /// that the client has had, however long ago: publications that were not for it count for nothing, and those before
    /// its last answer to a ping are known to have arrived. `recovered` is true where it goes on; else it begins here,
    /// in no room. `recent` is for a client that has had none. A refusal as `unavailable` changes nothing: another try
    /// goes on.
    pub keep: bool,
    /// With `keep`: only where all subscriptions of the session are kept. Another one ends with the connection, and a
    /// client that goes on would not learn that.
    pub whole: bool,
}

impl SubOptions {
    /// The defaults for `channel`: live publications and signals.
    pub fn new(channel: ChannelName) -> Self {
        SubOptions {
            channel,
            since: None,
            recent: None,
            presence: false,
            signals: true,
            batch: None,
            slow: None,
            keep: false,
            whole: false,
        }
    }
}

/// How the publications of a subscription are gathered: sent together when there are `size` of them, when the first
/// has waited for `delay_ms`, or when they fill a page. Both are taken rounded down to 1, 2 or 5 times a power of
/// ten, so that the subscribers of a channel share their batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Batch {
    /// At most so many, from 1; with 1 nothing is gathered.
    pub size: u32,
    /// Waiting at most so many ms; with 0 nothing is gathered.
    pub delay_ms: u32,
}

/// A publication that is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// The channel.
    pub channel: ChannelName,
    /// The payload.
    pub data: Data,
    /// Optional event name.
    pub event: Option<Box<str>>,
    /// Idempotency key.
    pub idempotency_key: Option<Box<str>>,
    /// Whether the publisher wants its own copy live.
    pub echo: bool,
}

/// Which retained publications are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryQuery {
    /// Forwards or backwards, from where.
    pub from: HistoryFrom,
    /// At most this many that the reader may see.
    pub limit: u32,
}

/// Where a history query begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryFrom {
    /// The newest ones.
    Newest,
    /// Those after a position, oldest first.
    Since(Position),
    /// The last ones before a position.
    Before(Position),
}

/// Fire and forget, to current subscribers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signal {
    /// The channel.
    pub channel: ChannelName,
    /// Its kind, for example `typing`.
    pub event: Box<str>,
    /// Its payload, JSON.
    pub data: Bytes,
    /// Only this client: then it is ordered and never coalesced.
    pub to: Option<ClientId>,
}

/// A signal on its way, with its sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignalPush {
    /// The payload.
    pub signal: Signal,
    /// The sender.
    pub from: Sender,
    /// When the home took it, in ms since 1970.
    pub ts_ms: u64,
}

/// A client that has entered a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceEntry {
    /// The session.
    pub client: ClientId,
    /// Its user, trusted.
    pub user: Option<UserId>,
    /// Facts from the token or hook, trusted JSON.
    pub info: Option<Bytes>,
    /// The client's data about itself, JSON.
    pub data: Bytes,
    /// The name that it claims if it has no user. Untrusted: it only joins entries to one person.
    pub person: Option<Box<str>>,
}

impl PresenceEntry {
    /// The person whom this entry shows: the user, or else the name that the client gives. `None`: only this client.
    pub fn person(&self) -> Option<&str> {
        self.user.as_ref().map(|user| &*user.0).or(self.person.as_deref())
    }

    /// The bytes that it takes in a message: texts and an estimate of the overhead.
    pub fn cost(&self) -> usize {
        const OVERHEAD: usize = 64;
        OVERHEAD
            + self.user.as_ref().map_or(0, |user| user.0.len())
            + self.info.as_ref().map_or(0, Bytes::len)
            + self.data.len()
            + self.person.as_ref().map_or(0, |person| person.len())
    }
}

/// The presence of a channel, at `seq`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceSnapshot {
    /// The channel's presence number; pushes at or below it are contained.
    pub seq: u64,
    /// How many have entered.
    pub count: u64,
    /// The entries, unless only the count is sent.
    pub entries: Option<Vec<Arc<PresenceEntry>>>,
}

impl PresenceSnapshot {
    /// The bytes that it takes in a message.
    pub fn cost(&self) -> usize {
        self.entries.iter().flatten().map(|entry| entry.cost()).sum()
    }
}

/// How presence changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PresenceKind {
    /// Entered.
    Join,
    /// Left, or was away for longer than the grace.
    Leave,
    /// Changed its data.
    Update,
}

/// One change of a channel's presence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresencePush {
    /// The channel.
    pub channel: ChannelName,
    /// The change.
    pub kind: PresenceKind,
    /// Whose.
    pub entry: Arc<PresenceEntry>,
    /// For a leave: the same [person](PresenceEntry::person) is still there by another entry, say in a second tab.
    pub still_there: bool,
    /// The channel's presence number.
    pub seq: u64,
    /// The server's time, in ms since 1970.
    pub ts_ms: u64,
}

/// The answer to a command, for one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The command's id; `None` where the protocol answers without one (the subscriptions made by `connect`).
    pub id: Option<RequestId>,
    /// The answer.
    pub body: ReplyBody,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplyBody {
    /// To `connect`.
    Connected(Box<Connected>),
    /// To `subscribe`.
    Subscribed(Box<Subscribed>),
    /// To `unsubscribe`.
    Unsubscribed {
        /// The channel.
        channel: ChannelName,
    },
    /// To `publish`.
    Published {
        /// Its position.
        position: Position,
        /// True if the key had been used: the position is that of the first publication.
        duplicate: bool,
    },
    /// To `history`.
    History(Box<History>),
    /// To `presence`.
    Presence {
        /// The channel.
        channel: ChannelName,
        /// The clients that are there.
        snapshot: PresenceSnapshot,
    },
    /// To `rpc`: JSON.
    Result(Bytes),
    /// To `refresh`.
    Refreshed {
        /// How many ms the token holds from now on; `None` is without end.
        expires_in_ms: Option<u64>,
    },
    /// Unasked: the token expires soon, and no newer one was shown.
    Expiring {
        /// In how many ms.
        expires_in_ms: u64,
    },
    /// Done, and there is nothing to say.
    Done,
    /// To a `subscribe` of several channels: `subscribed` or `error` each, in the order asked.
    Many(Vec<ReplyBody>),
    /// Refused.
    Error(Error),
}

/// The session that a connection now serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// Its public id.
    pub client: ClientId,
    /// Its user.
    pub user: Option<UserId>,
    /// True when it is the session that the ticket named.
    pub resumed: bool,
    /// Rises with each connection of the session: 0 is its first.
    pub incarnation: u32,
    /// Milliseconds between heartbeats.
    pub ping_ms: u64,
    /// Other facts that were proven.
    pub proof: Proof,
    /// How many ms that holds from now on; `None` is without end.
    pub expires_in_ms: Option<u64>,
    /// How many commands it may send ([`Quotas`](crate::Quotas)), and how many bytes in them.
    pub message_rate: Option<Rate>,
    /// See there.
    pub byte_rate: Option<Rate>,
    /// What the program kept of the session until now ([`Connect::program`]).
    pub before: Option<Attachment>,
}

/// The proven facts about a caller, besides its user.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Proof {
    /// Trusted facts about the caller, as JSON, shown in presence.
    pub info: Option<Bytes>,
    /// Until when it holds, in ms since 1970; `None` is without end.
    pub expires_ms: Option<u64>,
    /// Channels that it may subscribe to whatever their rules say.
    pub granted: Vec<ChannelName>,
    /// What it may do where rules say `grant`.
    pub grants: Arc<[Grant]>,
    /// Other trusted facts that only the server sees: a JSON object.
    pub claims: Option<Bytes>,
    /// Words by which the application finds its session again.
    pub labels: Labels,
}

impl Proof {
    /// How many ms it holds at this time.
    pub(crate) fn expires_in_ms(&self, wall_ms: u64) -> Option<u64> {
        self.expires_ms.map(|at| at.saturating_sub(wall_ms))
    }
}

/// A subscription that is live, or will be after the pages that follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribed {
    /// The channel.
    pub channel: ChannelName,
    /// The position after `publications`.
    pub position: Position,
    /// With `since`: whether every retained publication after it follows.
    pub recovered: Option<bool>,
    /// The first page.
    pub publications: Vec<Arc<Publication>>,
    /// True when more pages follow as messages, before anything live.
    pub more: bool,
    /// The rooms in which it is: those of a kept subscription that goes on ([`SubOptions::keep`]), in the order in
    /// which it entered them.
    pub rooms: Vec<Room>,
}

/// A page of history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// The channel.
    pub channel: ChannelName,
    /// The channel's newest position.
    pub top: Position,
    /// The publications, oldest first.
    pub publications: Vec<Arc<Publication>>,
    /// True when the query would have found more that the reader may see.
    pub more: bool,
    /// With [`HistoryFrom::Since`]: true when publications between that place and the first of this page, or the
    /// newest position if the page is empty, are not in the history any more, or may not be read by the reader. Never
    /// together with `reset`.
    pub gap: bool,
    /// True when the place that was asked for is none of this channel's log: it is of another epoch, or beyond the top.
    pub reset: bool,
}

/// A message that the server sends by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Push {
    /// A publication.
    Message {
        /// Its channel.
        channel: ChannelName,
        /// The epoch of its offset.
        epoch: Epoch,
        /// It.
        publication: Arc<Publication>,
    },
    /// Publications that were gathered for subscribers that asked for batches: two or more, in order.
    Messages {
        /// Their channel.
        channel: ChannelName,
        /// They.
        publications: Arc<[Arc<Publication>]>,
    },
    /// A publication that is in no log: it is for connections that take more now, and lost for others. For the server's
    /// own protocols.
    Volatile {
        /// The channel.
        channel: ChannelName,
        /// It. Its offset is none of its own.
        publication: Arc<Publication>,
    },
    /// A signal.
    Signal(Arc<SignalPush>),
    /// Somebody entered, left or changed.
    Presence(Arc<PresencePush>),
    /// Presence is only counted here, or was missed: how many there are now.
    PresenceCount {
        /// The channel.
        channel: ChannelName,
        /// How many have entered.
        count: u64,
        /// The channel's presence number.
        seq: u64,
    },
    /// Presence changes were missed while the client was behind: the whole again.
    PresenceSnapshot {
        /// The channel.
        channel: ChannelName,
        /// The clients that are there.
        snapshot: Arc<PresenceSnapshot>,
    },
    /// Live from here; earlier publications are lost, or were skipped for a subscriber that wants only the latest.
    Gap {
        /// The channel.
        channel: ChannelName,
        /// The position at which it continues.
        position: Position,
        /// True for a new epoch.
        reset: bool,
    },
    /// The application subscribed the session to a channel.
    Subscribed(Box<Subscribed>),
    /// The server ended the subscription.
    Unsubscribed {
        /// The channel.
        channel: ChannelName,
        /// Why.
        error: Error,
    },
    /// Is anybody there?
    Ping,
    /// The positions that the client has reached in its live channels, in the place of a ping where
    /// [`HeartbeatKind::Marks`](crate::HeartbeatKind) is chosen. Publications that are not for the client move them on too.
    Mark {
        /// One for each channel.
        positions: Box<[(ChannelName, Position)]>,
    },
    /// The connection ends.
    Disconnect {
        /// Why.
        reason: Disconnect,
        /// When to come back, in ms, where that makes sense.
        delay_ms: u64,
    },
}

/// Fresh start of a channel's numbering, as `subscribed` and `history` name it.
pub(crate) fn start_of(epoch: Epoch) -> Position {
    Position { epoch, offset: 0 }
}
