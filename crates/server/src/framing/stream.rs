//! The framing of streams: messages in the body of an HTTP answer that goes on until the connection ends.
//!
//! A message is a block of an event stream ([`Lines::Data`]), or a line of JSON ([`Lines::Json`]); or the protocol
//! writes the blocks itself ([`Lines::Blocks`]). The answer to a poll takes messages as entries of an array
//! ([`Lines::Entries`]), and that to a client of Engine.IO as its packets ([`Lines::Packets`]). Over HTTP/1.1 the body
//! is chunked (RFC 9112 §7.1), each message a chunk of its own, as most proxies expect of an answer without a length.
//! To a client of HTTP/1.0, and where hyper frames the body, the bytes go as they are, and the end of the connection
//! ends the body.
//!
//! A client sends nothing on a stream. Bytes that it sends all the same are ignored, up to [`FORGET_BYTES`].

use super::{Broken, Form, Received};
use crate::transport::pace::FORGET_BYTES;
use bytes::Bytes;
use fanfare_wire::engineio::{SEPARATOR, put_binary};
use fanfare_wire::sse;
use fanfare_wire::stream::StreamForm;
use std::io::Write as _;

/// How the body of a stream is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stream {
    pub(crate) lines: Lines,
    pub(crate) chunked: bool,
}

/// The form of a message in the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lines {
    /// The data of a block of an event stream.
    Data,
    /// Lines of an event stream, as the protocol wrote them.
    Blocks,
    /// One line.
    Json,
    /// An entry of an array, and a comma: for the answers to polls.
    Entries,
    /// A packet of Engine.IO, and its separator.
    Packets,
}

impl Lines {
    /// The media type of the body.
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Lines::Data | Lines::Blocks => sse::MEDIA_TYPE,
            Lines::Json => "application/x-ndjson",
            Lines::Entries => "application/json",
            Lines::Packets => "text/plain; charset=UTF-8",
        }
    }

    fn put(self, out: &mut Vec<u8>, form: Form, payload: &[u8]) {
        match (self, form) {
            (Lines::Data | Lines::Blocks, Form::Ping | Form::Pong) => StreamForm::Blocks.put_idle(out),
            (Lines::Data, Form::Text | Form::Binary) => StreamForm::Blocks.put(out, payload),
            (Lines::Blocks, Form::Text | Form::Binary) => out.extend_from_slice(payload),
            (Lines::Entries, Form::Ping | Form::Pong) => {}
            (Lines::Entries, Form::Text | Form::Binary) => {
                out.extend_from_slice(payload);
                out.push(b',');
            }
            (Lines::Packets, Form::Ping | Form::Pong) => {}
            (Lines::Packets, Form::Text) => {
                out.extend_from_slice(payload);
                out.push(SEPARATOR as u8);
            }
            (Lines::Packets, Form::Binary) => {
                put_binary(out, payload);
                out.push(SEPARATOR as u8);
            }
            (Lines::Json, Form::Ping | Form::Pong) => StreamForm::Lines.put_idle(out),
            (Lines::Json, Form::Text | Form::Binary) => StreamForm::Lines.put(out, payload),
        }
    }
}

impl Stream {
    /// The transport's name in figures.
    pub(super) fn transport(self) -> &'static str {
        match self.lines {
            Lines::Data | Lines::Blocks => "sse",
            Lines::Json => "stream",
            Lines::Entries => "poll",
            Lines::Packets => "polling",
        }
    }

    #[inline]
    pub(super) fn put(self, out: &mut Vec<u8>, form: Form, payload: &[u8]) {
        if !self.chunked {
            return self.lines.put(out, form, payload);
        }
        // The size stands before the chunk and is known behind it: room for the longest one is left, and closed up.
        const SIZE: usize = 16 + 2;
        let begin = out.len();
        out.resize(begin + SIZE, 0);
        self.lines.put(out, form, payload);
        let len = out.len() - begin - SIZE;
        if len == 0 {
            return out.truncate(begin); // a chunk of no bytes would end the body
        }
        let mut size = [0; SIZE];
        let mut left = &mut size[..];
        let _ = write!(left, "{len:x}\r\n"); // it fits
        let used = SIZE - left.len();
        out[begin..begin + used].copy_from_slice(&size[..used]);
        out.copy_within(begin + SIZE.., begin + used);
        out.truncate(begin + used + len);
        out.extend_from_slice(b"\r\n");
    }

    pub(super) fn frame(self, form: Form, payload: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(payload.len() + 24);
        self.put(&mut out, form, payload);
        out.into()
    }

    /// The last chunk, where there are chunks; a close packet of Engine.IO. Otherwise the end of the connection ends a
    /// stream.
    pub(super) fn end(self) -> Bytes {
        if self.lines == Lines::Packets {
            return Bytes::from_static(b"1\x1e"); // a close packet
        }
        Bytes::from_static(if self.chunked { b"0\r\n\r\n" } else { b"" })
    }
}

/// Takes whatever a client sends on a stream.
#[derive(Debug, Default)]
pub(crate) struct Deframer {
    ignored_bytes: usize,
}

impl Deframer {
    pub(super) fn next<'s>(&mut self, input: &mut &mut [u8]) -> Result<Option<Received<'s>>, Broken> {
        self.ignored_bytes += input.len();
        *input = &mut [];
        if self.ignored_bytes > FORGET_BYTES {
            let reason = format!("more than {FORGET_BYTES} bytes came on a stream, which carries messages down only");
            return Err(Broken { code: 1002, reason });
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Framing;
    use super::*;

    fn text(lines: Lines, chunked: bool, form: Form, payload: &str) -> String {
        let framing = Framing::Stream(Stream { lines, chunked });
        let mut among = b"before".to_vec();
        framing.put(&mut among, form, payload.as_bytes());
        let alone = framing.frame(form, payload.as_bytes());
        assert_eq!(&among[6..], &alone[..], "a message stands alone as it stands among others");
        String::from_utf8(alone.to_vec()).expect("text")
    }

    #[test]
    fn a_message_is_a_block_or_a_line_and_a_chunk_where_there_are_chunks() {
        let rows = [
            ("a block", Lines::Data, Form::Text, "{}", "data: {}\n\n"),
            ("a block of two lines", Lines::Data, Form::Text, "a\nb", "data: a\ndata: b\n\n"),
            ("a written block", Lines::Blocks, Form::Text, "id: 1\n\n", "id: 1\n\n"),
            ("a line", Lines::Json, Form::Text, "{}", "{}\n"),
            ("a comment", Lines::Data, Form::Ping, "", ":\n\n"),
            ("a comment between blocks", Lines::Blocks, Form::Ping, "", ":\n\n"),
            ("a blank line", Lines::Json, Form::Ping, "", "\n"),
            ("an entry", Lines::Entries, Form::Text, "{}", "{},"),
        ];
        for (name, lines, form, payload, expected) in rows {
            assert_eq!(text(lines, false, form, payload), expected, "{name}");
            let chunk = format!("{:x}\r\n{expected}\r\n", expected.len());
            assert_eq!(text(lines, true, form, payload), chunk, "{name}");
        }
    }

    #[test]
    fn no_message_ends_the_body_and_the_end_does() {
        assert_eq!(text(Lines::Blocks, true, Form::Text, ""), "");
        let end = |chunked| Framing::Stream(Stream { lines: Lines::Data, chunked }).end(4000, "shutdown");
        assert_eq!((&end(true)[..], &end(false)[..]), (&b"0\r\n\r\n"[..], &b""[..]));
    }

    #[test]
    fn input_on_a_stream_is_ignored_within_a_bound() {
        let mut deframer = Framing::Stream(Stream { lines: Lines::Data, chunked: true }).deframer(64);
        let mut bytes = vec![b'x'; FORGET_BYTES];
        assert_eq!(deframer.next(&mut &mut bytes[..], None), Ok(None));
        assert!(deframer.next(&mut &mut [b'x'][..], None).is_err());
    }
}
