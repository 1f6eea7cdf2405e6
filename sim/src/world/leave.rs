//! The end of a world: all clients leave, and nothing may remain of them. And the bounds of what shards hold until
//! then.

use super::{Event, Verdict, World};

/// Longer than anything is remembered of a session: its grace, its way to other shards, its leaves.
const REMEMBERED_MS: u64 = 45_000;

impl World {
    /// All clients leave: some say goodbye, some are cut off.
    pub(super) fn leave(&mut self) -> Verdict {
        self.trace.note(self.now_ms, || "everybody leaves".to_owned());
        self.leaving = true;
        for pipe in 0..self.pipes.len() {
            if self.pipes[pipe].client_open {
                self.cut(pipe, pipe % 2 == 0)?;
            }
        }
        self.after(REMEMBERED_MS, Event::Empty);
        Ok(())
    }

    /// Nobody has been there for long: sessions, edges, homes, questions and bytes on their way are gone.
    pub(super) fn judge_empty(&mut self) -> Verdict {
        // Messages that were taken in are acknowledged in parts of a link.
        let unacknowledged_max = (self.plan.limits.link_bytes_max / 4).min(64 << 10);
        for (index, core) in self.shards.iter().enumerate() {
            let (stats, held) = (core.shard.stats(), core.shard.held());
            let left = [
                ("sessions", stats.sessions),
                ("subscriptions", stats.subscriptions),
                ("edges", stats.edges),
                ("homes", stats.homes),
                ("questions to the application", stats.questions),
                ("bytes that wait for the store", stats.store_waiting_bytes),
                ("slow connections", stats.behind),
                ("questions", held.pending),
                ("pieces of work", held.queued),
                ("sessions that went to other shards", held.moved),
                ("leaves", held.left),
                ("operations of the store", held.store_operations),
                ("bytes on their way", held.link_bytes.saturating_sub(unacknowledged_max)),
                ("bytes of signals for another shard", held.link_signal_bytes),
                ("signals in a mailbox", held.mailbox_signals),
                ("bytes of sends and their answers", stats.sends_bytes.max(held.sends_bytes)),
                ("polled connections and attempts", core.polls.len()),
            ];
            if let Some((what, count)) = left.into_iter().find(|(_, count)| *count > 0) {
                return Err(format!("leak: everybody has left, and shard {index} holds {count} {what}"));
            }
            self.stores.borrow().is_aged(index, self.wall_ms, |channel| self.policy.history(channel))?;
            self.counts.emptied += 1;
        }
        Ok(())
    }

    /// Promise 6: what a shard holds stays within its bounds.
    /// `counted`: the bytes of sends, as the shard counts them.
    pub(super) fn held(&self, shard: usize, counted: usize) -> Verdict {
        let (limits, held) = (&self.plan.limits, self.shards[shard].shard.held());
        // Pages and answers count too, and are sent if there is room for their first byte.
        let page = limits.page_bytes_max + limits.message_bytes_max;
        let bounds = [
            ("bytes on their way to a shard", held.link_bytes, limits.link_bytes_max + 16 * page),
            ("bytes of signals for a shard", held.link_signal_bytes, limits.link_bytes_max),
            ("signals in a mailbox", held.mailbox_signals, limits.signals_waiting_max),
            ("bytes in a mailbox", held.mailbox_bytes, limits.outbox_bytes_max),
            // Kept answers, and sends that wait for those before them.
            ("bytes of a session's sends", held.sends_bytes_most, 2 * limits.outbox_bytes_max),
        ];
        if counted != held.sends_bytes {
            return Err(format!("promise 6: {counted} bytes of sends are counted, and {} are held", held.sends_bytes));
        }
        match bounds.into_iter().find(|(_, held, max)| held > max) {
            Some((what, held, max)) => Err(format!("promise 6: {held} {what}, {max} may be")),
            None => Ok(()),
        }
    }
}
