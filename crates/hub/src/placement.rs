//! Which shard a channel lives on: a keyed hash of its name, the same on every shard of a node.
//!
//! The hub places channels by it; a shell that knows it can give a command to the right shard at once.

use crate::ids::{ShardId, UserId};
use crate::name::ChannelName;
use crate::rng::Keyed;

/// See the module's description.
#[derive(Debug, Clone, Copy)]
pub struct Placement {
    hash: Keyed,
    shards: u64,
}

impl Placement {
    /// The placement of a node with this [`ShardConfig::placement_key`](crate::ShardConfig) and so many shards.
    pub fn new(placement_key: u64, shards: usize) -> Self {
        Placement { hash: Keyed(placement_key), shards: shards.max(1) as u64 }
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.shards as usize
    }

    /// The shard on which a channel lives.
    pub fn home_of(&self, channel: &ChannelName) -> ShardId {
        self.shard_of(channel.as_str())
    }

    /// The shard that counts the sessions of a user.
    pub(crate) fn home_of_user(&self, user: &UserId) -> ShardId {
        self.shard_of(&user.0)
    }

    fn shard_of(&self, name: &str) -> ShardId {
        match self.shards {
            1 => ShardId(0),
            shards => ShardId((self.hash.hash_of(name) % shards) as u16),
        }
    }
}
