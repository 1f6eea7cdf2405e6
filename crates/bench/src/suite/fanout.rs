//! Fan-out: one member of a room publishes, everybody in it, the publisher too, gets it.
//!
//! `window` publications are in flight: when everybody has one, the next is sent. With one in flight each delivery is a
//! write of its own; with eight a server may write several at once. Measured is the server's CPU time from the first
//! publication to rest after the last delivery, divided by the deliveries; each delivery is checked by the [`Ledger`].

use std::time::{Duration, Instant};

use super::{RoundError, Sample, Settings, join};
use crate::load::check::{self, Ledger};
use crate::load::dialect::{Dialect, Said};
use crate::load::{Handler, Load, LoadError, Outgoing};
use crate::peers::Kind;
use crate::report::Metric;
use crate::server::Server;

const PUBLISHER: usize = 0;

/// Before each measured phase, for a just-in-time compiler and for everybody's caches.
const WARM_UP: Duration = Duration::from_millis(300);

pub(super) fn round(
    windows: &[usize],
    kind: Kind,
    server: &Server,
    settings: &Settings,
) -> Result<Vec<Sample>, RoundError> {
    let mut load = Load::new(server.addr, kind.dialect(), settings.wait)?;
    join::join(&mut load, kind, settings.subscribers, settings.subscribers)?;
    let mut room = Room {
        ledger: Ledger::new(settings.subscribers),
        dialect: kind.dialect(),
        user: join::user(PUBLISHER),
        scratch: String::new(),
        outgoing: Outgoing::default(),
    };
    let mut samples = Vec::new();
    for &window in windows {
        room.publish_for(WARM_UP, window, &mut load)?;
        let (cpu, deliveries, started) = (server.cpu()?, room.ledger.deliveries(), Instant::now());
        room.publish_for(settings.phase, window, &mut load)?;
        let took = started.elapsed();
        let deliveries = (room.ledger.deliveries() - deliveries) as f64;
        let cpu = server.cpu()?.saturating_sub(cpu);
        samples.push(Sample { metric: Metric::FanoutCpu { window }, value: cpu.as_secs_f64() * 1e6 / deliveries });
        samples.push(Sample { metric: Metric::FanoutRate { window }, value: deliveries / took.as_secs_f64() });
    }
    Ok(samples)
}

struct Room {
    ledger: Ledger,
    dialect: Dialect,
    user: String,
    scratch: String,
    outgoing: Outgoing,
}

impl Room {
    /// Keeps `window` publications in flight for a time, then waits until everybody has the last.
    fn publish_for(&mut self, time: Duration, window: usize, load: &mut Load) -> Result<(), LoadError> {
        let started = Instant::now();
        while started.elapsed() < time {
            // What completed in one turn is replaced by one write, for every server alike.
            while self.ledger.in_flight() < window {
                let content = check::content(self.ledger.publish());
                self.scratch.clear();
                self.dialect.message(&self.user, &content, &mut self.scratch);
                self.outgoing.text(&self.scratch);
            }
            let mut outgoing = std::mem::take(&mut self.outgoing);
            load.send(PUBLISHER, &mut outgoing)?;
            self.outgoing = outgoing;
            load.turn(self)?;
        }
        load.drive(self)
    }
}

impl Handler for Room {
    fn on_ready(&mut self, _conn: usize, _out: &mut Outgoing) -> Result<(), LoadError> {
        Ok(()) // all are
    }

    fn on_message(&mut self, conn: usize, payload: &[u8], _out: &mut Outgoing) -> Result<(), LoadError> {
        if let Said::Message(content) = self.dialect.read(payload) {
            self.ledger.deliver(conn, content)?;
        }
        Ok(())
    }

    fn owed(&self) -> (u64, &'static str) {
        (self.ledger.owed() as u64, "deliveries")
    }
}
