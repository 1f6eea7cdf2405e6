//! The judge of rates: a session that is above its rate is refused with the time after which it is not, and no session
//! below its rate is refused.
//!
//! A rate is a number of publications and signals in a window. The first of them begins the window; the first one after
//! its end begins the next. The judge keeps the windows itself. A command that waits for an earlier one is decided at a
//! time that is not known here; then the windows are not known either, until the session has been quiet for one window.

use crate::quotas::is_over_quota;
use fanfare_hub::{ClientId, Error, ErrorCode};
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(crate) struct Rates {
    windows: BTreeMap<(ClientId, usize), Window>,
    /// How many commands were judged, refused, and judged on another connection than the window began on.
    pub(crate) judged: u64,
    pub(crate) refused: u64,
    pub(crate) continued: u64,
}

#[derive(Debug)]
enum Window {
    /// Nothing is known before this time.
    Unknown {
        until_ms: u64,
    },
    Known {
        start_ms: u64,
        count: u32,
        pipe: usize,
    },
}

/// A publication or signal that a rule with a rate governs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Governed {
    pub(crate) client: ClientId,
    pub(crate) pipe: usize,
    /// The rule's place, and its rate.
    pub(crate) rule: usize,
    pub(crate) rate: (u32, u64),
    pub(crate) now_ms: u64,
}

/// The decisions that were made at once.
#[derive(Debug)]
pub(crate) enum Decided {
    /// It was refused before the rate was looked at.
    NotCounted,
    Counted,
    RateLimited {
        retry_after_ms: Option<u64>,
    },
}

impl Decided {
    /// By the error that came at once, if one came.
    pub(crate) fn of(error: Option<&Error>) -> Self {
        match error.map(|error| error.code) {
            Some(ErrorCode::RateLimited) if error.is_some_and(is_over_quota) => Decided::NotCounted,
            Some(ErrorCode::RateLimited) => {
                Decided::RateLimited { retry_after_ms: error.and_then(|error| error.retry_after_ms) }
            }
            // A check has made it longer, after its rate.
            Some(ErrorCode::TooLarge) if error.is_some_and(|error| error.message.contains("text rules")) => {
                Decided::Counted
            }
            Some(ErrorCode::Denied | ErrorCode::NoRule | ErrorCode::NotSubscribed | ErrorCode::TooLarge) => {
                Decided::NotCounted
            }
            // The application cannot be asked about it now.
            Some(ErrorCode::Unavailable) if error.is_some_and(|error| error.message.contains("questions_max")) => {
                Decided::NotCounted
            }
            _ => Decided::Counted,
        }
    }
}

/// So long a command may wait for what it waits for.
const WAITS_MAX_MS: u64 = 20_000;

impl Rates {
    /// It is not known when this is decided.
    pub(crate) fn unknown(&mut self, governed: Governed) {
        let until_ms = governed.now_ms + WAITS_MAX_MS + governed.rate.1;
        self.windows.insert((governed.client, governed.rule), Window::Unknown { until_ms });
    }

    /// Every open decision is made by now: the windows are known when one more has passed.
    pub(crate) fn settled(&mut self, governed: Governed) {
        let until_ms = governed.now_ms + governed.rate.1;
        self.windows.insert((governed.client, governed.rule), Window::Unknown { until_ms });
    }

    /// It was decided at once.
    pub(crate) fn decided(&mut self, governed: Governed, decided: &Decided) -> Result<(), String> {
        let Governed { client, pipe, rule, rate: (count_max, window_ms), now_ms } = governed;
        if let Decided::RateLimited { retry_after_ms } = decided
            && !retry_after_ms.is_some_and(|after_ms| (1..=window_ms).contains(&after_ms))
        {
            return Err(format!("rates: {client:?} is to come back after {retry_after_ms:?} of {window_ms} ms"));
        }
        if matches!(decided, Decided::NotCounted) {
            return Ok(());
        }
        let entry = self.windows.entry((client, rule)).or_insert(Window::Known { start_ms: now_ms, count: 0, pipe });
        let (start_ms, count) = match entry {
            Window::Unknown { until_ms } if now_ms < *until_ms => {
                // One that is decided now may begin a window.
                *until_ms = (*until_ms).max(now_ms + window_ms);
                return Ok(());
            }
            Window::Unknown { .. } => {
                *entry = Window::Known { start_ms: now_ms, count: 0, pipe };
                (now_ms, 0)
            }
            Window::Known { start_ms, count, .. } if now_ms < *start_ms + window_ms => (*start_ms, *count),
            Window::Known { .. } => (now_ms, 0),
        };
        match decided {
            Decided::Counted if count >= count_max => {
                return Err(format!(
                    "rates: {client:?} may do {count_max} in {window_ms} ms, and does one more {} ms after the first",
                    now_ms - start_ms
                ));
            }
            Decided::RateLimited { .. } if count < count_max => {
                return Err(format!(
                    "rates: {client:?} may do {count_max} in {window_ms} ms, has done {count} since {} ms, and is \
                     refused",
                    now_ms - start_ms
                ));
            }
            Decided::RateLimited { retry_after_ms } => {
                let left_ms = start_ms + window_ms - now_ms;
                if *retry_after_ms != Some(left_ms) {
                    return Err(format!(
                        "rates: {client:?} is to come back after {retry_after_ms:?} ms; it may after {left_ms}"
                    ));
                }
                self.refused += 1;
            }
            Decided::Counted | Decided::NotCounted => {}
        }
        let is_counted = u32::from(matches!(decided, Decided::Counted));
        self.judged += 1;
        if let Window::Known { pipe: of, .. } = entry {
            self.continued += u64::from(*of != pipe && count > 0);
        }
        *entry = Window::Known { start_ms, count: count + is_counted, pipe };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn governed(now_ms: u64) -> Governed {
        Governed { client: ClientId(1), pipe: 0, rule: 0, rate: (2, 100), now_ms }
    }

    fn limited(after_ms: u64) -> Decided {
        Decided::RateLimited { retry_after_ms: Some(after_ms) }
    }

    #[test]
    fn a_window_begins_with_its_first_and_ends_in_time() {
        let mut rates = Rates::default();
        for (now_ms, decided) in [
            (0, Decided::Counted),
            (50, Decided::Counted),
            (60, limited(40)),
            (99, limited(1)),
            (100, Decided::Counted),
        ] {
            assert_eq!(rates.decided(governed(now_ms), &decided), Ok(()), "{now_ms}");
        }
        assert!(rates.decided(governed(110), &limited(90)).is_err(), "the second of a window is allowed");
    }

    #[test]
    fn a_time_that_slides_and_one_too_many_are_faults() {
        for (now_ms, decided) in [(60, limited(100)), (60, Decided::Counted), (100, limited(100))] {
            let mut rates = Rates::default();
            for counted_ms in [0, 50] {
                assert_eq!(rates.decided(governed(counted_ms), &Decided::Counted), Ok(()));
            }
            assert!(rates.decided(governed(now_ms), &decided).is_err(), "{now_ms} {decided:?}");
        }
    }

    #[test]
    fn what_is_decided_later_makes_the_windows_unknown_for_a_while() {
        let mut rates = Rates::default();
        rates.unknown(governed(0));
        assert_eq!(rates.decided(governed(10), &limited(70)), Ok(()));
        let later_ms = WAITS_MAX_MS + 200;
        for now_ms in [later_ms, later_ms + 1] {
            assert_eq!(rates.decided(governed(now_ms), &Decided::Counted), Ok(()));
        }
        assert!(rates.decided(governed(later_ms + 2), &Decided::Counted).is_err());
    }
}
