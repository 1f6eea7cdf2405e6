//! Where the requests of an HTTP/1 connection end in its stream, and whether the next head has begun.
//!
//! In: the bytes that were read, and the length of each request's body. Out: the place where a request ends, and
//! whether bytes of another one follow.

/// How long a request's body is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Length {
    Exact(u64),
    Chunked,
}

/// Where a request ends.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ends {
    /// With a blank line: its head, where it has no body, or its last chunk.
    Blank,
    /// So many bytes into the stream.
    At(u64),
    /// Somewhere in what came behind another request.
    Unknown,
}

/// A stream of requests of HTTP/1, as far as it tells whether it stands within a head. hyper may have the beginning
/// of the next head in its buffer: it came with the request before.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// Bytes so far.
    read: u64,
    /// The end of the head that is being read, or was read last.
    head_end: Option<u64>,
    /// The line so far has bytes besides CR.
    in_line: bool,
    /// The last line that ended was blank, and nothing has come since.
    blank: bool,
    /// The head has begun: blank lines before it are skipped (RFC 9112 §2.2).
    has_line: bool,
}

impl Stream {
    pub(super) fn take(&mut self, bytes: &[u8], in_head: bool) {
        let mut rest = bytes;
        // The head's lines one by one, then only what the whole ends with.
        while in_head && self.head_end.is_none() {
            let Some(at) = memchr::memchr(b'\n', rest) else { break };
            let (line, after) = rest.split_at(at + 1);
            self.end_with(line);
            self.has_line |= !self.blank;
            self.read += line.len() as u64;
            rest = after;
            if self.blank && self.has_line {
                self.head_end = Some(self.read);
            }
        }
        self.end_with(rest);
        self.read += rest.len() as u64;
    }

    fn end_with(&mut self, bytes: &[u8]) {
        let is_empty = |line: &[u8]| line.iter().all(|&byte| byte == b'\r');
        let Some(last) = memchr::memrchr(b'\n', bytes) else {
            if !is_empty(bytes) {
                (self.in_line, self.blank) = (true, false);
            }
            return;
        };
        let (lines, open) = (&bytes[..last], &bytes[last + 1..]);
        let before = match memchr::memrchr(b'\n', lines) {
            Some(at) => !is_empty(&lines[at + 1..]),
            None => self.in_line || !is_empty(lines),
        };
        self.in_line = !is_empty(open);
        self.blank = !before && !self.in_line;
    }

    /// Where the request ends whose head hyper has parsed.
    pub(super) fn ends(&self, length: Length) -> Ends {
        match (length, self.head_end) {
            (Length::Exact(0) | Length::Chunked, _) => Ends::Blank,
            (Length::Exact(length), Some(head_end)) => Ends::At(head_end.saturating_add(length)),
            (Length::Exact(_), None) => Ends::Unknown,
        }
    }

    /// The request has been answered. True where a part of the next head is there.
    pub(super) fn next(&mut self, ended: Ends) -> bool {
        let begun = !self.blank
            && match ended {
                Ends::Blank => true,
                Ends::At(end) => self.read > end,
                Ends::Unknown => false,
            };
        (self.head_end, self.has_line) = (None, begun);
        if !begun {
            self.in_line = false; // that was a body
        }
        begun
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each row is read whole, byte by byte, and in two parts at every place.
    #[test]
    fn a_head_that_has_begun_is_seen_however_it_came() {
        let none = Length::Exact(0);
        let rows: &[(&str, Length, &str, bool)] = &[
            ("one request", none, "GET / HTTP/1.1\r\n\r\n", false),
            ("a blank line before it", none, "\r\nGET / HTTP/1.1\r\n\r\n", false),
            ("a blank line behind it", none, "GET / HTTP/1.1\r\n\r\n\r\n", false),
            ("LF alone", none, "GET / HTTP/1.1\nA: b\n\n", false),
            ("a byte of the next", none, "GET / HTTP/1.1\r\n\r\nG", true),
            ("a line of the next", none, "GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n", true),
            ("the next, but for its end", none, "GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r", true),
            ("the next behind a blank line", none, "GET / HTTP/1.1\r\n\r\n\r\nG", true),
            ("a body", Length::Exact(4), "POST / HTTP/1.1\r\n\r\nbody", false),
            ("a part of a body", Length::Exact(4), "POST / HTTP/1.1\r\n\r\nbo", false),
            ("a body with blank lines", Length::Exact(9), "POST / HTTP/1.1\r\n\r\nb\r\n\r\nbody", false),
            ("a body and a byte", Length::Exact(4), "POST / HTTP/1.1\r\n\r\nbodyG", true),
            ("chunks", Length::Chunked, "POST / HTTP/1.1\r\n\r\n1\r\na\r\n0\r\n\r\n", false),
            ("chunks and a byte", Length::Chunked, "POST / HTTP/1.1\r\n\r\n1\r\na\r\n0\r\n\r\nG", true),
        ];
        for (name, length, text, begun) in rows {
            let bytes = text.as_bytes();
            let mut cuts: Vec<Vec<&[u8]>> = (0..bytes.len()).map(|at| vec![&bytes[..at], &bytes[at..]]).collect();
            cuts.push(bytes.chunks(1).collect());
            for parts in cuts {
                let mut stream = Stream::default();
                for part in &parts {
                    stream.take(part, true);
                }
                let ends = stream.ends(*length);
                assert_eq!(stream.next(ends), *begun, "{name}: {parts:?}");
            }
        }
    }

    /// The rest of a head that came in part with the request before it, and then a request with a body.
    #[test]
    fn later_requests_are_judged_anew() {
        let mut stream = Stream::default();
        stream.take(b"GET / HTTP/1.1\r\n\r\nPOST / HT", true);
        assert!(stream.next(Ends::Blank));
        stream.take(b"TP/1.1\r\n\r\nbody", true);
        let ends = stream.ends(Length::Exact(4));
        assert!(matches!(ends, Ends::At(_)), "{ends:?}");
        assert!(!stream.next(ends));
        stream.take(b"POST / HTTP/1.1\r\n\r\nbodyG", true);
        let ends = stream.ends(Length::Exact(4));
        assert!(stream.next(ends));
    }
}
