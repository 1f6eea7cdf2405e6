//! `fanfare-sim`: the hub, its stores, a network and clients in one thread and virtual time, each run from one seed.
//!
//! Faults first, then everything heals, then the promises of ARCHITECTURE.md must hold. A failure prints its seed,
//! the commit and the last 50 events, and the same seed shows it again. To see that the judge is awake, bugs are
//! planted in the hub by name and must be found. How to read the output: docs/simulation.md.

mod app;
mod application;
mod chances;
mod checker;
mod client;
mod core_client;
mod counts;
mod forwards;
mod ledger;
mod pipe;
mod plan;
mod run;
mod shrink;
mod store;
mod trace;
mod watch;
mod watchdog;
mod wire;
mod world;

use clap::Parser;
use run::{Batch, Failure};
use shrink::{Shrunk, Smaller};
use std::process::ExitCode;

/// Seeds within which a planted bug must be found.
const PLANTED_SEEDS: u64 = 4_000;
/// From this many seeds on every count must be above zero, and planted bugs are looked for too.
const LARGE_BATCH: u64 = 50;

/// Runs the simulation.
#[derive(Debug, Parser)]
struct Options {
    /// How many seeds to run.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// Run this seed only; with --seeds the first of them.
    #[arg(long)]
    seed: Option<u64>,
    /// Run with this planted bug, or with each of `all`, and demand that it is found.
    #[arg(long)]
    planted: Option<String>,
    /// How many of the last events a failure shows.
    #[arg(long, default_value_t = 50)]
    events: usize,
    /// Take this away from the worlds: what a failure was shrunk to. It is not shrunk again.
    #[arg(long)]
    smaller: Option<shrink::Smaller>,
    /// List the planted bugs and what they break.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let given_seeds = std::env::args().any(|arg| arg == "--seeds" || arg.starts_with("--seeds="));
    let options = Options::parse();
    run::quiet_panics();
    watchdog::start();
    if options.list {
        for (_, name, breaks) in run::planted("all") {
            println!("{name}: {breaks}");
        }
        return ExitCode::SUCCESS;
    }
    let first = options.seed.unwrap_or(1);
    if let Some(name) = &options.planted {
        let seeds = if given_seeds { options.seeds } else { PLANTED_SEEDS };
        return finish(hunt(name, first, seeds));
    }
    let seeds = if options.seed.is_some() && !given_seeds { 1 } else { options.seeds };
    let events = options.events.max(1);
    let batch = run::batch(first, seeds, events, &options.smaller.clone().unwrap_or_default());
    let mut failed = batch.failures.len() as u64;
    report(&batch, events, options.smaller.as_ref());
    if seeds >= LARGE_BATCH {
        for (name, meaning, _) in batch.counts.rows().iter().filter(|(.., count)| *count == 0) {
            println!("nothing to judge: {name} ({meaning}) is zero over {seeds} seeds");
            failed += 1;
        }
        if batch.failures.is_empty() {
            failed += hunt("all", first, PLANTED_SEEDS).1;
        }
    }
    finish((batch.passed, failed))
}

/// Looks for planted bugs: how many were found, how many were not.
fn hunt(name: &str, first: u64, seeds: u64) -> (u64, u64) {
    let bugs = run::planted(name);
    if bugs.is_empty() {
        println!("no planted bug is called {name:?}; --list shows them");
        return (0, 1);
    }
    let (mut found, mut missed) = (0, 0);
    for (bug, name, breaks) in bugs {
        let hinted = run::hint(name).and_then(|seed| run::hunt(bug, seed, 1));
        match hinted.or_else(|| run::hunt(bug, first, seeds)) {
            Some(Failure { seed, what, .. }) => {
                found += 1;
                let line = what.lines().next().unwrap_or_default();
                println!("planted {name}: found by seed {seed}: {line}");
            }
            None => {
                missed += 1;
                println!("planted {name}: NOT found within {seeds} seeds from {first} on ({breaks})");
            }
        }
    }
    (found, missed)
}

/// `smaller` is what has been taken away from the worlds already.
fn report(batch: &Batch, events: usize, smaller: Option<&Smaller>) {
    for failure in batch.failures.iter().take(3) {
        println!("seed {} at commit {}: {}", failure.seed, commit(), failure.what);
        let shrunk = match smaller {
            None => shrink::shrink(failure.seed, &failure.what, shrink::RUNS_MAX, events),
            Some(_) => None,
        };
        if let Some(Shrunk { smaller, what, .. }) = &shrunk {
            println!("the same in a smaller world: --smaller {smaller}");
            println!("where it says: {what}");
        }
        let shown = shrunk.as_ref().map_or(&failure.events, |shrunk| &shrunk.events);
        println!("the last {} events:", shown.len());
        for event in shown {
            println!("  {event}");
        }
        let again = shrunk.as_ref().map(|shrunk| &shrunk.smaller).or(smaller);
        let again = again.map(|smaller| format!(" --smaller {smaller}")).unwrap_or_default();
        println!("again: cargo xtask sim --seed {}{again}", failure.seed);
    }
    if batch.failures.len() > 3 {
        let seeds: Vec<String> = batch.failures.iter().skip(3).take(40).map(|f| f.seed.to_string()).collect();
        println!("failed as well: {}", seeds.join(" "));
    }
    let counts: Vec<String> = batch.counts.rows().iter().map(|(name, _, count)| format!("{name} {count}")).collect();
    println!("seen: {}", counts.join(", "));
}

/// The commit of the tree that the program runs in, as far as git knows.
fn commit() -> String {
    let output = std::process::Command::new("git").args(["describe", "--always", "--dirty"]).output();
    match output {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        _ => "unknown".to_owned(),
    }
}

fn finish((passed, failed): (u64, u64)) -> ExitCode {
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) }
}
