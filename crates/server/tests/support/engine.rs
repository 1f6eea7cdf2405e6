//! A client of Engine.IO that polls. Each of its requests has a connection of its own, so each may land on any shard.

use super::{Client, Frame, Response, Server, connect, response};
use fanfare_wire::websocket::Opcode;
use serde_json::Value;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};

pub struct Poller {
    pub address: SocketAddr,
    pub sid: String,
}

impl Poller {
    pub fn open(server: &Server) -> Poller {
        Poller::opened(server.address).0
    }

    /// With the content of its open packet.
    pub fn opened(address: SocketAddr) -> (Poller, Value) {
        let opened = ask(address, "GET", "EIO=4&transport=polling", "text/plain", "");
        assert_eq!((opened.status(), opened.header("content-type")), (200, Some("text/plain; charset=UTF-8")));
        assert_eq!(opened.header("cache-control"), Some("no-store"));
        let body: Value = serde_json::from_str(opened.body.strip_prefix('0').expect("an open packet")).expect("JSON");
        (Poller { address, sid: body["sid"].as_str().expect("an id").to_owned() }, body)
    }

    /// In the namespace, with the id of its socket.
    pub fn enter(server: &Server) -> (Poller, String) {
        let poller = Poller::open(server);
        let id = poller.enters();
        (poller, id)
    }

    /// Enters the namespace.
    pub fn enters(&self) -> String {
        self.post("40");
        let connected = self.poll();
        let connected: Value = serde_json::from_str(connected.strip_prefix("40").expect(&connected)).expect("JSON");
        connected["sid"].as_str().expect("an id").to_owned()
    }

    pub fn query(&self) -> String {
        format!("EIO=4&transport=polling&sid={}", self.sid)
    }

    pub fn ask(&self, method: &str, body: &str) -> Response {
        ask(self.address, method, &self.query(), "text/plain;charset=UTF-8", body)
    }

    /// The packets that are there.
    pub fn poll(&self) -> String {
        let answer = self.ask("GET", "");
        assert_eq!(answer.status(), 200, "{}", answer.body);
        answer.body
    }

    pub fn post(&self, packets: &str) {
        let answer = self.ask("POST", packets);
        assert_eq!((answer.status(), answer.header("content-type"), &*answer.body), (200, Some("text/html"), "ok"));
    }

    /// Packets up to one that holds `text`.
    pub fn until(&self, text: &str) -> Vec<String> {
        let mut packets = Vec::new();
        while !packets.iter().any(|packet: &String| packet.contains(text)) {
            packets.extend(self.poll().split('\u{1e}').map(str::to_owned));
        }
        packets
    }

    /// A GET that waits.
    pub fn wait(&self) -> TcpStream {
        let mut socket = connect(self.address);
        let head = format!("GET /socket.io/?{} HTTP/1.1\r\nHost: x\r\n\r\n", self.query());
        socket.write_all(head.as_bytes()).expect("the server reads");
        socket
    }

    /// True when nobody knows the session any more.
    pub fn is_over(&self) -> bool {
        let answer = self.ask("POST", "3");
        answer.status() == 400 && answer.body.contains("\"code\":1,")
    }

    /// The path of a WebSocket for the session.
    pub fn upgrade_path(&self) -> String {
        format!("/socket.io/?EIO=4&transport=websocket&sid={}", self.sid)
    }

    /// A WebSocket for the session, of which nothing is said yet.
    pub fn websocket(&self) -> Client {
        Client::open(self.address, &self.upgrade_path())
    }

    /// A WebSocket whose probe is answered.
    pub fn probed(&self) -> Client {
        let mut client = self.websocket();
        client.text("2probe");
        assert_eq!(client.next(), Frame::Text("3probe".to_owned()));
        client
    }

    /// The session with its WebSocket.
    pub fn upgraded(&self) -> Client {
        let mut client = self.probed();
        client.text("5");
        client
    }
}

/// The server has nothing more to say at the moment: its answer to a ping comes first.
pub fn is_silent(client: &mut Client) {
    client.send(Opcode::Ping, b"is there more?");
    assert_eq!(client.next(), Frame::Pong(b"is there more?".to_vec()));
}

pub fn ask(address: SocketAddr, method: &str, query: &str, kind: &str, body: &str) -> Response {
    asked_with(address, method, query, &format!("Content-Type: {kind}\r\n"), body)
}

/// The same with these headers, each with its end of line.
pub fn asked_with(address: SocketAddr, method: &str, query: &str, headers: &str, body: &str) -> Response {
    let mut socket = connect(address);
    let head = format!(
        "{method} /socket.io/?{query} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(head.as_bytes()).expect("the server reads");
    response(&mut socket)
}
