//! What the answers of the server tell browsers: to guess no type, to load nothing, to store nothing that holds a
//! ticket. The pages of the program are its own, and nothing is added to them.

#![allow(clippy::unwrap_used)] // helpers stand outside of `#[test]`; a panic in one fails the test

mod support;

use fanfare::{AdminOn, ApiKey, Config, Fanfare, SocketIoConfig};
use std::io::Write as _;
use std::net::SocketAddr;
use support::{Response, Server, config, connect, head, patient_chat};

const KEY: &str = "0123456789abcdef0123456789abcdef";
const POLL: &str = r#"{"type":"connect","id":1}"#;

fn server() -> Server {
    let page = axum::Router::new().route("/page", axum::routing::get(async || "a page\n"));
    let page = page.route("/empty", axum::routing::get(async || http::StatusCode::NO_CONTENT));
    let settings = Config {
        admin: AdminOn::MainPort,
        api_keys: vec![ApiKey::new("backend", KEY).unwrap()],
        socketio: SocketIoConfig { enabled: true, ..SocketIoConfig::default() },
        ..config()
    };
    Server::of(Fanfare::builder(()).config(settings).protocol("/", patient_chat()).fallback(page))
}

/// The head of the answer; `is_kept`: behind another request on its connection, so that hyper has read it.
fn answer(address: SocketAddr, is_kept: bool, (method, path, headers, body): (&str, &str, &str, &str)) -> Response {
    let mut socket = connect(address);
    if is_kept {
        socket.write_all(b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert_eq!(support::response(&mut socket).body, "a page\n");
    }
    let len = body.len();
    let text = format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {len}\r\n\r\n{body}");
    socket.write_all(text.as_bytes()).unwrap();
    Response { head: head(&mut socket), body: String::new() }
}

const JSON: &str = "Content-Type: application/json\r\n";

#[test]
fn answers_of_the_server_are_no_pages_and_are_not_stored() {
    let server = server();
    let with_key = format!("{JSON}Authorization: Bearer {KEY}\r\n");
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    // The status, and whether a person may look at it: then it is a page on which nothing runs.
    let rows = [
        (404, true, ("GET", "/nothing", "", "")),
        (405, true, ("DELETE", "/page", "", "")),
        (426, true, ("GET", "/v1/ws", "", "")),
        (426, true, ("GET", "/v1/ws", upgrade, "")),
        (400, true, ("GET", "/a b", "", "")),
        (200, true, ("GET", "/healthz", "", "")),
        (200, true, ("GET", "/readyz", "", "")),
        (200, true, ("GET", "/metrics", "", "")),
        (200, true, ("GET", "/api/openapi.json", "", "")),
        (401, true, ("POST", "/api/v1/info", JSON, "{}")),
        (200, false, ("POST", "/api/v1/info", &with_key, "{}")),
        (200, true, ("GET", "/v1/address", "", "")),
        (200, false, ("GET", "/events?channel=a", "", "")),
        (400, true, ("GET", "/events?chanel=a", "", "")),
        (200, false, ("GET", "/v1/sse", "", "")),
        (200, false, ("POST", "/v1/stream", JSON, POLL)),
        (200, false, ("POST", "/v1/poll", JSON, POLL)),
        (401, true, ("POST", "/v1/send", JSON, r#"{"ticket":"x","commands":[]}"#)),
        (200, false, ("GET", "/socket.io/?EIO=4&transport=polling", "", "")),
        (400, true, ("GET", "/socket.io/?EIO=4&transport=polling&sid=x", "", "")),
    ];
    for (status, is_shown, request) in rows {
        for is_kept in [false, true] {
            let answer = answer(server.address, is_kept, request);
            assert_eq!(answer.status(), status, "{request:?} {}", answer.head);
            let policy = is_shown.then_some("default-src 'none'; frame-ancestors 'none'");
            let headers = [
                ("x-content-type-options", Some("nosniff")),
                ("cross-origin-resource-policy", Some("same-origin")),
                ("content-security-policy", policy),
                ("referrer-policy", is_shown.then_some("no-referrer")),
                ("strict-transport-security", None),
            ];
            for (name, expected) in headers {
                assert_eq!(answer.header(name), expected, "{name} of {request:?} {is_kept}: {}", answer.head);
            }
            let stored = answer.header("cache-control").unwrap_or_default();
            // Proxies know event streams by `no-cache, no-transform`.
            let is_stream =
                status == 200 && ["/events", "/v1/sse", "/v1/stream"].iter().any(|at| request.1.starts_with(at));
            let expected = if is_stream { "no-cache, no-transform" } else { "no-store" };
            assert!(stored == expected || request.1 == "/api/openapi.json", "{request:?}: {}", answer.head);
        }
    }
}

#[test]
fn nothing_is_added_to_the_pages_of_the_program() {
    let server = server();
    for path in ["/page", "/empty"] {
        let answer = answer(server.address, false, ("GET", path, "Origin: http://x\r\n", ""));
        assert!(answer.status() < 300, "{}", answer.head);
        for name in [
            "x-content-type-options",
            "cross-origin-resource-policy",
            "content-security-policy",
            "referrer-policy",
            "cache-control",
            "access-control-allow-origin",
            "vary",
        ] {
            assert_eq!(answer.header(name), None, "{path}: {}", answer.head);
        }
    }
}
