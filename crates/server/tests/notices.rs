//! Notices for handlers of an embedding program: each once and in the order of its channel, and nobody waits for a
//! handler. The notices of hooks over HTTP are in `hooks/`.

mod support;

use fanfare::hub::{PresenceEntry, Publication};
use fanfare::{
    Caller, Channel, Config, Fanfare, Handle, HappenedAt, Identity, Json, Refusal, State, Token, User, secs,
};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, UNIX_EPOCH};
use support::scrape::scrape;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The limit of every wait: a test that hangs fails. It has no other effect.
const LONG: Duration = Duration::from_secs(60);

async fn within<T>(wait: impl IntoFuture<Output = T>) -> T {
    tokio::time::timeout(LONG, wait.into_future()).await.expect("it takes no minute")
}

#[derive(Clone)]
struct App {
    told: UnboundedSender<String>,
    /// Handlers of `slow:*` wait for it.
    gate: Arc<Semaphore>,
    calls: Arc<AtomicUsize>,
}

fn app() -> (App, UnboundedReceiver<String>) {
    let (told, tells) = unbounded_channel();
    (App { told, gate: Arc::new(Semaphore::new(0)), calls: Arc::default() }, tells)
}

impl App {
    fn tell(&self, words: String) {
        self.told.send(words).expect("the test listens");
    }
}

async fn told(tells: &mut UnboundedReceiver<String>, count: usize) -> Vec<String> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(within(tells.recv()).await.expect("the server runs"));
    }
    all
}

fn at_any_port() -> [fanfare::Address; 1] {
    [fanfare::Address::Tcp("127.0.0.1:0".parse().expect("an address"))]
}

#[tokio::test]
async fn each_kind_of_notice_has_its_values_and_those_of_a_channel_come_in_order() {
    let (app, mut tells) = app();
    let server = Fanfare::builder(app)
        .channel("**", |c| c.open())
        .on_connect(async |token: Token| Identity::user(token.as_str()).info(&json!({"team": "blue"})))
        .on_occupied("chat:*", async |State(app): State<App>, Channel(name): Channel, at: HappenedAt, who: Caller| {
            assert!(at.0 > UNIX_EPOCH && who.user.is_none());
            app.tell(format!("{name} occupied"));
        })
        .on_join("chat:*", async |State(app): State<App>, user: User, Json(data): Json<Value>, channel: Channel| {
            app.tell(format!("{} join {} {data}", &*channel, &*user));
        })
        .on_published(
            "chat:*",
            async |State(app): State<App>,
                   who: Caller,
                   Json(data): Json<Value>,
                   it: Arc<Publication>,
                   at: fanfare::hub::Position| {
                assert_eq!(at.offset, it.offset);
                app.tell(format!("{} {data} of {}", at.offset, who.user.map_or("nobody".into(), |user| user.0)));
            },
        )
        .on_leave("chat:*", async |State(app): State<App>, entry: Arc<PresenceEntry>| {
            app.tell(format!("leave {}", String::from_utf8_lossy(entry.info.as_ref().expect("it has some"))));
        })
        .on_vacated("chat:*", async |State(app): State<App>, Channel(name): Channel| {
            app.tell(format!("{name} vacated"))
        })
        .build()
        .expect("valid")
        .test()
        .expect("it starts");
    let mut ada = server.client_with_token("ada").await;
    for channel in ["chat:a", "other:a"] {
        ada.subscribe(channel).await;
        ada.request(json!({"type": "presence_set", "channel": channel, "data": {"n": 1}})).await;
        ada.publish(channel, &"hi").await;
        server.handle().publish(channel, &"from the program").await.expect("stored");
        ada.request(json!({"type": "presence_clear", "channel": channel})).await;
        ada.request(json!({"type": "unsubscribe", "channel": channel})).await;
    }
    server.advance(secs(30)).await;
    let expected = [
        "chat:a occupied",
        "chat:a join ada {\"n\":1}",
        "1 \"hi\" of ada",
        "2 \"from the program\" of nobody",
        "leave {\"team\":\"blue\"}",
        "chat:a vacated",
    ];
    assert_eq!(told(&mut tells, expected.len()).await, expected);
    assert!(tells.try_recv().is_err(), "nothing of other channels");
    assert_eq!(server.handle().notices_dropped(), 0);
}

/// The numbers that are published, as `channel number`, behind the gate for `slow:*`.
async fn numbers(State(app): State<App>, channel: Channel, Json(n): Json<u64>) -> Result<(), Refusal> {
    if channel.starts_with("slow:") {
        app.gate.acquire().await?.forget();
    }
    app.tell(format!("{} {n}", &*channel));
    Ok(())
}

#[tokio::test]
async fn a_slow_handler_delays_its_channel_and_no_other_and_no_publisher() {
    let (app, mut tells) = app();
    let gate = app.gate.clone();
    let server = Fanfare::builder(app).channel("**", |c| c.open()).on_published("**", numbers);
    let server = server.build().expect("valid").test().expect("it starts");
    let hub = server.handle();
    for n in 0..3 {
        within(hub.publish("slow:a", &n)).await.expect("a publisher does not wait");
        within(hub.publish("quick:a", &n)).await.expect("stored");
    }
    assert_eq!(told(&mut tells, 3).await, ["quick:a 0", "quick:a 1", "quick:a 2"]);
    gate.add_permits(3);
    assert_eq!(told(&mut tells, 3).await, ["slow:a 0", "slow:a 1", "slow:a 2"]);
}

/// Each fault is of one call. `unavailable` brings the same notice again, and the later ones wait for it.
#[tokio::test]
async fn a_handler_that_fails_loses_one_notice_and_one_that_is_unavailable_gets_it_again() {
    let (app, mut tells) = app();
    let limits = fanfare::hub::Limits { hook_timeout_ms: 50, ..fanfare::hub::Limits::default() };
    let server = Fanfare::builder(app)
        .config(Config { limits, admin: fanfare::AdminOn::MainPort, hosts: fanfare::Hosts::Any, ..Config::default() })
        .channel("**", |c| c.open())
        .on_published("**", async |State(app): State<App>, Json(n): Json<u64>| {
            match n {
                1 => panic!("on purpose"),
                2 => return Err(Refusal::internal("the database says no")),
                3 => std::future::pending().await,
                4 if app.calls.fetch_add(1, Relaxed) < 2 => {
                    return Err(Refusal::unavailable("the database is away", Duration::from_millis(1)));
                }
                _ => app.tell(n.to_string()),
            }
            Ok(())
        });
    let running = server.build().expect("valid").start(&at_any_port()).expect("it starts");
    let hub = running.handle();
    for n in 0..=5 {
        within(hub.publish("a", &n)).await.expect("stored");
    }
    assert_eq!(told(&mut tells, 3).await, ["0", "4", "5"]);
    let address = running.tcp_address().expect("a port");
    let figures = tokio::task::spawn_blocking(move || scrape(address)).await.expect("figures");
    let figure =
        |result| figures.get(&format!("fanfare_hook_results_total{{handler=\"on_published\",result=\"{result}\"}}"));
    assert_eq!([figure("failed"), figure("timeout"), figure("refused")], [2.0, 1.0, 2.0]);
    assert_eq!(hub.notices_dropped(), 0);
}

#[tokio::test]
async fn what_finds_no_room_is_dropped_and_counted_and_what_has_room_keeps_its_order() {
    const ALL: u64 = 200;
    let (app, mut tells) = app();
    let gate = app.gate.clone();
    let mut config = Config::default();
    config.hooks.notices.bytes_max = 64 << 10;
    let server = Fanfare::builder(app).config(config).channel("**", |c| c.open()).on_published("**", numbers);
    let server = server.build().expect("valid").test().expect("it starts");
    let hub = server.handle();
    for n in 0..ALL {
        within(hub.publish("slow:a", &n)).await.expect("a publisher does not wait");
    }
    within(hub.publish("quick:a", &7)).await.expect("stored");
    assert_eq!(told(&mut tells, 1).await, ["quick:a 7"], "one channel does not take the room of all");
    let dropped = hub.notices_dropped();
    assert!(0 < dropped && dropped < ALL, "{dropped}");
    gate.add_permits(ALL as usize);
    let kept = told(&mut tells, (ALL - dropped) as usize).await;
    let expected: Vec<String> = (0..ALL - dropped).map(|n| format!("slow:a {n}")).collect();
    assert_eq!(kept, expected, "the first ones had room");
    within(hub.publish("slow:a", &ALL)).await.expect("stored");
    gate.add_permits(1);
    assert_eq!(told(&mut tells, 1).await, [format!("slow:a {ALL}")], "there is room again");
}

#[tokio::test]
async fn a_server_that_drains_waits_for_the_handlers_of_notices() {
    let (app, mut tells) = app();
    let gate = app.gate.clone();
    let server = Fanfare::builder(app).channel("**", |c| c.open()).on_published("**", numbers);
    let running = server.build().expect("valid").start(&at_any_port()).expect("it starts");
    let hub: Handle = running.handle();
    for n in 0..50 {
        within(hub.publish("slow:a", &n)).await.expect("stored");
    }
    let draining = tokio::spawn(running.drain());
    gate.add_permits(50);
    within(draining).await.expect("no panic").expect("no shard failed");
    let mut all = Vec::new();
    while let Ok(words) = tells.try_recv() {
        all.push(words);
    }
    assert_eq!(all, (0..50).map(|n| format!("slow:a {n}")).collect::<Vec<_>>());
}

#[test]
fn two_handlers_for_the_same_notices_are_refused() {
    let build =
        Fanfare::builder(()).on_join("a:*", async || {}).on_leave("a:*", async || {}).on_join("a:*", async || {});
    let error = build.build().err().expect("two for one pattern").to_string();
    assert!(error.contains("on_join") && error.contains("a:*"), "{error}");
}
