//! A timer wheel: many coarse deadlines, none of which is ever cancelled.
//!
//! In: a deadline and its purpose. Out: the timers that are due, in slot order. The owner of a timer checks when it
//! fires whether it is still valid, which is cheaper than finding and removing it. Deadlines round up to the next tick;
//! one beyond the horizon waits in the farthest slot and is put back until its time has come.

use std::collections::VecDeque;
use std::vec::IntoIter;

/// Milliseconds of one tick. Heartbeats, graces and lingers are seconds; a finer wheel only wakes more often.
const TICK_MS: u64 = 128;
const SLOTS: usize = 512;

/// The result of taking one timer out of the wheel.
#[derive(Debug)]
pub(crate) enum Due<T> {
    Now(T),
    /// It was put back, to wait on.
    Later,
}

#[derive(Debug)]
pub(crate) struct Wheel<T> {
    slots: Vec<Vec<Scheduled<T>>>,
    /// Slots whose time has come, with the timers that were not taken out yet.
    ripe: VecDeque<IntoIter<Scheduled<T>>>,
    /// The tick that fires next.
    tick: u64,
    len: usize,
}

#[derive(Debug)]
struct Scheduled<T> {
    at_ms: u64,
    timer: T,
}

impl<T> Wheel<T> {
    pub(crate) fn new(now_ms: u64) -> Self {
        Wheel { slots: (0..SLOTS).map(|_| Vec::new()).collect(), ripe: VecDeque::new(), tick: now_ms / TICK_MS, len: 0 }
    }

    /// Remembers `timer` until `at_ms`.
    pub(crate) fn add(&mut self, at_ms: u64, timer: T) {
        let due = at_ms.div_ceil(TICK_MS).max(self.tick);
        let slot = due.min(self.tick + SLOTS as u64 - 1);
        self.slots[slot as usize % SLOTS].push(Scheduled { at_ms, timer });
        self.len += 1;
    }

    /// Takes out one that was to come due by `now_ms`. It is `Later` where its time is beyond the horizon still: that
    /// is as much work as another. Those that fall due together are taken out over many calls, as far as the caller
    /// has time.
    pub(crate) fn next_due(&mut self, now_ms: u64) -> Option<Due<T>> {
        self.ripen(now_ms);
        loop {
            let Some(Scheduled { at_ms, timer }) = self.ripe.front_mut()?.next() else {
                self.ripe.pop_front();
                continue;
            };
            self.len -= 1;
            if at_ms <= now_ms {
                return Some(Due::Now(timer));
            }
            self.add(at_ms, timer);
            return Some(Due::Later);
        }
    }

    /// True where some that fell due have not been taken out.
    pub(crate) fn is_ripe(&self) -> bool {
        self.ripe.iter().any(|slot| slot.len() > 0)
    }

    /// Puts the slots aside whose time has come.
    fn ripen(&mut self, now_ms: u64) {
        let until = now_ms / TICK_MS;
        // After a long pause every slot is looked at once, not once for each tick that was missed.
        let rounds = (until + 1).saturating_sub(self.tick).min(SLOTS as u64);
        for tick in self.tick..self.tick + rounds {
            let slot = &mut self.slots[tick as usize % SLOTS];
            if !slot.is_empty() {
                self.ripe.push_back(std::mem::take(slot).into_iter());
            }
        }
        self.tick = self.tick.max(until + 1);
    }

    /// When the next slot comes due, in milliseconds.
    pub(crate) fn next_ms(&self) -> Option<u64> {
        if self.len == 0 {
            return None;
        }
        (self.tick..self.tick + SLOTS as u64).find(|t| !self.slots[*t as usize % SLOTS].is_empty()).map(|t| t * TICK_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fired(wheel: &mut Wheel<u32>, now: u64) -> Vec<u32> {
        let due = std::iter::from_fn(|| wheel.next_due(now));
        let mut out: Vec<u32> =
            due.filter_map(|due| if let Due::Now(timer) = due { Some(timer) } else { None }).collect();
        out.sort_unstable();
        out
    }

    #[test]
    fn timers_fire_at_or_after_their_time_and_once() {
        let mut wheel = Wheel::new(1_000);
        wheel.add(1_500, 1);
        wheel.add(1_000, 2);
        wheel.add(10 * 60_000, 3); // beyond the horizon
        assert_eq!(fired(&mut wheel, 1_030), vec![2]);
        assert_eq!(fired(&mut wheel, 1_400), Vec::<u32>::new());
        assert_eq!(fired(&mut wheel, 1_700), vec![1]);
        let mut now = 1_700;
        while let Some(next) = wheel.next_ms() {
            assert!(next > now, "the wheel asks to be woken in the past");
            now = next;
            let out = fired(&mut wheel, now);
            assert!(out.is_empty() || now >= 10 * 60_000, "fired early, at {now}");
        }
        assert!((600_000..600_000 + TICK_MS).contains(&now), "{now}");
    }

    /// An idle server sleeps: it is not woken for a timer that is not due.
    #[test]
    fn one_timer_wakes_once_or_once_a_round() {
        for (at_ms, wakes_max) in
            [(1_500, 1), (1_536, 1), (60_000, 1), (10 * 60_000, 2 + 10 * 60_000 / (SLOTS as u64 * TICK_MS))]
        {
            let mut wheel = Wheel::new(1_000);
            wheel.add(at_ms, 1);
            let mut wakes = 0;
            while let Some(next_ms) = wheel.next_ms() {
                wakes += 1;
                let _ = fired(&mut wheel, next_ms);
            }
            assert!(wakes <= wakes_max, "{wakes} wakes for one timer at {at_ms}");
        }
    }

    #[test]
    fn a_long_pause_fires_everything_that_fell_due() {
        let mut wheel = Wheel::new(0);
        for i in 0..1000u32 {
            wheel.add(u64::from(i) * 997, i);
        }
        assert_eq!(fired(&mut wheel, 10_000_000).len(), 1000);
        assert_eq!(wheel.next_ms(), None);
    }

    #[test]
    fn timers_that_are_not_taken_out_at_once_are_not_lost() {
        let mut wheel = Wheel::new(0);
        (0..10).for_each(|i| wheel.add(1_000, i));
        assert!(matches!(wheel.next_due(1_024), Some(Due::Now(0))));
        wheel.add(1_000, 10); // late already: at the next tick
        assert!(wheel.is_ripe());
        assert_eq!(wheel.next_ms(), Some(1_152));
        assert_eq!(fired(&mut wheel, 1_200), (1..=10).collect::<Vec<_>>());
        assert!(!wheel.is_ripe());
    }
}
