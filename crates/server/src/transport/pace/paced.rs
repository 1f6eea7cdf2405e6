//! The socket of an HTTP connection: it measures the times of [`Pace`], ends a connection whose time is over, and
//! writes the refusals for which hyper has no words.

use super::{Pace, Part, buffer_bytes};
use crate::refusal::HttpRefusal;
use crate::request::RequestId;
use crate::transport::chunks::Chunks;
use crate::transport::head::{self, BodyLength, HeadEnd};
use crate::transport::taking::Taking;
use bytes::{Buf as _, BytesMut};
use socket2::SockRef;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// A write of HTTP/2 with more than this is of an answer: settings, acknowledgements and heads of answers are shorter.
const WRITE_BYTES_MIN: usize = 1024;
/// The most bytes that are read of HTTP/1 while a request is being answered, to detect the peer's end. If the peer has
/// sent more, its end shows when the next write fails.
const AHEAD_BYTES_MAX: usize = 4 << 10;
/// The most bytes that are read and dropped from a refused request, so that the peer sees the answer and not a reset.
pub(crate) const FORGET_BYTES: usize = 256 << 10;
/// An answer that hyper gives by itself is not longer than this.
const BARE_BYTES_MAX: usize = 256;
/// A buffer for heads that is larger is not kept.
const HEAD_BYTES_KEPT: usize = 4 << 10;

/// A socket that keeps the times.
pub(crate) struct Paced<S> {
    io: S,
    pace: Pace,
    reading: Option<Pin<Box<Sleep>>>,
    /// A write waits: the time of the next check whether the peer accepts bytes, and that check.
    writing: Option<(Pin<Box<Sleep>>, Taking)>,
    /// Read while hyper did not ask: at most [`AHEAD_BYTES_MAX`], and less than a read more. And what came in one read
    /// behind the end of a request: less than hyper's buffer.
    ahead: BytesMut,
    /// The rest of the request that is being read, where it is known.
    left: Option<Left>,
    /// The peer has ended its side: the connection goes when this is over, and each write starts it anew.
    ended: Option<Pin<Box<Sleep>>>,
    /// The head that is on its way, or was last: see [`Part`].
    head: Vec<u8>,
    head_bytes_max: usize,
    /// A request was refused here, and the connection ends behind the answer.
    parting: Option<Parting>,
}

/// The part of a request that has not come yet.
#[derive(Debug, Clone, Copy)]
enum Left {
    Bytes(u64),
    Chunks(Chunks),
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
            left: None,
            ended: None,
            head: Vec::new(),
            head_bytes_max,
            parting: None,
        }
    }

    /// Takes bytes that were read, and returns how many of them hyper gets: those of one request, where its end is
    /// known.
    ///
    /// # Errors
    /// The head is refused, and hyper does not get the rest of it.
    fn took(&mut self, bytes: &[u8]) -> Result<usize, HttpRefusal> {
        let part = self.pace.begins();
        let count = self.of_request(part, bytes)?;
        if count == 0 && matches!(self.left, Some(Left::Chunks(chunks)) if chunks.is_broken()) {
            return Ok(0); // an end: hyper refuses the body, and nothing behind it is taken for a request
        }
        // A blank line behind a request begins no other one.
        let is_blank = bytes[count..].iter().all(|byte| matches!(byte, b'\r' | b'\n'));
        let count = if count == 0 || is_blank { bytes.len() } else { count }; // nothing would be an end
        let received = match (self.left, part) {
            (Some(Left::Bytes(0)), _) => Some(true),
            (Some(_), _) | (None, Part::Head | Part::HeadBegins) => Some(false),
            (None, Part::Other) => None,
        };
        self.pace.count(&bytes[..count], received);
        Ok(count)
    }

    /// How many of the bytes are of the request that is being read. Keeps those of its head for a refusal, and judges
    /// its lines. An answer that is not written yet goes first, and hyper judges alone.
    fn of_request(&mut self, part: Part, bytes: &[u8]) -> Result<usize, HttpRefusal> {
        if part == Part::HeadBegins {
            self.left = None;
            match self.head.capacity() > HEAD_BYTES_KEPT {
                true => self.head = Vec::new(),
                false => self.head.clear(),
            }
        }
        let before = match (self.left.take(), part) {
            (Some(Left::Bytes(0)), _) | (None, Part::Other) => return Ok(bytes.len()), // hyper knows better
            (Some(left), _) => return Ok(self.of_body(left, bytes)),
            (None, Part::Head | Part::HeadBegins) => self.head.len(),
        };
        let room = buffer_bytes(self.head_bytes_max).saturating_sub(before);
        let within = &bytes[..bytes.len().min(room)];
        let is_due = memchr::memchr(b'\n', bytes).is_some() && self.pace.is_between() && self.writing.is_none();
        // Of many requests in one read only the head of the first is copied.
        let mut judged = if is_due && before == 0 { head::judge_lines(within)? } else { None };
        self.head.extend_from_slice(&within[..judged.map_or(within.len(), |end| end.at)]);
        if is_due && before > 0 {
            judged = head::judge_lines(&self.head)?;
        }
        let Some(HeadEnd { at, body }) = judged else { return Ok(bytes.len()) };
        let left = match body {
            BodyLength::Bytes(count) => Left::Bytes(count),
            BodyLength::Chunked => Left::Chunks(Chunks::begin()),
            BodyLength::Unknown => return Ok(bytes.len()),
        };
        let in_head = at.saturating_sub(before).min(bytes.len());
        Ok(in_head + self.of_body(left, &bytes[in_head..]))
    }

    /// How many of the bytes are of a body of which this much is left.
    fn of_body(&mut self, left: Left, bytes: &[u8]) -> usize {
        let (left, count) = match left {
            Left::Bytes(left) => {
                let count = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
                (Left::Bytes(left - count as u64), count)
            }
            Left::Chunks(mut chunks) => {
                let count = chunks.take(bytes);
                (if chunks.is_ended() { Left::Bytes(0) } else { Left::Chunks(chunks) }, count)
            }
        };
        self.left = Some(left);
        count
    }

    /// [`bare_refusal`], where hyper may write one.
    fn bare_refusal(&self, bytes: &[u8]) -> Option<(usize, u16)> {
        bare_refusal(bytes).filter(|_| self.pace.is_between())
    }

    /// From here on the connection ends with this answer.
    fn refuse(&mut self, refused: HttpRefusal) {
        let id = refused.id().cloned().unwrap_or_else(RequestId::new);
        let (status, why) = (refused.status(), refused.reason());
        tracing::debug!(request_id = %id, status, why, "a request was refused unread");
        self.pace.state().refused = Some((status, refused.reached()));
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

    /// Handles the result of a write.
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
        // The kernel drops the unsent bytes too; if that fails, closing is enough.
        let _ = SockRef::from(&self.io).set_linger(Some(Duration::ZERO));
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, format!("the peer read nothing for {write:?}")))
    }
}

impl<S: AsyncRead + Unpin> Paced<S> {
    /// Checks that the peer is still there while it is being answered; otherwise it fails.
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
            let mut ahead = std::mem::take(&mut self.ahead);
            let took = self.took(&ahead[..count]);
            let count = match took {
                Ok(count) => count,
                Err(refused) => {
                    self.refuse(refused);
                    return self.poll_parting(cx).map(Ok);
                }
            };
            into.put_slice(&ahead[..count]);
            ahead.advance(count);
            if !ahead.is_empty() {
                self.ahead = ahead; // an idle connection holds no buffer
            }
            return Poll::Ready(Ok(()));
        }
        let before = into.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut self.io).poll_read(cx, into) {
            if into.filled().len() > before {
                match self.took(&into.filled()[before..]) {
                    Ok(count) => {
                        self.ahead.extend_from_slice(&into.filled()[before + count..]);
                        into.set_filled(before + count);
                    }
                    Err(refused) => {
                        into.set_filled(before); // an end to hyper, which writes no answer then
                        self.refuse(refused);
                        return self.poll_parting(cx).map(Ok);
                    }
                }
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
        // hyper reads an end and writes no answer. An earlier answer that is not written yet goes first.
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
