//! The memory store: logs of channels in this process, answered in place.
//!
//! Holds at most `history_bytes_max` of publications; beyond that the oldest of the whole shard goes first, whichever
//! channel it is of. Count, bytes and ttl of a channel are kept at each append and read, and by [`Store::tidy`]. A log's
//! epoch and top outlive its history by `metadata_ttl`; what is forgotten after that begins a new epoch, so no place is
//! ever given twice. Stated durability: none, it lives as long as the process.

use crate::ids::{Epoch, OpToken, Position};
use crate::limits::Limits;
use crate::name::ChannelName;
use crate::planted::{Planted, planted};
use crate::rng::{Keyed, Rng};
use crate::rules::Retain;
use crate::shard::Now;
use crate::store::{Answer, Entry, KeyScope, Op, Page, Range, Store};
use crate::vocabulary::{Data, Publication};
use slab::Slab;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Channels looked at by one [`Store::tidy`]: a million of them are seen about once a minute.
const TIDY_SLICE: usize = 16 << 10;

/// See the module's description.
#[derive(Debug)]
pub struct MemoryStore {
    names: HashMap<ChannelName, u32, Keyed>,
    logs: Slab<Log>,
    /// Every retained publication in the order of the appends: (log, the log's life, offset). Rebuilt when stale entries prevail.
    order: VecDeque<(u32, u64, u64)>,
    retained: usize,
    bytes_used: usize,
    rng: Rng,
    hash: Keyed,
    bytes_max: usize,
    keys_max: usize,
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
    entries: VecDeque<Arc<Publication>>,
    bytes: usize,
    retain_ttl_ms: u64,
    attached: bool,
    used_ms: u64,
    keys: Option<Box<Keys>>,
}

#[derive(Debug)]
struct Keys {
    seen: HashMap<(KeyScope, Box<str>), Seen, Keyed>,
    order: VecDeque<(u64, (KeyScope, Box<str>))>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    offset: u64,
    /// Hash of payload and event: a conflict is told from a repetition without keeping the payload.
    content: u64,
}

impl MemoryStore {
    /// An empty store. `seed` mints epochs: it must differ between two lives of a process.
    pub fn new(limits: &Limits, seed: u64) -> Self {
        let hash = Keyed(seed ^ 0x6d65_6d6f_7279);
        MemoryStore {
            names: HashMap::with_hasher(hash),
            logs: Slab::new(),
            order: VecDeque::new(),
            retained: 0,
            bytes_used: 0,
            rng: Rng::new(seed),
            hash,
            bytes_max: limits.history_bytes_max,
            keys_max: limits.keys_max,
            key_ttl_ms: limits.key_ttl_ms,
            metadata_ttl_ms: limits.metadata_ttl_ms,
            tidy_at: 0,
        }
    }

    fn attach(&mut self, now: Now, channel: &ChannelName) -> usize {
        let index = match self.names.get(channel) {
            Some(&index) => index as usize,
            None => {
                let epoch = Epoch(self.rng.next_u64().max(1));
                let index = self.logs.insert(Log {
                    name: channel.clone(),
                    epoch,
                    top: 0,
                    floor: 0,
                    entries: VecDeque::new(),
                    bytes: 0,
                    retain_ttl_ms: 0,
                    attached: true,
                    used_ms: now.mono_ms,
                    keys: None,
                });
                self.names.insert(channel.clone(), index as u32);
                index
            }
        };
        self.logs[index].attached = true;
        self.logs[index].used_ms = now.mono_ms;
        index
    }

    fn append(&mut self, now: Now, entry: Entry, retain: Retain) -> Answer {
        let index = self.attach(now, &entry.publish.channel);
        if let Some(key) = &entry.publish.key {
            let key = (entry.key_scope(), key.clone());
            let content = self.hash.hash_of((data_parts(&entry.publish.data), &entry.publish.event));
            let oldest_ms = now.mono_ms.saturating_sub(self.key_ttl_ms);
            let (hash, log) = (self.hash, &mut self.logs[index]);
            let keys = log.keys.get_or_insert_with(|| Box::new(Keys::new(hash)));
            keys.forget(oldest_ms, self.keys_max.saturating_sub(1));
            match keys.seen.get(&key) {
                _ if planted(Planted::KeyUnchecked) => {}
                Some(seen) if seen.content == content => {
                    return Answer::Duplicate(Position { epoch: log.epoch, offset: seen.offset });
                }
                Some(_) => return Answer::KeyConflict,
                None => keys.remember(now.mono_ms, key, Seen { offset: log.top + 1, content }),
            }
        }
        let log = &mut self.logs[index];
        let prev = log.top;
        log.top += 1;
        let (epoch, publication) = (log.epoch, Arc::new(entry.at(prev, log.top)));
        self.retain(index, now, &publication, retain);
        Answer::Appended { epoch, publication }
    }

    /// Keeps what was just appended, and lets go of what is over a bound: first the channel's own, then the shard's oldest.
    fn retain(&mut self, index: usize, now: Now, publication: &Arc<Publication>, retain: Retain) {
        let log = &mut self.logs[index];
        log.retain_ttl_ms = retain.ttl_ms;
        if retain.count == 0 || retain.ttl_ms == 0 || publication.cost() > retain.bytes {
            self.drop_front(index, usize::MAX);
            self.logs[index].floor = publication.offset;
            return;
        }
        let cost = publication.cost();
        log.entries.push_back(publication.clone());
        log.bytes += cost;
        let over = log.over(retain, now.wall_ms);
        self.order.push_back((index as u32, log.epoch.0, publication.offset));
        self.retained += 1;
        self.bytes_used += cost;
        self.drop_front(index, over);
        while self.bytes_used > self.bytes_max && !planted(Planted::HistoryUnbounded) {
            let Some((index, epoch, offset)) = self.order.pop_front() else { break };
            let holds = |log: &Log| log.epoch.0 == epoch && log.entries.front().is_some_and(|p| p.offset == offset);
            if self.logs.get(index as usize).is_some_and(holds) {
                self.drop_front(index as usize, 1);
            }
        }
        if self.order.len() > 2 * self.retained + 1024 {
            let logs = &self.logs;
            self.order.retain(|&(index, epoch, offset)| {
                logs.get(index as usize).is_some_and(|log| log.epoch.0 == epoch && offset > log.floor)
            });
        }
    }

    /// Lets go of the oldest `count` publications of a log.
    fn drop_front(&mut self, index: usize, count: usize) {
        let log = &mut self.logs[index];
        for _ in 0..count {
            let Some(gone) = log.entries.pop_front() else { break };
            log.floor = gone.offset;
            log.bytes -= gone.cost();
            self.bytes_used -= gone.cost();
            self.retained -= 1;
        }
        if log.entries.is_empty() {
            log.entries = VecDeque::new(); // gives the memory back: most channels are quiet most of the time
        }
    }

    fn read(&mut self, now: Now, channel: &ChannelName, range: Range, bound: (usize, usize), retain: Retain) -> Answer {
        let index = self.attach(now, channel);
        self.logs[index].retain_ttl_ms = retain.ttl_ms;
        let over = self.logs[index].over(retain, now.wall_ms);
        self.drop_front(index, over);
        Answer::Page(self.logs[index].page(range, bound.0, bound.1))
    }

    fn forget(&mut self, index: usize) {
        self.drop_front(index, usize::MAX);
        let log = self.logs.remove(index);
        self.names.remove(&log.name);
    }
}

impl Store for MemoryStore {
    fn submit(&mut self, now: Now, _token: OpToken, op: Op) -> Option<Answer> {
        Some(match op {
            Op::Attach { channel } => {
                let index = self.attach(now, &channel);
                Answer::Attached(self.logs[index].top())
            }
            Op::Detach { channel } => {
                if let Some(&index) = self.names.get(&channel) {
                    let log = &mut self.logs[index as usize];
                    log.attached = false;
                    log.used_ms = now.mono_ms;
                }
                Answer::Done
            }
            Op::Append { entry, retain } => self.append(now, *entry, retain),
            Op::Read { channel, range, count_max, bytes_max, retain } => {
                self.read(now, &channel, range, (count_max, bytes_max), retain)
            }
            Op::Purge { channel } => {
                let index = self.attach(now, &channel);
                self.drop_front(index, usize::MAX);
                Answer::Done
            }
        })
    }

    fn tidy(&mut self, now: Now) {
        let end = self.logs.capacity().max(1);
        for _ in 0..TIDY_SLICE.min(end) {
            let index = self.tidy_at;
            self.tidy_at = (index + 1) % end;
            let Some(log) = self.logs.get_mut(index) else { continue };
            if let Some(keys) = &mut log.keys {
                keys.forget(now.mono_ms.saturating_sub(self.key_ttl_ms), self.keys_max);
                if keys.order.is_empty() {
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
        self.bytes_used
    }
}

impl Log {
    fn top(&self) -> Position {
        Position { epoch: self.epoch, offset: self.top }
    }

    /// How many of the oldest publications the channel's own bounds do not cover.
    fn over(&self, retain: Retain, wall_ms: u64) -> usize {
        let mut over =
            self.entries.len().saturating_sub(retain.count as usize).max(self.over_age(retain.ttl_ms, wall_ms));
        let mut bytes = self.bytes - self.entries.iter().take(over).map(|p| p.cost()).sum::<usize>();
        while bytes > retain.bytes && over < self.entries.len() {
            bytes -= self.entries[over].cost();
            over += 1;
        }
        over
    }

    fn over_age(&self, ttl_ms: u64, wall_ms: u64) -> usize {
        self.entries.iter().take_while(|p| p.ts_ms.saturating_add(ttl_ms) <= wall_ms).count()
    }

    fn page(&self, range: Range, count_max: usize, bytes_max: usize) -> Page {
        let (from, complete, forward) = match range {
            Range::After(at) if self.is_foreign(at) || at.offset > self.top => (self.entries.len(), false, true),
            Range::After(at) => {
                let late = u64::from(planted(Planted::FloorOffByOne));
                (self.first_after(at.offset), at.offset + late >= self.floor, true)
            }
            Range::Newest => (self.entries.len(), true, false),
            Range::Before(at) if at.epoch != self.epoch => (0, true, false),
            Range::Before(at) => (self.first_after(at.offset.saturating_sub(1)), true, false),
        };
        let mut bytes = 0;
        let mut fits = |p: &&Arc<Publication>| {
            bytes += p.cost();
            bytes <= bytes_max || bytes == p.cost()
        };
        let publications: Vec<_> = if forward {
            self.entries.iter().skip(from).take(count_max).take_while(&mut fits).cloned().collect()
        } else {
            let mut found: Vec<_> =
                self.entries.iter().take(from).rev().take(count_max).take_while(&mut fits).cloned().collect();
            found.reverse();
            found
        };
        let more = if forward { from + publications.len() < self.entries.len() } else { publications.len() < from };
        let end = if more && forward { publications.last().map_or(self.top, |p| p.offset) } else { self.top };
        Page { publications, end, top: self.top(), complete, more }
    }

    fn is_foreign(&self, at: Position) -> bool {
        at.epoch != self.epoch && !planted(Planted::EpochNotCompared)
    }

    /// Index of the first retained publication whose offset is above `offset`.
    fn first_after(&self, offset: u64) -> usize {
        self.entries.partition_point(|p| p.offset <= offset)
    }
}

impl Keys {
    fn new(hash: Keyed) -> Self {
        Keys { seen: HashMap::with_hasher(hash), order: VecDeque::new() }
    }

    fn remember(&mut self, now_ms: u64, key: (KeyScope, Box<str>), seen: Seen) {
        self.seen.insert(key.clone(), seen);
        self.order.push_back((now_ms, key));
    }

    /// Forgets what was seen before `oldest_ms`, and the oldest beyond `count_max`.
    fn forget(&mut self, oldest_ms: u64, count_max: usize) {
        while self.order.front().is_some_and(|(at, _)| *at < oldest_ms) || self.order.len() > count_max {
            let Some((_, key)) = self.order.pop_front() else { break };
            self.seen.remove(&key);
        }
    }
}

fn data_parts(data: &Data) -> (bool, &[u8]) {
    (matches!(data, Data::Json(_)), data.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocabulary::Publish;
    use bytes::Bytes;

    const NOW: Now = Now { mono_ms: 1_000_000, wall_ms: 1_700_000_000_000 };

    fn channel() -> ChannelName {
        ChannelName::new("a:b").expect("valid")
    }

    fn later(ms: u64) -> Now {
        Now { mono_ms: NOW.mono_ms + ms, wall_ms: NOW.wall_ms + ms }
    }

    fn append(store: &mut MemoryStore, now: Now, text: &'static str, key: Option<&str>, retain: Retain) -> Answer {
        let publish = Publish {
            channel: channel(),
            data: Data::Json(Bytes::from_static(text.as_bytes())),
            event: None,
            key: key.map(Into::into),
            echo: true,
        };
        let entry = Box::new(Entry { publish, from: None, by: None, audience: None, ts_ms: now.wall_ms });
        store.submit(now, OpToken(0), Op::Append { entry, retain }).expect("in place")
    }

    fn read(store: &mut MemoryStore, now: Now, range: Range, count_max: usize) -> Page {
        let op = Op::Read { channel: channel(), range, count_max, bytes_max: 1 << 20, retain: Retain::default() };
        match store.submit(now, OpToken(0), op) {
            Some(Answer::Page(page)) => page,
            other => panic!("no page but {other:?}"),
        }
    }

    fn offsets(page: &Page) -> Vec<u64> {
        page.publications.iter().map(|p| p.offset).collect()
    }

    fn filled(count: u32, retain: Retain) -> (MemoryStore, Epoch) {
        let mut store = MemoryStore::new(&Limits::default(), 7);
        for _ in 0..count {
            append(&mut store, NOW, "1", None, retain);
        }
        let epoch = read(&mut store, NOW, Range::Newest, 0).top.epoch;
        (store, epoch)
    }

    #[test]
    fn a_page_after_a_place_is_complete_only_where_nothing_is_missing() {
        let (mut store, epoch) = filled(150, Retain::default());
        let after = |offset| Range::After(Position { epoch, offset });
        let page = read(&mut store, NOW, after(100), 10);
        assert_eq!((offsets(&page), page.end, page.complete, page.more), ((101..=110).collect(), 110, true, true));
        let page = read(&mut store, NOW, after(150), 10);
        assert_eq!((offsets(&page), page.end, page.complete, page.more), (vec![], 150, true, false));
        assert!(read(&mut store, NOW, after(50), 10).complete, "51 is the oldest of the hundred");
        assert!(!read(&mut store, NOW, after(49), 10).complete, "50 is gone");
        assert!(!read(&mut store, NOW, after(151), 10).complete, "a place ahead of the top means loss");
        let other = Range::After(Position { epoch: Epoch(1), offset: 150 });
        assert!(!read(&mut store, NOW, other, 10).complete, "another epoch's place says nothing");
    }

    #[test]
    fn the_newest_and_those_before_a_place_come_oldest_first() {
        let (mut store, epoch) = filled(10, Retain::default());
        assert_eq!(offsets(&read(&mut store, NOW, Range::Newest, 3)), vec![8, 9, 10]);
        let page = read(&mut store, NOW, Range::Before(Position { epoch, offset: 4 }), 2);
        assert_eq!((offsets(&page), page.more), (vec![2, 3], true));
        let page = read(&mut store, NOW, Range::Before(Position { epoch, offset: 4 }), 9);
        assert_eq!((offsets(&page), page.more), (vec![1, 2, 3], false));
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
            read(&mut store, later(0), Range::Newest, 0).top.epoch,
            epoch,
            "a forgotten numbering is never continued"
        );
    }

    #[test]
    fn keys_tell_repetition_from_conflict_until_they_expire() {
        let mut store = MemoryStore::new(&Limits::default(), 7);
        let Answer::Appended { epoch, publication } = append(&mut store, NOW, "1", Some("k"), Retain::default()) else {
            panic!()
        };
        let first = Position { epoch, offset: publication.offset };
        assert_eq!(append(&mut store, later(1), "1", Some("k"), Retain::default()), Answer::Duplicate(first));
        assert_eq!(append(&mut store, later(1), "2", Some("k"), Retain::default()), Answer::KeyConflict);
        assert!(matches!(
            append(&mut store, later(120_001), "2", Some("k"), Retain::default()),
            Answer::Appended { .. }
        ));
    }

    #[test]
    fn keys_and_bytes_stay_within_their_bounds() {
        let limits = Limits { keys_max: 4, history_bytes_max: 4096, ..Limits::default() };
        let mut store = MemoryStore::new(&limits, 7);
        for i in 0..5000 {
            append(&mut store, NOW, "1", Some(&i.to_string()), Retain { count: 1000, ..Retain::default() });
            assert!(store.bytes_used() <= 4096);
            assert!(store.logs[0].keys.as_ref().is_some_and(|k| k.seen.len() <= 4 && k.order.len() <= 4));
        }
        assert!(store.order.len() <= 2 * store.retained + 1024);
        let start = Range::After(Position { epoch: store.logs[0].epoch, offset: 0 });
        assert!(!read(&mut store, NOW, start, 9).complete);
    }
}
