//! What is counted of hooks over HTTP: each kind of question, and the notices. The hooks write it, a scrape reads it.

use crate::counters::SharedHistogram;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU8, AtomicU64};
use std::time::Duration;

/// The words for how a question ends, in the order of [`Outcome`].
pub(crate) const OUTCOMES: [&str; 8] =
    ["answered", "refused", "timeout", "unreachable", "status", "invalid", "busy", "open"];

/// How a question ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Answered,
    Refused,
    Timeout,
    Unreachable,
    Status,
    Invalid,
    Busy,
    Open,
}

/// One kind of question.
#[derive(Debug)]
pub(crate) struct QuestionCounts {
    /// Its word: `connect`, `publish`.
    pub(crate) hook: &'static str,
    pub(crate) outcomes: [AtomicU64; OUTCOMES.len()],
    pub(crate) seconds: SharedHistogram,
    /// 0: its requests are sent. 1: one is tried. 2: none is.
    pub(crate) breaker: AtomicU8,
}

impl QuestionCounts {
    pub(crate) fn new(hook: &'static str) -> Self {
        let (outcomes, seconds) = (Default::default(), SharedHistogram::default());
        QuestionCounts { hook, outcomes, seconds, breaker: AtomicU8::new(0) }
    }

    /// A question has ended so.
    pub(crate) fn done(&self, outcome: Outcome, took: Duration) {
        self.outcomes[outcome as usize].fetch_add(1, Relaxed);
        self.seconds.observe(took);
    }
}

/// The notices.
#[derive(Debug, Default)]
pub(crate) struct NoticeCounts {
    /// With those on their way.
    pub(crate) waiting: AtomicU64,
    pub(crate) sent: AtomicU64,
    pub(crate) dropped: AtomicU64,
    /// Requests that were not taken.
    pub(crate) failures: AtomicU64,
    /// Of every request.
    pub(crate) seconds: SharedHistogram,
}

/// All of it; empty without hooks.
#[derive(Debug, Clone, Default)]
pub(crate) struct HttpHookCounts {
    pub(crate) questions: Vec<Arc<QuestionCounts>>,
    pub(crate) notices: Option<Arc<NoticeCounts>>,
}
