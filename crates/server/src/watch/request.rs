//! Every HTTP request has an id: the caller's `X-Request-Id` where it is sane, else one of ours. It stands in the
//! answer, in the request that handlers see, and in every line that is logged on the way.

use super::Watch;
use crate::logs;
use axum::body::Body;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Instant;
use tracing::Instrument as _;

/// The header, in requests and in answers.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("x-request-id");
/// Longer ones are not taken over.
const BYTES_MAX: usize = 64;
/// Characters of a path that are logged.
const PATH_CHARS_MAX: usize = 128;

/// The id of an HTTP request. Handlers of pages find it in the request's extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The caller's, where it has 1 to 64 letters, digits, `-`, `_` and `.`; else a new one.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        match headers.get(HEADER) {
            Some(value) if is_sane(value.as_bytes()) => RequestId(value.clone()),
            _ => RequestId::new(),
        }
    }

    /// The same, from headers that nobody has made a map of.
    pub(crate) fn of_raw(headers: &[(&str, &[u8])]) -> Self {
        let found = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(HEADER.as_str()));
        let value =
            found.filter(|(_, value)| is_sane(value)).and_then(|(_, value)| HeaderValue::from_bytes(value).ok());
        value.map_or_else(RequestId::new, RequestId)
    }

    pub(crate) fn new() -> Self {
        // Random keys, other ones each time: no two requests share an id, and nobody need be kept from guessing one.
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

/// Around all that is served: gives the id, counts, and logs the request when it has been answered. The query is never
/// logged: it may hold a token.
pub(crate) async fn identified<B>(
    watch: &Watch,
    mut request: Request<B>,
    serve: impl AsyncFnOnce(Request<B>) -> Response<Body>,
) -> Response<Body> {
    let id = RequestId::of(request.headers());
    let begin = Instant::now();
    let method = request.method().clone();
    let path: String = request.uri().path().chars().take(PATH_CHARS_MAX).collect();
    request.headers_mut().insert(HEADER, id.0.clone());
    request.extensions_mut().insert(id.clone());
    let span = tracing::info_span!("request", request_id = id.as_str());
    let mut response = serve(request).instrument(span).await;
    let (status, took) = (response.status().as_u16(), begin.elapsed());
    watch.requests.answered(status);
    watch.requests.seconds.observe(took);
    response.headers_mut().insert(HEADER, id.0.clone());
    logs::request(&id, method.as_str(), &path, status, took);
    response
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
