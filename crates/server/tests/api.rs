//! The HTTP API on a real server: every command and every status, the order of the checks, and payloads that arrive as
//! they were sent.

#![allow(clippy::unwrap_used)] // helpers stand outside of `#[test]`; a panic in one fails the test

mod support;

use fanfare::hub::{Pattern, Rule, Rules};
use fanfare::{ApiCommand, ApiKey, Config, Fanfare, Native, ServeError};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;
use support::{Client, Response, Server, config, connect, patient_chat, response, upgrade};

const ALL: &str = "the-key-for-all-";
const WORKER: &str = "key-of-another-name";
const READER: &str = "key-for-a-reader";

fn keyed(config: Config) -> Config {
    let patterns = [Pattern::new("chat:*").unwrap()];
    let commands = [ApiCommand::Presence, ApiCommand::Channels, ApiCommand::History];
    let reader = ApiKey::new("reader", READER).unwrap().only_commands(commands).only_channels(patterns);
    let worker = ApiKey::new("worker", WORKER).unwrap();
    Config { api_keys: vec![ApiKey::new("backend", ALL).unwrap(), reader, worker], ..config }
}

fn server() -> Server {
    let mut config = keyed(config());
    config.limits.linger_ms = 3_600_000; // an idle channel stays listed for as long as a test takes
    start(config)
}

fn start(config: Config) -> Server {
    let builder = Fanfare::builder(()).config(config).protocol("/", patient_chat());
    Server::of(builder.protocol("/v1/ws", Native::default().heartbeat_ms(600_000)))
}

/// A request with its own head, on a connection of its own.
fn send(server: &Server, request: &str) -> Response {
    let mut socket = connect(server.address);
    socket.write_all(request.as_bytes()).unwrap();
    response(&mut socket)
}

fn post(command: &str, headers: &str, body: &str) -> String {
    let len = body.len();
    format!("POST /api/v1/{command} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {len}\r\n\r\n{body}")
}

fn with_key(key: &str) -> String {
    format!("Authorization: Bearer {key}\r\nContent-Type: application/json\r\n")
}

/// Asks with the key for everything.
fn ask(server: &Server, command: &str, body: &str) -> (u16, Value) {
    let answer = send(server, &post(command, &with_key(ALL), body));
    (answer.status(), serde_json::from_str(&answer.body).expect("JSON"))
}

fn done(server: &Server, command: &str, body: &Value) -> Value {
    let (status, answer) = ask(server, command, &body.to_string());
    assert_eq!(status, 200, "{command} {body}: {answer}");
    answer
}

/// A native client that is connected and subscribed.
fn native(server: &Server, channel: &str) -> (Client, String) {
    let mut socket = connect(server.address);
    socket.write_all(&upgrade(server.address, "/v1/ws", &["fanfare.v1"], &[])).unwrap();
    assert_eq!(response(&mut socket).status(), 101);
    let mut client = Client::of(socket);
    client
        .text(&json!({"type": "connect", "id": 1, "subscribe": [{"channel": channel, "presence": true}]}).to_string());
    let id = client.until("connected")["client"].as_str().unwrap().to_owned();
    client.until("subscribed");
    (client, id)
}

#[test]
fn subscribers_get_the_publications_of_the_application() {
    let server = server();
    let (mut ada, _) = native(&server, "chat:general");
    let mut chat = Client::join(server.address, "bob", "general");
    let answer = done(&server, "publish", &json!({"channel": "chat:general", "data": {"content": "hi"}, "event": "e"}));
    assert_eq!((&answer["offset"], &answer["subscribers"]), (&json!(1), &json!(2)), "{answer}");
    let message = ada.until("message");
    assert_eq!(message["data"], json!({"content": "hi"}));
    assert_eq!((&message["event"], &message["offset"], message.get("from")), (&json!("e"), &json!(1), None));
    assert_eq!(chat.until("message")["content"], "hi");
}

/// A client may end its half of the connection with its request: the request is executed and answered.
#[test]
fn a_client_that_ends_its_side_still_gets_the_answer() {
    let server = server();
    for offset in 1..=20 {
        let mut socket = connect(server.address);
        socket.write_all(post("publish", &with_key(ALL), r#"{"channel":"a","data":1}"#).as_bytes()).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        let answer = response(&mut socket);
        assert_eq!(answer.status(), 200, "{}", answer.body);
        let answer: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(answer["offset"], offset);
    }
}

/// The API answers its own paths, as the first request of a connection and as a later one.
#[test]
fn an_upgrade_is_no_matter_of_the_api() {
    let server = server();
    let headers = format!("{}Connection: upgrade\r\nUpgrade: websocket\r\n", with_key(ALL));
    let mut socket = connect(server.address);
    for offset in 1..=2 {
        socket.write_all(post("publish", &headers, r#"{"channel":"a","data":1}"#).as_bytes()).unwrap();
        let answer = response(&mut socket);
        assert_eq!(answer.status(), 200, "{}", answer.body);
        assert_eq!(serde_json::from_str::<Value>(&answer.body).unwrap()["offset"], offset);
    }
}

/// The embedder answers paths below `/api/` that are not the API's, with and without keys.
#[test]
fn an_embedder_has_addresses_beside_the_api() {
    let pages = axum::Router::new().route("/api/orders", axum::routing::get(async || "an order"));
    let server = Server::of(Fanfare::builder(()).config(keyed(config())).fallback(pages));
    let get = |path: &str| send(&server, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert_eq!((get("/api/orders").status(), &*get("/api/orders").body), (200, "an order"));
    for path in ["/api/", "/api/v1", "/api/v2/publish", "/api/openapi.jso"] {
        assert_eq!(get(path).body, format!("there is nothing at {path:?}\n"));
    }
    assert!(get("/api/openapi.json").body.contains("\"openapi\""));
    assert_eq!(get("/api/v1/publish").status(), 405);
    assert_eq!(get("/api/v1/orders").status(), 404);
    assert!(get("/api/v1/orders").body.contains("unknown_command"), "{}", get("/api/v1/orders").body);
}

/// The payload is not rewritten: blanks, order, escapes, and numbers that no number type can hold stay.
#[test]
fn payloads_arrive_as_they_were_sent() {
    let server = server();
    let (mut ada, _) = native(&server, "a");
    let payload = r#"{ "b" : 1e999, "a":[1.0, 12345678901234567890123],"c":"\u00e4\ud800", "a":null }"#;
    let (status, answer) = ask(&server, "publish", &format!(r#"{{"channel":"a","data":{payload}}}"#));
    assert_eq!(status, 200, "{answer}");
    loop {
        match ada.next() {
            support::Frame::Text(text) if text.contains(r#""type":"message""#) => {
                assert!(text.contains(payload), "{text}");
                break;
            }
            support::Frame::Text(_) => {}
            other => panic!("{other:?}"),
        }
    }
    done(&server, "publish", &json!({"channel": "a", "data64": "/9j/"}));
    assert_eq!(ada.until("message")["data64"], "/9j/");
}

/// Status, words in the message, and a header that must be there.
type Row = (&'static str, String, u16, &'static str, Option<(&'static str, &'static str)>);

#[test]
fn every_refusal_has_its_status() {
    let open = Rule::open(Pattern::new("chat:**").unwrap());
    let server = start(keyed(Config { rules: Arc::new(Rules::new(vec![open])), ..config() }));
    let (all, reader) = (with_key(ALL), with_key(READER));
    let good = r#"{"channel":"chat:a","data":1}"#;
    let typed = |kind: &str| format!("Authorization: Bearer {ALL}\r\nContent-Type: {kind}\r\n");
    let beside = |more: &str| format!("{all}{more}\r\n");
    let publish = |headers: &str, body: &str| post("publish", headers, body);
    done(&server, "publish", &json!({"channel": "chat:a", "data": 1, "idempotency_key": "used"}));
    let deep = format!(r#"{{"channel":"chat:a","data":{}{}}}"#, "[".repeat(65), "]".repeat(65));
    let long = format!(r#"{{"channel":"chat:a","data":"{}"}}"#, "x".repeat(64 << 10));
    let longer = format!(r#"{{"channel":"chat:a","data":"{}"}}"#, "x".repeat(200 << 10));
    let bearer = Some(("www-authenticate", "Bearer realm=\"fanfare\""));
    let invalid = Some(("www-authenticate", "Bearer realm=\"fanfare\", error=\"invalid_token\""));
    #[rustfmt::skip]
    let rows: Vec<Row> = vec![
        ("no such command", post("shout", &all, "{}"), 404, "history_remove", None),
        ("no name", post("", &all, "{}"), 404, "history_remove", None),
        ("a slash too many", post("publish/", &all, good), 404, "/api/v1/publish/", None),
        ("GET", "GET /api/v1/publish HTTP/1.1\r\nHost: x\r\n\r\n".into(), 405, "POST", Some(("allow", "POST"))),
        ("the document is read", post("", "", "").replace("v1/", "openapi.json"), 405, "GET", Some(("allow", "GET, HEAD"))),
        ("a page asks whether it may", "OPTIONS /api/v1/publish HTTP/1.1\r\nHost: x\r\nOrigin: http://x\r\nAccess-Control-Request-Method: POST\r\n\r\n".into(), 405, "POST", Some(("allow", "POST"))),
        ("no key", publish("", good), 401, "Authorization: Bearer KEY", bearer),
        ("an empty key", publish("Authorization: Bearer \r\n", good), 401, "Authorization: Bearer KEY", bearer),
        ("another scheme", publish("Authorization: Basic a2V5\r\n", good), 401, "Authorization: Bearer KEY", bearer),
        ("two keys", publish(&format!("{all}Authorization: Bearer {ALL}\r\n"), good), 401, "one API key", bearer),
        ("an unknown key", publish(&with_key("nobody's"), good), 401, "API key is unknown", invalid),
        ("a wrong key", publish(&with_key("key-for-alk"), good), 401, "API key is unknown", invalid),
        ("a key for other commands", publish(&reader, good), 403, "\"reader\" may not publish", None),
        ("a key for other commands, by broadcast", post("broadcast", &reader, r#"{"channels":["chat:a"],"data":1}"#), 403, "may not publish", None),
        ("a key for other channels", post("presence", &reader, r#"{"channel":"chat:a:b"}"#), 403, "`channels`", None),
        ("a key for other channels, in a list", post("channels", &reader, "{}"), 403, "`match`", None),
        ("text", publish(&typed("text/plain"), good), 415, "text/plain", None),
        ("another charset", publish(&typed("application/json; charset=latin1"), good), 415, "the charset \"latin1\"", None),
        ("one in quotes", publish(&typed("application/json;x=\"a;b\";CharSet=\"UTF-16\""), good), 415, "the charset \"UTF-16\"", None),
        ("one behind UTF-8", publish(&typed("application/json; charset=utf-8; charset=latin1"), good), 415, "latin1", None),
        ("one in a second header", publish(&(typed("application/json") + &typed("application/json; charset=latin1").split_off(typed("").find("Content").unwrap())), good), 415, "latin1", None),
        ("a type that begins like JSON", publish(&typed("application/jsonp"), good), 415, "jsonp", None),
        ("a form", publish(&typed("application/x-www-form-urlencoded"), "channel=a&data=1"), 415, "a form", None),
        ("compressed", publish(&beside("Content-Encoding: gzip"), good), 415, "gzip", Some(("accept-encoding", "identity"))),
        ("not JSON", publish(&all, "{\"channel\":\"a\",\n \"data\":}"), 400, "line 2 column 9 (byte 24)", None),
        ("not all of JSON", publish(&all, "{\"channel\":\"ä\""), 400, "line 1 column 15 (byte 14)", None),
        ("more than JSON", publish(&all, "{} x"), 400, "line 1 column 4 (byte 3)", None),
        ("no object", publish(&all, "[]"), 400, "not an object", None),
        ("empty", publish(&all, ""), 400, "empty", None),
        ("no channel", publish(&all, r#"{"data":1}"#), 400, "`channel` is missing", None),
        ("twice", publish(&all, r#"{"channel":"chat:a","data":1,"data":2}"#), 400, "`data` occurs twice", None),
        ("no name", publish(&all, r#"{"channel":"chat:*","data":1}"#), 400, "cannot hold '*'", None),
        ("two different keys", publish(&beside("Idempotency-Key: a"), r#"{"channel":"chat:a","data":1,"idempotency_key":"b"}"#), 400, "`Idempotency-Key` is \"a\"", None),
        ("the key by its former name", publish(&all, r#"{"channel":"chat:a","data":1,"key":"b"}"#), 400, "the idempotency key is `idempotency_key`", None),
        ("a reserved field", post("history", &all, r#"{"channel":"chat:a","filter":{}}"#), 400, "`filter` is reserved", None),
        ("a key twice", publish(&beside("Idempotency-Key: a\r\nIdempotency-Key: a"), good), 400, "occurs twice", None),
        ("a key that is no text", publish(&beside("Idempotency-Key: \"a"), good), 400, "`Idempotency-Key`", None),
        ("an empty key", publish(&beside("Idempotency-Key: \"\""), good), 400, "1 to 64", None),
        ("a key for a batch", post("batch", &beside("Idempotency-Key: a"), r#"{"commands":[]}"#), 400, "its own `idempotency_key`", None),
        ("an empty batch", post("batch", &all, r#"{"commands":[]}"#), 400, "`commands` is empty", None),
        ("an empty audience", publish(&all, r#"{"channel":"chat:a","data":1,"audience":{"only":[]}}"#), 400, "`audience.only` is empty", None),
        ("no client's id", post("disconnect", &all, r#"{"client":"ada"}"#), 400, "`client` must be a client's id", None),
        ("a client and a user", post("disconnect", &all, r#"{"client":"0000000000000000","user":"ada"}"#), 400, "only one", None),
        ("no reason", post("disconnect", &all, r#"{"user":"ada","reason":"shutdown"}"#), 400, "\"kicked\"", None),
        ("no rule", publish(&all, r#"{"channel":"other","data":1}"#), 404, "no rule", None),
        ("a key for another payload", publish(&all, r#"{"channel":"chat:a","data":2,"idempotency_key":"used"}"#), 409, "used", None),
        ("a long key", publish(&beside(&format!("Idempotency-Key: {}", "k".repeat(65))), good), 413, "65 bytes", None),
        ("too deep", publish(&all, &deep), 413, "65 levels", None),
        ("a payload over the limit", publish(&all, &long), 413, "65538 bytes", None),
        ("a body over the limit", publish(&all, &longer), 413, "103768", None),
        ("a name over the limit", publish(&all, &format!(r#"{{"channel":"{}","data":1}}"#, "a".repeat(256))), 413, "255", None),
        ("a batch over the limit", post("batch", &all, &format!(r#"{{"commands":[{}1]}}"#, "1,".repeat(1000))), 413, "1001", None),
    ];
    for (name, request, status, words, header) in &rows {
        let answer = send(&server, request);
        assert_eq!(answer.status(), *status, "{name}: {}", answer.body);
        assert!(answer.body.contains(&words.replace('"', "\\\"")), "{name}: {}", answer.body);
        let error: Value = serde_json::from_str(&answer.body).expect("JSON");
        assert!(error["code"].is_string() && error["retryable"].is_boolean(), "{name}: {error}");
        assert_eq!(answer.header("content-type"), Some("application/json"), "{name}");
        assert!(!answer.head.to_ascii_lowercase().contains("access-control"), "{name}: {}", answer.head);
        if let Some((header, value)) = header {
            assert_eq!(answer.header(header), Some(*value), "{name}");
        }
    }
}

#[test]
fn requests_from_common_clients_are_accepted() {
    let server = server();
    let good = r#"{"channel":"a","data":1,"nobody knows this":{}}"#;
    let rows = [
        ("curl -d", "Content-Type: application/x-www-form-urlencoded\r\n", good),
        ("nothing said", "", good),
        ("with a charset", "Content-Type: Application/JSON; charset=\"UTF-8\"\r\n", good),
        ("as many write it", "Content-Type: application/json;charset=utf8\r\n", good),
        ("in capitals", "Content-Type: application/json ; CHARSET=UTF8\r\n", good),
        ("in single quotes", "Content-Type: application/json; charset='utf-8'\r\n", good),
        ("with a quoted pair", "Content-Type: application/json; charset=\"ut\\f-8\"\r\n", good),
        ("with no charset's name", "Content-Type: application/json; charset=\r\n", good),
        (
            "with what means nothing",
            "Content-Type: application/json; odata.metadata=minimal; v; q=\"a;charset=latin1\"; =;\r\n",
            good,
        ),
        ("a form with a charset", "Content-Type: application/x-www-form-urlencoded; charset=UTF-8\r\n", good),
        ("not encoded", "Content-Encoding: identity\r\n", good),
        ("nothing for null", "", r#"{"channel":"a","data":null,"event":null,"idempotency_key":null,"audience":null}"#),
    ];
    for (name, headers, body) in rows {
        for scheme in ["Bearer", "bearer", "BEARER"] {
            let headers = format!("Authorization: {scheme} {ALL}\r\n{headers}");
            let answer = send(&server, &post("publish", &headers, body));
            assert_eq!(answer.status(), 200, "{name}: {}", answer.body);
        }
    }
    for command in ["info", "channels"] {
        assert_eq!(ask(&server, command, "").0, 200, "{command} without a body");
    }
}

/// A caller without the right causes no work, and a request that is too large is refused before its body is read.
#[test]
fn a_request_is_judged_before_its_body_is_read() {
    let server = server();
    let announced =
        |headers: &str| format!("POST /api/v1/publish HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: 9000000\r\n\r\n");
    for (headers, status) in [(String::new(), 401), (with_key("x"), 401), (with_key(READER), 403), (with_key(ALL), 413)]
    {
        assert_eq!(send(&server, &announced(&headers)).status(), status, "nothing of the body was sent");
        assert_eq!(send(&server, &announced(&format!("{headers}Expect: 100-continue\r\n"))).status(), status);
    }
    // Without an announced length, the bytes are counted.
    let mut socket = connect(server.address);
    let head =
        format!("POST /api/v1/publish HTTP/1.1\r\nHost: x\r\n{}Transfer-Encoding: chunked\r\n\r\n", with_key(ALL));
    socket.write_all(head.as_bytes()).unwrap();
    let chunk = format!("8000\r\n{}\r\n", "x".repeat(0x8000));
    for _ in 0..4 {
        socket.write_all(chunk.as_bytes()).unwrap();
    }
    let answer = response(&mut socket);
    assert_eq!(answer.status(), 413);
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    let limit = body["limit"].as_u64().expect("the limit");
    let words = format!("the body of {} bytes or more exceeds the limit of {limit} for `publish`", limit + 1);
    assert_eq!(body["message"], words);
}

/// A client that sends its whole body before it reads gets the refusal. The connection stays open if the body was
/// small.
#[test]
fn a_refusal_is_not_lost_in_a_reset() {
    let server = server();
    let request = post("publish", &with_key(ALL), &"x".repeat(3 << 20));
    for _ in 0..5 {
        let mut socket = connect(server.address);
        for _ in 0..2 {
            socket.write_all(request.as_bytes()).unwrap();
            assert_eq!(response(&mut socket).status(), 413);
        }
    }
}

#[test]
fn a_body_that_does_not_come_is_waited_for_no_longer_than_a_head() {
    let server = start(Config { head_timeout: Duration::from_millis(100), ..keyed(config()) });
    let head = post("publish", &with_key(ALL), "{}").replace("Content-Length: 2", "Content-Length: 3");
    let answer = send(&server, &head);
    assert_eq!(answer.status(), 408, "{}", answer.body);
    assert!(answer.body.contains("0.1 s"), "{}", answer.body);
}

#[test]
fn a_key_makes_a_publication_stand_once() {
    let server = server();
    let header = |key: &str| {
        post("publish", &format!("{}Idempotency-Key: {key}\r\n", with_key(ALL)), r#"{"channel":"a","data":1}"#)
    };
    let answers: Vec<Value> = [
        header("k"),
        header("\"k\""),
        post("publish", &with_key(ALL), r#"{"channel":"a","data":1,"idempotency_key":"k"}"#),
    ]
    .iter()
    .map(|request| serde_json::from_str(&send(&server, request).body).unwrap())
    .collect();
    assert_eq!(answers[0].get("duplicate"), None);
    for answer in &answers[1..] {
        assert_eq!(
            (&answer["duplicate"], &answer["offset"], &answer["epoch"]),
            (&json!(true), &json!(1), &answers[0]["epoch"])
        );
    }
    // The same key from another caller is a different key.
    let other = send(&server, &post("publish", &with_key(WORKER), r#"{"channel":"a","data":1,"idempotency_key":"k"}"#));
    assert_eq!(serde_json::from_str::<Value>(&other.body).unwrap()["offset"], 2);
    // A broadcast uses its key once in each channel.
    let body = json!({"channels": ["a", "b"], "data": 1, "idempotency_key": "k"});
    let results = done(&server, "broadcast", &body)["results"].clone();
    assert_eq!((&results[0]["result"]["duplicate"], results[1]["result"].get("duplicate")), (&json!(true), None));
}

#[test]
fn a_bad_item_spoils_only_itself_and_order_is_kept() {
    let server = server();
    let (mut ada, _) = native(&server, "a");
    let commands = json!({"commands": [
        {"type": "publish", "channel": "a", "data": 1},
        {"type": "publish", "channel": "a b", "data": 2},
        {"type": "shout"},
        {"type": "batch", "commands": []},
        7,
        {"type": "publish", "channel": "a", "data": 3},
        {"type": "history", "channel": "a"},
        {"type": "info"},
    ]});
    let results = done(&server, "batch", &commands)["results"].clone();
    let code = |at: usize| results[at]["error"]["code"].as_str().unwrap_or("none").to_owned();
    assert_eq!(results.as_array().unwrap().len(), 8);
    assert_eq!(results[0]["result"]["offset"], 1);
    assert_eq!(
        (code(1), code(2), code(3), code(4)),
        ("bad_request".into(), "unknown_command".into(), "bad_request".into(), "bad_request".into())
    );
    assert_eq!(results[5]["result"]["offset"], 2);
    assert_eq!(results[6]["result"]["publications"][1]["data"], 3, "a later command sees what an earlier one did");
    assert!(results[7]["result"]["version"].is_string());
    assert_eq!((&ada.until("message")["data"], &ada.until("message")["data"]), (&json!(1), &json!(3)));

    let body = json!({"channels": ["b", "no good", "c"], "data": 1});
    let results = done(&server, "broadcast", &body)["results"].clone();
    assert_eq!((&results[0]["result"]["offset"], &results[2]["result"]["offset"]), (&json!(1), &json!(1)));
    assert_eq!(results[1]["error"]["code"], "bad_request");

    let reader = post(
        "batch",
        &with_key(READER),
        r#"{"commands":[{"type":"presence","channel":"chat:a"},{"type":"info"},{"type":"presence","channel":"a"}]}"#,
    );
    let results: Value = serde_json::from_str(&send(&server, &reader).body).unwrap();
    assert_eq!(results["results"][0]["result"]["count"], 0);
    assert_eq!(
        (&results["results"][1]["error"]["code"], &results["results"][2]["error"]["code"]),
        (&json!("denied"), &json!("denied"))
    );
}

#[test]
fn a_batch_of_thousands_in_one_connection() {
    let server = server();
    let commands: Vec<Value> =
        (0..1000).map(|n| json!({"type": "publish", "channel": format!("c:{}", n % 7), "data": n})).collect();
    let request = post("batch", &with_key(ALL), &json!({ "commands": commands }).to_string());
    let mut socket = connect(server.address);
    for round in 1..=3_u64 {
        socket.write_all(request.as_bytes()).unwrap();
        let answer: Value = serde_json::from_str(&response(&mut socket).body).unwrap();
        let results = answer["results"].as_array().unwrap();
        assert_eq!(results.len(), 1000);
        for (n, result) in results.iter().enumerate() {
            let count = (1000 - n as u64 % 7).div_ceil(7); // so many of a round are of this channel
            assert_eq!(result["result"]["offset"], (round - 1) * count + n as u64 / 7 + 1, "{round} {n}");
        }
    }
}

#[test]
fn history_presence_signals_and_lists() {
    let server = server();
    let (mut ada, id) = native(&server, "chat:a");
    for data in 1..=3 {
        done(&server, "publish", &json!({"channel": "chat:a", "data": data}));
    }
    let page = done(&server, "history", &json!({"channel": "chat:a", "limit": 2}));
    assert_eq!(
        (&page["publications"][0]["data"], &page["offset"], &page["more"]),
        (&json!(2), &json!(3), &json!(true))
    );
    let since = json!({"epoch": page["epoch"], "offset": 1});
    let page = done(&server, "history", &json!({"channel": "chat:a", "since": since}));
    assert_eq!((page["publications"].as_array().unwrap().len(), page.get("more")), (2, None));
    assert_eq!(done(&server, "history_remove", &json!({"channel": "chat:a"})), json!({}));
    let page = done(&server, "history", &json!({"channel": "chat:a"}));
    assert_eq!((&page["publications"], &page["offset"]), (&json!([]), &json!(3)), "the numbering goes on");

    ada.text(&json!({"type": "presence_set", "id": 2, "channel": "chat:a", "data": {"name": "Ada"}}).to_string());
    ada.until("result");
    let present = done(&server, "presence", &json!({"channel": "chat:a"}));
    assert_eq!((&present["count"], &present["entries"][0]["client"]), (&json!(1), &json!(id)), "{present}");
    done(&server, "signal", &json!({"channel": "chat:a", "event": "refresh", "data": {"a": 1}}));
    done(&server, "signal", &json!({"channel": "chat:a", "event": "you", "to": id}));
    let signal = ada.until("signal");
    assert_eq!((&signal["event"], &signal["data"]), (&json!("refresh"), &json!({"a": 1})));
    assert_eq!(ada.until("signal")["event"], "you");

    for name in ["list:a", "list:b", "list:c"] {
        done(&server, "publish", &json!({"channel": name, "data": 1}));
    }
    let page = done(&server, "channels", &json!({"match": "list:*", "limit": 2}));
    assert_eq!((&page["channels"][1]["channel"], &page["more"]), (&json!("list:b"), &json!(true)), "{page}");
    let page = done(&server, "channels", &json!({"match": "list:*", "limit": 2, "after": "list:b"}));
    assert_eq!((&page["channels"][0]["channel"], page.get("more")), (&json!("list:c"), None), "{page}");
    let page = done(&server, "channels", &json!({"match": "chat:*"}));
    assert_eq!(
        (&page["channels"][0]["subscribers"], &page["channels"][0]["present"]),
        (&json!(1), &json!(1)),
        "{page}"
    );
    let info = done(&server, "info", &json!({}));
    assert_eq!((&info["connected"], &info["subscriptions"]), (&json!(1), &json!(1)), "{info}");
}

#[test]
fn the_application_subscribes_others_and_sends_them_away() {
    let server = server();
    let (mut ada, id) = native(&server, "chat:a");
    let whom = |more: Value| {
        let mut body = json!({"client": id});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    assert_eq!(done(&server, "subscribe", &whom(json!({"channel": "b"}))), json!({"sessions": 1}));
    assert_eq!(ada.until("subscribed")["channel"], "b");
    done(&server, "publish", &json!({"channel": "b", "data": 1}));
    assert_eq!(ada.until("message")["channel"], "b");
    assert_eq!(done(&server, "unsubscribe", &whom(json!({"channel": "b"}))), json!({"sessions": 1}));
    assert_eq!(ada.until("unsubscribed")["channel"], "b");
    assert_eq!(done(&server, "disconnect", &json!({"user": "nobody"})), json!({"sessions": 0}));
    assert_eq!(done(&server, "disconnect", &whom(json!({}))), json!({"sessions": 1}));
    assert_eq!(ada.closed(), Some(4503));
    let (mut bob, id) = native(&server, "chat:a");
    done(&server, "disconnect", &json!({"client": id, "reason": "overloaded"}));
    assert_eq!(bob.closed(), Some(4004), "and may come back");
}

#[test]
fn an_audience_hears_what_others_do_not() {
    let server = server();
    let ((mut ada, a), (mut bob, b)) = (native(&server, "r"), native(&server, "r"));
    done(&server, "publish", &json!({"channel": "r", "data": "for ada", "audience": {"only": [a]}}));
    done(&server, "publish", &json!({"channel": "r", "data": "not for ada", "audience": {"except": [a]}}));
    done(
        &server,
        "publish",
        &json!({"channel": "r", "data": "for none", "audience": {"only": [a, b], "except": [a, b]}}),
    );
    done(&server, "publish", &json!({"channel": "r", "data": "for all"}));
    assert_eq!((&ada.until("message")["data"], &ada.until("message")["data"]), (&json!("for ada"), &json!("for all")));
    assert_eq!(
        (&bob.until("message")["data"], &bob.until("message")["data"]),
        (&json!("not for ada"), &json!("for all"))
    );
}

#[test]
fn without_keys_there_is_no_api() {
    let server = start(config());
    for request in [post("publish", &with_key(ALL), "{}"), "GET /api/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n".into()] {
        assert_eq!(send(&server, &request).status(), 404);
    }
}

#[test]
fn two_keys_with_one_text_are_a_mistake_and_one_name_for_two_is_none() {
    let keys = |names: [&str; 2], secrets: [&str; 2]| {
        let key = |at: usize| ApiKey::new(names[at], secrets[at]).unwrap();
        Fanfare::builder(())
            .config(Config { api_keys: vec![key(0), key(1)], ..config() })
            .protocol("/", patient_chat())
            .build()
    };
    assert!(matches!(
        keys(["a", "b"], ["the-same-key-of-16", "the-same-key-of-16"]),
        Err(ServeError::SameApiKey { .. })
    ));
    assert!(keys(["a", "a"], ["the-old-key-of-16", "the-new-key-of-16"]).is_ok());
}

/// A request is judged once, by the keys in force when its head arrives, also on a kept connection.
#[test]
fn keys_are_exchanged_while_requests_are_under_way() {
    let code = ApiKey::new("code", "the-key-of-the-code").unwrap();
    let old = ApiKey::new("backend", "the-old-key-of-16").unwrap();
    let new = ApiKey::new("backend", "the-new-key-of-16").unwrap();
    let config = Config { api_keys: vec![old.clone()], ..config() };
    let server = Server::of(Fanfare::builder(()).api_key(code).config(config).protocol("/", patient_chat()));
    let body = r#"{"channel":"a","data":1}"#;
    let status = |key: &str| send(&server, &post("publish", &with_key(key), body)).status();
    let statuses = || ["the-key-of-the-code", "the-old-key-of-16", "the-new-key-of-16"].map(status);
    assert_eq!(statuses(), [200, 200, 401]);
    let running = server.running();
    running.reload_api_keys(&[old.clone(), new.clone()]).unwrap();
    assert_eq!(statuses(), [200, 200, 200]);

    // The head was judged (the server asks for the body); then its key is removed.
    let mut socket = connect(server.address);
    let request = post("publish", &format!("{}Expect: 100-continue\r\n", with_key("the-old-key-of-16")), body);
    let (head, body) = request.split_at(request.len() - body.len());
    socket.write_all(head.as_bytes()).unwrap();
    assert_eq!(response(&mut socket).status(), 100);
    running.reload_api_keys(std::slice::from_ref(&new)).unwrap();
    socket.write_all(body.as_bytes()).unwrap();
    assert_eq!(response(&mut socket).status(), 200, "what was let in is answered");
    socket.write_all(post("publish", &with_key("the-old-key-of-16"), body).as_bytes()).unwrap();
    assert_eq!(response(&mut socket).status(), 401, "and the next one on the same connection is not let in");
    assert_eq!(statuses(), [200, 401, 200]);

    let same = ApiKey::new("other", "the-key-of-the-code").unwrap();
    let refused = running.reload_api_keys(&[same]).unwrap_err();
    assert_eq!(refused.to_string(), "the API keys \"other\" and \"code\" are the same text");
    assert_eq!(statuses(), [200, 401, 200], "all of it or nothing");
    running.reload_api_keys(&[]).unwrap();
    assert_eq!(statuses(), [200, 401, 401], "what the code says stays");
}

#[test]
fn the_document_is_served() {
    let server = server();
    let mut socket = connect(server.address);
    socket.write_all(b"GET /api/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let document: Value = serde_json::from_str(&response(&mut socket).body).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let committed = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&committed).unwrap(), document);
}

/// Mounted in another server on another thread, the API answers the same. After the server has stopped, it answers 503.
#[test]
fn the_router_asks_through_a_handle() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let fanfare = Fanfare::builder(()).config(keyed(config())).protocol("/", patient_chat()).build().unwrap();
    let router = fanfare.api().expect("there are keys").router();
    let running = fanfare.start(&["127.0.0.1:0".parse().unwrap()]).unwrap();
    let request = || {
        let request = http::Request::post("/api/v1/publish").header("authorization", format!("Bearer {ALL}"));
        request.body(axum::body::Body::from(r#"{"channel":"a","data":1}"#)).unwrap()
    };
    let ask = || runtime.block_on(tower::ServiceExt::oneshot(router.clone(), request())).unwrap();
    assert_eq!(ask().status(), 200);
    running.drain_blocking().unwrap();
    let answer = ask();
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["retry-after"], "1");
}

/// Within another server, as its own service.
#[test]
fn the_service_within_another_server_has_it_too() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let builder = Fanfare::builder(()).config(Config { shards: support::shards(), ..Config::open() });
    let fanfare = builder.api_key(ApiKey::new("backend", ALL).unwrap()).protocol("/", patient_chat()).build().unwrap();
    let (service, running) = runtime.block_on(async { fanfare.into_service() }).unwrap();
    let request = http::Request::post("/api/v1/publish").header("authorization", format!("Bearer {ALL}"));
    let request = request.header("host", "within.example");
    let request = request.body(axum::body::Body::from(r#"{"channel":"a","data":1}"#)).unwrap();
    let answer = runtime.block_on(tower::ServiceExt::oneshot(service, request)).unwrap();
    assert_eq!(answer.status(), 200);
    running.drain_blocking().unwrap();
}

/// One connection: requests one after the other, and several at once.
#[test]
fn connections_are_kept() {
    let server = server();
    let mut socket: TcpStream = connect(server.address);
    let request = post("publish", &with_key(ALL), r#"{"channel":"a","data":1}"#);
    socket.write_all(request.repeat(50).as_bytes()).unwrap();
    for offset in 1..=50 {
        let answer: Value = serde_json::from_str(&response(&mut socket).body).unwrap();
        assert_eq!(answer["offset"], offset);
    }
    socket.write_all(post("publish", "Connection: close\r\n", "").as_bytes()).unwrap();
    assert_eq!(response(&mut socket).status(), 401);
    assert_eq!(socket.read(&mut [0]).unwrap(), 0);
}

/// RFC 8259 §8.1: a parser may ignore a byte order mark. This parser does.
#[test]
fn a_byte_order_mark_before_a_body_is_ignored() {
    let server = server();
    let (status, _) = ask(&server, "publish", "\u{feff}{\"channel\":\"a\",\"data\":1}");
    assert_eq!(status, 200);
    assert_eq!(ask(&server, "info", "\u{feff}").0, 200, "an empty body is one with it too");
}
