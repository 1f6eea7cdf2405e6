//! The PROXY protocol, versions 1 and 2: a proxy's description of a connection, before the client's first byte.
//!
//! In: the first bytes of a connection. Out: the [`Header`] and its length, or nothing yet. It is the receiver's side
//! of HAProxy's proxy-protocol.txt. A header of version 1 has at most [`TEXT_BYTES_MAX`] bytes. One of version 2 has
//! at most [`BINARY_BYTES_MAX`] with its extensions (TLVs), which are skipped. Bytes that can no longer become a
//! header are an error at once: a client that speaks without one never waits here.
//!
//! Only streams are understood. `LOCAL` is a connection of the proxy itself, such as a health check. A proxy that does
//! not know its client's address (`UNKNOWN`, `UNSPEC`, a Unix socket) says so: [`Header::Unknown`].

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest header of version 1, with its CR LF (proxy-protocol.txt, 2.1).
pub const TEXT_BYTES_MAX: usize = 107;
/// The longest header of version 2 that is taken. The addresses take at most 232 bytes, and proxies send few hundred
/// bytes of extensions.
pub const BINARY_BYTES_MAX: usize = 4096;

/// The first 12 bytes of version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The first bytes of version 1.
const TEXT: &[u8; 6] = b"PROXY ";
/// Signature, version and command, family and protocol, and the length of the rest.
const BINARY_HEAD: usize = 16;

/// The statement of a proxy about a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// The proxy's own connection: its ends are those of the socket.
    Local,
    /// A client's connection, between these ends.
    Client {
        /// The client's end.
        source: SocketAddr,
        /// The end that the client connected to.
        destination: SocketAddr,
    },
    /// A client's connection, whose ends the proxy does not tell.
    Unknown,
}

/// A connection that does not begin with a header of the PROXY protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// It begins with something else.
    #[error("the connection does not begin with a PROXY header")]
    Missing,
    /// The line of version 1 is longer than any can be.
    #[error("the PROXY header has no end within {TEXT_BYTES_MAX} bytes")]
    TextTooLong,
    /// The line of version 1 does not say what it must.
    #[error("the PROXY header is not valid: {0}")]
    Text(&'static str),
    /// Version 2 is followed by another version number.
    #[error("the PROXY header has version {0}, and only 1 and 2 are known")]
    Version(u8),
    /// Neither `LOCAL` nor `PROXY`.
    #[error("the PROXY header has the unknown command {0}")]
    Command(u8),
    /// Neither TCP nor a Unix stream.
    #[error("the PROXY header is for the transport {0:#04x}, which is no stream")]
    Transport(u8),
    /// The addresses do not fit into the length that it tells.
    #[error("the PROXY header has {len} bytes of addresses, and its transport needs {needed}")]
    TooShort {
        /// As it says.
        len: usize,
        /// The bytes of the addresses.
        needed: usize,
    },
    /// It says that it is longer than any that is taken.
    #[error("the PROXY header has {len} bytes, more than the limit of {BINARY_BYTES_MAX}")]
    TooLong {
        /// Its whole length.
        len: usize,
    },
}

/// Decodes the header at the beginning of `bytes`, and tells its length. `Ok(None)`: it is not whole yet, and all of
/// `bytes` belongs to it.
///
/// # Errors
/// [`ProxyError`]: no further byte makes a header of it.
pub fn decode(bytes: &[u8]) -> Result<Option<(Header, usize)>, ProxyError> {
    let begins = |with: &[u8]| with.starts_with(&bytes[..bytes.len().min(with.len())]);
    if begins(SIGNATURE) {
        return if bytes.len() < SIGNATURE.len() { Ok(None) } else { decode_binary(bytes) };
    }
    if begins(TEXT) {
        return if bytes.len() < TEXT.len() { Ok(None) } else { decode_text(bytes) };
    }
    Err(ProxyError::Missing)
}

fn decode_text(bytes: &[u8]) -> Result<Option<(Header, usize)>, ProxyError> {
    let within = &bytes[..bytes.len().min(TEXT_BYTES_MAX)];
    let Some(end) = within.windows(2).position(|two| two == b"\r\n") else {
        return if bytes.len() < TEXT_BYTES_MAX { Ok(None) } else { Err(ProxyError::TextTooLong) };
    };
    let line = std::str::from_utf8(&bytes[TEXT.len()..end]).map_err(|_| ProxyError::Text("it is not ASCII"))?;
    Ok(Some((parse_line(line)?, end + 2)))
}

/// `TCP4 192.0.2.1 198.51.100.1 56324 443`, with exactly one space between two words.
fn parse_line(line: &str) -> Result<Header, ProxyError> {
    let mut words = line.split(' ');
    let family = words.next().unwrap_or_default();
    if family == "UNKNOWN" {
        return Ok(Header::Unknown); // whatever follows is to be ignored
    }
    let (Some(source), Some(destination), Some(source_port), Some(destination_port), None) =
        (words.next(), words.next(), words.next(), words.next(), words.next())
    else {
        return Err(ProxyError::Text("it needs a family, two addresses and two ports"));
    };
    let address = |text: &str| -> Result<IpAddr, ProxyError> {
        let parsed = match family {
            "TCP4" => text.parse::<Ipv4Addr>().map(IpAddr::V4).ok(),
            "TCP6" => text.parse::<Ipv6Addr>().map(IpAddr::V6).ok(),
            _ => return Err(ProxyError::Text("its family is none of TCP4, TCP6 and UNKNOWN")),
        };
        parsed.ok_or(ProxyError::Text("an address is not of its family"))
    };
    let port = |text: &str| -> Result<u16, ProxyError> {
        let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        text.parse().ok().filter(|_| is_decimal).ok_or(ProxyError::Text("a port is not a number from 0 to 65535"))
    };
    Ok(Header::Client {
        source: SocketAddr::new(address(source)?, port(source_port)?),
        destination: SocketAddr::new(address(destination)?, port(destination_port)?),
    })
}

fn decode_binary(bytes: &[u8]) -> Result<Option<(Header, usize)>, ProxyError> {
    // Each byte is judged as soon as it is there.
    let Some(&version) = bytes.get(12) else { return Ok(None) };
    if version >> 4 != 2 {
        return Err(ProxyError::Version(version >> 4));
    }
    let is_local = match version & 0xF {
        0 => true,
        1 => false,
        other => return Err(ProxyError::Command(other)),
    };
    let Some(&transport) = bytes.get(13) else { return Ok(None) };
    // The proxy's own connection has any: it is to be ignored, and so are addresses of UNSPEC.
    let needed = match transport {
        _ if is_local => 0,
        0x00 => 0,
        0x11 => 12,
        0x21 => 36,
        0x31 => 216,
        other => return Err(ProxyError::Transport(other)),
    };
    let Some(&[high, low]) = bytes.get(14..BINARY_HEAD) else { return Ok(None) };
    let len = usize::from(u16::from_be_bytes([high, low]));
    if len < needed {
        return Err(ProxyError::TooShort { len, needed });
    }
    let whole = BINARY_HEAD + len;
    if whole > BINARY_BYTES_MAX {
        return Err(ProxyError::TooLong { len: whole });
    }
    let Some(rest) = bytes.get(BINARY_HEAD..whole) else { return Ok(None) };
    let port = |at: usize| u16::from_be_bytes([rest[at], rest[at + 1]]);
    let v4 = |at: usize| Ipv4Addr::new(rest[at], rest[at + 1], rest[at + 2], rest[at + 3]);
    let v6 = |at: usize| {
        let mut octets = [0; 16];
        octets.copy_from_slice(&rest[at..at + 16]);
        Ipv6Addr::from(octets)
    };
    let header = match needed {
        12 => Header::Client {
            source: SocketAddr::new(v4(0).into(), port(8)),
            destination: SocketAddr::new(v4(4).into(), port(10)),
        },
        36 => Header::Client {
            source: SocketAddr::new(v6(0).into(), port(32)),
            destination: SocketAddr::new(v6(16).into(), port(34)),
        },
        _ if is_local => Header::Local,
        _ => Header::Unknown,
    };
    Ok(Some((header, whole)))
}

/// The body of the fuzz target `proxy_protocol`, and of a test.
pub mod fuzz {
    use super::{BINARY_BYTES_MAX, TEXT_BYTES_MAX, decode};

    /// For any bytes: no panic, a bounded wait, and the same outcome however they are cut.
    pub fn decode_any(bytes: &[u8]) {
        let whole = decode(bytes);
        match &whole {
            Ok(Some((_, len))) => assert!(*len <= bytes.len() && *len <= BINARY_BYTES_MAX, "{len}"),
            Ok(None) => assert!(bytes.len() < BINARY_BYTES_MAX.max(TEXT_BYTES_MAX), "it waits for ever"),
            Err(_) => {}
        }
        for cut in 0..bytes.len().min(BINARY_BYTES_MAX) {
            match decode(&bytes[..cut]) {
                Ok(None) => {}
                // An early decision stays.
                Ok(early) => assert_eq!(Ok(early), whole),
                Err(_) => assert!(whole.is_err(), "{whole:?} after an error at {cut}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(source: &str, destination: &str) -> Header {
        Header::Client { source: source.parse().expect(source), destination: destination.parse().expect(destination) }
    }

    fn binary(version: u8, transport: u8, rest: &[u8]) -> Vec<u8> {
        let len = u16::try_from(rest.len()).expect("short").to_be_bytes();
        [&SIGNATURE[..], &[version, transport], &len, rest].concat()
    }

    const V4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 1, 0xDC, 0x04, 0x01, 0xBB];

    fn v6() -> Vec<u8> {
        let source = "2001:db8::1".parse::<Ipv6Addr>().expect("an address").octets();
        let destination = "2001:db8::2".parse::<Ipv6Addr>().expect("an address").octets();
        [&source[..], &destination, &[0xDC, 0x04, 0x01, 0xBB]].concat()
    }

    /// Headers by proxy-protocol.txt, with what each says.
    fn vectors() -> Vec<(&'static str, Vec<u8>, Header)> {
        let four = client("192.0.2.1:56324", "198.51.100.1:443");
        let six = client("[2001:db8::1]:56324", "[2001:db8::2]:443");
        let longest_text = "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
                            ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
        assert_eq!(longest_text.len(), TEXT_BYTES_MAX);
        let longest = "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
                       65535 65535\r\n";
        let all_ones = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535";
        let extension = [0x04, 0x00, 0x03, 1, 2, 3]; // PP2_TYPE_NOOP
        let with = |addresses: &[u8], more: &[u8]| [addresses, more].concat();
        vec![
            ("text, TCP4", b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n".to_vec(), four),
            ("text, TCP6", b"PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n".to_vec(), six),
            (
                "text, port 0",
                b"PROXY TCP4 192.0.2.1 198.51.100.1 0 443\r\n".to_vec(),
                client("192.0.2.1:0", "198.51.100.1:443"),
            ),
            ("the longest of TCP6", longest.into(), client(all_ones, all_ones)),
            ("text, unknown", b"PROXY UNKNOWN\r\n".to_vec(), Header::Unknown),
            ("text, the longest", longest_text.into(), Header::Unknown),
            ("text, unknown with garbage", b"PROXY UNKNOWN  \r x\r\n".to_vec(), Header::Unknown),
            ("TCP over IPv4", binary(0x21, 0x11, &V4), four),
            ("TCP over IPv6", binary(0x21, 0x21, &v6()), six),
            ("extensions", binary(0x21, 0x11, &with(&V4, &extension)), four),
            ("broken extensions", binary(0x21, 0x11, &with(&V4, &[4, 0xFF, 0xFF])), four),
            ("a Unix stream", binary(0x21, 0x31, &[b'x'; 216]), Header::Unknown),
            ("no family", binary(0x21, 0x00, &[]), Header::Unknown),
            ("no family, with bytes", binary(0x21, 0x00, &V4), Header::Unknown),
            ("local", binary(0x20, 0x00, &[]), Header::Local),
            ("local, with addresses", binary(0x20, 0x11, &V4), Header::Local),
            ("local, of a strange transport", binary(0x20, 0xFF, &extension), Header::Local),
            ("the longest", binary(0x21, 0x11, &[0; BINARY_BYTES_MAX - BINARY_HEAD]), client("0.0.0.0:0", "0.0.0.0:0")),
        ]
    }

    #[test]
    fn headers_are_read_with_any_cut_and_leave_what_follows() {
        for (name, bytes, expected) in vectors() {
            for cut in 0..bytes.len() {
                assert_eq!(decode(&bytes[..cut]), Ok(None), "{name}: {cut} of {} bytes", bytes.len());
            }
            for more in [&b""[..], b"GET / HTTP/1.1\r\n", b"\r\n", SIGNATURE] {
                let all = [&bytes[..], more].concat();
                assert_eq!(decode(&all), Ok(Some((expected, bytes.len()))), "{name}");
            }
        }
    }

    #[test]
    fn what_is_no_header_is_refused_as_soon_as_that_is_certain() {
        let text = |line: &str| format!("PROXY {line}\r\n").into_bytes();
        let endless = |begin: &[u8]| [begin, &[b'x'; 200]].concat();
        let mut long = binary(0x21, 0x11, &V4);
        long[14..16].copy_from_slice(&[0xFF, 0xFF]);
        // Each with the number of bytes that are enough.
        #[rustfmt::skip]
        let rows: Vec<(&str, Vec<u8>, usize)> = vec![
            ("a request", b"GET / HTTP/1.1\r\n".to_vec(), 1),
            ("TLS", b"\x16\x03\x01".to_vec(), 1),
            ("a request by a strange method", b"PROXIES / HTTP/1.1\r\n".to_vec(), 5),
            ("the beginning of a signature", b"\r\n\r\nGET".to_vec(), 5),
            ("HTTP/2", b"PRI * HTTP/2.0".to_vec(), 3),
            ("lower case", b"proxy TCP4".to_vec(), 1),
            ("no end", endless(b"PROXY TCP4 "), TEXT_BYTES_MAX),
            ("no end of the unknown", endless(b"PROXY UNKNOWN "), TEXT_BYTES_MAX),
            ("a line feed alone", [&b"PROXY UNKNOWN\n"[..], &[b' '; 200]].concat(), TEXT_BYTES_MAX),
            ("nothing", text(""), 8),
            ("another family", text("TCP5 192.0.2.1 198.51.100.1 1 2"), 0),
            ("UDP", text("UDP4 192.0.2.1 198.51.100.1 1 2"), 0),
            ("addresses of another family", text("TCP4 2001:db8::1 2001:db8::2 1 2"), 0),
            ("addresses of two families", text("TCP6 2001:db8::1 198.51.100.1 1 2"), 0),
            ("a word too few", text("TCP4 192.0.2.1 198.51.100.1 1"), 0),
            ("a word too many", text("TCP4 192.0.2.1 198.51.100.1 1 2 3"), 0),
            ("two spaces", text("TCP4  192.0.2.1 198.51.100.1 1 2"), 0),
            ("a space at the end", text("TCP4 192.0.2.1 198.51.100.1 1 2 "), 0),
            ("a port too high", text("TCP4 192.0.2.1 198.51.100.1 65536 2"), 0),
            ("a negative port", text("TCP4 192.0.2.1 198.51.100.1 -1 2"), 0),
            ("a port with a sign", text("TCP4 192.0.2.1 198.51.100.1 +1 2"), 0),
            ("a port with a zero before it", text("TCP4 192.0.2.1 198.51.100.1 01 2"), 0),
            ("no port", text("TCP4 192.0.2.1 198.51.100.1  2"), 0),
            ("a name", text("TCP4 localhost 198.51.100.1 1 2"), 0),
            ("an octal address", text("TCP4 192.0.2.01 198.51.100.1 1 2"), 0),
            ("bytes that are no text", b"PROXY TCP4 \xFF\xFE\r\n".to_vec(), 0),
            ("version 1 in binary", binary(0x11, 0x11, &V4), 13),
            ("version 3", binary(0x31, 0x11, &V4), 13),
            ("another command", binary(0x22, 0x11, &V4), 13),
            ("datagrams", binary(0x21, 0x12, &V4), 14),
            ("another family in binary", binary(0x21, 0x41, &V4), 14),
            ("no transport", binary(0x21, 0x10, &V4), 14),
            ("no room for addresses", binary(0x21, 0x11, &V4[..11]), 16),
            ("no room for addresses of IPv6", binary(0x21, 0x21, &V4), 16),
            ("no room for a path", binary(0x21, 0x31, &[0; 215]), 16),
            ("a length over the limit", long, 16),
        ];
        for (name, bytes, enough) in rows {
            assert!(decode(&bytes).is_err(), "{name}");
            let enough = if enough == 0 { bytes.len() } else { enough };
            assert!(decode(&bytes[..enough]).is_err(), "{name}");
            assert_eq!(decode(&bytes[..enough - 1]), Ok(None), "{name}");
        }
    }

    #[test]
    fn the_fuzz_body_holds_on_what_we_know() {
        for (_, bytes, _) in vectors() {
            fuzz::decode_any(&bytes);
            for at in 0..bytes.len().min(64) {
                for byte in [0, 1, b' ', b'\r', b'\n', b'9', 0x7F, 0xFF] {
                    let mut changed = bytes.clone();
                    changed[at] = byte;
                    fuzz::decode_any(&changed);
                }
            }
        }
    }
}
