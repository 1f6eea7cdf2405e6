//! Chats over real sockets: each member's messages and their order, and the ends of a connection: by its own close, by
//! silence, by reading too slowly, and by the server's end.

#![allow(clippy::unwrap_used)] // helpers stand outside of `#[test]`; a panic in one fails the test

mod support;

use fanfare::hub::{Limits, Pattern, Quotas, Rule, Rules, Who};
use fanfare::{Config, Fanfare};
use fanfare_wire::websocket::Opcode;
use serde_json::json;
use socket2::{Domain, Socket, Type};
use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Barrier};
use std::time::Duration;
use support::{Client, Frame, Server, config, frame, join, patient, rules, say, shards};

/// A server whose chats ping at this interval.
fn with_heartbeat(heartbeat_ms: u32) -> Server {
    let close_timeout = Duration::from_millis(100);
    let config = Config { close_timeout, ..config() };
    Server::of(Fanfare::builder(()).config(config).protocol("/", support::patient_chat().heartbeat_ms(heartbeat_ms)))
}

#[test]
fn a_room_hears_who_comes_speaks_types_and_goes() {
    let server = Server::start(config());
    let mut ada = Client::join(server.address, "ada", "r");
    let mut other = Client::join(server.address, "eve", "elsewhere");
    let mut bo = Client::open(server.address, "/");
    bo.text(&join("bo", "r"));
    let state = bo.until("room_state");
    assert_eq!(state["users"], serde_json::json!([{"userId": "ada", "username": "ada"}]));
    let came = ada.until("join");
    let came = if came["userId"] == "ada" { ada.until("join") } else { came }; // ada may hear of herself first
    assert_eq!((&came["userId"], &came["username"]), (&"bo".into(), &"bo".into()));
    bo.text(r#"{"type":"typing"}"#);
    assert_eq!(ada.until("typing")["userId"], "bo");
    bo.say("hello");
    for client in [&mut ada, &mut bo] {
        let said = client.until("message");
        assert_eq!((&said["userId"], &said["content"]), (&"bo".into(), &"hello".into()));
        assert!(said["timestamp"].is_u64());
    }
    bo.send(Opcode::Binary, say("in binary").as_bytes());
    assert_eq!(ada.until("message")["content"], "in binary");
    bo.text(r#"{"type":"leave"}"#);
    assert_eq!(ada.until("leave")["userId"], "bo");
    bo.say("nobody hears me");
    bo.text("not even this: {");
    bo.text(&join("bo", "r"));
    assert_eq!(ada.until("join")["userId"], "bo");
    drop(bo);
    assert_eq!(ada.until("leave")["userId"], "bo", "a connection that is just gone");
    other.say("and nothing of all this");
    let heard = other.until("message");
    assert_eq!(heard["content"], "and nothing of all this");
}

/// It would wait for a `room_state` that does not come, and show a message that nobody got as sent.
#[test]
fn a_client_is_told_that_its_join_or_its_message_is_refused() {
    let rule = |name: &str| Rule::open(Pattern::new(name).unwrap());
    let closed = Rule { subscribe: vec![Who::Nobody], ..rule("chat:closed") };
    let quiet = Rule { publish: vec![Who::Server], ..rule("chat:quiet") };
    let rules = Arc::new(Rules::new(vec![closed, quiet, rule("chat:*")]));
    let server = Server::start(Config { rules, ..config() });
    let mut ada = Client::join(server.address, "ada", "r");
    let mut told = |messages: &[String], kind: &str| {
        messages.iter().for_each(|message| ada.text(message));
        let told = ada.until(kind);
        ["code", "roomId", "retryable"].map(|field| told[field].clone())
    };
    let denied = |room: &str| [json!("denied"), json!(room), json!(false)];
    assert_eq!(told(&[join("ada", "closed")], "error"), denied("closed"), "a second join");
    told(&[say("to nobody"), join("ada", "quiet")], "room_state");
    assert_eq!(told(&[say("hello")], "error"), denied("quiet"), "and nothing of the message to nobody");
    told(&[join("ada", "r")], "room_state");
    assert_eq!(told(&[join("ada", "closed")], "error"), denied("closed"));
}

/// JavaScript can send text that was cut in the middle of an emoji: valid JSON that no UTF-8 can represent. It is shown
/// as U+FFFD, which browsers show for it anyway.
#[test]
fn half_an_emoji_reaches_everybody_as_one_character() {
    let server = Server::start(config());
    let half = |text: &str, expected: &str| {
        assert!(text.contains(expected), "{text}");
    };
    let next = |client: &mut Client, kind: &str| loop {
        match client.next() {
            Frame::Text(text) if text.starts_with(&format!("{{\"type\":\"{kind}\"")) => break text,
            Frame::Text(_) => {}
            other => panic!("{other:?}"),
        }
    };
    let mut ada = Client::join(server.address, "ada", "r");
    let mut bo = Client::open(server.address, "/");
    bo.text(r#"{"type":"join","userId":"bo","username":"Bo \ud83d","roomId":"r"}"#);
    half(&next(&mut ada, "join"), r#""userId":"bo","username":"Bo �""#);
    next(&mut bo, "room_state");
    bo.text(r#"{"type":"typing","content":"cut \ud83d"}"#);
    half(&next(&mut ada, "typing"), r#""content":"cut �""#);
    bo.text(r#"{"type":"message","userId":"\ud83d","content":"cut \ud83d"}"#);
    for client in [&mut ada, &mut bo] {
        half(&next(client, "message"), r#""userId":"bo","username":"Bo �","content":"cut �""#);
    }
    let mut eve = Client::open(server.address, "/");
    eve.text(&join("eve", "r"));
    half(&next(&mut eve, "room_state"), r#"{"userId":"bo","username":"Bo �"}"#);
    drop(bo);
    half(&next(&mut ada, "leave"), r#""userId":"bo","username":"Bo �""#);
}

/// Over all shards (the kernel decides where each connection lands): the room gets a user's leave only when their last
/// connection ends.
#[test]
fn a_user_leaves_with_their_last_tab_whatever_shards_the_tabs_are_on() {
    let server = Server::start(config());
    let mut bo = Client::join(server.address, "bo", "r");
    let named = |username: &str| {
        serde_json::json!({"type": "join", "userId": "ada", "username": username, "roomId": "r"}).to_string()
    };
    let mut tabs: Vec<Client> = (0..6)
        .map(|n| {
            let mut tab = Client::open(server.address, "/");
            tab.text(&named(&format!("Ada {n}")));
            let state = tab.until("room_state");
            assert_eq!(state["users"], serde_json::json!([{"userId": "bo", "username": "bo"}]), "not oneself");
            assert_eq!(bo.until("join")["username"], format!("Ada {n}"), "a join is said of each");
            tab
        })
        .collect();
    let mut cy = Client::open(server.address, "/");
    cy.text(&join("cy", "r"));
    let users = cy.until("room_state")["users"].clone();
    let expected =
        [("bo", "bo"), ("ada", "Ada 5")].map(|(id, name)| serde_json::json!({"userId": id, "username": name}));
    assert_eq!(users, serde_json::json!(expected), "once, by the name that the room heard last");
    assert_eq!(bo.until("join")["userId"], "cy");

    tabs.remove(0).close(); // with a close frame
    tabs.remove(0).text(r#"{"type":"leave"}"#);
    tabs.remove(0).text(&join("ada", "another room"));
    drop(tabs.remove(0)); // without a close frame
    tabs[0].text(&join("ada", "r")); // the same room again: the room gets a join and no leave
    assert_eq!(bo.message()["type"], "join");
    let last = tabs.remove(1);
    drop(tabs);
    drop(last);
    let gone = bo.message();
    assert_eq!((&gone["type"], &gone["userId"]), (&"leave".into(), &"ada".into()));
    drop(cy);
    let gone = bo.message();
    assert_eq!((&gone["type"], &gone["userId"]), (&"leave".into(), &"cy".into()), "once, and nothing in between");
}

/// Many clients enter one room at once, over all shards: each learns of every other exactly once, by its `room_state`
/// or by a join.
#[test]
fn a_newcomer_is_told_of_everybody_once() {
    const MEMBERS: usize = 48;
    for round in 0..3 {
        let server = Server::start(config());
        let address = server.address;
        let start = Arc::new(Barrier::new(MEMBERS));
        let comers: Vec<_> = (0..MEMBERS)
            .map(|n| {
                let start = start.clone();
                std::thread::spawn(move || {
                    let mut client = Client::open(address, "/");
                    start.wait();
                    client.text(&join(&format!("u{n}"), "r"));
                    let mut members = Vec::new();
                    while members.len() < MEMBERS {
                        let message = client.message();
                        let users = message["users"].as_array().cloned().unwrap_or_else(|| vec![message.clone()]);
                        members.extend(users.iter().map(|user| user["userId"].as_str().unwrap().to_owned()));
                    }
                    client.say(&format!("from {n}"));
                    members.sort();
                    members.dedup();
                    assert_eq!(members.len(), MEMBERS, "round {round}, {n}: somebody was told twice: {members:?}");
                    for _ in 0..MEMBERS {
                        let message = client.message();
                        assert_eq!(message["type"], "message", "round {round}, {n}: {message}");
                    }
                    client
                })
            })
            .collect();
        let members: Vec<_> = comers.into_iter().map(|comer| comer.join().unwrap()).collect();
        drop(members);
    }
}

#[test]
fn invalid_chat_messages_are_ignored_until_they_are_abuse() {
    let server = Server::start(config());
    let mut ada = Client::join(server.address, "ada", "r");
    for bad in
        ["{", r#"{"type":"shout"}"#, r#"{"type":"message","content":7}"#, "[]", r#"{"type":"join","userId":"x"}"#]
    {
        let mut eve = Client::join(server.address, "eve", "r");
        assert_eq!(ada.until("join")["userId"], "eve");
        for _ in 0..100 {
            eve.text(bad);
        }
        eve.say("a hundred are suffered");
        assert_eq!(eve.message()["content"], "a hundred are suffered", "in silence: {bad}");
        assert_eq!(ada.message()["content"], "a hundred are suffered");
        // One more, or a hundred more if a new minute has begun.
        let mut socket = eve.socket.try_clone().unwrap();
        let _ = socket.write_all(&frame(Opcode::Text, bad.as_bytes()).repeat(101)); // the server may close first
        assert_eq!(eve.next(), Frame::Close(Some(4501), "abuse".into()), "{bad}");
        assert_eq!(ada.message()["type"], "leave");
    }
    let mut early = Client::open(server.address, "/");
    for _ in 0..500 {
        early.text(r#"{"type":"typing"}"#);
    }
    early.text(&join("early", "r"));
    assert_eq!(early.until("room_state")["users"][0]["userId"], "ada", "what comes too early is no abuse");
}

#[test]
fn a_client_that_answers_no_pings_is_closed_and_the_others_hear_it() {
    let server = with_heartbeat(300);
    let mut ada = Client::join(server.address, "ada", "r");
    let mut silent = Client::join(server.address, "silent", "r");
    // Ada answers: when the server closes the silent client, Ada has got as many pings and is still connected.
    let mut pings = 0;
    loop {
        match ada.next() {
            Frame::Ping(payload) => {
                pings += 1;
                ada.send(Opcode::Pong, &payload);
            }
            Frame::Text(text) if text.contains("\"leave\"") => {
                assert!(text.contains("silent"), "{text}");
                break;
            }
            Frame::Text(_) => {}
            other => panic!("{other:?} came to a peer that answers"),
        }
    }
    assert!(pings > 0, "nothing pinged the one that answers");
    let mut pinged = false;
    loop {
        match silent.next() {
            Frame::Ping(_) => pinged = true,
            Frame::Text(_) => {}
            Frame::Close(code, _) => break assert_eq!(code, Some(4001)),
            other => panic!("{other:?} came in place of a close"),
        }
    }
    assert!(pinged, "closed without having been asked");
    ada.say("still here");
    let heard = std::iter::from_fn(|| Some(ada.next())).find(|frame| matches!(frame, Frame::Text(_)));
    assert!(matches!(&heard, Some(Frame::Text(text)) if text.contains("still here")), "{heard:?}");
}

/// A socket with small buffers: it takes the least that the kernel allows.
fn narrow(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&address.into()).unwrap();
    patient(socket.into())
}

/// More than the buffers of the kernel can hold at both ends.
const FLOOD: usize = 500;

fn flood_of(n: usize) -> String {
    format!("{n} {}", "x".repeat(32 << 10))
}

#[test]
fn a_half_open_peer_with_full_buffers_is_found_out_too() {
    let server = with_heartbeat(1_000);
    let mut dead = Client::upgraded(narrow(server.address), server.address, "/", b"");
    dead.text(&join("dead", "r"));
    dead.until("room_state");
    let mut ada = Client::join(server.address, "ada", "r");
    let (mut said, mut heard, mut left) = (0, 0, false);
    while !left || heard < FLOOD {
        if said == heard && said < FLOOD {
            ada.say(&flood_of(said));
            said += 1;
        }
        match ada.next() {
            Frame::Ping(payload) => ada.send(Opcode::Pong, &payload),
            Frame::Text(text) => {
                heard += usize::from(text.starts_with(r#"{"type":"message""#));
                left |= text.starts_with(r#"{"type":"leave""#) && text.contains("dead");
            }
            other => panic!("{other:?} came to a peer that reads"),
        }
    }
    ada.close();
    drop(dead);
}

#[test]
fn a_slow_reader_harms_nobody_and_never_misses_a_message_in_silence() {
    let limits = Limits { outbox_bytes_max: 64 << 10, quotas: Quotas::NONE, ..Limits::default() };
    let server = Server::start(Config { limits, ..config() });
    let mut slow = Client::upgraded(narrow(server.address), server.address, "/", b"");
    slow.text(&join("slow", "r"));
    slow.until("room_state");
    let mut readers: Vec<_> = (0..4).map(|n| Client::join(server.address, &format!("reader{n}"), "r")).collect();
    // All other readers read each message before the next one is sent: a client that keeps up gets everything on any
    // machine.
    for n in 0..FLOOD {
        let content = flood_of(n);
        readers[n % 4].say(&content);
        for reader in &mut readers {
            assert_eq!(reader.until("message")["content"], content);
        }
    }
    let mut next = 0;
    loop {
        match slow.next() {
            Frame::Text(text) if text.starts_with(r#"{"type":"message""#) => {
                assert!(text.contains(&format!("\"content\":\"{next} x")), "{next} was missed in silence");
                next += 1;
            }
            Frame::Text(_) => {}
            Frame::Close(code, reason) => break assert_eq!((code, &*reason), (Some(4003), "lost")),
            other => panic!("{other:?} came to the slow reader after {next} messages"),
        }
    }
    assert!(next < FLOOD, "the buffers took all of it: nothing was tested");
}

#[test]
fn twenty_thousand_messages_in_one_write_come_in_order() {
    const MESSAGES: usize = 20_000;
    let server = Server::start(Config { rules: rules(30_000), ..config() });
    let mut readers: Vec<_> = (0..4).map(|n| Client::join(server.address, &format!("reader{n}"), "r")).collect();
    let mut all = Vec::new();
    for n in 0..MESSAGES {
        all.extend_from_slice(&frame(Opcode::Text, say(&n.to_string()).as_bytes()));
    }
    let mut socket = readers[0].socket.try_clone().unwrap();
    let writing = std::thread::spawn(move || socket.write_all(&all).unwrap());
    let reading: Vec<_> = readers
        .drain(..)
        .map(|mut reader| {
            std::thread::spawn(move || {
                for n in 0..MESSAGES {
                    assert_eq!(reader.until("message")["content"], n.to_string());
                }
            })
        })
        .collect();
    writing.join().unwrap();
    reading.into_iter().for_each(|reader| reader.join().unwrap());
}

#[test]
fn places_of_connections_are_used_again_and_nobody_gets_what_was_for_another() {
    let server = Server::start(config());
    let mut watcher = Client::join(server.address, "watcher", "r");
    for n in 0..1_000 {
        let mut client = Client::join(server.address, &format!("c{n}"), "r");
        client.say(&format!("from {n}"));
        assert_eq!(client.until("message")["content"], format!("from {n}"), "and nothing of an earlier one");
        match n % 3 {
            0 => client.close(),
            1 => drop(client),
            _ => client.socket.shutdown(Shutdown::Write).unwrap(),
        }
        assert_eq!(watcher.until("message")["content"], format!("from {n}"));
        assert_eq!(watcher.until("leave")["userId"], format!("c{n}"));
    }
    assert_eq!(server.open(), (1, 1));
    watcher.close();
    assert_eq!(server.open(), (0, 0));
}

#[test]
fn drain_says_when_it_ends_and_leaves_the_port() {
    let server = Server::start(config());
    let address = server.address;
    let mut clients: Vec<_> = (0..20).map(|n| Client::join(address, &format!("c{n}"), "r")).collect();
    // A client that does not read has bytes on their way to the server: a reset must not destroy its close frame.
    for client in &mut clients {
        client.socket.write_all(&frame(Opcode::Text, say("on its way").as_bytes()).repeat(100)).unwrap();
    }
    let draining = std::thread::spawn(move || server.drain());
    for client in &mut clients {
        assert_eq!(client.closed(), Some(4000));
        client.send(Opcode::Close, &4000_u16.to_be_bytes());
        client.socket.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.next(), Frame::End);
    }
    draining.join().unwrap();
    assert!(TcpStream::connect(address).is_err(), "it still listens");
    let builder = || Fanfare::builder(()).config(config()).protocol("/", support::patient_chat());
    let again = Server::at(address, builder());
    let mut ada = Client::join(address, "ada", "r");
    ada.say("again");
    assert_eq!(ada.until("message")["content"], "again");
    assert_eq!(again.open(), (1, 1), "with {} shards", shards());
}

#[test]
fn drain_does_not_wait_for_who_never_ends() {
    let server = Server::start(Config { close_timeout: Duration::from_millis(200), ..config() });
    let mut stubborn = Client::join(server.address, "stubborn", "r");
    server.drain(); // returns although the client has not answered
    assert_eq!(stubborn.closed(), Some(4000));
}

#[test]
fn a_server_that_is_dropped_drains() {
    let server = Server::start(config());
    let mut ada = Client::join(server.address, "ada", "r");
    drop(server);
    assert_eq!(ada.closed(), Some(4000));
}

#[test]
fn a_close_is_answered_though_the_peer_has_ended_its_half() {
    let server = Server::start(config());
    for _ in 0..200 {
        let mut bytes = frame(Opcode::Text, join("ada", "r").as_bytes());
        bytes.extend_from_slice(&frame(Opcode::Close, &1001_u16.to_be_bytes()));
        let mut client = Client::open(server.address, "/");
        client.socket.write_all(&bytes).unwrap();
        client.socket.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.closed(), Some(1001));
        assert_eq!(client.next(), Frame::End);
    }
}
