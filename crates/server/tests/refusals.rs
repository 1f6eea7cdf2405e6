//! Refusals are the same on every path: on the raw socket or by hyper, first or later on a connection, HTTP/1.1 or
//! HTTP/2, main or admin port.

mod support;

use fanfare::{Address, AdminOn, ApiKey, Config, Echo, Fanfare, Hosts};
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use support::{Server, config, connect, response};

/// The path by which a request arrives.
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
    /// Headers of the answer besides those of every refusal.
    extra_headers: &'static [(&'static str, &'static str)],
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
    extra_headers: &[],
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
struct HttpAnswer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl HttpAnswer {
    /// Without the headers of the connection.
    fn of(status: u16, headers: impl Iterator<Item = (String, String)>, body: String) -> HttpAnswer {
        let mut headers: BTreeMap<_, _> = headers.map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
        assert!(headers.remove("date").is_some(), "every answer has a date: {headers:?}");
        headers.remove("keep-alive");
        if headers.get("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            headers.remove("connection");
        }
        HttpAnswer { status, headers, body }
    }
}

fn ask(main: SocketAddr, admin: SocketAddr, way: Way, asked: &Asked, accept: &str) -> HttpAnswer {
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
            // On the raw path the server also ends the connection, and says so.
            Some(_) if value == "close" => {}
            Some(there) => *there = format!("{there}, {value}"),
            None => _ = headers.insert(name.to_ascii_lowercase(), value.to_owned()),
        }
    }
    HttpAnswer::of(answer.status(), headers.into_iter(), answer.body)
}

#[tokio::main(flavor = "current_thread")]
async fn ask_http2(address: SocketAddr, asked: &Asked, accept: &str) -> HttpAnswer {
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
    HttpAnswer::of(head.status.as_u16(), headers, String::from_utf8(bytes).expect("text"))
}

/// A server, and its admin port.
fn server(config: Config) -> (Server, SocketAddr) {
    let pages = axum::Router::new().route("/page", axum::routing::get(async || "a page\n"));
    let builder = Fanfare::builder(()).config(config).admin(AdminOn::Address("127.0.0.1:0".parse().expect("valid")));
    let key = ApiKey::new("app", "a-key-of-sixteen-bytes-or-more").expect("a key");
    let server = Server::of(builder.protocol("/echo", Echo::default()).fallback(pages).api_key(key));
    let admin = match server.running().admin_address() {
        Some(&Address::Tcp(admin)) => admin,
        other => panic!("an admin port: {other:?}"),
    };
    (server, admin)
}

#[test]
fn a_refusal_is_the_same_whichever_path_writes_it() {
    let (server, admin) = server(Config { hosts: Hosts::ByListener, ..config() });
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
            extra_headers: &[("allow", "GET, HEAD, OPTIONS")],
            words: "\"/healthz\" does not take DELETE",
            ..PLAIN
        },
        Asked {
            name: "another method of a page",
            method: "DELETE",
            path: "/page",
            status: 405,
            extra_headers: &[("allow", "GET, HEAD")],
            words: "\"/page\" does not take DELETE",
            ..PLAIN
        },
        Asked {
            name: "another version of WebSocket",
            ways: UPGRADE,
            path: "/echo",
            headers: OLD,
            status: 426,
            extra_headers: &[("connection", "Upgrade"), ("sec-websocket-version", "13"), ("upgrade", "websocket")],
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
            extra_headers: &[("allow", "GET, HEAD, OPTIONS")],
            words: "\"/echo\" is for WebSockets and has no page",
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
            let mut first: Option<HttpAnswer> = None;
            for &way in row.ways {
                let refusal = ask(server.address, admin, way, row, accept);
                let what = format!("{}, {way:?}, {accept}", row.name);
                assert_eq!(refusal.status, row.status, "{what}: {refusal:?}");
                if json {
                    let body: serde_json::Value = serde_json::from_str(&refusal.body).expect("JSON");
                    assert!(body["message"].as_str().is_some_and(|it| it.contains(row.words)), "{what}: {body}");
                    assert_eq!(body["option"].as_str(), row.option, "{what}: {body}");
                    assert_eq!(
                        (&body["code"], &body["retryable"]),
                        (&row.code.into(), &false.into()),
                        "{what}: {body}"
                    );
                } else {
                    assert!(refusal.body.contains(row.words), "{what}: {}", refusal.body);
                }
                let kind = if json { "application/json" } else { "text/plain; charset=utf-8" };
                let length = refusal.body.len().to_string();
                let id = ("x-request-id", "of-the-test");
                let mut headers = vec![
                    ("cache-control", "no-store"),
                    ("content-length", &*length),
                    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
                    ("content-type", kind),
                    ("cross-origin-resource-policy", "same-origin"),
                    ("referrer-policy", "no-referrer"),
                    ("x-content-type-options", "nosniff"),
                    id,
                ];
                headers.extend_from_slice(row.extra_headers);
                let expected = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
                assert_eq!(refusal.headers, expected, "{what}");
                match &first {
                    None => first = Some(refusal),
                    Some(first) => assert_eq!(refusal, *first, "{what}"),
                }
            }
        }
    }
}

/// Sends a head as it is. With `later`: after a request that is answered.
fn ask_raw(address: SocketAddr, later: bool, head: &[u8]) -> HttpAnswer {
    let mut socket = connect(address);
    if later {
        socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("the server reads");
        assert_eq!(response(&mut socket).status(), 200);
    }
    socket.write_all(head).expect("the server reads");
    let answer = response(&mut socket);
    assert_eq!(socket.read(&mut [0]).expect("an end, and no reset"), 0, "{}", answer.head);
    let headers = answer.head.lines().filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut refusal = HttpAnswer::of(answer.status(), headers, answer.body);
    let id = refusal.headers.remove("x-request-id").expect("every answer has an id");
    assert!(id == "of-the-test" || id.len() == 16, "{id}");
    refusal
}

/// A head that hyper would refuse with a bare status.
#[test]
fn a_head_that_cannot_be_served_is_refused_in_words_on_every_path() {
    let (server, admin) = server(config());
    let head = |line: &str, headers: &str| format!("{line}\r\nHost: x\r\nX-Request-Id: of-the-test\r\n{headers}\r\n");
    let post = |headers: &str| head("POST /healthz HTTP/1.1", headers);
    let many: String = (0..101).map(|at| format!("x{at}: y\r\n")).collect();
    let rows = [
        (post("Content-Length: +0\r\n"), 400, "`Content-Length` \"+0\""),
        (post("Content-Length: 0, 0\r\n"), 400, "`Content-Length` \"0, 0\""),
        (post("Content-Length: 1\r\nContent-Length: 2\r\n"), 400, "more than one `Content-Length`"),
        (post("Transfer-Encoding: foo\r\n"), 400, "`Transfer-Encoding` \"foo\""),
        (head("POST /healthz HTTP/1.0", "Transfer-Encoding: chunked\r\n"), 400, "HTTP/1.0"),
        (head("GET http:///x HTTP/1.1", ""), 400, "the request's target \"http:///x\""),
        (head("GET / HTTP/3.7", ""), 400, "this is not HTTP/1.1: invalid HTTP version"),
        (post(&many), 431, "more than 100 headers"),
        (post(&format!("X: {}\r\n", "a".repeat(17_000))), 431, "longer than 16384 bytes"),
        (post(&format!("X: {}\r\n", "a".repeat(200_000))), 431, "longer than 16384 bytes"),
        (post("Accept: application/json\r\nContent-Length: x\r\n"), 400, "\"code\":\"bad_request\""),
        (head("POST /api/v1/publish HTTP/1.1", "Content-Length: x\r\n"), 400, "\"code\":\"bad_request\""),
        (head("GET /echo HTTP/1.1", &format!("{}Content-Length: x\r\n", lines(GOOD))), 400, "`Content-Length` \"x\""),
    ];
    for (head, status, words) in &rows {
        let first = ask_raw(server.address, false, head.as_bytes());
        assert!(first.status == *status && first.body.contains(words), "{head:.200}: {first:?}");
        for (address, later) in [(server.address, true), (admin, false), (admin, true)] {
            let refusal = ask_raw(address, later, head.as_bytes());
            assert_eq!(refusal, first, "{head:.200}, later: {later}, admin: {}", address == admin);
        }
    }
    // Behind a request that came in the same packet the words are the same.
    let mut socket = connect(server.address);
    let both = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n{}", rows[0].0);
    socket.write_all(both.as_bytes()).expect("the server reads");
    assert_eq!(response(&mut socket).status(), 200);
    let answer = response(&mut socket);
    assert!(answer.status() == 400 && answer.body.contains(rows[0].2), "{}", answer.body);
}

fn lines(headers: &[(&str, &str)]) -> String {
    headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect()
}

#[test]
fn a_head_that_does_not_come_is_answered_408_on_every_path() {
    let head_timeout = std::time::Duration::from_millis(100);
    let (server, admin) = server(Config { head_timeout, ..config() });
    let first = ask_raw(server.address, false, b"");
    assert!(first.status == 408 && first.body.contains("within 0.1 s"), "{first:?}");
    for (address, later, head) in [
        (server.address, false, "GET / HT"),
        (server.address, true, "GET / HT"),
        (admin, false, ""),
        (admin, false, "GET / HT"),
        (admin, true, "GET / HT"),
    ] {
        let refusal = ask_raw(address, later, head.as_bytes());
        assert_eq!(refusal, first, "{head:?}, later: {later}, admin: {}", address == admin);
    }
}
