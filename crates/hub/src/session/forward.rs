//! Commands that come for a session by requests of their own, on any shard: taken in, done where the session is,
//! answered where they came from.
//!
//! Each is a [`Pending`] of the shard that took it in. It is answered once: by the session's shard, or by its
//! timer. A session that is changing shards is followed: its old shard passes the command on, behind the session in
//! the same queue. A session is found only while it has a connection; a connection that nobody reads at the moment
//! is one.

use super::pending::{Pending, ReplyTo};
use super::{Cx, Sessions};
use crate::effects::Effect;
use crate::error::{Error, ErrorCode};
use crate::forward::{ForwardToken, Forwarded};
use crate::ids::{ClientId, ShardId};
use crate::message::{Command, Reply, ReplyBody, Request, Resume};
use crate::peer::{PeerBody, PendingToken};
use crate::timer::Timer;

/// After how long a command that found too many before it may be tried again.
const RETRY_AFTER_MS: u64 = 500;

impl Sessions {
    /// A command has come to this shard for the session that a ticket names.
    pub(crate) fn forward(&mut self, cx: &mut Cx<'_>, token: ForwardToken, to: Resume, request: Request) {
        self.forwards += 1;
        let Resume { shard, client } = to;
        let max = cx.limits.forwarded_max;
        let refused = if self.forwards > max {
            let message = format!("{max} commands wait for sessions of other shards, the limit (forwarded_max)");
            Some(unavailable(message))
        } else if !self.edges.is_shard(shard) {
            Some(gone())
        } else {
            None
        };
        if let Some(error) = refused {
            return self.answer_forward(cx, token, Some(Reply { id: request.id, body: ReplyBody::Error(error) }));
        }
        // It may have come over by a resume whose new ticket the client does not have yet.
        let shard = if self.sessions.by_client.contains_key(&client) { cx.me } else { shard };
        let pending = self.pending.insert(Pending::Forward { token, id: request.id.clone() });
        cx.wheel.add(cx.now.mono_ms + cx.limits.forward_timeout_ms, Timer::Forward(pending));
        let request = Box::new(request);
        cx.out.push_back((shard, PeerBody::Forward { token: pending, origin: cx.me, client, request }));
    }

    /// A shard has taken in a command for a client that is here, or was.
    pub(crate) fn command_for(
        &mut self,
        cx: &mut Cx<'_>,
        origin: ShardId,
        token: PendingToken,
        client: ClientId,
        request: Request,
    ) {
        let Some(&index) = self.sessions.by_client.get(&client) else {
            return match self.sessions.moved.shard_of(client) {
                Some(next) => {
                    let request = Box::new(request);
                    cx.out.push_back((next, PeerBody::Forward { token, origin, client, request }));
                }
                None => self.reply(cx, None, ReplyTo::Forwarded { origin, token }, ReplyBody::Error(gone())),
            };
        };
        let at = self.sessions.reference(index);
        let session = &self.sessions.slab[index as usize];
        let (conn, outstanding, reply) = (session.conn, session.outstanding, ReplyTo::Forwarded { origin, token });
        let Some(id) = conn else { return self.reply(cx, None, reply, ReplyBody::Error(gone())) };
        self.alive(id);
        let max = cx.limits.outstanding_max;
        let refused = match request.command {
            Command::Pong => return cx.out.push_back((origin, PeerBody::Forwarded { token, body: None })),
            Command::Invalid(error) => {
                self.reply(cx, conn, reply, ReplyBody::Error(error));
                return self.count_bad(cx, id);
            }
            Command::Connect(_) => Error::new(ErrorCode::AlreadyConnected, "this session has a connection"),
            // At this number its connection is not read. Commands by other requests still come.
            _ if outstanding as usize >= max => {
                unavailable(format!("{max} commands of this session wait for an answer, the limit (outstanding_max)"))
            }
            command => return self.session_command(cx, at, reply, command),
        };
        self.reply(cx, conn, reply, ReplyBody::Error(refused));
    }

    /// The session's shard answers. An answer that comes too late, or twice, is dropped.
    pub(crate) fn forwarded(&mut self, cx: &mut Cx<'_>, token: PendingToken, body: Option<ReplyBody>) {
        if !matches!(self.pending.get(token), Some(Pending::Forward { .. })) {
            return;
        }
        let Some(Pending::Forward { token, id }) = self.pending.take(token) else { return };
        let is_told = |body: &ReplyBody| id.is_some() || matches!(body, ReplyBody::Error(_));
        let reply = body.filter(is_told).map(|body| Reply { id: id.clone(), body });
        self.answer_forward(cx, token, reply);
    }

    /// The time for the answer of the session's shard is over. Without effect after an answer.
    pub(crate) fn forward_timeout(&mut self, cx: &mut Cx<'_>, token: PendingToken) {
        let message = format!("the session's shard did not answer in {} ms", cx.limits.forward_timeout_ms);
        self.forwarded(cx, token, Some(ReplyBody::Error(Error::new(ErrorCode::Timeout, message))));
    }

    fn answer_forward(&mut self, cx: &mut Cx<'_>, token: ForwardToken, reply: Option<Reply>) {
        self.forwards -= 1;
        cx.effects.add(Effect::Forwarded(Box::new(Forwarded { token, reply })));
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
