//! A circuit breaker: requests to a hook that fails are stopped for a while, then one is tried.
//!
//! In: the time, questions whether a request may be sent, and how each ended. Out: the answers, and the changes that
//! are worth a line in the log. No clock of its own. It opens at `failures` failures in `window` that are at least
//! half of the requests of that window. After `pause` one request is let through: it closes the breaker again, or its
//! failure keeps it open for another `pause`. Results of requests from before it opened change nothing.

use crate::config::hooks::BreakerConfig;
use std::time::{Duration, Instant};

/// Whether requests are sent, as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BreakerState {
    Closed = 0,
    /// One is tried.
    HalfOpen = 1,
    Open = 2,
}

#[derive(Debug)]
pub(super) struct Breaker {
    config: BreakerConfig,
    state: State,
}

#[derive(Debug)]
enum State {
    Closed {
        window: Window,
    },
    Open {
        until: Instant,
    },
    /// A request is being tried. It is given up after another pause: its sender may be gone.
    Trying {
        until: Instant,
    },
}

#[derive(Debug, Default)]
struct Window {
    begun: Option<Instant>,
    requests: u32,
    failures: u32,
}

/// A request that may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    Usual,
    /// Its result decides whether others are sent.
    Trial,
}

/// A change worth a line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Opened { failures: u32 },
    Closed,
}

impl Breaker {
    pub(super) fn new(config: BreakerConfig) -> Self {
        Breaker { config, state: State::Closed { window: Window::default() } }
    }

    /// Judges by these numbers from now on, and stays as it is.
    pub(super) fn reload(&mut self, config: BreakerConfig) {
        self.config = config;
    }

    pub(super) fn state(&self) -> BreakerState {
        match self.state {
            State::Closed { .. } => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
            State::Trying { .. } => BreakerState::HalfOpen,
        }
    }

    /// Whether a request may be sent now.
    ///
    /// # Errors
    /// The time after which to ask again.
    pub(super) fn may_ask(&mut self, now: Instant) -> Result<Pass, Duration> {
        match self.state {
            State::Closed { .. } => Ok(Pass::Usual),
            State::Open { until } | State::Trying { until } if now < until => Err(until - now),
            State::Open { .. } | State::Trying { .. } => {
                self.state = State::Trying { until: now + self.config.pause };
                Ok(Pass::Trial)
            }
        }
    }

    /// A request has ended.
    pub(super) fn ended(&mut self, now: Instant, pass: Pass, is_failure: bool) -> Option<Change> {
        let BreakerConfig { failures: failures_max, window: length, pause } = self.config;
        match (&mut self.state, pass) {
            (State::Closed { window }, Pass::Usual) => {
                if window.begun.is_none_or(|begun| now.saturating_duration_since(begun) >= length) {
                    *window = Window { begun: Some(now), ..Window::default() };
                }
                window.requests = window.requests.saturating_add(1);
                window.failures += u32::from(is_failure);
                let failures = window.failures;
                let is_enough = failures_max > 0 && failures >= failures_max && failures >= window.requests.div_ceil(2);
                if !(is_failure && is_enough) {
                    return None;
                }
                self.state = State::Open { until: now + pause };
                Some(Change::Opened { failures })
            }
            (State::Trying { .. } | State::Open { .. }, Pass::Trial) if is_failure => {
                self.state = State::Open { until: now + pause };
                None
            }
            (State::Trying { .. } | State::Open { .. }, Pass::Trial) => {
                self.state = State::Closed { window: Window::default() };
                Some(Change::Closed)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: BreakerConfig =
        BreakerConfig { failures: 3, window: Duration::from_secs(10), pause: Duration::from_secs(5) };

    fn fails(breaker: &mut Breaker, now: Instant) -> Option<Change> {
        let pass = breaker.may_ask(now).expect("it is closed, or tries");
        breaker.ended(now, pass, true)
    }

    #[test]
    fn it_opens_tries_one_request_and_closes() {
        let (mut breaker, begin) = (Breaker::new(CONFIG), Instant::now());
        let at = |s| begin + Duration::from_secs(s);
        assert_eq!((fails(&mut breaker, at(0)), fails(&mut breaker, at(1))), (None, None));
        let earlier = breaker.may_ask(at(2)).unwrap();
        assert_eq!(fails(&mut breaker, at(2)), Some(Change::Opened { failures: 3 }));
        assert_eq!(breaker.may_ask(at(3)), Err(Duration::from_secs(4)));
        assert_eq!(breaker.ended(at(3), earlier, false), None, "it was sent before");
        assert_eq!(breaker.state(), BreakerState::Open);
        assert_eq!(breaker.may_ask(at(7)), Ok(Pass::Trial));
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        assert!(breaker.may_ask(at(7)).is_err(), "one is enough");
        assert_eq!(breaker.ended(at(8), Pass::Trial, true), None, "it is as open as before");
        assert_eq!(breaker.may_ask(at(12)), Err(Duration::from_secs(1)));
        assert_eq!(breaker.may_ask(at(13)), Ok(Pass::Trial));
        assert_eq!(breaker.ended(at(13), Pass::Trial, false), Some(Change::Closed));
        assert_eq!((fails(&mut breaker, at(13)), fails(&mut breaker, at(13))), (None, None), "it counts anew");
    }

    /// Its sender was dropped: nobody tells how it ended.
    #[test]
    fn a_trial_without_a_result_does_not_keep_it_open_for_ever() {
        let (mut breaker, begin) = (Breaker::new(CONFIG), Instant::now());
        let changes: Vec<_> = (0..3).map(|_| fails(&mut breaker, begin)).collect();
        assert_eq!(changes.last(), Some(&Some(Change::Opened { failures: 3 })));
        assert_eq!(breaker.may_ask(begin + CONFIG.pause), Ok(Pass::Trial));
        assert_eq!(breaker.may_ask(begin + 2 * CONFIG.pause), Ok(Pass::Trial));
    }

    #[test]
    fn few_failures_among_many_requests_or_over_a_long_time_do_not_open_it() {
        let (mut breaker, begin) = (Breaker::new(CONFIG), Instant::now());
        for at in 0..100 {
            let pass = breaker.may_ask(begin).unwrap();
            assert_eq!(breaker.ended(begin, pass, at % 3 == 2), None, "a third fails");
        }
        let mut breaker = Breaker::new(CONFIG);
        for at in 0..100 {
            assert_eq!(fails(&mut breaker, begin + Duration::from_secs(5) * at), None, "two in a window");
        }
        let mut never = Breaker::new(BreakerConfig { failures: 0, ..CONFIG });
        assert!((0..100).all(|_| fails(&mut never, begin).is_none()));
    }
}
