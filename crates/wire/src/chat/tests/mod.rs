//! The chat protocol: vectors for both directions, ignored messages and their causes, the names of
//! rooms, round trips, and the fuzz body. (There are no cuts: a message comes whole.)

mod any_text;
mod people;
mod reads;
mod writes;

use super::fuzz::{assert_json, message_of};
use super::*;
use fanfare_hub::{
    ClientId, Connected, Epoch, Error, ErrorCode, Position, PresenceSnapshot, Proof, Sender, Subscribed,
};
use std::sync::Arc;

const NOW_MS: u64 = 1_700_000_000_000;

fn channel(text: &str) -> ChannelName {
    ChannelName::new(text).unwrap()
}

fn user(text: &str) -> Option<UserId> {
    Some(UserId(text.into()))
}

/// A chat with this client id, and a user where one is proven.
fn connected(client: u64, user: Option<UserId>) -> Chat {
    let mut chat = Chat::default();
    connects(&mut chat, client, user);
    chat
}

/// The answer to `connect` comes.
fn connects(chat: &mut Chat, client: u64, user: Option<UserId>) {
    let connected = Connected {
        client: ClientId(client),
        user,
        resumed: false,
        incarnation: 0,
        ping_ms: 1,
        proof: Proof::default(),
        expires_in_ms: None,
        message_rate: None,
        byte_rate: None,
        before: None,
    };
    let reply = Reply { id: Some(TrackedCommand::Connect.id()), body: ReplyBody::Connected(Box::new(connected)) };
    assert_eq!(chat.encode_reply(&reply, NOW_MS, &mut Vec::new()), Ok(Written::Nothing));
}

/// A chat that joined `chat:general` as u1, Ada.
fn joined() -> Chat {
    let mut chat = Chat::default();
    chat.decode(br#"{"type":"join","userId":"u1","username":"Ada"}"#, &mut Vec::new()).unwrap();
    chat
}

fn asks(chat: &mut Chat, message: &str) -> Result<Vec<Request>, Ignored> {
    let mut out = Vec::new();
    chat.decode(message.as_bytes(), &mut out).map(|()| out)
}

fn written(push: &Push) -> String {
    let mut out = Vec::new();
    assert_eq!(encode_push(push, NOW_MS, &mut out), Written::Message, "{push:?}");
    String::from_utf8(out).unwrap()
}

fn from(client: Option<u64>, name: Option<&str>) -> Option<Sender> {
    Some(Sender { client: client.map(ClientId), user: name.and_then(user) })
}

fn entry(client: u64, name: Option<&str>, data: &'static str) -> Arc<PresenceEntry> {
    let user = name.and_then(user);
    Arc::new(PresenceEntry {
        client: ClientId(client),
        user,
        info: None,
        data: Bytes::from_static(data.as_bytes()),
        person: None,
    })
}
