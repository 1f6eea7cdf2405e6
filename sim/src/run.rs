//! Runs seeds, one after the other or on several threads, and reports the results.

use crate::counts::Counts;
use crate::shrink::Smaller;
use crate::watchdog::Watched;
use crate::world::World;
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

/// The result of a batch of seeds.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) passed: u64,
    pub(crate) failures: Vec<Failure>,
    pub(crate) counts: Counts,
}

/// The number of failures that are reported with their events.
const FAILURES_MAX: usize = 5;

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// A panic is reported with its seed and events, like any other failure, and not by the default hook.
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

/// Runs a world, and returns its result.
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

/// The first of `seeds` seeds from 1 on that fails, and how.
pub(crate) fn hunt(seeds: u64) -> Option<Failure> {
    let (next, found) = (AtomicU64::new(1), Mutex::new(None::<Failure>));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > seeds || found.lock().map_or(true, |found| found.is_some()) {
                return;
            }
            if let (Err(what), _, events) = attempt(seed, 0, &Smaller::default()) {
                let Ok(mut found) = found.lock() else { return };
                if found.as_ref().is_none_or(|earlier| earlier.seed > seed) {
                    *found = Some(Failure { seed, what, events });
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
    found.into_inner().unwrap_or_default()
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
}
