//! Bridged rooms: a room of the namespace `/` whose name matches `socketio.bridge` is the channel of that name, so its
//! sockets meet the clients of all other protocols there.
//!
//! In: what a socket does in such a room. Out: commands about the channel. Entering subscribes, and enters the presence
//! where the rule allows; a message is published as it is: the first argument is the data and the name of the event is
//! its `event`, where `message` is none. Back: a publication is an event of its name with its data; with the name
//! `message` an object also has `userId` and `timestamp`, as in any other room. Presence is told as `user-joined` and
//! `user-left`, the signal `typing` as `user-typing`, and any other signal as an event of its name. Handlers of the
//! application enter and leave such rooms and emit to them by the same means: their events are publications of the
//! application.

use super::MESSAGE;
use super::builtin::Asked;
use super::conversation::{Socket, silent};
use super::publish::put_data;
use super::seam::Payload;
use crate::logs;
use crate::protocol::{Actions, Encoded};
use bytes::Bytes;
use fanfare_hub::{
    AppCommand, Audience, ChannelName, ClientId, Command, Data, Pattern, PresenceKind, PresencePush, Publication,
    Publish, Room, Sender, Signal, SignalPush, SubOptions, is_event,
};
use fanfare_wire::socketio::{Event, Kind, MAIN_NAMESPACE, RESERVED_EVENTS, bundle, put_head, put_spread, put_text};
use serde::Deserialize;
use serde_json::value::RawValue;

/// The name of the event of a publication without one.
const UNNAMED: &str = "message";
/// The signal of somebody who types.
const TYPING: &str = "typing";
/// The only attachment of an event whose data is binary.
const PLACEHOLDER: &str = r#"{"_placeholder":true,"num":0}"#;

/// The channel that a room of `/` is.
pub(crate) fn channel_of_room(bridge: &[Pattern], namespace: &str, room: &str) -> Option<ChannelName> {
    if bridge.is_empty() || namespace != MAIN_NAMESPACE {
        return None;
    }
    ChannelName::new(room).ok().filter(|channel| bridge.iter().any(|pattern| pattern.matches(channel)))
}

/// The publication that an event in a bridged room is. `None` where its name is too long, or where it has attachments
/// besides binary data.
pub(crate) fn publication(channel: ChannelName, name: &str, data: &str, attachments: &[Bytes]) -> Option<Publish> {
    let event = (name != UNNAMED).then_some(name);
    let data = match attachments {
        [] => Data::Json(Bytes::copy_from_slice(data.as_bytes())),
        [attachment] if is_placeholder(data) => Data::Binary(attachment.clone()),
        _ => return None,
    };
    let event = event.filter(|event| is_event(event)).map(Box::from);
    (event.is_some() || name == UNNAMED).then_some(Publish { channel, data, event, idempotency_key: None, echo: true })
}

impl Socket {
    /// The channel that a room is, where it is bridged.
    pub(super) fn bridged(&self, room: &Room) -> Option<ChannelName> {
        channel_of_room(&self.parts.bridge, &self.namespace.name, room.as_str())
    }

    /// Enters a bridged room.
    pub(super) fn enter_channel(&self, client: ClientId, channel: ChannelName, asked: &Asked, actions: &mut Actions) {
        let options = SubOptions { presence: true, ..SubOptions::new(channel.clone()) };
        actions.requests.push(asked.request(Command::Subscribe { subs: vec![options], many: false }));
        let mut data = b"{".to_vec();
        self.put_user(client, &mut data);
        data.push(b'}');
        actions.requests.push(silent(Command::PresenceSet { channel, data: data.into(), person: None }));
    }

    /// A handler lets it enter this room. False if that is no bridged one.
    pub(super) fn enters_channel(&mut self, client: ClientId, room: &Room, actions: &mut Actions) -> bool {
        let Some(channel) = self.bridged(room) else { return false };
        if !self.rooms.contains(room) && self.rooms.len() < self.parts.rooms_max {
            self.rooms.push(room.clone());
            self.enter_channel(client, channel, &Asked::default(), actions);
        }
        true
    }

    /// A handler takes it out of this room. False if that is no bridged one.
    pub(super) fn leaves_channel(&mut self, room: &Room, actions: &mut Actions) -> bool {
        let Some(channel) = self.bridged(room) else { return false };
        if let Some(at) = self.rooms.iter().position(|joined| joined == room) {
            self.rooms.remove(at);
            actions.requests.push(silent(Command::Unsubscribe { channel }));
        }
        true
    }

    /// Says something in a bridged room: a `message`.
    pub(super) fn say_in_channel(
        &self,
        channel: ChannelName,
        data: &str,
        attachments: &[Bytes],
        asked: &Asked,
        actions: &mut Actions,
    ) {
        let own = without_user(data);
        match publication(channel, UNNAMED, own.as_deref().unwrap_or(data), attachments) {
            Some(publish) => {
                let publish = Publish { idempotency_key: asked.key.clone(), ..publish };
                actions.requests.push(asked.request(Command::Publish(Box::new(publish))));
            }
            None => actions.ignored("bridged_event"),
        }
    }

    /// Types in a bridged room, or does not any more.
    pub(super) fn type_in_channel(
        &self,
        client: ClientId,
        channel: ChannelName,
        typing: &str,
        asked: &Asked,
        actions: &mut Actions,
    ) {
        let mut data = b"{".to_vec();
        self.put_user(client, &mut data);
        data.extend_from_slice(b",\"isTyping\":");
        data.extend_from_slice(typing.as_bytes());
        data.push(b'}');
        let signal = Signal { channel, event: TYPING.into(), data: data.into(), to: None };
        actions.requests.push(asked.request(Command::Signal(Box::new(signal))));
    }
}

/// Takes the bridged rooms out of the audience of a handler's event, and gives it to their channels, as publications of
/// the application. `None`: the event was for such rooms alone.
pub(crate) fn take_bridged(
    bridge: &[Pattern],
    namespace: &str,
    (payload, key): (&Payload, Option<&str>),
    mut audience: Audience,
    mut publish: impl FnMut(AppCommand),
) -> Option<Audience> {
    if bridge.is_empty() || audience.rooms.is_empty() {
        return Some(audience); // most are no channels
    }
    let mut channels = Vec::new();
    audience.rooms.retain(|room| match channel_of_room(bridge, namespace, room.as_str()) {
        Some(channel) => {
            channels.push(channel);
            false
        }
        None => true,
    });
    let json = std::str::from_utf8(&payload.json).unwrap_or_default(); // it is JSON
    let event = Event::of(json).and_then(|mut event| Some((event.text()?, event.args.next().unwrap_or("null"))));
    for channel in channels {
        let made = event.as_ref().and_then(|(name, data)| publication(channel, name, data, &payload.attachments));
        let Some(made) = made else {
            let problem = "its name is too long, or it has attachments besides its only argument";
            logs::limited!(Handler, ERROR, problem, "an event of a handler cannot be sent to a bridged room");
            continue;
        };
        let others = Audience { except: audience.except.clone(), ..Audience::default() };
        let audience = (others != Audience::default()).then(|| Box::new(others));
        let made = Publish { idempotency_key: key.map(Into::into), ..made };
        publish(AppCommand::Publish { publish: Box::new(made), audience, by: None });
    }
    (!audience.rooms.is_empty()).then_some(audience)
}

/// A publication of a bridged channel, as an event.
pub(super) fn put_publication(publication: &Publication, out: &mut Vec<u8>) -> Encoded {
    let name = publication.event.as_deref().unwrap_or(UNNAMED);
    if RESERVED_EVENTS.contains(&name) {
        return Encoded::Nothing; // for its client it would break the protocol
    }
    let mut event = b"[".to_vec();
    put_text(&mut event, name);
    event.push(b',');
    match &publication.data {
        Data::Json(json) => {
            let text = std::str::from_utf8(json).unwrap_or("null");
            match publication.event {
                None if text.trim_start().starts_with('{') => {
                    put_said(text, publication.from.as_ref(), publication.ts_ms, &mut event);
                }
                _ => event.extend_from_slice(text.as_bytes()),
            }
            event.push(b']');
            put_data(Kind::Event, &Data::Json(event.into()), MAIN_NAMESPACE, None, out)
        }
        Data::Binary(bytes) => {
            event.extend_from_slice(PLACEHOLDER.as_bytes());
            event.push(b']');
            match std::str::from_utf8(&event).ok().and_then(|event| bundle(event, std::slice::from_ref(bytes))) {
                Some(bundle) => put_data(Kind::Event, &Data::Binary(bundle), MAIN_NAMESPACE, None, out),
                None => Encoded::Nothing,
            }
        }
    }
}

/// A signal of a bridged channel, as an event.
pub(super) fn put_signal(push: &SignalPush, out: &mut Vec<u8>) -> Encoded {
    let SignalPush { signal, from, .. } = push;
    if RESERVED_EVENTS.contains(&&*signal.event) {
        return Encoded::Nothing;
    }
    let text = std::str::from_utf8(&signal.data).unwrap_or("null");
    begin(out);
    if &*signal.event == TYPING {
        #[derive(Deserialize)]
        struct Typing<'a> {
            #[serde(borrow, rename = "isTyping")]
            is_typing: Option<&'a RawValue>,
        }
        let is_typing = serde_json::from_str::<Typing<'_>>(text).ok().and_then(|typing| typing.is_typing);
        out.extend_from_slice(b"\"user-typing\",{");
        put_user_of(text, Some(from), out);
        out.extend_from_slice(b",\"isTyping\":");
        out.extend_from_slice(is_typing.map_or("true", RawValue::get).as_bytes());
        out.push(b'}');
    } else {
        put_text(out, &signal.event);
        out.push(b',');
        out.extend_from_slice(text.as_bytes());
    }
    out.push(b']');
    Encoded::Text
}

/// A change of presence in a bridged channel, as an event.
pub(super) fn put_presence(push: &PresencePush, out: &mut Vec<u8>) -> Encoded {
    let name = match push.kind {
        PresenceKind::Join => "user-joined",
        PresenceKind::Leave if !push.still_there => "user-left",
        PresenceKind::Leave | PresenceKind::Update => return Encoded::Nothing,
    };
    let from = Sender { client: Some(push.entry.client), user: push.entry.user.clone() };
    begin(out);
    put_text(out, name);
    out.extend_from_slice(b",{");
    put_user_of(std::str::from_utf8(&push.entry.data).unwrap_or_default(), Some(&from), out);
    out.extend_from_slice(b",\"timestamp\":");
    out.extend_from_slice(push.ts_ms.to_string().as_bytes());
    out.extend_from_slice(b"}]");
    Encoded::Text
}

fn begin(out: &mut Vec<u8>) {
    out.push(MESSAGE);
    put_head(out, Kind::Event, None, MAIN_NAMESPACE, None);
    out.push(b'[');
}

/// `{...data, userId, timestamp}`.
fn put_said(data: &str, from: Option<&Sender>, ts_ms: u64, out: &mut Vec<u8>) {
    out.push(b'{');
    put_spread(out, data, &["userId", "timestamp"]);
    if from.is_some() || user_in(data).is_some() {
        put_user_of(data, from, out);
        out.push(b',');
    }
    out.extend_from_slice(b"\"timestamp\":");
    out.extend_from_slice(ts_ms.to_string().as_bytes());
    out.push(b'}');
}

/// `"userId":…`: the user, where one is proven; else the one that the data claims; else the client.
fn put_user_of(data: &str, from: Option<&Sender>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"userId\":");
    match (from.and_then(|from| from.user.as_ref()), user_in(data), from.and_then(|from| from.client)) {
        (Some(user), _, _) => put_text(out, &user.0),
        (None, Some(user), _) => out.extend_from_slice(user.get().as_bytes()),
        (None, None, Some(client)) => put_text(out, &client.to_string()),
        (None, None, None) => out.extend_from_slice(b"null"),
    }
}

/// An object without the `userId` that it claims: that is for clients of the chat protocol, which name themselves so. A
/// socket has a user or an id of its own, and all clients of the channel see that. `None`: it claims none.
fn without_user(data: &str) -> Option<String> {
    if !data.contains("userId") && !data.contains("\\u") {
        return None; // almost always
    }
    let (mut all, mut out) = (Vec::new(), b"{".to_vec());
    put_spread(&mut all, data, &[]);
    put_spread(&mut out, data, &["userId"]);
    if out.len() > all.len() {
        return None;
    }
    out.pop_if(|last| *last == b',');
    out.push(b'}');
    String::from_utf8(out).ok() // it is made of texts
}

/// The `userId` that data claims.
fn user_in(data: &str) -> Option<&RawValue> {
    #[derive(Deserialize)]
    struct Claim<'a> {
        #[serde(borrow, rename = "userId")]
        user: Option<&'a RawValue>,
    }
    serde_json::from_str::<Claim<'_>>(data).ok()?.user.filter(|user| user.get().starts_with('"'))
}

fn is_placeholder(data: &str) -> bool {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Placeholder {
        _placeholder: bool,
        num: u32,
    }
    serde_json::from_str::<Placeholder>(data).is_ok_and(|found| found._placeholder && found.num == 0)
}
