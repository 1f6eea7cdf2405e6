//! Consecutive pushes to the same receivers become one sequence of frames, made once and shared by all of them.
//!
//! Publications that arrive together are written together: eight publications from one read cost a receiver one plain
//! write. If nothing else waits for a receiver, that write is directly from here and its outbox is not used.
//!
//! No connection sees another order than the hub's. Another message for a receiver (a publisher's answer, say) sets it
//! apart: its outbox gets the corked frames so far, then that message, and later the rest. If many are set apart, or
//! the receivers change, the cork is pulled: the remaining frames go to the outboxes.

use super::flush::Slice;
use super::{Shell, Sink};
use crate::framing::{Form, Framing, Payload};
use bytes::Bytes;
use fanfare_hub::{ConnId, WireId};

/// Beyond this a cork is pulled: so the extra copy is small, and outboxes exceed their limit by this at most.
const BYTES_MAX: usize = 16 << 10;
/// Larger payloads go to each outbox as shared bytes.
const PAYLOAD_BYTES_MAX: usize = 4 << 10;

/// Searches among the receivers before the cork is pulled: together they cost less than pulling it.
const LOOKS_MAX: usize = 16;

#[derive(Default)]
pub(super) struct Corked {
    receivers: Vec<ConnId>,
    frames: Vec<u8>,
    /// The receivers that got a part of the frames before the others.
    apart: Vec<Apart>,
    looks: usize,
    /// Once writing has begun, nothing is added.
    writing: Option<Writing>,
}

/// A receiver that got a part of the frames before the others.
struct Apart {
    /// Its index among the receivers.
    index: usize,
    /// How many bytes it has already.
    bytes: usize,
}

/// Corked frames that are being written.
struct Writing {
    /// As they are shared.
    frames: Bytes,
    /// How many receivers have them already.
    done: usize,
}

impl Corked {
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    fn takes(&self, receivers: &[ConnId]) -> bool {
        self.writing.is_none() && self.frames.len() <= BYTES_MAX && self.receivers == receivers
    }

    fn begin(&mut self) -> Writing {
        self.writing.take().unwrap_or_else(|| Writing { frames: Bytes::copy_from_slice(&self.frames), done: 0 })
    }

    /// How many bytes the receiver with this index has already.
    fn has(&self, index: usize) -> usize {
        self.apart.iter().find(|apart| apart.index == index).map_or(0, |apart| apart.bytes)
    }

    /// Takes the frames that must be appended to `id` before anything else; `None` if the cork must be pulled instead.
    fn set_apart(&mut self, id: ConnId) -> Option<Bytes> {
        if self.is_empty() {
            return Some(Bytes::new());
        }
        if self.looks == LOOKS_MAX {
            return None;
        }
        self.looks += 1;
        let done = self.writing.as_ref().map_or(0, |writing| writing.done);
        let Some(index) = self.receivers[done..].iter().position(|&receiver| receiver == id).map(|at| at + done) else {
            return Some(Bytes::new());
        };
        let has = self.has(index);
        let owed = match &self.writing {
            Some(writing) => writing.frames.slice(has..),
            None => Bytes::copy_from_slice(&self.frames[has..]),
        };
        self.apart.retain(|apart| apart.index != index);
        self.apart.push(Apart { index, bytes: has + owed.len() });
        Some(owed)
    }

    fn clear(&mut self) {
        self.receivers.clear();
        self.frames.clear();
        self.apart.clear();
        self.looks = 0;
        self.writing = None;
    }
}

impl Shell {
    /// Sends a message to all of `receivers`, which are of this wire, after all earlier messages. If it is to be
    /// compressed, this happens here, once.
    pub(super) fn push(&mut self, receivers: &[ConnId], wire: WireId, form: Form, message: &[u8]) {
        let framing = self.wire(wire).framing;
        match framing.deflates(form, message.len()) {
            None => self.push_payload(receivers, framing, form, Payload::Plain(message)),
            Some(deflate) => {
                let mut deflaters = std::mem::take(&mut self.deflaters);
                let payload = deflaters.deflate(deflate, message);
                self.counters.deflated(wire, message.len(), payload.len());
                self.push_payload(receivers, framing, form, payload);
                self.deflaters = deflaters;
            }
        }
    }

    fn push_payload(&mut self, receivers: &[ConnId], framing: Framing, form: Form, payload: Payload<'_>) {
        if payload.len() > PAYLOAD_BYTES_MAX {
            let frame = framing.frame(form, payload);
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
        framing.put(&mut self.corked.frames, form, payload);
    }

    /// Appends a frame to a connection's outbox, after all earlier messages. It is written at the end of this turn.
    pub(super) fn append(&mut self, id: ConnId, frame: Bytes) {
        match self.corked.set_apart(id) {
            Some(owed) => self.append_rest(id, &owed, 0),
            None => self.uncork(),
        }
        self.append_uncorked(id, frame);
    }

    fn append_rest(&mut self, id: ConnId, frames: &Bytes, has: usize) {
        if has < frames.len() {
            self.append_uncorked(id, frames.slice(has..));
        }
    }

    /// Moves corked frames that are not written yet to the outboxes.
    pub(super) fn uncork(&mut self) {
        if self.corked.is_empty() {
            return;
        }
        let mut corked = std::mem::take(&mut self.corked);
        let Writing { frames, done } = corked.begin();
        for (index, &id) in corked.receivers.iter().enumerate().skip(done) {
            self.append_rest(id, &frames, corked.has(index));
        }
        corked.clear();
        self.corked = corked;
    }

    /// Writes the corked frames to as many receivers as the slice allows.
    pub(super) fn write_corked(&mut self, slice: &mut Slice) {
        if self.corked.is_empty() {
            return;
        }
        let mut corked = std::mem::take(&mut self.corked);
        let Writing { frames, mut done } = corked.begin();
        while done < corked.receivers.len() && !slice.is_spent() {
            match corked.has(done) {
                0 => self.write_through(corked.receivers[done], &frames),
                has => self.append_rest(corked.receivers[done], &frames, has),
            }
            slice.spend(frames.len());
            done += 1;
        }
        if done < corked.receivers.len() {
            corked.writing = Some(Writing { frames, done });
        } else {
            corked.clear();
        }
        self.corked = corked;
    }

    /// Writes directly if nothing waits for the connection. Bytes that its socket does not take go to its outbox.
    fn write_through(&mut self, id: ConnId, frames: &Bytes) {
        let Some(conn) = self.conn(id).filter(|conn| !conn.closing) else { return };
        let written = match &mut conn.sink {
            Sink::Socket(socket) if !conn.blocked && conn.outbox.is_empty() => socket.write_through(frames),
            _ => return self.append_uncorked(id, frames.clone()),
        };
        let wire = conn.wire;
        self.counters.wires[usize::from(wire.0)].bytes_out += written as u64;
        self.append_rest(id, frames, written);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::shell;
    use super::*;
    use crate::request::Peer;
    use crate::transport::socket::Socket;
    use fanfare_hub::WireId;
    use tokio::io::AsyncReadExt as _;
    use tokio::net::{TcpListener, TcpStream};

    const COUNT: usize = 3;

    /// The texts that each of three connections reads after `say`, and the number of outboxes in use before the flush.
    fn heard(say: fn(&mut Shell, &[ConnId])) -> (Vec<Vec<String>>, usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let address = listener.local_addr().expect("bound");
            let (shared, mut peers, mut ids) = (shell(), Vec::new(), Vec::new());
            for _ in 0..COUNT {
                let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
                let (_, writer) = Socket::from(near.expect("a listener")).into_split();
                peers.push(far.expect("a connection").0);
                let mut shell = shared.borrow_mut();
                let now = shell.now();
                ids.push(shell.open(now, writer, Peer::Unknown, WireId(0), None));
            }
            let used = {
                let mut shell = shared.borrow_mut();
                say(&mut shell, &ids);
                let used = ids.iter().filter(|&&id| shell.conn(id).is_some_and(|conn| !conn.outbox.is_empty())).count();
                shell.write_corked(&mut Slice::new());
                shell.flush_slice(&shared, &mut Slice::new());
                ids.iter().for_each(|&id| shell.remove(id)); // ends the stream, so that the peers can read to its end
                used
            };
            let mut heard = Vec::new();
            for peer in &mut peers {
                let mut bytes = Vec::new();
                peer.read_to_end(&mut bytes).await.expect("an end");
                let mut texts = Vec::new();
                while let [_, len, rest @ ..] = &bytes[..] {
                    let (text, rest) = rest.split_at(usize::from(*len));
                    texts.push(String::from_utf8(text.to_vec()).expect("text"));
                    bytes = rest.to_vec();
                }
                heard.push(texts);
            }
            (heard, used)
        })
    }

    fn push(shell: &mut Shell, ids: &[ConnId], text: &[u8]) {
        shell.push(ids, WireId(0), Form::Text, text);
    }

    fn answer(shell: &mut Shell, id: ConnId, text: &str) {
        shell.answer(id, Form::Text, text.as_bytes());
    }

    #[test]
    fn an_answer_in_between_pulls_the_cork_for_its_receiver_only() {
        let (heard, used) = heard(|shell, ids| {
            answer(shell, ids[1], "a0");
            push(shell, ids, b"p1");
            answer(shell, ids[1], "a1");
            answer(shell, ids[1], "a2");
            push(shell, ids, b"p2");
            answer(shell, ids[1], "a3");
            push(shell, ids, b"p3");
        });
        assert_eq!(heard[0], ["p1", "p2", "p3"]);
        assert_eq!(heard[1], ["a0", "p1", "a1", "a2", "p2", "a3", "p3"]);
        assert_eq!(heard[2], ["p1", "p2", "p3"]);
        assert_eq!(used, 1, "only the one that was answered");
    }

    #[test]
    fn an_answer_to_somebody_else_leaves_the_cork() {
        let (heard, used) = heard(|shell, ids| {
            push(shell, &ids[..2], b"p1");
            answer(shell, ids[2], "a1");
            push(shell, &ids[..2], b"p2");
        });
        assert_eq!(heard, [vec!["p1", "p2"], vec!["p1", "p2"], vec!["a1"]]);
        assert_eq!(used, 1);
    }

    #[test]
    fn order_holds_where_many_are_answered_and_receivers_change() {
        let (heard, _) = heard(|shell, ids| {
            push(shell, ids, b"p1");
            for _ in 0..=LOOKS_MAX {
                answer(shell, ids[0], "a");
            }
            push(shell, ids, b"p2");
            answer(shell, ids[2], "b");
            push(shell, &ids[1..], b"q");
            answer(shell, ids[2], "c");
        });
        let mut first = vec!["p1"];
        first.extend(["a"; LOOKS_MAX + 1]);
        first.push("p2");
        assert_eq!(heard[0], first);
        assert_eq!(heard[1], ["p1", "p2", "q"]);
        assert_eq!(heard[2], ["p1", "p2", "b", "q", "c"]);
    }

    #[test]
    fn order_holds_for_who_is_answered_between_two_slices() {
        let (heard, _) = heard(|shell, ids| {
            push(shell, ids, b"p1");
            let mut slice = Slice::new();
            (0..255).for_each(|_| slice.spend(0)); // one write is left of 256
            shell.write_corked(&mut slice);
            assert_eq!(shell.corked.writing.as_ref().map(|writing| writing.done), Some(1));
            answer(shell, ids[2], "a");
            push(shell, ids, b"p2");
        });
        assert_eq!(heard, [vec!["p1", "p2"], vec!["p1", "p2"], vec!["p1", "a", "p2"]]);
    }
}
