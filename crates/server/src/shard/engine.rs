//! Sessions of Engine.IO by polling: a connection without a socket, whose packets GETs take and POSTs bring. Each
//! request may land on any shard.
//!
//! In: an [`EngineRequest`]. The id of a session names its shard, so a request goes on as an errand to that shard. Out:
//! the body of the answer, or a refusal with the reference's code. One GET and one POST at a time: a second one ends
//! the session, and so does a GET that is given up. Packets that were given to a GET are gone: the protocol has no
//! acknowledgement. A POST waits while the hub has paused its connection.

use super::detached::{Detached, keep};
use super::polls::Errand;
use super::{Fatal, Shared, Shell, Sink, wake};
use crate::protocol::exchange::{EngineAct, EngineId, EngineRequest, EngineStart, ExchangeAnswer};
use crate::protocol::{Message, Protocol as _};
use crate::random::random;
use crate::refusal::HttpRefusal;
use bytes::Bytes;
use fanfare_hub::{ConnId, Disconnect, Input};
use fanfare_wire::engineio::{Packet, Refused, SEPARATOR};
use std::future::poll_fn;
use std::task::Poll;

/// An answer holds no more bytes of packets, but for its first one.
const ANSWER_BYTES_MAX: usize = 1_000_000;

/// The state of a session.
#[derive(Debug)]
pub(super) struct EngineState {
    pub(super) id: EngineId,
    /// A GET waits.
    is_polled: bool,
    /// A POST is being taken in.
    is_posted: bool,
}

/// Takes a request in that has landed on this shard, or was sent here.
pub(super) fn take(shared: &Shared, request: EngineRequest, answer: ExchangeAnswer) {
    match request {
        EngineRequest::Handshake(start) => begin(shared, *start, answer),
        EngineRequest::Session(id, act) => {
            let mut shell = shared.borrow_mut();
            let (me, shards) = (shell.links.me(), shell.links.count());
            let shard = id.shard();
            if shard != me && usize::from(shard.0) < shards {
                return shell.pass_on(shard, Errand::Engine(EngineRequest::Session(id, act), answer));
            }
            let Some(conn) = shell.engines.get(&id).copied() else {
                return refuse(answer, Refused::SessionUnknown);
            };
            drop(shell);
            match act {
                EngineAct::Poll => drop(tokio::task::spawn_local(poll(shared.clone(), conn, answer))),
                EngineAct::Post(body) => drop(tokio::task::spawn_local(post(shared.clone(), conn, body, answer))),
                EngineAct::Break => {
                    shared.borrow_mut().break_off(conn);
                    refuse(answer, Refused::BadRequest);
                }
            }
        }
    }
}

/// Opens a session, and answers with its open packet.
fn begin(shared: &Shared, start: EngineStart, answer: ExchangeAnswer) {
    let EngineStart { wire, protocol, peer, request } = start;
    let mut shell = shared.borrow_mut();
    let (Ok(high), Ok(low), false) = (random(), random(), shell.closing) else {
        let _ = answer.send(Err(HttpRefusal::because(503, "the server is stopping"))); // the client may have gone
        return;
    };
    let id = EngineId::new(shell.links.me(), high, low);
    let now = shell.now();
    let state = EngineState { id, is_polled: false, is_posted: false };
    let sink = Sink::Detached(Box::new(Detached { engine: Some(state), ..Detached::default() }));
    let heartbeat = protocol.heartbeat();
    let conn = shell.open_as(now, sink, peer, (wire, heartbeat), request.clone(), |_, actions| {
        protocol.begin(&id.to_string(), request.as_ref(), actions)
    });
    shell.engines.insert(id, conn);
    shell.readers += 1;
    tokio::task::spawn_local(keep(shared.clone(), conn));
    let body = shell.take_packets(conn);
    let _ = answer.send(Ok(body)); // as above; then nobody knows the session, and it ends by silence
}

/// Waits until there are packets for a client, and gives them.
async fn poll(shared: Shared, id: ConnId, mut answer: ExchangeAnswer) {
    let _fatal = Fatal;
    {
        let mut shell = shared.borrow_mut();
        match shell.engine_state(id) {
            None => return refuse(answer, Refused::SessionUnknown),
            Some(state) if state.is_polled => {
                shell.break_off(id);
                return refuse(answer, Refused::BadRequest);
            }
            Some(state) => state.is_polled = true,
        }
    }
    let ready = poll_fn(|cx| shared.borrow_mut().poll_fetch(cx, id));
    tokio::select! {
        biased;
        () = ready => {}
        () = answer.closed() => {
            let mut shell = shared.borrow_mut();
            let now = shell.now();
            return shell.lost(now, id, true);
        }
    }
    let mut shell = shared.borrow_mut();
    if let Some(state) = shell.engine_state(id) {
        state.is_polled = false;
    }
    let mut body = shell.take_packets(id);
    if body.is_empty() {
        body = Bytes::from_static(b"1"); // the session was removed meanwhile
    }
    if answer.send(Ok(body)).is_err() {
        // It was given up at this moment. Its packets are gone, so the session does not go on.
        let now = shell.now();
        shell.lost(now, id, true);
    }
}

/// Takes in the packets of a client.
async fn post(shared: Shared, id: ConnId, body: Bytes, answer: ExchangeAnswer) {
    let _fatal = Fatal;
    {
        let mut shell = shared.borrow_mut();
        match shell.engine_state(id) {
            None => return refuse(answer, Refused::SessionUnknown),
            Some(state) if state.is_posted => {
                shell.break_off(id);
                return refuse(answer, Refused::BadRequest);
            }
            Some(state) => state.is_posted = true,
        }
    }
    let text = std::str::from_utf8(&body).unwrap_or_default(); // it was judged before
    for packet in text.split(SEPARATOR) {
        let goes_on = poll_fn(|cx| {
            let mut shell = shared.borrow_mut();
            loop {
                match shell.conn(id) {
                    None => return Poll::Ready(false),
                    Some(conn) if conn.closing => return Poll::Ready(false),
                    Some(conn) if conn.paused || conn.busy => {
                        if let Sink::Detached(detached) = &mut conn.sink {
                            detached.poster = Some(cx.waker().clone());
                        }
                        return Poll::Pending;
                    }
                    Some(_) => {}
                }
                if !shell.unread(id) {
                    return Poll::Ready(true);
                }
            }
        });
        if !goes_on.await {
            break;
        }
        let mut shell = shared.borrow_mut();
        let now = shell.now();
        if Packet::decode(packet) == Ok(Packet::Close) {
            shell.leave(id);
            break;
        }
        shell.act(now, Input::Alive(id));
        shell.message(now, id, Message::Text(packet));
    }
    let mut shell = shared.borrow_mut();
    if let Some(state) = shell.engine_state(id) {
        state.is_posted = false;
    }
    let _ = answer.send(Ok(Bytes::from_static(b"ok"))); // the client may have gone
}

fn refuse(answer: ExchangeAnswer, refused: Refused) {
    let _ = answer.send(Err(refused.into())); // the client may have gone
}

impl Shell {
    fn engine_state(&mut self, id: ConnId) -> Option<&mut EngineState> {
        match &mut self.conn(id)?.sink {
            Sink::Detached(detached) => detached.engine.as_mut(),
            Sink::Socket(_) => None,
        }
    }

    /// The packets that wait, as a payload. They are gone from here.
    fn take_packets(&mut self, id: ConnId) -> Bytes {
        let mut body = self.fetch(id, ANSWER_BYTES_MAX).concat();
        let now = self.now();
        self.fetched(now, id, body.len());
        body.pop(); // the separator behind the last packet
        body.into()
    }

    /// The client has broken the rules of polling.
    fn break_off(&mut self, id: ConnId) {
        let now = self.now();
        self.act(now, Input::Close { conn: id, reason: Disconnect::BadProtocol });
    }

    /// The client ends its session: a GET that waits is released.
    fn leave(&mut self, id: ConnId) {
        let now = self.now();
        if self.engine_state(id).is_some_and(|state| state.is_polled) {
            self.answer(id, crate::framing::Form::Text, b"6");
            self.begin_closing(id, "left");
            return self.act(now, Input::Closed { conn: id, finally: true });
        }
        self.lost(now, id, true);
    }

    /// A session is over.
    pub(super) fn forget_engine(&mut self, state: &EngineState) {
        self.engines.remove(&state.id);
    }

    /// A POST that waits may go on, or ends.
    pub(super) fn wake_poster(&mut self, id: ConnId) {
        if let Some(Sink::Detached(detached)) = self.conn(id).map(|conn| &mut conn.sink) {
            wake(&mut detached.poster);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::shell_of;
    use super::super::{Links, shard_id};
    use super::*;
    use crate::config::{Config, SocketIoConfig};
    use crate::protocol::socketio::{Asks, Namespaces, SocketIo};
    use crate::request::Peer;
    use fanfare_hub::WireId;
    use std::sync::Arc;
    use tokio::sync::oneshot;

    /// The packets that it was to have are lost: a client that came back would miss them and not know.
    #[test]
    fn a_session_ends_when_its_get_is_given_up_at_the_moment_of_its_answer() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        tokio::task::LocalSet::new().block_on(&runtime.expect("a runtime"), async {
            let config = Config::default();
            let asks = Asks { guard: false, calls: false };
            let namespaces = Namespaces::new(&[], Arc::new(crate::embed::socketio::handler::Registry::default()));
            let protocol = SocketIo::new(&SocketIoConfig::default(), &config.limits, asks, namespaces);
            let links = Links::new(shard_id(0), Vec::new());
            let shared = shell_of(config, Arc::new(protocol.clone()), 1, links);
            let start = EngineStart { wire: WireId(0), protocol, peer: Peer::Unknown, request: None };
            let (to, opened) = oneshot::channel();
            take(&shared, EngineRequest::Handshake(Box::new(start)), to);
            assert!(opened.await.is_ok_and(|answer| answer.is_ok()));
            let (id, conn) = shared.borrow().engines.iter().map(|(id, conn)| (*id, *conn)).next().expect("a session");
            for (is_given_up, goes_on) in [(false, true), (true, false)] {
                shared.borrow_mut().append(conn, Bytes::from_static(b"2\x1e"));
                let (to, answered) = oneshot::channel();
                let answered = (!is_given_up).then_some(answered);
                take(&shared, EngineRequest::Session(id, EngineAct::Poll), to);
                tokio::task::yield_now().await;
                if let Some(answered) = answered {
                    assert!(answered.await.is_ok_and(|answer| answer.is_ok_and(|body| body == "2")));
                }
                assert_eq!(shared.borrow_mut().conn(conn).is_some(), goes_on, "given up: {is_given_up}");
            }
        });
    }
}
