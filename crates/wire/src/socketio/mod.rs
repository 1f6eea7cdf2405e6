//! Socket.IO 5: packets of namespaces, events and acks, on the messages of Engine.IO.
//!
//! In: text and binary messages of one connection. Out: whole [`Packet`]s; and the way back. A packet is
//! `type[attachments-][/namespace,][ack id][JSON]`; `{"_placeholder":true,"num":n}` in its JSON stands for its n-th
//! attachment, and attachments follow as binary messages. The JSON is checked and kept as it came: it is never
//! serialised again.
//!
//! The [`Decoder`] holds one incomplete packet at most, within its [`Limits`]. It allocates for bytes that have come,
//! never for a number that a client claims. A malformed packet, or one at the wrong moment, is an error: the reference
//! closes the connection then. Spec: the Socket.IO protocol, version 5.

mod array;
mod bundle;
mod decode;
mod encode;
mod error;
#[doc(hidden)]
pub mod fuzz;
pub mod msgpack;
#[cfg(test)]
mod tests;

pub use array::{Elements, Event, put_spread};
pub use bundle::{bundle, parts};
pub use decode::{Decoder, Limits};
pub use encode::{put_connect_error, put_connected, put_head, put_packet, put_text};
pub use error::DecodeError;

use bytes::Bytes;
use std::borrow::Cow;

/// The namespace that every server has.
pub const MAIN_NAMESPACE: &str = "/";
/// The channel of a namespace is named by this and its name.
pub const CHANNEL_PREFIX: &str = "$sio:";
/// Names of events that the API of Socket.IO raises itself: no packet may carry them.
pub const RESERVED_EVENTS: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// The kinds of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `0`: enters a namespace, or says that this was done.
    Connect,
    /// `1`: leaves a namespace.
    Disconnect,
    /// `2` and, with attachments, `5`.
    Event,
    /// `3` and, with attachments, `6`.
    Ack,
    /// `4`: a namespace was not entered. From the server only.
    ConnectError,
}

/// A whole packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace, with the leading slash.
    pub namespace: Cow<'a, str>,
    /// The number of the event that is to be acknowledged, or that this acknowledges.
    pub id: Option<u64>,
    /// Its payload: valid JSON of the form that its kind demands, at most [`DEPTH_MAX`](crate::json::DEPTH_MAX) deep and
    /// on one line.
    pub data: Option<Cow<'a, str>>,
    /// The bytes that the placeholders in `data` stand for; `None` for a packet without the form of attachments. Then
    /// nothing in `data` is a placeholder, whatever it looks like.
    pub attachments: Option<Vec<Bytes>>,
}
