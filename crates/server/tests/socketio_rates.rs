//! Clients above their rate that cannot be refused, over real sockets: they are not read for a while, everything that
//! they have sent arrives once and in its order while they stay, and nobody else waits.
//!
//! Most rates have windows of an hour: a client stands still there, until the test puts other limits in force.

mod support;

use fanfare::hub::{Limits, Quotas, Rate};
use fanfare::{AdminOn, ApiKey, Chat, Config, Fanfare, SocketIoConfig};
use serde_json::Value;
use std::io::Write as _;
use std::net::Shutdown;
use std::time::{Duration, Instant};
use support::engine::Poller;
use support::scrape::scrape;
use support::{Client, DEADLINE, Frame, Server, config, connect, response, socketio};

const HOUR_MS: u64 = 3_600_000;
const API_KEY: &str = "0123456789abcdef";
const LIMIT: &str = "messages_per_connection";

fn limited(rate: Option<Rate>) -> Config {
    let quotas = Quotas { messages_per_connection: rate, ..Quotas::NONE };
    Config {
        limits: Limits { quotas, pong_timeout_ms: 600_000, ..config().limits },
        socketio: SocketIoConfig { enabled: true, ..SocketIoConfig::default() },
        api_keys: vec![ApiKey::new("operator", API_KEY).expect("a key")],
        admin: AdminOn::MainPort,
        ..config()
    }
}

/// Ten at once, and no more.
fn ten() -> Config {
    limited(Some(Rate::new(10, HOUR_MS)))
}

/// The server pings ten times a second, and waits so long for the answer.
fn beating(rate: Rate, pong_timeout_ms: u64) -> Config {
    let config = limited(Some(rate));
    let socketio = SocketIoConfig { ping_interval: Duration::from_millis(100), ..config.socketio.clone() };
    let limits = Limits { pong_timeout_ms, ..config.limits.clone() };
    Config { socketio, limits, ..config }
}

/// Who stood still goes on.
fn unlimited(server: &Server) {
    server.running().reload_limits(&limited(None));
}

fn join(room: &str) -> String {
    format!(r#"42["join-room","{room}"]"#)
}

fn message(number: usize) -> String {
    format!(r#"42["message",{{"number":{number}}}]"#)
}

/// A body of a POST.
fn payload(packets: impl IntoIterator<Item = String>) -> String {
    packets.into_iter().collect::<Vec<_>>().join("\u{1e}")
}

/// Somebody in the room who reads what is said there.
struct Reader(Client);

impl Reader {
    fn join(server: &Server, room: &str) -> Reader {
        let (mut client, _) = socketio::enter(server);
        socketio::join(&mut client, room);
        Reader(client)
    }

    /// The next message with a number.
    fn next(&mut self) -> usize {
        loop {
            let packet = socketio::text(&mut self.0);
            if packet == "2" {
                self.0.text("3");
                continue;
            }
            let event: Value = serde_json::from_str(packet.strip_prefix("42").expect(&packet)).expect("JSON");
            if let Some(number) = event[1]["number"].as_u64() {
                return number as usize;
            }
        }
    }

    /// Exactly these, in their order.
    #[track_caller]
    fn hears(&mut self, numbers: std::ops::Range<usize>) {
        for number in numbers {
            assert_eq!(self.next(), number);
        }
    }
}

fn figure(server: &Server, name: &str) -> f64 {
    scrape(server.address).get(name)
}

/// How often a client came to its rate.
fn reached(server: &Server) -> f64 {
    figure(server, &format!("fanfare_limits_reached_total{{limit=\"{LIMIT}\"}}"))
}

#[track_caller]
fn until(mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < DEADLINE, "it never happens");
        std::thread::yield_now();
    }
}

fn inspected(server: &Server, client: &str) -> Value {
    let mut socket = connect(server.address);
    let head = format!("GET /inspect?client={client} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {API_KEY}\r\n\r\n");
    socket.write_all(head.as_bytes()).expect("it reads");
    serde_json::from_str(&response(&mut socket).body).expect("JSON")
}

#[test]
fn three_thousand_events_above_a_rate_arrive_all_over_a_websocket_and_by_polling() {
    // 300 at once, and a thousand a second.
    let server = Server::native(limited(Some(Rate::new(300, 300))));
    let mut reader = Reader::join(&server, "a");
    let (mut sender, _) = socketio::enter(&server);
    let mut drained = sender.socket.try_clone().expect("a socket");
    let sink = std::thread::spawn(move || std::io::copy(&mut drained, &mut std::io::sink()));
    sender.text(&join("a"));
    (0..3_000).for_each(|number| sender.text(&message(number)));
    reader.hears(0..3_000);
    assert!(reached(&server) >= 1.0);
    sender.socket.shutdown(Shutdown::Both).expect("ours to end");
    let _ = sink.join();

    let (poller, _) = Poller::enter(&server);
    let packets = [join("a")].into_iter().chain((3_000..6_000).map(message));
    std::thread::scope(|scope| {
        scope.spawn(|| while !poller.poll().contains("\"number\":5999,") {});
        poller.post(&payload(packets));
        reader.hears(3_000..6_000);
    });
}

#[test]
fn a_client_above_its_rate_stands_still_alone_and_goes_on_where_it_stood() {
    let server = Server::native(ten());
    let mut reader = Reader::join(&server, "a");
    let (mut sender, id) = socketio::enter(&server);
    sender.text(&join("a"));
    (0..100).for_each(|number| sender.text(&message(number)));
    // A join is two commands, and one command is above the rate.
    reader.hears(0..9);
    until(|| inspected(&server, &id)["sessions"][0]["throttled_by"] == LIMIT);
    assert_eq!(inspected(&server, &id)["sessions"][0]["paused"], true);
    let event = &inspected(&server, &id)["events"][0];
    assert_eq!((&event["type"], &event["option"]), (&"throttled".into(), &LIMIT.into()), "{event}");
    assert_eq!(reached(&server), 1.0);
    // Others are served.
    let (mut other, _) = socketio::enter(&server);
    other.text(&join("a"));
    other.text(&message(1_000));
    assert_eq!(reader.next(), 1_000);
    unlimited(&server);
    reader.hears(9..100);
    sender.text(&message(100));
    reader.hears(100..101);
    assert_eq!(reached(&server), 1.0, "once for the whole stall");
    assert_eq!(inspected(&server, &id)["sessions"][0]["throttled_by"], Value::Null);
}

#[test]
fn a_chat_client_stands_still_too_and_loses_nothing() {
    let server = Server::of(Fanfare::builder(()).config(ten()).protocol("/", Chat::default().heartbeat_ms(600_000)));
    let mut reader = Client::join(server.address, "bob", "a");
    let mut chat = Client::join(server.address, "ada", "a");
    (0..50).for_each(|number| chat.say(&number.to_string()));
    chat.text(r#"{"type":"leave"}"#);
    chat.text(&support::join("ada", "b"));
    chat.say("elsewhere");
    let first = reader.until("message")["content"].clone();
    assert_eq!(first, "0");
    until(|| reached(&server) == 1.0);
    unlimited(&server);
    for number in 1..50 {
        assert_eq!(reader.until("message")["content"], number.to_string());
    }
    assert_eq!(reader.until("leave")["userId"], "ada");
    while chat.until("message")["content"] != "elsewhere" {}
}

#[test]
fn a_post_of_ten_thousand_packets_is_answered_and_taken_in_whole() {
    let server = Server::native(ten());
    let mut reader = Reader::join(&server, "a");
    let (poller, _) = Poller::enter(&server);
    let all = |numbers: std::ops::Range<usize>| payload(numbers.map(message));
    poller.post(&format!("{}\u{1e}{}", join("a"), all(0..10_000)));
    // The client may post again: what comes later waits behind.
    poller.post(&all(10_000..10_010));
    reader.hears(0..9);
    until(|| reached(&server) == 1.0);
    // Together they have no more bytes than one may have: this one is answered when it is taken in.
    let filler = "x".repeat(900_000);
    let mut large = connect(server.address);
    let body = format!(r#"42["message",{{"number":10010,"filler":"{filler}"}}]"#);
    let head = format!(
        "POST /socket.io/?{} HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
        poller.query(),
        body.len()
    );
    large.write_all(head.as_bytes()).expect("it reads");
    large.write_all(body.as_bytes()).expect("it reads");
    large.set_nonblocking(true).expect("a socket");
    let (mut other, _) = socketio::enter(&server);
    other.text(&join("a"));
    other.text(&message(20_000));
    assert_eq!(reader.next(), 20_000);
    let none = large.peek(&mut [0]).expect_err("there is no answer");
    assert_eq!(none.kind(), std::io::ErrorKind::WouldBlock);
    large.set_nonblocking(false).expect("a socket");
    unlimited(&server);
    std::thread::scope(|scope| {
        // It reads its own messages: otherwise its outbox fills, and it is not read for that.
        scope.spawn(|| while !poller.poll().contains("\"number\":10010,") {});
        reader.hears(9..10_011);
        let answer = response(&mut large);
        assert_eq!((answer.status(), &*answer.body), (200, "ok"));
    });
}

#[test]
fn heartbeats_that_a_client_above_its_rate_does_not_answer_do_not_end_it() {
    let server = Server::native(beating(Rate::new(10, HOUR_MS), 300));
    let (mut sender, _) = socketio::enter(&server);
    sender.text(&join("a"));
    (0..100).for_each(|number| sender.text(&message(number)));
    until(|| reached(&server) == 1.0);
    // Twice the time after which silence is an end.
    let mut pings = 0;
    while pings < 8 {
        pings += usize::from(socketio::text(&mut sender) == "2");
    }
    assert_eq!(server.open().1, 1, "its session lives");
    unlimited(&server);
    // It goes on, and then its silence is an end.
    let mut last = Vec::new();
    loop {
        match sender.next() {
            Frame::Text(text) if text != "2" => last.push(text),
            Frame::Text(_) => {}
            _ => break,
        }
    }
    assert!(last.iter().any(|packet| packet.contains("\"number\":99,")), "everything was done before that");
}

/// Its pongs stand behind its events, and come too late.
#[test]
fn a_client_that_polls_lives_by_its_gets_while_its_packets_wait() {
    // 40 a second, so the events take longer than silence may last.
    let server = Server::native(beating(Rate::new(10, 250), 1_500));
    let (poller, _) = Poller::enter(&server);
    poller.post(&payload([join("a")].into_iter().chain((0..150).map(message))));
    let mut is_done = false;
    while !is_done {
        for packet in poller.poll().split('\u{1e}') {
            is_done |= packet.contains("\"number\":149,");
            if packet == "2" {
                poller.post("3");
            }
        }
    }
    assert!(reached(&server) >= 1.0);
    until(|| server.open().1 == 0);
}

#[test]
fn a_client_that_polls_and_is_gone_does_not_live_as_long_as_its_packets_wait() {
    // It stands still for an hour, or goes on twice a second for as long.
    for rate in [Rate::new(10, HOUR_MS), Rate::new(10, 5_000)] {
        let server = Server::native(beating(rate, 300));
        let (poller, _) = Poller::enter(&server);
        poller.post(&payload([join("a")].into_iter().chain((0..7_200).map(message))));
        until(|| server.open().1 == 0);
        assert!(poller.is_over());
    }
}

#[test]
fn a_post_costs_more_than_its_bytes_and_the_next_one_is_answered_when_there_is_room() {
    let config = limited(Some(Rate::new(10, 1_000)));
    let limits = Limits { room_message_bytes_max: 40 << 10, ..config.limits.clone() };
    let server = Server::native(Config { limits, ..config });
    let mut reader = Reader::join(&server, "a");
    let (poller, _) = Poller::enter(&server);
    poller.post(&payload([join("a")].into_iter().chain((0..60).map(message))));
    // Two minutes for these.
    poller.post(&payload((0..1_200).map(|_| r#"42["x"]"#.to_owned())));
    // Each of the others is one byte and a task: there is room for one of them.
    poller.post("3");
    let mut next = connect(server.address);
    let head = format!(
        "POST /socket.io/?{} HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 1\r\n\r\n3",
        poller.query()
    );
    next.write_all(head.as_bytes()).expect("it reads");
    next.set_nonblocking(true).expect("a socket");
    reader.hears(0..12);
    let none = next.peek(&mut [0]).expect_err("there is no answer");
    assert_eq!(none.kind(), std::io::ErrorKind::WouldBlock);
    next.set_nonblocking(false).expect("a socket");
    let answer = response(&mut next);
    assert_eq!((answer.status(), &*answer.body), (200, "ok"));
    reader.hears(12..60);
    // A POST without a packet does not wait to be refused.
    assert_eq!(poller.ask("POST", "").status(), 400);
    assert!(poller.is_over());
}

#[test]
fn a_client_that_goes_while_it_stands_still_is_forgotten() {
    let server = Server::native(ten());
    let mut reader = Reader::join(&server, "a");
    let begun = server.open();
    let (mut sender, _) = socketio::enter(&server);
    sender.text(&join("a"));
    (0..100).for_each(|number| sender.text(&message(number)));
    sender.text("41");
    reader.hears(0..9);
    drop(sender);
    // By polling: the packet to close stands behind the others.
    let (poller, _) = Poller::enter(&server);
    poller.post(&payload([join("a")].into_iter().chain((100..200).map(message))));
    reader.hears(100..109);
    poller.post("1");
    // Two GETs at a time end a session at once.
    let (gone, _) = Poller::enter(&server);
    gone.post(&payload([join("b")].into_iter().chain((0..100).map(message))));
    until(|| reached(&server) == 3.0);
    while !gone.poll().contains("\"number\":8,") {}
    let mut waiting = gone.wait();
    let mut statuses = [gone.ask("GET", "").status(), response(&mut waiting).status()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 400]);
    assert!(gone.is_over());
    unlimited(&server);
    until(|| server.open() == begun);
}

#[test]
fn a_client_goes_over_to_a_websocket_while_it_stands_still() {
    let server = Server::native(ten());
    let mut reader = Reader::join(&server, "a");
    let (poller, _) = Poller::enter(&server);
    poller.post(&payload([join("a")].into_iter().chain((0..100).map(message))));
    reader.hears(0..9);
    let mut client = poller.upgraded();
    (100..200).for_each(|number| client.text(&message(number)));
    let (mut other, _) = socketio::enter(&server);
    other.text(&join("a"));
    other.text(&message(1_000));
    assert_eq!(reader.next(), 1_000);
    unlimited(&server);
    reader.hears(9..200);
    client.text(&message(200));
    reader.hears(200..201);
}

#[test]
fn the_server_stops_while_clients_stand_still() {
    let server = Server::native(ten());
    let mut reader = Reader::join(&server, "a");
    let (mut sender, _) = socketio::enter(&server);
    sender.text(&join("a"));
    (0..100).for_each(|number| sender.text(&message(number)));
    reader.hears(0..9);
    let (poller, _) = Poller::enter(&server);
    poller.post(&payload([join("a")].into_iter().chain((100..200).map(message))));
    reader.hears(100..109);
    let stopping = std::thread::spawn(move || server.drain());
    assert!(sender.closed().is_some());
    assert!(reader.0.closed().is_some());
    drop((sender, reader));
    stopping.join().expect("it stops");
}
