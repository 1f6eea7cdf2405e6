//! Poll sessions: every numbered rule of polls and sends, over raw sockets. Each request has a connection of its own,
//! so with several shards it lands on any of them.

mod support;

use fanfare::{Config, Identity, Native, Refusal, Token};
use fanfare_fault_proxy::{FaultProxy, Faults};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use support::polls::{Poller, ask, json_of, messages, post, replies, request};
use support::{Client, Server, config, connect, response};

fn subscribed(channel: &str) -> Value {
    json!({"subscribe": [{"channel": channel}]})
}

/// A session that has had the answers to its `connect`, and polls no message.
fn poller(server: &Server, channel: &str) -> Poller {
    let mut poller = Poller::connect(server.address, subscribed(channel));
    assert_eq!(poller.message()["type"], "subscribed");
    poller
}

fn publish(channel: &str, data: impl Into<Value>) -> Value {
    json!({"type": "publish", "id": 7, "channel": channel, "data": data.into()})
}

fn data(messages: &[Value]) -> Vec<Value> {
    messages.iter().filter(|message| message["type"] == "message").map(|message| message["data"].clone()).collect()
}

/// Polls twice with the same number: the connection of the poll that is answered empty, and that of the one that waits.
fn replaced_and_waiting(poller: &Poller) -> (TcpStream, TcpStream) {
    let mut polls = [connect(poller.address), connect(poller.address)];
    for socket in &mut polls {
        ask(socket, "/v1/poll", &poller.poll_body(25_000));
        socket.set_read_timeout(Some(Duration::from_millis(10))).expect("a socket can");
    }
    let is_answered = |socket: &TcpStream| socket.peek(&mut [0]).is_ok();
    let began = Instant::now();
    while !polls.iter().any(is_answered) {
        assert!(began.elapsed() < support::DEADLINE, "none is answered");
    }
    let [first, second] = polls.map(support::patient);
    first.set_nonblocking(true).expect("a socket can");
    let is_first = is_answered(&first);
    first.set_nonblocking(false).expect("a socket can");
    if is_first { (first, second) } else { (second, first) }
}

fn code(response: &support::Response) -> (u16, String) {
    let error: Value = serde_json::from_str(&response.body).unwrap_or_else(|_| panic!("{}", response.body));
    (response.status(), error["code"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn a_session_without_a_socket_hears_and_speaks() {
    let server = Server::native(support::config());
    let mut poller = poller(&server, "chat:a");
    let mut other = Client::connected(server.address);
    other.follow("chat:a");
    assert_eq!(poller.ask("publish", json!({"channel": "chat:a", "data": "one"}))["type"], "published");
    let heard = other.until("message");
    assert_eq!((&heard["data"], &heard["from"]["client"]), (&json!("one"), &poller.connected["client"]));
    other.ask("publish", json!({"channel": "chat:a", "data": "two"}));
    let both = [poller.message(), poller.message()];
    assert_eq!(data(&both), ["one", "two"]);
}

#[test]
fn a_poll_waits_for_a_message_and_is_answered_empty_after_its_time() {
    let server = Server::native(support::config());
    let mut poller = poller(&server, "chat:a");
    let mut waits = connect(server.address);
    ask(&mut waits, "/v1/poll", &poller.poll_body(25_000));
    poller.ask("publish", json!({"channel": "chat:a", "data": 1}));
    let answer = json_of(response(&mut waits));
    assert_eq!(data(&poller.take(&answer)), [1]);
    let ack = poller.ack;
    assert_eq!(json_of(post(server.address, "/v1/poll", &poller.poll_body(1))), json!({"n": ack, "messages": []}));
}

#[test]
fn an_answer_is_had_again_byte_for_byte_until_it_is_acknowledged() {
    let server = Server::native(support::config());
    let mut poller = poller(&server, "chat:a");
    poller.ask("publish", json!({"channel": "chat:a", "data": 1}));
    let body = poller.poll_body(20_000);
    let first = post(server.address, "/v1/poll", &body).body;
    poller.ask("publish", json!({"channel": "chat:a", "data": 2}));
    for _ in 0..3 {
        assert_eq!(post(server.address, "/v1/poll", &body).body, first);
    }
    poller.take(&serde_json::from_str(&first).expect("JSON"));
    assert_eq!(data(&poller.poll(20_000)), [2], "what has come since is in the next answer");
}

#[test]
fn an_answer_that_is_lost_on_its_way_is_had_again() {
    let server = Server::native(support::config());
    let mut poller = poller(&server, "chat:a");
    let proxy = FaultProxy::start(server.address, |_| Faults::answer_lost()).expect("a proxy");
    for round in 0..5 {
        let send = poller.send_body(json!([publish("chat:a", round)]));
        let lost = |path, body: &Value| {
            let mut socket = connect(proxy.address);
            ask(&mut socket, path, body);
            assert_eq!(std::io::Read::read(&mut socket, &mut [0; 64]).unwrap_or(0), 0, "the answer is lost");
        };
        lost("/v1/send", &send);
        let answer = json_of(post(server.address, "/v1/send", &send));
        assert_eq!(replies(&answer)[0]["offset"], round + 1, "it has taken effect once");
        lost("/v1/poll", &poller.poll_body(20_000));
        assert_eq!(data(&poller.poll(20_000)), [round]);
    }
}

#[test]
fn the_lower_of_two_polls_is_answered_empty_and_never_replaces_the_higher() {
    let server = Server::native(support::config());
    let mut poller = poller(&server, "chat:a");
    poller.ask("publish", json!({"channel": "chat:a", "data": 1}));
    poller.poll(20_000);
    let lower = json!({"ticket": poller.ticket, "ack": poller.ack - 2, "wait": 25_000});
    let mut higher = connect(server.address);
    ask(&mut higher, "/v1/poll", &poller.poll_body(25_000));
    let late = json_of(post(server.address, "/v1/poll", &lower));
    assert_eq!(late, json!({"n": poller.ack - 2, "messages": []}));
    poller.ask("publish", json!({"channel": "chat:a", "data": 2}));
    assert_eq!(data(&poller.take(&json_of(response(&mut higher)))), [2]);
}

#[test]
fn a_poll_of_the_same_number_takes_the_place_of_the_one_that_waits() {
    let server = Server::native(support::config());
    let mut poller = poller(&server, "chat:a");
    let ack = poller.ack;
    let (mut replaced, mut waiting) = replaced_and_waiting(&poller);
    assert_eq!(json_of(response(&mut replaced)), json!({"n": ack, "messages": []}));
    poller.ask("publish", json!({"channel": "chat:a", "data": 1}));
    assert_eq!(data(&poller.take(&json_of(response(&mut waiting)))), [1]);
}

#[test]
fn an_answer_that_was_not_given_is_not_acknowledged() {
    let server = Server::native(support::config());
    let mut poller = poller(&server, "chat:a");
    for ack in [poller.ack + 1, (1 << 53) - 1] {
        let answer = post(server.address, "/v1/poll", &json!({"ticket": poller.ticket, "ack": ack, "wait": 0}));
        assert_eq!(code(&answer), (400, "bad_request".to_owned()), "{}", answer.body);
    }
    poller.ask("publish", json!({"channel": "chat:a", "data": 1}));
    assert_eq!(data(&poller.poll(20_000)), [1], "and nothing has changed");
}

#[test]
fn sends_take_effect_in_the_order_of_their_numbers_and_each_once() {
    let server = Server::native(support::config());
    let mut poller = poller(&server, "chat:a");
    let bodies: Vec<Value> = (1..=4).map(|n| poller.send_body(json!([publish("chat:a", n)]))).collect();
    let mut sockets: Vec<_> = bodies.iter().map(|_| connect(server.address)).collect();
    // Backwards, and some twice.
    for at in [3, 2, 1] {
        ask(&mut sockets[at], "/v1/send", &bodies[at]);
    }
    let mut again = connect(server.address);
    ask(&mut sockets[0], "/v1/send", &bodies[0]);
    let offsets: Vec<Value> =
        sockets.iter_mut().map(|socket| replies(&json_of(response(socket)))[0]["offset"].clone()).collect();
    assert_eq!(offsets, [1, 2, 3, 4]);
    ask(&mut again, "/v1/send", &bodies[1]);
    assert_eq!(replies(&json_of(response(&mut again)))[0]["offset"], 2);
    let mut heard = Vec::new();
    while heard.len() < 4 {
        heard.extend(data(&poller.poll(20_000)));
    }
    assert_eq!(heard, [1, 2, 3, 4]);
}

#[test]
fn requests_that_cross_do_not_reorder_commands() {
    let server = Server::native(support::config());
    let mut poller = poller(&server, "chat:a");
    let crossing = |number: u64| match number % 2 {
        0 => Faults { behind_the_next: Some(Duration::from_secs(30)), ..Faults::default() },
        _ => Faults::default(),
    };
    let proxy = FaultProxy::start(server.address, crossing).expect("a proxy");
    for pair in 0..4 {
        let bodies = [2 * pair, 2 * pair + 1].map(|number| poller.send_body(json!([publish("chat:a", number)])));
        let mut sockets = bodies.each_ref().map(|body| {
            let mut socket = connect(proxy.address);
            ask(&mut socket, "/v1/send", body);
            socket
        });
        for socket in &mut sockets {
            assert_eq!(response(socket).status(), 200);
        }
    }
    let mut heard = Vec::new();
    while heard.len() < 8 {
        heard.extend(data(&poller.poll(20_000)));
    }
    assert_eq!(heard, (0..8).collect::<Vec<i32>>());
}

#[test]
fn a_number_far_ahead_is_an_error_that_names_the_next_one() {
    let server = Server::native(support::config());
    let poller = poller(&server, "chat:a");
    let send = |n: u64| json!({"ticket": poller.ticket, "n": n, "commands": [publish("chat:a", 1)]});
    let answer = post(server.address, "/v1/send", &send(50));
    assert_eq!(code(&answer), (409, "out_of_order".to_owned()), "{}", answer.body);
    assert!(answer.body.contains("from 1 on"), "{}", answer.body);
}

/// Nothing that the client could do brings the answer: so the error does not ask for a repetition.
#[test]
fn a_send_whose_answer_is_not_kept_is_refused_for_good() {
    let server = Server::native(support::config());
    let mut poller = poller(&server, "chat:a");
    for number in 1..=9 {
        poller.send(json!([publish("chat:a", number)]));
    }
    let first = json!({"ticket": poller.ticket, "n": 1, "commands": [publish("chat:a", 1)]});
    let answer = post(server.address, "/v1/send", &first);
    assert_eq!(code(&answer), (503, "unknown".to_owned()), "{}", answer.body);
    assert!(answer.body.contains("\"retryable\":false"), "{}", answer.body);
    assert_eq!(answer.header("retry-after"), None, "{}", answer.head);
}

#[test]
fn the_same_attempt_leads_to_the_same_session() {
    let server = Server::native(support::config());
    let connect_body =
        |attempt: &str| json!({"type": "connect", "id": 1, "attempt": attempt, "subscribe": [{"channel": "chat:a"}]});
    let proxy = FaultProxy::start(server.address, |_| Faults::answer_lost()).expect("a proxy");
    for round in 0..4 {
        let body = connect_body(&format!("attempt {round}"));
        let mut lost = connect(proxy.address);
        ask(&mut lost, "/v1/poll", &body);
        assert_eq!(std::io::Read::read(&mut lost, &mut [0; 64]).unwrap_or(0), 0);
        let first = post(server.address, "/v1/poll", &body).body;
        assert_eq!(post(server.address, "/v1/poll", &body).body, first);
        let poller = Poller::of(server.address, &serde_json::from_str(&first).expect("JSON"));
        let other = json_of(post(server.address, "/v1/poll", &connect_body(&format!("attempt {round}x"))));
        assert_ne!(messages(&other)[0]["client"], poller.connected["client"]);
    }
    assert_eq!(server.open().0, 8, "one connection for each attempt");
}

#[test]
fn between_polls_a_session_is_present_and_its_outbox_is_bounded() {
    let limits = fanfare::hub::Limits { outbox_bytes_max: 4_000, ..config().limits };
    let config = Config { limits, rules: support::rules(1_000), ..support::config() };
    let server = Server::native(config);
    let mut poller = poller(&server, "chat:a");
    assert_eq!(poller.ask("presence_set", json!({"channel": "chat:a", "data": {}}))["type"], "result");
    let mut other = Client::connected(server.address);
    for number in 0..200 {
        other.ask("publish", json!({"channel": "chat:a", "data": format!("{number:0100}")}));
        if number % 50 == 0 {
            assert_eq!(other.ask("presence", json!({"channel": "chat:a"}))["count"], 1);
        }
    }
    let mut heard = Vec::new();
    while heard.len() < 200 {
        heard.extend(data(&poller.poll(20_000)));
    }
    assert_eq!(heard, (0..200).map(|number| format!("{number:0100}")).collect::<Vec<_>>());
}

#[test]
fn a_client_that_polls_no_more_is_gone_after_two_intervals_and_the_grace() {
    let native = Native::default().heartbeat_ms(1_000).grace_ms(500);
    let builder = fanfare::Fanfare::builder(()).config(support::config()).protocol("/v1/ws", native);
    let server = Server::of(builder);
    let mut poller = poller(&server, "chat:a");
    assert_eq!(poller.connected["ping"], 1_000);
    poller.ask("presence_set", json!({"channel": "chat:a", "data": {}}));
    let mut other = Client::native(server.address);
    other.hello(json!({"subscribe": [{"channel": "chat:a", "presence": true}]}));
    let left = loop {
        let message = other.message();
        match message["type"].as_str() {
            Some("ping") => other.text(r#"{"type":"pong"}"#),
            Some("leave") => break message,
            _ => {}
        }
    };
    assert_eq!(left["client"], poller.connected["client"]);
    let last = poller.poll(0);
    assert_eq!((&last[0]["type"], &last[0]["code"]), (&json!("disconnect"), &json!(4001)), "{last:?}");
    for (path, body) in [("/v1/poll", poller.poll_body(0)), ("/v1/send", poller.send_body(json!([])))] {
        let answer = post(server.address, path, &body);
        assert_eq!(code(&answer), (401, "not_connected".to_owned()), "{}", answer.body);
        assert!(answer.body.contains("connect again"), "{}", answer.body);
    }
}

#[test]
fn a_session_that_goes_to_a_websocket_and_back_is_followed() {
    let server = Server::native(support::config());
    let mut poller = Poller::connect(server.address, json!({"page": "p", "subscribe": [{"channel": "chat:a"}]}));
    assert_eq!(poller.message()["type"], "subscribed");
    poller.ask("publish", json!({"channel": "chat:a", "data": 1}));
    let mut socket = Client::native(server.address);
    let connected =
        socket.hello(json!({"ticket": poller.ticket, "page": "p", "subscribe": [{"channel": "chat:a", "recent": 5}]}));
    assert_eq!((&connected["session_resumed"], &connected["client"]), (&json!(true), &poller.connected["client"]));
    assert_eq!(
        data(
            &socket.until("subscribed")["publications"]
                .as_array()
                .expect("a list")
                .iter()
                .map(|it| {
                    let mut it = it.clone();
                    it["type"] = "message".into();
                    it
                })
                .collect::<Vec<_>>()
        ),
        [1]
    );
    // Its old ticket still finds it: commands go there, and polls have nothing to take.
    assert_eq!(poller.ask("publish", json!({"channel": "chat:a", "data": 2}))["offset"], 2);
    assert_eq!(socket.until("message")["data"], 2);
    let answer = post(server.address, "/v1/poll", &poller.poll_body(0));
    assert_eq!(answer.status(), 409, "{}", answer.body);
    let ticket = connected["ticket"].clone();
    let mut back = Poller::connect(server.address, json!({"ticket": ticket, "page": "p"}));
    assert_eq!(back.connected["client"], poller.connected["client"]);
    back.n = poller.n;
    assert_eq!(back.ask("publish", json!({"channel": "chat:a", "data": 3}))["offset"], 3, "the numbers go on");
}

#[test]
fn a_late_poll_of_an_earlier_connection_acknowledges_nothing_of_a_later_one() {
    let server = Server::native(support::config());
    let earlier = Poller::connect(server.address, json!({"page": "p"}));
    let connect = json!({"type": "connect", "id": 1, "page": "p", "ticket": earlier.ticket, "attempt": "the second"});
    let first = json_of(post(server.address, "/v1/poll", &connect));
    assert_eq!(first["messages"][0]["session_resumed"], true);
    // The client has lost that answer. A poll that it sent before comes late.
    assert_eq!(messages(&json_of(post(server.address, "/v1/poll", &earlier.poll_body(0)))), Vec::<Value>::new());
    assert_eq!(json_of(post(server.address, "/v1/poll", &connect)), first, "it is had again");
}

#[test]
fn a_ticket_that_is_not_valid_is_401_and_says_what_to_do() {
    let server = Server::native(support::config());
    let other = Server::native(support::config());
    let foreign = Poller::connect(other.address, json!({}));
    for ticket in ["", "garbage", &foreign.ticket] {
        let bodies = [
            ("/v1/poll", json!({"ticket": ticket, "ack": 1, "wait": 0})),
            ("/v1/send", json!({"ticket": ticket, "n": 1, "commands": []})),
        ];
        for (path, body) in bodies {
            let answer = post(server.address, path, &body);
            assert_eq!(code(&answer), (401, "unauthorized".to_owned()), "{path} {ticket:?}");
            assert!(answer.body.contains("connect again"), "{}", answer.body);
            assert_eq!(answer.header("set-cookie"), None);
        }
    }
}

#[test]
fn bad_bodies_get_one_clear_error() {
    let server = Server::native(support::config());
    let ticket = Poller::connect(server.address, json!({})).ticket;
    let of = |rest: &str| format!(r#"{{"ticket":"{ticket}",{rest}}}"#);
    let many = of(&format!(r#""n":1,"commands":[{}{{}}]"#, "{},".repeat(9_999)));
    let rows = [
        ("/v1/poll", "".to_owned(), 400, "is not JSON"),
        ("/v1/poll", "[1]".to_owned(), 400, "is not an object"),
        ("/v1/poll", of(r#""ack":1,"wait":30001"#), 400, "`wait` must be an integer from 0 to 30000, not 30001"),
        ("/v1/poll", of(r#""ack":1,"wait":-5"#), 400, "`wait` must be an integer from 0 to 30000, not -5"),
        ("/v1/poll", of(r#""ack":"1""#), 400, "`ack` must be an integer"),
        ("/v1/poll", r#"{"type":"publish","id":1}"#.to_owned(), 400, "`type` must be \\\"connect\\\""),
        ("/v1/poll", r#"{"type":"connect"}"#.to_owned(), 400, "`connect` needs an `id`"),
        ("/v1/send", of(r#""n":99999999999999999999,"commands":[]"#), 400, "`n` must be an integer"),
        ("/v1/send", of(r#""n":1,"commands":"x""#), 400, "`commands` must be an array"),
        ("/v1/send", many, 413, "exceeds the limit of 32"),
        ("/v1/send", format!("{{{}", " ".repeat(200_000)), 413, "exceeds the limit of"),
    ];
    for (path, body, status, expected) in rows {
        let mut socket = connect(server.address);
        socket.write_all(request("POST", path, "", &body).as_bytes()).expect("written");
        let answer = response(&mut socket);
        let shown = &body[..body.len().min(60)];
        assert_eq!(answer.status(), status, "{shown}: {}", answer.body);
        assert!(answer.body.contains(expected), "{shown}: {}", answer.body);
    }
    let mut poller = Poller::connect(server.address, json!({}));
    let errors = poller.send(json!([{"type": "nonsense", "id": 1}, {"type": "connect", "id": 2}, 7]));
    let codes: Vec<_> = errors.iter().map(|error| error["code"].as_str().expect("a code")).collect();
    assert_eq!(codes, ["unknown_command", "already_connected", "bad_request"]);
}

#[test]
fn methods_origins_and_preflights_are_answered_as_for_streams() {
    let server = Server::native(support::config());
    for path in ["/v1/poll", "/v1/send"] {
        let answer = |method: &str, headers: &str| {
            let mut socket = connect(server.address);
            socket.write_all(request(method, path, headers, "").as_bytes()).expect("written");
            response(&mut socket)
        };
        for method in ["GET", "PUT", "DELETE"] {
            let refused = answer(method, "");
            assert_eq!((refused.status(), refused.header("allow")), (405, Some("OPTIONS, POST")), "{path} {method}");
            let error: Value = serde_json::from_str(&refused.body).expect("an error in JSON, as every refusal here");
            assert_eq!(
                (&error["code"], refused.header("content-type")),
                (&json!("bad_request"), Some("application/json"))
            );
        }
        let preflight = answer("OPTIONS", "Origin: http://localhost\r\nAccess-Control-Request-Method: POST\r\n");
        assert_eq!(preflight.status(), 204);
        assert_eq!(preflight.header("access-control-allow-origin"), Some("http://localhost"));
        assert_eq!(preflight.header("access-control-allow-methods"), Some("OPTIONS, POST"));
        let foreign = answer("POST", "Origin: http://evil.example\r\n");
        assert_eq!((foreign.status(), foreign.header("access-control-allow-origin")), (403, None), "{path}");
        let asks = answer("OPTIONS", "Origin: http://evil.example\r\nAccess-Control-Request-Method: POST\r\n");
        assert_eq!((asks.status(), asks.header("content-type")), (403, Some("application/json")), "{path}");
    }
    let mut socket = connect(server.address);
    let headers = "Origin: http://localhost\r\n";
    let body = r#"{"type":"connect","id":1}"#;
    for _ in 0..2 {
        socket.write_all(request("POST", "/v1/poll", headers, body).as_bytes()).expect("written");
        let answer = response(&mut socket);
        assert_eq!(answer.header("access-control-allow-origin"), Some("http://localhost"));
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.status(), 200, "kept alive");
    }
}

#[test]
fn a_poll_that_waits_is_answered_when_the_server_stops() {
    let server = Server::native(support::config());
    let poller = poller(&server, "chat:a");
    let (_, mut waits) = replaced_and_waiting(&poller);
    let stopping = std::thread::spawn(move || server.drain());
    let answer = json_of(response(&mut waits));
    let last = messages(&answer);
    assert_eq!((&last[0]["type"], &last[0]["code"]), (&json!("disconnect"), &json!(4000)), "{answer}");
    stopping.join().expect("it stops without an acknowledgement");
}

#[test]
fn a_client_between_two_polls_does_not_hold_up_a_stop() {
    let server = Server::native(Config { close_timeout: Duration::from_secs(3600), ..support::config() });
    let _poller = poller(&server, "chat:a");
    let (stopped, is_stopped) = std::sync::mpsc::channel();
    let stopping = std::thread::spawn(move || {
        server.drain();
        stopped.send(()).expect("the test waits");
    });
    is_stopped.recv_timeout(support::DEADLINE).expect("it does not wait for a poll");
    stopping.join().expect("it stops");
}

#[test]
fn the_last_words_for_a_client_between_two_polls_are_kept_while_the_server_stops() {
    let server = Server::native(Config { close_timeout: Duration::from_secs(3600), ..support::config() });
    let address = server.address;
    let mut poller = poller(&server, "chat:a");
    // Its connection is kept alive.
    let mut socket = connect(address);
    ask(&mut socket, "/v1/poll", &poller.poll_body(0));
    poller.take(&json_of(response(&mut socket)));
    // This client does not leave before the test lets it.
    let mut other = Client::native(address);
    other.text(r#"{"type":"connect","id":1}"#);
    other.until("connected");
    let stopping = std::thread::spawn(move || server.drain());
    other.until("disconnect");
    ask(&mut socket, "/v1/poll", &poller.poll_body(25_000));
    let last = poller.take(&json_of(response(&mut socket)));
    assert_eq!((&last[0]["type"], &last[0]["code"]), (&json!("disconnect"), &json!(4000)), "{last:?}");
    drop(other);
    stopping.join().expect("it stops");
}

#[test]
fn long_answers_are_compressed_for_clients_that_accept_it_except_those_with_a_ticket() {
    let server = Server::native(support::config());
    let mut poller = poller(&server, "chat:a");
    let text = "long ".repeat(2_000);
    poller.ask("publish", json!({"channel": "chat:a", "data": text}));
    let asked = |path: &str, body: &Value| {
        let mut socket = connect(server.address);
        let request = request("POST", path, "Accept-Encoding: gzip\r\nConnection: close\r\n", &body.to_string());
        socket.write_all(request.as_bytes()).expect("written");
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).expect("an answer");
        let at = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        (String::from_utf8_lossy(&answer[..at]).to_ascii_lowercase(), answer[at + 4..].to_vec())
    };
    let (head, body) = asked("/v1/poll", &poller.poll_body(20_000));
    assert!(head.contains("content-encoding: gzip") && body.len() < 1_000, "{head}");
    let mut plain = String::new();
    flate2::read::GzDecoder::new(&body[..]).read_to_string(&mut plain).expect("gzip");
    assert_eq!(data(&messages(&serde_json::from_str(&plain).expect("JSON"))), [text]);
    let connect = json!({"type": "connect", "id": 1, "subscribe": [{"channel": "chat:a", "recent": 5}]});
    let (head, _) = asked("/v1/poll", &connect);
    assert!(!head.contains("content-encoding"), "{head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_and_sends_share_one_connection_of_http2() {
    let server = Server::native(support::config());
    let socket = tokio::net::TcpStream::connect(server.address).await.expect("it accepts");
    let (sender, connection) = h2::client::handshake(socket).await.expect("it speaks HTTP/2");
    tokio::spawn(connection);
    let post = async |path: &str, body: Value| {
        let mut sender = sender.clone().ready().await.expect("room");
        let request = http::Request::post(format!("http://localhost{path}")).body(()).expect("a request");
        let (response, mut send) = sender.send_request(request, false).expect("it is sent");
        send.send_data(bytes::Bytes::from(body.to_string()), true).expect("it is sent");
        let response = response.await.expect("an answer");
        let (status, mut body, mut text) = (response.status(), response.into_body(), Vec::new());
        while let Some(bytes) = body.data().await {
            text.extend_from_slice(&bytes.expect("data"));
        }
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&text));
        serde_json::from_slice::<Value>(&text).expect("JSON")
    };
    let connected = post("/v1/poll", json!({"type": "connect", "id": 1})).await;
    let mut poller = Poller::of(server.address, &connected);
    post("/v1/send", poller.send_body(json!({"type": "subscribe", "id": 2, "channel": "chat:a"}))).await;
    for number in 0..3 {
        let poll = post("/v1/poll", poller.poll_body(25_000));
        let send = poller.send_body(json!([publish("chat:a", number)]));
        let (answer, sent) = tokio::join!(poll, post("/v1/send", send));
        assert_eq!(replies(&sent)[0]["offset"], number + 1);
        assert_eq!(data(&poller.take(&answer)), [number]);
    }
    tokio::task::spawn_blocking(move || drop(server)).await.expect("it ends");
}

#[test]
fn a_server_without_streams_has_no_polls_either() {
    let server = Server::native(Config { streams: false, ..support::config() });
    for path in ["/v1/poll", "/v1/send"] {
        let answer = post(server.address, path, &json!({"type": "connect", "id": 1}));
        assert_eq!(answer.status(), 404, "{path}: {}", answer.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_application_lets_clients_in_and_ends_their_sessions() {
    let identify = async |token: Option<Token>| match token.as_ref().map(Token::as_str) {
        Some("wrong") => Err(Refusal::unauthorized("no such token")),
        Some(user) => Ok(Identity::user(user)),
        None => Ok(Identity::anonymous()),
    };
    let server = fanfare::Fanfare::builder(()).config(support::config()).on_connect(identify);
    let server = server.build().expect("good settings");
    let handle = server.handle();
    let running = server.start(&["127.0.0.1:0".parse().expect("an address")]).expect("a free port");
    let address = running.tcp_address().expect("TCP");
    let connect_body = |token: &str| json!({"type": "connect", "id": 1, "attempt": "a", "token": token});
    let poller = tokio::task::spawn_blocking(move || {
        for _ in 0..2 {
            let refused = post(address, "/v1/poll", &connect_body("wrong"));
            assert_eq!(code(&refused), (401, "unauthorized".to_owned()));
            assert!(refused.body.contains("no such token"), "{}", refused.body);
        }
        let poller = Poller::connect(address, json!({"attempt": "a", "token": "ada"}));
        assert_eq!(poller.connected["user"], "ada");
        poller
    })
    .await
    .expect("it passes");
    let whom = fanfare::hub::Whom::User(fanfare::hub::UserId("ada".into()));
    assert_eq!(handle.disconnect(whom, fanfare::hub::Disconnect::Kicked).await, Ok(1));
    tokio::task::spawn_blocking(move || {
        let mut poller = poller;
        let last = poller.poll(20_000);
        assert_eq!((&last[0]["type"], &last[0]["code"]), (&json!("disconnect"), &json!(4503)), "{last:?}");
        assert_eq!(post(address, "/v1/poll", &poller.poll_body(0)).status(), 401);
    })
    .await
    .expect("it passes");
    running.drain().await.expect("no shard failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mounted_server_answers_polls_and_sends_too() {
    let server = fanfare::Fanfare::builder(()).config(support::config()).build().expect("good settings");
    let (service, running) = server.into_service().expect("it starts");
    let app = axum::Router::new().fallback_service(service);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let serving = tokio::spawn(async move { axum::serve(listener, app).await });
    tokio::task::spawn_blocking(move || {
        let mut poller = Poller::connect(address, subscribed("chat:a"));
        assert_eq!(poller.message()["type"], "subscribed");
        poller.ask("publish", json!({"channel": "chat:a", "data": 1}));
        assert_eq!(data(&poller.poll(20_000)), [1]);
        assert_eq!(post(address, "/v1/poll", &json!({"ticket": "x", "ack": 1})).status(), 401);
    })
    .await
    .expect("it passes");
    running.drain().await.expect("no shard failed");
    serving.abort();
}

/// The ticket says whose session it is: what else a request shows is nobody's business.
#[test]
fn a_token_beside_a_ticket_has_no_effect() {
    let server = Server::native(support::config());
    let mut poller = Poller::connect(server.address, subscribed("news"));
    let body = |n: u64| json!({"ticket": poller.ticket, "n": n, "commands": publish("news", n)}).to_string();
    for (n, (path, header)) in (1..).zip([
        ("/v1/send", "Authorization: Bearer of-somebody-else\r\n"),
        ("/v1/send", "Authorization: Basic eDp5\r\nAuthorization: Bearer a.b.c\r\n"),
        ("/v1/send?token=a.b.c", "Cookie: session=a.b.c\r\n"),
    ]) {
        let mut socket = connect(server.address);
        socket.write_all(request("POST", path, header, &body(n)).as_bytes()).expect("written");
        let answer = json_of(response(&mut socket));
        assert_eq!(replies(&answer)[0]["type"], "published", "{path} {header}: {answer}");
    }
    let poll = poller.poll_body(0).to_string();
    let mut socket = connect(server.address);
    socket.write_all(request("POST", "/v1/poll", "Authorization: Bearer x\r\n", &poll).as_bytes()).expect("written");
    assert_eq!(response(&mut socket).status(), 200);
    assert_eq!(poller.message()["type"], "subscribed");
}

/// As a stream takes it.
#[test]
fn a_connect_in_an_array_of_one_is_a_connect() {
    let server = Server::native(support::config());
    let connect = json!({"type": "connect", "id": 1});
    for path in ["/v1/poll", "/v1/stream"] {
        assert_eq!(post(server.address, path, &json!([connect, connect])).status(), 400, "{path}");
    }
    let answer = json_of(post(server.address, "/v1/poll", &json!([connect])));
    assert_eq!(messages(&answer)[0]["type"], "connected", "{answer}");
}
