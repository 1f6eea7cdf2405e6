//! Cookies as proof of a user, on every transport: they count for the server's own pages and for those that `origins`
//! names, and for no other page that makes the browser of a visitor send them (cross-site request forgery, cross-site
//! WebSocket hijacking). Sends and the API never take one.

#![allow(clippy::unwrap_used)] // helpers stand outside of `#[test]`; a panic in one fails the test

mod support;

use fanfare::auth::{AuthConfig, Minting, TokenKey};
use fanfare::hub::{Pattern, Rule, Rules};
use fanfare::{ApiKey, Config, Fanfare, Origins, SocketIoConfig, Who};
use serde_json::{Value, json};
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use support::native::PATH;
use support::polls::request;
use support::{Client, Frame, Response, Server, config, connect, join, patient_chat, response, socketio, upgrade};

const SECRET: &str = "an-example-of-a-secret-of-enough-bytes!";
/// The page that `origins` names.
const NAMED: &str = "https://app.example";

fn key() -> TokenKey {
    TokenKey::new("main", None, SECRET).unwrap()
}

struct Served {
    address: SocketAddr,
    _server: Server,
    _runtime: tokio::runtime::Runtime,
}

/// Everything needs a user: `chat:{user}` and `inbox:{user}`.
fn serve(origins: Origins) -> Served {
    let rule = |pattern: &str| {
        let rule = Rule::open(Pattern::new(pattern).unwrap());
        Rule { subscribe: vec![Who::Authenticated], publish: vec![Who::Subscriber], ..rule }
    };
    let auth = AuthConfig { anonymous: false, keys: vec![key()], cookie: "session".into(), ..AuthConfig::default() };
    let settings = Config {
        auth,
        origins,
        rules: Arc::new(Rules::new(vec![rule("chat:{user}"), rule("inbox:{user}")])),
        api_keys: vec![ApiKey::new("backend", "0123456789abcdef0123456789abcdef").unwrap()],
        socketio: SocketIoConfig { enabled: true, ..SocketIoConfig::default() },
        ..config()
    };
    let runtime = support::runtime();
    let server = {
        let _entered = runtime.enter();
        Server::of(Fanfare::builder(()).config(settings).protocol("/", patient_chat()))
    };
    Served { address: server.address, _server: server, _runtime: runtime }
}

/// What a request with the cookie is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum As {
    /// The user of the cookie.
    Ada,
    /// Nobody: a token is needed.
    Nobody,
    /// Its page may not ask at all.
    Forbidden,
}

type Headers<'h> = &'h [(&'h str, &'h str)];

fn asked(address: SocketAddr, method: &str, path: &str, headers: Headers<'_>, body: &str) -> Response {
    let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let mut socket = connect(address);
    // The address is the host of its own pages.
    let text = request(method, path, &lines, body).replace("Host: localhost", &format!("Host: {address}"));
    socket.write_all(text.as_bytes()).unwrap();
    response(&mut socket)
}

fn of_status(response: &Response) -> As {
    match response.status() {
        200 => As::Ada,
        401 => As::Nobody,
        403 => As::Forbidden,
        status => panic!("{status}: {}{}", response.head, response.body),
    }
}

fn opened(address: SocketAddr, path: &str, protocols: &[&str], headers: Headers<'_>) -> Option<Client> {
    let mut socket = connect(address);
    socket.write_all(&upgrade(address, path, protocols, headers)).unwrap();
    let response = response(&mut socket);
    match response.status() {
        101 => Some(Client::of(socket)),
        403 => None,
        status => panic!("{status}: {}{}", response.head, response.body),
    }
}

fn by_websocket(address: SocketAddr, headers: Headers<'_>) -> As {
    let Some(mut client) = opened(address, PATH, &["fanfare.v1"], headers) else { return As::Forbidden };
    let answer = client.ask("connect", json!({}));
    match (&answer["type"], &answer["user"], &answer["code"]) {
        (Value::String(kind), Value::String(user), _) if kind == "connected" && user == "ada" => As::Ada,
        (_, _, Value::String(code)) if code == "unauthorized" => As::Nobody,
        _ => panic!("{answer}"),
    }
}

fn by_chat(address: SocketAddr, headers: Headers<'_>) -> As {
    let Some(mut client) = opened(address, "/", &[], headers) else { return As::Forbidden };
    client.text(&join("u1", "ada"));
    loop {
        match client.next() {
            Frame::Text(text) if text.contains("room_state") => return As::Ada,
            Frame::Text(_) => {}
            Frame::Close(Some(4502), _) => return As::Nobody,
            other => panic!("{other:?}"),
        }
    }
}

fn of_namespace(answer: &str) -> As {
    match answer.get(..2) {
        Some("40") => As::Ada,
        Some("44") => As::Nobody,
        _ => panic!("{answer}"),
    }
}

fn by_socketio(address: SocketAddr, headers: Headers<'_>) -> As {
    let Some(mut client) = opened(address, socketio::PATH, &[], headers) else { return As::Forbidden };
    socketio::text(&mut client);
    client.text("40");
    of_namespace(&socketio::text(&mut client))
}

/// The cookie of the handshake counts; the requests that follow have none.
fn by_socketio_polls(address: SocketAddr, headers: Headers<'_>) -> As {
    let path = "/socket.io/?EIO=4&transport=polling";
    let handshake = asked(address, "GET", path, headers, "");
    if handshake.status() == 403 {
        return As::Forbidden;
    }
    let opened: Value = serde_json::from_str(handshake.body.strip_prefix('0').expect(&handshake.body)).unwrap();
    let path = format!("{path}&sid={}", opened["sid"].as_str().unwrap());
    assert_eq!(asked(address, "POST", &path, &[], "40").status(), 200);
    of_namespace(&asked(address, "GET", &path, &[], "").body)
}

const CONNECT: &str = r#"{"type":"connect","id":1}"#;

fn by_get(path: &'static str) -> impl Fn(SocketAddr, Headers<'_>) -> As {
    move |address, headers| of_status(&asked(address, "GET", path, headers, ""))
}

fn by_post(path: &'static str) -> impl Fn(SocketAddr, Headers<'_>) -> As {
    move |address, headers| of_status(&asked(address, "POST", path, headers, CONNECT))
}

#[test]
fn a_cookie_counts_for_own_and_named_pages_on_every_transport() {
    type Transport = Box<dyn Fn(SocketAddr, Headers<'_>) -> As>;
    let transports: [(&str, Transport); 11] = [
        ("a WebSocket", Box::new(by_websocket)),
        ("a chat", Box::new(by_chat)),
        ("/events", Box::new(by_get("/events?channel=inbox:ada"))),
        ("/v1/sse", Box::new(by_get("/v1/sse"))),
        ("/v1/stream", Box::new(by_get("/v1/stream"))),
        ("/v1/sse by POST", Box::new(by_post("/v1/sse"))),
        ("/v1/stream by POST", Box::new(by_post("/v1/stream"))),
        ("/v1/poll", Box::new(by_post("/v1/poll"))),
        ("Socket.IO over a WebSocket", Box::new(by_socketio)),
        ("Socket.IO by polls", Box::new(by_socketio_polls)),
        (
            "HEAD",
            Box::new(|address, headers| {
                // The body that the head announces does not come.
                let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
                let mut socket = connect(address);
                let target = "/events?channel=inbox:ada";
                socket
                    .write_all(format!("HEAD {target} HTTP/1.1\r\nHost: {address}\r\n{lines}\r\n").as_bytes())
                    .unwrap();
                of_status(&Response { head: support::head(&mut socket), body: String::new() })
            }),
        ),
    ];
    let named = || Origins::List(vec![NAMED.parse().unwrap()]);
    let evil = "https://evil.example";
    const OWN: &str = "(the server's own)";
    type Row<'a> = (&'a str, Origins, &'a [&'a str], Option<&'a str>, As);
    #[rustfmt::skip]
    let rows: [Row<'_>; 20] = [
        ("a page that is named", named(), &[NAMED], None, As::Ada),
        ("and is of another site", named(), &[NAMED], Some("cross-site"), As::Ada),
        ("a page of the same host", named(), &[OWN], Some("same-origin"), As::Ada),
        ("in a browser without `Sec-Fetch-Site`", named(), &[OWN], None, As::Ada),
        ("a page of the same host without TLS", named(), &[OWN], Some("cross-site"), As::Nobody),
        ("the same host is the default", Origins::SameHost, &[OWN], None, As::Ada),
        ("a stranger's page", named(), &[evil], Some("cross-site"), As::Forbidden),
        ("with the default", Origins::SameHost, &[evil], None, As::Forbidden),
        ("a sandboxed frame", named(), &["null"], Some("cross-site"), As::Forbidden),
        ("one that is listed", Origins::List(vec!["null".parse().unwrap()]), &["null"], None, As::Nobody),
        ("any page", Origins::Any, &[evil], Some("cross-site"), As::Nobody),
        ("any page, and it has no origin", Origins::Any, &["null"], Some("cross-site"), As::Nobody),
        ("any page, and it is the server's own", Origins::Any, &[OWN], Some("same-origin"), As::Nobody),
        ("two origins", named(), &[NAMED, NAMED], None, As::Nobody),
        ("no origin: an own page's `EventSource`", named(), &[], Some("same-origin"), As::Ada),
        ("an image on a stranger's page", named(), &[], Some("cross-site"), As::Nobody),
        ("and on a page of a sister domain", named(), &[], Some("same-site"), As::Nobody),
        ("an address that the user has typed", named(), &[], Some("none"), As::Nobody),
        ("a program, or an old browser's image", named(), &[], None, As::Nobody),
        ("any page, as an image", Origins::Any, &[], Some("cross-site"), As::Nobody),
    ];
    let cookie =
        format!("theme=dark; session={}", Minting::new(Duration::from_secs(600)).user("ada").sign(&key()).unwrap());
    for (name, origins, of_page, site, expected) in rows {
        let served = serve(origins);
        let own = format!("http://{}", served.address);
        let mut headers = vec![("Cookie", &*cookie)];
        headers.extend(of_page.iter().map(|origin| ("Origin", if *origin == OWN { &*own } else { *origin })));
        headers.extend(site.map(|site| ("Sec-Fetch-Site", site)));
        for (transport, ask) in &transports {
            assert_eq!(ask(served.address, &headers), expected, "{name}, by {transport}");
        }
        // No page sends or commands by a cookie, whatever its origin is.
        let send = r#"{"commands":[{"type":"publish","channel":"inbox:ada","data":1}]}"#;
        for (path, body) in [("/v1/send", send), ("/api/v1/publish", r#"{"channel":"inbox:ada","data":1}"#)] {
            let status = asked(served.address, "POST", path, &headers, body).status();
            assert!((400..=403).contains(&status), "{name}, to {path}: {status}");
        }
    }
}
