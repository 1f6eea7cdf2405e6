//! Rooms: a publication with an audience of rooms reaches the subscriptions that were in one of them at its place, and
//! no others, live and from pages.

mod common;

use common::rooms::*;
use common::*;
use fanfare_hub::*;

#[test]
fn a_publication_reaches_the_union_of_its_rooms_once() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let [ada, bob, cem, dan] = subscribed(&mut net);
        for (peer, name) in [(ada, "red"), (ada, "blue"), (bob, "red"), (cem, "blue")] {
            assert_eq!(net.ask(peer, join(name)), ReplyBody::Done);
        }
        net.ask(dan, to_rooms("1", &["red"]));
        net.ask(dan, to_rooms("2", &["red", "blue"]));
        net.ask(dan, to_rooms("3", &["green"]));
        net.ask(dan, to("4", Audience::default()));
        let except = Audience { rooms: vec![room("red")], except: vec![net.client(ada)], ..Audience::default() };
        net.ask(ada, to("5", except));
        let except = Audience { except_rooms: vec![room("blue")], ..Audience::default() };
        net.ask(dan, to("6", except));
        let got = [ada, bob, cem, dan].map(|peer| net.take_messages(peer).join(" "));
        assert_eq!(got, ["1 2 4", "1 2 4 5 6", "2 4", "4 6"], "with {shards} shards");
    }
}

#[test]
fn the_commands_of_a_connection_take_effect_in_program_order() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        for shard in 0..shards {
            let peer = net.connect(shard);
            net.subscribe(peer, "chat:a");
            net.take(peer);
            let program = [
                to_rooms("1", &["red"]),
                join("red"),
                to_rooms("2", &["red"]),
                leave("red"),
                to_rooms("3", &["red"]),
                join("red"),
                join("red"),
                to_rooms("4", &["red"]),
                leave("blue"),
                leave("red"),
            ];
            for command in program {
                net.send_only(peer, command);
            }
            net.settle();
            assert_eq!(net.take_messages(peer), ["2", "4"], "on shard {shard} of {shards}");
        }
    }
}

/// A slow reader gets its messages from pages of the log. By then it has left a room, entered another, and others have
/// said something in rooms where it never was.
#[test]
fn pages_hold_what_was_said_between_a_join_and_a_leave() {
    for shards in shard_counts() {
        let mut net = Net::with(shards, Limits { outbox_bytes_max: 600, ..Limits::default() }, open_rules());
        let [slow, ada] = subscribed(&mut net);
        net.ask(slow, join("red"));
        net.peers[slow].reads = false;
        for number in 0..40 {
            net.ask(ada, to_rooms(&format!("\"red {number}\""), &["red"]));
            net.ask(ada, to_rooms(&format!("\"blue {number}\""), &["blue"]));
            match number {
                9 => drop(net.send_only(slow, leave("red"))),
                19 => drop(net.send_only(slow, join("blue"))),
                29 => drop(net.send_only(slow, join("red"))),
                _ => {}
            }
            net.settle();
        }
        net.read_again(slow);
        let expected: Vec<String> = (0..40)
            .flat_map(|number| {
                let red = (!(10..30).contains(&number)).then(|| format!("\"red {number}\""));
                red.into_iter().chain((number >= 20).then(|| format!("\"blue {number}\"")))
            })
            .collect();
        assert_eq!(net.take_messages(slow), expected, "with {shards} shards");
    }
}

#[test]
fn readers_of_history_and_new_subscriptions_are_in_no_room() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let [ada] = subscribed(&mut net);
        net.ask(ada, join("red"));
        net.ask(ada, to("1", Audience::default()));
        for number in 2..6 {
            net.ask(ada, to_rooms(&number.to_string(), &["red"]));
        }
        let query = HistoryQuery { from: HistoryFrom::Newest, limit: 3 };
        let ReplyBody::History(history) = net.ask(ada, Command::History { channel: channel("chat:a"), query }) else {
            panic!("no history");
        };
        assert_eq!(texts(&history.publications), ["1"]);
        let bob = net.connect(0);
        let recent = SubOptions { recent: Some(2), ..SubOptions::new(channel("chat:a")) };
        assert_eq!(texts(&net.subscribe_with(bob, recent).publications), ["1"]);
        net.send(ada, unsubscribe("chat:a"));
        net.take(ada);
        let at = Position { offset: 0, ..history.top };
        let again = net.subscribe_with(ada, since("chat:a", at));
        assert_eq!((texts(&again.publications), again.recovered), (vec!["1".to_owned()], Some(true)));
        net.ask(bob, to_rooms("6", &["red"]));
        assert!(net.take_messages(ada).is_empty(), "an end of a subscription leaves its rooms");
    }
}

#[test]
fn rooms_need_a_subscription_and_are_bounded() {
    let mut net = Net::with(1, Limits { rooms_max: 2, room_message_bytes_max: 9, ..Limits::default() }, open_rules());
    let ada = net.connect(0);
    assert_eq!(error_code(&net.ask(ada, join("red"))), ErrorCode::NotSubscribed);
    assert_eq!(error_code(&net.ask(ada, leave("red"))), ErrorCode::NotSubscribed);
    net.subscribe(ada, "chat:a");
    let [first, second, again, third] = ["red", "blue", "red", "green"].map(|name| net.ask(ada, join(name)));
    assert_eq!((first, second, again), (ReplyBody::Done, ReplyBody::Done, ReplyBody::Done));
    assert_eq!(error_code(&third), ErrorCode::LimitExceeded);
    assert_eq!(net.ask(ada, leave("red")), ReplyBody::Done);
    assert_eq!(net.ask(ada, join("green")), ReplyBody::Done, "a stay that is over and read is forgotten");
    assert_eq!(error_code(&net.ask(ada, to_rooms("1234567890", &["red"]))), ErrorCode::TooLarge);
    assert_eq!(Room::new(&"n".repeat(256)), None);
}

/// The store has not answered what was published before a join, or before a leave.
#[test]
fn program_order_holds_with_a_store_that_answers_late() {
    let mut net = Net::with_late_store(1, Limits::default());
    let ada = net.connect(0);
    net.subscribe_late(ada, "chat:a");
    net.take(ada);
    let program = [
        to_rooms("1", &["red"]),
        join("red"),
        to_rooms("2", &["red"]),
        leave("red"),
        to_rooms("3", &["red"]),
        join("red"),
        to_rooms("4", &["red"]),
    ];
    for command in program {
        net.send_only(ada, command);
    }
    net.settle();
    net.answer_all();
    assert_eq!(net.take_messages(ada), ["2", "4"]);
    assert_eq!(net.shards[0].held().pending, 0);
}

/// The place of the join is one that the home has not reached: an answer is missing, or the outcome was not known.
#[test]
fn a_join_stands_behind_what_was_acknowledged_before_it() {
    let mut net = Net::with_late_store(1, Limits::default());
    let (ada, bob) = (net.connect(0), net.connect(0));
    for peer in [ada, bob] {
        net.subscribe_late(peer, "chat:a");
        net.take(peer);
    }
    net.send_only(bob, to("1", Audience::default()));
    net.settle();
    let first = net.late.borrow_mut().pop_front();
    net.send_only(ada, to_rooms("2", &["red"]));
    net.settle();
    let second = net.late.borrow_mut().pop_front().expect("an append");
    let (shard, token, answer) = second;
    net.input(shard, Input::Answer { token, answer });
    net.settle();
    let asked = net.send(ada, join("red"));
    net.settle();
    assert_eq!(net.answer_to(ada, asked), None, "bob's publication has no answer");
    let (shard, token, answer) = first.expect("an append");
    net.input(shard, Input::Answer { token, answer });
    net.answer_all();
    assert_eq!(net.answer_to(ada, asked), Some(ReplyBody::Done));
    net.send_only(ada, to_rooms("3", &["red"]));
    net.answer_all();
    assert_eq!(net.take_messages(ada), ["1", "3"]);
}

/// A join waits no longer than the operations before it.
#[test]
fn a_join_takes_effect_when_the_time_of_the_store_is_over() {
    let limits = Limits { store_timeout_ms: 500, ..Limits::default() };
    let mut net = Net::with_late_store(1, limits);
    let ada = net.connect(0);
    net.subscribe_late(ada, "chat:a");
    net.send_only(ada, to_rooms("1", &["red"]));
    let asked = net.send(ada, join("red"));
    net.settle();
    net.late.borrow_mut().clear();
    assert_eq!(net.answer_to(ada, asked), None);
    net.pass(1_000);
    assert_eq!(net.answer_to(ada, asked), Some(ReplyBody::Done));
}

/// The home reads the newest entry for it, and does not know its rooms.
#[test]
fn one_that_wants_only_the_latest_misses_nothing_in_its_rooms() {
    for shards in shard_counts() {
        let mut net = Net::with(shards, Limits { outbox_bytes_max: 600, ..Limits::default() }, open_rules());
        let [ada] = subscribed(&mut net);
        let [slow, outside] = std::array::from_fn(|n| net.connect(n % shards));
        for peer in [slow, outside] {
            let options = SubOptions { slow: Some(Slow::Latest), ..SubOptions::new(channel("chat:a")) };
            net.subscribe_with(peer, options);
            net.take(peer);
        }
        net.ask(slow, join("red"));
        net.take(slow);
        for peer in [slow, outside] {
            net.peers[peer].reads = false;
        }
        for number in 0..30 {
            net.ask(ada, to(&format!("\"all {number}\""), Audience::default()));
            net.ask(ada, to_rooms(&format!("\"red {number}\""), &["red"]));
        }
        net.ask(ada, to_rooms("\"blue\"", &["blue"]));
        net.read_again(slow);
        net.read_again(outside);
        let got = net.take_messages(slow);
        assert_eq!(got.last().map(String::as_str), Some("\"red 29\""), "with {shards} shards");
        let reds = got.iter().filter(|text| text.starts_with("\"red")).count();
        assert_eq!(reds, 30, "with {shards} shards: {got:?}");
        let received = net.take(outside);
        assert_eq!(messages(&received).last().map(String::as_str), Some("\"all 29\""), "with {shards} shards");
        assert!(!gaps(&received).is_empty(), "with {shards} shards: it wants only the latest");
    }
}

/// The application has subscribed it, and its own `subscribe` begins that anew.
#[test]
fn one_that_begins_anew_stays_in_its_rooms() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let (ada, bob) = (net.connect(0), net.connect(shards - 1));
        let options = Box::new(SubOptions::new(channel("chat:a")));
        let command = AppCommand::Subscribe { whom: Whom::Client(net.client(ada)), options };
        assert_eq!(net.app(0, command), AppAnswer::Concerned(1));
        net.take(ada);
        net.ask(ada, join("red"));
        let ReplyBody::Published { position, .. } = net.ask(bob, to("1", Audience::default())) else {
            panic!("not published");
        };
        net.ask(bob, to_rooms("2", &["red"]));
        net.ask(bob, to_rooms("3", &["blue"]));
        net.take(ada);
        let again = net.subscribe_with(ada, since("chat:a", position));
        assert_eq!((texts(&again.publications), again.recovered), (vec!["2".to_owned()], Some(true)));
        net.ask(bob, to_rooms("4", &["red"]));
        assert_eq!(net.take_messages(ada), ["4"], "with {shards} shards");
    }
}

/// The same of a subscription that is kept, with a position and without one. It is in the list of its room once: the
/// end of its session takes it out, and another one's place there stays true.
#[test]
fn one_that_is_kept_and_begins_anew_stays_in_its_rooms() {
    for (shards, names_position) in shard_counts().into_iter().flat_map(|shards| [(shards, false), (shards, true)]) {
        let mut net = Net::new(shards);
        let (ada, bob, eve) = (net.connect(0), net.connect(shards - 1), net.connect(0));
        net.subscribe_with(ada, SubOptions { keep: true, ..SubOptions::new(channel(CHANNEL)) });
        net.subscribe(eve, CHANNEL);
        let options = Box::new(SubOptions::new(channel(CHANNEL)));
        let command = AppCommand::Subscribe { whom: Whom::Client(net.client(ada)), options };
        assert_eq!(net.app(0, command), AppAnswer::Concerned(1));
        net.ask(ada, join("red"));
        net.ask(eve, join("red"));
        let ReplyBody::Published { position, .. } = net.ask(bob, to("1", Audience::default())) else {
            panic!("not published");
        };
        net.take(ada);
        let options = if names_position { since(CHANNEL, position) } else { SubOptions::new(channel(CHANNEL)) };
        let again = net.subscribe_with(ada, options);
        assert_eq!(again.recovered, names_position.then_some(true));
        net.ask(bob, to_rooms("2", &["red"]));
        assert_eq!(net.take_messages(ada), ["2"], "with {shards} shards");
        net.ask(ada, Command::Unsubscribe { channel: channel(CHANNEL) });
        net.take(eve);
        net.ask(bob, to_rooms("3", &["red"]));
        assert_eq!(net.take_messages(eve), ["3"], "with {shards} shards");
        net.ask(eve, leave("red"));
        net.ask(bob, to_rooms("4", &["red"]));
        assert_eq!(net.take_messages(eve), [""; 0], "with {shards} shards");
    }
}

#[test]
fn a_publication_that_the_application_must_be_asked_about_takes_nothing_of_its_rate() {
    let rate = Some(RateLimit { count_max: 1, window_ms: 60_000 });
    let rules = Rules::new(vec![Rule { publish: vec![Who::Hook], rate, ..open_rule("**") }]);
    let mut net = Net::with(1, Limits::default(), rules);
    let ada = net.connect(0);
    net.subscribe(ada, "chat:a");
    assert_eq!(error_code(&net.ask(ada, to_rooms("1", &["red"]))), ErrorCode::Denied);
    assert_eq!(net.ask(ada, signal("chat:a", "typing", "1", None)), ReplyBody::Done);
    assert_eq!(error_code(&net.ask(ada, signal("chat:a", "typing", "1", None))), ErrorCode::RateLimited);
}

/// The store loses everything, and then answers what it had taken in before that.
#[test]
fn an_answer_of_an_epoch_that_is_over_moves_no_join() {
    let mut net = Net::with_late_store(1, Limits::default());
    let (ada, bob) = (net.connect(0), net.connect(0));
    for peer in [ada, bob] {
        net.subscribe_late(peer, "chat:a");
        net.take(peer);
    }
    net.send_only(bob, to("1", Audience::default()));
    net.settle();
    net.lose_stores();
    net.send_only(bob, to("2", Audience::default()));
    net.settle();
    net.answer_one(1); // 2: the home begins anew
    net.settle();
    for json in ["3", "4"] {
        net.send_only(if json == "3" { bob } else { ada }, to_rooms(json, &["red"]));
        net.settle();
    }
    net.answer_one(2); // 4: the newest place, before that of 3
    net.settle();
    let (shard, token, _) = net.late.borrow_mut().remove(1).expect("the append of 3");
    net.input(shard, Input::Answer { token, answer: StoreAnswer::Unknown });
    net.settle();
    let asked = net.send(ada, join("red"));
    net.settle();
    assert_eq!(net.answer_to(ada, asked), None, "1 has no answer");
    net.answer_one(0); // 1, of the first epoch
    net.settle();
    assert_eq!(net.answer_to(ada, asked), Some(ReplyBody::Done));
    net.answer_all();
    net.send_only(ada, to_rooms("5", &["red"]));
    net.answer_all();
    assert_eq!(net.take_messages(ada), ["2", "5"], "3 and 4 were said before");
}

#[test]
fn an_answer_of_an_epoch_that_is_over_places_no_join_there() {
    let mut net = Net::with_late_store(1, Limits::default());
    let (ada, bob) = (net.connect(0), net.connect(0));
    net.subscribe_late(ada, "chat:a");
    net.take(ada);
    net.send_only(bob, to("1", Audience::default()));
    net.send_only(ada, join("red"));
    net.send_only(bob, to("2", Audience::default()));
    let blue = net.send(ada, join("blue"));
    net.send_only(bob, to("3", Audience::default()));
    net.settle();
    net.lose_stores();
    let query = HistoryQuery { from: HistoryFrom::Newest, limit: 1 };
    net.send(bob, Command::History { channel: channel("chat:a"), query });
    net.settle();
    net.answer_one(3); // a page of the new epoch
    net.settle();
    net.answer_one(0); // 1
    net.settle();
    net.answer_one(1); // 3, before 2
    net.settle();
    net.answer_all();
    assert_eq!(net.answer_to(ada, blue), Some(ReplyBody::Done));
    net.send_only(bob, to_rooms("4", &["blue"]));
    net.answer_all();
    assert_eq!(net.take_messages(ada), ["4"]);
}
