//! `fanfare-sim`: the hub, its stores, a network and clients in one thread and virtual time, each run from one seed.
//!
//! Faults first, then everything heals, then the promises of ARCHITECTURE.md must hold. A failure prints its seed,
//! the commit and the last 50 events, and the same seed shows it again. To see that the judge is awake, `cargo
//! xtask sim --planted` builds this program with slips and hunts for a seed that fails. How to read the output:
//! docs/simulation.md.

mod app;
mod application;
mod chances;
mod chat;
mod checker;
mod client;
mod core_client;
mod core_requests;
mod counts;
mod desk;
mod engine;
mod forwards;
mod holes;
mod kept;
mod keys;
mod ledger;
mod lives;
mod model;
mod pipe;
mod plan;
mod polling;
mod quotas;
mod rates;
mod readers;
mod run;
mod sends;
mod shrink;
mod store;
mod strict;
mod trace;
mod watch;
mod watchdog;
mod wire;
mod world;

use clap::Parser;
use run::{Batch, Failure};
use shrink::{Shrunk, Smaller};
use std::process::ExitCode;

/// From this many seeds on every count must be above zero.
const LARGE_BATCH: u64 = 50;
/// Some 8 of the first occur in 4,000 seeds. The second occurs 3 times in 500 seeds on average, and in some not once.
const RARE: [&str; 3] = ["moved_signals", "readers_cut_within", "quotas_refused_users"];
/// A batch in which each of those does.
const LARGE_BATCH_OF_RARE: u64 = 10_000;

/// Runs the simulation.
#[derive(Debug, Parser)]
struct Options {
    /// How many seeds to run.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// Run this seed only; with --seeds the first of them.
    #[arg(long)]
    seed: Option<u64>,
    /// Demand that a seed fails, and stop at the first: --seed, then those from 1 to --seeds.
    #[arg(long)]
    hunt: bool,
    /// How many of the last events a failure shows.
    #[arg(long, default_value_t = 50)]
    events: usize,
    /// Take this away from the worlds: what a failure was shrunk to. It is not shrunk again.
    #[arg(long)]
    smaller: Option<shrink::Smaller>,
    /// Run so many seeds at a time; one for each core if not given.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Print a digest of what happened in each seed instead of a report: two builds that behave alike have the same.
    #[arg(long)]
    digest: bool,
}

fn main() -> ExitCode {
    let given_seeds = std::env::args().any(|arg| arg == "--seeds" || arg.starts_with("--seeds="));
    let options = Options::parse();
    run::quiet_panics();
    watchdog::start(options.hunt);
    let jobs = options.jobs.map_or_else(run::jobs, usize::from);
    if options.hunt {
        return hunt(options.seed, options.seeds, jobs);
    }
    let first = options.seed.unwrap_or(1);
    let seeds = if options.seed.is_some() && !given_seeds { 1 } else { options.seeds };
    let events = options.events.max(1);
    let smaller = options.smaller.clone().unwrap_or_default();
    if options.digest {
        for (seed, digest) in run::digests(first, seeds, jobs, &smaller) {
            println!("{seed} {digest:016x}");
        }
        return ExitCode::SUCCESS;
    }
    let batch = run::batch(first, seeds, jobs, events, &smaller);
    let mut failed = batch.failures.len() as u64;
    report(&batch, events, options.smaller.as_ref());
    if seeds >= LARGE_BATCH {
        let is_due = |name: &str| !RARE.contains(&name) || seeds >= LARGE_BATCH_OF_RARE;
        let none = |(name, _, count): &&(&str, &str, u64)| *count == 0 && is_due(name);
        for (name, meaning, _) in batch.counts.rows().iter().filter(none) {
            println!("nothing to judge: {name} ({meaning}) is zero over {seeds} seeds");
            failed += 1;
        }
    }
    finish((batch.passed, failed))
}

/// Looks for a seed that fails; `first` is tried first.
fn hunt(first: Option<u64>, seeds: u64, jobs: usize) -> ExitCode {
    let tried = first.and_then(|seed| run::one(seed, 1, &Smaller::default()).err());
    match tried.or_else(|| run::hunt(seeds, jobs)) {
        Some(Failure { seed, what, .. }) => {
            println!("found by seed {seed}: {}", what.lines().next().unwrap_or_default());
            ExitCode::SUCCESS
        }
        None => {
            println!("no seed up to {seeds} fails");
            ExitCode::from(1)
        }
    }
}

/// `smaller` is taken away from the worlds from the beginning.
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

/// The commit of the tree in which the program runs, if git knows it.
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
