//! A store that is further than its home: it has taken publications that are not delivered yet, and has dropped them
//! already. Nobody is told of a loss up to the place that the home has reached, and nobody goes back behind the place
//! that they had.

mod common;
use common::*;
use fanfare_hub::*;

/// The store answers the request that it was given last. Earlier answers wait.
fn answer_last(net: &mut Net) {
    let (shard, token, answer) = net.late.borrow_mut().pop_back().expect("the store is asked");
    net.input(shard, Input::Answer { token, answer });
}

fn remove_history(net: &mut Net, name: &str) {
    net.app_only(0, AppCommand::HistoryRemove { channel: channel(name) });
    net.settle();
}

#[test]
fn an_edge_that_has_reached_its_home_is_told_no_loss_by_a_page_from_further_on() {
    let limits = Limits { link_bytes_max: 1, ..Limits::default() };
    let mut net = Net::with_late_store(2, limits);
    let name = net.channel_of(1);
    net.answer_all();
    let (ada, bob) = (net.connect(1), net.connect(0));
    net.subscribe_late(bob, &name);
    net.take(bob);
    // The first publication is for another client, so that bob's member stays where it is and its edge goes on.
    let Command::Publish(publish_first) = publish(&name, "1") else { panic!("a publication") };
    let audience = Some(Box::new(Audience { only: vec![net.client(ada)], ..Audience::default() }));
    net.app_only(1, AppCommand::Publish { publish: publish_first, audience, by: None });
    // The link has no room for a signal behind it: the edge becomes behind.
    let (shard, token, answer) = net.late.borrow_mut().pop_front().expect("an append");
    net.input(shard, Input::Answer { token, answer });
    net.send_only(ada, signal(&name, "typing", "1", None));
    // The second one is stored, and dropped, and the home does not know of it.
    net.send_only(ada, publish(&name, "2"));
    net.app_only(1, AppCommand::HistoryRemove { channel: channel(&name) });
    net.settle();
    answer_last(&mut net);
    net.settle();
    net.answer_all();
    let received = net.take(bob);
    assert_eq!((messages(&received), gaps(&received)), (vec!["2".to_owned()], vec![]), "{received:?}");
}

/// A page may reach beyond the deliveries, so a client can have more than the home has delivered.
#[test]
fn a_client_that_is_further_than_the_home_does_not_go_back() {
    for (recent, is_lost) in [(None, false), (Some(5), false), (None, true)] {
        let mut net = Net::with_late_store(1, Limits::default());
        let (ada, bob) = (net.connect(0), net.connect(0));
        net.subscribe_late(ada, "chat:a");
        for json in ["1", "2", "3"] {
            net.send(ada, publish("chat:a", json));
        }
        let (shard, token, answer) = net.late.borrow_mut().pop_front().expect("an append");
        let StoreAnswer::Appended { epoch, .. } = answer else { panic!("{answer:?}") };
        net.input(shard, Input::Answer { token, answer });
        remove_history(&mut net, "chat:a");
        // The home is at 1, the client at 2, and the store has nothing up to 3.
        let at = Position { epoch, offset: 2 };
        let options = SubOptions { recent, ..since("chat:a", at) };
        let asked = net.send(bob, Command::Subscribe { subs: vec![options], many: false });
        answer_last(&mut net);
        let Some(ReplyBody::Subscribed(subscribed)) = net.answer_to(bob, asked) else { panic!("it has an answer") };
        let Subscribed { position, recovered, publications, more, .. } = *subscribed;
        assert_eq!((position, recovered, publications, more), (at, Some(true), vec![], false));
        net.take(bob);
        if is_lost {
            // The answers of the appends never come: what they stored is lost, for this client too.
            net.late.borrow_mut().clear();
            net.pass(6_000);
            net.all_alive();
        }
        net.answer_all();
        let received = net.take(bob);
        let expected = if is_lost { (vec![], vec![(3, false)]) } else { (vec!["3".to_owned()], vec![]) };
        assert_eq!((messages(&received), gaps(&received)), expected, "{received:?}");
    }
}

/// Entries between the place and the home's are gone: that is a loss.
#[test]
fn a_client_that_is_behind_its_home_is_told_of_the_loss() {
    let mut net = Net::with_late_store(1, Limits::default());
    let (ada, bob) = (net.connect(0), net.connect(0));
    net.subscribe_late(ada, "chat:a");
    net.send(ada, publish("chat:a", "1"));
    net.send(ada, publish("chat:a", "2"));
    net.answer_all();
    let Some(Received::Push(Push::Message { epoch, .. })) =
        net.take(ada).into_iter().find(|it| matches!(it, Received::Push(Push::Message { .. })))
    else {
        panic!("ada has the publications")
    };
    remove_history(&mut net, "chat:a");
    net.answer_all();
    let asked =
        net.send(bob, Command::Subscribe { subs: vec![since("chat:a", Position { epoch, offset: 1 })], many: false });
    net.answer_all();
    let Some(ReplyBody::Subscribed(subscribed)) = net.answer_to(bob, asked) else { panic!("it has an answer") };
    assert_eq!((subscribed.position.offset, subscribed.recovered), (2, Some(false)));
}
