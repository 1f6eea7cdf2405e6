//! An answer that is not the one that was asked for: whose it is, and the finding for it.

use super::http::Head;
use super::kinds::{Kind, kind};
use super::report::{Finding, State, excerpt};
use serde::Deserialize;

/// An answer that refuses.
pub(super) struct Refusal<'a> {
    pub(super) head: &'a Head,
    pub(super) body: &'a [u8],
    /// It repeats the name of the request.
    pub(super) is_named: bool,
    pub(super) has_token: bool,
}

/// The finding for a client that is refused for its token, or for having none. `words` are the server's.
pub(super) fn token_finding(has_token: bool, words: &str) -> &'static Kind {
    match has_token {
        true if words.contains("cannot check tokens") => &kind::token_unchecked,
        true => &kind::token_refused,
        false => &kind::token_needed,
    }
}

/// A refusal in JSON.
#[derive(Deserialize)]
struct Error {
    code: String,
    message: String,
}

impl Refusal<'_> {
    /// True if Fanfare itself gave this answer.
    pub(super) fn is_fanfares(&self) -> bool {
        // A proxy may replace the name of a request by its own; the words stay.
        const WORDS: [&str; 5] = [
            "there is nothing at \"",
            "is for WebSockets and has no page",
            "the option `",
            "\"retryable\":",
            "does not take ",
        ];
        let body = String::from_utf8_lossy(self.body);
        self.is_named || WORDS.iter().any(|words| body.contains(words))
    }

    /// The state of the transport, and the finding. `other`: the kind for an answer that somebody else gave.
    pub(super) fn judge(&self, name: &'static str, tried: String, other: &'static Kind) -> (State, Finding) {
        let is_own = self.is_fanfares();
        let body = String::from_utf8_lossy(self.body);
        let (state, kind) = match (self.head.status, is_own) {
            (401, true) => (State::Refused, self.token()),
            (403, true) if body.contains("option `origins`") => (State::Refused, &kind::origin_refused),
            (403, true) => (State::Refused, self.token()),
            (421, true) => (State::Refused, &kind::host_not_served),
            (404, true) => (State::Fails, &kind::wrong_path),
            (429 | 503, true) => (State::Refused, &kind::overloaded),
            (300..=399, _) => (State::Fails, &kind::redirected),
            (401 | 403 | 407 | 511, false) => (State::Fails, &kind::proxy_refuses),
            (413, false) => (State::Fails, &kind::body_limited),
            (502..=504, false) => (State::Fails, &kind::server_down),
            _ => (State::Fails, other),
        };
        (state, Finding::new(kind, name, tried, self.seen()))
    }

    /// The finding for a send. A refusal of somebody in between is about sends alone: the ticket came by the same way.
    pub(super) fn judge_send(&self, name: &'static str, tried: String) -> Finding {
        match self.head.status {
            401 | 403 | 407 | 511 if !self.is_fanfares() => Finding::new(&kind::send_fails, name, tried, self.seen()),
            _ => self.judge(name, tried, &kind::send_fails).1,
        }
    }

    pub(super) fn token(&self) -> &'static Kind {
        token_finding(self.has_token, &String::from_utf8_lossy(self.body))
    }

    /// `502 from nginx: …`.
    pub(super) fn seen(&self) -> String {
        let mut seen = self.head.status.to_string();
        if let Some(server) = self.head.get("server").filter(|_| !self.is_fanfares()) {
            seen += &format!(" from {}", excerpt(server.as_bytes()));
        }
        if let Some(location) = self.head.get("location") {
            seen += &format!(" to {}", excerpt(location.as_bytes()));
        }
        match serde_json::from_slice::<Error>(self.body) {
            Ok(Error { code, message }) => seen += &format!(": {}", excerpt(format!("{code}: {message}").as_bytes())),
            Err(_) if !self.body.is_empty() => seen += &format!(": {}", excerpt(self.body)),
            Err(_) => {}
        }
        seen
    }
}
