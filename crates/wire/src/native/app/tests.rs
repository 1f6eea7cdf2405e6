//! The application's commands: vectors both ways, malformed bodies, and the fuzz body.

use super::*;
use crate::native::Limits;
use bytes::Bytes;
use fanfare_hub::{
    Among, AppAnswer, Audience, Ban, ChannelInfo, ChannelName, ClientId, Data, Epoch, Error, ErrorCode, History,
    HistoryFrom, HistoryQuery, NodeInfo, Pattern, Position, PresenceEntry, PresenceSnapshot, Publication, Publish,
    Sender, Signal, SubOptions, UserId, UserInfo, UserStatus, Whom,
};
use proptest::prelude::*;

fn name(text: &str) -> ChannelName {
    ChannelName::new(text).unwrap()
}

fn at(offset: u64) -> Position {
    Position { epoch: Epoch(0xe), offset }
}

fn publish(channel: &str, data: &'static str, key: Option<&str>, audience: Option<Audience>) -> AppCommand {
    let data = Data::Json(Bytes::from_static(data.as_bytes()));
    let publish =
        Publish { channel: name(channel), data, event: None, idempotency_key: key.map(Into::into), echo: true };
    AppCommand::Publish { publish: Box::new(publish), audience: audience.map(Box::new), by: Some("test".into()) }
}

fn ask(kind: ApiCommand, body: &str, key: Option<&str>) -> Result<ApiRequest, Error> {
    decode(kind, body.as_bytes(), &Caller { name: &"test".into(), idempotency_key: key }, &Limits::default())
}

fn commands() -> Vec<(ApiCommand, &'static str, AppCommand)> {
    let client = Whom::Client(ClientId(0xabc));
    let user = Whom::User(UserId("ada".into()));
    let label = || Whom::Label("beta".into());
    let audience = Audience { only: vec![ClientId(1)], except: vec![ClientId(2), ClientId(3)], ..Audience::default() };
    let options = SubOptions {
        since: Some(at(7)),
        recent: Some(5),
        presence: true,
        signals: false,
        ..SubOptions::new(name("c"))
    };
    let history = |from, limit| AppCommand::History { channel: name("c"), query: HistoryQuery { from, limit } };
    let channels = |pattern: Option<&str>, after, limit| {
        let pattern = pattern.map(|text| Pattern::new(text).unwrap());
        AppCommand::Channels { pattern, after, limit }
    };
    let signal = |data: &'static str, to| {
        AppCommand::Signal(Box::new(Signal {
            channel: name("c"),
            event: "e".into(),
            data: Bytes::from_static(data.as_bytes()),
            to,
        }))
    };
    #[rustfmt::skip]
    let rows = vec![
        (ApiCommand::Publish, r#"{"channel":"c","data":{"b":1, "a":1.0},"idempotency_key":"k"}"#, publish("c", r#"{"b":1, "a":1.0}"#, Some("k"), None)),
        (ApiCommand::Publish, "{\"channel\":\"c\",\"data\":[1,\r\n2]}", publish("c", "[1,  2]", None, None)),
        (ApiCommand::Publish, r#"{"channel":"c","data":null,"type":"x","id":[],"echo":false}"#, {
            let AppCommand::Publish { mut publish, audience, by } = publish("c", "null", None, None) else { unreachable!() };
            publish.echo = false;
            AppCommand::Publish { publish, audience, by }
        }),
        (ApiCommand::Publish, r#"{"channel":"c","data":1,"audience":{"only":["0000000000000001"],"except":["0000000000000002","0000000000000003"]}}"#, publish("c", "1", None, Some(audience))),
        (ApiCommand::Publish, r#"{"channel":"c","data":1,"audience":{}}"#, publish("c", "1", None, None)),
        (ApiCommand::Signal, r#"{"channel":"c","event":"e"}"#, signal("null", None)),
        (ApiCommand::Signal, r#"{"channel":"c","event":"e","data":[1],"to":"0000000000000abc"}"#, signal("[1]", Some(ClientId(0xabc)))),
        (ApiCommand::History, r#"{"channel":"c"}"#, history(HistoryFrom::Newest, 100)),
        (ApiCommand::History, r#"{"channel":"c","since":{"epoch":"000000000000000e","offset":7},"limit":1000}"#, history(HistoryFrom::Since(at(7)), 1000)),
        (ApiCommand::History, r#"{"channel":"c","before":{"epoch":"000000000000000e","offset":7.0},"limit":1}"#, history(HistoryFrom::Before(at(7)), 1)),
        (ApiCommand::HistoryRemove, r#"{"channel":"c"}"#, AppCommand::HistoryRemove { channel: name("c") }),
        (ApiCommand::Presence, r#"{"channel":"c"}"#, AppCommand::Presence { channel: name("c") }),
        (ApiCommand::Channels, "", channels(None, None, 100)),
        (ApiCommand::Channels, r#"{"match":"chat:*","after":"chat:b","limit":1000}"#, channels(Some("chat:*"), Some(name("chat:b")), 1000)),
        (ApiCommand::Subscribe, r#"{"client":"0000000000000abc","channel":"c"}"#, AppCommand::Subscribe { whom: client.clone(), options: Box::new(SubOptions::new(name("c"))) }),
        (ApiCommand::Subscribe, r#"{"user":"ada","channel":"c","since":{"epoch":"000000000000000e","offset":7},"recent":5,"presence":true,"signals":false}"#, AppCommand::Subscribe { whom: user.clone(), options: Box::new(options) }),
        (ApiCommand::Unsubscribe, r#"{"user":"ada","client":null,"channel":"c"}"#, AppCommand::Unsubscribe { whom: user.clone(), channel: name("c") }),
        (ApiCommand::Disconnect, r#"{"client":"0000000000000abc"}"#, AppCommand::Disconnect { whom: client.clone(), reason: Disconnect::Kicked, ban_ms: None }),
        (ApiCommand::Disconnect, r#"{"user":"ada","reason":"overloaded"}"#, AppCommand::Disconnect { whom: user.clone(), reason: Disconnect::Overloaded, ban_ms: None }),
        (ApiCommand::Disconnect, r#"{"user":"ada","ban":"90m"}"#, AppCommand::Disconnect { whom: user.clone(), reason: Disconnect::Kicked, ban_ms: Some(5_400_000) }),
        (ApiCommand::Disconnect, r#"{"user":"ada","reason":"abuse","ban":"999999d"}"#, AppCommand::Disconnect { whom: user.clone(), reason: Disconnect::Abuse, ban_ms: Some(999_999 * 86_400_000) }),
        (ApiCommand::Unban, r#"{"client":"0000000000000abc"}"#, AppCommand::Unban { whom: client.clone() }),
        (ApiCommand::Bans, "", AppCommand::Bans { whom: None, limit: 100 }),
        (ApiCommand::Bans, r#"{"user":null,"client":"0000000000000abc","limit":1000}"#, AppCommand::Bans { whom: Some(client.clone()), limit: 1000 }),
        (ApiCommand::Bans, r#"{"user":"ada"}"#, AppCommand::Bans { whom: Some(user.clone()), limit: 100 }),
        (ApiCommand::Disconnect, r#"{"label":"beta"}"#, AppCommand::Disconnect { whom: label(), reason: Disconnect::Kicked, ban_ms: None }),
        (ApiCommand::Subscribe, r#"{"label":"beta","channel":"c"}"#, AppCommand::Subscribe { whom: label(), options: Box::new(SubOptions::new(name("c"))) }),
        (ApiCommand::Reconnect, r#"{"label":"beta"}"#, AppCommand::Reconnect { whom: label(), spread_ms: 10_000 }),
        (ApiCommand::Reconnect, r#"{"client":"0000000000000abc"}"#, AppCommand::Reconnect { whom: client.clone(), spread_ms: 0 }),
        (ApiCommand::Reconnect, r#"{"user":"ada","spread":"1h"}"#, AppCommand::Reconnect { whom: user, spread_ms: 3_600_000 }),
        (ApiCommand::Connections, "", AppCommand::Connections { among: Among::All, after: None, limit: 100 }),
        (ApiCommand::Connections, r#"{"client":null,"label":"beta","cursor":"1f-2","limit":1000}"#, AppCommand::Connections { among: Among::Label("beta".into()), after: "1f-2".parse().ok(), limit: 1000 }),
        (ApiCommand::Connections, r#"{"channel":"c"}"#, AppCommand::Connections { among: Among::Channel(name("c")), after: None, limit: 100 }),
        (ApiCommand::Connections, r#"{"user":"ada"}"#, AppCommand::Connections { among: Among::User(UserId("ada".into())), after: None, limit: 100 }),
        (ApiCommand::Users, r#"{"limit":100}"#, AppCommand::Users { channel: None, after: None, limit: 100 }),
        (ApiCommand::Users, r#"{"channel":"c","cursor":"ada","limit":5}"#, AppCommand::Users { channel: Some(name("c")), after: Some(UserId("ada".into())), limit: 5 }),
        (ApiCommand::UserStatus, r#"{"users":["ada","b\u00e4"]}"#, AppCommand::UserStatus { users: [UserId("ada".into()), UserId("bä".into())].into() }),
        (ApiCommand::Info, " \n", AppCommand::Info),
        (ApiCommand::Info, r#"{"unknown":{"a":[]}}"#, AppCommand::Info),
        (ApiCommand::Info, r#"{"\ud800":{"\udc00":[]}}"#, AppCommand::Info),
    ];
    rows
}

#[test]
fn bodies_are_understood() {
    for (kind, body, command) in commands() {
        assert_eq!(ask(kind, body, None), Ok(ApiRequest::One(command.clone())), "{} {body}", kind.word());
        if body.starts_with('{') {
            let body = format!(
                r#"{{"commands":[{}]}}"#,
                body.replacen('{', &format!(r#"{{"type":"{}","#, kind.word()), 1).replacen(r#","type":"x""#, "", 1)
            );
            assert_eq!(ask(ApiCommand::Batch, &body, None), Ok(ApiRequest::Many(vec![Ok(command)])), "{body}");
        }
    }
}

#[test]
fn every_kind_has_a_word_of_its_own() {
    for &kind in ApiCommand::ALL {
        assert_eq!(ApiCommand::find(kind.word()), Some(kind));
    }
    assert_eq!(ApiCommand::find("connect"), None);
}

#[test]
fn one_key_may_stand_in_two_places() {
    let body = r#"{"channel":"c","data":1}"#;
    let with = r#"{"channel":"c","data":1,"idempotency_key":"k"}"#;
    let expected = Ok(ApiRequest::One(publish("c", "1", Some("k"), None)));
    assert_eq!(ask(ApiCommand::Publish, body, Some("k")), expected);
    assert_eq!(ask(ApiCommand::Publish, with, Some("k")), expected);
    assert!(ask(ApiCommand::Publish, with, Some("l")).is_err());
    let broadcast = ask(ApiCommand::Broadcast, r#"{"channels":["c","d"],"data":1}"#, Some("k"));
    let each = ["c", "d"].map(|channel| Ok(publish(channel, "1", Some("k"), None)));
    assert_eq!(broadcast, Ok(ApiRequest::Many(each.into())));
    assert!(ask(ApiCommand::History, r#"{"channel":"c"}"#, Some("k")).is_ok(), "where it means nothing it is ignored");
}

#[test]
fn mistakes_are_named_with_their_place() {
    #[rustfmt::skip]
    let rows: &[(ApiCommand, &str, ErrorCode, &str)] = &[
        (ApiCommand::Publish, "", ErrorCode::BadRequest, "the body is empty: it must be a JSON object"),
        (ApiCommand::Publish, "{\n \"channel\": x}", ErrorCode::BadRequest, "the body is not JSON: expected value at line 2 column 13 (byte 14)"),
        (ApiCommand::Publish, "[1]", ErrorCode::BadRequest, "the body is not an object: invalid type: sequence, expected a JSON object at line 1 column 0 (byte 0)"),
        (ApiCommand::Publish, r#"{"channel":7,"data":1}"#, ErrorCode::BadRequest, "`channel` must be a text, not 7"),
        (ApiCommand::Broadcast, r#"{"channels":["c",null],"data":1}"#, ErrorCode::BadRequest, "`channels[1]` must be a text, not null"),
        (ApiCommand::Broadcast, r#"{"channels":["c","\ud83d"],"data":1}"#, ErrorCode::BadRequest, "`channels[1]` is not Unicode text: unexpected end of hex escape at line 1 column 8"),
        (ApiCommand::Broadcast, r#"{"channels":"c","data":1}"#, ErrorCode::BadRequest, "`channels` must be an array, not \"c\""),
        (ApiCommand::Publish, r#"{"channel":"c","data":1,"audience":{"except":["x"]}}"#, ErrorCode::BadRequest, "`audience.except[0]` must be a client's id as the server gave it, not \"x\""),
        (ApiCommand::Publish, r#"{"channel":"c","data":1,"key":"k"}"#, ErrorCode::BadRequest, "`key` is reserved; the idempotency key is `idempotency_key`"),
        (ApiCommand::Broadcast, r#"{"channels":["c"],"data":1,"key":"k"}"#, ErrorCode::BadRequest, "`key` is reserved; the idempotency key is `idempotency_key`"),
        (ApiCommand::Broadcast, r#"{"channels":["c"],"data":1,"op":"put"}"#, ErrorCode::BadRequest, "`op` is reserved: it has no meaning yet"),
        (ApiCommand::Subscribe, r#"{"user":"u","channel":"c","state":true}"#, ErrorCode::BadRequest, "`state` is reserved: it has no meaning yet"),
        (ApiCommand::Channels, r#"{"match":"a:**:b"}"#, ErrorCode::BadRequest, "`match` is not a pattern: `**` must be the last segment of \"a:**:b\""),
        (ApiCommand::Channels, r#"{"after":"a b"}"#, ErrorCode::BadRequest, "`after` is not a channel name: a channel name cannot hold ' ' (at byte 1)"),
        (ApiCommand::Channels, r#"{"limit":1001}"#, ErrorCode::BadRequest, "`limit` must be an integer from 1 to 1000, not 1001"),
        (ApiCommand::Disconnect, r#"{"user":""}"#, ErrorCode::BadRequest, "`user` of 0 bytes is too short: it must have 1 to 255"),
        (ApiCommand::Disconnect, r#"{"user":"u","ban":"1.5h"}"#, ErrorCode::BadRequest, "`ban` must be a whole number of up to 6 digits and a unit (ms, s, m, h or d), like \"1h\", not \"1.5h\""),
        (ApiCommand::Disconnect, r#"{"user":"u","ban":"0s"}"#, ErrorCode::BadRequest, "`ban` must be a whole number of up to 6 digits and a unit (ms, s, m, h or d), like \"1h\", not \"0s\""),
        (ApiCommand::Disconnect, r#"{"user":"u","ban":3600}"#, ErrorCode::BadRequest, "`ban` must be a text, not 3600"),
        (ApiCommand::Disconnect, r#"{"user":"u","ban":"1h","reason":"overloaded"}"#, ErrorCode::BadRequest, "`ban` needs a `reason` after which clients do not come back, not \"overloaded\""),
        (ApiCommand::Bans, r#"{"user":"u","client":"0000000000000abc"}"#, ErrorCode::BadRequest, "`client` and `user` are in one command: only one of them is allowed"),
        (ApiCommand::Unban, "{}", ErrorCode::BadRequest, "`client` is missing, and `user` too: one of them says whose sessions"),
        (ApiCommand::Disconnect, "{}", ErrorCode::BadRequest, "`client` is missing, and `user` and `label` too: one of them says whose sessions"),
        (ApiCommand::Disconnect, r#"{"user":"u","label":"beta"}"#, ErrorCode::BadRequest, "`client`, `user` and `label`: only one of them is allowed in a command"),
        (ApiCommand::Disconnect, r#"{"label":"beta","ban":"1h"}"#, ErrorCode::BadRequest, "`ban` is of a `user` or a `client`, not of a `label`"),
        (ApiCommand::Disconnect, r#"{"label":""}"#, ErrorCode::BadRequest, "`label` cannot be one: a label is empty"),
        (ApiCommand::Reconnect, r#"{"label":"a\nb"}"#, ErrorCode::BadRequest, "`label` cannot be one: U+000A in a label is a control or format character"),
        (ApiCommand::Reconnect, r#"{"user":"u","spread":"61m"}"#, ErrorCode::BadRequest, "`spread` exceeds the limit of \"1h\""),
        (ApiCommand::Connections, r#"{"user":"u","channel":"c"}"#, ErrorCode::BadRequest, "only one of `client`, `user`, `label` and `channel` is allowed in a command"),
        (ApiCommand::Connections, r#"{"cursor":"1"}"#, ErrorCode::BadRequest, "`cursor` must be a `cursor` as an answer of the server had it, not \"1\""),
        (ApiCommand::Users, r#"{"limit":0}"#, ErrorCode::BadRequest, "`limit` must be an integer from 1 to 1000, not 0"),
        (ApiCommand::UserStatus, r#"{"users":[]}"#, ErrorCode::BadRequest, "`users` is empty: it must hold at least one"),
        (ApiCommand::UserStatus, r#"{"users":["a",""]}"#, ErrorCode::BadRequest, "`users[1]` of 0 bytes is too short: it must have 1 to 255"),
    ];
    for (kind, body, code, message) in rows {
        let error = ask(*kind, body, None).expect_err(body);
        assert_eq!((error.code, &*error.message), (*code, *message), "{body}");
    }
    let error = decode(
        ApiCommand::Publish,
        b"{\"a\":\n\"\xFF\"}",
        &Caller { name: &"t".into(), idempotency_key: None },
        &Limits::default(),
    );
    assert_eq!(&*error.unwrap_err().message, "the body is not UTF-8 at line 2 column 2 (byte 7)");
}

#[test]
fn answers_are_written() {
    let publication = Publication {
        offset: 1,
        prev: 0,
        ts_ms: 9,
        data: Data::Json(Bytes::from_static(b"{\"a\": 1}")),
        event: None,
        idempotency_key: None,
        from: Some(Sender { client: Some(ClientId(1)), user: None }),
        audience: None,
        hidden: None,
        echo: true,
        begins: None,
        act: None,
    };
    let history = History {
        channel: name("c"),
        top: at(1),
        publications: vec![publication.into()],
        more: true,
        gap: true,
        reset: true,
    };
    let entry = PresenceEntry {
        client: ClientId(1),
        user: Some(UserId("ada".into())),
        info: None,
        data: Bytes::from_static(b"{}"),
        person: None,
    };
    let channel = |top| ChannelInfo { channel: name("c"), subscribers: 2, present: 1, top };
    let info = NodeInfo { sessions: 1, connected: 2, subscriptions: 3, channels: 4, history_bytes: 5 };
    let status = |user: &str, clients, last_seen_ms| UserStatus { user: UserId(user.into()), clients, last_seen_ms };
    let mut rate = Error::new(ErrorCode::RateLimited, "slowly").on(&name("c")).by_rule("c");
    rate.retry_after_ms = Some(7);
    #[rustfmt::skip]
    let rows = [
        (AppAnswer::Published { position: at(1), duplicate: false, subscribers: 2 }, r#"{"epoch":"000000000000000e","offset":1,"subscribers":2}"#),
        (AppAnswer::Published { position: at(1), duplicate: true, subscribers: 0 }, r#"{"epoch":"000000000000000e","offset":1,"subscribers":0,"duplicate":true}"#),
        (AppAnswer::History(Box::new(history)), r#"{"channel":"c","epoch":"000000000000000e","offset":1,"publications":[{"offset":1,"data":{"a": 1},"from":{"client":"0000000000000001"},"ts":9}],"more":true,"gap":true,"reset":true}"#),
        (AppAnswer::Presence(PresenceSnapshot { seq: 3, count: 1, entries: Some(vec![entry.into()]) }), r#"{"seq":3,"count":1,"entries":[{"client":"0000000000000001","user":"ada","data":{}}]}"#),
        (AppAnswer::Presence(PresenceSnapshot { seq: 3, count: 9, entries: None }), r#"{"seq":3,"count":9}"#),
        (AppAnswer::Channels { channels: vec![channel(Some(at(1))), channel(None)], more: false }, r#"{"channels":[{"channel":"c","subscribers":2,"present":1,"epoch":"000000000000000e","offset":1},{"channel":"c","subscribers":2,"present":1}]}"#),
        (AppAnswer::Concerned(2), r#"{"sessions":2}"#),
        (AppAnswer::Banned { sessions: 2, until_ms: 9 }, r#"{"sessions":2,"banned_until":9,"durable":false}"#),
        (AppAnswer::Unbanned { was_banned: true }, r#"{"was_banned":true}"#),
        (AppAnswer::Bans { bans: vec![Ban { whom: Whom::user("ada"), until_ms: 9 }, Ban { whom: ClientId(1).into(), until_ms: 8 }], more: true }, r#"{"bans":[{"user":"ada","until":9},{"client":"0000000000000001","until":8}],"more":true}"#),
        (AppAnswer::Connections { connections: Vec::new(), next: "1f-2".parse().ok() }, r#"{"connections":[],"cursor":"1f-2"}"#),
        (AppAnswer::Users { users: vec![UserInfo { user: UserId("ada".into()), clients: 2 }], next: None }, r#"{"users":[{"user":"ada","clients":2}]}"#),
        (AppAnswer::Users { users: Vec::new(), next: Some(UserId("ada".into())) }, r#"{"users":[],"cursor":"ada"}"#),
        (AppAnswer::UserStatus(vec![status("ada", 2, None), status("bob", 0, Some(9))]), r#"{"users":[{"user":"ada","online":true,"clients":2},{"user":"bob","online":false,"clients":0,"last_seen":9}]}"#),
        (AppAnswer::Info(Box::new(info)), concat!(r#"{"version":""#, env!("CARGO_PKG_VERSION"), r#"","sessions":1,"connected":2,"subscriptions":3,"channels":4,"history_bytes":5}"#)),
        (AppAnswer::Done, "{}"),
        (AppAnswer::Error(rate), r#"{"code":"rate_limited","message":"slowly","retryable":true,"retry_after":7,"channel":"c","rule":"c"}"#),
    ];
    for (answer, expected) in &rows {
        let mut out = Vec::new();
        encode_answer(&mut out, answer);
        assert_eq!(std::str::from_utf8(&out).unwrap(), *expected);
    }
    let mut out = Vec::new();
    encode_results(&mut out, [&rows[6].0, &AppAnswer::Error(Error::new(ErrorCode::NoRule, "why"))]);
    let expected =
        r#"{"results":[{"result":{"sessions":2}},{"error":{"code":"no_rule","message":"why","retryable":false}}]}"#;
    assert_eq!(std::str::from_utf8(&out).unwrap(), expected);
}

#[test]
fn the_fuzz_body_holds_on_what_we_know() {
    for (kind, body, _) in commands() {
        let place = ApiCommand::ALL.iter().position(|it| *it == kind).unwrap() as u8;
        for cut in 0..=body.len() {
            fuzz::decode(&[&[place, 0], &body.as_bytes()[..cut]].concat());
        }
    }
}

#[test]
fn an_error_about_a_namespace_names_no_reserved_channel() {
    for (name, shown) in [("$sio:/", false), ("chat:general", true)] {
        let channel = ChannelName::reserved(name).or_else(|_| ChannelName::new(name)).expect("a name");
        let error = Error::new(ErrorCode::KeyConflict, "used").on(&channel);
        let mut out = Vec::new();
        encode_error(&mut out, &error);
        assert_eq!(String::from_utf8(out).expect("text").contains("channel"), shown, "{name}");
    }
}

proptest! {
    #[test]
    fn the_fuzz_body_holds_on_noise(kind in 0..12_u8, key in 0..70_u8, text in r#"\PC{0,60}|[\[\]{}",:\\ 0-9a-z]{0,80}"#) {
        fuzz::decode(&[&[kind, key], text.as_bytes()].concat());
    }

    /// A known body with one value replaced by something else, under any command.
    #[test]
    fn the_fuzz_body_holds_on_near_misses(which in 0..40_usize, kind in 0..12_u8, at in 0..40_usize, value in r#"null|-?[0-9]{1,20}|"[a-z\\u0d8]{0,70}"|\{\}|\[\]|true"#) {
        let rows: Vec<_> = commands().into_iter().filter(|(_, body, _)| body.contains(':')).collect();
        let (_, body, _) = &rows[which % rows.len()];
        let colons: Vec<_> = body.match_indices(':').collect();
        let (start, _) = colons[at % colons.len()];
        let end = body[start..].find([',', '}']).map_or(body.len(), |end| start + end);
        let body = format!("{}:{value}{}", &body[..start], &body[end..]);
        fuzz::decode(&[&[kind, 0], body.as_bytes()].concat());
    }
}
