//! `fanfare-bench`: measures Fanfare, a floor and named peers in one run.
//!
//! The table goes to stdout, progress and errors to stderr. Exit status: 0 measured (whatever the verdicts are, unless
//! `--enforce`), 1 something is missing, not valid, or a target is missed under `--enforce`.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use fanfare_bench::load::Wait;
use fanfare_bench::load::flood::FloodSettings;
use fanfare_bench::load::transport::{Over, Transport};
use fanfare_bench::peers::{Role, Roster, ServerKind};
use fanfare_bench::report::{Fanout, Machine, Report, Verdict};
use fanfare_bench::suite::{self, JitterSettings, Settings, Suite};
use fanfare_bench::{floor, server};

/// Measures Fanfare beside a floor and named peers
#[derive(Debug, Parser)]
#[command(name = "fanfare-bench", args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// What to measure
    #[arg(value_enum, default_values_t = [SuiteName::All])]
    suites: Vec<SuiteName>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SuiteName {
    /// Server CPU per delivery: one publisher, everybody in one room
    Fanout,
    /// Echoes per second and server CPU per echo
    Echo,
    /// Connections made and closed per second, and server CPU for each
    Connect,
    /// User memory per joined, silent connection
    Idle,
    /// As `fanout`, by the native protocol, with history; beside the floor and Bun
    NativeFanout,
    /// User memory per native connection with one subscription, also after publications to all
    NativeIdle,
    /// One subscriber does not read: the others' latency, and the server's memory
    Slow,
    /// Everybody is cut off and comes back at once, each recovering what it missed
    Storm,
    /// User memory per channel with one subscriber
    Channels,
    /// Native fan-out on two cores, by one shard and by two
    Shards,
    /// As `native-fanout`, to event streams; beside WebSockets in the same round
    SseFanout,
    /// User memory per idle stream, and per session whose poll waits
    StreamIdle,
    /// Clients go offline at random and come back: delivered share, delay, recovery, by each transport
    Jitter,
    /// Good clients beside bad ones of ten kinds: their delays, the server's memory, and its answers to the bad ones
    Flood,
    /// User memory, fan-out and handshakes over TLS; beside nginx in front of a plain server
    Tls,
    /// CPU and bytes of a delivery with and without permessage-deflate; beside `ws` and Bun
    Compression,
    /// All that speak the native protocol: the twelve above
    Native,
    /// Socket.IO: CPU per delivery in rooms and per request of polls, and user memory per client; beside Node
    Socketio,
    /// Everything
    All,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves as the floor (a measurement starts it itself)
    #[command(hide = true)]
    Floor { role: Role, addr: SocketAddr },
}

#[derive(Debug, Args)]
struct Options {
    /// The servers that take part, in this order
    #[arg(long, value_delimiter = ',', default_value = "fanfare,floor,bun,ws,socketio,nginx")]
    servers: Vec<ServerKind>,
    /// Rounds of fanout, echo, connect, native-fanout, shards, sse-fanout and compression
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Rounds of the others, which take long and vary little
    #[arg(long, default_value_t = 3)]
    idle_rounds: usize,
    /// A smoke test: one short round of everything with few connections; its figures mean nothing
    #[arg(long)]
    quick: bool,
    /// Members of the room in the fan-outs and in slow, all included
    #[arg(long, default_value_t = 1000)]
    subscribers: usize,
    /// Publications in flight in the fan-outs; may be given several times
    #[arg(long = "window", default_values_t = [1, 8])]
    windows: Vec<usize>,
    /// Seconds that each measured phase of the fan-outs, echo and slow lasts
    #[arg(long, default_value_t = 1.5)]
    seconds: f64,
    /// Connections in echo
    #[arg(long, default_value_t = 100)]
    echo_connections: usize,
    /// Connections made and closed by a round of connect
    #[arg(long, default_value_t = 4000)]
    connects: usize,
    /// Connections in idle, native-idle and stream-idle, and good ones in flood
    #[arg(long, default_value_t = 15_000)]
    idle_connections: usize,
    /// Connections in a room of idle; 1 gives each a room of its own
    #[arg(long, default_value = "50")]
    idle_room: NonZeroUsize,
    /// Publications to all of them in native-idle
    #[arg(long, default_value_t = 1000)]
    idle_publications: usize,
    /// Clients in storm
    #[arg(long, default_value_t = 10_000)]
    storm_clients: usize,
    /// Channels in channels
    #[arg(long, default_value_t = 100_000)]
    channels: usize,
    /// Connections in tls
    #[arg(long, default_value_t = 5000)]
    tls_connections: usize,
    /// TLS handshakes of each kind in a round of tls
    #[arg(long, default_value_t = 4000)]
    handshakes: usize,
    /// Bad clients at a time in flood
    #[arg(long, default_value_t = 3000)]
    flood_clients: usize,
    /// The most connects and commands of theirs per second; 0 for as many as they can
    #[arg(long, default_value_t = 5000)]
    flood_rate: u32,
    /// Those that act once a second in flood do so in one instant; otherwise they are spread over the second
    #[arg(long)]
    flood_at_once: bool,
    /// Seconds that each part of flood lasts
    #[arg(long, default_value_t = 90.0)]
    flood_seconds: f64,
    /// Clients in jitter
    #[arg(long, default_value_t = 5000)]
    jitter_clients: usize,
    /// Seconds for which a round of jitter publishes
    #[arg(long, default_value_t = 60.0)]
    jitter_seconds: f64,
    /// Publications per second in jitter
    #[arg(long, default_value_t = 2.0)]
    jitter_rate: f64,
    /// The seed of the randomness in jitter
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How the load generator waits for deliveries
    #[arg(long, value_enum, default_value_t = Wait::Sleep)]
    wait: Wait,
    /// The core of the server under measurement
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// The core of the load generator
    #[arg(long, default_value_t = 1)]
    load_core: usize,
    /// The release binary of Fanfare [default: beside this program]
    #[arg(long)]
    fanfare: Option<PathBuf>,
    /// How it is started; {addr} stands for HOST:PORT, {shards} for their number
    #[arg(long, default_value = "dev --listen {addr} --shards {shards}", allow_hyphen_values = true)]
    fanfare_args: String,
    /// The release build of its example `echo` [default: examples/echo beside this program]
    #[arg(long)]
    fanfare_echo: Option<PathBuf>,
    /// The binary of Centrifugo, version 6, which then takes part in jitter
    #[arg(long)]
    centrifugo: Option<PathBuf>,
    /// The folder of the peers' scripts
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/peers"))]
    peers: PathBuf,
    /// Write every sample, ratio and verdict to this file as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// Exit with status 1 if a target is missed
    #[arg(long)]
    enforce: bool,
}

/// Event streams on a connection of HTTP/2 in stream-idle: one, as many as a window with some tabs has, and the most
/// that Fanfare allows.
const HTTP2_STREAMS: [usize; 3] = [1, 8, 100];

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Some(Command::Floor { role, addr }) => {
            floor::serve(addr, role).context("the floor cannot serve").map(|()| ExitCode::SUCCESS)
        }
        None => measure(&cli.suites, &cli.options),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(1)
    })
}

fn measure(names: &[SuiteName], options: &Options) -> anyhow::Result<ExitCode> {
    let fanout = |of| Suite::Fanout { of, windows: options.windows.clone() };
    let chat = [
        (SuiteName::Fanout, fanout(Fanout::Chat)),
        (SuiteName::Echo, Suite::Echo),
        (SuiteName::Connect, Suite::Connect),
        (SuiteName::Idle, Suite::Idle),
    ];
    let native = [
        (SuiteName::NativeFanout, fanout(Fanout::Native)),
        (SuiteName::NativeIdle, Suite::NativeIdle),
        (SuiteName::Slow, Suite::Slow),
        (SuiteName::Storm, Suite::Storm),
        (SuiteName::Channels, Suite::Channels),
        (SuiteName::Shards, fanout(Fanout::Shards)),
        (SuiteName::SseFanout, fanout(Fanout::Sse)),
    ];
    let http1 = Transport::BY_HTTP.map(|by| (by, Over::Http1));
    let http2 = [Transport::Sse, Transport::Events]
        .into_iter()
        .flat_map(|by| HTTP2_STREAMS.map(|streams| (by, Over::Http2 { streams })));
    let streams =
        http1.into_iter().chain(http2).map(|(by, over)| (SuiteName::StreamIdle, Suite::StreamIdle { by, over }));
    let jitter = Transport::ALL.map(|by| (SuiteName::Jitter, Suite::Jitter { by }));
    let more =
        [(SuiteName::Flood, Suite::Flood), (SuiteName::Tls, Suite::Tls), (SuiteName::Compression, Suite::Compression)];
    let native = native.into_iter().chain(streams).chain(jitter).chain(more);
    let socketio = [fanout(Fanout::SocketIo), Suite::SocketIoIdle, Suite::SocketIoPolls]
        .map(|suite| (vec![SuiteName::Socketio, SuiteName::All], suite));
    let chat = chat.map(|(name, suite)| (vec![name, SuiteName::All], suite));
    let native = native.map(|(name, suite)| (vec![name, SuiteName::Native, SuiteName::All], suite));
    let suites: Vec<Suite> = chat
        .into_iter()
        .chain(native)
        .chain(socketio)
        .filter(|(called, _)| called.iter().any(|name| names.contains(name)))
        .map(|(_, suite)| suite)
        .collect();
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    let beside = |name: &str| own.with_file_name(name);
    let roster = Roster {
        fanfare: options.fanfare.clone().unwrap_or_else(|| beside("fanfare")),
        fanfare_args: options.fanfare_args.clone(),
        fanfare_echo: options.fanfare_echo.clone().unwrap_or_else(|| beside("examples").join("echo")),
        centrifugo: options.centrifugo.clone(),
        peers: options.peers.clone(),
        own: own.clone(),
    };
    let cores = std::thread::available_parallelism().context("cannot count the cores")?.get();
    let load_before = server::load_average()?;
    server::pin(&[options.load_core]).context("the load generator needs a core of its own")?;
    let mut report = Report::default();
    let run = suite::run(&suites, &roster, &settings(options), &mut report, |suite, round, kind, samples| {
        let values: Vec<String> =
            samples.iter().map(|sample| format!("{:.2} {}", sample.value, sample.metric.unit())).collect();
        eprintln!("{} round {round} {kind:<9} {}", suite.name(), values.join("  "));
    });
    report.machine = Some(Machine { cores, load_before, load_after: server::load_average()? });
    if !report.is_empty() {
        print!("{report}");
    }
    if let Some(path) = options.json.as_ref().filter(|_| !report.is_empty()) {
        let text = serde_json::to_string_pretty(&report.to_json()).context("cannot write the report as JSON")?;
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    run?;
    let missed = report.verdicts().any(|(_, _, verdict)| verdict == Verdict::Missed);
    Ok(ExitCode::from(u8::from(missed && options.enforce)))
}

fn settings(options: &Options) -> Settings {
    let centrifugo = options.centrifugo.is_some().then_some(ServerKind::Centrifugo);
    let full = Settings {
        servers: options.servers.iter().copied().chain(centrifugo).collect(),
        rounds: options.rounds,
        idle_rounds: options.idle_rounds,
        subscribers: options.subscribers,
        phase: Duration::from_secs_f64(options.seconds),
        echo_connections: options.echo_connections,
        connects: options.connects,
        connects_in_flight: 32,
        idle_connections: options.idle_connections,
        idle_room: options.idle_room.get(),
        idle_quiet: Duration::from_secs(3),
        idle_publications: options.idle_publications,
        slow_turns: 2,
        slow_flood: 2000,
        storm_clients: options.storm_clients,
        storm_missed: 50,
        channels: options.channels,
        tls_connections: options.tls_connections,
        handshakes: options.handshakes,
        flood: FloodSettings {
            clients: options.flood_clients,
            rate: options.flood_rate,
            at_once: options.flood_at_once,
        },
        flood_phase: Duration::from_secs_f64(options.flood_seconds),
        jitter: JitterSettings {
            clients: options.jitter_clients,
            phase: Duration::from_secs_f64(options.jitter_seconds),
            pause: Duration::from_secs_f64(options.jitter_rate.recip()),
            online: Duration::from_secs(15),
            offline: Duration::from_secs(2),
            seed: options.seed,
        },
        wait: options.wait,
        server_core: options.server_core,
        load_core: options.load_core,
    };
    if !options.quick {
        return full;
    }
    Settings {
        rounds: 1,
        idle_rounds: 1,
        subscribers: full.subscribers.min(100),
        phase: Duration::from_millis(200),
        connects: full.connects.min(200),
        idle_connections: full.idle_connections.min(500),
        idle_quiet: Duration::ZERO,
        idle_publications: full.idle_publications.min(20),
        slow_turns: 1,
        storm_clients: full.storm_clients.min(200),
        channels: full.channels.min(1000),
        tls_connections: full.tls_connections.min(500),
        handshakes: full.handshakes.min(200),
        flood: FloodSettings { clients: full.flood.clients.min(100), ..full.flood },
        flood_phase: Duration::from_secs(2),
        jitter: JitterSettings {
            clients: full.jitter.clients.min(200),
            phase: Duration::from_secs(2),
            pause: Duration::from_millis(50),
            online: Duration::from_millis(500),
            offline: Duration::from_millis(200),
            ..full.jitter
        },
        ..full
    }
}
