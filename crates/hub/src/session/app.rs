//! The application's commands: asked of the homes like a client's, with no session and no rule in between.
//!
//! A command about sessions or all channels goes to every shard, this one included, and the parts of the answer are
//! added up ([`Tally`]). On each shard a command for very many sessions is done in slices. Every command is answered
//! once: a shard that takes a part of a command gives its part of the answer, even if the session ends meanwhile.

use super::check::{self, Author};
use super::pending::{Pending, ReplyTo, Requester, Tally, TallyTo};
use super::{Cx, Sessions};
use crate::app::{AppAnswer, AppCommand, AppToken, CHANNELS_MAX, RECONNECT_SPREAD_MS_MAX, Whom};
use crate::disconnect::Disconnect;
use crate::effects::Effect;
use crate::error::{Error, ErrorCode};
use crate::hook::Ended;
use crate::ids::{ClientId, ConnId, SeatId, SessionRef, ShardId, UserId};
use crate::limits::ROOM_MESSAGE_BYTES_MAX;
use crate::listing::{LISTED_MAX, STATUS_USERS_MAX, UserStatus};
use crate::message::{
    EVENT_BYTES_MAX, IDEMPOTENCY_KEY_BYTES_MAX, Push, ReplyBody, Sender, Signal, SignalPush, SubOptions, is_event,
};
use crate::name::ChannelName;
use crate::peer::{PeerBody, PendingToken, ReplyAddress, ToHome};
use crate::reads::Reads;
use crate::rules::{Denial, SenderShown};
use crate::store::Entry;
use crate::timer::Timer;
use std::collections::VecDeque;
use std::sync::Arc;

/// The cost of one session that a command affects, in steps of a slice. (Its subscriptions count too, if they end.)
const SESSION_STEPS: usize = 16;
/// The time after which a command that was refused for too many others may be tried again.
const RETRY_AFTER_MS: u64 = 100;

/// A command for several sessions, and those that it still has to be done to.
#[derive(Debug)]
pub(super) struct Work {
    clients: VecDeque<ClientId>,
    command: Arc<AppCommand>,
    tally: PendingToken,
}

impl Sessions {
    /// The application asks something.
    pub(crate) fn app(&mut self, cx: &mut Cx<'_>, token: AppToken, command: AppCommand) {
        self.app_outstanding += 1;
        let max = cx.limits.app_outstanding_max;
        // Operations of sockets' handlers have a bound where they are made: they cannot be tried again.
        let is_bounded = matches!(command, AppCommand::Members(_));
        let result = if self.app_outstanding > max && !is_bounded {
            let message =
                format!("{max} commands of the application wait for an answer, the limit (app_outstanding_max)");
            let error = Error::new(ErrorCode::Unavailable, message).by_limit("app_outstanding_max");
            Err(error.after_ms(RETRY_AFTER_MS))
        } else {
            self.try_app(cx, token, command)
        };
        if let Err(error) = result {
            self.answer_app(cx, token, Err(error));
        }
    }

    fn try_app(&mut self, cx: &mut Cx<'_>, token: AppToken, command: AppCommand) -> Result<(), Error> {
        match command {
            AppCommand::Publish { mut publish, audience, by } => {
                let channel = publish.channel.clone();
                check_size(cx, &channel, publish.data.bytes().len())?;
                check_event(&channel, publish.event.as_deref())?;
                check_idempotency_key(&channel, publish.idempotency_key.as_deref())?;
                check::publication(cx, &mut publish, Author::App)?;
                let entry = Box::new(Entry {
                    publish: *publish,
                    from: None,
                    shown: SenderShown::Client,
                    by,
                    audience,
                    act: None,
                    ts_ms: 0,
                });
                self.ask_home(cx, &channel, Pending::App(token), |token| ToHome::Publish { token, entry })
            }
            AppCommand::Signal(mut signal) => {
                let channel = signal.channel.clone();
                check_size(cx, &channel, signal.data.len())?;
                check_event(&channel, Some(&signal.event))?;
                check::signal(cx, &mut signal, Author::App)?;
                self.app_signal(cx, token, *signal)
            }
            AppCommand::History { channel, query } => self.ask_home(cx, &channel, Pending::App(token), |token| {
                ToHome::History { token, query, reader: None, reads: Reads::All }
            }),
            AppCommand::HistoryRemove { channel } => {
                self.ask_home(cx, &channel, Pending::App(token), |token| ToHome::Purge { token })
            }
            AppCommand::Presence { channel } => {
                self.ask_home(cx, &channel, Pending::App(token), |token| ToHome::Presence { token })
            }
            AppCommand::Channels { pattern, after, limit } => {
                let limit = limit.clamp(1, CHANNELS_MAX);
                let sum = AppAnswer::Channels { channels: Vec::new(), more: false };
                self.ask_all(cx, token, AppCommand::Channels { pattern, after, limit }, sum);
                Ok(())
            }
            AppCommand::Subscribe { ref options, .. } => {
                has_rule(cx, &options.channel)?;
                self.ask_all(cx, token, command, AppAnswer::Concerned(0));
                Ok(())
            }
            AppCommand::Disconnect { whom: Whom::Label(_), ban_ms: Some(_), .. }
            | AppCommand::Unban { whom: Whom::Label(_) }
            | AppCommand::Bans { whom: Some(Whom::Label(_)), .. } => {
                Err(Error::new(ErrorCode::BadRequest, "a ban is of a user or of a client, not of a label"))
            }
            AppCommand::Disconnect { ref whom, reason, ban_ms: Some(ban_ms) } => {
                if reason.reconnect() {
                    let message = format!("a ban needs a reason after which clients do not come back, not `{reason}`");
                    return Err(Error::new(ErrorCode::BadRequest, message));
                }
                let until_ms = self.may_ban(cx, whom, ban_ms)?;
                self.ask_all(cx, token, command, AppAnswer::Banned { sessions: 0, until_ms });
                Ok(())
            }
            AppCommand::Unban { .. } => {
                self.ask_all(cx, token, command, AppAnswer::Unbanned { was_banned: false });
                Ok(())
            }
            AppCommand::Bans { whom, limit } => {
                let answer = self.list_bans(cx, whom.as_ref(), limit);
                self.answer_app(cx, token, Ok(answer));
                Ok(())
            }
            AppCommand::Reconnect { spread_ms, .. } if spread_ms > RECONNECT_SPREAD_MS_MAX => {
                let message =
                    format!("a spread of {spread_ms} ms exceeds the limit of {RECONNECT_SPREAD_MS_MAX} (one hour)");
                Err(Error::new(ErrorCode::BadRequest, message))
            }
            AppCommand::Unsubscribe { .. } | AppCommand::Disconnect { .. } | AppCommand::Reconnect { .. } => {
                self.ask_all(cx, token, command, AppAnswer::Concerned(0));
                Ok(())
            }
            AppCommand::Members(command) => self.members(cx, token, *command),
            AppCommand::Connections { among, after, limit } => {
                let limit = limit.clamp(1, LISTED_MAX);
                let sum = AppAnswer::Connections { connections: Vec::new(), next: None };
                self.ask_all(cx, token, AppCommand::Connections { among, after, limit }, sum);
                Ok(())
            }
            AppCommand::UserStatus { ref users } => {
                if users.len() > STATUS_USERS_MAX {
                    let message = format!("the status of {} users, the limit is {STATUS_USERS_MAX}", users.len());
                    return Err(Error::new(ErrorCode::TooLarge, message));
                }
                let unseen = |user: &UserId| UserStatus { user: user.clone(), clients: 0, last_seen_ms: None };
                let sum = AppAnswer::UserStatus(users.iter().map(unseen).collect());
                self.ask_all(cx, token, command, sum);
                Ok(())
            }
            AppCommand::Users { channel, after, limit } => {
                let limit = limit.clamp(1, LISTED_MAX);
                let sum = AppAnswer::Users { users: Vec::new(), next: None };
                self.ask_all(cx, token, AppCommand::Users { channel, after, limit }, sum);
                Ok(())
            }
            AppCommand::Info => {
                self.ask_all(cx, token, command, AppAnswer::Info(Box::default()));
                Ok(())
            }
        }
    }

    fn app_signal(&mut self, cx: &mut Cx<'_>, token: AppToken, signal: Signal) -> Result<(), Error> {
        let channel = signal.channel.clone();
        let pending = match signal.to {
            None => Pending::App(token),
            Some(_) => Pending::directed(Requester::App(token)),
        };
        let signal = Arc::new(SignalPush { signal, from: Sender { client: None, user: None }, ts_ms: 0 });
        self.ask_home(cx, &channel, pending, |token| ToHome::Signal { token, signal })
    }

    pub(super) fn ask_home(
        &mut self,
        cx: &mut Cx<'_>,
        channel: &ChannelName,
        pending: Pending,
        message: impl FnOnce(PendingToken) -> ToHome,
    ) -> Result<(), Error> {
        has_rule(cx, channel)?;
        let token = self.pending.insert(pending);
        self.tell_home(cx, channel, message(token));
        Ok(())
    }

    /// Asks every shard, this one like the others.
    fn ask_all(&mut self, cx: &mut Cx<'_>, token: AppToken, command: AppCommand, sum: AppAnswer) {
        let limit = match command {
            AppCommand::Channels { limit, .. }
            | AppCommand::Connections { limit, .. }
            | AppCommand::Users { limit, .. } => limit as usize,
            _ => 0,
        };
        let command = Arc::new(command);
        let left = self.edges.shards().count();
        let tally = self.pending.insert(Pending::Tally(Box::new(Tally { to: TallyTo::App(token), left, sum, limit })));
        for shard in self.edges.shards() {
            cx.out.push_back((shard, PeerBody::App { token: tally, command: command.clone() }));
        }
    }

    /// A part of an answer has come; the last one makes the whole.
    pub(crate) fn tallied(&mut self, cx: &mut Cx<'_>, token: PendingToken, part: AppAnswer) {
        let Some(Pending::Tally(tally)) = self.pending.get(token) else { return };
        tally.sum.add(part);
        tally.left -= 1;
        if tally.left > 0 {
            return;
        }
        let Some(Pending::Tally(mut tally)) = self.pending.take(token) else { return };
        tally.sum.finish(tally.limit);
        match tally.to {
            TallyTo::App(token) => self.answer_app(cx, token, Ok(tally.sum)),
            TallyTo::Shard(ReplyAddress { shard, token }) => {
                cx.out.push_back((shard, PeerBody::AppPart { token, part: tally.sum }))
            }
        }
    }

    /// Gives the application the outcome of its command.
    pub(super) fn answer_app(&mut self, cx: &mut Cx<'_>, token: AppToken, result: Result<AppAnswer, Error>) {
        self.app_outstanding -= 1;
        if let Some(limit) = result.as_ref().err().and_then(|error| error.limit) {
            self.counts.limited(limit);
        }
        let answer = result.unwrap_or_else(AppAnswer::Error);
        cx.effects.add(Effect::Answer { token, answer });
    }

    /// A shard asks for our part of a command about sessions.
    pub(crate) fn app_sessions(
        &mut self,
        cx: &mut Cx<'_>,
        from: ShardId,
        token: PendingToken,
        command: Arc<AppCommand>,
    ) {
        match &*command {
            // Before its sessions end: none begins in between.
            AppCommand::Disconnect { whom, ban_ms: Some(ban_ms), .. } => self.bans.put(cx.now, whom, *ban_ms),
            AppCommand::Unban { whom } => {
                let was_banned = self.bans.remove(cx.now, whom);
                return cx.out.push_back((from, PeerBody::AppPart { token, part: AppAnswer::Unbanned { was_banned } }));
            }
            AppCommand::Connections { among, after, limit } => {
                let to = ReplyAddress { shard: from, token };
                let part = self.connections(cx, among, *after, *limit as usize, to);
                return cx.effects.add(Effect::Describe(Box::new(part)));
            }
            AppCommand::Users { channel, after, limit } => {
                let part = self.users(cx, channel.as_ref(), after.as_ref(), *limit as usize);
                return cx.out.push_back((from, PeerBody::AppPart { token, part }));
            }
            AppCommand::UserStatus { users } => {
                let part = AppAnswer::UserStatus(users.iter().map(|user| self.status(user)).collect());
                return cx.out.push_back((from, PeerBody::AppPart { token, part }));
            }
            _ => {}
        }
        let whom = match &*command {
            AppCommand::Subscribe { whom, .. }
            | AppCommand::Unsubscribe { whom, .. }
            | AppCommand::Disconnect { whom, .. }
            | AppCommand::Reconnect { whom, .. } => Some(whom),
            _ => None,
        };
        let clients = match whom {
            Some(Whom::Client(client)) => vec![*client],
            Some(Whom::User(user)) => self.sessions.clients_of(user),
            Some(Whom::Label(label)) => self.sessions.clients_with(label),
            None => Vec::new(),
        };
        if clients.is_empty() {
            return cx.out.push_back((from, PeerBody::AppPart { token, part: AppAnswer::Concerned(0) }));
        }
        let (to, sum) = (TallyTo::Shard(ReplyAddress { shard: from, token }), AppAnswer::Concerned(0));
        let tally = self.pending.insert(Pending::Tally(Box::new(Tally { to, left: clients.len(), sum, limit: 0 })));
        self.works.push_back(Work { clients: clients.into(), command, tally });
        if self.works.len() == 1 {
            self.work(cx); // else it waits for its turn: each command of many would bring another slice for the first
        }
    }

    /// Does a slice of the application's commands about many sessions.
    pub(super) fn work(&mut self, cx: &mut Cx<'_>) {
        let Some(mut work) = self.works.pop_front() else { return };
        while !cx.slice.is_spent()
            && let Some(client) = work.clients.pop_front()
        {
            cx.slice.spend(SESSION_STEPS);
            self.do_to_client(cx, client, &work.command, work.tally);
        }
        if !work.clients.is_empty() {
            self.works.push_front(work); // commands take effect in the order in which they came
        }
    }

    /// Does a command to the session of a client, wherever that is by now.
    fn do_to_client(&mut self, cx: &mut Cx<'_>, client: ClientId, command: &AppCommand, tally: PendingToken) {
        if let Some(&index) = self.sessions.by_client.get(&client) {
            return self.do_to_session(cx, index, command, tally);
        }
        // It went to another shard lately: the command follows it in the same queue.
        match self.sessions.moved.shard_of(client) {
            Some(shard) => {
                let command = Arc::new(command.for_client(client));
                cx.out.push_back((shard, PeerBody::App { token: tally, command }));
            }
            None => self.tallied(cx, tally, AppAnswer::Concerned(0)),
        }
    }

    fn do_to_session(&mut self, cx: &mut Cx<'_>, index: u32, command: &AppCommand, tally: PendingToken) {
        let at = self.sessions.reference(index);
        match command {
            AppCommand::Subscribe { options, .. } => self.subscribe_for_app(cx, at, (**options).clone(), tally),
            AppCommand::Unsubscribe { channel, .. } => self.end_for_app(cx, at, channel, tally),
            AppCommand::Disconnect { reason, .. } => {
                let conn = self.sessions.slab[index as usize].conn;
                let concerned = match conn {
                    Some(conn) => {
                        self.close(cx, conn, *reason);
                        1
                    }
                    None if !reason.reconnect() => {
                        self.end(cx, index, Ended::Closed(*reason));
                        1
                    }
                    None => 0,
                };
                self.tallied(cx, tally, AppAnswer::Concerned(concerned));
            }
            AppCommand::Reconnect { spread_ms, .. } => {
                let conn = self.sessions.slab[index as usize].conn;
                if let Some(conn) = conn {
                    self.reconnect(cx, conn, *spread_ms);
                }
                self.tallied(cx, tally, AppAnswer::Concerned(u64::from(conn.is_some())));
            }
            _ => self.tallied(cx, tally, AppAnswer::Concerned(0)),
        }
    }

    /// Closes a connection for the application within so many ms, so that its client comes back.
    fn reconnect(&mut self, cx: &mut Cx<'_>, id: ConnId, spread_ms: u64) {
        if spread_ms == 0 {
            return self.close(cx, id, Disconnect::Reconnect);
        }
        let Some(conn) = self.conn(id) else { return };
        // One timer a connection, however often the application asks.
        if !std::mem::replace(&mut conn.reconnects, true) {
            cx.wheel.add(cx.now.mono_ms + cx.rng.below(spread_ms + 1), Timer::Reconnect(id));
        }
    }

    /// The instant for that has come.
    pub(crate) fn reconnect_now(&mut self, cx: &mut Cx<'_>, id: ConnId) {
        self.close(cx, id, Disconnect::Reconnect);
    }

    /// Subscribes a session that has a connection; the answer is counted, and the client gets a push.
    fn subscribe_for_app(&mut self, cx: &mut Cx<'_>, at: SessionRef, options: SubOptions, tally: PendingToken) {
        let conn = self.sessions.get(at).and_then(|session| session.conn);
        if conn.and_then(|id| self.conn(id)).is_none_or(|conn| !conn.heartbeat.kind.takes_subscriptions()) {
            return self.tallied(cx, tally, AppAnswer::Concerned(0));
        }
        self.subscribe(cx, at, ReplyTo::Counted(tally), options, None);
    }

    /// Ends a subscription of a session, or the presence of one that is away, for the application. It waits for no
    /// decision: an undecided subscription is refused when its answer comes, and the application's own subscriptions
    /// that wait behind it are not made.
    fn end_for_app(&mut self, cx: &mut Cx<'_>, at: SessionRef, channel: &ChannelName, tally: PendingToken) {
        let edge = self.edges.find(channel);
        let Some(session) = self.sessions.get(at) else {
            return self.tallied(cx, tally, AppAnswer::Concerned(0));
        };
        session.revoke_all(channel);
        let waiting = session.extra.as_mut().map(|extra| extra.lanes.take_counted(channel)).unwrap_or_default();
        let slot = edge.and_then(|edge| session.sub_on(edge));
        let is_away = session.conn.is_none();
        drop(session.take_kept(channel));
        let entered = session.extra.as_mut().filter(|_| is_away).is_some_and(|extra| {
            let before = extra.entered.len();
            extra.entered.retain(|entered| entered.channel != *channel);
            extra.mailbox.forget(channel, false);
            extra.entered.len() < before
        });
        let concerned = slot.is_some() || entered;
        match slot {
            Some(slot) if !session.subs[slot].is_answered() => {
                session.subs[slot].refuse_when_answered();
            }
            Some(slot) => self.end_subscription(cx, at, slot, ended_by_app(channel)),
            None if entered => self.leave_presence(cx, at, channel),
            None => {}
        }
        for reply in waiting {
            self.finish(cx, at, reply, ReplyBody::Error(ended_by_app(channel)));
        }
        self.tallied(cx, tally, AppAnswer::Concerned(u64::from(concerned)));
    }

    /// The outcome of a subscription that the application had asked for.
    pub(super) fn counted(&mut self, cx: &mut Cx<'_>, at: Option<SeatId>, tally: PendingToken, body: ReplyBody) {
        let concerned = match body {
            ReplyBody::Subscribed(subscribed) => {
                if let Some((id, wire, Some(session))) = at.and_then(|at| {
                    let conn = self.conn(at.conn)?;
                    Some((at.conn, conn.wire, conn.seat(at.seat).session))
                }) {
                    let session = &mut self.sessions.slab[session as usize];
                    session.grant(&subscribed.channel, cx.limits.subscriptions_max);
                    cx.effects.push_one(Push::Subscribed(subscribed), wire, id);
                }
                1
            }
            ReplyBody::Error(error) => u64::from(error.code == ErrorCode::AlreadySubscribed),
            _ => 0,
        };
        self.tallied(cx, tally, AppAnswer::Concerned(concerned));
    }
}

pub(super) fn ended_by_app(channel: &ChannelName) -> Error {
    Error::new(ErrorCode::Denied, "the application ended the subscription").on(channel)
}

pub(super) fn has_rule(cx: &Cx<'_>, channel: &ChannelName) -> Result<(), Error> {
    cx.rules.of(channel).map(|_| ()).ok_or_else(|| Denial::NoRule.into_error(channel))
}

pub(super) fn check_size(cx: &Cx<'_>, channel: &ChannelName, len: usize) -> Result<(), Error> {
    // The channels of protocols with rooms have their own bound.
    let (max, name) = match channel.is_reserved() {
        true => (cx.limits.room_message_bytes_max, ROOM_MESSAGE_BYTES_MAX),
        false => (cx.limits.message_bytes_max, "message_bytes_max"),
    };
    if len <= max {
        return Ok(());
    }
    let message = format!("data of {len} bytes exceeds the limit ({name}) of {max}");
    Err(Error::new(ErrorCode::TooLarge, message).by_limit(name).on(channel))
}

fn check_event(channel: &ChannelName, event: Option<&str>) -> Result<(), Error> {
    if event.is_none_or(is_event) {
        return Ok(());
    }
    let message = format!(
        "`event` must have 1 to {EVENT_BYTES_MAX} bytes without control characters, quotes and backslashes, found {:?}",
        event.unwrap_or_default().chars().take(EVENT_BYTES_MAX).collect::<String>()
    );
    Err(Error::new(ErrorCode::BadRequest, message).on(channel))
}

fn check_idempotency_key(channel: &ChannelName, key: Option<&str>) -> Result<(), Error> {
    let len = key.map_or(1, str::len);
    if (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&len) {
        return Ok(());
    }
    let message = format!("`idempotency_key` must have 1 to {IDEMPOTENCY_KEY_BYTES_MAX} bytes, found {len}");
    Err(Error::new(ErrorCode::BadRequest, message).on(channel))
}
