//! Signals for one client alone that were said on a polled connection, until the client has acknowledged the answer
//! that has them. Such signals are ordered and must not be lost, so they follow the session to its next connection.
//!
//! In: each signal as it is said ([`Unheard::put`]), how many of them the last answer has ([`Unheard::answered`]), and
//! its acknowledgement. Out: those that the client has not had, by the `ack` of its `connect` ([`Unheard::after`]).
//! Bounded as the signals that wait for a session; beyond the bound the oldest goes.

use super::mailbox::MailboxMax;
use crate::ids::ConnId;
use crate::message::SignalPush;
use crate::peer::AdoptedUnheard;
use std::collections::VecDeque;
use std::sync::Arc;

#[derive(Debug)]
pub(crate) struct Unheard {
    /// The connection on which they were said.
    conn: ConnId,
    signals: VecDeque<Arc<SignalPush>>,
    bytes: usize,
    /// The number of the last answer with signals.
    answer: u64,
    /// The first signals are in it, or were in earlier ones.
    in_answer: usize,
    /// Signals in no acknowledged answer that went for want of room. They came before those that are here.
    shed: usize,
    /// How many of those that went are in the last answer.
    shed_in_answer: usize,
}

impl Unheard {
    pub(super) fn new(conn: ConnId) -> Self {
        Unheard { conn, signals: VecDeque::new(), bytes: 0, answer: 0, in_answer: 0, shed: 0, shed_in_answer: 0 }
    }

    pub(super) fn is_of(&self, conn: ConnId) -> bool {
        self.conn == conn
    }

    pub(super) fn put(&mut self, signal: Arc<SignalPush>, max: MailboxMax) {
        self.bytes += signal.signal.data.len();
        self.signals.push_back(signal);
        while self.signals.len() > max.signals || self.bytes > max.bytes {
            self.shed += 1;
            self.shed_in_answer += usize::from(self.in_answer > 0);
            self.forget_first();
        }
    }

    /// The answer of this number has so many of them.
    pub(super) fn answered(&mut self, number: u64, signals: usize) {
        self.answer = number;
        self.shed_in_answer = signals.min(self.shed);
        self.in_answer = (signals - self.shed_in_answer).min(self.signals.len());
    }

    /// The client has the last answer. True if nothing is left.
    pub(super) fn acknowledged(&mut self) -> bool {
        (0..self.in_answer).for_each(|_| self.forget_first());
        self.shed -= std::mem::take(&mut self.shed_in_answer);
        self.signals.is_empty()
    }

    /// Those that a client has not had whose last answer is `ack`. Without it, all.
    pub(super) fn after(mut self, ack: Option<u64>) -> impl Iterator<Item = Arc<SignalPush>> {
        if ack.is_some_and(|ack| ack >= self.answer) {
            self.acknowledged();
        }
        self.signals.into_iter()
    }

    /// The state as it goes to another shard.
    pub(super) fn into_adopted(self) -> AdoptedUnheard {
        AdoptedUnheard { signals: self.signals, answer: self.answer, in_answer: self.in_answer }
    }

    /// The state that has come from another shard.
    pub(super) fn adopted(adopted: AdoptedUnheard) -> Self {
        let AdoptedUnheard { signals, answer, in_answer } = adopted;
        let bytes = signals.iter().map(|signal| signal.signal.data.len()).sum();
        let conn = ConnId { index: u32::MAX, generation: 0 }; // that of the other shard is over
        Unheard { conn, signals, bytes, answer, in_answer, shed: 0, shed_in_answer: 0 }
    }

    fn forget_first(&mut self) {
        if let Some(signal) = self.signals.pop_front() {
            self.bytes -= signal.signal.data.len();
            self.in_answer = self.in_answer.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ClientId;
    use crate::message::{Sender, Signal};
    use crate::name::ChannelName;
    use bytes::Bytes;

    const MAX: MailboxMax = MailboxMax { signals: 8, bytes: 1_000 };

    /// After these signals, of which the first are in answer 5.
    fn unheard(texts: &[&'static str], in_answer: usize, max: MailboxMax) -> Unheard {
        let mut unheard = Unheard::new(ConnId { index: 0, generation: 0 });
        for text in texts {
            let channel = ChannelName::new("a").expect("valid");
            let data = Bytes::from_static(text.as_bytes());
            let signal = Signal { channel, event: "e".into(), data, to: Some(ClientId(9)) };
            unheard.put(Arc::new(SignalPush { signal, from: Sender { client: None, user: None }, ts_ms: 0 }), max);
        }
        unheard.answered(5, in_answer);
        unheard
    }

    fn texts(signals: impl Iterator<Item = Arc<SignalPush>>) -> Vec<String> {
        signals.map(|signal| String::from_utf8_lossy(&signal.signal.data).into_owned()).collect()
    }

    #[test]
    fn those_that_the_client_has_had_do_not_come_again() {
        for (ack, left) in [(None, "abc"), (Some(4), "abc"), (Some(5), "c"), (Some(6), "c")] {
            assert_eq!(texts(unheard(&["a", "b", "c"], 2, MAX).after(ack)).concat(), left, "{ack:?}");
        }
        let moved = Unheard::adopted(unheard(&["a", "b", "c"], 2, MAX).into_adopted());
        assert_eq!(texts(moved.after(Some(5))), ["c"], "on another shard too");
        let mut told = unheard(&["a", "b"], 1, MAX);
        assert!(!told.acknowledged() && !told.acknowledged(), "an acknowledgement counts once");
        assert_eq!(texts(told.after(Some(5))), ["b"]);
        assert!(unheard(&["a"], 1, MAX).acknowledged());
    }

    #[test]
    fn beyond_its_bound_the_oldest_goes_and_the_number_of_the_others_holds() {
        let few = MailboxMax { signals: 2, bytes: 1_000 };
        assert_eq!(texts(unheard(&["a", "b", "c"], 0, few).after(None)), ["b", "c"]);
        // The answer has the one that is gone, and the next one the second.
        let mut late = self::unheard(&["a", "b", "c"], 1, few);
        assert!(!late.acknowledged());
        late.answered(6, 1);
        assert!(!late.acknowledged());
        assert_eq!(texts(late.after(Some(6))), ["c"]);
        let short = MailboxMax { signals: 8, bytes: 4 };
        let mut unheard = unheard(&["aa", "bb"], 2, short);
        let third = unheard.signals[0].clone();
        unheard.put(third, short);
        assert_eq!(unheard.in_answer, 1);
        assert_eq!(texts(unheard.after(Some(5))), ["aa"], "the third one has the text of the first");
    }
}
