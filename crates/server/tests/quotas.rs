//! Limits of users, of rates and of new connections, on every transport. (`socketio_rates` has clients that cannot be
//! refused.)
//!
//! Rates have windows of an hour, so that nothing drains while a test runs, however slow the machine is.

mod support;

use fanfare::hub::{Limits, Now, Push, Quotas, Rate};
use fanfare::{Actions, Conversation, Echo, Encoded, Place, Protocol, RequestInfo};
use fanfare::{Config, Fanfare, Identity, Native, NewConnections, Running, SocketIoConfig, Token};
use serde_json::{Value, json};
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;
use support::polls::{Poller, post};
use support::scrape::scrape;
use support::stream::{Stream, Way};
use support::{Client, Response, Server, config, connect, response, runtime, socketio, upgrade};

const HOUR_MS: u64 = 3_600_000;

fn per_hour(count: u64) -> Option<Rate> {
    Some(Rate::new(count, HOUR_MS))
}

fn limited(quotas: Quotas) -> Config {
    let socketio = SocketIoConfig { enabled: true, ..SocketIoConfig::default() };
    Config { limits: Limits { quotas, ..Limits::default() }, socketio, admin: fanfare::AdminOn::MainPort, ..config() }
}

/// The limit that an error names, if it is one; it says when to try again.
#[track_caller]
fn assert_limited(answer: &Value, code: &str, option: &str) {
    assert_eq!((&answer["type"], &answer["code"]), (&json!("error"), &json!(code)), "{answer}");
    assert_eq!(answer["retryable"], true, "{answer}");
    assert!(answer["retry_after"].as_u64().is_some_and(|ms| (1..=HOUR_MS).contains(&ms)), "{answer}");
    let message = answer["message"].as_str().expect("words");
    assert!(message.contains(&format!("(limits.{option})")), "{message}");
}

fn publish(number: u32) -> Value {
    json!({"type": "publish", "id": number, "channel": "chat:a", "data": "x".repeat(60)})
}

/// Sends publications until one is refused: how many were taken, and the refusal.
fn until_refused(mut send: impl FnMut(Value) -> Value) -> (u32, Value) {
    for number in 0..100 {
        let answer = send(publish(number));
        if answer["type"] != "published" {
            return (number, answer);
        }
    }
    panic!("nothing was refused");
}

/// How a client gives one command, and gets its reply.
type Send<'a> = Box<dyn FnMut(Value) -> Value + 'a>;

#[test]
fn what_a_connection_sends_has_rates_on_every_transport() {
    let rows = [
        ("messages_per_connection", Quotas { messages_per_connection: per_hour(3), ..Quotas::NONE }),
        ("bytes_per_connection", Quotas { bytes_per_connection: per_hour(200), ..Quotas::NONE }), // 62 bytes each
    ];
    for (option, quotas) in rows {
        let server = Server::native(limited(quotas));
        let address = server.address;
        let mut other = Client::connected(address);
        other.follow("chat:a");
        let mut socket = Client::connected(address);
        let mut poller = Poller::connect(address, json!({}));
        let mut streams = ["/v1/sse", "/v1/stream"].map(|path| {
            let mut stream = Stream::post(address, path, &json!({"type": "connect", "id": 1}).to_string());
            let connected =
                if path == "/v1/sse" { stream.message().json() } else { stream.line().expect("it goes on") };
            let poller = Poller::of(address, &json!({"n": 1, "messages": [connected]}));
            (stream, poller)
        });
        let mut ways: Vec<(&str, Send<'_>)> = vec![
            ("WebSocket", Box::new(|command| socket.ask("publish", command))),
            ("poll", Box::new(|command| poller.send(json!([command])).remove(0))),
        ];
        for (stream, poller) in &mut streams {
            let _open = stream;
            ways.push(("stream", Box::new(|command| poller.send(json!([command])).remove(0))));
        }
        let count = ways.len() as f64;
        for (name, send) in &mut ways {
            let (taken, refused) = until_refused(send);
            assert_eq!(taken, 3, "{name}");
            assert_limited(&refused, "rate_limited", option);
        }
        drop(ways);
        // Nobody else pays, and nobody was closed.
        assert_eq!(other.ask("publish", publish(1))["type"], "published");
        assert_eq!(
            socket.ask("presence", json!({"channel": "chat:a"}))["type"] == "error",
            option.starts_with("messages")
        );
        let scraped = scrape(address);
        assert!(scraped.get(&format!("fanfare_limits_reached_total{{limit=\"{option}\"}}")) >= count);
    }
}

/// A message may be too long for its protocol before anybody has read it.
#[test]
fn messages_that_are_too_long_are_counted() {
    let server = Server::native(limited(Quotas::NONE));
    let reached = |limit: &str| scrape(server.address).get(&format!("fanfare_limits_reached_total{{limit={limit:?}}}"));
    let long = "x".repeat(2 << 20);
    let mut client = Client::connected(server.address);
    client.text(&json!({"type": "publish", "channel": "chat:a", "data": long}).to_string());
    assert_eq!(client.closed(), Some(1009));
    let mut chat = Client::join(server.address, "ada", "a");
    chat.say(&long);
    assert_eq!(chat.closed(), Some(1009));
    assert!((2.0..3.0).contains(&reached("message_bytes_max")), "{}", reached("message_bytes_max"));
    let (mut socket, _) = socketio::enter(&server);
    socket.text(&format!(r#"42["message","{long}"]"#));
    assert!(socket.closed().is_some());
    assert!((1.0..2.0).contains(&reached("socketio.max_payload")), "{}", reached("socketio.max_payload"));
}

/// Each refusal over HTTP that follows from an option counts once, by the option's name.
#[test]
fn requests_beyond_a_limit_are_counted_at_every_place_that_refuses_them() {
    let (begins, has_begun) = std::sync::mpsc::channel();
    let page = move || {
        begins.send(()).expect("the test waits");
        std::future::pending::<()>()
    };
    let pages = axum::Router::new().route("/waits", axum::routing::get(page));
    let key = fanfare::ApiKey::new("test", "0123456789abcdef").expect("a key");
    let config = Config {
        pages_outstanding_max: 1,
        api_keys: vec![key],
        head_timeout: Duration::from_millis(300),
        limits: Limits { quotas: Quotas::NONE, room_message_bytes_max: 20_000, ..Limits::default() },
        ..limited(Quotas::NONE)
    };
    let server = Server::of(support::native::builder(config).fallback(pages));
    let address = server.address;
    let long = "x".repeat(200 << 10);
    let send = |text: &str, status: u16| {
        let mut socket = connect(address);
        let _ = socket.write_all(text.as_bytes()); // it may be refused before all of it is written
        let answer = response(&mut socket);
        assert_eq!(answer.status(), status, "{}{}", answer.head, answer.body);
        answer
    };
    let body = |path: &str| {
        let key = "Authorization: Bearer 0123456789abcdef\r\nContent-Type: application/json\r\n";
        format!("POST {path} HTTP/1.1\r\nHost: x\r\n{key}Content-Length: {}\r\n\r\n{long}", long.len())
    };
    for path in ["/api/v1/publish", "/v1/send", "/v1/poll", "/v1/sse"] {
        let refused = send(&body(path), 413);
        let is_named = refused.body.contains("limits.message_bytes_max") || path == "/v1/sse";
        assert!(is_named, "{path}: {}", refused.body);
    }
    let head = format!("GET / HTTP/1.1\r\nHost: x\r\nX-Long: {long}\r\n\r\n");
    send(&head[..70 << 10], 431);
    // The second head of a connection is read by another parser.
    let mut kept = connect(address);
    kept.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").expect("written");
    assert_eq!(response(&mut kept).status(), 200);
    let _ = kept.write_all(&head.as_bytes()[..70 << 10]);
    assert_eq!(response(&mut kept).status(), 431);
    send("GET / HTTP/1.1\r\nHost", 408);
    let poller = support::engine::Poller::open(&server);
    assert_eq!(poller.ask("POST", &format!("4{long}")).status(), 413);
    let mut first = connect(address);
    first.write_all(b"GET /waits HTTP/1.1\r\nHost: x\r\n\r\n").expect("written");
    has_begun.recv_timeout(support::DEADLINE).expect("the first page takes its place");
    let page = get(connect(address), "/other");
    assert_eq!(page.status(), 503);
    assert!(page.body.contains("limits.pages_outstanding_max"), "{}", page.body);
    drop(kept);
    let rows = [
        ("message_bytes_max", 4.0),
        ("head_bytes_max", 2.0),
        ("head_timeout", 1.0),
        ("socketio.max_payload", 1.0),
        ("pages_outstanding_max", 1.0),
    ];
    // A connection that ends with its refusal counts it then.
    let began = std::time::Instant::now();
    loop {
        let scraped = scrape(address);
        let found =
            rows.map(|(limit, _)| (limit, scraped.get(&format!("fanfare_limits_reached_total{{limit={limit:?}}}"))));
        if found == rows {
            break;
        }
        assert!(began.elapsed() < support::DEADLINE, "{found:?}");
    }
}

#[test]
fn polls_have_a_rate_of_their_own() {
    let server = Server::native(limited(Quotas { polls_per_connection: per_hour(3), ..Quotas::NONE }));
    let mut other = Client::connected(server.address);
    other.follow("chat:a");
    let mut poller = Poller::connect(server.address, json!({}));
    let subscribe = json!({"type": "subscribe", "id": 1, "channel": "chat:a"});
    assert_eq!(poller.send(json!([subscribe]))[0]["type"], "subscribed");
    // The `connect` was the first of the three.
    for _ in 0..2 {
        poller.poll(0);
    }
    let refused = post(server.address, "/v1/poll", &poller.poll_body(0));
    assert_eq!(refused.status(), 429, "{}", refused.body);
    assert!(refused.body.contains("(limits.polls_per_connection)"), "{}", refused.body);
    assert!(refused.header("retry-after").is_some(), "{}", refused.head);
    let reached = scrape(server.address).get("fanfare_limits_reached_total{limit=\"polls_per_connection\"}");
    assert!((1.0..2.0).contains(&reached), "{reached}");
    // Nobody else pays, and what it sends has other rates.
    assert_eq!(poller.send(json!([publish(1)])).remove(0)["type"], "published");
    Poller::connect(server.address, json!({})).poll(0);
    // Without the rate it goes on where it was.
    server.running().reload_limits(&limited(Quotas::NONE));
    assert_eq!(poller.message()["type"], "message");
}

/// The GETs of Socket.IO have the same one, and each session its own.
#[test]
fn the_gets_of_a_client_of_socketio_that_polls_have_the_rate_of_polls() {
    let server = Server::native(limited(Quotas { polls_per_connection: per_hour(10), ..Quotas::NONE }));
    let (poller, _) = support::engine::Poller::enter(&server);
    poller.post(r#"42["join-room","a"]"#);
    let mut n = 0;
    let refused = loop {
        n += 1;
        poller.post(&format!(r#"42["message",{{"n":{n}}}]"#)); // it hears itself
        let answer = poller.ask("GET", "");
        if answer.status() != 200 {
            break answer;
        }
        assert!(n <= 10 && answer.body.contains("\"message\""), "{}", answer.body);
    };
    assert_eq!(refused.status(), 429, "{}{}", refused.head, refused.body);
    assert!(refused.body.contains("(limits.polls_per_connection)"), "{}", refused.body);
    assert!(refused.header("retry-after").is_some(), "{}", refused.head);
    let reached = scrape(server.address).get("fanfare_limits_reached_total{limit=\"polls_per_connection\"}");
    assert!((1.0..2.0).contains(&reached), "{reached}");
    support::engine::Poller::enter(&server);
    // Its packets wait for it.
    server.running().reload_limits(&limited(Quotas::NONE));
    let began = std::time::Instant::now();
    poller.post(r#"42["message",{"n":0}]"#);
    let packets = loop {
        let answer = poller.ask("GET", "");
        if answer.status() == 200 {
            break answer.body;
        }
        assert!(began.elapsed() < support::DEADLINE, "it has no rate any more");
    };
    assert!(packets.contains(&format!("\"n\":{n}")), "{packets}");
}

#[test]
fn under_overload_new_connections_are_refused_and_those_that_live_are_served() {
    let server = Server::native(limited(Quotas::NONE));
    let mut living = Client::connected(server.address);
    living.follow("chat:a");
    let mut poller = Poller::connect(server.address, json!({}));
    server.running().reload_limits(&Config { memory_max: 1, ..limited(Quotas::NONE) });
    // The memory is looked at once a second.
    let began = std::time::Instant::now();
    let is_refused = || get(connect(server.address), "/").status() == 503;
    while !is_refused() {
        assert!(began.elapsed() < support::DEADLINE, "the memory is never too much");
    }
    let page = get(connect(server.address), "/");
    assert!(page.body.contains("(limits.memory_max)") && page.header("retry-after").is_some(), "{}", page.body);
    assert_eq!(Client::native(server.address).closed(), Some(4004));
    let refused = post(server.address, "/v1/poll", &json!({"type": "connect", "id": 1}));
    assert_eq!((refused.status(), refused.body.contains("\"overloaded\"")), (503, true), "{}", refused.body);
    let mut stream = Stream::by(Way::First, server.address, "/v1/sse", "");
    assert_eq!(stream.status(), 200, "an event source gives up at any other status");
    assert!(stream.rest().contains("overloaded"));
    // Who is connected stays, also a client that polls, and probes and figures are served.
    assert_eq!(living.ask("publish", publish(1))["type"], "published");
    assert_eq!(poller.send(json!([publish(2)])).remove(0)["type"], "published");
    assert_eq!(get(connect(server.address), "/healthz").status(), 200);
    let refusals = scrape(server.address).get("fanfare_connections_refused_total{reason=\"memory_max\"}");
    assert!(refusals >= 4.0, "{refusals}");
    server.running().reload_limits(&limited(Quotas::NONE));
    while is_refused() {
        assert!(began.elapsed() < support::DEADLINE, "it stays overloaded");
    }
    Client::connected(server.address);
}

/// A protocol that holds its shard up when a connection opens, as an endless loop in a handler on a shard would.
struct HoldsUp(Echo);

impl Protocol for HoldsUp {
    fn open(&self, place: &Place, request: Option<&Arc<RequestInfo>>, actions: &mut Actions) -> Box<dyn Conversation> {
        let began = std::time::Instant::now();
        while began.elapsed() < 4 * LAG {
            std::thread::yield_now();
        }
        self.0.open(place, request, actions)
    }

    fn encode_push(&self, push: &Push, now: Now, out: &mut Vec<u8>) -> Encoded {
        self.0.encode_push(push, now, out)
    }
}

const LAG: Duration = Duration::from_millis(100);

#[test]
fn a_shard_that_is_late_is_overload_until_it_takes_its_turns_again() {
    let config = |overload_lag| Config { overload_lag, ..limited(Quotas::NONE) };
    let builder = support::native::builder(config(Duration::ZERO)).protocol("/hold", HoldsUp(Echo::default()));
    let server = Server::of(builder);
    let address = server.address;
    let mut living = Client::connected(address);
    living.follow("chat:a");
    // One shard is late; new connections are refused on all of them.
    let hold_up = || drop(Client::open(address, "/hold"));
    let is_refused = || get(connect(address), "/").status() == 503;
    hold_up();
    assert!(!is_refused(), "zero: never");
    server.running().reload_limits(&config(LAG));
    let began = std::time::Instant::now();
    loop {
        // It is refused itself while the overload lasts.
        let mut socket = connect(address);
        socket.write_all(&upgrade(address, "/hold", &[], &[])).expect("written");
        let _ = support::head(&mut socket);
        if is_refused() {
            break;
        }
        assert!(began.elapsed() < support::DEADLINE, "a late shard is no overload");
    }
    assert_eq!(living.ask("publish", publish(1))["type"], "published", "who is connected stays");
    assert_eq!(get(connect(address), "/healthz").status(), 200);
    let refusals = scrape(address).get("fanfare_connections_refused_total{reason=\"overload_lag\"}");
    assert!(refusals >= 1.0, "{refusals}");
    // A loaded machine may be late again and again.
    server.running().reload_limits(&config(Duration::ZERO));
    while is_refused() {
        assert!(began.elapsed() < support::DEADLINE, "it stays overloaded");
    }
    Client::connected(address);
}

struct Served {
    _running: Running,
    _runtime: tokio::runtime::Runtime,
    address: SocketAddr,
}

/// A server whose tokens are the names of their users.
fn of_users(quotas: Quotas) -> Served {
    let runtime = runtime();
    let identify = async |token: Option<Token>| {
        Ok::<_, fanfare::Refusal>(token.map_or(Identity::anonymous(), |token| Identity::user(token.as_str())))
    };
    let builder = Fanfare::builder(()).config(limited(quotas)).on_connect(identify);
    let running = {
        let _on = runtime.enter();
        let server =
            builder.protocol("/v1/ws", Native::default().heartbeat_ms(600_000)).build().expect("good settings");
        server.start(&["127.0.0.1:0".parse().expect("an address")]).expect("a free port")
    };
    let address = running.tcp_address().expect("TCP");
    Served { _running: running, _runtime: runtime, address }
}

#[test]
fn a_user_has_so_many_connections_over_all_transports() {
    let served = of_users(Quotas { connections_per_user_max: 2, ..Quotas::NONE });
    let address = served.address;
    let mut first = Client::native(address);
    first.hello(json!({"token": "ada"}));
    let _second = Poller::connect(address, json!({"token": "ada"}));
    let option = "connections_per_user_max";
    let refused = Client::native(address).ask("connect", json!({"token": "ada"}));
    assert_limited(&refused, "too_many_connections", option);
    let connect = json!({"type": "connect", "id": 1, "token": "ada"});
    let poll = post(address, "/v1/poll", &connect);
    let answer = &poll.body;
    assert!(poll.status() == 429 || answer.contains("too_many_connections"), "{} {answer}", poll.head);
    for path in ["/v1/sse", "/v1/stream"] {
        let body = json!({"type": "connect", "id": 1, "token": "ada"}).to_string();
        let mut stream = Stream::post(address, path, &body);
        assert_eq!(stream.status(), 200, "{path}: it will pass");
        let rest = stream.rest();
        assert!(rest.contains("overloaded") && !rest.contains("\"connected\""), "{path}: {rest}");
    }
    let headers = "Authorization: Bearer ada\r\n";
    let mut events = Stream::by(Way::First, address, "/events?channel=chat:a", headers);
    assert_eq!(events.status(), 200);
    assert!(events.rest().contains("retry:"));
    // Others come in, and one that leaves makes room.
    Client::native(address).hello(json!({"token": "bob"}));
    Client::native(address).hello(json!({}));
    assert_eq!(first.ask("disconnect", json!({}))["type"], "result");
    assert!(first.closed().is_some());
    Client::native(address).hello(json!({"token": "ada"}));
    assert!(scrape(address).get(&format!("fanfare_limits_reached_total{{limit=\"{option}\"}}")) >= 4.0);
}

#[test]
fn the_connections_of_a_user_share_a_rate() {
    let served = of_users(Quotas { messages_per_user: per_hour(8), ..Quotas::NONE });
    let mut taken = 0;
    for _ in 0..4 {
        let mut client = Client::native(served.address);
        client.hello(json!({"token": "ada"}));
        let (count, refused) = until_refused(|command| client.ask("publish", command));
        taken += count;
        assert_limited(&refused, "rate_limited", "messages_per_user");
    }
    assert!((8..=8 + support::shards() as u32).contains(&taken), "{taken}");
}

fn from(address: SocketAddr, client: &str) -> Client {
    let mut socket = connect(address);
    socket.write_all(&upgrade(address, "/", &[], &[("X-Forwarded-For", client)])).expect("it reads");
    assert_eq!(response(&mut socket).status(), 101);
    Client::of(socket)
}

fn get(mut socket: TcpStream, path: &str) -> Response {
    write!(socket, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").expect("it reads");
    response(&mut socket)
}

#[test]
fn connections_that_come_too_fast_from_one_address_are_asked_to_come_back() {
    let new_connections = NewConnections { in_all: None, per_address: per_hour(2) };
    let trusted_proxies = vec!["loopback".parse().expect("a proxy")];
    let server = Server::native(Config { new_connections, trusted_proxies, ..limited(Quotas::NONE) });
    let (one, other) = ("192.0.2.1", "192.0.2.2");
    let join = |client: &mut Client| {
        client.text(&support::join("ada", "a"));
        client.until("room_state");
    };
    let mut living: Vec<Client> = (0..2).map(|_| from(server.address, one)).collect();
    living.iter_mut().for_each(join);
    living.remove(1).close();
    for _ in 0..3 {
        assert_eq!(from(server.address, one).closed(), Some(4004), "it came back at once");
    }
    // Sessions that poll have as many besides.
    let body = |attempt: u32| json!({"type": "connect", "id": 1, "attempt": format!("attempt number {attempt}")});
    let poll = |attempt: u32| {
        let mut socket = connect(server.address);
        let header = format!("X-Forwarded-For: {one}\r\n");
        let request = support::polls::request("POST", "/v1/poll", &header, &body(attempt).to_string());
        socket.write_all(request.as_bytes()).expect("it reads");
        response(&mut socket)
    };
    assert_eq!((poll(1).status(), poll(2).status(), poll(2).status()), (200, 200, 200), "the last one is a repeat");
    let refused = poll(3);
    assert_eq!(refused.status(), 429, "{}", refused.body);
    assert!(refused.body.contains("limits.new_connections_per_address"), "{}", refused.body);
    assert!(refused.header("retry-after").is_some_and(|after| after.parse::<u64>().is_ok_and(|s| s > 0)));
    // Others do not pay, and who is connected stays.
    let mut newcomer = from(server.address, other);
    join(&mut newcomer);
    newcomer.say("hello");
    living[0].until("message");
    let refusals =
        scrape(server.address).get("fanfare_connections_refused_total{reason=\"new_connections_per_address\"}");
    assert!((4.0..6.0).contains(&refusals), "{refusals}");
}

#[test]
fn connections_that_come_too_fast_in_all_are_asked_to_come_back_and_probes_are_served() {
    let new_connections = NewConnections { in_all: per_hour(2), per_address: None };
    let server = Server::native(Config { new_connections, ..limited(Quotas::NONE) });
    let mut living: Vec<Client> = (0..2).map(|_| Client::connected(server.address)).collect();
    assert_eq!(Client::native(server.address).closed(), Some(4004));
    let page = get(connect(server.address), "/");
    assert_eq!(page.status(), 429, "{}", page.body);
    assert!(page.body.contains("(limits.new_connections)"), "{}", page.body);
    assert!(page.header("retry-after").is_some());
    assert_eq!(get(connect(server.address), "/healthz").status(), 200);
    let mut stream = Stream::by(Way::First, server.address, "/v1/sse", "");
    assert_eq!(stream.status(), 200, "an event source gives up at any other status");
    assert!(stream.rest().contains("overloaded"));
    for client in &mut living {
        assert_eq!(client.ask("publish", publish(1))["type"], "published");
    }
    // Other rates are in force at once.
    let mut config = limited(Quotas { messages_per_connection: per_hour(1), ..Quotas::NONE });
    config.new_connections = NewConnections { in_all: None, per_address: None };
    server.running().reload_limits(&config);
    let mut late = Client::native(server.address);
    let connected = late.hello(json!({}));
    let (taken, refused) = until_refused(|command| late.ask("publish", command));
    assert!(taken <= 1 || connected["limits"].get("message_rate").is_none(), "{connected}");
    assert_limited(&refused, "rate_limited", "messages_per_connection");
}
