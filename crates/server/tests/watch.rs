//! Watching a real server: the text parses, its numbers change by exact amounts, its labels are bounded; probes are
//! right while it drains; every request has an id.

mod support;

use fanfare::hub::{Pattern, Rule, Rules, Who};
use fanfare::{Address, AdminOn, Config, Echo, Fanfare, Native, Publish, Refusal};
use fanfare_wire::websocket::Opcode;
use serde_json::{Value, json};
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use support::scrape::scrape;
use support::{
    Client, Frame, Random, Response, Server, config, connect, join, patient_chat, response, shards, upgrade,
};

/// A server that serves its metrics on an admin port.
fn watched(config: Config) -> Server {
    Server::of(
        Fanfare::builder(())
            .config(config)
            .admin(AdminOn::MainPort)
            .protocol("/", patient_chat())
            .protocol("/echo", Echo::default()),
    )
}

fn get(address: SocketAddr, path: &str, headers: &str) -> Response {
    let mut socket = connect(address);
    let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\n{headers}Connection: close\r\n\r\n");
    socket.write_all(head.as_bytes()).expect("the server reads");
    response(&mut socket)
}

/// A native client that has sent `connect`.
fn native(address: SocketAddr) -> Client {
    let mut socket = connect(address);
    socket.write_all(&upgrade(address, "/v1/ws", &["fanfare.v1"], &[])).expect("the server reads");
    assert_eq!(response(&mut socket).status(), 101);
    let mut client = Client::of(socket);
    client.text(r#"{"type":"connect","id":1}"#);
    client.until("connected");
    client
}

fn ask(client: &mut Client, command: &Value) -> Value {
    client.text(&command.to_string());
    loop {
        let message = client.message();
        if message["id"] == command["id"] {
            return message;
        }
    }
}

#[test]
fn a_scripted_conversation_is_counted_exactly() {
    let server = watched(config());
    let before = scrape(server.address);
    assert_eq!(before.get("fanfare_ready"), 1.0);
    assert_eq!(before.get("fanfare_shards{state=\"answering\"}"), shards() as f64);

    let mut chats = [Client::join(server.address, "ada", "a"), Client::join(server.address, "bob", "a")];
    for number in 0..3 {
        chats[0].say(&number.to_string());
    }
    for chat in &mut chats {
        (0..3).for_each(|_| drop(chat.until("message")));
    }
    let mut echo = Client::open(server.address, "/echo");
    for len in [10, 200, 60_000] {
        echo.send(Opcode::Binary, &vec![7; len]);
        assert!(matches!(echo.next(), Frame::Binary(bytes) if bytes.len() == len));
    }
    let mut ada = native(server.address);
    ask(&mut ada, &json!({"type": "subscribe", "id": 2, "channel": "news"}));
    ask(&mut ada, &json!({"type": "publish", "id": 3, "channel": "news", "data": 1, "idempotency_key": "k"}));
    ask(&mut ada, &json!({"type": "publish", "id": 4, "channel": "news", "data": 1, "idempotency_key": "k"}));
    ask(&mut ada, &json!({"type": "publish", "id": 5, "channel": "news", "data": 2, "idempotency_key": "k"}));

    let after = scrape(server.address);
    let expected = [
        ("fanfare_connections_opened_total{transport=\"websocket\",protocol=\"chat\"}", 2.0),
        ("fanfare_connections_opened_total{transport=\"websocket\",protocol=\"echo\"}", 1.0),
        ("fanfare_connections_opened_total{transport=\"websocket\",protocol=\"native\"}", 1.0),
        ("fanfare_messages_received_total{protocol=\"chat\"}", 2.0 + 3.0),
        ("fanfare_messages_received_total{protocol=\"echo\"}", 3.0),
        ("fanfare_messages_received_total{protocol=\"native\"}", 5.0),
        ("fanfare_messages_sent_total{protocol=\"echo\"}", 3.0),
        // Headers of 2, 4 and 4 bytes, and the client's masks of 4.
        ("fanfare_received_bytes_total{protocol=\"echo\"}", (6 + 10 + 8 + 200 + 8 + 60_000) as f64),
        ("fanfare_sent_bytes_total{protocol=\"echo\"}", (2 + 10 + 4 + 200 + 4 + 60_000) as f64),
        ("fanfare_deliveries_total{protocol=\"chat\"}", 3.0 * 2.0),
        ("fanfare_deliveries_total{protocol=\"native\"}", 1.0),
        ("fanfare_duplicates_total", 1.0),
        ("fanfare_errors_total{code=\"key_conflict\"}", 1.0),
        ("fanfare_gaps_total{protocol=\"native\"}", 0.0),
    ];
    for (sample, value) in expected {
        assert_eq!(after.get(sample) - before.get(sample), value, "{sample}");
    }
    assert_eq!(after.sum("fanfare_connections"), 4.0);
    assert_eq!(after.sum("fanfare_subscriptions"), 3.0);
    assert_eq!(after.sum("fanfare_publications_total"), 4.0);
    assert_eq!(after.sum("fanfare_outbox_bytes"), 0.0);
    // Once for each publication and each shard with a subscriber. The times depend on the machine.
    let measured = after.sum("fanfare_publish_deliver_seconds_count");
    assert!((4.0..=4.0 * shards() as f64).contains(&measured), "{measured} deliveries were measured");
    assert!(after.sum("fanfare_publish_deliver_seconds_sum") > 0.0);
    assert!(after.get("process_resident_memory_bytes") > 1e6 && after.get("process_max_fds") > 0.0);
    assert!(after.get("process_open_fds") >= 4.0);

    echo.close();
    drop(chats);
    let ended = until(server.address, "fanfare_connections", |s| s.sum("fanfare_connections") == 1.0);
    assert_eq!(ended.get("fanfare_connections_ended_total{reason=\"left\"}"), 1.0);
    assert_eq!(ended.get("fanfare_connections_ended_total{reason=\"gone\"}"), 2.0);
}

/// Scrapes until a condition holds: the server needs a moment to close.
fn until(address: SocketAddr, what: &str, so: impl Fn(&support::scrape::Scraped) -> bool) -> support::scrape::Scraped {
    let deadline = std::time::Instant::now() + support::DEADLINE;
    loop {
        let scraped = scrape(address);
        if so(&scraped) {
            return scraped;
        }
        assert!(std::time::Instant::now() < deadline, "{what} never came about: {scraped:?}");
    }
}

#[test]
fn a_chat_message_that_is_not_taken_is_counted_by_its_cause() {
    let server = watched(config());
    let mut ada = Client::join(server.address, "ada", "r");
    let rows = [
        ("not_json", "{", true),
        ("not_json", "[]", true),
        ("not_json", "\u{feff}\u{feff}{}", true),
        ("unknown_type", r#"{"type":"shout"}"#, true),
        ("unknown_type", r#"{"kind":"message"}"#, true),
        ("missing_field", r#"{"type":"join","userId":7,"username":"A"}"#, true),
        ("duplicate_field", r#"{"type":"join","userId":"a","userId":"b","username":"A"}"#, true),
        ("not_unicode", r#"{"type":"join","userId":"\ud83d","username":"A"}"#, true),
        ("name_length", r#"{"type":"join","userId":"","username":"A"}"#, true),
        ("room_name", r#"{"type":"join","userId":"a","username":"A","roomId":""}"#, true),
        ("not_joined", r#"{"type":"message","content":"a"}"#, false),
    ];
    let mut early = Client::open(server.address, "/");
    for (_, text, _) in rows {
        early.text(text);
    }
    early.text(&join("early", "r"));
    early.until("room_state");
    ada.until("join");
    let after = scrape(server.address);
    for (cause, ..) in rows {
        let sample = format!("fanfare_messages_ignored_total{{protocol=\"chat\",cause=\"{cause}\"}}");
        let expected = rows.iter().filter(|(of, ..)| *of == cause).count();
        assert_eq!(after.get(&sample), expected as f64, "{sample}");
    }
    let bad = rows.iter().filter(|(.., bad)| *bad).count();
    assert_eq!(after.get("fanfare_errors_total{code=\"bad_request\"}"), bad as f64, "what counts as abuse");
}

#[test]
fn recoveries_and_refusals_are_counted_by_result_rule_and_option() {
    let mut news = Rule::open(Pattern::new("news:*").expect("valid"));
    news.publish = vec![Who::Server];
    let mut quoted = Rule::open(Pattern::new("say:\"hi\"\\").expect("names may have quotes"));
    quoted.subscribe = vec![Who::Nobody];
    let rules = Arc::new(Rules::new(vec![news, quoted]));
    let server = watched(Config { rules, ..config() });
    let mut ada = native(server.address);
    let subscribed = ask(&mut ada, &json!({"type": "subscribe", "id": 2, "channel": "news:a"}));
    for id in 3..6 {
        let refused = ask(&mut ada, &json!({"type": "publish", "id": id, "channel": "news:a", "data": 1}));
        assert_eq!(refused["code"], "denied");
    }
    ask(&mut ada, &json!({"type": "subscribe", "id": 6, "channel": "elsewhere"}));
    ask(&mut ada, &json!({"type": "subscribe", "id": 7, "channel": "say:\"hi\"\\"}));
    let at = json!({"epoch": subscribed["epoch"], "offset": subscribed["offset"]});
    for (id, since) in [(8, at), (9, json!({"epoch": "another", "offset": 7}))] {
        let mut bob = native(server.address);
        let command = json!({"type": "subscribe", "id": id, "channel": "news:a", "since": since});
        assert_eq!(ask(&mut bob, &command)["type"], "subscribed");
    }
    let after = scrape(server.address);
    let expected = [
        ("fanfare_denials_total{rule=\"news:*\",option=\"publish\"}", 3.0),
        ("fanfare_denials_total{rule=\"(none)\",option=\"match\"}", 1.0),
        (r#"fanfare_denials_total{rule="say:\"hi\"\\",option="subscribe"}"#, 1.0),
        ("fanfare_errors_total{code=\"denied\"}", 4.0),
        ("fanfare_errors_total{code=\"no_rule\"}", 1.0),
        ("fanfare_recoveries_total{result=\"recovered\"}", 1.0),
        ("fanfare_recoveries_total{result=\"lost\"}", 1.0),
    ];
    for (sample, value) in expected {
        assert_eq!(after.get(sample), value, "{sample} in {after:#?}");
    }
}

#[test]
fn ten_thousand_names_make_no_more_labels_than_one() {
    let mut rule = Rule::open(Pattern::new("room:*").expect("valid"));
    rule.publish = vec![Who::Anyone];
    let mut config = Config { rules: Arc::new(Rules::new(vec![rule])), ..config() };
    // On a busy machine more commands wait than the default allows, and a limit that is reached has a label of its own.
    config.limits.outstanding_max = 1_024;
    let server = watched(config);
    let mut ada = native(server.address);
    let mut random = Random::new(7);
    let mut use_names = |ada: &mut Client, first: usize, count: usize| {
        for id in first..first + count {
            let hex: String = random.bytes(12).iter().map(|byte| format!("{byte:02x}")).collect();
            let command = match id % 3 {
                0 => json!({"type": "publish", "id": id, "channel": format!("room:{hex}"), "data": 1}),
                1 => json!({"type": "subscribe", "id": id, "channel": format!("other:{hex}")}),
                _ => json!({"type": "signal", "id": id, "channel": format!("room:{hex}"), "event": "e", "data": 1}),
            };
            ada.text(&command.to_string());
            if id % 16 == 0 {
                while ada.message()["id"] != json!(id) {}
            }
        }
    };
    use_names(&mut ada, 16, 33);
    let few = scrape(server.address);
    use_names(&mut ada, 64, 10_001);
    let many = scrape(server.address);
    let names = |scraped: &support::scrape::Scraped| scraped.0.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&few), names(&many));
    assert!(many.sum("fanfare_publications_total") > 3_000.0);
}

#[test]
fn handlers_are_timed_and_told_apart_by_how_they_end() {
    let runtime = support::runtime();
    let _entered = runtime.enter();
    let open = Rule::open(Pattern::new("**").expect("valid"));
    let builder = Fanfare::builder(())
        .config(Config { rules: Arc::new(Rules::new(vec![open])), ..config() })
        .admin(AdminOn::MainPort)
        .on_publish("**", async |publish: Publish| match publish.data.bytes().as_ref() {
            b"1" => Ok(publish),
            b"2" => Err(Refusal::denied("no twos")),
            _ => panic!("a number that nobody thought of"),
        });
    let server = Server::of(builder);
    let mut ada = native(server.address);
    for (id, data) in [(2, 1), (3, 2), (4, 3)] {
        ask(&mut ada, &json!({"type": "publish", "id": id, "channel": "a", "data": data}));
    }
    let after = scrape(server.address);
    for result in ["answered", "refused", "failed"] {
        let sample = format!("fanfare_hook_results_total{{handler=\"on_publish\",result=\"{result}\"}}");
        assert_eq!(after.get(&sample), 1.0, "{sample}");
    }
    assert_eq!(after.get("fanfare_hook_seconds_count{handler=\"on_publish\"}"), 3.0);
    assert_eq!(after.get("fanfare_denials_total{rule=\"**\",option=\"hook\"}"), 1.0);
    drop(ada);
    drop(server);
}

#[test]
fn probes_on_a_port_of_their_own_tell_of_a_drain_until_its_end() {
    let on = AdminOn::Address(Address::Tcp("127.0.0.1:0".parse().expect("an address")));
    let running = Fanfare::builder(())
        .config(Config { drain_window: std::time::Duration::from_millis(10), ..config() })
        .admin(on)
        .protocol("/v1/ws", Native::default())
        .build()
        .expect("good settings")
        .start(&["127.0.0.1:0".parse().expect("an address")])
        .expect("free ports");
    let main = running.tcp_address().expect("TCP");
    let Some(&Address::Tcp(admin)) = running.admin_address() else { panic!("an admin port") };
    assert_eq!(get(main, "/healthz", "").body, "ok\n");
    assert_eq!(get(main, "/metrics", "").status(), 404, "it has a port of its own");
    assert_eq!(get(admin, "/readyz", "").body, "ready\n");
    let client = native(main);
    let draining = std::thread::spawn(move || running.drain_blocking());
    // The client was told to go and stays: until it goes, or its time is up, the probes answer.
    let deadline = std::time::Instant::now() + support::DEADLINE;
    let refused = loop {
        let response = get(admin, "/readyz", "");
        if response.status() == 503 {
            break response;
        }
        assert!(std::time::Instant::now() < deadline, "never not ready");
    };
    assert!(refused.body.starts_with("draining"), "{}", refused.body);
    assert_eq!(get(admin, "/healthz", "").status(), 200);
    assert_eq!(scrape(admin).get("fanfare_ready"), 0.0);
    drop(client);
    draining.join().expect("no panic").expect("a clean end");
    assert!(std::net::TcpStream::connect(admin).is_err(), "the port is free again");
}

#[test]
fn every_request_has_an_id_which_is_the_callers_where_it_is_sane() {
    let server = watched(config());
    let id = |response: &Response| response.header("x-request-id").map(str::to_owned).unwrap_or_default();
    let given = get(server.address, "/healthz", "X-Request-Id: deploy-7.a_b\r\n");
    assert_eq!(id(&given), "deploy-7.a_b");
    let (one, two) = (get(server.address, "/healthz", ""), get(server.address, "/nothing", ""));
    assert_eq!((id(&one).len(), id(&two).len(), two.status()), (16, 16, 404));
    assert_ne!(id(&one), id(&two));
    let insane = get(server.address, "/healthz", "X-Request-Id: a b\r\n");
    assert_eq!(id(&insane).len(), 16, "{}", insane.head);

    // A refused upgrade, on the raw socket and after another HTTP request.
    let refused = upgrade(server.address, "/nowhere", &[], &[("X-Request-Id", "mine")]);
    let mut socket = connect(server.address);
    socket.write_all(&refused).expect("the server reads");
    let raw = response(&mut socket);
    assert_eq!((raw.status(), id(&raw)), (404, "mine".to_owned()));
    let mut socket = connect(server.address);
    socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").expect("the server reads");
    assert_eq!(response(&mut socket).status(), 200);
    socket.write_all(&refused).expect("the server reads");
    let kept_alive = response(&mut socket);
    assert_eq!((kept_alive.status(), id(&kept_alive)), (404, "mine".to_owned()));

    let after = scrape(server.address);
    assert_eq!(after.get("fanfare_http_requests_total{status=\"2xx\"}"), 4.0);
    assert_eq!(after.get("fanfare_http_requests_total{status=\"4xx\"}"), 3.0);
}
