//! The fan-out of an edge: the waiting items go to the members, one after the other, as far as a slice goes.
//!
//! A cursor says where it was interrupted, and it goes on from there in another slice. The act of an entry goes to the
//! caller, who does it before anything else is told.

use super::batch::Gathered;
use super::item::Item;
use super::narrow::Targets;
use super::waiting::Busy;
use super::{Edge, Group, Member, Variant};
use crate::effects::Effects;
use crate::ids::{ClientId, Epoch};
use crate::message::{Publication, SignalPush};
use crate::name::ChannelName;
use crate::slice::Slice;
use std::sync::Arc;

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

/// How far the fan-out of an item has come.
#[derive(Debug)]
pub(super) enum Cursor {
    /// The members, group by group.
    Members(MemberCursor),
    /// The sessions that it is for.
    Targets(Targets),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct MemberCursor {
    pub(super) group: u32,
    pub(super) member: u32,
}

impl Edge {
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
            let Busy { waiting, bytes, cursor: interrupted, served, whole, told, rooms } = busy;
            let Some(item) = waiting.front() else { break };
            if slice.is_spent() || (interrupted.is_none() && !slice.take_bytes(item.bytes())) {
                return None;
            }
            slice.spend(1); // also where no member takes it
            let begins = interrupted.is_none().then(|| out.mark());
            let telling = Telling { item, served, channel: &self.name, edge: index, now_ms, page_bytes };
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
            served.clear();
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
pub(super) struct Telling<'a> {
    pub(super) item: &'a Item,
    /// These sessions have had it in the group of another wire.
    served: &'a [u32],
    pub(super) channel: &'a ChannelName,
    /// The place of the channel's edge.
    pub(super) edge: u32,
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
            let wire = group.variant.wire;
            // All at once, but for those in between that have had it.
            for members in members[..served].split_mut(|member| self.served.contains(&member.session)) {
                self.item.tell(members, sessions, out, (self.channel, wire));
            }
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
