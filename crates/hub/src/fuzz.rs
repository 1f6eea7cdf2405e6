//! The body of the fuzz target `hub_inputs`, and of the test that feeds it on every run: bytes become a sequence of
//! inputs.
//!
//! One to three shards, a store that answers in place or whenever the bytes say so, connections that read or do not,
//! and a small alphabet of channels and commands, so that the drawn inputs interact. In any order, nothing panics; a
//! closed connection gets nothing; a command with an id, and a command of the application, has one answer; nothing of a
//! channel is delivered outside of a subscription or out of order; and accounted bytes stay within their bounds. At the
//! end all messages are carried, answered and read, and then every command must have its answer. The contract of
//! [`Shard`](crate::Shard) is kept: the inputs are only those that a shell can make. (The simulation checks much more,
//! but only for the inputs of its clients; this target reaches other inputs.)

use crate::{
    Among, AppCommand, AppToken, Appended, Audience, Batch, ChannelName, ChannelNotices, ClientId, Command, ConnId,
    Connect, Data, Disconnect, Effect, Effects, Error, ErrorCode, ForwardToken, Forwarded, HeartbeatKind, HistoryFrom,
    HistoryQuery, HookAnswer, HookToken, Hooks, Identified, Input, Labels, Limits, MemoryStore, Now, Op, OpToken,
    Opened, Outbox, OverRate, PageId, Pattern, PeerMessage, Position, Publication, Publish, Push, Question, Reply,
    ReplyBody, Request, RequestId, Resume, Room, RoomCommand, Rule, Rules, Seat, SendRequest, Shard, ShardConfig,
    ShardId, Signal, Slow, Store, StoreAnswer, SubOptions, UserId, Who, Whom, WireId,
};
use bytes::Bytes;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

/// Connections of a shard at a time.
const CONNECTIONS: usize = 5;
const CHANNELS: [&str; 4] = ["a", "b", "own:u1", "strict:x"];

/// One round.
pub fn inputs(data: &[u8]) {
    let mut bytes = Take(data);
    let mut world = World::new(&mut bytes);
    while !bytes.0.is_empty() {
        world.step(&mut bytes);
    }
    world.settle();
}

/// The bytes that are left; zeros behind their end.
struct Take<'a>(&'a [u8]);

impl Take<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound.max(1)
    }

    fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    fn of<T: Clone>(&mut self, list: &[T]) -> Option<T> {
        let at = self.below(list.len());
        list.get(at).cloned()
    }
}

/// Answers that a store owes: (shard, token, answer).
type Owed = Rc<RefCell<Vec<(usize, OpToken, StoreAnswer)>>>;

struct LateStore {
    shard: usize,
    memory: MemoryStore,
    owed: Owed,
}

impl Store for LateStore {
    fn submit(&mut self, now: Now, token: OpToken, op: Op) -> Option<StoreAnswer> {
        let answer = self.memory.submit(now, token, op)?;
        self.owed.borrow_mut().push((self.shard, token, answer));
        None
    }

    fn tidy(&mut self, now: Now) {
        self.memory.tidy(now);
    }

    fn bytes_used(&self) -> usize {
        self.memory.bytes_used()
    }
}

/// A connection as its shell and its client have it.
struct Conn {
    id: ConnId,
    wire: WireId,
    outbox: Outbox,
    frame_max: usize,
    paused: bool,
    /// Commands without an answer.
    pending: BTreeMap<u64, Command>,
    /// Where each subscription is, with the largest batch that it may get.
    subs: BTreeMap<ChannelName, (Position, usize)>,
}

struct World {
    now: Now,
    limits: Arc<Limits>,
    shards: Vec<Shard>,
    /// By shard and index; the generation lives on.
    conns: Vec<Vec<(u32, Option<Conn>)>>,
    inboxes: Vec<VecDeque<(ShardId, PeerMessage)>>,
    again: Vec<bool>,
    owed: Owed,
    /// Commands of the application without an answer.
    app: BTreeMap<u64, AppCommand>,
    /// Commands that came by requests of their own and have no answer.
    forwarded: BTreeMap<u64, SendRequest>,
    /// Questions that the application has not answered.
    asked: Vec<(usize, HookToken, Question)>,
    clients: Vec<ClientId>,
    places: Vec<Position>,
    /// The application may have let clients in: their subscriptions can begin anew.
    lets_in: bool,
    next_id: u64,
}

impl World {
    fn new(bytes: &mut Take<'_>) -> World {
        let (count, late) = (1 + bytes.below(3), bytes.flag());
        let small = bytes.byte();
        let pick = |bit: u8, small_one: usize, large: usize| if small >> bit & 1 == 1 { small_one } else { large };
        let limits = Arc::new(Limits {
            outbox_bytes_max: pick(0, 300, 4_000),
            page_bytes_max: pick(1, 700, 4_000),
            link_bytes_max: pick(2, 600, 1 << 20),
            fanout_slice: pick(3, 1, 4096),
            fanout_waiting_max: pick(4, 2, 64),
            history_bytes_max: pick(5, 3_000, 1 << 20),
            presence_entries_max: pick(6, 2, 1000),
            outstanding_max: pick(7, 2, 8),
            subscriptions_max: 3,
            signals_waiting_max: 3,
            idempotency_keys_bytes_max: 1_200,
            ..Limits::default()
        });
        let now = Now { mono_ms: 1_000_000, wall_ms: 1_700_000_000_000 };
        let which = bytes.byte();
        let patterns = |bit: u8| -> Vec<Pattern> {
            let text = ["a", "**"][usize::from(which >> bit) & 1];
            (which >> (bit + 1) & 1 == 1)
                .then(|| Pattern::new(text).expect("a pattern of this file"))
                .into_iter()
                .collect()
        };
        let every: Vec<Pattern> = Pattern::new("**").into_iter().collect();
        let hooks = Arc::new(Hooks {
            connect: which & 1 == 1,
            subscribe: patterns(1),
            publish: patterns(3),
            rpc: which & 64 == 64,
            disconnect: which & 128 == 128,
            channels: ChannelNotices {
                occupancy: every.clone(),
                join: every.clone(),
                leave: every.clone(),
                published: every,
            },
        });
        let (owed, rules) = (Owed::default(), Arc::new(rules(0)));
        let shards = (0..count).map(|me| {
            let memory = MemoryStore::new(&limits, 7 + me as u64);
            let store: Box<dyn Store> = match late {
                true => Box::new(LateStore { shard: me, memory, owed: owed.clone() }),
                false => Box::new(memory),
            };
            let (rules, limits) = (rules.clone(), limits.clone());
            let (me, seed, placement_key, hooks) = (ShardId(me as u16), me as u64, 5, hooks.clone());
            Shard::new(ShardConfig { me, shards: count, rules, limits, hooks, seed, placement_key }, store, now)
        });
        World {
            now,
            shards: shards.collect(),
            limits,
            conns: (0..count).map(|_| Vec::new()).collect(),
            inboxes: (0..count).map(|_| VecDeque::new()).collect(),
            again: vec![false; count],
            owed,
            app: BTreeMap::new(),
            forwarded: BTreeMap::new(),
            asked: Vec::new(),
            clients: Vec::new(),
            places: Vec::new(),
            lets_in: false,
            next_id: 0,
        }
    }

    fn step(&mut self, bytes: &mut Take<'_>) {
        let shard = bytes.below(self.shards.len());
        match bytes.below(28) {
            0 | 1 => self.open(shard, bytes),
            2..=12 => self.command(shard, bytes),
            13 | 14 => {
                let (index, count) = (bytes.below(CONNECTIONS), usize::from(bytes.byte()) * 8);
                self.write(shard, index, count);
            }
            15 | 16 => self.carry(shard),
            17 if self.again[shard] => self.input(shard, Input::Continue),
            18 | 19 => self.answer(bytes),
            20 => {
                let ms = [1, 30, 200, 1_500, 30_000][bytes.below(5)];
                self.pass(ms);
            }
            21 => {
                // Whether it is there, was, or never will be.
                let conn = ConnId { index: bytes.below(CONNECTIONS) as u32, generation: bytes.below(4) as u32 };
                self.end(shard, conn, bytes);
            }
            22 => {
                let rules = Arc::new(rules(bytes.byte()));
                (0..self.shards.len()).for_each(|shard| self.input(shard, Input::Reload(rules.clone())));
            }
            23 if bytes.below(8) == 0 => self.input(shard, Input::Drain { window_ms: u64::from(bytes.byte()) }),
            24 => self.ask(shard, bytes),
            25 => self.forward(shard, bytes),
            26 | 27 if !self.asked.is_empty() => {
                let at = bytes.below(self.asked.len());
                let how = bytes.byte();
                self.answer_question(at, how);
            }
            _ => {}
        }
    }

    /// The application asks.
    fn ask(&mut self, shard: usize, bytes: &mut Take<'_>) {
        let whom = match bytes.of(&self.clients).filter(|_| bytes.flag()) {
            Some(client) => Whom::Client(client),
            None => [Whom::user("u1"), Whom::user("u2"), Whom::Label("beta".into())][bytes.below(3)].clone(),
        };
        let channel = channel(bytes);
        let json = Bytes::from(format!("\"{}\"", "y".repeat(usize::from(bytes.byte()))));
        let command = match bytes.below(18) {
            0..=2 => {
                let idempotency_key = bytes.flag().then(|| "k".into());
                let publish = Publish { channel, data: Data::Json(json), event: None, idempotency_key, echo: true };
                let only: Vec<ClientId> = bytes.of(&self.clients).into_iter().collect();
                let audience = bytes.flag().then(|| Box::new(Audience { only, ..Audience::default() }));
                AppCommand::Publish { publish: Box::new(publish), audience, by: None }
            }
            3 => {
                let to = bytes.of(&self.clients).filter(|_| bytes.flag());
                AppCommand::Signal(Box::new(Signal { channel, event: "e".into(), data: json, to }))
            }
            4 => AppCommand::HistoryRemove { channel },
            5 => AppCommand::Presence { channel },
            6 => AppCommand::Channels { pattern: None, after: None, limit: bytes.byte().into() },
            7 => {
                self.lets_in = true;
                AppCommand::Subscribe { whom, options: Box::new(self.options(bytes)) }
            }
            8 => AppCommand::Unsubscribe { whom, channel },
            9 => {
                let reason = [Disconnect::Kicked, Disconnect::Overloaded][bytes.below(2)];
                let ban_ms = bytes.flag().then(|| u64::from(bytes.byte()) << 4);
                AppCommand::Disconnect { whom, reason, ban_ms }
            }
            10 => AppCommand::Unban { whom },
            11 => AppCommand::Bans { whom: Some(whom).filter(|_| bytes.flag()), limit: bytes.byte().into() },
            12 => {
                let user = UserId("u1".into());
                let all = [Among::All, Among::Channel(channel), Among::Label("beta".into()), Among::User(user)];
                AppCommand::Connections { among: all[bytes.below(4)].clone(), after: None, limit: bytes.byte().into() }
            }
            13 => AppCommand::Users { channel: Some(channel), after: None, limit: bytes.byte().into() },
            14 => AppCommand::Reconnect { whom, spread_ms: u64::from(bytes.byte()) << 3 },
            15 => AppCommand::UserStatus { users: ["u1", "u3"].map(|user| UserId(user.into())).into() },
            _ => AppCommand::Info,
        };
        self.next_id += 1;
        self.app.insert(self.next_id, command.clone());
        self.input(shard, Input::App { token: AppToken(self.next_id), command });
    }

    /// A command comes for a client by a request of its own. (A subscription made so is not followed here.)
    fn forward(&mut self, shard: usize, bytes: &mut Take<'_>) {
        let Some(client) = bytes.of(&self.clients) else { return };
        let to = Resume { shard: ShardId(bytes.below(5) as u16), client };
        let (channel, how) = (channel(bytes), bytes.byte());
        let second = channel.clone();
        let json = Bytes::from(format!("\"{}\"", "z".repeat(usize::from(how))));
        let command = match bytes.below(10) {
            0..=2 => {
                let idempotency_key = (how & 1 == 1).then(|| "k".into());
                let publish = Publish { channel, data: Data::Json(json), event: None, idempotency_key, echo: true };
                Command::Publish(Box::new(publish))
            }
            3 => Command::History { channel, query: HistoryQuery { from: HistoryFrom::Newest, limit: how.into() } },
            4 => Command::Presence { channel },
            5 => Command::PresenceSet { channel, data: json, person: None },
            6 => Command::Rpc { method: "m".into(), data: json },
            7 => Command::Refresh { token: "newer".into() },
            8 if how & 4 == 4 => Command::Disconnect,
            8 => Command::Pong,
            _ => Command::Invalid(Error::new(ErrorCode::BadRequest, "not of the protocol")),
        };
        self.next_id += 1;
        let id = (how & 2 == 2).then_some(RequestId::Number(self.next_id));
        let mut requests = vec![Request { id, command }];
        if how & 4 == 4 {
            requests.push(Request { id: None, command: Command::Presence { channel: second } });
        }
        let n = bytes.flag().then(|| bytes.below(12) as u64);
        let send = SendRequest { n, requests, bytes: usize::from(how) };
        self.forwarded.insert(self.next_id, send.clone());
        self.input(shard, Input::Forward { token: ForwardToken(self.next_id), to, send });
    }

    /// The application answers, as it should or not.
    fn answer_question(&mut self, at: usize, how: u8) {
        let (shard, token, question) = self.asked.swap_remove(at);
        let refused = || HookAnswer::Refused(Error::new(ErrorCode::Denied, "no"));
        let answer = match question {
            _ if how & 7 == 7 => refused(),
            _ if how & 7 == 6 => HookAnswer::Allowed,
            Question::Connect { .. } | Question::Refresh { .. } => {
                let granted = usize::from(how >> 3) % 3;
                self.lets_in |= granted > 0;
                HookAnswer::Identity(Identified {
                    user: (how & 8 == 8).then(|| UserId(["u1", "u2"][usize::from(how >> 4) & 1].into())),
                    info: None,
                    expires_ms: (how & 64 == 64).then(|| self.now.wall_ms + u64::from(how) * 20),
                    grants: Vec::new(),
                    claims: None,
                    labels: Labels::new((how & 32 == 32).then_some("beta")).expect("a label"),
                    subscribe: CHANNELS[..granted].iter().filter_map(|name| ChannelName::new(name).ok()).collect(),
                })
            }
            Question::Subscribe { .. } => HookAnswer::Allowed,
            Question::Publish { mut publish, .. } => {
                if how & 8 == 8 {
                    publish.data = Data::Json(Bytes::from_static(b"\"edited\""));
                }
                HookAnswer::Publish(publish)
            }
            Question::Rpc { data, .. } => HookAnswer::Result(data),
        };
        self.input(shard, Input::HookAnswer { token, answer: Box::new(answer) });
    }

    fn open(&mut self, shard: usize, bytes: &mut Take<'_>) {
        let conns = &mut self.conns[shard];
        let free = conns.iter().position(|(_, conn)| conn.is_none());
        if free.is_none() && conns.len() == CONNECTIONS {
            return;
        }
        let index = free.unwrap_or_else(|| {
            conns.push((0, None));
            conns.len() - 1
        });
        conns[index].0 += 1;
        let id = ConnId { index: index as u32, generation: conns[index].0 };
        let (outbox, pending, subs) = (Outbox::default(), BTreeMap::new(), BTreeMap::new());
        let grace_ms = if bytes.flag() { 2_000 } else { 0 };
        let wire = WireId(bytes.byte() & 1);
        conns[index].1 = Some(Conn { id, wire, outbox, frame_max: 0, paused: false, pending, subs });
        let opened = Opened {
            wire,
            grace_ms,
            heartbeat_ms: 25_000,
            heartbeat: HeartbeatKind::Asks,
            connect_timeout_ms: None,
            over_rate: [OverRate::Refuse, OverRate::WaitAtLimits, OverRate::Wait][bytes.below(3)],
            attachment: None,
        };
        self.input(shard, Input::Opened { conn: id, opened });
        if bytes.below(8) > 0 {
            let command = self.connect(bytes);
            self.send(shard, index, command);
        }
    }

    fn connect(&mut self, bytes: &mut Take<'_>) -> Command {
        let user = bytes.flag().then(|| UserId(["u1", "u2"][bytes.below(2)].into()));
        let client = bytes.of(&self.clients).filter(|_| bytes.below(3) > 0);
        let resume = client.map(|client| Resume { shard: ShardId(bytes.below(5) as u16), client });
        let subscribe = (0..bytes.below(3)).map(|_| self.options(bytes)).collect();
        let token = (bytes.below(4) == 0).then(|| "token".into());
        let page = bytes.below(6);
        let only_resume = resume.is_some() && page >= 3;
        let page = PageId::new(["", "p1", "p2"][page % 3]);
        let connect = Connect { token, user, resume, only_resume, page, subscribe, ..Connect::default() };
        Command::Connect(Box::new(connect))
    }

    fn options(&self, bytes: &mut Take<'_>) -> SubOptions {
        let flags = bytes.byte();
        let mut since = bytes.of(&self.places).filter(|_| flags & 1 == 1);
        if let Some(since) = since.as_mut().filter(|_| flags & 2 == 2) {
            since.offset = u64::from(bytes.byte());
        }
        let batch =
            (flags & 4 == 4).then(|| Batch { size: bytes.byte().into(), delay_ms: u32::from(bytes.byte()) * 4 });
        let slow = (flags & 8 == 8).then(|| Slow::ALL[bytes.below(3)]);
        let recent = (flags & 16 == 16).then(|| bytes.byte().into());
        let (presence, signals) = (flags & 32 == 32, flags & 64 == 0);
        let keep = flags & 128 == 128;
        SubOptions { since, recent, presence, signals, batch, slow, keep, ..SubOptions::new(channel(bytes)) }
    }

    fn command(&mut self, shard: usize, bytes: &mut Take<'_>) {
        let index = bytes.below(CONNECTIONS);
        let json = |bytes: &mut Take<'_>| Bytes::from(format!("\"{}\"", "x".repeat(usize::from(bytes.byte()))));
        let command = match bytes.below(22) {
            16 => Command::Rpc { method: "m".into(), data: json(bytes) },
            17 => Command::Refresh { token: "newer".into() },
            18 => Command::Room(Box::new(RoomCommand::Join { channel: channel(bytes), room: room(bytes) })),
            19 => Command::Room(Box::new(RoomCommand::Leave { channel: channel(bytes), room: room(bytes) })),
            20 => {
                let (channel, data) = (channel(bytes), Data::Json(json(bytes)));
                let publish = Publish { channel, data, event: None, idempotency_key: None, echo: true };
                let audience =
                    Audience { rooms: vec![room(bytes)], except_rooms: vec![room(bytes)], ..Audience::default() };
                Command::Room(Box::new(RoomCommand::Publish { publish, audience }))
            }
            21 => Command::Disconnect,
            0 => self.connect(bytes),
            1 | 2 => Command::Subscribe { subs: vec![self.options(bytes)], many: false },
            3 => {
                let subs = (0..bytes.below(5)).map(|_| self.options(bytes)).collect();
                Command::Subscribe { subs, many: true }
            }
            4 => Command::Unsubscribe { channel: channel(bytes) },
            5..=9 => {
                let idempotency_key = (bytes.below(4) == 0).then(|| ["k", "l"][bytes.below(2)].into());
                let (channel, echo) = (channel(bytes), bytes.below(4) > 0);
                let data = Data::Json(json(bytes));
                Command::Publish(Box::new(Publish { channel, data, event: None, idempotency_key, echo }))
            }
            10 => {
                let from = match (bytes.below(3), bytes.of(&self.places)) {
                    (0, Some(at)) => HistoryFrom::Since(at),
                    (1, Some(at)) => HistoryFrom::Before(at),
                    _ => HistoryFrom::Newest,
                };
                let query = HistoryQuery { from, limit: 1 + u32::from(bytes.byte()) };
                Command::History { channel: channel(bytes), query }
            }
            11 => Command::Presence { channel: channel(bytes) },
            12 => {
                let to = if bytes.flag() { bytes.of(&self.clients) } else { None };
                let event = ["e", "f"][bytes.below(2)].into();
                Command::Signal(Box::new(Signal { channel: channel(bytes), event, data: json(bytes), to }))
            }
            13 => Command::PresenceSet { channel: channel(bytes), data: json(bytes), person: None },
            14 => Command::PresenceClear { channel: channel(bytes) },
            _ if bytes.flag() => Command::Pong,
            _ => Command::Invalid(Error::new(ErrorCode::BadRequest, "not of the protocol")),
        };
        self.send(shard, index, command);
    }

    /// Sends a command with an id; a connection that is held is not read.
    fn send(&mut self, shard: usize, index: usize, command: Command) {
        let Some((_, Some(conn))) = self.conns[shard].get_mut(index) else { return };
        if conn.paused {
            return;
        }
        self.next_id += 1;
        let (id, answered) = (self.next_id, !matches!(command, Command::Pong));
        if answered {
            conn.pending.insert(id, command.clone());
        }
        let conn = conn.id;
        let request = Request { id: Some(RequestId::Number(id)), command };
        self.input(shard, Input::Command { conn, seat: Seat::default(), request });
    }

    /// Something is said of a connection that may be another one by now.
    fn end(&mut self, shard: usize, conn: ConnId, bytes: &mut Take<'_>) {
        let there = self.conn(shard, conn).is_some();
        let forget = |world: &mut World| {
            if there {
                world.conns[shard][conn.index as usize].1 = None;
            }
        };
        match bytes.below(6) {
            0 | 1 => {
                forget(self);
                self.input(shard, Input::Closed { conn, finally: bytes.flag() });
            }
            2 => self.input(shard, Input::Close { conn, reason: Disconnect::Internal }),
            3 => self.input(shard, Input::Alive(conn)),
            4 => {
                let wire = WireId(bytes.byte() & 1);
                if let Some(conn) = self.conn(shard, conn) {
                    conn.wire = wire;
                }
                self.input(shard, Input::Rewired { conn, wire });
            }
            // Only of one that is gone: of others the outbox says it.
            _ if !there => {
                let input = if bytes.flag() { Input::Full(conn) } else { Input::Drained(conn) };
                self.input(shard, input);
            }
            _ => {}
        }
    }

    fn conn(&mut self, shard: usize, id: ConnId) -> Option<&mut Conn> {
        self.conns[shard].get_mut(id.index as usize)?.1.as_mut().filter(|conn| conn.id == id)
    }

    /// The network takes so many bytes of a connection.
    fn write(&mut self, shard: usize, index: usize, count: usize) {
        let Some((_, Some(conn))) = self.conns[shard].get_mut(index) else { return };
        let id = conn.id;
        let count = count.min(conn.outbox.bytes());
        if conn.outbox.advance(count, self.limits.outbox_bytes_max) {
            self.input(shard, Input::Drained(id));
        }
    }

    fn carry(&mut self, shard: usize) {
        if let Some((from, message)) = self.inboxes[shard].pop_front() {
            self.input(shard, Input::Peer { from, message });
        }
    }

    /// The store answers one of its questions, in its own order; now and then twice, or with a refusal of what only
    /// reads.
    fn answer(&mut self, bytes: &mut Take<'_>) {
        let (at, how) = (usize::from(bytes.byte()), bytes.below(8));
        let owed = self.owed.borrow().len();
        if owed == 0 {
            return;
        }
        let (shard, token, mut answer) = self.owed.borrow_mut().remove(if how < 4 { at % owed } else { 0 });
        if how == 7 {
            answer = match answer {
                StoreAnswer::Appended { .. } | StoreAnswer::Duplicate(_) => StoreAnswer::Unknown,
                _ => StoreAnswer::Unavailable,
            };
        }
        if how == 6 {
            self.input(shard, Input::Answer { token, answer: answer.clone() });
        }
        self.input(shard, Input::Answer { token, answer });
    }

    fn pass(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.wall_ms += ms;
        (0..self.shards.len()).for_each(|shard| self.input(shard, Input::Wake));
    }

    /// Everything is carried, answered, read and continued, and time passes: then every command has its answer.
    fn settle(&mut self) {
        for _ in 0..40 {
            self.pass(300);
            for shard in 0..self.shards.len() {
                for index in 0..self.conns[shard].len() {
                    let id = self.conns[shard][index].1.as_ref().map(|conn| conn.id);
                    id.into_iter().for_each(|id| self.input(shard, Input::Alive(id)));
                }
            }
            let mut turns = 0;
            while self.go_on() {
                turns += 1;
                assert!(turns < 100_000, "it does not come to rest");
            }
        }
        assert!(self.app.is_empty(), "the application was never answered: {:?}", self.app);
        assert!(self.forwarded.is_empty(), "nothing came back for {:?}", self.forwarded);
        for (shard, conns) in self.conns.iter().enumerate() {
            for conn in conns.iter().filter_map(|(_, conn)| conn.as_ref()) {
                assert!(conn.pending.is_empty(), "shard {shard}, {:?}: never answered: {:?}", conn.id, conn.pending);
                assert!(!conn.paused, "shard {shard}, {:?} is not read any more", conn.id);
            }
        }
    }

    /// One thing that can be done without the clock. False where there is none.
    fn go_on(&mut self) -> bool {
        for shard in 0..self.shards.len() {
            for index in 0..self.conns[shard].len() {
                let waiting = self.conns[shard][index].1.as_ref().map_or(0, |conn| conn.outbox.bytes());
                if waiting > 0 {
                    self.write(shard, index, waiting);
                    return true;
                }
            }
            if !self.inboxes[shard].is_empty() {
                self.carry(shard);
                return true;
            }
            if self.again[shard] {
                self.input(shard, Input::Continue);
                return true;
            }
        }
        if !self.asked.is_empty() {
            self.answer_question(0, 0);
            return true;
        }
        let next = self.owed.borrow_mut().pop_if(|_| true);
        let Some((shard, token, answer)) = next else { return false };
        self.input(shard, Input::Answer { token, answer });
        true
    }

    /// The shell: one input, and what the hub says must be done.
    fn input(&mut self, shard: usize, input: Input) {
        let (mut inputs, mut effects) = (VecDeque::from([input]), Effects::new());
        while let Some(input) = inputs.pop_front() {
            effects.clear();
            self.shards[shard].handle(self.now, input, &mut effects);
            for effect in effects.take_list() {
                self.effect(shard, effect, &effects, &mut inputs);
            }
            self.again[shard] = effects.again();
        }
        let (counted, held) = (self.shards[shard].stats().sends_bytes, self.shards[shard].held().sends_bytes);
        assert_eq!(counted, held, "bytes of sends on shard {shard}");
        let used = self.shards[shard].stats().history_bytes;
        assert!(used <= self.limits.history_bytes_max, "{used} bytes of history");
    }

    fn effect(&mut self, shard: usize, effect: Effect, effects: &Effects, inputs: &mut VecDeque<Input>) {
        match effect {
            Effect::Push { push, wire, to } => {
                for id in effects.recipients(to) {
                    let lets_in = self.lets_in;
                    let conn = self.received(shard, *id, bytes_of_push(&push), inputs);
                    assert_eq!(conn.wire, wire, "a push is for the wire of its receiver");
                    pushed(conn, &push, lets_in);
                }
            }
            Effect::Reply { conn: id, seat: _, reply: Reply { id: request, body } } => {
                let lets_in = self.lets_in;
                let conn = self.received(shard, id, bytes_of_reply(&body), inputs);
                if let Some(RequestId::Number(request)) = request {
                    let asked = conn.pending.remove(&request);
                    assert!(asked.is_some(), "{request} was not asked, or has had its answer: {body:?}");
                }
                replied(conn, &body, lets_in);
                match &body {
                    ReplyBody::Connected(connected) => self.clients.push(connected.client),
                    ReplyBody::Published { position, .. } => self.places.push(*position),
                    _ => {}
                }
            }
            Effect::Pause(id) => {
                let conn = self.conn(shard, id).expect("only a connection that is there is held");
                assert!(!std::mem::replace(&mut conn.paused, true), "held twice");
            }
            Effect::Resume(id) => {
                let conn = self.conn(shard, id).expect("only a connection that is there is resumed");
                assert!(std::mem::replace(&mut conn.paused, false), "resumed twice");
            }
            Effect::Close { conn: id, .. } => {
                assert!(self.conn(shard, id).is_some(), "closed twice");
                self.conns[shard][id.index as usize].1 = None;
            }
            Effect::Answer { token, answer } => {
                let asked = self.app.remove(&token.0);
                assert!(asked.is_some(), "the application has not asked this, or had its answer: {answer:?}");
            }
            Effect::Answers { .. } => unreachable!("no question was put to members"),
            Effect::Describe(part) => inputs.push_back(Input::Described(part)),
            Effect::Forwarded(forwarded) => {
                let Forwarded { token, answer } = *forwarded;
                let send = self.forwarded.remove(&token.0).expect("what was not forwarded has no answer");
                // A repeated number is answered as the first send with it.
                if let (Ok(replies), None) = (answer, send.n) {
                    let wanted = |request: &&Request| request.id.is_some() && request.command != Command::Pong;
                    let ids = send.requests.iter().filter(wanted).map(|request| &request.id);
                    assert!(ids.eq(replies.iter().filter(|reply| reply.id.is_some()).map(|reply| &reply.id)));
                    for Reply { id, body } in replies.iter() {
                        assert!(id.is_some() || matches!(body, ReplyBody::Error(_)), "{body:?} was not asked for");
                    }
                }
            }
            Effect::Ask { token, question, .. } => self.asked.push((shard, token, *question)),
            Effect::Notice(_) => {}
            Effect::Tell { shard: to, message } => {
                self.inboxes[usize::from(to.0)].push_back((ShardId(shard as u16), message));
            }
        }
    }

    /// A connection is told something: it must be there, and its outbox within bounds.
    fn received(&mut self, shard: usize, id: ConnId, bytes: usize, inputs: &mut VecDeque<Input>) -> &mut Conn {
        let limits = self.limits.clone();
        let conn = self.conn(shard, id).expect("only a connection that is there is told anything");
        conn.frame_max = conn.frame_max.max(bytes);
        if conn.outbox.push(Bytes::from(vec![0; bytes]), limits.outbox_bytes_max) == Appended::Full {
            inputs.push_back(Input::Full(id));
        }
        // A turn gives a page of each channel, and an answer to each command that had been read.
        let frames = limits.outstanding_max + 2 * limits.subscriptions_max + limits.signals_waiting_max + 4;
        let pages = 1 + CHANNELS.len();
        let max = limits.outbox_bytes_max + pages * limits.page_bytes_max + frames * conn.frame_max;
        assert!(conn.outbox.bytes() <= max, "{} bytes wait for {id:?}, {max} may", conn.outbox.bytes());
        conn
    }
}

fn replied(conn: &mut Conn, body: &ReplyBody, lets_in: bool) {
    match body {
        ReplyBody::Subscribed(subscribed) => {
            let rising = subscribed.publications.is_sorted_by(|a, b| a.offset < b.offset);
            assert!(rising && subscribed.publications.iter().all(|p| p.offset <= subscribed.position.offset));
            let before = conn.subs.insert(subscribed.channel.clone(), (subscribed.position, 0));
            assert!(before.is_none() || lets_in, "subscribed to {} twice", subscribed.channel);
        }
        ReplyBody::Unsubscribed { channel } => {
            assert!(conn.subs.remove(channel).is_some(), "unsubscribed from {channel}, which was not subscribed");
        }
        ReplyBody::Many(bodies) => bodies.iter().for_each(|body| replied(conn, body, lets_in)),
        _ => {}
    }
}

fn pushed(conn: &mut Conn, push: &Push, lets_in: bool) {
    match push {
        Push::Message { channel, publication, .. } => published(conn, channel, std::slice::from_ref(publication)),
        Push::Messages { channel, publications } => {
            assert!((2..=200).contains(&publications.len()), "a batch of {}", publications.len());
            published(conn, channel, publications);
        }
        Push::Gap { channel, position, reset } => {
            let (at, _) = subscription(conn, channel);
            assert_eq!(at.epoch != position.epoch, *reset, "{channel}: from {at:?} to {position:?}");
            assert!(*reset || position.offset > at.offset, "{channel}: a gap back from {at:?} to {position:?}");
            *at = *position;
        }
        Push::Signal(signal) => _ = subscription(conn, &signal.signal.channel),
        Push::Volatile { channel, .. } => _ = subscription(conn, channel),
        Push::Presence(push) => _ = subscription(conn, &push.channel),
        Push::PresenceCount { channel, .. } | Push::PresenceSnapshot { channel, .. } => {
            _ = subscription(conn, channel);
        }
        Push::Subscribed(subscribed) => replied(conn, &ReplyBody::Subscribed(subscribed.clone()), lets_in),
        Push::Unsubscribed { channel, .. } => {
            assert!(conn.subs.remove(channel).is_some(), "{channel} was not subscribed");
        }
        Push::Ping | Push::Mark { .. } | Push::Disconnect { .. } => {}
    }
}

fn published(conn: &mut Conn, channel: &ChannelName, publications: &[Arc<Publication>]) {
    let (at, _) = subscription(conn, channel);
    for publication in publications {
        assert!(publication.offset > at.offset, "{channel}: {} after {at:?}", publication.offset);
        at.offset = publication.offset;
    }
}

fn subscription<'c>(conn: &'c mut Conn, channel: &ChannelName) -> &'c mut (Position, usize) {
    conn.subs.get_mut(channel).expect("nothing of a channel is told outside of a subscription")
}

fn bytes_of_push(push: &Push) -> usize {
    match push {
        Push::Message { publication, .. } => bytes_of(std::slice::from_ref(publication)),
        Push::Messages { publications, .. } => bytes_of(publications),
        Push::Signal(signal) => 60 + signal.signal.data.len(),
        _ => 60,
    }
}

fn bytes_of_reply(body: &ReplyBody) -> usize {
    60 + match body {
        ReplyBody::Subscribed(subscribed) => bytes_of(&subscribed.publications),
        ReplyBody::History(history) => bytes_of(&history.publications),
        ReplyBody::Many(bodies) => bodies.iter().map(bytes_of_reply).sum(),
        _ => 0,
    }
}

fn bytes_of(publications: &[Arc<Publication>]) -> usize {
    publications.iter().map(|p| 60 + p.data.bytes().len()).sum()
}

fn room(bytes: &mut Take<'_>) -> Room {
    Room::new(["r", "s"][bytes.below(2)]).expect("a short name")
}

fn channel(bytes: &mut Take<'_>) -> ChannelName {
    ChannelName::new(CHANNELS[bytes.below(CHANNELS.len())]).expect("a name of this file")
}

/// One of a few tables.
fn rules(which: u8) -> Rules {
    let rule = |pattern: &str| Rule::open(Pattern::new(pattern).expect("a pattern of this file"));
    let mut strict = rule("strict:*");
    strict.slow = Slow::ALL[usize::from(which >> 4) % 3];
    strict.history.count = u32::from(which >> 6);
    let mut all = rule("**");
    match which & 7 {
        1 => all.subscribe = vec![Who::Authenticated],
        2 => all.subscribe = vec![Who::Nobody],
        3 => all.rate = Some(crate::RateLimit { count_max: 3, window_ms: 1_000 }),
        4 => all.presence = crate::PresenceMode::Count,
        5 => all.history.count = 0,
        6 => all.history.ttl_ms = 100,
        _ => {}
    }
    Rules::new(vec![rule("own:{user}"), strict, all])
}
