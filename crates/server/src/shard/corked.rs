//! Consecutive pushes to the same receivers become one sequence of frames, made once and shared by all of them.
//!
//! What came together is fanned out together: eight publications that one read brought cost a receiver one plain write.
//! Where a receiver has nothing else waiting, that write is straight from here and its outbox is never touched. The cork is
//! pulled (what is left goes to the outboxes) before anything else is appended to any of them, so that no connection sees
//! another order than the hub's.

use super::Shell;
use super::flush::Slice;
use bytes::Bytes;
use fanfare_hub::ConnId;
use fanfare_wire::websocket::{self, Opcode};

/// Beyond this a cork is pulled: what is copied once more is small, and outboxes overshoot their mark by this at most.
const BYTES_MAX: usize = 16 << 10;
/// Payloads above this go their own way.
const PAYLOAD_BYTES_MAX: usize = 4 << 10;

#[derive(Default)]
pub(super) struct Corked {
    receivers: Vec<ConnId>,
    frames: Vec<u8>,
    /// Once writing has begun, nothing is added: the frames as they are shared, and how many receivers have them.
    writing: Option<(Bytes, usize)>,
}

impl Corked {
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    fn takes(&self, receivers: &[ConnId]) -> bool {
        self.writing.is_none() && self.frames.len() <= BYTES_MAX && self.receivers == receivers
    }

    /// The shared frames, and how many receivers have them.
    fn begin(&mut self) -> (Bytes, usize) {
        self.writing.take().unwrap_or_else(|| (Bytes::copy_from_slice(&self.frames), 0))
    }

    fn clear(&mut self) {
        self.receivers.clear();
        self.frames.clear();
        self.writing = None;
    }
}

impl Shell {
    /// Sends a frame to all of `receivers`, after whatever was sent to them before.
    pub(super) fn push(&mut self, receivers: &[ConnId], opcode: Opcode, payload: &[u8]) {
        if payload.len() > PAYLOAD_BYTES_MAX {
            let frame = websocket::frame(opcode, payload);
            return receivers.iter().for_each(|&id| self.append(id, frame.clone()));
        }
        if !self.corked.takes(receivers) {
            self.uncork();
        }
        if self.corked.is_empty() {
            self.corked.clear();
            self.corked.receivers.extend_from_slice(receivers);
            super::wake(&mut self.flusher);
        }
        websocket::put_frame(&mut self.corked.frames, opcode, payload, None);
    }

    /// Moves what is corked, and not written yet, to the outboxes.
    pub(super) fn uncork(&mut self) {
        if self.corked.is_empty() {
            return;
        }
        let mut corked = std::mem::take(&mut self.corked);
        let (frames, from) = corked.begin();
        for &id in &corked.receivers[from..] {
            self.append_uncorked(id, frames.clone());
        }
        corked.clear();
        self.corked = corked;
    }

    /// Writes what is corked to as many receivers as the slice allows.
    pub(super) fn write_corked(&mut self, slice: &mut Slice) {
        if self.corked.is_empty() {
            return;
        }
        let mut corked = std::mem::take(&mut self.corked);
        let (frames, from) = corked.begin();
        let mut to = from;
        while to < corked.receivers.len() && !slice.is_spent() {
            self.write_through(corked.receivers[to], &frames);
            slice.spend(frames.len());
            to += 1;
        }
        if to < corked.receivers.len() {
            corked.writing = Some((frames, to));
        } else {
            corked.clear();
        }
        self.corked = corked;
    }

    /// Writes to a connection for which nothing waits; what its socket does not take, waits from now on.
    fn write_through(&mut self, id: ConnId, frames: &Bytes) {
        let Some(conn) = self.conn(id).filter(|conn| !conn.closing) else { return };
        if conn.blocked || !conn.outbox.is_empty() {
            return self.append_uncorked(id, frames.clone());
        }
        match conn.socket.socket().send(frames) {
            Ok(written) if written == frames.len() => {}
            Ok(written) => self.append_uncorked(id, frames.slice(written..)),
            // Full, or gone: the ordinary way finds out which, when the cork is off.
            Err(_) => self.append_uncorked(id, frames.clone()),
        }
    }
}
