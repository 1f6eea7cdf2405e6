//! A small shell for scenario tests: shards in one thread, a clock that the test moves, connections that remember their
//! messages. It fulfils the contract of `Shard` and decides nothing; it never waits or sleeps.
//!
//! Tests run with one and with three shards, or with `FANFARE_SHARDS` of them.

#![allow(dead_code, unreachable_pub)] // each test file is a crate of its own and uses its part

pub mod kept;
mod messages;
pub mod rooms;

pub use messages::*;

use bytes::Bytes;
use fanfare_hub::*;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

/// The numbers of shards to test with.
pub fn shard_counts() -> Vec<usize> {
    match std::env::var("FANFARE_SHARDS").ok().and_then(|text| text.parse().ok()) {
        Some(count) => vec![count],
        None => vec![1, 3],
    }
}

/// One message that a connection received.
#[derive(Debug, Clone, PartialEq)]
pub enum Received {
    Reply(Reply),
    Push(Push),
}

/// A connection.
#[derive(Debug)]
pub struct Peer {
    pub shard: usize,
    pub conn: ConnId,
    pub received: Vec<Received>,
    pub closed: Option<Disconnect>,
    pub paused: bool,
    /// Its pushes are for this one.
    pub wire: WireId,
    /// False: its outbox fills.
    pub reads: bool,
    outbox: Outbox,
    next_id: u64,
    pub client: Option<ClientId>,
    /// The seat of each reply that it received.
    pub reply_seats: Vec<Seat>,
}

impl Peer {
    fn at(shard: usize, conn: ConnId) -> Self {
        let (received, outbox) = (Vec::new(), Outbox::default());
        Peer {
            shard,
            conn,
            received,
            closed: None,
            paused: false,
            wire: WireId(0),
            reads: true,
            outbox,
            next_id: 0,
            client: None,
            reply_seats: Vec::new(),
        }
    }
}

/// Answers of a store that does not answer at once.
pub type LateAnswers = Rc<RefCell<VecDeque<(usize, OpToken, StoreAnswer)>>>;

/// The shards and everything around them.
pub struct Net {
    pub shards: Vec<Shard>,
    pub limits: Arc<Limits>,
    /// The heartbeat of the connections that are opened from now on.
    pub heartbeat: HeartbeatKind,
    /// What happens on them to commands above a rate.
    pub over_rate: OverRate,
    pub now: Now,
    pub peers: Vec<Peer>,
    effects: Effects,
    inbox: VecDeque<(usize, ShardId, PeerMessage)>,
    again: Vec<bool>,
    /// Fan-outs continue only when the test says so.
    pub paused: bool,
    pub late: LateAnswers,
    /// How often the late stores have lost everything.
    pub losses: Rc<Cell<u64>>,
    /// The application's open questions, by shard, in order.
    pub questions: VecDeque<(usize, HookToken, Question)>,
    /// The connections that questions were about, in order, as their attachments name them.
    pub asked_of: Vec<ConnId>,
    /// The notices to the application, in order.
    pub notices: Vec<Notice>,
    /// Lines for a log.
    pub notes: Vec<Note>,
    /// Answers to the application's commands, by token.
    pub answers: Vec<(AppToken, AppAnswer)>,
    /// Answers of members, by token.
    pub asked: Vec<(AskToken, Answers)>,
    /// Outcomes of commands that came in requests of their own.
    pub forwarded: Vec<Forwarded>,
    /// The largest result of one input: effects, and receivers of pushes.
    pub most: usize,
    next_token: u64,
}

/// A store that answers when the test says so, in order.
struct LateStore {
    shard: usize,
    limits: Arc<Limits>,
    memory: MemoryStore,
    late: LateAnswers,
    losses: Rc<Cell<u64>>,
    /// Of these losses it knows.
    lost: u64,
}

impl Store for LateStore {
    fn submit(&mut self, now: Now, token: OpToken, op: Op) -> Option<StoreAnswer> {
        if std::mem::replace(&mut self.lost, self.losses.get()) != self.losses.get() {
            self.memory = MemoryStore::new(&self.limits, 1_000 * self.lost + self.shard as u64);
        }
        let answer = self.memory.submit(now, token, op)?;
        self.late.borrow_mut().push_back((self.shard, token, answer));
        None
    }

    fn tidy(&mut self, now: Now) {
        self.memory.tidy(now);
    }

    fn bytes_used(&self) -> usize {
        self.memory.bytes_used()
    }
}

/// The page of all clients for which a test names no other: it takes its own sessions over.
pub fn the_page() -> Option<PageId> {
    PageId::new("the page")
}

pub fn channel(name: &str) -> ChannelName {
    ChannelName::new(name).expect("a valid name")
}

pub fn open_rules() -> Rules {
    Rules::new(vec![open_rule("**")])
}

pub fn open_rule(pattern: &str) -> Rule {
    Rule::open(Pattern::new(pattern).expect("a valid pattern"))
}

/// Steps within which everything comes to rest: a fault that makes a shard go on for ever fails its test at once.
const STEPS_MAX: usize = 300_000;

impl Net {
    pub fn new(shards: usize) -> Net {
        Net::with(shards, Limits::default(), open_rules())
    }

    pub fn with(shards: usize, limits: Limits, rules: Rules) -> Net {
        Net::build(shards, limits, rules, Hooks::default(), false)
    }

    /// With a store that answers when [`answer_all`](Self::answer_all) is called.
    pub fn with_late_store(shards: usize, limits: Limits) -> Net {
        Net::build(shards, limits, open_rules(), Hooks::default(), true)
    }

    /// With an application that gets these questions, and answers when the test does.
    pub fn with_hooks(shards: usize, limits: Limits, rules: Rules, hooks: Hooks) -> Net {
        Net::build(shards, limits, rules, hooks, false)
    }

    fn build(count: usize, limits: Limits, rules: Rules, hooks: Hooks, is_late: bool) -> Net {
        let now = Now { mono_ms: 1_000_000, wall_ms: 1_700_000_000_000 };
        let (limits, rules, hooks) = (Arc::new(limits), Arc::new(rules), Arc::new(hooks));
        let late = LateAnswers::default();
        let losses = Rc::new(Cell::new(0));
        let shards = (0..count).map(|me| {
            let memory = MemoryStore::new(&limits, 100 + me as u64);
            let store: Box<dyn Store> = match is_late {
                true => {
                    let (limits, late, losses) = (limits.clone(), late.clone(), losses.clone());
                    Box::new(LateStore { shard: me, limits, memory, late, losses, lost: 0 })
                }
                false => Box::new(memory),
            };
            let config = ShardConfig {
                me: ShardId(me as u16),
                shards: count,
                rules: rules.clone(),
                hooks: hooks.clone(),
                limits: limits.clone(),
                seed: me as u64,
                placement_key: 7,
            };
            Shard::new(config, store, now)
        });
        Net {
            shards: shards.collect(),
            now,
            peers: Vec::new(),
            effects: Effects::new(),
            inbox: VecDeque::new(),
            again: vec![false; count],
            paused: false,
            late,
            losses,
            questions: VecDeque::new(),
            asked_of: Vec::new(),
            notices: Vec::new(),
            notes: Vec::new(),
            answers: Vec::new(),
            asked: Vec::new(),
            forwarded: Vec::new(),
            most: 0,
            next_token: 0,
            heartbeat: HeartbeatKind::Asks,
            over_rate: OverRate::Refuse,
            limits,
        }
    }

    /// The application sends a command on a shard. Messages to other shards wait for [`settle`](Self::settle).
    pub fn app_only(&mut self, shard: usize, command: AppCommand) -> AppToken {
        self.next_token += 1;
        let token = AppToken(self.next_token);
        let shard = shard % self.shards.len();
        self.input(shard, Input::App { token, command });
        token
    }

    /// The answer to a command of the application, once there is one.
    pub fn app_answer(&self, token: AppToken) -> Option<AppAnswer> {
        self.answers.iter().find(|(of, _)| *of == token).map(|(_, answer)| answer.clone())
    }

    /// The application sends a command on a shard and gets its answer.
    pub fn app(&mut self, shard: usize, command: AppCommand) -> AppAnswer {
        let token = self.app_only(shard, command);
        self.settle();
        self.app_answer(token).unwrap_or_else(|| panic!("no answer to {token:?}"))
    }

    /// A command for the session that `peer` has or had comes to a shard in a request of its own. Messages to other
    /// shards wait for [`settle`](Self::settle).
    pub fn forward_only(&mut self, shard: usize, peer: usize, command: Command) -> ForwardToken {
        self.next_token += 1;
        let id = Some(RequestId::Number(self.next_token));
        self.forward_request(shard, peer, Request { id, command })
    }

    pub fn forward_request(&mut self, shard: usize, peer: usize, request: Request) -> ForwardToken {
        self.next_token += 1;
        let token = ForwardToken(self.next_token);
        let to = Resume { shard: ShardId(self.peers[peer].shard as u16), client: self.client(peer) };
        let shard = shard % self.shards.len();
        self.input(shard, Input::Forward { token, to, send: request.into() });
        token
    }

    /// Numbered commands for the session that `peer` has or had come to a shard in one request.
    pub fn send_numbered(&mut self, shard: usize, peer: usize, n: u64, commands: Vec<Command>) -> ForwardToken {
        self.next_token += 1;
        let token = ForwardToken(self.next_token);
        let to = Resume { shard: ShardId(self.peers[peer].shard as u16), client: self.client(peer) };
        let numbered = |(id, command)| Request { id: Some(RequestId::Number(id)), command };
        let requests = (0..).zip(commands).map(numbered).collect();
        let shard = shard % self.shards.len();
        self.input(shard, Input::Forward { token, to, send: SendRequest { n: Some(n), requests, bytes: 100 } });
        token
    }

    /// The whole answer to a request with commands, once there is one.
    pub fn sent(&self, token: ForwardToken) -> Option<Result<Vec<ReplyBody>, Error>> {
        let forwarded = self.forwarded.iter().find(|forwarded| forwarded.token == token)?;
        Some(forwarded.answer.clone().map(|replies| replies.iter().map(|reply| reply.body.clone()).collect()))
    }

    /// The outcome of a forwarded command: `None` as long as it is not known.
    pub fn forwarded(&self, token: ForwardToken) -> Option<Option<ReplyBody>> {
        let forwarded = self.forwarded.iter().find(|forwarded| forwarded.token == token)?;
        Some(match &forwarded.answer {
            Ok(replies) => replies.first().map(|reply| reply.body.clone()),
            Err(error) => Some(ReplyBody::Error(error.clone())),
        })
    }

    /// Forwards a command, settles, and gives its answer.
    pub fn forward(&mut self, shard: usize, peer: usize, command: Command) -> ReplyBody {
        let token = self.forward_only(shard, peer, command);
        self.settle();
        self.forwarded(token).flatten().unwrap_or_else(|| panic!("no answer to {token:?}"))
    }

    /// Opens a connection to a shard, without a session.
    pub fn open(&mut self, shard: usize) -> usize {
        let shard = shard % self.shards.len();
        let conn = ConnId { index: self.peers.len() as u32, generation: 1 };
        self.peers.push(Peer::at(shard, conn));
        self.opened(conn, shard);
        self.peers.len() - 1
    }

    fn opened(&mut self, conn: ConnId, shard: usize) {
        let (grace_ms, heartbeat_ms) = (self.limits.grace_ms as u32, self.limits.heartbeat_ms as u32);
        let attachment = Some(Attachment::new(conn));
        self.input(
            shard,
            Input::Opened {
                conn,
                opened: Opened {
                    wire: WireId(0),
                    grace_ms,
                    heartbeat_ms,
                    heartbeat: self.heartbeat,
                    connect_timeout_ms: None,
                    over_rate: self.over_rate,
                    attachment,
                },
            },
        );
    }

    /// The connection of `peer` ends for good, and a new one takes its place in the shell's table.
    pub fn reopen(&mut self, peer: usize) {
        let Peer { shard, conn, .. } = self.peers[peer];
        self.input(shard, Input::Closed { conn, finally: true });
        let conn = ConnId { generation: conn.generation + 1, ..conn };
        self.peers[peer] = Peer::at(shard, conn);
        self.opened(conn, shard);
    }

    /// Opens a connection and connects it.
    pub fn connect(&mut self, shard: usize) -> usize {
        self.connect_as(shard, Connect::default())
    }

    pub fn connect_as(&mut self, shard: usize, connect: Connect) -> usize {
        self.connect_exactly(shard, Connect { page: connect.page.or(the_page()), ..connect })
    }

    /// The same, with no page unless one is given.
    pub fn connect_exactly(&mut self, shard: usize, connect: Connect) -> usize {
        let peer = self.open(shard);
        match self.ask(peer, Command::Connect(Box::new(connect))) {
            ReplyBody::Connected(connected) => self.peers[peer].client = Some(connected.client),
            other => panic!("not connected but {other:?}"),
        }
        peer
    }

    /// Reconnects as the client of `peer`.
    pub fn resume(&mut self, peer: usize, shard: usize, subscribe: Vec<SubOptions>) -> usize {
        let was = ShardId(self.peers[peer].shard as u16);
        let resume = Some(Resume { shard: was, client: self.client(peer) });
        self.connect_as(shard, Connect { resume, subscribe, ..Connect::default() })
    }

    pub fn client(&self, peer: usize) -> ClientId {
        self.peers[peer].client.expect("connected")
    }

    /// Sends a command and settles; its id.
    pub fn send(&mut self, peer: usize, command: Command) -> u64 {
        let id = self.send_only(peer, command);
        self.settle();
        id
    }

    /// Sends a command. Messages to other shards wait for [`settle`](Self::settle).
    pub fn send_only(&mut self, peer: usize, command: Command) -> u64 {
        self.send_in(peer, Seat::default(), command)
    }

    /// The same for the session in one seat.
    pub fn send_in(&mut self, peer: usize, seat: Seat, command: Command) -> u64 {
        self.peers[peer].next_id += 1;
        let id = self.peers[peer].next_id;
        let Peer { shard, conn, .. } = self.peers[peer];
        let request = Request { id: Some(RequestId::Number(id)), command };
        self.input(shard, Input::Command { conn, seat, request });
        id
    }

    /// Sends a command and gives its answer.
    pub fn ask(&mut self, peer: usize, command: Command) -> ReplyBody {
        let id = self.send(peer, command);
        self.answer_to(peer, id)
            .unwrap_or_else(|| panic!("no answer to {id}; received: {:?}", self.peers[peer].received))
    }

    /// The answer to a command, once there is one.
    pub fn answer_to(&self, peer: usize, id: u64) -> Option<ReplyBody> {
        self.peers[peer].received.iter().find_map(|received| match received {
            Received::Reply(reply) if reply.id == Some(RequestId::Number(id)) => Some(reply.body.clone()),
            _ => None,
        })
    }

    pub fn subscribe(&mut self, peer: usize, name: &str) -> Subscribed {
        self.subscribe_with(peer, SubOptions::new(channel(name)))
    }

    pub fn subscribe_with(&mut self, peer: usize, options: SubOptions) -> Subscribed {
        match self.ask(peer, Command::Subscribe { subs: vec![options], many: false }) {
            ReplyBody::Subscribed(subscribed) => *subscribed,
            other => panic!("not subscribed but {other:?}"),
        }
    }

    pub fn publish(&mut self, peer: usize, name: &str, json: &str) -> Position {
        match self.ask(peer, publish(name, json)) {
            ReplyBody::Published { position, .. } => position,
            other => panic!("not published but {other:?}"),
        }
    }

    /// Publishes `numbers` as payloads.
    pub fn publish_all(&mut self, peer: usize, name: &str, numbers: std::ops::RangeInclusive<u32>) {
        for number in numbers {
            self.publish(peer, name, &number.to_string());
        }
    }

    /// Takes and returns everything that a connection received.
    pub fn take(&mut self, peer: usize) -> Vec<Received> {
        std::mem::take(&mut self.peers[peer].received)
    }

    /// The payloads of the received messages; everything else that was received is dropped.
    pub fn take_messages(&mut self, peer: usize) -> Vec<String> {
        messages(&self.take(peer))
    }

    /// The client is cut off.
    pub fn cut(&mut self, peer: usize) {
        let Peer { shard, conn, .. } = self.peers[peer];
        self.input(shard, Input::Closed { conn, finally: false });
        self.settle();
    }

    /// The client's connection goes on over another wire.
    pub fn rewire(&mut self, peer: usize, wire: WireId) {
        self.peers[peer].wire = wire;
        let Peer { shard, conn, .. } = self.peers[peer];
        self.input(shard, Input::Rewired { conn, wire });
    }

    /// A stalled client reads again, everything.
    pub fn read_again(&mut self, peer: usize) {
        self.peers[peer].reads = true;
        for _ in 0..STEPS_MAX {
            if !self.drain(peer) {
                return;
            }
            self.settle();
        }
        panic!("{STEPS_MAX} times a client has read, and there is more");
    }

    /// All shards get new rules.
    pub fn reload(&mut self, rules: Rules) {
        let rules = Arc::new(rules);
        for shard in 0..self.shards.len() {
            self.input(shard, Input::Reload(rules.clone()));
        }
        self.settle();
    }

    /// The application is asked and notified of other things.
    pub fn reload_hooks(&mut self, hooks: Hooks) {
        let hooks = Arc::new(hooks);
        for shard in 0..self.shards.len() {
            self.input(shard, Input::Hooks(hooks.clone()));
        }
        self.settle();
    }

    /// Lets time pass, with every timer at its time.
    pub fn pass(&mut self, ms: u64) {
        let end = self.now.mono_ms + ms;
        while self.now.mono_ms < end {
            let step = 128.min(end - self.now.mono_ms);
            self.now.mono_ms += step;
            self.now.wall_ms += step;
            for shard in 0..self.shards.len() {
                self.input(shard, Input::Wake);
            }
            self.settle();
        }
    }

    /// All connections give a sign of life, as clients that answer heartbeats do.
    pub fn all_alive(&mut self) {
        for peer in 0..self.peers.len() {
            let Peer { shard, conn, .. } = self.peers[peer];
            self.input(shard, Input::Alive(conn));
        }
    }

    /// The late stores lose everything that they had. Their channels begin new epochs.
    pub fn lose_stores(&mut self) {
        self.losses.set(self.losses.get() + 1);
    }

    /// The late store gives one of its answers, chosen by its place in the order of the questions.
    pub fn answer_one(&mut self, place: usize) {
        let (shard, token, answer) = self.late.borrow_mut().remove(place).expect("the store is asked");
        self.input(shard, Input::Answer { token, answer });
    }

    /// The late store gives its due answers, and the answers to requests that follow from them.
    pub fn answer_all(&mut self) {
        self.settle();
        for _ in 0..STEPS_MAX {
            let Some((shard, token, answer)) = self.late.borrow_mut().pop_front() else { return };
            self.input(shard, Input::Answer { token, answer });
            self.settle();
        }
        panic!("the store has answered {STEPS_MAX} times, and is still asked");
    }

    /// Carries one message that is on its way between shards, chosen by its place in the order of sending.
    pub fn carry(&mut self, place: usize) {
        let (shard, from, message) = self.inbox.remove(place).expect("a message is on its way");
        self.input(shard, Input::Peer { from, message });
    }

    /// Carries all messages that are on their way from one shard to another, and the messages that follow from them.
    /// All others wait.
    pub fn carry_from(&mut self, from: usize, to: usize) {
        let is_between =
            |(shard, sender, _): &(usize, ShardId, PeerMessage)| *shard == to && usize::from(sender.0) == from;
        for _ in 0..STEPS_MAX {
            let Some(place) = self.inbox.iter().position(is_between) else { return };
            self.carry(place);
        }
        panic!("shard {from} does not stop sending to shard {to}");
    }

    /// A channel that lives on this shard.
    pub fn channel_of(&mut self, shard: usize) -> String {
        let peer = self.connect(shard);
        let name = (0..100).map(|n| format!("chat:{n}")).find(|name| {
            let before = self.inbox.len();
            self.send_only(peer, Command::Presence { channel: channel(name) });
            let is_here = self.inbox.len() == before;
            self.settle();
            is_here
        });
        name.expect("one of a hundred channels lives there")
    }

    /// Carries messages between shards and continues fan-outs until all are done.
    pub fn settle(&mut self) {
        for _ in 0..STEPS_MAX {
            if let Some((shard, from, message)) = self.inbox.pop_front() {
                self.input(shard, Input::Peer { from, message });
            } else if let Some(peer) = (0..self.peers.len()).find(|p| self.peers[*p].reads && self.has_output(*p)) {
                self.drain(peer);
            } else if let Some(shard) = self.again.iter().position(|again| *again).filter(|_| !self.paused) {
                self.input(shard, Input::Continue);
            } else {
                return;
            }
        }
        panic!("the shards do not come to rest within {STEPS_MAX} steps");
    }

    /// One slice of interrupted work, on every shard.
    pub fn go_on_once(&mut self) {
        for shard in 0..self.shards.len() {
            self.input(shard, Input::Continue);
        }
    }

    fn has_output(&self, peer: usize) -> bool {
        !self.peers[peer].outbox.is_empty()
    }

    pub fn drain(&mut self, peer: usize) -> bool {
        let outbox_max = self.limits.outbox_bytes_max;
        let Peer { shard, conn, ref mut outbox, .. } = self.peers[peer];
        let bytes = outbox.bytes();
        if outbox.advance(bytes, outbox_max) {
            self.input(shard, Input::Drained(conn));
        }
        bytes > 0
    }

    /// One input, and the effects that follow.
    pub fn input(&mut self, shard: usize, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut effects = std::mem::take(&mut self.effects);
            effects.clear();
            self.shards[shard].handle(self.now, input, &mut effects);
            let mut list = effects.take_list();
            let receivers = |effect: &Effect| match effect {
                Effect::Push { to, .. } => effects.recipients(*to).len(),
                _ => 1,
            };
            self.most = self.most.max(list.iter().map(receivers).sum());
            for effect in list.drain(..) {
                self.effect(shard, effect, &effects, &mut inputs);
            }
            effects.put_back(list);
            self.again[shard] = effects.again();
            self.notes.extend_from_slice(effects.notes());
            self.effects = effects;
        }
    }

    fn effect(&mut self, shard: usize, effect: Effect, effects: &Effects, inputs: &mut VecDeque<Input>) {
        match effect {
            Effect::Push { push, wire, to } => {
                for conn in effects.recipients(to).to_vec() {
                    assert_eq!(self.peers[conn.index as usize].wire, wire, "a push is for the wire of its receiver");
                    let bytes = match &push {
                        Push::Message { publication, .. } => publication.data.bytes().len() + 60,
                        Push::Messages { publications, .. } => {
                            publications.iter().map(|p| p.data.bytes().len() + 60).sum()
                        }
                        Push::PresenceSnapshot { snapshot, .. } => 60 + snapshot.cost(),
                        _ => 60,
                    };
                    self.tell(conn, Received::Push(push.clone()), bytes, inputs);
                }
            }
            Effect::Reply { conn, seat, reply } => {
                self.peers[conn.index as usize].reply_seats.push(seat);
                let bytes = match &reply.body {
                    ReplyBody::History(history) => history.publications.iter().map(|p| p.cost()).sum(),
                    ReplyBody::Presence { snapshot, .. } => snapshot.cost(),
                    _ => 0,
                };
                self.tell(conn, Received::Reply(reply), 100 + bytes, inputs);
            }
            Effect::Pause(conn) => self.peers[conn.index as usize].paused = true,
            Effect::Resume(conn) => self.peers[conn.index as usize].paused = false,
            Effect::Close { conn, reason } => self.peers[conn.index as usize].closed = Some(reason),
            Effect::Answer { token, answer } => {
                assert!(self.answers.iter().all(|(other, _)| *other != token), "{token:?} was answered twice");
                self.answers.push((token, answer));
            }
            Effect::Answers { token, answers } => {
                assert!(self.asked.iter().all(|(other, _)| *other != token), "{token:?} was answered twice");
                self.asked.push((token, *answers));
            }
            Effect::Describe(part) => inputs.push_back(Input::Described(part)),
            Effect::Forwarded(forwarded) => {
                let is_new = self.forwarded.iter().all(|other| other.token != forwarded.token);
                assert!(is_new, "{forwarded:?} came twice");
                self.forwarded.push(*forwarded);
            }
            Effect::Ask { token, question, attachment } => {
                self.asked_of.extend(attachment.as_ref().and_then(Attachment::get::<ConnId>));
                self.questions.push_back((shard, token, *question));
            }
            Effect::Notice(notice) => self.notices.push(*notice),
            Effect::Tell { shard: to, message } => {
                self.inbox.push_back((usize::from(to.0), ShardId(shard as u16), message));
            }
        }
    }

    fn tell(&mut self, conn: ConnId, received: Received, bytes: usize, inputs: &mut VecDeque<Input>) {
        let peer = &mut self.peers[conn.index as usize];
        assert!(peer.closed.is_none(), "{received:?} for a connection that was closed");
        peer.received.push(received);
        if peer.outbox.push(Bytes::from(vec![0; bytes]), self.limits.outbox_bytes_max) == Appended::Full {
            inputs.push_back(Input::Full(conn));
        }
    }

    /// The first open question.
    pub fn asked(&mut self) -> (usize, HookToken, Question) {
        self.questions.pop_front().expect("the application is asked something")
    }

    /// The application answers its first open question, and everything settles. Returns the question.
    pub fn answer(&mut self, answer: HookAnswer) -> Question {
        let (shard, token, question) = self.asked();
        self.answer_as(shard, token, answer);
        question
    }

    /// The application answers this question.
    pub fn answer_as(&mut self, shard: usize, token: HookToken, answer: HookAnswer) {
        self.input(shard, Input::HookAnswer { token, answer: Box::new(answer) });
        self.settle();
    }

    /// Bytes that wait for a connection.
    pub fn waiting_bytes(&self, peer: usize) -> usize {
        self.peers[peer].outbox.bytes()
    }
}

/// Two clients of `chat:a`: the first one's connection has no reader, and the second one reads.
pub fn away_and_reader(net: &mut Net) -> (usize, usize) {
    let (away, reader) = (net.connect(0), net.connect(1));
    for peer in [away, reader] {
        net.subscribe(peer, "chat:a");
        net.take(peer);
    }
    net.peers[away].reads = false;
    (away, reader)
}

impl Net {
    /// Subscribes with a store that answers late, and waits for it.
    pub fn subscribe_late(&mut self, peer: usize, name: &str) {
        let options = SubOptions::new(channel(name));
        let id = self.send(peer, Command::Subscribe { subs: vec![options], many: false });
        self.answer_all();
        assert!(matches!(self.answer_to(peer, id), Some(ReplyBody::Subscribed(_))));
    }
}
