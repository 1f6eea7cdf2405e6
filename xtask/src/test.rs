//! `cargo xtask test`: every check of a commit, in one command.
//!
//! In: a machine with Rust, Node and git. Out: each step's own output under a banner, a summary with one line for each
//! step, and an error if one failed. The step that fails fastest comes first. A step whose folder is missing fails: no
//! step is skipped silently. [`STEPS`] is the whole list, in order.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::run::Run;
use crate::sim;
use crate::workspace::Workspace;
use crate::{api, licences, planted, tidy, tools, within};

pub(crate) struct Step {
    pub(crate) name: &'static str,
    about: &'static str,
    /// Commands that must be installed first: rows of the table in `tools.rs`.
    pub(crate) needs: &'static [&'static str],
    /// The folders that this step is about.
    folders: &'static [&'static str],
    run: fn(&Workspace) -> Result<()>,
}

const CLIENTS: &str = "tests/clients";
const CLIENTS_NEED: &[&str] = &["git", "node", "npm", "chromium", "nginx", "curl", "httpx", "python3", "go"];

const SDK: &str = "sdk/js";
const SDK_NEEDS: &[&str] = &["node", "npm"];

/// A few hundred seeds take seconds; start longer runs by hand (`cargo xtask sim`).
const SIM_SEEDS: &str = "200";

const CRATES: &[&str] =
    &["crates/hub", "crates/wire", "crates/server", "crates/cli", "crates/client", "crates/bench", "sim", "xtask"];

pub(crate) const STEPS: &[Step] = &[
    Step {
        name: "tidy",
        about: "links in *.md, file headers, sans-IO sources, package locks, no large binaries, slips apply",
        needs: &["git"],
        folders: &[],
        run: tidy::main,
    },
    Step {
        name: "licences",
        about: "deny.toml: licences, bans, sources, advisories (with cargo-deny); Cargo.lock fits",
        needs: &[],
        folders: &[],
        run: licences::main,
    },
    Step { name: "fmt", about: "cargo fmt, also in fuzz/", needs: &[], folders: &["fuzz"], run: fmt },
    Step {
        name: "clippy",
        about: "cargo clippy: all targets, no warning",
        needs: &[],
        folders: CRATES,
        run: |workspace| {
            workspace.cargo().args(["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"]).go()
        },
    },
    Step {
        name: "build",
        about: "debug programs and tests, all crates in one go",
        needs: &[],
        folders: CRATES,
        run: build,
    },
    Step {
        name: "test",
        about: "cargo test: unit, integration and doc tests, servers with one shard",
        needs: &["curl", "pebble"],
        folders: CRATES,
        run: |workspace| within::cargo_test(workspace)?.env("FANFARE_SHARDS", "1").args(["--workspace"]).go(),
    },
    Step {
        name: "test-shards",
        about: "the integration tests again, servers with three shards",
        needs: &["curl", "pebble"],
        folders: CRATES,
        // `--workspace` although only few crates have any: `--package` would resolve other features and build all
        // again.
        run: |workspace| {
            within::cargo_test(workspace)?.env("FANFARE_SHARDS", "3").args(["--workspace", "--test", "*"]).go()
        },
    },
    Step { name: "doc", about: "cargo doc: no warning", needs: &[], folders: CRATES, run: doc },
    Step {
        name: "sim",
        about: "the simulation, a few hundred seeds",
        needs: &[],
        folders: &["sim"],
        run: |workspace| {
            build(workspace)?;
            sim::run(workspace, sim::Build::Debug, &["--seeds".to_owned(), SIM_SEEDS.to_owned()])
        },
    },
    Step {
        name: "planted",
        about: "five slips of sim/planted/, chosen by the commit, and each is found",
        needs: &["git"],
        folders: &["sim"],
        run: |workspace| planted::main(workspace, planted::OF_A_COMMIT),
    },
    Step {
        name: "api",
        about: "schemathesis against the HTTP API, about a minute",
        needs: &["python3"],
        folders: &[api::FOLDER],
        run: |workspace| {
            build(workspace)?;
            api::run(workspace)
        },
    },
    Step {
        name: "proxies",
        about: "docs/proxies.md and `fanfare doctor` with the real nginx, Caddy and HAProxy",
        needs: &["nginx", "caddy", "haproxy", "curl"],
        folders: &["crates/server"],
        run: |workspace| {
            for (package, test) in [("fanfare", "behind_proxies"), ("fanfare-cli", "doctor_behind_proxies")] {
                let cargo = within::cargo_test(workspace)?.args(["--package", package, "--test", test, "--"]);
                cargo.args(["--ignored", "--test-threads=1"]).go()?;
            }
            Ok(())
        },
    },
    Step {
        name: "sdk",
        about: "the TypeScript SDK: types, build, size, publint, are-the-types-wrong, Vitest",
        needs: SDK_NEEDS,
        folders: &[SDK],
        run: sdk,
    },
    Step {
        name: "clients",
        about: "real clients: npm packages, Chromium, Python, Go; server with one shard",
        needs: CLIENTS_NEED,
        folders: &[CLIENTS, SDK],
        run: |workspace| clients(workspace, "1"),
    },
    Step {
        name: "clients-shards",
        about: "the same with three shards",
        needs: CLIENTS_NEED,
        folders: &[CLIENTS, SDK],
        run: |workspace| clients(workspace, "3"),
    },
];

pub(crate) fn main(workspace: &Workspace, args: &[String]) -> Result<()> {
    let options = Options::parse(args)?;
    if options.list {
        for step in STEPS {
            println!("{:<15} {}", step.name, step.about);
        }
        return Ok(());
    }
    let mut needs: Vec<&str> = options.steps.iter().flat_map(|step| step.needs).copied().collect();
    needs.sort_unstable();
    needs.dedup();

    let mut report = Report::default();
    report.step("setup", || tools::require(workspace, &needs));
    for step in options.steps {
        if report.failed() && (!options.keep_going || report.setup_failed()) {
            break;
        }
        report.step(step.name, || {
            check_folders(workspace, step.folders)?;
            (step.run)(workspace)
        });
    }
    report.close()
}

struct Options {
    steps: Vec<&'static Step>,
    keep_going: bool,
    list: bool,
}

impl Options {
    fn parse(args: &[String]) -> Result<Self> {
        let mut options = Self { steps: STEPS.iter().collect(), keep_going: false, list: false };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--keep-going" => options.keep_going = true,
                "--list" => options.list = true,
                "--only" => {
                    let names = args.next().context("--only needs a NAME[,NAME]; `--list` shows the names")?;
                    options.steps = Self::only(names)?;
                }
                other => bail!("unknown option `{other}`: there are --only NAME[,NAME], --keep-going and --list"),
            }
        }
        Ok(options)
    }

    /// In the order of the list, whatever the order of the names.
    fn only(names: &str) -> Result<Vec<&'static Step>> {
        let names: Vec<&str> = names.split(',').collect();
        for name in &names {
            ensure!(
                STEPS.iter().any(|step| step.name == *name),
                "there is no step `{name}`; there are: {}",
                STEPS.iter().map(|step| step.name).collect::<Vec<_>>().join(", ")
            );
        }
        Ok(STEPS.iter().filter(|step| names.contains(&step.name)).collect())
    }
}

/// Runs steps under banners and remembers their results.
#[derive(Default)]
struct Report {
    rows: Vec<(&'static str, Result<()>, Duration)>,
}

impl Report {
    fn step(&mut self, name: &'static str, run: impl FnOnce() -> Result<()>) {
        println!("\n== {name} {}", "=".repeat(74_usize.saturating_sub(name.len())));
        let started = Instant::now();
        let result = run();
        if let Err(error) = &result {
            println!("\nFAILED: {name}: {error:#}");
        }
        self.rows.push((name, result, started.elapsed()));
    }

    fn failed(&self) -> bool {
        self.rows.iter().any(|(_, result, _)| result.is_err())
    }

    /// Without the tools the other steps would only fail in a more confusing way.
    fn setup_failed(&self) -> bool {
        self.rows.first().is_some_and(|(_, result, _)| result.is_err())
    }

    fn close(&self) -> Result<()> {
        println!("\n== summary {}", "=".repeat(67));
        for (name, result, took) in &self.rows {
            println!("{:<15} {:<6} {:>7.1} s", name, if result.is_ok() { "ok" } else { "FAILED" }, took.as_secs_f64());
        }
        let all: f64 = self.rows.iter().map(|(.., took)| took.as_secs_f64()).sum();
        println!("{:<15} {:<6} {all:>7.1} s\n", "all", if self.failed() { "FAILED" } else { "ok" });
        let failed: Vec<&str> = self.rows.iter().filter(|row| row.1.is_err()).map(|row| row.0).collect();
        ensure!(failed.is_empty(), "failed: {}\n\nhint: cargo xtask test --only {}", failed.join(", "), again(&failed));
        Ok(())
    }
}

/// `setup` is a part of every run, so its failure is not repeated by its name.
fn again(failed: &[&str]) -> String {
    if failed.contains(&"setup") { "NAME".to_owned() } else { failed.join(",") }
}

fn check_folders(workspace: &Workspace, folders: &[&str]) -> Result<()> {
    for folder in folders {
        ensure!(workspace.path(folder).is_dir(), "the folder {folder}/ is missing");
    }
    Ok(())
}

/// `fuzz/` is a workspace of its own (it needs a fuzzer's runtime to link), so `--all` does not reach it.
fn fmt(workspace: &Workspace) -> Result<()> {
    workspace.cargo().args(["fmt", "--all", "--check"]).go()?;
    workspace.cargo().args(["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"]).go()
}

/// Everything that later steps run, built once: `cargo test` with the same selection of targets then builds nothing,
/// and the programs `fanfare` and `fanfare-sim` are there for the simulation and the clients.
fn build(workspace: &Workspace) -> Result<()> {
    workspace.cargo().args(["build", "--workspace", "--lib", "--bins", "--tests", "--examples"]).go()
}

/// In two runs: the program and the library are both called `fanfare`, and in one run their pages would overwrite each
/// other, with a warning. The library comes last, so its pages stay.
fn doc(workspace: &Workspace) -> Result<()> {
    let doc = || workspace.cargo().env("RUSTDOCFLAGS", "--deny warnings").args(["doc", "--no-deps", "--workspace"]);
    // The bench's program has the name of its own library, whose page has more content.
    doc().args(["--exclude", "fanfare-bench", "--bins"]).go()?;
    doc().args(["--lib"]).go()
}

/// The build comes first: the packages see each other, and publint sees them, as they are shipped.
fn sdk(workspace: &Workspace) -> Result<()> {
    build(workspace)?;
    tools::npm_ci(workspace, SDK)?;
    for script in ["build", "check", "test"] {
        Run::new("npm")
            .within(&workspace.root, SDK)
            .env("FANFARE_BIN", workspace.built("debug", "fanfare")?)
            .args(["run", script])
            .go()?;
    }
    Ok(())
}

fn clients(workspace: &Workspace, shards: &str) -> Result<()> {
    // Node finds the tests by itself, and succeeds if there are none.
    let is_test = |name: &String| name.starts_with(CLIENTS) && name.contains(".test.");
    ensure!(workspace.files()?.iter().any(is_test), "{CLIENTS}/ holds no *.test.* file");
    build(workspace)?;
    tools::npm_ci(workspace, CLIENTS)?;
    let python = tools::python_packages(workspace, CLIENTS)?;
    Run::new("node")
        .within(&workspace.root, CLIENTS)
        .env("FANFARE_SHARDS", shards)
        .env("FANFARE_BIN", workspace.built("debug", "fanfare")?)
        .env("PYTHON_SOCKETIO", python.join("bin/python"))
        // One file at a time: they share two cores with the servers and browsers that they start.
        .args(["--test", "--test-concurrency=1", "--test-reporter=spec"])
        .go()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options> {
        Options::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn all_steps_run_unless_some_are_named() {
        assert_eq!(parse("").unwrap().steps.len(), STEPS.len());
        let options = parse("--keep-going --only sim,tidy").unwrap();
        assert_eq!(options.steps.iter().map(|step| step.name).collect::<Vec<_>>(), ["tidy", "sim"]);
        assert!(options.keep_going && !options.list);
    }

    #[test]
    fn a_wrong_name_or_option_says_what_there_is() {
        for line in ["--only nonsense", "--only", "--fast", "--only tidy,"] {
            assert!(parse(line).is_err(), "{line}");
        }
        let error = parse("--only nonsense").err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("`nonsense`") && error.contains("tidy, licences"), "{error}");
    }

    #[test]
    fn one_failure_fails_the_whole() {
        let mut report = Report::default();
        report.step("setup", || Ok(()));
        report.step("a", || bail!("broken"));
        report.step("b", || Ok(()));
        assert!(report.failed() && !report.setup_failed());
        let error = report.close().unwrap_err().to_string();
        assert_eq!(error, "failed: a\n\nhint: cargo xtask test --only a");
    }
}
