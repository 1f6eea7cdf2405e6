//! Commands: their order, their limits, and the code of each refusal.

mod common;
use common::*;
use fanfare_hub::*;

#[test]
fn the_first_command_is_connect_and_there_is_one_of_it() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let peer = net.open(0);
        assert_eq!(error_code(&net.ask(peer, publish("chat:a", "1"))), ErrorCode::NotConnected);
        assert!(matches!(net.ask(peer, Command::Connect(Box::default())), ReplyBody::Connected(_)));
        assert_eq!(error_code(&net.ask(peer, Command::Connect(Box::default()))), ErrorCode::AlreadyConnected);
        assert_eq!(net.peers[peer].closed, None);
    }
}

#[test]
fn a_connection_without_connect_in_time_is_closed() {
    let mut net = Net::new(1);
    let (silent, connected) = (net.open(0), net.connect(0));
    net.pass(5_200);
    assert_eq!(net.peers[silent].closed, Some(Disconnect::NotConnected));
    assert_eq!(net.peers[connected].closed, None);
}

#[test]
fn a_client_that_misses_heartbeats_is_closed_and_may_come_back() {
    let mut net = Net::new(1);
    let peer = net.connect(0);
    net.pass(26_000);
    assert!(net.take(peer).contains(&Received::Push(Push::Ping)));
    net.all_alive();
    net.pass(26_000);
    assert_eq!(net.peers[peer].closed, None, "it gave a sign of life");
    net.pass(26_000);
    assert_eq!(net.peers[peer].closed, Some(Disconnect::HeartbeatTimeout));
    let again = net.resume(peer, 0, vec![]);
    assert_eq!(net.client(again), net.client(peer));
}

/// The client has its own time for the answer, shorter or longer than the interval. The next ping follows the answer.
#[test]
fn a_client_that_has_a_time_to_answer_is_pinged_again_once_it_has_answered() {
    for (pong_timeout_ms, answers_after_ms, expected_pings_s, closed_after_s) in [
        (20_000, Some(0), vec![25, 50, 75, 100, 125], None),
        (20_000, Some(19_000), vec![25, 50, 75, 100, 125], None),
        (20_000, Some(21_000), vec![25], Some(45)),
        (20_000, None, vec![25], Some(45)),
        (25_000, None, vec![25], Some(50)),
        (60_000, Some(1_000), vec![25, 50, 75, 100, 125], None),
        (60_000, Some(59_000), vec![25, 85], None),
        (60_000, None, vec![25], Some(85)),
    ] {
        let mut net = Net::with(1, Limits { pong_timeout_ms, ..Limits::default() }, open_rules());
        net.heartbeat = HeartbeatKind::Waits;
        let peer = net.connect(0);
        let (mut pings_s, mut answer_at_ms, mut closed_at_s) = (Vec::new(), None, None);
        for step in 1..=1_300 {
            net.pass(100);
            let now_ms = step * 100;
            if answer_at_ms.take_if(|at| *at <= now_ms).is_some() {
                net.all_alive();
            }
            if net.take(peer).contains(&Received::Push(Push::Ping)) {
                pings_s.push(now_ms / 1_000);
                answer_at_ms = answers_after_ms.map(|after_ms| now_ms + after_ms);
            }
            if let Some(reason) = net.peers[peer].closed {
                assert_eq!(reason, Disconnect::HeartbeatTimeout);
                closed_at_s.get_or_insert(now_ms / 1_000);
            }
        }
        let name = format!("{answers_after_ms:?} of {pong_timeout_ms} ms");
        assert_eq!((pings_s, closed_at_s), (expected_pings_s, closed_after_s), "{name}");
    }
}

/// docs/protocol.md promises: a client that receives nothing for two intervals may give the connection up.
#[test]
fn a_client_that_sends_and_hears_nothing_else_is_pinged_in_every_interval() {
    for (shards, connects) in [(1, true), (1, false), (3, true)] {
        let limits = Limits { connect_timeout_ms: 1_000_000, ..Limits::default() };
        let mut net = Net::with(shards, limits, open_rules());
        let peer = if connects { net.connect(0) } else { net.open(0) };
        net.pass(5_000);
        for interval in 0..4 {
            for _ in 0..25 {
                net.all_alive();
                net.pass(1_000);
            }
            let pings = net.take(peer).into_iter().filter(|received| *received == Received::Push(Push::Ping)).count();
            assert_eq!(pings, 1, "in interval {interval}, connected: {connects}");
        }
    }
}

#[test]
fn a_client_that_cannot_answer_stays_and_is_told_its_positions() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        net.heartbeat = HeartbeatKind::Marks;
        let (marked, idle, other) = (net.connect(0), net.connect(1), net.connect(2));
        let mut at = net.subscribe(marked, "chat:a").position;
        net.subscribe(marked, "chat:b");
        net.take(marked);
        // A publication for another client moves the position on too.
        let audience = Some(Box::new(Audience { only: vec![net.client(other)], ..Audience::default() }));
        let data = Data::Json("1".into());
        let publish =
            Box::new(Publish { channel: channel("chat:a"), data, event: None, idempotency_key: None, echo: true });
        let published = net.app(0, AppCommand::Publish { publish, audience, by: None });
        let AppAnswer::Published { position, .. } = published else { panic!("{published:?}") };
        at = Position { offset: position.offset, ..at };
        net.pass(80_000);
        let pings = net.take(idle).into_iter().filter(|received| *received == Received::Push(Push::Ping)).count();
        assert_eq!((pings, net.peers[idle].closed), (3, None));
        let marks = net.take(marked);
        assert_eq!((marks.len(), net.peers[marked].closed), (3, None));
        for mark in marks {
            let Received::Push(Push::Mark { positions }) = mark else { panic!("{mark:?}") };
            let names: Vec<&str> = positions.iter().map(|(name, _)| &**name).collect();
            assert_eq!((names, positions[0].1), (vec!["chat:a", "chat:b"], at));
        }
    }
}

/// To a slow reader, waiting bytes are a sign of life from the server. A ping behind them would add one more in each
/// interval.
#[test]
fn pings_do_not_queue_behind_a_full_outbox_and_the_deadline_goes_on() {
    let mut net = Net::new(1);
    let peer = net.connect(0);
    let conn = net.peers[peer].conn;
    net.take(peer);
    net.pass(5_000);
    net.input(0, Input::Full(conn));
    for _ in 0..5 {
        net.input(0, Input::Alive(conn)); // it takes some of it
        net.pass(25_000);
    }
    assert_eq!((net.peers[peer].closed, net.take(peer)), (None, vec![]));
    net.pass(25_000);
    assert_eq!(net.peers[peer].closed, Some(Disconnect::HeartbeatTimeout), "it takes nothing any more");
}

#[test]
fn the_deadline_stands_still_while_a_connection_is_not_read() {
    let limits = Limits { outstanding_max: 1, store_timeout_ms: 600_000, ..Limits::default() };
    let mut net = Net::with_late_store(1, limits);
    let peer = net.connect(0);
    net.pass(5_000);
    net.send(peer, Command::Subscribe { subs: vec![SubOptions::new(channel("chat:a"))], many: false });
    assert!(net.peers[peer].paused);
    for _ in 0..4 {
        net.pass(25_000);
    }
    assert_eq!(net.peers[peer].closed, None, "its pongs are not read");
    net.answer_all();
    assert!(!net.peers[peer].paused);
    net.pass(25_000);
    assert_eq!(net.peers[peer].closed, None, "it has an interval to be heard");
    net.pass(25_000);
    assert_eq!(net.peers[peer].closed, Some(Disconnect::HeartbeatTimeout));
}

#[test]
fn too_many_invalid_messages_are_abuse() {
    let mut net = Net::new(1);
    let peer = net.connect(0);
    for count in 1..=100 {
        net.send(peer, Command::Invalid(Error::new(ErrorCode::BadRequest, "no")));
        assert_eq!(net.peers[peer].closed, None, "after {count}");
    }
    net.send(peer, Command::Invalid(Error::new(ErrorCode::BadRequest, "no")));
    assert_eq!(net.peers[peer].closed, Some(Disconnect::Abuse));
}

#[test]
fn invalid_messages_are_counted_by_the_minute() {
    let mut net = Net::new(1);
    let peer = net.connect(0);
    for minute in 0..3 {
        for _ in 0..100 {
            net.send(peer, Command::Invalid(Error::new(ErrorCode::BadRequest, "no")));
        }
        assert_eq!(net.peers[peer].closed, None, "after {minute} minutes");
        for _ in 0..3 {
            net.pass(20_000);
            net.all_alive();
        }
    }
}

#[test]
fn commands_on_a_channel_wait_behind_its_pending_subscription_and_others_do_not() {
    let mut net = Net::with_late_store(1, Limits::default());
    let peer = net.connect(0);
    net.subscribe_late(peer, "chat:b");
    let subscribe = |name| Command::Subscribe { subs: vec![SubOptions::new(channel(name))], many: false };
    let sub = net.send(peer, subscribe("chat:a"));
    let published = net.send(peer, publish("chat:a", "1"));
    let entered = net.send(peer, enter("chat:a", "1"));
    let left = net.send(peer, unsubscribe("chat:a"));
    let again = net.send(peer, subscribe("chat:a"));
    let other = net.send(peer, enter("chat:b", "1"));
    assert_eq!(net.answer_to(peer, other), Some(ReplyBody::Done), "another channel does not wait");
    for id in [sub, published, entered, left, again] {
        assert_eq!(net.answer_to(peer, id), None, "{id}");
    }
    net.answer_all();
    assert!(matches!(net.answer_to(peer, sub), Some(ReplyBody::Subscribed(_))));
    assert!(matches!(net.answer_to(peer, published), Some(ReplyBody::Published { .. })));
    assert_eq!(net.answer_to(peer, entered), Some(ReplyBody::Done));
    assert!(matches!(net.answer_to(peer, left), Some(ReplyBody::Unsubscribed { .. })));
    assert!(matches!(net.answer_to(peer, again), Some(ReplyBody::Subscribed(_))));
}

/// The second subscription would wait for the first, whose answer is sent only with the whole list.
#[test]
fn a_channel_that_a_list_names_twice_is_subscribed_to_once_and_all_is_answered() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let peer = net.connect(0);
        let subs = ["chat:a", "chat:b", "chat:a"].map(|name| SubOptions::new(channel(name))).into();
        let ReplyBody::Many(answers) = net.ask(peer, Command::Subscribe { subs, many: true }) else {
            panic!("answers together")
        };
        assert!(matches!(answers[..2], [ReplyBody::Subscribed(_), ReplyBody::Subscribed(_)]), "{answers:?}");
        assert_eq!(error_code(&answers[2]), ErrorCode::AlreadySubscribed);
        assert!(matches!(net.ask(peer, publish("chat:a", "1")), ReplyBody::Published { .. }), "the lane is free");
    }
}

#[test]
fn nothing_is_delivered_before_the_answers_of_one_subscribe_are_told_together() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let (ada, bob) = (net.connect(0), net.connect(1));
        let subs: Vec<SubOptions> = (0..8).map(|i| SubOptions::new(channel(&format!("chat:{i}")))).collect();
        let id = net.send_only(bob, Command::Subscribe { subs, many: true });
        for i in 0..8 {
            net.send_only(ada, publish(&format!("chat:{i}"), "1"));
        }
        net.settle();
        let received = net.take(bob);
        let answer =
            received.iter().position(|t| matches!(t, Received::Reply(r) if r.id == Some(RequestId::Number(id))));
        let first =
            received.iter().position(|t| matches!(t, Received::Push(Push::Message { .. }))).unwrap_or(received.len());
        assert!(answer.is_some_and(|answer| answer < first), "{received:?}");
    }
}

#[test]
fn a_connection_with_too_much_outstanding_is_not_read_until_it_is_answered() {
    let mut net = Net::with_late_store(1, Limits::default());
    let peer = net.connect(0);
    for count in 1..=32 {
        assert!(!net.peers[peer].paused, "after {count}");
        net.send(peer, publish("chat:a", "1"));
    }
    assert!(net.peers[peer].paused);
    net.answer_all();
    assert!(!net.peers[peer].paused);
    assert_eq!(net.peers[peer].received.iter().filter(|t| matches!(t, Received::Reply(_))).count(), 33);
}

#[test]
fn what_an_earlier_connection_left_unanswered_does_not_count_on_the_next_one() {
    for is_cut in [true, false] {
        let mut net = Net::with_late_store(1, Limits::default());
        let peer = net.connect(0);
        for _ in 1..32 {
            net.send(peer, publish("chat:a", "1"));
        }
        if is_cut {
            net.cut(peer);
        }
        let back = net.resume(peer, 0, vec![]);
        assert_eq!(net.client(back), net.client(peer));
        for count in 1..=32 {
            assert!(!net.peers[back].paused, "after {count}");
            net.send(back, publish("chat:a", "2"));
        }
        assert!(net.peers[back].paused);
        net.answer_all();
        assert!(!net.peers[back].paused);
    }
}

#[test]
fn the_next_subscription_over_the_limit_is_refused_with_the_limit() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let peer = net.connect(0);
        for i in 0..128 {
            net.subscribe(peer, &format!("chat:{i}"));
        }
        let one_more = Command::Subscribe { subs: vec![SubOptions::new(channel("chat:x"))], many: false };
        let ReplyBody::Error(error) = net.ask(peer, one_more) else { panic!() };
        assert_eq!(error.code, ErrorCode::LimitExceeded);
        assert!(error.message.contains("128"), "{error}");
        net.send(peer, unsubscribe("chat:0"));
        net.subscribe(peer, "chat:x");
    }
}

#[test]
fn a_reload_ends_the_subscriptions_that_it_denies_and_no_others() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let (ada, bob) = (net.connect(0), net.connect(1));
        for peer in [ada, bob] {
            net.subscribe(peer, "chat:a");
            net.subscribe(peer, "news:a");
        }
        let mut closed = open_rule("chat:*");
        closed.subscribe = vec![Who::Nobody];
        net.reload(Rules::new(vec![closed, open_rule("news:*")]));
        for peer in [ada, bob] {
            let received = net.take(peer);
            let ended: Vec<_> =
                received.iter().filter(|t| matches!(t, Received::Push(Push::Unsubscribed { .. }))).collect();
            assert_eq!(ended.len(), 1, "{received:?}");
        }
        net.send(ada, publish("chat:a", "1"));
        net.publish(ada, "news:a", "2");
        assert_eq!(net.take_messages(bob), ["2"]);
    }
}

#[test]
fn a_reload_that_denies_a_subscription_still_being_asked_for_answers_it() {
    let mut net = Net::with_late_store(1, Limits::default());
    let peer = net.connect(0);
    let sub = net.send(peer, Command::Subscribe { subs: vec![SubOptions::new(channel("chat:a"))], many: false });
    let behind = net.send(peer, enter("chat:a", "1"));
    net.reload(Rules::new(vec![open_rule("news:*")]));
    net.answer_all();
    assert_eq!(net.answer_to(peer, sub).map(|body| error_code(&body)), Some(ErrorCode::NoRule));
    assert_eq!(net.answer_to(peer, behind).map(|body| error_code(&body)), Some(ErrorCode::NoRule));
}

#[test]
fn an_oversized_message_is_refused_with_the_limit_and_the_size() {
    let limits = Limits { message_bytes_max: 10, presence_bytes_max: 5, ..Limits::default() };
    let mut net = Net::with(1, limits, open_rules());
    let peer = net.connect(0);
    net.subscribe(peer, "chat:a");
    for (command, words) in [
        (publish("chat:a", "12345678901"), ["11", "10"]),
        (enter("chat:a", "123456"), ["6", "5"]),
        (signal("chat:a", "x", "12345678901", None), ["11", "10"]),
    ] {
        let ReplyBody::Error(error) = net.ask(peer, command) else { panic!() };
        assert_eq!(error.code, ErrorCode::TooLarge);
        assert!(words.iter().all(|word| error.message.contains(word)), "{error}");
    }
}

#[test]
fn a_ticket_of_a_shard_that_does_not_exist_begins_a_new_session() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let resume = Some(Resume { shard: ShardId(99), client: ClientId(5) });
        let peer = net.connect_as(0, Connect { resume, ..Connect::default() });
        assert_ne!(net.client(peer), ClientId(5));
    }
}

#[test]
fn a_rate_holds_over_a_resume_on_whichever_shard() {
    for shards in shard_counts() {
        let rules =
            Rules::new(vec![Rule { rate: Some(RateLimit { count_max: 2, window_ms: 60_000 }), ..open_rule("**") }]);
        let mut net = Net::with(shards, Limits::default(), rules);
        let peer = net.connect(0);
        net.publish_all(peer, "chat:a", 1..=2);
        for landing in 0..shards {
            let back = net.resume(peer, landing, vec![]);
            net.peers[peer].shard = landing;
            assert_eq!(error_code(&net.ask(back, publish("chat:a", "3"))), ErrorCode::RateLimited, "on {landing}");
        }
    }
}

/// The session is on its way to another shard when the connection there ends: it is kept there without one.
#[test]
fn a_rate_holds_for_a_session_that_arrives_when_its_client_has_gone_again() {
    let rate = Some(RateLimit { count_max: 2, window_ms: 60_000 });
    let mut net = Net::with(3, Limits::default(), Rules::new(vec![Rule { rate, ..open_rule("**") }]));
    let peer = net.connect(0);
    net.publish_all(peer, "chat:a", 1..=2);
    let gone = net.open(1);
    let resume = Some(Resume { shard: ShardId(0), client: net.client(peer) });
    net.send_only(gone, Command::Connect(Box::new(Connect { resume, page: the_page(), ..Connect::default() })));
    net.cut(gone);
    for landing in [1, 2] {
        net.peers[peer].shard = 1;
        let back = net.resume(peer, landing, vec![]);
        assert_eq!(net.client(back), net.client(peer));
        assert_eq!(error_code(&net.ask(back, publish("chat:a", "3"))), ErrorCode::RateLimited, "on {landing}");
    }
}
