//! Fetches the keys of an address: one GET over HTTP/1.1, with TLS for `https`.
//!
//! In: the configuration. Out: the body of a 200, at most [`SET_BYTES_MAX`], or why there is none. A name is looked up
//! once and the connection goes to the address that was judged, so that a second answer of the name's server leads
//! nowhere else. A redirect is an error unless it is allowed; then its target is judged like the first address.

use super::jwks::SET_BYTES_MAX;
use crate::config::auth::{JwksConfig, is_private};
use crate::config::url::HttpUrl;
use crate::outgoing::{Connection, OutgoingError, USER_AGENT, tls_of_system};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Full;

/// So many redirects are followed, where they are.
const REDIRECTS_MAX: usize = 3;

/// Why the keys are not there.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("{url} is not allowed: list {option:?} in auth.jwks_allow if you trust it")]
    NotAllowed { url: String, option: &'static str },
    #[error("{host} is an address of a private network: list \"private\" in auth.jwks_allow if you trust it")]
    Private { host: String },
    #[error("{0}")]
    Outgoing(OutgoingError),
    #[error("the status is {0}")]
    Status(StatusCode),
    #[error("it redirects: list \"redirects\" in auth.jwks_allow if that is intended")]
    Redirect,
    #[error("it redirects more than {REDIRECTS_MAX} times, or to no address")]
    Redirects,
}

impl From<OutgoingError> for FetchError {
    fn from(error: OutgoingError) -> Self {
        match error {
            OutgoingError::NotAllowed { host } => FetchError::Private { host },
            other => FetchError::Outgoing(other),
        }
    }
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
fn target(from: &HttpUrl, location: &str) -> Option<HttpUrl> {
    match location.starts_with('/') && !location.starts_with("//") {
        true => {
            HttpUrl::new(&format!("{}://{}{location}", if from.is_https { "https" } else { "http" }, from.authority()))
        }
        false => HttpUrl::new(location),
    }
    .ok()
}

async fn get(config: &JwksConfig, url: &HttpUrl) -> Result<(StatusCode, Option<String>, Bytes), FetchError> {
    config.may_ask(url).map_err(|option| FetchError::NotAllowed { url: url.shown(), option })?;
    // Made anew for each fetch, which is rare: the system's list may change.
    let tls = if url.is_https { Some(tls_of_system()?) } else { None };
    let mut connection = Connection::open(url, tls, |ip| config.private || !is_private(ip)).await?;
    let request = Request::get(&url.target)
        .header(header::HOST, url.authority())
        .header(header::ACCEPT, "application/jwk-set+json, application/json")
        .header(header::ACCEPT_ENCODING, "identity")
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::CONNECTION, "close")
        .body(Full::default())
        .expect("the parts of a parsed address are a request's");
    let answer = connection.ask(request, SET_BYTES_MAX).await?;
    let location = answer.headers.get(header::LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    Ok((answer.status, location, answer.body))
}
