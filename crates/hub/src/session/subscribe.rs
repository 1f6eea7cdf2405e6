//! A subscription's life: asked of the application where it wants that, asked of the home, live or catching up, ended.
//!
//! The home's answer comes in the same stream as its deliveries, so it says exactly where the member starts. Every
//! subscription has an id of its own: an answer for one that was ended meanwhile finds nothing.

use super::app::ended_by_app;
use super::kept::{self, Keeps};
use super::lane::Waiting;
use super::pending::{Pending, PendingHook, PendingTable, ReplyTo};
use super::question::asks;
use super::rooms::Rooms;
use super::table::{AdmittedBy, Extra, Membership, Sub, SubState};
use super::{Cx, Sessions};
use crate::edge::batch;
use crate::edge::{EdgeRef, Member, MemberState, MovedMember, Variant};
use crate::error::{Error, ErrorCode};
use crate::hook::Question;
use crate::ids::{Epoch, Position, SessionRef};
use crate::message::{PresenceEntry, Push, ReplyBody, SubOptions, Subscribed, start_of};
use crate::name::ChannelName;
use crate::peer::{Entered, PendingToken, Start, Takes, ToHome, Want};
use crate::reads::Reads;
use crate::rules::{Action, Denial, Entitlement, Past, PresenceMode, Slow, Verdict, Who};
use crate::slice::Slice;
use crate::timer::Timer;
use crate::watch::Noted;
use std::sync::Arc;

/// A subscription of a session that is not decided: its id, and the edge that it holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct SubRef {
    pub(super) id: u32,
    pub(super) edge: u32,
}

/// How a `subscribe` is let in.
enum Admitted {
    /// As a new subscription, for this reason.
    New(AdmittedBy),
    /// The application has let it in already, in this slot: it begins anew.
    Anew { slot: usize },
}

impl Sessions {
    /// `goes_on`: the entry of a client that had entered the channel on an earlier connection, and still has.
    pub(super) fn subscribe(
        &mut self,
        cx: &mut Cx<'_>,
        at: SessionRef,
        reply: ReplyTo,
        options: SubOptions,
        goes_on: Option<Arc<PresenceEntry>>,
    ) {
        self.begin(cx, at);
        // The application's own subscription does not wait for a question about a publication: the handler of that
        // question may be the one that subscribes.
        let by_app = matches!(reply, ReplyTo::Counted(_));
        let waits =
            if by_app { self.is_undecided(at, &options.channel) } else { self.is_subscribing(at, &options.channel) };
        if waits {
            let channel = options.channel.clone();
            if let Some(session) = self.sessions.get(at) {
                session.extra().lanes.wait(&channel, Waiting::Subscribe(options, reply));
            }
            return;
        }
        let by = match self.try_subscribe(cx, at, &options, by_app) {
            Ok(Admitted::New(by)) => by,
            // The client's own `subscribe` was before that of its token: its options stay.
            Ok(Admitted::Anew { .. }) if reply == ReplyTo::Granted => {
                let message = format!("this connection is already subscribed to {:?}", options.channel);
                let error = Error::new(ErrorCode::AlreadySubscribed, message).on(&options.channel);
                return self.finish(cx, at, reply, ReplyBody::Error(error));
            }
            Ok(Admitted::Anew { slot }) => return self.subscribe_anew(cx, at, slot, reply, options),
            Err(error) => {
                if goes_on.is_some() {
                    self.leave_presence(cx, at, &options.channel);
                }
                if let Some(session) = self.sessions.get(at).filter(|_| error.code != ErrorCode::AlreadySubscribed) {
                    session.left(&options.channel);
                }
                return self.finish(cx, at, reply, ReplyBody::Error(error));
            }
        };
        let edge = self.edges.find_or_create(&options.channel);
        let Some(session) = self.sessions.get(at) else { return };
        let mut options = options;
        let kept_sub = if options.keep { session.take_kept(&options.channel) } else { None };
        let mut rooms = None;
        if options.keep {
            // The client had it on an earlier connection, perhaps, and does not know that it has ended since.
            let is_unheard = session.incarnation > 0;
            let keeps = Keeps::asked_with(options.since, is_unheard);
            // One that has had some would not show by its last one whether these have arrived.
            options.recent.take_if(|_| options.since.is_some());
            let back = kept_sub.and_then(|kept| kept::back(kept, options.since));
            options.since = back.as_ref().map(|(_, from)| *from);
            let begins = || Rooms::kept(None, Vec::new(), keeps);
            let mut kept = back.map_or_else(begins, |(rooms, _)| rooms);
            if let Some(keeps) = &mut kept.keeps {
                keeps.is_whole = options.whole;
            }
            rooms = Some(Box::new(kept));
        }
        session.next_sub += 1;
        let id = session.next_sub;
        session.subs.push(Sub {
            id,
            edge,
            by,
            state: SubState::Pending { ended: false },
            presence: options.presence,
            signals: options.signals,
            entered: goes_on,
            batch: batch::rounded(options.batch, cx.limits),
            slow: options.slow,
            rooms,
        });
        let reads = if by_app { Reads::All } else { session.reads(cx, &options.channel) };
        let takes = if by_app { Takes::OneMore } else { Takes::OneOfMax };
        let want = Want { since: options.since, recent: options.recent, reads, takes, client: session.client };
        let caller = (by == AdmittedBy::Hook).then(|| session.caller());
        self.edges.edges[edge as usize].pending += 1;
        self.sessions.subscriptions += 1;
        if let Some(caller) = caller {
            let hook = PendingHook::Subscribe { session: at, sub: id, edge, reply, want };
            self.question(cx, hook, Question::Subscribe { caller, options: Box::new(options) });
        } else {
            self.ask_place(cx, at, SubRef { id, edge }, reply, want);
        }
    }

    fn ask_place(&mut self, cx: &mut Cx<'_>, at: SessionRef, sub: SubRef, reply: ReplyTo, want: Want) {
        let SubRef { id, edge } = sub;
        let token = self.pending.insert(Pending::Subscribe { session: at, sub: id, edge, reply });
        let session = self.sessions.get(at);
        let is_client =
            session.is_some_and(|it| it.sub_of_id(id).is_some_and(|slot| it.subs[slot].by != AdmittedBy::App));
        self.ask_sub(cx, edge, token, want, is_client.then_some(at));
    }

    /// Asks the home for a place in the channel of this edge, for the client of a session if one wants it. The answer
    /// comes to the token.
    pub(super) fn ask_sub(
        &mut self,
        cx: &mut Cx<'_>,
        edge: u32,
        token: PendingToken,
        want: Want,
        by: Option<SessionRef>,
    ) {
        let seq = self.edges.next_seq();
        let entry = &mut self.edges.edges[edge as usize];
        entry.seq = seq;
        entry.members_notified = entry.count();
        let (channel, members) = (entry.name.clone(), entry.members_notified);
        let message = ToHome::Sub { seq, token, want, members };
        match by {
            Some(at) => self.tell_home_by(cx, at, &channel, message),
            None => self.tell_home(cx, &channel, message),
        }
    }

    /// The application has said whether it may. The subscription holds its edge.
    pub(super) fn authorised(
        &mut self,
        cx: &mut Cx<'_>,
        at: SessionRef,
        sub: SubRef,
        reply: ReplyTo,
        want: Want,
        result: Result<(), Error>,
    ) {
        let SubRef { id, edge } = sub;
        let slot = self.sessions.get(at).and_then(|session| session.sub_of_id(id));
        let gone = || Error::new(ErrorCode::Unavailable, "the subscription ended before this was done");
        let ended = slot.filter(|&slot| self.sessions.slab[at.index as usize].subs[slot].is_refused());
        let result = result.and_then(|()| match ended {
            Some(_) => Err(ended_by_app(&self.edges.edges[edge as usize].name)),
            None => slot.map(|_| ()).ok_or_else(gone),
        });
        let Err(error) = result else { return self.ask_place(cx, at, sub, reply, want) };
        let entry = &mut self.edges.edges[edge as usize];
        entry.pending -= 1;
        let channel = entry.name.clone();
        self.recount(cx, edge);
        match slot {
            Some(slot) if self.refuse_sub(cx, at, slot, &error) => self.leave_presence(cx, at, &channel),
            Some(_) => {}
            None => self.linger(cx, edge),
        }
        self.finish(cx, at, reply, ReplyBody::Error(error.on(&channel)));
        self.drain_lane(cx, at, &channel);
    }

    /// The reason that allows the subscription, or the refusal.
    fn try_subscribe(
        &mut self,
        cx: &mut Cx<'_>,
        at: SessionRef,
        options: &SubOptions,
        by_app: bool,
    ) -> Result<Admitted, Error> {
        let channel = &options.channel;
        let edge = self.edges.find(channel);
        let Some(session) = self.sessions.get(at) else {
            return Err(Error::new(ErrorCode::Unavailable, "the session is gone"));
        };
        let by = if by_app || session.is_granted(channel) {
            let by = if by_app || !session.is_granted_by_token(channel) { AdmittedBy::App } else { AdmittedBy::Grant };
            cx.rules.of(channel).map(|_| by).ok_or(Denial::NoRule)
        } else {
            cx.rules.verdict(channel, Action::Subscribe, session.entitlement()).map(|verdict| match verdict {
                Verdict::Allowed(_) if !asks(&cx.hooks.subscribe, channel) => AdmittedBy::Rule,
                _ => AdmittedBy::Hook,
            })
        };
        let by = by.map_err(|denial| denial.into_error(channel))?;
        if !by_app {
            let caller = session.entitlement();
            // A client that asks for them is refused. `since` is answered as where it cannot be honoured: clients send
            // it by themselves.
            let reads = [
                (options.presence, Action::ReadPresence),
                (options.recent.is_some_and(|count| count > 0), Action::ReadHistory),
            ];
            for (_, action) in reads.into_iter().filter(|(is_wanted, _)| *is_wanted) {
                may_read(cx, channel, action, caller).map_err(|denial| denial.into_error(channel))?;
            }
        }
        if let Some(slot) = edge.and_then(|edge| session.sub_on(edge)) {
            if by_app {
                // From here on the rule cannot end it, as with a subscription that the application has made.
                session.subs[slot].by = AdmittedBy::App;
                session.grant(channel, cx.limits.subscriptions_max);
            } else if matches!(session.subs[slot].by, AdmittedBy::App | AdmittedBy::Grant) {
                return may_choose(cx, options).map(|()| Admitted::Anew { slot });
            }
            let message = format!("this connection is already subscribed to {channel:?}");
            return Err(Error::new(ErrorCode::AlreadySubscribed, message).on(channel));
        }
        may_choose(cx, options)?;
        let max = cx.limits.subscriptions_max;
        if session.subs.len() >= max {
            let message = format!(
                "this connection has {} subscriptions, the limit (subscriptions_max) is {max}",
                session.subs.len()
            );
            return Err(Error::new(ErrorCode::LimitExceeded, message).by_limit("subscriptions_max").on(channel));
        }
        if by == AdmittedBy::Hook {
            self.may_ask(cx).map_err(|error| error.on(channel))?;
        }
        Ok(Admitted::New(by))
    }

    /// True while a subscription of this session to the channel waits for the application, the home, or the answers
    /// sent with its own; and while the application is asked about a publication.
    pub(super) fn is_subscribing(&mut self, at: SessionRef, channel: &ChannelName) -> bool {
        let edge = self.edges.find(channel);
        let Some(session) = self.sessions.get(at) else { return false };
        if session.extra.as_ref().is_some_and(|extra| extra.lanes.is_blocked(channel)) {
            return true;
        }
        edge.and_then(|edge| session.sub_on(edge)).is_some_and(|slot| !session.subs[slot].is_answered())
    }

    /// True while a subscription of this session to the channel is not answered.
    fn is_undecided(&mut self, at: SessionRef, channel: &ChannelName) -> bool {
        let Some(edge) = self.edges.find(channel) else { return false };
        let Some(session) = self.sessions.get(at) else { return false };
        session.sub_on(edge).is_some_and(|slot| !session.subs[slot].is_answered())
    }

    pub(super) fn subscribed(
        &mut self,
        cx: &mut Cx<'_>,
        at: SessionRef,
        sub: u32,
        edge: u32,
        reply: ReplyTo,
        result: Result<Start, Error>,
    ) {
        let entry = &mut self.edges.edges[edge as usize];
        entry.pending -= 1;
        if let (Ok(start), None) = (&result, entry.at) {
            entry.at = Some(start.top);
        }
        let channel = entry.name.clone();
        let Some(slot) = self.sessions.get(at).and_then(|session| session.sub_of_id(sub)) else {
            self.linger(cx, edge);
            self.recount(cx, edge);
            // Mostly nobody waits any more; a place in a gathered answer is filled all the same.
            let error = Error::new(ErrorCode::Unavailable, "the subscription ended before this was done").on(&channel);
            self.finish(cx, at, reply, ReplyBody::Error(error));
            self.drain_lane(cx, at, &channel);
            return self.run(cx, edge);
        };
        // The rules may have changed since it was asked.
        let result = result.and_then(|start| {
            let Some(session) = self.sessions.get(at) else { return Ok(start) };
            judge(cx, &channel, &session.subs[slot], session.entitlement()).map(|()| start)
        });
        match result {
            Err(error) => {
                self.refuse_sub(cx, at, slot, &error);
                self.leave_presence(cx, at, &channel);
                self.finish(cx, at, reply, ReplyBody::Error(error));
            }
            Ok(start) => self.begin_membership(cx, at, slot, edge, reply, start),
        }
        self.drain_lane(cx, at, &channel);
        self.run(cx, edge); // a nudge may have come before the place from which to pull
    }

    /// A subscription is not made. Where that may be tried again, it is kept as it was, and goes on then. True where
    /// the session had entered the channel.
    fn refuse_sub(&mut self, cx: &mut Cx<'_>, at: SessionRef, slot: usize, error: &Error) -> bool {
        if error.code == ErrorCode::Unavailable {
            self.keep_sub(cx, at.index, slot);
        } else if let Some(session) = self.sessions.get(at) {
            session.left(&self.edges.edges[session.subs[slot].edge as usize].name);
        }
        self.take_sub(cx, at.index, slot)
    }

    pub(super) fn begin_membership(
        &mut self,
        cx: &mut Cx<'_>,
        at: SessionRef,
        slot: usize,
        edge: u32,
        reply: ReplyTo,
        mut start: Start,
    ) {
        let Some(session) = self.sessions.get(at) else { return };
        let (full, wire, hasher) = (session.is_full(&self.conns), session.wire, self.edges.hasher());
        // One page a turn, and none into a full outbox: the others are pulled, as is everything that does not fit in a
        // first page.
        let bytes: usize = start.publications.iter().map(|p| p.cost()).sum();
        let has_room = |pending: &mut PendingTable, slice: &mut Slice| match &reply {
            // The answers of several are sent together: one page of them all.
            ReplyTo::Gathered { gather, .. } => pending.take_bytes(*gather, bytes, cx.limits.page_bytes_max),
            _ => slice.take_bytes(bytes),
        };
        if bytes > 0 && (full || !has_room(&mut self.pending, cx.slice)) {
            start.end = start.publications[0].prev;
            start.publications.clear();
        }
        // What acts do is done in its place among the others: by the pages. An answer does nothing.
        let is_kept = session.subs[slot].rooms.as_ref().is_some_and(|rooms| rooms.keeps.is_some());
        if is_kept && start.recovered == Some(true) && start.publications.iter().any(|p| p.does()) {
            start.end = start.publications[0].prev;
            start.publications.clear();
        }
        if !is_kept {
            // It takes the place of one that was kept, in whose rooms it is not.
            drop(session.take_kept(&self.edges.edges[edge as usize].name));
        }
        let begins_at = Position { epoch: start.top.epoch, offset: start.end };
        let mut is_back = false;
        if let Some(rooms) = session.subs[slot].rooms.as_mut().filter(|rooms| rooms.begins_here()) {
            is_back = start.recovered == Some(true);
            let listed = self.edges.edges[edge as usize].rooms_or_insert(hasher);
            match start.recovered {
                Some(true) => {
                    rooms.back(start.top, |room| listed.add(room, at.index));
                    if rooms.asks_for_look() {
                        listed.look_later(at.index);
                    }
                }
                recovered => rooms.begin_anew(begins_at, recovered.is_some()),
            }
            rooms.has_begun();
            self.edges.edges[edge as usize].tidy();
        }
        start
            .publications
            .retain(|publication| publication.is_shown() && session.may_see(slot, start.top.epoch, publication, true));
        let Some(conn) = session.conn else { return };
        if is_back
            && start.publications.is_empty()
            && let Some(keeps) = session.subs[slot].keeps_mut()
        {
            keeps.read_in_vain(begins_at);
        }
        match start.recovered {
            Some(true) => self.counts.recovered += 1,
            Some(false) => {
                self.counts.not_recovered += 1;
                let channel = self.edges.edges[edge as usize].name.clone();
                cx.effects.note(session.note(Noted::NotRecovered { channel }));
            }
            None => {}
        }
        let channel = &self.edges.edges[edge as usize].name;
        if cx.rules.of(channel).is_some_and(|rule| rule.read == Past::SinceJoin) {
            session.joins(channel, start.top);
        }
        let sub = &mut session.subs[slot];
        let more = start.end < start.top.offset;
        let gather = match &reply {
            ReplyTo::Gathered { gather, .. } => Some(*gather),
            _ => None,
        };
        let waits = full || gather.is_some();
        let member = Member {
            conn,
            session: at.index,
            slot: slot as u32,
            at: start.end,
            epoch: start.top.epoch,
            state: match (waits, more) {
                (true, _) => MemberState::Blocked,
                (false, true) => MemberState::Behind,
                (false, false) => MemberState::Live,
            },
            presence: sub.presence,
            signals: sub.signals,
        };
        let place = self.edges.edges[edge as usize].add(sub.variant(wire), member);
        let slow = sub.slow(cx.rules.of(&self.edges.edges[edge as usize].name));
        let membership = Membership {
            place,
            recover_to: if start.recovered.is_some() { start.top } else { start_of(Epoch(0)) },
            presence_stale: false,
            // The connection is slow already: publications that it misses from here on are skipped, like later ones.
            passes_over: full && !more && slow == Slow::Latest,
        };
        sub.state = match gather {
            Some(gather) => SubState::Gathering { membership, gather, ended: false },
            None => SubState::Live(membership),
        };
        let rooms = session.subs[slot].rooms.as_ref().map(|rooms| rooms.now_in()).unwrap_or_default();
        let subscribed = Subscribed {
            channel: self.edges.edges[edge as usize].name.clone(),
            position: Position { epoch: start.top.epoch, offset: start.end },
            recovered: start.recovered,
            publications: start.publications,
            more,
            rooms,
        };
        self.finish(cx, at, reply, ReplyBody::Subscribed(Box::new(subscribed)));
        if !waits {
            self.send_mailbox_of(cx, at, edge);
        }
        if more {
            self.pull_later(at);
        }
    }

    /// The answers of one `subscribe` have been sent together. Its members were blocked until now and take all that has
    /// come since.
    pub(super) fn release_gathered(&mut self, cx: &mut Cx<'_>, at: SessionRef, gather: u32) {
        let Some(session) = self.sessions.get(at) else { return };
        let (full, wire) = (session.is_full(&self.conns), session.wire);
        let (mut catch_up, mut released) = (false, Vec::new());
        for sub in &mut session.subs {
            let SubState::Gathering { membership, gather: of, ended } = sub.state else { continue };
            if of != gather {
                continue;
            }
            sub.state = SubState::Live(membership);
            released.push((sub.id, ended));
            let edge = &mut self.edges.edges[sub.edge as usize];
            let (is_quiet, top) = (edge.is_quiet(), edge.at);
            let member = edge.member(sub.variant(wire), membership.place);
            let is_at_top = is_quiet && top == Some(Position { epoch: member.epoch, offset: member.at });
            member.state = match (full, is_at_top) {
                (true, _) => MemberState::Blocked,
                (false, false) => MemberState::Behind,
                (false, true) => MemberState::Live,
            };
            catch_up |= member.is_behind();
        }
        if catch_up
            || session.extra.is_some()
            || session.subs.iter().any(|sub| sub.membership().is_some_and(|m| m.presence_stale))
        {
            self.pull_later(at);
        }
        for (id, is_refused) in released {
            let Some(session) = self.sessions.get(at) else { return };
            let Some(slot) = session.sub_of_id(id) else { continue };
            let edge = session.subs[slot].edge;
            let channel = self.edges.edges[edge as usize].name.clone();
            if is_refused {
                self.end_subscription(cx, at, slot, ended_by_app(&channel));
            } else if !self.judge_again(cx, at, slot) && !full {
                self.send_mailbox_of(cx, at, edge); // before any that comes now: directed ones are ordered
            }
            self.drain_lane(cx, at, &channel);
        }
    }

    /// The earlier command on this channel is decided: those behind it have their turn.
    pub(super) fn drain_lane(&mut self, cx: &mut Cx<'_>, at: SessionRef, channel: &ChannelName) {
        while !self.is_subscribing(at, channel) {
            let Some(session) = self.sessions.get(at) else { return };
            let Some(waiting) = session.extra.as_mut().and_then(|e| e.lanes.next(channel)) else {
                return session.tidy();
            };
            match waiting {
                Waiting::Subscribe(options, reply) => {
                    session.outstanding = session.outstanding.saturating_sub(1); // `subscribe` counts it again
                    self.subscribe(cx, at, reply, options, None);
                }
                Waiting::Command(command, reply) => self.channel_command(cx, at, reply, command),
            }
        }
    }

    pub(super) fn unsubscribe(&mut self, cx: &mut Cx<'_>, at: SessionRef, reply: ReplyTo, channel: ChannelName) {
        let slot = self.edges.find(&channel).and_then(|edge| self.sessions.get(at)?.sub_on(edge));
        let Some(slot) = slot else {
            // Its return was refused, and the client does not try again.
            if let Some(session) = self.sessions.get(at) {
                drop(session.take_kept(&channel));
                session.left(&channel);
            }
            let error =
                Error::new(ErrorCode::NotSubscribed, format!("this connection is not subscribed to {channel:?}"));
            return self.finish(cx, at, reply, ReplyBody::Error(error.on(&channel)));
        };
        let entered = self.take_sub(cx, at.index, slot);
        if let Some(session) = self.sessions.get(at) {
            session.revoke(&channel);
        }
        if entered {
            self.leave_presence(cx, at, &channel);
        }
        self.finish(cx, at, reply, ReplyBody::Unsubscribed { channel });
    }

    /// The server ends a subscription: the rules have changed, or a denial came later.
    pub(super) fn end_subscription(&mut self, cx: &mut Cx<'_>, at: SessionRef, slot: usize, error: Error) {
        let Some(session) = self.sessions.get(at) else { return };
        let (conn, wire) = (session.conn, session.wire);
        let channel = self.edges.edges[session.subs[slot].edge as usize].name.clone();
        session.revoke(&channel);
        if self.take_sub(cx, at.index, slot) {
            self.leave_presence(cx, at, &channel);
        }
        if let Some(conn) = conn {
            self.note(cx, Some(conn), Noted::Unsubscribed(error.clone()));
            cx.effects.push_one(Push::Unsubscribed { channel, error }, wire, conn);
        }
    }

    pub(super) fn leave_presence(&mut self, cx: &mut Cx<'_>, at: SessionRef, channel: &ChannelName) {
        if let Some(session) = self.sessions.get(at) {
            let (client, incarnation) = (session.client, session.incarnation);
            self.tell_home(cx, channel, ToHome::Leave { token: None, incarnation, client });
        }
    }

    /// Takes a subscription off its session and edge. True where the session had entered the channel.
    pub(super) fn take_sub(&mut self, cx: &mut Cx<'_>, session: u32, slot: usize) -> bool {
        cx.slice.spend(1);
        let entry = &mut self.sessions.slab[session as usize];
        let wire = entry.wire;
        let sub = entry.subs.swap_remove(slot);
        self.sessions.subscriptions -= 1;
        if entry.pulling == Some(sub.id) {
            // Its page will find nobody; another subscription has its turn.
            entry.pulling = None;
            let at = SessionRef { index: session, life: entry.life };
            self.pulls.push_back(at);
        }
        if let Some(extra) = entry.extra.as_mut() {
            let away = entry.conn.is_none() && sub.entered.is_some();
            extra.mailbox.forget(&self.edges.edges[sub.edge as usize].name, away);
        }
        // The subscription that took the free slot: its member must know.
        let moved = entry.subs.get(slot).map(|s| (s.edge, s.variant(wire), s.membership().map(|m| m.place)));
        if let Some((edge, variant, Some(member))) = moved {
            self.edges.edges[edge as usize].member(variant, member).slot = slot as u32;
        }
        if let Some(left) = sub.membership() {
            self.take_member(sub.edge, sub.variant(wire), left.place);
        }
        if let Some(rooms) = sub.rooms {
            self.end_stays(sub.edge, *rooms);
        }
        self.linger(cx, sub.edge);
        self.recount(cx, sub.edge);
        sub.entered.is_some()
    }

    /// The member of a live subscription leaves its edge, and the subscription is about to be a member again.
    pub(super) fn leave_edge(&mut self, at: SessionRef, slot: usize) {
        let Some(session) = self.sessions.get(at) else { return };
        let sub = &session.subs[slot];
        let Some(left) = sub.membership() else { return };
        let (id, edge, variant, place) = (sub.id, sub.edge, sub.variant(session.wire), left.place);
        if session.pulling.take_if(|pulling| *pulling == id).is_some() {
            self.pulls.push_back(at); // its page will find nobody: another subscription has its turn
        }
        self.take_member(edge, variant, place);
    }

    /// Takes a member off its edge; those that moved by it learn their new places.
    pub(super) fn take_member(&mut self, edge: u32, variant: Variant, place: u32) {
        for MovedMember { place, member } in self.edges.edges[edge as usize].take(variant, place) {
            let moved = &mut self.sessions.slab[member.session as usize].subs[member.slot as usize];
            if let Some(membership) = moved.membership_mut() {
                membership.place = place;
            }
        }
    }

    /// The number of subscriptions on an edge may have changed: its home is notified soon, once for all changes
    /// until then.
    fn recount(&mut self, cx: &mut Cx<'_>, index: u32) {
        let edge = &mut self.edges.edges[index as usize];
        // Where places are few, one that is left is free at once: its client may be back already, on another shard.
        if cx.rules.limit_subscribers(&edge.name) && edge.count() != edge.members_notified {
            let (members, name) = (edge.count(), edge.name.clone());
            edge.members_notified = members;
            return self.tell_home(cx, &name, ToHome::Members(members));
        }
        if edge.recounted || edge.count() == edge.members_notified {
            return;
        }
        edge.recounted = true;
        if self.edges.recounts.is_empty() && !self.recounting {
            cx.wheel.add(cx.now.mono_ms, Timer::Members); // at the wheel's next tick
        }
        self.edges.recounts.push_back(EdgeRef { index, life: edge.life });
    }

    /// Starts the clock of an edge that nobody uses.
    pub(super) fn linger(&mut self, cx: &mut Cx<'_>, index: u32) {
        let edge = &self.edges.edges[index as usize];
        if edge.is_unused() {
            let timer = Timer::EdgeLinger { edge: index, seq: edge.seq };
            cx.wheel.add(edge.kept_ms().max(cx.now.mono_ms + cx.limits.linger_ms), timer);
        }
    }

    /// The time of an unused edge has come, unless somebody subscribed since.
    pub(crate) fn lingered(&mut self, cx: &mut Cx<'_>, index: u32, seq: u64) {
        let Some(edge) = self.edges.edges.get(index as usize) else { return };
        if edge.is_unused() && edge.seq == seq && edge.kept_ms() <= cx.now.mono_ms {
            let name = edge.name.clone();
            self.edges.remove(index);
            self.tell_home(cx, &name, ToHome::Release { seq });
        }
    }

    /// Ends the presence of a session where it may not enter any more, also while it is away.
    pub(super) fn judge_presence(&mut self, cx: &mut Cx<'_>, at: SessionRef) {
        let Some(session) = self.sessions.get(at) else { return };
        let (user, proof) = (session.user().cloned(), session.proof());
        let caller = Entitlement { user: user.as_ref(), grants: &proof.grants, claims: proof.claims.as_deref() };
        let may_enter = |channel: &ChannelName| may_enter(cx, channel, caller);
        let mut ended = Vec::new();
        for sub in session.subs.iter_mut().filter(|sub| sub.entered.is_some()) {
            let channel = &self.edges.edges[sub.edge as usize].name;
            if !may_enter(channel) {
                sub.entered = None;
                ended.push(channel.clone());
            }
        }
        if let Some(extra) = session.extra.as_mut() {
            let Extra { entered, mailbox, .. } = &mut **extra;
            entered.retain(|Entered { channel, .. }| {
                let stays = may_enter(channel);
                if !stays {
                    mailbox.forget(channel, false);
                    ended.push(channel.clone());
                }
                stays
            });
        }
        for channel in ended {
            self.leave_presence(cx, at, &channel);
        }
    }

    /// Ends a subscription that would be refused now. True where it did.
    pub(super) fn judge_again(&mut self, cx: &mut Cx<'_>, at: SessionRef, slot: usize) -> bool {
        let Some(session) = self.sessions.get(at) else { return false };
        let channel = self.edges.edges[session.subs[slot].edge as usize].name.clone();
        match judge(cx, &channel, &session.subs[slot], session.entitlement()) {
            Ok(()) => false,
            Err(error) => {
                self.end_subscription(cx, at, slot, error);
                true
            }
        }
    }
}

/// Whether this caller may stand in the presence of a channel.
pub(super) fn may_enter(cx: &Cx<'_>, channel: &ChannelName, caller: Entitlement<'_>) -> bool {
    match cx.rules.verdict(channel, Action::Enter, caller) {
        Ok(Verdict::Allowed(rule) | Verdict::IfSubscribed(rule)) => rule.presence != PresenceMode::Off,
        Ok(Verdict::AskHook(_)) | Err(_) => false,
    }
}

/// Whether a caller that may subscribe may also read this.
pub(super) fn may_read(
    cx: &Cx<'_>,
    channel: &ChannelName,
    action: Action,
    caller: Entitlement<'_>,
) -> Result<(), Denial> {
    let rule = cx.rules.of(channel).ok_or(Denial::NoRule)?;
    if rule.who(action).contains(&Who::Subscriber) && !rule.hides_past(action) {
        return Ok(());
    }
    cx.rules.judge(channel, action, caller).map(|_| ())
}

/// Whether a subscriber may choose what happens when it is slow: nothing that asks more of the server than its rule.
fn may_choose(cx: &Cx<'_>, options: &SubOptions) -> Result<(), Error> {
    let (channel, Some(choice)) = (&options.channel, options.slow) else { return Ok(()) };
    let Some(rule) = cx.rules.of(channel).filter(|rule| choice < rule.slow) else { return Ok(()) };
    let (pattern, of_rule, choice) = (rule.pattern.as_str(), rule.slow.word(), choice.word());
    let message = format!(
        "the rule {pattern:?} says slow = {of_rule:?}: a subscriber may choose that or a later word of the list \
         \"pull\", \"latest\", \"disconnect\", not {choice:?}"
    );
    Err(Error::new(ErrorCode::BadRequest, message).on(channel).by_rule(pattern))
}

/// Whether a subscription that was allowed this way may stay. A subscription that the application granted only needs a
/// rule, which says how much history is kept. The rule may leave the decision to the application since a reload, or
/// after the end of a grant that was given before the application had to be asked. Then a session about which the
/// application was not asked must subscribe again.
fn judge(cx: &Cx<'_>, channel: &ChannelName, sub: &Sub, caller: Entitlement<'_>) -> Result<(), Error> {
    if sub.is_refused() {
        return Err(ended_by_app(channel));
    }
    let judged = match sub.by {
        AdmittedBy::Grant | AdmittedBy::App => cx.rules.of(channel).map(|_| ()).ok_or(Denial::NoRule),
        AdmittedBy::Hook => cx.rules.verdict(channel, Action::Subscribe, caller).map(|_| ()),
        AdmittedBy::Rule => match cx.rules.verdict(channel, Action::Subscribe, caller) {
            Ok(Verdict::Allowed(_)) if !asks(&cx.hooks.subscribe, channel) => Ok(()),
            Ok(verdict) => {
                let message = format!("the application decides now who may subscribe to {channel:?}: subscribe again");
                let rule = verdict.rule().pattern.as_str();
                return Err(Error::new(ErrorCode::Denied, message).on(channel).by_rule(rule));
            }
            Err(denial) => Err(denial),
        },
    };
    // The application may subscribe a session with presence, whatever the rule says.
    let judged = match judged {
        Ok(()) if sub.presence && sub.by != AdmittedBy::App => may_read(cx, channel, Action::ReadPresence, caller),
        judged => judged,
    };
    judged.map_err(|denial| denial.into_error(channel))
}
