//! The payload of a message as it arrives in pieces.
//!
//! [`Text`] holds a `String`, so what it gives back is UTF-8 by construction and is validated once; the one to three
//! bytes of a character cut in two wait beside it. A byte that no continuation could make valid is an error at once,
//! not at the end of the frame (Autobahn 6.4.*). Buffers grow as bytes arrive, by doubling, and never past `len_max`.

/// A text message under way.
#[derive(Debug, Default)]
pub(super) struct Text {
    valid: String,
    /// The start of a character whose rest has not come; its first `cut_len` bytes count.
    cut: [u8; 3],
    cut_len: u8,
}

/// Not UTF-8, and nothing that may follow can mend it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotUtf8 {
    /// The place of the first byte of the wrong sequence in the message.
    pub(super) offset: usize,
}

impl Text {
    pub(super) fn len(&self) -> usize {
        self.valid.len() + usize::from(self.cut_len)
    }

    pub(super) fn capacity(&self) -> usize {
        self.valid.capacity()
    }

    /// The valid text so far: all of it after [`Text::finish`].
    pub(super) fn as_str(&self) -> &str {
        &self.valid
    }

    /// Appends the next bytes. `len_max` caps the buffer's growth: the message cannot become longer.
    pub(super) fn push(&mut self, mut bytes: &[u8], len_max: usize) -> Result<(), NotUtf8> {
        reserve(self.valid.len(), self.valid.capacity(), usize::from(self.cut_len) + bytes.len(), len_max, |more| {
            self.valid.reserve_exact(more);
        });
        while self.cut_len > 0 {
            let Some((&next, rest)) = bytes.split_first() else { return Ok(()) };
            let have = usize::from(self.cut_len);
            let mut sequence = [0; 4];
            sequence[..have].copy_from_slice(&self.cut[..have]);
            sequence[have] = next;
            match std::str::from_utf8(&sequence[..=have]) {
                Ok(character) => {
                    self.valid.push_str(character);
                    self.cut_len = 0;
                }
                // Still the start of something. It is at most 3 bytes: 4 are a character or an error.
                Err(error) if error.error_len().is_none() && have < 3 => {
                    self.cut[have] = next;
                    self.cut_len += 1;
                }
                Err(_) => return Err(NotUtf8 { offset: self.valid.len() }),
            }
            bytes = rest;
        }
        match simdutf8::compat::from_utf8(bytes) {
            Ok(text) => self.valid.push_str(text),
            Err(error) => {
                let (whole, cut) = bytes.split_at(error.valid_up_to());
                if error.error_len().is_some() || cut.len() > 3 {
                    return Err(NotUtf8 { offset: self.valid.len() + whole.len() });
                }
                // A second look at `whole`, only for a piece that ends inside a character: cheaper than `unsafe`.
                self.valid.push_str(std::str::from_utf8(whole).expect("valid up to here, as just found"));
                self.cut[..cut.len()].copy_from_slice(cut);
                self.cut_len = cut.len() as u8;
            }
        }
        Ok(())
    }

    /// The message ends here: an unfinished character is an error now.
    pub(super) fn finish(&self) -> Result<(), NotUtf8> {
        if self.cut_len == 0 { Ok(()) } else { Err(NotUtf8 { offset: self.valid.len() }) }
    }
}

/// Appends to a binary message under way, growing as [`Text::push`] does.
pub(super) fn push_bytes(buf: &mut Vec<u8>, bytes: &[u8], len_max: usize) {
    reserve(buf.len(), buf.capacity(), bytes.len(), len_max, |more| buf.reserve_exact(more));
    buf.extend_from_slice(bytes);
}

/// Doubling, but never past `len_max`: `Vec`'s own doubling would hold twice the limit just below it.
fn reserve(len: usize, capacity: usize, additional: usize, len_max: usize, reserve_exact: impl FnOnce(usize)) {
    const CAPACITY_MIN: usize = 64;
    let needed = len + additional;
    if needed > capacity {
        let roomy = capacity.saturating_mul(2).max(CAPACITY_MIN).min(len_max);
        reserve_exact(needed.max(roomy) - len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_pieces(pieces: &[&[u8]]) -> Result<String, NotUtf8> {
        let mut text = Text::default();
        for piece in pieces {
            text.push(piece, usize::MAX)?;
        }
        text.finish()?;
        Ok(text.as_str().to_owned())
    }

    #[test]
    fn agrees_with_std_for_every_cut_of_awkward_sequences() {
        let long = "é".repeat(100) + "x";
        let rows: &[(&str, &[u8])] = &[
            ("empty", b""),
            ("ascii", b"hello"),
            ("every width", "aé€😀z".as_bytes()),
            ("longer than a SIMD block", long.as_bytes()),
            ("first and last of each width", "\u{0}\u{7f}\u{80}\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}".as_bytes()),
            ("lone continuation", b"a\x80b"),
            ("overlong slash", b"\xc0\xaf"),
            ("overlong, 3 bytes", b"\xe0\x80\xaf"),
            ("overlong, 4 bytes", b"\xf0\x80\x80\xaf"),
            ("surrogate", b"ok\xed\xa0\x80"),
            ("past 10FFFF", b"\xf4\x90\x80\x80"),
            ("f5", b"\xf5\x80\x80\x80"),
            ("unfinished 2", b"ab\xc3"),
            ("unfinished 3", b"ab\xe2\x82"),
            ("unfinished 4", b"ab\xf0\x9f\x98"),
            ("broken by ascii", b"\xf0\x9fa"),
        ];
        for (name, bytes) in rows {
            let expected =
                std::str::from_utf8(bytes).map(str::to_owned).map_err(|e| NotUtf8 { offset: e.valid_up_to() });
            for first in 0..=bytes.len() {
                for second in first..=bytes.len() {
                    let got = in_pieces(&[&bytes[..first], &bytes[first..second], &bytes[second..]]);
                    assert_eq!(got, expected, "{name}, cut at {first} and {second}");
                }
            }
        }
    }

    /// All strings of four bytes at the edges of UTF-8's ranges, byte by byte: the verdict after each byte is the one
    /// that `std` gives on what has come so far. So nothing is refused late, and nothing too early.
    #[test]
    fn the_verdict_is_right_after_every_byte() {
        const EDGES: [u8; 20] = *b"\x00\x7f\x80\x8f\x90\x9f\xa0\xbf\xc1\xc2\xdf\xe0\xe1\xed\xef\xf0\xf1\xf4\xf5\xff";
        for mut index in 0..EDGES.len().pow(4) {
            let bytes: [u8; 4] = std::array::from_fn(|_| {
                let edge = EDGES[index % EDGES.len()];
                index /= EDGES.len();
                edge
            });
            let mut text = Text::default();
            for (at, byte) in bytes.iter().enumerate() {
                let verdict = text.push(std::slice::from_ref(byte), usize::MAX);
                match std::str::from_utf8(&bytes[..=at]) {
                    Ok(so_far) => assert!(verdict.is_ok() && text.finish().is_ok() && text.as_str() == so_far),
                    Err(error) if error.error_len().is_none() => {
                        assert_eq!(verdict, Ok(()), "{bytes:x?} after {at}");
                        assert_eq!(text.finish(), Err(NotUtf8 { offset: error.valid_up_to() }));
                    }
                    Err(error) => {
                        assert_eq!(verdict, Err(NotUtf8 { offset: error.valid_up_to() }), "{bytes:x?} after {at}");
                        break;
                    }
                }
            }
        }
    }

    #[test]
    fn the_first_hopeless_byte_is_refused_before_the_rest_comes() {
        for (name, good, bad) in [
            ("past 10FFFF", &b"\xf4"[..], 0x90),
            ("surrogate", b"\xed", 0xa0),
            ("overlong", b"\xe0", 0x9f),
            ("overlong 4", b"\xf0", 0x8f),
            ("ascii in a character", b"\xf0\x9f\x98", b'x'),
            ("never a first byte", b"", 0xff),
        ] {
            let mut text = Text::default();
            assert_eq!(text.push(good, 100), Ok(()), "{name}");
            assert_eq!(text.push(&[bad], 100), Err(NotUtf8 { offset: 0 }), "{name}");
        }
    }

    #[test]
    fn capacity_never_passes_the_longest_possible_message() {
        let (mut text, mut bytes) = (Text::default(), Vec::new());
        for _ in 0..1000 {
            text.push(b"x", 1000).expect("ascii");
            push_bytes(&mut bytes, b"x", 1000);
            assert!(text.capacity() <= 1000 && bytes.capacity() <= 1000);
        }
        assert_eq!((text.len(), bytes.len()), (1000, 1000));
    }
}
