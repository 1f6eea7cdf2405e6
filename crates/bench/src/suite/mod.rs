//! The suites: what a round does, and the order of the rounds.
//!
//! A round starts one server, measures it and ends it, so no server's state or luck with memory carries over. Round by
//! round the servers take turns, and who begins moves by one.

mod connect;
mod echo;
mod fanout;
mod idle;
mod join;

use std::time::Duration;

use thiserror::Error;

use crate::load::{LoadError, Wait};
use crate::peers::{Absent, Kind, Role, Roster};
use crate::report::{Metric, Report};
use crate::server::{Server, ServerError};

/// What to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Suite {
    /// One publisher, everybody in one room; one phase for each number of publications in flight.
    Fanout {
        /// Publications in flight.
        windows: Vec<usize>,
    },
    /// Each connection has one message in flight.
    Echo,
    /// Connect, upgrade, close.
    Connect,
    /// Memory of connections that have joined and are silent.
    Idle,
}

/// How much of it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Who takes part.
    pub servers: Vec<Kind>,
    /// Rounds of every suite but `idle`.
    pub rounds: usize,
    /// Rounds of `idle`, which takes long and varies little.
    pub idle_rounds: usize,
    /// Members of the room in `fanout`, the publisher included.
    pub subscribers: usize,
    /// How long each measured phase of `fanout` and `echo` publishes.
    pub phase: Duration,
    /// Connections in `echo`.
    pub echo_connections: usize,
    /// Connections opened and closed by a round of `connect`.
    pub connects: usize,
    /// How many of them are under way together.
    pub connects_in_flight: usize,
    /// Connections in `idle`.
    pub idle_connections: usize,
    /// Members of each of their rooms.
    pub idle_room: usize,
    /// How long they stay silent before the last reading.
    pub idle_quiet: Duration,
    /// How the load generator waits.
    pub wait: Wait,
    /// The server's core.
    pub server_core: usize,
}

/// One value of one round.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Of what.
    pub metric: Metric,
    /// In the metric's unit.
    pub value: f64,
}

/// Why the measurement ended early.
#[derive(Debug, Error)]
pub enum SuiteError {
    /// A program is missing.
    #[error(transparent)]
    Absent(#[from] Absent),
    /// A server could not be started or watched.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// A server did not do what it should, so there is nothing to compare.
    #[error("{suite}, round {round}, {kind}: the run is not valid")]
    Round {
        /// In which suite.
        suite: &'static str,
        /// In which round, from 1.
        round: usize,
        /// Which server.
        kind: Kind,
        /// What went wrong.
        source: Box<RoundError>,
    },
}

/// What went wrong in a round.
#[derive(Debug, Error)]
pub enum RoundError {
    /// With the traffic.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// With the process.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The process ended in the middle, which explains whatever was seen first.
    #[error("the server ended: {how}")]
    Ended {
        /// Its exit status and the end of its output.
        how: String,
    },
}

impl Suite {
    /// As on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Fanout { .. } => "fanout",
            Self::Echo => "echo",
            Self::Connect => "connect",
            Self::Idle => "idle",
        }
    }

    /// What its servers have to be.
    pub fn role(&self) -> Role {
        match self {
            Self::Echo => Role::Echo,
            _ => Role::Chat,
        }
    }

    fn rounds(&self, settings: &Settings) -> usize {
        match self {
            Self::Idle => settings.idle_rounds,
            _ => settings.rounds,
        }
    }

    fn round(&self, kind: Kind, server: &Server, settings: &Settings) -> Result<Vec<Sample>, RoundError> {
        match self {
            Self::Fanout { windows } => fanout::round(windows, kind, server, settings),
            Self::Echo => echo::round(kind, server, settings),
            Self::Connect => connect::round(kind, server, settings),
            Self::Idle => idle::round(kind, server, settings),
        }
    }
}

/// Runs the suites one after the other into `report`, which keeps what was measured if a later round is not valid.
/// `progress` is told each sample as it comes.
pub fn run(
    suites: &[Suite],
    roster: &Roster,
    settings: &Settings,
    report: &mut Report,
    mut progress: impl FnMut(&Suite, usize, Kind, &[Sample]),
) -> Result<(), SuiteError> {
    let roles: Vec<Role> = suites.iter().map(Suite::role).collect();
    roster.check(&settings.servers, &roles)?;
    for suite in suites {
        for round in 0..suite.rounds(settings) {
            for turn in 0..settings.servers.len() {
                let kind = settings.servers[(turn + round) % settings.servers.len()];
                let addr = Server::free_addr()?;
                let launch = roster.launch(kind, suite.role(), addr)?;
                let mut server = Server::start(&launch, addr, settings.server_core)?;
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
