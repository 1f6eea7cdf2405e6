//! Publications on their way: each is sent with its key until it is answered, so that it stands in its channel at
//! most once and its caller learns where.
//!
//! A key is valid within one user, or within one session if there is no user. If the next connection has another user
//! or session, a publication that was sent before could be stored twice if it were sent again. So its caller gets
//! [`CallError::Unknown`]. So it is where the server may have forgotten the key: it remembers one for a time that it
//! says in `connected.limits`, and nothing is sent again that was sent first more than three quarters of that ago (the
//! rest is for what is slow on its way). In flight at most `in_flight_max`, first come first sent; one that has to wait
//! for a retry does not hold up the others, so the order between them is kept only while nothing fails.

use super::out::Out;
use super::sends::Sends;
use super::types::{Answer, CallError, CallId, Config};
use fanfare_hub::{ErrorCode, Rng};
use fanfare_wire::native::client::{ClientCommand, ErrorReply, Publish, ServerMessage};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The scope in which a key is unique: a user's, else a session's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scope {
    User(Arc<str>),
    Client(Arc<str>),
}

#[derive(Debug)]
enum State {
    /// To be sent as soon as there is room.
    Queued,
    /// Sent under this request id.
    Flying { id: u64, deadline_ms: u64 },
    /// The server could not take it now.
    Resting { until_ms: u64 },
}

#[derive(Debug)]
struct Entry {
    call: CallId,
    publish: Publish,
    state: State,
    /// Where the key holds, once it was sent.
    scope: Option<Scope>,
    /// When it was first sent and may have been taken, unless the server has said since that it was not.
    sent_ms: Option<u64>,
    /// How often it was sent since then.
    tries: u32,
    give_up_ms: u64,
    retries: u32,
}

impl Entry {
    /// The last time that it was sent does not count: the server has not seen it.
    fn unsent(&mut self) {
        self.tries = self.tries.saturating_sub(1);
        if self.tries == 0 {
            (self.scope, self.sent_ms) = (None, None);
        }
    }
}

/// All that are not answered, in the order of asking.
#[derive(Debug)]
pub(super) struct Publishes {
    entries: BTreeMap<u64, Entry>,
    last: u64,
    /// For how long after it was first sent a publication may be sent again.
    resend_ms: u64,
}

/// Three quarters of the time for which a server remembers keys that does not say how long: 2 min, as this protocol
/// began.
const RESEND_MS: u64 = resend_ms(120_000);

const fn resend_ms(ttl_ms: u64) -> u64 {
    ttl_ms / 4 * 3
}

impl Default for Publishes {
    fn default() -> Self {
        Publishes { entries: BTreeMap::new(), last: 0, resend_ms: RESEND_MS }
    }
}

impl Publishes {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Takes one on. Without a key it gets a random one of 128 bits.
    pub(super) fn add(&mut self, now_ms: u64, config: &Config, rng: &mut Rng, call: CallId, mut publish: Publish) {
        publish.idempotency_key.get_or_insert_with(|| format!("{:016x}{:016x}", rng.next_u64(), rng.next_u64()).into());
        self.last += 1;
        let give_up_ms = now_ms + config.publish_give_up_ms;
        let entry =
            Entry { call, publish, state: State::Queued, scope: None, sent_ms: None, tries: 0, give_up_ms, retries: 0 };
        self.entries.insert(self.last, entry);
    }

    /// Sends the publications that may be sent.
    pub(super) fn pump(&mut self, now_ms: u64, config: &Config, scope: &Scope, out: &mut Out) {
        self.end_late(now_ms, out);
        let flying = self.entries.values().filter(|entry| matches!(entry.state, State::Flying { .. })).count();
        let room = config.in_flight_max.saturating_sub(flying);
        let ready = |state: &State| match state {
            State::Queued => true,
            State::Resting { until_ms } => *until_ms <= now_ms,
            State::Flying { .. } => false,
        };
        for entry in self.entries.values_mut().filter(|entry| ready(&entry.state)).take(room) {
            let id = out.next_id();
            out.send(Some(id), ClientCommand::Publish(Box::new(entry.publish.clone())));
            entry.state = State::Flying { id, deadline_ms: now_ms + config.request_timeout_ms };
            entry.scope = Some(scope.clone());
            entry.sent_ms.get_or_insert(now_ms);
            entry.tries += 1;
        }
    }

    /// Takes an answer, or gives it back when it is not for one of these.
    pub(super) fn answered(
        &mut self,
        now_ms: u64,
        rng: &mut Rng,
        id: u64,
        message: ServerMessage,
        out: &mut Out,
    ) -> Result<(), ServerMessage> {
        let is_it = |entry: &Entry| matches!(entry.state, State::Flying { id: flying, .. } if flying == id);
        let Some((&place, entry)) = self.entries.iter_mut().find(|(_, entry)| is_it(entry)) else {
            return Err(message);
        };
        let result = match message {
            ServerMessage::Published { position, .. } => Ok(Answer::Published(position)),
            ServerMessage::Error(error) if error.retryable => {
                let until_ms = now_ms + rest_ms(entry.retries, &error, rng);
                entry.state = State::Resting { until_ms };
                entry.retries += 1;
                // The only time that it was sent, and nothing was done: the next time is the first.
                if entry.tries == 1 && !leaves_unknown(&error) {
                    (entry.sent_ms, entry.tries) = (None, 0);
                }
                return Ok(());
            }
            ServerMessage::Error(error) => Err(CallError::Refused(error)),
            _ => Err(CallError::WrongAnswer),
        };
        out.answer(entry.call, result);
        self.entries.remove(&place);
        Ok(())
    }

    /// The connection is there, as somebody. `ttl_ms`: how long the server remembers a key, where it says so.
    pub(super) fn online(&mut self, scope: &Scope, ttl_ms: Option<u64>, out: &mut Out) {
        self.resend_ms = ttl_ms.map_or(RESEND_MS, resend_ms);
        self.entries.retain(|_, entry| {
            let same = entry.scope.as_ref().is_none_or(|sent_as| sent_as == scope);
            if !same {
                out.answer(entry.call, Err(CallError::Unknown));
            }
            same
        });
    }

    /// The connection is gone: publications in flight will get no answers. The server has not seen those whose request
    /// is among `unsent`.
    pub(super) fn offline(&mut self, unsent: &BTreeSet<u64>) {
        for entry in self.entries.values_mut() {
            let State::Flying { id, .. } = entry.state else { continue };
            entry.state = State::Queued;
            if unsent.contains(&id) {
                entry.unsent();
            }
        }
    }

    /// Ends publications that would have to be sent again and are too old for it: the server may have forgotten their
    /// keys.
    fn end_late(&mut self, now_ms: u64, out: &mut Out) {
        let resend_ms = self.resend_ms;
        self.entries.retain(|_, entry| {
            let is_flying = matches!(entry.state, State::Flying { .. });
            let is_late =
                !is_flying && entry.sent_ms.is_some_and(|sent_ms| sent_ms.saturating_add(resend_ms) <= now_ms);
            if is_late {
                out.answer(entry.call, Err(CallError::Unknown));
            }
            !is_late
        });
    }

    /// Gives up publications that are too old, and sends unanswered ones again. One that is in a send, or waits for
    /// one, is sent again by `sends` alone.
    pub(super) fn wake(&mut self, now_ms: u64, config: &Config, sends: &mut Sends, out: &mut Out) {
        self.entries.retain(|_, entry| {
            if let State::Flying { id, deadline_ms } = &mut entry.state
                && *deadline_ms <= now_ms
            {
                if sends.holds(*id) {
                    *deadline_ms = now_ms + config.request_timeout_ms;
                } else {
                    entry.state = State::Queued;
                }
            }
            if entry.give_up_ms > now_ms {
                return true;
            }
            if let State::Flying { id, .. } = entry.state
                && sends.withdraw(id)
            {
                entry.unsent();
            }
            let timed_out = CallError::TimedOut { after_ms: config.publish_give_up_ms };
            out.answer(entry.call, Err(if entry.scope.is_some() { CallError::Unknown } else { timed_out }));
            false
        });
        self.end_late(now_ms, out);
    }

    /// When [`wake`](Self::wake) or [`pump`](Self::pump) has something to do.
    pub(super) fn wake_ms(&self, online: bool) -> Option<u64> {
        let late_ms = |entry: &Entry| entry.sent_ms.map_or(u64::MAX, |sent_ms| sent_ms.saturating_add(self.resend_ms));
        self.entries
            .values()
            .map(|entry| match entry.state {
                State::Flying { deadline_ms, .. } => deadline_ms.min(entry.give_up_ms),
                State::Resting { until_ms } if online => until_ms.min(entry.give_up_ms).min(late_ms(entry)),
                _ => entry.give_up_ms.min(late_ms(entry)),
            })
            .min()
    }

    /// The client has ended.
    pub(super) fn end(&mut self, out: &mut Out, error: &CallError) {
        for entry in std::mem::take(&mut self.entries).into_values() {
            let error = if entry.scope.is_some() { CallError::Unknown } else { error.clone() };
            out.answer(entry.call, Err(error));
        }
    }
}

/// True for a refusal after which it may have been done all the same.
fn leaves_unknown(error: &ErrorReply) -> bool {
    let word = |code: ErrorCode| code.row().word;
    [ErrorCode::Unknown, ErrorCode::Timeout, ErrorCode::Internal].into_iter().any(|code| *error.code == *word(code))
}

/// The delay before a retry: the delay that the server asks for, else doubling from half a second to eight, jittered.
pub(super) fn rest_ms(retries: u32, error: &ErrorReply, rng: &mut Rng) -> u64 {
    let ceiling = 500_u64 << retries.min(4);
    error.retry_after_ms.unwrap_or(0) + ceiling / 2 + rng.below(ceiling / 2 + 1)
}
