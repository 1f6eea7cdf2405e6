//! The server stops and starts again: all clients are told, commands are answered, and the next server knows no
//! session of the last. Its store has kept everything or lost everything.

use super::{Core, Event, Link, Verdict, World};
use crate::store::Stores;
use fanfare_client::core::Input as CoreInput;
use fanfare_hub::{Disconnect, Effects, Input, PollTable, Shard, ShardConfig, ShardId};
use std::sync::Arc;

/// How long a stopping server waits for what is not answered.
const SETTLE_MS: u64 = 4_000;
/// The windows.
const WINDOWS_MS: [u64; 3] = [300, 1_000, 2_000];
/// The time that the last bytes take.
const LAST_BYTES_MS: u64 = 200;

impl World {
    /// The server accepts nobody any more, and tells its clients to come back.
    pub(super) fn drain(&mut self) -> Verdict {
        let window_ms = WINDOWS_MS[self.chances.of("drain", 0).below(3) as usize];
        self.trace.note(self.now_ms, || format!("the server drains, in {window_ms} ms"));
        self.draining = Some(window_ms);
        for shard in 0..self.shards.len() {
            self.handle(shard, Input::Drain { window_ms })?;
        }
        let until_ms = self.now_ms + window_ms + SETTLE_MS;
        self.after(window_ms, Event::Settle { until_ms });
        Ok(())
    }

    /// The window is over. The server waits for answers that are still owed, and closes.
    pub(super) fn settle(&mut self, until_ms: u64) -> Verdict {
        let is_done = |core: &Core| {
            let is_empty = core.inbox.iter().all(|link| link.messages.is_empty());
            is_empty && core.stalled_until_ms <= self.now_ms && core.shard.is_settled()
        };
        let is_settled = self.shards.iter().all(is_done);
        if !is_settled && self.now_ms < until_ms {
            self.after(20, Event::Settle { until_ms });
            return Ok(());
        }
        self.judge_drained(is_settled)?;
        self.is_closing = true;
        for index in 0..self.pipes.len() {
            if self.pipes[index].server_open {
                let (shard, conn) = (self.pipes[index].shard, self.pipes[index].conn);
                self.handle(shard, Input::Close { conn, reason: Disconnect::Shutdown })?;
            }
        }
        self.after(LAST_BYTES_MS, Event::Restart);
        Ok(())
    }

    /// Everybody has been told when to leave, and a server that is done owes nobody an answer.
    fn judge_drained(&mut self, is_settled: bool) -> Verdict {
        let window_ms = self.draining.unwrap_or_default();
        let open: Vec<usize> = (0..self.pipes.len()).filter(|pipe| self.pipes[*pipe].server_open).collect();
        for index in &open {
            let pipe = &self.pipes[*index];
            match pipe.drain_delay_ms {
                None => return Err(format!("drain: pipe {index} was never told that the server stops")),
                Some(delay_ms) if delay_ms >= window_ms => {
                    return Err(format!("drain: pipe {index} is to leave after {delay_ms} of {window_ms} ms"));
                }
                Some(_) => self.counts.drained_told += 1,
            }
            if let Some(id) = pipe.desk.unanswered().filter(|_| is_settled && pipe.full.is_none()) {
                return Err(format!("drain: all is said to be answered, and {id} of pipe {index} is not"));
            }
        }
        if is_settled {
            self.counts.settled += 1;
            let outstanding: usize = self.shards.iter().map(|core| core.shard.outstanding()).sum();
            if outstanding > 0 {
                return Ok(()); // of the application, or brought by requests of their own
            }
            if !self.app.is_answered() {
                return Err("drain: all is said to be answered, and a command of the application is not".to_owned());
            }
            // A request of the last instant may not have reached its shard.
            self.forwards.verdict_before(self.now_ms - 1_000)?;
        }
        Ok(())
    }

    /// Another server starts in its place.
    pub(super) fn restart(&mut self) -> Verdict {
        let loses = self.plan.restart.is_some_and(|(_, loses)| loses);
        self.trace.note(self.now_ms, || format!("the server starts again; its store has lost all: {loses}"));
        self.counts.restarts += 1;
        self.life += 1;
        self.draining = None;
        self.is_closing = false;
        for me in 0..self.shards.len() {
            let mut stores = self.stores.borrow_mut();
            stores.asker_gone(me);
            if loses {
                stores.lose(me, &self.plan.limits);
            }
        }
        for pipe in 0..self.pipes.len() {
            if std::mem::take(&mut self.pipes[pipe].server_open) {
                self.server_hears_end(pipe, false);
            }
        }
        self.app.server_gone();
        self.strict.server_gone();
        self.quotas.server_gone();
        self.application.server_gone();
        self.forwards.server_gone();
        self.polls_gone();
        self.send_judge.server_gone();
        self.lives.all_gone();
        self.start()
    }

    /// The shards of a server, with nothing on them.
    fn start(&mut self) -> Verdict {
        let (limits, hooks) = (Arc::new(self.plan.limits.clone()), Arc::new(self.plan.hooks.hooks.clone()));
        let rules = Arc::new(self.plan.rules(self.shut.as_ref()));
        for me in 0..self.shards.len() {
            let number = u64::from(self.life) << 32 | me as u64;
            let config = ShardConfig {
                me: ShardId(me as u16),
                shards: self.plan.shards,
                rules: rules.clone(),
                hooks: hooks.clone(),
                limits: limits.clone(),
                seed: self.chances.of("hub", number).next_u64(),
                placement_key: self.placement_key,
            };
            let store = Stores::store(&self.stores, me);
            let core = &mut self.shards[me];
            core.shard = Shard::new(config, store, fanfare_hub::Now { mono_ms: self.now_ms, wall_ms: self.wall_ms });
            core.effects = Effects::new();
            core.inbox = (0..self.plan.shards).map(|from| Link::new(self.chances, from, me)).collect();
            core.continuing = false;
            core.stalled_until_ms = 0;
            core.polls = PollTable::default();
            core.conns.iter_mut().for_each(|(_, pipe)| *pipe = None);
            core.wake_ms = Some(self.now_ms);
            self.after(0, Event::Wake { shard: me, at_ms: self.now_ms });
        }
        Ok(())
    }

    /// A connection was on its way when the server stopped listening: it is the client's first one since.
    pub(super) fn comes_late(&mut self, client: usize) -> bool {
        let is_late = !self.is_closing && self.late_comers.insert(client);
        self.counts.drained_late += u64::from(is_late);
        is_late
    }

    /// Nobody answers at the server's address.
    pub(super) fn refuse(&mut self, client: usize) -> Verdict {
        if let Some(chat) = self.chat_of(client) {
            self.chats[chat].retry_ms = self.now_ms + 100;
            return Ok(());
        }
        if let Some(reader) = self.reader_of(client) {
            self.readers[reader].retry_ms = self.now_ms + 100;
            return Ok(());
        }
        if let Some(client) = self.clients.get_mut(client) {
            client.retry_ms = self.now_ms + 100;
            return Ok(());
        }
        self.core(client, CoreInput::Closed(None))
    }
}
