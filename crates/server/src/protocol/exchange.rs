//! Exchanges: requests of native clients that are answered whole, polls and sends, as a shard sees them.
//!
//! `http::exchanges` makes an [`Exchange`] of a request, and `shard::polls` its answer.

use crate::protocol::stream::StreamStart;
use crate::refusal::HttpRefusal;
use bytes::Bytes;
use fanfare_hub::{Attempt, Request, WireId};
use tokio::sync::oneshot;

/// A request that has been understood. Its ticket is unchecked.
pub(crate) enum Exchange {
    /// Opens a poll session.
    Connect(Box<PollConnect>),
    /// Takes the messages of one.
    Poll(PollRequest),
    /// Brings commands.
    Send(SendCommands),
}

/// A `connect` for a poll session.
pub(crate) struct PollConnect {
    pub(crate) wire: WireId,
    pub(crate) start: StreamStart,
    /// The client has named this attempt: the same attempt leads to the same session.
    pub(crate) attempt: Option<Attempt>,
}

/// A poll.
pub(crate) struct PollRequest {
    pub(crate) ticket: Box<str>,
    /// The last answer that the client has.
    pub(crate) ack: u64,
    /// How long its answer may take, in ms, if the client says so.
    pub(crate) wait_ms: Option<u64>,
}

/// A send.
pub(crate) struct SendCommands {
    pub(crate) ticket: Box<str>,
    pub(crate) n: Option<u64>,
    pub(crate) requests: Vec<Request>,
    /// The length of its body.
    pub(crate) bytes: usize,
}

/// Takes the body of the answer, which is JSON, or the refusal.
pub(crate) type ExchangeAnswer = oneshot::Sender<Result<Bytes, HttpRefusal>>;
