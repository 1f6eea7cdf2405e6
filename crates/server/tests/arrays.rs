//! Arrays of commands from a client that does not read: the bytes that wait for it stay bounded, and in the end it has
//! every answer.

// Clippy allows unwrap in tests, but does not recognise helpers of tests.
#![allow(clippy::unwrap_used)]

mod support;

use fanfare::{AdminOn, Config, Fanfare};
use serde_json::json;
use socket2::{Domain, Socket, Type};
use std::io::Write;
use support::scrape::scrape;
use support::{Client, Server, config, patient, response, shards, upgrade};

#[test]
fn an_array_of_one_who_does_not_read_is_answered_as_it_reads() {
    const COMMANDS: u64 = 32;
    let rules = Config::open().rules;
    let mut config = Config { rules, ..config() };
    config.limits.outbox_bytes_max = 32 << 10; // the connection is choked at four times that: one answer exceeds it
    let builder = Fanfare::builder(()).config(config).admin(AdminOn::MainPort);
    let server = Server::of(builder);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&server.address.into()).unwrap();
    let mut socket = patient(socket.into());
    socket.write_all(&upgrade(server.address, "/v1/ws", &["fanfare.v1"], &[])).unwrap();
    assert_eq!(response(&mut socket).status(), 101);
    let mut client = Client::of(socket);
    client.text(&json!({"type": "connect", "id": "c"}).to_string());
    client.until("connected");
    for n in 0..100 {
        let data = format!("{n} {}", "x".repeat(2_000));
        client.text(&json!({"type": "publish", "id": n, "channel": "a:b", "data": data}).to_string());
        client.until("published");
    }
    let ask = |id| json!({"type": "history", "id": id, "channel": "a:b", "limit": 100});
    client.text(&json!((0..COMMANDS).map(ask).collect::<Vec<_>>()).to_string());
    // An answer has about 210 KB, and all answers together have 6.7 MB. However much of it the kernel takes, at most
    // this much waits in the server. (Answers of other shards are on their way when the first one chokes the
    // connection: as many as a connection may have outstanding.)
    if shards() == 1 {
        assert!(scrape(server.address).sum("fanfare_outbox_bytes") < 1e6);
    }
    for id in 0..COMMANDS {
        let answer = client.message();
        assert_eq!((&answer["type"], &answer["id"]), (&json!("history"), &json!(id)));
        assert_eq!(answer["publications"].as_array().map(Vec::len), Some(100));
    }
    client.text(&json!({"type": "history", "id": "last", "channel": "a:b", "limit": 1}).to_string());
    assert_eq!(client.message()["id"], "last");
}
