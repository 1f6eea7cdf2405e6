//! The chat protocol: a plain `WebSocket` and JSON are enough for a client to chat.
//!
//! In: one text (or binary) message as JSON `{type: join|message|leave|typing, userId, username, content?, roomId?,
//! timestamp}`, times in ms. Out: commands of the hub; and pushes and replies as such JSON. A chat keeps
//! no state but its joined identity: room R is the channel `chat:R`, its members are that channel's presence, typing is
//! a signal. So clients of other protocols meet chat clients in the same channels.
//!
//! A person is a userId, in one tab or in several: a `room_state` names each once, by the name of the latest entry, and
//! `leave` is said of the last one (the channel's home knows which that is). `join` is said of each.
//!
//! A message that is not understood is an [`Ignored`] for the log and the metrics; it never ends the connection by
//! itself. A field that a message does not need is never a reason to ignore it. Texts that are shown (`content`,
//! `username`) are cleaned and bounded where [`ChatTexts`] say so; else they pass as they came, also with half an emoji
//! (`"\ud83d"`, a lone surrogate, which is JSON). Texts that are compared (`userId`, `roomId`) must be Unicode. A
//! member who came earlier is in the `room_state`, a member who comes later is announced by a `join` after it, and no
//! member by both ([`Chat::takes`]): a client may take the `room_state` for the whole list. A publication becomes a
//! message by this order: the sender is `from.user`, else `data.userId`, else `from.client`; data that is a string or
//! holds a string `content` is the content, other data its JSON text.
//!
//! A refusal of the last `join`, or of what was said in the room, is told as `{type: error, code, message, retryable,
//! retryAfter?, roomId, timestamp}`: clients that do not know the type ignore it. After a refused
//! `join` the client is in no room.
//!
//! The application can subscribe a chat client to more channels than its room: their messages come like those of the
//! room. One that it takes out of a room is closed with `kicked`, for there is no word for that either.

use crate::json;
use crate::texts::TextRule;
use base64::Engine as _;
use bytes::Bytes;
use fanfare_hub::{
    ChannelName, ClientId, Command, Connect, Data, Disconnect, Error, ErrorCode, InvalidName, PresenceEntry,
    PresenceKind, PresencePush, Publication, Publish, Push, Reply, ReplyBody, Request, RequestId, Signal, SignalPush,
    SubOptions, UserId,
};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;

#[doc(hidden)]
pub mod fuzz;
mod ignored;
#[cfg(test)]
mod tests;

pub use ignored::Ignored;

/// The longest room, percent-encoded, in bytes.
pub const ROOM_BYTES_MAX: usize = 200;
/// The longest userId and username, in bytes.
pub const NAME_BYTES_MAX: usize = 256;
/// The room of a `join` that names none.
pub const ROOM_DEFAULT: &str = "general";
const CHANNEL_PREFIX: &str = "chat:";
const TYPING: &str = "typing";
/// One connection's chat: the person it joined as, if it has.
#[derive(Debug, Default)]
pub struct Chat {
    /// The token's user, which no frame can overwrite.
    user: Option<UserId>,
    /// Our client id in the hub's presence.
    client: Option<ClientId>,
    joined: Option<Box<Joined>>,
    /// How many joins there were: the number of the last one, by which its answers are known.
    joins: u64,
    texts: Option<ChatTexts>,
}

/// The bounds of texts that are shown, in characters. Such texts are cleaned too ([`texts`](crate::texts)), and a
/// `username` is one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChatTexts {
    /// The longest `username`. Default 64.
    pub username_chars_max: u32,
    /// The longest `content`. Default 4,000.
    pub content_chars_max: u32,
}

impl Default for ChatTexts {
    fn default() -> Self {
        ChatTexts { username_chars_max: 64, content_chars_max: 4_000 }
    }
}

impl ChatTexts {
    /// A text of this field as it is shown, as JSON.
    fn shown<'r>(texts: Option<&ChatTexts>, field: Field, raw: &'r RawValue) -> Result<Cow<'r, str>, Ignored> {
        let Some(texts) = texts else { return Ok(Cow::Borrowed(raw.get())) };
        let max = if field == Field::Username { texts.username_chars_max } else { texts.content_chars_max };
        let rule = TextRule { chars_max: Some(max as usize), one_line: field == Field::Username, escape_html: false };
        rule.clean_json(raw, true).map_err(|long| Ignored::TextLength { field: field.name(), len: long.len, max })
    }
}

#[derive(Debug)]
struct Joined {
    channel: ChannelName,
    /// The end of its messages, as JSON: `"userId":…,"username":…}`.
    names: Box<[u8]>,
    knows: Knows,
}

/// What a chat knows of the others in its room.
#[derive(Debug, Clone, Copy)]
enum Knows {
    /// It is not subscribed yet. It may still stand in the same room by an earlier join, of which it has heard enough.
    Nothing,
    /// It is subscribed and waits for its `room_state`. `own`: the channel's presence number of its own join, once that
    /// has come.
    Itself { own: u64 },
    /// It has the `room_state` as of this presence number.
    All { since: u64 },
}

/// The commands of a chat whose answers matter, as their ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TrackedCommand {
    Connect,
    /// To be in the room, by the number of the join.
    Subscribe(u64),
    /// The members of the room.
    RoomState(u64),
}

impl TrackedCommand {
    fn id(self) -> RequestId {
        RequestId::Number(match self {
            TrackedCommand::Connect => 0,
            TrackedCommand::Subscribe(join) => 2 * join,
            TrackedCommand::RoomState(join) => 2 * join + 1,
        })
    }
}

/// A message to write, or the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// One message was appended.
    Message,
    /// Several messages were appended, each as a line. They stay together, in order.
    Messages,
    /// The chat protocol has no words for it.
    Nothing,
    /// It is the transport's own ping.
    Ping,
    /// The chat protocol has no message for this loss: the client is to be closed and joins again.
    Close(Disconnect),
}

/// The fields of a chat message, by their places in [`Incoming`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Type,
    UserId,
    Username,
    Content,
    RoomId,
}

impl Field {
    const ALL: [Field; 5] = [Field::Type, Field::UserId, Field::Username, Field::Content, Field::RoomId];

    fn name(self) -> &'static str {
        match self {
            Field::Type => "type",
            Field::UserId => "userId",
            Field::Username => "username",
            Field::Content => "content",
            Field::RoomId => "roomId",
        }
    }
}

/// The known fields of a message or of a payload. Each is judged when it is asked for.
#[derive(Default)]
struct Incoming<'a> {
    fields: [Option<&'a RawValue>; Field::ALL.len()],
    twice: [bool; Field::ALL.len()],
}

impl<'a> Incoming<'a> {
    fn read(text: &'a str) -> Result<Self, serde_json::Error> {
        json::object(text, |incoming: &mut Self, name, value| {
            let Some(field) = Field::ALL.into_iter().find(|field| field.name() == name) else { return };
            let place = field as usize;
            incoming.twice[place] |= incoming.fields[place].replace(value).is_some();
        })
    }

    /// The value of the field; `null` counts as absent.
    fn get(&self, field: Field) -> Result<Option<&'a RawValue>, Ignored> {
        if self.twice[field as usize] {
            return Err(Ignored::Twice { field: field.name() });
        }
        Ok(self.fields[field as usize].filter(|raw| raw.get() != "null"))
    }

    /// A text as it came.
    fn text(&self, kind: &'static str, field: Field) -> Result<&'a RawValue, Ignored> {
        // A raw value that begins like a string is one.
        let text = self.get(field)?.filter(|raw| raw.get().starts_with('"'));
        text.ok_or(Ignored::Missing { kind, field: field.name() })
    }
}

impl Chat {
    /// A chat whose texts are cleaned and bounded. (By default they pass as they come.)
    pub fn with_texts(texts: ChatTexts) -> Self {
        Chat { texts: Some(texts), ..Chat::default() }
    }

    /// The command that begins a chat: opening the socket connects the client.
    pub fn open(connect: Connect) -> Request {
        Request { id: Some(TrackedCommand::Connect.id()), command: Command::Connect(Box::new(connect)) }
    }

    /// True for the answer to a client that is not let in: the connection can do nothing more.
    pub fn is_refused(reply: &Reply) -> bool {
        reply.id == Some(TrackedCommand::Connect.id()) && matches!(reply.body, ReplyBody::Error(_))
    }

    /// Reads one message and appends its commands, or [`Command::Invalid`] for a message that no chat client would
    /// send: the hub counts it, and ends the connection after too many.
    ///
    /// # Errors
    /// [`Ignored`], for the log and the figures; the connection goes on.
    pub fn read(&mut self, message: &[u8], out: &mut Vec<Request>) -> Result<(), Ignored> {
        self.decode(message, out).inspect_err(|ignored| {
            if ignored.is_bad() {
                out.push(silent(Command::Invalid(Error::new(ErrorCode::BadRequest, ignored.to_string()))));
            }
        })
    }

    /// Reads one message and appends its commands.
    ///
    /// # Errors
    /// [`Ignored`], with nothing appended; the connection goes on.
    pub fn decode(&mut self, message: &[u8], out: &mut Vec<Request>) -> Result<(), Ignored> {
        let text = json::unmarked(std::str::from_utf8(message).map_err(|e| Ignored::Json(e.to_string()))?);
        // serde would quote all of a string in its error.
        if !text.trim_ascii_start().starts_with('{') {
            let hint = if text.starts_with(json::MARK) { json::MARK_HINT } else { "" };
            return Err(Ignored::Json(format!("it is no JSON object{hint}")));
        }
        let incoming = Incoming::read(text).map_err(|e| Ignored::Json(e.to_string()))?;
        let kind = incoming.text("", Field::Type).map_err(|ignored| match ignored {
            Ignored::Missing { .. } => Ignored::NoType,
            ignored => ignored,
        })?;
        let kind = unicode(Field::Type, kind)?;
        match &*kind {
            "join" => self.join(&incoming, out),
            "message" => {
                let joined = self.joined.as_ref().ok_or(Ignored::NotJoined("message"))?;
                let content = incoming.text("message", Field::Content)?;
                let content = ChatTexts::shown(self.texts.as_ref(), Field::Content, content)?;
                let data = joined.said(Some(&content));
                let channel = joined.channel.clone();
                out.push(silent(Command::Publish(Box::new(Publish {
                    channel,
                    data,
                    event: None,
                    idempotency_key: None,
                    echo: true,
                }))));
                Ok(())
            }
            "typing" => {
                let joined = self.joined.as_ref().ok_or(Ignored::NotJoined("typing"))?;
                let content = match incoming.get(Field::Content)? {
                    None => None,
                    Some(_) => {
                        let content = incoming.text("typing", Field::Content)?;
                        Some(ChatTexts::shown(self.texts.as_ref(), Field::Content, content)?)
                    }
                };
                let data = joined.said(content.as_deref()).bytes().clone();
                let channel = joined.channel.clone();
                out.push(silent(Command::Signal(Box::new(Signal { channel, event: TYPING.into(), data, to: None }))));
                Ok(())
            }
            "leave" => {
                let joined = self.joined.take().ok_or(Ignored::NotJoined("leave"))?;
                out.push(silent(Command::Unsubscribe { channel: joined.channel }));
                Ok(())
            }
            other => Err(Ignored::UnknownType(other.chars().take(64).collect())),
        }
    }

    fn join(&mut self, incoming: &Incoming<'_>, out: &mut Vec<Request>) -> Result<(), Ignored> {
        let user_id = unicode(Field::UserId, incoming.text("join", Field::UserId)?)?;
        bounded(Field::UserId, user_id.len())?;
        let username = incoming.text("join", Field::Username)?;
        let room: Cow<'_, str> = match incoming.get(Field::RoomId)? {
            None => ROOM_DEFAULT.into(),
            Some(_) => unicode(Field::RoomId, incoming.text("join", Field::RoomId)?)?,
        };
        let channel = channel_of(&room)?;
        let user_id = self.user.as_ref().map_or(&*user_id, |user| &*user.0);
        let username = ChatTexts::shown(self.texts.as_ref(), Field::Username, username)?;
        let names = names(user_id, &username)?;
        self.joins += 1;
        let number = self.joins;
        let joined = Joined { channel: channel.clone(), names, knows: Knows::Nothing };
        if let Some(old) = self.joined.take() {
            out.push(silent(Command::Unsubscribe { channel: old.channel }));
        }
        let options = SubOptions { presence: true, ..SubOptions::new(channel.clone()) };
        let subscribe = Command::Subscribe { subs: vec![options], many: false };
        out.push(Request { id: Some(TrackedCommand::Subscribe(number).id()), command: subscribe });
        let data = joined.said(None).bytes().clone();
        let person = Some(user_id.into());
        out.push(silent(Command::PresenceSet { channel: channel.clone(), data, person }));
        out.push(Request { id: Some(TrackedCommand::RoomState(number).id()), command: Command::Presence { channel } });
        self.joined = Some(Box::new(joined));
        Ok(())
    }

    /// Writes an answer. `wall_ms` is the server's time, in ms since 1970.
    ///
    /// # Errors
    /// A refusal of which the client is not told, for the log.
    pub fn encode_reply(&mut self, reply: &Reply, wall_ms: u64, out: &mut Vec<u8>) -> Result<Written, Error> {
        let last = self.joins;
        let about = |asked: fn(u64) -> TrackedCommand| reply.id == Some(asked(last).id());
        match &reply.body {
            ReplyBody::Connected(connected) => {
                self.user = connected.user.clone();
                self.client = Some(connected.client);
                // One that did not wait for this has joined by a name of its own.
                if let (Some(user), Some(joined)) = (&self.user, &mut self.joined) {
                    joined.rename(&user.0);
                }
                Ok(Written::Nothing)
            }
            ReplyBody::Subscribed(_) => {
                if about(TrackedCommand::Subscribe) {
                    self.is_in_room();
                }
                Ok(Written::Nothing)
            }
            ReplyBody::Presence { snapshot, .. } => {
                // The answer to an earlier join, of a room that was left again meanwhile, is of no use.
                let Some(joined) = self.joined.as_mut().filter(|_| about(TrackedCommand::RoomState)) else {
                    return Ok(Written::Nothing);
                };
                joined.knows = Knows::All { since: snapshot.seq };
                let entries = snapshot.entries.as_deref().unwrap_or_default();
                // Without an entry of its own it was not let in.
                let own = entries.iter().position(|entry| Some(entry.client) == self.client);
                let own = own.unwrap_or(entries.len());
                room_state(&joined.user_id(), &entries[..own], wall_ms, out);
                let later = entries.get(own + 1..).unwrap_or_default();
                if later.is_empty() {
                    return Ok(Written::Message);
                }
                // They came between its own `join` and the question, and it has not heard of them ([`Chat::takes`]).
                out.push(b'\n');
                for entry in later {
                    came_or_left(b"join", entry, wall_ms, out);
                    out.push(b'\n');
                }
                Ok(Written::Messages)
            }
            ReplyBody::Error(error) => {
                let told = self.room_refused(reply, error).map(|room| refusal(error, &room, wall_ms, out));
                // A client that was refused the room is not in it, unless the server has subscribed it.
                if error.code == ErrorCode::AlreadySubscribed {
                    if about(TrackedCommand::Subscribe) {
                        self.is_in_room();
                    }
                } else {
                    self.joined.take_if(|_| about(TrackedCommand::Subscribe));
                }
                // No list will come. It hears of those who come after it.
                if let (true, Some(joined)) = (about(TrackedCommand::RoomState), &mut self.joined)
                    && let Knows::Itself { own } = joined.knows
                {
                    joined.knows = Knows::All { since: own };
                }
                told.map(|()| Written::Message).ok_or_else(|| error.clone())
            }
            _ => Ok(Written::Nothing),
        }
    }

    /// The room of a refusal that its client is told of: of its last join, or of what it said in its room. The commands
    /// behind a join that is refused fail too, and are not told.
    fn room_refused(&self, reply: &Reply, error: &Error) -> Option<String> {
        let joined = self.joined.as_ref()?;
        let is_told = match &reply.id {
            None => {
                let is_of_join = matches!(error.code, ErrorCode::NotSubscribed | ErrorCode::AlreadySubscribed);
                // A rate of the client or its user is of no channel.
                let is_here = match &error.channel {
                    Some(channel) => *channel == joined.channel,
                    None => error.code == ErrorCode::RateLimited,
                };
                is_here && !is_of_join
            }
            id => {
                let subscribe = TrackedCommand::Subscribe(self.joins).id();
                *id == Some(subscribe) && error.code != ErrorCode::AlreadySubscribed
            }
        };
        is_told.then(|| room_of(&joined.channel))
    }

    /// Its last join is done.
    fn is_in_room(&mut self) {
        if let Some(joined) = &mut self.joined {
            joined.knows = Knows::Itself { own: 0 };
        }
    }

    /// Whether a push of presence, encoded for all, is for this chat too. A client that takes its `room_state` for the
    /// whole list would forget somebody whose `join` it had heard before. So it hears of the others with the list, as
    /// of one number of the channel's presence, and after it. Changes of before that number may come later than it.
    pub fn takes(&mut self, push: &Push) -> bool {
        let Some(joined) = self.joined.as_mut() else { return false };
        match (push, joined.knows) {
            (Push::Presence(push), _) if push.channel != joined.channel => false,
            (Push::PresenceSnapshot { channel, .. }, _) if *channel != joined.channel => false,
            (Push::Presence(_) | Push::PresenceSnapshot { .. }, Knows::Nothing) => false,
            (Push::Presence(push), knows)
                if push.kind == PresenceKind::Join && Some(push.entry.client) == self.client =>
            {
                if let Knows::Itself { .. } = knows {
                    joined.knows = Knows::Itself { own: push.seq };
                }
                true
            }
            (Push::Presence(_) | Push::PresenceSnapshot { .. }, Knows::Itself { .. }) => false,
            (Push::Presence(push), Knows::All { since }) => push.seq > since,
            // Made before its list: it names people whose `leave` is not told any more.
            (Push::PresenceSnapshot { snapshot, .. }, Knows::All { since }) if snapshot.seq < since => false,
            (Push::PresenceSnapshot { snapshot, .. }, Knows::All { .. }) => {
                joined.knows = Knows::All { since: snapshot.seq };
                true
            }
            _ => true,
        }
    }
}

/// Writes a push, the same for every chat client. `wall_ms` is the server's time, in ms since 1970.
pub fn encode_push(push: &Push, wall_ms: u64, out: &mut Vec<u8>) -> Written {
    match push {
        Push::Message { publication, .. } => message(publication, out),
        Push::Signal(signal) if &*signal.signal.event == TYPING => typing(signal, out),
        Push::Presence(push) => return presence(push, out),
        // No chat asks for batches; one that came all the same could not be sent as one message.
        Push::Gap { .. } | Push::Messages { .. } => return Written::Close(Disconnect::Lost),
        Push::Ping => return Written::Ping,
        Push::Disconnect { reason, .. } => return Written::Close(*reason),
        // Rooms are channels with this prefix: another one was the server's to give, and is the server's to take.
        Push::Unsubscribed { channel, .. } if !channel.starts_with(CHANNEL_PREFIX) => return Written::Nothing,
        Push::Unsubscribed { .. } => return Written::Close(Disconnect::Kicked),
        Push::PresenceSnapshot { snapshot, .. } => {
            // Presence changes were missed: the state of the room, as after a join.
            room_state(b"", snapshot.entries.as_deref().unwrap_or_default(), wall_ms, out);
        }
        // The application has subscribed the client to a channel besides its room: publications from there are messages
        // like others, and the chat protocol has no message for the beginning.
        Push::Subscribed(_)
        | Push::Signal(_)
        | Push::Volatile { .. }
        | Push::PresenceCount { .. }
        | Push::Mark { .. } => return Written::Nothing,
    }
    Written::Message
}

/// The channel of a room: characters that a segment forbids, and `%`, are percent-encoded.
///
/// # Errors
/// [`Ignored::RoomLength`] for an empty room or one that is too long.
pub fn channel_of(room: &str) -> Result<ChannelName, Ignored> {
    let mut name = String::from(CHANNEL_PREFIX);
    let mut len = 0;
    for c in room.chars() {
        let mut bytes = [0; 4];
        let text = c.encode_utf8(&mut bytes);
        let escaped =
            c == ':' || c == '%' || ChannelName::new(text).is_err_and(|e| !matches!(e, InvalidName::Reserved { .. }));
        len += if escaped { 3 * text.len() } else { text.len() };
        if len > ROOM_BYTES_MAX {
            continue; // a room is no longer than a message: it is measured to its end, for the error
        }
        if escaped {
            for byte in text.bytes() {
                let _ = write!(name, "%{byte:02X}"); // writing to a String cannot fail
            }
        } else {
            name.push(c);
        }
    }
    if !(1..=ROOM_BYTES_MAX).contains(&len) {
        return Err(Ignored::RoomLength { len });
    }
    ChannelName::new(&name).map_err(Ignored::Room)
}

/// The room of a channel, as clients name it: the inverse of [`channel_of`].
fn room_of(channel: &ChannelName) -> String {
    let name = channel.strip_prefix(CHANNEL_PREFIX).unwrap_or(channel).as_bytes();
    let digit = |at: usize| name.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let (mut room, mut at) = (Vec::with_capacity(name.len()), 0);
    while let Some(&byte) = name.get(at) {
        let escaped = (byte == b'%').then(|| digit(at + 1).zip(digit(at + 2))).flatten();
        match escaped {
            Some((high, low)) => room.push((16 * high + low) as u8),
            None => room.push(byte),
        }
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&room).into_owned()
}

/// The name that a client of another protocol claims with the data of its presence: a chat shows the same.
pub fn person_of(data: &[u8]) -> Option<Box<str>> {
    let user_id = unicode(Field::UserId, Shown::of(data).user_id?).ok()?;
    bounded(Field::UserId, user_id.len()).ok().map(|()| user_id.into())
}

impl Joined {
    /// Read again where it is asked for, which is once a join: an idle chat should cost little.
    fn user_id(&self) -> Vec<u8> {
        let Data::Json(said) = self.said(None) else { return Vec::new() };
        let user_id = Shown::of(&said).user_id.and_then(json::text_bytes);
        user_id.map(Cow::into_owned).unwrap_or_default()
    }

    /// From here on it speaks as this user, under its username.
    fn rename(&mut self, user_id: &str) {
        let Data::Json(said) = self.said(None) else { return };
        if let Some(Ok(names)) = Shown::of(&said).username.map(|username| names(user_id, username.get())) {
            self.names = names;
        }
    }

    /// The data of this member's publication, signal or presence entry. `content` is a JSON string as it came.
    fn said(&self, content: Option<&str>) -> Data {
        let content_len = content.map_or(0, str::len);
        let mut out = Vec::with_capacity(content_len + self.names.len() + 16);
        out.push(b'{');
        if let Some(content) = content {
            out.extend_from_slice(b"\"content\":");
            out.extend_from_slice(content.as_bytes());
            out.push(b',');
        }
        out.extend_from_slice(&self.names);
        Data::Json(Bytes::from(out))
    }
}

fn silent(command: Command) -> Request {
    Request { id: None, command }
}

/// A text that is compared.
fn unicode(field: Field, raw: &RawValue) -> Result<Cow<'_, str>, Ignored> {
    let not_unicode = || Ignored::NotUnicode { field: field.name() };
    match json::text_bytes(raw) {
        Some(Cow::Borrowed(bytes)) => std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| not_unicode()),
        Some(Cow::Owned(bytes)) => String::from_utf8(bytes).map(Cow::Owned).map_err(|_| not_unicode()),
        None => Err(not_unicode()),
    }
}

fn bounded(field: Field, len: usize) -> Result<(), Ignored> {
    match len {
        1..=NAME_BYTES_MAX => Ok(()),
        len => Err(Ignored::Length { field: field.name(), len }),
    }
}

/// `"userId":…,"username":…}` of a join. `username` is a JSON string.
fn names(user_id: &str, username: &str) -> Result<Box<[u8]>, Ignored> {
    let missing = || Ignored::Missing { kind: "join", field: Field::Username.name() };
    let username: &RawValue = serde_json::from_str(username).map_err(|_| missing())?;
    let shown = json::text_bytes(username).ok_or_else(missing)?;
    bounded(Field::Username, shown.len())?;
    let mut out = Vec::with_capacity(user_id.len() + shown.len() + 28);
    out.extend_from_slice(b"\"userId\":");
    put_string(&mut out, user_id);
    out.extend_from_slice(b",\"username\":");
    match std::str::from_utf8(&shown) {
        Ok(shown) => put_string(&mut out, shown),
        Err(_) => out.extend_from_slice(username.get().as_bytes()), // half an emoji stays what it is
    }
    out.push(b'}');
    Ok(out.into())
}

/// The fields of a publication's or an entry's data that a chat shows, as raw JSON.
#[derive(Default)]
struct Shown<'a> {
    content: Option<&'a RawValue>,
    user_id: Option<&'a RawValue>,
    username: Option<&'a RawValue>,
}

impl<'a> Shown<'a> {
    fn of(json: &'a [u8]) -> Self {
        let text = std::str::from_utf8(json).unwrap_or_default();
        if !text.trim_ascii_start().starts_with('{') {
            return Shown::default();
        }
        // An object with one of them twice is shown as what it is.
        Incoming::read(text).ok().and_then(|incoming| Shown::read(&incoming).ok()).unwrap_or_default()
    }

    fn read(incoming: &Incoming<'a>) -> Result<Self, Ignored> {
        let text = |field| incoming.get(field).map(|raw| raw.filter(|raw| raw.get().starts_with('"')));
        Ok(Shown { content: text(Field::Content)?, user_id: text(Field::UserId)?, username: text(Field::Username)? })
    }

    /// The userId by which chats identify a member, without its escapes.
    fn user_id<'e>(&self, entry: &'e PresenceEntry) -> Cow<'e, [u8]>
    where
        'a: 'e,
    {
        match &entry.user {
            Some(user) => Cow::Borrowed(user.0.as_bytes()),
            None => {
                self.user_id.and_then(json::text_bytes).unwrap_or_else(|| entry.client.to_string().into_bytes().into())
            }
        }
    }

    /// `"userId":…,"username":…` of a sender.
    fn put_names(&self, from: Option<&fanfare_hub::Sender>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\"userId\":");
        let start = out.len();
        match (from.and_then(|from| from.user.as_ref()), self.user_id, from.and_then(|from| from.client)) {
            (Some(user), ..) => put_string(out, &user.0),
            (None, Some(user_id), _) => out.extend_from_slice(user_id.get().as_bytes()),
            (None, None, Some(client)) => put_string(out, &client.to_string()),
            (None, None, None) => out.extend_from_slice(b"\"server\""),
        }
        let end = out.len();
        out.extend_from_slice(b",\"username\":");
        match self.username {
            Some(username) => out.extend_from_slice(username.get().as_bytes()),
            None => out.extend_from_within(start..end),
        }
    }
}

fn message(publication: &Publication, out: &mut Vec<u8>) {
    let shown = match &publication.data {
        Data::Json(json) => Shown::of(json),
        Data::Binary(_) => Shown::default(),
    };
    out.extend_from_slice(b"{\"type\":\"message\",");
    shown.put_names(publication.from.as_ref(), out);
    out.extend_from_slice(b",\"content\":");
    match (&publication.data, shown.content) {
        (_, Some(content)) => out.extend_from_slice(content.get().as_bytes()),
        (Data::Json(json), None) => match serde_json::from_slice::<&RawValue>(json) {
            Ok(raw) if raw.get().starts_with('"') => out.extend_from_slice(raw.get().as_bytes()),
            // `Data::Json` of an embedder is what it promises, or it is shown as text: never broken JSON for a whole
            // room.
            _ => put_string(out, &String::from_utf8_lossy(json)),
        },
        (Data::Binary(bytes), None) => put_string(out, &base64::engine::general_purpose::STANDARD.encode(bytes)),
    }
    put_time(out, publication.ts_ms);
}

fn typing(signal: &SignalPush, out: &mut Vec<u8>) {
    let shown = Shown::of(&signal.signal.data);
    out.extend_from_slice(b"{\"type\":\"typing\",");
    shown.put_names(Some(&signal.from), out);
    if let Some(content) = shown.content {
        out.extend_from_slice(b",\"content\":");
        out.extend_from_slice(content.get().as_bytes());
    }
    put_time(out, signal.ts_ms);
}

fn presence(push: &PresencePush, out: &mut Vec<u8>) -> Written {
    let kind: &[u8] = match push.kind {
        PresenceKind::Join => b"join",
        PresenceKind::Leave if push.still_there => return Written::Nothing,
        PresenceKind::Leave => b"leave",
        PresenceKind::Update => return Written::Nothing,
    };
    came_or_left(kind, &push.entry, push.ts_ms, out);
    Written::Message
}

fn came_or_left(kind: &[u8], entry: &PresenceEntry, ts_ms: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind);
    out.extend_from_slice(b"\",");
    put_entry(entry, &Shown::of(&entry.data), out);
    put_time(out, ts_ms);
}

/// Everybody but oneself, each person once: at the place of the first entry, under the name of the latest, as who was
/// here before has heard them join.
fn room_state(own_user_id: &[u8], entries: &[Arc<PresenceEntry>], wall_ms: u64, out: &mut Vec<u8>) {
    let mut people: Vec<(&PresenceEntry, Shown<'_>)> = Vec::with_capacity(entries.len());
    let mut places: HashMap<Cow<'_, [u8]>, usize> = HashMap::with_capacity(entries.len());
    for entry in entries {
        let shown = Shown::of(&entry.data);
        let id = shown.user_id(entry);
        if *id == *own_user_id {
            continue;
        }
        match places.entry(id) {
            Slot::Occupied(place) => people[*place.get()] = (entry, shown),
            Slot::Vacant(place) => {
                place.insert(people.len());
                people.push((entry, shown));
            }
        }
    }
    out.extend_from_slice(b"{\"type\":\"room_state\",\"users\":[");
    for (place, (entry, shown)) in people.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        out.push(b'{');
        put_entry(entry, shown, out);
        out.push(b'}');
    }
    out.push(b']');
    put_time(out, wall_ms);
}

/// A command of the client was refused.
fn refusal(error: &Error, room: &str, wall_ms: u64, out: &mut Vec<u8>) {
    let row = error.code.row();
    let _ = write!(out, "{{\"type\":\"error\",\"code\":\"{}\",\"message\":", row.word);
    put_string(out, &error.message);
    let _ = write!(out, ",\"retryable\":{}", row.retryable); // writing to a Vec cannot fail
    if let Some(after_ms) = error.retry_after_ms {
        let _ = write!(out, ",\"retryAfter\":{after_ms}");
    }
    out.extend_from_slice(b",\"roomId\":");
    put_string(out, room);
    put_time(out, wall_ms);
}

fn put_entry(entry: &PresenceEntry, shown: &Shown<'_>, out: &mut Vec<u8>) {
    let from = fanfare_hub::Sender { client: Some(entry.client), user: entry.user.clone() };
    shown.put_names(Some(&from), out);
}

fn put_time(out: &mut Vec<u8>, ms: u64) {
    let _ = write!(out, ",\"timestamp\":{ms}}}"); // writing to a Vec cannot fail
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("writing a string to a Vec cannot fail");
}
