//! A store that fails: it answers late, out of order, twice or never, refuses, reports an unknown outcome, and loses
//! entries that it had accepted.
//!
//! Otherwise it keeps the contract of `Store`: operations take effect in the order in which they are submitted, each
//! gets one answer (a second one must be ignored), and a lost entry means a new epoch. It keeps its entries in the
//! memory store.

use crate::chances::Chances;
use crate::ledger::Ledger;
use crate::plan::StoreFaults;
use fanfare_hub::{
    ChannelName, Limits, MemoryStore, Now, Op, OpToken, Position, Range, Retain, Rng, Store, StoreAnswer,
};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

/// An answer on its way: the shard's index, the time of its arrival, and the answer (`None`: never).
pub(crate) type Due = (usize, u64, Option<(OpToken, StoreAnswer)>);

/// The state that the shards' stores share with the world around them.
#[derive(Debug)]
pub(crate) struct Stores {
    pub(crate) ledger: Ledger,
    pub(crate) faults: StoreFaults,
    /// Answers on their way: (shard, when, answer); without one, the next of those that come in order.
    pub(crate) answers: Vec<Due>,
    /// Answers overtake each other.
    pub(crate) answers_disordered: bool,
    /// This store answers late now and then, also after the faults.
    pub(crate) answers_late: bool,
    pub(crate) losses: u64,
    pub(crate) unknowns: u64,
    pub(crate) silences: u64,
    shards: Vec<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Its own chances.
    rng: Rng,
    memory: MemoryStore,
    /// The channels that have been used, and whether their loss is still to be reported.
    channels: BTreeMap<ChannelName, bool>,
    /// Answers that come in order, and the arrival of the last of them.
    queue: VecDeque<(OpToken, StoreAnswer)>,
    last_ms: u64,
}

/// One shard's store.
#[derive(Debug)]
pub(crate) struct FaultyStore {
    shard: usize,
    shared: Rc<RefCell<Stores>>,
}

impl Stores {
    pub(crate) fn new(shards: usize, limits: &Limits, faults: StoreFaults, chances: Chances) -> Rc<RefCell<Stores>> {
        let inner = |shard| {
            let mut rng = chances.of("store", shard as u64);
            Inner {
                memory: MemoryStore::new(limits, rng.next_u64()),
                rng,
                channels: BTreeMap::new(),
                queue: VecDeque::new(),
                last_ms: 0,
            }
        };
        let shards = (0..shards).map(inner).collect();
        let ledger = Ledger::default();
        let (answers_late, answers_disordered) = (faults.late > 0, faults.late > 0 && faults.disordered);
        Rc::new(RefCell::new(Stores {
            ledger,
            faults,
            answers: Vec::new(),
            answers_late,
            answers_disordered,
            losses: 0,
            unknowns: 0,
            silences: 0,
            shards,
        }))
    }

    pub(crate) fn store(shared: &Rc<RefCell<Stores>>, shard: usize) -> Box<FaultyStore> {
        Box::new(FaultyStore { shard, shared: shared.clone() })
    }

    /// The store of a shard loses everything; its channels begin new epochs.
    pub(crate) fn lose(&mut self, shard: usize, limits: &Limits) {
        self.losses += 1;
        let inner = &mut self.shards[shard];
        let seed = inner.rng.next_u64();
        inner.memory = MemoryStore::new(limits, seed);
        inner.channels.values_mut().for_each(|untold| *untold = true);
    }

    /// The oldest offset of the channel from which a subscriber could continue without a loss, and its newest offset,
    /// as the store has them now.
    pub(crate) fn reach(&mut self, now: Now, channel: &ChannelName, retain: Retain) -> Option<(u64, Position)> {
        let inner = self.shards.iter_mut().find(|inner| inner.channels.contains_key(channel))?;
        let mut read = |range| {
            let (channel, scan_max) = (channel.clone(), usize::MAX);
            let op = Op::Read { channel, range, reader: None, count_max: 1, bytes_max: 1, scan_max, retain };
            match inner.memory.submit(now, OpToken(0), op) {
                Some(StoreAnswer::Page(page)) => Some(page),
                _ => None,
            }
        };
        let top = read(Range::NEWEST)?.top;
        let oldest = read(Range::After(Position { epoch: top.epoch, offset: 0 }))?;
        Some((oldest.publications.first().map_or(top.offset, |p| p.prev), top))
    }

    /// The next of the answers that come in order.
    pub(crate) fn next_answer(&mut self, shard: usize) -> Option<(OpToken, StoreAnswer)> {
        self.shards[shard].queue.pop_front()
    }

    pub(crate) fn bytes_used(&self, shard: usize) -> usize {
        self.shards[shard].memory.bytes_used()
    }

    /// True if a key was forgotten before its time: its publication may be stored twice.
    pub(crate) fn has_shed_keys(&self) -> bool {
        self.shards.iter().any(|shard| shard.memory.keys_shed() > 0)
    }

    fn chance(&mut self, shard: usize, per_mille: u64) -> bool {
        per_mille > 0 && self.shards[shard].rng.below(1000) < per_mille
    }

    fn execute(&mut self, shard: usize, now: Now, token: OpToken, op: Op) -> StoreAnswer {
        let channel = channel_of(&op).clone();
        let answer = self.shards[shard].memory.submit(now, token, op).unwrap_or(StoreAnswer::Unavailable);
        if let StoreAnswer::Appended { epoch, publication } = &answer {
            self.ledger.accepted(now.mono_ms, &channel, *epoch, publication.clone());
        }
        answer
    }

    fn decide(&mut self, shard: usize, now: Now, token: OpToken, op: Op) -> StoreAnswer {
        let channel = channel_of(&op).clone();
        let untold = self.shards[shard].channels.entry(channel.clone()).or_insert(false);
        if std::mem::take(untold) && !matches!(op, Op::Detach { .. } | Op::Attach { .. }) {
            // Reported by a message, or by the epoch in the answer: a store may do either.
            if self.shards[shard].rng.below(2) == 0 {
                let attach = self.execute(shard, now, token, Op::Attach { channel });
                return if let StoreAnswer::Attached(top) = attach { StoreAnswer::EpochLost(top) } else { attach };
            }
        }
        let StoreFaults { unavailable, unknown, .. } = self.faults;
        if self.chance(shard, unavailable) {
            return StoreAnswer::Unavailable;
        }
        if self.chance(shard, unknown) {
            self.unknowns += 1;
            if self.shards[shard].rng.below(2) == 0 {
                self.execute(shard, now, token, op);
            }
            return StoreAnswer::Unknown;
        }
        self.execute(shard, now, token, op)
    }
}

impl Store for FaultyStore {
    fn submit(&mut self, now: Now, token: OpToken, op: Op) -> Option<StoreAnswer> {
        let shared = &mut *self.shared.borrow_mut();
        let silent = shared.faults.silent;
        if shared.chance(self.shard, silent) {
            shared.silences += 1;
            if shared.shards[self.shard].rng.below(2) == 0 {
                shared.execute(self.shard, now, token, op);
            }
            return None;
        }
        let answer = shared.decide(self.shard, now, token, op);
        let StoreFaults { late, twice, disordered, .. } = shared.faults;
        // An answer that must keep its order waits for a late one before it, and no longer.
        let waits = !shared.shards[self.shard].queue.is_empty();
        let is_late = shared.chance(self.shard, late);
        if !waits && !is_late {
            return Some(answer);
        }
        let far = if shared.shards[self.shard].rng.below(10) == 0 { 2_000 } else { 60 };
        let mut at_ms = now.mono_ms + if is_late { 1 + shared.shards[self.shard].rng.below(far) } else { 0 };
        if shared.chance(self.shard, twice) {
            let once_more = at_ms + 2_000 + shared.shards[self.shard].rng.below(50);
            shared.answers.push((self.shard, once_more, Some((token, answer.clone()))));
        }
        if disordered {
            shared.answers.push((self.shard, at_ms, Some((token, answer))));
        } else {
            let inner = &mut shared.shards[self.shard];
            at_ms = at_ms.max(inner.last_ms);
            inner.last_ms = at_ms;
            inner.queue.push_back((token, answer));
            shared.answers.push((self.shard, at_ms, None));
        }
        None
    }

    fn tidy(&mut self, now: Now) {
        self.shared.borrow_mut().shards[self.shard].memory.tidy(now);
    }

    fn bytes_used(&self) -> usize {
        self.shared.borrow().bytes_used(self.shard)
    }
}

fn channel_of(op: &Op) -> &ChannelName {
    match op {
        Op::Append { entry, .. } => &entry.publish.channel,
        Op::Attach { channel } | Op::Detach { channel } | Op::Read { channel, .. } | Op::Purge { channel } => channel,
    }
}
