//! Which names reach which rule: finds a channel name that some patterns match and others do not.
//!
//! A search over segments. Of the words that could stand at a place only those that some pattern names there make a
//! difference, and one that none names; a set of patterns that is still alive at a depth is looked at once.

use crate::pattern::{Part, Pattern};
use std::collections::HashSet;

/// Beyond so many steps the search gives up and says that there is one: only patterns made for it take as many.
const STEPS_MAX: usize = 100_000;
/// The segment that stands for all that no pattern names; lengthened until none does.
const OTHER: &str = "x";

/// A name that every pattern of `all` matches and none of `none` does, or `None` where there is no such name.
pub fn example_name(all: &[&Pattern], none: &[&Pattern]) -> Option<String> {
    let patterns: Vec<&[Part]> = all.iter().chain(none).map(|pattern| pattern.parts()).collect();
    let mut other = OTHER.to_owned();
    while patterns.iter().any(|parts| parts.iter().any(|part| matches!(part, Part::Literal(text) if **text == other))) {
        other.push_str(OTHER);
    }
    let depth_max = patterns.iter().map(|parts| parts.len()).max().unwrap_or(0) + 1;
    let mut search = Search { patterns, wanted: all.len(), other, depth_max, seen: HashSet::new(), name: Vec::new() };
    let alive = vec![true; search.patterns.len()];
    search.go_on(alive).then(|| search.name.join(":"))
}

struct Search<'p> {
    patterns: Vec<&'p [Part]>,
    /// The first so many must match, the others must not.
    wanted: usize,
    other: String,
    depth_max: usize,
    seen: HashSet<(usize, Vec<bool>)>,
    name: Vec<String>,
}

impl Search<'_> {
    /// True when `name` can be continued to one that is sought; `alive` are the patterns that fit it so far.
    fn go_on(&mut self, alive: Vec<bool>) -> bool {
        let depth = self.name.len();
        let is_whole =
            |parts: &[Part]| parts.len() == depth || (parts.len() < depth && parts.last() == Some(&Part::Rest));
        let whole: Vec<bool> =
            self.patterns.iter().zip(&alive).map(|(parts, alive)| *alive && is_whole(parts)).collect();
        if depth > 0 && whole[..self.wanted].iter().all(|whole| *whole) && !whole[self.wanted..].contains(&true) {
            return true;
        }
        if depth == self.depth_max || !self.seen.insert((depth, alive.clone())) {
            return false;
        }
        if self.seen.len() > STEPS_MAX {
            return true;
        }
        let mut words: Vec<String> = Vec::new();
        for (parts, _) in self.patterns.iter().zip(&alive).filter(|(_, alive)| **alive) {
            if let Some(Part::Literal(text)) = parts.get(depth)
                && !words.iter().any(|word| **word == **text)
            {
                words.push(text.to_string());
            }
        }
        words.insert(0, self.other.clone());
        for word in words {
            let fits = |parts: &[Part]| match parts.get(depth) {
                Some(Part::Literal(text)) => **text == *word,
                Some(Part::One | Part::Capture(_) | Part::Rest) => true,
                None => parts.last() == Some(&Part::Rest),
            };
            let next: Vec<bool> =
                self.patterns.iter().zip(&alive).map(|(parts, alive)| *alive && fits(parts)).collect();
            if next[..self.wanted].iter().all(|alive| *alive) {
                self.name.push(word);
                if self.go_on(next) {
                    return true;
                }
                self.name.pop();
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_where_there_is_one() {
        let rows: &[(&[&str], &[&str], Option<&str>)] = &[
            (&["chat:*"], &[], Some("chat:x")),
            (&["chat:*"], &["chat:**"], None),
            (&["chat:**"], &["chat:*"], Some("chat:x:x")),
            (&["chat:x"], &["chat:*"], None),
            (&["chat:*"], &["chat:x", "chat:xx"], Some("chat:xxx")),
            (&["**"], &["*", "*:**"], None),
            (&["**"], &["*", "*:*"], Some("x:x:x")),
            (&["*:b"], &["a:*"], Some("x:b")),
            (&["*:b", "a:*"], &[], Some("a:b")),
            (&["inbox:{user}"], &["inbox:*"], None),
            (&["inbox:*"], &["inbox:{user}"], None),
            (&["a", "b"], &[], None),
            (&["*:*"], &["a:*", "*:b"], Some("x:x")),
        ];
        for (all, none, expected) in rows {
            let parse = |texts: &[&str]| texts.iter().map(|t| Pattern::new(t).expect("valid")).collect::<Vec<_>>();
            let (all, none) = (parse(all), parse(none));
            let found = example_name(&all.iter().collect::<Vec<_>>(), &none.iter().collect::<Vec<_>>());
            assert_eq!(found.as_deref(), *expected, "{all:?} without {none:?}");
        }
    }

    /// Every pattern doubles the ways to go; each set of living ones is looked at once.
    #[test]
    fn patterns_made_to_be_slow_come_to_an_end() {
        let texts: Vec<String> = (0..60).map(|at| format!("{}a:**", "*:".repeat(at))).collect();
        let patterns: Vec<Pattern> = texts.iter().map(|text| Pattern::new(text).expect("valid")).collect();
        let none: Vec<&Pattern> = patterns.iter().collect();
        assert!(example_name(&[&Pattern::new("**").expect("valid")], &none).is_some());
    }
}
