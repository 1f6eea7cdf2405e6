//! Why a server did not start, or did not stop well.

use crate::config::address::Address;
use crate::config::namespace::InvalidNamespace;
use fanfare_hub::PatternError;
use std::io;
use std::time::Duration;

/// The reason why a server did not start, or did not stop in good order.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address is invalid.
    #[error("cannot resolve the address {address:?}: {source}")]
    Resolve {
        /// As it was given.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which.
        address: Address,
        /// Why.
        source: io::Error,
    },
    /// A number outside of its range.
    #[error("{option} = {found} is not between {min} and {max}")]
    OutOfRange {
        /// The option.
        option: &'static str,
        /// The given value.
        found: usize,
        /// The least.
        min: usize,
        /// The most.
        max: usize,
    },
    /// A limit or a time of zero with which a server cannot serve.
    #[error("{option} = {found} is out of range: {allowed}")]
    InVain {
        /// The option, by its name in the configuration's file.
        option: &'static str,
        /// The given value.
        found: String,
        /// The allowed values, in words.
        allowed: String,
    },
    /// A pattern of a rule or handler is invalid.
    #[error("{pattern:?} is not a channel pattern: {source}")]
    Pattern {
        /// As it was given.
        pattern: String,
        /// Why it is none.
        source: PatternError,
    },
    /// Clients would be identified in two ways: by `on_connect`, by tokens of the configuration, or by a hook.
    #[error("{first} and {second} both identify clients: leave one out")]
    TwoIdentities {
        /// One of them.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// A handler was given twice.
    #[error("there are two {kind} handlers for {name:?}")]
    TwoHandlers {
        /// The builder's method.
        kind: &'static str,
        /// The pattern or method name; empty where there is only one of its kind.
        name: String,
    },
    /// A text that is no name or pattern of a namespace of Socket.IO.
    #[error(transparent)]
    Namespace(#[from] InvalidNamespace),
    /// A handler of a namespace was given twice, or is for an event that clients cannot send.
    #[error("the namespace {namespace:?} has {handler} twice, or the name of this event is reserved")]
    SocketHandler {
        /// The namespace.
        namespace: String,
        /// The handler.
        handler: String,
    },
    /// The server has handlers and was started outside of a runtime that could run them.
    #[error("handlers need a tokio runtime with its time driver: start the server from within one")]
    NoRuntime,
    /// Two protocols at one path have the same subprotocol.
    #[error("two protocols at {path:?} have the subprotocol {subprotocol:?}")]
    Ambiguous {
        /// The path.
        path: String,
        /// The subprotocol.
        subprotocol: Option<&'static str>,
    },
    /// Two API keys are the same text, so a request could not be attributed to one of them.
    #[error("the API keys {first:?} and {second:?} are the same text")]
    SameApiKey {
        /// The name of one.
        first: String,
        /// The name of the other.
        second: String,
    },
    /// The operating system refused a thread or random bytes.
    #[error("the operating system refused a {what}: {source}")]
    System {
        /// What.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Shards did not end in time when the server was to stop.
    #[error("the server did not stop within {waited:?}: {}", silent(.shards))]
    Silent {
        /// The shards that take no turns.
        shards: Vec<usize>,
        /// The time that they had.
        waited: Duration,
    },
    /// A shard's thread panicked: the log has the reason.
    #[error("a shard failed")]
    Shard,
}

fn silent(shards: &[usize]) -> String {
    let names: Vec<String> = shards.iter().map(usize::to_string).collect();
    match names.as_slice() {
        [] => "its shards are busy".to_owned(),
        [name] => format!("shard {name} does not answer"),
        names => format!("shards {} do not answer", names.join(", ")),
    }
}
