//! A store that fails: it answers late, out of order, twice or never, refuses, reports an unknown outcome, and loses
//! entries that it had accepted.
//!
//! Otherwise it keeps the contract of `Store`: operations take effect in the order in which they are submitted, each
//! gets one answer (a second one must be ignored), and a lost entry means a new epoch. It keeps its entries in the
//! memory store.

use crate::chances::Chances;
use crate::holes;
use crate::keys::Keys;
use crate::ledger::{Kept, Ledger};
use crate::model::cost_max;
use crate::plan::StoreFaults;
use fanfare_hub::{
    ChannelName, Epoch, Limits, MemoryStore, Now, Op, OpToken, Position, Publication, Retain, Rng, Store, StoreAnswer,
};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

/// More than the store takes for what it knows of a channel that nobody uses.
const CHANNEL: usize = 1_200;

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
    /// Operations that took effect late, because the store was stuck.
    pub(crate) stuck: u64,
    history_bytes_max: usize,
    has_holes: bool,
    /// The first fault.
    broken: Option<String>,
    shards: Vec<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Its own chances.
    rng: Rng,
    keys: Keys,
    memory: MemoryStore,
    channels: BTreeMap<ChannelName, Known>,
    /// The latest wall time at which it was used: a clock that was set back brings nothing back.
    wall_max_ms: u64,
    /// Answers that come in order, and when the last of them will be there.
    queue: VecDeque<(OpToken, StoreAnswer)>,
    last_ms: u64,
    /// When it is stuck, and until when: nothing that was submitted since then has taken effect.
    stuck_rng: Rng,
    stuck_until_ms: u64,
    submitted: VecDeque<(OpToken, Op)>,
}

/// A channel that has been used.
#[derive(Debug, Default)]
struct Known {
    /// Its loss is still to be told.
    untold: bool,
    /// Its newest position, by the answers.
    top: Option<Position>,
    /// The newest position when its history was removed.
    purged: Option<Position>,
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
                keys: Keys::new(limits),
                channels: BTreeMap::new(),
                queue: VecDeque::new(),
                last_ms: 0,
                wall_max_ms: 0,
                stuck_rng: chances.of("stuck store", shard as u64),
                stuck_until_ms: 0,
                submitted: VecDeque::new(),
            }
        };
        let shards = (0..shards).map(inner).collect();
        let ledger = Ledger::default();
        let answers_late = faults.late > 0 || faults.stuck > 0;
        let answers_disordered = faults.late + faults.stuck > 0 && faults.disordered;
        Rc::new(RefCell::new(Stores {
            ledger,
            faults,
            history_bytes_max: limits.history_bytes_max,
            has_holes: faults.holes,
            broken: None,
            answers: Vec::new(),
            answers_late,
            answers_disordered,
            losses: 0,
            unknowns: 0,
            silences: 0,
            stuck: 0,
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
        inner.keys.lost();
        inner.channels.values_mut().for_each(|known| *known = Known { untold: true, ..Known::default() });
    }

    /// The process of a shard has gone: what was on its way to it arrives nowhere.
    pub(crate) fn asker_gone(&mut self, shard: usize) {
        let inner = &mut self.shards[shard];
        inner.queue.clear();
        inner.submitted.clear();
        inner.last_ms = 0;
    }

    /// The channel's newest position, by what the store has answered. `None`: it has lost it, and has not been asked
    /// since.
    pub(crate) fn top(&self, channel: &ChannelName) -> Option<Position> {
        self.shards.iter().find_map(|inner| inner.channels.get(channel)).and_then(|known| known.top)
    }

    /// From where on a channel's history must be there, and its newest position. It follows from the rule and what was
    /// accepted; nobody asks the store.
    pub(crate) fn kept(&self, now: Now, channel: &ChannelName, retain: Retain) -> Option<(u64, Position)> {
        let inner = self.shards.iter().find(|inner| inner.channels.contains_key(channel))?;
        let known = &inner.channels[channel];
        let top = known.top?;
        let mut floor = known.purged.filter(|purged| purged.epoch == top.epoch).map_or(0, |purged| purged.offset);
        let mut room = retain.bytes;
        let (mut count, shed_up_to) = (0, self.shed_up_to(inner));
        let wall_ms = now.wall_ms.max(inner.wall_max_ms);
        for kept in self.ledger.between(channel, top.epoch, floor, u64::MAX).iter().rev() {
            let cost = cost_max(&kept.publication);
            count += 1;
            let is_old = kept.publication.ts_ms.saturating_add(retain.ttl_ms) <= wall_ms;
            if count > retain.count || is_old || cost > room || kept.order <= shed_up_to {
                floor = kept.publication.offset;
                break;
            }
            room -= cost;
        }
        Some((floor, top))
    }

    /// The shard's history may have had no room for entries up to this order: the oldest go first.
    fn shed_up_to(&self, inner: &Inner) -> u64 {
        let tops = inner.channels.iter().filter_map(|(channel, known)| Some((channel, known.top?)));
        let all = tops.flat_map(|(channel, top)| self.ledger.between(channel, top.epoch, 0, u64::MAX));
        let mut costs: Vec<(u64, usize)> = all.map(|kept| (kept.order, cost_max(&kept.publication))).collect();
        costs.sort_unstable();
        let mut room = self.history_bytes_max.saturating_sub(CHANNEL * inner.channels.len());
        for (order, cost) in costs.into_iter().rev() {
            if cost > room {
                return order;
            }
            room -= cost;
        }
        0
    }

    /// The next of the answers that come in order, if the time of one has come.
    pub(crate) fn next_answer(&mut self, now: Now, shard: usize) -> Option<(OpToken, StoreAnswer)> {
        self.goes_on(now, shard);
        self.shards[shard].queue.pop_front()
    }

    /// A store that was stuck does all that was submitted meanwhile, in its order. Its answers may overtake each other.
    fn goes_on(&mut self, now: Now, shard: usize) {
        if now.mono_ms < self.shards[shard].stuck_until_ms {
            return;
        }
        for (token, op) in std::mem::take(&mut self.shards[shard].submitted) {
            let answer = self.decide(shard, now, token, op);
            if self.answers_disordered {
                let at_ms = now.mono_ms + self.shards[shard].stuck_rng.below(60);
                self.answers.push((shard, at_ms, Some((token, answer))));
            } else {
                self.shards[shard].queue.push_back((token, answer));
            }
        }
    }

    /// True if the operation waits for a store that is stuck, now and then from this one on.
    fn is_stuck(&mut self, now: Now, shard: usize, token: OpToken, op: &Op) -> bool {
        self.goes_on(now, shard);
        let per_mille = self.faults.stuck;
        let inner = &mut self.shards[shard];
        if now.mono_ms >= inner.stuck_until_ms {
            if per_mille == 0 || inner.stuck_rng.below(1000) >= per_mille {
                return false;
            }
            // Answers that come in order are still on their way.
            let long_ms = 200 + inner.stuck_rng.below(3_000);
            inner.stuck_until_ms = inner.last_ms.max(now.mono_ms + long_ms);
        }
        inner.last_ms = inner.stuck_until_ms;
        inner.submitted.push_back((token, op.clone()));
        self.answers.push((shard, inner.stuck_until_ms, None));
        self.stuck += 1;
        self.silences += 1; // its deadline may pass
        true
    }

    /// No page has an entry that the rule does not keep any more.
    fn is_kept(
        &self,
        now: Now,
        channel: &ChannelName,
        epoch: Epoch,
        publications: &[Arc<Publication>],
        retain: Retain,
    ) -> Result<(), String> {
        let Some(first) = publications.first() else { return Ok(()) };
        let kept = self.kept_at_most(channel, epoch, retain, now.wall_ms);
        if kept.first().is_none_or(|oldest| oldest.publication.offset > first.offset) {
            let (offset, age_ms) = (first.offset, now.wall_ms.saturating_sub(first.ts_ms));
            let kept = kept.len();
            return Err(format!(
                "{channel}: {offset} is read after {age_ms} ms; the rule keeps {retain:?}, which are the last {kept}"
            ));
        }
        Ok(())
    }

    /// The entries that a rule may keep. The oldest goes first: one that is older by its time, because the clock was
    /// set back meanwhile, stays with it.
    fn kept_at_most(&self, channel: &ChannelName, epoch: Epoch, retain: Retain, wall_ms: u64) -> &[Kept] {
        let all = self.ledger.between(channel, epoch, 0, u64::MAX);
        let last = &all[all.len().saturating_sub(retain.count as usize)..];
        let is_old = |kept: &&Kept| kept.publication.ts_ms.saturating_add(retain.ttl_ms) <= wall_ms;
        &last[last.iter().take_while(is_old).count()..]
    }

    /// Nothing has happened for long: the store of a shard keeps no more than its rules want.
    pub(crate) fn is_aged(
        &self,
        shard: usize,
        wall_ms: u64,
        retain_of: impl Fn(&ChannelName) -> Retain,
    ) -> Result<(), String> {
        /// What the housekeeping may not have come to yet.
        const LATE_MS: u64 = 5_000;
        let inner = &self.shards[shard];
        let mut most = CHANNEL * inner.channels.len();
        for (channel, known) in &inner.channels {
            let (retain, epoch) = (retain_of(channel), known.top.map_or(Epoch(0), |top| top.epoch));
            let kept = self.kept_at_most(channel, epoch, retain, wall_ms.saturating_sub(LATE_MS));
            most += kept.iter().map(|kept| cost_max(&kept.publication)).sum::<usize>();
        }
        let used = self.bytes_used(shard);
        if used > most {
            return Err(format!("leak: the history of shard {shard} has {used} bytes, its rules keep {most} at most"));
        }
        Ok(())
    }

    pub(crate) fn bytes_used(&self, shard: usize) -> usize {
        self.shards[shard].memory.bytes_used()
    }

    /// True if a key was forgotten before its time: its publication may be stored twice.
    pub(crate) fn may_forget_keys(&self) -> bool {
        self.shards.iter().any(|shard| shard.keys.end_early() || shard.keys.any_may_be_shed())
    }

    /// The first fault, if there was one.
    pub(crate) fn verdict(&mut self) -> Result<(), String> {
        self.broken.take().map_or(Ok(()), Err)
    }

    /// Duplicates by key, keys that were new again after their time, and keys forgotten for want of room.
    pub(crate) fn key_counts(&self) -> (u64, u64, u64) {
        let of = |count: fn(&Keys) -> u64| self.shards.iter().map(|shard| count(&shard.keys)).sum();
        (of(|keys| keys.duplicates), of(|keys| keys.expired), of(|keys| keys.shed))
    }

    fn chance(&mut self, shard: usize, per_mille: u64) -> bool {
        per_mille > 0 && self.shards[shard].rng.below(1000) < per_mille
    }

    fn execute(&mut self, shard: usize, now: Now, token: OpToken, op: Op) -> StoreAnswer {
        let channel = channel_of(&op).clone();
        let is_purge = matches!(op, Op::Purge { .. });
        let inner = &mut self.shards[shard];
        let entry = match &op {
            Op::Append { entry, .. } => Some(entry.clone()),
            _ => None,
        };
        let read = if let Op::Read { retain, .. } = &op { Some(*retain) } else { None };
        let top = inner.channels.get(&channel).and_then(|known| known.top);
        let answer = match self.has_holes {
            false => inner.memory.submit(now, token, op),
            true => inner.memory.submit(now, token, holes::op_in(op, top)).map(holes::answer_out),
        };
        let answer = answer.unwrap_or(StoreAnswer::Unavailable);
        let author = entry.as_ref().and_then(|entry| entry.from.clone());
        if let Some(entry) = entry
            && let Err(wrong) = inner.keys.appended(now.mono_ms, &entry, &answer)
        {
            self.broken.get_or_insert(wrong);
        }
        inner.wall_max_ms = inner.wall_max_ms.max(now.wall_ms);
        let known = inner.channels.entry(channel.clone()).or_default();
        known.top = match &answer {
            StoreAnswer::Attached(top) => Some(*top),
            StoreAnswer::Appended { epoch, publication } => {
                Some(Position { epoch: *epoch, offset: publication.offset })
            }
            StoreAnswer::Page(page) => Some(page.top),
            _ => known.top,
        };
        if is_purge {
            known.purged = known.top;
        }
        if let (Some(retain), StoreAnswer::Page(page)) = (read, &answer)
            && let Err(wrong) = self.is_kept(now, &channel, page.top.epoch, &page.publications, retain)
        {
            self.broken.get_or_insert(wrong);
        }
        if let StoreAnswer::Appended { epoch, publication } = &answer {
            self.ledger.accepted(now.mono_ms, &channel, *epoch, publication.clone(), author);
        }
        answer
    }

    fn decide(&mut self, shard: usize, now: Now, token: OpToken, op: Op) -> StoreAnswer {
        let channel = channel_of(&op).clone();
        let known = self.shards[shard].channels.entry(channel.clone()).or_default();
        if std::mem::take(&mut known.untold) && !matches!(op, Op::Detach { .. } | Op::Attach { .. }) {
            // Told in words, or by the epoch in the answer: a store may do either.
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
        if shared.is_stuck(now, self.shard, token, &op) {
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
        let inner = &mut self.shared.borrow_mut().shards[self.shard];
        inner.wall_max_ms = inner.wall_max_ms.max(now.wall_ms); // what is too old goes here too
        inner.memory.tidy(now);
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
