//! Sessions without a connection, whose clients may come back: how much memory they may take together.
//!
//! In: a session that has lost its connection, with an estimate of its bytes; one that has another connection, or is
//! over. Out: the session that is to end next while they take more than `away_bytes_max`: the one that has been away
//! for longest. Its client begins anew when it comes. Signals that wait for a client have a bound of their own.

use super::table::Session;
use super::{Cx, Sessions};
use crate::hook::Ended;
use crate::peer::{Joined, KeptStay, KeptSub};
use crate::rng::Keyed;
use std::collections::{BTreeMap, HashMap};

/// The bytes of a session besides the counted ones: its places in the tables, and the values that the shell attached.
const SESSION_BYTES: usize = 1 << 10;
/// The overhead of a name.
const NAME_BYTES: usize = 24;

#[derive(Debug)]
pub(crate) struct Away {
    /// By number: the first has been away for longest.
    order: BTreeMap<u64, Absent>,
    numbers: HashMap<u32, u64, Keyed>,
    next: u64,
    bytes: usize,
}

#[derive(Debug, Clone, Copy)]
struct Absent {
    session: u32,
    bytes: usize,
}

impl Away {
    pub(super) fn new(hash: Keyed) -> Self {
        Away { order: BTreeMap::new(), numbers: HashMap::with_hasher(hash), next: 0, bytes: 0 }
    }

    /// A session is away from now on.
    pub(super) fn left(&mut self, session: u32, bytes: usize) {
        self.back(session);
        self.next += 1;
        self.numbers.insert(session, self.next);
        self.order.insert(self.next, Absent { session, bytes });
        self.bytes += bytes;
    }

    /// It is not any more.
    pub(super) fn back(&mut self, session: u32) {
        if let Some(absent) = self.numbers.remove(&session).and_then(|number| self.order.remove(&number)) {
            self.bytes -= absent.bytes;
        }
    }

    /// Where all together take more than `bytes_max`, the one that has been away for longest.
    fn over(&self, bytes_max: usize) -> Option<u32> {
        self.order.first_key_value().filter(|_| self.bytes > bytes_max).map(|(_, absent)| absent.session)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Session {
    /// An estimate of the memory that it takes while it is away.
    fn away_bytes(&self) -> usize {
        let stay = |stay: &KeptStay| size_of::<KeptStay>() + NAME_BYTES + stay.room.as_str().len();
        let kept = |kept: &KeptSub| {
            let stays: usize = kept.stays.iter().map(stay).sum();
            size_of::<KeptSub>() + NAME_BYTES + kept.channel.as_str().len() + stays
        };
        let extra = self.extra.as_ref().map_or(0, |extra| {
            let entered = extra.entered.iter().map(|entered| SESSION_BYTES / 4 + entered.entry.data.len());
            let granted = extra.granted.iter().map(|channel| NAME_BYTES + channel.as_str().len());
            let joined = extra.joined.iter().map(|it| size_of::<Joined>() + NAME_BYTES + it.channel.as_str().len());
            let sends = extra.sends.as_ref().map_or(0, |sends| sends.bytes());
            extra.kept.iter().map(kept).sum::<usize>()
                + entered.sum::<usize>()
                + granted.sum::<usize>()
                + joined.sum::<usize>()
                + sends
        });
        let identity = self.identity().map_or(0, |identity| {
            let granted = identity.proof.granted.iter().map(|channel| NAME_BYTES + channel.as_str().len());
            identity.proof.info.as_ref().map_or(0, bytes::Bytes::len) + granted.sum::<usize>()
        });
        SESSION_BYTES + extra + identity
    }
}

impl Sessions {
    /// A session is away from now on. Others end for it where there is no room.
    pub(super) fn is_away(&mut self, cx: &mut Cx<'_>, index: u32) {
        let bytes = self.sessions.slab[index as usize].away_bytes();
        self.sessions.away.left(index, bytes);
        while let Some(session) = self.sessions.away.over(cx.limits.away_bytes_max) {
            self.away_shed += 1;
            self.end(cx, session, Ended::Lost);
        }
    }

    pub(crate) fn away_bytes(&self) -> usize {
        self.sessions.away.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_that_has_been_away_for_longest_goes_first() {
        let mut away = Away::new(Keyed(1));
        (0..4).for_each(|session| away.left(session, 100));
        away.left(0, 50); // it was here meanwhile
        away.back(2);
        away.back(7);
        assert_eq!((away.bytes(), away.over(250), away.over(249)), (250, None, Some(1)));
        for expected in [1, 3, 0] {
            let first = away.over(0).expect("one is left");
            assert_eq!(first, expected);
            away.back(first);
        }
        assert!(away.order.is_empty() && away.numbers.is_empty() && away.bytes == 0);
    }
}
