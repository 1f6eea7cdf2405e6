//! One poll session's life: its `connect`, then polls one after the other.
//!
//! An answer that got lost is asked for again, with the same acknowledgement: the server gives the same bytes. The
//! `connect` is sent again as it was, so it leads to the same session. A poll that was cut off while it waited shows
//! that something on the way does not let a request wait for so long: later ones wait for half of it.

use super::out::Out;
use super::types::{ExchangeId, HttpKind};
use fanfare_hub::Rng;
use fanfare_wire::native::client::encode_poll;
use fanfare_wire::native::requests::WAIT_MS_MAX;

/// A poll waits at least so long.
const WAIT_MS_MIN: u64 = 5_000;
/// The waits between attempts: nothing after the first failure, then from this on, doubled each time to the maximum.
const REST_MS_MIN: u64 = 500;
const REST_MS_MAX: u64 = 8_000;

#[derive(Debug)]
pub(super) struct Polls {
    /// The body of the `connect`, until it is answered.
    connect: Option<String>,
    /// The highest number that was had.
    ack: u64,
    wait_ms: u64,
    flight: Flight,
    /// Answers in a row that got lost.
    failures: u32,
    /// Answers in a row that were empty and came too early.
    empty: u32,
}

#[derive(Debug)]
enum Flight {
    None,
    Asked { exchange: ExchangeId, since_ms: u64, wait_ms: u64, deadline_ms: u64 },
    Resting { until_ms: u64 },
}

impl Polls {
    /// Begins with this `connect`; its answer may take `patience_ms`.
    pub(super) fn begin(now_ms: u64, connect: String, patience_ms: u64, out: &mut Out) -> Self {
        let mut polls =
            Polls { connect: Some(connect), ack: 0, wait_ms: WAIT_MS_MAX, flight: Flight::None, failures: 0, empty: 0 };
        polls.ask(now_ms, "", patience_ms, out);
        polls
    }

    /// Whether this is the poll whose answer is waited for.
    pub(super) fn is(&self, exchange: ExchangeId) -> bool {
        matches!(self.flight, Flight::Asked { exchange: asked, .. } if asked == exchange)
    }

    /// The session is there; the server wants a sign of life in each `ping_ms`, or none where that is 0.
    pub(super) fn online(&mut self, ping_ms: u64) {
        self.connect = None;
        self.wait_ms = if ping_ms == 0 { WAIT_MS_MAX } else { ping_ms.min(WAIT_MS_MAX) };
    }

    /// Polls, unless a poll is on its way or has to wait. Beyond its wait the answer may take `patience_ms`.
    pub(super) fn ask(&mut self, now_ms: u64, ticket: &str, patience_ms: u64, out: &mut Out) {
        if !matches!(self.flight, Flight::None) {
            return;
        }
        // The answer to a repeated poll shows at once whether the way is open.
        let wait_ms = if self.failures > 0 || self.connect.is_some() { 0 } else { self.wait_ms };
        let body = self.connect.clone().unwrap_or_else(|| {
            let mut body = Vec::new();
            encode_poll(&mut body, ticket, self.ack, Some(wait_ms));
            String::from_utf8_lossy(&body).into_owned()
        });
        let exchange = out.http(HttpKind::Poll, body);
        let deadline_ms = now_ms + wait_ms + patience_ms;
        self.flight = Flight::Asked { exchange, since_ms: now_ms, wait_ms, deadline_ms };
    }

    /// The highest number that was had, where the session is there.
    pub(super) fn acknowledged(&self) -> Option<u64> {
        self.connect.is_none().then_some(self.ack)
    }

    /// An answer has come. A server that has nothing to say and does not wait is asked less and less often.
    pub(super) fn answered(&mut self, now_ms: u64, n: u64, is_empty: bool, rng: &mut Rng) {
        self.ack = self.ack.max(n);
        self.failures = 0;
        let is_early = match std::mem::replace(&mut self.flight, Flight::None) {
            Flight::Asked { since_ms, wait_ms, .. } => wait_ms > 0 && now_ms - since_ms < wait_ms / 2,
            _ => false,
        };
        if is_empty && (is_early || self.connect.is_some()) {
            self.flight = Flight::Resting { until_ms: now_ms + rest_ms(self.empty, rng) };
            self.empty = self.empty.saturating_add(1);
        } else if !is_empty {
            self.empty = 0;
        }
    }

    /// No answer has come, or none that can be read.
    pub(super) fn lost(&mut self, now_ms: u64, rng: &mut Rng) {
        if let Flight::Asked { since_ms, wait_ms, .. } = self.flight
            && wait_ms > 0
            && now_ms - since_ms >= wait_ms / 2
        {
            self.wait_ms = (self.wait_ms / 2).max(WAIT_MS_MIN.min(self.wait_ms));
        }
        self.flight = Flight::Resting { until_ms: now_ms + rest_ms(self.failures, rng) };
        self.failures = self.failures.saturating_add(1);
    }

    /// The server, or a proxy, asks for patience.
    pub(super) fn rest(&mut self, now_ms: u64, asked_ms: u64, rng: &mut Rng) {
        let own_ms = rng.below((REST_MS_MIN << self.failures.min(10)).min(REST_MS_MAX));
        self.failures = self.failures.saturating_add(1);
        self.flight = Flight::Resting { until_ms: now_ms + asked_ms + own_ms };
    }

    /// Does everything that is due at this time.
    pub(super) fn wake(&mut self, now_ms: u64, rng: &mut Rng, ticket: &str, patience_ms: u64, out: &mut Out) {
        if let Flight::Asked { exchange, deadline_ms, .. } = self.flight
            && deadline_ms <= now_ms
        {
            out.abort(exchange);
            self.lost(now_ms, rng);
        }
        if let Flight::Resting { until_ms } = self.flight
            && until_ms <= now_ms
        {
            self.flight = Flight::None;
            self.ask(now_ms, ticket, patience_ms, out);
        }
    }

    pub(super) fn wake_ms(&self) -> Option<u64> {
        match self.flight {
            Flight::None => None,
            Flight::Asked { deadline_ms, .. } => Some(deadline_ms),
            Flight::Resting { until_ms } => Some(until_ms),
        }
    }

    /// The session is left.
    pub(super) fn abort(&mut self, out: &mut Out) {
        if let Flight::Asked { exchange, .. } = self.flight {
            out.abort(exchange);
        }
        self.flight = Flight::None;
    }
}

/// The wait after so many failures before this one.
fn rest_ms(failures: u32, rng: &mut Rng) -> u64 {
    match failures {
        0 => 0,
        failures => rng.below((REST_MS_MIN << (failures - 1).min(10)).min(REST_MS_MAX)),
    }
}
