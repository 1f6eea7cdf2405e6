//! Socket.IO on the protocol seam: `fanfare_wire::engineio` and `fanfare_wire::socketio` over WebSocket or by polling,
//! one conversation a connection, with the events of a chat room built in.
//!
//! A namespace is one reserved channel of the hub (`$sio:/admin`), to which every socket in it is subscribed; rooms are
//! rooms of that channel. So an event to a room is a publication with an audience, in order with all joins and leaves.
//!
//! Built in: `join-room`, `message` and `typing` (docs/socketio.md). Other events are calls of the application, and the
//! answer of a call is the ack. A message that the reference answers by closing the connection closes it here.

mod application;
pub(crate) mod bridge;
mod builtin;
mod conversation;
mod msgpack;
mod namespaces;
mod publish;
mod reason;
mod recovery;
mod seam;

pub(crate) use conversation::{Client, retry_data};
pub(crate) use namespaces::{Namespaces, channel_of};
#[cfg(test)]
pub(crate) use publish::data_of;
pub use reason::Reason;
pub(crate) use seam::{
    AckArgs, Admission, AskKey, Decision, Entering, HandledSocket, MembersQuestion, OnAnswers, OnItsWay, Opaque,
    Operation, Payload, SocketHandlers, SocketKey, Unwanted,
};

use crate::config::cookie::Cookie;
use crate::config::{Parser, SocketIoConfig};
use crate::protocol::{Actions, Conversation, Encoded, Message, Place, Protocol};
use crate::request::RequestInfo;
use fanfare_hub::{
    ChannelName, Disconnect, HeartbeatKind, Limits, Now, OverRate, Pattern, Position, Push, Retain, Rule, SEATS_MAX,
    Who,
};
use fanfare_wire::engineio::{Open, Packet as EnginePacket, Sid, Transports};
use http::HeaderValue;
use namespaces::name_of;
use std::sync::Arc;
use std::time::Duration;

/// The channels of all namespaces.
const CHANNELS: &str = "$sio:**";
/// The engine's letter for a message, before the text of a packet.
const MESSAGE: u8 = b'4';

/// Its events are kept for so long at least.
const HISTORY_MS: u64 = 120_000;

/// The server adds at most this to a client's message: its user and the time.
const ADDED_BYTES_MAX: usize = 8 << 10;

/// The limits of the hub, by which the longest message of a client can be published.
pub(crate) fn with_added(limits: Limits) -> Limits {
    let room_message_bytes_max = limits.room_message_bytes_max.saturating_add(ADDED_BYTES_MAX);
    Limits { room_message_bytes_max, ..limits }
}

/// Socket.IO for its 4.x clients.
#[derive(Debug, Clone)]
pub(crate) struct SocketIo(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    namespaces: Arc<Namespaces>,
    /// Rooms of `/` that are channels.
    bridge: Vec<Pattern>,
    /// The most namespaces of one connection.
    namespaces_max: usize,
    connect_timeout_ms: u64,
    ping_interval_ms: u32,
    pong_timeout_ms: u64,
    payload_bytes_max: usize,
    rooms_max: usize,
    /// How long a socket may be without a connection; 0: not at all.
    grace_ms: u32,
    /// A client that goes on as the same socket is let in unasked.
    skips_guards: bool,
    refusal: Box<str>,
    parser: Parser,
    transports: Transports,
    /// A client that polls may go on with a WebSocket.
    upgrades: bool,
    cookie: Option<Cookie>,
    /// The application decides who is let in. Otherwise tokens are ignored.
    has_guard: bool,
    /// The application answers calls.
    has_calls: bool,
}

/// The parts of the application that this protocol asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asks {
    pub(crate) guard: bool,
    pub(crate) calls: bool,
}

impl Parts {
    /// True where sockets go on after a cut.
    fn recovers(&self) -> bool {
        self.grace_ms > 0
    }

    fn is_bridged(&self, channel: &ChannelName) -> bool {
        self.bridge.iter().any(|pattern| pattern.matches(channel))
    }
}

impl SocketIo {
    pub(crate) fn new(config: &SocketIoConfig, limits: &Limits, asks: Asks, namespaces: Namespaces) -> Self {
        SocketIo(Arc::new(Parts {
            namespaces: Arc::new(namespaces),
            bridge: config.bridge.clone(),
            namespaces_max: config.namespaces_max.clamp(1, usize::from(SEATS_MAX)),
            connect_timeout_ms: u64::try_from(config.connect_timeout.as_millis()).unwrap_or(u64::MAX),
            ping_interval_ms: u32::try_from(config.ping_interval.as_millis()).unwrap_or(u32::MAX),
            pong_timeout_ms: limits.pong_timeout_ms,
            payload_bytes_max: limits.room_message_bytes_max,
            rooms_max: limits.rooms_max,
            grace_ms: u32::try_from(config.max_disconnection_duration.as_millis()).unwrap_or(u32::MAX),
            skips_guards: config.skip_middlewares,
            refusal: config.refusal.as_str().into(),
            parser: config.parser,
            transports: Transports { polling: config.polling, websocket: config.websocket },
            upgrades: config.upgrades && config.websocket,
            cookie: config.cookie.clone(),
            has_guard: asks.guard,
            has_calls: asks.calls,
        }))
    }

    /// A session with this id begins. `upgrades`: it polls, and may go on with a WebSocket.
    pub(crate) fn begin(
        &self,
        place: &Place,
        sid: &str,
        upgrades: bool,
        request: Option<&Arc<RequestInfo>>,
        actions: &mut Actions,
    ) -> Box<dyn Conversation> {
        let Parts { ping_interval_ms, pong_timeout_ms, payload_bytes_max, .. } = *self.0;
        let open = Open {
            sid,
            upgrades,
            ping_interval: Duration::from_millis(ping_interval_ms.into()),
            ping_timeout: Duration::from_millis(pong_timeout_ms),
            max_payload: payload_bytes_max,
        };
        let mut out = Vec::new();
        open.put(&mut out);
        actions.answer(Message::written(&out));
        let request = request.filter(|_| self.needs_request()).cloned();
        let client = Box::new(Client::new(self.0.clone(), place.clone(), request));
        match self.0.parser {
            Parser::Standard => client,
            Parser::Msgpack => Box::new(msgpack::Msgpack::new(client, payload_bytes_max)),
        }
    }

    /// Encodes a push for the standard parser.
    fn push(&self, push: &Push, out: &mut Vec<u8>) -> Encoded {
        match push {
            Push::Message { channel, publication, .. } | Push::Volatile { channel, publication } => {
                let at = match push {
                    Push::Message { epoch, .. } => Some(Position { epoch: *epoch, offset: publication.offset }),
                    _ => None,
                };
                match name_of(channel) {
                    Some(namespace) => {
                        publish::put_publication(publication, namespace, at.filter(|_| self.0.recovers()), out)
                    }
                    None if self.0.is_bridged(channel) => bridge::put_publication(publication, out),
                    None => Encoded::Nothing,
                }
            }
            Push::Signal(push) if self.0.is_bridged(&push.signal.channel) => bridge::put_signal(push, out),
            Push::Presence(push) if self.0.is_bridged(&push.channel) => bridge::put_presence(push, out),
            Push::Gap { channel, .. } if self.0.is_bridged(channel) => Encoded::Close(Disconnect::Lost),
            Push::Ping => {
                EnginePacket::Ping("").put(out);
                Encoded::Text
            }
            // There is no word for a loss: the client comes back and joins anew.
            Push::Gap { channel, .. } | Push::Unsubscribed { channel, .. } if name_of(channel).is_some() => {
                Encoded::Close(Disconnect::Lost)
            }
            Push::Disconnect { reason, .. } => Encoded::Close(*reason),
            _ => Encoded::Nothing,
        }
    }

    /// The transports that are served.
    pub(crate) fn transports(&self) -> Transports {
        self.0.transports
    }

    /// Whether a client that polls may go on with a WebSocket.
    pub(crate) fn offers_upgrades(&self) -> bool {
        self.0.upgrades
    }

    /// The cookie that goes with this open packet.
    pub(crate) fn cookie(&self, opened: &[u8]) -> Option<HeaderValue> {
        let cookie = self.0.cookie.as_ref()?;
        let sid = std::str::from_utf8(opened).ok()?.split('"').nth(3)?; // `0{"sid":"…"`: `Open` has made it
        cookie.header(sid)
    }

    /// The longest body of a POST.
    pub(crate) fn payload_bytes_max(&self) -> usize {
        self.0.payload_bytes_max
    }

    /// The rule of its channels. The history serves readers that are slow, and clients that were cut off: what they
    /// have not confirmed by their last answer to a ping is in it when they come back at the last moment.
    pub(crate) fn rule(config: &SocketIoConfig, limits: &Limits) -> Rule {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let unconfirmed_ms = ms(config.ping_interval).saturating_add(limits.pong_timeout_ms);
        let ttl_ms = ms(config.max_disconnection_duration).saturating_add(unconfirmed_ms).max(HISTORY_MS);
        Rule {
            subscribe: vec![Who::Anyone],
            publish: vec![Who::Subscriber],
            signal: vec![Who::Nobody],
            enter: vec![Who::Nobody],
            history: Retain { count: 100_000, bytes: 64 << 20, ttl_ms },
            ..Rule::open(Pattern::new(CHANNELS).expect("a valid pattern"))
        }
    }
}

/// The id of the session of the connection that is being opened.
pub(crate) fn sid_at(place: &Place) -> String {
    Sid { shard: place.shard(), conn: place.connection() }.seal(place.node(), place.secret())
}

impl Protocol for SocketIo {
    fn name(&self) -> &'static str {
        "socketio"
    }

    fn open(&self, place: &Place, request: Option<&Arc<RequestInfo>>, actions: &mut Actions) -> Box<dyn Conversation> {
        self.begin(place, &sid_at(place), false, request, actions)
    }

    fn needs_request(&self) -> bool {
        self.0.namespaces.need_request()
    }

    fn encode_push(&self, push: &Push, _now: Now, out: &mut Vec<u8>) -> Encoded {
        let encoded = self.push(push, out);
        match self.0.parser {
            Parser::Standard => encoded,
            Parser::Msgpack => msgpack::turned(encoded, out),
        }
    }

    fn message_bytes_max(&self, _limits: &Limits) -> usize {
        self.0.payload_bytes_max
    }

    fn connect_timeout_ms(&self) -> Option<u64> {
        Some(self.0.connect_timeout_ms)
    }

    fn grace_ms(&self) -> u32 {
        self.0.grace_ms
    }

    fn has_seats(&self) -> bool {
        true
    }

    fn leaves_by_command(&self) -> bool {
        self.0.recovers()
    }

    fn heartbeat_ms(&self) -> u32 {
        self.0.ping_interval_ms
    }

    fn heartbeat(&self) -> HeartbeatKind {
        HeartbeatKind::Waits
    }

    /// There is no word for a refusal, and the reference takes everything.
    fn over_rate(&self) -> OverRate {
        OverRate::Wait
    }
}
