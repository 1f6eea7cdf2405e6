//! The upgrade of a session that polls: what its client says on a new WebSocket before the session goes on there.
//!
//! In: the messages of the WebSocket, in order. Out: a [`ProbeStep`] for each. The client sends `2probe` and gets
//! `3probe`; it stops polling and sends `5`; from then on packets go by the WebSocket. Anything else ends the WebSocket
//! and leaves the session polling, as in the reference, which also takes a `5` without a probe. A refusal costs the
//! session nothing: a client that knows its id could poll it as well.

use super::Packet;

/// How far an upgrade has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Probe {
    /// The client has sent its probe.
    is_probed: bool,
}

/// The step that follows from a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeStep {
    /// Send [`Probe::ANSWER`], and let a GET that waits go.
    Answer,
    /// The session goes on with this WebSocket.
    Upgrade,
    /// Close the WebSocket. The session polls as before.
    Refuse(&'static str),
}

impl Probe {
    /// The packet that answers a probe.
    pub const ANSWER: Packet<'static> = Packet::Pong("probe");

    /// Whether the client has sent its probe: then it waits for the end of its GET.
    pub fn is_probed(self) -> bool {
        self.is_probed
    }

    /// Takes a text message.
    pub fn text(&mut self, text: &str) -> ProbeStep {
        match Packet::decode(text) {
            Ok(Packet::Ping("probe")) => {
                self.is_probed = true;
                ProbeStep::Answer
            }
            Ok(Packet::Upgrade) => ProbeStep::Upgrade,
            Ok(_) => ProbeStep::Refuse("a packet before the upgrade"),
            Err(_) => ProbeStep::Refuse("not a packet"),
        }
    }
}
