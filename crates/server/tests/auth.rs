//! Tokens by configuration, end to end on real sockets: every transport and every place where a token may stand, good
//! tokens, bad ones and those that expire.

#![allow(clippy::unwrap_used)] // helpers stand outside of `#[test]`; a panic in one fails the test

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fanfare::auth::{AuthConfig, Minting, TokenKey};
use fanfare::hub::{Action, Pattern, Rule, Rules};
use fanfare::{Config, Fanfare, Origins, RequestInfo, ServeError, SocketIoConfig, Token, Who};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use support::native::PATH;
use support::polls::{Poller, json_of, post, request};
use support::socketio::{entered, opened, text};
use support::stream::Stream;
use support::{Client, Response, Server, config, connect, join, patient_chat, response, upgrade};

const SECRET: &str = "an-example-of-a-secret-of-enough-bytes!";

fn key() -> TokenKey {
    TokenKey::new("main", None, SECRET).unwrap()
}

fn minting() -> Minting {
    Minting::new(Duration::from_secs(3600)).user("ada")
}

fn ada() -> String {
    minting().sign(&key()).unwrap()
}

/// Good until this moment of the wall clock, which may be within a second.
fn until(ms: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let claims = json!({"sub": "ada", "exp": (now + ms) as f64 / 1000.0});
    signed(&json!({"alg": "HS256"}), &claims)
}

/// With claims that `Minting` does not make.
fn signed(header: &Value, claims: &Value) -> String {
    use hmac_sha256::sign;
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(sign(SECRET.as_bytes(), message.as_bytes())))
}

/// HMAC (RFC 2104) by hand: a second opinion on what the server takes for a signature.
mod hmac_sha256 {
    use sha2::{Digest as _, Sha256};

    pub(super) fn sign(key: &[u8], message: &[u8]) -> [u8; 32] {
        let pad = |with: u8| -> Vec<u8> { (0..64).map(|at| key.get(at).copied().unwrap_or(0) ^ with).collect() };
        let inner = Sha256::new_with_prefix(pad(0x36)).chain_update(message).finalize();
        Sha256::new_with_prefix(pad(0x5c)).chain_update(inner).finalize().into()
    }
}

fn rule(pattern: &str, who: Who) -> Rule {
    let rule = Rule::open(Pattern::new(pattern).unwrap());
    Rule { subscribe: vec![who], publish: vec![Who::Subscriber], ..rule }
}

/// `chat:{user}` and `inbox:{user}` are for that user alone.
fn settings() -> Config {
    let rules = vec![
        rule("chat:{user}", Who::Authenticated),
        rule("inbox:{user}", Who::Authenticated),
        rule("room:*", Who::Grant),
        rule("own:*", Who::Nobody),
    ];
    let auth = AuthConfig {
        anonymous: false,
        keys: vec![key()],
        leeway: Duration::ZERO,
        cookie: "session".to_owned(),
        ..AuthConfig::default()
    };
    Config {
        auth,
        rules: Arc::new(Rules::new(rules)),
        origins: Origins::List(vec!["https://app.example".parse().unwrap()]),
        socketio: SocketIoConfig { enabled: true, ..SocketIoConfig::default() },
        ..config()
    }
}

struct Served {
    server: Server,
    address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

fn serve(settings: Config) -> Served {
    let runtime = support::runtime();
    let server = {
        let _entered = runtime.enter();
        Server::of(Fanfare::builder(()).config(settings).protocol("/", patient_chat()))
    };
    Served { address: server.address, server, _runtime: runtime }
}

/// A WebSocket whose request has these subprotocols and headers.
fn websocket(address: SocketAddr, path: &str, protocols: &[&str], headers: &[(&str, &str)]) -> (Client, Response) {
    use std::io::Write as _;
    let mut socket = connect(address);
    socket.write_all(&upgrade(address, path, protocols, headers)).unwrap();
    let response = response(&mut socket);
    (Client::of(socket), response)
}

/// The answer to a bare `connect` over a WebSocket whose request has these headers.
fn greeted(address: SocketAddr, path: &str, protocols: &[&str], headers: &[(&str, &str)]) -> Value {
    let (mut client, response) = websocket(address, path, protocols, headers);
    assert_eq!(response.status(), 101, "{}{}", response.head, response.body);
    assert_eq!(response.header("sec-websocket-protocol"), Some("fanfare.v1"), "no token is echoed");
    client.ask("connect", json!({}))
}

fn asked(address: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> Response {
    use std::io::Write as _;
    let mut socket = connect(address);
    socket.write_all(request(method, path, headers, body).as_bytes()).unwrap();
    response(&mut socket)
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

#[test]
fn a_websocket_takes_a_token_from_wherever_it_stands() {
    let served = serve(settings());
    let (address, token) = (served.address, ada());
    let encoded = format!("fanfare.token.{}", URL_SAFE_NO_PAD.encode(&token));
    let bare = format!("fanfare.token.{token}");
    let (in_query, value) = (format!("{PATH}?token={token}"), format!("Bearer {token}"));
    let cookie = format!("theme=dark; session={token}");
    let of_page = [("Origin", "https://app.example"), ("Cookie", &*cookie)];
    type Row<'a> = (&'a str, &'a str, &'a [&'a str], &'a [(&'a str, &'a str)]);
    let rows: [Row<'_>; 5] = [
        ("Authorization", PATH, &["fanfare.v1"], &[("Authorization", &value)]),
        ("a subprotocol", PATH, &["fanfare.v1", &encoded], &[]),
        ("a subprotocol that is the JWT", PATH, &[&bare, "fanfare.v1"], &[]),
        ("the query", &in_query, &["fanfare.v1"], &[]),
        ("a cookie", PATH, &["fanfare.v1"], &of_page),
    ];
    for (name, path, protocols, headers) in rows {
        let connected = greeted(address, path, protocols, headers);
        assert_eq!(
            (&connected["type"], &connected["user"]),
            (&json!("connected"), &json!("ada")),
            "{name}: {connected}"
        );
    }
    let mut client = Client::native(address);
    let connected = client.hello(json!({"token": token}));
    assert_eq!(connected["user"], "ada");
    assert!(connected["expires"].as_u64().is_some_and(|ms| (3_500_000..=3_600_000).contains(&ms)), "{connected}");
    // The program's own token counts before the cookie, which the browser sends.
    let (mut client, _) = websocket(address, PATH, &["fanfare.v1"], &of_page);
    let bob = Minting::new(Duration::from_secs(60)).user("bob").sign(&key()).unwrap();
    assert_eq!(client.hello(json!({"token": bob}))["user"], "bob");
    // A cookie whose page is not known is none.
    let refused = greeted(address, PATH, &["fanfare.v1"], &[("Cookie", &cookie)]);
    assert_eq!(refused["message"], "a token is needed: the option auth.anonymous is false");
}

#[test]
fn a_token_names_the_user_on_every_other_transport() {
    let served = serve(settings());
    let (address, token) = (served.address, ada());
    for path in ["/v1/sse", "/v1/stream"] {
        let mut stream = Stream::get(address, path, &bearer(&token));
        assert_eq!(stream.status(), 200, "{path}: {}", stream.head);
        let connected = if path == "/v1/sse" { stream.message().json() } else { stream.line().unwrap() };
        assert_eq!(connected["user"], "ada", "{path}");
    }
    for headers in [bearer(&token), format!("Origin: https://app.example\r\nCookie: session={token}\r\n")] {
        let answer = json_of(asked(address, "POST", "/v1/poll", &headers, r#"{"type":"connect","id":1}"#));
        assert_eq!(Poller::of(address, &answer).connected["user"], "ada");
    }
    let target = format!("/events?channel=inbox:ada&token={token}");
    assert_eq!(Stream::get(address, &target, "").status(), 200);
    assert_eq!(Stream::get(address, "/events?channel=inbox:ada", &bearer(&token)).status(), 200);
    assert_eq!(Stream::get(address, "/events?channel=inbox:bob", &bearer(&token)).status(), 403, "not hers");
    let (mut chat, response) = websocket(address, "/", &[], &[("Authorization", &format!("Bearer {token}"))]);
    assert_eq!(response.status(), 101, "{}", response.head);
    chat.text(&join("u1", "ada"));
    chat.until("room_state");
    let said = |client: &mut Client| {
        client.text(r#"42["join-room","lobby"]"#);
        client.text(r#"42["message",{}]"#);
        let event: Value = serde_json::from_str(text(client).strip_prefix("42").unwrap()).unwrap();
        event[1]["userId"].clone()
    };
    let (mut client, _) = opened(address);
    client.text(&format!(r#"40{{"token":"{token}"}}"#));
    entered(&mut client, "");
    assert_eq!(said(&mut client), "ada");
    let (mut client, _) =
        websocket(address, support::socketio::PATH, &[], &[("Authorization", &format!("Bearer {token}"))]);
    text(&mut client);
    client.text("40");
    entered(&mut client, "");
    assert_eq!(said(&mut client), "ada", "from the request");
}

#[test]
fn a_bad_token_is_refused_by_its_name_on_every_transport() {
    let served = serve(settings());
    let address = served.address;
    let other = TokenKey::new("other", None, "another-example-of-a-secret-of-enough-bytes").unwrap();
    let forged = minting().sign(&other).unwrap();
    let expired = signed(&json!({"alg": "HS256"}), &json!({"sub": "ada", "exp": 1_000_000_000}));
    let rows = [
        (&forged, "unauthorized", "its signature is not that of a key for HS256"),
        (&expired, "token_expired", "(claim `exp`)"),
    ];
    for (token, code, words) in rows {
        let mut client = Client::native(address);
        let refused = client.ask("connect", json!({"token": token}));
        assert_eq!((&refused["type"], &refused["code"]), (&json!("error"), &json!(code)), "{refused}");
        assert!(refused["message"].as_str().unwrap().contains(words), "{refused}");
        // The client may try again, with a good one.
        assert_eq!(client.hello(json!({"token": ada()}))["user"], "ada");
        let json = "Accept: application/json\r\n";
        for path in ["/v1/sse", "/v1/stream", "/events?channel=inbox:ada"] {
            let refused = asked(address, "GET", path, &format!("{}{json}", bearer(token)), "");
            is_refused(&refused, 401, code, words);
        }
        let refused = asked(address, "POST", "/v1/poll", &bearer(token), r#"{"type":"connect","id":1}"#);
        is_refused(&refused, 401, code, words);
        let (mut chat, _) = websocket(address, "/", &[], &[("Authorization", &format!("Bearer {token}"))]);
        assert_eq!(chat.closed(), Some(4502));
        let (mut client, _) = opened(address);
        client.text(&format!(r#"40{{"token":"{token}"}}"#));
        let refused = text(&mut client);
        assert!(refused.starts_with(r#"44{"message":"认证错误""#), "{refused}");
        assert_eq!(refused.contains(r#""data":{"code":"token_expired""#), code == "token_expired", "{refused}");
        for answer in [client.ask_raw("40"), refused] {
            assert!(!answer.contains(token.rsplit('.').next().unwrap()), "{answer}");
        }
    }
}

trait AskRaw {
    fn ask_raw(&mut self, packet: &str) -> String;
}

impl AskRaw for Client {
    fn ask_raw(&mut self, packet: &str) -> String {
        self.text(packet);
        text(self)
    }
}

/// RFC 6750 §3: the challenge says what is wrong with the token, and the body says the same.
fn is_refused(refused: &Response, status: u16, code: &str, words: &str) {
    assert_eq!(refused.status(), status, "{}{}", refused.head, refused.body);
    let challenge = refused.header("www-authenticate").unwrap();
    assert!(
        challenge.starts_with("Bearer realm=\"fanfare\", error=\"invalid_token\", error_description=\""),
        "{challenge}"
    );
    assert!(challenge.contains(&words.replace('"', "'")), "{challenge}");
    let body: Value = serde_json::from_str(&refused.body).unwrap();
    assert_eq!(body["code"], code, "{body}");
    assert!(body["message"].as_str().unwrap().contains(words), "{body}");
}

#[test]
fn without_a_token_the_challenge_names_no_error_and_with_two_it_does() {
    let served = serve(settings());
    let address = served.address;
    let none = asked(address, "GET", "/v1/sse", "", "");
    assert_eq!((none.status(), none.header("www-authenticate")), (401, Some("Bearer realm=\"fanfare\"")));
    assert_eq!(none.body, "a token is needed: the option auth.anonymous is false\n");
    let other = until(60_000);
    let two = [
        asked(address, "GET", &format!("/v1/sse?token={other}"), &bearer(&ada()), ""),
        asked(address, "POST", &format!("/v1/poll?token={other}"), &bearer(&ada()), r#"{"type":"connect","id":1}"#),
        asked(address, "GET", &format!("/socket.io/?EIO=4&transport=polling&token={other}"), &bearer(&ada()), ""),
        websocket(
            address,
            &format!("{PATH}?token={other}"),
            &["fanfare.v1"],
            &[("Authorization", &format!("Bearer {}", ada()))],
        )
        .1,
    ];
    for refused in two {
        assert_eq!(refused.status(), 400, "{}{}", refused.head, refused.body);
        let challenge = refused.header("www-authenticate").unwrap();
        assert!(
            challenge.contains("error=\"invalid_request\"") && challenge.contains("two different tokens"),
            "{challenge}"
        );
    }
    let (mut client, _) = websocket(address, PATH, &["fanfare.v1"], &[("Authorization", &format!("Bearer {}", ada()))]);
    let refused = client.ask("connect", json!({"token": other}));
    assert_eq!(refused["code"], "bad_request");
    assert!(refused["message"].as_str().unwrap().contains("two different tokens"), "{refused}");
    let same = ada();
    let (mut client, _) = websocket(address, PATH, &["fanfare.v1"], &[("Authorization", &format!("Bearer {same}"))]);
    assert_eq!(client.hello(json!({"token": same}))["user"], "ada", "the same one twice is one");
}

/// A page that may connect may not send by a cookie: a send needs the ticket.
#[test]
fn a_cookie_is_no_ticket() {
    let served = serve(settings());
    let headers = format!("Origin: https://app.example\r\nCookie: session={}\r\n", ada());
    let body = r#"{"ticket":"x","commands":[{"type":"publish","channel":"inbox:ada","data":1}]}"#;
    let refused = asked(served.address, "POST", "/v1/send", &headers, body);
    assert_eq!(refused.status(), 401, "{}", refused.body);
    let strange = headers.replace("app.example", "evil.example");
    let (_, refused) = websocket(
        served.address,
        PATH,
        &["fanfare.v1"],
        &[("Origin", "https://evil.example"), ("Cookie", "session=x")],
    );
    assert_eq!(refused.status(), 403, "{}", refused.body);
    assert_eq!(asked(served.address, "POST", "/v1/poll", &strange, r#"{"type":"connect","id":1}"#).status(), 403);
}

/// Each transport is told at the same moment, and each in its own words.
#[test]
fn a_session_ends_when_its_token_expires_on_every_transport() {
    let served = serve(settings());
    let address = served.address;
    let mut native = Client::native(address);
    native.hello(json!({"token": until(4_000)}));
    let mut sse = Stream::get(address, "/v1/sse", &bearer(&until(4_000)));
    let mut lines = Stream::get(address, "/v1/stream", &bearer(&until(4_000)));
    let mut events = Stream::get(address, "/events?channel=inbox:ada", &bearer(&until(4_000)));
    let mut poller = Poller::connect(address, json!({"token": until(4_000)}));
    let (mut chat, _) = websocket(address, "/", &[], &[("Authorization", &format!("Bearer {}", until(4_000)))]);
    chat.text(&join("u1", "ada"));
    chat.until("room_state");
    let (mut socketio, _) = opened(address);
    socketio.text(&format!(r#"40{{"token":"{}"}}"#, until(4_000)));
    entered(&mut socketio, "");

    let is_end = |message: &Value| message["type"] == "disconnect";
    let ended = |message: &Value| {
        assert_eq!(
            (&message["code"], &message["reason"], &message["retry"]),
            (&json!(4007), &json!("expired"), &json!(true))
        );
    };
    ended(&std::iter::from_fn(|| Some(native.message())).find(is_end).unwrap());
    assert_eq!(native.closed(), Some(4007));
    ended(&std::iter::from_fn(|| Some(sse.message().json())).find(is_end).unwrap());
    ended(&std::iter::from_fn(|| lines.line()).find(is_end).unwrap());
    ended(&std::iter::from_fn(|| Some(poller.message())).find(is_end).unwrap());
    while events.block().is_some() {}
    assert_eq!(chat.closed(), Some(4007));
    loop {
        match socketio.next() {
            support::Frame::Close(..) | support::Frame::End => break,
            _ => {}
        }
    }
}

#[test]
fn a_session_is_refreshed_by_a_good_token_of_the_same_user() {
    let served = serve(settings());
    let mut client = Client::native(served.address);
    client.hello(json!({"token": until(60_000)}));
    let refused = client.ask("refresh", json!({"token": "a.b.c"}));
    assert_eq!(refused["code"], "unauthorized");
    let old = signed(&json!({"alg": "HS256"}), &json!({"sub": "ada", "exp": 1_000_000_000}));
    assert_eq!(client.ask("refresh", json!({"token": old}))["code"], "token_expired");
    let bob = Minting::new(Duration::from_secs(60)).user("bob").sign(&key()).unwrap();
    let refused = client.ask("refresh", json!({"token": bob}));
    assert_eq!(refused["code"], "denied");
    assert!(refused["message"].as_str().unwrap().contains("another user"), "{refused}");
    let refreshed = client.ask("refresh", json!({"token": ada()}));
    assert!(refreshed["expires"].as_u64().unwrap() > 3_000_000, "{refreshed}");
}

#[test]
fn a_token_grants_channels_and_subscribes_to_some() {
    let served = serve(settings());
    let minting = minting().claim("info", json!({"name": "Ada"})).claim("role", json!("admin"));
    let token = minting.grant("room:{user}", &[Action::Subscribe]).subscribe("own:1").sign(&key()).unwrap();
    let mut client = Client::native(served.address);
    client.hello(json!({"token": token}));
    let subscribed = client.message();
    assert_eq!((&subscribed["type"], &subscribed["channel"]), (&json!("subscribed"), &json!("own:1")));
    client.follow("room:ada");
    let refused = client.ask("subscribe", json!({"channel": "room:bob"}));
    assert_eq!((&refused["code"], &refused["rule"]), (&json!("denied"), &json!("room:*")));
    client.follow("inbox:ada");
    client.ask("presence_set", json!({"channel": "inbox:ada", "data": 1}));
    let presence = client.ask("presence", json!({"channel": "inbox:ada"}));
    assert_eq!(presence["entries"][0]["info"], json!({"name": "Ada"}), "{presence}");
    assert!(!presence.to_string().contains("admin"), "other claims are the server's");
}

#[test]
fn other_keys_count_from_the_next_token_on_and_sessions_go_on() {
    let served = serve(settings());
    let mut client = Client::native(served.address);
    client.hello(json!({"token": ada()}));
    let new = TokenKey::new("new", None, "another-example-of-a-secret-of-enough-bytes").unwrap();
    let auth = AuthConfig { keys: vec![new.clone()], ..settings().auth };
    assert!(served.server.running().reload_auth(&auth));
    let refused = Client::native(served.address).ask("connect", json!({"token": ada()}));
    assert_eq!(refused["code"], "unauthorized");
    client.follow("inbox:ada");
    let newer = minting().sign(&new).unwrap();
    assert_eq!(client.ask("refresh", json!({"token": newer}))["type"], "result");
}

/// A server without keys asks about no token, and cannot begin to.
#[test]
fn a_server_without_keys_has_anonymous_clients_and_refuses_tokens() {
    let served = serve(config());
    let mut client = Client::native(served.address);
    let refused = client.ask("connect", json!({"token": ada()}));
    assert_eq!(refused["code"], "unauthorized");
    assert_eq!(client.hello(json!({})).get("user"), None);
    let (mut client, _) = websocket(served.address, PATH, &["fanfare.v1"], &[("Authorization", "Bearer of-a-proxy")]);
    client.hello(json!({}));
    assert!(!served.server.running().reload_auth(&settings().auth));
    assert!(served.server.running().reload_auth(&AuthConfig::default()));
}

#[test]
fn a_server_that_takes_both_has_anonymous_clients_and_users() {
    let served = serve(Config { auth: AuthConfig { anonymous: true, ..settings().auth }, ..settings() });
    assert_eq!(Client::native(served.address).hello(json!({})).get("user"), None);
    assert_eq!(Client::native(served.address).hello(json!({"token": ada()}))["user"], "ada");
    let refused = Client::native(served.address).ask("connect", json!({"token": "a.b.c"}));
    assert_eq!(refused["code"], "unauthorized", "a bad token is no anonymous client");
    assert_eq!(post(served.address, "/v1/poll", &json!({"type": "connect", "id": 1})).status(), 200);
}

#[test]
fn a_handler_and_the_settings_do_not_both_identify() {
    let identify = async |_: Option<Token>| fanfare::Identity::anonymous();
    let built = Fanfare::builder(()).config(settings()).on_connect(identify).build();
    assert!(matches!(built, Err(ServeError::TwoIdentities { .. })));
}

/// In the time of a test, which does not pass by itself.
#[tokio::test]
async fn a_client_is_reminded_before_its_token_expires() {
    let server = Fanfare::builder(()).config(settings()).build().unwrap().test().unwrap();
    let carried = RequestInfo::get("/v1/ws").with_header("authorization", &format!("Bearer {}", ada()));
    assert_eq!(server.connect_with(carried, json!({"type": "connect"})).await.connected()["user"], "ada");
    let mut client =
        server.client_with_token(&Minting::new(Duration::from_secs(60)).user("ada").sign(&key()).unwrap()).await;
    assert_eq!(client.connected()["user"], "ada");
    server.advance(Duration::from_secs(20)).await;
    client.request(json!({"type": "publish", "channel": "inbox:ada"})).await; // a sign of life
    server.advance(Duration::from_secs(12)).await;
    let reminder = client.next_of("token_expiring").await;
    assert!(reminder["expires"].as_u64().is_some_and(|ms| (20_000..=30_000).contains(&ms)), "{reminder}");
    client.request(json!({"type": "publish", "channel": "inbox:ada"})).await;
    server.advance(Duration::from_secs(15)).await;
    client.request(json!({"type": "publish", "channel": "inbox:ada"})).await;
    server.advance(Duration::from_secs(15)).await;
    assert_eq!(client.closed().await.code, 4007);
}
