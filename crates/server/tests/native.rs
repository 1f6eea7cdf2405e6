//! The native protocol on the real server, with the real client over real sockets: a client that is cut off comes back
//! and gets every message once, in order, whichever shard it lands on.

use fanfare::{Config, Fanfare, Native, Running};
use fanfare_client::core::Event;
use fanfare_client::{Client, Subscription};
use std::time::Duration;

/// The limit of every wait: a test that hangs fails. It has no other effect.
const LONG: Duration = Duration::from_secs(60);

fn shards() -> usize {
    std::env::var("FANFARE_SHARDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2)
}

fn serve() -> (Running, String) {
    let config = Config { shards: shards(), drain_window: Duration::from_millis(200), ..Config::open() };
    let server =
        Fanfare::builder(()).config(config).protocol("/v1/ws", Native::default()).build().expect("a valid server");
    let running = server.start(&["127.0.0.1:0".parse().expect("an address")]).expect("a free port");
    let url = format!("ws://{}/v1/ws", running.tcp_address().expect("TCP"));
    (running, url)
}

async fn client(url: &str) -> Client {
    let builder = Client::builder(url).config(|config| config.backoff_min_ms = 10);
    tokio::time::timeout(LONG, builder.connect()).await.expect("in time").expect("a connection")
}

/// The number in the next publication. A gap would mean that something was lost.
async fn number(subscription: &mut Subscription) -> u64 {
    loop {
        let event = tokio::time::timeout(LONG, subscription.next()).await.expect("in time").expect("it goes on");
        match event {
            Event::Message { publication, .. } => {
                let text = std::str::from_utf8(publication.data.bytes()).expect("JSON");
                return text.parse().expect("a number");
            }
            Event::Gap { .. } | Event::Ended { .. } => panic!("nothing was to be lost: {event:?}"),
            _ => {}
        }
    }
}

async fn stop(running: Running) {
    running.drain().await.expect("a clean end");
}

/// A subscriber that is cut off again and again while another client publishes gets every message once, in order, on
/// every channel.
#[tokio::test(flavor = "current_thread")]
async fn a_client_that_is_cut_off_has_every_message_once_and_in_order() {
    const ROUNDS: u64 = 40;
    let (running, url) = serve();
    let (reader, writer) = (client(&url).await, client(&url).await);
    let channels: Vec<String> = (0..7).map(|i| format!("room:{i}")).collect();
    let mut subscriptions = Vec::new();
    for channel in &channels {
        subscriptions.push(reader.subscribe(channel).await.expect("subscribed"));
    }
    for round in 0..ROUNDS {
        if round % 4 == 1 {
            reader.restart();
        }
        for channel in &channels {
            writer.publish(channel, &round).await.expect("published");
        }
        if round % 8 == 7 {
            for subscription in &mut subscriptions {
                for expected in round - 7..=round {
                    assert_eq!(number(subscription).await, expected);
                }
            }
        }
    }
    reader.close().await;
    writer.close().await;
    stop(running).await;
}

/// A channel is one for all members, whichever shards they are on: the same order for all, and everybody is present.
#[tokio::test(flavor = "current_thread")]
async fn a_channel_is_one_over_all_shards() {
    let (running, url) = serve();
    let mut clients = Vec::new();
    for _ in 0..2 * shards() {
        clients.push(client(&url).await);
    }
    let mut subscriptions = Vec::new();
    for client in &clients {
        subscriptions.push(client.subscribe("lobby").await.expect("subscribed"));
        client.presence_set("lobby", &"here").await.expect("entered");
    }
    let present = clients[0].presence("lobby").await.expect("answered");
    assert_eq!(present.count, clients.len() as u64);
    for (from, client) in clients.iter().enumerate() {
        client.publish("lobby", &(from as u64)).await.expect("published");
    }
    for subscription in &mut subscriptions {
        for expected in 0..clients.len() as u64 {
            assert_eq!(number(subscription).await, expected);
        }
    }
    stop(running).await;
}
