//! Requests of Engine.IO clients that poll: GETs take packets, POSTs bring them, and the first GET opens a session. And
//! the judgement of their upgrades to WebSocket.
//!
//! In: a request that hyper has read. Out: an [`EngineRequest`] for a shard, any one, and its answer; or a refusal:
//! with the reference's code, 403 for a page that may not connect, 413 for a long body. The seal of a session's id is
//! judged before the body is read, and whether the session is there as soon as the body is more than what a request
//! usually is: it waits for no more of it.

use super::gate::RequestLine;
use super::gzip::Accepts;
use super::routes::{Routes, UpgradeRequest};
use crate::api::body::{self, BodyMax};
use crate::harden;
use crate::limits::HttpLimit;
use crate::logs::{self, Asked};
use crate::protocol::exchange::{EngineAct, EngineRequest, EngineStart, Exchange, ExchangeAnswer, Posted};
use crate::protocol::socketio::SocketIo;
use crate::refusal::{Asker, HttpRefusal};
use crate::request::{Peer, RequestId, RequestInfo, pairs};
use crate::transport::admission::hasten;
use crate::transport::socket::Ends;
use crate::watch::request;
use axum::body::{Body, HttpBody as _};
use bytes::Bytes;
use fanfare_hub::WireId;
use fanfare_wire::engineio::{Query, Refused, Sid, Transport, Transports};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::oneshot;

/// A body that is longer is not read before its session is found.
const SHORT_BYTES_MAX: u64 = 16 << 10;
/// The methods of its address.
const ALLOWED: &str = "GET, OPTIONS, POST";

/// A request whose head is allowed.
enum Judged {
    /// It has no body that matters.
    Whole(EngineRequest),
    /// Its body brings packets.
    Post { sid: Sid, bytes_max: usize, pause_max: Duration },
}

/// Sessions of one protocol.
#[derive(Clone)]
pub(crate) struct EngineWire {
    /// While they poll.
    pub(crate) wire: WireId,
    pub(crate) protocol: SocketIo,
    /// The longest pause within a body.
    pub(crate) pause_max: Duration,
    pub(crate) needs_request: bool,
}

impl EngineWire {
    /// Judges an upgrade. `Some`: the id of the session that goes on with it.
    pub(super) fn judge_upgrade(&self, uri: &Uri, method: &str) -> Result<Option<Box<str>>, Refused> {
        let query = Query::judge(uri.query().unwrap_or_default(), method, true, self.protocol.transports())?;
        match query {
            Query { sid: Some(sid), transport: Transport::WebSocket, is_version_4: true } => Ok(Some(sid_of(sid)?)),
            Query { sid: Some(_), .. } => Err(Refused::BadRequest),
            Query { sid: None, .. } => Ok(None),
        }
    }
}

/// An id, as long as ours are. A shard finds its session.
fn sid_of(sid: &str) -> Result<Box<str>, Refused> {
    if sid.len() == Sid::LEN { Ok(sid.into()) } else { Err(Refused::SessionUnknown) }
}

impl Routes {
    /// The session that an id names under the seal of this server. Whether it is there is for its shard to say.
    fn open_sid(&self, sid: &str) -> Result<Sid, Refused> {
        Sid::open(sid, self.node.id, &self.node.secret).ok_or(Refused::SessionUnknown)
    }

    /// The sessions at the path of a request.
    fn engine_of(&self, path: &str) -> Option<&EngineWire> {
        self.below(path).and_then(|path| self.engine_at(path))
    }

    /// The sessions at a path, below the server's own path.
    pub(super) fn engine_at(&self, path: &str) -> Option<&EngineWire> {
        self.upgrades.iter().filter(|upgrade| upgrade.is_at(path)).find_map(|upgrade| upgrade.engine_io.as_ref())
    }

    /// True for a request that is for a shard: a GET or a POST that is no upgrade.
    pub(crate) fn asks_engine<B>(&self, http11: bool, request: &Request<B>) -> bool {
        let path = request.uri().path();
        matches!(*request.method(), Method::GET | Method::POST)
            && self.below(path).is_some_and(|path| self.engine_at(path).is_some())
            && !self.is_upgrade((http11, request.method().as_str()), path, pairs(request.headers()))
    }

    /// Answers a request by any other method.
    pub(super) fn about_engine<B>(&self, request: &Request<B>) -> Response<Body> {
        let reader = self.gate.reader(request.headers());
        if request.method() == Method::OPTIONS {
            return reader.options(ALLOWED, request.headers());
        }
        let offered = self.engine_of(request.uri().path()).map_or(Transports::ALL, |wire| wire.protocol.transports());
        let query = request.uri().query().unwrap_or_default();
        let judged = Query::judge(query, request.method().as_str(), false, offered);
        let refused = HttpRefusal::from(judged.err().unwrap_or(Refused::BadRequest));
        let mut response = refused.to(Asker::of_request(request)).into_response();
        reader.onto(response.headers_mut());
        response
    }

    /// Asks a shard, any one, whether the session of an upgrade is there: `give` gives it the question.
    ///
    /// # Errors
    /// It is not: the upgrade is refused.
    pub(crate) async fn find_engine(
        &self,
        peer: &Peer,
        sid: &str,
        give: impl FnOnce(EngineRequest, ExchangeAnswer),
    ) -> Result<(), HttpRefusal> {
        let answer = match self.open_sid(sid) {
            Ok(sid) => {
                let (to, answered) = oneshot::channel();
                give(EngineRequest::Session(sid, EngineAct::Find), to);
                answered.await.unwrap_or_else(|_| Err(HttpRefusal::stopping()))
            }
            Err(refused) => Err(refused.into()),
        };
        answer.map(|_| ()).map_err(|refused| {
            let id = RequestId::new();
            self.watch.requests.refused(&refused);
            let (status, why) = (refused.status(), refused.reason());
            let path = self.upgrades.iter().find(|upgrade| upgrade.engine_io.is_some()).map_or("", |at| &*at.path);
            logs::refused(Asked::WebSocket, &id, peer, path, status, why);
            refused.identified(id)
        })
    }

    /// Answers a request that is for a shard: `give` gives it to one. `is_over`: its connection is over a limit.
    pub(crate) async fn serve_engine(
        &self,
        request: Request<Body>,
        (ends, is_over): (Ends, bool),
        give: impl Fn(Exchange, ExchangeAnswer),
    ) -> Response<Body> {
        let serve = async |mut request: Request<Body>| {
            let (asker, accepts) = (Asker::of_request(&request), Accepts::of(&request));
            let is_post = request.method() == Method::POST;
            let mut cors = HeaderMap::new();
            let mut opens = None;
            let answer = match self.judge_engine(&request, ends, &mut cors) {
                Ok(Judged::Whole(asked)) => {
                    if let EngineRequest::Handshake(start) = &asked {
                        opens = Some(start.protocol.clone());
                    }
                    ask(&give, asked).await
                }
                Ok(Judged::Post { sid, bytes_max, pause_max }) => {
                    let is_short = request.body().size_hint().upper().is_some_and(|bytes| bytes <= SHORT_BYTES_MAX);
                    let pause_max = if is_over { hasten(pause_max) } else { pause_max };
                    let max = BodyMax { bytes: bytes_max, limit: HttpLimit::SocketIoPayload };
                    let reading = body::read_whole(request.body_mut(), max, pause_max, "POST");
                    Box::pin(bring(&give, (sid, is_short), reading)).await // larger than a poll that waits
                }
                Err(refused) => Err(refused),
            };
            match answer {
                Ok(body) => {
                    let cookie = opens.as_ref().and_then(|protocol| protocol.cookie(&body));
                    let mut response = Response::new(Body::from(body));
                    *response.headers_mut() = cors;
                    let headers = response.headers_mut();
                    if let Some(cookie) = cookie {
                        headers.insert(header::SET_COOKIE, cookie);
                    }
                    let kind = if is_post { "text/html" } else { "text/plain; charset=UTF-8" };
                    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
                    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
                    harden::data(headers);
                    // An open packet has an id in it, which the length of a compressed text could tell.
                    match self.gzip.filter(|_| opens.is_none()) {
                        Some(gzip) => gzip.encode(accepts, response),
                        None => response,
                    }
                }
                Err(refused) => {
                    let (id, path) = (RequestId::of(request.headers()), request.uri().path());
                    logs::refused(Asked::Poll, &id, &ends.peer, path, refused.status(), refused.reason());
                    refused.to(asker).with_all(&cors).into_response()
                }
            }
        };
        request::identified(&self.watch, request, serve).await
    }

    /// Judges the head of a request.
    fn judge_engine(&self, request: &Request<Body>, ends: Ends, cors: &mut HeaderMap) -> Result<Judged, HttpRefusal> {
        let nothing = || super::routes::nothing_at(request.uri().path());
        let engine = self.engine_of(request.uri().path()).ok_or_else(nothing)?;
        let page = self.gate.admit_with_page(self.via, RequestLine::of(request), || pairs(request.headers()));
        let page =
            page.map_err(|refused| if refused.status() == 403 { refused.forbidden_in_engine() } else { refused })?;
        *cors = self.headers_for(&page);
        let is_post = request.method() == Method::POST;
        let query = request.uri().query().unwrap_or_default();
        let query = Query::judge(query, request.method().as_str(), false, engine.protocol.transports())?;
        let Some(sid) = query.sid else {
            let carried = self.gate.token(&page, request.uri(), || pairs(request.headers()))?;
            let kept = || {
                let headers: Vec<_> = pairs(request.headers()).collect();
                let head = UpgradeRequest::of(request, &headers, ends.peer);
                let headers = headers.iter().copied();
                let info = RequestInfo::of(head.method, head.uri, request.version(), headers, ends.peer);
                Arc::new(ends.complete(info.carrying(carried)))
            };
            return Ok(Judged::Whole(EngineRequest::Handshake(Box::new(EngineStart {
                wire: engine.wire,
                protocol: engine.protocol.clone(),
                peer: ends.peer,
                request: engine.needs_request.then(kept),
                admit: self.admit(ends.peer),
            }))));
        };
        let sid = self.open_sid(sid)?;
        let about = |act| Ok(Judged::Whole(EngineRequest::Session(sid, act)));
        if query.transport == Transport::WebSocket || !query.is_version_4 {
            return about(EngineAct::Mismatch);
        }
        if !is_post {
            return about(EngineAct::Poll { is_over: false });
        }
        let kind = request.headers().get(header::CONTENT_TYPE).map(|kind| kind.as_bytes());
        if kind.is_some_and(|kind| kind.eq_ignore_ascii_case(b"application/octet-stream")) {
            return about(EngineAct::Break(Refused::BadRequest.into()));
        }
        Ok(Judged::Post { sid, bytes_max: engine.protocol.payload_bytes_max(), pause_max: engine.pause_max })
    }
}

/// Asks a shard, and waits for its answer.
async fn ask(give: &impl Fn(Exchange, ExchangeAnswer), asked: EngineRequest) -> Result<Bytes, HttpRefusal> {
    let (to, answered) = oneshot::channel();
    give(Exchange::Engine(asked), to);
    answered.await.unwrap_or_else(|_| Err(HttpRefusal::stopping()))
}

/// Brings the body of a POST to its session. The session knows of it while it comes: another one would be too much, and
/// a body that is refused or given up ends the session.
async fn bring(
    give: &impl Fn(Exchange, ExchangeAnswer),
    (sid, is_short): (Sid, bool),
    reading: impl Future<Output = Result<Bytes, HttpRefusal>>,
) -> Result<Bytes, HttpRefusal> {
    let mut reading = std::pin::pin!(reading);
    // Almost always it is short, and came with the head.
    let begun = match is_short {
        true => poll_fn(|cx| Poll::Ready(reading.as_mut().poll(cx))).await,
        false => Poll::Pending,
    };
    if let Poll::Ready(Ok(body)) = begun {
        return ask(give, EngineRequest::Session(sid, EngineAct::Post(Posted::Whole(body)))).await;
    }
    let (body, coming) = oneshot::channel();
    let (to, mut answered) = oneshot::channel();
    give(Exchange::Engine(EngineRequest::Session(sid, EngineAct::Post(Posted::Coming(coming)))), to);
    let read = match begun {
        Poll::Ready(read) => read,
        Poll::Pending => tokio::select! {
            biased;
            refused = &mut answered => return refused.unwrap_or_else(|_| Err(HttpRefusal::stopping())),
            read = reading => read,
        },
    };
    match read {
        // It was cut, or its client is gone: the connection is lost, as it is when all this is dropped.
        Err(refused) if refused.status() != 413 => return Err(refused),
        read => drop(body.send(read)), // where the session is over, the answer says so
    }
    answered.await.unwrap_or_else(|_| Err(HttpRefusal::stopping()))
}
