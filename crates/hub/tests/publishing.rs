//! Publishing, subscribing and recovering: the publications that a subscriber gets, their order, and the notice of a
//! loss.

mod common;
use common::*;
use fanfare_hub::*;

#[test]
fn the_answer_precedes_ones_own_copy_and_everybody_gets_it() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let (ada, bob) = (net.connect(0), net.connect(1));
        net.subscribe(ada, "chat:a");
        net.subscribe(bob, "chat:a");
        net.take(ada);
        net.send(ada, publish("chat:a", "1"));
        let received = net.take(ada);
        assert!(
            matches!(received[0], Received::Reply(Reply { body: ReplyBody::Published { .. }, .. })),
            "{received:?}"
        );
        assert_eq!(messages(&received), ["1"]);
        assert_eq!(net.take_messages(bob), ["1"]);
    }
}

#[test]
fn nothing_is_delivered_after_unsubscribing_and_subscribing_again_begins_anew() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let (ada, bob) = (net.connect(0), net.connect(1));
        let first = net.subscribe(bob, "chat:a").position;
        net.publish(ada, "chat:a", "1");
        assert!(matches!(net.ask(bob, unsubscribe("chat:a")), ReplyBody::Unsubscribed { .. }));
        net.take(bob);
        net.publish(ada, "chat:a", "2");
        assert_eq!(net.take_messages(bob), [""; 0]);
        let again = net.subscribe(bob, "chat:a").position;
        assert_eq!((again.epoch, again.offset), (first.epoch, 2));
        net.publish(ada, "chat:a", "3");
        assert_eq!(net.take_messages(bob), ["3"]);
        assert_eq!(error_code(&net.ask(ada, unsubscribe("chat:a"))), ErrorCode::NotSubscribed);
    }
}

#[test]
fn a_client_that_comes_back_gets_exactly_what_it_missed() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let (ada, bob) = (net.connect(0), net.connect(1));
        let at = net.subscribe(bob, "chat:a").position;
        net.publish(ada, "chat:a", "1");
        net.cut(bob);
        net.publish_all(ada, "chat:a", 2..=4);
        let bob = net.connect(2);
        let subscribed = net.subscribe_with(bob, since("chat:a", Position { offset: 1, ..at }));
        assert_eq!((subscribed.recovered, texts(&subscribed.publications)), (Some(true), numbers(2..=4)));
        assert_eq!((subscribed.position.offset, subscribed.more), (4, false));
        net.publish(ada, "chat:a", "5");
        assert_eq!(net.take_messages(bob), ["5"]);
    }
}

#[test]
fn a_loss_is_never_called_recovered() {
    for shards in shard_counts() {
        let mut rule = open_rule("**");
        rule.history.count = 3;
        let mut net = Net::with(shards, Limits::default(), Rules::new(vec![rule]));
        let ada = net.connect(0);
        net.publish_all(ada, "chat:a", 1..=10);
        let top = net.publish(ada, "chat:a", "11");
        let ask = |net: &mut Net, at| {
            let peer = net.connect(1);
            let subscribed = net.subscribe_with(peer, since("chat:a", at));
            (subscribed.recovered, subscribed.position, texts(&subscribed.publications))
        };
        let at = |offset| Position { offset, ..top };
        assert_eq!(ask(&mut net, at(8)), (Some(true), top, numbers(9..=11)));
        assert_eq!(ask(&mut net, at(7)), (Some(false), top, vec![]), "the eighth is gone");
        assert_eq!(ask(&mut net, at(11)), (Some(true), top, vec![]));
        assert_eq!(ask(&mut net, at(12)), (Some(false), top, vec![]), "a place ahead of the top means loss");
        let other = Position { epoch: Epoch(1), offset: 11 };
        assert_eq!(ask(&mut net, other), (Some(false), top, vec![]), "equal offsets of another epoch mean nothing");
    }
}

#[test]
fn recent_applies_where_since_is_absent_or_cannot_be_honoured() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let ada = net.connect(0);
        net.publish_all(ada, "chat:a", 1..=4);
        let top = net.publish(ada, "chat:a", "5");
        let mut ask = |since| {
            let peer = net.connect(1);
            let options = SubOptions { since, recent: Some(2), ..SubOptions::new(channel("chat:a")) };
            let subscribed = net.subscribe_with(peer, options);
            assert_eq!(subscribed.position, top);
            (subscribed.recovered, texts(&subscribed.publications))
        };
        assert_eq!(ask(None), (None, numbers(4..=5)));
        assert_eq!(ask(Some(Position { epoch: Epoch(1), offset: 0 })), (Some(false), numbers(4..=5)));
        assert_eq!(ask(Some(Position { offset: 2, ..top })), (Some(true), numbers(3..=5)));
        assert_eq!(ask(Some(top)), (Some(true), vec![]));
    }
}

#[test]
fn a_long_recovery_comes_in_pages_and_then_live() {
    for shards in shard_counts() {
        let limits = Limits { page_bytes_max: 1_000, ..Limits::default() };
        let mut net = Net::with(shards, limits, open_rules());
        let ada = net.connect(0);
        let epoch = net.publish(ada, "chat:a", "1").epoch;
        net.publish_all(ada, "chat:a", 2..=40);
        let bob = net.connect(1);
        let subscribed = net.subscribe_with(bob, since("chat:a", Position { epoch, offset: 0 }));
        assert!(subscribed.more, "{} publications fitted", subscribed.publications.len());
        let mut got = texts(&subscribed.publications);
        net.publish(ada, "chat:a", "41");
        let received = net.take(bob);
        assert_eq!(gaps(&received), []);
        got.extend(messages(&received));
        assert_eq!(got, numbers(1..=41));
    }
}

#[test]
fn a_key_publishes_once_and_tells_another_payload_from_a_repetition() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let (ada, bob) = (net.connect(0), net.connect(1));
        net.subscribe(bob, "chat:a");
        let keyed = |json: &str| match publish("chat:a", json) {
            Command::Publish(publish) => {
                Command::Publish(Box::new(Publish { idempotency_key: Some("k".into()), ..*publish }))
            }
            other => other,
        };
        let ReplyBody::Published { position, duplicate: false } = net.ask(ada, keyed("1")) else { panic!() };
        assert_eq!(net.ask(ada, keyed("1")), ReplyBody::Published { position, duplicate: true });
        assert_eq!(error_code(&net.ask(ada, keyed("2"))), ErrorCode::KeyConflict);
        let Command::Publish(named) = keyed("1") else { unreachable!() };
        let named = Publish { event: Some("edited".into()), ..*named };
        let bytes = Publish { data: Data::Binary("1".into()), event: None, ..named.clone() };
        for other in [named, bytes] {
            assert_eq!(error_code(&net.ask(ada, Command::Publish(Box::new(other)))), ErrorCode::KeyConflict);
        }
        assert!(
            matches!(net.ask(bob, keyed("1")), ReplyBody::Published { duplicate: false, .. }),
            "keys are one's own"
        );
        assert_eq!(net.take_messages(bob), ["1", "1"]);
    }
}

#[test]
fn ones_own_copy_that_was_not_wanted_is_skipped_live_and_recovered() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let (ada, bob) = (net.connect(0), net.connect(1));
        let at = net.subscribe(ada, "chat:a").position;
        net.subscribe(bob, "chat:a");
        let Command::Publish(silent) = publish("chat:a", "1") else { panic!() };
        net.ask(ada, Command::Publish(Box::new(Publish { echo: false, ..*silent })));
        assert_eq!(net.take_messages(ada), [""; 0]);
        assert_eq!(net.take_messages(bob), ["1"]);
        net.cut(ada);
        let ada = net.resume(ada, 2, vec![since("chat:a", at)]);
        let received = net.take(ada);
        let Some(Received::Reply(Reply { body: ReplyBody::Subscribed(subscribed), .. })) = received.last() else {
            panic!("{received:?}")
        };
        assert_eq!((subscribed.recovered, texts(&subscribed.publications)), (Some(true), numbers(1..=1)));
    }
}

#[test]
fn history_is_read_forwards_and_backwards() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let ada = net.connect(0);
        net.publish_all(ada, "chat:a", 1..=5);
        let top = net.publish(ada, "chat:a", "6");
        let mut ask = |from, limit| {
            let command = Command::History { channel: channel("chat:a"), query: HistoryQuery { from, limit } };
            match net.ask(ada, command) {
                ReplyBody::History(history) => (texts(&history.publications), history.more, history.top),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(ask(HistoryFrom::Newest, 2), (numbers(5..=6), true, top));
        assert_eq!(ask(HistoryFrom::Since(Position { offset: 4, ..top }), 9), (numbers(5..=6), false, top));
        assert_eq!(ask(HistoryFrom::Before(Position { offset: 3, ..top }), 9), (numbers(1..=2), false, top));
    }
}

/// A publication of the application only for these clients.
fn publish_only(net: &mut Net, json: &'static str, only: usize) {
    let only = vec![net.client(only)];
    let data = Data::Json(json.as_bytes().into());
    let publish =
        Box::new(Publish { channel: channel("chat:a"), data, event: None, idempotency_key: None, echo: true });
    let audience = Some(Box::new(Audience { only, ..Audience::default() }));
    net.app(0, AppCommand::Publish { publish, audience, by: None });
}

fn history(net: &mut Net, peer: usize, from: HistoryFrom, limit: u32) -> History {
    let query = HistoryQuery { from, limit };
    match net.ask(peer, Command::History { channel: channel("chat:a"), query }) {
        ReplyBody::History(history) => *history,
        other => panic!("{other:?}"),
    }
}

/// Publications for other clients do not count: each page is as full as the limit allows, and the next one begins after
/// it.
#[test]
fn history_with_an_audience_is_paged_over_all_that_is_for_its_reader() {
    for (shards, scan_slice) in shard_counts().into_iter().flat_map(|shards| [(shards, 1024), (shards, 3)]) {
        let mut rule = open_rule("**");
        rule.history.count = 1_000;
        let mut net = Net::with(shards, Limits { scan_slice, ..Limits::default() }, Rules::new(vec![rule]));
        let (ada, bob) = (net.connect(0), net.connect(1));
        let top = net.publish(ada, "chat:a", "0");
        for _ in 0..3 {
            publish_only(&mut net, "\"ada's\"", ada);
            for _ in 0..40 {
                publish_only(&mut net, "\"bob's\"", bob);
            }
        }
        let newest = history(&mut net, ada, HistoryFrom::Newest, 2);
        let offsets = |history: &History| history.publications.iter().map(|p| p.offset).collect::<Vec<_>>();
        assert_eq!((offsets(&newest), newest.more), (vec![43, 84], true));
        let before = HistoryFrom::Before(Position { offset: 43, ..top });
        let older = history(&mut net, ada, before, 2);
        assert_eq!((offsets(&older), older.more), (vec![1, 2], false));
        let first = history(&mut net, ada, HistoryFrom::Since(Position { offset: 0, ..top }), 3);
        assert_eq!((offsets(&first), first.more), (vec![1, 2, 43], true));
        let rest = history(&mut net, ada, HistoryFrom::Since(Position { offset: 43, ..top }), 3);
        assert_eq!((offsets(&rest), rest.more), (vec![84], false), "what is for bob is no reason to ask again");
        let end = history(&mut net, ada, HistoryFrom::Since(Position { offset: 84, ..top }), 3);
        assert_eq!((offsets(&end), end.more, end.reset), (vec![], false, false));
        // The same for `recent` and for a client that comes back.
        let recent = SubOptions { recent: Some(2), ..SubOptions::new(channel("chat:a")) };
        let subscribed = net.subscribe_with(ada, recent);
        let offsets: Vec<u64> = subscribed.publications.iter().map(|p| p.offset).collect();
        assert_eq!((offsets, subscribed.position.offset, subscribed.more), (vec![43, 84], 124, false));
        net.send(ada, unsubscribe("chat:a"));
        net.take(ada);
        let subscribed = net.subscribe_with(ada, since("chat:a", Position { offset: 1, ..top }));
        net.settle();
        let mut got = texts(&subscribed.publications);
        got.extend(net.take_messages(ada));
        assert_eq!((subscribed.recovered, got.len()), (Some(true), 3), "{got:?}");
        net.publish(bob, "chat:a", "1");
        assert_eq!(net.take_messages(ada), ["1"], "it is live at the top");
    }
}

/// A long history with few publications for its reader is read in steps, and other clients have their turn in between.
#[test]
fn a_history_of_which_little_is_for_its_reader_keeps_nobody_waiting() {
    let mut rule = open_rule("**");
    rule.history.count = 1_000;
    let mut net = Net::with(1, Limits { scan_slice: 10, ..Limits::default() }, Rules::new(vec![rule]));
    let (ada, bob) = (net.connect(0), net.connect(0));
    publish_only(&mut net, "\"ada's\"", ada);
    for _ in 0..200 {
        publish_only(&mut net, "\"bob's\"", bob);
    }
    net.paused = true;
    let query = HistoryQuery { from: HistoryFrom::Newest, limit: 1 };
    let asked = net.send_only(ada, Command::History { channel: channel("chat:a"), query });
    net.publish(bob, "chat:a", "1");
    assert_eq!(net.answer_to(ada, asked), None, "one step has not found it");
    net.paused = false;
    net.settle();
    let Some(ReplyBody::History(history)) = net.answer_to(ada, asked) else { panic!("no history") };
    assert_eq!((texts(&history.publications), history.more), (vec!["\"ada's\"".to_owned()], false));
}

#[test]
fn history_says_where_a_place_is_none_of_the_channel() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let ada = net.connect(0);
        let top = net.publish(ada, "chat:a", "1");
        let places = [Position { epoch: Epoch(1), ..top }, Position { offset: 2, ..top }];
        for from in places.into_iter().flat_map(|at| [HistoryFrom::Since(at), HistoryFrom::Before(at)]) {
            let history = history(&mut net, ada, from, 9);
            assert_eq!((history.reset, history.top, history.publications), (true, top, vec![]), "{from:?}");
        }
        for from in [HistoryFrom::Newest, HistoryFrom::Since(top), HistoryFrom::Before(top)] {
            assert!(!history(&mut net, ada, from, 9).reset, "{from:?}");
        }
    }
}

/// A client that pages on from a place is told where publications after it are gone: by a bound of the rule, because
/// the rule keeps none, or because the application removed them. Each page tells it, and only of what is gone.
#[test]
fn history_says_where_publications_after_a_place_are_gone() {
    let kept = Retain { count: 4, ..open_rule("**").history };
    let mut probe = Net::new(1);
    let ada = probe.connect(0);
    probe.publish(ada, "chat:a", "1");
    let cost = history(&mut probe, ada, HistoryFrom::Newest, 1).publications[0].cost();
    let rows = [
        ("count", kept),
        ("bytes", Retain { count: 100, bytes: 4 * cost, ..kept }),
        ("none", Retain { count: 0, ..kept }),
    ];
    for (shards, (name, retain)) in shard_counts().into_iter().flat_map(|shards| rows.map(|row| (shards, row))) {
        let rules = Rules::new(vec![Rule { history: retain, ..open_rule("**") }]);
        let mut net = Net::with(shards, Limits::default(), rules);
        let (ada, bob) = (net.connect(0), net.connect(shards - 1));
        let top = net.publish(ada, "chat:a", "1");
        let since = |offset| HistoryFrom::Since(Position { offset, ..top });
        assert_eq!(history(&mut net, bob, since(0), 9).gap, name == "none", "{name}: the first is there");
        for n in 2..=9 {
            net.publish(ada, "chat:a", &n.to_string());
        }
        let offsets = |page: &History| page.publications.iter().map(|p| p.offset).collect::<Vec<_>>();
        let oldest = if name == "none" { 10 } else { 6 };
        for place in 0..=9 {
            let page = history(&mut net, bob, since(place), 2);
            let expected: Vec<u64> = (oldest.max(place + 1)..=9).take(2).collect();
            assert_eq!((offsets(&page), page.gap), (expected, place + 1 < oldest), "{name}: since {place}");
            assert!(!page.reset, "{name}: since {place}");
        }
        let other = HistoryFrom::Since(Position { epoch: Epoch(1), offset: 0 });
        for from in [HistoryFrom::Newest, HistoryFrom::Before(Position { offset: 7, ..top }), other, since(10)] {
            assert!(!history(&mut net, bob, from, 2).gap, "{name}: {from:?} goes on from no place of the channel");
        }
        net.app(0, AppCommand::HistoryRemove { channel: channel("chat:a") });
        let page = history(&mut net, bob, since(8), 2);
        assert_eq!((offsets(&page), page.gap), (vec![], true), "{name}: removed");
        assert!(!history(&mut net, bob, since(9), 2).gap, "{name}: at the newest position nothing is missing");
    }
}

/// A second page is asked for when publications of the first have grown too old: what went meanwhile is told.
#[test]
fn history_says_where_publications_have_grown_too_old_between_two_pages() {
    for shards in shard_counts() {
        let mut rule = open_rule("**");
        rule.history.ttl_ms = 6_000;
        let mut net = Net::with(shards, Limits::default(), Rules::new(vec![rule]));
        let (ada, bob) = (net.connect(0), net.connect(shards - 1));
        let top = net.publish(ada, "chat:a", "1");
        net.publish_all(ada, "chat:a", 2..=4);
        net.pass(4_000);
        net.publish_all(ada, "chat:a", 5..=6);
        let since = |offset| HistoryFrom::Since(Position { offset, ..top });
        let first = history(&mut net, bob, since(0), 2);
        assert_eq!((texts(&first.publications), first.more, first.gap), (vec!["1".into(), "2".into()], true, false));
        net.pass(3_000);
        let second = history(&mut net, bob, since(2), 2);
        assert_eq!((texts(&second.publications), second.more, second.gap), (vec!["5".into(), "6".into()], false, true));
        net.pass(6_000);
        let third = history(&mut net, bob, since(5), 2);
        assert_eq!((texts(&third.publications), third.gap), (vec![], true));
    }
}

/// A read that takes several steps has found something, and the history is removed before the next step. What it has
/// found is gone too: the page begins after the hole, and says that there is one. With a limit of 1 the page is full
/// already, and only whether there is more is still open.
#[test]
fn a_hole_that_arises_during_a_read_is_before_its_page() {
    for limit in [9, 1] {
        let mut rule = open_rule("**");
        rule.history.count = 1_000;
        let mut net = Net::with(1, Limits { scan_slice: 10, ..Limits::default() }, Rules::new(vec![rule]));
        let (ada, bob) = (net.connect(0), net.connect(0));
        let top = net.publish(bob, "chat:a", "1");
        for _ in 0..200 {
            publish_only(&mut net, "\"bob's\"", bob);
        }
        net.paused = true;
        let query = HistoryQuery { from: HistoryFrom::Since(Position { offset: 0, ..top }), limit };
        let asked = net.send_only(ada, Command::History { channel: channel("chat:a"), query });
        net.app_only(0, AppCommand::HistoryRemove { channel: channel("chat:a") });
        net.publish(bob, "chat:a", "2");
        assert_eq!(net.answer_to(ada, asked), None, "it has not seen all");
        net.paused = false;
        net.settle();
        let Some(ReplyBody::History(page)) = net.answer_to(ada, asked) else { panic!("no history") };
        assert_eq!(texts(&page.publications), ["2"], "limit {limit}");
        assert_eq!((page.more, page.gap, page.reset), (false, true, false), "limit {limit}");
    }
}
