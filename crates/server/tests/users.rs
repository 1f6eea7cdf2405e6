//! Who is connected, end to end: lists by user, label and channel over every transport, the status of users, and
//! reconnects that the application asks for.

#![allow(clippy::unwrap_used)] // helpers stand outside of `#[test]`; a panic in one fails the test

mod support;

use fanfare::auth::{AuthConfig, Minting, TokenKey};
use fanfare::hub::{Among, UserId, Whom};
use fanfare::{ApiCommand, ApiKey, Config, Fanfare, Identity, SocketIoConfig};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use support::native::{PATH, patient};
use support::polls::{Poller, request};
use support::socketio::{entered, opened};
use support::stream::Stream;
use support::{Client, Response, Server, config, connect, join, patient_chat, response, runtime, upgrade};

const API_KEY: &str = "0123456789abcdef";
const NARROW_KEY: &str = "fedcba9876543210";

fn key() -> TokenKey {
    TokenKey::new("main", None, "an-example-of-a-secret-of-enough-bytes!").unwrap()
}

fn token(user: &str, labels: &[&str]) -> String {
    Minting::new(Duration::from_secs(3600)).user(user).claim("labels", json!(labels)).sign(&key()).unwrap()
}

fn settings() -> Config {
    let narrow = ApiKey::new("narrow", NARROW_KEY).unwrap().only_commands([ApiCommand::Connections]);
    Config {
        auth: AuthConfig { anonymous: false, keys: vec![key()], ..AuthConfig::default() },
        api_keys: vec![ApiKey::new("backend", API_KEY).unwrap(), narrow],
        socketio: SocketIoConfig { enabled: true, ..SocketIoConfig::default() },
        ..config()
    }
}

fn server() -> Server {
    Server::of(Fanfare::builder(()).config(settings()).protocol(PATH, patient()).protocol("/", patient_chat()))
}

fn asked(address: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> Response {
    let mut socket = connect(address);
    socket.write_all(request(method, path, headers, body).as_bytes()).unwrap();
    response(&mut socket)
}

fn call(address: SocketAddr, key: &str, command: &str, body: &Value) -> (u16, Value) {
    let headers = format!("Authorization: Bearer {key}\r\n");
    let answer = asked(address, "POST", &format!("/api/v1/{command}"), &headers, &body.to_string());
    (answer.status(), serde_json::from_str(&answer.body).unwrap())
}

fn api(address: SocketAddr, command: &str, body: &Value) -> Value {
    let (status, answer) = call(address, API_KEY, command, body);
    assert_eq!(status, 200, "{command}: {answer}");
    answer
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// One client of every transport and protocol, all of one user.
struct All {
    native: Client,
    connected: Value,
    sse: Stream,
    lines: Stream,
    events: Stream,
    poller: Poller,
    chatting: Client,
    socketio: Client,
}

fn all_of(address: SocketAddr, user: &str, labels: &[&str]) -> All {
    let token = token(user, labels);
    let bearer = format!("Authorization: Bearer {token}\r\n");
    let mut native = Client::native(address);
    let connected = native.ask("connect", json!({ "token": token }));
    assert_eq!(connected["user"], user, "{connected}");
    native.follow("chat:a");
    let mut sse = Stream::get(address, "/v1/sse", &bearer);
    sse.message();
    let mut lines = Stream::get(address, "/v1/stream", &bearer);
    lines.line().unwrap();
    let mut events = Stream::get(address, "/events?channel=chat:a", &bearer);
    events.message();
    let poller = Poller::connect(address, json!({ "token": token }));
    let mut socket = connect(address);
    socket.write_all(&upgrade(address, "/", &[], &[("Authorization", &format!("Bearer {token}"))])).unwrap();
    assert_eq!(response(&mut socket).status(), 101);
    let mut chatting = Client::of(socket);
    chatting.text(&join("u1", "lobby"));
    chatting.until("room_state");
    let (mut socketio, _) = opened(address);
    socketio.text(&format!(r#"40{{"token":"{token}"}}"#));
    entered(&mut socketio, "");
    All { native, connected, sse, lines, events, poller, chatting, socketio }
}

fn kinds(list: &Value) -> BTreeMap<(String, String), usize> {
    let mut kinds = BTreeMap::new();
    for it in list["connections"].as_array().unwrap() {
        let text = |field: &str| it[field].as_str().unwrap().to_owned();
        *kinds.entry((text("protocol"), text("transport"))).or_default() += 1;
    }
    kinds
}

#[test]
fn every_transport_is_listed_by_user_label_and_channel() {
    let runtime = runtime();
    let entered_runtime = runtime.enter();
    let server = server();
    drop(entered_runtime);
    let address = server.address;
    let before = now_ms();
    let all = all_of(address, "ada", &["beta", "ios"]);
    let mut bob = Client::native(address);
    bob.hello(json!({ "token": token("bob", &["ios"]) }));

    let by_user = api(address, "connections", &json!({ "user": "ada" }));
    let expected = [
        ("chat", "websocket"),
        ("events", "sse"),
        ("native", "poll"),
        ("native", "sse"),
        ("native", "stream"),
        ("native", "websocket"),
        ("socketio", "websocket"),
    ];
    let expected: BTreeMap<(String, String), usize> =
        expected.into_iter().map(|(protocol, transport)| ((protocol.to_owned(), transport.to_owned()), 1)).collect();
    assert_eq!(kinds(&by_user), expected, "{by_user}");
    assert!(by_user["cursor"].is_null(), "{by_user}");
    for it in by_user["connections"].as_array().unwrap() {
        assert_eq!((&it["user"], &it["labels"]), (&json!("ada"), &json!(["beta", "ios"])), "{it}");
        assert!(it["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{it}");
        assert!((before - 1_000..=now_ms() + 1_000).contains(&it["connected_at"].as_u64().unwrap()), "{it}");
    }
    let list = |body: Value| api(address, "connections", &body)["connections"].as_array().unwrap().clone();
    assert_eq!(list(json!({ "label": "beta" })).len(), 7);
    assert_eq!(list(json!({ "label": "ios" })).len(), 8);
    assert_eq!(list(json!({})).len(), 8);
    assert_eq!(list(json!({ "channel": "chat:a" })).len(), 2);
    let one = list(json!({ "client": all.connected["client"] }));
    assert_eq!((one.len(), &one[0]["channels"]), (1, &json!(1)));

    // In pages of two.
    let (mut cursor, mut clients) = (Value::Null, Vec::new());
    loop {
        let page = api(address, "connections", &json!({ "limit": 2, "cursor": cursor }));
        clients.extend(page["connections"].as_array().unwrap().iter().map(|it| it["client"].to_string()));
        cursor = page["cursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    clients.sort_unstable();
    clients.dedup();
    assert_eq!(clients.len(), 8, "each once");

    let users = json!({ "users": [{ "user": "ada", "clients": 7 }, { "user": "bob", "clients": 1 }] });
    assert_eq!(api(address, "users", &json!({})), users);
    let of_channel = json!({ "users": [{ "user": "ada", "clients": 2 }] });
    assert_eq!(api(address, "users", &json!({ "channel": "chat:a" })), of_channel);

    let (status, answer) = call(address, NARROW_KEY, "connections", &json!({}));
    assert_eq!(status, 200, "{answer}");
    for command in ["users", "user_status", "reconnect"] {
        let (status, answer) = call(address, NARROW_KEY, command, &json!({ "user": "ada", "users": ["ada"] }));
        assert_eq!((status, &answer["code"]), (403, &json!("denied")), "{command}: {answer}");
    }
}

#[test]
fn a_reconnect_closes_every_transport_and_the_session_goes_on() {
    let runtime = runtime();
    let entered_runtime = runtime.enter();
    let server = server();
    drop(entered_runtime);
    let address = server.address;
    let mut all = all_of(address, "ada", &["beta"]);
    let mut bob = Client::native(address);
    bob.hello(json!({ "token": token("bob", &["ios"]) }));
    let answer = api(address, "reconnect", &json!({ "label": "beta", "spread": "1ms" }));
    assert_eq!(answer, json!({ "sessions": 7 }));
    let said = all.native.until("disconnect");
    assert_eq!((&said["code"], &said["reason"], &said["retry"]), (&json!(4008), &json!("reconnect"), &json!(true)));
    assert_eq!(all.native.closed(), Some(4008));
    assert!(all.sse.rest().contains("\"reconnect\""));
    assert!(all.lines.rest().contains("\"reconnect\""));
    all.events.rest();
    let said = loop {
        let message = all.poller.message();
        if message["type"] == "disconnect" {
            break message;
        }
    };
    assert_eq!((&said["reason"], &said["retry"]), (&json!("reconnect"), &json!(true)));
    assert_eq!(all.chatting.closed(), Some(4008));
    assert!(all.socketio.closed().is_some(), "without a packet `41`, after which its client stays away");
    // The client comes back with its ticket: the same session, with the same labels.
    let mut again = Client::native(address);
    let back = again.ask("connect", json!({ "ticket": all.connected["ticket"] }));
    assert_eq!((&back["client"], &back["session_resumed"]), (&all.connected["client"], &json!(true)), "{back}");
    let mine = api(address, "connections", &json!({ "label": "beta", "user": Value::Null }));
    assert!(mine["connections"].as_array().unwrap().iter().any(|it| it["client"] == back["client"]), "{mine}");
    assert_eq!(bob.ask("publish", json!({ "channel": "chat:a", "data": 1 }))["type"], "published");
}

#[test]
fn a_user_is_online_until_its_last_connection_ends() {
    let server = server();
    let address = server.address;
    let status = || api(address, "user_status", &json!({ "users": ["ada", "bob"] }))["users"].clone();
    let nobody = json!({ "user": "bob", "online": false, "clients": 0 });
    let mut client = Client::native(address);
    client.hello(json!({ "token": token("ada", &[]) }));
    assert_eq!(status(), json!([{ "user": "ada", "online": true, "clients": 1 }, nobody]));
    let before = now_ms();
    drop(client);
    let gone = (0..100_000).map(|_| status()).find(|found| found[0]["online"] == false).expect("it goes offline");
    assert_eq!(gone[1], nobody);
    let seen = gone[0]["last_seen"].as_u64().unwrap();
    assert!((before - 1_000..=now_ms() + 1_000).contains(&seen), "{gone}");
}

#[test]
fn the_embedding_program_gives_labels_and_uses_the_same_lists() {
    let runtime = runtime();
    let entered_runtime = runtime.enter();
    let builder = Fanfare::builder(()).config(config()).protocol(PATH, patient());
    let server = Server::of(builder.on_connect(async || Identity::user("ada").labels(["beta", "tenant:7"])));
    drop(entered_runtime);
    let hub = server.running().handle();
    let mut client = Client::native(server.address);
    let connected = client.hello(json!({}));
    runtime.block_on(async {
        let page = hub.connections(Among::Label("tenant:7".into()), None, 10).await.unwrap();
        assert_eq!((page.connections.len(), page.next), (1, None));
        let info = &page.connections[0];
        assert_eq!(info.client.to_string(), connected["client"].as_str().unwrap());
        assert_eq!(info.labels.iter().collect::<Vec<_>>(), ["beta", "tenant:7"]);
        assert_eq!(info.facts.as_ref().map(|facts| &*facts.protocol), Some("native"));
        let users = hub.users(None, None, 10).await.unwrap();
        assert_eq!((&*users.users[0].user.0, users.users[0].clients), ("ada", 1));
        let status = hub.user_status([UserId("ada".into())]).await.unwrap();
        assert_eq!(status[0].clients, 1);
        assert_eq!(hub.reconnect(Whom::Label("beta".into()), Duration::ZERO).await, Ok(1));
    });
    assert_eq!(client.closed(), Some(4008));
}
