//! Real servers and real sockets for the integration tests: blocking clients on loopback that speak WebSocket with the
//! server's codec, in the other role.
//!
//! Nothing here sleeps: a client waits for bytes, and gives up after [`DEADLINE`], which a passing test never comes
//! near. `FANFARE_SHARDS` sets the number of shards, by default 2, so that results must not depend on the shard of a
//! connection.

#![allow(dead_code, unreachable_pub)] // each test binary uses its own part

pub mod engine;
pub mod native;
pub mod polls;
pub mod rust_client;
pub mod scrape;
pub mod socketio;
pub mod stream;

use fanfare::hub::{Limits as HubLimits, Pattern, Quotas, Retain, Rule, Rules};
use fanfare::{Builder, Chat, Config, Echo, Fanfare, Hosts, Running};
use fanfare_wire::websocket::{
    Decoder, Event, Limits, MaskSource, Opcode, Role, client_key, put_close, put_frame, request,
};
use serde_json::Value;
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// The limit of every wait: a test that hangs fails.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// How many shards the tests run with.
pub fn shards() -> usize {
    std::env::var("FANFARE_SHARDS").map_or(2, |text| text.parse().expect("FANFARE_SHARDS is a number"))
}

/// A runtime on which handlers run.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

/// Settings for tests: all times are long unless a test sets them, so that a busy machine changes nothing.
pub fn config() -> Config {
    let patient = Duration::from_secs(30);
    // Many tests send more at once than a client should.
    let limits = HubLimits { quotas: Quotas::NONE, ..HubLimits::default() };
    // Most requests of the tests say `Host: x`.
    let hosts = Hosts::Any;
    let overload_lag = Duration::ZERO;
    Config {
        overload_lag,
        shards: shards(),
        head_timeout: patient,
        close_timeout: patient,
        hosts,
        limits,
        ..Config::open()
    }
}

/// One open rule whose history keeps `count` publications.
pub fn rules(count: u32) -> Arc<Rules> {
    let mut rule = Rule::open(Pattern::new("**").expect("a valid pattern"));
    rule.history = Retain { count, bytes: 256 << 20, ttl_ms: 600_000 };
    Arc::new(Rules::new(vec![rule]))
}

/// A server that runs until it is dropped.
pub struct Server {
    running: Option<Running>,
    pub address: SocketAddr,
}

impl Server {
    /// Chat at `/`, echo at `/echo`.
    pub fn start(config: Config) -> Server {
        Server::of(Fanfare::builder(()).config(config).protocol("/", patient_chat()).protocol("/echo", Echo::default()))
    }

    pub fn of<S: Clone + Send + Sync + 'static>(builder: Builder<S>) -> Server {
        Server::at("127.0.0.1:0".parse().expect("an address"), builder)
    }

    pub fn at<S: Clone + Send + Sync + 'static>(address: SocketAddr, builder: Builder<S>) -> Server {
        // RUST_LOG=debug shows the server's log for a test that fails. The second test of a binary finds the subscriber
        // set.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let running = builder.build().expect("good settings").start(&[address.into()]).expect("a free port");
        let address = running.tcp_address().expect("TCP");
        Server { running: Some(running), address }
    }

    /// Connections that are open, and sessions, over all shards.
    pub fn open(&self) -> (usize, usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let stats = runtime.block_on(self.running.as_ref().expect("it runs").stats());
        assert_eq!(stats.len(), shards(), "every shard answers");
        (stats.iter().map(|stats| stats.connections).sum(), stats.iter().map(|stats| stats.hub.sessions).sum())
    }

    /// Bytes of history, and channels that are followed, over all shards.
    pub fn kept(&self) -> (usize, usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let stats = runtime.block_on(self.running.as_ref().expect("it runs").stats());
        (stats.iter().map(|stats| stats.hub.history_bytes).sum(), stats.iter().map(|stats| stats.hub.edges).sum())
    }

    pub fn running(&self) -> &Running {
        self.running.as_ref().expect("it runs")
    }

    pub fn drain(mut self) {
        self.running.take().expect("it runs").drain_blocking().expect("no shard has failed");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // When `Running` is dropped the shards drain by themselves; the clients are gone by then or see the end of the
        // server.
        drop(self.running.take());
    }
}

/// A chat that never sends a heartbeat, and takes messages as long as frames are.
pub fn patient_chat() -> Chat {
    Chat::default().heartbeat_ms(600_000).content_chars_max(1 << 20)
}

/// A frame or an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    /// The peer has ended its half, or has reset the connection.
    End,
}

/// A WebSocket client.
pub struct Client {
    pub socket: TcpStream,
    decoder: Decoder,
    mask: MaskSource,
    frames: VecDeque<Frame>,
}

/// A socket with the deadline set.
pub fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).expect("the server listens");
    patient(socket)
}

pub fn patient(socket: TcpStream) -> TcpStream {
    socket.set_read_timeout(Some(DEADLINE)).expect("a socket takes a timeout");
    socket.set_write_timeout(Some(DEADLINE)).expect("a socket takes a timeout");
    socket.set_nodelay(true).expect("a socket takes the option");
    socket
}

/// An upgrade request's head.
pub fn upgrade(address: SocketAddr, path: &str, protocols: &[&str], headers: &[(&str, &str)]) -> Vec<u8> {
    let mut head = Vec::new();
    request(&mut head, &address.to_string(), path, &client_key([7; 16]), protocols, headers);
    head
}

/// A response: its head, and the body that `Content-Length` announces.
pub struct Response {
    pub head: String,
    pub body: String,
}

impl Response {
    pub fn status(&self) -> u16 {
        self.head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap_or_else(|| panic!("no status: {}", self.head))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v)
    }
}

/// Reads a head, and no byte behind it.
pub fn head(socket: &mut (impl Read + ?Sized)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if let Err(error) = socket.read_exact(&mut byte) {
            panic!("{error} after {:?}", String::from_utf8_lossy(&head));
        }
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("a head is text")
}

/// Reads exactly one response.
pub fn response(socket: &mut TcpStream) -> Response {
    let mut response = Response { head: head(socket), body: String::new() };
    let len = response.header("content-length").map_or(0, |len| len.parse().expect("a length"));
    let mut body = vec![0; len];
    socket.read_exact(&mut body).expect("the body is as long as it says");
    response.body = String::from_utf8(body).expect("text");
    response
}

impl Client {
    /// Opens a WebSocket.
    pub fn open(address: SocketAddr, path: &str) -> Client {
        Client::upgraded(connect(address), address, path, b"")
    }

    /// Upgrades a connection, with `more` in the same write as the head.
    pub fn upgraded(socket: TcpStream, address: SocketAddr, path: &str, more: &[u8]) -> Client {
        Client::speaking(socket, address, path, &[], more)
    }

    /// The same, with these subprotocols.
    pub fn speaking(mut socket: TcpStream, address: SocketAddr, path: &str, protocols: &[&str], more: &[u8]) -> Client {
        let mut head = upgrade(address, path, protocols, &[]);
        head.extend_from_slice(more);
        socket.write_all(&head).expect("the server reads");
        let response = response(&mut socket);
        assert_eq!(response.status(), 101, "{}{}", response.head, response.body);
        Client::of(socket)
    }

    /// A client on a connection that has been upgraded.
    pub fn of(socket: TcpStream) -> Client {
        let decoder = Decoder::new(Role::Client, Limits { message_bytes_max: 64 << 20 });
        Client { socket, decoder, mask: MaskSource::new(1), frames: VecDeque::new() }
    }

    /// Opens a chat and joins a room; returns when the room's state is there.
    pub fn join(address: SocketAddr, user: &str, room: &str) -> Client {
        let mut client = Client::open(address, "/");
        client.text(&join(user, room));
        client.until("room_state");
        client
    }

    pub fn send(&mut self, opcode: Opcode, payload: &[u8]) {
        let mut bytes = Vec::new();
        put_frame(&mut bytes, opcode, payload, Some(self.mask.next_mask()));
        self.socket.write_all(&bytes).expect("the server reads");
    }

    pub fn text(&mut self, text: &str) {
        self.send(Opcode::Text, text.as_bytes());
    }

    /// Sends a chat message.
    pub fn say(&mut self, content: &str) {
        self.text(&say(content));
    }

    /// The next frame.
    pub fn next(&mut self) -> Frame {
        let mut buffer = vec![0; 64 << 10];
        while self.frames.is_empty() {
            let count = match self.socket.read(&mut buffer) {
                Ok(0) => return Frame::End,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Frame::End,
                Err(error) => panic!("nothing came: {error}"),
            };
            let mut rest = &mut buffer[..count];
            while let Some(event) = self.decoder.decode(&mut rest).expect("the server speaks WebSocket") {
                self.frames.push_back(match event {
                    Event::Text(text) => Frame::Text(text.to_owned()),
                    Event::Binary(bytes) => Frame::Binary(bytes.to_vec()),
                    Event::Ping(payload) => Frame::Ping(payload.to_vec()),
                    Event::Pong(payload) => Frame::Pong(payload.to_vec()),
                    Event::Close(None) => Frame::Close(None, String::new()),
                    Event::Close(Some(close)) => Frame::Close(Some(close.code), close.reason.to_owned()),
                });
            }
        }
        self.frames.pop_front().expect("something came")
    }

    /// The next chat message; it must be one.
    pub fn message(&mut self) -> Value {
        match self.next() {
            Frame::Text(text) => serde_json::from_str(&text).expect("a chat message is JSON"),
            other => panic!("a chat message was to come, not {other:?}"),
        }
    }

    /// Chat messages up to the first of this type, which is returned.
    pub fn until(&mut self, kind: &str) -> Value {
        loop {
            let message = self.message();
            if message["type"] == kind {
                return message;
            }
        }
    }

    /// Skips frames until a close, and returns its code.
    pub fn closed(&mut self) -> Option<u16> {
        loop {
            match self.next() {
                Frame::Close(code, _) => return code,
                Frame::End => panic!("the connection ended without a close"),
                _ => {}
            }
        }
    }

    /// Closes from this side, and waits for the server's close and the end.
    pub fn close(mut self) {
        let mut bytes = Vec::new();
        put_close(&mut bytes, 1000, "", Some(self.mask.next_mask()));
        self.socket.write_all(&bytes).expect("the server reads");
        assert_eq!(self.closed(), Some(1000));
        self.socket.shutdown(Shutdown::Write).expect("ours to end");
        assert_eq!(self.next(), Frame::End);
    }
}

/// A frame in a client's form.
pub fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_frame(&mut bytes, opcode, payload, Some([1, 2, 3, 4]));
    bytes
}

pub fn join(user: &str, room: &str) -> String {
    serde_json::json!({"type": "join", "userId": user, "username": user, "roomId": room, "timestamp": 1}).to_string()
}

pub fn say(content: &str) -> String {
    serde_json::json!({"type": "message", "content": content}).to_string()
}

/// The same random bytes in every run.
pub struct Random(MaskSource);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(MaskSource::new(seed))
    }

    pub fn below(&mut self, max: usize) -> usize {
        u32::from_ne_bytes(self.0.next_mask()) as usize % max
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.0.next_mask()[0]).collect()
    }
}
