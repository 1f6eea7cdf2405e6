//! The native protocol, version 1: JSON objects with a `type`, one per text frame, readable in a browser's network tab.
//!
//! The server's side: [`decode`] takes a text and appends [`Decoded`] commands, and never fails as a whole: an invalid
//! command is a [`Command::Invalid`](fanfare_hub::Command::Invalid) with the `id` if it could be read, so that the hub
//! answers and counts it in its turn. [`encode_reply`] and [`encode_push`] append one JSON object, on one line;
//! payloads are spliced in as they came, never parsed and written anew. The client's side is in [`client`], with owned
//! types in which epochs and client ids are opaque texts, as they are to a client.
//!
//! Nothing here allocates more than a small multiple of the text that it is given: the caller bounds that. Unknown
//! fields are ignored, `null` counts as absent except for a payload, a field that occurs twice is refused. Wire:
//! docs/protocol.md.
//!
//! ```
//! use fanfare_hub::{Command, RequestId};
//! use fanfare_wire::native::{Decoded, Limits, decode};
//!
//! let mut commands = Vec::new();
//! decode(r#"{"type":"publish","id":1,"channel":"chat:general","data":{"text":"hello"}}"#, &Limits::default(), &mut commands);
//! let Some(Decoded::Request(request)) = commands.pop() else { panic!("a publish is the hub's") };
//! assert_eq!(request.id, Some(RequestId::Number(1)));
//! assert!(matches!(request.command, Command::Publish(publish) if &publish.data.bytes()[..] == br#"{"text":"hello"}"#));
//! ```

pub mod app;
pub mod client;
mod decode;
mod encode;
#[doc(hidden)]
pub mod fuzz;
mod object;
pub mod requests;
mod write;

#[cfg(test)]
mod tests;

pub use decode::decode;
pub use encode::{
    ConnectedExtras, ConnectedLimits, PING, encode_publication, encode_push, encode_reply, encode_ticket,
};

use fanfare_hub::{PageId, Request, RequestId, SubOptions, UserToken};

/// The WebSocket subprotocol, and `connected.protocol`.
pub const PROTOCOL: &str = "fanfare.v1";
/// Commands in one array.
pub const COMMANDS_MAX: usize = 32;
/// Publications that one `history` may ask for.
pub const HISTORY_LIMIT_MAX: u32 = 1000;
/// The limit of a `history` without `limit`.
pub const HISTORY_LIMIT_DEFAULT: u32 = 100;
/// Bytes of a text that stands for an epoch.
pub const EPOCH_BYTES_MAX: usize = 32;
/// Bytes of an RPC method's name.
pub const METHOD_BYTES_MAX: usize = 64;

/// The fields that are reserved in publications, subscriptions and queries of the history: anything but `null` is
/// refused.
pub fn reserved_fields() -> impl Iterator<Item = &'static str> {
    object::RESERVED.into_iter().map(object::Field::name)
}

/// The bounds of one command that can be set. Every other bound is a constant of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one payload, as JSON or after base64. Default 64 KiB, as the hub's.
    pub message_bytes_max: usize,
    /// Channels in one `subscribe` or `connect`. Default 128, as the hub's.
    pub subscriptions_max: usize,
    /// Publications in one batch. Default 200, as the hub's.
    pub batch_size_max: usize,
    /// How long one may be gathered, in ms. Default 10 s, as the hub's.
    pub batch_delay_ms_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        (&fanfare_hub::Limits::default()).into()
    }
}

impl From<&fanfare_hub::Limits> for Limits {
    fn from(limits: &fanfare_hub::Limits) -> Self {
        Limits {
            message_bytes_max: limits.message_bytes_max,
            subscriptions_max: limits.subscriptions_max,
            batch_size_max: limits.batch_size_max,
            batch_delay_ms_max: limits.batch_delay_ms_max,
        }
    }
}

/// One command, sorted by the part of the server that acts on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// The hub's. Never [`Command::Connect`](fanfare_hub::Command::Connect).
    Request(Request),
    /// The server opens the ticket and makes the hub's `Connect` of it.
    Connect {
        /// Where a reply is wanted.
        id: Option<RequestId>,
        /// The client's token, unchecked.
        token: Option<UserToken>,
        /// The session it comes from, unchecked.
        ticket: Option<Box<str>>,
        /// The page that it connects from.
        page: Option<PageId>,
        /// The last answer to its polls that it has had, where it polled before.
        ack: Option<u64>,
        /// Subscriptions made in the same step.
        subscribe: Vec<SubOptions>,
    },
}
