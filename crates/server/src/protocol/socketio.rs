//! Socket.IO on the protocol seam: `fanfare_wire::engineio` and `fanfare_wire::socketio` over WebSocket or by polling,
//! one conversation a connection, with the events of a chat room built in.
//!
//! The namespace `/` is one reserved channel of the hub, to which every socket that was let in is subscribed; rooms are
//! rooms of that channel. So an event to a room is a publication with an audience, in order with all joins and leaves.
//! Packets of any other namespace are answered as by a server that has only `/`.
//!
//! Built in: `join-room`, `message` and `typing` (docs/socketio.md). Other events are calls of the application, and the
//! answer of a call is the ack. A message that the reference answers by closing the connection closes it here.

use crate::config::SocketIoConfig;
use crate::protocol::{Actions, Conversation, Encoded, Message, Place, Protocol, put_message};
use crate::request::RequestInfo;
use bytes::Bytes;
use fanfare_hub::{
    Audience, ChannelName, ClientId, Command, Connect, Data, Disconnect, HeartbeatKind, Limits, Now, Pattern, Publish,
    Push, Reply, ReplyBody, Request, RequestId, Retain, Room, RoomCommand, Rule, SubOptions, UserToken, Who,
};
use fanfare_wire::engineio::{Open, Packet as EnginePacket};
use fanfare_wire::json;
use fanfare_wire::socketio::{
    self, DecodeError, Decoder, Event, Kind, MAIN_NAMESPACE, Packet, put_connect_error, put_connected, put_head,
    put_spread, put_text,
};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

/// The channel of the namespace `/`.
const CHANNEL: &str = "$sio:/";
/// The channels of all namespaces.
const CHANNELS: &str = "$sio:**";
/// The engine's letter for a message, before the text of a packet.
const MESSAGE: u8 = b'4';

/// What is added to a client's message at most: its user and the time.
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
    channel: ChannelName,
    ping_interval_ms: u32,
    pong_timeout_ms: u64,
    payload_bytes_max: usize,
    rooms_max: usize,
    refusal: Box<str>,
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

impl SocketIo {
    pub(crate) fn new(config: &SocketIoConfig, limits: &Limits, asks: Asks) -> Self {
        SocketIo(Arc::new(Parts {
            channel: ChannelName::reserved(CHANNEL).expect("a reserved name"),
            ping_interval_ms: u32::try_from(config.ping_interval.as_millis()).unwrap_or(u32::MAX),
            pong_timeout_ms: limits.pong_timeout_ms,
            payload_bytes_max: limits.room_message_bytes_max,
            rooms_max: limits.rooms_max,
            refusal: config.refusal.as_str().into(),
            has_guard: asks.guard,
            has_calls: asks.calls,
        }))
    }

    /// A session with this id begins.
    pub(crate) fn begin(&self, sid: &str, actions: &mut Actions) -> Box<dyn Conversation> {
        let Parts { ping_interval_ms, pong_timeout_ms, payload_bytes_max, .. } = *self.0;
        let open = Open {
            sid,
            upgrades: false,
            ping_interval: Duration::from_millis(ping_interval_ms.into()),
            ping_timeout: Duration::from_millis(pong_timeout_ms),
            max_payload: payload_bytes_max,
        };
        let mut out = Vec::new();
        open.put(&mut out);
        actions.answer(Message::Text(std::str::from_utf8(&out).unwrap_or_default()));
        let parts = self.0.clone();
        Box::new(Socket { parts, decoder: Decoder::default(), stage: Stage::Outside, user: None, rooms: Vec::new() })
    }

    /// The longest body of a POST.
    pub(crate) fn payload_bytes_max(&self) -> usize {
        self.0.payload_bytes_max
    }

    /// The rule of its channels. The history serves readers that are slow.
    pub(crate) fn rule() -> Rule {
        Rule {
            subscribe: vec![Who::Anyone],
            publish: vec![Who::Subscriber],
            signal: vec![Who::Nobody],
            enter: vec![Who::Nobody],
            history: Retain { count: 100_000, bytes: 64 << 20, ttl_ms: 120_000 },
            ..Rule::open(Pattern::new(CHANNELS).expect("a valid pattern"))
        }
    }
}

impl Protocol for SocketIo {
    fn name(&self) -> &'static str {
        "socketio"
    }

    fn open(
        &self,
        _place: &Place,
        _request: Option<&Arc<RequestInfo>>,
        actions: &mut Actions,
    ) -> Box<dyn Conversation> {
        let mut id = [0; 16];
        if let Err(error) = crate::random::fill_random(&mut id) {
            tracing::error!(%error, "a Socket.IO session has no id");
            actions.close(Disconnect::Internal);
        }
        self.begin(&format!("{:032x}", u128::from_ne_bytes(id)), actions)
    }

    fn encode_push(&self, push: &Push, _now: Now, out: &mut Vec<u8>) -> Encoded {
        match push {
            Push::Message { channel, publication, .. } if *channel == self.0.channel => {
                put_event(&publication.data, out)
            }
            Push::Ping => {
                EnginePacket::Ping("").put(out);
                Encoded::Text
            }
            // There is no word for a loss: the client comes back and joins anew.
            Push::Gap { channel, .. } if *channel == self.0.channel => Encoded::Close(Disconnect::Lost),
            // A client that is disconnected in words does not come back by itself; after any other end it does.
            Push::Disconnect { reason: reason @ Disconnect::Kicked, .. } => {
                out.push(MESSAGE);
                put_head(out, Kind::Disconnect, None, MAIN_NAMESPACE, None);
                Encoded::Last(*reason)
            }
            Push::Disconnect { reason, .. } => Encoded::Close(*reason),
            Push::Unsubscribed { channel, .. } if *channel == self.0.channel => Encoded::Close(Disconnect::Lost),
            _ => Encoded::Nothing,
        }
    }

    fn message_bytes_max(&self, _limits: &Limits) -> usize {
        self.0.payload_bytes_max
    }

    fn heartbeat_ms(&self) -> u32 {
        self.0.ping_interval_ms
    }

    fn heartbeat(&self) -> HeartbeatKind {
        HeartbeatKind::Waits
    }
}

/// How far a socket has come in the namespace `/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It has not asked, or was refused.
    Outside,
    /// The hub is asked.
    Asking,
    /// It is known to the hub, and its subscription is on its way.
    Known(ClientId),
    /// Its events count.
    Inside(ClientId),
    /// It has left.
    Left(ClientId),
    /// It has left and asks again.
    Returning(ClientId),
}

/// The commands whose answers matter, as their ids. Calls have the number of their ack.
const CONNECT: &str = "connect";
const RETURN: &str = "return";

/// One connection.
struct Socket {
    parts: Arc<Parts>,
    decoder: Decoder,
    stage: Stage,
    /// Its user, as JSON text.
    user: Option<Box<str>>,
    /// In the order in which it joined them.
    rooms: Vec<Room>,
}

impl Conversation for Socket {
    fn message(&mut self, message: Message<'_>, actions: &mut Actions) {
        let limits = socketio::Limits { packet_bytes_max: self.parts.payload_bytes_max, ..socketio::Limits::default() };
        let decoded = match message {
            Message::Binary(bytes) => self.decoder.binary(bytes, &limits),
            Message::Text(text) => match EnginePacket::decode(text) {
                Ok(EnginePacket::Text(text)) => self.decoder.text(text, &limits),
                Ok(EnginePacket::Binary(bytes)) => self.decoder.binary(&bytes, &limits),
                Ok(EnginePacket::Pong(_)) => return,
                // In version 4 the server pings.
                Ok(EnginePacket::Ping(_)) => return broken(actions, "heartbeat_direction", "a ping of a client"),
                // The reference takes no notice of these.
                Ok(EnginePacket::Open(_) | EnginePacket::Close | EnginePacket::Upgrade | EnginePacket::Noop) => {
                    return actions.ignored("packet_out_of_place");
                }
                Err(error) => return broken(actions, error.cause(), &error.to_string()),
            },
        };
        match decoded {
            Ok(Some(packet)) => self.packet(&packet, actions),
            Ok(None) => {}
            Err(error) => malformed(actions, &error),
        }
    }

    fn encode_reply(&mut self, reply: &Reply, _now: Now, out: &mut Vec<u8>) -> Encoded {
        let is = |id: &str| matches!(&reply.id, Some(RequestId::Text(text)) if **text == *id);
        match (&reply.body, self.stage) {
            (ReplyBody::Connected(connected), _) => {
                self.stage = Stage::Known(connected.client);
                self.user = connected.user.as_ref().map(|user| quoted(&user.0).into());
                Encoded::Nothing
            }
            (ReplyBody::Subscribed(subscribed), Stage::Known(client) | Stage::Returning(client))
                if subscribed.channel == self.parts.channel =>
            {
                self.stage = Stage::Inside(client);
                out.push(MESSAGE);
                put_connected(out, MAIN_NAMESPACE, &client.to_string(), None);
                Encoded::Text
            }
            (ReplyBody::Error(_), Stage::Asking) if is(CONNECT) => {
                self.stage = Stage::Outside;
                out.push(MESSAGE);
                put_connect_error(out, MAIN_NAMESPACE, &self.parts.refusal, None);
                Encoded::Text
            }
            // It has a session and no subscription, which is the server's fault. (Commands from before it left may be
            // refused while it returns.)
            (ReplyBody::Error(_), Stage::Known(_)) => Encoded::Close(Disconnect::Internal),
            (ReplyBody::Error(_), Stage::Returning(_)) if is(RETURN) => Encoded::Close(Disconnect::Internal),
            (ReplyBody::Result(answer), Stage::Inside(_)) => match &reply.id {
                Some(RequestId::Number(id)) => {
                    out.push(MESSAGE);
                    put_head(out, Kind::Ack, None, MAIN_NAMESPACE, Some(*id));
                    out.push(b'[');
                    out.extend_from_slice(answer);
                    out.push(b']');
                    Encoded::Text
                }
                _ => Encoded::Nothing,
            },
            (ReplyBody::Error(_), _) => Encoded::Ignored,
            _ => Encoded::Nothing,
        }
    }
}

impl Socket {
    fn packet(&mut self, packet: &Packet<'_>, actions: &mut Actions) {
        match (packet.kind, self.stage) {
            (Kind::Connect, _) if packet.namespace != MAIN_NAMESPACE => {
                let mut out = vec![MESSAGE];
                put_connect_error(&mut out, &packet.namespace, "Invalid namespace", None);
                actions.answer(Message::Text(std::str::from_utf8(&out).unwrap_or_default()));
            }
            (Kind::Connect, Stage::Outside) => self.connect(packet.data.as_deref(), actions),
            (Kind::Connect, Stage::Left(client)) => {
                self.stage = Stage::Returning(client);
                let subscribe = Command::Subscribe { subs: vec![self.subscription()], many: false };
                actions.requests.push(Request { id: Some(RequestId::Text(RETURN.into())), command: subscribe });
            }
            (Kind::Disconnect, Stage::Inside(client)) if packet.namespace == MAIN_NAMESPACE => {
                self.stage = Stage::Left(client);
                self.rooms = Vec::new();
                actions.requests.push(silent(Command::Unsubscribe { channel: self.parts.channel.clone() }));
            }
            (Kind::Event, Stage::Inside(client)) if packet.namespace == MAIN_NAMESPACE => {
                self.event(client, packet, actions);
            }
            // No event of ours asks for one.
            (Kind::Ack, Stage::Inside(_)) if packet.namespace == MAIN_NAMESPACE => actions.ignored("ack"),
            _ => broken(actions, "packet_out_of_place", "a packet at the wrong moment"),
        }
    }

    fn connect(&mut self, auth: Option<&str>, actions: &mut Actions) {
        #[derive(Deserialize)]
        struct Auth {
            token: Option<String>,
        }
        // A token that is no text is none: the guard decides about clients without one.
        let token = auth.filter(|_| self.parts.has_guard).and_then(|auth| serde_json::from_str::<Auth>(auth).ok());
        let token = token.and_then(|auth| auth.token).map(|token| UserToken::from(token.as_str()));
        self.stage = Stage::Asking;
        let connect = Connect { token, subscribe: vec![self.subscription()], ..Connect::default() };
        let command = Command::Connect(Box::new(connect));
        actions.requests.push(Request { id: Some(RequestId::Text(CONNECT.into())), command });
    }

    fn subscription(&self) -> SubOptions {
        SubOptions { signals: false, ..SubOptions::new(self.parts.channel.clone()) }
    }

    /// An event of a socket that is in the namespace.
    fn event(&mut self, client: ClientId, packet: &Packet<'_>, actions: &mut Actions) {
        let data = packet.data.as_deref().unwrap_or_default();
        let Some(event) = Event::of(data) else { return };
        let attachments = packet.attachments.as_deref().unwrap_or_default();
        let Some(name) = event.text() else { return actions.ignored("event_name") };
        let mut args = event.args;
        match &*name {
            "join-room" => self.join_room(client, args.next(), actions),
            "message" => {
                let Some(room) = self.rooms.first() else { return actions.ignored("no_room") };
                let mut out = b"[\"message\",{".to_vec();
                put_spread(&mut out, args.next().unwrap_or_default(), &["userId", "timestamp"]);
                self.put_user(client, &mut out);
                put_timestamp(&mut out, actions.now);
                out.extend_from_slice(b"}]");
                let audience = Audience { rooms: vec![room.clone()], ..Audience::default() };
                self.publish(out, attachments, audience, actions);
            }
            "typing" => {
                let Some(room) = self.rooms.first() else { return actions.ignored("no_room") };
                let mut out = b"[\"user-typing\",{".to_vec();
                self.put_user(client, &mut out);
                if let Some(is_typing) = args.next() {
                    out.extend_from_slice(b",\"isTyping\":");
                    out.extend_from_slice(is_typing.as_bytes());
                }
                out.extend_from_slice(b"}]");
                let audience = Audience { rooms: vec![room.clone()], except: vec![client], ..Audience::default() };
                self.publish(out, attachments, audience, actions);
            }
            _ if !self.parts.has_calls => actions.ignored("unknown_event"),
            _ if !attachments.is_empty() => actions.ignored("call_with_attachments"),
            _ => {
                let args = Bytes::from(format!("[{}]", args.rest()));
                let command = Command::Rpc { method: name.into(), data: args };
                actions.requests.push(Request { id: packet.id.map(RequestId::Number), command });
            }
        }
    }

    fn join_room(&mut self, client: ClientId, room: Option<&str>, actions: &mut Actions) {
        // A room is named by a text; another value is named by its JSON.
        let name = room.map(|room| serde_json::from_str::<String>(room).unwrap_or_else(|_| room.to_owned()));
        let Some(room) = name.as_deref().and_then(Room::new) else { return actions.ignored("room_name") };
        if !self.rooms.contains(&room) {
            if self.rooms.len() >= self.parts.rooms_max {
                return actions.ignored("too_many_rooms");
            }
            self.rooms.push(room.clone());
        }
        let channel = self.parts.channel.clone();
        let join = RoomCommand::Join { channel, room: room.clone() };
        actions.requests.push(silent(Command::Room(Box::new(join))));
        let mut out = b"[\"user-joined\",{".to_vec();
        self.put_user(client, &mut out);
        put_timestamp(&mut out, actions.now);
        out.extend_from_slice(b"}]");
        let audience = Audience { rooms: vec![room], except: vec![client], ..Audience::default() };
        self.publish(out, &[], audience, actions);
    }

    /// `"userId":…`: the user where one is proven, else the socket.
    fn put_user(&self, client: ClientId, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\"userId\":");
        match &self.user {
            Some(user) => out.extend_from_slice(user.as_bytes()),
            None => put_text(out, &client.to_string()),
        }
    }

    fn publish(&self, data: Vec<u8>, attachments: &[Bytes], audience: Audience, actions: &mut Actions) {
        // What was put together of valid JSON is valid, and may be one level deeper.
        let Ok(text) = std::str::from_utf8(&data) else { return };
        if json::payload(&data).is_err() {
            return actions.ignored("too_deep");
        }
        let data = match attachments {
            [] => Data::Json(data.into()),
            attachments => match socketio::bundle(text, attachments) {
                Some(bundle) => Data::Binary(bundle),
                None => return actions.ignored("packet_size"),
            },
        };
        let channel = self.parts.channel.clone();
        let publish = Publish { channel, data, event: None, idempotency_key: None, echo: true };
        actions.requests.push(silent(Command::Room(Box::new(RoomCommand::Publish { publish, audience }))));
    }
}

/// The messages of an event that was published.
fn put_event(data: &Data, out: &mut Vec<u8>) -> Encoded {
    match data {
        Data::Json(json) => {
            out.push(MESSAGE);
            put_head(out, Kind::Event, None, MAIN_NAMESPACE, None);
            out.extend_from_slice(json);
            Encoded::Text
        }
        Data::Binary(bundle) => {
            let mut parts = socketio::parts(bundle);
            let json = parts.next().unwrap_or_default();
            let mut text = vec![MESSAGE];
            put_head(&mut text, Kind::Event, Some(parts.clone().count()), MAIN_NAMESPACE, None);
            text.extend_from_slice(json);
            put_message(out, Message::Text(std::str::from_utf8(&text).unwrap_or_default()));
            parts.for_each(|attachment| put_message(out, Message::Binary(attachment)));
            Encoded::Several
        }
    }
}

fn put_timestamp(out: &mut Vec<u8>, now: Now) {
    out.extend_from_slice(b",\"timestamp\":");
    out.extend_from_slice(now.wall_ms.to_string().as_bytes());
}

fn quoted(text: &str) -> String {
    let mut out = Vec::new();
    put_text(&mut out, text);
    String::from_utf8(out).unwrap_or_default()
}

fn silent(command: Command) -> Request {
    Request { id: None, command }
}

fn malformed(actions: &mut Actions, error: &DecodeError) {
    broken(actions, error.cause(), &error.to_string());
}

/// The client has broken the protocol: the connection ends.
fn broken(actions: &mut Actions, cause: &'static str, error: &str) {
    tracing::debug!(peer = %actions.peer, error, "a Socket.IO client broke the protocol");
    actions.ignored(cause);
    actions.close(Disconnect::BadProtocol);
}
