//! Whether anything is still under way on this shard: what a server that ends waits for.

use super::Sessions;
use crate::edge::Behind;

impl Sessions {
    /// No command waits for its answer, and everybody who keeps up has been given all that has come here. Who reads
    /// too slowly is not waited for.
    pub(crate) fn is_settled(&self) -> bool {
        let adopting = |conn: &super::Conn| conn.open && conn.adopting.is_some();
        !self.has_more()
            && self
                .sessions
                .slab
                .iter()
                .all(|(_, session)| session.outstanding == 0 || session.full && session.is_paging())
            && !self.conns.iter().any(adopting)
            && self.edges.edges.iter().all(|(_, edge)| {
                let mut members = edge.groups.iter().flat_map(|group| &group.members).peekable();
                members.peek().is_none()
                    || edge.behind == Behind::No
                        && !edge.has_work()
                        && members.all(|member| member.full || !member.behind)
            })
    }

    /// Commands of clients and of the application that wait for their answers.
    pub(crate) fn outstanding(&self) -> usize {
        let of_sessions = self.sessions.slab.iter().map(|(_, session)| session.outstanding as usize);
        of_sessions.sum::<usize>() + self.app_outstanding
    }
}
