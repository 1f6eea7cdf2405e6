//! Requests that bring commands for sessions in the world, and their effects.

use super::{Event, Verdict, World};
use fanfare_hub::{Forwarded, Input, ReplyBody};

impl World {
    pub(super) fn forward_tick(&mut self) -> Verdict {
        if self.calm {
            return Ok(());
        }
        let pause_ms = self.forwards.pause_ms(2 * self.plan.pace_ms);
        self.after(pause_ms, Event::Forward);
        let drawn = self.forwards.draw(self.now_ms, self.shards.len(), &self.plan.channels);
        let Some((shard, token, to, request)) = drawn else { return Ok(()) };
        self.trace.note(self.now_ms, || format!("a request to shard {shard} brings {token:?} for {to:?}: {request:?}"));
        self.counts.forwarded += 1;
        let input = Input::Forward { token, to, send: request.into() };
        self.after(0, Event::Request { shard, input: Box::new(input) });
        Ok(())
    }

    pub(super) fn forwarded(&mut self, forwarded: &Forwarded) -> Verdict {
        self.trace.note(self.now_ms, || format!("a request is answered: {forwarded:?}"));
        let replies = forwarded.answer.iter().flat_map(|replies| replies.iter());
        let is_answer = replies.into_iter().any(|reply| matches!(reply.body, ReplyBody::Presence { .. }));
        self.counts.forwarded_answers += u64::from(is_answer);
        if self.send_answered(forwarded)? {
            return Ok(());
        }
        self.forwards.answered(forwarded)
    }

    /// The hub has ended a connection, or learned of its end.
    pub(super) fn over(&mut self, pipe: usize) {
        let client = self.pipes[pipe].client;
        let shown = match self.clients.get(client) {
            Some(client) => client.ticket.map(|ticket| ticket.client),
            None if self.pipes[pipe].is_without_grace() => None,
            None => self.cores[client - self.clients.len()].session(),
        };
        self.strictly_over(pipe);
        // Its client may have another ticket by now.
        self.forwards.over(self.now_ms, pipe, self.fetched(pipe).or(shown));
    }
}
