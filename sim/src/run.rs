//! Runs seeds, one after the other or on several threads, and reports the results.

use crate::counts::Counts;
use crate::shrink::Smaller;
use crate::trace::Trace;
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
    let (verdict, counts, trace) = traced(seed, Trace::new(events), smaller);
    (verdict, counts, trace.into_lines())
}

/// A digest of all events of a world, of what was counted, and of the result. It is the same in two builds of the
/// simulation if they do the same with the seed, which a change that only makes the judges faster must.
pub(crate) fn digest(seed: u64, smaller: &Smaller) -> u64 {
    let (verdict, counts, trace) = traced(seed, Trace::of_digest(), smaller);
    trace.digest_with(&format!("{verdict:?} {:?}", counts.rows())).unwrap_or_default()
}

fn traced(seed: u64, trace: Trace, smaller: &Smaller) -> (Result<(), String>, Counts, Trace) {
    let _watched = Watched::begin(seed);
    let mut world = World::new(seed, trace, smaller);
    let verdict = catch_unwind(AssertUnwindSafe(|| world.run()))
        .unwrap_or_else(|_| Err(PANIC.with(|panic| panic.borrow_mut().take()).unwrap_or_else(|| "panic".to_owned())));
    let (counts, trace) = world.into_report();
    (verdict, counts, trace)
}

/// Runs `count` seeds from `first` on, on `jobs` threads. The sum does not depend on the order.
pub(crate) fn batch(first: u64, count: u64, jobs: usize, events: usize, smaller: &Smaller) -> Batch {
    let found = Mutex::new(Batch::default());
    each(first, count, jobs, |seed| {
        let result = one(seed, events, smaller);
        let Ok(mut found) = found.lock() else { return false };
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
        true
    });
    let mut found = found.into_inner().unwrap_or_default();
    found.failures.sort_by_key(|failure| failure.seed);
    found
}

/// The digests of `count` seeds from `first` on, in their order.
pub(crate) fn digests(first: u64, count: u64, jobs: usize, smaller: &Smaller) -> Vec<(u64, u64)> {
    let found = Mutex::new(Vec::new());
    each(first, count, jobs, |seed| {
        let digest = digest(seed, smaller);
        found.lock().is_ok_and(|mut found| {
            found.push((seed, digest));
            true
        })
    });
    let mut found = found.into_inner().unwrap_or_default();
    found.sort_unstable();
    found
}

/// The first of `seeds` seeds from 1 on that fails, and how.
pub(crate) fn hunt(seeds: u64, jobs: usize) -> Option<Failure> {
    let found = Mutex::new(None::<Failure>);
    each(1, seeds, jobs, |seed| {
        if found.lock().map_or(true, |found| found.is_some()) {
            return false;
        }
        if let (Err(what), _, events) = attempt(seed, 0, &Smaller::default()) {
            let Ok(mut found) = found.lock() else { return false };
            if found.as_ref().is_none_or(|earlier| earlier.seed > seed) {
                *found = Some(Failure { seed, what, events });
            }
        }
        true
    });
    found.into_inner().unwrap_or_default()
}

/// Gives `count` seeds from `first` on to `jobs` threads, one by one. A thread ends where `run` says false.
fn each(first: u64, count: u64, jobs: usize, run: impl Fn(u64) -> bool + Sync) {
    let next = AtomicU64::new(0);
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= count || !run(first + at) {
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..jobs {
            scope.spawn(work);
        }
        work();
    });
}

/// One thread for each core that the program may use.
pub(crate) fn jobs() -> usize {
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
            let digests = [digest(seed, &Smaller::default()), digest(seed, &Smaller::default())];
            assert_eq!(digests[0], digests[1], "seed {seed}");
        }
    }

    #[test]
    fn a_digest_is_of_one_world() {
        let alone = digests(1, 8, 1, &Smaller::default());
        assert_eq!(alone, digests(1, 8, 3, &Smaller::default()));
        let all: std::collections::BTreeSet<u64> = alone.iter().map(|(_, digest)| *digest).collect();
        assert_eq!(all.len(), 8, "{alone:?}");
        let smaller = "clients=1".parse().expect("a smaller world");
        assert!(alone.iter().any(|(seed, of)| digest(*seed, &smaller) != *of));
    }
}
