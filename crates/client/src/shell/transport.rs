//! One WebSocket over TCP, or over a Unix socket: opened, read, written, closed. It knows nothing of the protocol inside.

use super::url::{Place, Url};
use fanfare_hub::Rng;
use fanfare_wire::native::PROTOCOL;
use fanfare_wire::websocket::{
    ClientRefusal, Decoder, Event, Limits, MaskSource, Opcode, Role, client_key, put_close, put_frame, request, verify,
};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;

/// The longest head of a response.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// The longest message of a server: a page of 256 KiB, escaped and wrapped, and room.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Read at once.
const READ_BYTES: usize = 16 << 10;
/// How long a closing connection is waited for.
const CLOSING: Duration = Duration::from_secs(1);

/// Why there is no transport.
#[derive(Debug, Clone)]
pub(super) enum OpenError {
    /// Another attempt may succeed.
    Failed(String),
    /// None will.
    Refused(String),
}

/// What was read.
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
    /// What came with the head of the response, and a place to read into.
    buffer: Vec<u8>,
    early: usize,
    /// Frames that are not written yet.
    unwritten: Vec<u8>,
    written: usize,
}

impl Socket {
    /// Connects and shakes hands. The caller limits the time.
    pub(super) async fn open(url: Url, seed: u64) -> Result<Self, OpenError> {
        let failed = |error: io::Error| OpenError::Failed(error.to_string());
        let mut stream = Stream::connect(&url.place).await.map_err(failed)?;
        let mut rng = Rng::new(seed);
        let mut random = [0; 16];
        random[..8].copy_from_slice(&rng.next_u64().to_be_bytes());
        random[8..].copy_from_slice(&rng.next_u64().to_be_bytes());
        let key = client_key(random);
        let mut head = Vec::with_capacity(512);
        request(&mut head, &url.authority, &url.path_and_query, &key, &[PROTOCOL], &[]);
        stream.write_all(&head).await.map_err(failed)?;

        let mut buffer = Vec::with_capacity(READ_BYTES);
        let head_len = loop {
            if stream.read_buf(&mut buffer).await.map_err(failed)? == 0 {
                return Err(OpenError::Failed("the server hung up before it answered".to_owned()));
            }
            if let Some(len) = judge(&buffer, &key)? {
                break len;
            }
            if buffer.len() > HEAD_BYTES_MAX {
                let problem = format!("the server's answer has a head of more than {HEAD_BYTES_MAX} bytes");
                return Err(OpenError::Refused(problem));
            }
        };
        buffer.drain(..head_len);
        let early = buffer.len();
        buffer.resize(READ_BYTES.max(early), 0);
        Ok(Socket {
            stream,
            decoder: Decoder::new(Role::Client, Limits { message_bytes_max: MESSAGE_BYTES_MAX }),
            masks: MaskSource::new(rng.next_u64()),
            buffer,
            early,
            unwritten: Vec::new(),
            written: 0,
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

    /// Ready when something can be read, or written where something waits. Cancelling it loses nothing.
    pub(super) async fn ready(&self) -> io::Result<()> {
        if self.early > 0 {
            return Ok(());
        }
        let interest = if self.backlog() > 0 { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        self.stream.ready(interest).await
    }

    /// Writes what the socket takes now.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while self.backlog() > 0 {
            match self.stream.try_write(&self.unwritten[self.written..]) {
                Ok(len) => self.written += len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.unwritten.clear();
        self.written = 0;
        Ok(())
    }

    /// Reads once, and gives each text message to `take`. Pings are answered.
    pub(super) fn read(&mut self, mut take: impl FnMut(&str)) -> Read {
        let len = match std::mem::take(&mut self.early) {
            0 => match self.stream.try_read(&mut self.buffer) {
                Ok(0) => return Read::Over(None),
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Read::Messages,
                Err(_) => return Read::Over(None),
            },
            early => early,
        };
        let mut input = &mut self.buffer[..len];
        loop {
            match self.decoder.decode(&mut input) {
                Ok(None) => return Read::Messages,
                Ok(Some(Event::Text(text))) => take(text),
                // The protocol is text; a server that sends anything else breaks it.
                Ok(Some(Event::Binary(_))) => return self.over(1003, None),
                Ok(Some(Event::Ping(payload))) => {
                    put_frame(&mut self.unwritten, Opcode::Pong, payload, Some(self.masks.next_mask()));
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

    /// Says goodbye; what waits is written first, as far as that goes in a second.
    pub(super) fn close(mut self, code: u16) {
        put_close(&mut self.unwritten, code, "", Some(self.masks.next_mask()));
        self.finish();
    }

    /// Writes what waits, then waits for the peer's end of the connection: closing at once could take back what is written.
    pub(super) fn finish(mut self) {
        tokio::spawn(tokio::time::timeout(CLOSING, async move {
            self.stream.write_all(&self.unwritten[self.written..]).await?;
            self.stream.end(&mut self.buffer).await
        }));
    }
}

/// What it is over: these two have the same methods, and no trait for them.
#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

/// The same on either.
macro_rules! on {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            Stream::Tcp($inner) => $call,
            #[cfg(unix)]
            Stream::Unix($inner) => $call,
        }
    };
}

impl Stream {
    async fn connect(place: &Place) -> io::Result<Self> {
        match place {
            Place::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            #[cfg(unix)]
            Place::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix),
        }
    }

    async fn ready(&self, interest: Interest) -> io::Result<()> {
        on!(self, stream => stream.ready(interest).await.map(drop))
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        on!(self, stream => stream.try_read(buffer))
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        on!(self, stream => stream.try_write(bytes))
    }

    async fn read_buf(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        on!(self, stream => stream.read_buf(buffer).await)
    }

    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        on!(self, stream => stream.write_all(bytes).await)
    }

    /// Says that nothing more comes, and reads to the peer's end.
    async fn end(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        on!(self, stream => {
            stream.shutdown().await?;
            while stream.read(buffer).await? > 0 {}
            Ok(())
        })
    }
}

/// The length of the response's head, once it is whole and good.
fn judge(buffer: &[u8], key: &str) -> Result<Option<usize>, OpenError> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let len = match response.parse(buffer) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(OpenError::Refused(format!("the server does not speak HTTP: {error}"))),
    };
    let headers = response.headers.iter().map(|header| (header.name, header.value));
    match verify(response.code.unwrap_or_default(), headers, key, &[PROTOCOL]) {
        Ok(established) if established.protocol == Some(PROTOCOL) => Ok(Some(len)),
        Ok(_) => Err(OpenError::Refused(format!("the server does not speak {PROTOCOL}"))),
        Err(ClientRefusal::Status { status: status @ (408 | 425 | 429 | 500..) }) => {
            Err(OpenError::Failed(format!("the server answered {status}")))
        }
        Err(refusal) => Err(OpenError::Refused(refusal.to_string())),
    }
}
