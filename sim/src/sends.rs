//! Sends: requests with a number that bring commands of a session, at the client's end, and the judge of their answers.
//!
//! A session's sends take effect in the order of their numbers, each once. The client sends one again, as it is, until
//! it has an answer. All answers to one number are the same. A send is out of order only if one before it may be
//! missing. Its answer is lost only if the session has changed shards or the answers are too large to be kept.

use crate::wire::ToClient;
use fanfare_client::core::ExchangeId;
use fanfare_hub::{ChannelName, ClientId, Command, Error, ErrorCode, Reply, Request};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

/// So many sends may be without an answer.
const UNANSWERED_MAX: usize = 3;
/// So many commands go into one send.
const COMMANDS_MAX: usize = 4;
/// So many commands wait for the next send.
const GATHERED_MAX: usize = 12;
/// So many answers are kept, as the documentation says.
const KEPT: u64 = 8;
/// A send may be so far ahead of the last one that took effect.
const AHEAD_MAX: u64 = 8;
/// The bytes of a kept answer beyond its text, at most.
const OVERHEAD: usize = 160;

/// The sends of one session, as its client keeps them: they outlive a connection.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    last: u64,
    /// Sends without an answer.
    pub(crate) unanswered: BTreeMap<u64, Sent>,
    /// The last ones with an answer: the network may bring one of them once more.
    done: VecDeque<(u64, Vec<Request>)>,
}

/// A send without an answer.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    /// The connection for which it was sent.
    pub(crate) pipe: usize,
    pub(crate) requests: Vec<Request>,
    /// When it is sent again.
    pub(crate) again_ms: u64,
}

impl Outgoing {
    /// The next send takes some of the commands that wait, if there is room for one more.
    pub(crate) fn begin(&mut self, pipe: usize, gathered: &mut VecDeque<Request>) -> Option<u64> {
        let oldest = self.unanswered.keys().next().copied().unwrap_or(self.last + 1);
        let is_kept = self.last + 1 < oldest + KEPT;
        if gathered.is_empty() || self.unanswered.len() >= UNANSWERED_MAX || !is_kept {
            return None;
        }
        let requests = gathered.drain(..gathered.len().min(COMMANDS_MAX)).collect();
        self.last += 1;
        self.unanswered.insert(self.last, Sent { pipe, requests, again_ms: 0 });
        Some(self.last)
    }

    /// A client core sends one, for this connection. True if it is new and has commands. One that comes again is as it
    /// was; or it has no commands any more, as nobody waits for their answers.
    pub(crate) fn of_core(&mut self, pipe: Option<usize>, n: u64, requests: &[Request]) -> Result<bool, String> {
        if let Some(sent) = self.unanswered.get_mut(&n) {
            if !requests.is_empty() && sent.requests != requests {
                return Err(format!("core: send {n} comes again with {requests:?}, and was {:?}", sent.requests));
            }
            sent.requests.truncate(requests.len());
            return Ok(false);
        }
        if n != self.last + 1 {
            return Err(format!("core: send {n} comes after {}, or is answered", self.last));
        }
        self.last = n;
        let pipe = pipe.unwrap_or(usize::MAX);
        self.unanswered.insert(n, Sent { pipe, requests: requests.to_vec(), again_ms: u64::MAX });
        Ok(!requests.is_empty())
    }

    /// The session goes on over another connection. Nobody waits for the answers to earlier commands any more; their
    /// numbers are filled, if they have not arrived.
    pub(crate) fn resumed(&mut self, pipe: usize) {
        for sent in self.unanswered.values_mut() {
            *sent = Sent { pipe, requests: Vec::new(), again_ms: 0 };
        }
    }

    /// One is answered.
    pub(crate) fn is_done(&mut self, n: u64) {
        if let Some(sent) = self.unanswered.remove(&n) {
            self.done.push_back((n, sent.requests));
        }
        if self.done.len() as u64 > KEPT {
            self.done.pop_front();
        }
    }

    /// The oldest one whose answer must still be kept.
    pub(crate) fn oldest_kept(&self) -> Option<(u64, Vec<Request>)> {
        self.done.iter().find(|(n, _)| n + KEPT > self.last).cloned()
    }

    /// Those whose time has come to be sent, or to be sent again.
    pub(crate) fn due(&self, now_ms: u64) -> Vec<u64> {
        self.unanswered.iter().filter(|(_, sent)| sent.again_ms <= now_ms).map(|(n, _)| *n).collect()
    }
}

/// The client's end of a connection that carries messages down only.
#[derive(Debug, Default)]
pub(crate) struct Apart {
    /// Commands that wait for the next send.
    pub(crate) gathered: VecDeque<Request>,
    pub(crate) is_sending: bool,
    /// Its subscribes and unsubscribes without an answer, by the ids.
    pub(crate) asked: BTreeMap<u64, Asked>,
    /// Messages about channels whose `subscribed` is still to come.
    pub(crate) held: BTreeMap<ChannelName, VecDeque<(Rc<ToClient>, String)>>,
    /// Answers that belong behind messages that are still to come.
    pub(crate) postponed: Vec<Postponed>,
}

/// A command that changes the messages of the connection.
#[derive(Debug, Clone)]
pub(crate) enum Asked {
    Subscribe(Vec<ChannelName>),
    Unsubscribe,
}

impl Asked {
    pub(crate) fn by(command: &Command) -> Option<Asked> {
        match command {
            Command::Subscribe { subs, .. } => {
                Some(Asked::Subscribe(subs.iter().map(|options| options.channel.clone()).collect()))
            }
            Command::Unsubscribe { .. } => Some(Asked::Unsubscribe),
            _ => None,
        }
    }
}

/// An answer that comes too early.
#[derive(Debug)]
pub(crate) struct Postponed {
    /// It belongs behind so many messages.
    pub(crate) after: u64,
    pub(crate) id: u64,
    pub(crate) reply: Reply,
}

impl Apart {
    pub(crate) fn has_room(&self) -> bool {
        self.gathered.len() < GATHERED_MAX
    }

    /// True if a subscribe to this channel has no answer yet.
    pub(crate) fn is_subscribing(&self, channel: &ChannelName) -> bool {
        self.asked.values().any(|asked| matches!(asked, Asked::Subscribe(channels) if channels.contains(channel)))
    }
}

/// The judge of answers.
#[derive(Debug, Default)]
pub(crate) struct SendJudge {
    sessions: BTreeMap<ClientId, Judged>,
    /// Requests without an answer.
    open: BTreeMap<u64, Open>,
    /// Subscriptions that may end at any time: nobody waits any more for the answers of the sends that end them.
    may_end: BTreeSet<(ClientId, ChannelName)>,
    next: u64,
    pub(crate) answered: u64,
    pub(crate) again: u64,
}

#[derive(Debug, Default)]
struct Judged {
    /// The first answer to each number.
    answers: BTreeMap<u64, Arc<[Reply]>>,
    bytes: BTreeMap<u64, usize>,
    /// When each number was first answered.
    answered_ms: BTreeMap<u64, u64>,
    /// When shards were given a `connect` with its ticket, and that may still be under way.
    sought_ms: Vec<u64>,
    /// Numbers that may have been under way when the session changed shards.
    may_be_lost: BTreeSet<u64>,
    /// When each number was first on its way.
    began_ms: BTreeMap<u64, u64>,
}

/// So long a shard may look for a session.
const SEEKS_MAX_MS: u64 = 20_000;

/// A request that a shard has been given.
#[derive(Debug, Clone)]
pub(crate) struct Open {
    pub(crate) pipe: usize,
    /// The request of a client core.
    pub(crate) exchange: Option<ExchangeId>,
    pub(crate) client: ClientId,
    /// `None`: it has no number.
    pub(crate) n: Option<u64>,
    pub(crate) since_ms: u64,
    /// The channels that it unsubscribes, if it may be the first of its number that takes effect.
    pub(crate) ends: Vec<ChannelName>,
    /// All numbers before it had been answered.
    is_next: bool,
}

/// Names of requests from here on are sends.
const TOKENS_FROM: u64 = 1 << 48;

impl SendJudge {
    /// A client sends it for the first time.
    pub(crate) fn begins(&mut self, now_ms: u64, client: ClientId, n: u64) {
        self.sessions.entry(client).or_default().began_ms.entry(n).or_insert(now_ms);
    }

    /// A shard is given a request. Returns its name.
    pub(crate) fn given(
        &mut self,
        now_ms: u64,
        (pipe, exchange): (usize, Option<ExchangeId>),
        client: ClientId,
        n: Option<u64>,
        requests: &[Request],
    ) -> u64 {
        self.next += 1;
        let answers = self.sessions.get(&client).map(|session| &session.answers);
        let is_next = n.is_some_and(|n| n == 1 || answers.is_some_and(|answers| answers.contains_key(&(n - 1))));
        let is_done = n.is_some_and(|n| answers.is_some_and(|answers| answers.contains_key(&n)));
        let ended = |request: &Request| match &request.command {
            Command::Unsubscribe { channel } => Some(channel.clone()),
            _ => None,
        };
        let ends = requests.iter().filter(|_| !is_done).filter_map(ended).collect();
        let token = TOKENS_FROM + self.next;
        self.open.insert(token, Open { pipe, exchange, client, n, since_ms: now_ms, ends, is_next });
        token
    }

    /// True if a shard has been given a send that ends this subscription, and has not answered: nobody sees when it
    /// ends.
    pub(crate) fn may_end(&self, client: ClientId, channel: &ChannelName) -> bool {
        let ends = |open: &Open| open.client == client && open.ends.contains(channel);
        self.open.values().any(ends) || self.may_end.contains(&(client, channel.clone()))
    }

    /// A shard is given a `connect` with this session's ticket: the session may change shards from here on.
    pub(crate) fn is_sought(&mut self, now_ms: u64, client: ClientId) {
        let session = self.sessions.entry(client).or_default();
        session.sought_ms.retain(|since_ms| since_ms + SEEKS_MAX_MS > now_ms);
        session.sought_ms.push(now_ms);
    }

    /// A session has a new connection. It may have been on other shards meanwhile, and what was under way when it left
    /// one has no answer that it could have taken along.
    pub(crate) fn is_resumed(&mut self, client: ClientId) {
        let session = self.sessions.entry(client).or_default();
        let since_ms = session.sought_ms.iter().copied().min().unwrap_or_default();
        let was_done = |n: &u64| session.answered_ms.get(n).is_some_and(|answered_ms| *answered_ms < since_ms);
        let open = session.began_ms.keys().copied().filter(|n| !was_done(n)).collect::<Vec<_>>();
        session.may_be_lost.extend(open);
    }

    /// True if this send has been answered: another copy of it changes nothing.
    pub(crate) fn is_answered(&self, client: ClientId, n: Option<u64>) -> bool {
        let answers = self.sessions.get(&client).map(|session| &session.answers);
        n.is_some_and(|n| answers.is_some_and(|answers| answers.contains_key(&n)))
    }

    /// The server has gone with all sessions.
    pub(crate) fn server_gone(&mut self) {
        self.open.clear();
        self.may_end.clear();
    }

    /// A request is answered: `Ok(None)` if it is no send.
    pub(crate) fn answered(
        &mut self,
        (now_ms, token): (u64, u64),
        answer: &Result<Arc<[Reply]>, Error>,
        bytes_max: usize,
    ) -> Result<Option<Open>, String> {
        if token < TOKENS_FROM {
            return Ok(None);
        }
        let open = self.open.remove(&token).ok_or_else(|| format!("send: {token} is answered again: {answer:?}"))?;
        if matches!(answer, Err(Error { code: ErrorCode::Timeout, .. })) {
            self.may_end.extend(open.ends.iter().map(|channel| (open.client, channel.clone())));
        }
        let Some(n) = open.n else { return Ok(Some(open)) };
        let session = self.sessions.entry(open.client).or_default();
        let client = open.client;
        match answer {
            Ok(replies) => {
                self.answered += 1;
                if let Some(first) = session.answers.get(&n) {
                    self.again += 1;
                    if first != replies {
                        return Err(format!(
                            "send: {n} of {client} was answered with {first:?}, and now with {replies:?}"
                        ));
                    }
                    return Ok(Some(open));
                }
                session.answers.insert(n, replies.clone());
                session.answered_ms.insert(n, now_ms);
                session.bytes.insert(n, replies.len() * OVERHEAD + format!("{replies:?}").len());
            }
            Err(Error { code: ErrorCode::OutOfOrder, message, .. }) => {
                let newest = session.answers.keys().next_back().copied().unwrap_or_default();
                let is_early = !open.is_next && n <= newest + AHEAD_MAX + UNANSWERED_MAX as u64;
                if !is_early {
                    return Err(format!(
                        "send: {n} of {client} is out of order ({message}), and {newest} was answered"
                    ));
                }
            }
            Err(Error { code: ErrorCode::Unknown, message, .. }) => {
                let has_moved = session.may_be_lost.contains(&n);
                let sent = session.began_ms.keys().next_back().copied().unwrap_or_default();
                let is_old = n + KEPT <= sent;
                if message.contains("long ago") && !is_old {
                    return Err(format!("send: the answer {n} of {client} is not kept, and {sent} is the last send"));
                }
                let kept: usize = session.bytes.range(n.saturating_sub(KEPT)..=n + KEPT).map(|(_, bytes)| bytes).sum();
                // Those behind it may have answers that nobody has heard yet.
                let is_known = session.began_ms.keys().all(|n| session.answers.contains_key(n));
                if !is_old && !has_moved && kept < bytes_max / 2 && is_known {
                    return Err(format!(
                        "send: the answer {n} of {client} is lost, and {kept} bytes of {bytes_max} are kept"
                    ));
                }
            }
            Err(_) => {}
        }
        Ok(Some(open))
    }

    /// A request that was given to a shard before this time, and was never answered.
    pub(crate) fn verdict_before(&self, before_ms: u64) -> Result<(), String> {
        match self.open.iter().find(|(_, open)| open.since_ms < before_ms) {
            None => Ok(()),
            Some((token, open)) => Err(format!("send: {token} was never answered: {open:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: ClientId = ClientId(1);

    /// A subscription is in doubt from the time at which a shard is given its end until that is answered.
    #[test]
    fn a_subscription_may_end_while_a_send_that_ends_it_has_no_answer() {
        let channel = ChannelName::new("chat:a").expect("valid");
        let ends = [Request { id: None, command: Command::Unsubscribe { channel: channel.clone() } }];
        let mut judge = SendJudge::default();
        let given = |judge: &mut SendJudge| judge.given(0, (0, None), CLIENT, Some(1), &ends);
        let done: Result<Arc<[Reply]>, Error> = Ok(Arc::from([]));
        assert!(!judge.may_end(CLIENT, &channel));
        let first = given(&mut judge);
        assert!(judge.may_end(CLIENT, &channel) && !judge.may_end(ClientId(2), &channel));
        let answered = judge.answered((0, first), &done, 1 << 20).expect("right").expect("a send");
        assert_eq!(answered.ends.first(), Some(&channel));
        assert!(!judge.may_end(CLIENT, &channel));
        given(&mut judge);
        assert!(!judge.may_end(CLIENT, &channel), "a repeat has no effect");
        let late = judge.given(0, (0, None), CLIENT, Some(2), &ends);
        let timeout = Err(Error::new(ErrorCode::Timeout, "late"));
        judge.answered((0, late), &timeout, 1 << 20).expect("right");
        assert!(judge.may_end(CLIENT, &channel), "it may still be on its way");
    }
}
