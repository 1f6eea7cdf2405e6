//! The memory store: logs of channels in this process, answered in place.
//!
//! Holds at most `history_bytes_max` of publications and of the records of unused channels. Beyond that
//! such channels go first where they hold nothing ([`MemoryStore::shed`] has the order), then the oldest publications
//! of the whole shard, whichever channel they are of. Channels in use are as many as there are subscriptions and
//! commands. Count, bytes and ttl of a channel are kept at each append and read, and by [`Store::tidy`]. A log's epoch
//! and top outlive its history by `metadata_ttl`; a channel that is forgotten after that begins a new epoch, so no
//! position is ever used twice. Stated durability: none, it lives as long as the process.

use crate::ids::{Epoch, OpToken, Position};
use crate::keys::{Forgotten, KEY_OVERHEAD, Keys, Remembered};
use crate::limits::Limits;
use crate::message::{Data, Publication};
use crate::name::ChannelName;
use crate::names::Names;
use crate::rng::{Keyed, Rng};
use crate::rules::Retain;
use crate::slots::Slots;
use crate::store::{Entry, Op, Page, Range, Reader, Rest, Store, StoreAnswer};
use crate::time::Now;
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
    /// Of retained publications.
    bytes_used: usize,
    /// Logs that nobody uses and that hold no publication, by the time since when: first those that never
    /// had a publication, then the others. Stale entries are skipped.
    idle: [VecDeque<IdleLog>; 2],
    /// Of all logs that nobody uses.
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
    key_ttl_ms: u64,
    metadata_ttl_ms: u64,
    tidy_at: usize,
}

#[derive(Debug)]
struct Log {
    name: ChannelName,
    epoch: Epoch,
    top: u64,
    /// The offset that the oldest retained publication follows: the history reaches back to here.
    floor: u64,
    retain_ttl_ms: u64,
    attached: bool,
    used_ms: u64,
    /// Only while it retains something: most channels are silent most of the time.
    retained: Option<Box<Retained>>,
    keys: Option<Box<Keys>>,
}

/// The publications of a log, the oldest first. There is at least one.
#[derive(Debug, Default)]
struct Retained {
    entries: VecDeque<Arc<Publication>>,
    bytes: usize,
}

/// The parameters of a read: see [`Op::Read`].
#[derive(Debug, Clone, Copy)]
struct Read {
    range: Range,
    reader: Option<Reader>,
    count_max: usize,
    bytes_max: usize,
    scan_max: usize,
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
                }
                continue;
            }
            let Some(RetainedRef { log, epoch, offset }) = self.order.pop_front() else { break };
            let holds = |log: &Log| log.epoch.0 == epoch && log.entries().front().is_some_and(|p| p.offset == offset);
            if self.logs.get(log as usize).is_some_and(holds) {
                self.drop_front(log as usize, 1);
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
        self.names.remove(&log.name, index as u32);
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
}

impl Log {
    /// The bytes of its record without publications and keys: here, and in the table of names.
    fn cost(&self) -> usize {
        // Seen from outside, with two million names of 206 bytes: 730 bytes each, for the tables grow by doubling.
        const OVERHEAD: usize = size_of::<Log>() + 2 * size_of::<(ChannelName, u32)>() + 320;
        OVERHEAD + self.name.len()
    }

    /// True where nobody has used it since then, and it holds no publication.
    fn is_idle(&self, epoch: u64, since_ms: u64) -> bool {
        !self.attached && self.retained.is_none() && self.epoch.0 == epoch && self.used_ms == since_ms
    }

    fn top(&self) -> Position {
        Position { epoch: self.epoch, offset: self.top }
    }

    /// The retained publications, the oldest first.
    fn entries(&self) -> &VecDeque<Arc<Publication>> {
        static NONE: VecDeque<Arc<Publication>> = VecDeque::new();
        self.retained.as_ref().map_or(&NONE, |retained| &retained.entries)
    }

    /// How many of the oldest publications the channel's own bounds do not cover.
    fn over(&self, retain: Retain, wall_ms: u64) -> usize {
        let Some(retained) = &self.retained else { return 0 };
        let Retained { entries, bytes } = &**retained;
        let mut over = entries.len().saturating_sub(retain.count as usize).max(self.over_age(retain.ttl_ms, wall_ms));
        let mut bytes = bytes - entries.iter().take(over).map(|p| p.cost()).sum::<usize>();
        while bytes > retain.bytes && over < entries.len() {
            bytes -= entries[over].cost();
            over += 1;
        }
        over
    }

    fn over_age(&self, ttl_ms: u64, wall_ms: u64) -> usize {
        self.entries().iter().take_while(|p| p.ts_ms.saturating_add(ttl_ms) <= wall_ms).count()
    }

    fn page(&self, read: &Read) -> Page {
        let Read { range, reader, count_max, bytes_max, scan_max } = *read;
        let entries = self.entries();
        let (after, before, forward) = match range {
            Range::After(at) => (Some(at), None, true),
            Range::Last { after, before } => (after, before, false),
        };
        let is_none_of_this = |at: &Position| self.is_foreign(*at) || at.offset > self.top;
        let reset = after.iter().chain(&before).any(is_none_of_this);
        let complete = !reset && after.is_none_or(|at| at.offset >= self.floor);
        let ends_nowhere = before.is_some_and(|at| is_none_of_this(&at));
        let last = match before {
            Some(at) if !ends_nowhere => self.first_after(at.offset.saturating_sub(1)),
            _ => entries.len(),
        };
        let first = match after {
            _ if ends_nowhere => last,
            Some(at) if !is_none_of_this(&at) => self.first_after(at.offset).min(last),
            Some(_) if forward => last,
            _ => 0,
        };
        let (mut publications, mut rest, mut looked_at) = (Vec::new(), Rest::Nothing, 0);
        let (mut bytes, mut work) = (0, 0);
        while first + looked_at < last {
            if work >= scan_max && looked_at > 0 {
                rest = Rest::Unseen;
                break;
            }
            let publication = &entries[if forward { first + looked_at } else { last - 1 - looked_at }];
            work += look_cost(publication);
            if reader.is_none_or(|reader| reader.wants(publication)) {
                bytes += publication.cost();
                if publications.len() >= count_max || (bytes > bytes_max && !publications.is_empty()) {
                    rest = Rest::More;
                    break;
                }
                publications.push(publication.clone());
            }
            looked_at += 1;
        }
        let place_before = |at: usize| entries.get(at).map_or(self.top, |publication| publication.prev);
        let (start, end) = match forward {
            true if rest == Rest::Nothing => (place_before(first), self.top),
            true => (place_before(first), place_before(first + looked_at)),
            false => {
                publications.reverse();
                (place_before(last - looked_at), self.top)
            }
        };
        Page { publications, start, end, top: self.top(), complete, reset, rest }
    }

    fn is_foreign(&self, at: Position) -> bool {
        at.epoch != self.epoch
    }

    /// Index of the first retained publication whose offset is above `offset`.
    fn first_after(&self, offset: u64) -> usize {
        self.entries().partition_point(|p| p.offset <= offset)
    }
}

/// The cost of the check whether a publication is for a reader. It is 1 for one that is for all; an audience is a list.
fn look_cost(publication: &Publication) -> usize {
    1 + publication.audience.as_ref().map_or(0, |audience| (audience.only.len() + audience.except.len()) / 8)
}

fn data_parts(data: &Data) -> (bool, &[u8]) {
    (matches!(data, Data::Json(_)), data.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ClientId;
    use crate::message::{Audience, Publish};
    use bytes::Bytes;

    const NOW: Now = Now { mono_ms: 1_000_000, wall_ms: 1_700_000_000_000 };

    fn channel() -> ChannelName {
        ChannelName::new("a:b").expect("valid")
    }

    fn later(ms: u64) -> Now {
        Now { mono_ms: NOW.mono_ms + ms, wall_ms: NOW.wall_ms + ms }
    }

    fn append(store: &mut MemoryStore, now: Now, text: &'static str, key: Option<&str>, retain: Retain) -> StoreAnswer {
        let publish = Publish {
            channel: channel(),
            data: Data::Json(Bytes::from_static(text.as_bytes())),
            event: None,
            idempotency_key: key.map(Into::into),
            echo: true,
        };
        let entry = Box::new(Entry { publish, from: None, by: None, audience: None, act: None, ts_ms: now.wall_ms });
        store.submit(now, OpToken(0), Op::Append { entry, retain }).expect("in place")
    }

    fn read(store: &mut MemoryStore, now: Now, range: Range, count_max: usize) -> Page {
        read_as(store, now, range, None, (count_max, usize::MAX))
    }

    fn read_as(
        store: &mut MemoryStore,
        now: Now,
        range: Range,
        reader: Option<Reader>,
        (count_max, scan_max): (usize, usize),
    ) -> Page {
        let (bytes_max, retain) = (1 << 20, Retain { count: 10_000, ..Retain::default() });
        let op = Op::Read { channel: channel(), range, reader, count_max, bytes_max, scan_max, retain };
        match store.submit(now, OpToken(0), op) {
            Some(StoreAnswer::Page(page)) => page,
            other => panic!("no page but {other:?}"),
        }
    }

    fn offsets(page: &Page) -> Vec<u64> {
        page.publications.iter().map(|p| p.offset).collect()
    }

    /// Whether anything is kept of it or not.
    #[test]
    fn the_first_entry_of_an_epoch_names_it_and_no_other_does() {
        for retain in [Retain::default(), Retain { count: 0, ..Retain::default() }] {
            let limits = Limits::default();
            let mut store = MemoryStore::new(&limits, 7);
            let appended = |store: &mut MemoryStore, now| match append(store, now, "1", None, retain) {
                StoreAnswer::Appended { epoch, publication } => (epoch, publication.begins.as_deref().copied()),
                other => panic!("{other:?}"),
            };
            let (first, named) = appended(&mut store, NOW);
            assert_eq!(named, Some(first));
            assert_eq!(appended(&mut store, NOW), (first, None));
            store.submit(NOW, OpToken(0), Op::Purge { channel: channel() });
            assert_eq!(appended(&mut store, NOW), (first, None), "nothing is kept, and the numbers go on");
            store.submit(NOW, OpToken(0), Op::Detach { channel: channel() });
            let forgotten = later(limits.metadata_ttl_ms);
            store.tidy(forgotten);
            let (second, named) = appended(&mut store, forgotten);
            assert!(second != first, "the channel was forgotten");
            assert_eq!(named, Some(second));
        }
    }

    fn filled(count: u32, retain: Retain) -> (MemoryStore, Epoch) {
        let mut store = MemoryStore::new(&Limits::default(), 7);
        for _ in 0..count {
            append(&mut store, NOW, "1", None, retain);
        }
        let epoch = read(&mut store, NOW, Range::NEWEST, 0).top.epoch;
        (store, epoch)
    }

    #[test]
    fn a_page_after_a_place_is_complete_only_where_nothing_is_missing() {
        let (mut store, epoch) = filled(150, Retain::default());
        let after = |offset| Range::After(Position { epoch, offset });
        let page = read(&mut store, NOW, after(100), 10);
        assert_eq!(
            (offsets(&page), page.end, page.complete, page.rest),
            ((101..=110).collect(), 110, true, Rest::More)
        );
        let page = read(&mut store, NOW, after(150), 10);
        assert_eq!((offsets(&page), page.end, page.complete, page.rest), (vec![], 150, true, Rest::Nothing));
        assert!(read(&mut store, NOW, after(50), 10).complete, "51 is the oldest of the hundred");
        assert!(!read(&mut store, NOW, after(49), 10).complete, "50 is gone");
        assert!(!read(&mut store, NOW, after(151), 10).complete, "a place ahead of the top means loss");
        let other = Range::After(Position { epoch: Epoch(1), offset: 150 });
        assert!(!read(&mut store, NOW, other, 10).complete, "another epoch's place says nothing");
    }

    #[test]
    fn the_newest_and_those_before_a_place_come_oldest_first() {
        let (mut store, epoch) = filled(10, Retain::default());
        assert_eq!(offsets(&read(&mut store, NOW, Range::NEWEST, 3)), vec![8, 9, 10]);
        let page = read(&mut store, NOW, Range::before(Position { epoch, offset: 4 }), 2);
        assert_eq!((offsets(&page), page.rest), (vec![2, 3], Rest::More));
        let page = read(&mut store, NOW, Range::before(Position { epoch, offset: 4 }), 9);
        assert_eq!((offsets(&page), page.rest), (vec![1, 2, 3], Rest::Nothing));
    }

    fn append_for(store: &mut MemoryStore, only: Vec<ClientId>) {
        let data = Data::Json(Bytes::from_static(b"1"));
        let publish = Publish { channel: channel(), data, event: None, idempotency_key: None, echo: true };
        let audience = Some(Box::new(Audience { only, ..Audience::default() }));
        let entry = Box::new(Entry { publish, from: None, by: None, audience, act: None, ts_ms: NOW.wall_ms });
        let retain = Retain { count: 10_000, ..Retain::default() };
        store.submit(NOW, OpToken(0), Op::Append { entry, retain }).expect("in place");
    }

    #[test]
    fn a_page_counts_what_its_reader_may_see_and_says_where_it_goes_on() {
        let mut store = MemoryStore::new(&Limits::default(), 7);
        let (ada, bob) = (ClientId(1), ClientId(2));
        for offset in 1..=100 {
            append_for(&mut store, vec![if offset % 10 == 0 { ada } else { bob }]);
        }
        let epoch = read(&mut store, NOW, Range::NEWEST, 0).top.epoch;
        let at = |offset| Position { epoch, offset };
        let reader = Some(Reader::of(ada));
        let mut read = |range, count_max, scan_max| {
            let page = read_as(&mut store, NOW, range, reader, (count_max, scan_max));
            (offsets(&page), page.start, page.end, page.rest)
        };
        let all = usize::MAX;
        // Name, range, publications at most, looks at most; what comes.
        let table = [
            ("the newest", Range::NEWEST, 2, all, (vec![90, 100], 80, 100, Rest::More)),
            ("before", Range::before(at(90)), 2, all, (vec![70, 80], 60, 100, Rest::More)),
            ("before, to the end", Range::before(at(20)), 2, all, (vec![10], 0, 100, Rest::Nothing)),
            ("after", Range::After(at(0)), 2, all, (vec![10, 20], 0, 29, Rest::More)),
            ("after, to the end", Range::After(at(85)), 2, all, (vec![90, 100], 85, 100, Rest::Nothing)),
            ("nothing in one step", Range::After(at(1)), 2, 5, (vec![], 1, 6, Rest::Unseen)),
            ("nothing in one step back", Range::before(at(30)), 2, 5, (vec![], 24, 100, Rest::Unseen)),
            ("a step looks at one at least", Range::After(at(1)), 2, 0, (vec![], 1, 2, Rest::Unseen)),
            ("between", Range::Last { after: Some(at(50)), before: None }, 1, all, (vec![100], 90, 100, Rest::More)),
            (
                "none between",
                Range::Last { after: Some(at(91)), before: Some(at(99)) },
                1,
                all,
                (vec![], 91, 100, Rest::Nothing),
            ),
        ];
        for (name, range, count_max, scan_max, expected) in table {
            assert_eq!(read(range, count_max, scan_max), expected, "{name}");
        }
    }

    #[test]
    fn a_step_over_long_audiences_is_shorter() {
        let mut store = MemoryStore::new(&Limits::default(), 7);
        let others: Vec<ClientId> = (10..810).map(ClientId).collect();
        for _ in 0..20 {
            append_for(&mut store, others.clone());
        }
        let page = read_as(&mut store, NOW, Range::NEWEST, Some(Reader::of(ClientId(1))), (9, 1_000));
        assert_eq!((page.start, page.rest), (10, Rest::Unseen), "each look at 800 names counts as 101");
    }

    #[test]
    fn a_place_that_is_none_of_the_log_is_said_to_be_so() {
        let (mut store, epoch) = filled(10, Retain::default());
        let [other, beyond] = [Position { epoch: Epoch(1), offset: 3 }, Position { epoch, offset: 11 }];
        let last = |after, before| Range::Last { after, before };
        let table = [
            ("after another epoch's", Range::After(other), vec![]),
            ("after one beyond the top", Range::After(beyond), vec![]),
            ("before another epoch's", Range::before(other), vec![]),
            ("before one beyond the top", Range::before(beyond), vec![]),
            // One who wants only the latest gets it all the same.
            ("the last after another epoch's", last(Some(other), None), vec![10]),
        ];
        for (name, range, expected) in table {
            let page = read(&mut store, NOW, range, 1);
            assert_eq!((offsets(&page), page.reset, page.complete), (expected, true, false), "{name}");
        }
        for range in [Range::After(Position { epoch, offset: 10 }), Range::before(Position { epoch, offset: 10 })] {
            assert!(!read(&mut store, NOW, range, 1).reset);
        }
    }

    #[test]
    fn history_without_room_keeps_the_numbering_and_tells_the_loss() {
        let (mut store, epoch) = filled(3, Retain { count: 0, ..Retain::default() });
        let page = read(&mut store, NOW, Range::After(Position { epoch, offset: 2 }), 9);
        assert_eq!((offsets(&page), page.complete, page.top.offset), (vec![], false, 3));
        assert!(read(&mut store, NOW, Range::After(Position { epoch, offset: 3 }), 9).complete);
        assert_eq!(store.bytes_used(), 0);
    }

    #[test]
    fn age_and_metadata_run_out_in_their_turn() {
        let (mut store, epoch) = filled(3, Retain::default());
        store.tidy(later(60_000));
        assert_eq!((store.bytes_used(), store.retained), (0, 0));
        let quiet = read(&mut store, later(60_000), Range::After(Position { epoch, offset: 3 }), 9);
        assert!(quiet.complete, "a quiet channel is recovered, not lost");
        store.submit(later(60_000), OpToken(0), Op::Detach { channel: channel() });
        store.tidy(later(60_000 + 24 * 3_600_000));
        assert_ne!(
            read(&mut store, later(0), Range::NEWEST, 0).top.epoch,
            epoch,
            "a forgotten numbering is never continued"
        );
    }

    #[test]
    fn keys_tell_repetition_from_conflict_until_they_expire() {
        let mut store = MemoryStore::new(&Limits::default(), 7);
        let StoreAnswer::Appended { epoch, publication } = append(&mut store, NOW, "1", Some("k"), Retain::default())
        else {
            panic!()
        };
        let first = Position { epoch, offset: publication.offset };
        assert_eq!(append(&mut store, later(1), "1", Some("k"), Retain::default()), StoreAnswer::Duplicate(first));
        assert_eq!(append(&mut store, later(1), "2", Some("k"), Retain::default()), StoreAnswer::KeyConflict);
        assert_eq!(
            append(&mut store, later(120_000), "1", Some("k"), Retain::default()),
            StoreAnswer::Duplicate(first)
        );
        assert!(matches!(
            append(&mut store, later(120_001), "2", Some("k"), Retain::default()),
            StoreAnswer::Appended { .. }
        ));
    }

    #[test]
    fn keys_and_bytes_stay_within_their_bounds() {
        let limits = Limits { idempotency_keys_bytes_max: 1_200, history_bytes_max: 4096, ..Limits::default() };
        let mut store = MemoryStore::new(&limits, 7);
        for i in 0..5000 {
            append(&mut store, NOW, "1", Some(&i.to_string()), Retain { count: 1000, ..Retain::default() });
            assert!(store.bytes_used() <= 4096);
            let bytes = store.logs[0].keys.as_ref().map_or(0, |keys| keys.bytes());
            assert!((1..=1_200).contains(&bytes) && bytes == store.key_bytes, "{bytes}");
        }
        assert!(store.order.len() <= 2 * store.retained + 1024);
        let start = Range::After(Position { epoch: store.logs[0].epoch, offset: 0 });
        assert!(!read(&mut store, NOW, start, 9).complete);
    }

    /// Two thousand publications later the first one's retry is still known for what it is; only bytes and time bound
    /// it.
    #[test]
    fn a_key_is_remembered_for_its_time_as_long_as_there_is_room_and_what_goes_earlier_is_counted() {
        let mut store = MemoryStore::new(&Limits::default(), 7);
        for n in 0..5_000_u32 {
            append(&mut store, later(1), "1", Some(&format!("{n:036}")), Retain::default());
        }
        let first = format!("{:036}", 0);
        assert!(matches!(
            append(&mut store, later(119_999), "1", Some(&first), Retain::default()),
            StoreAnswer::Duplicate(_)
        ));
        assert_eq!(store.keys_shed(), 0);
        let over = 4 * (4 << 20) / KEY_OVERHEAD;
        for n in 5_000..over {
            append(&mut store, later(1), "1", Some(&n.to_string()), Retain::default());
            assert!(store.key_bytes <= 4 << 20);
        }
        assert!(store.keys_shed() > over as u64 / 2, "{}", store.keys_shed());
        assert!(matches!(
            append(&mut store, later(2), "1", Some(&first), Retain::default()),
            StoreAnswer::Appended { .. }
        ));
        // Those whose time is over are not counted.
        let shed = store.keys_shed();
        store.tidy(later(300_000));
        assert_eq!((store.key_bytes, store.keys_shed()), (0, shed));
    }

    fn named(name: &str) -> ChannelName {
        ChannelName::new(name).expect("valid")
    }

    fn touch(store: &mut MemoryStore, now: Now, name: &str) {
        store.submit(now, OpToken(0), Op::Attach { channel: named(name) });
        store.submit(now, OpToken(0), Op::Detach { channel: named(name) });
    }

    #[test]
    fn channels_that_nobody_uses_go_before_any_publication_and_those_that_never_held_one_first() {
        let limits = Limits { history_bytes_max: 16 << 10, ..Limits::default() };
        let mut store = MemoryStore::new(&limits, 7);
        append(&mut store, NOW, "1", None, Retain::default());
        store.submit(NOW, OpToken(0), Op::Purge { channel: channel() });
        store.submit(NOW, OpToken(0), Op::Detach { channel: channel() });
        let epoch = store.logs[0].epoch;
        for n in 0..5_000 {
            touch(&mut store, later(n), &format!("nobody:{n}"));
            assert!(store.bytes_used() <= 16 << 10);
        }
        assert!(store.logs.len() < 100 && store.names.len() == store.logs.len(), "{}", store.logs.len());
        assert!(store.idle.iter().all(|queue| queue.len() <= 2 * store.logs.len() + 1024));
        let top = |store: &mut MemoryStore| read(store, later(1), Range::NEWEST, 0).top;
        assert_eq!(top(&mut store), Position { epoch, offset: 1 }, "its numbering outlived five thousand others");
        // One that is used is not forgotten, and publications go when there is nothing else.
        for _ in 0..1_000 {
            append(&mut store, later(2), "1", None, Retain { count: 1_000, ..Retain::default() });
            assert!(store.bytes_used() <= 16 << 10);
        }
        assert_eq!(top(&mut store).epoch, epoch);
        assert!(store.logs.len() < 3, "all others have gone: {}", store.logs.len());
        assert!(store.retained > 10);
    }

    #[test]
    fn keys_that_go_with_a_channel_that_nobody_uses_are_counted() {
        let limits = Limits { history_bytes_max: 16 << 10, ..Limits::default() };
        let mut store = MemoryStore::new(&limits, 7);
        let used = |store: &mut MemoryStore, now: Now, n: u64| {
            let channel = named(&format!("nobody:{n}"));
            let publish = Publish {
                channel: channel.clone(),
                data: Data::Json(Bytes::from_static(b"1")),
                event: None,
                idempotency_key: Some("k".into()),
                echo: true,
            };
            let entry = Box::new(Entry { publish, from: None, by: None, audience: None, act: None, ts_ms: 0 });
            let none = Retain { count: 0, ..Retain::default() };
            store.submit(now, OpToken(0), Op::Append { entry, retain: none });
            store.submit(now, OpToken(0), Op::Detach { channel });
        };
        (0..100).for_each(|n| used(&mut store, later(1), n));
        let forgotten = 100 - store.logs.len() as u64;
        assert!(forgotten > 50, "{forgotten}");
        assert_eq!(store.keys_shed(), forgotten);
        // The time of the others is over when their channels go.
        (100..200).for_each(|n| used(&mut store, later(300_000), n));
        assert_eq!(store.keys_shed(), forgotten + 100 - store.logs.len() as u64);
    }

    #[test]
    fn keys_of_many_channels_are_bounded_together_and_the_oldest_go() {
        let limits = Limits { history_bytes_max: 0, ..Limits::default() };
        let mut store = MemoryStore::new(&limits, 7);
        let publish = |store: &mut MemoryStore, ms: u64, name: &str, key: &str| {
            let publish = Publish {
                channel: named(name),
                data: Data::Json(Bytes::from_static(b"1")),
                event: None,
                idempotency_key: Some(key.into()),
                echo: true,
            };
            let entry = Box::new(Entry { publish, from: None, by: None, audience: None, act: None, ts_ms: 0 });
            store.submit(later(ms), OpToken(0), Op::Append { entry, retain: Retain::default() }).expect("in place")
        };
        let key = "k".repeat(64);
        for n in 0..5_000 {
            publish(&mut store, n, &format!("c:{n}"), &key);
            assert!(store.key_bytes <= KEY_BYTES_LEAST);
        }
        assert!(matches!(publish(&mut store, 5_000, "c:4999", &key), StoreAnswer::Duplicate(_)));
        assert!(matches!(publish(&mut store, 5_000, "c:0", &key), StoreAnswer::Appended { .. }), "long forgotten");
        // The line of keys stays short, too, where a channel forgets its own.
        for n in 0..5_000 {
            publish(&mut store, 6_000, "one", &n.to_string());
        }
        assert!(store.key_order.len() <= 2 * (store.key_bytes / KEY_OVERHEAD) + 1024);
        store.tidy(later(200_000));
        assert_eq!((store.key_bytes, store.key_order.len()), (0, 0));
    }

    /// A channel that nobody has published to is paid for all the same.
    #[test]
    fn a_log_stays_small() {
        assert!(size_of::<Log>() <= 80, "{} bytes", size_of::<Log>());
    }
}
