//! The request that a connection began with, as handlers and protocols see it, for every kind of connection.

mod support;

use fanfare::hub::{Ended, Now, Push, Reply};
use fanfare::{
    Actions, Address, Builder, Conversation, Cookies, Encoded, Fanfare, Headers, Identity, Json, Message, Peer, Place,
    Protocol, Publish, Query, Refusal, RequestInfo, State, secs,
};
use fanfare_wire::native::PROTOCOL;
use fanfare_wire::websocket::{Decoder, Event, Limits, Opcode, Role, put_frame};
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use support::{DEADLINE, config, patient};
use tokio::sync::mpsc::unbounded_channel;

#[derive(Deserialize)]
struct Room {
    room: u32,
}

fn allowed(headers: &Headers) -> Result<(), Refusal> {
    match headers.get("x-test").map(|value| value.as_bytes()) {
        Some(b"yes") => Ok(()),
        other => Err(Refusal::denied(format!("{other:?}"))),
    }
}

/// Every handler needs a part of the request.
fn builder() -> Builder {
    Fanfare::builder(())
        .config(config())
        .channel("**", |c| c.open())
        .on_connect(async |Query(query): Query<Room>| Identity::user(query.room.to_string()))
        .on_subscribe("**", async |headers: Headers| allowed(&headers))
        .on_publish("**", async |headers: Headers, p: Publish| allowed(&headers).map(|()| p))
        .rpc("request", async |request: Arc<RequestInfo>, peer: Peer, cookies: Cookies| {
            Json(json!({
                "method": request.method.as_str(),
                "uri": request.uri.to_string(),
                "cookie": cookies.get("session"),
                "peer": peer.to_string(),
                "local": request.local.map(|local| local.to_string()),
                "scheme": request.scheme.as_str(),
                "version": format!("{:?}", request.version),
            }))
        })
}

/// A client of the native protocol on any socket.
struct Client<S> {
    socket: S,
    decoder: Decoder,
}

impl<S: Read + Write> Client<S> {
    fn upgrade(mut socket: S, target: &str) -> Self {
        let head = format!(
            "GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: {PROTOCOL}\r\nX-Test: yes\r\nCookie: a=b; session=ada\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).expect("written");
        let answer = support::head(&mut socket);
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        Client { socket, decoder: Decoder::new(Role::Client, Limits { message_bytes_max: 1 << 20 }) }
    }

    fn ask(&mut self, mut command: Value) -> Value {
        command["id"] = json!(1);
        let mut bytes = Vec::new();
        put_frame(&mut bytes, Opcode::Text, command.to_string().as_bytes(), Some([1, 2, 3, 4]));
        self.socket.write_all(&bytes).expect("written");
        let mut buffer = [0; 4096];
        loop {
            let count = self.socket.read(&mut buffer).expect("an answer");
            assert!(count > 0, "the server closed instead of answering {command}");
            let mut rest = &mut buffer[..count];
            while let Some(event) = self.decoder.decode(&mut rest).expect("WebSocket") {
                let Event::Text(text) = event else { panic!("{event:?}") };
                let message: Value = serde_json::from_str(text).expect("JSON");
                if message["id"] == 1 {
                    return message;
                }
            }
        }
    }

    /// All handlers' views of the request.
    fn sees(mut self, name: &str, peer: &str, local: Option<SocketAddr>) {
        assert_eq!(self.ask(json!({"type": "connect"}))["user"], "7", "{name}");
        let subscribed = self.ask(json!({"type": "subscribe", "channel": "a"}));
        assert_eq!(subscribed["type"], "subscribed", "{name}: {subscribed}");
        let published = self.ask(json!({"type": "publish", "channel": "a", "data": 1}));
        assert_eq!(published["type"], "published", "{name}: {published}");
        let expected = json!({
            "method": "GET",
            "uri": "/v1/ws?room=7&x=%20y",
            "cookie": "ada",
            "peer": peer,
            "local": local.map(|local| local.to_string()),
            "scheme": "http",
            "version": "HTTP/1.1",
        });
        assert_eq!(self.ask(json!({"type": "rpc", "method": "request", "data": {}}))["data"], expected, "{name}");
    }
}

const TARGET: &str = "/v1/ws?room=7&x=%20y";

fn connect(address: SocketAddr) -> TcpStream {
    patient(TcpStream::connect(address).expect("it accepts"))
}

fn tcp_sees(name: &str, socket: TcpStream) {
    let ends = (socket.local_addr().expect("bound"), socket.peer_addr().expect("connected"));
    Client::upgrade(socket, TARGET).sees(name, &ends.0.to_string(), Some(ends.1));
}

/// Handlers run on a runtime; the clients block.
#[tokio::test(flavor = "multi_thread")]
async fn every_handler_sees_the_request_over_tcp_and_unix_sockets() {
    let path = std::env::temp_dir().join(format!("fanfare-request-{}.sock", std::process::id()));
    let addresses = ["127.0.0.1:0".parse().expect("an address"), Address::Unix(path.clone())];
    let running = builder().build().expect("valid").start(&addresses).expect("it starts");
    let address = running.tcp_address().expect("TCP");
    let clients = tokio::task::spawn_blocking(move || {
        tcp_sees("the first request", connect(address));
        let mut kept_alive = connect(address);
        kept_alive.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("written");
        support::head(&mut kept_alive);
        kept_alive.read_exact(&mut [0; 3]).expect("ok");
        tcp_sees("a later request of the connection", kept_alive);
        let unix = UnixStream::connect(&path).expect("it accepts");
        unix.set_read_timeout(Some(DEADLINE)).expect("a socket takes a timeout");
        let uid = rustix::process::getuid().as_raw();
        Client::upgrade(unix, TARGET).sees("a Unix socket", &format!("unix uid {uid}"), None);
    });
    clients.await.expect("the clients are content");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_handler_sees_the_request_within_another_server() {
    let (service, _running) = builder().build().expect("valid").into_service().expect("it starts");
    let app = axum::Router::new().fallback_service(service);
    let bind = async || tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let (plain, with_info) = (bind().await, bind().await);
    let addresses = [plain.local_addr().expect("bound"), with_info.local_addr().expect("bound")];
    let with_peer = app.clone().into_make_service_with_connect_info::<PeerOfTest>();
    let serving = [
        tokio::spawn(axum::serve(plain, app).into_future()),
        tokio::spawn(axum::serve(with_info, with_peer).into_future()),
    ];
    let clients = tokio::task::spawn_blocking(move || {
        tcp_sees("axum", connect(addresses[0]));
        tcp_sees("axum that tells something else", connect(addresses[1]));
    });
    clients.await.expect("the clients are content");
    serving.iter().for_each(|serving| serving.abort());
}

/// An application may attach its own value to a connection, even one of another type than the server expects.
#[derive(Clone)]
struct PeerOfTest;

impl axum::extract::connect_info::Connected<axum::serve::IncomingStream<'_, tokio::net::TcpListener>> for PeerOfTest {
    fn connect_info(_: axum::serve::IncomingStream<'_, tokio::net::TcpListener>) -> Self {
        PeerOfTest
    }
}

/// A listener whose sockets axum cannot reach, as with TLS.
struct Wrapped(tokio::net::TcpListener);

impl axum::serve::Listener for Wrapped {
    type Io = tokio::io::Join<tokio::net::tcp::OwnedReadHalf, tokio::net::tcp::OwnedWriteHalf>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        let (socket, address) = self.0.accept().await.expect("it accepts");
        let (read, write) = socket.into_split();
        (tokio::io::join(read, write), address)
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// The pair of sockets that carries the bytes does not show the peer; `ConnectInfo` does.
#[tokio::test(flavor = "multi_thread")]
async fn where_the_socket_is_out_of_reach_the_other_server_tells_the_peer_or_nobody_does() {
    let (service, _running) = builder().build().expect("valid").into_service().expect("it starts");
    let bind = async || Wrapped(tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port"));
    let peer: SocketAddr = "192.0.2.1:4711".parse().expect("an address");
    let with_info = axum::Router::new().fallback_service(service.clone()).layer(axum::Extension(
        axum::extract::ConnectInfo(peer), // as into_make_service_with_connect_info sets it
    ));
    let without_info = axum::Router::new().fallback_service(service);
    for (name, app, expected) in [("told", with_info, "192.0.2.1:4711"), ("not told", without_info, "unknown")] {
        let listener = bind().await;
        let address = axum::serve::Listener::local_addr(&listener).expect("bound");
        let serving = tokio::spawn(axum::serve(listener, app).into_future());
        let client = move || Client::upgrade(connect(address), TARGET).sees(name, expected, None);
        tokio::task::spawn_blocking(client).await.expect("the client is content");
        serving.abort();
    }
}

#[tokio::test]
async fn a_query_that_does_not_fit_is_refused_with_what_is_wrong() {
    let server = builder().build().expect("valid").test().expect("it starts");
    for (query, wrong) in [("", "missing field `room`"), ("?room=x", "invalid digit found in string")] {
        let request = RequestInfo::get(&format!("/v1/ws{query}"));
        let client = server.connect_with(request, json!({"type": "connect"})).await;
        assert_eq!(client.connected()["code"], "bad_request", "{query}: {}", client.connected());
        let message = client.connected()["message"].as_str().expect("a sentence");
        assert!(message.starts_with("the query of the address: ") && message.contains(wrong), "{query}: {message}");
    }
}

#[tokio::test]
async fn the_end_of_a_session_brings_the_request_of_its_last_connection() {
    let (ends, mut tells) = unbounded_channel();
    let server = Fanfare::builder(ends).on_disconnect(
        async |State(ends): State<tokio::sync::mpsc::UnboundedSender<String>>,
               request: Arc<RequestInfo>,
               why: Ended| {
            let _ = ends.send(format!("{} {why:?}", request.uri));
        },
    );
    let server = server.build().expect("valid").test().expect("it starts");
    let request = |n: u32| RequestInfo::get(&format!("/v1/ws?n={n}"));
    let first = server.connect_with(request(1), json!({"type": "connect"})).await;
    let ticket = first.connected()["ticket"].clone();
    first.cut();
    let second = server.connect_with(request(2), json!({"type": "connect", "ticket": ticket})).await;
    assert_eq!(second.connected()["session_resumed"], true, "{}", second.connected());
    second.cut();
    // An answer to another client: the server has seen the cut.
    server.connect_with(request(3), json!({"type": "connect"})).await;
    server.advance(secs(11)).await;
    let told = tokio::time::timeout(DEADLINE, tells.recv()).await.expect("it takes no minute");
    assert_eq!(told.as_deref(), Some("/v1/ws?n=2 Lost"));
}

/// Reports the request that it was opened with.
struct Curious(bool, Arc<Mutex<Vec<Option<String>>>>);

impl Protocol for Curious {
    fn open(&self, _: &Place, request: Option<&Arc<RequestInfo>>, _: &mut Actions) -> Box<dyn Conversation> {
        self.1.lock().expect("no panic").push(request.map(|request| request.uri.to_string()));
        Box::new(Silent)
    }

    fn needs_request(&self) -> bool {
        self.0
    }

    fn encode_push(&self, _: &Push, _: Now, _: &mut Vec<u8>) -> Encoded {
        Encoded::Nothing
    }
}

struct Silent;

impl Conversation for Silent {
    fn message(&mut self, message: Message<'_>, actions: &mut Actions) {
        actions.answer(message);
    }

    fn encode_reply(&mut self, _: &Reply, _: Now, _: &mut Vec<u8>) -> Encoded {
        Encoded::Nothing
    }
}

#[test]
fn a_protocol_is_opened_with_the_request_where_it_asks_for_it_and_else_none_is_made() {
    let opened = Arc::new(Mutex::new(Vec::new()));
    let server = support::Server::of(
        Fanfare::builder(())
            .config(config())
            .protocol("/curious", Curious(true, opened.clone()))
            .protocol("/other", Curious(false, opened.clone())),
    );
    for path in ["/curious?q=1", "/other?q=1"] {
        let mut client = support::Client::open(server.address, path);
        client.text("hello");
        assert_eq!(client.next(), support::Frame::Text("hello".to_owned()));
    }
    assert_eq!(*opened.lock().expect("no panic"), [Some("/curious?q=1".to_owned()), None]);
}

/// As with axum's own server.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_extracts_the_peer() {
    async fn peer(axum::extract::ConnectInfo(peer): axum::extract::ConnectInfo<SocketAddr>) -> String {
        peer.to_string()
    }
    let pages = axum::Router::new().route("/peer", axum::routing::get(peer));
    let running = Fanfare::builder(()).config(config()).fallback(pages).build().expect("valid");
    let running = running.start(&["127.0.0.1:0".parse().expect("an address")]).expect("it starts");
    let mut socket = connect(running.tcp_address().expect("TCP"));
    let client = tokio::task::spawn_blocking(move || {
        socket.write_all(b"GET /peer HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("written");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("an answer");
        let own = socket.local_addr().expect("bound").to_string();
        assert!(answer.ends_with(&own), "{own} is not in {answer}");
    });
    client.await.expect("the client is content");
}
