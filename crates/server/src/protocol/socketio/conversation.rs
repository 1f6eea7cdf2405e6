//! One connection of Socket.IO: from the engine's messages to commands of the hub, and from replies to packets.
//!
//! In: messages of the transport, and the hub's replies to what was asked here. Out: requests, immediate answers, and
//! the end of a connection that breaks the protocol as the reference ends it. Each namespace that the client has
//! entered, or enters, is a socket in a seat of the connection: a session of the hub, with an identity, an id and rooms
//! of its own. A seat that was left serves the next namespace. The events of a socket go to `builtin`.

use super::namespaces::Namespace;
use super::publish::{data_of, put_publication};
use super::recovery::{self, Auth, Returning};
use super::seam::{HandledSocket, Opaque};
use super::{MESSAGE, Parts, Reason};
use crate::protocol::{Actions, Breach, Conversation, Encoded, Message, Place, put_message};
use crate::request::RequestInfo;
use fanfare_hub::{
    ClientId, Command, Connect, Disconnect, Error, ErrorCode, Now, PageId, Position, Push, Reply, ReplyBody, Request,
    RequestId, Room, RoomCommand, Seat, SubOptions, Subscribed, UserToken,
};
use fanfare_wire::engineio::Packet as EnginePacket;
use fanfare_wire::socketio::{
    self, DecodeError, Decoder, Event, Kind, Packet, put_connect_error, put_connected, put_head, put_text,
};
use smallvec::SmallVec;
use std::any::Any;
use std::sync::Arc;

/// The command whose answer matters, as its id. Calls have the number of their ack.
const CONNECT: &str = "connect";

/// The cause of packets that come at the wrong moment.
const OUT_OF_PLACE: &str = "packet_out_of_place";

/// The longest `auth` of a client. Guards and handlers keep it.
const AUTH_BYTES_MAX: usize = 16 << 10;

/// How far a socket has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It has not asked, was refused, or has left: the seat is free.
    Outside,
    /// The guards of the application are asked.
    Guarded,
    /// The hub is asked.
    Asking,
    /// It is known to the hub, and its subscription is on its way.
    Known(ClientId),
    /// Its events count.
    Inside(ClientId),
    /// It does not go on as the socket that it was: it begins anew.
    Anew {
        /// The hub knows it as that socket.
        has_session: bool,
    },
}

/// One connection.
pub(crate) struct Client {
    pub(super) parts: Arc<Parts>,
    decoder: Decoder,
    place: Place,
    /// By seat.
    pub(super) sockets: SmallVec<[Socket; 1]>,
    /// The request that the connection began with, if a handler needs it.
    pub(super) request: Option<Arc<RequestInfo>>,
    /// What the handlers keep of it. Set with the first namespace that has some.
    pub(super) of_connection: Option<Opaque>,
}

/// A client in a namespace, or on its way there.
pub(super) struct Socket {
    pub(super) parts: Arc<Parts>,
    pub(super) namespace: Arc<Namespace>,
    pub(super) stage: Stage,
    /// Its user, as JSON text.
    pub(super) user: Option<Box<str>>,
    /// In the order in which it joined them. The built-in events use them.
    pub(super) rooms: Vec<Room>,
    /// Its part on the side of the application, if the namespace has handlers.
    pub(super) handled: Option<Box<dyn HandledSocket>>,
    /// The socket that its client was before a cut.
    returning: Option<Box<Returning>>,
}

impl Client {
    pub(super) fn new(parts: Arc<Parts>, place: Place, request: Option<Arc<RequestInfo>>) -> Self {
        Client { parts, place, decoder: Decoder::default(), sockets: SmallVec::new(), request, of_connection: None }
    }
}

impl Conversation for Client {
    fn message(&mut self, message: Message<'_>, actions: &mut Actions) {
        let limits = socketio::Limits { packet_bytes_max: self.parts.payload_bytes_max, ..socketio::Limits::default() };
        let decoded = match message {
            Message::Binary(bytes) => self.decoder.binary(bytes, &limits),
            Message::Text(text) => match EnginePacket::decode(text) {
                Ok(EnginePacket::Text(text)) => self.decoder.text(text, &limits),
                Ok(EnginePacket::Binary(bytes)) => self.decoder.binary(&bytes, &limits),
                // Everything before its ping has arrived.
                Ok(EnginePacket::Pong(_)) => {
                    return actions.requests.extend(self.parts.recovers().then(|| silent(Command::Pong)));
                }
                // In version 4 the server pings.
                Ok(EnginePacket::Ping(_)) => {
                    return broken(actions, Breach::Transport, "heartbeat_direction", "a ping of a client");
                }
                // The reference takes no notice of these.
                Ok(EnginePacket::Open(_) | EnginePacket::Close | EnginePacket::Upgrade | EnginePacket::Noop) => {
                    return actions.ignored(OUT_OF_PLACE);
                }
                Err(error) => return broken(actions, Breach::Packet, error.cause(), &error.to_string()),
            },
        };
        match decoded {
            Ok(Some(packet)) => self.packet(&packet, actions),
            Ok(None) => {}
            Err(error) => malformed(actions, &error),
        }
    }

    fn encode_reply(&mut self, reply: &Reply, now: Now, out: &mut Vec<u8>) -> Encoded {
        self.encode_reply_in(Seat::default(), reply, now, out)
    }

    fn encode_reply_in(&mut self, Seat(seat): Seat, reply: &Reply, now: Now, out: &mut Vec<u8>) -> Encoded {
        match self.sockets.get_mut(usize::from(seat)) {
            Some(socket) => socket.encode_reply(reply, (&self.place, now), out),
            None => Encoded::Nothing,
        }
    }

    fn takes_presence(&mut self, push: &Push) -> bool {
        // A socket gets no event about its own coming.
        let Push::Presence(push) = push else { return true };
        let own = |socket: &Socket| matches!(socket.stage, Stage::Inside(client) if client == push.entry.client);
        !self.sockets.iter().any(own)
    }

    fn pushed(&mut self, push: &Push) {
        if let Push::Message { channel, .. } = push
            && let Some(socket) = self.sockets.iter_mut().find(|socket| socket.namespace.channel == *channel)
        {
            socket.leave(Reason::ServerDisconnected);
        }
    }

    fn last_words(&mut self, reason: Disconnect, out: &mut Vec<u8>) -> Option<Encoded> {
        // A client that is disconnected in words does not come back by itself; after any other end it does.
        if reason != Disconnect::Kicked {
            return None;
        }
        for socket in self.sockets.iter().filter(|socket| socket.stage != Stage::Outside) {
            let mut text = vec![MESSAGE];
            put_head(&mut text, Kind::Disconnect, None, &socket.namespace.name, None);
            put_message(out, Message::written(&text));
        }
        Some(Encoded::Several)
    }

    fn as_any(&mut self) -> Option<&mut dyn Any> {
        Some(self)
    }
}

impl Client {
    fn packet(&mut self, packet: &Packet<'_>, actions: &mut Actions) {
        let at = self.sockets.iter().position(|socket| socket.is_in(&packet.namespace));
        let Some(at) = at else {
            return match packet.kind {
                Kind::Connect => self.connect(packet, actions),
                _ => broken(actions, Breach::Message, OUT_OF_PLACE, "a packet of a namespace that was not entered"),
            };
        };
        actions.seat = Seat(at as u16);
        let socket = &mut self.sockets[at];
        match (packet.kind, socket.stage) {
            (Kind::Disconnect, Stage::Inside(_)) => {
                actions.busy |= !socket.leave(Reason::ClientLeft);
                actions.requests.push(silent(Command::Leave));
            }
            (Kind::Event, Stage::Inside(client)) => socket.said(client, packet, actions),
            (Kind::Ack, Stage::Inside(_)) => socket.answers(packet, actions),
            _ => broken(actions, Breach::Message, OUT_OF_PLACE, "a packet at the wrong moment"),
        }
    }

    /// The client wants to enter a namespace that it is not in.
    fn connect(&mut self, packet: &Packet<'_>, actions: &mut Actions) {
        let Some(namespace) = self.parts.namespaces.find(&packet.namespace) else {
            return refuse(actions, &packet.namespace, "Invalid namespace", None);
        };
        let free = self.sockets.iter().position(|socket| socket.stage == Stage::Outside);
        let at = free.unwrap_or(self.sockets.len());
        if at >= self.parts.namespaces_max {
            return refuse(actions, &packet.namespace, "Too many namespaces", None);
        }
        if packet.data.as_deref().is_some_and(|auth| auth.len() > AUTH_BYTES_MAX) {
            return refuse(actions, &packet.namespace, "auth exceeds the limit of 16 KiB", None);
        }
        let parts = self.parts.clone();
        let (stage, rooms) = (Stage::Asking, Vec::new());
        let auth = packet.data.as_deref();
        let pid = Auth::of(auth.filter(|_| parts.recovers()));
        let mut returning = pid.returning(&self.place, &namespace.name, actions.now).map(Box::new);
        let is_guarded = parts.has_guard || namespace.handlers.is_some();
        if let Some(returning) = returning.as_mut().filter(|_| parts.skips_guards || !is_guarded) {
            returning.unasked = Some(auth.map(Into::into));
        }
        let socket = Socket { parts, namespace, stage, user: None, rooms, handled: None, returning };
        match free {
            Some(at) => self.sockets[at] = socket,
            None => self.sockets.push(socket),
        }
        self.ask(at, auth, actions);
    }

    /// Asks whether the client in this seat may enter: the guards first, where there are some.
    fn ask(&mut self, at: usize, auth: Option<&str>, actions: &mut Actions) {
        let seat = Seat(at as u16);
        actions.seat = seat;
        let socket = &mut self.sockets[at];
        match socket.namespace.handlers.clone() {
            Some(handlers) => {
                socket.stage = Stage::Guarded;
                self.ask_guards(seat, handlers, auth, actions);
            }
            None => {
                socket.stage = Stage::Asking;
                actions.requests.push(socket.enter(auth, Connect::default()));
            }
        }
    }

    /// True if the client in this seat does not go on as the socket that it was: [`Self::begin_anew`] is due.
    pub(crate) fn begins_anew(&self, Seat(seat): Seat) -> bool {
        self.sockets.get(usize::from(seat)).is_some_and(|socket| matches!(socket.stage, Stage::Anew { .. }))
    }

    /// It enters as another socket, with what it has shown. The socket that it was ends, if that is still there.
    pub(crate) fn begin_anew(&mut self, Seat(seat): Seat, actions: &mut Actions) {
        let Some(socket) = self.sockets.get_mut(usize::from(seat)) else { return };
        let Stage::Anew { has_session } = socket.stage else { return };
        let shown = socket.returning.take().and_then(|returning| returning.unasked).flatten();
        (socket.user, socket.handled) = (None, None);
        if has_session {
            actions.requests.push(silent(Command::Leave));
        }
        self.ask(usize::from(seat), shown.as_deref(), actions);
    }
}

impl Socket {
    /// True if packets of this namespace are for it.
    fn is_in(&self, namespace: &str) -> bool {
        self.stage != Stage::Outside && *self.namespace.name == *namespace
    }

    /// No guard was asked, so it may enter only as the socket that it was.
    pub(super) fn is_unasked(&self) -> bool {
        self.returning.as_ref().is_some_and(|returning| returning.unasked.is_some())
    }

    /// The command by which it enters.
    pub(super) fn enter(&self, auth: Option<&str>, connect: Connect) -> Request {
        // A token that is no text is none: the guard decides about clients without one.
        let only_resume = self.is_unasked();
        let token = Auth::of(auth.filter(|_| self.parts.has_guard && !only_resume)).token;
        let token = token.as_str().map(UserToken::from);
        let returning = self.returning.as_deref();
        let subscribe = vec![self.parts.options(SubOptions::new(self.namespace.channel.clone()), returning)];
        let resume = returning.map(|returning| returning.resume);
        // A `pid` is known to one page alone: it takes its socket from a connection that is not yet known to be cut.
        let page = PageId::new("pid").filter(|_| self.parts.recovers());
        let connect = Connect { token, subscribe, resume, only_resume, page, ..connect };
        Request { id: Some(RequestId::Text(CONNECT.into())), command: Command::Connect(Box::new(connect)) }
    }

    fn encode_reply(&mut self, reply: &Reply, (place, now): (&Place, Now), out: &mut Vec<u8>) -> Encoded {
        let is = |id: &str| matches!(&reply.id, Some(RequestId::Text(text)) if **text == *id);
        match (&reply.body, self.stage) {
            (ReplyBody::Connected(connected), Stage::Asking) => {
                self.stage = Stage::Known(connected.client);
                self.user = connected.user.as_ref().map(|user| quoted(&user.0).into());
                if let Some(handled) = &self.handled {
                    handled.known(connected);
                }
                Encoded::Nothing
            }
            (ReplyBody::Subscribed(subscribed), Stage::Known(client))
                if subscribed.channel == self.namespace.channel =>
            {
                let recovers = self.returning.is_some() && subscribed.recovered == Some(true);
                if self.is_unasked() && !recovers {
                    self.stage = Stage::Anew { has_session: true };
                    return Encoded::Nothing;
                }
                self.stage = Stage::Inside(client);
                if let Some(handled) = &self.handled {
                    handled.entered(recovers.then_some(&subscribed.rooms));
                }
                self.put_entered(subscribed, client, (place, now), out)
            }
            (ReplyBody::Error(_), Stage::Asking) if is(CONNECT) && self.is_unasked() => {
                self.stage = Stage::Anew { has_session: false };
                Encoded::Nothing
            }
            (ReplyBody::Error(error), Stage::Asking) if is(CONNECT) => {
                self.stage = Stage::Outside;
                out.push(MESSAGE);
                // Nobody has judged a client that may try again: it is told so, and not that it is unwelcome.
                let data = retry_data(error);
                let message = if data.is_some() { &error.message } else { &self.parts.refusal };
                // With another token it would be welcome.
                let expired = (error.code == ErrorCode::TokenExpired).then_some(TOKEN_EXPIRED);
                let data = data.as_deref().or(expired);
                put_connect_error(out, &self.namespace.name, message, data);
                Encoded::Text
            }
            // It has a session and no subscription, which is the server's fault.
            (ReplyBody::Error(_), Stage::Known(_)) => Encoded::Close(Disconnect::Internal),
            (ReplyBody::Result(answer), Stage::Inside(_)) => match &reply.id {
                Some(RequestId::Number(id)) => {
                    out.push(MESSAGE);
                    put_head(out, Kind::Ack, None, &self.namespace.name, Some(*id));
                    out.push(b'[');
                    out.extend_from_slice(answer);
                    out.push(b']');
                    Encoded::Text
                }
                _ => Encoded::Nothing,
            },
            // An event of the client has taken effect, now or when it was said first. Its repeats have another
            // `timestamp`, so that the hub takes them for other publications by the same id.
            (ReplyBody::Published { .. } | ReplyBody::Done | ReplyBody::Subscribed(_), Stage::Inside(_)) => {
                self.put_ack(reply, out)
            }
            (ReplyBody::Error(error), Stage::Inside(_)) if error.code == ErrorCode::KeyConflict => {
                self.put_ack(reply, out)
            }
            (ReplyBody::Error(_), _) => Encoded::Ignored,
            _ => Encoded::Nothing,
        }
    }

    /// The ack of an event of the client, if it wants one.
    fn put_ack(&self, reply: &Reply, out: &mut Vec<u8>) -> Encoded {
        let Some(RequestId::Number(id)) = reply.id else { return Encoded::Nothing };
        self.put_done(id, out);
        Encoded::Text
    }

    /// It is in the namespace: tells its id, behind the events that it missed where it goes on after a cut.
    fn put_entered(
        &mut self,
        subscribed: &Subscribed,
        client: ClientId,
        (place, now): (&Place, Now),
        out: &mut Vec<u8>,
    ) -> Encoded {
        let name = &self.namespace.name;
        let returning = self.returning.take().filter(|_| subscribed.recovered == Some(true));
        let pid = match returning {
            Some(returning) => {
                self.rooms = subscribed.rooms.clone();
                Some(returning.pid)
            }
            None => self.parts.recovers().then(|| recovery::pid(place, name, client, now).into()),
        };
        let mut text = vec![MESSAGE];
        put_connected(&mut text, name, &client.to_string(), pid.as_deref());
        if subscribed.publications.is_empty() {
            out.extend_from_slice(&text);
            return Encoded::Text;
        }
        for publication in &subscribed.publications {
            let at = Position { epoch: subscribed.position.epoch, offset: publication.offset };
            let mut event = Vec::new();
            match put_publication(publication, name, Some(at), &mut event) {
                Encoded::Several => out.extend_from_slice(&event),
                _ => put_message(out, Message::written(&event)),
            }
        }
        put_message(out, Message::written(&text));
        Encoded::Several
    }

    /// It is out. False if the connection must not be read until the handlers have caught up.
    pub(super) fn leave(&mut self, reason: Reason) -> bool {
        let goes_on = self.tell_left(reason);
        self.stage = Stage::Outside;
        self.rooms = Vec::new();
        goes_on
    }

    /// The log and the handlers hear that it has left, or that its connection has ended. False as above.
    pub(super) fn tell_left(&mut self, reason: Reason) -> bool {
        if let Stage::Known(client) | Stage::Inside(client) = self.stage {
            let (namespace, client) = (&*self.namespace.name, tracing::field::display(client));
            tracing::debug!(namespace, client, reason = reason.as_str(), "a socket of Socket.IO has left");
        }
        self.handled.take().is_none_or(|handled| handled.left(reason))
    }

    /// Its client answers an event of the application.
    fn answers(&self, packet: &Packet<'_>, actions: &mut Actions) {
        let attachments = packet.attachments.as_deref().unwrap_or_default();
        let data = data_of(packet.data.as_deref().unwrap_or("[]").into(), attachments);
        let (Some(id), Some(data)) = (packet.id, data) else { return actions.ignored("packet_size") };
        actions.requests.push(of_room(RoomCommand::Answer { channel: self.namespace.channel.clone(), id, data }));
    }

    /// Its client has sent an event.
    fn said(&mut self, client: ClientId, packet: &Packet<'_>, actions: &mut Actions) {
        if let Some(handled) = &self.handled {
            return Socket::hand_over(&**handled, packet, actions);
        }
        let attachments = packet.attachments.as_deref().unwrap_or_default();
        if let Some(event) = Event::of(packet.data.as_deref().unwrap_or_default()) {
            self.event(client, event, (attachments, packet.id), actions);
        }
    }
}

/// The namespace is not entered. `data` is JSON.
pub(super) fn refuse(actions: &mut Actions, namespace: &str, message: &str, data: Option<&[u8]>) {
    let mut out = vec![MESSAGE];
    put_connect_error(&mut out, namespace, message, data);
    actions.answer(Message::written(&out));
}

/// The `data` of a `connect_error` for a client that needs a new token.
const TOKEN_EXPIRED: &[u8] = br#"{"code":"token_expired","retryable":false}"#;

/// The `data` of a `connect_error` after which the client may try again, unchanged: JSON with the words of the error
/// in the native protocol. `None` for other errors.
pub(crate) fn retry_data(error: &Error) -> Option<Vec<u8>> {
    let row = error.code.row();
    let retry_after = error.retry_after_ms.map(|ms| format!(",\"retry_after\":{ms}")).unwrap_or_default();
    row.retryable.then(|| format!("{{\"code\":\"{}\",\"retryable\":true{retry_after}}}", row.word).into())
}

fn quoted(text: &str) -> String {
    let mut out = Vec::new();
    put_text(&mut out, text);
    String::from_utf8(out).unwrap_or_default()
}

/// A command whose answer does not matter.
pub(super) fn silent(command: Command) -> Request {
    Request { id: None, command }
}

pub(super) fn of_room(command: RoomCommand) -> Request {
    silent(Command::Room(Box::new(command)))
}

/// A message of the client is none.
pub(super) fn malformed(actions: &mut Actions, error: &DecodeError) {
    broken(actions, Breach::Message, error.cause(), &error.to_string());
}

/// The client has broken the protocol: the connection ends.
fn broken(actions: &mut Actions, breach: Breach, cause: &'static str, error: &str) {
    actions.ignored(cause);
    actions.breach = Some((breach, error.to_owned()));
}
