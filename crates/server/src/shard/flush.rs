//! Writing: once a turn, each dirty connection with one vectored write.
//!
//! The flusher is a task that runs when everything that was ready has had its turn, so that traffic that came together is
//! written together, while a lone message is not delayed. After a slice of writes it lets the runtime look for new input.

use super::{Connection, Fatal, Shared, Shell, wake};
use fanfare_hub::{ConnId, Input};
use socket2::SockRef;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::task::Poll;

/// Writes between two looks at what has come in: about a millisecond on loopback.
const SLICE: usize = 256;
/// Frames in one vectored write.
const FRAMES: usize = 32;
/// Writes to one connection in its turn; then the next has its own.
const WRITES: usize = 8;

/// Runs for the life of the shard: writes what is dirty, carries messages to other shards, goes on with the hub.
pub(super) async fn run(shell: Shared) {
    let _fatal = Fatal;
    loop {
        poll_fn(|cx| {
            let mut shell = shell.borrow_mut();
            if shell.dirty.is_empty() && shell.corked.is_empty() && !shell.again && !shell.links.waiting() {
                shell.flusher = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
        let more = {
            let mut this = shell.borrow_mut();
            this.links.send();
            this.write_corked(SLICE);
            let now = this.now();
            this.settle(now);
            this.flush_slice(&shell);
            if std::mem::take(&mut this.again) {
                this.act(now, Input::Continue);
            }
            this.again || !this.dirty.is_empty() || !this.corked.is_empty()
        };
        if more {
            tokio::task::yield_now().await; // goes on after the runtime has looked for input
        }
    }
}

impl Shell {
    fn flush_slice(&mut self, shared: &Shared) {
        let mut dirty = std::mem::take(&mut self.dirty);
        let slice = dirty.len().min(SLICE);
        for index in dirty.drain(..slice) {
            self.flush(shared, index);
        }
        // What became dirty meanwhile comes after what has waited longer.
        dirty.append(&mut self.dirty);
        self.dirty = dirty;
    }

    /// Writes what waits for a connection, as far as its socket takes it.
    fn flush(&mut self, shared: &Shared, index: u32) {
        let mark = self.config.limits.outbox_bytes_max;
        let slot = &mut self.conns[index as usize];
        let id = ConnId { index, generation: slot.generation };
        // Blocked: this place was dirty for a connection that is gone, and its successor has a waiter.
        let Some(conn) = slot.conn.as_mut().filter(|conn| !conn.blocked) else { return };
        conn.dirty = false;
        let (mut drained, mut wrote) = (false, false);
        let mut writes = 0;
        while !conn.outbox.is_empty() {
            if writes == WRITES {
                conn.dirty = true;
                self.dirty.push(index);
                break;
            }
            writes += 1;
            match conn.write() {
                Ok(count) => {
                    wrote = true;
                    drained |= conn.outbox.advance(count, mark);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    conn.blocked = true;
                    tokio::task::spawn_local(wait_writable(shared.clone(), id));
                    break;
                }
                Err(_) => {
                    let now = self.now();
                    if let Some(conn) = self.conn(id) {
                        wake(&mut conn.reader);
                    }
                    return self.lost(now, id, false);
                }
            }
        }
        let listens = conn.choked && wrote;
        if conn.choked && conn.outbox.bytes() <= mark {
            conn.choked = false;
            wake(&mut conn.reader);
        }
        let closing = conn.closing;
        let done = closing && conn.outbox.is_empty();
        if listens {
            // It is not read at the moment, so its taking what we write is the only sign of life that it can give.
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

impl Connection {
    /// Writes what the socket takes at once, past the runtime's bookkeeping: readiness is asked for only after a refusal.
    /// (Bench `fanout`, window 1: that bookkeeping is a cache miss and 4 % of the CPU of a delivery.)
    fn write(&self) -> io::Result<usize> {
        let socket = SockRef::from(self.socket.as_ref());
        let mut slices = [IoSlice::new(&[]); FRAMES];
        let written = match self.outbox.single() {
            Some(frame) => socket.send(frame), // cheaper than a vector of one
            None => {
                let used = self.outbox.slices(&mut slices);
                socket.send_vectored(&slices[..used])
            }
        };
        match written {
            // Asked again through the runtime, which so learns that the socket is full and wakes us when it is not.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let used = self.outbox.slices(&mut slices);
                self.socket.try_write_vectored(&slices[..used])
            }
            written => written,
        }
    }
}

/// Lives while a socket takes no more: a slow peer has a task of its own, the others do not wait for it.
async fn wait_writable(shared: Shared, id: ConnId) {
    let _fatal = Fatal;
    poll_fn(|cx| {
        let mut shell = shared.borrow_mut();
        let Some(conn) = shell.conn(id) else { return Poll::Ready(()) };
        conn.socket.as_ref().poll_write_ready(cx).map(|_| ()) // an error shows at the next write
    })
    .await;
    let mut shell = shared.borrow_mut();
    let Some(conn) = shell.conn(id) else { return };
    conn.blocked = false;
    shell.flush(&shared, id.index); // where the socket is full again, that starts the next of us
}
