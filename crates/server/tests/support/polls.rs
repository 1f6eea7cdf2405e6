//! Clients that poll and send on raw sockets: one request on a new connection each, or several on one.

use super::{Response, connect, response};
use serde_json::{Value, json};
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};

/// A request as text.
pub fn request(method: &str, path: &str, headers: &str, body: &str) -> String {
    let len = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len}\r\n");
    format!("{head}Content-Type: application/json\r\n{headers}\r\n{body}")
}

/// Writes a POST.
pub fn ask(socket: &mut TcpStream, path: &str, body: &Value) {
    socket.write_all(request("POST", path, "", &body.to_string()).as_bytes()).expect("written");
}

/// POSTs on a new connection.
pub fn post(address: SocketAddr, path: &str, body: &Value) -> Response {
    let mut socket = connect(address);
    ask(&mut socket, path, body);
    response(&mut socket)
}

/// The body of an answer that is 200.
pub fn json_of(response: Response) -> Value {
    assert_eq!(response.status(), 200, "{}{}", response.head, response.body);
    serde_json::from_str(&response.body).unwrap_or_else(|error| panic!("{error}: {}", response.body))
}

/// A client with a poll session. Each request has a connection of its own, so it lands on any shard.
pub struct Poller {
    pub address: SocketAddr,
    pub ticket: String,
    /// The last answer that it has.
    pub ack: u64,
    /// The last send.
    pub n: u64,
    pub connected: Value,
    /// Messages that it has had and not looked at.
    pub inbox: std::collections::VecDeque<Value>,
}

impl Poller {
    pub fn connect(address: SocketAddr, fields: Value) -> Poller {
        let mut connect = json!({"type": "connect", "id": 1});
        for (name, value) in fields.as_object().expect("fields") {
            connect[name] = value.clone();
        }
        let answer = json_of(post(address, "/v1/poll", &connect));
        Poller::of(address, &answer)
    }

    /// A client that got this answer to its `connect`.
    pub fn of(address: SocketAddr, answer: &Value) -> Poller {
        let mut inbox: std::collections::VecDeque<Value> = messages(answer).into();
        let connected = inbox.pop_front().expect("a message");
        assert_eq!(connected["type"], "connected", "{answer}");
        let ack = answer["n"].as_u64().expect("a number");
        let ticket = connected["ticket"].as_str().expect("a ticket").to_owned();
        Poller { address, ticket, ack, n: 0, connected, inbox }
    }

    /// The body of its next poll.
    pub fn poll_body(&self, wait_ms: u64) -> Value {
        json!({"ticket": self.ticket, "ack": self.ack, "wait": wait_ms})
    }

    /// The body of its next send.
    pub fn send_body(&mut self, commands: Value) -> Value {
        self.n += 1;
        json!({"ticket": self.ticket, "n": self.n, "commands": commands})
    }

    /// Polls once, and returns what has come.
    pub fn poll(&mut self, wait_ms: u64) -> Vec<Value> {
        let answer = json_of(post(self.address, "/v1/poll", &self.poll_body(wait_ms)));
        self.take(&answer)
    }

    /// Has an answer.
    pub fn take(&mut self, answer: &Value) -> Vec<Value> {
        self.ack = self.ack.max(answer["n"].as_u64().expect("a number"));
        messages(answer)
    }

    /// The next message: polls until there is one.
    pub fn message(&mut self) -> Value {
        loop {
            if let Some(message) = self.inbox.pop_front() {
                return message;
            }
            let more = self.poll(20_000);
            self.inbox.extend(more);
        }
    }

    /// Sends commands, and returns the replies.
    pub fn send(&mut self, commands: Value) -> Vec<Value> {
        let body = self.send_body(commands);
        replies(&json_of(post(self.address, "/v1/send", &body)))
    }

    /// Sends one command with an id, and returns its reply.
    pub fn ask(&mut self, kind: &str, fields: Value) -> Value {
        let replies = self.send(super::native::command(kind, fields, &json!("ask")));
        let [reply] = &replies[..] else { panic!("{replies:?}") };
        reply.clone()
    }
}

/// The messages of a poll's answer. A batch is an array of them.
pub fn messages(answer: &Value) -> Vec<Value> {
    let list = answer["messages"].as_array().unwrap_or_else(|| panic!("no messages: {answer}"));
    list.iter().flat_map(|it| it.as_array().cloned().unwrap_or_else(|| vec![it.clone()])).collect()
}

pub fn replies(answer: &Value) -> Vec<Value> {
    answer["replies"].as_array().unwrap_or_else(|| panic!("no replies: {answer}")).clone()
}
