//! The body of a request: its types, its length, and the headers that belong to it.
//!
//! An announced length is checked before the body is read; otherwise the length is checked while it is read.
//! `Idempotency-Key` may be written plainly or as a string in quotes, which is how its draft standard has it.

use crate::limits::HttpLimit;
use crate::refusal::HttpRefusal;
use crate::transport::upload;
use axum::BoxError;
use bytes::Bytes;
use fanfare_hub::{Error, ErrorCode};
use fanfare_wire::native::Limits;
use fanfare_wire::native::app::ApiCommand;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::Duration;

/// Room for the other fields of a body with a payload.
const ENVELOPE_BYTES: usize = 16 << 10;
/// The body of a `batch`.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// The room that the names of a `broadcast` need: a thousand names of the longest kind.
const NAMES_BYTES_MAX: usize = 320 << 10;
/// The most bytes that are read and dropped from the body of a refused request. (HTTP/2 then ends the stream by
/// NO_ERROR, as RFC 9113 §8.1 has it; curl 7.88 loses the answer now and then where it was still sending.)
const FORGET_BYTES: usize = 2 * BATCH_BYTES_MAX;
/// curl's type for `-d` without a header.
const FORM: &str = "application/x-www-form-urlencoded";

/// The longest body that this kind of command may have, in bytes.
pub(super) fn bytes_max(kind: ApiCommand, limits: &Limits) -> usize {
    let payload = limits.message_bytes_max.div_ceil(3) * 4 + ENVELOPE_BYTES; // a payload may come as base64
    match kind {
        ApiCommand::Batch => BATCH_BYTES_MAX.max(payload),
        ApiCommand::Broadcast => payload + NAMES_BYTES_MAX,
        _ => payload,
    }
}

/// Refuses a type that is not JSON in UTF-8.
///
/// JSON, no type and curl's form type are accepted: most people try an API by `curl -d '{…}'` first, and that body is
/// JSON. With cookies that would be unsafe, because any page can send a form anywhere. This API identifies callers only
/// by the `Authorization` header, which no page can add to a form.
pub(crate) fn check_type(headers: &HeaderMap) -> Result<(), HttpRefusal> {
    if let Some(coding) =
        headers.get(CONTENT_ENCODING).filter(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        let message = format!("a body in the encoding {} is not accepted: send it without an encoding", shown(coding));
        let refusal = HttpRefusal::of(StatusCode::UNSUPPORTED_MEDIA_TYPE, ErrorCode::BadRequest, message);
        return Err(refusal.with(ACCEPT_ENCODING, HeaderValue::from_static("identity")));
    }
    headers.get_all(CONTENT_TYPE).iter().try_for_each(|value| {
        let text = value.to_str().unwrap_or("?");
        let mut parts = parts(text);
        let essence = parts.next().unwrap_or_default();
        let is_json = essence.eq_ignore_ascii_case("application/json") || essence.eq_ignore_ascii_case(FORM);
        match parts.find_map(other_charset) {
            _ if !is_json => Err(not_json(&shown(value))),
            Some(charset) => Err(not_json(&format!("one in the charset {:?}", cut(&charset)))),
            None => Ok(()),
        }
    })
}

/// A media type and its parameters (RFC 9110 §8.3.1). A semicolon within quotes separates nothing.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    let ends = move |c: char| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ';' => return !quoted,
            _ => {}
        }
        false
    };
    text.split(ends).map(str::trim)
}

/// The charset that a parameter names, where it is not UTF-8. Every other parameter changes nothing: JSON has none
/// (RFC 8259 §11).
fn other_charset(parameter: &str) -> Option<String> {
    let (name, value) = parameter.split_once('=')?;
    // Some clients put a token in single quotes, which are characters of it by the letter.
    let value = value.trim().trim_matches(['"', '\'']).replace('\\', "");
    let utf8 = ["utf-8", "utf8", ""];
    let is_other = name.trim().eq_ignore_ascii_case("charset") && !utf8.iter().any(|it| value.eq_ignore_ascii_case(it));
    is_other.then_some(value)
}

/// A real form is refused as a form, and not for a syntax error at its first character.
pub(super) fn check_form(headers: &HeaderMap, body: &[u8]) -> Result<(), HttpRefusal> {
    let is_form = headers.get(CONTENT_TYPE).is_some_and(|value| {
        value.as_bytes().get(..FORM.len()).is_some_and(|start| start.eq_ignore_ascii_case(FORM.as_bytes()))
    });
    let is_object = body.trim_ascii_start().first().is_none_or(|&byte| byte == b'{');
    if is_form && !is_object { Err(not_json("a form")) } else { Ok(()) }
}

fn not_json(found: &str) -> HttpRefusal {
    let message = format!("the body must be a JSON object in UTF-8 (`Content-Type: application/json`), not {found}");
    HttpRefusal::of(StatusCode::UNSUPPORTED_MEDIA_TYPE, ErrorCode::BadRequest, message)
}

fn shown(value: &HeaderValue) -> String {
    format!("{:?}", cut(&String::from_utf8_lossy(value.as_bytes())))
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(80)]
}

/// The header `Idempotency-Key`, without quotes. Its length is judged with the key of the body.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Error> {
    let bad = |problem: &str| Error::new(ErrorCode::BadRequest, format!("the header `Idempotency-Key` {problem}"));
    let mut all = headers.get_all("idempotency-key").iter();
    let Some(value) = all.next() else { return Ok(None) };
    if all.next().is_some() {
        return Err(bad("occurs twice"));
    }
    let bytes = value.as_bytes();
    let inner = match bytes {
        [b'"', inner @ .., b'"'] => inner,
        _ => bytes,
    };
    let plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    match std::str::from_utf8(inner) {
        Ok(text) if inner.iter().all(plain) => Ok(Some(text)),
        _ => Err(bad("may hold visible ASCII characters and spaces, no backslashes, and quotes only around the whole")),
    }
}

/// Reads the body whole. Between two reads its sender may pause for `pause_max`.
pub(super) async fn read<B>(
    body: &mut B,
    kind: ApiCommand,
    limits: &Limits,
    pause_max: Duration,
) -> Result<Bytes, HttpRefusal>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let max = BodyMax { bytes: bytes_max(kind, limits), limit: HttpLimit::MessageBytes };
    read_whole(body, max, pause_max, kind.word()).await
}

/// The longest body, and the limit that it follows from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyMax {
    pub(crate) bytes: usize,
    pub(crate) limit: HttpLimit,
}

/// The same for a body of at most `max` bytes, which is that of a `what`.
pub(crate) async fn read_whole<B>(
    body: &mut B,
    BodyMax { bytes: max, limit }: BodyMax,
    pause_max: Duration,
    what: &str,
) -> Result<Bytes, HttpRefusal>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let too_large = |len: u64, or_more: &str| {
        let message = format!("the body of {len} bytes{or_more} exceeds the limit of {max} for `{what}`");
        HttpRefusal::from(Error::new(ErrorCode::TooLarge, message)).at(limit).over(max)
    };
    let announced = body.size_hint().lower();
    if announced > max as u64 {
        return Err(too_large(announced, ""));
    }
    // Trailers are ignored. A body of one frame, as almost all are, is not copied.
    let (body, patience) = upload::watch(body, pause_max);
    let mut reading = std::pin::pin!(async {
        match Limited::new(body, max).collect().await {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(too_large(max as u64 + 1, " or more")),
            Err(error) => {
                let message = match fault_of_chunks(&*error) {
                    Some(fault) => format!("the chunks of the body cannot be read (RFC 9112, 7.1): {fault}"),
                    None => format!("the body did not arrive completely: {error}"),
                };
                Err(HttpRefusal::from(Error::new(ErrorCode::BadRequest, message)).and_last())
            }
        }
    });
    // Almost always it came with the head; otherwise a timer is made.
    if let Poll::Ready(read) = poll_fn(|cx| Poll::Ready(reading.as_mut().poll(cx))).await {
        return read;
    }
    tokio::select! {
        biased;
        read = reading => read,
        () = patience.is_over() => Err(patience.refusal()),
    }
}

/// What is wrong with the chunks of a body, in the words of the parser. A body that merely ended has no such fault.
fn fault_of_chunks(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let fault = causes.filter_map(|cause| cause.downcast_ref::<io::Error>()).last()?;
    matches!(fault.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData).then(|| fault.to_string())
}

/// Reads and drops the body of a refused request, up to a bound, so that the peer sees the answer and not a reset.
pub(super) async fn forget<B>(body: B)
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let mut body = Limited::new(body, FORGET_BYTES);
    while let Some(Ok(_)) = body.frame().await {}
}
