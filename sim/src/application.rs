//! The application of a simulated world: it gets questions, waits for a while, and usually answers.
//!
//! The payload alone decides whether it allows a publication, and in which form. So the judge knows the result too, and
//! a second attempt has the same result. The application keeps its answers about subscriptions with their questions:
//! the hub may say `subscribed` only if the last question about that session and channel was answered with permission,
//! or if the session's token is good for the channel. A subscription that a token gave ends with that token's rights.
//! The end of every session that began must be reported once, and what happens in channels (`notices`).

mod notices;
mod tokens;

use crate::chances::Chances;
use crate::client::Numbers;
use crate::plan::{CLAIMS, HookPlan};
use crate::strict::unsieved;
use fanfare_hub::{
    Caller, ChannelName, ClientId, Data, Error, ErrorCode, HookAnswer, Identified, Notice, Now, Publish, Push,
    Question, Reply, ReplyBody, Request, Rng, UserId,
};
use notices::Notices;
use std::collections::{BTreeMap, BTreeSet};
use tokens::Tokens;

/// The prefix of a publication that the application has changed.
const EDITED: &[u8] = b"{\"edited\":true,";
/// The suffix of a token whose user has trusted facts.
pub(crate) const WITH_INFO: &str = "+info";

#[derive(Debug)]
pub(crate) struct Application {
    plan: HookPlan,
    chances: Chances,
    /// Streams of chances, by question and caller.
    streams: BTreeMap<String, Rng>,
    /// The faults are over: later payloads are never denied.
    pub(crate) is_calm: bool,
    last: u64,
    /// The last question about a subscription, and whether it was allowed.
    leave: BTreeMap<(ClientId, ChannelName), (u64, bool)>,
    /// Its own subscriptions of sessions: permission without a question.
    granted: BTreeSet<(ClientId, ChannelName)>,
    /// The rights of sessions by their tokens.
    tokens: Tokens,
    /// The session of each pipe.
    clients: BTreeMap<usize, ClientId>,
    /// Answers to `connect` that named a user, or an anonymous caller, and have not begun or resumed a session yet.
    identified: BTreeMap<Option<UserId>, u64>,
    /// Every session that began, and whether its end was reported.
    sessions: BTreeMap<ClientId, bool>,
    notices: Notices,
    broken: Option<String>,
    pub(crate) asked: u64,
    pub(crate) late: u64,
    pub(crate) missing: u64,
    pub(crate) denied: u64,
    pub(crate) edited: u64,
    pub(crate) granted_by_token: u64,
}

/// An answer that it will give.
#[derive(Debug)]
pub(crate) struct ScheduledAnswer {
    pub(crate) number: u64,
    pub(crate) answer: Box<HookAnswer>,
    pub(crate) after_ms: u64,
}

impl Application {
    pub(crate) fn new(plan: HookPlan, chances: Chances) -> Self {
        Application {
            tokens: Tokens::new(plan.grant.clone()),
            plan,
            chances,
            streams: BTreeMap::new(),
            is_calm: false,
            last: 0,
            leave: BTreeMap::new(),
            granted: BTreeSet::new(),
            clients: BTreeMap::new(),
            identified: BTreeMap::new(),
            sessions: BTreeMap::new(),
            notices: Notices::default(),
            broken: None,
            asked: 0,
            late: 0,
            missing: 0,
            denied: 0,
            edited: 0,
            granted_by_token: 0,
        }
    }

    /// The server has gone: nobody tells of the end of its sessions.
    pub(crate) fn server_gone(&mut self) {
        self.sessions.clear();
        self.leave.clear();
        self.granted.clear();
        self.notices.server_gone();
    }

    /// It gets a question. `None`: it will never answer.
    pub(crate) fn asked(&mut self, now: Now, question: &Question, timeout_ms: u64) -> Option<ScheduledAnswer> {
        self.last += 1;
        self.asked += 1;
        let number = self.last;
        if let Question::Subscribe { caller: Caller { client: Some(client), .. }, options } = question {
            self.leave.insert((*client, options.channel.clone()), (number, false));
        }
        let calm = self.is_calm;
        let (chances, name) = (self.chances, stream_of(question));
        let rng = self.streams.entry(name).or_insert_with_key(|name| chances.of(name, 0));
        let fate = rng.below(1000);
        let plan = &self.plan;
        let after_ms = match fate {
            _ if calm => rng.below(20),
            fate if fate < plan.missing => {
                self.missing += 1;
                return None;
            }
            fate if fate < plan.missing + plan.late => {
                self.late += 1;
                timeout_ms + 130 + rng.below(1_000)
            }
            fate if fate < plan.missing + plan.late + plan.slow => rng.below(timeout_ms),
            _ => rng.below(8),
        };
        let denies = !calm && rng.below(1000) < plan.denies;
        let ends = rng.below(3) == 0;
        let ends_after_ms = 1_000 + rng.below(7_000);
        let ends_after_ms = (plan.expires && !calm && ends).then_some(ends_after_ms);
        let answer = Box::new(self.answer(now, question, denies, ends_after_ms));
        Some(ScheduledAnswer { number, answer, after_ms })
    }

    fn answer(&mut self, now: Now, question: &Question, denies: bool, ends_after_ms: Option<u64>) -> HookAnswer {
        let refused = |code| HookAnswer::Refused(Error::new(code, "the application says no"));
        let answer = match question {
            // The real client core ends after a refusal, so only the other clients are refused.
            Question::Connect { token: Some(token) } if denies && token.starts_with("user") => {
                refused(ErrorCode::Unauthorized)
            }
            Question::Connect { token } => self.identity(now, token.as_deref(), ends_after_ms),
            Question::Refresh { .. } | Question::Subscribe { .. } | Question::Rpc { .. } if denies => {
                refused(ErrorCode::Denied)
            }
            Question::Refresh { token, .. } => self.identity(now, Some(token), ends_after_ms),
            Question::Subscribe { .. } => HookAnswer::Allowed,
            Question::Publish { publish, .. } if !self.lets(publish.data.bytes()) => refused(ErrorCode::Denied),
            Question::Publish { publish, .. } => {
                let data = edited(publish.data.bytes());
                self.edited += u64::from(*data != **publish.data.bytes());
                // It knows no keys: the hub has to keep them.
                let publish = Publish { data: Data::Json(data.into()), idempotency_key: None, ..(**publish).clone() };
                HookAnswer::Publish(Box::new(publish))
            }
            Question::Rpc { data, .. } => HookAnswer::Result(data.clone()),
        };
        self.denied += u64::from(matches!(answer, HookAnswer::Refused(_)));
        answer
    }

    fn identity(&mut self, now: Now, token: Option<&str>, ends_after_ms: Option<u64>) -> HookAnswer {
        let user = token.map(user_of);
        let info = token.filter(|token| token.ends_with(WITH_INFO)).map(|_| br#"{"name":"n"}"#.as_slice().into());
        let expires_ms = ends_after_ms.map(|after_ms| now.wall_ms + after_ms);
        let subscribe = token.and_then(|token| self.tokens.of(token)).cloned().into_iter().collect();
        let claims = self.plan.claims.then(|| CLAIMS.into());
        HookAnswer::Identity(Identified { user, info, expires_ms, subscribe, claims, ..Identified::default() })
    }

    /// Its answer goes to the hub now.
    pub(crate) fn answers(&mut self, number: u64, answer: &HookAnswer) {
        if let HookAnswer::Identity(identified) = answer {
            *self.identified.entry(identified.user.clone()).or_default() += 1;
        }
        if *answer == HookAnswer::Allowed {
            self.leave.values_mut().filter(|(question, _)| *question == number).for_each(|(_, leave)| *leave = true);
        }
    }

    /// A client sends a command.
    pub(crate) fn shown(&mut self, pipe: usize, request: &Request) {
        self.tokens.shown(pipe, request);
    }

    /// The hub answers the connection of a pipe.
    pub(crate) fn said(&mut self, pipe: usize, reply: &Reply) {
        self.tokens.said(pipe, reply);
        match &reply.body {
            ReplyBody::Connected(connected) => {
                let client = connected.client;
                self.clients.insert(pipe, client);
                // A ticket alone resumes a living session; in this world a client with a user always shows its token
                // too.
                if self.plan.hooks.connect && (!connected.resumed || connected.user.is_some()) {
                    match self.identified.get_mut(&connected.user).filter(|left| **left > 0) {
                        Some(left) => *left -= 1,
                        None => self.broken = Some(format!("hooks: {client} is {:?}, unasked", connected.user)),
                    }
                }
                if self.plan.hooks.disconnect && *self.sessions.entry(client).or_insert(false) {
                    self.broken = Some(format!("hooks: the session {client} goes on after its end was told"));
                }
            }
            ReplyBody::Subscribed(subscribed) => self.subscribed(pipe, &subscribed.channel),
            ReplyBody::Many(bodies) => {
                for body in bodies {
                    if let ReplyBody::Subscribed(subscribed) = body {
                        self.subscribed(pipe, &subscribed.channel);
                    }
                }
            }
            _ => {}
        }
    }

    /// The hub sends a message to the connection of a pipe.
    pub(crate) fn pushed(&mut self, pipe: usize, push: &Push) {
        if let Push::Unsubscribed { channel, .. } = push {
            self.tokens.ended(pipe, channel);
        }
    }

    /// It subscribes sessions to a channel by itself.
    pub(crate) fn grants(&mut self, clients: BTreeSet<ClientId>, channel: &ChannelName) {
        for (pipe, _) in self.clients.iter().filter(|(_, client)| clients.contains(client)) {
            self.tokens.kept(*pipe, channel);
        }
        self.granted.extend(clients.into_iter().map(|client| (client, channel.clone())));
    }

    fn subscribed(&mut self, pipe: usize, channel: &ChannelName) {
        if !self.plan.is_asked_to_subscribe(channel) {
            return;
        }
        let client = self.clients.get(&pipe).copied();
        let about = client.map(|client| (client, channel.clone()));
        let is_granted = about.as_ref().is_some_and(|about| self.granted.contains(about));
        // Good for one subscription: it is asked again about the next.
        let has_leave = about.as_ref().and_then(|about| self.leave.remove(about)).is_some_and(|(_, leave)| leave);
        if !has_leave && !is_granted {
            match self.tokens.subscribed(pipe, channel) {
                true => self.granted_by_token += 1,
                false => self.broken = Some(format!("hooks: {client:?} is subscribed to {channel} without leave")),
            }
        }
    }

    /// The hub notifies it.
    pub(crate) fn told(&mut self, notice: &Notice) {
        let caller = match notice {
            Notice::SessionEnded { caller, .. } => caller,
            Notice::Channel { channel, event, .. } => {
                if let Err(broken) = self.notices.told(channel, event) {
                    self.broken = Some(broken);
                }
                return;
            }
        };
        let Some(client) = caller.client else { return };
        if self.sessions.insert(client, true) != Some(false) {
            self.broken = Some(format!("hooks: the end of {client} is told twice, or it never began"));
        }
    }

    /// The number of subscriptions that ended because a newer token had fewer rights.
    pub(crate) fn grants_ended(&self) -> u64 {
        self.tokens.ended
    }

    pub(crate) fn broken(&mut self) -> Result<(), String> {
        self.broken.take().map_or(Ok(()), Err)?;
        self.tokens.settled()
    }

    /// The world is calm: as many sessions have no reported end as there are sessions.
    pub(crate) fn finish(&self, sessions: usize) -> Result<(), String> {
        let alive = self.sessions.values().filter(|ended| !**ended).count();
        if self.plan.hooks.disconnect && alive != sessions {
            return Err(format!("hooks: {alive} sessions have not been told to have ended, and there are {sessions}"));
        }
        Ok(())
    }

    /// The same for what it is notified of about channels: the least and the most subscribers of each.
    pub(crate) fn finish_notices(&self, subscribers: &BTreeMap<ChannelName, (u64, u64)>) -> Result<(), String> {
        self.notices.finish(subscribers)
    }

    /// Notices about channels, and those of them that one was vacated.
    pub(crate) fn notice_counts(&self) -> (u64, u64) {
        (self.notices.count, self.notices.vacated)
    }

    /// Whether it allows this payload.
    fn lets(&self, data: &[u8]) -> bool {
        let number = number_of(data);
        number >= Numbers::CALM_FROM || !number.is_multiple_of(11)
    }

    /// The history of a channel must contain exactly the publications that it allowed, in its form.
    pub(crate) fn check_kept(&self, channel: &ChannelName, data: &[u8]) -> Result<(), String> {
        let is_hooked = self.plan.is_asked_to_publish(channel);
        let original = plain(data);
        let text = String::from_utf8_lossy(data);
        if is_hooked && !self.lets(&original) {
            return Err(format!("hooks: {text} stands in {channel}, and was denied"));
        }
        let expected = if is_hooked { edited(&original) } else { original };
        if expected != unsieved(data) {
            return Err(format!(
                "hooks: {text} stands in {channel}, and should be {}",
                String::from_utf8_lossy(&expected)
            ));
        }
        Ok(())
    }
}

/// The name of the stream that decides about a question: the question, and the caller.
fn stream_of(question: &Question) -> String {
    let (what, caller) = match question {
        Question::Connect { token } => {
            return format!("connect {}", token.as_deref().unwrap_or_default());
        }
        Question::Refresh { caller, .. } => ("refresh", caller),
        Question::Subscribe { caller, .. } => ("subscribe", caller),
        Question::Publish { caller, .. } => ("publish", caller),
        Question::Rpc { caller, .. } => ("rpc", caller),
    };
    format!("{what} {}", caller.user.as_ref().map_or("", |user| &*user.0))
}

/// The user of a token.
pub(crate) fn user_of(token: &str) -> UserId {
    UserId(token.trim_end_matches(WITH_INFO).into())
}

/// The application's form of a payload.
fn edited(data: &[u8]) -> Vec<u8> {
    match number_of(data).is_multiple_of(5) {
        true => [EDITED, &data[1..]].concat(),
        false => data.to_vec(),
    }
}

/// The client's payload of a publication.
pub(crate) fn plain(data: &[u8]) -> Vec<u8> {
    let data = &unsieved(data)[..];
    match data.strip_prefix(EDITED) {
        Some(rest) => [b"{", rest].concat(),
        None => data.to_vec(),
    }
}

/// The number in `{"n":5,…`.
pub(crate) fn number_of(data: &[u8]) -> u64 {
    let digits = data.iter().skip_while(|byte| !byte.is_ascii_digit()).take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
}
