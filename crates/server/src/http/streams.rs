//! Requests for streams: recognised, and read.
//!
//! In: the head of a request, and for the native protocol its `connect` command. Out: a [`StreamRequest`] with the
//! wire that serves it, or a refusal: 400 for an invalid request, 403 for a page that may not connect. Whether
//! the application lets the client in is found out later, by the hub.
//!
//! `/events` is the plain event stream of [`Events`]; `/v1/sse` and `/v1/stream` carry the native protocol down, as an
//! event stream and as lines of JSON. The query may hold secrets (`token`, `connect`), and is never logged.

use super::gate::RequestLine;
use super::routes::{Routes, UpgradeRequest};
use crate::api::body::{self, BodyMax};
use crate::config::Config;
use crate::config::authority::Authority;
use crate::framing::stream::{Lines, Stream};
use crate::framing::{Framing, Wire};
use crate::limits::HttpLimit;
use crate::logs::{self, Asked};
use crate::protocol::Protocol;
use crate::protocol::stream::{Bridged, StreamAnswer, StreamContent, StreamRequest, StreamStart};
use crate::refusal::{Asker, HttpRefusal};
use crate::request::{Carried, RequestId, RequestInfo, pairs, path_as_sent};
use crate::settings::nearest::nearest;
use crate::transport::socket::Ends;
use crate::watch::request;
use axum::body::Body;
use axum::extract::Query;
use fanfare_hub::{ChannelName, UserToken, WireId};
use fanfare_wire::events::{Events, EventsRequest};
use fanfare_wire::native::{self, Decoded, HISTORY_LIMIT_MAX};
use fanfare_wire::sse::{CHANNELS_MAX, Cursor};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, Version, header};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// The channel of a stream that names none.
const CHANNEL: &str = "events";

/// The stream at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamKind {
    /// Payloads.
    Events,
    /// The native protocol.
    Native(Lines),
}

impl StreamKind {
    /// The stream at a path.
    pub(crate) fn at(path: &str) -> Option<StreamKind> {
        match path {
            "/events" => Some(StreamKind::Events),
            "/v1/sse" => Some(StreamKind::Native(Lines::Data)),
            "/v1/stream" => Some(StreamKind::Native(Lines::Json)),
            _ => None,
        }
    }

    /// The methods that it takes.
    fn allowed(self) -> &'static str {
        match self {
            StreamKind::Events => "GET, HEAD, OPTIONS",
            StreamKind::Native(_) => "GET, HEAD, OPTIONS, POST",
        }
    }

    /// Whether its request may be a POST with a `connect`.
    pub(crate) fn takes_connect(self) -> bool {
        matches!(self, StreamKind::Native(_))
    }

    /// The parameters of its query.
    fn parameters(self) -> &'static [&'static str] {
        match self {
            StreamKind::Events => &["channel", "envelope", "recent", "lastEventId", "token"],
            StreamKind::Native(_) => &["connect", "token"],
        }
    }

    fn lines(self) -> Lines {
        match self {
            StreamKind::Events => Lines::Blocks,
            StreamKind::Native(lines) => lines,
        }
    }
}

/// The wires of streams, behind those of the protocols.
#[derive(Clone)]
pub(crate) struct StreamWires {
    first: u8,
    pub(super) native: Arc<dyn Protocol>,
    /// The protocol or a handler asks for the request that a connection began with.
    pub(super) needs_request: bool,
    pub(super) limits: native::Limits,
    /// The longest body of a POST, and the longest pause in it.
    pub(super) connect_bytes_max: usize,
    pub(super) pause_max: Duration,
}

/// The forms of the body.
const CHUNKED: [bool; 2] = [false, true];
/// The wires of the native protocol.
const NATIVE: [Lines; 2] = [Lines::Data, Lines::Json];

impl StreamWires {
    /// How many they are.
    pub(crate) const COUNT: usize = (Events::ALL.len() + NATIVE.len()) * CHUNKED.len() + 1;

    /// Adds them to the wires of the protocols.
    pub(crate) fn add(wires: &mut Vec<Wire>, native: Arc<dyn Protocol>, needs_request: bool, config: &Config) -> Self {
        let first = u8::try_from(wires.len()).unwrap_or(u8::MAX); // the builder bounds the protocols
        for chunked in CHUNKED {
            for events in Events::ALL {
                let framing = Framing::Stream(Stream { lines: Lines::Blocks, chunked });
                wires.push(Wire { protocol: Arc::new(events), framing });
            }
            for lines in NATIVE {
                wires.push(Wire { protocol: native.clone(), framing: Framing::Stream(Stream { lines, chunked }) });
            }
        }
        let polls = Framing::Stream(Stream { lines: Lines::Entries, chunked: false });
        wires.push(Wire { protocol: native.clone(), framing: polls });
        let needs_request = needs_request || native.needs_request();
        let limits = &config.limits;
        StreamWires {
            first,
            connect_bytes_max: native.message_bytes_max(limits),
            native,
            needs_request,
            limits: limits.into(),
            pause_max: config.head_timeout,
        }
    }

    /// That of polls, the last one.
    pub(super) fn polls(&self) -> WireId {
        WireId(self.first + (Self::COUNT - 1) as u8)
    }

    fn id(&self, content: &StreamContent, lines: Lines, chunked: bool) -> WireId {
        let place = match content {
            StreamContent::Events(events, _) => {
                Events::ALL.iter().position(|other| other == events).unwrap_or_default()
            }
            StreamContent::Native(_) => {
                Events::ALL.len() + NATIVE.iter().position(|other| *other == lines).unwrap_or_default()
            }
        };
        let form = usize::from(chunked) * (Events::ALL.len() + NATIVE.len());
        WireId(self.first + (form + place) as u8) // of COUNT
    }
}

impl Routes {
    /// The stream at a path, where streams are served.
    pub(crate) fn stream_at(&self, path: &str) -> Option<StreamKind> {
        self.below(path).and_then(StreamKind::at).filter(|_| self.streams.is_some())
    }

    /// Judges a request for a stream. `body` is its `connect`, where the method is POST; `chunked` says how the body of
    /// the answer is written; `ends` are those of its connection.
    pub(crate) fn stream(
        &self,
        kind: StreamKind,
        (request, version, ends): (&UpgradeRequest<'_>, Version, Ends),
        body: Option<&str>,
        chunked: bool,
    ) -> Result<StreamRequest, HttpRefusal> {
        let id = RequestId::of_raw(request.headers);
        let asker = Asker::of(request.method, request.uri.path(), request.headers.iter().copied());
        let mut cors = HeaderMap::new();
        let judged = self.judge_stream(kind, request, version, body, &mut cors);
        let (content, carried, wires) = match judged {
            Ok(judged) => judged,
            Err(refused) => {
                let (status, why) = (refused.status(), refused.reason());
                logs::refused(Asked::Stream, &id, &request.peer, request.uri.path(), status, why);
                return Err(refused.identified(id).to(asker).with_all(&cors));
            }
        };
        let kept = || {
            let headers = request.headers.iter().copied();
            let info = RequestInfo::of(request.method, request.uri, version, headers, request.peer);
            Arc::new(ends.complete(info.carrying(carried)))
        };
        let lines = kind.lines();
        Ok(StreamRequest {
            wire: wires.id(&content, lines, chunked),
            start: StreamStart {
                content,
                native: wires.native.clone(),
                peer: ends.peer,
                request: wires.needs_request.then(kept),
            },
            answer: StreamAnswer { media_type: lines.media_type(), chunked, cors, id, asker },
        })
    }

    fn judge_stream(
        &self,
        kind: StreamKind,
        request: &UpgradeRequest<'_>,
        version: Version,
        body: Option<&str>,
        cors: &mut HeaderMap,
    ) -> Result<(StreamContent, Carried, &StreamWires), HttpRefusal> {
        let headers = || request.headers.iter().copied();
        let asked = RequestLine { method: request.method, version, uri: request.uri };
        let page = self.gate.admit_with_page(self.via, asked, headers)?;
        *cors = self.headers_for(&page);
        let carried = self.gate.token(&page, request.uri, headers)?;
        let Some(wires) = &self.streams else { return Err(super::routes::nothing_at(request.uri.path())) };
        let query = Parameters::of(request.uri)?;
        query.no_slip(kind.parameters())?;
        let content = match kind {
            StreamKind::Events => {
                let request = query.events(headers())?;
                StreamContent::Events(Events::of(&request), Box::new(request))
            }
            StreamKind::Native(_) => StreamContent::Native(wires.connect(&query, body)?),
        };
        Ok((content, carried, wires))
    }

    /// The `connect` in the body of a POST whose head has been read, and the length of the body. `None`: the body is
    /// not whole yet, or its headers are not the usual ones; hyper then reads the request, and judges both.
    pub(crate) fn connect_behind<'r, 'h>(
        &self,
        headers: impl Iterator<Item = (&'h str, &'h [u8])>,
        behind: &'r [u8],
    ) -> Option<(&'r str, usize)> {
        const FOR_HYPER: [&str; 3] = ["transfer-encoding", "content-encoding", "expect"];
        let (mut len, mut has_type) = (None, false);
        for (name, value) in headers {
            if name.eq_ignore_ascii_case("content-length") {
                let digits = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
                if len.replace(digits.parse::<usize>().ok()?).is_some() {
                    return None;
                }
            } else if name.eq_ignore_ascii_case("content-type") {
                if has_type || !value.eq_ignore_ascii_case(b"application/json") {
                    return None;
                }
                has_type = true;
            } else if FOR_HYPER.iter().any(|other| name.eq_ignore_ascii_case(other)) {
                return None;
            }
        }
        let len = len.filter(|len| self.streams.as_ref().is_some_and(|wires| *len <= wires.connect_bytes_max))?;
        Some((std::str::from_utf8(behind.get(..len)?).ok()?, len))
    }

    /// The stream that a request opens, if it opens one. hyper has read the request.
    pub(crate) fn opens_stream<B>(&self, request: &Request<B>) -> Option<StreamKind> {
        let is_taken = |kind: &StreamKind| match *request.method() {
            // As GET, to its verdict: the body goes away with the answer, and with it the stream.
            Method::GET | Method::HEAD => true,
            Method::POST => kind.takes_connect(),
            _ => false,
        };
        self.stream_at(request.uri().path()).filter(is_taken)
    }

    /// Answers a request that opens a stream: `open` gives it to a shard.
    pub(crate) async fn serve_stream(
        &self,
        kind: StreamKind,
        request: Request<Body>,
        ends: Ends,
        open: impl FnOnce(StreamRequest, oneshot::Sender<Result<Bridged, HttpRefusal>>),
    ) -> Response<Body> {
        let serve = async |mut request: Request<Body>| {
            let asker = Asker::of_request(&request);
            let is_head = request.method() == Method::HEAD;
            match self.open_stream(kind, &mut request, ends, open).await {
                Ok(Bridged { headers, body }) => {
                    let body = if is_head { Body::empty() } else { Body::new(body) };
                    let mut response = Response::new(body);
                    *response.headers_mut() = headers;
                    response
                }
                Err(refused) => refused.to(asker).into_response(),
            }
        };
        request::identified(&self.watch, request, serve).await
    }

    async fn open_stream(
        &self,
        kind: StreamKind,
        request: &mut Request<Body>,
        ends: Ends,
        open: impl FnOnce(StreamRequest, oneshot::Sender<Result<Bridged, HttpRefusal>>),
    ) -> Result<Bridged, HttpRefusal> {
        let connect = match (request.method() == Method::POST, &self.streams) {
            (true, Some(wires)) => {
                body::check_type(request.headers())?;
                let max = BodyMax { bytes: wires.connect_bytes_max, limit: HttpLimit::MessageBytes };
                let read = body::read_whole(request.body_mut(), max, wires.pause_max, "connect").await?;
                let text = String::from_utf8(read.into());
                Some(text.map_err(|_| HttpRefusal::because(400, "the body is not UTF-8"))?)
            }
            _ => None,
        };
        let asked = {
            let version = request.version();
            let headers: Vec<_> = pairs(request.headers()).collect();
            let head = UpgradeRequest::of(request, &headers, ends.peer);
            self.stream(kind, (&head, version, ends), connect.as_deref(), false)?
        };
        let (to, answered) = oneshot::channel();
        open(asked, to);
        answered.await.unwrap_or_else(|_| Err(HttpRefusal::stopping()))
    }

    /// Answers a request for a stream's address that opens none: OPTIONS, and methods that it does not take.
    pub(crate) fn about_stream(&self, kind: StreamKind, request: &Request<impl Sized>) -> Response<Body> {
        self.about(kind.allowed(), request, |refused| refused, |cors| cors)
    }

    /// The same for an address of exchanges, which refuse in JSON whatever `Accept` says.
    pub(crate) fn about_exchange(&self, request: &Request<impl Sized>) -> Response<Body> {
        self.about(super::exchanges::ALLOWED, request, HttpRefusal::in_json, |cors| cors)
    }

    /// `allowed` are the methods of the address, `shape` forms its refusals, and `head` makes the headers of an answer
    /// to HEAD.
    pub(super) fn about(
        &self,
        allowed: &'static str,
        request: &Request<impl Sized>,
        shape: fn(HttpRefusal) -> HttpRefusal,
        head: impl FnOnce(HeaderMap) -> HeaderMap,
    ) -> Response<Body> {
        let pairs = || pairs(request.headers());
        let asker = Asker::of_request(request);
        let authority = pairs().find(|(name, _)| *name == "host").and_then(|(_, host)| {
            Authority::parse(std::str::from_utf8(host).ok()?).ok() // the gate has judged it
        });
        let page = match self.gate.admit_page(authority.as_ref(), pairs()) {
            Ok(page) => page,
            Err(refused) => return shape(refused.to(asker)).into_response(),
        };
        match *request.method() {
            Method::HEAD if allowed.contains("HEAD") => {
                let mut response = Response::new(Body::empty());
                *response.headers_mut() = head(page.headers());
                response
            }
            Method::OPTIONS => page.options(allowed, request.headers()),
            _ => {
                let allow = HeaderValue::from_static(allowed);
                let sent = path_as_sent(request.uri(), request.extensions());
                let refused = super::routes::not_by(request.method(), sent).with(header::ALLOW, allow);
                shape(refused.with_all(&page.headers()).to(asker)).into_response()
            }
        }
    }
}

/// The parameters of a query.
struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn of(uri: &Uri) -> Result<Self, HttpRefusal> {
        // The decoder would put U+FFFD in the place of other bytes. A position that is garbage is the business of
        // `Cursor`.
        let mut parts = uri.query().unwrap_or_default().split('&').filter(|part| !part.starts_with("lastEventId="));
        if let Some(part) = parts.find(|part| !is_text(part)) {
            let reason = format!("the query's {part:?} is not UTF-8, percent-encoded");
            return Err(HttpRefusal::because(400, reason));
        }
        match Query::<Vec<(String, String)>>::try_from_uri(uri) {
            Ok(Query(list)) => Ok(Parameters(list)),
            Err(_) => Err(HttpRefusal::because(400, "the query cannot be read")),
        }
    }

    /// Refuses a name that is nearly a known one: `chanel` would be the default channel without a word. Other names are
    /// ignored, because browsers, polyfills, gateways and the application's handlers have parameters of their own.
    fn no_slip(&self, known: &[&'static str]) -> Result<(), HttpRefusal> {
        let slip = |name: &str| {
            let is_known = known.contains(&name);
            nearest(name, known.iter().copied()).filter(|_| !is_known && name.len() > 2)
        };
        match self.0.iter().find_map(|(name, _)| Some((name, slip(name)?))) {
            None => Ok(()),
            Some((name, meant)) => {
                let reason = format!("there is no parameter {name:?}; did you mean {meant:?}?");
                Err(HttpRefusal::because(400, reason))
            }
        }
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(other, _)| other == name).map(|(_, value)| &**value)
    }

    fn one<'a>(&'a self, name: &'a str) -> Result<Option<&'a str>, HttpRefusal> {
        let mut all = self.all(name);
        let first = all.next();
        match all.next() {
            Some(_) => Err(HttpRefusal::because(400, format!("the parameter `{name}` is there twice"))),
            None => Ok(first),
        }
    }

    fn events<'h>(
        &self,
        headers: impl Iterator<Item = (&'h str, &'h [u8])> + Clone,
    ) -> Result<EventsRequest, HttpRefusal> {
        let mut channels = Vec::new();
        for name in self.all("channel") {
            let channel = ChannelName::new(name);
            let channel = channel.map_err(|error| HttpRefusal::because(400, format!("`channel` {name:?}: {error}")))?;
            if !channels.contains(&channel) {
                channels.push(channel);
            }
            if channels.len() > CHANNELS_MAX {
                let reason = format!("a stream may have at most {CHANNELS_MAX} channels");
                return Err(HttpRefusal::because(400, reason).over(CHANNELS_MAX));
            }
        }
        if channels.is_empty() {
            channels.extend(ChannelName::new(CHANNEL));
        }
        let envelope = match self.one("envelope")? {
            None | Some("0" | "false") => false,
            Some("1" | "true") => true,
            Some(other) => {
                return Err(HttpRefusal::because(400, format!("`envelope` must be 0 or 1, not {other:?}")));
            }
        };
        let recent = match self.one("recent")? {
            None => None,
            Some(text) => match text.parse().ok().filter(|recent| *recent <= HISTORY_LIMIT_MAX) {
                Some(recent) => Some(recent),
                None => {
                    let reason = format!("`recent` must be an integer from 0 to {HISTORY_LIMIT_MAX}, not {text:?}");
                    return Err(HttpRefusal::because(400, reason));
                }
            },
        };
        let header = |name: &str| {
            let found = headers.clone().find(|(other, _)| other.eq_ignore_ascii_case(name));
            found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
        };
        // A browser that comes back by itself asks for the same address, and the header has its newest position.
        let shown = header("last-event-id").filter(|id| !id.is_empty());
        let shown = match shown {
            Some(shown) => Some(shown),
            None => self.one("lastEventId")?.filter(|id| !id.is_empty()).map(str::to_owned),
        };
        let bearer = |value: String| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
        };
        let token = header("authorization").and_then(bearer);
        let token = match token {
            Some(token) => Some(token),
            None => self.one("token")?.filter(|token| !token.is_empty()).map(str::to_owned),
        };
        let cursor = shown.map(|shown| Cursor::decode(&shown));
        let token = token.map(|token| UserToken::from(&*token));
        Ok(EventsRequest { channels, envelope, recent, cursor, token })
    }
}

/// True for a part of a query that stands for text.
fn is_text(part: &str) -> bool {
    let bytes = part.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|&byte| char::from(byte).to_digit(16));
    let (mut decoded, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    std::str::from_utf8(&decoded).is_ok()
}

impl StreamWires {
    /// The `connect` of a native stream: one command, in the body or in the query.
    fn connect(&self, query: &Parameters, body: Option<&str>) -> Result<Box<str>, HttpRefusal> {
        let in_query = query.one("connect")?;
        let body = body.filter(|body| !body.trim_ascii().is_empty()); // a POST without a body asks as a GET does
        let text = match (body, in_query) {
            (Some(_), Some(_)) => {
                return Err(HttpRefusal::because(400, "`connect` is in the body and in the query: one is enough"));
            }
            (Some(text), None) | (None, Some(text)) => text,
            (None, None) => r#"{"type":"connect","id":1}"#,
        };
        let (text, has_ticket) = self.judge_connect(text)?;
        // Addresses are logged and shared: a ticket in one would be somebody's session.
        if has_ticket && body.is_none() {
            return Err(HttpRefusal::because(
                400,
                "`?connect=` takes no `ticket`: send the command in the body of a POST",
            ));
        }
        Ok(text)
    }

    /// The `connect` of a poll session.
    pub(super) fn connect_of(&self, body: &str) -> Result<Box<str>, HttpRefusal> {
        Ok(self.judge_connect(body)?.0)
    }

    /// One `connect` command, and whether it has a ticket.
    fn judge_connect(&self, text: &str) -> Result<(Box<str>, bool), HttpRefusal> {
        let mut decoded = Vec::new();
        native::decode(text, &self.limits, &mut decoded);
        match &decoded[..] {
            [Decoded::Connect { id: Some(_), ticket, .. }] => Ok((text.into(), ticket.is_some())),
            [Decoded::Connect { id: None, .. }] => Err(HttpRefusal::because(400, "`connect` needs an `id`")),
            [Decoded::Request(request)] if let fanfare_hub::Command::Invalid(error) = &request.command => {
                Err(error.clone().into())
            }
            _ => Err(HttpRefusal::because(400, "a stream begins with one `connect` command")),
        }
    }
}

/// A part of the fuzz target `request_head`: the query of a stream.
pub(super) fn fuzz<'h>(
    uri: &Uri,
    headers: impl Iterator<Item = (&'h str, &'h [u8])> + Clone,
) -> Result<(), HttpRefusal> {
    let query = Parameters::of(uri)?;
    for kind in [StreamKind::Events, StreamKind::Native(Lines::Json)] {
        query.no_slip(kind.parameters())?;
    }
    query.one("connect")?;
    let request = query.events(headers)?;
    assert!((1..=CHANNELS_MAX).contains(&request.channels.len()));
    assert!(request.recent.is_none_or(|recent| recent <= HISTORY_LIMIT_MAX));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(query: &str, headers: &[(&str, &str)]) -> Result<EventsRequest, String> {
        let uri: Uri = format!("/events?{query}").parse().expect("a target");
        let headers: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        let parameters = Parameters::of(&uri).map_err(|refused| refused.reason().to_owned())?;
        parameters.events(headers.iter().copied()).map_err(|refused| refused.reason().to_owned())
    }

    #[test]
    fn a_query_names_channels_and_options() {
        let names = |request: &EventsRequest| request.channels.iter().map(ToString::to_string).collect::<Vec<_>>();
        let request = events("", &[]).expect("valid");
        assert_eq!((names(&request), request.envelope, request.recent), (vec!["events".to_owned()], false, None));
        let request = events("channel=chat%3Aa&channel=b&channel=chat:a&envelope=1&recent=5&x=%C3%a9%2&y=%zz", &[])
            .expect("valid");
        assert_eq!(names(&request), ["chat:a", "b"]);
        assert_eq!((request.envelope, request.recent, request.cursor.is_some()), (true, Some(5), false));
    }

    #[test]
    fn a_slip_in_the_name_of_a_parameter_is_refused_and_a_stranger_is_ignored() {
        let judged = |kind: StreamKind, query: &str| {
            let uri: Uri = format!("/events?{query}").parse().expect("a target");
            let parameters = Parameters::of(&uri).expect("text");
            parameters.no_slip(kind.parameters()).map_err(|refused| refused.reason().to_owned())
        };
        let (events, native) = (StreamKind::Events, StreamKind::Native(Lines::Data));
        let rows = [
            (events, "chanel=a", Err("there is no parameter \"chanel\"; did you mean \"channel\"?")),
            (events, "channels=a", Err("there is no parameter \"channels\"; did you mean \"channel\"?")),
            (events, "channel=a&Envelope=1", Err("there is no parameter \"Envelope\"; did you mean \"envelope\"?")),
            (events, "lasteventid=a", Err("there is no parameter \"lasteventid\"; did you mean \"lastEventId\"?")),
            (events, "tokn=a", Err("there is no parameter \"tokn\"; did you mean \"token\"?")),
            (native, "conect=a", Err("there is no parameter \"conect\"; did you mean \"connect\"?")),
            // Of cache busters, polyfills, gateways and handlers.
            (events, "_=1&t=2&ts=3&cb=4&cors=true&r=5&lastEventId=x&room=7&apikey=8&utm_source=9", Ok(())),
            (native, "channel=a&connect=b&token=c&_=1", Ok(())),
        ];
        for (kind, query, expected) in rows {
            assert_eq!(judged(kind, query), expected.map_err(str::to_owned), "{query}");
        }
    }

    #[test]
    fn the_header_says_more_than_the_query() {
        let shown = |query: &str, headers: &[(&str, &str)]| events(query, headers).expect("valid").cursor;
        let (old, new) = ("1.0000000000000001.1", "1.0000000000000001.2");
        let rows = [
            (format!("lastEventId={old}"), vec![], Some(old)),
            (format!("lastEventId={old}"), vec![("Last-Event-ID", new)], Some(new)),
            (format!("lastEventId={old}"), vec![("last-event-id", "")], Some(old)),
            ("lastEventId=".to_owned(), vec![], None),
            ("lastEventId=garbage".to_owned(), vec![], Some("")),
            ("lastEventId=%ff".to_owned(), vec![], Some("")),
        ];
        for (query, headers, expected) in rows {
            assert_eq!(shown(&query, &headers), expected.map(Cursor::decode), "{query} {headers:?}");
        }
        let token = |query, headers: &[(&str, &str)]| events(query, headers).expect("valid").token;
        assert_eq!(token("token=a", &[]).as_deref(), Some("a"));
        assert_eq!(token("token=a", &[("Authorization", "bearer b")]).as_deref(), Some("b"));
        assert_eq!(token("token=a", &[("Authorization", "Basic b")]).as_deref(), Some("a"));
    }

    #[test]
    fn values_out_of_range_are_refused_with_the_range() {
        let many = |count: usize| (0..count).map(|n| format!("channel=c:{n}")).collect::<Vec<_>>().join("&");
        assert_eq!(events(&many(32), &[]).expect("valid").channels.len(), 32);
        let rows = [
            (many(33), "at most 32 channels"),
            ("channel=a%20b".to_owned(), "`channel` \"a b\""),
            ("channel=%ff".to_owned(), "\"channel=%ff\" is not UTF-8"),
            ("channel=%C3&channel=%A9".to_owned(), "\"channel=%C3\" is not UTF-8"),
            ("token=%ED%A0%80".to_owned(), "is not UTF-8"),
            ("channel=".to_owned(), "`channel` \"\""),
            ("envelope=yes".to_owned(), "`envelope` must be 0 or 1"),
            ("recent=1001".to_owned(), "from 0 to 1000"),
            ("recent=-1".to_owned(), "from 0 to 1000"),
            ("recent=1&recent=2".to_owned(), "`recent` is there twice"),
        ];
        for (query, expected) in rows {
            let reason = events(&query, &[]).expect_err(&query);
            assert!(reason.contains(expected), "{query}: {reason}");
        }
    }
}
