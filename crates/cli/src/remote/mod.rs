//! The commands that call a running Fanfare: `publish`, `subscribe`, `channels`, `connections`,
//! `users`, `user-status`, `disconnect`, `reconnect`, `unban`, `bans`, `inspect`, `tail`, `doctor`.
//!
//! In: where the server is, and a key or a token, from flags or the environment. Out: JSON lines on stdout. The
//! application's commands go over the HTTP API ([`api`]), `subscribe` over the native protocol, by the Rust client;
//! `doctor` speaks HTTP itself.

mod api;
mod base;
pub(crate) mod channels;
pub(crate) mod disconnect;
#[cfg_attr(not(feature = "tls"), allow(dead_code, unused_imports, reason = "its findings about TLS"))]
pub(crate) mod doctor;
mod event;
pub(crate) mod inspect;
mod lines;
pub(crate) mod publish;
pub(crate) mod subscribe;
pub(crate) mod users;

use crate::failure::Failure;
use base::Base;
#[cfg(feature = "tls")]
use fanfare_client::CertificateFault;
use fanfare_client::Problem;
use std::future::Future;

/// Where the server is.
#[derive(clap::Args)]
pub(crate) struct Server {
    /// Where the server is: http:// or https:// and HOST:PORT/PATH, where port and path may be left out, or unix:PATH
    /// for a socket
    #[arg(
        long,
        env = "FANFARE_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:8080",
        hide_env_values = true
    )]
    url: Base,
    /// With https: trust the authorities of this PEM file instead of those of the system
    #[cfg(feature = "tls")]
    #[arg(long, env = "FANFARE_CACERT", value_name = "FILE", hide_env_values = true)]
    cacert: Option<String>,
}

/// The caller of the HTTP API.
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
    let result = runtime.block_on(work);
    // Dropped, it would wait for a resolver that does not answer.
    runtime.shutdown_background();
    result
}

/// There is no connection, at the first attempt, or none any more that is worth waiting for.
fn unreached(base: &Base, problem: &Problem) -> Failure {
    let failure = |what: &str| Failure::users(format!("{what} {base}: {problem}"));
    match problem {
        Problem::Name { .. } => failure("cannot reach")
            .hint("check the spelling of the name, and whether this machine has a network and a resolver"),
        Problem::Unreachable { .. } | Problem::TimedOut { .. } => failure("there is no server at")
            .hint("start one with `fanfare dev`, or say with --url URL (or FANFARE_URL) where it is"),
        #[cfg(feature = "tls")]
        Problem::Certificate { fault, .. } => failure("cannot trust").hint(match fault {
            CertificateFault::Issuer => {
                "if it is signed by your own authority, name that certificate with --cacert FILE (or FANFARE_CACERT)"
            }
            CertificateFault::Name { .. } => {
                "give the name that is in the certificate by --url URL, or renew the certificate"
            }
            CertificateFault::Expired { .. } | CertificateFault::NotYet { .. } => {
                "the server needs another certificate, unless the clock of this machine is wrong"
            }
            CertificateFault::Authority => {
                "let the authority sign a certificate for the server's name, and use that one there"
            }
            _ => "the server needs another certificate",
        }),
        #[cfg(feature = "tls")]
        Problem::Tls { .. } => failure("cannot reach").hint("without TLS its address begins with http://"),
        Problem::Answer { status, .. } if status.starts_with("401") || status.starts_with("403") => {
            failure("refused by")
                .hint("a proxy in front of the server refuses; Fanfare itself asks for a token only after that")
        }
        Problem::Answer { passes: true, .. } | Problem::Lost { .. } => {
            Failure::ours(format!("{base} exists but does not serve: {problem}"))
        }
        Problem::Answer { location: Some(_), .. } => failure("not here:")
            .hint("give that address by --url URL (or FANFARE_URL), without the part after Fanfare's own path"),
        _ => failure("no Fanfare at").hint("say with --url URL (or FANFARE_URL) where one is"),
    }
}
