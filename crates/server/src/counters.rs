//! The counters of one shard: plain numbers, histograms, and the store's times.
//!
//! A shard's counters belong to its thread; nothing here is shared, locked or looked up by a name on the way of a
//! delivery. Publications are counted once, deliveries by the length of their list, bytes when the socket has taken
//! them. Only events outside of the shards (handlers, requests) are counted in atomics.

use fanfare_hub::{ChannelName, MemoryStore, Now, Op, OpToken, Push, Stats, Store, StoreAnswer, WireId};
use fanfare_wire::websocket::deflate::Totals;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Upper bounds of a histogram's buckets, in ns: from a call of the memory store to a handler at its deadline.
pub(crate) const BOUNDS_NS: [u64; 18] = [
    1_000,
    5_000,
    25_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
];
const BUCKETS: usize = BOUNDS_NS.len() + 1;

/// A histogram of durations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Histogram {
    /// By [`BOUNDS_NS`]; the last one is for longer durations. Each duration is counted once.
    pub(crate) buckets: [u64; BUCKETS],
    pub(crate) sum_ns: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { buckets: [0; BUCKETS], sum_ns: 0 }
    }
}

impl Histogram {
    pub(crate) fn observe(&mut self, took: Duration) {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(ns)] += 1;
        self.sum_ns = self.sum_ns.saturating_add(ns);
    }

    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    pub(crate) fn add(&mut self, other: &Histogram) {
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(mine, more)| *mine += more);
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
    }
}

fn bucket(ns: u64) -> usize {
    BOUNDS_NS.partition_point(|&bound| bound < ns)
}

/// A histogram that several threads add to.
#[derive(Debug, Default)]
pub(crate) struct SharedHistogram {
    buckets: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
}

impl SharedHistogram {
    pub(crate) fn observe(&self, took: Duration) {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(ns)].fetch_add(1, Relaxed);
        self.sum_ns.fetch_add(ns, Relaxed);
    }

    pub(crate) fn read(&self) -> Histogram {
        let mut read = Histogram { sum_ns: self.sum_ns.load(Relaxed), ..Histogram::default() };
        read.buckets.iter_mut().zip(&self.buckets).for_each(|(to, from)| *to = from.load(Relaxed));
        read
    }
}

/// The traffic of the connections of one wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct WireCounts {
    pub(crate) open: u64,
    pub(crate) opened: u64,
    pub(crate) messages_in: u64,
    pub(crate) bytes_in: u64,
    /// Messages given to connections: a publication counts once for each receiver.
    pub(crate) messages_out: u64,
    /// Bytes that sockets have taken.
    pub(crate) bytes_out: u64,
    /// Publications given to connections.
    pub(crate) deliveries: u64,
    /// Connections that were notified of a loss.
    pub(crate) gaps: u64,
    /// Messages that were compressed, once for all their receivers.
    pub(crate) deflated: Totals,
    /// Messages of clients that were decompressed.
    pub(crate) inflated: Totals,
}

/// How many connections ended for one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EndedCount {
    /// A fixed word, so there are few of them.
    pub(crate) reason: &'static str,
    pub(crate) count: u64,
}

/// How many messages of one wire were ignored for one cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IgnoredCount {
    pub(crate) wire: WireId,
    /// A fixed word of the protocol.
    pub(crate) cause: &'static str,
    pub(crate) count: u64,
}

/// The open HTTP connections of a shard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct HttpOpen {
    /// They have sent no head yet.
    pub(crate) unknown: usize,
    pub(crate) http1: usize,
    pub(crate) http2: usize,
}

/// A publication that is being written for the first time on this shard.
#[derive(Debug, Clone, Copy)]
struct Delivering {
    /// When its input arrived, on this shard or on the shard that sent it.
    since: Instant,
    /// When it was appended, in ms since 1970.
    ts_ms: u64,
}

/// The counters of one shard's shell.
#[derive(Debug)]
pub(crate) struct ShardCounters {
    /// By [`WireId`].
    pub(crate) wires: Vec<WireCounts>,
    /// Ends of connections, by their reason.
    pub(crate) ended: Vec<EndedCount>,
    /// Messages that a protocol could not take and does not answer.
    pub(crate) ignored: Vec<IgnoredCount>,
    /// Connections that were accepted, in any protocol.
    pub(crate) accepted: u64,
    /// Bytes that wait in outboxes.
    pub(crate) outbox_bytes: usize,
    pub(crate) delivered: Histogram,
    /// When the current input arrived.
    stamp: Cell<Instant>,
    delivering: Vec<Delivering>,
    /// Turns of the flusher since the first of them began.
    turns: u32,
}

/// After so many turns publications count as delivered although other writes wait. So a shard that always has writes
/// is measured too.
const TURNS_MAX: u32 = 64;
/// Beyond this many at once publications are not measured.
const DELIVERING_MAX: usize = 4096;

impl ShardCounters {
    pub(crate) fn new(wires: usize) -> Self {
        ShardCounters {
            wires: vec![WireCounts::default(); wires],
            ended: Vec::new(),
            accepted: 0,
            ignored: Vec::new(),
            outbox_bytes: 0,
            delivered: Histogram::default(),
            stamp: Cell::new(Instant::now()),
            delivering: Vec::new(),
            turns: 0,
        }
    }

    pub(crate) fn wire(&mut self, wire: WireId) -> &mut WireCounts {
        &mut self.wires[usize::from(wire.0)]
    }

    /// An open connection goes on over another wire, on which so many bytes have come already.
    pub(crate) fn rewired(&mut self, before: WireId, now: WireId, bytes_in: usize) {
        self.wire(before).open -= 1;
        let counts = self.wire(now);
        counts.open += 1;
        counts.bytes_in += bytes_in as u64;
    }

    /// A push is given to so many connections.
    pub(crate) fn pushed(&mut self, wire: WireId, push: &Push, receivers: usize) {
        let counts = &mut self.wires[usize::from(wire.0)];
        counts.messages_out += receivers as u64;
        match push {
            Push::Message { .. } => counts.deliveries += receivers as u64,
            Push::Gap { .. } => counts.gaps += receivers as u64,
            _ => {}
        }
    }

    /// A message of `plain` bytes is carried in so many.
    pub(crate) fn deflated(&mut self, wire: WireId, plain: usize, compressed: usize) {
        let totals = &mut self.wires[usize::from(wire.0)].deflated;
        totals.plain += plain as u64;
        totals.compressed += compressed as u64;
    }

    /// Messages were decompressed.
    pub(crate) fn inflated(&mut self, wire: WireId, more: Totals) {
        let totals = &mut self.wires[usize::from(wire.0)].inflated;
        totals.plain += more.plain;
        totals.compressed += more.compressed;
    }

    pub(crate) fn ended(&mut self, why: &'static str) {
        match self.ended.iter_mut().find(|ended| ended.reason == why) {
            Some(ended) => ended.count += 1,
            None => self.ended.push(EndedCount { reason: why, count: 1 }),
        }
    }

    pub(crate) fn ignored(&mut self, wire: WireId, cause: &'static str) {
        match self.ignored.iter_mut().find(|ignored| ignored.wire == wire && ignored.cause == cause) {
            Some(ignored) => ignored.count += 1,
            None => self.ignored.push(IgnoredCount { wire, cause, count: 1 }),
        }
    }

    /// Sets the time at which the current input arrived.
    pub(crate) fn stamp(&self, at: Instant) {
        self.stamp.set(at);
    }

    pub(crate) fn stamped(&self) -> Instant {
        self.stamp.get()
    }

    /// The fan-out begins of publications that were appended at these times.
    pub(crate) fn begun(&mut self, begun_ms: &[u64]) {
        let room = DELIVERING_MAX.saturating_sub(self.delivering.len());
        let since = self.stamp.get();
        self.delivering.extend(begun_ms.iter().take(room).map(|&ts_ms| Delivering { since, ts_ms }));
    }

    /// True if a publication waits for [`flushed`](Self::flushed).
    pub(crate) fn is_delivering(&self) -> bool {
        !self.delivering.is_empty()
    }

    /// The flusher has had a turn; `all` if no write waits any more.
    pub(crate) fn flushed(&mut self, all: bool, now: Now, at: Instant) {
        self.turns += 1;
        if !all && self.turns < TURNS_MAX {
            return;
        }
        self.turns = 0;
        for Delivering { since, ts_ms } in self.delivering.drain(..) {
            // Both are lower bounds. The instant is exact, but leaves out the wait behind another fan-out and later
            // fetches; the append's time includes them, in whole milliseconds.
            let seen = Duration::from_millis(now.wall_ms.saturating_sub(ts_ms).saturating_sub(1));
            self.delivered.observe(at.saturating_duration_since(since).max(seen));
        }
    }
}

/// The answer of a shard to a request for its figures.
#[derive(Debug, Clone)]
pub(crate) struct Figures {
    /// How often the shard had been asked before: the answer with the greater number is newer.
    pub(crate) number: u64,
    pub(crate) hub: Stats,
    pub(crate) open: usize,
    pub(crate) accepted: u64,
    pub(crate) http_connections: HttpOpen,
    pub(crate) wires: Vec<WireCounts>,
    pub(crate) ended: Vec<EndedCount>,
    pub(crate) ignored: Vec<IgnoredCount>,
    pub(crate) outbox_bytes: usize,
    pub(crate) delivered: Histogram,
    pub(crate) store: StoreTimes,
}

/// The words for the store's operations, in the order of [`StoreTimes`].
pub(crate) const STORE_OPS: [&str; 5] = ["attach", "detach", "append", "read", "purge"];

/// The times of the store's answers, for one operation in [`STORE_SAMPLE`].
pub(crate) type StoreTimes = [Histogram; STORE_OPS.len()];

/// One operation in so many is measured: two reads of the clock cost more than an operation of the memory store.
pub(crate) const STORE_SAMPLE: u32 = 16;

/// The memory store, with some of its answers timed. Later answers of an outside store are not measured here.
pub(crate) struct TimedStore {
    store: MemoryStore,
    times: Rc<RefCell<StoreTimes>>,
    next: u32,
}

impl TimedStore {
    pub(crate) fn new(store: MemoryStore) -> (Self, Rc<RefCell<StoreTimes>>) {
        let times = Rc::<RefCell<StoreTimes>>::default();
        (TimedStore { store, times: times.clone(), next: 0 }, times)
    }
}

impl Store for TimedStore {
    fn knows(&self, channel: &ChannelName) -> bool {
        self.store.knows(channel)
    }

    fn submit(&mut self, now: Now, token: OpToken, op: Op) -> Option<StoreAnswer> {
        self.next = self.next.wrapping_add(1);
        if self.next % STORE_SAMPLE != 1 {
            return self.store.submit(now, token, op);
        }
        let place = match op {
            Op::Attach { .. } => 0,
            Op::Detach { .. } => 1,
            Op::Append { .. } => 2,
            Op::Read { .. } => 3,
            Op::Purge { .. } => 4,
        };
        let begin = Instant::now();
        let answer = self.store.submit(now, token, op);
        self.times.borrow_mut()[place].observe(begin.elapsed());
        answer
    }

    fn tidy(&mut self, now: Now) {
        self.store.tidy(now);
    }

    fn bytes_used(&self) -> usize {
        self.store.bytes_used()
    }

    fn keys_shed(&self) -> u64 {
        self.store.keys_shed()
    }

    fn limits_reached(&self) -> Vec<(&'static str, u64)> {
        self.store.limits_reached()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_bound_is_within_it_and_what_is_beyond_all_is_kept() {
        let mut histogram = Histogram::default();
        for ns in [0, 1_000, 1_001, 5_000_000_000, 5_000_000_001, u64::MAX / 2] {
            histogram.observe(Duration::from_nanos(ns));
        }
        assert_eq!(histogram.buckets[..2], [2, 1]);
        assert_eq!(histogram.buckets[BUCKETS - 2..], [1, 2]);
        assert_eq!(histogram.count(), 6);
    }

    #[test]
    fn a_delivery_is_measured_when_all_is_written_by_whichever_clock_saw_more() {
        let mut counters = ShardCounters::new(1);
        let born = Instant::now();
        counters.stamp(born);
        counters.begun(&[1_000, 800]); // the second one waited for 200 ms, behind something else
        let (now, at) = (Now { mono_ms: 0, wall_ms: 1_001 }, born + Duration::from_micros(300));
        counters.flushed(false, now, at);
        assert_eq!(counters.delivered.count(), 0, "more waits to be written");
        counters.flushed(true, now, at);
        assert_eq!(counters.delivered.sum_ns, 300_000 + 200_000_000);
        assert!(!counters.is_delivering());

        counters.begun(&[2_000]); // the wall clock jumped back
        for _ in 0..TURNS_MAX {
            counters.flushed(false, now, at);
        }
        assert_eq!(counters.delivered.count(), 3, "a shard that is never done is measured too");

        counters.begun(&vec![1_000; 2 * DELIVERING_MAX]);
        counters.flushed(true, now, at);
        assert_eq!(counters.delivered.count(), 3 + DELIVERING_MAX as u64, "what is held has a bound");
    }
}
