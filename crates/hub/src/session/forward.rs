//! Commands that come for a session by requests of their own, on any shard: taken in, done where the session is,
//! answered where they came from.
//!
//! Each request is a [`Pending`] of the shard that took it in. It is answered once: by the session's shard, or by its
//! timer. A session that is changing shards is followed: its old shard passes the request on, behind the session in
//! the same queue. A session is found only while it has a connection; a connection that nobody reads at the moment
//! is one. A client that only wants to leave needs none. [`Sends`](super::sends::Sends) holds the requests of a session
//! to the order of their numbers.

use super::pending::{Pending, ReplyAddresses, ReplyTo, Sent};
use super::sends::{Early, Sends, Taken};
use super::{Cx, Sessions};
use crate::effects::Effect;
use crate::error::{Error, ErrorCode};
use crate::forward::{ForwardToken, Forwarded, SendRequest, Whereabouts};
use crate::ids::{ClientId, ConnId, SessionRef};
use crate::message::{Command, Reply, ReplyBody, Request, Resume};
use crate::peer::{PeerBody, PendingToken, ReplyAddress};
use crate::timer::Timer;
use smallvec::smallvec;
use std::collections::BTreeMap;
use std::sync::Arc;

/// After how long a command that found too many before it may be tried again.
const RETRY_AFTER_MS: u64 = 500;
/// How long a send waits for those before it.
const GAP_MS: u64 = 5_000;

impl Sessions {
    /// Where the session of a client is.
    pub(crate) fn whereabouts(&self, client: ClientId) -> Whereabouts {
        match self.sessions.by_client.get(&client) {
            Some(&index) => self.sessions.slab[index as usize].conn.map_or(Whereabouts::Away, Whereabouts::Here),
            None => self.sessions.moved.shard_of(client).map_or(Whereabouts::Unknown, Whereabouts::Left),
        }
    }

    /// Commands have come to this shard for the session that a ticket names.
    pub(crate) fn forward(&mut self, cx: &mut Cx<'_>, token: ForwardToken, to: Resume, send: SendRequest) {
        self.forwards += 1;
        let Resume { shard, client } = to;
        let max = cx.limits.forwarded_max;
        let refused = if self.forwards > max {
            let message = format!("{max} requests with commands wait for their answers, the limit (forwarded_max)");
            self.counts.limited("forwarded_max"); // its answer is no reply of a session, which would be counted
            Some(unavailable(message))
        } else if !self.edges.is_shard(shard) {
            Some(gone())
        } else {
            None
        };
        if let Some(error) = refused {
            return self.answer_forward(cx, token, Err(error));
        }
        // It may have come over by a resume whose new ticket the client does not have yet.
        let shard = if self.sessions.by_client.contains_key(&client) { cx.me } else { shard };
        let pending = self.pending.insert(Pending::Forward(token));
        cx.wheel.add(cx.now.mono_ms + cx.limits.forward_timeout_ms, Timer::Forward(pending));
        let to = ReplyAddress { shard: cx.me, token: pending };
        cx.out.push_back((shard, PeerBody::Forward { to, client, send: Box::new(send) }));
    }

    /// A shard has taken in commands for a client that is here, or was.
    pub(crate) fn commands_for(&mut self, cx: &mut Cx<'_>, to: ReplyAddress, client: ClientId, send: SendRequest) {
        let Some(&index) = self.sessions.by_client.get(&client) else {
            return match self.sessions.moved.shard_of(client) {
                Some(next) => cx.out.push_back((next, PeerBody::Forward { to, client, send: Box::new(send) })),
                None => self.refuse_send(cx, to, gone()),
            };
        };
        let at = self.sessions.reference(index);
        let session = &mut self.sessions.slab[index as usize];
        let Some(id) = session.conn else {
            // It was cut off. Its number does not matter any more.
            if let [Request { command: Command::Disconnect, .. }] = send.requests[..] {
                return self.begin_send(cx, at, smallvec![to], SendRequest { n: None, ..send });
            }
            return self.refuse_send(cx, to, gone());
        };
        let Some(n) = send.n else {
            self.alive(id);
            return self.begin_send(cx, at, smallvec![to], send);
        };
        let sends = session.extra().sends.get_or_insert_default();
        let taken = sends.take(n);
        self.alive(id);
        match taken {
            Taken::Begin => {
                self.begin_send(cx, at, smallvec![to], send);
                self.begin_early(cx, at);
            }
            Taken::Answered(replies) => self.answer_send(cx, to, Ok(replies)),
            Taken::UnderWay(token) => match self.pending.get(token) {
                Some(Pending::Sent(sent)) => sent.to.push(to),
                _ => self.refuse_send(cx, to, gone()),
            },
            Taken::Early => self.wait_send(cx, at, n, Early { send, to: smallvec![to] }),
            Taken::Refused(error) => self.refuse_send(cx, to, error),
        }
    }

    /// The commands of a send take effect.
    fn begin_send(&mut self, cx: &mut Cx<'_>, at: SessionRef, to: ReplyAddresses, send: SendRequest) {
        let Some(session) = self.sessions.get(at) else { return self.refuse_sends(cx, to, &gone()) };
        let (client, conn) = (session.client, session.conn);
        let SendRequest { n, mut requests, .. } = send;
        requests.retain(|request| request.command != Command::Pong);
        let ids = requests.iter().map(|request| request.id.clone()).collect();
        let token = self.pending.insert(Pending::Sent(Box::new(Sent::new(client, n, to, ids))));
        if let (Some(n), Some(session)) = (n, self.sessions.get(at)) {
            session.extra().sends.get_or_insert_default();
            self.sessions.sends(at.index, |sends| sends.begin(n, token));
        }
        if requests.is_empty() {
            return self.complete_send(cx, token);
        }
        for (place, Request { command, .. }) in requests.into_iter().enumerate() {
            self.forwarded_command(cx, at, conn, ReplyTo::Sent { token, at: place as u32 }, command);
        }
    }

    fn forwarded_command(
        &mut self,
        cx: &mut Cx<'_>,
        at: SessionRef,
        conn: Option<ConnId>,
        reply: ReplyTo,
        command: Command,
    ) {
        if (conn, &command) == (None, &Command::Disconnect) {
            return self.leave(cx, at, reply);
        }
        // One before it may have ended the connection.
        let session = self.sessions.get(at).filter(|session| session.conn == conn);
        let (Some(outstanding), Some(id)) = (session.map(|session| session.outstanding), conn) else {
            return self.reply(cx, None, reply, ReplyBody::Error(gone()));
        };
        let seat = self.sessions.get(at).and_then(|session| session.seat_id());
        let max = cx.limits.outstanding_max;
        let refused = match command {
            Command::Invalid(error) => {
                self.reply(cx, seat, reply, ReplyBody::Error(error));
                return self.count_bad(cx, id);
            }
            Command::Connect(_) => Error::new(ErrorCode::AlreadyConnected, "this session has a connection"),
            // At this number its connection is not read. Commands by other requests still come.
            _ if outstanding as usize >= max => {
                let message = format!("{max} commands of this session wait for an answer, the limit (outstanding_max)");
                unavailable(message).by_limit("outstanding_max")
            }
            command => return self.session_command(cx, at, reply, command),
        };
        self.reply(cx, seat, reply, ReplyBody::Error(refused));
    }

    /// A send waits for those before it.
    fn wait_send(&mut self, cx: &mut Cx<'_>, at: SessionRef, n: u64, early: Early) {
        let Some(session) = self.sessions.get(at) else { return self.refuse_sends(cx, early.to, &gone()) };
        let sends = session.extra().sends.get_or_insert_default();
        if !sends.has_room(n, early.send.bytes, cx.limits.outbox_bytes_max) {
            let error = sends.out_of_order(n);
            return self.refuse_sends(cx, early.to, &error);
        }
        let is_first = sends.early_count() == 0;
        self.sessions.sends(at.index, |sends| sends.wait(n, early));
        if is_first {
            self.watch_gap(cx, at);
        }
    }

    /// One has taken effect: those that waited for it do too, and the others wait for another one.
    fn begin_early(&mut self, cx: &mut Cx<'_>, at: SessionRef) {
        while self.sessions.get(at).is_some()
            && let Some(Some(Early { send, to })) = self.sessions.sends(at.index, Sends::next_early)
        {
            self.begin_send(cx, at, to, send);
        }
        self.watch_gap(cx, at);
    }

    /// Sends wait from now on for the next number.
    fn watch_gap(&mut self, cx: &mut Cx<'_>, at: SessionRef) {
        let sends = self.sessions.get(at).and_then(|session| session.extra.as_ref()?.sends.as_ref());
        if let Some(sends) = sends.filter(|sends| sends.early_count() > 0) {
            let timer = Timer::Gap { session: at.index, life: at.life, begun: sends.begun() };
            cx.wheel.add(cx.now.mono_ms + GAP_MS, timer);
        }
    }

    /// The time for a missing send is over, unless it has come.
    pub(crate) fn gap_timeout(&mut self, cx: &mut Cx<'_>, index: u32, life: u32, begun: u64) {
        if self.sessions.get(SessionRef { index, life }).is_none() {
            return;
        }
        let refused = self.sessions.sends(index, |sends| {
            let early = if sends.begun() == begun { sends.take_early() } else { BTreeMap::new() };
            early.into_iter().map(|(n, early)| (early.to, sends.out_of_order(n))).collect::<Vec<_>>()
        });
        for (to, error) in refused.unwrap_or_default() {
            self.refuse_sends(cx, to, &error);
        }
    }

    /// The connection of a session is over: sends that wait are not done.
    pub(super) fn drop_early(&mut self, cx: &mut Cx<'_>, index: u32) {
        for (_, Early { to, .. }) in self.sessions.sends(index, Sends::take_early).unwrap_or_default() {
            self.refuse_sends(cx, to, &gone());
        }
    }

    /// One command of a send is answered.
    pub(super) fn sent_part(&mut self, cx: &mut Cx<'_>, token: PendingToken, at: u32, body: ReplyBody) {
        if let Some(Pending::Sent(sent)) = self.pending.get(token)
            && sent.answer(at, body)
        {
            self.complete_send(cx, token);
        }
    }

    fn complete_send(&mut self, cx: &mut Cx<'_>, token: PendingToken) {
        if !matches!(self.pending.get(token), Some(Pending::Sent(_))) {
            return;
        }
        let Some(Pending::Sent(sent)) = self.pending.take(token) else { return };
        let (client, n) = (sent.client, sent.n);
        let (to, replies) = sent.into_replies();
        if let (Some(n), Some(&index)) = (n, self.sessions.by_client.get(&client)) {
            self.sessions.sends(index, |sends| sends.answered(n, token, &replies, cx.limits.outbox_bytes_max));
        }
        for to in to {
            self.answer_send(cx, to, Ok(replies.clone()));
        }
    }

    fn refuse_send(&mut self, cx: &mut Cx<'_>, to: ReplyAddress, error: Error) {
        self.answer_send(cx, to, Err(error));
    }

    /// Refuses a request and those that repeat it.
    fn refuse_sends(&mut self, cx: &mut Cx<'_>, to: ReplyAddresses, error: &Error) {
        for to in to {
            self.refuse_send(cx, to, error.clone());
        }
    }

    fn answer_send(&mut self, cx: &mut Cx<'_>, to: ReplyAddress, answer: Result<Arc<[Reply]>, Error>) {
        cx.out.push_back((to.shard, PeerBody::Forwarded { token: to.token, answer }));
    }

    /// The session's shard answers. An answer that comes too late, or twice, is dropped.
    pub(crate) fn forwarded(&mut self, cx: &mut Cx<'_>, token: PendingToken, answer: Result<Arc<[Reply]>, Error>) {
        if !matches!(self.pending.get(token), Some(Pending::Forward(_))) {
            return;
        }
        let Some(Pending::Forward(token)) = self.pending.take(token) else { return };
        self.answer_forward(cx, token, answer);
    }

    /// The time for the answer of the session's shard is over. Without effect after an answer.
    pub(crate) fn forward_timeout(&mut self, cx: &mut Cx<'_>, token: PendingToken) {
        let message = format!("the session's shard did not answer in {} ms", cx.limits.forward_timeout_ms);
        self.forwarded(cx, token, Err(Error::new(ErrorCode::Timeout, message)));
    }

    fn answer_forward(&mut self, cx: &mut Cx<'_>, token: ForwardToken, answer: Result<Arc<[Reply]>, Error>) {
        self.forwards -= 1;
        cx.effects.add(Effect::Forwarded(Box::new(Forwarded { token, answer })));
    }
}

fn gone() -> Error {
    Error::new(ErrorCode::NotConnected, "the session has no connection: connect first")
}

fn unavailable(message: String) -> Error {
    let mut error = Error::new(ErrorCode::Unavailable, message);
    error.retry_after_ms = Some(RETRY_AFTER_MS);
    error
}
