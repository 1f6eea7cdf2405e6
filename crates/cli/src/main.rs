//! The command `fanfare`: starts the server, and speaks to one.
//!
//! Data goes to stdout, the rest to stderr. Exit status: 0 done, 1 the user can fix it, 2 we failed;
//! of `why` 0 allowed, 1 not; of `doctor` 0 well, 1 degraded, 2 nobody is served.

mod check;
mod completions;
mod config;
mod demos;
mod dev;
mod failure;
mod feed;
mod flags;
mod init;
mod line;
mod man;
mod notify;
mod output;
mod remote;
mod run;
mod self_signed;
mod serve;
mod signals;
mod start;
mod stderr;
mod token;
mod why;
mod words;

use clap::{CommandFactory as _, Parser, Subcommand};
use remote::{channels, disconnect, doctor, inspect, publish, subscribe, users};
use std::process::ExitCode;

/// mimalloc: measured beside the system's allocator, small frames of many connections fragment less.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(
    name = "fanfare",
    version,
    about = "A realtime server: clients subscribe to channels, and your backend publishes to them"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Starts a server with the demos, open to everybody on this machine: to try things, not to serve strangers
    Dev(dev::Args),
    /// Starts the server of a configuration file
    Serve(serve::Args),
    /// Tells what is wrong with a configuration file
    Check(check::Args),
    /// Tells which rule decides what a caller may do, and why
    Why(why::Args),
    /// Prints every setting that would be in force, with where it comes from
    Config(config::Args),
    /// Writes a configuration file to begin with
    Init(init::Args),
    /// Makes a token for a client with a secret of the configuration, or tells what is in one
    Token(token::Args),
    /// Publishes to a channel: the payload that is given, or each line of stdin
    Publish(publish::Args),
    /// Prints what happens in channels, a JSON line each, through every reconnect
    Subscribe(subscribe::Args),
    /// Lists the channels that live on the server, a JSON line each
    Channels(channels::Args),
    /// Lists the connections of the server, a JSON line each
    Connections(users::ConnectionsArgs),
    /// Lists the users that have a connection, a JSON line each
    Users(users::UsersArgs),
    /// Tells whether users are online, and when they were seen last, a JSON line each
    UserStatus(users::StatusArgs),
    /// Sends a client, or all clients of a user or with a label, away
    Disconnect(disconnect::Args),
    /// Has a client, or all clients of a user or with a label, connect again
    Reconnect(disconnect::ReconnectArgs),
    /// Ends the ban of a user or a client
    Unban(disconnect::UnbanArgs),
    /// Lists the bans that hold, a JSON line each
    Bans(disconnect::BansArgs),
    /// Tells what a client, a user or a channel is doing on the server, and what happened to it
    Inspect(inspect::Args),
    /// Prints what happens to clients, a JSON line each: connections, denials, gaps, slow readers, actions of API keys
    Tail(inspect::TailArgs),
    /// Tries each transport to a server through whatever stands between, and says what is wrong
    Doctor(doctor::Args),
    /// Prints a script that completes this command in a shell
    Completions(completions::Args),
    /// Prints the manual page, for man(1)
    #[command(hide = true)]
    Man,
}

fn main() -> ExitCode {
    let status = run();
    stderr::finish();
    status
}

fn run() -> ExitCode {
    let cli = match line::parse::<Cli>() {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    let result = match cli.command {
        Command::Dev(args) => dev::run(args),
        Command::Serve(args) => serve::run(args),
        Command::Check(args) => check::run(args),
        // Their answer is their status.
        Command::Why(args) => return why::run(args).unwrap_or_else(|failure| failure.report()),
        Command::Doctor(args) => return doctor::run(args).unwrap_or_else(|failure| failure.report()),
        Command::Token(args) => return token::run(args).unwrap_or_else(|failure| failure.report()),
        Command::Config(args) => config::run(args),
        Command::Init(args) => init::run(args),
        Command::Publish(args) => publish::run(args),
        Command::Subscribe(args) => subscribe::run(args),
        Command::Channels(args) => channels::run(args),
        Command::Connections(args) => users::connections(args),
        Command::Users(args) => users::users(args),
        Command::UserStatus(args) => users::status(args),
        Command::Disconnect(args) => disconnect::run(args),
        Command::Reconnect(args) => disconnect::reconnect(args),
        Command::Unban(args) => disconnect::unban(args),
        Command::Bans(args) => disconnect::bans(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Tail(args) => inspect::tail(args),
        Command::Completions(args) => completions::run(args, Cli::command()),
        Command::Man => man::run(Cli::command()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
