//! Commands that wait for an answer: the one an answer belongs to, the deadline, and the outcome when the
//! connection is lost.

use super::out::Out;
use super::types::{Answer, CallError, CallId};
use fanfare_wire::native::client::{ClientCommand, ErrorReply, ServerMessage};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The purpose of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The application's; `repeat`: it may be sent again on the next connection.
    Call { call: CallId, repeat: bool },
    /// A subscription's. It counts while the subscription has this life.
    Subscribe { channel: Arc<str>, life: u64 },
    /// A subscription asks for its presence.
    PresenceSync { channel: Arc<str>, life: u64 },
    /// An entry that the application set; `call` waits for it.
    Enter { channel: Arc<str>, life: u64, call: Option<CallId> },
    /// An entry that the application gave up while there was no connection.
    Clear { channel: Arc<str>, life: u64 },
    /// A token that the application gave when it was asked.
    Refresh,
}

impl Purpose {
    /// The channel whose subscription it is about.
    pub(super) fn channel(&self) -> Option<&Arc<str>> {
        match self {
            Purpose::Subscribe { channel, .. } => Some(channel),
            _ => None,
        }
    }
}

#[derive(Debug)]
struct Pending {
    purpose: Purpose,
    /// The message, until it is sent; kept longer where it may be repeated.
    command: Option<ClientCommand>,
    sent: bool,
    deadline_ms: u64,
}

/// The table, by request id; ids rise, so its order is the order of asking.
#[derive(Debug, Default)]
pub(super) struct Requests {
    pending: BTreeMap<u64, Pending>,
}

impl Requests {
    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    /// Asks now where `online`, else when the next connection is.
    pub(super) fn ask(
        &mut self,
        out: &mut Out,
        online: bool,
        deadline_ms: u64,
        purpose: Purpose,
        command: ClientCommand,
    ) -> u64 {
        let id = out.next_id();
        let keep = !online || matches!(purpose, Purpose::Call { repeat: true, .. });
        if online {
            out.send(Some(id), command.clone());
        }
        let command = keep.then_some(command);
        self.pending.insert(id, Pending { purpose, command, sent: online, deadline_ms });
        id
    }

    /// The purpose that an answer with this id has.
    pub(super) fn take(&mut self, id: u64) -> Option<Purpose> {
        self.pending.remove(&id).map(|pending| pending.purpose)
    }

    /// True while a `subscribe` to this channel waits for its answer.
    pub(super) fn subscribes(&self, channel: &str) -> bool {
        let is_it = |purpose: &Purpose| matches!(purpose, Purpose::Subscribe { channel: of, .. } if **of == *channel);
        self.pending.values().any(|pending| is_it(&pending.purpose))
    }

    /// The connection is there: sends the waiting requests.
    pub(super) fn online(&mut self, out: &mut Out) {
        for (&id, pending) in self.pending.iter_mut().filter(|(_, pending)| !pending.sent) {
            let Some(command) = &pending.command else { continue };
            out.send(Some(id), command.clone());
            pending.sent = true;
            if !matches!(pending.purpose, Purpose::Call { repeat: true, .. }) {
                pending.command = None;
            }
        }
    }

    /// The connection is gone: requests that may be repeated wait for the next one; the others are answered as unknown,
    /// or as not sent where they are among `unsent`. The requests of subscriptions are given back to them.
    pub(super) fn offline(&mut self, unsent: &BTreeSet<u64>, out: &mut Out) -> Vec<Purpose> {
        let mut internal = Vec::new();
        self.pending.retain(|id, pending| {
            match &pending.purpose {
                Purpose::Call { .. } if !pending.sent => return true,
                Purpose::Call { repeat: true, .. } => {
                    pending.sent = false;
                    return true;
                }
                Purpose::Call { call, repeat: false } => {
                    let was_sent = !unsent.contains(id);
                    out.answer(*call, Err(if was_sent { CallError::Unknown } else { CallError::NotSent }));
                }
                other => internal.push(other.clone()),
            }
            false
        });
        internal
    }

    /// Those whose time is up, with their ids; each is forgotten.
    pub(super) fn expired(&mut self, now_ms: u64) -> Vec<(u64, Purpose)> {
        let due: Vec<u64> = self.pending.iter().filter(|(_, p)| p.deadline_ms <= now_ms).map(|(&id, _)| id).collect();
        due.into_iter().filter_map(|id| Some((id, self.take(id)?))).collect()
    }

    pub(super) fn wake_ms(&self) -> Option<u64> {
        self.pending.values().map(|pending| pending.deadline_ms).min()
    }

    /// The client has ended.
    pub(super) fn end(&mut self, out: &mut Out, error: &CallError) {
        for pending in std::mem::take(&mut self.pending).into_values() {
            match pending.purpose {
                Purpose::Call { call, .. } | Purpose::Enter { call: Some(call), .. } => {
                    out.answer(call, Err(error.clone()));
                }
                _ => {}
            }
        }
    }
}

/// The result of a call, from the reply that it waited for.
pub(super) fn answer_of(message: ServerMessage) -> Result<Answer, CallError> {
    match message {
        ServerMessage::Error(error) => Err(CallError::Refused(error)),
        ServerMessage::History(history) => Ok(Answer::History(history)),
        ServerMessage::Presence(presence) => Ok(Answer::Presence(presence)),
        ServerMessage::Result { data: None, .. } => Ok(Answer::Done),
        ServerMessage::Result { data: Some(data), .. } => Ok(Answer::Data(data)),
        _ => Err(CallError::WrongAnswer),
    }
}

/// An error that the server gave as a push.
pub(super) fn refused(code: Box<str>, message: Box<str>, channel: &Arc<str>) -> CallError {
    let channel = Some(channel.clone());
    let error = ErrorReply { id: None, code, message, retryable: false, retry_after_ms: None, channel, rule: None };
    CallError::Refused(Box::new(error))
}
