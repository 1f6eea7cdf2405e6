//! The headers that keep browsers from taking an answer of the server for something else.
//!
//! In: the headers of an answer that the server itself makes: of a refusal, the API, a stream, a poll, a figure. Out:
//! the same, so that no browser guesses another type, and no page of another origin loads it as an image or a script;
//! what pages read by `fetch`, `EventSource` and `XMLHttpRequest` is decided by [`cors`](crate::http::cors) alone. The pages
//! of an embedding program are never changed: they set their own.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use std::time::Duration;

const NO_SNIFFING: HeaderValue = HeaderValue::from_static("nosniff");
const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
/// Nothing in it is run or loaded, and no page shows it in a frame.
const NOTHING: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");

/// Of data, where every byte counts.
pub(crate) fn data(headers: &mut HeaderMap) {
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, NO_SNIFFING);
    headers.insert(CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
}

/// Of an answer that a person may open in a browser.
pub(crate) fn shown(headers: &mut HeaderMap) {
    data(headers);
    headers.insert(header::CONTENT_SECURITY_POLICY, NOTHING);
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
}

/// The value of `Strict-Transport-Security` (RFC 6797 §6.1) for this time. Zero: there is none.
pub(crate) fn hsts(time: Duration) -> Option<HeaderValue> {
    let value = || HeaderValue::try_from(format!("max-age={}", time.as_secs())).ok();
    if time.is_zero() { None } else { value() }
}
