//! The body of the fuzz target `engineio_decode`, and of the tests that feed it on every run.
//!
//! No input panics. A payload is read to the end of its text. The packets that were read are written again as a payload
//! that reads the same. A query is judged the same by any method.

use super::{Packet, Payload, Query, put_payload};

/// One round: `data` as a packet, as a payload and as a query.
pub fn decode(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let packets: Vec<_> = Payload::new(text).collect();
    assert!(!packets.is_empty(), "an empty payload is one bad packet");
    let (last, before) = packets.split_last().expect("it is not empty");
    assert!(before.iter().all(Result::is_ok), "an error is the last item");
    let good: Vec<&Packet<'_>> = before.iter().chain([last]).flatten().collect();
    let mut written = Vec::new();
    good.iter().for_each(|packet| put_payload(&mut written, packet));
    let written = String::from_utf8(written).expect("packets are text");
    if !good.is_empty() {
        let again: Vec<_> = Payload::new(&written).collect();
        assert!(again.iter().map(Result::as_ref).eq(good.into_iter().map(Ok)), "{text:?} became {written:?}");
    }
    for (method, is_upgrade) in [("GET", false), ("GET", true), ("POST", false)] {
        if let Ok(query) = Query::judge(text, method, is_upgrade) {
            assert!(query.sid.is_some() || method == "GET", "a handshake is a GET");
        }
    }
}
