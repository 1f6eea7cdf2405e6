//! `read` of a rule, over every transport: how far back a client reads by `history`, `recent` and recovery. The
//! expected answers stand in one table, and every transport must give them.

#![allow(clippy::unwrap_used)] // helpers stand outside of `#[test]`; a panic in one fails the test

mod support;

use fanfare::hub::{Past, Pattern, Rule, Rules};
use fanfare::{ApiKey, Config, SocketIoConfig};
use serde_json::{Value, json};
use std::sync::Arc;
use support::polls::{Poller, request};
use support::socketio::{enter, event};
use support::stream::Stream;
use support::{Client, Server, config, connect, response};

const API_KEY: &str = "the-key-of-the-application";

/// What a client gets that subscribes after 1 to 3, gets 4 and 5 live, is cut, and misses 6.
struct Row {
    past: Past,
    channel: &'static str,
    /// By `recent`; `None` is refused.
    recent: Option<&'static [u64]>,
    /// By `history`, while it is subscribed.
    history: Option<&'static [u64]>,
    /// By `since`, in the same session and in another.
    resumed: &'static [u64],
    anew: &'static [u64],
}

#[rustfmt::skip]
const ROWS: [Row; 3] = [
    Row {
        past: Past::All, channel: "chat:all",
        recent: Some(&[1, 2, 3]), history: Some(&[1, 2, 3, 4, 5]), resumed: &[6], anew: &[4, 5, 6],
    },
    Row {
        past: Past::SinceJoin, channel: "chat:since",
        recent: Some(&[]), history: Some(&[4, 5]), resumed: &[6], anew: &[],
    },
    Row {
        past: Past::Nothing, channel: "chat:none",
        recent: None, history: None, resumed: &[], anew: &[],
    },
];

fn served() -> Server {
    let rule = |row: &Row| Rule { read: row.past, ..Rule::open(Pattern::new(row.channel).unwrap()) };
    let bridge = vec![Pattern::new("chat:*").unwrap()];
    Server::of(support::native::builder(Config {
        rules: Arc::new(Rules::new(ROWS.iter().map(rule).collect())),
        api_keys: vec![ApiKey::new("backend", API_KEY).unwrap()],
        socketio: SocketIoConfig { enabled: true, bridge, ..SocketIoConfig::default() },
        ..config()
    }))
}

fn api(server: &Server, command: &str, body: &Value) -> Value {
    use std::io::Write as _;
    let mut socket = connect(server.address);
    let bearer = format!("Authorization: Bearer {API_KEY}\r\n");
    socket.write_all(request("POST", &format!("/api/v1/{command}"), &bearer, &body.to_string()).as_bytes()).unwrap();
    let answer = response(&mut socket);
    assert_eq!(answer.status(), 200, "{command} {body}: {}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

fn publish(server: &Server, channel: &str, numbers: std::ops::RangeInclusive<u64>) {
    numbers.for_each(|n| drop(api(server, "publish", &json!({"channel": channel, "data": n}))));
}

fn numbers(publications: &Value) -> Vec<u64> {
    publications.as_array().unwrap().iter().map(|it| it["data"].as_u64().unwrap()).collect()
}

fn is_denied(answer: &Value) -> bool {
    let message = answer["message"].as_str().unwrap_or_default();
    answer["type"] == "error" && answer["code"] == "denied" && message.contains("says read = \"none\"")
}

/// A client of the native protocol, on any transport.
trait Native {
    fn ask(&mut self, kind: &str, fields: Value) -> Value;
    fn message(&mut self) -> Value;
}

impl Native for Client {
    fn ask(&mut self, kind: &str, fields: Value) -> Value {
        Client::ask(self, kind, fields)
    }

    fn message(&mut self) -> Value {
        Client::message(self)
    }
}

impl Native for Poller {
    fn ask(&mut self, kind: &str, fields: Value) -> Value {
        Poller::ask(self, kind, fields)
    }

    fn message(&mut self) -> Value {
        Poller::message(self)
    }
}

/// Subscribes and reads whatever it can. Returns its place, from which it goes on.
fn reads(name: &str, server: &Server, row: &Row, client: &mut impl Native) -> Value {
    publish(server, row.channel, 1..=3);
    let subscribed = client.ask("subscribe", json!({"channel": row.channel, "recent": 10}));
    let subscribed = match row.recent {
        Some(expected) => {
            assert_eq!(numbers(&subscribed["publications"]), expected, "{name}: {subscribed}");
            subscribed
        }
        None => {
            assert!(is_denied(&subscribed), "{name}: {subscribed}");
            client.ask("subscribe", json!({"channel": row.channel}))
        }
    };
    publish(server, row.channel, 4..=5);
    assert_eq!([client.message()["data"].clone(), client.message()["data"].clone()], [json!(4), json!(5)], "{name}");
    let history = client.ask("history", json!({"channel": row.channel, "limit": 10}));
    match row.history {
        Some(expected) => assert_eq!(numbers(&history["publications"]), expected, "{name}: {history}"),
        None => assert!(is_denied(&history), "{name}: {history}"),
    }
    json!({"epoch": subscribed["epoch"], "offset": 5})
}

/// The answer to a `connect` that subscribes from this place.
fn comes_back(server: &Server, mut connect: Value, row: &Row, since: &Value) -> (Client, Value) {
    connect["subscribe"] = json!([{"channel": row.channel, "since": since}]);
    let mut client = Client::native(server.address);
    client.hello(connect);
    let subscribed = client.until("subscribed");
    (client, subscribed)
}

#[test]
fn clients_of_the_native_protocol() {
    let server = served();
    for row in &ROWS {
        let mut client = Client::native(server.address);
        let ticket = client.hello(json!({"page": "a page"}))["ticket"].clone();
        let name = format!("websocket, {:?}", row.past);
        let place = reads(&name, &server, row, &mut client);
        drop(client);
        publish(&server, row.channel, 6..=6);
        let (_client, back) = comes_back(&server, json!({"ticket": ticket, "page": "a page"}), row, &place);
        let recovered = row.past != Past::Nothing;
        assert_eq!((&back["recovered"], numbers(&back["publications"])), (&json!(recovered), row.resumed.to_vec()));
        let early = json!({"epoch": place["epoch"], "offset": 3});
        let (_client, other) = comes_back(&server, json!({}), row, &early);
        let recovered = row.past == Past::All;
        assert_eq!((&other["recovered"], numbers(&other["publications"])), (&json!(recovered), row.anew.to_vec()));
    }
}

#[test]
fn clients_that_poll() {
    let server = served();
    for row in &ROWS {
        let mut poller = Poller::connect(server.address, json!({}));
        reads(&format!("polls, {:?}", row.past), &server, row, &mut poller);
    }
}

/// Each connection is a session of its own: a client that was cut gets a gap where it may not read from its place.
#[test]
fn plain_event_streams() {
    let server = served();
    for row in &ROWS {
        let name = format!("{:?}", row.past);
        publish(&server, row.channel, 1..=3);
        let mut stream = Stream::get(server.address, &format!("/events?channel={}&recent=10", row.channel), "");
        assert_eq!(stream.status(), if row.recent.is_some() { 200 } else { 403 }, "{name}");
        let Some(recent) = row.recent else {
            assert!(stream.rest().contains("says read"), "{name}");
            continue;
        };
        stream.message();
        for n in recent {
            assert_eq!(stream.message().json(), *n, "{name}");
        }
        publish(&server, row.channel, 4..=4);
        let last = stream.message();
        assert_eq!(last.json(), 4, "{name}");
        drop(stream);
        publish(&server, row.channel, 5..=5);
        let headers = format!("Last-Event-ID: {}\r\n", last.id());
        let mut stream = Stream::get(server.address, &format!("/events?channel={}", row.channel), &headers);
        stream.message();
        let next = stream.message();
        let is_whole = row.past == Past::All;
        assert_eq!(next.event.as_deref(), if is_whole { None } else { Some("fanfare.gap") }, "{name}: {next:?}");
        publish(&server, row.channel, 6..=6);
        if is_whole {
            assert_eq!(next.json(), 5, "{name}");
        }
        assert_eq!(stream.message().json(), 6, "{name}");
    }
}

/// They have no words for the past: they get what comes, under every rule.
#[test]
fn chats_and_bridged_rooms_of_socket_io() {
    let server = served();
    for row in &ROWS {
        publish(&server, row.channel, 1..=3);
        let mut chat = Client::join(server.address, "ada", row.channel.strip_prefix("chat:").unwrap());
        let (mut socket, id) = enter(&server);
        socket.text(&format!("42{}", json!(["join-room", row.channel])));
        assert_eq!(chat.message()["userId"], *id, "{:?}", row.past);
        api(&server, "publish", &json!({"channel": row.channel, "data": {"content": "hi"}}));
        assert_eq!(chat.message()["content"], "hi", "{:?}", row.past);
        let heard = loop {
            let heard = event(&mut socket, "");
            if heard[0] == "message" {
                break heard;
            }
        };
        assert_eq!(heard[1]["content"], "hi", "{:?}", row.past);
    }
}

#[test]
fn the_application_reads_everything() {
    let server = served();
    for row in &ROWS {
        publish(&server, row.channel, 1..=3);
        let history = api(&server, "history", &json!({"channel": row.channel}));
        assert_eq!(numbers(&history["publications"]), [1, 2, 3], "{:?}", row.past);
    }
}
