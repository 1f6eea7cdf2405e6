//! Messages in the body of a stream: blocks of an event stream, or lines of JSON.
//!
//! A server appends each message by [`StreamForm::put`], and a client reads them by [`StreamDecoder`]. In: the bytes of
//! the body, cut anywhere. Out: each whole message once, in order: the `data` of a block with its lines joined by line
//! feeds (HTML, 9.2 *Server-sent events*), or a line that is not blank. Comments and all other fields of a block are
//! skipped. A message that was not ended is never given. Memory: one message, at most `bytes_max` and the bytes of one
//! call.

use crate::sse;
use memchr::{memchr, memchr2};

/// The form of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamForm {
    /// `text/event-stream`: a message is the data of a block.
    Blocks,
    /// `application/x-ndjson`: a message is a line.
    Lines,
}

impl StreamForm {
    /// Appends a message. One of lines is JSON, which has no line feed.
    #[inline]
    pub fn put(self, out: &mut Vec<u8>, message: &[u8]) {
        match self {
            StreamForm::Blocks => {
                sse::put_data(out, message);
                sse::put_end(out);
            }
            StreamForm::Lines => {
                out.extend_from_slice(message);
                out.push(b'\n');
            }
        }
    }

    /// Appends a sign of life, which readers skip: a comment, or a blank line.
    #[inline]
    pub fn put_idle(self, out: &mut Vec<u8>) {
        if self == StreamForm::Blocks {
            sse::put_comment(out);
        }
        out.push(b'\n');
    }
}

/// The peer broke the form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// A message is longer than the limit.
    #[error("a message of the stream has more than {max} bytes")]
    TooLong {
        /// The limit.
        max: usize,
    },
    /// A message is not UTF-8.
    #[error("a message of the stream is not UTF-8")]
    NotUtf8,
}

/// Reads one body.
#[derive(Debug)]
pub struct StreamDecoder {
    form: StreamForm,
    bytes_max: usize,
    /// The line that is not whole.
    line: Vec<u8>,
    /// The data of the block, where it has any.
    data: Option<Vec<u8>>,
    /// The last line ended with a carriage return: a line feed that follows belongs to its end.
    after_return: bool,
    /// The first line has been read: a byte order mark stands before it or nowhere.
    begun: bool,
}

/// U+FEFF.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

impl StreamDecoder {
    /// For a body of which nothing was read. No message may have more than `bytes_max` bytes.
    pub fn new(form: StreamForm, bytes_max: usize) -> Self {
        StreamDecoder { form, bytes_max, line: Vec::new(), data: None, after_return: false, begun: false }
    }

    /// Takes the next bytes, and gives each message that they complete to `take`.
    ///
    /// # Errors
    /// [`StreamError`]; then the body cannot be read any further.
    pub fn read(&mut self, mut bytes: &[u8], mut take: impl FnMut(&str)) -> Result<(), StreamError> {
        if self.after_return && !bytes.is_empty() {
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
            self.after_return = false;
        }
        while let Some(end) = self.find_end(bytes) {
            let (part, rest) = (&bytes[..end], &bytes[end + 1..]);
            self.check(part.len())?;
            if self.line.is_empty() {
                self.end_line(part, &mut take)?;
            } else {
                self.line.extend_from_slice(part);
                let line = std::mem::take(&mut self.line);
                self.end_line(&line, &mut take)?;
            }
            self.after_return = self.form == StreamForm::Blocks && bytes[end] == b'\r' && rest.is_empty();
            let is_pair = self.form == StreamForm::Blocks && bytes[end] == b'\r';
            bytes = if is_pair { rest.strip_prefix(b"\n").unwrap_or(rest) } else { rest };
        }
        self.check(bytes.len())?;
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn find_end(&self, bytes: &[u8]) -> Option<usize> {
        match self.form {
            StreamForm::Blocks => memchr2(b'\n', b'\r', bytes),
            StreamForm::Lines => memchr(b'\n', bytes),
        }
    }

    /// Whether the message may grow by so many bytes.
    fn check(&self, more: usize) -> Result<(), StreamError> {
        let held = self.line.len() + self.data.as_ref().map_or(0, Vec::len);
        // The name of the field is no part of the message.
        let max = self.bytes_max.saturating_add("data: ".len());
        if held + more > max { Err(StreamError::TooLong { max: self.bytes_max }) } else { Ok(()) }
    }

    fn end_line(&mut self, line: &[u8], take: &mut impl FnMut(&str)) -> Result<(), StreamError> {
        let line = if std::mem::replace(&mut self.begun, true) {
            line
        } else {
            line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line)
        };
        match self.form {
            StreamForm::Lines if line.trim_ascii().is_empty() => Ok(()),
            StreamForm::Lines => give(line.trim_ascii(), take),
            StreamForm::Blocks if line.is_empty() => match self.data.take() {
                Some(data) => give(&data, take),
                None => Ok(()),
            },
            StreamForm::Blocks => {
                let (name, value) = match memchr(b':', line) {
                    Some(colon) => (&line[..colon], &line[colon + 1..]),
                    None => (line, &b""[..]),
                };
                if name == b"data" {
                    let value = value.strip_prefix(b" ").unwrap_or(value);
                    match &mut self.data {
                        Some(data) => {
                            data.push(b'\n');
                            data.extend_from_slice(value);
                        }
                        None => self.data = Some(value.to_vec()),
                    }
                }
                Ok(())
            }
        }
    }
}

fn give(message: &[u8], take: &mut impl FnMut(&str)) -> Result<(), StreamError> {
    take(std::str::from_utf8(message).map_err(|_| StreamError::NotUtf8)?);
    Ok(())
}

/// The body of the fuzz target `stream_decode`, and of the tests that feed it on every run. No body panics, and the
/// cuts between its bytes change nothing. The first byte selects the form, and how long the pieces are.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    const BYTES_MAX: usize = 64;
    let Some((&choice, body)) = data.split_first() else { return };
    let form = if choice % 2 == 0 { StreamForm::Blocks } else { StreamForm::Lines };
    let read = |pieces: Vec<&[u8]>| {
        let mut decoder = StreamDecoder::new(form, BYTES_MAX);
        let mut messages = Vec::new();
        let result = pieces.into_iter().try_for_each(|piece| {
            let result = decoder.read(piece, |message| messages.push(message.to_owned()));
            let held = decoder.line.len() + decoder.data.as_ref().map_or(0, Vec::len);
            assert!(held <= BYTES_MAX + "data: ".len() + 1, "{held} bytes are held");
            result
        });
        (messages, result.is_ok())
    };
    let whole = read(vec![body]);
    let cut = read(body.chunks(1 + usize::from(choice / 2) % 7).collect());
    assert_eq!(cut, whole, "{form:?}: in pieces and in one");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(form: StreamForm, pieces: &[&[u8]]) -> Result<Vec<String>, StreamError> {
        let mut decoder = StreamDecoder::new(form, 32);
        let mut messages = Vec::new();
        for piece in pieces {
            decoder.read(piece, |message| messages.push(message.to_owned()))?;
        }
        Ok(messages)
    }

    #[test]
    fn each_body_gives_its_messages_wherever_it_is_cut() {
        use StreamForm::{Blocks, Lines};
        let rows: &[(StreamForm, &str, &[&str])] = &[
            (Blocks, "", &[]),
            (Blocks, "data: a\n\ndata:b\n\n", &["a", "b"]),
            (Blocks, "data: a\r\n\r\ndata: b\r\rdata: c\n\n", &["a", "b", "c"]),
            (Blocks, "data: a\ndata: b\n\n", &["a\nb"]),
            (Blocks, "data:  a\n\n", &[" a"]),
            (Blocks, "data\n\n", &[""]),
            (Blocks, ": a comment\n\nretry: 5\nid: 7\nevent: x\ndata: a\n\n", &["a"]),
            (Blocks, "id: 7\n\n\n\n", &[]),
            (Blocks, "database: a\n\n", &[]),
            (Blocks, "\u{feff}data: a\n\ndata: ü\n\n", &["a", "ü"]),
            (Blocks, "data: never ended\n", &[]),
            (Lines, "{\"a\":1}\n\n[2]\r\n  \n", &["{\"a\":1}", "[2]"]),
            (Lines, "\u{feff}1\nnever ended", &["1"]),
        ];
        for (form, body, expected) in rows {
            let expected: Vec<String> = expected.iter().map(|&message| message.to_owned()).collect();
            assert_eq!(read(*form, &[body.as_bytes()]), Ok(expected.clone()), "{body:?}");
            let bytes: Vec<&[u8]> = body.as_bytes().chunks(1).collect();
            assert_eq!(read(*form, &bytes), Ok(expected), "{body:?}, byte by byte");
        }
    }

    #[test]
    fn a_message_over_the_limit_ends_the_stream_before_it_is_held() {
        let long = "x".repeat(33);
        for (form, body) in [
            (StreamForm::Lines, format!("{long}{long}")),
            (StreamForm::Blocks, format!("data: {long}")),
            (StreamForm::Blocks, "data: 0123456789\n".repeat(4)),
            (StreamForm::Blocks, format!(":{long}{long}")),
        ] {
            assert_eq!(read(form, &[body.as_bytes()]), Err(StreamError::TooLong { max: 32 }), "{body}");
        }
        assert_eq!(
            read(StreamForm::Blocks, &[format!("data: {}\n\n", &long[1..]).as_bytes()]),
            Ok(vec!["x".repeat(32)])
        );
    }

    #[test]
    fn a_message_that_is_not_utf8_ends_the_stream() {
        for (form, body) in [(StreamForm::Lines, &b"\xff\n"[..]), (StreamForm::Blocks, b"data: \xff\n\n")] {
            assert_eq!(read(form, &[body]), Err(StreamError::NotUtf8));
        }
    }

    proptest! {
        #[test]
        fn the_cuts_of_a_body_change_nothing(data in proptest::collection::vec(
            prop_oneof![Just(b'\n'), Just(b'\r'), Just(b':'), Just(b' '), Just(b'd'), any::<u8>()], 0..200)) {
            fuzz(&data);
        }

        #[test]
        fn the_blocks_of_the_server_are_read_back(messages in proptest::collection::vec("[^\r]{0,20}", 0..8)) {
            let mut body = Vec::new();
            for message in &messages {
                StreamForm::Blocks.put_idle(&mut body);
                StreamForm::Blocks.put(&mut body, message.as_bytes());
            }
            let mut decoder = StreamDecoder::new(StreamForm::Blocks, 1 << 10);
            let mut read = Vec::new();
            decoder.read(&body, |message| read.push(message.to_owned())).expect("valid");
            prop_assert_eq!(read, messages);
        }

        #[test]
        fn the_lines_of_the_server_are_read_back(messages in proptest::collection::vec("[{\\[\"][^\n\r]{0,20}[}\"]", 0..8)) {
            let mut body = Vec::new();
            for message in &messages {
                StreamForm::Lines.put_idle(&mut body);
                StreamForm::Lines.put(&mut body, message.as_bytes());
            }
            let mut decoder = StreamDecoder::new(StreamForm::Lines, 1 << 10);
            let mut read = Vec::new();
            decoder.read(&body, |message| read.push(message.to_owned())).expect("valid");
            prop_assert_eq!(read, messages);
        }
    }
}
