//! The chat protocol: vectors for both directions, ignored messages and their causes, the names of
//! rooms, round trips, and the fuzz body. (There are no cuts: a message comes whole.)

use super::fuzz::{assert_json, message_of};
use super::*;
use fanfare_hub::{
    ClientId, Connected, Epoch, Error, ErrorCode, Position, PresenceSnapshot, Proof, Sender, Subscribed,
};
use proptest::prelude::*;
use std::sync::Arc;

const NOW_MS: u64 = 1_700_000_000_000;

fn channel(text: &str) -> ChannelName {
    ChannelName::new(text).unwrap()
}

fn user(text: &str) -> Option<UserId> {
    Some(UserId(text.into()))
}

/// A chat that joined `chat:general` as u1, Ada.
fn joined() -> Chat {
    let mut chat = Chat::default();
    chat.decode(br#"{"type":"join","userId":"u1","username":"Ada"}"#, &mut Vec::new()).unwrap();
    chat
}

fn asks(chat: &mut Chat, message: &str) -> Result<Vec<Request>, Ignored> {
    let mut out = Vec::new();
    chat.decode(message.as_bytes(), &mut out).map(|()| out)
}

fn join(room: &str, who: &str) -> Vec<Request> {
    join_of(1, room, who)
}

/// RFC 8259 §8.1: a parser may ignore a byte order mark, and this one does, once.
#[test]
fn a_byte_order_mark_before_a_message_is_ignored() {
    let plain = r#"{"type":"join","userId":"u1","username":"Ada"}"#;
    let marked = format!("\u{feff}{plain}");
    assert_eq!(asks(&mut Chat::default(), &marked), asks(&mut Chat::default(), plain));
}

/// The command of the join of this number.
fn join_of(number: u64, room: &str, who: &str) -> Vec<Request> {
    let channel = channel(room);
    let options = SubOptions { presence: true, ..SubOptions::new(channel.clone()) };
    let with_id = |asked: TrackedCommand, command| Request { id: Some(asked.id()), command };
    let who = Bytes::copy_from_slice(who.as_bytes());
    vec![
        with_id(TrackedCommand::Subscribe(number), Command::Subscribe { subs: vec![options], many: false }),
        silent(Command::PresenceSet { channel: channel.clone(), data: who.clone(), person: person_of(&who) }),
        with_id(TrackedCommand::RoomState(number), Command::Presence { channel }),
    ]
}

/// A chat whose client id is 9, and that joined `chat:general` as u1, Ada.
fn joined_as_nine() -> Chat {
    let mut chat = Chat::default();
    let connected = Connected {
        client: ClientId(9),
        user: None,
        resumed: false,
        incarnation: 0,
        ping_ms: 1,
        proof: Proof::default(),
        expires_in_ms: None,
    };
    let reply = Reply { id: Some(TrackedCommand::Connect.id()), body: ReplyBody::Connected(Box::new(connected)) };
    assert_eq!(chat.encode_reply(&reply, NOW_MS, &mut Vec::new()), Ok(Written::Nothing));
    assert!(asks(&mut chat, r#"{"type":"join","userId":"u1","username":"Ada"}"#).is_ok());
    chat
}

fn says(room: &str, data: &str) -> Vec<Request> {
    let data = Data::Json(Bytes::copy_from_slice(data.as_bytes()));
    vec![silent(Command::Publish(Box::new(Publish {
        channel: channel(room),
        data,
        event: None,
        idempotency_key: None,
        echo: true,
    })))]
}

fn types(room: &str, data: &str) -> Vec<Request> {
    let data = Bytes::copy_from_slice(data.as_bytes());
    vec![silent(Command::Signal(Box::new(Signal { channel: channel(room), event: TYPING.into(), data, to: None })))]
}

#[test]
fn joins_in() {
    let ada = r#"{"userId":"u1","username":"Ada"}"#;
    let rows: &[(&str, &str, Vec<Request>)] = &[
        ("plain", r#"{"type":"join","userId":"u1","username":"Ada","timestamp":1}"#, join("chat:general", ada)),
        (
            "white space around",
            " \r\n\t{\"type\":\"join\",\"userId\":\"u1\",\"username\":\"Ada\"} ",
            join("chat:general", ada),
        ),
        ("a room", r#"{"roomId":"lobby","type":"join","userId":"u1","username":"Ada"}"#, join("chat:lobby", ada)),
        ("no room", r#"{"roomId":null,"type":"join","userId":"u1","username":"Ada"}"#, join("chat:general", ada)),
        (
            "a room to encode",
            r#"{"roomId":"a b:c%","type":"join","userId":"u1","username":"Ada"}"#,
            join("chat:a%20b%3Ac%25", ada),
        ),
        (
            "a room in escapes",
            r#"{"roomId":"\u804a\u5929","type":"join","userId":"u1","username":"Ada"}"#,
            join("chat:聊天", ada),
        ),
        (
            "a reserved first character",
            r#"{"roomId":"@me","type":"join","userId":"u1","username":"Ada"}"#,
            join("chat:@me", ada),
        ),
        (
            "names to escape",
            r#"{"type":"join","userId":"\"\\\u0000","username":"\ud83d\ude00é"}"#,
            join("chat:general", "{\"userId\":\"\\\"\\\\\\u0000\",\"username\":\"😀é\"}"),
        ),
        (
            "half an emoji in the name that is shown",
            r#"{"type":"join","userId":"u1","username":"A\ud83d"}"#,
            join("chat:general", r#"{"userId":"u1","username":"A\ud83d"}"#),
        ),
        (
            "fields of the future, deep and huge",
            &format!(
                r#"{{"type":"join","userId":"u1","x":1e99999,"y":{}{},"username":"Ada"}}"#,
                "[".repeat(9000),
                "]".repeat(9000)
            ),
            join("chat:general", ada),
        ),
    ];
    for (name, message, expected) in rows {
        assert_eq!(asks(&mut Chat::default(), message).as_ref(), Ok(expected), "{name}");
    }
}

#[test]
fn messages_of_a_joined_client() {
    let general = "chat:general";
    let long = "x".repeat(100_000);
    let rows: &[(&str, &str, Vec<Request>)] = &[
        (
            "message",
            r#"{"type":"message","content":"hi"}"#,
            says(general, r#"{"content":"hi","userId":"u1","username":"Ada"}"#),
        ),
        (
            "its names are those of the join",
            r#"{"type":"message","userId":"eve","username":"Eve","content":"hi","roomId":"other"}"#,
            says(general, r#"{"content":"hi","userId":"u1","username":"Ada"}"#),
        ),
        (
            "escapes stay as they came",
            r#"{"type":"message","content":"\u00e9 \ud83d\ude00 \n \" \/"}"#,
            says(general, r#"{"content":"\u00e9 \ud83d\ude00 \n \" \/","userId":"u1","username":"Ada"}"#),
        ),
        (
            "emoji",
            r#"{"type":"message","content":"😀"}"#,
            says(general, r#"{"content":"😀","userId":"u1","username":"Ada"}"#),
        ),
        (
            "empty",
            r#"{"type":"message","content":""}"#,
            says(general, r#"{"content":"","userId":"u1","username":"Ada"}"#),
        ),
        (
            "an escaped type",
            r#"{"typ\u0065":"m\u0065ssage","content":"hi"}"#,
            says(general, r#"{"content":"hi","userId":"u1","username":"Ada"}"#),
        ),
        (
            "half an emoji",
            r#"{"type":"message","content":"cut \ud83d"}"#,
            says(general, r#"{"content":"cut \ud83d","userId":"u1","username":"Ada"}"#),
        ),
        (
            "the halves in the wrong order",
            r#"{"type":"message","content":"\ude00\ud83d\u0000"}"#,
            says(general, r#"{"content":"\ude00\ud83d\u0000","userId":"u1","username":"Ada"}"#),
        ),
        (
            "fields that it has no use for, whatever they hold",
            r#"{"\ud83d":"\ud83d","type":"message","userId":5,"userId":"\ud83d","roomId":[],"timestamp":1e999,"content":"hi"}"#,
            says(general, r#"{"content":"hi","userId":"u1","username":"Ada"}"#),
        ),
        (
            "typing half an emoji",
            r#"{"type":"typing","content":"\ud83d"}"#,
            types(general, r#"{"content":"\ud83d","userId":"u1","username":"Ada"}"#),
        ),
        (
            "no surrogate, only a backslash before a u",
            r#"{"type":"message","content":"\\ud800"}"#,
            says(general, r#"{"content":"\\ud800","userId":"u1","username":"Ada"}"#),
        ),
        (
            "long",
            &format!(r#"{{"type":"message","content":"{long}"}}"#),
            says(general, &format!(r#"{{"content":"{long}","userId":"u1","username":"Ada"}}"#)),
        ),
        ("typing", r#"{"type":"typing"}"#, types(general, r#"{"userId":"u1","username":"Ada"}"#)),
        ("typing null", r#"{"type":"typing","content":null}"#, types(general, r#"{"userId":"u1","username":"Ada"}"#)),
        (
            "typing what",
            r#"{"type":"typing","content":"h"}"#,
            types(general, r#"{"content":"h","userId":"u1","username":"Ada"}"#),
        ),
        ("leave", r#"{"type":"leave"}"#, vec![silent(Command::Unsubscribe { channel: channel(general) })]),
        (
            "another join leaves first",
            r#"{"type":"join","userId":"u2","username":"B","roomId":"b"}"#,
            [
                vec![silent(Command::Unsubscribe { channel: channel(general) })],
                join_of(2, "chat:b", r#"{"userId":"u2","username":"B"}"#),
            ]
            .concat(),
        ),
    ];
    for (name, message, expected) in rows {
        assert_eq!(asks(&mut joined(), message).as_ref(), Ok(expected), "{name}");
    }
}

#[test]
fn ignored_messages_and_their_causes() {
    use Ignored as I;
    let long = "x".repeat(NAME_BYTES_MAX + 1);
    let missing = |kind, field| I::Missing { kind, field };
    let json = |why: &str| I::Json(why.into());
    let not_object = || json("it is no JSON object");
    let rows: &[(&str, &str, I)] = &[
        ("nothing", "", not_object()),
        ("a word", "hello", not_object()),
        ("a string, which the log does not quote", &format!("{:?}", "x".repeat(70_000)), not_object()),
        ("an array in the fields' order", r#"["message","u","U","hi",null]"#, not_object()),
        ("null", "null", not_object()),
        ("half", r#"{"type":"message","#, json("EOF while parsing a value at line 1 column 18")),
        ("more than one", r#"{"type":"leave"}{"type":"leave"}"#, json("trailing characters at line 1 column 17")),
        (
            "a second byte order mark",
            "\u{feff}\u{feff}{\"type\":\"leave\"}",
            json("it is no JSON object (it begins with a byte order mark, U+FEFF)"),
        ),
        ("no type", r#"{"content":"hi"}"#, I::NoType),
        ("a number as type", r#"{"type":5}"#, I::NoType),
        ("null as type", r#"{"type":null}"#, I::NoType),
        ("half an emoji as type", r#"{"type":"\ud83d"}"#, I::NotUnicode { field: "type" }),
        ("a type twice", r#"{"type":"leave","type":"leave"}"#, I::Twice { field: "type" }),
        ("a type twice, by an escape", r#"{"type":"leave","\u0074ype":"leave"}"#, I::Twice { field: "type" }),
        ("a number as user", r#"{"type":"join","userId":5,"username":"A"}"#, missing("join", "userId")),
        ("a user twice", r#"{"type":"join","userId":"a","userId":"b","username":"A"}"#, I::Twice { field: "userId" }),
        (
            "a lone surrogate in a userId",
            r#"{"type":"join","userId":"a\ud800","username":"A"}"#,
            I::NotUnicode { field: "userId" },
        ),
        (
            "a raw line break in a key that needs no reading",
            "{\"\\ud800\n\":1,\"type\":\"leave\"}",
            json("control character (\\u0000-\\u001F) found while parsing a string at line 1 column 8"),
        ),
        ("another type", r#"{"type":"JOIN"}"#, I::UnknownType("JOIN".into())),
        ("a long type", &format!(r#"{{"type":"{}"}}"#, "é".repeat(1000)), I::UnknownType("é".repeat(64))),
        ("no user", r#"{"type":"join","username":"A"}"#, missing("join", "userId")),
        ("null as user", r#"{"type":"join","userId":null,"username":"A"}"#, missing("join", "userId")),
        ("no name", r#"{"type":"join","userId":"u"}"#, missing("join", "username")),
        ("an empty user", r#"{"type":"join","userId":"","username":"A"}"#, I::Length { field: "userId", len: 0 }),
        (
            "a long user",
            &format!(r#"{{"type":"join","userId":"{long}","username":"A"}}"#),
            I::Length { field: "userId", len: 257 },
        ),
        (
            "a long name",
            &format!(r#"{{"type":"join","userId":"u","username":"{long}"}}"#),
            I::Length { field: "username", len: 257 },
        ),
        ("a number as room", r#"{"type":"join","userId":"u","username":"A","roomId":1}"#, missing("join", "roomId")),
        (
            "a surrogate as room",
            r#"{"type":"join","userId":"u","username":"A","roomId":"\udc00"}"#,
            I::NotUnicode { field: "roomId" },
        ),
        ("an empty room", r#"{"type":"join","userId":"u","username":"A","roomId":""}"#, I::RoomLength { len: 0 }),
        (
            "a long room",
            &format!(r#"{{"type":"join","userId":"u","username":"A","roomId":"{}"}}"#, " ".repeat(67)),
            I::RoomLength { len: 201 },
        ),
        ("message first", r#"{"type":"message","content":"hi"}"#, I::NotJoined("message")),
        ("typing first", r#"{"type":"typing"}"#, I::NotJoined("typing")),
        ("leave first", r#"{"type":"leave"}"#, I::NotJoined("leave")),
    ];
    for (name, message, why) in rows {
        assert_eq!(asks(&mut Chat::default(), message).as_ref(), Err(why), "{name}");
    }
    let control = json("control character (\\u0000-\\u001F) found while parsing a string at line 1 column 30");
    let joined_rows: &[(&str, &str, I)] = &[
        ("no content", r#"{"type":"message"}"#, missing("message", "content")),
        ("null as content", r#"{"type":"message","content":null}"#, missing("message", "content")),
        ("a number as content", r#"{"type":"message","content":1e99999}"#, missing("message", "content")),
        ("an object as content", r#"{"type":"message","content":{"a":1}}"#, missing("message", "content")),
        ("content twice", r#"{"type":"message","content":"a","content":"b"}"#, I::Twice { field: "content" }),
        ("a list while typing", r#"{"type":"typing","content":[]}"#, missing("typing", "content")),
        ("a raw line break", "{\"type\":\"message\",\"content\":\"a\nb\"}", control),
        ("no such escape", r#"{"type":"message","content":"\x"}"#, json("invalid escape at line 1 column 31")),
    ];
    for (name, message, why) in joined_rows {
        let mut chat = joined();
        assert_eq!(asks(&mut chat, message).as_ref(), Err(why), "{name}");
        assert!(asks(&mut chat, r#"{"type":"leave"}"#).is_ok(), "{name}: the chat goes on");
    }
    for bytes in
        [&b"{\"type\":\"message\",\"content\":\"\xFF\"}"[..], b"\xFF", b"{\"type\":\"join\",\"userId\":\"\xC3\"}"]
    {
        let mut out = Vec::new();
        assert!(matches!(joined().decode(bytes, &mut out), Err(I::Json(_))), "{bytes:?} is not UTF-8");
        assert_eq!(out, []);
    }
}

#[test]
fn a_join_that_is_ignored_leaves_the_earlier_one() {
    let mut chat = joined();
    assert!(asks(&mut chat, r#"{"type":"join","userId":"","username":"x"}"#).is_err());
    assert!(asks(&mut chat, r#"{"type":"message","content":"hi"}"#).is_ok());
}

#[test]
fn one_that_has_left_is_in_no_room_until_it_joins_again() {
    let mut chat = joined();
    assert!(asks(&mut chat, r#"{"type":"leave"}"#).is_ok());
    for kind in ["message", "typing", "leave"] {
        let message = format!(r#"{{"type":"{kind}","content":"hi"}}"#);
        assert_eq!(asks(&mut chat, &message), Err(Ignored::NotJoined(kind)));
    }
    let again = asks(&mut chat, r#"{"type":"join","userId":"u","username":"A"}"#).expect("it joins");
    let leaves = |request: &Request| matches!(request.command, Command::Unsubscribe { .. });
    assert!(!again.iter().any(leaves), "there is no room to leave: {again:?}");
}

#[test]
fn a_proven_user_stands_above_what_the_client_calls_itself() {
    let mut chat = Chat::default();
    let connected = Connected {
        client: ClientId(1),
        user: user("ada"),
        resumed: false,
        incarnation: 0,
        ping_ms: 1,
        proof: Proof::default(),
        expires_in_ms: None,
    };
    let reply = Reply { id: Some(TrackedCommand::Connect.id()), body: ReplyBody::Connected(Box::new(connected)) };
    assert_eq!(chat.encode_reply(&reply, NOW_MS, &mut Vec::new()), Ok(Written::Nothing));
    let asked = asks(&mut chat, r#"{"type":"join","userId":"eve","username":"Ada"}"#);
    assert_eq!(asked, Ok(join("chat:general", r#"{"userId":"ada","username":"Ada"}"#)));
    let asked = asks(&mut chat, r#"{"type":"message","userId":"eve","content":"hi"}"#);
    assert_eq!(asked, Ok(says("chat:general", r#"{"content":"hi","userId":"ada","username":"Ada"}"#)));
}

#[test]
fn rooms_and_their_channels() {
    let fits = "r".repeat(ROOM_BYTES_MAX);
    let emoji = "😀".repeat(50);
    let rows: &[(&str, Result<String, usize>)] = &[
        ("general", Ok("general".into())),
        ("聊天-1", Ok("聊天-1".into())),
        ("a:b", Ok("a%3Ab".into())),
        ("a%3Ab", Ok("a%253Ab".into())),
        ("$x", Ok("$x".into())),
        ("@x", Ok("@x".into())),
        ("*?,+#{}", Ok("%2A%3F%2C%2B%23%7B%7D".into())),
        ("\u{200B}\u{3000}\0", Ok("%E2%80%8B%E3%80%80%00".into())),
        (&fits, Ok(fits.clone())),
        (&emoji, Ok(emoji.clone())),
        ("", Err(0)),
        (&format!("{fits}r"), Err(201)),
        (&format!("{emoji}r"), Err(201)),
        (&":".repeat(66), Ok("%3A".repeat(66))),
        (&":".repeat(67), Err(201)),
        (&"*".repeat(10_000), Err(30_000)),
    ];
    for (room, expected) in rows {
        let found = channel_of(room).map(|name| name.strip_prefix("chat:").unwrap().to_owned());
        assert_eq!(found, expected.clone().map_err(|len| Ignored::RoomLength { len }), "{room:?}");
    }
}

fn written(push: &Push) -> String {
    let mut out = Vec::new();
    assert_eq!(encode_push(push, NOW_MS, &mut out), Written::Message, "{push:?}");
    String::from_utf8(out).unwrap()
}

fn from(client: Option<u64>, name: Option<&str>) -> Option<Sender> {
    Some(Sender { client: client.map(ClientId), user: name.and_then(user) })
}

#[test]
fn messages_out() {
    let json = |text: &'static str| Data::Json(Bytes::from_static(text.as_bytes()));
    let rows: &[(&str, Data, Option<Sender>, &str)] = &[
        (
            "of a chat",
            json(r#"{"content":"h\u00e9","userId":"u1","username":"Ada"}"#),
            from(Some(1), None),
            r#""userId":"u1","username":"Ada","content":"h\u00e9""#,
        ),
        (
            "the token's user stands above the data's",
            json(r#"{"content":"hi","userId":"eve","username":"Ada"}"#),
            from(Some(1), Some("ada")),
            r#""userId":"ada","username":"Ada","content":"hi""#,
        ),
        (
            "a user's object without names",
            json(r#"{"content":"hi"}"#),
            from(Some(1), Some("a\"b")),
            r#""userId":"a\"b","username":"a\"b","content":"hi""#,
        ),
        (
            "native string",
            json(r#""h\ni""#),
            from(Some(1), None),
            r#""userId":"0000000000000001","username":"0000000000000001","content":"h\ni""#,
        ),
        (
            "string with space around",
            json(" \"hi\"\t"),
            from(Some(1), None),
            r#""userId":"0000000000000001","username":"0000000000000001","content":"hi""#,
        ),
        (
            "object with space around",
            json(" {\"content\":\"hi\"} "),
            from(Some(255), None),
            r#""userId":"00000000000000ff","username":"00000000000000ff","content":"hi""#,
        ),
        (
            "other JSON is its text",
            json(r#"{"x":[1,"a"]}"#),
            from(Some(1), Some("u")),
            r#""userId":"u","username":"u","content":"{\"x\":[1,\"a\"]}""#,
        ),
        (
            "content that is no string",
            json(r#"{"content":{"x":1},"userId":5}"#),
            from(Some(1), Some("u")),
            r#""userId":"u","username":"u","content":"{\"content\":{\"x\":1},\"userId\":5}""#,
        ),
        ("a number", json("1e9999"), from(Some(1), Some("u")), r#""userId":"u","username":"u","content":"1e9999""#),
        (
            "a list of the fields",
            json(r#"["a","b","c"]"#),
            from(Some(1), Some("u")),
            r#""userId":"u","username":"u","content":"[\"a\",\"b\",\"c\"]""#,
        ),
        (
            "a key twice is other JSON",
            json(r#"{"content":"a","content":"b"}"#),
            from(Some(1), Some("u")),
            r#""userId":"u","username":"u","content":"{\"content\":\"a\",\"content\":\"b\"}""#,
        ),
        (
            "a lone surrogate is JSON still",
            json(r#""\ud800""#),
            from(Some(1), Some("u")),
            r#""userId":"u","username":"u","content":"\ud800""#,
        ),
        (
            "a key with a lone surrogate hides nothing",
            json(r#"{"\ud800":1,"content":"h\ud83d","userId":"\udc00","username":"\ud83d"}"#),
            from(Some(1), None),
            r#""userId":"\udc00","username":"\ud83d","content":"h\ud83d""#,
        ),
        (
            "binary is base64",
            Data::Binary(Bytes::from_static(&[0, 255, 1])),
            from(Some(1), Some("u")),
            r#""userId":"u","username":"u","content":"AP8B""#,
        ),
        (
            "binary is never looked into",
            Data::Binary(Bytes::from_static(b"{\"content\":\"a\"}")),
            from(Some(1), Some("u")),
            r#""userId":"u","username":"u","content":"eyJjb250ZW50IjoiYSJ9""#,
        ),
        (
            "the application",
            json(r#""hi""#),
            from(None, None),
            r#""userId":"server","username":"server","content":"hi""#,
        ),
        (
            "the application, without a sender",
            json(r#""hi""#),
            None,
            r#""userId":"server","username":"server","content":"hi""#,
        ),
        (
            "the application for a bot",
            json(r#"{"content":"hi","userId":"bot","username":"Bot"}"#),
            None,
            r#""userId":"bot","username":"Bot","content":"hi""#,
        ),
        (
            "broken data of an embedder",
            json(r#""half"#),
            from(None, None),
            r#""userId":"server","username":"server","content":"\"half""#,
        ),
        (
            "two texts of an embedder",
            json(r#""a" "b""#),
            from(None, None),
            r#""userId":"server","username":"server","content":"\"a\" \"b\"""#,
        ),
    ];
    for (name, data, from, fields) in rows {
        let push = message_of(data.clone(), from.clone());
        assert_eq!(written(&push), format!(r#"{{"type":"message",{fields},"timestamp":7}}"#), "{name}");
        assert_json(&push);
    }
}

fn entry(client: u64, name: Option<&str>, data: &'static str) -> Arc<PresenceEntry> {
    let user = name.and_then(user);
    Arc::new(PresenceEntry {
        client: ClientId(client),
        user,
        info: None,
        data: Bytes::from_static(data.as_bytes()),
        person: None,
    })
}

#[test]
fn other_pushes_out() {
    let general = || channel("chat:general");
    let signal = |event: &str, data: &'static str| {
        let signal =
            Signal { channel: general(), event: event.into(), data: Bytes::from_static(data.as_bytes()), to: None };
        Push::Signal(Arc::new(SignalPush { signal, from: from(Some(1), None).unwrap(), ts_ms: 7 }))
    };
    let presence_of = |kind, still_there| {
        let entry = entry(1, None, r#"{"userId":"u1","username":"Ada"}"#);
        Push::Presence(Arc::new(PresencePush { channel: general(), kind, entry, still_there, seq: 1, ts_ms: 7 }))
    };
    let presence = |kind| presence_of(kind, false);
    let whole = |entries| PresenceSnapshot { seq: 3, count: 2, entries };
    let snapshot = |entries| Push::PresenceSnapshot { channel: general(), snapshot: Arc::new(whole(entries)) };
    let two = || vec![entry(1, None, r#"{"userId":"u1","username":"Ada"}"#), entry(2, Some("bo"), "{}")];
    let message = |text: &str| (Written::Message, text.to_owned());
    let none = |written| (written, String::new());
    let error = Error::new(ErrorCode::Denied, "no");
    let position = Position { epoch: Epoch(1), offset: 1 };
    let not_a_room = ChannelName::new("news:a").expect("a valid name");
    let by_server = Subscribed {
        channel: not_a_room.clone(),
        position,
        recovered: None,
        publications: vec![],
        more: false,
        rooms: vec![],
    };
    let rows: &[(&str, Push, (Written, String))] = &[
        (
            "typing",
            signal("typing", r#"{"userId":"u1","username":"Ada"}"#),
            message(r#"{"type":"typing","userId":"u1","username":"Ada","timestamp":7}"#),
        ),
        (
            "typing what",
            signal("typing", r#"{"content":"h","userId":"u1","username":"Ada"}"#),
            message(r#"{"type":"typing","userId":"u1","username":"Ada","content":"h","timestamp":7}"#),
        ),
        (
            "typing of a native client",
            signal("typing", "true"),
            message(r#"{"type":"typing","userId":"0000000000000001","username":"0000000000000001","timestamp":7}"#),
        ),
        ("another signal", signal("mouse", "[1,2]"), none(Written::Nothing)),
        (
            "join",
            presence(PresenceKind::Join),
            message(r#"{"type":"join","userId":"u1","username":"Ada","timestamp":7}"#),
        ),
        (
            "leave",
            presence(PresenceKind::Leave),
            message(r#"{"type":"leave","userId":"u1","username":"Ada","timestamp":7}"#),
        ),
        ("leave of one tab of two", presence_of(PresenceKind::Leave, true), none(Written::Nothing)),
        ("update", presence(PresenceKind::Update), none(Written::Nothing)),
        (
            "the room after a loss",
            snapshot(Some(two())),
            message(
                r#"{"type":"room_state","users":[{"userId":"u1","username":"Ada"},{"userId":"bo","username":"bo"}],"timestamp":1700000000000}"#,
            ),
        ),
        (
            "a room only counted",
            snapshot(None),
            message(r#"{"type":"room_state","users":[],"timestamp":1700000000000}"#),
        ),
        ("count", Push::PresenceCount { channel: general(), count: 9, seq: 1 }, none(Written::Nothing)),
        ("ping", Push::Ping, none(Written::Nothing)),
        ("gap", Push::Gap { channel: general(), position, reset: false }, none(Written::Close(Disconnect::Lost))),
        ("subscribed by the server", Push::Subscribed(Box::new(by_server)), none(Written::Nothing)),
        (
            "no more of what is no room",
            Push::Unsubscribed { channel: not_a_room, error: error.clone() },
            none(Written::Nothing),
        ),
        ("unsubscribed", Push::Unsubscribed { channel: general(), error }, none(Written::Close(Disconnect::Kicked))),
        (
            "disconnect",
            Push::Disconnect { reason: Disconnect::Shutdown, delay_ms: 5 },
            none(Written::Close(Disconnect::Shutdown)),
        ),
    ];
    for (name, push, (expected, text)) in rows {
        let mut out = Vec::new();
        assert_eq!(encode_push(push, NOW_MS, &mut out), *expected, "{name}");
        assert_eq!(String::from_utf8(out).unwrap(), *text, "{name}");
    }
}

#[test]
fn answers_out() {
    let state = |join, entries| {
        let (channel, snapshot) = (channel("chat:general"), PresenceSnapshot { seq: 1, count: 3, entries });
        Reply { id: Some(TrackedCommand::RoomState(join).id()), body: ReplyBody::Presence { channel, snapshot } }
    };
    let entries = || {
        Some(vec![
            entry(1, None, r#"{"userId":"u1","username":"Ada"}"#),
            entry(2, None, r#"{"userId":"\u0075\u0031","username":"Ada again"}"#),
            entry(3, None, r#"{"userId":"u2","username":"Bo"}"#),
            entry(4, Some("u1"), "{}"),
            entry(5, None, "null"),
        ])
    };
    let mut out = Vec::new();
    assert_eq!(joined().encode_reply(&state(1, entries()), 5, &mut out), Ok(Written::Message));
    let expected = r#"{"type":"room_state","users":[{"userId":"u2","username":"Bo"},{"userId":"0000000000000005","username":"0000000000000005"}],"timestamp":5}"#;
    assert_eq!(String::from_utf8(out).unwrap(), expected, "others, but not one's own user");
    let mut again = joined();
    assert!(asks(&mut again, r#"{"type":"join","userId":"u1","username":"Ada"}"#).is_ok());
    for (name, mut chat) in [("an earlier join of the room", again), ("nowhere", Chat::default())] {
        let mut out = Vec::new();
        assert_eq!(chat.encode_reply(&state(1, entries()), 5, &mut out), Ok(Written::Nothing), "{name}");
        assert_eq!(out, b"", "{name}");
    }
    let position = Position { epoch: Epoch(1), offset: 1 };
    let subscribed = Subscribed {
        channel: channel("chat:general"),
        position,
        recovered: None,
        publications: vec![],
        more: false,
        rooms: vec![],
    };
    for body in [ReplyBody::Done, ReplyBody::Subscribed(Box::new(subscribed))] {
        let reply = Reply { id: None, body };
        assert_eq!(joined().encode_reply(&reply, 5, &mut Vec::new()), Ok(Written::Nothing));
    }
}

#[test]
fn a_refused_client_is_not_in_the_room() {
    let answered = |id: RequestId, code| {
        let error = Error::new(code, "no").on(&channel("chat:general"));
        let mut chat = joined();
        let reply = Reply { id: Some(id), body: ReplyBody::Error(error.clone()) };
        assert_eq!(chat.encode_reply(&reply, 5, &mut Vec::new()), Err(error), "a refusal is for the log");
        asks(&mut chat, r#"{"type":"leave"}"#)
    };
    let out = Err(Ignored::NotJoined("leave"));
    for code in [ErrorCode::NoRule, ErrorCode::LimitExceeded, ErrorCode::Denied, ErrorCode::Unavailable] {
        assert_eq!(answered(TrackedCommand::Subscribe(1).id(), code), out, "{code}");
        assert!(answered(TrackedCommand::Subscribe(2).id(), code).is_ok(), "{code}: of another join");
        assert!(answered(TrackedCommand::RoomState(1).id(), code).is_ok(), "{code}: who is there is another question");
    }
    let in_it = answered(TrackedCommand::Subscribe(1).id(), ErrorCode::AlreadySubscribed);
    assert!(in_it.is_ok(), "it is, by the server's doing");
    let mut chat = joined();
    let error = Error::new(ErrorCode::Denied, "may not publish").on(&channel("chat:general"));
    let reply = Reply { id: None, body: ReplyBody::Error(error.clone()) };
    assert_eq!(chat.encode_reply(&reply, 5, &mut Vec::new()), Err(error));
    assert!(asks(&mut chat, r#"{"type":"leave"}"#).is_ok(), "a message was refused, not the room");
}

/// By the userId that is shown, however it came about; under the name that the room has heard last.
#[test]
fn a_room_state_names_each_person_once() {
    let rows: &[(&str, Vec<Arc<PresenceEntry>>, &str)] = &[
        (
            "two tabs, one in escapes and with another name",
            vec![
                entry(1, None, r#"{"userId":"u2","username":"Bo"}"#),
                entry(2, None, r#"{"userId":"u3","username":"Cy"}"#),
                entry(3, None, r#"{"username":"Bob","userId":"\u0075\u0032"}"#),
            ],
            r#"{"userId":"\u0075\u0032","username":"Bob"},{"userId":"u3","username":"Cy"}"#,
        ),
        (
            "a proven user and one that claims to be it",
            vec![
                entry(1, Some("ada"), r#"{"username":"Ada"}"#),
                entry(2, None, r#"{"userId":"ada","username":"Eve"}"#),
            ],
            r#"{"userId":"ada","username":"Eve"}"#,
        ),
        (
            "clients without a userId are each their own",
            vec![entry(1, None, "{}"), entry(2, None, "null"), entry(3, None, r#"{"userId":7}"#)],
            r#"{"userId":"0000000000000001","username":"0000000000000001"},{"userId":"0000000000000002","username":"0000000000000002"},{"userId":"0000000000000003","username":"0000000000000003"}"#,
        ),
        (
            "half an emoji is compared as what it is",
            vec![
                entry(1, None, r#"{"userId":"\ud83d","username":"a"}"#),
                entry(2, None, r#"{"userId":"\uD83D","username":"b"}"#),
                entry(3, None, r#"{"userId":"\ud83e","username":"c"}"#),
            ],
            r#"{"userId":"\uD83D","username":"b"},{"userId":"\ud83e","username":"c"}"#,
        ),
        ("oneself in another tab", vec![entry(1, None, r#"{"userId":"u1","username":"Ada"}"#)], ""),
    ];
    for (name, entries, users) in rows {
        let mut out = Vec::new();
        room_state(b"u1", entries, 5, &mut out);
        let expected = format!(r#"{{"type":"room_state","users":[{users}],"timestamp":5}}"#);
        assert_eq!(String::from_utf8(out).unwrap(), expected, "{name}");
    }
}

#[test]
fn a_person_is_known_by_the_user_id_of_its_data() {
    let long = format!(r#"{{"userId":"{}"}}"#, "x".repeat(NAME_BYTES_MAX + 1));
    for (data, expected) in [
        (r#"{"userId":"u1","username":"Ada"}"#, Some("u1")),
        (r#"{"\ud83d":1,"userId":"\u0075\u0031"}"#, Some("u1")),
        (r#"{"userId":""}"#, None),
        (r#"{"userId":7}"#, None),
        (r#"{"userId":"\ud83d"}"#, None),
        (&long, None),
        ("null", None),
        ("", None),
    ] {
        assert_eq!(person_of(data.as_bytes()).as_deref(), expected, "{data:.40}");
    }
}

/// Whatever of the others reaches a newcomer before its own join, after it, or after its `room_state`.
#[test]
fn nobody_is_told_by_the_room_state_and_by_a_join() {
    let push_in = |room: &str, kind, client, seq| {
        let entry = entry(client, None, "{}");
        Push::Presence(Arc::new(PresencePush {
            channel: channel(room),
            kind,
            entry,
            still_there: false,
            seq,
            ts_ms: 1,
        }))
    };
    let push = |kind, client, seq| push_in("chat:general", kind, client, seq);
    let (join, leave) = (PresenceKind::Join, PresenceKind::Leave);
    let snapshot = |seq, clients: &[u64]| PresenceSnapshot {
        seq,
        count: clients.len() as u64,
        entries: Some(clients.iter().map(|&client| entry(client, None, "{}")).collect()),
    };
    let listed = |chat: &mut Chat, snapshot| {
        let (id, channel, mut out) = (Some(TrackedCommand::RoomState(1).id()), channel("chat:general"), Vec::new());
        let reply = Reply { id, body: ReplyBody::Presence { channel, snapshot } };
        assert_eq!(chat.encode_reply(&reply, 5, &mut out), Ok(Written::Message));
        let state: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let users = state["users"].as_array().unwrap();
        users.iter().map(|user| u64::from_str_radix(user["userId"].as_str().unwrap(), 16).unwrap()).collect::<Vec<_>>()
    };

    let mut chat = joined_as_nine();
    assert!(!chat.takes(&push(join, 1, 4)), "the room_state will list it");
    assert!(!chat.takes(&push(leave, 2, 5)), "the room_state will not");
    assert!(chat.takes(&push(join, 9, 6)), "one's own");
    assert!(chat.takes(&push(join, 3, 7)), "after one's own");
    assert_eq!(listed(&mut chat, snapshot(8, &[1, 9, 3, 4])), [1], "3 was told, 4 will be");
    assert!(chat.takes(&push(join, 4, 8)));
    assert!(!chat.takes(&push(join, 1, 4)), "late, and listed");
    assert!(!chat.takes(&push_in("chat:other", join, 1, 9)), "of no room of ours");

    let mut chat = joined_as_nine();
    assert_eq!(listed(&mut chat, snapshot(6, &[1, 2])), [1, 2], "we were not let in: all of them");
    assert!(!chat.takes(&push(join, 2, 6)) && chat.takes(&push(join, 3, 7)));

    let mut chat = joined_as_nine();
    let whole =
        |seq| Push::PresenceSnapshot { channel: channel("chat:general"), snapshot: Arc::new(snapshot(seq, &[])) };
    assert!(chat.takes(&push(join, 9, 1)) && chat.takes(&whole(5)), "changes were missed: the whole in their place");
    assert!(!chat.takes(&push(join, 3, 5)) && chat.takes(&push(join, 3, 6)));

    assert!(!Chat::default().takes(&push(join, 1, 1)), "who has not joined");
    assert!(asks(&mut chat, r#"{"type":"join","userId":"u1","username":"Ada","roomId":"b"}"#).is_ok());
    assert!(!chat.takes(&push(join, 4, 7)), "of the room that was left");
}

#[test]
fn invalid_messages_count_and_early_ones_do_not() {
    let bad = |message: &str| asks(&mut Chat::default(), message).unwrap_err().is_bad();
    for message in ["", "{", "7", r#"{"type":7}"#, r#"{"type":"shout"}"#, r#"{"type":"join","userId":"u"}"#] {
        assert!(bad(message), "{message}");
    }
    assert!(!bad(r#"{"type":"typing"}"#) && !bad(r#"{"type":"leave"}"#));
}

#[test]
fn the_fuzz_body_holds_for_what_looks_like_a_chat() {
    let seeds = [
        r#"{"type":"message","content":"\ud83d\ude00","userId":"u","username":"U","roomId":"r","timestamp":1}"#,
        r#"{"type":"join","userId":"u","username":"U","roomId":"a:b *"}"#,
        r#"{"content":"\u00e9","userId":"u","username":"\n"}"#,
        " \"text\" ",
    ];
    for seed in seeds {
        for cut in 0..=seed.len() {
            fuzz::decode(&seed.as_bytes()[..cut]);
            fuzz::decode(&seed.as_bytes()[cut..]);
        }
        for at in 0..seed.len() {
            for byte in [0, b'"', b'\\', b'{', b'}', b'\n', b'u', b'd', 0xFF] {
                let mut bytes = seed.as_bytes().to_vec();
                bytes[at] = byte;
                fuzz::decode(&bytes);
            }
        }
    }
}

/// Texts that meet escapes, surrogates, quotes and brackets far more often than random ones.
fn jsonish() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        "\"",
        "\\",
        ",",
        ":",
        "\\u",
        "\\ud800",
        "\\n",
        "\n",
        "\0",
        "1e9999",
        "null",
        "true",
        " ",
        "é",
        "😀",
        "\"content\":",
        "\"userId\":",
        "\"username\":",
        "\"type\":",
        "\"message\"",
        "\"join\"",
        "\"roomId\":",
        "\"a\"",
    ]);
    prop::collection::vec(pieces, 0..14).prop_map(|pieces| pieces.concat())
}

proptest! {
    /// For any payload and any sender of a publication, a chat gets valid JSON.
    #[test]
    fn whatever_is_published_is_written_as_valid_json(
        text in jsonish(), bytes in prop::collection::vec(any::<u8>(), 0..40), client in any::<Option<u64>>(), name in any::<Option<String>>(),
    ) {
        for data in [Data::Json(text.clone().into()), Data::Json(bytes.clone().into()), Data::Binary(bytes.clone().into())] {
            assert_json(&message_of(data.clone(), None));
            assert_json(&message_of(data, from(client, name.as_deref())));
        }
        fuzz::decode(text.as_bytes());
        fuzz::decode(format!("{{{text}}}").as_bytes());
        fuzz::decode(&bytes);
    }

    /// A message of one chat client is read by the others.
    #[test]
    fn a_message_is_read_as_it_was_said(content in any::<String>(), user_id in "\\PC{1,60}", username in ".{1,60}", room in any::<String>()) {
        let mut chat = Chat::default();
        let join = serde_json::json!({"type": "join", "userId": user_id, "username": username, "roomId": room});
        let asked = asks(&mut chat, &join.to_string());
        if let Err(why) = asked {
            prop_assert!(matches!(why, Ignored::RoomLength { len } if len == 0 || len > ROOM_BYTES_MAX), "{why}");
            return Ok(());
        }
        let said = serde_json::json!({"type": "message", "content": content, "userId": "eve"});
        let mut requests = asks(&mut chat, &said.to_string()).unwrap();
        let Command::Publish(publish) = requests.remove(0).command else { panic!("a message is a publication") };
        let read: serde_json::Value = serde_json::from_str(&written(&message_of(publish.data, from(Some(1), None)))).unwrap();
        let expected = serde_json::json!({"type": "message", "userId": user_id, "username": username, "content": content, "timestamp": 7});
        prop_assert_eq!(read, expected);
    }

    /// Two rooms are one channel only where they are one room, and a channel's name tells its room.
    #[test]
    fn a_channel_names_its_room(room in any::<String>()) {
        let Ok(channel) = channel_of(&room) else { return Ok(()) };
        let encoded = channel.strip_prefix("chat:").unwrap();
        let (mut bytes, mut rest) = (Vec::new(), encoded.as_bytes());
        while let Some((&first, after)) = rest.split_first() {
            rest = after;
            if first == b'%' {
                bytes.push(u8::from_str_radix(std::str::from_utf8(&rest[..2]).unwrap(), 16).unwrap());
                rest = &rest[2..];
            } else {
                bytes.push(first);
            }
        }
        prop_assert_eq!(String::from_utf8(bytes).unwrap(), room);
    }
}
