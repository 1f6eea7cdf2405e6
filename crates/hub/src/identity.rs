//! The identity of a session. It goes with its session to another shard.

use crate::ids::UserId;
use crate::message::Proof;

/// The identity of a session, where that was proven.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Identity {
    pub(crate) user: Option<UserId>,
    pub(crate) proof: Proof,
    /// Counts what was set for `expires_ms`: an earlier timer is ignored.
    pub(crate) watch: u32,
    /// The client knows that it expires soon.
    pub(crate) is_reminded: bool,
}
