//! Idle memory: the server's memory for a connection that has joined and is silent.
//!
//! The process's own memory (Pss) after all have joined rooms of fifty, minus its memory before the first one, divided
//! by the connections. The kernel's memory for a socket is the same for every server and is not included. A server with
//! a garbage collector gets some quiet seconds first, and its smallest reading counts.

use std::time::Instant;

use super::{RoundError, Sample, Settings, join};
use crate::load::{Handler, Load, LoadError, Outgoing};
use crate::peers::{Role, ServerKind};
use crate::report::Metric;
use crate::server::Server;

pub(super) fn round(kind: ServerKind, server: &Server, settings: &Settings) -> Result<Vec<Sample>, RoundError> {
    let before = server.memory_bytes()?;
    let mut load = Load::new(server.addr, kind.dialect(Role::Chat), settings.wait)?;
    join::join(&mut load, kind, Role::Chat, settings.idle_connections, settings.idle_room)?;
    let after = quiet(&mut load, server, settings)?;
    let value = after.saturating_sub(before) as f64 / settings.idle_connections as f64;
    let metric = Metric::IdleMemory { own_room: settings.idle_room == 1 };
    Ok(vec![Sample { metric, value }])
}

/// The same for clients of Socket.IO, in rooms of fifty.
pub(super) fn rooms(kind: ServerKind, server: &Server, settings: &Settings) -> Result<Vec<Sample>, RoundError> {
    let before = server.memory_bytes()?;
    let mut load = Load::new(server.addr, kind.dialect(Role::Rooms), settings.wait)?;
    join::join(&mut load, kind, Role::Rooms, settings.idle_connections, settings.idle_room)?;
    let after = quiet(&mut load, server, settings)?;
    let value = after.saturating_sub(before) as f64 / settings.idle_connections as f64;
    Ok(vec![Sample { metric: Metric::SocketMemory, value }])
}

/// The smallest memory of some quiet seconds, in bytes. Pings are answered meanwhile.
pub(super) fn quiet(load: &mut Load, server: &Server, settings: &Settings) -> Result<u64, RoundError> {
    let started = Instant::now();
    let mut least = server.memory_bytes()?;
    while started.elapsed() < settings.idle_quiet {
        load.turn(&mut Silent)?;
        least = least.min(server.memory_bytes()?);
    }
    Ok(least)
}

/// Expects no message and no close.
struct Silent;

impl Handler for Silent {
    fn on_ready(&mut self, _conn: usize, _out: &mut Outgoing) -> Result<(), LoadError> {
        Ok(())
    }

    fn on_message(&mut self, _conn: usize, _payload: &[u8], _out: &mut Outgoing) -> Result<(), LoadError> {
        Ok(())
    }

    fn owed(&self) -> (u64, &'static str) {
        (0, "messages")
    }
}
