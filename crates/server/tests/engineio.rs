//! Engine.IO by raw requests and raw frames: the way from polling to a WebSocket, and every rule of both transports.
//! Each request has a connection of its own, so it may land on another shard than the session.

#![allow(clippy::unwrap_used)] // helpers stand outside of `#[test]`; a panic in one fails the test

mod support;

use fanfare::hub::{Disconnect, Limits, Whom};
use fanfare::{Builder, Config, Fanfare, Json, SocketIoConfig};
use fanfare_wire::websocket::Opcode;
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::time::Duration;
use support::engine::{Poller, ask, asked_with, is_silent};
use support::{Client, Frame, Response, Server, config, connect, frame, response, upgrade};
use tokio::sync::Semaphore;

/// Sessions in a row: with several shards most pairs of a session's shard and a WebSocket's occur.
const ROUNDS: usize = 8;

fn socketio() -> SocketIoConfig {
    // A client has all the time that it needs.
    SocketIoConfig { enabled: true, upgrade_timeout: Duration::from_secs(600), ..SocketIoConfig::default() }
}

fn with(socketio: SocketIoConfig) -> Builder {
    let limits = Limits { connect_timeout_ms: 600_000, ..Limits::default() };
    Fanfare::builder(()).config(Config { socketio, limits, ..config() })
}

fn server() -> Server {
    Server::of(with(socketio()))
}

fn text(client: &mut Client) -> String {
    match client.next() {
        Frame::Text(text) => text,
        other => panic!("a text was to come, not {other:?}"),
    }
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
    let mut client = Client::open(server.address, "/socket.io/?EIO=4&transport=websocket");
    assert!(text(&mut client).starts_with('0'));
    client.text("40");
    assert!(text(&mut client).starts_with("40"));
    client.text(&format!(r#"42["join-room","{room}"]"#));
    client.text(r#"42["message",{"joined":true}]"#);
    while !text(&mut client).contains("joined") {}
    client
}

/// A client that polls, in this room.
fn listener(server: &Server, room: &str) -> Poller {
    let (poller, _) = Poller::enter(server);
    poller.post(&format!("42[\"join-room\",\"{room}\"]\u{1e}42[\"message\",{{\"here\":true}}]"));
    poller.until("here");
    poller
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
fn a_session_goes_from_polling_to_a_websocket() {
    let server = server();
    for round in 0..ROUNDS {
        let room = format!("room {round}");
        let mut ada = talker(&server, &room);
        let bob = listener(&server, &room);
        let mut waits = bob.wait();
        let mut client = bob.websocket();
        is_silent(&mut client);
        client.text("2probe");
        assert_eq!(text(&mut client), "3probe");
        let released = response(&mut waits);
        assert_eq!((released.status(), &*released.body), (200, "6"), "the GET that waits is let go");
        // Now the client does not poll. What comes meanwhile is held, and nothing but the probe's answer was sent.
        for n in 0..3 {
            ada.text(&message(n));
            while !text(&mut ada).contains(&format!("\"n\":{n},")) {}
        }
        is_silent(&mut client);
        client.text("5");
        for n in 0..3 {
            assert_eq!(number(&text(&mut client)), n);
        }
        // Both ways, text and bytes.
        client.text(&message(7));
        ada.text(&message(8));
        let mut numbers = [number(&text(&mut client)), number(&text(&mut client))];
        numbers.sort_unstable();
        assert_eq!(numbers, [7, 8]);
        ada.text(r#"451-["message",{"file":{"_placeholder":true,"num":0}}]"#);
        ada.send(Opcode::Binary, b"bytes");
        assert!(text(&mut client).starts_with("451-"));
        assert_eq!(client.next(), Frame::Binary(b"bytes".to_vec()));
        // Polling is over for this session, and so are other WebSockets.
        is_refused(&bob.ask("GET", ""), 3);
        is_refused(&bob.ask("POST", &message(9)), 3);
        assert_eq!(bob.websocket().closed(), Some(Disconnect::BadProtocol.code()));
        client.text(&message(10));
        assert_eq!(number(&text(&mut client)), 10, "the session goes on");
        client.close();
        while !bob.is_over() {}
    }
}

#[test]
fn packets_that_wait_for_a_get_come_by_the_websocket_as_they_are() {
    let server = server();
    let mut ada = talker(&server, "held");
    let bob = listener(&server, "held");
    let mut client = bob.probed();
    ada.text(&message(1));
    ada.text(r#"452-["message",{"a":{"_placeholder":true,"num":0},"b":{"_placeholder":true,"num":1}}]"#);
    ada.send(Opcode::Binary, b"\0one");
    ada.send(Opcode::Binary, b"");
    ada.text(&message(2));
    while !text_or_bytes(&mut ada).contains("\"n\":2,") {}
    client.text("5");
    assert_eq!(number(&text(&mut client)), 1);
    assert!(text(&mut client).starts_with("452-"));
    assert_eq!((client.next(), client.next()), (Frame::Binary(b"\0one".to_vec()), Frame::Binary(Vec::new())));
    assert_eq!(number(&text(&mut client)), 2);
}

fn text_or_bytes(client: &mut Client) -> String {
    match client.next() {
        Frame::Text(text) => text,
        Frame::Binary(_) => String::new(),
        other => panic!("{other:?}"),
    }
}

/// Messages fly both ways while the transport changes, 200 times. Each comes once and in order.
#[test]
fn an_upgrade_under_load_loses_and_repeats_nothing() {
    const UPGRADES: usize = 200;
    const MESSAGES: usize = 40;
    let server = server();
    for round in 0..UPGRADES {
        let room = format!("load {round}");
        let mut ada = talker(&server, &room);
        let bob = Arc::new(listener(&server, &room));
        // A talker sends throughout, and reads what bob says.
        let talks = std::thread::spawn(move || {
            let mut heard = Vec::new();
            let mut mine = 0;
            let mut sent = 0;
            while mine < MESSAGES || heard.len() < MESSAGES {
                if sent < MESSAGES {
                    ada.text(&format!(r#"42["message",{{"n":{sent},"ada":true}}]"#));
                    sent += 1;
                }
                let packet = text(&mut ada);
                if !packet.contains("\"n\":") {
                    continue; // bob has come
                }
                let message = said(&packet);
                match message["ada"] == true {
                    true => mine += 1,
                    false => heard.push(message["n"].as_u64().unwrap()),
                }
            }
            heard
        });
        // Bob polls until its GET is let go, as clients do.
        let polls = {
            let bob = bob.clone();
            std::thread::spawn(move || {
                let mut packets = Vec::new();
                loop {
                    let body = bob.poll();
                    if body == "6" {
                        return packets;
                    }
                    packets.extend(body.split('\u{1e}').map(str::to_owned));
                }
            })
        };
        let before = round % MESSAGES;
        for n in 0..before {
            bob.post(&message(n));
        }
        let mut client = bob.probed();
        let mut packets = polls.join().unwrap();
        client.text("5");
        for n in before..MESSAGES {
            client.text(&message(n));
        }
        let count = |packets: &[String]| packets.iter().filter(|packet| packet.contains("\"n\":")).count();
        while count(&packets) < 2 * MESSAGES {
            packets.push(text(&mut client));
        }
        let (of_ada, own): (Vec<_>, Vec<_>) =
            packets.iter().filter(|packet| packet.contains("\"n\":")).partition(|packet| packet.contains("\"ada\""));
        let numbers = |packets: Vec<&String>| packets.into_iter().map(|packet| number(packet)).collect::<Vec<_>>();
        let all: Vec<u64> = (0..MESSAGES as u64).collect();
        assert_eq!(numbers(of_ada), all, "round {round}: what bob heard");
        assert_eq!(numbers(own), all, "round {round}: what bob heard of its own");
        assert_eq!(talks.join().unwrap(), all, "round {round}: what ada heard");
        is_silent(&mut client);
    }
}

#[test]
fn a_probe_that_breaks_leaves_the_session_polling() {
    let server = server();
    let mut ada = talker(&server, "breaks");
    let bob = listener(&server, "breaks");
    let bad = Some(Disconnect::BadProtocol.code());
    type Breaks = fn(&mut Client);
    let rows: &[(&str, Breaks, Option<Option<u16>>)] = &[
        ("a message", |client| client.text("40"), Some(bad)),
        ("a ping that is no probe", |client| client.text("2"), Some(bad)),
        ("another probe", |client| client.text("2prob"), Some(bad)),
        ("a pong", |client| client.text("3probe"), Some(bad)),
        ("a close", |client| client.text("1"), Some(bad)),
        ("a noop", |client| client.text("6"), Some(bad)),
        ("an empty packet", |client| client.text(""), Some(bad)),
        ("no packet", |client| client.text("x"), Some(bad)),
        ("bytes", |client| client.send(Opcode::Binary, b"4"), Some(bad)),
        ("bytes as text", |client| client.text("bAQ=="), Some(bad)),
        (
            "a message behind the probe",
            |client| {
                client.text("2probe");
                client.text(r#"42["message",{"stolen":true}]"#);
            },
            Some(bad),
        ),
        ("a long packet", |client| client.text(&format!("4{}", "a".repeat(2_000))), Some(Some(1009))),
        ("text that is not UTF-8", |client| client.send(Opcode::Text, b"\xff"), Some(Some(1007))),
        ("a frame that is not masked", |client| client.socket.write_all(b"\x81\x012").unwrap(), Some(Some(1002))),
        ("a close frame", |client| client.send(Opcode::Close, &1000_u16.to_be_bytes()), Some(Some(1000))),
        ("a cut", |client| client.socket.shutdown(std::net::Shutdown::Both).unwrap(), None),
        (
            "a cut behind the probe",
            |client| {
                client.text("2probe");
                client.socket.shutdown(std::net::Shutdown::Both).unwrap();
            },
            None,
        ),
    ];
    for (n, (name, breaks, code)) in rows.iter().enumerate() {
        let mut waits = bob.wait();
        let mut client = bob.websocket();
        breaks(&mut client);
        if let Some(code) = code {
            assert_eq!(client.closed(), *code, "{name}");
        }
        ada.text(&message(n));
        // The GET may have been let go by a probe.
        let mut packets = response(&mut waits).body;
        while !packets.contains(&format!("\"n\":{n},")) {
            assert!(packets == "6" || !packets.contains("stolen"), "{name}: {packets}");
            packets = bob.poll();
        }
        bob.post(&message(1_000 + n));
        bob.until(&format!("\"n\":{},", 1_000 + n));
    }
    // The one that was cut may be noticed late, and until then there is no place for another one.
    let mut client = loop {
        let mut client = bob.websocket();
        client.text("2probe");
        match client.next() {
            Frame::Text(answer) => {
                assert_eq!(answer, "3probe");
                break client;
            }
            other => assert!(matches!(other, Frame::Close(..)), "{other:?}"),
        }
    };
    client.text("5");
    client.text(&message(5_000));
    while !text(&mut client).contains("\"n\":5000,") {}
}

#[test]
fn an_upgrade_has_its_time() {
    let config = SocketIoConfig { upgrade_timeout: Duration::from_millis(200), ..socketio() };
    let server = Server::of(with(config));
    for probes in [false, true] {
        let bob = listener(&server, "late");
        let mut client = bob.websocket();
        if probes {
            client.text("2probe");
        }
        assert_eq!(client.closed(), Some(Disconnect::NotConnected.code()));
        bob.post(&message(1));
        bob.until("\"n\":1,");
    }
}

#[test]
fn a_second_websocket_is_closed_and_the_first_goes_on() {
    let server = server();
    for _ in 0..ROUNDS {
        let bob = listener(&server, "two");
        let mut client = bob.probed();
        for _ in 0..3 {
            assert_eq!(bob.websocket().closed(), Some(Disconnect::BadProtocol.code()));
        }
        is_silent(&mut client);
        client.text("5");
        client.text(&message(1));
        assert_eq!(number(&text(&mut client)), 1);
    }
}

#[test]
fn a_client_may_probe_twice_or_not_at_all_and_send_more_at_once() {
    let server = server();
    let bob = listener(&server, "odd");
    let mut client = bob.probed();
    client.text("2probe");
    assert_eq!(text(&mut client), "3probe");
    client.text("5");
    client.text(&message(1));
    assert_eq!(number(&text(&mut client)), 1);
    // The reference takes an upgrade without a probe, and everything may come in one packet of the network.
    for first in [&["5"][..], &["2probe", "5"]] {
        let bob = listener(&server, "odder");
        let frames: Vec<u8> = first
            .iter()
            .chain(&[&*message(2), &*message(3)])
            .flat_map(|text| frame(Opcode::Text, text.as_bytes()))
            .collect();
        let mut client = Client::upgraded(connect(server.address), server.address, &bob.upgrade_path(), &frames);
        if first.len() > 1 {
            assert_eq!(text(&mut client), "3probe");
        }
        assert_eq!((number(&text(&mut client)), number(&text(&mut client))), (2, 3));
    }
}

#[test]
fn gets_of_a_client_that_has_probed_are_answered() {
    let server = server();
    let bob = listener(&server, "released");
    let mut client = bob.probed();
    // They would wait otherwise. The upgrade itself lets one go that has just come.
    assert_eq!((bob.poll(), bob.poll()), ("6".to_owned(), "6".to_owned()));
    let mut waits = bob.wait();
    client.text("5");
    client.text(&message(1));
    assert_eq!(number(&text(&mut client)), 1);
    let released = response(&mut waits);
    // It may land behind the upgrade.
    assert!(matches!((released.status(), &*released.body), (200, "6") | (400, _)), "{}", released.body);
}

/// A POST that waits for room is under way when the client goes on.
#[test]
fn packets_of_a_post_come_before_those_of_the_websocket() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _entered = runtime.enter();
    let held = Arc::new(Semaphore::new(0));
    let gate = held.clone();
    let echo = move |Json(args): Json<Vec<u64>>| {
        let gate = gate.clone();
        async move {
            gate.acquire().await.unwrap().forget();
            Json(args)
        }
    };
    let server = Server::of(with(socketio()).rpc("echo", echo));
    for _ in 0..ROUNDS {
        let bob = listener(&server, "posts");
        let packets: Vec<String> = (0..40).map(|n| format!(r#"42{n}["echo",{n}]"#)).collect();
        let mut posts = connect(server.address);
        let body = packets.join("\u{1e}");
        let head = format!(
            "POST /socket.io/?{} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
            bob.query(),
            body.len()
        );
        posts.write_all(head.as_bytes()).unwrap();
        let mut client = bob.probed();
        // It is being taken in when a second one is too much: so one that is refused shows it. (It would end the
        // session.) The GET shows nothing, so the client goes on at once; both orders must do.
        client.text("5");
        client.text(r#"4240["echo",40]"#);
        held.add_permits(41);
        let posted = response(&mut posts);
        if posted.status() == 400 {
            continue; // it came behind the upgrade
        }
        assert_eq!((posted.status(), &*posted.body), (200, "ok"));
        let mut acks: Vec<usize> = (0..41)
            .map(|_| {
                let ack = text(&mut client);
                let (id, _) = ack.strip_prefix("43").and_then(|ack| ack.split_once('[')).expect(&ack);
                id.parse().unwrap()
            })
            .collect();
        acks.sort_unstable();
        assert_eq!(acks, (0..41).collect::<Vec<_>>(), "each is done once");
    }
}

#[test]
fn sessions_with_a_websocket_do_not_poll() {
    let server = server();
    for _ in 0..ROUNDS {
        let mut client = Client::open(server.address, "/socket.io/?EIO=4&transport=websocket");
        let opened: Value = serde_json::from_str(&text(&mut client)[1..]).unwrap();
        assert_eq!(opened["upgrades"], json!([]));
        let bob = Poller { address: server.address, sid: opened["sid"].as_str().unwrap().to_owned() };
        is_refused(&bob.ask("GET", ""), 3);
        is_refused(&bob.ask("POST", "40"), 3);
        is_refused(&ask(server.address, "POST", &bob.query(), "application/octet-stream", "4"), 3);
        assert_eq!(bob.websocket().closed(), Some(Disconnect::BadProtocol.code()), "it has one");
        client.text("40");
        assert!(text(&mut client).starts_with("40"));
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

/// The first request of a connection goes another way through the server than a later one.
#[test]
fn an_upgrade_may_follow_other_requests_on_its_connection() {
    let server = server();
    for _ in 0..ROUNDS {
        let bob = listener(&server, "kept");
        let mut socket = connect(server.address);
        socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert_eq!(response(&mut socket).status(), 200);
        let unknown = bob.upgrade_path().replace("sid=", "sid=x");
        socket.write_all(&upgrade(server.address, &unknown, &[], &[])).unwrap();
        is_refused(&response(&mut socket), 1);
        let mut socket = connect(server.address);
        socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert_eq!(response(&mut socket).status(), 200);
        let mut client = Client::upgraded(socket, server.address, &bob.upgrade_path(), b"");
        client.text("2probe");
        assert_eq!(text(&mut client), "3probe");
        client.text("5");
        client.text(&message(1));
        assert_eq!(number(&text(&mut client)), 1);
    }
}

#[test]
fn transports_and_upgrades_can_be_turned_off() {
    let only_websocket = Server::of(with(SocketIoConfig { polling: false, ..socketio() }));
    is_refused(&ask(only_websocket.address, "GET", "EIO=4&transport=polling", "text/plain", ""), 0);
    talker(&only_websocket, "only");
    let only_polling = Server::of(with(SocketIoConfig { websocket: false, ..socketio() }));
    is_refused(&refused_upgrade(&only_polling, "/socket.io/?EIO=4&transport=websocket"), 0);
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
    let stranger = asked_with(server.address, "GET", "EIO=4&transport=polling", "Origin: https://evil.example\r\n", "");
    assert_eq!(stranger.status(), 403);
}

#[test]
fn long_answers_are_compressed_for_clients_that_can_read_it() {
    let server = server();
    let bob = listener(&server, "zip");
    bob.post(&format!(r#"42["message",{{"long":"{}"}}]"#, "a".repeat(5_000)));
    let mut socket = connect(server.address);
    let head = format!("GET /socket.io/?{} HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n", bob.query());
    socket.write_all(head.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    assert!(head.contains("content-encoding: gzip"), "{head}");
    let len = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
    let mut body = vec![0; len.parse().unwrap()];
    socket.read_exact(&mut body).unwrap();
    let mut packets = String::new();
    flate2::read::GzDecoder::new(&body[..]).read_to_string(&mut packets).unwrap();
    assert!(packets.contains(&"a".repeat(5_000)), "{} bytes", packets.len());
}

/// The first ping comes an interval after the open packet, by polling and, from the upgrade on, by the WebSocket.
#[test]
fn the_server_pings_on_the_transport_that_a_session_has() {
    let socketio = SocketIoConfig { ping_interval: Duration::from_millis(300), ..socketio() };
    let limits = Limits { pong_timeout_ms: 30_000, connect_timeout_ms: 600_000, ..Limits::default() };
    let server = Server::of(Fanfare::builder(()).config(Config { socketio, limits, ..config() }));
    let bob = Poller::open(&server);
    assert_eq!(bob.poll(), "2", "the first thing that comes is the ping");
    bob.post("3");
    let mut client = bob.upgraded();
    assert_eq!(text(&mut client), "2");
    client.text("3");
    assert_eq!(text(&mut client), "2");
    let limits = Limits { pong_timeout_ms: 300, connect_timeout_ms: 600_000, ..Limits::default() };
    let socketio = SocketIoConfig { ping_interval: Duration::from_millis(300), ..self::socketio() };
    let server = Server::of(Fanfare::builder(()).config(Config { socketio, limits, ..config() }));
    let mut client = Poller::open(&server).upgraded();
    assert_eq!(text(&mut client), "2");
    assert_eq!(client.closed(), Some(Disconnect::HeartbeatTimeout.code()), "and it does not answer");
    let bob = Poller::open(&server);
    let polled = || Some(bob.ask("GET", "")).filter(|answer| answer.status() == 200).map(|answer| answer.body);
    assert_eq!(polled().as_deref(), Some("2"));
    assert_eq!(polled().filter(|body| body != "1"), None, "it is over");
    while !bob.is_over() {}
}

#[test]
fn a_long_body_or_frame_is_refused() {
    let server = server();
    let bob = listener(&server, "long");
    let mut client = bob.upgraded();
    let long = format!(r#"42["message",{{"long":"{}"}}]"#, "a".repeat(1_000_000));
    client.text(&long);
    assert_eq!(client.closed(), Some(1009));
    // The second one does not announce its length.
    let chunked = format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{long}\r\n0\r\n\r\n", long.len());
    for rest in [format!("Content-Length: {}\r\n\r\n{long}", long.len()), chunked] {
        let bob = Poller::open(&server);
        let mut socket = connect(server.address);
        let head = format!("POST /socket.io/?{} HTTP/1.1\r\nHost: x\r\n", bob.query());
        socket.write_all(format!("{head}{rest}").as_bytes()).unwrap();
        assert_eq!(response(&mut socket).status(), 413);
        assert!(bob.is_over());
    }
}

/// A session with a GET that waits, or without one, whose client breaks the rules.
#[test]
fn a_client_that_breaks_the_rules_has_no_session_any_more() {
    let server = server();
    let text = "text/plain;charset=UTF-8";
    let rows = [
        ("no packet", text, &b"abc"[..]),
        ("no kind", text, b"9"),
        ("nothing", text, b""),
        ("nothing between packets", text, b"42[\"x\"]\x1e\x1e3"),
        ("separators", text, b"\x1e\x1e\x1e"),
        ("no base64", text, b"b!"),
        ("a ping", text, b"2"),
        ("bytes", "application/octet-stream", b"40"),
        ("no text", text, b"4\xff"),
    ];
    for (name, kind, body) in rows {
        for waits in [false, true] {
            let (bob, _) = Poller::enter(&server);
            let waiting = waits.then(|| bob.wait());
            let mut socket = connect(server.address);
            let head = format!(
                "POST /socket.io/?{} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
                bob.query(),
                body.len()
            );
            socket.write_all(&[head.as_bytes(), body].concat()).unwrap();
            is_refused(&response(&mut socket), 3);
            assert!(bob.is_over(), "{name}");
            is_refused(&bob.ask("GET", ""), 1);
            if let Some(mut waiting) = waiting {
                let answer = response(&mut waiting);
                // It may land behind the POST.
                match answer.status() {
                    200 => assert!(answer.body == "1" || answer.body.starts_with("40"), "{name}: {}", answer.body),
                    _ => is_refused(&answer, 1),
                }
            }
        }
    }
}

/// The head of a POST of ten bytes, of which one comes.
fn begins_to_post(bob: &Poller) -> std::net::TcpStream {
    let mut socket = connect(bob.address);
    let head = format!(
        "POST /socket.io/?{} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n",
        bob.query()
    );
    socket.write_all(head.as_bytes()).unwrap();
    assert_eq!(response(&mut socket).status(), 100, "it is read");
    socket.write_all(b"4").unwrap();
    socket
}

#[test]
fn a_post_that_is_on_its_way_bears_no_second_one() {
    let server = server();
    for _ in 0..ROUNDS {
        let (bob, _) = Poller::enter(&server);
        let mut first = begins_to_post(&bob);
        // The first one may be on its way to the session's shard still.
        while bob.ask("POST", "3").status() == 200 {}
        assert!(bob.is_over());
        is_refused(&response(&mut first), 1);
    }
    // One that comes slowly is as good as another.
    let bob = listener(&server, "slowly");
    let mut first = begins_to_post(&bob);
    first.write_all(b"2[\"mess\"]").unwrap();
    first.flush().unwrap();
    assert_eq!(&*response(&mut first).body, "ok");
    bob.post(&message(1));
    bob.until("\"n\":1,");
}

#[test]
fn a_post_that_is_given_up_ends_the_session() {
    let server = server();
    for _ in 0..ROUNDS {
        let (bob, _) = Poller::enter(&server);
        drop(begins_to_post(&bob));
        while bob.ask("GET", "").status() == 200 {}
        assert!(bob.is_over());
    }
}

/// A client that gets both at once takes the connection for lost, and comes back.
#[test]
fn the_packet_to_close_comes_in_an_answer_of_its_own() {
    let server = server();
    let hub = server.running().handle();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for waits in [false, true] {
        let (bob, id) = Poller::enter(&server);
        let waiting = waits.then(|| bob.wait());
        let whom = Whom::Client(id.parse().unwrap());
        assert_eq!(runtime.block_on(hub.disconnect(whom, Disconnect::Kicked)), Ok(1));
        let first = waiting.map_or_else(|| bob.poll(), |mut waiting| response(&mut waiting).body);
        assert_eq!((&*first, &*bob.poll()), ("41", "1"));
        assert!(bob.is_over());
    }
    // Clients that have read the first one leave by themselves.
    let (bob, id) = Poller::enter(&server);
    assert_eq!(runtime.block_on(hub.disconnect(Whom::Client(id.parse().unwrap()), Disconnect::Kicked)), Ok(1));
    assert_eq!(bob.poll(), "41");
    bob.post("1");
    assert!(bob.is_over());
}

#[test]
fn a_client_that_never_polls_loses_its_session() {
    let socketio = SocketIoConfig { ping_interval: Duration::from_millis(200), ..socketio() };
    let limits = Limits { pong_timeout_ms: 200, connect_timeout_ms: 600_000, ..Limits::default() };
    let server = Server::of(Fanfare::builder(()).config(Config { socketio, limits, ..config() }));
    let silent = Poller::open(&server);
    let mut witness = Client::open(server.address, "/socket.io/?EIO=4&transport=websocket");
    assert!(text(&mut witness).starts_with('0'));
    for _ in 0..4 {
        assert_eq!(text(&mut witness), "2");
        witness.text("3");
    }
    assert!(silent.is_over());
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

/// Empty messages are the worst of them: each is a packet of Socket.IO that breaks its rules.
#[test]
fn ten_thousand_packets_at_once_harm_nobody() {
    let server = server();
    let mut ada = talker(&server, "many");
    let bob = listener(&server, "many");
    for packet in ["4", "3", "6", "42[\"x\"]", "b", "x", ""] {
        let eve = Poller::enter(&server).0;
        let answer = eve.ask("POST", &vec![packet; 10_000].join("\u{1e}"));
        assert!(matches!(answer.status(), 200 | 400), "{packet:?}: {}", answer.body);
    }
    ada.text(&message(1));
    bob.until("\"n\":1,");
    bob.post(&message(2));
    while !text(&mut ada).contains("\"n\":2,") {}
}

#[test]
fn a_server_that_stops_does_not_wait_for_a_probe() {
    let server = server();
    let bob = Poller::open(&server);
    let mut client = bob.probed();
    let stops = std::thread::spawn(move || server.drain());
    assert!(client.closed().is_some());
    drop(client);
    stops.join().unwrap();
}

/// The session that the WebSocket was for has left.
#[test]
fn a_client_that_leaves_before_the_upgrade_has_its_websocket_closed() {
    let server = server();
    for _ in 0..ROUNDS {
        let bob = Poller::open(&server);
        let mut client = bob.probed();
        bob.post("1");
        assert_eq!(client.closed(), Some(1000));
        assert!(bob.is_over());
    }
}

/// Its backlog comes by the WebSocket, and what did not fit is pulled.
#[test]
fn a_client_that_was_slow_catches_up_by_its_websocket() {
    const MESSAGES: usize = 400;
    let limits = Limits { outbox_bytes_max: 4_096, connect_timeout_ms: 600_000, ..Limits::default() };
    let server = Server::of(Fanfare::builder(()).config(Config { socketio: socketio(), limits, ..config() }));
    let mut ada = talker(&server, "slow");
    let bob = listener(&server, "slow");
    for n in 0..MESSAGES {
        ada.text(&message(n));
        while !text(&mut ada).contains(&format!("\"n\":{n},")) {}
    }
    let mut client = bob.upgraded();
    for n in 0..MESSAGES as u64 {
        assert_eq!(number(&text(&mut client)), n);
    }
    client.text(&message(MESSAGES));
    assert_eq!(number(&text(&mut client)), MESSAGES as u64);
}
