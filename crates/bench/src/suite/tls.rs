//! TLS: idle memory, fan-out and handshakes of a server that speaks TLS itself, of nginx in front of a plain one, and
//! (without handshakes) of the plain one alone.
//!
//! A handshake is: TCP connect, TLS 1.3 with X25519, the first session ticket, close. No request follows. A full one
//! proves the certificate, a resumed one shows a ticket of an earlier one; a server that does the other kind ends the
//! run with an error. Memory and CPU of nginx are those of all its processes and of the server behind it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustls::{ClientConfig, HandshakeKind};
use slab::Slab;

use super::{RoundError, Sample, Settings, fanout, idle, join};
use crate::load::link::{Link, Tickets};
use crate::load::{Load, LoadError};
use crate::peers::{Role, ServerKind};
use crate::report::{Fanout, Metric};
use crate::server::Server;

/// Publications in flight in the fan-out.
const WINDOW: usize = 1;
/// Handshakes before the measured ones: they bring the tickets for the resumed ones.
const WARM_UP: usize = 64;
/// A server that is silent for so long will not finish.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn round(kind: ServerKind, server: &Server, settings: &Settings) -> Result<Vec<Sample>, RoundError> {
    let mut samples = vec![idle_memory(kind, server, settings)?];
    samples.extend(fanout::round(Fanout::Tls, &[WINDOW], kind, server, settings)?);
    if kind != ServerKind::Plain {
        for resumed in [false, true] {
            samples.extend(handshakes(resumed, server, settings)?);
        }
    }
    Ok(samples)
}

/// For a server of [`Role::Tls`].
pub(super) fn load(kind: ServerKind, server: &Server, settings: &Settings) -> Result<Load, LoadError> {
    let load = Load::new(server.addr, kind.dialect(Role::Tls), settings.wait)?;
    if kind == ServerKind::Plain {
        return Ok(load);
    }
    Ok(load.over_tls(Tickets::new(false).client().map_err(LoadError::io("set up TLS"))?))
}

fn idle_memory(kind: ServerKind, server: &Server, settings: &Settings) -> Result<Sample, RoundError> {
    let (before, connections) = (server.memory_bytes()?, settings.tls_connections);
    let mut load = load(kind, server, settings)?;
    join::join(&mut load, kind, Role::Tls, connections, connections)?;
    let bytes = idle::quiet(&mut load, server, settings)?.saturating_sub(before);
    Ok(Sample { metric: Metric::TlsMemory, value: bytes as f64 / connections as f64 })
}

fn handshakes(resumed: bool, server: &Server, settings: &Settings) -> Result<[Sample; 2], RoundError> {
    let tickets = Tickets::new(resumed);
    let mut callers = Callers {
        poll: Poll::new().map_err(LoadError::io("create a poll"))?,
        links: Slab::new(),
        config: tickets.client().map_err(LoadError::io("set up TLS"))?,
        tickets,
        addr: server.addr,
        in_flight: settings.connects_in_flight,
        expected: None,
        done: 0,
    };
    callers.make(WARM_UP)?;
    callers.expected = Some(if resumed { HandshakeKind::Resumed } else { HandshakeKind::Full });
    let (cpu, started, count) = (server.cpu()?, Instant::now(), settings.handshakes);
    callers.make(count)?;
    let took = started.elapsed();
    let cpu = server.cpu()?.saturating_sub(cpu);
    Ok([
        Sample { metric: Metric::HandshakeRate { resumed }, value: count as f64 / took.as_secs_f64() },
        Sample { metric: Metric::HandshakeCpu { resumed }, value: cpu.as_secs_f64() * 1e6 / count as f64 },
    ])
}

struct Callers {
    poll: Poll,
    links: Slab<Link>,
    config: Arc<ClientConfig>,
    tickets: Tickets,
    addr: SocketAddr,
    in_flight: usize,
    /// The kind of each handshake; in the warm-up any.
    expected: Option<HandshakeKind>,
    done: usize,
}

impl Callers {
    fn make(&mut self, count: usize) -> Result<(), LoadError> {
        let mut events = Events::with_capacity(256);
        let (mut opened, mut last_progress) = (0, Instant::now());
        self.done = 0;
        while self.done < count {
            while opened < count && self.links.len() < self.in_flight {
                self.open()?;
                opened += 1;
            }
            match self.poll.poll(&mut events, Some(Duration::from_millis(100))) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result.map_err(LoadError::io("poll"))?,
            }
            if !events.is_empty() {
                last_progress = Instant::now();
            } else if last_progress.elapsed() > PATIENCE {
                let owed = (count - self.done) as u64;
                return Err(LoadError::Stalled { waited: last_progress.elapsed(), owed, what: "handshakes" });
            }
            for event in &events {
                self.go_on(event.token().0)?;
            }
        }
        Ok(())
    }

    fn open(&mut self) -> Result<(), LoadError> {
        let stream = TcpStream::connect(self.addr).map_err(LoadError::io("connect"))?;
        let mut link = Link::new(stream, Some(&self.config)).map_err(LoadError::io("begin TLS"))?;
        let entry = self.links.vacant_entry();
        self.poll
            .registry()
            .register(link.socket(), Token(entry.key()), Interest::READABLE | Interest::WRITABLE)
            .map_err(LoadError::io("register a connection"))?;
        entry.insert(link);
        Ok(())
    }

    fn go_on(&mut self, id: usize) -> Result<(), LoadError> {
        // A connection that was closed earlier in this turn may still have an event.
        let Some(link) = self.links.get_mut(id) else { return Ok(()) };
        if let Some(source) = link.socket().take_error().map_err(LoadError::io("ask a socket"))? {
            return Err(LoadError::Io { doing: "connect", source });
        }
        let received = self.tickets.received();
        let read = link.flush().and_then(|()| link.read(&mut [0; 256]));
        if self.tickets.received() > received {
            let kind = link.session().and_then(|session| session.handshake_kind());
            if self.expected.is_some() && kind != self.expected {
                let what = format!("made another handshake than {:?}: {kind:?}", self.expected);
                return Err(LoadError::Wrong { conn: id, what });
            }
            self.links.remove(id);
            self.done += 1;
            return Ok(());
        }
        match read {
            Err(error) if [io::ErrorKind::WouldBlock, io::ErrorKind::NotConnected].contains(&error.kind()) => Ok(()),
            Err(source) => Err(LoadError::Io { doing: "do the TLS handshake", source }),
            Ok(_) => Err(LoadError::Closed { conn: id }),
        }
    }
}
