//! What shards tell and answer in channels whose rules keep something out.

use super::{Verdict, World};
use crate::desk::Open;
use crate::model::Policy;
use crate::pipe::Pipe;
use crate::quotas::{Charged, is_over_quota};
use crate::strict::{By, Strict};
use fanfare_hub::{ClientId, Push, Reply, ReplyBody, RequestId, UserId};

impl World {
    /// A shard answers a command.
    pub(super) fn answers_strictly(&mut self, pipe: usize, open: Option<&Open>, reply: &Reply) -> Verdict {
        let bodies = match &reply.body {
            ReplyBody::Many(bodies) => bodies.as_slice(),
            body => std::slice::from_ref(body),
        };
        let (now_ms, session) = (self.now_ms, self.pipes[pipe].session);
        let is_apart = self.pipes[pipe].apart.is_some() || self.pipes[pipe].chat.is_some();
        let by = if is_apart { By::ClientApart } else { By::Client };
        for body in bodies {
            match (body, session) {
                (ReplyBody::Connected(connected), _) if is_apart => self.strict.is_apart(connected.client),
                (ReplyBody::Subscribed(subscribed), Some(client)) => {
                    let Some((_, row)) = self.policy.of(&subscribed.channel) else { continue };
                    let is_open = |pipe: usize| self.pipes[pipe].server_open;
                    self.strict.subscribed(now_ms, (client, pipe), subscribed, (row, by), is_open)?;
                }
                (ReplyBody::Unsubscribed { channel, .. }, _) => {
                    self.strict.unsubscribed(now_ms, session, pipe, channel);
                }
                (ReplyBody::History(history), Some(client)) => {
                    let Some((_, row)) = self.policy.of(&history.channel) else { continue };
                    let given_ms = open.map_or(now_ms, |open| open.given_ms);
                    self.strict.read(client, given_ms, row, history)?;
                }
                (ReplyBody::Error(error), _) if error.option == Some("max_subscribers") => {
                    let Some(channel) = &error.channel else { continue };
                    let max = self.policy.of(channel).and_then(|(_, row)| row.max_subscribers);
                    let may_ask = |pipe: &usize| {
                        let pipe = &self.pipes[*pipe];
                        pipe.server_open && (pipe.desk.is_asking(channel) || pipe.apart.is_some())
                    };
                    let asking = (0..self.pipes.len()).filter(may_ask).count();
                    self.strict.place_refused(now_ms, channel, max, asking)?;
                }
                // It may have had a place, and given it back.
                (ReplyBody::Error(error), _) => {
                    if let Some(channel) = &error.channel {
                        self.strict.may_give_back(now_ms, channel);
                    }
                }
                _ => {}
            }
        }
        let row = open.and_then(|open| open.sent.as_ref()).and_then(|sent| self.policy.of(&sent.channel));
        match (open, row) {
            (Some(open), Some((_, row))) => self.strict.answered(open, row, &reply.body),
            _ => Ok(()),
        }
    }

    /// A shard tells a connection of a session something.
    pub(super) fn tells_strictly(
        strict: &mut Strict,
        policy: &Policy,
        now_ms: u64,
        (pipe, session): (usize, Option<ClientId>),
        push: &Push,
    ) -> Verdict {
        match (push, session) {
            (Push::Subscribed(subscribed), Some(client)) => {
                let Some((_, row)) = policy.of(&subscribed.channel) else { return Ok(()) };
                strict.subscribed(now_ms, (client, pipe), subscribed, (row, By::Server), |_| true)
            }
            (Push::Unsubscribed { channel, .. }, _) => {
                strict.unsubscribed(now_ms, session, pipe, channel);
                Ok(())
            }
            (Push::Signal(signal), _) if signal.from.client.is_some() => {
                let row = policy.of(&signal.signal.channel);
                row.map_or(Ok(()), |(_, row)| Strict::signalled(row, &signal.signal.data))
            }
            _ => Ok(()),
        }
    }

    /// A shard has no such connection any more. It may have been asking for places.
    pub(super) fn strictly_over(&mut self, pipe: usize) {
        self.strict.over(self.now_ms, pipe);
        self.strictly_unheard(pipe);
    }

    /// A connection hears no more answers. Subscriptions that it was asking for may have begun: in a session that goes
    /// on, from where they began. Not all answers that go by another way than messages are seen.
    pub(super) fn strictly_unheard(&mut self, pipe: usize) {
        let session = self.pipes[pipe].session.or(self.fetched(pipe));
        if session.is_some_and(|client| self.strict.hears_apart(client)) {
            self.plan.channels.iter().for_each(|channel| self.strict.may_give_back(self.now_ms, channel));
        }
        for channel in self.plan.channels.iter().filter(|channel| self.pipes[pipe].desk.is_asking(channel)) {
            self.strict.may_give_back(self.now_ms, channel);
            self.strict.asked_in_vain(self.pipes[pipe].session.or(self.fetched(pipe)), channel);
        }
    }
}

/// Quotas.
impl World {
    /// A shard was given a command that takes of the quotas of its session.
    pub(super) fn is_charged(
        &mut self,
        pipe: usize,
        was_connected: bool,
        id: Option<&RequestId>,
        cost: [u64; 2],
    ) -> Verdict {
        let Pipe { session, user, is_continued, .. } = &self.pipes[pipe];
        let (Some(client), true) = (*session, was_connected) else {
            self.pipes[pipe].uncharged.push(cost);
            return Ok(());
        };
        let charged = Charged { now_ms: self.now_ms, client, user: user.as_ref(), cost, is_continued: *is_continued };
        // A chat client is not refused: its connection is not read for a while.
        if self.pipes[pipe].chat.is_some() || id.is_none() {
            self.quotas.may_be_charged(charged);
            return Ok(());
        }
        let is_its = |(of, answered, _): &&(usize, Option<RequestId>, _)| *of == pipe && answered.as_ref() == id;
        let error = self.answered_now.iter().find(is_its).and_then(|(.., error)| error.as_ref());
        self.quotas.decided(charged, error.filter(|error| is_over_quota(error)))
    }

    /// A session has a connection: what had waited for that is charged, or refused.
    pub(super) fn charges_waiting(&mut self, pipe: usize, client: ClientId, user: Option<&UserId>) {
        for cost in std::mem::take(&mut self.pipes[pipe].uncharged) {
            let charged = Charged { now_ms: self.now_ms, client, user, cost, is_continued: false };
            self.quotas.may_be_charged(charged);
        }
    }
}
