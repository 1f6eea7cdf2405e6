//! Bans by the HTTP API, end to end: whatever transport a banned user comes by, it is closed and refused until the ban
//! is over, and others are not affected.

#![allow(clippy::unwrap_used)] // helpers stand outside of `#[test]`; a panic in one fails the test

mod support;

use fanfare::auth::{AuthConfig, Minting, TokenKey};
use fanfare::{ApiKey, Config, Fanfare, SocketIoConfig};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use support::polls::{Poller, request};
use support::socketio::{entered, opened, text};
use support::stream::Stream;
use support::{Client, Response, Server, config, connect, join, patient_chat, response, runtime, upgrade};

const API_KEY: &str = "0123456789abcdef";

fn key() -> TokenKey {
    TokenKey::new("main", None, "an-example-of-a-secret-of-enough-bytes!").unwrap()
}

fn token(user: &str) -> String {
    Minting::new(Duration::from_secs(3600)).user(user).sign(&key()).unwrap()
}

fn bearer(user: &str) -> String {
    format!("Authorization: Bearer {}\r\n", token(user))
}

fn settings() -> Config {
    Config {
        auth: AuthConfig { anonymous: false, keys: vec![key()], ..AuthConfig::default() },
        api_keys: vec![ApiKey::new("backend", API_KEY).unwrap()],
        socketio: SocketIoConfig { enabled: true, ..SocketIoConfig::default() },
        ..config()
    }
}

fn asked(address: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> Response {
    use std::io::Write as _;
    let mut socket = connect(address);
    socket.write_all(request(method, path, headers, body).as_bytes()).unwrap();
    response(&mut socket)
}

fn api(address: SocketAddr, command: &str, body: &Value) -> Value {
    let headers = format!("Authorization: Bearer {API_KEY}\r\n");
    let answer = asked(address, "POST", &format!("/api/v1/{command}"), &headers, &body.to_string());
    assert_eq!(answer.status(), 200, "{command}: {}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

fn chat(address: SocketAddr, user: &str) -> Client {
    use std::io::Write as _;
    let mut socket = connect(address);
    let value = format!("Bearer {}", token(user));
    socket.write_all(&upgrade(address, "/", &[], &[("Authorization", &value)])).unwrap();
    assert_eq!(response(&mut socket).status(), 101);
    Client::of(socket)
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// The words of the refusal, and the time that is left.
fn is_banned(error: &Value) {
    assert_eq!((&error["code"], &error["retryable"]), (&json!("denied"), &json!(false)), "{error}");
    let message = error["message"].as_str().unwrap();
    assert!(message.starts_with("the application has banned this user for "), "{message}");
    assert!(error["retry_after"].as_u64().is_some_and(|ms| (1..=3_600_000).contains(&ms)), "{error}");
}

#[test]
fn a_ban_reaches_every_transport_and_holds_on_each_until_it_is_ended() {
    let runtime = runtime();
    let entered_runtime = runtime.enter();
    let server = Server::of(Fanfare::builder(()).config(settings()).protocol("/", patient_chat()));
    drop(entered_runtime);
    let address = server.address;
    let hello = |user: &str| {
        let mut client = Client::native(address);
        let answer = client.ask("connect", json!({"token": token(user)}));
        (client, answer)
    };
    let (mut native, connected) = hello("ada");
    assert_eq!(connected["user"], "ada");
    let mut sse = Stream::get(address, "/v1/sse", &bearer("ada"));
    sse.message();
    let mut lines = Stream::get(address, "/v1/stream", &bearer("ada"));
    lines.line().unwrap();
    let mut events = Stream::get(address, "/events?channel=a", &bearer("ada"));
    events.message();
    let mut poller = Poller::connect(address, json!({"token": token("ada")}));
    let mut chatting = chat(address, "ada");
    chatting.text(&join("u1", "lobby"));
    chatting.until("room_state");
    let (mut socketio, _) = opened(address);
    socketio.text(&format!(r#"40{{"token":"{}"}}"#, token("ada")));
    entered(&mut socketio, "");
    let (mut bob, of_bob) = hello("bob");
    assert_eq!(of_bob["user"], "bob");

    let before = now_ms();
    let banned = api(address, "disconnect", &json!({"user": "ada", "ban": "1h"}));
    assert_eq!((&banned["sessions"], &banned["durable"]), (&json!(7), &json!(false)), "{banned}");
    let until = banned["banned_until"].as_u64().unwrap();
    assert!((before + 3_600_000..=now_ms() + 3_600_000).contains(&until), "{banned} after {before}");
    assert_eq!(native.closed(), Some(4503));
    assert!(sse.rest().contains("kicked"));
    assert!(lines.rest().contains("kicked"));
    events.rest();
    while poller.message()["type"] != "disconnect" {}
    assert_eq!(chatting.closed(), Some(4503));
    assert!(socketio.closed().is_some());

    let (_, refused) = hello("ada");
    is_banned(&refused);
    let with_ticket = json!({"token": token("ada"), "ticket": connected["ticket"]});
    is_banned(&Client::native(address).ask("connect", with_ticket));
    let json = format!("Accept: application/json\r\n{}", bearer("ada"));
    for path in ["/v1/sse", "/v1/stream", "/events?channel=a"] {
        let refused = asked(address, "GET", path, &json, "");
        assert_eq!(refused.status(), 403, "{path}: {}", refused.body);
        is_banned(&serde_json::from_str(&refused.body).unwrap());
    }
    let refused = asked(address, "POST", "/v1/poll", &bearer("ada"), r#"{"type":"connect","id":1}"#);
    assert_eq!(refused.status(), 403, "{}", refused.body);
    is_banned(&serde_json::from_str(&refused.body).unwrap());
    assert_eq!(chat(address, "ada").closed(), Some(4502));
    let (mut client, _) = opened(address);
    client.text(&format!(r#"40{{"token":"{}"}}"#, token("ada")));
    let refused = text(&mut client);
    assert_eq!(refused, r#"44{"message":"认证错误"}"#, "as for a bad token: clients of Socket.IO know this one");

    // Others go on.
    assert_eq!(bob.ask("publish", json!({"channel": "a", "data": 1}))["type"], "published");
    let bans = api(address, "bans", &json!({}));
    assert_eq!(bans["bans"][0]["user"], "ada", "{bans}");
    assert_eq!(api(address, "unban", &json!({"user": "ada"})), json!({"was_banned": true}));
    assert_eq!(hello("ada").1["user"], "ada");
    assert_eq!(api(address, "bans", &json!({})), json!({"bans": []}));
}

#[test]
fn the_ticket_of_a_banned_client_is_refused() {
    let server = Server::of(
        Fanfare::builder(())
            .config(Config { auth: AuthConfig::default(), ..settings() })
            .protocol("/v1/ws", support::native::patient()),
    );
    let address = server.address;
    let mut client = Client::native(address);
    let connected = client.hello(json!({}));
    let banned = api(address, "disconnect", &json!({"client": connected["client"], "ban": "30m"}));
    assert_eq!(banned["sessions"], 1);
    assert_eq!(client.closed(), Some(4503));
    for _ in 0..support::shards() * 2 {
        let refused = Client::native(address).ask("connect", json!({"ticket": connected["ticket"]}));
        assert_eq!(refused["code"], "denied", "{refused}");
        assert!(refused["message"].as_str().unwrap().contains("banned this client"), "{refused}");
    }
    assert_eq!(
        Client::native(address).ask("connect", json!({}))["type"],
        "connected",
        "without it, it is somebody else"
    );
}
