//! The messages between shards. A shard also sends them to itself, so one code path serves both.
//!
//! **The carrier's duty**: messages from one shard to another arrive once and in the order sent. Nothing else.
//! Messages of different senders, or to different receivers, may overtake each other by any time, also where one was
//! sent because another had arrived: A hands a session over to C and tells B something of it, C hears that and tells
//! B more, and B may hear C first.
//!
//! So a message of a session to a home carries the session's *incarnation*, because it may come from more than one
//! shard. The incarnation is incremented with each connection, and so with each shard. A home lets the later
//! incarnation win, in whichever order they arrive, and remembers the clients that have left for a while
//! (`home/left.rs`). Signals for one client, which several edges may find, are numbered by the home ([`Directed`]).
//! Everything else is said within one pair of shards: `Sub`, `Members` and `Release` of an edge; `Adopted`, then the
//! commands that are passed on behind it (`session/moved.rs`); the answers and the stream of a home. The answers to one
//! question that come from several shards are counted, not ordered.
//!
//! Bytes on the way towards edges are accounted by [`PeerBody::Ack`], so a shard that does not keep up is marked
//! *behind* and pulls.

use crate::app::{AppAnswer, AppCommand};
use crate::attachment::Attachment;
use crate::error::Error;
use crate::forward::SendRequest;
use crate::identity::Identity;
use crate::ids::{ClientId, Epoch, Position, Room, SessionRef, ShardId, UserId};
pub(crate) use crate::ids::{PendingToken, ReplyAddress};
use crate::members::{AnswerPart, MemberInfo};
use crate::message::{
    History, HistoryQuery, PresenceEntry, PresencePush, PresenceSnapshot, Publication, Reply, SignalPush,
};
use crate::name::ChannelName;
use crate::page_id::PageId;
use crate::quota::{Cost, Spent};
use crate::reads::Reads;
use crate::store::{Entry, Reader};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;

/// A message from one shard to another. Opaque to its carrier.
#[derive(Debug)]
pub struct PeerMessage(pub(crate) PeerBody);

#[derive(Debug)]
pub(crate) enum PeerBody {
    /// From an edge to the home of the channel.
    Home(ChannelName, ToHome),
    /// The same, because a client wants it, which may make the channel known.
    HomeBy(ChannelName, ToHome, Maker),
    /// From a home: this session's client has made a channel known.
    Made(SessionRef),
    /// From the home of the channel to an edge.
    Edge(ChannelName, ToEdge),
    /// So many bytes of `Edge` messages have been taken in.
    Ack(usize),
    /// A session of this client may be yours, or gone on from you; a client has come to `origin` with its ticket. Let
    /// go of it and tell that shard what it was, where `claim` may take it over.
    Adopt { token: PendingToken, client: ClientId, claim: Claim, origin: ShardId },
    /// The answer to `Adopt`.
    Adopted { token: PendingToken, found: Found },
    /// Commands have come to the shard of `to` for a session of this client, which may be yours, or gone on from you.
    Forward { to: ReplyAddress, client: ClientId, send: Box<SendRequest> },
    /// The answer to `Forward`.
    Forwarded { token: PendingToken, answer: Result<Arc<[Reply]>, Error> },
    /// A session of this user is about to begin. To the home of the user.
    UserEnter { token: PendingToken, user: UserId },
    /// The answer: what the user has done lately, or the number of sessions that the user has.
    UserEntered { token: PendingToken, result: Result<Spent, u32> },
    /// A session of this user is over. To the home of the user.
    UserLeft { user: UserId },
    /// The user has done this much on another shard. To the home of the user, and from there to the others.
    UserSpent { user: UserId, cost: Cost },
    /// The application asks something that concerns every shard.
    App { token: PendingToken, command: Arc<AppCommand> },
    /// One shard's part of the answer to `App`.
    AppPart { token: PendingToken, part: AppAnswer },
    /// From an edge to the shard whose application asks members of a channel.
    Answer { token: PendingToken, part: AnswerPart },
    /// One edge's part of the list of members.
    Members { token: PendingToken, members: Vec<MemberInfo>, is_last: bool },
}

/// The session whose client may make a channel known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Maker {
    pub(crate) session: SessionRef,
    /// It has made as many as it may: the time after which it may make one more.
    pub(crate) waits_ms: Option<u64>,
}

/// The claim of a client to a session, besides its ticket.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    /// The user that it has proven to be; `None` where it showed only the ticket.
    pub(crate) shown: Option<Option<UserId>>,
    /// The page that it comes from.
    pub(crate) page: Option<PageId>,
    /// The `connect_by_ms` of its connection: a page's later connection has a later one. All shards have one clock.
    pub(crate) by_ms: u64,
    /// How long the shard that lets go remembers where the session went.
    pub(crate) remember_ms: u64,
    /// Shards to look on where one has no such session. The name of a kept session is the same for its whole life, and
    /// the shard in it remembers for a while only where the session went.
    pub(crate) looks: usize,
}

/// The outcome for the session that a ticket names.
#[derive(Debug)]
pub(crate) enum Found {
    /// It comes along.
    Session(Box<Adopted>),
    /// It stays where it is: it is of another user, on an open connection of another page, or has been on a later
    /// connection of the same page.
    Stays,
    /// It is over.
    Nothing,
}

/// The state that a session takes along to another shard.
#[derive(Debug)]
pub(crate) struct Adopted {
    pub(crate) identity: Identity,
    pub(crate) incarnation: u32,
    /// The page that it comes to, and the `connect_by_ms` of that page's connection.
    pub(crate) page: Option<PageId>,
    pub(crate) connect_by_ms: u64,
    pub(crate) grace_ms: u32,
    pub(crate) entered: Vec<Entered>,
    pub(crate) granted: Vec<ChannelName>,
    pub(crate) joined: Vec<Joined>,
    pub(crate) mailbox: Vec<Arc<SignalPush>>,
    pub(crate) directed: Vec<LastDirected>,
    pub(crate) rates: Vec<RateWindow>,
    pub(crate) sends: Option<Box<AdoptedSends>>,
    pub(crate) unheard: Option<Box<AdoptedUnheard>>,
    /// That of its last connection, for the notice of its end: the client may be away again when it arrives.
    pub(crate) attachment: Option<Attachment>,
    /// Subscriptions that it had on its last connection.
    pub(crate) kept: Vec<KeptSub>,
    /// What the program keeps of it.
    pub(crate) program: Option<Attachment>,
    /// What it has done lately, and its user as far as its last shard knows.
    pub(crate) spent: Spent,
    pub(crate) user_spent: Spent,
    /// The part of it that the user's home does not know, and will not hear of by the shard where the session was.
    pub(crate) user_untold: Cost,
}

/// A subscription of a session that has no connection.
#[derive(Debug)]
pub(crate) struct KeptSub {
    pub(crate) channel: ChannelName,
    /// All that was for it up to here has arrived.
    pub(crate) confirmed: Position,
    /// Up to where it was told.
    pub(crate) reached: Position,
    /// A stay that ended here was forgotten.
    pub(crate) forgotten: u64,
    /// Its client may not know that it has begun anew.
    pub(crate) is_unheard: bool,
    /// The last publication that its client had when it asked for it.
    pub(crate) asked_with: Option<Position>,
    /// The epoch of the stays.
    pub(crate) epoch: Option<Epoch>,
    pub(crate) stays: Vec<KeptStay>,
}

/// A stay in a room, for the publications after `joined_at` and up to `left_at`.
#[derive(Debug)]
pub(crate) struct KeptStay {
    pub(crate) room: Room,
    pub(crate) joined_at: u64,
    /// `u64::MAX` where it has not ended.
    pub(crate) left_at: u64,
}

/// The numbered sends of a session.
#[derive(Debug)]
pub(crate) struct AdoptedSends {
    /// The number of the last one that has taken effect.
    pub(crate) begun: u64,
    /// The answers to the last ones, oldest first, as far as they are kept.
    pub(crate) answers: Vec<(u64, Option<Arc<[Reply]>>)>,
}

/// The signals for it alone that a session may not have had.
#[derive(Debug)]
pub(crate) struct AdoptedUnheard {
    /// Oldest first.
    pub(crate) signals: VecDeque<Arc<SignalPush>>,
    /// The number of the last answer with some of them.
    pub(crate) answer: u64,
    /// So many of the first are in it, or were in earlier ones.
    pub(crate) in_answer: usize,
}

/// The last signal for it alone that a session has had in a channel.
#[derive(Debug)]
pub(crate) struct LastDirected {
    pub(crate) channel: ChannelName,
    pub(crate) number: u64,
}

/// A channel that shows a session what was published since it joined, and where that was.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) channel: ChannelName,
    pub(crate) at: Position,
}

/// A session's use of a rule's rate limit.
#[derive(Debug, Clone)]
pub(crate) struct RateWindow {
    /// The rule's.
    pub(crate) pattern: Box<str>,
    pub(crate) start_ms: u64,
    pub(crate) count: u32,
}

/// The reader for whom a page is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Puller {
    /// The edge: all that the channel has.
    Edge,
    /// A subscriber: all that is for it.
    Subscriber(ClientId),
    /// A subscriber that wants only the newest of the publications that it missed.
    Latest(ClientId),
}

/// A channel that a session has entered, and its entry there.
#[derive(Debug, Clone)]
pub(crate) struct Entered {
    pub(crate) channel: ChannelName,
    pub(crate) entry: Arc<PresenceEntry>,
}

/// The publications that a subscriber wants before it is live.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Want {
    pub(crate) since: Option<Position>,
    pub(crate) recent: Option<u32>,
    /// How much of the history it may read. From before that nothing is recovered.
    pub(crate) reads: Reads,
    pub(crate) takes: Takes,
    /// The subscriber.
    pub(crate) client: ClientId,
}

/// The place among the subscribers of a channel that a `Sub` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// One of those that the rule's `max_subscribers` allows.
    OneOfMax,
    /// One beyond that bound: the application has subscribed it.
    OneMore,
    /// None: it has one.
    None,
}

#[derive(Debug)]
pub(crate) enum ToHome {
    /// This edge is interested, and (with a token) asks for a subscriber's place. `seq` is the edge's own numbering.
    Sub {
        seq: u64,
        token: PendingToken,
        want: Want,
        /// Subscriptions on this edge, this one among them.
        members: u32,
    },
    /// So many subscriptions are on this edge now.
    Members(u32),
    /// This edge is not interested any more, unless it has said `Sub` with a later `seq`.
    Release {
        seq: u64,
    },
    Publish {
        token: PendingToken,
        entry: Box<Entry>,
    },
    Signal {
        token: PendingToken,
        signal: Arc<SignalPush>,
    },
    /// Passes through, and has no place in the log: volatile, or a question who the members are.
    Unlogged {
        token: PendingToken,
        entry: Box<Entry>,
    },
    /// A session stands in the presence with this entry. Without a token it goes on from an earlier connection.
    Enter {
        token: Option<PendingToken>,
        incarnation: u32,
        entry: Arc<PresenceEntry>,
    },
    Leave {
        token: Option<PendingToken>,
        incarnation: u32,
        client: ClientId,
    },
    /// The trusted facts about a client have changed: its entry follows, where it has entered.
    Inform {
        client: ClientId,
        incarnation: u32,
        info: Option<Bytes>,
    },
    Presence {
        token: PendingToken,
    },
    History {
        token: PendingToken,
        query: HistoryQuery,
        /// `None` is the application: it sees all.
        reader: Option<Reader>,
        reads: Reads,
    },
    /// Where does the channel stand? The answer comes in the stream of deliveries, behind everything up to that place.
    Mark {
        token: PendingToken,
    },
    /// Drop the history.
    Purge {
        token: PendingToken,
    },
    /// Asks for the page after this place: for one subscriber, or for the edge itself. In the second case deliveries
    /// go on once it is at the top.
    Pull {
        token: PendingToken,
        at: Position,
        puller: Puller,
    },
    /// The edge dropped deliveries or missed one: it takes none until it has pulled.
    Behind,
}

#[derive(Debug)]
pub(crate) enum ToEdge {
    Subscribed {
        token: PendingToken,
        result: Result<Start, Error>,
    },
    Published {
        token: PendingToken,
        result: Result<Published, Error>,
    },
    Presence {
        token: PendingToken,
        snapshot: PresenceSnapshot,
    },
    History {
        token: PendingToken,
        result: Result<Box<History>, Error>,
    },
    Pulled {
        token: PendingToken,
        result: Result<Pulled, Error>,
    },
    /// The channel stands here.
    Marked {
        token: PendingToken,
        result: Result<Position, Error>,
    },
    /// Done; or why not.
    Done {
        token: PendingToken,
        result: Result<(), Error>,
    },
    /// `expected` edges have been asked for the receiver of a directed signal.
    SignalSent {
        token: PendingToken,
        expected: u32,
    },
    /// One of them: has it the receiver?
    SignalTaken {
        token: PendingToken,
        taken: bool,
    },
    Deliver {
        epoch: Epoch,
        publication: Arc<Publication>,
    },
    /// For the members as they are where the log stands. Its offset is the next one, and it does not take it.
    Unlogged {
        epoch: Epoch,
        publication: Arc<Publication>,
    },
    /// So many edges have been asked for their members.
    Listed {
        token: PendingToken,
        edges: u32,
    },
    /// The channel goes on at this place; the publications before it are lost.
    Skip {
        to: Position,
    },
    Signal {
        signal: Arc<SignalPush>,
        directed: Option<Directed>,
    },
    /// From an edge to an edge: a signal for a client whose session has gone there. That edge answers it.
    Forwarded {
        signal: Arc<SignalPush>,
        directed: Directed,
    },
    PresenceChange(Arc<PresencePush>),
    PresenceCount {
        count: u64,
        seq: u64,
    },
    PresenceWhole(Arc<PresenceSnapshot>),
    /// There is room again: pull.
    Nudge,
}

/// The extra data of a signal that is for one client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Directed {
    /// The shard that asked whether this edge has the receiver.
    pub(crate) origin: ShardId,
    pub(crate) token: PendingToken,
    /// Rises with each signal of the home's shard. Every edge is asked, and a receiver that changes shards meanwhile
    /// could be found by two of them, or by the second one first: it takes nothing at or below what it has had.
    pub(crate) number: u64,
}

/// A publication has its place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Published {
    pub(crate) position: Position,
    pub(crate) duplicate: bool,
    /// Subscriptions of the channel, on all shards.
    pub(crate) subscribers: u64,
    /// How many edges it goes to.
    pub(crate) edges: u32,
}

/// Where a subscriber starts.
#[derive(Debug)]
pub(crate) struct Start {
    /// The place of the stream that this edge is sent, at this point of it.
    pub(crate) top: Position,
    /// The offset after `publications`.
    pub(crate) end: u64,
    pub(crate) recovered: Option<bool>,
    pub(crate) publications: Vec<Arc<Publication>>,
}

/// A page for a subscriber or an edge that is behind.
#[derive(Debug)]
pub(crate) struct Pulled {
    pub(crate) top: Position,
    /// The place that the page begins after: where it is not complete, a gap leads here.
    pub(crate) start: u64,
    /// The place up to which the page has all that is for the puller.
    pub(crate) end: u64,
    /// False: publications between the asked place and `start` are lost, or skipped.
    pub(crate) complete: bool,
    pub(crate) publications: Vec<Arc<Publication>>,
}

impl ToHome {
    /// True for a message that ends something. A release for an unknown channel needs no home.
    pub(crate) fn needs_no_home(&self) -> bool {
        matches!(
            self,
            ToHome::Release { .. }
                | ToHome::Members(_)
                | ToHome::Leave { token: None, .. }
                | ToHome::Inform { .. }
                | ToHome::Behind
        )
    }
}

impl ToHome {
    /// True for a message that asks for the channel's place, or for its history.
    pub(crate) fn needs_store(&self) -> bool {
        matches!(
            self,
            ToHome::Sub { .. }
                | ToHome::Publish { .. }
                | ToHome::Unlogged { .. }
                | ToHome::History { .. }
                | ToHome::Mark { .. }
                | ToHome::Purge { .. }
                | ToHome::Pull { .. }
        )
    }

    /// True for a message that enters or leaves the presence.
    pub(crate) fn is_of_presence(&self) -> bool {
        matches!(self, ToHome::Enter { .. } | ToHome::Leave { .. })
    }

    /// Bytes that this message holds while it waits, besides itself.
    pub(crate) fn cost(&self) -> usize {
        if let ToHome::Publish { entry, .. } | ToHome::Unlogged { entry, .. } = self { entry.cost() } else { 0 }
    }
}

impl ToEdge {
    /// True for a message about a change of presence.
    pub(crate) fn is_presence(&self) -> bool {
        matches!(self, ToEdge::PresenceChange(_) | ToEdge::PresenceCount { .. } | ToEdge::PresenceWhole(_))
    }

    /// Bytes that this message holds while it is on its way.
    pub(crate) fn cost(&self) -> usize {
        const BASE: usize = 128;
        // From an edge to an edge: no home counts it, so it is not acknowledged either. Signals for one client are
        // bounded by the commands without an answer.
        if matches!(self, ToEdge::SignalTaken { .. } | ToEdge::Forwarded { .. }) {
            return 0;
        }
        BASE + match self {
            ToEdge::Deliver { publication, .. } | ToEdge::Unlogged { publication, .. } => publication.cost(),
            ToEdge::Signal { signal, .. } => signal.signal.data.len(),
            ToEdge::PresenceChange(push) => push.entry.cost(),
            ToEdge::PresenceWhole(snapshot) => snapshot.cost(),
            ToEdge::Presence { snapshot, .. } => snapshot.cost(),
            ToEdge::History { result: Ok(history), .. } => history.publications.iter().map(|p| p.cost()).sum(),
            ToEdge::Pulled { result: Ok(pulled), .. } => pulled.publications.iter().map(|p| p.cost()).sum(),
            ToEdge::Subscribed { result: Ok(start), .. } => start.publications.iter().map(|p| p.cost()).sum(),
            _ => 0,
        }
    }
}
