//! `fanfare dev`: a server to try things with. Permissive rules, pages of any local port, loopback addresses, the demos.

use crate::demos;
use crate::failure::Failure;
use fanfare::{Address, ApiKey, Chat, Config, Fanfare, Native, Origins, Running};
use std::io::{ErrorKind, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::signal::unix::{SignalKind, signal};

const PORT: u16 = 8080;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where to listen; several times or with commas for several addresses [default: port 8080 of 127.0.0.1 and ::1]
    #[arg(long, env = "FANFARE__LISTEN", value_name = "ADDRESS:PORT|unix:PATH", value_delimiter = ',')]
    listen: Vec<Address>,
    /// How many shards, each a thread with its own connections [default: one for each core]
    #[arg(long, env = "FANFARE__SHARDS", value_name = "N")]
    shards: Option<usize>,
    /// The key for the application's API [default: a new one at each start]
    #[arg(long, env = "FANFARE__API_KEY", value_name = "KEY", hide_env_values = true)]
    api_key: Option<String>,
}

/// Runs until SIGTERM or SIGINT; a second one ends it at once.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    log_to_stderr();
    raise_file_limit();
    let mut config = Config { origins: Origins::Localhost, ..Config::open() };
    if let Some(shards) = args.shards {
        config.shards = shards;
    }
    let shards = config.shards;
    let api_key = args.api_key.unwrap_or_else(random_key);
    config.api_keys.push(ApiKey::new("dev", &api_key).map_err(|error| Failure {
        sentence: error.to_string(),
        hint: Some("leave --api-key out, and a new one is made at each start".to_owned()),
        status: 1,
    })?);
    let mut signals = watch_signals()?;
    let running = start(config, args.listen)?;
    greet(&running, shards, &api_key);
    signals.wait_for_one();
    eprintln!("stopping: clients are told to come back; once more ends it at once");
    signals.exit_at_the_next();
    running.drain()?;
    Ok(())
}

fn start(config: Config, listen: Vec<Address>) -> Result<Running, Failure> {
    let build = |config: Config| {
        Fanfare::builder(())
            .config(config)
            .protocol("/", Chat::default())
            .protocol("/v1/ws", Native::default())
            .fallback(demos::router())
            .build()
    };
    if !listen.is_empty() {
        return Ok(build(config)?.start(&listen)?);
    }
    let (v4, v6) = (loopback(Ipv4Addr::LOCALHOST), loopback(Ipv6Addr::LOCALHOST));
    match build(config.clone())?.start(&[v4.clone(), v6.clone()]) {
        // Not every machine and container has IPv6; nobody asked for it by name.
        Err(fanfare::ServeError::Listen { address, source })
            if address == v6
                && (source.kind() == ErrorKind::AddrNotAvailable
                    || source.kind() == ErrorKind::Unsupported
                    || source.raw_os_error() == Some(97)) =>
        {
            Ok(build(config)?.start(&[v4])?)
        }
        started => Ok(started?),
    }
}

fn loopback(ip: impl Into<IpAddr>) -> Address {
    Address::Tcp(SocketAddr::new(ip.into(), PORT))
}

fn greet(running: &Running, shards: usize, api_key: &str) {
    use std::fmt::Write as _;
    let (version, noun) = (env!("CARGO_PKG_VERSION"), if shards == 1 { "shard" } else { "shards" });
    let mut text = format!(
        "fanfare {version}, dev mode: every channel is open to everybody who reaches this port; {shards} {noun}\n"
    );
    for address in running.addresses() {
        let scheme = if matches!(address, Address::Tcp(_)) { "http://" } else { "" };
        let _ = writeln!(text, "listening on {scheme}{address}"); // writing to a String cannot fail
    }
    let _ = writeln!(text, "API key: {api_key}");
    if let Some(address) = running.tcp_address() {
        let _ = writeln!(text, "open http://localhost:{} in two windows: a chat", address.port());
    }
    if let Some(address) = running.addresses().first() {
        let _ = writeln!(text, "publish to it:\n  {}", curl(address, api_key));
    }
    // In one piece: stderr has no buffer, and whoever waits for the address would see half of it. It may be closed: so be it.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// A line to paste into a shell: everybody in the demo's first room sees it.
fn curl(address: &Address, api_key: &str) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let place = match address {
        Address::Tcp(address) if address.ip().is_unspecified() => format!("http://localhost:{}", address.port()),
        Address::Tcp(address) => format!("http://{address}"),
        Address::Unix(path) => format!("--unix-socket {} http://localhost", quoted(&path.to_string_lossy())),
    };
    let key = quoted(&format!("Authorization: Bearer {api_key}"));
    let body = quoted(r#"{"channel":"chat:general","data":{"content":"Hello from curl"}}"#);
    format!("curl {place}/api/v1/publish -H {key} -d {body}")
}

/// The handling of signals, ready before the server is, so that none ends the process without a word.
struct Signals {
    runtime: tokio::runtime::Runtime,
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

fn watch_signals() -> Result<Signals, Failure> {
    let failed = |error: std::io::Error| Failure {
        sentence: format!("cannot watch for signals: {error}"),
        hint: None,
        status: 2,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let guard = runtime.enter();
    let terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    drop(guard);
    Ok(Signals { runtime, terminate, interrupt })
}

impl Signals {
    fn wait_for_one(&mut self) {
        let Signals { runtime, terminate, interrupt } = self;
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
    }

    /// From here on a signal ends the process where it stands.
    fn exit_at_the_next(mut self) {
        std::thread::spawn(move || {
            self.wait_for_one();
            std::process::exit(1);
        });
    }
}

fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("FANFARE__LOG").unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).init();
}

/// As many connections as the system lets this process have: the usual soft limit is 1,024 files.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}

fn random_key() -> String {
    let mut bytes = [0; 16];
    match getrandom::fill(&mut bytes) {
        Ok(()) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        Err(_) => String::new(), // no randomness, no key: an empty one is never accepted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_to_paste_says_where_and_is_quoted_for_a_shell() {
        let rows = [
            ("127.0.0.1:8080", "k", "curl http://127.0.0.1:8080/api/v1/publish -H 'Authorization: Bearer k' -d "),
            ("[::1]:8080", "k", "curl http://[::1]:8080/api/v1/publish -H 'Authorization: Bearer k' -d "),
            ("0.0.0.0:1", "it's", r"curl http://localhost:1/api/v1/publish -H 'Authorization: Bearer it'\''s' -d "),
            (
                "unix:/a b",
                "k",
                "curl --unix-socket '/a b' http://localhost/api/v1/publish -H 'Authorization: Bearer k' -d ",
            ),
        ];
        for (address, key, start) in rows {
            let line = curl(&address.parse().expect("an address"), key);
            assert!(line.starts_with(start) && line.ends_with("}}'"), "{address}: {line}");
        }
    }
}
