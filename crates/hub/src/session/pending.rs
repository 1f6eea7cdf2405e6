//! Questions on their way to a home or to the application, and the receivers of their answers.

use super::rooms::RoomChange;
use crate::app::{AppAnswer, AppToken};
use crate::forward::ForwardToken;
use crate::hook::Question;
use crate::ids::{ClientId, SeatId, SessionRef};
use crate::members::{Answers, AskToken, MemberInfo};
use crate::message::{Connect, PresenceEntry, Reply, ReplyBody, Request, RequestId, SubOptions};
use crate::name::ChannelName;
use crate::peer::{PendingToken, ReplyAddress, Want};
use crate::quota::Spent;
use slab::Slab;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::sync::Arc;

/// How a command is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReplyTo {
    /// It had no id: only an error is sent.
    Silent,
    /// With its id.
    Id(RequestId),
    /// Without an id, success or error: the subscriptions made by `connect`.
    Bare,
    /// Without an id: a subscription that a token grants, unless the client has made it meanwhile.
    Granted,
    /// As one of the answers in a `result`.
    Gathered { gather: u32, at: u32 },
    /// The application asked for it: the client gets a push, and the outcome is counted.
    Counted(PendingToken),
    /// It came by a request of its own, with others: this is its place among their answers.
    Sent { token: PendingToken, at: u32 },
}

/// The origin of a command that sessions and the application can give.
#[derive(Debug)]
pub(crate) enum Requester {
    Session { session: SessionRef, reply: ReplyTo },
    App(AppToken),
}

/// An answer to the application in parts: the number of parts still to come, and the sum of the others.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) to: TallyTo,
    pub(crate) left: usize,
    pub(crate) sum: AppAnswer,
    /// The most entries of a list.
    pub(crate) limit: usize,
}

/// The owner of a tally.
#[derive(Debug, Clone, Copy)]
pub(crate) enum TallyTo {
    /// The application's: the parts are of shards.
    App(AppToken),
    /// A shard's that asked for a part: the parts of that are of sessions.
    Shard(ReplyAddress),
}

/// The answers to a question to members, as far as they are here.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) token: AskToken,
    /// How many edges ask their members; unknown until the question is published.
    pub(crate) edges: Option<u32>,
    /// How many of them have asked all.
    pub(crate) edges_done: u32,
    pub(crate) answers: Answers,
    pub(crate) bytes: usize,
    /// Then it is over.
    pub(crate) until_ms: u64,
}

/// A list of members, as far as it is here.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) app: AppToken,
    pub(crate) edges: Option<u32>,
    pub(crate) edges_done: u32,
    pub(crate) members: Vec<MemberInfo>,
}

/// The purpose of an answer that is still to come.
#[derive(Debug)]
pub(crate) enum Pending {
    /// A command; the answer is passed on.
    Command {
        session: SessionRef,
        reply: ReplyTo,
    },
    /// A `presence_set`, with the entry that it is about.
    Enter {
        session: SessionRef,
        sub: u32,
        reply: ReplyTo,
        entry: Arc<PresenceEntry>,
    },
    /// A change of rooms, which takes effect at the place that the home names.
    Room {
        session: SessionRef,
        sub: u32,
        reply: ReplyTo,
        change: RoomChange,
    },
    /// A command of the application; the answer is passed on.
    App(AppToken),
    /// One with an answer of several parts.
    Tally(Box<Tally>),
    /// A question to members is being published.
    Asking {
        app: AppToken,
        asked: PendingToken,
    },
    /// The answers to it.
    Asked(Box<Asked>),
    /// A list of members.
    List(Box<Listing>),
    Subscribe {
        session: SessionRef,
        sub: u32,
        edge: u32,
        reply: ReplyTo,
    },
    /// A subscription that the application let in begins anew with its client's options.
    Anew {
        session: SessionRef,
        sub: u32,
        reply: ReplyTo,
        options: Box<SubOptions>,
    },
    /// A directed signal: how many edges were asked, how many have answered.
    Directed {
        requester: Requester,
        expected: Option<u32>,
        answered: u32,
        taken: bool,
    },
    /// A page for a subscriber that is behind.
    Pull {
        session: SessionRef,
        sub: u32,
        /// It wants only the newest one, and was in no room when it asked.
        is_latest: bool,
    },
    /// The whole presence for a subscriber that missed changes.
    PresenceWhole {
        session: SessionRef,
        sub: u32,
    },
    /// A page for an edge that is behind.
    EdgePull {
        edge: u32,
        life: u64,
    },
    /// The whole presence for an edge that left changes out.
    EdgePresence {
        edge: u32,
        life: u64,
    },
    /// Commands for a session that this shard took in.
    Forward(ForwardToken),
    /// The commands of one request, for a session that is here or was.
    Sent(Box<Sent>),
    /// The session that a ticket names, of another shard.
    Adopt(Box<Connecting>),
    /// The home of its user: may it begin a session?
    User(Box<Connecting>),
    /// The application.
    Hook(Box<PendingHook>),
}

/// The subject of a question to the application.
#[derive(Debug)]
pub(crate) enum PendingHook {
    Connect(Box<Connecting>),
    /// The session's refresh of this number.
    Refresh {
        session: SessionRef,
        reply: ReplyTo,
        number: u32,
    },
    Subscribe {
        session: SessionRef,
        sub: u32,
        edge: u32,
        reply: ReplyTo,
        want: Want,
    },
    /// The lane of the channel is held meanwhile.
    Publish {
        session: SessionRef,
        reply: ReplyTo,
        channel: ChannelName,
        key: Option<Box<str>>,
    },
    Rpc {
        session: SessionRef,
        reply: ReplyTo,
    },
}

/// A question that waits until the application has answered earlier ones of the session.
#[derive(Debug)]
pub(crate) struct QueuedQuestion {
    pub(crate) hook: PendingHook,
    pub(crate) question: Question,
}

impl PendingHook {
    /// The session whose command it is about. Before the answer to `connect` there is none.
    pub(crate) fn of_command(&self) -> Option<SessionRef> {
        match self {
            PendingHook::Connect(_) => None,
            PendingHook::Refresh { session, .. }
            | PendingHook::Subscribe { session, .. }
            | PendingHook::Publish { session, .. }
            | PendingHook::Rpc { session, .. } => Some(*session),
        }
    }
}

/// A seat whose `connect` is not answered: the application is asked who it is, or its session is being fetched.
/// Its commands wait.
#[derive(Debug)]
pub(crate) struct Connecting {
    pub(crate) at: SeatId,
    pub(crate) reply: ReplyTo,
    pub(crate) connect: Connect,
    /// The application has said who it is: `connect` holds that.
    pub(crate) identified: bool,
    /// The home of its user has counted its session: what the user has done lately.
    pub(crate) entered: Option<Spent>,
    pub(crate) waiting: VecDeque<Request>,
}

/// The open questions of a shard. A token that was answered, or whose place was reused, finds nothing.
#[derive(Debug, Default)]
pub(crate) struct PendingTable {
    slab: Slab<PendingSlot>,
    next_life: u32,
    gathers: Slab<Gather>,
    /// How many of them are the application's.
    pub(crate) hooked: usize,
}

/// A request, in one life of its place.
#[derive(Debug)]
struct PendingSlot {
    life: u32,
    pending: Pending,
}

/// The answers of one `subscribe` to several channels.
#[derive(Debug)]
pub(crate) struct Gather {
    pub(crate) session: SessionRef,
    pub(crate) reply: ReplyTo,
    bodies: Vec<Option<ReplyBody>>,
    left: usize,
    /// The bytes of the pages in it.
    bytes: usize,
}

impl Gather {
    pub(crate) fn into_body(self) -> ReplyBody {
        ReplyBody::Many(self.bodies.into_iter().flatten().collect())
    }
}

/// The requests that get one answer: a request, and its repeats.
pub(crate) type ReplyAddresses = SmallVec<[ReplyAddress; 1]>;

/// The commands of one request, and the answers so far.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) client: ClientId,
    pub(crate) n: Option<u64>,
    /// Where the whole answer goes: to the request, and to those that repeat it meanwhile.
    pub(crate) to: ReplyAddresses,
    ids: Vec<Option<RequestId>>,
    bodies: Vec<Option<ReplyBody>>,
    left: usize,
}

impl Sent {
    pub(crate) fn new(client: ClientId, n: Option<u64>, to: ReplyAddresses, ids: Vec<Option<RequestId>>) -> Self {
        let left = ids.len();
        Sent { client, n, to, bodies: vec![None; left], ids, left }
    }

    /// Puts one answer in its place. True for the last one.
    pub(crate) fn answer(&mut self, at: u32, body: ReplyBody) -> bool {
        if self.bodies[at as usize].replace(body).is_none() {
            self.left -= 1;
        }
        self.left == 0
    }

    /// The whole answer, and where it goes. A command without an id has an answer only if that is an error.
    pub(crate) fn into_replies(self) -> (ReplyAddresses, Arc<[Reply]>) {
        let replies = self.ids.into_iter().zip(self.bodies).filter_map(|(id, body)| Some(Reply { id, body: body? }));
        let is_told = |reply: &Reply| reply.id.is_some() || matches!(reply.body, ReplyBody::Error(_));
        (self.to, replies.filter(is_told).collect())
    }
}

impl Pending {
    pub(crate) fn directed(requester: Requester) -> Pending {
        Pending::Directed { requester, expected: None, answered: 0, taken: false }
    }
}

impl PendingTable {
    pub(crate) fn insert(&mut self, pending: Pending) -> PendingToken {
        self.next_life = self.next_life.wrapping_add(1);
        let index = self.slab.insert(PendingSlot { life: self.next_life, pending }) as u32;
        PendingToken { index, life: self.next_life }
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len() + self.gathers.len()
    }

    pub(crate) fn get(&mut self, token: PendingToken) -> Option<&mut Pending> {
        self.slab.get_mut(token.index as usize).filter(|entry| entry.life == token.life).map(|entry| &mut entry.pending)
    }

    /// The connection whose `connect` this question is about.
    pub(crate) fn connecting(&mut self, token: PendingToken) -> Option<&mut Connecting> {
        match self.get(token)? {
            Pending::Adopt(connecting) | Pending::User(connecting) => Some(connecting),
            Pending::Hook(hook) => match &mut **hook {
                PendingHook::Connect(connecting) => Some(connecting),
                _ => None,
            },
            _ => None,
        }
    }

    pub(crate) fn take(&mut self, token: PendingToken) -> Option<Pending> {
        self.get(token)?;
        Some(self.slab.remove(token.index as usize).pending)
    }

    pub(crate) fn gather(&mut self, session: SessionRef, reply: ReplyTo, count: usize) -> u32 {
        self.gathers.insert(Gather { session, reply, bodies: vec![None; count], left: count, bytes: 0 }) as u32
    }

    /// Takes room for a page in a gathered answer; false where one page has been used up.
    pub(crate) fn take_bytes(&mut self, gather: u32, bytes: usize, page_bytes: usize) -> bool {
        let Some(gather) = self.gathers.get_mut(gather as usize) else { return false };
        let room = gather.bytes < page_bytes;
        gather.bytes += if room { bytes } else { 0 };
        room
    }

    /// Puts one answer in its place. The last one gives the whole.
    pub(crate) fn gathered(&mut self, gather: u32, at: u32, body: ReplyBody) -> Option<Gather> {
        let entry = self.gathers.get_mut(gather as usize)?;
        if entry.bodies[at as usize].replace(body).is_none() {
            entry.left -= 1;
        }
        if entry.left > 0 {
            return None;
        }
        Some(self.gathers.remove(gather as usize))
    }
}
