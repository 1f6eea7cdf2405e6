//! Exchanges: requests of native clients that are answered whole, polls and sends, as a shard sees them.
//!
//! `http::exchanges` makes an [`Exchange`] of a request, and `shard::polls` its answer.

use crate::protocol::socketio::SocketIo;
use crate::protocol::stream::StreamStart;
use crate::refusal::HttpRefusal;
use crate::request::{Peer, RequestInfo};
use bytes::Bytes;
use fanfare_hub::{Attempt, Request, WireId};
use fanfare_wire::engineio::Sid;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Takes a place for a session, which it keeps as long as it has no socket; or says why there is none.
pub(crate) type Admit = Box<dyn FnOnce() -> Result<SessionPlace, HttpRefusal> + Send>;

/// A place of a session, until it is dropped.
pub(crate) type SessionPlace = Box<dyn Send>;

/// A request that has been understood. Its ticket is unchecked.
pub(crate) enum Exchange {
    /// Opens a poll session.
    Connect(Box<PollConnect>),
    /// Takes the messages of one.
    Poll(PollRequest),
    /// Brings commands.
    Send(SendCommands),
    /// A request of a session of Engine.IO.
    Engine(EngineRequest),
}

/// A request of a client of Engine.IO.
pub(crate) enum EngineRequest {
    /// Opens a session.
    Handshake(Box<EngineStart>),
    /// About a session, whose id has the seal of this server: it may have ended.
    Session(Sid, EngineAct),
}

/// A handshake.
pub(crate) struct EngineStart {
    pub(crate) wire: WireId,
    pub(crate) protocol: SocketIo,
    pub(crate) peer: Peer,
    /// Made only where a handler asks for it.
    pub(crate) request: Option<Arc<RequestInfo>>,
    pub(crate) admit: Admit,
}

/// What a request does with a session.
#[derive(Debug)]
pub(crate) enum EngineAct {
    /// Takes packets.
    Poll {
        /// Its connection is over a limit: the answer comes soon, with packets or without.
        is_over: bool,
    },
    /// Brings packets.
    Post(Posted),
    /// Breaks the rules: the session ends, and this is the answer.
    Break(HttpRefusal),
    /// Is of another transport or version: it is refused, and the session goes on.
    Mismatch,
    /// Asks whether it is there: its client opens a WebSocket for it.
    Find,
}

/// The body of a POST.
#[derive(Debug)]
pub(crate) enum Posted {
    /// It came with its head.
    Whole(Bytes),
    /// It is on its way; or it was refused, which ends the session. So does a sender that is dropped: the POST was
    /// given up.
    Coming(oneshot::Receiver<Result<Bytes, HttpRefusal>>),
}

/// A `connect` for a poll session.
pub(crate) struct PollConnect {
    pub(crate) wire: WireId,
    pub(crate) start: StreamStart,
    /// The client has named this attempt: the same attempt leads to the same session.
    pub(crate) attempt: Option<Attempt>,
    /// Where there is no session of this attempt yet.
    pub(crate) admit: Admit,
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

/// Takes the body of the answer, or the refusal.
pub(crate) type ExchangeAnswer = oneshot::Sender<Result<Bytes, HttpRefusal>>;
