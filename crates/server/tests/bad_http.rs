//! Requests that are no good HTTP, over raw sockets, at every path that the server has: each is answered once, with the
//! status that says what is wrong, and the connection ends. Nothing behind such a request is taken for another one.

mod support;

use fanfare::{Address, AdminOn, ApiKey, Builder, Config, Fanfare};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;
use support::{Server, config, connect, response};

const KEY: &str = "sixteen-characters";

/// Every path, by a method that it takes.
const PATHS: [(&str, &str); 11] = [
    ("GET", "/"),
    ("GET", "/page"),
    ("POST", "/page"),
    ("GET", "/events"),
    ("GET", "/v1/sse"),
    ("POST", "/v1/sse"),
    ("GET", "/v1/stream"),
    ("POST", "/v1/stream"),
    ("POST", "/v1/poll"),
    ("POST", "/v1/send"),
    ("POST", "/api/v1/publish"),
];

/// Headers that could make two requests of one, by what is wrong with them.
#[rustfmt::skip]
const HEADS: &[(&str, &str)] = &[
    ("two lengths that differ", "Content-Length: 5\r\nContent-Length: 6\r\n\r\n"),
    ("two equal lengths", "Content-Length: 5\r\nContent-Length: 5\r\n\r\nabcde"),
    ("two equal lengths of nothing", "Content-Length: 0\r\ncontent-length: 0\r\n\r\n"),
    ("two lengths in one header", "Content-Length: 5, 5\r\n\r\n"),
    ("a length and chunks", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("chunks and a length", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
    ("chunks and no length", "tRANSFER-eNCODING: chunked\r\ncontent-length: 0\r\n\r\n0\r\n\r\n"),
    ("a negative length", "Content-Length: -1\r\n\r\n"),
    ("a length with a sign", "Content-Length: +1\r\n\r\n"),
    ("a length in hexadecimal", "Content-Length: 0x1\r\n\r\n"),
    ("a length beyond all numbers", "Content-Length: 99999999999999999999\r\n\r\n"),
    ("no number", "Content-Length: \r\n\r\n"),
    ("another coding", "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    ("a coding behind the chunks", "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
    ("two codings in two headers", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
    ("chunks in two headers", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("chunks of chunks", "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    ("chunks of another coding", "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    ("chunks of nothing that is a coding", "Transfer-Encoding: trailers, chunked\r\n\r\n0\r\n\r\n"),
    ("an empty coding before the chunks", "Transfer-Encoding: , chunked\r\n\r\n0\r\n\r\n"),
    ("an empty coding behind the chunks", "Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n"),
    ("chunks with a parameter", "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n"),
    ("chunks in quotes", "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"),
    ("white space before the colon", "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
    ("white space before the name", " Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("a folded header", "X-Folded: a\r\n b\r\n\r\n"),
    ("a folded coding", "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
    ("a bare CR in a value", "X-Bare: a\rTransfer-Encoding: chunked\r\n\r\n"),
    ("a bare LF between headers", "X-Bare: a\nX-More: b\r\n\r\n"),
    ("a bare LF at the end", "X-Bare: a\r\n\n"),
    ("a NUL in a value", "X-Nul: a\0b\r\n\r\n"),
    ("a NUL in a name", "X-N\0ul: a\r\n\r\n"),
    ("a control character in a value", "X-Bell: a\x07b\r\n\r\n"),
    ("a name of no token", "X(Y): a\r\n\r\n"),
    ("no name", ": a\r\n\r\n"),
    ("no colon", "X-Nothing\r\n\r\n"),
];

/// A request behind the bad one. Its answer would be a 404 with these words.
const BEHIND: &str = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn builder(config: Config) -> Builder {
    let key = ApiKey::new("test", KEY).expect("a key");
    let page = async |_: axum::body::Bytes| "a page\n";
    let pages = axum::Router::new().route("/page", axum::routing::get(async || "a page\n").post(page));
    Fanfare::builder(()).config(config).api_key(key).fallback(pages)
}

fn server(config: Config) -> Server {
    Server::of(builder(config))
}

/// A connection on which `requests` have been answered.
fn connection(address: SocketAddr, requests: usize) -> TcpStream {
    let mut socket = connect(address);
    for _ in 0..requests {
        socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("written");
        assert_eq!(response(&mut socket).status(), 200);
    }
    socket
}

/// Everything up to the end of the connection, which must come. A reset behind an answer is an end.
fn to_the_end(mut socket: TcpStream, name: &str) -> String {
    let (mut text, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        match socket.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => text.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{name}: {error} after {:?}", String::from_utf8_lossy(&text)),
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Sends a bad request, and another one behind it. There must be one answer, of this status, and the end. Returns the
/// fault, if there is one.
fn fault_of(address: SocketAddr, requests: usize, request: &[u8], status: u16, says_so: bool) -> Option<String> {
    let mut socket = connection(address, requests);
    let mut bytes = request.to_vec();
    bytes.extend_from_slice(BEHIND.as_bytes());
    let _ = socket.write_all(&bytes); // the server may answer and close before it has all
    let text = to_the_end(socket, &String::from_utf8_lossy(request));
    let fault = match text.matches("HTTP/1.1 ").count() {
        _ if !text.starts_with(&format!("HTTP/1.1 {status} ")) => "another answer",
        1 if says_so && !text.to_ascii_lowercase().contains("connection: close") => {
            "an answer that does not say that it closes"
        }
        1 => return None,
        _ => "more than one answer",
    };
    Some(format!("{fault}: {text}"))
}

/// The faults of many requests: first on a connection, and behind another request.
#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn check(&mut self, address: SocketAddr, name: &str, request: &str, status: u16) {
        for requests in [0, 1] {
            let fault = fault_of(address, requests, request.as_bytes(), status, true);
            self.0.extend(fault.map(|fault| format!("{name}, behind {requests}: {fault}")));
        }
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(self.0.is_empty(), "{} faults:\n{}", self.0.len(), self.0.join("\n"));
        }
    }
}

/// A head without its end: the request line, the host, what the path needs, and more.
fn head(method: &str, path: &str, more: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n{more}")
}

#[test]
fn what_could_be_two_requests_is_one_refusal_on_every_path() {
    const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";
    // A connection that is not closed would go on for a second.
    let server = server(Config { http_idle_timeout: Duration::from_secs(1), ..config() });
    let mut faults = Faults::default();
    for (method, path) in PATHS {
        for &(name, headers) in HEADS {
            let name = format!("{name}, {method} {path}");
            faults.check(server.address, &name, &head(method, path, headers), 400);
        }
    }
    // Chunks that are none, where the body is read. This server closes no idle connection meanwhile.
    let server = self::server(config());
    #[rustfmt::skip]
    let chunks = [
        ("a size that is no number", "x\r\n"),
        ("a negative size", "-1\r\n"),
        ("a size beyond all numbers", "FFFFFFFFFFFFFFFFF\r\n"),
        ("a chunk longer than its size", "1\r\nab\r\n0\r\n\r\n"),
        ("a bare LF behind a size", "1\na\r\n0\r\n\r\n"),
        ("a bare LF behind a trailer", "0\r\nX: a\n\n"),
        ("a bare LF for the end", "0\r\n\n"),
        ("no size", "\r\n"),
    ];
    for (method, path) in PATHS.into_iter().filter(|(method, _)| *method == "POST") {
        for (name, body) in chunks {
            let request = format!("{}\r\n{body}", head(method, path, CHUNKED));
            for requests in [0, 1] {
                // A page answers by itself, before the connection ends.
                let fault = fault_of(server.address, requests, request.as_bytes(), 400, path != "/page");
                faults.0.extend(fault.map(|fault| format!("{name}, {method} {path}, behind {requests}: {fault}")));
            }
        }
    }
}

/// The answer says what is wrong with the chunks, and not that something did not arrive.
#[test]
fn chunks_that_are_none_are_named() {
    let server = server(config());
    let answer = |path: &str, body: &str| {
        let headers = "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut socket = connection(server.address, 0);
        socket.write_all(format!("{}{body}", head("POST", path, headers)).as_bytes()).expect("written");
        socket.shutdown(Shutdown::Write).expect("half closed");
        response(&mut socket)
    };
    for path in ["/v1/poll", "/v1/send", "/v1/sse", "/api/v1/publish"] {
        for (body, words) in [
            ("x\r\n", "the chunks of the body cannot be read (RFC 9112, 7.1): Invalid chunk size line"),
            ("FFFFFFFFFFFFFFFFF\r\n", "cannot be read (RFC 9112, 7.1): invalid chunk size: overflow"),
            ("1\r\nab\r\n", "cannot be read (RFC 9112, 7.1): Invalid chunk body CR"),
            ("5\r\n{", "the body did not arrive completely"),
        ] {
            let answer = answer(path, body);
            assert!(answer.status() == 400 && answer.body.contains(words), "{path} {body:?}: {}", answer.body);
        }
    }
}

#[test]
fn what_could_be_two_requests_is_one_refusal_on_the_admin_port() {
    let admin = AdminOn::Address("127.0.0.1:0".parse().expect("an address"));
    let server = Server::of(builder(Config { http_idle_timeout: Duration::from_secs(1), ..config() }).admin(admin));
    let Some(&Address::Tcp(admin)) = server.running().admin_address() else { panic!("an admin port") };
    let mut faults = Faults::default();
    for path in ["/healthz", "/metrics"] {
        for &(name, headers) in HEADS {
            faults.check(admin, &format!("{name}, {path}"), &head("GET", path, headers), 400);
        }
        let line = "GET localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n";
        faults.check(admin, &format!("authority form, {path}"), line, 400);
    }
}

/// The head of the bad request begins in the packet of a good one.
#[test]
fn a_bad_request_is_refused_where_it_came_in_one_packet_with_a_good_one() {
    // A connection that is not closed would go on for a second.
    let server = server(Config { http_idle_timeout: Duration::from_secs(1), ..config() });
    let post = "POST /page HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc";
    let chunks = "POST /page HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n";
    let trailers =
        "POST /page HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1;x\r\na\r\n0\r\nX: a\r\n\r\n";
    let get = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let unread = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n";
    let good = [
        get,
        post,
        &format!("{post}\r\n"),
        &post.repeat(3),
        chunks,
        trailers,
        &format!("{chunks}{post}{chunks}{get}{chunks}"),
        unread,
    ];
    for (method, path) in PATHS {
        for &(name, headers) in HEADS {
            // Every good one before one path, and chunks before every path.
            let good = if path == "/page" { &good[..] } else { &good[4..5] };
            for good in good {
                let name = format!("{name}, {method} {path}, behind {good:?}");
                let mut socket = connect(server.address);
                let bad = head(method, path, headers);
                socket.write_all(format!("{good}{bad}{BEHIND}").as_bytes()).expect("written");
                let text = to_the_end(socket, &name);
                let statuses: Vec<&str> =
                    text.match_indices("HTTP/1.1 ").map(|(at, _)| text.get(at + 9..at + 12).unwrap_or("")).collect();
                let (last, before) = statuses.split_last().unwrap_or((&"", &[]));
                let count = good.matches("HTTP/1.1").count();
                assert!(*last == "400" && before == vec!["200"; count], "{name}: {text}");
            }
        }
    }
}

#[test]
fn good_requests_that_come_in_one_packet_are_answered_in_order() {
    let server = server(config());
    let page = "GET /page HTTP/1.1\r\nHost: a\r\n\r\n";
    let with_length = "POST /page HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n\r\n\r\n";
    let chunks = "POST /page HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n";
    let unread = "GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    let long = format!("POST /page HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n{}", "x".repeat(100_000));
    for parts in [
        [page, with_length, chunks, page],
        [chunks, "\r\n", with_length, page],
        [with_length, "\r\n", unread, chunks],
        [&long, page, &long, with_length],
        [chunks, chunks, unread, &long],
    ] {
        let (all, count) = (parts.concat(), parts.concat().matches("HTTP/1.1").count());
        for cut in [1, 40, 70, 90, 120, 150, all.len()] {
            let mut socket = connect(server.address);
            let (first, rest) = all.split_at(cut.min(all.len()));
            socket.write_all(first.as_bytes()).expect("written");
            socket.write_all(rest.as_bytes()).expect("written");
            for at in 0..count {
                assert_eq!(response(&mut socket).status(), 200, "{at} of {parts:.80?}, cut at {cut}");
            }
        }
    }
}

#[test]
fn request_lines_that_are_none_are_refused_on_every_path() {
    let server = server(Config { http_idle_timeout: Duration::from_secs(1), ..config() });
    let mut faults = Faults::default();
    for (method, path) in PATHS {
        #[rustfmt::skip]
        let lines = [
            ("HTTP/0.9", format!("{method} {path}\r\n"), 400),
            ("HTTP/3", format!("{method} {path} HTTP/3.0\r\n"), 400),
            ("no version", format!("{method} {path} HTTP/1.\r\n"), 400),
            ("two targets", format!("{method} {path} {path} HTTP/1.1\r\n"), 400),
            ("authority form", format!("{method} localhost:80 HTTP/1.1\r\n"), 400),
            ("no scheme of HTTP", format!("{method} ftp://localhost{path} HTTP/1.1\r\n"), 400),
            ("an empty host", format!("{method} http:///{path} HTTP/1.1\r\n"), 400),
            ("a user in the host", format!("{method} http://me@localhost{path} HTTP/1.1\r\n"), 400),
            ("a NUL in the target", format!("{method} {path}\0 HTTP/1.1\r\n"), 400),
            ("a bare CR in the target", format!("{method} {path}\r HTTP/1.1\r\n"), 400),
            ("a bare LF behind the line", format!("{method} {path} HTTP/1.1\n"), 400),
            ("a method of no token", format!("{method}( {path} HTTP/1.1\r\n"), 400),
            ("a PROXY header that nobody expects", format!("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n{method} {path} HTTP/1.1\r\n"), 400),
        ];
        for (name, line, status) in lines {
            let request = format!("{line}Host: localhost\r\nContent-Length: 0\r\n\r\n");
            faults.check(server.address, &format!("{name}, {method} {path}"), &request, status);
        }
    }
}

/// RFC 9112 §3.2.2 and §7.1.1: a server takes the absolute form, and ignores the extensions of chunks.
#[test]
fn what_looks_strange_and_is_allowed_is_served() {
    let server = server(config());
    let rows = [
        ("absolute form", "GET http://localhost/page HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        (
            "an extension of a chunk",
            "POST /page HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;a=b\r\nx\r\n0\r\n\r\n",
        ),
        (
            "trailers",
            "POST /page HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 9\r\n\r\n",
        ),
        ("an empty line before the request", "\r\nGET /page HTTP/1.1\r\nHost: a\r\n\r\n"),
    ];
    for (name, request) in rows {
        for requests in [0, 1] {
            let mut socket = connection(server.address, requests);
            for _ in 0..2 {
                socket.write_all(request.as_bytes()).expect("written");
                let answer = response(&mut socket);
                assert_eq!((answer.status(), &*answer.body), (200, "a page\n"), "{name}: {}", answer.head);
            }
        }
    }
}

/// The body is not read to its end, so the connection ends behind the answer. The answer says so, and for each answer
/// that says nothing of it the connection goes on.
#[test]
fn an_answer_to_a_request_that_is_not_read_says_whether_the_connection_ends() {
    let admin = AdminOn::Address("127.0.0.1:0".parse().expect("an address"));
    let server = Server::of(builder(config()).admin(admin));
    let Some(&Address::Tcp(admin)) = server.running().admin_address() else { panic!("an admin port") };
    let long = "x".repeat(8 << 20);
    let lengths = |len: usize| format!("Content-Length: {len}\r\n\r\n");
    let head = |method: &str, path: &str, more: &str| {
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n{more}")
    };
    #[rustfmt::skip]
    let rows = [
        ("a poll", server.address, "POST", "/v1/poll", 413),
        ("a send", server.address, "POST", "/v1/send", 413),
        ("a stream", server.address, "POST", "/v1/sse", 413),
        ("no stream", server.address, "POST", "/events", 405),
        ("a page's address", server.address, "GET", "/page", 200),
        ("no page", server.address, "POST", "/nowhere", 404),
        ("a probe", server.address, "GET", "/healthz", 200),
        ("the admin port", admin, "GET", "/healthz", 200),
    ];
    for (name, address, method, path, status) in rows {
        // Announced and not sent; sent as far as the server takes it; chunks without an end.
        let chunk = format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{}\r\n", 1 << 20, "x".repeat(1 << 20));
        for more in [lengths(long.len()), lengths(long.len()) + &long, chunk] {
            let mut socket = connect(address);
            let _ = socket.write_all(head(method, path, &more).as_bytes()); // the server may have closed
            let answer = support::head(&mut socket);
            let says_so = answer.contains("\r\nconnection: close\r\n") && !answer.contains("keep-alive");
            assert!(says_so && answer.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {answer}");
        }
        // One that has come whole is no reason to close.
        let mut socket = connect(address);
        for _ in 0..2 {
            socket.write_all(head(method, path, &format!("{}abc", lengths(3))).as_bytes()).expect("written");
            let answer = response(&mut socket);
            if name == "a stream" {
                assert_eq!(answer.header("connection"), Some("close"), "a refused stream is the last answer");
                break;
            }
            assert_eq!(answer.header("connection"), None, "{name}: {}", answer.head);
        }
    }
}

#[test]
fn floods_of_headers_are_431_on_every_path() {
    let server = server(config());
    let mut faults = Faults::default();
    let many = "X-Flood: 1\r\n".repeat(101);
    let long = format!("X-Flood: {}\r\n", "x".repeat(64 << 10));
    for (method, path) in PATHS {
        for (name, flood) in [("many", &many), ("long", &long)] {
            let request = format!("{}\r\n", head(method, path, flood));
            faults.check(server.address, &format!("{name} headers, {method} {path}"), &request, 431);
        }
    }
}

#[test]
fn slow_heads_and_slow_bodies_are_408_on_every_path() {
    let config = Config { head_timeout: Duration::from_millis(300), ..config() };
    let server = server(config);
    let waits = |request: String, name: String| {
        for requests in [0, 1] {
            let mut socket = connection(server.address, requests);
            socket.write_all(request.as_bytes()).expect("written");
            let text = to_the_end(socket, &name);
            assert!(text.starts_with("HTTP/1.1 408 "), "{name}, behind {requests}: {text}");
        }
    };
    std::thread::scope(|threads| {
        for (method, path) in PATHS {
            let waits = &waits;
            threads.spawn(move || waits(head(method, path, ""), format!("half a head, {method} {path}")));
            if method == "POST" {
                let half = head(method, path, "Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{");
                threads.spawn(move || waits(half, format!("half a body, {method} {path}")));
                let chunk = "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n";
                let half = head(method, path, chunk);
                threads.spawn(move || waits(half, format!("half a chunked body, {method} {path}")));
            }
        }
    });
}

#[test]
fn other_methods_are_405_and_told_which_are_taken() {
    let server = server(config());
    #[rustfmt::skip]
    let rows = [
        ("/healthz", "GET, HEAD, OPTIONS"),
        ("/page", "GET, HEAD, POST"),
        ("/events", "GET, HEAD, OPTIONS"),
        ("/v1/sse", "GET, HEAD, OPTIONS, POST"),
        ("/v1/stream", "GET, HEAD, OPTIONS, POST"),
        ("/v1/poll", "OPTIONS, POST"),
        ("/v1/send", "OPTIONS, POST"),
        ("/v1/ws", "GET, HEAD, OPTIONS"),
        ("/v1/address", "GET, HEAD, OPTIONS"),
        ("/api/v1/publish", "POST"),
    ];
    for (path, allow) in rows {
        for method in ["PUT", "DELETE", "PATCH", "TRACE", "BREW"] {
            for requests in [0, 1] {
                let mut socket = connection(server.address, requests);
                let request = format!("{}Content-Length: 0\r\n\r\n", head(method, path, ""));
                socket.write_all(request.as_bytes()).expect("written");
                let answer = response(&mut socket);
                assert_eq!(
                    (answer.status(), answer.header("allow")),
                    (405, Some(allow)),
                    "{method} {path}: {}",
                    answer.head
                );
            }
        }
        let mut socket = connection(server.address, 0);
        socket.write_all(format!("{}\r\n", head("OPTIONS", path, "")).as_bytes()).expect("written");
        let answer = response(&mut socket);
        assert_eq!(answer.header("allow"), Some(allow), "OPTIONS {path}: {}", answer.head);
    }
}

/// A stranger that sends the headers of a proxy is not believed.
#[test]
fn headers_of_a_proxy_are_believed_of_no_stranger() {
    let seen = async |info: std::sync::Arc<fanfare::RequestInfo>| fanfare::Json(info.peer.to_string());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let _entered = runtime.enter();
    let server = Server::of(builder(config()).rpc("seen", seen));
    for forged in [
        "X-Forwarded-For: 192.0.2.1\r\n",
        "Forwarded: for=192.0.2.1;proto=https\r\n",
        "X-Real-IP: 192.0.2.1\r\n",
        "X-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.1\r\n",
    ] {
        let mut socket = connect(server.address);
        let connect = r#"{"type":"connect","id":1}"#;
        let post = |path: &str, body: &str| {
            format!("{}Content-Length: {}\r\n\r\n{body}", head("POST", path, forged), body.len())
        };
        socket.write_all(post("/v1/poll", connect).as_bytes()).expect("written");
        let connected: serde_json::Value = serde_json::from_str(&response(&mut socket).body).expect("JSON");
        let ticket = &connected["messages"][0]["ticket"];
        let send = format!(r#"{{"ticket":{ticket},"commands":{{"type":"rpc","id":2,"method":"seen"}}}}"#);
        socket.write_all(post("/v1/send", &send).as_bytes()).expect("written");
        let sent: serde_json::Value = serde_json::from_str(&response(&mut socket).body).expect("JSON");
        let data = sent["replies"][0]["data"].as_str().unwrap_or_default();
        assert!(data.starts_with("127.0.0.1:"), "{forged}: {sent}");
    }
}

#[test]
fn what_a_request_asks_too_much_of_is_named() {
    let server = server(config());
    let channels: String = (0..33).map(|n| format!("&channel=c:{n}")).collect();
    let mut socket = connect(server.address);
    socket
        .write_all(format!("{}\r\n", head("GET", &format!("/events?x=1{channels}"), "")).as_bytes())
        .expect("written");
    let answer = response(&mut socket);
    assert!(answer.status() == 400 && answer.body.contains("at most 32 channels"), "{}", answer.body);
    // A ticket of another server, and none at all.
    let other = self::server(config());
    let stranger = support::polls::Poller::connect(other.address, serde_json::json!({}));
    for ticket in [&*stranger.ticket, "garbage", ""] {
        for (path, body) in [
            ("/v1/poll", serde_json::json!({"ticket": ticket, "ack": 1})),
            ("/v1/send", serde_json::json!({"ticket": ticket, "n": 1, "commands": []})),
        ] {
            let answer = support::polls::post(server.address, path, &body);
            assert_eq!(answer.status(), 401, "{path}: {}", answer.body);
        }
    }
}
