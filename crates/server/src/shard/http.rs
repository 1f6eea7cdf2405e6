//! HTTP connections of a shard: all that do not begin with a WebSocket upgrade or a whole request for a stream.
//!
//! In: a socket with the bytes that were read from it already. hyper serves HTTP/1.1 and HTTP/2 from there, over the
//! server's pages (an axum router). An upgrade that comes later on a kept-alive connection leads to the same protocols:
//! the socket is taken back from hyper and becomes a connection of the shard. A stream (`streams`) is an answer whose
//! body the shard makes.

use super::accept::{Adopted, HTTP2_PREFACE, adopt};
use super::{HttpConnection, Shared, engine, polls, streams};
use crate::http::routes::{Routes, UpgradeRequest, overloaded};
use crate::protocol::stream::StreamRequest;
use crate::refusal::{Asker, HttpRefusal};
use crate::request::{Peer, pairs};
use crate::transport::admission::Guest;
use crate::transport::head;
use crate::transport::pace::{self, ConnectionOptions, Overdue, Pace, Paced, Times};
use crate::transport::socket::{Ends, Socket};
use crate::transport::unread::{self, Watched};
use crate::watch::request;
use axum::body::Body;
use axum::extract::ConnectInfo;
use bytes::{Buf, Bytes};
use fanfare_hub::WireId;
use futures_util::FutureExt as _;
use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

/// A socket whose first bytes have been read already.
struct Rewound {
    read: Bytes,
    socket: Socket,
}

/// Runs the streams of HTTP/2, which hyper spawns, on the shard's own thread.
#[derive(Clone)]
struct Local(Pace);

impl<F: Future + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        let task = tokio::task::spawn_local(future.map(drop)); // an `async` block would have room for it twice
        self.0.is_run_by(task.abort_handle());
    }
}

/// Serves a connection until it ends or is upgraded.
pub(crate) async fn serve(shell: Shared, socket: Socket, read: Bytes, routes: Routes, connection: HttpConnection) {
    let (times, head_bytes_max, close_timeout) = {
        let shell = shell.borrow();
        let config = shell.config();
        let times = Times::of(config);
        let times = if socket.place().is_some() { times.hastened() } else { times };
        (times, config.head_bytes_max, times.close)
    };
    // The first bytes show the version of HTTP. A server that detects it by itself waits for them without a limit.
    let is_http2 = read.starts_with(HTTP2_PREFACE);
    connection.speaks(is_http2);
    let pace = Pace::new(times, is_http2).at(socket.place().cloned());
    let mut displaced = std::pin::pin!(socket.displaced());
    // A connection over a limit gets one answer and ends.
    let guest = socket.guest();
    // Of HTTP/1 `Paced` sees when a request is whole.
    let place = socket.place().filter(|_| is_http2).cloned();
    let (ends, is_shared) = (socket.ends(), socket.is_shared());
    let asked_once = Notify::new();
    let service = service_fn(|mut request: Request<Incoming>| {
        let ends = routes.ends_of_client(ends, pairs(request.headers()));
        // Pages can extract it, as under axum's own server.
        if let Peer::Tcp(address) = ends.peer {
            request.extensions_mut().insert(ConnectInfo(address));
        }
        let asked = ConnectionOptions::of(request.headers());
        let answering = pace.begin(request.body());
        let (head, body) = request.into_parts();
        let (body, end) = unread::watch(body, place.clone());
        let request = Request::from_parts(head, body);
        if guest.is_some() {
            asked_once.notify_one();
        }
        let version = request.version();
        let answer = match is_http2.then(|| head::refuse_http2(&request, head_bytes_max)).flatten() {
            Some(refused) => refuse(routes.clone(), request, refused),
            None => answer(shell.clone(), routes.clone(), request, (ends, is_shared), guest.clone()),
        };
        connection.counted(version, asked, (answering, end), guest.is_some(), answer)
    });
    let io = TokioIo::new(Paced::new(Rewound { read, socket }, pace.clone(), head_bytes_max));
    let served = if is_http2 {
        let mut server = http2::Builder::new(Local(pace.clone()));
        server.timer(TokioTimer::new()).max_concurrent_streams(100);
        server.max_header_list_size(head::http2_decoded_max(head_bytes_max));
        server.keep_alive_interval(times.head).keep_alive_timeout(times.head);
        let mut serving = Box::pin(server.serve_connection(io, service)); // larger than all that HTTP/1 needs
        tokio::select! {
            biased; // received bytes are read first
            served = serving.as_mut() => served,
            () = connection.ending() => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
            () = asked_once.notified() => {
                // Over a limit it ends in bounded time, even if its peer does not read the answer.
                serving.as_mut().graceful_shutdown();
                let ending = tokio::time::timeout(close_timeout, serving);
                tokio::select! {
                    biased;
                    served = ending => served.unwrap_or(Ok(())),
                    () = displaced => Ok(()),
                }
            }
            () = &mut displaced => Ok(()),
            overdue = pace.overdue() => {
                // An idle peer is asked to close; a peer that does not close is disconnected.
                serving.as_mut().graceful_shutdown();
                let patience = if overdue == Overdue::Idle { close_timeout } else { Duration::ZERO };
                tokio::time::timeout(patience, serving).await.unwrap_or(Ok(()))
            }
        }
    } else {
        let mut server = http1::Builder::new();
        // A client that ends its side with the request still reads the answer. `Paced` detects one that is gone.
        server.half_close(true);
        server.timer(TokioTimer::new()).header_read_timeout(times.backstop());
        server.max_buf_size(pace::buffer_bytes(head_bytes_max));
        let serving = server.serve_connection(io, service).with_upgrades();
        tokio::select! {
            biased;
            served = serving => served,
            () = displaced => Ok(()),
        }
    };
    if let Some((status, limit)) = pace.refused() {
        routes.watch.requests.answered(status, limit);
    }
    if let Err(error) = served {
        tracing::debug!(error = error.to_string(), "an HTTP connection ended early");
    }
}

/// The future of an answer, boxed for each kind of request. hyper has room for the largest one in a connection of
/// HTTP/1, idle or not, and in the task of a stream of HTTP/2, as long as its answer goes on. Unboxed, that room was
/// 9 KB and 19 KB.
type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>>>>;

fn answer(
    shell: Shared,
    routes: Routes,
    request: Request<Watched<Incoming>>,
    (ends, is_shared): (Ends, bool),
    guest: Option<Guest>,
) -> Answer {
    let http11 = request.version() == Version::HTTP_11;
    if let Some(kind) = routes.opens_stream(&request) {
        let address = ends.peer.address().map(|address| address.ip());
        // Over the connection of a proxy each stream counts for its own client, and one of HTTP/2 may carry many.
        let connections = &routes.watch.connections;
        let counted = match request.version() {
            _ if is_shared => connections.enter(address).map(|client| (Some(client), None)),
            Version::HTTP_2 => connections.admit_session(address).ok().map(|session| (None, Some(session))),
            _ => Some((None, None)),
        };
        let open = move |asked: StreamRequest, to| match counted.filter(|_| guest.is_none()) {
            None => streams::turn_away(&shell, asked, to),
            Some(counted) => streams::bridge(&shell, asked, to, counted),
        };
        return Box::pin(async move { Ok(routes.serve_stream(kind, request.map(Body::new), ends, open).await) });
    }
    let is_over = guest.is_some();
    if let Some(kind) = routes.exchanges(&request) {
        let give = move |exchange, answer| polls::take(&shell, exchange, guest.as_ref(), answer);
        let serve = async move { Ok(routes.serve_exchange(kind, request.map(Body::new), (ends, is_over), give).await) };
        return Box::pin(serve);
    }
    if routes.asks_engine(http11, &request) {
        let give = move |exchange, answer| polls::take(&shell, exchange, guest.as_ref(), answer);
        return Box::pin(async move { Ok(routes.serve_engine(request.map(Body::new), (ends, is_over), give).await) });
    }
    if routes.is_upgrade((http11, request.method().as_str()), request.uri().path(), pairs(request.headers())) {
        return Box::pin(upgrade(shell, routes, request, ends));
    }
    match guest.filter(|_| !routes.is_vital(request.method(), request.uri().path())) {
        Some(guest) => refuse(routes, request, overloaded(&guest.over)),
        None => Box::pin(async move { Ok(routes.respond(request).await) }),
    }
}

fn refuse(routes: Routes, request: Request<Watched<Incoming>>, refused: HttpRefusal) -> Answer {
    let refused = refused.to(Asker::of_request(&request));
    Box::pin(async move { Ok(request::identified(&routes.watch, request, async |_| refused.into_response()).await) })
}

async fn upgrade(
    shell: Shared,
    routes: Routes,
    mut request: Request<Watched<Incoming>>,
    ends: Ends,
) -> Result<Response<Body>, Infallible> {
    let headers: Vec<_> = pairs(request.headers()).collect();
    let upgrade = UpgradeRequest::of(&request, &headers, ends.peer);
    let (wire, response, request_info, sid) = match routes.upgrade(&upgrade) {
        Err(refused) => return Ok(refused.into_response()),
        Ok(granted) => (granted.wire, granted.response(), granted.request, granted.sid),
    };
    if let Some(sid) = &sid
        && let Err(refused) = engine::find(&shell, &routes, &ends.peer, sid).await
    {
        return Ok(refused.into_response());
    }
    let adopted = Adopted { request: request_info.map(|request| Arc::new(ends.complete(request))), sid };
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::task::spawn_local(async move {
        match upgraded.await {
            Ok(upgraded) => take_back(&shell, upgraded, ends.peer, wire, adopted),
            Err(error) => tracing::debug!(error = error.to_string(), "an upgrade failed"),
        }
    });
    Ok(response)
}

/// Takes the socket back from hyper.
fn take_back(shell: &Shared, upgraded: hyper::upgrade::Upgraded, peer: Peer, wire: WireId, adopted: Adopted) {
    match upgraded.downcast::<TokioIo<Paced<Rewound>>>() {
        Ok(parts) => {
            let (Rewound { read, socket }, ahead) = parts.io.into_inner().into_parts();
            let mut rest = parts.read_buf.to_vec();
            rest.extend_from_slice(&ahead);
            rest.extend_from_slice(&read);
            adopt(shell, socket, peer, wire, rest, adopted);
        }
        Err(_) => tracing::error!("an upgraded connection was not one of ours"),
    }
}

impl AsFd for Rewound {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsyncRead for Rewound {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.socket).poll_read(cx, into);
        }
        let count = self.read.len().min(into.remaining());
        into.put_slice(&self.read[..count]);
        self.read.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
