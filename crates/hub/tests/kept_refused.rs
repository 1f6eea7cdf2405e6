//! Kept subscriptions where the home refuses, or answers late: what the client knows stays true.

mod common;

use common::kept::*;
use common::rooms::*;
use common::*;
use fanfare_hub::*;

/// A kept subscription of a client in `red`, and another client, on one shard with a store that answers late.
fn begin_late(limits: Limits) -> (Net, usize, usize) {
    let mut net = Net::with_late_store(1, limits);
    let (ada, bob) = (net.connect(0), net.connect(0));
    net.send(ada, Command::Subscribe { subs: vec![kept(None)], many: false });
    net.answer_all();
    net.subscribe(bob, CHANNEL);
    net.ask(ada, join("red"));
    net.take(ada);
    (net, ada, bob)
}

fn say_late(net: &mut Net, peer: usize, json: &str, name: &str) {
    net.send(peer, to_rooms(json, &[name]));
    net.answer_all();
}

/// The store answers the oldest question with this.
fn answer_next(net: &mut Net, answer: StoreAnswer) {
    let (shard, token, _) = net.late.borrow_mut().pop_front().expect("the store was asked");
    net.input(shard, Input::Answer { token, answer });
    net.settle();
}

/// The home refuses a change of a room at once, while an earlier one waits for the store.
#[test]
fn a_refused_change_of_a_room_takes_no_other_one_along() {
    let limits = Limits { store_waiting_bytes_max: 1_000, ..Limits::default() };
    let (mut net, ada, bob) = begin_late(limits);
    net.send(bob, to_rooms("1", &["blue"]));
    let joins = net.send(ada, join("blue"));
    net.send(bob, to_rooms(&format!("{:?}", "x".repeat(1_000)), &["green"]));
    let leaves = net.send(ada, leave("red"));
    assert_eq!(net.answer_to(ada, joins), None, "it waits for what was published before it");
    assert_eq!(net.answer_to(ada, leaves).map(|body| error_code(&body)), Some(ErrorCode::Unavailable));
    let Peer { shard, conn, .. } = net.peers[ada];
    net.input(shard, Input::Closed { conn, finally: false });
    net.answer_all();
    say_late(&mut net, bob, "2", "blue");
    say_late(&mut net, bob, "3", "red");
    let again = net.resume(ada, 0, vec![kept(None)]);
    net.answer_all();
    let told = subscription(&mut net, again);
    assert_eq!((told.recovered, told.rooms), (Some(true), vec![room("red"), room("blue")]));
    assert_eq!(told.missed[told.missed.len() - 2..], numbers(2..=3));
}

/// The application subscribes it once more while it joins a room: the join is answered, and over.
#[test]
fn a_change_of_a_room_is_over_when_its_subscription_begins_anew() {
    let (mut net, ada, bob) = begin_late(Limits::default());
    let whom = Whom::Client(net.client(ada));
    net.app(0, AppCommand::Subscribe { whom, options: Box::new(SubOptions::new(channel(CHANNEL))) });
    net.send(bob, to_rooms("1", &["green"]));
    let joins = net.send(ada, join("blue"));
    net.send(ada, Command::Subscribe { subs: vec![kept(None)], many: false });
    net.answer_all();
    assert_eq!(net.answer_to(ada, joins).map(|body| error_code(&body)), Some(ErrorCode::Unavailable));
    net.cut(ada);
    say_late(&mut net, bob, "2", "blue");
    say_late(&mut net, bob, "3", "red");
    let again = net.resume(ada, 0, vec![kept(None)]);
    net.answer_all();
    let told = subscription(&mut net, again);
    assert_eq!((told.recovered, told.rooms), (Some(true), vec![room("red")]));
    assert_eq!(told.missed, numbers(3..=3));
}

/// The store cannot be asked when it comes back. It goes on when it asks again, on this connection or the next one.
#[test]
fn a_return_that_is_unavailable_may_be_tried_again() {
    // That the store does not say what it did is the same here: to read changes nothing.
    let ways = [(false, false), (true, false), (true, true)];
    let answers = || [StoreAnswer::Unavailable, StoreAnswer::Unknown];
    for ((comes_back, is_refused_twice), answer) in ways.into_iter().flat_map(|way| answers().map(|it| (way, it))) {
        let (mut net, mut ada, bob) = begin_late(Limits::default());
        net.cut(ada);
        say_late(&mut net, bob, "1", "red");
        for _ in 0..=usize::from(is_refused_twice) {
            ada = net.resume(ada, 0, vec![kept(None)]);
            answer_next(&mut net, answer.clone());
            let refusal = net.take(ada).into_iter().find_map(|received| match received {
                Received::Reply(Reply { id: None, body, .. }) => Some(error_code(&body)),
                _ => None,
            });
            assert_eq!(refusal, Some(ErrorCode::Unavailable));
        }
        say_late(&mut net, bob, "2", "red");
        if comes_back {
            net.cut(ada);
            ada = net.resume(ada, 0, vec![kept(None)]);
        } else {
            net.send(ada, Command::Subscribe { subs: vec![kept(None)], many: false });
        }
        net.answer_all();
        let told = subscription(&mut net, ada);
        assert_eq!((told.missed, told.recovered, told.rooms), (numbers(1..=2), Some(true), vec![room("red")]));
        say_late(&mut net, bob, "3", "red");
        assert_eq!(net.take_messages(ada), ["3"]);
    }
}

/// The application subscribes its client after the refusal. That takes the place of what was kept, unless it fails too.
#[test]
fn a_subscription_of_the_application_takes_its_place_where_it_begins() {
    for begins in [false, true] {
        let (mut net, ada, bob) = begin_late(Limits::default());
        net.cut(ada);
        say_late(&mut net, bob, "1", "red");
        let ada = net.resume(ada, 0, vec![kept(None)]);
        answer_next(&mut net, StoreAnswer::Unavailable);
        let whom = Whom::Client(net.client(ada));
        let options = Box::new(SubOptions { recent: Some(1), ..SubOptions::new(channel(CHANNEL)) });
        let asked = net.app_only(0, AppCommand::Subscribe { whom, options });
        net.settle();
        match begins {
            true => net.answer_all(),
            false => answer_next(&mut net, StoreAnswer::Unavailable),
        }
        assert_eq!(net.app_answer(asked), Some(AppAnswer::Concerned(u64::from(begins))));
        net.cut(ada);
        let ada = net.resume(ada, 0, vec![kept(None)]);
        net.answer_all();
        let told = subscription(&mut net, ada);
        let expected = if begins { (vec![], None) } else { (numbers(1..=1), Some(true)) };
        assert_eq!((told.missed, told.recovered), expected);
    }
}

/// After a refusal its client has given it up.
#[test]
fn one_that_is_left_after_a_refusal_is_not_kept() {
    let (mut net, ada, bob) = begin_late(Limits::default());
    net.cut(ada);
    say_late(&mut net, bob, "1", "red");
    let ada = net.resume(ada, 0, vec![kept(None)]);
    answer_next(&mut net, StoreAnswer::Unavailable);
    assert_eq!(error_code(&net.ask(ada, Command::Unsubscribe { channel: channel(CHANNEL) })), ErrorCode::NotSubscribed);
    net.take(ada);
    net.send(ada, Command::Subscribe { subs: vec![kept(None)], many: false });
    net.answer_all();
    let told = subscription(&mut net, ada);
    assert_eq!((told.missed, told.recovered, told.rooms), (vec![], None, vec![]));
}

/// A client that was told of its new beginning, and has read the newest publications with it, goes on from there. One
/// that names what it had before, and is told of none of these, may not have heard of it.
#[test]
fn who_has_read_the_first_page_of_a_new_beginning_goes_on() {
    for shards in shard_counts() {
        for had_it_before in [false, true] {
            let mut net = Net::new(shards);
            let (ada, bob) = begin(&mut net);
            let at = net.publish(bob, CHANNEL, "1");
            let had = had_it_before.then_some(at);
            let whom = Whom::Client(net.client(ada));
            net.app(0, AppCommand::Unsubscribe { whom, channel: channel(CHANNEL) });
            net.cut(ada);
            let options = SubOptions { recent: Some(5), ..kept(had) };
            let again = net.resume(ada, 1, vec![options]);
            let told = subscription(&mut net, again);
            let newest = if had_it_before { vec![] } else { numbers(1..=1) };
            assert_eq!((told.missed, told.recovered), (newest, None));
            net.cut(again);
            let (_, _, recovered) = back(&mut net, again, 0, Some(at));
            assert_eq!(recovered == Some(true), !had_it_before, "{shards} shards");
        }
    }
}

/// Its subscription has ended, or was refused, and the answer that it begins anew was lost. The client knows of
/// neither, and must not be told that it goes on.
#[test]
fn a_new_beginning_after_an_end_that_was_never_heard_is_told_again() {
    for shards in shard_counts() {
        for way in ["rules", "refused", "application", "application, while away"] {
            let mut net = Net::new(shards);
            net.heartbeat = HeartbeatKind::Waits;
            let (mut ada, bob) = begin(&mut net);
            let end = |net: &mut Net, peer: usize| {
                let whom = Whom::Client(net.client(peer));
                net.app(0, AppCommand::Unsubscribe { whom, channel: channel(CHANNEL) });
            };
            let closed = || Rules::new(vec![Rule { subscribe: vec![Who::Nobody], ..open_rule("**") }]);
            match way {
                "rules" => net.reload(closed()),
                "application" => end(&mut net, ada),
                _ => {}
            }
            net.cut(ada);
            match way {
                "refused" => {
                    net.reload(closed());
                    ada = net.resume(ada, 1, vec![kept(None)]);
                    net.cut(ada);
                }
                "application, while away" => end(&mut net, ada),
                _ => {}
            }
            net.reload(open_rules());
            say(&mut net, bob, "1", "red");
            let (again, missed, recovered) = back(&mut net, ada, 1, None);
            if way == "refused" {
                // No place in the log was lost by that: it may go on.
                assert_eq!((missed, recovered), (numbers(1..=1), Some(true)));
                continue;
            }
            assert_ne!(recovered, Some(true), "{way}");
            net.cut(again); // it never had that answer
            let (again, _, recovered) = back(&mut net, again, 0, None);
            assert_ne!(recovered, Some(true), "{way}, {shards} shards");
            // It answers a ping, so it has heard of the new beginning.
            for _ in 0..2 {
                net.pass(net.limits.heartbeat_ms);
                net.all_alive();
            }
            net.send_only(again, Command::Pong);
            net.settle();
            net.cut(again);
            say(&mut net, bob, "2", "red");
            let (_, missed, recovered) = back(&mut net, again, 0, None);
            assert_eq!((missed.len(), recovered), (0, Some(true)), "{way}, {shards} shards");
        }
    }
}
