//! Hooks: the questions that the hub asks the application before it continues.
//!
//! Out: a [`Question`] under a token of the hub's ([`Effect::Ask`](crate::Effect::Ask)). In: one [`HookAnswer`] under
//! the same token ([`Input::HookAnswer`](crate::Input::HookAnswer)), in any order. Which questions are asked at all is
//! said by [`Hooks`]. An answer that does not come within `Limits::hook_timeout_ms` is `timeout`; one that comes later
//! finds nothing. While a question about a channel is out, later commands of the same session on that channel wait
//! behind it; when its connection ends, the command is not carried out. At most `Limits::questions_max` are out at
//! once, of which a quarter is kept for `connect` and `refresh`: beyond them the command is `unavailable`. At most
//! `Limits::session_questions_max` are about one session's commands: further ones are asked as those are answered. A
//! place is free when the application has answered or its time is up, and not sooner where the connection is gone: its
//! handler still runs, so their number is bounded.
//!
//! An identity holds until its `expires_ms`: then the connection is closed ([`Disconnect::Expired`]) and the session
//! ends, unless a `refresh` has brought a newer token of the same user. Half a minute before, the client is reminded.

use crate::attachment::Attachment;
use crate::claims;
use crate::disconnect::Disconnect;
use crate::error::Error;
use crate::ids::{ClientId, Epoch, UserId};
use crate::labels::Labels;
use crate::message::{PresenceEntry, Publication, Publish, SubOptions};
use crate::name::ChannelName;
use crate::pattern::Pattern;
use crate::rules::Grant;
use crate::token::UserToken;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// Names a question of the hub; the answer carries it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HookToken {
    pub(crate) index: u32,
    pub(crate) life: u32,
}

/// The questions that have handlers. A question without a handler costs nothing.
#[derive(Debug, Clone, Default)]
pub struct Hooks {
    /// Every `connect` is asked about, with its token, but for one that shows the ticket of a living session and no
    /// token. Otherwise a token is refused: nobody could check it.
    pub connect: bool,
    /// Subscriptions to channels of these patterns, besides those whose rule names `hook`.
    pub subscribe: Vec<Pattern>,
    /// Publications to channels of these patterns, besides those whose rule names `hook`.
    pub publish: Vec<Pattern>,
    /// Calls of methods.
    pub rpc: bool,
    /// The application is notified of the end of every session.
    pub disconnect: bool,
    /// What it is notified of about channels.
    pub channels: ChannelNotices,
}

/// What the application is notified of about channels: for each kind the patterns of the channels. Channels of the
/// server itself, whose names begin with `$`, are never among them.
#[derive(Debug, Clone, Default)]
pub struct ChannelNotices {
    /// A channel has its first subscriber, or has none any more.
    pub occupancy: Vec<Pattern>,
    /// A client has entered the presence.
    pub join: Vec<Pattern>,
    /// One has left it.
    pub leave: Vec<Pattern>,
    /// Something was published.
    pub published: Vec<Pattern>,
}

impl ChannelNotices {
    pub(crate) fn of(&self, channel: &ChannelName) -> NoticeKinds {
        let is_for =
            |patterns: &[Pattern]| !channel.starts_with('$') && patterns.iter().any(|pattern| pattern.matches(channel));
        NoticeKinds {
            occupancy: is_for(&self.occupancy),
            join: is_for(&self.join),
            leave: is_for(&self.leave),
            published: is_for(&self.published),
        }
    }
}

/// What the application is notified of about one channel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NoticeKinds {
    pub(crate) occupancy: bool,
    pub(crate) join: bool,
    pub(crate) leave: bool,
    pub(crate) published: bool,
}

/// The caller, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The session; `None` before `connect` is answered.
    pub client: Option<ClientId>,
    /// Its user, trusted.
    pub user: Option<UserId>,
    /// Facts of `on_connect`, trusted JSON.
    pub info: Option<Bytes>,
    /// Other trusted facts, which only the server sees: a JSON object. Events of channels come without them.
    pub claims: Option<Bytes>,
}

impl Caller {
    /// The claim of this name, as rules find it: `team`, or `realm_access.roles` in inner objects. `None` if there is
    /// none, and if it is of another type.
    ///
    /// ```
    /// use fanfare_hub::Caller;
    ///
    /// let claims = Some(r#"{"team":"red","realm_access":{"roles":["editor"]}}"#.into());
    /// let caller = Caller { client: None, user: None, info: None, claims };
    /// assert_eq!(caller.claim::<String>("team").as_deref(), Some("red"));
    /// assert_eq!(caller.claim::<Vec<String>>("realm_access.roles").as_deref(), Some(&["editor".to_owned()][..]));
    /// assert_eq!((caller.claim::<u64>("team"), caller.claim::<String>("plan")), (None, None));
    /// ```
    pub fn claim<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        serde_json::from_str(claims::value(self.claims.as_deref()?, name)?).ok()
    }
}

/// A question of the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// May this connection begin a session, and as which user?
    Connect {
        /// As the client sent it; never logged.
        token: Option<UserToken>,
    },
    /// The client brings a newer token for the session that it has.
    Refresh {
        /// The caller.
        caller: Caller,
        /// As the client sent it; never logged.
        token: UserToken,
    },
    /// May it subscribe?
    Subscribe {
        /// The caller.
        caller: Caller,
        /// The channel, and the options of the subscription.
        options: Box<SubOptions>,
    },
    /// May it publish this? The answer may hold another publication.
    Publish {
        /// The caller.
        caller: Caller,
        /// The publication.
        publish: Box<Publish>,
    },
    /// A call of a method.
    Rpc {
        /// The caller.
        caller: Caller,
        /// Which.
        method: Box<str>,
        /// The arguments: JSON.
        data: Bytes,
    },
}

/// How the application answers. An answer of another kind than the question is `internal`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookAnswer {
    /// To `Connect` and `Refresh`: the identity.
    Identity(Identified),
    /// To `Subscribe`: it may.
    Allowed,
    /// To `Publish`: publish this, on the channel that was asked about. JSON must be valid and without raw line
    /// breaks. The client's idempotency key stays: an edit that differs from one attempt to the next makes the second
    /// a `key_conflict`.
    Publish(Box<Publish>),
    /// To `Rpc`: the result, JSON.
    Result(Bytes),
    /// To any: no. The client gets this error.
    Refused(Error),
}

/// The identity of a caller.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identified {
    /// Its user; `None` is an anonymous caller.
    pub user: Option<UserId>,
    /// Trusted facts, as JSON, shown in presence. At most `Limits::presence_bytes_max`.
    pub info: Option<Bytes>,
    /// Until when, in ms since 1970: then the connection is closed unless a newer token came. `None` is without end.
    pub expires_ms: Option<u64>,
    /// Channels that it is subscribed to without having asked, and may subscribe to without regard to their rules. It
    /// may again on later connections of the session; a newer answer replaces the list, and ends subscriptions to
    /// channels that are not on it.
    pub subscribe: Vec<ChannelName>,
    /// What it may do where rules say `grant`. At most `Limits::grants_max`.
    pub grants: Vec<Grant>,
    /// Other trusted facts, which only the server sees: a JSON object, kept as long as the identity holds.
    pub claims: Option<Bytes>,
    /// Words by which the application finds its session again; clients are never shown them.
    pub labels: Labels,
}

/// A notification to the application, which needs no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A session has ended: not sent for each lost connection, which the session may outlive.
    SessionEnded {
        /// Whose.
        caller: Caller,
        /// Why.
        why: Ended,
        /// The shell's attachment of its last connection.
        attachment: Option<Attachment>,
    },
    /// Something has happened in a channel. Those of one channel come in order.
    Channel {
        /// Which.
        channel: ChannelName,
        /// When, in ms since 1970.
        ts_ms: u64,
        /// The event.
        event: ChannelEvent,
    },
}

/// What has happened in a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelEvent {
    /// It has a subscriber, and had none.
    Occupied,
    /// It has no subscriber any more. A subscription that ends is known a little later.
    Vacated,
    /// A client has entered its presence.
    Joined(Arc<PresenceEntry>),
    /// One has left it, or its session has ended.
    Left(Arc<PresenceEntry>),
    /// Something was published, by a client or the application: each publication once, in the order of the channel.
    Published {
        /// The epoch of its offset.
        epoch: Epoch,
        /// It.
        publication: Arc<Publication>,
    },
}

impl ChannelEvent {
    /// The bytes that it keeps while it waits for the application.
    pub fn cost(&self) -> usize {
        match self {
            ChannelEvent::Occupied | ChannelEvent::Vacated => 0,
            ChannelEvent::Joined(entry) | ChannelEvent::Left(entry) => entry.cost(),
            ChannelEvent::Published { publication, .. } => publication.cost(),
        }
    }
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Its client closed the connection, or said that it leaves.
    Left,
    /// Its client was cut off and did not come back in time.
    Lost,
    /// The server closed it, and it may not come back.
    Closed(Disconnect),
}
