//! Commands that come for a session by another way than its connection.
//!
//! A client whose connection only carries answers down (an event stream, polls) sends its commands by requests of
//! their own, and each may arrive on another shard. In: [`Input::Forward`](crate::Input::Forward) with the content of
//! the client's ticket, on any shard. The shard that owns the session does the command as if its connection had sent
//! it. Out: exactly one [`Forwarded`], on the shard that asked, under the same token. Nothing of the answer goes to
//! the connection.

use crate::message::Reply;

/// Names a command that was forwarded. Chosen by the shell; the answer carries it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ForwardToken(pub u64);

/// How a forwarded command is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarded {
    /// The command's.
    pub token: ForwardToken,
    /// The answer that its connection would have had; `None` where there is none, as for a command without an id that
    /// is no error.
    pub reply: Option<Reply>,
}
