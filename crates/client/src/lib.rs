//! The Rust client of Fanfare.
//!
//! [`core`] is the client as a machine without sockets, clocks or randomness: states, back-off, heartbeat, recovery
//! by position, publications retried under their keys. The simulation drives it in virtual time. `Client` (feature
//! `tokio`, on by default) is the shell around it: it owns the connection and the clock, and decides nothing.
//!
//! Servers behind TLS (`https://`, `wss://`) need the feature `tls`, on by default: rustls, and the authorities that
//! the system trusts or those of [`Builder::trust`].

pub mod core;
#[cfg(feature = "tokio")]
mod shell;

#[cfg(feature = "tokio")]
pub use shell::{
    Builder, Client, ConnectError, Endpoint, Incoming, NATIVE_PATH, Problem, QUEUE_MAX, RpcError, Status, Stream,
    Subscription, Url, UrlError,
};
#[cfg(feature = "tls")]
pub use shell::{CertificateFault, Trust, TrustError};

pub use core::Transport;
pub use fanfare_hub::{Data, PresenceKind};
pub use fanfare_wire::native::client::{
    Batch, Connected, ErrorReply, From, History, HistoryFrom, Position, Presence, PresenceChange, PresenceEntry,
    Publication, Publish, ServerLimits, Signal, Slow, Subscribe,
};
