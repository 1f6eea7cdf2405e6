//! A session of Engine.IO goes from polling to a WebSocket.
//!
//! In: an upgraded socket that names a session. It goes to the session's shard before a byte of it is read, so the
//! session stays where it is: nothing of its state moves, and no packet is forwarded afterwards. (The handshakes of
//! clients are spread over the shards, and so are their WebSockets then.) There the client sends its probe, ends its
//! GET and sends its `5` ([`Probe`]). Out: the connection has a socket and a reader. Packets that waited for the
//! next GET are written there, in order, and a POST that was under way is taken in first. (One that waits for room is
//! answered early, and what comes by the WebSocket waits for its packets.)
//!
//! Until the `5` nothing but the answer to the probe is written, and the session polls as before: a WebSocket that says
//! something else, is cut, or is too slow costs it nothing. One WebSocket at a time: another one is closed, and so is
//! one for a session that has a WebSocket already.

use super::super::accept::last_words;
use super::super::polls::Errand;
use super::super::read::Reader;
use super::super::{Fatal, Shared, Shell, Sink, wake};
use super::open_sid;
use crate::framing::{Deframer, Form, Framing, Received};
use crate::protocol::Message;
use crate::request::Peer;
use crate::transport::socket::{LooseSocket, Socket};
use bytes::{Bytes, BytesMut};
use fanfare_hub::{Appended, ConnId, Disconnect, Input, WireId};
use fanfare_wire::engineio::{Packet, Payload, Probe, ProbeStep, Sid};
use std::future::poll_fn;
use std::io;
use std::task::Poll;
use tokio::io::AsyncWriteExt as _;

/// A client has nothing to say before its upgrade that is longer.
const PROBE_BYTES_MAX: usize = 1 << 10;
/// Bytes that are read at once before it.
const READ_BYTES: usize = 4 << 10;

/// A WebSocket on its way to the shard of its session.
pub(crate) struct EngineUpgrade {
    sid: Sid,
    socket: LooseSocket,
    about: About,
}

/// The facts about a WebSocket.
struct About {
    peer: Peer,
    wire: WireId,
    /// The bytes that came after the head.
    rest: Vec<u8>,
}

/// Takes a WebSocket for the session with this id, which has landed here.
pub(in super::super) fn take(shared: &Shared, socket: Socket, (peer, wire): (Peer, WireId), rest: Vec<u8>, sid: &str) {
    let (found, me) = {
        let shell = shared.borrow();
        (open_sid(&shell.place, sid).filter(|sid| usize::from(sid.shard.0) < shell.links.count()), shell.links.me())
    };
    let about = About { peer, wire, rest };
    match found {
        Some(sid) if sid.shard == me => drop(tokio::task::spawn_local(serve(shared.clone(), sid.conn, socket, about))),
        Some(sid) => match socket.loosen() {
            Ok(socket) => {
                let upgrade = Box::new(EngineUpgrade { sid, socket, about });
                shared.borrow_mut().pass_on(sid.shard, Errand::Upgrade(upgrade));
            }
            Err(error) => tracing::warn!(%error, "a WebSocket could not go to the shard of its session"),
        },
        None => drop(tokio::task::spawn_local(turn_away(shared.clone(), socket, wire, "of no session"))),
    }
}

/// The same on the session's shard.
pub(in super::super) fn arrive(shared: &Shared, upgrade: EngineUpgrade) {
    let EngineUpgrade { sid, socket, about } = upgrade;
    match socket.settle() {
        Ok(socket) => drop(tokio::task::spawn_local(serve(shared.clone(), sid.conn, socket, about))),
        Err(error) => tracing::warn!(%error, "a WebSocket could not be taken over"),
    }
}

/// The end of the time before the upgrade.
enum End {
    /// The client goes on with the WebSocket; these bytes came behind its word.
    Upgraded(Vec<u8>),
    /// The WebSocket is closed with this code.
    Refused(u16, &'static str),
    /// The client has ended the WebSocket; this is the answer.
    Left(Bytes),
    /// The WebSocket is gone.
    Gone,
}

/// Runs from the arrival of a WebSocket until its session has it, or it is closed.
async fn serve(shared: Shared, id: ConnId, mut socket: Socket, about: About) {
    let _fatal = Fatal;
    let (peer, wire) = (about.peer, about.wire);
    let (framing, timeout, is_first) = {
        let mut shell = shared.borrow_mut();
        let framing = shell.wire(wire).framing;
        let is_offered = shell.config.socketio.upgrades;
        let is_first = is_offered && shell.engine_state(id).is_some_and(|state| state.upgrade.begin());
        (framing, shell.config.socketio.upgrade_timeout, is_first)
    };
    if !is_first {
        return turn_away(shared, socket, wire, "its session has one, is over, or takes none").await;
    }
    let until = tokio::time::Instant::now() + timeout;
    let mut deframer = framing.deframer(PROBE_BYTES_MAX);
    let end = tokio::select! {
        biased;
        () = over(&shared, id) => End::Refused(1000, "the session is over"),
        end = probe(&shared, id, &mut socket, (framing, &mut deframer), about.rest) => end,
        () = tokio::time::sleep_until(until) => End::Refused(Disconnect::NotConnected.code(), "the upgrade took too long"),
    };
    if let End::Upgraded(_) = end
        && let Some(state) = shared.borrow_mut().engine_state(id)
    {
        state.goes_over = true;
        state.wake_posts();
    }
    let end = match end {
        // The packets of a POST come before those of the WebSocket.
        End::Upgraded(rest) => tokio::select! {
            biased;
            () = over(&shared, id) => End::Refused(1000, "the session is over"),
            () = posted(&shared, id) => End::Upgraded(rest),
            () = tokio::time::sleep_until(until) => {
                End::Refused(Disconnect::NotConnected.code(), "a POST before the upgrade took too long")
            }
        },
        end => end,
    };
    if let End::Upgraded(rest) = end {
        tracing::debug!(%peer, "a session goes on with a WebSocket");
        return shared.borrow_mut().attach(&shared, id, socket, About { peer, wire, rest });
    }
    if let Some(state) = shared.borrow_mut().engine_state(id) {
        state.upgrade.fail();
        state.goes_over = false;
    }
    let words = match end {
        End::Upgraded(_) | End::Gone => return tracing::debug!(%peer, "a WebSocket was cut before its upgrade"),
        End::Left(answer) => answer,
        End::Refused(code, why) => {
            tracing::debug!(%peer, why, "a WebSocket was closed before its upgrade");
            framing.end(code, why)
        }
    };
    last_words(&shared, socket, &words).await;
}

/// Closes a WebSocket that no session takes.
async fn turn_away(shared: Shared, socket: Socket, wire: WireId, why: &'static str) {
    let _fatal = Fatal;
    tracing::debug!(peer = %socket.peer(), why, "a WebSocket was closed, as no session takes it");
    let framing = shared.borrow().wire(wire).framing;
    last_words(&shared, socket, &framing.end(Disconnect::BadProtocol.code(), why)).await;
}

/// Returns when the session has ended.
async fn over(shared: &Shared, id: ConnId) {
    poll_fn(|cx| {
        let mut shell = shared.borrow_mut();
        let is_closing = shell.conn(id).is_none_or(|conn| conn.closing);
        match shell.engine_state(id).filter(|_| !is_closing) {
            Some(state) => {
                state.upgrader = Some(cx.waker().clone());
                Poll::Pending
            }
            None => Poll::Ready(()),
        }
    })
    .await;
}

/// Returns when no POST of the session is being taken in. Woken as [`over`], by the same task.
async fn posted(shared: &Shared, id: ConnId) {
    poll_fn(|_| match shared.borrow_mut().engine_state(id) {
        Some(state) if state.is_posted => Poll::Pending,
        _ => Poll::Ready(()),
    })
    .await;
}

/// Reads what the client says before it goes on.
async fn probe(
    shared: &Shared,
    id: ConnId,
    socket: &mut Socket,
    (framing, deframer): (Framing, &mut Deframer),
    mut rest: Vec<u8>,
) -> End {
    let mut probe = Probe::default();
    loop {
        let mut answers = Vec::new();
        let end = look(shared, (framing, deframer), &mut rest, &mut probe, &mut answers);
        if !answers.is_empty() && socket.write_all(&answers).await.is_err() {
            return End::Gone;
        }
        if probe.is_probed() {
            shared.borrow_mut().probed(id);
        }
        if let Some(end) = end {
            return end;
        }
        match read(socket, &mut rest).await {
            Ok(true) => {}
            Ok(false) | Err(_) => return End::Gone,
        }
    }
}

/// Judges the messages in `bytes`, which are taken off. `None`: more must come.
fn look(
    shared: &Shared,
    (framing, deframer): (Framing, &mut Deframer),
    bytes: &mut Vec<u8>,
    probe: &mut Probe,
    answers: &mut Vec<u8>,
) -> Option<End> {
    let mut inflater = deframer.is_deflated().then(|| shared.borrow_mut().inflater.take().unwrap_or_default());
    let mut input = &mut bytes[..];
    let end = loop {
        match deframer.next(&mut input, inflater.as_deref_mut()) {
            Ok(None) => break None,
            Err(broken) => break Some(End::Refused(broken.code, "a frame that breaks the rules")),
            Ok(Some(Received::Ping(payload))) => framing.put(answers, Form::Pong, payload),
            Ok(Some(Received::Pong)) => {}
            Ok(Some(Received::End { answer, .. })) => break Some(End::Left(answer)),
            Ok(Some(Received::Message(Message::Binary(_)))) => {
                break Some(End::Refused(Disconnect::BadProtocol.code(), "bytes before the upgrade"));
            }
            Ok(Some(Received::Message(Message::Text(text)))) => match probe.text(text) {
                ProbeStep::Answer => {
                    let mut packet = Vec::new();
                    Probe::ANSWER.put(&mut packet);
                    framing.put(answers, Form::Text, &packet);
                }
                ProbeStep::Upgrade => break Some(End::Upgraded(Vec::new())),
                ProbeStep::Refuse(why) => break Some(End::Refused(Disconnect::BadProtocol.code(), why)),
            },
        }
    };
    let left = input.len();
    let behind = bytes.split_off(bytes.len() - left);
    bytes.clear();
    if let Some(inflater) = inflater {
        shared.borrow_mut().inflater = Some(inflater);
    }
    match end {
        Some(End::Upgraded(_)) => Some(End::Upgraded(behind)),
        end => end,
    }
}

/// Reads some bytes. False: the peer has gone.
async fn read(socket: &Socket, into: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0; READ_BYTES];
    loop {
        socket.readable().await?;
        match socket.try_read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
            Ok(count) => {
                into.extend_from_slice(&buffer[..count]);
                return Ok(count > 0);
            }
        }
    }
}

impl Shell {
    /// The client of a session has sent its probe: a GET that waits is let go, and a POST that waits is answered.
    fn probed(&mut self, id: ConnId) {
        let Some(Sink::Detached(detached)) = self.conn(id).map(|conn| &mut conn.sink) else { return };
        let Some(state) = &mut detached.engine else { return };
        if state.upgrade.probed() {
            wake(&mut detached.fetcher);
            state.wake_posts();
        }
    }

    /// A session that has polled goes on with a socket.
    fn attach(&mut self, shared: &Shared, id: ConnId, socket: Socket, about: About) {
        let About { peer, wire, rest } = about;
        let now = self.now();
        self.settle(now);
        let Some(before) = self.conn(id).map(|conn| conn.wire) else { return };
        self.uncork(before);
        let mark = self.config.limits.outbox_bytes_max;
        let protocol = self.wire(wire).protocol.clone();
        let framing = self.wire(wire).framing;
        let deframer = framing.deframer(protocol.message_bytes_max(&self.config.limits));
        let (half, writer) = socket.into_split();
        let Some(conn) = self.conn(id) else { return };
        let Sink::Detached(mut detached) = std::mem::replace(&mut conn.sink, Sink::Socket(writer)) else { return };
        (conn.wire, conn.peer, conn.reader, conn.choked) = (wire, peer, None, false);
        let held = std::mem::take(&mut conn.outbox);
        let mut becomes_full = false;
        for packets in held.frames() {
            becomes_full |= conn.outbox.push(reframed(packets, framing), mark) == Appended::Full;
        }
        let bytes = conn.outbox.bytes();
        self.counters.outbox_bytes = self.counters.outbox_bytes - held.bytes() + bytes;
        self.counters.rewired(before, wire, rest.len());
        wake(&mut detached.fetcher);
        let mut earlier = None;
        if let Some(mut state) = detached.engine {
            state.wake_posts();
            earlier = state.earlier;
            if let Some(keeper) = state.keeper {
                keeper.abort(); // it counts as a reader; the reader of the socket takes its place
            }
        }
        self.act(now, Input::Rewired { conn: id, wire });
        match (held.is_full(), becomes_full) {
            (false, true) => self.act(now, Input::Full(id)),
            (true, false) => self.act(now, Input::Drained(id)),
            _ => {}
        }
        self.is_dirty(id);
        let stash = BytesMut::from(&rest[..]);
        let reader = Reader { shell: shared.clone(), half: Some(half), id, deframer, stash };
        match earlier {
            None => drop(tokio::task::spawn_local(reader)),
            Some(earlier) => drop(tokio::task::spawn_local(async move {
                let _ = earlier.await;
                reader.await;
            })),
        }
    }
}

/// Packets that waited for a GET, as the frames that carry them.
fn reframed(packets: &Bytes, framing: Framing) -> Bytes {
    let mut frames = Vec::with_capacity(packets.len() + 16);
    let text = std::str::from_utf8(packets).unwrap_or_default(); // it was made of packets
    let text = text.strip_suffix(fanfare_wire::engineio::SEPARATOR).unwrap_or(text);
    for packet in Payload::new(text) {
        match packet {
            Ok(Packet::Binary(bytes)) => framing.put(&mut frames, Form::Binary, &*bytes),
            Ok(packet) => {
                let mut text = Vec::new();
                packet.put(&mut text);
                framing.put(&mut frames, Form::Text, &text);
            }
            Err(_) => {} // none was made so
        }
    }
    frames.into()
}
