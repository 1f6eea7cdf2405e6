//! The suites for Fanfare alone, with small sizes, against the real server in this process.

use std::time::Duration;

use super::{Settings, Suite};
use crate::load::Wait;
use crate::peers::ServerKind;
use crate::report::{Fanout, Metric};
use crate::server::Server;

fn settings() -> Settings {
    Settings {
        servers: vec![ServerKind::Fanfare],
        rounds: 1,
        idle_rounds: 1,
        subscribers: 10,
        phase: Duration::from_millis(100),
        echo_connections: 1,
        connects: 1,
        connects_in_flight: 1,
        idle_connections: 20,
        idle_room: 10,
        idle_quiet: Duration::ZERO,
        idle_publications: 10,
        slow_turns: 1,
        slow_flood: 2000,
        storm_clients: 50,
        storm_missed: 50,
        channels: 300,
        wait: Wait::Sleep,
        server_core: 0,
        load_core: 0,
    }
}

/// The metrics for which a round has samples. The suite's own checks (offsets, contents, recoveries) decide whether
/// there are any.
fn measured(suite: &Suite, shards: usize) -> Vec<Metric> {
    let config = fanfare::Config { shards, ..fanfare::Config::open() };
    let running = fanfare::Fanfare::builder(())
        .config(config)
        .protocol("/v1/ws", fanfare::Native::default())
        .build()
        .expect("a valid server")
        .start(&["127.0.0.1:0".parse().expect("an address")])
        .expect("a free port");
    let addr = running.addresses()[0].to_string().parse().expect("an address of TCP");
    let server = Server::attached(std::process::id(), addr);
    let samples = suite.round(ServerKind::Fanfare, &server, &settings()).expect("a valid round");
    assert!(samples.iter().all(|sample| sample.value.is_finite()), "{samples:?}");
    samples.into_iter().map(|sample| sample.metric).collect()
}

#[test]
fn native_fanout_with_one_and_two_shards() {
    for (of, shards) in [(Fanout::Native, 1), (Fanout::Shards, 2)] {
        let cpu = |window| Metric::FanoutCpu { of, window };
        let rate = |window| Metric::FanoutRate { of, window };
        let expected = [cpu(1), rate(1), cpu(8), rate(8), Metric::FanoutBytes { of }];
        assert_eq!(measured(&Suite::Fanout { of, windows: vec![1, 8] }, shards), expected);
    }
}

#[test]
fn event_streams_beside_websockets() {
    let of =
        |of| [Metric::FanoutCpu { of, window: 2 }, Metric::FanoutRate { of, window: 2 }, Metric::FanoutBytes { of }];
    let expected = [of(Fanout::Native), of(Fanout::Sse)].concat();
    assert_eq!(measured(&Suite::Fanout { of: Fanout::Sse, windows: vec![2] }, 1), expected);
}

#[test]
fn native_idle() {
    let expected = [Metric::SubscribedMemory { published: 0 }, Metric::SubscribedMemory { published: 10 }];
    assert_eq!(measured(&Suite::NativeIdle, 1), expected);
}

#[test]
fn slow() {
    let turn = |stuck| [Metric::DeliveryP99 { stuck }, Metric::DeliveryCpu { stuck }];
    assert_eq!(measured(&Suite::Slow, 1), [&turn(false)[..], &turn(true)[..], &[Metric::StuckMemory]].concat());
}

#[test]
fn storm_on_one_and_two_shards() {
    for shards in [1, 2] {
        assert_eq!(measured(&Suite::Storm, shards), [Metric::StormTime, Metric::StormCpu]);
    }
}

#[test]
fn channels() {
    let expected = [Metric::ChannelMemory { published: 0 }, Metric::ChannelMemory { published: 1 }];
    assert_eq!(measured(&Suite::Channels, 1), expected);
}
