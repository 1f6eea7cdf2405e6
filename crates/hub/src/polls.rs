//! Polls: which connection one is for, and the numbers of a client's polls and of the answers to them.
//!
//! A poll takes messages from the front of an [`Outbox`](crate::Outbox), and says by `ack` the number of the last
//! answer that the client has. The bytes of an answer stay in the outbox until a later poll acknowledges them: a lost
//! answer is given again byte for byte, and an answer that is not acknowledged counts into the outbox's bound.
//!
//! In: the `ack` of a poll ([`Polls::poll`]), and the bytes that wait when its own waiting is over ([`Polls::answer`]).
//! Out: what to do with the poll. One poll waits at a time: a later one takes its place, if its `ack` is not lower.
//!
//! A poll may land on any shard. [`PollTable::route`] says where it goes on: to the shard that its ticket names, and
//! from there a session that changes shards is followed, for [`HOPS_MAX`] shards in all. A connection that has ended is
//! found as long as its last messages wait.

use crate::forward::Whereabouts;
use crate::ids::{ClientId, ConnId, ShardId};
use crate::message::Resume;
use std::collections::{BTreeMap, VecDeque};

/// A session that goes from shard to shard is followed so often.
const HOPS_MAX: u8 = 8;

/// The digest of a `connect` whose client has named the attempt.
pub type Attempt = [u8; 32];

/// The numbers of answers to one incarnation of a session. The numbers of the next one begin behind them, so that a
/// late poll of an earlier connection acknowledges nothing of a later one.
const NUMBERS_PER_INCARNATION: u64 = 1 << 32;
/// So many incarnations have numbers of their own; all numbers stay below 2^53.
const INCARNATIONS_MAX: u64 = 1 << 20;

/// The polls of one connection. See the module's description.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Polls {
    /// The number before the first answer.
    start: u64,
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
    /// The polls of a connection to which a session has been given.
    pub fn of_incarnation(incarnation: u32) -> Self {
        let start = u64::from(incarnation) % INCARNATIONS_MAX * NUMBERS_PER_INCARNATION;
        Polls { start, last: start, ..Polls::default() }
    }

    /// The number before the first answer: a `connect` acknowledges it.
    pub fn start(&self) -> u64 {
        self.start
    }

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

    /// A poll has waited long enough, or `bytes` wait for its client. Returns the number of its answer, which has these
    /// bytes from the front of the outbox. `None`: it is answered empty, with the number that it acknowledges, as
    /// nothing waits or another poll has taken its place.
    pub fn answer(&mut self, turn: u64, bytes: usize) -> Option<u64> {
        if bytes == 0 || !self.is_turn(turn) {
            return None;
        }
        self.last += 1;
        self.unacknowledged = Some(bytes);
        Some(self.last)
    }
}

/// The polled connections of a shard, by their sessions and attempts.
#[derive(Debug, Default)]
pub struct PollTable {
    clients: BTreeMap<ClientId, ConnId>,
    attempts: BTreeMap<Attempt, ConnId>,
}

/// Where a poll is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PollRoute {
    /// By this connection.
    Conn(ConnId),
    /// This shard may have the session: it goes on there, behind all messages to that shard, with one hop more.
    Shard(ShardId),
    /// Nowhere: the session is on a connection that is not polled.
    NotPolled,
    /// Nowhere: the session is over or has no connection.
    Gone,
}

impl PollTable {
    /// Where a poll goes on from this shard. `to`: the content of its ticket. `hops`: so many shards have passed it on.
    /// `whereabouts`: of its session, as this shard knows it.
    pub fn route(&self, to: Resume, hops: u8, whereabouts: Whereabouts, me: ShardId, shards: usize) -> PollRoute {
        let polled = self.clients.get(&to.client).copied();
        let by_ticket = Some(to.shard).filter(|shard| *shard != me && hops == 0 && usize::from(shard.0) < shards);
        let next = match whereabouts {
            Whereabouts::Here(id) if polled == Some(id) => return PollRoute::Conn(id),
            Whereabouts::Here(_) => return PollRoute::NotPolled,
            // The ticket is newer than the memory of a shard that the session passed before: from there on, a later
            // shard may have forgotten it.
            Whereabouts::Left(next) => by_ticket.or(Some(next)),
            Whereabouts::Unknown => by_ticket,
            Whereabouts::Away => None,
        };
        match (next.filter(|_| hops < HOPS_MAX), polled) {
            (Some(next), _) => PollRoute::Shard(next),
            // The last words of its connection may still wait.
            (None, Some(id)) => PollRoute::Conn(id),
            (None, None) => PollRoute::Gone,
        }
    }

    /// The connection of an earlier `connect` with the same attempt: a repeat gets what that one gets.
    pub fn repeated(&self, attempt: Option<&Attempt>) -> Option<ConnId> {
        self.attempts.get(attempt?).copied()
    }

    /// A `connect` has opened a connection.
    pub fn opened(&mut self, id: ConnId, attempt: Option<Attempt>) {
        self.attempts.extend(attempt.map(|attempt| (attempt, id)));
    }

    /// A polled connection has a session.
    pub fn connected(&mut self, id: ConnId, client: ClientId) {
        self.clients.insert(client, id);
    }

    /// A polled connection is over, and its last messages are fetched or forgotten.
    pub fn removed(&mut self, id: ConnId, client: Option<ClientId>, attempt: Option<&Attempt>) {
        if let Some(client) = client.filter(|client| self.clients.get(client) == Some(&id)) {
            self.clients.remove(&client);
        }
        if let Some(attempt) = attempt.filter(|attempt| self.attempts.get(*attempt) == Some(&id)) {
            self.attempts.remove(attempt);
        }
    }

    /// How many sessions and attempts it knows.
    pub fn len(&self) -> usize {
        self.clients.len() + self.attempts.len()
    }

    /// True if it knows none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The shard that takes a `connect` with this attempt, so that a repeat finds the connection of the first one.
pub fn attempt_shard(attempt: &Attempt, shards: usize) -> ShardId {
    let [first, second, third, fourth, ..] = *attempt;
    let number = u32::from_be_bytes([first, second, third, fourth]) as usize;
    ShardId((number % shards.max(1)) as u16)
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
        polls.answer(1, 10);
        assert_eq!(polls.signals(), 2);
        polls.poll(0);
        assert_eq!(polls.signals(), 2, "the same again");
        polls.poll(1);
        assert_eq!(polls.signals(), 0);
        polls.answer(2, 4);
        assert_eq!(polls.signals(), 0, "the third one ends behind it");
        polls.poll(2);
        polls.answer(3, 1);
        assert_eq!(polls.signals(), 1);
    }

    fn take(turn: u64, acknowledged: usize) -> Polled {
        Polled::Take { turn, acknowledged }
    }

    #[test]
    fn an_answer_is_given_again_until_it_is_acknowledged() {
        let mut polls = Polls::default();
        assert_eq!(polls.poll(0), take(1, 0));
        assert_eq!(polls.answer(1, 10), Some(1));
        assert_eq!([polls.poll(0), polls.poll(0)], [Polled::Again { n: 1, bytes: 10 }; 2]);
        assert_eq!(polls.poll(1), take(2, 10));
        assert_eq!(polls.answer(2, 20), Some(2));
        assert_eq!(polls.poll(1), Polled::Again { n: 2, bytes: 20 });
        assert_eq!(polls.poll(2), take(3, 20));
        assert_eq!(polls.poll(2), take(4, 0), "the bytes leave the outbox once");
    }

    #[test]
    fn a_lower_poll_never_replaces_a_higher_one_and_an_equal_one_does() {
        let mut polls = Polls::default();
        for ack in [0, 1] {
            let Polled::Take { turn, .. } = polls.poll(ack) else { panic!("it waits") };
            assert_eq!(polls.answer(turn, 1), Some(ack + 1));
        }
        let Polled::Take { turn, .. } = polls.poll(2) else { panic!("it waits") };
        assert_eq!([polls.poll(1), polls.poll(0)], [Polled::Late; 2]);
        assert!(polls.is_turn(turn));
        let Polled::Take { turn: later, .. } = polls.poll(2) else { panic!("it waits") };
        assert!(!polls.is_turn(turn) && polls.is_turn(later));
        assert_eq!((polls.answer(turn, 1), polls.answer(later, 0)), (None, None), "it is answered empty");
        assert_eq!((polls.answer(later, 1), polls.answer(later, 1)), (Some(3), None), "one poll has one answer");
        assert_eq!(polls.poll(1), Polled::Late, "answer 2 was acknowledged");
    }

    #[test]
    fn a_late_poll_of_an_earlier_incarnation_has_no_effect_on_a_later_one() {
        let mut polls = Polls::of_incarnation(3);
        let start = polls.start();
        let Polled::Take { turn, .. } = polls.poll(start) else { panic!("it is the first") };
        assert_eq!(polls.answer(turn, 10), Some(start + 1));
        for earlier in [0, 1, 2] {
            let earlier = Polls::of_incarnation(earlier);
            for ack in [earlier.start(), earlier.start() + 1, earlier.start() + 1_000_000] {
                assert_eq!(polls.poll(ack), Polled::Late, "{ack}");
            }
        }
        assert_eq!(polls.poll(start), Polled::Again { n: start + 1, bytes: 10 });
        assert!(Polls::of_incarnation(u32::MAX).start() + NUMBERS_PER_INCARNATION <= 1 << 53);
        assert_eq!(Polls::of_incarnation(0), Polls::default());
    }

    #[test]
    fn no_answer_is_acknowledged_before_it_was_given() {
        let mut polls = Polls::default();
        for ack in [1, u64::MAX] {
            assert_eq!(polls.poll(ack), Polled::Ahead { last: 0 });
        }
        assert_eq!(polls, Polls::default(), "and nothing has changed");
    }

    const CLIENT: ClientId = ClientId(7);
    const ME: ShardId = ShardId(0);

    fn conn(index: u32) -> ConnId {
        ConnId { index, generation: 1 }
    }

    #[test]
    fn a_poll_finds_its_session_on_any_shard_or_is_told_where_it_stands() {
        let mut table = PollTable::default();
        table.opened(conn(1), None);
        table.connected(conn(1), CLIENT);
        let unknown = PollTable::default();
        let of = |shard| Resume { shard: ShardId(shard), client: CLIENT };
        let left = Whereabouts::Left(ShardId(2));
        let rows = [
            ("it was here before", &unknown, of(1), 0, left, PollRoute::Shard(ShardId(1))),
            ("it was here before, and was of none", &unknown, of(3), 0, left, PollRoute::Shard(ShardId(2))),
            ("its ticket led here", &unknown, of(1), 1, left, PollRoute::Shard(ShardId(2))),
            ("it is here", &table, of(0), 0, Whereabouts::Here(conn(1)), PollRoute::Conn(conn(1))),
            ("by another transport", &table, of(0), 0, Whereabouts::Here(conn(2)), PollRoute::NotPolled),
            ("it has moved", &table, of(0), 0, left, PollRoute::Shard(ShardId(2))),
            ("it moves for ever", &unknown, of(0), 8, left, PollRoute::Gone),
            ("it is of another shard", &unknown, of(1), 0, Whereabouts::Unknown, PollRoute::Shard(ShardId(1))),
            ("of none", &unknown, of(3), 0, Whereabouts::Unknown, PollRoute::Gone),
            ("it came from there", &unknown, of(1), 1, Whereabouts::Unknown, PollRoute::Gone),
            ("it was of this shard", &unknown, of(0), 0, Whereabouts::Unknown, PollRoute::Gone),
            ("it is between two connections", &unknown, of(0), 0, Whereabouts::Away, PollRoute::Gone),
            ("its last words wait", &table, of(0), 0, Whereabouts::Away, PollRoute::Conn(conn(1))),
            ("and it is forgotten", &table, of(0), 0, Whereabouts::Unknown, PollRoute::Conn(conn(1))),
        ];
        for (name, table, to, hops, whereabouts, expected) in rows {
            assert_eq!(table.route(to, hops, whereabouts, ME, 3), expected, "{name}");
        }
    }

    #[test]
    fn a_repeated_attempt_leads_to_its_connection_until_that_is_removed() {
        let mut table = PollTable::default();
        let attempt = [9; 32];
        assert_eq!(table.repeated(Some(&attempt)), None);
        table.opened(conn(1), Some(attempt));
        table.connected(conn(1), CLIENT);
        assert_eq!((table.repeated(Some(&attempt)), table.repeated(None)), (Some(conn(1)), None));
        table.opened(conn(2), None);
        table.connected(conn(2), CLIENT);
        table.removed(conn(1), Some(CLIENT), Some(&attempt));
        let to = Resume { shard: ME, client: CLIENT };
        assert_eq!(table.route(to, 0, Whereabouts::Here(conn(2)), ME, 1), PollRoute::Conn(conn(2)), "the later one");
        table.removed(conn(2), Some(CLIENT), None);
        assert!(table.is_empty(), "{table:?}");
        assert!((0..=255).all(|byte| attempt_shard(&[byte; 32], 3).0 < 3) && attempt_shard(&[1; 32], 1).0 == 0);
    }
}
