//! The Rust client of Fanfare.
//!
//! [`core`] is the client as a machine without sockets, clocks or randomness: states, back-off, heartbeat, recovery by
//! position, publications retried under their keys. The simulation drives it in virtual time. `Client` (feature `tokio`,
//! on by default) is the shell around it: it owns the connection and the clock, and decides nothing.
//!
//! Only `ws://` and `unix:` for now: TLS is not built in yet, put a proxy in front.

pub mod core;
#[cfg(feature = "tokio")]
mod shell;

#[cfg(feature = "tokio")]
pub use shell::{Builder, Client, ConnectError, Incoming, QUEUE_MAX, RpcError, Status, Subscription, UrlError};

pub use fanfare_hub::{Data, PresenceKind};
pub use fanfare_wire::native::client::{
    Batch, Connected, ErrorReply, From, History, HistoryFrom, Position, Presence, PresenceChange, PresenceEntry,
    Publication, Publish, ServerLimits, Signal, Slow, Subscribe,
};
