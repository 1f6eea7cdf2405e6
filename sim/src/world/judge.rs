//! The judgement of a world: the bounds that hold at every step, and the promises that must be fulfilled at the end.

use super::{Verdict, World};
use crate::ledger::Kept;
use crate::pipe::SinceFull;
use fanfare_hub::{ChannelName, ConnId, Effect, Effects, Push};
use std::collections::HashSet;

impl World {
    /// Promise 8: work over many sessions is done in slices. A session that loses a subscription is at least one step,
    /// and one step of each waiting kind of work is done.
    pub(super) fn is_sliced(&self, list: &[Effect], effects: &Effects) -> Verdict {
        let ended = list.iter().filter_map(|effect| match effect {
            Effect::Push { push: Push::Unsubscribed { .. }, to, .. } => Some(effects.recipients(*to)),
            _ => None,
        });
        let sessions: HashSet<ConnId> = ended.flatten().copied().collect();
        let max = self.plan.limits.fanout_slice + 2;
        if sessions.len() > max {
            return Err(format!("promise 8: {} sessions lose subscriptions in one turn, {max} may", sessions.len()));
        }
        Ok(())
    }

    /// Promise 6: accounted bytes stay within their bound.
    pub(super) fn bounds(&mut self, shard: usize) -> Verdict {
        self.application.broken()?;
        self.stores.borrow_mut().verdict()?;
        let stats = self.shards[shard].shard.stats();
        let questions = stats.questions;
        if questions > self.plan.limits.questions_max {
            return Err(format!("promise 6: {questions} questions, the limit is {}", self.plan.limits.questions_max));
        }
        let limits = &self.plan.limits;
        let waiting = stats.store_waiting_bytes;
        let waiting_max = limits.store_waiting_bytes_max + 2 * limits.message_bytes_max;
        if waiting > waiting_max {
            return Err(format!("promise 6: {waiting} bytes wait for the store, {waiting_max} may"));
        }
        self.held(shard, stats.sends_bytes)?;
        let limits = &self.plan.limits;
        let used = self.stores.borrow().bytes_used(shard);
        if used > limits.history_bytes_max {
            return Err(format!("promise 6: history of {used} bytes, the limit is {}", limits.history_bytes_max));
        }
        // In addition there is the page of an edge that was behind, which ends with the publication that exceeds the
        // page.
        let (waiting, max) = (self.shards[shard].shard.fanout_waiting_bytes(), limits.fanout_waiting_bytes_max);
        if waiting > max + limits.page_bytes_max + 2 * limits.message_bytes_max {
            return Err(format!("promise 6: {waiting} bytes wait behind a fan-out, the limit is {max}"));
        }
        // A connection that has ended stays so, unless it is bound later.
        let pipes = &self.pipes;
        self.shards[shard].open.retain(|pipe| pipes[*pipe].server_open);
        for &index in &self.shards[shard].open {
            let pipe = &pipes[index];
            // One turn gives a page without a request and the publication that exceeds it, a page to a client that
            // catches up, one answer that is a page, and a short answer to each command that had been read.
            let frames = limits.outstanding_max + limits.subscriptions_max + limits.signals_waiting_max + 4;
            let max = limits.outbox_bytes_max
                + 2 * limits.page_bytes_max
                + pipe.page_frame_max
                + limits.message_bytes_max
                + frames * pipe.frame_max;
            if pipe.outbox.bytes() > max {
                return Err(format!("promise 6: {} bytes wait for pipe {index}, {max} may", pipe.outbox.bytes()));
            }
            // From the time at which the hub knows that it is full: the page on its way, and the answers to earlier
            // commands.
            let Some(SinceFull { turns, answers, .. }) = pipe.full else { continue };
            let answers_max = limits.outstanding_max + limits.subscriptions_max;
            if turns > 1 || answers > answers_max {
                return Err(format!(
                    "promise 6: pipe {index} was full, and then came publications in {turns} turns (1 may) and \
                     {answers} answers ({answers_max} may)"
                ));
            }
        }
        Ok(())
    }

    pub(super) fn judge(&mut self) -> Verdict {
        let online = self.clients.iter().filter(|client| client.online).count();
        if online < self.clients.len() {
            return Err(format!("promise 3: {online} of {} clients are online", self.clients.len()));
        }
        for client in &self.clients {
            let Some(pipe) = client.pipe else { continue };
            let live = self.checker.subscribed(pipe);
            let is_missing =
                |channel: &&ChannelName| !live.contains(channel) && !self.checker.is_uncertain(pipe, channel);
            if let Some(wanted) = client.wanted.keys().find(is_missing) {
                return Err(format!("promise 3: client {} wants {wanted} and is not subscribed", client.number));
            }
        }
        self.judge_chats()?;
        self.judge_readers()?;
        let cores = self.cores.iter().filter_map(|core| Some((core.pipe?, core.live()))).collect();
        let (subscribers, connected) = self.checker.subscribers(&cores);
        if self.plan.app {
            self.app.finish(&subscribers, connected)?;
        }
        if self.plan.hooks.is_on {
            self.application.finish_notices(&subscribers)?;
        }
        self.forwards.verdict()?;
        // The answer to a ping may have begun just now.
        self.send_judge.verdict_before(self.now_ms - 1_000)?;
        let sessions: usize = self.shards.iter().map(|core| core.shard.stats().sessions).sum();
        if sessions != self.lives.online() {
            return Err(format!("lives: {} sessions have a connection, and there are {sessions}", self.lives.online()));
        }
        self.application.finish(self.shards.iter().map(|core| core.shard.stats().sessions).sum())?;
        // The application is not asked about its own publications, and about none for an audience.
        let is_asked_for = |kept: &Kept| kept.client().is_some() && kept.publication.audience.is_none();
        for (channel, _, kept) in self.stores.borrow().ledger.all().filter(|(_, _, kept)| is_asked_for(kept)) {
            self.application.check_kept(channel, kept.publication.data.bytes())?;
        }
        for (channel, _, kept) in self.stores.borrow().ledger.all() {
            if let Some((_, row)) = self.policy.of(channel) {
                self.strict.stands(channel, row, kept)?;
            }
        }
        for core in &self.cores {
            core.finish(&self.stores.borrow())?;
            for (channel, names) in core.presences().filter(|(channel, _)| self.plan.channels.contains(channel)) {
                self.counts.core_presences += 1;
                if core.pipe.is_some() {
                    self.checker.presence_agrees(&channel, names)?;
                }
            }
        }
        if self.signals_shed == self.shed_signals() {
            self.checker.finish_last_signal()?;
        }
        self.checker.finish(&self.stores.borrow(), &self.plan.channels)
    }
}
