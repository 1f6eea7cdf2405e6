//! Polls and sends: a client's connection without a socket, whose messages its polls take, and its commands, which
//! requests of their own bring. Both may land on any shard.
//!
//! In: an [`Exchange`] on the shard where its request landed. A poll goes on as an [`Errand`] to the shard that has the
//! session, in the queue of the messages between shards: so it finds a session that has just gone there. Commands go by
//! the hub ([`Shell::forward`]). A `connect` whose attempt has a name goes to the shard that the name selects: so a
//! repeat finds the connection of the first one. Out: the body of the answer, or a refusal.
//!
//! The decisions are the hub's: [`PollTable`](fanfare_hub::PollTable) says where a request goes on, [`Polls`] numbers
//! the answers. The bytes of an answer stay in the outbox until it is acknowledged, so a lost answer is given again,
//! and what a client has not acknowledged is bounded with the rest of its outbox.

use super::detached::{Detached, keep};
use super::ends::{End, Loss};
use super::engine::EngineErrand;
use super::engine::upgrade::EngineUpgrade;
use super::{Fatal, Shared, Shell, Sink, wake};
use crate::http::routes::overloaded;
use crate::protocol::exchange::{Exchange, ExchangeAnswer, PollConnect, PollRequest, SendCommands};
use crate::protocol::native::{open_ticket, renew_ticket};
use crate::protocol::{Message, Place};
use crate::refusal::HttpRefusal;
use crate::transport::admission::{Guest, TIME_OVER};
use bytes::Bytes;
use fanfare_hub::{
    Attempt, Bucket, ClientId, ConnId, Connected, Disconnect, Error, ErrorCode, HeartbeatKind, Input, Now, PollRoute,
    Polled, Polls, Resume, SendRequest, ShardId, attempt_shard,
};
use fanfare_wire::admission::{Admission, AdmissionReply, Opening};
use fanfare_wire::native::requests::{WAIT_MS_MAX, encode_poll_answer, encode_send_answer};
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

/// An answer holds no more bytes of messages, but for its first one.
const ANSWER_BYTES_MAX: usize = 256 << 10;
/// A poll is a sign of life, as this is.
const ALIVE: &str = r#"{"type":"pong"}"#;
/// The advice for a client without a session.
const CONNECT: &str = r#"connect again: POST {"type":"connect","id":1} to /v1/poll, with your token if you have one"#;

/// The state of a connection whose messages are polled.
#[derive(Default)]
pub(super) struct PollState {
    polls: Polls,
    /// Set once it has a session.
    client: Option<ClientId>,
    attempt: Option<Attempt>,
    /// The request that is answered when the client is let in, or is not.
    connect: Option<ExchangeAnswer>,
}

/// A request on its way to another shard.
pub(crate) enum Errand {
    /// The guest came over a connection that is over a limit: no session is opened for it.
    Connect(Box<PollConnect>, Option<Guest>, ExchangeAnswer),
    Poll(PollErrand),
    Engine(EngineErrand, ExchangeAnswer),
    /// A WebSocket for a session of Engine.IO.
    Upgrade(Box<EngineUpgrade>),
}

/// A poll whose ticket is valid.
pub(crate) struct PollErrand {
    to: Resume,
    ack: u64,
    wait_ms: Option<u64>,
    /// So many shards did not have the session any more.
    hops: u8,
    answer: ExchangeAnswer,
}

/// Takes a request in that has landed on this shard. `guest`: over a connection that is over a limit, which serves
/// sessions that exist and opens none.
pub(crate) fn take(shared: &Shared, exchange: Exchange, guest: Option<&Guest>, answer: ExchangeAnswer) {
    let place = shared.borrow().place.clone();
    match exchange {
        Exchange::Connect(connect) => run(shared, Errand::Connect(connect, guest.cloned(), answer)),
        Exchange::Engine(request) => super::engine::take(shared, request, guest, answer),
        Exchange::Poll(PollRequest { ticket, ack, wait_ms }) => {
            let now = shared.borrow().now();
            match open_ticket(&place, now, &ticket) {
                Some(_) if let Some(guest) = guest.filter(|guest| !guest.enter()) => {
                    refuse(answer, overloaded(&guest.over));
                }
                Some(claims) => {
                    let to = claims.resume();
                    let over_ms = guest.map(|_| TIME_OVER.as_millis() as u64);
                    let wait_ms = over_ms.map(|ms| wait_ms.map_or(ms, |wait_ms| wait_ms.min(ms))).or(wait_ms);
                    run(shared, Errand::Poll(PollErrand { to, ack, wait_ms, hops: 0, answer }));
                }
                None => refuse(answer, no_ticket()),
            }
        }
        Exchange::Send(send) => {
            let guest = guest.cloned();
            drop(tokio::task::spawn_local(bring(shared.clone(), place, send, guest, answer)));
        }
    }
}

/// Does an errand on this shard, or sends it on.
pub(super) fn run(shared: &Shared, errand: Errand) {
    match errand {
        Errand::Connect(connect, guest, answer) => {
            let mut shell = shared.borrow_mut();
            let (me, shards) = (shell.links.me(), shell.links.count());
            let to = connect.attempt.map_or(me, |attempt| attempt_shard(&attempt, shards));
            if to != me {
                return shell.pass_on(to, Errand::Connect(connect, guest, answer));
            }
            drop(shell);
            begin(shared, *connect, guest, answer);
        }
        Errand::Engine(errand, answer) => super::engine::run(shared, errand, answer),
        Errand::Upgrade(upgrade) => super::engine::upgrade::arrive(shared, *upgrade),
        Errand::Poll(mut poll) => {
            let mut shell = shared.borrow_mut();
            match shell.route(&poll) {
                PollRoute::Conn(id) => {
                    drop(shell);
                    let waits = wait(shared.clone(), id, poll.ack, poll.wait_ms, poll.answer);
                    tokio::task::spawn_local(waits);
                }
                PollRoute::Shard(next) => {
                    poll.hops += 1;
                    shell.pass_on(next, Errand::Poll(poll));
                }
                PollRoute::NotPolled => refuse(poll.answer, elsewhere()),
                PollRoute::Gone => refuse(poll.answer, gone()),
            }
        }
    }
}

/// Opens a connection for a `connect`, unless this attempt has one.
fn begin(shared: &Shared, connect: PollConnect, guest: Option<Guest>, answer: ExchangeAnswer) {
    let PollConnect { wire, start, attempt, admit } = connect;
    let mut shell = shared.borrow_mut();
    if let Some(id) = shell.polls.repeated(attempt.as_ref())
        && let Some(state) = shell.poll_state(id)
    {
        if let Some(guest) = guest.filter(|guest| !guest.enter()) {
            return refuse(answer, overloaded(&guest.over));
        }
        // It is being decided: the earlier request gave up, and this one gets the answer.
        if state.connect.is_some() {
            if let Some(earlier) = state.connect.replace(answer) {
                refuse(
                    earlier,
                    HttpRefusal::because(409, "this `connect` was sent again: the later request is answered"),
                );
            }
            return;
        }
        let start = state.polls.start();
        drop(shell);
        tokio::task::spawn_local(wait(shared.clone(), id, start, Some(0), answer));
        return;
    }
    if let Some(guest) = guest {
        return refuse(answer, overloaded(&guest.over));
    }
    let _place = match admit() {
        Ok(place) => Some(place),
        Err(refused) => return refuse(answer, refused),
    };
    let now = shell.now();
    let state = PollState { attempt, connect: Some(answer), ..PollState::default() };
    let opening = Some(Opening::new(AdmissionReply::Connected));
    let sink = Sink::Detached(Box::new(Detached { opening, polled: Some(state), _place, ..Detached::default() }));
    let (peer, info) = (start.peer, start.request.clone());
    let id = shell
        .open_as(now, sink, peer, (wire, HeartbeatKind::Polls), info, |place, actions| start.begin(place, actions));
    shell.polls.opened(id, attempt);
    shell.readers += 1;
    tokio::task::spawn_local(keep(shared.clone(), id));
    tokio::task::spawn_local(let_in(shared.clone(), id));
}

/// Waits until it is decided whether a client is let in, and answers its `connect`.
async fn let_in(shared: Shared, id: ConnId) {
    let _fatal = Fatal;
    let verdict: Admission = poll_fn(|cx| shared.borrow_mut().poll_verdict(cx, id)).await;
    let (answer, is_named, start) = {
        let mut shell = shared.borrow_mut();
        let Some(state) = shell.poll_state(id) else { return };
        (state.connect.take(), state.attempt.is_some(), state.polls.start())
    };
    let Some(answer) = answer else { return };
    let refused = verdict.refusal();
    // Without a name nobody can come for this session: its request has gone.
    if refused.is_some() || answer.is_closed() && !is_named {
        let mut shell = shared.borrow_mut();
        let now = shell.now();
        let word = refused.as_ref().map(|error| error.code.row().word);
        shell.lost(now, id, &word.map_or(End::Gone(Loss::GivenUp), End::Refused), true);
    }
    match refused.map(HttpRefusal::from) {
        Some(refused) => refuse(answer, refused),
        None => wait(shared, id, start, Some(0), answer).await,
    }
}

/// Answers a poll of a connection of this shard.
async fn wait(shared: Shared, id: ConnId, ack: u64, wait_ms: Option<u64>, mut answer: ExchangeAnswer) {
    let _fatal = Fatal;
    let charged = shared.borrow_mut().charge_poll(id);
    match charged {
        Ok(0) => {}
        Ok(delay_ms) => tokio::select! {
            biased;
            () = answer.closed() => return, // nothing was taken
            () = tokio::time::sleep(Duration::from_millis(delay_ms)) => {}
        },
        Err(error) => return refuse(answer, error.into()),
    }
    let (turn, wait_ms) = {
        let mut shell = shared.borrow_mut();
        let now = shell.now();
        shell.act(now, Input::Alive(id));
        match shell.begin_poll(now, id, ack) {
            None => return refuse(answer, gone()),
            Some(Polled::Take { turn, acknowledged }) => {
                // One that waits already is answered empty.
                if let Some(Sink::Detached(detached)) = shell.conn(id).map(|conn| &mut conn.sink) {
                    wake(&mut detached.fetcher);
                }
                shell.fetched(now, id, acknowledged);
                shell.message(now, id, Message::Text(ALIVE));
                let ping_ms = shell.poll_interval_ms(id);
                (turn, wait_ms.unwrap_or(WAIT_MS_MAX).min(ping_ms))
            }
            Some(Polled::Again { n, bytes }) => {
                shell.message(now, id, Message::Text(ALIVE));
                return give(answer, n, &shell.front(id, bytes));
            }
            Some(Polled::Late) => return give(answer, ack, &[]),
            Some(Polled::Ahead { last }) => {
                let reason = format!("`ack` is {ack}, and the last answer of this session is {last}");
                return refuse(answer, HttpRefusal::because(400, reason));
            }
        }
    };
    let ready = poll_fn(|cx| {
        let mut shell = shared.borrow_mut();
        match shell.poll_state(id) {
            Some(state) if state.polls.is_turn(turn) => shell.poll_fetch(cx, id),
            _ => Poll::Ready(()),
        }
    });
    tokio::select! {
        biased;
        () = ready => {}
        () = answer.closed() => return, // nothing was taken
        () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {}
    }
    let mut shell = shared.borrow_mut();
    let messages = shell.fetch(id, ANSWER_BYTES_MAX).concat();
    if shell.poll_state(id).is_none() {
        return refuse(answer, gone());
    }
    let now = shell.now();
    let Some(n) = shell.number_answer(now, id, turn, messages.len()) else { return give(answer, ack, &[]) };
    give(answer, n, &messages);
    // A server that stops accepts no connection for another poll: it does not wait for the acknowledgement.
    let is_last = |conn: &mut super::Connection| conn.closing && conn.outbox.bytes() == messages.len();
    if shell.draining && shell.conn(id).is_some_and(is_last) {
        let now = shell.now();
        shell.fetched(now, id, messages.len());
    }
}

/// Gives commands to their session, and their answers to the request.
async fn bring(shared: Shared, place: Place, send: SendCommands, guest: Option<Guest>, answer: ExchangeAnswer) {
    let _fatal = Fatal;
    let SendCommands { ticket, n, requests, bytes } = send;
    let (claims, now, received) = {
        let mut shell = shared.borrow_mut();
        let now = shell.now();
        let Some(claims) = open_ticket(&place, now, &ticket) else { return refuse(answer, no_ticket()) };
        if let Some(guest) = guest.filter(|guest| !guest.enter()) {
            return refuse(answer, overloaded(&guest.over));
        }
        let send = SendRequest { n, requests, bytes };
        (claims, now, shell.forward(now, claims.resume(), send))
    };
    let Ok(done) = received.await else { return }; // the shard ends
    match done {
        Ok(replies) => {
            let mut body = Vec::new();
            encode_send_answer(&mut body, n, &replies, renew_ticket(&place, now, claims).as_deref());
            let _ = answer.send(Ok(body.into())); // the client may have gone
        }
        Err(error) if error.code == ErrorCode::NotConnected => refuse(answer, gone()),
        Err(error) if error.code == ErrorCode::Unknown => refuse(answer, HttpRefusal::from(error).for_good()),
        Err(error) => refuse(answer, error.into()),
    }
}

fn give(answer: ExchangeAnswer, n: u64, messages: &[u8]) {
    let mut body = Vec::with_capacity(messages.len() + 32);
    encode_poll_answer(&mut body, n, messages);
    let _ = answer.send(Ok(Bytes::from(body))); // the client may have gone; then it asks for this answer again
}

fn refuse(answer: ExchangeAnswer, refused: HttpRefusal) {
    let _ = answer.send(Err(refused)); // as above
}

fn no_ticket() -> HttpRefusal {
    HttpRefusal::because(401, format!("the ticket is not of this server, or expired; {CONNECT}"))
}

fn gone() -> HttpRefusal {
    let message = format!("the session of this ticket is over, or has no connection; {CONNECT}");
    Error::new(ErrorCode::NotConnected, message).into()
}

fn elsewhere() -> HttpRefusal {
    let message = "this session has a connection that is not polled; to poll it, POST a `connect` with its ticket and \
                   `page` to /v1/poll";
    Error::new(ErrorCode::AlreadyConnected, message).into()
}

impl Shell {
    /// Sends an errand to another shard, behind all messages to it.
    pub(super) fn pass_on(&mut self, shard: ShardId, errand: Errand) {
        self.links.errand(shard, errand, self.counters.stamped());
        wake(&mut self.flusher);
    }

    /// The state of a polled connection.
    fn poll_state(&mut self, id: ConnId) -> Option<&mut PollState> {
        match &mut self.conn(id)?.sink {
            Sink::Detached(detached) => detached.polled.as_mut(),
            Sink::Socket(_) => None,
        }
    }

    /// How long the answer to a poll waits at least, in ms. One for a connection that is gone is not slowed down.
    pub(super) fn charge_poll(&mut self, id: ConnId) -> Result<u64, Error> {
        let now = self.now();
        let Some(mut spent) = self.polls_spent(id).copied() else { return Ok(0) };
        let charged = self.hub.charge_poll(now, &mut spent);
        if let Some(of_session) = self.polls_spent(id) {
            *of_session = spent;
        }
        charged
    }

    fn polls_spent(&mut self, id: ConnId) -> Option<&mut Bucket> {
        match &mut self.conn(id)?.sink {
            Sink::Detached(detached) => Some(&mut detached.polls_spent),
            Sink::Socket(_) => None,
        }
    }

    fn begin_poll(&mut self, now: Now, id: ConnId, ack: u64) -> Option<Polled> {
        let state = self.poll_state(id)?;
        let (signals, client) = (state.polls.signals(), state.client);
        let polled = state.polls.poll(ack);
        if let (Polled::Take { .. }, Some(client)) = (polled, client)
            && signals > 0
        {
            self.act(now, Input::PollAcknowledged { client, conn: id });
        }
        Some(polled)
    }

    /// The number of the answer to a poll that has waited, if it gets these bytes.
    fn number_answer(&mut self, now: Now, id: ConnId, turn: u64, bytes: usize) -> Option<u64> {
        let state = self.poll_state(id)?;
        let number = state.polls.answer(turn, bytes)?;
        let (signals, client) = (state.polls.signals(), state.client);
        if let Some(client) = client.filter(|_| signals > 0) {
            self.act(now, Input::PollAnswered { client, conn: id, number, signals });
        }
        Some(number)
    }

    /// The last message for a polled connection is a signal for its client alone.
    pub(super) fn poll_directed(&mut self, id: ConnId) {
        if self.poll_state(id).is_none() {
            return;
        }
        if let Some(wire) = self.conn(id).map(|conn| conn.wire) {
            self.uncork(wire);
        }
        let bytes = self.conn(id).map_or(0, |conn| conn.outbox.bytes());
        if let Some(state) = self.poll_state(id) {
            state.polls.directed(bytes);
        }
    }

    /// A client that polls this often is not taken for gone.
    fn poll_interval_ms(&mut self, id: ConnId) -> u64 {
        let Some(wire) = self.conn(id).map(|conn| conn.wire) else { return 0 };
        match self.wire(wire).protocol.heartbeat_ms() {
            0 => WAIT_MS_MAX,
            ms => u64::from(ms),
        }
    }

    /// The first bytes that wait for a connection, in whole frames.
    fn front(&mut self, id: ConnId, bytes: usize) -> Vec<u8> {
        let mut front = self.fetch(id, bytes).concat();
        front.truncate(bytes);
        front
    }

    fn route(&self, poll: &PollErrand) -> PollRoute {
        let whereabouts = self.hub.whereabouts(poll.to.client);
        self.polls.route(poll.to, poll.hops, whereabouts, self.links.me(), self.links.count())
    }

    /// A polled connection has a session.
    pub(super) fn poll_session(&mut self, id: ConnId, connected: &Connected) {
        let client = connected.client;
        if let Some(state) = self.poll_state(id) {
            state.client = Some(client);
            state.polls = Polls::of_incarnation(connected.incarnation);
            self.polls.connected(id, client);
        }
    }

    /// A polled connection is over.
    pub(super) fn forget_polls(&mut self, id: ConnId, state: PollState) {
        let PollState { client, attempt, connect, .. } = state;
        self.polls.removed(id, client, attempt.as_ref());
        if let Some(answer) = connect {
            refuse(answer, HttpRefusal::because(503, Disconnect::Internal.row().meaning));
        }
    }
}
