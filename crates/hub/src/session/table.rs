//! The tables of sessions and connections: the state of each, without the behaviour.
//!
//! A connection has a session from its `connect` on; a session outlives its connection by a grace. Slab places are
//! reused, and a session that comes back has another connection with other command ids: a [`SessionRef`] carries the
//! life it meant, a new life begins with each connection, and an answer for another life is dropped.

use super::HeartbeatKind;
use super::away::Away;
use super::kept::Keeps;
use super::labelled::Labelled;
use super::lane::Lanes;
use super::mailbox::{Mailbox, MailboxMax};
use super::moved::Moved;
use super::pending::QueuedQuestion;
use super::rooms::{Rooms, sees};
use super::sends::Sends;
use super::throttle::OverRate;
use super::unheard::Unheard;
use super::users::UserState;
use crate::act::Ask;
use crate::attachment::Attachment;
use crate::edge::{Member, MemberSessions, Variant};
use crate::hook::Caller;
use crate::identity::Identity;
use crate::ids::{ClientId, ConnId, Epoch, Position, SEATS_MAX, Seat, SeatId, SessionRef, UserId, WireId};
use crate::message::{Batch, PresenceEntry, Proof, Publication, Sender, SignalPush};
use crate::name::ChannelName;
use crate::page_id::PageId;
use crate::peer::{Entered, Joined, KeptSub, LastDirected, PendingToken, RateWindow};
use crate::quota::{Cost, Spent};
use crate::rng::Keyed;
use crate::rules::{Entitlement, Rule, Slow};
use crate::store::Reader;
use crate::watch::{Note, Noted};
use bytes::Bytes;
use slab::Slab;
use smallvec::SmallVec;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

/// One connection, whether or not it has a session yet.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) generation: u32,
    pub(crate) open: bool,
    pub(crate) wire: WireId,
    pub(crate) first: SeatState,
    /// Its seats from 1 on, where its protocol has them.
    #[allow(clippy::box_collection)] // a pointer: most connections have none, and there are very many of them
    pub(crate) others: Option<Box<Vec<SeatState>>>,
    /// A session has begun on it: from then on it may be without one.
    pub(crate) has_entered: bool,
    pub(crate) grace_ms: u32,
    pub(crate) heartbeat: Heartbeat,
    /// By when it must have a session, but for a question about it that is out then. A refusal does not move it.
    pub(crate) connect_by_ms: u64,
    /// Its last `connect` was refused for a reason that passes.
    pub(crate) may_come_back: bool,
    /// The shell does not read it at the moment.
    pub(crate) paused: bool,
    /// The application has asked it to connect again, and its turn has not come.
    pub(crate) reconnects: bool,
    /// Its outbox is over its mark. The members of its subscriptions are blocked as long as it is.
    pub(crate) full: bool,
    pub(crate) over_rate: OverRate,
    /// It is not read, as it has done too much lately.
    pub(crate) throttled: bool,
    pub(crate) bad_requests: BadRequests,
    /// Pings that noted places (`session/kept.rs`) and are not answered yet. (65,535 of them take days.)
    pub(crate) pongs_owed: u16,
    /// For the questions about all of its sessions.
    pub(crate) attachment: Option<Attachment>,
}

/// One seat of a connection.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SeatState {
    pub(crate) session: Option<u32>,
    /// Its `connect` is not answered: the application is asked, or its session is being fetched from another shard.
    pub(crate) adopting: Option<PendingToken>,
}

impl Conn {
    pub(crate) fn seats(&self) -> impl Iterator<Item = &SeatState> {
        std::iter::once(&self.first).chain(self.others.iter().flat_map(|others| others.iter()))
    }

    pub(crate) fn seat(&self, Seat(seat): Seat) -> SeatState {
        let Some(place) = seat.checked_sub(1) else { return self.first };
        self.others.as_ref().and_then(|others| others.get(usize::from(place))).copied().unwrap_or_default()
    }

    /// Makes the seat where it was not used yet.
    pub(crate) fn seat_mut(&mut self, Seat(seat): Seat) -> &mut SeatState {
        let Some(place) = seat.min(SEATS_MAX - 1).checked_sub(1) else { return &mut self.first };
        let (others, place) = (self.others.get_or_insert_default(), usize::from(place));
        if others.len() <= place {
            others.resize_with(place + 1, SeatState::default);
        }
        &mut others[place]
    }

    /// Its sessions.
    pub(crate) fn sessions(&self) -> impl Iterator<Item = u32> {
        self.seats().filter_map(|seat| seat.session)
    }

    /// True while a `connect` is not answered.
    pub(crate) fn is_deciding(&self) -> bool {
        self.seats().any(|seat| seat.adopting.is_some())
    }
}

/// The invalid messages of a connection in one minute.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct BadRequests {
    pub(crate) count: u32,
    /// Counted since the shard's clock began.
    pub(crate) minute: u32,
}

/// Whether the peer has been asked for a sign of life, and whether it was heard in this interval.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heartbeat {
    pub(crate) every_ms: u32,
    pub(crate) kind: HeartbeatKind,
    pub(crate) pinged: bool,
    /// An interval has passed since the ping, and the client has time left.
    pub(crate) late: bool,
    pub(crate) heard: bool,
}

/// An identity, with its user where there is one, and the session's place among those of that user.
#[derive(Debug)]
struct IndexedIdentity {
    identity: Identity,
    user: Option<u32>,
    place: u32,
}

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) life: u32,
    pub(crate) client: ClientId,
    pub(crate) conn: Option<ConnId>,
    /// The seat that it has there.
    pub(crate) seat: Seat,
    pub(crate) wire: WireId,
    /// Connections that this session has had: a timer of an earlier one is ignored.
    pub(crate) incarnation: u32,
    pub(crate) grace_ms: u32,
    /// The page that opened the connection that it has, or had last.
    pub(crate) page: Option<PageId>,
    /// That of the same connection (`Conn::connect_by_ms`): an earlier one of that page does not take the session.
    pub(crate) connect_by_ms: u64,
    /// What the program keeps of it, also while it has no connection.
    pub(crate) program: Option<Attachment>,
    /// Set by [`SessionTable::identify`] alone, which keeps the index of users.
    identity: Option<Box<IndexedIdentity>>,
    pub(crate) subs: SmallVec<[Sub; 1]>,
    pub(crate) next_sub: u32,
    /// Commands without an answer yet.
    pub(crate) outstanding: u32,
    /// The subscription whose page, or whole presence, is on its way: one at a time, so that catching up costs one of
    /// them.
    pub(crate) pulling: Option<u32>,
    /// The last of them: the next one is another subscription's where there is one.
    pub(crate) last_pull: LastPull,
    /// Commands whose answers are pages or snapshots, and on their way. At most one where the connection is held in
    /// time.
    pub(crate) pages: u32,
    /// What it has done lately.
    pub(crate) spent: Spent,
    pub(crate) extra: Option<Box<Extra>>,
}

/// The last page or whole presence that a session asked for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LastPull {
    /// The subscription's id.
    pub(crate) sub: u32,
    pub(crate) was_page: bool,
}

/// The refreshes of a session's token, by number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Refreshes {
    /// The last one that the application was asked about.
    pub(crate) asked: u32,
    /// The one whose token holds.
    pub(crate) applied: u32,
}

/// State that few sessions have at a given moment.
#[derive(Debug, Default)]
pub(crate) struct Extra {
    pub(crate) lanes: Lanes,
    pub(crate) mailbox: Mailbox,
    /// Up to where it has had the signals for it alone, by channel: it comes along to other shards, where later
    /// copies find it.
    pub(crate) directed: Vec<LastDirected>,
    /// Channels whose presence outlives the connection by the grace.
    pub(crate) entered: Vec<Entered>,
    /// Channels that the application has subscribed it to: no rule is asked as long as that subscription lasts, over
    /// cuts too.
    pub(crate) granted: Vec<ChannelName>,
    /// Where it joined the channels whose rules say `read = "since_join"`, over cuts too.
    pub(crate) joined: Vec<Joined>,
    /// One for each rule with a rate limit.
    pub(crate) rates: Vec<RateWindow>,
    pub(crate) refreshes: Refreshes,
    /// The numbers of its sends, if it numbers them.
    pub(crate) sends: Option<Box<Sends>>,
    /// Signals for it alone that it may not have had: those of a connection that is polled, or was.
    pub(crate) unheard: Option<Box<Unheard>>,
    /// Questions about its commands that the application has not answered.
    pub(crate) questions: usize,
    /// Those that wait until it has.
    pub(crate) queued_questions: VecDeque<QueuedQuestion>,
    /// That of the connection that it had, for the notice of its end.
    pub(crate) attachment: Option<Attachment>,
    /// Questions to it that it has not answered, oldest first.
    pub(crate) asked: Vec<Ask>,
    /// Subscriptions that it had on its last connection.
    pub(crate) kept: Vec<KeptSub>,
}

impl Extra {
    /// True if it equals a new one.
    fn is_empty(&self) -> bool {
        let Extra {
            lanes,
            mailbox,
            directed,
            entered,
            granted,
            joined,
            rates,
            refreshes,
            questions,
            queued_questions,
            attachment,
            sends,
            unheard,
            asked,
            kept,
        } = self;
        let lists = directed.is_empty()
            && entered.is_empty()
            && granted.is_empty()
            && joined.is_empty()
            && kept.is_empty()
            && rates.is_empty()
            && queued_questions.is_empty()
            && asked.is_empty();
        attachment.is_none()
            && sends.is_none()
            && unheard.is_none()
            && lists
            && lanes.is_empty()
            && mailbox.is_empty()
            && *refreshes == Refreshes::default()
            && *questions == 0
    }
}

/// A subscription of a session.
#[derive(Debug)]
pub(crate) struct Sub {
    pub(crate) id: u32,
    pub(crate) edge: u32,
    /// The reason that let it in.
    pub(crate) by: AdmittedBy,
    pub(crate) state: SubState,
    pub(crate) presence: bool,
    pub(crate) signals: bool,
    /// Its entry in the presence, where it has entered.
    pub(crate) entered: Option<Arc<PresenceEntry>>,
    /// Deliveries are gathered so.
    pub(crate) batch: Option<Batch>,
    /// The subscriber's choice for when it is slow.
    pub(crate) slow: Option<Slow>,
    /// Where it is in rooms of the channel, or was lately.
    pub(crate) rooms: Option<Box<Rooms>>,
}

/// How far a subscription has come.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SubState {
    /// The application or the home is asked. `ended`: the application has ended it meanwhile, so its answer is a
    /// refusal.
    Pending { ended: bool },
    /// It is a member of its edge, and its answer waits for those of the same `subscribe`. Nothing is delivered before.
    Gathering { membership: Membership, gather: u32, ended: bool },
    /// It is answered. Its member on the edge says whether it catches up.
    Live(Membership),
}

/// The state of a subscription that is a member of its edge.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Membership {
    /// Its place among the edge's members.
    pub(crate) place: u32,
    /// The top when it was answered: the publications up to here are its recovery.
    pub(crate) recover_to: Position,
    /// Presence changes were missed: the whole is asked for when there is room.
    pub(crate) presence_stale: bool,
    /// It was slow and wants only the latest: the next page is the newest publication.
    pub(crate) passes_over: bool,
}

/// The reason that let a subscription in. It decides whether a change of rules or tokens ends the subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AdmittedBy {
    /// Its rule alone.
    Rule,
    /// The application was asked besides.
    Hook,
    /// The identity that the application gave grants the channel. The rule is not asked as long as it does.
    Grant,
    /// The application made it by a command. The rule is not asked.
    App,
}

impl Sub {
    /// The group of its edge that it is in, where its session speaks this wire.
    pub(crate) fn variant(&self, wire: WireId) -> Variant {
        Variant { wire, batch: self.batch }
    }

    /// The reaction when it is slow. The rule may have become stricter than the choice that it allowed.
    pub(crate) fn slow(&self, rule: Option<&Rule>) -> Slow {
        let rule = rule.map_or(Slow::Pull, |rule| rule.slow);
        self.slow.map_or(rule, |chosen| chosen.max(rule))
    }

    /// True from the answer to the client on.
    pub(crate) fn is_answered(&self) -> bool {
        matches!(self.state, SubState::Live(_))
    }

    /// The application ends it before it is answered: its answer will be a refusal.
    pub(crate) fn refuse_when_answered(&mut self) {
        match &mut self.state {
            SubState::Pending { ended } | SubState::Gathering { ended, .. } => *ended = true,
            SubState::Live(_) => debug_assert!(false, "a subscription that is answered ends at once"),
        }
    }

    /// True where the application has ended it before it was answered.
    pub(crate) fn is_refused(&self) -> bool {
        matches!(self.state, SubState::Pending { ended: true } | SubState::Gathering { ended: true, .. })
    }

    pub(crate) fn membership(&self) -> Option<&Membership> {
        match &self.state {
            SubState::Pending { .. } => None,
            SubState::Gathering { membership, .. } | SubState::Live(membership) => Some(membership),
        }
    }

    pub(crate) fn membership_mut(&mut self) -> Option<&mut Membership> {
        match &mut self.state {
            SubState::Pending { .. } => None,
            SubState::Gathering { membership, .. } | SubState::Live(membership) => Some(membership),
        }
    }

    /// What it remembers so that it can be kept.
    pub(super) fn keeps_mut(&mut self) -> Option<&mut Keeps> {
        self.rooms.as_mut()?.keeps.as_mut()
    }

    /// Its membership, once it is answered.
    pub(crate) fn live(&self) -> Option<&Membership> {
        self.membership().filter(|_| self.is_answered())
    }
}

impl Session {
    /// Where it is answered.
    pub(crate) fn seat_id(&self) -> Option<SeatId> {
        self.conn.map(|conn| SeatId { conn, seat: self.seat })
    }

    /// True while the outbox of its connection is over its mark.
    pub(crate) fn is_full(&self, conns: &[Conn]) -> bool {
        let conn =
            self.conn.and_then(|id| conns.get(id.index as usize).filter(|conn| conn.generation == id.generation));
        conn.is_some_and(|conn| conn.full)
    }

    /// Its outstanding commands as a measure of when it is not read. While a page is on its way as an answer no other
    /// may be asked for: answers of other shards come however much waits by then.
    pub(crate) fn load(&self) -> u32 {
        if self.pages > 0 { u32::MAX } else { self.outstanding }
    }

    /// A command waits until there is room for its page.
    pub(crate) fn is_paging(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| extra.lanes.is_any_paging())
    }

    pub(crate) fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_with(Box::default)
    }

    /// Gives memory back that is not needed any more: else a session that waited for its subscription on another shard
    /// would keep it.
    pub(crate) fn tidy(&mut self) {
        self.extra.take_if(|extra| extra.is_empty());
    }

    pub(crate) fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref().map(|known| &known.identity)
    }

    pub(crate) fn user(&self) -> Option<&UserId> {
        self.identity().and_then(|identity| identity.user.as_ref())
    }

    /// The place of its user in [`SessionTable::users`].
    pub(crate) fn user_index(&self) -> Option<u32> {
        self.identity.as_ref().and_then(|known| known.user)
    }

    /// What the rules know of it.
    pub(crate) fn entitlement(&self) -> Entitlement<'_> {
        let proof = self.identity().map(|identity| &identity.proof);
        let grants = proof.map_or(&[][..], |proof| &proof.grants);
        Entitlement { user: self.user(), grants, claims: proof.and_then(|proof| proof.claims.as_deref()) }
    }

    pub(crate) fn identity_mut(&mut self) -> Option<&mut Identity> {
        self.identity.as_mut().map(|known| &mut known.identity)
    }

    /// True where the application has subscribed it, by a command or by the identity that it gave.
    pub(crate) fn is_granted(&self, channel: &ChannelName) -> bool {
        self.extra.as_ref().is_some_and(|extra| extra.granted.contains(channel)) || self.is_granted_by_token(channel)
    }

    /// True where the identity that the application gave grants the channel.
    pub(crate) fn is_granted_by_token(&self, channel: &ChannelName) -> bool {
        self.identity().is_some_and(|identity| identity.proof.granted.contains(channel))
    }

    /// A subscription that the application made is live: it may be made again as long as it lasts.
    pub(crate) fn grant(&mut self, channel: &ChannelName, max: usize) {
        let granted = &mut self.extra().granted;
        if !granted.contains(channel) && granted.len() < max {
            granted.push(channel.clone());
        }
    }

    /// Its subscription is over, and with it all that was remembered of it.
    pub(crate) fn revoke(&mut self, channel: &ChannelName) {
        self.left(channel);
        if let Some(extra) = &mut self.extra {
            extra.granted.retain(|granted| granted != channel);
        }
    }

    /// The application ends its leave, whichever way it gave it.
    pub(crate) fn revoke_all(&mut self, channel: &ChannelName) {
        self.revoke(channel);
        if let Some(identity) = self.identity_mut() {
            identity.proof.granted.retain(|granted| granted != channel);
        }
    }

    /// True where it has had this signal for it alone, or a later one.
    pub(crate) fn has_had_directed(&self, channel: &ChannelName, number: u64) -> bool {
        let directed = self.extra.as_ref().map_or(&[][..], |extra| &extra.directed);
        directed.iter().any(|last| last.channel == *channel && last.number >= number)
    }

    /// Remembers how far it has come, for at most `max` channels: the one whose signals are the longest ago is
    /// forgotten.
    pub(crate) fn had_directed(&mut self, channel: &ChannelName, number: u64, max: usize) {
        let directed = &mut self.extra().directed;
        directed.retain(|last| last.channel != *channel);
        if directed.len() >= max {
            directed.remove(0);
        }
        directed.push(LastDirected { channel: channel.clone(), number });
    }

    /// The proven facts besides its user.
    pub(crate) fn proof(&self) -> Proof {
        self.identity().map(|identity| identity.proof.clone()).unwrap_or_default()
    }

    pub(crate) fn caller(&self) -> Caller {
        let proof = self.identity().map(|identity| &identity.proof);
        let (info, claims) = proof.map_or((None, None), |proof| (proof.info.clone(), proof.claims.clone()));
        Caller { client: Some(self.client), user: self.user().cloned(), info, claims }
    }

    pub(crate) fn sender(&self) -> Sender {
        Sender { client: Some(self.client), user: self.user().cloned() }
    }

    /// Its entry in a presence, with the current facts.
    pub(crate) fn presence_entry(&self, data: Bytes, person: Option<Box<str>>) -> PresenceEntry {
        let info = self.identity().and_then(|identity| identity.proof.info.clone());
        let person = person.filter(|_| self.user().is_none());
        PresenceEntry { client: self.client, user: self.user().cloned(), info, data, person }
    }

    pub(crate) fn note(&self, what: Noted) -> Note {
        Note { conn: self.conn, client: Some(self.client), user: self.user().cloned(), what }
    }

    /// Whether it may see a publication of this epoch by the subscription in this slot: the one judgement, for live
    /// deliveries, first pages and pages. `own`: also its own copy that it did not want live.
    pub(crate) fn may_see(&self, slot: usize, epoch: Epoch, publication: &Publication, own: bool) -> bool {
        let rooms = self.subs.get(slot).and_then(|sub| sub.rooms.as_deref());
        Reader { own, ..Reader::of(self.client) }.wants(publication) && sees(rooms, epoch, publication)
    }

    pub(crate) fn sub_on(&self, edge: u32) -> Option<usize> {
        self.subs.iter().position(|sub| sub.edge == edge)
    }

    pub(crate) fn sub_of_id(&self, id: u32) -> Option<usize> {
        self.subs.iter().position(|sub| sub.id == id)
    }
}

/// The sessions of a shard.
#[derive(Debug)]
pub(crate) struct SessionTable {
    pub(crate) slab: Slab<Session>,
    pub(crate) by_client: HashMap<ClientId, u32, Keyed>,
    /// The users that have sessions here. A session without a user costs nothing here.
    pub(crate) users: Slab<UserState>,
    pub(super) by_user: BTreeMap<UserId, u32>,
    pub(super) labelled: Labelled,
    /// Sessions that went to other shards lately.
    pub(crate) moved: Moved,
    /// Sessions that have no connection.
    pub(crate) away: Away,
    /// Sessions that have a connection.
    pub(crate) connected: usize,
    /// Subscriptions of all sessions.
    pub(crate) subscriptions: usize,
    /// Bytes that the numbered sends of all sessions hold ([`Sends::bytes`]).
    pub(crate) sends_bytes: usize,
    pub(crate) mailbox_max: MailboxMax,
    /// Signals that a full mailbox has dropped.
    pub(crate) signals_dropped: u64,
    /// Sessions that a fan-out has left behind: they are to pull.
    pub(crate) left_behind: Vec<SessionRef>,
    /// Sessions that the act of the item which is being told is for. Some of them twice.
    pub(crate) acted: Vec<u32>,
    next_life: u32,
}

impl SessionTable {
    pub(crate) fn new(hash: Keyed, mailbox_max: MailboxMax) -> Self {
        SessionTable {
            slab: Slab::new(),
            by_client: HashMap::with_hasher(hash),
            users: Slab::new(),
            by_user: BTreeMap::new(),
            labelled: Labelled::new(hash),
            moved: Moved::new(hash),
            away: Away::new(hash),
            connected: 0,
            subscriptions: 0,
            sends_bytes: 0,
            mailbox_max,
            signals_dropped: 0,
            left_behind: Vec::new(),
            acted: Vec::new(),
            next_life: 0,
        }
    }

    pub(crate) fn open(&mut self, client: ClientId, at: SeatId, wire: WireId, grace_ms: u32) -> SessionRef {
        let SeatId { conn, seat } = at;
        self.next_life = self.next_life.wrapping_add(1);
        let life = self.next_life;
        let index = self.slab.insert(Session {
            life,
            client,
            conn: Some(conn),
            seat,
            wire,
            incarnation: 0,
            grace_ms,
            page: None,
            connect_by_ms: 0,
            program: None,
            identity: None,
            subs: SmallVec::new(),
            next_sub: 0,
            outstanding: 0,
            pulling: None,
            last_pull: LastPull::default(),
            pages: 0,
            spent: Spent::default(),
            extra: None,
        }) as u32;
        self.by_client.insert(client, index);
        self.connected += 1;
        SessionRef { index, life }
    }

    /// Gives a session its identity, in place of the one that it had. The user of a session stays the same.
    pub(crate) fn identify(&mut self, index: u32, identity: Identity) {
        if let Some(known) = &mut self.slab[index as usize].identity
            && known.identity.user == identity.user
        {
            self.labelled.remove(index, &known.identity.proof.labels);
            self.labelled.put(index, &identity.proof.labels);
            known.identity = identity;
            return;
        }
        let untold = self.forget_identity(index);
        debug_assert!(untold.is_none_or(|user| user.untold == Cost::default()), "a session does not change its user");
        let at = identity.user.as_ref().map(|user| {
            let users = &mut self.users;
            *self.by_user.entry(user.clone()).or_insert_with(|| {
                let (sessions, spent) = (SmallVec::new(), Spent::default());
                users.insert(UserState { user: user.clone(), sessions, spent, untold: Cost::default() }) as u32
            })
        });
        self.labelled.put(index, &identity.proof.labels);
        let place = at.map_or(0, |user| {
            let sessions = &mut self.users[user as usize].sessions;
            sessions.push(index);
            (sessions.len() - 1) as u32
        });
        let nobody = identity == Identity::default();
        let identity = (!nobody).then(|| Box::new(IndexedIdentity { identity, user: at, place }));
        self.slab[index as usize].identity = identity;
    }

    /// Takes the identity of a session. With the last session of its user here goes what is known of the user, which is
    /// returned.
    fn forget_identity(&mut self, index: u32) -> Option<UserState> {
        let known = self.slab[index as usize].identity.take()?;
        self.labelled.remove(index, &known.identity.proof.labels);
        let user = known.user?;
        let sessions = &mut self.users[user as usize].sessions;
        sessions.swap_remove(known.place as usize);
        match sessions.get(known.place as usize) {
            Some(&moved) => {
                let moved = self.slab[moved as usize].identity.as_mut().expect("a listed session has an identity");
                moved.place = known.place;
            }
            None if sessions.is_empty() => {
                let state = self.users.remove(user as usize);
                self.by_user.remove(&state.user);
                return Some(state);
            }
            None => {}
        }
        None
    }

    /// A user that has sessions here.
    pub(crate) fn user_state(&mut self, user: &UserId) -> Option<&mut UserState> {
        self.by_user.get(user).map(|&at| &mut self.users[at as usize])
    }

    /// The user of a session has done this lately, as other shards know, and its home does not know `untold` of it.
    pub(crate) fn has_spent(&mut self, index: u32, spent: &Spent, untold: Cost) {
        if let Some(user) = self.slab[index as usize].user_index() {
            let known = &mut self.users[user as usize];
            known.spent = known.spent.fuller(spent);
            known.untold += untold;
        }
    }

    /// The sessions of a user that are here.
    pub(crate) fn sessions_of(&self, user: &UserId) -> &[u32] {
        self.by_user.get(user).map_or(&[], |&at| &self.users[at as usize].sessions)
    }

    /// The clients of a user whose sessions are here, or were here lately.
    pub(crate) fn clients_of(&self, user: &UserId) -> Vec<ClientId> {
        let here = self.sessions_of(user).iter();
        let mut clients: Vec<ClientId> = here.map(|&index| self.slab[index as usize].client).collect();
        let moved = self.moved.clients_of(user).iter();
        clients.extend(moved.filter(|client| !self.by_client.contains_key(client)));
        clients
    }

    /// The session has no connection any more.
    pub(crate) fn disconnect(&mut self, index: u32) {
        let session = &mut self.slab[index as usize];
        self.connected -= usize::from(session.conn.take().is_some());
    }

    pub(crate) fn get(&mut self, at: SessionRef) -> Option<&mut Session> {
        self.slab.get_mut(at.index as usize).filter(|s| s.life == at.life)
    }

    /// Does something with the sends of a session, if it numbers them. They change in here only, so that their bytes
    /// are counted.
    pub(crate) fn sends<R>(&mut self, index: u32, act: impl FnOnce(&mut Sends) -> R) -> Option<R> {
        let sends = self.slab.get_mut(index as usize)?.extra.as_mut()?.sends.as_mut()?;
        let before = sends.bytes();
        let done = act(sends);
        self.sends_bytes = self.sends_bytes + sends.bytes() - before;
        Some(done)
    }

    /// The sends of a session, which has none yet, come from another shard.
    pub(crate) fn adopt_sends(&mut self, index: u32, sends: Sends) {
        self.sends_bytes += sends.bytes();
        self.slab[index as usize].extra().sends = Some(Box::new(sends));
    }

    pub(crate) fn reference(&self, index: u32) -> SessionRef {
        SessionRef { index, life: self.slab[index as usize].life }
    }

    /// The session goes on without the connection that it had: answers and pages that were for that one find nothing.
    pub(crate) fn renew(&mut self, index: u32) {
        self.next_life = self.next_life.wrapping_add(1);
        self.slab[index as usize].life = self.next_life;
    }

    /// Takes a session out, with its identity, and what the home of its user is still to be told.
    pub(crate) fn remove(&mut self, index: u32) -> (Session, Identity, Option<UserState>) {
        let identity = self.slab[index as usize].identity().cloned().unwrap_or_default();
        let untold = self.forget_identity(index);
        self.disconnect(index);
        self.away.back(index);
        let session = self.slab.remove(index as usize);
        let sends = session.extra.as_ref().and_then(|extra| extra.sends.as_ref());
        self.sends_bytes -= sends.map_or(0, |sends| sends.bytes());
        if self.by_client.get(&session.client) == Some(&index) {
            self.by_client.remove(&session.client);
        }
        (session, identity, untold)
    }
}

impl MemberSessions for SessionTable {
    fn wants(&self, member: &Member, publication: &Publication) -> bool {
        let session = &self.slab[member.session as usize];
        session.may_see(member.slot as usize, member.epoch, publication, false)
    }

    fn member_of(&self, session: u32, edge: u32) -> Option<(Variant, u32)> {
        let session = self.slab.get(session as usize)?;
        let sub = &session.subs[session.sub_on(edge)?];
        Some((sub.variant(session.wire), sub.membership()?.place))
    }

    fn session_of(&self, client: ClientId) -> Option<u32> {
        self.by_client.get(&client).copied()
    }

    fn keep(&mut self, session: u32, signal: &Arc<SignalPush>) {
        let max = self.mailbox_max;
        self.signals_dropped += self.slab[session as usize].extra().mailbox.put(signal.clone(), max);
    }

    fn must_pull(&mut self, session: u32) {
        self.left_behind.push(self.reference(session));
    }

    fn acts(&mut self, member: &Member) {
        self.acted.push(member.session);
    }

    fn presence_missed(&mut self, session: u32, slot: u32) {
        if let Some(membership) = self.slab[session as usize].subs[slot as usize].membership_mut() {
            membership.presence_stale = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A chat's join waits in a lane for its subscription on another shard: an idle session must not pay for that.
    #[test]
    fn a_subscription_is_small() {
        assert!(size_of::<Sub>() <= 72, "{} bytes", size_of::<Sub>());
    }

    #[test]
    fn a_connection_is_small_also_where_something_can_be_attached() {
        assert!(size_of::<Conn>() <= 80, "{} bytes", size_of::<Conn>());
    }

    #[test]
    fn memory_for_a_moment_is_given_back_and_nothing_else_is() {
        let channel = ChannelName::new("chat:a").expect("a name");
        let mut extra = Extra::default();
        extra.lanes.block(&channel);
        assert!(!extra.is_empty(), "something waits");
        extra.lanes.unblock(&channel);
        assert!(extra.is_empty());
        type Keep = fn(&mut Extra, ChannelName);
        let kept: [(&str, Keep); 8] = [
            ("the numbers of its sends", |extra, _| extra.sends = Some(Box::default())),
            ("a grant", |extra, channel| extra.granted.push(channel)),
            ("the place where it joined", |extra, channel| {
                extra.joined.push(Joined { channel, at: Position { epoch: Epoch(1), offset: 1 } });
            }),
            ("a rate", |extra, _| extra.rates.push(RateWindow { pattern: "chat:*".into(), start_ms: 0, count: 1 })),
            ("the signals that it has had", |extra, channel| extra.directed.push(LastDirected { channel, number: 1 })),
            ("a refresh", |extra, _| extra.refreshes = Refreshes { asked: 1, applied: 1 }),
            ("a question", |extra, _| extra.questions = 1),
            ("what its connection had", |extra, _| extra.attachment = Some(Attachment::new(()))),
        ];
        for (name, keep) in kept {
            let mut extra = Extra::default();
            keep(&mut extra, channel.clone());
            assert!(!extra.is_empty(), "{name} would be forgotten");
        }
    }
}
