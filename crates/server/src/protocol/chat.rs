//! The chat protocol on the protocol seam: `fanfare_wire::chat` over WebSocket, one conversation a connection.

use crate::protocol::{Actions, Conversation, Encoded, Message, Place, Protocol, put_message};
use crate::request::RequestInfo;
use fanfare_hub::{Connect, Disconnect, Now, OverRate, Push, Reply};
use fanfare_wire::chat::{self, ChatTexts, Written};
use std::sync::Arc;

/// The chat protocol: JSON messages `join`, `message`, `typing`, `leave` on a WebSocket without subprotocol.
#[derive(Debug, Clone, Copy)]
pub struct Chat {
    heartbeat_ms: u32,
    texts: ChatTexts,
}

impl Default for Chat {
    /// Heartbeats every 30 s; names of up to 64 characters, and messages of up to 4,000.
    fn default() -> Self {
        Chat { heartbeat_ms: 30_000, texts: ChatTexts::default() }
    }
}

impl Chat {
    /// The time between pings. A client that is silent until the next one is disconnected.
    #[must_use]
    pub fn heartbeat_ms(self, heartbeat_ms: u32) -> Self {
        Chat { heartbeat_ms, ..self }
    }

    /// The most characters of a `username`. A `join` with a longer one is ignored.
    #[must_use]
    pub fn username_chars_max(mut self, count: u32) -> Self {
        self.texts.username_chars_max = count;
        self
    }

    /// The most characters of a `content`. A `message` with a longer one is ignored.
    #[must_use]
    pub fn content_chars_max(mut self, count: u32) -> Self {
        self.texts.content_chars_max = count;
        self
    }
}

impl Protocol for Chat {
    fn name(&self) -> &'static str {
        "chat"
    }

    fn open(
        &self,
        _place: &Place,
        _request: Option<&Arc<RequestInfo>>,
        actions: &mut Actions,
    ) -> Box<dyn Conversation> {
        actions.requests.push(chat::Chat::open(Connect::default()));
        Box::new(chat::Chat::with_texts(self.texts))
    }

    fn encode_push(&self, push: &Push, now: Now, out: &mut Vec<u8>) -> Encoded {
        encoded(chat::encode_push(push, now.wall_ms, out))
    }

    fn heartbeat_ms(&self) -> u32 {
        self.heartbeat_ms
    }

    /// A message is several commands: a `leave` or a part of a `join` that is refused would leave its client between
    /// two rooms. Only publications and signals have the rate of a rule, and a client is told of such a refusal.
    fn over_rate(&self) -> OverRate {
        OverRate::WaitAtLimits
    }
}

impl Conversation for chat::Chat {
    fn message(&mut self, message: Message<'_>, actions: &mut Actions) {
        let bytes = match message {
            Message::Text(text) => text.as_bytes(),
            Message::Binary(bytes) => bytes, // a text in a binary frame is read alike
        };
        if let Err(ignored) = self.read(bytes, &mut actions.requests) {
            actions.ignored(ignored.cause());
            // The hub logs those that it counts.
            if !ignored.is_bad() {
                crate::logs::ignored(&ignored, &actions.peer);
            }
        }
    }

    fn takes_presence(&mut self, push: &Push) -> bool {
        self.takes(push)
    }

    fn encode_reply(&mut self, reply: &Reply, now: Now, out: &mut Vec<u8>) -> Encoded {
        let start = out.len();
        match chat::Chat::encode_reply(self, reply, now.wall_ms, out) {
            Ok(Written::Messages) => {
                let lines = out.split_off(start);
                // A message of a chat is one line.
                for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                    put_message(out, Message::Text(std::str::from_utf8(line).unwrap_or_default()));
                }
                Encoded::Several
            }
            Ok(written) => encoded(written),
            // The code of the close is the only word for it.
            Err(error) if chat::Chat::is_refused(reply) => Encoded::Close(match error.code.row().retryable {
                true => Disconnect::Overloaded,
                false => Disconnect::Unauthorized,
            }),
            Err(_) => Encoded::Ignored,
        }
    }
}

fn encoded(written: Written) -> Encoded {
    match written {
        Written::Message | Written::Messages => Encoded::Text, // only answers are several
        Written::Nothing => Encoded::Nothing,
        Written::Ping => Encoded::Ping,
        Written::Close(reason) => Encoded::Close(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::several;
    use bytes::Bytes;
    use fanfare_hub::{
        ChannelName, ClientId, Connected, PresenceEntry, PresenceSnapshot, Proof, ReplyBody, Request, RequestId,
    };

    /// Somebody came between a client's own entry and its question about the room.
    #[test]
    fn who_came_later_is_told_behind_the_room_state_as_a_message_of_its_own() {
        let mut chat = chat::Chat::default();
        let now = Now { mono_ms: 0, wall_ms: 5 };
        let connected = Connected {
            client: ClientId(9),
            user: None,
            resumed: false,
            incarnation: 0,
            ping_ms: 1,
            proof: Proof::default(),
            expires_in_ms: None,
            message_rate: None,
            byte_rate: None,
            before: None,
        };
        let open = chat::Chat::open(Connect::default());
        let reply = Reply { id: open.id, body: ReplyBody::Connected(Box::new(connected)) };
        assert_eq!(Conversation::encode_reply(&mut chat, &reply, now, &mut Vec::new()), Encoded::Nothing);
        let mut requests = Vec::new();
        chat.decode(br#"{"type":"join","userId":"u9","username":"Nine"}"#, &mut requests).expect("a join");
        let Some(Request { id: id @ Some(RequestId::Number(_)), .. }) = requests.pop() else { panic!("{requests:?}") };
        let entry = |client: u64, data: &'static str| {
            let data = Bytes::from_static(data.as_bytes());
            Arc::new(PresenceEntry { client: ClientId(client), user: None, info: None, data, person: None })
        };
        let entries = Some(vec![
            entry(1, r#"{"userId":"a","username":"A"}"#),
            entry(9, r#"{"userId":"u9","username":"Nine"}"#),
            entry(2, r#"{"userId":"b","username":"B"}"#),
        ]);
        let channel = ChannelName::new("chat:general").expect("a name");
        let body = ReplyBody::Presence { channel, snapshot: PresenceSnapshot { seq: 3, count: 3, entries } };
        let mut out = Vec::new();
        assert_eq!(Conversation::encode_reply(&mut chat, &Reply { id, body }, now, &mut out), Encoded::Several);
        let messages: Vec<_> =
            several(&out).map(|(is_text, bytes)| (is_text, String::from_utf8_lossy(bytes))).collect();
        let expected = [
            r#"{"type":"room_state","users":[{"userId":"a","username":"A"}],"timestamp":5}"#,
            r#"{"type":"join","userId":"b","username":"B","timestamp":5}"#,
        ];
        assert_eq!(messages, expected.map(|text| (true, text.into())));
    }
}
