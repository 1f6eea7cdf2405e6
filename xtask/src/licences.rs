//! Licences, bans and sources of all dependencies, as deny.toml demands.
//!
//! If cargo-deny is installed, it judges. Building it takes long, so without it this module reads the same file and
//! checks the parts that protect users on `cargo metadata`: allowed licences (with exceptions), denied crates, wildcard
//! versions, registries and git sources. A key in deny.toml that this reader does not know is an error: no rule in the
//! file may go unenforced. Only cargo-deny checks advisories, with a database from GitHub. If one of the two is not
//! available, the step says that advisories were not checked. If the database is there, its advisories fail the step.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use toml::Table;

use crate::spdx;
use crate::tools;
use crate::workspace::Workspace;

pub(crate) fn main(workspace: &Workspace) -> Result<()> {
    let metadata = workspace.metadata()?;
    if tools::found("cargo-deny") {
        println!("deny.toml is judged by cargo-deny");
        workspace.cargo().args(["deny", "--locked", "check", "licenses", "bans", "sources"]).go()?;
        return advisories(workspace);
    }
    println!("deny.toml is judged by xtask's own reader (cargo-deny is not installed)");
    let text = std::fs::read_to_string(workspace.path("deny.toml")).context("cannot read deny.toml")?;
    let policy = Policy::read(&text)?;
    let packages = metadata["packages"].as_array().context("cargo metadata names no packages")?;
    let mut faults = Vec::new();
    for package in packages {
        faults.extend(policy.faults(package)?);
    }
    ensure!(faults.is_empty(), "{} dependencies break deny.toml:\n  {}", faults.len(), faults.join("\n  "));
    println!("{} packages: licences, bans and sources are as deny.toml says", packages.len());
    println!("NOT CHECKED: advisories. They need cargo-deny: cargo install --locked cargo-deny");
    Ok(())
}

/// Known faults of our dependencies. The database is fetched first, in a step of its own: if that fails, it is neither
/// our fault nor a sign that there are no advisories.
fn advisories(workspace: &Workspace) -> Result<()> {
    if let Err(error) = workspace.cargo().args(["deny", "fetch", "db"]).go() {
        println!("NOT CHECKED: advisories. Their database cannot be fetched ({error:#}); the network may not let us.");
        println!("Run `cargo deny check advisories` where https://github.com/rustsec/advisory-db can be reached.");
        return Ok(());
    }
    workspace.cargo().args(["deny", "--locked", "check", "--disable-fetch", "advisories"]).go()
}

/// The keys of deny.toml that are enforced here; and those that only cargo-deny enforces.
const ENFORCED: [(&str, &[&str]); 3] = [
    ("licenses", &["allow", "exceptions"]),
    ("bans", &["deny", "wildcards"]),
    ("sources", &["unknown-registry", "unknown-git", "allow-registry", "allow-git"]),
];
const LEFT_TO_CARGO_DENY: [(&str, &[&str]); 5] = [
    ("graph", &["all-features"]),
    ("advisories", &["yanked", "unmaintained", "ignore"]),
    ("licenses", &["confidence-threshold", "unused-allowed-license", "private"]),
    ("bans", &["multiple-versions", "allow-wildcard-paths", "highlight"]),
    ("sources", &["required-git-spec"]),
];

struct Policy {
    allow: Vec<String>,
    exceptions: BTreeMap<String, Vec<String>>,
    deny: Vec<String>,
    wildcards_denied: bool,
    sources: Vec<String>,
}

impl Policy {
    fn read(text: &str) -> Result<Self> {
        let file: Table = text.parse().context("deny.toml is not valid TOML")?;
        for (section, value) in &file {
            let keys = value.as_table().with_context(|| format!("deny.toml: `{section}` must be a table"))?;
            for key in keys.keys() {
                let known =
                    |rows: &[(&str, &[&str])]| rows.iter().any(|row| row.0 == section && row.1.contains(&key.as_str()));
                ensure!(
                    known(&ENFORCED) || known(&LEFT_TO_CARGO_DENY),
                    "deny.toml: `{section}.{key}` is not known to xtask: teach it, or take the key out"
                );
            }
        }
        let get = |section: &str, key: &str| file.get(section).and_then(|table| table.get(key));
        let word = |section: &str, key: &str| get(section, key).and_then(toml::Value::as_str);
        let mut exceptions = BTreeMap::new();
        for row in get("licenses", "exceptions").and_then(toml::Value::as_array).into_iter().flatten() {
            let name = row.get("crate").and_then(toml::Value::as_str).context("an exception names no `crate`")?;
            exceptions.insert(name.to_owned(), strings(row.get("allow"))?);
        }
        let mut deny = Vec::new();
        for row in get("bans", "deny").and_then(toml::Value::as_array).into_iter().flatten() {
            deny.push(row.get("crate").and_then(toml::Value::as_str).context("a ban names no `crate`")?.to_owned());
        }
        for key in ["unknown-registry", "unknown-git"] {
            ensure!(word("sources", key) == Some("deny"), "deny.toml: sources.{key} must be \"deny\"");
        }
        let mut sources: Vec<String> =
            strings(get("sources", "allow-registry"))?.iter().map(|url| format!("registry+{url}")).collect();
        sources.extend(strings(get("sources", "allow-git"))?.iter().map(|url| format!("git+{url}")));
        Ok(Self {
            allow: strings(get("licenses", "allow"))?,
            exceptions,
            deny,
            wildcards_denied: word("bans", "wildcards") == Some("deny"),
            sources,
        })
    }

    /// The faults of one package of `cargo metadata`.
    fn faults(&self, package: &Value) -> Result<Vec<String>> {
        let name = package["name"].as_str().context("a package has no name")?;
        let label = format!("{name} {}", package["version"].as_str().unwrap_or("?"));
        let mut faults = Vec::new();

        let mut allowed = self.allow.clone();
        allowed.extend(self.exceptions.get(name).into_iter().flatten().cloned());
        match package["license"].as_str().map(|text| (text, spdx::allows(text, &allowed))) {
            Some((_, Ok(true))) => {}
            Some((text, Ok(false))) => faults.push(format!("{label}: the licence `{text}` is not allowed")),
            Some((text, Err(error))) => faults.push(format!("{label}: the licence `{text}` cannot be read: {error}")),
            None => faults.push(format!("{label}: states no licence")),
        }
        if self.deny.iter().any(|denied| denied == name) {
            faults.push(format!("{label}: is denied by bans.deny"));
        }
        match package["source"].as_str() {
            Some(source) if !self.sources.iter().any(|allowed| comes_from(source, allowed)) => {
                faults.push(format!("{label}: comes from {source}, which is not allowed"));
            }
            Some(_) => {}
            None if self.wildcards_denied => {
                // Our own crates: a published crate must state the versions that it works with.
                for dependency in package["dependencies"].as_array().into_iter().flatten() {
                    if dependency["req"] == "*" && dependency["path"].is_null() {
                        faults.push(format!("{label}: asks for any version of {}", dependency["name"]));
                    }
                }
            }
            None => {}
        }
        Ok(faults)
    }
}

/// A git source has `?rev=…#…` after its address. An address with only a common beginning is another source.
fn comes_from(source: &str, allowed: &str) -> bool {
    source.strip_prefix(allowed).is_some_and(|rest| rest.is_empty() || rest.starts_with(['?', '#']))
}

fn strings(value: Option<&toml::Value>) -> Result<Vec<String>> {
    let Some(value) = value else { return Ok(Vec::new()) };
    let array = value.as_array().context("deny.toml: a list is expected")?;
    array
        .iter()
        .map(|item| item.as_str().map(str::to_owned).context("deny.toml: a list of strings is expected"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const POLICY: &str = r#"
        [licenses]
        allow = ["MIT"]
        exceptions = [{ crate = "odd", allow = ["Zlib"] }]
        [bans]
        wildcards = "deny"
        deny = [{ crate = "bad" }]
        [sources]
        unknown-registry = "deny"
        unknown-git = "deny"
        allow-registry = ["https://example.org/index"]
    "#;
    const INDEX: &str = "registry+https://example.org/index";

    #[test]
    fn each_rule_finds_its_offender() {
        let policy = Policy::read(POLICY).unwrap();
        let package = |name: &str, licence: Value, source: Value| json!({"name": name, "version": "1.0.0", "license": licence, "source": source});
        let rows = [
            ("fine", package("a", json!("MIT"), json!(INDEX)), ""),
            ("ours", package("a", json!("MIT"), json!(null)), ""),
            ("exception", package("odd", json!("Zlib"), json!(INDEX)), ""),
            (
                "exception of another",
                package("a", json!("Zlib"), json!(INDEX)),
                "a 1.0.0: the licence `Zlib` is not allowed",
            ),
            ("no licence", package("a", json!(null), json!(INDEX)), "a 1.0.0: states no licence"),
            (
                "unreadable",
                package("a", json!("MIT OR"), json!(INDEX)),
                "a 1.0.0: the licence `MIT OR` cannot be read: a licence is expected at the end",
            ),
            ("banned", package("bad", json!("MIT"), json!(INDEX)), "bad 1.0.0: is denied by bans.deny"),
            (
                "git",
                package("a", json!("MIT"), json!("git+https://example.org/index?rev=1#2")),
                "a 1.0.0: comes from git+https://example.org/index?rev=1#2, which is not allowed",
            ),
            (
                "look-alike",
                package("a", json!("MIT"), json!("registry+https://example.org/index2")),
                "a 1.0.0: comes from registry+https://example.org/index2, which is not allowed",
            ),
        ];
        for (name, package, expected) in rows {
            assert_eq!(policy.faults(&package).unwrap().join("; "), expected, "{name}");
        }
    }

    #[test]
    fn wildcards_are_denied_to_us_but_for_path_dependencies() {
        let policy = Policy::read(POLICY).unwrap();
        let ours = json!({"name": "a", "version": "1.0.0", "license": "MIT", "source": null, "dependencies": [
            {"name": "x", "req": "*", "path": null}, {"name": "y", "req": "*", "path": "/y"}, {"name": "z", "req": "^1", "path": null}
        ]});
        assert_eq!(policy.faults(&ours).unwrap(), ["a 1.0.0: asks for any version of \"x\""]);
    }

    #[test]
    fn a_key_that_nobody_enforces_is_an_error() {
        let error = Policy::read(&format!("{POLICY}\n[output]\nfeature-depth = 1")).err().map(|e| e.to_string());
        assert_eq!(
            error.as_deref(),
            Some("deny.toml: `output.feature-depth` is not known to xtask: teach it, or take the key out")
        );
    }

    #[test]
    fn our_own_deny_toml_can_be_read() {
        let policy = Policy::read(include_str!("../../deny.toml")).unwrap();
        assert!(policy.allow.iter().any(|licence| licence == "MIT") && policy.wildcards_denied);
    }
}
