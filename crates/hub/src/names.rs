//! Finds the place of a channel by its name, where the name itself stands at that place already.
//!
//! A map keyed by names would hold each once more, with its hash table of 24 bytes a slot; this one holds 4.

use crate::rng::Keyed;
use hashbrown::HashTable;

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

    /// Takes out the name that stands, or stood, at this place.
    pub(crate) fn remove(&mut self, name: &str, place: u32) {
        if let Ok(entry) = self.places.find_entry(self.hash.hash_of(name), |&other| other == place) {
            entry.remove();
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
            names.remove(text, place as u32);
        }
        for (place, text) in texts.iter().enumerate() {
            assert_eq!(names.find(text, at), (place % 3 != 0).then_some(place as u32), "{text}");
        }
        assert_eq!(names.len(), 666);
    }
}
