//! `fanfare doctor` against the real server: directly, through proxies with one fault each, and at wrong addresses.
//!
//! Each fault must be named by its code, and must not be named where it is not. No test measures a time.

#[path = "../../client/tests/support/tls.rs"]
mod behind_tls;
mod support;

use behind_tls::{Authority, NOW, TlsProxy, Valid};
use fanfare::{Fanfare, Identity, Refusal, Token};
use fanfare_fault_proxy::{FaultProxy, Faults, Meddling, Stop};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc::channel;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use support::{Folder, Said, Server};

fn said(words: &[&str]) -> Said {
    Folder::new().run(&[&["doctor"], words].concat())
}

/// The report of `doctor` in JSON, whose status is the program's.
fn report(words: &[&str]) -> Value {
    let said = said(&[words, &["--json"]].concat());
    let report: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    assert_eq!(said.status.map(i64::from), report["status"].as_i64(), "{said:?}");
    report
}

fn codes(report: &Value) -> Vec<&str> {
    let findings = report["findings"].as_array().expect("a list");
    findings.iter().map(|finding| finding["code"].as_str().expect("a code")).collect()
}

fn states(report: &Value) -> Vec<(&str, &str)> {
    let transports = report["transports"].as_array().expect("a list");
    let text = |transport: &'_ Value, field| transport[field].as_str().map(str::to_owned).expect("a text");
    let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    transports.iter().map(|it| (leak(text(it, "transport")), leak(text(it, "state")))).collect()
}

const ALL: [&str; 5] = ["websocket", "sse", "stream", "events", "poll"];

/// Each transport with this state, but for these.
fn all(state: &'static str, others: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    let other = |name| others.iter().find(|(other, _)| *other == name).map_or(state, |(_, state)| *state);
    ALL.iter().map(|name| (*name, other(*name))).collect()
}

fn server() -> Server {
    Folder::new().start(&["dev", "--listen", "127.0.0.1:0", "--api-key", "the-key-of-the-tests"])
}

fn through(server: &Server, how: Meddling) -> (FaultProxy, String) {
    let address = server.address.parse().expect("an address");
    let proxy = FaultProxy::start(address, move |_| Faults::meddling(how)).expect("a port");
    let url = format!("http://{}", proxy.address);
    (proxy, url)
}

#[test]
fn a_server_without_a_proxy_is_well() {
    let server = server();
    let url = format!("http://{}", server.address);
    let report = report(&[&url, "--idle", "1s"]);
    assert_eq!((codes(&report), states(&report)), (vec![], all("works", &[])), "{report}");
    assert_eq!((&report["verdict"], &report["http"]), (&json!("well"), &json!(["1.1"])), "{report}");
    assert_eq!(report["transports"][0]["compression"], "permessage-deflate");
    for transport in report["transports"].as_array().expect("a list") {
        assert!(transport["first_message_ms"].is_u64() && transport["idle"]["cut_after_ms"].is_null(), "{transport}");
    }
    let said = said(&[&url, "--idle", "0"]);
    assert!(said.status == Some(0) && said.stdout.contains("All is well.") && said.stderr.is_empty(), "{said:?}");
    // A page of another origin is another client.
    let report = self::report(&["--url", &url, "--idle", "0", "--origin", "https://evil.example"]);
    assert_eq!((codes(&report), states(&report)), (vec!["origin_refused"], all("refused", &[])), "{report}");
    assert_eq!(report["status"], 2);
}

/// (name, fault, findings, transports that do not simply work, status)
type Row = (&'static str, Meddling, &'static [&'static str], &'static [(&'static str, &'static str)], i64);

/// Without sends no stream of the native protocol lasts; polls go on.
const SENDLESS: &[(&str, &str)] = &[("sse", "fails"), ("stream", "fails"), ("poll", "degraded")];
const POSTLESS: &[(&str, &str)] = &[("sse", "fails"), ("stream", "fails"), ("poll", "fails")];

/// A watch that sees the server end a stream whose pings stay unanswered does not blame the server.
#[test]
fn a_stream_without_sends_is_not_ended_by_the_server() {
    let server = beating();
    let how = Meddling { refuses: &[("POST /v1/send", 403)], ..Meddling::default() };
    let (_proxy, url) = through(&server, how);
    let report = report(&[&url, "--idle", "5s", "--channel", "quiet"]);
    assert_eq!((codes(&report), states(&report)), (vec!["send_fails"], all("works", SENDLESS)), "{report}");
    let finding = &report["findings"][0];
    assert_eq!(finding["about"], json!(["sse", "stream", "poll"]), "{report}");
    assert!(finding["tried"] == "POST /v1/send" && finding["seen"].as_str().is_some_and(|seen| seen.contains("403")));
}

/// The first sends pass, and later ones do not: the farewell of the server is not the fault.
#[test]
fn sends_that_cease_to_pass_are_to_blame_for_the_end_of_a_stream() {
    let server = beating();
    let address = server.address.parse().expect("an address");
    let refuses = Meddling { refuses: &[("POST /v1/send", 403)], ..Meddling::default() };
    let how = move |number| if number < 30 { Meddling::default() } else { refuses };
    let proxy = FaultProxy::start(address, move |number| Faults::meddling(how(number))).expect("a port");
    let report = report(&[&format!("http://{}", proxy.address), "--idle", "25s", "--channel", "quiet"]);
    let ended = all("works", &[("sse", "degraded"), ("stream", "degraded")]);
    assert_eq!((codes(&report), states(&report)), (vec!["send_fails"], ended), "{report}");
}

#[test]
fn each_fault_of_a_proxy_is_named() {
    let server = server();
    let none = Meddling::default();
    let degraded: &[_] = &[("sse", "degraded"), ("stream", "degraded"), ("events", "degraded")];
    #[rustfmt::skip]
    let rows: &[Row] = &[
        ("none", none, &[], &[], 0),
        ("no upgrade", Meddling { request_strips: &["upgrade"], ..none }, &["upgrade_stripped"], &[("websocket", "fails")], 1),
        ("no key", Meddling { request_strips: &["sec-websocket-key"], ..none }, &["upgrade_stripped"], &[("websocket", "fails")], 1),
        ("no subprotocol", Meddling { answer_strips: &["sec-websocket-protocol"], ..none },
            &["websocket_broken"], &[("websocket", "fails")], 1),
        ("no accept", Meddling { answer_strips: &["sec-websocket-accept"], ..none },
            &["websocket_broken"], &[("websocket", "fails")], 1),
        ("no extensions", Meddling { request_strips: &["sec-websocket-extensions"], ..none }, &["no_compression"], &[], 0),
        ("HTTP/1.0", Meddling { is_http_1_0: true, ..none }, &["upgrade_stripped", "http_1_0"], &[("websocket", "fails")], 1),
        ("gzip", Meddling { gzips: true, ..none }, &["stream_compressed"], degraded, 1),
        ("no Cache-Control", Meddling { answer_strips: &["cache-control"], ..none }, &["headers_changed"], &[], 1),
        ("no Last-Event-ID", Meddling { request_strips: &["last-event-id"], ..none },
            &["last_event_id_stripped"], &[("events", "degraded")], 1),
        ("no Origin", Meddling { request_strips: &["origin"], ..none }, &["cors_stripped"], &[], 1),
        ("CORS twice", Meddling { answer_adds: &[("Access-Control-Allow-Origin", "*")], ..none }, &["cors_doubled"], &[], 1),
        ("no OPTIONS", Meddling { refuses: &[("OPTIONS ", 405)], ..none }, &["preflight_blocked"], &[], 1),
        ("no WebSocket", Meddling { refuses: &[("Upgrade: websocket", 403)], ..none },
            &["proxy_refuses"], &[("websocket", "fails")], 1),
        ("no WebSocket here", Meddling { refuses: &[("Upgrade: websocket", 400)], ..none },
            &["websocket_refused"], &[("websocket", "fails")], 1),
        ("no stream", Meddling { refuses: &[("/v1/sse", 410)], ..none }, &["stream_refused"], &[("sse", "fails")], 1),
        ("no poll", Meddling { refuses: &[("POST /v1/poll", 410)], ..none }, &["poll_fails"], &[("poll", "fails")], 1),
        ("no send", Meddling { refuses: &[("POST /v1/send", 410)], ..none }, &["send_fails"], SENDLESS, 1),
        ("no send for us", Meddling { refuses: &[("POST /v1/send", 403)], ..none }, &["send_fails"], SENDLESS, 1),
        ("no send of this size", Meddling { refuses: &[("POST /v1/send", 413)], ..none }, &["body_limited"], SENDLESS, 1),
        ("no POST", Meddling { refuses: &[("POST /", 405)], ..none }, &["send_fails", "poll_fails"], POSTLESS, 1),
        ("no bodies", Meddling { refuses: &[("POST /", 413)], ..none }, &["body_limited"], POSTLESS, 1),
        ("GET alone", Meddling { refuses: &[("POST /", 405), ("Upgrade: websocket", 405)], ..none },
            &["websocket_refused", "send_fails", "poll_fails"], &[("websocket", "fails"), ("sse", "fails"), ("stream", "fails"), ("poll", "fails")], 2),
        ("late", Meddling { body_delay: Duration::from_millis(1_500), ..none }, &["stream_late"], degraded, 1),
        ("another type", Meddling { answer_strips: &["content-type"], ..none },
            &["not_fanfare"], &[("sse", "fails"), ("stream", "fails"), ("events", "fails")], 1),
    ];
    for (name, how, findings, others, status) in rows {
        let (_proxy, url) = through(&server, *how);
        let report = report(&[&url, "--idle", "0"]);
        assert_eq!((codes(&report), states(&report)), (findings.to_vec(), all("works", others)), "{name}: {report}");
        assert_eq!(report["status"], json!(status), "{name}: {report}");
    }
}

#[test]
fn streams_that_are_held_back_are_found_although_their_heads_arrive() {
    let server = server();
    let how = Meddling { holds_bytes: usize::MAX, answer_adds: &[("Server", "nginx/1.22.1")], ..Meddling::default() };
    let (_proxy, url) = through(&server, how);
    let words = [&url, "--idle", "0", "--timeout", "5s"];
    let report = report(&words);
    let held = all("fails", &[("websocket", "works"), ("poll", "works")]);
    assert_eq!((codes(&report), states(&report)), (vec!["stream_buffered"], held), "{report}");
    assert_eq!(report["findings"][0]["about"], json!(["sse", "stream", "events"]));
    // The proxy names itself, so only its own line is printed.
    let said = said(&words);
    assert!(said.stdout.contains("nginx:   proxy_buffering off;") && !said.stdout.contains("Caddy:"), "{said:?}");
}

/// A server that sends a heartbeat each second.
fn beating() -> Server {
    Folder::new().start(&[
        "dev",
        "--listen",
        "127.0.0.1:0",
        "--api-key",
        "the-key-of-the-tests",
        "--heartbeat-interval",
        "1s",
    ])
}

const PING: &str = r#"{"type":"ping"}"#;

#[test]
fn heartbeats_that_do_not_arrive_and_lifetimes_are_found() {
    let server = beating();
    let beats = ["websocket", "sse", "stream"];
    // Without a fault each is answered, so that the server goes on.
    let words = |url: &str, idle: &'static str| report(&[url, "--idle", idle, "--channel", "quiet"]);
    let direct = words(&format!("http://{}", server.address), "5s");
    assert_eq!((codes(&direct), states(&direct)), (vec![], all("works", &[])), "{direct}");
    for transport in direct["transports"].as_array().expect("a list").iter().take(3) {
        assert!(transport["idle"]["heartbeats"].as_u64() >= Some(3), "{transport}");
    }
    for (stop, idle, code) in
        [(Stop::Silent(PING), "8s", "heartbeat_missing"), (Stop::End(PING, 2), "20s", "lifetime_cut")]
    {
        let (_proxy, url) = through(&server, Meddling { stop: Some(stop), ..Meddling::default() });
        let report = words(&url, idle);
        assert_eq!(codes(&report), [code], "{report}");
        assert_eq!(report["findings"][0]["about"], json!(beats), "{report}");
    }
}

#[test]
fn a_websocket_without_messages_is_found() {
    let server = server();
    let stop = Some(Stop::Silent(r#"{"type":"connected","#));
    let (_proxy, url) = through(&server, Meddling { stop, ..Meddling::default() });
    let report = report(&[&url, "--idle", "0", "--timeout", "3s"]);
    let mut found = codes(&report);
    found.sort_unstable();
    assert_eq!(found, ["poll_fails", "stream_buffered", "websocket_silent"], "{report}");
    assert_eq!((states(&report), &report["status"]), (all("fails", &[]), &json!(2)), "{report}");
}

#[test]
fn a_server_that_stops_or_is_full_says_so() {
    let server = beating();
    let proxy = FaultProxy::start(server.address.parse().expect("an address"), |_| Faults::default()).expect("a port");
    let url = format!("http://{}", proxy.address);
    let watching = std::thread::spawn(move || report(&[&url, "--idle", "50s", "--channel", "quiet"]));
    // Each of the watched connections answers heartbeats, or polls: by this number all are watched.
    while proxy.accepted() < 44 && !watching.is_finished() {
        std::thread::yield_now();
    }
    server.signal(rustix::process::Signal::TERM);
    let report = watching.join().expect("a report");
    assert!(codes(&report).contains(&"server_ends"), "{report}");

    let full = Folder::new().start(&["dev", "--listen", "127.0.0.1:0", "--limits-connections-max", "1"]);
    let _only = std::net::TcpStream::connect(&full.address).expect("the server listens");
    let report = self::report(&[&format!("http://{}", full.address), "--idle", "0"]);
    assert_eq!((codes(&report), &report["status"]), (vec!["overloaded"], &json!(2)), "{report}");
}

/// Without streams the clock is that of `Date`.
#[test]
fn a_clock_that_differs_and_streams_that_are_off_are_found() {
    let server = Folder::new().start(&[
        "dev",
        "--listen",
        "127.0.0.1:0",
        "--api-key",
        "the-key-of-the-tests",
        "--streams-enabled",
        "false",
    ]);
    let answer_adds = &[("Date", "Thu, 01 Jan 2015 00:00:00 GMT")];
    let (_proxy, url) = through(&server, Meddling { answer_strips: &["date"], answer_adds, ..Meddling::default() });
    let report = report(&[&url, "--idle", "0"]);
    let found = codes(&report);
    assert!(found.contains(&"clock_differs") && found.contains(&"streams_off"), "{report}");
}

#[test]
fn the_address_that_the_server_sees_is_checked() {
    let folder = Folder::new();
    let server = |trusted: &str| {
        let words = ["dev", "--listen", "127.0.0.1:0", "--api-key", "the-key-of-the-tests", "--trusted-proxies"];
        folder.start(&[&words[..], &[trusted]].concat())
    };
    let adds = &[("X-Forwarded-For", "203.0.113.7")];
    let none = Meddling::default();
    let deletes = Meddling { request_strips: &["x-forwarded-for", "forwarded"], request_adds: adds, ..none };
    let appends = Meddling { request_strips: &["forwarded"], request_adds: adds, ..none };
    let passes_forwarded = Meddling { request_adds: adds, ..none };
    #[rustfmt::skip]
    let rows: [(&str, &str, Meddling, &[&str], &str); 6] = [
        ("a proxy that is not trusted", "192.0.2.1", deletes, &["address_of_proxy"], "127.0.0.1"),
        ("a trusted one", "127.0.0.1", deletes, &[], "203.0.113.7"),
        ("one that appends", "127.0.0.1", appends, &[], "203.0.113.7"),
        ("one that passes the other header on", "127.0.0.1", passes_forwarded, &["address_forgeable"], "203.0.113.7"),
        ("one that says nothing", "127.0.0.1", none, &["address_forgeable", "address_of_proxy"], "127.0.0.1"),
        ("one that vouches for a stranger", "127.0.0.1,203.0.113.0/24", appends, &["address_forgeable", "address_of_proxy"], "203.0.113.7"),
    ];
    // The doctor comes over IPv6, so its own address is not the proxy's.
    let here = std::net::Ipv6Addr::LOCALHOST.into();
    for (name, trusted, how, expected, seen_as) in rows {
        let server = server(trusted);
        let address = server.address.parse().expect("an address");
        let proxy = FaultProxy::start_at(here, address, move |_| Faults::meddling(how)).expect("IPv6 on this machine");
        let report = report(&[&format!("http://{}", proxy.address), "--idle", "0"]);
        assert_eq!((codes(&report), &report["seen_as"]), (expected.to_vec(), &json!(seen_as)), "{name}: {report}");
    }
    // A client on a trusted machine is believed: nothing can be said.
    let server = server("loopback");
    let report = report(&[&format!("http://{}", server.address), "--idle", "0"]);
    assert_eq!((codes(&report), &report["seen_as"]), (vec![], &json!("127.0.0.1")), "{report}");
}

#[test]
fn idle_connections_that_are_cut_are_found_with_the_time() {
    let server = server();
    let address = server.address.parse().expect("an address");
    let proxy = FaultProxy::start(address, |_| Faults::idle_max(Duration::from_secs(2))).expect("a port");
    // Of the demo feed's channel messages come.
    let report = report(&[&format!("http://{}", proxy.address), "--idle", "10s", "--channel", "quiet"]);
    assert_eq!((codes(&report), states(&report)), (vec!["idle_cut", "poll_cut"], all("degraded", &[])), "{report}");
    for transport in report["transports"].as_array().expect("a list") {
        assert!(transport["idle"]["cut_after_ms"].as_u64() < Some(10_000), "{transport}");
    }
}

#[test]
fn a_token_is_asked_for_and_judged() {
    let (sender, address) = channel();
    // The handlers run on a thread of their own.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let server = Fanfare::builder(()).channel("events", |c| c.open());
            let server = server.on_connect(async |token: Option<Token>| match token {
                Some(token) if token.as_str() == "ada" => Ok(Identity::user("ada")),
                Some(_) => Err(Refusal::unauthorized("not one of ours")),
                None => Err(Refusal::unauthorized("a token, please")),
            });
            let listen = ["127.0.0.1:0".parse().expect("an address")];
            let running = server.build().expect("valid").start(&listen).expect("it starts");
            sender.send(running.addresses()[0].to_string()).expect("the test waits");
            std::future::pending::<()>().await;
        });
    });
    let url = format!("http://{}", address.recv().expect("an address"));
    let report = |more: &[&str]| report(&[&[&*url, "--idle", "0"], more].concat());
    // Without a key there is no API, which a client does not need.
    let refused = report(&[]);
    assert_eq!(
        (codes(&refused), states(&refused)),
        (vec!["token_needed", "api_absent"], all("refused", &[])),
        "{refused}"
    );
    let refused = report(&["--token", "bob"]);
    assert_eq!(codes(&refused), ["token_refused", "api_absent"], "{refused}");
    // A server without keys refuses every token: another one would be refused too.
    let keyless = server();
    let keyless = format!("http://{}", keyless.address);
    let unchecked = self::report(&[&*keyless, "--idle", "0", "--token", "ada"]);
    assert_eq!(codes(&unchecked), ["token_unchecked"], "{unchecked}");
    assert!(unchecked.to_string().contains("leave --token out"), "{unchecked}");
    let good = report(&["--token", "ada"]);
    assert_eq!((codes(&good), states(&good)), (vec!["api_absent"], all("works", &[])), "{good}");
    let denied = report(&["--token", "ada", "--channel", "other"]);
    let states_denied = all("works", &[("events", "untried")]);
    assert_eq!((codes(&denied), states(&denied)), (vec!["channel_denied", "api_absent"], states_denied), "{denied}");
    assert_eq!(denied["status"], 0);
}

/// Something that gives this answer to every request.
fn answering(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
                request.push(byte[0]);
            }
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    url
}

#[test]
fn another_program_at_the_address_is_told_from_fanfare() {
    #[rustfmt::skip]
    let rows = [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "not_fanfare", "200: hello"),
        ("HTTP/1.1 404 Not Found\r\nServer: nginx\r\nContent-Length: 0\r\n\r\n", "not_fanfare", "404 from nginx"),
        ("HTTP/1.1 502 Bad Gateway\r\nServer: nginx\r\n\r\n<h1>no</h1>", "server_down", "502 from nginx: <h1>no</h1>"),
        ("HTTP/1.1 302 Found\r\nLocation: https://x/\r\nContent-Length: 0\r\n\r\n", "redirected", "302 to https://x/"),
        ("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", "proxy_refuses", "401"),
        ("HTTP/1.1 421 No\r\n\r\nthe host \"x\" is not served here: the option `hosts` does not list it", "host_not_served",
            "421: the host \"x\" is not served here: the option `hosts` does not list it"),
        ("SSH-2.0-OpenSSH\r\n", "not_fanfare", "the answer is not HTTP: invalid HTTP version"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "not_fanfare", "the body is not in chunks, as its head says"),
        ("", "ended_unanswered", "the connection ended without an answer"),
        ("\x15\x03\x01\x00\x02\x02\x46", "speaks_tls", "it answers in TLS"),
    ];
    for (answer, code, seen) in rows {
        let report = report(&[&answering(answer)]);
        assert_eq!(codes(&report), [code], "{answer:?}: {report}");
        assert_eq!((&report["findings"][0]["seen"], &report["status"]), (&json!(seen), &json!(2)), "{answer:?}");
    }
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    assert_eq!(codes(&report(&[&format!("http://{free}")])), ["unreachable"]);
    assert_eq!(codes(&report(&["http://no-such-host.invalid"])), ["name_unknown"]);
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", silent.local_addr().expect("bound"));
    assert_eq!(codes(&report(&[&url, "--timeout", "100ms"])), ["no_answer"]);
}

/// Without its header Fanfare closes the connection, or resets it because of the request that nobody read. That is no
/// answer of another program.
#[test]
fn an_address_for_proxies_is_told_from_another_program() {
    let folder = Folder::with(&format!("trusted_proxies = [\"loopback\"]\n{CHANNELS}"));
    let listen = "127.0.0.1:0";
    let server = folder.start(&["serve", "--listen", listen, "--proxy-protocol", listen]);
    let report = report(&[&format!("http://{}", server.address), "--idle", "0"]);
    assert_eq!((codes(&report), &report["status"]), (vec!["ended_unanswered"], &json!(2)), "{report}");
    let finding = &report["findings"][0];
    assert!(finding["change"].as_str().is_some_and(|change| change.contains("`proxy_protocol`")), "{finding}");
    assert!(finding["seen"].as_str().is_some_and(|seen| seen.ends_with(" without an answer")), "{finding}");
}

const CHANNELS: &str = "[admin]\nlisten = \"off\"\n[[channels]]\nmatch = \"**\"\nsubscribe = \"anyone\"\n";

#[test]
fn a_wrong_path_is_told_from_a_wrong_address() {
    let folder = Folder::with(&format!("listen = \"127.0.0.1:0\"\nbase_path = \"/live\"\n{CHANNELS}"));
    let server = folder.start(&["serve"]);
    for (path, expected) in [("/live", vec!["api_absent"]), ("", vec!["wrong_path"]), ("/other", vec!["wrong_path"])] {
        let report = report(&[&format!("http://{}{path}", server.address), "--idle", "0"]);
        assert_eq!(codes(&report), expected, "{path}: {report}");
    }
    let plain = self::server();
    let report = report(&[&format!("http://{}/live", plain.address), "--idle", "0"]);
    assert_eq!(codes(&report), ["wrong_path"], "{report}");
    assert!(
        report["findings"][0]["seen"].as_str().expect("a text").contains("there is a Fanfare at /v1/ws"),
        "{report}"
    );
}

#[test]
fn tls_is_described_and_http_2_is_tried() {
    let folder = Folder::with(&format!(
        "listen = \"127.0.0.1:0\"\n[tls]\ncertificate = \"cert.pem\"\nkey = \"key.pem\"\n{CHANNELS}"
    ));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_secs();
    let in_days = |days: u64| {
        let mut params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("names");
        params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(now + days * 86_400 + 3_600);
        let key = KeyPair::generate().expect("a key");
        folder.write("cert.pem", &params.self_signed(&key).expect("a certificate").pem());
        folder.write("key.pem", &key.serialize_pem());
    };
    for (days, expected) in [(90, vec!["api_absent"]), (3, vec!["certificate_expires", "api_absent"])] {
        in_days(days);
        let server = folder.start(&["serve"]);
        let ca = folder.path("cert.pem").display().to_string();
        let report = report(&[&format!("https://{}", server.address), "--cacert", &ca, "--idle", "0"]);
        assert_eq!((codes(&report), states(&report)), (expected, all("works", &[])), "{report}");
        assert_eq!(report["http"], json!(["1.1", "2"]));
        let tls = &report["tls"];
        assert_eq!(
            (&tls["version"], &tls["chain"], &tls["expires_in_days"]),
            (&json!("TLS 1.3"), &json!(1), &json!(days))
        );
        assert_eq!(tls["names"], json!(["localhost", "127.0.0.1"]));
        // Another authority is trusted.
        folder.write("other.pem", &Authority::new().pem());
        let ca = folder.path("other.pem").display().to_string();
        let report = self::report(&[&format!("https://{}", server.address), "--cacert", &ca, "--idle", "0"]);
        assert_eq!(report["status"], 2);
        assert_eq!((codes(&report), &report["tls"]["chain"]), (vec!["certificate_invalid"], &json!(1)), "{report}");
    }
    // A certificate whose time is over: described all the same.
    let (plain, authority) = (server(), Authority::new());
    let proxy = TlsProxy::start(
        plain.address.parse().expect("an address"),
        authority.server(&["localhost"], Valid(2020, 2021)),
    );
    folder.write("ca.pem", &authority.pem());
    let ca = folder.path("ca.pem").display().to_string();
    let report = report(&[&format!("https://localhost:{}", proxy.port), "--cacert", &ca, "--idle", "0"]);
    assert_eq!(codes(&report), ["certificate_invalid"], "{report}");
    assert!(report["tls"]["expires_in_days"].as_i64() < Some(0), "{report}");
}

#[test]
fn http_2_and_tls_that_do_not_work_are_found() {
    let (plain, authority, folder) = (server(), Authority::new(), Folder::new());
    let behind = plain.address.parse().expect("an address");
    folder.write("ca.pem", &authority.pem());
    let ca = folder.path("ca.pem").display().to_string();
    let doctor = |port: u16| report(&[&format!("https://localhost:{port}"), "--cacert", &ca, "--idle", "0"]);
    let tls = |alpn: &[&str]| {
        let mut config = authority.server(&["localhost"], NOW);
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    };
    let without = TlsProxy::start(behind, tls(&["http/1.1"]));
    let report = doctor(without.port);
    assert_eq!((codes(&report), states(&report)), (vec!["no_http_2"], all("works", &[])), "{report}");
    // A proxy that agrees upon HTTP/2 and knows only HTTP/1.
    let old = FaultProxy::start(behind, |_| Faults::meddling(Meddling::default())).expect("a port");
    let lies = TlsProxy::start(old.address, tls(&["h2", "http/1.1"]));
    let report = doctor(lies.port);
    assert_eq!(codes(&report), ["http_2_fails"], "{report}");
    // No TLS at all.
    let report = doctor(behind.port());
    assert_eq!((codes(&report), &report["status"]), (vec!["tls_failed"], &json!(2)), "{report}");
}

/// Each address of a name is tried: this server listens at one of those of `localhost`.
#[test]
fn an_address_that_nobody_answers_at_is_found() {
    let server = server();
    let port = server.address.rsplit(':').next().expect("a port");
    let addresses = std::net::ToSocketAddrs::to_socket_addrs(&("localhost", 1)).expect("it has addresses").count();
    let report = report(&[&format!("http://localhost:{port}"), "--idle", "0"]);
    let expected = if addresses > 1 { vec!["address_silent"] } else { vec![] };
    assert_eq!((codes(&report), states(&report)), (expected, all("works", &[])), "{report}");
}

#[test]
fn mistakes_on_the_command_line_are_refused() {
    let rows: [(&[&str], &str); 5] = [
        (&["localhost"], "begin with http://"),
        (&["http://x", "--idle", "soon"], "write a time"),
        (&["http://x", "--timeout", "0"], "more than 0"),
        (&["http://x", "--origin", "app.example"], "https://app.example"),
        (&["http://x", "--token", "a\nb"], "control character"),
    ];
    for (words, part) in rows {
        let said = said(words);
        assert!(said.status == Some(1) && said.stderr.contains(part) && said.stdout.is_empty(), "{words:?}: {said:?}");
    }
}
