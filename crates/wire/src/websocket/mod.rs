//! WebSocket: RFC 6455, both roles, sans-IO.
//!
//! In: bytes as they were read. Out: [`Event`]s, whole messages and control frames; and frames as bytes to write. The
//! [`Decoder`] holds memory only while a frame or a message is incomplete, checks every declared length against its
//! limit before it allocates anything, and refuses invalid UTF-8 at the first byte that proves it. Encoding cannot
//! fail; [`frame`] makes one server frame that any number of receivers can share.
//!
//! Left to the caller: answering pings and closes, timeouts, how many pings are too many, and reading after a close
//! (the decoder ignores all bytes after a close or an error). One extension is implemented, permessage-deflate
//! ([`deflate`]): where it was agreed on, read by [`Decoder::decode_with`]. [`Decoder::decode`] refuses RSV bits.
//!
//! ```
//! use fanfare_wire::websocket::{Decoder, Event, Limits, Opcode, ProtocolError, Role, put_frame};
//!
//! /// Takes what was read, appends what to write. After an error, write a close with its code and hang up.
//! fn echo(decoder: &mut Decoder, mut input: &mut [u8], out: &mut Vec<u8>) -> Result<(), ProtocolError> {
//!     while let Some(event) = decoder.decode(&mut input)? {
//!         match event {
//!             Event::Text(text) => put_frame(out, Opcode::Text, text.as_bytes(), None),
//!             Event::Binary(bytes) => put_frame(out, Opcode::Binary, bytes, None),
//!             Event::Ping(payload) => put_frame(out, Opcode::Pong, payload, None),
//!             Event::Pong(_) => {}
//!             Event::Close(frame) => {
//!                 let code = frame.map(|frame| frame.code.to_be_bytes());
//!                 put_frame(out, Opcode::Close, code.as_ref().map_or(&[], |code| &code[..]), None);
//!             }
//!         }
//!     }
//!     Ok(())
//! }
//!
//! let mut decoder = Decoder::new(Role::Server, Limits { message_bytes_max: 65_536 });
//! let (mut read, mut out) = (Vec::new(), Vec::new());
//! put_frame(&mut read, Opcode::Text, b"hello", Some([1, 2, 3, 4]));
//! echo(&mut decoder, &mut read, &mut out)?;
//! assert_eq!(out, b"\x81\x05hello");
//! # Ok::<(), ProtocolError>(())
//! ```

pub mod close;
mod decode;
pub mod deflate;
mod encode;
mod error;
#[doc(hidden)]
pub mod fuzz;
pub mod handshake;
mod header;
mod mask;
mod text;

#[cfg(test)]
mod tests;

pub use decode::Decoder;
pub use encode::{frame, frame_header_len, put_close, put_frame, put_frame_parts};
pub use error::ProtocolError;
pub use handshake::{
    Accepted, Established, HeadProgress, UpgradeRequestError, UpgradeResponseError, accept, client_key, is_upgrade,
    request, verify,
};
pub use mask::MaskSource;

/// Which end of the connection we are. It decides who masks: a client must, a server must not (RFC 6455 §5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// We accepted the connection: the frames that we read are masked.
    Server,
    /// We opened the connection: the frames that we read are not masked.
    Client,
}

/// The bounds of one connection's decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest message, in bytes of payload over all its fragments. There is no limit on the number of fragments. Zero
    /// allows empty messages only; control frames are not counted (they have the RFC's 125).
    pub message_bytes_max: usize,
}

/// One thing the peer said, whole. It borrows from the input or from the decoder: copy what is to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A text message; valid UTF-8 by its type.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// A ping, to be answered by a pong with the same payload (§5.5.2).
    Ping(&'a [u8]),
    /// A pong, asked for or not (§5.5.3).
    Pong(&'a [u8]),
    /// The peer closes; nothing that follows is decoded. `None`: the close frame was empty (code 1005 in the RFC's
    /// terms).
    Close(Option<CloseFrame<'a>>),
}

/// The body of a close frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloseFrame<'a> {
    /// A code that may appear on the wire, see [`close::may_receive`].
    pub code: u16,
    /// At most 123 bytes; often empty.
    pub reason: &'a str,
}

/// The six opcodes of RFC 6455 §5.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// A further fragment of the message under way.
    Continuation = 0x0,
    /// A text message, or its first fragment.
    Text = 0x1,
    /// A binary message, or its first fragment.
    Binary = 0x2,
    /// The closing handshake.
    Close = 0x8,
    /// "Are you there?"
    Ping = 0x9,
    /// "I am."
    Pong = 0xA,
}

impl Opcode {
    /// The opcode of these four bits, or `None` for one of the ten that are reserved.
    pub fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            _ => return None,
        })
    }

    /// Close, ping and pong: at most [`CONTROL_BYTES_MAX`] bytes and never fragmented (§5.5).
    pub fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// Longest payload of a control frame (RFC 6455 §5.5).
pub const CONTROL_BYTES_MAX: usize = 125;
