//! `fanfare-bench`: measures Fanfare, a floor and named peers in one run.
//!
//! The table goes to stdout, progress and errors to stderr. Exit status: 0 measured (whatever the verdicts are, unless
//! `--enforce`), 1 something is missing, not valid, or a target is missed under `--enforce`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use fanfare_bench::load::Wait;
use fanfare_bench::peers::{Kind, Role, Roster};
use fanfare_bench::report::{Machine, Report, Verdict};
use fanfare_bench::suite::{self, Settings, Suite};
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
    /// All of the above
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
    /// Who takes part, in this order
    #[arg(long, value_delimiter = ',', default_value = "fanfare,floor,bun,ws,socketio")]
    servers: Vec<Kind>,
    /// Rounds of every suite but idle
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Rounds of idle
    #[arg(long, default_value_t = 3)]
    idle_rounds: usize,
    /// A smoke test: one short round of everything with few connections; its figures mean nothing
    #[arg(long)]
    quick: bool,
    /// Members of the room in fanout, the publisher included
    #[arg(long, default_value_t = 1000)]
    subscribers: usize,
    /// Publications in flight in fanout; may be given several times
    #[arg(long = "window", default_values_t = [1, 8])]
    windows: Vec<usize>,
    /// Seconds that each measured phase of fanout and echo lasts
    #[arg(long, default_value_t = 1.5)]
    seconds: f64,
    /// Connections in echo
    #[arg(long, default_value_t = 100)]
    echo_connections: usize,
    /// Connections made and closed by a round of connect
    #[arg(long, default_value_t = 4000)]
    connects: usize,
    /// Connections in idle
    #[arg(long, default_value_t = 15_000)]
    idle_connections: usize,
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
    /// How it is started; {addr} stands for HOST:PORT
    #[arg(long, default_value = "dev --listen {addr} --shards 1", allow_hyphen_values = true)]
    fanfare_args: String,
    /// The release build of its example `echo` [default: examples/echo beside this program]
    #[arg(long)]
    fanfare_echo: Option<PathBuf>,
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
    let suites: Vec<Suite> = [
        (SuiteName::Fanout, Suite::Fanout { windows: options.windows.clone() }),
        (SuiteName::Echo, Suite::Echo),
        (SuiteName::Connect, Suite::Connect),
        (SuiteName::Idle, Suite::Idle),
    ]
    .into_iter()
    .filter(|(name, _)| names.contains(name) || names.contains(&SuiteName::All))
    .map(|(_, suite)| suite)
    .collect();
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    let beside = |name: &str| own.with_file_name(name);
    let roster = Roster {
        fanfare: options.fanfare.clone().unwrap_or_else(|| beside("fanfare")),
        fanfare_args: options.fanfare_args.clone(),
        fanfare_echo: options.fanfare_echo.clone().unwrap_or_else(|| beside("examples").join("echo")),
        peers: options.peers.clone(),
        own: own.clone(),
    };
    let cores = std::thread::available_parallelism().context("cannot count the cores")?.get();
    let load_before = server::load_average()?;
    server::pin(options.load_core).context("the load generator needs a core of its own")?;
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
    let full = Settings {
        servers: options.servers.clone(),
        rounds: options.rounds,
        idle_rounds: options.idle_rounds,
        subscribers: options.subscribers,
        phase: Duration::from_secs_f64(options.seconds),
        echo_connections: options.echo_connections,
        connects: options.connects,
        connects_in_flight: 32,
        idle_connections: options.idle_connections,
        idle_room: 50,
        idle_quiet: Duration::from_secs(3),
        wait: options.wait,
        server_core: options.server_core,
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
        ..full
    }
}
