//! Ends a run in which one seed does not finish: a machine that does not return from a call cannot be judged from
//! within.
//!
//! Each thread says which seed it begins. Another thread looks now and then. If a seed has taken longer than the
//! deadline, the program names it and ends, with status 1. A hunt for a seed that fails has found one and ends with
//! status 0. The deadline is far beyond what any seed takes. It is the processor's time where the system tells it: on a
//! busy machine a seed stands still now and then.

use std::path::PathBuf;
use std::sync::Mutex;
use std::thread::ThreadId;
use std::time::{Duration, Instant};

/// The time for one seed; a slow one takes a second in a debug build.
const DEADLINE: Duration = Duration::from_secs(180);
/// In a hunt, whose programs are optimised and whose seeds are often meant not to end.
const HUNT_DEADLINE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_secs(1);

static RUNNING: Mutex<Vec<Running>> = Mutex::new(Vec::new());

/// A seed that is being run.
struct Running {
    thread: ThreadId,
    seed: u64,
    since: Instant,
    /// Where the system tells the time of the thread, and what it told when the seed began.
    clock: Option<(PathBuf, Duration)>,
}

impl Running {
    /// The time that it has taken so far.
    fn took(&self) -> Duration {
        let of_thread = self.clock.as_ref().and_then(|(path, began)| processor_time(path)?.checked_sub(*began));
        of_thread.unwrap_or_else(|| self.since.elapsed())
    }
}

/// Where Linux tells the time that this thread has had: proc(5), "schedstat".
fn clock_of_this_thread() -> Option<(PathBuf, Duration)> {
    let thread = std::fs::read_link("/proc/thread-self").ok()?;
    let path = PathBuf::from("/proc").join(thread).join("schedstat");
    let began = processor_time(&path)?;
    Some((path, began))
}

fn processor_time(path: &PathBuf) -> Option<Duration> {
    let text = std::fs::read_to_string(path).ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// One seed is being run, until this is dropped.
pub(crate) struct Watched(ThreadId);

impl Watched {
    pub(crate) fn begin(seed: u64) -> Watched {
        let thread = std::thread::current().id();
        if let Ok(mut running) = RUNNING.lock() {
            running.push(Running { thread, seed, since: Instant::now(), clock: clock_of_this_thread() });
        }
        Watched(thread)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Ok(mut running) = RUNNING.lock() {
            running.retain(|running| running.thread != self.0);
        }
    }
}

/// Watches until the program ends.
pub(crate) fn start(hunts: bool) {
    let deadline = if hunts { HUNT_DEADLINE } else { DEADLINE };
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(LOOK_EVERY);
            let Some(seed) = overdue(deadline) else { continue };
            let what = format!("has not ended after {} s: a call of the hub does not come back", deadline.as_secs());
            if hunts {
                println!("found by seed {seed}: it {what}");
                std::process::exit(0);
            }
            println!("seed {seed} {what}");
            println!("again: cargo xtask sim --seed {seed}");
            std::process::exit(1);
        }
    });
}

/// A seed that has been running for longer than this.
fn overdue(deadline: Duration) -> Option<u64> {
    let running = RUNNING.lock().ok()?;
    running.iter().find(|running| running.took() > deadline).map(|running| running.seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_overdue_while_it_runs_and_not_after() {
        let watched = Watched::begin(u64::MAX);
        let is_running = || RUNNING.lock().is_ok_and(|running| running.iter().any(|of| of.seed == u64::MAX));
        assert!(is_running());
        let begun = Instant::now();
        while overdue(Duration::ZERO).is_none() {
            assert!(begun.elapsed() < DEADLINE, "the clock of a thread has steps, but not of this size");
        }
        assert_eq!(overdue(DEADLINE), None);
        drop(watched);
        assert!(!is_running());
    }
}
