//! Idle memory by the native protocol: connections with one subscription each, all to one channel with history.
//!
//! Read twice: when all are subscribed and silent, and after a thousand publications to each of them and a pause. The
//! second reading shows the memory that traffic leaves in use: outboxes, buffers, tables that have grown. The memory is
//! read as in `idle`.

use super::fanout::Room;
use super::{RoundError, Sample, Settings, idle, join};
use crate::load::Load;
use crate::peers::{Role, ServerKind};
use crate::report::Metric;
use crate::server::Server;

/// Publications in flight: enough that the run does not take minutes.
const WINDOW: usize = 8;

pub(super) fn round(kind: ServerKind, server: &Server, settings: &Settings) -> Result<Vec<Sample>, RoundError> {
    let before = server.memory_bytes()?;
    let connections = settings.idle_connections;
    let mut load = Load::new(server.addr, kind.dialect(Role::Native), settings.wait)?;
    join::join(&mut load, kind, Role::Native, connections, connections)?;
    let mut samples = Vec::new();
    let mut read = |load: &mut Load, published| -> Result<(), RoundError> {
        let bytes = idle::quiet(load, server, settings)?.saturating_sub(before);
        let metric = Metric::SubscribedMemory { published };
        samples.push(Sample { metric, value: bytes as f64 / connections as f64 });
        Ok(())
    };
    read(&mut load, 0)?;
    let published = settings.idle_publications;
    Room::new(kind, Role::Native, connections).publish_many(published as u64, WINDOW, &mut load)?;
    read(&mut load, published)?;
    Ok(samples)
}
