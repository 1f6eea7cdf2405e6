//! Rules that keep something out, in a world.

use super::Plan;
use crate::app::CLOSED;
use crate::model::matches;
use crate::quotas::QuotaPlan;
use crate::strict::Sieve;
use fanfare_hub::{Past, Rng, Rule, SenderShown};
use std::sync::Arc;

/// No payload that is sent after all faults is longer.
const SIZE_LEAST: usize = 64;

impl Plan {
    /// In some worlds rules say how long data may be and check it, hide senders or the past, or bound the subscribers
    /// of a channel. Chat clients and readers of event streams are told less of a refusal: their channels are open.
    pub(super) fn draw_strict(&mut self, mut rng: Rng) {
        if rng.below(4) > 0 {
            return;
        }
        let (has_chats, has_readers, keeps) = (self.chats > 0, self.readers > 0, !self.keeps.is_empty());
        for rule in self.rules.iter_mut().filter(|rule| !matches(rule.pattern.as_str(), CLOSED)) {
            let mut one_in = |n: u64| rng.below(n) == 0;
            let (sizes, sieves, places) = (one_in(2), one_in(2), one_in(3));
            let (size, max) = (SIZE_LEAST + rng.below(60) as usize, 1 + rng.below(3) as u32);
            let from = SenderShown::ALL[rng.below(3) as usize];
            let read = Past::ALL[rng.below(3) as usize];
            if has_chats && rule.pattern.as_str().starts_with("chat") {
                continue;
            }
            rule.max_size = sizes.then_some(size);
            rule.from = from;
            if sieves {
                rule.check = Some(Arc::new(Sieve));
            }
            if !keeps && !has_readers {
                rule.read = read;
            }
            rule.max_subscribers = (places && !has_readers).then_some(max);
        }
    }

    /// In some worlds sessions and users may send only so much in a time. Not where commands come by requests of their
    /// own: it is not seen there when they are charged.
    pub(super) fn draw_quotas(&mut self, mut rng: Rng) {
        if rng.below(4) > 0 || self.forwards || self.http || self.polls > 0 {
            return;
        }
        let window_ms = [1_000, 2_000, 5_000][rng.below(3) as usize];
        let mut rate = |least: u64, more: u64| (rng.below(2) == 0).then(|| (least + rng.below(more), window_ms));
        self.quotas = QuotaPlan {
            messages: rate(10, 40),
            bytes: rate(300, 4_000),
            user_messages: rate(15, 60),
            user_bytes: rate(500, 6_000),
        };
    }

    /// Everything has healed: everybody may subscribe, and asks for what is past.
    pub(crate) fn lift_refusals(&mut self) {
        for rule in &mut self.rules {
            rule.max_subscribers = None;
            if rule.read == Past::Nothing {
                rule.read = Past::All;
            }
        }
    }

    /// No rule keeps anything out.
    pub(crate) fn lift_strictness(&mut self) {
        for rule in &mut self.rules {
            let open = Rule::open(rule.pattern.clone());
            (rule.max_size, rule.max_subscribers, rule.check) = (None, None, None);
            (rule.from, rule.read) = (open.from, open.read);
        }
    }
}
