//! The suites: the steps of a round, and the order of the rounds.
//!
//! A round starts one server, measures it and ends it, so no state of a server, and no luck with memory, carries over.
//! The servers take turns round by round, and the first one changes with each round.

mod channels;
mod compression;
mod connect;
mod echo;
mod fanout;
mod flood;
mod idle;
mod jitter;
mod join;
mod slow;
mod socketio_polls;
mod storm;
mod stream_idle;
mod subscribed;
#[cfg(test)]
mod tests;
mod tls;

use std::time::Duration;

use thiserror::Error;

pub use self::jitter::JitterSettings;

use crate::load::flood::FloodSettings;
use crate::load::transport::{Over, Transport};
use crate::load::{LoadError, Wait};
use crate::peers::{Absent, Role, Roster, ServerKind};
use crate::report::{Fanout, Metric, Report};
use crate::server::{Server, ServerError};

/// The measurement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Suite {
    /// One publisher, everybody in one room; one phase for each number of publications in flight.
    Fanout {
        /// The protocol, and the number of shards.
        of: Fanout,
        /// Publications in flight.
        windows: Vec<usize>,
    },
    /// Each connection has one message in flight.
    Echo,
    /// Connect, upgrade, close.
    Connect,
    /// Memory of connections that have joined and are silent.
    Idle,
    /// The same by Socket.IO, in one room.
    SocketIoIdle,
    /// Requests of Socket.IO's clients that poll.
    SocketIoPolls,
    /// The same by the native protocol, also after publications to all.
    NativeIdle,
    /// One subscriber does not read.
    Slow,
    /// All are cut off, and come back at once.
    Storm,
    /// Memory of channels with one subscriber.
    Channels,
    /// Memory of silent streams, or of sessions whose poll waits.
    StreamIdle {
        /// Which of them.
        by: Transport,
        /// On which connections.
        over: Over,
    },
    /// Memory, fan-out and handshakes over TLS.
    Tls,
    /// Fan-out of JSON with and without permessage-deflate.
    Compression,
    /// Good clients beside bad ones.
    Flood,
    /// Clients go offline at random and come back.
    Jitter {
        /// By which transport.
        by: Transport,
    },
}

/// The extent of a measurement.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The servers that take part.
    pub servers: Vec<ServerKind>,
    /// Rounds of the suites that have no number of their own.
    pub rounds: usize,
    /// Rounds of the suites about memory, and of `slow` and `storm`: they take long and vary little.
    pub idle_rounds: usize,
    /// Members of the room in `fanout`, the publisher included, and in `slow`, the one that does not read included.
    pub subscribers: usize,
    /// How long each measured phase of `fanout`, `echo` and `slow` publishes.
    pub phase: Duration,
    /// Connections in `echo`.
    pub echo_connections: usize,
    /// Connections opened and closed by a round of `connect`.
    pub connects: usize,
    /// How many of them are under way together.
    pub connects_in_flight: usize,
    /// Connections in `idle` and `native-idle`, and good ones in `flood`.
    pub idle_connections: usize,
    /// Members of each of their rooms.
    pub idle_room: usize,
    /// How long they stay silent before the last reading.
    pub idle_quiet: Duration,
    /// Publications that each of them gets in `native-idle`.
    pub idle_publications: usize,
    /// How often `slow` measures without and with the subscriber that does not read.
    pub slow_turns: usize,
    /// Publications by which that subscriber falls behind; far more than the history holds.
    pub slow_flood: u64,
    /// Clients in `storm`.
    pub storm_clients: usize,
    /// Publications that each of them misses; fewer than the history holds.
    pub storm_missed: u64,
    /// Channels in `channels`.
    pub channels: usize,
    /// Connections of which `tls` takes the memory.
    pub tls_connections: usize,
    /// Handshakes of each kind in a round of `tls`.
    pub handshakes: usize,
    /// The bad clients of `flood`.
    pub flood: FloodSettings,
    /// How long each part of `flood` publishes.
    pub flood_phase: Duration,
    /// The extent of `jitter`.
    pub jitter: JitterSettings,
    /// How the load generator waits.
    pub wait: Wait,
    /// The server's core.
    pub server_core: usize,
    /// The load generator's core. A server that is measured on two cores shares it.
    pub load_core: usize,
}

/// One value of one round.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The metric.
    pub metric: Metric,
    /// In the metric's unit.
    pub value: f64,
}

/// The reason of an early end of the measurement.
#[derive(Debug, Error)]
pub enum SuiteError {
    /// A program is missing.
    #[error(transparent)]
    Absent(#[from] Absent),
    /// A server could not be started or watched.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// A server misbehaved, so nothing can be compared.
    #[error("{suite}, round {round}, {kind}: the run is not valid")]
    Round {
        /// In which suite.
        suite: &'static str,
        /// In which round, from 1.
        round: usize,
        /// Which server.
        kind: ServerKind,
        /// The fault.
        source: Box<RoundError>,
    },
}

/// The fault of a round.
#[derive(Debug, Error)]
pub enum RoundError {
    /// With the traffic.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// With the process.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The process ended in the middle, which explains the other fault.
    #[error("the server ended: {how}")]
    Ended {
        /// Its exit status and the end of its output.
        how: String,
    },
}

impl Fanout {
    pub(crate) fn role(self) -> Role {
        match self {
            Self::Chat => Role::Chat,
            Self::Native | Self::Shards | Self::Sse => Role::Native,
            Self::Tls => Role::Tls,
            Self::SocketIo => Role::Rooms,
        }
    }
}

impl Suite {
    /// As on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Fanout { of: Fanout::Chat, .. } => "fanout",
            Self::Fanout { of: Fanout::Native, .. } => "native-fanout",
            Self::Fanout { of: Fanout::Shards, .. } => "shards",
            Self::Fanout { of: Fanout::Sse, .. } => "sse-fanout",
            Self::Fanout { of: Fanout::Tls, .. } | Self::Tls => "tls",
            Self::Fanout { of: Fanout::SocketIo, .. } | Self::SocketIoIdle | Self::SocketIoPolls => "socketio",
            Self::Compression => "compression",
            Self::Echo => "echo",
            Self::Connect => "connect",
            Self::Idle => "idle",
            Self::NativeIdle => "native-idle",
            Self::Slow => "slow",
            Self::Storm => "storm",
            Self::Channels => "channels",
            Self::StreamIdle { .. } => "stream-idle",
            Self::Flood => "flood",
            Self::Jitter { .. } => "jitter",
        }
    }

    /// The role of its servers.
    pub fn role(&self) -> Role {
        match self {
            Self::Fanout { of, .. } => of.role(),
            Self::Echo => Role::Echo,
            Self::Connect | Self::Idle => Role::Chat,
            Self::NativeIdle | Self::Slow | Self::Storm | Self::Channels | Self::StreamIdle { .. } => Role::Native,
            Self::Flood => Role::Guarded,
            Self::Jitter { .. } => Role::Api,
            Self::Tls => Role::Tls,
            Self::SocketIoIdle | Self::SocketIoPolls => Role::Rooms,
            Self::Compression => Role::Deflate,
        }
    }

    /// The chosen servers that take part. Only Fanfare is measured for features that no peer has (recovery, pages for
    /// slow readers).
    pub fn servers(&self, asked: &[ServerKind]) -> Vec<ServerKind> {
        let asked = asked.iter().copied();
        match self {
            Self::Fanout { of: Fanout::Shards, .. } => asked
                .filter(|&kind| kind == ServerKind::Fanfare)
                .flat_map(|kind| [kind, ServerKind::FanfareTwo])
                .collect(),
            Self::Fanout { of: Fanout::Native, .. } => asked.filter(|kind| kind.speaks_native()).collect(),
            Self::Fanout { of: Fanout::Chat, .. } | Self::Echo | Self::Connect | Self::Idle => {
                asked.filter(|kind| kind.serves_chat()).collect()
            }
            Self::Tls | Self::Fanout { of: Fanout::Tls, .. } => asked
                .filter(|&kind| matches!(kind, ServerKind::Fanfare | ServerKind::Nginx))
                .flat_map(|kind| match kind {
                    ServerKind::Fanfare => vec![kind, ServerKind::Plain],
                    _ => vec![kind],
                })
                .collect(),
            Self::Fanout { of: Fanout::SocketIo, .. }
            | Self::SocketIoIdle
            | Self::SocketIoPolls
            | Self::Jitter { by: Transport::SocketIo } => {
                asked.filter(|&kind| matches!(kind, ServerKind::Fanfare | ServerKind::SocketIo)).collect()
            }
            Self::Compression => {
                asked.filter(|&kind| matches!(kind, ServerKind::Fanfare | ServerKind::Bun | ServerKind::Ws)).collect()
            }
            // Centrifugo's own protocol is over a WebSocket.
            Self::Jitter { by: Transport::WebSocket } => {
                asked.filter(|&kind| matches!(kind, ServerKind::Fanfare | ServerKind::Centrifugo)).collect()
            }
            Self::Fanout { of: Fanout::Sse, .. }
            | Self::NativeIdle
            | Self::Slow
            | Self::Storm
            | Self::Channels
            | Self::StreamIdle { .. }
            | Self::Flood
            | Self::Jitter { .. } => asked.filter(|&kind| kind == ServerKind::Fanfare).collect(),
        }
    }

    fn rounds(&self, settings: &Settings) -> usize {
        match self {
            Self::Fanout { .. } | Self::Echo | Self::Connect | Self::Compression | Self::SocketIoPolls => {
                settings.rounds
            }
            Self::Idle
            | Self::SocketIoIdle
            | Self::NativeIdle
            | Self::Slow
            | Self::Storm
            | Self::Channels
            | Self::StreamIdle { .. }
            | Self::Tls
            | Self::Flood
            | Self::Jitter { .. } => settings.idle_rounds,
        }
    }

    /// Where the server runs: alone on its core, but two shards against one are compared on the same two.
    fn cores(&self, settings: &Settings) -> Vec<usize> {
        match self {
            Self::Fanout { of: Fanout::Shards, .. } => vec![settings.server_core, settings.load_core],
            _ => vec![settings.server_core],
        }
    }

    fn round(&self, kind: ServerKind, server: &Server, settings: &Settings) -> Result<Vec<Sample>, RoundError> {
        match self {
            Self::Fanout { of: Fanout::Sse, windows } => {
                // The WebSockets first, in another channel of the same server.
                let mut samples = fanout::round(Fanout::Native, windows, kind, server, settings)?;
                samples.extend(fanout::round(Fanout::Sse, windows, kind, server, settings)?);
                Ok(samples)
            }
            Self::Fanout { of: Fanout::SocketIo, windows } if kind == ServerKind::Fanfare => {
                // Our own protocol first, in a channel of the same server.
                let mut samples = fanout::round(Fanout::Native, windows, kind, server, settings)?;
                samples.extend(fanout::round(Fanout::SocketIo, windows, kind, server, settings)?);
                Ok(samples)
            }
            Self::Fanout { of, windows } => fanout::round(*of, windows, kind, server, settings),
            Self::Echo => echo::round(kind, server, settings),
            Self::Connect => connect::round(kind, server, settings),
            Self::Idle => idle::round(kind, server, settings),
            Self::SocketIoIdle => idle::rooms(kind, server, settings),
            Self::SocketIoPolls => socketio_polls::round(kind, server, settings),
            Self::NativeIdle => subscribed::round(kind, server, settings),
            Self::Slow => slow::round(kind, server, settings),
            Self::Storm => storm::round(kind, server, settings),
            Self::Channels => channels::round(kind, server, settings),
            Self::StreamIdle { by, over } => stream_idle::round((*by, *over), kind, server, settings),
            Self::Tls => tls::round(kind, server, settings),
            Self::Compression => compression::round(kind, server, settings),
            Self::Flood => flood::round(kind, server, settings),
            Self::Jitter { by } => jitter::round(*by, kind, server, settings),
        }
    }
}

/// Runs the suites one after the other into `report`, which keeps the samples of valid rounds if a later round is not
/// valid. `progress` gets each sample as it comes.
pub fn run(
    suites: &[Suite],
    roster: &Roster,
    settings: &Settings,
    report: &mut Report,
    mut progress: impl FnMut(&Suite, usize, ServerKind, &[Sample]),
) -> Result<(), SuiteError> {
    for suite in suites {
        roster.check(&suite.servers(&settings.servers), suite.role())?;
    }
    for suite in suites {
        let servers = suite.servers(&settings.servers);
        for round in 0..suite.rounds(settings) {
            for turn in 0..servers.len() {
                let kind = servers[(turn + round) % servers.len()];
                let addr = Server::free_addr()?;
                let launch = roster.launch(kind, suite.role(), addr)?;
                let mut server = Server::start(&launch, addr, &suite.cores(settings))?;
                let samples = suite.round(kind, &server, settings).map_err(|error| {
                    let source = server.ended().map_or(error, |how| RoundError::Ended { how });
                    SuiteError::Round { suite: suite.name(), round: round + 1, kind, source: Box::new(source) }
                })?;
                progress(suite, round + 1, kind, &samples);
                report.add(kind, &samples);
            }
        }
    }
    Ok(())
}
