//! When users were seen last: for the status of those who have no connection any more.
//!
//! In: a user whose session has lost its connection, and the time. Out: the latest time of a user. The newest are kept,
//! within a bound of bytes; they live as long as the process. Each shard knows of its own sessions.

use crate::ids::UserId;
use crate::rng::Keyed;
use std::collections::{BTreeMap, HashMap};

/// The bytes that one shard keeps: about 25,000 users with short ids.
const BYTES_MAX: usize = 4 << 20;
/// The bytes of one entry in both tables, besides the user's id.
const ENTRY_BYTES: usize = 144;

#[derive(Debug)]
pub(super) struct Seen {
    users: HashMap<UserId, Last, Keyed>,
    /// In the order in which they are forgotten.
    order: BTreeMap<u64, UserId>,
    next: u64,
    bytes: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Last {
    wall_ms: u64,
    number: u64,
}

impl Seen {
    pub(super) fn new(hash: Keyed) -> Self {
        Seen { users: HashMap::with_hasher(hash), order: BTreeMap::new(), next: 0, bytes: 0, bytes_max: BYTES_MAX }
    }

    /// A session of this user has lost its connection.
    pub(super) fn put(&mut self, user: &UserId, wall_ms: u64) {
        self.next += 1;
        let last = Last { wall_ms, number: self.next };
        match self.users.insert(user.clone(), last) {
            Some(before) => drop(self.order.remove(&before.number)),
            None => self.bytes += ENTRY_BYTES + user.0.len(),
        }
        self.order.insert(self.next, user.clone());
        while self.bytes > self.bytes_max
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.users.remove(&oldest);
            self.bytes -= ENTRY_BYTES + oldest.0.len();
        }
    }

    /// When that was, in ms since 1970.
    pub(super) fn last_ms(&self, user: &UserId) -> Option<u64> {
        self.users.get(user).map(|last| last.wall_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_within_the_bound() {
        let mut seen = Seen::new(Keyed(1));
        seen.bytes_max = 3 * (ENTRY_BYTES + 2);
        let user = |n: u64| UserId(format!("u{n}").into());
        (0..4).for_each(|n| seen.put(&user(n), 100 + n));
        seen.put(&user(1), 200);
        seen.put(&user(5), 201);
        let found: Vec<Option<u64>> = (0..6).map(|n| seen.last_ms(&user(n))).collect();
        assert_eq!(found, [None, Some(200), None, Some(103), None, Some(201)]);
        assert_eq!((seen.order.len(), seen.bytes), (3, seen.bytes_max));
    }
}
