//! Commands that come for a session by another way than its connection.
//!
//! A client whose connection only carries answers down (an event stream, polls) sends its commands by requests of
//! their own, and each may arrive on another shard. In: [`Input::Forward`](crate::Input::Forward) with the content of
//! the client's ticket, on any shard. The shard that owns the session does the commands as if its connection had sent
//! them. Out: exactly one [`Forwarded`], on the shard that asked, under the same token. Nothing of the answers goes to
//! the connection.

use crate::error::Error;
use crate::ids::{ConnId, ShardId};
use crate::message::{Reply, Request};
use std::sync::Arc;

/// Names the commands of one request. Chosen by the shell; the answer carries it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ForwardToken(pub u64);

/// The commands of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendRequest {
    /// Their number, from 1 on. Sends of one session take effect in the order of their numbers, and each once. `None`:
    /// they take effect when they come, and as often as they come.
    pub n: Option<u64>,
    /// They take effect in this order.
    pub requests: Vec<Request>,
    /// The memory that they hold, about.
    pub bytes: usize,
}

impl From<Request> for SendRequest {
    fn from(request: Request) -> Self {
        SendRequest { n: None, requests: vec![request], bytes: 0 }
    }
}

/// How the commands of one request are answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarded {
    /// The request's.
    pub token: ForwardToken,
    /// The answers that the connection would have had, in the order of the commands: a command without an id that is
    /// no error has none. Or the reason why none of the commands was done, or why no answer is known.
    pub answer: Result<Arc<[Reply]>, Error>,
}

/// Where the session of a client is, as far as a shard knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whereabouts {
    /// On this shard, and on this connection.
    Here(ConnId),
    /// On this shard, and on no connection.
    Away,
    /// It went to another shard.
    Left(ShardId),
    /// Not here.
    Unknown,
}
