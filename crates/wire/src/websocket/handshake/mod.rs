//! The opening handshake (RFC 6455 §4), both sides, without an HTTP library.
//!
//! In: a parsed head as method, version and `(name, value)` pairs, from `httparse` as well as from `hyper`; names in
//! any case, values without surrounding white space or with it. Out: what was agreed on, or a refusal that knows its
//! HTTP status, and the heads to write. Left to the HTTP layer: limits on the head, `Host`, and the Origin check
//! (§10.2).

mod client;
mod head;
mod server;

pub use client::{Established, UpgradeResponseError, client_key, request, verify};
pub use head::HeadProgress;
pub use server::{Accepted, UpgradeRequestError, accept, is_upgrade};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest as _, Sha1};

/// §1.3: fixed, so that only an endpoint that knows the protocol can answer a key.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// `Sec-WebSocket-Accept` for a key (§4.2.2).
fn accept_of(key: &[u8]) -> [u8; 28] {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let mut accept = [0; 28];
    let written = STANDARD.encode_slice(digest, &mut accept);
    debug_assert_eq!(written, Ok(28), "20 bytes are 28 characters of base64");
    accept
}

/// Optional white space around a header's value or a list's element (RFC 9110 §5.6.3).
pub(super) fn trim(value: &[u8]) -> &[u8] {
    let mut value = value;
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// The elements of a comma list (RFC 9110 §5.6.1), empty ones left out. Commas in quoted strings do not separate.
fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    split_unquoted(value, b',').map(trim).filter(|element| !element.is_empty())
}

/// The parts between separators that do not stand in quoted strings.
pub(super) fn split_unquoted(value: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    value.split(move |&byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            byte if byte == separator => return !quoted,
            _ => {}
        }
        false
    })
}

/// Whether a comma list names this token, in any case.
fn names(value: &[u8], token: &str) -> bool {
    elements(value).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
}

/// A token (RFC 9110 §5.6.2), the only thing a subprotocol's name may be (§4.1).
pub(super) fn token(bytes: &[u8]) -> Option<&str> {
    let is_token = |byte: &u8| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
    };
    if bytes.is_empty() || !bytes.iter().all(is_token) {
        return None;
    }
    std::str::from_utf8(bytes).ok()
}

/// Up to 64 characters of something a peer sent, safe to print.
fn excerpt(value: &[u8]) -> String {
    value
        .iter()
        .take(64)
        .map(|&byte| if byte.is_ascii_graphic() || byte == b' ' { byte as char } else { '?' })
        .collect()
}

/// Appends `name: value\r\n`. Control characters become spaces: no value can add a header or end the head.
fn put_header(out: &mut Vec<u8>, name: &str, value: &str) {
    let clean = |byte: u8| if byte.is_ascii_control() { b' ' } else { byte };
    out.extend(name.bytes().map(clean));
    out.extend_from_slice(b": ");
    out.extend(value.bytes().map(clean));
    out.extend_from_slice(b"\r\n");
}
