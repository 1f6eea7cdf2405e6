//! Who a session is. The identity goes with its session to another shard.

use crate::ids::UserId;
use crate::message::Proof;

/// Who a session is, where that was proven.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Identity {
    pub(crate) user: Option<UserId>,
    pub(crate) proof: Proof,
    /// Counts what was set for `expires_ms`: an earlier timer is ignored.
    pub(crate) watch: u32,
}
