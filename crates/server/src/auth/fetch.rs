//! Fetches the keys of an address: one GET over HTTP/1.1, with TLS for `https`.
//!
//! In: the configuration. Out: the body of a 200, at most [`SET_BYTES_MAX`], or why there is none. A name is looked up
//! once and the connection goes to the address that was judged, so that a second answer of the name's server leads
//! nowhere else. A redirect is an error unless it is allowed; then its target is judged like the first address.

use super::jwks::SET_BYTES_MAX;
use crate::config::auth::{JwksConfig, JwksUrl, is_private};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// So many redirects are followed, where they are.
const REDIRECTS_MAX: usize = 3;

/// Why the keys are not there.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("{url} is not allowed: list {option:?} in auth.jwks_allow if you trust it")]
    NotAllowed { url: String, option: &'static str },
    #[error("{host} is an address of a private network: list \"private\" in auth.jwks_allow if you trust it")]
    Private { host: String },
    #[error("cannot connect to {host}: {source}")]
    Connect { host: String, source: io::Error },
    #[error("TLS with {host}: {source}")]
    Tls { host: String, source: io::Error },
    #[error("this system names no certificate authority to trust")]
    NoAuthorities,
    #[error("the answer of {host} is not HTTP, or was cut: {source}")]
    Http { host: String, source: hyper::Error },
    #[error("the answer is longer than {SET_BYTES_MAX} bytes")]
    TooLong,
    #[error("the answer was cut: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error("the status is {0}")]
    Status(StatusCode),
    #[error("it redirects: list \"redirects\" in auth.jwks_allow if that is intended")]
    Redirect,
    #[error("it redirects more than {REDIRECTS_MAX} times, or to no address")]
    Redirects,
}

pub(super) async fn fetch(config: &JwksConfig) -> Result<Bytes, FetchError> {
    let mut url = config.url.clone();
    for _ in 0..=REDIRECTS_MAX {
        let (status, location, body) = get(config, &url).await?;
        if status == StatusCode::OK {
            return Ok(body);
        }
        if !status.is_redirection() {
            return Err(FetchError::Status(status));
        }
        if !config.redirects {
            return Err(FetchError::Redirect);
        }
        url = location.and_then(|location| target(&url, &location)).ok_or(FetchError::Redirects)?;
    }
    Err(FetchError::Redirects)
}

/// Where a redirect leads: another address, or another path of the same host.
fn target(from: &JwksUrl, location: &str) -> Option<JwksUrl> {
    match location.starts_with('/') && !location.starts_with("//") {
        true => {
            JwksUrl::new(&format!("{}://{}{location}", if from.is_https { "https" } else { "http" }, from.authority()))
        }
        false => JwksUrl::new(location),
    }
    .ok()
}

async fn get(config: &JwksConfig, url: &JwksUrl) -> Result<(StatusCode, Option<String>, Bytes), FetchError> {
    config.may_ask(url).map_err(|option| FetchError::NotAllowed { url: url.to_string(), option })?;
    let host = url.host.clone();
    let socket = connect(config, url).await?;
    if !url.is_https {
        return ask(url, socket).await;
    }
    let tls = |source| FetchError::Tls { host: host.clone(), source };
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
    let name = name.map_err(|error| tls(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
    let socket = TlsConnector::from(client()?).connect(name, socket).await.map_err(tls)?;
    ask(url, socket).await
}

async fn connect(config: &JwksConfig, url: &JwksUrl) -> Result<TcpStream, FetchError> {
    let host = || url.host.clone();
    let failed = |source| FetchError::Connect { host: host(), source };
    let bare = url.host.trim_matches(['[', ']']).to_owned();
    let found: Vec<SocketAddr> = tokio::net::lookup_host((bare, url.port)).await.map_err(failed)?.collect();
    let mut last = None;
    for address in found.into_iter().filter(|address| config.private || !is_private(address.ip())) {
        match TcpStream::connect(address).await {
            Ok(socket) => return Ok(socket),
            Err(source) => last = Some(failed(source)),
        }
    }
    Err(last.unwrap_or_else(|| FetchError::Private { host: host() }))
}

/// TLS by the authorities of the system. It is made anew for each fetch, which is rare: the system's list may change.
fn client() -> Result<Arc<ClientConfig>, FetchError> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if added == 0 {
        return Err(FetchError::NoAuthorities);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = versions.map_err(|_| FetchError::NoAuthorities)?.with_root_certificates(roots).with_no_client_auth();
    Ok(Arc::new(config))
}

async fn ask(
    url: &JwksUrl,
    socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<(StatusCode, Option<String>, Bytes), FetchError> {
    let http = |source| FetchError::Http { host: url.host.clone(), source };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.map_err(http)?;
    let asking = async {
        let request = Request::get(&url.target)
            .header(header::HOST, url.authority())
            .header(header::ACCEPT, "application/jwk-set+json, application/json")
            .header(header::ACCEPT_ENCODING, "identity")
            .header(header::USER_AGENT, concat!("fanfare/", env!("CARGO_PKG_VERSION")))
            .header(header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .expect("the parts of a parsed address are a request's");
        let answer = sender.send_request(request).await.map_err(http)?;
        let status = answer.status();
        let location = answer.headers().get(header::LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
        if status != StatusCode::OK {
            return Ok((status, location, Bytes::new()));
        }
        let body = Limited::new(answer.into_body(), SET_BYTES_MAX).collect().await;
        let body = body.map_err(|error| match error.is::<LengthLimitError>() {
            true => FetchError::TooLong,
            false => FetchError::Body(error),
        })?;
        Ok((status, location, body.to_bytes()))
    };
    // Both at once, on this task: when the answer is there, or given up, the connection ends.
    let mut connection = std::pin::pin!(connection);
    let mut asking = std::pin::pin!(asking);
    tokio::select! {
        biased;
        answer = &mut asking => answer,
        ended = &mut connection => match ended {
            Err(source) => Err(http(source)),
            Ok(()) => asking.await, // the answer came whole
        },
    }
}
