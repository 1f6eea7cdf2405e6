//! The members of a channel on this shard: its live subscriptions, in groups that receive the same bytes.
//!
//! A member has `at`, the offset up to which it has the channel, and takes only what is newer. [`Edge::take`] closes
//! the hole that a member leaves so that an interrupted fan-out passes over none and serves none twice.

use super::batch::Gathering;
use super::fanout::{Cursor, MemberCursor};
use super::{Behind, Edge};
use crate::ids::{ConnId, Epoch, Position, WireId};
use crate::inspect::SubscriptionState;
use crate::message::Batch;
use smallvec::SmallVec;

/// The members that receive the same bytes. Never taken away: wires and steps of batches are few.
#[derive(Debug)]
pub(crate) struct Group {
    pub(super) variant: Variant,
    /// Mostly one, which stands in the edge itself.
    pub(crate) members: SmallVec<[Member; 1]>,
    /// Their batch, where they asked for one.
    pub(super) gathering: Option<Box<Gathering>>,
}

/// The properties that the members of a group share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Variant {
    pub(crate) wire: WireId,
    /// Rounded to its steps.
    pub(crate) batch: Option<Batch>,
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

impl Edge {
    /// Subscriptions here, with those that wait for the home.
    pub(crate) fn count(&self) -> u32 {
        self.pending + self.groups.iter().map(|group| group.members.len() as u32).sum::<u32>()
    }

    fn member_at(&self, variant: Variant, index: u32) -> &Member {
        let group = self.groups.iter().find(|g| g.variant == variant);
        &group.expect("a member's group exists as long as its edge does").members[index as usize]
    }

    /// How far the subscription of a member has come, once it is answered.
    pub(crate) fn state_of(&self, variant: Variant, index: u32) -> SubscriptionState {
        if self.member_at(variant, index).is_behind() { SubscriptionState::CatchingUp } else { SubscriptionState::Live }
    }

    /// The members, each with its place.
    pub(crate) fn places(&self) -> impl Iterator<Item = (Variant, u32, &Member)> {
        self.groups.iter().flat_map(|group| {
            let members = group.members.iter().enumerate();
            members.map(|(place, member)| (group.variant, place as u32, member))
        })
    }

    /// Deliveries were missed, and are read from the history.
    pub(crate) fn is_behind(&self) -> bool {
        self.behind != Behind::No
    }

    pub(crate) fn member(&mut self, variant: Variant, index: u32) -> &mut Member {
        let group = self.groups.iter_mut().find(|g| g.variant == variant);
        &mut group.expect("a member's group exists as long as its edge does").members[index as usize]
    }

    /// Up to where a member has the channel. A live member has everything that the edge has told: the rest was for
    /// others. A batch is told later than the publications in it.
    pub(crate) fn reached(&self, variant: Variant, index: u32) -> Position {
        let told = self.told().filter(|_| variant.batch.is_none());
        let member = self.member_at(variant, index);
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

    /// A member is about to go to another group. An interrupted fan-out does not come to it again there.
    pub(crate) fn leaves_group(&mut self, variant: Variant, index: u32) {
        let Some(at) = self.groups.iter().position(|g| g.variant == variant) else { return };
        let Some(busy) = self.busy.as_mut() else { return };
        let Some(Cursor::Members(cursor)) = &busy.cursor else { return };
        let session = self.groups[at].members[index as usize].session;
        let is_served = (at as u32, index) < (cursor.group, cursor.member);
        if is_served && !busy.served.contains(&session) {
            busy.served.push(session);
        }
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
}
