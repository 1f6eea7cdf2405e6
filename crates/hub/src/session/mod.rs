//! Sessions: their subscriptions, the application's part in them, and the members that they are on the edges of
//! channels.
//!
//! In: inputs of connections, and messages of homes. Out: effects for connections, and messages to homes. One module a
//! concern: `connect` (a session begins, moves, ends), `command` (its commands), `subscribe` (a subscription's life),
//! `deliver` (messages of homes, fan-out), `pull` (members that are behind catch up), `app` (the application's
//! commands), `question` (questions to it), `forward` (commands that come by other requests), `many` (work in slices),
//! `rewire` (a connection goes on over another wire), `inspect` (views for an operator), `listing` (pages of
//! connections and users), `away` (sessions without a connection), `bans` (who may not connect), `seen` (when users
//! were connected last), `users` (what one user may have and do), `throttle` (connections that do too much are not
//! read), over the tables `table`, `labelled`, `pending`, `lane`, `mailbox`, `moved`. The members of a channel and the
//! fan-out to them are in `edge`, which knows no session.

mod acts;
mod anew;
mod app;
mod away;
mod bans;
mod check;
mod command;
mod connect;
mod deliver;
mod forward;
mod inspect;
mod joined;
mod kept;
mod labelled;
mod lane;
mod listing;
mod mailbox;
mod many;
mod moved;
mod pending;
mod pull;
mod question;
mod rewire;
mod rooms;
mod seen;
mod sends;
mod settle;
mod subscribe;
mod table;
mod throttle;
mod unheard;
mod users;

use crate::attachment::Attachment;
use crate::disconnect::Disconnect;
use crate::edge::Edges;
use crate::edge::batch::Reminders;
use crate::effects::{Effect, Effects};
use crate::error::{Error, ErrorCode};
use crate::hook::{Ended, Hooks};
use crate::ids::{ClientId, ConnId, Position, SeatId, SessionRef, ShardId, UserId, WireId};
use crate::limits::Limits;
use crate::members::AskToken;
use crate::message::{Push, Reply, ReplyBody};
use crate::name::ChannelName;
use crate::peer::{Maker, PeerBody, PendingToken, ToHome};
use crate::rng::{Keyed, Rng};
use crate::rules::Rules;
use crate::slice::Slice;
use crate::time::Now;
use crate::timer::Timer;
use crate::watch::{Counts, Held, Note, Noted};
use crate::wheel::Wheel;
use app::Work;
use bans::Bans;
use pending::{PendingTable, ReplyTo};
use seen::Seen;
use std::collections::{HashMap, VecDeque};
use table::{BadRequests, Conn, Heartbeat, SeatState, SessionTable};
use throttle::{Left, Throttle};
use users::UserHomes;

pub use throttle::OverRate;

/// The parts of the shard that the sessions use.
pub(crate) struct Cx<'a> {
    pub(crate) now: Now,
    /// The work for many that this input may still do.
    pub(crate) slice: &'a mut Slice,
    pub(crate) me: ShardId,
    pub(crate) rules: &'a Rules,
    pub(crate) hooks: &'a Hooks,
    pub(crate) limits: &'a Limits,
    pub(crate) rng: &'a mut Rng,
    pub(crate) wheel: &'a mut Wheel<Timer>,
    /// Messages to shards, this one included.
    pub(crate) out: &'a mut VecDeque<(ShardId, PeerBody)>,
    pub(crate) effects: &'a mut Effects,
}

/// The kind of a connection's heartbeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HeartbeatKind {
    /// A ping, and the client must give a sign of life until the next one. Bytes on this connection are one, and
    /// commands that come for its session by a request of their own ([`Input::Forward`](crate::Input)), on any shard.
    #[default]
    Asks,
    /// A ping, with the client's positions ([`Push::Mark`]) where it has live subscriptions. The client cannot answer,
    /// so its silence means nothing. It keeps the positions of the channels that it has asked for and of no others, so
    /// the application makes no subscriptions on this connection. Channels that it grants may be asked for.
    Marks,
    /// Nothing. The client asks by itself, and is closed after two intervals in which it has not.
    Polls,
    /// A ping, an interval after the last answered one. The client must give a sign of life within
    /// [`Limits::pong_timeout_ms`].
    Waits,
    /// The same for a client without a socket, whose requests fetch what is for it and bring what it says. The shell
    /// sees these requests also while the client's commands wait at a rate. So such a wait is no excuse for silence.
    /// With another wire ([`Input::Rewired`](crate::Input)) the connection has a socket, and this is `Waits`.
    WaitsDetached,
}

impl HeartbeatKind {
    /// Whether the application may subscribe the client to channels.
    fn takes_subscriptions(self) -> bool {
        self != HeartbeatKind::Marks
    }
}

/// The shell's facts about a new connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Its wire format.
    pub wire: WireId,
    /// How long its session may outlive it, in ms; 0 ends both together.
    pub grace_ms: u32,
    /// Time between heartbeats, in ms; 0: there are none.
    pub heartbeat_ms: u32,
    /// The kind of its heartbeats.
    pub heartbeat: HeartbeatKind,
    /// Time for the first valid `connect`, in ms; `None` is [`Limits::connect_timeout_ms`].
    pub connect_timeout_ms: Option<u64>,
    /// What happens to commands above a rate.
    pub over_rate: OverRate,
    /// For the questions and notices about it.
    pub attachment: Option<Attachment>,
}

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Sessions {
    conns: Vec<Conn>,
    sessions: SessionTable,
    edges: Edges,
    pending: PendingTable,
    /// Sessions that have room for the next page.
    pulls: VecDeque<SessionRef>,
    /// Batches to look at.
    reminders: Reminders,
    /// Commands of the application about many sessions that are done for some of them.
    works: VecDeque<Work>,
    bans: Bans,
    user_homes: UserHomes,
    /// When users lost their connections.
    seen: Seen,
    judging: Option<many::Judging>,
    draining: Option<many::Draining>,
    /// Homes are being notified how many subscribe.
    recounting: bool,
    /// Sessions that went to other shards are being forgotten, as their time is over.
    forgetting: bool,
    /// Commands of the application without an answer.
    app_outstanding: usize,
    /// Commands for sessions that this shard took in and has not answered.
    forwards: usize,
    /// Questions to members whose answers are still awaited.
    asks: HashMap<AskToken, PendingToken, Keyed>,
    /// Numbers them.
    next_ask: u64,
    /// Signals that were shed because a fan-out had too much waiting.
    pub(crate) signals_shed: u64,
    /// Sessions that ended before their grace was over, as too much was kept for such sessions.
    pub(crate) away_shed: u64,
    /// Connections whose outbox is over its mark.
    full: usize,
    /// Connections that are not read, as they have done too much, and those that were a moment ago.
    throttles: HashMap<ConnId, Throttle, Keyed>,
    /// What the sessions did lately that have left these connections. Few have any.
    left: HashMap<ConnId, Left, Keyed>,
    /// Changes with the limits and the rules.
    limits_number: u32,
    /// The command at hand is the program's, in the name of a client.
    program_acts: bool,
    pub(crate) counts: Counts,
}

impl Sessions {
    pub(crate) fn new(shards: usize, hash: Keyed, limits: &Limits) -> Self {
        Sessions {
            conns: Vec::new(),
            sessions: SessionTable::new(hash, mailbox::MailboxMax::of(limits)),
            edges: Edges::new(shards, hash),
            pending: PendingTable::default(),
            pulls: VecDeque::new(),
            reminders: Reminders::default(),
            works: VecDeque::new(),
            bans: Bans::new(hash),
            user_homes: UserHomes::new(hash),
            seen: Seen::new(hash),
            judging: None,
            draining: None,
            recounting: false,
            forgetting: false,
            app_outstanding: 0,
            forwards: 0,
            asks: HashMap::with_hasher(hash),
            next_ask: 0,
            signals_shed: 0,
            away_shed: 0,
            full: 0,
            throttles: HashMap::with_hasher(hash),
            left: HashMap::with_hasher(hash),
            limits_number: 0,
            program_acts: false,
            counts: Counts::default(),
        }
    }

    pub(crate) fn session_count(&self) -> usize {
        self.sessions.slab.len()
    }

    pub(crate) fn connected_count(&self) -> usize {
        self.sessions.connected
    }

    pub(crate) fn subscription_count(&self) -> usize {
        self.sessions.subscriptions
    }

    /// Connections that pull, as they read too slowly.
    pub(crate) fn full_count(&self) -> usize {
        self.full
    }

    /// Called about once a second.
    pub(crate) fn tidy(&mut self, cx: &mut Cx<'_>) {
        self.tidy_users(cx);
        self.forgetting = self.sessions.moved.tidy(cx.now.mono_ms, cx.slice);
    }

    pub(crate) fn fanout_waiting_bytes(&self) -> usize {
        self.edges.waiting_bytes()
    }

    /// Adds what is held here.
    pub(crate) fn held(&self, held: &mut Held) {
        held.pending += self.pending.len() + self.app_outstanding + self.forwards + self.asks.len();
        held.queued += self.pulls.len() + self.works.len() + self.edges.recounts.len() + self.throttles.len();
        let early = |extra: &table::Extra| extra.sends.as_ref().map_or(0, |sends| sends.early_count());
        let sends_bytes = |extra: &table::Extra| extra.sends.as_ref().map_or(0, |sends| sends.bytes());
        held.moved += self.sessions.moved.len();
        held.users += self.user_homes.len();
        held.room_places += self.edges.edges.iter().map(|(_, edge)| edge.room_places()).sum::<usize>();
        for extra in self.sessions.slab.iter().filter_map(|(_, session)| session.extra.as_ref()) {
            held.queued += early(extra);
            held.sends_bytes += sends_bytes(extra);
            held.sends_bytes_most = held.sends_bytes_most.max(sends_bytes(extra));
            held.mailbox_signals = held.mailbox_signals.max(extra.mailbox.len());
            held.mailbox_bytes = held.mailbox_bytes.max(extra.mailbox.bytes());
        }
    }

    pub(crate) fn sends_bytes(&self) -> usize {
        self.sessions.sends_bytes
    }

    pub(crate) fn edge_count(&self) -> usize {
        self.edges.edges.len()
    }

    pub(crate) fn opened(&mut self, cx: &mut Cx<'_>, conn: ConnId, opened: Opened) {
        let index = conn.index as usize;
        while self.conns.len() <= index {
            self.conns.push(Conn::unused());
        }
        let Opened { wire, grace_ms, heartbeat_ms, heartbeat: kind, connect_timeout_ms, over_rate, attachment } =
            opened;
        let connect_timeout_ms = connect_timeout_ms.unwrap_or(cx.limits.connect_timeout_ms);
        let heartbeat = Heartbeat { every_ms: heartbeat_ms, kind, pinged: false, late: false, heard: false };
        let generation = conn.generation;
        self.conns[index] = Conn {
            generation,
            open: true,
            wire,
            first: SeatState::default(),
            others: None,
            has_entered: false,
            grace_ms,
            heartbeat,
            connect_by_ms: cx.now.mono_ms + connect_timeout_ms,
            may_come_back: false,
            paused: false,
            reconnects: false,
            full: false,
            over_rate,
            throttled: false,
            bad_requests: BadRequests::default(),
            pongs_owed: 0,
            attachment,
        };
        cx.wheel.add(cx.now.mono_ms + connect_timeout_ms, Timer::Connect(conn));
        if heartbeat_ms > 0 {
            cx.wheel.add(cx.now.mono_ms + u64::from(heartbeat_ms), Timer::Heartbeat(conn));
        }
        self.came_late(cx, conn, wire);
    }

    fn conn(&mut self, conn: ConnId) -> Option<&mut Conn> {
        self.conns.get_mut(conn.index as usize).filter(|c| c.open && c.generation == conn.generation)
    }

    pub(crate) fn client_of(&self, id: ConnId) -> Option<(ClientId, Option<&UserId>)> {
        let conn = self.conns.get(id.index as usize).filter(|conn| conn.open && conn.generation == id.generation)?;
        let session = &self.sessions.slab[conn.sessions().next()? as usize];
        Some((session.client, session.user()))
    }

    /// The peer gave a sign of life: any byte is one.
    pub(crate) fn alive(&mut self, conn: ConnId) {
        if let Some(conn) = self.conn(conn) {
            conn.heartbeat.heard = true;
        }
    }

    /// One more interval is over: the peer is asked for a sign of life, or closed where it has left the last one
    /// unanswered.
    ///
    /// The server pings in every interval, even if the client sent something: a client that only sends would take a
    /// silent server for dead. If a backlog waits for the client, no ping is added: reading the backlog shows that the
    /// client is alive.
    pub(crate) fn heartbeat(&mut self, cx: &mut Cx<'_>, id: ConnId) {
        let Some(conn) = self.conn(id) else { return };
        let (wire, full, every_ms) = (conn.wire, conn.full, u64::from(conn.heartbeat.every_ms));
        let (kind, session) = (conn.heartbeat.kind, conn.first.session);
        if matches!(kind, HeartbeatKind::Waits | HeartbeatKind::WaitsDetached) {
            return self.heartbeat_with_timeout(cx, id);
        }
        // While we do not read, the deadline stands still. But a peer that takes nothing of a full outbox is not
        // waiting for us.
        let heard = std::mem::take(&mut conn.heartbeat.heard) || (conn.paused && !full);
        // A ping was sent before this interval; or a client that polls was silent in the one before.
        let was_due = match kind {
            HeartbeatKind::Asks => std::mem::replace(&mut conn.heartbeat.pinged, true),
            HeartbeatKind::Polls => std::mem::replace(&mut conn.heartbeat.pinged, !heard),
            HeartbeatKind::Marks | HeartbeatKind::Waits | HeartbeatKind::WaitsDetached => false,
        };
        if was_due && !heard {
            return self.close(cx, id, Disconnect::HeartbeatTimeout);
        }
        if !full && kind != HeartbeatKind::Polls {
            let positions = match (kind, session) {
                (HeartbeatKind::Marks, Some(session)) => self.positions(session),
                _ => Box::default(),
            };
            let push = if positions.is_empty() { Push::Ping } else { Push::Mark { positions } };
            cx.effects.push_one(push, wire, id);
        }
        cx.wheel.add(cx.now.mono_ms + every_ms, Timer::Heartbeat(id));
    }

    /// The same for [`HeartbeatKind::Waits`] and `WaitsDetached`: the client is looked at an interval after the ping
    /// and when its time is over, whichever comes first, and where it has time left once more. One ping waits at most,
    /// so it is sent into a backlog too.
    fn heartbeat_with_timeout(&mut self, cx: &mut Cx<'_>, id: ConnId) {
        let answer_ms = cx.limits.pong_timeout_ms;
        let Some(conn) = self.conn(id) else { return };
        let wire = conn.wire;
        let beat = &mut conn.heartbeat;
        let every_ms = u64::from(beat.every_ms);
        let stands_still = conn.paused && !conn.full && !(conn.throttled && beat.kind == HeartbeatKind::WaitsDetached);
        let heard = std::mem::take(&mut beat.heard) || stands_still;
        let next_ms = match (beat.pinged, heard) {
            (true, false) if beat.late || answer_ms <= every_ms => {
                return self.close(cx, id, Disconnect::HeartbeatTimeout);
            }
            (true, false) => {
                beat.late = true;
                answer_ms - every_ms
            }
            (true, true) if answer_ms < every_ms => {
                beat.pinged = false;
                every_ms - answer_ms
            }
            _ => {
                (beat.pinged, beat.late) = (true, false);
                cx.effects.push_one(Push::Ping, wire, id);
                self.note_places(id);
                every_ms.min(answer_ms)
            }
        };
        cx.wheel.add(cx.now.mono_ms + next_ms, Timer::Heartbeat(id));
    }

    /// The positions that a session has reached in its live channels.
    fn positions(&mut self, index: u32) -> Box<[(ChannelName, Position)]> {
        let session = &self.sessions.slab[index as usize];
        let wire = session.wire;
        let live = session.subs.iter().filter_map(|sub| sub.live().map(|membership| (sub, membership.place)));
        live.map(|(sub, place)| {
            let edge = &mut self.edges.edges[sub.edge as usize];
            let position = edge.reached(sub.variant(wire), place);
            (edge.name.clone(), position)
        })
        .collect()
    }

    /// The server ends a connection.
    pub(crate) fn close(&mut self, cx: &mut Cx<'_>, id: ConnId, reason: Disconnect) {
        if self.conn(id).is_some() {
            cx.effects.add(Effect::Close { conn: id, reason });
            self.note(cx, Some(id), Noted::Closed(reason));
            // No ticket outlives the token: nobody could take up the session of one that expired.
            let finally = !reason.reconnect() || reason == Disconnect::Expired;
            let why = if reason == Disconnect::Left { Ended::Left } else { Ended::Closed(reason) };
            let why = finally.then_some(why);
            self.over(cx, id, why);
        }
    }

    /// Signals that were dropped because a client was slow or away.
    pub(crate) fn signals_dropped(&self) -> u64 {
        self.sessions.signals_dropped
    }

    fn count_bad(&mut self, cx: &mut Cx<'_>, id: ConnId) {
        let minute = (cx.now.mono_ms / 60_000) as u32;
        let Some(conn) = self.conn(id) else { return };
        if conn.bad_requests.minute != minute {
            conn.bad_requests = BadRequests { count: 0, minute };
        }
        conn.bad_requests.count += 1;
        if conn.bad_requests.count > cx.limits.bad_requests_per_minute_max {
            self.counts.limited("bad_requests_per_minute_max");
            self.close(cx, id, Disconnect::Abuse);
        }
    }

    /// Notes an event for the log, with the connection and its session.
    fn note(&mut self, cx: &mut Cx<'_>, conn: Option<ConnId>, what: Noted) {
        let session = conn.and_then(|id| self.conn(id)?.sessions().next());
        let session = session.map(|index| &self.sessions.slab[index as usize]);
        cx.effects.note(match session {
            Some(session) => Note { conn, ..session.note(what) },
            None => Note { conn, client: None, user: None, what },
        });
    }

    /// Counts a refusal that a client gets, and writes decisions of the rules to the log.
    fn note_refusal(&mut self, cx: &mut Cx<'_>, conn: ConnId, error: &Error) {
        if self.counts.refused(error, cx.rules) {
            self.note(cx, Some(conn), Noted::Denied(error.clone()));
        }
    }

    fn note_refusals(&mut self, cx: &mut Cx<'_>, conn: ConnId, body: &ReplyBody) {
        let bodies = if let ReplyBody::Many(bodies) = body { &bodies[..] } else { std::slice::from_ref(body) };
        for body in bodies {
            if let ReplyBody::Error(error) = body {
                self.note_refusal(cx, conn, error);
            }
        }
    }

    /// Says something to the home of a channel.
    fn tell_home(&self, cx: &mut Cx<'_>, channel: &ChannelName, message: ToHome) {
        cx.out.push_back((self.edges.home_of(channel), PeerBody::Home(channel.clone(), message)));
    }

    /// The same for a command of this session's client, which may make the channel known.
    fn tell_home_by(&self, cx: &mut Cx<'_>, at: SessionRef, channel: &ChannelName, message: ToHome) {
        let maker = Maker { session: at, waits_ms: self.name_refused_ms(cx, at) };
        cx.out.push_back((self.edges.home_of(channel), PeerBody::HomeBy(channel.clone(), message, maker)));
    }

    /// Answers a command of a session, in the form that it asked for and where it came from.
    fn reply(&mut self, cx: &mut Cx<'_>, at: Option<SeatId>, reply: ReplyTo, body: ReplyBody) {
        let conn = at.map(|at| at.conn);
        if let ReplyTo::Gathered { gather, at: place } = reply {
            if let Some(whole) = self.pending.gathered(gather, place, body) {
                let session = whole.session;
                self.reply(cx, at, whole.reply.clone(), whole.into_body());
                self.release_gathered(cx, session, gather);
            }
            return;
        }
        if let ReplyTo::Counted(tally) = reply {
            return self.counted(cx, at, tally, body);
        }
        if let Some(conn) = conn {
            self.note_refusals(cx, conn, &body);
        }
        if let ReplyTo::Sent { token, at } = reply {
            return self.sent_part(cx, token, at, body);
        }
        let Some(SeatId { conn, seat }) = at else { return };
        let is_error = matches!(body, ReplyBody::Error(_));
        let id = match reply {
            ReplyTo::Silent if !is_error => return,
            ReplyTo::Granted if is_answer_to_nobody(&body) => return,
            ReplyTo::Silent
            | ReplyTo::Bare
            | ReplyTo::Granted
            | ReplyTo::Gathered { .. }
            | ReplyTo::Counted(_)
            | ReplyTo::Sent { .. } => None,
            ReplyTo::Id(id) => Some(id),
        };
        cx.effects.add(Effect::Reply { conn, seat, reply: Reply { id, body } });
    }

    /// A command of this session has been answered: one place is free.
    fn finish(&mut self, cx: &mut Cx<'_>, at: SessionRef, reply: ReplyTo, body: ReplyBody) {
        let conn = match self.sessions.get(at) {
            Some(session) => {
                session.outstanding = session.outstanding.saturating_sub(1);
                session.seat_id()
            }
            None => None,
        };
        self.reply(cx, conn, reply, body);
        self.pause_session(cx, at);
    }

    /// Pauses or resumes the connection of a session, as is due.
    pub(super) fn pause_session(&mut self, cx: &mut Cx<'_>, at: SessionRef) {
        if let Some(conn) = self.sessions.get(at).and_then(|session| session.conn) {
            self.pause_as_due(cx, conn);
        }
    }

    /// A command of this session waits for an answer.
    fn begin(&mut self, cx: &mut Cx<'_>, at: SessionRef) {
        let Some(session) = self.sessions.get(at) else { return };
        session.outstanding += 1;
        self.pause_session(cx, at);
    }

    /// The same, with the number of commands that the connection has outstanding now.
    pub(super) fn pause_as_due(&mut self, cx: &mut Cx<'_>, id: ConnId) {
        let Some(conn) = self.conns.get(id.index as usize).filter(|c| c.open && c.generation == id.generation) else {
            return;
        };
        let mut outstanding = 0;
        for seat in conn.seats() {
            let of_seat = match (seat.session, seat.adopting) {
                (Some(index), _) => self.sessions.slab[index as usize].load(),
                (None, Some(token)) => {
                    self.pending.connecting(token).map_or(0, |connecting| connecting.waiting.len() as u32)
                }
                (None, None) => 0,
            };
            outstanding = outstanding.max(of_seat);
        }
        self.pause_or_resume(cx, id, outstanding);
    }

    /// A connection is read while none of its sessions has too many commands outstanding, there is room for their
    /// answers, and it has not done too much lately.
    fn pause_or_resume(&mut self, cx: &mut Cx<'_>, id: ConnId, outstanding: u32) {
        let outstanding_max = cx.limits.outstanding_max as u32;
        let Some(conn) = self.conns.get_mut(id.index as usize).filter(|c| c.open && c.generation == id.generation)
        else {
            return;
        };
        let is_busy = outstanding >= outstanding_max;
        let pause = conn.full || is_busy || conn.throttled;
        // A page that is on its way holds the connection too, and is no limit of the client's.
        let is_limit = is_busy && !conn.full && outstanding != u32::MAX;
        if std::mem::replace(&mut conn.paused, pause) != pause {
            // Bytes that came meanwhile are read from now on, so until the next heartbeat the client counts as heard.
            // Without a socket nothing waits but what the shell has.
            let is_away = conn.heartbeat.kind == HeartbeatKind::WaitsDetached && self.throttles.contains_key(&id);
            conn.heartbeat.heard |= !pause && !is_away;
            if is_limit {
                self.counts.limited("outstanding_max");
            }
            cx.effects.add(if pause { Effect::Pause(id) } else { Effect::Resume(id) });
        }
    }
}

impl Conn {
    fn unused() -> Self {
        let heartbeat = Heartbeat { every_ms: 0, kind: HeartbeatKind::Asks, pinged: false, late: false, heard: false };
        Conn {
            generation: 0,
            open: false,
            wire: WireId(0),
            first: SeatState::default(),
            others: None,
            has_entered: false,
            grace_ms: 0,
            heartbeat,
            connect_by_ms: 0,
            may_come_back: false,
            paused: false,
            reconnects: false,
            full: false,
            over_rate: OverRate::Refuse,
            throttled: false,
            bad_requests: BadRequests::default(),
            pongs_owed: 0,
            attachment: None,
        }
    }
}

/// The client did not ask for the subscription that its token grants, and has it.
fn is_answer_to_nobody(body: &ReplyBody) -> bool {
    matches!(body, ReplyBody::Error(error) if error.code == ErrorCode::AlreadySubscribed)
}
