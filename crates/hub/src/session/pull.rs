//! A member that is behind catches up, a page at a time, as its outbox drains. Recovery after a reconnect is the same
//! mechanism.

use super::pending::Pending;
use super::table::{LastPull, Membership, Sub};
use super::{Cx, Sessions};
use crate::disconnect::Disconnect;
use crate::edge::batch;
use crate::edge::{Behind, MemberState};
use crate::error::Error;
use crate::ids::{ConnId, Position, SessionRef};
use crate::message::{PresenceSnapshot, Push};
use crate::name::ChannelName;
use crate::peer::{Pulled, Puller, ToHome};
use crate::rules::Slow;
use crate::timer::Timer;
use crate::watch::{Note, Noted};
use smallvec::SmallVec;
use std::sync::Arc;

/// How long after the store refused a page it is asked again.
const RETRY_MS: u64 = 500;

impl Sessions {
    /// The connection's outbox is over its mark: its subscriptions are behind from here on, and its commands wait, or
    /// their answers would pile up without end.
    pub(crate) fn full(&mut self, cx: &mut Cx<'_>, id: ConnId) {
        let Some(conn) = self.conn(id) else { return };
        if !std::mem::replace(&mut conn.full, true) {
            self.full += 1;
            self.counts.behind += 1;
            self.counts.limited("outbox_bytes_max");
            self.note(cx, Some(id), Noted::Behind);
        }
        let Some(conn) = self.conn(id) else { return };
        let sessions: SmallVec<[u32; 1]> = conn.sessions().collect();
        self.pause_as_due(cx, id);
        for index in sessions {
            self.session_full(cx, id, index);
        }
    }

    fn session_full(&mut self, cx: &mut Cx<'_>, id: ConnId, index: u32) {
        let session = &mut self.sessions.slab[index as usize];
        let wire = session.wire;
        // A client that still catches up is not slow: its own pages fill the outbox, and if it were closed for that it
        // would never catch up.
        let (mut disconnect, mut catches_up) = (false, session.pulling.is_some());
        for sub in &mut session.subs {
            let edge = &mut self.edges.edges[sub.edge as usize];
            let slow = sub.slow(cx.rules.of(&edge.name));
            disconnect |= slow == Slow::Disconnect;
            let (variant, is_answered) = (sub.variant(wire), sub.is_answered());
            if let Some(membership) = sub.membership_mut() {
                let member = edge.settled(variant, membership.place);
                membership.passes_over |= slow == Slow::Latest && !member.is_behind();
                catches_up |= member.is_behind() && is_answered; // before its answer it has no pages
                member.state = MemberState::Blocked;
            }
        }
        if disconnect && !catches_up {
            self.close(cx, id, Disconnect::Slow);
        }
    }

    /// There is room again: signals that waited, then pages, one subscription after the other.
    pub(crate) fn drained(&mut self, cx: &mut Cx<'_>, id: ConnId) {
        let Some(conn) = self.conn(id) else { return };
        if std::mem::take(&mut conn.full) {
            self.full -= 1;
        }
        let Some(conn) = self.conn(id) else { return };
        let sessions: SmallVec<[u32; 1]> = conn.sessions().collect();
        self.pause_as_due(cx, id);
        for index in sessions {
            self.session_drained(cx, self.sessions.reference(index));
        }
    }

    fn session_drained(&mut self, cx: &mut Cx<'_>, at: SessionRef) {
        let Some(session) = self.sessions.get(at) else { return };
        let wire = session.wire;
        for sub in &session.subs {
            if let Some(membership) = sub.live() {
                let member = self.edges.edges[sub.edge as usize].member(sub.variant(wire), membership.place);
                if member.state == MemberState::Blocked {
                    member.state = MemberState::Behind;
                }
            }
        }
        self.catch_up(cx, at);
    }

    /// A session with room goes on: with signals that waited, and the next page or whole presence that it
    /// missed.
    pub(super) fn catch_up(&mut self, cx: &mut Cx<'_>, at: SessionRef) {
        let Some(session) = self.sessions.get(at) else { return };
        if session.is_full(&self.conns) {
            return;
        }
        self.send_mailbox(cx, at);
        self.ask_next_page(cx, at);
        self.pull_next(cx, at);
    }

    /// Lets a command go on that waits for room for its page. The next one waits until the shell could say that this
    /// filled the outbox.
    fn ask_next_page(&mut self, cx: &mut Cx<'_>, at: SessionRef) {
        let Some(session) = self.sessions.get(at).filter(|session| session.pages == 0) else { return };
        let Some(channel) = session.extra.as_mut().and_then(|extra| extra.lanes.next_paging()) else { return };
        self.drain_lane(cx, at, &channel);
        if self.sessions.get(at).is_some_and(|session| session.pages == 0 && session.is_paging()) {
            self.pull_later(at);
        }
    }

    pub(super) fn presence_whole(
        &mut self,
        cx: &mut Cx<'_>,
        at: SessionRef,
        sub: u32,
        channel: ChannelName,
        snapshot: PresenceSnapshot,
    ) {
        let Some(session) = self.sessions.get(at) else { return };
        if session.pulling != Some(sub) {
            return;
        }
        session.pulling = None;
        let Some(slot) = session.sub_of_id(sub) else { return };
        if session.is_full(&self.conns) {
            if let Some(membership) = session.subs[slot].membership_mut() {
                membership.presence_stale = true;
            }
        } else if let Some(conn) = session.conn {
            let push = Push::PresenceSnapshot { channel, snapshot: Arc::new(snapshot) };
            cx.effects.push_one(push, session.wire, conn);
        }
        self.pull_later(at);
    }

    /// Asks for the publications and presence that a session's subscriptions have missed, one page or whole presence at
    /// a time. They have it in turn, and pages and presence alternate, so that a channel in which much happens does not
    /// keep the others from catching up.
    pub(super) fn pull_next(&mut self, cx: &mut Cx<'_>, at: SessionRef) {
        let Some(session) = self.sessions.get(at) else { return };
        if session.is_full(&self.conns) || session.pulling.is_some() {
            return;
        }
        let (client, wire, last) = (session.client, session.wire, session.last_pull);
        let edges = &mut self.edges.edges;
        let after_last = |sub: &Sub| sub.id.wrapping_sub(last.sub).wrapping_sub(1);
        let is_behind = |sub: &&Sub| {
            sub.live().is_some_and(|live| edges[sub.edge as usize].member(sub.variant(wire), live.place).is_behind())
        };
        let behind = session.subs.iter().filter(is_behind).min_by_key(|sub| after_last(sub)).map(|sub| sub.id);
        let stale = session.subs.iter_mut().filter(|sub| sub.live().is_some_and(|live| live.presence_stale));
        let stale = stale.min_by_key(|sub| after_last(sub)).filter(|_| last.was_page || behind.is_none());
        if let Some(sub) = stale {
            if let Some(membership) = sub.membership_mut() {
                membership.presence_stale = false;
            }
            let (sub, channel) = (sub.id, edges[sub.edge as usize].name.clone());
            (session.pulling, session.last_pull) = (Some(sub), LastPull { sub, was_page: false });
            let token = self.pending.insert(Pending::PresenceWhole { session: at, sub });
            return self.tell_home(cx, &channel, ToHome::Presence { token });
        }
        let Some(sub) = behind.and_then(|id| session.subs.iter().find(|sub| sub.id == id)) else { return };
        let (sub, edge) = (sub, &mut edges[sub.edge as usize]);
        let Some(membership) = sub.membership() else { return };
        let member = *edge.member(sub.variant(wire), membership.place);
        // The recovery that it asked for is complete: it was not slow when it missed those publications.
        let recovers = member.epoch == membership.recover_to.epoch && member.at < membership.recover_to.offset;
        // The home cannot tell which of them are for its rooms: then it reads all that it has missed.
        let latest = membership.passes_over && !recovers && sub.rooms.is_none();
        let puller = if latest { Puller::Latest(client) } else { Puller::Subscriber(client) };
        let from = Position { epoch: member.epoch, offset: member.at };
        let (sub, channel) = (sub.id, edge.name.clone());
        (session.pulling, session.last_pull) = (Some(sub), LastPull { sub, was_page: true });
        self.counts.pulls += 1;
        let token = self.pending.insert(Pending::Pull { session: at, sub, is_latest: latest });
        self.tell_home(cx, &channel, ToHome::Pull { token, at: from, puller });
    }

    /// A page has come for a subscription that was behind.
    pub(super) fn pulled(
        &mut self,
        cx: &mut Cx<'_>,
        at: SessionRef,
        (sub, is_latest): (u32, bool),
        result: Result<Pulled, Error>,
    ) {
        let Some(session) = self.sessions.get(at) else { return };
        if session.pulling != Some(sub) {
            return;
        }
        session.pulling = None;
        let pulled = match result {
            Ok(pulled) => pulled,
            Err(_) => {
                // The store cannot be reached: the subscription stays behind and asks again.
                let timer = Timer::Pull { session: at.index, life: at.life };
                return cx.wheel.add(cx.now.mono_ms + RETRY_MS, timer);
            }
        };
        let (client, user, wire) = (session.client, session.user().cloned(), session.wire);
        let (Some(conn), Some(slot)) = (session.conn, session.sub_of_id(sub)) else { return };
        let sub = &session.subs[slot];
        // It has entered a room since it asked: the search has passed over what is for that. It reads all instead.
        if is_latest && sub.rooms.is_some() {
            return self.pull_later(at);
        }
        let (variant, batch) = (sub.variant(wire), sub.batch);
        let index = sub.edge;
        let edge = &mut self.edges.edges[index as usize];
        let Some(&Membership { place, recover_to, .. }) = sub.membership() else { return };
        let channel = edge.name.clone();
        let member = edge.member(variant, place);
        let reset = member.epoch != pulled.top.epoch;
        let recover_to = if recover_to.epoch == pulled.top.epoch { recover_to.offset } else { 0 };
        if reset || !pulled.complete {
            (member.at, member.epoch) = (pulled.start, pulled.top.epoch);
            let position = Position { epoch: member.epoch, offset: member.at };
            cx.effects.push_one(Push::Gap { channel: channel.clone(), position, reset }, wire, conn);
            let what = Noted::Gap { channel: channel.clone(), reset };
            let note = Note { conn: Some(conn), client: Some(client), user, what };
            cx.effects.note(note);
        }
        let epoch = member.epoch;
        let mut publications = pulled.publications.into_iter();
        loop {
            // Everything before an act goes out before that is done: it may change what the member sees of the rest.
            let Some(session) = self.sessions.get(at) else { return };
            let member = self.edges.edges[index as usize].member(variant, place);
            let (mut wanted, mut acting) = (Vec::new(), None);
            for publication in publications.by_ref() {
                if publication.offset <= member.at {
                    continue;
                }
                member.at = publication.offset;
                // Its own copy that was not wanted live is not wanted now either, unless this is still the recovery:
                // then the answer may have been lost with the connection, and the copy with its key stands for it.
                let recovers = publication.offset <= recover_to;
                if !session.may_see(slot, epoch, &publication, recovers) {
                    continue;
                }
                acting = publication.act.is_some().then(|| publication.clone());
                if publication.is_shown() {
                    wanted.push(publication);
                }
                if acting.is_some() {
                    break;
                }
            }
            match batch {
                None => wanted.into_iter().for_each(|publication| {
                    cx.effects.push_one(Push::Message { channel: channel.clone(), epoch, publication }, wire, conn);
                }),
                Some(batch) => wanted.chunks(batch.size as usize).for_each(|some| {
                    if let Some(push) = batch::push(&channel, epoch, &some.into()) {
                        cx.effects.push_one(push, wire, conn);
                    }
                }),
            }
            let Some(publication) = acting else { break };
            let at_place = Position { epoch, offset: publication.offset };
            if !self.act_of_page(cx, at, index, &publication, at_place) {
                return;
            }
        }
        let Some(session) = self.sessions.get(at) else { return };
        let member = self.edges.edges[index as usize].member(variant, place);
        member.at = member.at.max(pulled.end);
        // The answer is part of the stream of deliveries: the next delivery directly follows the top that it names. An
        // outbox that went over its limit meanwhile takes no delivery.
        if member.state != MemberState::Blocked {
            member.state = if member.at < pulled.top.offset { MemberState::Behind } else { MemberState::Live };
        }
        let is_behind = member.is_behind();
        if let Some(membership) = session.subs[slot].membership_mut() {
            membership.passes_over &= is_behind;
        }
        self.forget_stays(at.index, index);
        self.pull_later(at);
    }

    /// The next page is asked for in a later turn: the shell must have had the occasion to say that this one filled
    /// the outbox.
    pub(super) fn pull_later(&mut self, at: SessionRef) {
        self.pulls.push_back(at);
    }

    pub(super) fn edge_pulled(&mut self, cx: &mut Cx<'_>, index: u32, life: u64, result: Result<Pulled, Error>) {
        let Some(edge) = self.edges.edges.get_mut(index as usize).filter(|e| e.life == life) else { return };
        match result {
            Ok(pulled) => {
                edge.pulled(pulled);
                self.run(cx, index);
            }
            Err(_) => {
                edge.behind = Behind::Yes;
                cx.wheel.add(cx.now.mono_ms + RETRY_MS, Timer::EdgePull { edge: index, life });
            }
        }
    }

    pub(crate) fn retry_edge_pull(&mut self, cx: &mut Cx<'_>, index: u32, life: u64) {
        if self.edges.edges.get(index as usize).is_some_and(|e| e.life == life) {
            self.run(cx, index);
        }
    }

    pub(crate) fn retry_pull(&mut self, cx: &mut Cx<'_>, index: u32, life: u32) {
        self.pull_next(cx, SessionRef { index, life });
    }
}
