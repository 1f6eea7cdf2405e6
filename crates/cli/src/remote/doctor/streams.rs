//! Streams: `/v1/sse`, `/v1/stream`, `/events`, and one over HTTP/2.
//!
//! A stream proves itself by its first message, which has to come although the stream stays open. Nothing is published.

use super::http::{Answer, Ask, BODY_BYTES_MAX};
use super::kinds::kind;
use super::refusal::Refusal;
use super::report::{Finding, State, Transport, ms, seconds};
use super::watch::{Life, Watch};
use super::{Doctor, Outcome, connect_command};
use crate::remote::base::encoded;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::{Instant, timeout, timeout_at};

/// Between the comments of `/events`.
const COMMENTS: Duration = Duration::from_secs(15);
/// A first message that comes so long after the head is late.
const LATE: Duration = Duration::from_secs(1);
/// An id that is nobody's.
const GARBAGE_ID: &str = "doctor";

/// A kind of stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Sse,
    Ndjson,
    Events,
}

impl Which {
    pub(super) fn name(self) -> &'static str {
        match self {
            Which::Sse => "sse",
            Which::Ndjson => "stream",
            Which::Events => "events",
        }
    }

    fn path(self) -> &'static str {
        match self {
            Which::Sse => "/v1/sse",
            Which::Ndjson => "/v1/stream",
            Which::Events => "/events",
        }
    }

    fn content_type(self) -> &'static str {
        if self == Which::Ndjson { "application/x-ndjson" } else { "text/event-stream" }
    }
}

/// An open stream, block by block.
struct Blocks {
    answer: Answer,
    text: Vec<u8>,
    end: &'static [u8],
}

impl Blocks {
    /// The next block or line, without its end.
    async fn next(&mut self) -> Result<Option<String>, String> {
        loop {
            if let Some(at) = self.text.windows(self.end.len()).position(|bytes| bytes == self.end) {
                let block: Vec<u8> = self.text.drain(..at + self.end.len()).collect();
                return Ok(Some(String::from_utf8_lossy(&block[..at]).into_owned()));
            }
            if self.text.len() > BODY_BYTES_MAX {
                return Err("a block without an end".to_owned());
            }
            match self.answer.piece().await? {
                Some(piece) => self.text.extend(piece),
                None => return Ok(None),
            }
        }
    }
}

/// The answer to a ping: the server ends a stream whose client does not give it.
fn pong() -> Value {
    json!([{"type": "pong"}])
}

/// The message of a block of an event stream, or of a line.
fn message_of(block: &str) -> Option<Value> {
    let data = block.lines().find_map(|line| line.strip_prefix("data:")).unwrap_or(block);
    serde_json::from_str(data.trim()).ok()
}

fn life_of(block: &str) -> Life {
    if block.lines().any(|line| line == "event: fanfare.disconnect") {
        return Life::Farewell;
    }
    match message_of(block).as_ref().and_then(|message| message["type"].as_str()) {
        Some("ping") => Life::Heartbeat,
        Some("disconnect") => Life::Farewell,
        _ if block.starts_with(':') => Life::Heartbeat,
        _ => Life::Message,
    }
}

impl Doctor {
    /// The request of a stream, as a browser makes it.
    fn stream_request(&self, which: Which) -> Ask<'static> {
        let path = self.way.path(which.path());
        let mut ask = match (which, &self.token) {
            // A token must not stand in an address.
            (Which::Sse | Which::Ndjson, Some(_)) => Ask::post(path, connect_command(self.token.as_deref())),
            (Which::Sse | Which::Ndjson, None) => Ask::get(path),
            (Which::Events, token) => {
                let mut ask = Ask::get(format!("{path}{}", self.channel_query()));
                ask.headers.extend(token.as_ref().map(|token| ("Authorization", format!("Bearer {token}"))));
                ask.headers.push(("Last-Event-ID", GARBAGE_ID.to_owned()));
                ask
            }
        };
        ask.headers.push(("Accept", which.content_type().to_owned()));
        ask.headers.push(("Accept-Encoding", "gzip".to_owned()));
        ask.headers.extend(self.origin.as_ref().map(|origin| ("Origin", origin.clone())));
        ask
    }

    fn channel_query(&self) -> String {
        self.channel.as_ref().map(|channel| format!("?channel={}", encoded(channel))).unwrap_or_default()
    }

    pub(super) async fn stream(&self, which: Which) -> Outcome {
        let name = which.name();
        let ask = self.stream_request(which);
        let mut outcome = Outcome::new(Transport::new(name, self.way.path(which.path())));
        let tried = ask.to_string();
        let answer = match timeout(self.way.patience, self.way.ask(&ask)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return outcome.fails(&kind::stream_refused, tried, error),
            Err(_) => {
                let seen = format!("neither a head nor an event within {}", seconds(self.way.patience));
                return outcome.fails(&kind::stream_buffered, tried, seen);
            }
        };
        if answer.head.status != 200 {
            return self.stream_refused(which, tried, answer, outcome).await;
        }
        if !answer.head.get("content-type").is_some_and(|found| found.starts_with(which.content_type())) {
            let found = answer.head.get("content-type").unwrap_or("no content type");
            let seen =
                format!("200 with {}, and not {}", super::report::excerpt(found.as_bytes()), which.content_type());
            return outcome.fails(&kind::not_fanfare, tried, seen);
        }
        self.judge_head(name, &tried, &answer, &mut outcome);
        let (asked, head_after) = (answer.asked, answer.asked.elapsed());
        let end: &[u8] = if which == Which::Ndjson { b"\n" } else { b"\n\n" };
        let mut blocks = Blocks { answer, text: Vec::new(), end };
        let first = match timeout(self.way.patience, blocks.next()).await {
            Ok(Ok(Some(block))) => block,
            Ok(Ok(None)) => {
                return outcome.fails(&kind::stream_refused, tried, "the stream ended before its first event");
            }
            Ok(Err(error)) => return outcome.fails(&kind::stream_refused, tried, error),
            Err(_) => {
                let seen =
                    format!("the head after {} ms, and no event within {}", ms(head_after), seconds(self.way.patience));
                return outcome.fails(&kind::stream_buffered, tried, seen);
            }
        };
        let first_after = asked.elapsed();
        outcome.transport.first_message_ms = Some(ms(first_after));
        let message = message_of(&first).unwrap_or(Value::Null);
        if !outcome.take_connected(name, tried.clone(), &message, self.token.is_some()) {
            return outcome;
        }
        if first_after > head_after + LATE {
            let seen = format!("the head after {} ms, the first event after {} ms", ms(head_after), ms(first_after));
            outcome.warn(&kind::stream_late, tried.clone(), seen);
        }
        if which == Which::Events {
            outcome.clock = clock_of(&message, first_after);
            self.last_event_id(&tried, &mut blocks, &mut outcome).await;
        }
        let ticket = message["ticket"].clone();
        if which != Which::Events
            && let Some(finding) = self.send(name, &ticket, &pong()).await
        {
            // Nor is a ping answered: the server ends this stream, and a watch would blame the server.
            outcome.transport.state = State::Fails;
            outcome.findings.push(finding);
            return outcome;
        }
        if self.watches() {
            let interval = if which == Which::Events { COMMENTS } else { outcome.interval() };
            let watch = Watch { asked: self.idle, interval };
            let mut unsent = None;
            let next = async || {
                let life = blocks.next().await?.map(|block| life_of(&block));
                if life == Some(Life::Heartbeat) && which != Which::Events {
                    unsent = self.send(name, &ticket, &pong()).await;
                }
                Ok(life)
            };
            let (idle, mut finding) = watch.run(name, next).await;
            // The server ends a stream whose pings stay unanswered: then the sends are to blame.
            let is_ours = |unsent: &Finding| [&kind::send_fails, &kind::body_limited].contains(&unsent.kind);
            if finding.as_ref().is_some_and(|finding| finding.kind == &kind::server_ends)
                && let Some(unsent) = unsent.filter(is_ours)
            {
                finding = Some(unsent);
            }
            outcome.watched((idle, finding));
        }
        outcome
    }

    async fn stream_refused(&self, which: Which, tried: String, mut answer: Answer, mut outcome: Outcome) -> Outcome {
        let mut body = Vec::new();
        let deadline = Instant::now() + self.way.patience;
        while let Ok(Ok(Some(piece))) = timeout_at(deadline, answer.piece()).await {
            body.extend(piece);
            if body.len() > BODY_BYTES_MAX {
                break;
            }
        }
        let is_named = answer.is_named();
        let refusal = Refusal { head: &answer.head, body: &body, is_named, has_token: self.token.is_some() };
        let words = String::from_utf8_lossy(&body);
        let (state, kind) = match answer.head.status {
            404 if words.contains("there is nothing at") => (State::Untried, &kind::streams_off),
            403 | 404 if which == Which::Events && refusal.is_fanfares() && !words.contains("option `") => {
                (State::Untried, &kind::channel_denied)
            }
            _ => {
                let (state, finding) = refusal.judge(which.name(), tried, &kind::stream_refused);
                outcome.transport.state = state;
                outcome.findings.push(finding);
                return outcome;
            }
        };
        outcome.transport.state = state;
        outcome.findings.push(Finding::new(kind, which.name(), tried, refusal.seen()));
        outcome
    }

    fn judge_head(&self, name: &'static str, tried: &str, answer: &Answer, outcome: &mut Outcome) {
        let head = &answer.head;
        if let Some(encoding) = head.get("content-encoding") {
            let encoding = super::report::excerpt(encoding.as_bytes());
            outcome.transport.compression = Some(encoding.clone());
            outcome.warn(&kind::stream_compressed, tried, format!("`Content-Encoding: {encoding}`"));
        }
        let cache: Vec<&str> = head.all("cache-control").collect();
        if !cache.iter().any(|value| value.contains("no-transform")) {
            let seen = match cache.is_empty() {
                true => "no `Cache-Control`".to_owned(),
                false => format!("`Cache-Control: {}`", super::report::excerpt(cache.join(", ").as_bytes())),
            };
            outcome.findings.push(Finding::new(&kind::headers_changed, name, tried, seen));
        }
    }

    /// A stream that was asked to go on after a garbage id has a gap, unless the id did not arrive.
    async fn last_event_id(&self, tried: &str, blocks: &mut Blocks, outcome: &mut Outcome) {
        match timeout(self.way.patience, blocks.next()).await {
            Ok(Ok(Some(block))) if block.lines().any(|line| line == "event: fanfare.gap") => return,
            // A publication or a comment: the gap would come before it.
            Ok(Ok(Some(_))) | Err(_) => {}
            Ok(Ok(None) | Err(_)) => return, // the watch will see it
        }
        let tried = format!("{tried} with `Last-Event-ID: {GARBAGE_ID}`");
        outcome.warn(&kind::last_event_id_stripped, tried, "a stream that does not know of the id");
    }

    /// HTTP/2, where ALPN agrees on it. `Some`: it was agreed upon.
    pub(super) async fn http2(&self) -> (bool, Vec<Finding>) {
        let tried = format!("GET {} over HTTP/2", self.way.path(Which::Sse.path()));
        let fails = |seen: String| vec![Finding::new(&kind::http_2_fails, "http2", tried.clone(), seen)];
        match timeout(self.way.patience, self.way.ask_h2(Which::Sse.path())).await {
            Ok(Ok(None)) => {
                let seen = "the server chose HTTP/1.1";
                (false, vec![Finding::new(&kind::no_http_2, "http2", "ALPN with h2 and http/1.1", seen)])
            }
            // A refusal is an answer; the transports judge it.
            Ok(Ok(Some((head, piece)))) if head.status != 200 || !piece.is_empty() => (true, Vec::new()),
            Ok(Ok(Some(_))) => (true, fails("a head, and no event".to_owned())),
            Ok(Err(error)) => (true, fails(error)),
            Err(_) => (true, fails(format!("no event within {}", seconds(self.way.patience)))),
        }
    }
}

/// The server's clock minus this one's, by the `timestamp` of a message that has just come after so long.
fn clock_of(message: &Value, took: Duration) -> Option<i64> {
    let theirs = message["timestamp"].as_i64()?;
    let ours = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let middle = i64::try_from((ours - took / 2).as_millis()).ok()?;
    Some(theirs - middle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_signs_of_life() {
        let rows = [
            ("data: {\"type\":\"ping\"}", Life::Heartbeat),
            ("{\"type\":\"ping\"}", Life::Heartbeat),
            (":", Life::Heartbeat),
            (":\nid: x", Life::Heartbeat),
            ("data: {\"type\":\"message\"}", Life::Message),
            ("data: hello", Life::Message),
            ("data: {\"type\":\"disconnect\",\"code\":4003}", Life::Farewell),
            ("event: fanfare.disconnect\ndata: {}", Life::Farewell),
        ];
        for (block, life) in rows {
            assert_eq!(life_of(block), life, "{block}");
        }
    }
}
