//! The way to the server: name, addresses, TCP, TLS, with the facts that the client leaves out.
//!
//! In: the address and the trusted authorities. Out: connections over which a part of `doctor` speaks HTTP itself.
//! Certificates are always checked. If one is refused, a second handshake records it and ends; nothing is sent.

use super::kinds::kind;
use super::report::{Finding, Report, TlsFacts, ms};
use crate::failure::Failure;
use crate::remote::Server;
use crate::remote::base::Base;
use fanfare_client::{Endpoint, Problem};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// So many addresses of a name are tried.
const ADDRESSES_MAX: usize = 8;
/// A certificate that expires sooner is reported.
const EXPIRES_SOON_DAYS: i64 = 14;

/// A stream of bytes.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection.
pub(super) struct Link {
    pub(super) io: Box<dyn Io>,
    /// HTTP/2 was agreed upon by ALPN.
    pub(super) is_h2: bool,
}

/// The protocols that a connection offers by ALPN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offer {
    Http1,
    /// As browsers do for all but WebSockets.
    Http2Too,
}

/// How connections are made.
pub(super) struct Way {
    pub(super) base: Base,
    endpoint: Endpoint,
    /// The address that has answered.
    address: Option<SocketAddr>,
    /// This side's address on the way to it.
    pub(super) local: Option<IpAddr>,
    pub(super) patience: Duration,
    #[cfg(feature = "tls")]
    tls: Option<tls::Tls>,
}

impl Way {
    pub(super) fn new(server: &Server, patience: Duration) -> Result<Self, Failure> {
        let endpoint = server.endpoint()?;
        #[cfg(feature = "tls")]
        let tls = if endpoint.url().is_tls() { Some(tls::Tls::new(server)?) } else { None };
        Ok(Way {
            base: server.url.clone(),
            endpoint,
            address: None,
            local: None,
            patience,
            #[cfg(feature = "tls")]
            tls,
        })
    }

    /// Whether the address begins with `https://`.
    pub(super) fn is_tls(&self) -> bool {
        self.endpoint.url().is_tls()
    }

    /// The address of a path of Fanfare's.
    pub(super) fn path(&self, path: &str) -> String {
        format!("{}{path}", self.base.path())
    }

    /// Finds the way. `false`: there is none, and the report says why.
    pub(super) async fn find(&mut self, report: &mut Report) -> bool {
        let tried = format!("a connection to {}", self.base);
        let opened = timeout(self.patience, self.endpoint.open()).await;
        let problem = match opened {
            Ok(Ok(_)) => None,
            Ok(Err(problem)) => Some(problem),
            Err(_) => Some(Problem::TimedOut { after_ms: ms(self.patience) }),
        };
        if let Some(problem) = problem {
            #[cfg(feature = "tls")]
            if let (Some(tls), Problem::Certificate { .. }) = (&self.tls, &problem) {
                report.tls = self.recorded(tls).await;
            }
            let kind = match problem {
                Problem::Name { .. } => &kind::name_unknown,
                Problem::Unreachable { .. } => &kind::unreachable,
                Problem::TimedOut { .. } => &kind::no_answer,
                #[cfg(feature = "tls")]
                Problem::Certificate { .. } => &kind::certificate_invalid,
                #[cfg(feature = "tls")]
                Problem::Tls { .. } => &kind::tls_failed,
                _ => &kind::unreachable,
            };
            let mut seen = problem.to_string();
            if let Some(tls) = report.tls.as_ref().filter(|tls| tls.chain == 1) {
                seen += &format!(
                    "; the server sends one certificate, of the issuer {:?}",
                    tls.issuer.as_deref().unwrap_or("?")
                );
            }
            report.find(Finding::new(kind, "address", tried, seen));
            return false;
        }
        self.try_addresses(report).await
    }

    /// Each address of the name by itself: the client hides one that is silent behind one that answers.
    async fn try_addresses(&mut self, report: &mut Report) -> bool {
        let Some((host, port)) = self.endpoint.url().host_and_port() else { return true };
        let addresses: Vec<SocketAddr> = match tokio::net::lookup_host((host, port)).await {
            Ok(addresses) => addresses.take(ADDRESSES_MAX).collect(),
            Err(_) => Vec::new(), // it was found a moment ago
        };
        let mut tries = tokio::task::JoinSet::new();
        for address in addresses {
            let patience = self.patience;
            tries.spawn(async move { (address, timeout(patience, TcpStream::connect(address)).await) });
        }
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        while let Some(tried) = tries.join_next().await {
            match tried {
                Ok((address, Ok(Ok(stream)))) => good.push((address, stream.local_addr().ok())),
                Ok((address, Ok(Err(error)))) => bad.push(format!("{address}: {}", plain(&error))),
                Ok((address, Err(_))) => bad.push(format!("{address}: no answer")),
                Err(_) => {} // only a runtime that ends cancels it
            }
        }
        let Some(&(first, local)) = good.first() else {
            report.find(Finding::new(&kind::unreachable, "address", format!("a connection to {host}"), bad.join("; ")));
            return false;
        };
        if !bad.is_empty() {
            let tried = format!("each address of {host}");
            report.find(Finding::new(&kind::address_silent, "address", tried, bad.join("; ")));
        }
        report.address = Some(first.to_string());
        (self.address, self.local) = (Some(first), local.map(|local| local.ip().to_canonical()));
        #[cfg(feature = "tls")]
        return self.look_at_tls(report).await;
        #[cfg(not(feature = "tls"))]
        true
    }

    async fn tcp(&self) -> Result<Box<dyn Io>, String> {
        let opened = async {
            if let Some(path) = self.endpoint.url().socket() {
                return UnixStream::connect(path).await.map(|stream| Box::new(stream) as Box<dyn Io>);
            }
            let address = self.address.ok_or_else(|| io::Error::other("no address"))?;
            let stream = TcpStream::connect(address).await?;
            let _ = stream.set_nodelay(true); // only slower without
            Ok(Box::new(stream) as Box<dyn Io>)
        };
        match timeout(self.patience, opened).await {
            Ok(opened) => opened.map_err(|error| plain(&error)),
            Err(_) => Err("no connection".to_owned()),
        }
    }

    /// Opens a connection.
    pub(super) async fn open(&self, offer: Offer) -> Result<Link, String> {
        let io = self.tcp().await?;
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            let handshake = timeout(self.patience, tls.handshake(io, self.host(), offer)).await;
            let stream = handshake.map_err(|_| "no TLS handshake".to_owned())?.map_err(|error| error.to_string())?;
            let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            return Ok(Link { io: Box::new(stream), is_h2 });
        }
        let _ = offer; // without TLS no browser speaks HTTP/2
        Ok(Link { io, is_h2: false })
    }

    #[cfg(feature = "tls")]
    fn host(&self) -> &str {
        self.endpoint.url().host_and_port().map_or("localhost", |(host, _)| host)
    }

    #[cfg(feature = "tls")]
    async fn look_at_tls(&self, report: &mut Report) -> bool {
        let Some(tls) = &self.tls else { return true };
        let Ok(io) = self.tcp().await else { return true };
        let facts = match timeout(self.patience, tls.handshake(io, self.host(), Offer::Http2Too)).await {
            Ok(Ok(stream)) => tls::facts(stream.get_ref().1),
            _ => return true, // the transports will see it again
        };
        if let Some(days) = facts.expires_in_days.filter(|days| *days < EXPIRES_SOON_DAYS) {
            let seen = format!("it expires in {days} days");
            let tried = format!("the certificate of {}", self.host());
            report.find(Finding::new(&kind::certificate_expires, "address", tried, seen));
        }
        report.tls = Some(facts);
        true
    }

    /// The facts of a certificate that is not accepted.
    #[cfg(feature = "tls")]
    async fn recorded(&self, tls: &tls::Tls) -> Option<TlsFacts> {
        let (host, port) = self.endpoint.url().host_and_port()?;
        let opened = timeout(self.patience, TcpStream::connect((host, port))).await.ok()?.ok()?;
        timeout(self.patience, tls.record(opened, host)).await.ok()?
    }
}

/// Without Rust's `(os error 111)`.
pub(super) fn plain(error: &io::Error) -> String {
    error.to_string().split(" (os error ").next().unwrap_or_default().to_owned()
}

#[cfg(feature = "tls")]
mod tls {
    //! The handshake, and the certificate as it is.

    use super::{Failure, Io, Offer, Server, TlsFacts};
    use fanfare_client::Trust;
    use std::io;
    use std::sync::{Arc, Mutex};
    use std::time::{SystemTime, UNIX_EPOCH};
    use tokio_rustls::TlsConnector;
    use tokio_rustls::client::TlsStream;
    use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use tokio_rustls::rustls::crypto::aws_lc_rs;
    use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use tokio_rustls::rustls::{
        ClientConfig, ClientConnection, DigitallySignedStruct, Error, ProtocolVersion, SignatureScheme,
    };
    use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

    const DAY_S: i64 = 86_400;
    /// So many names of a certificate are reported.
    const NAMES_MAX: usize = 20;

    pub(super) struct Tls {
        http1: TlsConnector,
        http2_too: TlsConnector,
    }

    impl Tls {
        pub(super) fn new(server: &Server) -> Result<Self, Failure> {
            let trust = match server.trust()? {
                Some(trust) => trust,
                None => Trust::system().map_err(|error| crate::remote::base::unready(&error.into()))?,
            };
            let http1 = trust.config();
            let mut http2_too = ClientConfig::clone(&http1);
            http2_too.alpn_protocols.insert(0, b"h2".to_vec());
            Ok(Tls { http1: http1.into(), http2_too: Arc::new(http2_too).into() })
        }

        pub(super) async fn handshake(
            &self,
            io: Box<dyn Io>,
            host: &str,
            offer: Offer,
        ) -> io::Result<TlsStream<Box<dyn Io>>> {
            let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
            let connector = match offer {
                Offer::Http1 => &self.http1,
                Offer::Http2Too => &self.http2_too,
            };
            connector.connect(name, io).await
        }

        /// Sees the certificates, and refuses them whatever they are.
        pub(super) async fn record(&self, io: impl Io, host: &str) -> Option<TlsFacts> {
            let name = ServerName::try_from(host.to_owned()).ok()?;
            let recorder = Arc::new(Recorder::default());
            let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .ok()?
                .dangerous()
                .with_custom_certificate_verifier(recorder.clone())
                .with_no_client_auth();
            let refused = TlsConnector::from(Arc::new(config)).connect(name, io).await;
            debug_assert!(refused.is_err(), "the recorder accepts nothing");
            let chain = std::mem::take(&mut *recorder.chain.lock().ok()?);
            Some(facts_of(&chain))
        }
    }

    /// A verifier that accepts no certificate.
    #[derive(Debug, Default)]
    struct Recorder {
        chain: Mutex<Vec<CertificateDer<'static>>>,
    }

    impl ServerCertVerifier for Recorder {
        fn verify_server_cert(
            &self,
            end_entity: &CertificateDer<'_>,
            intermediates: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            if let Ok(mut chain) = self.chain.lock() {
                *chain = std::iter::once(end_entity).chain(intermediates).map(|it| it.clone().into_owned()).collect();
            }
            Err(Error::General("recorded".to_owned()))
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(Error::General("recorded".to_owned()))
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(Error::General("recorded".to_owned()))
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
        }
    }

    pub(super) fn facts(connection: &ClientConnection) -> TlsFacts {
        let version = connection.protocol_version().map(|version| match version {
            ProtocolVersion::TLSv1_2 => "TLS 1.2".to_owned(),
            ProtocolVersion::TLSv1_3 => "TLS 1.3".to_owned(),
            other => format!("{other:?}"),
        });
        TlsFacts { version, ..facts_of(connection.peer_certificates().unwrap_or_default()) }
    }

    fn facts_of(chain: &[CertificateDer<'_>]) -> TlsFacts {
        let none =
            TlsFacts { version: None, names: Vec::new(), issuer: None, chain: chain.len(), expires_in_days: None };
        let Some(Ok((_, own))) = chain.first().map(|own| X509Certificate::from_der(own)) else { return none };
        let names = own.subject_alternative_name().ok().flatten().map(|names| {
            let names = names.value.general_names.iter().filter_map(|name| match name {
                GeneralName::DNSName(name) => Some((*name).to_owned()),
                GeneralName::IPAddress(bytes) => Some(match *bytes {
                    [a, b, c, d] => std::net::Ipv4Addr::new(*a, *b, *c, *d).to_string(),
                    bytes => <[u8; 16]>::try_from(bytes)
                        .map_or_else(|_| "?".to_owned(), |it| std::net::Ipv6Addr::from(it).to_string()),
                }),
                _ => None,
            });
            names.take(NAMES_MAX).collect::<Vec<_>>()
        });
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let left = own.validity().not_after.timestamp() - i64::try_from(now).unwrap_or(i64::MAX);
        TlsFacts {
            names: names.unwrap_or_default(),
            issuer: Some(super::super::report::excerpt(own.issuer().to_string().as_bytes())),
            expires_in_days: Some(left.div_euclid(DAY_S)),
            ..none
        }
    }
}
