//! The faults of a peer on an open WebSocket, and the close code of each.
//!
//! Every variant is the peer's fault; the codec has no failures of its own. After any of them the connection is to be
//! closed with [`ProtocolError::close_code`] (RFC 6455 §7.1.7, "Fail the WebSocket Connection").

use super::{CONTROL_BYTES_MAX, Opcode};

/// The peer broke RFC 6455, or our limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// §5.2: reserved bits must be zero unless an extension gives them a meaning on this frame.
    #[error("reserved bits {bits:#05b} are set, and no extension gives them a meaning here")]
    ReservedBits {
        /// RSV1, RSV2, RSV3, from the highest of three bits to the lowest.
        bits: u8,
    },
    /// §5.2: opcodes 3-7 and B-F are reserved.
    #[error("opcode {opcode:#x} is reserved")]
    ReservedOpcode {
        /// As received, 0-15.
        opcode: u8,
    },
    /// §5.5: control frames are never fragmented.
    #[error("a {opcode:?} frame is fragmented, control frames must not be")]
    ControlFragmented {
        /// The frame's opcode.
        opcode: Opcode,
    },
    /// §5.5: control frames carry at most 125 bytes.
    #[error("a {opcode:?} frame is longer than {CONTROL_BYTES_MAX} bytes")]
    ControlTooLong {
        /// The frame's opcode.
        opcode: Opcode,
    },
    /// §5.1: a client masks every frame.
    #[error("a client's frame is not masked")]
    Unmasked,
    /// §5.1: a server masks none.
    #[error("a server's frame is masked")]
    Masked,
    /// §5.4: a continuation frame without a message to continue.
    #[error("a continuation frame came while no message was under way")]
    UnexpectedContinuation,
    /// §5.4: the fragments of two messages are never mixed.
    #[error("a {opcode:?} frame came inside a fragmented message")]
    MessageInterrupted {
        /// The opcode of the frame that should have been a continuation.
        opcode: Opcode,
    },
    /// §5.2: "the minimal number of bytes MUST be used to encode the length".
    #[error("length {len} is not encoded in the fewest bytes")]
    NonMinimalLength {
        /// As decoded.
        len: u64,
    },
    /// §5.2: the most significant bit of a 64-bit length must be 0.
    #[error("frame length {len} has its most significant bit set")]
    LengthTopBit {
        /// As decoded.
        len: u64,
    },
    /// The message would be longer than we allow. Found from the declared length, before anything is allocated; of a
    /// compressed message while it is decompressed, before more than the limit is held.
    #[error("message of at least {len} bytes exceeds the limit of {max}")]
    MessageTooLarge {
        /// Bytes of the message so far plus the declared length of this frame; or the bytes that were decompressed.
        len: u64,
        /// [`super::Limits::message_bytes_max`]; for the bytes of a compressed message
        /// [`super::deflate::compressed_bytes_max`] of it.
        max: usize,
    },
    /// §8.1: a text message that is not UTF-8.
    #[error("text message is not UTF-8 at byte {offset}")]
    TextNotUtf8 {
        /// The place of the first byte of the wrong or unfinished sequence in the message.
        offset: usize,
    },
    /// RFC 7692 §7.2.2: the payload of a compressed message is not DEFLATE.
    #[error("compressed message is not DEFLATE near byte {offset}")]
    NotDeflate {
        /// About where, in the compressed bytes.
        offset: usize,
    },
    /// RFC 7692 §7.2.2: a compressed message ends inside a block.
    #[error("compressed message ends inside a block")]
    DeflateUnfinished,
    /// A compressed message has more blocks that are marked as final than we allow: each makes the decoder begin anew.
    #[error("compressed message has more than {max} blocks that are marked as final")]
    FinalBlocks {
        /// [`super::deflate::FINAL_BLOCKS_MAX`].
        max: usize,
    },
    /// §5.5.1: a close frame is empty or starts with a two-byte code.
    #[error("a close frame has a payload of 1 byte, too short for a code")]
    CloseTooShort,
    /// §7.4: the code is reserved, undefined, or must not appear on the wire.
    #[error("close code {code} must not be sent")]
    CloseCodeInvalid {
        /// As received.
        code: u16,
    },
    /// §5.5.1: the reason is not UTF-8.
    #[error("close reason is not UTF-8 at byte {offset}")]
    CloseReasonNotUtf8 {
        /// In the reason.
        offset: usize,
    },
}

impl ProtocolError {
    /// The code to close with: 1007 for text that is not UTF-8 and for data that cannot be decompressed, 1009 for a
    /// message too big, otherwise 1002.
    pub fn close_code(&self) -> u16 {
        match self {
            Self::TextNotUtf8 { .. } | Self::CloseReasonNotUtf8 { .. } => 1007,
            Self::NotDeflate { .. } | Self::DeflateUnfinished | Self::FinalBlocks { .. } => 1007,
            Self::MessageTooLarge { .. } => 1009,
            _ => 1002,
        }
    }
}
