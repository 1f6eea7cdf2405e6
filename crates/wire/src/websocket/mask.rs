//! Masking (RFC 6455 §5.3): payload XOR a four-byte key, the same both ways.
//!
//! [`apply`] starts at the key's first byte; across cuts the caller keeps the phase with [`rotated`]. Randomness is
//! passed in: [`MaskSource`] draws keys from a seed.

/// XORs `data` with the repeated `key`.
#[inline]
pub(super) fn apply(data: &mut [u8], key: [u8; 4]) {
    // Words of 8 bytes by constant-size chunks: LLVM turns this loop into vector XORs without any `unsafe`; a plain
    // loop over `zip(key.cycle())` stays one byte at a time. 8, not 16 or 32, keeps the scalar tail below 8 bytes,
    // and most messages are short.
    let [a, b, c, d] = key;
    let bytes = [a, b, c, d, a, b, c, d];
    let word = u64::from_ne_bytes(bytes);
    let (chunks, tail) = data.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ word).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(bytes) {
        *byte ^= key;
    }
}

/// The key rotated by `len` bytes: the next bytes start at its first byte again.
#[inline]
pub(super) fn rotated(mut key: [u8; 4], len: usize) -> [u8; 4] {
    key.rotate_left(len % 4);
    key
}

/// Masking keys for a client, from a seed.
///
/// §10.3 wants keys that the author of the payload cannot predict, because a browser runs untrusted scripts. A native
/// client writes its own payloads, so xorshift is enough, given a seed from the system's entropy.
#[derive(Debug, Clone)]
pub struct MaskSource {
    state: u64,
}

impl MaskSource {
    /// A source that gives the same keys for the same seed.
    pub fn new(seed: u64) -> Self {
        // SplitMix64's finisher: similar seeds shall not give similar keys, and xorshift must not start at 0.
        let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        Self { state: if z == 0 { 0x9E37_79B9_7F4A_7C15 } else { z } }
    }

    /// The next key.
    pub fn next_mask(&mut self) -> [u8; 4] {
        let mut x = self.state;
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.state = x;
        // xorshift64*: the upper half of the product is the good half.
        ((x.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) as u32).to_ne_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_and_alignment_equals_the_byte_loop() {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        let source: Vec<u8> = (0..200u16).map(|i| (i * 7) as u8).collect();
        for start in 0..9 {
            for end in start..source.len() {
                let mut fast = source[start..end].to_vec();
                apply(&mut fast, key);
                let slow: Vec<u8> = source[start..end].iter().enumerate().map(|(i, b)| b ^ key[i % 4]).collect();
                assert_eq!(fast, slow, "{start}..{end}");
            }
        }
    }

    #[test]
    fn the_phase_survives_any_cut() {
        let key = [1, 2, 3, 4];
        let mut whole: Vec<u8> = (0..50).collect();
        apply(&mut whole, key);
        for cut in 0..50usize {
            let mut parts: Vec<u8> = (0..50).collect();
            let (head, tail) = parts.split_at_mut(cut);
            apply(head, key);
            apply(tail, rotated(key, cut));
            assert_eq!(parts, whole, "cut at {cut}");
        }
    }

    #[test]
    fn keys_follow_the_seed_and_do_not_repeat_soon() {
        for seed in [0, 1, u64::MAX] {
            let mut source = MaskSource::new(seed);
            let keys: std::collections::HashSet<_> = (0..1000).map(|_| source.next_mask()).collect();
            assert!(keys.len() > 995, "seed {seed}: {} different keys", keys.len());
            assert!(keys.contains(&MaskSource::new(seed).next_mask()));
        }
        assert_ne!(MaskSource::new(1).next_mask(), MaskSource::new(2).next_mask());
    }
}
