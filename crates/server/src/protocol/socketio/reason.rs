//! Why a socket has left its namespace, in the words of the reference server.

use fanfare_hub::Disconnect;
use std::fmt;

/// Why a socket has left. `Display` writes the word that `disconnect` has in JavaScript, on the server's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// Its client has left the namespace (`socket.disconnect()`): `client namespace disconnect`.
    ClientLeft,
    /// The program has disconnected it: `server namespace disconnect`.
    ServerDisconnected,
    /// The server is stopping: `server shutting down`.
    ShuttingDown,
    /// The client has not answered a ping: `ping timeout`.
    PingTimeout,
    /// The connection was closed, by the client or on the way: `transport close`.
    TransportClose,
    /// A request was given up, or the client has broken the rules of its transport: `transport error`.
    TransportError,
    /// The client has sent a packet of Engine.IO that is none: `parse error`.
    ParseError,
    /// The client has sent a message of Socket.IO that is none, or one at the wrong moment: `forced close`.
    ForcedClose,
    /// The server has ended the connection for another reason: `forced server close`.
    Closed(Disconnect),
}

impl Reason {
    /// The word of the reference server.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::ClientLeft => "client namespace disconnect",
            Reason::ServerDisconnected => "server namespace disconnect",
            Reason::ShuttingDown => "server shutting down",
            Reason::PingTimeout => "ping timeout",
            Reason::TransportClose => "transport close",
            Reason::TransportError => "transport error",
            Reason::ParseError => "parse error",
            Reason::ForcedClose => "forced close",
            Reason::Closed(_) => "forced server close",
        }
    }

    /// The reason for an end of the whole connection by the server.
    pub(crate) fn of(end: Disconnect) -> Self {
        match end {
            Disconnect::Shutdown => Reason::ShuttingDown,
            Disconnect::HeartbeatTimeout => Reason::PingTimeout,
            Disconnect::Kicked => Reason::ServerDisconnected,
            Disconnect::BadProtocol => Reason::ParseError,
            Disconnect::Left => Reason::TransportClose,
            other => Reason::Closed(other),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
