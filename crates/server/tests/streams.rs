//! The native protocol as an event stream and as lines of JSON, and streams where hyper writes the body: within another
//! server and over HTTP/2.

mod support;

use fanfare::{Config, Fanfare, Handle, Identity, Native, Refusal, Running, Token};
use serde_json::{Value, json};
use std::net::SocketAddr;
use support::polls::{json_of, post};
use support::stream::{Stream, Way};
use support::{Server, config, connect, rules};

const CONNECT: &str = r#"{"type":"connect","id":1,"page":"p","subscribe":[{"channel":"a"}]}"#;

struct Served {
    _running: Running,
    handle: Handle,
    address: SocketAddr,
}

impl Served {
    /// `wrong` is no token.
    fn new(config: Config) -> Served {
        let identify = async |token: Option<Token>| match token.as_ref().map(Token::as_str) {
            Some("wrong") => Err(Refusal::unauthorized("no such token")),
            Some(user) => Ok(Identity::user(user)),
            None => Ok(Identity::anonymous()),
        };
        let server = Fanfare::builder(()).config(config).on_connect(identify).build().expect("good settings");
        let handle = server.handle();
        let running = server.start(&["127.0.0.1:0".parse().expect("an address")]).expect("a free port");
        let address = running.tcp_address().expect("TCP");
        Served { _running: running, handle, address }
    }
}

/// Runs what blocks beside the handlers.
async fn beside<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(body).await.expect("it passes")
}

fn encoded(json: &str) -> String {
    json.replace('{', "%7B").replace('}', "%7D").replace('"', "%22").replace('[', "%5B").replace(']', "%5D")
}

/// The next message of either stream.
fn next(stream: &mut Stream, path: &str) -> Value {
    if path == "/v1/sse" { stream.message().json() } else { stream.line().expect("the stream goes on") }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_goes_on_from_stream_to_stream() {
    let served = Served::new(config());
    for (from, to) in [("/v1/sse", "/v1/stream"), ("/v1/stream", "/v1/sse")] {
        let (address, handle) = (served.address, served.handle.clone());
        let (mut stream, ticket) = beside(move || {
            let mut stream = Stream::get(address, &format!("{from}?connect={}", encoded(CONNECT)), "");
            assert_eq!(stream.status(), 200, "{}", stream.head);
            let connected = next(&mut stream, from);
            assert_eq!((&connected["type"], &connected["id"]), (&json!("connected"), &json!(1)));
            let subscribed = next(&mut stream, from);
            assert_eq!(subscribed["type"], "subscribed");
            let ticket = connected["ticket"].as_str().expect("a ticket").to_owned();
            (stream, (ticket, subscribed["epoch"].clone(), subscribed["offset"].clone()))
        })
        .await;
        handle.publish("a", "one").await.expect("published");
        let (ticket, epoch, offset) = ticket;
        beside(move || {
            assert_eq!(next(&mut stream, from)["data"], "one");
            let since = json!({"epoch": epoch, "offset": offset});
            let connect = json!({"type": "connect", "id": 2, "page": "p", "ticket": ticket,
                "subscribe": [{"channel": "a", "since": since}]});
            let mut again = Stream::post(address, to, &connect.to_string());
            assert_eq!(next(&mut again, to)["session_resumed"], true);
            let subscribed = next(&mut again, to);
            assert_eq!(
                (&subscribed["recovered"], &subscribed["publications"][0]["data"]),
                (&json!(true), &json!("one"))
            );
            // The earlier stream has lost the session, and says so.
            let last = next(&mut stream, from);
            assert_eq!((&last["type"], &last["reason"]), (&json!("disconnect"), &json!("moved")), "{from}");
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_connect_and_who_is_not_let_in_is_answered_with_a_status() {
    let address = Served::new(config());
    let with = |more: &str| format!(r#"{{"type":"connect","id":1{more}}}"#);
    // (method, command, status, words)
    let rows = [
        ("GET", with(r#","ticket":"t""#), 400, "takes no `ticket`"),
        ("GET", with(r#","token":"wrong""#), 401, "no such token"),
        ("POST", with(r#","token":"wrong""#), 401, "no such token"),
        ("POST", with(r#","subscribe":[{"channel":"no good"}]"#), 400, "channel"),
        ("GET", r#"{"type":"connect"}"#.to_owned(), 400, "needs an `id`"),
        ("POST", r#"{"type":"pong"}"#.to_owned(), 400, "one `connect` command"),
        ("POST", format!("[{},{}]", with(""), with("")), 400, "one `connect` command"),
        ("GET", "garbage".to_owned(), 400, "JSON"),
        ("POST", "x".repeat(100_000), 413, "exceeds the limit"),
    ];
    let at = address.address;
    beside(move || {
        for path in ["/v1/sse", "/v1/stream"] {
            for (method, command, status, words) in &rows {
                let mut stream = match *method {
                    "POST" => Stream::post(at, path, command),
                    _ => Stream::get(at, &format!("{path}?connect={}", encoded(command)), ""),
                };
                let body = stream.rest();
                assert_eq!(stream.status(), *status, "{method} {path} {command:.60}: {body}");
                assert!(body.contains(words), "{method} {path}: {body}");
            }
            let request = format!(
                "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/xml\r\nContent-Length: 1\r\n\r\nx"
            );
            assert_eq!(Stream::asked(connect(at), &request).status(), 415);
            let stream = Stream::asked(connect(at), &format!("DELETE {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
            assert_eq!((stream.status(), stream.header("allow")), (405, Some("get, head, options, post")));
        }
        let stream =
            Stream::asked(connect(at), "POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
        assert_eq!((stream.status(), stream.header("allow")), (405, Some("get, head, options")));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bare_get_is_a_session_without_subscriptions() {
    let served = Served::new(config());
    let address = served.address;
    beside(move || {
        for way in [Way::First, Way::Http10, Way::KeptAlive] {
            let mut stream = Stream::by(way, address, "/v1/stream", "");
            assert_eq!(stream.header("content-type"), Some("application/x-ndjson"));
            assert_eq!(stream.line().expect("a message")["type"], "connected", "{way:?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mounted_server_streams_too() {
    let server = Fanfare::builder(()).config(config()).channel("**", |c| c.open()).build().expect("good settings");
    let handle = server.handle();
    let (service, running) = server.into_service().expect("it starts");
    let app = axum::Router::new().fallback_service(service);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let serving = tokio::spawn(async move { axum::serve(listener, app).await });
    let mut stream = beside(move || {
        let mut stream = Stream::get(address, "/events?channel=a", "");
        assert_eq!(stream.message().json()["type"], "connected");
        stream
    })
    .await;
    handle.publish("a", "mounted").await.expect("published");
    beside(move || {
        assert_eq!(stream.message().json(), "mounted");
        let mut refused = Stream::get(address, "/events?recent=x", "");
        assert_eq!(refused.status(), 400, "{}", refused.rest());
    })
    .await;
    running.drain().await.expect("no shard failed");
    serving.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_one_http2_connection_do_not_wait_for_one_that_is_not_read() {
    let served = Served::new(Config { rules: rules(10_000), ..config() });
    let socket = tokio::net::TcpStream::connect(served.address).await.expect("it accepts");
    // A stream that is not read must not use up the window of the connection.
    let mut client = h2::client::Builder::new();
    let handshake = client.initial_connection_window_size(16 << 20).handshake::<_, bytes::Bytes>(socket);
    let (mut sender, connection) = handshake.await.expect("it speaks HTTP/2");
    tokio::spawn(connection);
    let mut bodies = Vec::new();
    for _ in 0..2 {
        let request = http::Request::get(format!("http://{}/events?channel=a", served.address));
        let request = request.body(()).expect("a request");
        sender = sender.ready().await.expect("room");
        let (response, _) = sender.send_request(request, true).expect("it is sent");
        let response = response.await.expect("an answer");
        assert_eq!(response.status(), 200);
        bodies.push(response.into_body());
    }
    let text = "x".repeat(10_000);
    for n in 0..100 {
        served.handle.publish("a", &format!("<{n}>{text}")).await.expect("published");
    }
    // The first body is read only when the second one has everything.
    for mut body in bodies.into_iter().rev() {
        let mut heard = Vec::new();
        let is_last = |heard: &[u8]| heard[heard.len().saturating_sub(20_000)..].windows(4).any(|at| at == b"<99>");
        while !is_last(&heard) {
            let bytes = body.data().await.expect("it goes on").expect("data");
            body.flow_control().release_capacity(bytes.len()).expect("it was received");
            heard.extend_from_slice(&bytes);
        }
        let heard = String::from_utf8(heard).expect("text");
        let numbers: Vec<usize> =
            heard.split('<').skip(1).filter_map(|rest| rest.split('>').next()?.parse().ok()).collect();
        assert_eq!(numbers, (0..100).collect::<Vec<_>>());
        assert!(!heard.contains("fanfare.gap"));
    }
}

/// A stream whose `connect` came with the head needs no hyper, which would hold some KiB for each as long as it lives.
#[test]
fn a_post_opens_the_same_stream_whether_the_shard_or_hyper_reads_its_body() {
    let server = Server::of(Fanfare::builder(()).config(config()));
    let (len, chunk) = (CONNECT.len(), format!("{:x}\r\n{CONNECT}\r\n0\r\n\r\n", CONNECT.len()));
    let json = "Content-Type: application/json\r\n";
    let rows = [
        ("whole", format!("{json}Content-Length: {len}\r\n\r\n{CONNECT}"), true),
        ("without a type", format!("Content-Length: {len}\r\n\r\n{CONNECT}"), true),
        ("in chunks", format!("{json}Transfer-Encoding: chunked\r\n\r\n{chunk}"), false),
        (
            "with a charset",
            format!("Content-Type: application/json; charset=utf-8\r\nContent-Length: {len}\r\n\r\n{CONNECT}"),
            false,
        ),
    ];
    for (name, rest, by_shard) in rows {
        for path in ["/v1/sse", "/v1/stream"] {
            let socket = std::net::TcpStream::connect(server.address).expect("it accepts");
            let mut stream = Stream::asked(socket, &format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{rest}"));
            assert_eq!(stream.status(), 200, "{name}: {}", stream.head);
            assert_eq!(stream.header("connection") == Some("close"), by_shard, "{name}: {}", stream.head);
            assert_eq!(next(&mut stream, path)["type"], "connected", "{name}");
            assert_eq!(next(&mut stream, path)["channel"], "a", "{name}");
        }
    }
    // A body that the shard cannot judge is judged as before.
    for (name, rest, status) in [
        ("of another type", format!("Content-Type: text/plain\r\nContent-Length: {len}\r\n\r\n{CONNECT}"), 415),
        ("two lengths", format!("Content-Length: {len}\r\nContent-Length: 1\r\n\r\n{CONNECT}"), 400),
        ("no JSON", "Content-Length: 2\r\n\r\n{]".to_owned(), 400),
    ] {
        let socket = std::net::TcpStream::connect(server.address).expect("it accepts");
        let stream = Stream::asked(socket, &format!("POST /v1/sse HTTP/1.1\r\nHost: localhost\r\n{rest}"));
        assert_eq!(stream.status(), status, "{name}: {}", stream.head);
    }
}

/// Behind a proxy the socket tells nothing: the proxy reads on.
#[test]
fn a_stream_stays_while_its_client_sends_and_ends_when_it_is_silent() {
    let native = Native::default().heartbeat_ms(2_000);
    let server = Server::of(Fanfare::builder(()).config(config()).protocol("/v1/ws", native));
    let address = server.address;
    let check = |path: &'static str, way: Way| {
        let name = format!("{path}, {way:?}");
        let mut stream = Stream::by(way, address, path, "");
        let connected = next(&mut stream, path);
        let ping = |stream: &mut Stream| {
            let message = next(stream, path);
            assert_eq!(message["type"], "ping", "{name}: {message}");
        };
        let mut n = 0;
        let mut send = |commands: Value, numbered: bool| {
            n += u64::from(numbered);
            let number = numbered.then_some(n);
            let body = json!({"ticket": connected["ticket"], "n": number, "commands": commands});
            json_of(post(address, "/v1/send", &body));
        };
        for round in 0..3 {
            ping(&mut stream);
            // A request of its own, so any shard takes it in.
            match round {
                0 => send(json!({"type": "pong"}), false),
                1 => send(json!([]), false),
                _ => send(json!({"type": "pong"}), true),
            }
        }
        ping(&mut stream);
        let last = next(&mut stream, path);
        assert_eq!((&last["type"], &last["code"]), (&json!("disconnect"), &json!(4001)), "{name}: {last}");
    };
    std::thread::scope(|threads| {
        for path in ["/v1/sse", "/v1/stream"] {
            for way in [Way::First, Way::Http10, Way::KeptAlive] {
                threads.spawn(move || check(path, way));
            }
        }
    });
}
