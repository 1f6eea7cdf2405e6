//! Which transport is tried next.
//!
//! In: the failures before a connection is online, and its success. Out: the transport to try, or that none is left. A
//! transport fails where the server (or a proxy before it) was reached, and the transport did not get through: the
//! upgrade is stripped, the socket opens and nothing answers, a stream is held back. Then the next one is tried at
//! once. A server that cannot be reached says nothing about a transport, and neither does one that asks for patience:
//! but where it does so twice in a row the next attempt is a trial of the next transport. The one that worked is kept;
//! after [`AGAIN_MS`] the next connection begins with the first one again.

use super::types::Transport;

/// A transport that was not the first choice is kept for so long.
const AGAIN_MS: u64 = 5 * 60_000;
/// After so many answers in a row that ask for patience, the next transport is tried: some proxies refuse an upgrade as
/// if the server were down.
const DOUBTS_MAX: u32 = 2;

#[derive(Debug)]
pub(super) struct Order {
    transports: Vec<Transport>,
    at: usize,
    /// So many transports in a row have failed.
    failed: usize,
    /// The reason of the first that failed, where no retry will change it.
    reason: Option<Box<str>>,
    /// One of them may succeed later.
    may_pass: bool,
    /// Answers in a row that asked for patience.
    doubts: u32,
    /// The next attempt, or this one, is a trial: where it meets the same answer the server is down indeed, and the
    /// transport of this place is the one to wait for.
    trial_of: Option<usize>,
    /// Since when a transport is kept that is not the first.
    kept_ms: Option<u64>,
}

/// The next step after a failure.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Another transport, at once.
    Next,
    /// All have failed: the first one again, later.
    Wait,
    /// All have failed for good; this is the first reason.
    End(Box<str>),
}

impl Order {
    /// At least one; without any it is a WebSocket.
    pub(super) fn new(transports: &[Transport]) -> Self {
        let transports = if transports.is_empty() { vec![Transport::WebSocket] } else { transports.to_vec() };
        Order { transports, at: 0, failed: 0, reason: None, may_pass: false, doubts: 0, trial_of: None, kept_ms: None }
    }

    pub(super) fn current(&self) -> Transport {
        self.transports.get(self.at).copied().unwrap_or_default()
    }

    /// A connection is about to be opened.
    pub(super) fn begin(&mut self, now_ms: u64) {
        if self.kept_ms.is_some_and(|since_ms| now_ms.saturating_sub(since_ms) >= AGAIN_MS) {
            (self.at, self.failed, self.kept_ms) = (0, 0, None);
        }
    }

    /// A connection is online.
    pub(super) fn worked(&mut self, now_ms: u64) {
        self.end_round();
        self.kept_ms = if self.at == 0 { None } else { self.kept_ms.or(Some(now_ms)) };
    }

    /// The transport did not get through; with a reason, it never will.
    pub(super) fn failed(&mut self, reason: Option<Box<str>>) -> Step {
        self.may_pass |= reason.is_none();
        if self.reason.is_none() {
            self.reason = reason;
        }
        (self.doubts, self.trial_of) = (0, None);
        self.failed += 1;
        self.at = self.next();
        if self.failed < self.transports.len() {
            return Step::Next;
        }
        let reason = self.reason.take().filter(|_| !self.may_pass);
        self.end_round();
        reason.map_or(Step::Wait, Step::End)
    }

    /// The answer asks for patience: the attempt after it may be a trial of the next transport.
    pub(super) fn asked_for_patience(&mut self) {
        self.doubts += 1;
        if let Some(from) = self.trial_of.take() {
            (self.at, self.doubts) = (from, 0);
        } else if self.doubts >= DOUBTS_MAX && self.transports.len() > 1 {
            self.trial_of = Some(self.at);
            self.at = self.next();
        }
    }

    fn next(&self) -> usize {
        (self.at + 1) % self.transports.len()
    }

    fn end_round(&mut self) {
        (self.failed, self.reason, self.may_pass, self.doubts, self.trial_of) = (0, None, false, 0, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Transport::{Poll, Sse, WebSocket};

    #[test]
    fn each_transport_is_tried_once_in_a_round() {
        let mut order = Order::new(Transport::AUTO);
        let mut tried = Vec::new();
        loop {
            tried.push(order.current());
            match order.failed(None) {
                Step::Next => {}
                step => break assert_eq!(step, Step::Wait),
            }
        }
        assert_eq!(tried, [WebSocket, Sse, Poll]);
        assert_eq!(order.current(), WebSocket, "the next round begins with the first");
    }

    #[test]
    fn it_ends_with_the_first_reason_where_no_transport_can_ever_be_had() {
        let mut order = Order::new(Transport::AUTO);
        for reason in ["stripped", "404"] {
            assert_eq!(order.failed(Some(reason.into())), Step::Next);
        }
        assert_eq!(order.failed(Some("405".into())), Step::End("stripped".into()));
        for (reason, step) in [(Some("stripped"), Step::Next), (None, Step::Next), (Some("405"), Step::Wait)] {
            assert_eq!(order.failed(reason.map(Into::into)), step, "one of them may succeed later");
        }
        let mut only = Order::new(&[]);
        assert_eq!(only.failed(Some("404".into())), Step::End("404".into()));
    }

    #[test]
    fn a_transport_that_worked_is_kept_for_a_while() {
        let mut order = Order::new(Transport::AUTO);
        assert_eq!(order.failed(None), Step::Next);
        order.worked(1_000);
        for (now_ms, transport) in [(2_000, Sse), (1_000 + AGAIN_MS - 1, Sse), (1_000 + AGAIN_MS, WebSocket)] {
            order.begin(now_ms);
            assert_eq!(order.current(), transport, "at {now_ms}");
        }
    }

    #[test]
    fn a_refusal_that_passes_and_repeats_makes_the_next_attempt_a_trial() {
        let patience = |order: &mut Order| {
            order.asked_for_patience();
            order.current()
        };
        let mut order = Order::new(Transport::AUTO);
        assert_eq!(patience(&mut order), WebSocket);
        order.worked(0);
        // A server that is down, or restarts, says the same on each transport: its client stays with its own.
        let tried: Vec<_> = (0..7).map(|_| patience(&mut order)).collect();
        assert_eq!(tried, [WebSocket, Sse, WebSocket, WebSocket, Sse, WebSocket, WebSocket]);
        // The trial gets through: it was the transport.
        assert_eq!(patience(&mut order), Sse);
        order.worked(1_000);
        assert_eq!(patience(&mut order), Sse);
        // A trial that fails as a transport is a failure like any other.
        let mut order = Order::new(Transport::AUTO);
        assert_eq!([patience(&mut order), patience(&mut order)], [WebSocket, Sse]);
        assert_eq!(order.failed(None), Step::Next);
        assert_eq!(order.current(), Poll);
        let mut only = Order::new(&[Poll]);
        assert_eq!([patience(&mut only), patience(&mut only), patience(&mut only)], [Poll; 3], "there is no other");
    }
}
