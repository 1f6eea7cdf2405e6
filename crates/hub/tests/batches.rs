//! Batches: publications that are gathered for a subscriber arrive once, in order, in time, and together.

mod common;
use common::*;
use fanfare_hub::*;

fn batched(size: u32, delay_ms: u32) -> SubOptions {
    SubOptions { batch: Some(Batch { size, delay_ms }), ..SubOptions::new(channel("chat:a")) }
}

fn lens(received: &[Received]) -> Vec<usize> {
    batches(received).iter().map(Vec::len).collect()
}

#[test]
fn a_batch_is_told_when_it_is_whole_or_when_its_first_has_waited() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let (ada, bob, eve) = (net.connect(0), net.connect(1), net.connect(2));
        net.subscribe_with(bob, batched(10, 500));
        net.subscribe(eve, "chat:a");
        net.publish_all(ada, "chat:a", 1..=23);
        assert_eq!(lens(&net.peers[bob].received), [10, 10]);
        assert_eq!(net.take_messages(eve), numbers(1..=23), "others are not gathered for");
        net.pass(400);
        assert_eq!(lens(&net.peers[bob].received), [10, 10], "too early");
        net.pass(200);
        assert_eq!(lens(&net.peers[bob].received), [10, 10, 3]);
        net.publish(ada, "chat:a", "24");
        net.pass(600);
        let received = net.take(bob);
        assert_eq!((messages(&received), lens(&received)), (numbers(1..=24), vec![10, 10, 3, 1]));
    }
}

/// A steady stream of publications never makes a batch later than its delay.
#[test]
fn a_batch_waits_for_its_first_publication_and_no_longer_for_each_that_follows() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let (ada, bob) = (net.connect(0), net.connect(1));
        net.subscribe_with(bob, batched(100, 500));
        let mut published = 0;
        for round in 1..=3 {
            let told = published;
            for number in told + 1..=told + 5 {
                net.publish(ada, "chat:a", &number.to_string());
                published = number;
                net.pass(if number == told + 5 { 99 } else { 100 });
            }
            assert_eq!(net.take_messages(bob), [""; 0], "499 ms after the first of batch {round}");
            net.pass(1);
            assert_eq!(batches(&net.take(bob)), [numbers(told + 1..=published)], "500 ms after it");
        }
    }
}

#[test]
fn a_member_that_comes_or_goes_meanwhile_gets_its_own_part() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let (ada, bob, eve, dan) = (net.connect(0), net.connect(1), net.connect(2), net.connect(0));
        net.subscribe_with(bob, batched(5, 1_000));
        net.subscribe_with(dan, batched(5, 1_000));
        net.publish_all(ada, "chat:a", 1..=2);
        net.subscribe_with(eve, batched(5, 1_000));
        net.publish(ada, "chat:a", "3");
        net.send(dan, unsubscribe("chat:a"));
        net.publish_all(ada, "chat:a", 4..=5);
        net.pass(1_200);
        assert_eq!(net.take_messages(bob), numbers(1..=5));
        assert_eq!(net.take_messages(eve), numbers(3..=5));
        assert_eq!(net.take_messages(dan), Vec::<String>::new(), "a message after `unsubscribed`");
    }
}

#[test]
fn a_batch_holds_for_each_what_is_meant_for_it() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let (ada, bob) = (net.connect(0), net.connect(1));
        net.subscribe_with(ada, batched(5, 100));
        net.subscribe_with(bob, batched(5, 100));
        for number in 1..=5 {
            let Command::Publish(mut publish) = publish("chat:a", &number.to_string()) else { panic!() };
            publish.echo = number % 2 == 0;
            net.send(ada, Command::Publish(publish));
        }
        assert_eq!(net.take_messages(ada), ["2", "4"]);
        assert_eq!(net.take_messages(bob), numbers(1..=5));
    }
}

#[test]
fn signals_and_presence_do_not_wait_for_a_batch() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let (ada, bob) = (net.connect(0), net.connect(1));
        net.subscribe_with(bob, SubOptions { presence: true, ..batched(5, 1_000) });
        net.subscribe(ada, "chat:a");
        net.take(bob);
        net.publish(ada, "chat:a", "1");
        net.send(ada, signal("chat:a", "typing", "true", None));
        net.send(ada, enter("chat:a", "{}"));
        let received = net.take(bob);
        assert_eq!(
            (signals(&received), presence_changes(&received).len(), messages(&received).len()),
            (vec!["true".into()], 1, 0)
        );
    }
}

#[test]
fn a_slow_reader_of_batches_pulls_and_misses_nothing() {
    for shards in shard_counts() {
        let limits = Limits { outbox_bytes_max: 2_000, page_bytes_max: 1_500, ..Limits::default() };
        let mut net = Net::with(shards, limits, open_rules());
        let (ada, bob) = (net.connect(0), net.connect(1));
        net.subscribe_with(bob, batched(10, 200));
        net.peers[bob].reads = false;
        net.publish_all(ada, "chat:a", 1..=90);
        net.pass(300);
        net.read_again(bob);
        net.publish_all(ada, "chat:a", 91..=93);
        net.pass(300);
        let received = net.take(bob);
        assert_eq!((messages(&received), gaps(&received)), (numbers(1..=93), vec![]));
        assert!(lens(&received).iter().all(|len| *len <= 10), "{:?}", lens(&received));
    }
}

#[test]
fn channels_without_history_are_gathered_too() {
    for shards in shard_counts() {
        let mut rule = open_rule("**");
        rule.history.count = 0;
        let mut net = Net::with(shards, Limits { fanout_slice: 1, ..Limits::default() }, Rules::new(vec![rule]));
        let ada = net.connect(0);
        let members: Vec<usize> = (0..4).map(|i| net.connect(i)).collect();
        for member in &members {
            net.subscribe_with(*member, batched(20, 200));
        }
        net.publish_all(ada, "chat:a", 1..=7);
        net.pass(300);
        for member in members {
            assert_eq!(batches(&net.take(member)), [numbers(1..=7)], "member {member}");
        }
    }
}

#[test]
fn a_batch_that_is_whole_while_others_are_still_told_is_told_next() {
    // Two groups of batches, and a fan-out of one member a slice between them.
    let mut net = Net::with(1, Limits { fanout_slice: 1, ..Limits::default() }, open_rules());
    let ada = net.connect(0);
    let options = [batched(2, 500), SubOptions::new(channel("chat:a")), batched(5, 500)];
    let members: Vec<usize> = (0..9).map(|_| net.connect(0)).collect();
    for (member, options) in members.iter().zip(options.iter().cycle()) {
        net.subscribe_with(*member, options.clone());
    }
    net.publish_all(ada, "chat:a", 1..=31);
    net.pass(600);
    for member in members {
        assert_eq!(net.take_messages(member), numbers(1..=31), "member {member}");
    }
}
