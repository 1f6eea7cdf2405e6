//! Routes a request, from either parser: to a protocol by an upgrade, to the HTTP API, or to a page.
//!
//! In: the head of an upgrade ([`UpgradeRequest`]), or a whole request. Out: the granted upgrade or its refusal, or
//! the response.

use super::cors::Page;
use super::engine::EngineWire;
use super::gate::{Gate, RequestLine, Target, has_body};
use super::gzip::{Accepts, Gzip};
use super::streams::StreamWires;
use crate::api::{self, CurrentApi};
use crate::config::hosts::Via;
use crate::logs::{self, Asked};
use crate::protocol::exchange::Admit;
use crate::protocol::{Node, Protocol};
use crate::refusal::{Asker, HttpRefusal};
use crate::request::{Peer, RequestId, RequestInfo, path_as_sent};
use crate::transport::admission::{AdmittedSession, Connections, Over};
use crate::transport::socket::Ends;
use crate::watch::Watch;
use crate::watch::request;
use axum::BoxError;
use axum::body::{Body, HttpBody as _};
use axum::extract::OriginalUri;
use bytes::Bytes;
use fanfare_hub::{Error, WireId};
use fanfare_wire::websocket::deflate::{Agreed, Window, negotiate};
use fanfare_wire::websocket::{Accepted, accept, is_upgrade};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use smallvec::SmallVec;
use std::sync::Arc;
use tower::ServiceExt as _;

/// The methods of addresses that tell about the server itself, and of those that are for WebSockets.
const OWN_METHODS: &str = "GET, HEAD, OPTIONS";

/// The routes of requests. The same on every shard.
#[derive(Clone)]
pub(crate) struct Routes {
    /// Upgrades: by path, then by subprotocol.
    pub(crate) upgrades: Arc<[Upgrade]>,
    /// Streams, if they are served.
    pub(crate) streams: Option<Arc<StreamWires>>,
    /// The application's API, if there are keys for it.
    pub(crate) api: CurrentApi,
    /// Where requests are counted.
    pub(crate) watch: Arc<Watch>,
    /// The server, whose seal the ids of sessions of Engine.IO have.
    pub(crate) node: Arc<Node>,
    /// The gate that these connections pass, and the kind of their listener.
    pub(crate) gate: Arc<Gate>,
    pub(crate) via: Via,
    /// Everything else.
    pub(crate) pages: axum::Router,
    /// How answers are compressed, if they are.
    pub(crate) gzip: Option<Gzip>,
    /// The value of `Strict-Transport-Security`, where the connections speak TLS and the option is set.
    pub(crate) hsts: Option<HeaderValue>,
}

/// Marks an answer of the embedder's router, to which nothing is added.
#[derive(Debug, Clone, Copy)]
struct OfProgram;

/// A protocol, and where it is spoken.
pub(crate) struct Upgrade {
    pub(crate) path: String,
    pub(crate) wire: WireId,
    /// For clients that may be sent compressed messages.
    pub(crate) deflated: Option<DeflatedWires>,
    pub(crate) protocol: Arc<dyn Protocol>,
    /// Set for Socket.IO: then requests are judged by the rules of Engine.IO besides.
    pub(crate) engine_io: Option<EngineWire>,
    /// The protocol or a handler asks for the request that a connection began with.
    pub(crate) needs_request: bool,
}

/// The wires of one protocol with compression, by the window that the client has for it.
pub(crate) struct DeflatedWires {
    pub(crate) full: WireId,
    pub(crate) small: WireId,
}

impl Upgrade {
    /// True at its path. Clients of Engine.IO may leave the slash at its end out.
    pub(crate) fn is_at(&self, path: &str) -> bool {
        let bare = |path: &str| path.strip_suffix('/').map(str::len);
        self.path == path || self.engine_io.is_some() && bare(&self.path).is_some_and(|len| self.path[..len] == *path)
    }

    /// The wire for a client that offers these extensions, and the value of `Sec-WebSocket-Extensions` for it.
    fn wire_for(&self, extensions: &[&str]) -> (WireId, Option<&'static str>) {
        match self.deflated.as_ref().and_then(|wires| Some((wires, negotiate(extensions)?))) {
            None => (self.wire, None),
            Some((wires, Agreed { window: Window::Full, answer })) => (wires.full, Some(answer)),
            Some((wires, Agreed { window: Window::Small, answer })) => (wires.small, Some(answer)),
        }
    }
}

/// An upgrade request, from either parser.
pub(crate) struct UpgradeRequest<'a> {
    pub(crate) method: &'a str,
    pub(crate) http_minor: u8,
    pub(crate) uri: &'a Uri,
    pub(crate) headers: &'a [(&'a str, &'a [u8])],
    pub(crate) peer: Peer,
}

impl<'a> UpgradeRequest<'a> {
    /// The head of a request that hyper has read. `headers` are its own.
    pub(crate) fn of<B>(request: &'a Request<B>, headers: &'a [(&'a str, &'a [u8])], peer: Peer) -> Self {
        let http_minor = u8::from(request.version() == Version::HTTP_11);
        UpgradeRequest { method: request.method().as_str(), http_minor, uri: request.uri(), headers, peer }
    }
}

/// An upgrade that was granted.
pub(crate) struct Granted<'a> {
    pub(crate) accepted: Accepted<'a>,
    pub(crate) wire: WireId,
    pub(crate) subprotocol: Option<&'static str>,
    /// The value of `Sec-WebSocket-Extensions`.
    pub(crate) extensions: Option<&'static str>,
    /// Made only where a handler or protocol asks for it.
    pub(crate) request: Option<RequestInfo>,
    /// The id of the session of Engine.IO that it is for, if it begins none. It is unchecked.
    pub(crate) sid: Option<Box<str>>,
    hsts: Option<HeaderValue>,
}

/// The answer to a page's request on a connection over a limit, and to a client whose session would be.
pub(crate) fn overloaded(over: &Over) -> HttpRefusal {
    let Over { words, option, limit, code, retry_after_ms, .. } = over;
    HttpRefusal::from(Error::new(*code, format!("{words}; come back later")))
        .by(option)
        .over(*limit)
        .retry_after_ms(*retry_after_ms)
}

/// Counts a session without a socket. At a limit the log says so.
pub(crate) fn admitted(connections: &Arc<Connections>, peer: &Peer) -> Result<AdmittedSession, Over> {
    let admitted = connections.admit_session(peer.address().map(|address| address.ip()));
    admitted.inspect_err(|over| {
        let why = &*over.words;
        logs::limited!(Accept, WARN, %peer, why, "a client that polls was asked to come back later");
    })
}

impl Routes {
    /// The place of a session of this client, which a shard takes when it begins.
    pub(super) fn admit(&self, peer: Peer) -> Admit {
        let connections = self.watch.connections.clone();
        Box::new(move || match admitted(&connections, &peer) {
            Ok(admitted) => Ok(Box::new(admitted)),
            Err(over) => Err(overloaded(&over)),
        })
    }

    /// True for a request whose `Upgrade` counts, from either parser and at any place on its connection. HTTP/1.0's is
    /// ignored (RFC 9110 §7.8), HTTP/2 has none, and the API answers its own paths. It is ignored for every method but
    /// GET, with which alone a WebSocket begins: what is at the path answers.
    pub(crate) fn is_upgrade<'h>(
        &self,
        (http11, method): (bool, &str),
        path: &str,
        headers: impl Iterator<Item = (&'h str, &'h [u8])>,
    ) -> bool {
        http11 && method == Method::GET.as_str() && is_upgrade(headers) && !self.is_api(path)
    }

    /// The part of a path that routes are compared with; `None` for a path that is not below the server's own.
    /// `/healthz` is at the root too, for balancers that know no other path.
    pub(crate) fn below<'p>(&self, path: &'p str) -> Option<&'p str> {
        self.gate.base_path.below(path).or_else(|| is_health(path).then_some(path))
    }

    /// The client's ends, of a request that came over a connection with these.
    pub(crate) fn ends_of_client<'h>(&self, ends: Ends, headers: impl Iterator<Item = (&'h str, &'h [u8])>) -> Ends {
        self.gate.ends_of_client(ends, headers)
    }

    /// Judges an upgrade request.
    pub(crate) fn upgrade<'a>(&self, request: &UpgradeRequest<'a>) -> Result<Granted<'a>, HttpRefusal> {
        self.grant(request).map_err(|refused| {
            let id = RequestId::of_raw(request.headers);
            self.watch.requests.refused(&refused);
            let (status, why) = (refused.status(), refused.reason());
            logs::refused(Asked::WebSocket, &id, &request.peer, request.uri.path(), status, why);
            let path = request.uri.path();
            let asker = Asker::of(request.method, self.below(path).unwrap_or(path), request.headers.iter().copied());
            let refused = refused.identified(id).to(asker);
            match &self.hsts {
                Some(hsts) => refused.with(header::STRICT_TRANSPORT_SECURITY, hsts.clone()),
                None => refused,
            }
        })
    }

    fn grant<'a>(&self, request: &UpgradeRequest<'a>) -> Result<Granted<'a>, HttpRefusal> {
        let headers = || request.headers.iter().copied();
        let version = if request.http_minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
        let asked = RequestLine { method: request.method, version, uri: request.uri };
        let authority = match self.gate.admit(self.via, asked, headers())? {
            Target::Resource(authority) => authority,
            Target::Server => None,
        };
        let accepted = accept(request.method, request.http_minor, headers())?;
        if has_body(headers()) {
            return Err(HttpRefusal::because(400, "the request for a WebSocket has a body".to_owned()));
        }
        let path = request.uri.path();
        let below = self.below(path);
        let offered: Vec<&Upgrade> =
            self.upgrades.iter().filter(|upgrade| below.is_some_and(|path| upgrade.is_at(path))).collect();
        if offered.is_empty() {
            let reason = format!("there is no protocol at {path:?}");
            return Err(HttpRefusal::because(404, reason));
        }
        let page = self.gate.admit_page(authority.as_ref(), headers()).map_err(|refused| {
            let is_engine = offered.iter().any(|upgrade| upgrade.engine_io.is_some());
            if is_engine { refused.forbidden_in_engine() } else { refused }
        })?;
        let carried = self.gate.token(&page, request.uri, headers)?;
        // RFC 6455 §4.2.2: the first of the client's subprotocols that is spoken here, else the one without a name.
        let named = |name: &str| offered.iter().find(|upgrade| upgrade.protocol.subprotocol() == Some(name));
        let asked = accepted.protocols.iter().find_map(|name| named(name));
        let unnamed = || offered.iter().find(|upgrade| upgrade.protocol.subprotocol().is_none());
        let Some(upgrade) = asked.or_else(unnamed) else {
            let spoken: Vec<_> = offered.iter().filter_map(|upgrade| upgrade.protocol.subprotocol()).collect();
            let reason = format!("{path:?} speaks only the subprotocols {spoken:?}");
            return Err(HttpRefusal::because(400, reason));
        };
        let sid = match &upgrade.engine_io {
            Some(engine) => engine.judge_upgrade(request.uri, request.method)?,
            None => None,
        };
        tracing::debug!(peer = %request.peer, path, protocol = upgrade.protocol.name(), "a WebSocket was opened");
        let kept = || RequestInfo::of(request.method, request.uri, version, headers(), request.peer).carrying(carried);
        let (wire, extensions) = upgrade.wire_for(&accepted.extensions);
        Ok(Granted {
            wire,
            extensions,
            subprotocol: asked.and(upgrade.protocol.subprotocol()),
            request: upgrade.needs_request.then(kept),
            sid,
            hsts: self.hsts.clone(),
            accepted,
        })
    }

    /// True for what is served beyond the limits of connections too: probes, metrics, the application's API, and the
    /// questions of browsers for polls, sends and streams.
    pub(crate) fn is_vital(&self, method: &Method, path: &str) -> bool {
        let Some(below) = self.below(path) else { return false };
        if *method == Method::OPTIONS {
            let is_of_sessions = self.exchange_at(path).is_some() || self.engine_at(below).is_some();
            return is_of_sessions || self.stream_at(path).is_some() || self.is_api(path);
        }
        let probed = below.strip_suffix('/').unwrap_or(below);
        matches!(probed, "/healthz" | "/readyz" | "/metrics") || self.is_api(path)
    }

    /// True for paths of the HTTP API, for upgrades too.
    pub(crate) fn is_api(&self, path: &str) -> bool {
        self.below(path).is_some_and(|path| self.api.at(path).is_some())
    }

    /// The headers of an answer that this page asks for.
    pub(super) fn headers_for(&self, page: &Page) -> HeaderMap {
        let mut headers = page.headers();
        if let Some(hsts) = &self.hsts {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
        headers
    }

    /// Answers a request that is no upgrade.
    pub(crate) async fn respond<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError> + std::fmt::Display,
    {
        let serve = async |mut request: Request<B>| {
            let stream = self.stream_at(request.uri().path());
            let exchange = self.exchange_at(request.uri().path()).is_some();
            let outside = !self.enter(&mut request);
            let api = self.api.at(request.uri().path());
            let asker = Asker::of_request(&request);
            let accepts = Accepts::of(&request);
            let mut answer = match (self.gate.take(self.via, &mut request), api) {
                (Err(refused), _) => refused.to(asker).into_response(),
                (Ok(Some(answered)), _) => answered,
                (Ok(None), _) if outside => nothing_at(request.uri().path()).to(asker).into_response(),
                (Ok(None), Some(api)) => api.serve(request).await,
                (Ok(None), None) if let Some(kind) = stream => self.about_stream(kind, &request),
                (Ok(None), None) if self.is_address(request.uri().path()) => self.about_address(&request),
                (Ok(None), None) if exchange => self.about_exchange(&request),
                (Ok(None), None) if self.engine_at(request.uri().path()).is_some() => self.about_engine(&request),
                (Ok(None), None) => self.page(request.map(Body::new), asker).await,
            };
            if let Some(hsts) = self.hsts.as_ref().filter(|_| answer.extensions().get::<OfProgram>().is_none()) {
                answer.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, hsts.clone());
            }
            match self.gzip {
                Some(gzip) => gzip.encode(accepts, answer),
                None => answer,
            }
        };
        request::identified(&self.watch, request, serve).await
    }

    /// Takes the server's own path off the target. False for a target that is not below it. Pages find the target as it
    /// was sent in [`OriginalUri`].
    fn enter<B>(&self, request: &mut Request<B>) -> bool {
        let uri = request.uri();
        if self.gate.base_path.is_root() || uri.path() == "*" {
            return true;
        }
        let Some(path) = self.below(uri.path()) else { return false };
        let target = uri.query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
        let Ok(target) = target.parse::<PathAndQuery>() else { return false };
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = Some(target);
        let Ok(below) = Uri::from_parts(parts) else { return false };
        let original = std::mem::replace(request.uri_mut(), below);
        request.extensions_mut().insert(OriginalUri(original));
        true
    }

    /// A page, or the answer if there is none.
    async fn page(&self, request: Request<Body>, asker: Asker) -> Response<Body> {
        let (uri, method, version) = (request.uri().clone(), request.method().clone(), request.version());
        let sent = path_as_sent(request.uri(), request.extensions()).to_owned();
        let reader = self.gate.reader(request.headers());
        let is_probe = is_health(uri.path());
        let asked = (method == Method::OPTIONS).then(|| request.headers().clone());
        if let Some(asked) = &asked
            && is_probe
            && asked.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
        {
            return reader.options(OWN_METHODS, asked); // no balancer asks so, only browsers do
        }
        let mut page = self.pages.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
        if is_probe {
            reader.onto(page.headers_mut());
        } else {
            page.extensions_mut().insert(OfProgram); // the answers below that are not are new ones
        }
        // Only the body shows whether the router has a fallback of its own: an answer with a body is kept.
        if !page.body().is_end_stream() {
            return page;
        }
        match page.status() {
            StatusCode::NOT_FOUND => {}
            StatusCode::METHOD_NOT_ALLOWED => {
                spell_allow(page.headers_mut());
                return not_by(&method, &sent).to(asker).onto(&page);
            }
            _ => return page,
        }
        let spoken = |upgrade: &Upgrade| match (upgrade.protocol.name(), upgrade.protocol.subprotocol()) {
            (name, Some(subprotocol)) => format!("{name} by the subprotocol {subprotocol}"),
            (name, None) => format!("{name} without a subprotocol"),
        };
        let here = self.upgrades.iter().filter(|upgrade| upgrade.is_at(uri.path()));
        match here.map(spoken).collect::<Vec<_>>().join(", ") {
            // The API exists if there are keys for it.
            spoken if spoken.is_empty() && api::is_known(uri.path()) => api::without_keys(),
            spoken if spoken.is_empty() => nothing_at(&sent).to(asker).onto(&page),
            spoken => match asked {
                Some(asked) => reader.options(OWN_METHODS, &asked),
                None => {
                    let refused = only_upgrades(&sent, &spoken, &method, version);
                    let mut response = refused.to(asker).into_response();
                    reader.onto(response.headers_mut());
                    response
                }
            },
        }
    }
}

/// The router writes `Allow` without spaces. Every address of the server answers in one spelling.
pub(crate) fn spell_allow(headers: &mut HeaderMap) {
    let Some(allow) = headers.get_mut(header::ALLOW) else { return };
    let methods: Vec<&str> = allow.to_str().unwrap_or_default().split(',').map(str::trim).collect();
    if let Ok(spelt) = HeaderValue::from_str(&methods.join(", ")) {
        *allow = spelt;
    }
}

/// True for the probe that every listener answers.
fn is_health(path: &str) -> bool {
    matches!(path, "/healthz" | "/healthz/")
}

/// The refusal for a path without a page.
pub(crate) fn nothing_at(path: &str) -> HttpRefusal {
    HttpRefusal::because(404, format!("there is nothing at {path:?}"))
}

/// The refusal for a method that the page does not take. `Allow` has the others.
pub(crate) fn not_by(method: &Method, path: &str) -> HttpRefusal {
    let method = method.as_str();
    HttpRefusal::because(405, format!("{path:?} does not take {}", &method[..method.len().min(20)]))
}

/// The answer for a path with a protocol and no page: it asks for an upgrade (RFC 9110 §15.5.22). HTTP/2 has no
/// `Upgrade` (RFC 9113 §8.6), so there only the text says it.
fn only_upgrades(path: &str, spoken: &str, method: &Method, version: Version) -> HttpRefusal {
    let words = format!(
        "{path:?} is for WebSockets and has no page: connect with `Upgrade: websocket` and `Connection: Upgrade` over HTTP/1.1 (does a proxy drop them?). Protocols here: {spoken}"
    );
    let (status, headers): (_, &[(HeaderName, &str)]) = match *method {
        Method::GET | Method::HEAD if version == Version::HTTP_2 => (426, &[]),
        Method::GET | Method::HEAD => (426, &[(header::UPGRADE, "websocket"), (header::CONNECTION, "Upgrade")]),
        _ => (405, &[(header::ALLOW, OWN_METHODS)]),
    };
    headers.iter().fold(HttpRefusal::because(status, words), |refused, (name, value)| {
        refused.with(name.clone(), HeaderValue::from_static(value))
    })
}

impl Granted<'_> {
    /// Appends the head of the answer that makes the connection a WebSocket.
    pub(crate) fn put_head(&self, out: &mut Vec<u8>) {
        let extensions = self.extensions.map(|extensions| (header::SEC_WEBSOCKET_EXTENSIONS.as_str(), extensions));
        let hsts = self.hsts.as_ref().and_then(|hsts| hsts.to_str().ok());
        let hsts = hsts.map(|hsts| (header::STRICT_TRANSPORT_SECURITY.as_str(), hsts));
        let more: SmallVec<[_; 2]> = extensions.into_iter().chain(hsts).collect();
        self.accepted.respond(out, self.subprotocol, &more);
    }

    /// The answer that makes the connection a WebSocket.
    pub(crate) fn response(&self) -> Response<Body> {
        let mut response = Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(header::UPGRADE, "websocket")
            .header(header::CONNECTION, "Upgrade")
            .header(header::SEC_WEBSOCKET_ACCEPT, &self.accepted.accept[..]);
        if let Some(name) = self.subprotocol {
            response = response.header(header::SEC_WEBSOCKET_PROTOCOL, name);
        }
        if let Some(extensions) = self.extensions {
            response = response.header(header::SEC_WEBSOCKET_EXTENSIONS, extensions);
        }
        if let Some(hsts) = &self.hsts {
            response = response.header(header::STRICT_TRANSPORT_SECURITY, hsts);
        }
        response.body(Body::empty()).expect("every part of this response is a valid header")
    }
}
