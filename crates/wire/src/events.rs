//! Plain event streams, for `EventSource` and curl: the payload of each publication is the data of a block, its event's
//! name the block's, and the block's id a cursor.
//!
//! In: the channels that the request names, each with the position that the client has reached. The subscriptions are
//! made together. Out: first `connected`, then the missed publications, then new ones. The id of a block says where the
//! client is after it, in all of its channels: a client that shows it again gets the later publications, once and in
//! order. A loss is reported by an event of its own, [`GAP`]. Until that is sent, the id does not pass the loss.
//!
//! With one channel a block is encoded once for all receivers. With several the id differs from client to client, so a
//! block is begun once, and each [`EventStream`] ends it.

use crate::native;
use crate::sse::{self, Cursor};
use fanfare_hub::{
    ChannelName, Command, Connect, Connected, Data, Disconnect, Position, Publication, Push, Reply, ReplyBody, Request,
    RequestId, SubOptions, Subscribed, UserToken,
};

/// Events with this prefix are the server's. A publication's name that has it is left out.
pub const RESERVED: &str = "fanfare.";
/// Publications were lost.
pub const GAP: &str = "fanfare.gap";
/// The server ended a subscription, and with it the stream.
pub const UNSUBSCRIBED: &str = "fanfare.unsubscribed";
/// The server ends the stream.
pub const DISCONNECT: &str = "fanfare.disconnect";

/// A request for a plain event stream.
#[derive(Debug, Clone, PartialEq)]
pub struct EventsRequest {
    /// Without repetitions, at most [`sse::CHANNELS_MAX`].
    pub channels: Vec<ChannelName>,
    /// The data is the native protocol's `message`.
    pub envelope: bool,
    /// The newest n of each channel are to come first.
    pub recent: Option<u32>,
    /// The positions that the client has reached, if any.
    pub cursor: Option<Cursor>,
    /// Unchecked.
    pub token: Option<UserToken>,
}

/// The variants of the protocol: each is a wire of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Events {
    /// One channel; the data is the payload.
    Plain,
    /// One channel; the data is the native protocol's `message`.
    Envelope,
    /// Several channels; the same.
    Several,
}

/// What was written of a push or a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// Whole blocks.
    Blocks,
    /// The beginning of a block, and each receiver's [`EventStream::encode_rest`] ends it.
    Begun,
    /// Nothing: the transport is to show that the connection lives.
    Ping,
    /// The last block: then the stream ends.
    Last(Disconnect),
    /// Nothing.
    Nothing,
}

impl Events {
    /// All of them.
    pub const ALL: [Events; 3] = [Events::Plain, Events::Envelope, Events::Several];

    /// The variant that serves a request.
    pub fn of(request: &EventsRequest) -> Events {
        match (&request.channels[..], request.envelope) {
            ([_], false) => Events::Plain,
            ([_], true) => Events::Envelope,
            _ => Events::Several,
        }
    }

    /// Begins a stream: its commands are appended to `requests`.
    pub fn begin(self, request: EventsRequest, requests: &mut Vec<Request>) -> EventStream {
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
        requests.push(Request { id: id(1), command: connect });
        requests.push(Request { id: id(2), command: subscribe });
        EventStream {
            events: self,
            opening: Some(Box::new(Opening { shown: cursor, connected: None })),
            cursor: Cursor::default(),
        }
    }

    /// Appends a push in the form in which all receivers get it.
    pub fn encode_push(self, push: &Push, out: &mut Vec<u8>) -> Written {
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
                    _ => Written::Begun,
                }
            }
            Push::Unsubscribed { .. } => {
                put_own(out, UNSUBSCRIBED, push);
                sse::put_end(out);
                Written::Last(Disconnect::Unauthorized) // it comes back, and gets the reason then
            }
            Push::Disconnect { reason, delay_ms } => {
                if *delay_ms > 0 {
                    sse::put_retry(out, *delay_ms);
                }
                put_own(out, DISCONNECT, push);
                sse::put_end(out);
                Written::Last(*reason)
            }
            Push::Ping => Written::Ping,
            // Neither is asked for.
            Push::Messages { .. } | Push::Signal(_) | Push::Volatile { .. } => Written::Nothing,
            Push::Presence(_) | Push::PresenceCount { .. } | Push::PresenceSnapshot { .. } => Written::Nothing,
            Push::Subscribed(_) => Written::Nothing, // by the application: publications follow
        }
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

    /// Ends a block, where one id serves every client.
    #[inline]
    fn end(self, out: &mut Vec<u8>, channel: &ChannelName, position: Position) -> Written {
        if self == Events::Several {
            return Written::Begun;
        }
        sse::put_id_of(out, channel, position);
        sse::put_end(out);
        Written::Blocks
    }
}

/// Appends a block of the server's own, all but its id and its end.
fn put_own(out: &mut Vec<u8>, event: &str, push: &Push) {
    let mut message = Vec::new();
    native::encode_push(&mut message, push);
    sse::put_event(out, event);
    sse::put_data(out, &message);
}

/// One connection.
#[derive(Debug)]
pub struct EventStream {
    events: Events,
    /// Until `connected` has been written.
    opening: Option<Box<Opening>>,
    /// Where the client is, if it has several channels.
    cursor: Cursor,
}

#[derive(Debug)]
struct Opening {
    /// The positions that the client claims to have reached.
    shown: Option<Cursor>,
    connected: Option<Box<Connected>>,
}

impl EventStream {
    /// One without a request: it has nothing to say.
    pub fn closed(events: Events) -> Self {
        EventStream { events, opening: None, cursor: Cursor::default() }
    }

    /// Appends a reply of the hub. The answer to the subscriptions is written, at `wall_ms`; a client whose stream ends
    /// waits for `retry_ms` before it comes back.
    pub fn encode_reply(&mut self, reply: &Reply, wall_ms: u64, retry_ms: u64, out: &mut Vec<u8>) -> Written {
        match &reply.body {
            ReplyBody::Connected(connected) => {
                if let Some(opening) = &mut self.opening {
                    opening.connected = Some(connected.clone());
                }
                Written::Nothing
            }
            ReplyBody::Many(bodies) => {
                let Some(opening) = self.opening.take() else { return Written::Nothing };
                let subscribed = |body: &'_ ReplyBody| match body {
                    ReplyBody::Subscribed(subscribed) => Some(subscribed.clone()),
                    _ => None,
                };
                let subscribed: Vec<Box<Subscribed>> = bodies.iter().filter_map(subscribed).collect();
                self.open(*opening, &subscribed, (wall_ms, retry_ms), out);
                Written::Blocks
            }
            _ => Written::Nothing, // the answer to the request says it
        }
    }

    /// Ends a block that [`Events::encode_push`] has begun for all receivers of `push`.
    pub fn encode_rest(&mut self, push: &Push, out: &mut Vec<u8>) {
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

    /// `connected`, with the id of the client's positions before anything else comes; then its losses and the missed
    /// publications.
    fn open(&mut self, opening: Opening, all: &[Box<Subscribed>], (wall_ms, retry_ms): (u64, u64), out: &mut Vec<u8>) {
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
        sse::put_retry(out, retry_ms);
        sse::put_id(out, &cursor);
        let client = connected.map(|connected| connected.client.to_string()).unwrap_or_default();
        let data = format!(r#"{{"type":"connected","clientId":"{client}","timestamp":{wall_ms}}}"#);
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

    fn encoded(events: Events, push: &Push) -> (Written, String) {
        let mut out = Vec::new();
        let written = events.encode_push(push, &mut out);
        (written, String::from_utf8(out).expect("text"))
    }

    #[test]
    fn an_idle_stream_has_a_comment_with_its_current_id() {
        let at = |name: &str, offset| (ChannelName::new(name).expect("a name"), Position { epoch: Epoch(1), offset });
        let mark = |all: &[(ChannelName, Position)]| Push::Mark { positions: all.into() };
        let one = mark(&[at("a", 7)]);
        for events in [Events::Plain, Events::Envelope] {
            let block = ":\nid: af63dc4c8601ec8c.0000000000000001.7\n\n";
            assert_eq!(encoded(events, &one), (Written::Blocks, block.to_owned()));
        }
        // Each client of several channels has an id of its own.
        let two = mark(&[at("a", 7), at("b", 8)]);
        assert_eq!(encoded(Events::Several, &two), (Written::Begun, ":\n".to_owned()));
        let mut stream = EventStream::closed(Events::Several);
        let mut rest = Vec::new();
        stream.encode_rest(&two, &mut rest);
        let ids = "id: af63dc4c8601ec8c.0000000000000001.7_af63df4c8601f1a5.0000000000000001.8\n\n";
        assert_eq!(String::from_utf8_lossy(&rest), ids);
        assert_eq!(encoded(Events::Plain, &Push::Ping).0, Written::Ping, "before it has a subscription");
    }
}
