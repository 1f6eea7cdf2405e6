//! A timer wheel: many coarse deadlines, none of which is ever cancelled.
//!
//! In: a deadline and what it is for. Out: what has come due, in slot order. A timer is a reminder and not a promise: its
//! owner checks on firing whether it still means anything, which is cheaper than finding and removing it. Deadlines round
//! up to the next tick; one beyond the horizon waits in the farthest slot and is put back until its time has come.

/// Milliseconds of one tick. Heartbeats, graces and lingers are seconds; a finer wheel only wakes more often.
const TICK_MS: u64 = 128;
const SLOTS: usize = 512;

#[derive(Debug)]
pub(crate) struct Wheel<T> {
    slots: Vec<Vec<(u64, T)>>,
    /// The tick that fires next.
    tick: u64,
    len: usize,
}

impl<T> Wheel<T> {
    pub(crate) fn new(now_ms: u64) -> Self {
        Wheel { slots: (0..SLOTS).map(|_| Vec::new()).collect(), tick: now_ms / TICK_MS, len: 0 }
    }

    /// Remembers `timer` until `at_ms`.
    pub(crate) fn add(&mut self, at_ms: u64, timer: T) {
        let due = at_ms.div_ceil(TICK_MS).max(self.tick);
        let slot = due.min(self.tick + SLOTS as u64 - 1);
        self.slots[slot as usize % SLOTS].push((at_ms, timer));
        self.len += 1;
    }

    /// Moves what is due at `now_ms` to `out`.
    pub(crate) fn fire(&mut self, now_ms: u64, out: &mut Vec<T>) {
        let until = now_ms / TICK_MS;
        // After a long pause every slot is looked at once, not once for each tick that was missed.
        let rounds = (until + 1).saturating_sub(self.tick).min(SLOTS as u64);
        let first = self.tick;
        self.tick = self.tick.max(until + 1);
        for tick in first..first + rounds {
            let slot = tick as usize % SLOTS;
            if self.slots[slot].is_empty() {
                continue;
            }
            let mut due = std::mem::take(&mut self.slots[slot]);
            self.len -= due.len();
            for (at_ms, timer) in due.drain(..) {
                if at_ms <= now_ms { out.push(timer) } else { self.add(at_ms, timer) }
            }
            // The slot keeps its room unless something was put back into it meanwhile or it grew out of proportion.
            if self.slots[slot].is_empty() && due.capacity() <= 256 {
                self.slots[slot] = due;
            }
        }
    }

    /// When [`fire`](Self::fire) next has something to do, in milliseconds.
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
        let mut out = Vec::new();
        wheel.fire(now, &mut out);
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
        assert_eq!(fired(&mut wheel, 1_400), vec![]);
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

    #[test]
    fn a_long_pause_fires_everything_that_fell_due() {
        let mut wheel = Wheel::new(0);
        for i in 0..1000u32 {
            wheel.add(u64::from(i) * 997, i);
        }
        assert_eq!(fired(&mut wheel, 10_000_000).len(), 1000);
        assert_eq!(wheel.next_ms(), None);
    }
}
