//! Idle memory of the transports over plain HTTP: streams, and sessions whose poll waits. Each follows one channel.
//! Event streams are measured over HTTP/2 too, alone on a connection and many on one.
//!
//! Read as in `idle`: when all are subscribed and silent. The memory that the server needs for the connection and for
//! HTTP is part of it.

use std::net::SocketAddr;

use super::{RoundError, Sample, Settings, idle, join};
use crate::load::native::{self, Heard};
use crate::load::transport::{Over, Transport};
use crate::load::{Handler, Load, LoadError, Outgoing};
use crate::peers::{Role, ServerKind};
use crate::report::Metric;
use crate::server::Server;

/// Connections that are made together.
const IN_FLIGHT: usize = 64;

pub(super) fn round(
    (by, over): (Transport, Over),
    kind: ServerKind,
    server: &Server,
    settings: &Settings,
) -> Result<Vec<Sample>, RoundError> {
    let before = server.memory_bytes()?;
    let connections = settings.idle_connections;
    let mut load = Load::new(server.addr, kind.dialect(Role::Native), settings.wait)?;
    let mut listeners =
        Listeners { by, channel: join::room(0), of: connections, open: 0, tickets: Vec::new(), addr: server.addr };
    let mut opened = 0;
    while listeners.open < connections {
        while opened < connections && opened - listeners.open < IN_FLIGHT {
            opened += match over {
                Over::Http1 => listeners.open_one(opened, &mut load)?,
                Over::Http2 { streams } => listeners.open_http2(streams.min(connections - opened), &mut load)?,
            };
        }
        load.turn(&mut listeners)?;
    }
    let bytes = idle::quiet(&mut load, server, settings)?.saturating_sub(before);
    Ok(vec![Sample { metric: Metric::StreamMemory { by, over }, value: bytes as f64 / connections as f64 }])
}

struct Listeners {
    by: Transport,
    channel: String,
    of: usize,
    /// Those that are subscribed.
    open: usize,
    /// One for each connection that polls.
    tickets: Vec<String>,
    addr: SocketAddr,
}

impl Listeners {
    /// Opens a connection, and says how many subscriptions come with it.
    fn open_one(&self, index: usize, load: &mut Load) -> Result<usize, LoadError> {
        let mut command = String::new();
        match self.by {
            Transport::Events => return Transport::follow(&self.channel, "", load).map(|_| 1),
            Transport::Poll => native::connect_by_poll(&format!("client-{index}"), &self.channel, &mut command),
            _ => native::connect(None, Some((&self.channel, None)), &mut command),
        }
        self.by.open(&command, load).map(|_| 1)
    }

    /// The same over HTTP/2.
    fn open_http2(&self, streams: usize, load: &mut Load) -> Result<usize, LoadError> {
        self.by.follow_by_http2(&self.channel, streams, load).map(|_| streams)
    }
}

impl Handler for Listeners {
    fn on_ready(&mut self, _conn: usize, _out: &mut Outgoing) -> Result<(), LoadError> {
        Ok(())
    }

    fn on_message(&mut self, conn: usize, payload: &[u8], out: &mut Outgoing) -> Result<(), LoadError> {
        let is_subscribed = match self.by {
            Transport::Poll => {
                let polled = native::polled(payload).ok_or_else(|| LoadError::unexpected(conn, payload))?;
                if self.tickets.len() <= conn {
                    self.tickets.resize(conn + 1, String::new());
                }
                if let Some(ticket) = polled.ticket {
                    ticket.clone_into(&mut self.tickets[conn]);
                }
                let mut next = String::new();
                native::poll(&self.tickets[conn], polled.n, &mut next);
                out.raw(&Transport::next_poll(&next, self.addr));
                polled.is_subscribed
            }
            Transport::Events => payload.starts_with(br#"{"type":"connected","#),
            _ => matches!(native::read(payload), Heard::Subscribed { .. }),
        };
        self.open += usize::from(is_subscribed);
        Ok(())
    }

    fn owed(&self) -> (u64, &'static str) {
        ((self.of - self.open) as u64, "subscriptions")
    }
}
