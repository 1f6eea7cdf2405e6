//! Requests that the server itself makes: HTTP/1.1, with TLS for `https`.
//!
//! In: an address of the configuration, and a request. Out: the answer's status and headers, and the body of a 200 up
//! to a bound; or the reason why there is none. A name is looked up once and the connection goes to an address that the
//! caller allows. Nothing is followed: a redirect is an answer like any other. A connection may be asked again if
//! [`Answer::is_reusable`] says so. Dropping it ends it, in the middle of a request too.

use crate::config::url::HttpUrl;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

/// What the server calls itself.
pub(crate) const USER_AGENT: &str = concat!("fanfare/", env!("CARGO_PKG_VERSION"));

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutgoingError {
    #[error("cannot connect to {host}: {source}")]
    Connect { host: String, source: io::Error },
    /// Its host has addresses, and the caller allows none of them.
    #[error("{host} has no address that may be asked")]
    NotAllowed { host: String },
    #[error("TLS with {host}: {source}")]
    Tls { host: String, source: io::Error },
    #[error("this system names no certificate authority to trust")]
    NoAuthorities,
    #[error("the answer of {host} is not HTTP, or was cut: {source}")]
    Http { host: String, source: hyper::Error },
    #[error("the answer is longer than {max} bytes")]
    TooLong { max: usize },
    #[error("the answer was cut: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
}

/// TLS by the authorities of the system.
pub(crate) fn tls_of_system() -> Result<Arc<ClientConfig>, OutgoingError> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if added == 0 {
        return Err(OutgoingError::NoAuthorities);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = versions.map_err(|_| OutgoingError::NoAuthorities)?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// Empty unless the status is 200: no other body is read.
    pub(crate) body: Bytes,
    /// The connection can be asked again.
    pub(crate) is_reusable: bool,
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Connection {
    host: String,
    sender: SendRequest<Full<Bytes>>,
    driver: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    /// Connects to the first address of the host that answers, among those that `may` be asked. `https` needs `tls`.
    pub(crate) async fn open(
        url: &HttpUrl,
        tls: Option<Arc<ClientConfig>>,
        may: impl Fn(IpAddr) -> bool,
    ) -> Result<Self, OutgoingError> {
        let host = url.host.clone();
        let socket = connect(url, may).await?;
        let _ = socket.set_nodelay(true); // small requests must not wait for each other; without it they are only slower
        let http = |source| OutgoingError::Http { host: host.clone(), source };
        let Some(tls) = tls.filter(|_| url.is_https) else {
            let (sender, connection) = handshake(TokioIo::new(socket)).await.map_err(http)?;
            let driver = tokio::spawn(async { drop(connection.await) }).abort_handle(); // its sender has the error
            return Ok(Connection { host, sender, driver });
        };
        let failed = |source| OutgoingError::Tls { host: host.clone(), source };
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
        let name = name.map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let socket = TlsConnector::from(tls).connect(name, socket).await.map_err(failed)?;
        let (sender, connection) = handshake(TokioIo::new(socket)).await.map_err(http)?;
        let driver = tokio::spawn(async { drop(connection.await) }).abort_handle();
        Ok(Connection { host, sender, driver })
    }

    /// Whether the other side has ended it.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Asks once. The body of a 200 may have `bytes_max`.
    pub(crate) async fn ask(
        &mut self,
        request: Request<Full<Bytes>>,
        bytes_max: usize,
    ) -> Result<Answer, OutgoingError> {
        let http = |source| OutgoingError::Http { host: self.host.clone(), source };
        let answer = self.sender.send_request(request).await.map_err(http)?;
        let (head, body) = answer.into_parts();
        if head.status != StatusCode::OK {
            let is_reusable = hyper::body::Body::is_end_stream(&body);
            return Ok(Answer { status: head.status, headers: head.headers, body: Bytes::new(), is_reusable });
        }
        let body =
            Limited::new(body, bytes_max).collect().await.map_err(|error| match error.is::<LengthLimitError>() {
                true => OutgoingError::TooLong { max: bytes_max },
                false => OutgoingError::Body(error),
            })?;
        Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes(), is_reusable: true })
    }
}

async fn connect(url: &HttpUrl, may: impl Fn(IpAddr) -> bool) -> Result<TcpStream, OutgoingError> {
    let host = || url.host.clone();
    let failed = |source| OutgoingError::Connect { host: host(), source };
    let bare = url.host.trim_matches(['[', ']']).to_owned();
    let found: Vec<SocketAddr> = tokio::net::lookup_host((bare, url.port)).await.map_err(failed)?.collect();
    let mut last = None;
    for address in found.into_iter().filter(|address| may(address.ip())) {
        match TcpStream::connect(address).await {
            Ok(socket) => return Ok(socket),
            Err(source) => last = Some(failed(source)),
        }
    }
    Err(last.unwrap_or_else(|| OutgoingError::NotAllowed { host: host() }))
}
