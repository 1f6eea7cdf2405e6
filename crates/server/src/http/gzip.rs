//! gzip for HTTP answers (RFC 9110 §8.4.1.3): API answers and pages, for clients that accept it.
//!
//! In: what a request accepts, and its answer. Out: the same answer, compressed where that is worth it: its length is
//! known and at least `bytes_min`, its type is text, JSON or the like, and nothing forbids it. An answer whose length
//! is not known may be a stream whose pieces somebody waits for: it goes as it is, and so does every event stream. A
//! body that is there whole and not long is compressed at once, any other piece by piece as it is read, so that nobody
//! waits for the compression of a long one.
//!
//! Each answer that could be compressed says `Vary: Accept-Encoding`. A strong `ETag` of a compressed answer becomes a
//! weak one, because the bytes are others (§8.8.1).

use axum::body::Body;
use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress, Status};
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt as _;
use std::pin::Pin;
use std::task::{Context, Poll};

/// JSON of 64 KiB takes 0.3 ms. Level 6 takes twice as long and saves 4 %.
const LEVEL: Compression = Compression::new(4);
/// So much of a body is compressed before others have their turn.
const SLICE_BYTES: usize = 64 << 10;

/// Which answers are compressed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gzip {
    /// Shorter answers go as they are.
    pub(crate) bytes_min: usize,
}

/// The form of the answer that a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accepts {
    gzip: bool,
    /// It is for the head only.
    head: bool,
}

impl Accepts {
    pub(crate) fn of<B>(request: &Request<B>) -> Self {
        Accepts { gzip: prefers_gzip(request.headers()), head: request.method() == Method::HEAD }
    }
}

impl Gzip {
    /// Compresses an answer, if its request accepts that and it is worth it.
    pub(crate) fn encode(self, accepts: Accepts, response: Response<Body>) -> Response<Body> {
        let (mut head, mut body) = response.into_parts();
        // The head of an answer without a body says how long the body would be.
        let announced = head.headers.get(header::CONTENT_LENGTH).and_then(|len| len.to_str().ok()?.parse().ok());
        let len = if accepts.head { announced } else { body.size_hint().exact() };
        let is_long = len.is_some_and(|len| len >= self.bytes_min.max(1) as u64);
        if !is_long || !may_be_encoded(head.status, &head.headers) {
            return Response::from_parts(head, body);
        }
        head.headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        if !accepts.gzip {
            return Response::from_parts(head, body);
        }
        head.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        head.headers.remove(header::CONTENT_LENGTH);
        head.headers.remove(header::ACCEPT_RANGES);
        weaken(&mut head.headers);
        if accepts.head {
            return Response::from_parts(head, body);
        }
        let mut gzipped = Gzipped { compress: Compress::new_gzip(LEVEL, 15), input: Bytes::new(), body: None };
        match body.frame().now_or_never() {
            Some(Some(Ok(frame))) if frame.is_data() => gzipped.input = frame.into_data().unwrap_or_default(),
            // The body fails, and so does the answer.
            Some(Some(Err(error))) => return Response::from_parts(head, failed(error)),
            // A body with a length has no other frames before its data.
            Some(_) | None => {}
        }
        if body.is_end_stream() && gzipped.input.len() <= SLICE_BYTES {
            let whole = gzipped.next_slice(true).0;
            return Response::from_parts(head, Body::from(whole));
        }
        gzipped.body = Some(body);
        Response::from_parts(head, Body::new(gzipped))
    }
}

fn failed(error: axum::Error) -> Body {
    Body::from_stream(futures_util::stream::once(async { Err::<Bytes, _>(error) }))
}

/// Whether an answer may be compressed at all.
fn may_be_encoded(status: StatusCode, headers: &HeaderMap) -> bool {
    let is_whole = !matches!(status, StatusCode::NO_CONTENT | StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED)
        && !status.is_informational();
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
    // RFC 9111 §5.2.2.6: no intermediary may change it, and who says so means us too.
    let is_fixed = text(header::CACHE_CONTROL).to_ascii_lowercase().contains("no-transform");
    let has_coding = headers.contains_key(header::CONTENT_ENCODING) || headers.contains_key(header::CONTENT_RANGE);
    is_whole && !is_fixed && !has_coding && is_text(text(header::CONTENT_TYPE))
}

/// Whether bodies of this media type become shorter.
fn is_text(content_type: &str) -> bool {
    let media = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    let is_plain = media.starts_with("text/") && media != "text/event-stream";
    let is_other = matches!(
        &*media,
        "application/json"
            | "application/javascript"
            | "application/xml"
            | "application/wasm"
            | "application/openmetrics-text"
            | "image/svg+xml"
    );
    is_plain || is_other || media.starts_with("application/") && (media.ends_with("+json") || media.ends_with("+xml"))
}

/// The bytes are not those that the tag was made for.
fn weaken(headers: &mut HeaderMap) {
    let weak = match headers.get(header::ETAG) {
        Some(tag) if !tag.as_bytes().starts_with(b"W/") => HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()),
        _ => return,
    };
    if let Ok(weak) = weak {
        headers.insert(header::ETAG, weak);
    }
}

/// Whether `Accept-Encoding` asks for gzip rather than for nothing (RFC 9110 §12.5.3). Without the header a client may
/// not be able to read it.
fn prefers_gzip(headers: &HeaderMap) -> bool {
    let (mut gzip, mut identity, mut any) = (None, None, None);
    let lines = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok());
    for element in lines.flat_map(|line| line.split(',')) {
        let mut parts = element.split(';').map(str::trim);
        let coding = parts.next().unwrap_or("").to_ascii_lowercase();
        let weight = match (parts.next(), parts.next()) {
            (None, _) => Some(1000),
            (Some(weight), None) => thousandths(weight),
            _ => None,
        };
        let Some(weight) = weight else { continue }; // of an element that breaks the grammar nothing is known
        match &*coding {
            "gzip" | "x-gzip" => gzip = gzip.max(Some(weight)),
            "identity" => identity = Some(weight),
            "*" => any = Some(weight),
            _ => {}
        }
    }
    let gzip = gzip.or(any).unwrap_or(0);
    gzip > 0 && gzip >= identity.unwrap_or(0)
}

/// `q=0.5` in thousandths (RFC 9110 §12.4.2).
fn thousandths(weight: &str) -> Option<u16> {
    let (name, value) = weight.split_once('=')?;
    if !name.eq_ignore_ascii_case("q") {
        return None;
    }
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let fraction: u16 = format!("{fraction:0<3}").parse().ok()?;
    match whole {
        "0" => Some(fraction),
        "1" if fraction == 0 => Some(1000),
        _ => None,
    }
}

/// A body that is compressed as it is read.
struct Gzipped {
    compress: Compress,
    /// Read, and not compressed yet.
    input: Bytes,
    /// The rest; `None` at its end.
    body: Option<Body>,
}

impl Gzipped {
    /// Compresses the next slice of the input; with `is_last` also the end of the stream. The bytes, and whether the
    /// stream has ended with them.
    fn next_slice(&mut self, is_last: bool) -> (Bytes, bool) {
        let slice = self.input.split_to(self.input.len().min(SLICE_BYTES));
        let is_last = is_last && self.input.is_empty();
        let flush = if is_last { FlushCompress::Finish } else { FlushCompress::None };
        let mut out = Vec::with_capacity(slice.len() / 2 + 64);
        let mut rest = &slice[..];
        loop {
            let taken = self.compress.total_in();
            let status = self.compress.compress_vec(rest, &mut out, flush);
            rest = &rest[(self.compress.total_in() - taken) as usize..];
            let is_done = match status {
                Ok(Status::StreamEnd) | Err(_) => true, // any bytes can be compressed
                Ok(_) => !is_last && rest.is_empty() && out.len() < out.capacity(),
            };
            if is_done {
                return (out.into(), is_last);
            }
            out.reserve(SLICE_BYTES / 4);
        }
    }
}

impl http_body::Body for Gzipped {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        loop {
            if self.input.is_empty() {
                let Some(body) = &mut self.body else { return Poll::Ready(None) };
                match std::task::ready!(Pin::new(body).poll_frame(cx)) {
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => self.input = data,
                        Err(_) => continue, // trailers: not of bodies that have a length
                    },
                    Some(Err(error)) => {
                        self.body = None;
                        return Poll::Ready(Some(Err(error)));
                    }
                    None => {
                        self.body = None;
                        return Poll::Ready(Some(Ok(Frame::data(self.next_slice(true).0))));
                    }
                }
            }
            let (bytes, _) = self.next_slice(false);
            if !bytes.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(lines: &[&'static str]) -> bool {
        let mut request = Request::new(());
        for line in lines {
            request.headers_mut().append(header::ACCEPT_ENCODING, HeaderValue::from_static(line));
        }
        Accepts::of(&request).gzip
    }

    #[test]
    fn what_accept_encoding_says() {
        let rows: &[(&[&str], bool)] = &[
            (&[], false),
            (&[""], false),
            (&["gzip"], true),
            (&["GZIP, deflate, br, zstd"], true),
            (&["x-gzip"], true),
            (&["deflate, br"], false),
            (&["br", "gzip"], true),
            (&["gzip;q=0"], false),
            (&["gzip;q=0.000"], false),
            (&["gzip; Q=0.001"], true),
            (&["gzip ; q=1.000"], true),
            (&["gzip;q=1.001"], false),
            (&["gzip;q=0.0001"], false),
            (&["gzip;q=high"], false),
            (&["gzip;q="], false),
            (&["gzip;x=1"], false),
            (&["gzip;q=1;x"], false),
            (&["*"], true),
            (&["*;q=0"], false),
            (&["*;q=0, gzip"], true),
            (&["gzip;q=0, *"], false),
            (&["identity"], false),
            (&["identity, gzip"], true),
            (&["identity, gzip;q=0.9"], false),
            (&["identity;q=0.5, gzip;q=0.9"], true),
            (&["gzipped"], false),
        ];
        for (lines, expected) in rows {
            assert_eq!(accepts(lines), *expected, "{lines:?}");
        }
    }

    fn inflated(bytes: &[u8]) -> Vec<u8> {
        let mut state = flate2::Decompress::new_gzip(15);
        let mut out = Vec::with_capacity(64 << 20);
        let status = state.decompress_vec(bytes, &mut out, flate2::FlushDecompress::Finish).expect("gzip");
        assert_eq!((status, state.total_in()), (Status::StreamEnd, bytes.len() as u64), "one whole stream");
        out
    }

    const GZIP: Gzip = Gzip { bytes_min: 100 };
    const ASKED: Accepts = Accepts { gzip: true, head: false };

    #[tokio::test]
    async fn bodies_of_any_length_and_in_any_pieces_come_out_as_they_were() {
        let text = "The quick brown fox jumps over the lazy dog. ".repeat(30_000).into_bytes();
        for len in [100, 1000, SLICE_BYTES, SLICE_BYTES + 1, text.len()] {
            for (piece, is_ready) in [(usize::MAX, false), (usize::MAX, true), (1000, true), (100_000, false)] {
                let body = text[..len].to_vec();
                let pieces: Vec<Bytes> = body.chunks(piece.min(len)).map(Bytes::copy_from_slice).collect();
                let response = Response::builder()
                    .header(header::CONTENT_TYPE, "text/plain; charset=utf-8")
                    .header(header::CONTENT_LENGTH, len)
                    .body(Body::new(Pieces { pieces: pieces.into(), left: len as u64, is_ready }))
                    .expect("a response");
                let encoded = GZIP.encode(ASKED, response);
                assert_eq!(encoded.headers()[header::CONTENT_ENCODING], "gzip");
                assert_eq!(encoded.headers()[header::VARY], "Accept-Encoding");
                assert!(!encoded.headers().contains_key(header::CONTENT_LENGTH), "it is that of the text");
                let whole = encoded.into_body().collect().await.expect("a body").to_bytes();
                assert!(whole.len() < len, "{} of {len} bytes", whole.len());
                assert!(inflated(&whole) == body, "{len} bytes in pieces of {piece}");
            }
        }
    }

    /// A body that tells its length, and comes in pieces; it is ready every other time.
    struct Pieces {
        pieces: std::collections::VecDeque<Bytes>,
        left: u64,
        is_ready: bool,
    }

    impl http_body::Body for Pieces {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            self.is_ready = !self.is_ready;
            if !self.is_ready {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let piece = self.pieces.pop_front();
            self.left -= piece.as_ref().map_or(0, |piece| piece.len() as u64);
            Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
        }

        fn size_hint(&self) -> http_body::SizeHint {
            http_body::SizeHint::with_exact(self.left)
        }
    }

    #[test]
    fn which_answers_are_compressed() {
        type Row<'a> = (&'a str, u16, &'a [(&'a str, &'a str)], usize, bool);
        let json = ("content-type", "application/json");
        let rows: &[Row<'_>] = &[
            ("JSON", 200, &[json], 100, true),
            ("an error", 400, &[json], 100, true),
            ("a short one", 200, &[json], 99, false),
            ("an image", 200, &[("content-type", "image/png")], 1000, false),
            ("a drawing", 200, &[("content-type", "image/svg+xml")], 1000, true),
            ("problem details", 400, &[("content-type", "Application/Problem+JSON; charset=utf-8")], 1000, true),
            ("an event stream", 200, &[("content-type", "text/event-stream")], 1000, false),
            ("no type", 200, &[], 1000, false),
            ("a part", 206, &[json], 1000, false),
            ("a range", 416, &[json, ("content-range", "bytes */1000")], 1000, false),
            ("no change", 304, &[json], 1000, false),
            ("a coding of its own", 200, &[json, ("content-encoding", "br")], 1000, false),
            ("a fixed one", 200, &[json, ("cache-control", "no-cache, No-Transform")], 1000, false),
        ];
        for (name, status, headers, len, expected) in rows {
            let mut response = Response::builder().status(*status);
            for (name, value) in *headers {
                response = response.header(*name, *value);
            }
            let response = response.body(Body::from(vec![b'x'; *len])).expect("a response");
            let encoded = GZIP.encode(ASKED, response);
            let is_encoded = encoded.headers().get(header::CONTENT_ENCODING).is_some_and(|coding| coding == "gzip");
            assert_eq!(is_encoded, *expected, "{name}");
        }
        let stream = Body::from_stream(futures_util::stream::pending::<Result<Bytes, axum::Error>>());
        let response = Response::builder().header(json.0, json.1).body(stream).expect("a response");
        assert!(
            !GZIP.encode(ASKED, response).headers().contains_key(header::CONTENT_ENCODING),
            "a length is not known"
        );
    }

    #[test]
    fn a_request_for_the_head_gets_the_head_of_the_compressed_answer() {
        let response = |tag: &str| {
            Response::builder()
                .header(header::CONTENT_TYPE, "text/html")
                .header(header::CONTENT_LENGTH, 5000)
                .header(header::ETAG, tag)
                .body(Body::empty())
                .expect("a response")
        };
        let head = GZIP.encode(Accepts { head: true, ..ASKED }, response("\"a\""));
        assert_eq!(
            (&head.headers()[header::CONTENT_ENCODING], &head.headers()[header::ETAG]),
            (&HeaderValue::from_static("gzip"), &HeaderValue::from_static("W/\"a\""),)
        );
        assert!(!head.headers().contains_key(header::CONTENT_LENGTH));
        let weak = GZIP.encode(Accepts { head: true, ..ASKED }, response("W/\"a\""));
        assert_eq!(weak.headers()[header::ETAG], "W/\"a\"");
        let plain = GZIP.encode(Accepts { gzip: false, head: true }, response("\"a\""));
        assert_eq!(plain.headers()[header::CONTENT_LENGTH], "5000");
        assert_eq!(plain.headers()[header::VARY], "Accept-Encoding", "a cache must not mix them up");
        assert_eq!(plain.headers()[header::ETAG], "\"a\"");
    }
}
