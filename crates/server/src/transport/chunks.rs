//! Finds the end of a body that comes in chunks (RFC 9112 §7.1), without keeping any of it.
//!
//! In: the bytes behind a head, in any pieces. Out: how many of them are of the body, and whether it has ended. It is
//! as strict as the grammar, where hyper, which decodes the same bytes, lets a bare LF pass in trailers. A proxy may
//! take such an LF for the end of a line. So the bytes end behind the first that is against the grammar.

/// The largest size that is read: RFC 9112 §7.1 wants sizes that overflow to be found.
const SIZE_MAX: u64 = u64::MAX >> 4;

/// A place in the grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// In the digits of a size, of which some have come or not.
    Size {
        size: u64,
        has_digits: bool,
    },
    /// In white space behind the digits, or in an extension.
    BehindSize {
        size: u64,
        is_extension: bool,
    },
    /// Behind the CR of a line with a size.
    SizeLf {
        size: u64,
    },
    /// In the data of a chunk.
    Data {
        left: u64,
    },
    /// Behind the data.
    DataCr,
    DataLf,
    /// In a line of the trailers, of which some bytes have come or not.
    Trailer {
        is_empty: bool,
    },
    /// Behind the CR of such a line.
    TrailerLf {
        is_empty: bool,
    },
    /// Behind the last byte.
    Ended,
    /// Behind a byte that is none of the grammar.
    Broken,
}

/// How far a body has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunks(At);

impl Chunks {
    /// Before its first byte.
    pub(crate) fn begin() -> Self {
        Chunks(At::Size { size: 0, has_digits: false })
    }

    /// Nothing more is of the body: it has ended.
    pub(crate) fn is_ended(self) -> bool {
        self.0 == At::Ended
    }

    /// Nothing more can be of the body: it is against the grammar.
    pub(crate) fn is_broken(self) -> bool {
        self.0 == At::Broken
    }

    /// Takes the next bytes, and returns how many of them are of the body, with the first that is against the grammar.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            self.0 = match (self.0, bytes[at]) {
                (At::Ended | At::Broken, _) => return at,
                (At::Data { left }, _) => {
                    let count = usize::try_from(left).map_or(bytes.len() - at, |left| left.min(bytes.len() - at));
                    at += count;
                    self.0 = match left - count as u64 {
                        0 => At::DataCr,
                        left => At::Data { left },
                    };
                    continue;
                }
                (At::Size { size, .. }, byte) if byte.is_ascii_hexdigit() && size <= SIZE_MAX => {
                    let digit = char::from(byte).to_digit(16).unwrap_or(0);
                    At::Size { size: size << 4 | u64::from(digit), has_digits: true }
                }
                (At::Size { size, has_digits: true }, b' ' | b'\t') => At::BehindSize { size, is_extension: false },
                (At::BehindSize { size, is_extension: false }, b' ' | b'\t') => {
                    At::BehindSize { size, is_extension: false }
                }
                (At::Size { size, has_digits: true } | At::BehindSize { size, .. }, b'\r') => At::SizeLf { size },
                (At::Size { size, has_digits: true } | At::BehindSize { size, .. }, b';') => {
                    At::BehindSize { size, is_extension: true }
                }
                (At::BehindSize { size, is_extension: true }, byte) if byte != b'\n' => {
                    At::BehindSize { size, is_extension: true }
                }
                (At::SizeLf { size: 0 }, b'\n') => At::Trailer { is_empty: true },
                (At::SizeLf { size }, b'\n') => At::Data { left: size },
                (At::DataCr, b'\r') => At::DataLf,
                (At::DataLf, b'\n') => Chunks::begin().0,
                (At::Trailer { is_empty }, b'\r') => At::TrailerLf { is_empty },
                (At::Trailer { .. }, byte) if byte != b'\n' => At::Trailer { is_empty: false },
                (At::TrailerLf { is_empty: true }, b'\n') => At::Ended,
                (At::TrailerLf { is_empty: false }, b'\n') => At::Trailer { is_empty: true },
                _ => At::Broken,
            };
            at += 1;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes, and how many of them are of the body that ends in them; `Err` where it is broken behind so many.
    #[rustfmt::skip]
    const ROWS: &[(&str, &str, Result<usize, usize>)] = &[
        ("nothing", "0\r\n\r\nGET", Ok(5)),
        ("one chunk", "3\r\nabc\r\n0\r\n\r\nGET", Ok(13)),
        ("data that looks like an end", "5\r\n0\r\n\r\n\r\n0\r\n\r\n", Ok(15)),
        ("digits of both cases", "0a\r\n0123456789\r\nB\r\n01234567890\r\n00\r\n\r\n", Ok(38)),
        ("white space and an extension", "1 \t;a=\"b\";c\r\nx\r\n0;d\r\n\r\n", Ok(23)),
        ("trailers", "0\r\nX: a\r\nContent-Length: 9\r\n\r\nGET", Ok(30)),
        ("no digits", "\r\n", Err(1)),
        ("an extension alone", ";a\r\n", Err(1)),
        ("a sign", "+1\r\n", Err(1)),
        ("a prefix", "0x1\r\n", Err(2)),
        ("digits behind white space", "1 1\r\n", Err(3)),
        ("a size beyond all numbers", "FFFFFFFFFFFFFFFFF\r\n", Err(17)),
        ("a bare LF behind a size", "1\na\r\n0\r\n\r\n", Err(2)),
        ("a bare LF in an extension", "1;a\nb\r\nx\r\n0\r\n\r\n", Err(4)),
        ("a bare CR in an extension", "1;a\rb\r\nx\r\n0\r\n\r\n", Err(5)),
        ("data beyond its size", "1\r\nab\r\n0\r\n\r\n", Err(5)),
        ("a bare LF behind data", "1\r\na\n0\r\n\r\n", Err(5)),
        ("a bare LF in trailers", "0\r\nX: a\n\nGET / HTTP/1.1\r\n\r\n", Err(8)),
        ("a bare LF for the end", "0\r\n\n", Err(4)),
        ("a bare CR in trailers", "0\r\nX: a\rb\r\n\r\n", Err(9)),
    ];

    #[test]
    fn the_end_of_a_body_is_found_however_it_is_cut() {
        for (name, bytes, expected) in ROWS {
            for size in 1..=bytes.len() {
                let (mut chunks, mut taken) = (Chunks::begin(), 0);
                for piece in bytes.as_bytes().chunks(size) {
                    let count = chunks.take(piece);
                    taken += count;
                    if count < piece.len() {
                        break;
                    }
                }
                let found = if chunks.is_broken() { Err(taken) } else { Ok(taken) };
                assert_eq!((found, chunks.is_ended()), (*expected, expected.is_ok()), "{name}, in pieces of {size}");
            }
        }
    }

    #[test]
    fn the_end_of_half_a_body_is_not_found() {
        let whole = "3;a\r\nabc\r\n0\r\nX: a\r\n\r\n";
        for len in 0..whole.len() {
            let mut chunks = Chunks::begin();
            assert_eq!(chunks.take(&whole.as_bytes()[..len]), len);
            assert!(!chunks.is_ended() && !chunks.is_broken(), "{len}");
        }
    }
}
