//! A connection goes on over another wire: it gets every publication once and in order, each for the wire that it has
//! then. The shell of these tests checks the wire of each push.

mod common;

use common::rooms::{join, subscribed, to_rooms};
use common::*;
use fanfare_hub::*;

const OTHER: WireId = WireId(1);

#[test]
fn publications_before_and_after_come_once() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let [ada, bob] = [net.connect(0), net.connect(1 % shards)];
        for peer in [ada, bob] {
            net.subscribe(peer, "chat:a");
            net.subscribe(peer, "chat:b");
            net.take(peer);
        }
        for number in 1..=3 {
            net.publish(ada, "chat:a", &number.to_string());
        }
        net.rewire(bob, OTHER);
        net.settle();
        for number in 4..=6 {
            net.publish(ada, "chat:a", &number.to_string());
        }
        net.rewire(bob, WireId(0));
        net.publish(ada, "chat:b", "7");
        net.settle();
        for peer in [ada, bob] {
            assert_eq!(net.take_messages(peer), numbers(1..=7), "with {shards} shards");
        }
    }
}

/// The wire changes in the middle of a fan-out: it may have served the client or not, and may come to the group of the
/// new wire again or not.
#[test]
fn a_change_within_a_fan_out_loses_and_repeats_nothing() {
    const MEMBERS: usize = 30;
    let limits = || Limits { fanout_slice: 4, ..Limits::default() };
    let (mut told_before, mut told_after) = (0, 0);
    for begins_at in [0, 1] {
        for changed in 0..MEMBERS {
            let mut net = Net::with(1, limits(), open_rules());
            let members: Vec<usize> = (0..MEMBERS).map(|_| net.connect(0)).collect();
            for (number, &member) in members.iter().enumerate() {
                // Both groups have members, and which one is the first differs.
                net.rewire(member, WireId(((number + begins_at) % 2) as u8));
                net.subscribe(member, "chat:a");
                net.take(member);
            }
            net.paused = true;
            for number in 1..=3 {
                net.send(members[0], publish("chat:a", &number.to_string()));
            }
            for _ in 0..3 {
                net.go_on_once();
            }
            let was_told = !net.peers[members[changed]].received.is_empty();
            told_before += usize::from(was_told);
            told_after += usize::from(!was_told);
            let wire = WireId(1 - net.peers[members[changed]].wire.0);
            net.rewire(members[changed], wire);
            net.paused = false;
            net.settle();
            net.publish(members[0], "chat:a", "4");
            for (number, &member) in members.iter().enumerate() {
                assert_eq!(net.take_messages(member), numbers(1..=4), "member {number}, and {changed} had changed");
            }
        }
    }
    assert!(told_before > 10 && told_after > 10, "both cases occur: {told_before}, {told_after}");
}

/// A fan-out has served it before its wire changed. It gets what comes later, also where somebody is in a room: then
/// its edge does not begin anew.
#[test]
fn a_change_within_a_fan_out_hides_nothing_that_comes_later() {
    const MEMBERS: usize = 24;
    for changed in 0..MEMBERS {
        let mut net = Net::with(1, Limits { fanout_slice: 4, ..Limits::default() }, open_rules());
        let members: Vec<usize> = (0..MEMBERS).map(|_| net.connect(0)).collect();
        for (number, &member) in members.iter().enumerate() {
            net.rewire(member, WireId((number % 2) as u8));
            net.subscribe(member, "chat:a");
            net.take(member);
        }
        net.ask(members[0], join("red"));
        net.take(members[0]);
        net.paused = true;
        net.send(members[0], publish("chat:a", "1"));
        net.go_on_once();
        net.go_on_once();
        let wire = WireId(1 - net.peers[members[changed]].wire.0);
        net.rewire(members[changed], wire);
        net.paused = false;
        net.settle();
        net.publish(members[0], "chat:a", "2");
        net.publish(members[0], "chat:a", "3");
        for (number, &member) in members.iter().enumerate() {
            assert_eq!(net.take_messages(member), numbers(1..=3), "member {number}, and {changed} had changed");
        }
    }
}

/// A signal has no place by which a member would know it again.
#[test]
fn a_change_within_the_fan_out_of_a_signal_does_not_repeat_it() {
    const MEMBERS: usize = 30;
    let (mut told_once, mut missed) = (0, 0);
    for begins_at in [0, 1] {
        for changed in 1..MEMBERS {
            let mut net = Net::with(1, Limits { fanout_slice: 4, ..Limits::default() }, open_rules());
            let members: Vec<usize> = (0..MEMBERS).map(|_| net.connect(0)).collect();
            for (number, &member) in members.iter().enumerate() {
                net.rewire(member, WireId(((number + begins_at) % 2) as u8));
                net.subscribe(member, "chat:a");
                net.take(member);
            }
            net.paused = true;
            net.send(members[0], signal("chat:a", "move", "1", None));
            for _ in 0..3 {
                net.go_on_once();
            }
            for _ in 0..2 {
                let wire = WireId(1 - net.peers[members[changed]].wire.0);
                net.rewire(members[changed], wire);
            }
            let wire = WireId(1 - net.peers[members[changed]].wire.0);
            net.rewire(members[changed], wire);
            net.paused = false;
            net.settle();
            for (number, &member) in members.iter().enumerate().skip(1) {
                let came = signals(&net.take(member)).len();
                match number == changed {
                    true => (told_once, missed) = (told_once + came, missed + usize::from(came == 0)),
                    false => assert_eq!(came, 1, "member {number}, and {changed} had changed"),
                }
                assert!(came <= 1, "member {number}, and {changed} had changed");
            }
        }
    }
    assert!(told_once > 2 * missed, "only one that the fan-out has passed by misses it: {told_once}, {missed}");
}

/// Who passes a change of presence by within its fan-out is told the whole presence.
#[test]
fn a_change_within_the_fan_out_of_a_presence_hides_nobody() {
    const MEMBERS: usize = 30;
    let (mut told, mut repaired) = (0, 0);
    for begins_at in [0, 1] {
        for changed in 1..MEMBERS {
            let mut net = Net::with(1, Limits { fanout_slice: 4, ..Limits::default() }, open_rules());
            let members: Vec<usize> = (0..MEMBERS).map(|_| net.connect(0)).collect();
            for (number, &member) in members.iter().enumerate() {
                net.rewire(member, WireId(((number + begins_at) % 2) as u8));
                net.subscribe_with(member, with_presence("chat:a"));
                net.take(member);
            }
            net.paused = true;
            net.send(members[0], enter("chat:a", "1"));
            for _ in 0..6 {
                net.go_on_once();
            }
            let wire = WireId(1 - net.peers[members[changed]].wire.0);
            net.rewire(members[changed], wire);
            net.paused = false;
            net.settle();
            let entered = net.client(members[0]);
            for (number, &member) in members.iter().enumerate() {
                let received = net.take(member);
                let came = presence_changes(&received).len();
                let is_in = |snapshot: &PresenceSnapshot| {
                    snapshot.entries.iter().flatten().any(|entry| entry.client == entered)
                };
                let whole = received.iter().any(|received| match received {
                    Received::Push(Push::PresenceSnapshot { snapshot, .. }) => is_in(snapshot),
                    _ => false,
                });
                (told, repaired) = (told + usize::from(came > 0), repaired + usize::from(came == 0));
                assert!(came == 1 || came == 0 && whole, "member {number}, and {changed} had changed: {received:?}");
            }
        }
    }
    assert!(told > 100 && repaired > 5, "both cases occur: {told}, {repaired}");
}

/// Publications for others leave the place of a member behind. It goes on from where its edge stands, so it does not
/// matter that the history holds them no more.
#[test]
fn a_client_that_has_everything_is_told_no_loss() {
    for shards in shard_counts() {
        let rule = Rule { history: Retain { count: 2, ..Retain::default() }, ..open_rule("**") };
        let mut net = Net::with(shards, Limits::default(), Rules::new(vec![rule]));
        let [ada, bob] = subscribed(&mut net);
        net.ask(ada, join("others"));
        for number in 1..=10 {
            net.ask(ada, to_rooms(&number.to_string(), &["others"]));
        }
        net.rewire(bob, OTHER);
        net.settle();
        net.publish(ada, "chat:a", "11");
        let received = net.take(bob);
        assert_eq!((gaps(&received), messages(&received)), (vec![], vec!["11".to_owned()]), "with {shards} shards");
    }
}

#[test]
fn a_slow_client_and_one_that_is_not_subscribed_yet_go_on() {
    for shards in shard_counts() {
        let mut net = Net::with(shards, Limits { outbox_bytes_max: 600, ..Limits::default() }, open_rules());
        let (ada, slow) = (net.connect(0), net.connect(1 % shards));
        net.subscribe(slow, "chat:a");
        net.take(slow);
        net.peers[slow].reads = false;
        for number in 1..=40 {
            net.publish(ada, "chat:a", &number.to_string());
            if number == 20 {
                net.rewire(slow, OTHER);
                net.settle();
            }
        }
        net.read_again(slow);
        assert_eq!(net.take_messages(slow), numbers(1..=40), "with {shards} shards");
        let early = net.open(0);
        net.rewire(early, OTHER);
        let late = net.connect(0);
        let subscribe = Command::Subscribe { subs: vec![SubOptions::new(channel("chat:a"))], many: false };
        net.send_only(late, subscribe);
        net.rewire(late, OTHER);
        net.settle();
        net.take(late);
        net.publish(ada, "chat:a", "41");
        assert_eq!(net.take_messages(late), ["41"]);
    }
}

/// The same for publications to rooms, which go to the members of the rooms alone. Others' places stay behind.
#[test]
fn a_change_within_a_narrow_fan_out_loses_and_repeats_nothing() {
    const MEMBERS: usize = 24;
    let room_of = |number: usize| ["even", "odd"][number % 2];
    let to_room = |number: usize| to_rooms(&number.to_string(), &[room_of(number)]);
    for changed in 0..MEMBERS {
        let mut net = Net::with(1, Limits { fanout_slice: 3, ..Limits::default() }, open_rules());
        let members: Vec<usize> = (0..MEMBERS).map(|_| net.connect(0)).collect();
        for (number, &member) in members.iter().enumerate() {
            net.rewire(member, WireId((number / 2 % 2) as u8));
            net.subscribe(member, "chat:a");
            net.ask(member, join(room_of(number)));
            net.take(member);
        }
        net.paused = true;
        for number in 0..4 {
            net.send(members[0], to_room(number));
        }
        net.go_on_once();
        net.go_on_once();
        let wire = WireId(1 - net.peers[members[changed]].wire.0);
        net.rewire(members[changed], wire);
        net.paused = false;
        net.settle();
        net.ask(members[0], to_room(4));
        net.ask(members[0], to_room(5));
        for (number, &member) in members.iter().enumerate() {
            let expected = if number % 2 == 0 { ["0", "2", "4"] } else { ["1", "3", "5"] };
            assert_eq!(net.take_messages(member), expected, "member {number}, and {changed} had changed");
        }
    }
}
