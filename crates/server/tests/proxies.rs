//! Behind proxies: the client's address and scheme as handlers, pages and limits see them, by headers and by the PROXY
//! protocol, and everything below a path.

mod support;

use axum::extract::{ConnectInfo, OriginalUri};
use fanfare::{Address, AdminOn, ApiKey, Builder, Config, Echo, Fanfare, Identity, RequestInfo, Running, TrustedProxy};
use fanfare_wire::native::PROTOCOL;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, OnceLock};
use support::scrape::Scraped;
use support::stream::{Stream, WAYS};
use support::{Client, Frame, Response, Server, config, connect, patient, response, upgrade};

fn trusting(proxies: &[&str]) -> Config {
    let trusted_proxies: Vec<TrustedProxy> = proxies.iter().map(|proxy| proxy.parse().expect("a proxy")).collect();
    Config { trusted_proxies, admin: AdminOn::MainPort, ..config() }
}

/// Users are called as the handler sees their requests, and a page says who asks.
fn builder(config: Config) -> Builder {
    let page = async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.to_string();
    let target = async |uri: Option<axum::Extension<OriginalUri>>, here: axum::http::Uri| {
        format!("{here} {}", uri.map_or_else(|| "none".to_owned(), |axum::Extension(OriginalUri(uri))| uri.to_string()))
    };
    let pages = axum::Router::new().route("/peer", axum::routing::get(page)).route("/", axum::routing::get(target));
    Fanfare::builder(())
        .config(config)
        .api_key(ApiKey::new("test", "sixteen-characters").expect("a key"))
        .protocol("/echo", Echo::default())
        .protocol(support::native::PATH, support::native::patient())
        .on_connect(async |request: Arc<RequestInfo>| {
            Identity::user(format!("{} {} {}", request.peer, request.scheme, request.uri.path()))
        })
        .fallback(pages)
}

/// Handlers run on it, and the clients block.
fn runtime() -> tokio::runtime::EnterGuard<'static> {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| tokio::runtime::Runtime::new().expect("a runtime")).enter()
}

fn server(config: Config) -> Server {
    let _runtime = runtime();
    Server::of(builder(config))
}

/// Opens a native WebSocket on a socket, and returns its client with the user's name.
fn user(mut socket: TcpStream, address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> (Client, String) {
    socket.write_all(&upgrade(address, path, &[PROTOCOL], headers)).expect("the server reads");
    let answer = response(&mut socket);
    assert_eq!(answer.status(), 101, "{}{}", answer.head, answer.body);
    let mut client = Client::of(socket);
    let user = client.hello(serde_json::json!({}))["user"].as_str().expect("a user").to_owned();
    (client, user)
}

fn get(mut socket: TcpStream, path: &str, headers: &str) -> Response {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
    socket.write_all(request.as_bytes()).expect("the server reads");
    response(&mut socket)
}

/// A connection that has had a request already.
fn kept_alive(address: SocketAddr) -> TcpStream {
    let mut socket = connect(address);
    socket
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n")
        .expect("the server reads");
    assert_eq!(response(&mut socket).status(), 200);
    socket
}

const TOLD: [(&str, &str); 3] =
    [("X-Forwarded-For", "6.6.6.6, 192.0.2.1"), ("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "evil.example")];

#[test]
fn a_trusted_proxy_tells_the_client_and_nobody_else_does() {
    let (trusting, other, nobody) =
        (server(trusting(&["loopback"])), server(trusting(&["10.0.0.0/8", "unix"])), server(trusting(&[])));
    let told: String = TOLD.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    for later in [false, true] {
        let socket = |server: &Server| if later { kept_alive(server.address) } else { connect(server.address) };
        let (_client, seen) = user(socket(&trusting), trusting.address, "/v1/ws", &TOLD);
        assert_eq!(seen, "192.0.2.1:0 https /v1/ws", "later: {later}");
        assert_eq!(get(socket(&trusting), "/peer", &told).body, "192.0.2.1:0", "later: {later}");
        for server in [&other, &nobody] {
            let own = socket(server);
            let here = own.local_addr().expect("bound");
            let (_client, seen) = user(own, server.address, "/v1/ws", &TOLD);
            assert_eq!(seen, format!("{here} http /v1/ws"), "later: {later}");
            let own = socket(server);
            let here = own.local_addr().expect("bound");
            assert_eq!(get(own, "/peer", &told).body, here.to_string(), "later: {later}");
        }
    }
    // Each request of a connection names its own client.
    let mut socket = connect(trusting.address);
    for client in ["192.0.2.1", "192.0.2.2"] {
        let request = format!("GET /peer HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {client}\r\n\r\n");
        socket.write_all(request.as_bytes()).expect("the server reads");
        assert_eq!(response(&mut socket).body, format!("{client}:0"));
    }
}

#[test]
fn a_client_is_told_by_which_address_it_is_known() {
    let told = "X-Forwarded-For: 6.6.6.6, 192.0.2.1\r\n";
    let rows: [(&[&str], &str, &str, bool); 4] = [
        (&[], told, "127.0.0.1", false),
        (&["10.0.0.0/8"], told, "127.0.0.1", false),
        (&["loopback"], "", "127.0.0.1", true),
        (&["loopback"], told, "192.0.2.1", false),
    ];
    for (trusted, headers, address, trusted_proxy) in rows {
        let server = server(trusting(trusted));
        for socket in [connect(server.address), kept_alive(server.address)] {
            let answer = get(socket, "/v1/address", headers);
            let body: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
            let expected = serde_json::json!({"address": address, "trusted_proxy": trusted_proxy});
            assert_eq!((answer.status(), body), (200, expected), "{trusted:?} {headers}");
            assert_eq!(answer.header("cache-control"), Some("no-store"));
        }
    }
    let server = server(Config { base_path: "/live".parse().expect("a path"), ..trusting(&[]) });
    assert_eq!(get(connect(server.address), "/live/v1/address", "").status(), 200);
    assert_eq!(get(connect(server.address), "/v1/address", "").status(), 404);
    let mut socket = connect(server.address);
    socket.write_all(b"PUT /live/v1/address HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").expect("written");
    let answer = response(&mut socket);
    assert_eq!((answer.status(), answer.header("allow")), (405, Some("GET, HEAD, OPTIONS")));
}

/// Over a Unix socket, and within another server, the same rules hold.
#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_proxy_speaks_over_unix_sockets_and_to_another_server() {
    let path = std::env::temp_dir().join(format!("fanfare-proxies-{}.sock", std::process::id()));
    let running = builder(trusting(&["unix"])).build().expect("valid").start(&[Address::Unix(path.clone())]);
    let _running = running.expect("it starts");
    let (service, _shards) =
        builder(trusting(&["loopback"])).build().expect("valid").into_service().expect("it starts");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let app = axum::Router::new().fallback_service(service);
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    let serving = tokio::spawn(axum::serve(listener, app).into_future());
    let clients = tokio::task::spawn_blocking(move || {
        let mut socket = UnixStream::connect(&path).expect("it accepts");
        let request = "GET /peer HTTP/1.1\r\nHost: x\r\nConnection: close\r\nForwarded: for=192.0.2.1\r\n\r\n";
        socket.write_all(request.as_bytes()).expect("the server reads");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("an answer");
        assert!(answer.ends_with("192.0.2.1:0"), "{answer}");

        let (_client, seen) = user(connect(address), address, "/v1/ws", &TOLD);
        assert_eq!(seen, "192.0.2.1:0 https /v1/ws");
        assert_eq!(get(connect(address), "/peer", "Forwarded: for=192.0.2.1\r\n").body, "192.0.2.1:0");
    });
    clients.await.expect("the clients are content");
    serving.abort();
}

/// `limits.connections_per_address_max` is of clients: the proxy that carries them all is not one.
#[test]
fn connections_of_a_proxy_count_for_their_clients() {
    let server = server(Config { connections_per_address_max: 2, ..trusting(&["loopback"]) });
    let from = |client: &str| format!("X-Forwarded-For: {client}\r\n");
    let echo = |client: &str, later: bool| {
        let mut socket = if later { kept_alive(server.address) } else { connect(server.address) };
        socket.write_all(&upgrade(server.address, "/echo", &[], &[("X-Forwarded-For", client)])).expect("it reads");
        assert_eq!(response(&mut socket).status(), 101);
        Client::of(socket)
    };
    // A connection is counted behind its answer: the echo shows that it is.
    let counted = |mut client: Client| {
        client.text("counted");
        assert_eq!(client.next(), Frame::Text("counted".to_owned()));
        client
    };
    // Many connections of the proxy carry requests: none of them counts.
    let mut idle: Vec<TcpStream> = (0..5).map(|_| kept_alive(server.address)).collect();
    let mut held = Vec::new();
    for client in ["192.0.2.1", "192.0.2.2"] {
        held.extend([counted(echo(client, false)), counted(echo(client, true))]);
        let mut over = echo(client, true);
        assert_eq!(over.next(), Frame::Close(Some(4004), "overloaded".to_owned()), "a third one of {client}");
        assert_eq!(echo(client, false).closed(), Some(4004));
    }
    // Streams count too, on whatever connection.
    for way in WAYS {
        let client = format!("192.0.2.{}", 10 + way as u8);
        let streams = [(); 2].map(|()| Stream::by(way, server.address, "/v1/sse", &from(&client)));
        assert!(streams.iter().all(|stream| stream.status() == 200), "{way:?}");
        let mut over = Stream::by(way, server.address, "/v1/sse", &from(&client));
        assert!(over.rest().contains("overloaded"), "{way:?}: a third stream is asked to come back");
    }
    // A proxy that does not say for whom it speaks has connections of its own.
    let own: Vec<Client> = (0..2).map(|_| counted(Client::open(server.address, "/echo"))).collect();
    assert_eq!(Client::open(server.address, "/echo").closed(), Some(4004));
    drop((own, held));
    assert_eq!(get(idle.pop().expect("one"), "/peer", &from("192.0.2.1")).body, "192.0.2.1:0");
}

/// A server whose only address expects a header of the PROXY protocol.
fn proxied(config: Config) -> Running {
    let address: Address = "127.0.0.1:0".parse().expect("an address");
    let config = Config { proxy_protocol: vec![address.clone()], ..config };
    let _runtime = runtime();
    builder(config).build().expect("valid").start(&[address]).expect("it starts")
}

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// `LOCAL`, and a client of IPv4 with a TLV behind its addresses.
const LOCAL: [u8; 4] = [0x20, 0, 0, 0];
const CLIENT: [u8; 20] = [0x21, 0x11, 0, 16, 192, 0, 2, 1, 198, 51, 100, 1, 0xDC, 4, 1, 0xBB, 4, 0, 1, 0];

#[test]
fn a_proxy_header_tells_the_client_before_http() {
    let running = proxied(Config { connections_per_address_max: 3, ..trusting(&["loopback"]) });
    let address = running.tcp_address().expect("TCP");
    let four = b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n".to_vec();
    let six = b"PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n".to_vec();
    let two = [SIGNATURE, &CLIENT].concat();
    let unknown = b"PROXY UNKNOWN\r\n".to_vec();
    // The client's own headers are not believed.
    for (header, expected) in
        [(&four, "192.0.2.1:56324"), (&six, "[2001:db8::1]:56324"), (&two, "192.0.2.1:56324"), (&unknown, "unknown")]
    {
        let mut socket = connect(address);
        socket.write_all(header).expect("the server reads");
        let (_client, seen) = user(socket, address, "/v1/ws", &TOLD);
        assert_eq!(seen, format!("{expected} http /v1/ws"));
        if *expected != *"unknown" {
            let mut socket = connect(address);
            // With the request in the same write, and a second request behind it.
            let request = b"GET /peer HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n";
            socket.write_all(&[&header[..], request, request].concat()).expect("the server reads");
            assert_eq!(response(&mut socket).body, expected);
            assert_eq!(response(&mut socket).body, expected);
        }
    }
    // In pieces, of one byte each.
    for header in [&four, &two] {
        let mut socket = connect(address);
        for byte in header {
            socket.write_all(&[*byte]).expect("the server reads");
        }
        assert_eq!(get(socket, "/peer", "").body, "192.0.2.1:56324");
    }
    // The proxy's own connection: it speaks for itself, and may forward.
    let mut socket = connect(address);
    socket.write_all(&[SIGNATURE, &LOCAL].concat()).expect("the server reads");
    assert_eq!(get(socket, "/peer", "X-Forwarded-For: 192.0.2.7\r\n").body, "192.0.2.7:0");
    // The limit is of the client that the header names.
    let open = |header: &[u8]| {
        let mut socket = connect(address);
        socket.write_all(header).expect("the server reads");
        Client::upgraded(socket, address, "/echo", b"")
    };
    let of_one = b"PROXY TCP4 192.0.2.200 198.51.100.1 1 443\r\n";
    let held = [(); 3].map(|()| open(of_one));
    assert_eq!(open(of_one).closed(), Some(4004));
    let mut other = open(b"PROXY TCP4 192.0.2.201 198.51.100.1 1 443\r\n");
    other.text("hello");
    assert_eq!(other.next(), Frame::Text("hello".to_owned()));
    drop(held);
}

#[test]
fn a_connection_without_its_proxy_header_is_closed_and_counted() {
    let running = proxied(trusting(&["loopback"]));
    let address = running.tcp_address().expect("TCP");
    let rows: [&[u8]; 7] = [
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"PROXY TCP4 192.0.2.1\r\n",
        b"PROXY TCP5 192.0.2.1 198.51.100.1 56324 443\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x11\x11\0\x0C",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xFF\xFF",
        b"", // and the end
    ];
    for bytes in rows {
        let mut socket = connect(address);
        socket.write_all(bytes).expect("the server reads");
        if bytes.is_empty() {
            socket.shutdown(std::net::Shutdown::Write).expect("ours to end");
        }
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer); // a reset is an end too
        assert!(answer.is_empty(), "{bytes:?}: {:?}", String::from_utf8_lossy(&answer));
    }
    let scraped = |address| {
        let mut socket = connect(address);
        socket.write_all(&[SIGNATURE, &LOCAL].concat()).expect("the server reads");
        Scraped::parse(&get(socket, "/metrics", "").body)
    };
    let counts = scraped(address);
    assert_eq!(counts.get("fanfare_proxy_headers_total{result=\"failed\"}"), 7.0);
    assert_eq!(counts.get("fanfare_proxy_headers_total{result=\"done\"}"), 1.0);

    // From somebody else a good header is worth nothing.
    let other = proxied(trusting(&["10.0.0.0/8"]));
    let mut socket = connect(other.tcp_address().expect("TCP"));
    let _ =
        socket.write_all(b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    assert!(answer.is_empty(), "{:?}", String::from_utf8_lossy(&answer));
}

#[test]
fn everything_is_below_the_base_path() {
    let server = server(Config { base_path: "/realtime".parse().expect("a path"), ..trusting(&[]) });
    let here = |socket: &TcpStream| socket.local_addr().expect("bound");
    for later in [false, true] {
        let socket = || if later { kept_alive(server.address) } else { connect(server.address) };
        let own = socket();
        let peer = here(&own);
        let (_client, seen) = user(own, server.address, "/realtime/v1/ws", &[]);
        assert_eq!(seen, format!("{peer} http /realtime/v1/ws"), "handlers see the target as it was sent");
        let refused = |path: &str| {
            let mut socket = socket();
            socket.write_all(&upgrade(server.address, path, &[PROTOCOL], &[])).expect("the server reads");
            response(&mut socket).status()
        };
        for path in ["/v1/ws", "/realtimes/v1/ws", "/realtime/realtime/v1/ws", "/", "/realtime"] {
            assert_eq!(refused(path), 404, "{path}, later: {later}");
        }
        let get = |path: &str| get(socket(), path, "Accept: application/json\r\n");
        #[rustfmt::skip]
        let rows = [
            ("/healthz", 200), ("/healthz/", 200), ("/realtime/healthz", 200), ("/realtime/metrics", 200),
            ("/metrics", 404), ("/readyz", 404), ("/realtime/readyz", 200), ("/realtime/v1/ws", 426), ("/v1/ws", 404),
            ("/peer", 404), ("/realtime/peer", 200), ("/realtime", 200), ("/realtime/", 200), ("/", 404),
            ("/realtime/events?recent=x", 400), ("/events?recent=x", 404), ("/v1/sse?connect=x", 404),
            ("/realtime/v1/poll", 405), ("/v1/poll", 404), ("/realtime/api/openapi.json", 200), ("/api/openapi.json", 404), ("/realtime/api/v1/publish", 405),
            ("/api/v1/publish", 404), ("/realtime/nothing", 404),
        ];
        for (path, status) in rows {
            let answer = get(path);
            assert_eq!(answer.status(), status, "{path}, later: {later}: {}{}", answer.head, answer.body);
        }
        // Answers name the path as it was sent.
        let named =
            ["/nothing", "/v1/ws", "/v1/poll", "/events", "/api/v1/publish", "/api/v1/nothing", "/api/openapi.json"];
        for path in named.map(|path| format!("/realtime{path}")) {
            let mut socket = socket();
            let request = format!("DELETE {path} HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n\r\n");
            socket.write_all(request.as_bytes()).expect("the server reads");
            let answer = response(&mut socket);
            assert!(answer.body.contains(&path), "{path}, later: {later}: {}{}", answer.head, answer.body);
        }
        assert_eq!(get("/realtime?a=b").body, "/?a=b /realtime?a=b", "pages are below it too");
    }
    for way in WAYS {
        assert_eq!(Stream::by(way, server.address, "/realtime/events", "").status(), 200, "{way:?}");
        assert_eq!(Stream::by(way, server.address, "/events", "").status(), 404, "{way:?}");
    }
}

/// A header that does not come whole is waited for as long as the head of a request is.
#[test]
fn a_proxy_header_that_does_not_come_ends_with_the_head_timeout() {
    let short = Config { head_timeout: std::time::Duration::from_millis(50), ..trusting(&["loopback"]) };
    let running = proxied(short);
    let mut socket = patient(TcpStream::connect(running.tcp_address().expect("TCP")).expect("it accepts"));
    socket.write_all(b"PROXY TCP4 192.0.2.1").expect("the server reads");
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer); // it ends, or the deadline of the test does
    assert!(answer.is_empty());
}

/// The header stands before the handshake, and nothing of the handshake is taken with it.
#[test]
fn a_proxy_header_stands_before_tls() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let (pem, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let tls = fanfare::Tls::from_pem(pem.as_bytes(), key.as_bytes()).expect("a pair");
    let running = proxied(Config { tls: Some(tls), ..trusting(&["loopback"]) });
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let client = Arc::new(client.expect("versions").with_root_certificates(roots).with_no_client_auth());
    for header in [&b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n"[..], &[SIGNATURE, &CLIENT].concat()] {
        let name = rustls::pki_types::ServerName::try_from("localhost").expect("a name");
        let mut session = rustls::ClientConnection::new(client.clone(), name).expect("a client");
        let mut hello = header.to_vec();
        session.write_tls(&mut hello).expect("a handshake begins"); // in the same write as the header
        let mut socket = connect(running.tcp_address().expect("TCP"));
        socket.write_all(&hello).expect("the server reads");
        let mut stream = rustls::StreamOwned::new(session, socket);
        let request = "GET /peer HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).expect("the server reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("192.0.2.1:56324"), "{answer}");
    }
}
