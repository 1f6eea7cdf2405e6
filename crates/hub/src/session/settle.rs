//! Tells whether work is still in progress on this shard. A server that stops waits until there is none.

use super::Sessions;
use crate::edge::{Behind, MemberState};

impl Sessions {
    /// No command waits for its answer, and every client that keeps up has got all publications that have come here.
    /// Clients that read too slowly do not count.
    pub(crate) fn is_settled(&self) -> bool {
        let adopting = |conn: &super::Conn| conn.open && conn.is_deciding();
        !self.has_more()
            && self
                .sessions
                .slab
                .iter()
                .all(|(_, session)| session.outstanding == 0 || session.is_full(&self.conns) && session.is_paging())
            && !self.conns.iter().any(adopting)
            && self.edges.edges.iter().all(|(_, edge)| {
                let mut members = edge.groups.iter().flat_map(|group| &group.members).peekable();
                members.peek().is_none()
                    || edge.behind == Behind::No
                        && !edge.has_work()
                        && members.all(|member| member.state != MemberState::Behind)
            })
    }

    /// Commands of clients and of the application that wait for their answers, where they came from.
    pub(crate) fn outstanding(&self) -> usize {
        let of_sessions = self.sessions.slab.iter().map(|(_, session)| session.outstanding as usize);
        of_sessions.sum::<usize>() + self.app_outstanding + self.forwards
    }
}
