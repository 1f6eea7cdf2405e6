//! The suites for Fanfare alone, with small sizes, against the real server in this process.

use std::time::Duration;

use super::{JitterSettings, Sample, Settings, Suite};
use crate::load::Wait;
use crate::load::flood::{Bad, End, FloodSettings};
use crate::load::transport::{Over, Transport};
use crate::peers::{API_KEY, Role, ServerKind};
use crate::report::{Fanout, FloodPart, Metric};
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
        tls_connections: 20,
        handshakes: 20,
        flood: FloodSettings { clients: 40, rate: 0, at_once: false },
        flood_phase: Duration::from_secs(2),
        jitter: JitterSettings {
            clients: 20,
            phase: Duration::from_millis(1200),
            pause: Duration::from_millis(20),
            online: Duration::from_millis(300),
            offline: Duration::from_millis(100),
            seed: 7,
        },
        wait: Wait::Sleep,
        server_core: 0,
        load_core: 0,
    }
}

/// The metrics for which a round has samples. The suite's own checks (offsets, contents, recoveries) decide whether
/// there are any.
fn measured(suite: &Suite, shards: usize) -> Vec<Metric> {
    samples(suite, shards).into_iter().map(|sample| sample.metric).collect()
}

fn samples(suite: &Suite, shards: usize) -> Vec<Sample> {
    let tls = (suite.role() == Role::Tls).then(certificate);
    let recovery = Duration::from_secs(60);
    let socketio =
        fanfare::SocketIoConfig { enabled: true, max_disconnection_duration: recovery, ..Default::default() };
    let open = fanfare::Config::open();
    // As for the program: one client of a measurement sends what many would.
    let limits = fanfare::hub::Limits { quotas: fanfare::hub::Quotas::NONE, ..open.limits };
    let config = fanfare::Config { shards, tls, socketio, limits, ..open };
    let running = fanfare::Fanfare::builder(())
        .config(config)
        .protocol("/v1/ws", fanfare::Native::default())
        .api_key(fanfare::ApiKey::new("bench", API_KEY).expect("a valid key"))
        .build()
        .expect("a valid server")
        .start(&["127.0.0.1:0".parse().expect("an address")])
        .expect("a free port");
    let addr = running.addresses()[0].to_string().parse().expect("an address of TCP");
    let server = Server::attached(std::process::id(), addr);
    let samples = suite.round(ServerKind::Fanfare, &server, &settings()).expect("a valid round");
    assert!(samples.iter().all(|sample| sample.value.is_finite()), "{samples:?}");
    samples
}

fn certificate() -> fanfare::Tls {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    fanfare::Tls::from_pem(chain.as_bytes(), key.as_bytes()).expect("they fit")
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
fn rooms_of_socketio_beside_the_native_protocol() {
    let of =
        |of| [Metric::FanoutCpu { of, window: 2 }, Metric::FanoutRate { of, window: 2 }, Metric::FanoutBytes { of }];
    let expected = [of(Fanout::Native), of(Fanout::SocketIo)].concat();
    assert_eq!(measured(&Suite::Fanout { of: Fanout::SocketIo, windows: vec![2] }, 1), expected);
    assert_eq!(measured(&Suite::SocketIoIdle, 2), [Metric::SocketMemory]);
}

#[test]
fn socketio_by_polls() {
    assert_eq!(measured(&Suite::SocketIoPolls, 2), [Metric::SocketPollRate, Metric::SocketPollCpu]);
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

#[test]
fn idle_streams_and_polls() {
    let http1 = Transport::BY_HTTP.map(|by| (by, Over::Http1));
    // The last connection has fewer streams than the others.
    let http2 = [(Transport::Sse, 1), (Transport::Events, 8)].map(|(by, streams)| (by, Over::Http2 { streams }));
    for (by, over) in http1.into_iter().chain(http2) {
        assert_eq!(measured(&Suite::StreamIdle { by, over }, 2), [Metric::StreamMemory { by, over }], "{by}, {over}");
    }
}

#[test]
fn clients_that_go_offline_get_everything_by_every_transport() {
    for by in Transport::ALL {
        let samples = samples(&Suite::Jitter { by }, 2);
        let metrics: Vec<_> = samples.iter().map(|sample| sample.metric).collect();
        let times = |percent| [Metric::JitterDelay { by, percent }, Metric::JitterRecovery { by, percent }];
        let expected = [&[Metric::JitterShare { by }, Metric::JitterCpu { by }][..], &times(50), &times(99)].concat();
        assert_eq!(metrics, expected);
        assert_eq!(samples[0].value, 100.0, "{by}: the delivered share");
    }
}

#[test]
fn tls() {
    let (of, window) = (Fanout::Tls, 1);
    let fanout = [Metric::FanoutCpu { of, window }, Metric::FanoutRate { of, window }, Metric::FanoutBytes { of }];
    let handshakes = |resumed| [Metric::HandshakeRate { resumed }, Metric::HandshakeCpu { resumed }];
    let expected = [&[Metric::TlsMemory][..], &fanout, &handshakes(false), &handshakes(true)].concat();
    assert_eq!(measured(&Suite::Tls, 2), expected);
}

#[test]
fn compression() {
    let samples = samples(&Suite::Compression, 1);
    let bytes = |length, deflated| {
        let metric = Metric::CompressionBytes { length, deflated };
        samples.iter().find(|sample| sample.metric == metric).expect("measured").value
    };
    assert_eq!(samples.len(), 12);
    assert!(bytes(16 * 1024, false) > 16.0 * 1024.0 && bytes(16 * 1024, true) < 8.0 * 1024.0, "{samples:?}");
    assert!((bytes(256, true) - bytes(256, false)).abs() < 8.0, "too short to be compressed: {samples:?}");
}

/// No good client is harmed, and each bad one gets the answer that its way deserves.
#[test]
fn flood() {
    let samples = samples(&Suite::Flood, 1);
    let value = |metric| samples.iter().find(|sample| sample.metric == metric).map(|sample| sample.value);
    for part in [FloodPart::Before, FloodPart::During, FloodPart::After] {
        for percent in [50, 99, 100] {
            assert!(value(Metric::FloodDelay { part, percent }).is_some(), "{part:?}");
            assert!(value(Metric::FloodWelcome { part, percent }).is_some(), "{part:?}");
        }
        assert!(value(Metric::FloodMemory { part }).is_some() && value(Metric::FloodCpu { part }).is_some());
        assert_eq!(value(Metric::FloodRefused { part }), Some(0.0), "no limit of newcomers was reached");
    }
    for bad in Bad::ALL {
        assert!(value(Metric::FloodActs { bad }).is_some_and(|acts| acts > 0.0), "{bad}");
    }
    let ends = [
        (Bad::Garbage, End::Status(400)),
        (Bad::BadToken, End::Refused("unauthorized")),
        (Bad::Oversized, End::Code(1009)),
        (Bad::Broken, End::Refused("bad_request")),
        (Bad::Hasty, End::Done),
        (Bad::Names, End::Done),
        (Bad::Restless, End::Done),
    ];
    for (bad, end) in ends {
        assert!(value(Metric::FloodEnds { bad, end }).is_some_and(|count| count > 0.0), "{bad}: {end}: {samples:#?}");
    }
}
