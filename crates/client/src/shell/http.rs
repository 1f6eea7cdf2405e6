//! Requests over HTTP/1.1: each on a connection that is kept from an earlier one, or on a new one. It decides nothing:
//! the core says what to ask, how long to wait and when to ask again.
//!
//! Out: the messages of a stream one by one, as they come and however the bytes are cut, or the whole answer. Bounds:
//! [`HEAD_BYTES_MAX`] of a head, [`MESSAGE_BYTES_MAX`] of a message or an answer, [`REFUSAL_BYTES_MAX`] of the body of
//! another status, [`EVENTS_MAX`] messages that the driver has not taken; then nothing more is read.

use super::net::{Endpoint, Problem};
use super::transport::{CLOSING, Closing, HEAD_BYTES_MAX, MESSAGE_BYTES_MAX, excerpt, find_message};
use crate::core::{ExchangeId, HttpKind, HttpRequest};
use bytes::Bytes;
use fanfare_wire::stream::{StreamDecoder, StreamForm};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{ACCEPT, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HOST, LOCATION, RETRY_AFTER};
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use std::collections::HashMap;
use std::error::Error as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The longest body of a refusal that is read; of a longer one this is its beginning.
const REFUSAL_BYTES_MAX: usize = 16 << 10;
/// Messages that wait for the driver.
const EVENTS_MAX: usize = 64;
/// Connections that are kept.
const KEPT_MAX: usize = 6;
/// How much of a status or an address is shown.
const SHOWN_CHARS: usize = 300;

type Connection = SendRequest<Full<Bytes>>;

/// Something has happened to an exchange.
#[derive(Debug)]
pub(super) enum HttpEvent {
    /// There is a new connection for it.
    Reached,
    Message(String),
    Answer(Answer),
    Lost(Problem),
    Unreachable(Problem),
}

/// A whole answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) retry_after_ms: Option<u64>,
    pub(super) body: String,
    /// The same for people, where the status is not 200.
    pub(super) problem: Option<Problem>,
}

/// The exchanges that are open, and the connections that are kept.
#[derive(Debug)]
pub(super) struct Http {
    shared: Arc<Shared>,
    exchanges: HashMap<ExchangeId, JoinHandle<()>>,
    events: mpsc::Sender<(ExchangeId, HttpEvent)>,
    received: mpsc::Receiver<(ExchangeId, HttpEvent)>,
}

#[derive(Debug)]
struct Shared {
    endpoint: Endpoint,
    kept: Mutex<Vec<Connection>>,
}

impl Http {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        let (events, received) = mpsc::channel(EVENTS_MAX);
        let shared = Arc::new(Shared { endpoint, kept: Mutex::new(Vec::new()) });
        Http { shared, exchanges: HashMap::new(), events, received }
    }

    /// Sends a request; [`next`](Self::next) tells of it.
    pub(super) fn send(&mut self, request: HttpRequest) {
        let (shared, events, exchange) = (self.shared.clone(), self.events.clone(), request.exchange);
        let task = tokio::spawn(async move {
            let last = match shared.exchange(request, &events).await {
                Ok(answer) => HttpEvent::Answer(answer),
                Err(failed) => failed,
            };
            drop(events.send((exchange, last)).await); // an error: the driver is gone
        });
        self.exchanges.insert(exchange, task);
    }

    /// Gives an exchange up. The other connections may be as dead as its own.
    pub(super) fn abort(&mut self, exchange: ExchangeId) {
        if let Some(task) = self.exchanges.remove(&exchange) {
            task.abort();
            self.shared.kept().clear();
        }
    }

    /// The next event of an open exchange. Cancelling it loses nothing.
    pub(super) async fn next(&mut self) -> (ExchangeId, HttpEvent) {
        loop {
            let Some((exchange, event)) = self.received.recv().await else { return std::future::pending().await };
            let is_open = match &event {
                HttpEvent::Reached | HttpEvent::Message(_) => self.exchanges.contains_key(&exchange),
                HttpEvent::Answer(_) | HttpEvent::Lost(_) | HttpEvent::Unreachable(_) => {
                    self.exchanges.remove(&exchange).is_some()
                }
            };
            if is_open {
                return (exchange, event);
            }
        }
    }

    /// The client has ended: requests that are on their way may still arrive, for a moment. `closing` is dropped then.
    pub(super) fn finish(&mut self, closing: Option<Closing>) {
        self.shared.kept().clear();
        let mut open: Vec<_> = self.exchanges.drain().map(|(_, task)| task).collect();
        if !open.is_empty() {
            tokio::spawn(async move {
                let ended = async {
                    for task in &mut open {
                        let _ = task.await; // it has failed, which is an end too
                    }
                };
                let _ = tokio::time::timeout(CLOSING, ended).await; // those that are left are aborted
                open.iter().for_each(JoinHandle::abort);
                drop(closing);
            });
        }
    }
}

impl Shared {
    fn kept(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn exchange(
        &self,
        request: HttpRequest,
        events: &mpsc::Sender<(ExchangeId, HttpEvent)>,
    ) -> Result<Answer, HttpEvent> {
        let HttpRequest { exchange, kind, body } = request;
        let (response, connection) = self.ask(exchange, kind, body, events).await?;
        let (head, mut body) = response.into_parts();
        let lost = |error: hyper::Error| HttpEvent::Lost(lost("lost while it answered", &error));
        let is_whole = head.headers.get(CONTENT_ENCODING).is_none_or(|encoding| encoding == "identity");
        if let (200, true, Some(form)) =
            (head.status.as_u16(), is_whole && is_media(&head.headers, kind), kind.stream())
        {
            return Err(stream(exchange, form, body, events).await);
        }
        let is_good = head.status == 200;
        let max = if is_good { MESSAGE_BYTES_MAX } else { REFUSAL_BYTES_MAX };
        let (mut bytes, mut is_read) = (Vec::new(), true);
        // Without its body, or with a part of it, a refusal is one all the same.
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => bytes.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data)),
                Err(error) if is_good => return Err(lost(error)),
                Err(_) => {
                    is_read = false;
                    break;
                }
            }
            if bytes.len() > max && is_good {
                let reason = format!("an answer has more than {max} bytes").into();
                return Err(HttpEvent::Lost(Problem::Foreign { protocol: "the native protocol over HTTP", reason }));
            }
            if bytes.len() > max {
                is_read = false;
                break;
            }
        }
        bytes.truncate(max);
        if is_read {
            self.keep(connection);
        }
        Ok(answer(head.status, &head.headers, &String::from_utf8_lossy(&bytes)))
    }

    /// Asks over a kept connection, or a new one.
    async fn ask(
        &self,
        exchange: ExchangeId,
        kind: HttpKind,
        body: String,
        events: &mpsc::Sender<(ExchangeId, HttpEvent)>,
    ) -> Result<(Response<Incoming>, Connection), HttpEvent> {
        let url = self.endpoint.url();
        let mut request = Request::post(url.target_of(kind.path()))
            .header(HOST, url.authority())
            .header(CONTENT_TYPE, "application/json")
            // A refusal is then JSON too.
            .header(ACCEPT, format!("{}, application/json;q=0.9", kind.media_type()))
            .header(CACHE_CONTROL, "no-cache")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| {
                HttpEvent::Unreachable(Problem::Lost { what: "no request", reason: error.to_string().into() })
            })?;
        loop {
            let kept = self.kept().pop();
            let is_kept = kept.is_some();
            let mut connection = match kept {
                Some(connection) => connection,
                None => self.connect(exchange, events).await?,
            };
            if connection.ready().await.is_err() && is_kept {
                continue;
            }
            match connection.try_send_request(request).await {
                Ok(response) => return Ok((response, connection)),
                Err(mut failed) => match failed.take_message().filter(|_| is_kept) {
                    // Its server had closed it: nothing was sent.
                    Some(unsent) => request = unsent,
                    None => {
                        self.kept().clear();
                        return Err(HttpEvent::Lost(lost("lost before an answer came", failed.error())));
                    }
                },
            }
        }
    }

    async fn connect(
        &self,
        exchange: ExchangeId,
        events: &mpsc::Sender<(ExchangeId, HttpEvent)>,
    ) -> Result<Connection, HttpEvent> {
        let stream = self.endpoint.open().await.map_err(HttpEvent::Unreachable)?;
        drop(events.send((exchange, HttpEvent::Reached)).await); // an error: the driver is gone
        let handshake = http1::Builder::new().max_buf_size(HEAD_BYTES_MAX).handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|error| HttpEvent::Lost(lost("no HTTP", &error)))?;
        // It ends with its sender; the exchange hears of its errors.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }

    fn keep(&self, connection: Connection) {
        let mut kept = self.kept();
        if !connection.is_closed() && kept.len() < KEPT_MAX {
            kept.push(connection);
        }
    }
}

/// Reads a stream to its end, which is a loss.
async fn stream(
    exchange: ExchangeId,
    form: StreamForm,
    mut body: Incoming,
    events: &mpsc::Sender<(ExchangeId, HttpEvent)>,
) -> HttpEvent {
    let mut decoder = StreamDecoder::new(form, MESSAGE_BYTES_MAX);
    while let Some(frame) = body.frame().await {
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => return HttpEvent::Lost(lost("the stream was cut", &error)),
        };
        let mut messages = Vec::new();
        let read = decoder.read(frame.data_ref().map_or(&[][..], |data| data), |text| messages.push(text.to_owned()));
        for message in messages {
            drop(events.send((exchange, HttpEvent::Message(message))).await); // an error: the driver is gone
        }
        if let Err(error) = read {
            let (protocol, reason) = ("the native protocol over HTTP", error.to_string().into());
            return HttpEvent::Lost(Problem::Foreign { protocol, reason });
        }
    }
    HttpEvent::Lost(Problem::Lost { what: "the stream was cut", reason: "it ended".into() })
}

/// Whether an answer is of the type that was asked for.
fn is_media(headers: &HeaderMap, kind: HttpKind) -> bool {
    let found = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    found.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(kind.media_type())
}

fn answer(status: hyper::StatusCode, headers: &HeaderMap, body: &str) -> Answer {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let seconds: Option<u32> = text(RETRY_AFTER).and_then(|value| value.parse().ok());
    let retry_after_ms = seconds.map(|seconds| u64::from(seconds) * 1000);
    let problem = (status != 200).then(|| Problem::Answer {
        status: excerpt(status.to_string().trim_end_matches(" <unknown status code>"), SHOWN_CHARS).into(),
        location: text(LOCATION).filter(|_| status.is_redirection()).map(|it| excerpt(it, SHOWN_CHARS).into()),
        message: find_message(body.as_bytes()),
        passes: matches!(status.as_u16(), 408 | 425 | 429 | 500..),
        retry_after_ms,
    });
    Answer { status: status.as_u16(), retry_after_ms, body: body.to_owned(), problem }
}

/// hyper's own words are about its parts; the cause below them is the network's.
fn lost(what: &'static str, error: &hyper::Error) -> Problem {
    if error.is_parse() {
        return Problem::Foreign { protocol: "HTTP", reason: format!("its answer cannot be read ({error})").into() };
    }
    let reason = match error.source() {
        Some(cause) => cause.to_string().split(" (os error ").next().unwrap_or_default().into(),
        None => "it hung up".into(),
    };
    Problem::Lost { what, reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;

    /// What the kernel takes for two sockets, and what hyper reads ahead.
    const BUFFERS: usize = 16 << 20;

    /// A server that answers `head`, and then `filler` without end: the bytes that it could write.
    async fn endless(head: &'static str, filler: &'static str) -> (Http, JoinHandle<usize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let written = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("the client");
            let mut asked = vec![0; 4096];
            assert!(stream.read(&mut asked).await.expect("a request") > 0);
            let filler = filler.repeat(1 + (64 << 10) / filler.len());
            let mut written = 0;
            let mut next = head.as_bytes();
            while stream.write_all(next).await.is_ok() {
                written += next.len();
                assert!(written < 4 * (MESSAGE_BYTES_MAX + BUFFERS), "the client reads on for ever");
                next = filler.as_bytes();
            }
            written
        });
        let url = format!("http://{address}").parse().expect("a URL");
        (Http::new(Endpoint::new(url).expect("no TLS")), written)
    }

    async fn ask(http: &mut Http, kind: HttpKind) -> Vec<HttpEvent> {
        http.send(HttpRequest { exchange: ExchangeId(1), kind, body: "{}".into() });
        let mut events = Vec::new();
        loop {
            let (_, event) = http.next().await;
            let is_last = !matches!(event, HttpEvent::Reached | HttpEvent::Message(_));
            events.push(event);
            if is_last {
                return events;
            }
        }
    }

    #[tokio::test]
    async fn what_a_server_sends_without_end_is_read_up_to_a_bound() {
        let head_max = HEAD_BYTES_MAX;
        let message_max = MESSAGE_BYTES_MAX;
        let rows: [(&str, HttpKind, &'static str, &'static str, usize, &str); 6] = [
            ("one header", HttpKind::Poll, "HTTP/1.1 200 OK\r\nx: ", "x", head_max, "message head is too large"),
            ("many headers", HttpKind::Sse, "HTTP/1.1 200 OK\r\n", "x: y\r\n", head_max, "message head is too large"),
            (
                "a block",
                HttpKind::Sse,
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: ",
                "x",
                message_max,
                "16777216",
            ),
            (
                "a line",
                HttpKind::Stream,
                "HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\n\r\n",
                "x",
                message_max,
                "16777216",
            ),
            (
                "an answer",
                HttpKind::Poll,
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n",
                "x",
                message_max,
                "an answer has more than 16777216 bytes",
            ),
            ("no stream", HttpKind::Sse, "HTTP/1.1 200 OK\r\n\r\n", "x", message_max, "more than 16777216 bytes"),
        ];
        for (name, kind, head, filler, max, reason) in rows {
            let (mut http, written) = endless(head, filler).await;
            let events = ask(&mut http, kind).await;
            let Some(HttpEvent::Lost(problem @ Problem::Foreign { .. })) = events.last() else {
                panic!("{name}: {events:?}")
            };
            assert!(problem.to_string().contains(reason), "{name}: {problem}");
            assert_eq!(events.len(), 2, "{name}: nothing was taken for a message");
            let written = written.await.expect("the server saw the client hang up");
            assert!(written <= max + BUFFERS, "{name}: {written} bytes");
        }
    }

    #[tokio::test]
    async fn of_a_refusal_without_end_the_beginning_is_kept() {
        for kind in [HttpKind::Sse, HttpKind::Poll, HttpKind::Send] {
            let (mut http, written) = endless("HTTP/1.1 503 Busy\r\nretry-after: 7\r\n\r\n", "x").await;
            let events = ask(&mut http, kind).await;
            let Some(HttpEvent::Answer(answer)) = events.last() else { panic!("{kind:?}: {events:?}") };
            assert_eq!((answer.status, answer.retry_after_ms), (503, Some(7_000)), "{kind:?}");
            assert_eq!(answer.body.len(), REFUSAL_BYTES_MAX, "{kind:?}");
            assert!(written.await.expect("the client hung up") <= REFUSAL_BYTES_MAX + BUFFERS, "{kind:?}");
        }
    }
}
