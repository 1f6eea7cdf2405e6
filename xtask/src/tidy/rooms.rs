//! The modules of a crate depend on each other in one direction.
//!
//! A room is a file or a folder directly below a crate's `src`. A [`House`] lists its rooms by floor, from the ground
//! up. A room may use only rooms of lower floors, so no circle can arise. `apart` forbids single uses that the floors
//! would allow. Uses are read from the paths `crate::room…` and `super::…` outside of comments and tests; a type that
//! `lib.rs` re-exports (`crate::Type`) counts as a use of the room `lib`.

use std::collections::{BTreeMap, BTreeSet};

/// The rooms of one crate.
struct House {
    /// Ends with `src/`.
    folder: &'static str,
    /// From the ground up.
    floors: &'static [&'static [&'static str]],
    /// (room, the room that it must not use, why)
    apart: &'static [(&'static str, &'static str, &'static str)],
}

const HOUSES: [House; 2] = [HUB, SERVER];

const HUB: House = House {
    folder: "crates/hub/src/",
    floors: &[
        &[
            "attachment",
            "claims",
            "disconnect",
            "ids",
            "name",
            "outbox",
            "page_id",
            "quota",
            "rng",
            "slots",
            "time",
            "token",
            "wheel",
        ],
        &["limits"],
        &["act", "error", "labels", "names", "pattern", "placement", "slice"],
        &["check"],
        &["rules"],
        &["inspect", "listing", "message", "reach", "watch"],
        &["members"],
        &["app", "forward", "hook", "identity", "store"],
        &["reads"],
        &["keys", "peer", "polls"],
        &["effects", "memory", "timer"],
        &["edge"],
        &["home", "session"],
        &["shard"],
        &["lib"],
        &["fuzz"],
    ],
    apart: &[("home", "edge", "they speak by messages, as they can be on different shards")],
};

const SERVER: House = House {
    folder: "crates/server/src/",
    floors: &[
        &["clock", "config", "counters", "harden", "limits", "request", "validation"],
        &["error", "logs", "outgoing", "refusal", "settings"],
        &["auth", "journal", "random"],
        &["protocol", "transport"],
        &["control", "framing"],
        &["watch"],
        &["embed"],
        &["api", "hooks"],
        &["http"],
        &["shard"],
        &["fuzz", "server"],
        &["lib"],
    ],
    apart: &[],
};

/// Uses in the wrong direction. `tests`: files that are only in tests.
pub(crate) fn source(name: &str, text: &str, tests: &BTreeSet<String>) -> Vec<String> {
    if tests.contains(name) {
        return Vec::new();
    }
    HOUSES.iter().flat_map(|house| house.faults(name, text)).collect()
}

/// Rooms of a table that are missing in its crate.
pub(crate) fn tables(texts: &BTreeMap<&str, String>) -> Vec<String> {
    HOUSES.iter().flat_map(|house| house.missing(texts)).collect()
}

impl House {
    fn faults(&self, name: &str, text: &str) -> Vec<String> {
        let Some(path) = name.strip_prefix(self.folder).and_then(|path| path.strip_suffix(".rs")) else {
            return Vec::new();
        };
        let mut module: Vec<&str> = path.split('/').collect();
        module.pop_if(|last| *last == "mod");
        let Some(room) = module.first().copied() else { return Vec::new() };
        let Some(floor) = self.floor(room) else {
            return vec![format!("{name}: room `{room}` has no floor in xtask/src/tidy/rooms.rs")];
        };
        let mut faults = Vec::new();
        for used in uses(&module, &code(text)).into_iter().filter(|used| used.name != room) {
            let Some(below) = self.floor(&used.name) else {
                if !used.by_super {
                    faults.push(format!("{name}:{}: `{}` is no room of {}", used.line, used.name, self.folder));
                }
                continue;
            };
            if below >= floor {
                faults.push(format!(
                    "{name}:{}: `{room}` must not use `{}`, which is not below it",
                    used.line, used.name
                ));
            }
            let closed = self.apart.iter().find(|(from, to, _)| *from == room && *to == used.name);
            if let Some((_, _, why)) = closed {
                faults.push(format!("{name}:{}: `{room}` must not use `{}`: {why}", used.line, used.name));
            }
        }
        faults
    }

    fn floor(&self, room: &str) -> Option<usize> {
        self.floors.iter().position(|rooms| rooms.contains(&room))
    }

    fn missing(&self, texts: &BTreeMap<&str, String>) -> Vec<String> {
        let stands = |room: &str| {
            ["", "/mod"].iter().any(|end| texts.contains_key(format!("{}{room}{end}.rs", self.folder).as_str()))
        };
        let rooms = self.floors.iter().copied().flatten().filter(|room| !stands(room));
        rooms.map(|room| format!("xtask/src/tidy/rooms.rs: {} has no room `{room}`", self.folder)).collect()
    }
}

/// One use: the room that a line names.
struct Used {
    name: String,
    line: usize,
    /// By a path that begins with `super`: in a module within a file it may mean another module.
    by_super: bool,
}

/// A file without its comments and tests, line by line.
fn code(text: &str) -> String {
    let mut kept = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line.trim() == "#[cfg(test)]" {
            let next = lines.peek().map_or("", |next| next.trim());
            if next.starts_with("mod ") && next.ends_with('{') {
                break; // tests come last in a file
            }
            kept.push('\n');
            lines.next();
        } else {
            kept.push_str(line.split("//").next().unwrap_or_default());
        }
        kept.push('\n');
    }
    kept
}

/// The rooms that the code of a module uses.
fn uses(module: &[&str], code: &str) -> Vec<Used> {
    let mut found = Vec::new();
    for root in ["crate::", "super::"] {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
                continue; // a part of another path, or of a macro's
            }
            let mut rest = &code[at..];
            let mut up = 0;
            while let Some(after) = rest.strip_prefix("super::") {
                (rest, up) = (after, up + 1);
            }
            let by_super = up > 0;
            if by_super && up < module.len() {
                continue; // within the room
            }
            let line = code[..at].lines().count().max(1);
            let names = heads(rest.strip_prefix("crate::").unwrap_or(rest));
            found.extend(names.into_iter().map(|name| Used { name, line, by_super }));
        }
    }
    found
}

/// The first names after a path's root: one, or those of a group in braces.
fn heads(rest: &str) -> Vec<String> {
    let Some(group) = rest.strip_prefix('{') else { return head(rest).into_iter().collect() };
    let mut depth = 0;
    let mut heads = Vec::new();
    let mut start = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            '}' | ',' if depth == 0 => {
                heads.extend(head(group[start..at].trim()));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    heads
}

/// The room that a path begins with. `lib.rs` re-exports a type at the root.
fn head(path: &str) -> Option<String> {
    let name: String = path.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let first = name.chars().next()?;
    Some(if first.is_uppercase() { "lib".to_owned() } else { name })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUSE: House = House {
        folder: "crates/a/src/",
        floors: &[&["ground", "cellar"], &["kitchen", "study"], &["roof"], &["lib"], &["garden"]],
        apart: &[("roof", "study", "they quarrel")],
    };

    #[test]
    fn a_room_uses_only_lower_floors() {
        let rows = [
            ("below", "kitchen.rs", "use crate::ground::A;", 0),
            ("two floors below", "roof.rs", "use crate::cellar;", 0),
            ("above", "ground.rs", "use crate::kitchen::A;", 1),
            ("on the same floor", "study/mod.rs", "use crate::kitchen::A;", 1),
            ("itself", "study/desk.rs", "use crate::study::A; use super::B;", 0),
            ("by a path in code", "ground.rs", "fn a(b: &crate::roof::B) {}", 1),
            ("in a group", "kitchen.rs", "use crate::{\n    ground::{A, B},\n    roof::C,\n    study,\n};", 2),
            ("one floor up by super", "ground.rs", "use super::roof;", 1),
            ("out of a folder by super", "study/desk.rs", "use super::super::roof;", 1),
            ("out of a folder's mod.rs", "study/mod.rs", "use super::{ground, roof};", 1),
            ("a door that is closed", "roof.rs", "use crate::study::A;", 1),
            ("what lib.rs hands on", "kitchen.rs", "use crate::Type;", 1),
            ("above lib.rs", "garden.rs", "use crate::{Type, roof};", 0),
            ("in a comment", "ground.rs", "//! See [`crate::roof`]\n// use crate::roof;", 0),
            ("in tests", "ground.rs", "#[cfg(test)]\nmod tests {\n    use crate::roof;\n}", 0),
            ("after an import for tests", "ground.rs", "#[cfg(test)]\nuse crate::roof;\nuse crate::roof;", 1),
            ("a room without a floor", "shed.rs", "", 1),
            ("an unknown room", "roof.rs", "use crate::shed::A;", 1),
            ("a macro's crate", "ground.rs", "$crate::roof::A", 0),
            ("another path's part", "ground.rs", "use other_crate::roof; use a::super::roof;", 0),
        ];
        for (row, file, text, expected) in rows {
            let faults = HOUSE.faults(&format!("crates/a/src/{file}"), text);
            assert_eq!(faults.len(), expected, "{row}: {faults:?}");
        }
        assert_eq!(HOUSE.faults("crates/b/src/ground.rs", "use crate::roof;"), [""; 0]);
    }

    #[test]
    fn no_room_of_a_house_may_use_one_of_its_own_floor_or_above() {
        for house in HOUSES {
            for (floor, rooms) in house.floors.iter().enumerate() {
                for room in *rooms {
                    let file = format!("{}{room}.rs", house.folder);
                    for planted in house.floors[floor..].iter().copied().flatten().filter(|used| *used != room) {
                        let faults = house.faults(&file, &format!("use crate::{planted};"));
                        assert!(!faults.is_empty(), "{file} may use {planted}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_fault_names_its_line() {
        let fault = "crates/a/src/ground.rs:3: `ground` must not use `roof`, which is not below it";
        assert_eq!(HOUSE.faults("crates/a/src/ground.rs", "//! A.\n\nuse crate::roof;\n"), [fault]);
    }

    #[test]
    fn a_room_that_is_gone_leaves_the_table() {
        let rooms = ["ground", "cellar", "kitchen", "study/mod", "roof", "lib"];
        let names: Vec<String> = rooms.iter().map(|room| format!("crates/a/src/{room}.rs")).collect();
        let texts = names.iter().map(|name| (name.as_str(), String::new())).collect();
        assert_eq!(HOUSE.missing(&texts), ["xtask/src/tidy/rooms.rs: crates/a/src/ has no room `garden`"]);
    }
}
