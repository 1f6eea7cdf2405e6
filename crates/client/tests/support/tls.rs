//! TLS for tests: a certificate authority for one test, and a proxy that adds TLS to a server without it.

// Clippy allows unwrap in tests, but does not recognise helpers of tests; and not every test uses every helper.
#![allow(clippy::unwrap_used, dead_code)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::channel;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// Signs certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// The validity, in years.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Valid(pub(crate) i32, pub(crate) i32);

/// Valid for as long as these tests will be run.
pub(crate) const NOW: Valid = Valid(2020, 2120);

impl Authority {
    pub(crate) fn new() -> Self {
        Authority::named("an authority of tests")
    }

    pub(crate) fn named(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// The authority as its clients trust it.
    pub(crate) fn pem(&self) -> String {
        let lines = STANDARD.encode(self.0.der());
        let lines: Vec<&str> = lines.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
    }

    /// A server with these names or IP addresses.
    pub(crate) fn server(&self, names: &[&str], Valid(from, to): Valid) -> ServerConfig {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        config(certificate.der().clone(), &key)
    }

    /// A server that shows the authority's own certificate.
    pub(crate) fn itself(&self) -> ServerConfig {
        config(self.0.der().clone(), self.0.key())
    }
}

fn config(certificate: tokio_rustls::rustls::pki_types::CertificateDer<'static>, key: &KeyPair) -> ServerConfig {
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    // Without agreement on this, a proxy would speak HTTP/2 to the client.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

/// Speaks TLS on its own port and passes the content on, until it is dropped.
pub(crate) struct TlsProxy {
    pub(crate) port: u16,
    cuts: watch::Sender<u64>,
}

impl TlsProxy {
    pub(crate) fn start(target: SocketAddr, config: ServerConfig) -> Self {
        let (port_sender, port) = channel();
        let (cuts, cut) = watch::channel(0);
        // It has its own thread, so that a test needs no runtime for it.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                port_sender.send(listener.local_addr().unwrap().port()).unwrap();
                let acceptor = TlsAcceptor::from(Arc::new(config));
                let mut dropped = cut.clone();
                tokio::select! {
                    () = accept(listener, acceptor, target, cut) => {}
                    () = async { while dropped.changed().await.is_ok() {} } => {}
                }
            });
        });
        TlsProxy { port: port.recv().unwrap(), cuts }
    }

    /// Ends every open connection through it without a close; later ones pass.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, target: SocketAddr, cut: watch::Receiver<u64>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (acceptor, mut cut) = (acceptor.clone(), cut.clone());
        cut.mark_unchanged();
        tokio::spawn(async move {
            // A client that does not trust the authority disconnects.
            let Ok(mut near) = acceptor.accept(stream).await else { return };
            assert_eq!(near.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
            let Ok(mut far) = TcpStream::connect(target).await else { return };
            far.set_nodelay(true).unwrap();
            tokio::select! {
                _ = copy_bidirectional(&mut near, &mut far) => {}
                _ = cut.changed() => {}
            }
        });
    }
}
