//! The bounds of questions: their number, the share of each session, their time, and the end of their connection.

use super::*;

#[test]
fn an_unanswered_question_is_a_timeout_and_a_late_answer_is_ignored() {
    for shards in shard_counts() {
        let mut net = net(shards, hooks(false, &["room:*"], &["room:*"]));
        let peer = net.connect(0);
        let sub = net.send(peer, subscribe("room:a"));
        let called = net.send(peer, rpc("1"));
        net.pass(5_200);
        for id in [sub, called] {
            assert_eq!(error_code(&net.answer_to(peer, id).unwrap()), ErrorCode::Timeout);
        }
        net.take(peer);
        net.answer(HookAnswer::Allowed);
        net.answer(HookAnswer::Result(Bytes::from_static(b"1")));
        assert_eq!(net.take(peer), []);
        net.all_alive();
        net.pass(2_000);
        let stats = net.shards.iter().map(|shard| shard.stats());
        assert_eq!(stats.map(|stats| (stats.questions, stats.edges)).max(), Some((0, 0)), "nothing is kept for it");
    }
}

#[test]
fn beyond_the_bound_of_questions_it_is_unavailable() {
    let limits = Limits { questions_max: 2, ..Limits::default() };
    let mut net = Net::with_hooks(1, limits, open_rules(), hooks(true, &["room:*"], &["room:*"]));
    let (peer, _) = connect_as(&mut net, 0, Connect::default(), ada());
    net.send(peer, rpc("1"));
    net.send(peer, rpc("2"));
    let refused = |net: &mut Net, peer, command| {
        let ReplyBody::Error(error) = net.ask(peer, command) else { panic!() };
        assert_eq!(error.code, ErrorCode::Unavailable);
        assert!(error.message.contains("questions_max") && error.retry_after_ms.is_some(), "{error:?}");
    };
    refused(&mut net, peer, rpc("3"));
    refused(&mut net, peer, subscribe("room:a"));
    refused(&mut net, peer, Command::Refresh { token: "t".into() });
    let other = net.open(0);
    refused(&mut net, other, Command::Connect(Box::default()));
    net.answer(HookAnswer::Result(Bytes::new()));
    let id = net.send(other, Command::Connect(Box::default()));
    assert_eq!(net.answer_to(other, id), None, "there is room again");
}

#[test]
fn questions_beyond_the_share_of_a_session_wait_and_others_come_in() {
    let limits = Limits { questions_max: 16, ..Limits::default() };
    let mut net = Net::with_hooks(1, limits, open_rules(), hooks(true, &["room:*"], &["room:*"]));
    let (greedy, _) = connect_as(&mut net, 0, Connect::default(), ada());
    let texts = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"];
    let calls = texts.map(|text| net.send(greedy, rpc(text)));
    assert_eq!(net.questions.len(), 8, "session_questions_max");
    let (other, _) = connect_as_last(&mut net, 0);
    // All places that commands may use are taken: 12 of 16. A client that connects still comes in.
    for text in &texts[..4] {
        net.send(other, rpc(text));
    }
    let ReplyBody::Error(error) = net.ask(other, rpc("5")) else { panic!() };
    assert_eq!(error.code, ErrorCode::Unavailable);
    assert!(error.message.contains("16 (questions_max)"), "{error:?}");
    connect_as_last(&mut net, 0);
    for (n, (call, text)) in calls.into_iter().zip(texts).enumerate() {
        let Question::Rpc { data, .. } = net.answer(HookAnswer::Result(Bytes::from_static(b"1"))) else { panic!() };
        assert_eq!(*data, *text.as_bytes(), "in their order");
        assert!(matches!(net.answer_to(greedy, call), Some(ReplyBody::Result(_))));
        // The other client's questions came after the first eight of this one: they keep their places in the test's
        // queue.
        if n == 7 {
            net.questions.rotate_left(4);
        }
    }
}

#[test]
fn refreshes_are_questions_of_their_session_like_others_and_keep_their_order() {
    for shards in shard_counts() {
        let limits = Limits { questions_max: 16, session_questions_max: 2, ..Limits::default() };
        let mut net = Net::with_hooks(shards, limits, open_rules(), hooks(true, &[], &[]));
        let (greedy, _) = connect_as(&mut net, 0, with_token("t"), ada());
        let refresh = |text: &str| Command::Refresh { token: text.into() };
        let first = net.send(greedy, rpc("0"));
        let refreshes = ["1", "2", "3"].map(|text| net.send(greedy, refresh(text)));
        let last = net.send(greedy, rpc("4"));
        assert_eq!(net.questions.len(), 2, "session_questions_max");
        connect_as_last(&mut net, 0);
        net.answer(HookAnswer::Result(Bytes::from_static(b"0")));
        assert!(matches!(net.answer_to(greedy, first), Some(ReplyBody::Result(_))));
        for (id, text) in refreshes.into_iter().zip(["1", "2", "3"]) {
            let Question::Refresh { token, .. } = net.answer(HookAnswer::Identity(ada())) else { panic!() };
            assert_eq!(&*token, text, "in their order");
            assert!(matches!(net.answer_to(greedy, id), Some(ReplyBody::Refreshed { .. })));
        }
        net.answer(HookAnswer::Result(Bytes::from_static(b"4")));
        assert!(matches!(net.answer_to(greedy, last), Some(ReplyBody::Result(_))));
    }
}

/// All places that commands may use are taken: a refresh whose turn comes now uses the reserved share.
#[test]
fn a_refresh_that_waited_for_its_turn_has_the_share_of_those_about_who_somebody_is() {
    let limits = Limits { questions_max: 4, session_questions_max: 1, ..Limits::default() };
    let mut net = Net::with_hooks(1, limits, open_rules(), hooks(true, &[], &[]));
    let peers: Vec<usize> = (0..4).map(|_| connect_as(&mut net, 0, with_token("t"), ada()).0).collect();
    net.send(peers[0], rpc("0"));
    let refresh = net.send(peers[0], Command::Refresh { token: "t".into() });
    let call = net.send(peers[0], rpc("1"));
    net.send(peers[1], rpc("0"));
    net.send(peers[2], rpc("0"));
    assert_eq!(error_code(&net.ask(peers[3], rpc("0"))), ErrorCode::Unavailable);
    let third = net.send(peers[3], Command::Refresh { token: "t".into() });
    net.answer(HookAnswer::Result(Bytes::from_static(b"0")));
    assert_eq!(net.answer_to(peers[0], refresh), None, "it is asked");
    assert_eq!((net.questions.len(), net.answer_to(peers[3], third)), (4, None));
    let (shard, token, _) = net.questions.pop_back().expect("the refresh");
    net.answer_as(shard, token, HookAnswer::Identity(ada()));
    assert!(matches!(net.answer_to(peers[0], refresh), Some(ReplyBody::Refreshed { .. })));
    assert_eq!(net.answer_to(peers[0], call).map(|body| error_code(&body)), Some(ErrorCode::Unavailable));
}

#[test]
fn questions_that_wait_go_with_their_connection() {
    for shards in shard_counts() {
        let limits = Limits { session_questions_max: 2, ..Limits::default() };
        let mut net = Net::with_hooks(shards, limits, open_rules(), hooks(false, &["room:*"], &["room:*"]));
        let peer = net.connect(0);
        for name in ["room:a", "room:b", "room:c", "room:d"] {
            net.send(peer, subscribe(name));
        }
        net.send(peer, rpc("1"));
        net.cut(peer);
        let resumed = net.resume(peer, 0, Vec::new());
        assert_eq!(net.questions.len(), 2, "no more is asked for who is gone");
        let id = net.send(resumed, rpc("2"));
        net.answer(HookAnswer::Allowed);
        net.answer(HookAnswer::Allowed);
        net.answer(HookAnswer::Result(Bytes::from_static(b"2")));
        assert!(matches!(net.answer_to(resumed, id), Some(ReplyBody::Result(_))), "its old questions take no place");
        net.pass(2_000);
        let stats = net.shards.iter().map(|shard| shard.stats());
        assert_eq!(stats.map(|stats| (stats.questions, stats.edges)).max(), Some((0, 0)), "nothing is kept for it");
    }
}

#[test]
fn a_cut_while_the_application_thinks_does_nothing_and_leaves_nothing() {
    for shards in shard_counts() {
        let mut net = net(shards, hooks(false, &["room:*"], &["chat:*"]));
        let (peer, reader) = (net.connect(0), net.connect(1));
        net.subscribe(reader, "chat:a");
        net.send(peer, subscribe("room:a"));
        net.send(peer, publish("chat:a", "1"));
        net.send(peer, publish("chat:a", "2"));
        net.cut(peer);
        let back = net.resume(peer, 1, vec![SubOptions::new(channel("room:a"))]);
        assert_eq!(net.client(back), net.client(peer));
        net.take(back);
        net.answer(HookAnswer::Allowed);
        let_through(&mut net, "1");
        assert_eq!(net.take(back), [], "those were of the old connection");
        assert_eq!(net.take_messages(reader), Vec::<String>::new());
        net.answer(HookAnswer::Allowed);
        assert!(matches!(&net.take(back)[..], [Received::Reply(Reply { id: None, body: ReplyBody::Subscribed(_) })]));
        assert!(net.questions.is_empty());
    }
}

/// A question of a session that waited for its turn finds no room among all questions. Its place is free again.
#[test]
fn a_question_that_finds_no_room_in_its_turn_takes_no_share() {
    let limits = Limits { session_questions_max: 1, questions_max: 4, ..Limits::default() };
    let mut net = Net::with_hooks(1, limits, open_rules(), hooks(true, &[], &[]));
    let peers = [(); 3].map(|()| connect_as(&mut net, 0, with_token("t"), ada()).0);
    let call = || Command::Rpc { method: "quote".into(), data: Bytes::from_static(b"1") };
    let result = || HookAnswer::Result(Bytes::from_static(b"1"));
    let [first, second] = [(); 2].map(|()| net.send(peers[0], call()));
    net.send(peers[1], call());
    net.send(peers[2], call());
    let comes = net.open(0);
    net.send(comes, Command::Connect(Box::new(with_token("t"))));
    net.answer(result());
    assert!(matches!(net.answer_to(peers[0], first), Some(ReplyBody::Result(_))));
    let refused = net.answer_to(peers[0], second).expect("it had its turn");
    assert_eq!(error_code(&refused), ErrorCode::Unavailable, "three of four questions are open");
    net.answer(result());
    net.answer(result());
    net.answer(HookAnswer::Identity(ada()));
    let third = net.send(peers[0], call());
    net.answer(result());
    assert!(matches!(net.answer_to(peers[0], third), Some(ReplyBody::Result(_))));
}

/// It is to be tried again, so it has taken nothing.
#[test]
fn a_publication_that_the_application_cannot_be_asked_about_takes_nothing_of_its_rate() {
    for asked_by in ["the rule", "a hook"] {
        let limits = Limits { questions_max: 2, ..Limits::default() };
        let rate = Some(RateLimit { count_max: 1, window_ms: 60_000 });
        let by_rule = asked_by == "the rule";
        let publish_by = if by_rule { vec![Who::Hook] } else { vec![Who::Anyone] };
        let rules = Rules::new(vec![Rule { rate, publish: publish_by, ..open_rule("**") }]);
        let mut net = Net::with_hooks(1, limits, rules, hooks(true, &[], &["room:*"]));
        let (peer, _) = connect_as(&mut net, 0, Connect::default(), ada());
        let calls = ["1", "2"].map(|text| net.send(peer, rpc(text)));
        for _ in 0..3 {
            assert_eq!(error_code(&net.ask(peer, publish("room:a", "1"))), ErrorCode::Unavailable, "{asked_by}");
        }
        net.answer(HookAnswer::Result(Bytes::new()));
        assert!(net.answer_to(peer, calls[0]).is_some());
        let published = net.send(peer, publish("room:a", "1"));
        assert_eq!(net.answer_to(peer, published), None, "{asked_by}: the application is asked");
        net.answer(HookAnswer::Result(Bytes::new()));
        let (shard, token, question) = net.asked();
        net.answer_as(shard, token, edited(&question, "1"));
        assert!(matches!(net.answer_to(peer, published), Some(ReplyBody::Published { .. })), "{asked_by}");
        assert_eq!(error_code(&net.ask(peer, publish("room:a", "2"))), ErrorCode::RateLimited, "{asked_by}");
    }
}
