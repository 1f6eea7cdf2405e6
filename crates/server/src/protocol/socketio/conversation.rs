//! One connection of Socket.IO: from the engine's messages to commands of the hub, and from replies to packets.
//!
//! In: messages of the transport, and the hub's replies to what was asked here. Out: requests, immediate answers, and
//! the end of a connection that breaks the protocol as the reference ends it. The events of a socket that is in the
//! namespace go to `builtin`.

use super::{MESSAGE, Parts};
use crate::protocol::{Actions, Conversation, Encoded, Message};
use fanfare_hub::{
    ClientId, Command, Connect, Disconnect, Now, Reply, ReplyBody, Request, RequestId, Room, SubOptions, UserToken,
};
use fanfare_wire::engineio::Packet as EnginePacket;
use fanfare_wire::socketio::{
    self, DecodeError, Decoder, Kind, MAIN_NAMESPACE, Packet, put_connect_error, put_connected, put_head, put_text,
};
use serde::Deserialize;
use std::sync::Arc;

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
pub(super) struct Socket {
    pub(super) parts: Arc<Parts>,
    decoder: Decoder,
    stage: Stage,
    /// Its user, as JSON text.
    pub(super) user: Option<Box<str>>,
    /// In the order in which it joined them.
    pub(super) rooms: Vec<Room>,
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
    pub(super) fn new(parts: Arc<Parts>) -> Self {
        Socket { parts, decoder: Decoder::default(), stage: Stage::Outside, user: None, rooms: Vec::new() }
    }

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
}

fn quoted(text: &str) -> String {
    let mut out = Vec::new();
    put_text(&mut out, text);
    String::from_utf8(out).unwrap_or_default()
}
pub(super) fn silent(command: Command) -> Request {
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
