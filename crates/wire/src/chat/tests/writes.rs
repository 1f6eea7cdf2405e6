//! Pushes and answers that go out.

use super::*;

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
        ("ping", Push::Ping, none(Written::Ping)),
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
    let answered = |id: RequestId, code, is_told| {
        let error = Error::new(code, "no").on(&channel("chat:general"));
        let mut chat = joined();
        let reply = Reply { id: Some(id), body: ReplyBody::Error(error.clone()) };
        let expected = if is_told { Ok(Written::Message) } else { Err(error) };
        assert_eq!(chat.encode_reply(&reply, 5, &mut Vec::new()), expected, "{code}: others are for the log");
        asks(&mut chat, r#"{"type":"leave"}"#)
    };
    let out = Err(Ignored::NotJoined("leave"));
    for code in [ErrorCode::NoRule, ErrorCode::LimitExceeded, ErrorCode::Denied, ErrorCode::Unavailable] {
        assert_eq!(answered(TrackedCommand::Subscribe(1).id(), code, true), out, "{code}");
        assert!(answered(TrackedCommand::Subscribe(2).id(), code, false).is_ok(), "{code}: of another join");
        let who_is_there = answered(TrackedCommand::RoomState(1).id(), code, false);
        assert!(who_is_there.is_ok(), "{code}: who is there is another question");
    }
    let in_it = answered(TrackedCommand::Subscribe(1).id(), ErrorCode::AlreadySubscribed, false);
    assert!(in_it.is_ok(), "it is, by the server's doing");
    for (id, is_refused) in [(TrackedCommand::Connect, true), (TrackedCommand::Subscribe(1), false)] {
        let body = ReplyBody::Error(Error::new(ErrorCode::Unauthorized, "no"));
        assert_eq!(Chat::is_refused(&Reply { id: Some(id.id()), body }), is_refused);
    }
    let mut chat = joined();
    let error = Error::new(ErrorCode::Denied, "may not publish").on(&channel("chat:general"));
    let reply = Reply { id: None, body: ReplyBody::Error(error) };
    assert_eq!(chat.encode_reply(&reply, 5, &mut Vec::new()), Ok(Written::Message));
    assert!(asks(&mut chat, r#"{"type":"leave"}"#).is_ok(), "a message was refused, not the room");
}

/// A client would wait for a `room_state` that does not come, and show a message that nobody got as sent.
#[test]
fn a_client_is_told_of_refusals_of_its_join_and_of_what_it_said_in_its_room() {
    let subscribe = |join| Some(TrackedCommand::Subscribe(join).id());
    let room = || channel_of("a:b% é").ok();
    let denied = || Error::new(ErrorCode::Denied, "may \"not\"");
    let slow = || Error { retry_after_ms: Some(250), ..Error::new(ErrorCode::RateLimited, "too many") };
    let lasts = r#""roomId":"a:b% é","timestamp":5}"#;
    let of_denied = format!(r#"{{"type":"error","code":"denied","message":"may \"not\"","retryable":false,{lasts}"#);
    let of_slow = format!(
        r#"{{"type":"error","code":"rate_limited","message":"too many","retryable":true,"retryAfter":250,{lasts}"#
    );
    let rows = [
        ("the last join", subscribe(2), Error { channel: room(), ..denied() }, Some(&of_denied)),
        ("the last join, before its channel was looked at", subscribe(2), denied(), Some(&of_denied)),
        ("a message", None, Error { channel: room(), ..slow() }, Some(&of_slow)),
        ("a message beyond the rate of its user", None, slow(), Some(&of_slow)),
        ("an earlier join", subscribe(1), Error { channel: room(), ..denied() }, None),
        ("a message to an earlier room", None, denied().on(&channel("chat:general")), None),
        ("its entry in a room that it is not in", None, not_subscribed(room()), None),
        ("a message that is none", None, Error::new(ErrorCode::BadRequest, "no object"), None),
    ];
    for (name, id, error, expected) in rows {
        let mut chat = joined();
        asks(&mut chat, r#"{"type":"join","userId":"u","username":"U","roomId":"a:b% é"}"#).expect("a join");
        let mut out = Vec::new();
        let written = chat.encode_reply(&Reply { id, body: ReplyBody::Error(error.clone()) }, 5, &mut out);
        assert_eq!(written, expected.map(|_| Written::Message).ok_or(error), "{name}");
        assert_eq!(String::from_utf8(out).unwrap(), expected.cloned().unwrap_or_default(), "{name}");
    }
}

fn not_subscribed(channel: Option<ChannelName>) -> Error {
    Error { channel, ..Error::new(ErrorCode::NotSubscribed, "no live subscription") }
}
