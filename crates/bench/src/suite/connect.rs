//! Connects: TCP connect, WebSocket upgrade (in Socket.IO also its own two greetings), closing handshake, end of
//! stream.
//!
//! A fixed number of them, some under way together. The measured values are whole connections per second with the
//! server on one core, and its CPU time for each. The server must end the stream after the closing handshake, as RFC
//! 6455 §7.1.1 demands.

use std::time::Instant;

use super::{RoundError, Sample, Settings};
use crate::load::{Handler, Load, LoadError, Outgoing};
use crate::peers::{Role, ServerKind};
use crate::report::Metric;
use crate::server::Server;

pub(super) fn round(kind: ServerKind, server: &Server, settings: &Settings) -> Result<Vec<Sample>, RoundError> {
    let mut load = Load::new(server.addr, kind.dialect(Role::Chat), settings.wait)?;
    // A quarter more before the clock starts, for just-in-time compilers.
    connect(&mut load, settings.connects / 4, settings.connects_in_flight)?;
    let (cpu, started) = (server.cpu()?, Instant::now());
    connect(&mut load, settings.connects, settings.connects_in_flight)?;
    let took = started.elapsed();
    let cpu = server.cpu()?.saturating_sub(cpu);
    let connects = settings.connects as f64;
    Ok(vec![
        Sample { metric: Metric::ConnectRate, value: connects / took.as_secs_f64() },
        Sample { metric: Metric::ConnectCpu, value: cpu.as_secs_f64() * 1e6 / connects },
    ])
}

fn connect(load: &mut Load, connects: usize, in_flight: usize) -> Result<(), LoadError> {
    let mut visitors = Visitors { ready: 0, closed: 0, of: connects };
    let mut opened = 0;
    while visitors.owed().0 > 0 {
        while opened < connects && opened - visitors.closed < in_flight {
            load.open()?;
            opened += 1;
        }
        load.turn(&mut visitors)?;
    }
    Ok(())
}

struct Visitors {
    ready: usize,
    closed: usize,
    of: usize,
}

impl Handler for Visitors {
    fn on_ready(&mut self, _conn: usize, out: &mut Outgoing) -> Result<(), LoadError> {
        self.ready += 1;
        out.close();
        Ok(())
    }

    fn on_message(&mut self, _conn: usize, _payload: &[u8], _out: &mut Outgoing) -> Result<(), LoadError> {
        Ok(())
    }

    fn on_closed(&mut self, conn: usize) -> Result<(), LoadError> {
        self.closed += 1;
        if self.closed > self.ready {
            return Err(LoadError::Closed { conn }); // one was closed before it was ready
        }
        Ok(())
    }

    fn owed(&self) -> (u64, &'static str) {
        ((self.of - self.closed) as u64, "closed connections")
    }
}
