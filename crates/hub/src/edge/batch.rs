//! Batches: publications that are gathered for the subscribers that asked for it, and sent to them together.
//!
//! Subscribers of a channel that asked for the same batch are one group of its edge. A publication costs such a group
//! one entry here, however many it has; the fan-out to its members happens once for the whole batch, which is encoded
//! once for all members that want all of it. A batch is sent when it has its size, when its first publication has
//! waited for the delay, when it fills a page, and before a gap. Sizes and delays are rounded down to few steps: so
//! many groups an edge can have.

use super::{EdgeRef, MemberSessions};
use crate::effects::Effects;
use crate::ids::{Epoch, Position, WireId};
use crate::limits::Limits;
use crate::message::{Batch, Publication, Push};
use crate::name::ChannelName;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

/// The batch for a subscriber's request: within the limits, on the steps, and `None` where it gathers
/// nothing.
pub(crate) fn rounded(batch: Option<Batch>, limits: &Limits) -> Option<Batch> {
    let Batch { size, delay_ms } = batch?;
    let bound = |number: u32, max: u64| step(number.min(u32::try_from(max).unwrap_or(u32::MAX)));
    let (size, delay_ms) = (bound(size, limits.batch_size_max as u64), bound(delay_ms, limits.batch_delay_ms_max));
    (size > 1 && delay_ms > 0).then_some(Batch { size, delay_ms })
}

/// The largest of 1, 2, 5, 10, 20, 50 … that is not above `number`; 0 for 0.
fn step(number: u32) -> u32 {
    let Some(digits) = number.checked_ilog10() else { return 0 };
    let ten = 10_u32.pow(digits);
    match number / ten {
        1 => ten,
        2..5 => 2 * ten,
        _ => 5 * ten,
    }
}

/// The publications that a group waits for.
#[derive(Debug)]
pub(crate) struct Gathering {
    pub(crate) batch: Batch,
    epoch: Epoch,
    publications: Vec<Arc<Publication>>,
    bytes: usize,
    /// When the first of them has waited long enough.
    due_ms: u64,
    /// A reminder is set, for `due_ms` or earlier.
    reminded: bool,
}

/// A batch that is on its way to the members of a group.
#[derive(Debug, Clone)]
pub(crate) struct Gathered {
    pub(crate) group: u32,
    pub(crate) epoch: Epoch,
    pub(crate) publications: Arc<[Arc<Publication>]>,
    /// Some of it is not for everybody.
    pub(crate) narrow: bool,
}

impl Gathering {
    pub(crate) fn new(batch: Batch) -> Self {
        Gathering { batch, epoch: Epoch(0), publications: Vec::new(), bytes: 0, due_ms: 0, reminded: false }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.publications.is_empty()
    }

    /// True where the channel goes on at `to` from somewhere behind what is gathered. (A skip to where it stands is
    /// none.)
    pub(crate) fn ends_before(&self, to: Position) -> bool {
        self.publications.last().is_some_and(|last| self.epoch != to.epoch || last.offset < to.offset)
    }

    /// Takes one more. True where that makes the batch whole.
    pub(crate) fn put(&mut self, epoch: Epoch, publication: &Arc<Publication>, now_ms: u64, page_bytes: usize) -> bool {
        if self.publications.is_empty() {
            self.epoch = epoch;
            self.due_ms = now_ms + u64::from(self.batch.delay_ms);
        }
        debug_assert_eq!(self.epoch, epoch, "an epoch begins with a skip, before which batches are told");
        self.bytes += publication.cost();
        self.publications.push(publication.clone());
        self.publications.len() >= self.batch.size as usize || self.bytes >= page_bytes
    }

    /// The batch as it is, for the group at this place. The next one begins.
    pub(crate) fn take(&mut self, group: u32) -> Gathered {
        self.bytes = 0;
        let publications: Arc<[_]> = std::mem::take(&mut self.publications).into();
        let narrow = publications.iter().any(|p| p.is_narrow());
        Gathered { group, epoch: self.epoch, publications, narrow }
    }

    /// When to look at it, where nobody has said so yet.
    pub(crate) fn remind(&mut self) -> Option<u64> {
        (!self.is_empty() && !std::mem::replace(&mut self.reminded, true)).then_some(self.due_ms)
    }

    /// A reminder has come. True where the batch has waited long enough; else there may have to be another reminder.
    pub(crate) fn reminded(&mut self, now_ms: u64) -> bool {
        self.reminded = false;
        !self.is_empty() && now_ms >= self.due_ms
    }
}

impl Gathered {
    pub(crate) fn bytes(&self) -> usize {
        self.publications.iter().map(|p| p.cost()).sum()
    }

    /// Sends it to `members`: one push to those that want all of it, a push of their own to the others.
    pub(crate) fn tell(
        &self,
        members: &mut [super::Member],
        sessions: &impl MemberSessions,
        out: &mut Effects,
        (channel, wire): (&ChannelName, WireId),
    ) {
        let Some(end) = self.publications.last().map(|p| p.offset) else { return };
        let start = out.mark();
        let mut others = Vec::new();
        for member in members.iter_mut().filter(|m| !m.is_behind() && m.epoch == self.epoch && m.at < end) {
            let has = self.publications.partition_point(|p| p.offset <= member.at);
            let unwanted = |p: &Arc<Publication>| p.is_narrow() && !sessions.wants(member, p);
            if has == 0 && !(self.narrow && self.publications.iter().any(unwanted)) {
                out.recipient(member.conn);
            } else {
                let wanted = self.publications[has..].iter().filter(|p| !self.narrow || !unwanted(p)).cloned();
                others.push((member.conn, wanted.collect::<Vec<_>>()));
            }
            member.at = end;
        }
        if let Some(push) = push(channel, self.epoch, &self.publications) {
            out.push_from(start, push, wire);
        }
        for (conn, wanted) in others {
            if let Some(push) = push(channel, self.epoch, &wanted.into()) {
                out.push_one(push, wire, conn);
            }
        }
    }
}

/// A single publication is a `Message`, several are `Messages`, and an empty list makes no push.
pub(crate) fn push(channel: &ChannelName, epoch: Epoch, publications: &Arc<[Arc<Publication>]>) -> Option<Push> {
    let channel = channel.clone();
    match &publications[..] {
        [] => None,
        [publication] => Some(Push::Message { channel, epoch, publication: publication.clone() }),
        _ => Some(Push::Messages { channel, publications: publications.clone() }),
    }
}

/// When to look at the batches of which groups. At most one entry for a group and life of its edge. The wheel of the
/// other timers is too coarse for delays of a few ms.
#[derive(Debug, Default)]
pub(crate) struct Reminders(BinaryHeap<Reverse<Reminder>>);

/// In the order of their times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reminder {
    at_ms: u64,
    pub(crate) edge: EdgeRef,
    pub(crate) group: u32,
}

impl Reminders {
    pub(crate) fn add(&mut self, at_ms: u64, edge: EdgeRef, group: u32) {
        self.0.push(Reverse(Reminder { at_ms, edge, group }));
    }

    pub(crate) fn next_ms(&self) -> Option<u64> {
        self.0.peek().map(|Reverse(next)| next.at_ms)
    }

    /// The next one that has come due.
    pub(crate) fn next_due(&mut self, now_ms: u64) -> Option<Reminder> {
        let Reverse(next) = *self.0.peek()?;
        if next.at_ms > now_ms {
            return None;
        }
        self.0.pop();
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_delays_are_rounded_down_to_few_steps() {
        let limits = Limits::default();
        let table = [
            ((1, 100), None),
            ((10, 0), None),
            ((2, 1), Some((2, 1))),
            ((4, 19), Some((2, 10))),
            ((9, 99), Some((5, 50))),
            ((10, 250), Some((10, 200))),
            ((199, 5_000), Some((100, 5_000))),
            ((u32::MAX, u32::MAX), Some((200, 10_000))),
        ];
        for ((size, delay_ms), expected) in table {
            let batch = rounded(Some(Batch { size, delay_ms }), &limits);
            let expected = expected.map(|(size, delay_ms)| Batch { size, delay_ms });
            assert_eq!(batch, expected, "{size} within {delay_ms} ms");
        }
    }
}
