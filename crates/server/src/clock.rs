//! The time that shards tell their hub: the system's, or one that a test sets.

use fanfare_hub::Now;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// The monotonic clock begins above zero, so that no deadline computed backwards falls below it.
const BEGIN_MS: u64 = 1_000_000;

/// See the module's description. Clones tell the same time.
#[derive(Debug, Clone)]
pub(crate) enum Clock {
    /// Begun at this instant.
    System(Instant),
    /// Stands still at so many ms until it is set; began at this time since 1970, in ms.
    Manual { elapsed_ms: Arc<AtomicU64>, began_ms: u64 },
}

impl Clock {
    pub(crate) fn system() -> Self {
        Clock::System(Instant::now())
    }

    pub(crate) fn manual() -> Self {
        Clock::Manual { elapsed_ms: Arc::default(), began_ms: wall_ms() }
    }

    /// Milliseconds since the server was born, and since 1970.
    pub(crate) fn now(&self) -> Now {
        match self {
            Clock::System(born) => Now { mono_ms: BEGIN_MS + born.elapsed().as_millis() as u64, wall_ms: wall_ms() },
            Clock::Manual { elapsed_ms, began_ms } => {
                let elapsed_ms = elapsed_ms.load(Ordering::Relaxed);
                Now { mono_ms: BEGIN_MS + elapsed_ms, wall_ms: began_ms + elapsed_ms }
            }
        }
    }

    /// The same, with the instant at which the system's clocks were read.
    pub(crate) fn now_at(&self) -> (Now, Instant) {
        let at = Instant::now();
        match self {
            Clock::System(born) => {
                let elapsed_ms = at.saturating_duration_since(*born).as_millis() as u64;
                (Now { mono_ms: BEGIN_MS + elapsed_ms, wall_ms: wall_ms() }, at)
            }
            Clock::Manual { .. } => (self.now(), at),
        }
    }

    /// Sets a manual clock to a time on its monotonic scale; never back. The system's clock is not moved.
    pub(crate) fn set(&self, mono_ms: u64) {
        if let Clock::Manual { elapsed_ms, .. } = self {
            elapsed_ms.fetch_max(mono_ms.saturating_sub(BEGIN_MS), Ordering::Relaxed);
        }
    }

    pub(crate) fn is_manual(&self) -> bool {
        matches!(self, Clock::Manual { .. })
    }
}

fn wall_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis() as u64
}
