//! Refusals: a status, the native protocol's error as the body, and the header that the status asks for.

use super::json;
use axum::body::Body;
use fanfare_hub::{Error, ErrorCode};
use fanfare_wire::native::app::{Kind, encode_error};
use http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};

/// Why a request gets no answer of the hub. Boxed: it is rare, and what it stands beside in results is small.
#[derive(Debug)]
pub(super) struct Refusal(Box<Parts>);

#[derive(Debug)]
struct Parts {
    status: StatusCode,
    error: Error,
    header: Option<(HeaderName, HeaderValue)>,
}

impl From<Error> for Refusal {
    /// The status is the one in the table of errors. "Too many" and "not now" say when to come back (RFC 9110 §10.2.3, in
    /// seconds), at the least in one: the hub knows better only where a rate was exceeded.
    fn from(error: Error) -> Self {
        let status = StatusCode::from_u16(error.code.row().status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        let seconds = error.retry_after_ms.map_or(1, |ms| ms.div_ceil(1000).max(1));
        let header = retry.then(|| (RETRY_AFTER, HeaderValue::from(seconds)));
        Refusal(Box::new(Parts { status, error, header }))
    }
}

impl Refusal {
    /// A refusal whose status says more than its code: HTTP has statuses for what the native protocol cannot ask.
    pub(super) fn of(status: StatusCode, code: ErrorCode, message: impl Into<Box<str>>) -> Self {
        Refusal(Box::new(Parts { status, error: Error::new(code, message), header: None }))
    }

    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.header = Some((name, value));
        self
    }

    pub(super) fn no_command(path: &str) -> Self {
        let path = &path[..path.floor_char_boundary(80)];
        let words: Vec<&str> = Kind::ALL.iter().map(|kind| kind.word()).collect();
        let message = format!("nothing is at {path:?}; there is POST /api/v1/ with {}", words.join(", "));
        Self::of(StatusCode::NOT_FOUND, ErrorCode::UnknownCommand, message)
    }

    pub(super) fn no_keys() -> Self {
        let message = "this server has no API keys, so it serves no API: name one in the section [api_keys] of its configuration and \
                       reload it by SIGHUP, or start it with the variable FANFARE__API_KEYS__NAME (a program that embeds Fanfare: \
                       by `Builder::api_key`)";
        Self::of(StatusCode::NOT_FOUND, ErrorCode::UnknownCommand, message)
    }

    pub(super) fn method(found: &Method, path: &str, allowed: &'static str) -> Self {
        let found = found.as_str();
        let message = format!("{path} is asked by {allowed}, not by {}", &found[..found.len().min(20)]);
        let refusal = Self::of(StatusCode::METHOD_NOT_ALLOWED, ErrorCode::BadRequest, message);
        refusal.with(ALLOW, HeaderValue::from_static(allowed))
    }

    /// RFC 6750 §3: without a key no error is named, with a wrong one it is.
    pub(super) fn unauthorized(error: Option<&'static str>) -> Self {
        let (message, challenge) = match error {
            None => ("show one API key: `Authorization: Bearer KEY`", "Bearer realm=\"fanfare\""),
            Some(_) => ("there is no such API key", "Bearer realm=\"fanfare\", error=\"invalid_token\""),
        };
        let refusal = Refusal::from(Error::new(ErrorCode::Unauthorized, message));
        refusal.with(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    }

    pub(super) fn status(&self) -> u16 {
        self.0.status.as_u16()
    }

    pub(super) fn error(&self) -> &Error {
        &self.0.error
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let mut out = Vec::new();
        let Parts { status, error, header } = *self.0;
        encode_error(&mut out, &error);
        let mut response = json(out);
        *response.status_mut() = status;
        if let Some((name, value)) = header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfare_hub::ERRORS;

    #[test]
    fn every_error_of_the_hub_has_its_status_and_says_when_to_come_back_where_that_helps() {
        for row in ERRORS {
            for (retry_after_ms, seconds) in
                [(None, 1), (Some(0), 1), (Some(1000), 1), (Some(1001), 2), (Some(60_000), 60)]
            {
                let mut error = Error::new(row.code, "why");
                error.retry_after_ms = retry_after_ms;
                let response = Refusal::from(error).into_response();
                assert_eq!(response.status().as_u16(), row.status, "{}", row.word);
                let retry = response.headers().get(RETRY_AFTER).map(|value| value.to_str().unwrap().to_owned());
                let expected = matches!(row.status, 429 | 503).then(|| format!("{seconds}"));
                assert_eq!(retry, expected, "{} {retry_after_ms:?}", row.word);
            }
        }
    }
}
