//! Clients that break a rule, go or fall silent: which sessions end, and what the client reads.

use super::*;

/// The first ping comes an interval after the open packet, by polling and, from the upgrade on, by the WebSocket.
#[test]
fn the_server_pings_on_the_transport_that_a_session_has() {
    let socketio = SocketIoConfig { ping_interval: Duration::from_millis(300), ..socketio() };
    let limits = Limits { pong_timeout_ms: 30_000, connect_timeout_ms: 600_000, ..config().limits };
    let server = Server::of(Fanfare::builder(()).config(Config { socketio, limits, ..config() }));
    let bob = Poller::open(&server);
    assert_eq!(bob.poll(), "2", "the first thing that comes is the ping");
    bob.post("3");
    let mut client = bob.upgraded();
    assert_eq!(text(&mut client), "2");
    client.text("3");
    assert_eq!(text(&mut client), "2");
    let limits = Limits { pong_timeout_ms: 300, connect_timeout_ms: 600_000, ..config().limits };
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

#[test]
fn a_post_that_is_on_its_way_bears_no_second_one() {
    let server = server();
    for _ in 0..ROUNDS {
        let (bob, _) = Poller::enter(&server);
        let mut first = begins_to_post(&bob, r#"42["mess"]"#);
        // The first one may be on its way to the session's shard still.
        while bob.ask("POST", "3").status() == 200 {}
        assert!(bob.is_over());
        is_refused(&response(&mut first), 1);
    }
    // One that comes slowly is as good as another.
    let bob = listener(&server, "slowly");
    let mut first = begins_to_post(&bob, r#"42["mess"]"#);
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
        drop(begins_to_post(&bob, r#"42["mess"]"#));
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
    let limits = Limits { pong_timeout_ms: 200, connect_timeout_ms: 600_000, ..config().limits };
    let server = Server::of(Fanfare::builder(()).config(Config { socketio, limits, ..config() }));
    let silent = Poller::open(&server);
    let mut witness = open(&server);
    for _ in 0..4 {
        assert_eq!(text(&mut witness), "2");
        witness.text("3");
    }
    assert!(silent.is_over());
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

/// The id of a session is judged before the body: nobody sends a long one to a session that is not there.
#[test]
fn a_post_for_no_session_is_refused_before_its_body() {
    let server = server();
    let ended = Poller::open(&server);
    ended.post("1");
    let mut forged = ended.sid.clone().into_bytes();
    forged[3] ^= 1;
    let forged = String::from_utf8(forged).unwrap();
    for (sid, bytes) in [(&forged, 900_000), (&forged, 9_000_000), (&ended.sid, 900_000)] {
        let mut socket = connect(server.address);
        let head = format!(
            "POST /socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n\
             Content-Length: {bytes}\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).unwrap(); // and nothing else
        is_refused(&response(&mut socket), 1);
    }
}
