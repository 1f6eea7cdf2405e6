//! Frames as bytes (RFC 6455 §5.2). Cannot fail; lengths are always written in the fewest bytes.
//!
//! A server passes no mask, a client one fresh key per frame ([`super::MaskSource`]). [`frame`] is for fan-out: encoded
//! once, shared by every receiver.

use bytes::Bytes;

use super::{CONTROL_BYTES_MAX, Opcode, close, mask};

/// One whole unfragmented server frame, in one allocation of exactly its size. Cloning it shares the bytes.
pub fn frame(opcode: Opcode, payload: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(frame_header_len(payload.len(), false) + payload.len());
    put_frame(&mut out, opcode, payload, None);
    Bytes::from(out)
}

/// How many bytes stand before a payload of this length: 2 to 14.
pub fn frame_header_len(payload_len: usize, masked: bool) -> usize {
    let length = match payload_len {
        0..=125 => 2,
        126..=0xFFFF => 4,
        _ => 10,
    };
    length + if masked { 4 } else { 0 }
}

/// Appends one whole, unfragmented frame.
///
/// Control frames carry at most [`CONTROL_BYTES_MAX`] bytes: a longer payload is the caller's mistake (checked in debug
/// builds).
pub fn put_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], mask: Option<[u8; 4]>) {
    put_frame_parts(out, true, false, opcode, payload, mask);
}

/// Appends one frame, with the bits that fragments (`fin`) and extensions (`rsv1`) need.
///
/// A fragmented message is `Text` or `Binary` without `fin`, then `Continuation`s, the last one with `fin`; control
/// frames may stand between them.
pub fn put_frame_parts(
    out: &mut Vec<u8>,
    fin: bool,
    rsv1: bool,
    opcode: Opcode,
    payload: &[u8],
    mask: Option<[u8; 4]>,
) {
    debug_assert!(
        !opcode.is_control() || (fin && payload.len() <= CONTROL_BYTES_MAX),
        "RFC 6455 §5.5: a control frame is whole and carries at most {CONTROL_BYTES_MAX} bytes, not {}",
        payload.len()
    );
    out.reserve(frame_header_len(payload.len(), mask.is_some()) + payload.len());
    out.push(u8::from(fin) << 7 | u8::from(rsv1) << 6 | opcode as u8);
    let masked = u8::from(mask.is_some()) << 7;
    match payload.len() {
        len @ 0..=125 => out.push(masked | len as u8),
        len @ 126..=0xFFFF => {
            out.push(masked | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(masked | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    if let Some(key) = mask {
        out.extend_from_slice(&key);
        let start = out.len();
        out.extend_from_slice(payload);
        mask::apply(&mut out[start..], key);
    } else {
        out.extend_from_slice(payload);
    }
}

/// Appends a close frame. A reason longer than 123 bytes is cut at the end of a character.
///
/// `code` must be one that [`close::may_receive`] (checked in debug builds). To close without a code (1005), write an
/// empty frame: `put_frame(out, Opcode::Close, b"", mask)`.
pub fn put_close(out: &mut Vec<u8>, code: u16, reason: &str, mask: Option<[u8; 4]>) {
    debug_assert!(close::may_receive(code), "close code {code} must not be sent");
    let reason = &reason.as_bytes()[..reason.floor_char_boundary(CONTROL_BYTES_MAX - 2)];
    let mut body = [0; CONTROL_BYTES_MAX];
    body[..2].copy_from_slice(&code.to_be_bytes());
    body[2..2 + reason.len()].copy_from_slice(reason);
    put_frame(out, Opcode::Close, &body[..2 + reason.len()], mask);
}
