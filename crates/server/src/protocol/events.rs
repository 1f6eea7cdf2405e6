//! Plain event streams on the protocol seam: `fanfare_wire::events`, one conversation a connection.

use crate::protocol::{Actions, Conversation, Encoded, Message, Place, Protocol};
use crate::request::RequestInfo;
use fanfare_hub::{Disconnect, Now, Push, Reply};
use fanfare_wire::events::{EventStream, Events, EventsRequest, Written};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

/// A client comes back after the first of these times, in ms, plus a random part of the second.
const RETRY_MS: (u64, u64) = (1_000, 2_000);
/// How often an idle stream has a comment.
const COMMENT_MS: u32 = 15_000;

/// A client waits for so many ms before it comes back, each for another time.
pub(crate) fn retry_ms() -> u64 {
    RETRY_MS.0 + RandomState::new().hash_one(()) % RETRY_MS.1
}

/// Begins a conversation: its commands go into `actions`.
pub(crate) fn begin(events: Events, request: EventsRequest, actions: &mut Actions) -> Box<dyn Conversation> {
    Box::new(events.begin(request, &mut actions.requests))
}

impl Protocol for Events {
    fn name(&self) -> &'static str {
        "events"
    }

    /// Without a request there is nothing to serve.
    fn open(
        &self,
        _place: &Place,
        _request: Option<&Arc<RequestInfo>>,
        actions: &mut Actions,
    ) -> Box<dyn Conversation> {
        actions.close(Disconnect::BadProtocol);
        Box::new(EventStream::closed(*self))
    }

    fn encode_push(&self, push: &Push, _now: Now, out: &mut Vec<u8>) -> Encoded {
        encoded(Events::encode_push(*self, push, out))
    }

    fn heartbeat_ms(&self) -> u32 {
        COMMENT_MS
    }
}

impl Conversation for EventStream {
    /// A stream carries nothing up.
    fn message(&mut self, _message: Message<'_>, _actions: &mut Actions) {}

    fn encode_reply(&mut self, reply: &Reply, now: Now, out: &mut Vec<u8>) -> Encoded {
        encoded(EventStream::encode_reply(self, reply, now.wall_ms, retry_ms(), out))
    }

    fn encode_rest(&mut self, push: &Push, out: &mut Vec<u8>) {
        EventStream::encode_rest(self, push, out);
    }
}

fn encoded(written: Written) -> Encoded {
    match written {
        Written::Blocks => Encoded::Text,
        Written::Begun => Encoded::Begun,
        Written::Ping => Encoded::Ping,
        Written::Last(reason) => Encoded::Last(reason),
        Written::Nothing => Encoded::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_stream_has_a_comment_every_15_seconds() {
        assert!(Events::ALL.iter().all(|events| events.heartbeat_ms() == 15_000));
    }
}
