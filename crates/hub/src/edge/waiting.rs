//! The items that wait on an edge for their fan-out, within bounds.
//!
//! In: deliveries of the home, pages, signals, presence. A delivery that finds no room makes the edge behind; a signal
//! takes the place of an older one; a change of presence is replaced by a snapshot later. An edge on which nothing
//! waits and nobody is in a room holds no memory for it.

use super::batch::Gathered;
use super::fanout::Cursor;
use super::item::Item;
use super::rooms::RoomIndex;
use super::{Behind, Edge};
use crate::ids::{Epoch, Position};
use crate::limits::Limits;
use crate::message::{PresencePush, PresenceSnapshot, Publication, SignalPush};
use crate::peer::Pulled;
use crate::rng::Keyed;
use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;

/// A fan-out, and the items that wait behind it.
#[derive(Debug, Default)]
pub(super) struct Busy {
    pub(super) waiting: VecDeque<Item>,
    /// The bytes of the items that wait. (Batches are apart: each group has a page of them.)
    pub(super) bytes: usize,
    /// Where the fan-out of the first item was interrupted.
    pub(super) cursor: Option<Cursor>,
    /// Sessions whose members have had the first item, and have gone to another group, to which its fan-out may still
    /// come. Each had to change its wire within one fan-out, so mostly there are none.
    pub(super) served: Vec<u32>,
    /// While items wait: the place in the channel up to which everything has been told.
    pub(super) told: Option<Position>,
    /// The rooms with their members.
    pub(super) rooms: Option<Box<RoomIndex>>,
    /// Batches that the fan-out in progress has made whole: they come next.
    pub(super) whole: Vec<Gathered>,
}

/// The bounds of the items that wait on one edge.
#[derive(Debug, Clone)]
pub(crate) struct WaitingMax {
    items: usize,
    bytes: usize,
    /// The one that left no room, by the name of its option.
    reached: Cell<Option<&'static str>>,
}

impl WaitingMax {
    pub(crate) fn of(limits: &Limits) -> Self {
        WaitingMax::new(limits.fanout_waiting_max, limits.fanout_waiting_bytes_max)
    }

    fn new(items: usize, bytes: usize) -> Self {
        WaitingMax { items, bytes, reached: Cell::new(None) }
    }

    pub(crate) fn reached(&self) -> Option<&'static str> {
        self.reached.get()
    }
}

impl Busy {
    /// Before this place nothing may be put or taken: the item whose fan-out is interrupted stays the first.
    fn first(&self) -> usize {
        usize::from(self.cursor.is_some())
    }
}

impl Edge {
    /// The place up to which everything has been told.
    pub(super) fn told(&self) -> Option<Position> {
        self.busy.as_ref().filter(|busy| !busy.waiting.is_empty()).map_or(self.at, |busy| busy.told)
    }

    /// The rooms with their members; made where there are none yet.
    pub(crate) fn rooms_or_insert(&mut self, hasher: Keyed) -> &mut RoomIndex {
        self.busy().rooms.get_or_insert_with(|| Box::new(RoomIndex::new(hasher)))
    }

    pub(crate) fn rooms(&mut self) -> Option<&mut RoomIndex> {
        self.busy.as_mut()?.rooms.as_deref_mut()
    }

    pub(crate) fn room_places(&self) -> usize {
        self.busy.as_ref().and_then(|busy| busy.rooms.as_ref()).map_or(0, |rooms| rooms.places())
    }

    /// Gives the memory back where nobody is in a room and nothing waits.
    pub(crate) fn tidy(&mut self) {
        let Some(busy) = &mut self.busy else { return };
        busy.rooms.take_if(|rooms| rooms.is_empty());
        if busy.rooms.is_none() && busy.waiting.is_empty() {
            self.busy = None;
        }
    }

    /// Takes a delivery in: the next one waits for its fan-out, an old one is ignored, after a hole the edge is behind.
    /// False when the home must be told that nothing is taken any more.
    pub(crate) fn deliver(&mut self, epoch: Epoch, publication: Arc<Publication>, max: &WaitingMax) -> bool {
        let Some(at) = &mut self.at else { return true }; // no member yet: an answer will tell the place
        if self.behind != Behind::No || epoch != at.epoch || publication.offset <= at.offset {
            return true;
        }
        let (prev, offset) = (publication.prev, publication.offset);
        if prev != at.offset || !self.wait_if_room(Item::Publication(epoch, publication), max) {
            self.behind = Behind::Yes;
            return false;
        }
        if let Some(at) = &mut self.at {
            at.offset = offset;
        }
        true
    }

    /// Something without a place in the log. A list is asked for by somebody who waits, and takes its room; any other
    /// is lost where too much waits already.
    pub(crate) fn unlogged(&mut self, epoch: Epoch, publication: Arc<Publication>, max: &WaitingMax) {
        let item = Item::Unlogged(epoch, publication);
        if item.act().is_some() || self.has_room(&item, max) {
            self.wait(item);
        }
    }

    /// Lets an item wait for its fan-out where too much does not wait already.
    fn wait_if_room(&mut self, item: Item, max: &WaitingMax) -> bool {
        let room = self.has_room(&item, max);
        if room {
            self.wait(item);
        }
        room
    }

    fn has_room(&self, item: &Item, max: &WaitingMax) -> bool {
        let (items, bytes) = self.busy.as_ref().map_or((0, 0), |busy| (busy.waiting.len(), busy.bytes));
        fits(item, items, bytes, max)
    }

    fn wait(&mut self, item: Item) {
        let busy = self.busy();
        busy.bytes += item.bytes();
        busy.waiting.push_back(item);
    }

    fn busy(&mut self) -> &mut Busy {
        let busy = self.busy.get_or_insert_default();
        if busy.waiting.is_empty() {
            busy.told = self.at; // nothing waits yet: everything up to here has been told
        }
        busy
    }

    /// The bytes that wait for a fan-out.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.busy.as_ref().map_or(0, |busy| busy.bytes)
    }

    /// The channel goes on at `to`, and the edge with it.
    pub(crate) fn skip(&mut self, to: Position) {
        let Some(at) = self.at else { return };
        let reset = at.epoch != to.epoch;
        if self.behind == Behind::No && (reset || to.offset > at.offset) {
            self.wait(Item::Skip { to, reset });
            self.at = Some(to);
        }
    }

    /// A page that follows `at` has come. Entries that the home no longer has become a gap.
    pub(crate) fn pulled(&mut self, pulled: Pulled) {
        let Some(mut at) = self.at else { return };
        let reset = at.epoch != pulled.top.epoch;
        if reset || !pulled.complete {
            at = Position { epoch: pulled.top.epoch, offset: pulled.start };
            self.wait(Item::Skip { to: at, reset });
        }
        for publication in pulled.publications.into_iter().filter(|p| p.offset > at.offset) {
            self.wait(Item::Publication(at.epoch, publication));
        }
        at.offset = at.offset.max(pulled.end);
        self.at = Some(at);
        self.behind = if at.offset >= pulled.top.offset { Behind::No } else { Behind::Yes };
    }

    /// Subscribers get this signal. Where too much waits already, it takes the place of the one of the same client and
    /// event, else of the oldest ones whose fan-out has not begun. Where all of those would not make room for it, it is
    /// lost itself and they stay. Returns how many signals were lost.
    pub(crate) fn signal(&mut self, signal: Arc<SignalPush>, max: &WaitingMax) -> u64 {
        let same = |old: &SignalPush| old.from.client == signal.from.client && old.signal.event == signal.signal.event;
        let item = Item::Signal(signal.clone());
        let mut shed = 0;
        while !self.has_room(&item, max) {
            let Some(busy) = &mut self.busy else { return 1 };
            let (mut oldest, mut latest) = (None, None);
            let (mut items, mut bytes) = (busy.waiting.len(), busy.bytes);
            for (at, old) in busy.waiting.iter().enumerate().skip(busy.first()) {
                let Item::Signal(signal) = old else { continue };
                (items, bytes) = (items - 1, bytes - old.bytes());
                oldest = oldest.or(Some(at));
                latest = latest.or(same(signal).then_some(at));
            }
            if !fits(&item, items, bytes, max) {
                return 1;
            }
            let Some(gone) = latest.or(oldest).and_then(|at| busy.waiting.remove(at)) else { return 1 };
            busy.bytes -= gone.bytes();
            shed += 1;
        }
        self.wait(item);
        shed
    }

    /// A change of presence; where too much waits already, the whole is asked for later in its place.
    pub(crate) fn presence(&mut self, push: Arc<PresencePush>, max: &WaitingMax) {
        self.presence_stale = self.presence_stale || !self.wait_if_room(Item::Presence(push), max);
    }

    /// How many are present, told at most once a second.
    pub(crate) fn presence_count(&mut self, count: u64, seq: u64, max: &WaitingMax) {
        self.presence_stale = self.presence_stale || !self.wait_if_room(Item::PresenceCount { count, seq }, max);
    }

    /// The whole presence. A snapshot is large: if it finds no room, the edge asks for it again when the waiting items
    /// have been sent.
    pub(crate) fn presence_whole(&mut self, snapshot: Arc<PresenceSnapshot>, max: &WaitingMax) {
        self.presence_stale = !self.wait_if_room(Item::PresenceWhole(snapshot), max);
    }

    /// The batches of which nobody has been reminded yet: (group, when to look).
    pub(crate) fn reminders(&mut self) -> impl Iterator<Item = (u32, u64)> {
        let gathering = self.groups.iter_mut().enumerate().filter_map(|(at, g)| Some((at, g.gathering.as_mut()?)));
        gathering.filter_map(|(at, gathering)| Some((at as u32, gathering.remind()?)))
    }

    /// It is time to look at the batch of a group: where it has waited long enough, it is told next.
    pub(crate) fn reminded(&mut self, group: u32, now_ms: u64) {
        let Some(gathering) = self.groups.get_mut(group as usize).and_then(|g| g.gathering.as_mut()) else { return };
        if gathering.reminded(now_ms) {
            let gathered = gathering.take(group);
            self.tell_next(gathered);
        }
    }

    /// Puts a batch before all that waits, but for the item whose fan-out is interrupted and for earlier batches.
    pub(super) fn tell_next(&mut self, gathered: Gathered) {
        let busy = self.busy();
        let first = busy.first();
        let batches = busy.waiting.iter().skip(first).take_while(|item| matches!(item, Item::Batch(_))).count();
        busy.waiting.insert(first + batches, Item::Batch(gathered));
    }

    /// Batches with publications before this place are sent first.
    pub(super) fn flush_batches(&mut self, to: Position) {
        for at in 0..self.groups.len() {
            let gathering = self.groups[at].gathering.as_mut().filter(|gathering| gathering.ends_before(to));
            if let Some(gathered) = gathering.map(|gathering| gathering.take(at as u32)) {
                self.tell_next(gathered);
            }
        }
    }

    /// True if no item waits for the fan-out and none was missed: a member at the edge's position has everything.
    pub(crate) fn is_quiet(&self) -> bool {
        self.behind == Behind::No && !self.has_work()
    }

    pub(crate) fn has_work(&self) -> bool {
        self.busy.as_ref().is_some_and(|busy| !busy.waiting.is_empty())
    }
}

/// Whether an item may wait beside so many others. One alone has room, however large it is.
fn fits(item: &Item, items: usize, bytes: usize, max: &WaitingMax) -> bool {
    let has_bytes = items == 0 || bytes + item.bytes() <= max.bytes;
    let fits = items < max.items && has_bytes;
    if !fits {
        max.reached.set(Some(if has_bytes { "fanout_waiting_max" } else { "fanout_waiting_bytes_max" }));
    }
    fits
}

#[cfg(test)]
mod tests {
    use super::super::Edges;
    use super::*;
    use crate::ids::ClientId;
    use crate::message::{Sender, Signal};
    use crate::name::ChannelName;
    use bytes::Bytes;

    #[test]
    fn under_backlog_the_latest_of_each_client_and_event_wins_and_then_the_oldest_goes() {
        let name = ChannelName::new("a").expect("valid");
        let mut edges = Edges::new(1, Keyed(1));
        let index = edges.find_or_create(&name);
        let edge = &mut edges.edges[index as usize];
        let mut shed = Vec::new();
        for (client, text) in [(1, "1a"), (2, "2a"), (3, "3a"), (2, "2b"), (4, "4a"), (2, "2c")] {
            let data = Bytes::from_static(text.as_bytes());
            let signal = Signal { channel: name.clone(), event: "move".into(), data, to: None };
            let from = Sender { client: Some(ClientId(client)), user: None };
            shed.push(edge.signal(Arc::new(SignalPush { signal, from, ts_ms: 0 }), &WaitingMax::new(3, 1 << 20)));
        }
        let waiting = edge.busy.iter().flat_map(|busy| &busy.waiting).filter_map(|item| match item {
            Item::Signal(signal) => Some(&signal.signal.data[..]),
            _ => None,
        });
        assert_eq!(waiting.collect::<Vec<_>>(), [&b"3a"[..], b"4a", b"2c"]);
        assert_eq!(shed, [0, 0, 0, 1, 1, 1]);
    }

    #[test]
    fn presence_without_room_is_asked_for_until_the_whole_of_it_has_room() {
        let name = ChannelName::new("a").expect("valid");
        let mut edges = Edges::new(1, Keyed(1));
        let index = edges.find_or_create(&name);
        let edge = &mut edges.edges[index as usize];
        let snapshot = Arc::new(PresenceSnapshot { seq: 2, count: 0, entries: Some(Vec::new()) });
        let max = |items| WaitingMax::new(items, 1 << 20);
        edge.presence_count(1, 1, &max(1));
        assert!(!edge.presence_stale);
        edge.presence_count(2, 2, &max(1));
        assert!(edge.presence_stale, "the second count is lost");
        edge.presence_whole(snapshot.clone(), &max(1));
        assert!(edge.presence_stale);
        edge.presence_whole(snapshot, &max(2));
        assert!(!edge.presence_stale);
    }

    #[test]
    fn a_signal_takes_the_place_of_one_of_the_same_event() {
        let name = ChannelName::new("a").expect("valid");
        let mut edges = Edges::new(1, Keyed(1));
        let index = edges.find_or_create(&name);
        let edge = &mut edges.edges[index as usize];
        for (client, event) in [(2, "move"), (1, "typing"), (1, "move"), (1, "move")] {
            let data = Bytes::from_static(b"1");
            let signal = Signal { channel: name.clone(), event: event.into(), data, to: None };
            let from = Sender { client: Some(ClientId(client)), user: None };
            edge.signal(Arc::new(SignalPush { signal, from, ts_ms: 0 }), &WaitingMax::new(3, 1 << 20));
        }
        let waiting = edge.busy.iter().flat_map(|busy| &busy.waiting).filter_map(|item| match item {
            Item::Signal(signal) => Some((signal.from.client.map_or(0, |client| client.0), &*signal.signal.event)),
            _ => None,
        });
        assert_eq!(waiting.collect::<Vec<_>>(), [(2, "move"), (1, "typing"), (1, "move")]);
    }

    #[test]
    fn signals_are_shed_only_where_that_makes_room_and_each_is_counted() {
        let name = ChannelName::new("a").expect("valid");
        let mut edges = Edges::new(1, Keyed(1));
        let index = edges.find_or_create(&name);
        let edge = &mut edges.edges[index as usize];
        let signal = |client, bytes| {
            let signal =
                Signal { channel: name.clone(), event: "move".into(), data: vec![b'1'; bytes].into(), to: None };
            let from = Sender { client: Some(ClientId(client)), user: None };
            Arc::new(SignalPush { signal, from, ts_ms: 0 })
        };
        let small = Item::Signal(signal(1, 10)).bytes();
        let snapshot = Arc::new(PresenceSnapshot { seq: 1, count: 0, entries: Some(Vec::new()) });
        let whole = Item::PresenceWhole(snapshot.clone()).bytes();
        let max = &WaitingMax::new(100, whole + 3 * small);
        edge.presence_whole(snapshot, max);
        let kept = [1, 2, 3].map(|client| edge.signal(signal(client, 10), max));
        assert_eq!((kept, edge.waiting_bytes()), ([0; 3], max.bytes));
        assert_eq!(edge.signal(signal(4, 10 + 3 * small), max), 1, "it would not fit without all of them either");
        assert_eq!(edge.waiting_bytes(), max.bytes, "so they stay");
        assert_eq!(edge.signal(signal(4, 10 + small), max), 2);
        assert_eq!(edge.waiting_bytes(), max.bytes);
    }
}
