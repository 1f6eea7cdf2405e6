//! A connection by requests, as Engine.IO has it, on its way to a WebSocket: what its client and its shard know.
//!
//! GETs take packets, and POSTs bring them. A packet that was given to a GET is gone from the server. The client opens
//! a WebSocket for its session, sends the probe, ends its GET and sends its `5`; then the connection goes on there. The
//! server's decisions are the shell's own (`Upgrade`, `Probe`).

use fanfare_wire::engineio::{Probe, Upgrade};

/// After this time a client gives up an upgrade that does not go on.
pub(crate) const GIVES_UP_MS: u64 = 900;

/// One step of such a connection.
#[derive(Debug)]
pub(crate) enum EngineStep {
    /// At the server: a GET.
    Get,
    /// A POST with these packets.
    Post(String),
    /// The time of a GET that is let go later.
    Release,
    /// The WebSocket with this number says this.
    Says { socket: u64, text: &'static str },
    /// It is cut.
    Cut { socket: u64 },
    /// A POST before the upgrade took too long.
    Late,
    /// At the client: its GET has ended, behind its packets.
    Got,
    /// Its POST has.
    Posted,
    /// It tries to go on over a WebSocket.
    Tries,
    /// The WebSocket answers its probe.
    Probed { socket: u64 },
    /// The WebSocket is closed, or does not go on.
    Fails { socket: u64 },
}

impl EngineStep {
    /// It happens in the process of the shard.
    pub(crate) fn is_at_shard(&self) -> bool {
        use EngineStep::{Cut, Get, Late, Post, Release, Says};
        matches!(self, Get | Post(_) | Release | Says { .. } | Cut { .. } | Late)
    }
}

/// How far a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Way {
    #[default]
    Polls,
    /// This WebSocket has been sent a probe.
    Probes(u64),
    /// It has answered: the client goes on when its requests have ended.
    Ends(u64),
    /// The client has sent its `5`.
    Moved,
}

/// Both ends of such a connection.
#[derive(Debug, Default)]
pub(crate) struct Engine {
    pub(crate) way: Way,
    /// The WebSockets that the client has opened.
    pub(crate) sockets: u64,
    pub(crate) is_getting: bool,
    pub(crate) is_posting: bool,
    /// When the last POST comes to the server.
    pub(crate) post_comes_ms: u64,
    /// Its WebSocket is cut, so it does not go on over that.
    pub(crate) is_doomed: bool,
    /// It does not wait for the answer to its POST before it goes on.
    pub(crate) is_hasty: bool,
    /// Texts that wait for the end of the POST before.
    pub(crate) to_post: Vec<String>,
    /// At the server: a GET waits.
    pub(crate) get_waits: bool,
    /// A POST is being taken in.
    pub(crate) post_waits: bool,
    pub(crate) upgrade: Upgrade,
    pub(crate) probe: Probe,
    /// The WebSocket that it looks at.
    pub(crate) socket: u64,
    /// That has said its `5`.
    pub(crate) is_upgraded: bool,
    /// Pieces of frames that came behind it.
    pub(crate) early: Vec<(u64, Vec<u8>)>,
}
