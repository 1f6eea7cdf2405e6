//! The events of a chat room, which need no code: `join-room`, `message` and `typing` (docs/socketio.md).
//!
//! In: an event of a socket that is in the namespace. Out: joins of rooms, publications to the first room that the
//! socket joined, and calls of the application for all other events. An event that asks for an ack gets one when it
//! has taken effect. A client that asks for it may give an id as the second argument: a repeat has no effect, and the
//! same ack.

use super::MESSAGE;
use super::conversation::{Socket, of_room};
use crate::protocol::{Actions, Message};
use bytes::Bytes;
use fanfare_hub::{Audience, ClientId, Command, Now, Request, RequestId, Room, RoomCommand};
use fanfare_wire::socketio::{Event, Kind, put_head, put_spread, put_text};

impl Socket {
    /// An event of a socket that is in the namespace.
    pub(super) fn event(
        &mut self,
        client: ClientId,
        event: Event<'_>,
        (attachments, ack): (&[Bytes], Option<u64>),
        actions: &mut Actions,
    ) {
        let Some(name) = event.text() else { return actions.ignored("event_name") };
        let mut args = event.args;
        match &*name {
            "join-room" => {
                let room = args.next();
                self.join_room(client, room, &Asked::of(ack, args.next()), actions);
            }
            "message" => {
                let Some(room) = self.rooms.first() else { return self.no_room(ack, actions) };
                let data = args.next();
                let asked = Asked::of(ack, args.next());
                if let Some(channel) = self.bridged(room) {
                    return self.say_in_channel(channel, data.unwrap_or("null"), attachments, &asked, actions);
                }
                let mut out = b"[\"message\",{".to_vec();
                put_spread(&mut out, data.unwrap_or_default(), &["userId", "timestamp"]);
                self.put_user(client, &mut out);
                put_timestamp(&mut out, actions.now);
                out.extend_from_slice(b"}]");
                let audience = Audience { rooms: vec![room.clone()], ..Audience::default() };
                self.publish(out, attachments, audience, &asked, actions);
            }
            "typing" => {
                let Some(room) = self.rooms.first() else { return self.no_room(ack, actions) };
                let is_typing = args.next();
                let asked = Asked::of(ack, args.next());
                if let Some(channel) = self.bridged(room) {
                    return self.type_in_channel(client, channel, is_typing.unwrap_or("null"), &asked, actions);
                }
                let mut out = b"[\"user-typing\",{".to_vec();
                self.put_user(client, &mut out);
                if let Some(is_typing) = is_typing {
                    out.extend_from_slice(b",\"isTyping\":");
                    out.extend_from_slice(is_typing.as_bytes());
                }
                out.extend_from_slice(b"}]");
                let audience = Audience { rooms: vec![room.clone()], except: vec![client], ..Audience::default() };
                self.publish(out, attachments, audience, &asked, actions);
            }
            _ if !self.parts.has_calls => actions.ignored("unknown_event"),
            _ if !attachments.is_empty() => actions.ignored("call_with_attachments"),
            _ => {
                let args = Bytes::from(format!("[{}]", args.rest()));
                let command = Command::Rpc { method: name.into(), data: args };
                actions.requests.push(Request { id: ack.map(RequestId::Number), command });
            }
        }
    }

    /// The event goes to nobody. Saying it again would not help, so the client gets its ack.
    fn no_room(&self, ack: Option<u64>, actions: &mut Actions) {
        actions.ignored("no_room");
        self.acknowledge(ack, actions);
    }

    /// The event has taken effect before.
    fn acknowledge(&self, ack: Option<u64>, actions: &mut Actions) {
        if let Some(id) = ack {
            let mut out = Vec::new();
            self.put_done(id, &mut out);
            actions.answer(Message::Text(std::str::from_utf8(&out).unwrap_or_default()));
        }
    }

    /// The ack of an event that has taken effect.
    pub(super) fn put_done(&self, id: u64, out: &mut Vec<u8>) {
        out.push(MESSAGE);
        put_head(out, Kind::Ack, None, &self.namespace.name, Some(id));
        out.extend_from_slice(b"[]");
    }

    fn join_room(&mut self, client: ClientId, room: Option<&str>, asked: &Asked, actions: &mut Actions) {
        // A room is named by a text; another value is named by its JSON.
        let name = room.map(|room| serde_json::from_str::<String>(room).unwrap_or_else(|_| room.to_owned()));
        let Some(room) = name.as_deref().and_then(Room::new) else { return actions.ignored("room_name") };
        let is_new = !self.rooms.contains(&room);
        if is_new {
            if self.rooms.len() >= self.parts.rooms_max {
                return actions.ignored("too_many_rooms");
            }
            self.rooms.push(room.clone());
        }
        if let Some(channel) = self.bridged(&room) {
            // The others hear of it by the presence.
            match is_new {
                true => self.enter_channel(client, channel, asked, actions),
                false => self.acknowledge(asked.ack, actions),
            }
            return;
        }
        let channel = self.namespace.channel.clone();
        actions.requests.push(of_room(RoomCommand::Join { channel, room: room.clone() }));
        let mut out = b"[\"user-joined\",{".to_vec();
        self.put_user(client, &mut out);
        put_timestamp(&mut out, actions.now);
        out.extend_from_slice(b"}]");
        let audience = Audience { rooms: vec![room], except: vec![client], ..Audience::default() };
        self.publish(out, &[], audience, asked, actions);
    }

    /// `"userId":…`: the user where one is proven, else the socket.
    pub(super) fn put_user(&self, client: ClientId, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\"userId\":");
        match &self.user {
            Some(user) => out.extend_from_slice(user.as_bytes()),
            None => put_text(out, &client.to_string()),
        }
    }
}

/// What a client wants to know of its event, and how the server knows that it is said again.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    /// The number of the ack.
    pub(super) ack: Option<u64>,
    /// The id of the event.
    pub(super) key: Option<Box<str>>,
}

impl Asked {
    /// `id` is an argument as JSON; only a text or a number is an id. Without an ack nobody says an event again, and an
    /// argument that was none of ours before stays that.
    fn of(ack: Option<u64>, id: Option<&str>) -> Self {
        let id = id.filter(|_| ack.is_some()).and_then(|id| match id.as_bytes().first()? {
            b'"' => serde_json::from_str::<String>(id).ok().filter(|id| !id.is_empty()),
            b'0'..=b'9' | b'-' => Some(id.to_owned()),
            _ => None,
        });
        Asked { ack, key: id.map(Into::into) }
    }

    /// A command whose answer is the ack.
    pub(super) fn request(&self, command: Command) -> Request {
        Request { id: self.ack.map(RequestId::Number), command }
    }
}

fn put_timestamp(out: &mut Vec<u8>, now: Now) {
    out.extend_from_slice(b",\"timestamp\":");
    out.extend_from_slice(now.wall_ms.to_string().as_bytes());
}
