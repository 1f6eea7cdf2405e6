//! Overload: when the node takes no new connections for a while, so that those who are connected stay served.
//!
//! In: how late each shard takes its turns, and the memory of the process. Out: whether there is overload, and by which
//! limit. There are two kinds: a shard has taken a turn later than `limits.overload_lag` in the last [`LASTS`], or the
//! process has more memory than `limits.memory_max`. Living connections and sessions are not touched.

use super::admission::Reason;
use crate::config::Config;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How often a shard looks how late it is, and one of them at the memory.
const EVERY: Duration = Duration::from_millis(100);
/// Looks at the time between two looks at the memory.
const MEMORY_EVERY: u32 = 10;
/// Overload by late turns lasts for so long after the last late turn.
const LASTS: Duration = Duration::from_secs(1);
/// The part of the machine's memory that is too much, where `limits.memory_max` names none: nine of ten.
const MEMORY_PARTS: (usize, usize) = (9, 10);

/// The state of a node.
#[derive(Debug)]
pub(crate) struct Overload {
    begun: Instant,
    /// In ms. Zero: it is not looked at.
    lag_max_ms: AtomicU64,
    /// A shard was late: overload lasts until then, in ms since `begun`.
    late_until_ms: AtomicU64,
    /// `usize::MAX`: it is not known how much there is.
    memory_max: AtomicUsize,
    is_too_large: AtomicBool,
}

impl Overload {
    pub(super) fn new(config: &Config) -> Self {
        let overload = Overload {
            begun: Instant::now(),
            lag_max_ms: AtomicU64::new(0),
            late_until_ms: AtomicU64::new(0),
            memory_max: AtomicUsize::new(usize::MAX),
            is_too_large: AtomicBool::new(false),
        };
        overload.reload(config);
        overload
    }

    /// Other limits are in force. The memory is looked at by them within a second.
    pub(super) fn reload(&self, config: &Config) {
        let memory_max = match config.memory_max {
            0 => memory_of_machine().map_or(usize::MAX, |bytes| bytes / MEMORY_PARTS.1 * MEMORY_PARTS.0),
            bytes => bytes,
        };
        self.memory_max.store(memory_max, Relaxed);
        self.lag_max_ms.store(millis(config.overload_lag), Relaxed);
    }

    /// Above so many bytes is overload.
    pub(super) fn memory_max(&self) -> usize {
        self.memory_max.load(Relaxed)
    }

    fn now_ms(&self) -> u64 {
        millis(self.begun.elapsed())
    }

    /// A shard took a turn so much later than it was due.
    pub(crate) fn was_late(&self, lag: Duration) {
        let (lag_ms, max_ms) = (millis(lag), self.lag_max_ms.load(Relaxed));
        if max_ms > 0 && lag_ms >= max_ms {
            self.late_until_ms.fetch_max(self.now_ms() + millis(LASTS), Relaxed);
            crate::logs::limited!(Accept, WARN, lag_ms, max_ms, "overload: a shard is late");
        }
    }

    /// The process has so much memory.
    pub(crate) fn has_memory(&self, bytes: usize) {
        let max = self.memory_max();
        let was_too_large = self.is_too_large.swap(bytes > max, Relaxed);
        if bytes > max && !was_too_large {
            crate::logs::limited!(Accept, WARN, bytes, max, "overload: the process has too much memory");
        }
    }

    /// The limit that is exceeded now.
    pub(crate) fn reason(&self) -> Option<Reason> {
        if self.late_until_ms.load(Relaxed) > self.now_ms() {
            return Some(Reason::Lag);
        }
        self.is_too_large.load(Relaxed).then_some(Reason::Memory)
    }
}

/// Looks at the time for the life of a shard, and on the first one at the memory.
pub(crate) async fn watch(connections: std::sync::Arc<super::admission::Connections>, is_first: bool) {
    let mut due = Instant::now();
    for turn in 0_u32.. {
        let overload = connections.overload();
        overload.was_late(due.elapsed());
        if is_first
            && turn.is_multiple_of(MEMORY_EVERY)
            && let Some(bytes) = memory_of_process()
        {
            overload.has_memory(bytes);
        }
        due = Instant::now() + EVERY;
        sleep_until(due).await;
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The resident memory of this process.
fn memory_of_process() -> Option<usize> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: usize = statm.split_whitespace().nth(1)?.parse().ok()?;
    pages.checked_mul(rustix::param::page_size())
}

/// The memory that this process may have: that of its container, or of the machine.
fn memory_of_machine() -> Option<usize> {
    let container = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
    });
    container.into_iter().chain(machine).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn late_turns_and_memory_are_overload_for_as_long_as_they_last() {
        let (overload_lag, memory_max) = (Duration::from_millis(500), 1_000);
        let overload = Overload::new(&Config { overload_lag, memory_max, ..Config::default() });
        overload.was_late(Duration::from_millis(499));
        overload.has_memory(1_000);
        assert_eq!(overload.reason(), None);
        overload.was_late(Duration::from_millis(500));
        assert_eq!(overload.reason(), Some(Reason::Lag));
        tokio::time::advance(LASTS).await;
        assert_eq!(overload.reason(), None);
        overload.has_memory(1_001);
        assert_eq!(overload.reason(), Some(Reason::Memory));
        overload.has_memory(999);
        assert_eq!(overload.reason(), None);
    }

    #[test]
    fn what_the_machine_has_is_more_than_what_this_process_has() {
        if let (Some(all), Some(own)) = (memory_of_machine(), memory_of_process()) {
            assert!(own > 100_000 && own < all, "{own} of {all}");
        }
    }

    #[test]
    fn a_lag_of_zero_is_not_looked_at() {
        let overload = Overload::new(&Config { overload_lag: Duration::ZERO, ..Config::default() });
        overload.was_late(Duration::from_secs(60));
        assert_eq!(overload.reason(), None);
    }
}
