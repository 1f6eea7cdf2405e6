//! The transports of Fanfare's messages to a client, as a load generator opens them.
//!
//! In: a transport, and the client's `connect` or its place in the stream. Out: one more connection of the [`Load`].
//! Wire: docs/protocol.md.

use std::fmt;

use super::http::{self, Form};
use super::{Load, LoadError};

/// The connections that carry streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Over {
    /// HTTP/1.1: one each, of which the stream is the first request.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2 {
        /// On each connection.
        streams: usize,
    },
}

/// The way of a client's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// A WebSocket.
    WebSocket,
    /// An event stream with the messages of the native protocol.
    Sse,
    /// NDJSON with the same.
    Stream,
    /// Requests that wait for messages.
    Poll,
    /// An event stream of plain payloads, with `Last-Event-ID`.
    Events,
    /// Socket.IO over a WebSocket, with connection state recovery.
    SocketIo,
}

impl Transport {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::WebSocket, Self::Sse, Self::Stream, Self::Poll, Self::Events, Self::SocketIo];
    /// Those by HTTP alone.
    pub const BY_HTTP: [Self; 4] = [Self::Sse, Self::Stream, Self::Poll, Self::Events];

    /// Where it is.
    fn target(self) -> &'static str {
        match self {
            Self::WebSocket => "/v1/ws",
            Self::Sse => "/v1/sse",
            Self::Stream => "/v1/stream",
            Self::Poll => "/v1/poll",
            Self::Events => "/events",
            Self::SocketIo => "/socket.io/",
        }
    }

    /// Opens a connection that sends this `connect` or poll. (A WebSocket sends it itself, when it is ready.)
    pub(crate) fn open(self, body: &str, load: &mut Load) -> Result<usize, LoadError> {
        let form = match self {
            Self::WebSocket | Self::SocketIo => return load.open(),
            Self::Sse | Self::Events => Form::Events,
            Self::Stream => Form::Lines,
            Self::Poll => Form::Answers,
        };
        load.open_request(form, http::post(load.addr(), self.target(), "", body))
    }

    /// Opens a plain event stream of one channel, which begins after `event_id`, or with the next publication.
    pub(crate) fn follow(channel: &str, event_id: &str, load: &mut Load) -> Result<usize, LoadError> {
        let target = format!("{}?channel={channel}", Self::Events.target());
        let after = match event_id {
            "" => String::new(),
            id => format!("Last-Event-ID: {id}\r\n"),
        };
        load.open_request(Form::Events, http::get(load.addr(), &target, &after))
    }

    /// Opens a connection of HTTP/2 with so many event streams, each of which follows this channel.
    pub(crate) fn follow_by_http2(self, channel: &str, streams: usize, load: &mut Load) -> Result<usize, LoadError> {
        let query = match self {
            Self::Events => format!("channel={channel}"),
            _ => {
                let connect = format!(r#"{{"type":"connect","id":1,"subscribe":[{{"channel":"{channel}"}}]}}"#);
                let escaped = |byte: u8| match byte {
                    b'"' | b'{' | b'}' | b'[' | b']' => format!("%{byte:02X}"),
                    plain => char::from(plain).to_string(),
                };
                format!("connect={}", connect.bytes().map(escaped).collect::<String>())
            }
        };
        load.open_http2(&format!("{}?{query}", self.target()), streams)
    }

    /// The next request of a client that polls.
    pub(crate) fn next_poll(body: &str, addr: std::net::SocketAddr) -> Vec<u8> {
        http::post(addr, Self::Poll.target(), "", body)
    }
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http1 => f.write_str("HTTP/1.1"),
            Self::Http2 { streams: 1 } => f.write_str("HTTP/2, one on a connection"),
            Self::Http2 { streams } => write!(f, "HTTP/2, {streams} on a connection"),
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.target())
    }
}
