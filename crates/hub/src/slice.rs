//! The bound of the work for many that one call of [`Shard::handle`](crate::Shard::handle) may do.
//!
//! A publication to a hundred thousand members, a reload, a drain, timers that fall due together: each is done in
//! slices, and the rest goes on with `Input::Continue`, after others have had their turn. All parts of one call
//! share one slice, so a call does `fanout_slice` steps and gives no connection more than about a page of what it did
//! not ask for.

use crate::limits::Limits;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Slice {
    steps: usize,
    page_bytes: usize,
}

impl Slice {
    pub(crate) fn new(limits: &Limits) -> Self {
        Slice { steps: limits.fanout_slice.max(1), page_bytes: limits.page_bytes_max }
    }

    /// Steps that are left.
    pub(crate) fn steps(&self) -> usize {
        self.steps
    }

    pub(crate) fn is_spent(&self) -> bool {
        self.steps == 0
    }

    /// Counts `steps`, which may be more than are left.
    pub(crate) fn spend(&mut self, steps: usize) {
        self.steps = self.steps.saturating_sub(steps);
    }

    /// Takes `bytes` that each receiver is given; false where the page has been used up before. The shell says only
    /// after the call that an outbox is full: until then a receiver may be in all of the channels that are told
    /// something.
    pub(crate) fn take_bytes(&mut self, bytes: usize) -> bool {
        let room = self.page_bytes > 0;
        self.page_bytes = self.page_bytes.saturating_sub(if room { bytes.max(1) } else { 0 });
        room
    }

    /// Goes on with the steps of `share`, a part of this slice.
    pub(crate) fn begin(&mut self, share: Slice) {
        self.steps = share.steps;
    }

    /// A part of this slice for one of `parts` that want it, so that none of them waits for another.
    pub(crate) fn share(&self, parts: usize) -> Slice {
        Slice { steps: (self.steps / parts.max(1)).max(1), ..*self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_ends_by_its_steps_and_its_page_by_its_bytes() {
        let mut slice = Slice::new(&Limits { fanout_slice: 10, page_bytes_max: 100, ..Limits::default() });
        assert_eq!(slice.share(3).steps(), 3);
        slice.spend(9);
        assert!(!slice.is_spent());
        slice.spend(5);
        assert!(slice.is_spent());
        assert!(slice.take_bytes(99) && slice.take_bytes(1_000), "the last one may go beyond");
        assert!(!slice.take_bytes(1));
    }
}
