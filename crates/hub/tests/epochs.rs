//! A store that has lost everything: its channels begin new epochs. Everybody is told of the loss once, and of nothing
//! else, whatever of the earlier epoch is still on its way.

mod common;
use common::*;
use fanfare_hub::*;

/// A channel of one shard, with two clients. The first one is subscribed and has publications 1 and 2 in an epoch.
fn begun(limits: Limits) -> (Net, usize, usize) {
    let mut net = Net::with_late_store(1, limits);
    let (ada, bob) = (net.connect(0), net.connect(0));
    net.subscribe_late(ada, "chat:a");
    for json in ["1", "2"] {
        net.send(bob, publish("chat:a", json));
    }
    net.answer_all();
    net.take(bob);
    (net, ada, bob)
}

#[test]
fn an_epoch_that_is_lost_is_one_gap_and_the_next_one_goes_on() {
    let (mut net, ada, bob) = begun(Limits::default());
    assert_eq!(net.take_messages(ada), ["1", "2"]);
    net.lose_stores();
    for json in ["3", "4"] {
        net.send(bob, publish("chat:a", json));
    }
    net.answer_all();
    let received = net.take(ada);
    assert_eq!((messages(&received), gaps(&received)), (numbers(3..=4), vec![(0, true)]), "{received:?}");
}

/// The home misses an entry of the earlier epoch and reads it. The answer is of the new epoch, in which it has reached
/// the first entry by then: that the page is not complete says nothing about the others.
#[test]
fn a_page_that_was_asked_for_in_an_earlier_epoch_hides_nothing_of_this_one() {
    let (mut net, ada, bob) = begun(Limits::default());
    net.take(ada);
    for json in ["3", "4"] {
        net.send(bob, publish("chat:a", json));
    }
    net.lose_stores();
    for json in ["5", "6", "7"] {
        net.send(bob, publish("chat:a", json));
    }
    net.late.borrow_mut().pop_front(); // the answer about 3 never comes
    net.answer_one(0); // so 4 shows a hole, which the home reads
    net.answer_one(0); // 5 is the first of the new epoch
    net.answer_one(2); // the page comes before the answers about 6 and 7
    net.answer_all();
    let received = net.take(ada);
    assert_eq!((messages(&received), gaps(&received)), (numbers(5..=7), vec![(0, true)]), "{received:?}");
}

/// A fan-out of the earlier epoch is still under way when a client subscribes in the new one.
#[test]
fn who_subscribes_in_a_new_epoch_gets_nothing_of_the_one_before() {
    let (mut net, ada, bob) = begun(Limits { fanout_slice: 1, ..Limits::default() });
    for _ in 0..3 {
        let other = net.connect(0);
        net.subscribe_late(other, "chat:a");
    }
    net.take(ada);
    net.paused = true;
    for json in ["3", "4", "5"] {
        net.send(bob, publish("chat:a", json));
    }
    net.answer_all();
    net.lose_stores();
    net.send(bob, publish("chat:a", "6"));
    net.answer_all();
    let eve = net.connect(0);
    net.subscribe_late(eve, "chat:a");
    net.take(eve);
    assert!(messages(&net.peers[ada].received).len() < 3, "the fan-out is under way");
    net.paused = false;
    net.send(bob, publish("chat:a", "7"));
    net.answer_all();
    assert_eq!(net.take_messages(eve), ["7"]);
    let received = net.take(ada);
    assert_eq!((messages(&received), gaps(&received)), (numbers(3..=7), vec![(0, true)]), "{received:?}");
}
