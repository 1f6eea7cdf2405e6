//! Schemas of channels on every way in: what breaks one is refused there, and the rest goes through.

#![allow(clippy::unwrap_used)] // helpers stand outside of `#[test]`; a panic in one fails the test

mod support;

use fanfare::hub::{ErrorCode, Pattern, Rule, Rules};
use fanfare::validation::{Schema, Validation};
use fanfare::{ApiKey, Chat, Config, Fanfare, Publish, SocketIoConfig};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use support::polls::{Poller, post, request};
use support::socketio::{entered, opened};
use support::stream::Stream;
use support::{Client, Server, config, connect, join, patient_chat, response, say};

const API_KEY: &str = "the-key-of-the-application";

/// `chat:*` takes objects with a `content`, and its signals are numbers; elsewhere is no schema.
fn rules(content: &str) -> Rules {
    let schema = json!({"type": "object", "required": ["content"], "properties": {"content": {"type": content}}});
    let signals = json!({"type": "number"});
    let validation = Validation {
        schema: Some(Schema::new(schema).unwrap().into()),
        signal_schema: Some(Schema::new(signals).unwrap().into()),
        ..Validation::default()
    };
    let checked = Rule { check: validation.into_check(), ..Rule::open(Pattern::new("chat:*").unwrap()) };
    Rules::new(vec![checked, Rule::open(Pattern::new("**").unwrap())])
}

fn served() -> Server {
    let socketio =
        SocketIoConfig { enabled: true, bridge: vec![Pattern::new("chat:*").unwrap()], ..SocketIoConfig::default() };
    let settings = Config {
        rules: Arc::new(rules("string")),
        api_keys: vec![ApiKey::new("backend", API_KEY).unwrap()],
        socketio,
        ..config()
    };
    Server::of(Fanfare::builder(()).config(settings).protocol("/", patient_chat()))
}

/// Data, and what is wrong with it.
#[rustfmt::skip]
fn publications() -> Vec<(&'static str, Option<&'static str>)> {
    vec![
        (r#"{"content":"hi","n":1}"#,             None),
        (r#"{"content":7}"#,                      Some(r#"/content: 7 is not of type "string""#)),
        (r#"{}"#,                                 Some(r#"data: "content" is a required property"#)),
        (r#""hi""#,                               Some(r#"data: "hi" is not of type "object""#)),
        (r#"{"content":"a","content":"b"}"#,      Some(r#"the key "content" occurs twice"#)),
        (r#"{"content":"\ud800"}"#,               Some("a text has half a character")),
        (r#"{"content":"a","x":1e400}"#,          Some("number out of range")),
        (r#"{"content":"\ud83d\ude00"}"#,         None),
    ]
}

fn check(name: &str, problem: Option<&str>, answer: &Value) {
    let Some(problem) = problem else {
        assert!(answer["code"].is_null(), "{name}: {answer}");
        return;
    };
    assert_eq!((&answer["code"], &answer["rule"]), (&json!("invalid_data"), &json!("chat:*")), "{name}: {answer}");
    assert!(answer["message"].as_str().unwrap().contains(problem), "{name}: {answer}");
    assert_eq!(answer["retryable"], json!(false), "{name}: {answer}");
}

/// The command as text: the data is not what serde_json would make of it.
fn command(kind: &str, event: &str, data: &str) -> String {
    format!(r#"{{"type":"{kind}","id":1,"channel":"chat:a","event":"{event}","data":{data}}}"#)
}

#[test]
fn native_websockets() {
    let server = served();
    let mut client = Client::native(server.address);
    client.hello(json!({}));
    for (data, problem) in publications() {
        client.text(&command("publish", "e", data));
        check(data, problem, &client.message());
    }
    for (data, problem) in [("1", None), ("[]", Some(r#"data: the list is not of type "number""#))] {
        client.text(&command("signal", "e", data));
        check(data, problem, &client.message());
    }
    let binary = json!({"channel": "chat:a", "data64": "AAEC"});
    check("binary", Some("data: it is binary"), &client.ask("publish", binary));
    let elsewhere = json!({"channel": "other", "data": [7]});
    check("a channel without a schema", None, &client.ask("publish", elsewhere));
}

#[test]
fn sends_of_clients_that_poll_and_of_streams() {
    let server = served();
    let poller = Poller::connect(server.address, json!({}));
    let mut stream = Stream::post(server.address, "/v1/sse", &json!({"type": "connect", "id": 1}).to_string());
    let ticket = stream.message().json()["ticket"].as_str().unwrap().to_owned();
    for (transport, ticket) in [("poll", &poller.ticket), ("stream", &ticket)] {
        for (data, problem) in publications() {
            let body = format!(r#"{{"ticket":"{ticket}","commands":{}}}"#, command("publish", "e", data));
            let answer = raw_post(server.address, "/v1/send", "", &body);
            check(&format!("{transport}: {data}"), problem, &answer.1["replies"][0]);
        }
    }
    let signal = json!({"type": "signal", "id": 1, "channel": "chat:a", "event": "e", "data": "x"});
    let answer = post(server.address, "/v1/send", &json!({"ticket": poller.ticket, "commands": signal}));
    let answer: Value = serde_json::from_str(&answer.body).unwrap();
    check("signal", Some(r#"data: "x" is not of type "number""#), &answer["replies"][0]);
}

fn raw_post(address: SocketAddr, path: &str, headers: &str, body: &str) -> (u16, Value) {
    use std::io::Write as _;
    let mut socket = connect(address);
    socket.write_all(request("POST", path, headers, body).as_bytes()).unwrap();
    let answer = response(&mut socket);
    (answer.status(), serde_json::from_str(&answer.body).unwrap())
}

fn api(address: SocketAddr, command: &str, body: &str) -> (u16, Value) {
    raw_post(address, &format!("/api/v1/{command}"), &format!("Authorization: Bearer {API_KEY}\r\n"), body)
}

/// The schema describes the channel, so it holds for the application too.
#[test]
fn the_http_api() {
    let server = served();
    for (data, problem) in publications() {
        let (status, answer) = api(server.address, "publish", &format!(r#"{{"channel":"chat:a","data":{data}}}"#));
        assert_eq!(status, if problem.is_some() { 422 } else { 200 }, "{data}: {answer}");

        check(data, problem, &answer);
    }
    let (status, answer) = api(server.address, "signal", r#"{"channel":"chat:a","event":"e","data":{}}"#);
    assert_eq!(status, 422, "{answer}");
    check("signal", Some(r#"data: the object is not of type "number""#), &answer);
}

#[test]
fn the_handle_of_a_program() {
    let server = served();
    let handle = server.running().handle();
    let runtime = support::runtime();
    runtime.block_on(async {
        handle.publish("chat:a", &json!({"content": "hi"})).await.expect("it is as the schema has it");
        let error = handle.publish("chat:a", &json!({"content": 1})).await.expect_err("it is not");
        assert_eq!((error.code, error.rule.as_deref()), (ErrorCode::InvalidData, Some("chat:*")), "{error}");
        let error = handle.signal("chat:a", "e", "x").await.expect_err("no number");
        assert_eq!(error.code, ErrorCode::InvalidData, "{error}");
    });
}

/// What the channel has published.
fn said(server: &Server, channel: &str) -> Vec<Value> {
    let (_, history) = api(server.address, "history", &json!({"channel": channel}).to_string());
    history["publications"].as_array().unwrap().iter().map(|it| it["data"]["content"].clone()).collect()
}

/// A chat is told nothing of a refusal.
#[test]
fn chats_and_bridged_rooms_of_socket_io() {
    let server = served();
    // A chat's messages have a `content`, which must be a number here.
    server.running().reload_rules(&rules("number"));
    let mut chat = Client::open(server.address, "/");
    chat.text(&join("x", "a"));
    chat.text(&say("refused"));
    let (mut socket, _) = opened(server.address);
    socket.text("40");
    entered(&mut socket, "");
    socket.text(r#"42["join-room","chat:a"]"#);
    socket.text(r#"42["message",{"content":"refused"}]"#);
    socket.text(r#"42["typing",true]"#); // a signal that is no number
    socket.text(r#"420["message",{"content":1}]"#);
    loop {
        if support::socketio::text(&mut socket).starts_with("430") {
            break;
        }
    }
    assert_eq!(said(&server, "chat:a"), [json!(1)]);
    // As before the chat's words would have been taken.
    server.running().reload_rules(&rules("string"));
    chat.text(&join("x", "a"));
    chat.text(&say("taken"));
    while chat.until("message")["content"] != "taken" {}
    assert_eq!(said(&server, "chat:a"), [json!(1), json!("taken")]);
}

/// It sees what the schema has let through, and what it answers is checked again.
#[test]
fn a_handler_that_changes_data_keeps_to_the_schema() {
    let runtime = support::runtime();
    let server = {
        let _entered = runtime.enter();
        let settings = Config { rules: Arc::new(rules("string")), ..config() };
        let edit = async |mut publish: Publish| {
            let data: Value = serde_json::from_slice(publish.data.bytes()).unwrap();
            let edited = if data["content"] == "break" { json!({"content": 0}) } else { json!({"content": "edited"}) };
            publish.data = fanfare::Data::Json(edited.to_string().into());
            Ok::<_, fanfare::Refusal>(publish)
        };
        Server::of(Fanfare::builder(()).config(settings).on_publish("chat:*", edit))
    };
    let mut client = Client::native(server.address);
    client.hello(json!({}));
    client.follow("chat:a");
    let refused = client.ask("publish", json!({"channel": "chat:a", "data": {"content": 1}}));
    check("before", Some("/content: 1 is not of type"), &refused);
    let refused = client.ask("publish", json!({"channel": "chat:a", "data": {"content": "break"}}));
    assert_eq!(refused["code"], "internal", "{refused}");
    assert!(refused["message"].as_str().unwrap().contains("/content: 0 is not of type"), "{refused}");
    client.text(&command("publish", "e", r#"{"content":"x"}"#));
    while client.until("message")["data"] != json!({"content": "edited"}) {}
}

/// The first code block of this language after a line of docs/validation.md.
fn of_docs(after: &str, language: &str) -> &'static str {
    let page = include_str!("../../../docs/validation.md");
    let rest = page.split_once(after).unwrap_or_else(|| panic!("no {after:?}")).1;
    let rest = rest.split_once(&format!("```{language}\n")).unwrap().1;
    rest.split_once("```").unwrap().0
}

/// The example of docs/validation.md, as it stands there.
#[test]
fn the_example_of_the_page_works() {
    let folder = std::env::temp_dir().join(format!("fanfare-validation-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("schemas")).unwrap();
    std::fs::write(folder.join("schemas/price.json"), of_docs("`schemas/price.json`", "json")).unwrap();
    let file = folder.join("fanfare.toml");
    std::fs::write(&file, of_docs("## A first schema", "toml")).unwrap();
    let server = Server::of(Fanfare::builder(()).config_file(file.to_str().unwrap()).unwrap());
    std::fs::remove_dir_all(&folder).unwrap();
    let mut client = Client::native(server.address);
    client.hello(json!({}));
    client.text(r#"{"type":"publish","id":1,"channel":"prices:acme","data":{"symbol":"ACME","price":"abc"}}"#);
    let expected: Value = serde_json::from_str(of_docs("publishes `{", "json")).unwrap();
    assert_eq!(client.message(), expected);
    let good = json!({"channel": "prices:acme", "data": {"symbol": "ACME", "price": 1.5}});
    assert_eq!(client.ask("publish", good)["type"], "published");
}

/// The example of docs/validation.md, and the order: a handler sees a clean text that is not escaped yet.
#[test]
fn texts_are_cleaned_before_a_handler_and_escaped_once_behind_it() {
    let file = std::env::temp_dir().join(format!("fanfare-texts-{}.toml", std::process::id()));
    let example = of_docs("## Texts", "toml").replace("publish  ", "signal = \"anyone\"\npublish");
    let asked = format!("{example}{}", example.replace("talk:*", "asked:*"));
    std::fs::write(&file, asked).unwrap();
    let runtime = support::runtime();
    let server = {
        let _entered = runtime.enter();
        let edit = async |mut publish: Publish| {
            let data: Value = serde_json::from_slice(publish.data.bytes()).unwrap();
            let edited = json!({"content": format!("<{}>\u{0}", data["content"].as_str().unwrap())});
            publish.data = fanfare::Data::Json(edited.to_string().into());
            Ok::<_, fanfare::Refusal>(publish)
        };
        let builder = Fanfare::builder(()).config_file(file.to_str().unwrap()).unwrap();
        Server::of(builder.on_publish("asked:*", edit))
    };
    std::fs::remove_file(&file).unwrap();
    let mut client = Client::native(server.address);
    client.hello(json!({}));
    let rows = [
        ("talk:a", r#"{"content": "a\u0000 <b>e\u0301</b>"}"#, json!({"content": "a &lt;b&gt;é&lt;/b&gt;"})),
        ("talk:a", r#"{"name":"a\nb","n":1.0}"#, json!({"name": "a b", "n": 1.0})),
        ("asked:a", r#"{"content":"\u0007<"}"#, json!({"content": "&lt;&lt;&gt;"})),
    ];
    for channel in ["talk:a", "asked:a"] {
        client.follow(channel);
    }
    for (channel, data, expected) in rows {
        client.text(&format!(r#"{{"type":"publish","channel":"{channel}","data":{data}}}"#));
        assert_eq!(client.until("message")["data"], expected, "{data}");
    }
    let long = json!({"channel": "talk:a", "data": {"content": "é".repeat(4_001)}});
    let answer = client.ask("publish", long);
    assert_eq!(answer["message"], "/content: 4001 characters exceed the limit of 4000", "{answer}");
    let answer = client.ask("publish", json!({"channel": "talk:a", "data": {"content": ["<b>"]}}));
    assert_eq!(answer["message"], "/content: it must be a text, found a list", "{answer}");
    let signal = json!({"channel": "talk:a", "event": "e", "data": {"name": "x".repeat(65)}});
    assert_eq!(client.ask("signal", signal)["code"], "invalid_data");
}

/// Without any rule for texts, as the chat protocol has them by default.
#[test]
fn a_chat_cleans_what_is_shown_and_ignores_what_is_too_long() {
    let chat = Chat::default().heartbeat_ms(600_000);
    let server = Server::of(Fanfare::builder(()).config(config()).protocol("/", chat));
    let mut ada = Client::open(server.address, "/");
    ada.text(&join("ada", "a"));
    ada.until("room_state");
    let mut bob = Client::open(server.address, "/");
    let joined =
        |username: &str| json!({"type": "join", "userId": "bob", "username": username, "roomId": "a"}).to_string();
    bob.text(&joined(&"x".repeat(65)));
    bob.text(&joined("B\u{202e}o\u{0}b\n2"));
    assert_eq!(ada.until("join")["username"], "Bob 2");
    bob.text(&say(&"é".repeat(4_001)));
    bob.text(&say("e\u{301}\u{1b}[31m\r\nx"));
    assert_eq!(ada.until("message")["content"], "é[31m\nx");
    bob.text(&say(&"é".repeat(4_000)));
    assert_eq!(ada.until("message")["content"], "é".repeat(4_000));
}

/// What clients show of themselves is seen by everybody, as what they say is.
#[test]
fn presence_has_a_schema_and_clean_texts() {
    let mut texts = fanfare::validation::Texts::default();
    let html = fanfare::validation::TextRule { escape_html: true, ..fanfare::validation::TextRule::default() };
    texts.add("/name", html).unwrap();
    texts.add("", html).unwrap();
    let person = json!({"type": ["object", "string"], "properties": {"name": {"type": "string", "maxLength": 5}}});
    let presence_schema = Some(Schema::new(person).unwrap());
    let validation = Validation { presence_schema, texts, ..Validation::default() };
    let rule = Rule { check: validation.into_check(), ..Rule::open(Pattern::new("**").unwrap()) };
    let server = Server::native(Config { rules: Arc::new(Rules::new(vec![rule])), ..config() });
    let mut watcher = Client::connected(server.address);
    watcher.follow("a");
    // (what a client shows, what others see, or the option that refuses it)
    let rows = [
        (json!({"name": "ada"}), Ok(json!({"name": "ada"}))),
        (json!({"name": "<b>x"}), Ok(json!({"name": "&lt;b&gt;x"}))),
        (json!("a\u{0}<"), Ok(json!("a&lt;"))),
        (json!({"name": "ada lovelace"}), Err("presence_schema")),
        (json!({"name": ["<b>"]}), Err("text")),
        (json!(7), Err("presence_schema")),
    ];
    for (data, expected) in rows {
        let mut client = Client::connected(server.address);
        client.follow("a");
        let answer = client.ask("presence_set", json!({"channel": "a", "data": data}));
        match expected {
            Ok(seen) => {
                assert_eq!(answer["type"], "result", "{data}: {answer}");
                let join = watcher.until("join");
                assert_eq!(join["data"], seen, "{data}: {join}");
            }
            Err(option) => assert_eq!(answer["code"], "invalid_data", "{data}: {option}: {answer}"),
        }
        client.close();
    }
}
