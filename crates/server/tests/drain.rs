//! The end of a server, seen by its clients: every acknowledged publication has reached all of them, commands that were
//! taken in are answered, and each client is told to come back at a different time. Then a successor on the same port
//! takes the clients over. Also the application's side: publications that the HTTP API acknowledges while the server
//! ends, and the API's connections.

mod support;

use fanfare::hub::ErrorCode;
use fanfare::{ApiKey, Config, Publish, Running};
use fanfare_client::core::{Event, State};
use fanfare_client::{Client as RealClient, Subscribe, Subscription};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;
use support::{Client, DEADLINE, Frame, Response, Server, config, connect, response, rules};
use tokio::sync::Semaphore;

const CHANNEL: &str = "news:of-the-day";
const SUBSCRIBERS: usize = 50;
const PUBLISHERS: usize = 4;
const WINDOW: Duration = Duration::from_secs(10);

/// All that a subscriber received, up to its end.
struct Heard {
    offsets: Vec<u64>,
    delay: u64,
}

/// Reads to the end, which must be a `disconnect` that tells the client to come back, and a close that says the same.
fn to_the_end(client: &mut Client) -> Heard {
    let mut offsets = Vec::new();
    loop {
        let message = client.message();
        if message["type"] == "message" {
            offsets.push(message["offset"].as_u64().expect("an offset"));
            continue;
        }
        let delay = message["delay"].as_u64().expect("a delay");
        let word = json!({"type": "disconnect", "code": 4000, "reason": "shutdown", "retry": true, "delay": delay});
        assert_eq!(message, word);
        assert_eq!(client.next(), Frame::Close(Some(4000), "shutdown".into()));
        return Heard { offsets, delay };
    }
}

/// Sends publications far ahead of their answers, so that some are always under way when the end comes.
fn publish(mut client: Client, who: usize, going: &mpsc::Sender<()>) -> usize {
    const AHEAD: usize = 16;
    let publish = |n: usize| json!({"type": "publish", "id": n, "channel": CHANNEL, "data": [who, n]}).to_string();
    let (mut sent, mut published) = (0, 0);
    loop {
        while sent - published < AHEAD {
            client.text(&publish(sent));
            sent += 1;
        }
        let message = client.message();
        if message["type"] == "disconnect" {
            return published;
        }
        assert_eq!((&message["type"], &message["id"]), (&json!("published"), &json!(published)));
        published += 1;
        if published == 20 {
            going.send(()).expect("the test listens");
        }
    }
}

#[test]
fn acknowledged_publications_reach_all_and_accepted_commands_are_answered() {
    for round in 0..5 {
        let server = Server::native(Config { rules: rules(1_000_000), drain_window: WINDOW, ..config() });
        let address = server.address;
        let subscribing = |_| {
            let mut client = Client::connected(address);
            client.follow(CHANNEL);
            std::thread::spawn(move || to_the_end(&mut client))
        };
        let subscribers: Vec<_> = (0..SUBSCRIBERS).map(subscribing).collect();
        let (going, is_going) = mpsc::channel();
        let publishing = |who| {
            let (client, going) = (Client::connected(address), going.clone());
            std::thread::spawn(move || publish(client, who, &going))
        };
        let publishers: Vec<_> = (0..PUBLISHERS).map(publishing).collect();
        (0..PUBLISHERS).for_each(|_| is_going.recv_timeout(DEADLINE).expect("a publisher"));
        server.drain();
        let heard: Vec<Heard> = subscribers.into_iter().map(|thread| thread.join().expect("no panic")).collect();
        let acknowledged: usize = publishers.into_iter().map(|thread| thread.join().expect("no panic")).sum();

        let all: Vec<u64> = (1..=acknowledged as u64).collect();
        for (who, subscriber) in heard.iter().enumerate() {
            assert!(
                subscriber.offsets == all,
                "round {round}, {who}: {acknowledged} acknowledged, heard {:?}",
                subscriber.offsets.last()
            );
        }
        let delays: BTreeSet<u64> = heard.iter().map(|subscriber| subscriber.delay).collect();
        let window_ms = WINDOW.as_millis() as u64;
        let (first, last) = (delays.first().expect("some"), delays.last().expect("some"));
        // All of fifty random delays lie beyond a quarter of the window in one of two million runs.
        assert!(*first < window_ms / 4 && *last >= window_ms * 3 / 4 && *last < window_ms, "{delays:?}");
        assert!(delays.len() > SUBSCRIBERS * 9 / 10, "{delays:?}");
    }
}

const KEY: &str = "key-of-the-application";
const HTTP_PUBLISHERS: usize = 12;

fn api_config() -> Config {
    let key = ApiKey::new("backend", KEY).expect("a key");
    Config { rules: rules(1_000_000), drain_window: WINDOW, api_keys: vec![key], ..config() }
}

/// Asks once on a connection that is kept alive.
fn call(socket: &mut TcpStream, command: &str, body: &str) -> Response {
    let len = body.len();
    let request = format!(
        "POST /api/v1/{command} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n\
         Content-Type: application/json\r\nContent-Length: {len}\r\n\r\n{body}"
    );
    socket.write_all(request.as_bytes()).expect("the server reads");
    response(socket)
}

/// Publishes over HTTP until an answer ends the connection. Each request must have an answer. Returns the acknowledged
/// offsets.
fn publish_over_http(address: SocketAddr, going: &mpsc::Sender<()>) -> Vec<u64> {
    let mut socket = connect(address);
    let body = json!({"channel": CHANNEL, "data": 1}).to_string();
    let mut offsets = Vec::new();
    loop {
        let answer = call(&mut socket, "publish", &body);
        let said: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
        match answer.status() {
            200 => offsets.push(said["offset"].as_u64().expect("an offset")),
            503 => assert_eq!(said["code"], "unavailable", "{said}"),
            _ => panic!("{}{said}", answer.head),
        }
        if offsets.len() == 20 {
            let _ = going.send(()); // a 503 that follows sends it again, when nothing listens any more
        }
        if answer.header("connection") == Some("close") {
            return offsets;
        }
    }
}

#[test]
fn publications_acknowledged_to_the_application_are_heard_and_no_request_is_cut() {
    for round in 0..5 {
        let server = Server::native(api_config());
        let address = server.address;
        let mut subscriber = Client::connected(address);
        subscriber.follow(CHANNEL);
        let subscriber = std::thread::spawn(move || to_the_end(&mut subscriber).offsets);
        let (going, is_going) = mpsc::channel();
        let publishing = |_| {
            let going = going.clone();
            std::thread::spawn(move || publish_over_http(address, &going))
        };
        let publishers: Vec<_> = (0..HTTP_PUBLISHERS).map(publishing).collect();
        (0..HTTP_PUBLISHERS).for_each(|_| is_going.recv_timeout(DEADLINE).expect("a publisher"));
        server.drain();
        let heard: BTreeSet<u64> = subscriber.join().expect("no panic").into_iter().collect();
        let acknowledged: BTreeSet<u64> =
            publishers.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect();
        let lost: Vec<_> = acknowledged.difference(&heard).collect();
        assert!(
            lost.is_empty(),
            "round {round}: of {} acknowledged, {} lost: {lost:?}",
            acknowledged.len(),
            lost.len()
        );
    }
}

/// No other client is connected: the drain waits only for a page of the program.
#[test]
fn a_request_under_way_is_answered_and_its_connection_closed() {
    let (asked, is_asked) = mpsc::channel();
    let gate = Arc::new(Semaphore::new(0));
    let waiting = gate.clone();
    let page = move || async move {
        asked.send(()).expect("the test listens");
        drop(waiting.acquire().await);
        "slow"
    };
    // One shard: a failed attempt to connect then shows that the drain has begun.
    let builder = support::native::builder(Config { shards: 1, ..config() });
    let server = Server::of(builder.fallback(axum::Router::new().route("/slow", axum::routing::get(page))));
    let address = server.address;
    let asking = std::thread::spawn(move || {
        let mut socket = connect(address);
        socket.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").expect("the server reads");
        let answer = response(&mut socket);
        assert_eq!((answer.status(), answer.body.as_str(), answer.header("connection")), (200, "slow", Some("close")));
        assert_eq!(std::io::Read::read(&mut socket, &mut [0]).expect("an end"), 0);
    });
    is_asked.recv_timeout(DEADLINE).expect("the page");
    let opening = std::thread::spawn(move || {
        while TcpStream::connect(address).is_ok() {}
        gate.add_permits(1);
    });
    server.drain();
    opening.join().expect("no panic");
    asking.join().expect("answered");
}

/// The program that embeds the server gets answers until the end, and a command that comes too late is refused.
#[tokio::test]
async fn a_server_that_ends_answers_the_program_and_takes_in_no_more() {
    let server = support::native::builder(Config { drain_window: WINDOW, ..config() }).build().expect("good settings");
    let hub = server.handle();
    let running =
        server.start(&["127.0.0.1:0".parse::<SocketAddr>().expect("an address").into()]).expect("a free port");
    let position = hub.publish(CHANNEL, &1).await.expect("published").position;
    // The client does not answer the close, so the server stays until the client goes.
    let mut client = Client::connected(running.tcp_address().expect("TCP"));
    let draining = tokio::spawn(running.drain());
    let client = tokio::task::spawn_blocking(move || {
        to_the_end(&mut client);
        client
    });
    let client = within(client).await.expect("sent away");
    for refused in [
        hub.publish(CHANNEL, &2).await.map(drop),
        hub.signal(CHANNEL, "e", &2).await,
        hub.remove_history(CHANNEL).await,
    ] {
        assert_eq!(refused.expect_err("it ends").code, ErrorCode::Unavailable);
    }
    let all = hub.broadcast(&[CHANNEL, "news:else"], &2).await.expect("answers");
    assert!(all.iter().all(|one| one.as_ref().is_err_and(|e| e.code == ErrorCode::Unavailable)), "{all:?}");
    let history = hub.history(CHANNEL, 10).await.expect("questions are answered");
    assert_eq!(history.publications.iter().map(|p| p.offset).collect::<Vec<_>>(), [position.offset]);
    drop(client);
    within(draining).await.expect("no panic").expect("a clean end");
    assert_eq!(hub.publish(CHANNEL, &3).await.expect_err("it has ended").code, ErrorCode::Unavailable);
}

/// Nothing is refused during the delay before the drain. (tests/life.rs of the command line checks that the server
/// works meanwhile.)
#[test]
fn a_delay_comes_before_the_drain() {
    let delay = Duration::from_millis(30);
    let server = Server::native(Config { shutdown_delay: delay, drain_window: WINDOW, ..config() });
    let mut client = Client::connected(server.address);
    let begin = std::time::Instant::now();
    let end = std::thread::spawn(move || to_the_end(&mut client));
    server.drain();
    assert!(begin.elapsed() >= delay);
    end.join().expect("it was told to come back");
}

/// The last line of the log has the counts: clients that were told, and open commands that got their answers.
#[test]
fn a_publication_that_waits_for_its_handler_is_answered_and_counted() {
    let runtime = support::runtime();
    let entered = runtime.enter();
    let gate = Arc::new(Semaphore::new(0));
    let (asked, is_asked) = mpsc::channel();
    let waiting = gate.clone();
    // One shard: a failed attempt to connect then shows that the drain has begun.
    let builder = support::native::builder(Config { shards: 1, drain_window: WINDOW, ..config() });
    let server = Server::of(builder.on_publish("news:*", move |publish: Publish| {
        let (gate, asked) = (waiting.clone(), asked.clone());
        async move {
            asked.send(()).expect("the test listens");
            drop(gate.acquire().await);
            Ok(publish)
        }
    }));
    drop(entered);
    let address = server.address;
    let mut client = Client::connected(address);
    client.text(&json!({"type": "publish", "id": 1, "channel": CHANNEL, "data": 1}).to_string());
    is_asked.recv_timeout(DEADLINE).expect("the handler");
    let end = std::thread::spawn(move || {
        assert_eq!(client.message()["type"], "published", "before it is sent away");
        to_the_end(&mut client)
    });
    let opening = std::thread::spawn(move || {
        while std::net::TcpStream::connect(address).is_ok() {} // a refused connection shows that the drain has begun
        gate.add_permits(1);
    });
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, || server.drain());
    opening.join().expect("no panic");
    end.join().expect("answered, and told to come back");
    let log = String::from_utf8(log.0.lock().expect("no panic").clone()).expect("text");
    assert!(log.contains("stopped clients_notified=1 cut_off=0 answered=1 unanswered=0 seconds="), "{log}");
}

/// The log of this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn serve(address: SocketAddr) -> Running {
    let config = Config { rules: rules(10_000), drain_window: Duration::from_millis(400), ..config() };
    support::native::builder(config).build().expect("good settings").start(&[address.into()]).expect("a free port")
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("it takes no minute")
}

/// Reads one number that is published as JSON, and skips what comes before it.
async fn next_number(subscription: &mut Subscription, gaps: &mut u64) -> u64 {
    loop {
        match within(subscription.next()).await.expect("it goes on") {
            Event::Message { publication, .. } => {
                let text = std::str::from_utf8(publication.data.bytes()).expect("JSON");
                return text.parse().expect("a number");
            }
            Event::Gap { reset, .. } => {
                assert!(reset, "the successor has an epoch of its own");
                *gaps += 1;
            }
            Event::Live { .. } => {}
            event => panic!("{event:?}"),
        }
    }
}

/// Fifty real clients move from one server to the next. The store is in memory, so the successor begins a new epoch and
/// says so. The clients ask for recent publications, so they still get every number once and in order, except for those
/// whose publisher got no certain answer.
#[tokio::test(flavor = "current_thread")]
async fn clients_go_over_to_the_successor_and_miss_nothing() {
    let running = serve("127.0.0.1:0".parse().expect("an address"));
    let address = running.tcp_address().expect("TCP");
    let url = format!("ws://{address}/v1/ws");
    let quick = || RealClient::builder(&url).config(|config| config.backoff_min_ms = 20);
    let (mut clients, mut subscriptions) = (Vec::new(), Vec::new());
    for _ in 0..SUBSCRIBERS {
        let client = within(quick().connect()).await.expect("a connection");
        let options = Subscribe { recent: Some(10_000), ..Subscribe::new(CHANNEL) };
        subscriptions.push(within(client.subscribe_with(options)).await.expect("subscribed"));
        clients.push(client);
    }
    let publisher = within(quick().connect()).await.expect("a connection");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let publishing = tokio::spawn(async move {
        let (mut known, mut stopped) = (BTreeMap::new(), stopped);
        for n in 0_u64.. {
            let result = within(publisher.publish(CHANNEL, &n)).await;
            known.insert(n, result.is_ok());
            if stopped.try_recv().is_ok() && result.is_ok() {
                return known; // the last one must reach all
            }
        }
        unreachable!("there are numbers enough")
    });

    let mut first = subscriptions.pop().expect("fifty of them");
    let (mut gaps, mut begun) = (0, vec![next_number(&mut first, &mut 0).await]);
    let mut waits: Vec<_> = clients.iter().map(RealClient::status).collect();
    let draining = tokio::spawn(running.drain());
    let mut until = Vec::new();
    for status in &mut waits {
        let waiting = within(status.wait_for(|status| matches!(status.state, State::Waiting { .. }))).await;
        if let State::Waiting { until_ms, .. } = waiting.expect("it lives").state {
            until.push(until_ms);
        }
    }
    within(draining).await.expect("no panic").expect("a clean end");
    let successor = serve(address);
    for status in &mut waits {
        within(status.wait_for(|status| matches!(status.state, State::Online(_)))).await.expect("it comes back");
    }
    stop.send(()).expect("it publishes");
    let known = publishing.await.expect("no panic");
    let last = *known.last_key_value().expect("some").0;
    subscriptions.insert(0, first);
    for (who, subscription) in subscriptions.iter_mut().enumerate() {
        let mut heard = if who == 0 { std::mem::take(&mut begun) } else { Vec::new() };
        while heard.last() != Some(&last) {
            heard.push(next_number(subscription, &mut gaps).await);
        }
        assert!(heard.is_sorted_by(|a, b| a < b), "{who}: each once, in order: {heard:?}");
        let missed: Vec<_> = known.iter().filter(|(n, ok)| **ok && heard.binary_search(n).is_err()).collect();
        assert!(missed.is_empty(), "{who} missed {missed:?} of {}", known.len());
    }
    assert_eq!(gaps, SUBSCRIBERS as u64, "each was told of the new epoch");
    for client in clients {
        client.close().await;
    }
    successor.drain().await.expect("a clean end");
}
