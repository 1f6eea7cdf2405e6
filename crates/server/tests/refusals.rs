//! Refusals are the same on every path: raw or by hyper, first or later on a connection, HTTP/1.1 or HTTP/2, main or
//! admin port.

mod support;

use fanfare::{Address, AdminOn, ApiKey, Config, Echo, Fanfare, Hosts};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use support::{Server, config, connect, response};

/// Where a request arrives.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    First,
    Later,
    Http2,
    Admin,
    AdminLater,
}

const PAGE: &[Way] = &[Way::First, Way::Later, Way::Http2];
const BOTH_PORTS: &[Way] = &[Way::First, Way::Later, Way::Http2, Way::Admin, Way::AdminLater];
/// HTTP/2 has no upgrades.
const UPGRADE: &[Way] = &[Way::First, Way::Later];

struct Asked {
    name: &'static str,
    ways: &'static [Way],
    method: &'static str,
    path: &'static str,
    host: &'static str,
    headers: &'static [(&'static str, &'static str)],
    status: u16,
    /// Headers that the answer has besides those of every refusal.
    told: &'static [(&'static str, &'static str)],
    words: &'static str,
    /// `option` and `code` of the JSON.
    option: Option<&'static str>,
    code: &'static str,
    always_json: bool,
}

const PLAIN: Asked = Asked {
    name: "",
    ways: PAGE,
    method: "GET",
    path: "/",
    host: "localhost",
    headers: &[],
    status: 404,
    told: &[],
    words: "",
    option: None,
    code: "bad_request",
    always_json: false,
};

const GOOD: &[(&str, &str)] = &[
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];
const OLD: &[(&str, &str)] = &[
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "8"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];
const STRANGE: &[(&str, &str)] = &[
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("origin", "https://evil.example"),
];

#[derive(Debug, PartialEq)]
struct Told {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Told {
    /// Without what is the connection's own.
    fn of(status: u16, headers: impl Iterator<Item = (String, String)>, body: String) -> Told {
        let mut headers: BTreeMap<_, _> = headers.map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
        assert!(headers.remove("date").is_some(), "every answer has a date: {headers:?}");
        headers.remove("keep-alive");
        if headers.get("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            headers.remove("connection");
        }
        Told { status, headers, body }
    }
}

fn ask(main: SocketAddr, admin: SocketAddr, way: Way, asked: &Asked, accept: &str) -> Told {
    let Asked { method, path, host, headers, .. } = asked;
    let address = if matches!(way, Way::Admin | Way::AdminLater) { admin } else { main };
    if way == Way::Http2 {
        return ask_http2(address, asked, accept);
    }
    let mut socket = connect(address);
    if matches!(way, Way::Later | Way::AdminLater) {
        socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("the server reads");
        assert_eq!(response(&mut socket).status(), 200);
    }
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    write!(
        socket,
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nAccept: {accept}\r\nX-Request-Id: of-the-test\r\n{headers}\r\n"
    )
    .expect("the server reads");
    let answer = response(&mut socket);
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in answer.head.lines().filter_map(|line| line.split_once(": ")) {
        match headers.get_mut(&name.to_ascii_lowercase()) {
            // The raw path ends the connection, and says so besides.
            Some(_) if value == "close" => {}
            Some(there) => *there = format!("{there}, {value}"),
            None => _ = headers.insert(name.to_ascii_lowercase(), value.to_owned()),
        }
    }
    Told::of(answer.status(), headers.into_iter(), answer.body)
}

#[tokio::main(flavor = "current_thread")]
async fn ask_http2(address: SocketAddr, asked: &Asked, accept: &str) -> Told {
    let socket = tokio::net::TcpStream::connect(address).await.expect("the server listens");
    let (mut sender, connection) = h2::client::handshake(socket).await.expect("it speaks HTTP/2");
    tokio::spawn(connection);
    let mut request = http::Request::builder()
        .method(asked.method)
        .uri(format!("http://{}{}", asked.host, asked.path))
        .header("accept", accept)
        .header("x-request-id", "of-the-test");
    for (name, value) in asked.headers {
        request = request.header(*name, *value);
    }
    let (answer, _) = sender.send_request(request.body(()).expect("a request"), true).expect("it takes a request");
    let (head, mut body) = answer.await.expect("an answer").into_parts();
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        bytes.extend_from_slice(&data.expect("the body comes whole"));
    }
    let headers = head.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().expect("text").to_owned()));
    Told::of(head.status.as_u16(), headers, String::from_utf8(bytes).expect("text"))
}

#[test]
fn a_refusal_is_the_same_whichever_path_writes_it() {
    let config = Config { hosts: Hosts::ByListener, ..config() };
    let pages = axum::Router::new().route("/page", axum::routing::get(async || "a page\n"));
    let builder = Fanfare::builder(()).config(config).admin(AdminOn::Address("127.0.0.1:0".parse().expect("valid")));
    let key = ApiKey::new("app", "a-key-of-sixteen-bytes-or-more").expect("a key");
    let server = Server::of(builder.protocol("/echo", Echo::default()).fallback(pages).api_key(key));
    let admin = match server.running().admin_address() {
        Some(&Address::Tcp(admin)) => admin,
        other => panic!("an admin port: {other:?}"),
    };
    let evil = "the host \"evil.example\" is not served here: the option `hosts` does not list it";
    let rows = [
        Asked {
            name: "a page of a host that is not served",
            ways: BOTH_PORTS,
            host: "evil.example",
            status: 421,
            words: evil,
            option: Some("hosts"),
            ..PLAIN
        },
        Asked {
            name: "an upgrade of a host that is not served",
            ways: UPGRADE,
            path: "/echo",
            host: "evil.example",
            headers: GOOD,
            status: 421,
            words: evil,
            option: Some("hosts"),
            ..PLAIN
        },
        Asked {
            name: "a command of the API of a host that is not served",
            method: "POST",
            path: "/api/v1/publish",
            host: "evil.example",
            status: 421,
            words: evil,
            option: Some("hosts"),
            always_json: true,
            ..PLAIN
        },
        Asked {
            name: "nothing is there",
            ways: BOTH_PORTS,
            path: "/nowhere",
            words: "there is nothing at \"/nowhere\"",
            code: "not_found",
            ..PLAIN
        },
        Asked {
            name: "no protocol is there",
            ways: UPGRADE,
            path: "/nowhere",
            headers: GOOD,
            words: "there is no protocol at \"/nowhere\"",
            code: "not_found",
            ..PLAIN
        },
        Asked {
            name: "another method of a probe",
            ways: BOTH_PORTS,
            method: "DELETE",
            path: "/healthz",
            status: 405,
            told: &[("allow", "GET,HEAD,OPTIONS")],
            words: "\"/healthz\" does not take DELETE",
            ..PLAIN
        },
        Asked {
            name: "another method of a page",
            method: "DELETE",
            path: "/page",
            status: 405,
            told: &[("allow", "GET,HEAD")],
            words: "\"/page\" does not take DELETE",
            ..PLAIN
        },
        Asked {
            name: "another version of WebSocket",
            ways: UPGRADE,
            path: "/echo",
            headers: OLD,
            status: 426,
            told: &[("connection", "Upgrade"), ("sec-websocket-version", "13"), ("upgrade", "websocket")],
            words: "must be 13, this request has 8",
            ..PLAIN
        },
        Asked {
            name: "an upgrade by another method",
            ways: UPGRADE,
            method: "POST",
            path: "/echo",
            headers: GOOD,
            status: 405,
            told: &[("allow", "GET")],
            words: "POST",
            ..PLAIN
        },
        Asked {
            name: "a page of another origin",
            ways: UPGRADE,
            path: "/echo",
            headers: STRANGE,
            status: 403,
            words: "pages of \"https://evil.example\" may not connect",
            option: Some("origins"),
            code: "denied",
            ..PLAIN
        },
    ];
    for row in &rows {
        for accept in ["*/*", "application/json"] {
            let json = row.always_json || accept != "*/*";
            let mut first: Option<Told> = None;
            for &way in row.ways {
                let told = ask(server.address, admin, way, row, accept);
                let what = format!("{}, {way:?}, {accept}", row.name);
                assert_eq!(told.status, row.status, "{what}: {told:?}");
                if json {
                    let body: serde_json::Value = serde_json::from_str(&told.body).expect("JSON");
                    assert!(body["message"].as_str().is_some_and(|it| it.contains(row.words)), "{what}: {body}");
                    assert_eq!(body["option"].as_str(), row.option, "{what}: {body}");
                    assert_eq!(
                        (&body["code"], &body["retryable"]),
                        (&row.code.into(), &false.into()),
                        "{what}: {body}"
                    );
                } else {
                    assert!(told.body.contains(row.words), "{what}: {}", told.body);
                }
                let kind = if json { "application/json" } else { "text/plain; charset=utf-8" };
                let length = told.body.len().to_string();
                let id = ("x-request-id", "of-the-test");
                let mut headers =
                    vec![("cache-control", "no-store"), ("content-length", &*length), ("content-type", kind), id];
                headers.extend_from_slice(row.told);
                let expected = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
                assert_eq!(told.headers, expected, "{what}");
                match &first {
                    None => first = Some(told),
                    Some(first) => assert_eq!(told, *first, "{what}"),
                }
            }
        }
    }
}
