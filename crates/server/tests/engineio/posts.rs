//! POSTs that wait, for room or for handlers: each is answered, and its packets are taken in once and in order, by
//! whichever transport the client goes on.

use super::*;

/// Clients stop to poll when their probe is answered, and send their `5` when their POST is. So a POST that waits until
/// its client polls is answered.
#[test]
fn a_post_that_waits_for_room_does_not_hold_the_upgrade() {
    const MESSAGES: usize = 300;
    let server = with_small_outbox();
    for round in 0..ROUNDS {
        let bob = listener(&server, &format!("full {round}"));
        let mut posts = posting(&bob, &filling(MESSAGES));
        let mut client = bob.probed();
        let posted = response(&mut posts);
        assert_eq!((posted.status(), &*posted.body), (200, "ok"));
        client.text("5");
        client.text(&message(MESSAGES));
        for n in 0..=MESSAGES as u64 {
            assert_eq!(number(&text(&mut client)), n);
        }
        is_silent(&mut client);
    }
}

/// The same where handlers have not caught up with the client.
#[test]
fn a_post_that_waits_for_handlers_does_not_hold_the_upgrade() {
    const EVENTS: usize = 100;
    let runtime = support::runtime();
    let _entered = runtime.enter();
    let gate = Arc::new(Semaphore::new(0));
    let held = gate.clone();
    let limits = Limits { connect_timeout_ms: 600_000, hook_timeout_ms: 600_000, ..config().limits };
    let builder = Fanfare::builder(()).config(Config { socketio: socketio(), limits, ..config() });
    let server = Server::of(builder.socketio("/", move |io| {
        io.on("say", move |Data(n): Data<u64>| {
            let held = held.clone();
            async move {
                held.acquire().await.unwrap().forget();
                n
            }
        })
    }));
    for _ in 0..ROUNDS {
        let (bob, _) = Poller::enter(&server);
        let events: Vec<String> = (0..EVENTS).map(|n| format!(r#"42{n}["say",{n}]"#)).collect();
        let mut posts = posting(&bob, &events);
        let mut client = bob.probed();
        assert_eq!(&*response(&mut posts).body, "ok");
        client.text("5");
        client.text(&format!(r#"42{EVENTS}["say",{EVENTS}]"#));
        gate.add_permits(EVENTS + 1);
        for n in 0..=EVENTS {
            assert_eq!(text(&mut client), format!("43{n}[{n}]"));
        }
    }
}

/// The packets behind the early answer are judged as all are.
#[test]
fn a_post_that_was_answered_early_may_still_break_the_rules_or_end_the_session() {
    let server = with_small_outbox();
    for (last, code) in [("x", Some(Disconnect::BadProtocol.code())), ("2", Some(4504)), ("1", None)] {
        let bob = listener(&server, "ends");
        let mut posts = posting(&bob, &[filling(300), vec![last.to_owned()]].concat());
        let mut client = bob.probed();
        assert_eq!(&*response(&mut posts).body, "ok");
        client.text("5");
        assert_eq!(number(&text(&mut client)), 0, "{last}");
        let end = loop {
            match client.next() {
                Frame::Close(code, _) => break code,
                Frame::End => break None,
                _ => {}
            }
        };
        assert_eq!(end, code, "{last}");
        while !bob.is_over() {}
    }
    // A client that is cut there reads nothing.
    let bob = listener(&server, "ends");
    let mut posts = posting(&bob, &filling(300));
    let mut client = bob.probed();
    assert_eq!(&*response(&mut posts).body, "ok");
    client.text("5");
    drop(client);
    while !bob.is_over() {}
}

/// The WebSocket fails after a POST was answered early: the client polls on, and its next POST comes behind.
#[test]
fn posts_keep_their_order_where_an_upgrade_fails() {
    const MESSAGES: usize = 300;
    let server = with_small_outbox();
    let bob = listener(&server, "fails");
    let mut posts = posting(&bob, &filling(MESSAGES));
    let mut client = bob.probed();
    assert_eq!(&*response(&mut posts).body, "ok");
    client.text("no probe");
    assert_eq!(client.closed(), Some(Disconnect::BadProtocol.code()));
    let mut posts = posting(&bob, &[message(MESSAGES)]);
    let packets = bob.until(&format!("\"n\":{MESSAGES},"));
    assert_eq!(&*response(&mut posts).body, "ok");
    let numbers: Vec<u64> = packets.iter().filter(|packet| packet.contains("\"n\"")).map(|it| number(it)).collect();
    assert_eq!(numbers, (0..=MESSAGES as u64).collect::<Vec<_>>());
}

/// The answer to a POST may overtake the one to the probe. Then the client posts again before it goes over, and sends
/// its `5` when that POST is answered too.
#[test]
fn posts_behind_one_that_was_answered_early_do_not_hold_the_upgrade() {
    const MESSAGES: usize = 300;
    let server = with_small_outbox();
    for round in 0..ROUNDS {
        let bob = listener(&server, &format!("behind {round}"));
        let mut posts = posting(&bob, &filling(MESSAGES));
        let mut client = bob.probed();
        assert_eq!(&*response(&mut posts).body, "ok");
        for n in 0..3 {
            bob.post(&message(MESSAGES + n));
        }
        client.text("5");
        client.text(&message(MESSAGES + 3));
        for n in 0..=MESSAGES as u64 + 3 {
            assert_eq!(number(&text(&mut client)), n);
        }
        is_silent(&mut client);
    }
}

/// Two POSTs have more bytes than are held for a session, so the second one waits. The client goes over without its
/// answer, or is cut.
#[test]
fn a_post_that_is_under_way_with_the_upgrade_is_answered() {
    const MESSAGES: usize = 100;
    let limits = Limits {
        outbox_bytes_max: 4_096,
        connect_timeout_ms: 600_000,
        room_message_bytes_max: 20_000,
        ..config().limits
    };
    let server = Server::of(Fanfare::builder(()).config(Config { socketio: socketio(), limits, ..config() }));
    for round in 0..ROUNDS {
        let bob = listener(&server, &format!("together {round}"));
        let packets = filling(2 * MESSAGES);
        let (first, second) = packets.split_at(MESSAGES);
        let mut posts = posting(&bob, first);
        let mut client = bob.probed();
        assert_eq!(&*response(&mut posts).body, "ok");
        let second = second.join("\u{1e}");
        let mut posts = begins_to_post(&bob, &second);
        client.text("5");
        posts.write_all(&second.as_bytes()[1..]).unwrap();
        if round % 2 == 1 {
            drop(client);
            response(&mut posts);
            while !bob.is_over() {}
            continue;
        }
        let posted = response(&mut posts);
        let count = match posted.status() {
            200 => 2 * MESSAGES,
            _ => {
                is_refused(&posted, 3); // it came behind the upgrade
                MESSAGES
            }
        };
        client.text(&message(count));
        for n in 0..=count as u64 {
            assert_eq!(number(&text(&mut client)), n);
        }
    }
}

#[test]
fn a_post_that_comes_slowly_does_not_stop_the_one_before_it() {
    const MESSAGES: usize = 300;
    let server = with_small_outbox();
    for round in 0..ROUNDS {
        let bob = listener(&server, &format!("slowly {round}"));
        let mut posts = posting(&bob, &filling(MESSAGES));
        let mut client = bob.probed();
        assert_eq!(&*response(&mut posts).body, "ok");
        client.text("no probe");
        assert_eq!(client.closed(), Some(Disconnect::BadProtocol.code()));
        let mut comes = begins_to_post(&bob, r#"42["mess"]"#);
        let mut packets = bob.until(&format!("\"n\":{},", MESSAGES - 1));
        comes.write_all(b"2[\"mess\"]").unwrap();
        assert_eq!(&*response(&mut comes).body, "ok");
        packets.retain(|packet| packet.contains("\"n\""));
        let numbers: Vec<u64> = packets.iter().map(|packet| number(packet)).collect();
        assert_eq!(numbers, (0..MESSAGES as u64).collect::<Vec<_>>());
    }
}
