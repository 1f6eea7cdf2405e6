//! `read`: how far back a channel's clients read, wherever they ask: with a subscription, by its recovery, in pages of
//! the history.

// Clippy allows unwrap in tests, but does not recognise helpers of tests.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use fanfare_hub::*;

fn rules(read: Past) -> Rules {
    Rules::new(vec![Rule { read, ..open_rule("**") }])
}

fn net(shards: usize, read: Past) -> Net {
    Net::with(shards, Limits::default(), rules(read))
}

fn recent(name: &str) -> SubOptions {
    SubOptions { recent: Some(100), ..SubOptions::new(channel(name)) }
}

fn subscribe(options: SubOptions) -> Command {
    Command::Subscribe { subs: vec![options], many: false }
}

/// What a subscription begins with.
fn got(begun: &Subscribed) -> Vec<String> {
    begun.publications.iter().map(|p| String::from_utf8(p.data.bytes().to_vec()).unwrap()).collect()
}

fn error_of(body: &ReplyBody) -> (ErrorCode, Option<&str>, Option<&str>) {
    let ReplyBody::Error(error) = body else { panic!("{body:?}") };
    (error.code, error.rule.as_deref(), error.option)
}

/// A page of the history, and whether publications are missing before it.
fn page(net: &mut Net, peer: usize, from: HistoryFrom) -> (Vec<String>, bool) {
    let query = HistoryQuery { from, limit: 100 };
    let ReplyBody::History(history) = net.ask(peer, Command::History { channel: channel("a"), query }) else {
        panic!("a page")
    };
    let publications = history.publications.iter().map(|p| String::from_utf8(p.data.bytes().to_vec()).unwrap());
    assert!(!history.more);
    (publications.collect(), history.gap)
}

fn texts(numbers: std::ops::RangeInclusive<u32>) -> Vec<String> {
    numbers.map(|n| n.to_string()).collect()
}

/// Everything that a client can ask for, before and after a cut, in a channel where 1 to 3 stood before it came.
#[test]
fn a_client_reads_as_far_back_as_the_rule_says() {
    for shards in shard_counts() {
        for read in Past::ALL {
            let name = format!("{read:?}, {shards} shards");
            let mut net = net(shards, read);
            let [writer, early] = [net.connect(0), net.connect(shards - 1)];
            let begun = net.subscribe(early, "a").position;
            net.publish_all(writer, "a", 1..=3);
            let reader = net.connect(shards - 1);
            let all = read == Past::All;
            // `recent`.
            let denied = (ErrorCode::Denied, Some("**"), Some("read"));
            if read == Past::Nothing {
                assert_eq!(error_of(&net.ask(reader, subscribe(recent("a")))), denied, "{name}");
                net.subscribe(reader, "a");
            } else {
                let first = net.subscribe_with(reader, recent("a"));
                assert_eq!(got(&first), if all { texts(1..=3) } else { vec![] }, "{name}");
            }
            net.publish_all(writer, "a", 4..=5);
            assert_eq!(net.take_messages(reader), texts(4..=5), "{name}: live");
            // Pages, in every direction.
            let after = |offset| HistoryFrom::Since(Position { offset, ..begun });
            let before = |offset| HistoryFrom::Before(Position { offset, ..begun });
            let rows = [
                ("newest", HistoryFrom::Newest, texts(1..=5), texts(4..=5)),
                ("since the beginning", HistoryFrom::Since(begun), texts(1..=5), texts(4..=5)),
                ("since the place before the join", after(2), texts(3..=5), texts(4..=5)),
                ("since the join", after(3), texts(4..=5), texts(4..=5)),
                ("since a place after the join", after(4), texts(5..=5), texts(5..=5)),
                ("before the newest", before(5), texts(1..=4), texts(4..=4)),
                ("before the join", before(3), texts(1..=2), vec![]),
            ];
            for (row, from, whole, since_join) in rows {
                let query = HistoryQuery { from, limit: 100 };
                match read {
                    Past::All => assert_eq!(page(&mut net, reader, from), (whole, false), "{name}: {row}"),
                    Past::SinceJoin => {
                        let gap = matches!(from, HistoryFrom::Since(at) if at.offset < begun.offset + 3);
                        assert_eq!(page(&mut net, reader, from), (since_join, gap), "{name}: {row}");
                    }
                    Past::Nothing => {
                        let answer = net.ask(reader, Command::History { channel: channel("a"), query });
                        assert_eq!(error_of(&answer), denied, "{name}: {row}");
                    }
                }
            }
            // A cut: the client comes back to its session, on another shard too.
            net.cut(reader);
            net.publish_all(writer, "a", 6..=7);
            let shard = (net.peers[reader].shard + 1) % shards;
            let back = net.resume(reader, shard, vec![since("a", Position { offset: 5, ..begun })]);
            let missed: Vec<String> = if read == Past::Nothing { vec![] } else { texts(6..=7) };
            let answer = net.take(back).into_iter().find_map(|it| match it {
                Received::Reply(Reply { body: ReplyBody::Subscribed(begun), .. }) => Some(begun),
                _ => None,
            });
            let answer = answer.unwrap();
            assert_eq!((answer.recovered, got(&answer)), (Some(read != Past::Nothing), missed), "{name}: a cut");
            if read == Past::SinceJoin {
                assert_eq!(page(&mut net, back, HistoryFrom::Newest), (texts(4..=7), false), "{name}: where it joined");
            }
        }
    }
}

/// Another session, and a subscription that was ended, have joined later: they are told that they lost something.
#[test]
fn a_new_subscription_does_not_go_on_from_before_it() {
    for shards in shard_counts() {
        let mut net = net(shards, Past::SinceJoin);
        let [writer, reader] = [net.connect(0), net.connect(shards - 1)];
        let begun = net.subscribe(reader, "a").position;
        net.publish_all(writer, "a", 1..=2);
        net.take(reader);
        let from_begin = || SubOptions { recent: Some(100), ..since("a", begun) };
        let stranger = net.connect(shards - 1);
        let answer = net.subscribe_with(stranger, from_begin());
        assert_eq!((answer.recovered, got(&answer)), (Some(false), vec![]), "a new session");
        net.ask(reader, unsubscribe("a"));
        let newest =
            Command::History { channel: channel("a"), query: HistoryQuery { from: HistoryFrom::Newest, limit: 9 } };
        let not_subscribed = (ErrorCode::NotSubscribed, Some("**"), Some("read"));
        assert_eq!(error_of(&net.ask(reader, newest)), not_subscribed, "it has left");
        net.publish_all(writer, "a", 3..=3);
        let answer = net.subscribe_with(reader, from_begin());
        assert_eq!((answer.recovered, got(&answer)), (Some(false), vec![]), "it joins again");
        net.publish_all(writer, "a", 4..=4);
        assert_eq!(page(&mut net, reader, HistoryFrom::Newest), (texts(4..=4), false));
        // Nothing was missed: that is no past.
        let top = Position { offset: begun.offset + 4, ..begun };
        let later = net.connect(0);
        assert_eq!(net.subscribe_with(later, since("a", top)).recovered, Some(true));
    }
}

/// A client that comes back to its session and does not name the channel has left it.
#[test]
fn a_join_is_forgotten_with_the_subscription() {
    for shards in shard_counts() {
        let mut net = net(shards, Past::SinceJoin);
        let [writer, reader] = [net.connect(0), net.connect(shards - 1)];
        let begun = net.subscribe(reader, "a").position;
        net.publish_all(writer, "a", 1..=2);
        net.cut(reader);
        let shard = net.peers[reader].shard;
        let back = net.resume(reader, shard, vec![]);
        let answer = net.subscribe_with(back, since("a", begun));
        assert_eq!((answer.recovered, got(&answer)), (Some(false), vec![]));
        // Nor does one whose return was denied.
        net.publish_all(writer, "a", 3..=3);
        net.cut(back);
        net.reload(Rules::new(vec![Rule { subscribe: vec![Who::Nobody], ..open_rule("**") }]));
        let back = net.resume(back, shard, vec![since("a", answer.position)]);
        net.reload(rules(Past::SinceJoin));
        let answer = net.subscribe_with(back, since("a", answer.position));
        assert_eq!((answer.recovered, got(&answer)), (Some(false), vec![]));
    }
}

#[test]
fn a_reload_begins_at_the_place_of_each_subscription() {
    for shards in shard_counts() {
        let mut net = net(shards, Past::All);
        let [writer, reader] = [net.connect(0), net.connect(shards - 1)];
        net.subscribe(reader, "a");
        net.publish_all(writer, "a", 1..=2);
        net.take(reader);
        net.reload(rules(Past::SinceJoin));
        net.publish_all(writer, "a", 3..=4);
        assert_eq!(page(&mut net, reader, HistoryFrom::Newest), (texts(3..=4), false));
    }
}

/// What a slow reader has not got yet is no past: it was subscribed when it was published.
#[test]
fn a_slow_reader_pulls_whatever_the_rule_says() {
    for shards in shard_counts() {
        for read in Past::ALL {
            let limits = Limits { outbox_bytes_max: 2_000, ..Limits::default() };
            let mut net = Net::with(shards, limits, rules(read));
            let [writer, reader] = [net.connect(0), net.connect(shards - 1)];
            net.subscribe(reader, "a");
            net.peers[reader].reads = false;
            net.publish_all(writer, "a", 1..=90);
            net.read_again(reader);
            assert_eq!(net.take_messages(reader), texts(1..=90), "{read:?}");
        }
    }
}

/// The application reads everything, and may show it to a client that it subscribes.
#[test]
fn the_application_is_not_bound_by_it() {
    for shards in shard_counts() {
        for read in Past::ALL {
            let mut net = net(shards, read);
            let [writer, reader] = [net.connect(0), net.connect(shards - 1)];
            net.publish_all(writer, "a", 1..=3);
            let query = HistoryQuery { from: HistoryFrom::Newest, limit: 100 };
            let AppAnswer::History(history) = net.app(0, AppCommand::History { channel: channel("a"), query }) else {
                panic!("a page")
            };
            assert_eq!(history.publications.len(), 3, "{read:?}");
            let whom = Whom::Client(net.client(reader));
            net.app(0, AppCommand::Subscribe { whom, options: Box::new(recent("a")) });
            let begun = net.take(reader).into_iter().find_map(|it| match it {
                Received::Push(Push::Subscribed(begun)) => Some(got(&begun)),
                _ => None,
            });
            assert_eq!(begun.unwrap(), texts(1..=3), "{read:?}");
        }
    }
}

#[test]
fn the_past_is_hidden_from_those_whom_the_application_subscribes_too() {
    for shards in shard_counts() {
        let mut net = net(shards, Past::Nothing);
        let reader = net.connect(shards - 1);
        let (whom, options) = (Whom::Client(net.client(reader)), Box::new(SubOptions::new(channel("a"))));
        assert_eq!(net.app(0, AppCommand::Subscribe { whom, options }), AppAnswer::Concerned(1));
        let query = HistoryQuery { from: HistoryFrom::Newest, limit: 100 };
        let body = net.ask(reader, Command::History { channel: channel("a"), query });
        assert_eq!(error_of(&body), (ErrorCode::Denied, Some("**"), Some("read")), "{shards} shards");
    }
}
