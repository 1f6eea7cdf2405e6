//! Chat clients and native clients in one channel: each gets the other's messages in its own protocol, whichever shards
//! they landed on. A chat's room R is the channel `chat:R`, its members are that channel's presence, and typing is a
//! signal.

mod support;

use serde_json::{Value, json};
use support::{Client, Server, config, shards};

const ROOM: &str = "r";
const CHANNEL: &str = "chat:r";

/// As many of each as there are shards, so that there are pairs on one shard and pairs on two. Also returns the first
/// native client's id.
fn pairs(server: &Server) -> (Vec<Client>, Vec<Client>, String) {
    let (first, id) = named(server);
    let mut natives = vec![first];
    natives.extend((1..shards()).map(|_| Client::connected(server.address)));
    natives.iter_mut().for_each(|native| drop(native.follow(CHANNEL)));
    let mut chats: Vec<Client> = Vec::new();
    for n in 0..shards() {
        chats.push(Client::join(server.address, &format!("chat{n}"), ROOM));
        for (other, chat) in chats.iter_mut().enumerate().take(n) {
            assert_eq!(chat.message()["userId"], format!("chat{n}"), "told to {other}");
        }
        for native in &mut natives {
            let join = native.message();
            assert_eq!(
                (&join["type"], &join["data"]["userId"]),
                (&json!("join"), &json!(format!("chat{n}"))),
                "{join}"
            );
        }
    }
    (natives, chats, id)
}

/// A native client, connected, with its public id.
fn named(server: &Server) -> (Client, String) {
    let mut client = Client::native(server.address);
    let id = client.hello(json!({}))["client"].as_str().expect("an id").to_owned();
    (client, id)
}

#[test]
fn a_chat_message_reaches_native_clients_with_its_position() {
    let server = Server::native(config());
    let (mut natives, mut chats, _) = pairs(&server);
    for n in 0..chats.len() {
        chats[n].say(&format!("{n} \u{1F600} \"quoted\""));
        let content = format!("{n} \u{1F600} \"quoted\"");
        for native in &mut natives {
            let message = native.message();
            assert_eq!(
                (&message["type"], &message["channel"], &message["offset"]),
                (&json!("message"), &json!(CHANNEL), &json!(n + 1))
            );
            let data = json!({"content": content, "userId": format!("chat{n}"), "username": format!("chat{n}")});
            assert_eq!(message["data"], data);
            assert!(message["from"]["client"].is_string() && message["ts"].is_u64(), "{message}");
        }
        for chat in &mut chats {
            assert_eq!(chat.message()["content"], content.as_str());
        }
    }
    let history = natives[0].ask_next("history", json!({"channel": CHANNEL}));
    assert_eq!(history["publications"].as_array().map(Vec::len), Some(chats.len()), "and it is kept");
}

#[test]
fn a_native_publication_is_shown_by_chat_clients() {
    let server = Server::native(config());
    let (mut natives, mut chats, client) = pairs(&server);
    for (what, content, user_id, username) in [
        (json!({"data": "hello"}), "hello", client.as_str(), client.as_str()),
        (json!({"data": {"content": "hi", "userId": "bot", "username": "Bot"}}), "hi", "bot", "Bot"),
        (json!({"data": {"text": 7}}), r#"{"text":7}"#, client.as_str(), client.as_str()),
        (json!({"data": {"content": 7, "userId": 8}}), r#"{"content":7,"userId":8}"#, client.as_str(), client.as_str()),
        (json!({"data": [1, null]}), "[1,null]", client.as_str(), client.as_str()),
        (json!({"data64": "/9j/"}), "/9j/", client.as_str(), client.as_str()),
        (json!({"data": "again", "event": "photo", "idempotency_key": "k"}), "again", client.as_str(), client.as_str()),
    ] {
        let mut fields = what.clone();
        fields["channel"] = CHANNEL.into();
        let published = natives[0].ask("publish", fields);
        assert_eq!(published["type"], "published", "{what}: {published}");
        for chat in &mut chats {
            let message = chat.message();
            assert!(message["timestamp"].is_u64(), "{message}");
            assert_eq!(
                (&message["type"], &message["content"], &message["userId"], &message["username"]),
                (&json!("message"), &json!(content), &json!(user_id), &json!(username)),
                "{what}"
            );
        }
    }
}

/// The order is the channel's: both kinds of clients get the messages of both kinds in the same order.
#[test]
fn everybody_hears_the_same_order() {
    const EACH: usize = 200;
    let server = Server::native(config());
    let (natives, chats, _) = pairs(&server);
    let total = EACH * (natives.len() + chats.len());
    let heard = |message: &Value| match message["type"].as_str() {
        Some("message") => {
            let content = if message["content"].is_string() { &message["content"] } else { &message["data"] };
            Some(content.as_str().or_else(|| content["content"].as_str()).expect("a text").to_owned())
        }
        _ => None,
    };
    let talking =
        natives.into_iter().map(|client| (client, true)).chain(chats.into_iter().map(|client| (client, false)));
    let threads: Vec<_> = talking
        .enumerate()
        .map(|(who, (mut client, is_native))| {
            std::thread::spawn(move || {
                for n in 0..EACH {
                    let text = format!("{who}-{n}");
                    if is_native {
                        let publish = json!({"type": "publish", "channel": CHANNEL, "data": text});
                        client.text(&publish.to_string());
                    } else {
                        client.say(&text);
                    }
                }
                let mut all = Vec::new();
                while all.len() < total {
                    all.extend(heard(&client.message()));
                }
                all
            })
        })
        .collect();
    let orders: Vec<Vec<String>> = threads.into_iter().map(|thread| thread.join().expect("it heard all")).collect();
    for (who, all) in orders.iter().enumerate() {
        assert_eq!(all, &orders[0], "{who} heard another order");
    }
}

#[test]
fn the_presence_is_the_same_for_both() {
    let server = Server::native(config());
    let (mut native, id) = named(&server);
    native.follow(CHANNEL);
    let nat = json!({"channel": CHANNEL, "data": {"userId": "nat", "username": "Nat"}});
    native.ask("presence_set", nat);
    let mut quiet = Client::connected(server.address); // subscribed, and not present
    quiet.follow(CHANNEL);

    let mut ada = Client::open(server.address, "/");
    ada.text(&support::join("ada", ROOM));
    assert_eq!(ada.message()["userId"], "ada");
    let state = ada.message();
    assert_eq!(
        (&state["type"], &state["users"]),
        (&json!("room_state"), &json!([{"userId": "nat", "username": "Nat"}]))
    );
    let join = quiet.message();
    assert_eq!(
        (&join["type"], &join["data"]),
        (&json!("join"), &json!({"userId": "ada", "username": "ada"})),
        "{join}"
    );
    let presence = quiet.ask_next("presence", json!({"channel": CHANNEL}));
    let names: Vec<_> =
        presence["entries"].as_array().expect("names").iter().map(|entry| entry["data"]["userId"].clone()).collect();
    assert_eq!((&presence["count"], names), (&json!(2), vec![json!("nat"), json!("ada")]));

    native.ask("presence_set", json!({"channel": CHANNEL, "data": {"userId": "nat", "username": "Nat", "away": true}}));
    native.ask("presence_clear", json!({"channel": CHANNEL}));
    let leave = ada.message();
    assert_eq!(
        (&leave["type"], &leave["userId"], &leave["username"]),
        (&json!("leave"), &json!("nat"), &json!("Nat")),
        "a change of data is not told to a chat"
    );
    native.ask("presence_set", json!({"channel": CHANNEL, "data": null}));
    let join = ada.message();
    assert_eq!((&join["type"], &join["userId"]), (&json!("join"), &json!(id)), "who gives no name has its id");
    native.close();
    assert_eq!(ada.message()["type"], "leave", "a close on purpose is no short cut");

    ada.text(r#"{"type":"leave"}"#);
    assert_eq!(quiet.until("leave")["data"]["userId"], "nat");
    assert_eq!(quiet.until("leave")["data"], Value::Null);
    assert_eq!(quiet.until("leave")["data"]["userId"], "ada");
    assert_eq!(quiet.ask_next("presence", json!({"channel": CHANNEL}))["count"], 0);
}

#[test]
fn typing_is_a_signal_in_both_directions() {
    let server = Server::native(config());
    let (mut natives, mut chats, client) = pairs(&server);
    chats[0].text(r#"{"type":"typing","userId":"chat0","username":"chat0"}"#);
    for native in &mut natives {
        let signal = native.message();
        assert_eq!(
            (&signal["type"], &signal["event"], &signal["channel"]),
            (&json!("signal"), &json!("typing"), &json!(CHANNEL))
        );
        assert_eq!(signal["data"], json!({"userId": "chat0", "username": "chat0"}));
    }
    for chat in &mut chats[1..] {
        assert_eq!((&chat.message()["type"], "chat0"), (&json!("typing"), "chat0"));
    }
    for (data, user_id) in [(json!({"userId": "nat", "username": "Nat"}), "nat"), (Value::Null, client.as_str())] {
        natives[0].ask("signal", json!({"channel": CHANNEL, "event": "typing", "data": data}));
        for chat in &mut chats {
            let typing = chat.message();
            assert_eq!(
                (&typing["type"], &typing["userId"]),
                (&json!("typing"), &json!(user_id)),
                "the sender of the chat's own typing did not get it back"
            );
        }
    }
    // A chat gets no signal for which its protocol has no message, and no signal for another client.
    natives[0].ask("signal", json!({"channel": CHANNEL, "event": "cursor", "data": 1}));
    natives[0].ask("publish", json!({"channel": CHANNEL, "data": "the next thing to hear"}));
    for chat in &mut chats {
        assert_eq!(chat.message()["content"], "the next thing to hear");
    }
}
