//! Polls and sends: a session of three requests, of which the last one waits.

use super::http::{Ask, Fetched};
use super::kinds::kind;
use super::refusal::Refusal;
use super::report::{Finding, Idle, Transport, ms, seconds};
use super::watch::MARGIN;
use super::{Doctor, Outcome, connect_command};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, timeout};

pub(super) const NAME: &str = "poll";
/// The server's own limit.
const WAIT_MAX: Duration = Duration::from_secs(30);

impl Doctor {
    fn post(&self, path: &str, body: String) -> Ask<'static> {
        let mut ask = Ask::post(self.way.path(path), body);
        ask.headers.push(("Accept-Encoding", "gzip".to_owned()));
        ask.headers.extend(self.origin.as_ref().map(|origin| ("Origin", origin.clone())));
        ask
    }

    pub(super) async fn polls(&self) -> Outcome {
        let mut outcome = Outcome::new(Transport::new(NAME, self.way.path("/v1/poll")));
        let ask = self.post("/v1/poll", connect_command(self.token.as_deref()));
        let tried = format!("{ask} with `connect`");
        let answer = match self.way.fetch(&ask).await {
            Ok(answer) => answer,
            Err(error) => return outcome.fails(&kind::poll_fails, tried, error),
        };
        let told: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        if answer.head.status != 200 || !told["messages"].is_array() {
            let (state, finding) = self.refusal(&answer).judge(NAME, tried, &kind::poll_fails);
            outcome.transport.state = state;
            outcome.findings.push(finding);
            return outcome;
        }
        outcome.transport.first_message_ms = Some(ms(answer.took));
        outcome.transport.compression =
            answer.head.get("content-encoding").map(|it| super::report::excerpt(it.as_bytes()));
        let connected = told["messages"][0].clone();
        if !outcome.take_connected(NAME, tried, &connected, self.token.is_some()) {
            return outcome;
        }
        let ticket = connected["ticket"].clone();
        if let Some(finding) = self.send(NAME, &ticket, &json!([])).await {
            outcome.transport.state = super::State::Degraded; // what is polled for arrives
            outcome.findings.push(finding);
        }
        if self.watches() {
            self.wait(&ticket, &told["n"], &mut outcome).await;
        }
        outcome
    }

    /// A send of a stream's or a poll session's client. `None`: it passes.
    pub(super) async fn send(&self, name: &'static str, ticket: &Value, commands: &Value) -> Option<Finding> {
        let ask = self.post("/v1/send", json!({"ticket": ticket, "commands": commands}).to_string());
        let tried = ask.to_string();
        let answer = match self.way.fetch(&ask).await {
            Ok(answer) => answer,
            Err(error) => return Some(Finding::new(&kind::send_fails, name, tried, error)),
        };
        let told: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        let passes = answer.head.status == 200 && told["replies"].is_array();
        (!passes).then(|| self.refusal(&answer).judge_send(name, tried))
    }

    /// A poll that has nothing to bring, and waits as clients do.
    async fn wait(&self, ticket: &Value, n: &Value, outcome: &mut Outcome) {
        let wait = self.idle.unwrap_or(outcome.interval()).min(WAIT_MAX);
        let ask = self.post("/v1/poll", json!({"ticket": ticket, "ack": n, "wait": ms(wait)}).to_string());
        let tried = format!("{ask} that waits for {}", seconds(wait));
        let start = Instant::now();
        let answer = timeout(wait + MARGIN.max(self.way.patience), self.way.ask(&ask)).await;
        let took = start.elapsed();
        let idle = |cut: Option<Duration>| Idle { watched_ms: ms(took), heartbeats: 0, cut_after_ms: cut.map(ms) };
        let seen = match answer {
            Ok(Ok(answer)) if answer.head.status == 200 => {
                outcome.transport.idle = Some(idle(None));
                return;
            }
            Ok(Ok(answer)) => format!("{} after {}", answer.head.status, seconds(took)),
            Ok(Err(error)) => format!("{error} after {}", seconds(took)),
            Err(_) => format!("no answer within {}", seconds(took)),
        };
        outcome.transport.idle = Some(idle(Some(took)));
        outcome.warn(&kind::poll_cut, tried, seen);
    }

    fn refusal<'a>(&self, answer: &'a Fetched) -> Refusal<'a> {
        let Fetched { head, body, is_named, .. } = answer;
        Refusal { head, body, is_named: *is_named, has_token: self.token.is_some() }
    }
}
