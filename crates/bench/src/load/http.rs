//! HTTP/1.1 as far as a load generator needs it: requests, streams in chunks, and answers of a known length.
//!
//! In: bytes from the server. Out: the messages of an event stream (with their ids) or of NDJSON, or whole bodies of
//! answers, to the [`Handler`]. Chunks may cut a message anywhere. Any status but 200 is an error.

use std::fmt::Write as _;
use std::net::SocketAddr;

use memchr::memmem;

use super::{Handler, LoadError, Outgoing};

/// The form of what the server sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// An event stream: each message is the `data` of a block.
    Events,
    /// NDJSON: each message is a line.
    Lines,
    /// One answer after the other, each with its length: each message is a body.
    Answers,
}

/// The HTTP side of one connection.
#[derive(Debug)]
pub(super) struct Http {
    /// The first request; sent, and empty, as soon as the socket is connected.
    pub(super) request: Vec<u8>,
    form: Form,
    /// Of a stream; `None` until its head has come.
    messages: Option<Messages>,
    with_greeting: bool,
}

impl Http {
    /// A stream is ready with its head, or `with_greeting` with its first message.
    pub(super) fn new(form: Form, request: Vec<u8>, with_greeting: bool) -> Box<Self> {
        Box::new(Self { request, form, messages: None, with_greeting })
    }

    /// Handles every whole message and says how many bytes they took.
    pub(super) fn consume<H: Handler>(
        &mut self,
        id: usize,
        bytes: &[u8],
        handler: &mut H,
        out: &mut Outgoing,
    ) -> Result<usize, LoadError> {
        if self.form == Form::Answers {
            return answers(id, bytes, handler, out);
        }
        let mut used = 0;
        let messages = match &mut self.messages {
            Some(messages) => messages,
            none => {
                let Some(end) = memmem::find(bytes, b"\r\n\r\n") else { return Ok(0) };
                let head = bytes[..end].to_ascii_lowercase();
                if !head.starts_with(b"http/1.1 200 ") || memmem::find(&head, b"transfer-encoding: chunked").is_none() {
                    return Err(wrong(id, "no stream in chunks", bytes));
                }
                used = end + 4;
                if !self.with_greeting {
                    handler.on_ready(id, out)?;
                }
                none.insert(Messages::new(self.form, self.with_greeting))
            }
        };
        while let Some(line) = memmem::find(&bytes[used..], b"\r\n") {
            let size = std::str::from_utf8(&bytes[used..used + line]).ok();
            let size = size.and_then(|size| usize::from_str_radix(size, 16).ok());
            let size = size.ok_or_else(|| wrong(id, "no size of a chunk", &bytes[used..]))?;
            let begin = used + line + 2;
            let Some(chunk) = bytes.get(begin..begin + size + 2) else { break };
            used = begin + chunk.len();
            messages.take(id, &chunk[..size], handler, out)?;
        }
        Ok(used)
    }
}

/// The messages in the body of a stream.
#[derive(Debug)]
pub(super) struct Messages {
    form: Form,
    /// The connection is ready with the next message, which the handler does not get.
    greeting: bool,
    /// A message whose end has not come.
    partial: Vec<u8>,
}

impl Messages {
    pub(super) fn new(form: Form, with_greeting: bool) -> Self {
        Self { form, greeting: with_greeting, partial: Vec::new() }
    }

    /// Takes the next bytes of the body, which end anywhere.
    pub(super) fn take<H: Handler>(
        &mut self,
        id: usize,
        bytes: &[u8],
        handler: &mut H,
        out: &mut Outgoing,
    ) -> Result<(), LoadError> {
        if self.partial.is_empty() {
            let used = self.whole(id, bytes, handler, out)?;
            self.partial.extend_from_slice(&bytes[used..]);
        } else {
            let mut joined = std::mem::take(&mut self.partial);
            joined.extend_from_slice(bytes);
            let used = self.whole(id, &joined, handler, out)?;
            joined.drain(..used);
            self.partial = joined;
        }
        Ok(())
    }

    fn whole<H: Handler>(
        &mut self,
        id: usize,
        body: &[u8],
        handler: &mut H,
        out: &mut Outgoing,
    ) -> Result<usize, LoadError> {
        let end: &[u8] = if self.form == Form::Events { b"\n\n" } else { b"\n" };
        let mut used = 0;
        while let Some(len) = memmem::find(&body[used..], end) {
            let message = &body[used..used + len];
            used += len + end.len();
            let (data, event_id) = match self.form {
                Form::Events => (field(message, b"data: "), field(message, b"id: ")),
                _ => (Some(message).filter(|line| !line.is_empty()), None),
            };
            match data {
                Some(_) if self.greeting => {
                    self.greeting = false;
                    handler.on_ready(id, out)?;
                }
                Some(data) => handler.on_message(id, data, out)?,
                None => {} // a comment
            }
            if let Some(event_id) = event_id {
                handler.on_event_id(id, event_id);
            }
        }
        Ok(used)
    }
}

/// The value of a line of a block of an event stream.
fn field<'a>(block: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    block.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(name))
}

fn answers<H: Handler>(id: usize, bytes: &[u8], handler: &mut H, out: &mut Outgoing) -> Result<usize, LoadError> {
    let mut used = 0;
    while let Some(head) = memmem::find(&bytes[used..], b"\r\n\r\n") {
        let begin = used + head + 4;
        let head = &bytes[used..begin];
        let len = content_length(head).ok_or_else(|| wrong(id, "an answer without a length", head))?;
        let Some(body) = bytes.get(begin..begin + len) else { break };
        if !head.starts_with(b"HTTP/1.1 200 ") {
            return Err(wrong(id, "an answer that is not 200", &bytes[used..]));
        }
        used = begin + len;
        handler.on_message(id, body, out)?;
    }
    Ok(used)
}

fn content_length(head: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    let mut lines = head.split(|&byte| byte == b'\n');
    let line = lines.find(|line| line.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME)))?;
    std::str::from_utf8(&line[NAME.len()..]).ok()?.trim().parse().ok()
}

pub(super) fn wrong(conn: usize, what: &str, found: &[u8]) -> LoadError {
    let found = String::from_utf8_lossy(&found[..found.len().min(300)]);
    LoadError::Wrong { conn, what: format!("{what}: {found:?}") }
}

/// A GET; `headers` are whole lines.
pub fn get(addr: SocketAddr, target: &str, headers: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: {addr}\r\n{headers}\r\n").into_bytes()
}

/// A POST of JSON; `headers` are whole lines.
pub fn post(addr: SocketAddr, target: &str, headers: &str, body: &str) -> Vec<u8> {
    posted(addr, target, "application/json", headers, body)
}

/// A POST of plain text.
pub fn post_text(addr: SocketAddr, target: &str, body: &str) -> Vec<u8> {
    posted(addr, target, "text/plain;charset=UTF-8", "", body)
}

fn posted(addr: SocketAddr, target: &str, media: &str, headers: &str, body: &str) -> Vec<u8> {
    let mut request = String::with_capacity(160 + headers.len() + body.len());
    // Writing to a String cannot fail.
    let _ = write!(
        request,
        "POST {target} HTTP/1.1\r\nHost: {addr}\r\nContent-Type: {media}\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    );
    request.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the handler got, in order.
    #[derive(Default)]
    struct Log(Vec<String>);

    impl Handler for Log {
        fn on_ready(&mut self, _conn: usize, _out: &mut Outgoing) -> Result<(), LoadError> {
            self.0.push("ready".into());
            Ok(())
        }

        fn on_message(&mut self, _conn: usize, payload: &[u8], _out: &mut Outgoing) -> Result<(), LoadError> {
            self.0.push(String::from_utf8_lossy(payload).into_owned());
            Ok(())
        }

        fn on_event_id(&mut self, _conn: usize, id: &[u8]) {
            self.0.push(format!("id {}", String::from_utf8_lossy(id)));
        }

        fn owed(&self) -> (u64, &'static str) {
            (0, "messages")
        }
    }

    const STREAM: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

    /// All bytes at once, and byte by byte, must give the same.
    fn heard(form: Form, with_greeting: bool, bytes: &str) -> Result<Vec<String>, LoadError> {
        let mut logs = Vec::new();
        for step in [bytes.len(), 1] {
            let (mut http, mut log) = (Http::new(form, Vec::new(), with_greeting), Log::default());
            let mut waiting = Vec::new();
            for part in bytes.as_bytes().chunks(step) {
                waiting.extend_from_slice(part);
                let used = http.consume(0, &waiting, &mut log, &mut Outgoing::default())?;
                waiting.drain(..used);
            }
            assert!(waiting.is_empty(), "{} bytes are left", waiting.len());
            logs.push(log.0);
        }
        assert_eq!(logs[0], logs[1]);
        Ok(logs.swap_remove(0))
    }

    #[test]
    fn messages_of_streams_in_any_cut() {
        let events = format!(
            "{STREAM}e\r\nid: 1\ndata: a\n\r\n1\r\n\n\r\n6\r\n: hi\n\n\r\n18\r\ndata: b\nid: 2\n\ndata: c\n\n\r\n"
        );
        let rows: [(&str, Form, bool, &str, &[&str]); 3] = [
            ("blocks", Form::Events, false, &events, &["ready", "a", "id 1", "b", "id 2", "c"]),
            ("a greeting is not a message", Form::Events, true, &events, &["ready", "id 1", "b", "id 2", "c"]),
            ("lines", Form::Lines, false, &format!("{STREAM}3\r\na\nb\r\n3\r\nc\n\n\r\n"), &["ready", "a", "bc"]),
        ];
        for (name, form, with_greeting, bytes, expected) in rows {
            assert_eq!(heard(form, with_greeting, bytes).expect(name), expected, "{name}");
        }
    }

    #[test]
    fn answers_one_after_the_other() {
        let bytes = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab\
                     HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(heard(Form::Answers, false, bytes).expect("two answers"), ["ab", ""]);
    }

    #[test]
    fn refusals_and_garbage_are_errors() {
        let rows = [
            ("a refused stream", Form::Events, "HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n"),
            ("a stream of a known length", Form::Lines, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"),
            ("no size", Form::Lines, &format!("{STREAM}zz\r\n")),
            ("a refused request", Form::Answers, "HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"),
            ("an answer without a length", Form::Answers, "HTTP/1.1 200 OK\r\n\r\n"),
        ];
        for (name, form, bytes) in rows {
            assert!(heard(form, false, bytes).is_err(), "{name}");
        }
    }
}
