//! The frames that wait to be written to one connection: shared, in order, with their bytes counted.
//!
//! The hub learns when an outbox is over its mark ([`Appended::Full`]) and when it has drained; in between it
//! appends nothing but answers, and the receiver pulls. So an outbox overshoots by at most one delivery, page or
//! answer. The same type serves the server (one vectored write a turn) and the simulation.
//!
//! Two counts: [`Outbox::bytes`] are written to the peer, [`Outbox::memory_bytes`] is the memory that holds them. The
//! second bounds answers, since half a million frames of two bytes are one mebibyte by the first.

use bytes::{Buf, Bytes, BytesMut};
use std::collections::VecDeque;
use std::io::IoSlice;

/// Frames that wait for one connection.
#[derive(Debug, Default)]
pub struct Outbox {
    /// The first frame; empty when nothing waits. Inline: most outboxes never hold a second one, and an idle one must
    /// cost nothing (bench `fanout`: an allocation for each delivery is a tenth of what we add to the system call).
    head: Bytes,
    /// The frames behind it; boxed, since almost all connections are idle.
    rest: Option<Box<Rest>>,
    bytes: usize,
    /// True from `Full` until drained.
    full: bool,
}

/// The frames behind the first: the pongs, then the others.
#[derive(Debug, Default)]
struct Rest {
    /// One after the other; empty where there is none.
    pongs: Bytes,
    tail: VecDeque<Bytes>,
}

impl Rest {
    fn next(&mut self) -> Option<Bytes> {
        if self.pongs.is_empty() { self.tail.pop_front() } else { Some(std::mem::take(&mut self.pongs)) }
    }

    fn is_empty(&self) -> bool {
        self.pongs.is_empty() && self.tail.is_empty()
    }

    fn frames(&self) -> impl Iterator<Item = &Bytes> {
        std::iter::once(&self.pongs).filter(|pongs| !pongs.is_empty()).chain(&self.tail)
    }
}

/// The memory of a frame beside its bytes: its place in a queue that grows by doubling, and its allocation.
const FRAME_BYTES: usize = 2 * size_of::<Bytes>() + 16;

/// Pongs that wait, in bytes: 16 of the longest.
const PONGS_BYTES_MAX: usize = 2 << 10;

/// The effect of an append on the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// There is room for more.
    Room,
    /// This one went over the mark: the hub must get `Input::Full`. Returned once until the outbox has drained.
    Full,
}

impl Outbox {
    /// Appends a frame. `bytes_max` is the mark of [`Appended::Full`].
    pub fn push(&mut self, frame: Bytes, bytes_max: usize) -> Appended {
        self.bytes += frame.len();
        if self.head.is_empty() {
            self.head = frame;
        } else if !frame.is_empty() {
            self.rest().tail.push_back(frame);
        }
        if self.bytes > bytes_max && !self.full {
            self.full = true;
            return Appended::Full;
        }
        Appended::Room
    }

    /// Puts the answer to a ping behind the first frame, which may be partly written, and behind earlier answers. Where
    /// these take 2 KiB already, it replaces them: RFC 6455 §5.5.3 asks for an answer to the newest ping
    /// only, so pings of a peer that does not read make nothing grow.
    pub fn pong(&mut self, frame: Bytes) {
        self.bytes += frame.len();
        if self.head.is_empty() {
            self.head = frame;
            return;
        }
        let pongs = &mut self.rest().pongs;
        let waiting = std::mem::take(pongs);
        let has_room = waiting.len() + frame.len() <= PONGS_BYTES_MAX;
        if waiting.is_empty() || !has_room {
            *pongs = frame;
            self.bytes -= waiting.len();
            return;
        }
        // Nobody else has these bytes, so nothing is copied but the new ones.
        let mut all = waiting.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        all.extend_from_slice(&frame);
        *pongs = all.freeze();
    }

    fn rest(&mut self) -> &mut Rest {
        self.rest.get_or_insert_default()
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The memory that holds them: the bytes, and an overhead for each frame.
    pub fn memory_bytes(&self) -> usize {
        let rest = self.rest.as_ref().map_or(0, |rest| usize::from(!rest.pongs.is_empty()) + rest.tail.len());
        let frames = usize::from(!self.head.is_empty()) + rest;
        self.bytes + frames * FRAME_BYTES
    }

    /// True from [`Appended::Full`] until it has drained.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// True when nothing waits.
    pub fn is_empty(&self) -> bool {
        self.head.is_empty()
    }

    /// The first frame, where it is the only one.
    pub fn single(&self) -> Option<&[u8]> {
        (self.rest.is_none() && !self.head.is_empty()).then_some(&self.head)
    }

    /// Everything that waits, in order.
    pub fn frames(&self) -> impl Iterator<Item = &Bytes> {
        let head = std::iter::once(&self.head).filter(|head| !head.is_empty());
        head.chain(self.rest.iter().flat_map(|rest| rest.frames()))
    }

    /// Fills `slices` with the next bytes to write and returns how many slices it used.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut used = 0;
        for (slot, frame) in slices.iter_mut().zip(self.frames()) {
            *slot = IoSlice::new(frame);
            used += 1;
        }
        used
    }

    /// Takes `count` bytes off the front: they were written. True when this drained an outbox that had been full
    /// below a quarter of `bytes_max`: the hub must get `Input::Drained`.
    pub fn advance(&mut self, mut count: usize, bytes_max: usize) -> bool {
        debug_assert!(count <= self.bytes, "more was written than waited");
        self.bytes -= count;
        while count >= self.head.len() && count > 0 {
            count -= self.head.len();
            self.head = self.rest.as_mut().and_then(|rest| rest.next()).unwrap_or_default();
        }
        self.head.advance(count);
        self.rest.take_if(|rest| rest.is_empty()); // an idle connection holds no buffer
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
        assert!(outbox.rest.is_none(), "an idle outbox holds memory");
        assert_eq!(size_of::<Outbox>(), 56, "and is small, since every connection has one");
    }

    #[test]
    fn pongs_that_wait_are_bounded_and_stand_between_whole_frames() {
        let mut outbox = Outbox::default();
        let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
        outbox.pong(bytes("p1"));
        outbox.pong(bytes("p2"));
        assert_eq!(text(&outbox), b"p1p2", "the first may be under way");
        outbox.pong(bytes("pong3"));
        assert_eq!((text(&outbox), outbox.bytes()), (b"p1p2pong3".to_vec(), 9), "each ping of a burst is answered");
        outbox.advance(2, 100);
        outbox.advance(7, 100);
        outbox.pong(bytes("p1"));
        outbox.push(bytes("abc"), 100);
        outbox.push(bytes("de"), 100);
        assert_eq!(outbox.single(), None);
        outbox.advance(1, 100);
        outbox.pong(bytes("p4"));
        assert_eq!((text(&outbox), outbox.bytes()), (b"1p4abcde".to_vec(), 8));
        outbox.advance(4, 100);
        outbox.pong(bytes("p5"));
        assert_eq!((text(&outbox), outbox.bytes()), (b"bcp5de".to_vec(), 6), "not within a frame");
        outbox.advance(6, 100);
        assert!(outbox.is_empty() && outbox.rest.is_none());
        for n in 0..100_000 {
            outbox.pong(Bytes::from(vec![b'p'; 127]));
            assert!(outbox.memory_bytes() <= PONGS_BYTES_MAX + 127 + 2 * FRAME_BYTES);
            assert!(n < 17 || outbox.bytes() >= 2 * 127, "the newest is there");
        }
    }

    #[test]
    fn frames_cost_more_than_their_bytes() {
        let mut outbox = Outbox::default();
        for n in 1..=1000 {
            outbox.push(Bytes::from(vec![0; 2]), usize::MAX);
            let places = outbox.rest.as_ref().map_or(0, |rest| rest.tail.capacity());
            assert!(outbox.memory_bytes() >= outbox.bytes() + places * size_of::<Bytes>() / 2);
            assert_eq!(outbox.memory_bytes(), n * (2 + FRAME_BYTES));
        }
        outbox.advance(2000, usize::MAX);
        assert_eq!(outbox.memory_bytes(), 0);
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
