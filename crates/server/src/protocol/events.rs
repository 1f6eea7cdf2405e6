//! Plain event streams on the protocol seam, for `EventSource` and curl: the payload of each publication is the data
//! of a block, its event's name the block's, and the block's id a cursor.
//!
//! In: the channels that the request names, each with the position that the client has reached. The subscriptions are
//! made together. Out: first `connected`, then the missed publications, then new ones. The id of a block says where the
//! client is after it, in all of its channels: a client that shows it again gets the later publications, once and in
//! order. A loss is reported by an event of its own, [`GAP`]. Until that is sent, the id does not pass the loss.
//!
//! With one channel a block is encoded once for all receivers. With several the id differs from client to client, so a
//! block is begun once, and each conversation ends it.

use crate::protocol::{Actions, Conversation, Encoded, Message, Place, Protocol};
use crate::request::RequestInfo;
use fanfare_hub::{
    ChannelName, Command, Connect, Connected, Data, Disconnect, Now, Position, Publication, Push, Reply, ReplyBody,
    Request, RequestId, SubOptions, Subscribed, UserToken,
};
use fanfare_wire::native;
use fanfare_wire::sse::{self, Cursor};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

/// Events with this prefix are the server's. A publication's name that has it is left out.
const RESERVED: &str = "fanfare.";
/// Publications were lost.
const GAP: &str = "fanfare.gap";
/// The server ended a subscription, and with it the stream.
const UNSUBSCRIBED: &str = "fanfare.unsubscribed";
/// The server ends the stream.
const DISCONNECT: &str = "fanfare.disconnect";
/// A client comes back after the first of these times, in ms, plus a random part of the second.
const RETRY_MS: (u64, u64) = (1_000, 2_000);
/// How often an idle stream has a comment.
const COMMENT_MS: u32 = 15_000;

/// A client waits for so many ms before it comes back, each for another time.
pub(crate) fn retry_ms() -> u64 {
    RETRY_MS.0 + RandomState::new().hash_one(()) % RETRY_MS.1
}

/// A request for a plain event stream.
#[derive(Debug, PartialEq)]
pub(crate) struct EventsRequest {
    /// Without repetitions, at most [`sse::CHANNELS_MAX`].
    pub(crate) channels: Vec<ChannelName>,
    pub(crate) envelope: bool,
    pub(crate) recent: Option<u32>,
    /// The positions that the client has reached, if any.
    pub(crate) cursor: Option<Cursor>,
    pub(crate) token: Option<UserToken>,
}

/// The variants of the protocol: each is a wire of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Events {
    /// One channel; the data is the payload.
    Plain,
    /// One channel; the data is the native protocol's `message`.
    Envelope,
    /// Several channels; the same.
    Several,
}

impl Events {
    pub(crate) const ALL: [Events; 3] = [Events::Plain, Events::Envelope, Events::Several];

    /// The variant that serves a request.
    pub(crate) fn of(request: &EventsRequest) -> Events {
        match (&request.channels[..], request.envelope) {
            ([_], false) => Events::Plain,
            ([_], true) => Events::Envelope,
            _ => Events::Several,
        }
    }

    /// Begins a conversation: its commands go into `actions`.
    pub(crate) fn begin(self, request: EventsRequest, actions: &mut Actions) -> Box<dyn Conversation> {
        let EventsRequest { channels, recent, cursor, token, .. } = request;
        let options = |channel: &ChannelName| SubOptions {
            since: cursor.as_ref().and_then(|cursor| cursor.position(channel)),
            recent,
            signals: false,
            ..SubOptions::new(channel.clone())
        };
        let subs: Vec<_> = channels.iter().map(options).collect();
        let connect = Command::Connect(Box::new(Connect { token, ..Connect::default() }));
        // Together: before all of them are answered nothing else comes.
        let subscribe = Command::Subscribe { subs, many: true };
        let id = |number| Some(RequestId::Number(number));
        actions.requests.push(Request { id: id(1), command: connect });
        actions.requests.push(Request { id: id(2), command: subscribe });
        Box::new(EventsConversation {
            events: self,
            opening: Some(Box::new(Opening { shown: cursor, connected: None })),
            cursor: Cursor::default(),
        })
    }

    /// Appends the beginning of a publication's block: all but its id and its end.
    fn put_message(self, out: &mut Vec<u8>, push: &Push, publication: &Publication) {
        if let Some(event) = publication.event.as_deref().filter(|event| !event.starts_with(RESERVED)) {
            sse::put_event(out, event);
        }
        match (self, &publication.data) {
            (Events::Envelope | Events::Several, _) => {
                let mut message = Vec::new();
                native::encode_push(&mut message, push);
                sse::put_data(out, &message);
            }
            (Events::Plain, Data::Json(json)) => sse::put_data(out, json),
            (Events::Plain, Data::Binary(bytes)) => sse::put_data64(out, bytes),
        }
    }
}

/// Appends a block of the server's own, all but its id and its end.
fn put_own(out: &mut Vec<u8>, event: &str, push: &Push) {
    let mut message = Vec::new();
    native::encode_push(&mut message, push);
    sse::put_event(out, event);
    sse::put_data(out, &message);
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
        Box::new(EventsConversation { events: *self, opening: None, cursor: Cursor::default() })
    }

    fn encode_push(&self, push: &Push, _now: Now, out: &mut Vec<u8>) -> Encoded {
        match push {
            Push::Message { channel, epoch, publication } => {
                self.put_message(out, push, publication);
                self.end(out, channel, Position { epoch: *epoch, offset: publication.offset })
            }
            Push::Gap { channel, position, .. } => {
                put_own(out, GAP, push);
                self.end(out, channel, *position)
            }
            Push::Mark { positions } => {
                sse::put_comment(out);
                match &positions[..] {
                    [(channel, position)] => self.end(out, channel, *position),
                    _ => Encoded::Begun,
                }
            }
            Push::Unsubscribed { .. } => {
                put_own(out, UNSUBSCRIBED, push);
                sse::put_end(out);
                Encoded::Last(Disconnect::Unauthorized) // it comes back, and gets the reason then
            }
            Push::Disconnect { reason, delay_ms } => {
                if *delay_ms > 0 {
                    sse::put_retry(out, *delay_ms);
                }
                put_own(out, DISCONNECT, push);
                sse::put_end(out);
                Encoded::Last(*reason)
            }
            Push::Ping => Encoded::Ping,
            // Neither is asked for.
            Push::Messages { .. } | Push::Signal(_) | Push::Volatile { .. } => Encoded::Nothing,
            Push::Presence(_) | Push::PresenceCount { .. } | Push::PresenceSnapshot { .. } => Encoded::Nothing,
            Push::Subscribed(_) => Encoded::Nothing, // by the application: publications follow
        }
    }

    fn heartbeat_ms(&self) -> u32 {
        COMMENT_MS
    }
}

impl Events {
    /// Ends a block, where one id serves every client.
    #[inline]
    fn end(self, out: &mut Vec<u8>, channel: &ChannelName, position: Position) -> Encoded {
        if self == Events::Several {
            return Encoded::Begun;
        }
        sse::put_id_of(out, channel, position);
        sse::put_end(out);
        Encoded::Text
    }
}

/// One connection.
struct EventsConversation {
    events: Events,
    /// Until `connected` has been written.
    opening: Option<Box<Opening>>,
    /// Where the client is, if it has several channels.
    cursor: Cursor,
}

struct Opening {
    /// The positions that the client claims to have reached.
    shown: Option<Cursor>,
    connected: Option<Box<Connected>>,
}

impl Conversation for EventsConversation {
    /// A stream carries nothing up.
    fn message(&mut self, _message: Message<'_>, _actions: &mut Actions) {}

    fn encode_reply(&mut self, reply: &Reply, now: Now, out: &mut Vec<u8>) -> Encoded {
        match &reply.body {
            ReplyBody::Connected(connected) => {
                if let Some(opening) = &mut self.opening {
                    opening.connected = Some(connected.clone());
                }
                Encoded::Nothing
            }
            ReplyBody::Many(bodies) => {
                let Some(opening) = self.opening.take() else { return Encoded::Nothing };
                let subscribed = |body: &'_ ReplyBody| match body {
                    ReplyBody::Subscribed(subscribed) => Some(subscribed.clone()),
                    _ => None,
                };
                let subscribed: Vec<Box<Subscribed>> = bodies.iter().filter_map(subscribed).collect();
                self.open(*opening, &subscribed, now, out);
                Encoded::Text
            }
            _ => Encoded::Nothing, // the answer to the request says it
        }
    }

    fn encode_rest(&mut self, push: &Push, out: &mut Vec<u8>) {
        match push {
            Push::Message { channel, epoch, publication } => {
                self.cursor.reach(channel, Position { epoch: *epoch, offset: publication.offset });
            }
            Push::Gap { channel, position, .. } => self.cursor.reach(channel, *position),
            Push::Mark { positions } => {
                positions.iter().for_each(|(channel, position)| self.cursor.reach(channel, *position));
            }
            _ => {}
        }
        sse::put_id(out, &self.cursor);
        sse::put_end(out);
    }
}

impl EventsConversation {
    /// `connected`, with the id of the client's positions before anything else comes; then its losses and the missed
    /// publications.
    fn open(&mut self, opening: Opening, all: &[Box<Subscribed>], now: Now, out: &mut Vec<u8>) {
        let Opening { shown, connected } = opening;
        let is_lost = |subscribed: &Subscribed| match &shown {
            None => false, // the first time: nothing can be missed
            Some(_) => subscribed.recovered != Some(true),
        };
        let mut cursor = Cursor::default();
        for subscribed in all {
            if !is_lost(subscribed) {
                cursor.reach(&subscribed.channel, start_of(subscribed));
            } else if let Some(position) = shown.as_ref().and_then(|shown| shown.position(&subscribed.channel)) {
                cursor.reach(&subscribed.channel, position); // until the loss is reported
            }
        }
        sse::put_retry(out, retry_ms());
        sse::put_id(out, &cursor);
        let client = connected.map(|connected| connected.client.to_string()).unwrap_or_default();
        let data = format!(r#"{{"type":"connected","clientId":"{client}","timestamp":{}}}"#, now.wall_ms);
        sse::put_data(out, data.as_bytes());
        sse::put_end(out);
        for subscribed in all.iter().filter(|subscribed| is_lost(subscribed)) {
            let (channel, position) = (subscribed.channel.clone(), start_of(subscribed));
            let known = shown.as_ref().and_then(|shown| shown.position(&channel));
            let reset = known.is_some_and(|known| known.epoch != position.epoch);
            cursor.reach(&channel, position);
            put_own(out, GAP, &Push::Gap { channel, position, reset });
            sse::put_id(out, &cursor);
            sse::put_end(out);
        }
        for Subscribed { channel, position, publications, .. } in all.iter().map(|subscribed| &**subscribed) {
            let epoch = position.epoch;
            for publication in publications {
                let push = Push::Message { channel: channel.clone(), epoch, publication: publication.clone() };
                self.events.put_message(out, &push, publication);
                cursor.reach(channel, Position { epoch, offset: publication.offset });
                sse::put_id(out, &cursor);
                sse::put_end(out);
            }
            cursor.reach(channel, *position);
        }
        if self.events == Events::Several {
            cursor.shrink();
            self.cursor = cursor;
        }
    }
}

/// The place before the publications that a subscription begins with.
fn start_of(subscribed: &Subscribed) -> Position {
    let offset = subscribed.publications.first().map_or(subscribed.position.offset, |first| first.prev);
    Position { offset, ..subscribed.position }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfare_hub::Epoch;

    fn encoded(events: Events, push: &Push) -> (Encoded, String) {
        let mut out = Vec::new();
        let encoded = events.encode_push(push, Now::default(), &mut out);
        (encoded, String::from_utf8(out).expect("text"))
    }

    #[test]
    fn an_idle_stream_has_a_comment_with_its_current_id() {
        assert_eq!(Events::Plain.heartbeat_ms(), 15_000);
        let at = |name: &str, offset| (ChannelName::new(name).expect("a name"), Position { epoch: Epoch(1), offset });
        let mark = |all: &[(ChannelName, Position)]| Push::Mark { positions: all.into() };
        let one = mark(&[at("a", 7)]);
        for events in [Events::Plain, Events::Envelope] {
            let block = ":\nid: af63dc4c8601ec8c.0000000000000001.7\n\n";
            assert_eq!(encoded(events, &one), (Encoded::Text, block.to_owned()));
        }
        // Each client of several channels has an id of its own.
        let two = mark(&[at("a", 7), at("b", 8)]);
        assert_eq!(encoded(Events::Several, &two), (Encoded::Begun, ":\n".to_owned()));
        let mut conversation = EventsConversation { events: Events::Several, opening: None, cursor: Cursor::default() };
        let mut rest = Vec::new();
        conversation.encode_rest(&two, &mut rest);
        let ids = "id: af63dc4c8601ec8c.0000000000000001.7_af63df4c8601f1a5.0000000000000001.8\n\n";
        assert_eq!(String::from_utf8_lossy(&rest), ids);
        assert_eq!(encoded(Events::Plain, &Push::Ping).0, Encoded::Ping, "before it has a subscription");
    }
}
