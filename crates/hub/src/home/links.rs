//! How many bytes are on their way to each shard, and which channels wait for room there.

use crate::ids::ShardId;
use std::collections::VecDeque;

#[derive(Debug)]
pub(super) struct Links(Vec<Link>);

#[derive(Debug, Default)]
struct Link {
    bytes: usize,
    /// Homes (index, life) whose edge on that shard was behind when they came here, first come first served.
    waiting: VecDeque<(u32, u32)>,
}

impl Links {
    pub(super) fn new(shards: usize) -> Self {
        Links((0..shards).map(|_| Link::default()).collect())
    }

    pub(super) fn has_room(&self, shard: ShardId, bytes_max: usize) -> bool {
        self.0[usize::from(shard.0)].bytes < bytes_max
    }

    pub(super) fn sent(&mut self, shard: ShardId, bytes: usize) {
        self.0[usize::from(shard.0)].bytes += bytes;
    }

    pub(super) fn acknowledged(&mut self, shard: ShardId, bytes: usize) {
        let link = &mut self.0[usize::from(shard.0)];
        debug_assert!(link.bytes >= bytes, "more was acknowledged than sent");
        link.bytes = link.bytes.saturating_sub(bytes);
    }

    pub(super) fn wait(&mut self, shard: ShardId, home: u32, life: u32) {
        self.0[usize::from(shard.0)].waiting.push_back((home, life));
    }

    pub(super) fn next_waiting(&mut self, shard: ShardId) -> Option<(u32, u32)> {
        self.0[usize::from(shard.0)].waiting.pop_front()
    }

    pub(super) fn is_any_waiting(&self, shard: ShardId) -> bool {
        !self.0[usize::from(shard.0)].waiting.is_empty()
    }
}
