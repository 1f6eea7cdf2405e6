//! A client's socket: plain, or with TLS over it.
//!
//! Non-blocking both ways. With TLS a read may have to write (the handshake), and a written byte may wait for the
//! handshake: the session keeps it. The generator trusts every certificate, because it measures the server and proves
//! nothing about it.

use std::io::{self, Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use mio::net::TcpStream;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, NamedGroup, SignatureScheme, version};

/// A connected socket, or one that is about to be.
#[derive(Debug)]
pub(crate) enum Link {
    Plain(TcpStream),
    Tls(Box<Tls>),
}

#[derive(Debug)]
pub(crate) struct Tls {
    socket: TcpStream,
    session: ClientConnection,
}

impl Link {
    pub(crate) fn new(socket: TcpStream, tls: Option<&Arc<ClientConfig>>) -> io::Result<Self> {
        let Some(config) = tls else { return Ok(Self::Plain(socket)) };
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let session = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
        Ok(Self::Tls(Box::new(Tls { socket, session })))
    }

    pub(crate) fn socket(&mut self) -> &mut TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => &mut tls.socket,
        }
    }

    /// True if a read of fewer bytes than there was room for has emptied the socket.
    pub(crate) fn is_empty_after_short_read(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    /// Reads plaintext. No bytes: the end.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Self::Tls(tls) = self else { return self.socket().read(into) };
        loop {
            match tls.session.reader().read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                result => return result,
            }
            if !tls.receive()? {
                return Ok(0);
            }
        }
    }

    /// Writes plaintext as far as there is room for it.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Self::Tls(tls) = self else { return self.socket().write(bytes) };
        tls.send()?;
        let taken = tls.session.writer().write(bytes)?;
        if taken == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        tls.send()?;
        Ok(taken)
    }

    /// Gives the socket the records that wait for it.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(tls) => tls.send(),
        }
    }

    /// The session of TLS.
    pub(crate) fn session(&self) -> Option<&ClientConnection> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => Some(&tls.session),
        }
    }
}

impl Tls {
    /// Takes what the socket has. False at its end.
    fn receive(&mut self) -> io::Result<bool> {
        let count = self.session.read_tls(&mut self.socket)?;
        self.session.process_new_packets().map_err(io::Error::other)?;
        self.send()?;
        Ok(count > 0)
    }

    /// As far as the socket takes it.
    fn send(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                result => result?,
            };
        }
        Ok(())
    }
}

/// Which handshakes a client makes.
#[derive(Debug, Clone)]
pub(crate) struct Tickets {
    tickets: Arc<Store>,
}

#[derive(Debug, Default)]
struct Store {
    kept: Mutex<Vec<Tls13ClientSessionValue>>,
    offers: bool,
    received: AtomicUsize,
}

impl Tickets {
    /// Tickets are offered to the server, or only counted: every handshake is a full one then.
    pub(crate) fn new(offers: bool) -> Self {
        Self { tickets: Arc::new(Store { offers, ..Store::default() }) }
    }

    /// How many came so far.
    pub(crate) fn received(&self) -> usize {
        self.tickets.received.load(Ordering::Relaxed)
    }

    /// TLS 1.3, and X25519 alone: every server here has it, so all do the same work.
    pub(crate) fn client(&self) -> io::Result<Arc<ClientConfig>> {
        let mut provider = default_provider();
        provider.kx_groups = vec![kx_group::X25519];
        let mut config = ClientConfig::builder_with_provider(provider.into())
            .with_protocol_versions(&[&version::TLS13])
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::store(self.tickets.clone());
        Ok(Arc::new(config))
    }
}

impl ClientSessionStore for Store {
    fn set_kx_hint(&self, _server: ServerName<'static>, _group: NamedGroup) {}

    fn kx_hint(&self, _server: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _server: ServerName<'static>, _value: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _server: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _server: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _server: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.received.fetch_add(1, Ordering::Relaxed);
        if self.offers {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            // Each handshake takes one and brings one or more.
            if kept.len() < 256 {
                kept.push(value);
            }
        }
    }

    fn take_tls13_ticket(&self, _server: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

/// Trusts everybody, and does not spend the generator's time on checks.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
