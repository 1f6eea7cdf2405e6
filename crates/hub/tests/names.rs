//! Channel names without end: from one user, from one connection without a user, and from very many users. Their memory
//! has the bounds that the settings name, and all of it is given back when the names are forgotten.

mod common;

use common::*;
use fanfare_hub::*;

/// A round of names and its time: as many as a node may see in a second.
const ROUND: usize = 500;
const ROUNDS: usize = 20;
/// How long a name is known that nobody uses.
const TTL_MS: u64 = 60_000;

/// Names that nobody has used before, each by another kind of command.
fn use_name(n: usize) -> Command {
    let name = format!("flood:{n}:{}", "x".repeat(1 + n % 60));
    let query = HistoryQuery { from: HistoryFrom::Newest, limit: 1 };
    match n % 4 {
        0 => publish(&name, "1"),
        1 => Command::History { channel: channel(&name), query },
        2 => Command::Presence { channel: channel(&name) },
        _ => signal(&name, "e", "1", None),
    }
}

fn history_bytes(net: &Net) -> usize {
    net.shards.iter().map(|shard| shard.stats().history_bytes).sum()
}

fn homes(net: &Net) -> usize {
    net.shards.iter().map(|shard| shard.stats().homes).sum()
}

/// Keeps the clients alive while time passes.
fn wait(net: &mut Net, ms: u64) {
    for _ in 0..ms / 10_000 {
        net.pass(10_000);
        net.all_alive();
    }
}

#[test]
fn one_user_and_one_connection_make_as_many_names_as_their_rate_allows() {
    for shards in shard_counts() {
        for connect in
            [Connect { user: Some(UserId("ada".into())), page: the_page(), ..Connect::default() }, Connect::default()]
        {
            let mut net = Net::with(shards, Limits::default(), open_rules());
            let peer = net.connect_as(0, connect);
            let (mut made, mut refused) = (0, 0);
            for n in 0..2_000 {
                match net.ask(peer, publish(&format!("flood:{n}"), "1")) {
                    ReplyBody::Error(error) => {
                        assert_eq!(error.code, ErrorCode::RateLimited, "{error:?}");
                        assert!(
                            error.limit == Some("new_channels_per_user") && error.retry_after_ms.is_some(),
                            "{error:?}"
                        );
                        refused += 1;
                        net.pass(20); // below the rate of messages
                        net.all_alive();
                    }
                    _ => made += 1,
                }
            }
            // At once, and then ten a second.
            let later = refused * 20 / 100;
            assert!((600..=600 + later + 10).contains(&made), "{made} made, {refused} refused, {shards} shards");
        }
    }
}

#[test]
fn names_of_very_many_users_take_their_share_and_give_it_back() {
    const BYTES_MAX: usize = 1 << 20;
    for shards in shard_counts() {
        let limits =
            Limits { history_bytes_max: BYTES_MAX, metadata_ttl_ms: TTL_MS, quotas: Quotas::NONE, ..Limits::default() };
        let mut net = Net::with(shards, limits, open_rules());
        let (before, bystander) = (history_bytes(&net), net.connect(0));
        // A flood from many: each round is by clients that were not there before, and that go.
        for round in 0..ROUNDS {
            let peers: Vec<usize> = (0..4).map(|shard| net.connect(shard % shards)).collect();
            for n in round * ROUND..(round + 1) * ROUND {
                let body = net.ask(peers[n % peers.len()], use_name(n));
                assert!(!matches!(body, ReplyBody::Error(_)), "{n}: {body:?}");
            }
            // The stores of all shards have the limit each in this test; in a server each has its share of it.
            let bytes = history_bytes(&net);
            assert!(bytes <= shards * BYTES_MAX, "{bytes} bytes after round {round}");
            assert_eq!(net.publish(bystander, "chat:live", "1").offset, round as u64 + 1, "others are served");
            peers.into_iter().for_each(|peer| net.reopen(peer));
            net.pass(1_000);
            net.all_alive();
            assert!(homes(&net) <= 2 * (ROUND + 2), "{} homes: those of the last second", homes(&net));
        }
        assert!(history_bytes(&net) > before + 100_000, "the names were kept");
        // Nobody uses them: after the time that `metadata_ttl` says nothing of them is left.
        wait(&mut net, 3 * TTL_MS);
        let left = history_bytes(&net);
        assert!(left <= before, "{left} bytes are left, {before} were there before");
        assert!(homes(&net) == 0, "{} homes are left", homes(&net));
    }
}
