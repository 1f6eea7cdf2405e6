//! The application's side: its commands to a node, besides those of clients, and their answers.
//!
//! In: [`AppCommand`]s under a token of the shell's choosing ([`Input::App`](crate::Input::App)), on any shard. Out:
//! exactly one [`AppAnswer`] under the same token ([`Effect::Answer`](crate::Effect::Answer)). No rule is asked
//! whether the application may; that a rule governs the channel at all is (`no_rule`), for it says what is kept.

use crate::disconnect::Disconnect;
use crate::error::Error;
use crate::ids::{ClientId, Position, UserId};
use crate::listing::{Among, ConnectionCursor, ConnectionInfo, UserInfo, UserStatus};
use crate::members::{MemberInfo, MembersCommand, MembersOp};
use crate::message::{Audience, History, HistoryQuery, PresenceSnapshot, Publish, Signal, SubOptions};
use crate::name::ChannelName;
use crate::pattern::Pattern;
use std::sync::Arc;

/// The most channels of one page of [`AppCommand::Channels`].
pub const CHANNELS_MAX: u32 = 1_000;

/// The most users and clients that may be banned at a time.
pub const BANS_MAX: usize = 100_000;
/// The most bans that an answer to [`AppCommand::Bans`] has.
pub const BANS_LIMIT_MAX: u32 = 1_000;

/// The longest time over which [`AppCommand::Reconnect`] spreads: an hour.
pub const RECONNECT_SPREAD_MS_MAX: u64 = 3_600_000;

/// Names a question of the application. Chosen by the shell; the answer carries it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AppToken(pub u64);

/// The sessions that a command is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whom {
    /// Every session of this user.
    User(UserId),
    /// The session with this public id.
    Client(ClientId),
    /// Every session that has this label. It cannot be banned.
    Label(Box<str>),
}

impl Whom {
    /// Every session of the user with this name.
    pub fn user(name: &str) -> Whom {
        Whom::User(UserId(name.into()))
    }
}

impl From<ClientId> for Whom {
    fn from(client: ClientId) -> Whom {
        Whom::Client(client)
    }
}

/// A command of the application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppCommand {
    /// Appends to a channel.
    Publish {
        /// The publication. `echo` means nothing here.
        publish: Box<Publish>,
        /// The audience, if it is not for all.
        audience: Option<Box<Audience>>,
        /// The name of the API key, in whose scope the idempotency key is unique. `None` is the embedding program.
        by: Option<Arc<str>>,
    },
    /// Sends a signal to current subscribers, or to one client.
    Signal(Box<Signal>),
    /// Asks for retained publications.
    History {
        /// The channel.
        channel: ChannelName,
        /// Which ones.
        query: HistoryQuery,
    },
    /// Drops every retained publication of the channel; epoch and top stay.
    HistoryRemove {
        /// The channel.
        channel: ChannelName,
    },
    /// Asks who is present.
    Presence {
        /// The channel.
        channel: ChannelName,
    },
    /// Lists the channels that live on this node now, in the order of their names.
    Channels {
        /// Only those whose name matches.
        pattern: Option<Pattern>,
        /// Only those after this name.
        after: Option<ChannelName>,
        /// At most this many; 1 to [`CHANNELS_MAX`], and a number outside of that counts as the nearest one.
        limit: u32,
    },
    /// Subscribes sessions that have a connection to a channel, as if they had asked and the rule let them: they get
    /// `subscribed` as a push. The rules are not asked as long as the subscription lasts; a client that comes back with
    /// it has it again. Answered when they are live. A session that was subscribed already counts too, and then no rule
    /// ends its subscription.
    Subscribe {
        /// Whose.
        whom: Whom,
        /// How.
        options: Box<SubOptions>,
    },
    /// Ends subscriptions, and the application's grants of the channel by a command or with a token; the sessions
    /// get `unsubscribed` as a push. One that is away loses its presence in the channel. The command waits for no
    /// decision: an undecided subscription is refused, and an undecided publication continues. A client that the rules
    /// allow can subscribe again, and a newer token that names the channel grants it again.
    Unsubscribe {
        /// Whose.
        whom: Whom,
        /// The channel.
        channel: ChannelName,
    },
    /// Ends connections and, unless the reason lets them come back, their sessions at once, those that are away too.
    Disconnect {
        /// Whose.
        whom: Whom,
        /// Why.
        reason: Disconnect,
        /// Bans for so many ms: until then each `connect` as this user, or with the ticket of this client, is refused.
        /// A later ban replaces an earlier one. It holds as long as the process. The reason must be one after which
        /// clients do not come back.
        ban_ms: Option<u64>,
    },
    /// Closes the connections of sessions with [`Disconnect::Reconnect`], each at a random instant of a time, so that
    /// their clients come back by themselves and not all at once. Their sessions go on. A connection whose instant is
    /// fixed already keeps it, unless it is to be closed at once.
    Reconnect {
        /// Whose.
        whom: Whom,
        /// The time, in ms; at most [`RECONNECT_SPREAD_MS_MAX`]. 0: at once.
        spread_ms: u64,
    },
    /// Ends a ban.
    Unban {
        /// Whose.
        whom: Whom,
    },
    /// Asks who is banned.
    Bans {
        /// Only this user or client.
        whom: Option<Whom>,
        /// At most this many; 1 to [`BANS_LIMIT_MAX`], and a number outside of that counts as the nearest one.
        limit: u32,
    },
    /// Does something to the members of a channel, or asks who they are.
    Members(Box<MembersCommand>),
    /// Lists sessions that have a connection. See the module `listing` for the order and the cost.
    Connections {
        /// Of which.
        among: Among,
        /// Only those after this place.
        after: Option<ConnectionCursor>,
        /// At most this many; 1 to [`LISTED_MAX`](crate::LISTED_MAX), and a number outside of that counts as the
        /// nearest one.
        limit: u32,
    },
    /// Lists the users that have a connection, in the order of their ids.
    Users {
        /// Only subscribers of this channel.
        channel: Option<ChannelName>,
        /// Only those after this one.
        after: Option<UserId>,
        /// As of `Connections`.
        limit: u32,
    },
    /// Asks whether users are connected.
    UserStatus {
        /// Which, at most [`STATUS_USERS_MAX`](crate::STATUS_USERS_MAX).
        users: Arc<[UserId]>,
    },
    /// Asks for figures of the node.
    Info,
}

/// How the application is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppAnswer {
    /// To `Publish`.
    Published {
        /// Its position.
        position: Position,
        /// True if the key had been used: the position is that of the first publication.
        duplicate: bool,
        /// How many sessions are subscribed on this node. A session that has left is counted for up to 128 ms, the tick
        /// of the hub's clock.
        subscribers: u64,
    },
    /// To `History`.
    History(Box<History>),
    /// To `Presence`.
    Presence(PresenceSnapshot),
    /// To `Channels`.
    Channels {
        /// A page of them.
        channels: Vec<ChannelInfo>,
        /// True when there are more after the last one.
        more: bool,
    },
    /// To `Subscribe`, `Unsubscribe`, `Reconnect`, and `Disconnect` without a ban: how many sessions it concerned. 0 is
    /// an answer and no error.
    Concerned(u64),
    /// To `Disconnect` with a ban.
    Banned {
        /// How many sessions it concerned.
        sessions: u64,
        /// The end of the ban, in ms since 1970.
        until_ms: u64,
    },
    /// To `Unban`.
    Unbanned {
        /// Whether there was a ban.
        was_banned: bool,
    },
    /// To `Bans`. Users come first, each kind in the order of its ids.
    Bans {
        /// The bans.
        bans: Vec<Ban>,
        /// True when there are more.
        more: bool,
    },
    /// To `Members`, where it asks who they are. In no order.
    Members(Vec<MemberInfo>),
    /// To `Connections`.
    Connections {
        /// A page of them.
        connections: Vec<ConnectionInfo>,
        /// Where to go on; `None` at the end. A page with a cursor may be short, or empty.
        next: Option<ConnectionCursor>,
    },
    /// To `Users`.
    Users {
        /// A page of them, in the order of their ids.
        users: Vec<UserInfo>,
        /// As of `Connections`.
        next: Option<UserId>,
    },
    /// To `UserStatus`, in the order of the question.
    UserStatus(Vec<UserStatus>),
    /// To `Info`.
    Info(Box<NodeInfo>),
    /// Done, and there is nothing to say.
    Done,
    /// Refused.
    Error(Error),
}

impl AppCommand {
    /// The same, about the session of this client. A ban stays with the one who was named.
    pub(crate) fn for_client(&self, client: ClientId) -> AppCommand {
        let mut command = self.clone();
        if let AppCommand::Disconnect { ban_ms, .. } = &mut command {
            *ban_ms = None;
        }
        if let AppCommand::Subscribe { whom, .. }
        | AppCommand::Unsubscribe { whom, .. }
        | AppCommand::Disconnect { whom, .. }
        | AppCommand::Reconnect { whom, .. } = &mut command
        {
            *whom = Whom::Client(client);
        }
        command
    }

    /// True for a command that changes something, false for a question.
    pub fn changes(&self) -> bool {
        match self {
            AppCommand::Publish { .. }
            | AppCommand::Signal(_)
            | AppCommand::HistoryRemove { .. }
            | AppCommand::Subscribe { .. }
            | AppCommand::Unsubscribe { .. }
            | AppCommand::Disconnect { .. }
            | AppCommand::Reconnect { .. }
            | AppCommand::Unban { .. } => true,
            AppCommand::Members(command) => command.op != MembersOp::List,
            AppCommand::History { .. }
            | AppCommand::Presence { .. }
            | AppCommand::Channels { .. }
            | AppCommand::Connections { .. }
            | AppCommand::Users { .. }
            | AppCommand::UserStatus { .. }
            | AppCommand::Bans { .. }
            | AppCommand::Info => false,
        }
    }

    /// The channel whose home takes this command; `None` for a command that goes to every shard.
    pub fn channel(&self) -> Option<&ChannelName> {
        match self {
            AppCommand::Publish { publish, .. } => Some(&publish.channel),
            AppCommand::Signal(signal) => Some(&signal.channel),
            AppCommand::History { channel, .. }
            | AppCommand::HistoryRemove { channel }
            | AppCommand::Presence { channel } => Some(channel),
            AppCommand::Members(command) => Some(&command.channel),
            AppCommand::Channels { .. }
            | AppCommand::Connections { .. }
            | AppCommand::Users { .. }
            | AppCommand::UserStatus { .. }
            | AppCommand::Subscribe { .. }
            | AppCommand::Unsubscribe { .. }
            | AppCommand::Disconnect { .. }
            | AppCommand::Reconnect { .. }
            | AppCommand::Unban { .. }
            | AppCommand::Bans { .. }
            | AppCommand::Info => None,
        }
    }
}

impl AppAnswer {
    /// Adds another shard's part.
    pub(crate) fn add(&mut self, part: AppAnswer) {
        match (self, part) {
            (AppAnswer::Concerned(sum) | AppAnswer::Banned { sessions: sum, .. }, AppAnswer::Concerned(count)) => {
                *sum += count;
            }
            (AppAnswer::Unbanned { was_banned }, AppAnswer::Unbanned { was_banned: theirs }) => *was_banned |= theirs,
            (AppAnswer::Info(sum), AppAnswer::Info(part)) => {
                sum.sessions += part.sessions;
                sum.connected += part.connected;
                sum.subscriptions += part.subscriptions;
                sum.channels += part.channels;
                sum.history_bytes += part.history_bytes;
            }
            (AppAnswer::Channels { channels, more }, AppAnswer::Channels { channels: theirs, more: theirs_go_on }) => {
                channels.extend(theirs);
                *more |= theirs_go_on;
            }
            (
                AppAnswer::Connections { connections, next },
                AppAnswer::Connections { connections: theirs, next: to },
            ) => {
                connections.extend(theirs);
                *next = least(next.take(), to);
            }
            (AppAnswer::Users { users, next }, AppAnswer::Users { users: theirs, next: to }) => {
                users.extend(theirs);
                *next = least(next.take(), to);
            }
            (AppAnswer::UserStatus(sum), AppAnswer::UserStatus(part)) => {
                for (sum, part) in sum.iter_mut().zip(part) {
                    sum.clients += part.clients;
                    sum.last_seen_ms = sum.last_seen_ms.max(part.last_seen_ms);
                }
            }
            _ => {}
        }
    }

    /// All parts are in: lists are put in order, and cut to what was asked for.
    pub(crate) fn finish(&mut self, limit: usize) {
        match self {
            AppAnswer::Channels { channels, more } => {
                channels.sort_unstable_by(|a, b| a.channel.cmp(&b.channel));
                *more |= channels.len() > limit;
                channels.truncate(limit);
            }
            // The page ends where the first shard has stopped looking: beyond that there may be others.
            AppAnswer::Connections { connections, next } => {
                connections.retain(|it| next.is_none_or(|next| it.at <= next));
                connections.sort_unstable_by_key(|it| it.at);
                if connections.len() > limit {
                    connections.truncate(limit);
                    *next = connections.last().map(|last| last.at);
                }
            }
            AppAnswer::Users { users, next } => {
                users.retain(|it| next.as_ref().is_none_or(|next| it.user <= *next));
                users.sort_unstable_by(|a, b| a.user.cmp(&b.user));
                // A user may have clients on several shards.
                users.dedup_by(|later, first| {
                    let is_same = later.user == first.user;
                    first.clients += if is_same { later.clients } else { 0 };
                    is_same
                });
                if users.len() > limit {
                    users.truncate(limit);
                    *next = users.last().map(|last| last.user.clone());
                }
            }
            AppAnswer::UserStatus(users) => {
                users.iter_mut().filter(|it| it.clients > 0).for_each(|it| it.last_seen_ms = None);
            }
            _ => {}
        }
    }
}

/// The nearer of two ends; `None` is the end of all.
fn least<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// A user or client who may not connect for a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ban {
    /// Who.
    pub whom: Whom,
    /// Its end, in ms since 1970, as the clock stands now.
    pub until_ms: u64,
}

/// A channel in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelInfo {
    /// Its name.
    pub channel: ChannelName,
    /// Sessions that are subscribed.
    pub subscribers: u64,
    /// How many have entered.
    pub present: u64,
    /// Its newest position; `None` until its store has answered.
    pub top: Option<Position>,
}

/// Figures of a node, all shards together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NodeInfo {
    /// Sessions, with and without connection.
    pub sessions: u64,
    /// Sessions with a connection.
    pub connected: u64,
    /// Subscriptions of all sessions.
    pub subscriptions: u64,
    /// Channels that live here.
    pub channels: u64,
    /// Bytes of history.
    pub history_bytes: u64,
}
