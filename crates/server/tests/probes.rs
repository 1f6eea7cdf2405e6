//! Probes report a shard that takes no turns: 503 with its number, on the admin port and on the main one, and `ok`
//! again once it runs. The API answers meanwhile, and the server can be stopped.
//!
//! The test's own protocol blocks the shard for as long as the test wants.

mod support;

use fanfare::hub::{Now, Push, Reply};
use fanfare::{
    Actions, Address, AdminOn, ApiKey, Config, Conversation, Encoded, Fanfare, Message, Place, Protocol, Running,
    ServeError,
};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::{Client, DEADLINE, Response, config, connect, response};

/// Its first message blocks for as long as the test likes.
#[derive(Clone)]
struct Stuck {
    begun: Sender<()>,
    go_on: Arc<Mutex<Receiver<()>>>,
}

impl Protocol for Stuck {
    fn open(
        &self,
        _place: &Place,
        _: Option<&std::sync::Arc<fanfare::RequestInfo>>,
        _actions: &mut Actions,
    ) -> Box<dyn Conversation> {
        Box::new(self.clone())
    }

    fn encode_push(&self, _push: &Push, _now: Now, _out: &mut Vec<u8>) -> Encoded {
        Encoded::Nothing
    }
}

impl Conversation for Stuck {
    fn message(&mut self, _message: Message<'_>, _actions: &mut Actions) {
        self.begun.send(()).expect("the test waits");
        let _ = self.go_on.lock().expect("nobody panics").recv(); // the end of the test ends it too
    }

    fn encode_reply(&mut self, _reply: &Reply, _now: Now, _out: &mut Vec<u8>) -> Encoded {
        Encoded::Nothing
    }
}

fn get(address: SocketAddr, path: &str) -> Response {
    let mut socket = connect(address);
    socket.write_all(request(path).as_bytes()).expect("the server reads");
    response(&mut socket)
}

fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

/// The first of many connections that is answered: some of them are on the stuck shard.
fn any_answer(address: SocketAddr, request: &str) -> String {
    let mut sockets: Vec<TcpStream> = (0..32).map(|_| connect(address)).collect();
    for socket in &mut sockets {
        socket.write_all(request.as_bytes()).expect("the kernel takes it");
        socket.set_nonblocking(true).expect("a socket");
    }
    let (mut answers, deadline) = (vec![Vec::new(); sockets.len()], Instant::now() + DEADLINE);
    while Instant::now() < deadline {
        for (socket, answer) in sockets.iter_mut().zip(&mut answers) {
            if socket.read_to_end(answer).is_ok() && !answer.is_empty() {
                return String::from_utf8(std::mem::take(answer)).expect("text");
            }
        }
        std::thread::yield_now();
    }
    panic!("no shard has answered");
}

#[test]
fn a_silent_shard_is_named_by_every_probe_until_it_takes_its_turns_again() {
    let (begun, has_begun) = channel();
    let (go_on, goes_on) = channel();
    let stuck = Stuck { begun, go_on: Arc::new(Mutex::new(goes_on)) };
    let on = AdminOn::Address(Address::Tcp("127.0.0.1:0".parse().expect("an address")));
    let running = Fanfare::builder(())
        .config(Config { shards: 2, ..config() })
        .admin(on)
        .protocol("/", stuck)
        .build()
        .expect("good settings")
        .start(&["127.0.0.1:0".parse().expect("an address")])
        .expect("free ports");
    let main = running.tcp_address().expect("TCP");
    let Some(&Address::Tcp(admin)) = running.admin_address() else { panic!("an admin port") };
    assert_eq!(get(admin, "/healthz").body, "ok\n");

    let mut client = Client::open(main, "/");
    client.text("be stuck");
    has_begun.recv_timeout(DEADLINE).expect("a shard is stuck");
    let health = get(admin, "/healthz");
    assert_eq!(health.status(), 503);
    let shard = health.body.strip_prefix("shard ").and_then(|rest| rest.strip_suffix(" did not answer within 2 s\n"));
    assert!(["0", "1"].contains(&shard.expect("it is named")), "{}", health.body);
    let ready = get(admin, "/readyz");
    assert_eq!((ready.status(), &ready.body), (503, &health.body), "nor are clients to be sent here");
    let on_main = any_answer(main, &request("/healthz"));
    assert!(on_main.starts_with("HTTP/1.1 503 ") && on_main.ends_with(&health.body), "{on_main}");

    go_on.send(()).expect("it waits");
    for path in ["/healthz", "/readyz"] {
        assert_eq!(get(admin, path).status(), 200, "{path}");
        assert!(any_answer(main, &request("/healthz")).starts_with("HTTP/1.1 200 "), "{path}");
    }
    drop(client);
    drop(running);
}

/// A server of two shards, one of which is stuck until the sender is used or dropped.
fn half_stuck(config: Config) -> (Running, Client, Sender<()>) {
    let (begun, has_begun) = channel();
    let (go_on, goes_on) = channel();
    let running = Fanfare::builder(())
        .config(Config { shards: 2, ..config })
        .api_key(ApiKey::new("backend", "0123456789abcdef").expect("a key"))
        .protocol("/", Stuck { begun, go_on: Arc::new(Mutex::new(goes_on)) })
        .build()
        .expect("good settings")
        .start(&["127.0.0.1:0".parse().expect("an address")])
        .expect("a free port");
    let mut client = Client::open(running.tcp_address().expect("TCP"), "/");
    client.text("be stuck");
    has_begun.recv_timeout(DEADLINE).expect("a shard is stuck");
    (running, client, go_on)
}

#[test]
fn the_api_answers_in_bounded_time_while_a_shard_is_silent() {
    let mut quick = config();
    quick.limits.store_timeout_ms = 10;
    let (running, _client, go_on) = half_stuck(quick);
    let main = running.tcp_address().expect("TCP");
    let ask = |command: &str, body: &str| {
        let len = body.len();
        let head = "Host: localhost\r\nConnection: close\r\nAuthorization: Bearer 0123456789abcdef";
        any_answer(main, &format!("POST /api/v1/{command} HTTP/1.1\r\n{head}\r\nContent-Length: {len}\r\n\r\n{body}"))
    };
    let refused = |answer: &str, code: &str| {
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains(&format!("\"code\":\"{code}\"")), "{answer}");
        assert!(answer.contains("\"retryable\":true"), "{answer}");
    };
    refused(&ask("info", "{}"), "unavailable");
    // Of many publications, those to channels of the other shard are stored.
    let names: Vec<String> = (0..64).map(|number| format!("channel-{number}")).collect();
    let body = serde_json::json!({"channels": names, "data": 1}).to_string();
    let answer = ask("broadcast", &body);
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
    let results = body["results"].as_array().expect("results");
    let is_unknown = |result: &serde_json::Value| result.to_string().contains("\"unknown\"");
    assert!(
        results.iter().any(is_unknown) && results.iter().any(|result| result["result"]["offset"].is_u64()),
        "{body}"
    );
    let of_the_silent = &names[results.iter().position(is_unknown).expect("one of them")];
    refused(&ask("publish", &format!("{{\"channel\":\"{of_the_silent}\",\"data\":1}}")), "unknown");
    refused(&ask("history", &format!("{{\"channel\":\"{of_the_silent}\"}}")), "unavailable");
    drop(go_on);
    drop(running);
}

#[test]
fn the_stop_of_a_server_with_a_silent_shard_ends_and_names_the_shard() {
    let mut quick = Config { close_timeout: Duration::from_millis(1), ..config() };
    quick.limits.hook_timeout_ms = 1;
    for is_async in [false, true] {
        let (running, _client, go_on) = half_stuck(quick.clone());
        let error = match is_async {
            false => running.drain_blocking().expect_err("a shard is silent"),
            true => {
                let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without a clock");
                runtime.block_on(running.drain()).expect_err("a shard is silent")
            }
        };
        assert!(matches!(&error, ServeError::Silent { shards, .. } if shards.len() == 1), "{error:?}");
        assert!(error.to_string().ends_with(" does not answer"), "{error}");
        drop(go_on);
    }
}
