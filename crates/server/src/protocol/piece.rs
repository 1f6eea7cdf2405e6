//! The way of a body from a shard to hyper: one piece at a time.
//!
//! In: a piece, as soon as hyper has taken the one before ([`Giver::room`]). Out: the pieces in order, and then the end
//! ([`Taker::poll_take`]). Either side learns that the other one has gone. The sides may be on different threads. A
//! channel of tokio's does the same, and takes 1.8 KB for each stream.

use bytes::Bytes;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

#[derive(Default)]
struct Slot {
    piece: Option<Bytes>,
    /// One of the sides has gone.
    is_over: bool,
    /// It waits for a piece.
    taker: Option<Waker>,
    /// It waits for room, or for the taker's end.
    giver: Option<Waker>,
}

/// The side of the shard.
pub(crate) struct Giver(Arc<Mutex<Slot>>);

/// The side of hyper.
pub(crate) struct Taker(Arc<Mutex<Slot>>);

/// Both sides of a body without a piece.
pub(crate) fn pieces() -> (Giver, Taker) {
    let slot = Arc::default();
    (Giver(Arc::clone(&slot)), Taker(slot))
}

/// The taker has gone.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Gone;

impl Giver {
    /// Returns when the last piece has been taken.
    pub(crate) async fn room(&self) -> Result<(), Gone> {
        poll_fn(|cx| self.poll_state(cx, |slot| slot.piece.is_none())).await
    }

    /// Returns when the taker has gone.
    pub(crate) async fn closed(&self) {
        let _ = poll_fn(|cx| self.poll_state(cx, |_| false)).await; // nothing else ends it
    }

    /// Gives a piece. There must be room.
    pub(crate) fn give(&self, piece: Bytes) {
        let mut slot = lock(&self.0);
        debug_assert!(slot.piece.is_none(), "the last piece was not taken");
        slot.piece = Some(piece);
        wake(slot.taker.take(), slot);
    }

    fn poll_state(&self, cx: &mut Context<'_>, is_due: impl Fn(&Slot) -> bool) -> Poll<Result<(), Gone>> {
        let mut slot = lock(&self.0);
        if slot.is_over {
            return Poll::Ready(Err(Gone));
        }
        if is_due(&slot) {
            return Poll::Ready(Ok(()));
        }
        slot.giver = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Taker {
    /// The next piece. `None`: the giver has gone, and all of its pieces were taken.
    pub(crate) fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut slot = lock(&self.0);
        match slot.piece.take() {
            Some(piece) => {
                wake(slot.giver.take(), slot);
                Poll::Ready(Some(piece))
            }
            None if slot.is_over => Poll::Ready(None),
            None => {
                slot.taker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Giver {
    fn drop(&mut self) {
        let mut slot = lock(&self.0);
        slot.is_over = true;
        wake(slot.taker.take(), slot);
    }
}

impl Drop for Taker {
    fn drop(&mut self) {
        let mut slot = lock(&self.0);
        slot.is_over = true;
        wake(slot.giver.take(), slot);
    }
}

fn lock(slot: &Mutex<Slot>) -> MutexGuard<'_, Slot> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes one that waits, when the slot is free for it.
fn wake(waker: Option<Waker>, slot: MutexGuard<'_, Slot>) {
    drop(slot);
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use std::future::poll_fn;

    async fn take(taker: &Taker) -> Option<Bytes> {
        poll_fn(|cx| taker.poll_take(cx)).await
    }

    #[tokio::test]
    async fn pieces_come_in_order_one_at_a_time_and_then_the_end() {
        let (giver, taker) = pieces();
        let giving = tokio::spawn(async move {
            for n in 0..100u8 {
                giver.room().await.expect("the taker is there");
                giver.give(Bytes::copy_from_slice(&[n]));
                assert_eq!(giver.room().now_or_never(), None, "there is one already");
            }
        });
        let mut taken = Vec::new();
        while let Some(piece) = take(&taker).await {
            taken.extend_from_slice(&piece);
        }
        assert_eq!(taken, Vec::from_iter(0..100u8));
        giving.await.expect("no panic");
    }

    #[tokio::test]
    async fn each_side_learns_that_the_other_has_gone() {
        let (giver, taker) = pieces();
        giver.give(Bytes::from_static(b"last"));
        drop(giver);
        assert_eq!((take(&taker).await, take(&taker).await), (Some(Bytes::from_static(b"last")), None));
        let (giver, taker) = pieces();
        let waiting = tokio::spawn(async move {
            giver.closed().await;
            giver.room().await
        });
        tokio::task::yield_now().await;
        drop(taker);
        assert_eq!(waiting.await.expect("no panic"), Err(Gone));
        let (giver, taker) = pieces();
        giver.give(Bytes::from_static(b"not taken"));
        let waiting = tokio::spawn(async move { giver.room().await });
        tokio::task::yield_now().await;
        drop(taker);
        assert_eq!(waiting.await.expect("no panic"), Err(Gone));
    }
}
