//! The load generator: many client connections in one thread.
//!
//! In: sockets to open, bytes to send, and a [`Handler`] for messages. Out: finished handshakes, Engine.IO greetings,
//! answered pings, and messages that are cut out of frames, streams and answers, and counted by the handler. It is
//! cheap on purpose, because it shares the machine with the server: one edge-triggered poll, one read buffer for all
//! connections, no allocation per frame. A run that makes no progress ends in [`LoadError::Stalled`] and does not hang.

pub mod centrifugo;
pub mod check;
pub mod dialect;
pub mod flood;
pub mod frame;
pub mod http;
mod http2;
pub mod inflate;
pub(crate) mod link;
pub mod native;
pub mod socketio;
pub mod transport;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustls::ClientConfig;
use slab::Slab;
use socket2::{Domain, Socket, Type};
use thiserror::Error;

use check::DeliveryError;
use dialect::Dialect;
use frame::FrameError;
use http::{Form, Http};
use http2::Http2;
use inflate::{InflateError, Inflater};
use link::Link;

/// The way of waiting for data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Wait {
    /// In the kernel. The server's writes then pay for the wake-up, as they would for any client on the same machine.
    Sleep,
    /// By polling. The server's writes wake no thread, which shows its own cost more sharply.
    Spin,
}

/// The reason of an early end of a run.
#[derive(Debug, Error)]
pub enum LoadError {
    /// A system call failed.
    #[error("cannot {doing}")]
    Io {
        /// The attempted operation.
        doing: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// The server did not switch protocols.
    #[error("connection {conn}: no WebSocket handshake, the answer begins {head:?}")]
    Handshake {
        /// Which connection.
        conn: usize,
        /// The first bytes of the answer.
        head: String,
    },
    /// The server sent something that is not a frame for a client.
    #[error("connection {conn}: {source}")]
    Frame {
        /// Which connection.
        conn: usize,
        /// The fault.
        source: FrameError,
    },
    /// The server sent a compressed message that is not one.
    #[error("connection {conn}: {source}")]
    Inflate {
        /// Which connection.
        conn: usize,
        /// The fault.
        source: InflateError,
    },
    /// The server masked a frame, which RFC 6455 §5.1 forbids.
    #[error("connection {conn}: a masked frame from a server")]
    Masked {
        /// Which connection.
        conn: usize,
    },
    /// The server closed a connection that should have stayed.
    #[error("connection {conn} was closed by the server")]
    Closed {
        /// Which connection.
        conn: usize,
    },
    /// A delivery was repeated, missing, out of order or damaged.
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
    /// The server did something that the protocol, or this measurement, does not allow.
    #[error("connection {conn}: {what}")]
    Wrong {
        /// Which connection.
        conn: usize,
        /// Its behaviour, with the values.
        what: String,
    },
    /// More items came than the protocol allows.
    #[error("{got} {what} came, {expected} are right")]
    TooMany {
        /// The name of the items.
        what: &'static str,
        /// How many came.
        got: u64,
        /// How many should have.
        expected: u64,
    },
    /// An echo differs from the sent message.
    #[error("connection {conn}: an echo of other bytes than those sent")]
    WrongEcho {
        /// Which connection.
        conn: usize,
    },
    /// Nothing came for a long time, although messages are due.
    #[error("nothing came for {waited:?}; still owed: {owed} {what}")]
    Stalled {
        /// How long it was silent.
        waited: Duration,
        /// How many are missing.
        owed: u64,
        /// The name of the items.
        what: &'static str,
    },
}

impl LoadError {
    pub(crate) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }

    /// For a message that is not allowed in this state.
    pub fn unexpected(conn: usize, payload: &[u8]) -> Self {
        let text = String::from_utf8_lossy(&payload[..payload.len().min(300)]).into_owned();
        Self::Wrong { conn, what: format!("was not to get {text}") }
    }
}

/// A suite's reactions to events. Bytes put into `out` go to the same connection, after the message that is being read.
pub trait Handler {
    /// The connection can be used: upgraded, and in Socket.IO connected to the namespace. (With [`Dialect::Engine`] the
    /// suite connects to it.)
    fn on_ready(&mut self, conn: usize, out: &mut Outgoing) -> Result<(), LoadError>;

    /// A whole text or binary message, other than Engine.IO's own and native heartbeats.
    fn on_message(&mut self, conn: usize, payload: &[u8], out: &mut Outgoing) -> Result<(), LoadError>;

    /// The `id` of the block of an event stream whose message was handled last.
    fn on_event_id(&mut self, _conn: usize, _id: &[u8]) {}

    /// The connection has ended, and its id may be used again. This is an error unless the suite expects it.
    fn on_closed(&mut self, conn: usize) -> Result<(), LoadError> {
        Err(LoadError::Closed { conn })
    }

    /// The number and kind of messages that are still due; the run continues until it is zero.
    fn owed(&self) -> (u64, &'static str);
}

/// Frames or requests for one connection.
#[derive(Debug, Default)]
pub struct Outgoing {
    bytes: Vec<u8>,
}

impl Outgoing {
    /// Appends bytes as they are: a request.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends a text message.
    pub fn text(&mut self, payload: &str) {
        frame::encode_masked(frame::TEXT, payload.as_bytes(), &mut self.bytes);
    }

    /// Appends the start of the closing handshake, code 1000.
    pub fn close(&mut self) {
        frame::encode_masked(frame::CLOSE, &1000u16.to_be_bytes(), &mut self.bytes);
    }
}

/// The connections of one run.
#[derive(Debug)]
pub struct Load {
    poll: Poll,
    events: Events,
    conns: Slab<Conn>,
    addr: SocketAddr,
    wait: Wait,
    upgrade: Vec<u8>,
    tls: Option<Arc<ClientConfig>>,
    /// One for all connections: bytes are read here, and copied only while a frame is partial.
    buf: Vec<u8>,
    scratch: Scratch,
    received: u64,
    last_progress: Instant,
}

/// What all connections share while they read.
#[derive(Debug)]
struct Scratch {
    dialect: Dialect,
    /// Whether compressed messages were asked for.
    deflate: bool,
    inflater: Inflater,
    out: Outgoing,
}

#[derive(Debug)]
struct Conn {
    link: Link,
    state: State,
    /// The beginning of a frame or head that is not complete.
    partial: Vec<u8>,
    /// Bytes that the socket did not take.
    unsent: Vec<u8>,
    /// Where it speaks HTTP only.
    http: Option<Speaks>,
}

/// The version of HTTP of a connection that speaks nothing else.
#[derive(Debug)]
enum Speaks {
    Http1(Box<Http>),
    Http2(Box<Http2>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Waiting for the socket to be connected.
    Connecting,
    /// Upgrade sent, waiting for the head of the answer. (HTTP keeps its own progress.)
    Upgrading,
    /// Socket.IO: waiting for the answer to our connect packet.
    Greeting,
    /// In use.
    Open,
}

/// Larger reads gain nothing: a subscriber's share of eight publications is 1.7 KB.
const READ_BYTES: usize = 64 * 1024;
const EVENTS_PER_TURN: usize = 1024;
/// Short enough to notice a stall, long enough to cost nothing.
const NAP: Duration = Duration::from_millis(100);
/// A server that is silent for so long will not send the messages that are due.
const PATIENCE: Duration = Duration::from_secs(20);

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// RFC 6455 §1.3: the accept value of exactly this key.
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

impl Load {
    /// No connections yet.
    pub fn new(addr: SocketAddr, dialect: Dialect, wait: Wait) -> Result<Self, LoadError> {
        let scratch = Scratch { dialect, deflate: false, inflater: Inflater::default(), out: Outgoing::default() };
        Ok(Self {
            poll: Poll::new().map_err(LoadError::io("create a poll"))?,
            events: Events::with_capacity(EVENTS_PER_TURN),
            conns: Slab::new(),
            addr,
            wait,
            upgrade: upgrade(addr, dialect, ""),
            tls: None,
            buf: vec![0; READ_BYTES],
            scratch,
            received: 0,
            last_progress: Instant::now(),
        })
    }

    /// Connections from now on speak TLS.
    pub(crate) fn over_tls(mut self, config: Arc<ClientConfig>) -> Self {
        self.tls = Some(config);
        self
    }

    /// WebSockets from now on ask for compressed messages, each for itself.
    pub fn deflating(mut self) -> Self {
        const OFFER: &str =
            "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n";
        self.upgrade = upgrade(self.addr, self.scratch.dialect, OFFER);
        self.scratch.deflate = true;
        self
    }

    /// The server's address.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Bytes that were read from all connections so far; with TLS, of plaintext.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Starts one more connection, which is an event stream. It is ready when its first message has come.
    pub fn open_stream(&mut self, target: &str) -> Result<usize, LoadError> {
        self.open_http(Form::Events, http::get(self.addr, target, "Accept: text/event-stream\r\n"), true)
    }

    /// Starts one more connection, which begins with this request. If the answer is a stream, it is ready when the head
    /// of the answer has come; otherwise each answer is a message, and no readiness is reported.
    pub fn open_request(&mut self, form: Form, request: Vec<u8>) -> Result<usize, LoadError> {
        self.open_http(form, request, false)
    }

    fn open_http(&mut self, form: Form, request: Vec<u8>, with_greeting: bool) -> Result<usize, LoadError> {
        let id = self.open()?;
        self.conns[id].http = Some(Speaks::Http1(Http::new(form, request, with_greeting)));
        Ok(id)
    }

    /// Starts one more connection of HTTP/2, with so many event streams at one target. Each is ready with its head, and
    /// all have the connection's id.
    pub fn open_http2(&mut self, target: &str, streams: usize) -> Result<usize, LoadError> {
        let id = self.open()?;
        self.conns[id].http = Some(Speaks::Http2(Http2::new(self.addr, target, streams)));
        Ok(id)
    }

    /// Starts one more connection; ids count from zero as long as none is closed.
    pub fn open(&mut self) -> Result<usize, LoadError> {
        let stream = TcpStream::connect(self.addr).map_err(LoadError::io("connect"))?;
        self.add(stream)
    }

    /// The same with buffers as small as the kernel allows: its server soon notices a peer that does not read. A small
    /// receive buffer alone does not suffice, because the server's own buffer grows with the segment size, 64 KiB on a
    /// loopback.
    pub fn open_narrow(&mut self) -> Result<usize, LoadError> {
        const BUFFER_BYTES: usize = 4096;
        const SEGMENT_BYTES: u32 = 536;
        let socket =
            Socket::new(Domain::for_address(self.addr), Type::STREAM, None).map_err(LoadError::io("connect"))?;
        socket.set_recv_buffer_size(BUFFER_BYTES).map_err(LoadError::io("set SO_RCVBUF"))?;
        socket.set_tcp_mss(SEGMENT_BYTES).map_err(LoadError::io("set TCP_MAXSEG"))?;
        socket.connect(&self.addr.into()).map_err(LoadError::io("connect"))?;
        socket.set_nonblocking(true).map_err(LoadError::io("set O_NONBLOCK"))?;
        self.add(TcpStream::from_std(socket.into()))
    }

    fn add(&mut self, stream: TcpStream) -> Result<usize, LoadError> {
        let link = Link::new(stream, self.tls.as_ref()).map_err(LoadError::io("begin TLS"))?;
        let entry = self.conns.vacant_entry();
        let id = entry.key();
        let conn =
            entry.insert(Conn { link, state: State::Connecting, partial: Vec::new(), unsent: Vec::new(), http: None });
        self.poll
            .registry()
            .register(conn.link.socket(), Token(id), Interest::READABLE | Interest::WRITABLE)
            .map_err(LoadError::io("register a connection"))?;
        Ok(id)
    }

    /// Sends what `outgoing` holds and empties it.
    pub fn send(&mut self, conn: usize, outgoing: &mut Outgoing) -> Result<(), LoadError> {
        self.conns[conn].send(&outgoing.bytes)?;
        outgoing.bytes.clear();
        Ok(())
    }

    /// Ends a connection as a lost network does: without a close frame. Its handler is not called, its id is free.
    pub fn cut(&mut self, conn: usize) {
        self.conns.remove(conn);
    }

    /// Stops reading from it, and does not notice its end.
    pub fn mute(&mut self, conn: usize) -> Result<(), LoadError> {
        let registry = self.poll.registry();
        registry.deregister(self.conns[conn].link.socket()).map_err(LoadError::io("take a connection out of the poll"))
    }

    /// Reads from it again, including the bytes that came meanwhile.
    pub fn unmute(&mut self, conn: usize) -> Result<(), LoadError> {
        let (registry, interest) = (self.poll.registry(), Interest::READABLE | Interest::WRITABLE);
        let stream = self.conns[conn].link.socket();
        registry.register(stream, Token(conn), interest).map_err(LoadError::io("register a connection"))
    }

    /// Takes turns until nothing is due.
    pub fn drive<H: Handler>(&mut self, handler: &mut H) -> Result<(), LoadError> {
        while handler.owed().0 > 0 {
            self.turn(handler)?;
        }
        Ok(())
    }

    /// Waits once and handles everything that has come.
    pub fn turn<H: Handler>(&mut self, handler: &mut H) -> Result<(), LoadError> {
        self.turn_within(NAP, handler)
    }

    /// The same, but waits no longer than this.
    pub fn turn_within<H: Handler>(&mut self, nap: Duration, handler: &mut H) -> Result<(), LoadError> {
        let timeout = match self.wait {
            Wait::Sleep => nap,
            Wait::Spin => Duration::ZERO,
        };
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            result => result.map_err(LoadError::io("poll"))?,
        }
        if self.events.is_empty() {
            return self.nothing_came(handler);
        }
        self.last_progress = Instant::now();
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        let result = events.iter().try_for_each(|event| {
            if event.is_writable() {
                self.on_writable(event.token().0)?;
            }
            if event.is_readable() {
                self.on_readable(event.token().0, event.is_read_closed(), handler)?;
            }
            Ok(())
        });
        self.events = events;
        result
    }

    fn nothing_came<H: Handler>(&self, handler: &H) -> Result<(), LoadError> {
        let waited = self.last_progress.elapsed();
        if waited < PATIENCE {
            return Ok(());
        }
        let (owed, what) = handler.owed();
        Err(LoadError::Stalled { waited, owed, what })
    }

    fn on_writable(&mut self, id: usize) -> Result<(), LoadError> {
        // A connection that was closed earlier in this turn may still have an event.
        let Some(conn) = self.conns.get_mut(id) else { return Ok(()) };
        if conn.state == State::Connecting {
            let socket = conn.link.socket();
            if let Some(source) = socket.take_error().map_err(LoadError::io("ask a socket"))? {
                return Err(LoadError::Io { doing: "connect", source });
            }
            socket.set_nodelay(true).map_err(LoadError::io("set TCP_NODELAY"))?;
            conn.state = State::Upgrading;
            let request = match &mut conn.http {
                Some(Speaks::Http1(http)) => Some(std::mem::take(&mut http.request)),
                Some(Speaks::Http2(http)) => Some(std::mem::take(&mut http.request)),
                None => None,
            };
            return conn.send(request.as_ref().unwrap_or(&self.upgrade));
        }
        conn.link.flush().map_err(LoadError::io("write"))?;
        let unsent = std::mem::take(&mut conn.unsent);
        conn.send(&unsent)
    }

    fn on_readable<H: Handler>(&mut self, id: usize, ending: bool, handler: &mut H) -> Result<(), LoadError> {
        let Some(conn) = self.conns.get_mut(id) else { return Ok(()) };
        if conn.state == State::Connecting {
            return Ok(());
        }
        loop {
            let len = match conn.link.read(&mut self.buf) {
                Ok(0) => break,
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
                Err(source) => return Err(LoadError::Io { doing: "read", source }),
            };
            self.received += len as u64;
            conn.take(id, &self.buf[..len], handler, &mut self.scratch)?;
            let out = &mut self.scratch.out.bytes;
            if !out.is_empty() {
                conn.send(out)?;
                out.clear();
            }
            // A short read emptied the socket, and later data triggers a new event. An end that came with the data was
            // part of this event.
            if len < self.buf.len() && !ending && conn.link.is_empty_after_short_read() {
                return Ok(());
            }
        }
        self.conns.remove(id); // closes the socket, which also takes it out of the poll
        handler.on_closed(id)
    }
}

impl Conn {
    fn take<H: Handler>(
        &mut self,
        id: usize,
        bytes: &[u8],
        handler: &mut H,
        scratch: &mut Scratch,
    ) -> Result<(), LoadError> {
        if self.partial.is_empty() {
            let used = self.consume(id, bytes, handler, scratch)?;
            self.partial.extend_from_slice(&bytes[used..]);
        } else {
            let mut joined = std::mem::take(&mut self.partial);
            joined.extend_from_slice(bytes);
            let used = self.consume(id, &joined, handler, scratch)?;
            if used < joined.len() {
                joined.drain(..used);
                self.partial = joined;
            }
        }
        Ok(())
    }

    /// Handles every whole frame and says how many bytes they took.
    fn consume<H: Handler>(
        &mut self,
        id: usize,
        bytes: &[u8],
        handler: &mut H,
        scratch: &mut Scratch,
    ) -> Result<usize, LoadError> {
        let Scratch { dialect, deflate, inflater, out } = scratch;
        let dialect = *dialect;
        match &mut self.http {
            Some(Speaks::Http1(http)) => return http.consume(id, bytes, handler, out),
            Some(Speaks::Http2(http)) => return http.consume(id, bytes, handler, out),
            None => {}
        }
        let mut used = 0;
        if self.state == State::Upgrading {
            let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else { return Ok(0) };
            check_upgraded(id, &bytes[..end])?;
            used = end + 4;
            if dialect.is_socketio() {
                self.state = State::Greeting;
            } else {
                self.state = State::Open;
                handler.on_ready(id, out)?;
            }
        }
        while let Some((frame, len)) =
            frame::decode(&bytes[used..]).map_err(|source| LoadError::Frame { conn: id, source })?
        {
            used += len;
            if frame.mask.is_some() {
                return Err(LoadError::Masked { conn: id });
            }
            let payload = match frame.compressed {
                true if *deflate => {
                    inflater.inflate(frame.payload).map_err(|source| LoadError::Inflate { conn: id, source })?
                }
                true => {
                    return Err(LoadError::Frame {
                        conn: id,
                        source: FrameError::Reserved { first: bytes[used - len] },
                    });
                }
                false => frame.payload,
            };
            match frame.opcode {
                frame::PING => frame::encode_masked(frame::PONG, frame.payload, &mut out.bytes),
                // This is either the answer to our own close, or we wait for the end of the stream all the same.
                frame::PONG | frame::CLOSE => {}
                _ => match (dialect, self.state, payload.first()) {
                    (Dialect::Engine, State::Greeting, Some(b'0')) => {
                        self.state = State::Open;
                        handler.on_ready(id, out)?;
                    }
                    (Dialect::SocketIo | Dialect::Rooms, State::Greeting, Some(b'0')) => out.text("40"),
                    (Dialect::SocketIo | Dialect::Rooms, State::Greeting, Some(b'4')) => {
                        self.state = State::Open;
                        handler.on_ready(id, out)?;
                    }
                    (Dialect::SocketIo | Dialect::Rooms | Dialect::Engine, _, Some(b'2')) => out.text("3"),
                    (Dialect::Native, ..) if payload == native::PING => out.text(native::PONG),
                    (Dialect::Centrifugo, ..) => {
                        for reply in payload.split(|&byte| byte == b'\n').filter(|reply| !reply.is_empty()) {
                            match reply {
                                centrifugo::PING => out.text(centrifugo::PONG),
                                _ => handler.on_message(id, reply, out)?,
                            }
                        }
                    }
                    _ => handler.on_message(id, payload, out)?,
                },
            }
        }
        Ok(used)
    }

    /// Writes now; the rest waits until the socket is writable.
    fn send(&mut self, mut bytes: &[u8]) -> Result<(), LoadError> {
        while !bytes.is_empty() && self.unsent.is_empty() {
            match self.link.write(bytes) {
                Ok(len) => bytes = &bytes[len..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(LoadError::Io { doing: "write", source }),
            }
        }
        self.unsent.extend_from_slice(bytes);
        Ok(())
    }
}

/// The request for a WebSocket; `headers` are whole lines.
fn upgrade(addr: SocketAddr, dialect: Dialect, headers: &str) -> Vec<u8> {
    let subprotocol = dialect.subprotocol().map_or(String::new(), |name| format!("Sec-WebSocket-Protocol: {name}\r\n"));
    format!(
        "GET {} HTTP/1.1\r\nHost: {addr}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\n\
         Sec-WebSocket-Version: 13\r\n{subprotocol}{headers}\r\n",
        dialect.target()
    )
    .into_bytes()
}

fn check_upgraded(conn: usize, head: &[u8]) -> Result<(), LoadError> {
    if head.starts_with(b"HTTP/1.1 101") && memchr::memmem::find(head, ACCEPT.as_bytes()).is_some() {
        return Ok(());
    }
    let head = String::from_utf8_lossy(&head[..head.len().min(200)]).into_owned();
    Err(LoadError::Handshake { conn, head })
}
