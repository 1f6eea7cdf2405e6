//! Slots: values at places that stay the same until they are taken out, in chunks of a fixed size.
//!
//! A plain slab grows by doubling: up to half of its memory is room for values that never come, and each growth
//! copies all of them. There are very many channels, so here a full table grows by one chunk, no value moves, and a
//! chunk that is empty gives its memory back. A place that is free again is used before a new one.

use slab::Slab;
use std::ops::{Index, IndexMut};

/// Values in one chunk.
const CHUNK: usize = 256;

#[derive(Debug)]
pub(crate) struct Slots<T> {
    chunks: Vec<Slab<T>>,
    /// The chunks that have room, each once. The last one is filled next.
    open: Vec<u32>,
    len: usize,
    /// After the last place that was ever used.
    end: usize,
}

impl<T> Slots<T> {
    pub(crate) fn new() -> Self {
        Slots { chunks: Vec::new(), open: Vec::new(), len: 0, end: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Every place is below this.
    pub(crate) fn end(&self) -> usize {
        self.end
    }

    /// Puts a value in and returns its place.
    pub(crate) fn insert(&mut self, value: T) -> usize {
        let at = match self.open.last() {
            Some(&at) => at as usize,
            None => {
                self.chunks.push(Slab::new());
                self.open.push((self.chunks.len() - 1) as u32);
                self.chunks.len() - 1
            }
        };
        let chunk = &mut self.chunks[at];
        if chunk.capacity() == 0 {
            *chunk = Slab::with_capacity(CHUNK);
        }
        let place = at * CHUNK + chunk.insert(value);
        if chunk.len() == CHUNK {
            self.open.pop();
        }
        self.len += 1;
        self.end = self.end.max(place + 1);
        place
    }

    /// Takes a value out.
    ///
    /// # Panics
    /// Nothing is at this place.
    pub(crate) fn remove(&mut self, place: usize) -> T {
        let at = place / CHUNK;
        let chunk = &mut self.chunks[at];
        let value = chunk.remove(place % CHUNK);
        if chunk.len() == CHUNK - 1 {
            self.open.push(at as u32);
        }
        if chunk.is_empty() {
            *chunk = Slab::new();
        }
        self.len -= 1;
        value
    }

    pub(crate) fn get(&self, place: usize) -> Option<&T> {
        self.chunks.get(place / CHUNK)?.get(place % CHUNK)
    }

    pub(crate) fn get_mut(&mut self, place: usize) -> Option<&mut T> {
        self.chunks.get_mut(place / CHUNK)?.get_mut(place % CHUNK)
    }

    /// Every value with its place.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        self.chunks
            .iter()
            .enumerate()
            .flat_map(|(at, chunk)| chunk.iter().map(move |(key, value)| (at * CHUNK + key, value)))
    }
}

impl<T> Index<usize> for Slots<T> {
    type Output = T;

    fn index(&self, place: usize) -> &T {
        &self.chunks[place / CHUNK][place % CHUNK]
    }
}

impl<T> IndexMut<usize> for Slots<T> {
    fn index_mut(&mut self, place: usize) -> &mut T {
        &mut self.chunks[place / CHUNK][place % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_stay_and_are_used_again() {
        let mut slots = Slots::new();
        let places: Vec<usize> = (0..3 * CHUNK).map(|value| slots.insert(value)).collect();
        assert_eq!(places, (0..3 * CHUNK).collect::<Vec<_>>());
        assert_eq!((slots.len(), slots.end()), (3 * CHUNK, 3 * CHUNK));
        for gone in [5, CHUNK + 1, 3 * CHUNK - 1] {
            assert_eq!(slots.remove(gone), gone);
            assert!(slots.get(gone).is_none() && slots.get_mut(gone).is_none());
        }
        let mut again: Vec<usize> = (0..3).map(|_| slots.insert(0)).collect();
        again.sort_unstable();
        assert_eq!(again, [5, CHUNK + 1, 3 * CHUNK - 1], "before any new place");
        assert_eq!(slots.insert(7), 3 * CHUNK);
        assert_eq!((slots[6], slots[3 * CHUNK], slots.iter().count()), (6, 7, slots.len()));
        assert!(slots.iter().all(|(place, value)| slots[place] == *value));
        assert!(slots.get(usize::MAX).is_none());
    }

    #[test]
    fn an_empty_chunk_gives_its_memory_back_and_is_filled_again() {
        let mut slots = Slots::new();
        (0..2 * CHUNK).for_each(|value| {
            slots.insert(value);
        });
        (0..CHUNK).for_each(|place| {
            slots.remove(place);
        });
        assert_eq!(slots.chunks[0].capacity(), 0);
        let places: Vec<usize> = (0..CHUNK).map(|value| slots.insert(value)).collect();
        assert!(places.iter().all(|place| *place < CHUNK), "the free places");
        assert_eq!((slots.len(), slots.end(), slots.chunks[0].capacity()), (2 * CHUNK, 2 * CHUNK, CHUNK));
    }
}
