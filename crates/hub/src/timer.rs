//! Timers: reminders that all machines of a shard set in one wheel.
//!
//! A timer is never cancelled. It carries the life (or the sequence number) of its owner. When it fires, the owner
//! compares that with its own, and ignores a stale timer.

use crate::hook::HookToken;
use crate::ids::ConnId;
use crate::peer::PendingToken;

/// The purpose of a timer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Timer {
    Connect(ConnId),
    Reconnect(ConnId),
    Heartbeat(ConnId),
    Throttle(ConnId),
    Grace { session: u32, life: u32, incarnation: u32 },
    Expiry { session: u32, life: u32, watch: u32 },
    Question(HookToken),
    Forward(PendingToken),
    Asked(PendingToken),
    Gap { session: u32, life: u32, begun: u64 },
    EdgeLinger { edge: u32, seq: u64 },
    EdgePull { edge: u32, life: u64 },
    Pull { session: u32, life: u32 },
    HomeLinger { home: u32, life: u32 },
    Attach { home: u32, life: u32 },
    Store,
    Fill { home: u32, life: u32 },
    PresenceCount { home: u32, life: u32 },
    Members,
    Tidy,
}
