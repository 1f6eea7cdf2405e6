//! When to come back: exponential back-off with full jitter, so that clients that were cut off together do not return
//! together.

use fanfare_hub::Rng;

/// A connection that lasted this long was a good one: the next failure begins anew.
const GOOD_MS: u64 = 10_000;

/// Counts failures.
#[derive(Debug)]
pub(super) struct Backoff {
    min_ms: u64,
    max_ms: u64,
    failures: u32,
}

impl Backoff {
    /// Waits are drawn from 0 to `min_ms`, doubled with each failure, at most `max_ms`.
    pub(super) fn new(min_ms: u64, max_ms: u64) -> Self {
        Backoff { min_ms, max_ms, failures: 0 }
    }

    /// How many attempts have failed since the last good connection.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// A connection that had been online for so long is gone.
    pub(super) fn lasted(&mut self, ms: u64) {
        if ms >= GOOD_MS {
            self.failures = 0;
        }
    }

    /// Another failure: how long to wait. The delay that the server asks for replaces a random one, because the server
    /// has already spread its clients.
    pub(super) fn next_ms(&mut self, rng: &mut Rng, asked_ms: Option<u64>) -> u64 {
        let ceiling = self.min_ms.saturating_mul(1 << self.failures.min(30)).min(self.max_ms);
        self.failures = self.failures.saturating_add(1);
        asked_ms.unwrap_or_else(|| rng.below(ceiling + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_limit_and_are_spread() {
        for (failures, ceiling) in [(0, 500), (1, 1000), (3, 4000), (6, 30_000), (100, 30_000)] {
            let mut seen = (u64::MAX, 0);
            for seed in 0..500 {
                let mut backoff = Backoff { min_ms: 500, max_ms: 30_000, failures };
                let wait = backoff.next_ms(&mut Rng::new(seed), None);
                seen = (seen.0.min(wait), seen.1.max(wait));
            }
            assert!(seen.1 <= ceiling, "after {failures} failures: at most {ceiling} ms, not {}", seen.1);
            assert!(seen.0 < ceiling / 20 && seen.1 > ceiling - ceiling / 20, "{seen:?} is spread over 0..={ceiling}");
        }
    }

    #[test]
    fn the_server_decides_where_it_says_so_and_a_good_connection_forgives() {
        let mut backoff = Backoff::new(500, 30_000);
        assert_eq!(backoff.next_ms(&mut Rng::new(1), Some(7777)), 7777);
        backoff.lasted(GOOD_MS - 1);
        assert_eq!(backoff.failures(), 1);
        backoff.lasted(GOOD_MS);
        assert_eq!(backoff.failures(), 0);
    }
}
