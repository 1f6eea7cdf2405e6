//! Jitter: clients go offline at random and come back, while the application publishes by the HTTP API.
//!
//! One channel, and one transport for all clients of a round. A client is online for a random time, then offline for a
//! random time, then it comes back as a real client does: with its ticket and position, with the acknowledgement of its
//! last poll, or with the id of its last event. Half of the departures close the socket without a closing handshake; in
//! the other half the server notices nothing: the client stops reading, and its old socket is closed only after the
//! return. Each client must get each publication once and in order. A repeated, reordered or damaged one ends the run
//! with an error; a missing one lowers the delivered share.
//!
//! The delay runs from the request that publishes until a client that was online reads the publication. The recovery
//! runs from the first connect of a return until the client has every publication that was sent before this connect.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{RoundError, Sample, Settings, join};
use crate::load::centrifugo::{self, Reply};
use crate::load::check::{self, DeliveryError};
use crate::load::dialect::Dialect;
use crate::load::http::{self, Form};
use crate::load::native::{self, Heard, Since};
use crate::load::socketio::{self, Packet};
use crate::load::transport::Transport;
use crate::load::{Handler, Load, LoadError, Outgoing};
use crate::peers::{API_KEY, Role, ServerKind};
use crate::report::Metric;
use crate::server::Server;
use crate::stats;

/// Connections that are made together before the start.
const IN_FLIGHT: usize = 64;
/// How long the last publications may take at the end; the rest counts as lost.
const SETTLE_MAX: Duration = Duration::from_secs(15);

/// The extent of a round.
#[derive(Debug, Clone)]
pub struct JitterSettings {
    /// How many clients.
    pub clients: usize,
    /// How long the application publishes.
    pub phase: Duration,
    /// The pause between two publications.
    pub pause: Duration,
    /// The mean time of a client online; it is between half of this and one and a half.
    pub online: Duration,
    /// The least time of a client offline; it is at most twice as long.
    pub offline: Duration,
    /// The seed of the randomness.
    pub seed: u64,
}

pub(super) fn round(
    by: Transport,
    kind: ServerKind,
    server: &Server,
    settings: &Settings,
) -> Result<Vec<Sample>, RoundError> {
    let dialect = if by == Transport::SocketIo { Dialect::Engine } else { kind.dialect(Role::Api) };
    let mut load = Load::new(server.addr, dialect, settings.wait)?;
    let mut crowd = Crowd::new(by, kind, server.addr, &settings.jitter);
    crowd.gather(&mut load)?;
    let cpu = server.cpu()?;
    crowd.publish_for(settings.jitter.phase, &mut load)?;
    crowd.settle(&mut load)?;
    let cpu = server.cpu()?.saturating_sub(cpu);
    let Crowd { delivered, published, mut delays, mut recoveries, .. } = crowd;
    let due = published * settings.jitter.clients as u64;
    // Rounded down: only a complete delivery is 100 %.
    let share = (delivered as f64 / due as f64 * 1e4).floor() / 1e2;
    let mut samples = vec![
        Sample { metric: Metric::JitterShare { by }, value: share },
        Sample { metric: Metric::JitterCpu { by }, value: cpu.as_secs_f64() * 1e6 / delivered as f64 },
    ];
    for percent in [50, 99] {
        let times = [
            (Metric::JitterDelay { by, percent }, &mut delays),
            (Metric::JitterRecovery { by, percent }, &mut recoveries),
        ];
        for (metric, micros) in times {
            let micros = stats::percentile(micros, percent);
            samples.extend(micros.map(|micros| Sample { metric, value: f64::from(micros) / 1e3 }));
        }
    }
    Ok(samples)
}

struct Crowd<'a> {
    by: Transport,
    kind: ServerKind,
    settings: &'a JitterSettings,
    addr: SocketAddr,
    clients: Vec<Client>,
    /// Which client a connection belongs to; `None` is the publisher's.
    who: Vec<Option<usize>>,
    publisher: Option<usize>,
    channel: String,
    /// When each publication was sent; there are `published` of them.
    sent: Vec<Instant>,
    published: u64,
    answered: u64,
    delivered: u64,
    lost: u64,
    /// In µs.
    delays: Vec<u32>,
    recoveries: Vec<u32>,
    online: usize,
    /// When each client leaves or comes back next.
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Old sockets of clients that have returned.
    left: Vec<usize>,
    /// Clients whose connection was refused while they came back.
    refused: Vec<usize>,
    refusals: usize,
    random: Random,
    scratch: String,
}

#[derive(Debug, Clone, Default)]
struct Client {
    conn: usize,
    /// The socket of before its departure, if that is still open.
    old: Option<usize>,
    phase: Phase,
    /// Its ticket, or the private id of its socket.
    ticket: String,
    epoch: String,
    /// The number of publications that it has, or that are lost for it: the offset of the last one.
    at: u64,
    /// The number of the answer to its last poll.
    ack: u64,
    /// The place of its last event.
    event_id: String,
}

#[derive(Debug, Clone, Copy, Default)]
enum Phase {
    #[default]
    Away,
    /// On its way: it has to have `goal` publications.
    Coming { started: Instant, goal: u64, is_subscribed: bool },
    /// Publications from number `since` on were sent while it was online.
    Online { since: u64 },
}

impl<'a> Crowd<'a> {
    fn new(by: Transport, kind: ServerKind, addr: SocketAddr, settings: &'a JitterSettings) -> Self {
        Self {
            by,
            kind,
            settings,
            addr,
            clients: vec![Client::default(); settings.clients],
            who: Vec::new(),
            publisher: None,
            channel: join::room(0),
            sent: Vec::new(),
            published: 0,
            answered: 0,
            delivered: 0,
            lost: 0,
            delays: Vec::new(),
            recoveries: Vec::new(),
            online: 0,
            timers: BinaryHeap::new(),
            left: Vec::new(),
            refused: Vec::new(),
            refusals: 0,
            random: Random(settings.seed),
            scratch: String::new(),
        }
    }

    /// Connects all clients, few at a time, and gives each the time of its first departure.
    fn gather(&mut self, load: &mut Load) -> Result<(), LoadError> {
        let mut opened = 0;
        while self.online < self.clients.len() {
            while opened < self.clients.len() && opened - self.online < IN_FLIGHT {
                self.come(opened, load)?;
                opened += 1;
            }
            load.turn(self)?;
        }
        // Departures are spread evenly from the start.
        self.timers.clear();
        let now = Instant::now();
        for client in 0..self.clients.len() {
            let first = self.random.up_to(self.settings.online);
            self.timers.push(Reverse((now + first, client)));
        }
        Ok(())
    }

    /// Publishes at a steady pace, and lets clients leave and return.
    fn publish_for(&mut self, phase: Duration, load: &mut Load) -> Result<(), LoadError> {
        let end = Instant::now() + phase;
        let mut next = Instant::now();
        while Instant::now() < end {
            // A slow answer delays the next publication: an application waits for it too.
            if Instant::now() >= next && self.answered == self.published {
                self.publish(load)?;
                next += self.settings.pause;
            }
            self.turn(true, next.min(end), load)?;
        }
        Ok(())
    }

    /// Brings all clients back, and waits for their last publications.
    fn settle(&mut self, load: &mut Load) -> Result<(), LoadError> {
        let end = Instant::now() + SETTLE_MAX;
        while Instant::now() < end && (self.owed().0 > 0 || self.online < self.clients.len()) {
            self.turn(false, end, load)?;
        }
        Ok(())
    }

    /// Handles the timers, and waits once, no longer than `until`.
    fn turn(&mut self, may_leave: bool, until: Instant, load: &mut Load) -> Result<(), LoadError> {
        let now = Instant::now();
        let mut until = until;
        while let Some(&Reverse((at, client))) = self.timers.peek() {
            if at > now {
                until = until.min(at);
                break;
            }
            self.timers.pop();
            match self.clients[client].phase {
                Phase::Online { .. } if may_leave => self.leave(client, load)?,
                Phase::Away => self.come(client, load)?,
                Phase::Online { .. } | Phase::Coming { .. } => {}
            }
        }
        load.turn_within(until.saturating_duration_since(now).min(Duration::from_millis(100)), self)?;
        for conn in self.left.drain(..) {
            load.cut(conn);
        }
        for client in std::mem::take(&mut self.refused) {
            self.open(client, load)?;
        }
        Ok(())
    }

    fn leave(&mut self, client: usize, load: &mut Load) -> Result<(), LoadError> {
        let conn = self.clients[client].conn;
        if self.random.coin() {
            load.mute(conn)?;
            self.clients[client].old = Some(conn);
        } else {
            load.cut(conn);
        }
        self.clients[client].phase = Phase::Away;
        self.online -= 1;
        let offline = self.settings.offline + self.random.up_to(self.settings.offline);
        self.timers.push(Reverse((Instant::now() + offline, client)));
        Ok(())
    }

    fn come(&mut self, client: usize, load: &mut Load) -> Result<(), LoadError> {
        let (started, goal) = (Instant::now(), self.published);
        // The session of a client that polls has gone on without it.
        let is_subscribed = self.by == Transport::Poll && self.clients[client].ack > 0;
        self.clients[client].phase = Phase::Coming { started, goal, is_subscribed };
        self.open(client, load)?;
        if is_subscribed && self.clients[client].at >= goal {
            self.arrive(client, None); // it missed nothing, and may not get an answer for long
        }
        Ok(())
    }

    /// As a client does that was here before, if it was.
    fn open(&mut self, index: usize, load: &mut Load) -> Result<(), LoadError> {
        self.command(index);
        let client = &self.clients[index];
        let conn = match self.by {
            Transport::Events => Transport::follow(&self.channel, &client.event_id, load)?,
            by => by.open(&self.scratch, load)?,
        };
        if self.who.len() <= conn {
            self.who.resize(conn + 1, None);
        }
        self.who[conn] = Some(index);
        self.clients[index].conn = conn;
        Ok(())
    }

    /// Writes the first command of a connection.
    fn command(&mut self, index: usize) {
        let Client { ticket, epoch, at, ack, .. } = &self.clients[index];
        let since = (!epoch.is_empty()).then_some(Since { epoch, offset: *at });
        self.scratch.clear();
        match (self.by, self.kind) {
            (Transport::Poll, _) if ticket.is_empty() => {
                native::connect_by_poll(&format!("client-{index}"), &self.channel, &mut self.scratch);
            }
            (Transport::Poll, _) => native::poll(ticket, *ack, &mut self.scratch),
            (Transport::SocketIo, _) => {
                socketio::connect(ticket, &self.clients[index].event_id, &mut self.scratch);
            }
            (_, ServerKind::Centrifugo) => centrifugo::connect(&self.channel, since, &mut self.scratch),
            _ => {
                let ticket = (!ticket.is_empty()).then_some(ticket.as_str());
                native::connect(ticket, Some((&self.channel, since)), &mut self.scratch);
            }
        }
    }

    fn publish(&mut self, load: &mut Load) -> Result<(), LoadError> {
        self.scratch.clear();
        let content = check::content(self.published);
        match self.by {
            Transport::SocketIo => socketio::api_emit(&content, &mut self.scratch),
            _ => native::api_publish(&self.channel, &content, &mut self.scratch),
        }
        let (target, key) = match (self.by, self.kind) {
            (Transport::SocketIo, _) => ("/api/v1/emit", format!("Authorization: Bearer {API_KEY}\r\n")),
            (_, ServerKind::Centrifugo) => ("/api/publish", format!("X-API-Key: {API_KEY}\r\n")),
            _ => ("/api/v1/publish", format!("Authorization: Bearer {API_KEY}\r\n")),
        };
        let request = http::post(self.addr, target, &key, &self.scratch);
        self.sent.push(Instant::now());
        self.published += 1;
        if let Some(conn) = self.publisher {
            let mut out = Outgoing::default();
            out.raw(&request);
            return load.send(conn, &mut out);
        }
        let conn = load.open_request(Form::Answers, request)?;
        if self.who.len() <= conn {
            self.who.resize(conn + 1, None);
        }
        self.who[conn] = None;
        self.publisher = Some(conn);
        Ok(())
    }

    /// A client's next publication; those between its last one and this one are lost.
    fn deliver(&mut self, subscriber: usize, offset: Option<u64>, content: &[u8]) -> Result<(), LoadError> {
        let got = match offset {
            Some(offset) => check::numbered(subscriber, offset, content)?,
            None => check::seq_of(content).ok_or(DeliveryError::Damaged { subscriber })?,
        };
        let published = self.published;
        if got >= published {
            return Err(DeliveryError::NeverPublished { subscriber, got, published }.into());
        }
        let Client { at, phase, .. } = &mut self.clients[subscriber];
        let lost = got.checked_sub(*at).ok_or(DeliveryError::Repeated { subscriber, got, expected: *at })?;
        *at = got + 1;
        self.lost += lost;
        self.delivered += 1;
        if matches!(phase, Phase::Online { since } if *since <= got) {
            self.delays.push(micros(self.sent[got as usize]));
        }
        Ok(())
    }

    /// The subscription of a client on its way is made.
    fn subscribed(&mut self, client: usize) {
        if let Phase::Coming { is_subscribed, .. } = &mut self.clients[client].phase {
            *is_subscribed = true;
        }
    }

    /// Whether a client on its way has everything now.
    fn look(&mut self, client: usize) {
        let Client { phase, at, .. } = self.clients[client];
        if let Phase::Coming { started, goal, is_subscribed: true } = phase
            && at >= goal
        {
            self.arrive(client, Some(started));
        }
    }

    fn arrive(&mut self, index: usize, started: Option<Instant>) {
        let client = &mut self.clients[index];
        client.phase = Phase::Online { since: self.published };
        self.online += 1;
        self.left.extend(client.old.take());
        if self.published > 0 {
            self.recoveries.extend(started.map(micros));
        }
        let online = self.settings.online / 2 + self.random.up_to(self.settings.online);
        self.timers.push(Reverse((Instant::now() + online, index)));
    }

    fn on_answer(&mut self, conn: usize, body: &[u8]) -> Result<(), LoadError> {
        self.answered += 1;
        match native::offset_of(body) {
            Some(offset) if offset == self.answered => Ok(()),
            _ => Err(LoadError::unexpected(conn, body)),
        }
    }

    fn on_native(&mut self, conn: usize, client: usize, payload: &[u8]) -> Result<(), LoadError> {
        match native::read(payload) {
            Heard::Connected { ticket, .. } => ticket.clone_into(&mut self.clients[client].ticket),
            Heard::Subscribed { epoch, entries, .. } => {
                epoch.clone_into(&mut self.clients[client].epoch);
                self.subscribed(client);
                for entry in entries {
                    self.deliver(client, Some(entry.offset), entry.content)?;
                }
            }
            Heard::Message(entry) => self.deliver(client, Some(entry.offset), entry.content)?,
            Heard::Gap { .. } => {} // the next publication shows how many are lost
            _ if payload == native::PING => {}
            _ => return Err(LoadError::unexpected(conn, payload)),
        }
        Ok(())
    }

    fn on_polled(&mut self, conn: usize, client: usize, body: &[u8], out: &mut Outgoing) -> Result<(), LoadError> {
        let polled = native::polled(body).ok_or_else(|| LoadError::unexpected(conn, body))?;
        if let Some(ticket) = polled.ticket {
            ticket.clone_into(&mut self.clients[client].ticket);
        }
        self.clients[client].ack = polled.n;
        if polled.is_subscribed {
            self.subscribed(client);
        }
        for entry in polled.entries {
            self.deliver(client, Some(entry.offset), entry.content)?;
        }
        self.command(client);
        out.raw(&Transport::next_poll(&self.scratch, self.addr));
        Ok(())
    }

    fn on_event(&mut self, conn: usize, client: usize, data: &[u8]) -> Result<(), LoadError> {
        match native::payload(data) {
            Some(content) => self.deliver(client, None, content)?,
            None if data.starts_with(br#"{"type":"connected","#) => self.subscribed(client),
            None if data.starts_with(br#"{"type":"gap","#) => {}
            None => return Err(LoadError::unexpected(conn, data)),
        }
        Ok(())
    }

    fn on_packet(&mut self, conn: usize, client: usize, payload: &[u8]) -> Result<(), LoadError> {
        match socketio::read(payload) {
            Packet::Connected { pid: Some(pid) } => {
                pid.clone_into(&mut self.clients[client].ticket);
                self.subscribed(client);
            }
            Packet::Message { content, offset: Some(offset) } => {
                self.deliver(client, None, content)?;
                offset.clone_into(&mut self.clients[client].event_id);
            }
            _ => return Err(LoadError::unexpected(conn, payload)),
        }
        Ok(())
    }

    fn on_reply(&mut self, conn: usize, client: usize, reply: &[u8]) -> Result<(), LoadError> {
        match centrifugo::read(reply) {
            Reply::Subscribed { epoch, entries } => {
                epoch.clone_into(&mut self.clients[client].epoch);
                self.subscribed(client);
                for entry in entries {
                    self.deliver(client, Some(entry.offset), entry.content)?;
                }
            }
            Reply::Publication(entry) => self.deliver(client, Some(entry.offset), entry.content)?,
            Reply::Other => {}
            Reply::Refused => return Err(LoadError::unexpected(conn, reply)),
        }
        Ok(())
    }
}

impl Handler for Crowd<'_> {
    fn on_ready(&mut self, conn: usize, out: &mut Outgoing) -> Result<(), LoadError> {
        if let (Transport::WebSocket | Transport::SocketIo, Some(client)) = (self.by, self.who[conn]) {
            self.command(client);
            out.text(&self.scratch);
        }
        Ok(())
    }

    fn on_message(&mut self, conn: usize, payload: &[u8], out: &mut Outgoing) -> Result<(), LoadError> {
        let Some(client) = self.who[conn] else { return self.on_answer(conn, payload) };
        match (self.by, self.kind) {
            (_, ServerKind::Centrifugo) => self.on_reply(conn, client, payload)?,
            (Transport::Poll, _) => self.on_polled(conn, client, payload, out)?,
            (Transport::Events, _) => self.on_event(conn, client, payload)?,
            (Transport::SocketIo, _) => self.on_packet(conn, client, payload)?,
            _ => self.on_native(conn, client, payload)?,
        }
        self.look(client);
        Ok(())
    }

    fn on_event_id(&mut self, conn: usize, id: &[u8]) {
        let Some(client) = self.who[conn].map(|client| &mut self.clients[client]) else { return };
        client.event_id.clear();
        client.event_id.push_str(&String::from_utf8_lossy(id));
    }

    /// A server may refuse a client that comes back, which then tries again. It may not end a client's connection.
    fn on_closed(&mut self, conn: usize) -> Result<(), LoadError> {
        let coming = self.who[conn].filter(|&client| matches!(self.clients[client].phase, Phase::Coming { .. }));
        let client = coming.ok_or(LoadError::Closed { conn })?;
        self.refused.push(client);
        self.refusals += 1;
        if self.refusals > 100 * self.clients.len() {
            return Err(LoadError::Closed { conn });
        }
        Ok(())
    }

    fn owed(&self) -> (u64, &'static str) {
        (self.published * self.clients.len() as u64 - self.delivered - self.lost, "publications")
    }
}

/// Until now.
fn micros(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX)
}

/// SplitMix64: enough for times that nobody should guess in step.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }

    fn up_to(&mut self, max: Duration) -> Duration {
        max.mul_f64((self.next() >> 11) as f64 / (1u64 << 53) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: JitterSettings = JitterSettings {
        clients: 1,
        phase: Duration::ZERO,
        pause: Duration::ZERO,
        online: Duration::ZERO,
        offline: Duration::ZERO,
        seed: 1,
    };

    /// A client that comes back, had two of five publications, and has connection 0.
    fn returning(by: Transport) -> Crowd<'static> {
        let addr = SocketAddr::from(([127, 0, 0, 1], 1));
        let mut crowd = Crowd::new(by, ServerKind::Fanfare, addr, &SETTINGS);
        crowd.who.push(Some(0));
        crowd.sent = vec![Instant::now(); 5];
        (crowd.published, crowd.delivered) = (5, 2);
        let phase = Phase::Coming { started: Instant::now(), goal: 5, is_subscribed: false };
        crowd.clients[0] = Client { at: 2, ack: 1, old: Some(7), phase, epoch: "e".into(), ..Client::default() };
        crowd
    }

    fn hear(crowd: &mut Crowd<'_>, messages: &[String]) -> Result<(), LoadError> {
        messages.iter().try_for_each(|text| crowd.on_message(0, text.as_bytes(), &mut Outgoing::default()))
    }

    fn subscribed(offsets: &[u64]) -> String {
        let entry = |offset: &u64| {
            format!(r#"{{"offset":{offset},"data":{{"text":"{}"}},"ts":1}}"#, check::content(offset - 1))
        };
        let entries: Vec<_> = offsets.iter().map(entry).collect();
        let entries = entries.join(",");
        format!(r#"{{"type":"subscribed","channel":"c","epoch":"e","offset":5,"publications":[{entries}]}}"#)
    }

    fn event(seq: u64) -> String {
        format!(r#"{{"text":"{}"}}"#, check::content(seq))
    }

    fn packet(seq: u64) -> String {
        format!(r#"42["message",{},"{seq}"]"#, event(seq))
    }

    #[test]
    fn a_client_is_back_with_the_last_publication_that_it_missed() {
        let polled = |offsets: &[u64]| format!(r#"{{"n":2,"messages":[{}]}}"#, subscribed(offsets));
        let connected = r#"{"type":"connected","clientId":"a"}"#.to_owned();
        let socket = r#"40{"sid":"a","pid":"b"}"#.to_owned();
        let rows = [
            (Transport::WebSocket, vec![subscribed(&[3, 4]), native_message(5)]),
            (Transport::Poll, vec![polled(&[3, 4]), polled(&[5])]),
            (Transport::Events, vec![connected, event(2), event(3), event(4)]),
            (Transport::SocketIo, vec![socket, packet(2), packet(3), packet(4)]),
        ];
        for (by, messages) in rows {
            let mut crowd = returning(by);
            let (last, earlier) = messages.split_last().expect("some");
            hear(&mut crowd, earlier).expect("valid");
            assert_eq!((crowd.online, crowd.recoveries.len()), (0, 0), "{by}: one is missing");
            hear(&mut crowd, std::slice::from_ref(last)).expect("valid");
            assert_eq!((crowd.online, crowd.recoveries.len(), crowd.owed().0), (1, 1, 0), "{by}");
            assert_eq!(crowd.left, [7], "{by}: its old socket is closed");
        }
    }

    fn native_message(offset: u64) -> String {
        let mut text = String::new();
        native::message("c", offset, &check::content(offset - 1), &mut text);
        text
    }

    #[test]
    fn a_missing_publication_is_lost_and_a_wrong_one_is_an_error() {
        let mut crowd = returning(Transport::WebSocket);
        hear(&mut crowd, &[subscribed(&[3, 5])]).expect("a loss is counted");
        assert_eq!((crowd.delivered, crowd.lost, crowd.owed().0), (4, 1, 0));
        let rows = [
            ("again", Transport::WebSocket, vec![subscribed(&[3, 4, 4, 5])]),
            ("one that it had", Transport::WebSocket, vec![subscribed(&[2, 3, 4, 5])]),
            ("one that nobody published", Transport::WebSocket, vec![subscribed(&[3, 4, 5, 6])]),
            ("again, as an event", Transport::Events, vec![event(2), event(2)]),
            ("again, as a packet", Transport::SocketIo, vec![packet(2), packet(2)]),
            ("a packet without a place", Transport::SocketIo, vec![format!(r#"42["message",{}]"#, event(2))]),
            ("a socket that is refused", Transport::SocketIo, vec![r#"44{"message":"no"}"#.to_owned()]),
            ("another text", Transport::Events, vec![r#"{"text":"hello"}"#.to_owned()]),
            ("a refusal", Transport::WebSocket, vec![r#"{"type":"error","code":"denied"}"#.to_owned()]),
            ("a refused poll", Transport::Poll, vec![r#"{"code":"unauthorized"}"#.to_owned()]),
        ];
        for (name, by, messages) in rows {
            assert!(hear(&mut returning(by), &messages).is_err(), "{name}");
        }
    }
}
