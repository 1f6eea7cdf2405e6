//! Engine.IO 4: the packets below Socket.IO, their payloads over HTTP, and the words around them.
//!
//! In: a frame of a WebSocket or the body of a request. Out: packets; and the way back. A packet is one character for
//! its kind and the rest for its data. Over WebSocket a binary message is a binary frame; over HTTP it is `b` and
//! base64, and packets are joined by U+001E. A reader borrows from its input: only base64 is copied, and a payload of
//! many packets is read one packet at a time, so nothing is allocated for a count.
//!
//! [`Probe`] judges what a client says on a new WebSocket until its session goes on there, [`Upgrade`] whether that is
//! looked at, and [`Sid`] is the id of a session. [`Query`] reads the parameters of a request in the order in which the
//! reference judges them, and [`Refused`] has the reference's codes. Spec: the Engine.IO protocol, version 4.

#[doc(hidden)]
pub mod fuzz;
mod packet;
mod probe;
mod query;
mod sid;
#[cfg(test)]
mod tests;
mod upgrade;

pub use packet::{Packet, PacketError, Payload, SEPARATOR, put_binary, put_payload};
pub use probe::{Probe, ProbeStep};
pub use query::{Query, Refused, Transport, Transports};
pub use sid::Sid;
pub use upgrade::{Release, Upgrade};

use std::time::Duration;

/// The content of an open packet: what a client must know of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open<'a> {
    /// The id of the session: printable ASCII without quotes and backslashes, as the server makes it.
    pub sid: &'a str,
    /// Whether the client may change to a WebSocket.
    pub upgrades: bool,
    /// The time between pings of the server.
    pub ping_interval: Duration,
    /// How long the client has for its pong.
    pub ping_timeout: Duration,
    /// The longest payload of a request, and the longest frame, in bytes.
    pub max_payload: usize,
}

impl Open<'_> {
    /// Appends the packet.
    pub fn put(&self, out: &mut Vec<u8>) {
        let upgrades = if self.upgrades { "[\"websocket\"]" } else { "[]" };
        let (interval, timeout) = (self.ping_interval.as_millis(), self.ping_timeout.as_millis());
        let text = format!(
            "0{{\"sid\":\"{}\",\"upgrades\":{upgrades},\"pingInterval\":{interval},\"pingTimeout\":{timeout},\"maxPayload\":{}}}",
            self.sid, self.max_payload
        );
        out.extend_from_slice(text.as_bytes());
    }
}
