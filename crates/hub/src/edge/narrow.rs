//! Narrow fan-out: a publication for certain rooms or clients goes to their members and to nobody else.
//!
//! In: a publication with an audience of `rooms` or `only`. Out: a push for the members that may see it. The sessions
//! are taken from the edge's rooms when the fan-out begins. One that enters a room while the fan-out is interrupted is
//! in it from a later place of the channel on, and one that leaves was in it at this place: neither changes to whom the
//! publication goes. Members that asked for batches get it with their batch.

use super::fanout::{Cursor, Telling};
use super::item::Item;
use super::rooms::RoomIndex;
use super::{Group, MemberSessions};
use crate::effects::Effects;
use crate::ids::ConnId;
use crate::slice::Slice;
use smallvec::SmallVec;

/// The sessions that an item may be for. Those of a publication may be in it twice.
#[derive(Debug)]
pub(super) struct Targets {
    sessions: SmallVec<[u32; 8]>,
    /// The first one that it has not come to.
    next: usize,
}

impl Targets {
    /// `None` where the item is for all members, or for all but some.
    pub(super) fn of(item: &Item, rooms: Option<&RoomIndex>, sessions: &impl MemberSessions) -> Option<Targets> {
        let (Item::Publication(_, publication) | Item::Unlogged(_, publication)) = item else { return None };
        let audience = publication.audience.as_deref()?;
        let mut sessions: SmallVec<[u32; 8]> = match (&audience.only[..], &audience.rooms[..]) {
            ([], []) => return None,
            ([], wanted) => {
                rooms.iter().flat_map(|rooms| wanted.iter().flat_map(|room| rooms.sessions(room))).copied().collect()
            }
            (only, _) => only.iter().filter_map(|client| sessions.session_of(*client)).collect(),
        };
        // A publication without a place in the log moves no member on, so nothing else says that a member has it.
        if matches!(item, Item::Unlogged(..)) {
            sessions.sort_unstable();
            sessions.dedup();
        }
        Some(Targets { sessions, next: 0 })
    }
}

impl Telling<'_> {
    /// Tells a publication to as many targets as the slice allows, but at least to one. Returns the cursor where some
    /// are left.
    pub(super) fn tell_targets(
        &self,
        mut targets: Targets,
        groups: &mut [Group],
        sessions: &mut impl MemberSessions,
        out: &mut Effects,
        slice: &mut Slice,
    ) -> Option<Cursor> {
        let rest = &targets.sessions[targets.next.min(targets.sessions.len())..];
        let served = rest.len().min(slice.steps().max(1));
        let mut receivers: SmallVec<[(usize, ConnId); 16]> = SmallVec::new();
        for &session in &rest[..served] {
            let Some((variant, place)) = sessions.member_of(session, self.edge) else { continue };
            let Some(at) = groups.iter().position(|group| group.variant == variant) else { continue };
            if groups[at].gathering.is_some() {
                continue;
            }
            let member = &mut groups[at].members[place as usize];
            debug_assert_eq!(member.session, session, "a session knows its member's place");
            // The second time in the list it has a publication already.
            if self.item.is_taken(member, sessions) {
                receivers.push((at, member.conn));
            }
        }
        targets.next += served;
        slice.spend(served);
        receivers.sort_by_key(|(group, _)| *group); // mostly they are all in one
        for of_group in receivers.chunk_by(|(one, _), (other, _)| one == other) {
            let start = out.mark();
            of_group.iter().for_each(|(_, conn)| out.recipient(*conn));
            out.push_from(start, self.item.push(self.channel), groups[of_group[0].0].variant.wire);
        }
        (targets.next < targets.sessions.len()).then_some(Cursor::Targets(targets))
    }
}
