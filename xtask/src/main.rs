//! The tasks of this repository, as commands: `cargo xtask …`.
//!
//! One module for each task. Every module prints the commands that it runs, so that each can be run by hand. No module
//! decides anything about Fanfare itself. Exit status: 0 done, 1 a step failed or the command line is wrong.

use std::process::ExitCode;

use anyhow::{Result, bail, ensure};

mod api;
mod bench;
mod fuzz;
mod licences;
mod planted;
mod run;
mod sim;
mod spdx;
mod test;
mod tidy;
mod tools;
mod within;
mod workspace;

use workspace::Workspace;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  test [--only NAME[,NAME]] [--keep-going] [--list]   sets up what is missing, runs every check and test
  sim [--] [ARGS]                                     the simulation, optimised; ARGS go to fanfare-sim
  sim --planted NAME[,NAME] | all | NUMBER            puts slips into a copy of the tree, one at a time: each must be
                                                      found; a NUMBER of them is chosen by the commit
  sim --renew NAME[,NAME] | all                       makes patches of sim/planted/ anew after a change of the code
  sim --list                                          lists the slips and what they break
  soak                                                what takes too long for `test`: all slips
  bench [--] [ARGS]                                   builds the release binaries and measures them beside named peers;
                                                      e.g. `native` (the native protocol) or `--help` (all suites)
  fuzz [NAME [SECONDS]]                               runs one fuzz target (60 s), or lists them
";

fn main() -> ExitCode {
    match dispatch(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(1)
        }
    }
}

fn dispatch(args: &[String]) -> Result<()> {
    let Some((command, rest)) = args.split_first() else { bail!("no command\n\n{USAGE}") };
    if command == within::NAME {
        return within::main(rest); // wherever cargo calls it
    }
    let workspace = Workspace::find()?;
    match command.as_str() {
        "test" => test::main(&workspace, rest),
        "sim" => sim::run(&workspace, sim::Build::Optimised, passed_on(rest)),
        "soak" => soak(&workspace, rest),
        "bench" => bench::main(&workspace, passed_on(rest)),
        "fuzz" => fuzz::main(&workspace, rest),
        "help" | "--help" | "-h" => {
            print!("{USAGE}");
            Ok(())
        }
        other => bail!("there is no command `{other}`\n\n{USAGE}"),
    }
}

/// Long runs, made by hand before a release.
fn soak(workspace: &Workspace, args: &[String]) -> Result<()> {
    ensure!(args.is_empty(), "`soak` has no options");
    planted::main(workspace, "all")
}

/// `cargo xtask sim -- --seeds 9` and `cargo xtask sim --seeds 9` mean the same.
fn passed_on(args: &[String]) -> &[String] {
    match args.split_first() {
        Some((first, rest)) if first == "--" => rest,
        _ => args,
    }
}
