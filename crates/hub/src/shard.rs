//! The shard: one core's part of the hub. It routes inputs to the sessions and the homes, and messages between them.
//!
//! `handle(now, input, &mut effects)`: `now` never goes back, the effects are drained before the next call, and the
//! shell does them in order. Messages of the sessions to a home on this same shard (and back) are taken in within the
//! call. A call does a bounded piece of work for every input: the rest waits for `Input::Continue` (`slice`).

use crate::app::{AppAnswer, AppCommand, AppToken, NodeInfo, Whom};
use crate::disconnect::Disconnect;
use crate::effects::{Effect, Effects};
use crate::error::{Error, ErrorCode};
use crate::forward::{ForwardToken, SendRequest, Whereabouts};
use crate::home::{self, Homes};
use crate::hook::{HookAnswer, HookToken, Hooks};
use crate::ids::{ClientId, ConnId, OpToken, Seat, SeatId, ShardId, UserId, WireId};
use crate::inspect::{ChannelView, SessionView};
use crate::limits::Limits;
use crate::listing::ConnectionsPart;
use crate::members::AskToken;
use crate::message::{Request, Resume};
use crate::name::ChannelName;
use crate::peer::{PeerBody, PeerMessage, PendingToken};
use crate::quota::{Bucket, Quotas};
use crate::rng::{Keyed, Rng};
use crate::rules::Rules;
use crate::session::{self, Opened, Sessions};
use crate::slice::Slice;
use crate::store::{Store, StoreAnswer};
use crate::time::Now;
use crate::timer::Timer;
use crate::watch::{Counts, Held};
use crate::wheel::{Due, Wheel};
use std::collections::VecDeque;
use std::sync::Arc;

/// Bytes taken in from a shard before they are acknowledged.
const ACK_BYTES: usize = 64 << 10;
/// How often the store does its housekeeping.
const TIDY_MS: u64 = 1_000;

/// The option for the rate of polls.
const POLLS: &str = "polls_per_connection";
/// How long the answer to a poll is held back before further polls are refused.
const POLL_DELAY_MS_MAX: u64 = 1_000;

/// An input of a shard.
#[derive(Debug)]
pub enum Input {
    /// A connection is there. Its id is new, or has a higher generation than the one before at its index.
    Opened {
        /// Its id.
        conn: ConnId,
        /// Its wire, and its times.
        opened: Opened,
    },
    /// A connection sent something that was decoded.
    Command {
        /// Which.
        conn: ConnId,
        /// For which of its sessions.
        seat: Seat,
        /// The command.
        request: Request,
    },
    /// The program on the server gives a command in the name of a client. It takes nothing of what the client may do.
    ProgramCommand {
        /// The connection.
        conn: ConnId,
        /// For which of its sessions.
        seat: Seat,
        /// The command.
        request: Request,
    },
    /// Bytes came from a connection, or it took some: it lives.
    Alive(ConnId),
    /// A connection's outbox went over its mark.
    Full(ConnId),
    /// It has drained.
    Drained(ConnId),
    /// A connection goes on over another wire: every later push is for that one. Nothing is said twice or left out.
    Rewired {
        /// Which.
        conn: ConnId,
        /// Its wire from now on.
        wire: WireId,
    },
    /// A connection is gone.
    Closed {
        /// Which.
        conn: ConnId,
        /// True when the client ended it on purpose: no grace is given.
        finally: bool,
    },
    /// The shell found a reason to end a connection.
    Close {
        /// Which.
        conn: ConnId,
        /// Why.
        reason: Disconnect,
    },
    /// Another shard says something.
    Peer {
        /// Which.
        from: ShardId,
        /// The message.
        message: PeerMessage,
    },
    /// An outside store answers.
    Answer {
        /// The token of the operation.
        token: OpToken,
        /// The answer.
        answer: StoreAnswer,
    },
    /// The application asks something; [`Effect::Answer`] comes exactly once, under the same token.
    App {
        /// Chosen by the shell, and not in use.
        token: AppToken,
        /// The command.
        command: AppCommand,
    },
    /// The shell has added its facts to a list ([`Effect::Describe`]).
    Described(Box<ConnectionsPart>),
    /// The answers to a question to members ([`MembersOp::Ask`](crate::MembersOp)) are waited for until then, and no
    /// longer or shorter. One whose answers are given finds nothing.
    AskUntil {
        /// The question's.
        token: AskToken,
        /// From now on; 0: the question is over.
        timeout_ms: u64,
    },
    /// Commands have come for a session by another way than its connection;
    /// [`Effect::Forwarded`] comes exactly once, under the same token.
    Forward {
        /// Chosen by the shell, and not in use.
        token: ForwardToken,
        /// Whose, by the ticket that was shown and is valid.
        to: Resume,
        /// The commands.
        send: SendRequest,
    },
    /// An answer to a poll on a connection of [`HeartbeatKind::Polls`](crate::HeartbeatKind) has signals for its client
    /// alone ([`Polls::directed`](crate::Polls)).
    PollAnswered {
        /// The client.
        client: ClientId,
        /// Its connection, which may be over.
        conn: ConnId,
        /// The number of the answer.
        number: u64,
        /// How many of these signals, oldest first, it has.
        signals: usize,
    },
    /// The client has that answer.
    PollAcknowledged {
        /// The client.
        client: ClientId,
        /// Its connection, which may be over.
        conn: ConnId,
    },
    /// The application answers a question of the hub. One that comes too late finds nothing.
    HookAnswer {
        /// The question's.
        token: HookToken,
        /// The answer.
        answer: Box<HookAnswer>,
    },
    /// The rules have changed.
    Reload(Arc<Rules>),
    /// What clients and users may do in a time has changed.
    Quotas(Quotas),
    /// The application is asked and notified of this from now on. Questions that are open are not concerned. A channel
    /// that is newly among those whose occupancy is notified, and is in use, is notified of as occupied.
    Hooks(Arc<Hooks>),
    /// The server stops: tell everybody to come back, spread over so many ms. A connection that comes later is told
    /// when it comes; a second `Drain` changes nothing.
    Drain {
        /// The window, in ms.
        window_ms: u64,
    },
    /// The instant of `Effects::wake_ms` has come.
    Wake,
    /// Go on with interrupted work (`Effects::again`).
    Continue,
}

/// How a shard is set up.
#[derive(Debug, Clone)]
pub struct ShardConfig {
    /// Which shard this is.
    pub me: ShardId,
    /// How many there are.
    pub shards: usize,
    /// The policy.
    pub rules: Arc<Rules>,
    /// The questions that the application has handlers for.
    pub hooks: Arc<Hooks>,
    /// The bounds.
    pub limits: Arc<Limits>,
    /// Seeds ids; differs between shards and lives.
    pub seed: u64,
    /// Keys the placement of channels; the same on every shard of a node.
    pub placement_key: u64,
}

/// Figures for the watchers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Sessions, with and without connection.
    pub sessions: usize,
    /// Channels followed here.
    pub edges: usize,
    /// Channels that live here.
    pub homes: usize,
    /// Bytes of history.
    pub history_bytes: usize,
    /// Bytes that wait for the store.
    pub store_waiting_bytes: usize,
    /// Bytes of the answers to numbered sends that are kept for repeats, and of sends that wait for an earlier one.
    pub sends_bytes: usize,
    /// Bytes of the sessions without a connection.
    pub away_bytes: usize,
    /// Sessions that ended before their grace was over, for want of room.
    pub away_shed: u64,
    /// Idempotency keys forgotten before their time, for want of room.
    pub keys_shed: u64,
    /// Signals shed because too much waited.
    pub signals_shed: u64,
    /// Questions to the application without an answer yet.
    pub questions: usize,
    /// Subscriptions of connected sessions.
    pub subscriptions: usize,
    /// Connections whose outbox is over its mark: they pull.
    pub behind: usize,
    /// The counts so far.
    pub counts: Counts,
}

/// See the module's description.
pub struct Shard {
    config: ShardConfig,
    sessions: Sessions,
    homes: Homes,
    store: Box<dyn Store>,
    rng: Rng,
    wheel: Wheel<Timer>,
    /// Messages on their way; those to this shard are taken in before `handle` returns.
    out: VecDeque<(ShardId, PeerBody)>,
    /// Bytes taken in from each shard that are not acknowledged.
    taken: Vec<usize>,
    /// The work for many that the current input may still do.
    slice: Slice,
}

impl Shard {
    /// A shard with nothing on it. `now` is the time of its birth.
    pub fn new(config: ShardConfig, store: Box<dyn Store>, now: Now) -> Self {
        let hash = Keyed(config.placement_key);
        let mut wheel = Wheel::new(now.mono_ms);
        wheel.add(now.mono_ms + TIDY_MS, Timer::Tidy);
        Shard {
            sessions: Sessions::new(config.shards, hash, &config.limits),
            homes: Homes::new(config.shards, hash, &config.limits),
            store,
            rng: Rng::new(config.seed),
            wheel,
            out: VecDeque::new(),
            taken: vec![0; config.shards],
            slice: Slice::new(&config.limits),
            config,
        }
    }

    /// Takes one input, clears `effects` and adds the effects that the shell must carry out.
    pub fn handle(&mut self, now: Now, input: Input, effects: &mut Effects) {
        self.slice = Slice::new(&self.config.limits);
        self.input(now, input, effects);
        self.deliver_local(now, effects);
        for notice in self.homes.take_notices() {
            effects.add(Effect::Notice(Box::new(notice)));
        }
        effects.set_again(self.has_more());
        effects.set_wake([self.wheel.next_ms(), self.sessions.next_batch_ms()].into_iter().flatten().min());
    }

    /// True if no command waits for its answer and every client that keeps up has got all publications that have come
    /// to this shard. A server that accepts no more commands waits for this before it closes its connections.
    pub fn is_settled(&self) -> bool {
        self.sessions.is_settled()
    }

    /// Where the session of a client is, as far as this shard knows.
    pub fn whereabouts(&self, client: ClientId) -> Whereabouts {
        self.sessions.whereabouts(client)
    }

    /// The client of a connection, and its user; of several the first one. `None` where it has no session.
    pub fn client_of(&self, conn: ConnId) -> Option<(ClientId, Option<&UserId>)> {
        self.sessions.client_of(conn)
    }

    /// The option for which a connection is not read at the moment: its client has done too much lately.
    pub fn throttled_by(&self, conn: ConnId) -> Option<&'static str> {
        self.sessions.throttled_by(conn)
    }

    /// The sessions of a client or a user that are on this shard, at most so many.
    pub fn sessions_of(&self, whom: &Whom, count_max: usize) -> Vec<SessionView> {
        self.sessions.views_of(&self.config.rules, whom, count_max)
    }

    /// A channel as this shard knows it, with at most so many of its subscribers here.
    pub fn channel_at(&self, name: &ChannelName, count_max: usize) -> ChannelView {
        let view = self.sessions.channel_view(&self.config.rules, name, count_max);
        ChannelView { home: self.homes.view(name), ..view }
    }

    /// Commands of clients and of the application that wait for their answers. It looks at every session: for the end.
    pub fn outstanding(&self) -> usize {
        self.sessions.outstanding()
    }

    /// Bytes that wait behind the interrupted fan-out with the most of them. `fanout_waiting_bytes_max` bounds this.
    pub fn fanout_waiting_bytes(&self) -> usize {
        self.sessions.fanout_waiting_bytes()
    }

    /// The shell has refused what is longer than one of the limits, before it was a command.
    pub fn limit_reached(&mut self, limit: &'static str) {
        self.sessions.counts.limited(limit);
    }

    /// A client polls, and has polled this much. Returns how long its answer waits at least, in ms: above its rate a
    /// client that waits for each answer is slowed down, and gets more with each.
    ///
    /// # Errors
    /// [`ErrorCode::RateLimited`] where it would wait for more than a second: for polls that do not wait for the
    /// answers of the earlier ones, and at very low rates.
    pub fn charge_poll(&mut self, now: Now, spent: &mut Bucket) -> Result<u64, Error> {
        let Some(rate) = self.config.limits.quotas.polls_per_connection else { return Ok(0) };
        let waits_ms = spent.waits_ms(now.mono_ms, rate, 1).unwrap_or(0);
        if waits_ms > 0 {
            self.sessions.counts.limited(POLLS);
        }
        if waits_ms > POLL_DELAY_MS_MAX {
            let (count, window_ms) = (rate.count(), rate.window_ms());
            let message =
                format!("one connection may poll {count} times in {window_ms} ms, the limit (limits.{POLLS})");
            return Err(Error::new(ErrorCode::RateLimited, message).by_limit(POLLS).after_ms(waits_ms));
        }
        spent.take(now.mono_ms, rate, 1);
        Ok(waits_ms)
    }

    /// The counts that are not in the figures. It looks at every session: for tests.
    pub fn held(&self) -> Held {
        let mut held = Held::default();
        self.sessions.held(&mut held);
        self.homes.held(&mut held);
        held
    }

    /// Figures for the watchers.
    pub fn stats(&self) -> Stats {
        let mut counts = self.sessions.counts.clone();
        counts.add(&self.homes.counts);
        counts.limited_times("signals_waiting_max", self.sessions.signals_dropped());
        counts.limited_times("away_bytes_max", self.sessions.away_shed);
        for (limit, times) in self.store.limits_reached() {
            counts.limited_times(limit, times);
        }
        Stats {
            sessions: self.sessions.session_count(),
            edges: self.sessions.edge_count(),
            homes: self.homes.len(),
            history_bytes: self.store.bytes_used(),
            store_waiting_bytes: self.homes.store_waiting_bytes(),
            sends_bytes: self.sessions.sends_bytes(),
            away_bytes: self.sessions.away_bytes(),
            away_shed: self.sessions.away_shed,
            keys_shed: self.store.keys_shed(),
            signals_shed: self.sessions.signals_shed,
            questions: self.sessions.question_count(),
            subscriptions: self.sessions.subscription_count(),
            behind: self.sessions.full_count(),
            counts,
        }
    }

    fn input(&mut self, now: Now, input: Input, effects: &mut Effects) {
        match input {
            Input::Opened { conn, opened } => {
                self.sessions(now, effects, |sessions, cx| sessions.opened(cx, conn, opened))
            }
            Input::Command { conn, seat, request } => {
                self.sessions(now, effects, |sessions, cx| sessions.command(cx, SeatId { conn, seat }, request))
            }
            Input::ProgramCommand { conn, seat, request } => {
                self.sessions(now, effects, |sessions, cx| sessions.program_command(cx, SeatId { conn, seat }, request))
            }
            Input::Quotas(quotas) => {
                Arc::make_mut(&mut self.config.limits).quotas = quotas;
                self.sessions.quotas_changed(now.mono_ms, &quotas);
            }
            Input::Alive(conn) => self.sessions.alive(conn),
            Input::Full(conn) => self.sessions(now, effects, |sessions, cx| sessions.full(cx, conn)),
            Input::Drained(conn) => self.sessions(now, effects, |sessions, cx| sessions.drained(cx, conn)),
            Input::Rewired { conn, wire } => {
                self.sessions(now, effects, |sessions, cx| sessions.rewired(cx, conn, wire));
            }
            Input::Closed { conn, finally } => {
                self.sessions(now, effects, |sessions, cx| sessions.closed(cx, conn, finally))
            }
            Input::Close { conn, reason } => {
                self.sessions(now, effects, |sessions, cx| sessions.close(cx, conn, reason))
            }
            Input::Peer { from, message } => self.peer(now, effects, from, message.0),
            Input::Answer { token, answer } => self.homes(now, |homes, cx| homes.store_answer(cx, token, answer)),
            Input::App { token, command } => {
                self.sessions(now, effects, |sessions, cx| sessions.app(cx, token, command))
            }
            Input::Described(part) => self.sessions(now, effects, |sessions, cx| sessions.described(cx, *part)),
            Input::AskUntil { token, timeout_ms } => {
                self.sessions(now, effects, |sessions, cx| sessions.ask_until(cx, token, timeout_ms));
            }
            Input::Forward { token, to, send } => {
                self.sessions(now, effects, |sessions, cx| sessions.forward(cx, token, to, send));
            }
            Input::PollAnswered { client, conn, number, signals } => {
                self.sessions.poll_answered(client, conn, number, signals);
            }
            Input::PollAcknowledged { client, conn } => self.sessions.poll_acknowledged(client, conn),
            Input::HookAnswer { token, answer } => {
                self.sessions(now, effects, |sessions, cx| sessions.hook_answer(cx, token, *answer));
            }
            Input::Reload(rules) => {
                self.config.rules = rules;
                self.sessions.rates_changed();
                self.homes(now, |homes, cx| homes.reload(cx));
                self.sessions(now, effects, |sessions, cx| sessions.rejudge(cx));
            }
            Input::Hooks(hooks) => {
                self.config.hooks = hooks;
                self.homes(now, |homes, cx| homes.reload(cx));
            }
            Input::Drain { window_ms } => self.sessions(now, effects, |sessions, cx| sessions.drain(cx, window_ms)),
            Input::Wake => self.wake(now, effects),
            Input::Continue => self.go_on(now, effects),
        }
    }

    fn peer(&mut self, now: Now, effects: &mut Effects, from: ShardId, body: PeerBody) {
        match body {
            PeerBody::Home(channel, message) => self.homes(now, |homes, cx| homes.handle(cx, from, channel, message)),
            PeerBody::HomeBy(channel, message, maker) => {
                self.homes(now, |homes, cx| homes.handle_by(cx, from, channel, message, Some(maker)));
            }
            PeerBody::Made(session) => self.sessions(now, effects, |sessions, cx| sessions.made(cx, session)),
            PeerBody::Edge(channel, message) => {
                let taken = &mut self.taken[usize::from(from.0)];
                *taken += message.cost();
                // Often enough for a small link too: bytes count as on their way until they are acknowledged.
                let ack_bytes = ACK_BYTES.min(self.config.limits.link_bytes_max / 4);
                if *taken >= ack_bytes || from == self.config.me {
                    let bytes = std::mem::take(taken);
                    if from == self.config.me {
                        self.homes(now, |homes, cx| homes.acknowledged(cx, from, bytes));
                    } else {
                        self.out.push_back((from, PeerBody::Ack(bytes)));
                    }
                }
                self.sessions(now, effects, |sessions, cx| sessions.handle(cx, channel, message));
            }
            PeerBody::Ack(bytes) => self.homes(now, |homes, cx| homes.acknowledged(cx, from, bytes)),
            PeerBody::Adopt { token, client, claim, origin } => {
                self.sessions(now, effects, |sessions, cx| sessions.adopt(cx, origin, token, client, claim))
            }
            PeerBody::Adopted { token, found } => {
                self.sessions(now, effects, |sessions, cx| sessions.adopted(cx, token, found));
            }
            PeerBody::Forward { to, client, send } => self.sessions(now, effects, |sessions, cx| {
                sessions.commands_for(cx, to, client, *send);
            }),
            PeerBody::Forwarded { token, answer } => {
                self.sessions(now, effects, |sessions, cx| sessions.forwarded(cx, token, answer));
            }
            PeerBody::UserEnter { token, user } => {
                self.sessions(now, effects, |sessions, cx| sessions.user_enters(cx, from, token, user));
            }
            PeerBody::UserEntered { token, result } => {
                self.sessions(now, effects, |sessions, cx| sessions.user_entered(cx, token, result));
            }
            PeerBody::UserLeft { user } => {
                self.sessions(now, effects, |sessions, cx| sessions.user_home_left(cx, &user));
            }
            PeerBody::UserSpent { user, cost } => {
                self.sessions(now, effects, |sessions, cx| sessions.user_spent(cx, from, user, cost));
            }
            PeerBody::App { token, command } => self.app_part(now, effects, from, token, command),
            PeerBody::Answer { token, part } => {
                self.sessions(now, effects, |sessions, cx| sessions.answer_part(cx, token, part))
            }
            PeerBody::Members { token, members, is_last } => {
                self.sessions(now, effects, |sessions, cx| sessions.listed(cx, token, members, is_last));
            }
            PeerBody::AppPart { token, part } => {
                self.sessions(now, effects, |sessions, cx| sessions.tallied(cx, token, part))
            }
        }
    }

    /// This shard's part of a command of the application to all shards.
    fn app_part(
        &mut self,
        now: Now,
        effects: &mut Effects,
        from: ShardId,
        token: PendingToken,
        command: Arc<AppCommand>,
    ) {
        let part = match &*command {
            AppCommand::Channels { pattern, after, limit } => {
                self.homes.page(pattern.as_ref(), after.as_ref(), *limit as usize)
            }
            AppCommand::Info => AppAnswer::Info(Box::new(NodeInfo {
                sessions: self.sessions.session_count() as u64,
                connected: self.sessions.connected_count() as u64,
                subscriptions: self.sessions.subscription_count() as u64,
                channels: self.homes.len() as u64,
                history_bytes: self.store.bytes_used() as u64,
            })),
            _ => return self.sessions(now, effects, |sessions, cx| sessions.app_sessions(cx, from, token, command)),
        };
        self.out.push_back((from, PeerBody::AppPart { token, part }));
    }

    /// Handles the messages of this shard to itself, and hands the others to the shell.
    fn deliver_local(&mut self, now: Now, effects: &mut Effects) {
        while let Some((shard, body)) = self.out.pop_front() {
            if shard == self.config.me {
                self.peer(now, effects, shard, body);
            } else {
                effects.add(Effect::Tell { shard, message: PeerMessage(body) });
            }
        }
    }

    fn has_more(&self) -> bool {
        self.wheel.is_ripe() || self.homes.has_more() || self.sessions.has_more()
    }

    /// Goes on with interrupted work: timers, homes and the sessions have a part of the slice each, where they
    /// want one.
    fn go_on(&mut self, now: Now, effects: &mut Effects) {
        let waiting = [self.wheel.is_ripe(), self.homes.has_more(), self.sessions.has_more()];
        let share = self.slice.share(waiting.iter().filter(|waits| **waits).count());
        let [timers, homes, sessions] = waiting;
        if timers {
            self.slice.begin(share);
            self.fire(now, effects);
        }
        if homes {
            self.slice.begin(share);
            self.homes(now, |homes, cx| homes.go_on(cx));
        }
        if sessions {
            self.slice.begin(share);
            self.sessions(now, effects, |sessions, cx| sessions.go_on(cx));
        }
    }

    fn wake(&mut self, now: Now, effects: &mut Effects) {
        self.fire(now, effects);
        self.sessions(now, effects, |sessions, cx| sessions.tell_batches(cx));
    }

    /// Fires the timers that are due, as far as the slice goes.
    fn fire(&mut self, now: Now, effects: &mut Effects) {
        while !self.slice.is_spent()
            && let Some(due) = self.wheel.next_due(now.mono_ms)
        {
            self.slice.spend(1);
            let Due::Now(timer) = due else { continue };
            match timer {
                Timer::Connect(conn) => self.sessions(now, effects, |sessions, cx| sessions.connect_timeout(cx, conn)),
                Timer::Reconnect(conn) => self.sessions(now, effects, |sessions, cx| sessions.reconnect_now(cx, conn)),
                Timer::Heartbeat(conn) => self.sessions(now, effects, |sessions, cx| sessions.heartbeat(cx, conn)),
                Timer::Throttle(conn) => {
                    self.sessions(now, effects, |sessions, cx| sessions.look_at_throttle(cx, conn))
                }
                Timer::Grace { session, life, incarnation } => {
                    self.sessions(now, effects, |sessions, cx| sessions.grace_over(cx, session, life, incarnation));
                }
                Timer::Expiry { session, life, watch } => {
                    self.sessions(now, effects, |sessions, cx| sessions.expired(cx, session, life, watch));
                }
                Timer::Question(token) => self.sessions(now, effects, |sessions, cx| sessions.hook_timeout(cx, token)),
                Timer::Forward(token) => {
                    self.sessions(now, effects, |sessions, cx| sessions.forward_timeout(cx, token))
                }
                Timer::Asked(token) => self.sessions(now, effects, |sessions, cx| sessions.asked_timeout(cx, token)),
                Timer::Gap { session, life, begun } => {
                    self.sessions(now, effects, |sessions, cx| sessions.gap_timeout(cx, session, life, begun));
                }
                Timer::EdgeLinger { edge, seq } => {
                    self.sessions(now, effects, |sessions, cx| sessions.lingered(cx, edge, seq))
                }
                Timer::EdgePull { edge, life } => {
                    self.sessions(now, effects, |sessions, cx| sessions.retry_edge_pull(cx, edge, life));
                }
                Timer::Pull { session, life } => {
                    self.sessions(now, effects, |sessions, cx| sessions.retry_pull(cx, session, life));
                }
                Timer::HomeLinger { home, life } => self.homes(now, |homes, cx| homes.lingered(cx, home, life)),
                Timer::Attach { home, life } => self.homes(now, |homes, cx| homes.retry_attach(cx, home, life)),
                Timer::Store => self.homes(now, |homes, cx| homes.store_timeout(cx)),
                Timer::Fill { home, life } => self.homes(now, |homes, cx| homes.retry_fill(cx, home, life)),
                Timer::PresenceCount { home, life } => {
                    self.homes(now, |homes, cx| homes.presence_count(cx, home, life))
                }
                Timer::Members => self.sessions(now, effects, |sessions, cx| sessions.tell_members(cx)),
                Timer::Tidy => {
                    self.store.tidy(now);
                    self.sessions(now, effects, |sessions, cx| sessions.tidy(cx));
                    self.homes(now, |homes, cx| homes.tidy(cx));
                    self.wheel.add(now.mono_ms + TIDY_MS, Timer::Tidy);
                }
            }
        }
    }

    fn sessions<T>(
        &mut self,
        now: Now,
        effects: &mut Effects,
        act: impl FnOnce(&mut Sessions, &mut session::Cx<'_>) -> T,
    ) -> T {
        let mut cx = session::Cx {
            now,
            slice: &mut self.slice,
            me: self.config.me,
            rules: &self.config.rules,
            hooks: &self.config.hooks,
            limits: &self.config.limits,
            rng: &mut self.rng,
            wheel: &mut self.wheel,
            out: &mut self.out,
            effects,
        };
        act(&mut self.sessions, &mut cx)
    }

    fn homes(&mut self, now: Now, act: impl FnOnce(&mut Homes, &mut home::Cx<'_>)) {
        let mut cx = home::Cx {
            now,
            rules: &self.config.rules,
            hooks: &self.config.hooks,
            limits: &self.config.limits,
            slice: &mut self.slice,
            store: &mut *self.store,
            wheel: &mut self.wheel,
            out: &mut self.out,
        };
        act(&mut self.homes, &mut cx);
    }
}
