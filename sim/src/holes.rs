//! A store whose numbers have holes: offsets need not be dense, and nobody may compute with them.
//!
//! The memory store numbers 1, 2, 3. In some worlds everything that goes in and out of it is renumbered, so that the
//! hub and the clients see a store that leaves numbers out.

use fanfare_hub::{Op, Position, Publication, Range, StoreAnswer};
use std::sync::Arc;

/// Where a store numbers with holes: the place of its n-th entry. It rises, and 0 stays 0.
pub(crate) fn spread(n: u64) -> u64 {
    match n {
        0 => 0,
        n => 4 * n - (n.wrapping_mul(0x9E37_79B9) >> 7) % 4,
    }
}

/// How many entries have places up to this one.
pub(crate) fn dense(place: u64) -> u64 {
    let n = place / 4;
    if spread(n + 1) <= place { n + 1 } else { n }
}

/// A publication as it stands in a store that numbers with holes.
pub(crate) fn spread_out(publication: &Publication) -> Publication {
    let (offset, prev) = (spread(publication.offset), spread(publication.prev));
    Publication { offset, prev, ..publication.clone() }
}

/// An operation in the numbers of the memory store. `top`: the newest position, as the hub knows it.
pub(crate) fn op_in(op: Op, top: Option<Position>) -> Op {
    let Op::Read { channel, range, reader, count_max, bytes_max, scan_max, retain } = op else { return op };
    let top = top.map_or(0, |top| top.offset);
    let after = |at: Position| match at.offset > top {
        true => Position { offset: dense(top) + 1 + at.offset - top, ..at },
        false => Position { offset: dense(at.offset), ..at },
    };
    let before = |at: Position| match at.offset > top {
        true => after(at),
        false => Position { offset: at.offset.checked_sub(1).map_or(0, |below| dense(below) + 1), ..at },
    };
    let range = match range {
        Range::After(at) => Range::After(after(at)),
        Range::Last { after: from, before: to } => Range::Last { after: from.map(after), before: to.map(before) },
    };
    Op::Read { channel, range, reader, count_max, bytes_max, scan_max, retain }
}

/// An answer of the memory store in the numbers that the hub sees.
pub(crate) fn answer_out(answer: StoreAnswer) -> StoreAnswer {
    let out = |at: Position| Position { offset: spread(at.offset), ..at };
    match answer {
        StoreAnswer::Attached(at) => StoreAnswer::Attached(out(at)),
        StoreAnswer::Duplicate(at) => StoreAnswer::Duplicate(out(at)),
        StoreAnswer::EpochLost(at) => StoreAnswer::EpochLost(out(at)),
        StoreAnswer::Appended { epoch, publication } => {
            StoreAnswer::Appended { epoch, publication: Arc::new(spread_out(&publication)) }
        }
        StoreAnswer::Page(mut page) => {
            page.publications.iter_mut().for_each(|publication| *publication = Arc::new(spread_out(publication)));
            (page.start, page.end, page.top) = (spread(page.start), spread(page.end), out(page.top));
            StoreAnswer::Page(page)
        }
        answer => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_with_holes_rise_and_lead_back() {
        for n in 0..10_000 {
            assert!(spread(n) < spread(n + 1), "{n}");
            assert_eq!(dense(spread(n)), n);
            assert_eq!(dense(spread(n + 1) - 1), n);
        }
    }
}
