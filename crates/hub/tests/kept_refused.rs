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
