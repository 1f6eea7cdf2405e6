//! Hooks: the questions to the application, the effects of its answers, and the commands that do not wait for them.

// Clippy allows unwrap in tests, but does not recognise helpers of tests.
#![allow(clippy::unwrap_used)]

mod common;
use bytes::Bytes;
use common::*;
use fanfare_hub::*;

fn hooks(connect: bool, subscribe: &[&str], publish: &[&str]) -> Hooks {
    let patterns = |all: &[&str]| all.iter().map(|text| Pattern::new(text).unwrap()).collect();
    Hooks { connect, subscribe: patterns(subscribe), publish: patterns(publish), rpc: true, disconnect: true }
}

fn net(shards: usize, hooks: Hooks) -> Net {
    Net::with_hooks(shards, Limits::default(), open_rules(), hooks)
}

fn with_token(token: &str) -> Connect {
    Connect { token: Some(token.into()), ..Connect::default() }
}

fn ada() -> Identified {
    Identified { user: Some(UserId("ada".into())), ..Identified::default() }
}

fn denied() -> HookAnswer {
    HookAnswer::Refused(Error::new(ErrorCode::Denied, "no"))
}

/// Connects with a token that the application resolves to `identified`.
fn connect_as(net: &mut Net, shard: usize, connect: Connect, identified: Identified) -> (usize, Connected) {
    let peer = net.open(shard);
    let connect = Connect { page: connect.page.or(the_page()), ..connect };
    let id = net.send(peer, Command::Connect(Box::new(connect)));
    assert_eq!(net.answer_to(peer, id), None, "the application is asked");
    net.answer(HookAnswer::Identity(identified));
    match net.answer_to(peer, id) {
        Some(ReplyBody::Connected(connected)) => {
            net.peers[peer].client = Some(connected.client);
            (peer, *connected)
        }
        other => panic!("not connected but {other:?}"),
    }
}

/// The application's answer: the publication, changed.
fn edited(question: &Question, json: &str) -> HookAnswer {
    let Question::Publish { publish, .. } = question else { panic!("{question:?}") };
    HookAnswer::Publish(Box::new(Publish { data: Data::Json(Bytes::from(json.to_owned())), ..(**publish).clone() }))
}

/// The application allows the first publication that it was asked about, changed to this.
fn let_through(net: &mut Net, json: &str) {
    let (shard, token, question) = net.asked();
    net.answer_as(shard, token, edited(&question, json));
}

fn subscribe(name: &str) -> Command {
    Command::Subscribe { subs: vec![SubOptions::new(channel(name))], many: false }
}

fn rpc(json: &'static str) -> Command {
    Command::Rpc { method: "quote".into(), data: Bytes::from_static(json.as_bytes()) }
}

#[test]
fn a_token_is_asked_about_and_what_follows_waits() {
    for shards in shard_counts() {
        let mut net = net(shards, hooks(true, &[], &[]));
        let peer = net.open(0);
        let id = net.send(peer, Command::Connect(Box::new(with_token("t"))));
        let published = net.send(peer, publish("chat:a", "1"));
        assert_eq!((net.answer_to(peer, id), net.answer_to(peer, published)), (None, None));
        let info = Some(Bytes::from_static(b"{\"n\":1}"));
        let question = net.answer(HookAnswer::Identity(Identified { info: info.clone(), ..ada() }));
        assert_eq!(question, Question::Connect { token: Some("t".into()) });
        let Some(ReplyBody::Connected(connected)) = net.answer_to(peer, id) else { panic!() };
        assert_eq!((connected.user, connected.proof.info), (Some(UserId("ada".into())), info));
        assert!(matches!(net.answer_to(peer, published), Some(ReplyBody::Published { .. })));
    }
}

#[test]
fn without_the_hook_a_token_is_refused() {
    let mut net = net(1, Hooks::default());
    let peer = net.open(0);
    assert_eq!(error_code(&net.ask(peer, Command::Connect(Box::new(with_token("t"))))), ErrorCode::Unauthorized);
    assert!(matches!(net.ask(peer, Command::Connect(Box::default())), ReplyBody::Connected(_)));
    assert_eq!(error_code(&net.ask(peer, Command::Refresh { token: "t".into() })), ErrorCode::Unauthorized);
    assert_eq!(error_code(&net.ask(peer, rpc("1"))), ErrorCode::NotFound);
}

#[test]
fn a_refused_connect_may_be_tried_again_and_what_followed_it_is_answered() {
    let mut net = net(1, hooks(true, &[], &[]));
    let peer = net.open(0);
    let first = net.send(peer, Command::Connect(Box::new(with_token("wrong"))));
    let published = net.send(peer, publish("chat:a", "1"));
    let second = net.send(peer, Command::Connect(Box::new(with_token("right"))));
    let again = net.send(peer, publish("chat:a", "2"));
    net.answer(HookAnswer::Refused(Error::new(ErrorCode::Unauthorized, "no")));
    assert_eq!(error_code(&net.answer_to(peer, first).unwrap()), ErrorCode::Unauthorized);
    assert_eq!(error_code(&net.answer_to(peer, published).unwrap()), ErrorCode::NotConnected);
    assert_eq!(net.answer_to(peer, again), None);
    net.answer(HookAnswer::Identity(ada()));
    assert!(matches!(net.answer_to(peer, second), Some(ReplyBody::Connected(_))));
    assert!(matches!(net.answer_to(peer, again), Some(ReplyBody::Published { .. })));
}

#[test]
fn publications_are_changed_refused_and_kept_in_order() {
    for shards in shard_counts() {
        let mut net = net(shards, hooks(false, &[], &["chat:*"]));
        let (writer, reader) = (net.connect(0), net.connect(1));
        net.subscribe(reader, "chat:a");
        net.take(reader);
        let first = net.send(writer, publish("chat:a", "1"));
        let second = net.send(writer, publish("chat:a", "2"));
        let third = net.send(writer, publish("chat:a", "3"));
        net.publish(writer, "other", "0");
        assert_eq!(net.questions.len(), 1, "the next is asked about when the first is decided");
        let_through(&mut net, "\"one\"");
        assert!(matches!(net.answer_to(writer, first), Some(ReplyBody::Published { .. })));
        assert_eq!(net.answer_to(writer, second), None);
        net.answer(denied());
        assert_eq!(error_code(&net.answer_to(writer, second).unwrap()), ErrorCode::Denied);
        let_through(&mut net, "3");
        assert!(matches!(net.answer_to(writer, third), Some(ReplyBody::Published { .. })));
        assert_eq!(net.take_messages(reader), ["\"one\"", "3"]);
    }
}

#[test]
fn calls_are_answered_in_any_order_and_counted_as_outstanding() {
    for shards in shard_counts() {
        let limits = Limits { session_questions_max: 32, ..Limits::default() };
        let mut net = Net::with_hooks(shards, limits, open_rules(), hooks(false, &[], &[]));
        let peer = net.connect(0);
        let ids: Vec<u64> = (0..32).map(|_| net.send(peer, rpc("[1]"))).collect();
        assert!(net.peers[peer].paused, "32 are outstanding");
        let mut asked: Vec<_> = net.questions.drain(..).collect();
        let Question::Rpc { caller, method, data } = &asked[0].2 else { panic!() };
        assert_eq!((caller.client, &**method, &data[..]), (net.peers[peer].client, "quote", &b"[1]"[..]));
        asked.reverse();
        for (number, (shard, token, _)) in asked.into_iter().enumerate() {
            let answer = match number {
                0 => denied(),
                1 => HookAnswer::Allowed,
                2 => HookAnswer::Result(Bytes::from(vec![b'1'; 300 << 10])),
                _ => HookAnswer::Result(Bytes::from(number.to_string())),
            };
            net.answer_as(shard, token, answer);
        }
        let code = |net: &Net, at: usize| error_code(&net.answer_to(peer, ids[at]).unwrap());
        assert_eq!((code(&net, 31), code(&net, 30)), (ErrorCode::Denied, ErrorCode::Internal));
        assert_eq!(code(&net, 29), ErrorCode::TooLarge);
        assert_eq!(net.answer_to(peer, ids[0]), Some(ReplyBody::Result(Bytes::from_static(b"31"))));
        assert!(!net.peers[peer].paused);
    }
}

#[test]
fn a_subscription_is_asked_about_and_a_denial_delivers_nothing() {
    for shards in shard_counts() {
        let mut net = net(shards, hooks(false, &["room:*"], &[]));
        let (writer, reader) = (net.connect(0), net.connect(1));
        let sub = net.send(reader, subscribe("room:a"));
        let entered = net.send(reader, enter("room:a", "1"));
        let left = net.send(reader, unsubscribe("room:a"));
        let again = net.send(reader, subscribe("room:a"));
        assert!(matches!(net.ask(reader, subscribe("chat:b")), ReplyBody::Subscribed(_)), "others do not wait");
        net.take(writer);
        let question = net.answer(HookAnswer::Allowed);
        let Question::Subscribe { caller, options } = question else { panic!("{question:?}") };
        assert_eq!((caller.client, &*options.channel), (net.peers[reader].client, "room:a"));
        assert!(matches!(net.answer_to(reader, sub), Some(ReplyBody::Subscribed(_))));
        assert_eq!(net.answer_to(reader, entered), Some(ReplyBody::Done));
        assert!(matches!(net.answer_to(reader, left), Some(ReplyBody::Unsubscribed { .. })));
        assert_eq!(net.answer_to(reader, again), None);
        // Publishing here needs a subscription too.
        let refused = net.send(writer, publish("room:a", "0"));
        assert_eq!(error_code(&net.answer_to(writer, refused).unwrap()), ErrorCode::NotSubscribed);
        let id = net.send(writer, subscribe("room:a"));
        let (shard, token, _) = net.questions.pop_back().unwrap();
        net.answer_as(shard, token, HookAnswer::Allowed);
        assert!(matches!(net.answer_to(writer, id), Some(ReplyBody::Subscribed(_))));
        net.answer(denied());
        assert_eq!(error_code(&net.answer_to(reader, again).unwrap()), ErrorCode::Denied);
        net.publish(writer, "room:a", "1");
        assert_eq!(net.take_messages(reader), Vec::<String>::new());
        for question in [Command::Presence { channel: channel("room:a") }, signal("room:a", "x", "1", None)] {
            assert_eq!(error_code(&net.ask(reader, question)), ErrorCode::NotSubscribed);
        }
    }
}

#[test]
fn several_subscriptions_are_answered_together_whatever_each_comes_to() {
    for shards in shard_counts() {
        let mut net = net(shards, hooks(false, &["room:*"], &[]));
        let peer = net.connect(0);
        let subs = ["room:a", "chat:b", "room:c"].map(|name| SubOptions::new(channel(name)));
        let id = net.send(peer, Command::Subscribe { subs: subs.into(), many: true });
        net.answer(denied());
        assert_eq!(net.answer_to(peer, id), None);
        net.answer(HookAnswer::Allowed);
        let Some(ReplyBody::Many(bodies)) = net.answer_to(peer, id) else { panic!() };
        assert_eq!(error_code(&bodies[0]), ErrorCode::Denied);
        assert!(bodies[1..].iter().all(|body| matches!(body, ReplyBody::Subscribed(_))));
    }
}

#[test]
fn what_is_not_answered_in_time_is_a_timeout_and_a_late_answer_finds_nothing() {
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

/// Connects while questions of others are open, and leaves those as they are.
fn connect_as_last(net: &mut Net, shard: usize) -> (usize, u64) {
    let peer = net.open(shard);
    let id = net.send(peer, Command::Connect(Box::default()));
    let (shard, token, _) = net.questions.pop_back().expect("the application is asked");
    net.answer_as(shard, token, HookAnswer::Identity(ada()));
    assert!(matches!(net.answer_to(peer, id), Some(ReplyBody::Connected(_))));
    (peer, id)
}

#[test]
fn what_a_session_asks_beyond_its_share_waits_for_its_turn_and_others_come_in() {
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

/// A ticket resumes a session, but proves nothing once that session's token has expired.
#[test]
fn a_ticket_alone_does_not_take_up_a_session_whose_token_has_expired() {
    for shards in shard_counts() {
        let limits = Limits { grace_ms: 60_000, ..Limits::default() };
        let mut net = Net::with_hooks(shards, limits, open_rules(), hooks(true, &[], &[]));
        let expires = Identified { expires_ms: Some(net.now.wall_ms + 8_000), ..ada() };
        let (ada_at, _) = connect_as(&mut net, 0, with_token("t"), expires);
        let resume = Some(Resume { shard: ShardId(0), client: net.client(ada_at) });
        net.cut(ada_at);
        net.pass(9_000);
        let nobody = Identified::default();
        let (_, connected) = connect_as(&mut net, 1, Connect { resume, ..Connect::default() }, nobody);
        assert!(!connected.resumed && connected.user.is_none(), "the application is asked");
        let (_, connected) = connect_as(&mut net, 1, Connect { resume, ..with_token("t") }, ada());
        assert!(connected.resumed, "with a newer token it goes on");
    }
}

#[test]
fn what_waited_to_be_asked_goes_with_its_connection() {
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
fn one_who_is_told_to_try_again_has_the_rest_of_its_time_and_may_come_back() {
    let limits = Limits { questions_max: 1, hook_timeout_ms: 60_000, ..Limits::default() };
    let mut net = Net::with_hooks(1, limits, open_rules(), hooks(true, &[], &[]));
    let (other, late) = (net.open(0), net.open(0));
    net.send(other, Command::Connect(Box::default()));
    net.pass(4_900);
    let ReplyBody::Error(error) = net.ask(late, Command::Connect(Box::default())) else { panic!() };
    assert_eq!(error.code, ErrorCode::Unavailable);
    assert_eq!(net.peers[late].closed, None);
    net.pass(228);
    assert_eq!(net.peers[late].closed, Some(Disconnect::Overloaded));
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

#[test]
fn presence_goes_on_over_a_question_and_ends_with_a_denial_or_a_second_cut() {
    for shards in shard_counts() {
        for denies in [false, true] {
            let mut net = net(shards, hooks(false, &["room:*"], &[]));
            let (peer, watcher) = (net.connect(0), net.connect(0));
            for it in [peer, watcher] {
                net.send(it, Command::Subscribe { subs: vec![with_presence("room:a")], many: false });
                net.answer(HookAnswer::Allowed);
            }
            net.ask(peer, enter("room:a", "1"));
            let client = net.client(peer);
            assert_eq!(presence_changes(&net.take(watcher)), [(PresenceKind::Join, client)]);
            net.cut(peer);
            let back = net.resume(peer, 1, vec![with_presence("room:a")]);
            if denies {
                net.answer(denied());
            } else {
                net.cut(back); // while the question is open
                net.all_alive();
                net.pass(11_000);
                net.answer(HookAnswer::Allowed);
            }
            assert_eq!(presence_changes(&net.take(watcher)), [(PresenceKind::Leave, client)]);
        }
    }
}

#[test]
fn rules_that_change_while_the_application_thinks_are_heeded() {
    for shards in shard_counts() {
        let mut net = net(shards, hooks(false, &["room:*"], &["chat:*"]));
        let peer = net.connect(0);
        let sub = net.send(peer, subscribe("room:a"));
        let published = net.send(peer, publish("chat:a", "1"));
        let closed = |pattern| Rule { subscribe: vec![Who::Nobody], publish: vec![Who::Nobody], ..open_rule(pattern) };
        net.reload(Rules::new(vec![closed("room:*"), closed("chat:*")]));
        net.answer(HookAnswer::Allowed);
        let_through(&mut net, "1");
        for id in [sub, published] {
            assert_eq!(error_code(&net.answer_to(peer, id).unwrap()), ErrorCode::Denied);
        }
        net.pass(2_000);
        assert!(net.shards.iter().all(|shard| shard.stats().edges == 0));
    }
}

#[test]
fn what_the_application_makes_of_a_publication_is_checked_and_keeps_its_key() {
    let mut net = net(1, hooks(false, &[], &["chat:*"]));
    let peer = net.connect(0);
    net.subscribe(peer, "chat:a");
    let Command::Publish(original) = publish("chat:a", "1") else { panic!() };
    let original = Publish { idempotency_key: Some("k".into()), ..*original };
    let big = Data::Json(Bytes::from(vec![b'1'; 70_000]));
    let rows = [
        (Publish { channel: channel("chat:b"), ..original.clone() }, ErrorCode::Internal),
        (Publish { event: Some("a\nb".into()), ..original.clone() }, ErrorCode::Internal),
        (Publish { event: Some("x".repeat(65).into()), ..original.clone() }, ErrorCode::TooLarge),
        (Publish { data: big, ..original.clone() }, ErrorCode::TooLarge),
    ];
    for (answer, code) in rows {
        let id = net.send(peer, Command::Publish(Box::new(original.clone())));
        net.answer(HookAnswer::Publish(Box::new(answer)));
        assert_eq!(error_code(&net.answer_to(peer, id).unwrap()), code);
    }
    for duplicate in [false, true] {
        let id = net.send(peer, Command::Publish(Box::new(original.clone())));
        net.answer(HookAnswer::Publish(Box::new(Publish { idempotency_key: None, ..original.clone() })));
        let Some(ReplyBody::Published { duplicate: found, .. }) = net.answer_to(peer, id) else { panic!() };
        assert_eq!(found, duplicate);
    }
    assert_eq!(net.take_messages(peer), ["1"]);
}

#[test]
fn a_ticket_stands_for_the_token_and_a_token_of_another_user_begins_anew() {
    for shards in shard_counts() {
        let mut net = net(shards, hooks(true, &[], &[]));
        let info = Some(Bytes::from_static(b"7"));
        let (peer, _) = connect_as(&mut net, 0, with_token("t"), Identified { info: info.clone(), ..ada() });
        let resume = Some(Resume { shard: ShardId(0), client: net.client(peer) });
        let by_ticket = |token: Option<&str>| Connect { token: token.map(Into::into), resume, ..Connect::default() };
        net.cut(peer);
        let second = net.connect_as(1, by_ticket(None));
        assert!(net.questions.is_empty(), "nobody is asked");
        let Received::Reply(Reply { body: ReplyBody::Connected(connected), .. }) = &net.peers[second].received[0]
        else {
            panic!()
        };
        assert_eq!((connected.client, connected.resumed), (net.client(peer), true));
        assert_eq!((&connected.user, &connected.proof.info), (&ada().user, &info));
        let by_ticket = |token: &str| Connect {
            resume: Some(Resume { shard: ShardId(net.peers[second].shard as u16), client: net.client(peer) }),
            ..with_token(token)
        };
        let (again, other) = (by_ticket("t"), by_ticket("u"));
        let (_, connected) = connect_as(&mut net, 2, again, ada());
        assert_eq!((connected.client, connected.resumed, connected.proof.info), (net.client(peer), true, None));
        let bob = Identified { user: Some(UserId("bob".into())), ..Identified::default() };
        let (_, connected) = connect_as(&mut net, 2, other, bob);
        assert!(!connected.resumed && connected.client != net.client(peer));
    }
}

/// Otherwise a client that was disconnected for good could come back at once.
#[test]
fn a_ticket_whose_session_is_gone_is_worth_nothing_and_the_application_is_asked() {
    for shards in shard_counts() {
        for (is_kicked, ticket_of) in [(true, 0), (true, 1), (false, 0)] {
            let mut net = net(shards, hooks(true, &["room:*"], &[]));
            let granted = Identified { subscribe: vec![channel("room:a")], ..ada() };
            let (peer, _) = connect_as(&mut net, 0, with_token("t"), granted);
            if is_kicked {
                let whom = Whom::user("ada");
                let kick = AppCommand::Disconnect { whom, reason: Disconnect::Kicked };
                assert_eq!(net.app(1, kick), AppAnswer::Concerned(1));
            } else {
                net.cut(peer);
                net.pass(11_000);
            }
            let resume = Some(Resume { shard: ShardId(ticket_of % shards as u16), client: net.client(peer) });
            let proof = Proof { granted: vec![channel("room:a")], ..Proof::default() };
            let connect = Connect { resume, user: ada().user, proof, ..Connect::default() };
            let back = net.open(0);
            let refused = net.send(back, Command::Connect(Box::new(connect.clone())));
            assert!(matches!(net.questions.front(), Some((.., Question::Connect { token: None }))));
            net.answer(HookAnswer::Refused(Error::new(ErrorCode::Unauthorized, "banned")));
            assert_eq!(error_code(&net.answer_to(back, refused).unwrap()), ErrorCode::Unauthorized);
            let taken = net.send(back, Command::Connect(Box::new(connect)));
            net.answer(HookAnswer::Identity(Identified::default()));
            let Some(ReplyBody::Connected(connected)) = net.answer_to(back, taken) else { panic!("not connected") };
            assert_eq!((connected.resumed, &connected.user, &connected.proof), (false, &None, &Proof::default()));
            assert_ne!(connected.client, net.client(peer));
        }
    }
}

#[test]
fn a_token_ends_its_session_unless_it_is_refreshed_by_the_same_user() {
    for shards in shard_counts() {
        let mut net = net(shards, hooks(true, &[], &[]));
        let until = |net: &Net, ms| Identified { expires_ms: Some(net.now.wall_ms + ms), ..ada() };
        let first = until(&net, 8_000);
        let (peer, connected) = connect_as(&mut net, 0, with_token("t"), first);
        assert_eq!(connected.expires_in_ms, Some(8_000));
        let refresh = |token: &str| Command::Refresh { token: token.into() };
        let id = net.send(peer, refresh("b"));
        net.answer(HookAnswer::Identity(Identified { user: Some(UserId("bob".into())), ..Identified::default() }));
        assert_eq!(error_code(&net.answer_to(peer, id).unwrap()), ErrorCode::Denied);
        let past = Identified { expires_ms: Some(net.now.wall_ms), ..ada() };
        let id = net.send(peer, refresh("old"));
        net.answer(HookAnswer::Identity(past));
        assert_eq!(error_code(&net.answer_to(peer, id).unwrap()), ErrorCode::Unauthorized);
        // Two refreshes are open, and their answers arrive in the other order: the token that was sent last holds.
        let ids = [net.send(peer, refresh("1")), net.send(peer, refresh("2"))];
        let answers = [until(&net, 60_000), until(&net, 20_000)];
        let asked: Vec<_> = net.questions.drain(..).collect();
        for at in [1, 0] {
            let (shard, token, _) = asked[at].clone();
            net.answer_as(shard, token, HookAnswer::Identity(answers[at].clone()));
            let Some(ReplyBody::Refreshed { expires_in_ms, .. }) = net.answer_to(peer, ids[at]) else { panic!() };
            assert_eq!(expires_in_ms, Some(20_000));
        }
        net.pass(19_500);
        assert_eq!(net.peers[peer].closed, None);
        assert_eq!(net.notices, []);
        net.pass(1_000);
        assert_eq!(net.peers[peer].closed, Some(Disconnect::Expired));
        let expected = Caller { client: Some(net.client(peer)), user: ada().user, info: None };
        let [Notice::SessionEnded { caller, why, .. }] = &net.notices[..] else { panic!("{:?}", net.notices) };
        assert_eq!((caller, *why), (&expected, Ended::Closed(Disconnect::Expired)));
    }
}

#[test]
fn the_application_subscribes_at_connect_and_its_grants_hold_until_a_newer_token() {
    for shards in shard_counts() {
        let rule = Rule { subscribe: vec![Who::Server], ..open_rule("inbox:*") };
        let rules = Rules::new(vec![rule, open_rule("chat:*")]);
        let mut net = Net::with_hooks(shards, Limits::default(), rules, hooks(true, &[], &[]));
        let granted = ["inbox:ada", "chat:a", "none"].map(channel);
        let grants = Identified { subscribe: granted.into(), ..ada() };
        let peer = net.open(0);
        let asked = vec![SubOptions { recent: Some(1), ..SubOptions::new(channel("chat:a")) }];
        let connect = Connect { subscribe: asked, ..with_token("t") };
        net.send(peer, Command::Connect(Box::new(connect)));
        net.answer(HookAnswer::Identity(grants));
        let mut received: Vec<String> = Vec::new();
        for it in net.take(peer) {
            let Received::Reply(reply) = it else { panic!("{it:?}") };
            match reply.body {
                ReplyBody::Connected(connected) => net.peers[peer].client = Some(connected.client),
                ReplyBody::Subscribed(subscribed) => received.push(subscribed.channel.to_string()),
                ReplyBody::Error(error) => received.push(format!("{} {}", error.code, error.channel.unwrap())),
                other => panic!("{other:?}"),
            }
        }
        received.sort_unstable();
        assert_eq!(received, ["chat:a", "inbox:ada", "no_rule none"]);
        // The client comes back by its ticket, and may subscribe again.
        net.cut(peer);
        let back = net.resume(peer, 1, vec![SubOptions::new(channel("inbox:ada"))]);
        assert!(matches!(&net.take(back)[1], Received::Reply(Reply { body: ReplyBody::Subscribed(_), .. })));
        net.reload(Rules::new(vec![
            Rule { subscribe: vec![Who::Nobody], ..open_rule("inbox:*") },
            open_rule("chat:*"),
        ]));
        assert_eq!(net.take(back), [], "what the application granted no rule takes away");
        let id = net.send(back, Command::Refresh { token: "t2".into() });
        net.answer(HookAnswer::Identity(Identified { subscribe: vec![channel("chat:c")], ..ada() }));
        assert!(matches!(net.answer_to(back, id), Some(ReplyBody::Refreshed { .. })));
        let received = net.take(back);
        assert!(
            matches!(&received[1], Received::Push(Push::Unsubscribed { channel, .. }) if **channel == *"inbox:ada")
        );
        assert!(
            matches!(&received[2], Received::Reply(Reply { id: None, body: ReplyBody::Subscribed(it) }) if *it.channel == *"chat:c")
        );
    }
}

#[test]
fn a_token_can_grant_what_was_subscribed_already_and_the_application_can_end_what_it_granted() {
    for shards in shard_counts() {
        let closed = || Rules::new(vec![Rule { subscribe: vec![Who::Nobody], ..open_rule("**") }]);
        let mut net = net(shards, hooks(true, &[], &[]));
        let (peer, _) = connect_as(&mut net, 0, with_token("t"), ada());
        net.subscribe(peer, "chat:a");
        let refresh = |net: &mut Net| {
            net.send(peer, Command::Refresh { token: "t2".into() });
            net.answer(HookAnswer::Identity(Identified { subscribe: vec![channel("chat:a")], ..ada() }));
        };
        refresh(&mut net);
        net.take(peer);
        net.reload(closed());
        assert_eq!(net.take(peer), [], "granted by the newer token");
        let end = AppCommand::Unsubscribe { whom: Whom::user("ada"), channel: channel("chat:a") };
        assert_eq!(net.app(1, end.clone()), AppAnswer::Concerned(1));
        assert_eq!(error_code(&net.ask(peer, subscribe("chat:a"))), ErrorCode::Denied, "what it ended is ended");
        refresh(&mut net);
        let received = net.take(peer);
        assert!(
            received
                .iter()
                .any(|received| matches!(received, Received::Reply(Reply { body: ReplyBody::Subscribed(_), .. })))
        );
        // Also for a client that is away.
        net.cut(peer);
        net.app(1, end);
        let back = net.resume(peer, 1, vec![SubOptions::new(channel("chat:a"))]);
        let Some(Received::Reply(Reply { body: ReplyBody::Error(error), .. })) = net.take(back).pop() else { panic!() };
        assert_eq!(error.code, ErrorCode::Denied);
    }
}

/// A handler may send this command about its own caller, whose command is still unanswered.
#[test]
fn the_application_can_end_and_make_a_subscription_while_it_is_asked_about_the_channel() {
    for shards in shard_counts() {
        let mut net = net(shards, hooks(false, &["room:*"], &["chat:*"]));
        let peer = net.connect(0);
        let me = Whom::Client(net.client(peer));
        let end = |name: &str| AppCommand::Unsubscribe { whom: me.clone(), channel: channel(name) };
        let asked = net.send(peer, subscribe("room:a"));
        assert_eq!(net.app(0, end("room:a")), AppAnswer::Concerned(1));
        net.answer(HookAnswer::Allowed);
        assert_eq!(error_code(&net.answer_to(peer, asked).unwrap()), ErrorCode::Denied);
        net.subscribe(peer, "chat:a");
        net.take(peer);
        let published = net.send(peer, publish("chat:a", "1"));
        assert_eq!(net.app(0, end("chat:a")), AppAnswer::Concerned(1));
        assert!(matches!(&net.take(peer)[..], [Received::Push(Push::Unsubscribed { .. })]));
        let options = Box::new(SubOptions::new(channel("chat:a")));
        assert_eq!(net.app(0, AppCommand::Subscribe { whom: me.clone(), options }), AppAnswer::Concerned(1));
        net.take(peer);
        let_through(&mut net, "1");
        assert!(matches!(net.answer_to(peer, published), Some(ReplyBody::Published { .. })), "that goes on");
        assert_eq!(net.take_messages(peer), ["1"]);
    }
}

/// A client has another user's ticket and its own token.
#[test]
fn a_ticket_with_another_users_token_leaves_its_session_alone_on_whichever_shard() {
    for shards in shard_counts() {
        for landing in 0..shards {
            let mut net = net(shards, hooks(true, &[], &[]));
            let (peer, _) = connect_as(&mut net, 0, with_token("t"), ada());
            net.subscribe(peer, "chat:a");
            let resume = Some(Resume { shard: ShardId(0), client: net.client(peer) });
            let bob = Identified { user: Some(UserId("bob".into())), ..Identified::default() };
            let (other, connected) = connect_as(&mut net, landing, Connect { resume, ..with_token("u") }, bob);
            assert!(!connected.resumed && connected.client != net.client(peer));
            assert_eq!((net.peers[peer].closed, &net.notices[..]), (None, &[][..]));
            net.publish(other, "chat:a", "1");
            assert_eq!(net.take_messages(peer), ["1"], "it goes on");
        }
    }
}

#[test]
fn presence_shows_what_the_newest_token_says_of_a_client() {
    for shards in shard_counts() {
        let mut net = net(shards, hooks(true, &[], &[]));
        let with_info = |info: &'static str| Identified { info: Some(Bytes::from(info)), ..ada() };
        let (watcher, _) = connect_as(&mut net, 1, with_token("w"), ada());
        net.subscribe_with(watcher, with_presence("chat:a"));
        let (peer, _) = connect_as(&mut net, 0, with_token("t"), with_info("1"));
        net.subscribe(peer, "chat:a");
        net.ask(peer, enter("chat:a", "\"here\""));
        let received = |net: &mut Net| -> Vec<(PresenceKind, Option<Bytes>, Bytes)> {
            let pushes = net.take(watcher).into_iter().filter_map(|received| match received {
                Received::Push(Push::Presence(push)) => Some(push),
                _ => None,
            });
            pushes.map(|push| (push.kind, push.entry.info.clone(), push.entry.data.clone())).collect()
        };
        let entry = |kind, info: &'static str| (kind, Some(Bytes::from(info)), Bytes::from("\"here\""));
        assert_eq!(received(&mut net), [entry(PresenceKind::Join, "1")]);
        for info in ["2", "2"] {
            net.send(peer, Command::Refresh { token: "t".into() });
            net.answer(HookAnswer::Identity(with_info(info)));
        }
        assert_eq!(received(&mut net), [entry(PresenceKind::Update, "2")], "once");
        let resume = Some(Resume { shard: ShardId(0), client: net.client(peer) });
        let subscribe = vec![SubOptions::new(channel("chat:a"))];
        connect_as(&mut net, 2, Connect { resume, subscribe, ..with_token("t") }, with_info("3"));
        assert_eq!(received(&mut net), [entry(PresenceKind::Update, "3")]);
    }
}

#[test]
fn what_a_token_granted_unasked_is_asked_about_when_the_grant_ends() {
    for shards in shard_counts() {
        let mut net = net(shards, hooks(true, &["chat:*"], &[]));
        let granted = Identified { subscribe: vec![channel("chat:a")], ..ada() };
        let (peer, _) = connect_as(&mut net, 0, with_token("t"), granted);
        let received = net.take(peer);
        assert!(
            matches!(&received[1..], [Received::Reply(Reply { id: None, body: ReplyBody::Subscribed(_) })]),
            "{received:?}"
        );
        // The rule would allow it, but the application has a handler for the channel that was never asked.
        let id = net.send(peer, Command::Refresh { token: "t2".into() });
        net.answer(HookAnswer::Identity(ada()));
        assert!(matches!(net.answer_to(peer, id), Some(ReplyBody::Refreshed { .. })));
        let received = net.take(peer);
        assert!(received.iter().any(|it| matches!(it, Received::Push(Push::Unsubscribed { .. }))), "{received:?}");
        let id = net.send(peer, subscribe("chat:a"));
        assert!(matches!(net.answer(HookAnswer::Allowed), Question::Subscribe { .. }));
        assert!(matches!(net.answer_to(peer, id), Some(ReplyBody::Subscribed(_))));
    }
}

/// Every question about a connection carries the shell's attachment: after a move that of the new connection, and none
/// during the grace.
#[test]
fn a_question_brings_what_is_attached_to_the_connection_that_asks() {
    for shards in shard_counts() {
        let mut net = net(shards, hooks(true, &["**"], &["**"]));
        let (peer, _) = connect_as(&mut net, 0, with_token("t"), ada());
        net.send(peer, subscribe("chat:a"));
        net.answer(HookAnswer::Allowed);
        net.send(peer, publish("chat:a", "1"));
        let_through(&mut net, "1");
        net.send(peer, rpc("1"));
        net.answer(HookAnswer::Result(Bytes::from_static(b"1")));
        net.send(peer, Command::Refresh { token: "t2".into() });
        net.answer(HookAnswer::Identity(ada()));
        assert_eq!(net.asked_of, [net.peers[peer].conn; 5]);
        net.asked_of.clear();
        net.cut(peer);
        let back = net.resume(peer, 1, vec![]);
        net.send(back, rpc("1"));
        net.answer(HookAnswer::Result(Bytes::from_static(b"1")));
        assert_eq!(net.asked_of, [net.peers[back].conn], "a ticket alone is not asked about");
    }
}

#[test]
fn the_application_is_told_of_the_end_of_a_session_and_not_of_each_cut() {
    for shards in shard_counts() {
        let mut net = net(shards, hooks(false, &[], &[]));
        let peers: Vec<usize> = (0..4).map(|shard| net.connect(shard)).collect();
        let clients: Vec<_> = peers.iter().map(|peer| net.client(*peer)).collect();
        net.cut(peers[0]);
        let back = net.resume(peers[0], 2, vec![]);
        net.cut(peers[1]);
        assert_eq!(net.notices, []);
        for (peer, reason) in [(peers[2], Disconnect::Kicked), (peers[3], Disconnect::Internal)] {
            let Peer { shard, conn, .. } = net.peers[peer];
            net.input(shard, Input::Close { conn, reason });
        }
        let Peer { shard, conn, .. } = net.peers[back];
        net.input(shard, Input::Closed { conn, finally: true });
        net.pass(11_000);
        let of_notice = |Notice::SessionEnded { caller, why, attachment }: &Notice| {
            (caller.client, *why, attachment.as_ref().and_then(Attachment::get::<ConnId>).copied())
        };
        let ended: Vec<_> = net.notices.iter().map(of_notice).collect();
        let expected = [
            (clients[2], Ended::Closed(Disconnect::Kicked), peers[2]),
            (clients[0], Ended::Left, back),
            (clients[1], Ended::Lost, peers[1]),
            (clients[3], Ended::Lost, peers[3]),
        ];
        for (client, why, last) in expected {
            let last = Some(net.peers[last].conn);
            assert!(ended.contains(&(Some(client), why, last)), "{why:?} of {client} at {last:?} in {ended:?}");
        }
        assert_eq!(ended.len(), 4);
    }
}

/// The session is moving to another shard when the connection that asked for it is cut.
#[test]
fn the_end_of_a_session_that_moved_without_a_connection_brings_what_its_last_one_had() {
    for is_away in [false, true] {
        let mut net = net(3, hooks(false, &[], &[]));
        let mover = net.connect(0);
        let (client, had) = (net.client(mover), net.peers[mover].conn);
        if is_away {
            net.cut(mover);
        }
        let brief = net.open(2);
        let resume = Some(Resume { shard: ShardId(0), client });
        net.send_only(brief, Command::Connect(Box::new(Connect { resume, page: the_page(), ..Connect::default() })));
        net.cut(brief);
        net.pass(11_000);
        let [Notice::SessionEnded { caller, attachment, .. }] = &net.notices[..] else { panic!("{:?}", net.notices) };
        assert_eq!(caller.client, Some(client));
        assert_eq!(attachment.as_ref().and_then(Attachment::get::<ConnId>), Some(&had), "away: {is_away}");
    }
}

#[test]
fn who_is_refused_is_closed_in_time_and_at_once_where_its_protocol_has_no_word_for_it() {
    let mut net = net(1, hooks(true, &[], &[]));
    let (native, silent) = (net.open(0), net.open(0));
    net.send(native, Command::Connect(Box::new(with_token("t"))));
    let conn = net.peers[silent].conn;
    net.input(0, Input::Command { conn, request: Request { id: None, command: Command::Connect(Box::default()) } });
    net.pass(4_000);
    net.answer(HookAnswer::Refused(Error::new(ErrorCode::Unauthorized, "no")));
    net.answer(HookAnswer::Refused(Error::new(ErrorCode::Unauthorized, "no")));
    assert_eq!((net.peers[native].closed, net.peers[silent].closed), (None, Some(Disconnect::Unauthorized)));
    net.pass(1_200);
    assert_eq!(net.peers[native].closed, Some(Disconnect::NotConnected), "in the time that it had from the beginning");
}

/// A temporary refusal invites another try, but all tries share the time of the first.
#[test]
fn one_who_is_refused_again_and_again_has_the_time_of_the_first_try() {
    let limits = Limits { connect_timeout_ms: 5_000, hook_timeout_ms: 4_000, heartbeat_ms: 0, ..Limits::default() };
    let busy = || HookAnswer::Refused(Error::new(ErrorCode::Unavailable, "not now"));
    let mut net = Net::with_hooks(1, limits, open_rules(), hooks(true, &[], &[]));
    let (patient, eager) = (net.open(0), net.open(0));
    net.send(patient, Command::Connect(Box::new(with_token("t"))));
    net.answer(busy());
    let opened_ms = net.now.mono_ms;
    let mut tries = 0;
    while net.peers[eager].closed.is_none() {
        net.send(eager, Command::Connect(Box::new(with_token("t"))));
        net.pass(1_000);
        net.answer(busy());
        tries += 1;
        assert!(tries < 10, "it stays for ever");
    }
    assert_eq!(tries, 5);
    net.pass(128);
    assert!(net.now.mono_ms - opened_ms <= 5_256);
    for peer in [patient, eager] {
        assert_eq!(net.peers[peer].closed, Some(Disconnect::Overloaded), "it may come back");
    }
}

/// The application answers after the time: an accepted client is connected, a refused one is closed.
#[test]
fn a_question_that_outlasts_the_time_to_connect_is_the_last() {
    let limits = Limits { connect_timeout_ms: 2_000, hook_timeout_ms: 4_000, ..Limits::default() };
    let mut net = Net::with_hooks(1, limits, open_rules(), hooks(true, &[], &[]));
    let (let_in, refused, left_alone) = (net.open(0), net.open(0), net.open(0));
    let asked = [let_in, refused, left_alone].map(|peer| {
        let id = net.send(peer, Command::Connect(Box::new(with_token("t"))));
        (peer, id)
    });
    net.pass(3_000);
    net.answer(HookAnswer::Identity(ada()));
    net.answer(HookAnswer::Refused(Error::new(ErrorCode::Unauthorized, "no")));
    net.pass(1_256);
    let closed = [let_in, refused, left_alone].map(|peer| net.peers[peer].closed);
    assert_eq!(closed, [None, Some(Disconnect::NotConnected), Some(Disconnect::Overloaded)]);
    assert!(matches!(net.answer_to(let_in, asked[0].1), Some(ReplyBody::Connected(_))));
    for (peer, id) in &asked[1..] {
        assert!(
            net.answer_to(*peer, *id).is_some_and(|body| matches!(body, ReplyBody::Error(_))),
            "it is received why"
        );
    }
}

#[test]
fn a_rule_can_leave_it_to_the_application() {
    for shards in shard_counts() {
        let asked = |subscribe: &[Who], publish: &[Who]| {
            let rule = Rule { subscribe: subscribe.into(), publish: publish.into(), ..open_rule("room:*") };
            Rules::new(vec![Rule { signal: vec![Who::Hook], ..rule }, open_rule("**")])
        };
        let left = || asked(&[Who::Hook], &[Who::Subscriber]);
        let mut net = Net::with_hooks(shards, Limits::default(), left(), Hooks::default());
        let peer = net.connect(0);
        for command in [
            publish("room:a", "0"),
            enter("room:a", "0"),
            Command::History {
                channel: channel("room:a"),
                query: HistoryQuery { from: HistoryFrom::Newest, limit: 1 },
            },
        ] {
            assert_eq!(error_code(&net.ask(peer, command)), ErrorCode::NotSubscribed, "only who was let in may");
        }
        assert_eq!(error_code(&net.ask(peer, signal("room:a", "x", "1", None))), ErrorCode::Denied, "nobody is asked");
        net.send(peer, subscribe("room:a"));
        net.answer(HookAnswer::Allowed);
        net.publish(peer, "room:a", "1");
        assert!(net.questions.is_empty());
        // The rule allows everybody, and later leaves the decision to the application again: a client that the
        // application allowed stays, one that it was not asked about is unsubscribed.
        net.reload(asked(&[Who::Anyone], &[Who::Hook]));
        let other = net.connect(1);
        net.subscribe(other, "room:a");
        net.take(other);
        let id = net.send(other, publish("room:a", "2"));
        let_through(&mut net, "\"two\"");
        assert!(matches!(net.answer_to(other, id), Some(ReplyBody::Published { .. })));
        net.take(other);
        net.reload(left());
        assert_eq!(net.take_messages(peer), ["1", "\"two\""]);
        let received = net.take(other);
        assert!(
            matches!(&received[..], [Received::Push(Push::Unsubscribed { error, .. })] if error.code == ErrorCode::Denied)
        );
        net.publish(peer, "room:a", "3");
        assert_eq!(net.take_messages(peer), ["3"]);
    }
}
