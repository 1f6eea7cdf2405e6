//! Notices: each at least once, in the order of its channel, and nobody waits for the application.

use super::receiver::{Asked, Receiver, Says};
use super::support::{Client, DEADLINE};
use super::*;
use fanfare::hooks::NoticesConfig;
use fanfare::{Channel, Refusal, State, User};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// All of them, and no question.
fn notifying(receiver: &Receiver) -> HooksConfig {
    let notices = NoticesConfig {
        url: Some(HttpUrl::new(&receiver.url("/notices")).unwrap()),
        disconnect: true,
        join: true,
        leave: true,
        occupied: true,
        vacated: true,
        published: true,
        ..NoticesConfig::default()
    };
    let none = HooksConfig { connect: None, subscribe: None, publish: None, rpc: None, ..all(receiver) };
    HooksConfig { notices, ..none }
}

fn settings_with(hooks: HooksConfig) -> Config {
    let mut config = settings(hooks);
    config.limits.linger_ms = 10; // a shard tells at once that nobody subscribes any more
    config.limits.grace_ms = 10;
    config
}

/// The notices of a request.
fn notices(asked: &Asked) -> Vec<Value> {
    assert_eq!(asked.body["type"], "notices");
    assert!(asked.is_signed_by(SECRET));
    asked.body["notices"].as_array().unwrap().clone()
}

/// The next notices, until one of this type, without their ids and times.
fn until(receiver: &Receiver, kind: &str, seen: &mut Vec<Value>) {
    while !seen.iter().any(|notice| notice["type"] == kind) {
        for mut notice in notices(&receiver.next()) {
            let fields = notice.as_object_mut().unwrap();
            let id = fields.remove("id").unwrap();
            assert!(id.as_str().unwrap().starts_with("ntc_") && fields.remove("ts").unwrap().is_u64(), "{notice}");
            seen.push(notice);
        }
    }
}

#[test]
fn what_happens_in_channels_and_to_sessions_is_told_in_order() {
    let receiver = Receiver::kind();
    let server = serve(settings_with(notifying(&receiver)));
    let mut client = Client::native(server.address);
    let id = client.hello(json!({}))["client"].clone();
    let place = client.follow("open:a");
    client.ask("presence_set", json!({"channel": "open:a", "data": {"mood": "good"}}));
    client.ask("publish", json!({"channel": "open:a", "data": {"n": 1}, "event": "news", "idempotency_key": "k"}));
    client.ask("presence_clear", json!({"channel": "open:a"}));
    client.ask("unsubscribe", json!({"channel": "open:a"}));
    let mut seen = Vec::new();
    until(&receiver, "vacated", &mut seen);
    let expected = [
        json!({"type": "occupied", "channel": "open:a"}),
        json!({"type": "join", "channel": "open:a", "client": id, "data": {"mood": "good"}}),
        json!({
            "type": "published", "channel": "open:a", "client": id, "epoch": place["epoch"], "offset": 1,
            "data": {"n": 1}, "event": "news", "idempotency_key": "k",
        }),
        json!({"type": "leave", "channel": "open:a", "client": id, "data": {"mood": "good"}}),
        json!({"type": "vacated", "channel": "open:a"}),
    ];
    assert_eq!(seen, expected);
    client.close();
    let mut seen = Vec::new();
    until(&receiver, "disconnect", &mut seen);
    assert_eq!(seen, [json!({"type": "disconnect", "client": id, "reason": "left"})]);
}

#[test]
fn only_what_was_asked_for_is_told_and_of_those_channels() {
    let receiver = Receiver::kind();
    let mut hooks = notifying(&receiver);
    hooks.notices.channels = vec![Pattern::new("chat:*").unwrap()];
    (hooks.notices.occupied, hooks.notices.join, hooks.notices.disconnect) = (false, false, false);
    let server = serve(settings_with(hooks));
    let mut client = Client::connected(server.address);
    client.follow("open:a");
    client.follow("chat:a");
    client.ask("publish", json!({"channel": "open:a", "data": 1}));
    client.ask("publish", json!({"channel": "chat:a", "data": 2}));
    client.ask("unsubscribe", json!({"channel": "chat:a"}));
    let mut seen = Vec::new();
    until(&receiver, "vacated", &mut seen);
    let words: Vec<_> = seen.iter().map(|notice| (&notice["type"], &notice["channel"])).collect();
    assert_eq!(words, [(&json!("published"), &json!("chat:a")), (&json!("vacated"), &json!("chat:a"))]);
}

/// The numbers that were published, in the order in which they were taken.
fn numbers(taken: &[Value]) -> Vec<u64> {
    taken.iter().filter(|notice| notice["type"] == "published").map(|it| it["data"].as_u64().unwrap()).collect()
}

#[test]
fn a_batch_that_is_not_taken_comes_again_under_the_same_ids_and_nothing_overtakes_it() {
    let receiver = Receiver::new(|_| Says::status(503));
    let server = serve(settings_with(notifying(&receiver)));
    let mut client = Client::connected(server.address);
    client.ask("publish", json!({"channel": "open:a", "data": 0}));
    let first = receiver.next();
    for number in 1..50 {
        client.ask("publish", json!({"channel": "open:a", "data": number}));
    }
    receiver.says(|_| Says::Hangup);
    let second = receiver.next();
    assert_eq!((first.header("webhook-id"), &first.body), (second.header("webhook-id"), &second.body));
    receiver.says(|_| Says::status(204));
    let (mut taken, mut ids) = (Vec::new(), BTreeSet::new());
    while numbers(&taken).last() != Some(&49) {
        for notice in notices(&receiver.next()) {
            if ids.insert(notice["id"].to_string()) {
                taken.push(notice);
            }
        }
    }
    assert_eq!(numbers(&taken), (0..50).collect::<Vec<_>>());
}

#[test]
fn what_finds_no_room_is_counted_in_its_place_and_publishers_do_not_wait() {
    let receiver = Receiver::new(|_| Says::status(503));
    let mut hooks = notifying(&receiver);
    hooks.notices.bytes_max = 64 << 10;
    let server = serve(settings_with(hooks));
    let mut client = Client::connected(server.address);
    const ALL: u64 = 400;
    for number in 0..ALL {
        let published = client.ask("publish", json!({"channel": "open:a", "data": number, "event": "e".repeat(64)}));
        assert_eq!(published["type"], "published");
    }
    receiver.says(|_| Says::result(json!({})));
    let (mut taken, mut ids) = (Vec::new(), BTreeSet::new());
    let dropped = |taken: &[Value]| taken.iter().filter_map(|notice| notice["count"].as_u64()).sum::<u64>();
    while numbers(&taken).len() as u64 + dropped(&taken) < ALL {
        for notice in notices(&receiver.next()) {
            if ids.insert(notice["id"].to_string()) {
                taken.push(notice);
            }
        }
    }
    let (numbers, dropped) = (numbers(&taken), dropped(&taken));
    assert!(dropped > 0 && numbers.len() as u64 + dropped == ALL, "{} and {dropped}", numbers.len());
    assert!(numbers.is_sorted(), "in order: {numbers:?}");
}

#[test]
fn a_server_that_stops_sends_what_waits() {
    let receiver = Receiver::kind();
    let server = serve(settings_with(notifying(&receiver)));
    let mut client = Client::connected(server.address);
    for number in 0..500 {
        client.text(&json!({"type": "publish", "channel": "open:a", "data": number}).to_string());
    }
    client.ask("publish", json!({"channel": "open:a", "data": 500}));
    drop(client);
    server.drain();
    let taken: Vec<Value> = receiver.rest().iter().flat_map(notices).collect();
    assert_eq!(numbers(&taken), (0..=500).collect::<Vec<_>>());
}

/// It takes no notice of what it is told.
#[test]
fn a_server_that_stops_does_not_wait_for_ever() {
    let receiver = Receiver::new(|_| Says::Nothing);
    let mut config = settings_with(notifying(&receiver));
    config.close_timeout = Duration::from_millis(200);
    let server = serve(config);
    let mut client = Client::connected(server.address);
    client.ask("publish", json!({"channel": "open:a", "data": 1}));
    receiver.next();
    drop(client);
    server.drain();
}

#[test]
fn other_channels_and_kinds_are_notified_of_after_a_reload() {
    let receiver = Receiver::kind();
    let mut hooks = notifying(&receiver);
    hooks.notices.channels = vec![Pattern::new("open:*").unwrap()];
    let server = serve(settings_with(hooks.clone()));
    let mut client = Client::connected(server.address);
    client.follow("chat:a");
    hooks.notices.channels = vec![Pattern::new("chat:*").unwrap()];
    hooks.notices.published = false;
    assert!(server.running().reload_hooks(&hooks));
    let mut seen = Vec::new();
    until(&receiver, "occupied", &mut seen);
    assert_eq!(seen, [json!({"type": "occupied", "channel": "chat:a"})], "it is in use already");
    client.follow("open:a");
    client.ask("publish", json!({"channel": "open:a", "data": 1}));
    client.ask("publish", json!({"channel": "chat:a", "data": 1}));
    client.ask("unsubscribe", json!({"channel": "chat:a"}));
    until(&receiver, "vacated", &mut seen);
    assert_eq!(seen[1..], [json!({"type": "vacated", "channel": "chat:a"})]);
}

/// Both have patterns of their own.
#[test]
fn handlers_of_the_program_are_told_besides() {
    let receiver = Receiver::kind();
    let mut hooks = notifying(&receiver);
    hooks.notices.channels = vec![Pattern::new("chat:*").unwrap()];
    let (told, tells) = std::sync::mpsc::channel::<String>();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    let server = Fanfare::builder(told).config(settings_with(hooks)).protocol(PATH, patient());
    let server = Server::of(server.on_published(
        "open:*",
        async |State(told): State<std::sync::mpsc::Sender<String>>, channel: Channel, user: Option<User>| {
            assert_eq!(user, None);
            told.send(channel.to_string())?;
            Ok::<_, Refusal>(())
        },
    ));
    let mut client = Client::connected(server.address);
    for channel in ["open:a", "chat:a", "open:b"] {
        client.ask("publish", json!({"channel": channel, "data": 1}));
    }
    let mut seen = Vec::new();
    until(&receiver, "published", &mut seen);
    assert_eq!((seen.len(), &seen[0]["channel"]), (1, &json!("chat:a")));
    let mut heard = [tells.recv_timeout(DEADLINE).unwrap(), tells.recv_timeout(DEADLINE).unwrap()];
    heard.sort();
    assert_eq!(heard, ["open:a", "open:b"], "in the order of each, and of nothing else");
}
