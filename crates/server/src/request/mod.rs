//! The common parts of every HTTP request: its id, its headers, its path as it was sent, and whether that is the HTTP
//! API's.
//!
//! The id is the caller's `X-Request-Id` if it is valid, otherwise a new one. It stands in the answer, in the request
//! that handlers see, and in every log line about it.

mod info;

pub(crate) use info::{Carried, CarriedToken};
pub use info::{Credentials, Peer, RequestInfo};

use axum::extract::OriginalUri;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Uri};
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};

/// Where the OpenAPI document is.
pub(crate) const API_DOCUMENT: &str = "/api/openapi.json";
/// Every other address of the API begins so. The rest of `/api/` is the embedder's.
pub(crate) const API_COMMANDS: &str = "/api/v1/";

/// The path of a request for the words of an answer: with the server's own path, where that was taken off.
pub(crate) fn path_as_sent<'r>(uri: &'r Uri, extensions: &'r Extensions) -> &'r str {
    extensions.get().map_or(uri, |OriginalUri(original)| original).path()
}

/// The header of the id, in requests and in answers.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longer ones are not taken over.
const BYTES_MAX: usize = 64;

/// The id of an HTTP request. Handlers of pages find it in the request's extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The caller's, where it has 1 to 64 letters, digits, `-`, `_` and `.`; else a new one.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        match headers.get(REQUEST_ID) {
            Some(value) if is_sane(value.as_bytes()) => RequestId(value.clone()),
            _ => RequestId::new(),
        }
    }

    /// The same, from headers that are not in a map.
    pub(crate) fn of_raw(headers: &[(&str, &[u8])]) -> Self {
        let found = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(REQUEST_ID.as_str()));
        let value =
            found.filter(|(_, value)| is_sane(value)).and_then(|(_, value)| HeaderValue::from_bytes(value).ok());
        value.map_or_else(RequestId::new, RequestId)
    }

    pub(crate) fn new() -> Self {
        // Random keys, new ones each time: no two requests share an id. An id is no secret.
        let id = RandomState::new().hash_one(());
        RequestId(HeaderValue::from_str(&format!("{id:016x}")).expect("hex digits are a header's value"))
    }

    pub(crate) fn value(&self) -> HeaderValue {
        self.0.clone()
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default() // only visible ASCII is taken
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn is_sane(value: &[u8]) -> bool {
    let sane = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=BYTES_MAX).contains(&value.len()) && value.iter().all(sane)
}

/// Headers as the handshake takes them.
pub(crate) fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&str, &[u8])> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
}

/// True for an address that is the API's, where there are keys for it. The rest of `/api/` is the embedder's.
pub(crate) fn is_api_path(path: &str) -> bool {
    path == API_DOCUMENT || path.starts_with(API_COMMANDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_taken_over_where_it_is_sane() {
        let long = "x".repeat(65);
        let rows: &[(&str, bool)] = &[
            ("abc-123_4.5", true),
            (&long[..64], true),
            (&long, false),
            ("", false),
            ("a b", false),
            ("a\"b", false),
            ("a=b", false),
            ("ä", false),
        ];
        for (text, taken) in rows {
            let id = RequestId::of_raw(&[("X-REQUEST-ID", text.as_bytes())]);
            assert_eq!(id.as_str() == *text, *taken, "{text:?} became {id}");
            assert!(is_sane(id.as_str().as_bytes()), "{id}");
        }
        assert_ne!(RequestId::new(), RequestId::new());
    }
}
