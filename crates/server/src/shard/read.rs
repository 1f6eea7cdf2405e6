//! One connection's reader: bytes, messages, until an end.
//!
//! It reads into the shard's one buffer and decodes there, so an idle connection holds no buffer. It does not read
//! while its connection is *paused*, *choked* or *busy*, or the shard is *closing*. Bytes that it has already read wait
//! in `stash`, at most one buffer full.

use super::ends::{End, Loss};
use super::{Fatal, Shared, Shell, TURN_WORK};
use crate::framing::{Deframer, Received};
use crate::protocol::Breach;
use crate::transport::socket::ReadHalf;
use bytes::{Buf as _, BytesMut};
use fanfare_hub::{ConnId, Input, Now};
use fanfare_wire::websocket::deflate::Inflater;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, ReadBuf};

pub(super) struct Reader {
    pub(super) shell: Shared,
    /// Taken when the end begins.
    pub(super) half: Option<ReadHalf>,
    pub(super) id: ConnId,
    pub(super) deframer: Deframer,
    /// Bytes that were read and not decoded yet. A peer may be paused after each frame, so removing them from the front
    /// must not move the rest.
    pub(super) stash: BytesMut,
}

/// The close code of a message that is longer than its protocol takes (RFC 6455 §7.4.1).
const TOO_LARGE: u16 = 1009;

/// The result of a turn of reading.
enum ReadOutcome {
    /// There may be more to read: other tasks run first.
    More,
    /// The connection is closing, and its last bytes are on their way.
    Closing,
    /// The peer is gone.
    Gone(Loss),
}

/// The result of decoding: all bytes, or so many of them, because the connection is paused or the turn is over.
enum Looked {
    All,
    Part(usize),
    Closing,
}

/// Written by hand: an `async fn` would hold a second copy of it, and the memory for its end, for every connection.
impl Future for Reader {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let _fatal = Fatal;
        match std::task::ready!(self.turn(cx)) {
            ReadOutcome::More => {
                cx.waker().wake_by_ref(); // goes to the end of the queue
                return Poll::Pending;
            }
            ReadOutcome::Closing => {
                if let Some(half) = self.half.take() {
                    tokio::task::spawn_local(end(self.shell.clone(), half, self.id));
                }
            }
            ReadOutcome::Gone(loss) => {
                let mut shell = self.shell.borrow_mut();
                let now = shell.now();
                shell.lost(now, self.id, &End::Gone(loss), false);
            }
        }
        if self.half.is_some() {
            self.shell.borrow_mut().readers -= 1; // otherwise `end` still counts as a reader
        }
        Poll::Ready(())
    }
}

impl Reader {
    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<ReadOutcome> {
        let shared = self.shell.clone();
        let mut shell = shared.borrow_mut();
        let closing = shell.closing;
        let Some(conn) = shell.conn(self.id) else { return Poll::Ready(ReadOutcome::Closing) };
        if conn.closing {
            return Poll::Ready(ReadOutcome::Closing);
        }
        if conn.paused || conn.choked || conn.busy || closing {
            conn.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if shell.unread(self.id) {
            return Poll::Ready(ReadOutcome::More);
        }
        if !self.stash.is_empty() {
            let mut stash = std::mem::take(&mut self.stash);
            let now = shell.now();
            return match shell.look(now, self.id, &mut self.deframer, &mut stash) {
                Looked::All => Poll::Ready(ReadOutcome::More),
                Looked::Closing => Poll::Ready(ReadOutcome::Closing),
                Looked::Part(seen) => {
                    stash.advance(seen);
                    self.stash = stash;
                    Poll::Ready(ReadOutcome::More)
                }
            };
        }
        let mut buffer = std::mem::take(&mut shell.buffer);
        let turn = self.read(&mut shell, &mut buffer, cx);
        shell.buffer = buffer;
        turn
    }

    fn read(&mut self, shell: &mut Shell, buffer: &mut [u8], cx: &mut Context<'_>) -> Poll<ReadOutcome> {
        loop {
            let mut into = ReadBuf::new(buffer);
            let Some(half) = &mut self.half else { return Poll::Ready(ReadOutcome::Gone(Loss::Ended)) };
            match Pin::new(half).poll_read(cx, &mut into) {
                Poll::Pending => {
                    // The hub ends connections too: then it wakes the reader.
                    if let Some(conn) = shell.conn(self.id)
                        && conn.reader.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker()))
                    {
                        conn.reader = Some(cx.waker().clone());
                    }
                    return Poll::Pending;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(ReadOutcome::Gone(error.into())),
                Poll::Ready(Ok(())) if into.filled().is_empty() => return Poll::Ready(ReadOutcome::Gone(Loss::Ended)),
                Poll::Ready(Ok(())) => {}
            }
            let count = into.filled().len();
            if let Some(wire) = shell.conn(self.id).map(|conn| conn.wire) {
                shell.counters.wire(wire).bytes_in += count as u64;
            }
            let now = shell.now();
            match shell.look(now, self.id, &mut self.deframer, &mut buffer[..count]) {
                Looked::All if count == buffer.len() => return Poll::Ready(ReadOutcome::More),
                Looked::All => {}
                Looked::Closing => return Poll::Ready(ReadOutcome::Closing),
                Looked::Part(seen) => {
                    self.stash = BytesMut::from(&buffer[seen..count]);
                    return Poll::Ready(ReadOutcome::More);
                }
            }
        }
    }
}

/// The close is written or on its way: gives the peer time for its own close, and drops the bytes that still come.
async fn end(shell: Shared, mut half: ReadHalf, id: ConnId) {
    let _fatal = Fatal;
    let timeout = shell.borrow().config.close_timeout;
    let ended = async {
        poll_fn(|cx| {
            let mut buffer = [0; 1024];
            for _ in 0..64 {
                let mut into = ReadBuf::new(&mut buffer);
                match Pin::new(&mut half).poll_read(cx, &mut into) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Ready(Ok(())) if into.filled().is_empty() => return Poll::Ready(()),
                    Poll::Ready(Ok(())) => {}
                }
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        // The peer has ended its side and may still read: the flusher writes the rest and removes the connection.
        poll_fn(|cx| match shell.borrow_mut().conn(id) {
            Some(conn) => {
                conn.reader = Some(cx.waker().clone());
                Poll::Pending
            }
            None => Poll::Ready(()),
        })
        .await;
    };
    let went = tokio::time::timeout(timeout, ended).await.is_ok();
    if !went {
        half.forget_unsent(); // it does not answer, or does not read
    }
    let mut shell = shell.borrow_mut();
    shell.remove(id);
    shell.readers -= 1;
    shell.cut_off += usize::from(!went && shell.draining);
}

impl Shell {
    /// Decodes bytes of a connection, and gives each whole message to its conversation.
    fn look(&mut self, now: Now, id: ConnId, deframer: &mut Deframer, bytes: &mut [u8]) -> Looked {
        if !deframer.is_deflated() {
            return self.look_with(now, id, (deframer, None), bytes);
        }
        let wire = self.conn(id).map(|conn| conn.wire);
        let mut inflater = self.inflater.take().unwrap_or_default();
        let looked = self.look_with(now, id, (deframer, Some(&mut inflater)), bytes);
        if let Some(wire) = wire {
            self.counters.inflated(wire, inflater.take_totals());
        }
        self.inflater = Some(inflater);
        looked
    }

    /// A message is longer than its protocol takes.
    fn count_too_large(&mut self, id: ConnId) {
        let Some(wire) = self.conn(id).map(|conn| conn.wire) else { return };
        let protocol = &self.wire(wire).protocol;
        let is_usual = protocol.message_bytes_max(&self.config.limits) != self.config.limits.room_message_bytes_max;
        self.hub.limit_reached(if is_usual { "message_bytes_max" } else { "socketio.max_payload" });
    }

    fn look_with(
        &mut self,
        now: Now,
        id: ConnId,
        (deframer, mut inflater): (&mut Deframer, Option<&mut Inflater>),
        bytes: &mut [u8],
    ) -> Looked {
        let (len, begin) = (bytes.len(), self.work);
        let mut rest = bytes;
        self.act(now, Input::Alive(id));
        loop {
            let received = match deframer.next(&mut rest, inflater.as_deref_mut()) {
                Ok(Some(received)) => received,
                Ok(None) => return Looked::All,
                Err(broken) => {
                    if broken.code == TOO_LARGE {
                        self.count_too_large(id);
                    }
                    let last = (broken.code, &*broken.reason);
                    let end = End::Broken(Breach::Transport, broken.reason.clone().into());
                    self.goodbye(now, id, last, &end);
                    let finally = self.is_final(id, true);
                    self.act(now, Input::Closed { conn: id, finally });
                    return Looked::Closing;
                }
            };
            match received {
                Received::Message(message) => self.message(now, id, message),
                Received::Ping(payload) => self.pong(id, payload),
                Received::Pong => {}
                Received::End { answer, code, finally } => {
                    self.append(id, answer);
                    self.begin_closing(now, id, &End::Left(code));
                    let finally = self.is_final(id, finally);
                    self.act(now, Input::Closed { conn: id, finally });
                    return Looked::Closing;
                }
            }
            let is_spent = self.work - begin >= TURN_WORK;
            match self.conn(id) {
                None => return Looked::Closing,
                Some(conn) if conn.closing => return Looked::Closing,
                Some(conn) if conn.paused || conn.choked || conn.busy || conn.unread.is_some() || is_spent => {
                    return Looked::Part(len - rest.len());
                }
                Some(_) => {}
            }
        }
    }
}

/// True for errors of `accept` that concern one connection which is gone already.
pub(super) fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::shell;
    use super::*;
    use crate::framing::Framing;
    use crate::request::Peer;
    use crate::transport::socket::Socket;
    use fanfare_hub::WireId;
    use fanfare_wire::websocket::{Opcode, put_frame, put_frame_parts};
    use tokio::net::{TcpListener, TcpStream};

    const MASK: Option<[u8; 4]> = Some([0; 4]);

    fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        put_frame(&mut frame, opcode, payload, MASK);
        frame
    }

    fn part(fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        put_frame_parts(&mut frame, fin, false, opcode, payload, MASK);
        frame
    }

    /// A peer of an echo sends this again and again and does not read, and no answer is written. Returns the most bytes
    /// that are held for it, and how many of its bytes were decoded.
    fn flooded(first: &[u8], flood: &[u8], times: usize) -> (usize, usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let address = listener.local_addr().expect("bound");
            let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
            let (_, writer) = Socket::from(near.expect("a listener")).into_split();
            let (shared, _far) = (shell(), far.expect("a connection"));
            let mut shell = shared.borrow_mut();
            let now = shell.now();
            let id = shell.open(now, writer, Peer::Unknown, WireId(0), None);
            let mut deframer = Framing::WebSocket.deframer(64 << 10);
            let (mut held_bytes, mut seen_bytes) = (0, 0);
            assert!(matches!(shell.look(now, id, &mut deframer, &mut first.to_vec()), Looked::All));
            let read = flood.repeat((super::super::READ_BYTES / flood.len()).max(1));
            while seen_bytes < times * flood.len() {
                let looked = shell.look(now, id, &mut deframer, &mut read.clone());
                let outbox = &shell.conn(id).expect("it is open").outbox;
                held_bytes = held_bytes.max(outbox.memory_bytes() + deframer.buffered_bytes());
                let waiting_bytes = outbox.bytes();
                assert_eq!(shell.counters.outbox_bytes, waiting_bytes, "what is replaced is counted off");
                match looked {
                    Looked::All => seen_bytes += read.len(),
                    Looked::Part(seen) => return (held_bytes, seen_bytes + seen),
                    Looked::Closing => panic!("it was closed"),
                }
            }
            (held_bytes, seen_bytes)
        })
    }

    #[test]
    fn the_answers_to_a_flood_of_a_peer_that_does_not_read_are_bounded() {
        const HELD_MAX: usize = (1 << 20) + (64 << 10) + 512;
        let empty = || frame(Opcode::Text, b"");
        let fragmented =
            [part(false, Opcode::Text, b"a"), frame(Opcode::Ping, b"p"), part(true, Opcode::Continuation, b"b")];
        // (what, before it, the flood, how often, and whether all of it may be read)
        let rows = [
            ("pings", vec![], frame(Opcode::Ping, b""), 589_000, true),
            ("long pings", vec![], frame(Opcode::Ping, &[b'x'; 125]), 100_000, true),
            ("pongs", vec![], frame(Opcode::Pong, b"x"), 589_000, true),
            ("pings within a message", part(false, Opcode::Binary, b"half"), frame(Opcode::Ping, b"x"), 589_000, true),
            ("pings behind an echo", frame(Opcode::Text, b"hi"), frame(Opcode::Ping, b"x"), 589_000, true),
            ("empty messages", vec![], empty(), 589_000, false),
            ("pings between fragments", vec![], fragmented.concat(), 589_000, false),
        ];
        for (name, first, flood, times, all) in rows {
            let (held_bytes, seen_bytes) = flooded(&first, &flood, times);
            if all {
                assert!(held_bytes < 4096, "{name}: {held_bytes} bytes are held, and a pong or two are needed");
                assert!(seen_bytes >= times * flood.len(), "{name}: only {seen_bytes} bytes were read");
            } else {
                assert!(held_bytes <= HELD_MAX, "{name}: {held_bytes} bytes are held");
                assert!(seen_bytes < times * flood.len(), "{name}: all of it was read");
            }
        }
    }
}
