//! `/inspect`, end to end: where a client stands beside its channel, what happened to it, and what happens now.

#![allow(clippy::unwrap_used)] // helpers stand outside of `#[test]`; a panic in one fails the test

mod support;

use fanfare::auth::{AuthConfig, Minting, TokenKey};
use fanfare::{AdminOn, ApiCommand, ApiKey, Config, Fanfare};
use fanfare_hub::{Pattern, Rule, Rules, Who};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;
use support::native::{PATH, patient};
use support::polls::{Poller, request};
use support::{Client, Response, Server, config, connect, head, response};

const API_KEY: &str = "0123456789abcdef";
const NARROW_KEY: &str = "fedcba9876543210";

fn key() -> TokenKey {
    TokenKey::new("main", None, "an-example-of-a-secret-of-enough-bytes!").unwrap()
}

fn token(user: &str) -> String {
    Minting::new(Duration::from_secs(3600)).user(user).sign(&key()).unwrap()
}

fn server() -> Server {
    let mut closed = Rule::open(Pattern::new("staff:*").unwrap());
    closed.subscribe = vec![Who::Nobody];
    let rules = Rules::new(vec![closed, Rule::open(Pattern::new("**").unwrap())]);
    let narrow = ApiKey::new("narrow", NARROW_KEY).unwrap().only_commands([ApiCommand::Publish]);
    let config = Config {
        auth: AuthConfig { anonymous: true, keys: vec![key()], ..AuthConfig::default() },
        api_keys: vec![ApiKey::new("operator", API_KEY).unwrap(), narrow],
        admin: AdminOn::MainPort,
        rules: Arc::new(rules),
        ..config()
    };
    Server::of(Fanfare::builder(()).config(config).protocol(PATH, patient()))
}

fn asked(address: SocketAddr, method: &str, path: &str, key: Option<&str>, body: &str) -> Response {
    let headers = key.map_or(String::new(), |key| format!("Authorization: Bearer {key}\r\n"));
    let mut socket = connect(address);
    socket.write_all(request(method, path, &headers, body).as_bytes()).unwrap();
    response(&mut socket)
}

fn inspect(address: SocketAddr, query: &str) -> Value {
    let answer = asked(address, "GET", &format!("/inspect{query}"), Some(API_KEY), "");
    assert_eq!(answer.status(), 200, "{query}: {}", answer.body);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    serde_json::from_str(&answer.body).unwrap()
}

fn publish(address: SocketAddr, channel: &str) -> Value {
    let body = json!({"channel": channel, "data": 1}).to_string();
    let answer = asked(address, "POST", "/api/v1/publish", Some(API_KEY), &body);
    assert_eq!(answer.status(), 200, "{}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

fn ada(address: SocketAddr) -> (Client, String) {
    let mut client = Client::native(address);
    let connected = client.hello(json!({"token": token("ada")}));
    let id = connected["client"].as_str().unwrap().to_owned();
    (client, id)
}

/// Asks until the answer is so: the end of a connection is seen a moment after its client is gone.
fn until(address: SocketAddr, query: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..10_000 {
        let found = inspect(address, query);
        if is_so(&found) {
            return found;
        }
        std::thread::yield_now();
    }
    panic!("{query}: never");
}

#[test]
fn a_client_stands_beside_its_channel_with_its_connection_and_its_rule() {
    let server = server();
    let (mut client, id) = ada(server.address);
    client.follow("chat:a");
    let published = publish(server.address, "chat:a");
    assert_eq!(client.until("message")["offset"], published["offset"]);
    for query in [format!("?client={id}"), "?user=ada".to_owned()] {
        let found = inspect(server.address, &query);
        assert_eq!(found["sessions"].as_array().map(Vec::len), Some(1), "{found}");
        let session = &found["sessions"][0];
        let expected = json!({
            "client": id, "user": "ada", "connected": true, "connections": 1, "transport": "websocket",
            "protocol": "native", "outbox_bytes": 0, "behind": false, "paused": false, "outstanding": 0, "grants": 0,
        });
        for (field, value) in expected.as_object().unwrap() {
            assert_eq!(&session[field], value, "{field} of {session}");
        }
        assert!(session["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{session}");
        assert!(session["expires_at"].is_u64() && session["connected_ms"].is_u64(), "{session}");
        let place = json!({"epoch": published["epoch"], "offset": published["offset"]});
        let subscription = json!([{
            "channel": "chat:a", "rule": "**", "by": "rule", "state": "live", "at": place, "top": place,
            "entered": false,
        }]);
        assert_eq!(session["subscriptions"], subscription);
        assert_eq!((&found["ends"], &found["events"], &found["silent"]), (&json!([]), &json!([]), &Value::Null));
    }
    let channel = inspect(server.address, "?channel=chat:a");
    assert_eq!((&channel["rule"], &channel["subscribers"], &channel["present"]), (&json!("**"), &json!(1), &json!(0)));
    assert_eq!((&channel["top"]["offset"], &channel["some"][0]["client"]), (&published["offset"], &json!(id)));
    assert_eq!(channel["shards"][0]["subscribers"], 1);
    let unused = inspect(server.address, "?channel=staff:b");
    assert_eq!(
        (&unused["rule"], &unused["subscribers"], &unused["home"]),
        (&json!("staff:*"), &json!(0), &Value::Null)
    );
    assert_eq!(inspect(server.address, "?user=bob")["sessions"], json!([]));
}

#[test]
fn a_denial_an_absence_and_the_end_of_a_connection_are_found_by_client() {
    let server = server();
    let (mut client, id) = ada(server.address);
    assert_eq!(client.ask("subscribe", json!({"channel": "staff:a"}))["code"], "denied");
    let found = inspect(server.address, "?user=ada");
    let denied = &found["events"][0];
    assert_eq!(
        (&denied["type"], &denied["client"], &denied["channel"]),
        (&json!("denied"), &json!(id), &json!("staff:a"))
    );
    assert_eq!(
        (&denied["rule"], &denied["option"], &denied["code"]),
        (&json!("staff:*"), &json!("subscribe"), &json!("denied"))
    );
    drop(client);
    let found = until(server.address, &format!("?client={id}"), |found| found["ends"] != json!([]));
    let end = &found["ends"][0];
    assert_eq!(
        (&end["type"], &end["transport"], &end["user"]),
        (&json!("disconnected"), &json!("websocket"), &json!("ada"))
    );
    // Within its grace the session is away.
    assert_eq!((&found["sessions"][0]["connected"], &found["sessions"][0]["peer"]), (&json!(false), &Value::Null));
    let all = inspect(server.address, "");
    assert_eq!((&all["ends"][0]["client"], &all["events"][0]["client"]), (&json!(id), &json!(id)));
    let none = inspect(server.address, "?limit=0");
    assert_eq!((&none["ends"], &none["events"]), (&json!([]), &json!([])));
}

#[test]
fn a_client_that_polls_is_seen_too() {
    let server = server();
    let poller = Poller::connect(server.address, json!({"token": token("bob")}));
    let found = inspect(server.address, "?user=bob");
    assert_eq!(
        (&found["sessions"][0]["transport"], &found["sessions"][0]["connected"]),
        (&json!("poll"), &json!(true))
    );
    drop(poller);
}

#[test]
fn only_a_key_that_may_ask_for_the_servers_state_sees_anything() {
    let server = server();
    for path in ["/inspect?user=ada", "/inspect/tail"] {
        assert_eq!(asked(server.address, "GET", path, None, "").status(), 401);
        assert_eq!(asked(server.address, "GET", path, Some("no such key at all"), "").status(), 401);
        let narrow = asked(server.address, "GET", path, Some(NARROW_KEY), "");
        assert_eq!(narrow.status(), 403);
        assert!(narrow.body.contains("may not info"), "{}", narrow.body);
        assert_eq!(asked(server.address, "POST", path, Some(API_KEY), "").status(), 405);
    }
    for query in ["?client=7", "?user=a&user=b", "?users=a", "?limit=-1", "?channel="] {
        assert_eq!(
            asked(server.address, "GET", &format!("/inspect{query}"), Some(API_KEY), "").status(),
            400,
            "{query}"
        );
    }
    assert_eq!(asked(server.address, "GET", "/inspect/tail?user=a", Some(API_KEY), "").status(), 400);
    // Without keys nobody is let in.
    let open = Config { admin: AdminOn::MainPort, ..config() };
    let without = Server::of(Fanfare::builder(()).config(open).protocol(PATH, patient()));
    assert_eq!(asked(without.address, "GET", "/inspect", Some(API_KEY), "").status(), 404);
}

/// The lines of a tail, without those that say that nothing happens.
fn lines(socket: TcpStream) -> impl Iterator<Item = Value> {
    let lines = BufReader::new(socket).lines().map(Result::unwrap);
    // Between the lines stand the lengths of chunks.
    lines.filter(|line| line.starts_with('{')).map(|line| serde_json::from_str(&line).unwrap())
}

#[test]
fn a_tail_shows_what_happens_to_every_client() {
    let server = server();
    let mut socket = connect(server.address);
    let headers = format!("Authorization: Bearer {API_KEY}\r\n");
    socket.write_all(request("GET", "/inspect/tail", &headers, "").as_bytes()).unwrap();
    assert!(head(&mut socket).starts_with("HTTP/1.1 200"));
    let (mut client, id) = ada(server.address);
    client.ask("subscribe", json!({"channel": "staff:a"}));
    let mut lines = lines(socket);
    let connected = lines.next().unwrap();
    assert_eq!(
        (&connected["type"], &connected["client"], &connected["user"], &connected["resumed"]),
        (&json!("connected"), &json!(id), &json!("ada"), &json!(false))
    );
    assert_eq!((&connected["transport"], &connected["protocol"]), (&json!("websocket"), &json!("native")));
    let denied = lines.next().unwrap();
    assert_eq!(
        (&denied["type"], &denied["client"], &denied["rule"]),
        (&json!("denied"), &json!(id), &json!("staff:*"))
    );
    drop(client);
    let end = lines.next().unwrap();
    assert_eq!((&end["type"], &end["client"], &end["by"]), (&json!("disconnected"), &json!(id), &json!("network")));
    let answer = asked(server.address, "POST", "/api/v1/disconnect", Some(API_KEY), r#"{"user":"mallory","ban":"1h"}"#);
    assert_eq!(answer.status(), 200, "{}", answer.body);
    let act = lines.next().unwrap();
    assert_eq!(
        (&act["type"], &act["by"], &act["key"], &act["command"], &act["user"], &act["result"], &act["sessions"]),
        (
            &json!("audit"),
            &json!("api"),
            &json!("operator"),
            &json!("disconnect"),
            &json!("mallory"),
            &json!("ok"),
            &json!(0)
        )
    );
    // A server that stops does not wait for those who watch.
    let draining = std::thread::spawn(move || server.drain());
    assert_eq!(lines.next(), None);
    draining.join().unwrap();
}

/// Each row without its time and the id of its request, which every one has.
fn audit(address: SocketAddr, query: &str) -> Vec<Value> {
    let found = inspect(address, query);
    let mut rows: Vec<Value> = found["audit"].as_array().unwrap().clone();
    for row in &mut rows {
        let row = row.as_object_mut().unwrap();
        assert!(row.remove("ts").is_some_and(|ts| ts.is_u64()), "{row:?}");
        assert_eq!(row.remove("type"), Some(json!("audit")));
        let id = row.remove("request_id");
        assert!(id.is_some_and(|id| id.as_str().is_some_and(|id| !id.is_empty())), "{row:?}");
        if let Some(until) = row.get_mut("banned_until") {
            *until = json!("later");
        }
        if let Some(why) = row.remove("why") {
            assert!(!why.to_string().contains(API_KEY) && !why.to_string().contains(NARROW_KEY), "{why}");
        }
    }
    rows
}

#[test]
fn who_did_what_and_who_was_refused_is_in_the_audit_log_without_a_secret() {
    let server = server();
    let (mut client, id) = ada(server.address);
    client.follow("chat:a");
    let call = |key, command: &str, body: Value| {
        asked(server.address, "POST", &format!("/api/v1/{command}"), key, &body.to_string()).status()
    };
    let (operator, narrow) = (Some(API_KEY), Some(NARROW_KEY));
    assert_eq!(call(operator, "publish", json!({"channel": "chat:a", "data": "a payload"})), 200);
    assert_eq!(call(operator, "unsubscribe", json!({"client": id, "channel": "chat:a"})), 200);
    assert_eq!(call(narrow, "disconnect", json!({"user": "ada"})), 403);
    assert_eq!(call(Some("no such key at all"), "disconnect", json!({"user": "ada"})), 401);
    assert_eq!(call(narrow, "publish", json!({"channel": "chat:a", "data": 1})), 200);
    let batch = json!({"commands": [
        {"type": "info"},
        {"type": "disconnect", "user": "ada", "ban": "1h"},
        {"type": "unban", "user": "ada"},
    ]});
    assert_eq!(call(operator, "batch", batch), 200);
    let by = |key: &str, rest: Value| {
        let mut row = json!({"by": "api", "key": key, "result": "ok"});
        row.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        row
    };
    let expected = [
        by("operator", json!({"command": "unban", "user": "ada"})),
        by("operator", json!({"command": "disconnect", "user": "ada", "sessions": 1, "banned_until": "later"})),
        json!({"by": "api", "command": "disconnect", "result": "unauthorized"}),
        json!({"by": "api", "key": "narrow", "command": "disconnect", "result": "denied"}),
        by("operator", json!({"command": "unsubscribe", "client": id, "channel": "chat:a", "sessions": 1})),
    ];
    assert_eq!(audit(server.address, ""), expected);
    assert_eq!(audit(server.address, "?user=ada"), expected[..2]);
    assert_eq!(audit(server.address, &format!("?client={id}")), expected[4..]);
    // The program's own doings have no key.
    let hub = server.running().handle();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(hub.disconnect(fanfare::hub::Whom::user("bob"), fanfare::hub::Disconnect::Kicked)).unwrap();
    let found = inspect(server.address, "?limit=1");
    let row = &found["audit"][0];
    assert_eq!((&row["by"], &row["key"], &row["user"]), (&json!("program"), &Value::Null, &json!("bob")));
}
