//! Packets of Engine.IO: one at a time from a frame, or one after another from a payload.
//!
//! In: text or bytes of any content. Out: [`Packet`]s that borrow from it, or the first [`PacketError`]. A payload ends
//! at its first error, as in the reference: the packets before it are good.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::engine::{DecodePaddingMode, general_purpose};
use std::borrow::Cow;

/// Stands between the packets of a payload.
pub const SEPARATOR: char = '\u{1e}';

/// Base64 as clients write it: padding is optional.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// One packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet<'a> {
    /// `0`: begins a session. From the server only.
    Open(&'a str),
    /// `1`: ends the session.
    Close,
    /// `2`: asks for a pong with the same data. From the server, and from a client as its probe.
    Ping(&'a str),
    /// `3`: answers a ping.
    Pong(&'a str),
    /// `4`: a message of text.
    Text(&'a str),
    /// A message of bytes.
    Binary(Cow<'a, [u8]>),
    /// `5`: the client goes on with its WebSocket.
    Upgrade,
    /// `6`: releases a poll.
    Noop,
}

/// Why a packet cannot be read. The session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PacketError {
    /// Nothing at all.
    #[error("an empty packet")]
    Empty,
    /// A character that stands for no kind.
    #[error("a packet begins with {0:?}")]
    Kind(char),
    /// A binary message that is not base64.
    #[error("a binary packet is no base64")]
    Base64,
}

impl PacketError {
    /// One word for it, for figures.
    pub fn cause(&self) -> &'static str {
        match self {
            PacketError::Empty => "empty_packet",
            PacketError::Kind(_) => "packet_kind",
            PacketError::Base64 => "base64",
        }
    }
}

impl<'a> Packet<'a> {
    /// Reads a packet of text: a text frame, or one packet of a payload.
    ///
    /// # Errors
    /// The packet is empty, of no kind, or bad base64.
    pub fn decode(text: &'a str) -> Result<Packet<'a>, PacketError> {
        let mut chars = text.chars();
        let kind = chars.next().ok_or(PacketError::Empty)?;
        let data = chars.as_str();
        // The reference ignores data after the kinds that have none.
        match kind {
            '0' => Ok(Packet::Open(data)),
            '1' => Ok(Packet::Close),
            '2' => Ok(Packet::Ping(data)),
            '3' => Ok(Packet::Pong(data)),
            '4' => Ok(Packet::Text(data)),
            '5' => Ok(Packet::Upgrade),
            '6' => Ok(Packet::Noop),
            'b' => LENIENT.decode(data).map(|bytes| Packet::Binary(bytes.into())).map_err(|_| PacketError::Base64),
            other => Err(PacketError::Kind(other)),
        }
    }

    /// Appends the packet as text; a binary message as base64.
    pub fn put(&self, out: &mut Vec<u8>) {
        let (kind, data) = match self {
            Packet::Open(data) => (b'0', *data),
            Packet::Close => (b'1', ""),
            Packet::Ping(data) => (b'2', *data),
            Packet::Pong(data) => (b'3', *data),
            Packet::Text(data) => (b'4', *data),
            Packet::Upgrade => (b'5', ""),
            Packet::Noop => (b'6', ""),
            Packet::Binary(bytes) => return put_binary(out, bytes),
        };
        out.push(kind);
        out.extend_from_slice(data.as_bytes());
    }
}

/// Appends a binary message as text: `b` and base64.
pub fn put_binary(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'b');
    out.extend_from_slice(general_purpose::STANDARD.encode(bytes).as_bytes());
}

/// Appends one more packet to a payload.
pub fn put_payload(out: &mut Vec<u8>, packet: &Packet<'_>) {
    if !out.is_empty() {
        out.push(SEPARATOR as u8);
    }
    packet.put(out);
}

/// The packets of a payload, in order. The first error is the last item.
#[derive(Debug, Clone)]
pub struct Payload<'a> {
    /// The unread packets; `None` after the end.
    rest: Option<&'a str>,
}

impl<'a> Payload<'a> {
    /// The packets in the body of a request or answer.
    pub fn new(body: &'a str) -> Self {
        Payload { rest: Some(body) }
    }
}

impl<'a> Iterator for Payload<'a> {
    type Item = Result<Packet<'a>, PacketError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest.take()?;
        let text = match rest.split_once(SEPARATOR) {
            Some((text, rest)) => {
                self.rest = Some(rest);
                text
            }
            None => rest,
        };
        let packet = Packet::decode(text);
        if packet.is_err() {
            self.rest = None;
        }
        Some(packet)
    }
}
