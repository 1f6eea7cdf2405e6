//! Vectors of `socket.io-msgpack-parser` 3.0.2, read and written, and what a client may not send.

use super::*;
use crate::json::{DEPTH_MAX, TooDeep};
use bytes::Bytes;
use proptest::prelude::*;

fn limits() -> Limits {
    Limits { packet_bytes_max: 10_000, ..Limits::default() }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|char| char.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap()).collect()
}

fn packet(kind: Kind, namespace: &str, id: Option<u64>, data: Option<&str>) -> Packet<'static> {
    let data = data.map(|data| Cow::Owned(data.to_owned()));
    Packet { kind, namespace: Cow::Owned(namespace.to_owned()), id, data, attachments: None }
}

fn with(packet: Packet<'static>, attachments: &[&'static [u8]]) -> Packet<'static> {
    Packet { attachments: Some(attachments.iter().map(|bytes| Bytes::from_static(bytes)).collect()), ..packet }
}

/// The packets of the parser that a client sends, in hexadecimal, and what they are.
fn vectors() -> Vec<(&'static str, &'static str, Packet<'static>)> {
    use Kind::*;
    let event = |data| packet(Event, "/", None, Some(data));
    vec![
        ("a connect", "82a47479706500a36e7370a12f", packet(Connect, "/", None, None)),
        (
            "a connect without a payload, as a client writes it",
            "84a47479706500a36e7370a12fa464617461d40000a76f7074696f6e7381a8636f6d7072657373c3",
            packet(Connect, "/", None, None),
        ),
        (
            "a connect with a token",
            "83a47479706500a36e7370a62f61646d696ea46461746181a5746f6b656ea3313233",
            packet(Connect, "/admin", None, Some(r#"{"token":"123"}"#)),
        ),
        ("a disconnect", "82a47479706501a36e7370a12f", packet(Disconnect, "/", None, None)),
        (
            "an event",
            "84a47479706502a36e7370a12fa46461746199a568656c6c6f01ffcb3ff8000000000000c3c2c09080a76f7074696f6e7381a8\
             636f6d7072657373c3",
            event(r#"["hello",1,-1,1.5,true,false,null,[],{}]"#),
        ),
        (
            "integers",
            "83a47479706502a36e7370a12fa464617461dc0013a16e7fcc80ccffcd0100cdffffce00010000ceffffffffcf0000000100000000\
             cf001fffffffffffffe0d0dfd080d1ff7fd18000d2ffff7fffd280000000d3ffffffff7fffffffd3ffe0000000000001",
            event(
                r#"["n",127,128,255,256,65535,65536,4294967295,4294967296,9007199254740991,-32,-33,-128,-129,-32768,-32769,-2147483648,-2147483649,-9007199254740991]"#,
            ),
        ),
        (
            "floats, finite and not",
            "83a47479706502a36e7370a12fa46461746196a166cb3fb999999999999acbbe90c6f7a0b5ed8dcb7ff8000000000000\
             cb7ff0000000000000cbfff0000000000000",
            event(r#"["f",0.1,-2.5e-7,null,null,null]"#),
        ),
        (
            "undefined",
            "83a47479706502a36e7370a12fa46461746193a175d4000082a161d40000a16201",
            event(r#"["u",null,{"b":1}]"#),
        ),
        (
            "dates",
            "83a47479706502a36e7370a12fa46461746195a164d7000000018bcfe5687bd700ffffffffffffffffd700001eb208c2dc0000\
             d700ffe14df73d240000",
            event(
                r#"["d","2023-11-14T22:13:20.123Z","1969-12-31T23:59:59.999Z","+275760-09-13T00:00:00.000Z","-271821-04-20T00:00:00.000Z"]"#,
            ),
        ),
        (
            "buffers and typed arrays",
            "84a47479706502a36e7370a12fa46461746193a162c40301020382a178c702000405a179c400a2696407",
            with(
                packet(
                    Event,
                    "/",
                    Some(7),
                    Some(
                        r#"["b",{"_placeholder":true,"num":0},{"x":{"_placeholder":true,"num":1},"y":{"_placeholder":true,"num":2}}]"#,
                    ),
                ),
                &[&[1, 2, 3], &[4, 5], &[]],
            ),
        ),
        (
            "an ack",
            "84a47479706503a36e7370a62f61646d696ea26964cd01c8a4646174619181a26f6babe4bda0e5a5bd20f09f8e89",
            packet(Ack, "/admin", Some(456), Some(r#"[{"ok":"你好 🎉"}]"#)),
        ),
        (
            "a refusal",
            "83a47479706504a36e7370a12fa46461746181a76d657373616765a26e6f",
            packet(ConnectError, "/", None, Some(r#"{"message":"no"}"#)),
        ),
    ]
}

#[test]
fn the_packets_of_the_parser_are_read() {
    for (name, hex, packet) in vectors() {
        assert_eq!(decode(&bytes(hex), &limits()), Ok(packet), "{name}");
    }
}

#[test]
fn packets_are_written_as_the_parser_reads_them() {
    for (name, _, packet) in vectors() {
        let mut out = Vec::new();
        encode(&mut out, &packet);
        assert_eq!(decode(&out, &limits()), Ok(packet), "{name}");
    }
    // Each of these is what notepack.io writes for it.
    let rows = [
        ("a connect", packet(Kind::Connect, "/", None, None), "82a47479706500a36e7370a12f"),
        (
            "a success",
            packet(Kind::Connect, "/", None, Some(r#"{"sid":"a"}"#)),
            "83a47479706500a36e7370a12fa46461746181a3736964a161",
        ),
        (
            "white space and escapes",
            packet(Kind::Event, "/", None, Some(" [ \"a\\n\\u00e9\" , { \"k\" : -1.5e1 } ] ")),
            "83a47479706502a36e7370a12fa46461746192a461 0a c3a9 81a16bcbc02e000000000000",
        ),
    ];
    for (name, packet, hex) in rows {
        let mut out = Vec::new();
        encode(&mut out, &packet);
        assert_eq!(out, bytes(hex), "{name}");
    }
}

#[test]
fn long_values_have_long_heads() {
    let names: String = (0..17).map(|n| format!("\"k{n}\":{n},")).collect();
    let zeros = vec!["0"; 70_000].join(",");
    for (data, head) in [
        (format!("[\"{}\"]", "x".repeat(31)), bytes("91bf")),
        (format!("[\"{}\"]", "x".repeat(32)), bytes("91d920")),
        (format!("[\"{}\"]", "x".repeat(300)), bytes("91da012c")),
        (format!("[\"{}\"]", "x".repeat(70_000)), bytes("91db00011170")),
        (format!("[{}]", vec!["0"; 15].join(",")), bytes("9f")),
        (format!("[{}]", vec!["0"; 16].join(",")), bytes("dc0010")),
        (format!("[{zeros}]"), bytes("dd00011170")),
        (format!("[{{{}}}]", names.trim_end_matches(',')), bytes("91de0011")),
    ] {
        let mut out = Vec::new();
        Writer::new(&data, None).value(&mut out);
        assert!(out.starts_with(&head), "{:?} of {}", &out[..8], &data[..20]);
        let mut reader = Reader::new(&out, 1_000_000);
        assert_eq!((reader.data(), reader.left()), (Ok(true), 0));
        assert_eq!(reader.into_parts().0, data);
    }
}

#[test]
fn placeholders_without_the_form_of_attachments_stay_as_they_are() {
    let event = packet(Kind::Event, "/", None, Some(r#"["a",{"_placeholder":true,"num":0}]"#));
    let mut out = Vec::new();
    encode(&mut out, &event);
    assert_eq!(decode(&out, &limits()), Ok(event));
}

#[test]
fn half_a_character_becomes_a_replacement_character() {
    let mut out = Vec::new();
    Writer::new(r#"["\ud800x","😀\udc00\n"]"#, None).value(&mut out);
    let mut reader = Reader::new(&out, 100);
    reader.data().unwrap();
    assert_eq!(reader.into_parts().0, "[\"\u{fffd}x\",\"😀\u{fffd}\\n\"]");
}

#[test]
fn the_text_of_a_packet_is_written_as_messagepack() {
    let attachment: &[u8] = &[1, 2];
    let mut out = Vec::new();
    assert!(encode_text(&mut out, r#"51-/admin,9["a",{"_placeholder":true,"num":0}]"#, &[attachment]));
    let data = r#"["a",{"_placeholder":true,"num":0}]"#;
    let expected = with(packet(Kind::Event, "/admin", Some(9), Some(data)), &[&[1, 2]]);
    assert_eq!(decode(&out, &limits()), Ok(expected));
    assert!(!encode_text(&mut Vec::new(), "nonsense", &[]));
}

#[test]
fn bad_messages_are_errors() {
    let head = "a47479706502a36e7370a12f";
    let field = |name, expected| Err(MsgpackError::Field { name, expected }.into());
    let payload = |expected| Err(DecodeError::Payload { expected });
    let (nsp, name) = ("a text that begins with / and has no comma", "an array that begins with a name");
    let event = |data: &str| format!("83{head}a464617461{data}");
    let deep = event(&format!("{}c0", "91".repeat(DEPTH_MAX + 1)));
    let rows: Vec<(&str, String, Result<Packet<'static>, DecodeError>)> = vec![
        ("nothing", String::new(), Err(MsgpackError::Truncated { at: 0 }.into())),
        ("no map", "93a1610102".into(), Err(MsgpackError::NoMap.into())),
        ("the unused byte", "c1".into(), Err(MsgpackError::NoType { at: 0 }.into())),
        ("an empty map", "80".into(), Err(DecodeError::Kind)),
        ("half a map", "82a47479706502".into(), Err(MsgpackError::Truncated { at: 7 }.into())),
        (
            "bytes behind the packet",
            "82a47479706500a36e7370a12fc0".into(),
            Err(MsgpackError::Trailing { count: 1 }.into()),
        ),
        ("an unknown type", "82a47479706505a36e7370a12f".into(), Err(DecodeError::Kind)),
        ("a type that is a text", "82a474797065a132a36e7370a12f".into(), Err(DecodeError::Kind)),
        ("a type below zero", "82a474797065ffa36e7370a12f".into(), Err(DecodeError::Kind)),
        ("no namespace", "81a47479706500".into(), field("nsp", nsp)),
        ("a namespace that is a number", "82a47479706500a36e737001".into(), field("nsp", nsp)),
        ("a namespace without a slash", "82a47479706500a36e7370a161".into(), field("nsp", nsp)),
        ("a namespace with a comma", "82a47479706500a36e7370a32f612c".into(), field("nsp", nsp)),
        (
            "a huge namespace",
            format!("82a47479706500a36e7370da0100{}", "2f".repeat(256)),
            Err(DecodeError::NamespaceLength { len: 256, max: 255 }),
        ),
        ("an event without payload", format!("82{head}"), payload(name)),
        ("an event with undefined", event("d40000"), payload(name)),
        ("an event that is an object", event("80"), payload(name)),
        ("an event without a name", event("90"), payload(name)),
        ("an event named by an object", event("9180"), payload(name)),
        ("a reserved event", event("91a7636f6e6e656374"), Err(DecodeError::ReservedEvent("connect"))),
        ("a connect with null", "83a47479706500a36e7370a12fa464617461c0".into(), payload("an object")),
        ("an ack without an id", "83a47479706503a36e7370a12fa46461746190".into(), Err(DecodeError::NoAckId)),
        (
            "an id that is null",
            "84a47479706503a36e7370a12fa46461746190a26964c0".into(),
            field("id", "an integer from 0 to 2^64-1"),
        ),
        (
            "an id below zero",
            "84a47479706503a36e7370a12fa46461746190a26964ff".into(),
            field("id", "an integer from 0 to 2^64-1"),
        ),
        ("a key that is nil", event("92a16181c001"), Err(MsgpackError::Key { at: 22 }.into())),
        ("a list that claims 4 billion elements", event("ddffffffff"), Err(MsgpackError::Truncated { at: 23 }.into())),
        ("a map that claims 4 billion fields", event("dfffffffff"), Err(MsgpackError::Truncated { at: 23 }.into())),
        ("a text that claims 4 GB", event("91dbffffffff"), Err(MsgpackError::Truncated { at: 19 }.into())),
        ("bytes that claim 4 GB", event("91c6ffffffff"), Err(MsgpackError::Truncated { at: 19 }.into())),
        ("an extension that claims 4 GB", event("91c9ffffffff00"), Err(MsgpackError::Truncated { at: 19 }.into())),
        ("deep arrays", deep, Err(TooDeep { depth: DEPTH_MAX + 1 }.into())),
        (
            "deep arrays in a field that means nothing",
            format!("83{head}a178{}c0", "91".repeat(DEPTH_MAX + 1)),
            Err(TooDeep { depth: DEPTH_MAX + 1 }.into()),
        ),
    ];
    for (name, hex, expected) in rows {
        assert_eq!(decode(&bytes(&hex), &limits()), expected, "{name}");
    }
}

#[test]
fn what_a_packet_takes_in_memory_has_bounds() {
    let large = Limits { packet_bytes_max: 100_000, ..Limits::default() };
    let event = |values: usize, value: &str| {
        bytes(&format!("83a47479706502a36e7370a12fa464617461dd{:08x}a161{}", values + 1, value.repeat(values)))
    };
    let too_large = |result| matches!(result, Err(DecodeError::TooLarge { len, max: 100_000 }) if len > 100_000);
    assert!(too_large(decode(&event(30_000, "c0"), &large)), "`null` is longer in JSON");
    assert!(too_large(decode(&event(5_000, "c400"), &large)), "so are placeholders");
    assert!(too_large(decode(&vec![0; 100_001], &large)));
    let larger = Limits { packet_bytes_max: 1_000_000, ..Limits::default() };
    let max = BINARY_VALUES_MAX;
    let expected = Err(DecodeError::TooManyAttachments { count: max as u64 + 1, max });
    assert_eq!(decode(&event(max + 1, "c400"), &larger), expected);
    assert!(decode(&event(max, "c400"), &larger).is_ok());
}

#[test]
fn other_extensions_are_arrays_of_their_type_and_bytes() {
    for (name, value, data, attachment) in [
        ("of one byte", "d40509", r#"["a",[5,{"_placeholder":true,"num":0}]]"#, &[9][..]),
        ("of two bytes", "d5ff0102", r#"["a",[-1,{"_placeholder":true,"num":0}]]"#, &[1, 2]),
        ("of a length", "c70307010203", r#"["a",[7,{"_placeholder":true,"num":0}]]"#, &[1, 2, 3]),
        ("of type 0, which is an ArrayBuffer", "c80001 00 09", r#"["a",{"_placeholder":true,"num":0}]"#, &[9]),
    ] {
        let decoded = decode(&bytes(&format!("83a47479706502a36e7370a12fa46461746192a161{value}")), &limits()).unwrap();
        assert_eq!(decoded.data.as_deref(), Some(data), "{name}");
        assert_eq!(decoded.attachments, Some(vec![Bytes::copy_from_slice(attachment)]), "{name}");
    }
}

#[test]
fn a_part_of_a_packet_is_never_a_packet() {
    for (name, hex, _) in vectors() {
        let whole = bytes(hex);
        for len in 0..whole.len() {
            assert!(decode(&whole[..len], &limits()).is_err(), "{name}, {len} bytes");
        }
    }
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(Into::into),
        ".*".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 40, 20, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..20).prop_map(Into::into),
            prop::collection::btree_map(".{0,40}", inner, 0..20)
                .prop_map(|fields| serde_json::Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_passes(value in json(), id in any::<Option<u64>>()) {
        let text = serde_json::to_string(&serde_json::json!(["a", value])).unwrap();
        let event = packet(Kind::Event, "/n", id, Some(&text));
        let mut out = Vec::new();
        encode(&mut out, &event);
        let limits = Limits { packet_bytes_max: 1_000_000, ..Limits::default() };
        let decoded = decode(&out, &limits).unwrap();
        let again: serde_json::Value = serde_json::from_str(decoded.data.as_deref().unwrap()).unwrap();
        let expected: serde_json::Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(again, expected);
        prop_assert_eq!(decoded.id, id);
    }

    #[test]
    fn any_bytes_are_read_or_refused(data in prop::collection::vec(any::<u8>(), 0..200)) {
        crate::socketio::fuzz::msgpack(&data);
        // With a head that leads to the payload.
        let mut packet = bytes("83a47479706502a36e7370a12fa464617461");
        packet.extend_from_slice(&data);
        crate::socketio::fuzz::msgpack(&packet);
    }
}
