//! `cargo xtask bench`: Fanfare, a floor and named peers in one run, on the release binaries.
//!
//! The binary `fanfare` is built alone and first. Built in one command with the load generator, it would get the union
//! of both crates' features, and the measured binary would differ from that of `cargo build --release`.

use anyhow::Result;

use crate::run::Run;
use crate::tools;
use crate::workspace::Workspace;

const PEERS: &str = "crates/bench/peers";

/// The hub alone, without a server.
const ROOMS: [&str; 6] = ["run", "--release", "--package", "fanfare-bench", "--example", "rooms"];

pub(crate) fn main(workspace: &Workspace, args: &[String]) -> Result<()> {
    if args.first().is_some_and(|suite| suite == "rooms") {
        return workspace.cargo().args(ROOMS).go();
    }
    tools::require(workspace, &["node", "npm"])?;
    workspace.cargo().args(["build", "--release", "--package", "fanfare-cli"]).go()?;
    workspace.cargo().args(["build", "--release", "--package", "fanfare-bench"]).go()?;
    workspace.cargo().args(["build", "--release", "--package", "fanfare", "--example", "echo"]).go()?;
    tools::npm_ci(workspace, PEERS)?;
    Run::new(workspace.built("release", "fanfare-bench")?).dir(&workspace.root).args(args).go()
}
