//! Streams: connections that carry messages down in the body of an HTTP answer.
//!
//! In: a [`StreamRequest`], with the raw socket where it was the first of its connection over HTTP/1, else with a
//! place for the answer, whose body hyper writes. Out: an answer, and a connection of this shard. Whether the client
//! is let in is the hub's decision, so the connection begins without a socket ([`Sink::Detached`]), and its answer
//! begins with the hub's first replies.
//!
//! `EventSource` gives up for good at any status but 200, and comes back after a stream that has ended. So a refusal
//! that will not change is an answer with its status, and one that will pass is a stream that ends at once and says
//! when to come back.
//!
//! On the raw socket the connection then is like any other: a [`Reader`], writes by the flusher. hyper gets its body
//! piece by piece; a piece leaves the outbox when hyper has taken the one before, so the outbox is full, and drains, as
//! that of a socket does.

use super::accept::{last_words, refuse};
use super::detached::Detached;
use super::ends::{End, Loss};
use super::read::Reader;
use super::{Fatal, Shared, Shell, Sink, wake};
use crate::framing::Wire;
use crate::protocol::events::retry_ms;
use crate::protocol::piece::{Giver, pieces};
use crate::protocol::stream::{Bridged, StreamAnswer, StreamBody, StreamRequest};
use crate::refusal::HttpRefusal;
use crate::transport::pace::FORGET_BYTES;
use crate::transport::socket::Socket;
use crate::watch::Watch;
use bytes::{Bytes, BytesMut};
use fanfare_hub::{ConnId, Disconnect, Push, Reply, ReplyBody, WireId};
use fanfare_wire::admission::{Admission, Opening};
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::oneshot;

/// A body goes to hyper in pieces of about this length.
const PIECE_BYTES: usize = 16 << 10;

/// Its request has gone.
const GIVEN_UP: End = End::Gone(Loss::GivenUp);

/// The outcome of a request for a stream.
enum Opened {
    /// The connection goes on, or says its last words.
    Stream(ConnId),
    /// For a while.
    NotNow,
    Refused(HttpRefusal),
    /// The client has gone.
    Gone,
}

/// A stream that waits for its verdict is counted, so that a drain waits for it.
struct Waits(Shared);

impl Waits {
    fn new(shared: &Shared) -> Self {
        shared.borrow_mut().readers += 1;
        Waits(shared.clone())
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.borrow_mut().readers -= 1;
    }
}

/// Opens a stream on the socket by which its request came; `rest` came behind its head.
pub(super) async fn serve(shared: Shared, socket: Socket, watch: Arc<Watch>, request: StreamRequest, rest: Vec<u8>) {
    let _fatal = Fatal;
    let over = socket.place().is_some();
    let (wire, answer, opened) = if over {
        (request.wire, request.answer, Opened::NotNow)
    } else {
        let (wire, answer, id, _waits) = begin(&shared, request);
        let opened = tokio::select! {
            biased;
            opened = verdict(&shared, id) => opened,
            () = gone(&socket) => Opened::Gone,
        };
        match opened {
            Opened::Stream(id) => {
                watch.requests.answered(200, None);
                return stream(&shared, socket, &answer, (id, wire), rest).await;
            }
            Opened::Gone => {
                let mut shell = shared.borrow_mut();
                let now = shell.now();
                return shell.lost(now, id, &GIVEN_UP, true);
            }
            opened => (wire, answer, opened),
        }
    };
    match opened {
        Opened::Refused(refused) => {
            let refused = answer.refusal(refused);
            watch.requests.refused(&refused);
            refuse(&shared, socket, refused).await;
        }
        Opened::NotNow => {
            watch.requests.answered(200, None);
            let mut bytes = answer.head();
            bytes.extend_from_slice(&shared.borrow_mut().not_now(wire));
            if over {
                shared.borrow_mut().counters.ended(Disconnect::Overloaded.row().word);
            }
            last_words(&shared, socket, &bytes).await;
        }
        Opened::Stream(_) | Opened::Gone => {}
    }
}

/// The connection has its socket from now on.
async fn stream(
    shared: &Shared,
    mut socket: Socket,
    answer: &StreamAnswer,
    (id, wire): (ConnId, WireId),
    rest: Vec<u8>,
) {
    let write_timeout = shared.borrow().config.write_timeout;
    let head = answer.head();
    let written = tokio::time::timeout(write_timeout, socket.write_all(&head)).await;
    let mut shell = shared.borrow_mut();
    let loss = match written {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.into()),
        Err(_) => Some(Loss::Stalled),
    };
    if let Some(loss) = loss {
        let now = shell.now();
        return shell.lost(now, id, &End::Gone(loss), true);
    }
    // The peer sends nothing by itself, and one that has vanished acknowledges nothing.
    socket.give_up_after(write_timeout);
    let (half, writer) = socket.into_split();
    let Wire { framing, .. } = shell.wire(wire);
    let deframer = framing.deframer(0);
    shell.counters.wire(wire).bytes_in += rest.len() as u64;
    shell.attach_socket(id, writer);
    shell.readers += 1;
    drop(shell);
    let stash = BytesMut::from(&rest[..]);
    tokio::task::spawn_local(Reader { shell: shared.clone(), half: Some(half), id, deframer, stash });
}

/// Where the answer of a stream whose body hyper writes goes.
pub(crate) type BridgedAnswer = oneshot::Sender<Result<Bridged, HttpRefusal>>;

/// Opens a stream whose body hyper writes. It is `counted` until it ends.
pub(crate) fn bridge(shared: &Shared, request: StreamRequest, to: BridgedAnswer, counted: impl Sized + 'static) {
    let _fatal = Fatal;
    let (wire, answer, id, waits) = begin(shared, request);
    let shared = shared.clone();
    tokio::task::spawn_local(async move {
        let _fatal = Fatal;
        let _counted = (waits, counted);
        // Boxed: it is over before the stream goes on, and larger.
        if let Some(giver) = Box::pin(bridged(&shared, wire, answer, id, to)).await {
            pump(&shared, id, &giver).await;
        }
    });
}

/// Answers the request for a stream. `None`: it does not go on.
async fn bridged(
    shared: &Shared,
    wire: WireId,
    answer: StreamAnswer,
    id: ConnId,
    mut to: BridgedAnswer,
) -> Option<Giver> {
    let opened = tokio::select! {
        biased;
        opened = verdict(shared, id) => opened,
        () = to.closed() => Opened::Gone,
    };
    let (giver, taker) = pieces();
    let bridged = Bridged { headers: answer.headers(), body: StreamBody(taker) };
    match opened {
        Opened::Gone => {}
        Opened::Refused(refused) => {
            let _ = to.send(Err(answer.refusal(refused))); // the client may have gone
            return None;
        }
        Opened::NotNow => {
            giver.give(shared.borrow_mut().not_now(wire));
            let _ = to.send(Ok(bridged)); // as above
            return None;
        }
        Opened::Stream(_) if to.send(Ok(bridged)).is_ok() => return Some(giver),
        Opened::Stream(_) => {}
    }
    let mut shell = shared.borrow_mut();
    let now = shell.now();
    shell.lost(now, id, &GIVEN_UP, true);
    None
}

/// Answers a request on a connection over a limit: its client comes back later.
pub(crate) fn turn_away(shared: &Shared, request: StreamRequest, to: BridgedAnswer) {
    let (giver, taker) = pieces();
    let mut shell = shared.borrow_mut();
    giver.give(shell.not_now(request.wire));
    shell.counters.ended(Disconnect::Overloaded.row().word);
    let bridged = Bridged { headers: request.answer.headers(), body: StreamBody(taker) };
    let _ = to.send(Ok(bridged)); // the client may have gone
}

/// Gives hyper the frames that wait for a connection, until one of them ends.
async fn pump(shared: &Shared, id: ConnId, giver: &Giver) {
    loop {
        let waits = poll_fn(|cx| shared.borrow_mut().poll_fetch(cx, id));
        tokio::select! {
            biased;
            () = waits => {}
            () = giver.closed() => break,
        }
        if shared.borrow_mut().conn(id).is_none() {
            return; // it was ended, and its last words are written
        }
        if giver.room().await.is_err() {
            break;
        }
        let mut shell = shared.borrow_mut();
        let piece = shell.fetch(id, PIECE_BYTES).concat();
        let now = shell.now();
        let len = piece.len();
        if len > 0 {
            giver.give(piece.into());
        }
        shell.fetched(now, id, len);
    }
    let mut shell = shared.borrow_mut();
    let now = shell.now();
    shell.lost(now, id, &GIVEN_UP, false);
}

/// Makes the connection of a stream, which waits for its verdict.
fn begin(shared: &Shared, request: StreamRequest) -> (WireId, StreamAnswer, ConnId, Waits) {
    let StreamRequest { wire, start, answer } = request;
    let waits = Waits::new(shared);
    let opening = Some(Opening::new(start.admitted_by()));
    let mut shell = shared.borrow_mut();
    let now = shell.now();
    let sink = Sink::Detached(Box::new(Detached { opening, ..Detached::default() }));
    let (peer, heartbeat, info) = (start.peer, start.heartbeat(), start.request.clone());
    let id = shell.open_as(now, sink, peer, (wire, heartbeat), info, |place, actions| start.begin(place, actions));
    drop(shell);
    (wire, answer, id, waits)
}

/// Waits until it is decided whether the client of a connection is let in. One that is not has no connection any more.
async fn verdict(shared: &Shared, id: ConnId) -> Opened {
    let verdict = poll_fn(|cx| shared.borrow_mut().poll_verdict(cx, id)).await;
    let Some(error) = verdict.refusal() else { return Opened::Stream(id) };
    let mut shell = shared.borrow_mut();
    let now = shell.now();
    shell.lost(now, id, &End::Refused(error.code.row().word), true);
    match error.code.row().retryable {
        true => Opened::NotNow,
        false => Opened::Refused(error.into()),
    }
}

/// Returns when the peer has gone, or sends more than it may.
async fn gone(socket: &Socket) {
    let mut ignored = 0;
    let mut buffer = [0; 512];
    while ignored <= FORGET_BYTES && socket.readable().await.is_ok() {
        match socket.try_read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => ignored += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

impl Shell {
    /// A reply of the hub may decide about a stream that is opening.
    #[inline]
    pub(super) fn judge_opening(&mut self, id: ConnId, reply: &Reply) {
        if let Some(Sink::Detached(detached)) = self.conn(id).map(|conn| &mut conn.sink)
            && let Some(opening) = &mut detached.opening
        {
            opening.judge(&reply.body);
            wake(&mut detached.fetcher);
        }
        if let ReplyBody::Connected(connected) = &reply.body {
            self.forget_token(id);
            self.poll_session(id, connected);
        }
    }

    /// The end of a connection decides about a stream that is opening.
    pub(super) fn end_opening(&mut self, id: ConnId, reason: Disconnect) {
        if let Some(Sink::Detached(detached)) = self.conn(id).map(|conn| &mut conn.sink)
            && let Some(opening) = &mut detached.opening
        {
            opening.end(reason);
            wake(&mut detached.fetcher);
        }
    }

    pub(super) fn poll_verdict(&mut self, cx: &mut Context<'_>, id: ConnId) -> Poll<Admission> {
        let Some(conn) = self.conn(id) else { return Poll::Ready(Admission::Ended(Disconnect::Internal)) };
        let Sink::Detached(detached) = &mut conn.sink else { return Poll::Ready(Admission::Admitted) };
        match detached.opening.as_mut().map(Opening::take) {
            None => Poll::Ready(Admission::Admitted),
            Some(Some(verdict)) => {
                detached.opening = None;
                Poll::Ready(verdict)
            }
            Some(None) => {
                detached.fetcher = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// The body of a stream that ends at once: when its client should come back, in its protocol's words.
    fn not_now(&mut self, wire: WireId) -> Bytes {
        let now = self.now();
        let push = Push::Disconnect { reason: Disconnect::Overloaded, delay_ms: retry_ms() };
        let (mut said, mut bytes) = (Vec::new(), Vec::new());
        let Wire { protocol, framing } = self.wire(wire);
        if let Ok(Some(form)) = super::form(protocol.encode_push(&push, now, &mut said)) {
            framing.put(&mut bytes, form, &said);
        }
        bytes.extend_from_slice(&framing.end(Disconnect::Overloaded.code(), ""));
        bytes.into()
    }

    /// Gives a connection the socket that it waited for: it is written to by the flusher from now on.
    fn attach_socket(&mut self, id: ConnId, socket: impl Into<Sink>) {
        let Some(conn) = self.conn(id) else { return };
        conn.sink = socket.into();
        if conn.closing || !conn.outbox.is_empty() {
            self.is_dirty(id);
        }
    }
}
