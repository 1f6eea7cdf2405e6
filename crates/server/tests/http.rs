//! The first bytes of a connection: the answer to each kind of head, the targets of upgrades, and that the first
//! request of a connection is treated like a later one.

#![allow(clippy::unwrap_used)] // helpers stand outside of `#[test]`; a panic in one fails the test

mod support;

use fanfare::hub::{Now, Push};
use fanfare::{Actions, Config, Conversation, Echo, Encoded, Fanfare, Place, Protocol};
use fanfare_wire::websocket::Opcode;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;
use support::scrape::scrape;
use support::{Client, Frame, Response, Server, config, connect, frame, join, patient_chat, response, say, upgrade};

/// A named echo.
struct Named(&'static str);

impl Protocol for Named {
    fn open(
        &self,
        place: &Place,
        _: Option<&std::sync::Arc<fanfare::RequestInfo>>,
        actions: &mut Actions,
    ) -> Box<dyn Conversation> {
        Echo::default().open(place, None, actions)
    }

    fn encode_push(&self, push: &Push, now: Now, out: &mut Vec<u8>) -> Encoded {
        Echo::default().encode_push(push, now, out)
    }

    fn subprotocol(&self) -> Option<&'static str> {
        Some(self.0)
    }
}

fn server() -> Server {
    let builder =
        Fanfare::builder(()).config(config()).protocol("/", patient_chat()).protocol("/echo", Echo::default());
    Server::of(builder.protocol("/named", Named("a.v1")).protocol("/named", Named("b.v1")).protocol("/", Named("a.v1")))
}

/// Asks on a fresh connection, or with `kept_alive` after another request on it.
fn ask(server: &Server, request: &[u8], kept_alive: bool) -> (TcpStream, Response) {
    let mut socket = connect(server.address);
    if kept_alive {
        socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let health = response(&mut socket);
        assert_eq!((health.status(), &*health.body), (200, "ok\n"));
    }
    socket.write_all(request).unwrap();
    let answer = response(&mut socket);
    (socket, answer)
}

#[test]
fn upgrades_are_refused_alike_first_and_later() {
    let server = server();
    let good = |path: &str, protocols: &[&str], headers: &[(&str, &str)]| {
        String::from_utf8(upgrade(server.address, path, protocols, headers)).unwrap()
    };
    let plain = good("/", &[], &[]);
    let header = |name: &str, value: &str| good("/", &[], &[(name, value)]);
    #[rustfmt::skip]
    let rows: &[(&str, String, u16, &str)] = &[
        ("no such path", good("/nowhere?x=1", &[], &[]), 404, "\"/nowhere\""),
        ("POST", plain.replace("GET ", "POST "), 405, "is for WebSockets and has no page"),
        ("version 8", plain.replace("Version: 13", "Version: 8"), 426, "must be 13, this request has 8"),
        ("no version", plain.replace("Sec-WebSocket-Version: 13\r\n", ""), 426, "none"),
        ("no key", plain.replace("Sec-WebSocket-Key", "X-Key"), 400, "no Sec-WebSocket-Key"),
        ("a short key", plain.replace("Key: ", "Key: A"), 400, "24 characters"),
        ("a page of another host", header("Origin", "https://evil.example"), 403, "`origins`"),
        ("a page of nowhere", header("Origin", "null"), 403, "`origins`"),
        ("a subprotocol that is not spoken", good("/named", &["c.v1"], &[]), 400, "a.v1"),
        ("no subprotocol where there must be one", good("/named", &[], &[]), 400, "b.v1"),
    ];
    for (name, request, status, words) in rows {
        for kept_alive in [false, true] {
            let (_, answer) = ask(&server, request.as_bytes(), kept_alive);
            assert_eq!(answer.status(), *status, "{name}, kept alive: {kept_alive}: {}", answer.body);
            assert!(answer.body.contains(words), "{name}, kept alive: {kept_alive}: {}", answer.body);
            if *status == 426 {
                assert_eq!(answer.header("sec-websocket-version"), Some("13"), "{name}");
            }
            if *status == 405 {
                assert_eq!(answer.header("allow"), Some("GET, HEAD, OPTIONS"), "{name}");
            }
        }
    }
    let mut bytes = plain.clone().into_bytes();
    bytes.splice(plain.len() - 2.., *b"Origin: http://\xFF\xFE\r\n\r\n");
    assert_eq!(ask(&server, &bytes, false).1.status(), 403, "an origin that is no text is no way around the check");
}

/// RFC 9110 §15.5.22: a request without an upgrade gets 426 with the needed upgrade where there is nothing else.
#[test]
fn an_address_for_websockets_alone_says_so() {
    let server = server();
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    let rows: &[(&str, String, u16, &str)] = &[
        ("native", get("/v1/ws"), 426, "native by the subprotocol fanfare.v1\n"),
        ("with a query", get("/v1/ws?a=1"), 426, "\"/v1/ws\" is for WebSockets"),
        ("two protocols", get("/"), 426, "chat without a subprotocol, a.v1 by the subprotocol a.v1\n"),
        ("another upgrade", get("/echo").replace("Host", "Connection: Upgrade\r\nUpgrade: h2c\r\nHost"), 426, "echo"),
        ("no `Connection`", get("/v1/ws").replace("Host", "Upgrade: websocket\r\nHost"), 426, "does a proxy drop them"),
        ("another method", get("/v1/ws").replace("GET", "POST"), 405, "\"/v1/ws\" is for WebSockets"),
        ("nothing at all", get("/v1"), 404, "there is nothing at \"/v1\"\n"),
    ];
    for (name, request, status, words) in rows {
        for kept_alive in [false, true] {
            let (_, answer) = ask(&server, request.as_bytes(), kept_alive);
            assert_eq!(answer.status(), *status, "{name}, kept alive: {kept_alive}: {}", answer.body);
            assert!(answer.body.contains(words), "{name}: {}", answer.body);
            let expected = match status {
                426 => (Some("websocket"), Some("Upgrade"), None),
                405 => (None, None, Some("GET, HEAD, OPTIONS")),
                _ => (None, None, None),
            };
            let found = (answer.header("upgrade"), answer.header("connection"), answer.header("allow"));
            assert_eq!(found, expected, "{name}: {}", answer.head);
        }
    }
}

/// RFC 9110 §7.8: an `Upgrade` that `Connection` does not name was passed on by mistake, and is ignored. So is one by a
/// method that opens no WebSocket.
#[test]
fn an_upgrade_that_is_none_does_not_change_the_answer() {
    let server = server();
    let bare = |line: &str| format!("{line} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\r\n");
    let post = |path: &str| {
        let connection = "Connection: upgrade\r\nUpgrade: websocket\r\n";
        format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{connection}Content-Length: 2\r\n\r\n{{}}")
    };
    #[rustfmt::skip]
    let rows: &[(&str, String, u16, Option<&str>)] = &[
        ("a probe", bare("GET /healthz"), 200, None),
        ("a stream", bare("GET /events?channel=a%20b"), 400, None),
        ("a poll by GET", bare("GET /v1/poll"), 405, Some("OPTIONS, POST")),
        ("a poll", post("/v1/poll"), 400, None),
        ("a send", post("/v1/send"), 400, None),
        ("a stream by POST", post("/v1/sse"), 400, None),
        ("a WebSocket by POST", post("/v1/ws"), 405, Some("GET, HEAD, OPTIONS")),
        ("nothing", post("/nowhere"), 404, None),
    ];
    for (name, request, status, allow) in rows {
        for kept_alive in [false, true] {
            let (_, answer) = ask(&server, request.as_bytes(), kept_alive);
            let found = (answer.status(), answer.header("allow"));
            assert_eq!(found, (*status, *allow), "{name}, kept alive: {kept_alive}: {}", answer.body);
        }
    }
}

/// RFC 9110 §7.8: the `Upgrade` of HTTP/1.0 is ignored.
#[test]
fn http10_has_no_upgrades() {
    let server = server();
    let upgrade = String::from_utf8(upgrade(server.address, "/healthz", &[], &[])).unwrap();
    let old = |path: &str| upgrade.replace("/healthz HTTP/1.1", &format!("{path} HTTP/1.0"));
    for kept_alive in [false, true] {
        let health = ask(&server, old("/healthz").as_bytes(), kept_alive).1;
        assert_eq!((health.status(), &*health.body), (200, "ok\n"), "kept alive: {kept_alive}");
        let echo = ask(&server, old("/echo").as_bytes(), kept_alive).1;
        assert_eq!(echo.status(), 426, "kept alive: {kept_alive}: {}", echo.body);
    }
}

#[test]
fn pages_and_their_own_words_stand_before_ours() {
    use axum::routing::get;
    let page =
        || axum::Router::new().route("/", get(async || "a page")).route("/gone", get(async || gone("of the page")));
    let servers = [
        (Server::of(Fanfare::builder(()).config(config()).protocol("/", patient_chat()).fallback(page())), None),
        (
            Server::of(
                Fanfare::builder(())
                    .config(config())
                    .protocol("/", patient_chat())
                    .fallback(page().fallback(async || gone("of the fallback"))),
            ),
            Some("of the fallback"),
        ),
    ];
    for (server, fallback) in servers {
        let ask = |path: &str| ask(&server, format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes(), false).1;
        assert_eq!((ask("/").status(), &*ask("/").body), (200, "a page"));
        assert_eq!((ask("/gone").status(), &*ask("/gone").body), (404, "of the page"));
        assert_eq!(ask("/nowhere").body, fallback.unwrap_or("there is nothing at \"/nowhere\"\n"));
        assert_eq!(ask("/v1/ws").status(), if fallback.is_some() { 404 } else { 426 });
        Client::join(server.address, "ada", "r").close();
    }
}

fn gone(words: &'static str) -> (http::StatusCode, &'static str) {
    (http::StatusCode::NOT_FOUND, words)
}

#[test]
fn upgrades_are_granted_alike_first_and_later() {
    let server = server();
    let own = format!("http://{}", server.address);
    let whole = format!("{own}/echo");
    let rows: &[(&str, Vec<u8>, Option<&str>)] = &[
        ("plain", upgrade(server.address, "/echo", &[], &[]), None),
        ("with a query", upgrade(server.address, "/echo?a=/b", &[], &[]), None),
        ("the whole address", upgrade(server.address, &whole, &[], &[]), None),
        ("a page of this host", upgrade(server.address, "/echo", &[], &[("Origin", &own)]), None),
        ("asked and spoken", upgrade(server.address, "/named", &["c.v1", "b.v1", "a.v1"], &[]), Some("b.v1")),
        ("asked and not spoken, where one without a name is", upgrade(server.address, "/echo", &["c.v1"], &[]), None),
    ];
    for (name, request, subprotocol) in rows {
        for kept_alive in [false, true] {
            let (socket, answer) = ask(&server, request, kept_alive);
            assert_eq!(answer.status(), 101, "{name}, kept alive: {kept_alive}: {}", answer.body);
            assert_eq!(answer.header("sec-websocket-protocol"), *subprotocol, "{name}, kept alive: {kept_alive}");

            let mut client = Client::of(socket);
            client.text("hello");
            assert_eq!(client.next(), Frame::Text("hello".into()), "{name}, kept alive: {kept_alive}");
            client.close();
        }
    }
}

#[test]
fn bytes_sent_with_the_head_are_not_lost() {
    let server = server();
    let mut more = frame(Opcode::Text, join("ada", "r").as_bytes());
    for content in ["one", "two", "three"] {
        more.extend_from_slice(&frame(Opcode::Text, say(content).as_bytes()));
    }
    for kept_alive in [false, true] {
        for cut in [0, 1, more.len() / 2, more.len()] {
            let mut socket = connect(server.address);
            if kept_alive {
                socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
                assert_eq!(response(&mut socket).status(), 200);
            }
            let mut client = Client::upgraded(socket, server.address, "/", &more[..cut]);
            client.socket.write_all(&more[cut..]).unwrap();
            for content in ["one", "two", "three"] {
                assert_eq!(client.until("message")["content"], content, "kept alive: {kept_alive}, cut: {cut}");
            }
            client.close();
        }
    }
}

#[test]
fn heads_may_come_in_single_bytes() {
    let server = server();
    for head in [
        &upgrade(server.address, "/echo", &[], &[])[..],
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    ] {
        let mut socket = connect(server.address);
        for byte in head {
            socket.write_all(&[*byte]).unwrap();
        }
        assert!(matches!(response(&mut socket).status(), 101 | 200));
    }
}

#[test]
fn heads_that_lead_nowhere() {
    let server = server();
    let many: String = (0..101).map(|n| format!("X-{n}: y\r\n")).collect();
    #[rustfmt::skip]
    let rows: &[(&str, String, u16)] = &[
        ("garbage", "hello\r\n\r\n".into(), 400),
        ("TLS", "\x16\x03\x01\x02\0\x01\0\x01\x7f\x03\x03".into(), 400),
        ("another version", "GET / HTTP/3.0\r\n\r\n".into(), 400),
        ("a space in a name", "GET / HTTP/1.1\r\nA b: c\r\n\r\n".into(), 400),
        ("too long", format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(17 << 10)), 431),
        ("too long without an end", format!("GET /{}", "y".repeat(16 << 10)), 431),
        ("too many headers", format!("GET / HTTP/1.1\r\n{many}\r\n"), 431),
        ("half of the preface of HTTP/2", "PRI * HTTP/2.0\r\nHost: x\r\n\r\n".into(), 400),
        ("nothing there", "GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".into(), 404),
    ];
    for (name, head, status) in rows {
        let mut socket = connect(server.address);
        socket.write_all(head.as_bytes()).unwrap();
        let answer = response(&mut socket);
        assert_eq!(answer.status(), *status, "{name}: {}", answer.body);
        assert_eq!(socket.read(&mut [0]).unwrap(), 0, "{name}: and it ends");
    }
    let bounds = Config { head_bytes_max: 200, ..config() };
    let server = Server::start(bounds);
    let (_, answer) = ask(&server, format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(200)).as_bytes(), false);
    assert_eq!(answer.status(), 431);
    assert!(answer.body.contains("200 bytes"), "{}", answer.body);
}

#[test]
fn a_head_that_does_not_come_whole_in_time_is_answered_408() {
    let server = Server::start(Config { head_timeout: Duration::from_millis(100), ..config() });
    for part in [
        "",
        "G",
        "GET / HTTP/1.1\r\nHost: x\r\n",
        "PRI * HTTP/2",
        "PRI * HTTP/2.0\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r",
    ] {
        let mut socket = connect(server.address);
        socket.write_all(part.as_bytes()).unwrap();
        let answer = response(&mut socket);
        assert_eq!(answer.status(), 408, "{part:?}");
        assert!(answer.body.contains("0.1 s"), "{part:?}: {}", answer.body);
        assert_eq!(socket.read(&mut [0]).unwrap(), 0, "{part:?}: and it ends");
    }
    assert_eq!(ask(&server, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", false).1.status(), 200);
}

#[test]
fn the_bound_of_heads_holds_for_later_requests_too() {
    for max in [8 << 10, 16 << 10, 100 << 10] {
        let server = Server::start(Config { head_bytes_max: max, ..config() });
        let begin = "GET /healthz HTTP/1.1\r\nHost: x\r\nX: ";
        let line = |len: usize| format!("{begin}{}", "y".repeat(len - begin.len()));
        for kept_alive in [false, true] {
            let whole = line(max - 4) + "\r\n\r\n";
            assert_eq!(ask(&server, whole.as_bytes(), kept_alive).1.status(), 200, "{max}, {kept_alive}");
            let (_, refused) = ask(&server, line(max).as_bytes(), kept_alive);
            assert_eq!(refused.status(), 431, "{max}, {kept_alive}");
        }
    }
}

#[test]
fn the_bound_of_heads_holds_for_http2() {
    // HPACK: GET, http, `:path`, `:authority`, and a literal with a value of 9000 bytes.
    let mut block =
        [&[0x82, 0x86, 0x04, 8][..], b"/healthz", &[0x01, 1], b"x", &[0, 1, b'x', 0x7f, 0xA9, 0x45]].concat();
    block.extend_from_slice(&[b'y'; 9000]);
    for (max, expected) in [(8 << 10, 0x48), (16 << 10, 0x88)] {
        let server = Server::start(Config { head_bytes_max: max, ..config() });
        let mut socket = connect(server.address);
        socket.write_all(&http2_get(&block)).unwrap();
        // HPACK: 0x88 is 200, and 0x48 is a status without an index of its own, such as 431.
        assert_eq!(http2_answer(&mut socket).0, expected, "{max}");
    }
}

/// In words and counted, up to four times the bound: h2 refuses longer heads by itself, with a status alone.
#[test]
fn heads_of_http2_that_are_too_long_or_have_too_many_headers_are_told_and_counted() {
    let request = [&[0x82, 0x86, 0x04, 8][..], b"/healthz", &[0x01, 9], b"localhost"].concat();
    let with = |lines: &[u8]| http2_get(&[&request[..], lines].concat());
    let line = |name: &[u8], value: &[u8]| [&[0, name.len() as u8], name, &[value.len() as u8], value].concat();
    let admin = fanfare::AdminOn::MainPort;
    let server = Server::start(Config { head_bytes_max: 8 << 10, admin, ..config() });
    let reached = |limit: &str| scrape(server.address).get(&format!("fanfare_limits_reached_total{{limit={limit:?}}}"));
    let rows = [
        ("at the bound", line(b"x", b"").repeat(99), 0x88, ""),
        ("crumbs of a cookie", line(b"cookie", b"a=b").repeat(150), 0x88, ""),
        ("too many", line(b"x", b"").repeat(101), 0x48, "more than 100 headers"),
        ("too long", line(b"x", &[b'y'; 100]).repeat(90), 0x48, "longer than 8192 bytes"),
    ];
    for (name, lines, status, words) in rows {
        let mut socket = connect(server.address);
        socket.write_all(&with(&lines)).unwrap();
        let (found, body) = http2_answer(&mut socket);
        let body = String::from_utf8(body).unwrap();
        assert!(found == status && body.contains(words), "{name}: {found:#x} {body}");
    }
    assert_eq!((reached("headers"), reached("head_bytes_max")), (1.0, 1.0));
    // Over HTTP/1 it is the same.
    let many = format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(100));
    assert_eq!(ask(&server, many.as_bytes(), false).1.status(), 431);
    assert_eq!(reached("headers"), 2.0);
}

/// As over HTTP/1, where such a request is answered 400: a server behind this one may read it as two requests.
#[test]
fn several_lengths_of_one_body_reset_a_stream_of_http2() {
    const SERVED: (u8, u8) = (1, 0x88);
    const RESET: (u8, u8) = (3, 1); // PROTOCOL_ERROR
    let server = server();
    let rows: [(&str, &[&str], (u8, u8)); 5] = [
        ("one", &["0"], SERVED),
        ("the same twice", &["0", "0"], SERVED),
        ("two", &["0", "1"], RESET),
        ("a list", &["0, 0"], RESET),
        ("no number", &["+0"], RESET),
    ];
    for (name, lengths, expected) in rows {
        let mut block = [&[0x82, 0x86, 0x04, 8][..], b"/healthz", &[0x01, 9], b"localhost"].concat();
        for length in lengths {
            block.extend([0x0f, 0x0d, u8::try_from(length.len()).expect("short")]); // content-length, as a literal
            block.extend_from_slice(length.as_bytes());
        }
        let mut socket = connect(server.address);
        socket.write_all(&http2_get(&block)).unwrap();
        let (kind, payload) = std::iter::repeat_with(|| http2_frame(&mut socket))
            .find(|(kind, _)| [1, 3].contains(kind))
            .expect("endless");
        let told = if kind == 1 { payload.first() } else { payload.last() };
        assert_eq!((kind, told.copied()), (expected.0, Some(expected.1)), "{name}");
    }
}

/// A client that has sent the HTTP/2 preface and is silent then gets a ping, and is disconnected without an answer.
#[test]
fn a_silent_connection_of_http2_ends() {
    let server = Server::start(Config { head_timeout: Duration::from_millis(100), ..config() });
    let mut socket = connect(server.address);
    socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    socket.read_to_end(&mut Vec::new()).expect("the server ends it");
}

#[test]
fn a_connection_may_come_and_go_without_a_word() {
    let server = server();
    for _ in 0..50 {
        drop(connect(server.address));
        connect(server.address).shutdown(Shutdown::Write).unwrap();
    }
    assert_eq!(server.open(), (0, 0));
}

/// The beginning of an HTTP/2 connection with one request that has this block of headers.
fn http2_get(block: &[u8]) -> Vec<u8> {
    let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    sent.extend_from_slice(&[0, 0, 0, 4, 0, 0, 0, 0, 0]); // SETTINGS, empty
    let [high, low] = u16::try_from(block.len()).expect("one frame").to_be_bytes();
    sent.extend_from_slice(&[0, high, low, 1, 5, 0, 0, 0, 1]); // HEADERS, END_STREAM and END_HEADERS, stream 1
    sent.extend_from_slice(block);
    sent
}

/// The kind of the next frame, and its payload.
fn http2_frame(socket: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 9];
    socket.read_exact(&mut head).expect("a frame of HTTP/2");
    let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
    socket.read_exact(&mut payload).expect("its payload");
    (head[3], payload)
}

/// The first byte of the answer's headers, which stands for its status, and the body.
fn http2_answer(socket: &mut TcpStream) -> (u8, Vec<u8>) {
    let (mut status, mut body) = (None, Vec::new());
    loop {
        let mut head = [0; 9];
        socket.read_exact(&mut head).expect("a frame of HTTP/2");
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        socket.read_exact(&mut payload).expect("its payload");
        match head[3] {
            0 => body.extend_from_slice(&payload),
            1 => status = payload.first().copied(),
            _ => continue,
        }
        if head[4] & 1 == 1 {
            return (status.expect("headers come first"), body); // END_STREAM
        }
    }
}

#[test]
fn http2_with_prior_knowledge_is_served_however_it_is_cut() {
    let server = server();
    // HPACK: GET, http, then `:path` and `:authority` as literals.
    let sent = http2_get(&[&[0x82, 0x86, 0x04, 8][..], b"/healthz", &[0x01, 1], b"x"].concat());
    for step in [1, 12, 16, 23, 24, sent.len()] {
        let mut socket = connect(server.address);
        for part in sent.chunks(step) {
            socket.write_all(part).unwrap();
        }
        assert_eq!(http2_answer(&mut socket), (0x88, b"ok\n".to_vec()), "HPACK for 200, step {step}");
    }
}

/// `:authority` is the host in HTTP/2. `Host` may replace it, and if both are there they must be the same (RFC 9113
/// §8.3.1).
#[test]
fn http2_names_its_host_by_authority() {
    let server = Server::of(Fanfare::builder(()).config(Config { hosts: fanfare::Hosts::ByListener, ..config() }));
    let literal = |name: u8, value: &str| [&[name, value.len() as u8][..], value.as_bytes()].concat();
    let (authority, host) = (
        |value: &str| literal(0x01, value),
        |value: &str| [&[0x00, 4][..], b"host", &[value.len() as u8], value.as_bytes()].concat(),
    );
    #[rustfmt::skip]
    let rows: &[(&str, Vec<u8>, u16, &str)] = &[
        ("good", authority("localhost"), 200, "ok\n"),
        ("Host alone", host("localhost"), 200, "ok\n"),
        ("the same twice", [authority("localhost"), host("LOCALHOST:80")].concat(), 200, "ok\n"),
        ("none", Vec::new(), 400, "names no host"),
        ("two hosts", [authority("localhost"), host("127.0.0.1")].concat(), 400, "another host"),
        ("not served", authority("evil.example"), 421, "\"evil.example\" is not served here: the option `hosts`"),
        ("not served, by Host", host("evil.example"), 421, "`hosts`"),
        ("none of a host", host("a b"), 400, "a b"),
    ];
    for (name, headers, status, words) in rows {
        let mut socket = connect(server.address);
        socket.write_all(&http2_get(&[&[0x82, 0x86, 0x04, 8][..], b"/healthz", headers].concat())).unwrap();
        let (found, body) = http2_answer(&mut socket);
        // HPACK (RFC 7541, appendix A) has indices for 200 and 400; 421 is a literal.
        let expected = match status {
            200 => 0x88,
            400 => 0x8C,
            _ => found,
        };
        assert!(*status != 421 || !(0x88..=0x8E).contains(&found), "{name}: {found:#x}");
        let body = String::from_utf8(body).unwrap();
        assert!(found == expected && body.contains(words), "{name}: {found:#x} {body}");
    }
}
