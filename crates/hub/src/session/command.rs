//! Commands of a session: each is judged, counted, and sent to the home of its channel.

use super::check::{self, Author};
use super::lane::Waiting;
use super::pending::{Pending, ReplyTo, Requester};
use super::question::asks;
use super::table::{SeatState, Session};
use super::{Cx, Sessions};
use crate::error::{Error, ErrorCode};
use crate::hook::Ended;
use crate::ids::{SeatId, SessionRef};
use crate::limits::ROOM_MESSAGE_BYTES_MAX;
use crate::message::{Audience, Command, PresenceEntry, Publish, ReplyBody, Request, Signal, SignalPush, SubOptions};
use crate::name::ChannelName;
use crate::peer::{RateWindow, ToHome};
use crate::reads::Reads;
use crate::rules::{Action, Denial, Entitlement, RateLimit, Rule, SenderShown, Verdict, Who};
use crate::store::{Entry, Reader};
use bytes::Bytes;
use std::sync::Arc;

/// The longest window of a rule's rate at which a connection waits. To stand still for longer would be no service: then
/// what is above the rate is refused.
const WINDOW_WAITED_MAX_MS: u64 = 60_000;

impl Sessions {
    /// A connection has sent a command.
    pub(crate) fn command(&mut self, cx: &mut Cx<'_>, at: SeatId, request: Request) {
        let id = at.conn;
        let Some(conn) = self.conn(id) else { return };
        let SeatState { session, adopting } = conn.seat(at.seat);
        if matches!(request.command, Command::Pong) {
            return self.answered_ping(cx, id);
        }
        let reply = request.id.clone().map_or(ReplyTo::Silent, ReplyTo::Id);
        if let Command::Invalid(error) = request.command {
            self.reply(cx, Some(at), reply, ReplyBody::Error(error));
            return self.count_bad(cx, id);
        }
        if let Some(connecting) = adopting.and_then(|token| self.pending.connecting(token)) {
            if connecting.waiting.len() < cx.limits.outstanding_max {
                connecting.waiting.push_back(request);
                return self.pause_as_due(cx, id);
            }
            let message = "too many commands before the answer to `connect` (outstanding_max)";
            let error = Error::new(ErrorCode::LimitExceeded, message).by_limit("outstanding_max");
            return self.reply(cx, Some(at), reply, ReplyBody::Error(error));
        }
        match (session, request.command) {
            (_, Command::Pong) => {}
            (None, Command::Connect(connect)) => self.connect(cx, at, reply, *connect),
            (_, Command::Leave) => {
                self.leave_seat(cx, at, Ended::Left);
                self.reply(cx, Some(at), reply, ReplyBody::Done);
            }
            (Some(_), Command::Connect(_)) => {
                let error = Error::new(ErrorCode::AlreadyConnected, "this connection has already sent `connect`");
                self.reply(cx, Some(at), reply, ReplyBody::Error(error));
                self.count_bad(cx, id);
            }
            (None, _) => {
                let error = Error::new(ErrorCode::NotConnected, "the first command must be `connect`");
                self.reply(cx, Some(at), reply, ReplyBody::Error(error));
                self.count_bad(cx, id);
            }
            (Some(index), command) => self.session_command(cx, self.sessions.reference(index), reply, command),
        }
    }

    /// A command of a session that is connected: its client gave it.
    pub(super) fn session_command(&mut self, cx: &mut Cx<'_>, at: SessionRef, reply: ReplyTo, command: Command) {
        if command != Command::Disconnect
            && let Err(error) = self.charge(cx, at, &command)
        {
            let seat = self.sessions.get(at).and_then(|session| session.seat_id());
            return self.reply(cx, seat, reply, ReplyBody::Error(error));
        }
        self.granted_command(cx, at, reply, command);
    }

    /// The program on the server does something in the name of a client: that takes nothing of what the client may do.
    pub(crate) fn program_command(&mut self, cx: &mut Cx<'_>, at: SeatId, request: Request) {
        let seat = self.conn(at.conn).map(|conn| conn.seat(at.seat));
        match (seat, &request.command) {
            (_, Command::Connect(_) | Command::Leave | Command::Pong | Command::Invalid(_)) => {}
            (Some(SeatState { session: Some(index), adopting: None }), _) => {
                let reply = request.id.map_or(ReplyTo::Silent, ReplyTo::Id);
                self.program_acts = true;
                self.granted_command(cx, self.sessions.reference(index), reply, request.command);
                self.program_acts = false;
                return;
            }
            _ => {}
        }
        self.command(cx, at, request);
    }

    fn granted_command(&mut self, cx: &mut Cx<'_>, at: SessionRef, reply: ReplyTo, command: Command) {
        if let Command::Subscribe { subs, many } = command {
            return self.subscribe_all(cx, at, reply, subs, many);
        }
        if command == Command::Disconnect {
            return self.leave(cx, at, reply);
        }
        self.begin(cx, at);
        match command {
            Command::Rpc { method, data } => self.rpc(cx, at, reply, method, data),
            Command::Refresh { token } => self.refresh(cx, at, reply, token),
            command => self.channel_command(cx, at, reply, command),
        }
    }

    fn subscribe_all(&mut self, cx: &mut Cx<'_>, at: SessionRef, reply: ReplyTo, subs: Vec<SubOptions>, many: bool) {
        if !many {
            for options in subs {
                self.subscribe(cx, at, reply.clone(), options, None);
            }
            return;
        }
        if subs.is_empty() {
            let conn = self.sessions.get(at).and_then(|session| session.seat_id());
            return self.reply(cx, conn, reply, ReplyBody::Many(Vec::new()));
        }
        let gather = self.pending.gather(at, reply, subs.len());
        let conn = self.sessions.get(at).and_then(|session| session.seat_id());
        // The second of a name would wait behind the first, and that for the answers of the whole list: for ever.
        let twice: Vec<bool> =
            subs.iter().enumerate().map(|(n, it)| subs[..n].iter().any(|other| other.channel == it.channel)).collect();
        for (place, options) in subs.into_iter().enumerate() {
            let reply = ReplyTo::Gathered { gather, at: place as u32 };
            if twice[place] {
                let message = format!("one `subscribe` names {:?} twice", options.channel);
                let error = Error::new(ErrorCode::AlreadySubscribed, message).on(&options.channel);
                self.reply(cx, conn, reply, ReplyBody::Error(error));
            } else {
                self.subscribe(cx, at, reply, options, None);
            }
        }
    }

    /// A command about one channel. It is counted as outstanding already.
    pub(super) fn channel_command(&mut self, cx: &mut Cx<'_>, at: SessionRef, reply: ReplyTo, command: Command) {
        let channel = match &command {
            Command::Unsubscribe { channel }
            | Command::History { channel, .. }
            | Command::Presence { channel }
            | Command::PresenceSet { channel, .. }
            | Command::PresenceClear { channel } => channel,
            Command::Publish(publish) => &publish.channel,
            Command::Signal(signal) => &signal.channel,
            Command::Room(command) => command.channel(),
            Command::Connect(_)
            | Command::Leave
            | Command::Subscribe { .. }
            | Command::Rpc { .. }
            | Command::Refresh { .. }
            | Command::Disconnect
            | Command::Pong
            | Command::Invalid(_) => return,
        };
        if self.is_subscribing(at, channel) {
            let channel = channel.clone();
            if let Some(session) = self.sessions.get(at) {
                session.extra().lanes.wait(&channel, Waiting::Command(command, reply));
            }
            return;
        }
        let is_page = matches!(command, Command::History { .. } | Command::Presence { .. });
        // An answer that goes to a request of its own needs no room in the outbox.
        let is_full = |session: &Session| session.is_full(&self.conns) && !matches!(reply, ReplyTo::Sent { .. });
        let has_room = |session: &Session| session.pages == 0 && !is_full(session);
        if is_page && let Some(session) = self.sessions.get(at).filter(|session| !has_room(session)) {
            let channel = channel.clone();
            return session.extra().lanes.wait_for_page(&channel, Waiting::Command(command, reply));
        }
        let result = match command {
            Command::Unsubscribe { channel } => return self.unsubscribe(cx, at, reply, channel),
            Command::Publish(publish) => self.publish(cx, at, &reply, *publish),
            Command::Signal(signal) => self.send_signal(cx, at, &reply, *signal),
            Command::Room(command) => self.room_command(cx, at, &reply, *command),
            Command::PresenceSet { channel, data, person } => self.presence_set(cx, at, &reply, channel, data, person),
            Command::PresenceClear { channel } => self.presence_clear(cx, at, &reply, channel),
            Command::Presence { channel } => {
                self.ask_page(cx, at, &reply, channel, Action::ReadPresence, |token| ToHome::Presence { token })
            }
            Command::History { channel, query } => {
                let client = self.sessions.get(at).map(|session| session.client);
                let reader = client.map(|client| Reader::of(client).outside_rooms());
                let reads = self.sessions.get(at).map_or(Reads::Nothing, |session| session.reads(cx, &channel));
                let message = |token| ToHome::History { token, query, reader, reads };
                self.ask_page(cx, at, &reply, channel, Action::ReadHistory, message)
            }
            Command::Connect(_)
            | Command::Leave
            | Command::Subscribe { .. }
            | Command::Rpc { .. }
            | Command::Refresh { .. }
            | Command::Disconnect
            | Command::Pong
            | Command::Invalid(_) => Ok(()),
        };
        if let Err(error) = result {
            self.finish(cx, at, reply, ReplyBody::Error(error));
        }
    }

    /// Whether the session may do this, with so many bytes of data, and has not done too much of it lately (or its
    /// connection waits for that).
    fn may(
        &mut self,
        cx: &mut Cx<'_>,
        at: SessionRef,
        channel: &ChannelName,
        action: Action,
        bytes: usize,
    ) -> Result<(), Error> {
        let Judged { rule, .. } = self.judge(cx, at, channel, action, bytes)?;
        match action {
            Action::Publish | Action::Signal => self.take_of_rate(cx, at, channel, rule),
            _ => Ok(()),
        }
    }

    /// The rule that lets the session do this, with so many bytes of data, however much of it it has done lately.
    fn judge<'r>(
        &mut self,
        cx: &Cx<'r>,
        at: SessionRef,
        channel: &ChannelName,
        action: Action,
        bytes: usize,
    ) -> Result<Judged<'r>, Error> {
        let rules = cx.rules;
        let session = self.sessions.get(at).ok_or_else(gone)?;
        let is_granted = session.is_granted(channel);
        let action = rules.of(channel).map_or(action, |rule| rule.decided_by(action));
        let as_granted = |rule: &&Rule| {
            let is_open = action.is_reading() && !rule.hides_past(action);
            let is_subscribers = is_open && rule.who(action).contains(&Who::Subscriber);
            is_granted && (action == Action::Subscribe || is_subscribers)
        };
        let verdict = match rules.verdict(channel, action, session.entitlement()) {
            Ok(verdict) => verdict,
            Err(denial) => match rules.of(channel).filter(as_granted) {
                Some(rule) => Verdict::Allowed(rule),
                None => return Err(denial.into_error(channel)),
            },
        };
        let rule = verdict.rule();
        // A caller that the application must be asked about is let in by its answer alone. A live subscription is the
        // proof of it.
        let needs_subscription = match (verdict, action) {
            (Verdict::IfSubscribed(_), _) | (Verdict::AskHook(_), Action::Subscribe) => true,
            (Verdict::AskHook(_), Action::Publish) => false,
            // Nobody is asked about signals, presence and reading.
            (Verdict::AskHook(_), Action::Signal | Action::Enter | Action::ReadHistory | Action::ReadPresence) => {
                let denial = Denial::NoHook { rule: rule.pattern.as_str().into(), action };
                return Err(denial.into_error(channel));
            }
            (Verdict::Allowed(_), _) => {
                asks(&cx.hooks.subscribe, channel)
                    && (action == Action::Subscribe || only_as_subscriber(rule, channel, action, session))
            }
        };
        if needs_subscription && !is_granted {
            let edge = self.edges.find(channel);
            if edge.is_none_or(|edge| session.sub_on(edge).is_none()) {
                let message = format!("the application decides who may subscribe to {channel:?}: subscribe first");
                let error = Error::new(ErrorCode::NotSubscribed, message).on(channel);
                return Err(error.by_rule(rule.pattern.as_str()));
            }
        }
        if let Some(max) = rule.max_size.filter(|max| bytes > *max) {
            let pattern = rule.pattern.as_str();
            let message =
                format!("`data` of {bytes} bytes exceeds the limit of the rule {pattern:?} (max_size) of {max}");
            return Err(Error::new(ErrorCode::TooLarge, message).on(channel).by_rule(pattern).by_option("max_size"));
        }
        let is_asked = matches!(verdict, Verdict::AskHook(_)) && action == Action::Publish;
        Ok(Judged { rule, is_asked })
    }

    /// One more publication or signal of the session by this rule: refused above its rate, unless the connection waits
    /// for that.
    fn take_of_rate(
        &mut self,
        cx: &mut Cx<'_>,
        at: SessionRef,
        channel: &ChannelName,
        rule: &Rule,
    ) -> Result<(), Error> {
        let Some(RateLimit { count_max, window_ms }) = rule.rate else { return Ok(()) };
        let (now_ms, pattern) = (cx.now.mono_ms, rule.pattern.as_str());
        let waits = self.waits(at, true).filter(|_| window_ms <= WINDOW_WAITED_MAX_MS);
        let rates = &mut self.sessions.get(at).ok_or_else(gone)?.extra().rates;
        let place = rates.iter().position(|window| *window.pattern == *pattern).unwrap_or_else(|| {
            rates.push(RateWindow { pattern: pattern.into(), start_ms: now_ms, count: 0 });
            rates.len() - 1
        });
        let window = &mut rates[place];
        if now_ms >= window.start_ms + window_ms {
            // What was done above the rate counts in the windows behind it.
            let windows = u32::try_from((now_ms - window.start_ms) / window_ms).unwrap_or(u32::MAX);
            window.count = window.count.saturating_sub(count_max.saturating_mul(windows));
            window.start_ms = now_ms;
        }
        let is_over = window.count >= count_max;
        let wait_ms = window.start_ms + window_ms - now_ms;
        let refusal = || {
            let message = format!("the rule {pattern:?} allows {count_max} in {window_ms} ms");
            let error = Error::new(ErrorCode::RateLimited, message).on(channel).by_rule(pattern);
            error.by_option("rate").after_ms(wait_ms)
        };
        if is_over && waits.is_none() {
            return Err(refusal());
        }
        window.count = window.count.saturating_add(1);
        if let Some(id) = waits.filter(|_| is_over) {
            self.throttle(cx, id, ("rate", wait_ms), refusal);
        }
        Ok(())
    }

    fn publish(&mut self, cx: &mut Cx<'_>, at: SessionRef, reply: &ReplyTo, mut publish: Publish) -> Result<(), Error> {
        let len = publish.data.bytes().len();
        let max = cx.limits.message_bytes_max;
        if len > max {
            let message = format!("`data` of {len} bytes exceeds the limit (message_bytes_max) of {max}");
            return Err(Error::new(ErrorCode::TooLarge, message).by_limit("message_bytes_max").on(&publish.channel));
        }
        let Judged { rule, is_asked } = self.judge(cx, at, &publish.channel, Action::Publish, len)?;
        let is_asked = is_asked || asks(&cx.hooks.publish, &publish.channel);
        if is_asked {
            // Before its rate: a publication that is refused so takes nothing of it.
            self.may_ask(cx).map_err(|error| error.on(&publish.channel))?;
        }
        self.take_of_rate(cx, at, &publish.channel, rule)?;
        check::publication(cx, &mut publish, Author::Client { is_last: !is_asked })?;
        if is_asked {
            return self.ask_publish(cx, at, reply, publish);
        }
        self.publish_allowed(cx, at, reply.clone(), publish, None);
        Ok(())
    }

    /// A publication for an audience. The application is not asked about it.
    pub(super) fn publish_to(
        &mut self,
        cx: &mut Cx<'_>,
        at: SessionRef,
        reply: &ReplyTo,
        mut publish: Publish,
        audience: Box<Audience>,
    ) -> Result<(), Error> {
        let (len, max) = (publish.data.bytes().len(), cx.limits.room_message_bytes_max);
        if len > max {
            let message = format!("`data` of {len} bytes exceeds the limit (socketio.max_payload) of {max}");
            return Err(Error::new(ErrorCode::TooLarge, message).by_limit(ROOM_MESSAGE_BYTES_MAX).on(&publish.channel));
        }
        let caller = self.sessions.get(at).map_or(Entitlement::default(), |session| session.entitlement());
        // Before its rate: a publication that is refused takes nothing of it.
        if let Ok(Verdict::AskHook(_)) = cx.rules.verdict(&publish.channel, Action::Publish, caller) {
            let message = "the application is not asked about publications to rooms";
            return Err(Error::new(ErrorCode::Denied, message).on(&publish.channel));
        }
        self.may(cx, at, &publish.channel, Action::Publish, len)?;
        check::publication(cx, &mut publish, Author::Client { is_last: true })?;
        self.publish_allowed(cx, at, reply.clone(), publish, Some(audience));
        Ok(())
    }

    /// The publication goes to the home.
    pub(super) fn publish_allowed(
        &mut self,
        cx: &mut Cx<'_>,
        at: SessionRef,
        reply: ReplyTo,
        publish: Publish,
        audience: Option<Box<Audience>>,
    ) {
        let from = self.sessions.get(at).map(|session| session.sender());
        let token = self.channel_ask(at, reply);
        let channel = publish.channel.clone();
        let shown = cx.rules.of(&channel).map_or(SenderShown::Client, |rule| rule.from);
        let entry = Box::new(Entry { publish, from, shown, by: None, audience, act: None, ts_ms: 0 });
        self.tell_home_by(cx, at, &channel, ToHome::Publish { token, entry });
    }

    fn send_signal(
        &mut self,
        cx: &mut Cx<'_>,
        at: SessionRef,
        reply: &ReplyTo,
        mut signal: Signal,
    ) -> Result<(), Error> {
        let len = signal.data.len();
        let max = cx.limits.message_bytes_max;
        if len > max {
            let message = format!("`data` of {len} bytes exceeds the limit (message_bytes_max) of {max}");
            return Err(Error::new(ErrorCode::TooLarge, message).by_limit("message_bytes_max").on(&signal.channel));
        }
        self.may(cx, at, &signal.channel, Action::Signal, len)?;
        check::signal(cx, &mut signal, Author::Client { is_last: true })?;
        let Some(session) = self.sessions.get(at) else { return Ok(()) };
        let from = session.sender();
        let pending = match signal.to {
            None => Pending::Command { session: at, reply: reply.clone() },
            Some(_) => Pending::directed(Requester::Session { session: at, reply: reply.clone() }),
        };
        let token = self.pending.insert(pending);
        let channel = signal.channel.clone();
        let signal = Arc::new(SignalPush { signal, from, ts_ms: 0 });
        self.tell_home_by(cx, at, &channel, ToHome::Signal { token, signal });
        Ok(())
    }

    fn presence_set(
        &mut self,
        cx: &mut Cx<'_>,
        at: SessionRef,
        reply: &ReplyTo,
        channel: ChannelName,
        data: Bytes,
        person: Option<Box<str>>,
    ) -> Result<(), Error> {
        let max = cx.limits.presence_bytes_max;
        if data.len() > max {
            let message = format!("`data` of {} bytes exceeds the limit (presence_bytes_max) of {max}", data.len());
            return Err(Error::new(ErrorCode::TooLarge, message).by_limit("presence_bytes_max").on(&channel));
        }
        self.may(cx, at, &channel, Action::Enter, 0)?;
        let data = check::presence(cx, &channel, data)?;
        let edge = self.edges.find(&channel);
        let Some(session) = self.sessions.get(at) else { return Ok(()) };
        let Some(slot) = edge.and_then(|edge| session.sub_on(edge)) else {
            let message = format!("entering {channel:?} needs a live subscription to it");
            return Err(Error::new(ErrorCode::NotSubscribed, message).on(&channel));
        };
        let entry = Arc::new(session.presence_entry(data, person));
        session.subs[slot].entered = Some(entry.clone());
        let (sub, incarnation) = (session.subs[slot].id, session.incarnation);
        let token =
            self.pending.insert(Pending::Enter { session: at, sub, reply: reply.clone(), entry: entry.clone() });
        self.tell_home(cx, &channel, ToHome::Enter { token: Some(token), incarnation, entry });
        Ok(())
    }

    /// The home does not take an entry: the session does not stand there, unless it has entered anew since.
    pub(super) fn enter_refused(&mut self, at: SessionRef, sub: u32, entry: &Arc<PresenceEntry>) {
        let sub = self.sessions.get(at).and_then(|session| session.subs.iter_mut().find(|it| it.id == sub));
        if let Some(sub) = sub.filter(|sub| sub.entered.as_ref().is_some_and(|entered| Arc::ptr_eq(entered, entry))) {
            sub.entered = None;
        }
    }

    fn presence_clear(
        &mut self,
        cx: &mut Cx<'_>,
        at: SessionRef,
        reply: &ReplyTo,
        channel: ChannelName,
    ) -> Result<(), Error> {
        let edge = self.edges.find(&channel);
        let Some(session) = self.sessions.get(at) else { return Ok(()) };
        let (client, incarnation) = (session.client, session.incarnation);
        if let Some(slot) = edge.and_then(|edge| session.sub_on(edge)) {
            session.subs[slot].entered = None;
        }
        let token = self.channel_ask(at, reply.clone());
        self.tell_home(cx, &channel, ToHome::Leave { token: Some(token), incarnation, client });
        Ok(())
    }

    /// A command that reads, and whose answer may be a page. The connection is held until then.
    fn ask_page(
        &mut self,
        cx: &mut Cx<'_>,
        at: SessionRef,
        reply: &ReplyTo,
        channel: ChannelName,
        action: Action,
        message: impl FnOnce(crate::peer::PendingToken) -> ToHome,
    ) -> Result<(), Error> {
        self.may(cx, at, &channel, action, 0)?;
        if action == Action::ReadHistory {
            self.has_joined(cx, at, &channel)?;
        }
        if let Some(session) = self.sessions.get(at) {
            session.pages += 1;
            self.pause_session(cx, at);
        }
        let token = self.channel_ask(at, reply.clone());
        self.tell_home_by(cx, at, &channel, message(token));
        Ok(())
    }
}

fn gone() -> Error {
    Error::new(ErrorCode::Unavailable, "the session is gone")
}

/// What a session may do.
struct Judged<'r> {
    /// The rule that lets it.
    rule: &'r Rule,
    /// It is a publication that the rule leaves to the application.
    is_asked: bool,
}

/// True where a rule lets this session in only because it lets it subscribe.
fn only_as_subscriber(rule: &Rule, channel: &ChannelName, action: Action, session: &Session) -> bool {
    action != Action::Subscribe && !rule.allows_itself(channel, action, &session.entitlement())
}
