//! The effects that the shell must carry out after an input, in order. Reused: drained before the next
//! [`Shard::handle`](crate::Shard::handle).

use crate::app::{AppAnswer, AppToken};
use crate::attachment::Attachment;
use crate::disconnect::Disconnect;
use crate::forward::Forwarded;
use crate::hook::{HookToken, Notice, Question};
use crate::ids::{ClientId, ConnId, Seat, ShardId, UserId, WireId};
use crate::listing::ConnectionsPart;
use crate::members::{Answers, AskToken};
use crate::message::{Push, Reply};
use crate::peer::PeerMessage;
use crate::watch::Note;

/// Notes of one input: a reload that ends a hundred thousand subscriptions is logged by its count and the first of
/// them.
const NOTES_MAX: usize = 32;

/// A range of [`Effects::recipients`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recipients {
    start: u32,
    end: u32,
}

/// One thing to do.
#[derive(Debug)]
pub enum Effect {
    /// Encode this once for the wire, and append it to the outbox of each recipient.
    Push {
        /// The message.
        push: Push,
        /// How to encode it.
        wire: WireId,
        /// The receivers: see [`Effects::recipients`].
        to: Recipients,
    },
    /// Encode this for one connection.
    Reply {
        /// Which.
        conn: ConnId,
        /// The session of the connection that it is for.
        seat: Seat,
        /// The answer.
        reply: Reply,
    },
    /// Stop reading this connection: it has enough commands outstanding.
    Pause(ConnId),
    /// Go on reading this connection.
    Resume(ConnId),
    /// Say why, write what waits, and close. Nothing more is sent to this connection, and `Closed` is not expected
    /// for it.
    Close {
        /// Which.
        conn: ConnId,
        /// Why.
        reason: Disconnect,
    },
    /// Give the application the outcome of its command.
    Answer {
        /// Which.
        token: AppToken,
        /// The answer.
        answer: AppAnswer,
    },
    /// Give the application the answers to a question to members ([`MembersOp::Ask`](crate::MembersOp)).
    Answers {
        /// Which.
        token: AskToken,
        /// The answers.
        answers: Box<Answers>,
    },
    /// Add what the shell knows of these connections, and give the list back by
    /// [`Input::Described`](crate::Input::Described).
    Describe(Box<ConnectionsPart>),
    /// Give the outcome of a command to the request that brought it.
    Forwarded(Box<Forwarded>),
    /// Ask the application; its answer comes back as `Input::HookAnswer` under the same token.
    Ask {
        /// Which question.
        token: HookToken,
        /// The question.
        question: Box<Question>,
        /// The shell's attachment of the connection that it is about.
        attachment: Option<Attachment>,
    },
    /// Tell the application; no answer is expected.
    Notice(Box<Notice>),
    /// Carry this to another shard, after all earlier ones to it.
    Tell {
        /// Which.
        shard: ShardId,
        /// The message.
        message: PeerMessage,
    },
}

/// The list of effects.
#[derive(Debug, Default)]
pub struct Effects {
    list: Vec<Effect>,
    ids: Vec<ConnId>,
    notes: Vec<Note>,
    begun_ms: Vec<u64>,
    wake_ms: Option<u64>,
    again: bool,
}

impl Effects {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// The effects in order; the list is empty afterwards, the recipients stay until [`clear`](Self::clear).
    pub fn drain(&mut self) -> std::vec::Drain<'_, Effect> {
        self.list.drain(..)
    }

    /// Takes the list out, so that the shell can act while it still asks for recipients; give it back by
    /// [`put_back`](Self::put_back).
    pub fn take_list(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.list)
    }

    /// Returns the emptied list for reuse.
    pub fn put_back(&mut self, list: Vec<Effect>) {
        debug_assert!(list.is_empty() && self.list.is_empty());
        self.list = list;
    }

    /// The connections that a `Push` is for.
    pub fn recipients(&self, to: Recipients) -> &[ConnId] {
        &self.ids[to.start as usize..to.end as usize]
    }

    /// A measure of the work that these effects are: one for the input, one for each effect and each receiver of a
    /// push.
    pub fn work(&self) -> usize {
        1 + self.list.len() + self.ids.len()
    }

    /// When `Input::Wake` is due, on the monotonic clock in ms.
    pub fn wake_ms(&self) -> Option<u64> {
        self.wake_ms
    }

    /// True when a fan-out has more to do: give others their turn, then call with `Input::Continue`.
    pub fn again(&self) -> bool {
        self.again
    }

    /// Events for the log, at most a few dozen for one input.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// When those publications were appended (ms since 1970) whose fan-out on this shard begins with these effects.
    pub fn begun_ms(&self) -> &[u64] {
        &self.begun_ms
    }

    /// Forgets everything; called by the shell before the next input.
    pub fn clear(&mut self) {
        self.list.clear();
        self.ids.clear();
        self.notes.clear();
        self.begun_ms.clear();
        self.wake_ms = None;
        self.again = false;
    }

    pub(crate) fn add(&mut self, effect: Effect) {
        self.list.push(effect);
    }

    pub(crate) fn note(&mut self, note: Note) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(note);
        }
    }

    /// Says in the last note about a connection without a session who it would have been.
    pub(crate) fn name_last_note(&mut self, conn: ConnId, client: Option<ClientId>, user: Option<&UserId>) {
        let last = self.notes.last_mut().filter(|note| note.conn == Some(conn) && note.client.is_none());
        if let Some(note) = last {
            (note.client, note.user) = (client, user.cloned());
        }
    }

    /// A note that somebody waits for.
    pub(crate) fn note_always(&mut self, note: Note) {
        self.notes.push(note);
    }

    /// A publication's fan-out has begun, and a member takes it.
    pub(crate) fn begun(&mut self, ts_ms: u64) {
        self.begun_ms.push(ts_ms);
    }

    pub(crate) fn set_wake(&mut self, wake_ms: Option<u64>) {
        self.wake_ms = wake_ms;
    }

    pub(crate) fn set_again(&mut self, again: bool) {
        self.again = again;
    }

    pub(crate) fn push_one(&mut self, push: Push, wire: WireId, conn: ConnId) {
        let start = self.mark();
        self.recipient(conn);
        self.push_from(start, push, wire);
    }

    /// Where the next recipient will stand.
    pub(crate) fn mark(&self) -> u32 {
        self.ids.len() as u32
    }

    pub(crate) fn recipient(&mut self, conn: ConnId) {
        self.ids.push(conn);
    }

    /// Adds `push` for the recipients added since `start`, if there are any.
    pub(crate) fn push_from(&mut self, start: u32, push: Push, wire: WireId) {
        let end = self.mark();
        if start < end {
            self.list.push(Effect::Push { push, wire, to: Recipients { start, end } });
        }
    }
}
