//! The times of an HTTP connection: how long a request's head may take, how long the connection may be idle between two
//! requests, and how long its peer may take nothing of what it asked for.
//!
//! In: what the socket reads and writes ([`Paced`]), and which requests are being answered ([`Pace::begin`]). Out:
//! the socket reads as ended when a time is over, which hyper takes for the peer's own end; HTTP/2, whose peer speaks
//! while nothing is asked, is told by [`Pace::overdue`]. The head's time begins with its first byte, not with the
//! idleness before it.
//!
//! A peer of HTTP/1 may go while it is being answered. A reset ends the connection at once, and the page with it. An
//! end of the peer's side alone may come from a client that still reads (`nc -N`, some probes), so its connection goes
//! on until nothing was written to it for [`Times::close`]. A peer of HTTP/2 that ends its side is gone: it says by a
//! frame that a request is whole.
//!
//! Each stream of HTTP/2 is judged by itself as well: an answer that waits for its peer's window for [`Times::write`]
//! while others go on is reset. Where the socket is what the streams wait for, as on a slow line with many of them, the
//! time begins when it has been free again, unless [`PASSED_BYTES`] went by: streams take turns, so one that had room
//! in its window would have had a part of them. Answers go to HTTP/2 in pieces, else one that was handed over whole
//! could not be taken back.
//!
//! hyper refuses a head of HTTP/1 by a status without words, and a head that ends too early by nothing. [`Paced`]
//! writes a refusal like any other instead, also to a head that is too slow, and gives the peer the time to read it.
//!
//! A write that waits is judged by what the peer acknowledges ([`Taking`]). [`shallow`] keeps what waits in the kernel
//! short. (`TCP_USER_TIMEOUT` was tried for this: with a window that is nearly closed Linux 6.18 does not end the
//! connection.)

use crate::config::Config;
use crate::refusal::Refused;
use crate::request::RequestId;
use crate::transport::admission::hasten;
use crate::transport::head;
use crate::transport::places::Place;
use crate::transport::taking::Taking;
use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version, header};
use http_body::{Frame, SizeHint};
use slab::Slab;
use socket2::SockRef;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::AbortHandle;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
/// A write of HTTP/2 with more than this is of an answer: settings, acknowledgements and heads of answers are shorter.
const WRITE_BYTES_MIN: usize = 1024;
/// An answer goes to hyper in pieces of this length, which is that of the longest frame of HTTP/2 where nothing else
/// was agreed (RFC 9113 §4.2).
const PIECE_BYTES: usize = 16 << 10;
/// What passes by a stream that waits for its turn, at most: more than a piece of each of the 100 that a connection may
/// have.
const PASSED_BYTES: u64 = 4 << 20;
/// What is read of HTTP/1 while a request is being answered, to see whether the peer has gone. The end of a peer that
/// has sent more is seen when the next write fails.
const AHEAD_BYTES_MAX: usize = 4 << 10;
/// The most bytes that are read and dropped from a refused request, so that the peer sees the answer and not a reset.
pub(crate) const FORGET_BYTES: usize = 256 << 10;
/// The least that hyper takes as the bound of its buffer, and of the head of a request with it.
const BUFFER_MIN: usize = 8 << 10;
/// An answer that hyper gives by itself is not longer than this.
const BARE_BYTES_MAX: usize = 256;
/// A buffer for heads that is larger is not kept.
const HEAD_BYTES_KEPT: usize = 4 << 10;

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
    /// For a peer that takes nothing.
    pub(crate) write: Duration,
    /// For a peer that has ended its side and is sent nothing.
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

/// What a connection is doing, shared by its socket and by those who answer.
#[derive(Clone)]
pub(crate) struct Pace {
    times: Times,
    http2: bool,
    state: Arc<Mutex<State>>,
    /// Of a connection that may be displaced. It is told whether a request is being answered.
    place: Option<Arc<Place>>,
}

struct State {
    phase: Phase,
    /// Requests that are being answered.
    busy: usize,
    /// What has been read, as far as it tells whether a next head has begun.
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
    /// The socket takes nothing now.
    is_blocked: bool,
    /// When it last took something again.
    blocked: Instant,
    /// Bytes written, but for short writes.
    written: u64,
    /// The head that is on its way began with a read of its own, not behind the request before.
    is_head_known: bool,
    /// hyper may have bytes of the last answer: it lets go of a body before it writes the end.
    is_unwritten: bool,
    /// The status of a refusal that [`Paced`] wrote.
    refused: Option<u16>,
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
    /// Nothing is asked, since then.
    Idle(Instant),
    Busy,
    /// The socket is not HTTP's any more.
    Upgraded,
}

/// Why a connection is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overdue {
    /// Nothing was asked for [`Times::idle`].
    Idle,
    /// Nothing was taken for [`Times::write`].
    Stalled,
}

impl Pace {
    /// Of a connection whose first head has begun.
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
            is_unwritten: false,
            refused: None,
        };
        Pace { times, http2, state: Arc::new(Mutex::new(state)), place: None }
    }

    /// Of a connection that has this place.
    pub(crate) fn at(self, place: Option<Arc<Place>>) -> Self {
        Pace { place, ..self }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request has come whole, but for its body. The connection is busy until the answer's body is gone.
    pub(crate) fn begin(&self, body: &impl HttpBody) -> ResponseGuard {
        if let Some(place) = &self.place {
            place.serves();
        }
        let mut state = self.state();
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

    /// Returns when a connection of HTTP/2 has been idle for too long, or its peer has taken nothing for too long.
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

    /// Resets the streams that have waited for too long; tells when the next one will have. Fails where all have.
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

    /// Notes the bytes that were read; tells what they are.
    fn read(&self, bytes: &[u8]) -> Part {
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
        state.stream.take(bytes, in_head);
        match in_head && state.is_head_known {
            true if begins => Part::HeadBegins,
            true => Part::Head,
            false => Part::Other,
        }
    }

    /// The status of a refusal that was written without a request.
    pub(crate) fn refused(&self) -> Option<u16> {
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

/// What bytes that were read are.
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
                // Without `Connection: keep-alive`, which HTTP/1.1 says by saying nothing: clients read the time all
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

/// How long a request's body is.
#[derive(Debug, Clone, Copy)]
enum Length {
    Exact(u64),
    Chunked,
}

/// Where a request ends.
#[derive(Debug, Clone, Copy)]
enum Ends {
    /// With a blank line: its head, where it has no body, or its last chunk.
    Blank,
    /// So many bytes into the stream.
    At(u64),
    /// Somewhere in what came behind another request.
    Unknown,
}

/// A stream of requests of HTTP/1, as far as it tells whether it stands within a head. hyper may have the beginning
/// of the next head in its buffer: it came with the request before.
#[derive(Debug, Default)]
struct Stream {
    /// Bytes so far.
    read: u64,
    /// The end of the head that is being read, or was read last.
    head_end: Option<u64>,
    /// The line so far has bytes besides CR.
    in_line: bool,
    /// The last line that ended was blank, and nothing has come since.
    blank: bool,
    /// The head has begun: blank lines before it are skipped (RFC 9112 §2.2).
    has_line: bool,
}

impl Stream {
    fn take(&mut self, bytes: &[u8], in_head: bool) {
        let mut rest = bytes;
        // The head's lines one by one, then only what the whole ends with.
        while in_head && self.head_end.is_none() {
            let Some(at) = memchr::memchr(b'\n', rest) else { break };
            let (line, after) = rest.split_at(at + 1);
            self.end_with(line);
            self.has_line |= !self.blank;
            self.read += line.len() as u64;
            rest = after;
            if self.blank && self.has_line {
                self.head_end = Some(self.read);
            }
        }
        self.end_with(rest);
        self.read += rest.len() as u64;
    }

    fn end_with(&mut self, bytes: &[u8]) {
        let is_empty = |line: &[u8]| line.iter().all(|&byte| byte == b'\r');
        let Some(last) = memchr::memrchr(b'\n', bytes) else {
            if !is_empty(bytes) {
                (self.in_line, self.blank) = (true, false);
            }
            return;
        };
        let (lines, open) = (&bytes[..last], &bytes[last + 1..]);
        let before = match memchr::memrchr(b'\n', lines) {
            Some(at) => !is_empty(&lines[at + 1..]),
            None => self.in_line || !is_empty(lines),
        };
        self.in_line = !is_empty(open);
        self.blank = !before && !self.in_line;
    }

    /// Where the request ends whose head hyper has parsed.
    fn ends(&self, length: Length) -> Ends {
        match (length, self.head_end) {
            (Length::Exact(0) | Length::Chunked, _) => Ends::Blank,
            (Length::Exact(length), Some(head_end)) => Ends::At(head_end.saturating_add(length)),
            (Length::Exact(_), None) => Ends::Unknown,
        }
    }

    /// The request has been answered. True where a part of the next head is there.
    fn next(&mut self, ended: Ends) -> bool {
        let begun = !self.blank
            && match ended {
                Ends::Blank => true,
                Ends::At(end) => self.read > end,
                Ends::Unknown => false,
            };
        (self.head_end, self.has_line) = (None, begun);
        if !begun {
            self.in_line = false; // that was a body
        }
        begun
    }
}

/// What a request says of its connection.
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
    /// Of its last frame, what hyper has not been given yet. It takes a whole frame at once and lets go of the body
    /// then: a long answer would count as over before its peer has it.
    rest: Bytes,
    answering: ResponseGuard,
    _alive: Option<Arc<()>>,
}

impl HttpBody for Paid {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        // Asked for more: the peer has taken what there was.
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

/// A socket that keeps the times.
pub(crate) struct Paced<S> {
    io: S,
    pace: Pace,
    reading: Option<Pin<Box<Sleep>>>,
    /// A write waits: when to ask again whether the peer takes something, and the judge of that.
    writing: Option<(Pin<Box<Sleep>>, Taking)>,
    /// Read while hyper did not ask: at most [`AHEAD_BYTES_MAX`], and less than a read more.
    ahead: BytesMut,
    /// The peer has ended its side: the connection goes when this is over, and each write starts it anew.
    ended: Option<Pin<Box<Sleep>>>,
    /// The head that is on its way, or was last: see [`Part`].
    head: Vec<u8>,
    head_bytes_max: usize,
    /// A request was refused here, and the connection ends behind the answer.
    parting: Option<Parting>,
}

/// The last answer of a connection.
struct Parting {
    bytes: Vec<u8>,
    written: usize,
    /// This side has ended.
    is_shut: bool,
    /// Bytes that were read and dropped since.
    forgotten: usize,
    /// The end of the peer's time to read the answer.
    due: Pin<Box<Sleep>>,
}

/// Where hyper's own refusal begins in the bytes of a write, and its status. hyper writes nothing behind it, and a date
/// within it. Every other answer of these statuses has an id. The bytes may be the end of another answer's body, so
/// this is asked only when that has been written.
fn bare_refusal(bytes: &[u8]) -> Option<(usize, u16)> {
    if !bytes.ends_with(b"\r\n\r\n") {
        return None;
    }
    let from = bytes.len().saturating_sub(BARE_BYTES_MAX);
    let at = from + memchr::memmem::rfind(&bytes[from..], b"HTTP/1.")?;
    let mut headers = [httparse::EMPTY_HEADER; 3];
    let mut response = httparse::Response::new(&mut headers);
    let is_whole =
        matches!(response.parse(&bytes[at..]), Ok(httparse::Status::Complete(len)) if at + len == bytes.len());
    let status = response.code.filter(|status| is_whole && matches!(status, 400 | 414 | 431))?;
    let is_bare = response.headers.iter().all(|header| match header.name {
        "connection" => header.value == b"close",
        "content-length" => header.value == b"0",
        name => name == "date",
    });
    let is_dated = response.headers.iter().any(|header| header.name == "date");
    (is_bare && is_dated).then_some((at, status))
}

impl<S: AsFd> Paced<S> {
    pub(crate) fn new(io: S, pace: Pace, head_bytes_max: usize) -> Self {
        Paced {
            io,
            pace,
            reading: None,
            writing: None,
            ahead: BytesMut::new(),
            ended: None,
            head: Vec::new(),
            head_bytes_max,
            parting: None,
        }
    }

    /// Keeps what may have to be judged.
    fn took(&mut self, bytes: &[u8]) {
        match self.pace.read(bytes) {
            Part::Other => return,
            Part::Head => {}
            Part::HeadBegins if self.head.capacity() > HEAD_BYTES_KEPT => self.head = Vec::new(),
            Part::HeadBegins => self.head.clear(),
        }
        let room = buffer_bytes(self.head_bytes_max).saturating_sub(self.head.len());
        self.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// [`bare_refusal`], where hyper may write one.
    fn bare_refusal(&self, bytes: &[u8]) -> Option<(usize, u16)> {
        bare_refusal(bytes).filter(|_| self.pace.is_between())
    }

    /// From here on the connection ends with this answer.
    fn refuse(&mut self, refused: Refused) {
        let id = refused.id().cloned().unwrap_or_else(RequestId::new);
        let (status, why) = (refused.status(), refused.reason());
        tracing::debug!(request_id = %id, status, why, "a request was refused unread");
        self.pace.state().refused = Some(status);
        let due = Box::pin(sleep(self.pace.times.close));
        let bytes = refused.identified(id).bytes();
        self.parting = Some(Parting { bytes, written: 0, is_shut: false, forgotten: 0, due });
    }

    /// The same in the place of hyper's own answer.
    fn refuse_with(&mut self, status: u16) {
        let is_known = self.pace.state().is_head_known;
        let refused = head::refused_with(status, is_known.then_some(&self.head[..]), self.head_bytes_max);
        self.refuse(refused);
    }

    /// The socket, and the bytes that were read of it before what it gives next.
    pub(crate) fn into_parts(self) -> (S, BytesMut) {
        (self.io, self.ahead)
    }

    /// A write has come to this.
    fn wrote(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(written) => {
                if self.head.capacity() > HEAD_BYTES_KEPT && !self.pace.is_in_head() {
                    self.head = Vec::new(); // the connection may be idle for long
                }
                if self.writing.take().is_some() {
                    let mut state = self.pace.state();
                    (state.is_blocked, state.blocked) = (false, Instant::now());
                }
                if let Some(ended) = &mut self.ended {
                    ended.as_mut().reset(Instant::now() + self.pace.times.close);
                }
                if let Ok(count) = written
                    && count > WRITE_BYTES_MIN
                {
                    let mut state = self.pace.state();
                    state.taken = Instant::now();
                    state.written += count as u64;
                }
                Poll::Ready(written)
            }
            Poll::Pending => self.stalls(cx).map(Err),
        }
    }

    /// Ready when a write has waited for too long.
    fn stalls(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if self.pace.is_upgraded() {
            return Poll::Pending;
        }
        let write = self.pace.times.write;
        if self.writing.is_none() {
            self.pace.state().is_blocked = true;
        }
        let socket = self.io.as_fd();
        let (timer, taking) = self.writing.get_or_insert_with(|| {
            let taking = Taking::new(socket, write);
            (Box::pin(sleep_until(taking.look_at(Instant::now()))), taking)
        });
        loop {
            std::task::ready!(timer.as_mut().poll(cx));
            if taking.is_over(socket) {
                break;
            }
            timer.as_mut().reset(taking.look_at(Instant::now()));
        }
        // Nothing of it is kept, in the kernel neither; where that fails, closing will do.
        let _ = SockRef::from(&self.io).set_linger(Some(Duration::ZERO));
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, format!("the peer read nothing for {write:?}")))
    }
}

impl<S: AsyncRead + Unpin> Paced<S> {
    /// Looks whether the peer is still there while it is being answered; fails when it is not.
    fn look(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if !self.pace.is_answering() {
            return Ok(());
        }
        while self.ended.is_none() && self.ahead.len() < AHEAD_BYTES_MAX {
            let mut bytes = [0; 1024];
            let mut into = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.io).poll_read(cx, &mut into) {
                Poll::Pending => break,
                Poll::Ready(read) => read?,
            }
            match into.filled() {
                [] => self.ended = Some(Box::pin(sleep(self.pace.times.close))),
                read => self.ahead.extend_from_slice(read),
            }
        }
        let is_gone = self.ended.as_mut().is_some_and(|ended| ended.as_mut().poll(cx).is_ready());
        if is_gone { Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the peer has gone")) } else { Ok(()) }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Paced<S> {
    /// Ready when the last answer was written and the peer has ended its side or had its time.
    fn poll_parting(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(parting) = &mut self.parting else { return Poll::Ready(()) };
        if parting.due.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        while parting.written < parting.bytes.len() {
            match std::task::ready!(Pin::new(&mut self.io).poll_write(cx, &parting.bytes[parting.written..])) {
                Ok(count) if count > 0 => parting.written += count,
                _ => return Poll::Ready(()), // the peer has gone
            }
        }
        if !parting.is_shut {
            if std::task::ready!(Pin::new(&mut self.io).poll_shutdown(cx)).is_err() {
                return Poll::Ready(());
            }
            parting.is_shut = true;
        }
        while parting.forgotten < FORGET_BYTES {
            let mut bytes = [0; 1024];
            let mut into = ReadBuf::new(&mut bytes);
            match std::task::ready!(Pin::new(&mut self.io).poll_read(cx, &mut into)) {
                Ok(()) if !into.filled().is_empty() => parting.forgotten += into.filled().len(),
                _ => break,
            }
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + AsyncWrite + AsFd + Unpin> AsyncRead for Paced<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.parting.is_some() {
            return self.poll_parting(cx).map(Ok);
        }
        if !self.ahead.is_empty() {
            let count = self.ahead.len().min(into.remaining());
            let bytes = self.ahead.split_to(count);
            into.put_slice(&bytes);
            self.took(&bytes);
            return Poll::Ready(Ok(()));
        }
        let before = into.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut self.io).poll_read(cx, into) {
            if into.filled().len() > before {
                self.took(&into.filled()[before..]);
            }
            return Poll::Ready(read);
        }
        let Some(due) = self.pace.read_due() else { return Poll::Pending };
        let timer = match &mut self.reading {
            Some(timer) => {
                if timer.deadline() != due {
                    timer.as_mut().reset(due);
                }
                timer
            }
            none => none.insert(Box::pin(sleep_until(due))),
        };
        std::task::ready!(timer.as_mut().poll(cx));
        // hyper reads an end, and says nothing. An earlier answer that is not written yet cannot be overtaken.
        if self.pace.is_in_head() && self.writing.is_none() {
            let refused = head::too_slow(self.pace.times.head);
            self.refuse(refused);
            return self.poll_parting(cx).map(Ok);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + AsFd + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let bytes = match self.bare_refusal(bytes) {
            Some((0, status)) => {
                self.refuse_with(status);
                return Poll::Ready(Ok(bytes.len())); // written by `poll_shutdown`, which is next
            }
            Some((at, _)) => &bytes[..at],
            None => bytes,
        };
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.wrote(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if bytes.iter().rfind(|slice| !slice.is_empty()).is_some_and(|last| self.bare_refusal(last).is_some()) {
            let first = bytes.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
            return self.poll_write(cx, first);
        }
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bytes);
        self.wrote(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.pace.state().is_unwritten = false;
        // hyper flushes in each of its turns, and reads nothing of HTTP/1 while it waits for an answer.
        Poll::Ready(self.look(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.parting.is_some() {
            return self.poll_parting(cx).map(Ok);
        }
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Bytes that wait in the kernel and have not been sent yet, for one connection.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
const UNSENT_BYTES_MAX: u32 = 128 << 10;

/// Has the kernel keep little for the connections of this socket, or for those that it accepts: a peer that takes
/// something is seen to, and the rest waits where it is accounted for.
pub(crate) fn shallow(socket: SockRef<'_>) {
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    let _ = socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX); // a socket that does not take the option works all the same
    #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
    let _ = socket;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each row is read whole, byte by byte, and in two parts at every place.
    #[test]
    fn a_head_that_has_begun_is_seen_however_it_came() {
        let none = Length::Exact(0);
        let rows: &[(&str, Length, &str, bool)] = &[
            ("one request", none, "GET / HTTP/1.1\r\n\r\n", false),
            ("a blank line before it", none, "\r\nGET / HTTP/1.1\r\n\r\n", false),
            ("a blank line behind it", none, "GET / HTTP/1.1\r\n\r\n\r\n", false),
            ("LF alone", none, "GET / HTTP/1.1\nA: b\n\n", false),
            ("a byte of the next", none, "GET / HTTP/1.1\r\n\r\nG", true),
            ("a line of the next", none, "GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n", true),
            ("the next, but for its end", none, "GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r", true),
            ("the next behind a blank line", none, "GET / HTTP/1.1\r\n\r\n\r\nG", true),
            ("a body", Length::Exact(4), "POST / HTTP/1.1\r\n\r\nbody", false),
            ("a part of a body", Length::Exact(4), "POST / HTTP/1.1\r\n\r\nbo", false),
            ("a body with blank lines", Length::Exact(9), "POST / HTTP/1.1\r\n\r\nb\r\n\r\nbody", false),
            ("a body and a byte", Length::Exact(4), "POST / HTTP/1.1\r\n\r\nbodyG", true),
            ("chunks", Length::Chunked, "POST / HTTP/1.1\r\n\r\n1\r\na\r\n0\r\n\r\n", false),
            ("chunks and a byte", Length::Chunked, "POST / HTTP/1.1\r\n\r\n1\r\na\r\n0\r\n\r\nG", true),
        ];
        for (name, length, text, begun) in rows {
            let bytes = text.as_bytes();
            let mut cuts: Vec<Vec<&[u8]>> = (0..bytes.len()).map(|at| vec![&bytes[..at], &bytes[at..]]).collect();
            cuts.push(bytes.chunks(1).collect());
            for parts in cuts {
                let mut stream = Stream::default();
                for part in &parts {
                    stream.take(part, true);
                }
                let ends = stream.ends(*length);
                assert_eq!(stream.next(ends), *begun, "{name}: {parts:?}");
            }
        }
    }

    /// The rest of a head that came in part with the request before it, and then a request with a body.
    #[test]
    fn what_follows_is_judged_anew() {
        let mut stream = Stream::default();
        stream.take(b"GET / HTTP/1.1\r\n\r\nPOST / HT", true);
        assert!(stream.next(Ends::Blank));
        stream.take(b"TP/1.1\r\n\r\nbody", true);
        let ends = stream.ends(Length::Exact(4));
        assert!(matches!(ends, Ends::At(_)), "{ends:?}");
        assert!(!stream.next(ends));
        stream.take(b"POST / HTTP/1.1\r\n\r\nbodyG", true);
        let ends = stream.ends(Length::Exact(4));
        assert!(stream.next(ends));
    }
}
