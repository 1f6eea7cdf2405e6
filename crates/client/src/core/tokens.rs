//! The token: how long it is good for, and when the application is asked for another one.
//!
//! Only where it gives tokens ([`Config::token_provider`](super::Config::token_provider)); else the one that is set
//! is shown as long as the client lives. A new one is asked for before the old one's time is up, and before a
//! connection is opened with one that is known to be worthless. A token that was just given and is refused ends the
//! client: asking on would not help.

/// How long before its end a token is renewed, at most; of a short one a quarter of its time.
const AHEAD_MS: u64 = 60_000;
/// The application had none, or the server could not look at it: how long to wait before asking again.
const RETRY_MS: u64 = 5_000;

#[derive(Debug, Default)]
pub(super) struct Tokens {
    /// The application was asked and has not answered.
    asked: bool,
    /// The token was given after the last answer to `connect`: a refusal is of this one.
    fresh: bool,
    /// The token is worthless: refused, or its time is up.
    stale: bool,
    ends_ms: Option<u64>,
    renew_ms: Option<u64>,
}

impl Tokens {
    /// True where a connection has to wait for a new token.
    pub(super) fn is_stale(&self, now_ms: u64, token: Option<&str>) -> bool {
        token.is_none() || self.stale || self.ends_ms.is_some_and(|ends_ms| ends_ms <= now_ms)
    }

    /// True where the application is to be asked now; then it has been.
    pub(super) fn ask(&mut self) -> bool {
        self.renew_ms = None;
        !std::mem::replace(&mut self.asked, true)
    }

    /// The application has answered.
    pub(super) fn given(&mut self, now_ms: u64, is_there: bool) {
        self.asked = false;
        if is_there {
            (self.fresh, self.stale, self.ends_ms) = (true, false, None);
        } else {
            self.later(now_ms);
        }
    }

    /// The server has taken it, for so long.
    pub(super) fn accepted(&mut self, now_ms: u64, expires_ms: Option<u64>) {
        (self.fresh, self.stale) = (false, false);
        self.ends_ms = expires_ms.map(|ms| now_ms.saturating_add(ms));
        self.renew_ms = expires_ms.map(|ms| now_ms.saturating_add(ms - AHEAD_MS.min(ms / 4)));
    }

    /// The server could not look at it.
    pub(super) fn later(&mut self, now_ms: u64) {
        self.renew_ms = Some(now_ms + RETRY_MS);
    }

    /// The server does not take it. True where another one may help.
    pub(super) fn refused(&mut self) -> bool {
        self.stale = true;
        !self.fresh
    }

    /// When a new one is to be asked for, while online.
    pub(super) fn renew_ms(&self) -> Option<u64> {
        self.renew_ms.filter(|_| !self.asked)
    }
}
