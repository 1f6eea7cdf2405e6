//! Bridged rooms of Socket.IO: its sockets meet chat clients, native clients and the program in one channel, with each
//! other's messages, presence, typing and history.

#![allow(clippy::unwrap_used)] // helpers stand outside of `#[test]`; a panic in one fails the test

mod support;

use fanfare::hub::{Data, Pattern, Rule, Rules, Who};
use fanfare::socketio::{Binary, Data as Argument, Io, Socket};
use fanfare::{Builder, Config, SocketIoConfig};
use fanfare_wire::websocket::Opcode;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use support::socketio::{enter, event, open, text};
use support::{Client, Frame, Server, config};

const CHANNEL: &str = "chat:lobby";

fn builder(config: Config) -> Builder {
    let bridge = vec![Pattern::new("chat:*").unwrap()];
    let namespaces = vec!["/admin".parse().unwrap()];
    let socketio = SocketIoConfig { enabled: true, bridge, namespaces, ..SocketIoConfig::default() };
    support::native::builder(Config { socketio, ..config })
}

/// In the lobby, as soon as a native client sees it there.
fn join(server: &Server, watcher: &mut Client) -> (Client, String) {
    let (mut client, id) = enter(server);
    client.text(r#"42["join-room","chat:lobby"]"#);
    let join = watcher.message();
    assert_eq!((&join["type"], &join["client"], &join["data"]), (&json!("join"), &json!(id), &json!({"userId": id})));
    (client, id)
}

#[test]
fn clients_of_all_protocols_meet_in_a_bridged_room() {
    let server = Server::of(builder(config()));
    let mut native = Client::connected(server.address);
    native.follow(CHANNEL);
    let mut chat = Client::join(server.address, "carl", "lobby");
    assert_eq!(native.message()["type"], "join");
    let (mut ada, ada_id) = join(&server, &mut native);
    assert_eq!(chat.message()["userId"], json!(ada_id));
    let (mut bob, bob_id) = join(&server, &mut native);
    assert_eq!(chat.message()["userId"], json!(bob_id));
    assert_eq!(event(&mut ada, ""), json!(["user-joined", {"userId": bob_id}]));
    // A socket speaks.
    ada.text(r#"42["message",{"content":"hi","n":1}]"#);
    for client in [&mut ada, &mut bob] {
        assert_eq!(event(client, ""), json!(["message", {"content": "hi", "n": 1, "userId": ada_id}]));
    }
    let message = native.message();
    assert_eq!((&message["data"], &message["event"]), (&json!({"content": "hi", "n": 1}), &Value::Null));
    let said = chat.message();
    assert_eq!((&said["type"], &said["content"], &said["userId"]), (&json!("message"), &json!("hi"), &json!(ada_id)));
    // A chat client speaks.
    chat.say("hello");
    for client in [&mut ada, &mut bob] {
        let said = event(client, "");
        assert_eq!(
            (&said[0], &said[1]["content"], &said[1]["userId"]),
            (&json!("message"), &json!("hello"), &json!("carl"))
        );
    }
    assert_eq!(native.message()["data"]["content"], "hello");
    assert_eq!(chat.message()["content"], "hello");
    // A native client publishes an event, and the program something else.
    native.ask("publish", json!({"channel": CHANNEL, "data": [1, {"a": 2}], "event": "dice"}));
    native.message();
    assert_eq!(
        [event(&mut ada, ""), event(&mut bob, "")],
        [json!(["dice", [1, {"a": 2}]]), json!(["dice", [1, {"a": 2}]])]
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let hub = server.running().handle();
    runtime.block_on(async { hub.publish(CHANNEL, "plain").await }).unwrap();
    runtime.block_on(async { hub.publish_data(CHANNEL, Data::Binary(vec![1, 2].into())).await }).unwrap();
    assert_eq!(event(&mut ada, ""), json!(["message", "plain"]));
    assert_eq!(text(&mut ada), r#"451-["message",{"_placeholder":true,"num":0}]"#);
    assert_eq!(ada.next(), Frame::Binary(vec![1, 2]));
    // Binary data of a socket is binary data for others.
    ada.text(r#"451-["message",{"_placeholder":true,"num":0}]"#);
    ada.send(Opcode::Binary, b"abc");
    assert_eq!((native.message()["data"].clone(), native.message()["data64"].clone()), (json!("plain"), json!("AQI=")));
    assert_eq!(native.message()["data64"], "YWJj");
    // All of it is in the history.
    let history = native.ask("history", json!({"channel": CHANNEL, "limit": 10}));
    assert_eq!(history["publications"].as_array().unwrap().len(), 6, "{history}");
}

/// A chat client names itself in what it says. A socket has a name, and no other.
#[test]
fn a_socket_cannot_speak_as_another_user() {
    let server = Server::of(builder(config()));
    let mut native = Client::connected(server.address);
    native.follow(CHANNEL);
    let (mut ada, ada_id) = join(&server, &mut native);
    for (said, heard) in [
        (r#"{"content":"hi","userId":"carl"}"#, json!({"content": "hi"})),
        (
            r#"{"userId":"carl","n":[{"userId":"kept"}],"us\u0065rId":"carl","userId":"x"}"#,
            json!({"n": [{"userId": "kept"}]}),
        ),
        (r#" { "userId" : "carl" } "#, json!({})),
        (r#"{"userId":7}"#, json!({})),
        (r#"{"a":"\u0065"}"#, json!({"a": "e"})),
    ] {
        ada.text(&format!(r#"42["message",{said}]"#));
        let event = event(&mut ada, "");
        assert_eq!(event[1]["userId"], json!(ada_id), "{said}");
        assert_eq!(native.message()["data"], heard, "{said}");
    }
}

/// A client of Socket.IO would end its connection: such a packet breaks the protocol.
#[test]
fn names_that_clients_raise_themselves_do_not_cross_the_bridge() {
    let server = Server::of(builder(config()));
    let mut native = Client::connected(server.address);
    native.follow(CHANNEL);
    let (mut ada, _) = join(&server, &mut native);
    for name in ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"] {
        native.ask("publish", json!({"channel": CHANNEL, "data": 1, "event": name}));
        native.message();
        native.ask("signal", json!({"channel": CHANNEL, "data": 1, "event": name}));
    }
    native.ask("publish", json!({"channel": CHANNEL, "data": 2, "event": "dice"}));
    assert_eq!(event(&mut ada, ""), json!(["dice", 2]));
}

#[test]
fn typing_and_leaving_are_told_across_the_bridge() {
    let server = Server::of(builder(config()));
    let mut native = Client::connected(server.address);
    native.follow(CHANNEL);
    let mut chat = Client::join(server.address, "carl", "lobby");
    native.message();
    let (mut ada, ada_id) = join(&server, &mut native);
    assert_eq!(chat.message()["type"], "join");
    ada.text(r#"42["typing",true]"#);
    assert_eq!(native.message()["data"], json!({"userId": ada_id, "isTyping": true}));
    let typing = chat.message();
    assert_eq!((&typing["type"], &typing["userId"]), (&json!("typing"), &json!(ada_id)));
    chat.text(r#"{"type":"typing"}"#);
    assert_eq!(event(&mut ada, ""), json!(["user-typing", {"userId": "carl", "isTyping": true}]));
    native.message();
    native.ask("signal", json!({"channel": CHANNEL, "event": "wave", "data": {"a": 1}}));
    assert_eq!(event(&mut ada, ""), json!(["wave", {"a": 1}]));
    chat.text(r#"{"type":"leave"}"#);
    assert_eq!(event(&mut ada, ""), json!(["user-left", {"userId": "carl"}]));
    assert_eq!(native.message()["type"], "leave");
    ada.text("41");
    let leave = native.message();
    assert_eq!((&leave["type"], &leave["client"]), (&json!("leave"), &json!(ada_id)));
}

#[test]
fn the_rules_of_the_channel_hold_and_other_rooms_are_rooms() {
    let rule = |pattern: &str| Rule::open(Pattern::new(pattern).unwrap());
    let closed = Rule { subscribe: vec![Who::Nobody], ..rule("chat:secret") };
    let quiet = Rule { publish: vec![Who::Nobody], enter: vec![Who::Nobody], ..rule("chat:quiet") };
    let rules = Arc::new(Rules::new(vec![closed, quiet, rule("**")]));
    let server = Server::of(builder(Config { rules, ..config() }));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let hub = server.running().handle();
    let (mut ada, ada_id) = enter(&server);
    ada.text(r#"42["join-room","plain"]"#); // its first room, in which it speaks
    for room in ["chat:secret", "chat:", "chat:a:b"] {
        ada.text(&format!(r#"42["join-room","{room}"]"#));
    }
    ada.text(r#"427["join-room","chat:quiet"]"#);
    assert_eq!(text(&mut ada), "437[]", "it has taken effect, whichever shard has the channel");
    ada.text(r#"42["message",{}]"#);
    assert_eq!(event(&mut ada, ""), json!(["message", {"userId": ada_id}]), "an ordinary room");
    for channel in ["chat:secret", "chat:quiet"] {
        runtime.block_on(async { hub.publish(channel, channel).await }).unwrap();
    }
    assert_eq!(event(&mut ada, ""), json!(["message", "chat:quiet"]));
    // A room of another namespace is none of the bridge, whatever its name is.
    ada.text("40/admin,");
    text(&mut ada);
    ada.text(r#"42/admin,["join-room","chat:lobby"]"#);
    ada.text(r#"42/admin,["message",{"a":1}]"#);
    assert!(text(&mut ada).starts_with(r#"42/admin,["message",{"a":1,"#));
    let (mut bob, _) = enter(&server);
    bob.text(r#"42["join-room","chat:quiet"]"#);
    bob.text(r#"42["message",{"refused":true}]"#);
    bob.text(r#"42["join-room","chat:quiet"]"#);
    runtime.block_on(async { hub.publish("chat:quiet", "last").await }).unwrap();
    assert_eq!(event(&mut ada, ""), json!(["message", "last"]));
}

/// Handlers enter, leave and emit to a bridged room as the built-in events do.
#[test]
fn handlers_reach_a_bridged_room() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _entered = runtime.enter();
    let server = Server::of(builder(config()).socketio("/", |io| {
        io.on("join", async |socket: Socket| drop(socket.join([CHANNEL, "plain"])))
            .on("leave", async |socket: Socket| drop(socket.leave(CHANNEL)))
            .on("say", async |socket: Socket, Argument(text): Argument<String>| {
                socket.io().to([CHANNEL, "plain"]).emit("message", json!({"content": text, "userId": "the app"}));
                socket.to(CHANNEL).emit("dice", (6, "only the first"));
                socket.emit("done", 1);
            })
            .on("file", async |io: Io| drop(io.to(CHANNEL).emit("message", Binary(vec![1, 2].into()))))
    }));
    let mut native = Client::connected(server.address);
    native.follow(CHANNEL);
    let (mut ada, ada_id) = enter(&server);
    ada.text(r#"421["join"]"#);
    assert_eq!(text(&mut ada), "431[]");
    let entered = native.message();
    assert_eq!((&entered["type"], &entered["client"]), (&json!("join"), &json!(ada_id)));
    ada.text(r#"42["say","hi"]"#);
    let mut heard: Vec<Value> = (0..3).map(|_| event(&mut ada, "")).collect();
    heard.sort_by_key(Value::to_string);
    let said = json!(["message", {"content": "hi", "userId": "the app"}]);
    assert_eq!(heard, [json!(["done", 1]), said.clone(), said], "once as the channel, once in the other room");
    assert_eq!(native.message()["data"], json!({"content": "hi", "userId": "the app"}));
    let dice = native.message();
    assert_eq!((&dice["event"], &dice["data"]), (&json!("dice"), &json!(6)));
    // A client of the channel reaches it, until its handler takes it out.
    native.ask("publish", json!({"channel": CHANNEL, "data": "hello"}));
    assert_eq!(event(&mut ada, ""), json!(["message", "hello"]));
    native.message();
    ada.text(r#"422["leave"]"#);
    assert_eq!(text(&mut ada), "432[]");
    assert_eq!(native.message()["type"], "leave");
    ada.text(r#"42["file"]"#);
    assert_eq!(native.message()["data64"], "AQI=");
    support::engine::is_silent(&mut ada);
}

/// Its subscription to the channel ends with the connection. So that its client learns that, it does not go on as the
/// socket that it was.
#[test]
fn a_socket_of_a_bridged_room_begins_anew_after_a_cut() {
    let base = config();
    let bridge = vec![Pattern::new("chat:*").unwrap()];
    let max_disconnection_duration = Duration::from_secs(120);
    let socketio = SocketIoConfig { enabled: true, bridge, max_disconnection_duration, ..SocketIoConfig::default() };
    let server = Server::of(support::native::builder(Config { socketio, ..base }));
    let mut native = Client::connected(server.address);
    native.follow(CHANNEL);
    let enters = |auth: Value| {
        let mut client = open(&server);
        client.text(&format!("40{auth}"));
        let connected = text(&mut client);
        let connected: Value = serde_json::from_str(connected.strip_prefix("40").expect(&connected)).unwrap();
        (client, connected)
    };
    let (ada, plain) = enters(json!({}));
    drop(ada);
    let (mut ada, same) = enters(json!({"pid": plain["pid"]}));
    assert_eq!(same, plain, "in no bridged room it goes on");
    ada.text(r#"42["join-room","chat:lobby"]"#);
    let join = native.message();
    assert_eq!((&join["type"], &join["client"]), (&json!("join"), &plain["sid"]));
    drop(ada);
    native.ask("publish", json!({"channel": CHANNEL, "data": "missed"}));
    let (mut ada, other) = enters(json!({"pid": plain["pid"]}));
    assert!(other["sid"] != plain["sid"] && other["pid"] != plain["pid"]);
    ada.text(r#"42["join-room","chat:lobby"]"#);
    ada.text(r#"42["message",{"content":"again"}]"#);
    assert_eq!(event(&mut ada, ""), json!(["message", {"content": "again", "userId": other["sid"]}]));
}
