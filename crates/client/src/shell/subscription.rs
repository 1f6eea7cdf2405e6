//! A subscription as a stream, and its other end.
//!
//! [`QUEUE_MAX`] events may wait to be taken. When there is no room for another one the subscription is paused: it
//! ends on the server and goes on from the last event that found room once all are taken, with a gap where history no
//! longer reaches back. So a slow reader delays neither its connection nor other subscriptions.

use super::Command;
use crate::core::Event;
use futures_util::Stream;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use tokio::sync::mpsc;

/// Events that may wait to be taken.
pub const QUEUE_MAX: usize = 1024;

/// The events of one channel. Dropping it unsubscribes.
///
/// The stream ends after [`Event::Ended`], or when the client has ended.
#[derive(Debug)]
pub struct Subscription {
    channel: Arc<str>,
    feed: u64,
    events: mpsc::Receiver<Event>,
    shared: Arc<Shared>,
    ended: bool,
    commands: mpsc::UnboundedSender<Command>,
}

/// The state that both ends share.
#[derive(Debug, Default)]
struct Shared {
    /// The driver waits until everything is taken.
    paused: AtomicBool,
    /// The last event, for which there is always room.
    last: OnceLock<Event>,
}

impl Subscription {
    /// The channel.
    pub fn channel(&self) -> &str {
        &self.channel
    }

    /// The next event; `None` when there will be none. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for Subscription {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let polled = self.events.poll_recv(cx);
        // Pending alone says little: tokio makes tasks pause that have taken much.
        if polled.is_pending() && self.events.is_empty() && self.shared.paused.swap(false, Ordering::SeqCst) {
            let command = Command::Resume { channel: self.channel.clone(), feed: self.feed };
            // Where nobody listens the stream ends by itself.
            drop(self.commands.send(command));
        }
        match ready!(polled) {
            Some(event) => Poll::Ready(Some(event)),
            None => {
                self.ended = true;
                Poll::Ready(self.shared.last.get().cloned())
            }
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        drop(self.commands.send(Command::Unsubscribe { channel: self.channel.clone(), feed: self.feed }));
    }
}

/// Subscriptions that the server made by itself.
#[derive(Debug)]
pub struct Incoming {
    /// Not more than the server allows a connection, as each is counted there.
    pub(super) subscriptions: mpsc::UnboundedReceiver<Subscription>,
}

impl Incoming {
    /// The next one; `None` when there will be none. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Option<Subscription> {
        self.subscriptions.recv().await
    }
}

/// The driver's end.
#[derive(Debug)]
pub(super) struct Feed {
    id: u64,
    events: Option<mpsc::Sender<Event>>,
    /// An event was refused: later events must not overtake it, until the subscription is live again.
    refusing: bool,
    shared: Arc<Shared>,
}

impl Feed {
    pub(super) fn open(id: u64, channel: Arc<str>, commands: mpsc::UnboundedSender<Command>) -> (Feed, Subscription) {
        let (sender, events) = mpsc::channel(QUEUE_MAX);
        let shared = Arc::new(Shared::default());
        let feed = Feed { id, events: Some(sender), refusing: false, shared: shared.clone() };
        (feed, Subscription { channel, feed: id, events, shared, ended: false, commands })
    }

    /// Tells this subscription from later ones to the same channel.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Takes an event. False if there is no room for it: the subscription must be paused. Later events are dropped
    /// until it continues, and are recovered then; but the end is always delivered.
    pub(super) fn offer(&mut self, event: Event) -> bool {
        if let Event::Ended { .. } = event {
            let _ = self.shared.last.set(event);
            self.events = None;
            return true;
        }
        let Some(events) = &self.events else { return true };
        if self.refusing && !matches!(event, Event::Live { .. }) {
            return true;
        }
        self.refusing = false;
        match events.try_send(event) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.refusing = true;
                self.shared.paused.store(true, Ordering::SeqCst);
                false
            }
        }
    }

    /// True when everything was taken between the refusal and the note of it: then the reader does not know of it,
    /// and the note is taken back here.
    pub(super) fn is_drained(&self) -> bool {
        let empty = self.events.as_ref().is_some_and(|events| events.capacity() == QUEUE_MAX);
        empty && self.shared.paused.swap(false, Ordering::SeqCst)
    }

    /// True when no event can follow.
    pub(super) fn is_ended(&self) -> bool {
        self.events.is_none()
    }

    /// The client has ended.
    pub(super) fn end(&mut self, code: Box<str>, message: Box<str>) {
        self.offer(Event::Ended { code, message });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfare_wire::native::client::Position;

    fn live(offset: u64) -> Event {
        Event::Live { position: Position { epoch: "e".into(), offset }, recovered: None }
    }

    fn count(count: u64) -> Event {
        Event::PresenceCount { count }
    }

    #[tokio::test]
    async fn events_without_room_are_refused_until_the_subscription_is_live_anew() {
        let (commands, mut heard) = mpsc::unbounded_channel();
        let (mut feed, mut subscription) = Feed::open(7, "c".into(), commands);
        for n in 0..QUEUE_MAX as u64 {
            assert!(feed.offer(count(n)));
        }
        assert!(!feed.offer(count(9_000)), "no room");
        assert!(!feed.is_drained());
        assert_eq!(subscription.next().await, Some(count(0)));
        assert!(feed.offer(count(9_001)), "there is room again, but it must not overtake the refused one");
        for n in 1..QUEUE_MAX as u64 {
            assert_eq!(subscription.next().await, Some(count(n)));
        }
        assert!(heard.try_recv().is_err());
        let waits = tokio::time::timeout(std::time::Duration::ZERO, subscription.next()).await;
        assert!(waits.is_err());
        assert!(matches!(heard.try_recv(), Ok(Command::Resume { feed: 7, .. })), "all is taken: it asks for more");
        assert!(feed.offer(live(1)) && feed.offer(count(9_000)));
        assert_eq!((subscription.next().await, subscription.next().await), (Some(live(1)), Some(count(9_000))));
    }

    #[tokio::test]
    async fn the_end_is_always_told_and_dropping_unsubscribes() {
        let (commands, mut heard) = mpsc::unbounded_channel();
        let (mut feed, mut subscription) = Feed::open(7, "c".into(), commands);
        for n in 0..=QUEUE_MAX as u64 {
            feed.offer(count(n));
        }
        feed.end("denied".into(), "no".into());
        assert!(feed.is_ended());
        for n in 0..QUEUE_MAX as u64 {
            assert_eq!(subscription.next().await, Some(count(n)));
        }
        assert_eq!(subscription.next().await, Some(Event::Ended { code: "denied".into(), message: "no".into() }));
        assert_eq!(subscription.next().await, None);
        assert_eq!(subscription.next().await, None);
        drop(subscription);
        let last = std::iter::from_fn(|| heard.try_recv().ok()).last();
        assert!(matches!(last, Some(Command::Unsubscribe { feed: 7, .. })));
    }
}
