//! A shard's answer to an operator's question.
//!
//! In: an [`Inquiry`]. Out: copies of what is there: the hub's views, with what the shell knows of the connections, and
//! the rows of the journal; and the shell's part of a list of connections. Nothing is changed by it, and
//! it looks at what was asked for alone.

use super::Shell;
use crate::journal::{ConnectedLine, Found, FoundConnection, FoundSession, Inquiry};
use fanfare_hub::{ConnId, Connected, ConnectionFacts, ConnectionsPart, Now, SessionView, Whom};

impl Shell {
    pub(super) fn inspect(&self, inquiry: &Inquiry) -> Found {
        match inquiry {
            Inquiry::Sessions(whom, count_max) => Found {
                sessions: self.sessions_found(whom, *count_max),
                ends: self.journal.ends(Some(whom)),
                events: self.journal.events(Some(whom)),
                ..Found::default()
            },
            Inquiry::Channel(name, count_max) => {
                Found { channels: vec![self.hub.channel_at(name, *count_max)], ..Found::default() }
            }
            Inquiry::Homes(names) => {
                let channels = names.iter().map(|name| self.hub.channel_at(name, 0)).collect();
                Found { channels, ..Found::default() }
            }
            Inquiry::Rows => {
                Found { ends: self.journal.ends(None), events: self.journal.events(None), ..Found::default() }
            }
        }
    }

    fn sessions_found(&self, whom: &Whom, count_max: usize) -> Vec<FoundSession> {
        let views = self.hub.sessions_of(whom, count_max).into_iter();
        let with_connection = |view: SessionView| {
            let connection = view.conn.and_then(|id| self.connection_found(id));
            FoundSession { view, connection }
        };
        views.map(with_connection).collect()
    }

    /// A session has begun, or goes on: those who watch are told.
    pub(super) fn tell_connected(&mut self, now: Now, id: ConnId, connected: &Connected) {
        let Some(conn) = self.conns.get(id.index as usize).filter(|slot| slot.generation == id.generation) else {
            return;
        };
        let Some(conn) = &conn.conn else { return };
        let label = self.wire(conn.wire).label();
        let line = ConnectedLine {
            client: connected.client,
            user: connected.user.as_ref(),
            peer: &conn.peer,
            transport: label.transport,
            protocol: label.protocol,
            resumed: connected.resumed,
        };
        self.journal.connected(now, &line);
    }

    /// Adds to a list of connections what the hub does not know of them.
    pub(super) fn describe(&self, now: Now, part: &mut ConnectionsPart) {
        for info in &mut part.connections {
            let id = info.conn;
            let slot = self.conns.get(id.index as usize).filter(|slot| slot.generation == id.generation);
            let Some(conn) = slot.and_then(|slot| slot.conn.as_ref()) else { continue };
            let label = self.wire(conn.wire).label();
            info.facts = Some(Box::new(ConnectionFacts {
                transport: label.transport.into(),
                protocol: label.protocol.into(),
                peer: conn.peer.to_string().into(),
                connected_ms: now.wall_ms.saturating_sub(now.mono_ms.saturating_sub(conn.opened_ms)),
            }));
        }
    }

    fn connection_found(&self, id: ConnId) -> Option<FoundConnection> {
        let slot = self.conns.get(id.index as usize).filter(|slot| slot.generation == id.generation)?;
        let conn = slot.conn.as_ref()?;
        let label = self.wire(conn.wire).label();
        Some(FoundConnection {
            peer: conn.peer.to_string(),
            transport: label.transport,
            protocol: label.protocol,
            opened_ms_ago: self.clock.now().mono_ms.saturating_sub(conn.opened_ms),
            outbox_bytes: conn.outbox.bytes(),
            is_paused: conn.paused || conn.choked || conn.busy,
        })
    }
}
