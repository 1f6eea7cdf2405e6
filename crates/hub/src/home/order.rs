//! The order of the channels' names: their places, sorted by the names that stand there.
//!
//! In: a place with its name. Out: the places from a name on. A sorted map would hold each name once more, at 41 bytes
//! a channel. This holds the place alone, four bytes, in blocks; small neighbours become one block.

use std::ops::Bound;

/// Places in one block: a change moves at most so many.
const BLOCK: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Order {
    /// None of them is empty.
    blocks: Vec<Vec<u32>>,
}

impl Order {
    /// Adds a place. `at` gives the name that stands at a place, this one included.
    pub(super) fn insert<'a>(&mut self, place: u32, at: impl Fn(u32) -> &'a str) {
        let Spot { block, within } = self.seek(Bound::Included(at(place)), &at);
        let Some(places) = self.blocks.get_mut(block) else {
            self.blocks.push(new_block(&[place]));
            return;
        };
        if places.len() < BLOCK {
            places.insert(within, place);
            return;
        }
        // Names that come in their order fill their blocks: the new one gets the last name alone.
        let keep = if within == BLOCK { BLOCK } else { BLOCK / 2 };
        let mut upper = new_block(&places[keep..]);
        places.truncate(keep);
        match within.checked_sub(keep) {
            Some(within) => upper.insert(within, place),
            None => places.insert(within, place),
        }
        self.blocks.insert(block + 1, upper);
    }

    /// Takes a place out. Its name still stands there.
    pub(super) fn remove<'a>(&mut self, place: u32, at: impl Fn(u32) -> &'a str) {
        let Spot { block, within } = self.seek(Bound::Included(at(place)), &at);
        let Some(places) = self.blocks.get_mut(block).filter(|places| places.get(within) == Some(&place)) else {
            debug_assert!(false, "a place that is not in order");
            return;
        };
        places.remove(within);
        if places.is_empty() {
            self.blocks.remove(block);
            return;
        }
        self.join_small(block);
        if let Some(before) = block.checked_sub(1) {
            self.join_small(before);
        }
    }

    /// Two neighbours together are more than half of a block.
    fn join_small(&mut self, block: usize) {
        if self.blocks.get(block + 1).is_some_and(|next| next.len() + self.blocks[block].len() <= BLOCK / 2) {
            let next = self.blocks.remove(block + 1);
            self.blocks[block].extend(next);
        }
    }

    /// The places of the names from this one on.
    pub(super) fn from<'a>(&self, from: Bound<&str>, at: impl Fn(u32) -> &'a str) -> impl Iterator<Item = u32> {
        let Spot { block, within } = self.seek(from, &at);
        self.blocks.iter().skip(block).flatten().skip(within).copied()
    }

    /// Where the first name from this one on stands, or would stand.
    fn seek<'a>(&self, from: Bound<&str>, at: &impl Fn(u32) -> &'a str) -> Spot {
        let (Bound::Included(name) | Bound::Excluded(name)) = from else { return Spot { block: 0, within: 0 } };
        let is_excluded = from == Bound::Excluded(name);
        let is_before = |place: u32| at(place) < name || (is_excluded && at(place) == name);
        let block = self.blocks.partition_point(|places| at(places[0]) <= name).saturating_sub(1);
        let within = self.blocks.get(block).map_or(0, |places| places.partition_point(|&place| is_before(place)));
        Spot { block, within }
    }
}

/// Where a name stands: its block, and its place in that.
#[derive(Debug, Clone, Copy)]
struct Spot {
    block: usize,
    within: usize,
}

/// A block that never grows beyond its memory.
fn new_block(places: &[u32]) -> Vec<u32> {
    let mut block = Vec::with_capacity(BLOCK);
    block.extend_from_slice(places);
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use std::collections::BTreeMap;

    /// The blocks, and the map that they are to be like.
    struct Both {
        names: Vec<String>,
        order: Order,
        map: BTreeMap<String, u32>,
    }

    impl Both {
        fn new(names: Vec<String>) -> Self {
            Both { names, order: Order::default(), map: BTreeMap::new() }
        }

        fn turn(&mut self, place: u32) {
            let Both { names, order, map } = self;
            let at = |place: u32| names[place as usize].as_str();
            if map.remove(at(place)).is_some() {
                order.remove(place, at);
            } else {
                map.insert(at(place).into(), place);
                order.insert(place, at);
            }
        }

        fn check(&self, from: Bound<&str>) {
            let at = |place: u32| self.names[place as usize].as_str();
            let expected: Vec<u32> = self.map.range::<str, _>((from, Bound::Unbounded)).map(|(_, &at)| at).collect();
            assert_eq!(self.order.from(from, at).collect::<Vec<_>>(), expected, "from {from:?}");
            assert!(self.order.blocks.iter().all(|places| !places.is_empty() && places.capacity() == BLOCK));
        }
    }

    #[test]
    fn places_are_found_in_the_order_of_their_names() {
        let mut rng = Rng::new(7);
        let count = 4 * BLOCK as u64;
        let mut both = Both::new((0..count).map(|_| format!("chat:{:x}", rng.next_u64())).collect());
        both.check(Bound::Unbounded);
        for round in 0..20_000 {
            both.turn((rng.next_u64() % count) as u32);
            if round % 97 == 0 {
                let name = both.names[(rng.next_u64() % count) as usize].clone();
                both.check(Bound::Included(&name));
                both.check(Bound::Excluded(&name));
                both.check(Bound::Included("chat:8"));
                both.check(Bound::Excluded("z"));
            }
        }
    }

    #[test]
    fn names_in_order_fill_their_blocks_and_few_are_left_in_few() {
        let mut both = Both::new((0..8 * BLOCK).map(|n| format!("room:{n:06}")).collect());
        (0..8 * BLOCK as u32).for_each(|place| both.turn(place));
        assert_eq!(both.order.blocks.len(), 8);
        (0..8 * BLOCK as u32).rev().filter(|place| place % 64 != 0).for_each(|place| both.turn(place));
        both.check(Bound::Unbounded);
        assert!(both.order.blocks.len() <= 1, "{} blocks for 32 names", both.order.blocks.len());
    }
}
