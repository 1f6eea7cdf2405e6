//! Work over very many sessions, in slices: other work has its turn in between.
//!
//! Interrupted fan-outs, sessions that catch up, commands for many sessions, a reload, a drain, and the homes that
//! are to be told how many subscribe. All that waits has its share of each slice, so none of it waits for another to
//! end.
//!
//! During a reload the new rules already apply to every command. Earlier subscriptions are checked when their session's
//! turn comes. A second reload replaces the first and starts again. A session that comes after its place in the order
//! was allowed by the new rules.

use super::{Cx, Sessions};
use crate::disconnect::Disconnect;
use crate::edge::EdgeRef;
use crate::edge::batch::Reminder;
use crate::ids::{ConnId, WireId};
use crate::message::Push;
use crate::peer::ToHome;
use crate::watch::{Note, Noted};

/// A reload that is under way.
#[derive(Debug)]
pub(super) struct Judging {
    /// How many rules there are.
    rules: usize,
    /// The next session.
    next: usize,
    ended: usize,
}

/// The shard drains, until its end.
#[derive(Debug)]
pub(super) struct Draining {
    window_ms: u64,
    /// The next connection that a slice tells. Those before it have been told, and a new one there is told when it
    /// comes.
    next: usize,
}

impl Sessions {
    /// Goes on with interrupted work.
    pub(crate) fn go_on(&mut self, cx: &mut Cx<'_>) {
        let waiting = [
            self.edges.is_any_running(),
            !self.works.is_empty(),
            self.judging.is_some(),
            self.tells_drain(),
            self.recounting,
            self.forgetting,
        ];
        let share = cx.slice.share(waiting.iter().filter(|waits| **waits).count());
        let parts: [fn(&mut Sessions, &mut Cx<'_>); 6] =
            [Self::run_next, Self::work, Self::judge_on, Self::drain_on, Self::tell_members, Self::tidy];
        for (part, _) in parts.into_iter().zip(waiting).filter(|(_, waits)| *waits) {
            cx.slice.begin(share);
            part(self, cx);
        }
        // One page at a time, beside all that: a turn must pass before the shell can say that an outbox is full.
        if let Some(at) = self.pulls.pop_front() {
            self.catch_up(cx, at);
        }
    }

    /// True where something waits for its next slice.
    pub(crate) fn has_more(&self) -> bool {
        self.edges.is_any_running()
            || !self.pulls.is_empty()
            || !self.works.is_empty()
            || self.judging.is_some()
            || self.tells_drain()
            || self.recounting
            || self.forgetting
    }

    fn run_next(&mut self, cx: &mut Cx<'_>) {
        if let Some(index) = self.edges.next_running(cx.slice) {
            self.run(cx, index);
        }
    }

    /// The rules have changed: subscriptions that would be refused now are ended.
    pub(crate) fn rejudge(&mut self, cx: &mut Cx<'_>) {
        if let Some(judging) = self.judging.take() {
            self.judged(cx, &judging);
        }
        self.judging = Some(Judging { rules: cx.rules.iter().len(), next: 0, ended: 0 });
        self.judge_on(cx);
    }

    fn judge_on(&mut self, cx: &mut Cx<'_>) {
        let Some(mut judging) = self.judging.take() else { return };
        while judging.next < self.sessions.slab.capacity() {
            if cx.slice.is_spent() {
                self.judging = Some(judging);
                return;
            }
            let index = judging.next;
            judging.next += 1;
            cx.slice.spend(1);
            if self.sessions.slab.contains(index) {
                judging.ended += self.judge_session(cx, index as u32);
            }
        }
        self.judged(cx, &judging);
    }

    fn judged(&self, cx: &mut Cx<'_>, judging: &Judging) {
        let what = Noted::Reloaded { rules: judging.rules, ended: judging.ended };
        cx.effects.note_always(Note { conn: None, client: None, user: None, what });
    }

    /// Judges the subscriptions of a session again; returns how many that ended.
    fn judge_session(&mut self, cx: &mut Cx<'_>, index: u32) -> usize {
        let at = self.sessions.reference(index);
        cx.slice.spend(self.sessions.slab[index as usize].subs.len());
        let (mut slot, mut ended) = (0, 0);
        while let Some(sub) = self.sessions.slab[index as usize].subs.get(slot) {
            // One that is not answered yet is judged again with its answer.
            if !sub.is_answered() || !self.judge_again(cx, at, slot) {
                slot += 1;
            } else {
                ended += 1;
            }
        }
        self.note_joins(cx, at);
        self.judge_presence(cx, at);
        ended
    }

    /// Every connection is notified that the server stops, and when to come back: those that are open in slices, and a
    /// later one as it comes. A second call changes nothing.
    pub(crate) fn drain(&mut self, cx: &mut Cx<'_>, window_ms: u64) {
        self.draining.get_or_insert(Draining { window_ms, next: 0 });
        self.drain_on(cx);
    }

    /// True while some connections are not notified that the server stops.
    fn tells_drain(&self) -> bool {
        self.draining.as_ref().is_some_and(|draining| draining.next < self.conns.len())
    }

    fn drain_on(&mut self, cx: &mut Cx<'_>) {
        let Some(draining) = &mut self.draining else { return };
        while let Some(conn) = self.conns.get(draining.next)
            && !cx.slice.is_spent()
        {
            let id = ConnId { index: draining.next as u32, generation: conn.generation };
            draining.next += 1;
            cx.slice.spend(1);
            if conn.open {
                tell_drain(cx, draining.window_ms, id, conn.wire);
            }
        }
    }

    /// A connection came while the shard drains. It alone is notified. The slices go on where they are: else a client
    /// that keeps coming back would have everybody notified again.
    pub(super) fn came_late(&mut self, cx: &mut Cx<'_>, id: ConnId, wire: WireId) {
        let Some(draining) = &self.draining else { return };
        if (id.index as usize) < draining.next {
            tell_drain(cx, draining.window_ms, id, wire);
        }
    }

    /// Homes are notified how many subscriptions there are, where that has changed. The number is absolute: each
    /// corrects the last.
    pub(crate) fn tell_members(&mut self, cx: &mut Cx<'_>) {
        self.recounting = true;
        while let Some(EdgeRef { index, life }) = self.edges.recounts.pop_front() {
            cx.slice.spend(1);
            if let Some(edge) = self.edges.edges.get_mut(index as usize).filter(|edge| edge.life == life) {
                edge.recounted = false;
                let (members, name) = (edge.count(), edge.name.clone());
                if std::mem::replace(&mut edge.members_notified, members) != members {
                    self.tell_home(cx, &name, ToHome::Members(members));
                }
            }
            if cx.slice.is_spent() {
                return;
            }
        }
        self.recounting = false;
    }

    /// The time of some batches has come. The remaining ones are due, so the shell wakes the shard again at once.
    pub(crate) fn tell_batches(&mut self, cx: &mut Cx<'_>) {
        while !cx.slice.is_spent()
            && let Some(Reminder { edge: EdgeRef { index, life }, group, .. }) = self.reminders.next_due(cx.now.mono_ms)
        {
            cx.slice.spend(1);
            if let Some(edge) = self.edges.edges.get_mut(index as usize).filter(|edge| edge.life == life) {
                edge.reminded(group, cx.now.mono_ms);
                self.run(cx, index);
            }
        }
    }
}

fn tell_drain(cx: &mut Cx<'_>, window_ms: u64, id: ConnId, wire: WireId) {
    let push = Push::Disconnect { reason: Disconnect::Shutdown, delay_ms: cx.rng.below(window_ms) };
    cx.effects.push_one(push, wire, id);
}
