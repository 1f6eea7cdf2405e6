//! Checks the heads of HTTP/1, for every request on every port.
//!
//! In: the bytes of a head, or the result of `httparse`. Out: the refusal of the head, if any. The first head of a
//! connection is checked before hyper sees it. hyper parses the later ones by itself and refuses them with a status
//! alone, so `pace` gets the words for them here. hyper accepts every head that passes: its syntax, size, target
//! (RFC 9112 §3.2) and the length of its body (RFC 9112 §6).

use crate::config::authority::shown;
use crate::refusal::{Asker, HttpRefusal};
use crate::request::RequestId;
use http::Uri;
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
        Ok(_) => {
            let refused = HttpRefusal::because(431, format!("the request's head is longer than {bytes_max} bytes"));
            Some(refused.by("limits.head_bytes_max").over(bytes_max))
        }
        Err(httparse::Error::TooManyHeaders) => {
            let refused = HttpRefusal::because(431, format!("the request has more than {HEADERS_MAX} headers"));
            Some(refused.over(HEADERS_MAX))
        }
        Err(error) => Some(HttpRefusal::because(400, format!("this is not HTTP/1.1: {error}"))),
    }
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
    let headers: Vec<(&str, &[u8])> = request.headers.iter().map(|header| (header.name, header.value)).collect();
    let path = target.split('?').next().unwrap_or(target);
    let asker = Asker::of(request.method.unwrap_or(""), path, headers.iter().copied());
    Some(HttpRefusal::because(status, reason).identified(RequestId::of_raw(&headers)).to(asker))
}

/// RFC 9112 §6.3, points 4 and 5.
fn problem_of_length(request: &httparse::Request<'_, '_>) -> Option<String> {
    let (mut length, mut coding) = (None, None);
    for header in request.headers.iter() {
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            if request.version == Some(0) {
                return Some("`Transfer-Encoding` is not of HTTP/1.0".to_owned());
            }
            coding = Some(header.value);
        } else if header.name.eq_ignore_ascii_case("content-length") && coding.is_none() {
            let digits = std::str::from_utf8(header.value).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
            let Some(this) = digits.and_then(|text| text.parse::<u64>().ok()) else {
                return Some(format!("the `Content-Length` {} is no length", shown(header.value)));
            };
            if length.is_some_and(|length| length != this) {
                return Some("the request has two `Content-Length`s that differ".to_owned());
            }
            length = Some(this);
        }
    }
    let last = coding?.rsplit(|&byte| byte == b',').next().unwrap_or_default();
    let is_chunked = last.trim_ascii().eq_ignore_ascii_case(b"chunked");
    (!is_chunked).then(|| format!("the `Transfer-Encoding` {} does not end with chunked", shown(coding.unwrap_or(b""))))
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
    HttpRefusal::because(408, reason).by("limits.head_timeout")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_refused_for_its_target_and_for_its_length() {
        #[rustfmt::skip]
        let rows: &[(&str, &str, Option<&str>)] = &[
            ("GET / HTTP/1.1", "", None),
            ("POST / HTTP/1.1", "Content-Length: 10\r\nContent-Length: 10\r\n", None),
            ("POST / HTTP/1.1", "Transfer-Encoding: gzip, Chunked\r\nContent-Length: x\r\n", None),
            ("POST / HTTP/1.1", "Content-Length: +0\r\n", Some("\"+0\"")),
            ("POST / HTTP/1.1", "Content-Length: \r\n", Some("no length")),
            ("POST / HTTP/1.1", "Content-Length: 0, 0\r\n", Some("\"0, 0\"")),
            ("POST / HTTP/1.1", "Content-Length: 99999999999999999999\r\n", Some("no length")),
            ("POST / HTTP/1.1", "Content-Length: 1\r\nContent-Length: 2\r\n", Some("differ")),
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
