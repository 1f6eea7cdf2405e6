//! TLS by the server itself: every protocol that it speaks, over sockets that read slowly or speak something else, and
//! a certificate that changes under open connections.

mod support;

use fanfare::{Address, AdminOn, Builder, Config, Echo, Fanfare, RequestInfo, Tls};
use fanfare_client::{Data, Trust};
use fanfare_wire::websocket::{Decoder, Event, Limits, MaskSource, Opcode, Role, put_frame};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use support::scrape::scrape;
use support::{Server, config, connect, patient, upgrade};

/// A certificate for `localhost` that signs itself, as the server and as a client take it.
struct Pair {
    tls: Tls,
    pem: String,
}

fn pair() -> Pair {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let (pem, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    Pair { tls: Tls::from_pem(pem.as_bytes(), key.as_bytes()).expect("a pair"), pem }
}

fn server(config: Config, pair: &Pair) -> Server {
    Server::of(builder(config, pair))
}

fn builder(config: Config, pair: &Pair) -> Builder {
    let page = axum::Router::new().route("/page", axum::routing::get(async || "a page\n"));
    let config = Config { tls: Some(pair.tls.clone()), ..config };
    Fanfare::builder(()).config(config).protocol("/echo", Echo::default()).fallback(page)
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

fn client(pem: &str, alpn: &[&str]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM")).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut client = builder.expect("versions").with_root_certificates(roots).with_no_client_auth();
    client.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(client)
}

fn secure(address: SocketAddr, client: Arc<ClientConfig>) -> Stream {
    let name = ServerName::try_from("localhost").expect("a name");
    StreamOwned::new(ClientConnection::new(client, name).expect("a client"), connect(address))
}

/// A WebSocket at `/echo` over TLS, upgraded on a fresh connection.
fn echo(stream: &mut Stream, address: SocketAddr) {
    stream.write_all(&upgrade(address, "/echo", &[], &[])).expect("the server reads");
    assert!(head(stream).starts_with("HTTP/1.1 101 "));
}

fn head(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream
            .read_exact(&mut byte)
            .unwrap_or_else(|error| panic!("{error} after {:?}", String::from_utf8_lossy(&head)));
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("text")
}

fn send(stream: &mut impl Write, payload: &[u8]) {
    let mut frame = Vec::new();
    put_frame(&mut frame, Opcode::Binary, payload, Some(MaskSource::new(5).next_mask()));
    stream.write_all(&frame).expect("the server reads");
}

/// The next message of a WebSocket.
fn message(stream: &mut impl Read) -> Vec<u8> {
    let mut decoder = Decoder::new(Role::Client, Limits { message_bytes_max: 64 << 20 });
    loop {
        let mut byte = [0; 1];
        stream.read_exact(&mut byte).expect("a frame");
        let mut rest = &mut byte[..];
        if let Some(Event::Binary(data)) = decoder.decode(&mut rest).expect("a frame") {
            return data.to_vec();
        }
    }
}

#[test]
fn websockets_pages_and_later_upgrades_work_over_tls() {
    let pair = pair();
    let server = server(config(), &pair);
    let mut stream = secure(server.address, client(&pair.pem, &["http/1.1"]));
    stream.write_all(b"GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("the server reads");
    assert!(head(&mut stream).starts_with("HTTP/1.1 200 "));
    let mut body = [0; 7];
    stream.read_exact(&mut body).expect("a body");
    assert_eq!(&body, b"a page\n");
    // The same connection becomes a WebSocket: hyper gives the socket back, with its session.
    echo(&mut stream, server.address);
    for size in [0, 1, 16 << 10, 60_000] {
        send(&mut stream, &vec![b'x'; size]);
        assert_eq!(message(&mut stream).len(), size);
    }
}

/// RFC 6797 §7.2: over TLS alone. The pages of the program are its own.
#[test]
fn browsers_are_told_to_come_over_tls_alone_where_the_option_is_set() {
    let pair = pair();
    for seconds in [0, 3600] {
        let server = server(Config { hsts: std::time::Duration::from_secs(seconds), ..config() }, &pair);
        let told = (seconds > 0).then(|| format!("\r\nstrict-transport-security: max-age={seconds}\r\n"));
        let targets = [
            ("/healthz", true),
            ("/nothing", true),
            ("/events", true),
            ("/v1/sse", true),
            ("/v1/address", true),
            ("/page", false),
        ];
        for (target, is_own) in targets {
            let mut stream = secure(server.address, client(&pair.pem, &["http/1.1"]));
            let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            stream.write_all(request.as_bytes()).expect("the server reads");
            let head = head(&mut stream).to_ascii_lowercase();
            match told.as_ref().filter(|_| is_own) {
                Some(told) => assert!(head.contains(told), "{target}: {head}"),
                None => assert!(!head.contains("strict-transport"), "{target}: {head}"),
            }
        }
    }
    // Of WebSockets too, granted and refused, on either parser.
    let server = server(Config { hsts: std::time::Duration::from_secs(60), ..config() }, &pair);
    for (path, status) in [("/echo", "101"), ("/nothing", "404")] {
        for is_first in [true, false] {
            let mut stream = secure(server.address, client(&pair.pem, &["http/1.1"]));
            if !is_first {
                stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("the server reads");
                let length = head(&mut stream).to_ascii_lowercase();
                let length = length.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
                let mut body = vec![0; length.and_then(|length| length.parse().ok()).expect("a length")];
                stream.read_exact(&mut body).expect("a body");
            }
            stream.write_all(&upgrade(server.address, path, &[], &[])).expect("the server reads");
            let head = head(&mut stream).to_ascii_lowercase();
            assert!(head.starts_with(&format!("http/1.1 {status} ")), "{path}: {head}");
            assert_eq!(head.matches("\r\nstrict-transport-security: max-age=60\r\n").count(), 1, "{path}: {head}");
        }
    }
    let plain =
        Server::of(Fanfare::builder(()).config(Config { hsts: std::time::Duration::from_secs(60), ..config() }));
    let mut socket = connect(plain.address);
    socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("the server reads");
    assert!(!support::head(&mut socket).to_ascii_lowercase().contains("strict-transport"));
}

/// Bytes behind the head in its packet do not stay in the session.
#[test]
fn bytes_that_come_with_the_head_are_read() {
    let pair = pair();
    let server = server(config(), &pair);
    let mut stream = secure(server.address, client(&pair.pem, &[]));
    let mut first = upgrade(server.address, "/echo", &[], &[]);
    put_frame(&mut first, Opcode::Binary, b"early", Some(MaskSource::new(5).next_mask()));
    stream.write_all(&first).expect("the server reads");
    assert!(head(&mut stream).starts_with("HTTP/1.1 101 "));
    assert_eq!(message(&mut stream), b"early");
}

#[test]
fn http2_is_spoken_where_alpn_chooses_it() {
    let pair = pair();
    let server = server(config(), &pair);
    let mut stream = secure(server.address, client(&pair.pem, &["h2", "http/1.1"]));
    // The preface, and empty SETTINGS (RFC 9113 §3.4, §6.5).
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").expect("the server reads");
    let mut frame = [0; 9];
    stream.read_exact(&mut frame).expect("a frame");
    assert_eq!(frame[3], 4, "the server's SETTINGS come first: {frame:?}");
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"h2"[..]));
}

#[test]
fn polls_and_sends_work_over_tls() {
    let pair = pair();
    let server = Server::of(builder(config(), &pair).protocol("/v1/ws", fanfare::Native::default()));
    let mut stream = secure(server.address, client(&pair.pem, &["http/1.1"]));
    let mut post = |path: &str, body: &str| {
        let len = body.len();
        let request = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).expect("the server reads");
        let head = head(&mut stream).to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        let len = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
        let mut body = vec![0; len.parse().expect("a number")];
        stream.read_exact(&mut body).expect("a body");
        serde_json::from_slice::<serde_json::Value>(&body).expect("JSON")
    };
    let connected = post("/v1/poll", r#"{"type":"connect","id":1}"#);
    let ticket = &connected["messages"][0]["ticket"];
    let send = r#""n":1,"commands":[{"type":"signal","id":2,"channel":"a","event":"e"}]"#;
    let sent = post("/v1/send", &format!(r#"{{"ticket":{ticket},{send}}}"#));
    assert_eq!(sent["replies"][0]["id"], 2, "{sent}");
    assert_eq!(post("/v1/poll", &format!(r#"{{"ticket":{ticket},"ack":1,"wait":1}}"#))["n"], 1);
}

/// On the raw socket, and where hyper writes the body: behind another request.
#[test]
fn streams_work_over_tls() {
    let pair = pair();
    let server = Server::of(builder(config(), &pair).protocol("/v1/ws", fanfare::Native::default()));
    let post = |stream: &mut Stream, path: &str, body: &str| {
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(format!("{head}{body}").as_bytes()).expect("the server reads");
        assert!(self::head(stream).starts_with("HTTP/1.1 200 "), "{path}");
    };
    let until = |stream: &mut Stream, end: &str| {
        let mut seen = String::new();
        while !seen.ends_with(end) {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap_or_else(|error| panic!("{error} after {seen:?}"));
            seen.push(char::from(byte[0]));
        }
        seen
    };
    for (path, is_first) in [("/v1/sse", false), ("/v1/stream", false), ("/v1/sse", true), ("/v1/stream", true)] {
        let mut stream = secure(server.address, client(&pair.pem, &["http/1.1"]));
        if !is_first {
            stream.write_all(b"GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("the server reads");
            until(&mut stream, "a page\n");
        }
        match is_first {
            true => {
                let get = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
                stream.write_all(get.as_bytes()).expect("the server reads");
                assert!(self::head(&mut stream).starts_with("HTTP/1.1 200 "), "{path}");
            }
            false => post(&mut stream, path, r#"{"type":"connect","id":1}"#),
        }
        let seen = until(&mut stream, "\"limits\"");
        let (_, ticket) = seen.split_once(r#""ticket":""#).expect("a ticket");
        let ticket = ticket.split('"').next().expect("its end");
        let mut sends = secure(server.address, client(&pair.pem, &["http/1.1"]));
        let commands =
            r#"[{"type":"subscribe","id":2,"channel":"a"},{"type":"publish","id":3,"channel":"a","data":"over TLS"}]"#;
        post(&mut sends, "/v1/send", &format!(r#"{{"ticket":"{ticket}","n":1,"commands":{commands}}}"#));
        until(&mut stream, r#""data":"over TLS""#);
    }
}

/// Much more than the kernel and the session hold: records that wait in the session are written when the socket
/// takes them.
#[test]
fn a_slow_reader_gets_everything() {
    const COUNT: usize = 6;
    let pair = pair();
    // The smallest buffers on both sides: the server's socket is full until the last byte.
    let small = |socket: &socket2::Socket| {
        socket.set_send_buffer_size(16 << 10).and_then(|()| socket.set_recv_buffer_size(16 << 10)).expect("an option");
    };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let listener = socket2::Socket::from(listener);
    small(&listener);
    let server = builder(config(), &pair).build().expect("good settings");
    let _running = server.start_on([TcpListener::from(listener)]).expect("a listener");
    // Whether bytes are left behind depends on the moment: several tries.
    for _ in 0..4 {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        small(&socket);
        socket.connect(&address.into()).expect("the server listens");
        let name = ServerName::try_from("localhost").expect("a name");
        let session = ClientConnection::new(client(&pair.pem, &[]), name).expect("a client");
        let mut stream = StreamOwned::new(session, patient(socket.into()));
        echo(&mut stream, address);
        let mut writer = stream.sock.try_clone().expect("a descriptor");
        let payload = vec![b'x'; 60_000];
        // Records are made here and written by a thread of their own: the server stops reading while its answers wait.
        for _ in 0..COUNT {
            let mut frame = Vec::new();
            put_frame(&mut frame, Opcode::Binary, &payload, Some(MaskSource::new(5).next_mask()));
            stream.conn.set_buffer_limit(None);
            stream.conn.writer().write_all(&frame).expect("room");
        }
        let mut records = Vec::new();
        while stream.conn.wants_write() {
            stream.conn.write_tls(&mut records).expect("a vector takes all");
        }
        let writing = std::thread::spawn(move || writer.write_all(&records).expect("the server reads on"));
        let mut received = 0;
        let mut decoder = Decoder::new(Role::Client, Limits { message_bytes_max: 1 << 20 });
        let mut buffer = vec![0; 4 << 10];
        while received < COUNT {
            let count = stream.read(&mut buffer).expect("more");
            let mut rest = &mut buffer[..count];
            while let Some(event) = decoder.decode(&mut rest).expect("a frame") {
                // A ping, half a minute later, would take bytes along that were left behind.
                let Event::Binary(data) = event else { panic!("no answer: {event:?}") };
                assert_eq!(data.len(), payload.len());
                received += 1;
            }
        }
        writing.join().expect("it was written");
    }
}

#[test]
fn a_peer_that_speaks_no_tls_is_told_so_or_closed() {
    let pair = pair();
    let server = server(config(), &pair);
    let mut plain = connect(server.address);
    plain.write_all(b"GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("the server reads");
    let mut answer = String::new();
    plain.read_to_string(&mut answer).expect("an end");
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("this port speaks TLS"), "{answer}");
    // A handshake that is none: an alert, and an end.
    let mut broken = connect(server.address);
    broken.write_all(&[22, 3, 1, 0, 5, 1, 0, 0, 1, 0]).expect("the server reads");
    let mut alert = Vec::new();
    match broken.read_to_end(&mut alert) {
        Ok(_) => assert_eq!(alert.first(), Some(&21), "{alert:?}"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    // Half a handshake, and an end.
    let half = connect(server.address);
    half.shutdown(Shutdown::Write).expect("ours to end");
    assert_eq!((&half).read(&mut [0]).expect("an end"), 0);
}

#[test]
fn a_handshake_has_the_time_of_a_head() {
    let pair = pair();
    let server = server(Config { head_timeout: std::time::Duration::from_millis(50), ..config() }, &pair);
    let mut silent = connect(server.address);
    assert_eq!(silent.read(&mut [0]).expect("an end"), 0);
    let mut slow = connect(server.address);
    slow.write_all(&[22, 3, 1]).expect("the server reads");
    assert_eq!(slow.read(&mut [0]).expect("an end"), 0);
}

#[test]
fn a_renewed_certificate_is_for_new_connections_and_open_ones_go_on() {
    let (first, second) = (pair(), pair());
    let server = server(config(), &first);
    let mut open = secure(server.address, client(&first.pem, &[]));
    echo(&mut open, server.address);
    server.running().reload_tls(&second.tls);
    let mut refused = secure(server.address, client(&first.pem, &[]));
    let error = refused.write_all(b"GET /page HTTP/1.1\r\n\r\n").and_then(|()| refused.flush()).expect_err("another");
    assert!(error.to_string().contains("certificate"), "{error}");
    let mut new = secure(server.address, client(&second.pem, &[]));
    echo(&mut new, server.address);
    send(&mut open, b"still here");
    assert_eq!(message(&mut open), b"still here");
}

#[test]
fn the_metrics_tell_when_the_certificate_in_use_expires() {
    let until = |year: i32| {
        let mut made = rcgen::CertificateParams::new(["localhost".to_owned()]).expect("a name");
        made.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = rcgen::KeyPair::generate().expect("a key");
        let pem = made.self_signed(&key).expect("a certificate").pem();
        Tls::from_pem(pem.as_bytes(), key.serialize_pem().as_bytes()).expect("a pair")
    };
    let expires = |tls: Option<Tls>, renewed: Option<Tls>| {
        let admin = AdminOn::Address("127.0.0.1:0".parse().expect("an address"));
        let server = Server::of(Fanfare::builder(()).config(Config { tls, ..config() }).admin(admin));
        renewed.iter().for_each(|tls| server.running().reload_tls(tls));
        let Some(&Address::Tcp(admin)) = server.running().admin_address() else { panic!("an admin port") };
        scrape(admin).0.get("fanfare_tls_certificate_expires_seconds").copied()
    };
    assert_eq!(expires(None, None), None);
    assert_eq!(expires(Some(until(2030)), None), Some(1_893_456_000.0));
    assert_eq!(expires(Some(until(2030)), Some(until(2031))), Some(1_924_992_000.0));
}

/// The Rust client, which checks certificates: publications, a cut, and what a handler sees of the request.
#[tokio::test]
async fn clients_publish_and_receive_over_tls_and_handlers_see_the_scheme() {
    let pair = pair();
    let scheme = async |request: Arc<RequestInfo>| fanfare::Json(request.scheme.to_string());
    let server = Server::of(builder(config(), &pair).rpc("scheme", scheme));
    let url = format!("wss://localhost:{}", server.address.port());
    let trust = || Trust::only_pem(pair.pem.as_bytes()).expect("a certificate");
    let connect = async || fanfare_client::Client::builder(url.clone()).trust(trust()).connect().await.expect("TLS");
    let (ada, bob) = (connect().await, connect().await);
    let mut chat = bob.subscribe("chat").await.expect("an open rule");
    for n in 0..50 {
        ada.publish("chat", &n).await.expect("it is open");
    }
    let mut expected = 0;
    while expected < 50 {
        let event = tokio::time::timeout(support::DEADLINE, chat.next()).await.expect("an event").expect("it goes on");
        if let fanfare_client::core::Event::Message { publication, .. } = event {
            let Data::Json(data) = &publication.data else { panic!("JSON was published") };
            assert_eq!(&data[..], expected.to_string().as_bytes());
            expected += 1;
        }
    }
    let scheme: String = ada.rpc("scheme", &()).await.expect("an answer");
    assert_eq!(scheme, "https");
    for &transport in fanfare_client::Transport::ALL {
        let builder = fanfare_client::Client::builder(url.clone()).trust(trust()).transport(transport);
        let client = builder.connect().await.expect("TLS");
        let scheme: String = client.rpc("scheme", &()).await.expect("an answer");
        assert_eq!(scheme, "https", "{transport:?}");
    }
}
