//! The counters of a shard, by exact amounts, and its notes for the log: the client, the place, the rule and the
//! option.

mod common;
use common::*;
use fanfare_hub::*;

/// The counts of all shards together.
fn counts(net: &Net) -> Counts {
    let mut all = Counts { errors: vec![0; ERRORS.len()], ..Counts::default() };
    for shard in &net.shards {
        let counts = shard.stats().counts;
        all.publications += counts.publications;
        all.duplicates += counts.duplicates;
        all.signals += counts.signals;
        all.recovered += counts.recovered;
        all.not_recovered += counts.not_recovered;
        all.behind += counts.behind;
        all.pulls += counts.pulls;
        all.errors.iter_mut().zip(&counts.errors).for_each(|(all, more)| *all += more);
        all.denials.extend(counts.denials);
    }
    all
}

fn errors(counts: &Counts, code: ErrorCode) -> u64 {
    counts.errors[ERRORS.iter().position(|row| row.code == code).expect("a row")]
}

/// The notes about a client; all other notes are dropped.
fn notes_of(net: &mut Net, client: ClientId) -> Vec<Noted> {
    let notes = std::mem::take(&mut net.notes);
    notes.into_iter().filter(|note| note.client == Some(client)).map(|note| note.what).collect()
}

#[test]
fn publications_duplicates_and_signals_are_counted_at_home() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let ada = net.connect(0);
        net.subscribe(ada, "chat:a");
        net.publish_all(ada, "chat:a", 1..=5);
        for _ in 0..3 {
            let Command::Publish(mut keyed) = publish("chat:b", "1") else { unreachable!() };
            keyed.idempotency_key = Some("k".into());
            net.ask(ada, Command::Publish(keyed));
        }
        net.ask(ada, signal("chat:a", "typing", "1", None));
        let counts = counts(&net);
        assert_eq!((counts.publications, counts.duplicates, counts.signals), (6, 2, 1));
        assert_eq!(net.notes, [], "nobody will ask about any of this");
    }
}

#[test]
fn a_denial_names_client_user_channel_rule_and_option() {
    for shards in shard_counts() {
        let mut strict = open_rule("news:*");
        strict.publish = vec![Who::Server];
        let mut slowly = open_rule("slow:*");
        slowly.rate = Some(RateLimit { count_max: 1, window_ms: 60_000 });
        let rules = Rules::new(vec![strict, open_rule("inbox:{user}"), slowly]);
        let mut net = Net::with(shards, Limits::default(), rules);
        let user = UserId("bob".into());
        let bob = net.connect_as(1, Connect { user: Some(user.clone()), ..Connect::default() });
        net.subscribe(bob, "slow:a");
        net.publish(bob, "slow:a", "1");
        net.ask(bob, publish("slow:a", "2"));
        net.ask(bob, publish("news:a", "1"));
        net.ask(bob, Command::Subscribe { subs: vec![SubOptions::new(channel("inbox:ada"))], many: false });
        net.ask(bob, Command::Subscribe { subs: vec![SubOptions::new(channel("nowhere"))], many: true });
        let counts = counts(&net);
        let mut denials: Vec<_> = counts.denials.iter().map(|d| (&*d.rule, d.option, d.count)).collect();
        denials.sort_unstable();
        let expected =
            [("(none)", "match", 1), ("inbox:{user}", "subscribe", 1), ("news:*", "publish", 1), ("slow:*", "rate", 1)];
        assert_eq!(denials, expected);
        assert_eq!(errors(&counts, ErrorCode::Denied), 2);
        assert!(net.notes.iter().all(|note| note.user.as_ref() == Some(&user)));
        let client = net.client(bob);
        let said: Vec<_> = notes_of(&mut net, client)
            .into_iter()
            .map(|what| match what {
                Noted::Denied(error) => (error.channel.expect("a channel").to_string(), error.option),
                other => panic!("not a denial: {other:?}"),
            })
            .collect();
        let said: Vec<_> = said.iter().map(|(channel, option)| (channel.as_str(), *option)).collect();
        let expected = [
            ("slow:a", Some("rate")),
            ("news:a", Some("publish")),
            ("inbox:ada", Some("subscribe")),
            ("nowhere", None),
        ];
        assert_eq!(said, expected);
    }
}

#[test]
fn recoveries_slow_readers_and_gaps_are_counted_and_said() {
    for shards in shard_counts() {
        let mut rule = open_rule("**");
        rule.history.count = 5;
        let limits = Limits { outbox_bytes_max: 2_000, page_bytes_max: 1_500, ..Limits::default() };
        let mut net = Net::with(shards, limits, Rules::new(vec![rule]));
        let (ada, bob) = (net.connect(0), net.connect(1));
        let start = net.subscribe(bob, "chat:a").position;
        net.publish(ada, "chat:a", "1");
        let bob = net.resume(bob, 1, vec![since("chat:a", start)]);
        assert_eq!((counts(&net).recovered, counts(&net).not_recovered), (1, 0));

        net.peers[bob].reads = false;
        net.publish_all(ada, "chat:a", 2..=100);
        let behind: usize = net.shards.iter().map(|shard| shard.stats().behind).sum();
        assert_eq!((counts(&net).behind, counts(&net).pulls, behind), (1, 0, 1));
        net.read_again(bob);
        assert!(counts(&net).pulls >= 1);
        let client = net.client(bob);
        let lost = Noted::Gap { channel: channel("chat:a"), reset: false };
        let moved = || Noted::Closed(Disconnect::Moved); // its earlier connection
        assert_eq!(notes_of(&mut net, client), [moved(), Noted::Behind, lost]);

        let bob = net.resume(bob, 2, vec![since("chat:a", start)]);
        assert_eq!((counts(&net).recovered, counts(&net).not_recovered), (1, 1));
        let client = net.client(bob);
        let not_recovered = Noted::NotRecovered { channel: channel("chat:a") };
        assert_eq!(notes_of(&mut net, client), [moved(), not_recovered]);

        net.peers[bob].reads = false;
        net.publish_all(ada, "chat:a", 101..=200);
        net.cut(bob);
        let behind: usize = net.shards.iter().map(|shard| shard.stats().behind).sum();
        assert_eq!(behind, 0, "a client that is gone is not behind");
    }
}

#[test]
fn abuse_and_reloads_are_said() {
    let mut net = Net::new(1);
    let (ada, bob) = (net.connect(0), net.connect(0));
    net.subscribe(ada, "chat:a");
    let bob_is = net.client(bob);
    for _ in 0..=net.limits.bad_requests_per_minute_max {
        net.send(bob, Command::Invalid(Error::new(ErrorCode::BadRequest, "no JSON")));
    }
    assert_eq!(notes_of(&mut net, bob_is), [Noted::Closed(Disconnect::Abuse)], "one line for a hundred bad messages");
    assert_eq!(errors(&counts(&net), ErrorCode::BadRequest), 101);
    let mut closed = open_rule("**");
    closed.subscribe = vec![Who::Nobody];
    net.reload(Rules::new(vec![closed]));
    let notes: Vec<_> = std::mem::take(&mut net.notes).into_iter().map(|note| note.what).collect();
    assert!(matches!(&notes[0], Noted::Unsubscribed(error) if error.option == Some("subscribe")), "{notes:?}");
    assert_eq!(notes[1..], [Noted::Reloaded { rules: 1, ended: 1 }]);
}

#[test]
fn a_publication_begins_once_on_a_shard_and_only_where_somebody_is_told() {
    let limits = Limits { fanout_slice: 2, ..Limits::default() };
    let mut net = Net::with(1, limits, open_rules());
    let peers: Vec<_> = (0..7).map(|_| net.connect(0)).collect();
    for &peer in &peers {
        net.subscribe(peer, "chat:a");
    }
    let mut begun = Vec::new();
    let mut effects = Effects::new();
    let conn = net.peers[peers[0]].conn;
    for (name, payload) in [("chat:a", "1"), ("chat:empty", "2")] {
        let request = Request { id: None, command: publish(name, payload) };
        let mut input = Input::Command { conn, seat: Seat::default(), request };
        for slice in 0.. {
            assert!(slice < 1_000, "the fan-out does not end");
            effects.clear();
            net.shards[0].handle(net.now, input, &mut effects);
            begun.extend_from_slice(effects.begun_ms());
            if !effects.again() {
                break;
            }
            input = Input::Continue;
        }
    }
    assert_eq!(begun, [net.now.wall_ms], "four slices, one beginning; nobody follows the other channel");
}
