//! Messages that come in: their commands, the ignored ones and their causes, and the channels of rooms.

use super::*;

fn join(room: &str, who: &str) -> Vec<Request> {
    join_of(1, room, who)
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

/// RFC 8259 §8.1: a parser may ignore a byte order mark, and this one does, once.
#[test]
fn a_byte_order_mark_before_a_message_is_ignored() {
    let plain = r#"{"type":"join","userId":"u1","username":"Ada"}"#;
    let marked = format!("\u{feff}{plain}");
    assert_eq!(asks(&mut Chat::default(), &marked), asks(&mut Chat::default(), plain));
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
fn a_message_that_no_chat_client_would_send_is_counted_and_one_at_the_wrong_moment_is_not() {
    let read = |message: &str| {
        let mut out = Vec::new();
        let result = Chat::default().read(message.as_bytes(), &mut out);
        (result.map_err(|ignored| ignored.cause()), out)
    };
    let (why, out) = read("7");
    assert_eq!(why, Err("not_json"));
    let [Request { id: None, command: Command::Invalid(error) }] = &out[..] else { panic!("{out:?}") };
    assert_eq!(error.code, ErrorCode::BadRequest);
    assert_eq!(read(r#"{"type":"leave"}"#), (Err("not_joined"), Vec::new()));
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
    let mut chat = connected(1, user("ada"));
    let asked = asks(&mut chat, r#"{"type":"join","userId":"eve","username":"Ada"}"#);
    assert_eq!(asked, Ok(join("chat:general", r#"{"userId":"ada","username":"Ada"}"#)));
    let asked = asks(&mut chat, r#"{"type":"message","userId":"eve","content":"hi"}"#);
    assert_eq!(asked, Ok(says("chat:general", r#"{"content":"hi","userId":"ada","username":"Ada"}"#)));
    // The application takes its time to say who it is, and the client does not wait with its join.
    let mut chat = Chat::default();
    assert!(asks(&mut chat, r#"{"type":"join","userId":"eve","username":"Ada"}"#).is_ok());
    connects(&mut chat, 1, user("ada"));
    let asked = asks(&mut chat, r#"{"type":"message","content":"hi"}"#);
    assert_eq!(asked, Ok(says("chat:general", r#"{"content":"hi","userId":"ada","username":"Ada"}"#)));
    let entry = |client, name| {
        let data = Bytes::from(format!(r#"{{"userId":"eve","username":"{name}"}}"#));
        Arc::new(PresenceEntry {
            client: ClientId(client),
            user: (name == "Ada").then(|| UserId("ada".into())),
            info: None,
            data,
            person: None,
        })
    };
    let snapshot =
        PresenceSnapshot { seq: 3, count: 3, entries: Some(vec![entry(2, "Ada"), entry(3, "Eve"), entry(1, "Ada")]) };
    let body = ReplyBody::Presence { channel: channel("chat:general"), snapshot };
    let (mut out, state) = (Vec::new(), Reply { id: Some(TrackedCommand::RoomState(1).id()), body });
    assert_eq!(chat.encode_reply(&state, NOW_MS, &mut out), Ok(Written::Message));
    let others = r#"{"type":"room_state","users":[{"userId":"eve","username":"Eve"}],"timestamp":1700000000000}"#;
    assert_eq!(String::from_utf8_lossy(&out), others, "another tab of hers is no other person, and Eve is one");
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

#[test]
fn invalid_messages_count_and_early_ones_do_not() {
    let bad = |message: &str| asks(&mut Chat::default(), message).unwrap_err().is_bad();
    for message in ["", "{", "7", r#"{"type":7}"#, r#"{"type":"shout"}"#, r#"{"type":"join","userId":"u"}"#] {
        assert!(bad(message), "{message}");
    }
    assert!(!bad(r#"{"type":"typing"}"#) && !bad(r#"{"type":"leave"}"#));
}

/// What is shown is cleaned and bounded; what is only compared, and fields that a message does not need, are not.
#[test]
fn texts_are_cleaned_and_bounded_where_they_are_shown() {
    let joined = || {
        let mut chat = Chat::with_texts(ChatTexts { username_chars_max: 4, content_chars_max: 8 });
        let join = r#"{"type":"join","userId":"u1","username":"A\u0000\n\u202ede\u0301"}"#;
        let asked = asks(&mut chat, join);
        (chat, asked)
    };
    assert_eq!(joined().1, Ok(join("chat:general", r#"{"userId":"u1","username":"A dé"}"#)));
    let general = "chat:general";
    let said = |content: &str| says(general, &format!(r#"{{"content":{content},"userId":"u1","username":"A dé"}}"#));
    let rows = [
        (r#"{"type":"message","content":"\u0068i\n"}"#, Ok(said(r#""\u0068i\n""#))),
        (r#"{"type":"message","content":"\u0000\u001b\r\n12345678"}"#, Err(("content", 9, 8))),
        (r#"{"type":"message","content":"\u0000\u001b\r1234567\n"}"#, Ok(said(r#""1234567\n""#))),
        (r#"{"type":"message","content":"<\ud83d"}"#, Ok(said("\"<\u{fffd}\""))),
        (r#"{"type":"message","content":"ok","username":"far too long","userId":"x"}"#, Ok(said(r#""ok""#))),
        (r#"{"type":"typing","content":"123456789"}"#, Err(("content", 9, 8))),
        (r#"{"type":"join","userId":"u2","username":"12345"}"#, Err(("username", 5, 4))),
        (r#"{"type":"join","userId":"u2","username":"\u0000\u202e"}"#, Err(("username", 0, 0))),
    ];
    for (message, expected) in rows {
        let (mut chat, mut out) = (joined().0, Vec::new());
        let found = chat.decode(message.as_bytes(), &mut out);
        match expected {
            Ok(asked) => assert_eq!((found, out), (Ok(()), asked), "{message}"),
            Err((field, 0, _)) => assert_eq!(found, Err(Ignored::Length { field, len: 0 }), "{message}"),
            Err((field, len, max)) => {
                let ignored = Ignored::TextLength { field, len, max };
                assert_eq!((ignored.cause(), ignored.is_bad()), ("text_length", false));
                assert_eq!((found, out.len()), (Err(ignored), 0), "{message}");
            }
        }
    }
}
