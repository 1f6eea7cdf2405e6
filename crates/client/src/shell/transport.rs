//! One WebSocket over a stream of bytes: opened, read, written, closed. It knows nothing of the protocol inside.

use super::driver::BACKLOG_BYTES_MAX;
use super::net::{Problem, Stream};
use super::url::Url;
use fanfare_hub::Rng;
use fanfare_wire::native::PROTOCOL;
use fanfare_wire::websocket::{
    Decoder, Event, HeadProgress, Limits, MaskSource, Opcode, Role, client_key, put_close, put_frame, request, verify,
};
use serde::Deserialize;
use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _, ReadBuf};

/// The longest head of a response, and the longest body of a refusal that is looked at.
pub(super) const HEAD_BYTES_MAX: usize = 16 << 10;
/// The longest message of a server: a page of 256 KiB, escaped and wrapped, and room.
pub(super) const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Read at once.
const READ_BYTES: usize = 16 << 10;
/// So much may wait to be written before nothing more is read. Calls stop at half of it, so the rest is answers.
const UNWRITTEN_BYTES_MAX: usize = 2 * BACKLOG_BYTES_MAX;
/// A caller that waits for the end of the client sees that it is dropped.
pub(super) type Closing = tokio::sync::mpsc::Sender<()>;
/// How long a closing connection is waited for.
pub(super) const CLOSING: Duration = Duration::from_secs(1);
/// How much of a peer's text is shown, and of an address.
const EXCERPT_CHARS: usize = 80;
const ADDRESS_CHARS: usize = 300;

/// The bytes that were read.
#[derive(Debug)]
pub(super) enum Read {
    /// Text messages, in order, were given to the caller.
    Messages,
    /// The connection is over, with the close code where there was one.
    Over(Option<u16>),
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Socket {
    stream: Stream,
    decoder: Decoder,
    masks: MaskSource,
    /// A place to read into; so much of it is read and not taken yet. At first these are the bytes that came with the
    /// response's head.
    buffer: Vec<u8>,
    unread: usize,
    /// Nothing more can be read, or written.
    is_over: bool,
    /// Frames that are not written yet.
    unwritten: Vec<u8>,
    written: usize,
    /// Where the last pong stands in them.
    pong: Range<usize>,
    /// TLS may still hold some of the written bytes.
    unflushed: bool,
}

impl Socket {
    /// Shakes hands over a connection to this place. The caller limits the time.
    pub(super) async fn open(mut stream: Stream, url: Url, seed: u64) -> Result<Self, Problem> {
        let mut rng = Rng::new(seed);
        let mut random = [0; 16];
        random[..8].copy_from_slice(&rng.next_u64().to_be_bytes());
        random[8..].copy_from_slice(&rng.next_u64().to_be_bytes());
        let key = client_key(random);
        let mut head = Vec::with_capacity(512);
        request(&mut head, url.authority(), &url.native_target(), &key, &[PROTOCOL], &[]);
        let lost = |error: io::Error| Problem::lost("lost while asking for a WebSocket", &error);
        stream.write_all(&head).await.map_err(lost)?;
        stream.flush().await.map_err(lost)?;

        let mut buffer = Vec::with_capacity(READ_BYTES);
        let mut progress = HeadProgress::default();
        let head_len = loop {
            if stream.read_buf(&mut buffer).await.map_err(lost)? == 0 {
                return Err(hung_up(&buffer));
            }
            let judged = if progress.is_due(&buffer) { judge(&buffer, &key)? } else { Judged::More };
            match judged {
                Judged::More if buffer.len() > HEAD_BYTES_MAX => {
                    let reason = format!("the head of its answer has more than {HEAD_BYTES_MAX} bytes").into();
                    return Err(Problem::Foreign { protocol: "HTTP", reason });
                }
                Judged::More => {}
                Judged::Upgraded { head_len } => break head_len,
                Judged::NotUpgraded { head_len, body_len, response } => {
                    let whole_len = head_len + body_len;
                    // Without its body, or with half of it, a refusal is one all the same.
                    while buffer.len() < whole_len && matches!(stream.read_buf(&mut buffer).await, Ok(1..)) {}
                    return Err(response.explained(&buffer[head_len..whole_len.min(buffer.len())]));
                }
            }
        };
        buffer.drain(..head_len);
        let unread = buffer.len();
        buffer.resize(READ_BYTES.max(unread), 0);
        Ok(Socket {
            stream,
            decoder: Decoder::new(Role::Client, Limits { message_bytes_max: MESSAGE_BYTES_MAX }),
            masks: MaskSource::new(rng.next_u64()),
            buffer,
            unread,
            is_over: false,
            unwritten: Vec::new(),
            written: 0,
            pong: 0..0,
            unflushed: false,
        })
    }

    /// Queues a text message.
    pub(super) fn send(&mut self, text: &str) {
        put_frame(&mut self.unwritten, Opcode::Text, text.as_bytes(), Some(self.masks.next_mask()));
    }

    /// Bytes that wait to be written.
    pub(super) fn backlog(&self) -> usize {
        self.unwritten.len() - self.written
    }

    /// Returns when something was read or written, or the connection is over: [`read`](Self::read) tells. Cancelling
    /// it loses nothing.
    pub(super) async fn ready(&mut self) {
        poll_fn(|cx| self.poll_ready(cx)).await;
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.unread > 0 || self.is_over {
            return Poll::Ready(());
        }
        let backlog = self.backlog();
        if let Poll::Ready(Err(_)) = self.poll_flush(cx) {
            self.is_over = true;
            return Poll::Ready(());
        }
        if self.backlog() < backlog {
            return Poll::Ready(()); // there may be room for more calls
        }
        if self.backlog() >= UNWRITTEN_BYTES_MAX {
            return Poll::Pending; // reading may cause answers, and a server that does not read gets no more
        }
        let mut buffer = ReadBuf::new(&mut self.buffer);
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer));
        self.unread = buffer.filled().len();
        // An error, or the end.
        self.is_over = read.is_err() || self.unread == 0;
        Poll::Ready(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.backlog() > 0 {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &self.unwritten[self.written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                len => self.written += len,
            }
            self.unflushed = true;
        }
        self.unwritten.clear();
        self.written = 0;
        self.pong = 0..0;
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes the bytes that the socket takes now. [`ready`](Self::ready) writes the rest and must be awaited next,
    /// because this call registers no waker.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        match self.poll_flush(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => result,
            Poll::Pending => Ok(()),
        }
    }

    /// Gives each text message that was read to `take`. Pings are answered.
    pub(super) fn read(&mut self, mut take: impl FnMut(&str)) -> Read {
        let mut input = &mut self.buffer[..std::mem::take(&mut self.unread)];
        loop {
            match self.decoder.decode(&mut input) {
                Ok(None) if self.is_over => return Read::Over(None),
                Ok(None) => return Read::Messages,
                Ok(Some(Event::Text(text))) => take(text),
                // The protocol is text; a server that sends anything else breaks it.
                Ok(Some(Event::Binary(_))) => return self.over(1003, None),
                Ok(Some(Event::Ping(payload))) => {
                    // RFC 6455 §5.5.3: the newest ping is answered, in the place of a pong that no write has begun.
                    if self.written <= self.pong.start {
                        self.unwritten.drain(self.pong.clone());
                    }
                    let start = self.unwritten.len();
                    put_frame(&mut self.unwritten, Opcode::Pong, payload, Some(self.masks.next_mask()));
                    self.pong = start..self.unwritten.len();
                }
                Ok(Some(Event::Pong(_))) => {}
                Ok(Some(Event::Close(frame))) => {
                    let code = frame.map(|frame| frame.code);
                    return self.over(code.unwrap_or(1000), code);
                }
                // Our peer's mistake, or the network's: another connection may do better.
                Err(error) => return self.over(error.close_code(), None),
            }
        }
    }

    fn over(&mut self, answer: u16, code: Option<u16>) -> Read {
        put_close(&mut self.unwritten, answer, "", Some(self.masks.next_mask()));
        Read::Over(code)
    }

    /// Closes the connection; waiting bytes are written first, as far as that goes in a second. `closing` is dropped
    /// then.
    pub(super) fn close(mut self, code: u16, closing: Option<Closing>) {
        put_close(&mut self.unwritten, code, "", Some(self.masks.next_mask()));
        tokio::spawn(async move {
            self.ended().await;
            drop(closing);
        });
    }

    /// Writes the waiting bytes, then waits for the peer's end of the connection: closing at once could take back what
    /// is written.
    pub(super) fn finish(self) {
        tokio::spawn(self.ended());
    }

    async fn ended(mut self) {
        let ended = async {
            self.stream.write_all(&self.unwritten[self.written..]).await?;
            self.stream.shutdown().await?;
            while self.stream.read(&mut self.buffer).await? > 0 {}
            Ok::<(), io::Error>(())
        };
        drop(tokio::time::timeout(CLOSING, ended).await);
    }
}

/// The state of a response, as far as it has come.
#[derive(Debug)]
enum Judged {
    /// Its head is not whole.
    More,
    Upgraded {
        head_len: usize,
    },
    NotUpgraded {
        head_len: usize,
        /// So much of it is worth waiting for.
        body_len: usize,
        response: ErrorResponse,
    },
}

/// A response that is no upgrade.
#[derive(Debug)]
struct ErrorResponse {
    status: Box<str>,
    location: Option<Box<str>>,
    passes: bool,
    retry_after_ms: Option<u64>,
}

fn judge(buffer: &[u8], key: &str) -> Result<Judged, Problem> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let head_len = match response.parse(buffer) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Ok(Judged::More),
        Err(_) => return Err(no_http(buffer)),
    };
    let status = response.code.unwrap_or_default();
    let headers = response.headers.iter().map(|header| (header.name, header.value));
    if status == 101 {
        let foreign = |reason: String| Problem::Foreign { protocol: PROTOCOL, reason: reason.into() };
        return match verify(status, headers, key, &[PROTOCOL]) {
            Ok(established) if established.protocol == Some(PROTOCOL) => Ok(Judged::Upgraded { head_len }),
            Ok(_) => Err(foreign("it upgrades to a WebSocket without that subprotocol".to_owned())),
            Err(refusal) => Err(foreign(refusal.to_string())),
        };
    }
    let find = |wanted: &str| {
        let found = headers.clone().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.and_then(|(_, value)| std::str::from_utf8(value).ok()).map(str::trim)
    };
    let seconds = find("retry-after").and_then(|value| value.parse::<u32>().ok());
    let response = ErrorResponse {
        status: format!("{status} {}", excerpt(response.reason.unwrap_or_default(), EXCERPT_CHARS)).trim().into(),
        location: find("location").filter(|_| matches!(status, 300..=399)).map(|it| excerpt(it, ADDRESS_CHARS).into()),
        passes: matches!(status, 408 | 425 | 429 | 500..),
        retry_after_ms: seconds.map(|seconds| u64::from(seconds) * 1000),
    };
    let body_len = find("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
    Ok(Judged::NotUpgraded { head_len, body_len: if body_len > HEAD_BYTES_MAX { 0 } else { body_len }, response })
}

impl ErrorResponse {
    /// A Fanfare says in the body why.
    fn explained(self, body: &[u8]) -> Problem {
        let message = find_message(body);
        let ErrorResponse { status, location, passes, retry_after_ms } = self;
        Problem::Answer { status, location, message, passes, retry_after_ms }
    }
}

/// The server's message in the body of a refusal.
pub(super) fn find_message(body: &[u8]) -> Option<Box<str>> {
    #[derive(Deserialize)]
    struct Body {
        message: String,
    }
    serde_json::from_slice(body).ok().map(|Body { message }| excerpt(&message, ADDRESS_CHARS).into())
}

fn hung_up(buffer: &[u8]) -> Problem {
    let reason = if buffer.is_empty() { "it hung up before it answered" } else { "it hung up within its answer" };
    Problem::Lost { what: "lost while asking for a WebSocket", reason: reason.into() }
}

fn no_http(buffer: &[u8]) -> Problem {
    /// The first byte of a TLS alert.
    const ALERT: u8 = 21;
    let reason = if buffer.first() == Some(&ALERT) {
        "it speaks TLS: write https:// or wss://".into()
    } else {
        let line = buffer.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
        format!("it answered {:?}", excerpt(&String::from_utf8_lossy(line), EXCERPT_CHARS)).into()
    };
    Problem::Foreign { protocol: "HTTP", reason }
}

/// Shortens a peer's text for one line of a terminal: without control characters, and not too long.
pub(super) fn excerpt(text: &str, max: usize) -> String {
    let mut chars = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut excerpt: String = chars.by_ref().take(max).collect();
    if chars.next().is_some() {
        excerpt.push('…');
    }
    excerpt
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, TcpStream};

    /// A socket, and the server's end of it.
    async fn pair() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let near = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("a listener");
        let (far, _) = listener.accept().await.expect("a connection");
        let socket = Socket {
            stream: near.into(),
            decoder: Decoder::new(Role::Client, Limits { message_bytes_max: MESSAGE_BYTES_MAX }),
            masks: MaskSource::new(1),
            buffer: Vec::new(),
            unread: 0,
            is_over: false,
            unwritten: Vec::new(),
            written: 0,
            pong: 0..0,
            unflushed: false,
        };
        (socket, far)
    }

    /// Gives the socket what a server has sent.
    fn comes(socket: &mut Socket, bytes: &[u8]) {
        socket.buffer = bytes.to_vec();
        socket.unread = bytes.len();
        assert!(matches!(socket.read(|_| {}), Read::Messages));
    }

    fn ping(payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        put_frame(&mut frame, Opcode::Ping, payload, None);
        frame
    }

    /// The frames that wait, with their masks taken off.
    fn waiting(socket: &Socket) -> Vec<(bool, Vec<u8>)> {
        let mut bytes = socket.unwritten.clone();
        let (mut rest, mut all) = (&mut bytes[..], Vec::new());
        let mut decoder = Decoder::new(Role::Server, Limits { message_bytes_max: MESSAGE_BYTES_MAX });
        while let Some(event) = decoder.decode(&mut rest).expect("frames") {
            match event {
                Event::Pong(payload) => all.push((true, payload.to_vec())),
                Event::Text(text) => all.push((false, text.as_bytes().to_vec())),
                other => panic!("{other:?}"),
            }
        }
        all
    }

    #[tokio::test]
    async fn the_newest_ping_of_a_server_that_does_not_read_is_answered() {
        let (mut socket, _far) = pair().await;
        socket.send("before");
        for _ in 0..100 {
            comes(&mut socket, &ping(&[b'x'; 125]).repeat(100));
        }
        socket.send("after");
        comes(&mut socket, &ping(b"last"));
        let expected = [(false, &b"before"[..]), (false, b"after"), (true, b"last")];
        assert_eq!(waiting(&socket), expected.map(|(pong, payload)| (pong, payload.to_vec())));
        socket.written = socket.unwritten.len() - 1; // within the pong
        comes(&mut socket, &ping(b"and one more"));
        assert_eq!(waiting(&socket).len(), 4, "what is under way stays whole");
    }

    #[tokio::test]
    async fn a_server_that_does_not_read_is_not_read_beyond_a_bound() {
        let (mut socket, mut far) = pair().await;
        socket.buffer = vec![0; READ_BYTES];
        far.write_all(&ping(b"")).await.expect("room");
        // More than the kernel's buffers take, and what they leave is over the bound.
        while socket.backlog() < UNWRITTEN_BYTES_MAX {
            socket.send(&"x".repeat(1 << 20));
            socket.flush().expect("open");
        }
        let mut ready = std::pin::pin!(socket.ready());
        let first = poll_fn(|cx| Poll::Ready(ready.as_mut().poll(cx))).await;
        assert!(first.is_pending(), "a ping is there, and would be read");
        let reads = tokio::spawn(async move {
            let mut sink = vec![0; 1 << 20];
            while far.read(&mut sink).await.expect("open") > 0 {}
        });
        ready.await; // something was written
        reads.abort();
    }
}
