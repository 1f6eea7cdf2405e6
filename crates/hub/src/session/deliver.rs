//! Messages of homes, and their fan-out to members.
//!
//! Deliveries wait on their edge and are appended in slices: a channel with very many members gives the others their
//! turn in between.

use super::mailbox::MailboxMax;
use super::pending::{Pending, ReplyTo, Requester};
use super::table::{Conn, Session, Sub};
use super::unheard::Unheard;
use super::{Cx, HeartbeatKind, Sessions};
use crate::app::AppAnswer;
use crate::edge::{Behind, EdgeRef, WaitingMax};
use crate::error::{Error, ErrorCode};
use crate::ids::{ClientId, ConnId, SessionRef};
use crate::message::{Push, ReplyBody, SignalPush};
use crate::name::ChannelName;
use crate::peer::{Directed, PeerBody, PendingToken, Published, Puller, ToEdge, ToHome};
use std::sync::Arc;

impl Sessions {
    /// The home of `channel` says something.
    pub(crate) fn handle(&mut self, cx: &mut Cx<'_>, channel: ChannelName, message: ToEdge) {
        match message {
            ToEdge::Subscribed { token, result } => match self.pending.take(token) {
                Some(Pending::Subscribe { session, sub, edge, reply }) => {
                    self.subscribed(cx, session, sub, edge, reply, result);
                }
                Some(Pending::Anew { session, sub, reply, options }) => {
                    self.begins_anew(cx, session, sub, reply, *options, result);
                }
                _ => {}
            },
            ToEdge::Published { token, result } => match self.pending.take(token) {
                Some(Pending::Command { session, reply }) => {
                    let body = result.map(|p| ReplyBody::Published { position: p.position, duplicate: p.duplicate });
                    self.finish(cx, session, reply, body.unwrap_or_else(ReplyBody::Error));
                }
                Some(Pending::App(token)) => self.answer_app(cx, token, result.map(published)),
                Some(Pending::Asking { app, asked }) => self.question_published(cx, app, asked, result),
                _ => {}
            },
            ToEdge::Marked { token, result } => {
                if let Some(Pending::Room { session, sub, reply, change }) = self.pending.take(token) {
                    self.room_answered(session, token);
                    let body = match result {
                        Ok(place) => self.room_changed(cx, &channel, (session, sub), change, place),
                        Err(error) => ReplyBody::Error(error),
                    };
                    self.finish(cx, session, reply, body);
                }
            }
            ToEdge::Listed { token, edges } => {
                if let Some(Pending::List(list)) = self.pending.get(token) {
                    list.edges = Some(edges);
                }
                self.list_progress(cx, token);
            }
            ToEdge::Done { token, result } => match self.pending.take(token) {
                Some(Pending::Enter { session, reply, sub, entry }) => {
                    if result.is_err() {
                        self.enter_refused(session, sub, &entry);
                    }
                    let body = result.map(|()| ReplyBody::Done);
                    self.finish(cx, session, reply, body.unwrap_or_else(ReplyBody::Error));
                }
                Some(Pending::Command { session, reply }) => {
                    let body = result.map(|()| ReplyBody::Done);
                    self.finish(cx, session, reply, body.unwrap_or_else(ReplyBody::Error));
                }
                Some(Pending::App(token)) => self.answer_app(cx, token, result.map(|()| AppAnswer::Done)),
                Some(Pending::List(list)) => self.answer_app(cx, list.app, result.map(|()| AppAnswer::Done)),
                _ => {}
            },
            ToEdge::History { token, result } => match self.pending.take(token) {
                Some(Pending::Command { session, reply }) => {
                    self.page_came(session);
                    self.finish(cx, session, reply, result.map_or_else(ReplyBody::Error, ReplyBody::History));
                }
                Some(Pending::App(token)) => self.answer_app(cx, token, result.map(AppAnswer::History)),
                _ => {}
            },
            ToEdge::Presence { token, snapshot } => match self.pending.take(token) {
                Some(Pending::Command { session, reply }) => {
                    self.page_came(session);
                    self.finish(cx, session, reply, ReplyBody::Presence { channel, snapshot });
                }
                Some(Pending::App(token)) => self.answer_app(cx, token, Ok(AppAnswer::Presence(snapshot))),
                Some(Pending::PresenceWhole { session, sub }) => {
                    self.presence_whole(cx, session, sub, channel, snapshot)
                }
                Some(Pending::EdgePresence { edge, life }) => {
                    if let Some(edge) = self.edges.edges.get_mut(edge as usize).filter(|e| e.life == life) {
                        edge.presence_whole(Arc::new(snapshot), &WaitingMax::of(cx.limits));
                    }
                    self.run(cx, edge);
                }
                _ => {}
            },
            ToEdge::Pulled { token, result } => match self.pending.take(token) {
                Some(Pending::Pull { session, sub, is_latest }) => self.pulled(cx, session, (sub, is_latest), result),
                Some(Pending::EdgePull { edge, life }) => self.edge_pulled(cx, edge, life, result),
                _ => {}
            },
            ToEdge::SignalSent { token, expected } => {
                if let Some(Pending::Directed { expected: slot, .. }) = self.pending.get(token) {
                    *slot = Some(expected);
                }
                self.directed_progress(cx, token);
            }
            ToEdge::SignalTaken { token, taken: now } => {
                if let Some(Pending::Directed { answered, taken, .. }) = self.pending.get(token) {
                    *answered += 1;
                    *taken |= now;
                }
                self.directed_progress(cx, token);
            }
            message => self.stream(cx, channel, message),
        }
    }

    /// The answer that its connection was held for is here.
    fn page_came(&mut self, at: SessionRef) {
        let Some(session) = self.sessions.get(at) else { return };
        session.pages = session.pages.saturating_sub(1);
        if session.is_paging() {
            self.pull_later(at);
        }
    }

    /// A message about the channel as a whole, in the order in which the home sent it.
    fn stream(&mut self, cx: &mut Cx<'_>, channel: ChannelName, message: ToEdge) {
        if let ToEdge::Signal { signal, directed: Some(directed) } | ToEdge::Forwarded { signal, directed } = message {
            return self.directed(cx, &channel, signal, directed);
        }
        let Some(index) = self.edges.find(&channel) else { return self.asks_nobody(cx, &message) };
        let edge = &mut self.edges.edges[index as usize];
        let waiting_max = WaitingMax::of(cx.limits);
        match message {
            ToEdge::Deliver { epoch, publication } => {
                let before = edge.at;
                let taken = edge.deliver(epoch, publication.clone(), &waiting_max);
                // Passed over, where it is not for anybody here: the members came later.
                let is_new = edge.at != before || edge.behind != Behind::No;
                if !taken {
                    self.counts.edge_behind += 1;
                    self.tell_home(cx, &channel, ToHome::Behind);
                } else if !is_new {
                    self.asks_nobody(cx, &ToEdge::Deliver { epoch, publication });
                }
            }
            ToEdge::Unlogged { epoch, publication } => edge.unlogged(epoch, publication, &waiting_max),
            ToEdge::Skip { to } => edge.skip(to),
            ToEdge::Signal { signal, directed: None } => {
                self.signals_shed += edge.signal(signal, &waiting_max);
            }
            ToEdge::PresenceChange(push) => edge.presence(push, &waiting_max),
            ToEdge::PresenceCount { count, seq } => edge.presence_count(count, seq, &waiting_max),
            ToEdge::PresenceWhole(snapshot) => edge.presence_whole(snapshot, &waiting_max),
            ToEdge::Nudge if edge.behind == Behind::No => edge.behind = Behind::Yes,
            _ => {}
        }
        if let Some(limit) = waiting_max.reached() {
            self.counts.limited(limit);
        }
        self.run(cx, index);
    }

    /// Fans out the items that wait on an edge, as far as the slice goes. Where it has been interrupted before, it
    /// waits for its turn: else each publication of a burst would bring another slice.
    pub(super) fn run(&mut self, cx: &mut Cx<'_>, index: u32) {
        let Some(edge) = self.edges.edges.get_mut(index as usize).filter(|edge| !edge.is_running()) else { return };
        let mut edge = edge;
        let limits = (cx.now.mono_ms, cx.limits.page_bytes_max);
        while let Some(to_do) = edge.fan_out(index, &mut self.sessions, cx.effects, cx.slice, limits) {
            self.do_now(cx, index, to_do);
            edge = &mut self.edges.edges[index as usize];
        }
        let life = edge.life;
        edge.reminders().for_each(|(group, at_ms)| self.reminders.add(at_ms, EdgeRef { index, life }, group));
        self.pulls.extend(self.sessions.left_behind.drain(..));
        if edge.has_work() {
            return self.edges.run_later(index);
        }
        if edge.is_quiet() && edge.rooms().is_some_and(|rooms| rooms.has_leaving()) {
            self.look_at_leaving(index);
        }
        let edge = &mut self.edges.edges[index as usize];
        if edge.behind == Behind::Yes {
            if let Some(at) = edge.at {
                edge.behind = Behind::Pulling;
                self.counts.edge_pulls += 1;
                let (channel, life) = (edge.name.clone(), edge.life);
                let token = self.pending.insert(Pending::EdgePull { edge: index, life });
                self.tell_home(cx, &channel, ToHome::Pull { token, at, puller: Puller::Edge });
            }
        } else if edge.presence_stale {
            edge.presence_stale = false;
            let (channel, life) = (edge.name.clone(), edge.life);
            let token = self.pending.insert(Pending::EdgePresence { edge: index, life });
            self.tell_home(cx, &channel, ToHome::Presence { token });
        }
    }

    /// When the time of the next batch comes.
    pub(crate) fn next_batch_ms(&self) -> Option<u64> {
        self.reminders.next_ms()
    }

    /// Gives a directed signal to its receiver, and answers whether it could. Where the receiver's session has gone to
    /// another shard lately, the signal follows it in the same queue, and that shard answers: the home may not have
    /// heard of it yet.
    fn directed(&mut self, cx: &mut Cx<'_>, channel: &ChannelName, signal: Arc<SignalPush>, directed: Directed) {
        let Some(client) = signal.signal.to else { return };
        let here = self.sessions.by_client.get(&client).copied();
        let went = self.sessions.moved.shard_of(client).filter(|shard| *shard != cx.me);
        if let (None, Some(shard)) = (here, went) {
            let forwarded = ToEdge::Forwarded { signal, directed };
            return cx.out.push_back((shard, PeerBody::Edge(channel.clone(), forwarded)));
        }
        let taken = here.is_some_and(|index| self.take_directed(cx, index, &signal, directed.number));
        let Directed { origin, token, .. } = directed;
        cx.out.push_back((origin, PeerBody::Edge(channel.clone(), ToEdge::SignalTaken { token, taken })));
    }

    /// Gives a directed signal to a session of this shard, if that is subscribed, or away from a channel that it has
    /// entered.
    fn take_directed(&mut self, cx: &mut Cx<'_>, index: u32, signal: &Arc<SignalPush>, number: u64) -> bool {
        let edge = self.edges.find(&signal.signal.channel);
        let shards = self.edges.shards().count();
        let session = &mut self.sessions.slab[index as usize];
        if session.has_had_directed(&signal.signal.channel, number) {
            return false; // taken on an earlier shard, or passed over there
        }
        let sub = edge.and_then(|edge| session.sub_on(edge)).map(|slot| &session.subs[slot]);
        if session.conn.is_some() && sub.is_some_and(|sub| !sub.signals) {
            return false; // it asked for no signals: the sender gets `not_found`
        }
        let subscribed = sub.is_some_and(Sub::is_answered);
        // Away, or back and about to be subscribed again: it gets the signal then.
        let away = match session.conn {
            None => {
                session.extra.as_ref().is_some_and(|e| e.entered.iter().any(|e| e.channel == signal.signal.channel))
            }
            Some(_) => sub.is_some_and(|sub| sub.entered.is_some() || sub.membership().is_some()),
        };
        match session.conn {
            Some(conn) if subscribed && !session.is_full(&self.conns) => {
                cx.effects.push_one(Push::Signal(signal.clone()), session.wire, conn);
                said(&self.conns, session, conn, signal, MailboxMax::of(cx.limits));
            }
            _ if subscribed || away => {
                let dropped = session.extra().mailbox.put(signal.clone(), MailboxMax::of(cx.limits));
                self.sessions.signals_dropped += dropped;
            }
            _ => return false,
        }
        if shards > 1 {
            session.had_directed(&signal.signal.channel, number, cx.limits.subscriptions_max);
        }
        true
    }

    /// A directed signal is answered once every edge that was asked has answered.
    fn directed_progress(&mut self, cx: &mut Cx<'_>, token: PendingToken) {
        let Some(Pending::Directed { expected, answered, taken, .. }) = self.pending.get(token) else { return };
        let (all, taken) = (expected.is_some_and(|expected| *answered >= expected), *taken);
        if !all {
            return;
        }
        let Some(Pending::Directed { requester, .. }) = self.pending.take(token) else { return };
        let nobody = || Error::new(ErrorCode::NotFound, "`to` names no client that is subscribed to the channel");
        let result = if taken { Ok(()) } else { Err(nobody()) };
        match requester {
            Requester::Session { session, reply } => {
                let body = result.map_or_else(ReplyBody::Error, |()| ReplyBody::Done);
                self.finish(cx, session, reply, body);
            }
            Requester::App(token) => self.answer_app(cx, token, result.map(|()| AppAnswer::Done)),
        }
    }

    /// Sends the signals that waited for a session that has room again, on every channel that is live by now.
    pub(super) fn send_mailbox(&mut self, cx: &mut Cx<'_>, at: SessionRef) {
        let Some(session) = self.sessions.get(at) else { return };
        if session.extra.as_ref().is_none_or(|extra| extra.mailbox.is_empty()) {
            return;
        }
        let live: Vec<u32> = session.subs.iter().filter(|sub| sub.is_answered()).map(|sub| sub.edge).collect();
        for edge in live {
            self.send_mailbox_of(cx, at, edge);
        }
    }

    /// Sends the signals that waited for one channel of a session, which is live.
    pub(super) fn send_mailbox_of(&mut self, cx: &mut Cx<'_>, at: SessionRef, edge: u32) {
        let Some(session) = self.sessions.get(at) else { return };
        let wants = session.sub_on(edge).is_some_and(|slot| session.subs[slot].signals);
        let (Some(conn), Some(extra)) = (session.conn, session.extra.as_mut()) else { return };
        for signal in extra.mailbox.take_of(&self.edges.edges[edge as usize].name).into_iter().filter(|_| wants) {
            cx.effects.push_one(Push::Signal(signal.clone()), session.wire, conn);
            said(&self.conns, session, conn, &signal, MailboxMax::of(cx.limits));
        }
    }

    /// An answer to a poll on this connection has so many signals for its client alone.
    pub(crate) fn poll_answered(&mut self, client: ClientId, conn: ConnId, number: u64, signals: usize) {
        if let Some(unheard) = self.unheard(client, conn) {
            unheard.answered(number, signals);
        }
    }

    /// The client has that answer.
    pub(crate) fn poll_acknowledged(&mut self, client: ClientId, conn: ConnId) {
        if self.unheard(client, conn).is_some_and(|unheard| unheard.acknowledged()) {
            let index = self.sessions.by_client[&client];
            if let Some(extra) = &mut self.sessions.slab[index as usize].extra {
                extra.unheard = None;
            }
        }
    }

    fn unheard(&mut self, client: ClientId, conn: ConnId) -> Option<&mut Unheard> {
        let &index = self.sessions.by_client.get(&client)?;
        let unheard = self.sessions.slab[index as usize].extra.as_mut()?.unheard.as_deref_mut()?;
        unheard.is_of(conn).then_some(unheard)
    }

    pub(super) fn channel_ask(&mut self, session: SessionRef, reply: ReplyTo) -> PendingToken {
        self.pending.insert(Pending::Command { session, reply })
    }
}

/// A signal has been said on a connection. If that is polled, the client has it only when it says so.
fn said(conns: &[Conn], session: &mut Session, conn: ConnId, signal: &Arc<SignalPush>, max: MailboxMax) {
    let is_polled = conns.get(conn.index as usize).is_some_and(|conn| conn.heartbeat.kind == HeartbeatKind::Polls);
    if is_polled && signal.signal.to.is_some() {
        let unheard = session.extra().unheard.get_or_insert_with(|| Box::new(Unheard::new(conn)));
        unheard.put(signal.clone(), max);
    }
}

pub(super) fn published(published: Published) -> AppAnswer {
    let Published { position, duplicate, subscribers, .. } = published;
    AppAnswer::Published { position, duplicate, subscribers }
}
