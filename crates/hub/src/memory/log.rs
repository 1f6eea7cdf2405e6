//! The log of one channel in memory: its retained publications, its numbering and its keys, and the pages of it.

use crate::ids::{Epoch, Position};
use crate::keys::Keys;
use crate::message::Publication;
use crate::name::ChannelName;
use crate::rules::Retain;
use crate::store::{Page, Range, Reader, Rest};
use std::collections::VecDeque;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Log {
    pub(super) name: ChannelName,
    pub(super) epoch: Epoch,
    pub(super) top: u64,
    /// The offset that the oldest retained publication follows: the history reaches back to here.
    pub(super) floor: u64,
    pub(super) retain_ttl_ms: u64,
    pub(super) attached: bool,
    pub(super) used_ms: u64,
    /// Only while it retains something: most channels are silent most of the time.
    pub(super) retained: Option<Box<Retained>>,
    pub(super) keys: Option<Box<Keys>>,
}

/// The publications of a log, the oldest first. There is at least one.
#[derive(Debug, Default)]
pub(super) struct Retained {
    pub(super) entries: VecDeque<Arc<Publication>>,
    pub(super) bytes: usize,
}

/// The parameters of a read: see [`crate::store::Op::Read`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Read {
    pub(super) range: Range,
    pub(super) reader: Option<Reader>,
    pub(super) count_max: usize,
    pub(super) bytes_max: usize,
    pub(super) scan_max: usize,
}

impl Log {
    /// The bytes of its record without publications and keys: here, and in the table of names.
    pub(super) fn cost(&self) -> usize {
        // Seen from outside, with two million names of 206 bytes: 730 bytes each, for the tables grow by doubling.
        const OVERHEAD: usize = size_of::<Log>() + 2 * size_of::<(ChannelName, u32)>() + 320;
        OVERHEAD + self.name.len()
    }

    /// True where nobody has used it since then, and it holds no publication.
    pub(super) fn is_idle(&self, epoch: u64, since_ms: u64) -> bool {
        !self.attached && self.retained.is_none() && self.epoch.0 == epoch && self.used_ms == since_ms
    }

    pub(super) fn top(&self) -> Position {
        Position { epoch: self.epoch, offset: self.top }
    }

    /// The retained publications, the oldest first.
    pub(super) fn entries(&self) -> &VecDeque<Arc<Publication>> {
        static NONE: VecDeque<Arc<Publication>> = VecDeque::new();
        self.retained.as_ref().map_or(&NONE, |retained| &retained.entries)
    }

    /// How many of the oldest publications the channel's own bounds do not cover.
    pub(super) fn over(&self, retain: Retain, wall_ms: u64) -> usize {
        let Some(retained) = &self.retained else { return 0 };
        let Retained { entries, bytes } = &**retained;
        let mut over = entries.len().saturating_sub(retain.count as usize).max(self.over_age(retain.ttl_ms, wall_ms));
        let mut bytes = bytes - entries.iter().take(over).map(|p| p.cost()).sum::<usize>();
        while bytes > retain.bytes && over < entries.len() {
            bytes -= entries[over].cost();
            over += 1;
        }
        over
    }

    pub(super) fn over_age(&self, ttl_ms: u64, wall_ms: u64) -> usize {
        self.entries().iter().take_while(|p| p.ts_ms.saturating_add(ttl_ms) <= wall_ms).count()
    }

    pub(super) fn page(&self, read: &Read) -> Page {
        let Read { range, reader, count_max, bytes_max, scan_max } = *read;
        let entries = self.entries();
        let (after, before, forward) = match range {
            Range::After(at) => (Some(at), None, true),
            Range::Last { after, before } => (after, before, false),
        };
        let is_none_of_this = |at: &Position| self.is_foreign(*at) || at.offset > self.top;
        let reset = after.iter().chain(&before).any(is_none_of_this);
        let complete = !reset && after.is_none_or(|at| at.offset >= self.floor);
        let ends_nowhere = before.is_some_and(|at| is_none_of_this(&at));
        let last = match before {
            Some(at) if !ends_nowhere => self.first_after(at.offset.saturating_sub(1)),
            _ => entries.len(),
        };
        let first = match after {
            _ if ends_nowhere => last,
            Some(at) if !is_none_of_this(&at) => self.first_after(at.offset).min(last),
            Some(_) if forward => last,
            _ => 0,
        };
        let (mut publications, mut rest, mut looked_at) = (Vec::new(), Rest::Nothing, 0);
        let (mut bytes, mut work) = (0, 0);
        while first + looked_at < last {
            if work >= scan_max && looked_at > 0 {
                rest = Rest::Unseen;
                break;
            }
            let publication = &entries[if forward { first + looked_at } else { last - 1 - looked_at }];
            work += look_cost(publication);
            if reader.is_none_or(|reader| reader.wants(publication)) {
                bytes += publication.cost();
                if publications.len() >= count_max || (bytes > bytes_max && !publications.is_empty()) {
                    rest = Rest::More;
                    break;
                }
                publications.push(publication.clone());
            }
            looked_at += 1;
        }
        let place_before = |at: usize| entries.get(at).map_or(self.top, |publication| publication.prev);
        let (start, end) = match forward {
            true if rest == Rest::Nothing => (place_before(first), self.top),
            true => (place_before(first), place_before(first + looked_at)),
            false => {
                publications.reverse();
                (place_before(last - looked_at), self.top)
            }
        };
        Page { publications, start, end, top: self.top(), complete, reset, rest }
    }

    fn is_foreign(&self, at: Position) -> bool {
        at.epoch != self.epoch
    }

    /// Index of the first retained publication whose offset is above `offset`.
    fn first_after(&self, offset: u64) -> usize {
        self.entries().partition_point(|p| p.offset <= offset)
    }
}

/// The cost of the check whether a publication is for a reader. It is 1 for one that is for all; an audience is a list.
fn look_cost(publication: &Publication) -> usize {
    1 + publication.audience.as_ref().map_or(0, |audience| (audience.only.len() + audience.except.len()) / 8)
}
