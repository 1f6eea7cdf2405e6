//! Every limit that a client or the application can reach is counted by its name where it is reached. (Quotas have a
//! file of their own.)

// Clippy allows unwrap in tests, but does not recognise helpers of tests.
#![allow(clippy::unwrap_used)]

mod common;

use bytes::Bytes;
use common::*;
use fanfare_hub::*;

/// How often this limit was reached, on all shards.
fn counted(net: &Net, limit: &str) -> u64 {
    let of = |shard: &Shard| shard.stats().counts.limits.iter().find(|(name, _)| *name == limit).map_or(0, |it| it.1);
    net.shards.iter().map(of).sum()
}

fn long(bytes: usize) -> String {
    format!("\"{}\"", "x".repeat(bytes))
}

fn by_app(net: &mut Net, data: String) -> AppAnswer {
    let publish = Publish {
        channel: channel("a"),
        data: Data::Json(Bytes::from(data)),
        event: None,
        idempotency_key: None,
        echo: true,
    };
    net.app(0, AppCommand::Publish { publish: Box::new(publish), audience: None, by: None })
}

/// A limit, the value that the test gives it, and what reaches it how often.
struct Row {
    name: &'static str,
    set: fn(&mut Limits),
    reach: fn(&mut Net),
    times: u64,
}

#[rustfmt::skip]
const ROWS: &[Row] = &[
    Row {
        name: "message_bytes_max", set: |limits| limits.message_bytes_max = 10, times: 3,
        reach: |net| {
            let peer = net.connect(0);
            net.subscribe(peer, "a");
            net.ask(peer, publish("a", &long(20)));
            net.ask(peer, signal("a", "e", &long(20), None));
            by_app(net, long(20));
        },
    },
    Row {
        name: "subscriptions_max", set: |limits| limits.subscriptions_max = 1, times: 1,
        reach: |net| {
            let peer = net.connect(0);
            net.subscribe(peer, "a");
            net.ask(peer, Command::Subscribe { subs: vec![SubOptions::new(channel("b"))], many: false });
        },
    },
    Row {
        name: "presence_bytes_max", set: |limits| limits.presence_bytes_max = 10, times: 1,
        reach: |net| {
            let peer = net.connect(0);
            net.subscribe(peer, "a");
            net.ask(peer, enter("a", &long(20)));
        },
    },
    Row {
        name: "presence_entries_max", set: |limits| limits.presence_entries_max = 2, times: 1,
        reach: |net| for _ in 0..4 {
            let peer = net.connect(0);
            net.subscribe(peer, "a");
            net.ask(peer, enter("a", "1"));
        },
    },
    Row {
        name: "outbox_bytes_max", set: |limits| limits.outbox_bytes_max = 1_000, times: 1,
        reach: |net| {
            let [writer, reader] = [net.connect(0), net.connect(0)];
            net.subscribe(reader, "a");
            net.peers[reader].reads = false;
            net.publish_all(writer, "a", 1..=90);
        },
    },
    Row {
        name: "bad_requests_per_minute_max", set: |limits| limits.bad_requests_per_minute_max = 2, times: 1,
        reach: |net| {
            let peer = net.connect(0);
            for _ in 0..3 {
                net.send(peer, Command::Invalid(Error::new(ErrorCode::BadRequest, "no command")));
            }
        },
    },
    Row {
        name: "signals_waiting_max", set: |limits| limits.signals_waiting_max = 2, times: 3,
        reach: |net| {
            let [writer, reader] = [net.connect(0), net.connect(0)];
            net.subscribe(writer, "a");
            net.subscribe(reader, "a");
            net.ask(reader, enter("a", "1"));
            net.cut(reader);
            for event in ["1", "2", "3", "4", "5"] {
                net.ask(writer, signal("a", event, "1", Some(net.client(reader))));
            }
        },
    },
    Row {
        name: "app_outstanding_max", set: |limits| limits.app_outstanding_max = 0, times: 1,
        reach: |net| drop(by_app(net, "1".to_owned())),
    },
    Row {
        name: "forwarded_max", set: |limits| limits.forwarded_max = 0, times: 1,
        reach: |net| {
            let peer = net.connect(0);
            let token = net.forward_only(0, peer, publish("a", "1"));
            net.settle();
            assert!(net.forwarded(token).is_some());
        },
    },
    Row {
        name: "grants_max", set: |limits| limits.grants_max = 1, times: 1,
        reach: |net| {
            let grant = || Grant { pattern: Pattern::new("a").unwrap(), allow: vec![Action::Publish] };
            let peer = net.open(0);
            net.send(peer, Command::Connect(Box::default()));
            let identified = Identified { grants: vec![grant(), grant()], ..Identified::default() };
            net.answer(HookAnswer::Identity(identified));
        },
    },
    Row {
        name: "questions_max", set: |limits| limits.questions_max = 0, times: 1,
        reach: |net| {
            let peer = net.connect(0);
            net.ask(peer, Command::Rpc { method: "m".into(), data: Bytes::from_static(b"1") });
        },
    },
    Row {
        name: "session_questions_max", set: |limits| limits.session_questions_max = 1, times: 2,
        reach: |net| {
            let peer = net.connect(0);
            for _ in 0..3 {
                net.send(peer, Command::Rpc { method: "m".into(), data: Bytes::from_static(b"1") });
            }
            net.settle();
        },
    },
    Row {
        name: "history_bytes_max", set: |limits| limits.history_bytes_max = 1, times: 3,
        reach: |net| {
            let peer = net.connect(0);
            net.publish_all(peer, "a", 1..=3);
        },
    },
    Row {
        name: "idempotency_keys_bytes_max", set: |limits| limits.idempotency_keys_bytes_max = 1, times: 2,
        reach: |net| for key in ["1", "2"] {
            let mut it = Publish {
                channel: channel("a"), data: Data::Json(Bytes::from_static(b"1")), event: None, idempotency_key: None, echo: true,
            };
            it.idempotency_key = Some(key.into());
            net.app(0, AppCommand::Publish { publish: Box::new(it), audience: None, by: None });
        },
    },
    Row {
        name: "away_bytes_max", set: |limits| limits.away_bytes_max = 1, times: 2,
        reach: |net| for _ in 0..2 {
            let peer = net.connect(0);
            net.cut(peer);
        },
    },
    Row {
        name: "fanout_waiting_max", set: |limits| limits.fanout_waiting_max = 0, times: 1,
        reach: |net| {
            let peer = net.connect(0);
            net.subscribe(peer, "a");
            net.publish(peer, "a", "1");
        },
    },
    Row {
        name: "fanout_waiting_bytes_max",
        set: |limits| (limits.fanout_waiting_bytes_max, limits.fanout_slice) = (0, 1), times: 1,
        reach: |net| {
            let peers = [net.connect(0), net.connect(0), net.connect(0)];
            peers.iter().for_each(|&peer| drop(net.subscribe(peer, "a")));
            for n in ["1", "2"] {
                net.send_only(peers[0], publish("a", n));
            }
            net.settle();
        },
    },
    Row {
        name: "link_bytes_max", set: |limits| limits.link_bytes_max = 0, times: 2, // one for each shard
        reach: |net| {
            for shard in [0, 1] {
                let peer = net.connect(shard);
                net.subscribe(peer, "a");
            }
            by_app(net, "1".to_owned());
        },
    },
    Row {
        name: "moved_bytes_max", set: |limits| limits.moved_bytes_max = 1, times: 1,
        reach: |net| {
            let peer = net.connect(0);
            net.cut(peer);
            net.resume(peer, 1, Vec::new());
        },
    },
    Row {
        name: "presence_left_max", set: |limits| limits.presence_left_max = 1, times: 1,
        reach: |net| for _ in 0..2 {
            let peer = net.connect(0);
            net.cut(peer);
            let peer = net.resume(peer, 0, Vec::new()); // only such sessions are remembered
            net.subscribe(peer, "a");
            net.ask(peer, enter("a", "1"));
            net.ask(peer, Command::PresenceClear { channel: channel("a") });
        },
    },
];

/// These are about what goes from one shard to another.
const OF_SHARDS: [&str; 3] = ["link_bytes_max", "moved_bytes_max", "presence_left_max"];

#[test]
fn each_limit_is_counted_by_its_name() {
    for Row { name, set, reach, times } in ROWS {
        let mut limits = Limits::default();
        set(&mut limits);
        let hooks = Hooks { connect: *name == "grants_max", rpc: true, ..Hooks::default() };
        let shards = if OF_SHARDS.contains(name) { 2 } else { 1 };
        let mut net = Net::with_hooks(shards, limits, open_rules(), hooks);
        reach(&mut net);
        let found: Vec<_> = net.shards.iter().flat_map(|shard| shard.stats().counts.limits).collect();
        assert_eq!(counted(&net, name), *times, "{name}: {found:?}");
        assert_eq!(found.len(), 1, "{name}: nothing else was reached: {found:?}");
    }
}
