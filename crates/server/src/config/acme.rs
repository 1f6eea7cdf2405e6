//! Certificates by ACME (RFC 8555): ordered, kept and renewed by the server itself.
//!
//! In: [`Acme`], the domains and where to keep what was ordered. Out: a [`Tls`](crate::Tls) that shows the certificate
//! of the moment, and an [`Order`] that the server drives on a thread of its own. The authority proves the domains by
//! TLS-ALPN-01 (RFC 8737): it connects to port 443 of each, so that port must lead to this server. Until the first
//! certificate is there, handshakes fail.

use crate::config::expiry::Validity;
use crate::config::tls::TlsError;
use async_trait::async_trait;
use futures_util::StreamExt as _;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use rustls_acme::acme::LETS_ENCRYPT_PRODUCTION_DIRECTORY;
use rustls_acme::caches::DirCache;
use rustls_acme::{AccountCache, AcmeConfig, AcmeState, CertCache, EventOk, ResolvesServerCertAcme};
use std::fmt;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The protocol that the authority names when it proves a domain (RFC 8737 §3).
pub(crate) const ACME_ALPN: &[u8] = rustls_acme::acme::ACME_TLS_ALPN_NAME;

/// An order of a certificate: its names, and its authority.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Acme {
    /// The names of the certificate.
    pub domains: Vec<String>,
    /// Mail addresses that the authority may write to. Default: none.
    pub contact: Vec<String>,
    /// A folder for the account and the certificate with its key. It is made with access for this user alone. Without
    /// it every start would order anew, and authorities refuse more than a few orders a week.
    pub cache: PathBuf,
    /// The authority's directory. Default: Let's Encrypt.
    pub directory: String,
    /// A PEM file of the authorities that the directory's own certificate may be of. Default: those of the system.
    pub authority: Option<PathBuf>,
}

impl Acme {
    /// An order for these domains.
    pub fn new(domains: impl IntoIterator<Item = impl Into<String>>, cache: impl Into<PathBuf>) -> Self {
        Acme {
            domains: domains.into_iter().map(Into::into).collect(),
            contact: Vec::new(),
            cache: cache.into(),
            directory: Acme::lets_encrypt().to_owned(),
            authority: None,
        }
    }

    /// The directory of Let's Encrypt.
    pub fn lets_encrypt() -> &'static str {
        LETS_ENCRYPT_PRODUCTION_DIRECTORY
    }

    /// Prepares the order; nothing is sent or written yet.
    pub(crate) fn order(self) -> Result<(Arc<ResolvesServerCertAcme>, Order), TlsError> {
        let set_up = |reason: String| TlsError::SetUp { reason };
        if self.domains.is_empty() {
            return Err(set_up("an order names at least one domain".to_owned()));
        }
        let validity = Arc::new(Mutex::new(None));
        let client = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| set_up(error.to_string()))?
            .with_root_certificates(roots(self.authority.as_deref())?)
            .with_no_client_auth();
        let state = AcmeConfig::new_with_client_config(&self.domains, Arc::new(client))
            .contact(self.contact.iter().map(|address| format!("mailto:{address}")))
            .cache(Noting { folder: DirCache::new(self.cache.clone()), validity: validity.clone() })
            .directory(&self.directory)
            .state();
        let resolver = state.resolver();
        let state = Arc::new(Mutex::new(Some(state)));
        Ok((resolver, Order { state, domains: self.domains.into(), cache: self.cache.into(), validity }))
    }
}

/// The authorities that are trusted when the directory is asked.
fn roots(authority: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let Some(path) = authority else {
        // Some of a system's certificates may be of a kind that is not supported.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return match roots.is_empty() {
            true => Err(TlsError::SetUp {
                reason: "the system has no authorities (on Debian: ca-certificates) to check the directory by"
                    .to_owned(),
            }),
            false => Ok(roots),
        };
    };
    let text = std::fs::read(path).map_err(|source| TlsError::Unreadable { path: path.to_owned(), source })?;
    let wrong = |reason: String| TlsError::Certificate { place: path.display().to_string(), reason };
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() { Err(wrong("there is none".to_owned())) } else { Ok(roots) }
}

/// An order that goes on for the life of the server: one start takes it.
#[derive(Clone)]
pub(crate) struct Order {
    state: Arc<Mutex<Option<AcmeState<io::Error>>>>,
    domains: Arc<[String]>,
    cache: Arc<Path>,
    /// The validity of the certificate that was loaded or ordered last.
    validity: Arc<Mutex<Option<Validity>>>,
}

/// The folder of the account and the certificate. It notes the validity of each certificate that goes through it: the
/// library shows that of no other place.
struct Noting {
    folder: DirCache<PathBuf>,
    validity: Arc<Mutex<Option<Validity>>>,
}

impl Noting {
    fn note(&self, pem: &[u8]) {
        if let Some(validity) = Validity::of_pem(pem) {
            *self.validity.lock().unwrap_or_else(PoisonError::into_inner) = Some(validity);
        }
    }
}

#[async_trait]
impl CertCache for Noting {
    type EC = io::Error;

    async fn load_cert(&self, domains: &[String], directory: &str) -> Result<Option<Vec<u8>>, io::Error> {
        let loaded = self.folder.load_cert(domains, directory).await?;
        loaded.iter().for_each(|pem| self.note(pem));
        Ok(loaded)
    }

    async fn store_cert(&self, domains: &[String], directory: &str, pem: &[u8]) -> Result<(), io::Error> {
        self.note(pem);
        self.folder.store_cert(domains, directory, pem).await
    }
}

#[async_trait]
impl AccountCache for Noting {
    type EA = io::Error;

    async fn load_account(&self, contact: &[String], directory: &str) -> Result<Option<Vec<u8>>, io::Error> {
        self.folder.load_account(contact, directory).await
    }

    async fn store_account(&self, contact: &[String], directory: &str, account: &[u8]) -> Result<(), io::Error> {
        self.folder.store_account(contact, directory, account).await
    }
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Order").field("domains", &self.domains).finish_non_exhaustive()
    }
}

impl Order {
    /// Makes the folder for the account and the key, for this user alone.
    ///
    /// # Errors
    /// The system does not make it.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.cache)
    }

    /// From when to when the certificate is valid that was ordered last.
    pub(crate) fn validity(&self) -> Option<Validity> {
        *self.validity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Orders and renews for ever; each step is a line of the log. Returns at once where another start has taken it.
    pub(crate) async fn run(&self) {
        let taken = self.state.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut state) = taken else { return };
        let domains = self.domains.join(", ");
        while let Some(event) = state.next().await {
            match event {
                Ok(EventOk::DeployedCachedCert) => tracing::info!(domains, "the certificate that was kept is in use"),
                Ok(EventOk::DeployedNewCert) => tracing::info!(domains, "a new certificate by ACME is in use"),
                Ok(EventOk::CertCacheStore | EventOk::AccountCacheStore) => {}
                // It tries again by itself, later each time.
                Err(error) => tracing::error!(domains, %error, "ACME: no certificate; trying again"),
            }
        }
    }
}
