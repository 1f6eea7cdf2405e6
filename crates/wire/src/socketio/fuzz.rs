//! The bodies of the fuzz targets `socketio_decode` and `socketio_msgpack`, and of the tests that feed them on every
//! run.
//!
//! No input panics. A packet that waits for attachments is no larger than its input. A whole packet is written again
//! as messages that read the same.

use super::{Decoder, Elements, Event, Kind, Limits, Packet, msgpack, put_packet};
use serde::de::IgnoredAny;

/// One round: `data` is a series of messages, each with a byte for its kind and a byte for its length before it.
pub fn decode(mut data: &[u8]) {
    let limits = Limits { packet_bytes_max: 1_000, ..Limits::default() };
    let mut decoder = Decoder::default();
    let mut came = 0;
    while let [kind, len, rest @ ..] = data {
        let (message, rest) = rest.split_at(rest.len().min(usize::from(*len)));
        data = rest;
        came += message.len();
        let decoded = match std::str::from_utf8(message) {
            Ok(text) if kind % 2 == 0 => decoder.text(text, &limits),
            _ => decoder.binary(message, &limits),
        };
        assert!(decoder.buffered_bytes() <= came.min(limits.packet_bytes_max));
        match decoded {
            Err(error) => {
                assert!(error.to_string().len() < 1_000, "a line of the log is short");
                return; // the connection ends
            }
            Ok(None) => assert!(decoder.is_within_packet()),
            Ok(Some(packet)) => {
                assert!(!decoder.is_within_packet());
                came = 0;
                check(&packet, &limits);
            }
        }
    }
}

fn check(packet: &Packet<'_>, limits: &Limits) {
    if let Some(data) = packet.data.as_deref() {
        serde_json::from_str::<IgnoredAny>(data).expect("a payload is JSON");
    }
    if packet.kind == Kind::Event {
        assert!(packet.data.as_deref().and_then(Event::of).is_some(), "an event has a name");
    }
    let elements = packet.data.as_deref().map(Elements::of);
    for element in elements.into_iter().flatten() {
        serde_json::from_str::<IgnoredAny>(element).expect("an element is JSON");
    }
    let mut written = Vec::new();
    put_packet(&mut written, packet);
    let written = std::str::from_utf8(&written).expect("a packet is text");
    let mut decoder = Decoder::default();
    let mut again = decoder.text(written, limits).expect("it was read before");
    for attachment in packet.attachments.iter().flatten() {
        again = decoder.binary(attachment, limits).expect("it was read before");
    }
    assert_eq!(again.as_ref(), Some(packet));
}

/// One message of a client with the msgpack parser: no input panics, memory is bounded by what came, and a packet that
/// is read is written again so that it reads the same.
pub fn msgpack(data: &[u8]) {
    let limits = Limits { packet_bytes_max: 10_000, ..Limits::default() };
    let packet = match msgpack::decode(data, &limits) {
        Ok(packet) => packet,
        Err(error) => return assert!(error.to_string().len() < 1_000, "a line of the log is short"),
    };
    let json = packet.data.as_deref().unwrap_or_default();
    assert!(json.len() <= limits.packet_bytes_max, "a payload has its limit in JSON too");
    if !json.is_empty() {
        serde_json::from_str::<IgnoredAny>(json).expect("a payload is JSON");
    }
    let mut written = Vec::new();
    msgpack::encode(&mut written, &packet);
    // It may be a little longer than what was read: a float of 4 bytes has 8 now.
    let again = msgpack::decode(&written, &Limits { packet_bytes_max: 100_000, ..limits });
    let again = again.expect("it was read before");
    assert_eq!((again.kind, &again.namespace, again.id), (packet.kind, &packet.namespace, packet.id));
    assert_eq!(again.attachments.as_ref().map(Vec::len), packet.attachments.as_ref().map(Vec::len));
}
