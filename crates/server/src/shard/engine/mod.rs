//! Sessions of Engine.IO: requests of clients that poll, each of which may land on any shard, and the way from polling
//! to a WebSocket (`upgrade`).
//!
//! In: an [`EngineRequest`]. A session that polls is a connection without a socket, whose packets GETs take and POSTs
//! bring. Its id names its shard and its connection under a seal, so a request goes on as an errand to that shard, and
//! no table of ids is kept. Out: the body of the answer, or a refusal with the reference's code. One GET and one POST
//! at a time: a second one ends the session, and so does a request that is given up. A session whose client has broken
//! the rules is unknown from then on; one that the server ends waits for the GET that takes its last packets, and for
//! the next one, which takes the packet to close. Packets that were given to a GET are gone: the protocol has no
//! acknowledgement. GETs have the rate of polls: above it their answers come later. `posts` takes in the packets of
//! POSTs. While they wait, a pong waits behind them: then a GET is a sign of life too.

mod posts;
pub(super) mod upgrade;

use super::detached::{Detached, keep};
use super::ends::{End, Loss};
use super::polls::Errand;
use super::{Fatal, Shared, Shell, Sink, wake};
use crate::http::routes::{Routes, overloaded};
use crate::protocol::exchange::{EngineAct, EngineRequest, EngineStart, ExchangeAnswer};
use crate::protocol::socketio::sid_at;
use crate::protocol::{Breach, Place};
use crate::refusal::HttpRefusal;
use crate::request::Peer;
use crate::transport::admission::{Guest, TIME_OVER};
use bytes::Bytes;
use fanfare_hub::{ConnId, HeartbeatKind, Input};
use fanfare_wire::engineio::{Refused, Release, Sid, Upgrade};
use posts::{Earlier, post};
use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::Duration;
use tokio::task::AbortHandle;

/// An answer holds no more bytes of packets, but for its first one.
const ANSWER_BYTES_MAX: usize = 1_000_000;
/// A client that has sent its probe has its GETs answered: the first one at once, a later one after this time, as the
/// reference does.
const RELEASE_AGAIN: Duration = Duration::from_millis(100);

/// The state of a session that polls.
#[derive(Debug, Default)]
pub(super) struct EngineState {
    /// A GET waits.
    is_polled: bool,
    /// A POST is being taken in.
    is_posted: bool,
    /// The POST whose packets are being taken in waits until the connection is not paused.
    poster: Option<Waker>,
    /// The POST behind it, if there is one, waits for its body, or for the packets before its own.
    comer: Option<Waker>,
    /// A POST was answered early, and its packets are still being taken in. Those that come after it wait.
    earlier: Option<Earlier>,
    /// What all POSTs cost that were answered early and are not taken in.
    early_bytes: usize,
    upgrade: Upgrade,
    /// The client has said that it goes over to the WebSocket: it posts no more.
    goes_over: bool,
    /// The WebSocket that waits for its session.
    upgrader: Option<Waker>,
    /// The task that runs as long as the connection has no socket.
    keeper: Option<AbortHandle>,
}

impl EngineState {
    /// The requests of the session look at it anew.
    pub(super) fn wake(&mut self) {
        self.wake_posts();
        wake(&mut self.upgrader);
    }

    fn wake_posts(&mut self) {
        wake(&mut self.poster);
        wake(&mut self.comer);
    }
}

/// A request about a session, whose id is valid.
pub(crate) struct EngineErrand {
    sid: Sid,
    act: EngineAct,
}

/// Takes a request in that has landed on this shard. `guest`: over a connection that is over a limit.
pub(super) fn take(shared: &Shared, request: EngineRequest, guest: Option<&Guest>, answer: ExchangeAnswer) {
    let (sid, mut act) = match (request, guest) {
        (EngineRequest::Handshake(_), Some(guest)) => return refuse_for_now(answer, overloaded(&guest.over)),
        (EngineRequest::Handshake(start), None) => return begin(shared, *start, answer),
        (EngineRequest::Session(sid, act), _) => (sid, act),
    };
    if let Some(guest) = guest {
        if !guest.enter() {
            return refuse_for_now(answer, overloaded(&guest.over));
        }
        if let EngineAct::Poll { is_over } = &mut act {
            *is_over = true;
        }
    }
    run(shared, EngineErrand { sid, act }, answer);
}

/// Asks whether the session of a WebSocket is there, on whichever shard.
///
/// # Errors
/// It is not: the upgrade is refused.
pub(super) async fn find(shared: &Shared, routes: &Routes, peer: &Peer, sid: &str) -> Result<(), HttpRefusal> {
    let give = |request, answer| take(shared, request, None, answer);
    routes.find_engine(peer, sid, give).await
}

fn open_sid(place: &Place, sid: &str) -> Option<Sid> {
    Sid::open(sid, place.node(), place.secret())
}

/// Does what a request asks for, on this shard or the session's.
pub(super) fn run(shared: &Shared, errand: EngineErrand, answer: ExchangeAnswer) {
    let mut shell = shared.borrow_mut();
    let shard = errand.sid.shard;
    if shard != shell.links.me() {
        return match usize::from(shard.0) < shell.links.count() {
            true => shell.pass_on(shard, Errand::Engine(errand, answer)),
            false => refuse(answer, Refused::SessionUnknown),
        };
    }
    let EngineErrand { sid: Sid { conn, .. }, act } = errand;
    let Some(is_polling) = shell.conn(conn).map(|conn| matches!(conn.sink, Sink::Detached(_))) else {
        return refuse(answer, Refused::SessionUnknown);
    };
    drop(shell);
    match act {
        EngineAct::Find => drop(answer.send(Ok(Bytes::new()))), // the client may have gone
        EngineAct::Poll { is_over } if is_polling => {
            drop(tokio::task::spawn_local(poll(shared.clone(), conn, is_over, answer)));
        }
        EngineAct::Post(posted) if is_polling => {
            drop(tokio::task::spawn_local(post(shared.clone(), conn, posted, answer)));
        }
        EngineAct::Break(refused) if is_polling => {
            shared.borrow_mut().break_off(conn, "a POST that is refused");
            let _ = answer.send(Err(refused)); // the client may have gone
        }
        // The session has a WebSocket, or the request names one without being an upgrade, or another version.
        EngineAct::Poll { .. } | EngineAct::Post(_) | EngineAct::Break(_) | EngineAct::Mismatch => {
            refuse(answer, Refused::BadRequest);
        }
    }
}

/// Opens a session, and answers with its open packet.
fn begin(shared: &Shared, start: EngineStart, answer: ExchangeAnswer) {
    let EngineStart { wire, protocol, peer, request, admit } = start;
    let mut shell = shared.borrow_mut();
    if shell.closing {
        let _ = answer.send(Err(HttpRefusal::stopping())); // the client may have gone
        return;
    }
    let _place = match admit() {
        Ok(place) => Some(place),
        Err(refused) => return refuse_for_now(answer, refused),
    };
    let now = shell.now();
    let engine = Some(EngineState::default());
    let sink = Sink::Detached(Box::new(Detached { engine, _place, ..Detached::default() }));
    let heartbeat = HeartbeatKind::WaitsDetached;
    let conn = shell.open_as(now, sink, peer, (wire, heartbeat), request.clone(), |place, actions| {
        protocol.begin(place, &sid_at(place), protocol.offers_upgrades(), request.as_ref(), actions)
    });
    shell.readers += 1;
    let keeper = tokio::task::spawn_local(keep(shared.clone(), conn)).abort_handle();
    if let Some(state) = shell.engine_state(conn) {
        state.keeper = Some(keeper);
    }
    let body = shell.take_packets(conn);
    let _ = answer.send(Ok(body)); // as above; then nobody knows the session, and it ends by silence
}

/// Waits until there are packets for a client, and gives them; over a limit not for long.
async fn poll(shared: Shared, id: ConnId, is_over: bool, mut answer: ExchangeAnswer) {
    let _fatal = Fatal;
    let begun = shared.borrow_mut().begin_request(id, |state| &mut state.is_polled, "two GETs at a time");
    if let Err(refused) = begun {
        return refuse(answer, refused);
    }
    shared.borrow_mut().polls(id);
    let charged = shared.borrow_mut().charge_poll(id);
    match charged {
        Ok(0) => {}
        Ok(delay_ms) => tokio::select! {
            biased;
            () = answer.closed() => return shared.borrow_mut().given_up(id),
            () = tokio::time::sleep(Duration::from_millis(delay_ms)) => {}
        },
        Err(error) => {
            if let Some(state) = shared.borrow_mut().engine_state(id) {
                state.is_polled = false;
            }
            return refuse_for_now(answer, error.into());
        }
    }
    let ready = poll_fn(|cx| shared.borrow_mut().poll_fetch(cx, id));
    tokio::select! {
        biased;
        () = ready => {}
        () = released(&shared, id) => {}
        () = tokio::time::sleep(TIME_OVER), if is_over => {}
        () = answer.closed() => return shared.borrow_mut().given_up(id),
    }
    let mut shell = shared.borrow_mut();
    let body = match shell.conn(id).map(|conn| &mut conn.sink) {
        None => Bytes::from_static(b"1"), // the session was removed meanwhile
        // Nothing more comes this way.
        Some(Sink::Socket(_)) => NOOP,
        Some(Sink::Detached(detached)) => {
            if let Some(state) = &mut detached.engine {
                state.is_polled = false;
            }
            match shell.take_packets(id) {
                body if body.is_empty() => NOOP,
                body => body,
            }
        }
    };
    if answer.send(Ok(body)).is_err() && shell.engine_state(id).is_some() {
        shell.given_up(id); // at this moment: its packets are gone, so the session does not go on
    }
}

/// A packet to close that is the last one of several.
const CLOSE_BEHIND: &[u8] = b"\x1e1\x1e";
/// The body that releases a GET.
const NOOP: Bytes = Bytes::from_static(b"6");

/// Returns when a GET is to be answered although no packet waits: its client has sent a probe, and goes on when its GET
/// has ended.
async fn released(shared: &Shared, id: ConnId) {
    let release = poll_fn(|_| match shared.borrow_mut().engine_state(id).and_then(|state| state.upgrade.release()) {
        Some(release) => Poll::Ready(release),
        None => Poll::Pending, // woken as the fetcher is, by the same task
    });
    if release.await == Release::Later {
        tokio::time::sleep(RELEASE_AGAIN).await;
    }
}

/// Refuses a request for which there is no room at the moment, in the form of the reference.
fn refuse_for_now(answer: ExchangeAnswer, refused: HttpRefusal) {
    let _ = answer.send(Err(refused.forbidden_in_engine())); // as below
}

fn refuse(answer: ExchangeAnswer, refused: Refused) {
    let _ = answer.send(Err(refused.into())); // the client may have gone
}

impl Shell {
    /// The state of a session that polls.
    fn engine_state(&mut self, id: ConnId) -> Option<&mut EngineState> {
        match &mut self.conn(id)?.sink {
            Sink::Detached(detached) => detached.engine.as_mut(),
            Sink::Socket(_) => None,
        }
    }

    /// Notes that a GET or a POST is under way. A second one of its kind ends the session.
    fn begin_request(
        &mut self,
        id: ConnId,
        is_under_way: fn(&mut EngineState) -> &mut bool,
        second: &'static str,
    ) -> Result<(), Refused> {
        let Some(state) = self.engine_state(id) else {
            // It has a socket by now, or it has ended since the request came.
            return Err(if self.conn(id).is_some() { Refused::BadRequest } else { Refused::SessionUnknown });
        };
        if std::mem::replace(is_under_way(state), true) {
            self.break_off(id, second);
            return Err(Refused::BadRequest);
        }
        Ok(())
    }

    /// A GET has come. The client's answer to a ping may stand behind other packets of its own.
    fn polls(&mut self, id: ConnId) {
        if self.engine_state(id).is_some_and(|state| state.is_posted || state.early_bytes > 0) {
            let now = self.now();
            self.act(now, Input::Alive(id));
        }
    }

    /// The client does not wait for the answer to its request: the session is lost.
    fn given_up(&mut self, id: ConnId) {
        let now = self.now();
        self.lost(now, id, &End::Gone(Loss::GivenUp), true);
    }

    /// The packets that wait, as a payload. They are gone from here. A packet to close stays if there are others:
    /// clients that find it behind a DISCONNECT in one payload take the connection for lost, and come back.
    fn take_packets(&mut self, id: ConnId) -> Bytes {
        let mut body = self.fetch(id, ANSWER_BYTES_MAX).concat();
        if body.ends_with(CLOSE_BEHIND) {
            body.truncate(body.len() - (CLOSE_BEHIND.len() - 1));
        }
        let now = self.now();
        self.fetched(now, id, body.len());
        body.pop(); // the separator behind the last packet
        body.into()
    }

    /// The client has broken the rules: the session is over at once. A GET that waits is answered by a packet to close.
    /// A WebSocket that the session has by now is closed in good order.
    fn break_off(&mut self, id: ConnId, why: &'static str) {
        let now = self.now();
        self.breach(now, id, Breach::Transport, why);
        if self.engine_state(id).is_some() {
            self.remove(id);
        }
    }

    /// The same for a client that was silent for too long: no GET will come for the last packets.
    pub(super) fn end_silent(&mut self, id: ConnId) {
        if self.engine_state(id).is_some() {
            self.remove(id);
        }
    }

    /// The client ends its session: a GET that waits is released.
    fn leave(&mut self, id: ConnId) {
        let now = self.now();
        if self.engine_state(id).is_some_and(|state| state.is_polled) {
            self.answer(id, crate::framing::Form::Text, b"6");
            self.begin_closing(now, id, &End::Left(None));
            let finally = self.is_final(id, true);
            return self.act(now, Input::Closed { conn: id, finally });
        }
        self.lost(now, id, &End::Left(None), true);
    }

    /// The requests of a session of Engine.IO look at it anew: it is resumed, or ends.
    pub(super) fn wake_engine(&mut self, id: ConnId) {
        if let Some(state) = self.engine_state(id) {
            state.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::shell_of;
    use super::super::{Links, shard_id};
    use super::*;
    use crate::config::{Config, SocketIoConfig};
    use crate::protocol::exchange::{Posted, SessionPlace};
    use crate::protocol::socketio::{Asks, Namespaces, SocketIo};
    use fanfare_hub::WireId;
    use std::sync::Arc;
    use tokio::sync::oneshot;

    /// Runs a test with a session that polls.
    fn with_session(test: impl AsyncFnOnce(Shared, Sid)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        tokio::task::LocalSet::new().block_on(&runtime.expect("a runtime"), async {
            let config = Config::default();
            let asks = Asks { guard: false, calls: false };
            let namespaces = Namespaces::new(&[], Arc::new(crate::embed::socketio::handler::Registry::default()));
            let protocol = SocketIo::new(&SocketIoConfig::default(), &config.limits, asks, namespaces);
            let links = Links::new(shard_id(0), Vec::new());
            let shared = shell_of(config, Arc::new(protocol.clone()), 1, links);
            let admit = Box::new(|| Ok(Box::new(()) as SessionPlace));
            let start = EngineStart { wire: WireId(0), protocol, peer: Peer::Unknown, request: None, admit };
            let (to, opened) = oneshot::channel();
            take(&shared, EngineRequest::Handshake(Box::new(start)), None, to);
            assert!(opened.await.is_ok_and(|answer| answer.is_ok()));
            let sid = sid_at(&shared.borrow().place);
            let sid = open_sid(&shared.borrow().place, &sid).expect("an id of this node");
            test(shared, sid).await;
        });
    }

    fn polls(shared: &Shared, sid: Sid) -> oneshot::Receiver<Result<Bytes, HttpRefusal>> {
        let (to, answered) = oneshot::channel();
        take(shared, EngineRequest::Session(sid, EngineAct::Poll { is_over: false }), None, to);
        answered
    }

    /// A shard that stops waits until everything that was taken in is answered: nothing more comes in meanwhile.
    #[test]
    fn a_shard_that_is_closing_takes_in_no_packet() {
        with_session(async |shared, sid| {
            shared.borrow_mut().stop_intake();
            let (to, mut answered) = oneshot::channel();
            let post = EngineAct::Post(Posted::Whole(Bytes::from_static(b"40")));
            take(&shared, EngineRequest::Session(sid, post), None, to);
            tokio::task::yield_now().await;
            assert!(answered.try_recv().is_err(), "it waits");
            assert_eq!(shared.borrow().counters.wires[0].messages_in, 0);
            {
                let mut shell = shared.borrow_mut();
                let now = shell.now();
                shell.send_away(now);
            }
            assert!(answered.await.is_ok_and(|answer| answer.is_ok()), "it ends with its session");
            assert_eq!(shared.borrow().counters.wires[0].messages_in, 0);
        });
    }

    /// The packets that it was to have are lost: a client that came back would miss them and not know.
    #[test]
    fn a_session_ends_when_its_get_is_given_up_at_the_moment_of_its_answer() {
        with_session(async |shared, sid| {
            for (is_given_up, goes_on) in [(false, true), (true, false)] {
                shared.borrow_mut().append(sid.conn, Bytes::from_static(b"2\x1e"));
                let answered = Some(polls(&shared, sid)).filter(|_| !is_given_up);
                tokio::task::yield_now().await;
                if let Some(answered) = answered {
                    assert!(answered.await.is_ok_and(|answer| answer.is_ok_and(|body| body == "2")));
                }
                assert_eq!(shared.borrow_mut().conn(sid.conn).is_some(), goes_on, "given up: {is_given_up}");
            }
        });
    }

    /// The answer to such a GET holds no packets.
    #[test]
    fn a_session_that_has_a_websocket_by_now_goes_on_when_its_last_get_is_given_up() {
        with_session(async |shared, sid| {
            let waits = polls(&shared, sid);
            tokio::task::yield_now().await;
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let address = listener.local_addr().expect("bound");
            let (near, _far) = tokio::join!(tokio::net::TcpStream::connect(address), listener.accept());
            let (_reader, writer) = crate::transport::socket::Socket::from(near.expect("a listener")).into_split();
            if let Some(conn) = shared.borrow_mut().conn(sid.conn)
                && let Sink::Detached(mut detached) = std::mem::replace(&mut conn.sink, Sink::Socket(writer))
            {
                wake(&mut detached.fetcher);
            }
            drop(waits);
            tokio::task::yield_now().await;
            assert!(shared.borrow_mut().conn(sid.conn).is_some());
        });
    }
}
