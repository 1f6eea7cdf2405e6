//! Decompression of messages (RFC 7692), for all connections of a load generator together.
//!
//! No context is kept from one message to the next: the generator asks every server for that. So equal bytes are equal
//! messages, and a message that many receivers get in the same bytes is decompressed once.

use flate2::{Decompress, FlushDecompress, Status};

/// The tail that a sender leaves out (RFC 7692 §7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// Longer than any message of the benchmark.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// Not a compressed message, or too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a compressed message of {len} bytes cannot be decompressed")]
pub struct InflateError {
    /// The number of compressed bytes.
    len: usize,
}

/// The latest message, in both forms.
#[derive(Debug)]
pub(super) struct Inflater {
    inflate: Decompress,
    compressed: Vec<u8>,
    plain: Vec<u8>,
}

impl Default for Inflater {
    fn default() -> Self {
        Self { inflate: Decompress::new(false), compressed: Vec::new(), plain: Vec::new() }
    }
}

impl Inflater {
    pub(super) fn inflate(&mut self, payload: &[u8]) -> Result<&[u8], InflateError> {
        if self.compressed == payload && !payload.is_empty() {
            return Ok(&self.plain);
        }
        let failed = InflateError { len: payload.len() };
        self.inflate.reset(false);
        self.compressed.clear();
        self.plain.clear();
        for part in [payload, &TAIL] {
            let end = self.inflate.total_in() + part.len() as u64;
            while self.inflate.total_in() < end {
                let rest = &part[part.len() - (end - self.inflate.total_in()) as usize..];
                self.plain.reserve(4096);
                let status = self.inflate.decompress_vec(rest, &mut self.plain, FlushDecompress::Sync);
                if !matches!(status, Ok(Status::Ok)) || self.plain.len() > MESSAGE_BYTES_MAX {
                    return Err(failed);
                }
            }
        }
        self.compressed.extend_from_slice(payload);
        Ok(&self.plain)
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Compress, Compression, FlushCompress};

    use super::*;

    fn deflated(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len() + 1024);
        Compress::new(Compression::fast(), false)
            .compress_vec(text, &mut out, FlushCompress::Sync)
            .expect("room for all of it");
        assert!(out.ends_with(&TAIL));
        out.truncate(out.len() - TAIL.len());
        out
    }

    #[test]
    fn messages_one_after_the_other_and_again() {
        let long: Vec<u8> = (0..20_000u32).flat_map(|n| n.to_be_bytes()).collect();
        let mut inflater = Inflater::default();
        for text in [b"hello".as_slice(), &long, b"hello", b"hello"] {
            assert_eq!(inflater.inflate(&deflated(text)).expect("valid"), text);
        }
        assert_eq!(inflater.inflate(&[0]), Ok(b"".as_slice())); // RFC 7692 §7.2.3.6
        // RFC 7692 §7.2.3.1: "Hello".
        assert_eq!(inflater.inflate(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]), Ok(b"Hello".as_slice()));
    }

    #[test]
    fn garbage_and_bombs_are_errors() {
        let mut inflater = Inflater::default();
        assert!(inflater.inflate(&[0xff, 0xff, 0xff]).is_err());
        assert!(inflater.inflate(&deflated(&vec![0; MESSAGE_BYTES_MAX + 10_000])).is_err());
        assert_eq!(inflater.inflate(&deflated(b"fine")), Ok(b"fine".as_slice()));
    }
}
