//! Consecutive pushes to the same receivers become one sequence of frames, made once and shared by all of them.
//!
//! Publications that arrive together are written together: eight publications from one read cost a receiver one plain
//! write. If nothing else waits for a receiver, that write is directly from here and its outbox is not used.
//!
//! No connection sees another order than the hub's. Another message for a receiver (a publisher's answer, say) sets it
//! apart: its outbox gets the corked frames so far, then that message, and later the rest. If many are set apart, or
//! the receivers change, the cork is pulled: the remaining frames go to the outboxes.
//!
//! Each wire has a cork of its own. A connection has one wire for its life, so corks of two wires have no receiver in
//! common: the publications of a room come once for each of its wires in turn, and pull no cork.

use super::flush::Slice;
use super::{Shell, Sink};
use crate::framing::{Form, Payload};
use bytes::Bytes;
use fanfare_hub::{ConnId, WireId};
use std::collections::VecDeque;

/// Beyond this a cork is pulled: so the extra copy is small, and outboxes exceed their limit by this at most.
const BYTES_MAX: usize = 16 << 10;
/// Larger payloads go to each outbox as shared bytes.
const PAYLOAD_BYTES_MAX: usize = 4 << 10;

/// Searches among the receivers before the cork is pulled: together they cost less than pulling it.
const LOOKS_MAX: usize = 16;

/// The corks of a shard.
pub(super) struct Corks {
    by_wire: Box<[Corked]>,
    /// Those with frames, in the order in which they began.
    active: VecDeque<WireId>,
}

impl Corks {
    pub(super) fn new(wires: usize) -> Self {
        Corks { by_wire: (0..wires).map(|_| Corked::default()).collect(), active: VecDeque::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.active.is_empty()
    }

    fn of(&mut self, wire: WireId) -> &mut Corked {
        &mut self.by_wire[usize::from(wire.0)]
    }
}

#[derive(Default)]
struct Corked {
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
    fn is_empty(&self) -> bool {
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
            None => self.push_payload(receivers, wire, form, Payload::Plain(message)),
            Some(deflate) => {
                let mut deflaters = std::mem::take(&mut self.deflaters);
                let payload = deflaters.deflate(deflate, message);
                self.counters.deflated(wire, message.len(), payload.len());
                self.push_payload(receivers, wire, form, payload);
                self.deflaters = deflaters;
            }
        }
    }

    fn push_payload(&mut self, receivers: &[ConnId], wire: WireId, form: Form, payload: Payload<'_>) {
        let framing = self.wire(wire).framing;
        if payload.len() > PAYLOAD_BYTES_MAX {
            let frame = framing.frame(form, payload);
            return receivers.iter().for_each(|&id| self.append(id, frame.clone()));
        }
        if !self.corks.of(wire).takes(receivers) {
            self.uncork(wire);
        }
        if self.corks.of(wire).is_empty() {
            let corked = self.corks.of(wire);
            corked.clear();
            corked.receivers.extend_from_slice(receivers);
            self.corks.active.push_back(wire);
            super::wake(&mut self.flusher);
        }
        framing.put(&mut self.corks.of(wire).frames, form, payload);
    }

    /// Appends a frame to a connection's outbox, after all earlier messages. It is written at the end of this turn.
    pub(super) fn append(&mut self, id: ConnId, frame: Bytes) {
        if !self.corks.is_empty() {
            let Some(wire) = self.conn(id).map(|conn| conn.wire) else { return };
            match self.corks.of(wire).set_apart(id) {
                Some(owed) => self.append_rest(id, &owed, 0),
                None => self.uncork(wire),
            }
        }
        self.append_uncorked(id, frame);
    }

    fn append_rest(&mut self, id: ConnId, frames: &Bytes, has: usize) {
        if has < frames.len() {
            self.append_uncorked(id, frames.slice(has..));
        }
    }

    /// Moves the corked frames of a wire that are not written yet to the outboxes.
    pub(super) fn uncork(&mut self, wire: WireId) {
        if self.corks.of(wire).is_empty() {
            return;
        }
        self.corks.active.retain(|active| *active != wire);
        let mut corked = std::mem::take(self.corks.of(wire));
        let Writing { frames, done } = corked.begin();
        for (index, &id) in corked.receivers.iter().enumerate().skip(done) {
            self.append_rest(id, &frames, corked.has(index));
        }
        corked.clear();
        *self.corks.of(wire) = corked;
    }

    /// Writes the corked frames to as many receivers as the slice allows.
    pub(super) fn write_corked(&mut self, slice: &mut Slice) {
        while !slice.is_spent()
            && let Some(&wire) = self.corks.active.front()
        {
            let mut corked = std::mem::take(self.corks.of(wire));
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
                self.corks.active.pop_front();
            }
            *self.corks.of(wire) = corked;
        }
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

    /// The texts that each of three connections of one wire reads after `say`, and the number of outboxes in use before
    /// the flush.
    fn heard(say: fn(&mut Shell, &[ConnId])) -> (Vec<Vec<String>>, usize) {
        let (heard, used, _) = heard_on([WireId(0); COUNT], say);
        (heard, used)
    }

    /// The same for connections of these wires, and the number of system calls that wrote.
    fn heard_on(wires: [WireId; COUNT], say: fn(&mut Shell, &[ConnId])) -> (Vec<Vec<String>>, usize, usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let address = listener.local_addr().expect("bound");
            let (shared, mut peers, mut ids) = (shell(), Vec::new(), Vec::new());
            for wire in wires {
                let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
                let (_, writer) = Socket::from(near.expect("a listener")).into_split();
                peers.push(far.expect("a connection").0);
                let mut shell = shared.borrow_mut();
                let now = shell.now();
                ids.push(shell.open(now, writer, Peer::Unknown, wire, None));
            }
            let (used, writes) = {
                let mut shell = shared.borrow_mut();
                say(&mut shell, &ids);
                let used = ids.iter().filter(|&&id| shell.conn(id).is_some_and(|conn| !conn.outbox.is_empty())).count();
                let mut slice = Slice::new();
                shell.write_corked(&mut slice);
                shell.flush_slice(&shared, &mut slice);
                ids.iter().for_each(|&id| shell.remove(id)); // ends the stream, so that the peers can read to its end
                (used, slice.writes_spent())
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
            (heard, used, writes)
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
            assert_eq!(shell.corks.of(WireId(0)).writing.as_ref().map(|writing| writing.done), Some(1));
            answer(shell, ids[2], "a");
            push(shell, ids, b"p2");
        });
        assert_eq!(heard, [vec!["p1", "p2"], vec!["p1", "p2"], vec!["p1", "a", "p2"]]);
    }

    /// A room with clients of two wires: each publication comes for one wire, then for the other.
    #[test]
    fn publications_for_two_wires_in_turn_are_one_write_for_each_receiver() {
        let (heard, used, writes) = heard_on([WireId(0), WireId(1), WireId(1)], |shell, ids| {
            for text in ["p1", "p2", "p3"] {
                shell.push(&ids[..1], WireId(0), Form::Text, text.as_bytes());
                shell.push(&ids[1..], WireId(1), Form::Text, text.as_bytes());
            }
        });
        assert_eq!(heard, [["p1", "p2", "p3"]; COUNT]);
        assert_eq!((used, writes), (0, COUNT), "outboxes in use, and writes");
    }

    #[test]
    fn an_answer_sets_its_receiver_apart_on_its_own_wire() {
        let (heard, used, _) = heard_on([WireId(0), WireId(1), WireId(1)], |shell, ids| {
            shell.push(&ids[..1], WireId(0), Form::Text, b"p1");
            shell.push(&ids[1..], WireId(1), Form::Text, b"p1");
            answer(shell, ids[2], "a");
            shell.push(&ids[1..], WireId(1), Form::Text, b"p2");
        });
        assert_eq!(heard, [vec!["p1"], vec!["p1", "p2"], vec!["p1", "a", "p2"]]);
        assert_eq!(used, 1);
    }

    #[test]
    fn a_slice_ends_within_the_corks_and_the_next_one_goes_on() {
        let (heard, _, _) = heard_on([WireId(0), WireId(1), WireId(1)], |shell, ids| {
            for text in ["p1", "p2"] {
                shell.push(&ids[..1], WireId(0), Form::Text, text.as_bytes());
                shell.push(&ids[1..], WireId(1), Form::Text, text.as_bytes());
            }
            let mut slice = Slice::new();
            (0..254).for_each(|_| slice.spend(0)); // two writes are left of 256
            shell.write_corked(&mut slice);
            assert_eq!(shell.corks.active, [WireId(1)]);
            shell.push(&ids[1..], WireId(1), Form::Text, b"p3");
        });
        assert_eq!(heard, [vec!["p1", "p2"], vec!["p1", "p2", "p3"], vec!["p1", "p2", "p3"]]);
    }
}
