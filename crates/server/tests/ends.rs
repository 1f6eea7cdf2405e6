//! The end of a connection in the log: one line for each, in every protocol and transport, that tells who has ended it,
//! why, and how long it lived. The process has one subscriber, so this is one test.

#![allow(clippy::unwrap_used)] // helpers stand outside of `#[test]`; a panic in one fails the test

mod support;

use fanfare::hub::{Disconnect, Limits, Pattern, Rule, Rules, Whom};
use fanfare::{Config, Fanfare, Identity, Refusal, SocketIoConfig, Token};
use serde_json::json;
use std::io::Write as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::native::{PATH, patient};
use support::polls::Poller;
use support::stream::Stream;
use support::{Client, DEADLINE, Frame, Server, config, engine, patient_chat};
use tokio::runtime::Runtime;

const ENGINE: &str = "/socket.io/?EIO=4&transport=websocket";

/// The events of the log.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Captured {
    fn begin() -> Captured {
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_ansi(false);
        subscriber.with_writer(move || writer.clone()).try_init().expect("nobody else in this process");
        captured
    }

    /// The lines of ends so far that hold `text`.
    fn ends(&self, text: &str) -> Vec<String> {
        let log = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        log.lines().filter(|line| line.contains(" disconnected ") && line.contains(text)).map(str::to_owned).collect()
    }

    /// Waits for the line about `who`, which is one of its fields, and looks for the others.
    fn tells(&self, name: &str, who: &str, fields: &str) {
        let begin = Instant::now();
        let line = loop {
            if let Some(line) = self.ends(who).pop() {
                break line;
            }
            assert!(begin.elapsed() < DEADLINE, "{name}: no line with {who}");
            std::thread::yield_now();
        };
        for field in fields.split(", ").chain(["peer=127.0.0.1:", "lived_ms="]) {
            assert!(line.contains(field), "{name}: {field} is missing in {line}");
        }
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// All protocols. A token is the name of its user.
fn server(limits: Limits, socketio: SocketIoConfig, close_timeout: Duration) -> Server {
    let rules = Arc::new(Rules::new(vec![Rule::open(Pattern::new("**").unwrap())]));
    let limits = Limits { connect_timeout_ms: 600_000, bad_requests_per_minute_max: 3, ..limits };
    let socketio = SocketIoConfig { enabled: true, ..socketio };
    let builder = Fanfare::builder(())
        .config(Config { rules, limits, socketio, close_timeout, ..config() })
        .protocol("/", patient_chat())
        .protocol(PATH, patient())
        .on_connect(async |token: Option<Token>| match token {
            Some(token) if token.as_str() == "nobody" => Err(Refusal::unauthorized("nobody")),
            Some(token) => Ok(Identity::user(token.as_str())),
            None => Ok(Identity::anonymous()),
        });
    Server::of(builder)
}

/// A client of the native protocol, and the field of the log that names it.
fn native(server: &Server, fields: serde_json::Value) -> (Client, String) {
    let mut client = Client::native(server.address);
    let connected = client.hello(fields);
    let who = format!("client={}", connected["client"].as_str().unwrap());
    (client, who)
}

/// A client of Socket.IO, and the field of the log that names it.
fn socketio(server: &Server) -> (Client, String) {
    let mut client = Client::open(server.address, ENGINE);
    assert!(matches!(client.next(), Frame::Text(open) if open.starts_with('0')));
    client.text("40");
    let Frame::Text(connected) = client.next() else { panic!("a text was to come") };
    let connected: serde_json::Value = serde_json::from_str(&connected[2..]).unwrap();
    (client, format!("client={}", connected["sid"].as_str().unwrap()))
}

fn from(stream: &Stream) -> String {
    format!("peer={} ", stream.socket.local_addr().unwrap())
}

fn at(client: &Client) -> String {
    format!("peer={} ", client.socket.local_addr().unwrap())
}

#[test]
fn each_connection_has_one_line_about_its_end() {
    let captured = Captured::begin();
    let runtime = runtime();
    let _entered = runtime.enter();
    let server = self::server(Limits::default(), SocketIoConfig::default(), Duration::from_secs(2));
    let mut all = 0;
    let mut tells = |name: &str, who: &str, fields: &str| {
        captured.tells(name, who, fields);
        all += 1;
    };

    // The native protocol over WebSocket.
    let by_native = "transport=\"websocket\", protocol=\"native\"";
    let (client, who) = native(&server, json!({"token": "ada"}));
    client.close();
    let fields = format!("DEBUG, by=\"client\", reason=\"left\", code=1000, user=\"ada\", {by_native}");
    tells("a close", &who, &fields);
    let (mut client, who) = native(&server, json!({}));
    client.ask("disconnect", json!({}));
    tells("a command", &who, "by=\"client\", reason=\"left\", code=4505");
    let (client, who) = native(&server, json!({}));
    drop(client);
    tells("no word", &who, "DEBUG, by=\"network\", reason=\"gone\"");
    let (mut client, who) = native(&server, json!({}));
    client.socket.write_all(&[0xff, 0xff]).unwrap();
    client.closed();
    tells("a broken frame", &who, "INFO, by=\"server\", reason=\"protocol_error\", why=\"");
    let (mut client, who) = native(&server, json!({}));
    (0..4).for_each(|_| client.text("{}"));
    assert_eq!(client.closed(), Some(Disconnect::Abuse.code()));
    tells("abuse", &who, "WARN, by=\"server\", reason=\"abuse\", code=4501");
    let (mut client, who) = native(&server, json!({"token": "eve"}));
    let hub = server.running().handle();
    assert_eq!(runtime.block_on(hub.disconnect(Whom::user("eve"), Disconnect::Kicked)), Ok(1));
    assert_eq!(client.closed(), Some(Disconnect::Kicked.code()));
    tells("a kick", &who, "INFO, by=\"application\", reason=\"kicked\", code=4503, user=\"eve\"");
    let mut client = Client::native(server.address);
    let connected = client.hello(json!({"page": "hers"}));
    let mut back = Client::native(server.address);
    back.hello(json!({"page": "hers", "ticket": connected["ticket"]}));
    tells("a move", &at(&client), "DEBUG, by=\"client\", reason=\"moved\", code=4006");
    let who = at(&back);
    back.close();
    tells("the end of the other", &who, "by=\"client\", reason=\"left\"");

    // The chat.
    let client = Client::join(server.address, "ada", "lobby");
    let who = at(&client);
    client.close();
    tells(
        "a chat",
        &who,
        "by=\"client\", reason=\"left\", code=1000, client=, transport=\"websocket\", protocol=\"chat\"",
    );

    // Socket.IO, over WebSocket and by polling.
    let by_socketio = "protocol=\"socketio\"";
    let (client, who) = socketio(&server);
    client.close();
    tells("Socket.IO", &who, &format!("by=\"client\", reason=\"left\", {by_socketio}, transport=\"websocket\""));
    for (name, packet, why) in [
        ("a packet that is none", "x", "why=\""),
        ("a message that is none", "4x", "why=\""),
        ("a second CONNECT", "40", "why=\"a packet at the wrong moment\""),
    ] {
        let (mut client, who) = socketio(&server);
        client.text(packet);
        client.closed();
        tells(name, &who, &format!("INFO, by=\"server\", reason=\"bad_protocol\", {why}, {by_socketio}"));
    }
    let (mut client, who) = socketio(&server);
    client.text("2");
    client.closed();
    tells("a ping", &who, "INFO, by=\"server\", reason=\"protocol_error\", why=\"a ping of a client\"");
    let (poller, id) = engine::Poller::enter(&server);
    poller.post("1");
    let fields = format!("by=\"client\", reason=\"left\", {by_socketio}, transport=\"polling\"");
    tells("a packet to close", &format!("client={id}"), &fields);
    let (poller, id) = engine::Poller::enter(&server);
    assert_eq!(poller.ask("POST", "x").status(), 400);
    tells("a POST that is none", &format!("client={id}"), "by=\"server\", reason=\"bad_protocol\"");
    let (poller, id) = engine::Poller::enter(&server);
    let client = poller.upgraded();
    let who = at(&client);
    client.close();
    tells("after an upgrade", &who, &format!("by=\"client\", reason=\"left\", client={id}, transport=\"websocket\""));

    // Streams and polls.
    let connect = |token: &str| json!({"type": "connect", "id": 1, "token": token}).to_string();
    for (path, transport) in [("/v1/sse", "sse"), ("/v1/stream", "stream")] {
        let stream = Stream::post(server.address, path, &connect("ada"));
        let who = from(&stream);
        assert_eq!(stream.status(), 200);
        drop(stream);
        let fields = format!("DEBUG, by=\"client\", reason=\"gone\", user=\"ada\", transport=\"{transport}\"");
        tells(path, &who, &fields);
        let stream = Stream::post(server.address, path, &connect("nobody"));
        assert_eq!(stream.status(), 401);
        let who = from(&stream);
        tells("a refusal", &who, "by=\"server\", reason=\"refused\", why=\"unauthorized\"");
    }
    let stream = Stream::get(server.address, "/events?channel=news", "");
    let who = from(&stream);
    drop(stream);
    tells("/events", &who, "by=\"client\", reason=\"gone\", transport=\"sse\"");
    let mut poller = Poller::connect(server.address, json!({"token": "bob"}));
    poller.ask("disconnect", json!({}));
    tells("a poll session", "user=\"bob\"", "by=\"client\", reason=\"left\", code=4505, transport=\"poll\"");

    // Silence, by short heartbeats, and the end of the server.
    let short = Limits { pong_timeout_ms: 300, ..Limits::default() };
    let quick = SocketIoConfig { ping_interval: Duration::from_millis(300), ..SocketIoConfig::default() };
    let other = self::server(short, quick, Duration::from_millis(50));
    let (mut client, who) = socketio(&other);
    client.closed();
    tells("silence", &who, "DEBUG, by=\"network\", reason=\"heartbeat_timeout\", code=4001");
    // A client that has ended its half of a connection may still wait for the answer, for `close_timeout`.
    let patient = SocketIoConfig::default();
    let third = self::server(Limits::default(), patient, Duration::from_millis(50));
    let (poller, id) = engine::Poller::enter(&third);
    drop(poller.wait());
    tells("a GET given up", &format!("client={id}"), "by=\"client\", reason=\"gone\", why=\"a request was given up\"");
    let (client, who) = native(&server, json!({}));
    server.drain();
    tells("a drain", &who, "DEBUG, by=\"server\", reason=\"shutdown\", code=4000");
    drop(client);
    drop(other);
    let mut peers: Vec<String> = captured
        .ends("")
        .iter()
        .filter_map(|line| Some(line.split("peer=").nth(1)?.split(' ').next()?.into()))
        .collect();
    peers.sort();
    let doubled: Vec<&[String]> = peers.windows(2).filter(|pair| pair[0] == pair[1]).collect();
    assert!(doubled.is_empty(), "{doubled:?}: {:#?}", captured.ends(""));
    assert!(peers.len() >= all, "{:#?}", captured.ends(""));
}
