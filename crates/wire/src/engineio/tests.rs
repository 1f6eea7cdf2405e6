//! Vectors of Engine.IO 4: from the protocol's document, and the reference's answers to bad input.

use super::*;
use fanfare_hub::{ConnId, ShardId};
use proptest::prelude::*;
use std::time::Duration;

#[test]
fn packets_are_read_and_written() {
    let rows: &[(&str, &str, Packet<'_>)] = &[
        ("an open packet", "0{}", Packet::Open("{}")),
        ("a close", "1", Packet::Close),
        ("a ping", "2", Packet::Ping("")),
        ("the probe", "2probe", Packet::Ping("probe")),
        ("a pong", "3", Packet::Pong("")),
        ("the probe's answer", "3probe", Packet::Pong("probe")),
        ("a message", "4hello", Packet::Text("hello")),
        ("an empty message", "4", Packet::Text("")),
        ("a message in UTF-8", "4utf 8 — 认证", Packet::Text("utf 8 — 认证")),
        ("a binary message", "bAQIDBA==", Packet::Binary(vec![1, 2, 3, 4].into())),
        ("an empty binary message", "b", Packet::Binary(vec![].into())),
        ("the upgrade", "5", Packet::Upgrade),
        ("a noop", "6", Packet::Noop),
    ];
    for (name, text, packet) in rows {
        assert_eq!(Packet::decode(text), Ok(packet.clone()), "{name}");
        let mut out = Vec::new();
        packet.put(&mut out);
        assert_eq!(String::from_utf8_lossy(&out), *text, "{name}");
    }
}

#[test]
fn bad_packets_are_errors() {
    let rows: &[(&str, &str, PacketError)] = &[
        ("nothing", "", PacketError::Empty),
        ("an unknown kind", "7", PacketError::Kind('7')),
        ("a letter", "abc", PacketError::Kind('a')),
        ("a character of several bytes", "é", PacketError::Kind('é')),
        ("no base64", "b!", PacketError::Base64),
        ("half of a base64 character", "bA", PacketError::Base64),
        ("base64 that goes on after its padding", "bAQ==AQ==", PacketError::Base64),
    ];
    for (name, text, error) in rows {
        assert_eq!(Packet::decode(text), Err(*error), "{name}");
    }
    assert_eq!(Packet::decode("bAQIDBA"), Ok(Packet::Binary(vec![1, 2, 3, 4].into())), "padding is optional");
}

#[test]
fn a_payload_ends_at_its_first_error() {
    type Packets<'a> = &'a [Result<Packet<'a>, PacketError>];
    let rows: &[(&str, &str, Packets<'_>)] = &[
        ("one packet", "4hello", &[Ok(Packet::Text("hello"))]),
        (
            "several",
            "4hello\u{1e}2\u{1e}4world",
            &[Ok(Packet::Text("hello")), Ok(Packet::Ping("")), Ok(Packet::Text("world"))],
        ),
        (
            "text and bytes",
            "4a\u{1e}bAQ==",
            &[Ok(Packet::Text("a")), Ok(Packet::Binary(std::borrow::Cow::Borrowed(&[1])))],
        ),
        ("nothing", "", &[Err(PacketError::Empty)]),
        ("a separator alone", "\u{1e}", &[Err(PacketError::Empty)]),
        ("a separator at the end", "4a\u{1e}", &[Ok(Packet::Text("a")), Err(PacketError::Empty)]),
        ("packets after an error", "4a\u{1e}x\u{1e}4b", &[Ok(Packet::Text("a")), Err(PacketError::Kind('x'))]),
    ];
    for (name, body, packets) in rows {
        assert_eq!(Payload::new(body).collect::<Vec<_>>(), *packets, "{name}");
    }
}

#[test]
fn ten_thousand_packets_are_read_one_at_a_time() {
    let body = vec!["4"; 10_000].join("\u{1e}");
    assert_eq!(Payload::new(&body).filter(|packet| *packet == Ok(Packet::Text(""))).count(), 10_000);
}

#[test]
fn an_open_packet_says_all_that_a_client_must_know() {
    let open = Open {
        sid: "lv_VI97HAXpY6yYWAAAB",
        upgrades: true,
        ping_interval: Duration::from_secs(25),
        ping_timeout: Duration::from_secs(20),
        max_payload: 1_000_000,
    };
    let mut out = Vec::new();
    open.put(&mut out);
    let expected = r#"0{"sid":"lv_VI97HAXpY6yYWAAAB","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#;
    assert_eq!(String::from_utf8(out).unwrap(), expected);
    let mut out = Vec::new();
    Open { upgrades: false, ..open }.put(&mut out);
    assert_eq!(String::from_utf8(out).unwrap(), expected.replace("[\"websocket\"]", "[]"));
}

#[test]
fn requests_are_judged_in_the_order_of_the_reference() {
    let polling = Query { transport: Transport::Polling, sid: None, is_version_4: true };
    let websocket = Query { transport: Transport::WebSocket, sid: None, is_version_4: true };
    let other = Query { is_version_4: false, ..polling };
    let of = |query: Query<'static>, sid| Ok(Query { sid: Some(sid), ..query });
    type Judged<'a> = Result<Query<'a>, Refused>;
    let rows: &[(&str, &str, &str, bool, Judged<'_>)] = &[
        ("a handshake", "EIO=4&transport=polling", "GET", false, Ok(polling)),
        ("a handshake with a timestamp", "EIO=4&transport=polling&t=x", "GET", false, Ok(polling)),
        ("a handshake by WebSocket", "EIO=4&transport=websocket", "GET", true, Ok(websocket)),
        ("an empty id is none", "EIO=4&transport=polling&sid=", "GET", false, Ok(polling)),
        ("a poll", "EIO=4&transport=polling&sid=a", "GET", false, of(polling, "a")),
        ("a POST", "EIO=4&transport=polling&sid=a", "POST", false, of(polling, "a")),
        ("an upgrade", "EIO=4&transport=websocket&sid=a", "GET", true, of(websocket, "a")),
        ("a poll of no version", "transport=polling&sid=a", "GET", false, of(other, "a")),
        ("a poll of version 3", "EIO=3&transport=polling&sid=a", "GET", false, of(other, "a")),
        ("nothing", "", "GET", false, Err(Refused::TransportUnknown)),
        ("no transport", "EIO=4", "GET", false, Err(Refused::TransportUnknown)),
        ("an unknown transport", "EIO=4&transport=abc", "GET", false, Err(Refused::TransportUnknown)),
        (
            "a parameter's name that ends alike",
            "EIO=4&xtransport=polling",
            "GET",
            false,
            Err(Refused::TransportUnknown),
        ),
        ("the transport comes first", "EIO=3&transport=abc", "POST", false, Err(Refused::TransportUnknown)),
        ("a handshake by POST", "EIO=4&transport=polling", "POST", false, Err(Refused::BadHandshakeMethod)),
        ("a handshake by PUT", "EIO=4&transport=polling", "PUT", false, Err(Refused::BadHandshakeMethod)),
        ("a WebSocket without upgrade", "EIO=4&transport=websocket", "GET", false, Err(Refused::BadRequest)),
        ("an upgrade that polls", "EIO=4&transport=polling", "GET", true, Err(Refused::BadRequest)),
        ("no version", "transport=polling", "GET", false, Err(Refused::UnsupportedVersion)),
        ("version 3", "EIO=3&transport=polling", "GET", false, Err(Refused::UnsupportedVersion)),
        ("version 5", "EIO=5&transport=websocket", "GET", true, Err(Refused::UnsupportedVersion)),
        ("a version of text", "EIO=abc&transport=polling", "GET", false, Err(Refused::UnsupportedVersion)),
    ];
    for (name, query, method, is_upgrade, expected) in rows {
        assert_eq!(Query::judge(query, method, *is_upgrade, Transports::ALL), *expected, "{name}");
    }
}

#[test]
fn a_transport_that_is_not_offered_is_unknown() {
    let only_websocket = Transports { polling: false, ..Transports::ALL };
    let only_polling = Transports { websocket: false, ..Transports::ALL };
    let rows: &[(&str, &str, bool, Transports, Option<Refused>)] = &[
        ("polling", "EIO=4&transport=polling", false, only_websocket, Some(Refused::TransportUnknown)),
        ("a poll", "EIO=4&transport=polling&sid=a", false, only_websocket, Some(Refused::TransportUnknown)),
        ("an old version of it", "EIO=3&transport=polling", false, only_websocket, Some(Refused::TransportUnknown)),
        ("the other one", "EIO=4&transport=websocket", true, only_websocket, None),
        ("a WebSocket", "EIO=4&transport=websocket", true, only_polling, Some(Refused::TransportUnknown)),
        ("an upgrade", "EIO=4&transport=websocket&sid=a", true, only_polling, Some(Refused::TransportUnknown)),
        ("polling alone", "EIO=4&transport=polling", false, only_polling, None),
    ];
    for (name, query, is_upgrade, offered, refused) in rows {
        assert_eq!(Query::judge(query, "GET", *is_upgrade, *offered).err(), *refused, "{name}");
    }
}

#[test]
fn a_probe_is_answered_and_an_upgrade_is_taken() {
    let refused = |step| matches!(step, ProbeStep::Refuse(_));
    type Rows<'a> = &'a [(&'a str, &'a [&'a str], fn(ProbeStep) -> bool, bool)];
    let rows: Rows<'_> = &[
        ("a probe", &["2probe"], |step| step == ProbeStep::Answer, true),
        ("two probes", &["2probe", "2probe"], |step| step == ProbeStep::Answer, true),
        ("the upgrade", &["2probe", "5"], |step| step == ProbeStep::Upgrade, true),
        ("an upgrade without a probe, as the reference takes it", &["5"], |step| step == ProbeStep::Upgrade, false),
    ];
    for (name, texts, expected, is_probed) in rows {
        let mut probe = Probe::default();
        let last = texts.iter().map(|text| probe.text(text)).last().unwrap();
        assert!(expected(last), "{name}: {last:?}");
        assert_eq!(probe.is_probed(), *is_probed, "{name}");
    }
    for text in ["2", "2prob", "3probe", "3", "40", "4", "1", "6", "0{}", "", "x", "bAQ==", "2probe\u{1e}5"] {
        assert!(refused(Probe::default().text(text)), "{text:?}");
    }
}

#[test]
fn an_id_names_its_session_to_the_node_that_wrote_it() {
    let rows = [(0, 0, 1), (3, 77, 4), (u16::MAX, u32::MAX, u32::MAX)];
    for (shard, index, generation) in rows {
        let sid = Sid { shard: ShardId(shard), conn: ConnId { index, generation } };
        let text = sid.seal(7, b"key");
        assert_eq!(text.len(), Sid::LEN);
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{text}");
        assert_eq!(Sid::open(&text, 7, b"key"), Some(sid));
        assert_eq!(Sid::open(&text, 8, b"key"), None, "another node");
        assert_eq!(Sid::open(&text, 7, b"other"), None, "another key");
        assert_eq!(Sid::open(&text[..text.len() - 1], 7, b"key"), None);
        assert_eq!(Sid::open(&format!("{text}A"), 7, b"key"), None);
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(Sid::open(std::str::from_utf8(&changed).unwrap(), 7, b"key"), None, "changed at {at}");
        }
    }
    assert_eq!(Sid::open("", 7, b"key"), None);
    assert_eq!(Sid::open(&"é".repeat(15), 7, b"key"), None, "of the right length and no base64");
}

#[test]
fn refusals_have_the_codes_of_the_reference() {
    for (code, refused) in Refused::ALL.into_iter().enumerate() {
        assert_eq!(usize::from(refused.code()), code);
        let body: serde_json::Value = serde_json::from_str(&refused.body()).unwrap();
        assert_eq!(body, serde_json::json!({"code": code, "message": refused.message()}));
        assert_eq!(refused.status(), if code == 4 { 403 } else { 400 });
    }
}

fn packet() -> impl Strategy<Value = (u8, String, Vec<u8>)> {
    // U+001E within a text would end its packet: no sender of JSON writes it raw.
    (0..8_u8, "[^\u{1e}]{0,8}", proptest::collection::vec(any::<u8>(), 0..8))
}

proptest! {
    #[test]
    fn a_payload_that_was_written_reads_the_same(parts in proptest::collection::vec(packet(), 1..8)) {
        let packets: Vec<Packet<'_>> = parts.iter().map(|(kind, text, bytes)| match kind {
            0 => Packet::Open(text),
            1 => Packet::Close,
            2 => Packet::Ping(text),
            3 => Packet::Pong(text),
            4 => Packet::Text(text),
            5 => Packet::Upgrade,
            6 => Packet::Noop,
            _ => Packet::Binary(bytes.into()),
        }).collect();
        let mut body = Vec::new();
        packets.iter().for_each(|packet| put_payload(&mut body, packet));
        let body = String::from_utf8(body).unwrap();
        prop_assert_eq!(Payload::new(&body).collect::<Result<Vec<_>, _>>(), Ok(packets));
    }

    #[test]
    fn any_bytes_pass_the_fuzz_body(data: Vec<u8>, text in "[0-7b\u{1e}AEIOtransport=&polling]{0,40}") {
        fuzz::decode(&data);
        fuzz::decode(text.as_bytes());
    }

    #[test]
    fn any_steps_pass_the_fuzz_body_of_upgrades(
        name: [u8; 12],
        any: Vec<u8>,
        said in proptest::collection::vec("2probe|5|[0-6b]{0,1}[a-p]{0,6}", 0..6),
    ) {
        let said = said.iter().flat_map(|text| [&[text.len() as u8], text.as_bytes()].concat());
        fuzz::upgrade(&name.iter().copied().chain(said).collect::<Vec<u8>>());
        fuzz::upgrade(&[&name[..], &any].concat());
    }
}

/// The target asked that no text opens, and a fuzzer found the one that its input names.
#[test]
fn the_id_of_a_session_may_stand_behind_its_name() {
    let name = [0x2f, 0x64, 0x64, 0xe4, 0xe4, 0xe6, 0xe4, 0xe4, 0xe4, 0xe4, 1, 0];
    fuzz::upgrade(&[&name[..], b"L-bkZODk5uRk4KXvaFpKmB6nepx-Sw"].concat());
}
