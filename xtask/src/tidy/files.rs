//! Checks of one file at a time: its header, its size, addresses in package locks.

use serde_json::Value;

/// Larger ones belong to the build or to a release, not into every clone.
const BINARY_BYTES_MAX: usize = 100_000;

/// Above this, ask whether the file's header needs "and" (perhaps it does not).
const LINES_MAX: usize = 800;

pub(crate) fn binary(name: &str, bytes: &[u8]) -> Option<String> {
    // git's rule: a NUL among the first bytes.
    let is_binary = bytes.iter().take(8000).any(|byte| *byte == 0);
    (is_binary && bytes.len() > BINARY_BYTES_MAX)
        .then(|| format!("{name}: a binary of {} bytes, at most {BINARY_BYTES_MAX} are allowed", bytes.len()))
}

/// A file opens by saying what it promises: `//!` in Rust, a comment in JavaScript, TypeScript and CSS.
pub(crate) fn header(name: &str, text: &str) -> Option<String> {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension)?;
    let openings: &[&str] = match extension {
        "rs" => &["//!"],
        "js" | "mjs" | "cjs" | "ts" | "tsx" => &["//", "/*"],
        "css" => &["/*"],
        _ => return None,
    };
    let first = text.lines().find(|line| !line.trim().is_empty() && !line.starts_with("#!")).unwrap_or_default();
    (!openings.iter().any(|opening| first.starts_with(opening)))
        .then(|| format!("{name}: does not open with a header ({}) that says what it promises", openings.join(" or ")))
}

pub(crate) fn length(name: &str, text: &str) -> Option<String> {
    let lines = text.lines().count();
    let is_code = [".rs", ".ts", ".tsx"].iter().any(|extension| name.ends_with(extension));
    (is_code && lines > LINES_MAX).then(|| format!("{name} has {lines} lines: is it one thing?"))
}

/// Addresses in a lock would tie every build to the registry of the lock's last author.
pub(crate) fn package_lock(name: &str, text: &str) -> Vec<String> {
    if name.rsplit('/').next() != Some("package-lock.json") {
        return Vec::new();
    }
    let lock: Value = match serde_json::from_str(text) {
        Ok(lock) => lock,
        Err(error) => return vec![format!("{name}: not JSON: {error}")],
    };
    let mut faults = Vec::new();
    for (package, entry) in lock["packages"].as_object().into_iter().flatten() {
        if entry["resolved"].as_str().is_some_and(|address| address.contains("://")) {
            faults.push(format!(
                "{name}: `{package}` holds a registry address; write the lock with `npm install --package-lock-only --omit-lockfile-registry-resolved`"
            ));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_binaries_are_found_and_large_texts_are_not() {
        let mut bytes = vec![b'a'; BINARY_BYTES_MAX + 1];
        assert_eq!(binary("a.txt", &bytes), None);
        bytes[10] = 0;
        assert!(binary("a.bin", &bytes).unwrap().contains("100001 bytes"));
        bytes.pop();
        assert_eq!(binary("a.bin", &bytes), None);
    }

    #[test]
    fn headers() {
        let rows = [
            ("rust", "a.rs", "//! Says what.\n", true),
            ("rust, doc comment of an item", "a.rs", "/// Says what.\nfn a() {}", false),
            ("rust, attribute first", "a.rs", "#![no_main]\n//! Says what.\n", true),
            ("rust, empty", "a.rs", "", false),
            ("script", "a.mjs", "#!/usr/bin/env node\n\n// Says what.\n", true),
            ("script without", "a.js", "import x from 'x'\n", false),
            ("style", "a.css", "/* Says what. */", true),
            ("style without", "a.css", "body {}", false),
            ("another kind", "a.html", "<!doctype html>", true),
            ("no extension", "LICENSE", "MIT", true),
        ];
        for (row, name, text, fine) in rows {
            assert_eq!(header(name, text).is_none(), fine, "{row}");
        }
    }

    #[test]
    fn addresses_in_locks_are_found() {
        let clean =
            r#"{"packages": {"": {}, "node_modules/a": {"version": "1.0.0", "resolved": "../a", "link": true}}}"#;
        let telling = r#"{"packages": {"node_modules/a": {"resolved": "https://example.org/a.tgz"}}}"#;
        assert_eq!(package_lock("x/package-lock.json", clean), Vec::<String>::new());
        assert_eq!(package_lock("x/package-lock.json", telling).len(), 1);
        assert_eq!(package_lock("x/package.json", telling), Vec::<String>::new());
        assert_eq!(package_lock("package-lock.json", "{").len(), 1);
    }
}
