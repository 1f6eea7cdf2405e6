//! `cargo xtask sim`: hub, wire and client core in one thread and virtual time.
//!
//! By hand, where a hundred thousand seeds are worth an optimised build: the release profile. In `cargo xtask test`:
//! the debug program that the step `build` has just made together with everything else. On two cores from nothing,
//! any second profile would compile the simulation's dependencies once more, which takes longer than a few hundred
//! seeds.

use anyhow::Result;

use crate::run::Run;
use crate::workspace::Workspace;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Build {
    /// `cargo run --release`: long runs.
    Optimised,
    /// What `cargo xtask test` has already built: the few hundred seeds of CI.
    Debug,
}

pub(crate) fn run(workspace: &Workspace, build: Build, args: &[String]) -> Result<()> {
    let run = match build {
        Build::Optimised => workspace.cargo().args(["run", "--release", "--package", "fanfare-sim", "--"]),
        Build::Debug => Run::new(workspace.built("debug", "fanfare-sim")?).dir(&workspace.root),
    };
    run.args(args).go()
}
