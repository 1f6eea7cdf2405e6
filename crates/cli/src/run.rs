//! A server's life in this process, for `dev` and `serve`: start, greet, read the settings again on SIGHUP, drain on SIGTERM.

use crate::failure::Failure;
use crate::notify::Notify;
use fanfare::settings::{Problems, Setting, Settings, Source};
use fanfare::{Address, AdminOn, Builder, Chat, Fanfare, LogError, LogFormat, Logs, Running, ServeError};
use std::io::{ErrorKind, Write as _};
use std::net::SocketAddr;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What the two commands do differently.
pub(crate) struct Plan<'p> {
    pub(crate) settings: Settings,
    /// What is served besides the protocols.
    pub(crate) pages: Option<axum::Router>,
    /// What is said when connections are accepted.
    pub(crate) greeting: &'p dyn Fn(&Running, &Settings) -> String,
    /// Reads the settings again. Without it a SIGHUP ends the process, as a closed terminal should.
    pub(crate) again: Option<&'p dyn Fn() -> Result<Settings, Problems>>,
}

/// Runs until SIGTERM or SIGINT; a second one ends it at once.
pub(crate) fn run(plan: Plan<'_>) -> Result<(), Failure> {
    log_to_stderr(&plan.settings)?;
    raise_file_limit();
    let mut signals = Signals::watch(plan.again.is_some())?;
    let running = start(&plan.settings, plan.pages).map_err(|error| failed_to_start(error, &plan.settings))?;
    let greeting = (plan.greeting)(&running, &plan.settings);
    // In one piece: stderr has no buffer, and whoever waits for the address would see half of it. It may be closed: so be it.
    let _ = std::io::stderr().write_all(greeting.as_bytes());
    let notify = Notify::from_env();
    notify.ready();
    while signals.wait_for_one() == Event::Hangup {
        if let Some(again) = plan.again {
            notify.reloading();
            reload(&running, &plan.settings, again());
            notify.ready();
        }
    }
    notify.stopping();
    eprintln!("stopping: clients are told to come back; once more ends it at once");
    signals.exit_at_the_next();
    running.drain()?;
    Ok(())
}

/// An address that is in use is one of two settings'.
fn failed_to_start(error: ServeError, settings: &Settings) -> Failure {
    let is_admin = |address: &Address| settings.config.admin == AdminOn::Address(address.clone());
    let hint = match &error {
        ServeError::Listen { address, source } if source.kind() == ErrorKind::AddrInUse && is_admin(address) => {
            Some("that is where it would be watched; choose another address with --admin-listen, or \"off\"".to_owned())
        }
        _ => None,
    };
    let failure = Failure::from(error);
    Failure { hint: hint.or(failure.hint), ..failure }
}

fn start(settings: &Settings, pages: Option<axum::Router>) -> Result<Running, ServeError> {
    let build = || builder(settings, pages.clone()).build();
    let is_default = Setting::of("listen").is_some_and(|listen| *settings.source(listen) == Source::Default);
    match build()?.start(&settings.listen) {
        // Not every machine and container has IPv6; nobody asked for it by name.
        Err(ServeError::Listen { address, source }) if is_default && is_v6(&address) && is_missing(&source) => {
            let others: Vec<Address> = settings.listen.iter().filter(|other| !is_v6(other)).cloned().collect();
            build()?.start(&others)
        }
        started => started,
    }
}

fn builder(settings: &Settings, pages: Option<axum::Router>) -> Builder {
    let mut builder = Fanfare::builder(()).config(settings.config.clone());
    if settings.chat.enabled {
        let heartbeat_ms = u32::try_from(settings.chat.heartbeat_ms).unwrap_or(u32::MAX); // an hour at most
        builder = builder.protocol("/", Chat::default().heartbeat_ms(heartbeat_ms));
    }
    match pages {
        Some(pages) => builder.fallback(pages),
        None => builder,
    }
}

fn is_v6(address: &Address) -> bool {
    matches!(address, Address::Tcp(SocketAddr::V6(_)))
}

fn is_missing(error: &std::io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    matches!(error.kind(), ErrorKind::AddrNotAvailable | ErrorKind::Unsupported)
        || error.raw_os_error() == Some(EAFNOSUPPORT)
}

/// Puts new rules in force, or keeps the old ones and says why. Everything is told in the log.
fn reload(running: &Running, started_with: &Settings, read: Result<Settings, Problems>) {
    match read {
        Ok(settings) => {
            for warning in settings.warnings() {
                tracing::warn!("{}", warning.in_one_line());
            }
            running.reload_rules(&settings.config.rules);
            for key in settings.differing(started_with) {
                tracing::warn!("{key} has changed, which needs a restart: the old value stays in force");
            }
            tracing::info!(
                rules = settings.config.rules.iter().count(),
                "reloaded: the rules of the file are in force"
            );
        }
        Err(problems) => {
            for problem in &problems.0 {
                tracing::error!("{}", problem.in_one_line());
            }
            tracing::error!("not reloaded: the old settings stay in force");
        }
    }
}

/// The lines that say where it listens.
pub(crate) fn addresses(running: &Running) -> String {
    let line = |address: &Address| {
        let scheme = if matches!(address, Address::Tcp(_)) { "http://" } else { "" };
        format!("listening on {scheme}{address}\n")
    };
    running.addresses().iter().map(line).collect()
}

/// `1 shard`, `2 shards`.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    End,
    Hangup,
}

/// The handling of signals, ready before the server is, so that none ends the process without a word.
struct Signals {
    runtime: tokio::runtime::Runtime,
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<Signal>,
}

impl Signals {
    fn watch(with_hangup: bool) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure {
            sentence: format!("cannot watch for signals: {error}"),
            hint: None,
            status: 2,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let guard = runtime.enter();
        let terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let hangup = with_hangup.then(|| signal(SignalKind::hangup())).transpose().map_err(failed)?;
        drop(guard);
        Ok(Signals { runtime, terminate, interrupt, hangup })
    }

    fn wait_for_one(&mut self) -> Event {
        let Signals { runtime, terminate, interrupt, hangup } = self;
        runtime.block_on(async {
            let hangup = async {
                match hangup {
                    Some(hangup) => hangup.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = terminate.recv() => Event::End,
                _ = interrupt.recv() => Event::End,
                _ = hangup => Event::Hangup,
            }
        })
    }

    /// From here on a signal ends the process where it stands.
    fn exit_at_the_next(mut self) {
        std::thread::spawn(move || {
            while self.wait_for_one() == Event::Hangup {}
            std::process::exit(1);
        });
    }
}

fn log_to_stderr(settings: &Settings) -> Result<(), Failure> {
    let failed = |error: LogError| Failure { sentence: error.to_string(), hint: None, status: 1 };
    let format: LogFormat = settings.log.format.parse().map_err(failed)?;
    let logs = Logs::default().format(format).filter(&settings.log.level);
    // A key that a client puts where it does not belong must not be found in the log.
    let logs = settings.config.api_keys.iter().fold(logs, |logs, key| logs.secret(key.secret()));
    logs.init().map_err(failed)
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
