//! The arrows point inwards: machines and codecs reach no socket, clock, thread or randomness of their own.
//!
//! Two checks. The dependency graph: no package that does I/O may be reached from them, not even indirectly. The source
//! text: the standard library has clocks and sockets of its own, which no dependency graph shows. Tests may use
//! everything.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

const PACKAGES: [&str; 2] = ["fanfare-hub", "fanfare-wire"];

/// The sources of those packages, and the machine within a package that also has a shell.
const FOLDERS: [&str; 3] = ["crates/hub/src/", "crates/wire/src/", "crates/client/src/core/"];

const PACKAGES_DENIED: [&str; 9] =
    ["tokio", "mio", "async-io", "socket2", "hyper", "rand", "getrandom", "fastrand", "tracing-subscriber"];

const WORDS_DENIED: [&str; 10] = [
    "Instant::now",
    "SystemTime::now",
    "std::net",
    "std::fs",
    "std::thread",
    "std::sync::Mutex",
    "std::env",
    "RandomState",
    "thread_local!",
    "tokio::",
];

/// Forbidden words in a machine or codec, outside of comments and tests. `tests`: see [`test_modules`].
pub(crate) fn source(name: &str, text: &str, tests: &BTreeSet<String>) -> Vec<String> {
    if !name.ends_with(".rs") || !FOLDERS.iter().any(|folder| name.starts_with(folder)) || tests.contains(name) {
        return Vec::new();
    }
    let mut faults = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim() == "#[cfg(test)]" {
            break; // tests come last in a file
        }
        let code = line.split("//").next().unwrap_or_default();
        for word in WORDS_DENIED.iter().filter(|word| code.contains(**word)) {
            faults.push(format!("{name}:{}: `{word}` in a sans-IO crate: pass it in instead", number + 1));
        }
    }
    faults
}

/// The files that `#[cfg(test)] mod name;` brings in: `name.rs` beside a `lib.rs` or `mod.rs`, else in the file's
/// folder, and all below the folder `name`.
pub(crate) fn test_modules(texts: &BTreeMap<&str, String>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (name, text) in texts.iter().filter(|(name, _)| name.ends_with(".rs")) {
        let own_folder = ["/lib.rs", "/main.rs", "/mod.rs"].iter().find_map(|file| name.strip_suffix(file));
        let folder = own_folder.unwrap_or_else(|| name.trim_end_matches(".rs"));
        let mut lines = text.lines().map(str::trim);
        while let Some(line) = lines.next() {
            if line != "#[cfg(test)]" {
                continue;
            }
            let module = lines.next().and_then(|line| line.strip_prefix("mod ")?.strip_suffix(';'));
            let Some(module) = module else { continue };
            let below = format!("{folder}/{module}/");
            found.extend(texts.keys().filter(|name| name.starts_with(&below)).map(|name| (*name).to_owned()));
            found.insert(format!("{folder}/{module}.rs"));
        }
    }
    found
}

/// Packages that a sans-IO crate must not reach over normal dependencies.
pub(crate) fn dependencies(metadata: &Value) -> Vec<String> {
    let mut names = BTreeMap::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        names.insert(package["id"].as_str().unwrap_or_default(), package["name"].as_str().unwrap_or_default());
    }
    let mut edges: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for node in metadata["resolve"]["nodes"].as_array().into_iter().flatten() {
        let normal = node["deps"].as_array().into_iter().flatten().filter(|dep| {
            dep["dep_kinds"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind["kind"].is_null()))
        });
        edges.insert(node["id"].as_str().unwrap_or_default(), normal.filter_map(|dep| dep["pkg"].as_str()).collect());
    }
    let mut faults = Vec::new();
    for ours in PACKAGES {
        let Some(start) = names.iter().find(|(_, name)| **name == ours).map(|(id, _)| *id) else {
            faults.push(format!("{ours}: no such package in the workspace"));
            continue;
        };
        let mut seen = BTreeSet::from([start]);
        let mut queue = vec![start];
        while let Some(id) = queue.pop() {
            for next in edges.get(id).into_iter().flatten() {
                let name = names.get(next).copied().unwrap_or_default();
                if seen.insert(*next) {
                    if PACKAGES_DENIED.contains(&name) {
                        let via = names.get(id).copied().unwrap_or_default();
                        faults.push(format!("{ours} reaches {name} (through {via}): it must stay free of I/O"));
                    }
                    queue.push(*next);
                }
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sources_of_machines_name_no_clock() {
        let rows = [
            ("a clock", "crates/hub/src/a.rs", "fn a() { let t = std::time::Instant::now(); }", 1),
            ("in a comment", "crates/hub/src/a.rs", "// no Instant::now here", 0),
            ("in tests", "crates/wire/src/a.rs", "#[cfg(test)]\nmod tests { use tokio::net; }", 0),
            ("in a test file", "crates/wire/src/websocket/tests.rs", "use tokio::net;", 0),
            ("in the client's machine", "crates/client/src/core/mod.rs", "Instant::now()", 1),
            ("in the client's shell", "crates/client/src/shell/mod.rs", "Instant::now()", 0),
            ("a variable of the thread", "crates/hub/src/a.rs", "thread_local! {", 1),
            ("in the server", "crates/server/src/a.rs", "Instant::now()", 0),
            ("two on a line", "crates/wire/src/a.rs", "use std::net::X; use std::fs;", 2),
        ];
        let tests = BTreeSet::from(["crates/wire/src/websocket/tests.rs".to_owned()]);
        for (row, name, text, expected) in rows {
            assert_eq!(source(name, text, &tests).len(), expected, "{row}");
        }
    }

    #[test]
    fn test_modules_are_found_by_their_declaration() {
        let texts = BTreeMap::from([
            ("crates/wire/src/lib.rs", "mod a;\n#[cfg(test)]\nmod docs;\n".to_owned()),
            ("crates/wire/src/native/mod.rs", "#[cfg(test)]\nmod tests;\n".to_owned()),
            ("crates/wire/src/chat.rs", "#[cfg(test)]\nmod tests;\n".to_owned()),
            ("crates/wire/src/json.rs", "#[cfg(test)]\nmod tests {\n}\n".to_owned()),
            ("crates/wire/src/sse/mod.rs", "#[cfg(test)]\nmod tests;\n".to_owned()),
            ("crates/wire/src/sse/tests/mod.rs", "mod long;\n".to_owned()),
            ("crates/wire/src/sse/tests/long.rs", String::new()),
            ("README.md", "#[cfg(test)]\nmod x;\n".to_owned()),
        ]);
        let found: Vec<String> = test_modules(&texts).into_iter().collect();
        let files =
            ["chat/tests.rs", "docs.rs", "native/tests.rs", "sse/tests.rs", "sse/tests/long.rs", "sse/tests/mod.rs"];
        assert_eq!(found, files.map(|file| format!("crates/wire/src/{file}")));
    }

    #[test]
    fn an_indirect_runtime_is_found_and_one_for_tests_is_not() {
        let dep = |name: &str, kind: Value| json!({"pkg": name, "dep_kinds": [{"kind": kind}]});
        let packages = ["fanfare-hub", "fanfare-wire", "middle", "tokio"].map(|name| json!({"id": name, "name": name}));
        let metadata = json!({
            "packages": packages,
            "resolve": {"nodes": [
                {"id": "fanfare-hub", "deps": [dep("tokio", json!("dev"))]},
                {"id": "fanfare-wire", "deps": [dep("fanfare-hub", json!(null)), dep("middle", json!(null))]},
                {"id": "middle", "deps": [dep("tokio", json!(null))]},
            ]},
        });
        assert_eq!(dependencies(&metadata), ["fanfare-wire reaches tokio (through middle): it must stay free of I/O"]);
    }
}
