//! The server's side (RFC 6455 §4.2): judge a request, write the 101.

use super::{accept_of, elements, excerpt, names, put_header, token, trim};

/// A request that may become a WebSocket. Choosing a subprotocol, and whether to answer at all, is the caller's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted<'h> {
    /// The value of `Sec-WebSocket-Accept`, ASCII.
    pub accept: [u8; 28],
    /// Subprotocols offered, the client's favourite first, over all headers. Values that are not tokens are left out.
    pub protocols: Vec<&'h str>,
    /// Extensions offered, each with its parameters, as written. A seam: answering none declines them all.
    pub extensions: Vec<&'h str>,
}

/// Why a request cannot become a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpgradeRequestError {
    /// §4.1: the method must be GET.
    #[error("a WebSocket is opened by GET, not by {found}")]
    Method {
        /// The method, cut to 64 characters.
        found: String,
    },
    /// §4.1: at least HTTP/1.1.
    #[error("a WebSocket needs HTTP/1.1, this request is HTTP/1.{minor}")]
    HttpVersion {
        /// The `x` of HTTP/1.x.
        minor: u8,
    },
    /// No `Upgrade: websocket`, or no `Connection: upgrade` (a proxy that is not set up for WebSockets drops both).
    #[error(
        "this address speaks WebSocket: the request needs `Upgrade: websocket` and `Connection: Upgrade` (does a proxy drop them?)"
    )]
    NotAnUpgrade,
    /// No `Sec-WebSocket-Key`.
    #[error("the request has no Sec-WebSocket-Key header")]
    MissingKey,
    /// The key is not 16 bytes in base64, or there are several.
    #[error("Sec-WebSocket-Key must be given once and be 16 bytes in base64 (24 characters)")]
    BadKey,
    /// Not version 13.
    #[error("Sec-WebSocket-Version must be 13, this request has {}", if found.is_empty() { "none" } else { found })]
    Version {
        /// The version asked for, cut to 64 characters; empty where there is none.
        found: String,
    },
}

impl UpgradeRequestError {
    /// The HTTP status to answer with: 405, 426 or 400.
    pub fn status(&self) -> u16 {
        match self {
            Self::Method { .. } => 405,
            Self::NotAnUpgrade | Self::Version { .. } => 426,
            Self::HttpVersion { .. } | Self::MissingKey | Self::BadKey => 400,
        }
    }

    /// The headers that belong to the status: `Allow` to 405 (RFC 9110 §15.5.6), `Upgrade` to 426 (§15.5.22), and the
    /// version we speak (RFC 6455 §4.4).
    pub fn headers(&self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Method { .. } => &[("Allow", "GET")],
            Self::NotAnUpgrade | Self::Version { .. } => {
                &[("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13")]
            }
            Self::HttpVersion { .. } | Self::MissingKey | Self::BadKey => &[],
        }
    }
}

/// True when the head asks for a WebSocket at all, so that the server can route before it judges: an `Upgrade` header
/// names `websocket`, and `Connection` names `upgrade`. Without that option a proxy has passed on a header that was not
/// for us, and it is ignored (RFC 9110 §7.8).
pub fn is_upgrade<'h>(headers: impl Iterator<Item = (&'h str, &'h [u8])>) -> bool {
    let (mut upgrade, mut connection) = (false, false);
    for (name, value) in headers {
        upgrade |= name.eq_ignore_ascii_case("upgrade") && names(value, "websocket");
        connection |= name.eq_ignore_ascii_case("connection") && names(value, "upgrade");
    }
    upgrade && connection
}

/// Judges a request (§4.2.1). `http_minor` is the x of HTTP/1.x.
///
/// # Errors
/// The first [`UpgradeRequestError`] in this order: method, HTTP version, upgrade, version, key.
pub fn accept<'h>(
    method: &str,
    http_minor: u8,
    headers: impl Iterator<Item = (&'h str, &'h [u8])>,
) -> Result<Accepted<'h>, UpgradeRequestError> {
    let (mut upgrade, mut connection) = (false, false);
    let (mut key, mut keys) = (&b""[..], 0);
    let mut version = None;
    let (mut protocols, mut extensions) = (Vec::new(), Vec::new());
    for (name, value) in headers {
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
        if is("upgrade") {
            upgrade |= names(value, "websocket");
        } else if is("connection") {
            connection |= names(value, "upgrade");
        } else if is("sec-websocket-key") {
            key = trim(value);
            keys += 1;
        } else if is("sec-websocket-version") {
            // Several versions, or the same one twice, is not what §4.1 lets a client send: the last one that is not 13
            // decides.
            let value = trim(value);
            if version.is_none() || value != b"13" {
                version = Some(value);
            }
        } else if is("sec-websocket-protocol") {
            protocols.extend(elements(value).filter_map(token));
        } else if is("sec-websocket-extensions") {
            extensions.extend(elements(value).filter_map(|element| std::str::from_utf8(element).ok()));
        }
    }

    if method != "GET" {
        return Err(UpgradeRequestError::Method { found: excerpt(method.as_bytes()) });
    }
    if http_minor < 1 {
        return Err(UpgradeRequestError::HttpVersion { minor: http_minor });
    }
    if !upgrade || !connection {
        return Err(UpgradeRequestError::NotAnUpgrade);
    }
    match version {
        Some(b"13") => {}
        found => return Err(UpgradeRequestError::Version { found: excerpt(found.unwrap_or_default()) }),
    }
    match keys {
        0 => Err(UpgradeRequestError::MissingKey),
        1 if is_key(key) => Ok(Accepted { accept: accept_of(key), protocols, extensions }),
        _ => Err(UpgradeRequestError::BadKey),
    }
}

impl Accepted<'_> {
    /// Appends the head of the 101 response (§4.2.2).
    ///
    /// `subprotocol` must be one of those offered: a browser fails the connection otherwise. `extra_headers` is also
    /// where an agreed extension's `Sec-WebSocket-Extensions` goes.
    pub fn respond(&self, out: &mut Vec<u8>, subprotocol: Option<&str>, extra_headers: &[(&str, &str)]) {
        debug_assert!(
            subprotocol.is_none_or(|chosen| self.protocols.contains(&chosen)),
            "RFC 6455 §4.2.2: subprotocol {subprotocol:?} was not offered"
        );
        out.extend_from_slice(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
        );
        out.extend_from_slice(&self.accept);
        out.extend_from_slice(b"\r\n");
        if let Some(subprotocol) = subprotocol {
            put_header(out, "Sec-WebSocket-Protocol", subprotocol);
        }
        for (name, value) in extra_headers {
            put_header(out, name, value);
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// 16 bytes in base64: 22 characters of the alphabet and `==`. The four bits that the last character has too many may
/// be anything: the key is never decoded, only hashed as text.
fn is_key(key: &[u8]) -> bool {
    matches!(key, [digits @ .., b'=', b'='] if digits.len() == 22
        && digits.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6455 §1.2, with the extension that browsers offer.
    const GOOD: &[(&str, &str)] = &[
        ("Host", "server.example.com"),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Origin", "http://example.com"),
        ("Sec-WebSocket-Protocol", "chat, superchat"),
        ("Sec-WebSocket-Version", "13"),
    ];

    fn pairs<'h>(headers: &'h [(&'h str, &'h str)]) -> impl Iterator<Item = (&'h str, &'h [u8])> {
        headers.iter().map(|(name, value)| (*name, value.as_bytes()))
    }

    /// `GOOD` with a header changed, or removed (`None`).
    fn with<'h>(name: &'h str, value: Option<&'h str>) -> Vec<(&'h str, &'h str)> {
        let mut headers: Vec<_> = GOOD.iter().copied().filter(|(n, _)| *n != name).collect();
        headers.extend(value.map(|value| (name, value)));
        headers
    }

    #[test]
    fn the_rfcs_example() {
        let accepted = accept("GET", 1, pairs(GOOD)).expect("a good request");
        assert_eq!(&accepted.accept, b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(accepted.protocols, ["chat", "superchat"]);
        let mut out = Vec::new();
        accepted.respond(&mut out, Some("chat"), &[("Server", "x\r\nSet-Cookie: y")]);
        assert_eq!(
            String::from_utf8(out).expect("ascii"),
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\
             Server: x  Set-Cookie: y\r\n\r\n"
        );
    }

    #[test]
    fn refusals() {
        use UpgradeRequestError::*;
        let version = |found: &str| Err(Version { found: found.to_owned() });
        type Row<'a> = (&'a str, Vec<(&'a str, &'a str)>, Result<(), UpgradeRequestError>, u16);
        let rows: Vec<Row<'_>> = vec![
            ("as it should be", GOOD.to_vec(), Ok(()), 101),
            ("Firefox", with("Connection", Some("keep-alive, Upgrade")), Ok(()), 101),
            ("other case", with("uPGRADE", Some("WebSocket")), Ok(()), 101),
            ("no upgrade", with("Upgrade", None), Err(NotAnUpgrade), 426),
            ("h2c", with("Upgrade", Some("h2c")), Err(NotAnUpgrade), 426),
            ("no connection", with("Connection", Some("keep-alive")), Err(NotAnUpgrade), 426),
            ("a word that contains it", with("Connection", Some("upgraded")), Err(NotAnUpgrade), 426),
            ("no key", with("Sec-WebSocket-Key", None), Err(MissingKey), 400),
            ("short key", with("Sec-WebSocket-Key", Some("SGVsbG8sIHdvcmxkIQ==")), Err(BadKey), 400),
            ("no base64", with("Sec-WebSocket-Key", Some("dGhlIHNhbXBsZSBub25j*Q==")), Err(BadKey), 400),
            ("17 bytes", with("Sec-WebSocket-Key", Some("dGhlIHNhbXBsZSBub25jZXM=")), Err(BadKey), 400),
            ("empty key", with("Sec-WebSocket-Key", Some("")), Err(BadKey), 400),
            ("spaces around", with("Sec-WebSocket-Key", Some(" dGhlIHNhbXBsZSBub25jZQ==\t")), Ok(()), 101),
            ("no version", with("Sec-WebSocket-Version", None), version(""), 426),
            ("old version", with("Sec-WebSocket-Version", Some("8")), version("8"), 426),
            ("list of versions", with("Sec-WebSocket-Version", Some("13, 8")), version("13, 8"), 426),
        ];
        for (name, headers, expected, status) in rows {
            let got = accept("GET", 1, pairs(&headers)).map(drop);
            assert_eq!(got, expected, "{name}");
            assert_eq!(got.as_ref().err().map_or(101, UpgradeRequestError::status), status, "{name}");
            if status == 426 {
                let headers = got.expect_err(name).headers();
                assert!(headers.contains(&("Sec-WebSocket-Version", "13")), "{name}");
                assert!(headers.contains(&("Upgrade", "websocket")), "{name}");
            }
        }
        assert_eq!(accept("POST", 1, pairs(GOOD)), Err(Method { found: "POST".to_owned() }));
        assert_eq!(accept("get", 1, pairs(GOOD)).map_err(|refusal| refusal.status()), Err(405));
        assert_eq!(accept("GET", 0, pairs(GOOD)), Err(HttpVersion { minor: 0 }));
        let twice = [GOOD, &[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")]].concat();
        assert_eq!(accept("GET", 1, pairs(&twice)), Err(BadKey));
        let versions = [GOOD, &[("sec-websocket-version", "8")]].concat();
        assert_eq!(accept("GET", 1, pairs(&versions)).map(drop), version("8"));
    }

    #[test]
    fn a_refusal_prints_nothing_dangerous() {
        let long = "8\u{1b}[31m".repeat(1000);
        let headers = with("Sec-WebSocket-Version", Some(&long));
        let text = accept("GET", 1, pairs(&headers)).expect_err("version").to_string();
        assert!(text.len() < 200 && text.bytes().all(|byte| !byte.is_ascii_control()), "{text}");
        let none = accept("GET", 1, pairs(&with("Sec-WebSocket-Version", None))).expect_err("version").to_string();
        assert_eq!(none, "Sec-WebSocket-Version must be 13, this request has none");
    }

    #[test]
    fn offers_are_gathered_in_order_over_all_headers() {
        let headers = [
            GOOD,
            &[
                ("Sec-WebSocket-Protocol", " , fanfare.v1 ,not a token,"),
                ("Sec-WebSocket-Extensions", r#"permessage-deflate; client_max_window_bits, x; p="a,\",b" , y"#),
            ],
        ]
        .concat();
        let accepted = accept("GET", 1, pairs(&headers)).expect("good");
        assert_eq!(accepted.protocols, ["chat", "superchat", "fanfare.v1"]);
        assert_eq!(accepted.extensions, ["permessage-deflate; client_max_window_bits", r#"x; p="a,\",b""#, "y"]);
    }

    #[test]
    fn asking_for_a_websocket_at_all() {
        assert!(is_upgrade(pairs(GOOD)));
        assert!(is_upgrade(pairs(&[("UPGRADE", "h2c, WebSocket"), ("connection", "keep-alive, UPGRADE")])));
        assert!(!is_upgrade(pairs(&[("Upgrade", "h2c"), ("Connection", "websocket, upgrade")])));
        assert!(!is_upgrade(pairs(&[("Upgrade", "websocket")])), "RFC 9110 §7.8: then it is ignored");
        assert!(!is_upgrade(pairs(&[("Upgrade", "websocket"), ("Connection", "keep-alive")])));
        assert!(!is_upgrade(pairs(&[])));
    }
}
