//! What the application is notified of about channels.

use super::*;

fn with_notices() -> Hooks {
    let patterns = vec![Pattern::new("chat:*").unwrap()];
    let channels = ChannelNotices {
        occupancy: patterns.clone(),
        join: patterns.clone(),
        leave: patterns.clone(),
        published: patterns,
    };
    Hooks { channels, ..Hooks::default() }
}

/// The notices so far, in words.
fn told(net: &mut Net) -> Vec<String> {
    let word = |notice: Notice| match notice {
        Notice::Channel { channel, event, .. } => match event {
            ChannelEvent::Occupied => format!("{channel} occupied"),
            ChannelEvent::Vacated => format!("{channel} vacated"),
            ChannelEvent::Joined(entry) => format!("{channel} join {}", String::from_utf8_lossy(&entry.data)),
            ChannelEvent::Left(entry) => format!("{channel} leave {}", String::from_utf8_lossy(&entry.data)),
            ChannelEvent::Published { publication, .. } => {
                format!("{channel} {} {}", publication.offset, String::from_utf8_lossy(publication.data.bytes()))
            }
        },
        other => panic!("{other:?}"),
    };
    std::mem::take(&mut net.notices).into_iter().map(word).collect()
}

#[test]
fn a_channel_is_occupied_and_vacated_and_its_publications_come_in_order() {
    for shards in shard_counts() {
        let mut net = net(shards, with_notices());
        let (ada, bob) = (net.connect(0), net.connect(1));
        net.subscribe(ada, "chat:a");
        net.subscribe(bob, "chat:a");
        net.subscribe(bob, "other:a");
        assert_eq!(told(&mut net), ["chat:a occupied"], "{shards}: once, and not of other channels");
        for number in 1..=3 {
            net.publish(if number == 2 { bob } else { ada }, "chat:a", &number.to_string());
        }
        let app = AppCommand::Publish {
            publish: Box::new(Publish {
                channel: channel("chat:b"),
                data: Data::Json(Bytes::from_static(b"4")),
                event: None,
                idempotency_key: Some("k".into()),
                echo: true,
            }),
            audience: None,
            by: None,
        };
        net.app(0, app.clone());
        net.app(0, app);
        assert_eq!(
            told(&mut net),
            ["chat:a 1 1", "chat:a 2 2", "chat:a 3 3", "chat:b 1 4"],
            "{shards}: a duplicate is none"
        );
        net.ask(ada, enter("chat:a", "{\"n\":1}"));
        net.ask(ada, enter("chat:a", "{\"n\":2}"));
        assert_eq!(told(&mut net), ["chat:a join {\"n\":1}"], "{shards}: another value is no join");
        net.ask(ada, Command::Unsubscribe { channel: channel("chat:a") });
        assert_eq!(told(&mut net), ["chat:a leave {\"n\":2}"], "{shards}: bob is there");
        net.ask(bob, Command::Unsubscribe { channel: channel("chat:a") });
        net.pass(11_000);
        assert_eq!(told(&mut net), ["chat:a vacated"], "{shards}");
        net.subscribe(ada, "chat:a");
        assert_eq!(told(&mut net), ["chat:a occupied"], "{shards}");
    }
}

/// Long before the channel is given up.
#[test]
fn a_channel_is_vacated_soon_after_its_last_subscription() {
    for shards in shard_counts() {
        let mut net = net(shards, with_notices());
        let (ada, bob) = (net.connect(0), net.connect(1));
        net.subscribe(ada, "chat:a");
        net.subscribe(bob, "chat:a");
        net.ask(ada, Command::Unsubscribe { channel: channel("chat:a") });
        net.pass(500);
        assert_eq!(told(&mut net), ["chat:a occupied"], "{shards}: bob is there");
        net.cut(bob);
        net.pass(500);
        assert_eq!(told(&mut net), ["chat:a vacated"], "{shards}");
    }
}

/// A short cut is no change: neither of the presence, nor for a subscription that is made again at once.
#[test]
fn a_client_that_comes_back_in_time_is_no_news() {
    for shards in shard_counts() {
        let mut net = net(shards, with_notices());
        let ada = net.connect(0);
        net.subscribe(ada, "chat:a");
        net.ask(ada, enter("chat:a", "{}"));
        told(&mut net);
        net.cut(ada);
        let back = net.resume(ada, 1, vec![SubOptions::new(channel("chat:a"))]);
        assert_eq!(told(&mut net), Vec::<String>::new(), "{shards}");
        net.cut(back);
        net.pass(30_000);
        let mut last = told(&mut net);
        last.sort();
        assert_eq!(last, ["chat:a leave {}", "chat:a vacated"], "{shards}");
    }
}

#[test]
fn nobody_is_told_who_did_not_ask() {
    let mut net = net(2, hooks(false, &[], &[]));
    let ada = net.connect(0);
    net.subscribe(ada, "chat:a");
    net.publish(ada, "chat:a", "1");
    assert_eq!(net.notices, []);
}

/// A list that grows tells of channels that are in use already; one that shrinks tells nothing more of the others.
#[test]
fn other_channels_are_notified_of_after_a_reload() {
    let only = |pattern| {
        let patterns = vec![Pattern::new(pattern).unwrap()];
        let channels = ChannelNotices { occupancy: patterns.clone(), published: patterns, ..ChannelNotices::default() };
        Hooks { channels, ..Hooks::default() }
    };
    for shards in shard_counts() {
        let mut net = net(shards, only("chat:a"));
        let ada = net.connect(0);
        net.subscribe(ada, "chat:a");
        net.subscribe(ada, "chat:b");
        assert_eq!(told(&mut net), ["chat:a occupied"], "{shards}");
        net.reload_hooks(only("chat:b"));
        assert_eq!(told(&mut net), ["chat:b occupied"], "{shards}");
        for name in ["chat:a", "chat:b", "chat:c"] {
            net.publish(ada, name, "1");
        }
        assert_eq!(told(&mut net), ["chat:b 1 1"], "{shards}");
        net.reload_hooks(only("chat:*"));
        assert_eq!(told(&mut net), Vec::<String>::new(), "{shards}: it has been notified of both");
        for name in ["chat:a", "chat:b"] {
            net.ask(ada, Command::Unsubscribe { channel: channel(name) });
        }
        net.pass(11_000);
        let mut last = told(&mut net);
        last.sort();
        assert_eq!(last, ["chat:a vacated", "chat:b vacated"], "{shards}");
    }
}

#[test]
fn each_kind_of_notice_has_channels_of_its_own() {
    let only = |pattern| vec![Pattern::new(pattern).unwrap()];
    let channels = ChannelNotices {
        occupancy: only("chat:a"),
        join: only("chat:b"),
        leave: only("chat:c"),
        published: only("chat:d"),
    };
    for shards in shard_counts() {
        let mut net = net(shards, Hooks { channels: channels.clone(), ..Hooks::default() });
        let ada = net.connect(0);
        let mut seen = Vec::new();
        for name in ["chat:a", "chat:b", "chat:c", "chat:d"] {
            net.subscribe(ada, name);
            net.ask(ada, enter(name, "1"));
            net.publish(ada, name, "1");
            net.ask(ada, Command::Unsubscribe { channel: channel(name) });
            net.pass(11_000);
            seen.extend(told(&mut net));
        }
        let expected = ["chat:a occupied", "chat:a vacated", "chat:b join 1", "chat:c leave 1", "chat:d 1 1"];
        assert_eq!(seen, expected, "{shards}");
    }
}
