//! The times of an HTTP connection: for a request's head, for idleness between two requests, and for a peer that
//! accepts no byte of its answer.
//!
//! In: the bytes that the socket reads and writes ([`Paced`]), and the requests that are being answered
//! ([`Pace::begin`]). Out: when a time is over, the socket reads as ended, and hyper handles that as the peer's end.
//! For HTTP/2, whose peer sends frames while no request is open, [`Pace::overdue`] reports it. The head's time begins
//! with its first byte, not with the idleness before it.
//!
//! A peer of HTTP/1 may leave while it is being answered. A reset ends the connection at once, and the page with it. A
//! client that ends only its own side may still read (`nc -N`, some probes), so its connection continues until no byte
//! was written to it for [`Times::close`]. A peer of HTTP/2 that ends its side is gone, because a frame marks the end
//! of a request.
//!
//! Each stream of HTTP/2 has a time too: an answer that waits for its peer's window for [`Times::write`] while others
//! continue is reset. If the streams wait for the socket, as on a slow line with many of them, the time begins when the
//! socket is free again, unless [`PASSED_BYTES`] were written meanwhile: streams take turns, so one with room in its
//! window would have got a part of them. Answers go to HTTP/2 in pieces, because hyper does not give a whole one back.
//!
//! hyper refuses a head of HTTP/1 by a status without words, and does not answer a head that ends too early. [`Paced`]
//! writes an ordinary refusal instead, also for a head that is too slow, and gives the peer the time to read it.
//!
//! A write that waits is judged by what the peer acknowledges ([`Taking`](super::taking::Taking)). [`shallow`] keeps
//! what waits in the kernel short. (`TCP_USER_TIMEOUT` was tried for this: with a window that is nearly closed Linux
//! 6.18 does not end the connection.)

mod paced;
mod stream;

pub(crate) use paced::{FORGET_BYTES, Paced};

use crate::config::Config;
use crate::limits::HttpLimit;
use crate::transport::admission::hasten;
use crate::transport::places::Place;
use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version, header};
use http_body::{Frame, SizeHint};
use slab::Slab;
use socket2::SockRef;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use stream::{Ends, Length, Stream};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
/// An answer goes to hyper in pieces of this length, which is that of the longest frame of HTTP/2 where nothing else
/// was agreed (RFC 9113 §4.2).
const PIECE_BYTES: usize = 16 << 10;
/// The most bytes that other streams write before a waiting stream has its turn: more than a piece of each of the 100
/// streams of a connection.
const PASSED_BYTES: u64 = 4 << 20;
/// The least that hyper takes as the bound of its buffer, and of the head of a request with it.
const BUFFER_MIN: usize = 8 << 10;

/// The bound of hyper's buffer, for heads of this length.
pub(crate) fn buffer_bytes(head_bytes_max: usize) -> usize {
    head_bytes_max.max(BUFFER_MIN)
}

/// The times.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// For a request's head, from its first byte.
    pub(crate) head: Duration,
    /// Between an answer and the first byte of the next request.
    pub(crate) idle: Duration,
    /// For a peer that accepts no byte.
    pub(crate) write: Duration,
    /// For a peer that has ended its side while no byte is written to it.
    pub(crate) close: Duration,
}

impl Times {
    pub(crate) fn of(config: &Config) -> Self {
        Times {
            head: config.head_timeout,
            idle: config.http_idle_timeout,
            write: config.write_timeout,
            close: config.close_timeout,
        }
    }

    /// The same for a connection over a limit.
    pub(crate) fn hastened(self) -> Self {
        let Times { head, idle, write, close } = self;
        Times { head: hasten(head), idle: hasten(idle), write: hasten(write), close }
    }

    /// The time that hyper may wait for a head, idleness included: longer than all limits here.
    pub(crate) fn backstop(&self) -> Duration {
        self.head + self.idle + self.head
    }
}

/// The state of a connection, shared by its socket and its answers.
#[derive(Clone)]
pub(crate) struct Pace {
    times: Times,
    http2: bool,
    state: Arc<Mutex<State>>,
    /// Set for a connection that may be displaced. It records whether a request is being answered.
    place: Option<Arc<Place>>,
}

struct State {
    phase: Phase,
    /// Requests that are being answered.
    busy: usize,
    /// The bytes that were read, to know whether the next head has begun.
    stream: Stream,
    /// Answers that the peer could take more of, and since when there are any.
    offered: usize,
    offered_since: Instant,
    /// When the peer last took a part of an answer.
    taken: Instant,
    /// The requests of HTTP/2 that are being answered.
    streams: Slab<Answer>,
    /// The stream whose task is about to begin.
    begun: Option<usize>,
    /// The socket is full now.
    is_blocked: bool,
    /// When it last accepted bytes again.
    blocked: Instant,
    /// Bytes written, without short writes.
    written: u64,
    /// The head that is on its way began with a read of its own, not behind the request before.
    is_head_known: bool,
    /// The request that is being answered has come whole.
    is_received: bool,
    /// hyper may have bytes of the last answer: it lets go of a body before it writes the end.
    is_unwritten: bool,
    /// The status of a refusal that [`Paced`] wrote.
    refused: Option<(u16, Option<HttpLimit>)>,
}

/// An answer on a stream of HTTP/2.
struct Answer {
    /// Since when the peer could take more, and what was written before.
    offered: Option<(Instant, u64)>,
    /// Ends the stream by a reset.
    task: Option<AbortHandle>,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// A head is on its way since then.
    Head(Instant),
    /// No request since then.
    Idle(Instant),
    Busy,
    /// The socket is not HTTP's any more.
    Upgraded,
}

/// Why a connection is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overdue {
    /// No request came for [`Times::idle`].
    Idle,
    /// The peer accepted no byte for [`Times::write`].
    Stalled,
}

impl Pace {
    /// The pace of a connection whose first head has begun.
    pub(crate) fn new(times: Times, http2: bool) -> Self {
        let now = Instant::now();
        let phase = if http2 { Phase::Idle(now) } else { Phase::Head(now) };
        let state = State {
            phase,
            busy: 0,
            stream: Stream::default(),
            offered: 0,
            offered_since: now,
            taken: now,
            streams: Slab::new(),
            begun: None,
            is_blocked: false,
            blocked: now,
            written: 0,
            is_head_known: true,
            is_received: false,
            is_unwritten: false,
            refused: None,
        };
        Pace { times, http2, state: Arc::new(Mutex::new(state)), place: None }
    }

    /// The same for a connection that has this place.
    pub(crate) fn at(self, place: Option<Arc<Place>>) -> Self {
        Pace { place, ..self }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The head of a request has come. The connection is busy until the answer's body is dropped.
    pub(crate) fn begin(&self, body: &impl HttpBody) -> ResponseGuard {
        let mut state = self.state();
        // The place waits for the whole request.
        if let Some(place) = self.place.as_ref().filter(|_| body.is_end_stream() || state.is_received) {
            place.serves();
        }
        state.busy += 1;
        state.is_head_known = false;
        let length = match body.size_hint().exact() {
            _ if body.is_end_stream() => Length::Exact(0),
            Some(length) => Length::Exact(length),
            None => Length::Chunked,
        };
        let ends = state.stream.ends(length);
        if !matches!(state.phase, Phase::Upgraded) {
            state.phase = Phase::Busy;
        }
        let stream = self.http2.then(|| state.streams.insert(Answer { offered: None, task: None }));
        state.begun = stream;
        ResponseGuard { pace: self.clone(), ends, offered: false, stream }
    }

    /// The task of the stream whose request has just begun.
    pub(crate) fn is_run_by(&self, task: AbortHandle) {
        let mut state = self.state();
        if let Some(answer) = state.begun.take().and_then(|stream| state.streams.get_mut(stream)) {
            answer.task = Some(task);
        }
    }

    /// Returns when a connection of HTTP/2 has been idle for too long, or its peer has accepted no byte for too long.
    /// Until then it resets the streams that wait for too long beside others.
    pub(crate) async fn overdue(&self) -> Overdue {
        loop {
            let now = Instant::now();
            let next = match self.judge_streams(now) {
                Ok(next) => next,
                Err(stalled) => return stalled,
            };
            let (due, why) = {
                let state = self.state();
                match state.phase {
                    Phase::Idle(since) => (Some(since + self.times.idle), Overdue::Idle),
                    _ if state.offered > 0 => {
                        (Some(state.offered_since.max(state.taken) + self.times.write), Overdue::Stalled)
                    }
                    _ => (None, Overdue::Idle),
                }
            };
            // A request that begins meanwhile is due at the earliest after the shorter of both times.
            let look = now + self.times.idle.min(self.times.write);
            let look = next.map_or(look, |next| next.min(look));
            match due {
                Some(due) if due <= now => return why,
                Some(due) => sleep_until(due.min(look)).await,
                None => sleep_until(look).await,
            }
        }
    }

    /// Resets the streams that have waited for too long. Returns when the next one is due, and fails if all have waited
    /// for too long.
    fn judge_streams(&self, now: Instant) -> Result<Option<Instant>, Overdue> {
        let (mut late, mut next) = (Vec::new(), None);
        {
            let mut state = self.state();
            let free = if state.is_blocked { now } else { state.blocked };
            for (stream, answer) in &state.streams {
                let Some((since, before)) = answer.offered else { continue };
                let is_passed = state.written - before >= PASSED_BYTES;
                let due = if is_passed { since } else { since.max(free) } + self.times.write;
                if due <= now {
                    late.push(stream);
                } else {
                    next = next.map_or(Some(due), |next: Instant| Some(next.min(due)));
                }
            }
            if !late.is_empty() && late.len() == state.busy {
                return Err(Overdue::Stalled);
            }
            let mut tasks = Vec::new();
            for stream in late {
                state.streams[stream].offered = None;
                tasks.extend(state.streams[stream].task.take());
            }
            drop(state);
            for task in tasks {
                tracing::debug!("a stream of HTTP/2 is reset: its peer takes nothing of the answer");
                task.abort();
            }
        }
        Ok(next)
    }

    /// Classifies bytes that were read and are not counted yet.
    fn begins(&self) -> Part {
        let mut state = self.state();
        if self.http2 || matches!(state.phase, Phase::Upgraded) {
            return Part::Other;
        }
        let begins = matches!(state.phase, Phase::Idle(_));
        if begins {
            state.phase = Phase::Head(Instant::now());
            state.is_head_known = true;
        }
        let in_head = matches!(state.phase, Phase::Head(_));
        match in_head && state.is_head_known {
            true if begins => Part::HeadBegins,
            true => Part::Head,
            false => Part::Other,
        }
    }

    /// Counts bytes that hyper gets. `received` says whether the request is whole with them, where that is known.
    fn count(&self, bytes: &[u8], received: Option<bool>) {
        let mut state = self.state();
        state.is_received = received.unwrap_or(state.is_received);
        if let Some(place) = self.place.as_ref().filter(|_| received == Some(true)) {
            place.serves();
        }
        if !self.http2 && !matches!(state.phase, Phase::Upgraded) {
            let in_head = matches!(state.phase, Phase::Head(_));
            state.stream.take(bytes, in_head);
        }
    }

    /// The status of a refusal that was written without a request, and its limit.
    pub(crate) fn refused(&self) -> Option<(u16, Option<HttpLimit>)> {
        self.state().refused
    }

    /// True where no request of HTTP/1 is being answered, and the last answer has been written to its end.
    fn is_between(&self) -> bool {
        let state = self.state();
        !self.http2 && !state.is_unwritten && matches!(state.phase, Phase::Head(_) | Phase::Idle(_))
    }

    fn is_in_head(&self) -> bool {
        !self.http2 && matches!(self.state().phase, Phase::Head(_))
    }

    /// When a read that waits is to end.
    fn read_due(&self) -> Option<Instant> {
        match self.state().phase {
            _ if self.http2 => None,
            Phase::Head(since) => Some(since + self.times.head),
            Phase::Idle(since) => Some(since + self.times.idle),
            Phase::Busy | Phase::Upgraded => None,
        }
    }

    /// True where a request of HTTP/1 is being answered.
    fn is_answering(&self) -> bool {
        !self.http2 && matches!(self.state().phase, Phase::Busy)
    }

    fn is_upgraded(&self) -> bool {
        matches!(self.state().phase, Phase::Upgraded)
    }
}

/// The part of a request that bytes belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    HeadBegins,
    Head,
    /// A body, or a head that began behind the request before.
    Other,
}

/// One request that is being answered.
pub(crate) struct ResponseGuard {
    pace: Pace,
    /// Where the request ends in the stream.
    ends: Ends,
    /// The peer could take more of it.
    offered: bool,
    /// Its stream of HTTP/2.
    stream: Option<usize>,
}

impl ResponseGuard {
    /// Whether the whole request has come. If not, and nobody reads it any more, hyper closes the connection of HTTP/1.
    pub(crate) fn is_received(&self) -> bool {
        self.pace.state().is_received
    }

    /// The answer, with the connection's word on how long it waits for the next request. `alive` goes when its last
    /// byte was taken.
    pub(crate) fn answer(
        mut self,
        version: Version,
        asked: &ConnectionOptions,
        mut response: Response<Body>,
        alive: Option<Arc<()>>,
    ) -> Response<Body> {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            self.pace.state().phase = Phase::Upgraded;
            return response;
        }
        if version == Version::HTTP_11 && !asked.close && !says_close(response.headers()) {
            let seconds = self.pace.times.idle.as_secs();
            if seconds > 0
                && let Ok(value) = HeaderValue::from_str(&format!("timeout={seconds}"))
            {
                // Without `Connection: keep-alive`, the default of HTTP/1.1: clients read the time all
                // the same.
                response.headers_mut().insert(KEEP_ALIVE, value);
            }
        }
        self.offer(true);
        response.map(|body| Body::new(Paid { body, rest: Bytes::new(), answering: self, _alive: alive }))
    }

    fn offer(&mut self, offered: bool) {
        if let Some(stream) = self.stream {
            let mut state = self.pace.state();
            let written = state.written;
            state.streams[stream].offered = offered.then(|| (Instant::now(), written));
        }
        if self.offered != offered {
            let mut state = self.pace.state();
            match offered {
                true if state.offered == 0 => {
                    state.offered = 1;
                    state.offered_since = Instant::now();
                }
                true => state.offered += 1,
                false => state.offered -= 1,
            }
            self.offered = offered;
        }
    }
}

impl Drop for ResponseGuard {
    fn drop(&mut self) {
        self.offer(false);
        let mut state = self.pace.state();
        if let Some(stream) = self.stream {
            state.streams.remove(stream);
            state.begun = state.begun.filter(|&begun| begun != stream);
        }
        state.busy -= 1;
        state.is_unwritten = true;
        state.is_received = false;
        if state.busy == 0 && !matches!(state.phase, Phase::Upgraded) {
            let now = Instant::now();
            let has_next_begun = state.stream.next(self.ends) && !self.pace.http2;
            state.phase = if has_next_begun { Phase::Head(now) } else { Phase::Idle(now) };
            drop(state);
            if let Some(place) = &self.pace.place {
                place.waits();
            }
        }
    }
}

/// The options of a request for its connection.
pub(crate) struct ConnectionOptions {
    close: bool,
}

impl ConnectionOptions {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        ConnectionOptions { close: says_close(headers) }
    }
}

fn says_close(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|token| token.trim().eq_ignore_ascii_case("close"))
}

/// The body of an answer that is accounted for.
struct Paid {
    body: Body,
    /// The part of its last frame that hyper does not have yet. hyper takes a whole frame at once and then drops the
    /// body: a long answer would count as over before its peer has it.
    rest: Bytes,
    answering: ResponseGuard,
    _alive: Option<Arc<()>>,
}

impl HttpBody for Paid {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        // hyper asks for more: the peer has accepted the last piece.
        self.answering.pace.state().taken = Instant::now();
        let mut frame = if self.rest.is_empty() {
            Pin::new(&mut self.body).poll_frame(cx)
        } else {
            let rest = std::mem::take(&mut self.rest);
            Poll::Ready(Some(Ok(Frame::data(rest))))
        };
        if let Poll::Ready(Some(Ok(frame))) = &mut frame
            && let Some(data) = frame.data_mut()
            && data.len() > PIECE_BYTES
        {
            self.rest = data.split_off(PIECE_BYTES);
        }
        self.answering.offer(frame.is_ready());
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut whole = SizeHint::new();
        if let Some(upper) = hint.upper() {
            whole.set_upper(upper.saturating_add(rest));
        }
        whole.set_lower(hint.lower().saturating_add(rest));
        whole
    }
}

/// Bytes that wait in the kernel and have not been sent yet, for one connection.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
const UNSENT_BYTES_MAX: u32 = 128 << 10;

/// Keeps the kernel's buffer small for this socket, or for those that it accepts. So progress of the peer shows soon,
/// and the rest waits where it is counted.
pub(crate) fn shallow(socket: SockRef<'_>) {
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    let _ = socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX); // a socket that does not take the option works all the same
    #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
    let _ = socket;
}
