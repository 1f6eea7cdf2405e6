//! Rooms of one channel: the commands of its clients, audiences, and clients that are subscribed.

use super::{Net, channel};
use fanfare_hub::*;

/// The channel that has the rooms.
pub const CHANNEL: &str = "chat:a";

pub fn room(name: &str) -> Room {
    Room::new(name).expect("a short name")
}

pub fn join(name: &str) -> Command {
    Command::Room(Box::new(RoomCommand::Join { channel: channel(CHANNEL), room: room(name) }))
}

pub fn leave(name: &str) -> Command {
    Command::Room(Box::new(RoomCommand::Leave { channel: channel(CHANNEL), room: room(name) }))
}

/// A publication for this audience.
pub fn to(json: &str, audience: Audience) -> Command {
    let data = Data::Json(json.to_owned().into());
    let publish = Publish { channel: channel(CHANNEL), data, event: None, idempotency_key: None, echo: true };
    Command::Room(Box::new(RoomCommand::Publish { publish, audience }))
}

pub fn to_rooms(json: &str, names: &[&str]) -> Command {
    to(json, in_rooms(names))
}

/// The members of these rooms.
pub fn in_rooms(names: &[&str]) -> Audience {
    Audience { rooms: names.iter().map(|name| room(name)).collect(), ..Audience::default() }
}

/// Clients of all shards in turn that are subscribed.
pub fn subscribed<const N: usize>(net: &mut Net) -> [usize; N] {
    subscribed_many(net, N).try_into().expect("so many")
}

pub fn subscribed_many(net: &mut Net, count: usize) -> Vec<usize> {
    let shards = net.shards.len();
    let peers: Vec<usize> = (0..count).map(|n| net.connect(n % shards)).collect();
    for &peer in &peers {
        net.subscribe(peer, CHANNEL);
        net.take(peer);
    }
    peers
}
