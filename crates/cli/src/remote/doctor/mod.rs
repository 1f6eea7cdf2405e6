//! `fanfare doctor`: every transport, through everything that stands between, with a report in words.
//!
//! In: the address of a server, and what a client would have: a token, an origin, a channel. Out: on stdout the
//! report, as text or as JSON, with what was tried and seen, its meaning for users and the remedy; exit status 0 all
//! well, 1 degraded, 2 nobody is served. Only public addresses are used, and nothing is published: a stream proves
//! itself by its first event, which has to come although the stream stays open.

mod address;
mod front;
mod http;
mod kinds;
mod polls;
mod refusal;
mod report;
mod streams;
mod watch;
mod way;
mod websocket;

use super::Server;
use super::base::Base;
use crate::failure::Failure;
use crate::output::print;
use crate::stderr::tell;
use kinds::{Kind, kind};
use report::{Finding, Idle, Report, State, Transport, seconds};
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::Duration;
use streams::Which;
use watch::MARGIN;
use way::Way;

/// Between heartbeats, where a server does not say it.
const PING: Duration = Duration::from_secs(25);
/// Clocks that differ by less are good enough.
const CLOCK_TOLERANCE_MS: u64 = 5_000;

#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0 all is well, 1 clients are served by a fallback or with a fault, or a mistake on \
the command line, 2 no client is served. docs/doctor.md lists the findings."
)]
pub(crate) struct Args {
    /// Where the server is, as --url names it
    #[arg(value_name = "URL")]
    here: Option<Base>,
    #[command(flatten)]
    server: Server,
    /// A client's token, if the server requires one
    #[arg(long, env = "FANFARE_TOKEN", value_name = "TOKEN", hide_env_values = true, value_parser = token)]
    token: Option<String>,
    /// Connect as a page of this origin: SCHEME://HOST
    #[arg(long, value_name = "ORIGIN", value_parser = origin)]
    origin: Option<String>,
    /// The channel for /events; nothing is published to it [default: the server's own, `events`]
    #[arg(long, value_name = "CHANNEL")]
    channel: Option<String>,
    /// How long each connection, answer and first event may take
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = positive)]
    timeout: Duration,
    /// How long idle connections are watched: 5m, or 0 for not at all [default: until the first heartbeat]
    #[arg(long, value_name = "TIME", value_parser = time)]
    idle: Option<Duration>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// `500ms`, `30s`, `5m`, `1h`; a number alone means seconds.
fn time(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let ms = match unit.trim() {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => 0,
    };
    match number.parse::<u64>() {
        Ok(number) if ms > 0 && number <= 86_400_000 / ms => Ok(Duration::from_millis(number * ms)),
        _ => Err("write a time of at most 24 hours, such as 500ms, 30s or 5m".to_owned()),
    }
}

fn positive(text: &str) -> Result<Duration, String> {
    match time(text)? {
        Duration::ZERO => Err("it must be more than 0".to_owned()),
        time => Ok(time),
    }
}

/// A value that is sent as a header.
fn origin(text: &str) -> Result<String, String> {
    let is_origin =
        text == "null" || text.split_once("://").is_some_and(|(_, rest)| !rest.is_empty() && !rest.contains('/'));
    if is_origin && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(text.to_owned());
    }
    Err("write an origin as a browser sends it: https://app.example".to_owned())
}

fn token(text: &str) -> Result<String, String> {
    match text.chars().any(char::is_control) {
        false => Ok(text.to_owned()),
        true => Err("it holds a control character or a line end".to_owned()), // the token itself is not shown
    }
}

/// What all parts have to know.
struct Doctor {
    way: Way,
    token: Option<String>,
    origin: Option<String>,
    channel: Option<String>,
    idle: Option<Duration>,
}

impl Doctor {
    /// Whether idle connections are watched.
    fn watches(&self) -> bool {
        self.idle != Some(Duration::ZERO)
    }
}

/// The command with which a session begins.
fn connect_command(token: Option<&str>) -> String {
    match token {
        Some(token) => json!({"type": "connect", "id": 1, "token": token}).to_string(),
        None => json!({"type": "connect", "id": 1}).to_string(),
    }
}

/// The result of one transport.
struct Outcome {
    transport: Transport,
    findings: Vec<Finding>,
    /// Between heartbeats.
    ping: Option<Duration>,
    /// The server's clock minus this one's.
    clock: Option<i64>,
}

impl Outcome {
    fn new(transport: Transport) -> Self {
        Outcome { transport, findings: Vec::new(), ping: None, clock: None }
    }

    fn interval(&self) -> Duration {
        self.ping.unwrap_or(PING)
    }

    /// No message passes.
    fn fails(mut self, kind: &'static Kind, tried: String, seen: impl Into<String>) -> Self {
        self.transport.state = State::Fails;
        self.findings.push(Finding::new(kind, self.transport.name, tried, seen));
        self
    }

    /// Messages pass, with a fault.
    fn warn(&mut self, kind: &'static Kind, tried: impl Into<String>, seen: impl Into<String>) {
        if matches!(self.transport.state, State::Works | State::Untried) {
            self.transport.state = State::Degraded;
        }
        self.findings.push(Finding::new(kind, self.transport.name, tried, seen));
    }

    /// Reads the first message. `false`: the server refuses.
    fn take_connected(&mut self, name: &'static str, tried: String, message: &Value, has_token: bool) -> bool {
        let text = |field: &str| message[field].as_str().unwrap_or_default();
        let refused = refusal::token_finding(has_token, text("message"));
        let (state, kind) = match (text("type"), text("code")) {
            ("connected", _) => {
                if self.transport.state == State::Untried {
                    self.transport.state = State::Works;
                }
                self.ping = message["ping"].as_u64().map(Duration::from_millis);
                return true;
            }
            ("error", "unauthorized" | "token_expired" | "denied") => (State::Refused, refused),
            ("error" | "disconnect", _) => (State::Refused, &kind::overloaded),
            _ => (State::Fails, &kind::not_fanfare),
        };
        self.transport.state = state;
        let seen = report::excerpt(message.to_string().as_bytes());
        self.findings.push(Finding::new(kind, name, tried, seen));
        false
    }

    /// Takes the result of a watch.
    fn watched(&mut self, (idle, finding): (Idle, Option<Finding>)) {
        self.transport.idle = Some(idle);
        if finding.is_some() && self.transport.state == State::Works {
            self.transport.state = State::Degraded;
        }
        self.findings.extend(finding);
    }
}

pub(crate) fn run(mut args: Args) -> Result<ExitCode, Failure> {
    if let Some(here) = args.here.take() {
        args.server.url = here;
    }
    let json = args.json;
    let mut report = Report { url: args.server.url.to_string(), ..Report::default() };
    super::block_on(async {
        let way = Way::new(&args.server, args.timeout)?;
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let (token, origin, channel) = (given(args.token), given(args.origin), given(args.channel));
        examine(Doctor { way, token, origin, channel, idle: args.idle }, &mut report).await;
        Ok(())
    })?;
    print(&if json { report.json() } else { report.text() })?;
    Ok(ExitCode::from(report.status()))
}

/// Tries everything.
async fn examine(mut doctor: Doctor, report: &mut Report) {
    if !doctor.way.find(report).await || !doctor.front(report).await {
        return;
    }
    if doctor.watches() {
        let time = doctor.idle.unwrap_or(PING + MARGIN);
        tell(format_args!("idle connections are watched for up to {} (--idle 0 leaves that out)", seconds(time)));
    }
    let http2 = async {
        match doctor.way.is_tls() {
            true => Some(doctor.http2().await),
            false => None,
        }
    };
    let (websocket, sse, ndjson, events, polls, http2, page, address, api) = tokio::join!(
        doctor.websocket(),
        doctor.stream(Which::Sse),
        doctor.stream(Which::Ndjson),
        doctor.stream(Which::Events),
        doctor.polls(),
        http2,
        doctor.page(),
        doctor.address(),
        doctor.api(),
    );
    if let Some((agreed, findings)) = http2 {
        report.http.extend(agreed.then_some("2"));
        report.findings.extend(findings);
    }
    for outcome in [websocket, sse, ndjson, events, polls] {
        report.ping_ms = report.ping_ms.or(outcome.ping.map(report::ms));
        report.clock_offset_ms = outcome.clock.or(report.clock_offset_ms);
        report.findings.extend(outcome.findings);
        report.transports.push(outcome.transport);
    }
    report.findings.extend(page);
    report.seen_as = address.address;
    report.findings.extend(address.findings);
    report.findings.extend(api);
    if let Some(offset) = report.clock_offset_ms.filter(|offset| offset.unsigned_abs() > CLOCK_TOLERANCE_MS) {
        let seen = format!(
            "the server's clock is {:.1} s {}",
            offset.unsigned_abs() as f64 / 1000.0,
            if offset < 0 { "slow" } else { "fast" }
        );
        report.find(Finding::new(&kind::clock_differs, "address", "the times in the server's answers", seen));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_origins_are_read_or_refused() {
        let good = [("0", 0), ("500ms", 500), ("3", 3_000), ("3s", 3_000), ("5m", 300_000), ("24h", 86_400_000)];
        for (text, ms) in good {
            assert_eq!(time(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "-1", "1.5s", "25h", "3x", "99999999999999999999"] {
            assert!(time(text).is_err(), "{text}");
        }
        assert!(positive("0").is_err());
        for text in ["https://app.example", "http://localhost:3000", "null"] {
            assert_eq!(origin(text).as_deref(), Ok(text));
        }
        for text in ["app.example", "https://", "https://app.example/", "https://a\r\nX: y", ""] {
            assert!(origin(text).is_err(), "{text}");
        }
        let error = token("secret\n").expect_err("a line end");
        assert!(!error.contains("secret"));
    }
}
