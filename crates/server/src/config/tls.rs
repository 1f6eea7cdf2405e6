//! The identity of a server with TLS: a certificate chain with its key, checked when it is loaded, and replaced while
//! connections go on.
//!
//! In: PEM, of files or in memory. Out: [`Tls`], which is part of [`Config`](crate::Config). TLS 1.2 and 1.3 are
//! spoken, with HTTP/2 and HTTP/1.1 by ALPN. Connections that are open keep the certificate that they began with.

#[cfg(feature = "acme")]
use crate::config::acme::{ACME_ALPN, Acme, Order};
use crate::config::expiry::Validity;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, version};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

/// Certificate and key of a server that speaks TLS on its TCP addresses.
///
/// ```no_run
/// use fanfare::{Config, Tls};
///
/// let tls = Tls::from_files("fullchain.pem", "privkey.pem")?;
/// let config = Config { tls: Some(tls), ..Config::default() };
/// # Ok::<(), fanfare::TlsError>(())
/// ```
#[derive(Clone)]
pub struct Tls {
    server: Arc<ServerConfig>,
    from: From,
}

/// Where certificates come from.
#[derive(Debug, Clone)]
enum From {
    Given(Arc<Certificate>),
    #[cfg(feature = "acme")]
    Ordered(Order),
}

/// Why there is no TLS with these files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The PEM holds no certificate, or a broken one.
    #[error("{place} holds no certificate in PEM (-----BEGIN CERTIFICATE-----): {reason}")]
    Certificate {
        /// The file, or "the text".
        place: String,
        /// In words.
        reason: String,
    },
    /// The PEM holds no private key, or a broken or encrypted one.
    #[error("{place} holds no private key in PEM without a password (-----BEGIN PRIVATE KEY-----): {reason}")]
    Key {
        /// The file, or "the text".
        place: String,
        /// In words.
        reason: String,
    },
    /// They do not belong together, or cannot be used.
    #[error("the certificate and the key do not fit: {reason}")]
    Mismatch {
        /// In words.
        reason: String,
    },
    /// The system gives no randomness, or the library no configuration.
    #[error("TLS cannot be set up: {reason}")]
    SetUp {
        /// In words.
        reason: String,
    },
}

/// The certificate of the moment: each handshake asks for it.
struct Certificate(RwLock<Arc<CertifiedKey>>);

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} certificates", self.current().cert.len())
    }
}

impl Certificate {
    fn current(&self) -> Arc<CertifiedKey> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

impl Tls {
    /// Loads a certificate chain, the server's own certificate first, and its key.
    ///
    /// # Errors
    /// A file cannot be read or holds something else, or they do not belong together.
    pub fn from_files(certificate: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self, TlsError> {
        let read =
            |path: &Path| std::fs::read(path).map_err(|source| TlsError::Unreadable { path: path.to_owned(), source });
        let (certificate, key) = (certificate.as_ref(), key.as_ref());
        let (chain, secret) = (read(certificate)?, read(key)?);
        Self::new(&chain, &certificate.display().to_string(), &secret, &key.display().to_string())
    }

    /// The same of PEM in memory.
    ///
    /// # Errors
    /// See [`from_files`](Self::from_files).
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        Self::new(certificate, "the text", key, "the text")
    }

    fn new(chain: &[u8], chain_place: &str, secret: &[u8], secret_place: &str) -> Result<Self, TlsError> {
        let provider = Arc::new(default_provider());
        let key = certified(&provider, chain, chain_place, secret, secret_place)?;
        let certificate = Arc::new(Certificate(RwLock::new(Arc::new(key))));
        let server = configured(provider, certificate.clone(), &[])?;
        Ok(Tls { server: Arc::new(server), from: From::Given(certificate) })
    }

    /// Orders certificates by ACME, and renews them. It needs the feature `acme`.
    ///
    /// # Errors
    /// No domain is named, or the authorities that the directory is checked by cannot be read.
    #[cfg(feature = "acme")]
    pub fn acme(acme: Acme) -> Result<Self, TlsError> {
        let (resolver, order) = acme.order()?;
        let server = configured(Arc::new(default_provider()), resolver, &[ACME_ALPN])?;
        Ok(Tls { server: Arc::new(server), from: From::Ordered(order) })
    }

    /// The order of certificates, if they are ordered.
    #[cfg(feature = "acme")]
    pub(crate) fn order(&self) -> Option<&Order> {
        match &self.from {
            From::Ordered(order) => Some(order),
            From::Given(_) => None,
        }
    }

    /// Later handshakes get the certificate of `other`. One that is ordered is renewed by itself: nothing changes then.
    pub fn renew(&self, other: &Tls) {
        #[cfg_attr(not(feature = "acme"), allow(irrefutable_let_patterns))]
        if let (From::Given(own), From::Given(other)) = (&self.from, &other.from) {
            *own.0.write().unwrap_or_else(PoisonError::into_inner) = other.current();
        }
    }

    /// From when to when the certificate in use is valid, as far as there is one.
    pub(crate) fn validity(&self) -> Option<Validity> {
        match &self.from {
            From::Given(certificate) => Validity::of(certificate.current().cert.first()?),
            #[cfg(feature = "acme")]
            From::Ordered(order) => order.validity(),
        }
    }

    /// For one handshake.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }
}

/// Without the key.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("from", &self.from).finish_non_exhaustive()
    }
}

/// A server that speaks TLS 1.2 and 1.3, with HTTP by ALPN and `more` protocols.
fn configured(
    provider: Arc<CryptoProvider>,
    resolver: Arc<dyn ResolvesServerCert>,
    more: &[&[u8]],
) -> Result<ServerConfig, TlsError> {
    let set_up = |error: rustls::Error| TlsError::SetUp { reason: error.to_string() };
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .map_err(set_up)?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    let http: [&[u8]; 2] = [b"h2", b"http/1.1"];
    server.alpn_protocols = http.iter().chain(more).map(|name| name.to_vec()).collect();
    // Tickets hold the state of a session: the server keeps none of it.
    server.ticketer = Ticketer::new().map_err(set_up)?;
    server.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(server)
}

/// Reads both, and checks that they fit.
fn certified(
    provider: &CryptoProvider,
    chain: &[u8],
    chain_place: &str,
    secret: &[u8],
    secret_place: &str,
) -> Result<CertifiedKey, TlsError> {
    let no_certificate = |reason: String| TlsError::Certificate { place: chain_place.to_owned(), reason };
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<_, _>>()
        .map_err(|error| no_certificate(error.to_string()))?;
    if certificates.is_empty() {
        return Err(no_certificate("there is none".to_owned()));
    }
    let no_key = |reason: String| TlsError::Key { place: secret_place.to_owned(), reason };
    let key = PrivateKeyDer::from_pem_slice(secret).map_err(|error| no_key(error.to_string()))?;
    let key = provider.key_provider.load_private_key(key).map_err(|error| no_key(error.to_string()))?;
    let certified = CertifiedKey::new(certificates, key);
    certified.keys_match().map_err(|error| TlsError::Mismatch { reason: error.to_string() })?;
    Ok(certified)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(name: &str) -> (String, String) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn certificates_are_checked_before_they_are_used() {
        let ((chain, key), (_, other)) = (made("a.example"), made("b.example"));
        let broken = "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n";
        let rows = [
            ("both", &*chain, &*key, ""),
            ("a chain and a key in one text", &format!("{key}{chain}"), &format!("{chain}{key}"), ""),
            ("a key of another certificate", &chain, &other, "do not fit"),
            ("no certificate", &key, &key, "no certificate"),
            ("nothing", "", "", "no certificate"),
            ("a broken certificate", broken, &key, "no certificate"),
            ("no key", &chain, &chain, "no private key"),
        ];
        for (name, chain, key, expected) in rows {
            let found = Tls::from_pem(chain.as_bytes(), key.as_bytes()).err();
            let found = found.map_or(String::new(), |error| error.to_string());
            assert!(found.contains(expected) && found.is_empty() == expected.is_empty(), "{name}: {found}");
        }
        let missing = Tls::from_files("/nonexistent/chain.pem", "/nonexistent/key.pem").expect_err("no files");
        assert!(missing.to_string().starts_with("cannot read /nonexistent/chain.pem: "), "{missing}");
    }

    #[test]
    fn a_renewed_certificate_is_what_the_next_handshake_gets_and_debug_shows_no_key() {
        let [first, second] = ["a.example", "b.example"].map(|name| {
            let (chain, key) = made(name);
            Tls::from_pem(chain.as_bytes(), key.as_bytes()).expect("a pair")
        });
        let current = |tls: &Tls| match &tls.from {
            From::Given(certificate) => certificate.current().cert.clone(),
            #[cfg(feature = "acme")]
            From::Ordered(_) => panic!("they are given"),
        };
        let before = current(&first);
        first.renew(&second);
        let after = current(&first);
        assert_ne!(before, after);
        assert_eq!(after, current(&second));
        assert_eq!(format!("{first:?}"), "Tls { from: Given(1 certificates), .. }");
    }
}
