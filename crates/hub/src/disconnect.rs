//! Why the server ends a connection. [`DISCONNECTS`] is the table: the word, the code and whether to come back.
//!
//! 4000–4499 mean *come back*, 4500–4999 mean *do not*. `fanfare_wire::websocket` adds the codes of RFC 6455; the
//! docs are printed from both.

use std::fmt;

macro_rules! disconnects {
    ($($variant:ident, $code:literal, $word:literal, $meaning:literal;)*) => {
        /// The reason of a disconnection by the server.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Disconnect {
            $(#[doc = $meaning] $variant,)*
        }

        /// Every reason, in the order of its code.
        pub const DISCONNECTS: &[DisconnectRow] = &[
            $(DisconnectRow { reason: Disconnect::$variant, code: $code, word: $word, meaning: $meaning },)*
        ];
    };
}

/// A row of [`DISCONNECTS`].
#[derive(Debug, Clone, Copy)]
pub struct DisconnectRow {
    /// The reason.
    pub reason: Disconnect,
    /// The WebSocket close code.
    pub code: u16,
    /// The word in `disconnect.reason` and in logs.
    pub word: &'static str,
    /// One sentence for the documentation.
    pub meaning: &'static str,
}

disconnects! {
    Shutdown, 4000, "shutdown", "The server is stopping or restarting.";
    HeartbeatTimeout, 4001, "heartbeat_timeout", "The client sent nothing for longer than the heartbeat allows.";
    Slow, 4002, "slow", "The client read too slowly for a channel whose rule says `slow = \"disconnect\"`.";
    Lost, 4003, "lost", "Messages were lost, and the client's protocol has no message for that; the client should join again.";
    Overloaded, 4004, "overloaded", "The server reached its limit of connections or memory, or could not accept a `connect` now.";
    Internal, 4005, "internal", "The server failed while it served this connection.";
    Moved, 4006, "moved", "Another connection has taken the session over. Come back without the ticket.";
    Expired, 4007, "expired", "The token has expired and no newer one was shown; come back with a new one.";
    Reconnect, 4008, "reconnect", "The application asks the client to connect again; its session goes on.";
    NotConnected, 4500, "not_connected", "No valid `connect` arrived in time.";
    Abuse, 4501, "abuse", "The client sent too many invalid messages.";
    Unauthorized, 4502, "unauthorized", "The token is missing, wrong, expired or revoked.";
    Kicked, 4503, "kicked", "The application disconnected this client.";
    BadProtocol, 4504, "bad_protocol", "The client used another protocol than the one it named.";
    Left, 4505, "left", "The client has ended its session by `disconnect`.";
}

impl Disconnect {
    /// The reason's row of the table.
    pub fn row(self) -> &'static DisconnectRow {
        DISCONNECTS.iter().find(|row| row.reason == self).expect("the table holds every variant: one macro makes both")
    }

    /// The WebSocket close code.
    pub fn code(self) -> u16 {
        self.row().code
    }

    /// True when the client should come back.
    pub fn reconnect(self) -> bool {
        self.code() < 4500
    }
}

impl fmt::Display for Disconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().word)
    }
}
