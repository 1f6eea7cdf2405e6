//! Questions to the application, and the effects of its answers.
//!
//! A question is a [`Pending`] like one to a home: its answer finds it by the token, once; the timer of each makes a
//! missing answer into `timeout`. If the connection has ended, the command is not carried out. Rules are judged before
//! the question and again with its answer, as they may have changed meanwhile.

use super::check::{self, Author};
use super::pending::{Connecting, Pending, PendingHook, QueuedQuestion, ReplyTo};
use super::subscribe::SubRef;
use super::table::AdmittedBy;
use super::{Cx, Sessions};
use crate::disconnect::Disconnect;
use crate::effects::Effect;
use crate::error::{Error, ErrorCode};
use crate::hook::{HookAnswer, HookToken, Identified, Question};
use crate::ids::{SessionRef, UserId};
use crate::message::{
    Command, Connect, EVENT_BYTES_MAX, IDEMPOTENCY_KEY_BYTES_MAX, Proof, Publish, ReplyBody, SubOptions,
};
use crate::name::ChannelName;
use crate::pattern::Pattern;
use crate::peer::{PendingToken, ToHome};
use crate::rules::Action;
use crate::timer::Timer;
use crate::token::UserToken;
use bytes::Bytes;
use std::collections::VecDeque;

/// A client is reminded so long before its token expires.
const REMIND_MS: u64 = 30_000;
/// Beyond the bound of questions: when to try again, at the earliest, and over how long tries are spread.
const RETRY_MS: u64 = 500;

/// True where one of the patterns of a hook matches. Costs nothing where there are none.
pub(super) fn asks(patterns: &[Pattern], channel: &ChannelName) -> bool {
    patterns.iter().any(|pattern| pattern.matches(channel))
}

impl Sessions {
    pub(crate) fn question_count(&self) -> usize {
        self.pending.hooked
    }

    /// Whether one more question about a command may be asked. A share is kept for clients without a session: sessions
    /// that have slow questions out must not keep everybody else from coming in.
    pub(super) fn may_ask(&self, cx: &mut Cx<'_>) -> Result<(), Error> {
        let all = cx.limits.questions_max;
        self.is_room(cx, all - all / 4)
    }

    /// The same for a question about an identity.
    fn may_ask_who(&self, cx: &mut Cx<'_>) -> Result<(), Error> {
        let all = cx.limits.questions_max;
        self.is_room(cx, all)
    }

    fn is_room(&self, cx: &mut Cx<'_>, max: usize) -> Result<(), Error> {
        let (waiting, all) = (self.pending.hooked, cx.limits.questions_max);
        if waiting < max {
            return Ok(());
        }
        let message = if max < all {
            format!(
                "{waiting} questions wait for the application, the limit is {max}: the rest of {all} (questions_max) is kept for \
                 `connect`"
            )
        } else {
            format!("{waiting} questions wait for the application, the limit (questions_max) is {max}")
        };
        let retry_after_ms = RETRY_MS + cx.rng.below(RETRY_MS);
        Err(Error::new(ErrorCode::Unavailable, message).by_limit("questions_max").after_ms(retry_after_ms))
    }

    /// Asks the application, now or when it has answered enough earlier questions of the session. Only after
    /// [`may_ask`](Self::may_ask).
    pub(super) fn question(&mut self, cx: &mut Cx<'_>, hook: PendingHook, question: Question) {
        let max = cx.limits.session_questions_max;
        if let Some(session) = hook.of_command().and_then(|at| self.sessions.get(at)) {
            let extra = session.extra();
            if extra.questions >= max {
                extra.queued_questions.push_back(QueuedQuestion { hook, question });
                return self.counts.limited("session_questions_max");
            }
            extra.questions += 1;
        }
        self.put_question(cx, hook, question);
    }

    fn put_question(&mut self, cx: &mut Cx<'_>, hook: PendingHook, question: Question) -> PendingToken {
        self.pending.hooked += 1;
        let conn = match &hook {
            PendingHook::Connect(connecting) => Some(connecting.at.conn),
            _ => hook.of_command().and_then(|at| self.sessions.get(at)?.conn),
        };
        let attachment = conn.and_then(|id| self.conn(id)?.attachment.clone());
        let pending = self.pending.insert(Pending::Hook(Box::new(hook)));
        let token = HookToken { index: pending.index, life: pending.life };
        cx.wheel.add(cx.now.mono_ms + cx.limits.hook_timeout_ms, Timer::Question(token));
        cx.effects.add(Effect::Ask { token, question: Box::new(question), attachment });
        pending
    }

    /// One question of a session is answered: the next has its turn.
    fn next_question(&mut self, cx: &mut Cx<'_>, at: SessionRef) {
        let Some(extra) = self.sessions.get(at).and_then(|session| session.extra.as_mut()) else { return };
        extra.questions = extra.questions.saturating_sub(1);
        while let Some(extra) = self.sessions.get(at).and_then(|session| session.extra.as_mut())
            && extra.questions < cx.limits.session_questions_max
            && let Some(QueuedQuestion { hook, question }) = extra.queued_questions.pop_front()
        {
            extra.questions += 1;
            // Its room among all questions: more is kept for questions about identities.
            let is_who = matches!(hook, PendingHook::Refresh { .. });
            match if is_who { self.may_ask_who(cx) } else { self.may_ask(cx) } {
                Ok(()) => {
                    self.put_question(cx, hook, question);
                }
                Err(error) => {
                    if let Some(extra) = self.sessions.get(at).and_then(|session| session.extra.as_mut()) {
                        extra.questions -= 1;
                    }
                    self.decided(cx, hook, HookAnswer::Refused(error));
                }
            }
        }
    }

    /// The connection is gone: its remaining questions are dropped.
    pub(super) fn drop_queued_questions(&mut self, cx: &mut Cx<'_>, queued_questions: VecDeque<QueuedQuestion>) {
        for QueuedQuestion { hook, .. } in queued_questions {
            let error = Error::new(ErrorCode::Unavailable, "the connection ended before this was done");
            self.decided(cx, hook, HookAnswer::Refused(error));
        }
    }

    /// The time for the application's answer is over. Without effect after an answer.
    pub(crate) fn hook_timeout(&mut self, cx: &mut Cx<'_>, token: HookToken) {
        let message = format!("the application did not answer in {} ms", cx.limits.hook_timeout_ms);
        self.hook_answer(cx, token, HookAnswer::Refused(Error::new(ErrorCode::Timeout, message)));
    }

    /// The application answers. One that comes too late, or twice, finds nothing.
    pub(crate) fn hook_answer(&mut self, cx: &mut Cx<'_>, token: HookToken, answer: HookAnswer) {
        let token = PendingToken { index: token.index, life: token.life };
        if !matches!(self.pending.get(token), Some(Pending::Hook(_))) {
            return;
        }
        let Some(Pending::Hook(hook)) = self.pending.take(token) else { return };
        self.pending.hooked -= 1;
        let of_command = hook.of_command();
        self.decided(cx, *hook, answer);
        if let Some(at) = of_command {
            self.next_question(cx, at);
        }
    }

    fn decided(&mut self, cx: &mut Cx<'_>, hook: PendingHook, answer: HookAnswer) {
        match hook {
            PendingHook::Connect(connecting) => self.identified(cx, *connecting, identity(answer)),
            PendingHook::Refresh { session, reply, number } => {
                self.refreshed(cx, session, reply, number, identity(answer))
            }
            PendingHook::Subscribe { session, sub, edge, reply, want } => {
                let result = match answer {
                    HookAnswer::Allowed => Ok(()),
                    other => Err(refusal(other)),
                };
                self.authorised(cx, session, SubRef { id: sub, edge }, reply, want, result);
            }
            PendingHook::Publish { session, reply, channel, key } => {
                let result = match answer {
                    HookAnswer::Publish(publish) => Ok(*publish),
                    other => Err(refusal(other)),
                };
                self.publish_decided(cx, session, reply, &channel, key, result);
            }
            PendingHook::Rpc { session, reply } => {
                let body = match answer {
                    HookAnswer::Result(data) => result_within(data, cx.limits.page_bytes_max),
                    other => ReplyBody::Error(refusal(other)),
                };
                self.finish(cx, session, reply, body);
            }
        }
    }

    /// A call of a method. It is counted as outstanding already; calls are not ordered among each other.
    pub(super) fn rpc(&mut self, cx: &mut Cx<'_>, at: SessionRef, reply: ReplyTo, method: Box<str>, data: Bytes) {
        if !cx.hooks.rpc {
            let error = Error::new(ErrorCode::NotFound, format!("there is no method {method:?}"));
            return self.finish(cx, at, reply, ReplyBody::Error(error));
        }
        let Some(caller) = self.sessions.get(at).map(|session| session.caller()) else { return };
        match self.may_ask(cx) {
            Err(error) => self.finish(cx, at, reply, ReplyBody::Error(error)),
            Ok(()) => {
                self.question(cx, PendingHook::Rpc { session: at, reply }, Question::Rpc { caller, method, data })
            }
        }
    }

    /// Asks about a publication that the rule allows. Later commands on its channel wait. Only after
    /// [`may_ask`](Self::may_ask).
    pub(super) fn ask_publish(
        &mut self,
        cx: &mut Cx<'_>,
        at: SessionRef,
        reply: &ReplyTo,
        publish: Publish,
    ) -> Result<(), Error> {
        let Some(session) = self.sessions.get(at) else { return Ok(()) };
        let caller = session.caller();
        session.extra().lanes.block(&publish.channel);
        let (channel, key) = (publish.channel.clone(), publish.idempotency_key.clone());
        let hook = PendingHook::Publish { session: at, reply: reply.clone(), channel, key };
        self.question(cx, hook, Question::Publish { caller, publish: Box::new(publish) });
        Ok(())
    }

    fn publish_decided(
        &mut self,
        cx: &mut Cx<'_>,
        at: SessionRef,
        reply: ReplyTo,
        channel: &ChannelName,
        key: Option<Box<str>>,
        result: Result<Publish, Error>,
    ) {
        let Some(session) = self.sessions.get(at) else { return self.not_done(cx, reply) };
        session.extra().lanes.unblock(channel);
        let caller = session.entitlement();
        let result = result.and_then(|mut publish| {
            cx.rules.verdict(channel, Action::Publish, caller).map_err(|denial| denial.into_error(channel))?;
            // Without it a second attempt would stand beside the first.
            publish.idempotency_key = key.or(publish.idempotency_key);
            check_edited(&publish, channel, cx.limits.message_bytes_max)?;
            check::publication(cx, &mut publish, Author::Handler)?;
            Ok(publish)
        });
        match result {
            Ok(publish) => self.publish_allowed(cx, at, reply, publish, None),
            Err(error) => self.finish(cx, at, reply, ReplyBody::Error(error.on(channel))),
        }
        self.drain_lane(cx, at, channel);
    }
}

/// A session begins, or shows a newer token.
impl Sessions {
    pub(super) fn ask_connect(&mut self, cx: &mut Cx<'_>, mut connecting: Connecting) {
        if let Err(error) = self.may_ask_who(cx) {
            return self.connect_refused(cx, connecting, error);
        }
        let id = connecting.at;
        let token = connecting.connect.token.take();
        let token = self.put_question(cx, PendingHook::Connect(Box::new(connecting)), Question::Connect { token });
        if let Some(conn) = self.conn(id.conn) {
            conn.seat_mut(id.seat).adopting = Some(token);
        }
    }

    fn identified(&mut self, cx: &mut Cx<'_>, mut connecting: Connecting, result: Result<Identified, Error>) {
        let Some(conn) = self.conn(connecting.at.conn) else { return };
        conn.seat_mut(connecting.at.seat).adopting = None;
        let takes_subscriptions = conn.heartbeat.kind.takes_subscriptions();
        match result.and_then(|identified| proven(cx, identified)) {
            Err(error) => self.connect_refused(cx, connecting, error),
            Ok((user, proof)) => {
                let missing =
                    proof.granted.iter().filter(|_| takes_subscriptions).filter(|channel| {
                        connecting.connect.subscribe.iter().all(|options| options.channel != **channel)
                    });
                let made: Vec<SubOptions> = missing.cloned().map(SubOptions::new).collect();
                let Connect { resume, only_resume, page, ack, mut subscribe, program, .. } = connecting.connect;
                subscribe.extend(made);
                let token = None;
                connecting.connect = Connect { token, user, proof, resume, only_resume, page, ack, subscribe, program };
                connecting.identified = true;
                self.take_up(cx, connecting);
            }
        }
    }

    /// The connection stays without a session. It may try again within the time that it had from its beginning, unless
    /// its protocol cannot show a refusal: a client that is refused for ever must not stay.
    pub(super) fn connect_refused(&mut self, cx: &mut Cx<'_>, connecting: Connecting, error: Error) {
        let Connecting { at, reply, connect, waiting, .. } = connecting;
        let id = at.conn;
        let silent = reply == ReplyTo::Silent;
        let comes_back = error.code.row().retryable;
        self.reply(cx, Some(at), reply, ReplyBody::Error(error));
        cx.effects.name_last_note(id, connect.resume.map(|resume| resume.client), connect.user.as_ref());
        if silent {
            return self.close(cx, id, if comes_back { Disconnect::Overloaded } else { Disconnect::Unauthorized });
        }
        let Some(conn) = self.conn(id) else { return };
        conn.may_come_back = comes_back;
        // Its timer may have come and gone while the application was asked.
        self.connect_timeout(cx, id);
        if !comes_back && !connect.only_resume {
            self.count_bad(cx, id);
        }
        for request in waiting {
            let Some(conn) = self.conn(id) else { return };
            let is_deciding = conn.seat(at.seat).adopting.is_some();
            if is_deciding || matches!(request.command, Command::Connect(_)) {
                self.command(cx, at, request);
            } else {
                // Not counted as bad: it was sent in good faith.
                let reply = request.id.map_or(ReplyTo::Silent, ReplyTo::Id);
                let error = Error::new(ErrorCode::NotConnected, "`connect` was refused");
                self.reply(cx, Some(at), reply, ReplyBody::Error(error));
            }
        }
        self.pause_as_due(cx, id);
    }

    pub(super) fn refresh(&mut self, cx: &mut Cx<'_>, at: SessionRef, reply: ReplyTo, token: UserToken) {
        if !cx.hooks.connect {
            return self.finish(cx, at, reply, ReplyBody::Error(no_tokens()));
        }
        if let Err(error) = self.may_ask_who(cx) {
            return self.finish(cx, at, reply, ReplyBody::Error(error));
        }
        let Some(session) = self.sessions.get(at) else { return };
        let caller = session.caller();
        let refreshes = &mut session.extra().refreshes;
        refreshes.asked = refreshes.asked.wrapping_add(1);
        let number = refreshes.asked;
        self.question(cx, PendingHook::Refresh { session: at, reply, number }, Question::Refresh { caller, token });
    }

    fn refreshed(
        &mut self,
        cx: &mut Cx<'_>,
        at: SessionRef,
        reply: ReplyTo,
        number: u32,
        result: Result<Identified, Error>,
    ) {
        let Some(session) = self.sessions.get(at) else { return self.not_done(cx, reply) };
        let result = result.and_then(|identified| proven(cx, identified)).and_then(|(user, proof)| {
            if user.as_ref() == session.user() {
                return Ok(proof);
            }
            Err(Error::new(
                ErrorCode::Denied,
                "the token belongs to another user than the session; connect again with it",
            ))
        });
        let proof = match result {
            Ok(proof) => proof,
            Err(error) => return self.finish(cx, at, reply, ReplyBody::Error(error)),
        };
        // Answers may overtake each other: the token that was shown last holds.
        let applied = &mut session.extra().refreshes.applied;
        if (number.wrapping_sub(*applied) as i32) < 0 {
            let proof = session.proof();
            let body = identity_reply(cx, &proof);
            return self.finish(cx, at, reply, body);
        }
        *applied = number;
        let mut identity = session.identity().cloned().unwrap_or_default();
        let informs = identity.proof.info != proof.info;
        let may_otherwise = identity.proof.grants != proof.grants || identity.proof.claims != proof.claims;
        identity.proof = proof.clone();
        self.sessions.identify(at.index, identity);
        if informs {
            self.inform(cx, at, &proof);
        }
        let granted = proof.granted.clone();
        self.begin_expiry(cx, at);
        let body = identity_reply(cx, &proof);
        self.finish(cx, at, reply, body);
        self.grants_changed(cx, at, granted, may_otherwise);
    }

    /// Where it has entered, others see the trusted facts about it.
    fn inform(&mut self, cx: &mut Cx<'_>, at: SessionRef, proof: &Proof) {
        let Some(session) = self.sessions.get(at) else { return };
        let (client, incarnation) = (session.client, session.incarnation);
        let entered = session.subs.iter().filter(|sub| sub.entered.is_some());
        let entered: Vec<u32> = entered.map(|sub| sub.edge).collect();
        for edge in entered {
            let message = ToHome::Inform { client, incarnation, info: proof.info.clone() };
            self.tell_home(cx, &self.edges.edges[edge as usize].name, message);
        }
    }

    /// Subscriptions whose grant is gone are judged by their rule; those newly granted are made. `may_otherwise`: a
    /// rule that asks for a grant or a claim may decide otherwise now.
    fn grants_changed(&mut self, cx: &mut Cx<'_>, at: SessionRef, granted: Vec<ChannelName>, may_otherwise: bool) {
        let mut slot = 0;
        while let Some(session) = self.sessions.get(at) {
            let Some(sub) = session.subs.get(slot) else { break };
            let (by, is_answered) = (sub.by, sub.is_answered());
            let channel = &self.edges.edges[sub.edge as usize].name;
            let is_granted = session.is_granted_by_token(channel);
            let lost = by == AdmittedBy::Grant && !is_granted;
            if lost {
                session.subs[slot].by = if session.is_granted(channel) { AdmittedBy::App } else { AdmittedBy::Rule };
            } else if by != AdmittedBy::App && is_granted {
                session.subs[slot].by = AdmittedBy::Grant; // from here on its rule cannot end it
            }
            // One that is not answered yet is judged again with its answer.
            let is_doubtful = lost || may_otherwise;
            if !(is_doubtful && is_answered && self.judge_again(cx, at, slot)) {
                slot += 1;
            }
        }
        if may_otherwise {
            self.judge_presence(cx, at);
        }
        for channel in granted {
            let edge = self.edges.find(&channel);
            let Some(session) = self.sessions.get(at) else { return };
            if edge.is_none_or(|edge| session.sub_on(edge).is_none()) {
                self.subscribe(cx, at, ReplyTo::Granted, SubOptions::new(channel), None);
            }
        }
    }

    /// Starts the clock of a session's identity, of which its client has just been told how long it holds.
    pub(super) fn begin_expiry(&mut self, cx: &mut Cx<'_>, at: SessionRef) {
        let Some(identity) = self.sessions.get(at).and_then(|session| session.identity_mut()) else { return };
        identity.is_reminded = identity.proof.expires_in_ms(cx.now.wall_ms).is_some_and(|left_ms| left_ms <= REMIND_MS);
        self.watch_expiry(cx, at);
    }

    fn watch_expiry(&mut self, cx: &mut Cx<'_>, at: SessionRef) {
        /// The wall clock may jump: it is looked at no later than this.
        const LOOK_MS: u64 = 60_000;
        let Some(identity) = self.sessions.get(at).and_then(|session| session.identity_mut()) else { return };
        identity.watch = identity.watch.wrapping_add(1);
        if let Some(left_ms) = identity.proof.expires_in_ms(cx.now.wall_ms) {
            let next_ms = if identity.is_reminded { left_ms } else { left_ms.saturating_sub(REMIND_MS) };
            let wait_ms = next_ms.min(LOOK_MS);
            let timer = Timer::Expiry { session: at.index, life: at.life, watch: identity.watch };
            cx.wheel.add(cx.now.mono_ms + wait_ms, timer);
        }
    }

    /// The time of a session's identity may be up.
    pub(crate) fn expired(&mut self, cx: &mut Cx<'_>, index: u32, life: u32, watch: u32) {
        let at = SessionRef { index, life };
        let Some(session) = self.sessions.get(at) else { return };
        let (conn, seat) = (session.conn, session.seat_id());
        let Some(identity) = session.identity_mut().filter(|identity| identity.watch == watch) else { return };
        let left_ms = identity.proof.expires_in_ms(cx.now.wall_ms);
        let (Some(left_ms), Some(conn)) = (left_ms, conn) else { return };
        if left_ms == 0 {
            return self.close(cx, conn, Disconnect::Expired);
        }
        if left_ms <= REMIND_MS && !std::mem::replace(&mut identity.is_reminded, true) {
            self.reply(cx, seat, ReplyTo::Bare, ReplyBody::Expiring { expires_in_ms: left_ms });
        }
        self.watch_expiry(cx, at);
    }
}

/// The answer to a refresh.
fn identity_reply(cx: &Cx<'_>, proof: &Proof) -> ReplyBody {
    ReplyBody::Refreshed { expires_in_ms: proof.expires_in_ms(cx.now.wall_ms) }
}

/// The application's statement about a caller, checked.
fn proven(cx: &Cx<'_>, identified: Identified) -> Result<(Option<UserId>, Proof), Error> {
    let Identified { user, info, expires_ms, subscribe, grants, claims, labels } = identified;
    if let Some(expires_ms) = expires_ms.filter(|&at| at <= cx.now.wall_ms) {
        let message = format!("the token expired {} ms ago", cx.now.wall_ms - expires_ms);
        return Err(Error::new(ErrorCode::TokenExpired, message));
    }
    let (len, max) = (info.as_ref().map_or(0, Bytes::len), cx.limits.presence_bytes_max);
    if len > max {
        let message = format!("the application's info of {len} bytes exceeds the limit (presence_bytes_max) of {max}");
        return Err(Error::new(ErrorCode::TooLarge, message).by_limit("presence_bytes_max"));
    }
    let max = cx.limits.subscriptions_max;
    if subscribe.len() > max {
        let message =
            format!("the application grants {} subscriptions, the limit (subscriptions_max) is {max}", subscribe.len());
        return Err(Error::new(ErrorCode::LimitExceeded, message).by_limit("subscriptions_max"));
    }
    let (len, max) = (grants.len(), cx.limits.grants_max);
    if len > max {
        let message = format!("the identity has {len} grants, the limit (grants_max) is {max}");
        return Err(Error::new(ErrorCode::LimitExceeded, message).by_limit("grants_max"));
    }
    Ok((user, Proof { info, expires_ms, granted: subscribe, grants: grants.into(), claims, labels }))
}

fn identity(answer: HookAnswer) -> Result<Identified, Error> {
    match answer {
        HookAnswer::Identity(identified) => Ok(identified),
        other => Err(refusal(other)),
    }
}

/// The error for an answer of the wrong kind.
fn refusal(answer: HookAnswer) -> Error {
    match answer {
        HookAnswer::Refused(error) => error,
        _ => Error::new(ErrorCode::Internal, "the application answered another question than it was asked"),
    }
}

fn result_within(data: Bytes, max: usize) -> ReplyBody {
    if data.len() <= max {
        return ReplyBody::Result(data);
    }
    let message =
        format!("the application's result of {} bytes exceeds the limit (page_bytes_max) of {max}", data.len());
    ReplyBody::Error(Error::new(ErrorCode::TooLarge, message).by_limit("page_bytes_max"))
}

/// A publication that the application changed must be one that a client could have sent.
fn check_edited(publish: &Publish, channel: &ChannelName, data_max: usize) -> Result<(), Error> {
    if publish.channel != *channel {
        let message = format!("the application answered with a publication for {:?}", publish.channel);
        return Err(Error::new(ErrorCode::Internal, message));
    }
    let is_label = |event: &str| !event.is_empty() && !event.chars().any(|c| c.is_control() || c == '"' || c == '\\');
    if !publish.event.as_deref().is_none_or(is_label) {
        let message =
            "the application answered with an event that is empty or has control characters, quotes or backslashes";
        return Err(Error::new(ErrorCode::Internal, message));
    }
    for (what, len, max) in [
        ("data", publish.data.bytes().len(), data_max),
        ("event", publish.event.as_deref().map_or(0, str::len), EVENT_BYTES_MAX),
        ("idempotency_key", publish.idempotency_key.as_deref().map_or(0, str::len), IDEMPOTENCY_KEY_BYTES_MAX),
    ] {
        if len > max {
            let message = format!("{what} of {len} bytes, as the application changed it, exceeds the limit of {max}");
            return Err(Error::new(ErrorCode::TooLarge, message));
        }
    }
    Ok(())
}

pub(super) fn no_tokens() -> Error {
    Error::new(ErrorCode::Unauthorized, "this server cannot check tokens; connect without one")
}
