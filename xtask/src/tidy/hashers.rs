//! No table with keys that others choose has a hasher that they can compute.
//!
//! Clients choose the names of channels, rooms and events, their users' ids, idempotency keys, headers, JSON. A hasher
//! without a key that is secret and new with each start lets them pick names that fall into one slot. The machines have
//! `Keyed` (`crates/hub/src/rng.rs`), the rest has the standard library's `RandomState`; this check finds the others.
//! Dependencies that bring such hashers for tables of their own (`http`'s `HeaderMap` changes to a keyed one where
//! names collide) are not judged here.

use std::collections::BTreeSet;

const FOLDERS: [&str; 3] = ["crates/hub/src/", "crates/wire/src/", "crates/server/src/"];

/// The hasher of the machines. It is keyed there, and only there.
const KEYED: &str = "crates/hub/src/rng.rs";

const WORDS_DENIED: [&str; 12] = [
    "DefaultHasher",
    "BuildHasherDefault",
    "BuildHasher for",
    "Hasher for",
    "ahash",
    "fnv::",
    "foldhash",
    "fxhash",
    "FxHash",
    "rustc_hash",
    "nohash",
    "seahash",
];

/// Hashers without a secret key, outside of comments and tests. `tests`: see `layers::test_modules`.
pub(crate) fn source(name: &str, text: &str, tests: &BTreeSet<String>) -> Vec<String> {
    let is_ours = name.ends_with(".rs") && FOLDERS.iter().any(|folder| name.starts_with(folder));
    if !is_ours || name == KEYED || tests.contains(name) {
        return Vec::new();
    }
    let mut faults = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim() == "#[cfg(test)]" {
            break; // tests come last in a file
        }
        let code = line.split("//").next().unwrap_or_default();
        for word in WORDS_DENIED.iter().filter(|word| code.contains(**word)) {
            let hint = "use `Keyed` or `RandomState`, as clients choose the keys";
            faults.push(format!("{name}:{}: `{word}` may be a hasher without a secret key: {hint}", number + 1));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hasher_that_anybody_can_compute_is_found() {
        let rows = [
            ("the standard one without a key", "crates/hub/src/a.rs", "let h = DefaultHasher::new();", 1),
            ("as a parameter", "crates/server/src/a.rs", "HashMap<String, u8, BuildHasherDefault<X>>", 1),
            ("a fast one", "crates/wire/src/a.rs", "use rustc_hash::FxHashMap;", 2),
            ("one of our own", "crates/server/src/a.rs", "impl BuildHasher for Plain {", 2),
            ("in a comment", "crates/hub/src/a.rs", "// no DefaultHasher here", 0),
            ("in tests", "crates/hub/src/a.rs", "#[cfg(test)]\nmod tests { use std::hash::DefaultHasher; }", 0),
            ("in a test file", "crates/hub/src/memory/tests.rs", "DefaultHasher::new()", 0),
            ("the keyed one", KEYED, "let mut hasher = DefaultHasher::new();", 0),
            ("with a random key", "crates/server/src/a.rs", "RandomState::new().hash_one(())", 0),
            ("in the simulation", "sim/src/trace.rs", "DefaultHasher::new()", 0),
        ];
        let tests = BTreeSet::from(["crates/hub/src/memory/tests.rs".to_owned()]);
        for (row, name, text, expected) in rows {
            assert_eq!(source(name, text, &tests).len(), expected, "{row}");
        }
    }
}
