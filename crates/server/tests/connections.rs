//! The limits of connections: a client over a limit is told so and told to come back; probes and the API still work.

mod support;

use fanfare::{Address, AdminOn, ApiKey, Config, Echo, Fanfare, FanfareService, Origins, SocketIoConfig};
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use support::scrape::{Scraped, scrape};
use support::{Client, DEADLINE, Frame, Response, Server, config, connect, response, upgrade};
use support::{engine, polls};

const KEY: &str = "a-key-of-sixteen-bytes-or-more";

fn server(config: Config) -> Server {
    let pages = axum::Router::new().route("/page", axum::routing::get(async || "a page\n"));
    let builder = Fanfare::builder(()).config(config).admin(AdminOn::Address("127.0.0.1:0".parse().expect("valid")));
    let key = ApiKey::new("app", KEY).expect("a key");
    Server::of(builder.protocol("/echo", Echo::default()).fallback(pages).api_key(key))
}

fn admin(server: &Server) -> SocketAddr {
    match server.running().admin_address() {
        Some(&Address::Tcp(admin)) => admin,
        other => panic!("an admin port: {other:?}"),
    }
}

fn get(address: SocketAddr, path: &str) -> (Response, TcpStream) {
    let mut socket = connect(address);
    write!(socket, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("the server reads");
    (response(&mut socket), socket)
}

/// Scrapes until a condition holds: the server needs a moment to end a connection.
fn until(address: SocketAddr, so: impl Fn(&Scraped) -> bool) -> Scraped {
    let deadline = std::time::Instant::now() + DEADLINE;
    loop {
        let scraped = scrape(address);
        if so(&scraped) {
            return scraped;
        }
        assert!(std::time::Instant::now() < deadline, "it never came about: {scraped:?}");
    }
}

/// A WebSocket over a limit is upgraded, told, and closed.
fn is_turned_away(mut client: Client, native: bool) {
    if native {
        let push = client.message();
        assert_eq!(
            (&push["type"], &push["reason"], &push["retry"]),
            (&"disconnect".into(), &"overloaded".into(), &true.into())
        );
        assert!((1000..10_000).contains(&push["delay"].as_u64().expect("a time")), "{push}");
    }
    assert_eq!(client.next(), Frame::Close(Some(4004), "overloaded".to_owned()));
    client.socket.shutdown(std::net::Shutdown::Write).expect("ours to end");
    assert_eq!(client.next(), Frame::End);
}

#[test]
fn one_more_than_connections_max_is_told_to_come_back_and_probes_and_the_api_go_on() {
    let server = server(Config { connections_max: 3, ..config() });
    let admin = admin(&server);
    let mut open: Vec<Client> = (0..3).map(|_| Client::open(server.address, "/echo")).collect();
    assert_eq!(scrape(admin).get("fanfare_connections_admitted"), 3.0);
    assert_eq!(scrape(admin).get("fanfare_connections_limit"), 3.0);

    is_turned_away(Client::open(server.address, "/echo"), false);
    let native = Client::speaking(connect(server.address), server.address, "/v1/ws", &["fanfare.v1"], b"");
    is_turned_away(native, true);
    let (page, mut socket) = get(server.address, "/page");
    assert_eq!((page.status(), page.header("retry-after"), page.header("connection")), (503, Some("5"), Some("close")));
    assert!(page.body.contains("limits.connections_max") && page.body.contains("3 connections"), "{}", page.body);
    assert_eq!(page.header("x-request-id").map(str::len), Some(16), "{}", page.head);
    assert_eq!(socket.read(&mut [0]).expect("an end"), 0, "one answer, and an end");
    let (health, mut socket) = get(server.address, "/healthz");
    assert_eq!((health.status(), health.header("connection")), (200, Some("close")));
    assert_eq!(socket.read(&mut [0]).expect("an end"), 0);
    let mut api = connect(server.address);
    let body = r#"{"channel":"a","data":1}"#;
    write!(
        api,
        "POST /api/v1/publish HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("the server reads");
    assert_eq!(response(&mut api).status(), 200);

    let after = scrape(admin);
    assert_eq!(after.get("fanfare_connections_refused_total{reason=\"connections_max\"}"), 5.0);
    assert_eq!(after.get("fanfare_connections_ended_total{reason=\"overloaded\"}"), 2.0);
    assert_eq!(after.sum("fanfare_connections"), 3.0, "those who were there notice nothing");
    open[0].text("hello");
    assert_eq!(open[0].next(), Frame::Text("hello".to_owned()));
    open.pop().expect("three").close();
    until(admin, |scraped| scraped.get("fanfare_connections_admitted") == 2.0);
    let mut late = Client::open(server.address, "/echo");
    late.text("there is room");
    assert_eq!(late.next(), Frame::Text("there is room".to_owned()));
}

/// Nothing is accepted for a session that does not exist, and each refusal can be read by a page.
#[test]
fn over_a_limit_sessions_that_exist_go_on_and_new_ones_are_told_to_come_back() {
    const PAGE: &str = "https://app.example";
    let socketio = SocketIoConfig { enabled: true, ..SocketIoConfig::default() };
    let origins = Origins::List(vec![PAGE.parse().expect("an origin")]);
    let server = server(Config { connections_max: 2, socketio, origins, rules: support::rules(100), ..config() });
    let (address, admin) = (server.address, admin(&server));
    let mut native = polls::Poller::connect(address, json!({"subscribe": [{"channel": "chat:a"}]}));
    let engine = engine::Poller::enter(&server).0;
    until(admin, |scraped| scraped.get("fanfare_connections_admitted") == 0.0);
    let open: Vec<Client> = (0..2).map(|_| Client::open(address, "/echo")).collect();

    for n in 1..=3 {
        let published = native.ask("publish", json!({"channel": "chat:a", "data": n}));
        assert_eq!(published["type"], "published", "{published}");
        let heard = std::iter::repeat_with(|| native.message()).find(|message| message["type"] == "message");
        assert_eq!(heard.expect("endless")["data"], n);
        engine.post("3");
        assert_eq!(engine.poll(), "6", "a poll ends soon, so that others have its place");
        assert_eq!(native.poll(20_000), [] as [serde_json::Value; 0]);
    }

    let ask = |method: &str, path: &str, headers: &str, body: &str| {
        let mut socket = connect(address);
        let headers = format!("Origin: {PAGE}\r\n{headers}");
        socket.write_all(polls::request(method, path, &headers, body).as_bytes()).expect("the server reads");
        response(&mut socket)
    };
    let readable = |answer: &Response| {
        assert_eq!(answer.header("access-control-allow-origin"), Some(PAGE), "{}", answer.head);
        assert!(answer.header("vary").is_some_and(|vary| vary.contains("origin")), "{}", answer.head);
    };
    let connect_body = r#"{"type":"connect","id":1}"#;
    let refused = ask("POST", "/v1/poll", "", connect_body);
    readable(&refused);
    assert_eq!((refused.status(), refused.header("retry-after")), (503, Some("5")), "{}", refused.head);
    assert_eq!(refused.header("content-type"), Some("application/json"));
    let error: serde_json::Value = serde_json::from_str(&refused.body).expect("JSON");
    assert_eq!((&error["code"], &error["retryable"]), (&json!("unavailable"), &json!(true)), "{error}");
    assert_eq!((&error["option"], &error["limit"]), (&json!("limits.connections_max"), &json!(2)), "{error}");
    let refused = ask("GET", "/socket.io/?EIO=4&transport=polling", "", "");
    readable(&refused);
    assert_eq!((refused.status(), refused.header("retry-after")), (503, Some("5")), "{}", refused.head);
    for (path, body) in [("/v1/poll", r#"{"ticket":"x","ack":1}"#), ("/v1/send", r#"{"ticket":"x","commands":[]}"#)] {
        let refused = ask("POST", path, "", body);
        readable(&refused);
        assert_eq!(refused.status(), 401, "{path}: {}", refused.body);
    }
    for path in ["/v1/poll", "/v1/send", "/v1/sse", "/v1/stream", "/events", "/socket.io/?EIO=4&transport=polling"] {
        let preflight = ask("OPTIONS", path, "Access-Control-Request-Method: POST\r\n", "");
        readable(&preflight);
        assert_eq!(preflight.status(), 204, "{path}: {}", preflight.head);
    }
    assert_eq!(scrape(admin).get("fanfare_connections_admitted"), 2.0, "they count apart");
    drop(open);
    until(admin, |scraped| scraped.get("fanfare_connections_admitted") == 0.0);
    assert_eq!(native.ask("publish", json!({"channel": "chat:a", "data": 4}))["type"], "published");
}

/// A client whose answer was lost sends its `connect` again, and its session has a place already.
#[test]
fn over_a_limit_a_repeated_connect_leads_to_its_session_and_a_new_one_to_none() {
    let server = server(Config { connections_max: 2, rules: support::rules(100), ..config() });
    let (address, admin) = (server.address, admin(&server));
    let named = |attempt: &str| json!({"type": "connect", "id": 1, "attempt": attempt});
    let connected = |answer: serde_json::Value| polls::messages(&answer)[0].clone();
    let first = connected(polls::json_of(polls::post(address, "/v1/poll", &named("5ntzhk0wq8"))));
    until(admin, |scraped| scraped.get("fanfare_connections_admitted") == 0.0);
    let open: Vec<Client> = (0..2).map(|_| Client::open(address, "/echo")).collect();
    let again = connected(polls::json_of(polls::post(address, "/v1/poll", &named("5ntzhk0wq8"))));
    assert_eq!((&again["type"], &again["client"]), (&json!("connected"), &first["client"]));
    let other = polls::post(address, "/v1/poll", &named("another"));
    assert_eq!((other.status(), other.header("retry-after")), (503, Some("5")), "{}", other.head);
    drop(open);
}

/// A WebSocket needs a place of a socket, and its session has none to give. It goes on as before.
#[test]
fn over_a_limit_a_session_that_cannot_be_upgraded_goes_on_polling() {
    let socketio = SocketIoConfig { enabled: true, ..SocketIoConfig::default() };
    let server = server(Config { connections_max: 2, socketio, rules: support::rules(100), ..config() });
    let (poller, admin) = (engine::Poller::enter(&server).0, admin(&server));
    until(admin, |scraped| scraped.get("fanfare_connections_admitted") == 0.0);
    let open: Vec<Client> = (0..2).map(|_| Client::open(server.address, "/echo")).collect();
    let mut websocket = poller.websocket();
    let told = std::iter::repeat_with(|| websocket.next()).find(|frame| !matches!(frame, Frame::Text(_)));
    assert_eq!(told.expect("endless"), Frame::Close(Some(4004), "overloaded".to_owned()));
    poller.post("3");
    assert_eq!(poller.poll(), "6", "a poll over a limit ends soon");
    drop(open);
    until(admin, |scraped| scraped.get("fanfare_connections_admitted") == 0.0);
    drop(poller.upgraded());
}

/// HTTP connections count, and keep their place when they become WebSockets.
#[test]
fn every_connection_counts_whatever_it_speaks() {
    let server = server(Config { connections_max: 3, ..config() });
    let admin = admin(&server);
    let (first, kept) = get(server.address, "/page");
    assert_eq!(first.status(), 200);
    let mut http2 = connect(server.address);
    http2.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").expect("the server reads");
    http2.read_exact(&mut [0; 9]).expect("its settings");
    let mut silent = connect(server.address);
    silent.write_all(b"GET").expect("the server reads");
    let open = |scraped: &Scraped, version: &str| -> f64 {
        let name = |shard| format!("fanfare_http_connections{{version=\"{version}\",shard=\"{shard}\"}}");
        (0..support::shards()).map(|shard| scraped.get(&name(shard))).sum()
    };
    // The place is taken before the shard has counted the connection.
    let counted = |scraped: &Scraped| ["none", "1", "2"].map(|version| open(scraped, version)) == [1.0; 3];
    let found = until(admin, |scraped| scraped.get("fanfare_connections_admitted") == 3.0 && counted(scraped));
    assert_eq!(found.get("fanfare_http_connections{version=\"1\",shard=\"admin\"}"), 1.0);
    assert_eq!(found.sum("fanfare_connections_accepted_total"), 3.0);
    assert_eq!(get(server.address, "/page").0.status(), 503);
    let mut client = Client::upgraded(kept, server.address, "/echo", b"");
    client.text("the place is kept");
    assert_eq!(client.next(), Frame::Text("the place is kept".to_owned()));
    assert_eq!(scrape(admin).get("fanfare_connections_admitted"), 3.0);
}

#[test]
fn one_address_has_its_own_limit_and_unix_sockets_have_none() {
    let path = std::env::temp_dir().join(format!("fanfare-connections-{}.sock", std::process::id()));
    let addresses = ["127.0.0.1:0".parse().expect("an address"), Address::Unix(path.clone())];
    let config = Config { connections_per_address_max: 1, ..config() };
    let server = Fanfare::builder(()).config(config).protocol("/echo", Echo::default()).build().expect("good settings");
    let running = server.start(&addresses).expect("it starts");
    let address = running.tcp_address().expect("TCP");
    let first = Client::open(address, "/echo");
    is_turned_away(Client::open(address, "/echo"), false);
    let (page, _) = get(address, "/page");
    assert_eq!(page.status(), 503);
    assert!(page.body.contains("limits.connections_per_address_max"), "{}", page.body);
    for _ in 0..3 {
        let mut unix = UnixStream::connect(&path).expect("it listens");
        unix.set_read_timeout(Some(DEADLINE)).expect("a socket takes a timeout");
        unix.write_all(&upgrade(address, "/echo", &[], &[])).expect("the server reads");
        let mut status = [0; 12];
        unix.read_exact(&mut status).expect("an answer");
        assert_eq!(&status, b"HTTP/1.1 101");
        unix.write_all(&support::frame(fanfare_wire::websocket::Opcode::Text, b"x")).expect("it is served");
    }
    first.close();
    running.drain_blocking().expect("no shard failed");
}

/// A service that allows one connection for each address, and the address where another server listens for it. Call it
/// within a runtime.
fn one_for_each_address(
    runtime: &tokio::runtime::Runtime,
) -> (FanfareService, impl Sized, tokio::net::TcpListener, SocketAddr) {
    let config = Config { connections_per_address_max: 1, ..config() };
    let builder = Fanfare::builder(()).config(config).protocol("/echo", Echo::default());
    let (service, running) = builder.build().expect("good settings").into_service().expect("it starts");
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a free port");
    let address = listener.local_addr().expect("bound");
    (service, running, listener, address)
}

/// Within another server the service knows the address of a plain TCP socket.
#[test]
fn one_address_has_its_limit_within_another_server_too() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let _entered = runtime.enter();
    let (service, _running, listener, address) = one_for_each_address(&runtime);
    let app = axum::Router::new().fallback_service(service);
    runtime.spawn(async move { axum::serve(listener, app).await });
    let mut first = Client::open(address, "/echo");
    first.text("in");
    assert_eq!(first.next(), Frame::Text("in".to_owned()));
    is_turned_away(Client::open(address, "/echo"), false);
}

/// Under TLS, only the other server can give the address. Here it takes the address from a header.
#[test]
fn another_server_tells_the_address_that_is_limited() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let _entered = runtime.enter();
    let (service, _running, listener, address) = one_for_each_address(&runtime);
    let tells = axum::middleware::map_request(|mut request: axum::extract::Request| async move {
        let client_address: SocketAddr =
            request.headers()["x-address"].to_str().expect("text").parse().expect("an address");
        request.extensions_mut().insert(axum::extract::ConnectInfo(client_address));
        request
    });
    let app = axum::Router::new().fallback_service(service).layer(tells);
    runtime.spawn(async move { axum::serve(listener, app).await });
    let open = |client_address: &str| {
        let mut socket = connect(address);
        socket.write_all(&upgrade(address, "/echo", &[], &[("X-Address", client_address)])).expect("the server reads");
        assert_eq!(response(&mut socket).status(), 101);
        Client::of(socket)
    };
    let mut others: Vec<Client> = ["192.0.2.1:1", "192.0.2.2:1"].map(open).into();
    for client in &mut others {
        client.text("in");
        assert_eq!(client.next(), Frame::Text("in".to_owned()));
    }
    is_turned_away(open("192.0.2.1:2"), false);
}

/// A frame of HTTP/2 (RFC 9113 §4.1).
fn http2_frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags, 0, 0, 0, stream]);
    frame.extend(payload);
    frame
}

/// An HTTP/2 peer whose window has no room for a byte of an answer (RFC 9113 §6.9.2).
fn http2_without_a_window(address: SocketAddr) -> TcpStream {
    let mut socket = connect(address);
    socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").expect("the server reads");
    socket.write_all(&http2_frame(4, 0, 0, &[0, 4, 0, 0, 0, 0])).expect("the server reads");
    socket
}

/// Reads until the connection ends. Answers bytes that look like an HTTP/2 ping.
fn ends(mut socket: TcpStream) {
    let mut frames = Vec::new();
    let begin = std::time::Instant::now();
    loop {
        assert!(begin.elapsed() < DEADLINE, "the connection does not end");
        let mut bytes = [0; 4096];
        match socket.read(&mut bytes) {
            Ok(0) => return,
            Ok(count) => frames.extend_from_slice(&bytes[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return,
            Err(error) => panic!("the connection does not end: {error}"),
        }
        while frames.len() >= 9 {
            let end = 9 + u32::from_be_bytes([0, frames[0], frames[1], frames[2]]) as usize;
            if frames.len() < end {
                break;
            }
            let frame: Vec<u8> = frames.drain(..end).collect();
            if frame[3] == 6 && frame[4] == 0 {
                let _ = socket.write_all(&http2_frame(6, 1, 0, &frame[9..])); // it may have ended
            }
        }
    }
}

/// A connection of the reserve ends soon, however long the configured times are.
#[test]
fn a_connection_over_a_limit_ends_soon_whatever_its_peer_does() {
    let long = std::time::Duration::from_secs(600);
    let close_timeout = std::time::Duration::from_millis(200);
    let times = Config { head_timeout: long, http_idle_timeout: long, write_timeout: long, close_timeout, ..config() };
    let server = server(Config { connections_max: 1, ..times });
    let _open = Client::open(server.address, "/echo");
    let mut sockets = vec![("silent", connect(server.address))];
    for (name, bytes) in [("a part of a head", &b"GET /page HT"[..]), ("a part of the preface", b"PRI * HT")] {
        let mut socket = connect(server.address);
        socket.write_all(bytes).expect("the server reads");
        sockets.push((name, socket));
    }
    sockets.push(("HTTP/2 that asks nothing", http2_without_a_window(server.address)));
    let mut http2 = http2_without_a_window(server.address);
    // :method GET, :scheme http, :path / by the static table; :authority as a literal.
    http2.write_all(&http2_frame(1, 0x5, 1, &[0x82, 0x86, 0x84, 0x01, 1, b'a'])).expect("the server reads");
    sockets.push(("HTTP/2 that takes no answer", http2));
    let threads = sockets.into_iter().map(|(name, socket)| (name, std::thread::spawn(move || ends(socket))));
    for (name, thread) in threads.collect::<Vec<_>>() {
        assert!(thread.join().is_ok(), "{name}: it is kept");
    }
}

/// There are more of them than the whole reserve has places, and their times are the longest possible.
#[test]
fn silent_connections_keep_no_probe_out_not_even_one_of_their_own_address() {
    const MORE_THAN_A_SHARE: usize = 150;
    let long = std::time::Duration::from_secs(600);
    let server = server(Config { connections_max: 1, head_timeout: long, http_idle_timeout: long, ..config() });
    let _open = Client::open(server.address, "/echo");
    type Ask = fn(SocketAddr) -> TcpStream;
    let asks: [(&str, Ask); 5] = [
        ("silent", connect),
        ("a poll without its body", |address| {
            let mut socket = connect(address);
            let head = "POST /v1/poll HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{";
            socket.write_all(head.as_bytes()).expect("the server reads");
            socket
        }),
        ("HTTP/2 that asks nothing", http2_without_a_window),
        ("a poll of HTTP/2 without its body", |address| {
            let mut socket = http2_without_a_window(address);
            // :method POST, :scheme http by the static table; :path and :authority as literals.
            let head = [&[0x83, 0x86, 0x04, 8][..], b"/v1/poll", &[0x01, 9], b"localhost"].concat();
            socket.write_all(&http2_frame(1, 0x4, 1, &head)).expect("the server reads");
            socket.write_all(&http2_frame(6, 0, 0, b"received")).expect("the server reads");
            let mut read = Vec::new();
            while !read.ends_with(b"received") {
                let mut byte = [0];
                socket.read_exact(&mut byte).expect("the answer to the ping");
                read.push(byte[0]);
            }
            socket
        }),
        ("a WebSocket that was told to come back", |address| {
            let mut socket = connect(address);
            socket.write_all(&upgrade(address, "/echo", &[], &[])).expect("the server reads");
            socket
        }),
    ];
    for (name, ask) in asks {
        let held: Vec<TcpStream> = (0..MORE_THAN_A_SHARE).map(|_| ask(server.address)).collect();
        assert_eq!(get(server.address, "/healthz").0.status(), 200, "{name}");
        drop(held);
    }
    let scraped = scrape(admin(&server));
    assert!(scraped.get("fanfare_connections_refused_total{reason=\"no_reserve\"}") > 0.0, "{scraped:?}");
}

/// Requests that never reach a route are counted too.
#[test]
fn refusals_before_routing_are_counted() {
    let head_timeout = std::time::Duration::from_millis(300);
    let server = server(Config { head_timeout, head_bytes_max: 8 << 10, ..config() });
    let admin = admin(&server);
    let rows: [(&[u8], u16); 3] =
        [(b"\x16\x03\x01\r\n\r\n", 400), (&[b'G'; 9 << 10], 431), (b"GET / HTTP/1.1\r\n", 408)];
    for (refused, (bytes, status)) in rows.into_iter().enumerate() {
        let mut socket = connect(server.address);
        socket.write_all(bytes).expect("the server reads");
        let answer = response(&mut socket);
        assert_eq!(answer.status(), status);
        assert_eq!(answer.header("x-request-id").map(str::len), Some(16), "{}", answer.head);
        assert_eq!(scrape(admin).get("fanfare_http_requests_total{status=\"4xx\"}"), refused as f64 + 1.0, "{status}");
    }
}

/// The child process of a test has a low limit of open files. It listens at two addresses: the server's and the admin
/// port's.
struct Child {
    process: std::process::Child,
    main: SocketAddr,
    admin: SocketAddr,
    /// The child's stdout. It is kept open so that the child can write; nothing reads it further.
    _said: std::io::BufReader<std::process::ChildStdout>,
}

const CHILD: &str = "FANFARE_TEST_FULL";

impl Child {
    /// In the child: serves until the parent has finished.
    fn serve(config: Config) {
        let server = server(config);
        println!("{} {}", server.address, admin(&server));
        let _ = std::io::stdin().read(&mut [0]);
    }

    /// Runs the test of this name as a child.
    fn of(name: &str, files: usize) -> Child {
        let program = std::env::current_exe().expect("a test knows its program");
        let script = format!("ulimit -n {files}; exec {program:?} --exact {name} --nocapture");
        let mut process = std::process::Command::new("sh")
            .args(["-c", &script])
            .env(CHILD, "1")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("it runs");
        let mut said = std::io::BufReader::new(process.stdout.take().expect("piped"));
        let (main, admin) = Child::addresses(&mut said);
        Child { process, main, admin, _said: said }
    }

    fn addresses(said: &mut impl std::io::BufRead) -> (SocketAddr, SocketAddr) {
        loop {
            let mut line = String::new();
            assert!(said.read_line(&mut line).expect("text") > 0, "it says where it listens");
            let words: Vec<&str> = line.split_whitespace().rev().take(2).collect();
            if let [admin, main] = words[..]
                && let (Ok(main), Ok(admin)) = (main.parse(), admin.parse())
            {
                return (main, admin);
            }
        }
    }

    fn end(mut self) {
        drop(self.process.stdin.take());
        self.process.wait().expect("it ends");
    }
}

/// More connections are allowed than there are descriptors: the excess is refused with an answer, and none waits in the
/// backlog.
#[test]
fn a_server_without_a_descriptor_left_refuses_by_its_spare_one() {
    if std::env::var_os(CHILD).is_some() {
        return Child::serve(Config { connections_max: 10_000, ..config() });
    }
    let child = Child::of("a_server_without_a_descriptor_left_refuses_by_its_spare_one", 96);
    let (mut open, mut refused) = (Vec::new(), 0);
    while refused < 30 {
        let mut socket = connect(child.main);
        let _ = socket.write_all(&upgrade(child.main, "/echo", &[], &[])); // it may be closed already
        let mut first = [0; 12];
        match socket.read_exact(&mut first) {
            Ok(()) if first == *b"HTTP/1.1 101" => open.push(socket),
            Ok(()) => {
                assert_eq!(&first, b"HTTP/1.1 503");
                refused += 1;
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("it waits: {error}"),
            Err(_) => refused += 1,
        }
        assert!(open.len() < 96, "there is a limit of files");
    }
    for address in [child.main, child.admin] {
        let mut silent = connect(address);
        let mut answer = String::new();
        silent.read_to_string(&mut answer).expect("an answer, and an end");
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("no file descriptor left"), "{answer}");
        refused += 1;
    }
    drop(open);
    // The first probes may arrive while the ended connections still hold their descriptors.
    let deadline = std::time::Instant::now() + DEADLINE;
    loop {
        let mut probe = connect(child.admin);
        let _ = probe.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let mut answer = String::new();
        let read = probe.read_to_string(&mut answer);
        if read.is_ok() && answer.starts_with("HTTP/1.1 200 ") {
            break;
        }
        refused += 1;
        assert!(std::time::Instant::now() < deadline, "it serves again");
    }
    let counted = scrape(child.admin).get("fanfare_connections_refused_total{reason=\"no_descriptor\"}");
    assert_eq!(counted, f64::from(refused));
    child.end();
}

/// With few files, clients cannot take those that are reserved for probes and the API.
#[test]
fn a_server_with_few_files_keeps_some_for_probes() {
    if std::env::var_os(CHILD).is_some() {
        return Child::serve(config());
    }
    let child = Child::of("a_server_with_few_files_keeps_some_for_probes", 160);
    let (main, admin) = (child.main, child.admin);
    let crowd: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut socket = connect(main);
            socket.write_all(&upgrade(main, "/echo", &[], &[])).expect("the server reads");
            socket
        })
        .collect();
    until(admin, |scraped| {
        scraped.get("fanfare_connections_admitted") == scraped.get("fanfare_connections_limit")
            && scraped.get("process_open_fds") < scraped.get("process_max_fds")
            && scraped.get("fanfare_connections_refused_total{reason=\"accept_failed\"}") == 0.0
            && scraped.sum("fanfare_connections_accepted_total")
                + scraped.get("fanfare_connections_refused_total{reason=\"no_reserve\"}")
                >= 200.0
    });
    assert_eq!(get(admin, "/readyz").0.body, "ready\n");
    drop(crowd);
    until(admin, |scraped| scraped.get("fanfare_connections_admitted") == 0.0);
    child.end();
}

/// A request over a connection that stays, so that the test opens no others.
fn asked(socket: &mut TcpStream, method: &str, path: &str, body: &str) -> Response {
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n");
    let kind = if path.starts_with("/v1/") { "application/json" } else { "text/plain" };
    write!(socket, "{head}Content-Type: {kind}\r\n\r\n{body}").expect("the server reads");
    response(socket)
}

/// A client that only opens sessions by polling needs no connection for them: they are bounded all the same.
#[test]
fn sessions_that_poll_count_for_the_node_and_for_their_address() {
    const HANDSHAKE: &str = "/socket.io/?EIO=4&transport=polling";
    let socketio = fanfare::SocketIoConfig { enabled: true, ..fanfare::SocketIoConfig::default() };
    for (connections_max, connections_per_address_max) in [(6, 0), (0, 6)] {
        let config = Config { connections_max, connections_per_address_max, socketio: socketio.clone(), ..config() };
        let option = if connections_max > 0 { "connections_max" } else { "connections_per_address_max" };
        let builder =
            Fanfare::builder(()).config(config).admin(AdminOn::Address("127.0.0.1:0".parse().expect("valid")));
        let server = Server::of(builder.channel("**", |c| c.open()));
        let admin = admin(&server);
        let mut socket = connect(server.address);
        let sid = |opened: &Response| opened.body.split('"').nth(3).expect("an id").to_owned();
        let mut sids: Vec<String> = (0..4).map(|_| sid(&asked(&mut socket, "GET", HANDSHAKE, ""))).collect();
        // The same attempt is the same session.
        let connect_command = |n: usize| format!(r#"{{"type":"connect","id":1,"attempt":"the attempt number {n}"}}"#);
        for n in [1, 2, 2] {
            assert_eq!(asked(&mut socket, "POST", "/v1/poll", &connect_command(n)).status(), 200);
        }
        let refused = asked(&mut socket, "GET", HANDSHAKE, "");
        assert_eq!((refused.status(), refused.header("retry-after")), (503, Some("5")), "{}", refused.body);
        let words: serde_json::Value = serde_json::from_str(&refused.body).expect("JSON");
        assert_eq!(words["code"], 4, "in the form of the reference");
        let words = words["message"].as_str().expect("a text");
        assert!(words.starts_with("there are 6 sessions that poll") && words.contains(option), "{words}");
        let refused = asked(&mut socket, "POST", "/v1/poll", &connect_command(3));
        assert_eq!((refused.status(), refused.header("retry-after")), (503, Some("5")));
        let error: serde_json::Value = serde_json::from_str(&refused.body).expect("JSON");
        assert_eq!((&error["code"], &error["retryable"]), (&"unavailable".into(), &true.into()), "{error}");
        let again = asked(&mut socket, "POST", "/v1/poll", &connect_command(2));
        assert_eq!(again.status(), 200, "a session that is there is no new one: {}", again.body);
        let scraped = scrape(admin);
        assert_eq!(scraped.get("fanfare_polling_sessions_admitted"), 6.0);
        assert_eq!(scraped.get(&format!("fanfare_connections_refused_total{{reason=\"{option}\"}}")), 2.0);
        // One that ends makes room, and so does one that goes on with a WebSocket, which counts as one.
        let ended = sids.pop().expect("four");
        let answer = asked(&mut socket, "POST", &format!("{HANDSHAKE}&sid={ended}"), "1");
        assert_eq!((answer.status(), &*answer.body), (200, "ok"));
        sids.push(sid(&asked(&mut socket, "GET", HANDSHAKE, "")));
        let path = format!("/socket.io/?EIO=4&transport=websocket&sid={}", sids[0]);
        let mut upgraded = Client::open(server.address, &path);
        upgraded.text("2probe");
        assert_eq!(upgraded.next(), Frame::Text("3probe".to_owned()));
        assert_eq!(asked(&mut socket, "GET", HANDSHAKE, "").status(), 503, "it still polls");
        upgraded.text("5");
        upgraded.text("40");
        assert!(matches!(upgraded.next(), Frame::Text(text) if text.starts_with("40")));
        let scraped = until(admin, |scraped| scraped.get("fanfare_polling_sessions_admitted") == 5.0);
        assert_eq!(scraped.get("fanfare_connections_admitted"), 2.0, "the socket of the requests, and the WebSocket");
        assert_eq!(asked(&mut socket, "GET", HANDSHAKE, "").status(), 200);
        assert_eq!(asked(&mut socket, "GET", HANDSHAKE, "").status(), 503);
        upgraded.close();
        until(admin, |scraped| scraped.get("fanfare_connections_admitted") == 1.0);
        assert_eq!(asked(&mut socket, "GET", HANDSHAKE, "").status(), 503, "it gave its place back before");
    }
}
