//! One connection in the network: the server's outbox, the bytes on their way in both directions, and the broken parts.

use crate::chat::{CHAT_WIRE, ChatEnd};
use crate::core_requests::Streamed;
use crate::desk::Desk;
use crate::engine::Engine;
use crate::polling::Polling;
use crate::readers::{ReaderEnd, wire_of};
use crate::sends::Apart;
use crate::watch::Watch;
use crate::wire::{self, ToClient};
use bytes::{Bytes, BytesMut};
use fanfare_hub::{ChannelName, ClientId, ConnId, Outbox, Request, Resume, Rng, UserId, WireId};
use fanfare_wire::websocket::{Decoder, Event, Limits, Role};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::IoSlice;
use std::rc::Rc;

/// Longer than any message of a simulated world.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

#[derive(Debug)]
pub(crate) struct Pipe {
    /// Its own chances.
    pub(crate) rng: Rng,
    /// Its place among all of the world.
    pub(crate) number: usize,
    pub(crate) shard: usize,
    pub(crate) conn: ConnId,
    pub(crate) client: usize,
    /// Its shard knows it, or knew it.
    pub(crate) is_bound: bool,
    /// Its messages are polled.
    pub(crate) polling: Option<Box<Polling>>,
    /// It speaks the chat protocol.
    pub(crate) chat: Option<Box<ChatEnd>>,
    /// It is a plain event stream.
    pub(crate) reader: Option<Box<ReaderEnd>>,
    /// Its messages come in the body of an answer that goes on.
    pub(crate) stream: Option<Box<Streamed>>,
    /// It goes by requests, as Engine.IO has it, and may go on over a WebSocket.
    pub(crate) engine: Option<Box<Engine>>,
    /// It carries messages down only: commands come by sends.
    pub(crate) apart: Option<Box<Apart>>,
    /// How many messages the server had for it, and how many have arrived.
    pub(crate) said_count: u64,
    pub(crate) heard_count: u64,
    pub(crate) outbox: Outbox,
    /// The messages in the outbox and on the way, in the hub's own types.
    pub(crate) said: VecDeque<Rc<ToClient>>,
    /// The server has it open.
    pub(crate) server_open: bool,
    /// The client has it open.
    pub(crate) client_open: bool,
    /// Nothing arrives on either side, and neither is notified.
    pub(crate) half_open: bool,
    /// The time at which the client last received something, or opened the connection.
    pub(crate) heard_ms: u64,
    /// The client does not read.
    pub(crate) stalled: bool,
    /// The server does not read.
    pub(crate) held: bool,
    pub(crate) flushing: bool,
    /// The hub knows that the outbox is over its mark: the bytes that it has appended since.
    pub(crate) full: Option<SinceFull>,
    pub(crate) watch: Watch,
    pub(crate) desk: Desk,
    /// When it was opened, when the shard was last shown a sign of life, and when and with what ticket it was given
    /// `connect`.
    pub(crate) opened_ms: u64,
    pub(crate) alive_ms: u64,
    pub(crate) connect: Option<(u64, Option<Resume>)>,
    /// It was told that the server stops, and how long it may take to leave.
    pub(crate) drain_delay_ms: Option<u64>,
    /// The session that it has been given.
    pub(crate) session: Option<ClientId>,
    /// The user of that session.
    pub(crate) user: Option<UserId>,
    /// That session has been on an earlier connection.
    pub(crate) is_continued: bool,
    /// What the commands cost that wait for it.
    pub(crate) uncharged: Vec<[u64; 2]>,
    /// Commands whose rule has a rate, and of which nobody knows when they are decided: the id, the rule and the rate.
    pub(crate) undecided: Vec<(u64, usize, (u32, u64))>,
    /// Payloads of the directed signals that it was told.
    pub(crate) signals_told: BTreeSet<Bytes>,
    /// When it last was told one, by channel.
    pub(crate) directed_ms: BTreeMap<ChannelName, u64>,
    /// Its session has been on another shard.
    pub(crate) has_moved: bool,
    /// Channels of `presence_set` commands that are not answered, by id; and those that `connect` subscribes to.
    pub(crate) entering: BTreeMap<u64, ChannelName>,
    pub(crate) subscribes: BTreeSet<ChannelName>,
    /// When the outbox last was over its mark.
    pub(crate) full_ms: Option<u64>,
    /// Invalid messages in a minute of the shard's clock.
    pub(crate) bad: (u64, u32),
    /// Messages without a session that may count like those: where `connect` was refused, they do not.
    pub(crate) maybe_bad: u32,
    /// Bytes that the network holds for the client.
    pub(crate) in_flight: usize,
    pub(crate) down_last_ms: u64,
    pub(crate) up_last_ms: u64,
    /// Pieces of frames on their way to the server.
    pub(crate) up: VecDeque<(u64, Vec<u8>)>,
    /// Bytes that have arrived and were not decoded, and commands of a text that are not executed yet.
    unread: BytesMut,
    commands: VecDeque<Request>,
    server_decoder: Decoder,
    client_decoder: Decoder,
    /// The bytes that a stalled client will read once it reads again.
    pub(crate) waiting: Vec<Bytes>,
    /// The largest answer or push so far that is a page or a snapshot by itself: an outbox may exceed its bound by one
    /// of them.
    pub(crate) page_frame_max: usize,
    /// The largest other frame: an outbox may exceed its bound by some of them.
    pub(crate) frame_max: usize,
}

/// The bytes that were appended to an outbox that the hub knew to be full.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct SinceFull {
    /// Turns in which there were publications, and the last of them.
    pub(crate) turns: usize,
    pub(crate) last_turn: u64,
    pub(crate) answers: usize,
}

/// What a chat client sends to its server.
#[derive(Debug)]
pub(crate) enum FromChat {
    Text(String),
    Pong,
    /// It breaks the protocol of WebSocket: the connection ends with this code.
    Broken(u16),
}

/// Decodes the bytes that have arrived at a client.
#[derive(Debug)]
pub(crate) enum Heard {
    Text(String),
    Ping,
    Close(Option<u16>),
}

impl Pipe {
    pub(crate) fn new(number: usize, shard: usize, client: usize, now_ms: u64, rng: Rng) -> Self {
        let decoder = |role| Decoder::new(role, Limits { message_bytes_max: MESSAGE_BYTES_MAX });
        Pipe {
            rng,
            number,
            shard,
            conn: ConnId { index: 0, generation: 0 },
            client,
            is_bound: false,
            polling: None,
            chat: None,
            reader: None,
            stream: None,
            engine: None,
            apart: None,
            said_count: 0,
            heard_count: 0,
            outbox: Outbox::default(),
            said: VecDeque::new(),
            server_open: true,
            client_open: true,
            heard_ms: now_ms,
            half_open: false,
            stalled: false,
            held: false,
            flushing: false,
            full: None,
            watch: Watch::default(),
            desk: Desk::default(),
            opened_ms: now_ms,
            alive_ms: now_ms,
            connect: None,
            drain_delay_ms: None,
            session: None,
            user: None,
            is_continued: false,
            uncharged: Vec::new(),
            undecided: Vec::new(),
            signals_told: BTreeSet::new(),
            directed_ms: BTreeMap::new(),
            has_moved: false,
            entering: BTreeMap::new(),
            subscribes: BTreeSet::new(),
            full_ms: None,
            bad: (0, 0),
            maybe_bad: 0,
            in_flight: 0,
            down_last_ms: 0,
            up_last_ms: 0,
            up: VecDeque::new(),
            unread: BytesMut::new(),
            commands: VecDeque::new(),
            server_decoder: decoder(Role::Server),
            client_decoder: decoder(Role::Client),
            waiting: Vec::new(),
            page_frame_max: 0,
            frame_max: 0,
        }
    }

    /// It speaks the chat protocol, in messages of so many bytes at most.
    pub(crate) fn speak_chat(&mut self, message_bytes_max: usize) {
        self.chat = Some(Box::default());
        self.server_decoder = Decoder::new(Role::Server, Limits { message_bytes_max });
    }

    /// The wire of its pushes: two for WebSockets, one for chats, two for requests as Engine.IO has them, and three for
    /// readers.
    pub(crate) fn wire(&self) -> WireId {
        if self.chat.is_some() {
            return CHAT_WIRE;
        }
        if let Some(end) = &self.reader {
            return wire_of(end.events);
        }
        let by_requests = if self.engine.is_some() { CHAT_WIRE.0 + 1 } else { 0 };
        WireId((self.client % 2) as u8 + by_requests)
    }

    /// Its session ends with it.
    pub(crate) fn is_without_grace(&self) -> bool {
        self.chat.is_some() || self.reader.is_some()
    }

    /// The first messages of the outbox, as many as fit, but one at least.
    pub(crate) fn front(&self, bytes_max: usize) -> Vec<u8> {
        let mut front = Vec::new();
        for frame in self.outbox.frames() {
            if !front.is_empty() && front.len() + frame.len() > bytes_max {
                break;
            }
            front.extend_from_slice(frame);
        }
        front
    }

    /// The server has the packets of a POST.
    pub(crate) fn take_post(&mut self, now_ms: u64, body: &str) -> Result<(), String> {
        let frames = wire::read_payload(body)?.into_iter().map(|text| (now_ms, wire::frame_up(&text, 1)));
        self.up.extend(frames);
        Ok(())
    }

    /// The server has taken in all that has arrived.
    pub(crate) fn has_read(&self) -> bool {
        self.up.is_empty() && self.unread.is_empty() && self.commands.is_empty()
    }

    /// Takes up to `room` bytes off the outbox, across frames as a vectored write does.
    pub(crate) fn write(&mut self, room: usize, outbox_max: usize) -> (Bytes, bool) {
        let mut slices = [IoSlice::new(&[]); 16];
        let used = self.outbox.slices(&mut slices);
        let mut bytes = BytesMut::new();
        for slice in &slices[..used] {
            let take = slice.len().min(room - bytes.len());
            bytes.extend_from_slice(&slice[..take]);
        }
        let drained = self.outbox.advance(bytes.len(), outbox_max);
        (bytes.freeze(), drained)
    }

    fn arrive(&mut self, now_ms: u64) {
        while let Some((_, piece)) = self.up.pop_front_if(|(at_ms, _)| *at_ms <= now_ms) {
            self.unread.extend_from_slice(&piece);
        }
    }

    /// The same of a chat client: its next message.
    pub(crate) fn read_chat(&mut self, now_ms: u64) -> Result<Option<FromChat>, String> {
        self.arrive(now_ms);
        if self.held || !self.server_open {
            return Ok(None);
        }
        let mut input = &mut self.unread[..];
        let before = input.len();
        let message = match self.server_decoder.decode(&mut input) {
            Ok(Some(Event::Text(text))) => Some(FromChat::Text(text.to_owned())),
            Ok(Some(Event::Pong(_))) => Some(FromChat::Pong),
            Ok(None) => None,
            Err(error) => Some(FromChat::Broken(error.close_code())),
            other => return Err(format!("the server reads {other:?}")),
        };
        let taken = before - input.len();
        let _ = self.unread.split_to(taken);
        Ok(message)
    }

    /// The next command that the server reads, unless it does not read now: nothing is decoded before it is needed.
    pub(crate) fn read(&mut self, now_ms: u64, reading: wire::Reading<'_>) -> Result<Option<Request>, String> {
        self.arrive(now_ms);
        if self.held || !self.server_open {
            return Ok(None);
        }
        if let Some(request) = self.commands.pop_front() {
            return Ok(Some(request));
        }
        let mut input = &mut self.unread[..];
        let before = input.len();
        let text = match self.server_decoder.decode(&mut input) {
            Ok(Some(Event::Text(text))) => Some(text.to_owned()),
            Ok(None) => None,
            other => return Err(format!("the server reads {other:?}")),
        };
        let taken = before - input.len();
        let _ = self.unread.split_to(taken);
        if let Some(text) = text {
            self.commands.extend(wire::read_commands(&text, reading)?);
        }
        Ok(self.commands.pop_front())
    }

    /// The client's messages in these bytes, one by one.
    pub(crate) fn hear(&mut self, bytes: &[u8]) -> Result<Vec<Heard>, String> {
        let mut heard = Vec::new();
        if let Some(stream) = &mut self.stream {
            let read = stream.decoder.read(bytes, |text| heard.push(Heard::Text(text.to_owned())));
            return read.map(|()| heard).map_err(|error| format!("the client reads a stream: {error}"));
        }
        let mut bytes = bytes.to_vec();
        let mut input = &mut bytes[..];
        loop {
            match self.client_decoder.decode(&mut input) {
                Ok(Some(Event::Text(text))) => heard.push(Heard::Text(text.to_owned())),
                Ok(Some(Event::Ping(_))) => heard.push(Heard::Ping),
                Ok(Some(Event::Close(frame))) => heard.push(Heard::Close(frame.map(|frame| frame.code))),
                Ok(None) => return Ok(heard),
                other => return Err(format!("the client reads {other:?}")),
            }
        }
    }
}
