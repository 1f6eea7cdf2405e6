//! Which requests are polls and sends, and what they ask for: `POST /v1/poll` and `POST /v1/send`.
//!
//! In: a request that hyper has read. Out: an [`Exchange`] for a shard, any one, and its answer as JSON; or a refusal:
//! 400 for a body that cannot be understood, 403 for a page that may not connect. The shard checks the ticket. Cookies
//! mean nothing to polls and sends, so no page can send in another's name; a `connect` may have one with a token.

use super::gate::RequestLine;
use super::gzip::Accepts;
use super::routes::{Routes, UpgradeRequest};
use super::streams::StreamWires;
use crate::api::body::{self, BodyMax};
use crate::harden;
use crate::limits::HttpLimit;
use crate::logs::{self, Asked};
use crate::protocol::exchange::{Exchange, ExchangeAnswer, PollConnect, PollRequest, SendCommands};
use crate::protocol::stream::{StreamContent, StreamStart};
use crate::refusal::{Asker, HttpRefusal};
use crate::request::{Carried, RequestId, RequestInfo, pairs};
use crate::transport::admission::hasten;
use crate::transport::socket::Ends;
use crate::watch::request;
use axum::body::Body;
use bytes::Bytes;
use fanfare_wire::native::requests::{PollBody, SendBody, decode_poll, decode_send};
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use tokio::sync::oneshot;

/// The methods of both addresses.
pub(super) const ALLOWED: &str = "OPTIONS, POST";

/// The exchange at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExchangeKind {
    /// Messages for a client.
    Poll,
    /// Commands of a client.
    Send,
}

impl ExchangeKind {
    fn at(path: &str) -> Option<ExchangeKind> {
        match path {
            "/v1/poll" => Some(ExchangeKind::Poll),
            "/v1/send" => Some(ExchangeKind::Send),
            _ => None,
        }
    }

    fn asked(self) -> Asked {
        match self {
            ExchangeKind::Poll => Asked::Poll,
            ExchangeKind::Send => Asked::Send,
        }
    }

    fn word(self) -> &'static str {
        match self {
            ExchangeKind::Poll => "poll",
            ExchangeKind::Send => "send",
        }
    }
}

impl Routes {
    /// The exchange at a path, where the native protocol is served.
    pub(crate) fn exchange_at(&self, path: &str) -> Option<ExchangeKind> {
        self.below(path).and_then(ExchangeKind::at).filter(|_| self.streams.is_some())
    }

    /// The exchange of a request, where its method has one.
    pub(crate) fn exchanges<B>(&self, request: &Request<B>) -> Option<ExchangeKind> {
        self.exchange_at(request.uri().path()).filter(|_| request.method() == Method::POST)
    }

    /// Answers a poll or a send: `give` gives it to a shard. `is_over`: its connection is over a limit.
    pub(crate) async fn serve_exchange(
        &self,
        kind: ExchangeKind,
        request: Request<Body>,
        (ends, is_over): (Ends, bool),
        give: impl FnOnce(Exchange, ExchangeAnswer),
    ) -> Response<Body> {
        let serve = async |request: Request<Body>| {
            let (asker, accepts) = (Asker::of_request(&request), Accepts::of(&request));
            let mut cors = HeaderMap::new();
            match self.exchange(kind, request, (ends, is_over), &mut cors, give).await {
                Ok((body, has_secrets)) => {
                    let mut response = Response::new(Body::from(body));
                    *response.headers_mut() = cors;
                    let headers = response.headers_mut();
                    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
                    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
                    harden::data(headers);
                    match self.gzip.filter(|_| !has_secrets) {
                        Some(gzip) => gzip.encode(accepts, response),
                        None => response,
                    }
                }
                Err(refused) => refused.to(asker).in_json().with_all(&cors).into_response(),
            }
        };
        request::identified(&self.watch, request, serve).await
    }

    /// The body of an answer, and whether it must not be compressed: its length would then tell how much the ticket in
    /// it has in common with texts of strangers.
    async fn exchange(
        &self,
        kind: ExchangeKind,
        mut request: Request<Body>,
        (ends, is_over): (Ends, bool),
        cors: &mut HeaderMap,
        give: impl FnOnce(Exchange, ExchangeAnswer),
    ) -> Result<(Bytes, bool), HttpRefusal> {
        // Boxed: it is over before the poll waits, and so is the request.
        let read = Box::pin(self.read_exchange(kind, &mut request, (ends, is_over), cors)).await;
        let exchange = read.inspect_err(|refused| {
            let (id, path) = (RequestId::of(request.headers()), request.uri().path());
            logs::refused(kind.asked(), &id, &ends.peer, path, refused.status(), refused.reason());
        })?;
        drop(request);
        let has_secrets = matches!(exchange, Exchange::Connect(_));
        let (to, answered) = oneshot::channel();
        give(exchange, to);
        let answer = answered.await.unwrap_or_else(|_| Err(HttpRefusal::stopping()));
        Ok((answer?, has_secrets))
    }

    /// Judges a request, and reads its body.
    async fn read_exchange(
        &self,
        kind: ExchangeKind,
        request: &mut Request<Body>,
        (ends, is_over): (Ends, bool),
        cors: &mut HeaderMap,
    ) -> Result<Exchange, HttpRefusal> {
        let Some(wires) = &self.streams else { return Err(super::routes::nothing_at(request.uri().path())) };
        let page = self.gate.admit_with_page(self.via, RequestLine::of(request), || pairs(request.headers()))?;
        *cors = self.headers_for(&page);
        body::check_type(request.headers())?;
        let max = BodyMax { bytes: wires.connect_bytes_max, limit: HttpLimit::MessageBytes };
        let pause_max = if is_over { hasten(wires.pause_max) } else { wires.pause_max };
        let read = body::read_whole(request.body_mut(), max, pause_max, kind.word()).await?;
        let text = std::str::from_utf8(&read).map_err(|_| HttpRefusal::because(400, "the body is not UTF-8"))?;
        Ok(match kind {
            ExchangeKind::Send => {
                let SendBody { ticket, n, requests } = decode_send(text, &wires.limits)?;
                Exchange::Send(SendCommands { ticket, n, requests, bytes: text.len() })
            }
            ExchangeKind::Poll => match decode_poll(text)? {
                PollBody::Poll { ticket, ack, wait_ms } => Exchange::Poll(PollRequest { ticket, ack, wait_ms }),
                PollBody::Connect { is_named } => {
                    let attempt = is_named.then(|| Sha256::digest(text).into());
                    let carried = self.gate.token(&page, request.uri(), || pairs(request.headers()))?;
                    let start = start(wires, text, (request, carried), ends)?;
                    let admit = self.admit(ends.peer);
                    Exchange::Connect(Box::new(PollConnect { wire: wires.polls(), start, attempt, admit }))
                }
            },
        })
    }
}

/// The question of a `connect` for a poll session to the hub.
fn start(
    wires: &StreamWires,
    text: &str,
    (request, carried): (&Request<Body>, Carried),
    ends: Ends,
) -> Result<StreamStart, HttpRefusal> {
    let connect = wires.connect_of(text)?;
    let kept = || {
        let headers: Vec<_> = pairs(request.headers()).collect();
        let head = UpgradeRequest::of(request, &headers, ends.peer);
        let headers = headers.iter().copied();
        let info = RequestInfo::of(head.method, head.uri, request.version(), headers, ends.peer);
        Arc::new(ends.complete(info.carrying(carried)))
    };
    Ok(StreamStart {
        content: StreamContent::Native(connect),
        native: wires.native.clone(),
        peer: ends.peer,
        request: wires.needs_request.then(kept),
    })
}
