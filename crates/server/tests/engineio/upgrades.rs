//! The way of a session from polling to a WebSocket: nothing is lost or repeated, and a probe that breaks harms nobody.

use super::*;

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
        // Now the client does not poll. Messages are held meanwhile, and nothing but the probe's answer was sent.
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
    let runtime = support::runtime();
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
    let limits = Limits { outbox_bytes_max: 4_096, connect_timeout_ms: 600_000, ..config().limits };
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
