//! Edges: the channels that sessions of this shard follow. Members are grouped by wire and variant (the
//! batch they asked for), so that a publication is encoded once for each group; a fan-out walks a dense array and can
//! stop and go on.
//!
//! A member has `at`, the offset up to which it has the channel, and takes only what is newer: fan-outs that resume,
//! pages and repeated deliveries cannot duplicate. A publication with an audience of rooms or clients goes to their
//! members alone (`narrow`), so `at` of the others stays behind: [`Edge::reached`] says where a member really is.

pub(crate) mod batch;
mod fanout;
mod item;
mod members;
mod narrow;
pub(crate) mod rooms;
mod waiting;

pub(crate) use fanout::{MemberSessions, ToDo};
pub(crate) use members::{Group, Member, MemberState, MovedMember, Variant};
pub(crate) use waiting::WaitingMax;

use crate::ids::{Position, ShardId, UserId};
use crate::name::ChannelName;
use crate::names::Names;
use crate::placement::Placement;
use crate::rng::Keyed;
use crate::slice::Slice;
use crate::slots::Slots;
use smallvec::SmallVec;
use std::collections::VecDeque;
use waiting::Busy;

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

/// Whether an edge takes deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behind {
    No,
    /// It will pull when the waiting items have been fanned out.
    Yes,
    /// It has pulled and waits for the page.
    Pulling,
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

    /// The shard that counts the sessions of a user.
    pub(crate) fn home_of_user(&self, user: &UserId) -> ShardId {
        self.placement.home_of_user(user)
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
        let edges = &self.edges;
        self.names.remove(&edge.name, index, |at| &edges[at as usize].name);
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

    /// It goes on when its turn comes. Until then new items wait.
    pub(crate) fn is_running(&self) -> bool {
        self.running
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Very many channels have one subscriber each: so an edge must be small.
    #[test]
    fn an_edge_stays_small() {
        assert!(size_of::<Edge>() <= 160, "{} bytes", size_of::<Edge>());
        assert!(size_of::<Member>() <= 40, "{} bytes", size_of::<Member>());
    }
}
