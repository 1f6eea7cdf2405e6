//! Over a wire that breaks at any byte while others publish, the real client gets everything once and in order. Its own
//! publications are stored at most once, and other members do not notice a short cut.

mod support;

use fanfare::{Fanfare, Native};
use fanfare_client::core::Event;
use fanfare_client::{Client, RpcError, Subscribe, Subscription};
use fanfare_fault_proxy::{Break, FaultProxy, Faults, Way};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use support::{DEADLINE, Random, Server, config, rules};

const SEEDS: std::ops::Range<u64> = 0..6;

/// A server whose history is longer than any case, with heartbeats at this interval.
fn serve(heartbeat_ms: u32) -> Server {
    let native = Native::default().heartbeat_ms(heartbeat_ms).grace_ms(600_000);
    Server::of(
        Fanfare::builder(()).config(fanfare::Config { rules: rules(100_000), ..config() }).protocol("/v1/ws", native),
    )
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("it takes no minute")
}

/// A client that reconnects at once, every time.
fn eager(url: &str) -> Client {
    let quick = |config: &mut fanfare_client::core::Config| {
        (config.backoff_min_ms, config.backoff_max_ms) = (2, 20);
        (config.connect_timeout_ms, config.request_timeout_ms) = (2_000, 5_000);
    };
    Client::builder(url).config(quick).start().expect("a good URL")
}

/// A wire that breaks each connection after up to `up_max` bytes to the server, or up to `down_max` from it. Every
/// fourth connection lasts sixteen times as long, so that answers that are longer than that still arrive.
fn breaking(server: SocketAddr, seed: u64, how: Break, up_max: usize, down_max: usize) -> FaultProxy {
    let mut random = Random::new(seed);
    let plan = move |number: u64| {
        let times = if number % 4 == 3 { 16 } else { 1 };
        let (up, down) = (times * random.below(up_max), times * random.below(down_max));
        Faults { up: Way::broken(up, how), down: Way::broken(down, how), ..Faults::default() }
    };
    FaultProxy::start(server, plan).expect("a free port")
}

fn through(proxy: &FaultProxy) -> Client {
    direct(proxy.address)
}

fn direct(address: SocketAddr) -> Client {
    eager(&format!("ws://{address}/v1/ws"))
}

/// The next number. A gap would mean that something was lost.
async fn number(subscription: &mut Subscription) -> u64 {
    loop {
        match within(subscription.next()).await.expect("it goes on") {
            Event::Message { publication, .. } => {
                return std::str::from_utf8(publication.data.bytes()).expect("JSON").parse().expect("a number");
            }
            event @ (Event::Gap { .. } | Event::Ended { .. }) => panic!("nothing was to be lost: {event:?}"),
            _ => {}
        }
    }
}

/// Cuts a reader of `channels` channels while `count` numbers are published to each, and wants all of them.
async fn reads_all(how: Break, down_max: usize, channels: usize, count: u64, heartbeat_ms: u32) {
    for seed in SEEDS {
        let server = serve(heartbeat_ms);
        let proxy = breaking(server.address, seed, how, 1 << 20, down_max);
        let (reader, writer) = (through(&proxy), direct(server.address));
        let names: Vec<String> = (0..channels).map(|n| format!("c:{n}")).collect();
        let mut subscriptions = Vec::new();
        for name in &names {
            subscriptions.push(within(reader.subscribe(name)).await.expect("subscribed"));
        }
        for n in 0..count {
            for (name, subscription) in names.iter().zip(&mut subscriptions) {
                within(writer.publish(name, &n)).await.expect("published");
                if n % 10 == 9 && n + 10 < count {
                    for expected in n - 9..=n {
                        assert_eq!(number(subscription).await, expected, "seed {seed}");
                    }
                }
            }
        }
        proxy.heal();
        for subscription in &mut subscriptions {
            for expected in (count - 1) / 10 * 10..count {
                assert_eq!(number(subscription).await, expected, "seed {seed}");
            }
        }
        assert!(proxy.broken() > 0, "seed {seed}: nothing was tested");
        reader.close().await;
        writer.close().await;
    }
}

#[tokio::test]
async fn cut_within_frames() {
    reads_all(Break::End, 3_000, 1, 300, 600_000).await;
}

#[tokio::test]
async fn cut_on_many_channels() {
    reads_all(Break::End, 12_000, 20, 60, 600_000).await;
}

#[tokio::test]
async fn cut_in_the_handshake_more_often_than_not() {
    reads_all(Break::End, 1_200, 1, 60, 600_000).await;
}

#[tokio::test]
async fn silent_until_the_heartbeat_finds_it() {
    reads_all(Break::Silence, 6_000, 2, 40, 300).await;
}

/// If the way back breaks, the answer is lost; if the way forth breaks, the publication is lost. A retry with the same
/// key is right in both cases.
#[tokio::test]
async fn a_publisher_that_is_cut_publishes_each_once() {
    for seed in SEEDS {
        let server = serve(600_000);
        let proxy = breaking(server.address, seed, Break::End, 2_000, 2_000);
        let (writer, reader) = (through(&proxy), direct(server.address));
        let mut subscription = within(reader.subscribe("c")).await.expect("subscribed");
        let mut known = BTreeMap::new();
        for n in 0..200_u64 {
            match within(writer.publish("c", &n)).await {
                Ok(_) => known.insert(n, true),
                Err(RpcError::Call(fanfare_client::core::CallError::Unknown)) => known.insert(n, false),
                Err(error) => panic!("seed {seed}, {n}: {error}"),
            };
        }
        proxy.heal();
        within(writer.publish("c", &1_000)).await.expect("the wire is whole");
        let mut heard = Vec::new();
        while heard.last() != Some(&1_000) {
            heard.push(number(&mut subscription).await);
        }
        heard.pop();
        assert!(heard.is_sorted_by(|a, b| a < b), "seed {seed}: each at most once, in order: {heard:?}");
        let wrong: Vec<_> = known.iter().filter(|(n, ok)| **ok && !heard.contains(n)).collect();
        assert!(wrong.is_empty(), "seed {seed}: acknowledged and not there: {wrong:?}");
        let unknown = known.values().filter(|ok| !**ok).count();
        assert!(
            unknown == 0,
            "seed {seed}: the session outlives its connections, so nothing is unknown, but {unknown} are"
        );
        assert!(proxy.broken() > 0, "seed {seed}: nothing was tested");
    }
}

/// To other members, a member that is cut and returns within its grace has never left.
#[tokio::test]
async fn nobody_hears_of_a_short_cut() {
    for seed in SEEDS {
        let server = serve(600_000);
        let proxy = breaking(server.address, seed, Break::End, 4_000, 4_000);
        let (member, watcher) = (through(&proxy), direct(server.address));
        let options = Subscribe { presence: true, ..Subscribe::new("c") };
        let mut watching = within(watcher.subscribe_with(options)).await.expect("subscribed");
        // A member that enters before the watcher's first snapshot is in that snapshot: the watcher gets no join.
        while !matches!(within(watching.next()).await.expect("it goes on"), Event::Presence(_)) {}
        let mut subscription = within(member.subscribe("c")).await.expect("subscribed");
        within(member.presence_set("c", &"here")).await.expect("entered");
        for n in 0..150_u64 {
            within(watcher.publish("c", &n)).await.expect("published");
            assert_eq!(number(&mut subscription).await, n, "seed {seed}");
        }
        proxy.heal();
        assert_eq!(within(member.presence("c")).await.expect("answered").count, 1, "seed {seed}");
        assert!(proxy.broken() > 0, "seed {seed}: nothing was tested");
        within(member.presence_clear("c")).await.expect("left");
        let mut changes = Vec::new();
        while changes.last() != Some(&fanfare_client::PresenceKind::Leave) {
            if let Event::PresenceChange(change) = within(watching.next()).await.expect("it goes on") {
                changes.push(change.kind);
            }
        }
        assert_eq!(changes, [fanfare_client::PresenceKind::Join, fanfare_client::PresenceKind::Leave], "seed {seed}");
    }
}
