//! A server for tests: in-memory clients that speak the native protocol, and a clock that stands still until it is
//! moved.
//!
//! It runs the real server (hub, shard, WebSocket frames, handlers) on one shard. Only the sockets are pairs within the
//! process, and the test [advances](TestServer::advance) the hub's time: heartbeats, graces, history and tokens expire
//! then.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), fanfare::ServeError> {
//! use fanfare::{Fanfare, Publish, Refusal};
//! use serde_json::json;
//!
//! let server = Fanfare::builder(())
//!     .channel("chat:*", |c| c.open())
//!     .on_publish("chat:*", async |p: Publish| match p.data.bytes().len() {
//!         0..100 => Ok(p),
//!         _ => Err(Refusal::denied("too long for a chat")),
//!     })
//!     .build()?
//!     .test()?;
//! let (mut ada, mut bob) = (server.client().await, server.client().await);
//! bob.subscribe("chat:a").await;
//! ada.publish("chat:a", &json!("hello")).await;
//! assert_eq!(bob.message().await["data"], json!("hello"));
//! let refused = ada.request(json!({"type": "publish", "channel": "chat:a", "data": "x".repeat(200)})).await;
//! assert_eq!(refused["code"], "denied");
//! assert_eq!(bob.nothing_more().await, ());
//! # Ok(()) }
//! ```

use crate::control::{Control, Upgraded};
use crate::embed::handle::Handle;
use crate::error::ServeError;
use crate::http::cors::Page;
use crate::http::gate::Gate;
use crate::protocol::ProtocolAtPath;
use crate::request::{RequestInfo, pairs};
use crate::server::{Fanfare, Running};
use crate::transport::socket::LooseSocket;
use fanfare_hub::WireId;
use fanfare_wire::websocket::{self, Decoder, Event, Limits, Opcode, Role};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::oneshot;

/// How long a test waits before it fails.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest message that a test client takes.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// A client's frames are masked (RFC 6455 §5.1); the mask does not matter here.
const MASK: Option<[u8; 4]> = Some([1, 2, 3, 4]);

/// See the module's description. Dropping it stops the server.
pub struct TestServer {
    handle: Handle,
    protocols: Vec<ProtocolAtPath>,
    gate: Arc<Gate>,
    /// Stops the server when it is dropped.
    _running: Running,
}

/// The end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// The close code. 1005: the close frame had none. 1006: there was no close frame.
    pub code: u16,
    /// The reason; empty if there was none.
    pub reason: String,
}

impl Closed {
    fn without_reason(code: u16) -> Self {
        Closed { code, reason: String::new() }
    }
}

/// A client of a [`TestServer`]. Its methods panic, as assertions do, if an expected message does not come.
pub struct TestClient {
    socket: UnixStream,
    decoder: Decoder,
    /// Pushes that came while something else was waited for.
    pushes: VecDeque<Value>,
    /// How the server has closed, once it has.
    closed: Option<Closed>,
    next_id: u64,
    pongs: u64,
    connected: Value,
}

impl Fanfare {
    /// Starts the server for a test: one shard, no port, and a clock that stands still.
    ///
    /// # Errors
    /// [`ServeError`] as for [`start`](Self::start).
    pub fn test(mut self) -> Result<TestServer, ServeError> {
        self.on_manual_clock();
        let (handle, protocols) = (self.handle(), self.protocols().to_vec());
        let (service, running) = self.into_service()?;
        Ok(TestServer { handle, protocols, gate: service.gate(), _running: running })
    }
}

impl TestServer {
    /// The application's interface.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// A client that has connected without a token.
    pub async fn client(&self) -> TestClient {
        self.connect(json!({"type": "connect"})).await
    }

    /// A client that has connected with this token.
    pub async fn client_with_token(&self, token: &str) -> TestClient {
        self.connect(json!({"type": "connect", "token": token})).await
    }

    /// A client that has sent this `connect`; its answer, which may be an error, is [`TestClient::connected`].
    pub async fn connect(&self, connect: Value) -> TestClient {
        let mut client = self.open("/v1/ws", Some("fanfare.v1"));
        client.connected = client.request(connect).await;
        client
    }

    /// A client whose connection began with this request, and that has sent this `connect`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), fanfare::ServeError> {
    /// use fanfare::{Cookies, Fanfare, Identity, Refusal, RequestInfo};
    /// use serde_json::json;
    ///
    /// let server = Fanfare::builder(())
    ///     .on_connect(async |cookies: Cookies| match cookies.get("session") {
    ///         Some(session) => Ok(Identity::user(session)), // a real program looks it up
    ///         None => Err(Refusal::unauthorized("log in first")),
    ///     })
    ///     .build()?
    ///     .test()?;
    /// let request = RequestInfo::get("/v1/ws").with_header("cookie", "session=ada");
    /// let ada = server.connect_with(request, json!({"type": "connect"})).await;
    /// assert_eq!(ada.connected()["user"], "ada");
    /// assert_eq!(server.client().await.connected()["code"], "unauthorized");
    /// # Ok(()) }
    /// ```
    pub async fn connect_with(&self, request: RequestInfo, connect: Value) -> TestClient {
        let mut client = self.open_with(request, Some("fanfare.v1"));
        client.connected = client.request(connect).await;
        client
    }

    /// A connection at another path, on which no message has been sent yet.
    ///
    /// # Panics
    /// There is no protocol at that path.
    pub fn open(&self, path: &str, subprotocol: Option<&str>) -> TestClient {
        self.open_with(RequestInfo::get(path), subprotocol)
    }

    /// The same by a request with a query and headers. A token in them counts.
    ///
    /// # Panics
    /// There is no protocol at its path, or it shows two different tokens.
    pub fn open_with(&self, request: RequestInfo, subprotocol: Option<&str>) -> TestClient {
        let path = request.uri.path();
        let wire = self.protocols.iter().position(|at| at.is(path, subprotocol));
        let wire =
            wire.unwrap_or_else(|| panic!("there is no protocol at {path:?} with the subprotocol {subprotocol:?}"));
        let (near, far) = std::os::unix::net::UnixStream::pair().expect("the system has sockets");
        near.set_nonblocking(true).and_then(|()| far.set_nonblocking(true)).expect("sockets can be non-blocking");
        let (socket, wire) = (LooseSocket::from(far), WireId(wire as u8));
        let peer = request.peer;
        let carried = self.gate.token(&Page::None, &request.uri, || pairs(&request.headers));
        let request = request.carrying(carried.expect("a request shows one token"));
        let upgraded = Upgraded { socket, peer, wire, rest: Vec::new(), request: Some(Arc::new(request)), sid: None };
        let adopt = Control::Adopt(Box::new(upgraded));
        assert!(self.handle.controls()[0].send(adopt).is_ok(), "the server has stopped");
        let limits = Limits { message_bytes_max: MESSAGE_BYTES_MAX };
        TestClient {
            socket: UnixStream::from_std(near).expect("a test runs on a tokio runtime with I/O"),
            decoder: Decoder::new(Role::Client, limits),
            pushes: VecDeque::new(),
            closed: None,
            next_id: 0,
            pongs: 0,
            connected: Value::Null,
        }
    }

    /// Moves the clock. Every timer that is due on the way fires at its own time. A client's earlier message is handled
    /// before, if the client has its answer.
    pub async fn advance(&self, time: Duration) {
        let (done, is_done) = oneshot::channel();
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        assert!(self.handle.controls()[0].send(Control::Advance(ms, done)).is_ok(), "the server has stopped");
        is_done.await.expect("a shard that runs answers");
    }
}

impl TestClient {
    /// The answer to `connect`.
    pub fn connected(&self) -> &Value {
        &self.connected
    }

    /// Sends a command as it is; its answer comes like a push.
    pub async fn send(&mut self, command: Value) {
        self.send_text(&command.to_string()).await;
    }

    /// Sends any text.
    pub async fn send_text(&mut self, text: &str) {
        self.write(Opcode::Text, text.as_bytes()).await;
    }

    /// Sends a command with an `id`, and waits for the answer with the same: a reply, or an `error`.
    pub async fn request(&mut self, mut command: Value) -> Value {
        self.next_id += 1;
        let id = json!(self.next_id);
        command["id"] = id.clone();
        self.send(command.clone()).await;
        loop {
            match self.receive().await {
                Some(answer) if answer["id"] == id => return answer,
                Some(push) => self.pushes.push_back(push),
                None => panic!("the server closed with {:?} instead of answering {command}", self.closed),
            }
        }
    }

    /// Subscribes, and gives the `subscribed`.
    ///
    /// # Panics
    /// It was refused.
    pub async fn subscribe(&mut self, channel: &str) -> Value {
        let answer = self.request(json!({"type": "subscribe", "channel": channel})).await;
        assert_eq!(answer["type"], "subscribed", "{answer}");
        answer
    }

    /// Publishes, and gives the `published`.
    ///
    /// # Panics
    /// It was refused.
    pub async fn publish(&mut self, channel: &str, data: &impl Serialize) -> Value {
        let answer = self.request(json!({"type": "publish", "channel": channel, "data": data})).await;
        assert_eq!(answer["type"], "published", "{answer}");
        answer
    }

    /// Calls a method, and gives its `result` or `error`.
    pub async fn rpc(&mut self, method: &str, data: &impl Serialize) -> Value {
        self.request(json!({"type": "rpc", "method": method, "data": data})).await
    }

    /// The next push.
    ///
    /// # Panics
    /// The server closed the connection instead.
    pub async fn next(&mut self) -> Value {
        if let Some(push) = self.pushes.pop_front() {
            return push;
        }
        match self.receive().await {
            Some(push) => push,
            None => panic!("the server closed with {:?} instead of pushing anything", self.closed),
        }
    }

    /// The next `message`; earlier pushes are kept for [`next`](Self::next).
    pub async fn message(&mut self) -> Value {
        self.next_of("message").await
    }

    /// The next push of a type; earlier pushes are kept for [`next`](Self::next).
    ///
    /// # Panics
    /// The server closed the connection instead.
    pub async fn next_of(&mut self, kind: &str) -> Value {
        if let Some(at) = self.pushes.iter().position(|push| push["type"] == kind) {
            return self.pushes.remove(at).expect("its place was just found");
        }
        loop {
            match self.receive().await {
                Some(push) if push["type"] == kind => return push,
                Some(push) => self.pushes.push_back(push),
                None => panic!("the server closed with {:?} instead of pushing a {kind}", self.closed),
            }
        }
    }

    /// Asserts that no unread push has come, and that none is on its way.
    ///
    /// # Panics
    /// Something has.
    pub async fn nothing_more(&mut self) {
        self.pongs += 1;
        self.write(Opcode::Ping, &self.pongs.to_be_bytes()).await;
        let before = self.pongs;
        while self.pongs == before {
            match self.receive_or_pong().await {
                Some(Some(push)) => self.pushes.push_back(push),
                Some(None) | None => break,
            }
        }
        assert!(self.pushes.is_empty(), "more has come: {:?}", self.pushes);
    }

    /// Waits for the end of the connection.
    pub async fn closed(&mut self) -> Closed {
        while let Some(push) = self.receive().await {
            self.pushes.push_back(push);
        }
        self.closed.clone().unwrap_or_else(|| Closed::without_reason(1006))
    }

    /// Cuts the connection without a close frame, as a lost network does. The session lives on for its grace.
    pub fn cut(self) {}

    async fn write(&mut self, opcode: Opcode, payload: &[u8]) {
        let mut frame = Vec::new();
        websocket::put_frame(&mut frame, opcode, payload, MASK);
        let _ = self.socket.write_all(&frame).await; // an end shows at the next receive
    }

    /// The next message; `None` after the end.
    async fn receive(&mut self) -> Option<Value> {
        loop {
            if let Some(push) = self.receive_or_pong().await? {
                return Some(push);
            }
        }
    }

    /// The next message, or a pong.
    async fn receive_or_pong(&mut self) -> Option<Option<Value>> {
        if self.closed.is_some() {
            return None;
        }
        let receiving = tokio::time::timeout(PATIENCE, self.receive_event()).await;
        receiving.unwrap_or_else(|_| panic!("nothing came for {PATIENCE:?}; unread pushes: {:?}", self.pushes))
    }

    async fn receive_event(&mut self) -> Option<Option<Value>> {
        loop {
            // A byte at a time, so that nothing is read that this event does not need: simple, and fast enough for a
            // test.
            let mut byte = [0];
            if !matches!(self.socket.read(&mut byte).await, Ok(1)) {
                self.closed.get_or_insert_with(|| Closed::without_reason(1006));
                return None;
            }
            let mut input = &mut byte[..];
            match self.decoder.decode(&mut input).expect("the server speaks WebSocket") {
                None => {}
                Some(Event::Text(text)) => {
                    return Some(Some(serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))));
                }
                Some(Event::Pong(_)) => return Some(None),
                Some(Event::Close(frame)) => {
                    let frame = frame.map(|frame| Closed { code: frame.code, reason: frame.reason.to_owned() });
                    self.closed = Some(frame.unwrap_or_else(|| Closed::without_reason(1005)));
                    return None;
                }
                Some(Event::Ping(payload)) => {
                    let payload = payload.to_vec();
                    self.write(Opcode::Pong, &payload).await;
                }
                Some(Event::Binary(bytes)) => return Some(Some(json!({"binary": bytes}))),
            }
        }
    }
}
