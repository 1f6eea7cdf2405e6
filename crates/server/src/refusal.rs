//! [`HttpRefusal`]: one type for every HTTP request that is refused, and its one writer.
//!
//! In: a status with a sentence, or an error of the hub; the option and the limit that decided; headers. Out: the
//! same status, headers and body wherever the request was judged: on the raw socket before hyper has it
//! ([`HttpRefusal::bytes`]), by hyper, by the API, by the pages or on the admin port
//! ([`HttpRefusal::into_response`]). 429 and 503 always say when to come back.
//!
//! The body is the sentence as plain text. It is the native protocol's error as JSON, with `option` and `limit` where
//! they are known, on the API's paths and for a client whose `Accept` names JSON before text. A head that could not
//! be read names neither.

use crate::config::auth::ANONYMOUS;
use crate::harden;
use crate::limits::HttpLimit;
use crate::request::{REQUEST_ID, RequestId, is_api_path, pairs};
use axum::body::Body;
use axum::extract::FromRequestParts;
use fanfare_hub::{Error, ErrorCode};
use fanfare_wire::engineio::Refused;
use fanfare_wire::native::app::encode_refusal;
use fanfare_wire::websocket;
use http::header::{
    ACCEPT, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, DATE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use std::convert::Infallible;
use std::time::SystemTime;

/// A refused request. Boxed: it is rare, and keeps the results that hold it small.
#[derive(Debug)]
pub(crate) struct HttpRefusal(Box<Parts>);

#[derive(Debug)]
struct Parts {
    status: StatusCode,
    error: Error,
    option: Option<&'static str>,
    limit: Option<u64>,
    /// For the figures.
    reached: Option<HttpLimit>,
    headers: HeaderMap,
    id: Option<RequestId>,
    asker: Asker,
    /// The connection ends with it.
    is_last: bool,
    /// The same request never succeeds.
    is_final: bool,
    /// The body of another protocol: JSON.
    words: Option<String>,
}

/// Marks an answer behind which the connection of HTTP/1 ends: nothing that follows is taken for a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LastAnswer;

/// How the client wants to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Asker {
    json: bool,
    /// The method is HEAD: the answer has no body.
    head: bool,
}

impl Asker {
    /// Judges a head, from its method, its path and its headers.
    pub(crate) fn of<'h>(method: &str, path: &str, headers: impl Iterator<Item = (&'h str, &'h [u8])>) -> Self {
        let accepts = headers.filter(|(name, _)| name.eq_ignore_ascii_case(ACCEPT.as_str())).map(|(_, value)| value);
        Asker { json: is_api_path(path) || prefers_json(accepts), head: method == "HEAD" }
    }

    /// The same, of a request that hyper has parsed.
    pub(crate) fn of_request<B>(request: &http::Request<B>) -> Self {
        let headers = pairs(request.headers());
        Asker::of(request.method().as_str(), request.uri().path(), headers)
    }
}

impl<S: Sync> FromRequestParts<S> for Asker {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut http::request::Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Asker::of(parts.method.as_str(), parts.uri.path(), pairs(&parts.headers)))
    }
}

/// True if `Accept` (RFC 9110 §12.5.1) gives JSON a weight by name, and plain text and HTML no greater one. `*/*`
/// counts for neither, because clients without a preference send it.
fn prefers_json<'h>(accepts: impl Iterator<Item = &'h [u8]>) -> bool {
    let (mut json, mut text) = (0.0_f32, 0.0_f32);
    for range in accepts.filter_map(|value| std::str::from_utf8(value).ok()).flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight = parts.find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            name.trim().eq_ignore_ascii_case("q").then(|| value.trim().parse().unwrap_or(0.0))
        });
        let weight: f32 = weight.unwrap_or(1.0);
        match &*essence {
            "application/json" | "application/*" | "application/problem+json" => json = json.max(weight),
            "text/plain" | "text/html" | "text/*" => text = text.max(weight),
            _ => {}
        }
    }
    json > 0.0 && json >= text
}

/// A challenge of RFC 6750 §3. The description has only the characters that it may have.
fn challenge(error: Option<&'static str>, words: &str) -> HeaderValue {
    const CHARS_MAX: usize = 300;
    const PLAIN: HeaderValue = HeaderValue::from_static("Bearer realm=\"fanfare\"");
    let Some(error) = error else { return PLAIN };
    let allowed = |c: char| match c {
        '"' => '\'',
        '\\' => '/',
        ' '..='~' => c,
        _ => '?',
    };
    let words: String = words.chars().take(CHARS_MAX).map(allowed).collect();
    let text = format!("Bearer realm=\"fanfare\", error=\"{error}\", error_description=\"{words}\"");
    HeaderValue::try_from(text).unwrap_or(PLAIN)
}

/// The general code for a status.
fn code_of(status: StatusCode) -> ErrorCode {
    match status {
        StatusCode::UNAUTHORIZED => ErrorCode::Unauthorized,
        StatusCode::FORBIDDEN => ErrorCode::Denied,
        StatusCode::NOT_FOUND => ErrorCode::NotFound,
        StatusCode::REQUEST_TIMEOUT => ErrorCode::Timeout,
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => ErrorCode::TooLarge,
        StatusCode::TOO_MANY_REQUESTS => ErrorCode::LimitExceeded,
        StatusCode::SERVICE_UNAVAILABLE => ErrorCode::Unavailable,
        status if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED => ErrorCode::Internal,
        _ => ErrorCode::BadRequest,
    }
}

impl From<Error> for HttpRefusal {
    /// The status is the one in the table of errors.
    fn from(error: Error) -> Self {
        let status = StatusCode::from_u16(error.code.row().status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        HttpRefusal::new(status, error)
    }
}

impl From<Refused> for HttpRefusal {
    /// The body is that of the reference; the sentence is for the log.
    fn from(refused: Refused) -> Self {
        let hint = match refused {
            Refused::UnsupportedVersion => "; Socket.IO clients from version 3 on speak version 4 of Engine.IO",
            _ => "",
        };
        let words = format!("{refused} (code {}){hint}", refused.code());
        HttpRefusal::because(refused.status(), words).in_words(refused.body())
    }
}

impl From<websocket::UpgradeRequestError> for HttpRefusal {
    fn from(refusal: websocket::UpgradeRequestError) -> Self {
        let mut refused = HttpRefusal::because(refusal.status(), refusal.to_string());
        for (name, value) in refusal.headers() {
            if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
                refused = refused.with(name, HeaderValue::from_static(value));
            }
        }
        refused
    }
}

impl HttpRefusal {
    fn new(status: StatusCode, error: Error) -> Self {
        let (headers, asker) = (HeaderMap::new(), Asker::default());
        HttpRefusal(Box::new(Parts {
            status,
            error,
            option: None,
            limit: None,
            reached: None,
            headers,
            id: None,
            asker,
            is_last: false,
            is_final: false,
            words: None,
        }))
    }

    /// Every shard has ended, or takes nothing in any more.
    pub(crate) fn stopping() -> Self {
        HttpRefusal::because(503, "the server is stopping")
    }

    /// A refusal whose code follows from its status.
    pub(crate) fn because(status: u16, message: impl Into<Box<str>>) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        HttpRefusal::new(status, Error::new(code_of(status), message))
    }

    /// A refusal whose status says more than its code: HTTP has statuses for what the native protocol cannot ask.
    pub(crate) fn of(status: StatusCode, code: ErrorCode, message: impl Into<Box<str>>) -> Self {
        HttpRefusal::new(status, Error::new(code, message))
    }

    /// With one more header.
    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.insert(name, value);
        self
    }

    /// With the challenge of RFC 6750 that names this error.
    pub(crate) fn challenged(self, error: &'static str) -> Self {
        let challenge = challenge(Some(error), self.reason());
        self.with(WWW_AUTHENTICATE, challenge)
    }

    /// With these headers too.
    pub(crate) fn with_all(mut self, headers: &HeaderMap) -> Self {
        self.0.headers.extend(headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        self
    }

    /// With the option of the configuration that decided.
    pub(crate) fn by(mut self, option: &'static str) -> Self {
        self.0.option = Some(option);
        self
    }

    /// At this limit, which is counted. With its option, if it has one.
    pub(crate) fn at(mut self, limit: HttpLimit) -> Self {
        self.0.reached = Some(limit);
        self.0.option = limit.option();
        self
    }

    /// The limit that it is counted at.
    pub(crate) fn reached(&self) -> Option<HttpLimit> {
        self.0.reached
    }

    /// With the limit that is exceeded.
    pub(crate) fn over(mut self, limit: usize) -> Self {
        self.0.limit = Some(limit as u64);
        self
    }

    /// With the time after which the same request may succeed.
    pub(crate) fn retry_after_ms(mut self, ms: u64) -> Self {
        self.0.error.retry_after_ms = Some(ms);
        self
    }

    /// The refusal of the request with this id.
    pub(crate) fn identified(mut self, id: RequestId) -> Self {
        self.0.id = Some(id);
        self
    }

    /// For this client.
    pub(crate) fn to(mut self, asker: Asker) -> Self {
        self.0.asker = asker;
        self
    }

    /// For a client of Engine.IO that may not connect, or not now: in the form of the reference, with code 4.
    pub(crate) fn forbidden_in_engine(self) -> Self {
        let words = Refused::Forbidden.body_with(self.reason());
        self.in_words(words)
    }

    /// With this body, which is JSON, in place of the sentence.
    pub(crate) fn in_words(mut self, words: String) -> Self {
        self.0.words = Some(words);
        self
    }

    /// As the API answers.
    pub(crate) fn in_json(mut self) -> Self {
        self.0.asker.json = true;
        self
    }

    /// The connection ends with it, over HTTP/1.
    pub(crate) fn and_last(mut self) -> Self {
        self.0.is_last = true;
        self
    }

    /// The same request never succeeds, whatever its code says of others.
    pub(crate) fn for_good(mut self) -> Self {
        self.0.is_final = true;
        self
    }

    pub(crate) fn status(&self) -> u16 {
        self.0.status.as_u16()
    }

    /// The request's id, where it could be read.
    pub(crate) fn id(&self) -> Option<&RequestId> {
        self.0.id.as_ref()
    }

    pub(crate) fn error(&self) -> &Error {
        &self.0.error
    }

    /// The sentence.
    pub(crate) fn reason(&self) -> &str {
        &self.0.error.message
    }

    /// Status, headers and body, as every path writes them.
    fn written(self) -> (StatusCode, HeaderMap, Vec<u8>) {
        let Parts { status, error, option, limit, reached: _, mut headers, id, asker, is_last: _, is_final, words } =
            *self.0;
        // RFC 9110 §10.2.3, in whole seconds, at least one: the hub knows the time only for an exceeded rate.
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) && !is_final {
            let seconds = error.retry_after_ms.map_or(1, |ms| ms.div_ceil(1000).max(1));
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        // RFC 9110 §15.5.2. Without a token no error is named (RFC 6750 §3.1).
        if status == StatusCode::UNAUTHORIZED && !headers.contains_key(WWW_AUTHENTICATE) {
            let is_wrong = matches!(error.code, ErrorCode::Unauthorized | ErrorCode::TokenExpired);
            let named = (is_wrong && error.option != Some(ANONYMOUS)).then_some("invalid_token");
            headers.insert(WWW_AUTHENTICATE, challenge(named, &error.message));
        }
        if let Some(id) = id {
            headers.insert(REQUEST_ID, id.value());
        }
        let mut body = Vec::with_capacity(error.message.len() + 1);
        let kind = if let Some(words) = words {
            body.extend_from_slice(words.as_bytes());
            "application/json"
        } else if asker.json {
            encode_refusal(&mut body, &error, error.code.row().retryable && !is_final, option, limit);
            "application/json"
        } else {
            body.extend_from_slice(error.message.as_bytes());
            "text/plain; charset=utf-8"
        };
        body.push(b'\n'); // in a terminal the prompt then stands on a line of its own
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        harden::shown(&mut headers);
        (status, headers, body)
    }

    /// For hyper and for routers. They write the length and the date, and leave the body of an answer to HEAD out.
    pub(crate) fn into_response(self) -> Response<Body> {
        let (is_last, reached) = (self.0.is_last, self.0.reached);
        let (status, headers, body) = self.written();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        if let Some(limit) = reached {
            response.extensions_mut().insert(limit);
        }
        if is_last {
            response.extensions_mut().insert(LastAnswer);
        }
        response
    }

    /// The same with the headers that a router's layers gave an answer without words.
    pub(crate) fn onto(self, page: &Response<Body>) -> Response<Body> {
        let mut response = self.into_response();
        for (name, value) in page.headers().iter().filter(|(name, _)| !matches!(**name, CONTENT_LENGTH | CONTENT_TYPE))
        {
            response.headers_mut().append(name, value.clone());
        }
        response
    }

    /// The last answer on a raw socket, in HTTP/1.1.
    pub(crate) fn bytes(self) -> Vec<u8> {
        let is_head = self.0.asker.head;
        let (status, mut headers, body) = self.written();
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        if let Ok(date) = HeaderValue::from_str(&httpdate::fmt_http_date(SystemTime::now())) {
            headers.insert(DATE, date);
        }
        headers.append(CONNECTION, HeaderValue::from_static("close"));
        let mut out =
            format!("HTTP/1.1 {} {}\r\n", status.as_str(), status.canonical_reason().unwrap_or("")).into_bytes();
        for (name, value) in &headers {
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
        if !is_head {
            out.extend_from_slice(&body);
        }
        out
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
                let response = HttpRefusal::from(error).into_response();
                assert_eq!(response.status().as_u16(), row.status, "{}", row.word);
                let retry = response.headers().get(RETRY_AFTER).map(|value| value.to_str().unwrap().to_owned());
                let expected = matches!(row.status, 429 | 503).then(|| format!("{seconds}"));
                assert_eq!(retry, expected, "{} {retry_after_ms:?}", row.word);
            }
        }
    }

    #[test]
    fn json_is_for_the_api_and_for_clients_that_name_it_before_text() {
        let rows: &[(&str, &[&str], bool)] = &[
            ("/", &[], false),
            ("/", &["*/*"], false),
            ("/", &["application/json"], true),
            ("/", &["Application/JSON;q=0.5"], true),
            ("/", &["application/json, text/plain, */*"], true),
            ("/", &["application/json;q=0.5, text/html"], false),
            ("/", &["text/html", "application/json"], true),
            ("/", &["application/json;q=0"], false),
            ("/", &["application/json; Q = x"], false),
            ("/", &["application/problem+json"], true),
            ("/", &[",;q=,"], false),
            ("/api/v1/publish", &[], true),
            ("/api/v1/publish", &["text/plain"], true),
            ("/api/orders", &[], false),
        ];
        for (path, accepts, json) in rows {
            let headers = accepts.iter().map(|accept| ("aCCept", accept.as_bytes()));
            assert_eq!(Asker::of("GET", path, headers).json, *json, "{path} {accepts:?}");
        }
    }

    #[test]
    fn an_answer_to_head_has_the_length_of_a_body_and_none() {
        let asker = Asker::of("HEAD", "/", std::iter::empty());
        let text = String::from_utf8(HttpRefusal::because(404, "nothing").to(asker).bytes()).unwrap();
        assert!(text.contains("\r\ncontent-length: 8\r\n") && text.ends_with("\r\n\r\n"), "{text}");
    }

    #[test]
    fn json_names_the_option_and_the_limit() {
        let refused = HttpRefusal::because(431, "too long").at(HttpLimit::HeadBytes).over(1024).in_json();
        let text = String::from_utf8(refused.bytes()).unwrap();
        let body = r#"{"code":"too_large","message":"too long","retryable":false,"option":"limits.head_bytes_max","limit":1024}"#;
        assert!(text.ends_with(&format!("\r\n\r\n{body}\n")), "{text}");
    }
}
