//! The faults, and their end.

use super::{Event, Verdict, World};
use crate::client::Client;
use fanfare_hub::{ChannelName, Input};
use std::sync::Arc;

impl World {
    pub(super) fn fault(&mut self) -> Verdict {
        if self.calm {
            return Ok(());
        }
        let next = 50 + self.rng.below(900);
        self.after(next, Event::Fault);
        let faults = self.plan.faults.clone();
        let open: Vec<usize> = (0..self.pipes.len()).filter(|p| self.pipes[*p].client_open).collect();
        let pipe = (!open.is_empty()).then(|| open[self.rng.below(open.len() as u64) as usize]);
        let shard = self.rng.below(self.shards.len() as u64) as usize;
        match (self.rng.below(8), pipe) {
            (0, Some(pipe)) if faults.cuts => self.cut(pipe, false)?,
            (1, Some(pipe)) if faults.half_open => {
                self.trace.note(self.now_ms, || format!("pipe {pipe} is half open from here on"));
                self.pipes[pipe].half_open = true;
            }
            (2 | 3, Some(pipe)) if faults.stalls && !self.pipes[pipe].stalled => {
                self.trace.note(self.now_ms, || format!("pipe {pipe} is not read for a while"));
                self.pipes[pipe].stalled = true;
                let long = 100 + self.rng.below(5_000);
                self.after(long, Event::Mend { pipe });
            }
            (4, _) if faults.shard_stalls => {
                self.counts.shard_stalls += 1;
                let long = self.rng.below(400);
                self.trace.note(self.now_ms, || format!("shard {shard} stands still for {long} ms"));
                self.shards[shard].stalled_until_ms = self.now_ms + long;
            }
            (5, _) if faults.clock_steps => {
                self.counts.clock_steps += 1;
                let step = self.rng.below(120_000);
                self.wall_ms = if self.rng.below(2) == 0 { self.wall_ms + step } else { self.wall_ms - step };
            }
            (6, _) if faults.store.loses => {
                self.trace.note(self.now_ms, || format!("the store of shard {shard} loses everything"));
                self.stores.borrow_mut().lose(shard, &self.plan.limits);
            }
            (7, _) if faults.reloads => {
                let channel = self.plan.channels[self.rng.below(self.plan.channels.len() as u64) as usize].clone();
                self.reload(Some(channel))?;
                let long = 100 + self.rng.below(1_500);
                self.after(long, Event::Reopen);
            }
            _ => {}
        }
        Ok(())
    }

    /// A link between two shards is stuck, and a client that has just said something over it comes back on the third
    /// one.
    pub(super) fn stick(&mut self) -> Verdict {
        if self.calm {
            return Ok(());
        }
        let next = 50 + self.link_rng.below(600);
        self.after(next, Event::Stick);
        let shards = self.shards.len();
        let from = self.link_rng.below(shards as u64) as usize;
        let to = (from + 1 + self.link_rng.below(shards as u64 - 1) as usize) % shards;
        let until_ms = self.now_ms + self.link_rng.below(1_500);
        self.trace.note(self.now_ms, || format!("what shard {from} says to {to} is stuck until {until_ms} ms"));
        let (_, last_ms) = &mut self.shards[to].inbox[from];
        *last_ms = (*last_ms).max(until_ms);
        let there = |client: &&Client| client.online && client.shard == from;
        let Some(client) = self.clients.iter().find(there).map(|client| client.number) else { return Ok(()) };
        let Some(pipe) = self.clients[client].pipe else { return Ok(()) };
        if let Some(request) = self.clients[client].farewell(&mut self.link_rng, &mut self.numbers) {
            self.send(pipe, request)?;
        }
        let later = 10 + self.link_rng.below(40);
        self.after(
            later,
            Event::Leap { pipe, to: (0..shards).find(|shard| ![from, to].contains(shard)).unwrap_or(to) },
        );
        Ok(())
    }

    /// A client leaves its connection and comes back at once.
    pub(super) fn leap(&mut self, pipe: usize, to: usize) -> Verdict {
        let client = self.pipes[pipe].client;
        if self.calm || self.clients[client].pipe != Some(pipe) {
            return Ok(());
        }
        self.cut(pipe, false)?;
        self.open(client, to)
    }

    pub(super) fn reload(&mut self, shut: Option<ChannelName>) -> Verdict {
        self.trace.note(self.now_ms, || format!("the rules shut {shut:?}"));
        self.checker.rules_shut(shut.as_ref());
        self.rules = Arc::new(self.plan.rules(shut.as_ref()));
        for shard in 0..self.shards.len() {
            self.handle(shard, Input::Reload(self.rules.clone()))?;
        }
        Ok(())
    }

    /// The last fault is over. A half-open connection stays what it is until somebody notices.
    pub(super) fn heal(&mut self) -> Verdict {
        self.trace.note(self.now_ms, || "everything heals".to_owned());
        (self.calm, self.calm_ms) = (true, self.now_ms);
        self.application.calm_from = Some(self.numbers.next + 1);
        self.stores.borrow_mut().faults = Default::default();
        for pipe in 0..self.pipes.len() {
            self.mend(pipe)?;
        }
        for core in &mut self.shards {
            core.stalled_until_ms = 0;
        }
        self.reload(None)
    }
}
