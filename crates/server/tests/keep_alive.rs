//! The times of connections: idle connections are kept for the promised time and no longer, heads must arrive in time
//! whatever came before, and a peer that takes nothing is closed on every transport.

mod support;

use axum::body::{Body, Bytes};
use fanfare::{Address, AdminOn, Config, Fanfare};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::mpsc;
use std::task::{Context, Poll};
use std::time::Duration;
use support::{DEADLINE, Server, config, connect, patient, response, rules, upgrade};

const GET: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_millis(300);

/// Reads to the end, which must come; a reset counts as an end.
fn ends(mut socket: impl std::io::Read) -> Vec<u8> {
    let mut rest = Vec::new();
    match socket.read_to_end(&mut rest) {
        Ok(_) => rest,
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => rest,
        Err(error) => panic!("the connection does not end: {error}"),
    }
}

fn both(config: Config) -> (Server, Vec<SocketAddr>) {
    let admin = AdminOn::Address(Address::Tcp("127.0.0.1:0".parse().expect("an address")));
    let server = Server::of(Fanfare::builder(()).config(config).admin(admin));
    let Some(&Address::Tcp(admin)) = server.running().admin_address() else { panic!("an admin port") };
    let addresses = vec![server.address, admin];
    (server, addresses)
}

#[test]
fn an_idle_connection_is_kept_as_long_as_its_answers_say() {
    let (_server, addresses) = both(Config { http_idle_timeout: Duration::from_secs(1), ..config() });
    for address in addresses {
        let mut socket = connect(address);
        for _ in 0..2 {
            socket.write_all(GET).expect("the server reads");
            let answer = response(&mut socket);
            assert_eq!(answer.header("keep-alive"), Some("timeout=1"), "{}", answer.head);
        }
        assert_eq!(ends(socket), b"", "closed without a word");
        for (request, why) in [
            ("GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: foo, Close\r\n\r\n", "the peer closes"),
            ("GET /healthz HTTP/1.0\r\nHost: a\r\n\r\n", "HTTP/1.0 closes"),
        ] {
            let mut socket = connect(address);
            socket.write_all(request.as_bytes()).expect("the server reads");
            let answer = response(&mut socket);
            assert_eq!(answer.header("keep-alive"), None, "{why}: {}", answer.head);
            assert_eq!(ends(socket), b"", "{why}");
        }
    }
    let default = Config::default();
    assert_eq!((default.http_idle_timeout, default.write_timeout), (Duration::from_secs(75), Duration::from_secs(60)));
}

#[test]
fn the_time_for_a_head_begins_with_its_first_byte() {
    let (_server, addresses) = both(Config { head_timeout: SHORT, http_idle_timeout: LONG, ..config() });
    for address in addresses {
        let mut idle = connect(address);
        idle.write_all(GET).expect("the server reads");
        assert_eq!(response(&mut idle).status(), 200);
        // Waits for the whole time for a head, measured by another connection.
        let mut silent = connect(address);
        silent.write_all(b"GET /").expect("the server reads");
        ends(silent);
        idle.write_all(GET).expect("the connection is there");
        assert_eq!(response(&mut idle).status(), 200, "idleness does not count into it");
        idle.write_all(b"GET /heal").expect("the connection is there");
        ends(idle);
    }
}

#[test]
fn a_head_that_begins_in_the_packet_of_the_request_before_it_is_to_be_in_time() {
    let (_server, addresses) = both(Config { head_timeout: SHORT, http_idle_timeout: LONG, ..config() });
    let rows = [
        ("no body", "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\nGET /heal"),
        ("a body", "GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}GET /heal"),
        ("chunks", "GET /healthz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /heal"),
    ];
    for address in addresses {
        for (name, packet) in rows {
            let mut socket = connect(address);
            socket.write_all(packet.as_bytes()).expect("the server reads");
            assert_eq!(response(&mut socket).status(), 200, "{name}");
            ends(socket);
        }
    }
}

#[test]
fn an_idle_connection_of_http2_is_told_to_go() {
    let close_timeout = Duration::from_millis(500);
    let server =
        Server::of(Fanfare::builder(()).config(Config { http_idle_timeout: SHORT, close_timeout, ..config() }));
    let mut socket = connect(server.address);
    socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").expect("the server reads");
    socket.write_all(&frame(4, 0, 0, &[])).expect("the server reads");
    let said = ends(socket);
    assert!(frame_types(&said).contains(&7), "a GOAWAY among {:?}", frame_types(&said));
}

/// A frame of HTTP/2 (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

fn frame_types(mut bytes: &[u8]) -> Vec<u8> {
    let mut types = Vec::new();
    while bytes.len() >= 9 {
        types.push(bytes[3]);
        let len = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) as usize;
        bytes = bytes.get(9 + len..).unwrap_or_default();
    }
    types
}

/// An endless page, which reports when its body is dropped.
struct Endless(mpsc::Sender<()>);

impl axum::body::HttpBody for Endless {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        Poll::Ready(Some(Ok(http_body::Frame::data(Bytes::from_static(&[b'x'; 64 << 10])))))
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        let _ = self.0.send(()); // the test has failed then
    }
}

#[test]
fn a_peer_that_takes_nothing_of_an_answer_is_closed() {
    let (gone, is_gone) = mpsc::channel();
    let page = move || {
        let body = Body::new(Endless(gone.clone()));
        async move { body }
    };
    let pages = axum::Router::new().route("/", axum::routing::get(page));
    let path = std::env::temp_dir().join(format!("fanfare-keep-alive-{}.sock", std::process::id()));
    let addresses = ["127.0.0.1:0".parse().expect("an address"), Address::Unix(path.clone())];
    let config = Config { write_timeout: SHORT, ..config() };
    let server = Fanfare::builder(()).config(config).fallback(pages).build().expect("good settings");
    let running = server.start(&addresses).expect("it starts");
    let address = running.tcp_address().expect("TCP");
    let wait = |name: &str| is_gone.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("{name}: it is kept for ever"));

    let mut tcp = connect(address);
    tcp.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("the server reads");
    wait("TCP");
    let mut unix = UnixStream::connect(&path).expect("it listens");
    unix.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("the server reads");
    wait("a Unix socket");
    // An HTTP/2 peer that reads all frames, and whose window has no room for a byte of the answer (RFC 9113 §6.9.2).
    let mut http2 = connect(address);
    http2.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").expect("the server reads");
    http2.write_all(&frame(4, 0, 0, &[0, 4, 0, 0, 0, 0])).expect("the server reads");
    // :method GET, :scheme http, :path / by the static table; :authority as a literal.
    http2.write_all(&frame(1, 0x5, 1, &[0x82, 0x86, 0x84, 0x01, 1, b'a'])).expect("the server reads");
    let said = ends(http2);
    assert!(frame_types(&said).contains(&1), "it was answered: {:?}", frame_types(&said));
    wait("HTTP/2 without a window");
    drop((tcp, unix));
    running.drain_blocking().expect("no shard failed");
}

/// The peer takes one of two answers over HTTP/2, and gives no room for the other.
#[test]
fn a_stream_of_http2_that_takes_nothing_is_reset_beside_one_that_does() {
    let (gone, is_gone) = mpsc::channel();
    let page = move || {
        let body = Body::new(Endless(gone.clone()));
        async move { body }
    };
    let whole = async || Body::from(vec![b'x'; 1 << 20]);
    let pages = axum::Router::new().route("/", axum::routing::get(page)).route("/whole", axum::routing::get(whole));
    let config = Config { write_timeout: SHORT, head_timeout: LONG, ..config() };
    let server = Server::of(Fanfare::builder(()).config(config).fallback(pages));
    let mut http2 = connect(server.address);
    let mut send = |bytes: &[u8]| http2.write_all(bytes).expect("the server reads");
    send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    send(&frame(4, 0, 0, &[0, 4, 0, 0, 0, 0])); // no window for a stream
    let get = |path: &str| {
        let mut head = vec![0x82, 0x86, 0x04, path.len() as u8]; // GET http, and a path
        head.extend(path.as_bytes());
        head.extend([0x01, 1, b'a']); // an authority
        head
    };
    let window = |stream: u32, bytes: u32| frame(8, 0, stream, &bytes.to_be_bytes());
    send(&frame(1, 0x5, 1, &get("/")));
    send(&frame(1, 0x5, 3, &get("/")));
    send(&frame(1, 0x5, 5, &get("/whole")));
    send(&window(3, 60_000));
    send(&window(5, 1));
    let (mut reset, begin) = (Vec::new(), std::time::Instant::now());
    while reset.len() < 2 {
        assert!(begin.elapsed() < DEADLINE, "kept for ever, but for {reset:?}");
        let (kind, stream, len) = next_frame(&mut http2);
        match (kind, stream) {
            (3, _) => reset.push(stream),
            (0, 3) => {
                for stream in [0, 3] {
                    http2.write_all(&window(stream, len)).expect("the server reads");
                }
            }
            (0, _) => http2.write_all(&window(0, len.max(1))).expect("the server reads"),
            _ => {}
        }
    }
    reset.sort_unstable();
    assert_eq!(reset, [1, 5]);
    is_gone.recv_timeout(DEADLINE).expect("the page is dropped");
    http2.write_all(&frame(1, 0x5, 7, &get("/healthz"))).expect("the server reads");
    http2.write_all(&window(3, 60_000)).expect("the server reads");
    let (mut goes_on, mut is_answered) = (false, false);
    while !goes_on || !is_answered {
        let (kind, stream, _) = next_frame(&mut http2);
        goes_on |= (kind, stream) == (0, 3);
        is_answered |= (kind, stream) == (1, 7);
    }
}

/// The type of the next frame of HTTP/2, its stream and its length.
fn next_frame(socket: &mut TcpStream) -> (u8, u32, u32) {
    let mut head = [0; 9];
    socket.read_exact(&mut head).expect("a frame");
    let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    socket.read_exact(&mut vec![0; len as usize]).expect("a whole frame");
    (head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), len)
}

#[test]
fn a_websocket_that_takes_nothing_is_closed_although_it_speaks() {
    let path = std::env::temp_dir().join(format!("fanfare-stalled-{}.sock", std::process::id()));
    let addresses = ["127.0.0.1:0".parse().expect("an address"), Address::Unix(path.clone())];
    let config = Config { write_timeout: SHORT, rules: rules(1_000_000), ..config() };
    let server = Fanfare::builder(()).config(config).build().expect("good settings");
    let hub = server.handle();
    let running = server.start(&addresses).expect("it starts");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let address = running.tcp_address().expect("TCP");
    let subscribe = |socket: &mut dyn ReadWrite| {
        socket.write_all(&upgrade(address, "/v1/ws", &["fanfare.v1"], &[])).expect("the server reads");
        let mut said = Vec::new();
        while !said.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).expect("the server answers");
            said.push(byte[0]);
        }
        let connect = br#"{"type":"connect","id":1,"subscribe":[{"channel":"a"}]}"#;
        socket.write_all(&support::frame(fanfare_wire::websocket::Opcode::Text, connect)).expect("the server reads");
        while !said.ends_with(b"}") || !String::from_utf8_lossy(&said).contains("subscribed") {
            let mut byte = [0];
            socket.read_exact(&mut byte).expect("the server answers");
            said.push(byte[0]);
        }
    };
    let mut tcp = connect(address);
    let mut unix = patient_unix(UnixStream::connect(&path).expect("it listens"));
    let sockets: [(&str, &mut dyn ReadWrite); 2] = [("TCP", &mut tcp), ("a Unix socket", &mut unix)];
    for (name, socket) in sockets {
        subscribe(socket);
        let data = "x".repeat(60 << 10);
        let pong = support::frame(fanfare_wire::websocket::Opcode::Text, br#"{"type":"pong"}"#);
        let deadline = std::time::Instant::now() + DEADLINE;
        runtime.block_on(async {
            while hub.info().await.expect("it runs").connected > 0 {
                assert!(std::time::Instant::now() < deadline, "{name}: it is kept for ever");
                let _ = hub.publish("a", &data).await.expect("it runs");
                let _ = socket.write_all(&pong); // until it is closed
            }
        });
    }
    running.drain_blocking().expect("no shard failed");
}

trait ReadWrite: std::io::Read + std::io::Write {}
impl ReadWrite for TcpStream {}
impl ReadWrite for UnixStream {}

fn patient_unix(socket: UnixStream) -> UnixStream {
    socket.set_read_timeout(Some(DEADLINE)).expect("a socket takes a timeout");
    socket.set_write_timeout(Some(DEADLINE)).expect("a socket takes a timeout");
    socket
}

/// These answers are so small that the kernel takes them whole for a peer that never reads: the idle time ends the
/// connections.
#[test]
fn readers_of_small_answers_that_never_read_do_not_stay() {
    let server = Server::of(Fanfare::builder(()).config(Config { http_idle_timeout: SHORT, ..config() }));
    let sockets: Vec<TcpStream> = (0..50)
        .map(|_| {
            let mut socket = patient(TcpStream::connect(server.address).expect("it listens"));
            socket.write_all(GET).expect("the server reads");
            socket
        })
        .collect();
    for socket in sockets {
        assert!(ends(socket).starts_with(b"HTTP/1.1 200 "));
    }
}
