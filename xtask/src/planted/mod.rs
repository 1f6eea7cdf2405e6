//! `cargo xtask sim --planted …`: slips that a reviewer could miss are put into a copy of the tree, one at a time, and
//! each must be found.
//!
//! In: the patches of `sim/planted/` and which of them to take. Out: a line for each with what found it, and an error
//! that names those that nothing found. A seed counts only if it passes without the slip. A patch that does not apply
//! ends the run before anything is built. Nothing runs without a deadline: a slip that spins is found by that.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::run::Ended;
use crate::workspace::Workspace;
use slip::{Finder, Slip};
use tree::Tree;

mod diff;
mod renew;
pub(crate) mod slip;
mod tree;

pub(crate) use renew::main as renew;

/// How many `cargo xtask test` takes.
pub(crate) const OF_A_COMMIT: &str = "5";

/// The simulation ends a seed that spins; this is for a program that does not even do that.
const HUNT_DEADLINE: Duration = Duration::from_secs(1_800);
/// Tests of one crate take seconds.
const TEST_DEADLINE: Duration = Duration::from_secs(120);

/// Letters of a broken promise that a line shows; it often ends with a whole message.
const WHAT_MAX: usize = 120;

pub(crate) fn list(workspace: &Workspace) -> Result<()> {
    for slip in slip::all(workspace)? {
        println!("{}: {}", slip.name, slip.breaks);
    }
    Ok(())
}

/// `which` is `all`, a number (so many that seeds find, chosen by the commit), or names with commas between them.
pub(crate) fn main(workspace: &Workspace, which: &str) -> Result<()> {
    let slips = choose(slip::all(workspace)?, which, &commit(workspace))?;
    let names: Vec<&str> = slips.iter().map(|slip| slip.name.as_str()).collect();
    println!("{} planted: {}", names.len(), names.join(", "));
    let tree = Tree::sync(workspace)?;
    for slip in &slips {
        slip.apply(|path| tree.read(path)).with_context(|| format!("{}\n\nhint: {}", slip.file(), renew::HINT))?;
    }
    let sound = build_sound(&tree, &slips)?;
    let mut missed = Vec::new();
    for (number, slip) in slips.iter().enumerate() {
        let started = Instant::now();
        let found = hunt(&tree, &sound, slip);
        let took = started.elapsed().as_secs_f64();
        let said = match &found {
            Ok(how) => how.clone(),
            Err(error) => format!("NOT found: {error:#}"),
        };
        println!("{}/{} {}: {said} ({took:.1} s)", number + 1, slips.len(), slip.name);
        if found.is_err() {
            missed.push(slip.name.as_str());
        }
    }
    ensure!(missed.is_empty(), "{} of {} slips were not found: {}", missed.len(), slips.len(), missed.join(", "));
    println!("all {} were found", slips.len());
    Ok(())
}

fn choose(slips: Vec<Slip>, which: &str, commit: &str) -> Result<Vec<Slip>> {
    if which == "all" {
        return Ok(slips);
    }
    if let Ok(count) = which.parse::<usize>() {
        // Tests run in `cargo xtask test` anyway, and building them once more would take minutes.
        let by_seeds = |slip: &Slip| matches!(slip.finder, Finder::Seeds { .. });
        let mut ranked: Vec<Slip> = slips.into_iter().filter(by_seeds).collect();
        ranked.sort_by_cached_key(|slip| hash(&format!("{commit} {}", slip.name)));
        ranked.truncate(count);
        ranked.sort_by(|a, b| a.name.cmp(&b.name));
        return Ok(ranked);
    }
    let named = |name: &str| {
        let slip = slips.iter().find(|slip| slip.name == name);
        slip.cloned().with_context(|| format!("there is no slip `{name}`\n\nhint: cargo xtask sim --list"))
    };
    which.split(',').map(named).collect()
}

/// The commit of the checkout; without git always the same slips are chosen.
fn commit(workspace: &Workspace) -> String {
    workspace.run("git").args(["rev-parse", "HEAD"]).output().unwrap_or_default().trim().to_owned()
}

/// FNV-1a, and then mixed: the last letters of a text must change its highest bits too.
fn hash(text: &str) -> u64 {
    let fnv =
        text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    let mixed = (fnv ^ (fnv >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}

/// The simulation without any slip, beside the tree's own: a seed that fails there too has found nothing.
fn build_sound(tree: &Tree, slips: &[Slip]) -> Result<PathBuf> {
    let path = tree.built("sound-sim");
    if slips.iter().any(|slip| matches!(slip.finder, Finder::Seeds { .. })) {
        build_sim(tree)?;
        std::fs::copy(tree.built("fanfare-sim"), &path).context("cannot copy the simulation")?;
    }
    Ok(path)
}

fn build_sim(tree: &Tree) -> Result<()> {
    tree.cargo("build").args(["--package", "fanfare-sim"]).output().map(drop)
}

/// Searches for a slip. Returns the seed or test that found it; it is an error if none did.
fn hunt(tree: &Tree, sound: &Path, slip: &Slip) -> Result<String> {
    let _planted = tree.plant(slip)?;
    match &slip.finder {
        Finder::Seeds { first, count } => by_seeds(tree, sound, *first, *count),
        Finder::Test { cargo, names } => by_tests(tree, cargo, names),
    }
}

fn by_seeds(tree: &Tree, sound: &Path, first: Option<u64>, count: u64) -> Result<String> {
    build_sim(tree).context("it does not build")?;
    let mut run = tree.run(&tree.built("fanfare-sim")).args(["--hunt", "--seeds", &count.to_string()]);
    if let Some(seed) = first {
        run = run.args(["--seed", &seed.to_string()]);
    }
    let Ended { status, said } = run.until(HUNT_DEADLINE)?;
    let found = said.lines().find_map(|line| line.strip_prefix("found by seed "));
    let Some((seed, what)) = found.and_then(|line| line.split_once(": ")) else {
        return match status {
            Some(status) if has_crashed(status) => Ok(format!("the program crashed ({status})")),
            None => Ok(format!("the program had not ended after {} s", HUNT_DEADLINE.as_secs())),
            Some(_) => Err(anyhow::anyhow!("{}", said.lines().last().unwrap_or("the simulation said nothing"))),
        };
    };
    let without = tree.run(sound).args(["--seed", seed]).until(HUNT_DEADLINE)?;
    let passes = without.status.is_some_and(|status| status.success());
    ensure!(passes, "seed {seed} fails without the slip too: {what}");
    let hint = match first {
        Some(known) if known.to_string() != seed => format!("; seed {known} finds it no more, write `seed: {seed}`"),
        _ => String::new(),
    };
    let what: String = what.chars().take(WHAT_MAX).collect();
    Ok(format!("seed {seed}: {what}{hint}"))
}

/// The stack was used up, or a panic came within a panic. Other signals come from outside and say nothing.
fn has_crashed(status: ExitStatus) -> bool {
    const ILLEGAL_ABORT_BUS_SEGMENT: [i32; 4] = [4, 6, 7, 11];
    status.signal().is_some_and(|signal| ILLEGAL_ABORT_BUS_SEGMENT.contains(&signal))
}

fn by_tests(tree: &Tree, cargo: &[String], names: &[String]) -> Result<String> {
    let build = tree.cargo("test").args(["--no-run", "--message-format", "json"]).args(cargo);
    let messages = build.output().context("it does not build")?;
    let programs: Vec<PathBuf> = messages.lines().filter_map(test_program).collect();
    ensure!(!programs.is_empty(), "`{}` builds no test", cargo.join(" "));
    for program in programs {
        let Ended { status, said } = tree.run(&program).args(names).until(TEST_DEADLINE)?;
        match status {
            None => return Ok(format!("the tests had not ended after {} s", TEST_DEADLINE.as_secs())),
            Some(status) if !status.success() => {
                let failed = |line: &str| Some(line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?.to_owned());
                let failed: Vec<String> = said.lines().filter_map(failed).collect();
                return match failed.first() {
                    Some(name) => Ok(format!("the test {name}")),
                    None if has_crashed(status) => Ok(format!("the tests crashed ({status})")),
                    None => Err(anyhow::anyhow!("the tests did not run: {status}")),
                };
            }
            Some(_) => {}
        }
    }
    Err(anyhow::anyhow!("the tests passed"))
}

fn test_program(message: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let is_test = message["profile"]["test"].as_bool()?;
    message["executable"].as_str().filter(|_| is_test).map(PathBuf::from)
}

/// Splits the options that are about slips from those of the simulation.
pub(crate) fn asked(workspace: &Workspace, args: &[String]) -> Option<Result<()>> {
    let run: fn(&Workspace, &str) -> Result<()> = match args.first().map(String::as_str) {
        Some("--list") => return Some(list(workspace)),
        Some("--planted") => main,
        Some("--renew") => renew,
        _ => return None,
    };
    let usage = "expected `--planted NAME[,NAME] | all | NUMBER`, `--renew NAME[,NAME] | all` or `--list`";
    Some(match args {
        [_, which] => run(workspace, which),
        _ => Err(anyhow::anyhow!("{usage}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slips() -> Vec<Slip> {
        let diff = "--- a/x.rs\n+++ b/x.rs\n@@ -1 +1 @@\n-a\n+b\n";
        let slip = |name: String, header: &str| {
            Slip::parse(&format!("sim/planted/{name}.patch"), &format!("{header}\n{diff}")).unwrap()
        };
        let by_seeds = (0..40).map(|n| slip(format!("slip-{n}"), "It breaks."));
        by_seeds.chain([slip("tested".to_owned(), "It breaks.\ntest: -p x")]).collect()
    }

    fn names(which: &str, commit: &str) -> Vec<String> {
        choose(slips(), which, commit).unwrap().into_iter().map(|slip| slip.name).collect()
    }

    #[test]
    fn a_commit_chooses_its_slips_and_another_one_others() {
        let of = |commit| names("5", commit);
        assert_eq!(of("a").len(), 5);
        assert_eq!(of("a"), of("a"));
        assert_ne!(of("a"), of("b"));
        let all: std::collections::BTreeSet<String> = (0..100).flat_map(|n| names("5", &n.to_string())).collect();
        assert_eq!(all.len(), 40, "each one that seeds find has its turn");
        assert!(!all.contains("tested"), "it would be built for nothing");
    }

    #[test]
    fn slips_are_named_or_all_taken() {
        assert_eq!(names("all", "a").len(), 41);
        assert_eq!(names("slip-3,slip-1", "a"), ["slip-3", "slip-1"]);
        assert!(choose(slips(), "slip-99", "a").unwrap_err().to_string().contains("`slip-99`"));
    }
}
