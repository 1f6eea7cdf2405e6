//! Pages of browsers: who may read an answer, and preflights, on each address of the server's own.

mod support;

use fanfare::{ApiKey, Config, Echo, Fanfare, Hosts, Origins};
use std::io::Write;
use support::{Response, Server, config, connect, response};

const NAMED: &str = "https://app.example";

fn server(origins: Origins) -> Server {
    let config = Config { hosts: Hosts::Any, origins, ..config() };
    let key = ApiKey::new("test", "sixteen-characters").expect("a key");
    let page = axum::Router::new().route("/page", axum::routing::get(async || "a page\n"));
    Server::of(Fanfare::builder(()).config(config).api_key(key).protocol("/echo", Echo::default()).fallback(page))
}

fn listed() -> Server {
    server(Origins::List(vec![NAMED.parse().expect("an origin"), "null".parse().expect("an origin")]))
}

fn ask(server: &Server, method: &str, path: &str, headers: &str) -> Response {
    let mut socket = connect(server.address);
    let request = format!("{method} {path} HTTP/1.1\r\nHost: rt.example\r\nConnection: close\r\n{headers}\r\n");
    socket.write_all(request.as_bytes()).expect("the server reads");
    let mut answer = response_to(method, &mut socket);
    answer.head.make_ascii_lowercase();
    answer
}

/// The answer to HEAD announces a body that does not come.
fn response_to(method: &str, socket: &mut std::net::TcpStream) -> Response {
    if method != "HEAD" {
        return response(socket);
    }
    let mut text = String::new();
    std::io::Read::read_to_string(socket, &mut text).expect("an answer");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    Response { head: format!("{head}\r\n"), body: body.to_owned() }
}

const ORIGIN: &str = "access-control-allow-origin";
const CREDENTIALS: &str = "access-control-allow-credentials";

#[test]
fn a_page_that_may_connect_may_read_answers() {
    let (listing, any, same) = (listed(), server(Origins::Any), server(Origins::SameHost));
    // Server, origin, the origin that may read, and whether with cookies.
    #[rustfmt::skip]
    let rows = [
        (&listing, NAMED, Some(NAMED), true),
        (&listing, "null", Some("null"), false),
        (&listing, "https://evil.example", None, false),
        (&listing, "https://app.example, https://evil.example", None, false),
        (&listing, "https://app.example\r\nOrigin: https://evil.example", None, false),
        (&listing, "https://app.example\r\nOrigin: null", None, false),
        (&listing, "", None, false),
        (&any, "https://evil.example", Some("*"), false),
        (&same, "https://rt.example", Some("https://rt.example"), false),
        (&same, NAMED, None, false),
    ];
    for (server, origin, reader, credentials) in rows {
        // `/echo` is for WebSockets, which its answer says.
        for (path, status) in [("/healthz", 200), ("/healthz/", 200), ("/echo", 426)] {
            for method in ["GET", "HEAD"] {
                let answer = ask(server, method, path, &format!("Origin: {origin}\r\n"));
                let name = format!("{method} {path} of {origin:?}: {}", answer.head);
                assert_eq!(answer.status(), status, "{name}");
                assert_eq!(answer.header(ORIGIN), reader, "{name}");
                assert_eq!(answer.header(CREDENTIALS).is_some(), credentials, "{name}");
                assert_eq!(answer.header("vary"), Some("origin"), "{name}");
                assert_eq!(answer.body.is_empty(), method == "HEAD", "{name}");
            }
        }
    }
}

#[test]
fn a_preflight_is_answered_where_pages_may_ask() {
    let server = listed();
    let preflight = |origin: &str| {
        format!("Origin: {origin}\r\nAccess-Control-Request-Method: GET\r\nAccess-Control-Request-Headers: x-test\r\n")
    };
    for path in ["/healthz", "/echo"] {
        let answer = ask(&server, "OPTIONS", path, &preflight(NAMED));
        assert_eq!(answer.status(), 204, "{path}: {}", answer.head);
        assert_eq!((answer.header(ORIGIN), answer.header(CREDENTIALS)), (Some(NAMED), Some("true")), "{path}");
        assert_eq!(answer.header("access-control-allow-methods"), Some("get, head, options"), "{path}");
        assert_eq!(answer.header("access-control-allow-headers"), Some("x-test"), "{path}");
        let refused = ask(&server, "OPTIONS", path, &preflight("https://evil.example"));
        assert_eq!(refused.header(ORIGIN), None, "{path}: {}", refused.head);
        assert_eq!(refused.header("access-control-allow-methods"), None, "{path}: {}", refused.head);
    }
}

/// A stream is judged as a WebSocket is: a page that may not connect opens none.
#[test]
fn streams_are_for_pages_that_may_connect() {
    let server = listed();
    let method = "Access-Control-Request-Method: POST\r\n";
    for (path, methods) in [
        ("/events", "get, head, options"),
        ("/v1/sse", "get, head, options, post"),
        ("/v1/stream", "get, head, options, post"),
    ] {
        let head = ask(&server, "HEAD", path, &format!("Origin: {NAMED}\r\n"));
        assert_eq!((head.status(), head.header(ORIGIN), &*head.body), (200, Some(NAMED), ""), "{path}: {}", head.head);
        assert_eq!((head.header(CREDENTIALS), head.header("vary")), (Some("true"), Some("origin")), "{path}");
        let preflight = ask(&server, "OPTIONS", path, &format!("Origin: {NAMED}\r\n{method}"));
        assert_eq!((preflight.status(), preflight.header(ORIGIN)), (204, Some(NAMED)), "{path}: {}", preflight.head);
        assert_eq!(preflight.header("access-control-allow-methods"), Some(methods), "{path}");
        let plain = ask(&server, "OPTIONS", path, "");
        assert_eq!((plain.status(), plain.header("allow"), plain.header(ORIGIN)), (204, Some(methods), None), "{path}");
        let other = ask(&server, "DELETE", path, &format!("Origin: {NAMED}\r\n"));
        assert_eq!(
            (other.status(), other.header("allow"), other.header(ORIGIN)),
            (405, Some(methods), Some(NAMED)),
            "{path}"
        );
        for method in ["GET", "HEAD", "OPTIONS", "DELETE"] {
            let refused = ask(&server, method, path, "Origin: https://evil.example\r\n");
            assert_eq!((refused.status(), refused.header(ORIGIN)), (403, None), "{method} {path}: {}", refused.head);
        }
    }
}

/// Polls and sends are judged alike, and have no HEAD.
#[test]
fn polls_and_sends_are_for_pages_that_may_connect() {
    let server = listed();
    let asks = "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type\r\n";
    for path in ["/v1/poll", "/v1/send"] {
        let preflight = ask(&server, "OPTIONS", path, &format!("Origin: {NAMED}\r\n{asks}"));
        assert_eq!((preflight.status(), preflight.header(ORIGIN)), (204, Some(NAMED)), "{path}: {}", preflight.head);
        assert_eq!(preflight.header("access-control-allow-methods"), Some("options, post"), "{path}");
        assert_eq!(preflight.header("access-control-allow-headers"), Some("content-type"), "{path}");
        // Too little for a poll: the page may read why.
        let bad = ask(&server, "POST", path, &format!("Origin: {NAMED}\r\nContent-Length: 0\r\n"));
        assert!(bad.status() >= 400 && bad.header(ORIGIN) == Some(NAMED), "{path}: {}", bad.head);
        for method in ["OPTIONS", "POST", "GET"] {
            let refused = ask(&server, method, path, "Origin: https://evil.example\r\nContent-Length: 0\r\n");
            assert_eq!((refused.status(), refused.header(ORIGIN)), (403, None), "{method} {path}: {}", refused.head);
        }
    }
}

/// Its keys are the application's: a page that had one could do everything.
#[test]
fn the_api_is_for_no_page() {
    let server = listed();
    let preflight = format!("Origin: {NAMED}\r\nAccess-Control-Request-Method: POST\r\n");
    for (method, headers) in
        [("OPTIONS", &*preflight), ("POST", "Origin: https://app.example\r\nContent-Length: 0\r\n")]
    {
        let answer = ask(&server, method, "/api/v1/publish", headers);
        assert!(answer.status() >= 400, "{method}: {}", answer.head);
        assert_eq!(answer.header(ORIGIN), None, "{method}: {}", answer.head);
    }
}

/// The program's own pages decide for themselves: a second header would be an error to a browser.
#[test]
fn pages_of_the_program_get_no_header() {
    let answer = ask(&listed(), "GET", "/page", &format!("Origin: {NAMED}\r\n"));
    assert_eq!((answer.status(), answer.header(ORIGIN), answer.header("vary")), (200, None, None), "{}", answer.head);
}
