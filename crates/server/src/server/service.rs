//! Fanfare as a part of another HTTP server: a tower service that answers pages and takes upgrades over.
//!
//! In: requests that another server has parsed. Out: responses; an upgraded socket leaves that server and becomes a
//! connection of a shard, at the same cost as any other. That needs the plain socket, which is accessible if the other
//! server is axum's `serve` over TCP or a Unix socket. Otherwise (TLS, a wrapper) the bytes are copied through a pair
//! of sockets, which costs a task, two buffers of 8 KiB and two more system calls for each batch of frames.

use crate::control::{self, Control};
use crate::http::gate::Gate;
use crate::http::routes::{Routes, UpgradeRequest};
use crate::protocol::exchange::Exchange;
use crate::protocol::stream::StreamRequest;
use crate::request::{Peer, RequestInfo, pairs};
use crate::transport::socket::{Ends, LooseSocket, Socket};
use axum::BoxError;
use axum::body::{Body, HttpBody};
use axum::extract::ConnectInfo;
use bytes::Bytes;
use fanfare_hub::WireId;
use http::uri::Scheme;
use http::{Request, Response, Version};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc::UnboundedSender;
use tower::Service;

/// See the module's description. `limits.connections_per_address_max` holds where the address is known: the other
/// server gives it as a [`ConnectInfo<SocketAddr>`](ConnectInfo) in the request's extensions, or the socket is plain
/// TCP; elsewhere the other server limits addresses. Clone it freely; the shards run until
/// [`Running::drain`](crate::Running::drain) or the drop of the `Running`.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use fanfare::Fanfare;
///
/// let (realtime, running) = Fanfare::builder(()).channel("chat:*", |c| c.open()).build()?.into_service()?;
/// let app = axum::Router::new().route("/hello", axum::routing::get(|| async { "hello" })).fallback_service(realtime);
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
/// axum::serve(listener, app).with_graceful_shutdown(async { drop(tokio::signal::ctrl_c().await) }).await?;
/// running.drain().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct FanfareService(Arc<Inner>);

struct Inner {
    routes: Routes,
    shards: Vec<UnboundedSender<Control>>,
    /// The shard that the next connection goes to.
    next: AtomicUsize,
}

impl FanfareService {
    /// What its requests pass.
    pub(super) fn gate(&self) -> Arc<Gate> {
        self.0.routes.gate.clone()
    }

    pub(crate) fn new(routes: Routes, shards: Vec<UnboundedSender<Control>>) -> Self {
        FanfareService(Arc::new(Inner { routes, shards, next: AtomicUsize::new(0) }))
    }
}

impl std::fmt::Debug for FanfareService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FanfareService").field("shards", &self.0.shards.len()).finish()
    }
}

impl<B> Service<Request<B>> for FanfareService
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let this = self.0.clone();
        Box::pin(async move { Ok(this.answer(request.map(Body::new)).await) })
    }
}

impl Inner {
    async fn answer(self: Arc<Self>, mut request: Request<Body>) -> Response<Body> {
        // axum knows the address if the program has asked it for connect info.
        let address = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| *address);
        let is_tls = request.uri().scheme() == Some(&Scheme::HTTPS);
        let ends = Ends { peer: address.map_or(Peer::Unknown, Peer::Tcp), local: None, is_tls };
        let ends = self.routes.ends_of_client(ends, pairs(request.headers()));
        let (peer, address) = (ends.peer, ends.peer.address());
        if let Some(address) = address {
            request.extensions_mut().insert(ConnectInfo(address)); // for the log, and for pages of this server
        }
        if let Some(kind) = self.routes.opens_stream(&request) {
            let open = |asked: StreamRequest, to| {
                if self.next_shard().send(Control::Stream(Box::new(asked), to)).is_err() {
                    tracing::debug!("a stream was asked for after the server had stopped");
                }
            };
            return self.routes.serve_stream(kind, request, ends, open).await;
        }
        if let Some(kind) = self.routes.exchanges(&request) {
            let give = |exchange, answer| {
                if self.next_shard().send(Control::Exchange(exchange, answer)).is_err() {
                    tracing::debug!("a poll or send came after the server had stopped");
                }
            };
            return self.routes.serve_exchange(kind, request, (ends, false), give).await;
        }
        let http11 = request.version() == Version::HTTP_11;
        if self.routes.asks_engine(http11, &request) {
            let give = |exchange, answer| {
                if self.next_shard().send(Control::Exchange(exchange, answer)).is_err() {
                    tracing::debug!("a poll came after the server had stopped");
                }
            };
            return self.routes.serve_engine(request, (ends, false), give).await;
        }
        if !self.routes.is_upgrade((http11, request.method().as_str()), request.uri().path(), pairs(request.headers()))
        {
            return self.routes.respond(request).await;
        }
        let headers: Vec<_> = pairs(request.headers()).collect();
        let upgrade = UpgradeRequest::of(&request, &headers, peer);
        let (response, granted) = match self.routes.upgrade(&upgrade) {
            Ok(granted) => {
                let request = granted.request.as_ref().map(|request| ends.complete(request.clone()));
                (granted.response(), Taken { wire: granted.wire, request, sid: granted.sid, address })
            }
            Err(refused) => return refused.into_response(),
        };
        if let Some(sid) = &granted.sid {
            let give = |request, answer| {
                if self.next_shard().send(Control::Exchange(Exchange::Engine(request), answer)).is_err() {
                    tracing::debug!("an upgrade came after the server had stopped");
                }
            };
            if let Err(refused) = self.routes.find_engine(&peer, sid, give).await {
                return refused.into_response();
            }
        }
        let upgraded = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            match upgraded.await {
                Ok(upgraded) => self.take_over(upgraded, granted).await,
                Err(error) => tracing::debug!(error = error.to_string(), "an upgrade failed"),
            }
        });
        response
    }

    /// The shards take turns.
    fn next_shard(&self) -> &UnboundedSender<Control> {
        &self.shards[self.next.fetch_add(1, Ordering::Relaxed) % self.shards.len()]
    }

    async fn take_over(&self, upgraded: Upgraded, Taken { wire, request, sid, address }: Taken) {
        let loosened = loosen(upgraded);
        match loosened {
            Ok(Loosened { socket, rest, ends, bridge }) => {
                // The socket itself, where it is accessible, knows the addresses that the other server did not give.
                let request = request.map(|mut request| {
                    if let Some(Ends { peer, local, .. }) = ends {
                        request.local = local;
                        if request.peer == Peer::Unknown {
                            request.peer = peer;
                        }
                    }
                    Arc::new(request)
                });
                let peer = match address {
                    Some(address) => Peer::Tcp(address),
                    None => ends.map_or(Peer::Unknown, |ends| ends.peer),
                };
                let upgraded = Box::new(control::Upgraded { socket, peer, wire, rest, request, sid });
                if self.next_shard().send(Control::Adopt(upgraded)).is_err() {
                    return tracing::debug!("a connection came after the server had stopped");
                }
                if let Some(Bridge { mut upgraded, mut near }) = bridge
                    && let Err(error) = tokio::io::copy_bidirectional(&mut upgraded, &mut near).await
                {
                    tracing::debug!(error = error.to_string(), "a connection of another server ended");
                }
            }
            Err(error) => tracing::warn!(%error, "a connection could not be taken over"),
        }
    }
}

/// An upgrade that was granted.
struct Taken {
    wire: WireId,
    request: Option<RequestInfo>,
    /// The id of the session of Engine.IO that it is for, if it begins none.
    sid: Option<Box<str>>,
    /// The client's, where the other server tells it.
    address: Option<SocketAddr>,
}

/// The two ends to copy between, if the socket itself is not accessible.
struct Bridge {
    upgraded: TokioIo<Upgraded>,
    near: UnixStream,
}

/// A socket that has left the other server.
struct Loosened {
    socket: LooseSocket,
    /// The bytes that were already read from it.
    rest: Vec<u8>,
    /// Its peer and its own address, if it is the peer's socket itself.
    ends: Option<Ends>,
    bridge: Option<Bridge>,
}

/// Takes the socket, and the bytes that were read from it, out of an upgraded connection.
fn loosen(upgraded: Upgraded) -> io::Result<Loosened> {
    let whole = |socket: Socket, read: Bytes| {
        let ends = socket.ends();
        Ok(Loosened { socket: socket.loosen()?, rest: read.to_vec(), ends: Some(ends), bridge: None })
    };
    let upgraded = match auto::upgrade::downcast::<TokioIo<TcpStream>>(upgraded) {
        Ok(parts) => return whole(parts.io.into_inner().into(), parts.read_buf),
        Err(upgraded) => upgraded,
    };
    let upgraded = match auto::upgrade::downcast::<TokioIo<UnixStream>>(upgraded) {
        Ok(parts) => return whole(parts.io.into_inner().into(), parts.read_buf),
        Err(upgraded) => upgraded,
    };
    let (near, far) = UnixStream::pair()?;
    let bridge = Some(Bridge { upgraded: TokioIo::new(upgraded), near });
    Ok(Loosened { socket: Socket::from(far).loosen()?, rest: Vec::new(), ends: None, bridge })
}
