//! The check of data: what publications, signals and presence of a rule's channels may hold.
//!
//! In: one payload, before it is published. Out: the same, another in its place, or a refusal. The hub knows neither
//! schemas nor texts; the server's rules bring an implementation. It is asked for every publication and signal on every
//! way in, those of the application too, and for what clients show of themselves in the presence: after the rule has
//! let the caller, and before a handler is asked. A handler's answer is checked anew.

use crate::error::Error;
use bytes::Bytes;
use std::fmt;

/// A payload that is to be published.
#[derive(Debug, Clone, Copy)]
pub struct Given<'d> {
    /// What it is the payload of.
    pub of: PayloadOf,
    /// The name of its event.
    pub event: Option<&'d str>,
    /// The payload: one JSON text on one line, or any bytes where `is_binary`.
    pub data: &'d [u8],
    /// It is no JSON.
    pub is_binary: bool,
    /// False where a handler of the application sees it first: what it answers is checked too, as the last.
    pub is_last: bool,
}

/// The kinds of messages that have payloads which are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadOf {
    /// A publication.
    Publication,
    /// A signal.
    Signal,
    /// What a client shows of itself in the presence. It has no event.
    Presence,
}

/// Judges payloads.
///
/// Implementors answer at once, on the shard's thread: the time must be bounded by the payload's length. The same
/// payload gets the same answer, else a repeated publication would conflict with the first one under its idempotency
/// key. An answer is one JSON text on one line, as [`Data::Json`](crate::Data) has it. A check that keeps a count or
/// asks a clock may not claim this trait; one that holds a compiled schema may.
pub trait DataCheck: fmt::Debug + Send + Sync {
    /// Judges a payload. `None`: it is published as it is; else this JSON is, in its place.
    ///
    /// # Errors
    /// The refusal, which names the option that decided. The hub adds the channel and the rule.
    fn check(&self, given: Given<'_>) -> Result<Option<Bytes>, Error>;

    /// The options of the rule that it was made of, as they would be written.
    fn options(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}
