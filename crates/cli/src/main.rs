//! The command `fanfare`: starts the server.
//!
//! Data goes to stdout, the rest to stderr. Exit status: 0 done, 1 the user can fix it, 2 we failed.

mod demos;
mod dev;
mod failure;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// mimalloc: measured beside the system's allocator, small frames of many connections fragment less.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(
    name = "fanfare",
    version,
    about = "Realtime messages between an application and everyone who is looking at it, now"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Starts a server with the demos, open to everybody on this machine: to try things, not to serve strangers
    Dev(dev::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse_from_env();
    let result = match cli.command {
        Command::Dev(args) => dev::run(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

impl Cli {
    /// clap's own errors are the user's to fix: status 1, where clap says 2.
    fn parse_from_env() -> Self {
        Cli::try_parse().unwrap_or_else(|error| {
            let _ = error.print(); // a closed stderr is no reason for another failure
            std::process::exit(i32::from(error.use_stderr()))
        })
    }
}
