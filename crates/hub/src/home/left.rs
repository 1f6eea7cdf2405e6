//! Clients that have left a channel lately: an earlier shard of the session may still say that it enters.
//!
//! A session that changes shards can leave from the new one before a home has got the messages of the old one. The home
//! remembers the incarnation that left for a time that is long beside the delay of a message between shards, and takes
//! nothing of an earlier one. Only sessions that had an earlier connection are remembered, only where there are
//! several shards, and at most `max` leaves: beyond that the oldest are forgotten. With a bound of 0 nothing is
//! remembered.

use crate::ids::ClientId;
use crate::name::ChannelName;
use crate::rng::Keyed;
use crate::slice::Slice;
use std::collections::{HashMap, VecDeque};

/// How long a leave is remembered.
const REMEMBER_MS: u64 = 30_000;

#[derive(Debug)]
pub(super) struct Left {
    of: HashMap<PresenceKey, Leave, Keyed>,
    order: VecDeque<OrderEntry>,
    max: usize,
}

/// A client in a channel.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct PresenceKey {
    client: ClientId,
    channel: ChannelName,
}

/// A leave that is to be forgotten after its time, unless the client has left again since.
#[derive(Debug)]
struct OrderEntry {
    left_ms: u64,
    key: PresenceKey,
}

#[derive(Debug, Clone, Copy)]
struct Leave {
    incarnation: u32,
    left_ms: u64,
}

impl Left {
    pub(super) fn new(hash: Keyed, max: usize) -> Self {
        Left { of: HashMap::with_hasher(hash), order: VecDeque::new(), max }
    }

    pub(super) fn len(&self) -> usize {
        self.of.len()
    }

    /// A client has left. Returns how many older ones are forgotten for it.
    pub(super) fn left(&mut self, now_ms: u64, channel: &ChannelName, client: ClientId, incarnation: u32) -> u64 {
        if self.max == 0 {
            return 0;
        }
        let key = PresenceKey { client, channel: channel.clone() };
        let leave = self.of.entry(key.clone()).or_insert(Leave { incarnation, left_ms: now_ms });
        leave.incarnation = leave.incarnation.max(incarnation);
        leave.left_ms = now_ms;
        self.order.push_back(OrderEntry { left_ms: now_ms, key });
        let mut forgotten = 0;
        while self.order.len() > self.max {
            self.forget_oldest();
            forgotten += 1;
        }
        forgotten
    }

    /// True where a later incarnation of the client than this one has left.
    pub(super) fn is_over(&self, channel: &ChannelName, client: ClientId, incarnation: u32) -> bool {
        !self.of.is_empty()
            && self
                .of
                .get(&PresenceKey { client, channel: channel.clone() })
                .is_some_and(|leave| leave.incarnation > incarnation)
    }

    /// Forgets old leaves, as far as the slice goes. True where there are more.
    pub(super) fn tidy(&mut self, now_ms: u64, slice: &mut Slice) -> bool {
        while self.order.front().is_some_and(|oldest| oldest.left_ms + REMEMBER_MS <= now_ms) {
            if slice.is_spent() {
                return true;
            }
            slice.spend(1);
            self.forget_oldest();
        }
        if self.order.is_empty() {
            // Gives the memory of a storm back.
            self.order = VecDeque::new();
            self.of.shrink_to_fit();
        }
        false
    }

    fn forget_oldest(&mut self) {
        let Some(OrderEntry { left_ms, key }) = self.order.pop_front() else { return };
        // It may have come back and left again since.
        if self.of.get(&key).is_some_and(|leave| leave.left_ms == left_ms) {
            self.of.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;

    /// A slice of so many steps.
    fn slice(steps: usize) -> Slice {
        Slice::new(&Limits { fanout_slice: steps, ..Limits::default() })
    }

    fn chat() -> ChannelName {
        ChannelName::new("chat:a").expect("valid")
    }

    #[test]
    fn only_what_an_earlier_incarnation_says_is_over_and_only_for_a_while() {
        let mut left = Left::new(Keyed(1), 100);
        left.left(1_000, &chat(), ClientId(1), 2);
        let over = |left: &Left| [1, 2, 3].map(|incarnation| left.is_over(&chat(), ClientId(1), incarnation));
        assert_eq!(over(&left), [true, false, false]);
        assert!(!left.is_over(&chat(), ClientId(2), 0));
        left.left(20_000, &chat(), ClientId(1), 3);
        assert!(!left.tidy(31_000, &mut slice(100)));
        assert_eq!(over(&left), [true, true, false], "it left anew");
        assert!(!left.tidy(50_000, &mut slice(100)));
        assert_eq!(over(&left), [false; 3]);
        assert!(left.of.is_empty() && left.order.is_empty());
    }

    /// An earlier shard of the session says late that the session left there.
    #[test]
    fn an_older_leave_that_arrives_later_takes_nothing_back() {
        let mut left = Left::new(Keyed(1), 100);
        left.left(1_000, &chat(), ClientId(1), 3);
        left.left(1_001, &chat(), ClientId(1), 1);
        let over = [0, 1, 2, 3].map(|incarnation| left.is_over(&chat(), ClientId(1), incarnation));
        assert_eq!(over, [true, true, true, false]);
    }

    #[test]
    fn beyond_the_bound_the_oldest_are_forgotten() {
        let mut left = Left::new(Keyed(1), 3);
        for client in 1..=5 {
            left.left(1_000 + client, &chat(), ClientId(client), 1);
            left.left(1_000 + client, &chat(), ClientId(5), 1);
            assert!(left.of.len() <= 3 && left.order.len() <= 3);
        }
        assert_eq!([3, 4, 5].map(|client| left.is_over(&chat(), ClientId(client), 0)), [false, false, true]);
    }
    #[test]
    fn leaves_are_forgotten_in_slices() {
        let mut left = Left::new(Keyed(1), 100);
        (0..100).for_each(|client| assert_eq!(left.left(1_000, &chat(), ClientId(client), 1), 0));
        assert!(left.tidy(31_000, &mut slice(20)));
        assert_eq!((left.of.len(), left.order.len()), (80, 80));
        assert!(!left.tidy(31_000, &mut slice(80)));
        assert!(left.of.is_empty());
    }
}
