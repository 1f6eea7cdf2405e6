//! How long the body of a request may pause, and how slowly it may come.
//!
//! In: a body and the longest pause. Out: the same body, and a [`Patience`] that ends when a reader of the body has
//! waited that long for the next bytes, or for all bytes so far by that much longer than [`BYTES_PER_S_MIN`] allow. So
//! a slow upload may take as long as it needs, and one that brings a byte a second holds its place no longer than one
//! that brings nothing. The time runs only while a reader waits: a page that does not read its body, or works between
//! two reads, is never late. The API and the pages keep the same rule, by `limits.head_timeout`, and answer 408.

use crate::limits::HttpLimit;
use crate::refusal::HttpRefusal;
use axum::body::HttpBody;
use bytes::Buf as _;
use http_body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// The least bytes of a body that come in a second, on average: those of a modem. Apache's `mod_reqtimeout` has the
/// same.
pub(crate) const BYTES_PER_S_MIN: u64 = 500;

/// The progress of a body.
#[derive(Debug, Default)]
struct Progress {
    /// Since when the reader waits; `None` while it does not.
    since: Option<Instant>,
    /// How long it has waited before.
    waited: Duration,
    bytes: u64,
}

/// A body that notes how long its reader waits.
pub(crate) struct Upload<B> {
    body: B,
    progress: Arc<Mutex<Progress>>,
}

/// See the module's description.
pub(crate) struct Patience {
    progress: Weak<Mutex<Progress>>,
    pause_max: Duration,
}

impl Progress {
    /// How long the reader may wait now.
    fn left(&self, pause_max: Duration) -> Duration {
        let allowed = pause_max + Duration::from_millis(self.bytes.saturating_mul(1000) / BYTES_PER_S_MIN);
        allowed.saturating_sub(self.waited).min(pause_max)
    }
}

/// Watches the reader of a body.
pub(crate) fn watch<B: HttpBody>(body: B, pause_max: Duration) -> (Upload<B>, Patience) {
    let progress = Arc::default();
    let patience = Patience { progress: Arc::downgrade(&progress), pause_max };
    (Upload { body, progress }, patience)
}

impl Patience {
    /// Returns when the reader has waited for too long. Never, once the body has ended or was dropped.
    pub(crate) async fn is_over(&self) {
        loop {
            let now = Instant::now();
            let Some(progress) = self.progress.upgrade() else { break };
            let due = {
                let progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
                let left = progress.left(self.pause_max);
                match progress.since {
                    Some(since) if since + left <= now => return,
                    Some(since) => since + left,
                    None => now + left.max(self.pause_max / 10), // it may begin to wait meanwhile
                }
            };
            drop(progress);
            sleep_until(due).await;
        }
        std::future::pending().await
    }

    /// The answer to a request that was too slow.
    pub(crate) fn refusal(&self) -> HttpRefusal {
        let pause = self.pause_max.as_secs_f32();
        let is_slow = self.progress.upgrade().is_some_and(|progress| {
            progress.lock().unwrap_or_else(PoisonError::into_inner).left(self.pause_max) < self.pause_max
        });
        let message = match is_slow {
            true => format!("for {pause} s the body came more slowly than {BYTES_PER_S_MIN} bytes a second"),
            false => format!("no more of the body came within {pause} s"),
        };
        HttpRefusal::because(408, message).at(HttpLimit::HeadTime)
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
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        match &polled {
            Poll::Ready(frame) => {
                let waited = progress.since.take().map_or(Duration::ZERO, |since| since.elapsed());
                progress.waited += waited;
                let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
                progress.bytes += data.map_or(0, |data| data.remaining() as u64);
            }
            Poll::Pending => progress.since = progress.since.or_else(|| Some(Instant::now())),
        }
        drop(progress);
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
            assert!(over.as_mut().now_or_never().is_none(), "a slow upload may take as long as it needs");
            feed.send(Bytes::from_static(&[b'x'; 5_000])).await.expect("the body is there");
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

    #[tokio::test(start_paused = true)]
    async fn drops_of_a_body_buy_no_time() {
        let (feed, fed) = mpsc::channel(1);
        let (mut body, patience) = watch(Body::new(Fed(fed)), PAUSE);
        let mut over = Box::pin(patience.is_over());
        let begin = Instant::now();
        let drips = async {
            loop {
                assert!(body.frame().now_or_never().is_none(), "nothing is there");
                tokio::time::sleep(Duration::from_secs(1)).await;
                feed.send(Bytes::from_static(b"x")).await.expect("the body is there");
                assert!(body.frame().now_or_never().is_some());
            }
        };
        tokio::select! {
            () = &mut over => {}
            () = drips => {}
        }
        assert!(begin.elapsed() <= PAUSE + Duration::from_secs(2), "{:?}", begin.elapsed());
        let refusal = patience.refusal();
        assert!(refusal.reason().contains("500 bytes a second"), "{}", refusal.reason());
    }
}
