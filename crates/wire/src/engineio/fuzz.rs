//! The bodies of the fuzz targets `engineio_decode` and `engineio_upgrade`, and of the tests that feed them on every
//! run.
//!
//! No input panics. A payload is read to the end of its text. The packets that were read are written again as a payload
//! that reads the same. A query is judged the same by any method. An id is believed only as it was written, and an
//! upgrade comes to its end only by a `5`.

use super::{Packet, Payload, Probe, ProbeStep, Query, Sid, Transports, put_payload};
use fanfare_hub::{ConnId, ShardId};

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
        if let Ok(query) = Query::judge(text, method, is_upgrade, Transports::ALL) {
            assert!(query.sid.is_some() || method == "GET", "a handshake is a GET");
        }
    }
}

/// One round: the first ten bytes as the name of a session, the next ones as changes to its id; the rest as the
/// messages of an upgrade, each after its length.
pub fn upgrade(data: &[u8]) {
    const NODE: u64 = 7;
    const KEY: &[u8] = b"a key of this test";
    let Some((&[s0, s1, i0, i1, i2, i3, g0, g1, g2, g3, at, byte], mut rest)) = data.split_first_chunk::<12>() else {
        return;
    };
    let conn = ConnId { index: u32::from_be_bytes([i0, i1, i2, i3]), generation: u32::from_be_bytes([g0, g1, g2, g3]) };
    let sid = Sid { shard: ShardId(u16::from_be_bytes([s0, s1])), conn };
    let text = sid.seal(NODE, KEY);
    assert_eq!(Sid::open(&text, NODE, KEY), Some(sid), "an id is read as it was written");
    let mut changed = text.clone().into_bytes();
    let at = usize::from(at) % changed.len();
    changed[at] = byte;
    if let Ok(changed) = std::str::from_utf8(&changed) {
        assert_eq!(Sid::open(changed, NODE, KEY).is_some(), changed == text, "{changed:?} was {text:?}");
    }
    // A fuzzer sees what is compared, so it can find the id above, and only that: there is one text for each id.
    if let Ok(text) = std::str::from_utf8(rest)
        && let Some(opened) = Sid::open(text, NODE, KEY)
    {
        assert_eq!(opened.seal(NODE, KEY), text, "an id that is not as it was written");
    }
    let mut probe = Probe::default();
    while let Some((&len, tail)) = rest.split_first() {
        let (message, tail) = tail.split_at(usize::from(len % 16).min(tail.len()));
        rest = tail;
        let Ok(text) = std::str::from_utf8(message) else { continue };
        let before = probe;
        match probe.text(text) {
            ProbeStep::Answer => assert!(text == "2probe" && probe.is_probed()),
            ProbeStep::Upgrade => {
                assert!(text.starts_with('5'), "{text:?} is no upgrade");
                return;
            }
            ProbeStep::Refuse(_) => {
                assert_eq!(probe, before, "what is refused changes nothing");
                return;
            }
        }
    }
}
