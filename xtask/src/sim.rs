//! `cargo xtask sim`: hub, wire and client core in one thread and virtual time.
//!
//! By hand it uses the release profile, because a hundred thousand seeds repay an optimised build. In `cargo xtask
//! test` it uses the debug program that the step `build` has just made with everything else: a second profile would
//! compile the simulation's dependencies once more, which takes longer than a few hundred seeds. [`planted`] handles
//! the options about slips (`--planted`, `--renew`, `--list`) and builds them apart.

use anyhow::Result;

use crate::planted;
use crate::run::Run;
use crate::workspace::Workspace;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Build {
    /// `cargo run --release`: long runs.
    Optimised,
    /// The program that `cargo xtask test` has already built, for the few hundred seeds of CI.
    Debug,
}

pub(crate) fn run(workspace: &Workspace, build: Build, args: &[String]) -> Result<()> {
    if let Some(answered) = planted::asked(workspace, args) {
        return answered;
    }
    let run = match build {
        Build::Optimised => workspace.cargo().args(["run", "--release", "--package", "fanfare-sim", "--"]),
        Build::Debug => Run::new(workspace.built("debug", "fanfare-sim")?).dir(&workspace.root),
    };
    run.args(args).go()
}
