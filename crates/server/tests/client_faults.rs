//! The Rust client over each transport through a network that fails: nothing is lost, and nothing comes twice.
//!
//! Two clients publish in turn, one of them through the faults, and each publication must reach both before the next.
//! Times are short, so that a fault costs a second; no result depends on them.

mod support;

use fanfare::{Fanfare, Native};
use fanfare_client::Transport;
use fanfare_client::core::Config;
use fanfare_fault_proxy::{Break, FaultProxy, Faults, Way};
use std::time::Duration;
use support::rust_client::{builder, connect, data, quick, within};
use support::{Random, Server, config, rules};

/// Publications of each test and transport.
const COUNT: u64 = 40;
/// So many connections have faults; the rest pass, so that a test ends.
const FAULTY_MAX: u64 = 12;
/// The client waits so long for an answer.
const PATIENCE: Duration = Duration::from_millis(1_000);

fn impatient(config: &mut Config) {
    quick(config);
    (config.connect_timeout_ms, config.request_timeout_ms) = (2_000, PATIENCE.as_millis() as u64);
}

/// Publishes over each transport through these faults, drawn for each connection by its number. At least `broken_min`
/// of them must have hit; one where there is a WebSocket, because that is one connection until it breaks.
async fn everywhere(
    count: u64,
    broken_min: u64,
    faults: impl Fn(u64, &mut Random) -> Faults + Copy + Send + 'static,
    change: fn(&mut Config),
) {
    let each = Transport::ALL.iter().map(|&transport| async move {
        let native = Native::default().heartbeat_ms(1_000).grace_ms(600_000);
        let config = fanfare::Config { rules: rules(100_000), ..config() };
        let server = Server::of(Fanfare::builder(()).config(config).protocol("/v1/ws", native));
        let mut random = Random::new(7);
        let proxy = FaultProxy::start(server.address, move |number| faults(number, &mut random)).expect("a free port");
        let client = builder(proxy.address, &[transport]).config(change).start().expect("a good URL");
        let writer = connect(server.address, Transport::WebSocket).await;
        let mut heard = within(client.subscribe("c")).await.expect("subscribed");
        let mut heard_there = within(writer.subscribe("c")).await.expect("subscribed");
        for number in 0..count {
            let by = if number % 2 == 0 { &client } else { &writer };
            within(by.publish("c", &number)).await.expect("stored");
            assert_eq!(data(&mut heard_there).await, number.to_string(), "{transport:?}: each once, in order");
            assert_eq!(data(&mut heard).await, number.to_string(), "{transport:?}: each once, in order");
        }
        let (accepted, broken) = (proxy.accepted(), proxy.broken());
        let broken_min = if transport == Transport::WebSocket { 1 } else { broken_min };
        assert!(broken >= broken_min, "{transport:?}: {broken} faults have hit, on {accepted} connections");
    });
    futures_util::future::join_all(each).await;
}

/// Every connection breaks after some bytes, in either direction: requests get lost, and so do their answers.
#[tokio::test]
async fn cut_connections() {
    let faults = |number: u64, random: &mut Random| {
        let times = if number % 4 == 3 { 16 } else { 1 };
        let (up, down) = (times * random.below(3_000), times * random.below(3_000));
        Faults { up: Way::broken(up, Break::End), down: Way::broken(down, Break::End), ..Faults::default() }
    };
    let patient = |config: &mut Config| {
        quick(config);
        (config.connect_timeout_ms, config.request_timeout_ms) = (2_000, 5_000);
    };
    everywhere(100, 4, faults, patient).await;
}

/// A request arrives and takes effect, and its answer is lost: whole, or after a part of it.
#[tokio::test]
async fn lost_answers() {
    let faults = |number: u64, random: &mut Random| match number % 3 {
        1 => Faults::answer_lost(),
        2 => Faults { down: Way::broken(random.below(600), Break::Reset), ..Faults::default() },
        _ => Faults { down: Way::broken(random.below(20_000), Break::End), ..Faults::default() },
    };
    everywhere(100, 4, faults, impatient).await;
}

/// Half-open connections: nothing passes any more, and neither end learns of it.
#[tokio::test]
async fn half_open_connections() {
    let faults = |number: u64, random: &mut Random| match number {
        0..FAULTY_MAX => Faults { up: Way::broken(random.below(2_500), Break::Silence), ..Faults::default() },
        _ => Faults::default(),
    };
    everywhere(COUNT, 3, faults, impatient).await;
}

/// One direction is lost, and the other goes on.
#[tokio::test]
async fn one_way_connections() {
    let faults = |number: u64, random: &mut Random| {
        let way = Way::broken(random.below(2_500), Break::OneWay);
        match number {
            0..FAULTY_MAX if number.is_multiple_of(2) => Faults { up: way, ..Faults::default() },
            0..FAULTY_MAX => Faults { down: way, ..Faults::default() },
            _ => Faults::default(),
        }
    };
    everywhere(COUNT, 3, faults, impatient).await;
}

/// A direction stands still for longer than the client waits: what was sent arrives late, behind its repeat.
#[tokio::test]
async fn stalled_connections() {
    let faults = |number: u64, random: &mut Random| {
        let way = Way::broken(random.below(800), Break::Stall(PATIENCE * 3 / 2));
        match number {
            0..FAULTY_MAX if number.is_multiple_of(2) => Faults { up: way, ..Faults::default() },
            0..FAULTY_MAX => Faults { down: way, ..Faults::default() },
            _ => Faults::default(),
        }
    };
    everywhere(COUNT, 2, faults, impatient).await;
}

/// Ways of different lengths, and connections that the server sees behind the next one: requests overtake each other.
#[tokio::test]
async fn delayed_and_reordered_connections() {
    let faults = |number: u64, random: &mut Random| {
        let mut delay = || Way::delayed(Duration::from_millis(random.below(60) as u64));
        let behind_the_next = (number % 3 == 1).then_some(Duration::from_millis(100));
        let broken = (number < FAULTY_MAX).then(|| Way { fault: Way::broken(4_000, Break::End).fault, ..delay() });
        Faults { up: delay(), down: broken.unwrap_or_else(delay), behind_the_next, ..Faults::default() }
    };
    everywhere(COUNT, 1, faults, impatient).await;
}
