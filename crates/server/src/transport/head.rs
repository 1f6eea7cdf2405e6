//! Checks the heads of HTTP/1, for every request on every port.
//!
//! In: the bytes of a head, or the result of `httparse`. Out: the refusal of the head, if any. The first head of a
//! connection is checked before hyper sees it. hyper parses the later ones by itself and refuses them with a status
//! alone, so `pace` gets the words for them here. hyper accepts every head that passes: its syntax, size, target
//! (RFC 9112 §3.2) and the length of its body (RFC 9112 §6).
//!
//! hyper and `httparse` also accept heads that a proxy in front may read in another way: with bare LFs, with several
//! lengths, with both a length and a coding, and with codings other than `chunked`. [`judge_lines`] refuses these. It
//! also finds the end of a request, so that `pace` gives hyper one request at a time and judges the next one too. A
//! head is not judged while an answer waits for its reader. (There hyper goes by the coding, and ends the connection,
//! as RFC 9112 §6.1 allows; the gate refuses codings other than `chunked` by [`is_chunked`]; hyper refuses lengths
//! that differ.)

use crate::config::authority::shown;
use crate::limits::HttpLimit;
use crate::refusal::{Asker, HttpRefusal};
use crate::request::RequestId;
use http::header::COOKIE;
use http::{Request, Uri};
use std::time::Duration;

/// RFC 6585 §5 asks for a bound; `httparse` needs the room beforehand.
pub(crate) const HEADERS_MAX: usize = 100;
/// hyper takes no longer target.
const TARGET_BYTES_MAX: usize = (u16::MAX - 1) as usize;

/// Checks the size and the syntax of `len` bytes by the parser's result. `None`: no fault so far.
pub(crate) fn refuse_parsed(parsed: httparse::Result<usize>, len: usize, bytes_max: usize) -> Option<HttpRefusal> {
    match parsed {
        Ok(httparse::Status::Complete(len)) if len <= bytes_max => None,
        Ok(httparse::Status::Partial) if len < bytes_max => None,
        Ok(_) => Some(too_long(bytes_max)),
        Err(httparse::Error::TooManyHeaders) => Some(too_many()),
        Err(error) => Some(HttpRefusal::because(400, format!("this is not HTTP/1.1: {error}"))),
    }
}

fn too_long(bytes_max: usize) -> HttpRefusal {
    let refused = HttpRefusal::because(431, format!("the request's head is longer than {bytes_max} bytes"));
    refused.at(HttpLimit::HeadBytes).over(bytes_max)
}

fn too_many() -> HttpRefusal {
    let refused = HttpRefusal::because(431, format!("the request has more than {HEADERS_MAX} headers"));
    refused.at(HttpLimit::Headers).over(HEADERS_MAX)
}

/// The longest head that HTTP/2 decodes, where `bytes_max` is the bound. One beyond it is refused without a body, and
/// nobody here sees it, so there is room for the usual ones that are too long.
pub(crate) fn http2_decoded_max(bytes_max: usize) -> u32 {
    u32::try_from(bytes_max.saturating_mul(4)).unwrap_or(u32::MAX)
}

/// Checks the size of a head of HTTP/2 as its settings count it (RFC 9113 §6.5.2): 32 bytes more for each field. The
/// parts of a cookie are one header: a client may send each as its own line (§8.2.3).
pub(crate) fn refuse_http2<B>(request: &Request<B>, bytes_max: usize) -> Option<HttpRefusal> {
    const OVERHEAD: usize = 32;
    let (headers, uri) = (request.headers(), request.uri());
    let path = uri.path_and_query().map_or(0, |path| path.as_str().len());
    let authority = uri.authority().map_or(0, |authority| authority.as_str().len());
    let method = request.method().as_str().len();
    let of_line = [(":method", method), (":scheme", 5), (":path", path), (":authority", authority)];
    let of_line = of_line.into_iter().map(|(name, len)| name.len() + len + OVERHEAD).sum::<usize>();
    let lines = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + OVERHEAD).sum::<usize>();
    let cookies = headers.get_all(COOKIE).iter().count();
    match headers.len() - cookies.saturating_sub(1) > HEADERS_MAX {
        _ if of_line + lines > bytes_max => Some(too_long(bytes_max)),
        true => Some(too_many()),
        false => None,
    }
}

/// The words for more than one line with a coding of the body.
pub(crate) const SEVERAL_CODINGS: &str = "the request has more than one `Transfer-Encoding`";

/// The end of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeadEnd {
    /// The bytes before it.
    pub(crate) at: usize,
    /// The length of the body.
    pub(crate) body: BodyLength,
}

/// Where a request ends behind its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyLength {
    Bytes(u64),
    /// The chunks tell.
    Chunked,
    /// Its length is none, and the head will be refused.
    Unknown,
}

/// Judges the lines of a head, as they came, for what the parsers pass over and a proxy may read in another way: a
/// line that a bare LF ends (RFC 9112 §2.2), more than one length or coding of the body, and both (§6.1). `None`: there
/// is no fault so far, and the head is not whole. `bytes` may go on behind the head.
///
/// # Errors
/// The refusal.
pub(crate) fn judge_lines(bytes: &[u8]) -> Result<Option<HeadEnd>, HttpRefusal> {
    let (mut at, mut length, mut coding) = (0, None, None);
    let mut begun = false;
    while let Some(len) = memchr::memchr(b'\n', &bytes[at..]) {
        let line = &bytes[at..at + len];
        at += len + 1;
        let Some(line) = line.strip_suffix(b"\r") else {
            return Err(unlike_others(bytes, "a line of the request's head ends with LF alone, without CR"));
        };
        match line {
            [] if begun => {
                let body = match (coding, length) {
                    (Some(coding), _) if is_chunked(coding) => BodyLength::Chunked,
                    (Some(coding), _) => return Err(unlike_others(bytes, not_chunked(coding))),
                    (None, None) => BodyLength::Bytes(0),
                    (None, Some(length)) => length_of(length).map_or(BodyLength::Unknown, BodyLength::Bytes),
                };
                return Ok(Some(HeadEnd { at, body }));
            }
            [] => {} // an empty line may come before a request
            _ => begun = true,
        }
        let value = |name: &[u8]| {
            let is = line.len() >= name.len() && line[..name.len()].eq_ignore_ascii_case(name);
            is.then(|| &line[name.len()..])
        };
        let problem = match (value(b"content-length:"), value(b"transfer-encoding:")) {
            (None, None) => continue,
            (Some(_), _) if length.is_some() => "the request has more than one `Content-Length`",
            (_, Some(_)) if coding.is_some() => SEVERAL_CODINGS,
            (this_length, this_coding) => {
                (length, coding) = (this_length.or(length), this_coding.or(coding));
                if length.is_none() || coding.is_none() {
                    continue;
                }
                "the request has a `Content-Length` and a `Transfer-Encoding`"
            }
        };
        return Err(unlike_others(bytes, problem));
    }
    Ok(None)
}

/// The number that the value of a `Content-Length` is.
fn length_of(value: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(value.trim_ascii()).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    digits.and_then(|text| text.parse().ok())
}

/// A refusal of such a head.
fn unlike_others(head: &[u8], words: impl Into<Box<str>>) -> HttpRefusal {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let refused = HttpRefusal::because(400, words).and_last();
    match request.parse(head) {
        Ok(httparse::Status::Complete(_)) => for_asker(refused, &request),
        _ => refused,
    }
}

/// With the id of the request, and in the form that its client asks for.
fn for_asker(refused: HttpRefusal, request: &httparse::Request<'_, '_>) -> HttpRefusal {
    let headers: Vec<(&str, &[u8])> = request.headers.iter().map(|header| (header.name, header.value)).collect();
    let target = request.path.unwrap_or("/");
    let path = target.split('?').next().unwrap_or(target);
    let asker = Asker::of(request.method.unwrap_or(""), path, headers.iter().copied());
    refused.identified(RequestId::of_raw(&headers)).to(asker)
}

/// Checks the target and the length of the body of a whole head.
pub(crate) fn refuse_whole(request: &httparse::Request<'_, '_>) -> Option<HttpRefusal> {
    let target = request.path.unwrap_or("/");
    let problem = match target.parse::<Uri>() {
        _ if target.len() > TARGET_BYTES_MAX => {
            Some((414, format!("the request's target is longer than {TARGET_BYTES_MAX} bytes")))
        }
        Err(error) => Some((400, format!("the request's target {} is none: {error}", shown(target.as_bytes())))),
        Ok(_) => problem_of_length(request).map(|problem| (400, problem)),
    };
    let (status, reason) = problem?;
    Some(for_asker(HttpRefusal::because(status, reason), request))
}

/// RFC 9112 §6.3, points 4 and 5.
fn problem_of_length(request: &httparse::Request<'_, '_>) -> Option<String> {
    let of = |name| request.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
    let (mut lengths, mut codings) = (of("content-length"), of("transfer-encoding"));
    if let Some(coding) = codings.next() {
        if request.version == Some(0) {
            return Some("`Transfer-Encoding` is not of HTTP/1.0".to_owned());
        }
        return match codings.next() {
            Some(_) => Some(SEVERAL_CODINGS.to_owned()),
            None => (!is_chunked(coding.value)).then(|| not_chunked(coding.value)),
        };
    }
    let length = lengths.next()?;
    if length_of(length.value).is_none() {
        return Some(format!("the `Content-Length` {} is no length", shown(length.value)));
    }
    lengths.next().map(|_| "the request has more than one `Content-Length`".to_owned())
}

/// The words for a coding of the body that is not understood here.
pub(crate) fn not_chunked(coding: &[u8]) -> String {
    format!("the `Transfer-Encoding` {} is not `chunked` alone", shown(coding.trim_ascii()))
}

/// Whether the value of a `Transfer-Encoding` is that of chunks alone. Others would take a body in several codings, or
/// in none that is known here, to end elsewhere (RFC 9112 §6.1).
pub(crate) fn is_chunked(coding: &[u8]) -> bool {
    coding.trim_ascii().eq_ignore_ascii_case(b"chunked")
}

/// The refusal of a head that hyper has refused with this status. `head` has its bytes, if they are known.
pub(crate) fn refused_with(status: u16, head: Option<&[u8]>, bytes_max: usize) -> HttpRefusal {
    let judged = head.and_then(|head| {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        let parsed = request.parse(head);
        let is_whole = matches!(parsed, Ok(httparse::Status::Complete(_)));
        refuse_parsed(parsed, head.len(), bytes_max).or_else(|| refuse_whole(&request).filter(|_| is_whole))
    });
    judged.filter(|judged| judged.status() == status).unwrap_or_else(|| {
        HttpRefusal::because(
            status,
            match status {
                431 => format!("the request's head is longer than {bytes_max} bytes or has too many headers"),
                414 => format!("the request's target is longer than {TARGET_BYTES_MAX} bytes"),
                _ => "this is not HTTP/1.1".to_owned(),
            },
        )
    })
}

/// The refusal of a head that did not come in time.
pub(crate) fn too_slow(time: Duration) -> HttpRefusal {
    let reason = format!("the request's head did not arrive within {} s", time.as_secs_f32());
    HttpRefusal::because(408, reason).at(HttpLimit::HeadTime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_others_may_read_in_another_way_are_refused_as_soon_as_they_are_there() {
        let rows = [
            ("a good head", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx\n", None),
            ("empty lines before it", "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", None),
            ("half a head", "GET / HTTP/1.1\r\nContent-Le", None),
            ("both in a body", "GET / HTTP/1.1\r\n\r\nContent-Length: 1\r\nTransfer-Encoding: x\r\n", None),
            (
                "names that begin so",
                "GET / HTTP/1.1\r\nContent-Length-X: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                None,
            ),
            (
                "both",
                "GET / HTTP/1.1\r\nCONTENT-length: 1\r\nTransfer-Encoding: x\r\n\r\n",
                Some("`Content-Length` and"),
            ),
            (
                "two equal lengths",
                "GET / HTTP/1.1\r\nContent-Length: 1\r\nHost: a\r\ncontent-length: 1\r\n",
                Some("more than one `Content-Length`"),
            ),
            (
                "two equal codings",
                "GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                Some("more than one `Transfer-Encoding`"),
            ),
            (
                "a coding twice",
                "GET / HTTP/1.1\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
                Some("\"chunked, chunked\""),
            ),
            (
                "an unknown coding",
                "GET / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
                Some("\"gzip, chunked\""),
            ),
            ("an empty coding", "GET / HTTP/1.1\r\nTransfer-Encoding:\r\n\r\n", Some("`chunked`")),
            ("chunks in capitals", "GET / HTTP/1.1\r\nTransfer-Encoding: \t CHUNKED \r\n\r\n", None),
            (
                "both, so far",
                "GET / HTTP/1.1\r\ntransfer-encoding: x\r\nContent-Length: 1\r\n",
                Some("`Content-Length` and"),
            ),
            ("a bare LF", "GET / HTTP/1.1\nHost: a\r\n", Some("LF alone")),
            ("a bare LF at the end", "GET / HTTP/1.1\r\nHost: a\r\n\n", Some("LF alone")),
            ("a bare LF before it", "\nGET / HTTP/1.1\r\n", Some("LF alone")),
        ];
        for (name, head, expected) in rows {
            let refused = judge_lines(head.as_bytes()).err();
            let words = refused.as_ref().map(HttpRefusal::reason);
            assert_eq!(words.is_some(), expected.is_some(), "{name}: {words:?}");
            assert!(words.unwrap_or_default().contains(expected.unwrap_or_default()), "{name}: {words:?}");
        }
    }

    #[test]
    fn the_end_of_a_request_is_known() {
        use BodyLength::{Bytes, Chunked, Unknown};
        let end = |at, body| Some(HeadEnd { at, body });
        let rows = [
            ("half a head", "GET / HTTP/1.1\r\nHost: a\r\n", None),
            ("no body", "GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n", end(18, Bytes(0))),
            ("empty lines before it", "\r\n\r\nGET / HTTP/1.1\r\n\r\n", end(22, Bytes(0))),
            ("a length", "GET / HTTP/1.1\r\ncontent-length:  12 \r\n\r\nx", end(40, Bytes(12))),
            ("a length that is none", "GET / HTTP/1.1\r\nContent-Length:\r\n\r\n", end(35, Unknown)),
            ("a signed length", "GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\n", end(38, Unknown)),
            ("chunks", "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", end(46, Chunked)),
        ];
        for (name, head, expected) in rows {
            assert_eq!(judge_lines(head.as_bytes()).ok(), Some(expected), "{name}");
        }
    }

    #[test]
    fn a_head_is_refused_for_its_target_and_for_its_length() {
        #[rustfmt::skip]
        let rows: &[(&str, &str, Option<&str>)] = &[
            ("GET / HTTP/1.1", "", None),
            ("POST / HTTP/1.1", "Content-Length: 10\r\n", None),
            ("POST / HTTP/1.1", "Transfer-Encoding: Chunked\r\nContent-Length: x\r\n", None),
            ("POST / HTTP/1.1", "Content-Length: 10\r\nContent-Length: 10\r\n", Some("more than one")),
            ("POST / HTTP/1.1", "Transfer-Encoding: gzip, Chunked\r\n", Some("\"gzip, Chunked\"")),
            ("POST / HTTP/1.1", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Some("more than one")),
            ("POST / HTTP/1.1", "Content-Length: +0\r\n", Some("\"+0\"")),
            ("POST / HTTP/1.1", "Content-Length: \r\n", Some("no length")),
            ("POST / HTTP/1.1", "Content-Length: 0, 0\r\n", Some("\"0, 0\"")),
            ("POST / HTTP/1.1", "Content-Length: 99999999999999999999\r\n", Some("no length")),
            ("POST / HTTP/1.1", "Content-Length: 1\r\nContent-Length: 2\r\n", Some("more than one")),
            ("POST / HTTP/1.1", "Transfer-Encoding: foo\r\n", Some("\"foo\"")),
            ("POST / HTTP/1.0", "Transfer-Encoding: chunked\r\n", Some("HTTP/1.0")),
            ("GET http:///x HTTP/1.1", "", Some("http:///x")),
        ];
        for (line, headers, expected) in rows {
            let bytes = format!("{line}\r\nHost: localhost\r\nX-Request-Id: of-the-test\r\n{headers}\r\n");
            let mut room = [httparse::EMPTY_HEADER; HEADERS_MAX];
            let mut request = httparse::Request::new(&mut room);
            assert!(request.parse(bytes.as_bytes()).expect(line).is_complete());
            let refused = refuse_whole(&request);
            let words = refused.as_ref().map(HttpRefusal::reason);
            assert_eq!(words.is_some(), expected.is_some(), "{line} {headers}: {words:?}");
            assert!(words.unwrap_or_default().contains(expected.unwrap_or_default()), "{line} {headers}: {words:?}");
            assert!(refused.is_none_or(|refused| refused.id().is_some_and(|id| id.as_str() == "of-the-test")));
        }
    }
}
