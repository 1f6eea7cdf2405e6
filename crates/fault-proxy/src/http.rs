//! A bad HTTP proxy: it adds and removes headers, refuses requests, speaks HTTP/1.0, holds answers back or ends them,
//! compresses streams.
//!
//! In: a connection of a client, with one request of HTTP/1.1. Out: the request as this proxy passes it on, and the
//! answer as it passes it back; then the connection ends. A request that is still an upgrade passes both ways from the
//! 101 on.

use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::{self, ErrorKind, Write as _};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;

/// The longest head that it reads.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Read at once.
const CHUNK: usize = 16 << 10;

/// The faults of a bad HTTP proxy. The default has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Meddling {
    /// Headers that requests lose, by their names.
    pub request_strips: &'static [&'static str],
    /// Headers that requests get, behind those that they have.
    pub request_adds: &'static [(&'static str, &'static str)],
    /// A request whose head has one of these texts is answered by the proxy, with this status.
    pub refuses: &'static [(&'static str, u16)],
    /// Headers that answers lose.
    pub answer_strips: &'static [&'static str],
    /// Headers that answers get, beside those that they have.
    pub answer_adds: &'static [(&'static str, &'static str)],
    /// Both sides are spoken to in HTTP/1.0.
    pub is_http_1_0: bool,
    /// The body of an answer is held back until it has so many bytes, or is over.
    pub holds_bytes: usize,
    /// The body of an answer comes so much later than its head.
    pub body_delay: Duration,
    /// The body of an answer is compressed by gzip, whatever the client accepts.
    pub gzips: bool,
    /// The end of an answer, and of a connection that is upgraded.
    pub stop: Option<Stop>,
}

/// Where an answer stops. A text counts where one read has it whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// From this text on nothing passes, and the connection stays open.
    Silent(&'static str),
    /// The connection ends behind so many reads with this text.
    End(&'static str, u32),
}

/// Serves one request, and ends.
pub(crate) async fn meddle(near: TcpStream, far: TcpStream, how: Meddling, passing: &watch::Sender<()>) {
    let ((near_from, near_to), (far_from, far_to)) = (near.into_split(), far.into_split());
    // Its ends learn of an error by the end of the connection.
    let _ = exchange(near_from, near_to, far_from, far_to, how, passing).await;
}

async fn exchange(
    mut near_from: OwnedReadHalf,
    near_to: OwnedWriteHalf,
    far_from: OwnedReadHalf,
    mut far_to: OwnedWriteHalf,
    how: Meddling,
    passing: &watch::Sender<()>,
) -> io::Result<()> {
    let (mut request, rest) = Head::read(&mut near_from, passing).await?;
    if let Some((_, status)) = how.refuses.iter().find(|(text, _)| request.text().contains(text)) {
        let mut near_to = near_to;
        let refusal = format!("HTTP/1.1 {status} Refused\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        near_to.write_all(refusal.as_bytes()).await?;
        return near_to.shutdown().await;
    }
    request.strip(how.request_strips);
    request.lines.extend(how.request_adds.iter().map(|(name, value)| format!("{name}: {value}")));
    if how.is_http_1_0 {
        request.strip(&["upgrade"]);
        request.first = request.first.replace("HTTP/1.1", "HTTP/1.0");
    }
    if !request.has("upgrade") {
        request.strip(&["connection", "keep-alive"]);
        request.lines.push("Connection: close".to_owned());
    }
    far_to.write_all(request.text().as_bytes()).await?;
    far_to.write_all(&rest).await?;
    let up = copy(&mut near_from, &mut far_to, None, passing);
    let down = answer(far_from, near_to, how, passing);
    tokio::pin!(up, down);
    tokio::select! {
        _ = &mut up => down.await, // a client may end its side first
        done = &mut down => done,
    }
}

async fn answer(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    how: Meddling,
    passing: &watch::Sender<()>,
) -> io::Result<()> {
    let (mut head, rest) = Head::read(&mut from, passing).await?;
    head.strip(how.answer_strips);
    head.lines.extend(how.answer_adds.iter().map(|(name, value)| format!("{name}: {value}")));
    if head.first.contains(" 101 ") {
        to.write_all(head.text().as_bytes()).await?;
        to.write_all(&rest).await?;
        return copy(&mut from, &mut to, how.stop, passing).await;
    }
    let mut chunks = (how.gzips && head.has("transfer-encoding")).then(Dechunker::default);
    let mut gzip = how.gzips.then(|| GzEncoder::new(Vec::new(), Compression::default()));
    if how.gzips {
        head.strip(&["content-length", "transfer-encoding"]);
        head.lines.push("Content-Encoding: gzip".to_owned());
    }
    if how.is_http_1_0 {
        head.first = head.first.replace("HTTP/1.1", "HTTP/1.0");
    }
    head.strip(&["connection", "keep-alive"]);
    head.lines.push("Connection: close".to_owned());
    to.write_all(head.text().as_bytes()).await?;
    let (mut held, mut read, mut stop) = (Vec::new(), rest, how.stop);
    tokio::time::sleep(how.body_delay).await;
    loop {
        let ends = Stop::is_reached(&mut stop, &read).await;
        let plain = match &mut chunks {
            Some(chunks) => chunks.take(&read),
            None => std::mem::take(&mut read),
        };
        match &mut gzip {
            Some(gzip) if !plain.is_empty() => {
                gzip.write_all(&plain)?;
                gzip.flush()?;
                held.append(gzip.get_mut());
            }
            Some(_) => {}
            None => held.extend_from_slice(&plain),
        }
        if held.len() >= how.holds_bytes {
            to.write_all(&held).await?;
            held.clear();
        }
        if ends {
            break;
        }
        read.resize(CHUNK, 0);
        let count = from.read(&mut read).await?;
        passing.send_replace(());
        read.truncate(count);
        if count == 0 {
            break;
        }
    }
    if let Some(gzip) = gzip {
        held.extend_from_slice(&gzip.finish()?);
    }
    to.write_all(&held).await?;
    to.shutdown().await
}

async fn copy(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    mut stop: Option<Stop>,
    passing: &watch::Sender<()>,
) -> io::Result<()> {
    loop {
        let mut read = vec![0; CHUNK];
        let count = from.read(&mut read).await?;
        read.truncate(count);
        let ends = Stop::is_reached(&mut stop, &read).await;
        passing.send_replace(());
        to.write_all(&read).await?;
        if ends || count == 0 {
            return to.shutdown().await;
        }
    }
}

impl Stop {
    /// Looks at what was read. True where the answer ends behind it. In silence it does not return: the connection goes
    /// when its client does, or the proxy.
    async fn is_reached(stop: &mut Option<Stop>, read: &[u8]) -> bool {
        let has = |text: &str| read.windows(text.len()).any(|part| part == text.as_bytes());
        match stop {
            Some(Stop::Silent(text)) if has(text) => std::future::pending().await,
            Some(Stop::End(text, count)) if has(text) => {
                *count = count.saturating_sub(1);
                *count == 0
            }
            _ => false,
        }
    }
}

/// The head of a request or an answer, as lines.
struct Head {
    first: String,
    lines: Vec<String>,
}

impl Head {
    /// Reads it, and what came with it.
    async fn read(from: &mut OwnedReadHalf, passing: &watch::Sender<()>) -> io::Result<(Self, Vec<u8>)> {
        let mut read = Vec::new();
        let end = loop {
            if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            if read.len() > HEAD_BYTES_MAX {
                return Err(ErrorKind::InvalidData.into());
            }
            read.reserve(CHUNK);
            if from.read_buf(&mut read).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            passing.send_replace(());
        };
        let text = String::from_utf8_lossy(&read[..end]).into_owned();
        let mut lines = text.split("\r\n").map(str::to_owned);
        let first = lines.next().unwrap_or_default();
        Ok((Head { first, lines: lines.collect() }, read.split_off(end + 4)))
    }

    fn has(&self, name: &str) -> bool {
        self.lines.iter().any(|line| is(line, name))
    }

    fn strip(&mut self, names: &[&str]) {
        self.lines.retain(|line| !names.iter().any(|name| is(line, name)));
    }

    fn text(&self) -> String {
        format!("{}\r\n{}\r\n\r\n", self.first, self.lines.join("\r\n"))
    }
}

fn is(line: &str, name: &str) -> bool {
    line.split(':').next().is_some_and(|found| found.trim().eq_ignore_ascii_case(name))
}

/// Takes the chunks of a body apart.
#[derive(Default)]
struct Dechunker {
    /// Bytes that are not taken yet.
    read: Vec<u8>,
    /// The bytes left of the chunk that has begun, with its line end.
    left: usize,
}

impl Dechunker {
    fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.read.extend_from_slice(bytes);
        let mut plain = Vec::new();
        loop {
            if self.left > 2 {
                let count = (self.left - 2).min(self.read.len());
                plain.extend(self.read.drain(..count));
                self.left -= count;
            }
            if self.left > 2 || self.read.len() < self.left {
                return plain;
            }
            self.read.drain(..self.left);
            self.left = 0;
            let Some(end) = self.read.windows(2).position(|two| two == b"\r\n") else { return plain };
            let size =
                std::str::from_utf8(&self.read[..end]).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
            self.read.drain(..end + 2);
            match size {
                Some(size @ 1..) => self.left = size + 2,
                _ => return plain, // the last one
            }
        }
    }
}
