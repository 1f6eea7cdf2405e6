//! Kept subscriptions: a client that has one, its returns, and what it is told then.

use super::rooms::*;
use super::*;

pub fn say(net: &mut Net, peer: usize, json: &str, name: &str) {
    net.ask(peer, to_rooms(json, &[name]));
}

pub fn kept(since: Option<Position>) -> SubOptions {
    SubOptions { since, keep: true, signals: false, ..SubOptions::new(channel(CHANNEL)) }
}

/// A client with kept subscription, in `red`, and another one that speaks.
pub fn begin(net: &mut Net) -> (usize, usize) {
    let (ada, bob) = (net.connect(0), net.connect(1));
    net.subscribe_with(ada, kept(None));
    net.subscribe(bob, CHANNEL);
    net.ask(ada, join("red"));
    (ada, bob)
}

/// The client comes back on this shard: what it missed, in the answer and after it, and whether it goes on.
pub fn back(net: &mut Net, peer: usize, shard: usize, last: Option<Position>) -> (usize, Vec<String>, Option<bool>) {
    let peer = net.resume(peer, shard, vec![kept(last)]);
    let Subscription { missed, recovered, .. } = subscription(net, peer);
    (peer, missed, recovered)
}

/// What a client is told of its subscription, and after it.
pub struct Subscription {
    pub missed: Vec<String>,
    pub recovered: Option<bool>,
    pub rooms: Vec<Room>,
}

pub fn subscription(net: &mut Net, peer: usize) -> Subscription {
    let received = net.take(peer);
    let mut subscribed = received.iter().filter_map(|received| match received {
        Received::Reply(Reply { body: ReplyBody::Subscribed(subscribed), .. }) => Some(subscribed.clone()),
        _ => None,
    });
    let subscribed = subscribed.next().expect("subscribed");
    let mut missed = texts(&subscribed.publications);
    missed.extend(messages(&received));
    Subscription { missed, recovered: subscribed.recovered, rooms: subscribed.rooms }
}

/// The place of the last message that came.
pub fn last(net: &mut Net, peer: usize) -> Option<Position> {
    let received = net.take(peer);
    received.iter().rev().find_map(|received| match received {
        Received::Push(Push::Message { epoch, publication, .. }) => {
            Some(Position { epoch: *epoch, offset: publication.offset })
        }
        _ => None,
    })
}
