//! The shell under load and with invalid bytes, with the smallest protocol: large messages, many at once, peers that do
//! not read, and random bytes.

// Clippy allows unwrap in tests, but does not recognise helpers of tests.
#![allow(clippy::unwrap_used)]

mod support;

use fanfare::hub::Limits;
use fanfare::{Config, Echo, Fanfare};
use fanfare_wire::websocket::{Opcode, put_frame_parts};
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::Duration;
use support::{Client, Frame, Random, Server, config, connect, frame, join, patient_chat, say, upgrade};

#[test]
fn four_megabytes_in_fragments_come_back_whole() {
    const BYTES: usize = 4 << 20;
    let server =
        Server::of(Fanfare::builder(()).config(config()).protocol("/echo", Echo::default().message_bytes_max(BYTES)));
    let payload = Random::new(4).bytes(BYTES);
    for fragment in [64 << 10, 4096, 1000] {
        let mut client = Client::open(server.address, "/echo");
        let mut socket = client.socket.try_clone().unwrap();
        let sent = payload.clone();
        let writing = std::thread::spawn(move || {
            let count = sent.len().div_ceil(fragment);
            for (n, part) in sent.chunks(fragment).enumerate() {
                let opcode = if n == 0 { Opcode::Binary } else { Opcode::Continuation };
                let mut bytes = Vec::new();
                put_frame_parts(&mut bytes, n + 1 == count, false, opcode, part, Some([n as u8, 2, 3, 4]));
                if n == 5 {
                    bytes.extend_from_slice(&frame(Opcode::Ping, b"between"));
                }
                socket.write_all(&bytes).unwrap();
            }
        });
        assert_eq!(client.next(), Frame::Pong(b"between".to_vec()), "fragments of {fragment}");
        assert!(client.next() == Frame::Binary(payload.clone()), "fragments of {fragment}");
        writing.join().unwrap();
        client.send(Opcode::Binary, &payload[..BYTES / 2]);
        assert!(client.next() == Frame::Binary(payload[..BYTES / 2].to_vec()), "and in one frame");
        client.send(Opcode::Continuation, b"");
        assert_eq!(client.closed(), Some(1002));
    }
}

#[test]
fn a_message_over_the_limit_is_closed_with_1009() {
    let server = Server::start(config());
    let mut client = Client::open(server.address, "/echo");
    let max = Limits::default().message_bytes_max;
    client.send(Opcode::Text, "x".repeat(max).as_bytes());
    assert_eq!(client.next(), Frame::Text("x".repeat(max)));
    // Only the header and a few bytes: the server judges the declared length and does not wait for the rest.
    client.socket.write_all(&frame(Opcode::Text, &vec![b'x'; max + 1])[..20]).unwrap();
    assert_eq!(client.closed(), Some(1009));
}

#[test]
fn twenty_thousand_messages_in_one_write_come_back_in_order() {
    const MESSAGES: u32 = 20_000;
    let server = Server::start(config());
    let mut client = Client::open(server.address, "/echo");
    let mut all = Vec::new();
    for n in 0..MESSAGES {
        let opcode = if n % 2 == 0 { Opcode::Text } else { Opcode::Binary };
        all.extend_from_slice(&frame(opcode, n.to_string().as_bytes()));
    }
    let mut socket = client.socket.try_clone().unwrap();
    let writing = std::thread::spawn(move || socket.write_all(&all).unwrap());
    for n in 0..MESSAGES {
        let text = n.to_string();
        let expected = if n % 2 == 0 { Frame::Text(text) } else { Frame::Binary(text.into_bytes()) };
        assert_eq!(client.next(), expected);
    }
    writing.join().unwrap();
    client.close();
}

/// The server stops reading a peer that sends and never reads, so the peer cannot make the server hold all that it
/// sends.
#[test]
fn a_client_that_reads_no_answers_is_not_read() {
    const BYTES: usize = 64 << 20;
    let limits = Limits { outbox_bytes_max: 64 << 10, ..Limits::default() };
    let server = Server::start(Config { limits, ..config() });
    let mut client = Client::open(server.address, "/echo");
    client.socket.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    let message = frame(Opcode::Binary, &[7; 32 << 10]);
    let (mut messages, mut part) = (0, 0);
    // The kernel's buffers take some megabytes; then the server must stop reading.
    while messages * message.len() < BYTES {
        match client.socket.write(&message[part..]) {
            Ok(count) => {
                part += count;
                if part == message.len() {
                    (messages, part) = (messages + 1, 0);
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(messages * message.len() < BYTES, "the server took {BYTES} bytes of a peer that does not read");
    // The server continues as soon as the peer reads.
    let mut socket = support::patient(client.socket.try_clone().unwrap());
    let rest = message[part..].to_vec();
    let writing = std::thread::spawn(move || socket.write_all(&rest).unwrap());
    for n in 0..=messages {
        assert!(client.next() == Frame::Binary(vec![7; 32 << 10]), "message {n}");
    }
    writing.join().unwrap();
    client.close();
}

/// RFC 6455 §5.5.3: a peer that does not read gets an answer to its newest ping only. Pongs need no order relative to
/// messages.
/// Autobahn 2.10.
#[test]
fn each_ping_of_a_burst_is_answered_in_order() {
    let server = Server::start(config());
    let mut client = Client::open(server.address, "/echo");
    let payloads: Vec<Vec<u8>> = (0..10).map(|n| format!("ping {n}").into_bytes()).collect();
    let burst: Vec<u8> = payloads.iter().flat_map(|payload| frame(Opcode::Ping, payload)).collect();
    client.socket.write_all(&burst).unwrap();
    for payload in payloads {
        assert_eq!(client.next(), Frame::Pong(payload));
    }
}

#[test]
fn the_newest_ping_is_answered_however_many_came() {
    let server = Server::start(config());
    let mut client = Client::open(server.address, "/echo");
    let mut flood = frame(Opcode::Text, b"before");
    (0..50_000_u32).for_each(|n| flood.extend(frame(Opcode::Ping, &n.to_be_bytes())));
    flood.extend(frame(Opcode::Text, b"after"));
    let mut socket = client.socket.try_clone().unwrap();
    let writing = std::thread::spawn(move || socket.write_all(&flood).unwrap());
    writing.join().unwrap();
    let (mut texts, mut last) = (Vec::new(), None);
    while texts.len() < 2 || last != Some(49_999) {
        match client.next() {
            Frame::Text(text) => texts.push(text),
            Frame::Pong(payload) => {
                let n = u32::from_be_bytes(payload.try_into().unwrap());
                assert!(last < Some(n), "{n} comes after {last:?}");
                last = Some(n);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(texts, ["before", "after"]);
    client.close();
}

/// A few thousand peers send invalid bytes, before and after the upgrade, whole frames and halves; afterwards all
/// shards still serve.
#[test]
fn nonsense_ends_its_own_connection_and_nothing_else() {
    let close_timeout = Duration::from_millis(200);
    let builder = Fanfare::builder(()).config(Config { close_timeout, ..config() });
    let server = Server::of(builder.protocol("/", patient_chat()).protocol("/echo", Echo::default()));
    let mut random = Random::new(77);
    let pieces = [
        frame(Opcode::Text, join("ada", "nonsense").as_bytes()),
        frame(Opcode::Text, say("hi").as_bytes()),
        frame(Opcode::Text, br#"{"type":"typing","content":"x"}"#),
        frame(Opcode::Text, br#"{"type":"leave"}"#),
        frame(Opcode::Ping, b"ping"),
        frame(Opcode::Continuation, b"more"),
        frame(Opcode::Close, &1000_u16.to_be_bytes()),
        frame(Opcode::Close, b"\x03"),
        frame(Opcode::Text, b"\xFF\xFE"),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        upgrade(server.address, "/", &[], &[]),
        upgrade(server.address, "/echo", &[], &[]),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(),
    ];
    for round in 0..3_000 {
        let mut sent = Vec::new();
        match round % 4 {
            0 => {}
            1 => sent.extend_from_slice(&upgrade(server.address, "/echo", &[], &[])),
            _ => sent.extend_from_slice(&upgrade(server.address, "/", &[], &[])),
        }
        for _ in 0..random.below(8) {
            match random.below(4) {
                0 => {
                    let len = random.below(60);
                    sent.extend_from_slice(&random.bytes(len));
                }
                _ => sent.extend_from_slice(&pieces[random.below(pieces.len())]),
            }
        }
        if random.below(2) == 0 && !sent.is_empty() {
            let at = random.below(sent.len());
            sent[at] = random.bytes(1)[0];
        }
        sent.truncate(sent.len() - random.below(sent.len() / 4 + 1));
        let mut socket = connect(server.address);
        if socket.write_all(&sent).is_err() || round % 5 == 0 {
            continue; // the peer or this side may have ended already
        }
        let _ = socket.shutdown(Shutdown::Write); // the server may have been first
        let mut buffer = [0; 4096];
        loop {
            match socket.read(&mut buffer) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                Err(error) => panic!("{error} in round {round}: {sent:?}"),
            }
        }
    }
    let mut clients: Vec<_> = (0..20).map(|n| Client::join(server.address, &format!("c{n}"), "r")).collect();
    clients[0].say("all is well");
    for client in &mut clients {
        assert_eq!(client.until("message")["content"], "all is well");
    }
    assert_eq!(server.open().0, 20, "connections that are gone are kept");
}
