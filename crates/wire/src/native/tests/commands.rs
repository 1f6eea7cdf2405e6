//! Messages of clients: read, written, refused.

use super::*;
use crate::native::fuzz::request_of;
use fanfare_hub::{
    Batch, ClientId, Error, ErrorCode, HistoryFrom, HistoryQuery, NUMBER_MAX, PageId, Publish, Signal, Slow,
};

fn all(text: &str) -> Vec<Decoded> {
    let mut out = Vec::new();
    decode(text, &Limits { message_bytes_max: 100, subscriptions_max: 3, ..Limits::default() }, &mut out);
    out
}

fn one(text: &str) -> Decoded {
    let mut out = all(text);
    assert_eq!(out.len(), 1, "{text}");
    out.remove(0)
}

fn refusal(text: &str) -> (Option<RequestId>, Error) {
    match one(text) {
        Decoded::Request(Request { id, command: Command::Invalid(error) }) => (id, error),
        other => panic!("{text} was understood as {other:?}"),
    }
}

fn hub(id: Option<RequestId>, command: Command) -> Decoded {
    Decoded::Request(Request { id, command })
}

/// Every command, as a client writes it and as the hub gets it. The client's encoder turns the second into the first.
pub(super) fn commands() -> Vec<(&'static str, Decoded)> {
    let publish = |data, event: Option<&str>, key: Option<&str>, echo| {
        let (event, idempotency_key) = (event.map(Into::into), key.map(Into::into));
        Command::Publish(Box::new(Publish { channel: name("c"), data, event, idempotency_key, echo }))
    };
    let history = |from, limit| Command::History { channel: name("c"), query: HistoryQuery { from, limit } };
    let signal = |data, to| Signal { channel: name("c"), event: "typing".into(), data, to };
    let followed = SubOptions {
        since: Some(at(7)),
        recent: Some(5),
        presence: true,
        signals: false,
        batch: Some(Batch { size: 10, delay_ms: 50 }),
        slow: Some(Slow::Latest),
        keep: false,
        ..SubOptions::new(name("a"))
    };
    let connect = |id, token: Option<&str>, ticket: Option<&str>, subscribe| Decoded::Connect {
        id,
        token: token.map(Into::into),
        ticket: ticket.map(Into::into),
        page: None,
        ack: None,
        subscribe,
    };
    vec![
        (
            r#"{"type":"connect","id":1,"page":"p~ 1","ack":7}"#,
            Decoded::Connect {
                id: id(1),
                token: None,
                ticket: None,
                page: PageId::new("p~ 1"),
                ack: Some(7),
                subscribe: vec![],
            },
        ),
        (r#"{"type":"connect"}"#, connect(None, None, None, vec![])),
        (
            r#"{"type":"connect","id":1,"token":"t","ticket":"k","subscribe":[{"channel":"a"}]}"#,
            connect(id(1), Some("t"), Some("k"), vec![SubOptions::new(name("a"))]),
        ),
        (
            r#"{"type":"subscribe","id":"x","channel":"a"}"#,
            hub(
                Some(RequestId::Text("x".into())),
                Command::Subscribe { subs: vec![SubOptions::new(name("a"))], many: false },
            ),
        ),
        (
            r#"{"type":"subscribe","channels":[{"channel":"b"},{"channel":"a","since":{"epoch":"000000000000000e","offset":7},"recent":5,"presence":true,"signals":false,"batch":{"size":10,"delay":50},"slow":"latest"}]}"#,
            hub(None, Command::Subscribe { subs: vec![SubOptions::new(name("b")), followed], many: true }),
        ),
        (r#"{"type":"subscribe","channels":[]}"#, hub(None, Command::Subscribe { subs: vec![], many: true })),
        (r#"{"type":"unsubscribe","id":2,"channel":"c"}"#, hub(id(2), Command::Unsubscribe { channel: name("c") })),
        (
            r#"{"type":"publish","id":3,"channel":"c","data":{"b":1,"a":[1.0]},"event":"e","idempotency_key":"k","echo":false}"#,
            hub(id(3), publish(Data::Json(json(r#"{"b":1,"a":[1.0]}"#)), Some("e"), Some("k"), false)),
        ),
        (
            r#"{"type":"publish","channel":"c","data":null}"#,
            hub(None, publish(Data::Json(json("null")), None, None, true)),
        ),
        (
            r#"{"type":"publish","channel":"c","data64":"AP8="}"#,
            hub(None, publish(Data::Binary(Bytes::from_static(&[0, 255])), None, None, true)),
        ),
        (
            r#"{"type":"history","id":9007199254740991,"channel":"c","limit":100}"#,
            hub(id(NUMBER_MAX), history(HistoryFrom::Newest, 100)),
        ),
        (
            r#"{"type":"history","channel":"c","since":{"epoch":"000000000000000e","offset":0},"limit":1000}"#,
            hub(None, history(HistoryFrom::Since(at(0)), 1000)),
        ),
        (
            r#"{"type":"history","channel":"c","before":{"epoch":"000000000000000e","offset":9007199254740991},"limit":1}"#,
            hub(None, history(HistoryFrom::Before(at(NUMBER_MAX)), 1)),
        ),
        (r#"{"type":"presence","id":0,"channel":"聊天"}"#, hub(id(0), Command::Presence { channel: name("聊天") })),
        (
            r#"{"type":"signal","channel":"c","event":"typing","data":true,"to":"00000000000000ff"}"#,
            hub(None, Command::Signal(Box::new(signal(json("true"), Some(ClientId(255)))))),
        ),
        (
            r#"{"type":"signal","channel":"c","event":"typing","data":null}"#,
            hub(None, Command::Signal(Box::new(signal(json("null"), None)))),
        ),
        (
            r#"{"type":"presence_set","channel":"c","data":{"name":"Ada"}}"#,
            hub(None, Command::PresenceSet { channel: name("c"), data: json(r#"{"name":"Ada"}"#), person: None }),
        ),
        (r#"{"type":"presence_clear","channel":"c"}"#, hub(None, Command::PresenceClear { channel: name("c") })),
        (r#"{"type":"refresh","id":4,"token":"t"}"#, hub(id(4), Command::Refresh { token: "t".into() })),
        (
            r#"{"type":"rpc","id":5,"method":"quote","data":[1]}"#,
            hub(id(5), Command::Rpc { method: "quote".into(), data: json("[1]") }),
        ),
        (r#"{"type":"disconnect","id":4}"#, hub(id(4), Command::Disconnect)),
        (r#"{"type":"pong"}"#, hub(None, Command::Pong)),
    ]
}

#[test]
fn commands_are_read_and_written() {
    for (text, decoded) in commands() {
        assert_eq!(one(text), decoded, "{text}");
        let mut out = Vec::new();
        client::encode(&mut out, &request_of(&decoded));
        assert_eq!(String::from_utf8(out).unwrap(), text);
    }
}

#[test]
fn an_array_is_its_commands_in_order() {
    let (texts, decoded): (Vec<_>, Vec<_>) = commands().into_iter().unzip();
    assert_eq!(all(&format!(" [{}]\n", texts.join(" ,\r\n"))), decoded);
    assert_eq!(all("[]"), []);
}

/// Other forms of the same command.
#[test]
fn readers_are_lenient_where_nothing_is_ambiguous() {
    let rows: &[(&str, &str)] = &[
        (r#" { "type" : "pong" , "x":{"type":1},"x":2 } "#, r#"{"type":"pong"}"#),
        (r#"{"\u0074ype":"po\u006eg"}"#, r#"{"type":"pong"}"#),
        (r#"{"type":"unsubscribe","id":null,"channel":"\u804a"}"#, r#"{"type":"unsubscribe","channel":"聊"}"#),
        (
            r#"{"type":"publish","channel":"c","data64":"AP8","idempotency_key":null}"#,
            r#"{"type":"publish","channel":"c","data64":"AP8="}"#,
        ),
        (r#"{"type":"history","channel":"c"}"#, r#"{"type":"history","channel":"c","limit":100}"#),
        (
            r#"{"type":"signal","channel":"c","event":"e"}"#,
            r#"{"type":"signal","channel":"c","event":"e","data":null}"#,
        ),
        (r#"{"type":"presence_set","channel":"c"}"#, r#"{"type":"presence_set","channel":"c","data":null}"#),
        (r#"{"type":"rpc","method":"m"}"#, r#"{"type":"rpc","method":"m","data":null}"#),
        (
            r#"{"type":"subscribe","channel":"c","slow":null,"batch":{"delay":50},"channels":null}"#,
            r#"{"type":"subscribe","channel":"c","batch":{"size":200,"delay":50}}"#,
        ),
        (
            "{\"type\":\"publish\",\"channel\":\"c\",\"data\":[1,\r\n2]}",
            r#"{"type":"publish","channel":"c","data":[1,  2]}"#,
        ),
    ];
    for (text, same) in rows {
        assert_eq!(one(text), one(same), "{text}");
    }
    // Another server's epoch is another epoch, not an error.
    let text = r#"{"type":"history","channel":"c","since":{"epoch":"never ours","offset":1}}"#;
    let Decoded::Request(Request { command: Command::History { query, .. }, .. }) = one(text) else { panic!() };
    assert_eq!(query.from, HistoryFrom::Since(Position { epoch: Epoch(0), offset: 1 }));
}

/// JSON that serde_json's own values would refuse is passed on as it came.
#[test]
fn payloads_are_kept_as_they_came() {
    let text = r#"{"\ud800":0,"type":"publish","channel":"c","data":1}"#;
    assert!(matches!(one(text), Decoded::Request(Request { command: Command::Publish(_), .. })), "a key is no payload");
    for data in [r#""\ud800""#, "1e9999", "-0", "0.10", r#"{"a":1,"a":2}"#, r#""\u0000\/""#, &nested(64)] {
        let text = format!(r#"{{"type":"publish","channel":"c","data":{data}}}"#);
        let Decoded::Request(Request { command: Command::Publish(publish), .. }) = all_of(&text).remove(0) else {
            panic!("{text}")
        };
        assert_eq!(publish.data, Data::Json(Bytes::copy_from_slice(data.as_bytes())));
    }
}

fn nested(depth: usize) -> String {
    "[".repeat(depth) + &"]".repeat(depth)
}

/// With room for large payloads.
pub(super) fn all_of(text: &str) -> Vec<Decoded> {
    let mut out = Vec::new();
    decode(text, &Limits::default(), &mut out);
    out
}

#[test]
fn refusals_name_field_limit_and_value() {
    use ErrorCode::*;
    let long = "x".repeat(65);
    let epoch = "e".repeat(33);
    let channel = "c".repeat(256);
    let data = "1".repeat(101);
    let data64 = "A".repeat(136);
    let deep = nested(65);
    let rows: Vec<(String, ErrorCode, &str)> = vec![
        // The message.
        ("".into(), BadRequest, "the message is not JSON: EOF"),
        ("{".into(), BadRequest, "the message is not JSON: EOF"),
        ("nonsense".into(), BadRequest, "the message is not JSON"),
        ("7".into(), BadRequest, "the message is not an object: invalid type: integer `7`, expected a JSON object"),
        ("\"pong\"".into(), BadRequest, "the message is not an object"),
        (r#"{"type":"pong"} {}"#.into(), BadRequest, "the message is not JSON: trailing characters"),
        (r#"{"\ud800":1}"#.into(), BadRequest, "`type` is missing"),
        ("{\"\\ud800\n\":1}".into(), BadRequest, "the message is not JSON: control character"),
        (r#"{"\ud80":1}"#.into(), BadRequest, "the message is not JSON: invalid escape"),
        (
            "\u{feff}\u{feff}{}".into(),
            BadRequest,
            "the message is not JSON: expected value at line 1 column 1 (it begins with",
        ),
        ("[1,".into(), BadRequest, "the message is not JSON"),
        (nested(100_000), BadRequest, "the message is not an object"),
        (format!("[{}]", vec!["{}"; 33].join(",")), TooLarge, "an array of 33 commands exceeds the limit of 32"),
        ("{}".into(), BadRequest, "`type` is missing"),
        (r#"{"type":null}"#.into(), BadRequest, "`type` is missing"),
        (r#"{"type":7}"#.into(), BadRequest, "`type` must be a text, not 7"),
        (r#"{"type":"shout"}"#.into(), UnknownCommand, "there is no command of type \"shout\""),
        // Twice.
        (r#"{"type":"pong","type":"pong"}"#.into(), BadRequest, "`type` occurs twice in one object"),
        (r#"{"type":"pong","\u0074ype":"pong"}"#.into(), BadRequest, "`type` occurs twice in one object"),
        (
            r#"{"type":"history","channel":"c","since":{"epoch":"","offset":1,"offset":2}}"#.into(),
            BadRequest,
            "`since.offset` occurs twice in one object",
        ),
        // Channels.
        (r#"{"type":"unsubscribe"}"#.into(), BadRequest, "`channel` is missing"),
        (r#"{"type":"presence","channel":["c"]}"#.into(), BadRequest, "`channel` must be a text, not an array"),
        (r#"{"type":"presence","channel":"\ud800"}"#.into(), BadRequest, "`channel` is not Unicode text"),
        (
            r#"{"type":"presence","channel":"a:*"}"#.into(),
            BadRequest,
            "`channel` is not a channel name: a channel name cannot hold '*'",
        ),
        (format!(r#"{{"type":"presence","channel":"{channel}"}}"#), TooLarge, "of 256 bytes exceeds the limit of 255"),
        // Subscribe.
        (r#"{"type":"subscribe"}"#.into(), BadRequest, "`channel` is missing"),
        (r#"{"type":"subscribe","channels":{}}"#.into(), BadRequest, "`channels` must be an array, not an object"),
        (r#"{"type":"subscribe","channels":["c"]}"#.into(), BadRequest, "`channels[0]` must be an object, not \"c\""),
        (
            r#"{"type":"subscribe","channels":[{"channel":"c"},{}]}"#.into(),
            BadRequest,
            "`channels[1].channel` is missing",
        ),
        (r#"{"type":"subscribe","channel":"c","channels":[]}"#.into(), BadRequest, "`channels` and `channel` are in"),
        (
            format!(r#"{{"type":"subscribe","channels":[{}]}}"#, ["{}"; 4].join(",")),
            LimitExceeded,
            "`channels` of 4 entries exceeds the limit of 3",
        ),
        (r#"{"type":"subscribe","channel":"c","since":7}"#.into(), BadRequest, "`since` must be an object, not 7"),
        (r#"{"type":"subscribe","channel":"c","since":{"offset":7}}"#.into(), BadRequest, "`since.epoch` is missing"),
        (
            r#"{"type":"subscribe","channel":"c","since":{"epoch":7,"offset":7}}"#.into(),
            BadRequest,
            "`since.epoch` must be a text, not 7",
        ),
        (
            format!(r#"{{"type":"subscribe","channel":"c","since":{{"epoch":"{epoch}","offset":7}}}}"#),
            TooLarge,
            "`since.epoch` of 33 bytes exceeds the limit of 32",
        ),
        (r#"{"type":"subscribe","channel":"c","since":{"epoch":""}}"#.into(), BadRequest, "`since.offset` is missing"),
        (
            r#"{"type":"subscribe","channel":"c","recent":-1}"#.into(),
            BadRequest,
            "`recent` must be an integer from 0 to",
        ),
        (
            r#"{"type":"subscribe","channel":"c","recent":4294967296}"#.into(),
            BadRequest,
            "`recent` must be an integer from 0 to 4294967295, not 4294967296",
        ),
        (
            r#"{"type":"subscribe","channel":"c","presence":1}"#.into(),
            BadRequest,
            "`presence` must be true or false, not 1",
        ),
        (r#"{"type":"subscribe","channel":"c","signals":"no"}"#.into(), BadRequest, "`signals` must be true or false"),
        (
            r#"{"type":"subscribe","channel":"c","slow":"down"}"#.into(),
            BadRequest,
            r#"`slow` must be "pull", "latest" or "disconnect", not "down""#,
        ),
        (
            r#"{"type":"subscribe","channel":"c","batch":{"size":0}}"#.into(),
            BadRequest,
            "`batch.size` must be an integer from 1 to 200, not 0",
        ),
        (
            r#"{"type":"subscribe","channel":"c","batch":{"delay":10001}}"#.into(),
            BadRequest,
            "`batch.delay` must be an integer from 0 to 10000, not 10001",
        ),
        (r#"{"type":"subscribe","channel":"c","batch":{"size":5}}"#.into(), BadRequest, "`batch.delay` is missing"),
        (
            r#"{"type":"subscribe","channel":"c","batch":true}"#.into(),
            BadRequest,
            "`batch` must be an object, not true",
        ),
        // Connect, refresh.
        (r#"{"type":"connect","token":1}"#.into(), BadRequest, "`token` must be a text, not 1"),
        (r#"{"type":"connect","ticket":{}}"#.into(), BadRequest, "`ticket` must be a text, not an object"),
        (r#"{"type":"connect","page":7}"#.into(), BadRequest, "`page` must be a text, not 7"),
        (r#"{"type":"connect","page":""}"#.into(), BadRequest, "`page` must be a text of 1 to 64 bytes, not of 0"),
        (
            format!(r#"{{"type":"connect","page":"{}"}}"#, "p".repeat(65)),
            BadRequest,
            "`page` must be a text of 1 to 64 bytes, not of 65",
        ),
        (r#"{"type":"connect","subscribe":"c"}"#.into(), BadRequest, "`subscribe` must be an array, not \"c\""),
        (
            r#"{"type":"connect","subscribe":[{"channel":"c","since":{"epoch":"","offset":-1}}]}"#.into(),
            BadRequest,
            "`subscribe[0].since.offset` must be an integer from 0 to 9007199254740991, not -1",
        ),
        (r#"{"type":"refresh"}"#.into(), BadRequest, "`token` is missing"),
        // Publish.
        (r#"{"type":"publish","channel":"c"}"#.into(), BadRequest, "`data` is missing, and `data64` too"),
        (r#"{"type":"publish","channel":"c","data":1,"data64":""}"#.into(), BadRequest, "`data` and `data64` are in"),
        (r#"{"type":"publish","channel":"c","data64":7}"#.into(), BadRequest, "`data64` must be a text, not 7"),
        (r#"{"type":"publish","channel":"c","data64":"*"}"#.into(), BadRequest, "`data64` is not base64"),
        (
            format!(r#"{{"type":"publish","channel":"c","data":{data}}}"#),
            TooLarge,
            "`data` of 101 bytes exceeds the limit of 100",
        ),
        (
            format!(r#"{{"type":"publish","channel":"c","data64":"{data64}"}}"#),
            TooLarge,
            "`data64` of 102 bytes exceeds the limit of 100",
        ),
        (
            format!(r#"{{"type":"publish","channel":"c","data64":"{}"}}"#, data64.repeat(9)),
            TooLarge,
            "exceeds the limit of 100",
        ),
        (
            format!(r#"{{"type":"publish","channel":"c","data":{deep}}}"#).replace("100", "1"),
            TooLarge,
            "`data` nested 65 levels",
        ),
        (
            r#"{"type":"publish","channel":"c","data":1,"event":""}"#.into(),
            BadRequest,
            "`event` of 0 bytes is too short",
        ),
        (
            format!(r#"{{"type":"publish","channel":"c","data":1,"event":"{long}"}}"#),
            TooLarge,
            "`event` of 65 bytes exceeds the limit of 64",
        ),
        (
            r#"{"type":"publish","channel":"c","data":1,"event":"a\nb"}"#.into(),
            BadRequest,
            r"`event` cannot hold '\n' (at byte 1)",
        ),
        (r#"{"type":"publish","channel":"c","data":1,"event":"a\"b"}"#.into(), BadRequest, "`event` cannot hold '\"'"),
        (r#"{"type":"publish","channel":"c","data":1,"event":"a\\b"}"#.into(), BadRequest, r"`event` cannot hold '\\'"),
        (
            r#"{"type":"publish","channel":"c","data":1,"idempotency_key":""}"#.into(),
            BadRequest,
            "`idempotency_key` of 0 bytes is too short",
        ),
        (
            r#"{"type":"publish","channel":"c","data":1,"idempotency_key":1}"#.into(),
            BadRequest,
            "`idempotency_key` must be a text, not 1",
        ),
        (
            format!(r#"{{"type":"publish","channel":"c","data":1,"idempotency_key":"{long}"}}"#),
            TooLarge,
            "`idempotency_key` of 65 bytes exceeds the limit of 64",
        ),
        (
            r#"{"type":"publish","channel":"c","data":1,"echo":0}"#.into(),
            BadRequest,
            "`echo` must be true or false, not 0",
        ),
        (
            r#"{"type":"publish","channel":"c","data":1,"key":"k"}"#.into(),
            BadRequest,
            "`key` is reserved; the idempotency key is `idempotency_key`",
        ),
        // History.
        (
            r#"{"type":"history","channel":"c","limit":0}"#.into(),
            BadRequest,
            "`limit` must be an integer from 1 to 1000, not 0",
        ),
        (
            r#"{"type":"history","channel":"c","limit":1001}"#.into(),
            BadRequest,
            "`limit` must be an integer from 1 to 1000, not 1001",
        ),
        (
            r#"{"type":"history","channel":"c","limit":1.5}"#.into(),
            BadRequest,
            "`limit` must be an integer from 1 to 1000, not 1.5",
        ),
        (
            r#"{"type":"history","channel":"c","since":{"epoch":"","offset":1},"before":{"epoch":"","offset":1}}"#
                .into(),
            BadRequest,
            "`since` and `before` are in one `history`",
        ),
        // Signal, rpc.
        (r#"{"type":"signal","channel":"c"}"#.into(), BadRequest, "`event` is missing"),
        (r#"{"type":"signal","channel":"c","event":"e","to":"me"}"#.into(), BadRequest, "`to` must be a client's id"),
        (format!(r#"{{"type":"signal","channel":"c","event":"e","data":{data}}}"#), TooLarge, "`data` of 101 bytes"),
        (format!(r#"{{"type":"presence_set","channel":"c","data":{data}}}"#), TooLarge, "`data` of 101 bytes"),
        (r#"{"type":"rpc"}"#.into(), BadRequest, "`method` is missing"),
        (r#"{"type":"rpc","method":""}"#.into(), BadRequest, "`method` of 0 bytes is too short"),
        (
            format!(r#"{{"type":"rpc","method":"m","data":{data}}}"#),
            TooLarge,
            "`data` of 101 bytes exceeds the limit of 100",
        ),
    ];
    for (text, code, message) in rows {
        // 130 brackets are over the small limit of the others.
        let refused = if text.contains("[[[[") { all_of(&text).remove(0) } else { one(&text) };
        let Decoded::Request(Request { command: Command::Invalid(error), .. }) = refused else {
            panic!("{text} was understood")
        };
        assert!(error.message.contains(message), "{text:.200}\n{:?} does not contain {message:?}", error.message);
        assert_eq!(error.code, code, "{text:.200}");
        assert!(error.message.len() < 300, "{}", error.message);
    }
}

/// A server that ignored one of them would answer as if it had done what was asked.
#[test]
fn reserved_fields_are_refused_wherever_they_may_stand_later() {
    let places = [
        ("", r#"{"type":"publish","id":1,"channel":"c","data":1,"NAME":VALUE}"#),
        ("", r#"{"type":"publish","id":1,"channel":"c","data64":"AA==","NAME":VALUE}"#),
        ("", r#"{"type":"subscribe","id":1,"channel":"c","NAME":VALUE}"#),
        ("channels[1].", r#"{"type":"subscribe","id":1,"channels":[{"channel":"c"},{"channel":"d","NAME":VALUE}]}"#),
        ("subscribe[0].", r#"{"type":"connect","id":1,"subscribe":[{"channel":"c","NAME":VALUE}]}"#),
        ("", r#"{"type":"history","id":1,"channel":"c","NAME":VALUE}"#),
    ];
    assert_eq!(
        reserved_fields().collect::<Vec<_>>(),
        ["key", "op", "if", "version", "tags", "filter", "state"],
        "each is documented"
    );
    for name in reserved_fields() {
        for (place, text) in places {
            let text = text.replace("NAME", name);
            for value in ["1", "false", "\"\"", "{}", "[]"] {
                let text = text.replace("VALUE", value);
                let (found, error) = refusal(&text);
                assert_eq!((found, error.code), (id(1), ErrorCode::BadRequest), "{text}");
                let expected = format!("`{place}{name}` is reserved");
                assert!(error.message.starts_with(&expected), "{text}: {}", error.message);
            }
            let absent = text.replace("VALUE", "null");
            assert!(
                !matches!(one(&absent), Decoded::Request(Request { command: Command::Invalid(_), .. })),
                "`null` is the same as leaving it out: {absent}"
            );
        }
        let array = format!(r#"[{{"type":"pong"}},{{"type":"publish","id":2,"channel":"c","data":1,"{name}":1}}]"#);
        let found = all(&array);
        assert_eq!(found[0], hub(None, Command::Pong));
        assert!(
            matches!(&found[1], Decoded::Request(Request { command: Command::Invalid(e), .. }) if e.message.contains("is reserved")),
            "{array}"
        );
    }
    let elsewhere = r#"{"type":"signal","channel":"c","event":"e","key":1,"tags":1,"state":1}"#;
    assert_eq!(one(elsewhere), one(r#"{"type":"signal","channel":"c","event":"e"}"#), "unknown fields are ignored");
}

#[test]
fn offsets_are_what_a_javascript_number_holds() {
    for offset in
        ["-1", "-0", "0.5", "1.01", "1e3", "1.0e3", "9007199254740992", "1e9999", "\"1\"", "[]", "18446744073709551616"]
    {
        let text = format!(r#"{{"type":"history","id":1,"channel":"c","since":{{"epoch":"","offset":{offset}}}}}"#);
        let (id_found, error) = refusal(&text);
        assert_eq!(id_found, id(1));
        let expected = "`since.offset` must be an integer from 0 to 9007199254740991, not ";
        assert!(error.message.starts_with(expected), "{}", error.message);
    }
}

#[test]
fn ids_are_bounded_and_found() {
    for wrong in ["-1", "1.5", "9007199254740992", "true", "{}", &format!("\"{}\"", "x".repeat(65)), "1e9999"] {
        let (id, error) = refusal(&format!(r#"{{"type":"pong","id":{wrong}}}"#));
        assert_eq!(id, None);
        assert!(error.message.starts_with("`id` "), "{}", error.message);
    }
    let long = "x".repeat(64);
    let (found, _) = refusal(&format!(r#"{{"type":"shout","id":"{long}"}}"#));
    assert_eq!(found, Some(RequestId::Text(long.into())));
    let (found, error) = refusal(r#"{"type":"publish","id":9,"channel":"c"}"#);
    assert_eq!((found, error.channel), (id(9), Some(name("c"))), "the channel is told where it could be read");
    assert_eq!(refusal(r#"{"type":"pong","id":8,"type":"pong"}"#).0, id(8), "a duplicate elsewhere does not hide it");
}

#[test]
fn a_bad_element_spoils_only_itself() {
    let found = all(r#"[{"type":"pong"},7,{"type":"shout","id":1},{"type":"presence","id":2,"channel":"c"}]"#);
    assert_eq!(found.len(), 4);
    assert_eq!(found[0], hub(None, Command::Pong));
    assert!(matches!(&found[1], Decoded::Request(Request { id: None, command: Command::Invalid(_) })));
    assert!(
        matches!(&found[2], Decoded::Request(Request { id: Some(_), command: Command::Invalid(e) }) if e.code == ErrorCode::UnknownCommand)
    );
    assert_eq!(found[3], hub(id(2), Command::Presence { channel: name("c") }));
}

/// RFC 8259 §8.1: a parser may ignore a byte order mark, and this one does, once.
#[test]
fn a_byte_order_mark_before_a_message_is_ignored() {
    assert_eq!(all("\u{feff}{\"type\":\"pong\"}"), [hub(None, Command::Pong)]);
    assert_eq!(all("\u{feff}[{\"type\":\"pong\"}]"), [hub(None, Command::Pong)]);
}
