//! A hook that is slow, gone or wrong: what is not a valid answer is a refusal, and costs nobody else anything.

use super::receiver::{Receiver, Says};
use super::support::Client;
use super::support::polls::Poller;
use super::support::stream::Stream;
use super::*;
use fanfare::hooks::BreakerConfig;
use serde_json::{Value, json};
use std::net::TcpListener;

/// Asks a hook for a subscription.
fn subscribe(client: &mut Client, channel: &str) -> Value {
    client.ask("subscribe", json!({"channel": channel}))
}

/// A server that asks about subscriptions only.
fn asking(receiver: &Receiver) -> HooksConfig {
    let breaker = BreakerConfig { failures: 0, ..BreakerConfig::default() };
    HooksConfig { connect: None, breaker, ..all(receiver) }
}

#[test]
fn what_is_no_valid_answer_is_a_refusal() {
    let receiver = Receiver::kind();
    let server = serve(settings(HooksConfig { answer_bytes_max: 1000, ..asking(&receiver) }));
    let mut client = Client::connected(server.address);
    let json = |text: &str| Says::Raw(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len()));
    let long = format!("{{\"result\":{{}}{}}}", " ".repeat(1000));
    let rows: Vec<(&str, Says)> = vec![
        ("no JSON", json("ok")),
        ("nothing", json("")),
        ("no result", json("{}")),
        ("both", json(r#"{"result":{},"error":{"code":"denied"}}"#)),
        ("another type", json(r#"{"result":true}"#)),
        ("null", json(r#"{"result":null}"#)),
        ("a misspelt key", json(r#"{"results":{}}"#)),
        ("a key that is not of this answer", json(r#"{"result":{"user":"eve"}}"#)),
        ("a key besides", json(r#"{"result":{},"allow":true}"#)),
        ("twice", json(r#"{"result":{},"result":{}}"#)),
        ("no code of ours", json(r#"{"error":{"code":"nope","message":"x"}}"#)),
        ("a retry of what is not retried", json(r#"{"error":{"code":"denied","retry_after":1}}"#)),
        ("too long", json(&long)),
        ("not UTF-8 inside", Says::Raw("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n\"\u{fffd}".to_owned())),
        ("204", Says::status(204)),
        ("201", Says::Raw("HTTP/1.1 201 Created\r\nContent-Length: 13\r\n\r\n{\"result\":{}}".to_owned())),
        ("403", Says::status(403)),
        ("404", Says::status(404)),
        ("500", Says::status(500)),
        (
            "a redirect",
            Says::Raw(format!(
                "HTTP/1.1 307 Temporary Redirect\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n",
                receiver.url("/elsewhere"),
            )),
        ),
        ("no HTTP", Says::Raw("SSH-2.0-nonsense\r\n".to_owned())),
        ("cut", Says::Cut("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"resul".to_owned())),
        ("hung up", Says::Hangup),
    ];
    for (name, says) in rows {
        receiver.says(move |_| says.clone());
        let refused = subscribe(&mut client, "asked:a");
        assert_eq!(
            (&refused["code"], &refused["retryable"]),
            (&json!("hook_unavailable"), &json!(true)),
            "{name}: {refused}"
        );
    }
    let elsewhere = receiver.rest().into_iter().filter(|asked| asked.path != "/hook").count();
    assert_eq!(elsewhere, 0, "a redirect is not followed");
    receiver.says(|_| Says::result(json!({})));
    assert_eq!(subscribe(&mut client, "asked:a")["type"], "subscribed", "nothing of it lasts");
}

/// Its `user` would be another one's, or nobody's.
#[test]
fn an_identity_that_is_none_lets_nobody_in() {
    let receiver = Receiver::kind();
    let server = serve(settings(all(&receiver)));
    for result in [
        json!({"user": 42}),
        json!({"user": ""}),
        json!({"user": "a\u{202e}b"}),
        json!({"user": "ada", "info": {"a": 1}, "admin": true}),
        json!({"user": "ada", "channels": [{"match": "a:**:b", "allow": []}]}),
        json!({"user": "ada", "channels": [{"match": "a", "allow": ["everything"]}]}),
        json!({"user": "ada", "subscribe": ["a b"]}),
        json!({"user": "ada", "claims": []}),
        json!({"user": "ada", "expires_in": -1}),
        json!({"user": "ada", "expires_in": 1, "expires_at": 1}),
    ] {
        let says = Says::result(result.clone());
        receiver.says(move |_| says.clone());
        let refused = Client::native(server.address).ask("connect", json!({"token": "x"}));
        assert_eq!(refused["code"], "hook_unavailable", "{result}: {refused}");
    }
    receiver.says(|_| Says::result(json!({"user": "ada", "expires_at": 1})));
    let refused = Client::native(server.address).ask("connect", json!({"token": "x"}));
    assert_eq!(refused["code"], "token_expired", "{refused}");
}

#[test]
fn an_application_that_is_not_there_is_a_refusal() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let receiver = Receiver::kind();
    let url = HttpUrl::new(&format!("http://{free}/")).unwrap();
    let server = serve(settings(HooksConfig { subscribe: Some(url), ..asking(&receiver) }));
    let mut client = Client::connected(server.address);
    assert_eq!(subscribe(&mut client, "asked:a")["code"], "hook_unavailable");
    assert_eq!(
        client.ask("publish", json!({"channel": "asked:a", "data": 1}))["type"],
        "published",
        "its hook answers"
    );
}

/// A hook of one kind hangs. Clients that do not ask it go on: other commands of the same client, other clients, and
/// other kinds of hooks.
#[test]
fn a_hook_that_hangs_costs_nobody_else_anything() {
    let receiver = Receiver::new(|asked| match asked.body["type"].as_str() {
        Some("subscribe") => Says::Nothing,
        _ => Says::result(json!({})),
    });
    let timeout = Duration::from_secs(300); // longer than the test
    let hooks = HooksConfig { connect: None, concurrency: 2, queue_max: 2, timeout, ..all(&receiver) };
    let mut config = settings(hooks);
    config.limits.hook_timeout_ms = 301_000;
    let server = serve(config);
    let mut stuck = Client::connected(server.address);
    for at in 0..5 {
        stuck.text(&json!({"type": "subscribe", "id": at, "channel": format!("asked:{at}")}).to_string());
    }
    let refused = stuck.message(); // two are under way, two wait
    assert_eq!((&refused["code"], &refused["retry_after"]), (&json!("hook_unavailable"), &json!(500)), "{refused}");
    assert_eq!(stuck.ask_next("publish", json!({"channel": "open:b", "data": 2}))["type"], "published");
    let mut ada = Client::connected(server.address);
    assert_eq!(subscribe(&mut ada, "asked:z")["code"], "hook_unavailable");
    ada.follow("open:a");
    assert_eq!(ada.ask("publish", json!({"channel": "open:a", "data": 1}))["type"], "published");
    assert_eq!(ada.ask("publish", json!({"channel": "asked:a", "data": 1}))["type"], "published", "another hook");
    let mut chat = Client::join(server.address, "bob", "room");
    chat.say("hello");
    assert_eq!(chat.until("message")["content"], "hello");
    let mut socket = support::socketio::enter(&server).0;
    support::socketio::join(&mut socket, "room");
    let mut stream = Stream::get(server.address, "/events?channel=open:a&recent=1", "");
    while stream.block().and_then(|block| block.data).as_deref() != Some("1") {}
    let mut poller = Poller::connect(server.address, json!({}));
    let published = poller.send(json!([{"type": "publish", "id": 1, "channel": "open:a", "data": 2}]));
    assert_eq!(published[0]["type"], "published", "{published:?}");
}

#[test]
fn a_queue_that_is_full_refuses_and_says_when_to_come_back() {
    let receiver = Receiver::new(|_| Says::Nothing);
    let server = serve(settings(HooksConfig { concurrency: 1, queue_max: 0, ..asking(&receiver) }));
    let mut stuck = Client::connected(server.address);
    stuck.text(&json!({"type": "subscribe", "id": 1, "channel": "asked:a"}).to_string());
    receiver.next();
    let refused = subscribe(&mut Client::connected(server.address), "asked:a");
    assert_eq!((&refused["code"], &refused["retryable"]), (&json!("hook_unavailable"), &json!(true)), "{refused}");
    assert_eq!(refused["retry_after"], 500, "{refused}");
}

#[test]
fn a_breaker_stops_requests_and_lets_one_try() {
    let receiver = Receiver::new(|_| Says::status(503));
    let pause = Duration::from_millis(300);
    let breaker = BreakerConfig { failures: 3, window: Duration::from_secs(60), pause };
    let server = serve(settings(HooksConfig { breaker, ..asking(&receiver) }));
    let mut client = Client::connected(server.address);
    for _ in 0..3 {
        assert_eq!(subscribe(&mut client, "asked:a").get("retry_after"), None);
    }
    let refused = subscribe(&mut client, "asked:a");
    if receiver.rest().len() == 3 {
        let wait = refused["retry_after"].as_u64().expect("it says when");
        assert!(wait <= pause.as_millis() as u64, "{refused}");
    }
    // Publications go by a hook of their own.
    receiver.says(|_| Says::result(json!({})));
    assert_eq!(client.ask("publish", json!({"channel": "asked:a", "data": 1}))["type"], "published");
    // It is tried again by itself: a client that asks again gets in.
    let begin = std::time::Instant::now();
    while subscribe(&mut client, "asked:a")["type"] != "subscribed" {
        assert!(begin.elapsed() < Duration::from_secs(60), "it stays open");
        std::thread::yield_now();
    }
}

/// Each of these is a setting that needs no restart.
#[test]
fn channels_places_and_the_breaker_are_reloaded() {
    let receiver = Receiver::kind();
    let hooks = HooksConfig { concurrency: 1, queue_max: 0, ..asking(&receiver) };
    let server = serve(settings(hooks.clone()));
    let mut client = Client::connected(server.address);
    assert_eq!(subscribe(&mut client, "open:0")["type"], "subscribed");
    assert!(receiver.rest().is_empty(), "its rule decides");
    let all = vec![fanfare::hub::Pattern::new("open:*").unwrap()];
    let hooks = HooksConfig { subscribe_channels: all.clone(), publish_channels: all, ..hooks };
    assert!(server.running().reload_hooks(&hooks));
    // A shard takes it in at its next turn.
    let begin = std::time::Instant::now();
    let mut at = 0;
    while receiver.rest().is_empty() {
        at += 1;
        assert!(begin.elapsed() < support::DEADLINE, "it is never asked");
        assert_eq!(subscribe(&mut client, &format!("open:{at}"))["type"], "subscribed");
        client.ask("unsubscribe", json!({"channel": format!("open:{at}")}));
    }
    client.ask("publish", json!({"channel": "open:0", "data": 1}));
    assert_eq!(receiver.next().body["type"], "publish");

    receiver.says(|_| Says::Nothing);
    client.text(&json!({"type": "subscribe", "id": 1, "channel": "asked:a"}).to_string());
    receiver.next();
    let mut other = Client::connected(server.address);
    assert_eq!(subscribe(&mut other, "asked:a")["retry_after"], 500, "there is one place");
    let breaker = BreakerConfig { failures: 1, window: Duration::from_secs(60), pause: Duration::from_secs(600) };
    let hooks = HooksConfig { concurrency: 2, queue_max: 10, breaker, ..hooks };
    assert!(server.running().reload_hooks(&hooks));
    receiver.says(|_| Says::status(503));
    assert_eq!(subscribe(&mut other, "asked:a").get("retry_after"), None, "there is another");
    let refused = subscribe(&mut other, "asked:a");
    assert!(refused["retry_after"].as_u64().is_some_and(|ms| ms > 60_000), "the breaker is open: {refused}");
}

#[test]
fn a_connection_is_used_again_and_replaced_when_the_application_has_closed_it() {
    let receiver = Receiver::kind();
    let server = serve(settings(asking(&receiver)));
    let mut client = Client::connected(server.address);
    for at in 0..20 {
        assert_eq!(subscribe(&mut client, &format!("asked:{at}"))["type"], "subscribed");
    }
    assert_eq!(receiver.connections(), 1);
    let close = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 13\r\n\r\n{\"result\":{}}";
    receiver.says(move |_| Says::Raw(close.to_owned()));
    for at in 20..25 {
        assert_eq!(subscribe(&mut client, &format!("asked:{at}"))["type"], "subscribed");
    }
    assert_eq!(receiver.connections(), 5, "the first, and one for each answer that closed");
    // Closed without a word after the request: the same request comes again, once, under the same id.
    receiver.says(|_| Says::result(json!({})));
    subscribe(&mut client, "asked:90");
    receiver.rest();
    receiver.says(|_| Says::Hangup);
    assert_eq!(subscribe(&mut client, "asked:91")["code"], "hook_unavailable");
    let ids: Vec<_> = receiver.rest().iter().map(|asked| asked.header("webhook-id").unwrap().to_owned()).collect();
    assert!(ids.len() == 2 && ids[0] == ids[1], "{ids:?}");
}
