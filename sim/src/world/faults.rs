//! The faults, and their end.

use super::{Event, Verdict, World};
use crate::chances::{pick, pick_of};
use crate::client::{Client, Numbers};
use crate::model::Policy;
use crate::plan::Faults;
use fanfare_hub::{ChannelName, Input, Quotas};
use std::sync::Arc;

/// A kind of fault. Each has chances and times of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Cut,
    HalfOpen,
    Stall,
    ShardStall,
    ClockStep,
    StoreLoss,
    Reload,
    Freeze,
}

impl Fault {
    pub(super) const ALL: [Fault; 8] = [
        Fault::Cut,
        Fault::HalfOpen,
        Fault::Stall,
        Fault::ShardStall,
        Fault::ClockStep,
        Fault::StoreLoss,
        Fault::Reload,
        Fault::Freeze,
    ];

    /// True if it happens in this world.
    pub(super) fn is_in(self, faults: &Faults) -> bool {
        match self {
            Fault::Cut => faults.cuts,
            Fault::HalfOpen => faults.half_open,
            Fault::Stall => faults.stalls,
            Fault::ShardStall => faults.shard_stalls,
            Fault::ClockStep => faults.clock_steps,
            Fault::StoreLoss => faults.store.loses,
            Fault::Reload => faults.reloads,
            Fault::Freeze => faults.freezes,
        }
    }

    /// Twice the time between two of its kind, on average.
    fn pause_max_ms(self) -> u64 {
        match self {
            Fault::Stall => 4_000,
            Fault::Freeze => 20_000,
            _ => 8_000,
        }
    }
}

impl World {
    pub(super) fn fault(&mut self, fault: Fault) -> Verdict {
        if self.calm {
            return Ok(());
        }
        let is_open = |pipe: &usize| self.pipes[*pipe].client_open && self.pipes[*pipe].reader.is_none();
        let open = (0..self.pipes.len()).filter(is_open);
        let open: Vec<(u64, usize)> = open.map(|pipe| (self.number_of(self.pipes[pipe].client), pipe)).collect();
        let rng = &mut self.fault_rngs[fault as usize];
        let next = 50 + rng.below(fault.pause_max_ms());
        let pipe = pick(rng, open);
        let shard = pick(rng, (0..self.shards.len()).map(|shard| (shard as u64, shard))).unwrap_or(0);
        let (long, side) = (rng.next_u64(), rng.below(2));
        let channel = pick_of(rng, &self.plan.channels).cloned();
        self.after(next, Event::Fault(fault));
        match (fault, pipe) {
            (Fault::Cut, Some(pipe)) if side == 0 => self.lose_requests(pipe)?,
            (Fault::Cut, Some(pipe)) => self.cut(pipe, false)?,
            (Fault::HalfOpen, Some(pipe)) => {
                self.trace.note(self.now_ms, || format!("pipe {pipe} is half open from here on"));
                self.pipes[pipe].half_open = true;
            }
            (Fault::Stall, Some(pipe)) if !self.pipes[pipe].stalled => {
                self.trace.note(self.now_ms, || format!("pipe {pipe} is not read for a while"));
                self.pipes[pipe].stalled = true;
                self.after(100 + long % 5_000, Event::Mend { pipe });
            }
            (Fault::Freeze, Some(pipe)) if !self.pipes[pipe].stalled => {
                let long_ms = 5_000 + long % 55_000;
                let client = self.pipes[pipe].client;
                self.counts.frozen += 1;
                self.trace.note(self.now_ms, || format!("client {client} is stopped for {long_ms} ms"));
                self.pipes[pipe].stalled = true;
                self.frozen_until_ms[client] = self.now_ms + long_ms;
                self.after(long_ms, Event::Mend { pipe });
            }
            (Fault::ShardStall, _) => {
                self.counts.shard_stalls += 1;
                let long = long % 400;
                self.trace.note(self.now_ms, || format!("shard {shard} stands still for {long} ms"));
                self.shards[shard].stalled_until_ms = self.now_ms + long;
            }
            (Fault::ClockStep, _) => {
                self.counts.clock_steps += 1;
                let step = long % 120_000;
                self.wall_ms = if side == 0 { self.wall_ms + step } else { self.wall_ms - step };
            }
            (Fault::StoreLoss, _) => {
                self.trace.note(self.now_ms, || format!("the store of shard {shard} loses everything"));
                self.stores.borrow_mut().lose(shard, &self.plan.limits);
            }
            (Fault::Reload, _) => {
                self.reload(channel)?;
                self.after(100 + long % 1_500, Event::Reopen);
            }
            _ => {}
        }
        Ok(())
    }

    /// A link between two shards is stuck, and a client that has just sent something over it comes back on the third
    /// shard.
    pub(super) fn stick(&mut self) -> Verdict {
        if self.calm {
            return Ok(());
        }
        let (rng, shards) = (&mut self.stick_rng, self.shards.len());
        let next = 50 + rng.below(600);
        let from = rng.below(shards as u64) as usize;
        let to = (from + 1 + rng.below(shards as u64 - 1) as usize) % shards;
        let until_ms = self.now_ms + rng.below(1_500);
        let later = 10 + rng.below(40);
        self.after(next, Event::Stick);
        self.trace.note(self.now_ms, || format!("what shard {from} says to {to} is stuck until {until_ms} ms"));
        let link = &mut self.shards[to].inbox[from];
        link.last_ms = link.last_ms.max(until_ms);
        let there = |client: &&Client| client.online && client.shard == from;
        let Some(client) = self.clients.iter().find(there).map(|client| client.number) else { return Ok(()) };
        let Some(pipe) = self.clients[client].pipe else { return Ok(()) };
        if let Some(request) = self.clients[client].farewell(&mut self.client_rngs[client], &mut self.numbers[client]) {
            self.send(pipe, request)?;
        }
        self.after(
            later,
            Event::Leap { pipe, to: (0..shards).find(|shard| ![from, to].contains(shard)).unwrap_or(to) },
        );
        Ok(())
    }

    /// A client comes back on another shard, and leaves again before its session has arrived there: the session is left
    /// behind without a connection, until the client comes back once more.
    pub(super) fn flit(&mut self) -> Verdict {
        if self.calm {
            return Ok(());
        }
        let (rng, shards) = (&mut self.flit_rng, self.shards.len());
        let next = 100 + rng.below(2_500);
        let (from, stuck_ms, stays_ms) = (rng.below(shards as u64) as usize, rng.below(500), 5 + rng.below(150));
        let to = (from + 1 + rng.below(shards as u64 - 1) as usize) % shards;
        let back = [from, (0..shards).find(|shard| ![from, to].contains(shard)).unwrap_or(from)][rng.below(2) as usize];
        self.after(next, Event::Flit);
        let is_there = |client: &&Client| client.online && client.shard == from;
        let Some((client, pipe)) = self.clients.iter().find(is_there).and_then(|it| Some((it.number, it.pipe?))) else {
            return Ok(());
        };
        let until_ms = self.now_ms + stuck_ms;
        self.trace
            .note(self.now_ms, || format!("client {client} flits from {from} to {to}, stuck until {until_ms} ms"));
        let link = &mut self.shards[to].inbox[from];
        link.last_ms = link.last_ms.max(until_ms);
        self.counts.flits += 1;
        self.leap(pipe, to)?;
        if let Some(pipe) = self.clients[client].pipe {
            self.after(stays_ms, Event::Leap { pipe, to: back });
        }
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
        self.rules_for_readers(shut.as_ref());
        self.shut = shut.clone();
        let rules = Arc::new(self.plan.rules(shut.as_ref()));
        for shard in 0..self.shards.len() {
            self.handle(shard, Input::Reload(rules.clone()))?;
        }
        Ok(())
    }

    /// The last fault is over. A half-open connection stays half-open until one side notices.
    pub(super) fn heal(&mut self) -> Verdict {
        self.trace.note(self.now_ms, || "everything heals".to_owned());
        (self.calm, self.calm_ms) = (true, self.now_ms);
        self.application.is_calm = true;
        self.numbers.iter_mut().for_each(Numbers::calm);
        self.app_numbers.calm();
        self.whisper_numbers.calm();
        self.stores.borrow_mut().faults = Default::default();
        for pipe in 0..self.pipes.len() {
            self.mend(pipe)?;
        }
        self.frozen_until_ms.fill(0);
        self.plan.lift_rates();
        self.plan.lift_refusals();
        self.policy = Policy::new(&self.plan.rules);
        for core in &mut self.shards {
            core.stalled_until_ms = 0;
        }
        self.quotas.lift();
        if self.plan.quotas.is_on() {
            self.plan.limits.quotas = Quotas::NONE;
            for shard in 0..self.shards.len() {
                self.handle(shard, Input::Quotas(Quotas::NONE))?;
            }
        }
        self.reload(None)
    }
}
