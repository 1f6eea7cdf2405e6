//! The ten ways to misbehave: what each client sends, and what it makes of the answers.
//!
//! No sockets here: bytes in, bytes and a [`Wish`] out. The texts are those of the native protocol, written by hand.

use std::fmt::{self, Write as _};
use std::net::SocketAddr;

use memchr::memmem;

use crate::load::dialect::Dialect;
use crate::load::frame::{self, FrameError};
use crate::load::{native, upgrade};

/// The way of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bad {
    /// Bytes that are no request: TLS, false HTTP, noise.
    Garbage,
    /// A request head, byte by byte.
    SlowHead,
    /// Upgrades and never sends `connect`.
    Silent,
    /// `connect` with a forged token, in a loop.
    BadToken,
    /// Messages and frames above the limit.
    Oversized,
    /// Broken JSON, in a loop.
    Broken,
    /// Publishes above the rate.
    Hasty,
    /// A new channel name in each command.
    Names,
    /// Asks for much, and reads nothing.
    Deaf,
    /// Connects, subscribes beside the good ones, and is cut off; in a loop.
    Restless,
}

/// The server's answer to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// An HTTP status.
    Status(u16),
    /// A WebSocket's close code.
    Code(u16),
    /// An `error` with this code; the connection stays.
    Refused(&'static str),
    /// The command was carried out; the connection stays.
    Done,
    /// The connection was ended without a word.
    Dropped,
    /// No connection came about.
    NotOpened,
}

/// What a client wants to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// Hear more.
    Wait,
    /// Act, in its turn.
    Act,
    /// Act, and read no more.
    BeDeaf,
    /// Cut the connection.
    Leave,
}

pub(super) struct Next {
    pub(super) end: Option<End>,
    pub(super) wish: Wish,
}

/// One thing that the server said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    Upgraded,
    Status(u16),
    Close(u16),
    Ping,
    Connected,
    Subscribed,
    Done,
    Refused(&'static str),
    Nothing,
}

/// The codes of refusals that are told apart.
const CODES: [&str; 13] = [
    "invalid_token",
    "unauthorized",
    "bad_request",
    "unknown_command",
    "too_large",
    "rate_limited",
    "limit_exceeded",
    "not_connected",
    "denied",
    "no_rule",
    "overloaded",
    "unavailable",
    "timeout",
];

/// A forged token: the right form, the wrong signature.
const FORGED: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhZGEiLCJleHAiOjQxMDI0NDQ4MDB9.\
                      AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Commands that the hasty ones send at once, so that all of them together are above their rates.
const BURST: u64 = 16;

/// Above every limit of the defaults, and short enough to be sent whole.
const OVERSIZE_BYTES: usize = 80 * 1024;

impl Bad {
    /// Each kind.
    pub const ALL: [Self; 10] = [
        Self::Garbage,
        Self::SlowHead,
        Self::Silent,
        Self::BadToken,
        Self::Oversized,
        Self::Broken,
        Self::Hasty,
        Self::Names,
        Self::Deaf,
        Self::Restless,
    ];

    /// Whether it acts once a second by itself.
    pub(super) fn is_slow(self) -> bool {
        matches!(self, Self::SlowHead | Self::Deaf)
    }

    pub(super) fn is_deaf(self) -> bool {
        self == Self::Deaf
    }

    /// The first bytes of a connection.
    pub(super) fn begin(self, addr: SocketAddr, acts: u64, out: &mut Vec<u8>) {
        match self {
            Self::Garbage => out.extend_from_slice(garbage(acts)),
            Self::SlowHead => out.extend_from_slice(format!("GET /v1/ws HTTP/1.1\r\nHost: {addr}\r\nX-A: ").as_bytes()),
            _ => out.extend_from_slice(&upgrade(addr, Dialect::Native, "")),
        }
    }

    /// What it does when it is connected. `client` is its number among all, and `acts` counts up.
    pub(super) fn act(self, client: usize, acts: u64, out: &mut Vec<u8>) {
        let mut text = String::new();
        match self {
            Self::Garbage | Self::Silent | Self::Restless => return,
            Self::SlowHead => return out.push(b'a'),
            Self::BadToken => {
                let _ = write!(text, r#"{{"type":"connect","id":0,"token":"{FORGED}"}}"#);
            }
            // In turns: a message that is too long, and the head of a frame that would be far too long.
            Self::Oversized if acts.is_multiple_of(2) => {
                let filler = "x".repeat(OVERSIZE_BYTES);
                let _ = write!(text, r#"{{"type":"publish","id":1,"channel":"flood:size","data":"{filler}"}}"#);
            }
            Self::Oversized => {
                out.extend_from_slice(&[0x81, 0xff, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 1, 2, 3, 4]);
                return out.extend_from_slice(&[b'x'; 4096]);
            }
            Self::Broken | Self::Hasty | Self::Names => {
                for n in 0..BURST {
                    let command = match self {
                        Self::Broken => broken(acts + n).to_owned(),
                        Self::Hasty => {
                            r#"{"type":"publish","id":1,"channel":"flood:hasty","data":{"text":"again"}}"#.to_owned()
                        }
                        _ => {
                            let channel = format!("flood:{client}-{acts}-{n}");
                            format!(r#"{{"type":"history","id":1,"channel":"{channel}","limit":1}}"#)
                        }
                    };
                    frame::encode_masked(frame::TEXT, command.as_bytes(), out);
                }
                return;
            }
            Self::Deaf => {
                let filler = "d".repeat(16 * 1024);
                let _ = write!(text, r#"{{"type":"publish","id":1,"channel":"flood:deaf","data":"{filler}"}}"#);
                frame::encode_masked(frame::TEXT, text.as_bytes(), out);
                text.clear();
                text.push_str(r#"{"type":"history","id":2,"channel":"flood:deaf","limit":100}"#);
            }
        }
        frame::encode_masked(frame::TEXT, text.as_bytes(), out);
    }

    /// What it makes of something that it heard.
    pub(super) fn answer(self, heard: &Heard, out: &mut Vec<u8>) -> Next {
        let next = |end, wish| Next { end, wish };
        let act = if matches!(self, Self::SlowHead | Self::Silent | Self::Garbage) { Wish::Wait } else { Wish::Act };
        match *heard {
            Heard::Upgraded => match self {
                Self::Silent => next(None, Wish::Wait),
                Self::BadToken => next(None, Wish::Act),
                _ => {
                    let channel = match self {
                        Self::Restless => Some("bench-0"),
                        Self::Deaf => Some("flood:deaf"),
                        _ => None,
                    };
                    let mut text = String::new();
                    native::connect(None, channel.map(|channel| (channel, None)), &mut text);
                    frame::encode_masked(frame::TEXT, text.as_bytes(), out);
                    next(None, Wish::Wait)
                }
            },
            Heard::Status(status) => next(Some(End::Status(status)), Wish::Wait),
            Heard::Close(code) => next(Some(End::Code(code)), Wish::Leave),
            Heard::Ping => {
                frame::encode_masked(frame::TEXT, native::PONG.as_bytes(), out);
                next(None, Wish::Wait)
            }
            Heard::Connected => next(None, if matches!(self, Self::Restless | Self::Deaf) { Wish::Wait } else { act }),
            Heard::Subscribed => match self {
                Self::Restless => next(Some(End::Done), Wish::Leave),
                Self::Deaf => next(None, Wish::BeDeaf),
                _ => next(Some(End::Done), act),
            },
            Heard::Done => next(Some(End::Done), act),
            Heard::Refused(code) => next(Some(End::Refused(code)), act),
            Heard::Nothing => next(None, Wish::Wait),
        }
    }
}

impl End {
    /// Whether the connection is over with it.
    pub(super) fn is_last(self) -> bool {
        matches!(self, Self::Status(_) | Self::Code(_) | Self::Dropped | Self::NotOpened)
    }
}

fn garbage(acts: u64) -> &'static [u8] {
    const KINDS: [&[u8]; 6] = [
        // The beginning of a ClientHello.
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\xa9\x0d\x0a\x0d\x0a",
        b"\0\xff\xfe\x80noise\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        b"POST /v1/send HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"GET /v1/ws HTTP/1.1\nHost: a\rb\r\n\r\n",
    ];
    KINDS[(acts % KINDS.len() as u64) as usize]
}

fn broken(acts: u64) -> &'static str {
    const KINDS: [&str; 5] =
        [r#"{"type":"#, "[[[[[[[[[[[[[[[[", r#"{"type":"nothing","id":1}"#, "\"\\ud800\"", r#"{"id":1e999}"#];
    KINDS[(acts % KINDS.len() as u64) as usize]
}

/// The first thing in `bytes`, and how many bytes it takes; `None` if more bytes are needed.
pub(super) fn hear(bytes: &[u8], is_upgraded: bool) -> Result<Option<(Heard, usize)>, FrameError> {
    if !is_upgraded {
        let Some(end) = memmem::find(bytes, b"\r\n\r\n") else { return Ok(None) };
        let status = bytes.strip_prefix(b"HTTP/1.1 ").and_then(|rest| std::str::from_utf8(rest.get(..3)?).ok());
        return Ok(Some(match status.and_then(|digits| digits.parse().ok()) {
            Some(101) => (Heard::Upgraded, end + 4),
            // Its body is not of interest.
            Some(status) => (Heard::Status(status), bytes.len()),
            None => (Heard::Nothing, bytes.len()),
        }));
    }
    let Some((frame, used)) = frame::decode(bytes)? else { return Ok(None) };
    let heard = match (frame.opcode, frame.payload) {
        (frame::CLOSE, &[a, b, ..]) => Heard::Close(u16::from_be_bytes([a, b])),
        (frame::CLOSE, _) => Heard::Close(1005),
        (frame::TEXT, native::PING) => Heard::Ping,
        (frame::TEXT, text) => said(text),
        _ => Heard::Nothing,
    };
    Ok(Some((heard, used)))
}

fn said(text: &[u8]) -> Heard {
    let Some(rest) = text.strip_prefix(br#"{"type":""#) else { return Heard::Nothing };
    let kind = &rest[..memchr::memchr(b'"', rest).unwrap_or(rest.len())];
    match kind {
        b"connected" => Heard::Connected,
        b"subscribed" => Heard::Subscribed,
        b"published" | b"history" | b"result" => Heard::Done,
        b"error" => {
            let is = |code: &&&str| memmem::find(rest, format!(r#""code":"{code}""#).as_bytes()).is_some();
            Heard::Refused(CODES.iter().find(is).copied().unwrap_or("another code"))
        }
        _ => Heard::Nothing,
    }
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Garbage => "garbage",
            Self::SlowHead => "slow heads",
            Self::Silent => "no connect",
            Self::BadToken => "bad tokens",
            Self::Oversized => "oversized",
            Self::Broken => "broken JSON",
            Self::Hasty => "above the rate",
            Self::Names => "new names",
            Self::Deaf => "reads nothing",
            Self::Restless => "reconnects",
        })
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "answered {status}"),
            Self::Code(code) => write!(f, "closed with {code}"),
            Self::Refused(code) => write!(f, "refused, {code}"),
            Self::Done => f.write_str("carried out"),
            Self::Dropped => f.write_str("ended without a word"),
            Self::NotOpened => f.write_str("not opened"),
        }
    }
}
