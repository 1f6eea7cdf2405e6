//! The parameters of a request to an Engine.IO server, and the refusals of the reference.
//!
//! In: the query of a request, its method, and whether it asks for an upgrade. Out: a [`Query`], or the [`Refused`]
//! that the reference gives for it. Whether a session exists is for the server to say. Parameters that mean nothing
//! here (`t`, `b64`, `j`) are ignored.

use std::fmt;

/// How a client and its session exchange packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// By requests: GETs wait for packets, POSTs bring them.
    Polling,
    /// By frames of a WebSocket.
    WebSocket,
}

/// The transports that a server offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transports {
    /// [`Transport::Polling`].
    pub polling: bool,
    /// [`Transport::WebSocket`].
    pub websocket: bool,
}

impl Transports {
    /// Both.
    pub const ALL: Transports = Transports { polling: true, websocket: true };

    fn has(self, transport: Transport) -> bool {
        match transport {
            Transport::Polling => self.polling,
            Transport::WebSocket => self.websocket,
        }
    }
}

/// A request that the rules of the protocol allow, as far as they can be judged without the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query<'a> {
    /// The transport that it names.
    pub transport: Transport,
    /// Its session; without one it is a handshake.
    pub sid: Option<&'a str>,
    /// It names version 4. A handshake does; a session that is known refuses another one as [`Refused::BadRequest`].
    pub is_version_4: bool,
}

/// Why a request is refused: the reference's codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Code 0.
    TransportUnknown,
    /// Code 1.
    SessionUnknown,
    /// Code 2: a handshake is a GET.
    BadHandshakeMethod,
    /// Code 3.
    BadRequest,
    /// Code 4: the application does not let the client in.
    Forbidden,
    /// Code 5: only version 4 is spoken.
    UnsupportedVersion,
}

impl Refused {
    /// All of them, by their codes.
    pub const ALL: [Refused; 6] = [
        Refused::TransportUnknown,
        Refused::SessionUnknown,
        Refused::BadHandshakeMethod,
        Refused::BadRequest,
        Refused::Forbidden,
        Refused::UnsupportedVersion,
    ];

    /// The number that clients compare.
    pub fn code(self) -> u8 {
        match self {
            Refused::TransportUnknown => 0,
            Refused::SessionUnknown => 1,
            Refused::BadHandshakeMethod => 2,
            Refused::BadRequest => 3,
            Refused::Forbidden => 4,
            Refused::UnsupportedVersion => 5,
        }
    }

    /// The status of the answer.
    pub fn status(self) -> u16 {
        if self == Refused::Forbidden { 403 } else { 400 }
    }

    /// The reference's words for it.
    pub fn message(self) -> &'static str {
        match self {
            Refused::TransportUnknown => "Transport unknown",
            Refused::SessionUnknown => "Session ID unknown",
            Refused::BadHandshakeMethod => "Bad handshake method",
            Refused::BadRequest => "Bad request",
            Refused::Forbidden => "Forbidden",
            Refused::UnsupportedVersion => "Unsupported protocol version",
        }
    }

    /// The body of the answer: JSON.
    pub fn body(self) -> String {
        self.body_with(self.message())
    }

    /// The same with the server's own words.
    pub fn body_with(self, message: &str) -> String {
        let mut out = format!("{{\"code\":{},\"message\":", self.code()).into_bytes();
        crate::socketio::put_text(&mut out, message);
        out.push(b'}');
        String::from_utf8(out).unwrap_or_default() // `put_text` writes UTF-8
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl<'a> Query<'a> {
    /// Judges a request to a server that offers these transports. `is_upgrade`: it asks for a WebSocket.
    ///
    /// # Errors
    /// The first rule that it breaks, in the order of the reference: the transport, then what a handshake needs.
    pub fn judge(query: &'a str, method: &str, is_upgrade: bool, offered: Transports) -> Result<Query<'a>, Refused> {
        let transport = match parameter(query, "transport") {
            Some("polling") => Transport::Polling,
            Some("websocket") => Transport::WebSocket,
            _ => return Err(Refused::TransportUnknown),
        };
        if !offered.has(transport) {
            return Err(Refused::TransportUnknown);
        }
        // An empty id is none, as in the reference.
        let sid = parameter(query, "sid").filter(|sid| !sid.is_empty());
        let is_version_4 = parameter(query, "EIO") == Some("4");
        if sid.is_none() {
            if method != "GET" {
                return Err(Refused::BadHandshakeMethod);
            }
            if (transport == Transport::WebSocket) != is_upgrade {
                return Err(Refused::BadRequest);
            }
            if !is_version_4 {
                return Err(Refused::UnsupportedVersion);
            }
        }
        Ok(Query { transport, sid, is_version_4 })
    }
}

/// The first value of a parameter. No value that means something needs percent-encoding.
fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| match pair.split_once('=') {
        Some((key, value)) => (key == name).then_some(value),
        None => (pair == name).then_some(""),
    })
}
