//! The numbers of a client's polls, and of the answers to them.
//!
//! A poll takes messages from the front of an [`Outbox`](crate::Outbox), and says by `ack` the number of the last
//! answer that the client has. The bytes of an answer stay in the outbox until a later poll acknowledges them: a lost
//! answer is given again byte for byte, and an answer that is not acknowledged counts into the outbox's bound.
//!
//! In: the `ack` of a poll ([`Polls::poll`]), and the bytes with which one is answered ([`Polls::answer`]). Out: what
//! to do with the poll. One poll waits at a time: a later one takes its place, if its `ack` is not lower.

use std::collections::VecDeque;

/// See the module's description.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Polls {
    /// The number of the last answer.
    last: u64,
    /// Its bytes, until it is acknowledged.
    unacknowledged: Option<usize>,
    /// Where signals for this client alone end in the outbox, in bytes from its front.
    directed: VecDeque<usize>,
    /// Counts the polls that may wait: the last one does.
    turn: u64,
}

/// What becomes of a poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Polled {
    /// It is answered with all that waits, or else it waits, as long as its [turn](Polls::is_turn) lasts.
    Take {
        /// Names it.
        turn: u64,
        /// Bytes at the front of the outbox that the client has now.
        acknowledged: usize,
    },
    /// The client has not had the last answer: it gets the same bytes from the front of the outbox.
    Again {
        /// The answer's number.
        n: u64,
        /// How many.
        bytes: usize,
    },
    /// The client has had a later answer, by another poll: this one is answered empty.
    Late,
    /// There was no answer of this number yet.
    Ahead {
        /// The last one.
        last: u64,
    },
}

impl Polls {
    /// A poll comes whose client has had the answer `ack`, and all before it.
    pub fn poll(&mut self, ack: u64) -> Polled {
        match (self.unacknowledged, self.last.checked_sub(ack)) {
            (_, None) => Polled::Ahead { last: self.last },
            (unacknowledged, Some(0)) => {
                self.unacknowledged = None;
                self.turn += 1;
                self.gone(unacknowledged.unwrap_or(0));
                Polled::Take { turn: self.turn, acknowledged: unacknowledged.unwrap_or(0) }
            }
            (Some(bytes), Some(1)) => Polled::Again { n: self.last, bytes },
            _ => Polled::Late,
        }
    }

    /// Whether this poll is the one that is answered next.
    pub fn is_turn(&self, turn: u64) -> bool {
        self.turn == turn && self.unacknowledged.is_none()
    }

    /// A signal for this client alone is the last in the outbox, which has so many bytes now.
    pub fn directed(&mut self, bytes: usize) {
        self.directed.push_back(bytes);
    }

    /// How many of these signals are in the last answer, if that is not acknowledged.
    pub fn signals(&self) -> usize {
        let bytes = self.unacknowledged.unwrap_or(0);
        self.directed.iter().take_while(|end| **end <= bytes).count()
    }

    /// The first bytes of the outbox are removed from it.
    fn gone(&mut self, bytes: usize) {
        while self.directed.front().is_some_and(|end| *end <= bytes) {
            self.directed.pop_front();
        }
        self.directed.iter_mut().for_each(|end| *end -= bytes);
    }

    /// The poll whose turn it is gets so many bytes from the front of the outbox. Returns the number of the answer.
    pub fn answer(&mut self, bytes: usize) -> u64 {
        self.last += 1;
        self.unacknowledged = Some(bytes);
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signals_of_an_answer_are_counted_until_it_is_acknowledged() {
        let mut polls = Polls::default();
        polls.poll(0);
        [5, 10, 15].into_iter().for_each(|end| polls.directed(end));
        assert_eq!(polls.signals(), 0);
        polls.answer(10);
        assert_eq!(polls.signals(), 2);
        polls.poll(0);
        assert_eq!(polls.signals(), 2, "the same again");
        polls.poll(1);
        assert_eq!(polls.signals(), 0);
        polls.answer(4);
        assert_eq!(polls.signals(), 0, "the third one ends behind it");
        polls.poll(2);
        polls.answer(1);
        assert_eq!(polls.signals(), 1);
    }

    fn take(turn: u64, acknowledged: usize) -> Polled {
        Polled::Take { turn, acknowledged }
    }

    #[test]
    fn an_answer_is_given_again_until_it_is_acknowledged() {
        let mut polls = Polls::default();
        assert_eq!(polls.poll(0), take(1, 0));
        assert_eq!(polls.answer(10), 1);
        assert_eq!([polls.poll(0), polls.poll(0)], [Polled::Again { n: 1, bytes: 10 }; 2]);
        assert_eq!(polls.poll(1), take(2, 10));
        assert_eq!(polls.answer(20), 2);
        assert_eq!(polls.poll(1), Polled::Again { n: 2, bytes: 20 });
        assert_eq!(polls.poll(2), take(3, 20));
        assert_eq!(polls.poll(2), take(4, 0), "the bytes leave the outbox once");
    }

    #[test]
    fn a_lower_poll_never_replaces_a_higher_one_and_an_equal_one_does() {
        let mut polls = Polls::default();
        polls.poll(0);
        polls.answer(1);
        polls.poll(1);
        polls.answer(1);
        let Polled::Take { turn, .. } = polls.poll(2) else { panic!("it waits") };
        assert_eq!([polls.poll(1), polls.poll(0)], [Polled::Late; 2]);
        assert!(polls.is_turn(turn));
        let Polled::Take { turn: later, .. } = polls.poll(2) else { panic!("it waits") };
        assert!(!polls.is_turn(turn) && polls.is_turn(later));
        polls.answer(1);
        assert!(!polls.is_turn(later), "one poll has one answer");
        assert_eq!(polls.poll(1), Polled::Late, "answer 2 was acknowledged");
    }

    #[test]
    fn no_answer_is_acknowledged_before_it_was_given() {
        let mut polls = Polls::default();
        for ack in [1, u64::MAX] {
            assert_eq!(polls.poll(ack), Polled::Ahead { last: 0 });
        }
        assert_eq!(polls, Polls::default(), "and nothing has changed");
    }
}
