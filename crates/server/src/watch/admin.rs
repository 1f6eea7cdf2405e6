//! `/metrics`, `/healthz` and `/readyz`, and the port of their own on which they may be served.
//!
//! `/healthz` says that the process serves; a shard that fails ends the process, so there is no half of an answer. `/readyz`
//! says whether to send clients here: not while starting, leaving or draining, nor when a shard does not answer. The listener has a
//! thread and a runtime of its own, so that it answers however busy the shards are, and until the last client has gone.

use super::metrics::CONTENT_TYPE;
use super::{SHARD_PATIENCE, ShardState, State, Watch};
use crate::listen::{Address, Listener, listen};
use crate::server::ServeError;
use axum::Router;
use axum::body::Body;
use axum::extract;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE as TYPE};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, oneshot};
use tower::ServiceExt as _;

/// Connections to the admin port at once: a few scrapers and probes, and somebody who looks.
const CONNECTIONS_MAX: usize = 64;
/// Time for a request's head, and between two requests.
const IDLE: Duration = Duration::from_secs(30);
/// How long accepting pauses when the process has no file descriptor left.
const PAUSE: Duration = Duration::from_millis(50);

/// What is on the main port in any case.
pub(crate) fn health() -> Router {
    Router::new().route("/healthz", get(|| async { "ok\n" }))
}

/// What a watcher may ask.
pub(crate) fn router(watch: Arc<Watch>) -> Router {
    let watched = Router::new().route("/metrics", get(metrics)).route("/readyz", get(ready)).with_state(watch);
    health().merge(watched)
}

async fn metrics(extract::State(watch): extract::State<Arc<Watch>>) -> Response {
    ([(TYPE, CONTENT_TYPE), (CACHE_CONTROL, "no-store")], watch.metrics().await).into_response()
}

async fn ready(extract::State(watch): extract::State<Arc<Watch>>) -> Response {
    let not = |why: String| (StatusCode::SERVICE_UNAVAILABLE, [(CACHE_CONTROL, "no-store")], why).into_response();
    match watch.state() {
        State::Starting => return not("starting\n".to_owned()),
        State::Leaving => return not("stopping: send nobody here any more\n".to_owned()),
        State::Draining => return not("draining: clients are told to come back elsewhere\n".to_owned()),
        State::Ready => {}
    }
    let silent = watch.ask_shards().await.iter().position(|last| last.state != ShardState::Answering);
    match silent {
        Some(shard) => not(format!("shard {shard} did not answer within {} s\n", SHARD_PATIENCE.as_secs())),
        None => ([(CACHE_CONTROL, "no-store")], "ready\n").into_response(),
    }
}

/// The listener on a port of its own. Ends when it is dropped.
pub(crate) struct AdminServer {
    pub(crate) address: Address,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// A listener that is bound and does not serve yet.
pub(crate) struct Bound {
    address: Address,
    listener: Listener,
}

impl Bound {
    /// Takes the address, before anything else of the server runs.
    pub(crate) fn at(address: &Address) -> Result<Self, ServeError> {
        let refused = |source| ServeError::Listen { address: address.clone(), source };
        let mut opened = listen(address, 1).map_err(refused)?;
        let listener = opened.sockets.pop().ok_or_else(|| refused(io::ErrorKind::NotFound.into()))?;
        Ok(Bound { address: opened.address, listener })
    }

    /// Serves `router` from here.
    pub(crate) fn serve(self, router: Router) -> Result<AdminServer, ServeError> {
        let failed = |source| ServeError::System { what: "thread", source };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (stop, stopped) = oneshot::channel();
        let listener = self.listener;
        let body = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, router, IDLE) => {}
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
            let _ = thread.join(); // it ends at once; a panic of it was told by its hook
        }
    }
}

async fn accept(listener: Listener, router: Router, idle: Duration) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    match listener {
        Listener::Tcp(listener) => match TcpListener::from_std(listener) {
            Ok(listener) => loop {
                serve(listener.accept().await.map(|(socket, _)| socket), &room, &router, idle).await;
            },
            Err(error) => tracing::error!(%error, "the admin port is not served"),
        },
        Listener::Unix(listener, _file) => match UnixListener::from_std(listener) {
            Ok(listener) => loop {
                serve(listener.accept().await.map(|(socket, _)| socket), &room, &router, idle).await;
            },
            Err(error) => tracing::error!(%error, "the admin port is not served"),
        },
    }
}

/// Serves one connection beside the others; waits while there are too many.
async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    accepted: io::Result<S>,
    room: &Arc<Semaphore>,
    router: &Router,
    idle: Duration,
) {
    let socket = match accepted {
        Ok(socket) => socket,
        Err(_) => return tokio::time::sleep(PAUSE).await,
    };
    let Ok(place) = room.clone().acquire_owned().await else { return };
    let service = router.clone().map_request(|request: http::Request<hyper::body::Incoming>| request.map(Body::new));
    tokio::spawn(async move {
        let _place = place;
        // Scrapers and probes speak HTTP/1. A server that asks itself which HTTP it is waits without a limit for the first
        // bytes, and who sent none kept a place for ever.
        let mut server = http1::Builder::new();
        server.timer(TokioTimer::new()).half_close(true).header_read_timeout(idle);
        let served = server.serve_connection(TokioIo::new(socket), TowerToHyperService::new(service)).await;
        if let Err(error) = served {
            tracing::debug!(%error, "a connection to the admin port ended early");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    /// Whoever takes all the places and says nothing gets none for long.
    #[tokio::test]
    async fn silent_connections_do_not_keep_probes_out() {
        let bound = Bound::at(&Address::Tcp(([127, 0, 0, 1], 0).into())).unwrap();
        let Address::Tcp(address) = bound.address else { panic!("{:?}", bound.address) };
        tokio::spawn(accept(bound.listener, health(), Duration::from_millis(200)));
        let mut silent = Vec::new();
        for _ in 0..2 * CONNECTIONS_MAX {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let mut probe = TcpStream::connect(address).await.unwrap();
        probe.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        probe.shutdown().await.unwrap(); // a probe that is done with asking still reads
        let mut answer = String::new();
        probe.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}
