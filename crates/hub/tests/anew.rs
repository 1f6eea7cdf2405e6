//! A client subscribes to a channel to which the application has subscribed it: the subscription begins anew with the
//! client's options, and is still the application's to end.

mod common;

use common::*;
use fanfare_hub::*;

/// Rules that let nobody subscribe, and everybody signal and enter.
fn closed() -> Rules {
    let anyone = || vec![Who::Anyone];
    let rule = Rule { subscribe: vec![Who::Nobody], signal: anyone(), enter: anyone(), ..open_rule("**") };
    Rules::new(vec![rule])
}

/// The application subscribes a client to a channel with the defaults.
fn made_for(net: &mut Net, peer: usize, name: &str) {
    let options = Box::new(SubOptions::new(channel(name)));
    let command = AppCommand::Subscribe { whom: Whom::Client(net.client(peer)), options };
    assert_eq!(net.app(0, command), AppAnswer::Concerned(1));
    assert!(matches!(net.take(peer).last(), Some(Received::Push(Push::Subscribed(_)))));
}

fn app_publishes(net: &mut Net, name: &str, json: &str) -> Position {
    let data = Data::Json(json.to_owned().into());
    let publish = Publish { channel: channel(name), data, event: None, idempotency_key: None, echo: true };
    match net.app(0, AppCommand::Publish { publish: Box::new(publish), audience: None, by: None }) {
        AppAnswer::Published { position, .. } => position,
        other => panic!("not published but {other:?}"),
    }
}

fn with(options: SubOptions) -> Command {
    Command::Subscribe { subs: vec![options], many: false }
}

#[test]
fn its_client_may_choose_the_options() {
    for shards in shard_counts() {
        let mut net = Net::with(shards, Limits::default(), closed());
        let (ada, bob) = (net.connect(0), net.connect(1));
        made_for(&mut net, ada, "chat:a");
        made_for(&mut net, bob, "chat:a");
        let options = SubOptions { presence: true, signals: false, ..SubOptions::new(channel("chat:a")) };
        let answer = net.ask(ada, with(options.clone()));
        assert!(matches!(&answer, ReplyBody::Subscribed(subscribed) if subscribed.recovered.is_none()), "{answer:?}");
        net.ask(bob, enter("chat:a", "1"));
        net.ask(bob, signal("chat:a", "x", "1", None));
        app_publishes(&mut net, "chat:a", "1");
        let received = net.take(ada);
        assert_eq!(presence_changes(&received), [(PresenceKind::Join, net.client(bob))]);
        assert_eq!((messages(&received), signals(&received)), (numbers(1..=1), vec![]));
        assert!(matches!(net.ask(ada, with(options)), ReplyBody::Subscribed(_)), "and again");

        // It is still the application's to end, and lasts over cuts although no rule allows it.
        let back = net.resume(ada, 2, vec![SubOptions::new(channel("chat:a"))]);
        app_publishes(&mut net, "chat:a", "2");
        assert_eq!(net.take_messages(back), ["2"]);
        let command = AppCommand::Unsubscribe { whom: Whom::Client(net.client(back)), channel: channel("chat:a") };
        assert_eq!(net.app(0, command), AppAnswer::Concerned(1));
        assert_eq!(error_code(&net.ask(back, with(SubOptions::new(channel("chat:a"))))), ErrorCode::Denied);
    }
}

#[test]
fn one_that_a_token_grants_begins_anew_too() {
    let hooks = Hooks { connect: true, ..Hooks::default() };
    let mut net = Net::with_hooks(1, Limits::default(), closed(), hooks);
    let peer = net.open(0);
    net.send(peer, Command::Connect(Box::default()));
    let granted = Identified { subscribe: vec![channel("chat:a")], ..Identified::default() };
    net.answer(HookAnswer::Identity(granted));
    net.take(peer);
    let options = SubOptions { presence: true, ..SubOptions::new(channel("chat:a")) };
    assert!(matches!(net.ask(peer, with(options)), ReplyBody::Subscribed(_)));
    net.ask(peer, enter("chat:a", "1"));
    assert_eq!(presence_changes(&net.take(peer)).len(), 1);
}

#[test]
fn one_of_the_clients_own_does_not() {
    let mut net = Net::new(1);
    let ada = net.connect(0);
    net.subscribe(ada, "chat:a");
    let again = with(SubOptions::new(channel("chat:a")));
    assert_eq!(error_code(&net.ask(ada, again.clone())), ErrorCode::AlreadySubscribed);
    let options = Box::new(SubOptions::new(channel("chat:a")));
    let whom = Whom::Client(net.client(ada));
    assert_eq!(net.app(0, AppCommand::Subscribe { whom, options }), AppAnswer::Concerned(1));
    assert!(matches!(net.ask(ada, again), ReplyBody::Subscribed(_)), "unless the application has let it in too");
}

#[test]
fn its_client_may_name_a_position_or_the_newest() {
    for shards in shard_counts() {
        let mut net = Net::with(shards, Limits::default(), closed());
        let (ada, bob) = (net.connect(0), net.connect(1));
        app_publishes(&mut net, "chat:a", "1");
        made_for(&mut net, ada, "chat:a");
        made_for(&mut net, bob, "chat:a");
        app_publishes(&mut net, "chat:a", "2");
        app_publishes(&mut net, "chat:a", "3");
        assert_eq!((net.take_messages(ada), net.take_messages(bob)), (numbers(2..=3), numbers(2..=3)));
        let top = app_publishes(&mut net, "chat:a", "4");
        let since = Some(Position { offset: top.offset - 3, ..top });
        let (since, recent) = (
            SubOptions { since, ..SubOptions::new(channel("chat:a")) },
            SubOptions { recent: Some(2), ..SubOptions::new(channel("chat:a")) },
        );
        for (peer, options, recovered, expected) in [(ada, since, Some(true), 3), (bob, recent, None, 2)] {
            net.take(peer);
            let ReplyBody::Subscribed(subscribed) = net.ask(peer, with(options)) else { panic!("not subscribed") };
            assert_eq!((subscribed.recovered, subscribed.publications.len()), (recovered, expected));
            assert_eq!(subscribed.position, top);
        }
        app_publishes(&mut net, "chat:a", "5");
        assert_eq!((net.take_messages(ada), net.take_messages(bob)), (numbers(5..=5), numbers(5..=5)));
    }
}

#[test]
fn presence_and_waiting_signals_go_on() {
    for shards in shard_counts() {
        let limits = Limits { outbox_bytes_max: 2_000, ..Limits::default() };
        let mut net = Net::with(shards, limits, closed());
        let (ada, bob) = (net.connect(0), net.connect(1));
        made_for(&mut net, ada, "chat:a");
        made_for(&mut net, bob, "chat:a");
        net.ask(ada, enter("chat:a", "1"));
        net.peers[ada].reads = false;
        app_publishes(&mut net, "chat:a", &format!("{:?}", "x".repeat(3_000)));
        let to = Some(net.client(ada));
        assert_eq!(net.ask(bob, signal("chat:a", "offer", "1", to)), ReplyBody::Done, "it waits for room");
        let asked = net.forward_only(1, ada, with(SubOptions::new(channel("chat:a"))));
        net.settle();
        assert!(matches!(net.forwarded(asked), Some(Some(ReplyBody::Subscribed(_)))));
        net.read_again(ada);
        net.settle();
        let received = net.take(ada);
        assert!(matches!(received.last(), Some(Received::Push(Push::Signal(_)))), "{received:?}");
        let present = net.app(0, AppCommand::Presence { channel: channel("chat:a") });
        assert!(matches!(&present, AppAnswer::Presence(snapshot) if snapshot.count == 1), "{present:?}");
    }
}

#[test]
fn a_refusal_leaves_it_as_it_is() {
    let rule = Rule { slow: Slow::Latest, ..open_rule("**") };
    let mut net = Net::with(1, Limits::default(), Rules::new(vec![rule]));
    let ada = net.connect(0);
    made_for(&mut net, ada, "chat:a");
    let options = SubOptions { slow: Some(Slow::Pull), ..SubOptions::new(channel("chat:a")) };
    assert_eq!(error_code(&net.ask(ada, with(options))), ErrorCode::BadRequest);

    let mut late = Net::with_late_store(1, Limits::default());
    let bob = late.connect(0);
    let options = Box::new(SubOptions::new(channel("chat:a")));
    late.app_only(0, AppCommand::Subscribe { whom: Whom::Client(late.client(bob)), options });
    late.answer_all();
    late.take(bob);
    let options = SubOptions { recent: Some(1), ..SubOptions::new(channel("chat:a")) };
    let asked = late.send(bob, with(options));
    let behind = late.send(bob, unsubscribe("chat:a"));
    let (shard, token, _) = late.late.borrow_mut().pop_back().expect("the store was asked");
    assert_eq!((late.answer_to(bob, asked), late.answer_to(bob, behind)), (None, None), "one after the other");
    late.input(shard, Input::Answer { token, answer: StoreAnswer::Unavailable });
    late.settle();
    assert_eq!(error_code(&late.answer_to(bob, asked).expect("answered")), ErrorCode::Unavailable);
    let left = late.answer_to(bob, behind).expect("its turn has come");
    assert!(matches!(left, ReplyBody::Unsubscribed { .. }), "{left:?}");

    for net in [&mut net, &mut late] {
        assert_eq!(net.shards[0].held().pending, 0);
    }
    app_publishes(&mut net, "chat:a", "1");
    assert_eq!(net.take_messages(ada), ["1"]);
}

#[test]
fn one_that_ends_meanwhile_does_not_begin_anew() {
    for is_cut in [false, true] {
        let mut net = Net::with_late_store(1, Limits::default());
        let ada = net.connect(0);
        let whom = Whom::Client(net.client(ada));
        let options = Box::new(SubOptions::new(channel("chat:a")));
        net.app_only(0, AppCommand::Subscribe { whom: whom.clone(), options });
        net.answer_all();
        net.take(ada);
        let options = SubOptions { recent: Some(1), ..SubOptions::new(channel("chat:a")) };
        let asked = net.send(ada, with(options));
        if is_cut {
            net.cut(ada);
        } else {
            net.app(0, AppCommand::Unsubscribe { whom, channel: channel("chat:a") });
            assert!(matches!(net.take(ada).last(), Some(Received::Push(Push::Unsubscribed { .. }))));
        }
        net.answer_all();
        let answer = net.answer_to(ada, asked).map(|answer| error_code(&answer));
        assert_eq!(answer, (!is_cut).then_some(ErrorCode::Unavailable), "cut: {is_cut}");
        assert_eq!((net.shards[0].stats().subscriptions, net.shards[0].held().pending), (0, 0));
    }
}

#[test]
fn a_client_that_comes_back_without_it_has_left_it() {
    for shards in shard_counts() {
        let mut net = Net::with(shards, Limits::default(), closed());
        let ada = net.connect(0);
        made_for(&mut net, ada, "chat:a");
        let back = net.resume(ada, 1, Vec::new());
        assert_eq!(error_code(&net.ask(back, with(SubOptions::new(channel("chat:a"))))), ErrorCode::Denied);
    }
}

/// A token grants the channel while the client's own `subscribe` waits behind a publication: that one is answered
/// first, and the subscription of the token changes nothing of it.
#[test]
fn the_options_of_a_client_that_was_before_its_token_stay() {
    let hooks = Hooks { connect: true, publish: vec![Pattern::new("chat:*").expect("valid")], ..Hooks::default() };
    let rule = Rule { subscribe: vec![Who::Anyone], ..open_rule("**") };
    let mut net = Net::with_hooks(1, Limits::default(), Rules::new(vec![rule]), hooks);
    let peer = net.open(0);
    net.send(peer, Command::Connect(Box::default()));
    net.answer(HookAnswer::Identity(Identified::default()));
    net.take(peer);
    net.send(peer, publish("chat:a", "1"));
    let asked = net.asked();
    let options = SubOptions { presence: true, ..SubOptions::new(channel("chat:a")) };
    net.send(peer, with(options));
    net.send(peer, Command::Refresh { token: "more".into() });
    let (shard, token, _) = net.asked();
    let granted = Identified { subscribe: vec![channel("chat:a")], ..Identified::default() };
    net.answer_as(shard, token, HookAnswer::Identity(granted));
    net.answer_as(asked.0, asked.1, HookAnswer::Refused(Error::new(ErrorCode::Denied, "no")));
    let subscribed = net.take(peer).into_iter().filter(
        |received| matches!(received, Received::Reply(reply) if matches!(reply.body, ReplyBody::Subscribed(_))),
    );
    assert_eq!(subscribed.count(), 1, "its own");
    net.ask(peer, enter("chat:a", "1"));
    let received = net.take(peer);
    assert_eq!(presence_changes(&received).len(), 1, "{received:?}");
}
