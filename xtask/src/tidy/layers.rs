//! The arrows point inwards: the sans-IO crates reach no socket, clock, thread or randomness of their own.
//!
//! Two nets. The dependency graph: nothing that does I/O may be reached from them, however indirectly. The source text:
//! the standard library has clocks and sockets of its own, which no dependency graph shows. Tests may use anything.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// (package, its sources)
const SANS_IO: [(&str, &str); 2] = [("fanfare-hub", "crates/hub/src/"), ("fanfare-wire", "crates/wire/src/")];

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

/// Words that a sans-IO crate must not say, comments and tests apart.
pub(crate) fn source(name: &str, text: &str) -> Vec<String> {
    if !name.ends_with(".rs") || !SANS_IO.iter().any(|(_, folder)| name.starts_with(folder)) || is_test(name) {
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

/// A test module in a file of its own, as `#[cfg(test)] mod tests;` brings it in.
fn is_test(name: &str) -> bool {
    name.ends_with("/tests.rs") || name.ends_with("_tests.rs") || name.contains("/tests/")
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
    for (ours, _) in SANS_IO {
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
            ("in the server", "crates/server/src/a.rs", "Instant::now()", 0),
            ("two on a line", "crates/wire/src/a.rs", "use std::net::X; use std::fs;", 2),
        ];
        for (row, name, text, expected) in rows {
            assert_eq!(source(name, text).len(), expected, "{row}");
        }
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
