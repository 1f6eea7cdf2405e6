//! Events for handlers that need no answer: sessions that have ended, and what happens in channels.
//!
//! In: calls. Out: each call once, those about one channel one after the other and in the order in which they came.
//! A handler that asks for its event again (`Again`) gets it again after a pause; meanwhile later events of that
//! channel wait, and no others. Few handlers run at once. The others wait: channels take turns, one event each. The
//! memory of all events is bounded, no channel takes more than a part of it, and no event waits longer than its time.
//! Events without room are dropped, counted and logged: no client and no publisher waits for a handler.

use super::extract::{Call, Subject};
use bytes::Bytes;
use fanfare_hub::{Caller, ChannelName};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Handlers of one queue that run at once. Each has its deadline, as any handler.
pub(super) const AT_ONCE: usize = 256;
/// One channel has at most this part of the memory, so that a handler that is slow for it leaves room for the others.
const CHANNEL_PART: usize = 8;
/// The memory of one besides its texts.
const OVERHEAD: usize = 256;
/// The pause before an event comes again when the server stops.
const PAUSE_AT_THE_END: Duration = Duration::from_millis(100);

/// How much may wait, and how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewsBounds {
    pub(crate) bytes_max: usize,
    pub(crate) age_max: Duration,
}

impl NewsBounds {
    /// Those of the ends of sessions: events of more than 100,000 sessions.
    pub(crate) const ENDS: NewsBounds = NewsBounds { bytes_max: 32 << 20, age_max: Duration::from_secs(60) };
}

/// One queue for all shards.
pub(crate) struct News {
    queue: Mutex<Queue>,
    /// Nothing waits and no handler runs.
    is_empty: Condvar,
    /// The server stops: no event pauses for long.
    stopping: Notify,
    /// So many found no room, or waited too long.
    dropped: Arc<AtomicU64>,
}

struct Queue {
    bounds: NewsBounds,
    running: usize,
    /// Channels with an event that waits, runs or pauses.
    channels: HashMap<ChannelName, Waiting>,
    /// What may run next.
    ready: VecDeque<Ready>,
    /// Of all events, until their handlers are done.
    bytes: usize,
    count: usize,
    is_stopping: bool,
}

/// The events of a channel behind the one that runs or pauses.
#[derive(Default)]
struct Waiting {
    events: VecDeque<Event>,
    bytes: usize,
}

enum Ready {
    Event(Event),
    /// The first one of this channel.
    Channel(ChannelName),
}

/// An event, and what is known of its way.
pub(super) struct Event {
    pub(super) call: Arc<Call>,
    /// How often its handler has asked for it again.
    pub(super) tries: u32,
    cost: usize,
    since: Instant,
}

/// The result of `put`.
pub(super) enum Place {
    /// The caller runs its handler now, and then takes the next one (`done` or `again`).
    Now(Event),
    Waits,
    Dropped,
}

/// What a task does next.
#[derive(Default)]
pub(super) struct Next {
    /// Runs this one; without one it ends.
    pub(super) event: Option<Event>,
    /// These have waited too long.
    pub(super) late: Vec<Event>,
}

impl News {
    pub(crate) fn new(bounds: NewsBounds, dropped: Arc<AtomicU64>) -> Self {
        let queue = Mutex::new(Queue {
            bounds,
            running: 0,
            channels: HashMap::new(),
            ready: VecDeque::new(),
            bytes: 0,
            count: 0,
            is_stopping: false,
        });
        News { queue, is_empty: Condvar::new(), stopping: Notify::new(), dropped }
    }

    /// Later events have these bounds.
    pub(crate) fn reload(&self, bounds: NewsBounds) {
        self.lock().bounds = bounds;
    }

    pub(super) fn put(&self, now: Instant, call: Call) -> Place {
        let cost = cost(&call);
        let mut queue = self.lock();
        let NewsBounds { bytes_max, .. } = queue.bounds;
        let channel = channel_of(&call).cloned();
        let before = channel.as_ref().and_then(|channel| queue.channels.get(channel));
        let has_too_many = before.is_some_and(|before| {
            !before.events.is_empty() && before.bytes + cost > bytes_max / CHANNEL_PART // one may be longer
        });
        if queue.bytes + cost > bytes_max || has_too_many {
            self.dropped.fetch_add(1, Relaxed);
            return Place::Dropped;
        }
        queue.bytes += cost;
        queue.count += 1;
        let event = Event { call: Arc::new(call), tries: 0, cost, since: now };
        if let Some(channel) = channel {
            if let Some(waiting) = queue.channels.get_mut(&channel) {
                waiting.bytes += cost;
                waiting.events.push_back(event);
                return Place::Waits;
            }
            queue.channels.insert(channel, Waiting::default());
        }
        if queue.running < AT_ONCE {
            queue.running += 1;
            return Place::Now(event);
        }
        queue.wait(event);
        Place::Waits
    }

    /// A handler is done with its event.
    pub(super) fn done(&self, now: Instant, event: &Event) -> Next {
        let mut queue = self.lock();
        queue.over(event);
        self.next(&mut queue, now)
    }

    /// A handler asks for its event again: it pauses, and its place is free. `None`: the event is too old.
    pub(super) fn again(&self, now: Instant, event: Event) -> (Option<Event>, Next) {
        let mut queue = self.lock();
        if now.saturating_duration_since(event.since) > queue.bounds.age_max {
            queue.over(&event);
            self.dropped.fetch_add(1, Relaxed);
            let mut next = self.next(&mut queue, now);
            next.late.push(event);
            return (None, next);
        }
        (Some(event), self.next(&mut queue, now))
    }

    /// Comes after the pause, or when the server stops.
    pub(super) async fn pause(&self, pause: Duration) {
        let stopping = self.stopping.notified();
        let pause = if self.lock().is_stopping { pause.min(PAUSE_AT_THE_END) } else { pause };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stopping => {}
        }
    }

    /// The pause is over: it may run now, if there is a place, and as soon as there is one otherwise.
    pub(super) fn resume(&self, event: Event) -> Option<Event> {
        let mut queue = self.lock();
        if queue.running < AT_ONCE {
            queue.running += 1;
            return Some(event);
        }
        queue.wait(event);
        None
    }

    /// The next one for a task whose handler is done.
    fn next(&self, queue: &mut Queue, now: Instant) -> Next {
        let mut late = Vec::new();
        while let Some(ready) = queue.ready.pop_front() {
            let event = match ready {
                Ready::Event(event) => event,
                Ready::Channel(channel) => match queue.first_of(&channel) {
                    Some(event) => event,
                    None => continue,
                },
            };
            if now.saturating_duration_since(event.since) <= queue.bounds.age_max {
                return Next { event: Some(event), late };
            }
            self.dropped.fetch_add(1, Relaxed);
            queue.over(&event);
            late.push(event);
        }
        queue.ready = VecDeque::new(); // gives the memory of a storm back
        queue.running -= 1;
        if queue.count == 0 {
            queue.channels = HashMap::new();
            self.is_empty.notify_all();
        }
        Next { event: None, late }
    }

    /// The server stops: waits until every event has been handled, or the time is over. Returns how many are left.
    pub(crate) fn flush(&self, time: Duration) -> usize {
        let end = Instant::now() + time;
        let mut queue = self.lock();
        queue.is_stopping = true;
        self.stopping.notify_waiters();
        loop {
            let now = Instant::now();
            if queue.count == 0 || now >= end {
                return queue.count;
            }
            queue = self.is_empty.wait_timeout(queue, end - now).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner) // nothing in here panics between two changes
    }
}

impl Queue {
    /// All places are taken.
    fn wait(&mut self, event: Event) {
        match channel_of(&event.call).cloned() {
            None => self.ready.push_back(Ready::Event(event)),
            Some(channel) => {
                let waiting = self.channels.entry(channel.clone()).or_default();
                waiting.bytes += event.cost;
                waiting.events.push_front(event); // it came before those that wait
                self.ready.push_back(Ready::Channel(channel));
            }
        }
    }

    fn first_of(&mut self, channel: &ChannelName) -> Option<Event> {
        let waiting = self.channels.get_mut(channel)?;
        let event = waiting.events.pop_front()?;
        waiting.bytes -= event.cost;
        Some(event)
    }

    /// An event will not run any more: its channel may have its next turn.
    fn over(&mut self, event: &Event) {
        self.bytes -= event.cost;
        self.count -= 1;
        let Some(channel) = channel_of(&event.call) else { return };
        match self.channels.get(channel) {
            Some(waiting) if waiting.events.is_empty() => drop(self.channels.remove(channel)),
            Some(_) => self.ready.push_back(Ready::Channel(channel.clone())),
            None => {}
        }
    }
}

/// The channel in whose order an event stands.
fn channel_of(call: &Call) -> Option<&ChannelName> {
    match &call.subject {
        Subject::Notice { channel, .. } => Some(channel),
        _ => None,
    }
}

fn cost(call: &Call) -> usize {
    let request = call.request().map_or(0, |request| request.cost());
    let texts = match &call.subject {
        Subject::Notice { channel, event, .. } => channel.len() + event.cost(),
        _ => {
            let Caller { user, info, claims, .. } = &call.caller;
            user.as_ref().map_or(0, |user| user.0.len()) + info.iter().chain(claims).map(Bytes::len).sum::<usize>()
        }
    };
    OVERHEAD + request + texts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::embed::handle::Handle;
    use fanfare_hub::{ChannelEvent, ClientId, Ended, PresenceEntry};

    fn call(info_bytes: usize, subject: Subject) -> Call {
        let info = Some(vec![b'1'; info_bytes].into());
        Call {
            caller: Caller { client: None, user: None, info, claims: None },
            subject,
            request: None,
            handle: Handle::new(Vec::new(), 0, 1),
            clock: Clock::system(),
            socket: None,
        }
    }

    fn end(info_bytes: usize) -> Call {
        call(info_bytes, Subject::Ended(Ended::Lost))
    }

    /// Somebody has entered this channel, with so much data.
    fn join(channel: &str, bytes: usize, number: u64) -> Call {
        let data = Bytes::from(vec![b'1'; bytes]);
        let entry = PresenceEntry { client: ClientId(number), user: None, info: None, data, person: None };
        let event = ChannelEvent::Joined(Arc::new(entry));
        call(0, Subject::Notice { channel: ChannelName::new(channel).unwrap(), ts_ms: 0, event })
    }

    fn named(event: &Event) -> (String, u64) {
        match &event.call.subject {
            Subject::Notice { channel, event: ChannelEvent::Joined(entry), .. } => {
                (channel.to_string(), entry.client.0)
            }
            other => panic!("{other:?}"),
        }
    }

    fn news(bounds: NewsBounds) -> News {
        News::new(bounds, Arc::default())
    }

    fn now(place: Place) -> Event {
        match place {
            Place::Now(event) => event,
            Place::Waits => panic!("it waits"),
            Place::Dropped => panic!("it is dropped"),
        }
    }

    #[test]
    fn few_are_told_at_once_and_what_waits_is_bounded_in_bytes_and_time() {
        let (queue, begin) = (news(NewsBounds::ENDS), Instant::now());
        let mut running = Vec::new();
        while let Place::Now(event) = queue.put(begin, end(10)) {
            running.push(event);
        }
        assert_eq!(running.len(), AT_ONCE);
        let mut waiting = 1; // the one that found all running
        while let Place::Waits = queue.put(begin, end(1 << 20)) {
            waiting += 1;
        }
        assert_eq!(waiting, 32, "a mebibyte each, but for the first");
        assert!(matches!(queue.put(begin, end(1 << 20)), Place::Dropped));
        let next = queue.done(begin + NewsBounds::ENDS.age_max, &running.pop().unwrap());
        assert!(next.event.is_some() && next.late.is_empty());
        running.extend(next.event);
        let late = begin + NewsBounds::ENDS.age_max + Duration::from_millis(1);
        let next = queue.done(late, &running.pop().unwrap());
        assert!(next.event.is_none());
        assert_eq!(next.late.len(), waiting - 1, "they have waited too long");
        running.push(now(queue.put(begin, end(10)))); // its place is free
        for event in running {
            queue.done(begin, &event);
        }
        assert_eq!(queue.lock().bytes, 0);
        assert_eq!(queue.flush(Duration::ZERO), 0);
        assert_eq!(queue.dropped.load(Relaxed), 2 + 31, "each is counted: two found no room");
    }

    #[test]
    fn events_of_a_channel_keep_their_order_and_channels_take_turns() {
        let (queue, at) = (news(NewsBounds::ENDS), Instant::now());
        let first = now(queue.put(at, join("a", 1, 1)));
        for number in 2..=3 {
            assert!(matches!(queue.put(at, join("a", 1, number)), Place::Waits), "behind the one that runs");
        }
        let other = now(queue.put(at, join("b", 1, 1)));
        let (paused, next) = queue.again(at, first);
        assert!(next.event.is_none(), "the later ones wait while it pauses");
        let again = queue.resume(paused.unwrap()).unwrap();
        assert_eq!(named(&again), ("a".to_owned(), 1));
        // All places are taken by ends of sessions: what is ready waits for one.
        let mut ends = Vec::new();
        while let Place::Now(event) = queue.put(at, end(1)) {
            ends.push(event);
        }
        assert!(matches!(queue.put(at, join("b", 1, 2)), Place::Waits));
        let next = queue.done(at, &again).event.unwrap();
        assert!(matches!(next.call.subject, Subject::Ended(_)), "it was ready first");
        let next = queue.done(at, &next).event.unwrap();
        assert_eq!(named(&next), ("a".to_owned(), 2));
        let mut order = Vec::new();
        let mut running = vec![next, other];
        while let Some(event) = running.pop() {
            order.push(named(&event));
            running.extend(queue.done(at, &event).event);
        }
        let expected = [("b", 1), ("b", 2), ("a", 2), ("a", 3)].map(|(channel, number)| (channel.to_owned(), number));
        assert_eq!(order, expected);
        for event in &ends {
            assert!(queue.done(at, event).event.is_none());
        }
        assert_eq!(queue.lock().count, 0);
        assert!(queue.lock().channels.is_empty());
    }

    #[test]
    fn a_channel_has_a_part_of_the_memory() {
        let bounds = NewsBounds { bytes_max: 80_000, age_max: Duration::from_secs(1) };
        let (queue, at) = (news(bounds), Instant::now());
        let first = now(queue.put(at, join("a", 1_000, 1)));
        let large = now(queue.put(at, join("large", 20_000, 1)));
        assert!(matches!(queue.put(at, join("large", 20_000, 2)), Place::Waits), "one may be longer");
        assert!(matches!(queue.put(at, join("large", 1, 3)), Place::Dropped));
        assert!(queue.done(at, &large).event.is_some_and(|large| queue.done(at, &large).event.is_none()));
        let mut waiting = 0;
        while let Place::Waits = queue.put(at, join("a", 1_000, 2)) {
            waiting += 1;
        }
        assert_eq!(waiting, 7, "an eighth of the memory");
        let other = now(queue.put(at, join("b", 1_000, 1)));
        queue.done(at, &other);
        let (again, next) = queue.again(at + Duration::from_secs(2), first);
        assert!(again.is_none(), "it is too old");
        assert_eq!((next.late.len(), next.event.is_none()), (8, true));
        assert_eq!((queue.lock().bytes, queue.dropped.load(Relaxed)), (0, 1 + 1 + 8));
    }
}
