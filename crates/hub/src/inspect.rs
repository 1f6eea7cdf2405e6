//! What an operator sees of sessions and channels on one shard at a moment.
//!
//! Plain copies of the state, made by [`Shard::sessions_of`](crate::Shard::sessions_of) and
//! [`Shard::channel_at`](crate::Shard::channel_at). Making one changes nothing and looks at the named sessions or the
//! named channel alone.

use crate::ids::{ClientId, ConnId, Position, ShardId, UserId};
use crate::labels::Labels;
use crate::name::ChannelName;

/// A session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionView {
    /// Its client.
    pub client: ClientId,
    /// Its user.
    pub user: Option<UserId>,
    /// Its connection. `None`: it is away, and ends when its grace is over.
    pub conn: Option<ConnId>,
    /// How many connections it has had on any shard, with this one.
    pub connections: u32,
    /// Its labels.
    pub labels: Labels,
    /// How many grants its identity has.
    pub grants: usize,
    /// When its identity expires, in ms since 1970.
    pub expires_ms: Option<u64>,
    /// Its commands that are not answered.
    pub outstanding: u32,
    /// Its connection's outbox is over its mark: it gets publications from the history as it reads.
    pub is_behind: bool,
    /// Its connection is not read at the moment, as its client has done too much lately: the option.
    pub throttled_by: Option<&'static str>,
    /// Its subscriptions.
    pub subscriptions: Vec<SubscriptionView>,
}

/// A subscription of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionView {
    /// The channel.
    pub channel: ChannelName,
    /// The pattern of the rule that governs it now.
    pub rule: Option<Box<str>>,
    /// The reason that let it in: `rule`, `hook`, `grant` or `application`.
    pub by: &'static str,
    /// How far it has come.
    pub state: SubscriptionState,
    /// The place up to which its client has been sent the channel, or needs nothing. `None` before the answer.
    pub at: Option<Position>,
    /// Whether it has entered the presence.
    pub has_entered: bool,
}

/// How far a subscription has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscriptionState {
    /// The application or the channel's home has not answered yet.
    Asking,
    /// It gets what is published.
    Live,
    /// It gets publications from the history.
    CatchingUp,
}

impl SubscriptionState {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            SubscriptionState::Asking => "asking",
            SubscriptionState::Live => "live",
            SubscriptionState::CatchingUp => "catching_up",
        }
    }
}

/// A channel as one shard knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelView {
    /// The pattern of the rule that governs it.
    pub rule: Option<Box<str>>,
    /// Its home, if that is on this shard and the channel is in use.
    pub home: Option<HomeView>,
    /// Its subscriptions on this shard, and those that are not answered yet.
    pub subscribers: u32,
    /// Where deliveries of its home have come to on this shard. `None` without subscribers.
    pub at: Option<Position>,
    /// Deliveries were missed here, and are read from the history.
    pub is_behind: bool,
    /// The first of the subscribers.
    pub some: Vec<SubscriberView>,
}

/// A channel's home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeView {
    /// Its newest place. `None` while the store is asked for it.
    pub top: Option<Position>,
    /// The shards with subscribers, as the home counts them.
    pub shards: Vec<InterestView>,
    /// Clients that have entered.
    pub present: usize,
}

/// A shard that has subscribers, as the channel's home sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterestView {
    /// Which.
    pub shard: ShardId,
    /// How many.
    pub subscribers: u32,
    /// It has not taken all deliveries, and reads them from the history.
    pub is_behind: bool,
}

/// A subscriber of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriberView {
    /// Its client.
    pub client: ClientId,
    /// Its user.
    pub user: Option<UserId>,
    /// How far its subscription has come.
    pub state: SubscriptionState,
    /// As [`SubscriptionView::at`].
    pub at: Position,
}
