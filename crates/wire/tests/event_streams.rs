//! Plain event streams, block by block: the ids of a client of several channels, and the end.

use fanfare_hub::*;
use fanfare_wire::events::{Events, EventsRequest, Written};
use fanfare_wire::sse::Cursor;

fn channel(name: &str) -> ChannelName {
    ChannelName::new(name).expect("a valid name")
}

fn at(offset: u64) -> Position {
    Position { epoch: Epoch(7), offset }
}

/// The value of the last field of this name.
fn field(text: &[u8], name: &str) -> Option<String> {
    let text = std::str::from_utf8(text).expect("text");
    text.lines().rev().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::to_owned)
}

/// The publications between may be for others: then a mark alone says where the client is.
#[test]
fn a_mark_moves_the_id_on_in_every_channel() {
    let channels: Vec<ChannelName> = ["a", "b", "c"].map(channel).to_vec();
    let request = EventsRequest { channels: channels.clone(), envelope: true, recent: None, cursor: None, token: None };
    let events = Events::of(&request);
    let mut stream = events.begin(request, &mut Vec::new());
    let subscribed = |channel: &ChannelName| {
        let (channel, publications, rooms) = (channel.clone(), Vec::new(), Vec::new());
        let position = at(1);
        let subscribed = Subscribed { channel, position, recovered: None, publications, more: false, rooms };
        ReplyBody::Subscribed(Box::new(subscribed))
    };
    let reply = Reply { id: None, body: ReplyBody::Many(channels.iter().map(subscribed).collect()) };
    let mut out = Vec::new();
    assert_eq!(stream.encode_reply(&reply, 0, 5, &mut out), Written::Blocks);
    let positions = |out: &[u8]| {
        let cursor = Cursor::decode(&field(out, "id").expect("an id"));
        ["a", "b", "c"].map(|name| cursor.position(name).expect("a position").offset)
    };
    assert_eq!(positions(&out), [1, 1, 1]);
    let moved = [(channel("a"), at(4)), (channel("b"), at(1)), (channel("c"), at(9))];
    let mark = Push::Mark { positions: Box::new(moved) };
    let mut out = Vec::new();
    assert_eq!(events.encode_push(&mark, &mut out), Written::Begun);
    stream.encode_rest(&mark, &mut out);
    assert_eq!(positions(&out), [4, 1, 9]);
    assert!(out.starts_with(b":\n"), "a client is not told: {}", String::from_utf8_lossy(&out));
}

/// A browser comes back by itself, at the time that the last block names.
#[test]
fn the_end_says_when_to_come_back() {
    for events in Events::ALL {
        for (delay_ms, expected) in [(7_321, Some("7321")), (0, None)] {
            let mut out = Vec::new();
            let push = Push::Disconnect { reason: Disconnect::Shutdown, delay_ms };
            assert_eq!(events.encode_push(&push, &mut out), Written::Last(Disconnect::Shutdown));
            assert_eq!(field(&out, "retry").as_deref(), expected, "{events:?}");
            assert_eq!(field(&out, "event").as_deref(), Some("fanfare.disconnect"));
            assert!(out.ends_with(b"\n\n"));
        }
    }
}
