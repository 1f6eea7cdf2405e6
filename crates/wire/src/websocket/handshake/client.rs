//! The client's side (RFC 6455 §4.1): write a request, judge the response.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{accept_of, elements, excerpt, names, put_header, trim};

/// The agreed parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Established<'h> {
    /// The subprotocol that the server chose among those offered; `None`: none.
    pub protocol: Option<&'h str>,
}

/// Why a response does not open a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpgradeResponseError {
    /// Anything but 101; the response is an ordinary HTTP one (a redirect, a demand for authentication, an error).
    #[error("the server answered {status} instead of 101 Switching Protocols")]
    Status {
        /// As received.
        status: u16,
    },
    /// No `Upgrade: websocket` or no `Connection: upgrade`.
    #[error("the server's 101 response does not upgrade to websocket")]
    NotAnUpgrade,
    /// `Sec-WebSocket-Accept` is absent, repeated, or belongs to another key: a cache, or no WebSocket server at all.
    #[error("Sec-WebSocket-Accept is {found:?}, expected {expected:?}")]
    Accept {
        /// As received, cut to 64 characters; empty where there is none.
        found: String,
        /// The value that belongs to our key.
        expected: String,
    },
    /// A subprotocol that was not offered, or several.
    #[error("the server chose subprotocol {found:?}, which was not offered")]
    Protocol {
        /// As received, cut to 64 characters.
        found: String,
    },
    /// An extension that was not offered; [`request`] offers none.
    #[error("the server chose extension {found:?}, which was not offered")]
    Extension {
        /// As received, cut to 64 characters.
        found: String,
    },
}

/// A `Sec-WebSocket-Key` from 16 random bytes, fresh for each connection: 24 characters.
pub fn client_key(random: [u8; 16]) -> String {
    STANDARD.encode(random)
}

/// Appends the head of the upgrade request.
///
/// `host` as in a URL's authority, with the port where it is not the default; `path_and_query` starts with `/`;
/// `protocols` in order of preference, each a token; `extra_headers` such as `Authorization` or `Origin`.
pub fn request(
    out: &mut Vec<u8>,
    host: &str,
    path_and_query: &str,
    key: &str,
    protocols: &[&str],
    extra_headers: &[(&str, &str)],
) {
    out.extend_from_slice(b"GET ");
    // A space or a control character would end the request line early, and cannot be in a URL anyway.
    for byte in path_and_query.bytes() {
        match byte {
            0..=b' ' | 0x7F => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
            byte => out.push(byte),
        }
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    put_header(out, "Host", host);
    out.extend_from_slice(b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n");
    put_header(out, "Sec-WebSocket-Key", key);
    if !protocols.is_empty() {
        put_header(out, "Sec-WebSocket-Protocol", &protocols.join(", "));
    }
    for (name, value) in extra_headers {
        put_header(out, name, value);
    }
    out.extend_from_slice(b"\r\n");
}

/// Judges the response to a [`request`] with this key and these subprotocols (§4.1, the client's validation).
///
/// # Errors
/// See [`UpgradeResponseError`]; the connection is of no further use.
pub fn verify<'h>(
    status: u16,
    headers: impl Iterator<Item = (&'h str, &'h [u8])>,
    key: &str,
    offered: &[&str],
) -> Result<Established<'h>, UpgradeResponseError> {
    if status != 101 {
        return Err(UpgradeResponseError::Status { status });
    }
    let (mut upgrade, mut connection) = (false, false);
    let (mut accept, mut protocol) = (None, None);
    for (name, value) in headers {
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
        if is("upgrade") {
            upgrade |= names(value, "websocket");
        } else if is("connection") {
            connection |= names(value, "upgrade");
        } else if is("sec-websocket-accept") {
            // A repeated header is always an error, even with the same value (§11.3.3).
            accept = Some(if accept.is_none() { trim(value) } else { b"(several)" });
        } else if is("sec-websocket-protocol") {
            let value = trim(value);
            let choice = offered.iter().any(|name| name.as_bytes() == value).then(|| std::str::from_utf8(value).ok());
            match choice.flatten() {
                Some(choice) if protocol.is_none() => protocol = Some(choice),
                _ => return Err(UpgradeResponseError::Protocol { found: excerpt(value) }),
            }
        } else if is("sec-websocket-extensions")
            && let Some(found) = elements(value).next()
        {
            return Err(UpgradeResponseError::Extension { found: excerpt(found) });
        }
    }
    if !upgrade || !connection {
        return Err(UpgradeResponseError::NotAnUpgrade);
    }
    let expected = accept_of(key.as_bytes());
    match accept {
        Some(accept) if accept == expected => Ok(Established { protocol }),
        found => Err(UpgradeResponseError::Accept {
            found: excerpt(found.unwrap_or_default()),
            expected: excerpt(&expected),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::accept as server_accept;
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const GOOD: &[(&str, &str)] = &[
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
    ];

    fn verify_with<'h>(
        extra: &'h [(&'h str, &'h str)],
        leave_out: &str,
    ) -> Result<Option<&'h str>, UpgradeResponseError> {
        let headers = GOOD.iter().chain(extra).filter(|(name, _)| *name != leave_out);
        let headers = headers.map(|(name, value)| (*name, value.as_bytes()));
        verify(101, headers, KEY, &["chat", "superchat"]).map(|established| established.protocol)
    }

    #[test]
    fn responses() {
        use UpgradeResponseError::*;
        assert_eq!(verify_with(&[], ""), Ok(None));
        assert_eq!(verify_with(&[("sec-websocket-protocol", "superchat")], ""), Ok(Some("superchat")));
        assert_eq!(verify_with(&[], "Upgrade"), Err(NotAnUpgrade));
        assert_eq!(verify_with(&[], "Connection"), Err(NotAnUpgrade));
        assert!(matches!(verify_with(&[], "Sec-WebSocket-Accept"), Err(Accept { found, .. }) if found.is_empty()));
        for extra in [GOOD[2], ("Sec-WebSocket-Accept", "AAAAAAAAAAAAAAAAAAAAAAAAAAA=")] {
            assert!(matches!(verify_with(&[extra], ""), Err(Accept { .. })), "{extra:?} once more");
        }
        for found in ["mqtt", "", "chat, superchat", "Chat"] {
            let expected = Err(Protocol { found: found.to_owned() });
            assert_eq!(verify_with(&[("Sec-WebSocket-Protocol", found)], ""), expected);
        }
        let twice = [("Sec-WebSocket-Protocol", "chat"), ("Sec-WebSocket-Protocol", "superchat")];
        assert!(matches!(verify_with(&twice, ""), Err(Protocol { .. })));
        let deflate = [("Sec-WebSocket-Extensions", "permessage-deflate; x")];
        assert_eq!(verify_with(&deflate, ""), Err(Extension { found: "permessage-deflate; x".to_owned() }));
        let redirect = verify(302, std::iter::empty(), KEY, &[]);
        assert_eq!(redirect, Err(Status { status: 302 }));
    }

    /// Our request, parsed by `httparse`, is accepted by our server; its response is accepted by our client.
    #[test]
    fn both_sides_agree() {
        let key = client_key([7; 16]);
        assert_eq!(key.len(), 24);
        let mut sent = Vec::new();
        request(&mut sent, "example.com:81", "/a b?c=\r\nd", &key, &["x", "fanfare.v1"], &[("Origin", "null\r\nA: b")]);
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut parsed = httparse::Request::new(&mut headers);
        assert_eq!(parsed.parse(&sent).expect("a request"), httparse::Status::Complete(sent.len()));
        assert_eq!(parsed.path, Some("/a%20b?c=%0D%0Ad"));
        let accepted = server_accept(
            parsed.method.expect("a method"),
            parsed.version.expect("a version"),
            parsed.headers.iter().map(|header| (header.name, header.value)),
        )
        .expect("a good request");
        assert_eq!(accepted.protocols, ["x", "fanfare.v1"]);

        let mut answer = Vec::new();
        accepted.respond(&mut answer, Some("fanfare.v1"), &[]);
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut parsed = httparse::Response::new(&mut headers);
        assert_eq!(parsed.parse(&answer).expect("a response"), httparse::Status::Complete(answer.len()));
        let headers = parsed.headers.iter().map(|header| (header.name, header.value));
        let established = verify(parsed.code.expect("a status"), headers, &key, &["x", "fanfare.v1"]);
        assert_eq!(established, Ok(Established { protocol: Some("fanfare.v1") }));
    }
}
