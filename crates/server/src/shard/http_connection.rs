//! HTTP connections of a shard, counted so that its end can wait for them.
//!
//! Every request that was received whole gets its answer. As soon as the shard is *closing*, each answer over HTTP/1
//! says `Connection: close`, and HTTP/2 ends in good order. The shard waits for requests that are being answered. The
//! next request of an idle connection may be under way unseen. So a connection that was answered a short time ago has
//! [`LINGER`] to send it and get an answer. One that has been idle for longer is closed with the shard.

use super::{Shared, Shell};
use crate::counters::HttpOpen;
use crate::refusal::LastAnswer;
use crate::transport::pace::{ConnectionOptions, ResponseGuard};
use crate::transport::unread::BodyEnd;
use axum::body::Body;
use http::{HeaderValue, Response, StatusCode, Version, header};
use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// For so long after its last answer a connection may have a request under way.
const LINGER: Duration = Duration::from_millis(500);

/// The state of a connection, as the drain needs it.
pub(super) struct HttpState {
    /// Each request under way holds a clone, until the answer's last byte was taken.
    busy: Arc<()>,
    /// When it was accepted, or last answered.
    last: Cell<Instant>,
    /// It ends after its current answer.
    leaving: Cell<bool>,
    /// Its protocol.
    speaks: Cell<Spoken>,
    /// Waits for the shard's end.
    waiting: RefCell<Option<Waker>>,
}

/// The protocol of a connection that is no WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spoken {
    /// Its first head has not come whole.
    Head,
    Http1,
    Http2,
}

impl HttpState {
    fn is_busy(&self) -> bool {
        self.leaving.get() || Arc::strong_count(&self.busy) > 1
    }
}

/// A connection that has not been upgraded, as long as this lives.
pub(crate) struct HttpConnection {
    shell: Shared,
    state: Rc<HttpState>,
    slot: usize,
}

impl HttpConnection {
    pub(super) fn accepted(shell: &Shared) -> Self {
        let state = Rc::new(HttpState {
            busy: Arc::new(()),
            last: Cell::new(Instant::now()),
            leaving: Cell::new(false),
            speaks: Cell::new(Spoken::Head),
            waiting: RefCell::new(None),
        });
        let slot = {
            let mut shell = shell.borrow_mut();
            shell.counters.accepted += 1;
            shell.http_connections.insert(state.clone())
        };
        HttpConnection { shell: shell.clone(), state, slot }
    }

    /// Its first head has come.
    pub(crate) fn speaks(&self, http2: bool) {
        self.state.speaks.set(if http2 { Spoken::Http2 } else { Spoken::Http1 });
    }

    /// Counts an answer. If the shard ends, the answer says that the connection ends too. So does one behind which
    /// hyper closes, because the rest of the request is not read. HTTP/2 has no such header (RFC 9113 §8.2.2): its
    /// server waits for [`ending`](Self::ending).
    pub(crate) fn counted(
        &self,
        version: Version,
        asked: ConnectionOptions,
        (answering, body): (ResponseGuard, BodyEnd),
        is_last: bool,
        answer: impl Future<Output = Result<Response<Body>, Infallible>> + 'static,
    ) -> impl Future<Output = Result<Response<Body>, Infallible>> + 'static {
        let (shell, state, busy) = (self.shell.clone(), self.state.clone(), self.state.busy.clone());
        async move {
            let mut response = answer.await?;
            state.last.set(Instant::now());
            let is_upgrade = response.status() == StatusCode::SWITCHING_PROTOCOLS;
            // RFC 9110 §15.5.9: the rest of a request that was too slow may still come, and is not read.
            let is_last = is_last
                || response.status() == StatusCode::REQUEST_TIMEOUT
                || (body.is_given_up() && !answering.is_received())
                || response.extensions().get::<LastAnswer>().is_some();
            if (is_last || shell.borrow().closing) && version != Version::HTTP_2 && !is_upgrade {
                state.leaving.set(true);
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(answering.answer(version, &asked, response, Some(busy)))
        }
    }

    /// Returns when the shard begins to end.
    pub(crate) async fn ending(&self) {
        poll_fn(|cx| {
            if self.shell.borrow().closing {
                self.state.leaving.set(true);
                return Poll::Ready(());
            }
            *self.state.waiting.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl Drop for HttpConnection {
    fn drop(&mut self) {
        self.shell.borrow_mut().http_connections.remove(self.slot);
    }
}

/// HTTP connections that a drain waits for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct HttpLeft {
    /// They are being answered.
    pub(super) busy: usize,
    /// They were answered a short time ago, so the next request may be on its way.
    pub(super) lingering: usize,
}

impl Shell {
    /// From here on the shard takes in no request and no command.
    pub(super) fn stop_intake(&mut self) {
        self.closing = true;
        for (_, state) in &self.http_connections {
            if let Some(waker) = state.waiting.take() {
                waker.wake();
            }
        }
    }

    /// The open connections that are no WebSockets, by version.
    pub(super) fn http_open(&self) -> HttpOpen {
        let mut open = HttpOpen::default();
        for (_, state) in &self.http_connections {
            match state.speaks.get() {
                Spoken::Head => open.unknown += 1,
                Spoken::Http1 => open.http1 += 1,
                Spoken::Http2 => open.http2 += 1,
            }
        }
        open
    }

    /// The HTTP connections that a drain waits for.
    pub(super) fn http_left(&self) -> HttpLeft {
        let mut left = HttpLeft::default();
        for (_, state) in &self.http_connections {
            if state.is_busy() {
                state.last.set(Instant::now());
                left.busy += 1;
            } else if state.last.get().elapsed() < LINGER {
                left.lingering += 1;
            }
        }
        left
    }
}
