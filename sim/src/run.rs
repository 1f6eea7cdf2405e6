//! Runs seeds, one after the other or on several threads, and tells what was found.

use crate::counts::Counts;
use crate::shrink::Smaller;
use crate::watchdog::Watched;
use crate::world::World;
use fanfare_hub::{PLANTED, Planted, choose_planted};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// A broken promise.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) seed: u64,
    pub(crate) what: String,
    /// The last events before it.
    pub(crate) events: Vec<String>,
}

/// What a batch of seeds came to.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) passed: u64,
    pub(crate) failures: Vec<Failure>,
    pub(crate) counts: Counts,
}

/// How many failures are told with their events.
const FAILURES_MAX: usize = 5;

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// A panic is told with its seed and events, like any other failure, and not by the default hook.
pub(crate) fn quiet_panics() {
    std::panic::set_hook(Box::new(|info| {
        let text = info.to_string();
        PANIC.with(|panic| *panic.borrow_mut() = Some(text));
    }));
}

/// Runs one seed. On failure it is run again with a trace: a seed is a history, so the second run is the first one.
pub(crate) fn one(seed: u64, events: usize, smaller: &Smaller) -> Result<Counts, Failure> {
    let what = match attempt(seed, 0, smaller) {
        (Ok(()), counts, _) => return Ok(counts),
        (Err(what), ..) => what,
    };
    let (again, _, last) = attempt(seed, events, smaller);
    let what = match again {
        Err(again) if again == what => what,
        again => format!("{what}\n(the run with a trace was another one: {again:?}: the world is not deterministic)"),
    };
    Err(Failure { seed, what, events: last })
}

/// Runs a world, and gives what it came to.
pub(crate) fn attempt(seed: u64, events: usize, smaller: &Smaller) -> (Result<(), String>, Counts, Vec<String>) {
    let _watched = Watched::begin(seed);
    let mut world = World::new(seed, events, smaller);
    let verdict = catch_unwind(AssertUnwindSafe(|| world.run()))
        .unwrap_or_else(|_| Err(PANIC.with(|panic| panic.borrow_mut().take()).unwrap_or_else(|| "panic".to_owned())));
    let (counts, events) = world.into_report();
    (verdict, counts, events)
}

/// Runs `count` seeds from `first` on, on every core. Seeds are given out one by one; the sum does not depend on the
/// order.
pub(crate) fn batch(first: u64, count: u64, events: usize, smaller: &Smaller) -> Batch {
    let (next, found) = (AtomicU64::new(0), Mutex::new(Batch::default()));
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                return;
            }
            let result = one(first + at, events, smaller);
            let Ok(mut found) = found.lock() else { return };
            match result {
                Ok(counts) => {
                    found.passed += 1;
                    found.counts.add(&counts);
                }
                Err(failure) => {
                    if found.failures.len() < FAILURES_MAX {
                        eprintln!("seed {} failed: {}", failure.seed, failure.what);
                    }
                    found.failures.push(failure);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads() {
            scope.spawn(work);
        }
        work();
    });
    let mut found = found.into_inner().unwrap_or_default();
    found.failures.sort_by_key(|failure| failure.seed);
    found
}

/// The first of `seeds` seeds that finds a planted bug, and how.
pub(crate) fn hunt(bug: Planted, first: u64, seeds: u64) -> Option<Failure> {
    let (next, found) = (AtomicU64::new(0), Mutex::new(None::<Failure>));
    let work = || {
        choose_planted(Some(bug));
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= seeds || found.lock().map_or(true, |found| found.is_some()) {
                break;
            }
            if let (Err(what), _, events) = attempt(first + at, 0, &Smaller::default()) {
                let Ok(mut found) = found.lock() else { break };
                if found.as_ref().is_none_or(|earlier| earlier.seed > first + at) {
                    *found = Some(Failure { seed: first + at, what, events });
                }
            }
        }
        choose_planted(None);
    };
    std::thread::scope(|scope| {
        for _ in 1..threads() {
            scope.spawn(work);
        }
        work();
    });
    found.into_inner().unwrap_or_default()
}

/// Seeds that found a planted bug when last looked: tried first, so that the bugs that are hard to find cost little.
/// A seed that has become another history does no harm: then the others are tried.
const FOUND_BY: &[(&str, u64)] = &[
    ("FullMemberLive", 292),
    ("SubscriberEndsEdgePull", 67),
    ("UnknownNotRead", 211),
    ("HoleForgotten", 127),
    ("EdgeRunsAhead", 49),
    ("LatestReadsAll", 160),
    ("LatestUntold", 66),
    ("SlowUnchecked", 45),
    ("SlowByRule", 72),
    ("BatchAfterSkip", 50),
    ("LateLeave", 1931),
    ("LeaveOvertakenByEnter", 83),
    ("MovedNotPassedOn", 291),
    ("AwayKept", 44),
    ("GrantKept", 45),
    ("GrantEndsUnasked", 44),
    ("StoreQueueUnbounded", 40),
    ("WaitingUnweighed", 1367),
    ("ReloadAtOnce", 499),
    ("LatestForOthers", 66),
    ("LatestSwallowed", 66),
    ("EarlierTakesOver", 1242),
];

/// The first seed to try for a bug.
pub(crate) fn hint(name: &str) -> Option<u64> {
    FOUND_BY.iter().find(|(known, _)| *known == name).map(|(_, seed)| *seed)
}

/// The planted bugs of this name, or all of them.
pub(crate) fn planted(name: &str) -> Vec<(Planted, &'static str, &'static str)> {
    PLANTED.iter().copied().filter(|(_, known, _)| name == "all" || known.eq_ignore_ascii_case(name)).collect()
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_history() {
        for seed in 1..=10 {
            let run = || one(seed, 50, &Smaller::default()).map(|counts| counts.rows()).map_err(|failure| failure.what);
            let (first, second) = (run(), run());
            assert!(first.is_ok(), "seed {seed}: {first:?}");
            assert_eq!(first, second, "seed {seed}");
        }
    }

    #[test]
    fn a_bug_exists_only_on_the_thread_that_chose_it() {
        assert!(hunt(Planted::CopyBeforeReply, 2, 1).is_some());
        assert!(one(2, 50, &Smaller::default()).is_ok());
    }
}
