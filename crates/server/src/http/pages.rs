//! The embedder's pages, away from the shards: a slow page does not delay the connections of a shard.
//!
//! In: a request for no address of the server itself. Out: the answer of the embedder's router, which runs on the
//! runtime from which the server was started, as handlers do. Without a runtime, pages have a thread of their own, so a
//! program without async code may have pages. A body that is not whole at once is carried frame by frame, one ahead of
//! the peer. If a page panics, its caller gets a 500; if its caller is gone, the page is dropped. Pages that have not
//! begun to answer are bounded by `pages_outstanding_max`.
//!
//! A page that waits for its request's body has a deadline (`transport::upload`), which the caller's side keeps: then
//! the page is dropped, its caller gets a 408, and the connection of HTTP/1 is closed. Over HTTP/1 the deadline also
//! holds after the answer's head. Over HTTP/2 it ends there: a page may answer and read at the same time without a
//! limit, and the pings of the connection show that the peer is alive.

use crate::embed::panic_text;
use crate::embed::runtime::{runtime_of_handlers, runtime_on_a_thread};
use crate::error::ServeError;
use crate::limits::HttpLimit;
use crate::logs;
use crate::refusal::{Asker, HttpRefusal};
use crate::transport::upload::{self, Patience};
use axum::body::{Body, HttpBody};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Request, Response, Version};
use http_body::{Frame, SizeHint};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::runtime;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;
use tower::{Service, ServiceExt as _};

/// See the module's description.
#[derive(Clone)]
pub(crate) struct Pages {
    router: axum::Router,
    runtime: runtime::Handle,
    room: Arc<Semaphore>,
    outstanding_max: usize,
    /// How long a body may pause while its page waits for it.
    body_pause_max: Duration,
    /// Ends the thread of the pages, if they have one.
    _thread: Option<Arc<oneshot::Sender<()>>>,
}

/// One frame of an answer's body.
type Framed = Result<Frame<Bytes>, axum::Error>;

impl Pages {
    /// Takes the runtime that this is called on.
    pub(crate) fn new(
        router: axum::Router,
        outstanding_max: usize,
        body_pause_max: Duration,
    ) -> Result<Self, ServeError> {
        let (runtime, thread) = match runtime_of_handlers() {
            Ok(runtime) => (runtime, None),
            Err(_) => {
                let (runtime, stop) = runtime_on_a_thread("pages")?;
                (runtime, Some(Arc::new(stop)))
            }
        };
        let room = Arc::new(Semaphore::new(outstanding_max.min(Semaphore::MAX_PERMITS)));
        Ok(Pages { router, runtime, room, outstanding_max, body_pause_max, _thread: thread })
    }

    async fn answer(self, request: Request<Body>) -> Response<Body> {
        let asker = Asker::of_request(&request);
        let Ok(room) = self.room.clone().try_acquire_owned() else {
            let max = self.outstanding_max;
            let words = format!(
                "{max} requests to pages are in progress, the limit of this server (limits.pages_outstanding_max)"
            );
            let refused = HttpRefusal::because(503, words).at(HttpLimit::PagesOutstanding).over(max);
            return refused.to(asker).into_response();
        };
        let (path, router) = (request.uri().path().to_owned(), self.router.clone());
        let is_http2 = request.version() == Version::HTTP_2;
        let (request, patience) = if request.body().is_end_stream() {
            (request, None)
        } else {
            let (head, body) = request.into_parts();
            let (body, patience) = upload::watch(body, self.body_pause_max);
            (Request::from_parts(head, Body::new(body)), Some(patience))
        };
        let (answer, answered) = oneshot::channel();
        let making = self.runtime.spawn(async move {
            let page = async move { router.oneshot(request).await.unwrap_or_else(|never| match never {}) };
            let page = AssertUnwindSafe(page).catch_unwind().await;
            drop(room);
            match page {
                Ok(page) => carry(page, answer, &path).await,
                Err(panic) => {
                    logs::limited!(Handler, ERROR, path = %path, panic = panic_text(&*panic), "a page panicked");
                    let refused =
                        HttpRefusal::because(500, "the page failed; the server's log has the reason").to(asker);
                    let _ = answer.send((refused.into_response(), None)); // the peer may be gone
                }
            }
        });
        let making = AbortOnDrop(making.abort_handle());
        let answered = match &patience {
            None => answered.await,
            Some(patience) => tokio::select! {
                biased;
                answered = answered => answered,
                () = patience.is_over() => return patience.refusal().to(asker).into_response(),
            },
        };
        match answered {
            Ok((head, None)) => head,
            Ok((head, Some(frames))) => head.map(|body| {
                let left = body.size_hint();
                let late = patience.filter(|_| !is_http2).map(|patience| Box::pin(late(patience)) as Late);
                Body::new(Carried { frames, left, late, _making: making })
            }),
            Err(_) => {
                let words = "the program that serves the pages is stopping: its runtime accepts no more work";
                HttpRefusal::because(503, words).to(asker).into_response()
            }
        }
    }
}

impl Service<Request<Body>> for Pages {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { Ok(this.answer(request).await) })
    }
}

/// A head on its way to the shard; with frames where the body is not in it. Then its body only tells how long it is.
type Head = (Response<Body>, Option<mpsc::Receiver<Framed>>);

/// Sends a page to its shard: whole where it is there whole, as most are, else frame by frame.
async fn carry(page: Response<Body>, answer: oneshot::Sender<Head>, path: &str) {
    let (parts, mut body) = page.into_parts();
    if body.is_end_stream() {
        let _ = answer.send((Response::from_parts(parts, body), None)); // as below
        return;
    }
    let hint = body.size_hint();
    let next = |body: &mut Body, cx: &mut Context<'_>| {
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| Pin::new(body).poll_frame(cx)));
        polled.unwrap_or_else(|panic| {
            logs::limited!(Handler, ERROR, path = %path, panic = panic_text(&*panic), "the body of a page panicked");
            Poll::Ready(Some(Err(axum::Error::new("the page failed"))))
        })
    };
    let first = poll_fn(|cx| Poll::Ready(next(&mut body, cx))).await;
    let first = match first {
        Poll::Ready(Some(Ok(frame))) if body.is_end_stream() && frame.is_data() => {
            let data = frame.into_data().unwrap_or_default();
            let _ = answer.send((Response::from_parts(parts, Body::from(data)), None)); // the caller may be gone
            return;
        }
        Poll::Ready(first) => Some(first),
        Poll::Pending => None,
    };
    let (sender, frames) = mpsc::channel(1);
    let head = Response::from_parts(parts, Body::new(Length(hint)));
    if answer.send((head, Some(frames))).is_err() {
        return;
    }
    let mut frame = match first {
        Some(first) => first,
        None => poll_fn(|cx| next(&mut body, cx)).await,
    };
    while let Some(framed) = frame {
        let over = framed.is_err();
        if sender.send(framed).await.is_err() || over {
            return;
        }
        // A page whose peer is gone is dropped.
        frame = tokio::select! {
            frame = poll_fn(|cx| next(&mut body, cx)) => frame,
            () = sender.closed() => return,
        };
    }
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Stands for a body that is carried, to tell how long it is.
struct Length(SizeHint);

impl HttpBody for Length {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }

    fn size_hint(&self) -> SizeHint {
        self.0
    }
}

/// Ends with the words for a request whose body pauses for too long.
type Late = Pin<Box<dyn Future<Output = String> + Send>>;

async fn late(patience: Patience) -> String {
    patience.is_over().await;
    patience.refusal().reason().to_owned()
}

/// A body that is made elsewhere.
struct Carried {
    frames: mpsc::Receiver<Framed>,
    left: SizeHint,
    /// The page may still wait for its request's body.
    late: Option<Late>,
    _making: AbortOnDrop,
}

impl HttpBody for Carried {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Framed>> {
        let Poll::Ready(frame) = self.frames.poll_recv(cx) else {
            let Some(late) = &mut self.late else { return Poll::Pending };
            let why = std::task::ready!(late.as_mut().poll(cx));
            self.late = None; // it has ended
            return Poll::Ready(Some(Err(axum::Error::new(why))));
        };
        if let (Some(Ok(frame)), Some(left)) = (&frame, self.left.exact()) {
            let len = frame.data_ref().map_or(0, Bytes::len) as u64;
            self.left = SizeHint::with_exact(left.saturating_sub(len));
        }
        Poll::Ready(frame)
    }

    fn size_hint(&self) -> SizeHint {
        self.left
    }
}
