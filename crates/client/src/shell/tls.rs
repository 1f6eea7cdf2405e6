//! TLS: trusted authorities, the handshake, and faults of certificates in words that help.
//!
//! rustls with aws-lc-rs, TLS 1.2 and 1.3, the host's name always checked and sent (SNI); there is no switch that
//! turns a check off. The system's authorities come from rustls-native-certs (`SSL_CERT_FILE` and `SSL_CERT_DIR`
//! stand before them). It was chosen over rustls-platform-verifier, which on Linux does the same, and elsewhere
//! brings licences that deny.toml does not allow. No provider is installed for the whole process: that is for the
//! program to decide, not for a library.

use super::net::Problem;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{CertificateError, ClientConfig, Error, RootCertStore};

/// So many names of a certificate are shown.
const NAMES_SHOWN: usize = 5;
/// The protocol inside: both the upgrade to WebSocket and the API's calls are HTTP/1.1.
const ALPN: &[u8] = b"http/1.1";

/// The authorities to trust for the name of a server.
#[derive(Clone)]
pub struct Trust {
    config: Arc<ClientConfig>,
    authorities: usize,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").field("authorities", &self.authorities).finish_non_exhaustive()
    }
}

/// Why there is nobody to trust.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// The system names no authority.
    #[error("this system names no certificate authority to trust{problem}")]
    System {
        /// Further faults, behind a colon; empty where there are none.
        problem: Box<str>,
    },
    /// The file cannot be read.
    #[error("cannot read the certificates of {path}: {problem}")]
    File {
        /// As given.
        path: Box<str>,
        /// The system's message.
        problem: Box<str>,
    },
    /// It holds no certificate.
    #[error("{origin} holds no certificate (`-----BEGIN CERTIFICATE-----`)")]
    Empty {
        /// The file, or `the text`.
        origin: Box<str>,
    },
    /// The text is not a valid certificate.
    #[error("certificate {number} of {origin} is not valid: {problem}")]
    Bad {
        /// The file, or `the text`.
        origin: Box<str>,
        /// From 1.
        number: usize,
        /// Why.
        problem: Box<str>,
    },
}

impl Trust {
    /// The authorities that this system trusts. It reads files: make one and clone it.
    ///
    /// # Errors
    /// [`TrustError::System`].
    pub fn system() -> Result<Self, TrustError> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        // Old systems keep some that no verifier can read any more; the others are as good as ever.
        let (added, _) = roots.add_parsable_certificates(found.certs);
        if added == 0 {
            let problem = found.errors.first().map(|error| format!(": {error}")).unwrap_or_default();
            return Err(TrustError::System { problem: problem.into() });
        }
        Ok(Trust::of(roots))
    }

    /// Nobody but the authorities of this PEM text, as for a private one.
    ///
    /// # Errors
    /// [`TrustError`], where one of them is none, or none is there.
    pub fn only_pem(text: &[u8]) -> Result<Self, TrustError> {
        Trust::only(text, "the text")
    }

    /// Nobody but the authorities of this PEM file.
    ///
    /// # Errors
    /// See [`only_pem`](Self::only_pem); and where the file cannot be read.
    pub fn only_file(path: impl AsRef<Path>) -> Result<Self, TrustError> {
        let path = path.as_ref();
        let text = std::fs::read(path).map_err(|error| TrustError::File {
            path: path.display().to_string().into(),
            problem: error.to_string().split(" (os error ").next().unwrap_or_default().into(),
        })?;
        Trust::only(&text, &path.display().to_string())
    }

    fn only(text: &[u8], origin: &str) -> Result<Self, TrustError> {
        let mut roots = RootCertStore::empty();
        for (index, certificate) in CertificateDer::pem_slice_iter(fanfare_wire::json::unmarked_bytes(text)).enumerate()
        {
            let bad =
                |problem: String| TrustError::Bad { origin: origin.into(), number: index + 1, problem: problem.into() };
            let certificate = certificate.map_err(|error: pem::Error| bad(error.to_string()))?;
            roots.add(certificate).map_err(|error| bad(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(TrustError::Empty { origin: origin.into() });
        }
        Ok(Trust::of(roots))
    }

    fn of(roots: RootCertStore) -> Self {
        let authorities = roots.len();
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("aws-lc-rs has the ciphers of both versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        Trust { config: Arc::new(config), authorities }
    }

    /// The same for rustls: both versions, `http/1.1` by ALPN. For a program that shakes hands by itself.
    pub fn config(&self) -> Arc<ClientConfig> {
        self.config.clone()
    }

    /// Shakes hands with the peer, whose certificate must be for `host`.
    pub(super) async fn handshake(&self, stream: TcpStream, host: &str) -> Result<TlsStream<TcpStream>, Problem> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| Problem::Tls {
            place: host.into(),
            reason: "that is neither a host's name nor an IP address".into(),
        })?;
        let place = stream.peer_addr().map(|it| format!("{host}:{}", it.port())).unwrap_or_else(|_| host.to_owned());
        let connector = TlsConnector::from(self.config.clone());
        connector.connect(name, stream).await.map_err(|error| problem(host, &place, &error))
    }
}

/// The fault of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateFault {
    /// No trusted authority has signed it.
    #[error("is not signed by an authority that is trusted here")]
    Issuer,
    /// It is for somebody else.
    #[error("is for another name{}", names(presented))]
    Name {
        /// The names in it, as far as they are known.
        presented: Vec<String>,
    },
    /// Its time is over.
    #[error("expired {} ago", span(*ago_s))]
    Expired {
        /// Seconds.
        ago_s: u64,
    },
    /// Its time has not come.
    #[error("is not valid for another {}", span(*in_s))]
    NotYet {
        /// Seconds.
        in_s: u64,
    },
    /// An authority's own certificate, as `openssl req -x509` makes it: it may sign others, and not stand for a server.
    #[error("is one for an authority, not for a server")]
    Authority,
    /// Something else.
    #[error("cannot be accepted: {reason}")]
    Other {
        /// The message of rustls.
        reason: Box<str>,
    },
}

/// Some certificates are for hundreds.
fn names(presented: &[String]) -> String {
    let shown = &presented[..presented.len().min(NAMES_SHOWN)];
    let more = match presented.len() - shown.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    if shown.is_empty() { String::new() } else { format!(": {}{more}", shown.join(", ")) }
}

fn span(seconds: u64) -> String {
    let (number, unit) = match seconds {
        ..120 => (seconds, "second"),
        120..7_200 => (seconds / 60, "minute"),
        7_200..172_800 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

impl CertificateFault {
    fn of(error: &CertificateError) -> Self {
        let between = |a: &UnixTime, b: &UnixTime| a.as_secs().saturating_sub(b.as_secs());
        match error {
            // A signature that does not fit is that of an authority with the name of one that is trusted.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => CertificateFault::Issuer,
            CertificateError::NotValidForName => CertificateFault::Name { presented: Vec::new() },
            CertificateError::NotValidForNameContext { presented, .. } => {
                CertificateFault::Name { presented: presented.iter().map(|name| name_of(name)).collect() }
            }
            CertificateError::ExpiredContext { time, not_after } => {
                CertificateFault::Expired { ago_s: between(time, not_after) }
            }
            CertificateError::NotValidYetContext { time, not_before } => {
                CertificateFault::NotYet { in_s: between(not_before, time) }
            }
            // webpki's own word; rustls has none for it.
            CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
                CertificateFault::Authority
            }
            error => CertificateFault::Other { reason: error.to_string().into() },
        }
    }
}

/// webpki writes `DnsName("a.example")` and `IpAddress(127.0.0.1)`.
fn name_of(presented: &str) -> String {
    let inner = presented.split_once('(').map_or(presented, |(_, rest)| rest.trim_end_matches(')'));
    inner.trim_matches('"').to_owned()
}

fn problem(host: &str, place: &str, error: &io::Error) -> Problem {
    let reason: Box<str> = match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(error)) => {
            return Problem::Certificate { host: host.into(), fault: CertificateFault::of(error) };
        }
        Some(Error::InvalidMessage(_)) => "the server does not speak TLS (plain HTTP is http:// or ws://)".into(),
        Some(Error::AlertReceived(alert)) => format!("the server ended the handshake: {alert:?}").into(),
        Some(error) => error.to_string().into(),
        None if error.kind() == io::ErrorKind::UnexpectedEof => "the server hung up during the handshake".into(),
        None => error.to_string().into(),
    };
    Problem::Tls { place: place.into(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_certificate_is_reported_with_its_place() {
        let empty = Trust::only_pem(b"# nothing\n").expect_err("nobody to trust");
        assert_eq!(empty, TrustError::Empty { origin: "the text".into() });
        let bad = Trust::only_pem(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").expect_err("none");
        assert!(matches!(&bad, TrustError::Bad { number: 1, .. }), "{bad}");
        let file = Trust::only_file("/nowhere/ca.pem").expect_err("no file").to_string();
        assert_eq!(file, "cannot read the certificates of /nowhere/ca.pem: No such file or directory");
    }

    #[test]
    fn faults_are_told_in_words() {
        let time = |seconds| UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let host = ServerName::try_from("a.example").expect("a name");
        let rows = [
            (CertificateError::UnknownIssuer, "is not signed by an authority that is trusted here"),
            (
                CertificateError::NotValidForNameContext {
                    expected: host.clone(),
                    presented: vec!["DnsName(\"b.example\")".to_owned(), "IpAddress(127.0.0.1)".to_owned()],
                },
                "is for another name: b.example, 127.0.0.1",
            ),
            (
                CertificateError::NotValidForNameContext {
                    expected: host.clone(),
                    presented: (0..7).map(|n| format!("DnsName(\"{n}\")")).collect(),
                },
                "is for another name: 0, 1, 2, 3, 4 and 2 more",
            ),
            (CertificateError::ExpiredContext { time: time(300_000), not_after: time(100_000) }, "expired 2 days ago"),
            (
                CertificateError::NotValidYetContext { time: time(100), not_before: time(160) },
                "is not valid for another 60 seconds",
            ),
        ];
        for (error, expected) in rows {
            assert_eq!(CertificateFault::of(&error).to_string(), expected);
        }
    }
}
