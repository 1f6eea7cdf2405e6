//! How long the body of a request may pause.
//!
//! In: a body and the longest pause. Out: the same body, and a [`Patience`] that ends when a reader of the body has
//! waited that long for the next bytes. The time runs only while a reader waits: a page that does not read its body, or
//! works between two reads, is never late. Each read that brings bytes restarts the time, so a slow upload may take as
//! long as it needs. The API and the pages keep the same rule, by `limits.head_timeout`, and answer 408.

use crate::refusal::HttpRefusal;
use axum::body::HttpBody;
use http_body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Since when the reader waits; `None` while it does not.
type Since = Mutex<Option<Instant>>;

/// A body that notes since when its reader waits.
pub(crate) struct Upload<B> {
    body: B,
    since: Arc<Since>,
}

/// See the module's description.
pub(crate) struct Patience {
    since: Weak<Since>,
    pause_max: Duration,
}

/// Watches the reader of a body.
pub(crate) fn watch<B: HttpBody>(body: B, pause_max: Duration) -> (Upload<B>, Patience) {
    let since = Arc::default();
    let patience = Patience { since: Arc::downgrade(&since), pause_max };
    (Upload { body, since }, patience)
}

impl Patience {
    /// Returns when the reader has waited for too long. Never, once the body has ended or was dropped.
    pub(crate) async fn is_over(&self) {
        loop {
            let now = Instant::now();
            let Some(since) = self.since.upgrade() else { break };
            let since = *since.lock().unwrap_or_else(PoisonError::into_inner);
            // A reader that begins to wait meanwhile is not late before this.
            let due = since.unwrap_or(now) + self.pause_max;
            if due <= now {
                return;
            }
            sleep_until(due).await;
        }
        std::future::pending().await
    }

    /// The answer to a request that was too slow.
    pub(crate) fn refusal(&self) -> HttpRefusal {
        let message = format!("no more of the body came within {} s", self.pause_max.as_secs_f32());
        HttpRefusal::because(408, message).by("limits.head_timeout")
    }
}

impl<B: HttpBody + Unpin> HttpBody for Upload<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        match polled {
            Poll::Ready(_) => *since = None,
            Poll::Pending => *since = since.or_else(|| Some(Instant::now())),
        }
        drop(since);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, Bytes};
    use futures_util::FutureExt as _;
    use http_body_util::BodyExt as _;
    use tokio::sync::mpsc;

    const PAUSE: Duration = Duration::from_secs(10);

    struct Fed(mpsc::Receiver<Bytes>);

    impl HttpBody for Fed {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_pause_of_the_peer_counts() {
        let (feed, fed) = mpsc::channel(1);
        let (mut body, patience) = watch(Body::new(Fed(fed)), PAUSE);
        let mut over = Box::pin(patience.is_over());
        tokio::time::sleep(3 * PAUSE).await;
        assert!(over.as_mut().now_or_never().is_none(), "nobody reads");
        for _ in 0..5 {
            assert!(body.frame().now_or_never().is_none(), "nothing is there");
            tokio::time::sleep(PAUSE - Duration::from_millis(1)).await;
            assert!(over.as_mut().now_or_never().is_none(), "each byte starts the time anew");
            feed.send(Bytes::from_static(b"x")).await.expect("the body is there");
            assert!(body.frame().now_or_never().is_some());
        }
        assert!(body.frame().now_or_never().is_none(), "nothing is there");
        let begin = Instant::now();
        over.await;
        assert_eq!(begin.elapsed(), PAUSE);
        drop(body);
        let over = tokio::time::timeout(3 * PAUSE, patience.is_over()).await;
        assert!(over.is_err(), "nobody waits for a body that was dropped");
    }
}
