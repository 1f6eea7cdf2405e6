//! HTTP/1.1 as `doctor` speaks it: one request on a connection of its own, the head as it came, and the body piece by
//! piece with its time.
//!
//! A client's library hides the parts that a diagnosis needs: versions, headers of a hop, the time of each piece. So
//! nothing here follows redirects, repeats or decodes, but chunks and gzip.

use super::way::{Link, Offer, Way, plain};
use bytes::Bytes;
use flate2::write::GzDecoder;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::io::{self, Write as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};

/// The longest head of an answer.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// The longest answer that is read to its end, and the longest message of a stream.
pub(super) const BODY_BYTES_MAX: usize = 1 << 20;
const HEADERS_MAX: usize = 100;
const READ_BYTES: usize = 16 << 10;

/// The head of an answer.
#[derive(Debug, Clone, Default)]
pub(super) struct Head {
    /// `1.0`, `1.1` or `2`.
    pub(super) version: &'static str,
    pub(super) status: u16,
    pub(super) headers: Vec<(String, Vec<u8>)>,
}

impl Head {
    /// The first header of this name, if it is text.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = self.headers.iter().filter(move |(found, _)| found.eq_ignore_ascii_case(name));
        named.filter_map(|(_, value)| std::str::from_utf8(value).ok().map(str::trim))
    }

    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()))
    }
}

/// A request.
pub(super) struct Ask<'a> {
    pub(super) method: &'a str,
    pub(super) path: String,
    pub(super) headers: Vec<(&'a str, String)>,
    /// JSON.
    pub(super) body: Option<String>,
}

impl Ask<'_> {
    pub(super) fn get(path: String) -> Self {
        Ask { method: "GET", path, headers: Vec::new(), body: None }
    }

    pub(super) fn post(path: String, body: String) -> Self {
        Ask { method: "POST", path, headers: Vec::new(), body: Some(body) }
    }
}

impl std::fmt::Display for Ask<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The query may have a place in a channel, and never a secret.
        write!(f, "{} {}", self.method, self.path)
    }
}

/// A name for a request, which Fanfare repeats in its answer.
pub(super) fn request_id() -> String {
    let mut bytes = [0; 8];
    let _ = getrandom::fill(&mut bytes); // only to tell answers apart
    format!("doctor-{}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

/// An answer whose head has come.
pub(super) struct Answer {
    pub(super) head: Head,
    id: String,
    link: Link,
    /// Bytes that are read and not taken yet.
    read: Vec<u8>,
    body: Body,
    gzip: Option<GzDecoder<Vec<u8>>>,
    /// When the request was written.
    pub(super) asked: Instant,
}

/// How the rest of a body is delimited.
#[derive(Debug)]
enum Body {
    Length(usize),
    /// The bytes of the chunk that are to come, with its line end.
    Chunks(usize),
    Close,
    Over,
}

impl Way {
    /// Sends a request over HTTP/1.1, and waits for the head of its answer. The caller limits the time.
    pub(super) async fn ask(&self, ask: &Ask<'_>) -> Result<Answer, String> {
        let mut link = self.open(Offer::Http1).await?;
        let id = request_id();
        let mut text = format!("{} {} HTTP/1.1\r\nHost: {}\r\n", ask.method, ask.path, self.base.authority());
        text += &format!("User-Agent: fanfare-doctor/{}\r\nX-Request-Id: {id}\r\n", env!("CARGO_PKG_VERSION"));
        for (name, value) in &ask.headers {
            text += &format!("{name}: {value}\r\n");
        }
        if let Some(body) = &ask.body {
            text += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        }
        text += "\r\n";
        text += ask.body.as_deref().unwrap_or_default();
        let asked = Instant::now();
        link.io.write_all(text.as_bytes()).await.map_err(|error| unanswered(&error))?;
        link.io.flush().await.map_err(|error| unanswered(&error))?;
        let (head, read) = read_head(&mut link).await?;
        let chunked = head.all("transfer-encoding").any(|value| value.to_ascii_lowercase().ends_with("chunked"));
        let length = head.get("content-length").and_then(|length| length.parse().ok());
        let body = match (head.status, chunked, length) {
            (204 | 304, ..) => Body::Over,
            _ if ask.method == "HEAD" => Body::Over,
            (_, true, _) => Body::Chunks(0),
            (_, false, Some(length)) => Body::Length(length),
            (_, false, None) => Body::Close,
        };
        let gzip = head.get("content-encoding").filter(|it| it.eq_ignore_ascii_case("gzip"));
        let gzip = gzip.map(|_| GzDecoder::new(Vec::new()));
        Ok(Answer { head, id, link, read, body, gzip, asked })
    }

    /// The same with its whole body, within the patience.
    pub(super) async fn fetch(&self, ask: &Ask<'_>) -> Result<Fetched, String> {
        let fetching = async {
            let mut answer = self.ask(ask).await?;
            let mut body = Vec::new();
            while let Some(piece) = answer.piece().await? {
                body.extend(piece);
                if body.len() > BODY_BYTES_MAX {
                    break;
                }
            }
            Ok(Fetched { is_named: answer.is_named(), took: answer.asked.elapsed(), head: answer.head, body })
        };
        timeout(self.patience, fetching).await.unwrap_or_else(|_| Err("no answer".to_owned()))
    }

    /// A GET over HTTP/2, up to the first piece of its body. `None`: HTTP/2 was not agreed upon.
    pub(super) async fn ask_h2(&self, path: &str) -> Result<Option<(Head, Bytes)>, String> {
        let link = self.open(Offer::Http2Too).await?;
        if !link.is_h2 {
            return Ok(None);
        }
        let said = |error: hyper::Error| error.to_string();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(link.io)).await.map_err(said)?;
        let driving = tokio::spawn(connection);
        let uri = format!("https://{}{}", self.base.authority(), self.path(path));
        let request = http::Request::get(uri).body(Full::<Bytes>::default()).map_err(|error| error.to_string())?;
        let response = sender.send_request(request).await.map_err(said)?;
        let (parts, mut body) = response.into_parts();
        let headers = parts.headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
        let head = Head { version: "2", status: parts.status.as_u16(), headers: headers.collect() };
        let piece = match body.frame().await {
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            Some(Err(error)) => return Err(error.to_string()),
            None => Bytes::new(),
        };
        driving.abort();
        Ok(Some((head, piece)))
    }
}

/// A whole answer.
pub(super) struct Fetched {
    pub(super) head: Head,
    pub(super) body: Vec<u8>,
    /// It repeats the name of the request, as Fanfare does.
    pub(super) is_named: bool,
    pub(super) took: std::time::Duration,
}

impl Answer {
    /// It repeats the name of the request, as Fanfare does.
    pub(super) fn is_named(&self) -> bool {
        self.head.get("x-request-id") == Some(&self.id)
    }

    /// The next bytes of the body, decoded. `None` at its end.
    pub(super) async fn piece(&mut self) -> Result<Option<Vec<u8>>, String> {
        loop {
            let Some(raw) = self.raw().await? else { return Ok(None) };
            let Some(gzip) = &mut self.gzip else { return Ok(Some(raw)) };
            gzip.write_all(&raw).and_then(|()| gzip.flush()).map_err(|error| format!("no gzip: {error}"))?;
            if !gzip.get_ref().is_empty() {
                return Ok(Some(std::mem::take(gzip.get_mut())));
            }
        }
    }

    async fn raw(&mut self) -> Result<Option<Vec<u8>>, String> {
        loop {
            match &mut self.body {
                Body::Over | Body::Length(0) => return Ok(None),
                Body::Length(left) if !self.read.is_empty() => {
                    let taken: Vec<u8> = self.read.drain(..self.read.len().min(*left)).collect();
                    *left -= taken.len();
                    return Ok(Some(taken));
                }
                Body::Close if !self.read.is_empty() => return Ok(Some(std::mem::take(&mut self.read))),
                Body::Chunks(left @ 3..) if !self.read.is_empty() => {
                    let taken: Vec<u8> = self.read.drain(..self.read.len().min(*left - 2)).collect();
                    *left -= taken.len();
                    return Ok(Some(taken));
                }
                Body::Chunks(left @ 1..=2) if self.read.len() >= *left => {
                    self.read.drain(..*left);
                    *left = 0;
                    continue;
                }
                Body::Chunks(left @ 0) => match httparse::parse_chunk_size(&self.read) {
                    Ok(httparse::Status::Complete((_, 0))) => {
                        self.body = Body::Over;
                        continue;
                    }
                    Ok(httparse::Status::Complete((begin, size))) => {
                        let size = usize::try_from(size).map_err(|_| "a chunk is too large".to_owned())?;
                        *left = size.saturating_add(2);
                        self.read.drain(..begin);
                        continue;
                    }
                    Ok(httparse::Status::Partial) => {}
                    Err(_) => return Err("the body is not in chunks, as its head says".to_owned()),
                },
                _ => {}
            }
            if self.read.len() > BODY_BYTES_MAX {
                return Err("the answer is too long".to_owned());
            }
            self.read.reserve(READ_BYTES);
            match self.link.io.read_buf(&mut self.read).await {
                Ok(0) if matches!(self.body, Body::Close) => {
                    self.body = Body::Over;
                }
                Ok(0) => return Err("the connection ended in the middle of the answer".to_owned()),
                Ok(_) => {}
                Err(error) => return Err(plain(&error)),
            }
        }
    }
}

/// The end of a connection on which no byte of an answer came.
pub(super) const UNANSWERED: &str = "the connection ended without an answer";
/// The same by a reset, as of a firewall, or of Fanfare's own address for proxies.
pub(super) const RESET: &str = "the connection was reset without an answer";

/// An error before the first byte of the answer.
fn unanswered(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
            RESET.to_owned()
        }
        _ => plain(error),
    }
}

/// Reads the head of an answer, and the bytes behind it.
pub(super) async fn read_head(link: &mut Link) -> Result<(Head, Vec<u8>), String> {
    let mut read = Vec::with_capacity(READ_BYTES);
    loop {
        let came = link.io.read_buf(&mut read).await;
        if came.map_err(|error| if read.is_empty() { unanswered(&error) } else { plain(&error) })? == 0 {
            return Err(match read.is_empty() {
                true => UNANSWERED.to_owned(),
                false => "the connection ended within the head of the answer".to_owned(),
            });
        }
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        match response.parse(&read) {
            Ok(httparse::Status::Complete(len)) => {
                let version = if response.version == Some(0) { "1.0" } else { "1.1" };
                let headers = response.headers.iter().map(|it| (it.name.to_owned(), it.value.to_vec())).collect();
                let head = Head { version, status: response.code.unwrap_or(0), headers };
                return Ok((head, read.split_off(len)));
            }
            Ok(httparse::Status::Partial) if read.len() <= HEAD_BYTES_MAX => {}
            Ok(httparse::Status::Partial) => return Err("the head of the answer is too long".to_owned()),
            Err(_) if read.first() == Some(&0x15) => return Err("it answers in TLS".to_owned()),
            Err(error) => return Err(format!("the answer is not HTTP: {error}")),
        }
    }
}
