//! Bad input of the native protocol on the real server: each bad command gets its own code and a sentence that names
//! the field, the limit and the value. The connection stays, nothing is stored, and another client of the channel gets
//! nothing. `rows` holds the commands that are bad in themselves; this file holds those that the connection's state
//! makes bad.

mod rows;
#[path = "../support/mod.rs"]
mod support;

use fanfare::Config;
use fanfare::hub::Limits;
use fanfare_wire::websocket::Opcode;
use rows::{ROOM, Row, beyond, check, commands, mistyped, nested, row};
use serde_json::{Value, json};
use std::io::Write;
use std::time::Duration;
use support::native::command;
use support::{Client, Frame, Server, config, frame};

/// Each bad command gets its code. After each, the same connection is served, and the channel is unchanged.
#[test]
fn a_bad_command_is_refused_with_what_is_wrong_and_changes_nothing() {
    let server = Server::native(config());
    let mut bystander = Client::connected(server.address);
    bystander.follow(ROOM);
    let (connects, others): (Vec<Row>, Vec<Row>) =
        mistyped().into_iter().chain(beyond()).partition(|row| row.text.contains(r#""type":"connect""#));
    assert!(connects.len() > 40 && others.len() > 300, "{} and {} rows", connects.len(), others.len());
    for rows in others.chunks(80) {
        let mut client = Client::connected(server.address); // fewer than count as abuse
        client.follow(ROOM);
        for row in rows {
            client.text(&row.text);
            check(row, &client.message());
            let history = client.ask_next("history", json!({"channel": ROOM}));
            assert_eq!((&history["offset"], &history["publications"]), (&json!(0), &json!([])), "{}", row.name);
        }
        let presence = client.ask_next("presence", json!({"channel": ROOM}));
        assert_eq!(presence["count"], 0);
        client.close();
    }
    for rows in connects.chunks(80) {
        let mut client = Client::native(server.address);
        for row in rows {
            client.text(&row.text);
            check(row, &client.message());
        }
        client.hello(json!({}));
        client.close();
    }
    assert_eq!(server.kept().0, 0, "bytes of history");
    bystander.ask_next("publish", json!({"channel": ROOM, "data": "the first thing to hear"}));
    assert_eq!(bystander.message()["data"], "the first thing to hear");
}

#[test]
fn values_at_their_limits_are_accepted() {
    let server = Server::native(config());
    let mut client = Client::connected(server.address);
    let longest = "c".repeat(255);
    for (name, kind, mut fields, expected) in [
        (
            "64 levels",
            "publish",
            json!({"data": serde_json::from_str::<Value>(&nested(64)).expect("JSON")}),
            "published",
        ),
        ("65,536 bytes", "publish", json!({"data": "x".repeat(65_534)}), "published"),
        ("65,536 bytes of base64", "publish", json!({"data64": format!("{}==", "A".repeat(87_382))}), "published"),
        ("a key of 64 bytes", "publish", json!({"data": 1, "idempotency_key": "k".repeat(64)}), "published"),
        ("an event of 64 bytes", "publish", json!({"data": null, "event": "e".repeat(64)}), "published"),
        ("a channel of 255 bytes", "publish", json!({"data": 1, "channel": longest}), "published"),
        ("subscribe, unknown fields", "subscribe", json!({"since": null, "colour": {"a": [1]}}), "subscribed"),
        ("presence of 4,096 bytes", "presence_set", json!({"data": "x".repeat(4_094)}), "result"),
        ("1000 of history", "history", json!({"limit": 1000}), "history"),
    ] {
        if fields.get("channel").is_none() {
            fields["channel"] = ROOM.into();
        }
        let answer = client.ask_next(kind, fields);
        assert_eq!(answer["type"], expected, "{name}: {answer}");
        if kind == "publish" && answer["offset"] == 1 {
            assert_eq!(answer["duplicate"], Value::Null, "{name}");
        }
    }
    for id in [json!(0), json!(9_007_199_254_740_991_u64), json!(""), json!("i".repeat(64))] {
        client.text(&command("presence", json!({"channel": ROOM}), &id).to_string());
        assert_eq!(client.message()["id"], id);
    }
}

#[test]
fn binary_is_refused_and_text_that_is_none_ends_the_connection() {
    let server = Server::native(config());
    let mut client = Client::connected(server.address);
    client.send(Opcode::Binary, br#"{"type":"presence","id":7,"channel":"chat:room"}"#);
    check(
        &Row { id: Value::Null, ..row("binary", String::new(), "bad_request", &["text", "data64"]) },
        &client.message(),
    );
    assert_eq!(client.ask_next("presence", json!({"channel": ROOM}))["count"], 0);
    client.send(Opcode::Text, b"{\"type\":\"publish\xff\"}");
    assert_eq!(client.closed(), Some(1007), "invalid_data");

    let mut client = Client::connected(server.address);
    client.send(Opcode::Text, &vec![b' '; 200 << 10]);
    assert_eq!(client.closed(), Some(1009), "message_too_big");
}

#[test]
fn a_bad_command_in_an_array_spoils_only_itself() {
    let server = Server::native(config());
    let mut client = Client::connected(server.address);
    client.text(&format!(
        r#"[{{"type":"publish","id":1,"channel":"{ROOM}","data":1}},7,{{"type":"shout","id":2}},{{"type":"history","id":3,"channel":"{ROOM}"}}]"#
    ));
    let (mut published, mut errors) = (false, Vec::new());
    let history = loop {
        let message = client.message();
        match message["type"].as_str() {
            Some("published") => published = true,
            Some("error") => errors.push((message["code"].clone(), message["id"].clone())),
            _ => break message,
        }
    };
    assert!(published);
    assert_eq!(errors, [(json!("bad_request"), Value::Null), (json!("unknown_command"), json!(2))]);
    assert_eq!(history["publications"][0]["data"], 1);
    client.text("[]");
    assert_eq!(client.ask_next("presence", json!({"channel": ROOM}))["count"], 0, "nothing asked, nothing answered");
}

#[test]
fn nothing_is_served_before_connect_and_connect_comes_once() {
    let server = Server::native(config());
    let mut client = Client::native(server.address);
    for (whole, _) in commands() {
        if whole["type"] == "connect" || whole["type"] == "refresh" || whole["type"] == "rpc" {
            continue;
        }
        let kind = whole["type"].as_str().expect("a text").to_owned();
        let error = client.ask_next(&kind, whole);
        assert_eq!((&error["code"], &error["retryable"]), (&json!("not_connected"), &json!(false)), "{kind}");
        assert!(error["message"].as_str().is_some_and(|text| text.contains("`connect`")), "{error}");
    }
    for kind in ["refresh", "rpc"] {
        let error = client.ask_next(kind, json!({"token": "t", "method": "m"}));
        assert_eq!(error["code"], "not_connected", "{kind}: {error}");
    }
    client.text(r#"{"type":"pong"}"#); // a pong gets no answer, connected or not
    let connected = client.hello(json!({}));
    let error = client.ask_next("connect", json!({}));
    assert_eq!(error["code"], "already_connected", "{error}");
    let error = client.ask_next("connect", json!({"ticket": connected["ticket"]}));
    assert_eq!(error["code"], "already_connected", "not by its own ticket either: {error}");
    let error = client.ask_next("connect", json!({"subscribe": [{"channel": ROOM}]}));
    assert_eq!(error["code"], "already_connected", "{error}");
    assert_eq!(client.ask_next("unsubscribe", json!({"channel": ROOM}))["code"], "not_subscribed");

    let mut two = Client::native(server.address);
    two.text(r#"[{"type":"connect","id":1},{"type":"connect","id":2}]"#);
    assert_eq!(two.message()["type"], "connected");
    assert_eq!(two.message()["code"], "already_connected");
    two.ask_next("subscribe", json!({"channel": ROOM}));
}

#[test]
fn a_connection_without_connect_in_time_is_closed_for_good() {
    let limits = Limits { connect_timeout_ms: 100, ..config().limits };
    let server = Server::native(Config { limits, ..config() });
    let mut silent = Client::native(server.address);
    let mut chatty = Client::native(server.address);
    chatty.text(r#"{"type":"history","id":1,"channel":"chat:room"}"#);
    assert_eq!(silent.closed(), Some(4500));
    assert_eq!(chatty.closed(), Some(4500), "talking is not connecting");
}

#[test]
fn a_ticket_that_is_not_ours_gives_a_new_session_and_nothing_else() {
    let (server, other) = (Server::native(config()), Server::native(config()));
    let mut at_other = Client::native(other.address);
    let foreign = at_other.hello(json!({}));
    let own = Client::native(server.address).hello(json!({}));
    let tampered = own["ticket"].as_str().expect("a ticket").replace(['a', 'A'], "b");
    for ticket in [foreign["ticket"].clone(), json!(""), json!("x"), json!("x".repeat(60_000)), json!(tampered)] {
        let mut client = Client::native(server.address);
        let connected = client.hello(json!({"ticket": ticket}));
        assert_eq!(connected["session_resumed"], false);
        assert_ne!(connected["client"], foreign["client"]);
        assert_ne!(connected["client"], own["client"]);
    }
}

#[test]
fn a_subscription_is_made_once_and_is_over_when_it_is_ended() {
    let server = Server::native(config());
    let mut client = Client::connected(server.address);
    let mut speaker = Client::connected(server.address);
    client.follow(ROOM);
    let error = client.ask_next("subscribe", json!({"channel": ROOM, "recent": 5}));
    assert_eq!((&error["code"], &error["channel"]), (&json!("already_subscribed"), &json!(ROOM)), "{error}");
    let many = client
        .ask_next("subscribe", json!({"channels": [{"channel": ROOM}, {"channel": "chat:b"}, {"channel": "chat:b"}]}));
    let codes: Vec<_> = many["data"].as_array().expect("a list").iter().map(|one| one["code"].clone()).collect();
    assert_eq!(codes, [json!("already_subscribed"), Value::Null, json!("already_subscribed")], "{many}");

    speaker.ask("publish", json!({"channel": ROOM, "data": 1}));
    assert_eq!(client.message()["data"], 1, "the refused ones changed nothing");
    assert_eq!(client.ask("presence_set", json!({"channel": ROOM, "data": {}}))["type"], "result");
    assert_eq!(client.ask_next("unsubscribe", json!({"channel": ROOM}))["code"], "requested");
    speaker.ask("publish", json!({"channel": ROOM, "data": 2}));
    speaker.ask("signal", json!({"channel": ROOM, "event": "e"}));
    for (kind, fields) in [
        ("unsubscribe", json!({"channel": ROOM})),
        ("presence_set", json!({"channel": ROOM, "data": {}})),
        ("unsubscribe", json!({"channel": "chat:never"})),
    ] {
        let error = client.ask_next(kind, fields.clone());
        assert_eq!((&error["code"], &error["channel"]), (&json!("not_subscribed"), &fields["channel"]), "{error}");
    }
    assert_eq!(
        client.ask_next("presence_clear", json!({"channel": ROOM}))["type"],
        "result",
        "clearing nothing is done at once"
    );
    let published = client.ask_next("publish", json!({"channel": ROOM, "data": 3}));
    assert_eq!(published["offset"], 3, "who may subscribe may publish");
    assert_eq!(
        client.ask_next("presence", json!({"channel": ROOM}))["count"],
        0,
        "the entry went with the subscription"
    );

    // All on one connection: the ends and beginnings take effect in their order.
    for round in 0..20 {
        client.text(
            &json!([
                command("subscribe", json!({"channel": ROOM}), &json!("s")),
                command("unsubscribe", json!({"channel": ROOM}), &json!("u")),
                command("subscribe", json!({"channel": ROOM}), &json!("s2")),
                command("subscribe", json!({"channel": ROOM}), &json!("s3")),
                command("unsubscribe", json!({"channel": ROOM}), &json!("u2")),
                command("presence_set", json!({"channel": ROOM, "data": 1}), &json!("p")),
            ])
            .to_string(),
        );
        let answers: Vec<Value> = (0..6).map(|_| client.message()).collect();
        let words: Vec<_> =
            answers.iter().map(|m| (m["id"].as_str().unwrap_or(""), m["type"].as_str().unwrap_or(""))).collect();
        assert_eq!(
            words,
            [
                ("s", "subscribed"),
                ("u", "unsubscribed"),
                ("s2", "subscribed"),
                ("s3", "error"),
                ("u2", "unsubscribed"),
                ("p", "error")
            ],
            "round {round}"
        );
    }
}

#[test]
fn a_position_that_is_none_of_ours_is_a_loss_and_never_silence() {
    let server = Server::native(config());
    let mut client = Client::connected(server.address);
    for n in 1..=3 {
        client.ask("publish", json!({"channel": ROOM, "data": n}));
    }
    let top = client.ask_next("history", json!({"channel": ROOM}));
    let (epoch, offset) = (&top["epoch"], &top["offset"]);
    assert_eq!(offset, 3);
    for (name, since) in [
        ("from the future", json!({"epoch": epoch, "offset": 4})),
        ("from the far future", json!({"epoch": epoch, "offset": 9_007_199_254_740_991_u64})),
        ("of another epoch", json!({"epoch": "another", "offset": 3})),
        ("of an empty epoch", json!({"epoch": "", "offset": 3})),
        ("of an epoch of 32 bytes", json!({"epoch": "e".repeat(32), "offset": 0})),
    ] {
        let subscribed = client.ask_next("subscribe", json!({"channel": ROOM, "since": since, "recent": 2}));
        assert_eq!(
            (&subscribed["recovered"], &subscribed["epoch"], &subscribed["offset"]),
            (&json!(false), epoch, offset),
            "{name}: {subscribed}"
        );
        let data: Vec<_> =
            subscribed["publications"].as_array().expect("a list").iter().map(|p| p["data"].clone()).collect();
        assert_eq!(data, [2, 3], "{name}: the recent ones in their place");
        assert_eq!(client.ask_next("unsubscribe", json!({"channel": ROOM}))["type"], "unsubscribed");
        let history = client.ask_next("history", json!({"channel": ROOM, "since": since}));
        assert_eq!((&history["epoch"], &history["offset"]), (epoch, offset), "{name}: {history}");
        let before = client.ask_next("history", json!({"channel": ROOM, "before": since}));
        assert_eq!((&before["type"], &before["epoch"]), (&json!("history"), epoch), "{name}: {before}");
    }
    let subscribed = client.ask_next("subscribe", json!({"channel": ROOM, "since": {"epoch": epoch, "offset": 0}}));
    assert_eq!(
        (&subscribed["recovered"], subscribed["publications"].as_array().map(Vec::len)),
        (&json!(true), Some(3))
    );
}

#[test]
fn a_signal_to_who_is_not_there_is_told_to_its_sender() {
    let server = Server::native(config());
    let (mut ada, mut bo) = (Client::connected(server.address), Client::native(server.address));
    let id = bo.hello(json!({}))["client"].clone();
    let signal = json!({"channel": ROOM, "event": "offer", "data": 1, "to": id});
    let refused = |error: &Value, why: &str| {
        assert_eq!((&error["code"], &error["retryable"]), (&json!("not_found"), &json!(false)), "{why}: {error}");
        assert!(error["message"].as_str().is_some_and(|text| text.contains("`to`")), "{error}");
    };
    refused(&ada.ask_next("signal", signal.clone()), "nobody has the channel");
    ada.follow(ROOM);
    refused(&ada.ask_next("signal", signal.clone()), "it is not subscribed");
    bo.follow(ROOM);
    assert_eq!(ada.ask_next("signal", signal.clone())["type"], "result");
    assert_eq!(bo.message()["event"], "offer");
    bo.ask_next("unsubscribe", json!({"channel": ROOM}));
    refused(&ada.ask_next("signal", signal.clone()), "it has unsubscribed");
    bo.follow(ROOM);
    bo.close();
    refused(&ada.ask_next("signal", signal), "it has left");
    refused(&ada.ask_next("signal", json!({"channel": ROOM, "event": "e", "to": "0000000000000000"})), "it never was");
}

#[test]
fn a_connection_has_128_subscriptions_and_no_more() {
    let server = Server::native(config());
    let list = |range: std::ops::Range<usize>| range.map(|n| json!({"channel": format!("c:{n}")})).collect::<Vec<_>>();
    let named = |error: &Value| {
        let message = error["message"].as_str().expect("a sentence");
        assert_eq!(error["code"], "limit_exceeded", "{error}");
        assert!(message.contains("128"), "{message}");
    };
    let mut client = Client::native(server.address);
    let error = client.ask_next("connect", json!({"subscribe": list(0..129)}));
    named(&error);
    assert!(
        error["message"].as_str().is_some_and(|text| text.contains("`subscribe`") && text.contains("129")),
        "{error}"
    );
    client.text(&command("connect", json!({"subscribe": list(0..100)}), &json!(1)).to_string());
    assert_eq!(client.message()["type"], "connected");
    for _ in 0..100 {
        assert_eq!(client.message()["type"], "subscribed");
    }
    let many = client.ask_next("subscribe", json!({"channels": list(100..130)}));
    let answers = many["data"].as_array().expect("a list");
    for (n, answer) in answers.iter().enumerate() {
        if n < 28 {
            assert_eq!(answer["type"], "subscribed", "{n}: {answer}");
        } else {
            named(answer);
            assert_eq!(answer["channel"], format!("c:{}", 100 + n));
        }
    }
    let error = client.ask_next("subscribe", json!({"channel": "c:more"}));
    named(&error);
    assert!(error["message"].as_str().is_some_and(|text| text.contains("subscriptions_max")), "{error}");
    client.ask_next("unsubscribe", json!({"channel": "c:0"}));
    assert_eq!(client.ask_next("subscribe", json!({"channel": "c:more"}))["type"], "subscribed", "there is room again");
    named(&client.ask_next("subscribe", json!({"channel": "c:0"})));
}

/// Ten thousand subscribes and unsubscribes on one connection: each is answered in order, and another member of the
/// channel gets every message meanwhile.
#[test]
fn a_flood_of_subscriptions_harms_nobody_and_leaves_nothing() {
    const PAIRS: usize = 5_000;
    let limits = Limits { linger_ms: 1, ..config().limits };
    let server = Server::native(Config { limits, ..config() });
    let mut bystander = Client::connected(server.address);
    bystander.follow(ROOM);
    let mut flooding = Client::connected(server.address);
    let mut bytes = Vec::new();
    for n in 0..PAIRS {
        let channel = if n % 2 == 0 { ROOM.to_owned() } else { format!("c:{}", n % 7) };
        for kind in ["subscribe", "unsubscribe"] {
            bytes.extend_from_slice(&frame(
                Opcode::Text,
                command(kind, json!({"channel": channel}), &json!(n)).to_string().as_bytes(),
            ));
        }
    }
    let mut socket = flooding.socket.try_clone().expect("a socket");
    let writing = std::thread::spawn(move || socket.write_all(&bytes).expect("the server reads"));
    let reading = std::thread::spawn(move || {
        let mut counts = (0, 0);
        while counts != (PAIRS, PAIRS) {
            let message = flooding.message();
            match message["type"].as_str() {
                Some("subscribed") => counts.0 += 1,
                Some("unsubscribed") => {
                    assert_eq!(message["code"], "requested");
                    counts.1 += 1;
                }
                Some("message") => {} // from the other member, while this client was subscribed
                _ => panic!("{message}"),
            }
        }
        flooding
    });
    for n in 0..200 {
        assert_eq!(bystander.ask_next("publish", json!({"channel": ROOM, "data": n}))["type"], "published");
        assert_eq!(bystander.message()["data"], n);
    }
    writing.join().expect("all is written");
    let flooding = reading.join().expect("all is answered");
    while server.kept().1 > 1 {
        bystander.ask_next("presence", json!({"channel": ROOM})); // the flood's channels are released after `linger_ms`
    }
    flooding.close();
}

/// The server tolerates a hundred messages a minute that are not of the protocol; then it ends the connection and its
/// session for good.
#[test]
fn a_hundred_bad_messages_in_a_minute_are_abuse() {
    let server = Server::native(config());
    let mut bystander = Client::connected(server.address);
    bystander.follow(ROOM);
    for (name, connects, bad) in [
        ("no JSON", true, "{"),
        ("unknown types, without an id", true, r#"{"type":"shout"}"#),
        ("a wrong field", true, r#"{"type":"publish","channel":7,"data":1}"#),
        ("connect again and again", true, r#"{"type":"connect","id":1}"#),
        ("never connecting", false, r#"{"type":"presence","id":1,"channel":"chat:room"}"#),
        ("in arrays", true, r#"[{},{},{},{},{},{},{},{},{},{}]"#),
    ] {
        let mut client = Client::native(server.address);
        let ticket = connects.then(|| client.hello(json!({"subscribe": [{"channel": ROOM}]}))["ticket"].clone());
        if connects {
            client.until("subscribed");
        }
        let mut errors = 0;
        let mut sent = 0;
        let end = 'abuse: loop {
            client.text(bad);
            sent += 1;
            for _ in 0..if bad.starts_with('[') { 10 } else { 1 } {
                match client.next() {
                    Frame::Text(text) if text.contains("\"error\"") => errors += 1,
                    other => break 'abuse other,
                }
            }
            assert!(sent <= 250, "{name}: {sent} were taken"); // enough for two minutes
        };
        assert!(errors >= 100, "{name}: only {errors} were suffered");
        let disconnect: Value = match &end {
            Frame::Text(text) => serde_json::from_str(text).expect("JSON"),
            other => panic!("{name}: {other:?} came in place of a word"),
        };
        assert_eq!(
            disconnect,
            json!({"type": "disconnect", "code": 4501, "reason": "abuse", "retry": false, "delay": 0}),
            "{name}"
        );
        assert_eq!(client.next(), Frame::Close(Some(4501), "abuse".into()), "{name}");
        if let Some(ticket) = ticket {
            assert_eq!(
                Client::native(server.address).hello(json!({"ticket": ticket}))["session_resumed"],
                false,
                "{name}"
            );
        }
    }
    assert_eq!(server.kept().0, 0, "bytes of history");
    bystander.ask_next("publish", json!({"channel": ROOM, "data": "all quiet"}));
    assert_eq!(bystander.message()["data"], "all quiet");
}

/// A refusal that depends on state is no abuse: a client that races with itself is not disconnected.
#[test]
fn refusals_of_good_commands_are_no_abuse() {
    let server = Server::native(Config { close_timeout: Duration::from_millis(100), ..config() });
    let mut client = Client::connected(server.address);
    for _ in 0..150 {
        assert_eq!(client.ask_next("unsubscribe", json!({"channel": ROOM}))["code"], "not_subscribed");
        assert_eq!(
            client.ask_next("signal", json!({"channel": ROOM, "event": "e", "to": "0000000000000000"}))["code"],
            "not_found"
        );
    }
    client.close();
}
