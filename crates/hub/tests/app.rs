//! The application's commands: publications, signals, history, lists, and commands about sessions on every shard.

mod common;
use bytes::Bytes;
use common::*;
use fanfare_hub::*;

fn publish_app(name: &str, json: &str) -> AppCommand {
    AppCommand::Publish { publish: Box::new(app_publish(name, json)), audience: None, by: None }
}

fn app_publish(name: &str, json: &str) -> Publish {
    let data = Data::Json(Bytes::from(json.to_owned()));
    Publish { channel: channel(name), data, event: None, idempotency_key: None, echo: true }
}

fn subscribers(answer: &AppAnswer) -> u64 {
    match answer {
        AppAnswer::Published { subscribers, .. } => *subscribers,
        other => panic!("not published but {other:?}"),
    }
}

fn app_error(answer: &AppAnswer) -> ErrorCode {
    match answer {
        AppAnswer::Error(error) => error.code,
        other => panic!("not refused but {other:?}"),
    }
}

fn as_user(net: &mut Net, shard: usize, user: &str) -> usize {
    net.connect_as(shard, Connect { user: Some(UserId(user.into())), ..Connect::default() })
}

fn user(name: &str) -> Whom {
    Whom::User(UserId(name.into()))
}

fn subscribe_app(whom: Whom, name: &str) -> AppCommand {
    AppCommand::Subscribe { whom, options: Box::new(SubOptions::new(channel(name))) }
}

fn kick(whom: Whom) -> AppCommand {
    AppCommand::Disconnect { whom, reason: Disconnect::Kicked, ban_ms: None }
}

fn channels(net: &mut Net, pattern: Option<&str>, after: Option<&str>, limit: u32) -> (Vec<(String, u64, u64)>, bool) {
    let pattern = pattern.map(|text| Pattern::new(text).expect("valid"));
    match net.app(0, AppCommand::Channels { pattern, after: after.map(channel), limit }) {
        AppAnswer::Channels { channels, more } => {
            let rows = channels.into_iter().map(|c| (c.channel.to_string(), c.subscribers, c.present));
            (rows.collect(), more)
        }
        other => panic!("no list but {other:?}"),
    }
}

#[test]
fn a_publication_reaches_subscribers_and_tells_how_many_they_are() {
    for shards in shard_counts() {
        for asked in 0..shards {
            let mut net = Net::new(shards);
            assert_eq!(subscribers(&net.app(asked, publish_app("chat:a", "0"))), 0);
            let peers: Vec<usize> = (0..5).map(|shard| net.connect(shard)).collect();
            for &peer in &peers {
                net.subscribe(peer, "chat:a");
            }
            assert_eq!(subscribers(&net.app(asked, publish_app("chat:a", "1"))), 5);
            for &peer in &peers {
                assert_eq!(net.take_messages(peer), ["1"]);
            }
            net.send(peers[0], unsubscribe("chat:a"));
            net.cut(peers[1]);
            net.pass(256);
            assert_eq!(subscribers(&net.app(asked, publish_app("chat:a", "2"))), 3, "who has left is not counted");
            for &peer in &peers[2..] {
                net.send(peer, unsubscribe("chat:a"));
            }
            net.pass(256);
            assert_eq!(subscribers(&net.app(asked, publish_app("chat:a", "3"))), 0);
            net.pass(5_000);
            net.subscribe(peers[0], "chat:a");
            assert_eq!(subscribers(&net.app(asked, publish_app("chat:a", "4"))), 1, "a new life of the edge");
        }
    }
}

#[test]
fn a_command_over_a_limit_is_refused_with_the_limit() {
    let limits = Limits { message_bytes_max: 10, ..Limits::default() };
    let mut net = Net::with(1, limits, Rules::new(vec![open_rule("chat:*")]));
    let long = "x".repeat(65);
    let with = |event: Option<&str>, key: Option<&str>| AppCommand::Publish {
        publish: Box::new(Publish {
            event: event.map(Into::into),
            idempotency_key: key.map(Into::into),
            ..app_publish("chat:a", "1")
        }),
        audience: None,
        by: None,
    };
    let signal = |event: &str, json: &'static str| {
        let (channel, data) = (channel("chat:a"), Bytes::from_static(json.as_bytes()));
        AppCommand::Signal(Box::new(Signal { channel, event: event.into(), data, to: None }))
    };
    let table = [
        ("data", publish_app("chat:a", "12345678901"), ErrorCode::TooLarge, "11"),
        ("event too long", with(Some(&long), None), ErrorCode::BadRequest, "64"),
        ("empty event", with(Some(""), None), ErrorCode::BadRequest, "64"),
        ("event with a line break", with(Some("a\nb"), None), ErrorCode::BadRequest, "\\n"),
        ("key too long", with(None, Some(&long)), ErrorCode::BadRequest, "65"),
        ("signal's data", signal("x", "12345678901"), ErrorCode::TooLarge, "11"),
        ("signal's event", signal("", "1"), ErrorCode::BadRequest, "64"),
        ("no rule", publish_app("news:a", "1"), ErrorCode::NoRule, "news:a"),
        ("no rule to subscribe", subscribe_app(user("ada"), "news:a"), ErrorCode::NoRule, "news:a"),
        ("no rule to read", AppCommand::Presence { channel: channel("news:a") }, ErrorCode::NoRule, "news:a"),
    ];
    for (name, command, code, word) in table {
        let AppAnswer::Error(error) = net.app(0, command) else { panic!("{name} was taken") };
        assert_eq!(error.code, code, "{name}: {error}");
        assert!(error.message.contains(word), "{name}: {error}");
    }
    assert!(matches!(net.app(0, with(Some("a'b"), Some("k"))), AppAnswer::Published { .. }));
}

#[test]
fn a_key_is_unique_within_the_api_key_that_used_it() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let mut with = |by: Option<&str>, json: &str| {
            let publish = Box::new(Publish { idempotency_key: Some("k".into()), ..app_publish("chat:a", json) });
            net.app(0, AppCommand::Publish { publish, audience: None, by: by.map(Into::into) })
        };
        let AppAnswer::Published { position: first, duplicate: false, .. } = with(Some("one"), "1") else { panic!() };
        let again = with(Some("one"), "1");
        assert!(matches!(again, AppAnswer::Published { position, duplicate: true, .. } if position == first));
        assert_eq!(app_error(&with(Some("one"), "2")), ErrorCode::KeyConflict);
        for other in [Some("two"), None] {
            assert!(matches!(with(other, "2"), AppAnswer::Published { duplicate: false, .. }), "{other:?}");
        }
    }
}

#[test]
fn an_audience_holds_live_in_history_in_recent_and_in_recovery() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let (ada, bob) = (net.connect(0), net.connect(1));
        let start = net.subscribe(ada, "chat:a").position;
        net.subscribe(bob, "chat:a");
        let only = Some(Box::new(Audience { only: vec![net.client(ada)], ..Audience::default() }));
        net.app(0, AppCommand::Publish { publish: Box::new(app_publish("chat:a", "1")), audience: only, by: None });
        net.app(0, publish_app("chat:a", "2"));
        assert_eq!((net.take_messages(ada), net.take_messages(bob)), (numbers(1..=2), numbers(2..=2)));
        let query = HistoryQuery { from: HistoryFrom::Newest, limit: 10 };
        for (peer, expected) in [(ada, numbers(1..=2)), (bob, numbers(2..=2))] {
            let ReplyBody::History(history) = net.ask(peer, Command::History { channel: channel("chat:a"), query })
            else {
                panic!()
            };
            assert_eq!(texts(&history.publications), expected);
            net.send(peer, unsubscribe("chat:a"));
            for options in
                [since("chat:a", start), SubOptions { recent: Some(9), ..SubOptions::new(channel("chat:a")) }]
            {
                assert_eq!(texts(&net.subscribe_with(peer, options).publications), expected);
                net.send(peer, unsubscribe("chat:a"));
            }
        }
        let AppAnswer::History(history) = net.app(0, AppCommand::History { channel: channel("chat:a"), query }) else {
            panic!()
        };
        assert_eq!(texts(&history.publications), numbers(1..=2), "the application sees all");
    }
}

#[test]
fn a_signal_goes_to_all_or_to_one_who_must_be_there() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let (ada, bob, eve) = (net.connect(0), net.connect(1), net.connect(2));
        net.subscribe(ada, "chat:a");
        net.subscribe(bob, "chat:a");
        let send = |net: &mut Net, to: Option<usize>| {
            let (data, to) = (Bytes::from_static(b"1"), to.map(|peer| net.client(peer)));
            net.app(1, AppCommand::Signal(Box::new(Signal { channel: channel("chat:a"), event: "x".into(), data, to })))
        };
        let signals = |net: &mut Net, peer| {
            net.take(peer).iter().filter(|received| matches!(received, Received::Push(Push::Signal(_)))).count()
        };
        assert_eq!(send(&mut net, None), AppAnswer::Done);
        assert_eq!((signals(&mut net, ada), signals(&mut net, bob), signals(&mut net, eve)), (1, 1, 0));
        assert_eq!(send(&mut net, Some(bob)), AppAnswer::Done);
        assert_eq!((signals(&mut net, ada), signals(&mut net, bob)), (0, 1));
        assert_eq!(app_error(&send(&mut net, Some(eve))), ErrorCode::NotFound);
    }
}

#[test]
fn removed_history_is_gone_and_live_subscribers_go_on() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let (ada, bob) = (net.connect(0), net.connect(1));
        let start = net.subscribe(ada, "chat:a").position;
        for number in 1..=3 {
            net.app(0, publish_app("chat:a", &number.to_string()));
        }
        assert_eq!(net.app(1, AppCommand::HistoryRemove { channel: channel("chat:a") }), AppAnswer::Done);
        net.app(0, publish_app("chat:a", "4"));
        let received = net.take(ada);
        assert_eq!(messages(&received), numbers(1..=4));
        assert!(!received.iter().any(|received| matches!(received, Received::Push(Push::Gap { .. }))), "{received:?}");
        let subscribed = net.subscribe_with(bob, since("chat:a", start));
        assert_eq!(subscribed.recovered, Some(false), "what was removed is reported as missing");
        let query = HistoryQuery { from: HistoryFrom::Newest, limit: 10 };
        let AppAnswer::History(history) = net.app(0, AppCommand::History { channel: channel("chat:a"), query }) else {
            panic!()
        };
        assert_eq!((history.publications.len(), history.top.offset), (1, 4), "epoch and top stay");
        assert_eq!(history.top.epoch, start.epoch);
    }
}

#[test]
fn presence_and_figures_are_told_to_the_application() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let (ada, bob, eve) = (net.connect(0), net.connect(1), net.connect(2));
        for peer in [ada, bob] {
            net.subscribe(peer, "chat:a");
            net.send(peer, enter("chat:a", "1"));
        }
        net.subscribe(ada, "chat:b");
        net.app(0, publish_app("chat:b", "1"));
        net.cut(bob);
        let AppAnswer::Presence(snapshot) = net.app(0, AppCommand::Presence { channel: channel("chat:a") }) else {
            panic!()
        };
        let present: Vec<_> = snapshot.entries.expect("few").iter().map(|entry| entry.client).collect();
        assert_eq!(present, [net.client(ada), net.client(bob)], "within its grace bob is there");
        let AppAnswer::Info(info) = net.app(0, AppCommand::Info) else { panic!() };
        assert_eq!((info.sessions, info.connected, info.subscriptions, info.channels), (3, 2, 2, 2));
        assert!(info.history_bytes > 0);
        net.send(eve, Command::Pong);
    }
}

#[test]
fn channels_are_listed_in_order_by_pages_and_patterns() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let ada = net.connect(0);
        let names: Vec<String> = (0..30).map(|i| format!("chat:{i:02}")).collect();
        for name in names.iter().chain(&["chat".to_owned(), "chatter:00".to_owned(), "news:07".to_owned()]) {
            net.subscribe(ada, name);
        }
        net.send(ada, enter("chat:03", "1"));
        let (all, more) = channels(&mut net, None, None, 1_000);
        assert_eq!((all.len(), more), (33, false));
        assert!(all.is_sorted(), "{all:?}");
        assert!(all.contains(&("chat:03".to_owned(), 1, 1)));
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            assert!(seen.len() <= names.len(), "the pages do not end: {seen:?}");
            let (page, more) = channels(&mut net, Some("chat:*"), after.as_deref(), 7);
            assert!(page.len() == 7 || !more, "{page:?}");
            seen.extend(page.into_iter().map(|(name, ..)| name));
            after = seen.last().cloned();
            if !more {
                break;
            }
        }
        assert_eq!(seen, names);
        let rows: &[(&str, Option<&str>, &[&str])] = &[
            ("*:07", None, &["chat:07", "news:07"]),
            ("chat", None, &["chat"]),
            ("chat:**", Some("chat:28"), &["chat:29"]),
            ("chat:*", Some("news:00"), &[]),
            ("news:*", Some("chat:28"), &["news:07"]),
            ("chat:29", None, &["chat:29"]),
        ];
        for (pattern, after, expected) in rows {
            let (page, more) = channels(&mut net, Some(pattern), *after, 10);
            let found: Vec<_> = page.iter().map(|(name, ..)| &**name).collect();
            assert_eq!((&found[..], more), (*expected, false), "{pattern} after {after:?}");
        }
    }
}

#[test]
fn a_list_is_cut_at_its_bound() {
    let mut net = Net::new(1);
    for i in 0..=CHANNELS_MAX {
        net.app(0, publish_app(&format!("chat:{i}"), "1"));
    }
    let (page, more) = channels(&mut net, None, None, u32::MAX);
    assert_eq!((page.len(), more), (CHANNELS_MAX as usize, true));
    assert_eq!(channels(&mut net, None, None, 0).0.len(), 1);
}

#[test]
fn sessions_are_subscribed_by_user_and_told_so() {
    for shards in shard_counts() {
        let mut closed = open_rule("**");
        closed.subscribe = vec![Who::Nobody];
        let mut net = Net::with(shards, Limits::default(), Rules::new(vec![closed.clone()]));
        let ada: Vec<usize> = (0..3).map(|shard| as_user(&mut net, shard, "ada")).collect();
        let bob = as_user(&mut net, 0, "bob");
        net.app(0, publish_app("chat:a", "0"));
        let options = Box::new(SubOptions { recent: Some(5), ..SubOptions::new(channel("chat:a")) });
        let command = AppCommand::Subscribe { whom: user("ada"), options };
        assert_eq!(net.app(1, command.clone()), AppAnswer::Concerned(3));
        assert_eq!(subscribers(&net.app(2, publish_app("chat:a", "1"))), 3);
        for &peer in &ada {
            let received = net.take(peer);
            let first = received.iter().find_map(|received| match received {
                Received::Push(Push::Subscribed(subscribed)) => Some(subscribed),
                _ => None,
            });
            assert_eq!(first.expect("received").publications.len(), 1);
            assert_eq!(messages(&received), ["1"]);
        }
        assert!(net.take_messages(bob).is_empty());
        assert_eq!(net.app(0, command), AppAnswer::Concerned(3), "who is subscribed already counts too");
        net.reload(Rules::new(vec![closed.clone()]));
        net.app(0, publish_app("chat:a", "2"));
        assert_eq!(net.take_messages(ada[0]), ["2"], "no rule is asked again");

        let back = net.resume(ada[0], 1, vec![SubOptions::new(channel("chat:a"))]);
        net.app(0, publish_app("chat:a", "3"));
        assert_eq!(net.take_messages(back), ["3"], "the subscription lasts over cuts");
        let whom = Whom::Client(net.client(back));
        let command = AppCommand::Unsubscribe { whom, channel: channel("chat:a") };
        assert_eq!(net.app(2, command.clone()), AppAnswer::Concerned(1));
        assert!(matches!(net.take(back).last(), Some(Received::Push(Push::Unsubscribed { .. }))));
        assert_eq!(net.app(2, command), AppAnswer::Concerned(0));
        net.app(0, publish_app("chat:a", "4"));
        assert_eq!((net.take_messages(back), net.take_messages(ada[1])), (vec![], numbers(2..=4)));
        let again = Command::Subscribe { subs: vec![SubOptions::new(channel("chat:a"))], many: false };
        assert_eq!(error_code(&net.ask(back, again.clone())), ErrorCode::Denied, "the leave went with it");
        net.send(ada[1], unsubscribe("chat:a"));
        assert_eq!(error_code(&net.ask(ada[1], again)), ErrorCode::Denied, "and with one's own leaving");
    }
}

fn end_app(whom: Whom, name: &str) -> AppCommand {
    AppCommand::Unsubscribe { whom, channel: channel(name) }
}

fn closed_rules() -> Rules {
    Rules::new(vec![Rule { subscribe: vec![Who::Nobody], ..open_rule("**") }])
}

/// The application's commands about one session and channel take effect in order, whatever is undecided there.
#[test]
fn the_application_ends_at_once_and_subscribes_after_undecided_commands() {
    let mut net = Net::with_late_store(1, Limits::default());
    let ada = as_user(&mut net, 0, "ada");
    let subscribe = Command::Subscribe { subs: vec![SubOptions::new(channel("chat:a"))], many: false };
    let asked = net.send(ada, subscribe.clone());
    let ended = net.app_only(0, end_app(user("ada"), "chat:a"));
    assert_eq!(net.app_answer(ended), Some(AppAnswer::Concerned(1)));
    let begun = net.app_only(0, subscribe_app(user("ada"), "chat:a"));
    assert_eq!(net.app_answer(begun), None);
    net.answer_all();
    assert_eq!(error_code(&net.answer_to(ada, asked).unwrap()), ErrorCode::Denied);
    assert_eq!(net.app_answer(begun), Some(AppAnswer::Concerned(1)));
    net.reload(closed_rules());
    net.app_only(0, publish_app("chat:a", "1"));
    net.answer_all();
    assert_eq!(net.take_messages(ada), ["1"], "subscribed, and by the application's leave");
    net.reload(open_rules());
    // The other way round.
    let asked = net.send(ada, Command::Subscribe { subs: vec![SubOptions::new(channel("chat:b"))], many: false });
    let begun = net.app_only(0, subscribe_app(user("ada"), "chat:b"));
    let ended = net.app_only(0, end_app(user("ada"), "chat:b"));
    assert_eq!(net.app_answer(begun), Some(AppAnswer::Concerned(0)), "it is not made");
    assert_eq!(net.app_answer(ended), Some(AppAnswer::Concerned(1)));
    net.app_only(0, publish_app("chat:b", "2"));
    net.answer_all();
    assert_eq!(error_code(&net.answer_to(ada, asked).unwrap()), ErrorCode::Denied);
    assert_eq!(net.take_messages(ada), Vec::<String>::new());
    // In a list, whose answers are sent together: the subscription is answered, and then ended.
    let list = ["chat:c", "chat:d"].map(|name| SubOptions::new(channel(name)));
    net.send(ada, Command::Subscribe { subs: list.into(), many: true });
    let (shard, token, answer) = net.late.borrow_mut().pop_front().unwrap(); // the first of them is answered, without a push
    net.input(shard, Input::Answer { token, answer });
    net.app_only(0, end_app(user("ada"), "chat:c"));
    net.answer_all();
    net.app_only(0, publish_app("chat:c", "3"));
    net.app_only(0, publish_app("chat:d", "4"));
    net.answer_all();
    let received = net.take(ada);
    assert!(
        matches!(&received[1], Received::Push(Push::Unsubscribed { channel, .. }) if **channel == *"chat:c"),
        "{received:?}"
    );
    assert_eq!(messages(&received), ["4"]);
}

/// A subscription that was not made, or was ended, is not made again when the client comes back.
#[test]
fn a_cut_leaves_no_leave_that_the_application_did_not_give() {
    let mut net = Net::with_late_store(1, Limits::default());
    let ada = as_user(&mut net, 0, "ada");
    let own = Command::Subscribe { subs: vec![SubOptions::new(channel("chat:c"))], many: false };
    net.send(ada, own);
    let in_flight = net.app_only(0, subscribe_app(user("ada"), "chat:b"));
    let waiting = net.app_only(0, subscribe_app(user("ada"), "chat:c"));
    net.cut(ada);
    net.answer_all();
    for token in [in_flight, waiting] {
        assert_eq!(net.app_answer(token), Some(AppAnswer::Concerned(0)), "a session that goes is answered for");
    }
    net.reload(closed_rules());
    let again: Vec<SubOptions> = ["chat:b", "chat:c"].map(|name| SubOptions::new(channel(name))).into();
    let back = net.resume(ada, 0, again);
    net.answer_all();
    let received = net.take(back);
    let denied = |received: &Received| matches!(received, Received::Reply(Reply { body: ReplyBody::Error(error), .. }) if error.code == ErrorCode::Denied);
    assert_eq!(received.iter().filter(|received| denied(received)).count(), 2, "{received:?}");
}

#[test]
fn an_earlier_subscription_outlives_its_rule_once_the_application_has_made_it() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let ada = as_user(&mut net, 1, "ada");
        net.subscribe(ada, "chat:a");
        assert_eq!(net.app(0, subscribe_app(user("ada"), "chat:a")), AppAnswer::Concerned(1));
        net.take(ada);
        net.reload(closed_rules());
        net.app(0, publish_app("chat:a", "1"));
        assert_eq!(net.take_messages(ada), ["1"]);
        let back = net.resume(ada, 2, vec![SubOptions::new(channel("chat:a"))]);
        net.app(0, publish_app("chat:a", "2"));
        assert_eq!(net.take_messages(back), ["2"]);
    }
}

#[test]
fn a_disconnected_user_is_gone_at_once_wherever_its_sessions_are() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let ada: Vec<usize> = (0..3).map(|shard| as_user(&mut net, shard, "ada")).collect();
        let bob = as_user(&mut net, 0, "bob");
        for &peer in ada.iter().chain(&[bob]) {
            let options = SubOptions { presence: true, ..SubOptions::new(channel("chat:a")) };
            net.subscribe_with(peer, options);
            net.send(peer, enter("chat:a", "1"));
        }
        net.cut(ada[2]); // away, within its grace
        net.take(bob);
        assert_eq!(net.app(1, kick(user("ada"))), AppAnswer::Concerned(3));
        for peer in [ada[0], ada[1]] {
            assert_eq!(net.peers[peer].closed, Some(Disconnect::Kicked));
        }
        assert_eq!(net.peers[bob].closed, None);
        let leaves = |received: &Received| matches!(received, Received::Push(Push::Presence(p)) if p.kind == PresenceKind::Leave);
        assert_eq!(net.take(bob).iter().filter(|received| leaves(received)).count(), 3);
        assert_eq!(net.app(0, kick(user("ada"))), AppAnswer::Concerned(0));
        let back = net.resume(ada[0], 0, vec![]);
        assert_ne!(net.client(back), net.client(ada[0]), "the session ended");
    }
}

#[test]
fn a_reason_that_lets_come_back_leaves_the_session() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let ada = as_user(&mut net, 1, "ada");
        let away = as_user(&mut net, 2, "ada");
        net.cut(away);
        let reason = Disconnect::Overloaded;
        assert_eq!(
            net.app(0, AppCommand::Disconnect { whom: user("ada"), reason, ban_ms: None }),
            AppAnswer::Concerned(1)
        );
        for peer in [ada, away] {
            let back = net.resume(peer, 0, vec![]);
            assert_eq!(net.client(back), net.client(peer));
        }
    }
}

#[test]
fn a_session_that_changes_shards_meanwhile_is_not_missed() {
    for whom_is_user in [false, true] {
        let mut net = Net::new(3);
        let ada = as_user(&mut net, 2, "ada");
        let whom = if whom_is_user { user("ada") } else { Whom::Client(net.client(ada)) };
        let back = net.open(1);
        let token = net.app_only(0, kick(whom));
        net.carry(0); // its new shard gets the command before the session arrives
        let resume = Some(Resume { shard: ShardId(2), client: net.client(ada) });
        let connect = Connect { user: Some(UserId("ada".into())), resume, page: the_page(), ..Connect::default() };
        net.send_only(back, Command::Connect(Box::new(connect)));
        net.carry(2); // its old shard hands the session over, and gets the command afterwards
        net.settle();
        assert_eq!(net.app_answer(token), Some(AppAnswer::Concerned(1)));
        assert_eq!(net.peers[back].closed, Some(Disconnect::Kicked));
    }
}

#[test]
fn a_user_with_very_many_sessions_is_disconnected_in_slices() {
    let limits = Limits { quotas: Quotas::NONE, ..Limits::default() };
    let mut net = Net::with(1, limits, open_rules());
    let peers: Vec<usize> = (0..600).map(|_| as_user(&mut net, 0, "ada")).collect();
    net.paused = true;
    let token = net.app_only(0, kick(user("ada")));
    net.settle();
    let closed = |net: &Net| peers.iter().filter(|&&peer| net.peers[peer].closed.is_some()).count();
    assert_eq!((closed(&net), net.app_answer(token)), (256, None), "others have their turn in between");
    net.paused = false;
    net.go_on_once();
    net.settle();
    assert_eq!((closed(&net), net.app_answer(token)), (600, Some(AppAnswer::Concerned(600))));
}

#[test]
fn commands_beyond_the_bound_are_refused_and_say_when_to_come_back() {
    let limits = Limits { app_outstanding_max: 3, ..Limits::default() };
    let mut net = Net::with_late_store(1, limits);
    let tokens: Vec<AppToken> = (0..4).map(|_| net.app_only(0, publish_app("chat:a", "1"))).collect();
    let Some(AppAnswer::Error(error)) = net.app_answer(tokens[3]) else { panic!("taken beyond the bound") };
    assert_eq!((error.code, error.retry_after_ms.is_some()), (ErrorCode::Unavailable, true));
    assert!(error.message.contains('3'), "{error}");
    assert_eq!(net.app_answer(tokens[0]), None);
    net.answer_all();
    for token in &tokens[..3] {
        assert!(matches!(net.app_answer(*token), Some(AppAnswer::Published { .. })));
    }
    let token = net.app_only(0, publish_app("chat:a", "1"));
    net.answer_all();
    assert!(matches!(net.app_answer(token), Some(AppAnswer::Published { .. })), "there is room again");
}

/// A subscription that begins anew tells the number of its shard, in the place of a message of its own.
#[test]
fn who_has_left_is_not_counted_where_another_begins_anew_at_once() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let [peer, other] = [net.connect(0), net.connect(0)];
        let whom = Whom::Client(net.client(peer));
        net.app(0, AppCommand::Subscribe { whom, options: Box::new(SubOptions::new(channel("chat:a"))) });
        net.subscribe(other, "chat:a");
        assert_eq!(subscribers(&net.app(0, publish_app("chat:a", "1"))), 2);
        net.send(other, unsubscribe("chat:a"));
        net.subscribe(peer, "chat:a"); // it was subscribed by the application
        net.pass(1_000);
        assert_eq!(subscribers(&net.app(0, publish_app("chat:a", "2"))), 1);
    }
}

/// The last subscription of a session takes the place of one that has ended: it has its turn too.
#[test]
fn a_reload_ends_every_subscription_of_a_session_that_it_closes() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let ada = net.connect(0);
        let closed = ["chat:a", "chat:b", "chat:c", "chat:d"];
        for name in ["chat:a", "news:a", "chat:b", "chat:c", "chat:d"] {
            net.subscribe(ada, name);
        }
        net.take(ada);
        net.reload(Rules::new(vec![open_rule("news:*")]));
        let ended = net.take(ada).into_iter().filter_map(|received| match received {
            Received::Push(Push::Unsubscribed { channel, .. }) => Some(channel.to_string()),
            _ => None,
        });
        let mut ended: Vec<String> = ended.collect();
        ended.sort_unstable();
        assert_eq!(ended, closed, "with {shards} shards");
        net.publish(ada, "news:a", "1");
        assert_eq!(net.take_messages(ada), ["1"]);
    }
}
