//! Options of rules beside who may do what: who may read, what a publication says about its sender, and bounds of a
//! channel. Each denial names the rule and the option.

// Clippy allows unwrap in tests, but does not recognise helpers of tests.
#![allow(clippy::unwrap_used)]

mod common;

use bytes::Bytes;
use common::*;
use fanfare_hub::*;
use std::sync::Arc;

fn net(shards: usize, rule: Rule) -> Net {
    Net::with(shards, Limits::default(), Rules::new(vec![rule]))
}

/// Nobody may read it.
fn closed(action: Action) -> Rule {
    let nobody = || vec![Who::Nobody];
    match action {
        Action::ReadHistory => Rule { history_read: nobody(), ..open_rule("**") },
        _ => Rule { presence_read: nobody(), ..open_rule("**") },
    }
}

fn history(name: &str) -> Command {
    Command::History { channel: channel(name), query: HistoryQuery { from: HistoryFrom::Newest, limit: 10 } }
}

fn presence(name: &str) -> Command {
    Command::Presence { channel: channel(name) }
}

fn subscribe_as(options: SubOptions) -> Command {
    Command::Subscribe { subs: vec![options], many: false }
}

fn subscribe(name: &str) -> Command {
    subscribe_as(SubOptions::new(channel(name)))
}

fn option_of(body: &ReplyBody) -> (ErrorCode, Option<&str>, Option<&str>) {
    let ReplyBody::Error(error) = body else { panic!("{body:?}") };
    (error.code, error.rule.as_deref(), error.option)
}

/// `since` is sent by clients of their own accord, so that it is no error: they are told that they lost something.
#[test]
fn a_history_that_may_not_be_read_recovers_nothing() {
    for shards in shard_counts() {
        let mut net = net(shards, closed(Action::ReadHistory));
        let [reader, writer] = [net.connect(0), net.connect(1)];
        let begun = net.subscribe(reader, "a").position;
        net.subscribe(writer, "a");
        net.publish(writer, "a", "1");
        assert_eq!(net.take_messages(reader), ["1"], "a subscription itself needs no such right");
        let denied = (ErrorCode::Denied, Some("**"), Some("history_read"));
        assert_eq!(option_of(&net.ask(reader, history("a"))), denied);
        assert!(matches!(net.ask(reader, presence("a")), ReplyBody::Presence { .. }));
        net.ask(reader, unsubscribe("a"));
        let recent = SubOptions { recent: Some(5), ..SubOptions::new(channel("a")) };
        let asks = subscribe_as(recent);
        assert_eq!(option_of(&net.ask(reader, asks)), denied);
        let again = net.subscribe_with(reader, since("a", begun));
        assert_eq!((again.recovered, again.publications.len()), (Some(false), 0));
        net.publish(writer, "a", "2");
        assert_eq!(net.take_messages(reader), ["2"]);
        // Nothing was missed: there is nothing to read.
        let top = again.position;
        net.ask(reader, unsubscribe("a"));
        let at_top = Position { offset: top.offset + 1, ..top };
        assert_eq!(net.subscribe_with(reader, since("a", at_top)).recovered, Some(true));
    }
}

#[test]
fn a_presence_that_may_not_be_read_is_no_part_of_a_subscription() {
    for shards in shard_counts() {
        let mut net = net(shards, open_rule("**"));
        let [peer, other] = [net.connect(0), net.connect(1)];
        net.subscribe_with(peer, with_presence("a"));
        net.subscribe(peer, "b");
        net.subscribe(other, "a");
        net.take(peer);
        net.take(other);
        net.reload(Rules::new(vec![closed(Action::ReadPresence)]));
        let ended = net.take(peer);
        let [Received::Push(Push::Unsubscribed { channel: of, error })] = &ended[..] else { panic!("{ended:?}") };
        assert_eq!((of.to_string(), error.option), ("a".to_owned(), Some("presence_read")));
        assert!(net.take(other).is_empty(), "it asked for no presence");
        let denied = (ErrorCode::Denied, Some("**"), Some("presence_read"));
        assert_eq!(option_of(&net.ask(other, presence("a"))), denied);
        let asks = subscribe_as(with_presence("a"));
        assert_eq!(option_of(&net.ask(peer, asks)), denied);
        net.subscribe(peer, "a");
        assert!(matches!(net.ask(peer, enter("a", "1")), ReplyBody::Done), "entering is another matter");
        assert!(matches!(net.ask(peer, history("a")), ReplyBody::History(_)));
    }
}

#[test]
fn a_sender_is_shown_as_far_as_the_rule_says() {
    for shards in shard_counts() {
        for (shown, expected) in
            [(SenderShown::Client, true), (SenderShown::User, false), (SenderShown::Nothing, false)]
        {
            let mut net = net(shards, Rule { from: shown, ..open_rule("**") });
            let [peer, other] = [net.connect(0), net.connect(1)];
            net.subscribe(peer, "a");
            net.subscribe(other, "a");
            net.publish(peer, "a", "1");
            let Command::Publish(silent) = publish("a", "2") else { unreachable!() };
            net.ask(peer, Command::Publish(Box::new(Publish { echo: false, ..*silent })));
            assert_eq!(net.take_messages(peer), ["1"], "its own copy is left out, whatever is shown of it");
            assert_eq!(net.take_messages(other), ["1", "2"]);
            let ReplyBody::History(read) = net.ask(other, history("a")) else { panic!("a page") };
            let client = net.client(peer);
            for publication in &read.publications {
                let found = publication.from.as_ref().and_then(|from| from.client);
                assert_eq!(found, expected.then_some(client), "{shown:?}");
                assert_eq!(publication.from.is_some(), expected, "an anonymous sender has no user");
            }
        }
    }
}

#[test]
fn a_rule_bounds_the_size_of_data() {
    for shards in shard_counts() {
        let mut net = net(shards, Rule { max_size: Some(4), rate: None, ..open_rule("**") });
        let peer = net.connect(0);
        net.subscribe(peer, "a");
        net.publish(peer, "a", "1234");
        let refused = (ErrorCode::TooLarge, Some("**"), Some("max_size"));
        assert_eq!(option_of(&net.ask(peer, publish("a", "12345"))), refused);
        assert_eq!(option_of(&net.ask(peer, signal("a", "e", "12345", None))), refused);
        assert!(matches!(net.ask(peer, signal("a", "e", "1234", None)), ReplyBody::Done));
    }
}

/// A client that is refused does not lose what it may still do.
#[test]
fn data_that_is_refused_takes_nothing_of_the_rate() {
    for shards in shard_counts() {
        let rate = Some(RateLimit { count_max: 2, window_ms: 1_000 });
        let mut net = net(shards, Rule { max_size: Some(4), rate, publish: vec![Who::Anyone], ..open_rule("**") });
        let peer = net.connect(0);
        for _ in 0..3 {
            assert_eq!(option_of(&net.ask(peer, publish("a", "12345"))).2, Some("max_size"));
            assert_eq!(option_of(&net.ask(peer, signal("a", "e", "12345", None))).2, Some("max_size"));
        }
        net.publish(peer, "a", "1");
        net.publish(peer, "a", "2");
        assert_eq!(option_of(&net.ask(peer, publish("a", "3"))).2, Some("rate"));
    }
}

/// Exactly as many as the rule says, wherever they are; a place that is left is free.
#[test]
fn a_channel_has_so_many_subscribers() {
    for shards in shard_counts() {
        let mut net = net(shards, Rule { max_subscribers: Some(3), ..open_rule("**") });
        let peers: Vec<usize> = (0..6).map(|shard| net.connect(shard % shards)).collect();
        // All at once: the home is not there yet, so that they wait for it together.
        let ids: Vec<u64> = peers.iter().map(|&peer| net.send_only(peer, subscribe("a"))).collect();
        net.settle();
        let answers: Vec<ReplyBody> =
            peers.iter().zip(&ids).map(|(&peer, &id)| net.answer_to(peer, id).unwrap()).collect();
        let (inside, outside): (Vec<_>, Vec<_>) =
            peers.iter().zip(&answers).partition(|(_, answer)| matches!(answer, ReplyBody::Subscribed(_)));
        assert_eq!((inside.len(), outside.len()), (3, 3), "{answers:?}");
        for (_, answer) in &outside {
            assert_eq!(option_of(answer), (ErrorCode::LimitExceeded, Some("**"), Some("max_subscribers")));
        }
        let denials: u64 = net.shards.iter().flat_map(|it| it.stats().counts.denials).map(|it| it.count).sum();
        assert_eq!(denials, 3, "each is counted by its rule and option");
        let (member, stranger) = (*inside[0].0, *outside[0].0);
        net.ask(member, unsubscribe("a"));
        net.subscribe(stranger, "a");
        assert_eq!(option_of(&net.ask(member, subscribe("a"))).0, ErrorCode::LimitExceeded);
        // A client that comes back on another shard takes its own place.
        net.cut(stranger);
        let back = net.resume(stranger, (net.peers[stranger].shard + 1) % shards, vec![SubOptions::new(channel("a"))]);
        net.publish(back, "a", "1");
        assert_eq!(net.take_messages(back), ["1"]);
        // The application is not bound by it.
        let options = Box::new(SubOptions::new(channel("a")));
        let whom = Whom::Client(net.client(member));
        net.app(0, AppCommand::Subscribe { whom, options });
        net.publish(back, "a", "2");
        assert_eq!(net.take_messages(member), ["2"]);
        // A lower number ends nobody, and lets nobody in.
        net.reload(Rules::new(vec![Rule { max_subscribers: Some(1), ..open_rule("**") }]));
        net.publish(back, "a", "3");
        assert_eq!(net.take_messages(member), ["3"]);
        net.ask(member, unsubscribe("a"));
        assert_eq!(option_of(&net.ask(member, subscribe("a"))).0, ErrorCode::LimitExceeded);
    }
}

/// Takes numbers, doubles those that a handler has not seen, and refuses the rest.
#[derive(Debug)]
struct Numbers;

impl DataCheck for Numbers {
    fn check(&self, given: Given<'_>) -> Result<Option<Bytes>, Error> {
        let text = std::str::from_utf8(given.data).unwrap();
        let Some(number) = text.parse::<u64>().ok().filter(|_| !given.is_binary) else {
            let message = format!("data: {text} is no number ({:?})", given.of);
            return Err(Error::new(ErrorCode::InvalidData, message).by_option("schema"));
        };
        Ok((number < 100).then(|| Bytes::from(format!("{}", number * 2))))
    }
}

fn checked() -> Rule {
    Rule { check: Some(Arc::new(Numbers)), ..open_rule("**") }
}

/// Data of clients and of the application alike, on every shard.
#[test]
fn a_rule_checks_data_and_what_it_makes_of_it_is_published() {
    let refused = (ErrorCode::InvalidData, Some("**"), Some("schema"));
    for shards in shard_counts() {
        let mut net = net(shards, checked());
        let [writer, reader] = [net.connect(0), net.connect(shards - 1)];
        net.subscribe(writer, "a");
        net.subscribe(reader, "a");
        net.publish(writer, "a", "4");
        net.publish(writer, "a", "400");
        assert_eq!(net.take_messages(reader), ["8", "400"]);
        assert_eq!(option_of(&net.ask(writer, publish("a", "\"x\""))), refused);
        assert_eq!(option_of(&net.ask(writer, signal("a", "e", "\"x\"", None))), refused);
        assert!(matches!(net.ask(writer, signal("a", "e", "1", None)), ReplyBody::Done));
        let by_app = |data: &'static str| AppCommand::Publish {
            publish: Box::new(Publish {
                channel: channel("a"),
                data: Data::Json(Bytes::from_static(data.as_bytes())),
                event: None,
                idempotency_key: None,
                echo: true,
            }),
            audience: None,
            by: None,
        };
        let AppAnswer::Error(error) = net.app(0, by_app("[]")) else { panic!("a refusal") };
        assert_eq!(option_of(&ReplyBody::Error(error)), refused);
        assert!(matches!(net.app(0, by_app("5")), AppAnswer::Published { .. }));
        assert_eq!(net.take_messages(reader), ["10"]);
        let counts = net.shards.iter().map(|shard| shard.stats().counts);
        let denials: u64 = counts.flat_map(|counts| counts.denials).map(|denied| denied.count).sum();
        assert_eq!(denials, 2, "those of clients are counted by rule and option");
    }
}

/// The check may make data longer: the bounds hold for what is published.
#[test]
fn data_that_a_check_makes_longer_is_bounded_too() {
    for shards in shard_counts() {
        let mut net = net(shards, Rule { max_size: Some(2), ..checked() });
        let peer = net.connect(0);
        net.subscribe(peer, "a");
        net.publish(peer, "a", "49");
        let refused = (ErrorCode::TooLarge, Some("**"), Some("max_size"));
        assert_eq!(option_of(&net.ask(peer, publish("a", "50"))), refused);
    }
}
