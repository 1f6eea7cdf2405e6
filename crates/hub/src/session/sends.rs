//! The numbers of the sends of one session: each takes effect once, in the order of its number, in whichever order its
//! requests arrive.
//!
//! In: the number of a send ([`Sends::take`]). Out: what to do with it ([`Taken`]). A repeat of a send gets the answer
//! of the first one: the last [`KEPT`] answers are kept, together at most `outbox_bytes_max`. A send whose predecessor
//! has not arrived waits, with at most [`EARLY`] others and as many bytes. The state belongs to the session: it goes
//! to other shards with it, without the sends that wait.

use super::pending::ReplyAddresses;
use crate::error::{Error, ErrorCode};
use crate::forward::SendRequest;
use crate::message::{Reply, ReplyBody};
use crate::peer::{AdoptedSends, PendingToken};
use std::collections::VecDeque;
use std::collections::btree_map::{BTreeMap, Entry};
use std::sync::Arc;

/// So many answers are kept for repeats.
const KEPT: usize = 8;
/// So many numbers may be ahead of the next one.
const EARLY: u64 = 8;

#[derive(Debug, Default)]
pub(crate) struct Sends {
    /// The number of the last send that has taken effect.
    begun: u64,
    /// The last sends, oldest first.
    kept: VecDeque<Kept>,
    kept_bytes: usize,
    early: BTreeMap<u64, Early>,
    early_bytes: usize,
}

#[derive(Debug)]
struct Kept {
    n: u64,
    state: KeptState,
}

#[derive(Debug)]
enum KeptState {
    /// Some of its commands have no answer yet.
    UnderWay(PendingToken),
    Answered {
        replies: Arc<[Reply]>,
        bytes: usize,
    },
    /// It has taken effect, and its answer is not kept.
    Lost,
}

/// A send that waits for those before it.
#[derive(Debug)]
pub(crate) struct Early {
    pub(crate) send: SendRequest,
    /// The request, and those that repeated it meanwhile: each gets the answer.
    pub(crate) to: ReplyAddresses,
}

/// What becomes of a send.
#[derive(Debug)]
pub(crate) enum Taken {
    /// It is the next one: it takes effect now.
    Begin,
    /// It has been answered so.
    Answered(Arc<[Reply]>),
    /// It has begun. This one gets the same answer.
    UnderWay(PendingToken),
    /// One before it has not arrived: it may wait.
    Early,
    Refused(Error),
}

impl Sends {
    pub(crate) fn take(&self, n: u64) -> Taken {
        let next = self.begun + 1;
        if n == next {
            return Taken::Begin;
        }
        if n > next {
            let is_near = n - next <= EARLY;
            return if is_near { Taken::Early } else { Taken::Refused(self.out_of_order(n)) };
        }
        match self.kept.iter().find(|kept| kept.n == n).map(|kept| &kept.state) {
            Some(KeptState::UnderWay(token)) => Taken::UnderWay(*token),
            Some(KeptState::Answered { replies, .. }) => Taken::Answered(replies.clone()),
            Some(KeptState::Lost) => {
                let message = format!("send {n} has taken effect, and its answer is not kept");
                Taken::Refused(Error::new(ErrorCode::Unknown, message))
            }
            None => {
                let message =
                    format!("send {n} took effect long ago, and its answer is not kept; the next number is {next}");
                Taken::Refused(Error::new(ErrorCode::Unknown, message))
            }
        }
    }

    /// A send takes effect.
    pub(crate) fn begin(&mut self, n: u64, token: PendingToken) {
        self.begun = n;
        self.kept.push_back(Kept { n, state: KeptState::UnderWay(token) });
        if self.kept.len() > KEPT
            && let Some(Kept { state: KeptState::Answered { bytes, .. }, .. }) = self.kept.pop_front()
        {
            self.kept_bytes -= bytes;
        }
    }

    /// All commands of a send are answered.
    pub(crate) fn answered(&mut self, n: u64, token: PendingToken, replies: &Arc<[Reply]>, bytes_max: usize) {
        let is_it = |kept: &&mut Kept| kept.n == n && matches!(kept.state, KeptState::UnderWay(of) if of == token);
        let Some(kept) = self.kept.iter_mut().find(is_it) else { return };
        let bytes = bytes_of(replies);
        kept.state = KeptState::Answered { replies: replies.clone(), bytes };
        self.kept_bytes += bytes;
        for kept in &mut self.kept {
            if self.kept_bytes <= bytes_max {
                return;
            }
            if let KeptState::Answered { bytes, .. } = kept.state {
                self.kept_bytes -= bytes;
                kept.state = KeptState::Lost;
            }
        }
    }

    /// Whether a send of so many bytes may wait. One of the same number that waits already makes room for it.
    pub(crate) fn has_room(&self, n: u64, bytes: usize, bytes_max: usize) -> bool {
        let replaced = self.early.get(&n).map_or(0, |early| early.send.bytes);
        self.early_bytes - replaced + bytes <= bytes_max
    }

    /// A send waits for those before it. Where one of the same number waits already, its commands are replaced, and
    /// both requests get the answer.
    pub(crate) fn wait(&mut self, n: u64, early: Early) {
        self.early_bytes += early.send.bytes;
        match self.early.entry(n) {
            Entry::Vacant(entry) => drop(entry.insert(early)),
            Entry::Occupied(mut entry) => {
                let waiting = entry.get_mut();
                self.early_bytes -= waiting.send.bytes;
                waiting.send = early.send;
                waiting.to.extend(early.to);
            }
        }
    }

    /// The next one, if it waits.
    pub(crate) fn next_early(&mut self) -> Option<Early> {
        let early = self.early.remove(&(self.begun + 1))?;
        self.early_bytes -= early.send.bytes;
        Some(early)
    }

    /// The sends that wait, by number: none of them waits any more.
    pub(crate) fn take_early(&mut self) -> BTreeMap<u64, Early> {
        self.early_bytes = 0;
        std::mem::take(&mut self.early)
    }

    /// Bytes of the answers that are kept, and of the sends that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.kept_bytes + self.early_bytes
    }

    /// How many wait.
    pub(crate) fn early_count(&self) -> usize {
        self.early.len()
    }

    pub(crate) fn begun(&self) -> u64 {
        self.begun
    }

    /// The error for a send that comes before an earlier one.
    pub(crate) fn out_of_order(&self, n: u64) -> Error {
        let next = self.begun + 1;
        let message = format!("send {n} came before send {next}: send again all from {next} on");
        Error::new(ErrorCode::OutOfOrder, message)
    }

    /// The state as it goes to another shard: answers that are not complete do not follow it.
    pub(crate) fn into_adopted(self) -> AdoptedSends {
        let complete = |state| match state {
            KeptState::Answered { replies, .. } => Some(replies),
            KeptState::UnderWay(_) | KeptState::Lost => None,
        };
        let answers = self.kept.into_iter().map(|Kept { n, state }| (n, complete(state))).collect();
        AdoptedSends { begun: self.begun, answers }
    }

    /// The state that has come from another shard.
    pub(crate) fn adopted(adopted: AdoptedSends) -> Self {
        let mut sends = Sends { begun: adopted.begun, ..Sends::default() };
        for (n, replies) in adopted.answers {
            let state = replies.map_or(KeptState::Lost, |replies| {
                let bytes = bytes_of(&replies);
                sends.kept_bytes += bytes;
                KeptState::Answered { replies, bytes }
            });
            sends.kept.push_back(Kept { n, state });
        }
        sends
    }
}

fn bytes_of(replies: &[Reply]) -> usize {
    replies.iter().map(|reply| cost(&reply.body)).sum()
}

/// The bytes of an answer, about.
fn cost(body: &ReplyBody) -> usize {
    const OVERHEAD: usize = 128;
    OVERHEAD
        + match body {
            ReplyBody::Subscribed(subscribed) => subscribed.publications.iter().map(|it| it.cost()).sum(),
            ReplyBody::History(history) => history.publications.iter().map(|it| it.cost()).sum(),
            ReplyBody::Presence { snapshot, .. } => snapshot.cost(),
            ReplyBody::Result(json) => json.len(),
            ReplyBody::Many(bodies) => bodies.iter().map(cost).sum(),
            ReplyBody::Error(error) => error.message.len(),
            _ => 0,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn token(index: u32) -> PendingToken {
        PendingToken { index, life: 0 }
    }

    fn replies(len: usize) -> Arc<[Reply]> {
        [Reply { id: None, body: ReplyBody::Result(Bytes::from(vec![b'1'; len])) }].into()
    }

    /// So many have taken effect, with answers of this length.
    fn after(count: u64, len: usize, bytes_max: usize) -> Sends {
        let mut sends = Sends::default();
        for n in 1..=count {
            assert!(matches!(sends.take(n), Taken::Begin), "{n}");
            sends.begin(n, token(n as u32));
            assert!(matches!(sends.take(n), Taken::UnderWay(of) if of == token(n as u32)), "{n}");
            sends.answered(n, token(n as u32), &replies(len), bytes_max);
        }
        sends
    }

    fn code(taken: Taken) -> Option<ErrorCode> {
        match taken {
            Taken::Refused(error) => Some(error.code),
            _ => None,
        }
    }

    #[test]
    fn the_last_eight_answers_are_kept() {
        let sends = after(20, 10, 1 << 20);
        for n in 13..=20 {
            assert!(matches!(sends.take(n), Taken::Answered(_)), "{n}");
        }
        assert_eq!(
            (code(sends.take(12)), code(sends.take(0))),
            (Some(ErrorCode::Unknown), Some(ErrorCode::Unknown)),
            "to send them again is of no use"
        );
    }

    #[test]
    fn the_oldest_answers_make_room_and_a_longer_one_is_not_kept() {
        let sends = after(4, 1_000, 3_000);
        assert_eq!([1, 2].map(|n| code(sends.take(n))), [Some(ErrorCode::Unknown); 2]);
        assert!(matches!(sends.take(3), Taken::Answered(_)) && matches!(sends.take(4), Taken::Answered(_)));
        assert_eq!(code(after(1, 5_000, 3_000).take(1)), Some(ErrorCode::Unknown));
        let many = after(40, 1_000, 3_000);
        assert!(many.kept_bytes <= 3_000 && many.kept.len() == KEPT, "{} bytes", many.kept_bytes);
    }

    #[test]
    fn an_early_one_waits_within_two_bounds() {
        let mut sends = after(1, 1, 1_000);
        let early = |bytes| Early {
            send: SendRequest { n: None, requests: Vec::new(), bytes },
            to: smallvec::smallvec![crate::peer::ReplyAddress { shard: crate::ids::ShardId(0), token: token(9) }],
        };
        assert!(matches!(sends.take(10), Taken::Early));
        assert_eq!(code(sends.take(11)), Some(ErrorCode::OutOfOrder));
        assert_eq!(code(sends.take(u64::MAX)), Some(ErrorCode::OutOfOrder));
        assert!(sends.has_room(3, 1_000, 1_000) && !sends.has_room(3, 1_001, 1_000));
        sends.wait(3, early(600));
        assert!(sends.has_room(4, 400, 1_000) && !sends.has_room(4, 500, 1_000));
        assert!(sends.has_room(3, 900, 1_000), "it takes the place of the other one");
        sends.wait(3, early(900));
        assert_eq!((sends.early_count(), sends.early_bytes), (1, 900));
        assert!(sends.next_early().is_none(), "the second has not come");
        sends.begin(2, token(2));
        assert_eq!(sends.next_early().map(|early| early.to.len()), Some(2), "both requests get the answer");
        assert_eq!(sends.early_bytes, 0);
    }

    #[test]
    fn a_moved_session_knows_its_answers_and_not_those_that_are_under_way() {
        let mut sends = after(2, 1, 1_000);
        sends.begin(3, token(3));
        let mut sends = Sends::adopted(sends.into_adopted());
        assert!(matches!(sends.take(2), Taken::Answered(_)) && matches!(sends.take(4), Taken::Begin));
        sends.answered(3, token(3), &replies(1), 1_000);
        assert_eq!(code(sends.take(3)), Some(ErrorCode::Unknown));
    }
}
