//! The body of the fuzz target `socketio_decode`, and of the tests that feed it on every run.
//!
//! No input panics. What waits for attachments is bounded by what has come. A packet that is whole is written again as
//! messages that read the same.

use super::{Decoder, Elements, Event, Kind, Limits, Packet, put_packet};
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
