//! Finds the place of a channel by its name, where the name itself stands at that place already.
//!
//! A map keyed by names would hold each once more, with its hash table of 24 bytes a slot; this one holds 4. It gives
//! memory back when most names are gone, so that a flood of names leaves nothing behind.

use crate::rng::Keyed;
use hashbrown::HashTable;

/// A table of so many places is not made smaller.
const KEPT: usize = 1024;

#[derive(Debug)]
pub(crate) struct Names {
    hash: Keyed,
    places: HashTable<u32>,
}

impl Names {
    pub(crate) fn new(hash: Keyed) -> Self {
        Names { hash, places: HashTable::new() }
    }

    /// The key of the hash.
    pub(crate) fn hasher(&self) -> Keyed {
        self.hash
    }

    /// The place of `name`. `at` gives the name that stands at a place.
    pub(crate) fn find<'a>(&self, name: &str, at: impl Fn(u32) -> &'a str) -> Option<u32> {
        self.places.find(self.hash.hash_of(name), |&place| at(place) == name).copied()
    }

    /// Adds a name that is not in it, at its place.
    pub(crate) fn insert<'a>(&mut self, name: &str, place: u32, at: impl Fn(u32) -> &'a str) {
        let Names { hash, places } = self;
        places.insert_unique(hash.hash_of(name), place, |&place| hash.hash_of(at(place)));
    }

    /// Takes out the name that stands, or stood, at this place. `at` gives the names of the others.
    pub(crate) fn remove<'a>(&mut self, name: &str, place: u32, at: impl Fn(u32) -> &'a str) {
        let Names { hash, places } = self;
        if let Ok(entry) = places.find_entry(hash.hash_of(name), |&other| other == place) {
            entry.remove();
        }
        // Half empty at the least afterwards: it does not grow again at once.
        if places.capacity() > KEPT && places.len() < places.capacity() / 8 {
            places.shrink_to(2 * places.len(), |&place| hash.hash_of(at(place)));
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_at_their_places_until_they_are_removed() {
        let texts: Vec<String> = (0..1_000).map(|n| format!("c:{n}")).collect();
        let at = |place: u32| texts[place as usize].as_str();
        let mut names = Names::new(Keyed(7));
        for (place, text) in texts.iter().enumerate() {
            assert_eq!(names.find(text, at), None);
            names.insert(text, place as u32, at);
        }
        for (place, text) in texts.iter().enumerate().filter(|(place, _)| place % 3 == 0) {
            names.remove(text, place as u32, at);
        }
        for (place, text) in texts.iter().enumerate() {
            assert_eq!(names.find(text, at), (place % 3 != 0).then_some(place as u32), "{text}");
        }
        assert_eq!(names.len(), 666);
    }

    #[test]
    fn a_flood_of_names_leaves_a_small_table() {
        let texts: Vec<String> = (0..50_000).map(|n| format!("c:{n}")).collect();
        let at = |place: u32| texts[place as usize].as_str();
        let mut names = Names::new(Keyed(7));
        for (place, text) in texts.iter().enumerate() {
            names.insert(text, place as u32, at);
        }
        for (place, text) in texts.iter().enumerate().skip(10) {
            names.remove(text, place as u32, at);
            assert!(
                names.places.capacity() <= 2 * KEPT.max(8 * names.len()),
                "{} for {}",
                names.places.capacity(),
                names.len()
            );
        }
        for (place, text) in texts.iter().enumerate() {
            assert_eq!(names.find(text, at), (place < 10).then_some(place as u32), "{text}");
        }
    }
}
