//! The simulation's own idea of the chat protocol: what the server must make of a client's messages, and in which text
//! a client must read what the hub says.
//!
//! It follows README.md ("The chat protocol") and docs/protocol.md, and asks no function of `fanfare_wire::chat`. Texts
//! are compared byte by byte. A name here needs no escapes.

use bytes::Bytes;
use fanfare_hub::{
    ChannelName, ClientId, Command, Data, Disconnect, Error, ErrorCode, PresenceEntry, PresenceKind, Publish, Push,
    Reply, ReplyBody, Request, RequestId, Signal, SubOptions, UserId,
};
use std::sync::Arc;

/// A message of a client. `content` is a JSON string as it is written, with its quotes.
#[derive(Debug, Clone)]
pub(crate) enum Say {
    Join {
        user_id: String,
        username: String,
        room: Option<String>,
    },
    Message {
        content: String,
    },
    Typing {
        content: Option<String>,
    },
    Leave,
    /// It is ignored for this cause.
    Bad {
        text: String,
        cause: &'static str,
    },
    /// It has more bytes than a message may have.
    TooLarge {
        bytes: usize,
    },
}

impl Say {
    pub(crate) fn text(&self) -> String {
        match self {
            Say::Join { user_id, username, room } => {
                let room = room.as_ref().map(|room| format!(",\"roomId\":\"{room}\"")).unwrap_or_default();
                format!(
                    "{{\"type\":\"join\",\"userId\":\"{user_id}\",\"username\":\"{username}\"{room},\"timestamp\":1}}"
                )
            }
            // The server knows who it is: the name here is somebody else's.
            Say::Message { content } => {
                format!("{{\"type\":\"message\",\"userId\":\"somebody\",\"username\":\"Else\",\"content\":{content}}}")
            }
            Say::Typing { content: None } => "{\"type\":\"typing\",\"userId\":7}".to_owned(),
            Say::Typing { content: Some(content) } => format!("{{\"content\":{content},\"type\":\"typing\"}}"),
            Say::Leave => "{\"type\":\"leave\",\"timestamp\":2}".to_owned(),
            Say::Bad { text, .. } => text.clone(),
            Say::TooLarge { bytes } => {
                let content = "y".repeat(*bytes);
                format!("{{\"type\":\"message\",\"content\":\"{content}\"}}")
            }
        }
    }
}

/// The channel of a room whose name needs no escapes.
pub(crate) fn channel_of(room: Option<&str>) -> Option<ChannelName> {
    ChannelName::new(&format!("chat:{}", room.unwrap_or("general"))).ok()
}

/// The server's end of a conversation, as it must be.
#[derive(Debug, Default)]
pub(crate) struct Mirror {
    /// Our client id, once the shard has said it, and the token's user.
    client: Option<ClientId>,
    user: Option<UserId>,
    joined: Option<Joined>,
    /// How many joins there were.
    pub(crate) joins: u64,
}

#[derive(Debug)]
struct Joined {
    channel: ChannelName,
    user_id: String,
    username: String,
    /// What it has entered the room as.
    entered: Bytes,
}

impl Joined {
    fn said(&self, content: Option<&str>) -> Bytes {
        let content = content.map(|content| format!("\"content\":{content},")).unwrap_or_default();
        let Joined { user_id, username, .. } = self;
        Bytes::from(format!("{{{content}\"userId\":\"{user_id}\",\"username\":\"{username}\"}}"))
    }
}

/// What the server must make of a message: its commands, or the cause for which it is ignored.
type Meant = Result<Vec<Request>, &'static str>;

fn silent(command: Command) -> Request {
    Request { id: None, command }
}

impl Mirror {
    /// The channel of the room in which it is, for the server.
    pub(crate) fn channel(&self) -> Option<&ChannelName> {
        self.joined.as_ref().map(|joined| &joined.channel)
    }

    /// What it stands in its room as.
    pub(crate) fn entry(&self) -> Option<Bytes> {
        self.joined.as_ref().map(|joined| joined.entered.clone())
    }

    /// The server reads a message.
    pub(crate) fn reads(&mut self, say: &Say) -> Meant {
        match say {
            Say::Join { user_id, username, room } => {
                let channel = channel_of(room.as_deref()).ok_or("room_name")?;
                let user_id = self.user.as_ref().map_or_else(|| user_id.clone(), |user| user.0.to_string());
                let username = username.clone();
                let mut joined =
                    Joined { channel: channel.clone(), user_id: user_id.clone(), username, entered: Bytes::new() };
                let data = joined.said(None);
                joined.entered = data.clone();
                let left = self.joined.replace(joined);
                self.joins += 1;
                let id = |number| Some(RequestId::Number(2 * self.joins + number));
                let subs = vec![SubOptions { presence: true, ..SubOptions::new(channel.clone()) }];
                let person = Some(user_id.into());
                let leave = left.map(|left| silent(Command::Unsubscribe { channel: left.channel }));
                let rest = [
                    Request { id: id(0), command: Command::Subscribe { subs, many: false } },
                    silent(Command::PresenceSet { channel: channel.clone(), data, person }),
                    Request { id: id(1), command: Command::Presence { channel } },
                ];
                Ok(leave.into_iter().chain(rest).collect())
            }
            Say::Message { content } => {
                let joined = self.joined.as_ref().ok_or("not_joined")?;
                let (channel, data) = (joined.channel.clone(), Data::Json(joined.said(Some(content))));
                let publish = Publish { channel, data, event: None, idempotency_key: None, echo: true };
                Ok(vec![silent(Command::Publish(Box::new(publish)))])
            }
            Say::Typing { content } => {
                let joined = self.joined.as_ref().ok_or("not_joined")?;
                let (channel, data) = (joined.channel.clone(), joined.said(content.as_deref()));
                let signal = Signal { channel, event: "typing".into(), data, to: None };
                Ok(vec![silent(Command::Signal(Box::new(signal)))])
            }
            Say::Leave => {
                let joined = self.joined.take().ok_or("not_joined")?;
                Ok(vec![silent(Command::Unsubscribe { channel: joined.channel })])
            }
            // A type that needs a room is looked at for that first.
            Say::Bad { text, cause }
                if *cause == "missing_field" && text.contains("\"message\"") && self.joined.is_none() =>
            {
                Err("not_joined")
            }
            Say::Bad { cause, .. } => Err(cause),
            Say::TooLarge { .. } => Err("too large"),
        }
    }

    /// A shard answers.
    pub(crate) fn answered(&mut self, reply: &Reply) {
        match &reply.body {
            ReplyBody::Connected(connected) => {
                (self.client, self.user) = (Some(connected.client), connected.user.clone());
                // It may have joined before: from here on it speaks as this user.
                if let (Some(user), Some(joined)) = (&self.user, &mut self.joined) {
                    joined.user_id = user.0.to_string();
                }
            }
            ReplyBody::Error(error) if error.code != ErrorCode::AlreadySubscribed => {
                let is_of_join = reply.id == Some(RequestId::Number(2 * self.joins)) && self.joins > 0;
                self.joined.take_if(|_| is_of_join);
            }
            _ => {}
        }
    }

    /// In which text a client must read an answer.
    pub(crate) fn replied(&self, reply: &Reply, wall_ms: u64) -> Told {
        match (&reply.body, &self.joined) {
            (ReplyBody::Presence { snapshot, .. }, Some(joined))
                if reply.id == Some(RequestId::Number(2 * self.joins + 1)) =>
            {
                let entries = snapshot.entries.as_deref().unwrap_or_default();
                let is_other = |entry: &&Arc<PresenceEntry>| Some(entry.client) != self.client;
                let earlier = entries.iter().take_while(is_other);
                let state = room_state(earlier, Some(&joined.user_id), wall_ms);
                let later = entries.iter().skip_while(is_other).skip(1);
                let join = |entry| format!("{{\"type\":\"join\",{},\"timestamp\":{wall_ms}}}", named(entry));
                match later.map(|entry| join(entry)).collect::<Vec<_>>() {
                    later if later.is_empty() => Told::Text(state),
                    later => Told::Texts([vec![state], later].concat()),
                }
            }
            (ReplyBody::Error(error), Some(joined)) if self.is_told_of(reply, error, &joined.channel) => {
                let (room, row) = (joined.channel.trim_start_matches("chat:"), error.code.row());
                let after = error.retry_after_ms.map(|ms| format!(",\"retryAfter\":{ms}")).unwrap_or_default();
                Told::Text(format!(
                    "{{\"type\":\"error\",\"code\":\"{}\",\"message\":{},\"retryable\":{}{after},\"roomId\":\"{room}\",\
                     \"timestamp\":{wall_ms}}}",
                    row.word,
                    quoted(&error.message),
                    row.retryable
                ))
            }
            _ => Told::Nothing,
        }
    }

    /// A refusal of the last join, or of what it says in its room. Those that follow from a refused join are not told.
    fn is_told_of(&self, reply: &Reply, error: &Error, room: &ChannelName) -> bool {
        match &reply.id {
            None if error.channel.is_none() => error.code == ErrorCode::RateLimited,
            None => {
                let is_of_join = matches!(error.code, ErrorCode::NotSubscribed | ErrorCode::AlreadySubscribed);
                error.channel.as_ref() == Some(room) && !is_of_join
            }
            Some(RequestId::Number(id)) => *id == 2 * self.joins && error.code != ErrorCode::AlreadySubscribed,
            Some(_) => false,
        }
    }
}

/// What a client is to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    Text(String),
    /// Several, one behind the other.
    Texts(Vec<String>),
    /// There is no word for it.
    Nothing,
    Ping,
    /// There is no word for it, and the client must not miss it.
    Close(Disconnect),
}

/// In which text every client that may read it must read a push.
pub(crate) fn pushed(push: &Push, wall_ms: u64) -> Told {
    let text = match push {
        Push::Message { publication, .. } => {
            let data = publication.data.bytes();
            let (user, client) =
                publication.from.as_ref().map_or((None, None), |from| (from.user.as_ref(), from.client));
            let content = field(data, "content").unwrap_or_else(|| quoted(&String::from_utf8_lossy(data)));
            let named = names(user, client, data);
            format!("{{\"type\":\"message\",{named},\"content\":{content},\"timestamp\":{}}}", publication.ts_ms)
        }
        Push::Signal(signal) if &*signal.signal.event == "typing" => {
            let data = &signal.signal.data;
            let content = field(data, "content").map(|content| format!(",\"content\":{content}")).unwrap_or_default();
            let named = names(signal.from.user.as_ref(), signal.from.client, data);
            format!("{{\"type\":\"typing\",{named}{content},\"timestamp\":{}}}", signal.ts_ms)
        }
        Push::Presence(change) => {
            let kind = match change.kind {
                PresenceKind::Join => "join",
                PresenceKind::Leave if !change.still_there => "leave",
                PresenceKind::Leave | PresenceKind::Update => return Told::Nothing,
            };
            format!("{{\"type\":\"{kind}\",{},\"timestamp\":{}}}", named(&change.entry), change.ts_ms)
        }
        Push::PresenceSnapshot { snapshot, .. } => {
            room_state(snapshot.entries.as_deref().unwrap_or_default().iter(), None, wall_ms)
        }
        Push::Ping => return Told::Ping,
        Push::Gap { .. } | Push::Messages { .. } => return Told::Close(Disconnect::Lost),
        Push::Disconnect { reason, .. } => return Told::Close(*reason),
        Push::Unsubscribed { channel, .. } if channel.starts_with("chat:") => return Told::Close(Disconnect::Kicked),
        _ => return Told::Nothing,
    };
    Told::Text(text)
}

/// The others in a room, each person once: where the first entry stands, by the name of the last.
fn room_state<'a>(entries: impl Iterator<Item = &'a Arc<PresenceEntry>>, own: Option<&str>, wall_ms: u64) -> String {
    let mut people: Vec<(String, String)> = Vec::new();
    for entry in entries {
        let id = id_of(entry.user.as_ref(), Some(entry.client), &entry.data);
        if own == Some(&id) {
            continue;
        }
        let named = named(entry);
        match people.iter_mut().find(|(of, _)| *of == id) {
            Some((_, earlier)) => *earlier = named,
            None => people.push((id, named)),
        }
    }
    let users: Vec<String> = people.into_iter().map(|(_, named)| format!("{{{named}}}")).collect();
    format!("{{\"type\":\"room_state\",\"users\":[{}],\"timestamp\":{wall_ms}}}", users.join(","))
}

fn named(entry: &PresenceEntry) -> String {
    names(entry.user.as_ref(), Some(entry.client), &entry.data)
}

/// The person who stands behind an entry, a publication or a signal.
pub(crate) fn id_of(user: Option<&UserId>, client: Option<ClientId>, data: &[u8]) -> String {
    let claimed = || field(data, "userId").map(|quoted| quoted.trim_matches('"').to_owned());
    let user = user.map(|user| user.0.to_string());
    user.or_else(claimed).or_else(|| client.map(|client| client.to_string())).unwrap_or_else(|| "server".to_owned())
}

fn names(user: Option<&UserId>, client: Option<ClientId>, data: &[u8]) -> String {
    let id = id_of(user, client, data);
    let username = field(data, "username").unwrap_or_else(|| format!("\"{id}\""));
    format!("\"userId\":\"{id}\",\"username\":{username}")
}

/// The string of this name in the data of a chat client, as it is written.
fn field(data: &[u8], name: &str) -> Option<String> {
    let text = std::str::from_utf8(data).ok()?;
    let key = format!("\"{name}\":\"");
    let from = text.find(&key)? + key.len() - 1;
    let mut is_escaped = true; // its first quote ends nothing
    let len = text[from..].find(|c| {
        let ends = c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        ends
    })?;
    Some(text[from..=from + len].to_owned())
}

/// A text as a JSON string. It holds no control characters.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// True for an error that the server must make of a message that is ignored.
pub(crate) fn is_counted(requests: &[Request]) -> bool {
    let is_bad = |error: &Error| error.code == ErrorCode::BadRequest;
    matches!(requests, [Request { id: None, command: Command::Invalid(error) }] if is_bad(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_as_it_is_written() {
        let data = br#"{"edited":true,"content":"a \"userId\":\"x\" \\","userId":"u1","username":"\ud83d"}"#;
        assert_eq!(field(data, "content").as_deref(), Some(r#""a \"userId\":\"x\" \\""#));
        assert_eq!(field(data, "userId").as_deref(), Some("\"u1\""));
        assert_eq!(field(data, "username").as_deref(), Some(r#""\ud83d""#));
        assert_eq!(field(br#"{"n":5,"pad":"x"}"#, "userId"), None);
    }
}
