//! The idempotency keys that one channel remembers, the oldest first out.
//!
//! In: keys of publications, with their positions. Out: the position that a key was used for. Each key is kept once;
//! the table holds only its number in the line. The cost is counted in bytes, including the reserve capacity of tables
//! and lines.

use crate::rng::Keyed;
use crate::store::KeyScope;
use hashbrown::HashTable;
use std::collections::VecDeque;

/// The cost of a key without its text: its places in two lines, which grow by doubling, in the table, and the
/// allocation of its text.
pub(crate) const KEY_OVERHEAD: usize = 2 * size_of::<Remembered>() + 2 * size_of::<(u32, u64, u64, u64)>() + 40;

#[derive(Debug)]
pub(crate) struct Keys {
    hash: Keyed,
    /// Numbers in the line: the front of `order` is `first`.
    table: HashTable<u64>,
    order: VecDeque<Remembered>,
    first: u64,
    bytes: usize,
}

/// A key in line.
#[derive(Debug)]
pub(crate) struct Remembered {
    /// Its number among all keys of the store, in the order of the appends.
    pub(crate) number: u64,
    pub(crate) at_ms: u64,
    pub(crate) scope: KeyScope,
    pub(crate) key: Box<str>,
    /// Where the publication stands.
    pub(crate) offset: u64,
    /// Hash of payload and event: it distinguishes a conflict from a repetition without keeping the payload.
    pub(crate) content: u64,
}

/// The keys that were forgotten, and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Forgotten {
    pub(crate) bytes: usize,
    pub(crate) keys: u64,
}

impl Keys {
    pub(crate) fn new(hash: Keyed) -> Self {
        Keys { hash, table: HashTable::new(), order: VecDeque::new(), first: 0, bytes: 0 }
    }

    pub(crate) fn find(&self, scope: &KeyScope, key: &str) -> Option<&Remembered> {
        let hash = self.hash.hash_of((scope, key));
        let at = |number: u64| &self.order[(number - self.first) as usize];
        let found = self.table.find(hash, |&number| at(number).scope == *scope && *at(number).key == *key);
        found.map(|&number| at(number))
    }

    /// Adds one that is not in it. How many bytes more it costs.
    pub(crate) fn remember(&mut self, remembered: Remembered) -> usize {
        let Keys { hash, table, order, first, .. } = self;
        let of = |remembered: &Remembered| hash.hash_of((&remembered.scope, &*remembered.key));
        let (cost, this) = (remembered.cost(), of(&remembered));
        order.push_back(remembered);
        let number = *first + order.len() as u64 - 1;
        table.insert_unique(this, number, |&number| of(&order[(number - *first) as usize]));
        self.bytes += cost;
        cost
    }

    /// Forgets from the oldest on.
    pub(crate) fn forget_while(&mut self, mut goes: impl FnMut(&Remembered, usize) -> bool) -> Forgotten {
        let mut forgotten = Forgotten::default();
        while self.order.front().is_some_and(|oldest| goes(oldest, self.bytes)) {
            let Some(gone) = self.order.pop_front() else { break };
            let hash = self.hash.hash_of((&gone.scope, &*gone.key));
            if let Ok(entry) = self.table.find_entry(hash, |&number| number == self.first) {
                entry.remove();
            }
            self.first += 1;
            self.bytes -= gone.cost();
            forgotten.bytes += gone.cost();
            forgotten.keys += 1;
        }
        forgotten
    }

    /// The oldest one's number among all keys of the store.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.order.front().map(|key| key.number)
    }

    /// How many have been remembered at this time or later.
    pub(crate) fn since(&self, at_ms: u64) -> u64 {
        (self.order.len() - self.order.partition_point(|key| key.at_ms < at_ms)) as u64
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Remembered {
    /// The bytes that it takes. The texts of scopes are shared with their sessions.
    fn cost(&self) -> usize {
        KEY_OVERHEAD + self.key.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> Remembered {
        let (scope, key) = (KeyScope::Application(None), number.to_string().into());
        Remembered { number, at_ms: number, scope, key, offset: number, content: 0 }
    }

    #[test]
    fn keys_are_found_until_they_are_forgotten_and_their_bytes_with_them() {
        let mut keys = Keys::new(Keyed(1));
        let found = |keys: &Keys, n: u64| keys.find(&KeyScope::Application(None), &n.to_string()).map(|key| key.offset);
        let mut bytes = 0;
        for number in 0..1_000 {
            bytes += keys.remember(key(number));
            let over = keys.forget_while(|_, bytes| bytes > 10_000);
            bytes -= over.bytes;
            assert!(keys.bytes() == bytes && bytes <= 10_000);
            assert_eq!(found(&keys, number), Some(number));
        }
        let oldest = keys.oldest().expect("some are left");
        assert_eq!((found(&keys, oldest), found(&keys, oldest - 1)), (Some(oldest), None));
        assert_eq!(keys.find(&KeyScope::Application(Some("other".into())), "999").map(|key| key.offset), None);
        keys.forget_while(|key, _| key.at_ms < 1_000);
        assert!(keys.is_empty() && keys.bytes() == 0 && keys.table.is_empty());
    }
}
