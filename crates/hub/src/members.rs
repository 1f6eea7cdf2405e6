//! The application's operations on the members of a channel, most of which are acts (`act`) in its log.
//!
//! A room is entered and left, a session ended and an answer asked for by an entry of the log: so each takes effect at
//! one place in the order of all publications, on every shard, also for a member that reads that place later. An
//! operation that changes nothing (a list, a volatile publication) has no place in the log; it passes through the home
//! like the others, so it comes behind all earlier ones of its asker.
//!
//! All operations of one asker on one channel take effect in the order in which they come to a shard, with its
//! publications, as long as they come to the same shard.

use crate::attachment::Attachment;
use crate::ids::{ClientId, Room, UserId};
use crate::message::{Audience, Data};
use crate::name::ChannelName;

/// An operation of the application on the members of a channel that an audience includes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MembersCommand {
    /// The channel.
    pub channel: ChannelName,
    /// Which of its members. The default audience is all of them.
    pub audience: Audience,
    /// The operation.
    pub op: MembersOp,
}

/// An operation on members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MembersOp {
    /// They get this as a publication, and each is asked for an answer ([`RoomCommand::Answer`](crate::RoomCommand)).
    /// Answered by `Published`; then [`Effect::Answers`](crate::Effect) comes once, under `token`.
    Ask {
        /// The payload.
        data: Data,
        /// Chosen by the shell, and not in use.
        token: AskToken,
        /// After so many ms nobody waits for further answers.
        timeout_ms: u64,
    },
    /// They get this as the answer to a question of their own, which their protocol has numbered. Answered by
    /// `Published`.
    Answer {
        /// The number of the question.
        id: u64,
        /// The answer.
        data: Data,
    },
    /// Those whose connections take more now get this; it is in no history, and lost for all others. Answered by
    /// `Done`.
    Volatile {
        /// The payload.
        data: Data,
    },
    /// They enter rooms. Answered by `Published`.
    Join {
        /// Which.
        rooms: Vec<Room>,
    },
    /// They leave rooms. Answered by `Published`.
    Leave {
        /// Which.
        rooms: Vec<Room>,
    },
    /// Their sessions end, after all that was published before. Answered by `Published`.
    Disconnect {
        /// Their connections end too, with all other sessions on them.
        whole: bool,
    },
    /// Who they are. Answered by `Members`.
    List,
}

/// Names an operation that asks for answers. Chosen by the shell; the effect with the answers carries it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AskToken(pub u64);

/// The answers to one [`MembersOp::Ask`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers {
    /// In the order in which they came.
    pub answers: Vec<(ClientId, Data)>,
    /// How many members were asked, as far as that is known.
    pub asked: u64,
    /// How many of them have left without an answer.
    pub left: u64,
    /// True where the time was over before all had answered or left.
    pub timed_out: bool,
}

/// A member of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberInfo {
    /// Its session.
    pub client: ClientId,
    /// Its user.
    pub user: Option<UserId>,
    /// In the order in which it entered them.
    pub rooms: Vec<Room>,
    /// The shell's attachment of its connection.
    pub attachment: Option<Attachment>,
}

/// A part of the answer to an [`Ask`](crate::Ask), on its way to the shard that asked.
#[derive(Debug)]
pub(crate) enum AnswerPart {
    /// So many members of one edge were asked; `is_last`: and it asks no more.
    Asked { members: u64, is_last: bool },
    /// One has answered.
    Answered(ClientId, Data),
    /// One has left.
    Left,
}
