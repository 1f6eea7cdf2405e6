//! Exchanges: requests of native clients that are answered whole, polls and sends, as a shard sees them.
//!
//! `http::exchanges` makes an [`Exchange`] of a request, and `shard::polls` its answer.

use crate::protocol::socketio::SocketIo;
use crate::protocol::stream::StreamStart;
use crate::refusal::HttpRefusal;
use crate::request::{Peer, RequestInfo};
use bytes::Bytes;
use fanfare_hub::{Attempt, Request, ShardId, WireId};
use std::fmt;
use std::sync::Arc;
use tokio::sync::oneshot;

/// A request that has been understood. Its ticket is unchecked.
pub(crate) enum Exchange {
    /// Opens a poll session.
    Connect(Box<PollConnect>),
    /// Takes the messages of one.
    Poll(PollRequest),
    /// Brings commands.
    Send(SendCommands),
    /// Of a session of Engine.IO.
    Engine(EngineRequest),
}

/// A request of a client of Engine.IO that polls.
pub(crate) enum EngineRequest {
    /// Opens a session.
    Handshake(Box<EngineStart>),
    /// About a session.
    Session(EngineId, EngineAct),
}

/// A handshake.
pub(crate) struct EngineStart {
    pub(crate) wire: WireId,
    pub(crate) protocol: SocketIo,
    pub(crate) peer: Peer,
    /// Made only where a handler asks for it.
    pub(crate) request: Option<Arc<RequestInfo>>,
}

/// What a request does with a session.
pub(crate) enum EngineAct {
    /// Takes packets.
    Poll,
    /// Brings packets: text.
    Post(Bytes),
    /// Breaks the rules: the session ends.
    Break,
}

/// The id of a session: its shard, and random bits that nobody can guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct EngineId(u128);

impl EngineId {
    const RANDOM_BITS: u32 = 112;

    pub(crate) fn new(shard: ShardId, high: u64, low: u64) -> Self {
        let random = u128::from(high) << 64 | u128::from(low);
        EngineId(u128::from(shard.0) << Self::RANDOM_BITS | random & ((1 << Self::RANDOM_BITS) - 1))
    }

    /// Reads what `Display` writes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_hex = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        u128::from_str_radix(text, 16).ok().filter(|_| is_hex).map(EngineId)
    }

    pub(crate) fn shard(self) -> ShardId {
        ShardId((self.0 >> Self::RANDOM_BITS) as u16)
    }
}

impl fmt::Display for EngineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
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
