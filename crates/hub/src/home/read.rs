//! Reads of a home from the store: for subscribers, for the history, for readers that are behind, and to fill its own
//! holes.
//!
//! A read for a reader that may not see everything counts only publications that it may see. Where little of a long log
//! is for them, one step of the store does not find enough: it is a [`Scan`], and goes on in later turns, one step
//! each. A page of a catch-up is one step, even if it finds nothing: the reader asks for the next one from where it
//! ended.

use super::{Cx, HomeRef, Homes, Later, Purpose};
use crate::error::{Error, ErrorCode};
use crate::ids::{Position, ShardId};
use crate::message::{History, HistoryQuery};
use crate::peer::{PendingToken, Pulled, Puller, ReplyAddress, Start, Takes, ToEdge, Want};
use crate::reads::{AskedFrom, Reads};
use crate::store::{Op, Page, Range, Reader, Rest};
use std::sync::Arc;

/// A read that goes on until it has found enough, or has seen all.
#[derive(Debug)]
pub(super) struct Scan {
    range: Range,
    reader: Option<Reader>,
    count: usize,
    /// The result of the steps so far.
    found: Option<Page>,
    /// For the latest: the page found before the channel got new publications. The scan now reads the new ones.
    older: Option<Box<Page>>,
    /// How many times newer publications were looked at.
    looks: u32,
    of: ScanOf,
}

/// How often a scan for the latest looks at publications that have come meanwhile. Each time there is less of it,
/// unless a channel goes on faster than it can be read: then its reader gets the result so far, and is still behind.
const LOOKS_MAX: u32 = 8;

/// The purpose of a scan.
#[derive(Debug, Clone, Copy)]
pub(super) enum ScanOf {
    /// A page of the history.
    History(AskedFrom),
    /// `recent`, whose `since` was honoured, or not.
    Recent { recovered: Option<bool> },
    /// The newest of the publications that a subscriber missed.
    Latest,
    /// The first page of a subscriber whose place is honoured: what it missed comes with the answer, as far as it fits,
    /// however much there was for others.
    Sub(Want),
}

/// One read of the store.
#[derive(Debug, Clone, Copy)]
struct Step {
    range: Range,
    count_max: usize,
    bytes_max: usize,
}

impl Scan {
    fn new(range: Range, reader: Option<Reader>, count: usize, of: ScanOf) -> Box<Self> {
        Box::new(Scan { range, reader, count, found: None, older: None, looks: 0, of })
    }

    /// Forgets the result so far: it was of another epoch.
    pub(super) fn begin_again(&mut self) {
        (self.found, self.older) = (None, None);
    }

    /// Where the latest is wanted and the channel has gone on to `top` since it was looked for: looks at what has
    /// come meanwhile.
    fn looks_again(&mut self, top: Position) -> bool {
        if !matches!(self.of, ScanOf::Latest) {
            return false;
        }
        let Some(mut found) = self.found.take() else { return false };
        if let Some(older) = self.older.take() {
            found = older.followed_by(found);
        }
        let goes_on = found.top.epoch == top.epoch && found.top.offset < top.offset && self.looks < LOOKS_MAX;
        if goes_on {
            self.looks += 1;
            self.older = Some(Box::new(found));
        } else {
            self.found = Some(found);
        }
        goes_on
    }

    /// The answer where it cannot be done.
    pub(super) fn refused(&self, token: PendingToken, error: Error) -> ToEdge {
        match self.of {
            ScanOf::History(_) => ToEdge::History { token, result: Err(error) },
            ScanOf::Recent { .. } | ScanOf::Sub(_) => ToEdge::Subscribed { token, result: Err(error) },
            ScanOf::Latest => ToEdge::Pulled { token, result: Err(error) },
        }
    }

    /// The next step.
    fn next(&self, bytes_max: usize) -> Step {
        let Some(found) = &self.found else {
            let range = match &self.older {
                Some(older) => Range::Last { after: Some(older.top), before: None },
                None => self.range,
            };
            return Step { range, count_max: self.count, bytes_max };
        };
        let epoch = found.top.epoch;
        let range = match self.range {
            Range::After(_) => Range::After(Position { epoch, offset: found.end }),
            Range::Last { after, .. } => {
                let after = self.older.as_ref().map(|older| older.top).or(after);
                let after = after.filter(|after| after.epoch == epoch && after.offset <= found.top.offset);
                Range::Last { after, before: Some(Position { epoch, offset: found.start + 1 }) }
            }
        };
        let bytes: usize = found.publications.iter().map(|p| p.cost()).sum();
        let count_max = if bytes >= bytes_max { 0 } else { self.count - found.publications.len() };
        Step { range, count_max, bytes_max: bytes_max.saturating_sub(bytes) }
    }

    /// Takes the result of a step. True where the scan is done.
    fn take(&mut self, page: Page) -> bool {
        let rest = page.rest;
        let Some(mut found) = self.found.take() else {
            self.found = Some(page);
            return rest != Rest::Unseen;
        };
        if found.top.epoch != page.top.epoch {
            return false; // a new epoch began between two steps: from the beginning
        }
        found.rest = rest;
        found.complete &= page.complete;
        match self.range {
            Range::After(_) => {
                // Entries go from the oldest on: those of the steps so far are gone too, and the hole is before the
                // first of the page, where its reader is told of it. This step was for what was left to find; it is
                // read again for all.
                if !page.complete && !found.publications.is_empty() {
                    found.publications.clear();
                    self.found = Some(found);
                    return false;
                }
                found.publications.extend(page.publications);
                (found.end, found.top) = (page.end, page.top);
            }
            Range::Last { .. } => {
                let newer = std::mem::replace(&mut found.publications, page.publications);
                found.publications.extend(newer);
                found.start = page.start;
            }
        }
        self.found = Some(found);
        rest != Rest::Unseen
    }
}

impl Page {
    /// The newest of two pages that were read one after the other, where the second begins at the top of the first.
    fn followed_by(self, newer: Page) -> Page {
        let complete = self.complete && newer.complete;
        match (self.publications.is_empty(), newer.publications.is_empty()) {
            // A new epoch began, or some of the new publications are gone: the older page is before a gap.
            _ if self.top.epoch != newer.top.epoch || !newer.complete => newer,
            (false, true) => Page { publications: self.publications, rest: self.rest, complete, ..newer },
            (false, false) => Page { complete: false, ..newer }, // the older one is left out
            (true, _) => Page { complete, ..newer },
        }
    }
}

impl Homes {
    pub(super) fn subscribe(&mut self, cx: &mut Cx<'_>, index: u32, to: ReplyAddress, want: Want, members: u32) {
        let placed = self.take_place(cx, index, to.shard, want.takes, members);
        self.notice_occupancy(cx, index);
        if let Err(error) = placed {
            return self.answer(cx, index, to.shard, ToEdge::Subscribed { token: to.token, result: Err(error) });
        }
        let top = self.homes[index as usize].top();
        match want {
            // Already at the top, as most clients that come back after a short cut: no read is needed.
            Want { since: Some(at), .. } if at == top => {
                let start = Start { top, end: top.offset, recovered: Some(true), publications: Vec::new() };
                self.answer(cx, index, to.shard, ToEdge::Subscribed { token: to.token, result: Ok(start) });
            }
            Want { since: Some(at), reads, .. } if reads.covers(at, top) => {
                self.read(cx, index, Purpose::Sub { to, want }, false);
            }
            Want { recent: Some(n), reads, .. } if n > 0 && reads != Reads::Nothing => self.recent(cx, index, to, want),
            Want { since, .. } => {
                let recovered = since.map(|_| false);
                let start = Start { top, end: top.offset, recovered, publications: Vec::new() };
                self.answer(cx, index, to.shard, ToEdge::Subscribed { token: to.token, result: Ok(start) });
            }
        }
    }

    /// Counts a subscriber, of `members` on its shard, or refuses it where the channel's rule allows no more.
    fn take_place(&mut self, cx: &Cx<'_>, index: u32, shard: ShardId, takes: Takes, members: u32) -> Result<(), Error> {
        let home = &mut self.homes[index as usize];
        // The others of its shard are one less. Each `Sub` stands for a `Members`, which only tells another number.
        if takes == Takes::None {
            home.at_most(shard, members);
            return Ok(());
        }
        home.at_most(shard, members.saturating_sub(1));
        let rule = cx.rules.of(&home.name);
        if takes == Takes::OneOfMax
            && let Some((rule, max)) = rule.and_then(|rule| Some((rule.pattern.as_str(), rule.max_subscribers?)))
            && home.subscribers() >= u64::from(max)
        {
            let channel = &home.name;
            let message = format!("the rule {rule:?} allows {max} subscribers of a channel (max_subscribers)");
            let error = Error::new(ErrorCode::LimitExceeded, message).on(channel);
            return Err(error.by_rule(rule).by_option("max_subscribers"));
        }
        home.takes_one(shard);
        Ok(())
    }

    /// The `recent` publications: `since` is absent, or cannot be honoured.
    fn recent(&mut self, cx: &mut Cx<'_>, index: u32, to: ReplyAddress, want: Want) {
        let reader = Reader::of(want.client).outside_rooms();
        let range = want.reads.newest(self.homes[index as usize].top());
        let of = ScanOf::Recent { recovered: want.since.map(|_| false) };
        let scan = Scan::new(range, Some(reader), want.recent.unwrap_or(0) as usize, of);
        self.read(cx, index, Purpose::Scan { to, scan }, false);
    }

    pub(super) fn history(
        &mut self,
        cx: &mut Cx<'_>,
        index: u32,
        to: ReplyAddress,
        query: HistoryQuery,
        reader: Option<Reader>,
        reads: Reads,
    ) {
        let (range, asked_from) = reads.range(query.from, self.homes[index as usize].top());
        let scan = Scan::new(range, reader, query.limit as usize, ScanOf::History(asked_from));
        self.read(cx, index, Purpose::Scan { to, scan }, false);
    }

    pub(super) fn pull(&mut self, cx: &mut Cx<'_>, index: u32, to: ReplyAddress, at: Position, puller: Puller) {
        let what = match puller {
            Puller::Latest(client) => {
                let range = Range::Last { after: Some(at), before: None };
                let scan = Scan::new(range, Some(Reader::live(client).outside_rooms()), 1, ScanOf::Latest);
                Purpose::Scan { to, scan }
            }
            _ => Purpose::Pull { to, at, puller },
        };
        self.read(cx, index, what, false);
    }

    /// Asks the store for the next step. `again`: its last answer said only that an epoch was lost.
    pub(super) fn read(&mut self, cx: &mut Cx<'_>, index: u32, what: Purpose, again: bool) {
        let home = &self.homes[index as usize];
        let all = |at, reader| {
            let step = Step { range: Range::After(at), count_max: usize::MAX, bytes_max: cx.limits.page_bytes_max };
            (step, reader)
        };
        let (Step { range, count_max, bytes_max }, reader) = match &what {
            Purpose::Sub { want, .. } => all(want.since.unwrap_or_else(|| home.top()), Some(Reader::of(want.client))),
            Purpose::Pull { at, puller: Puller::Edge, .. } => all(*at, None),
            Purpose::Pull { at, puller: Puller::Subscriber(client) | Puller::Latest(client), .. } => {
                all(*at, Some(Reader::of(*client)))
            }
            Purpose::Scan { scan, .. } => (scan.next(cx.limits.page_bytes_max), scan.reader),
            _ => all(home.top(), None),
        };
        let (channel, retain, scan_max) = (home.name.clone(), home.retain, cx.limits.scan_slice);
        let op = Op::Read { channel, range, reader, count_max, bytes_max, scan_max, retain };
        self.submit_as(cx, index, what, op, again);
    }

    /// A step of a scan has been read.
    pub(super) fn scanned(&mut self, cx: &mut Cx<'_>, index: u32, to: ReplyAddress, mut scan: Box<Scan>, page: Page) {
        let home = &mut self.homes[index as usize];
        if !scan.take(page) || scan.looks_again(home.top()) {
            home.pending += 1; // it is kept as long as somebody waits
            let life = home.life;
            let what = Purpose::Scan { to, scan };
            return self.later.push_back(Later::Scan { home: index, life, what });
        }
        let Some(page) = scan.found else { return };
        match scan.of {
            ScanOf::History(asked_from) => {
                let gap = asked_from.has_gap(&page);
                let Page { publications, top, reset, rest, .. } = page;
                let (more, reset) = (rest == Rest::More, reset || asked_from == AskedFrom::Foreign);
                let history = Box::new(History { channel: home.name.clone(), top, publications, more, gap, reset });
                self.answer(cx, index, to.shard, ToEdge::History { token: to.token, result: Ok(history) });
            }
            ScanOf::Recent { recovered } => {
                let start = Start { top: home.top(), end: page.end, recovered, publications: page.publications };
                self.answer(cx, index, to.shard, ToEdge::Subscribed { token: to.token, result: Ok(start) });
            }
            ScanOf::Sub(want) => self.start(cx, index, to, want, page),
            ScanOf::Latest => {
                let Some(Reader { client, .. }) = scan.reader else { return };
                let puller = Puller::Latest(client);
                // Complete means that nothing was left out, not that everything that was asked for is in it.
                let complete = page.complete && page.rest == Rest::Nothing;
                let start = page.publications.first().map_or(page.end, |p| p.prev);
                let at = Position { epoch: page.top.epoch, offset: start };
                self.pulled(cx, index, to, at, puller, Page { complete, start, ..page });
            }
        }
    }

    /// Goes on with one thing that was interrupted.
    pub(super) fn go_on_later(&mut self, cx: &mut Cx<'_>) {
        match self.later.pop_front() {
            Some(Later::Scan { home: index, life, what }) => {
                let Some(home) = self.homes.get_mut(index as usize).filter(|home| home.life == life) else { return };
                home.pending -= 1;
                self.read(cx, index, what, false);
            }
            Some(Later::Waiting { home, life }) => self.take_waiting(cx, home, life),
            None => {}
        }
    }

    /// The first step after a subscriber's place has been read.
    pub(super) fn begin(&mut self, cx: &mut Cx<'_>, index: u32, to: ReplyAddress, want: Want, page: Page) {
        let Some(since) = want.since.filter(|_| page.complete && page.rest == Rest::Unseen) else {
            return self.start(cx, index, to, want, page);
        };
        let scan = Scan::new(Range::After(since), Some(Reader::of(want.client)), usize::MAX, ScanOf::Sub(want));
        self.scanned(cx, index, to, scan, page);
    }

    /// The first page after a subscriber's place has been read.
    fn start(&mut self, cx: &mut Cx<'_>, index: u32, to: ReplyAddress, want: Want, page: Page) {
        let top = self.homes[index as usize].top();
        // A page can go beyond the deliveries so far, and the next connection begins behind it. Such a client is where
        // the stream of deliveries is: a loss beyond it is told there, and it must not go back to what it has had.
        let is_ahead = |since: &Position| !page.reset && since.epoch == top.epoch && since.offset >= top.offset;
        let start = match (page.complete, want.recent) {
            (true, _) => Start { top, end: page.end, recovered: Some(true), publications: page.publications },
            (false, _) if let Some(since) = want.since.filter(is_ahead) => {
                Start { top, end: since.offset, recovered: Some(true), publications: Vec::new() }
            }
            // `since` cannot be honoured: the `recent` publications are read in a second step, with `recovered: false`.
            (false, Some(n)) if n > 0 => return self.recent(cx, index, to, want),
            (false, _) => Start { top, end: top.offset, recovered: Some(false), publications: Vec::new() },
        };
        self.answer(cx, index, to.shard, ToEdge::Subscribed { token: to.token, result: Ok(start) });
    }

    /// A page for a subscriber or an edge that is behind has been read.
    pub(super) fn pulled(
        &mut self,
        cx: &mut Cx<'_>,
        index: u32,
        to: ReplyAddress,
        at: Position,
        puller: Puller,
        mut page: Page,
    ) {
        let home = &mut self.homes[index as usize];
        let top = home.top();
        let edge = puller == Puller::Edge;
        // A page can go beyond the deliveries so far. A subscriber may run ahead of the stream; the edge may not,
        // or it would leave out publications that are still to be delivered to clients that subscribe meanwhile.
        if edge && page.top.epoch == top.epoch && page.end > top.offset {
            page.publications.retain(|p| p.offset <= top.offset);
            page.end = top.offset;
            page.start = page.start.min(top.offset);
            // Up to the deliveries so far it has everything. A loss beyond them is told in their stream.
            page.complete |= !page.reset && at == top;
        }
        // The edge goes live by the same comparison as here; a subscriber that has caught up says nothing about its
        // edge.
        let caught_up = edge && page.end >= top.offset;
        let life = home.life;
        let missed = caught_up && home.caught_up(to.shard);
        let Page { start, end, complete, publications, .. } = page;
        self.answer(
            cx,
            index,
            to.shard,
            ToEdge::Pulled { token: to.token, result: Ok(Pulled { top, start, end, complete, publications }) },
        );
        if missed {
            let snapshot = Arc::new(self.homes[index as usize].snapshot(cx, self.presence_seq));
            self.answer(cx, index, to.shard, ToEdge::PresenceWhole(snapshot));
        }
        if caught_up {
            for signal in self.links.take_signals(to.shard, HomeRef { index, life }) {
                self.answer(cx, index, to.shard, ToEdge::Signal { signal, directed: None });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ClientId, Epoch};

    fn page(start: u64, complete: bool, rest: Rest) -> Page {
        let top = Position { epoch: Epoch(1), offset: 9 };
        Page { publications: Vec::new(), start, end: 9, top, complete, reset: false, rest }
    }

    /// Entries go while a scan is under way. They stood before the steps so far, and are missed all the same.
    #[test]
    fn a_hole_in_any_step_of_a_scan_is_one_in_the_whole() {
        for holes in [[true, false, false], [false, true, false], [false, false, true], [false; 3]] {
            let after = Position { epoch: Epoch(1), offset: 2 };
            let range = Range::Last { after: Some(after), before: None };
            let mut scan = Scan::new(range, Some(Reader::live(ClientId(1))), 1, ScanOf::Latest);
            let rests = [Rest::Unseen, Rest::Unseen, Rest::Nothing];
            for (at, (hole, rest)) in holes.into_iter().zip(rests).enumerate() {
                let is_done = scan.take(page(7 - at as u64, !hole, rest));
                assert_eq!(is_done, rest == Rest::Nothing, "{holes:?}");
            }
            let found = scan.found.expect("it has read three pages");
            assert_eq!((found.complete, found.start, found.end), (holes == [false; 3], 5, 9), "{holes:?}");
        }
    }
}
