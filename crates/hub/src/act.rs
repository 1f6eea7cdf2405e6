//! Acts: what an entry of a channel's log does to the members in its audience, besides being shown to them or instead.

use crate::ids::{ReplyAddress, Room};

/// What an entry of the log does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// It is shown, and the members that see it are asked for an answer.
    Ask(Ask),
    /// It is shown as the answer to a question of the member.
    Answer {
        /// The number of the question.
        id: u64,
    },
    /// Shown to the members that leave by it, as their last one. `whole`: their connections end, so it is not shown.
    Disconnect {
        /// Their connections end.
        whole: bool,
    },
    /// Not shown.
    Join(Vec<Room>),
    /// Not shown.
    Leave(Vec<Room>),
    /// Not in the log: it asks who the members are.
    List(List),
}

/// A question to members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The number by which clients answer. No other question on this node has it at the same time.
    pub id: u64,
    pub(crate) to: ReplyAddress,
    pub(crate) until_ms: u64,
}

/// A question about members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List(pub(crate) ReplyAddress);

impl Act {
    /// True if clients are shown the entry.
    pub fn is_shown(&self) -> bool {
        matches!(self, Act::Ask(_) | Act::Answer { .. } | Act::Disconnect { whole: false })
    }

    /// Bytes that it takes, with an estimate of the overhead.
    pub(crate) fn cost(&self) -> usize {
        let rooms = if let Act::Join(rooms) | Act::Leave(rooms) = self { &rooms[..] } else { &[] };
        size_of::<Act>() + 16 + rooms.iter().map(|room| size_of::<Room>() + 16 + room.as_str().len()).sum::<usize>()
    }
}
