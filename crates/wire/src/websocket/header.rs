//! The frame header (RFC 6455 §5.2), read and judged.
//!
//! In: the first bytes of a frame, and the frames that are allowed now. Out: the header and its length, `None` for more
//! bytes, or the error, as soon as the byte that proves it is there. A header that comes out obeys every rule that does
//! not need the payload, and its length is within the limit.

use super::deflate::compressed_bytes_max;
use super::{Opcode, ProtocolError, Role};

/// 2 bytes, 8 of length, 4 of key.
pub(super) const HEADER_BYTES_MAX: usize = 14;

/// The highest of the three reserved bits.
const RSV1: u8 = 0b100;

/// One frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) fin: bool,
    /// RSV1 is set: the message is compressed (RFC 7692 §6). Only where [`Expected::deflate`] allows it.
    pub(super) deflated: bool,
    pub(super) opcode: Opcode,
    /// The length of the payload.
    pub(super) len: usize,
    pub(super) mask: Option<[u8; 4]>,
}

/// The frames that are allowed next on this connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected {
    pub(super) role: Role,
    /// Bytes of the fragmented message under way, if there is one.
    pub(super) message_len: Option<usize>,
    /// For its payload as it is on the wire.
    pub(super) message_bytes_max: usize,
    /// permessage-deflate was negotiated.
    pub(super) deflate: bool,
}

impl Header {
    #[inline]
    pub(super) fn parse(bytes: &[u8], expected: Expected) -> Result<Option<(Self, usize)>, ProtocolError> {
        let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };

        let reserved = first >> 4 & 0x7;
        // RFC 7692 §6.1: RSV1 is set on the first frame of a compressed message, and on no other frame.
        if reserved != 0 && !(reserved == RSV1 && expected.deflate && matches!(first & 0xF, 0x1 | 0x2)) {
            return Err(ProtocolError::ReservedBits { bits: reserved });
        }
        let Some(opcode) = Opcode::from_bits(first & 0xF) else {
            return Err(ProtocolError::ReservedOpcode { opcode: first & 0xF });
        };
        let fin = first & 0x80 != 0;
        let masked = second & 0x80 != 0;
        let short = second & 0x7F;

        // §5.1: "a server MUST close the connection upon receiving a frame that is not masked", and the reverse.
        match (expected.role, masked) {
            (Role::Server, false) => return Err(ProtocolError::Unmasked),
            (Role::Client, true) => return Err(ProtocolError::Masked),
            _ => {}
        }
        match (opcode, expected.message_len) {
            (Opcode::Close | Opcode::Ping | Opcode::Pong, _) => {
                if !fin {
                    return Err(ProtocolError::ControlFragmented { opcode });
                }
                if short > 125 {
                    return Err(ProtocolError::ControlTooLong { opcode });
                }
            }
            (Opcode::Continuation, None) => return Err(ProtocolError::UnexpectedContinuation),
            (Opcode::Text | Opcode::Binary, Some(_)) => return Err(ProtocolError::MessageInterrupted { opcode }),
            _ => {}
        }

        let (len, rest) = match short {
            126 => {
                let Some((&len, rest)) = rest.split_first_chunk() else { return Ok(None) };
                let len = u64::from(u16::from_be_bytes(len));
                if len < 126 {
                    return Err(ProtocolError::NonMinimalLength { len });
                }
                (len, rest)
            }
            127 => {
                let Some((&len, rest)) = rest.split_first_chunk() else { return Ok(None) };
                let len = u64::from_be_bytes(len);
                if len >> 63 != 0 {
                    return Err(ProtocolError::LengthTopBit { len });
                }
                if len <= u64::from(u16::MAX) {
                    return Err(ProtocolError::NonMinimalLength { len });
                }
                (len, rest)
            }
            short => (u64::from(short), rest),
        };
        if !opcode.is_control() {
            // Neither term reaches 2^63, so the sum cannot overflow; and a sum within the limit fits a `usize`.
            let total = len + expected.message_len.unwrap_or(0) as u64;
            let max = match reserved {
                0 => expected.message_bytes_max,
                _ => compressed_bytes_max(expected.message_bytes_max),
            };
            if total > max as u64 {
                return Err(ProtocolError::MessageTooLarge { len: total, max });
            }
        }

        let (mask, rest) = if masked {
            let Some((&mask, rest)) = rest.split_first_chunk() else { return Ok(None) };
            (Some(mask), rest)
        } else {
            (None, rest)
        };
        Ok(Some((Self { fin, deflated: reserved != 0, opcode, len: len as usize, mask }, bytes.len() - rest.len())))
    }
}
