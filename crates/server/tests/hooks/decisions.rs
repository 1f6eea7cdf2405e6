//! What the application decides, and what comes of it.

use super::receiver::{Receiver, Says};
use super::support::native::PATH;
use super::support::socketio::{enter, text};
use super::support::{Client, response, upgrade};
use super::*;
use serde_json::{Value, json};
use std::io::Write as _;

/// A WebSocket whose request has these headers.
fn with_headers(server: &Server, headers: &[(&str, &str)]) -> Client {
    let mut socket = support::connect(server.address);
    socket.write_all(&upgrade(server.address, PATH, &["fanfare.v1"], headers)).unwrap();
    assert_eq!(response(&mut socket).status(), 101);
    Client::of(socket)
}

#[test]
fn connect_is_decided_with_what_the_client_shows() {
    let receiver = Receiver::new(|_| {
        Says::result(json!({
            "user": "ada", "info": {"name": "Ada"}, "expires_in": 3_600_000, "claims": {"role": "admin"},
            "channels": [{"match": "granted:*", "allow": ["subscribe"]}], "subscribe": ["own:ada"],
        }))
    });
    let server = serve(settings(all(&receiver)));
    let own = format!("http://{}", server.address);
    let headers =
        [("User-Agent", "test/1"), ("Cookie", "session=s1; other=hidden"), ("X-Other", "hidden"), ("Origin", &own)];
    let mut client = with_headers(&server, &headers);
    let connected = client.ask("connect", json!({"token": "t0ken"}));
    assert_eq!((&connected["type"], &connected["user"]), (&json!("connected"), &json!("ada")), "{connected}");
    let asked = receiver.next();
    assert_eq!(asked.path, "/hook");
    assert!(asked.is_signed_by(SECRET) && asked.is_signed_by(OTHER_SECRET), "{asked:?}");
    assert!(!asked.is_signed_by("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYY"), "the check can fail");
    let request = json!({
        "path": PATH, "scheme": "http", "address": "127.0.0.1", "headers": {"user-agent": "test/1"},
        "cookies": {"session": "s1"},
    });
    assert_eq!(asked.body, json!({"type": "connect", "token": "t0ken", "request": request}));
    assert_eq!(asked.header("content-type"), Some("application/json"));
    client.follow("granted:a");
    let denied = client.ask("publish", json!({"channel": "granted:a", "data": 1}));
    assert_eq!(denied["code"], "denied", "the grant is for `subscribe` only: {denied}");
}

#[test]
fn a_refusal_of_the_application_is_the_clients_error() {
    let receiver = Receiver::new(|_| Says::error("token_expired", "come back with another one"));
    let server = serve(settings(all(&receiver)));
    let refused = Client::native(server.address).ask("connect", json!({"token": "old"}));
    let expected = ("error", "token_expired", "come back with another one", false);
    let got = (&refused["type"], &refused["code"], &refused["message"], &refused["retryable"]);
    assert_eq!(got, (&json!(expected.0), &json!(expected.1), &json!(expected.2), &json!(expected.3)), "{refused}");
    receiver.says(|_| Says::Json(json!({"error": {"code": "unavailable", "message": "busy", "retry_after": 1234}})));
    let refused = Client::native(server.address).ask("connect", json!({}));
    assert_eq!((&refused["code"], &refused["retry_after"]), (&json!("unavailable"), &json!(1234)), "{refused}");
    assert_eq!(receiver.next().body["token"], "old");
    assert_eq!(receiver.next().body.get("token"), None, "it showed none");
}

#[test]
fn a_newer_token_is_asked_about_as_a_refresh() {
    let receiver = Receiver::new(|asked| match asked.body["token"].as_str() {
        Some("eve") => Says::result(json!({"user": "eve"})),
        _ => Says::result(json!({"user": "ada", "expires_in": 60_000})),
    });
    let mut hooks = all(&receiver);
    hooks.refresh = Some(HttpUrl::new(&receiver.url("/refresh")).unwrap());
    let server = serve(settings(hooks));
    let mut client = Client::native(server.address);
    let client_id = client.hello(json!({"token": "first"}))["client"].clone();
    assert_eq!(receiver.next().path, "/hook");
    let refreshed = client.ask("refresh", json!({"token": "second"}));
    assert_eq!(refreshed["type"], "result", "{refreshed}");
    let asked = receiver.next();
    let body = &asked.body;
    assert_eq!((asked.path.as_str(), &body["type"], &body["client"]), ("/refresh", &json!("refresh"), &client_id));
    assert_eq!((&body["user"], &body["token"]), (&json!("ada"), &json!("second")));
    let refused = client.ask("refresh", json!({"token": "eve"}));
    assert_eq!(refused["code"], "denied", "another user: {refused}");
}

#[test]
fn subscriptions_and_publications_are_asked_about_where_a_rule_says_so() {
    let receiver = Receiver::kind();
    let server = serve(settings(all(&receiver)));
    let mut ada = Client::native(server.address);
    let id = ada.hello(json!({"token": "ada"}))["client"].clone();
    receiver.next();
    ada.follow("open:a");
    assert!(receiver.rest().is_empty(), "the rule alone decides");
    ada.follow("asked:a");
    let expected = json!({
        "type": "subscribe", "client": id, "user": "ada", "channel": "asked:a",
        "options": {"presence": true, "signals": true},
    });
    assert_eq!(receiver.next().body, expected);
    let fields = json!({"channel": "asked:a", "data": {"text": "hi"}, "event": "chat", "idempotency_key": "k1"});
    let published = ada.ask("publish", fields);
    assert_eq!(published["type"], "published", "{published}");
    let expected = json!({
        "type": "publish", "client": id, "user": "ada", "channel": "asked:a", "data": {"text": "hi"}, "event": "chat",
        "idempotency_key": "k1",
    });
    assert_eq!(receiver.next().body, expected);
    receiver.says(|asked| match asked.body["type"].as_str() {
        Some("publish") => {
            let mut data = asked.body["data"].clone();
            data["seen"] = true.into();
            Says::result(json!({"data": data, "event": null}))
        }
        _ => Says::error("denied", "not this channel"),
    });
    let refused = ada.ask("subscribe", json!({"channel": "asked:b"}));
    assert_eq!((&refused["code"], &refused["message"]), (&json!("denied"), &json!("not this channel")), "{refused}");
    ada.ask("publish", json!({"channel": "asked:a", "data": {"text": "again"}, "event": "chat"}));
    let history = ada.ask("history", json!({"channel": "asked:a", "limit": 1}));
    let last = &history["publications"][0];
    assert_eq!(last["data"], json!({"text": "again", "seen": true}), "{history}");
    assert_eq!(last.get("event"), None, "{history}");
    let stranger = receiver.rest();
    assert!(stranger.iter().all(|asked| asked.is_signed_by(SECRET)), "{stranger:?}");
}

/// The hook is asked besides the rule, and may edit.
#[test]
fn channels_of_the_setting_are_asked_about_although_their_rule_allows_them() {
    let receiver = Receiver::new(|asked| match asked.body["channel"].as_str() {
        Some("open:closed") => Says::error("denied", "closed"),
        _ => Says::result(json!({})),
    });
    let mut hooks = HooksConfig { connect: None, ..all(&receiver) };
    hooks.subscribe_channels = vec![Pattern::new("open:*").unwrap()];
    hooks.publish_channels = vec![Pattern::new("open:*").unwrap()];
    let server = serve(settings(hooks));
    let mut client = Client::connected(server.address);
    client.follow("open:a");
    assert_eq!(receiver.next().body["type"], "subscribe");
    assert_eq!(client.ask("publish", json!({"channel": "open:a", "data": 1}))["type"], "published");
    assert_eq!(receiver.next().body["type"], "publish");
    for kind in ["subscribe", "publish"] {
        let refused = client.ask(kind, json!({"channel": "open:closed", "data": 1}));
        assert_eq!((&refused["code"], &refused["message"]), (&json!("denied"), &json!("closed")), "{refused}");
    }
    // A rule that denies is final: nobody is asked.
    receiver.rest();
    let refused = client.ask("subscribe", json!({"channel": "granted:a"}));
    assert_eq!(refused["code"], "denied", "{refused}");
    assert!(receiver.rest().is_empty());
}

#[test]
fn calls_are_answered_over_the_native_protocol_and_socket_io() {
    let receiver = Receiver::kind();
    receiver.says(|asked| match (asked.body["type"].as_str(), asked.body["method"].as_str()) {
        (Some("rpc"), Some("double")) => {
            let number = asked.body["data"].as_i64().or(asked.body["data"][0].as_i64()).unwrap_or_default();
            Says::result(json!({"data": number * 2}))
        }
        (Some("rpc"), _) => Says::error("not_found", "no such method"),
        _ => Says::result(json!({})),
    });
    let server = serve(settings(all(&receiver)));
    let mut native = Client::connected(server.address);
    assert_eq!(native.ask("rpc", json!({"method": "double", "data": 21}))["data"], 42);
    assert_eq!(native.ask("rpc", json!({"method": "nothing", "data": null}))["code"], "not_found");
    let (mut socket, _) = enter(&server);
    socket.text(r#"427["double",4]"#);
    assert_eq!(text(&mut socket), "437[8]");
    let calls: Vec<Value> =
        receiver.rest().into_iter().map(|asked| asked.body).filter(|body| body["type"] == "rpc").collect();
    assert_eq!(calls.last().map(|body| &body["data"]), Some(&json!([4])), "{calls:?}");
}

/// Handlers of the program come first; `[hooks]` answers the rest.
#[test]
fn a_program_may_have_handlers_besides() {
    let receiver = Receiver::kind();
    let runtime = support::runtime();
    let entered = runtime.enter();
    let hooks = HooksConfig { connect: None, ..all(&receiver) };
    let builder = Fanfare::builder(()).config(settings(hooks)).protocol("/", patient_chat()).protocol(PATH, patient());
    let builder = builder.rpc("own", async || fanfare::Json("mine")).on_subscribe("asked:own", async || ());
    let server = Server::of(builder);
    drop(entered);
    let mut client = Client::connected(server.address);
    assert_eq!(client.ask("rpc", json!({"method": "own", "data": 1}))["data"], "mine");
    client.follow("asked:own");
    assert!(receiver.rest().is_empty(), "the program has answered");
    assert_eq!(client.ask("rpc", json!({"method": "other", "data": 7}))["data"], 7);
    client.follow("asked:other");
    assert_eq!(receiver.rest().len(), 2);
    let both = Fanfare::builder(()).config(settings(all(&receiver))).on_connect(async || "ada").build();
    assert!(matches!(both, Err(fanfare::ServeError::TwoIdentities { .. })));
}
