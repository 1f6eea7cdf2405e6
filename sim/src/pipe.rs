//! One connection as the network has it: the server's outbox, bytes on the way, commands on the way, and what is broken.

use bytes::{Bytes, BytesMut};
use fanfare_hub::{ConnId, Outbox, Request};
use std::collections::VecDeque;
use std::io::IoSlice;

#[derive(Debug)]
pub(crate) struct Pipe {
    pub(crate) shard: usize,
    pub(crate) conn: ConnId,
    pub(crate) client: usize,
    pub(crate) outbox: Outbox,
    /// The server has it open.
    pub(crate) server_open: bool,
    /// The client has it open.
    pub(crate) client_open: bool,
    /// Nothing arrives on either side, and neither is told.
    pub(crate) half_open: bool,
    /// The client does not read.
    pub(crate) stalled: bool,
    /// The server does not read.
    pub(crate) held: bool,
    pub(crate) flushing: bool,
    /// The hub knows that the outbox is over its mark: what it has appended since.
    pub(crate) full: Option<SinceFull>,
    /// Bytes that the network holds for the client.
    pub(crate) in_flight: usize,
    pub(crate) down_last_ms: u64,
    pub(crate) up_last_ms: u64,
    pub(crate) up: VecDeque<(u64, Request)>,
    pub(crate) arrived: BytesMut,
    /// What a stalled client will read once it reads again.
    pub(crate) waiting: Vec<Bytes>,
    /// The largest frame appended so far: an outbox may overshoot by some of them.
    pub(crate) frame_max: usize,
}

impl Pipe {
    pub(crate) fn new(shard: usize, conn: ConnId, client: usize) -> Self {
        Pipe {
            shard,
            conn,
            client,
            outbox: Outbox::default(),
            server_open: true,
            client_open: true,
            half_open: false,
            stalled: false,
            held: false,
            flushing: false,
            full: None,
            in_flight: 0,
            down_last_ms: 0,
            up_last_ms: 0,
            up: VecDeque::new(),
            arrived: BytesMut::new(),
            waiting: Vec::new(),
            frame_max: 0,
        }
    }

    /// Takes up to `room` bytes off the outbox, across frames as a vectored write does.
    pub(crate) fn write(&mut self, room: usize, outbox_max: usize) -> (Bytes, bool) {
        let mut slices = [IoSlice::new(&[]); 16];
        let used = self.outbox.slices(&mut slices);
        let mut bytes = BytesMut::new();
        for slice in &slices[..used] {
            let take = slice.len().min(room - bytes.len());
            bytes.extend_from_slice(&slice[..take]);
        }
        let drained = self.outbox.advance(bytes.len(), outbox_max);
        (bytes.freeze(), drained)
    }

    /// The next command that has arrived, unless the server does not read.
    pub(crate) fn read(&mut self, now_ms: u64) -> Option<Request> {
        if self.held || !self.server_open || self.up.front().is_none_or(|(at_ms, _)| *at_ms > now_ms) {
            return None;
        }
        self.up.pop_front().map(|(_, request)| request)
    }
}

/// What was appended to an outbox that the hub knew to be full.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct SinceFull {
    /// Turns in which there were publications, and the last of them.
    pub(crate) turns: usize,
    pub(crate) last_turn: u64,
    pub(crate) answers: usize,
}
