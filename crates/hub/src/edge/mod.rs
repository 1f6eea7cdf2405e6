//! Edges: the channels that sessions of this shard follow. Members are grouped by wire and variant (the
//! batch they asked for), so that a publication is encoded once for each group; a fan-out walks a dense array and can
//! stop and go on.
//!
//! A member has `at`, the offset up to which it has the channel, and takes only what is newer: fan-outs that resume,
//! pages and repeated deliveries cannot duplicate. A publication with an audience of rooms or clients goes to their
//! members alone (`narrow`), so `at` of the others stays behind: [`Edge::reached`] says where a member really is.

pub(crate) mod batch;
mod narrow;
pub(crate) mod rooms;

use crate::act::Act;
use crate::effects::Effects;
use crate::ids::{ClientId, ConnId, Epoch, Position, ShardId, WireId};
use crate::limits::Limits;
use crate::message::{Batch, PresencePush, PresenceSnapshot, Publication, Push, SignalPush};
use crate::name::ChannelName;
use crate::names::Names;
use crate::peer::Pulled;
use crate::placement::Placement;
use crate::rng::Keyed;
use crate::slice::Slice;
use crate::slots::Slots;
use crate::watch::{Note, Noted};
use batch::{Gathered, Gathering};
use narrow::Targets;
use rooms::RoomIndex;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::sync::Arc;

/// All edges of a shard.
#[derive(Debug)]
pub(crate) struct Edges {
    names: Names,
    pub(crate) edges: Slots<Edge>,
    /// The shard's numbering of `Sub` and `Release`: one for all channels, so that a new life of an edge is never
    /// older.
    seq: u64,
    /// Edges whose number of subscriptions has changed since their homes were told.
    pub(crate) recounts: VecDeque<EdgeRef>,
    /// Edges with a fan-out to go on with, each once. One that has gone is found by its life.
    running: VecDeque<EdgeRef>,
    placement: Placement,
}

/// An edge in one life of its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EdgeRef {
    pub(crate) index: u32,
    pub(crate) life: u64,
}

/// One channel on this shard.
#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) name: ChannelName,
    /// Tells one life of this place from the next.
    pub(crate) life: u64,
    /// `seq` of the last `Sub`.
    pub(crate) seq: u64,
    /// It is kept until then for clients that are away: signals for them come here. In seconds: very many edges have
    /// it.
    kept_s: u32,
    /// Where the stream from the home stands; unknown until the first answer.
    pub(crate) at: Option<Position>,
    /// Subscriptions that wait for the home.
    pub(crate) pending: u32,
    /// The number of subscriptions of which the home was last notified.
    pub(crate) members_notified: u32,
    /// It is among the edges whose homes are to be told anew.
    pub(crate) recounted: bool,
    pub(crate) groups: SmallVec<[Group; 1]>,
    /// A delivery was missed or dropped; deliveries are ignored until a page has been pulled.
    pub(crate) behind: Behind,
    /// Presence changes were left out; the whole is asked for when the fan-out has caught up.
    pub(crate) presence_stale: bool,
    /// The edge is in the list of running edges: further deliveries wait.
    running: bool,
    /// Only while something waits to be told or somebody is in a room: most channels are silent most of the time, and
    /// have no rooms.
    busy: Option<Box<Busy>>,
}

/// A fan-out, and the items that wait behind it.
#[derive(Debug, Default)]
struct Busy {
    waiting: VecDeque<Item>,
    /// The bytes of the items that wait. (Batches are apart: each group has a page of them.)
    bytes: usize,
    /// Where the fan-out of the first item was interrupted.
    cursor: Option<Cursor>,
    /// While items wait: the place in the channel up to which everything has been told.
    told: Option<Position>,
    /// Who is in a room.
    rooms: Option<Box<RoomIndex>>,
    /// Batches that the fan-out in progress has made whole: they come next.
    whole: Vec<Gathered>,
}

/// Whether an edge takes deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behind {
    No,
    /// It will pull when the waiting items have been fanned out.
    Yes,
    /// It has pulled and waits for the page.
    Pulling,
}

/// The members that receive the same bytes. Never taken away: wires and steps of batches are few.
#[derive(Debug)]
pub(crate) struct Group {
    variant: Variant,
    /// Mostly one, which stands in the edge itself.
    pub(crate) members: SmallVec<[Member; 1]>,
    /// Their batch, where they asked for one.
    gathering: Option<Box<Gathering>>,
}

/// The properties that the members of a group share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Variant {
    pub(crate) wire: WireId,
    /// Rounded to its steps.
    pub(crate) batch: Option<Batch>,
}

/// The bounds of the items that wait on one edge.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WaitingMax {
    pub(crate) items: usize,
    pub(crate) bytes: usize,
}

impl WaitingMax {
    pub(crate) fn of(limits: &Limits) -> Self {
        WaitingMax { items: limits.fanout_waiting_max, bytes: limits.fanout_waiting_bytes_max }
    }
}

/// One live subscription.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member {
    pub(crate) conn: ConnId,
    pub(crate) session: u32,
    /// Its place among the session's subscriptions.
    pub(crate) slot: u32,
    pub(crate) at: u64,
    /// The epoch of `at`. Waiting items of another epoch are not for this member.
    pub(crate) epoch: Epoch,
    pub(crate) state: MemberState,
    pub(crate) presence: bool,
    pub(crate) signals: bool,
}

/// A member that has another place among the members of its group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MovedMember {
    pub(crate) place: u32,
    pub(crate) member: Member,
}

/// The messages that a fan-out may append to a member's outbox. The state follows from `Conn::full` and the member's
/// position; it stands here because a fan-out must not look up each connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MemberState {
    /// Everything.
    Live,
    /// Signals and presence. It pulls the publications.
    Behind,
    /// Nothing: its outbox is full, or the answer to its subscription is not sent. It will pull the publications.
    Blocked,
}

impl Member {
    /// True where publications are not appended.
    pub(crate) fn is_behind(&self) -> bool {
        self.state != MemberState::Live
    }
}

#[derive(Debug)]
enum Item {
    Publication(Epoch, Arc<Publication>),
    Batch(Gathered),
    /// The publications before this place are lost; `reset` where it is of a new epoch.
    Skip {
        to: Position,
        reset: bool,
    },
    Signal(Arc<SignalPush>),
    /// For the members as they are now; it has no place in the log.
    Unlogged(Epoch, Arc<Publication>),
    Presence(Arc<PresencePush>),
    PresenceCount {
        count: u64,
        seq: u64,
    },
    PresenceWhole(Arc<PresenceSnapshot>),
}

/// How far the fan-out of an item has come.
#[derive(Debug)]
enum Cursor {
    /// The members, group by group.
    Members(MemberCursor),
    /// The sessions that it is for.
    Targets(Targets),
}

#[derive(Debug, Clone, Copy)]
struct MemberCursor {
    group: u32,
    member: u32,
}

/// The sessions of the members, as far as a fan-out needs them.
pub(crate) trait MemberSessions {
    /// Whether a publication of the member's epoch is for it, live.
    fn wants(&self, member: &Member, publication: &Publication) -> bool;
    /// The group and place of a session's member on this edge.
    fn member_of(&self, session: u32, edge: u32) -> Option<(Variant, u32)>;
    /// The session of this client, where it is on this shard.
    fn session_of(&self, client: ClientId) -> Option<u32>;
    /// The session's outbox is full: keep the latest of each (client, event).
    fn keep(&mut self, session: u32, signal: &Arc<SignalPush>);
    /// A member was made behind.
    fn must_pull(&mut self, session: u32);
    /// The act of the item that is being told is for this member.
    fn acts(&mut self, member: &Member);
    /// A presence change was not sent.
    fn presence_missed(&mut self, session: u32, slot: u32);
}

/// The act of an entry, which is done to the members that were noted by [`MemberSessions::acts`] before anything else
/// is told.
#[derive(Debug)]
pub(crate) struct ToDo {
    pub(crate) epoch: Epoch,
    pub(crate) publication: Arc<Publication>,
    /// It is for no further members.
    pub(crate) is_last: bool,
}

impl Edges {
    pub(crate) fn new(shards: usize, hash: Keyed) -> Self {
        Edges {
            names: Names::new(hash),
            edges: Slots::new(),
            seq: 0,
            recounts: VecDeque::new(),
            running: VecDeque::new(),
            placement: Placement::new(hash.0, shards),
        }
    }

    /// The key of the hash of its tables.
    pub(crate) fn hasher(&self) -> Keyed {
        self.names.hasher()
    }

    pub(crate) fn find(&self, name: &str) -> Option<u32> {
        self.names.find(name, |at| &self.edges[at as usize].name)
    }

    /// The shard on which a channel lives.
    pub(crate) fn home_of(&self, name: &ChannelName) -> ShardId {
        self.placement.home_of(name)
    }

    /// Every shard of the node, this one among them.
    pub(crate) fn shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.placement.shards()).map(|shard| ShardId(shard as u16))
    }

    /// The shard after this one, in a circle.
    pub(crate) fn after(&self, shard: ShardId) -> ShardId {
        ShardId(((usize::from(shard.0) + 1) % self.placement.shards()) as u16)
    }

    /// Tickets may be older than the number of shards.
    pub(crate) fn is_shard(&self, shard: ShardId) -> bool {
        usize::from(shard.0) < self.placement.shards()
    }

    pub(crate) fn next_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    pub(crate) fn find_or_create(&mut self, name: &ChannelName) -> u32 {
        if let Some(index) = self.find(name) {
            return index;
        }
        let life = self.next_seq();
        let index = self.edges.insert(Edge {
            name: name.clone(),
            life,
            seq: 0,
            kept_s: 0,
            at: None,
            pending: 0,
            members_notified: 0,
            recounted: false,
            groups: SmallVec::new(),
            behind: Behind::No,
            presence_stale: false,
            running: false,
            busy: None,
        }) as u32;
        let edges = &self.edges;
        self.names.insert(name, index, |at| &edges[at as usize].name);
        index
    }

    pub(crate) fn remove(&mut self, index: u32) {
        let edge = self.edges.remove(index as usize);
        self.names.remove(&edge.name, index);
    }

    /// Gives an edge its place among those that run, at the end.
    pub(crate) fn run_later(&mut self, index: u32) {
        let edge = &mut self.edges[index as usize];
        if !std::mem::replace(&mut edge.running, true) {
            self.running.push_back(EdgeRef { index, life: edge.life });
        }
    }

    /// The next edge that goes on, which gives up its place. An edge that has gone meanwhile is a step of the slice.
    pub(crate) fn next_running(&mut self, slice: &mut Slice) -> Option<u32> {
        while let Some(EdgeRef { index, life }) = self.running.pop_front() {
            if let Some(edge) = self.edges.get_mut(index as usize).filter(|edge| edge.life == life) {
                edge.running = false;
                return Some(index);
            }
            slice.spend(1);
            if slice.is_spent() {
                break;
            }
        }
        None
    }

    /// The bytes that wait on the fullest of them.
    pub(crate) fn waiting_bytes(&self) -> usize {
        let edges = self.running.iter().filter_map(|edge| self.edges.get(edge.index as usize));
        edges.map(Edge::waiting_bytes).max().unwrap_or_default()
    }

    pub(crate) fn is_any_running(&self) -> bool {
        !self.running.is_empty()
    }
}

impl Edge {
    pub(crate) fn is_unused(&self) -> bool {
        self.pending == 0 && self.groups.iter().all(|g| g.members.is_empty())
    }

    /// Keeps it until then at least.
    pub(crate) fn keep(&mut self, until_ms: u64) {
        let until_s = u32::try_from(until_ms.div_ceil(1_000)).unwrap_or(u32::MAX);
        self.kept_s = self.kept_s.max(until_s);
    }

    pub(crate) fn kept_ms(&self) -> u64 {
        u64::from(self.kept_s) * 1_000
    }

    /// Subscriptions here, with those that wait for the home.
    pub(crate) fn count(&self) -> u32 {
        self.pending + self.groups.iter().map(|group| group.members.len() as u32).sum::<u32>()
    }

    pub(crate) fn member(&mut self, variant: Variant, index: u32) -> &mut Member {
        let group = self.groups.iter_mut().find(|g| g.variant == variant);
        &mut group.expect("a member's group exists as long as its edge does").members[index as usize]
    }

    /// The place up to which everything has been told.
    fn told(&self) -> Option<Position> {
        self.busy.as_ref().filter(|busy| !busy.waiting.is_empty()).map_or(self.at, |busy| busy.told)
    }

    /// Who is in which room; made where nobody is yet.
    pub(crate) fn rooms_or_insert(&mut self, hasher: Keyed) -> &mut RoomIndex {
        self.busy().rooms.get_or_insert_with(|| Box::new(RoomIndex::new(hasher)))
    }

    pub(crate) fn rooms(&mut self) -> Option<&mut RoomIndex> {
        self.busy.as_mut()?.rooms.as_deref_mut()
    }

    pub(crate) fn room_places(&self) -> usize {
        self.busy.as_ref().and_then(|busy| busy.rooms.as_ref()).map_or(0, |rooms| rooms.places())
    }

    /// Gives the memory back where nobody is in a room and nothing waits.
    pub(crate) fn tidy(&mut self) {
        let Some(busy) = &mut self.busy else { return };
        busy.rooms.take_if(|rooms| rooms.is_empty());
        if busy.rooms.is_none() && busy.waiting.is_empty() {
            self.busy = None;
        }
    }

    /// Up to where a member has the channel. What was told was for it or for others, as long as it is live; a batch is
    /// told later than the publications in it.
    pub(crate) fn reached(&mut self, variant: Variant, index: u32) -> Position {
        let told = self.told().filter(|_| variant.batch.is_none());
        let member = self.member(variant, index);
        let told = told.filter(|told| !member.is_behind() && told.epoch == member.epoch);
        let offset = told.map_or(member.at, |told| member.at.max(told.offset));
        Position { epoch: member.epoch, offset }
    }

    /// The same member with its place brought up to date: it is about to be behind.
    pub(crate) fn settled(&mut self, variant: Variant, index: u32) -> &mut Member {
        let reached = self.reached(variant, index);
        let member = self.member(variant, index);
        member.at = reached.offset;
        member
    }

    /// Adds a member and returns its place.
    pub(crate) fn add(&mut self, variant: Variant, member: Member) -> u32 {
        let group = match self.groups.iter().position(|g| g.variant == variant) {
            Some(at) => &mut self.groups[at],
            None => {
                let gathering = variant.batch.map(|batch| Box::new(Gathering::new(batch)));
                self.groups.push(Group { variant, members: SmallVec::new(), gathering });
                self.groups.last_mut().expect("just pushed")
            }
        };
        group.members.push(member);
        (group.members.len() - 1) as u32
    }

    /// Takes a member out. Returns the members that moved by it, with their new places: at most two.
    pub(crate) fn take(&mut self, variant: Variant, index: u32) -> SmallVec<[MovedMember; 2]> {
        let mut moved = SmallVec::new();
        let Some(at) = self.groups.iter().position(|g| g.variant == variant) else { return moved };
        let members = &mut self.groups[at].members;
        let mut hole = index as usize;
        // A fan-out has served the members before its cursor and not those from it on. The hole is closed without
        // letting one of the latter slip to the front, where it would be passed over.
        let is_served = |c: &&mut MemberCursor| c.group as usize == at && hole < c.member as usize;
        let cursor = self.busy.as_mut().and_then(|busy| match &mut busy.cursor {
            Some(Cursor::Members(cursor)) => Some(cursor),
            _ => None,
        });
        if let Some(cursor) = cursor.filter(is_served) {
            cursor.member -= 1;
            let last_served = cursor.member as usize;
            members.swap(hole, last_served);
            if hole != last_served {
                moved.push(MovedMember { place: hole as u32, member: members[hole] });
            }
            hole = last_served;
        }
        members.swap_remove(hole);
        if let Some(member) = members.get(hole) {
            moved.push(MovedMember { place: hole as u32, member: *member });
        }
        if members.is_empty() {
            *members = SmallVec::new();
        }
        moved
    }

    /// Takes a delivery in: the next one waits for its fan-out, an old one is ignored, after a hole the edge is behind.
    /// False when the home must be told that nothing is taken any more.
    pub(crate) fn deliver(&mut self, epoch: Epoch, publication: Arc<Publication>, max: WaitingMax) -> bool {
        let Some(at) = &mut self.at else { return true }; // nobody is subscribed yet; the answer will tell the place
        if self.behind != Behind::No || epoch != at.epoch || publication.offset <= at.offset {
            return true;
        }
        let (prev, offset) = (publication.prev, publication.offset);
        if prev != at.offset || !self.wait_if_room(Item::Publication(epoch, publication), max) {
            self.behind = Behind::Yes;
            return false;
        }
        if let Some(at) = &mut self.at {
            at.offset = offset;
        }
        true
    }

    /// Something without a place in the log. A list is asked for by somebody who waits, and takes its room; any other
    /// is lost where too much waits already.
    pub(crate) fn unlogged(&mut self, epoch: Epoch, publication: Arc<Publication>, max: WaitingMax) {
        let item = Item::Unlogged(epoch, publication);
        if item.act().is_some() || self.has_room(&item, max) {
            self.wait(item);
        }
    }

    /// Lets an item wait for its fan-out where too much does not wait already.
    fn wait_if_room(&mut self, item: Item, max: WaitingMax) -> bool {
        let room = self.has_room(&item, max);
        if room {
            self.wait(item);
        }
        room
    }

    fn has_room(&self, item: &Item, max: WaitingMax) -> bool {
        let (items, bytes) = self.busy.as_ref().map_or((0, 0), |busy| (busy.waiting.len(), busy.bytes));
        fits(item, items, bytes, max)
    }

    fn wait(&mut self, item: Item) {
        let busy = self.busy();
        busy.bytes += item.bytes();
        busy.waiting.push_back(item);
    }

    fn busy(&mut self) -> &mut Busy {
        let busy = self.busy.get_or_insert_default();
        if busy.waiting.is_empty() {
            busy.told = self.at; // nothing waits yet: everything up to here has been told
        }
        busy
    }

    /// The bytes that wait for a fan-out.
    fn waiting_bytes(&self) -> usize {
        self.busy.as_ref().map_or(0, |busy| busy.bytes)
    }

    /// It goes on when its turn comes. Until then new items wait.
    pub(crate) fn is_running(&self) -> bool {
        self.running
    }

    /// The channel goes on at `to`, and the edge with it.
    pub(crate) fn skip(&mut self, to: Position) {
        let Some(at) = self.at else { return };
        let reset = at.epoch != to.epoch;
        if self.behind == Behind::No && (reset || to.offset > at.offset) {
            self.wait(Item::Skip { to, reset });
            self.at = Some(to);
        }
    }

    /// A page that follows `at` has come. Entries that the home no longer has become a gap.
    pub(crate) fn pulled(&mut self, pulled: Pulled) {
        let Some(mut at) = self.at else { return };
        let reset = at.epoch != pulled.top.epoch;
        if reset || !pulled.complete {
            at = Position { epoch: pulled.top.epoch, offset: pulled.start };
            self.wait(Item::Skip { to: at, reset });
        }
        for publication in pulled.publications.into_iter().filter(|p| p.offset > at.offset) {
            self.wait(Item::Publication(at.epoch, publication));
        }
        at.offset = at.offset.max(pulled.end);
        self.at = Some(at);
        self.behind = if at.offset >= pulled.top.offset { Behind::No } else { Behind::Yes };
    }

    /// Subscribers get this signal. Where too much waits already, it takes the place of the one of the same client and
    /// event, else of the oldest ones whose fan-out has not begun. Where all of those would not make room for it, it is
    /// lost itself and they stay. Returns how many signals were lost.
    pub(crate) fn signal(&mut self, signal: Arc<SignalPush>, max: WaitingMax) -> u64 {
        let same = |old: &SignalPush| old.from.client == signal.from.client && old.signal.event == signal.signal.event;
        let item = Item::Signal(signal.clone());
        let mut shed = 0;
        while !self.has_room(&item, max) {
            let Some(busy) = &mut self.busy else { return 1 };
            let (mut oldest, mut latest) = (None, None);
            let (mut items, mut bytes) = (busy.waiting.len(), busy.bytes);
            for (at, old) in busy.waiting.iter().enumerate().skip(busy.first()) {
                let Item::Signal(signal) = old else { continue };
                (items, bytes) = (items - 1, bytes - old.bytes());
                oldest = oldest.or(Some(at));
                latest = latest.or(same(signal).then_some(at));
            }
            if !fits(&item, items, bytes, max) {
                return 1;
            }
            let Some(gone) = latest.or(oldest).and_then(|at| busy.waiting.remove(at)) else { return 1 };
            busy.bytes -= gone.bytes();
            shed += 1;
        }
        self.wait(item);
        shed
    }

    /// A change of presence; where too much waits already, the whole is asked for later in its place.
    pub(crate) fn presence(&mut self, push: Arc<PresencePush>, max: WaitingMax) {
        self.presence_stale = self.presence_stale || !self.wait_if_room(Item::Presence(push), max);
    }

    /// How many are present, told at most once a second.
    pub(crate) fn presence_count(&mut self, count: u64, seq: u64, max: WaitingMax) {
        self.presence_stale = self.presence_stale || !self.wait_if_room(Item::PresenceCount { count, seq }, max);
    }

    /// The whole presence. A snapshot is large: if it finds no room, the edge asks for it again when the waiting items
    /// have been sent.
    pub(crate) fn presence_whole(&mut self, snapshot: Arc<PresenceSnapshot>, max: WaitingMax) {
        self.presence_stale = !self.wait_if_room(Item::PresenceWhole(snapshot), max);
    }

    /// The batches of which nobody has been reminded yet: (group, when to look).
    pub(crate) fn reminders(&mut self) -> impl Iterator<Item = (u32, u64)> {
        let gathering = self.groups.iter_mut().enumerate().filter_map(|(at, g)| Some((at, g.gathering.as_mut()?)));
        gathering.filter_map(|(at, gathering)| Some((at as u32, gathering.remind()?)))
    }

    /// It is time to look at the batch of a group: where it has waited long enough, it is told next.
    pub(crate) fn reminded(&mut self, group: u32, now_ms: u64) {
        let Some(gathering) = self.groups.get_mut(group as usize).and_then(|g| g.gathering.as_mut()) else { return };
        if gathering.reminded(now_ms) {
            let gathered = gathering.take(group);
            self.tell_next(gathered);
        }
    }

    /// Puts a batch before all that waits, but for the item whose fan-out is interrupted and for earlier batches.
    fn tell_next(&mut self, gathered: Gathered) {
        let busy = self.busy();
        let first = busy.first();
        let batches = busy.waiting.iter().skip(first).take_while(|item| matches!(item, Item::Batch(_))).count();
        busy.waiting.insert(first + batches, Item::Batch(gathered));
    }

    /// Batches with publications before this place are sent first.
    fn flush_batches(&mut self, to: Position) {
        for at in 0..self.groups.len() {
            let gathering = self.groups[at].gathering.as_mut().filter(|gathering| gathering.ends_before(to));
            if let Some(gathered) = gathering.map(|gathering| gathering.take(at as u32)) {
                self.tell_next(gathered);
            }
        }
    }

    /// True if no item waits for the fan-out and none was missed: a member at the edge's position has everything.
    pub(crate) fn is_quiet(&self) -> bool {
        self.behind == Behind::No && !self.has_work()
    }

    pub(crate) fn has_work(&self) -> bool {
        self.busy.as_ref().is_some_and(|busy| !busy.waiting.is_empty())
    }

    /// Sends the waiting items, as far as the slice goes. The rest continues in another slice, or when what it returns
    /// is done.
    pub(crate) fn fan_out(
        &mut self,
        index: u32,
        sessions: &mut impl MemberSessions,
        out: &mut Effects,
        slice: &mut Slice,
        (now_ms, page_bytes): (u64, usize),
    ) -> Option<ToDo> {
        loop {
            // The gathered publications lie before the gap.
            let busy = self.busy.as_deref_mut()?;
            if let (Some(&Item::Skip { to, .. }), None) = (busy.waiting.front(), &busy.cursor) {
                self.flush_batches(to);
            }
            let busy = self.busy.as_deref_mut()?;
            let Busy { waiting, bytes, cursor: interrupted, whole, told, rooms } = busy;
            let Some(item) = waiting.front() else { break };
            if slice.is_spent() || (interrupted.is_none() && !slice.take_bytes(item.bytes())) {
                return None;
            }
            slice.spend(1); // also where no member takes it
            let begins = interrupted.is_none().then(|| out.mark());
            let telling = Telling { item, channel: &self.name, edge: index, now_ms, page_bytes };
            let cursor = interrupted.take().unwrap_or_else(|| match Targets::of(item, rooms.as_deref(), sessions) {
                Some(targets) => Cursor::Targets(targets),
                None => Cursor::Members(MemberCursor { group: item.first_group(), member: 0 }),
            });
            *interrupted = match cursor {
                Cursor::Members(cursor) => telling.tell(cursor, &mut self.groups, whole, sessions, out, slice),
                Cursor::Targets(targets) => {
                    if begins.is_some() {
                        telling.gather(&mut self.groups, whole);
                    }
                    telling.tell_targets(targets, &mut self.groups, sessions, out, slice)
                }
            };
            if begins.is_some_and(|mark| out.mark() > mark) {
                item.begins(&self.name, out);
            }
            let act = item.act().map(|(epoch, publication)| (epoch, publication.clone()));
            let to_do = |is_last| act.map(|(epoch, publication)| ToDo { epoch, publication, is_last });
            if interrupted.is_some() {
                return to_do(false);
            }
            if let Some(item) = waiting.pop_front() {
                *told = item.ends_at().or(*told);
                if !matches!(item, Item::Batch(_)) {
                    *bytes -= item.bytes();
                }
            }
            while let Some(gathered) = self.busy.as_mut().and_then(|busy| busy.whole.pop()) {
                self.tell_next(gathered);
            }
            let to_do = to_do(true);
            if to_do.is_some() {
                return to_do;
            }
        }
        self.tidy(); // a silent channel holds nothing for its next publication
        None
    }
}

/// One item that is being told.
#[derive(Debug, Clone, Copy)]
struct Telling<'a> {
    item: &'a Item,
    channel: &'a ChannelName,
    /// The place of the channel's edge.
    edge: u32,
    now_ms: u64,
    page_bytes: usize,
}

impl Telling<'_> {
    /// Tells the members from the cursor on, as far as the slice goes. Returns the cursor where it has ended before all
    /// were told.
    fn tell(
        &self,
        mut cursor: MemberCursor,
        groups: &mut [Group],
        whole: &mut Vec<Gathered>,
        sessions: &mut impl MemberSessions,
        out: &mut Effects,
        slice: &mut Slice,
    ) -> Option<Cursor> {
        while let Some(group) = groups.get_mut(cursor.group as usize) {
            let next = MemberCursor { group: cursor.group + 1, member: 0 };
            if group.gathering.is_some() && matches!(self.item, Item::Publication(..)) {
                self.gather_for(cursor.group, group, whole);
                cursor = next;
                continue;
            }
            let from = (cursor.member as usize).min(group.members.len());
            let members = &mut group.members[from..];
            // At least one, so that a slice of one step comes to something.
            let served = members.len().min(slice.steps().max(1));
            self.item.tell(&mut members[..served], sessions, out, (self.channel, group.variant.wire));
            slice.spend(served);
            if served < members.len() {
                return Some(Cursor::Members(MemberCursor { group: cursor.group, member: (from + served) as u32 }));
            }
            if matches!(self.item, Item::Batch(_)) {
                break; // no other group's
            }
            cursor = next;
        }
        None
    }

    /// Adds a publication to the batches of all groups that have one.
    fn gather(&self, groups: &mut [Group], whole: &mut Vec<Gathered>) {
        for (at, group) in groups.iter_mut().enumerate() {
            self.gather_for(at as u32, group, whole);
        }
    }

    fn gather_for(&self, at: u32, group: &mut Group, whole: &mut Vec<Gathered>) {
        let Item::Publication(epoch, publication) = self.item else { return };
        if publication.act.is_some() {
            return;
        }
        let Some(gathering) = group.gathering.as_mut().filter(|_| !group.members.is_empty()) else { return };
        if gathering.put(*epoch, publication, self.now_ms, self.page_bytes) {
            whole.push(gathering.take(at));
        }
    }
}

impl Busy {
    /// Before this place nothing may be put or taken: the item whose fan-out is interrupted stays the first.
    fn first(&self) -> usize {
        usize::from(self.cursor.is_some())
    }
}

impl Item {
    fn bytes(&self) -> usize {
        const OTHER: usize = 128;
        match self {
            Item::Publication(_, publication) | Item::Unlogged(_, publication) => publication.cost(),
            Item::Batch(gathered) => gathered.bytes(),
            Item::Signal(signal) => OTHER + signal.signal.data.len(),
            Item::Presence(push) => OTHER + push.entry.cost(),
            Item::PresenceWhole(snapshot) => OTHER + snapshot.cost(),
            Item::Skip { .. } | Item::PresenceCount { .. } => OTHER,
        }
    }

    /// The place in the channel that this item brings.
    fn ends_at(&self) -> Option<Position> {
        match self {
            Item::Publication(epoch, publication) => Some(Position { epoch: *epoch, offset: publication.offset }),
            Item::Skip { to, .. } => Some(*to),
            _ => None,
        }
    }

    /// An entry with an act.
    fn act(&self) -> Option<(Epoch, &Arc<Publication>)> {
        match self {
            Item::Publication(epoch, publication) | Item::Unlogged(epoch, publication) => {
                publication.act.is_some().then_some((*epoch, publication))
            }
            _ => None,
        }
    }

    /// For the watchers: the first members are told of this. (A batch has waited because its members wanted that.)
    fn begins(&self, channel: &ChannelName, out: &mut Effects) {
        match self {
            Item::Publication(_, publication) => out.begun(publication.ts_ms),
            Item::Skip { reset, .. } => {
                let what = Noted::Gap { channel: channel.clone(), reset: *reset };
                out.note(Note { conn: None, client: None, user: None, what }); // it concerns all of them
            }
            _ => {}
        }
    }

    /// The group with which its fan-out begins.
    fn first_group(&self) -> u32 {
        if let Item::Batch(gathered) = self { gathered.group } else { 0 }
    }

    /// Tells it to those of `members` that want it.
    fn tell(
        &self,
        members: &mut [Member],
        sessions: &mut impl MemberSessions,
        out: &mut Effects,
        (channel, wire): (&ChannelName, WireId),
    ) {
        if let Item::Batch(gathered) = self {
            return gathered.tell(members, sessions, out, (channel, wire));
        }
        let start = out.mark();
        self.add_recipients(members, sessions, out);
        out.push_from(start, self.push(channel), wire);
    }

    fn add_recipients(&self, members: &mut [Member], sessions: &mut impl MemberSessions, out: &mut Effects) {
        match self {
            Item::Publication(..) | Item::Unlogged(..) => {
                for member in members {
                    if self.is_taken(member, sessions) {
                        out.recipient(member.conn);
                    }
                }
            }
            Item::Batch(_) => {} // sends itself
            Item::Skip { to, reset } => {
                // A member that is behind finds the loss itself when it pulls; a member that has just come may be past
                // it.
                for member in members.iter_mut().filter(|m| !m.is_behind() && (m.epoch != to.epoch || m.at < to.offset))
                {
                    if *reset == (member.epoch == to.epoch) {
                        // It is in the new epoch already, where nothing that it still wants need be lost: it sees for
                        // itself.
                        member.state = MemberState::Behind;
                        sessions.must_pull(member.session);
                        continue;
                    }
                    (member.at, member.epoch) = (to.offset, to.epoch);
                    out.recipient(member.conn);
                }
            }
            Item::Signal(signal) => {
                let sender = signal.from.client.and_then(|client| sessions.session_of(client));
                for member in members {
                    if !member.signals || Some(member.session) == sender {
                        continue;
                    }
                    match member.state {
                        MemberState::Live | MemberState::Behind => out.recipient(member.conn),
                        MemberState::Blocked => sessions.keep(member.session, signal),
                    }
                }
            }
            Item::Presence(_) | Item::PresenceCount { .. } | Item::PresenceWhole(_) => {
                for member in members.iter().filter(|m| m.presence) {
                    match member.state {
                        MemberState::Live | MemberState::Behind => out.recipient(member.conn),
                        MemberState::Blocked => sessions.presence_missed(member.session, member.slot),
                    }
                }
            }
        }
    }

    /// Whether a member gets this publication now. It moves on to its place, and the act is noted where it is for this
    /// member.
    fn is_taken(&self, member: &mut Member, sessions: &mut impl MemberSessions) -> bool {
        match self {
            Item::Publication(epoch, publication) => {
                let is_live = !member.is_behind();
                // A member that is behind reads the others' acts in its own time; of a question it must be known now
                // that it will be asked.
                let asks = matches!(publication.act.as_deref(), Some(Act::Ask(_)));
                if member.at >= publication.offset || member.epoch != *epoch || !(is_live || asks) {
                    return false;
                }
                if is_live {
                    member.at = publication.offset;
                }
                if publication.is_narrow() && !sessions.wants(member, publication) {
                    return false;
                }
                if publication.act.is_some() {
                    sessions.acts(member);
                }
                is_live && publication.is_shown()
            }
            Item::Unlogged(epoch, publication) => {
                if member.epoch != *epoch || !sessions.wants(member, publication) {
                    return false;
                }
                if publication.act.is_some() {
                    sessions.acts(member);
                }
                member.state == MemberState::Live && publication.is_shown()
            }
            _ => false,
        }
    }

    fn push(&self, channel: &ChannelName) -> Push {
        let channel = channel.clone();
        match self {
            Item::Publication(epoch, publication) => {
                Push::Message { channel, epoch: *epoch, publication: publication.clone() }
            }
            Item::Unlogged(_, publication) => Push::Volatile { channel, publication: publication.clone() },
            Item::Batch(gathered) => Push::Messages { channel, publications: gathered.publications.clone() },
            Item::Skip { to, reset } => Push::Gap { channel, position: *to, reset: *reset },
            Item::Signal(signal) => Push::Signal(signal.clone()),
            Item::Presence(push) => Push::Presence(push.clone()),
            Item::PresenceCount { count, seq } => Push::PresenceCount { channel, count: *count, seq: *seq },
            Item::PresenceWhole(snapshot) => Push::PresenceSnapshot { channel, snapshot: snapshot.clone() },
        }
    }
}

/// Whether an item may wait beside so many others. One alone has room, however large it is.
fn fits(item: &Item, items: usize, bytes: usize, max: WaitingMax) -> bool {
    let has_bytes = items == 0 || bytes + item.bytes() <= max.bytes;
    items < max.items && has_bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Sender, Signal};
    use bytes::Bytes;

    /// Very many channels have one subscriber each: so an edge must be small.
    #[test]
    fn an_edge_stays_small() {
        assert!(size_of::<Edge>() <= 160, "{} bytes", size_of::<Edge>());
        assert!(size_of::<Member>() <= 40, "{} bytes", size_of::<Member>());
    }

    #[test]
    fn under_backlog_the_latest_of_each_client_and_event_wins_and_then_the_oldest_goes() {
        let name = ChannelName::new("a").expect("valid");
        let mut edges = Edges::new(1, Keyed(1));
        let index = edges.find_or_create(&name);
        let edge = &mut edges.edges[index as usize];
        let mut shed = Vec::new();
        for (client, text) in [(1, "1a"), (2, "2a"), (3, "3a"), (2, "2b"), (4, "4a"), (2, "2c")] {
            let data = Bytes::from_static(text.as_bytes());
            let signal = Signal { channel: name.clone(), event: "move".into(), data, to: None };
            let from = Sender { client: Some(ClientId(client)), user: None };
            shed.push(
                edge.signal(Arc::new(SignalPush { signal, from, ts_ms: 0 }), WaitingMax { items: 3, bytes: 1 << 20 }),
            );
        }
        let waiting = edge.busy.iter().flat_map(|busy| &busy.waiting).filter_map(|item| match item {
            Item::Signal(signal) => Some(&signal.signal.data[..]),
            _ => None,
        });
        assert_eq!(waiting.collect::<Vec<_>>(), [&b"3a"[..], b"4a", b"2c"]);
        assert_eq!(shed, [0, 0, 0, 1, 1, 1]);
    }
    #[test]
    fn a_signal_takes_the_place_of_one_of_the_same_event() {
        let name = ChannelName::new("a").expect("valid");
        let mut edges = Edges::new(1, Keyed(1));
        let index = edges.find_or_create(&name);
        let edge = &mut edges.edges[index as usize];
        for (client, event) in [(2, "move"), (1, "typing"), (1, "move"), (1, "move")] {
            let data = Bytes::from_static(b"1");
            let signal = Signal { channel: name.clone(), event: event.into(), data, to: None };
            let from = Sender { client: Some(ClientId(client)), user: None };
            edge.signal(Arc::new(SignalPush { signal, from, ts_ms: 0 }), WaitingMax { items: 3, bytes: 1 << 20 });
        }
        let waiting = edge.busy.iter().flat_map(|busy| &busy.waiting).filter_map(|item| match item {
            Item::Signal(signal) => Some((signal.from.client.map_or(0, |client| client.0), &*signal.signal.event)),
            _ => None,
        });
        assert_eq!(waiting.collect::<Vec<_>>(), [(2, "move"), (1, "typing"), (1, "move")]);
    }

    #[test]
    fn signals_are_shed_only_where_that_makes_room_and_each_is_counted() {
        let name = ChannelName::new("a").expect("valid");
        let mut edges = Edges::new(1, Keyed(1));
        let index = edges.find_or_create(&name);
        let edge = &mut edges.edges[index as usize];
        let signal = |client, bytes| {
            let signal =
                Signal { channel: name.clone(), event: "move".into(), data: vec![b'1'; bytes].into(), to: None };
            let from = Sender { client: Some(ClientId(client)), user: None };
            Arc::new(SignalPush { signal, from, ts_ms: 0 })
        };
        let small = Item::Signal(signal(1, 10)).bytes();
        let snapshot = Arc::new(PresenceSnapshot { seq: 1, count: 0, entries: Some(Vec::new()) });
        let whole = Item::PresenceWhole(snapshot.clone()).bytes();
        let max = WaitingMax { items: 100, bytes: whole + 3 * small };
        edge.presence_whole(snapshot, max);
        let kept = [1, 2, 3].map(|client| edge.signal(signal(client, 10), max));
        assert_eq!((kept, edge.waiting_bytes()), ([0; 3], max.bytes));
        assert_eq!(edge.signal(signal(4, 10 + 3 * small), max), 1, "it would not fit without all of them either");
        assert_eq!(edge.waiting_bytes(), max.bytes, "so they stay");
        assert_eq!(edge.signal(signal(4, 10 + small), max), 2);
        assert_eq!(edge.waiting_bytes(), max.bytes);
    }
}
