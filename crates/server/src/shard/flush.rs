//! Writing: once a turn, each dirty connection with one vectored write.
//!
//! The flusher is a task that runs after all other ready tasks. So messages that arrived together are written together,
//! and a single message is not delayed. After a [`Slice`] of writes it lets the runtime check for new input.
//!
//! A connection with many waiting bytes does not delay one with few: connections with more than [`LIGHT_BYTES`] are in
//! a queue of their own, and get the part of a slice that the light ones leave, at least a quarter. So an answer is
//! written within a few slices for any number of slow members that drain at the same time, and no connection is
//! starved.

use super::ends::{End, Loss};
use super::{Fatal, Shared, Shell, Sink, wake};
use crate::transport::taking::Taking;
use fanfare_hub::{ConnId, Input};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::os::fd::AsFd;
use std::task::Poll;
use tokio::time::Instant;

/// The most that is written between two checks for input: about a millisecond on loopback, spent in system calls or in
/// copying. (Counting writes alone, 500 slow members of a room with 250 KB each made one slice 100 ms of CPU, and a
/// newcomer waited for five of them.)
pub(super) struct Slice {
    writes: usize,
    bytes: usize,
}

impl Slice {
    const WRITES: usize = 256;
    const BYTES: usize = 1 << 20;

    pub(super) fn new() -> Self {
        Slice { writes: Self::WRITES, bytes: Self::BYTES }
    }

    /// Counts one write. It may exceed the rest of the slice, because writes are not cut.
    pub(super) fn spend(&mut self, bytes: usize) {
        self.writes = self.writes.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// How many writes it has counted.
    #[cfg(test)]
    pub(super) fn writes_spent(&self) -> usize {
        Self::WRITES - self.writes
    }

    pub(super) fn is_spent(&self) -> bool {
        self.writes == 0 || self.bytes == 0
    }

    /// Reserves a quarter of a slice.
    fn at_least_a_quarter(&mut self) {
        self.writes = self.writes.max(Self::WRITES / 4);
        self.bytes = self.bytes.max(Self::BYTES / 4);
    }
}

/// Connections with dirty outboxes, by their index.
#[derive(Default)]
pub(super) struct Dirty {
    /// In the order in which they became dirty.
    new: VecDeque<u32>,
    /// Found to be heavy when they had their turn.
    heavy: VecDeque<u32>,
}

/// An outbox with more than this is heavy: enough for several answers and messages, and less than a page.
const LIGHT_BYTES: usize = 16 << 10;

impl Dirty {
    pub(super) fn push(&mut self, index: u32) {
        self.new.push_back(index);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.new.is_empty() && self.heavy.is_empty()
    }
}

/// Writes to one connection in its turn; then the next has its own.
const WRITES: usize = 8;

/// Runs for the life of the shard: writes what is dirty, carries messages to other shards, goes on with the hub.
pub(super) async fn run(shell: Shared) {
    let _fatal = Fatal;
    loop {
        poll_fn(|cx| {
            let mut shell = shell.borrow_mut();
            if shell.dirty.is_empty() && shell.corks.is_empty() && !shell.again && !shell.links.waiting() {
                shell.flusher = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
        let more = {
            let mut this = shell.borrow_mut();
            this.links.send();
            this.write_corked(&mut Slice::new());
            let now = this.now();
            this.settle(now);
            // its own: a cork that is never empty does not starve the dirty
            this.flush_slice(&shell, &mut Slice::new());
            if std::mem::take(&mut this.again) {
                this.act(now, Input::Continue);
            }
            if this.counters.is_delivering() {
                let all = this.dirty.is_empty() && this.corks.is_empty();
                let (now, at) = this.clock.now_at();
                this.counters.flushed(all, now, at);
            }
            this.again || !this.dirty.is_empty() || !this.corks.is_empty()
        };
        if more {
            tokio::task::yield_now().await; // goes on after the runtime has looked for input
        }
    }
}

impl Shell {
    pub(super) fn flush_slice(&mut self, shared: &Shared, slice: &mut Slice) {
        // A connection that becomes dirty meanwhile comes after those that have waited longer, in the next slice.
        for _ in 0..self.dirty.new.len() {
            if slice.is_spent() {
                break;
            }
            let Some(index) = self.dirty.new.pop_front() else { break };
            match &self.conns[index as usize].conn {
                Some(conn) if conn.outbox.bytes() > LIGHT_BYTES => self.dirty.heavy.push_back(index),
                _ => self.flush(shared, index, slice),
            }
        }
        slice.at_least_a_quarter();
        for _ in 0..self.dirty.heavy.len() {
            if slice.is_spent() {
                break;
            }
            let Some(index) = self.dirty.heavy.pop_front() else { break };
            self.flush(shared, index, slice);
        }
    }

    /// Writes what waits for a connection, as far as its socket takes it and the slice allows.
    fn flush(&mut self, shared: &Shared, index: u32, slice: &mut Slice) {
        let mark = self.config.limits.outbox_bytes_max;
        let slot = &mut self.conns[index as usize];
        let id = ConnId { index, generation: slot.generation };
        // Blocked: this place was dirty for a connection that is gone, and its successor has a waiter.
        let Some(conn) = slot.conn.as_mut().filter(|conn| !conn.blocked) else { return };
        conn.dirty = false;
        let reading_is_life = conn.reading_is_life();
        let (mut drained, mut wrote) = (false, false);
        let mut writes = 0;
        while !conn.outbox.is_empty() || conn.sink.is_pending() {
            if writes == WRITES || slice.is_spent() {
                conn.dirty = true;
                self.dirty.push(index);
                break;
            }
            let Sink::Socket(socket) = &mut conn.sink else { return }; // as above, and what is for that waits
            writes += 1;
            let written = socket.write(&conn.outbox);
            slice.spend(*written.as_ref().unwrap_or(&0));
            match written {
                Ok(count) => {
                    wrote = true;
                    self.counters.outbox_bytes -= count;
                    self.counters.wires[usize::from(conn.wire.0)].bytes_out += count as u64;
                    drained |= conn.outbox.advance(count, mark);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    conn.blocked = true;
                    tokio::task::spawn_local(wait_writable(shared.clone(), id));
                    break;
                }
                Err(error) => {
                    let now = self.now();
                    if let Some(conn) = self.conn(id) {
                        wake(&mut conn.reader);
                    }
                    return self.lost(now, id, &End::Gone(error.into()), false);
                }
            }
        }
        if conn.choked && conn.outbox.memory_bytes() <= mark {
            conn.choked = false;
            wake(&mut conn.reader);
        }
        let closing = conn.closing;
        let done = closing && conn.outbox.is_empty() && !conn.sink.is_pending();
        if reading_is_life && wrote {
            let now = self.now();
            self.act(now, Input::Alive(id));
        }
        if drained && !closing {
            let now = self.now();
            self.act(now, Input::Drained(id));
        }
        if done {
            self.remove(id); // ends our half of the connection; the reader waits for the other
        }
    }
}

/// Runs while a socket is full: a slow peer has a task of its own, so other connections do not wait for it. The task
/// does not write: a thousand slow peers that read at the same moment are written to in slices, as all others.
///
/// A peer that accepts no byte for `write_timeout` is disconnected, even while it sends. A slow peer that accepts some
/// bytes stays, and they are a sign of life where nobody pings it.
async fn wait_writable(shared: Shared, id: ConnId) {
    let _fatal = Fatal;
    let mut taking = {
        let mut shell = shared.borrow_mut();
        let write_timeout = shell.config.write_timeout;
        let Some(Sink::Socket(socket)) = shell.conn(id).map(|conn| &conn.sink) else { return };
        Taking::new(socket.as_fd(), write_timeout)
    };
    let is_stalled = loop {
        let writable = poll_fn(|cx| {
            let mut shell = shared.borrow_mut();
            let Some(Sink::Socket(socket)) = shell.conn(id).map(|conn| &conn.sink) else { return Poll::Ready(()) };
            socket.poll_write_ready(cx).map(|_| ()) // an error shows at the next write
        });
        if tokio::time::timeout_at(taking.look_at(Instant::now()), writable).await.is_ok() {
            break false;
        }
        let mut shell = shared.borrow_mut();
        let Some(Sink::Socket(socket)) = shell.conn(id).map(|conn| &conn.sink) else { return };
        let before = taking.taken();
        if taking.is_over(socket.as_fd()) {
            break true;
        }
        if taking.taken() > before && shell.conn(id).is_some_and(|conn| conn.reading_is_life()) {
            let now = shell.now();
            shell.act(now, Input::Alive(id));
        }
    };
    let mut shell = shared.borrow_mut();
    let Some(conn) = shell.conn(id) else { return };
    if is_stalled {
        if let Sink::Socket(socket) = &mut conn.sink {
            socket.abort(); // the reader finds the end at once
        }
        wake(&mut conn.reader);
        let now = shell.now();
        return shell.lost(now, id, &End::Gone(Loss::Stalled), false);
    }
    conn.blocked = false;
    if !conn.dirty {
        conn.dirty = true;
        shell.dirty.push(id.index);
    }
    wake(&mut shell.flusher); // where the socket is full again, that starts the next of us
}

#[cfg(test)]
mod tests {
    use super::super::tests::{shell, shell_of};
    use super::super::{Links, shard_id};
    use super::*;
    use crate::clock::Clock;
    use crate::config::Config;
    use crate::protocol::native::Native;
    use crate::request::Peer;
    use crate::transport::socket::Socket;
    use bytes::Bytes;
    use fanfare_hub::{Limits, WireId};
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpSocket, TcpStream};

    /// Appends one frame of `frame_bytes` for each of `count` connections. Returns how many still wait after each
    /// slice.
    fn waiting_after_each_slice(count: usize, frame_bytes: usize) -> Vec<usize> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let address = listener.local_addr().expect("bound");
            let (shared, mut peers) = (shell(), Vec::new());
            let frame = Bytes::from(vec![b'x'; frame_bytes]);
            for _ in 0..count {
                let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
                let (_, writer) = Socket::from(near.expect("a listener")).into_split();
                peers.push(far.expect("a connection"));
                let mut shell = shared.borrow_mut();
                let now = shell.now();
                let id = shell.open(now, writer, Peer::Unknown, WireId(0), None);
                shell.append(id, frame.clone());
            }
            let (mut shell, mut waiting) = (shared.borrow_mut(), Vec::new());
            while !shell.dirty.is_empty() {
                shell.flush_slice(&shared, &mut Slice::new());
                waiting.push(shell.dirty.new.len() + shell.dirty.heavy.len());
            }
            waiting
        })
    }

    #[test]
    fn a_short_outbox_is_written_in_the_first_slice_and_a_long_one_in_every_slice() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let address = listener.local_addr().expect("bound");
            let (shared, mut peers) = (shell(), Vec::new());
            let open = async || {
                let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
                let (_, writer) = Socket::from(near.expect("a listener")).into_split();
                let mut shell = shared.borrow_mut();
                let now = shell.now();
                (shell.open(now, writer, Peer::Unknown, WireId(0), None), far.expect("a connection"))
            };
            // Many with a page each, told as messages; then somebody who is answered.
            let (message, answer) = (Bytes::from(vec![b'x'; 4 << 10]), Bytes::from_static(b"answer"));
            for _ in 0..60 {
                let (slow, peer) = open().await;
                peers.push(peer);
                (0..40).for_each(|_| shared.borrow_mut().append(slow, message.clone()));
            }
            let (newcomer, _peer) = open().await;
            let mut busy = Vec::new();
            for _ in 0..Slice::WRITES + 10 {
                let (id, peer) = open().await;
                peers.push(peer);
                busy.push(id);
            }
            let mut shell = shared.borrow_mut();
            let heavy_bytes = |shell: &mut Shell| -> usize {
                let conns = shell.conns.iter().filter_map(|slot| slot.conn.as_ref());
                conns.map(|conn| conn.outbox.bytes()).sum()
            };
            for slice in 0..3 {
                shell.append(newcomer, answer.clone());
                let before = heavy_bytes(&mut shell);
                shell.flush_slice(&shared, &mut Slice::new());
                let waits = shell.conn(newcomer).is_none_or(|conn| !conn.outbox.is_empty());
                assert!(!waits, "slice {slice}: the newcomer waits for the slow ones");
                let written = before - heavy_bytes(&mut shell);
                assert!(written > Slice::BYTES / 4, "slice {slice}: the slow ones get {written} bytes");
            }
            // Light connections that never end take no more than their share.
            busy.iter().for_each(|&id| shell.append(id, answer.clone()));
            let before = heavy_bytes(&mut shell);
            shell.flush_slice(&shared, &mut Slice::new());
            let written = before - heavy_bytes(&mut shell) - Slice::WRITES * answer.len();
            assert!(written >= Slice::BYTES / 4, "beside many light ones the slow ones get {written} bytes");
        });
    }

    /// A peer that the kernel buffers little for, so that each round of its reading opens its window; and our end.
    #[cfg(target_os = "linux")]
    async fn connect() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let peer = TcpSocket::new_v4().expect("a socket");
        peer.set_recv_buffer_size(32 << 10).expect("a socket");
        let (far, near) = tokio::join!(peer.connect(address), listener.accept());
        (far.expect("a listener"), near.expect("a connection").0)
    }

    /// The time is virtual: the test advances it, or the runtime does when all tasks wait.
    #[test]
    #[cfg(target_os = "linux")]
    fn a_peer_that_reads_slowly_stays_and_one_that_reads_nothing_goes() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        tokio::task::LocalSet::new().block_on(&runtime.expect("a runtime"), async {
            let (mut far, near) = connect().await;
            let (_reader, writer) = Socket::from(near).into_split();
            let shared = shell();
            let write_timeout = shared.borrow().config.write_timeout;
            let id = {
                let mut shell = shared.borrow_mut();
                let now = shell.now();
                let id = shell.open(now, writer, Peer::Unknown, WireId(0), None);
                // More than the kernel takes.
                (0..16).for_each(|_| shell.append(id, Bytes::from(vec![b'x'; 1 << 20])));
                id
            };
            let flush = || {
                let mut shell = shared.borrow_mut();
                while !shell.dirty.is_empty() {
                    shell.flush_slice(&shared, &mut Slice::new());
                }
            };
            flush();
            for round in 0..12 {
                tokio::time::advance(write_timeout * 3 / 4).await;
                let mut some = [0; 64 << 10];
                far.read_exact(&mut some).await.expect("the connection is there");
                flush();
                assert!(shared.borrow_mut().conn(id).is_some(), "round {round}");
            }
            let stays = tokio::time::timeout(write_timeout * 2, async {
                while shared.borrow_mut().conn(id).is_some() {
                    flush();
                    tokio::time::sleep(write_timeout / 8).await;
                }
            });
            assert!(stays.await.is_ok(), "it read nothing for {:?}", write_timeout * 2);
        });
    }

    /// A peer that has a backlog gets no ping, so it has nothing to answer.
    #[test]
    #[cfg(target_os = "linux")]
    fn a_peer_that_reads_a_backlog_slowly_is_not_taken_for_silent() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        tokio::task::LocalSet::new().block_on(&runtime.expect("a runtime"), async {
            let (mut far, near) = connect().await;
            let (_reader, writer) = Socket::from(near).into_split();
            // The outbox is full, but not so much that the peer is not read.
            let limits = Limits { outbox_bytes_max: 4 << 20, connect_timeout_ms: 100_000_000, ..Limits::default() };
            let config = Config { limits, write_timeout: Duration::from_secs(3600), ..Config::default() };
            let interval_ms = config.limits.heartbeat_ms;
            let shared = shell_of(config, Arc::new(Native::default()), 1, Links::new(shard_id(0), Vec::new()));
            let id = {
                let mut shell = shared.borrow_mut();
                shell.clock = Clock::manual();
                let now = shell.now();
                let id = shell.open(now, writer, Peer::Unknown, WireId(0), None);
                (0..8).for_each(|_| shell.append(id, Bytes::from(vec![b'x'; 1 << 20])));
                shell.settle(now);
                assert!(shell.conn(id).is_some_and(|conn| conn.outbox.is_full() && !conn.choked));
                id
            };
            let flush = || {
                let mut shell = shared.borrow_mut();
                while !shell.dirty.is_empty() {
                    shell.flush_slice(&shared, &mut Slice::new());
                }
            };
            flush();
            let interval = async || {
                flush();
                tokio::time::advance(Duration::from_secs(3600) / 4).await;
                tokio::task::yield_now().await; // the task that waits for the socket looks
                let mut shell = shared.borrow_mut();
                let now_ms = shell.now().mono_ms + interval_ms;
                shell.clock.set(now_ms);
                let now = shell.now();
                shell.act(now, Input::Wake);
                shell.conn(id).is_some_and(|conn| !conn.closing)
            };
            for round in 0..12 {
                let mut some = [0; 64 << 10];
                far.read_exact(&mut some).await.expect("the connection is there");
                assert!(interval().await, "round {round}");
            }
            assert!([interval().await, interval().await, interval().await].contains(&false), "it reads nothing more");
        });
    }

    #[test]
    fn a_slice_ends_by_its_writes_or_by_its_bytes() {
        // A socket takes 64 KiB at once, so sixteen of them are the mebibyte of a slice.
        let table = [("small frames", 300, 100, vec![44, 0]), ("large frames", 40, 64 << 10, vec![24, 8, 0])];
        for (name, count, frame_bytes, expected) in table {
            assert_eq!(waiting_after_each_slice(count, frame_bytes), expected, "{name}");
        }
    }
}
