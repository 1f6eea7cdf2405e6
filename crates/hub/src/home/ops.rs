//! The queue of the store: operations that it has not answered, and messages for channels that are not attached yet.
//!
//! Everything that waits has a deadline, [`Limits::store_timeout_ms`], and is counted in bytes; beyond
//! [`Limits::store_waiting_bytes_max`] nothing more is taken on. At its deadline a question is answered without the
//! store: `unavailable`, or `unknown` where it may have been done. The store's answer may still come: it updates the
//! channel, and the asker gets no second answer.

use super::{Cx, Home, HomeRef, Homes, Later, State};
use crate::error::{Error, ErrorCode};
use crate::ids::{Epoch, OpToken, ShardId};
use crate::limits::Limits;
use crate::message::PresenceSnapshot;
use crate::name::ChannelName;
use crate::peer::{PeerBody, Puller, ReplyAddress, ToEdge, ToHome, Want};
use crate::store::{Op, StoreAnswer};
use crate::timer::Timer;
use std::collections::{BTreeMap, VecDeque};

/// Operations whose time is over and whose answers would still be useful. Beyond that the oldest are forgotten:
/// a channel finds out about missed ones when it next reads.
const LATE_MAX: usize = 1024;
/// The bytes of an entry that waits, besides those of its message.
const OVERHEAD: usize = 256;
/// Messages that waited for a channel to be attached and are taken in before others have their turn.
const WAITING_SLICE: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Ops {
    /// In the order in which they came, and so of their deadlines.
    waiting: BTreeMap<OpToken, PendingOp>,
    /// Operations whose time is over, and whose answers may still update the channel.
    late: BTreeMap<OpToken, PendingOp>,
    last: u64,
    /// The bytes of all that is waiting.
    bytes: usize,
    /// A timer is set for the first deadline, or deadlines that have passed are being seen to.
    is_timed: bool,
    /// Deadlines have passed that no slice has come to.
    overdue: bool,
}

/// Something that waits for the store.
#[derive(Debug)]
pub(super) struct PendingOp {
    pub(super) home: u32,
    pub(super) life: u32,
    /// The epoch that the home was in when it asked. An answer of another one is newer than the home only
    /// where the home has not moved since: answers may overtake each other.
    pub(super) epoch: Epoch,
    /// It was asked for the second time.
    pub(super) again: bool,
    pub(super) what: Purpose,
    pub(super) due_ms: u64,
    pub(super) bytes: usize,
}

/// The purpose of an operation.
#[derive(Debug)]
pub(super) enum Purpose {
    /// The channel is not attached yet: then this is taken in.
    Message {
        shard: ShardId,
        message: ToHome,
    },
    Attach,
    Detach,
    Append {
        to: ReplyAddress,
    },
    Sub {
        to: ReplyAddress,
        want: Want,
    },
    /// One that takes as many steps as it needs.
    Scan {
        to: ReplyAddress,
        scan: Box<super::Scan>,
    },
    /// A page for a subscriber or an edge that is behind.
    Pull {
        to: ReplyAddress,
        at: crate::ids::Position,
        puller: Puller,
    },
    Purge {
        to: ReplyAddress,
    },
    Fill,
}

impl Ops {
    /// Operations without an answer whose time is not over.
    pub(super) fn waiting_len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn next(&mut self) -> OpToken {
        self.last += 1;
        OpToken(self.last)
    }

    /// True where nothing more can wait.
    fn is_full(&self, limits: &Limits) -> bool {
        self.bytes >= limits.store_waiting_bytes_max
    }

    pub(super) fn insert(&mut self, cx: &mut Cx<'_>, token: OpToken, pending: PendingOp) {
        if !std::mem::replace(&mut self.is_timed, true) {
            cx.wheel.add(pending.due_ms, Timer::Store);
        }
        self.bytes += pending.bytes;
        self.waiting.insert(token, pending);
    }

    fn take(&mut self, token: OpToken) -> Option<PendingOp> {
        let pending = self.waiting.remove(&token)?;
        self.bytes -= pending.bytes;
        Some(pending)
    }

    fn is_due(&self, now_ms: u64) -> bool {
        self.waiting.first_key_value().is_some_and(|(_, first)| first.due_ms <= now_ms)
    }

    fn next_due(&mut self, now_ms: u64) -> Option<(OpToken, PendingOp)> {
        let (&token, _) = self.waiting.first_key_value().filter(|(_, first)| first.due_ms <= now_ms)?;
        Some((token, self.take(token)?))
    }

    /// Its deadline has passed. Its answer may still update the channel.
    fn keep_late(&mut self, token: OpToken, pending: PendingOp) {
        self.late.insert(token, pending);
        if self.late.len() > LATE_MAX {
            self.late.pop_first();
        }
    }
}

impl Homes {
    /// A message that needs the store: it waits where the channel is not attached yet, and is turned away where too
    /// much does.
    pub(super) fn ask_store(&mut self, cx: &mut Cx<'_>, index: u32, from: ShardId, message: ToHome) {
        let home = &mut self.homes[index as usize];
        if self.ops.is_full(cx.limits) && !matches!(message, ToHome::Members(_)) {
            let name = home.name.clone();
            return self.turn_away(cx, &name, from, message);
        }
        // The interest is registered from here on, also for messages that need no store.
        if let ToHome::Sub { seq, .. } = message {
            home.interest(from, seq);
        }
        if home.is_live() && home.waiting.is_none() {
            return self.take_in(cx, index, from, message);
        }
        let token = self.ops.next();
        home.waiting.get_or_insert_default().push_back(token);
        home.pending += 1;
        let (life, epoch, bytes) = (home.life, home.top().epoch, OVERHEAD + message.cost());
        let (what, due_ms) = (Purpose::Message { shard: from, message }, cx.now.mono_ms + cx.limits.store_timeout_ms);
        self.ops.insert(cx, token, PendingOp { home: index, life, epoch, again: false, what, due_ms, bytes });
    }

    pub(crate) fn store_waiting_bytes(&self) -> usize {
        self.ops.bytes
    }

    /// True where a channel cannot be taken on, as too much waits for the store already.
    pub(super) fn is_full(&self, limits: &Limits) -> bool {
        self.ops.is_full(limits)
    }

    pub(super) fn submit(&mut self, cx: &mut Cx<'_>, index: u32, what: Purpose, op: Op) {
        self.submit_as(cx, index, what, op, false);
    }

    pub(super) fn submit_as(&mut self, cx: &mut Cx<'_>, index: u32, what: Purpose, op: Op, again: bool) {
        let token = self.ops.next();
        let is_append = matches!(op, Op::Append { .. });
        let bytes = OVERHEAD + if let Op::Append { entry, .. } = &op { entry.cost() } else { 0 };
        let home = &mut self.homes[index as usize];
        home.pending += 1;
        let due_ms = cx.now.mono_ms + cx.limits.store_timeout_ms;
        let pending = PendingOp { home: index, life: home.life, epoch: home.top().epoch, again, what, due_ms, bytes };
        match cx.store.submit(cx.now, token, op) {
            Some(answer) => {
                self.names_place(cx, &pending, token, &answer);
                self.answered(cx, pending, answer);
            }
            None => {
                self.ops.insert(cx, token, pending);
                if is_append {
                    self.append_waits(index, token);
                }
            }
        }
    }

    /// An outside store has answered. A second answer to one token is ignored.
    pub(crate) fn store_answer(&mut self, cx: &mut Cx<'_>, token: OpToken, answer: StoreAnswer) {
        if let Some(pending) = self.ops.take(token) {
            self.names_place(cx, &pending, token, &answer);
            let at = HomeRef { index: pending.home, life: pending.life };
            let is_append = matches!(pending.what, Purpose::Append { .. });
            self.answered(cx, pending, answer);
            if is_append {
                self.append_over(cx, at, token);
            }
        } else if let Some(pending) = self.ops.late.remove(&token) {
            self.answered_late(cx, pending, answer);
        }
    }

    /// The answer may name the place of an append. A late one of an epoch that is over names no place of this channel:
    /// it counts only if it is of the home's epoch, or if the home has not begun another since it asked.
    fn names_place(&mut self, cx: &mut Cx<'_>, pending: &PendingOp, token: OpToken, answer: &StoreAnswer) {
        if let (Purpose::Append { .. }, StoreAnswer::Appended { epoch, publication }) = (&pending.what, answer) {
            let at = HomeRef { index: pending.home, life: pending.life };
            let home = self.homes.get(at.index as usize).filter(|home| home.life == at.life);
            if home.is_some_and(|home| [pending.epoch, *epoch].contains(&home.top().epoch)) {
                self.append_has(cx, at, token, *epoch, publication);
            }
        }
    }

    /// A late answer: it updates the channel; the asker has been answered.
    fn answered_late(&mut self, cx: &mut Cx<'_>, pending: PendingOp, answer: StoreAnswer) {
        let PendingOp { home: index, life, epoch: asked_in, what, .. } = pending;
        let appended = matches!(answer, StoreAnswer::Appended { .. });
        self.counts.publications += u64::from(appended);
        let Some(home) = self.homes.get(index as usize).filter(|home| home.life == life) else { return };
        let top = home.top();
        match (what, answer) {
            (Purpose::Attach, StoreAnswer::Attached(top) | StoreAnswer::EpochLost(top)) => {
                self.attached(cx, index, top)
            }
            (Purpose::Append { .. }, StoreAnswer::Appended { epoch, publication }) if epoch == top.epoch => {
                self.accept(cx, index, epoch, publication);
            }
            (Purpose::Fill, StoreAnswer::Page(page)) if asked_in == top.epoch && page.top.epoch == top.epoch => {
                self.fill(cx, index, page);
            }
            (_, StoreAnswer::Appended { .. } | StoreAnswer::Page(_) | StoreAnswer::EpochLost(_)) if home.is_live() => {
                self.look_ahead(cx, index); // of another epoch: a read shows which is the newer one
            }
            _ => {}
        }
        self.linger(cx, index);
    }

    /// True where the time of something is over that the slice had no room for.
    pub(super) fn is_overdue(&self) -> bool {
        self.ops.overdue
    }

    /// The time of the operation that has waited longest may be over: it is answered without the store, as far as the
    /// slice goes.
    pub(crate) fn store_timeout(&mut self, cx: &mut Cx<'_>) {
        self.ops.overdue = false;
        while self.ops.is_due(cx.now.mono_ms) {
            if cx.slice.is_spent() {
                self.ops.overdue = true;
                return;
            }
            cx.slice.spend(1);
            if let Some((token, pending)) = self.ops.next_due(cx.now.mono_ms) {
                self.timed_out(cx, token, pending);
            }
        }
        self.ops.is_timed = false;
        if let Some((_, first)) = self.ops.waiting.first_key_value() {
            self.ops.is_timed = true;
            cx.wheel.add(first.due_ms, Timer::Store);
        }
    }

    fn timed_out(&mut self, cx: &mut Cx<'_>, token: OpToken, pending: PendingOp) {
        let PendingOp { home: index, life, epoch, again, what, due_ms, bytes } = pending;
        let Some(home) = self.homes.get_mut(index as usize).filter(|home| home.life == life) else { return };
        home.pending -= 1;
        self.counts.store_failures += 1;
        let late = |what| PendingOp { home: index, life, epoch, again, what, due_ms, bytes };
        let answer = match &what {
            Purpose::Message { .. } => {
                home.no_longer_waits(token);
                let name = home.name.clone();
                let Purpose::Message { shard, message } = what else { return };
                if let ToHome::Members(members) = message {
                    home.at_most(shard, members);
                    self.notice_occupancy(cx, index);
                }
                self.turn_away(cx, &name, shard, message);
                return self.linger(cx, index);
            }
            Purpose::Append { to } => {
                let what = Purpose::Append { to: *to };
                self.ops.keep_late(token, late(what));
                StoreAnswer::Unknown
            }
            Purpose::Attach => {
                self.ops.keep_late(token, late(Purpose::Attach));
                StoreAnswer::Unavailable
            }
            Purpose::Fill => {
                self.ops.keep_late(token, late(Purpose::Fill));
                StoreAnswer::Unavailable
            }
            Purpose::Purge { .. } => StoreAnswer::Unknown,
            _ => StoreAnswer::Unavailable,
        };
        let is_append = matches!(what, Purpose::Append { .. });
        self.complete(cx, index, what, answer);
        if is_append {
            self.append_over(cx, HomeRef { index, life }, token);
        }
        self.linger(cx, index);
    }

    /// A channel is attached: the waiting messages are handled, a slice a turn.
    pub(super) fn take_waiting(&mut self, cx: &mut Cx<'_>, index: u32, life: u32) {
        for _ in 0..WAITING_SLICE {
            let Some(home) = self.homes.get_mut(index as usize).filter(|home| home.life == life) else { return };
            let Some(token) = home.waiting.as_mut().and_then(|waiting| waiting.pop_front()) else {
                home.waiting = None;
                return self.linger(cx, index);
            };
            if let Some(PendingOp { what: Purpose::Message { shard, message }, .. }) = self.ops.take(token) {
                home.pending -= 1;
                self.take_in(cx, index, shard, message);
            }
        }
        self.later.push_back(Later::Waiting { home: index, life });
    }

    /// A message is answered with the error that the store cannot be asked now.
    pub(super) fn turn_away(&mut self, cx: &mut Cx<'_>, name: &ChannelName, from: ShardId, message: ToHome) {
        let error = unavailable(cx.limits, name);
        let error = if self.is_full(cx.limits) { error.by_limit("store_waiting_bytes_max") } else { error };
        self.refuse(cx, name, from, message, error);
    }

    /// A message to a channel that is not used is answered with this error, or as if it was done to nobody.
    pub(super) fn refuse(&mut self, cx: &mut Cx<'_>, name: &ChannelName, from: ShardId, message: ToHome, error: Error) {
        let answer = match message {
            ToHome::Sub { token, .. } => ToEdge::Subscribed { token, result: Err(error) },
            ToHome::Publish { token, .. } => ToEdge::Published { token, result: Err(error) },
            ToHome::History { token, .. } => ToEdge::History { token, result: Err(error) },
            ToHome::Pull { token, .. } => ToEdge::Pulled { token, result: Err(error) },
            ToHome::Presence { token } => {
                let snapshot = PresenceSnapshot { seq: self.presence_seq, count: 0, entries: Some(Vec::new()) };
                ToEdge::Presence { token, snapshot } // of a channel that is not used
            }
            ToHome::Unlogged { token, .. } => ToEdge::Done { token, result: Err(error) },
            ToHome::Mark { token } => ToEdge::Marked { token, result: Err(error) },
            ToHome::Purge { token } => ToEdge::Done { token, result: Err(error) },
            // A channel that is not used has no listeners.
            ToHome::Signal { token, signal } if signal.signal.to.is_some() => ToEdge::SignalSent { token, expected: 0 },
            ToHome::Signal { token, .. } => ToEdge::Done { token, result: Ok(()) },
            ToHome::Enter { .. }
            | ToHome::Leave { .. }
            | ToHome::Members(_)
            | ToHome::Release { .. }
            | ToHome::Inform { .. }
            | ToHome::Behind => return,
        };
        self.links.sent(from, answer.cost());
        cx.out.push_back((from, PeerBody::Edge(name.clone(), answer)));
    }

    /// The store refused to attach a while ago, or did not answer: ask again, where somebody still needs the channel.
    pub(crate) fn retry_attach(&mut self, cx: &mut Cx<'_>, index: u32, life: u32) {
        let Some(home) = self.homes.get(index as usize).filter(|home| home.life == life) else { return };
        if home.is_live() {
            return;
        }
        if home.is_unused() {
            return self.give_up(cx, index); // an attach may have taken effect without an answer
        }
        let channel = home.name.clone();
        self.submit(cx, index, Purpose::Attach, Op::Attach { channel });
    }
}

impl Home {
    fn no_longer_waits(&mut self, token: OpToken) {
        if let Some(waiting) = &mut self.waiting {
            // All wait for the same time, so it is the first.
            match waiting.front() {
                Some(first) if *first == token => drop(waiting.pop_front()),
                _ => waiting.retain(|other| *other != token),
            }
            if waiting.is_empty() && matches!(self.state, State::Attaching) {
                self.waiting = None;
            }
        }
    }
}

pub(super) type Waiting = Option<Box<VecDeque<OpToken>>>;

fn unavailable(limits: &Limits, name: &ChannelName) -> Error {
    let message = format!(
        "the store has not answered within {} ms, or {} bytes wait for it already",
        limits.store_timeout_ms, limits.store_waiting_bytes_max
    );
    Error::new(ErrorCode::Unavailable, message).on(name)
}
