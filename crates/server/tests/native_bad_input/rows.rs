//! The table of commands that are refused in every state: every field of every command with every value of a wrong
//! type, values beyond each limit, and messages that are not commands.

use crate::support::native::command;
use serde_json::{Value, json};

/// The channel of all rows.
pub(crate) const ROOM: &str = "chat:room";

/// A command that is refused.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) code: &'static str,
    /// The error's sentence must name these: field, limit, value.
    pub(crate) names: Vec<String>,
    /// The error's fields about its command: `id` if it could be read, `channel` if it is a valid one.
    pub(crate) id: Value,
    pub(crate) channel: Option<&'static str>,
}

/// The types of fields, and values of other types: as JSON, and as the sentence shows them.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Text,
    Number,
    Flag,
    Object,
    Array,
}

impl Kind {
    fn wrong(self) -> &'static [(&'static str, &'static str)] {
        const TEXT: &[(&str, &str)] = &[("7", "7"), ("true", "true"), ("[]", "an array"), ("{}", "an object")];
        const NUMBER: &[(&str, &str)] = &[
            ("\"7\"", "\"7\""),
            ("-1", "-1"),
            ("1.5", "1.5"),
            ("1e3", "1e3"),
            ("9007199254740992", "9007199254740992"),
            ("123456789012345678901234567890", "123456789012345678901234567890"),
            ("true", "true"),
            ("[1]", "an array"),
            ("{}", "an object"),
        ];
        const FLAG: &[(&str, &str)] =
            &[("\"true\"", "\"true\""), ("1", "1"), ("0", "0"), ("[]", "an array"), ("{}", "an object")];
        const OBJECT: &[(&str, &str)] = &[("7", "7"), ("\"x\"", "\"x\""), ("[]", "an array"), ("true", "true")];
        const ARRAY: &[(&str, &str)] = &[("7", "7"), ("\"x\"", "\"x\""), ("{}", "an object"), ("true", "true")];
        match self {
            Kind::Text => TEXT,
            Kind::Number => NUMBER,
            Kind::Flag => FLAG,
            Kind::Object => OBJECT,
            Kind::Array => ARRAY,
        }
    }
}

/// A field: its place, its type, and whether the command needs it.
type Field = (&'static str, Kind, bool);

/// Every command, whole, with its fields.
pub(crate) fn commands() -> Vec<(Value, Vec<Field>)> {
    use Kind::{Array, Flag, Number, Object, Text};
    let position = json!({"epoch": "e", "offset": 1});
    vec![
        (
            json!({"type": "connect", "token": "t", "ticket": "t", "page": "p", "subscribe": [
                {"channel": ROOM, "since": position, "recent": 1, "presence": true, "signals": true}
            ]}),
            vec![
                ("/token", Text, false),
                ("/ticket", Text, false),
                ("/page", Text, false),
                ("/subscribe", Array, false),
                ("/subscribe/0/channel", Text, true),
                ("/subscribe/0/since", Object, false),
                ("/subscribe/0/since/epoch", Text, true),
                ("/subscribe/0/since/offset", Number, true),
                ("/subscribe/0/recent", Number, false),
                ("/subscribe/0/presence", Flag, false),
                ("/subscribe/0/signals", Flag, false),
            ],
        ),
        (
            json!({"type": "subscribe", "channel": ROOM, "since": position, "recent": 1, "presence": true, "signals": true,
                "batch": {"size": 1, "delay": 1}, "slow": "pull"}),
            vec![
                ("/channel", Text, true),
                ("/since", Object, false),
                ("/since/epoch", Text, true),
                ("/since/offset", Number, true),
                ("/recent", Number, false),
                ("/presence", Flag, false),
                ("/signals", Flag, false),
                ("/batch", Object, false),
                ("/batch/size", Number, false),
                ("/batch/delay", Number, false),
                ("/slow", Text, false),
            ],
        ),
        (
            json!({"type": "subscribe", "channels": [{"channel": "chat:other"}, {"channel": ROOM, "since": position, "recent": 1}]}),
            vec![
                ("/channels", Array, false),
                ("/channels/1", Object, false),
                ("/channels/1/channel", Text, true),
                ("/channels/1/since", Object, false),
                ("/channels/1/since/epoch", Text, true),
                ("/channels/1/since/offset", Number, true),
                ("/channels/1/recent", Number, false),
            ],
        ),
        (json!({"type": "unsubscribe", "channel": ROOM}), vec![("/channel", Text, true)]),
        (
            json!({"type": "publish", "channel": ROOM, "data": 1, "event": "e", "idempotency_key": "k", "echo": true}),
            vec![
                ("/channel", Text, true),
                ("/data", Text, true), // any JSON is valid; only its absence is an error
                ("/event", Text, false),
                ("/idempotency_key", Text, false),
                ("/echo", Flag, false),
            ],
        ),
        (json!({"type": "publish", "channel": ROOM, "data64": "AA=="}), vec![("/data64", Text, false)]),
        (
            json!({"type": "history", "channel": ROOM, "since": position, "limit": 1}),
            vec![
                ("/channel", Text, true),
                ("/since", Object, false),
                ("/since/epoch", Text, true),
                ("/since/offset", Number, true),
                ("/limit", Number, false),
            ],
        ),
        (
            json!({"type": "history", "channel": ROOM, "before": position}),
            vec![("/before", Object, false), ("/before/epoch", Text, true), ("/before/offset", Number, true)],
        ),
        (json!({"type": "presence", "channel": ROOM}), vec![("/channel", Text, true)]),
        (
            json!({"type": "signal", "channel": ROOM, "event": "e", "data": 1, "to": "0000000000000000"}),
            vec![("/channel", Text, true), ("/event", Text, true), ("/to", Text, false)],
        ),
        (json!({"type": "presence_set", "channel": ROOM, "data": 1}), vec![("/channel", Text, true)]),
        (json!({"type": "presence_clear", "channel": ROOM}), vec![("/channel", Text, true)]),
        (json!({"type": "refresh", "token": "t"}), vec![("/token", Text, true)]),
        (json!({"type": "rpc", "method": "m", "data": 1}), vec![("/method", Text, true)]),
    ]
}

/// `/subscribe/0/channel` in the form of the sentence: `subscribe[0].channel`.
fn spoken(pointer: &str) -> String {
    let mut name = String::from("`");
    for part in pointer.split('/').skip(1) {
        match part.parse::<usize>() {
            Ok(index) => name.push_str(&format!("[{index}]")),
            Err(_) if name.len() > 1 => name.push_str(&format!(".{part}")),
            Err(_) => name.push_str(part),
        }
    }
    name + "`"
}

/// Every field of every command, with each value of a wrong type, and absent if it is required.
pub(crate) fn mistyped() -> Vec<Row> {
    const MARK: &str = "THE-WRONG-VALUE";
    let mut rows = Vec::new();
    for (mut whole, fields) in commands() {
        whole["id"] = json!(7);
        for (pointer, kind, needed) in fields {
            let channel = (pointer != "/channel" && whole.get("channel").is_some()).then_some(ROOM);
            let mut row = |what: &str, text: String, names: Vec<String>| {
                let name = format!("{} {pointer} {what}", whole["type"]);
                rows.push(Row { name, text, code: "bad_request", names, id: json!(7), channel });
            };
            if pointer != "/data" {
                for (wrong, shown) in kind.wrong() {
                    let mut command = whole.clone();
                    *command.pointer_mut(pointer).expect("it is there") = json!(MARK);
                    let text = command.to_string().replace(&format!("\"{MARK}\""), wrong);
                    row(wrong, text, vec![spoken(pointer), format!("not {shown}")]);
                }
            }
            if needed {
                let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
                for value in [None, Some(Value::Null)] {
                    if pointer == "/data" && value.is_some() {
                        continue; // `null` is a payload
                    }
                    let mut command = whole.clone();
                    let object = command.pointer_mut(parent).and_then(Value::as_object_mut).expect("an object");
                    object.remove(field);
                    let what = if value.is_some() { "null" } else { "absent" };
                    object.extend(value.map(|value| (field.to_owned(), value)));
                    row(what, command.to_string(), vec![spoken(pointer), "is missing".to_owned()]);
                }
            }
        }
    }
    rows
}

pub(crate) fn nested(depth: usize) -> String {
    "[".repeat(depth) + &"]".repeat(depth)
}

pub(crate) fn row(name: &str, text: String, code: &'static str, names: &[&str]) -> Row {
    let names = names.iter().map(|&name| name.to_owned()).collect();
    Row { name: name.to_owned(), text, code, names, id: json!(7), channel: None }
}

/// Values of the right type that exceed a limit, and messages that are not commands.
pub(crate) fn beyond() -> Vec<Row> {
    let text = |len: usize| "x".repeat(len);
    let channels = |count: usize| (0..count).map(|n| json!({"channel": format!("c:{n}")})).collect::<Vec<_>>();
    let of = |kind: &str, fields: Value| command(kind, fields, &json!(7)).to_string();
    let in_room = |kind: &str, mut fields: Value| {
        fields["channel"] = ROOM.into();
        command(kind, fields, &json!(7)).to_string()
    };
    let raw = |kind: &str, rest: String| format!(r#"{{"type":"{kind}","id":7,"channel":"{ROOM}",{rest}}}"#);
    let mut rows = vec![
        // Names.
        row(
            "an event of 65 bytes",
            in_room("publish", json!({"data": 1, "event": text(65)})),
            "too_large",
            &["`event`", "65", "64"],
        ),
        row(
            "an empty event",
            in_room("publish", json!({"data": 1, "event": ""})),
            "bad_request",
            &["`event`", "0 bytes", "64"],
        ),
        row(
            "an event with a line break",
            in_room("signal", json!({"event": "a\nb"})),
            "bad_request",
            &["`event`", "'\\n'"],
        ),
        row(
            "an event of a signal of 40,000 bytes",
            in_room("signal", json!({"event": text(40_000)})),
            "too_large",
            &["`event`", "40000", "64"],
        ),
        row(
            "a key of 65 bytes",
            in_room("publish", json!({"data": 1, "idempotency_key": text(65)})),
            "too_large",
            &["`idempotency_key`", "65", "64"],
        ),
        row(
            "an empty key",
            in_room("publish", json!({"data": 1, "idempotency_key": ""})),
            "bad_request",
            &["`idempotency_key`", "0 bytes", "64"],
        ),
        row(
            "the idempotency key by its former name",
            in_room("publish", json!({"data": 1, "key": "k"})),
            "bad_request",
            &["`key` is reserved", "`idempotency_key`"],
        ),
        row(
            "a filter, which is reserved",
            in_room("subscribe", json!({"filter": {"all": []}})),
            "bad_request",
            &["`filter` is reserved"],
        ),
        row("a method of 65 bytes", of("rpc", json!({"method": text(65)})), "too_large", &["`method`", "65", "64"]),
        row(
            "an epoch of 33 bytes",
            in_room("subscribe", json!({"since": {"epoch": text(33), "offset": 1}})),
            "too_large",
            &["`since.epoch`", "33", "32"],
        ),
        row(
            "an unknown way to be slow",
            in_room("subscribe", json!({"slow": "asleep"})),
            "bad_request",
            &["`slow`", "asleep", "pull", "latest", "disconnect"],
        ),
        row(
            "a client id that is none",
            in_room("signal", json!({"event": "e", "to": "nobody!"})),
            "bad_request",
            &["`to`", "nobody!"],
        ),
        row(
            "a client id of 50,000 bytes",
            in_room("signal", json!({"event": "e", "to": text(50_000)})),
            "bad_request",
            &["`to`", "xxx"],
        ),
        // Numbers.
        row(
            "a limit of 0",
            in_room("history", json!({"limit": 0})),
            "bad_request",
            &["`limit`", "from 1 to 1000", "not 0"],
        ),
        row(
            "a limit of 1001",
            in_room("history", json!({"limit": 1001})),
            "bad_request",
            &["`limit`", "from 1 to 1000", "not 1001"],
        ),
        row(
            "a batch of 0",
            in_room("subscribe", json!({"batch": {"size": 0}})),
            "bad_request",
            &["`batch.size`", "1 to 200", "not 0"],
        ),
        row(
            "a batch of 201",
            in_room("subscribe", json!({"batch": {"size": 201}})),
            "bad_request",
            &["`batch.size`", "1 to 200", "201"],
        ),
        row(
            "a batch of 11 s",
            in_room("subscribe", json!({"batch": {"delay": 11_000}})),
            "bad_request",
            &["`batch.delay`", "10000", "11000"],
        ),
        row(
            "more recent than a number holds",
            in_room("subscribe", json!({"recent": 1_u64 << 32})),
            "bad_request",
            &["`recent`", "4294967295", "4294967296"],
        ),
        // Payloads.
        row("no payload", in_room("publish", json!({})), "bad_request", &["`data`", "`data64`"]),
        row(
            "two payloads",
            in_room("publish", json!({"data": 1, "data64": "AA=="})),
            "bad_request",
            &["`data`", "`data64`", "one of them"],
        ),
        row("no base64", in_room("publish", json!({"data64": "***"})), "bad_request", &["`data64`", "base64"]),
        row(
            "a payload of 65,537 bytes",
            in_room("publish", json!({"data": text(65_535)})),
            "too_large",
            &["`data`", "65537", "65536"],
        ),
        row(
            "65,537 bytes as base64",
            in_room("publish", json!({"data64": text(87_384)})),
            "too_large",
            &["`data64`", "65538", "65536"],
        ),
        row(
            "a signal of 65,537 bytes",
            in_room("signal", json!({"event": "e", "data": text(65_535)})),
            "too_large",
            &["`data`", "65537", "65536"],
        ),
        row(
            "presence of 4,097 bytes",
            in_room("presence_set", json!({"data": text(4_095)})),
            "too_large",
            &["`data`", "4097", "4096"],
        ),
        row(
            "publish 65 levels",
            raw("publish", format!("\"data\":{}", nested(65))),
            "too_large",
            &["`data`", "65 levels", "64"],
        ),
        row(
            "signal 65 levels",
            raw("signal", format!("\"event\":\"e\",\"data\":{}", nested(65))),
            "too_large",
            &["`data`", "65 levels", "64"],
        ),
        row(
            "presence 65 levels",
            raw("presence_set", format!("\"data\":{}", nested(65))),
            "too_large",
            &["`data`", "65 levels", "64"],
        ),
        row(
            "rpc 65 levels",
            raw("rpc", format!("\"method\":\"m\",\"data\":{}", nested(65))),
            "too_large",
            &["`data`", "65 levels", "64"],
        ),
        row(
            "publish 30,000 levels",
            raw("publish", format!("\"data\":{}", nested(30_000))),
            "too_large",
            &["`data`", "30000 levels", "64"],
        ),
        row(
            "levels that are not closed",
            raw("publish", format!("\"data\":{}", "[".repeat(60_000))),
            "bad_request",
            &["JSON"],
        ),
        // Lists.
        row(
            "129 channels",
            of("subscribe", json!({"channels": channels(129)})),
            "limit_exceeded",
            &["`channels`", "129", "128"],
        ),
        row(
            "a channel beside channels",
            of("subscribe", json!({"channel": ROOM, "channels": channels(1)})),
            "bad_request",
            &["`channels`", "`channel`"],
        ),
        row(
            "two starts of history",
            in_room("history", json!({"since": {"epoch": "e", "offset": 1}, "before": {"epoch": "e", "offset": 1}})),
            "bad_request",
            &["`since`", "`before`"],
        ),
        row("33 commands", json!(vec![json!({"type": "pong"}); 33]).to_string(), "too_large", &["33", "32"]),
        // Messages.
        row("no type", of("", json!({})).replace(r#","type":"""#, ""), "bad_request", &["`type`", "is missing"]),
        row("a type that is none", r#"{"type":7,"id":7}"#.into(), "bad_request", &["`type`", "a text", "not 7"]),
        row("an empty type", of("", json!({})), "unknown_command", &["\"\""]),
        row("an unknown type", of("shout", json!({})), "unknown_command", &["shout"]),
        row("a type in capitals", of("Publish", json!({"channel": ROOM, "data": 1})), "unknown_command", &["Publish"]),
        row("a type of 50,000 bytes", of(&text(50_000), json!({})), "unknown_command", &["xxx"]),
        row("a field twice", raw("publish", r#""data":1,"data":2"#.into()), "bad_request", &["`data`", "twice"]),
        row(
            "the type twice",
            raw("publish", r#""data":1,"type":"presence""#.into()),
            "bad_request",
            &["`type`", "twice"],
        ),
        row(
            "a lone surrogate",
            raw("publish", r#""data":1,"event":"\ud800""#.into()),
            "bad_request",
            &["`event`", "Unicode"],
        ),
        row("no JSON", "hello".into(), "bad_request", &["JSON"]),
        row("half of a command", r#"{"type":"publish","id":7"#.into(), "bad_request", &["JSON"]),
        row("more than a command", r#"{"type":"pong"} {"type":"pong"}"#.into(), "bad_request", &["JSON"]),
        row("nothing", String::new(), "bad_request", &["JSON"]),
        row("a number", "7".into(), "bad_request", &["object"]),
        row("a text", "\"publish\"".into(), "bad_request", &["object"]),
        row("null", "null".into(), "bad_request", &["object"]),
        row("an array in an array", "[[]]".into(), "bad_request", &["object"]),
        row("an array that is not closed", "[".repeat(60_000), "bad_request", &["JSON"]),
    ];
    for (name, bytes, code) in [("256 bytes", 256, "too_large"), ("60,000 bytes", 60_000, "too_large")] {
        let found = bytes.to_string();
        let channel = json!({"channel": text(bytes), "data": 1, "event": "e"});
        for kind in
            ["subscribe", "unsubscribe", "publish", "history", "presence", "signal", "presence_set", "presence_clear"]
        {
            rows.push(row(
                &format!("{kind}: a channel of {name}"),
                of(kind, channel.clone()),
                code,
                &["`channel`", &found, "255"],
            ));
        }
    }
    for (channel, shown) in [
        ("", "empty"),
        ("a::b", "empty"),
        (":", "empty"),
        ("a b", "' '"),
        ("chat:*", "'*'"),
        ("{user}", "'{'"),
        ("a\u{0}b", "\\0"),
        ("a\u{202e}b", "202e"),
        ("@me", "@"),
        ("$sio:/", "$"),
    ] {
        rows.push(row(
            &format!("the channel {channel:?}"),
            of("publish", json!({"channel": channel, "data": 1})),
            "bad_request",
            &["`channel`", shown],
        ));
    }
    for (wrong, shown) in [
        ("-1", "not -1"),
        ("1.5", "not 1.5"),
        ("9007199254740992", "not 9007199254740992"),
        ("[]", "not an array"),
        ("{}", "not an object"),
        ("true", "not true"),
    ] {
        let text = format!(r#"{{"type":"publish","id":{wrong},"channel":"{ROOM}","data":1}}"#);
        rows.push(row(&format!("the id {wrong}"), text, "bad_request", &["`id`", "9007199254740991", "64", shown]));
    }
    rows.push(row(
        "an id of 65 bytes",
        in_room("publish", json!({"data": 1})).replace("\"id\":7", &format!("\"id\":\"{}\"", text(65))),
        "too_large",
        &["`id`", "65", "64"],
    ));
    for row in &mut rows {
        let unreadable =
            row.names[0] == "JSON" || row.names[0] == "object" || row.names[0] == "`id`" || row.text.starts_with('[');
        if unreadable {
            row.id = Value::Null;
        }
    }
    rows
}

pub(crate) fn check(row: &Row, error: &Value) {
    let Row { name, code, names, id, channel, .. } = row;
    assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!(code)), "{name}: {error}");
    assert_eq!((&error["id"], &error["retryable"]), (id, &json!(false)), "{name}: {error}");
    if let Some(channel) = channel {
        assert_eq!(error["channel"], *channel, "{name}: {error}");
    }
    let message = error["message"].as_str().expect("a sentence");
    for part in names {
        assert!(message.contains(part), "{name}: {message:?} does not name {part}");
    }
    assert!(message.len() < 400, "{name}: a sentence of {} bytes", message.len());
}
