//! A client of the simulation: it connects, subscribes, publishes, comes back after a cut at its position, and keeps
//! every message. The judge (`checker`) judges its messages; the client only acts.

use crate::app::CLOSED;
use crate::chances::pick_of;
use crate::plan::{Habit, Plan};
use crate::quotas::is_over_quota;
use crate::wire::{ToClient, token_of};
use bytes::Bytes;
use fanfare_hub::{
    Audience, ChannelName, ClientId, Command, Connect, Connected, Data, Disconnect, ErrorCode, HistoryFrom,
    HistoryQuery, PageId, Position, Proof, Publication, Publish, Push, ReplyBody, Request, RequestId, Resume, Rng,
    Room, RoomCommand, ShardId, Signal, SubOptions, UserId,
};
use std::collections::BTreeMap;

/// The rooms of each channel.
const ROOMS: [&str; 4] = ["red", "blue", "green", "grey"];

/// The actions that a client chooses.
#[derive(Debug)]
pub(crate) enum Act {
    Send(Request),
    /// It sends a text that is no command, and is owed this error.
    Text(String, ErrorCode),
    /// It ends the connection; `finally` if it closes.
    Close {
        finally: bool,
    },
    Nothing,
}

/// How the messages of a client's connection are carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Socket,
    /// Commands come by sends. `subscribes`: subscriptions too, and not only by `connect`.
    Polls {
        subscribes: bool,
    },
}

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) number: usize,
    pub(crate) transport: Transport,
    pub(crate) pipe: Option<usize>,
    pub(crate) online: bool,
    pub(crate) shard: usize,
    pub(crate) user: Option<UserId>,
    /// As the server sealed it.
    pub(crate) sealed: Option<Box<str>>,
    pub(crate) id: Option<ClientId>,
    pub(crate) ticket: Option<Resume>,
    /// The last answer to a poll of this session that it has had.
    pub(crate) ack: Option<u64>,
    /// The page, which tells this client from another one with its ticket.
    page: Option<PageId>,
    pub(crate) retry_ms: u64,
    pub(crate) heard_ms: u64,
    /// The server stops, and wants it to leave then.
    leave_ms: Option<u64>,
    pub(crate) wanted: BTreeMap<ChannelName, Wanted>,
    pending: BTreeMap<u64, PendingCommand>,
    next_id: u64,
    peers: Vec<ClientId>,
    /// Publications whose outcome is not known: (channel, key, payload), to be sent again with the same key.
    again: Vec<Publish>,
    /// Some of its last publications with a key.
    keyed: Vec<Publish>,
}

/// A channel that the client wants to follow.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) state: SubState,
    since: Option<Position>,
    /// The place of the last publication that it has had.
    last: Option<Position>,
    presence: bool,
    recent: Option<u32>,
    retry_ms: u64,
    /// The application made it, and the client has not subscribed by itself.
    is_made: bool,
}

#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
pub(crate) enum SubState {
    #[default]
    Idle,
    Requested,
    Live,
}

#[derive(Debug, Clone)]
enum PendingCommand {
    Connect,
    Subscribe(Vec<ChannelName>),
    Unsubscribe(ChannelName),
    Publish(Box<Publish>),
    Other,
}

/// The numbers of one author's payloads. No two authors use the same number, and one author's actions do not change
/// those of another.
#[derive(Debug)]
pub(crate) struct Numbers {
    author: u64,
    next: u64,
    is_calm: bool,
}

impl Numbers {
    const AUTHORS_MAX: u64 = 256;
    /// Numbers from here on are given out after all faults.
    pub(crate) const CALM_FROM: u64 = 1 << 40;

    pub(crate) fn new(author: u64) -> Self {
        Numbers { author: author % Self::AUTHORS_MAX, next: 0, is_calm: false }
    }

    /// All faults are over.
    pub(crate) fn calm(&mut self) {
        self.is_calm = true;
    }

    /// The last number that was given out.
    pub(crate) fn last(&self) -> u64 {
        let from = if self.is_calm { Self::CALM_FROM } else { 0 };
        from + self.next * Self::AUTHORS_MAX + self.author
    }

    /// The next number.
    pub(crate) fn take(&mut self) -> u64 {
        self.next += 1;
        self.last()
    }

    pub(crate) fn payload(&mut self, rng: &mut Rng, pad_max: u64) -> Bytes {
        let number = self.take();
        let pad = rng.below(pad_max) as usize;
        Bytes::from(format!("{{\"n\":{number},\"pad\":\"{}\"}}", "x".repeat(pad)))
    }
}

impl Client {
    pub(crate) fn new(number: usize, rng: &mut Rng) -> Self {
        let user = (rng.below(3) > 0).then(|| UserId(format!("user{}", rng.below(4)).into()));
        Client {
            number,
            transport: Transport::Socket,
            pipe: None,
            online: false,
            shard: 0,
            user,
            sealed: None,
            id: None,
            ticket: None,
            ack: None,
            page: PageId::new(&format!("page {number}")),
            retry_ms: rng.below(300),
            heard_ms: 0,
            leave_ms: None,
            wanted: BTreeMap::new(),
            pending: BTreeMap::new(),
            next_id: 0,
            peers: Vec::new(),
            again: Vec::new(),
            keyed: Vec::new(),
        }
    }

    /// The first command of a new connection. While faults happen it leaves out a channel now and then.
    pub(crate) fn connect(&mut self, rng: &mut Rng, plan: &Plan, is_calm: bool) -> Request {
        self.pending.clear();
        self.leave_ms = None;
        self.online = false;
        if self.transport != Transport::Socket
            && rng.below(2) == 0
            && let Some(channel) = pick_of(rng, &plan.channels)
        {
            let wanted = Wanted { presence: rng.below(2) == 0, ..Wanted::default() };
            self.wanted.entry(channel.clone()).or_insert(wanted);
        }
        let mut subscribe = Vec::new();
        for (channel, wanted) in &mut self.wanted {
            if rng.below(8) > 0 || is_calm {
                wanted.state = SubState::Requested;
                subscribe.push(options(channel, wanted, plan.habit(self.number, channel)));
            } else {
                wanted.state = SubState::Idle;
            }
        }
        let info = (self.user.is_some() && rng.below(2) == 0).then(|| Bytes::from_static(b"{\"name\":\"n\"}"));
        let user = self.user.clone();
        let proof = Proof { info, ..Proof::default() };
        let (resume, page) = (self.ticket, self.page.clone());
        let connect = Connect { user, proof, resume, page, ack: self.ack, subscribe, ..Connect::default() };
        self.request(Command::Connect(Box::new(connect)), PendingCommand::Connect)
    }

    fn request(&mut self, command: Command, asked: PendingCommand) -> Request {
        self.next_id += 1;
        self.pending.insert(self.next_id, asked);
        Request { id: Some(RequestId::Number(self.next_id)), command }
    }

    /// The connection is gone: its live subscriptions must be made again.
    pub(crate) fn closed(&mut self, now_ms: u64, rng: &mut Rng) {
        self.pipe = None;
        self.online = false;
        let away_max_ms = if rng.below(6) == 0 { 4_000 } else { 400 };
        self.retry_ms = now_ms + 20 + rng.below(away_max_ms);
        for wanted in self.wanted.values_mut() {
            wanted.state = SubState::Idle;
        }
        for asked in std::mem::take(&mut self.pending).into_values() {
            if let PendingCommand::Publish(publish) = asked
                && publish.idempotency_key.is_some()
                && self.again.len() < 8
            {
                self.again.push(*publish);
            }
        }
    }

    pub(crate) fn got(&mut self, now_ms: u64, message: &ToClient) -> Option<Request> {
        self.heard_ms = now_ms;
        match message {
            ToClient::Push(push) => return self.pushed(now_ms, push),
            ToClient::Reply(reply) => {
                let asked = match &reply.id {
                    Some(RequestId::Number(id)) => self.pending.remove(id),
                    _ => None,
                };
                match asked {
                    Some(PendingCommand::Subscribe(channels)) => {
                        let bodies = match &reply.body {
                            ReplyBody::Many(bodies) => bodies.as_slice(),
                            body => std::slice::from_ref(body),
                        };
                        // One error may be about all of them.
                        for (channel, body) in channels.iter().zip(bodies.iter().cycle()) {
                            self.subscribed(now_ms, channel, body);
                        }
                    }
                    Some(asked) => self.answered(asked, &reply.body),
                    None => {
                        let channel = match &reply.body {
                            ReplyBody::Subscribed(subscribed) => Some(subscribed.channel.clone()),
                            ReplyBody::Error(error) => error.channel.clone(),
                            _ => None,
                        };
                        if let Some(channel) = channel {
                            self.subscribed(now_ms, &channel, &reply.body);
                        }
                    }
                }
            }
        }
        None
    }

    fn answered(&mut self, asked: PendingCommand, body: &ReplyBody) {
        match (asked, body) {
            (PendingCommand::Connect, ReplyBody::Connected(connected)) => {
                let Connected { client, resumed, .. } = **connected;
                self.ack = self.ack.filter(|_| resumed);
                self.online = true;
                self.id = Some(client);
                self.ticket = Some(Resume { shard: ShardId(self.shard as u16), client });
            }
            (PendingCommand::Publish(publish), ReplyBody::Error(error)) => {
                let again = matches!(error.code, ErrorCode::Unknown | ErrorCode::Unavailable);
                if again && publish.idempotency_key.is_some() && self.again.len() < 8 {
                    self.again.push(*publish);
                }
            }
            // It was not done, so it is subscribed as before, if it was: that shows with its next attempt.
            (PendingCommand::Unsubscribe(channel), ReplyBody::Error(error)) if is_over_quota(error) => {
                self.wanted.entry(channel).or_default();
            }
            (PendingCommand::Unsubscribe(channel), ReplyBody::Unsubscribed { .. }) => {
                self.wanted.remove(&channel);
            }
            _ => {}
        }
    }

    fn subscribed(&mut self, now_ms: u64, channel: &ChannelName, body: &ReplyBody) {
        let Some(wanted) = self.wanted.get_mut(channel) else { return };
        match body {
            ReplyBody::Subscribed(subscribed) => {
                wanted.state = SubState::Live;
                wanted.since = Some(subscribed.position);
                if let Some(last) = subscribed.publications.last() {
                    wanted.last = Some(Position { offset: last.offset, ..subscribed.position });
                }
            }
            ReplyBody::Error(error) if error.code == ErrorCode::AlreadySubscribed => {}
            // The application has not confirmed it any more, or the rule is too strict for the client's options.
            ReplyBody::Error(error)
                if (error.code == ErrorCode::Denied && **channel == *CLOSED) || error.code == ErrorCode::BadRequest =>
            {
                self.wanted.remove(channel);
            }
            _ => {
                wanted.state = SubState::Idle;
                wanted.retry_ms = now_ms + 300;
            }
        }
    }

    fn pushed(&mut self, now_ms: u64, push: &Push) -> Option<Request> {
        match push {
            Push::Disconnect { reason: Disconnect::Shutdown, delay_ms } => self.leave_ms = Some(now_ms + delay_ms),
            Push::Ping => return Some(Request { id: None, command: Command::Pong }),
            Push::Message { channel, publication, .. } => self.message(channel, publication),
            Push::Messages { channel, publications } => {
                publications.iter().for_each(|publication| self.message(channel, publication));
            }
            Push::Gap { channel, position, .. } => {
                if let Some(wanted) = self.wanted.get_mut(channel) {
                    wanted.since = Some(*position);
                }
            }
            Push::Subscribed(subscribed) => {
                // If the client has sent an `unsubscribe` meanwhile, that ends it.
                let leaves = |asked: &PendingCommand| matches!(asked, PendingCommand::Unsubscribe(of) if *of == subscribed.channel);
                if !self.pending.values().any(leaves) {
                    let wanted = self.wanted.entry(subscribed.channel.clone()).or_default();
                    wanted.is_made = wanted.state != SubState::Requested;
                    wanted.state = SubState::Live;
                    wanted.since = Some(subscribed.position);
                }
            }
            Push::Unsubscribed { channel, .. } if **channel == *CLOSED => drop(self.wanted.remove(channel)),
            Push::Unsubscribed { channel, .. } => {
                if let Some(wanted) = self.wanted.get_mut(channel) {
                    wanted.state = SubState::Idle;
                    wanted.retry_ms = now_ms + 300;
                }
            }
            Push::Signal(signal) => {
                if let Some(from) = signal.from.client {
                    self.meet(from);
                }
            }
            _ => {}
        }
        None
    }

    fn message(&mut self, channel: &ChannelName, publication: &Publication) {
        if let Some(from) = publication.from.as_ref().and_then(|from| from.client) {
            self.meet(from);
        }
        let Some(wanted) = self.wanted.get_mut(channel) else { return };
        if let Some(since) = &mut wanted.since {
            match publication.begins.as_deref() {
                Some(&epoch) if epoch != since.epoch => *since = Position { epoch, offset: publication.offset },
                _ => since.offset = since.offset.max(publication.offset),
            }
            wanted.last = Some(Position { offset: publication.offset, ..*since });
        }
    }

    fn meet(&mut self, client: ClientId) {
        if !self.peers.contains(&client) {
            self.peers.push(client);
            if self.peers.len() > 6 {
                self.peers.remove(0);
            }
        }
    }

    /// The actions that every client must take: come back, subscribe again, give up a silent connection.
    pub(crate) fn upkeep(&mut self, now_ms: u64, silence_max_ms: u64, plan: &Plan) -> Act {
        let leaves = self.leave_ms.is_some_and(|at_ms| at_ms <= now_ms);
        if self.pipe.is_some() && (leaves || now_ms > self.heard_ms + silence_max_ms) {
            return Act::Close { finally: false };
        }
        if !self.online {
            return Act::Nothing;
        }
        let idle =
            |(_, wanted): &(&ChannelName, &mut Wanted)| wanted.state == SubState::Idle && now_ms >= wanted.retry_ms;
        let may_subscribe = self.may_subscribe();
        if let Some((channel, wanted)) = self.wanted.iter_mut().find(idle) {
            match self.transport {
                // It subscribes by `connect` only.
                Transport::Polls { subscribes: false } => return Act::Close { finally: false },
                Transport::Polls { .. } if !may_subscribe => return Act::Nothing,
                _ => {}
            }
            wanted.state = SubState::Requested;
            let options = options(channel, wanted, plan.habit(self.number, channel));
            let channel = channel.clone();
            let command = Command::Subscribe { subs: vec![options], many: false };
            return Act::Send(self.request(command, PendingCommand::Subscribe(vec![channel])));
        }
        Act::Nothing
    }

    /// False while the answer to a `subscribe` or `unsubscribe` may come after messages that come later.
    fn may_subscribe(&self) -> bool {
        let is_open =
            |asked: &PendingCommand| matches!(asked, PendingCommand::Subscribe(_) | PendingCommand::Unsubscribe(_));
        match self.transport {
            Transport::Socket => true,
            Transport::Polls { subscribes } => subscribes && !self.pending.values().any(is_open),
        }
    }

    /// Its presence command just before it comes back elsewhere.
    pub(crate) fn farewell(&mut self, rng: &mut Rng, numbers: &mut Numbers) -> Option<Request> {
        let live: Vec<&ChannelName> = self
            .wanted
            .iter()
            .filter(|(_, wanted)| wanted.state == SubState::Live)
            .map(|(channel, _)| channel)
            .collect();
        let channel = pick_of(rng, &live).map(|channel| (*channel).clone())?;
        let command = match rng.below(3) {
            0 => Command::PresenceClear { channel },
            _ => Command::PresenceSet { channel, data: numbers.payload(rng, 8), person: None },
        };
        Some(self.request(command, PendingCommand::Other))
    }

    /// One free act of a client that is online.
    pub(crate) fn act(&mut self, rng: &mut Rng, plan: &Plan, numbers: &mut Numbers) -> Act {
        let (channels, pad) = (&plan.channels[..], plan.payload_max);
        let Some(channel) = pick_of(rng, channels).cloned() else { return Act::Nothing };
        let known = self.wanted.get(&channel).map(|wanted| wanted.state);
        match rng.below(32) {
            0..=4 if !self.may_subscribe() => Act::Nothing,
            0..=3 if known.is_none() => {
                let presence = rng.below(2) == 0;
                let recent = (rng.below(3) == 0).then(|| 1 + rng.below(20) as u32);
                let mut all = vec![channel];
                if rng.below(3) == 0 {
                    let more = |c: &&ChannelName| **c != all[0] && !self.wanted.contains_key(*c);
                    let more: Vec<ChannelName> = channels.iter().filter(more).cloned().collect();
                    all.extend(more);
                }
                let mut subs = Vec::new();
                for channel in &all {
                    let wanted = Wanted { state: SubState::Requested, presence, recent, ..Wanted::default() };
                    subs.push(options(channel, &wanted, plan.habit(self.number, channel)));
                    self.wanted.insert(channel.clone(), wanted);
                }
                let many = subs.len() > 1 || rng.below(4) == 0;
                Act::Send(self.request(Command::Subscribe { subs, many }, PendingCommand::Subscribe(all)))
            }
            4 if known.is_some() => {
                // Not wanted from here on, even if it was still being requested: the commands are ordered.
                self.wanted.remove(&channel);
                Act::Send(
                    self.request(
                        Command::Unsubscribe { channel: channel.clone() },
                        PendingCommand::Unsubscribe(channel),
                    ),
                )
            }
            5..=18 => {
                let repeats = rng.below(8) == 0;
                let repeated = pick_of(rng, &self.keyed).filter(|_| repeats).cloned();
                let publish = match self.again.pop().or(repeated) {
                    // The same key for something else is refused, if the key is still known.
                    Some(mut again) if rng.below(10) == 0 => {
                        again.data = Data::Json(numbers.payload(rng, pad));
                        again
                    }
                    Some(again) => again,
                    None => {
                        let data = Data::Json(numbers.payload(rng, pad));
                        let idempotency_key = (rng.below(3) == 0).then(|| format!("k{}", numbers.last()).into());
                        Publish { channel, data, event: None, idempotency_key, echo: rng.below(4) > 0 }
                    }
                };
                if publish.idempotency_key.is_some() && !self.keyed.contains(&publish) {
                    self.keyed.truncate(4);
                    self.keyed.insert(0, publish.clone());
                }
                Act::Send(self.publish(publish))
            }
            19 | 20 => {
                let data = numbers.payload(rng, 10);
                Act::Send(self.request(Command::PresenceSet { channel, data, person: None }, PendingCommand::Other))
            }
            21 => Act::Send(self.request(Command::PresenceClear { channel }, PendingCommand::Other)),
            22 | 23 => Act::Send(self.request(Command::Presence { channel }, PendingCommand::Other)),
            24 => {
                let since = self.wanted.get(&channel).and_then(|wanted| wanted.since);
                let from = match (rng.below(3), since) {
                    (0, Some(since)) => HistoryFrom::Since(since),
                    (1, Some(since)) => HistoryFrom::Before(since),
                    _ => HistoryFrom::Newest,
                };
                let query = HistoryQuery { from, limit: 1 + rng.below(30) as u32 };
                Act::Send(self.request(Command::History { channel, query }, PendingCommand::Other))
            }
            25..=28 => {
                let to = match (rng.below(2), self.peers.len() as u64) {
                    (0, peers) if peers > 0 => Some(self.peers[rng.below(peers) as usize]),
                    _ => None,
                };
                let event = ["move", "typing"][rng.below(2) as usize].into();
                let signal = Signal { channel, event, data: numbers.payload(rng, 30), to };
                Act::Send(self.request(Command::Signal(Box::new(signal)), PendingCommand::Other))
            }
            // It takes over what the application made, with options of its own.
            30 if self.transport == Transport::Socket
                && self.wanted.get(&channel).is_some_and(|wanted| wanted.is_made) =>
            {
                let habit = plan.habit(self.number, &channel);
                let recent = (rng.below(3) == 0).then(|| 1 + rng.below(20) as u32);
                let knows = rng.below(2) == 0;
                let wanted = self.wanted.entry(channel.clone()).or_default();
                (wanted.is_made, wanted.presence, wanted.recent) = (false, true, recent);
                let since = wanted.since.filter(|_| knows);
                let subs = vec![SubOptions { since, ..options(&channel, wanted, habit) }];
                let many = rng.below(4) == 0;
                Act::Send(self.request(Command::Subscribe { subs, many }, PendingCommand::Subscribe(vec![channel])))
            }
            29 if rng.below(8) == 0 => Act::Close { finally: rng.below(3) == 0 },
            _ => Act::Nothing,
        }
    }

    /// Enters or leaves a room of a channel that it follows, or publishes to those in some rooms.
    pub(crate) fn in_rooms(&mut self, rng: &mut Rng, plan: &Plan, numbers: &mut Numbers) -> Act {
        let live = |(_, wanted): &(&ChannelName, &Wanted)| wanted.state == SubState::Live;
        let live: Vec<ChannelName> = self.wanted.iter().filter(live).map(|(channel, _)| channel.clone()).collect();
        let Some(channel) = pick_of(rng, &live).cloned() else { return Act::Nothing };
        let some = |rng: &mut Rng, max: u64| -> Vec<Room> {
            (0..rng.below(max + 1)).filter_map(|_| Room::new(ROOMS[rng.below(ROOMS.len() as u64) as usize])).collect()
        };
        let one = Room::new(ROOMS[rng.below(ROOMS.len() as u64) as usize]);
        let (command, pending) = match (rng.below(10), one) {
            (0..=2, Some(room)) => (RoomCommand::Join { channel, room }, PendingCommand::Other),
            (3 | 4, Some(room)) => (RoomCommand::Leave { channel, room }, PendingCommand::Other),
            _ => {
                let peer = |rng: &mut Rng, peers: &[ClientId]| pick_of(rng, peers).copied().into_iter().collect();
                let own = self.id.into_iter().collect();
                let audience = Audience {
                    rooms: some(rng, 2),
                    except_rooms: if rng.below(4) == 0 { some(rng, 2) } else { Vec::new() },
                    only: if rng.below(8) == 0 { peer(rng, &self.peers) } else { Vec::new() },
                    except: match rng.below(4) {
                        0 => own,
                        1 => peer(rng, &self.peers),
                        _ => Vec::new(),
                    },
                };
                let data = Data::Json(numbers.payload(rng, plan.payload_max));
                let echo = rng.below(8) > 0;
                let publish = Publish { channel, data, event: None, idempotency_key: None, echo };
                (RoomCommand::Publish { publish, audience }, PendingCommand::Other)
            }
        };
        Act::Send(self.request(Command::Room(Box::new(command)), pending))
    }

    /// Signals to one client in a row: they arrive in this order, however full its outbox is.
    pub(crate) fn signals_in_a_row(&mut self, rng: &mut Rng, numbers: &mut Numbers) -> Vec<Request> {
        const MAX: u64 = 4;
        let live = |(_, wanted): &(&ChannelName, &Wanted)| wanted.state == SubState::Live;
        let live: Vec<ChannelName> = self.wanted.iter().filter(live).map(|(channel, _)| channel.clone()).collect();
        let (Some(channel), Some(&to)) = (pick_of(rng, &live), pick_of(rng, &self.peers)) else { return Vec::new() };
        let signals = (0..2 + rng.below(MAX - 1)).map(|_| {
            let (channel, data) = (channel.clone(), numbers.payload(rng, 30));
            Signal { channel, event: "offer".into(), data, to: Some(to) }
        });
        let signals: Vec<Signal> = signals.collect();
        let commands = signals.into_iter().map(|signal| Command::Signal(Box::new(signal)));
        commands.map(|command| self.request(command, PendingCommand::Other)).collect()
    }

    /// Sends what is no command.
    pub(crate) fn rude(&mut self, rng: &mut Rng, plan: &Plan) -> Act {
        let large = "x".repeat(plan.limits.message_bytes_max + 1);
        let texts: [(String, ErrorCode); 8] = [
            ("{\"type\":\"shout\",\"id\":@}".to_owned(), ErrorCode::UnknownCommand),
            ("{\"type\":\"publish\",\"id\":@,\"channel\":\"chat:0\"}".to_owned(), ErrorCode::BadRequest),
            ("{\"type\":\"history\",\"id\":@,\"channel\":\"chat:0\",\"limit\":0}".to_owned(), ErrorCode::BadRequest),
            ("{\"type\":\"unsubscribe\",\"id\":@,\"channel\":\"a b\"}".to_owned(), ErrorCode::BadRequest),
            ("{\"type\":\"subscribe\",\"id\":@,\"channel\":7}".to_owned(), ErrorCode::BadRequest),
            (
                format!("{{\"type\":\"publish\",\"id\":@,\"channel\":\"chat:0\",\"data\":\"{large}\"}}"),
                ErrorCode::TooLarge,
            ),
            ("{\"type\":".to_owned(), ErrorCode::BadRequest),
            ("[7]".to_owned(), ErrorCode::BadRequest),
        ];
        let Some((text, code)) = pick_of(rng, &texts) else { return Act::Nothing };
        if text.contains('@') {
            self.next_id += 1;
            self.pending.insert(self.next_id, PendingCommand::Other);
        }
        Act::Text(text.replace('@', &self.next_id.to_string()), *code)
    }

    /// Calls a method.
    pub(crate) fn call(&mut self, rng: &mut Rng, numbers: &mut Numbers) -> Act {
        let command = Command::Rpc { method: "echo".into(), data: numbers.payload(rng, 40) };
        Act::Send(self.request(command, PendingCommand::Other))
    }

    /// Shows a newer token, sometimes another user's.
    pub(crate) fn refresh(&mut self, rng: &mut Rng, plan: &Plan) -> Act {
        let own = self.user.as_ref().filter(|_| rng.below(4) > 0);
        let is_good = plan.hooks.grant.is_some() && rng.below(2) == 0;
        let token = token_of(own, is_good).unwrap_or_else(|| "somebody else".into());
        Act::Send(self.request(Command::Refresh { token: token.into() }, PendingCommand::Other))
    }

    pub(crate) fn publish(&mut self, publish: Publish) -> Request {
        let asked = PendingCommand::Publish(Box::new(publish.clone()));
        self.request(Command::Publish(Box::new(publish)), asked)
    }

    /// Asks for the presence, for the last judgement.
    pub(crate) fn ask_presence(&mut self, channel: &ChannelName) -> Request {
        self.request(Command::Presence { channel: channel.clone() }, PendingCommand::Other)
    }

    /// A signal to all, and its payload.
    pub(crate) fn last_signal(
        &mut self,
        channel: &ChannelName,
        rng: &mut Rng,
        numbers: &mut Numbers,
    ) -> (Request, Bytes) {
        let data = numbers.payload(rng, 10);
        let signal = Signal { channel: channel.clone(), event: "last".into(), data: data.clone(), to: None };
        (self.request(Command::Signal(Box::new(signal)), PendingCommand::Other), data)
    }

    pub(crate) fn last_publish(&mut self, channel: &ChannelName, rng: &mut Rng, numbers: &mut Numbers) -> Request {
        let data = Data::Json(numbers.payload(rng, 10));
        self.publish(Publish { channel: channel.clone(), data, event: None, idempotency_key: None, echo: true })
    }
}

fn options(channel: &ChannelName, wanted: &Wanted, habit: Habit) -> SubOptions {
    let &Wanted { since, last, recent, presence, .. } = wanted;
    let Habit { batch, slow, no_signals, keep } = habit;
    let since = if keep { last } else { since };
    SubOptions { since, recent, presence, batch, slow, signals: !no_signals, keep, ..SubOptions::new(channel.clone()) }
}
