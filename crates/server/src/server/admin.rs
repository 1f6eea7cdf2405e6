//! `/metrics`, `/healthz`, `/readyz` and `/inspect`, and the port of their own on which they may be served.
//!
//! `/healthz` says that every shard takes its turns, or names the shards that did not answer within [`SHARD_PATIENCE`].
//! `/readyz` says whether to send clients here: not while the server starts, leaves or drains, or a shard is silent.
//! The listener has a thread and a runtime of its own. So it answers while the shards are busy, until the last client
//! has left.

use crate::api::CurrentApi;
use crate::config::address::Address;
use crate::config::hosts::Via;
use crate::error::ServeError;
use crate::harden;
use crate::http::gate::Gate;
use crate::http::routes::{not_by, nothing_at, spell_allow};
use crate::refusal::{Asker, HttpRefusal, LastAnswer};
use crate::request::{REQUEST_ID, RequestId};
use crate::transport::admission::{Connections, Reason};
use crate::transport::listen::{Listener, listen};
use crate::transport::pace::{self, ConnectionOptions, Pace, Paced, Times};
use crate::transport::places::Places;
use crate::transport::spare::{Answer, Outcome, PAUSE, Spare};
use crate::transport::unread;
use crate::watch::metrics::CONTENT_TYPE;
use crate::watch::{SHARD_PATIENCE, State, Watch};
use axum::Router;
use axum::body::Body;
use axum::extract;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE as TYPE};
use http::{HeaderValue, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::oneshot;
use tower::ServiceExt as _;

/// Connections to the admin port at once: for scrapers, probes and a person. If all places are taken, the connection
/// that has kept the server waiting longest makes room for the next.
const CONNECTIONS_MAX: usize = 64;

/// The routes that are also on the main port.
pub(crate) fn health(watch: Arc<Watch>) -> Router {
    let is_alive = || -> MethodRouter<Arc<Watch>> {
        get(healthy).options(async |watch, asker| allowed(healthy(watch, asker).await))
    };
    Router::new().route("/healthz", is_alive()).route("/healthz/", is_alive()).with_state(watch)
}

/// The routes for monitoring.
pub(crate) fn router(watch: Arc<Watch>, api: CurrentApi) -> Router {
    let is_ready =
        || -> MethodRouter<Arc<Watch>> { get(ready).options(async |watch, asker| allowed(ready(watch, asker).await)) };
    let watched = Router::new().route("/metrics", get(metrics));
    let watched = watched.route("/readyz", is_ready()).route("/readyz/", is_ready()).with_state(watch.clone());
    health(watch.clone()).merge(watched).merge(super::inspect::router(watch, api))
}

/// The answer to OPTIONS, the default of HAProxy's checks: only the status matters, so it is that of GET.
fn allowed(answer: impl IntoResponse) -> Response {
    let mut answer = answer.into_response();
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS"));
    answer
}

fn hardened(answer: impl IntoResponse) -> Response {
    let mut answer = answer.into_response();
    harden::shown(answer.headers_mut());
    answer
}

async fn metrics(extract::State(watch): extract::State<Arc<Watch>>) -> Response {
    hardened(([(TYPE, CONTENT_TYPE), (CACHE_CONTROL, "no-store")], watch.metrics().await))
}

async fn healthy(extract::State(watch): extract::State<Arc<Watch>>, asker: Asker) -> Response {
    answer(silence(&watch).await.map_or(Ok("ok\n"), Err), asker)
}

async fn ready(extract::State(watch): extract::State<Arc<Watch>>, asker: Asker) -> Response {
    let not = |why: &str| answer(Err(why.to_owned()), asker);
    match watch.state() {
        State::Starting => not("starting"),
        State::Leaving => not("stopping: send no more clients here"),
        State::Draining => not("draining: clients are asked to come back elsewhere"),
        State::Ready => answer(silence(&watch).await.map_or(Ok("ready\n"), Err), asker),
    }
}

fn answer(result: Result<&'static str, String>, asker: Asker) -> Response {
    match result {
        Ok(word) => hardened(([(CACHE_CONTROL, "no-store")], word)),
        Err(why) => HttpRefusal::because(503, why).to(asker).into_response(),
    }
}

/// On the main port the pages answer instead.
async fn nowhere(asker: Asker, request: Request<Body>) -> Response {
    nothing_at(request.uri().path()).to(asker).into_response()
}

/// The router adds `Allow`.
async fn other_method(asker: Asker, request: Request<Body>) -> Response {
    not_by(request.method(), request.uri().path()).to(asker).into_response()
}

/// The shards that do not answer, in words.
async fn silence(watch: &Watch) -> Option<String> {
    let silent: Vec<String> = watch.silent_shards().await.iter().map(ToString::to_string).collect();
    let what = match silent.len() {
        0 => return None,
        1 => "shard",
        _ => "shards",
    };
    Some(format!("{what} {} did not answer within {} s", silent.join(", "), SHARD_PATIENCE.as_secs()))
}

/// The listener on a port of its own. Ends when it is dropped.
pub(crate) struct AdminServer {
    pub(crate) address: Address,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// The bounds of one HTTP connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HttpBounds {
    pub(crate) times: Times,
    /// The longest head of a request.
    pub(crate) head_bytes_max: usize,
}

/// A listener that is bound and does not serve yet.
pub(crate) struct Bound {
    address: Address,
    listener: Listener,
}

impl Bound {
    /// Binds the address, before any other part of the server runs.
    pub(crate) fn at(address: &Address) -> Result<Self, ServeError> {
        let refused = |source| ServeError::Listen { address: address.clone(), source };
        let mut opened = listen(address, 1).map_err(refused)?;
        let listener = opened.sockets.pop().ok_or_else(|| refused(io::ErrorKind::NotFound.into()))?;
        Ok(Bound { address: opened.address, listener })
    }

    /// Serves `router` from here.
    pub(crate) fn serve(
        self,
        router: Router,
        gate: Arc<Gate>,
        bounds: HttpBounds,
        watch: Arc<Watch>,
    ) -> Result<AdminServer, ServeError> {
        let via = match &self.address {
            Address::Tcp(address) => Via::tcp(*address),
            Address::Unix(_) => Via::Unix,
        };
        let router = router.fallback(nowhere).method_not_allowed_fallback(other_method);
        let router = gate.around(via, router);
        let failed = |source| ServeError::System { what: "thread", source };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (stop, stopped) = oneshot::channel();
        let listener = self.listener;
        let body = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, router, bounds, &watch) => {}
                    _ = stopped => {}
                }
            });
        };
        let thread = std::thread::Builder::new().name("admin".to_owned()).spawn(body).map_err(failed)?;
        Ok(AdminServer { address: self.address, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // it ends at once; the panic hook has reported a panic of it
        }
    }
}

/// The shared state of all connections to the admin port.
#[derive(Clone)]
struct Port {
    router: Router,
    bounds: HttpBounds,
    /// The number of connections, for metrics.
    open: Arc<AtomicUsize>,
    connections: Arc<Connections>,
    places: Arc<Places>,
}

async fn accept(listener: Listener, router: Router, bounds: HttpBounds, watch: &Watch) {
    let (open, connections) = (watch.admin_open.clone(), watch.connections.clone());
    let places = Places::new(CONNECTIONS_MAX, CONNECTIONS_MAX);
    let port = Port { router, bounds, open, connections, places };
    match listener {
        Listener::Tcp(listener) => match TcpListener::from_std(listener) {
            Ok(listener) => {
                pace::shallow(socket2::SockRef::from(&listener));
                port.accept(|cx| listener.poll_accept(cx).map_ok(|(socket, _)| socket)).await;
            }
            Err(error) => tracing::error!(%error, "the admin port is not served"),
        },
        Listener::Unix(listener, _file) => match UnixListener::from_std(listener) {
            Ok(listener) => port.accept(|cx| listener.poll_accept(cx).map_ok(|(socket, _)| socket)).await,
            Err(error) => tracing::error!(%error, "the admin port is not served"),
        },
    }
}

impl Port {
    /// Accepts for the life of the port.
    async fn accept<S: AsyncRead + AsyncWrite + AsFd + Unpin + Send + 'static>(
        &self,
        poll_accept: impl Fn(&mut Context<'_>) -> Poll<io::Result<S>>,
    ) {
        let mut spare = Spare::new(Answer::Http);
        loop {
            match spare.accept(&poll_accept).await {
                Ok(socket) => self.serve(socket).await,
                Err((Outcome::NoneWaits, _)) => {}
                Err((Outcome::Refused, _)) => self.connections.refuse(Reason::NoDescriptor),
                Err((Outcome::Pause, _)) => {
                    self.connections.refuse(Reason::AcceptFailed);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Serves one connection beside the others; waits while all of them are being answered.
    async fn serve<S: AsyncRead + AsyncWrite + AsFd + Unpin + Send + 'static>(&self, socket: S) {
        let place = Arc::new(self.places.enter_patiently(None).await);
        let displaced = place.displaced();
        let pace = Pace::new(self.bounds.times, false).at(Some(place));
        let (router, answering) = (self.router.clone(), pace.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let (version, asked) = (request.version(), ConnectionOptions::of(request.headers()));
            let answering = answering.begin(request.body());
            let id = RequestId::of(request.headers()); // these requests do not count into the metrics of HTTP requests
            let (head, body) = request.into_parts();
            let (body, end) = unread::watch(body, None);
            let answer = router.clone().oneshot(Request::from_parts(head, Body::new(body)));
            async move {
                answer.await.map(|mut response| {
                    response.headers_mut().insert(REQUEST_ID, id.value());
                    spell_allow(response.headers_mut());
                    let is_cut = end.is_given_up() && !answering.is_received();
                    if is_cut || response.extensions().get::<LastAnswer>().is_some() {
                        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                    }
                    answering.answer(version, &asked, response, None)
                })
            }
        });
        let io = TokioIo::new(Paced::new(socket, pace, self.bounds.head_bytes_max));
        let (backstop, open) = (self.bounds.times.backstop(), self.open.clone());
        let buffer_bytes = pace::buffer_bytes(self.bounds.head_bytes_max);
        tokio::spawn(async move {
            let _counted = Counted::of(open);
            // Scrapers and probes speak HTTP/1. A server that detects the version by itself waits for the first bytes
            // without a limit, so a silent client would keep its place for ever.
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).half_close(true).header_read_timeout(backstop);
            server.max_buf_size(buffer_bytes);
            let served = tokio::select! {
                biased;
                served = server.serve_connection(io, service) => served,
                () = displaced => Ok(()),
            };
            if let Err(error) = served {
                tracing::debug!(error = error.to_string(), "a connection to the admin port ended early");
            }
        });
    }
}

/// One connection in the metrics.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn of(open: Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Relaxed);
        Counted(open)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::hooks::HttpHookCounts;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    /// With times so long that none ends by itself.
    #[tokio::test]
    async fn connections_that_ask_nothing_do_not_keep_probes_out() {
        let bound = Bound::at(&Address::Tcp(([127, 0, 0, 1], 0).into())).unwrap();
        let long = Duration::from_secs(600);
        let times = Times { head: long, idle: long, write: long, close: long };
        let bounds = HttpBounds { times, head_bytes_max: 16 << 10 };
        let Address::Tcp(address) = bound.address else { panic!("{:?}", bound.address) };
        let connections = crate::transport::admission::Connections::new(&crate::Config::default());
        let watch =
            Watch::new(&[], Vec::new(), connections, None, HttpHookCounts::default(), crate::journal::Audit::default());
        let asking = async {
            let mut silent = Vec::new();
            for _ in 0..2 * CONNECTIONS_MAX {
                silent.push(TcpStream::connect(address).await.unwrap());
            }
            for _ in 0..2 * CONNECTIONS_MAX {
                let mut kept = TcpStream::connect(address).await.unwrap();
                kept.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
                assert_eq!(kept.read(&mut [0; 1024]).await.unwrap().min(1), 1);
                silent.push(kept);
            }
            let mut probe = TcpStream::connect(address).await.unwrap();
            probe.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
            probe.shutdown().await.unwrap(); // a probe that is done with asking still reads
            let mut answer = String::new();
            probe.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        };
        tokio::select! {
            () = accept(bound.listener, health(watch.clone()), bounds, &watch) => panic!("it accepts for ever"),
            () = asking => {}
        }
    }
}
