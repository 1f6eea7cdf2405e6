//! The parts of a socket that its client's next one takes over after a cut: the program's values, and when its handlers
//! are done.
//!
//! The hub has it as an attachment of the session, as long as that lives, and gives it to the socket that takes the
//! session up, on whichever shard. Only a socket that has entered has something to give; one that was cut before that
//! passes on what it was given.

use super::data::SocketExtensions;
use fanfare_hub::Attachment;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::sync::Semaphore;

/// See the module's description. A clone is the same.
#[derive(Clone)]
pub(super) struct Kept(Arc<KeptParts>);

struct KeptParts {
    /// Set when the socket has entered.
    data: OnceLock<SocketExtensions>,
    /// Of the socket before, until this one has entered.
    before: Mutex<Option<Kept>>,
    /// Closed when no handler of the socket runs any more.
    runs: Semaphore,
}

impl Kept {
    pub(super) fn new() -> Self {
        let (data, before, runs) = (OnceLock::new(), Mutex::default(), Semaphore::new(0));
        Kept(Arc::new(KeptParts { data, before, runs }))
    }

    /// For the hub.
    pub(super) fn attachment(&self) -> Attachment {
        Attachment::new(self.clone())
    }

    /// Takes what the session had until now.
    pub(super) fn follows(&self, before: &Attachment) {
        if let Some(before) = before.get::<Kept>() {
            let entered = if before.0.data.get().is_some() { Some(before.clone()) } else { before.before().clone() };
            *self.before() = entered;
        }
    }

    /// The socket has entered, with the values of the one before if it goes on as that. Returns its values, and the
    /// socket before. What its guards have put there counts.
    pub(super) fn entered(&self, own: &SocketExtensions, recovered: bool) -> (SocketExtensions, Option<Kept>) {
        let before = self.before().take().filter(|_| recovered);
        let data = before.as_ref().and_then(|before| before.0.data.get()).map(|data| {
            data.take_from(own);
            data.clone()
        });
        let data = data.unwrap_or_else(|| own.clone());
        let _ = self.0.data.set(data.clone()); // it enters once
        (data, before)
    }

    /// No handler of the socket runs any more.
    pub(super) fn is_over(&self) {
        self.0.runs.close();
    }

    /// Returns when no handler of the socket runs any more.
    pub(super) async fn over(&self) {
        let _ = self.0.runs.acquire().await; // it has no permits: this ends when it is closed
    }

    fn before(&self) -> MutexGuard<'_, Option<Kept>> {
        self.0.before.lock().unwrap_or_else(PoisonError::into_inner) // nothing in here panics between two changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_go_on_also_over_a_socket_that_never_entered() {
        let (first, second, third) = (Kept::new(), Kept::new(), Kept::new());
        let own = SocketExtensions::default();
        own.insert(1_u8);
        own.insert("kept");
        assert!(first.entered(&own, false).1.is_none());
        second.follows(&first.attachment());
        third.follows(&second.attachment());
        let newer = SocketExtensions::default();
        newer.insert(2_u8); // by its guard
        let (data, before) = third.entered(&newer, true);
        assert_eq!((data.get::<u8>(), data.get::<&str>()), (Some(2), Some("kept")));
        assert_eq!(own.get::<u8>(), Some(2), "they are the same values");
        assert!(before.is_some_and(|before| Arc::ptr_eq(&before.0, &first.0)));
        let fourth = Kept::new();
        fourth.follows(&third.attachment());
        assert_eq!(fourth.entered(&SocketExtensions::default(), false).0.get::<u8>(), None, "it begins anew");
    }
}
