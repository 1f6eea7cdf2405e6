//! WebSocket frames, just enough for a load generator and for the floor.
//!
//! Decodes in place and allocates nothing, because its cost must not distort the measurement. It knows whole frames
//! only: no server here splits messages as small as ours, and a split message is reported as an error. A client must
//! mask (RFC 6455 §5.3); the key is a constant, which costs the server the same work as a random one.

use thiserror::Error;

/// RFC 6455 §5.2.
pub const TEXT: u8 = 0x1;
/// RFC 6455 §5.2.
pub const BINARY: u8 = 0x2;
/// RFC 6455 §5.5.1.
pub const CLOSE: u8 = 0x8;
/// RFC 6455 §5.5.2.
pub const PING: u8 = 0x9;
/// RFC 6455 §5.5.3.
pub const PONG: u8 = 0xA;

/// The longest frame that a server may send: the `room_state` of a room of 100,000 still fits.
pub const FRAME_BYTES_MAX: u64 = 16 * 1024 * 1024;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// One whole frame; the payload still masked if `mask` is set.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// One of the constants above.
    pub opcode: u8,
    /// RFC 7692 §6: the payload is a compressed message.
    pub compressed: bool,
    /// Set in frames from a client.
    pub mask: Option<[u8; 4]>,
    /// Its bytes in the buffer.
    pub payload: &'a [u8],
}

/// The other side did not send a frame that this codec reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrameError {
    /// Reserved bits are set, although no extension was agreed.
    #[error("frame with reserved bits, first byte {first:#04x}")]
    Reserved {
        /// The frame's first byte.
        first: u8,
    },
    /// A part of a fragmented message, or an opcode outside RFC 6455.
    #[error("frame is not a whole message, first byte {first:#04x}")]
    NotWhole {
        /// The frame's first byte.
        first: u8,
    },
    /// Longer than any frame of the benchmark.
    #[error("frame of {len} bytes exceeds the limit of {max}")]
    TooLong {
        /// The length that its header states.
        len: u64,
        /// [`FRAME_BYTES_MAX`].
        max: u64,
    },
}

/// Looks at the front of `buf`: a frame and how many bytes it takes, or `None` if more bytes are needed.
pub fn decode(buf: &[u8]) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    let [first, second, ..] = *buf else { return Ok(None) };
    let opcode = first & 0x0f;
    let compressed = first & 0x40 != 0;
    if first & 0x30 != 0 || (compressed && !matches!(opcode, TEXT | BINARY)) {
        return Err(FrameError::Reserved { first });
    }
    if first & 0x80 == 0 || !matches!(opcode, TEXT | BINARY | CLOSE | PING | PONG) {
        return Err(FrameError::NotWhole { first });
    }
    let (len, mut head) = match second & 0x7f {
        126 => match buf.get(2..4) {
            Some(&[a, b]) => (u64::from(u16::from_be_bytes([a, b])), 4),
            _ => return Ok(None),
        },
        127 => match buf.get(2..10).and_then(|bytes| <[u8; 8]>::try_from(bytes).ok()) {
            Some(bytes) => (u64::from_be_bytes(bytes), 10),
            None => return Ok(None),
        },
        short => (u64::from(short), 2),
    };
    if len > FRAME_BYTES_MAX {
        return Err(FrameError::TooLong { len, max: FRAME_BYTES_MAX });
    }
    let mask = if second & 0x80 == 0 {
        None
    } else {
        let Some(&[a, b, c, d]) = buf.get(head..head + 4) else { return Ok(None) };
        head += 4;
        Some([a, b, c, d])
    };
    let end = head + len as usize; // at most FRAME_BYTES_MAX, so it fits
    Ok(buf.get(head..end).map(|payload| (Frame { opcode, compressed, mask, payload }, end)))
}

/// Appends a frame as a server sends it: unmasked.
pub fn encode(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    head(opcode, payload.len(), 0, out);
    out.extend_from_slice(payload);
}

/// Appends a frame as a client sends it: masked.
pub fn encode_masked(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    head(opcode, payload.len(), 0x80, out);
    out.extend_from_slice(&MASK);
    let start = out.len();
    out.extend_from_slice(payload);
    apply_mask(&mut out[start..], MASK);
}

/// Masks or unmasks; the same work either way.
pub fn apply_mask(bytes: &mut [u8], mask: [u8; 4]) {
    // Eight bytes at a time: the floor unmasks too, and must not be slower than a server with a vectorised codec.
    let wide = u64::from_ne_bytes([mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3]]);
    let (chunks, rest) = bytes.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

fn head(opcode: u8, len: usize, mask_bit: u8, out: &mut Vec<u8>) {
    out.push(0x80 | opcode);
    match len {
        0..=125 => out.push(mask_bit | len as u8),
        126..=0xffff => {
            out.push(mask_bit | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(mask_bit | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_of_rfc_6455_section_5_7() {
        let table: &[(&str, &[u8], Frame<'_>)] = &[
            (
                "unmasked text",
                &[0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f],
                Frame { opcode: TEXT, compressed: false, mask: None, payload: b"Hello" },
            ),
            (
                "masked text",
                &[0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58],
                Frame { opcode: TEXT, compressed: false, mask: Some(MASK), payload: &[0x7f, 0x9f, 0x4d, 0x51, 0x58] },
            ),
            ("ping", &[0x89, 0x00], Frame { opcode: PING, compressed: false, mask: None, payload: b"" }),
        ];
        for (name, bytes, frame) in table {
            let (got, len) = decode(bytes).expect(name).expect(name);
            assert_eq!((&got, len), (frame, bytes.len()), "{name}");
        }
        let mut out = Vec::new();
        encode_masked(TEXT, b"Hello", &mut out);
        assert_eq!(out, table[1].1);
    }

    #[test]
    fn every_length_form_survives_a_round_trip_and_every_cut() {
        for len in [0, 1, 7, 8, 9, 125, 126, 127, 0xffff, 0x10000] {
            let payload: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let mut bytes = Vec::new();
            encode_masked(BINARY, &payload, &mut bytes);
            for cut in (0..bytes.len()).step_by(1 + bytes.len() / 200) {
                assert_eq!(decode(&bytes[..cut]), Ok(None), "{len} bytes cut at {cut}");
            }
            let (frame, end) = decode(&bytes).expect("valid").expect("whole");
            assert_eq!(end, bytes.len());
            let mut unmasked = frame.payload.to_vec();
            apply_mask(&mut unmasked, frame.mask.expect("masked"));
            assert_eq!(unmasked, payload, "{len} bytes");
        }
    }

    #[test]
    fn only_a_message_can_be_compressed() {
        let frame = Frame { opcode: TEXT, compressed: true, mask: None, payload: b"\x00" };
        assert_eq!(decode(&[0xc1, 0x01, 0x00]), Ok(Some((frame, 3))));
        assert_eq!(decode(&[0xc9, 0x00]), Err(FrameError::Reserved { first: 0xc9 }));
    }

    #[test]
    fn an_unknown_frame_is_an_error_not_a_guess() {
        assert_eq!(decode(&[0x01, 0x00]), Err(FrameError::NotWhole { first: 0x01 }));
        assert_eq!(decode(&[0x80, 0x00]), Err(FrameError::NotWhole { first: 0x80 }));
        assert_eq!(decode(&[0xa1, 0x00]), Err(FrameError::Reserved { first: 0xa1 }));
        let huge = [0x82, 127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(decode(&huge), Err(FrameError::TooLong { len: i64::MAX as u64, max: FRAME_BYTES_MAX }));
    }
}
