//! Engine.IO by raw requests and raw frames: the way from polling to a WebSocket, and every rule of both transports.
//! Each request has a connection of its own, so it may land on another shard than the session.

#![allow(clippy::unwrap_used)] // helpers stand outside of `#[test]`; a panic in one fails the test

mod answers;
mod ends;
mod posts;
#[path = "../support/mod.rs"]
mod support;
mod upgrades;

use fanfare::hub::{Disconnect, Limits, Whom};
use fanfare::socketio::Data;
use fanfare::{Builder, Config, Fanfare, Json, SocketIoConfig};
use fanfare_wire::websocket::Opcode;
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::time::Duration;
use support::engine::{Poller, ask, asked_with, is_silent};
use support::socketio::{PATH, enter, enter_in, join, open, opened, text};
use support::{Client, Frame, Response, Server, config, connect, frame, response, upgrade};
use tokio::sync::Semaphore;

/// Sessions in a row: with several shards most pairs of a session's shard and a WebSocket's occur.
const ROUNDS: usize = 8;

fn socketio() -> SocketIoConfig {
    // A client has all the time that it needs.
    SocketIoConfig { enabled: true, upgrade_timeout: Duration::from_secs(600), ..SocketIoConfig::default() }
}

fn with(socketio: SocketIoConfig) -> Builder {
    let limits = Limits { connect_timeout_ms: 600_000, ..config().limits };
    Fanfare::builder(()).config(Config { socketio, limits, ..config() })
}

fn server() -> Server {
    Server::of(with(socketio()))
}

/// The first argument of a message of a room.
fn said(packet: &str) -> Value {
    let event: Value = serde_json::from_str(packet.strip_prefix("42").expect(packet)).unwrap();
    assert_eq!(event[0], "message", "{packet}");
    event[1].clone()
}

fn number(packet: &str) -> u64 {
    said(packet)["n"].as_u64().expect(packet)
}

fn message(n: usize) -> String {
    format!(r#"42["message",{{"n":{n}}}]"#)
}

/// A client with a WebSocket from the beginning, in this room.
fn talker(server: &Server, room: &str) -> Client {
    let (mut client, _) = enter(server);
    join(&mut client, room);
    client
}

/// A client that polls, in this room.
fn listener(server: &Server, room: &str) -> Poller {
    let (poller, _) = Poller::enter(server);
    poller.post(&format!("42[\"join-room\",\"{room}\"]\u{1e}42[\"message\",{{\"here\":true}}]"));
    poller.until("here");
    poller
}

/// A POST with these packets, whose answer is read later.
fn posting(bob: &Poller, packets: &[String]) -> std::net::TcpStream {
    let mut socket = connect(bob.address);
    let body = packets.join("\u{1e}");
    let head =
        format!("POST /socket.io/?{} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", bob.query(), body.len());
    socket.write_all(head.as_bytes()).unwrap();
    socket
}

/// Each of these messages comes back to its sender, and so many do not fit into an outbox of 4 KiB.
fn filling(count: usize) -> Vec<String> {
    (0..count).map(|n| format!(r#"42["message",{{"n":{n},"long":"{}"}}]"#, "a".repeat(100))).collect()
}

fn with_small_outbox() -> Server {
    let limits = Limits { outbox_bytes_max: 4_096, connect_timeout_ms: 600_000, ..config().limits };
    Server::of(Fanfare::builder(()).config(Config { socketio: socketio(), limits, ..config() }))
}

/// The head of a POST with this body, of which the first byte comes.
fn begins_to_post(bob: &Poller, body: &str) -> std::net::TcpStream {
    let mut socket = connect(bob.address);
    let head = format!(
        "POST /socket.io/?{} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        bob.query(),
        body.len()
    );
    socket.write_all(head.as_bytes()).unwrap();
    assert_eq!(response(&mut socket).status(), 100, "it is read");
    socket.write_all(&body.as_bytes()[..1]).unwrap();
    socket
}

fn is_refused(answer: &Response, code: u8) {
    assert_eq!(answer.status(), if code == 4 { 403 } else { 400 }, "{}", answer.body);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(body["code"], code, "{body}");
    assert!(body["message"].is_string());
}

/// An upgrade that is refused.
fn refused_upgrade(server: &Server, path: &str) -> Response {
    let mut socket = connect(server.address);
    socket.write_all(&upgrade(server.address, path, &[], &[])).unwrap();
    response(&mut socket)
}

#[test]
fn sessions_with_a_websocket_do_not_poll() {
    let server = server();
    for _ in 0..ROUNDS {
        let (mut client, opened) = opened(server.address);
        assert_eq!(opened["upgrades"], json!([]));
        let bob = Poller { address: server.address, sid: opened["sid"].as_str().unwrap().to_owned() };
        is_refused(&bob.ask("GET", ""), 3);
        is_refused(&bob.ask("POST", "40"), 3);
        is_refused(&ask(server.address, "POST", &bob.query(), "application/octet-stream", "4"), 3);
        assert_eq!(bob.websocket().closed(), Some(Disconnect::BadProtocol.code()), "it has one");
        enter_in(&mut client, "");
        client.close();
        while !bob.is_over() {}
        is_refused(&refused_upgrade(&server, &bob.upgrade_path()), 1);
    }
}

#[test]
fn ids_of_no_session_are_unknown_on_both_transports() {
    let (server, other) = (server(), self::server());
    let foreign = Poller::open(&other).sid;
    let gone = {
        let bob = Poller::open(&server);
        bob.post("1");
        bob.sid
    };
    let bob = Poller::open(&server);
    let mut changed = bob.sid.clone().into_bytes();
    changed[0] = if changed[0] == b'A' { b'B' } else { b'A' };
    let changed = String::from_utf8(changed).unwrap();
    let long = "A".repeat(8_000);
    let none = "A".repeat(bob.sid.len());
    for sid in [&*foreign, &gone, &changed, &bob.sid[1..], &bob.sid.to_lowercase(), "abc", "%00", &none, &long] {
        if sid == bob.sid {
            continue; // without a capital letter
        }
        let poll = format!("EIO=4&transport=polling&sid={sid}");
        is_refused(&ask(server.address, "GET", &poll, "text/plain", ""), 1);
        is_refused(&ask(server.address, "POST", &poll, "text/plain", "4"), 1);
        let websocket = format!("EIO=4&transport=websocket&sid={sid}");
        is_refused(&ask(server.address, "GET", &websocket, "text/plain", ""), 1);
        is_refused(&refused_upgrade(&server, &format!("/socket.io/?{websocket}")), 1);
    }
    // A transport that it has not, and an upgrade that names none.
    is_refused(&ask(server.address, "GET", &format!("EIO=4&transport=websocket&sid={}", bob.sid), "text/plain", ""), 3);
    is_refused(&refused_upgrade(&server, &format!("/socket.io/?EIO=4&transport=polling&sid={}", bob.sid)), 3);
    bob.enters();
}

#[test]
fn transports_and_upgrades_can_be_turned_off() {
    let only_websocket = Server::of(with(SocketIoConfig { polling: false, ..socketio() }));
    is_refused(&ask(only_websocket.address, "GET", "EIO=4&transport=polling", "text/plain", ""), 0);
    talker(&only_websocket, "only");
    let only_polling = Server::of(with(SocketIoConfig { websocket: false, ..socketio() }));
    is_refused(&refused_upgrade(&only_polling, PATH), 0);
    let (bob, opened) = Poller::opened(only_polling.address);
    assert_eq!(opened["upgrades"], json!([]));
    is_refused(&refused_upgrade(&only_polling, &bob.upgrade_path()), 0);
    bob.enters();
    let no_upgrades = Server::of(with(SocketIoConfig { upgrades: false, ..socketio() }));
    let (bob, opened) = Poller::opened(no_upgrades.address);
    assert_eq!(opened["upgrades"], json!([]));
    assert_eq!(bob.websocket().closed(), Some(Disconnect::BadProtocol.code()));
    bob.enters();
    talker(&no_upgrades, "without");
}

/// It is for balancers; the server needs none.
#[test]
fn a_cookie_comes_with_the_open_packet_and_no_other_answer() {
    let cookie = "node; Path=/chat; Secure".parse().unwrap();
    let server = Server::of(with(SocketIoConfig { cookie: Some(cookie), ..socketio() }));
    let opened = ask(server.address, "GET", "EIO=4&transport=polling", "text/plain", "");
    let body: Value = serde_json::from_str(&opened.body[1..]).unwrap();
    let sid = body["sid"].as_str().unwrap();
    assert_eq!(opened.header("set-cookie"), Some(&*format!("node={sid}; Path=/chat; Secure")));
    let bob = Poller { address: server.address, sid: sid.to_owned() };
    assert_eq!(bob.ask("POST", "40").header("set-cookie"), None);
    assert_eq!(bob.ask("GET", "").header("set-cookie"), None);
    let plain = ask(self::server().address, "GET", "EIO=4&transport=polling", "text/plain", "");
    assert_eq!(plain.header("set-cookie"), None);
}

#[test]
fn a_path_may_end_without_its_slash_and_parameters_may_say_more() {
    let server = server();
    for path in ["/socket.io/", "/socket.io"] {
        let mut socket = connect(server.address);
        let head = format!("GET {path}?t=abc&b64=1&EIO=4&transport=polling&x=y HTTP/1.1\r\nHost: x\r\n\r\n");
        socket.write_all(head.as_bytes()).unwrap();
        let opened = response(&mut socket);
        assert_eq!(opened.status(), 200, "{path}");
        let mut client = Client::open(server.address, &format!("{path}?EIO=4&transport=websocket&t=1"));
        assert!(text(&mut client).starts_with('0'), "{path}");
    }
    let mut socket = connect(server.address);
    socket.write_all(b"GET /socket.iox/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(response(&mut socket).status(), 404);
}

#[test]
fn pages_of_named_origins_poll_with_credentials() {
    let base = config();
    let origins = fanfare::Origins::List(vec!["https://app.example".parse().unwrap()]);
    let server = Server::of(Fanfare::builder(()).config(Config { socketio: socketio(), origins, ..base }));
    let origin = "Origin: https://app.example\r\n";
    let opened = asked_with(server.address, "GET", "EIO=4&transport=polling", origin, "");
    assert_eq!(opened.status(), 200, "{}", opened.body);
    let shown = |answer: &Response, name: &str| answer.header(name).map(str::to_owned);
    for (name, value) in
        [("access-control-allow-origin", "https://app.example"), ("access-control-allow-credentials", "true")]
    {
        assert_eq!(shown(&opened, name).as_deref(), Some(value));
        let refused = asked_with(server.address, "GET", "EIO=4&transport=polling&sid=x", origin, "");
        assert_eq!(shown(&refused, name).as_deref(), Some(value), "a refusal can be read too");
    }
    let asks = format!("{origin}Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: x-own\r\n");
    let preflight = asked_with(server.address, "OPTIONS", "EIO=4&transport=polling", &asks, "");
    assert_eq!(preflight.status(), 204);
    assert_eq!(shown(&preflight, "access-control-allow-methods").as_deref(), Some("GET, OPTIONS, POST"));
    assert_eq!(shown(&preflight, "access-control-allow-headers").as_deref(), Some("x-own"));
    let evil = "Origin: https://evil.example\r\n";
    is_refused(&asked_with(server.address, "GET", "EIO=4&transport=polling", evil, ""), 4);
    let mut socket = connect(server.address);
    socket.write_all(&upgrade(server.address, PATH, &[], &[("Origin", "https://evil.example")])).unwrap();
    is_refused(&response(&mut socket), 4);
}

#[test]
fn long_answers_are_compressed_for_clients_that_can_read_it() {
    let server = server();
    let bob = listener(&server, "zip");
    bob.post(&format!(r#"42["message",{{"long":"{}"}}]"#, "a".repeat(5_000)));
    let mut socket = connect(server.address);
    let head = format!("GET /socket.io/?{} HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n", bob.query());
    socket.write_all(head.as_bytes()).unwrap();
    let head = support::head(&mut socket).to_ascii_lowercase();
    assert!(head.contains("content-encoding: gzip"), "{head}");
    let len = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
    let mut body = vec![0; len.parse().unwrap()];
    socket.read_exact(&mut body).unwrap();
    let mut packets = String::new();
    flate2::read::GzDecoder::new(&body[..]).read_to_string(&mut packets).unwrap();
    assert!(packets.contains(&"a".repeat(5_000)), "{} bytes", packets.len());
}

#[test]
fn a_session_keeps_its_version() {
    let server = server();
    let (bob, _) = Poller::enter(&server);
    for version in ["EIO=3&", "EIO=5&", "EIO=&", ""] {
        for (sid, code) in [(&*bob.sid, 3), ("unknown", 1)] {
            let query = format!("{version}transport=polling&sid={sid}");
            is_refused(&ask(server.address, "GET", &query, "text/plain", ""), code);
            is_refused(&ask(server.address, "POST", &query, "text/plain", "3"), code);
        }
        let upgrade = format!("/socket.io/?{version}transport=websocket&sid={}", bob.sid);
        is_refused(&refused_upgrade(&server, &upgrade), 3);
    }
    bob.post(r#"42["x"]"#);
    let mut client = bob.upgraded();
    is_silent(&mut client);
}
