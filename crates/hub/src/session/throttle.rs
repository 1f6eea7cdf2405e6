//! Connections above a rate whose clients cannot be refused: they are not read until there is room again.
//!
//! A protocol whose clients know no refusal says so by [`OverRate`]. What such a client does above a rate is done, in
//! its order, and the bucket keeps the debt. The connection is paused until the debt is paid and one more command has
//! room. So the rate holds over time, and nothing waits in the hub: the next bytes wait with the shell and the client.
//! One command exceeds the rate at a time, and besides it those that were on their way when the connection was paused
//! ([`Limits::outstanding_max`](crate::Limits)). A command that is larger than the rate is paid for like another one.
//!
//! The end of a pause is a tick of the wheel. Of several sessions of one user each does one command at least when its
//! pause ends. Where the limits or the rules change, the connection is read again within [`LOOK_MS`], and judged by the
//! new ones: what was done above the former limits is forgiven then.

use super::{Cx, Sessions};
use crate::error::Error;
use crate::ids::{ConnId, SessionRef};
use crate::peer::RateWindow;
use crate::quota::Spent;
use crate::timer::Timer;
use crate::watch::Noted;
use std::collections::hash_map::Entry;

/// What happens to a command of a client that has done too much lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OverRate {
    /// It is refused, and its client is told.
    #[default]
    Refuse,
    /// At a rate of the limits it is done, and then the connection is not read for as long as the client must wait. At
    /// a rate of a rule it is refused.
    WaitAtLimits,
    /// The same, and at a rate of a rule too where that counts in at most a minute.
    Wait,
}

/// How long after a pause another one is part of the same stall.
const STALL_MS: u64 = 1_000;
/// How often a pause looks for other limits.
const LOOK_MS: u64 = 1_000;

/// A stall of a connection: its pauses follow each other.
#[derive(Debug)]
pub(super) struct Throttle {
    /// The end of the last pause.
    until_ms: u64,
    /// The option that the pause is for.
    by: &'static str,
    /// [`Sessions::limits_number`] when the pause began.
    limits: u32,
    /// When a timer looks at it. Earlier timers mean nothing.
    look_ms: u64,
}

/// What the sessions did lately that have left a connection which goes on. Sessions that begin on it go on from there,
/// so nobody gets more than his rates by leaving and entering again.
#[derive(Debug, Clone, Default)]
pub(super) struct Left {
    spent: Spent,
    rates: Vec<RateWindow>,
}

impl Left {
    /// One more session has left.
    fn add(&mut self, spent: &Spent, rates: Vec<RateWindow>) {
        self.spent = self.spent.fuller(spent);
        for window in rates {
            match self.rates.iter_mut().find(|known| known.pattern == window.pattern) {
                Some(known) if (known.start_ms, known.count) >= (window.start_ms, window.count) => {}
                Some(known) => *known = window,
                None => self.rates.push(window),
            }
        }
    }
}

impl Throttle {
    fn look(&mut self, cx: &mut Cx<'_>, id: ConnId, look_ms: u64) {
        self.look_ms = look_ms;
        cx.wheel.add(look_ms, Timer::Throttle(id));
    }
}

impl Sessions {
    /// A session is about to leave its connection, which may go on.
    pub(super) fn leaves_spent(&mut self, now_ms: u64, id: ConnId, index: u32) {
        let session = &mut self.sessions.slab[index as usize];
        let rates = session.extra.as_mut().map(|extra| std::mem::take(&mut extra.rates)).unwrap_or_default();
        let spent = session.spent;
        if self.conn(id).is_some() && (!spent.is_empty(now_ms) || !rates.is_empty()) {
            self.left.entry(id).or_default().add(&spent, rates);
        }
    }

    /// A session has begun on a connection that others may have left.
    pub(super) fn begins_spent(&mut self, id: ConnId, at: SessionRef) {
        let Some(Left { spent, rates }) = self.left.get(&id).cloned() else { return };
        let Some(session) = self.sessions.get(at) else { return };
        session.spent = session.spent.fuller(&spent);
        if !rates.is_empty() {
            session.extra().rates = rates;
        }
    }

    /// The connection of a session, if it waits where it has done too much. `by_rule`: by the rate of a rule. For what
    /// the program does nobody waits: that would not make the program slower.
    pub(super) fn waits(&self, at: SessionRef, by_rule: bool) -> Option<ConnId> {
        if self.program_acts {
            return None;
        }
        let session = self.sessions.slab.get(at.index as usize).filter(|session| session.life == at.life)?;
        let id = session.conn?;
        let waits = match self.conns[id.index as usize].over_rate {
            OverRate::Refuse => false,
            OverRate::WaitAtLimits => !by_rule,
            OverRate::Wait => true,
        };
        waits.then_some(id)
    }

    /// A connection has done too much: it is not read for a time. `refusal`: the words for a client that is refused.
    pub(super) fn throttle(
        &mut self,
        cx: &mut Cx<'_>,
        id: ConnId,
        (by, wait_ms): (&'static str, u64),
        refusal: impl FnOnce() -> Error,
    ) {
        let (now_ms, limits) = (cx.now.mono_ms, self.limits_number);
        let until_ms = now_ms.saturating_add(wait_ms.max(1));
        let Some(conn) = self.conn(id) else { return };
        let goes_on = std::mem::replace(&mut conn.throttled, true);
        let mut is_new = false;
        let throttle = self.throttles.entry(id).or_insert_with(|| {
            is_new = true;
            Throttle { until_ms, by, limits, look_ms: 0 }
        });
        if until_ms > throttle.until_ms || throttle.limits != limits {
            (throttle.until_ms, throttle.by, throttle.limits) = (until_ms, by, limits);
        }
        if !goes_on {
            throttle.look(cx, id, until_ms.min(now_ms + LOOK_MS));
        }
        if is_new {
            let error = refusal();
            self.counts.throttled(&error, cx.rules);
            self.note(cx, Some(id), Noted::Throttled(error));
        }
        self.pause_as_due(cx, id);
    }

    /// The time to look at a stall has come, unless it is another timer that does.
    pub(crate) fn look_at_throttle(&mut self, cx: &mut Cx<'_>, id: ConnId) {
        let (now_ms, limits) = (cx.now.mono_ms, self.limits_number);
        let throttled = self.conn(id).map(|conn| conn.throttled);
        let Entry::Occupied(mut entry) = self.throttles.entry(id) else { return };
        let throttle = entry.get_mut();
        match throttled {
            Some(_) if now_ms < throttle.look_ms => {}
            Some(true) if now_ms < throttle.until_ms && throttle.limits == limits => {
                throttle.look(cx, id, throttle.until_ms.min(now_ms + LOOK_MS));
            }
            Some(true) => {
                throttle.until_ms = now_ms;
                throttle.look(cx, id, now_ms + STALL_MS);
                if let Some(conn) = self.conn(id) {
                    conn.throttled = false;
                    self.pause_as_due(cx, id);
                }
            }
            Some(false) | None => drop(entry.remove()), // it was read for a while, or has ended
        }
    }

    /// The option for which a connection is not read at the moment.
    pub(crate) fn throttled_by(&self, id: ConnId) -> Option<&'static str> {
        let conn = self.conns.get(id.index as usize)?;
        if !conn.throttled || !conn.open || conn.generation != id.generation {
            return None; // before it is looked up: this is asked for each packet that waits
        }
        self.throttles.get(&id).map(|throttle| throttle.by)
    }

    /// Other rates are in force.
    pub(crate) fn rates_changed(&mut self) {
        self.limits_number = self.limits_number.wrapping_add(1);
    }
}
