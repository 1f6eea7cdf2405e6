//! Sessions whose clients may come back, and have: they take none of the room of those that are away.

mod common;

use common::*;
use fanfare_hub::*;

/// It does not end where there is no room for the others.
#[test]
fn one_that_has_come_back_is_not_away() {
    for shards in shard_counts() {
        for shard in [0, 1] {
            let limits = Limits { away_bytes_max: 8_000 * shards, grace_ms: 60_000, ..Limits::default() };
            let mut net = Net::with(shards, limits.for_one_of(shards), open_rules());
            let away_bytes = |net: &Net| net.shards.iter().map(|shard| shard.stats().away_bytes).sum::<usize>();
            let ada = net.connect(0);
            net.cut(ada);
            assert!(away_bytes(&net) > 0);
            let ada = net.resume(ada, shard, vec![SubOptions::new(channel("chat:a"))]);
            assert_eq!(away_bytes(&net), 0, "{shards} shards");
            for other in 0..40 {
                let other = net.connect(other % shards);
                net.cut(other);
            }
            assert!(net.shards.iter().all(|shard| shard.stats().away_shed > 0), "there is room for all of them");
            let bob = net.connect(1);
            net.publish(bob, "chat:a", "1");
            assert_eq!((net.take_messages(ada), net.peers[ada].closed), (vec!["1".into()], None));
        }
    }
}
