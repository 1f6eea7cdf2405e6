//! Homes: the channels that this shard orders. Each keeps the channel's place, its presence and which shards want to
//! hear.
//!
//! In: [`ToHome`] messages of edges (this shard's own among them) and answers of the store. Out: [`ToEdge`] messages,
//! in the order that edges rely on: an answer with a place stands in the same stream as the deliveries after
//! it. A home attaches to the store at its first use and detaches after a while without interest, presence or open
//! questions.

mod inspect;
mod left;
mod links;
mod list;
mod marks;
mod notices;
mod ops;
mod order;
mod presence;
mod read;

use crate::act::Act;
use crate::error::{Error, ErrorCode};
use crate::hook::{Hooks, Notice, NoticeKinds};
use crate::ids::{Epoch, Position, ShardId};
use crate::limits::Limits;
use crate::message::{Publication, start_of};
use crate::name::ChannelName;
use crate::names::Names;
use crate::peer::{Maker, PeerBody, Published, ReplyAddress, ToEdge, ToHome};
use crate::rng::Keyed;
use crate::rules::{Retain, Rules};
use crate::slice::Slice;
use crate::slots::Slots;
use crate::store::{Entry, Op, Page, Rest, Store, StoreAnswer};
use crate::time::Now;
use crate::timer::Timer;
use crate::watch::{Held, HomeCounts};
use crate::wheel::Wheel;
use left::Left;
use links::Links;
use marks::Marks;
use ops::{Ops, PendingOp, Purpose, Waiting};
use order::Order;
use presence::Presence;
use read::Scan;
use smallvec::SmallVec;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// The parts of the shard that a home uses.
pub(crate) struct Cx<'a> {
    pub(crate) now: Now,
    /// The work for many that this input may still do.
    pub(crate) slice: &'a mut Slice,
    pub(crate) rules: &'a Rules,
    pub(crate) hooks: &'a Hooks,
    pub(crate) limits: &'a Limits,
    pub(crate) store: &'a mut dyn Store,
    pub(crate) wheel: &'a mut Wheel<Timer>,
    /// Messages to shards, this one included.
    pub(crate) out: &'a mut VecDeque<(ShardId, PeerBody)>,
}

/// All homes of a shard.
#[derive(Debug)]
pub(crate) struct Homes {
    names: Names,
    /// The same in the order of their names, for lists.
    in_order: Order,
    homes: Slots<Home>,
    ops: Ops,
    /// As many as there are commands without an answer, and channels.
    later: VecDeque<Later>,
    /// Numbers signals for one client.
    next_signal: u64,
    links: Links,
    left: Left,
    /// The highest number of a change of presence in homes that are gone: later ones go on from it.
    presence_seq: u64,
    /// The marks of homes whose store has not answered an append, or has named places that they have not reached.
    marks: BTreeMap<HomeRef, Marks>,
    /// Tells one life of a slab place from the next in timers.
    next_life: u32,
    /// The next home that follows the new rules, while a reload is under way.
    reloading: Option<usize>,
    /// Shards whose links have room, and whose edges are still being nudged.
    nudging: VecDeque<ShardId>,
    /// Leaves are being forgotten whose time is over.
    forgetting: bool,
    /// For the application, until the end of the input.
    notices: Vec<Notice>,
    pub(crate) counts: HomeCounts,
}

#[derive(Debug)]
struct Home {
    name: ChannelName,
    life: u32,
    state: State,
    retain: Retain,
    /// Mostly of one shard.
    interests: SmallVec<[Interest; 1]>,
    presence: Option<Box<Presence>>,
    /// Operations that the store has not answered, and messages that wait.
    pending: u32,
    /// Messages that wait until it is attached, in order; and then until they have been taken in.
    waiting: Waiting,
    /// The entries after the top are being read: a hole was seen, or the store may hold more than it answered.
    filling: bool,
    /// There was reason to read it again meanwhile.
    ahead: bool,
    /// The linger timer runs.
    lingering: bool,
    /// The application is notified of these.
    notify: NoticeKinds,
    /// Somebody subscribes, as the application was last notified.
    occupied: bool,
}

#[derive(Debug)]
enum State {
    /// The store was asked for the channel's position; messages that need it wait.
    Attaching,
    /// The place up to which the channel has been delivered.
    Live(Position),
}

/// A home in one life of its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct HomeRef {
    index: u32,
    life: u32,
}

/// A shard that wants to hear, as the home sees it.
#[derive(Debug)]
struct Interest {
    shard: ShardId,
    /// The edge's numbering of `Sub` and `Release`: older ones are ignored.
    seq: u64,
    /// Its subscriptions that this home has taken, and perhaps some that have left since its last message.
    members: u32,
    /// Deliveries are not sent until it has pulled up to the top.
    behind: bool,
    /// Presence changes were left out meanwhile: it gets the whole when it has caught up.
    presence_missed: bool,
}

/// Work that goes on in a later turn.
#[derive(Debug)]
enum Later {
    /// The next step of a read.
    Scan { home: u32, life: u32, what: Purpose },
    /// Messages that waited for the channel to be attached.
    Waiting { home: u32, life: u32 },
}

impl Homes {
    pub(crate) fn new(shards: usize, hash: Keyed, limits: &Limits) -> Self {
        Homes {
            names: Names::new(hash),
            in_order: Order::default(),
            homes: Slots::new(),
            ops: Ops::default(),
            later: VecDeque::new(),
            next_signal: 0,
            links: Links::new(shards),
            // A shard alone hears all that is said of a session in its order.
            left: Left::new(hash, if shards > 1 { limits.presence_left_max } else { 0 }),
            presence_seq: 0,
            marks: BTreeMap::new(),
            next_life: 0,
            reloading: None,
            nudging: VecDeque::new(),
            forgetting: false,
            notices: Vec::new(),
            counts: HomeCounts::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.homes.len()
    }

    /// Adds what is held here.
    pub(crate) fn held(&self, held: &mut Held) {
        held.queued += self.later.len() + self.nudging.len();
        held.left += self.left.len();
        held.store_operations += self.ops.waiting_len();
        held.link_bytes = self.links.bytes_most();
        held.link_signal_bytes = self.links.signals_bytes_most();
    }

    /// Called about once a second.
    pub(crate) fn tidy(&mut self, cx: &mut Cx<'_>) {
        self.forgetting = self.left.tidy(cx.now.mono_ms, cx.slice);
    }

    /// An edge says something about a channel that lives here.
    pub(crate) fn handle(&mut self, cx: &mut Cx<'_>, from: ShardId, name: ChannelName, message: ToHome) {
        self.handle_by(cx, from, name, message, None);
    }

    /// The same. `maker`: the client that wants it, whose rate of new names a new channel takes from.
    pub(crate) fn handle_by(
        &mut self,
        cx: &mut Cx<'_>,
        from: ShardId,
        name: ChannelName,
        message: ToHome,
        maker: Option<Maker>,
    ) {
        let index = match self.names.find(&name, |at| &self.homes[at as usize].name) {
            Some(index) => index,
            // A release for an unknown channel needs no home. A leave may have overtaken the entering that it ends.
            None if message.needs_no_home() => {
                if let ToHome::Leave { client, incarnation, .. } = message {
                    self.remember_left(cx.now, &name, client, incarnation);
                }
                return;
            }
            // A client that enters or leaves has a subscription, and subscriptions are bounded.
            None if self.is_full(cx.limits) && !message.is_of_presence() => {
                return self.turn_away(cx, &name, from, message);
            }
            None => {
                if let Some(Maker { session, waits_ms }) = maker.filter(|_| !cx.store.knows(&name)) {
                    if let Some(waits_ms) = waits_ms {
                        let error = Error::too_many_names(&cx.limits.quotas).on(&name).after_ms(waits_ms);
                        return self.refuse(cx, &name, from, message, error);
                    }
                    cx.out.push_back((from, PeerBody::Made(session)));
                }
                self.create(cx, name)
            }
        };
        // A number of subscriptions is not told before those that wait: one of them may have left already.
        let is_behind = matches!(message, ToHome::Members(_)) && self.homes[index as usize].waiting.is_some();
        if message.needs_store() || is_behind {
            self.ask_store(cx, index, from, message);
        } else {
            self.take_in(cx, index, from, message);
        }
    }

    fn create(&mut self, cx: &mut Cx<'_>, name: ChannelName) -> u32 {
        self.next_life = self.next_life.wrapping_add(1);
        let retain = cx.rules.of(&name).map_or(Retain { count: 0, bytes: 0, ttl_ms: 0 }, |rule| rule.history);
        let notify = cx.hooks.channels.of(&name);
        let index = self.homes.insert(Home {
            name: name.clone(),
            life: self.next_life,
            state: State::Attaching,
            retain,
            interests: SmallVec::new(),
            presence: None,
            pending: 0,
            waiting: None,
            filling: false,
            ahead: false,
            lingering: false,
            notify,
            occupied: false,
        }) as u32;
        let homes = &self.homes;
        self.names.insert(&name, index, |at| &homes[at as usize].name);
        self.in_order.insert(index, |at| &homes[at as usize].name);
        self.submit(cx, index, Purpose::Attach, Op::Attach { channel: name });
        index
    }

    /// The rules or the hooks have changed: the kept history and the notices follow them, in slices. A second reload
    /// starts again from the first home.
    pub(crate) fn reload(&mut self, cx: &mut Cx<'_>) {
        self.reloading = Some(0);
        self.reload_on(cx);
    }

    fn reload_on(&mut self, cx: &mut Cx<'_>) {
        let Some(mut next) = self.reloading.take() else { return };
        while next < self.homes.end() {
            if cx.slice.is_spent() {
                self.reloading = Some(next);
                return;
            }
            cx.slice.spend(1);
            if let Some(home) = self.homes.get_mut(next) {
                let retain = cx.rules.of(&home.name).map(|rule| rule.history);
                home.retain = retain.unwrap_or(Retain { count: 0, bytes: 0, ttl_ms: 0 });
                home.notify = cx.hooks.channels.of(&home.name);
                self.presence_reloaded(cx, next as u32);
                self.notice_occupancy(cx, next as u32);
            }
            next += 1;
        }
    }

    /// True where something waits for its next slice.
    pub(crate) fn has_more(&self) -> bool {
        self.reloading.is_some()
            || self.is_overdue()
            || self.forgetting
            || !self.nudging.is_empty()
            || !self.later.is_empty()
    }

    /// Goes on with interrupted work.
    pub(crate) fn go_on(&mut self, cx: &mut Cx<'_>) {
        let (reloading, overdue, forgetting) = (self.reloading.is_some(), self.is_overdue(), self.forgetting);
        let share = cx.slice.share(1 + [reloading, overdue, forgetting].into_iter().map(usize::from).sum::<usize>());
        if reloading {
            cx.slice.begin(share);
            self.reload_on(cx);
        }
        if overdue {
            cx.slice.begin(share);
            self.store_timeout(cx);
        }
        if forgetting {
            cx.slice.begin(share);
            self.tidy(cx);
        }
        cx.slice.begin(share);
        if let Some(shard) = self.nudging.pop_front() {
            self.nudge(cx, shard);
        }
        self.go_on_later(cx);
    }

    fn take_in(&mut self, cx: &mut Cx<'_>, index: u32, from: ShardId, message: ToHome) {
        let home = &mut self.homes[index as usize];
        match message {
            ToHome::Sub { token, want, members, .. } => {
                self.subscribe(cx, index, ReplyAddress { shard: from, token }, want, members)
            }
            ToHome::Members(members) => {
                home.at_most(from, members);
                self.notice_occupancy(cx, index);
            }
            ToHome::Release { seq } => {
                home.interests.retain(|i| i.shard != from || i.seq > seq);
                if home.interests.iter().all(|i| i.shard != from) {
                    self.links.take_signals(from, HomeRef { index, life: home.life });
                }
                self.notice_occupancy(cx, index);
                self.linger(cx, index);
            }
            ToHome::Publish { token, entry } => self.append(cx, index, ReplyAddress { shard: from, token }, entry),
            ToHome::Signal { token, signal } => self.signal(cx, index, from, token, signal),
            ToHome::Unlogged { token, entry } => self.unlogged(cx, index, ReplyAddress { shard: from, token }, *entry),
            ToHome::Enter { token, entry, incarnation } => {
                let result = self.enter(cx, index, entry, incarnation);
                if let Some(token) = token {
                    self.answer(cx, index, from, ToEdge::Done { token, result });
                }
                self.linger(cx, index);
            }
            ToHome::Leave { token, client, incarnation } => {
                self.leave(cx, index, client, incarnation);
                if let Some(token) = token {
                    self.answer(cx, index, from, ToEdge::Done { token, result: Ok(()) });
                }
                self.linger(cx, index);
            }
            ToHome::Inform { client, incarnation, info } => self.inform(cx, index, client, incarnation, info),
            ToHome::Presence { token } => {
                let snapshot = home.snapshot(cx, self.presence_seq);
                self.answer(cx, index, from, ToEdge::Presence { token, snapshot });
                self.linger(cx, index);
            }
            ToHome::History { token, query, reader, reads } => {
                self.history(cx, index, ReplyAddress { shard: from, token }, query, reader, reads)
            }
            ToHome::Mark { token } => self.mark(cx, index, ReplyAddress { shard: from, token }),
            ToHome::Purge { token } => {
                let channel = home.name.clone();
                self.submit(
                    cx,
                    index,
                    Purpose::Purge { to: ReplyAddress { shard: from, token } },
                    Op::Purge { channel },
                );
            }
            ToHome::Pull { token, at, puller } => self.pull(cx, index, ReplyAddress { shard: from, token }, at, puller),
            ToHome::Behind => {
                if let Some(interest) = home.interests.iter_mut().find(|i| i.shard == from) {
                    interest.behind = true;
                }
            }
        }
    }

    fn append(&mut self, cx: &mut Cx<'_>, index: u32, to: ReplyAddress, mut entry: Box<Entry>) {
        entry.ts_ms = cx.now.wall_ms;
        let retain = self.homes[index as usize].retain;
        self.submit(cx, index, Purpose::Append { to }, Op::Append { entry, retain });
        self.linger(cx, index);
    }

    fn answered(&mut self, cx: &mut Cx<'_>, pending: PendingOp, answer: StoreAnswer) {
        let PendingOp { home: index, life, epoch: asked_in, again, what, .. } = pending;
        let Some(home) = self.homes.get_mut(index as usize).filter(|home| home.life == life) else { return };
        home.pending -= 1;
        match &answer {
            StoreAnswer::Appended { .. } => self.counts.publications += 1,
            StoreAnswer::Duplicate(_) => self.counts.duplicates += 1,
            StoreAnswer::Unavailable | StoreAnswer::Unknown => self.counts.store_failures += 1,
            StoreAnswer::EpochLost(_) => self.counts.epochs_lost += 1,
            _ => {}
        }
        let top = home.top();
        let named = match &answer {
            StoreAnswer::EpochLost(to) => Some(*to),
            StoreAnswer::Page(page) => Some(page.top),
            StoreAnswer::Appended { epoch, publication } => Some(Position { epoch: *epoch, offset: publication.prev }),
            _ => None,
        };
        let lost = matches!(answer, StoreAnswer::EpochLost(_));
        if let Some(to) = named.filter(|to| home.is_live() && (lost || to.epoch != top.epoch)) {
            // The publisher's answer precedes its own copy, and a loss before it.
            if let (Purpose::Append { to }, StoreAnswer::Appended { epoch, publication }) = (&what, &answer) {
                let position = Position { epoch: *epoch, offset: publication.offset };
                self.published(cx, index, *to, position, false);
            }
            if asked_in == top.epoch && to.epoch != top.epoch {
                self.epoch_lost(cx, index, to);
                if let StoreAnswer::Appended { epoch, publication } = answer {
                    self.accept(cx, index, epoch, publication);
                } else if !lost {
                    self.complete(cx, index, what, answer);
                } else {
                    self.ask_again(cx, index, what, again);
                }
            } else {
                // Asked in an earlier epoch: the answer does not show whether its epoch is older or newer than ours.
                if !matches!(answer, StoreAnswer::Appended { .. }) {
                    self.ask_again(cx, index, what, again);
                }
                self.look_ahead(cx, index);
            }
        } else if matches!(what, Purpose::Fill) && asked_in != top.epoch {
            // The page follows a position of an earlier epoch. That it is incomplete says nothing about this epoch.
            home.filling = false;
            self.look_ahead(cx, index);
        } else {
            self.complete(cx, index, what, answer);
        }
        self.linger(cx, index);
    }

    /// The answer only said that an epoch was lost. A read is repeated, once.
    fn ask_again(&mut self, cx: &mut Cx<'_>, index: u32, mut what: Purpose, again: bool) {
        match &mut what {
            _ if again => return self.refused(cx, index, what, &StoreAnswer::Unavailable),
            Purpose::Scan { scan, .. } => scan.begin_again(),
            Purpose::Sub { .. } | Purpose::Pull { .. } | Purpose::Fill => {}
            _ => return self.refused(cx, index, what, &StoreAnswer::Unknown),
        }
        self.read(cx, index, what, true);
    }

    /// The store may hold more than it answered: reads the entries after the top.
    fn look_ahead(&mut self, cx: &mut Cx<'_>, index: u32) {
        let home = &mut self.homes[index as usize];
        if std::mem::replace(&mut home.filling, true) {
            home.ahead = true;
            return;
        }
        self.read(cx, index, Purpose::Fill, false);
    }

    /// An answer in the epoch that the home is in.
    fn complete(&mut self, cx: &mut Cx<'_>, index: u32, what: Purpose, answer: StoreAnswer) {
        match (what, answer) {
            (Purpose::Attach, StoreAnswer::Attached(top)) => self.attached(cx, index, top),
            (Purpose::Append { to }, StoreAnswer::Appended { epoch, publication }) => {
                // The publisher's answer precedes its own copy.
                let position = Position { epoch, offset: publication.offset };
                self.published(cx, index, to, position, false);
                self.accept(cx, index, epoch, publication);
            }
            (Purpose::Append { to }, StoreAnswer::Duplicate(position)) => {
                self.published(cx, index, to, position, true);
            }
            (Purpose::Sub { to, want }, StoreAnswer::Page(page)) => self.begin(cx, index, to, want, page),
            (Purpose::Scan { to, scan }, StoreAnswer::Page(page)) => self.scanned(cx, index, to, scan, page),
            (Purpose::Pull { to, at, puller }, StoreAnswer::Page(page)) => self.pulled(cx, index, to, at, puller, page),
            (Purpose::Fill, StoreAnswer::Page(page)) => self.fill(cx, index, page),
            (Purpose::Purge { to }, StoreAnswer::Done) => {
                self.answer(cx, index, to.shard, ToEdge::Done { token: to.token, result: Ok(()) });
            }
            (Purpose::Detach, _) => {}
            (Purpose::Attach, StoreAnswer::EpochLost(top)) => self.attached(cx, index, top),
            (what, answer) => {
                let maybe_appended = matches!((&what, &answer), (Purpose::Append { .. }, StoreAnswer::Unknown));
                self.refused(cx, index, what, &answer);
                if maybe_appended {
                    self.look_ahead(cx, index);
                }
            }
        }
    }

    fn published(&mut self, cx: &mut Cx<'_>, index: u32, to: ReplyAddress, position: Position, duplicate: bool) {
        let home = &self.homes[index as usize];
        let (subscribers, edges) = (home.subscribers(), home.interests.len() as u32);
        let result = Ok(Published { position, duplicate, subscribers, edges });
        self.answer(cx, index, to.shard, ToEdge::Published { token: to.token, result });
    }

    /// Sends something to the edges that has no place in the log. It is judged as the next entry would be.
    fn unlogged(&mut self, cx: &mut Cx<'_>, index: u32, to: ReplyAddress, mut entry: Entry) {
        entry.ts_ms = cx.now.wall_ms;
        let home = &self.homes[index as usize];
        let Position { epoch, offset } = home.top();
        let is_list = matches!(entry.act.as_deref(), Some(Act::List(_)));
        let publication = Arc::new(entry.at(offset, offset + 1, None));
        let message = || ToEdge::Unlogged { epoch, publication: publication.clone() };
        if is_list {
            let shards: Vec<ShardId> = home.interests.iter().map(|interest| interest.shard).collect();
            self.answer(cx, index, to.shard, ToEdge::Listed { token: to.token, edges: shards.len() as u32 });
            for shard in shards {
                self.answer(cx, index, shard, message());
            }
        } else {
            self.answer(cx, index, to.shard, ToEdge::Done { token: to.token, result: Ok(()) });
            self.tell_interested(cx, index, |_| message());
        }
        self.linger(cx, index);
    }

    fn attached(&mut self, cx: &mut Cx<'_>, index: u32, top: Position) {
        let home = &mut self.homes[index as usize];
        if !home.is_live() {
            home.state = State::Live(top);
            let life = home.life;
            self.take_waiting(cx, index, life);
        }
    }

    /// A publication has its place: deliver it, if it is the next one.
    fn accept(&mut self, cx: &mut Cx<'_>, index: u32, epoch: Epoch, publication: Arc<Publication>) {
        let home = &mut self.homes[index as usize];
        let State::Live(top) = &mut home.state else { return };
        if epoch != top.epoch || publication.offset <= top.offset {
            return; // of a numbering that is gone, or delivered already
        }
        if publication.prev == top.offset {
            top.offset = publication.offset;
            self.notice_published(cx, index, epoch, &publication);
            self.tell_interested(cx, index, |_| ToEdge::Deliver { epoch, publication: publication.clone() });
        } else {
            // A hole: the store has entries in between whose answers are still on the way, or will never come.
            self.look_ahead(cx, index);
        }
    }

    /// The entries after the top have been read, in the home's own epoch.
    fn fill(&mut self, cx: &mut Cx<'_>, index: u32, page: Page) {
        let home = &mut self.homes[index as usize];
        let State::Live(top) = &mut home.state else { return };
        let (before, start) = (*top, page.start);
        if !page.complete && start > top.offset {
            top.offset = start;
            let to = *top;
            self.tell_interested(cx, index, |_| ToEdge::Skip { to });
        }
        for publication in page.publications {
            self.accept(cx, index, page.top.epoch, publication);
        }
        let home = &mut self.homes[index as usize];
        home.filling = false;
        let again = std::mem::take(&mut home.ahead) || page.rest != Rest::Nothing;
        if again && home.top() != before {
            self.look_ahead(cx, index);
        } else if again {
            self.fill_later(cx, index);
        }
    }

    fn fill_later(&mut self, cx: &mut Cx<'_>, index: u32) {
        let life = self.homes[index as usize].life;
        cx.wheel.add(cx.now.mono_ms + cx.limits.linger_ms, Timer::Fill { home: index, life });
    }

    fn epoch_lost(&mut self, cx: &mut Cx<'_>, index: u32, to: Position) {
        match &mut self.homes[index as usize].state {
            State::Attaching => self.attached(cx, index, to),
            State::Live(top) if top.epoch == to.epoch => {}
            State::Live(top) => {
                *top = to;
                self.tell_interested(cx, index, |_| ToEdge::Skip { to });
            }
        }
    }

    /// The store did not do it: the asker gets an error that says whether to try again.
    fn refused(&mut self, cx: &mut Cx<'_>, index: u32, what: Purpose, answer: &StoreAnswer) {
        let home = &mut self.homes[index as usize];
        let error = |code, text: &str| Error::new(code, text).on(&home.name);
        let error = match answer {
            StoreAnswer::KeyConflict => {
                error(ErrorCode::KeyConflict, "the key was used for another payload within the last minutes")
            }
            // A read changes nothing, so nothing was done.
            StoreAnswer::Unknown if matches!(what, Purpose::Append { .. } | Purpose::Purge { .. }) => {
                error(ErrorCode::Unknown, "the store did not say whether it took this")
            }
            _ => error(ErrorCode::Unavailable, "the store cannot be reached, or did not answer in time"),
        };
        match what {
            Purpose::Append { to } => {
                self.answer(cx, index, to.shard, ToEdge::Published { token: to.token, result: Err(error) })
            }
            Purpose::Sub { to, .. } => {
                self.answer(cx, index, to.shard, ToEdge::Subscribed { token: to.token, result: Err(error) });
            }
            Purpose::Scan { to, scan } => {
                self.answer(cx, index, to.shard, scan.refused(to.token, error));
            }
            Purpose::Pull { to, .. } => {
                self.answer(cx, index, to.shard, ToEdge::Pulled { token: to.token, result: Err(error) })
            }
            Purpose::Purge { to } => {
                self.answer(cx, index, to.shard, ToEdge::Done { token: to.token, result: Err(error) });
            }
            Purpose::Fill => {
                home.filling = false;
                self.fill_later(cx, index);
            }
            Purpose::Attach => {
                cx.wheel.add(cx.now.mono_ms + cx.limits.linger_ms, Timer::Attach { home: index, life: home.life })
            }
            Purpose::Detach | Purpose::Message { .. } => {}
        }
    }

    /// A hole could not be read a while ago: try again.
    pub(crate) fn retry_fill(&mut self, cx: &mut Cx<'_>, index: u32, life: u32) {
        if self.homes.get(index as usize).is_some_and(|home| home.life == life) {
            self.look_ahead(cx, index);
        }
    }

    /// Says something to every interested shard that is not behind; one whose link is full becomes behind. Presence
    /// and signals are made up for when it has caught up.
    fn tell_interested(&mut self, cx: &mut Cx<'_>, index: u32, message: impl Fn(ShardId) -> ToEdge) {
        let home = &mut self.homes[index as usize];
        for interest in &mut home.interests {
            let message = message(interest.shard);
            if !interest.behind && !self.links.has_room(interest.shard, cx.limits.link_bytes_max) {
                interest.behind = true;
                self.counts.links_full += 1;
                self.links.wait(interest.shard, HomeRef { index, life: home.life });
            }
            if interest.behind {
                interest.presence_missed |= message.is_presence();
                if let ToEdge::Signal { signal, directed: None } = message {
                    let home = HomeRef { index, life: home.life };
                    self.counts.signals_dropped += self.links.keep(interest.shard, home, signal, cx.limits);
                }
                continue;
            }
            self.links.sent(interest.shard, message.cost());
            cx.out.push_back((interest.shard, PeerBody::Edge(home.name.clone(), message)));
        }
    }

    /// Answers are always sent: their number is bounded by each connection's admission.
    fn answer(&mut self, cx: &mut Cx<'_>, index: u32, to: ShardId, message: ToEdge) {
        self.links.sent(to, message.cost());
        cx.out.push_back((to, PeerBody::Edge(self.homes[index as usize].name.clone(), message)));
    }

    /// A shard has taken in so many bytes: edges that waited for room are nudged to pull.
    pub(crate) fn acknowledged(&mut self, cx: &mut Cx<'_>, from: ShardId, bytes: usize) {
        self.links.acknowledged(from, bytes);
        self.nudge(cx, from);
    }

    /// Tells the channels of a shard whose link has room to pull, as far as the slice goes. One that has no interest
    /// any more, or waits twice, is passed over.
    fn nudge(&mut self, cx: &mut Cx<'_>, from: ShardId) {
        while self.links.has_room(from, cx.limits.link_bytes_max) {
            if cx.slice.is_spent() && self.links.is_any_waiting(from) {
                if !self.nudging.contains(&from) {
                    self.nudging.push_back(from);
                }
                return;
            }
            let Some(HomeRef { index, life }) = self.links.next_waiting(from) else { break };
            cx.slice.spend(1);
            let Some(home) = self.homes.get(index as usize).filter(|home| home.life == life) else { continue };
            let behind = home.interests.iter().any(|i| i.shard == from && i.behind);
            if behind {
                self.answer(cx, index, from, ToEdge::Nudge);
            }
        }
    }

    /// Starts the clock of a home that nobody needs.
    fn linger(&mut self, cx: &mut Cx<'_>, index: u32) {
        let home = &mut self.homes[index as usize];
        if home.is_idle() && !home.lingering {
            home.lingering = true;
            cx.wheel.add(cx.now.mono_ms + cx.limits.linger_ms, Timer::HomeLinger { home: index, life: home.life });
        }
    }

    /// The time of a home that nobody needed has come: detach, unless somebody does by now.
    pub(crate) fn lingered(&mut self, cx: &mut Cx<'_>, index: u32, life: u32) {
        let Some(home) = self.homes.get_mut(index as usize).filter(|home| home.life == life) else { return };
        home.lingering = false;
        if !home.is_idle() {
            return;
        }
        self.give_up(cx, index);
    }

    /// Nobody needs the channel: it is detached, and its home goes.
    fn give_up(&mut self, cx: &mut Cx<'_>, index: u32) {
        let channel = self.homes[index as usize].name.clone();
        self.submit(cx, index, Purpose::Detach, Op::Detach { channel });
        let homes = &self.homes;
        self.in_order.remove(index, |at| &homes[at as usize].name);
        let home = self.homes.remove(index as usize);
        self.presence_ends(&home);
        let homes = &self.homes;
        self.names.remove(&home.name, index, |at| &homes[at as usize].name);
        self.marks.remove(&HomeRef { index, life: home.life });
    }
}

impl Home {
    fn is_live(&self) -> bool {
        matches!(self.state, State::Live(_))
    }

    fn top(&self) -> Position {
        match self.state {
            State::Live(top) => top,
            State::Attaching => start_of(Epoch(0)),
        }
    }

    fn interest(&mut self, shard: ShardId, seq: u64) {
        match self.interests.iter_mut().find(|i| i.shard == shard) {
            Some(interest) => interest.seq = interest.seq.max(seq),
            None => self.interests.push(Interest { shard, seq, members: 0, behind: false, presence_missed: false }),
        }
    }

    /// A shard has at most so many subscriptions that were taken: others of it may wait for this home.
    fn at_most(&mut self, shard: ShardId, members: u32) {
        if let Some(interest) = self.interests.iter_mut().find(|i| i.shard == shard) {
            interest.members = interest.members.min(members);
        }
    }

    /// One more subscription of this shard is taken.
    fn takes_one(&mut self, shard: ShardId) {
        if let Some(interest) = self.interests.iter_mut().find(|i| i.shard == shard) {
            interest.members += 1;
        }
    }

    /// Subscriptions on all shards: never fewer than there are.
    fn subscribers(&self) -> u64 {
        self.interests.iter().map(|interest| u64::from(interest.members)).sum()
    }

    /// Deliveries to this shard go on. True where it missed presence changes meanwhile.
    fn caught_up(&mut self, shard: ShardId) -> bool {
        let Some(interest) = self.interests.iter_mut().find(|i| i.shard == shard) else { return false };
        interest.behind = false;
        std::mem::take(&mut interest.presence_missed)
    }

    fn is_idle(&self) -> bool {
        self.is_live() && self.is_unused()
    }

    fn is_unused(&self) -> bool {
        // An empty presence is dropped only with its home: subscribers compare with its `seq`.
        let empty = self.presence.as_ref().is_none_or(|p| p.is_empty());
        self.interests.is_empty() && self.pending == 0 && self.waiting.is_none() && empty
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Very many channels have one subscriber each: so a home must be small.
    #[test]
    fn a_home_stays_small() {
        assert!(size_of::<Home>() <= 120, "{} bytes", size_of::<Home>());
    }
}
