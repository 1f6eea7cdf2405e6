//! What speaks to a running Fanfare: `publish`, `subscribe`, `channels`, `disconnect`.
//!
//! In: where the server is, and a key or a token, from flags or the environment. Out: JSON lines on stdout. The application's
//! commands go over the HTTP API ([`api`]), `subscribe` over the native protocol, by the Rust client.

mod api;
mod base;
pub(crate) mod channels;
pub(crate) mod disconnect;
mod event;
mod lines;
pub(crate) mod publish;
pub(crate) mod subscribe;

use crate::failure::Failure;
use base::Base;
use std::future::Future;

/// Where the server is.
#[derive(clap::Args)]
pub(crate) struct Server {
    /// Where the server is: http://HOST:PORT/PATH, where port and path may be left out, or unix:PATH for a socket
    #[arg(
        long,
        env = "FANFARE_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:8080",
        hide_env_values = true
    )]
    url: Base,
}

/// Whom the HTTP API serves.
#[derive(clap::Args)]
pub(crate) struct Key {
    /// A key of the server's HTTP API; `fanfare dev` prints one
    #[arg(long, env = "FANFARE_API_KEY", value_name = "KEY", hide_env_values = true)]
    api_key: Option<String>,
}

/// Runs one command to its end. One thread is enough: it waits for the network most of the time.
fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::ours(format!("cannot start: {error}")))?;
    runtime.block_on(work)
}

/// Nobody is there, at the first attempt.
fn no_server(base: &Base, problem: &str) -> Failure {
    Failure::users(format!("there is no server at {base}: {problem}"))
        .hint("start one with `fanfare dev`, or say with --url URL (or FANFARE_URL) where it is")
}
