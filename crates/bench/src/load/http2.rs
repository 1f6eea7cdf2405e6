//! HTTP/2 as far as a load generator needs it: event streams with prior knowledge, several on one connection.
//!
//! In: bytes from the server. Out: the messages of all streams to the [`Handler`], under the connection's id, and the
//! frames that keep the connection alive: acknowledgements of settings and pings, and windows. The head of an answer is
//! judged by its first byte, the index of `:status: 200`; a server that encodes it otherwise is refused. A reset stream
//! and a GOAWAY are errors.

use std::net::SocketAddr;

use super::http::{Form, Messages, wrong};
use super::{Handler, LoadError, Outgoing};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD_BYTES: usize = 9;

/// RFC 9113 §6: types of frames.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
/// And their flags.
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

/// RFC 7541 §6.1: `:status: 200`, of the static table.
const STATUS_200: u8 = 0x88;

/// The HTTP/2 side of one connection.
#[derive(Debug)]
pub(super) struct Http2 {
    /// The preface and all requests; sent, and empty, as soon as the socket is connected.
    pub(super) request: Vec<u8>,
    /// By the order of their requests.
    streams: Vec<Stream>,
}

#[derive(Debug)]
struct Stream {
    messages: Messages,
    is_open: bool,
}

impl Http2 {
    /// Asks for so many event streams at one target. Each is ready with its head.
    pub(super) fn new(addr: SocketAddr, target: &str, streams: usize) -> Box<Self> {
        let mut request = PREFACE.to_vec();
        put_frame(&mut request, (SETTINGS, 0), 0, &[]);
        // `:method: GET` and `:scheme: http` are in the static table; the others are literals with names of it.
        let mut head = vec![0x82, 0x86];
        put_literal(&mut head, 0x04, target);
        put_literal(&mut head, 0x01, &addr.to_string());
        for number in 0..streams {
            put_frame(&mut request, (HEADERS, END_HEADERS | END_STREAM), stream_id(number), &head);
        }
        let stream = |_| Stream { messages: Messages::new(Form::Events, false), is_open: false };
        Box::new(Self { request, streams: (0..streams).map(stream).collect() })
    }

    /// Handles every whole frame and says how many bytes they took.
    pub(super) fn consume<H: Handler>(
        &mut self,
        id: usize,
        bytes: &[u8],
        handler: &mut H,
        out: &mut Outgoing,
    ) -> Result<usize, LoadError> {
        let mut used = 0;
        while let Some((head, rest)) = bytes[used..].split_first_chunk::<HEAD_BYTES>() {
            let [a, b, c, kind, flags, stream @ ..] = *head;
            let len = u32::from_be_bytes([0, a, b, c]) as usize;
            let Some(payload) = rest.get(..len) else { break };
            used += HEAD_BYTES + len;
            let stream = u32::from_be_bytes(stream);
            self.on_frame(id, (kind, flags, stream), payload, handler, out)?;
        }
        Ok(used)
    }

    fn on_frame<H: Handler>(
        &mut self,
        id: usize,
        (kind, flags, number): (u8, u8, u32),
        payload: &[u8],
        handler: &mut H,
        out: &mut Outgoing,
    ) -> Result<(), LoadError> {
        match kind {
            SETTINGS if flags & ACK == 0 => put_frame(&mut out.bytes, (SETTINGS, ACK), 0, &[]),
            PING if flags & ACK == 0 => put_frame(&mut out.bytes, (PING, ACK), 0, payload),
            HEADERS | DATA => {
                let index = (number as usize).checked_sub(1).filter(|less| less % 2 == 0).map(|less| less / 2);
                let stream = index.and_then(|index| self.streams.get_mut(index));
                let stream = stream.ok_or_else(|| wrong(id, "a frame of a stream that was not opened", payload))?;
                let content = content(kind, flags, payload).ok_or_else(|| wrong(id, "bad padding", payload))?;
                if kind == HEADERS {
                    if stream.is_open || content.first() != Some(&STATUS_200) || flags & END_STREAM != 0 {
                        return Err(wrong(id, "an answer that is not a stream with 200", content));
                    }
                    stream.is_open = true;
                    return handler.on_ready(id, out);
                }
                if flags & END_STREAM != 0 {
                    return Err(LoadError::Closed { conn: id });
                }
                if !payload.is_empty() {
                    let taken = (payload.len() as u32).to_be_bytes();
                    put_frame(&mut out.bytes, (WINDOW_UPDATE, 0), 0, &taken);
                    put_frame(&mut out.bytes, (WINDOW_UPDATE, 0), number, &taken);
                }
                stream.messages.take(id, content, handler, out)?;
            }
            RST_STREAM | GOAWAY => return Err(wrong(id, "the end of a stream or of the connection", payload)),
            _ => {}
        }
        Ok(())
    }
}

/// The number of the stream of a request (RFC 9113 §5.1.1: a client's are odd).
fn stream_id(number: usize) -> u32 {
    2 * number as u32 + 1
}

/// Without padding and priority.
fn content(kind: u8, flags: u8, payload: &[u8]) -> Option<&[u8]> {
    let (padding, payload) = match flags & PADDED {
        0 => (0, payload),
        _ => payload.split_first().map(|(len, rest)| (usize::from(*len), rest))?,
    };
    let skipped = if kind == HEADERS && flags & PRIORITY != 0 { 5 } else { 0 };
    payload.get(skipped..payload.len().checked_sub(padding)?)
}

fn put_frame(into: &mut Vec<u8>, (kind, flags): (u8, u8), stream: u32, payload: &[u8]) {
    into.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    into.extend_from_slice(&[kind, flags]);
    into.extend_from_slice(&stream.to_be_bytes());
    into.extend_from_slice(payload);
}

/// RFC 7541 §6.2.2, without Huffman: a value below 254 bytes, with a name of the static table.
fn put_literal(into: &mut Vec<u8>, name: u8, value: &str) {
    into.push(name);
    match value.len() {
        len @ 0..127 => into.push(len as u8),
        len => into.extend_from_slice(&[127, (len - 127) as u8]),
    }
    into.extend_from_slice(value.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

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

        fn owed(&self) -> (u64, &'static str) {
            (0, "messages")
        }
    }

    /// Type, flags, stream and payload.
    type Frame = (u8, u8, u32, &'static [u8]);

    fn frames(list: &[Frame]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for &(kind, flags, stream, payload) in list {
            put_frame(&mut bytes, (kind, flags), stream, payload);
        }
        bytes
    }

    /// All bytes at once, and byte by byte, must give the same. Then what was sent back.
    fn heard(bytes: &[u8]) -> Result<(Vec<String>, Vec<u8>), LoadError> {
        let mut runs = Vec::new();
        for step in [bytes.len(), 1] {
            let addr = SocketAddr::from(([127, 0, 0, 1], 80));
            let (mut http, mut log, mut out) = (Http2::new(addr, "/events", 2), Log::default(), Outgoing::default());
            let mut waiting = Vec::new();
            for part in bytes.chunks(step) {
                waiting.extend_from_slice(part);
                let used = http.consume(0, &waiting, &mut log, &mut out)?;
                waiting.drain(..used);
            }
            assert!(waiting.is_empty(), "{} bytes are left", waiting.len());
            runs.push((log.0, out.bytes));
        }
        assert_eq!(runs[0], runs[1]);
        Ok(runs.swap_remove(0))
    }

    #[test]
    fn streams_of_one_connection_are_heard_in_any_cut() {
        let (said, sent) = heard(&frames(&[
            (SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]),
            (HEADERS, END_HEADERS, 3, &[STATUS_200]),
            (HEADERS, END_HEADERS | PADDED | PRIORITY, 1, &[1, 0, 0, 0, 0, 9, STATUS_200, 0]),
            (DATA, 0, 1, b"data: a\n\nda"),
            (DATA, PADDED, 3, b"\x02: hi\n\ndata: b\n\n\0\0"),
            (DATA, 0, 1, b"ta: c\n\n"),
            (PING, 0, 0, b"12345678"),
        ]))
        .expect("two streams");
        assert_eq!(said, ["ready", "ready", "a", "b", "c"]);
        let expected = frames(&[
            (SETTINGS, ACK, 0, &[]),
            (WINDOW_UPDATE, 0, 0, &[0, 0, 0, 11]),
            (WINDOW_UPDATE, 0, 1, &[0, 0, 0, 11]),
            (WINDOW_UPDATE, 0, 0, &[0, 0, 0, 18]),
            (WINDOW_UPDATE, 0, 3, &[0, 0, 0, 18]),
            (WINDOW_UPDATE, 0, 0, &[0, 0, 0, 7]),
            (WINDOW_UPDATE, 0, 1, &[0, 0, 0, 7]),
            (PING, ACK, 0, b"12345678"),
        ]);
        assert_eq!(sent, expected);
    }

    #[test]
    fn refusals_ends_and_garbage_are_errors() {
        let rows: [(&str, Frame); 8] = [
            ("another status", (HEADERS, END_HEADERS, 1, &[0x8d])),
            ("an answer without a body", (HEADERS, END_HEADERS | END_STREAM, 1, &[STATUS_200])),
            ("a stream that was not opened", (HEADERS, END_HEADERS, 5, &[STATUS_200])),
            ("a stream of the server", (DATA, 0, 2, b"")),
            ("the end of a stream", (DATA, END_STREAM, 1, b"")),
            ("padding longer than the frame", (DATA, PADDED, 1, &[9, 0])),
            ("a reset", (RST_STREAM, 0, 1, &[0, 0, 0, 1])),
            ("the end of the connection", (GOAWAY, 0, 0, &[0; 8])),
        ];
        for (name, frame) in rows {
            assert!(heard(&frames(&[frame])).is_err(), "{name}");
        }
    }
}
