//! What waits to be written to one connection: shared frames in order, with their bytes counted.
//!
//! The hub is told when an outbox is over its mark ([`Appended::Full`]) and when it has drained; in between it appends
//! nothing but answers, and the receiver pulls. So an outbox overshoots by at most one delivery, page or answer. The same
//! type serves the server (one vectored write a turn) and the simulation.

use bytes::{Buf, Bytes};
use std::collections::VecDeque;
use std::io::IoSlice;

/// Frames that wait for one connection.
#[derive(Debug, Default)]
pub struct Outbox {
    /// The first frame; empty when nothing waits. Inline: most outboxes never hold a second one, and an idle one must cost
    /// nothing (bench `fanout`: an allocation for each delivery is a tenth of what we add to the system call).
    head: Bytes,
    tail: VecDeque<Bytes>,
    bytes: usize,
    /// True from `Full` until drained.
    full: bool,
}

/// What an append did to the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// There is room for more.
    Room,
    /// This one went over the mark: the hub must be told `Input::Full`. Said once until the outbox has drained.
    Full,
}

impl Outbox {
    /// Appends a frame. `bytes_max` is the mark of [`Appended::Full`].
    pub fn push(&mut self, frame: Bytes, bytes_max: usize) -> Appended {
        self.bytes += frame.len();
        if self.head.is_empty() {
            self.head = frame;
        } else if !frame.is_empty() {
            self.tail.push_back(frame);
        }
        if self.bytes > bytes_max && !self.full {
            self.full = true;
            return Appended::Full;
        }
        Appended::Room
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// True when nothing waits.
    pub fn is_empty(&self) -> bool {
        self.head.is_empty()
    }

    /// The first frame, where it is the only one.
    pub fn single(&self) -> Option<&[u8]> {
        (self.tail.is_empty() && !self.head.is_empty()).then_some(&self.head)
    }

    /// Fills `slices` with what comes next and tells how many it used.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut used = 0;
        for (slot, frame) in slices.iter_mut().zip(std::iter::once(&self.head).chain(&self.tail)) {
            *slot = IoSlice::new(frame);
            used += 1;
        }
        used
    }

    /// Takes `count` bytes off the front: they were written. True when this drained an outbox that had been full below a
    /// quarter of `bytes_max`: the hub must be told `Input::Drained`.
    pub fn advance(&mut self, mut count: usize, bytes_max: usize) -> bool {
        debug_assert!(count <= self.bytes, "more was written than waited");
        self.bytes -= count;
        while count >= self.head.len() && count > 0 {
            count -= self.head.len();
            self.head = self.tail.pop_front().unwrap_or_default();
        }
        self.head.advance(count);
        if self.tail.is_empty() && self.tail.capacity() > 0 {
            self.tail = VecDeque::new(); // an idle connection holds no buffer
        }
        let drained = self.full && self.bytes <= bytes_max / 4;
        self.full &= !drained;
        drained
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(outbox: &Outbox) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); 8];
        let used = outbox.slices(&mut slices);
        slices[..used].iter().flat_map(|s| s.to_vec()).collect()
    }

    #[test]
    fn partial_writes_continue_where_they_stopped() {
        let mut outbox = Outbox::default();
        for frame in ["abc", "", "defg"] {
            outbox.push(Bytes::from_static(frame.as_bytes()), 100);
        }
        let mut seen = Vec::new();
        while !outbox.is_empty() {
            let next = text(&outbox);
            seen.push(next[0]);
            outbox.advance(1, 100);
            assert_eq!(outbox.bytes(), next.len() - 1);
        }
        assert_eq!(seen, b"abcdefg");
        assert_eq!(outbox.tail.capacity(), 0, "an idle outbox holds memory");
    }

    #[test]
    fn full_and_drained_are_said_once_each() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.push(Bytes::from_static(b"12345678"), 8), Appended::Room);
        assert_eq!(outbox.push(Bytes::from_static(b"9"), 8), Appended::Full);
        assert_eq!(outbox.push(Bytes::from_static(b"0"), 8), Appended::Room);
        assert!(!outbox.advance(7, 8), "three bytes are over a quarter of eight");
        assert!(outbox.advance(1, 8));
        assert!(!outbox.advance(1, 8));
    }
}
