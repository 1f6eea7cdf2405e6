//! A client of Socket.IO by raw packets over a WebSocket: the caller writes and reads them, and nothing happens by
//! itself.
//!
//! Namespaces are written as in packets: `""` is the main one, and `"/admin,"` is another.

use super::{Client, Frame, Server};
use serde_json::Value;
use std::net::SocketAddr;

/// Where a client opens its WebSocket.
pub const PATH: &str = "/socket.io/?EIO=4&transport=websocket";

/// A client whose session of Engine.IO is open.
pub fn open(server: &Server) -> Client {
    opened(server.address).0
}

/// The same, with the content of its open packet.
pub fn opened(address: SocketAddr) -> (Client, Value) {
    let mut client = Client::open(address, PATH);
    let opened = text(&mut client);
    let opened = serde_json::from_str(opened.strip_prefix('0').expect(&opened)).expect("JSON");
    (client, opened)
}

/// A client in the main namespace, and the id of its socket.
pub fn enter(server: &Server) -> (Client, String) {
    let mut client = open(server);
    let id = enter_in(&mut client, "");
    (client, id)
}

/// Enters a namespace, and returns the id of the socket.
pub fn enter_in(client: &mut Client, namespace: &str) -> String {
    client.text(&format!("40{namespace}"));
    entered(client, namespace)
}

/// The next packet is the answer to a CONNECT. Returns the id of the socket.
pub fn entered(client: &mut Client, namespace: &str) -> String {
    let connected = text(client);
    let json = connected.strip_prefix(&format!("40{namespace}")).expect(&connected);
    let connected: Value = serde_json::from_str(json).expect("JSON");
    connected["sid"].as_str().expect("an id").to_owned()
}

/// Joins a room of the main namespace, and returns when that is done: the socket's own message is the sign.
pub fn join(client: &mut Client, room: &str) {
    client.text(&format!(r#"42["join-room","{room}"]"#));
    client.text(r#"42["message",{"joined":true}]"#);
    while event(client, "")[1]["joined"] != true {}
}

/// The next frame, which must be a text.
pub fn text(client: &mut Client) -> String {
    match client.next() {
        Frame::Text(text) => text,
        other => panic!("a text was to come, not {other:?}"),
    }
}

/// The next packet, which must be an event of the namespace. Returns it without its timestamp.
pub fn event(client: &mut Client, namespace: &str) -> Value {
    event_and_time(client, namespace).0
}

/// The same, with its timestamp.
pub fn event_and_time(client: &mut Client, namespace: &str) -> (Value, Option<Value>) {
    let text = text(client);
    let mut event: Value =
        serde_json::from_str(text.strip_prefix(&format!("42{namespace}")).expect(&text)).expect("JSON");
    let timestamp = event[1].as_object_mut().and_then(|data| data.remove("timestamp"));
    (event, timestamp)
}
