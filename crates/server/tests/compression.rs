//! Compression over real sockets. permessage-deflate: the agreement on each path of an upgrade, one compression of a
//! publication for all its receivers, and hostile compressed messages, which end their connection and nothing else.
//! gzip: API answers and pages, for clients that accept it.

mod support;

use axum::Router;
use axum::routing::get;
use fanfare::{AdminOn, Config, Echo};
use fanfare_wire::native::PROTOCOL;
use fanfare_wire::websocket::deflate::{Deflater, Inflater, Window};
use fanfare_wire::websocket::{Opcode, close, put_frame_parts};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use support::native::{PATH, builder, command};
use support::scrape::scrape;
use support::{Server, config, connect, response, upgrade};

const OFFER: &str = "permessage-deflate; client_max_window_bits";
const AGREED: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// A frame as the server sent it: its first byte, and its payload.
type RawFrame = (u8, Vec<u8>);

/// A client that sees frames as they are.
struct Raw(TcpStream);

impl Raw {
    /// Opens a WebSocket with this offer. Also returns what was agreed on.
    fn open(address: SocketAddr, path: &str, offer: &str) -> (Raw, Option<String>) {
        Raw::upgrade(connect(address), address, path, offer)
    }

    fn upgrade(mut socket: TcpStream, address: SocketAddr, path: &str, offer: &str) -> (Raw, Option<String>) {
        let protocols: &[&str] = if path == PATH { &[PROTOCOL] } else { &[] };
        let head = upgrade(address, path, protocols, &[("Sec-WebSocket-Extensions", offer)]);
        socket.write_all(&head).expect("the server reads");
        let response = response(&mut socket);
        assert_eq!(response.status(), 101, "{offer}: {}{}", response.head, response.body);
        let agreed = response.header("sec-websocket-extensions").map(str::to_owned);
        (Raw(socket), agreed)
    }

    /// A client of the native protocol that is subscribed to `news`.
    fn subscribed(address: SocketAddr, offer: &str) -> Raw {
        let (mut raw, _) = Raw::open(address, PATH, offer);
        raw.text(&command("connect", json!({}), &json!(1)));
        raw.text(&command("subscribe", json!({"channel": "news"}), &json!(2)));
        for expected in ["connected", "subscribed"] {
            let (first, payload) = raw.frame();
            let message: Value = serde_json::from_slice(&payload).expect("a short answer is not compressed");
            assert_eq!((first, &message["type"]), (0x81, &json!(expected)), "{message}");
        }
        raw
    }

    fn text(&mut self, message: &Value) {
        self.send(true, false, Opcode::Text, message.to_string().as_bytes());
    }

    fn send(&mut self, fin: bool, rsv1: bool, opcode: Opcode, payload: &[u8]) {
        let mut bytes = Vec::new();
        put_frame_parts(&mut bytes, fin, rsv1, opcode, payload, Some([5, 6, 7, 8]));
        self.0.write_all(&bytes).expect("the server reads");
    }

    fn frame(&mut self) -> RawFrame {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).expect("a frame");
        let len = match head[1] {
            126 => self.length::<2>(),
            127 => self.length::<8>(),
            len => usize::from(len),
        };
        let mut payload = vec![0; len];
        self.0.read_exact(&mut payload).expect("the frame is whole");
        (head[0], payload)
    }

    fn length<const N: usize>(&mut self) -> usize {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes).expect("a length");
        bytes.iter().fold(0, |len, byte| len << 8 | usize::from(*byte))
    }

    /// The code of the close frame that must come now.
    fn close_code(&mut self) -> u16 {
        let (first, payload) = self.frame();
        assert_eq!(first, 0x88, "a close: {payload:?}");
        u16::from_be_bytes([payload[0], payload[1]])
    }
}

/// A text message of this frame.
fn text((first, payload): &RawFrame) -> (bool, String) {
    assert_eq!(first & 0xBF, 0x81, "a whole text message");
    let is_compressed = first & 0x40 != 0;
    let text = match is_compressed {
        true => Inflater::default().inflate(payload, 1 << 20).expect("DEFLATE").to_vec(),
        false => payload.clone(),
    };
    (is_compressed, String::from_utf8(text).expect("UTF-8"))
}

/// JSON of about so many bytes.
fn story(bytes: usize) -> Value {
    let line = |n: usize| json!({"number": n, "name": format!("user-{n}"), "text": "the quick brown fox"});
    Value::Array((0..bytes / 60).map(line).collect())
}

fn deflated(message: &[u8]) -> Vec<u8> {
    Deflater::new(Window::Full).deflate(message).expect("it can be compressed").to_vec()
}

/// The offers, and the part of the answer after the two parameters that are always there; `None`: nothing is agreed on.
const OFFERS: &[(&str, Option<&str>)] = &[
    (OFFER, Some("")),
    ("permessage-deflate; server_max_window_bits=15", Some("; server_max_window_bits=15")),
    ("permessage-deflate; server_max_window_bits=12", Some("; server_max_window_bits=9")),
    ("permessage-deflate; server_max_window_bits=8", None),
    ("permessage-deflate; server_max_window_bits=8, permessage-deflate", Some("")),
    ("permessage-deflate; unknown", None),
    ("permessage-deflate; client_max_window_bits; client_max_window_bits", None),
    (r#"permessage-deflate; client_max_window_bits="15"#, None),
    ("x-webkit-deflate-frame", None),
    (";;;,,,=", None),
];

fn expected(rest: Option<&str>) -> Option<String> {
    rest.map(|rest| format!("{AGREED}{rest}"))
}

#[test]
fn the_first_request_of_a_connection_and_a_later_one_are_agreed_on_alike() {
    let server = Server::of(builder(config()).protocol("/echo", Echo::default()));
    for (offer, rest) in OFFERS {
        let (_, agreed) = Raw::open(server.address, "/echo", offer);
        assert_eq!(agreed, expected(*rest), "{offer}");
        let mut socket = connect(server.address);
        socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").expect("the server reads");
        assert_eq!(response(&mut socket).status(), 200);
        let (mut raw, agreed) = Raw::upgrade(socket, server.address, "/echo", offer);
        assert_eq!(agreed, expected(*rest), "{offer}, on a kept connection");
        if agreed.is_some() {
            raw.send(true, true, Opcode::Text, &deflated(&[b'x'; 100]));
            assert_eq!(raw.frame(), (0x81, vec![b'x'; 100]), "{offer}: it speaks");
        }
    }
}

#[test]
fn a_server_within_another_agrees_too() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let server = builder(config()).protocol("/echo", Echo::default()).build().expect("good settings");
    let (service, _running) = runtime.block_on(async { server.into_service() }).expect("it starts");
    let address = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let pages = Router::new().route("/hello", get(|| async { "hello" })).fallback_service(service);
        tokio::spawn(async { axum::serve(listener, pages).await });
        address
    });
    for (offer, rest) in OFFERS {
        let (mut raw, agreed) = Raw::open(address, "/echo", offer);
        assert_eq!(agreed, expected(*rest), "{offer}");
        if agreed.is_some() {
            raw.send(true, true, Opcode::Text, &deflated(&[b'x'; 2000]));
            assert_eq!(text(&raw.frame()), (true, "x".repeat(2000)), "{offer}");
        }
    }
}

#[test]
fn nothing_is_agreed_on_where_compression_is_off() {
    let mut config = config();
    config.compression.websocket = false;
    let server = Server::of(builder(config).protocol("/echo", Echo::default()));
    let (mut raw, agreed) = Raw::open(server.address, "/echo", OFFER);
    assert_eq!(agreed, None);
    raw.send(true, false, Opcode::Text, &[b'x'; 2000]);
    assert_eq!(raw.frame(), (0x81, vec![b'x'; 2000]));
    raw.send(true, true, Opcode::Text, &deflated(&[b'x'; 100]));
    assert_eq!(raw.close_code(), 1002);
}

#[test]
fn a_publication_is_compressed_once_for_all_receivers_in_one_window() {
    let config = Config { shards: 1, admin: AdminOn::MainPort, ..config() };
    let server = Server::native(config);
    let small = "permessage-deflate; server_max_window_bits=10";
    let offers = [OFFER, "", small, OFFER, "", small, OFFER];
    let mut clients: Vec<Raw> = offers.iter().map(|offer| Raw::subscribed(server.address, offer)).collect();
    let before = scrape(server.address);
    let data = story(3000);
    clients[1].text(&command("publish", json!({"channel": "news", "data": data}), &json!(3)));
    let (_, published) = clients[1].frame();
    assert!(String::from_utf8_lossy(&published).contains("published"));
    let frames: Vec<RawFrame> = clients.iter_mut().map(Raw::frame).collect();
    let texts: Vec<(bool, String)> = frames.iter().map(text).collect();
    for (offer, (is_compressed, text)) in offers.iter().zip(&texts) {
        assert_eq!(*is_compressed, !offer.is_empty(), "{offer}");
        assert_eq!(*text, texts[0].1, "{offer}");
    }
    let message: Value = serde_json::from_str(&texts[0].1).expect("JSON");
    assert_eq!(message["data"], data);
    assert!(frames[0].1.len() < frames[1].1.len() / 3, "{} of {}", frames[0].1.len(), frames[1].1.len());
    assert!(frames[0] == frames[3] && frames[3] == frames[6] && frames[2] == frames[5] && frames[0] != frames[2]);
    // Once for each of the two windows, not for each of the five receivers.
    let after = scrape(server.address);
    let rise = |name: &str| {
        let sample = format!("fanfare_compression_{name}_bytes_total{{transport=\"websocket\",direction=\"sent\"}}");
        (after.get(&sample) - before.get(&sample)) as usize
    };
    assert_eq!(rise("plain"), 2 * texts[0].1.len());
    assert_eq!(rise("compressed"), frames[0].1.len() + frames[2].1.len());
}

#[test]
fn short_messages_and_those_that_do_not_become_shorter_are_sent_as_they_are() {
    let server = Server::of(builder(config()).protocol("/echo", Echo::default()));
    let (mut raw, _) = Raw::open(server.address, "/echo", OFFER);
    let noise = support::Random::new(1).bytes(5000);
    let rows = [
        ("short", vec![b'x'; 1023], false),
        ("long enough", vec![b'x'; 1024], true),
        ("above the size of a corked message", vec![b'x'; 30_000], true),
        ("noise", noise, false),
    ];
    for (name, payload, is_compressed) in rows {
        raw.send(true, false, Opcode::Binary, &payload);
        let (first, sent) = raw.frame();
        assert_eq!(first, if is_compressed { 0xC2 } else { 0x82 }, "{name}");
        match is_compressed {
            true => assert_eq!(Inflater::default().inflate(&sent, payload.len()), Ok(&payload[..]), "{name}"),
            false => assert_eq!(sent, payload, "{name}"),
        }
    }
    raw.send(true, false, Opcode::Ping, &[b'x'; 125]);
    assert_eq!(raw.frame(), (0x8A, vec![b'x'; 125]), "a pong is never compressed");
}

#[test]
fn compressed_messages_of_clients_are_read_in_any_fragments() {
    let config = Config { admin: AdminOn::MainPort, ..config() };
    let server = Server::of(builder(config).protocol("/echo", Echo::default()));
    let (mut raw, _) = Raw::open(server.address, "/echo", OFFER);
    let message = "aé€😀 again, ".repeat(40);
    let packed = deflated(message.as_bytes());
    for cut in [0, 1, packed.len() / 2, packed.len()] {
        raw.send(false, true, Opcode::Text, &packed[..cut]);
        raw.send(true, false, Opcode::Ping, b"between");
        raw.send(true, false, Opcode::Continuation, &packed[cut..]);
        assert_eq!(raw.frame(), (0x8A, b"between".to_vec()));
        assert_eq!(text(&raw.frame()), (false, message.clone()), "cut at {cut}");
    }
    raw.send(true, true, Opcode::Text, &[0]);
    assert_eq!(raw.frame(), (0x81, Vec::new()), "an empty message");
    raw.send(true, false, Opcode::Text, b"as it is");
    assert_eq!(raw.frame(), (0x81, b"as it is".to_vec()));
    let scraped = scrape(server.address);
    let total = |name: &str| {
        scraped
            .get(&format!("fanfare_compression_{name}_bytes_total{{transport=\"websocket\",direction=\"received\"}}"))
            as usize
    };
    assert_eq!(total("plain"), 4 * message.len());
    assert_eq!(total("compressed"), 4 * packed.len() + 1);
}

#[test]
fn hostile_compressed_messages_end_their_connection_and_no_other() {
    let mut config = config();
    config.limits.message_bytes_max = 64 << 10;
    let server = Server::of(builder(config).protocol("/echo", Echo::default()));
    let (mut witness, _) = Raw::open(server.address, "/echo", OFFER);
    let zeros = |count: usize| deflated(&vec![0; count]);
    // (The fault, whether it is compressed, the frames, the code.)
    type Row<'a> = (&'a str, &'a str, Vec<(bool, bool, Opcode, Vec<u8>)>, u16);
    let rows: Vec<Row<'_>> = vec![
        ("one byte over the limit", OFFER, vec![(true, true, Opcode::Binary, zeros((64 << 10) + 1))], 1009),
        ("a bomb", OFFER, vec![(true, true, Opcode::Binary, zeros(20 << 20))], 1009),
        (
            "a bomb in fragments",
            OFFER,
            vec![(false, true, Opcode::Text, zeros(20 << 20)), (true, false, Opcode::Continuation, vec![])],
            1009,
        ),
        ("not DEFLATE", OFFER, vec![(true, true, Opcode::Text, vec![0xff; 20])], 1007),
        ("not UTF-8", OFFER, vec![(true, true, Opcode::Text, deflated(&[0xff; 200]))], 1007),
        ("a compressed ping", OFFER, vec![(true, true, Opcode::Ping, vec![])], 1002),
        ("a compressed close", OFFER, vec![(true, true, Opcode::Close, vec![])], 1002),
        (
            "a compressed continuation",
            OFFER,
            vec![(false, true, Opcode::Text, vec![0]), (true, true, Opcode::Continuation, vec![0])],
            1002,
        ),
        ("compressed without an agreement", "", vec![(true, true, Opcode::Text, vec![0])], 1002),
    ];
    for (name, offer, frames, code) in rows {
        let (mut raw, _) = Raw::open(server.address, "/echo", offer);
        raw.send(true, false, Opcode::Text, b"before");
        assert_eq!(raw.frame(), (0x81, b"before".to_vec()), "{name}");
        for (fin, rsv1, opcode, payload) in frames {
            raw.send(fin, rsv1, opcode, &payload);
        }
        assert_eq!(raw.close_code(), code, "{name}");
        assert!(close::find(code).is_some_and(|row| !row.reconnect), "{name}: a client does not try again");
        witness.send(true, true, Opcode::Text, &[0]);
        assert_eq!(witness.frame(), (0x81, Vec::new()), "{name}: others are served");
    }
}

#[test]
fn answers_and_publications_keep_their_order_whatever_their_size() {
    let server = Server::native(config());
    let mut client = Raw::subscribed(server.address, OFFER);
    for n in 0..40 {
        let data = json!({"n": n, "story": story([10, 2000, 100, 20_000][n % 4])});
        client.text(&command("publish", json!({"channel": "news", "data": data}), &json!(n)));
    }
    let mut published = 0;
    for n in 0..40 {
        loop {
            let (_, text) = text(&client.frame());
            let message: Value = serde_json::from_str(&text).expect("JSON");
            match message["type"].as_str() {
                Some("published") => {
                    assert_eq!(message["id"], published);
                    published += 1;
                }
                Some("message") => {
                    assert_eq!(message["data"]["n"], n);
                    assert!(published > n, "the answer comes first");
                    break;
                }
                _ => panic!("{message}"),
            }
        }
    }
}

/// An HTTP/1.1 request on a connection of its own: the head of its answer, and the body as it came.
fn ask(address: SocketAddr, request: &str) -> (String, Vec<u8>) {
    let mut socket = connect(address);
    socket.write_all(request.as_bytes()).expect("the server reads");
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).expect("the server closes");
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head") + 4;
    let body = answer.split_off(end);
    (String::from_utf8(answer).expect("a head is text").to_ascii_lowercase(), body)
}

fn gunzipped(bytes: &[u8]) -> String {
    let mut text = String::new();
    flate2::read::GzDecoder::new(bytes).read_to_string(&mut text).expect("gzip of UTF-8");
    text
}

#[test]
fn api_answers_and_pages_are_compressed_for_clients_that_accept_it() {
    let page = "<p>a page of some length</p>".repeat(100);
    let pages = Router::new()
        .route(
            "/page",
            get({
                let page = page.clone();
                async move || axum::response::Html(page)
            }),
        )
        .route("/a-stream", get(async || ([("content-type", "text/event-stream")], "data: x\n\n".repeat(500))));
    let key = fanfare::ApiKey::new("backend", "the-key-of-the-backend").expect("a key");
    for is_on in [true, false] {
        let mut config = config();
        config.compression.http = is_on;
        let server = Server::of(builder(config).api_key(key.clone()).fallback(pages.clone()));
        let api = |command: &str, headers: &str, body: &Value| {
            let (len, body) = (body.to_string().len(), body.to_string());
            ask(
                server.address,
                &format!(
                    "POST /api/v1/{command} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer the-key-of-the-backend\r\n\
                     Content-Type: application/json\r\nContent-Length: {len}\r\nConnection: close\r\n{headers}\r\n{body}"
                ),
            )
        };
        let fetch = |path: &str, method: &str, headers: &str| {
            let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
            ask(server.address, &request)
        };
        api("publish", "", &json!({"channel": "news", "data": story(5000)}));
        let history = json!({"channel": "news"});
        let (_, plain) = api("history", "", &history);
        let (head, packed) = api("history", "Accept-Encoding: br, gzip;q=0.8\r\n", &history);
        assert_eq!(head.contains("content-encoding: gzip\r\n"), is_on, "{head}");
        assert_eq!(head.contains("vary: accept-encoding\r\n"), is_on, "{head}");
        assert!(head.contains(&format!("content-length: {}\r\n", packed.len())), "{head}");
        let text = if is_on { gunzipped(&packed) } else { String::from_utf8(packed).expect("JSON") };
        assert_eq!(text.as_bytes(), plain);

        let (head, packed) = fetch("/page", "GET", "Accept-Encoding: gzip\r\n");
        assert_eq!(head.contains("content-encoding: gzip\r\n"), is_on, "{head}");
        let text = if is_on { gunzipped(&packed) } else { String::from_utf8(packed).expect("text") };
        assert_eq!(text, page);
        for headers in ["", "Accept-Encoding: gzip;q=0\r\n", "Accept-Encoding: br\r\n"] {
            let (head, plain) = fetch("/page", "GET", headers);
            assert!(!head.contains("content-encoding"), "{headers}: {head}");
            assert_eq!(plain, page.as_bytes(), "{headers}");
        }
        let (head, body) = fetch("/page", "HEAD", "Accept-Encoding: gzip\r\n");
        assert_eq!(head.contains("content-encoding: gzip\r\n"), is_on, "{head}");
        assert!(body.is_empty());
        let (head, _) = fetch("/a-stream", "GET", "Accept-Encoding: gzip\r\n");
        assert!(!head.contains("content-encoding"), "{head}");
        let (head, _) = fetch("/healthz", "GET", "Accept-Encoding: gzip\r\n");
        assert!(!head.contains("content-encoding"), "it is short: {head}");
    }
}
