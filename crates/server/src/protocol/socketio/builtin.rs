//! The events of a chat room, which need no code: `join-room`, `message` and `typing` (docs/socketio.md).
//!
//! In: an event of a socket that is in the namespace. Out: joins of rooms, publications to the first room that the
//! socket joined, and calls of the application for all other events.

use super::conversation::{Socket, of_room};
use crate::protocol::Actions;
use bytes::Bytes;
use fanfare_hub::{Audience, ClientId, Command, Now, Request, RequestId, Room, RoomCommand};
use fanfare_wire::socketio::{Event, put_spread, put_text};

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
            "join-room" => self.join_room(client, args.next(), actions),
            "message" => {
                let Some(room) = self.rooms.first() else { return actions.ignored("no_room") };
                if let Some(channel) = self.bridged(room) {
                    let data = args.next().unwrap_or("null");
                    return self.say_in_channel(channel, "message", data, attachments, actions);
                }
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
                if let Some(channel) = self.bridged(room) {
                    return self.type_in_channel(client, channel, args.next().unwrap_or("null"), actions);
                }
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
                actions.requests.push(Request { id: ack.map(RequestId::Number), command });
            }
        }
    }

    fn join_room(&mut self, client: ClientId, room: Option<&str>, actions: &mut Actions) {
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
            if is_new {
                self.enter_channel(client, channel, actions);
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
        self.publish(out, &[], audience, actions);
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

fn put_timestamp(out: &mut Vec<u8>, now: Now) {
    out.extend_from_slice(b",\"timestamp\":");
    out.extend_from_slice(now.wall_ms.to_string().as_bytes());
}
