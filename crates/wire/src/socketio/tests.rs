//! Vectors of Socket.IO 5: from the protocol's document, and the reference's answers to bad input.

use super::*;
use crate::json::TooDeep;
use proptest::prelude::*;

fn limits() -> Limits {
    Limits { packet_bytes_max: 10_000, ..Limits::default() }
}

fn packet<'a>(kind: Kind, namespace: &'a str, id: Option<u64>, data: Option<&'a str>) -> Packet<'a> {
    Packet { kind, namespace: namespace.into(), id, data: data.map(Cow::Borrowed), attachments: None }
}

#[test]
fn packets_are_read_and_written() {
    use Kind::*;
    let rows: &[(&str, &str, Packet<'_>)] = &[
        ("a connect", "0", packet(Connect, "/", None, None)),
        ("a connect with a token", r#"0{"token":"123"}"#, packet(Connect, "/", None, Some(r#"{"token":"123"}"#))),
        ("a connect to a namespace", "0/admin,", packet(Connect, "/admin", None, None)),
        ("a connect to both", r#"0/admin,{"a":1}"#, packet(Connect, "/admin", None, Some(r#"{"a":1}"#))),
        ("a disconnect", "1", packet(Disconnect, "/", None, None)),
        ("a disconnect of a namespace", "1/admin,", packet(Disconnect, "/admin", None, None)),
        ("an event", r#"2["hello",1]"#, packet(Event, "/", None, Some(r#"["hello",1]"#))),
        ("an event with an ack", r#"212["hello"]"#, packet(Event, "/", Some(12), Some(r#"["hello"]"#))),
        (
            "an event of a namespace",
            r#"2/admin,456["project:delete",123]"#,
            packet(Event, "/admin", Some(456), Some(r#"["project:delete",123]"#)),
        ),
        ("an event with a number for its name", "2[1]", packet(Event, "/", None, Some("[1]"))),
        ("an ack", "3/admin,456[]", packet(Ack, "/admin", Some(456), Some("[]"))),
        ("the largest id", "318446744073709551615[]", packet(Ack, "/", Some(u64::MAX), Some("[]"))),
        ("a refusal", r#"4{"message":"no"}"#, packet(ConnectError, "/", None, Some(r#"{"message":"no"}"#))),
        (
            "a refusal of a namespace",
            r#"4/admin,{"message":"Invalid namespace"}"#,
            packet(ConnectError, "/admin", None, Some(r#"{"message":"Invalid namespace"}"#)),
        ),
        (
            "what looks like a placeholder in an event without attachments",
            r#"2["a",{"_placeholder":true,"num":0}]"#,
            packet(Event, "/", None, Some(r#"["a",{"_placeholder":true,"num":0}]"#)),
        ),
        (
            "a name that begins like a reserved one",
            r#"2["connected"]"#,
            packet(Event, "/", None, Some(r#"["connected"]"#)),
        ),
    ];
    for (name, text, packet) in rows {
        assert_eq!(Decoder::default().text(text, &limits()), Ok(Some(packet.clone())), "{name}");
        let mut out = Vec::new();
        put_packet(&mut out, packet);
        assert_eq!(String::from_utf8_lossy(&out), *text, "{name}");
    }
    let namespace = Decoder::default().text("0/admin", &limits());
    assert_eq!(namespace, Ok(Some(packet(Connect, "/admin", None, None))), "the comma may be missing at the end");
}

#[test]
fn bad_packets_are_errors() {
    let payload = |expected| DecodeError::Payload { expected };
    let deep = format!("2[\"a\",{}{}]", "[".repeat(64), "]".repeat(64));
    let long = format!("0/{},", "n".repeat(255));
    let rows: &[(&str, &str, DecodeError)] = &[
        ("nothing", "", DecodeError::Kind),
        ("an unknown type", "7", DecodeError::Kind),
        ("no type", "abc", DecodeError::Kind),
        ("a character of several bytes", "é", DecodeError::Kind),
        ("an event without payload", "2", payload("an array that begins with a name")),
        ("an event that is an object", "2{}", payload("an array that begins with a name")),
        ("an event without a name", "2[]", payload("an array that begins with a name")),
        ("an event named by an object", "2[{}]", payload("an array that begins with a name")),
        ("an event named null", "2[null]", payload("an array that begins with a name")),
        ("an ack without payload", "31", payload("an array")),
        ("an ack that is an object", "31{}", payload("an array")),
        ("an ack without an id", "3[]", DecodeError::NoAckId),
        ("a connect with a list", "0[]", payload("an object")),
        ("a connect with a text", r#"0"token""#, payload("an object")),
        ("a disconnect with a payload", "1{}", payload("absent")),
        ("a refusal without a message", "4", payload("an object or a text")),
        ("an id beyond 64 bits", r#"218446744073709551616["a"]"#, DecodeError::AckId),
        ("a reserved event", r#"2["connect"]"#, DecodeError::ReservedEvent("connect")),
        ("a reserved event with escapes", r#"2["\u0064isconnect"]"#, DecodeError::ReservedEvent("disconnect")),
        ("deep JSON", &deep, DecodeError::TooDeep(TooDeep { depth: 65 })),
        ("a huge namespace", &long, DecodeError::NamespaceLength { len: 256, max: 255 }),
        ("a binary event without its count", r#"5["a"]"#, DecodeError::AttachmentCount),
        ("a binary event with an empty count", r#"5-["a"]"#, DecodeError::AttachmentCount),
        ("a count that is no number", r#"5x-["a"]"#, DecodeError::AttachmentCount),
        ("a count with a fraction", r#"51.5-["a"]"#, DecodeError::AttachmentCount),
        ("a negative count", r#"5-1-["a"]"#, DecodeError::AttachmentCount),
        ("eleven attachments", r#"511-["a"]"#, DecodeError::TooManyAttachments { count: 11, max: 10 }),
        (
            "a count beyond 64 bits",
            r#"599999999999999999999-["a"]"#,
            DecodeError::TooManyAttachments { count: u64::MAX, max: 10 },
        ),
        ("a placeholder out of range", r#"51-["a",{"_placeholder":true,"num":1}]"#, DecodeError::Placeholder),
        ("a placeholder below zero", r#"51-["a",{"_placeholder":true,"num":-1}]"#, DecodeError::Placeholder),
        ("a placeholder between two", r#"51-["a",{"_placeholder":true,"num":0.5}]"#, DecodeError::Placeholder),
        ("a placeholder without a number", r#"51-["a",{"_placeholder":true}]"#, DecodeError::Placeholder),
        ("a placeholder for a text", r#"51-["a",{"_placeholder":true,"num":"0"}]"#, DecodeError::Placeholder),
        ("a placeholder that comes last", r#"51-["a",{"num":7,"_placeholder": true }]"#, DecodeError::Placeholder),
        ("a placeholder with escapes", r#"51-["a",{"\u005fplaceholder":true,"num":7}]"#, DecodeError::Placeholder),
        ("a placeholder deep within", r#"51-["a",[{"b":{"_placeholder":true,"num":7}}]]"#, DecodeError::Placeholder),
        ("a placeholder where there is none", r#"50-["a",{"_placeholder":true,"num":0}]"#, DecodeError::Placeholder),
    ];
    for (name, text, error) in rows {
        assert_eq!(Decoder::default().text(text, &limits()), Err(error.clone()), "{name}");
    }
    let rows = [
        ("an id that is no number", r#"2abc["a"]"#),
        ("two payloads", r#"2["a"]["b"]"#),
        ("half a payload", r#"2["a""#),
    ];
    for (name, text) in rows {
        let decoded = Decoder::default().text(text, &limits());
        assert!(matches!(decoded, Err(DecodeError::Json(_))), "{name}: {decoded:?}");
    }
}

#[test]
fn attachments_are_gathered() {
    let (head, limits) = (r#"52-/admin,7["a",{"_placeholder":true,"num":1},{"_placeholder":true,"num":0}]"#, limits());
    let mut decoder = Decoder::default();
    assert_eq!(decoder.text(head, &limits), Ok(None));
    assert_eq!(decoder.binary(&[1, 2], &limits), Ok(None));
    assert_eq!(decoder.buffered_bytes(), head.len() + 2);
    let whole = decoder.binary(&[], &limits).unwrap().expect("both have come");
    let expected = Packet {
        attachments: Some(vec![Bytes::from_static(&[1, 2]), Bytes::new()]),
        ..packet(Kind::Event, "/admin", Some(7), Some(&head[11..]))
    };
    assert_eq!(whole, expected);
    assert_eq!(decoder.buffered_bytes(), 0);
    let mut out = Vec::new();
    put_packet(&mut out, &whole);
    assert_eq!(String::from_utf8_lossy(&out), head);
}

#[test]
fn a_count_of_zero_is_a_whole_packet() {
    let decoded = Decoder::default().text(r#"50-["a"]"#, &limits()).unwrap().expect("nothing is missing");
    assert_eq!(decoded.attachments, Some(vec![]));
}

#[test]
fn an_attachment_without_placeholder_is_taken_as_in_the_reference() {
    let mut decoder = Decoder::default();
    assert_eq!(decoder.text(r#"51-["a"]"#, &limits()), Ok(None));
    assert!(decoder.binary(&[1], &limits()).unwrap().is_some());
}

#[test]
fn messages_at_the_wrong_moment_are_errors() {
    let mut decoder = Decoder::default();
    assert_eq!(decoder.binary(&[1], &limits()), Err(DecodeError::UnexpectedBinary));
    assert_eq!(decoder.text(r#"52-["a"]"#, &limits()), Ok(None));
    assert_eq!(decoder.text(r#"2["a"]"#, &limits()), Err(DecodeError::TextWithinPacket { missing: 2 }));
}

#[test]
fn a_packet_with_its_attachments_is_bounded_and_a_claimed_count_holds_no_memory() {
    let mut decoder = Decoder::default();
    assert_eq!(decoder.text(r#"510-["a"]"#, &limits()), Ok(None));
    assert_eq!(decoder.buffered_bytes(), 9);
    assert_eq!(decoder.partial.as_ref().map(|partial| partial.attachments.capacity()), Some(0));
    assert_eq!(decoder.binary(&[0; 9_000], &limits()), Ok(None));
    assert_eq!(decoder.binary(&[0; 1_000], &limits()), Err(DecodeError::TooLarge { len: 10_009, max: 10_000 }));
    assert_eq!(decoder.buffered_bytes(), 0, "the connection ends");
    let long = format!("2[\"{}\"]", "a".repeat(10_000));
    assert_eq!(decoder.text(&long, &limits()), Err(DecodeError::TooLarge { len: 10_005, max: 10_000 }));
}

#[test]
fn the_arguments_of_an_event_are_walked_as_they_came() {
    let rows: &[(&str, &str, &[&str], Option<&str>)] = &[
        ("none", r#"["a"]"#, &[], Some("a")),
        (
            "several",
            r#"["a",1,"b,c",[1,2],{"x":"]"},null]"#,
            &["1", "\"b,c\"", "[1,2]", r#"{"x":"]"}"#, "null"],
            Some("a"),
        ),
        ("white space", " [ \"a\" , 1 ,\t{ } ] ", &["1", "{ }"], Some("a")),
        ("a name with escapes", r#"["\u0061\"\\",1]"#, &["1"], Some("a\"\\")),
        ("half a character", r#"["\ud800",1]"#, &["1"], None),
        ("a number", "[7,1]", &["1"], None),
    ];
    for (name, data, args, text) in rows {
        let event = Event::of(data).expect("it has a name");
        assert_eq!(event.text().as_deref(), *text, "{name}");
        assert_eq!(event.args.clone().collect::<Vec<_>>(), *args, "{name}");
    }
    assert_eq!(Event::of(r#"["a", 1, {"b":2} ]"#).expect("a name").args.rest(), r#"1, {"b":2}"#);
    assert!(Event::of("[]").is_none() && Event::of("[ ]").is_none() && Event::of("{}").is_none());
}

#[test]
fn fields_of_an_object_are_spread_without_those_that_are_set_anew() {
    let rows: &[(&str, &str, &str)] = &[
        ("fields", r#"{"a":1,"b":{"c":[2,3]}}"#, r#""a":1,"b":{"c":[2,3]},"#),
        ("white space", " { \"a\" : 1 , \"b\":2 } ", r#""a" : 1,"b":2,"#),
        ("a field that is set anew", r#"{"userId":"eve","a":1,"timestamp":0}"#, r#""a":1,"#),
        ("one with escapes", r#"{"\u0075serId":"eve","a":1}"#, r#""a":1,"#),
        ("one within a field", r#"{"a":{"userId":1}}"#, r#""a":{"userId":1},"#),
        ("a name with half a character", r#"{"\ud800":1}"#, r#""\ud800":1,"#),
        ("an empty object", "{ }", ""),
        ("a text", r#""{\"a\":1}""#, ""),
        ("a list", "[1,2]", ""),
        ("nothing", "null", ""),
    ];
    for (name, object, expected) in rows {
        let mut out = Vec::new();
        put_spread(&mut out, object, &["userId", "timestamp"]);
        assert_eq!(String::from_utf8_lossy(&out), *expected, "{name}");
    }
}

#[test]
fn a_bundle_holds_a_payload_and_its_attachments() {
    for attachments in [vec![], vec![Bytes::from_static(b"\0\xff")], vec![Bytes::new(), Bytes::from(vec![7; 300])]] {
        let bundled = bundle("[\"a\"]", &attachments).unwrap();
        let mut parts = parts(&bundled);
        assert_eq!(parts.next(), Some(&b"[\"a\"]"[..]));
        assert_eq!(parts.collect::<Vec<_>>(), attachments);
    }
    for none in [&b""[..], b"\x01", b"\x05\0\0\0abc"] {
        assert_eq!(parts(none).next(), None);
    }
}

#[test]
fn answers_to_a_connect_are_as_in_the_reference() {
    type Put = fn(&mut Vec<u8>);
    let rows: &[(&str, &str, Put)] = &[
        ("let in", r#"0{"sid":"abc"}"#, |out| put_connected(out, "/", "abc", None)),
        ("let in to a namespace", r#"0/admin,{"sid":"abc"}"#, |out| put_connected(out, "/admin", "abc", None)),
        ("with recovery", r#"0{"sid":"abc","pid":"def"}"#, |out| put_connected(out, "/", "abc", Some("def"))),
        ("refused", r#"4{"message":"认证错误"}"#, |out| put_connect_error(out, "/", "认证错误", None)),
        ("refused with data", r#"4/a,{"message":"\"no\"","data":{"a":1}}"#, |out| {
            put_connect_error(out, "/a", "\"no\"", Some(br#"{"a":1}"#));
        }),
    ];
    for (name, expected, put) in rows {
        let mut out = Vec::new();
        put(&mut out);
        assert_eq!(String::from_utf8_lossy(&out), *expected, "{name}");
        assert!(Decoder::default().text(expected, &limits()).is_ok(), "{name}");
    }
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        ".{0,6}".prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            proptest::collection::btree_map(".{0,4}", inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn a_packet_that_was_written_reads_the_same(
        ack in any::<bool>(),
        namespace in "(/[a-z/]{0,8})?",
        id in any::<Option<u64>>(),
        name in "[^\u{0}]{0,12}",
        args in proptest::collection::vec(json(), 0..4),
        attachments in proptest::option::of(proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 0..11)),
    ) {
        let kind = if ack { Kind::Ack } else { Kind::Event };
        let mut list = vec![serde_json::Value::from(format!("_{name}"))];
        list.extend(args.iter().cloned());
        let data = serde_json::Value::from(list).to_string();
        let namespace = if namespace.is_empty() { "/" } else { &namespace };
        let id = if ack { id.or(Some(0)) } else { id };
        let attachments: Option<Vec<Bytes>> = attachments.map(|list| list.into_iter().map(Bytes::from).collect());
        let packet = Packet { attachments, ..packet(kind, namespace, id, Some(&data)) };
        let mut text = Vec::new();
        put_packet(&mut text, &packet);
        let text = String::from_utf8(text).unwrap();
        let mut decoder = Decoder::default();
        let mut decoded = decoder.text(&text, &limits()).unwrap();
        for (left, attachment) in packet.attachments.iter().flatten().enumerate() {
            prop_assert_eq!(&decoded, &None, "attachment {} is missing", left);
            decoded = decoder.binary(attachment, &limits()).unwrap();
        }
        prop_assert_eq!(decoded, Some(packet));
        let elements: Vec<serde_json::Value> =
            Elements::of(&data).skip(1).map(|element| serde_json::from_str(element).unwrap()).collect();
        prop_assert_eq!(elements, args);
    }

    #[test]
    fn any_bytes_pass_the_fuzz_body(data: Vec<u8>, texts in proptest::collection::vec(
        r#"[0-6]([0-3]-)?(/a,)?[0-9]{0,3}(\["a",(\{"_placeholder":true,"num":[0-2]\}|1)\])?"#, 0..6)
    ) {
        fuzz::decode(&data);
        let mut messages = Vec::new();
        for text in texts {
            for (kind, message) in [(0, text.as_bytes()), (1, b"\0\x01"), (1, b"")] {
                messages.extend([kind, message.len() as u8]);
                messages.extend_from_slice(message);
            }
        }
        fuzz::decode(&messages);
    }
}
