//! Socket.IO by raw frames over real sockets: the handshake, the events that are built in, the guard, acks, and what a
//! client may not send.

#![allow(clippy::unwrap_used)] // helpers stand outside of `#[test]`; a panic in one fails the test

mod support;

use fanfare::hub::{Disconnect, Limits};
use fanfare::socketio::Auth;
use fanfare::{Builder, Config, Fanfare, Identity, Json, Refusal, SocketIoConfig, Token};
use fanfare_wire::websocket::Opcode;
use serde_json::{Value, json};
use std::io::Write as _;
use std::time::{Duration, Instant};
use support::engine::{Poller, ask};
use support::socketio::{PATH, enter, entered, event_and_time, join, open, opened, text};
use support::{Client, DEADLINE, Frame, Server, config, connect, response, runtime, upgrade};

fn builder() -> Builder {
    let socketio = SocketIoConfig { enabled: true, ..SocketIoConfig::default() };
    // A refused client has all the time that it needs.
    let limits = Limits { connect_timeout_ms: 600_000, ..config().limits };
    Fanfare::builder(()).config(Config { socketio, limits, ..config() })
}

/// The next event, without its timestamp, which must be there if `is_timed`.
fn event(client: &mut Client, is_timed: bool) -> Value {
    let (event, timestamp) = event_and_time(client, "");
    assert_eq!(timestamp.is_some_and(|timestamp| timestamp.is_u64()), is_timed, "{event}");
    event
}

#[test]
fn an_open_packet_names_the_session_and_its_times() {
    let server = Server::of(builder());
    let (mut client, opened) = opened(server.address);
    let sid = opened["sid"].as_str().unwrap();
    let expected = json!({
        "sid": sid, "upgrades": [], "pingInterval": 25_000, "pingTimeout": 60_000, "maxPayload": 1_000_000,
    });
    assert_eq!(opened, expected);
    client.text("40");
    assert_ne!(entered(&mut client, ""), sid, "the socket has an id of its own");
}

#[test]
fn a_room_hears_who_joins_speaks_and_types() {
    let server = Server::of(builder());
    let ((mut ada, ada_id), (mut bob, bob_id)) = (enter(&server), enter(&server));
    let (mut eve, eve_id) = enter(&server);
    join(&mut eve, "elsewhere");
    ada.text(r#"42["join-room","lobby"]"#);
    ada.text(r#"42["message",{"text":"first"}]"#);
    let said = |id: &str, text: &str| json!(["message", {"text": text, "userId": id}]);
    assert_eq!(event(&mut ada, true), said(&ada_id, "first"), "one's own join is not told");
    bob.text(r#"42["join-room","lobby"]"#);
    assert_eq!(event(&mut ada, true), json!(["user-joined", {"userId": bob_id}]));
    ada.text(r#"42["message",{"text":"hi","userId":"eve","timestamp":1}]"#);
    for client in [&mut ada, &mut bob] {
        assert_eq!(event(client, true), said(&ada_id, "hi"), "a sender cannot name another");
    }
    bob.text(r#"42["typing",true]"#);
    bob.text(r#"42["message",{"text":"hello"}]"#);
    assert_eq!(event(&mut ada, false), json!(["user-typing", {"userId": bob_id, "isTyping": true}]));
    for client in [&mut ada, &mut bob] {
        assert_eq!(event(client, true), said(&bob_id, "hello"), "one's own typing is not told");
    }
    // The first room is where a client speaks, whatever else it joins.
    ada.text(r#"42["join-room","elsewhere"]"#);
    assert_eq!(event(&mut eve, true), json!(["user-joined", {"userId": ada_id}]));
    ada.text(r#"42["message",{"text":"in the lobby"}]"#);
    assert_eq!(event(&mut bob, true), said(&ada_id, "in the lobby"));
    eve.text(r#"42["message",{"text":"elsewhere"}]"#);
    assert_eq!(event(&mut eve, true), said(&eve_id, "elsewhere"), "eve hears nothing of the lobby");
}

/// The server adds the sender and the time to it.
#[test]
fn the_longest_message_of_a_client_reaches_its_room() {
    let server = Server::of(builder());
    let (mut ada, _) = enter(&server);
    join(&mut ada, "lobby");
    let around = r#"42["message",{"text":""}]"#.len();
    let longest = "x".repeat(1_000_000 - around);
    ada.text(&format!(r#"42["message",{{"text":"{longest}"}}]"#));
    ada.text(r#"42["message",{"text":"after"}]"#);
    assert_eq!(event(&mut ada, true)[1]["text"].as_str().map(str::len), Some(longest.len()));
}

#[test]
fn attachments_follow_their_message() {
    let server = Server::of(builder());
    let ((mut ada, ada_id), (mut bob, _)) = (enter(&server), enter(&server));
    join(&mut ada, "lobby");
    join(&mut bob, "lobby");
    while event(&mut ada, true)[0] != "message" {} // bob has come, and has said so
    ada.text(r#"452-["message",{"b":{"_placeholder":true,"num":1},"a":{"_placeholder":true,"num":0}}]"#);
    ada.send(Opcode::Binary, b"\0one");
    ada.text("bdHdv"); // base64 in a text frame is read alike
    bob.text(r#"42["message",{"after":true}]"#);
    // Two shards may order the two messages either way; nothing comes between a message and its attachments.
    let is_after = |packet: &str| packet.starts_with(r#"42["message","#) && packet.contains(r#""after":true"#);
    for client in [&mut ada, &mut bob] {
        let mut head = text(client);
        let after_came = is_after(&head);
        if after_came {
            head = text(client);
        }
        let data: Value = serde_json::from_str(head.strip_prefix("452-").expect(&head)).unwrap();
        assert_eq!(data[1]["a"], json!({"_placeholder": true, "num": 0}));
        assert_eq!(data[1]["userId"], ada_id);
        assert_eq!((client.next(), client.next()), (Frame::Binary(b"\0one".to_vec()), Frame::Binary(b"two".to_vec())));
        assert!(after_came || is_after(&text(client)));
    }
}

#[test]
fn who_leaves_the_namespace_leaves_the_rooms_and_may_come_back() {
    let server = Server::of(builder());
    let ((mut ada, _), (mut bob, bob_id)) = (enter(&server), enter(&server));
    ada.text(r#"42["join-room","lobby"]"#);
    ada.text("41");
    ada.text("40");
    entered(&mut ada, "");
    bob.text(r#"42["join-room","lobby"]"#);
    bob.text(r#"42["message",{}]"#);
    assert_eq!(event(&mut bob, true), json!(["message", {"userId": bob_id}]));
    ada.text(r#"42["message",{}]"#); // in no room: nobody hears it
    ada.text(r#"42["join-room","lobby"]"#);
    assert_eq!(event(&mut bob, true)[0], "user-joined");
    bob.text(r#"42["message",{"n":2}]"#);
    assert_eq!(event(&mut ada, true)[1]["n"], 2, "what was said meanwhile is not for it");
}

#[test]
fn a_guard_refuses_in_its_words_and_names_the_user() {
    let guard = async |token: Option<Token>| match token.as_ref().map(Token::as_str) {
        Some("ada's") => Ok(Identity::user("ada \"the first\"")),
        _ => Err(Refusal::unauthorized("no such token")),
    };
    let runtime = runtime();
    let _entered = runtime.enter();
    let server = Server::of(builder().on_connect(guard));
    let mut client = open(&server);
    for auth in ["", r#"{"token":"wrong"}"#, r#"{"token":7}"#, r#"{"other":"ada's"}"#] {
        client.text(&format!("40{auth}"));
        assert_eq!(text(&mut client), r#"44{"message":"认证错误"}"#, "{auth}");
    }
    client.text(r#"40{"token":"ada's"}"#);
    entered(&mut client, "");
    client.text(r#"42["join-room","lobby"]"#);
    client.text(r#"42["message",{}]"#);
    assert_eq!(event(&mut client, true), json!(["message", {"userId": "ada \"the first\""}]));
}

/// A client that nobody could judge is told that it may try again, and not that it is unwelcome. By `on_connect` and
/// by the guard of a namespace.
#[test]
fn a_refusal_that_is_none_for_ever_says_so() {
    async fn judge(token: &str) -> Result<Identity, Refusal> {
        match token {
            "busy" => Err(Refusal::unavailable("the database is busy", Duration::from_millis(1_500))),
            "slow" => std::future::pending().await,
            "broken" => Err(Refusal::internal("a secret")),
            "panics" => panic!("another secret"),
            "with data" => Err(Refusal::unavailable("later", Duration::ZERO).with_data(&7)),
            _ => Err(Refusal::denied("no")),
        }
    }
    #[derive(serde::Deserialize)]
    struct Login {
        token: String,
    }
    let runtime = runtime();
    let _entered = runtime.enter();
    let limits = Limits { hook_timeout_ms: 50, ..config().limits };
    let server = Server::of(
        Fanfare::builder(())
            .config(Config {
                socketio: SocketIoConfig { enabled: true, ..SocketIoConfig::default() },
                limits,
                ..config()
            })
            .on_connect(async |token: Token| judge(token.as_str()).await)
            .socketio("/guarded", |io| io.guard(async |Auth(login): Auth<Login>| judge(&login.token).await)),
    );
    let (busy, failed) = ("the database is busy", "the server failed; its log has the reason");
    let again = |code: &str| json!({"code": code, "retryable": true});
    let rows = [
        ("busy", busy, json!({"code": "unavailable", "retryable": true, "retry_after": 1_500}), true),
        ("slow", "", again("timeout"), true),
        ("broken", failed, again("internal"), true),
        ("panics", failed, again("internal"), true),
        ("with data", "later", json!(7), false),
        ("no", "no", Value::Null, false),
    ];
    let mut client = open(&server);
    for (token, message, data, both) in rows {
        for namespace in ["/guarded,", ""] {
            client.text(&format!("40{namespace}{}", json!({"token": token})));
            let answer = text(&mut client);
            let error = answer.strip_prefix(&format!("44{namespace}")).expect(&answer);
            let error: Value = serde_json::from_str(error).expect("JSON");
            if token == "no" && namespace.is_empty() {
                assert_eq!(error, json!({"message": "认证错误"}));
            } else if both || !namespace.is_empty() {
                assert_eq!(error["data"], data, "{token} {namespace}");
                assert!(error["message"] == message || token == "slow", "{token} {namespace}: {error}");
            }
        }
    }
}

#[test]
fn a_token_is_ignored_where_nobody_checks_it() {
    let server = Server::of(builder());
    let mut client = open(&server);
    client.text(r#"40{"token":"any"}"#);
    entered(&mut client, "");
}

#[test]
fn other_events_are_calls_and_their_answers_are_acks() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let server =
        Server::of(builder().rpc("sum", async |Json(numbers): Json<Vec<i64>>| Json(numbers.iter().sum::<i64>())));
    let (mut client, _) = enter(&server);
    client.text(r#"42["unknown",1]"#);
    client.text(r#"421["unknown",1]"#);
    client.text(r#"42["sum",1,2]"#);
    client.text(r#"4218446744073709551615["sum",1,2,3]"#);
    assert_eq!(text(&mut client), "4318446744073709551615[6]");
    client.text(r#"427["sum"]"#);
    assert_eq!(text(&mut client), "437[0]");
}

#[test]
fn only_the_main_namespace_exists() {
    let server = Server::of(builder());
    let mut client = open(&server);
    client.text("40/admin,");
    assert_eq!(text(&mut client), r#"44/admin,{"message":"Invalid namespace"}"#);
    client.text(r#"40/a?b="c",{"token":"x"}"#);
    assert_eq!(text(&mut client), r#"44/a?b="c",{"message":"Invalid namespace"}"#);
    client.text("40");
    entered(&mut client, "");
}

#[test]
fn a_client_that_breaks_the_protocol_is_closed_and_no_other() {
    let server = Server::of(builder());
    let (mut ada, ada_id) = enter(&server);
    ada.text(r#"42["join-room","lobby"]"#);
    let rows: &[(&str, bool, &[&str])] = &[
        ("a ping", true, &["2"]),
        ("the probe of an upgrade", true, &["2probe"]),
        ("an empty packet", true, &[""]),
        ("an unknown packet", true, &["7"]),
        ("an unknown packet of Socket.IO", true, &["4abc"]),
        ("an event before a CONNECT", false, &[r#"42["message",{}]"#]),
        ("an ack before a CONNECT", false, &["431[]"]),
        ("a disconnect before a CONNECT", false, &["41"]),
        ("a second CONNECT", true, &["40"]),
        ("a refusal", true, &[r#"44{"message":"no"}"#]),
        ("an event of a namespace that was not entered", true, &[r#"42/admin,["message",{}]"#]),
        ("an event that is an object", true, &["42{}"]),
        ("an id that is no number", true, &[r#"42abc["message"]"#]),
        ("a reserved name", true, &[r#"42["disconnect"]"#]),
        ("an id beyond 64 bits", true, &[r#"4218446744073709551616["a"]"#]),
        ("eleven attachments", true, &[r#"4511-["a"]"#]),
        ("a placeholder out of range", true, &[r#"451-["a",{"_placeholder":true,"num":1}]"#]),
        ("a text within a packet", true, &[r#"451-["a"]"#, r#"42["a"]"#]),
        ("a binary message that nothing announced", true, &["bAQ=="]),
    ];
    for (name, enters, packets) in rows {
        let mut client = if *enters { enter(&server).0 } else { open(&server) };
        packets.iter().for_each(|packet| client.text(packet));
        assert_eq!(client.closed(), Some(Disconnect::BadProtocol.code()), "{name}");
    }
    let (mut client, _) = enter(&server);
    client.text(&format!(r#"42["message",{{"long":"{}"}}]"#, "a".repeat(1_000_000)));
    assert_eq!(client.closed(), Some(1009), "a frame over maxPayload");
    ada.text(r#"42["message",{}]"#);
    assert_eq!(event(&mut ada, true), json!(["message", {"userId": ada_id}]));
}

#[test]
fn events_that_are_not_understood_are_ignored() {
    let server = Server::of(builder());
    let (mut client, id) = enter(&server);
    let long = format!(r#"42["join-room","{}"]"#, "r".repeat(256));
    for packet in [
        r#"42["message",{"in":"no room"}]"#,
        r#"42["typing",true]"#,
        r#"42["join-room"]"#,
        &long,
        r#"42["a"]"#,
        r#"42[7]"#,
        r#"42["\ud800"]"#,
        "431[]",
    ] {
        client.text(packet);
    }
    client.text(r#"42["join-room",7]"#);
    client.text(r#"42["message","a text has no fields"]"#);
    assert_eq!(event(&mut client, true), json!(["message", {"userId": id}]));
    client.text(r#"42["message"]"#);
    assert_eq!(event(&mut client, true), json!(["message", {"userId": id}]));
}

#[test]
fn a_large_message_passes_where_a_channel_would_refuse_it() {
    let server = Server::of(builder());
    let (mut client, _) = enter(&server);
    client.text(r#"42["join-room","lobby"]"#);
    let long = "a".repeat(900_000);
    client.text(&format!(r#"42["message",{{"long":"{long}"}}]"#));
    assert_eq!(event(&mut client, true)[1]["long"], long);
}

/// The first ping comes by itself. A client that does not answer it is closed.
#[test]
fn a_silent_client_is_pinged_and_closed() {
    let socketio =
        SocketIoConfig { enabled: true, ping_interval: Duration::from_millis(300), ..SocketIoConfig::default() };
    let limits = Limits { pong_timeout_ms: 300, connect_timeout_ms: 600_000, ..config().limits };
    let server = Server::of(Fanfare::builder(()).config(Config { socketio, limits, ..config() }));
    let (mut client, _) = enter(&server);
    assert_eq!(text(&mut client), "2");
    client.text("3");
    assert_eq!(text(&mut client), "2", "it has answered");
    assert_eq!(client.closed(), Some(Disconnect::HeartbeatTimeout.code()));
}

#[test]
fn requests_are_refused_with_the_codes_of_the_reference() {
    let server = Server::of(builder());
    let rows: &[(&str, bool, &str, &str, u8)] = &[
        ("version 3", true, "EIO=3&transport=websocket", "GET", 5),
        ("no version", true, "transport=websocket", "GET", 5),
        ("an unknown transport", true, "EIO=4&transport=abc", "GET", 0),
        ("no transport", true, "EIO=4", "GET", 0),
        ("an unknown session", true, "EIO=4&transport=websocket&sid=abc", "GET", 1),
        ("a WebSocket without an upgrade", false, "EIO=4&transport=websocket", "GET", 3),
        ("a handshake by POST", false, "EIO=4&transport=websocket", "POST", 2),
        ("a poll of an unknown session", false, "EIO=4&transport=polling&sid=abc", "GET", 1),
        ("another one", false, "EIO=4&transport=polling&sid=00010203040506070809000102030405", "GET", 1),
        (
            "one of a shard that does not exist",
            false,
            "EIO=4&transport=polling&sid=ffff0203040506070809000102030405",
            "POST",
            1,
        ),
        ("a handshake by PUT", false, "EIO=4&transport=polling", "PUT", 2),
        ("version 3 by polling", false, "EIO=3&transport=polling", "GET", 5),
    ];
    for (name, upgrades, query, method, code) in rows {
        let path = format!("/socket.io/?{query}");
        let mut socket = connect(server.address);
        let head = match upgrades {
            true => upgrade(server.address, &path, &[], &[]),
            false => format!("{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").into_bytes(),
        };
        socket.write_all(&head).unwrap();
        let response = response(&mut socket);
        assert_eq!((response.status(), response.header("content-type")), (400, Some("application/json")), "{name}");
        let body: Value = serde_json::from_str(&response.body).unwrap();
        assert_eq!(body["code"], *code, "{name}: {body}");
        assert!(body["message"].is_string());
    }
}

#[test]
fn without_the_setting_there_is_nothing() {
    let server = Server::start(config());
    let mut socket = connect(server.address);
    socket.write_all(&upgrade(server.address, PATH, &[], &[])).unwrap();
    assert_eq!(response(&mut socket).status(), 404);
}

#[test]
fn clients_that_poll_and_clients_with_websockets_meet() {
    let server = Server::of(builder());
    for _ in 0..4 {
        let (mut ada, ada_id) = enter(&server);
        join(&mut ada, "lobby");
        let (bob, bob_id) = Poller::enter(&server);
        bob.post("42[\"join-room\",\"lobby\"]\u{1e}42[\"message\",{\"text\":\"hi\"}]");
        assert_eq!(event(&mut ada, true), json!(["user-joined", {"userId": bob_id}]));
        assert_eq!(event(&mut ada, true), json!(["message", {"text": "hi", "userId": bob_id}]));
        assert!(bob.until("hi").last().unwrap().contains(&bob_id));
        ada.text(r#"42["message",{"text":"hello"}]"#);
        assert!(bob.until("hello").last().unwrap().contains(&ada_id));
        assert_eq!(event(&mut ada, true)[1]["text"], "hello");
        bob.post("451-[\"message\",{\"file\":{\"_placeholder\":true,\"num\":0}}]\u{1e}bAQID");
        assert!(text(&mut ada).starts_with("451-"));
        assert_eq!(ada.next(), Frame::Binary(vec![1, 2, 3]));
        assert_eq!(bob.until("bAQID").last().unwrap(), "bAQID");
        bob.post("1");
    }
}

#[test]
fn many_packets_of_one_post_are_taken_in_order() {
    let server = Server::of(builder());
    let (bob, _) = Poller::enter(&server);
    let packets: Vec<String> = (0..3_000).map(|n| format!("42[\"message\",{{\"n\":{n}}}]")).collect();
    bob.post(&format!("42[\"join-room\",\"lobby\"]\u{1e}{}", packets.join("\u{1e}")));
    let heard = bob.until("\"n\":2999,").into_iter().map(|packet| {
        let event: Value = serde_json::from_str(packet.strip_prefix("42").expect(&packet)).unwrap();
        event[1]["n"].as_u64().unwrap()
    });
    assert!(heard.eq(0..3_000));
}

#[test]
fn a_second_poll_or_a_bad_post_ends_the_session() {
    let server = Server::of(builder());
    let (bob, _) = Poller::enter(&server);
    // Either may come first: one is refused, and the other one is told the end.
    let (mut first, mut second) = (bob.wait(), bob.wait());
    let mut answers = [&mut first, &mut second].map(|socket| {
        let answer = response(socket);
        (answer.status(), answer.body)
    });
    answers.sort();
    assert_eq!((answers[0].0, &*answers[0].1), (200, "1"));
    assert_eq!((answers[1].0, answers[1].1.contains("\"code\":3,")), (400, true));
    assert!(bob.is_over());
    let (bob, _) = Poller::enter(&server);
    let answer = ask(server.address, "POST", &bob.query(), "application/octet-stream", "4");
    assert_eq!((answer.status(), answer.body.contains("\"code\":3,")), (400, true));
    assert!(bob.is_over());
    // A packet of Engine.IO that is none ends it at once; one of Socket.IO ends it in good order.
    for packets in ["x", "", "2"] {
        let (bob, _) = Poller::enter(&server);
        let answer = bob.ask("POST", packets);
        assert_eq!((answer.status(), answer.body.contains("\"code\":3,")), (400, true), "{packets:?}");
        assert!(bob.is_over(), "{packets:?}");
    }
    for packets in ["42{}", "4"] {
        let (bob, _) = Poller::enter(&server);
        bob.post(packets);
        assert_eq!(bob.poll(), "1", "{packets:?}");
        assert!(bob.is_over(), "{packets:?}");
    }
    let (bob, _) = Poller::enter(&server);
    let answer = bob.ask("POST", &format!("42[\"a\",\"{}\"]", "a".repeat(1_000_000)));
    assert_eq!(answer.status(), 413);
}

/// A request whose client has gone is dropped after the time for a close.
#[test]
fn a_client_that_gives_a_poll_up_is_forgotten() {
    let socketio = SocketIoConfig { enabled: true, ..SocketIoConfig::default() };
    let close_timeout = Duration::from_millis(50);
    let server = Server::of(Fanfare::builder(()).config(Config { socketio, close_timeout, ..config() }));
    let (bob, _) = Poller::enter(&server);
    drop(bob.wait());
    let deadline = Instant::now() + DEADLINE;
    while !bob.is_over() {
        assert!(Instant::now() < deadline, "its session is kept");
        std::thread::yield_now();
    }
}

#[test]
fn a_client_that_leaves_is_forgotten() {
    let server = Server::of(builder());
    let (mut ada, ada_id) = enter(&server);
    join(&mut ada, "lobby");
    let (bob, _) = Poller::enter(&server);
    bob.post("1");
    assert!(bob.is_over());
    // A poll that waits is released. It may also come behind the close.
    let (bob, _) = Poller::enter(&server);
    let mut waits = bob.wait();
    bob.post("1");
    let answer = response(&mut waits);
    assert!(matches!((answer.status(), &*answer.body), (200, "6") | (400, _)), "{}", answer.body);
    ada.text(r#"42["message",{}]"#);
    assert_eq!(event(&mut ada, true), json!(["message", {"userId": ada_id}]), "others do not notice");
}
