//! The memory store: logs of channels in this process, answered in place.
//!
//! Holds at most `history_bytes_max` of publications and of the records of unused channels. Beyond that
//! such channels go first where they hold nothing ([`MemoryStore::shed`] has the order), then the oldest publications
//! of the whole shard, whichever channel they are of. Channels in use are as many as there are subscriptions and
//! commands. Count, bytes and ttl of a channel are kept at each append and read, and by [`Store::tidy`]. A log's epoch
//! and top outlive its history by `metadata_ttl`; a channel that is forgotten after that begins a new epoch, so no
//! position is ever used twice. Stated durability: none, it lives as long as the process.

mod log;
#[cfg(test)]
mod tests;

use crate::ids::{Epoch, OpToken, Position};
use crate::keys::{Forgotten, KEY_OVERHEAD, Keys, Remembered};
use crate::limits::Limits;
use crate::message::{Data, Publication};
use crate::name::ChannelName;
use crate::names::Names;
use crate::rng::{Keyed, Rng};
use crate::rules::Retain;
use crate::slots::Slots;
use crate::store::{Entry, Op, Store, StoreAnswer};
use crate::time::Now;
use log::{Log, Read};
use std::collections::VecDeque;
use std::sync::Arc;

/// Keys may take a quarter of the history's bytes, and at least this: even where there is no history, a publication
/// that is sent again must not stand twice.
const KEY_BYTES_LEAST: usize = 64 << 10;
/// Channels looked at, and old keys taken out of the line, by one [`Store::tidy`]: a million are seen in a minute.
const TIDY_SLICE: usize = 16 << 10;

/// A retained publication: its log in one epoch, and its offset there.
#[derive(Debug, Clone, Copy)]
struct RetainedRef {
    log: u32,
    epoch: u64,
    offset: u64,
}

/// A log that nobody has used since then, unless it has another epoch now or was used later.
#[derive(Debug, Clone, Copy)]
struct IdleLog {
    log: u32,
    epoch: u64,
    since_ms: u64,
}

/// An idempotency key: its log in one epoch, and its number there.
#[derive(Debug, Clone, Copy)]
struct KeyRef {
    log: u32,
    epoch: u64,
    number: u64,
    at_ms: u64,
}

/// See the module's description.
#[derive(Debug)]
pub struct MemoryStore {
    names: Names,
    logs: Slots<Log>,
    /// Every retained publication in the order of the appends. Rebuilt when stale entries prevail.
    order: VecDeque<RetainedRef>,
    retained: usize,
    /// The bytes of retained publications.
    bytes_used: usize,
    /// Logs that nobody uses and that hold no publication, by the time since when: first those that never
    /// had a publication, then the others. Stale entries are skipped.
    idle: [VecDeque<IdleLog>; 2],
    /// The bytes of all logs that nobody uses.
    idle_bytes: usize,
    /// Every key in the order of the appends.
    key_order: VecDeque<KeyRef>,
    key_bytes: usize,
    next_key: u64,
    rng: Rng,
    hash: Keyed,
    bytes_max: usize,
    key_bytes_max: usize,
    channel_key_bytes_max: usize,
    /// Forgotten before their time.
    keys_shed: u64,
    /// Of those, the keys that were over the bound of their channel.
    channel_keys_shed: u64,
    /// Publications and unused channels that were dropped for want of room.
    history_shed: u64,
    key_ttl_ms: u64,
    metadata_ttl_ms: u64,
    tidy_at: usize,
}

impl MemoryStore {
    /// An empty store. `seed` mints epochs: it must differ between two lives of a process.
    pub fn new(limits: &Limits, seed: u64) -> Self {
        let hash = Keyed(seed ^ 0x6d65_6d6f_7279);
        MemoryStore {
            names: Names::new(hash),
            logs: Slots::new(),
            order: VecDeque::new(),
            retained: 0,
            bytes_used: 0,
            idle: Default::default(),
            idle_bytes: 0,
            key_order: VecDeque::new(),
            key_bytes: 0,
            next_key: 0,
            // Epochs are public, and the generator can be run backwards: not to the seed, which keys the tables.
            rng: Rng::new(hash.hash_of("epochs")),
            hash,
            bytes_max: limits.history_bytes_max,
            key_bytes_max: (limits.history_bytes_max / 4).max(KEY_BYTES_LEAST),
            channel_key_bytes_max: limits.idempotency_keys_bytes_max,
            keys_shed: 0,
            channel_keys_shed: 0,
            history_shed: 0,
            key_ttl_ms: limits.idempotency_keys_ttl_ms,
            metadata_ttl_ms: limits.metadata_ttl_ms,
            tidy_at: 0,
        }
    }

    fn find(&self, channel: &ChannelName) -> Option<usize> {
        self.names.find(channel, |at| &self.logs[at as usize].name).map(|at| at as usize)
    }

    fn attach(&mut self, now: Now, channel: &ChannelName) -> usize {
        let index = match self.find(channel) {
            Some(index) => index,
            None => {
                let epoch = Epoch(self.rng.next_u64().max(1));
                let index = self.logs.insert(Log {
                    name: channel.clone(),
                    epoch,
                    top: 0,
                    floor: 0,
                    retain_ttl_ms: 0,
                    attached: true,
                    used_ms: now.mono_ms,
                    retained: None,
                    keys: None,
                });
                let logs = &self.logs;
                self.names.insert(channel, index as u32, |at| &logs[at as usize].name);
                index
            }
        };
        let log = &mut self.logs[index];
        if !std::mem::replace(&mut log.attached, true) {
            self.idle_bytes -= log.cost();
        }
        log.used_ms = now.mono_ms;
        index
    }

    /// Nobody uses it for now. It is kept as long as there is room, so that a client that comes back to a quiet channel
    /// recovers.
    fn detach(&mut self, now: Now, index: usize) {
        let log = &mut self.logs[index];
        if !std::mem::replace(&mut log.attached, false) {
            return;
        }
        log.used_ms = now.mono_ms;
        self.idle_bytes += log.cost();
        self.note_idle(index);
        self.shed(now);
        let idle = self.idle.iter().map(VecDeque::len).sum::<usize>();
        if idle > 2 * self.logs.len() + 1024 {
            let logs = &self.logs;
            self.idle.iter_mut().for_each(|queue| {
                queue.retain(|idle| {
                    logs.get(idle.log as usize).is_some_and(|log| log.is_idle(idle.epoch, idle.since_ms))
                });
            });
        }
    }

    /// Removes stale entries: keys that their log has forgotten by itself.
    fn tidy_key_order(&mut self) {
        let logs = &self.logs;
        let oldest = |log: &Log| log.keys.as_ref().and_then(|keys| keys.oldest());
        self.key_order.retain(|key| {
            let log = logs.get(key.log as usize).filter(|log| log.epoch.0 == key.epoch);
            log.and_then(oldest).is_some_and(|oldest| oldest <= key.number)
        });
    }

    /// It stands in line to be forgotten, where nobody uses it and it holds no publication.
    fn note_idle(&mut self, index: usize) {
        let log = &self.logs[index];
        if log.is_idle(log.epoch.0, log.used_ms) {
            let used = usize::from(log.top > 0 || log.keys.is_some());
            self.idle[used].push_back(IdleLog { log: index as u32, epoch: log.epoch.0, since_ms: log.used_ms });
        }
    }

    /// Drops all that is over the shard's bound: first channels that nobody uses and that hold nothing, those that
    /// never did before the others and the longest unused first (their epoch ends: a client that comes back gets a new
    /// epoch); then of the oldest publications. Keys have a bound of their own: the oldest go.
    fn shed(&mut self, now: Now) {
        let oldest_ms = now.mono_ms.saturating_sub(self.key_ttl_ms);
        while self.key_bytes > self.key_bytes_max {
            let Some(oldest) = self.key_order.pop_front() else { break };
            let log = self.logs.get_mut(oldest.log as usize).filter(|log| log.epoch.0 == oldest.epoch);
            let Some(keys) = log.and_then(|log| log.keys.as_mut()) else { continue };
            let Forgotten { bytes, keys } = keys.forget_while(|key, _| key.number <= oldest.number);
            self.key_bytes -= bytes;
            self.keys_shed += keys;
        }
        while self.bytes_used() > self.bytes_max {
            if let Some(idle) = self.idle.iter_mut().find_map(VecDeque::pop_front) {
                let log = self.logs.get(idle.log as usize);
                if let Some(log) = log.filter(|log| log.is_idle(idle.epoch, idle.since_ms)) {
                    self.keys_shed += log.keys.as_ref().map_or(0, |keys| keys.since(oldest_ms));
                    self.forget(idle.log as usize);
                    self.history_shed += 1;
                }
                continue;
            }
            let Some(RetainedRef { log, epoch, offset }) = self.order.pop_front() else { break };
            let holds = |log: &Log| log.epoch.0 == epoch && log.entries().front().is_some_and(|p| p.offset == offset);
            if self.logs.get(log as usize).is_some_and(holds) {
                self.drop_front(log as usize, 1);
                self.history_shed += 1;
            }
        }
    }

    fn append(&mut self, now: Now, entry: Entry, retain: Retain) -> StoreAnswer {
        let index = self.attach(now, &entry.publish.channel);
        if let Some(key) = &entry.publish.idempotency_key {
            let scope = entry.key_scope();
            let content = self.hash.hash_of((data_parts(&entry.publish.data), &entry.publish.event, &entry.audience));
            let oldest_ms = now.mono_ms.saturating_sub(self.key_ttl_ms);
            let (hash, log, bytes_max) = (self.hash, &mut self.logs[index], self.channel_key_bytes_max);
            let keys = log.keys.get_or_insert_with(|| Box::new(Keys::new(hash)));
            self.key_bytes -= keys.forget_while(|key, _| key.at_ms < oldest_ms).bytes;
            match keys.find(&scope, key) {
                Some(seen) if seen.content == content => {
                    return StoreAnswer::Duplicate(Position { epoch: log.epoch, offset: seen.offset });
                }
                Some(_) => return StoreAnswer::KeyConflict,
                None => {
                    let number = self.next_key;
                    self.next_key += 1;
                    let at_ms = now.mono_ms;
                    self.key_order.push_back(KeyRef { log: index as u32, epoch: log.epoch.0, number, at_ms });
                    let (key, offset) = (key.clone(), log.top + 1);
                    self.key_bytes += keys.remember(Remembered { number, at_ms, scope, key, offset, content });
                    let over = keys.forget_while(|_, bytes| bytes > bytes_max);
                    self.key_bytes -= over.bytes;
                    self.keys_shed += over.keys;
                    self.channel_keys_shed += over.keys;
                }
            }
            if self.key_order.len() > 2 * (self.key_bytes / KEY_OVERHEAD) + 1024 {
                self.tidy_key_order();
            }
        }
        let log = &mut self.logs[index];
        let prev = log.top;
        log.top += 1;
        // A log here is one epoch, from its place 0 on.
        let begins = (prev == 0).then_some(log.epoch);
        let (epoch, publication) = (log.epoch, Arc::new(entry.at(prev, log.top, begins)));
        self.retain(index, now, &publication, retain);
        self.shed(now);
        StoreAnswer::Appended { epoch, publication }
    }

    /// Keeps the publication that was just appended, and drops those that are over the channel's own bounds.
    fn retain(&mut self, index: usize, now: Now, publication: &Arc<Publication>, retain: Retain) {
        let log = &mut self.logs[index];
        log.retain_ttl_ms = retain.ttl_ms;
        if retain.count == 0 || retain.ttl_ms == 0 || publication.cost() > retain.bytes {
            self.drop_front(index, usize::MAX);
            self.logs[index].floor = publication.offset;
            return;
        }
        let cost = publication.cost();
        let retained = log.retained.get_or_insert_default();
        retained.entries.push_back(publication.clone());
        retained.bytes += cost;
        let over = log.over(retain, now.wall_ms);
        self.order.push_back(RetainedRef { log: index as u32, epoch: log.epoch.0, offset: publication.offset });
        self.retained += 1;
        self.bytes_used += cost;
        self.drop_front(index, over);
        if self.order.len() > 2 * self.retained + 1024 {
            let logs = &self.logs;
            self.order.retain(|&RetainedRef { log, epoch, offset }| {
                logs.get(log as usize).is_some_and(|log| log.epoch.0 == epoch && offset > log.floor)
            });
        }
    }

    /// Lets go of the oldest `count` publications of a log.
    fn drop_front(&mut self, index: usize, count: usize) {
        let log = &mut self.logs[index];
        let Some(retained) = &mut log.retained else { return };
        for _ in 0..count {
            let Some(gone) = retained.entries.pop_front() else { break };
            log.floor = gone.offset;
            retained.bytes -= gone.cost();
            self.bytes_used -= gone.cost();
            self.retained -= 1;
        }
        if retained.entries.is_empty() {
            log.retained = None;
            self.note_idle(index);
        }
    }

    fn read(&mut self, now: Now, channel: &ChannelName, read: &Read, retain: Retain) -> StoreAnswer {
        let index = self.attach(now, channel);
        self.logs[index].retain_ttl_ms = retain.ttl_ms;
        let over = self.logs[index].over(retain, now.wall_ms);
        self.drop_front(index, over);
        StoreAnswer::Page(self.logs[index].page(read))
    }

    fn forget(&mut self, index: usize) {
        self.drop_front(index, usize::MAX);
        let log = self.logs.remove(index);
        if !log.attached {
            self.idle_bytes -= log.cost();
        }
        self.key_bytes -= log.keys.as_ref().map_or(0, |keys| keys.bytes());
        let logs = &self.logs;
        self.names.remove(&log.name, index as u32, |at| &logs[at as usize].name);
    }
}

impl Store for MemoryStore {
    fn submit(&mut self, now: Now, _token: OpToken, op: Op) -> Option<StoreAnswer> {
        Some(match op {
            Op::Attach { channel } => {
                let index = self.attach(now, &channel);
                StoreAnswer::Attached(self.logs[index].top())
            }
            Op::Detach { channel } => {
                if let Some(index) = self.find(&channel) {
                    self.detach(now, index);
                }
                StoreAnswer::Done
            }
            Op::Append { entry, retain } => self.append(now, *entry, retain),
            Op::Read { channel, range, reader, count_max, bytes_max, scan_max, retain } => {
                self.read(now, &channel, &Read { range, reader, count_max, bytes_max, scan_max }, retain)
            }
            Op::Purge { channel } => {
                let index = self.attach(now, &channel);
                self.drop_front(index, usize::MAX);
                StoreAnswer::Done
            }
        })
    }

    fn knows(&self, channel: &ChannelName) -> bool {
        self.find(channel).is_some()
    }

    fn tidy(&mut self, now: Now) {
        let expired_ms = now.mono_ms.saturating_sub(self.key_ttl_ms);
        for _ in 0..TIDY_SLICE {
            if self.key_order.pop_front_if(|key| key.at_ms < expired_ms).is_none() {
                break; // those before it are forgotten by their logs
            }
        }
        let end = self.logs.end().max(1);
        for _ in 0..TIDY_SLICE.min(end) {
            let index = self.tidy_at;
            self.tidy_at = (index + 1) % end;
            let Some(log) = self.logs.get_mut(index) else { continue };
            if let Some(keys) = &mut log.keys {
                self.key_bytes -= keys.forget_while(|key, _| key.at_ms < expired_ms).bytes;
                if keys.is_empty() {
                    log.keys = None;
                }
            }
            let over = log.over_age(log.retain_ttl_ms, now.wall_ms);
            let expired = !log.attached && now.mono_ms.saturating_sub(log.used_ms) >= self.metadata_ttl_ms;
            self.drop_front(index, over);
            if expired {
                self.forget(index);
            }
        }
    }

    fn bytes_used(&self) -> usize {
        self.bytes_used + self.idle_bytes
    }

    fn keys_shed(&self) -> u64 {
        self.keys_shed
    }

    fn limits_reached(&self) -> Vec<(&'static str, u64)> {
        vec![("history_bytes_max", self.history_shed), ("idempotency_keys_bytes_max", self.channel_keys_shed)]
    }
}

fn data_parts(data: &Data) -> (bool, &[u8]) {
    (matches!(data, Data::Json(_)), data.bytes())
}
