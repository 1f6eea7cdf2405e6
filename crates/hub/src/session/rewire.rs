//! A connection goes on over another wire: a client that polled has a WebSocket now.
//!
//! In: the connection and its new wire. Out: nothing to the client. Its members stand in the groups of the new wire
//! from here on. A fan-out that is under way may have passed the new group by, or may still come to it; so a member
//! that does not have everything is *behind* and pulls what is newer than its position: no publication is lost, and
//! nothing comes twice. A signal of an interrupted fan-out is not repeated by a pull: it may be missed.

use super::{Cx, HeartbeatKind, Sessions};
use crate::edge::MemberState;
use crate::ids::{ConnId, Position, WireId};
use smallvec::SmallVec;

impl Sessions {
    /// Every later push to this connection is for `wire`.
    pub(crate) fn rewired(&mut self, cx: &mut Cx<'_>, id: ConnId, wire: WireId) {
        let Some(conn) = self.conn(id) else { return };
        if std::mem::replace(&mut conn.wire, wire) == wire {
            return;
        }
        if conn.heartbeat.kind == HeartbeatKind::WaitsDetached {
            conn.heartbeat.kind = HeartbeatKind::Waits;
        }
        let sessions: SmallVec<[u32; 1]> = conn.sessions().collect();
        sessions.into_iter().for_each(|index| self.session_rewired(cx, index, wire));
    }

    fn session_rewired(&mut self, cx: &mut Cx<'_>, index: u32, wire: WireId) {
        let mut catches_up = false;
        for slot in 0..self.sessions.slab[index as usize].subs.len() {
            cx.slice.spend(1);
            let session = &self.sessions.slab[index as usize];
            let sub = &session.subs[slot];
            let Some(place) = sub.membership().map(|membership| membership.place) else { continue };
            let (edge, from, to) = (sub.edge, sub.variant(session.wire), sub.variant(wire));
            self.edges.edges[edge as usize].leaves_group(from, place);
            let mut member = *self.edges.edges[edge as usize].settled(from, place);
            self.take_member(edge, from, place);
            let edge = &mut self.edges.edges[edge as usize];
            let position = Position { epoch: member.epoch, offset: member.at };
            let has_all = edge.is_quiet() && edge.at == Some(position);
            if member.state == MemberState::Live && !has_all {
                member.state = MemberState::Behind;
            }
            catches_up |= member.is_behind();
            let place = edge.add(to, member);
            if let Some(membership) = self.sessions.slab[index as usize].subs[slot].membership_mut() {
                membership.place = place;
                membership.presence_stale |= member.presence && !has_all;
                catches_up |= membership.presence_stale;
            }
        }
        self.sessions.slab[index as usize].wire = wire;
        if catches_up {
            let at = self.sessions.reference(index);
            self.pull_later(at);
        }
    }
}
