//! The server's part of a TLS handshake without a network: what a resumed one saves, and what tickets cost.
//!
//! In: nothing. Out: a table of the median time that the server's side of a handshake takes, by kind and by the
//! number of session tickets that the server sends. The settings are Fanfare's: TLS 1.3, X25519, a certificate of
//! P-256, and tickets that hold the state. Client and server take turns in one thread, and only the server's turns
//! are measured. The kinds take turns too, so that a busy machine troubles all of them.
//!
//! ```sh
//! cargo run --release --package fanfare-bench --example handshake -- [HANDSHAKES]
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider, kx_group};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::server::NoServerSessionStorage;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConfig, ServerConnection, version};

/// Handshakes before the measured ones; they bring the first tickets.
const WARM_UP: usize = 20;

struct Row {
    kind: HandshakeKind,
    tickets: usize,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    times: Vec<Duration>,
}

fn main() -> Result<()> {
    let count: usize = std::env::args().nth(1).map_or(Ok(5_000), |text| text.parse())?;
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let mut rows = Vec::new();
    for (kind, tickets) in [
        (HandshakeKind::Full, 2),
        (HandshakeKind::Resumed, 2),
        (HandshakeKind::Full, 1),
        (HandshakeKind::Resumed, 1),
        (HandshakeKind::Full, 0),
    ] {
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(anyhow::Error::msg)?;
        let mut server = ServerConfig::builder_with_provider(default_provider().into())
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])?
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)?;
        server.ticketer = Ticketer::new()?;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = tickets;
        let mut provider = default_provider();
        provider.kx_groups = vec![kx_group::X25519];
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone())?;
        let mut client = ClientConfig::builder_with_provider(provider.into())
            .with_protocol_versions(&[&version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        if kind == HandshakeKind::Full {
            client.resumption = Resumption::disabled();
        }
        rows.push(Row { kind, tickets, client: client.into(), server: server.into(), times: Vec::new() });
    }
    for number in 0..WARM_UP + count {
        for row in &mut rows {
            let (time, kind) = handshake(row)?;
            if number >= WARM_UP {
                ensure!(kind == row.kind, "the server did a {kind:?} handshake in place of a {:?} one", row.kind);
                row.times.push(time);
            }
        }
    }
    println!("handshake  tickets  server's side, median of {count}");
    for row in &mut rows {
        row.times.sort_unstable();
        let median = row.times[row.times.len() / 2];
        println!(
            "{:<10} {:>7}  {:.1} µs",
            format!("{:?}", row.kind).to_lowercase(),
            row.tickets,
            median.as_secs_f64() * 1e6
        );
    }
    Ok(())
}

/// The time of the server's turns, and the kind of the handshake.
fn handshake(row: &Row) -> Result<(Duration, HandshakeKind)> {
    let mut client = ClientConnection::new(row.client.clone(), ServerName::try_from("localhost")?)?;
    let start = Instant::now();
    let mut server = ServerConnection::new(row.server.clone())?;
    let mut spent = start.elapsed();
    loop {
        let mut flight = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut flight)?;
        }
        let (start, mut answer, mut read) = (Instant::now(), Vec::new(), &flight[..]);
        while !read.is_empty() {
            server.read_tls(&mut read)?;
            server.process_new_packets()?;
        }
        while server.wants_write() {
            server.write_tls(&mut answer)?;
        }
        spent += start.elapsed();
        let mut read = &answer[..];
        while !read.is_empty() {
            client.read_tls(&mut read)?;
            client.process_new_packets()?;
        }
        if flight.is_empty() && answer.is_empty() {
            break;
        }
    }
    ensure!(!server.is_handshaking() && !client.is_handshaking(), "the handshake is not over");
    Ok((spent, server.handshake_kind().unwrap_or(HandshakeKind::Full)))
}
