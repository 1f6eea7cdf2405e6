//! Questions about publications, subscriptions and calls, and the effects of their answers.

use super::*;

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
fn a_publication_changed_by_the_application_is_checked_and_keeps_its_key() {
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

/// Doubles what nobody looks at afterwards; takes no number above 9.
#[derive(Debug)]
struct Digits;

impl DataCheck for Digits {
    fn check(&self, given: Given<'_>) -> Result<Option<Bytes>, Error> {
        let number: u32 = std::str::from_utf8(given.data).unwrap().parse().unwrap();
        if number > 9 {
            return Err(Error::new(ErrorCode::InvalidData, "data: it is too large").by_option("schema"));
        }
        Ok(given.is_last.then(|| Bytes::from((number * 2).to_string())))
    }
}

#[test]
fn data_is_checked_before_a_handler_sees_it_and_so_is_its_answer() {
    let mut net = net(1, hooks(false, &[], &["chat:*"]));
    net.reload(Rules::new(vec![Rule { check: Some(std::sync::Arc::new(Digits)), ..open_rule("**") }]));
    let peer = net.connect(0);
    net.subscribe(peer, "chat:a");
    net.take(peer);
    let id = net.send(peer, publish("chat:a", "10"));
    assert_eq!(error_code(&net.answer_to(peer, id).unwrap()), ErrorCode::InvalidData);
    assert!(net.questions.is_empty(), "nobody is asked about data that is refused");
    net.send(peer, publish("chat:a", "1"));
    let_through(&mut net, "1");
    net.send(peer, publish("chat:a", "1"));
    let_through(&mut net, "3");
    assert_eq!(net.take_messages(peer), ["2", "6"], "what is done at the end is done once");
    let id = net.send(peer, publish("chat:a", "1"));
    let_through(&mut net, "11");
    let Some(ReplyBody::Error(error)) = net.answer_to(peer, id) else { panic!("a refusal") };
    assert_eq!((error.code, error.rule.as_deref()), (ErrorCode::Internal, Some("**")), "the client's data was good");
    assert_eq!(&*error.message, "the data that the application answered with is refused: data: it is too large");
}
