//! The way to a server: name, TCP or a Unix socket, TLS.
//!
//! In: an [`Url`], and the authorities to trust where it wants TLS. Out: a [`Stream`] of bytes to speak HTTP/1.1 over,
//! or a [`Problem`] that names the attempt and its result. The client's own connections begin here, and so may those of
//! a program that calls the HTTP API. Nothing here limits the time: the caller does.

use super::ConnectError;
#[cfg(feature = "tls")]
use super::tls::{CertificateFault, Trust};
use super::url::{Place, Url};
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::task::JoinSet;

/// Before the next address is tried too.
const HEAD_START: Duration = Duration::from_millis(250);

/// The address of a server, and the authorities to trust there. It opens connections.
#[derive(Debug, Clone)]
pub struct Endpoint {
    url: Url,
    /// Set where the address wants TLS.
    #[cfg(feature = "tls")]
    trust: Option<Trust>,
}

impl Endpoint {
    /// Trusts the authorities that this system trusts.
    ///
    /// # Errors
    /// `ConnectError::Trust`, where the address wants TLS and the system names nobody to trust.
    pub fn new(url: Url) -> Result<Self, ConnectError> {
        #[cfg(feature = "tls")]
        let trust = if url.is_tls() { Some(Trust::system()?) } else { None };
        Ok(Endpoint {
            url,
            #[cfg(feature = "tls")]
            trust,
        })
    }

    /// Trusts these. Where the address wants no TLS that means nothing.
    #[cfg(feature = "tls")]
    pub fn trusting(url: Url, trust: Trust) -> Self {
        Endpoint { url, trust: Some(trust) }
    }

    /// The address.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Opens a connection. Cancelling it closes everything that was opened.
    ///
    /// # Errors
    /// [`Problem`].
    pub async fn open(&self) -> Result<Stream, Problem> {
        let unreachable = |error: io::Error| Problem::unreachable(self.url.place.to_string(), &error);
        let (host, port) = match &self.url.place {
            Place::Tcp { host, port } => (host, *port),
            #[cfg(unix)]
            Place::Unix(path) => {
                return UnixStream::connect(path).await.map(|it| Stream(Inner::Unix(it))).map_err(unreachable);
            }
        };
        let unknown = |error: io::Error| Problem::Name { host: host.as_str().into(), reason: plain(&error) };
        let addresses: Vec<_> = tokio::net::lookup_host((host.as_str(), port)).await.map_err(unknown)?.collect();
        match first_of(&addresses).await {
            Some(Ok(stream)) => {
                let _ = stream.set_nodelay(true); // only slower without
                self.secure(stream, host).await
            }
            Some(Err(problem)) => Err(problem),
            None => Err(Problem::Name { host: host.as_str().into(), reason: "it has no address".into() }),
        }
    }

    #[cfg(feature = "tls")]
    async fn secure(&self, stream: TcpStream, host: &str) -> Result<Stream, Problem> {
        match &self.trust {
            Some(trust) if self.url.is_tls() => Ok(Stream(Inner::Tls(Box::new(trust.handshake(stream, host).await?)))),
            _ => Ok(Stream(Inner::Tcp(stream))),
        }
    }

    #[cfg(not(feature = "tls"))]
    async fn secure(&self, stream: TcpStream, _host: &str) -> Result<Stream, Problem> {
        Ok(Stream(Inner::Tcp(stream)))
    }
}

/// The first address that lets us in. One that is silent, as IPv6 is on half a network, holds up the next one only
/// for a moment (RFC 8305); `None` where there is none.
async fn first_of(addresses: &[SocketAddr]) -> Option<Result<TcpStream, Problem>> {
    let mut waiting = addresses.iter().copied();
    let mut trying = JoinSet::new();
    let mut last = None;
    loop {
        match waiting.next() {
            Some(address) => drop(trying.spawn(async move {
                TcpStream::connect(address).await.map_err(|error| Problem::unreachable(address.to_string(), &error))
            })),
            None if trying.is_empty() => return last.map(Err),
            None => {}
        }
        let next = async {
            match waiting.len() {
                0 => pending().await,
                _ => tokio::time::sleep(HEAD_START).await,
            }
        };
        tokio::select! {
            biased;
            Some(tried) = trying.join_next() => match tried {
                // The others end as the set is dropped.
                Ok(Ok(stream)) => return Some(Ok(stream)),
                Ok(Err(problem)) => last = Some(problem),
                Err(_) => {} // only a runtime that ends cancels it
            },
            () = next => {}
        }
    }
}

/// The reason why there is no connection, or a fault on it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The host's name has no address.
    #[error("the name {host} has no address: {reason}")]
    Name {
        /// The name.
        host: Box<str>,
        /// The system's message.
        reason: Box<str>,
    },
    /// No server could be reached there.
    #[error("{place}: {reason}")]
    Unreachable {
        /// The last address that was tried, or the socket's path.
        place: Box<str>,
        /// The system's message.
        reason: Box<str>,
    },
    /// Neither a connection nor a refusal, or a connection and no answer.
    #[error("neither a connection nor an answer within {} s", *after_ms as f64 / 1000.0)]
    TimedOut {
        /// The limit.
        after_ms: u64,
    },
    /// The certificate is not one to trust.
    #[cfg(feature = "tls")]
    #[error("the certificate of {host} {fault}")]
    Certificate {
        /// The host that it should name.
        host: Box<str>,
        /// The fault.
        fault: CertificateFault,
    },
    /// No TLS could be agreed upon.
    #[cfg(feature = "tls")]
    #[error("no TLS with {place}: {reason}")]
    Tls {
        /// Host and port.
        place: Box<str>,
        /// Why.
        reason: Box<str>,
    },
    /// It hung up, or the network did.
    #[error("{what}: {reason}")]
    Lost {
        /// Until when it went well.
        what: &'static str,
        /// Why.
        reason: Box<str>,
    },
    /// An HTTP answer that is not the upgrade that was asked for.
    #[error("the answer is {status}{}{}", said(message), to(location))]
    Answer {
        /// With its reason, as it came: `503 Service Unavailable`.
        status: Box<str>,
        /// Where a redirect leads. None is followed.
        location: Option<Box<str>>,
        /// The server's message, where it is a Fanfare.
        message: Option<Box<str>>,
        /// The same may go well later.
        passes: bool,
        /// How long the server, or a proxy before it, wants to be left alone.
        retry_after_ms: Option<u64>,
    },
    /// The server speaks another protocol.
    #[error("it does not speak {protocol}: {reason}")]
    Foreign {
        /// The one that was expected.
        protocol: &'static str,
        /// The reason, with an excerpt of the answer.
        reason: Box<str>,
    },
    /// An error of the server's that nobody waited for.
    #[error("{code}: {message}")]
    Server {
        /// Its word.
        code: Box<str>,
        /// For people.
        message: Box<str>,
    },
}

fn said(message: &Option<Box<str>>) -> String {
    message.as_ref().map(|message| format!(": {message}")).unwrap_or_default()
}

fn to(location: &Option<Box<str>>) -> String {
    location.as_ref().map(|location| format!(", to {location}; redirects are not followed")).unwrap_or_default()
}

impl Problem {
    pub(super) fn unreachable(place: String, error: &io::Error) -> Self {
        Problem::Unreachable { place: place.into(), reason: plain(error) }
    }

    pub(super) fn lost(what: &'static str, error: &io::Error) -> Self {
        Problem::Lost { what, reason: plain(error) }
    }

    /// True if a retry will fail too: the server is not a Fanfare, or refuses this client.
    pub fn is_final(&self) -> bool {
        matches!(self, Problem::Answer { passes: false, .. } | Problem::Foreign { .. })
    }
}

/// Without Rust's `(os error 111)`, which means nothing to a person.
fn plain(error: &io::Error) -> Box<str> {
    let text = error.to_string();
    let text = text.split(" (os error ").next().unwrap_or_default();
    text.strip_prefix("failed to lookup address information: ").unwrap_or(text).into()
}

/// A connection, as bytes.
#[derive(Debug)]
pub struct Stream(Inner);

#[derive(Debug)]
enum Inner {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
    // Boxed: it is twenty times as large.
    #[cfg(feature = "tls")]
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

/// The same on each.
macro_rules! on {
    ($stream:expr, $inner:ident => $call:expr) => {
        match &mut $stream.get_mut().0 {
            Inner::Tcp(stream) => {
                let $inner = Pin::new(stream);
                $call
            }
            #[cfg(unix)]
            Inner::Unix(stream) => {
                let $inner = Pin::new(stream);
                $call
            }
            #[cfg(feature = "tls")]
            Inner::Tls(stream) => {
                let $inner = Pin::new(stream);
                $call
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        on!(self, stream => stream.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        on!(self, stream => stream.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on!(self, stream => stream.poll_shutdown(cx))
    }
}

#[cfg(test)]
impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Stream(Inner::Tcp(stream))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, TcpSocket};

    #[tokio::test]
    async fn a_silent_address_does_not_stand_before_one_that_answers() {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(loopback).expect("a port");
        // It has room for one connection that is not accepted: the next one gets no answer.
        let silent = socket.listen(0).expect("it listens");
        let full = silent.local_addr().expect("its address");
        let _one = TcpStream::connect(full).await.expect("room for one");
        let answering = TcpListener::bind(loopback).await.expect("a port");
        let open = answering.local_addr().expect("its address");
        let closed = TcpListener::bind(loopback).await.and_then(|listener| listener.local_addr()).expect("an address");
        for addresses in [&[full, open][..], &[closed, open], &[closed, full, closed, open], &[open, full]] {
            let stream = first_of(addresses).await.expect("addresses").expect("one that answers");
            assert_eq!(stream.peer_addr().expect("its peer"), open, "{addresses:?}");
        }
        let refused = first_of(&[closed, closed]).await.expect("addresses").expect_err("nobody");
        assert_eq!(refused.to_string(), format!("{closed}: Connection refused"));
        assert!(first_of(&[]).await.is_none());
    }
}
