//! The log under attack: a bounded number of lines, and no secret in any of them. The process has one subscriber. The
//! test reads the events before secrets are hidden, so the server must not log a secret in the first place.

mod support;

use fanfare::hub::{Pattern, Rule, Rules};
use fanfare::{AdminOn, Config, Fanfare, Identity, Refusal, SocketIoConfig, Token};
use fanfare_wire::websocket::Opcode;
use serde_json::json;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use support::scrape::scrape;
use support::{Client, DEADLINE, Frame, Server, config, connect, frame, join, patient_chat, response, shards, upgrade};

/// The events of the log.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Captured {
    /// Takes over the process's log, from this level up.
    fn from(level: &str) -> Captured {
        let captured = Captured::default();
        let writer = captured.clone();
        let filter = tracing_subscriber::EnvFilter::new(level);
        let subscriber =
            tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(move || writer.clone());
        subscriber.try_init().expect("nobody else in this process");
        captured
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("no panic").clone()).expect("text")
    }
}

/// All checks are one test: a process has one log.
#[test]
fn an_attack_logs_a_bounded_number_of_lines_and_no_secret() {
    let captured = Captured::from("trace");
    secrets(&captured);
    refusals(&captured);
    old_clients(&captured);
    peers(&captured);
    attack(&captured);
}

fn native(server: &Server, first: &serde_json::Value) -> Client {
    let mut socket = connect(server.address);
    let headers = [("Authorization", "Bearer k3y-of-the-application")];
    socket
        .write_all(&upgrade(server.address, "/v1/ws?token=t0ken-in-the-query", &["fanfare.v1"], &headers))
        .expect("read");
    assert_eq!(response(&mut socket).status(), 101);
    let mut client = Client::of(socket);
    client.text(&first.to_string());
    client
}

fn secrets(captured: &Captured) {
    let runtime = support::runtime();
    let _entered = runtime.enter();
    let rule = Rule::open(Pattern::new("inbox:{user}").expect("valid"));
    let builder = Fanfare::builder(())
        .config(Config { rules: Arc::new(Rules::new(vec![rule])), ..config() })
        .admin(AdminOn::MainPort)
        .on_connect(async |token: Option<Token>| match token {
            Some(token) if token.as_str() == "t0ken-of-ada" => Ok(Identity::user("ada")),
            _ => Err(Refusal::unauthorized("another token")),
        });
    let server = Server::of(builder);
    // The same page twice: it brings its session along although the server has not seen the end of the first
    // connection.
    let mut ada = native(&server, &json!({"type": "connect", "id": 1, "token": "t0ken-of-ada", "page": "hers"}));
    let ticket = ada.until("connected")["ticket"].as_str().expect("a ticket").to_owned();
    ada.text(&json!({"type": "subscribe", "id": 2, "channel": "inbox:bob"}).to_string());
    assert_eq!(ada.message()["code"], "denied");
    let mut bad = native(&server, &json!({"type": "connect", "id": 1, "token": "t0ken-of-nobody"}));
    assert_eq!(bad.message()["code"], "unauthorized");
    drop(ada);
    let mut back = native(&server, &json!({"type": "connect", "id": 1, "ticket": ticket, "page": "hers"}));
    back.until("connected");
    let mut broken = native(&server, &json!({"type": "connect", "id": 1, "ticket": format!("{ticket}x")}));
    broken.message();
    let mut socket = connect(server.address);
    let page = "GET /page?token=t0ken-in-the-query HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer k3y-of-the-application\r\n\r\n";
    socket.write_all(page.as_bytes()).expect("the server reads");
    assert_eq!(response(&mut socket).status(), 404);

    let text = captured.text();
    let secrets = ["t0ken-of-ada", "t0ken-of-nobody", "t0ken-in-the-query", "k3y-of-the-application", ticket.as_str()];
    for secret in secrets {
        let line = text.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{secret:?} was logged: {line:?}");
    }
    let denied = text.lines().find(|line| line.contains(" denied ")).expect("the denial was logged");
    for field in ["client=", "user=\"ada\"", "channel=\"inbox:bob\"", "rule=\"inbox:{user}\"", "option=\"subscribe\""] {
        assert!(denied.contains(field), "{field} is missing: {denied}");
    }
    let request = text.lines().find(|line| line.contains("path=\"/page\"")).expect("the request was logged");
    assert!(request.contains("request_id=") && request.contains("status=404"), "{request}");
}

/// A refused request is logged in the words of its transport, with the id of its answer.
fn refusals(captured: &Captured) {
    let server = Server::native(config());
    let evil = "Origin: http://evil.example\r\n";
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let first = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    // Not more than one shard logs at once; the second column: first on its connection.
    let rows = [
        ("GET /v1/ws", true, upgrade, "a WebSocket was refused"),
        ("GET /v1/ws", false, upgrade, "a WebSocket was refused"),
        ("GET /events", true, "", "a stream was refused"),
        ("GET /v1/sse", false, "", "a stream was refused"),
        ("POST /v1/stream", true, "Content-Length: 0\r\n", "a stream was refused"),
        ("POST /v1/poll", false, "Content-Length: 0\r\n", "a poll was refused"),
        ("POST /v1/send", true, "Content-Length: 0\r\n", "a send was refused"),
    ];
    for (asked, is_first, headers, words) in rows {
        let mut socket = connect(server.address);
        if !is_first {
            socket.write_all(first).expect("the server reads");
            assert_eq!(response(&mut socket).status(), 200);
        }
        let head = format!("{asked} HTTP/1.1\r\nHost: localhost\r\n{evil}{headers}\r\n");
        socket.write_all(head.as_bytes()).expect("the server reads");
        let answer = response(&mut socket);
        assert_eq!(answer.status(), 403, "{asked}: {}", answer.head);
        let id = answer.header("x-request-id").expect("an id").to_owned();
        let text = captured.text();
        let line = text.lines().find(|line| line.contains(&id) && line.contains(" was refused "));
        let line = line.unwrap_or_else(|| panic!("{asked}: no line with {id}"));
        let peer = format!("peer={}", socket.local_addr().expect("it is connected"));
        assert!(line.contains(words) && line.contains(&peer) && line.contains("status=403"), "{asked}: {line}");
    }
}

/// A Socket.IO client of version 2 is refused with a hint for the operator, on both transports.
fn old_clients(captured: &Captured) {
    let socketio = SocketIoConfig { enabled: true, ..SocketIoConfig::default() };
    let server = Server::of(Fanfare::builder(()).config(Config { socketio, ..config() }));
    for transport in ["polling", "websocket"] {
        let path = format!("/socket.io/?EIO=3&transport={transport}");
        let mut socket = connect(server.address);
        let head = match transport {
            "websocket" => upgrade(server.address, &path, &[], &[]),
            _ => format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes(),
        };
        socket.write_all(&head).expect("the server reads");
        let answer = response(&mut socket);
        assert_eq!(answer.status(), 400, "{transport}: {}", answer.head);
        let id = answer.header("x-request-id").expect("an id").to_owned();
        let text = captured.text();
        let line = text.lines().find(|line| line.contains(&id) && line.contains(" was refused "));
        let line = line.unwrap_or_else(|| panic!("{transport}: no line with {id}"));
        let hint =
            "Unsupported protocol version (code 5); Socket.IO clients from version 3 on speak version 4 of Engine.IO";
        assert!(line.contains(hint), "{transport}: {line}");
    }
}

/// The lines about a client name its address.
fn peers(captured: &Captured) {
    let rule = Rule::open(Pattern::new("room:open").expect("valid"));
    let builder = Fanfare::builder(())
        .config(Config { rules: Arc::new(Rules::new(vec![rule])), ..config() })
        .protocol("/", patient_chat());
    let server = Server::of(builder);
    let waits_for = |words: &str, client: &Client| {
        let peer = format!("peer={}", client.socket.local_addr().expect("it is connected"));
        let begin = Instant::now();
        while !captured.text().lines().any(|line| line.contains(words) && line.contains(&peer)) {
            assert!(begin.elapsed() < DEADLINE, "no line {words:?} with {peer}: {}", captured.text());
            std::thread::yield_now();
        }
    };

    let mut stranger = native(&server, &json!({"type": "connect", "id": 1}));
    stranger.until("connected");
    stranger.text(&json!({"type": "subscribe", "id": 2, "channel": "no:rule"}).to_string());
    assert_eq!(stranger.message()["code"], "no_rule");
    waits_for(" denied ", &stranger);

    let mut chat = Client::open(server.address, "/");
    chat.say("before any join");
    waits_for(" message ignored ", &chat);
    let mut refused = Client::open(server.address, "/");
    refused.text(&join("ada", "closed"));
    waits_for(" message ignored ", &refused);
    waits_for(" denied ", &refused);

    let mut abusive = native(&server, &json!({"type": "connect", "id": 1}));
    abusive.until("connected");
    (0..=config().limits.bad_requests_per_minute_max).for_each(|_| abusive.text("{}"));
    assert_eq!(abusive.closed(), Some(fanfare::hub::Disconnect::Abuse.code()));
    waits_for(" disconnected ", &abusive);
}

fn attack(captured: &Captured) {
    const CHAT: usize = 40_000;
    const DENIED: usize = 40_000;
    const BROKEN: usize = 200;
    let mut config = config();
    config.limits.bad_requests_per_minute_max = u32::MAX;
    let rule = Rule::open(Pattern::new("room:*").expect("valid"));
    let builder = Fanfare::builder(())
        .config(Config { rules: Arc::new(Rules::new(vec![rule])), ..config })
        .admin(AdminOn::MainPort)
        .protocol("/", patient_chat());
    let server = Server::of(builder);
    let (begin, before) = (Instant::now(), info_and_up(&captured.text()));
    let left_out_before = scrape(server.address).get("fanfare_log_lines_left_out_total");

    // Messages that are not JSON, ignored one by one.
    let mut chat = Client::open(server.address, "/");
    let bad = frame(Opcode::Text, b"{\"type\":\"mess\nage\"}").repeat(100);
    (0..CHAT / 100).for_each(|_| chat.socket.write_all(&bad).expect("the server reads"));
    chat.send(Opcode::Ping, b"done");
    while chat.next() != Frame::Pong(b"done".to_vec()) {}

    // Channels without a rule, with names that would add lines to a log.
    let mut socket = connect(server.address);
    socket.write_all(&upgrade(server.address, "/v1/ws", &["fanfare.v1"], &[])).expect("the server reads");
    assert_eq!(response(&mut socket).status(), 101);
    let mut native = Client::of(socket);
    native.text(r#"{"type":"connect"}"#);
    for id in 1..=DENIED {
        let channel = if id % 2 == 0 { "other:a" } else { "no name\n" };
        native.text(&json!({"type": "subscribe", "id": id, "channel": channel}).to_string());
        if id % 25 == 0 {
            while native.message()["id"] != json!(id) {}
        }
    }
    // Heads that are refused, and connections that break the protocol.
    for number in 0..BROKEN {
        let mut socket = connect(server.address);
        let path = if number % 2 == 0 { "/nowhere" } else { "/" };
        socket.write_all(&upgrade(server.address, path, &[], &[("Origin", "http://evil.example")])).expect("read");
        assert!(response(&mut socket).status() >= 400);
        let mut client = Client::open(server.address, "/");
        client.socket.write_all(&[0xff, 0xff]).expect("the server reads");
        client.closed();
    }

    let (text, seconds) = (captured.text(), begin.elapsed().as_secs_f64());
    let lines = info_and_up(&text) - before;
    // Three kinds (ignored, denied, refused upgrades): each shard logs ten at once and one a second.
    let bound = 3.0 * shards() as f64 * (11.0 + seconds) + 20.0;
    assert!((lines as f64) < bound, "{lines} lines in {seconds:.1} s, {bound:.0} allowed");
    let left_out = scrape(server.address).get("fanfare_log_lines_left_out_total") - left_out_before;
    let caused = (CHAT + DENIED / 2 + BROKEN) as f64;
    assert!(left_out >= caused - bound, "{left_out} of {caused} were left out, {lines} logged");
    // The log also reports suppressed lines, in the next line of the kind that has room: it goes on until one has.
    while !captured.text().contains("left_out=") {
        native.text(&json!({"type": "subscribe", "id": 0, "channel": "other:a"}).to_string());
        native.message();
    }
    for line in text.lines() {
        assert!(line.starts_with("20") || line.starts_with('\t'), "a peer has begun a line: {line:?}");
    }
}

/// Lines that a log has at its default level.
fn info_and_up(text: &str) -> usize {
    text.lines().filter(|line| [" INFO ", " WARN ", "ERROR "].iter().any(|level| line.contains(level))).count()
}
