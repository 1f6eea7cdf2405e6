//! `fanfare subscribe`: the events of channels, a JSON line each, through every reconnect.
//!
//! Out: on stdout the native protocol's pushes, with the `epoch` beside each `offset`; on stderr the states. It ends
//! with 0 on SIGINT, on SIGTERM and when nobody reads stdout any more; otherwise when the server has ended it. A signal
//! leaves a reader of stdout [`GRACE`] for the lines that have come.

use super::Server;
use super::base::{Base, unready};
use super::event::{is_ours, json_line};
use super::lines::Lines;
use crate::failure::Failure;
use crate::output::Reader;
use crate::stderr::tell;
use fanfare_client::core::{CallError, EndReason, Event, Setback, State};
use fanfare_client::{Client, Position, Problem, Status, Subscribe, Subscription, Transport};
use std::future::Future;
use std::pin::pin;
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The channels, by name
    #[arg(required = true, value_name = "CHANNEL", value_parser = channel)]
    channels: Vec<String>,
    /// Begin after this place, e.g. bf578df7982ef5cb:41 (with one channel only)
    #[arg(long, value_name = "EPOCH:OFFSET")]
    since: Option<Place>,
    /// Begin with the newest N publications
    #[arg(long, value_name = "N")]
    recent: Option<u32>,
    /// Print who is present, who joins and who leaves
    #[arg(long)]
    presence: bool,
    /// How to connect; auto tries websocket, sse and poll, until one gets through
    #[arg(long, value_name = "TRANSPORT", default_value = "auto")]
    transport: Transports,
    /// Your token, if the server requires one
    #[arg(long, env = "FANFARE_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    token: Option<String>,
    #[command(flatten)]
    server: Server,
}

/// The transports to try, as they are typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Transports {
    Auto,
    #[value(name = "websocket", alias = "ws")]
    WebSocket,
    Sse,
    Stream,
    #[value(alias = "polls")]
    Poll,
}

impl Transports {
    fn list(self) -> &'static [Transport] {
        match self {
            Transports::Auto => Transport::AUTO,
            Transports::WebSocket => &[Transport::WebSocket],
            Transports::Sse => &[Transport::Sse],
            Transports::Stream => &[Transport::Stream],
            Transports::Poll => &[Transport::Poll],
        }
    }
}

/// A position as it is typed.
#[derive(Debug, Clone)]
struct Place(Position);

impl FromStr for Place {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // An epoch is opaque: it may hold a colon.
        let (epoch, offset) = text.rsplit_once(':').ok_or("it is not an epoch, a colon and an offset")?;
        let offset = offset.parse().map_err(|_| "the text after the last colon is not an offset")?;
        if epoch.is_empty() {
            return Err("there is no epoch before the colon");
        }
        Ok(Place(Position { epoch: epoch.into(), offset }))
    }
}

fn channel(name: &str) -> Result<String, &'static str> {
    match name {
        "" => Err("a channel's name is not empty"),
        _ if name.contains('*') => {
            Err("channels are named one by one; `fanfare channels --match` lists those of a pattern")
        }
        _ => Ok(name.to_owned()),
    }
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    if args.since.is_some() && args.channels.len() > 1 {
        return Err(Failure::users(format!(
            "--since is a position in one channel, and {} channels are named",
            args.channels.len()
        ))
        .hint("run one `fanfare subscribe` for each"));
    }
    super::block_on(async {
        let mut stops = Stops::watch()?;
        let (lines, mut writing) = Lines::open();
        let connected = tokio::select! {
            connected = stops.unless(connect(&args)) => connected,
            end = writing.ends() => return end,
        };
        let Some(client) = connected.transpose()? else { return Ok(()) };
        let outcome = tokio::select! {
            outcome = stops.unless(follow(&client, &args, &lines)) => outcome.unwrap_or(Ok(())),
            end = writing.ends() => end,
        };
        client.close().await;
        drop(lines);
        // Events that came until here are still written, for as long as a slow reader takes where the server has
        // ended it.
        match stops.grace(writing.ends()).await {
            Some(written) => outcome.and(written),
            None => {
                tell("ended before all lines were written: stdout is not read");
                outcome
            }
        }
    })
}

/// Connects, and waits for as long as somebody is there who may let us in later.
async fn connect(args: &Args) -> Result<Client, Failure> {
    let base = &args.server.url;
    let mut builder = args.server.client()?.transports(args.transport.list());
    if let Some(token) = args.token.as_deref().filter(|token| !token.is_empty()) {
        builder = builder.token(token);
    }
    let client = builder.start().map_err(|error| unready(&error))?;
    let mut status = client.status();
    loop {
        let now = status.borrow_and_update().clone();
        match (&now.state, &now.problem) {
            (State::Online(_), _) => return Ok(client),
            (State::Ended(EndReason::NoTransport(_)), Some(problem)) => return Err(super::unreached(base, problem)),
            (State::Ended(reason), _) => return Err(ended(base, reason)),
            (State::Waiting { why: Setback::Transport, .. }, Some(problem))
                if !matches!(problem, Problem::Answer { .. }) =>
            {
                return Err(super::unreached(base, problem));
            }
            (State::Waiting { .. }, _) => tell_state(base, &now),
            (State::Connecting, _) => {}
        }
        if status.changed().await.is_err() {
            return Err(ended(base, &EndReason::Stopped));
        }
    }
}

/// Prints until the server ends it.
async fn follow(client: &Client, args: &Args, lines: &Lines) -> Result<(), Failure> {
    let base = &args.server.url;
    let mut status = client.status();
    let teller = Teller::new(base, client);
    teller.catch_up();
    let mut incoming = client.incoming().map_err(|error| Failure::ours(error.to_string()))?;
    let mut channels: JoinSet<Result<(), Failure>> = JoinSet::new();
    for name in &args.channels {
        let options = Subscribe {
            since: args.since.clone().map(|place| place.0),
            recent: args.recent,
            presence: args.presence,
            ..Subscribe::new(name.as_str())
        };
        let (client, lines, teller) = (client.clone(), lines.clone(), teller.clone());
        channels.spawn(async move {
            let channel = options.channel.clone();
            let subscription = client.subscribe_with(options).await.map_err(|error| refused(&channel, &error))?;
            print_all(subscription, lines, teller).await;
            Ok(())
        });
    }
    loop {
        tokio::select! {
            biased; // the end of the client says more than those of its subscriptions
            changed = status.changed() => {
                let status = status.borrow_and_update().clone();
                match &status.state {
                    State::Ended(reason) => return Err(ended(base, reason)),
                    _ if changed.is_err() => return Err(ended(base, &EndReason::Stopped)),
                    _ => teller.catch_up(),
                }
            }
            // The application subscribed us to it.
            Some(subscription) = incoming.next() => {
                let (lines, teller) = (lines.clone(), teller.clone());
                channels.spawn(async move {
                    print_all(subscription, lines, teller).await;
                    Ok(())
                });
            }
            ended = channels.join_next() => match ended {
                Some(Ok(result)) => result?,
                Some(Err(error)) => return Err(Failure::ours(format!("a subscription failed: {error}"))),
                None => return Err(Failure::users("the server ended every subscription".to_owned())),
            },
        }
    }
}

/// Tells of the connection. The task of a channel that hears first that it is live lets this speak before itself.
#[derive(Clone)]
struct Teller {
    base: Base,
    status: Arc<Mutex<watch::Receiver<Status>>>,
}

impl Teller {
    fn new(base: &Base, client: &Client) -> Self {
        let mut status = client.status();
        status.mark_changed(); // nothing was printed yet
        Teller { base: base.clone(), status: Arc::new(Mutex::new(status)) }
    }

    /// Prints the changes of the status that were not printed yet.
    fn catch_up(&self) {
        let Ok(mut status) = self.status.lock() else { return };
        if status.has_changed().unwrap_or(true) {
            tell_state(&self.base, &status.borrow_and_update());
        }
    }
}

fn tell_state(base: &Base, status: &Status) {
    match &status.state {
        State::Online(connected) => {
            let user = connected.user.as_ref().map(|user| format!(" of {user}")).unwrap_or_default();
            let over = match status.transport {
                Transport::WebSocket => String::new(),
                other => format!(" (transport: {})", other.name()),
            };
            tell(format_args!("connected to {base} as client {}{user}{over}", connected.client));
        }
        State::Waiting { why, .. } => {
            let problem = match (why, &status.problem) {
                (Setback::Transport, Some(problem)) => problem.to_string(),
                (why, _) => why.to_string(),
            };
            let wait = status.retry_at.map(|at| at.saturating_duration_since(Instant::now()));
            let wait = wait.unwrap_or_default().as_secs_f64();
            tell(format_args!("not connected to {base}: {problem}; trying again in {wait:.1} s"));
        }
        State::Connecting | State::Ended(_) => {}
    }
}

/// The client has ended, and will not come back by itself.
fn ended(base: &Base, reason: &EndReason) -> Failure {
    let failure = Failure::users(format!("{base}: {reason}"));
    match reason {
        EndReason::Refused(error) if matches!(&*error.code, "unauthorized" | "token_expired") => {
            failure.hint("give a valid token by --token TOKEN or FANFARE_TOKEN")
        }
        EndReason::Disconnected { code: 4502, .. } => {
            failure.hint("give a valid token by --token TOKEN or FANFARE_TOKEN")
        }
        _ => failure,
    }
}

fn refused(channel: &str, error: &CallError) -> Failure {
    let failure = Failure::users(format!("cannot subscribe to {channel}: {error}"));
    match error {
        CallError::Refused(reply) => match &reply.rule {
            Some(rule) => failure.hint(format!("the rule that decided: {rule}")),
            None => failure,
        },
        _ => failure,
    }
}

async fn print_all(mut subscription: Subscription, lines: Lines, teller: Teller) {
    while let Some(event) = subscription.next().await {
        let channel = subscription.channel();
        match &event {
            Event::Live { position, recovered } => {
                teller.catch_up();
                tell_live(channel, position, *recovered);
            }
            Event::Ended { code, message } if !is_ours(code) => {
                tell(format_args!("{channel}: ended by the server: {message}"))
            }
            _ => {}
        }
        if let Some(line) = json_line(channel, &event)
            && lines.print(line).await == Reader::Gone
        {
            // The end of the writing is the end of all.
            return std::future::pending().await;
        }
    }
}

fn tell_live(channel: &str, Position { epoch, offset }: &Position, recovered: Option<bool>) {
    let missed = match recovered {
        None => "",
        Some(true) => ", nothing was missed",
        Some(false) => ", something was missed",
    };
    tell(format_args!("{channel}: live at {epoch}:{offset}{missed}"));
}

/// How long the lines that have come are written after a signal. Another signal ends it at once.
const GRACE: Duration = Duration::from_secs(1);

/// The signals that end it.
struct Stops {
    interrupt: Signal,
    terminate: Signal,
    /// One has come.
    came: bool,
}

impl Stops {
    fn watch() -> Result<Self, Failure> {
        let watch = |kind| signal(kind).map_err(|error| Failure::ours(format!("cannot watch for signals: {error}")));
        Ok(Stops {
            interrupt: watch(SignalKind::interrupt())?,
            terminate: watch(SignalKind::terminate())?,
            came: false,
        })
    }

    /// `None` where a signal came first.
    async fn unless<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = work => return Some(done),
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        self.came = true;
        None
    }

    /// `None` where the work took longer than [`GRACE`] after the first signal, or another signal came.
    async fn grace<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        if !self.came
            && let Some(done) = self.unless(&mut work).await
        {
            return Some(done);
        }
        self.unless(timeout(GRACE, work)).await?.ok()
    }
}
