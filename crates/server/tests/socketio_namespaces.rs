//! Several namespaces on one connection of Socket.IO, by raw frames: which exist, who is let in, what a client may do
//! in what order, and how they end.

#![allow(clippy::unwrap_used)] // helpers stand outside of `#[test]`; a panic in one fails the test

mod support;

use fanfare::hub::{Disconnect, Limits, Whom};
use fanfare::{Builder, Config, Fanfare, Identity, Refusal, SocketIoConfig, Token};
use serde_json::json;
use std::time::Duration;
use support::socketio::{enter_in, entered, event, open, opened, text};
use support::{Frame, Server, config};

fn builder_of(socketio: SocketIoConfig) -> Builder {
    let namespaces = ["/admin", "/room-*"].map(|pattern| pattern.parse().expect(pattern)).to_vec();
    let socketio = SocketIoConfig { enabled: true, namespaces, ..socketio };
    Fanfare::builder(()).config(Config { socketio, ..config() })
}

fn builder() -> Builder {
    // A refused client has all the time that it needs.
    builder_of(SocketIoConfig { connect_timeout: Duration::from_secs(600), ..SocketIoConfig::default() })
}

#[test]
fn each_namespace_of_a_connection_has_its_own_socket_and_its_own_rooms() {
    let server = Server::of(builder());
    let ((mut ada, opened), mut bob) = (opened(server.address), open(&server));
    let engine = opened["sid"].as_str().unwrap();
    let [main, admin, room] = ["", "/admin,", "/room-7,"].map(|namespace| enter_in(&mut ada, namespace));
    assert!(main != admin && admin != room && main != room && ![&*main, &*admin, &*room].contains(&engine));
    let bob_admin = enter_in(&mut bob, "/admin,");
    bob.text(r#"42/admin,["join-room","lobby"]"#);
    bob.text(r#"42/admin,["message",{"n":1}]"#);
    assert_eq!(event(&mut bob, "/admin,"), json!(["message", {"n": 1, "userId": bob_admin}]));
    // Rooms of one name in two namespaces have nothing to do with each other.
    ada.text(r#"42["join-room","lobby"]"#);
    ada.text(r#"42/admin,["join-room","lobby"]"#);
    assert_eq!(event(&mut bob, "/admin,"), json!(["user-joined", {"userId": admin}]));
    ada.text(r#"42["message",{"n":2}]"#);
    assert_eq!(event(&mut ada, ""), json!(["message", {"n": 2, "userId": main}]));
    bob.text(r#"452-/admin,["message",{"a":{"_placeholder":true,"num":1},"b":{"_placeholder":true,"num":0}}]"#);
    bob.send(fanfare_wire::websocket::Opcode::Binary, b"one");
    bob.send(fanfare_wire::websocket::Opcode::Binary, b"two");
    for client in [&mut ada, &mut bob] {
        assert!(text(client).starts_with("452-/admin,[\"message\""));
        assert_eq!((client.next(), client.next()), (Frame::Binary(b"one".to_vec()), Frame::Binary(b"two".to_vec())));
    }
}

#[test]
fn a_namespace_that_no_setting_names_does_not_exist() {
    let server = Server::of(builder());
    let mut client = open(&server);
    for namespace in ["/other", "/admin2", "/adm", "/room", "/room-a b", "/room-{a}"] {
        client.text(&format!("40{namespace},"));
        assert_eq!(text(&mut client), format!(r#"44{namespace},{{"message":"Invalid namespace"}}"#));
    }
    enter_in(&mut client, "/room-,");
    enter_in(&mut client, "/room-a/b:c,");
}

#[test]
fn a_packet_out_of_place_ends_the_connection() {
    let server = Server::of(builder());
    let rows: &[(&str, &[&str], &str)] = &[
        ("an event before CONNECT", &[], r#"42["a"]"#),
        ("an ack before CONNECT", &[], "431[]"),
        ("a DISCONNECT before CONNECT", &[], "41"),
        ("an event of a namespace that was not entered", &["", "/admin,"], r#"42/room-1,["a"]"#),
        ("an event of one that does not exist", &[""], r#"42/other,["a"]"#),
        ("a second CONNECT", &["", "/admin,"], "40/admin,"),
        ("a CONNECT_ERROR of a client", &[""], r#"44{"message":"no"}"#),
        ("an ack without an id", &[""], "43[]"),
        ("an ack id beyond 64 bits", &[""], r#"4218446744073709551616["a"]"#),
        ("a long namespace", &[""], &format!("40/room-{},", "x".repeat(300))),
    ];
    for (name, namespaces, packet) in rows {
        let mut client = open(&server);
        namespaces.iter().for_each(|namespace| drop(enter_in(&mut client, namespace)));
        client.text(packet);
        assert_eq!(client.closed(), Some(Disconnect::BadProtocol.code()), "{name}");
    }
}

#[test]
fn a_client_leaves_one_namespace_and_comes_back_as_another_socket() {
    let server = Server::of(builder());
    let (mut ada, mut bob) = (open(&server), open(&server));
    let [_, first] = ["", "/admin,"].map(|namespace| enter_in(&mut ada, namespace));
    let bob_id = enter_in(&mut bob, "/admin,");
    // Bob first, and seen: otherwise Ada may hear of him, or not, before she has left.
    bob.text(r#"42/admin,["join-room","lobby"]"#);
    bob.text(r#"42/admin,["message",{}]"#);
    assert_eq!(event(&mut bob, "/admin,"), json!(["message", {"userId": bob_id}]));
    ada.text(r#"42/admin,["join-room","lobby"]"#);
    ada.text("41/admin,");
    let second = enter_in(&mut ada, "/admin,");
    assert_ne!(first, second);
    ada.text(r#"42/admin,["message",{"in":"no room"}]"#);
    ada.text(r#"42["join-room","lobby"]"#);
    ada.text(r#"42["message",{"in":"the other namespace"}]"#);
    assert_eq!(event(&mut ada, "")[1]["in"], "the other namespace");
    ada.text(r#"42/admin,["join-room","lobby"]"#);
    while event(&mut bob, "/admin,") != json!(["user-joined", {"userId": second}]) {}
    bob.text(r#"42/admin,["message",{}]"#);
    assert_eq!(event(&mut ada, "/admin,"), json!(["message", {"userId": bob_id}]));
    // The packet after the leaving one is out of place.
    ada.text("41/admin,");
    ada.text("41/admin,");
    assert_eq!(ada.closed(), Some(Disconnect::BadProtocol.code()));
}

#[test]
fn the_guard_decides_about_each_namespace_by_its_own_auth() {
    let guard = async |token: Option<Token>| match token.as_ref().map(Token::as_str) {
        Some(user) if user.starts_with("user ") => Ok(Identity::user(&user[5..])),
        _ => Err(Refusal::unauthorized("no such token")),
    };
    let runtime = support::runtime();
    let _entered = runtime.enter();
    let server = Server::of(builder().on_connect(guard));
    let mut client = open(&server);
    client.text(r#"40/admin,{"token":"wrong"}"#);
    assert_eq!(text(&mut client), r#"44/admin,{"message":"认证错误"}"#);
    for (namespace, user) in [("", "ada"), ("/admin,", "root")] {
        client.text(&format!(r#"40{namespace}{{"token":"user {user}"}}"#));
        entered(&mut client, namespace);
        client.text(&format!(r#"42{namespace}["join-room","lobby"]"#));
        client.text(&format!(r#"42{namespace}["message",{{}}]"#));
        assert_eq!(event(&mut client, namespace), json!(["message", {"userId": user}]));
    }
    // Another user in the same namespace, on the same connection.
    client.text("41");
    client.text(r#"40{"token":"wrong"}"#);
    assert_eq!(text(&mut client), r#"44{"message":"认证错误"}"#);
    client.text(r#"40{"token":"user eve"}"#);
    entered(&mut client, "");
    client.text(r#"42["join-room","lobby"]"#);
    client.text(r#"42["message",{}]"#);
    assert_eq!(event(&mut client, ""), json!(["message", {"userId": "eve"}]));
}

#[test]
fn auth_is_short() {
    let server = Server::of(builder());
    let mut client = open(&server);
    client.text(&format!(r#"40{{"token":"{}"}}"#, "x".repeat(16 << 10)));
    assert_eq!(text(&mut client), r#"44{"message":"auth exceeds the limit of 16 KiB"}"#);
    enter_in(&mut client, "");
}

#[test]
fn a_connection_is_in_a_bounded_number_of_namespaces() {
    let server = Server::of(builder_of(SocketIoConfig { namespaces_max: 3, ..SocketIoConfig::default() }));
    let mut client = open(&server);
    for namespace in ["", "/room-1,", "/room-2,"] {
        enter_in(&mut client, namespace);
    }
    client.text("40/room-3,");
    assert_eq!(text(&mut client), r#"44/room-3,{"message":"Too many namespaces"}"#);
    client.text("41/room-1,");
    enter_in(&mut client, "/room-3,");
}

#[test]
fn a_connection_must_enter_a_namespace_in_time_and_may_leave_it() {
    let connect_timeout = Duration::from_millis(500);
    let server = Server::of(builder_of(SocketIoConfig { connect_timeout, ..SocketIoConfig::default() }));
    let mut stays = open(&server);
    enter_in(&mut stays, "/admin,");
    stays.text("41/admin,");
    let mut silent = open(&server);
    let mut refused = open(&server);
    refused.text("40/other,");
    text(&mut refused);
    for client in [&mut silent, &mut refused] {
        assert_eq!(client.closed(), Some(Disconnect::NotConnected.code()));
    }
    enter_in(&mut stays, "");
}

#[test]
fn the_end_of_a_connection_is_told_in_every_namespace() {
    let server = Server::of(builder());
    let hub = server.running().handle();
    let mut client = open(&server);
    let [_, admin] = ["", "/admin,"].map(|namespace| enter_in(&mut client, namespace));
    enter_in(&mut client, "/room-1,");
    client.text("41/room-1,");
    let mut other = open(&server);
    let id = enter_in(&mut other, "");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let whom = Whom::Client(admin.parse().unwrap());
    assert_eq!(runtime.block_on(hub.disconnect(whom, Disconnect::Kicked)), Ok(1));
    assert_eq!([text(&mut client), text(&mut client)], ["41", "41/admin,"]);
    assert_eq!(client.closed(), Some(Disconnect::Kicked.code()));
    other.text(r#"42["join-room","lobby"]"#);
    other.text(r#"42["message",{}]"#);
    assert_eq!(event(&mut other, ""), json!(["message", {"userId": id}]));
    assert_eq!(runtime.block_on(hub.info()).map(|info| info.sessions), Ok(1));
}

#[test]
fn limits_of_the_hub_are_not_those_of_socket_io() {
    // The native protocol's time for `connect` is none of a Socket.IO client's.
    let limits = Limits { connect_timeout_ms: 100, ..config().limits };
    let socketio =
        SocketIoConfig { enabled: true, ping_interval: Duration::from_millis(300), ..SocketIoConfig::default() };
    let server = Server::of(Fanfare::builder(()).config(Config { socketio, limits, ..config() }));
    let mut client = open(&server);
    assert_eq!(text(&mut client), "2", "it is pinged, and not closed");
    enter_in(&mut client, "");
}
