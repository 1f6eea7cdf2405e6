//! The places of handlers and guards: how many of them run at once, on one shard and for one connection.
//!
//! In: a handler, or the guards of a client, before they run. Out: a [`Held`], in which they run. Handlers and guards
//! have places of their own, so clients can enter while all handlers are busy. Each connection has a small share
//! (`limits.session_questions_max`), so one client with many namespaces delays only itself. Handlers wait for a place
//! in the queues of their sockets, which are bounded. Guards that wait are counted, and beyond as many as may run a
//! client is told to come back. So are sockets that have left and whose handlers have not run: nobody waits for these,
//! so clients that come and go could make as many as they like.
//!
//! A handler that waits for acks gives its place on the shard back meanwhile ([`while_clients_answer`]), because how
//! long that takes is for clients to say: silent ones would hold all places. It keeps the place of its connection.

use crate::logs;
use fanfare_hub::Limits;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// So many times as many sockets that have left may wait for their handlers as handlers may run.
const ENDS: usize = 16;

/// The places of one shard.
pub(crate) struct Places {
    handlers: Arc<Semaphore>,
    guards: Arc<Semaphore>,
    guards_waiting: AtomicUsize,
    /// Sockets that have left, and whose handlers are not done.
    ends: AtomicUsize,
    /// Of each of both kinds, and guards that wait.
    max: usize,
    of_connection_max: usize,
}

/// Those of one connection.
pub(super) struct ConnectionPlaces {
    handlers: Semaphore,
    guards: Semaphore,
}

/// The places in which a handler or the guards of a client run. They are given back when it is dropped.
pub(super) struct Held<'c> {
    place: Arc<Place>,
    _of_connection: Option<SemaphorePermit<'c>>,
}

/// A place on the shard, which is given back for a while.
struct Place {
    permits: Arc<Semaphore>,
    state: Mutex<PlaceState>,
}

#[derive(Default)]
struct PlaceState {
    permit: Option<OwnedSemaphorePermit>,
    /// So many questions to clients are waited for at the moment.
    waits: usize,
}

tokio::task_local! {
    /// Of the handler that runs.
    static PLACE: Arc<Place>;
}

impl Places {
    pub(crate) fn new(limits: &Limits) -> Self {
        let max = limits.questions_max.min(Semaphore::MAX_PERMITS);
        let permits = || Arc::new(Semaphore::new(max));
        let of_connection_max = limits.session_questions_max.min(Semaphore::MAX_PERMITS);
        Places {
            handlers: permits(),
            guards: permits(),
            guards_waiting: AtomicUsize::new(0),
            ends: AtomicUsize::new(0),
            max,
            of_connection_max,
        }
    }

    /// The places of a new connection.
    pub(super) fn of_connection(&self) -> ConnectionPlaces {
        let permits = || Semaphore::new(self.of_connection_max);
        ConnectionPlaces { handlers: permits(), guards: permits() }
    }

    /// Waits for the places of a handler.
    pub(super) async fn handler<'c>(&self, connection: &'c ConnectionPlaces) -> Held<'c> {
        let _of_connection = connection.handlers.acquire().await.ok(); // none of these is ever closed
        let permit = match self.handlers.clone().try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(_) => {
                self.is_full("handlers of Socket.IO wait, as so many run");
                self.handlers.clone().acquire_owned().await.ok()
            }
        };
        Held { place: Place::of(&self.handlers, permit), _of_connection }
    }

    /// Waits for the places of guards. `None`: too many wait already.
    pub(super) async fn guard<'c>(&self, connection: &'c ConnectionPlaces) -> Option<Held<'c>> {
        let _of_connection = connection.guards.acquire().await.ok();
        let permit = match self.guards.clone().try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(_) => {
                let Some(waits) = GuardWaits::begin(&self.guards_waiting, self.max) else {
                    self.is_full(
                        "a client was disconnected to come back later, as so many guards run and as many wait",
                    );
                    return None;
                };
                let permit = self.guards.clone().acquire_owned().await.ok();
                drop(waits);
                permit
            }
        };
        Some(Held { place: Place::of(&self.guards, permit), _of_connection })
    }

    /// A socket has left: one more handler is to run, whether its client comes back or not.
    pub(super) fn end_begins(&self) {
        self.ends.fetch_add(1, SeqCst);
    }

    /// Its handlers are done.
    pub(super) fn end_is_done(&self) {
        self.ends.fetch_sub(1, SeqCst);
    }

    /// Whether a client may enter: so many sockets that have left may wait for their handlers, and not more.
    pub(super) fn may_enter(&self) -> bool {
        let may = self.ends.load(SeqCst) < self.max.saturating_mul(ENDS);
        if !may {
            self.is_full(
                "a client was disconnected to come back later, as the handlers of many that left have not run",
            );
        }
        may
    }

    fn is_full(&self, what: &'static str) {
        logs::limited!(Handler, WARN, limit = "limits.questions_max", max = self.max, "{what}");
    }
}

/// A guard that waits for its place.
struct GuardWaits<'p>(&'p AtomicUsize);

impl<'p> GuardWaits<'p> {
    fn begin(waiting: &'p AtomicUsize, max: usize) -> Option<Self> {
        let waits = GuardWaits(waiting);
        (waiting.fetch_add(1, SeqCst) < max).then_some(waits) // one that is too many goes at once
    }
}

impl Drop for GuardWaits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Held<'_> {
    /// Runs what the places are for.
    pub(super) async fn run<F: Future>(&self, future: F) -> F::Output {
        PLACE.scope(self.place.clone(), future).await
    }
}

impl Place {
    fn of(permits: &Arc<Semaphore>, permit: Option<OwnedSemaphorePermit>) -> Arc<Self> {
        let state = Mutex::new(PlaceState { permit, waits: 0 });
        Arc::new(Place { permits: permits.clone(), state })
    }

    fn state(&self) -> MutexGuard<'_, PlaceState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner) // nothing in here panics between two changes
    }

    /// One question less is waited for. True where it was the last one.
    fn waits_no_more(&self) -> bool {
        let mut state = self.state();
        state.waits -= 1;
        state.waits == 0 && state.permit.is_none()
    }
}

/// Waits for the answers of clients: the handler that does that holds no place on its shard meanwhile. Elsewhere, as in
/// a task of the program, it just waits.
pub(super) async fn while_clients_answer<F: Future>(answers: F) -> F::Output {
    let Ok(place) = PLACE.try_with(Arc::clone) else { return answers.await };
    let waits = Waits::begin(place);
    let answers = answers.await;
    waits.end().await;
    answers
}

/// A handler waits for answers of clients.
struct Waits(Option<Arc<Place>>);

impl Waits {
    fn begin(place: Arc<Place>) -> Self {
        {
            let mut state = place.state();
            state.waits += 1;
            state.permit = None;
        }
        Waits(Some(place))
    }

    /// The answers are here: the handler goes on when there is a place for it.
    async fn end(mut self) {
        let Some(place) = self.0.take() else { return };
        if place.waits_no_more() {
            let permit = place.permits.clone().acquire_owned().await.ok();
            let mut state = place.state();
            if state.waits == 0 {
                state.permit = permit;
            }
        }
    }
}

impl Drop for Waits {
    /// The handler does not wait any more, and may go on at once: it has a place again if one is free.
    fn drop(&mut self) {
        if let Some(place) = self.0.take()
            && place.waits_no_more()
        {
            place.state().permit = place.permits.clone().try_acquire_owned().ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use tokio::sync::oneshot;

    fn places(questions_max: usize, session_questions_max: usize) -> Places {
        Places::new(&Limits { questions_max, session_questions_max, ..Limits::default() })
    }

    #[test]
    fn handlers_and_guards_have_places_of_their_own_and_a_connection_has_a_share() {
        let places = places(2, 1);
        let connections: Vec<ConnectionPlaces> = (0..5).map(|_| places.of_connection()).collect();
        let first = places.handler(&connections[0]).now_or_never().expect("a place");
        assert!(places.handler(&connections[0]).now_or_never().is_none(), "its share is one");
        let _second = places.handler(&connections[1]).now_or_never().expect("a place");
        assert!(places.handler(&connections[2]).now_or_never().is_none(), "there are two");
        let guard = |at: usize| places.guard(&connections[at]).now_or_never();
        let held: Vec<_> = (0..2).map(|at| guard(at).expect("a place").expect("room")).collect();
        let mut waiting: Vec<_> = (2..4).map(|at| Box::pin(places.guard(&connections[at]))).collect();
        assert!(waiting.iter_mut().all(|waits| waits.as_mut().now_or_never().is_none()));
        assert!(guard(4).expect("decided at once").is_none(), "two wait");
        drop(held);
        assert!(waiting.iter_mut().all(|waits| waits.as_mut().now_or_never().flatten().is_some()));
        drop(first);
        assert!(places.handler(&connections[2]).now_or_never().is_some());
        assert_eq!(places.guards_waiting.load(SeqCst), 0);
    }

    #[test]
    fn who_waits_for_clients_holds_no_place_and_needs_one_to_go_on() {
        let places = places(1, 8);
        let (ada, bob) = (places.of_connection(), places.of_connection());
        let ((answer, answered), (other, others)) = (oneshot::channel(), oneshot::channel());
        let held = places.handler(&ada).now_or_never().expect("a place");
        let asks = held.run(async { tokio::join!(while_clients_answer(answered), while_clients_answer(others)) });
        let mut asks = Box::pin(asks);
        assert!(asks.as_mut().now_or_never().is_none());
        let taken = places.handler(&bob).now_or_never().expect("the place is free");
        assert!(answer.send(1).is_ok() && asks.as_mut().now_or_never().is_none(), "it still waits for the other one");
        assert!(other.send(2).is_ok() && asks.as_mut().now_or_never().is_none(), "there is no place for it");
        drop(taken);
        assert_eq!(asks.as_mut().now_or_never().expect("it goes on"), (Ok(1), Ok(2)));
        assert!(places.handler(&bob).now_or_never().is_none(), "it has the place again");
        drop(asks);
        // One that does not wait to the end has it again too.
        held.run(async { assert!(while_clients_answer(std::future::pending::<()>()).now_or_never().is_none()) })
            .now_or_never()
            .expect("done");
        assert!(places.handler(&bob).now_or_never().is_none());
        drop(held);
        assert!(places.handler(&bob).now_or_never().is_some());
    }
}
