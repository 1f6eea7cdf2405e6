//! Clients of streams on raw sockets: the head of the answer, then its body, chunked or not, as blocks of an event
//! stream or as lines.

use super::{connect, response};
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

/// How a stream is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The first request of its connection.
    First,
    /// Over HTTP/1.0.
    Http10,
    /// Behind another request on its connection.
    KeptAlive,
}

pub const WAYS: [Way; 3] = [Way::First, Way::Http10, Way::KeptAlive];

/// A block of an event stream, as a browser reads it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Block {
    pub event: Option<String>,
    pub id: Option<String>,
    pub data: Option<String>,
    pub retry: Option<u64>,
    pub comments: usize,
}

impl Block {
    pub fn json(&self) -> Value {
        let data = self.data.as_deref().unwrap_or_else(|| panic!("no data: {self:?}"));
        serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}"))
    }

    pub fn id(&self) -> String {
        self.id.clone().unwrap_or_else(|| panic!("no id: {self:?}"))
    }
}

/// A stream that has been answered.
pub struct Stream {
    pub socket: TcpStream,
    pub head: String,
    chunked: bool,
    /// The body so far, without the chunks.
    read: Vec<u8>,
    ended: bool,
}

impl Stream {
    /// A `GET`; `headers` are whole lines.
    pub fn get(address: SocketAddr, target: &str, headers: &str) -> Stream {
        Stream::by(Way::First, address, target, headers)
    }

    pub fn by(way: Way, address: SocketAddr, target: &str, headers: &str) -> Stream {
        let mut socket = connect(address);
        if way == Way::KeptAlive {
            socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("written");
            assert_eq!(response(&mut socket).status(), 200);
        }
        let version = if way == Way::Http10 { "HTTP/1.0" } else { "HTTP/1.1" };
        Stream::asked(socket, &format!("GET {target} {version}\r\nHost: localhost\r\n{headers}\r\n"))
    }

    pub fn post(address: SocketAddr, target: &str, body: &str) -> Stream {
        let len = body.len();
        let head = format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len}\r\n");
        Stream::asked(connect(address), &format!("{head}Content-Type: application/json\r\n\r\n{body}"))
    }

    /// Sends a request and reads the head of the answer.
    pub fn asked(mut socket: TcpStream, request: &str) -> Stream {
        socket.write_all(request.as_bytes()).expect("written");
        let head = super::head(&mut socket).to_ascii_lowercase();
        let chunked = head.contains("transfer-encoding: chunked");
        Stream { socket, head, chunked, read: Vec::new(), ended: false }
    }

    pub fn status(&self) -> u16 {
        self.head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().filter_map(|line| line.split_once(": ")).find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    /// Reads more of the body. False at its end.
    fn more(&mut self) -> bool {
        if self.ended {
            return false;
        }
        let mut piece = vec![0; 16 << 10];
        if !self.chunked {
            let count = self.socket.read(&mut piece).expect("more, or an end");
            self.read.extend_from_slice(&piece[..count]);
            self.ended = count == 0;
            return count > 0;
        }
        let mut size = Vec::new();
        while !size.ends_with(b"\r\n") {
            let mut byte = [0];
            self.socket.read_exact(&mut byte).expect("a chunk");
            size.push(byte[0]);
        }
        let size = std::str::from_utf8(&size[..size.len() - 2]).expect("a size is text");
        let size = usize::from_str_radix(size, 16).unwrap_or_else(|_| panic!("{size:?} is no size"));
        let mut chunk = vec![0; size + 2];
        self.socket.read_exact(&mut chunk).expect("the chunk is as long as it says");
        assert!(chunk.ends_with(b"\r\n"), "{chunk:?}");
        self.read.extend_from_slice(&chunk[..size]);
        self.ended = size == 0;
        size > 0
    }

    /// The next part of the body up to and with this.
    fn until(&mut self, end: &[u8]) -> Option<String> {
        loop {
            if let Some(at) = self.read.windows(end.len()).position(|window| window == end) {
                let part = self.read.drain(..at + end.len()).collect();
                return Some(String::from_utf8(part).expect("a stream is text"));
            }
            if !self.more() {
                assert_eq!(String::from_utf8_lossy(&self.read), "", "it ends within a message");
                return None;
            }
        }
    }

    /// The next line as it came; `None` at the end.
    pub fn text_line(&mut self) -> Option<String> {
        self.until(b"\n").map(|line| line.trim_end().to_owned())
    }

    /// The next line; `None` at the end.
    pub fn line(&mut self) -> Option<Value> {
        let line = self.until(b"\n")?;
        Some(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")))
    }

    /// The next block; `None` at the end.
    pub fn block(&mut self) -> Option<Block> {
        let text = self.until(b"\n\n")?;
        let mut block = Block::default();
        for line in text.lines().filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
            match name {
                "" => block.comments += 1,
                "event" => block.event = Some(value),
                "id" => block.id = Some(value),
                "retry" => block.retry = Some(value.parse().expect("a number")),
                "data" => {
                    block.data = Some(match block.data {
                        None => value,
                        Some(before) => format!("{before}\n{value}"),
                    });
                }
                other => panic!("there is no field {other:?}"),
            }
        }
        Some(block)
    }

    /// The next block with data.
    pub fn message(&mut self) -> Block {
        loop {
            let block = self.block().expect("the stream goes on");
            if block.data.is_some() {
                return block;
            }
        }
    }

    /// The whole rest of the body, or what `Content-Length` says.
    pub fn rest(&mut self) -> String {
        match self.header("content-length").map(|len| len.parse().expect("a length")) {
            Some(len) => {
                let mut body = vec![0; len];
                self.socket.read_exact(&mut body).expect("the body is as long as it says");
                String::from_utf8(body).expect("text")
            }
            None => {
                while self.more() {}
                String::from_utf8(std::mem::take(&mut self.read)).expect("text")
            }
        }
    }
}
