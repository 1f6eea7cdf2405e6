//! POSTs of a session of Engine.IO: the packets of its client are taken in.
//!
//! In: the body of a POST, or a body that is still coming. Out: its packets, one by one, for the conversation of the
//! session; then the answer. Packets wait while the hub has paused the connection, or handlers have not caught up with
//! it. Where the client goes over to a WebSocket, its POST is answered before that: such a client does not poll until
//! the answer comes, so nothing would make room. Where the client does more than its rates allow, its POST is answered
//! too: clients and proxies give up requests that take longer than some seconds, and would lose the rest. Packets that
//! come after those of an early answer wait for them, no matter by which transport they come. The POSTs that are held
//! in this way cost no more bytes together than one POST may have, and the next POST waits for its answer; one more is
//! held where the client has said its `5` meanwhile. The packets of a POST that was answered are no sign of life any
//! more: their client may have gone since. Its GETs are.
//!
//! Every POST is answered: when its packets are taken in, when its session ends, or when its client goes over. A shard
//! that is *closing* takes in no packet.

use super::super::ends::End;
use super::super::{Fatal, Shared, Shell, Sink, wake};
use super::{EngineState, refuse};
use crate::protocol::Message;
use crate::protocol::exchange::{ExchangeAnswer, Posted};
use bytes::Bytes;
use fanfare_hub::{ConnId, Input};
use fanfare_wire::engineio::{Packet, Refused, SEPARATOR};
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::oneshot::{self, error::RecvError};

/// Ends when the packets of a POST that was answered early are taken in.
pub(super) type Earlier = oneshot::Receiver<Infallible>;

/// After so many packets of a POST others have their turn.
const PACKETS_AT_ONCE: usize = 256;
/// A POST that is held costs so many bytes besides its body, for its task.
const POST_COST_BYTES: usize = 8 << 10;

/// Takes in the packets of a client.
pub(super) async fn post(shared: Shared, id: ConnId, posted: Posted, answer: ExchangeAnswer) {
    let _fatal = Fatal;
    let begun = {
        let mut shell = shared.borrow_mut();
        match shell.engine_state(id) {
            Some(state) if state.goes_over => Err(Refused::BadRequest),
            _ => shell.begin_request(id, |state| &mut state.is_posted, "two POSTs at a time"),
        }
    };
    if let Err(refused) = begun {
        return refuse(answer, refused);
    }
    let body = match posted {
        Posted::Whole(body) => body,
        Posted::Coming(mut coming) => match arrived(&shared, id, &mut coming).await {
            None => return refuse(answer, Refused::SessionUnknown), // it has ended meanwhile
            Some(Ok(Ok(body))) => body,
            Some(Ok(Err(refused))) => {
                shared.borrow_mut().break_off(id, "a POST that is refused");
                let _ = answer.send(Err(refused)); // the client may have gone
                return;
            }
            Some(Err(_)) => return shared.borrow_mut().given_up(id),
        },
    };
    let Ok(text) = std::str::from_utf8(&body) else {
        shared.borrow_mut().break_off(id, "a POST that is no text");
        return refuse(answer, Refused::BadRequest);
    };
    if text.is_empty() {
        shared.borrow_mut().break_off(id, "a POST without a packet");
        return refuse(answer, Refused::BadRequest);
    }
    let mut posting = Posting { answer: Some(answer), cost_bytes: body.len() + POST_COST_BYTES, taken: None };
    behind(&shared, id, &mut posting).await;
    for (index, packet) in text.split(SEPARATOR).enumerate() {
        if index % PACKETS_AT_ONCE == PACKETS_AT_ONCE - 1 {
            tokio::task::yield_now().await; // half a million packets fit into a POST
        }
        let goes_on = may_go_on(&shared, id, &mut posting).await;
        let mut shell = shared.borrow_mut();
        let now = shell.now();
        let decoded = Packet::decode(packet);
        match decoded {
            Ok(Packet::Close) if goes_on => {
                shell.leave(id);
                break;
            }
            // It ends already, and its client does not wait for the last packets.
            Ok(Packet::Close) => {
                shell.lost(now, id, &End::Left(None), true);
                break;
            }
            _ if !goes_on => continue,
            _ => {}
        }
        if posting.answer.is_some() {
            shell.act(now, Input::Alive(id));
        }
        shell.message(now, id, Message::Text(packet));
        if matches!(decoded, Err(_) | Ok(Packet::Ping(_))) {
            shell.break_off(id, "a packet that is none, or a ping");
            if let Some(answer) = posting.answer {
                refuse(answer, Refused::BadRequest);
            }
            return;
        }
    }
    may_go_on(&shared, id, &mut posting).await; // the commands of the last packet are done too
    posting.end(shared.borrow_mut().engine_state(id));
}

/// A POST whose body has come.
struct Posting {
    /// `None` where it is answered already.
    answer: Option<ExchangeAnswer>,
    cost_bytes: usize,
    /// Tells those that wait behind a POST which was answered early that it is over.
    taken: Option<oneshot::Sender<Infallible>>,
}

impl Posting {
    /// Answers it, unless it is answered. The upgrade does not wait for it any more.
    fn accept(&mut self, state: Option<&mut EngineState>) {
        let Some(answer) = self.answer.take() else { return };
        if let Some(state) = state {
            state.is_posted = false;
            wake(&mut state.upgrader);
        }
        let _ = answer.send(Ok(Bytes::from_static(b"ok"))); // the client may have gone
    }

    /// It must wait. A client that goes over to a WebSocket waits for the answer with that, and polls no more. So it is
    /// answered; and the packets of the WebSocket, or of the next POST, wait until those of this one are taken in. A
    /// client may post again before it knows that its probe is answered: then that POST is answered too. `is_behind`:
    /// it waits for a rate, or for a POST that was answered early.
    fn wait(&mut self, state: &mut EngineState, bytes_max: usize, is_behind: bool) {
        let has_room = state.early_bytes == 0 || state.early_bytes + self.cost_bytes <= bytes_max;
        let is_early = has_room && (is_behind || state.upgrade.is_probed());
        if self.answer.is_some() && (is_early || state.goes_over) {
            let (taken, earlier) = oneshot::channel();
            (self.taken, state.earlier) = (Some(taken), Some(earlier));
            state.early_bytes += self.cost_bytes;
            self.accept(Some(state));
        }
    }

    /// Its packets are taken in.
    fn end(mut self, state: Option<&mut EngineState>) {
        match state {
            Some(state) if self.taken.is_some() => {
                state.early_bytes -= self.cost_bytes;
                wake(&mut state.comer); // there may be room for it
            }
            state => self.accept(state),
        }
    }
}

/// Waits until the packets of the POSTs before this one are taken in.
async fn behind(shared: &Shared, id: ConnId, posting: &mut Posting) {
    let earlier = shared.borrow_mut().engine_state(id).and_then(|state| state.earlier.take());
    let Some(mut earlier) = earlier else { return };
    poll_fn(|cx| {
        if Pin::new(&mut earlier).poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let mut shell = shared.borrow_mut();
        let bytes_max = shell.config.limits.room_message_bytes_max;
        // Those before it end with the session.
        if posting.answer.is_some()
            && let Some(state) = shell.engine_state(id)
        {
            state.comer = Some(cx.waker().clone());
            posting.wait(state, bytes_max, true);
        }
        Poll::Pending
    })
    .await;
}

/// Waits for the body of a POST. `None`: the session has ended before.
async fn arrived<T>(shared: &Shared, id: ConnId, coming: &mut oneshot::Receiver<T>) -> Option<Result<T, RecvError>> {
    poll_fn(|cx| {
        if let Poll::Ready(body) = Pin::new(&mut *coming).poll(cx) {
            return Poll::Ready(Some(body));
        }
        let mut shell = shared.borrow_mut();
        let is_closing = shell.conn(id).is_none_or(|conn| conn.closing);
        match shell.engine_state(id).filter(|_| !is_closing) {
            Some(state) => {
                state.comer = Some(cx.waker().clone());
                Poll::Pending
            }
            None => Poll::Ready(None),
        }
    })
    .await
}

/// Waits until the next packet of a POST may be taken in. False if the session takes no more.
async fn may_go_on(shared: &Shared, id: ConnId, posting: &mut Posting) -> bool {
    poll_fn(|cx| {
        let mut shell = shared.borrow_mut();
        loop {
            let is_closing = shell.closing;
            let Some(conn) = shell.conn(id).filter(|conn| !conn.closing) else { return Poll::Ready(false) };
            if is_closing || conn.paused || conn.busy {
                let is_throttled = conn.paused && shell.hub.throttled_by(id).is_some();
                shell.wait(id, posting, is_throttled, cx);
                return Poll::Pending;
            }
            if !shell.unread(id) {
                return Poll::Ready(true);
            }
        }
    })
    .await
}

impl Shell {
    /// The packets of a POST wait.
    fn wait(&mut self, id: ConnId, posting: &mut Posting, is_throttled: bool, cx: &Context<'_>) {
        let bytes_max = self.config.limits.room_message_bytes_max;
        let Some(conn) = self.conn(id) else { return };
        match &mut conn.sink {
            Sink::Detached(detached) => {
                if let Some(state) = &mut detached.engine {
                    state.poster = Some(cx.waker().clone());
                    posting.wait(state, bytes_max, is_throttled);
                }
            }
            // Its reader waits for this POST.
            Sink::Socket(_) => conn.reader = Some(cx.waker().clone()),
        }
    }
}
