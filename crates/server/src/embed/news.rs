//! Events for `on_disconnect`, which need no answer.
//!
//! The hub bounds its questions by their answers, but any number of sessions may end together. So few handlers run at
//! once, further events wait in a queue that is bounded in bytes and in time, and events without room are dropped,
//! counted and logged.

use super::extract::Call;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Handlers of news that run at once. Each has its deadline, as any handler.
pub(super) const AT_ONCE: usize = 256;
/// The most bytes that wait: events of more than 100,000 sessions.
const WAITING_BYTES_MAX: usize = 32 << 20;
/// The longest wait of an event. So a handler that hangs does not delay the end of a server.
const WAITING_MAX: Duration = Duration::from_secs(60);
/// The memory of one besides the texts of its caller.
const OVERHEAD: usize = 256;

/// One queue for all shards.
#[derive(Default)]
pub(crate) struct News(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    running: usize,
    waiting: VecDeque<(Call, usize, Instant)>,
    bytes: usize,
}

/// The result of `put`.
pub(super) enum Place {
    /// The caller runs its handler now, and then takes the next one (`next`).
    Now(Box<Call>),
    Waits,
    Dropped,
}

impl News {
    pub(super) fn put(&self, now: Instant, call: Call) -> Place {
        let mut queue = self.lock();
        if queue.running < AT_ONCE {
            queue.running += 1;
            return Place::Now(Box::new(call));
        }
        let user = call.caller.user.as_ref().map_or(0, |user| user.0.len());
        let cost = OVERHEAD + user + call.caller.info.as_ref().map_or(0, |info| info.len());
        let cost = cost + call.request().map_or(0, |request| request.cost());
        if queue.bytes + cost > WAITING_BYTES_MAX {
            return Place::Dropped;
        }
        queue.bytes += cost;
        queue.waiting.push_back((call, cost, now));
        Place::Waits
    }

    /// The next one for a task whose handler is done, and the number of those that have waited too long before it. The
    /// task ends if there is none.
    pub(super) fn next(&self, now: Instant) -> (Option<Call>, usize) {
        let (mut queue, mut dropped) = (self.lock(), 0);
        while let Some((call, cost, since)) = queue.waiting.pop_front() {
            queue.bytes -= cost;
            if now.saturating_duration_since(since) <= WAITING_MAX {
                return (Some(call), dropped);
            }
            dropped += 1;
        }
        queue.waiting = VecDeque::new(); // gives the memory of a storm back
        queue.running -= 1;
        (None, dropped)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner) // nothing in here panics between two changes
    }
}

#[cfg(test)]
mod tests {
    use super::super::extract::Subject;
    use super::*;
    use crate::clock::Clock;
    use crate::embed::handle::Handle;
    use fanfare_hub::{Caller, Ended};

    fn news(info_bytes: usize) -> Call {
        let info = Some(vec![b'1'; info_bytes].into());
        Call {
            caller: Caller { client: None, user: None, info },
            subject: Subject::Ended(Ended::Lost),
            request: None,
            handle: Handle::new(Vec::new(), 0, 1),
            clock: Clock::system(),
            socket: None,
        }
    }

    #[test]
    fn few_are_told_at_once_and_what_waits_is_bounded_in_bytes_and_time() {
        let (queue, begin) = (News::default(), Instant::now());
        let mut running = 0;
        while let Place::Now(_) = queue.put(begin, news(10)) {
            running += 1;
        }
        assert_eq!(running, AT_ONCE);
        let mut waiting = 1; // the one that found all running
        while let Place::Waits = queue.put(begin, news(1 << 20)) {
            waiting += 1;
        }
        assert_eq!(waiting, 32, "a mebibyte each, but for the first");
        assert!(matches!(queue.put(begin, news(1 << 20)), Place::Dropped));
        let (next, dropped) = queue.next(begin + WAITING_MAX);
        assert!(next.is_some() && dropped == 0);
        let (next, dropped) = queue.next(begin + WAITING_MAX + Duration::from_millis(1));
        assert!(next.is_none());
        assert_eq!(dropped, waiting - 1, "they have waited too long");
        assert!(matches!(queue.put(begin, news(10)), Place::Now(_)), "its place is free");
        assert_eq!(queue.lock().bytes, 0);
    }
}
