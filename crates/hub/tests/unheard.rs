//! Signals for one client alone on a connection that is polled: until the client has acknowledged the answer that has
//! them, they follow its session to the next connection, once and in order.

mod common;
use common::*;
use fanfare_hub::*;

/// Three signals for a client of shard 0, which polls: the first two are in answer 1.
fn told(net: &mut Net) -> (usize, usize) {
    net.heartbeat = HeartbeatKind::Polls;
    let polled = net.connect(0);
    net.heartbeat = HeartbeatKind::Asks;
    let other = net.connect(1);
    for peer in [polled, other] {
        net.subscribe(peer, "chat:a");
    }
    let (client, conn) = (net.client(polled), net.peers[polled].conn);
    for number in 1..=2 {
        assert_eq!(net.ask(other, signal("chat:a", "offer", &number.to_string(), Some(client))), ReplyBody::Done);
    }
    net.input(0, Input::PollAnswered { client, conn, number: 1, signals: 2 });
    assert_eq!(net.ask(other, signal("chat:a", "offer", "3", Some(client))), ReplyBody::Done);
    assert_eq!(signals(&net.take(polled)), ["1", "2", "3"], "they were said");
    (polled, other)
}

/// It comes back to this shard, with this `ack`, and subscribes to these channels. Returns the signals that it gets.
fn back(net: &mut Net, polled: usize, shard: usize, ack: Option<u64>, channels: &[&str]) -> Vec<String> {
    let resume = Some(Resume { shard: ShardId(0), client: net.client(polled) });
    let subscribe = channels.iter().map(|name| SubOptions::new(channel(name))).collect();
    let back = net.connect_as(shard, Connect { resume, ack, subscribe, ..Connect::default() });
    net.settle();
    assert_eq!(net.client(back), net.client(polled));
    signals(&net.take(back))
}

#[test]
fn what_a_client_has_not_had_comes_again_on_its_next_connection() {
    // Whether it has acknowledged, its `ack`, and what comes again.
    #[rustfmt::skip]
    let rows: [(&str, bool, Option<u64>, &[&str]); 5] = [
        ("the answer was lost", false, Some(0), &["1", "2", "3"]),
        ("it has the answer", false, Some(1), &["3"]),
        ("it has had a later one", false, Some(2), &["3"]),
        ("it does not say", false, None, &["1", "2", "3"]),
        ("it has acknowledged, and does not say", true, None, &["3"]),
    ];
    for shards in shard_counts() {
        for shard in 0..shards {
            for (name, acknowledges, ack, expected) in rows {
                // Its old connection is open, or it was away for a while.
                for is_away in [false, true] {
                    let name = format!("{name}, {shard} of {shards}, away: {is_away}");
                    let mut net = Net::new(shards);
                    let (polled, _) = told(&mut net);
                    let (client, conn) = (net.client(polled), net.peers[polled].conn);
                    if acknowledges {
                        net.input(0, Input::PollAcknowledged { client, conn });
                    }
                    if is_away {
                        net.input(0, Input::Closed { conn, finally: false });
                        net.settle();
                    }
                    assert_eq!(back(&mut net, polled, shard, ack, &["chat:a"]), expected, "{name}");
                }
            }
        }
    }
}

#[test]
fn nothing_comes_of_a_channel_that_is_not_subscribed_again() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let (polled, _) = told(&mut net);
        assert_eq!(back(&mut net, polled, shards - 1, Some(0), &["chat:b"]), [""; 0], "{shards}");
    }
}

/// The last answer of a connection is acknowledged after the hub has closed it.
#[test]
fn an_acknowledgement_counts_after_the_end_of_the_connection() {
    let mut net = Net::new(3);
    let (polled, _) = told(&mut net);
    let (client, conn) = (net.client(polled), net.peers[polled].conn);
    net.input(0, Input::Close { conn, reason: Disconnect::HeartbeatTimeout });
    net.input(0, Input::PollAnswered { client, conn, number: 2, signals: 3 });
    net.input(0, Input::PollAcknowledged { client, conn });
    assert_eq!(back(&mut net, polled, 2, None, &["chat:a"]), [""; 0]);
}
