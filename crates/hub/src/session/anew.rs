//! A client subscribes to a channel to which the application has subscribed it already.
//!
//! The application chose no options for the client, and the client may not know that it is subscribed: the messages
//! cross. In: a `subscribe` on a live subscription that a command of the application or a token let in. Out: the
//! subscription begins anew, with the client's options and position, at the home's answer. Until then it goes on
//! as it is, and it also does if the home refuses. Its reason stays, and so do its presence and the signals that wait.

use super::pending::{Pending, ReplyTo};
use super::{Cx, Sessions};
use crate::edge::batch;
use crate::error::{Error, ErrorCode};
use crate::ids::SessionRef;
use crate::message::{ReplyBody, SubOptions};
use crate::peer::{Start, Takes, Want};

impl Sessions {
    /// The subscription in this slot is to begin anew. Later commands on its channel wait for the home's answer.
    pub(super) fn subscribe_anew(
        &mut self,
        cx: &mut Cx<'_>,
        at: SessionRef,
        slot: usize,
        reply: ReplyTo,
        options: SubOptions,
    ) {
        let Some(session) = self.sessions.get(at) else { return };
        let (sub, edge, client) = (session.subs[slot].id, session.subs[slot].edge, session.client);
        let channel = options.channel.clone();
        session.extra().lanes.block(&channel);
        let reads = session.reads(cx, &options.channel);
        let want = Want { since: options.since, recent: options.recent, reads, takes: Takes::None, client };
        let token = self.pending.insert(Pending::Anew { session: at, sub, reply, options: Box::new(options) });
        self.ask_sub(cx, edge, token, want, None);
    }

    /// The home has answered: the subscription begins anew, unless it has ended meanwhile.
    pub(super) fn begins_anew(
        &mut self,
        cx: &mut Cx<'_>,
        at: SessionRef,
        sub: u32,
        reply: ReplyTo,
        options: SubOptions,
        result: Result<Start, Error>,
    ) {
        let channel = options.channel.clone();
        let Some(session) = self.sessions.get(at) else { return self.not_done(cx, reply) };
        session.extra().lanes.unblock(&channel);
        let ended = || Error::new(ErrorCode::Unavailable, "the subscription ended before this was done").on(&channel);
        let slot = session.sub_of_id(sub);
        match result.and_then(|start| Ok((start, slot.ok_or_else(ended)?))) {
            Err(error) => self.finish(cx, at, reply, ReplyBody::Error(error)),
            Ok((start, slot)) => {
                self.leave_edge(at, slot);
                let Some(session) = self.sessions.get(at) else { return };
                session.next_sub += 1;
                let id = session.next_sub; // a page that is on its way follows the old place
                let sub = &mut session.subs[slot];
                sub.id = id;
                (sub.presence, sub.signals) = (options.presence, options.signals);
                (sub.batch, sub.slow) = (batch::rounded(options.batch, cx.limits), options.slow);
                let edge = sub.edge;
                self.begin_membership(cx, at, slot, edge, reply, start);
                self.run(cx, edge);
            }
        }
        self.drain_lane(cx, at, &channel);
    }
}
