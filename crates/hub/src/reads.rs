//! How much of a channel's past one client may be given.
//!
//! In: what the rule and the session say. Out: whether a place is one from which the client may be told, the range that
//! a read of the history may cover, and whether a page of it leaves a gap. A place is compared with the one where the
//! client joined within one epoch; of two epochs only the channel's present one is known to be the later.

use crate::ids::Position;
use crate::message::HistoryFrom;
use crate::store::{Page, Range};

/// The past publications that a client may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reads {
    /// None.
    Nothing,
    /// Those after the place where its subscription began.
    Since(Position),
    /// All that the history holds.
    All,
}

impl Reads {
    /// Whether all publications after a place may be given, where the channel stands at `top`.
    pub(crate) fn covers(self, since: Position, top: Position) -> bool {
        let Reads::Since(joined) = self else { return self == Reads::All };
        match joined.epoch == since.epoch {
            true => since.offset >= joined.offset,
            // The channel stood in the epoch of the join then: its present epoch began later, every other one before.
            false => since.epoch == top.epoch,
        }
    }

    /// Only publications after this place.
    fn floor(self, top: Position) -> Option<Position> {
        match self {
            Reads::All => None,
            Reads::Since(joined) => Some(joined),
            Reads::Nothing => Some(top),
        }
    }

    /// The newest ones that may be given.
    pub(crate) fn newest(self, top: Position) -> Range {
        Range::Last { after: self.floor(top), before: None }
    }

    /// The range of a query, and what is known of the place that it goes on from.
    pub(crate) fn range(self, from: HistoryFrom, top: Position) -> (Range, AskedFrom) {
        match from {
            HistoryFrom::Newest => (self.newest(top), AskedFrom::Nowhere),
            HistoryFrom::Before(at) => (Range::Last { after: self.floor(top), before: Some(at) }, AskedFrom::Nowhere),
            HistoryFrom::Since(at) if self.covers(at, top) => (Range::After(at), AskedFrom::Place),
            HistoryFrom::Since(at) => match self.floor(top) {
                Some(floor) if floor == at => (Range::After(floor), AskedFrom::Place),
                Some(floor) if floor.epoch == at.epoch => (Range::After(floor), AskedFrom::Hidden),
                _ => (Range::After(top), AskedFrom::Foreign),
            },
        }
    }
}

/// The place that a query of the history goes on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AskedFrom {
    /// The query names no place to go on from.
    Nowhere,
    /// A place after which the client may be given everything.
    Place,
    /// A place before the one where the client joined: publications between the two are not for it.
    Hidden,
    /// A place that is none of this channel's.
    Foreign,
}

impl AskedFrom {
    /// Whether publications are missing between the place and the beginning of a page.
    pub(crate) fn has_gap(self, page: &Page) -> bool {
        match self {
            AskedFrom::Nowhere | AskedFrom::Foreign => false,
            AskedFrom::Place => !page.reset && !page.complete,
            AskedFrom::Hidden => !page.reset,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Epoch;

    fn at(epoch: u64, offset: u64) -> Position {
        Position { epoch: Epoch(epoch), offset }
    }

    #[test]
    fn a_client_reads_from_where_it_joined() {
        let joined = Reads::Since(at(2, 5));
        let top = at(2, 9);
        let later = at(3, 4);
        // (the place, where the channel stands, whether all after the place may be given)
        let rows = [
            ("before the join", at(2, 4), top, false),
            ("the join", at(2, 5), top, true),
            ("after it", at(2, 7), top, true),
            ("an earlier epoch", at(1, 8), top, false),
            ("a later epoch", at(3, 1), later, true),
            ("before the join, seen from a later epoch", at(2, 4), later, false),
            ("after the join, seen from a later epoch", at(2, 7), later, true),
            ("an earlier epoch, seen from a later one", at(1, 8), later, false),
        ];
        for (name, since, top, expected) in rows {
            assert_eq!(joined.covers(since, top), expected, "{name}");
            assert!(Reads::All.covers(since, top), "{name}");
            assert!(!Reads::Nothing.covers(since, top), "{name}");
        }
    }

    #[test]
    fn pages_end_where_the_client_joined() {
        let (joined, top) = (at(2, 5), at(2, 9));
        let reads = Reads::Since(joined);
        let back = Range::Last { after: Some(joined), before: Some(at(2, 7)) };
        let rows = [
            ("the newest", HistoryFrom::Newest, Range::Last { after: Some(joined), before: None }, AskedFrom::Nowhere),
            ("back", HistoryFrom::Before(at(2, 7)), back, AskedFrom::Nowhere),
            ("on", HistoryFrom::Since(at(2, 7)), Range::After(at(2, 7)), AskedFrom::Place),
            ("from the join", HistoryFrom::Since(joined), Range::After(joined), AskedFrom::Place),
            ("from before", HistoryFrom::Since(at(2, 1)), Range::After(joined), AskedFrom::Hidden),
            ("of another epoch", HistoryFrom::Since(at(1, 1)), Range::After(top), AskedFrom::Foreign),
        ];
        for (name, from, range, asked_from) in rows {
            assert_eq!(reads.range(from, top), (range, asked_from), "{name}");
        }
        let at_top = Reads::Nothing.range(HistoryFrom::Since(top), top);
        assert_eq!(at_top, (Range::After(top), AskedFrom::Place), "nothing lies after it that could be hidden");
        let since = HistoryFrom::Since(at(1, 1));
        assert_eq!(Reads::All.range(since, top), (Range::After(at(1, 1)), AskedFrom::Place));
    }
}
