//! `cargo xtask fuzz NAME [SECONDS]`: one cargo-fuzz target, on the stable toolchain.
//!
//! The bodies of the targets are functions in the crates, so every ordinary build compiles them; `fuzz/` only holds the
//! shells. cargo-fuzz asks for nightly flags, which RUSTC_BOOTSTRAP=1 allows to the pinned compiler.

use anyhow::{Context, Result, bail, ensure};

use crate::tools;
use crate::workspace::Workspace;

const SECONDS_DEFAULT: u64 = 60;

pub(crate) fn main(workspace: &Workspace, args: &[String]) -> Result<()> {
    let targets = targets(workspace)?;
    let (name, seconds) = match args {
        [] => {
            println!("{}", targets.join("\n"));
            return Ok(());
        }
        [name] => (name, SECONDS_DEFAULT),
        [name, seconds] => {
            (name, seconds.parse().with_context(|| format!("seconds must be a whole number, found `{seconds}`"))?)
        }
        [_, _, more, ..] => bail!("unexpected `{more}`: usage is cargo xtask fuzz NAME [SECONDS]"),
    };
    ensure!(targets.contains(name), "there is no fuzz target `{name}`; there are: {}", targets.join(", "));
    ensure!(tools::found("cargo-fuzz"), "cargo-fuzz is missing\n\nhint: cargo install --locked cargo-fuzz");
    workspace
        .cargo()
        .env("RUSTC_BOOTSTRAP", "1")
        .args(["fuzz", "run", name, "--", &format!("-max_total_time={seconds}")])
        .go()
}

fn targets(workspace: &Workspace) -> Result<Vec<String>> {
    let dir = workspace.path("fuzz/fuzz_targets");
    let entries = std::fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if let (Some(stem), Some("rs")) = (path.file_stem(), path.extension().and_then(|e| e.to_str())) {
            names.push(stem.to_string_lossy().into_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}
