//! The chat protocol on the protocol seam: `fanfare_wire::chat` over WebSocket, one conversation a connection.

use crate::protocol::{Actions, Conversation, Encoded, Message, Place, Protocol};
use crate::request::RequestInfo;
use fanfare_hub::{Connect, Disconnect, Now, Push, Reply};
use fanfare_wire::chat::{self, Written};
use std::sync::Arc;

/// The chat protocol: JSON messages `join`, `message`, `typing`, `leave` on a WebSocket without subprotocol.
#[derive(Debug, Clone, Copy)]
pub struct Chat {
    heartbeat_ms: u32,
}

impl Default for Chat {
    /// Heartbeats every 30 s.
    fn default() -> Self {
        Chat { heartbeat_ms: 30_000 }
    }
}

impl Chat {
    /// The time between pings. A client that is silent until the next one is disconnected.
    #[must_use]
    pub fn heartbeat_ms(self, heartbeat_ms: u32) -> Self {
        Chat { heartbeat_ms }
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
        Box::new(chat::Chat::default())
    }

    fn encode_push(&self, push: &Push, now: Now, out: &mut Vec<u8>) -> Encoded {
        encoded(chat::encode_push(push, now.wall_ms, out))
    }

    fn heartbeat_ms(&self) -> u32 {
        self.heartbeat_ms
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
        match chat::Chat::encode_reply(self, reply, now.wall_ms, out) {
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
        Written::Message => Encoded::Text,
        Written::Nothing => Encoded::Nothing,
        Written::Ping => Encoded::Ping,
        Written::Close(reason) => Encoded::Close(reason),
    }
}
