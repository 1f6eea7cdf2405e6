//! Slow: one subscriber among many never reads. Measured are the effect on the others, and the memory that the server
//! needs for it.
//!
//! In turns, in one run on one server: all read, then one more is subscribed that does not read. Each turn begins with
//! a flood, in which that one falls behind by more than the kernel and its outbox hold. Then publications come at a
//! steady pace, and the time from sending each until each of the others has read it is taken. (The load generator reads
//! them one after the other, so a good part of that time is its own.) In the end the one reads again: it must be told
//! of the gap, get the rest of the history, and reach the top with every offset in order. A run in which it never fell
//! behind is an error.

use std::time::{Duration, Instant};

use super::{RoundError, Sample, Settings, join};
use crate::load::check::{self, Ledger};
use crate::load::native::{self, Heard};
use crate::load::{Handler, Load, LoadError, Outgoing};
use crate::peers::{Role, ServerKind};
use crate::report::Metric;
use crate::server::Server;

const PUBLISHER: usize = 0;

/// The pause between publications: the server's core must be idle most of the time, because a queue would hide the
/// effect.
const PACE: Duration = Duration::from_millis(20);

/// Publications in flight in a flood.
const WINDOW: usize = 8;

pub(super) fn round(kind: ServerKind, server: &Server, settings: &Settings) -> Result<Vec<Sample>, RoundError> {
    let mut load = Load::new(server.addr, kind.dialect(Role::Native), settings.wait)?;
    let readers = settings.subscribers.saturating_sub(1).max(1);
    join::join(&mut load, kind, Role::Native, readers, readers)?;
    let mut audience = Audience::new(readers);
    let mut samples = Vec::new();
    for _ in 0..settings.slow_turns {
        audience.flood(settings.slow_flood, &mut load)?;
        audience.measure(false, server, settings.phase, &mut load, &mut samples)?;

        let before = server.memory_bytes()?;
        audience.add_stuck(&mut load)?;
        audience.flood(settings.slow_flood, &mut load)?;
        let flooded = server.memory_bytes()?;
        audience.measure(true, server, settings.phase, &mut load, &mut samples)?;
        let held = server.memory_bytes()?.max(flooded).saturating_sub(before);
        samples.push(Sample { metric: Metric::StuckMemory, value: held as f64 / 1024.0 });
        audience.release_stuck(&mut load)?;
    }
    Ok(samples)
}

struct Audience {
    ledger: Ledger,
    channel: String,
    /// When each publication was sent, by its number.
    sent: Vec<Instant>,
    /// In µs, of all deliveries of the phase.
    latencies: Vec<u32>,
    stuck: Option<Stuck>,
    scratch: String,
}

/// The subscriber that does not read.
struct Stuck {
    conn: usize,
    subscribed: bool,
    /// The newest offset that it has.
    at: u64,
    gaps: usize,
    /// Whether it is to reach the top now.
    reading: bool,
}

impl Audience {
    fn new(readers: usize) -> Self {
        Self {
            ledger: Ledger::new(readers),
            channel: join::room(0),
            sent: Vec::new(),
            latencies: Vec::new(),
            stuck: None,
            scratch: String::new(),
        }
    }

    fn publish(&mut self, load: &mut Load) -> Result<(), LoadError> {
        let seq = self.ledger.publish();
        self.scratch.clear();
        native::publish(seq, &self.channel, &check::content(seq), &mut self.scratch);
        let mut out = Outgoing::default();
        out.text(&self.scratch);
        self.sent.push(Instant::now());
        load.send(PUBLISHER, &mut out)
    }

    fn flood(&mut self, count: u64, load: &mut Load) -> Result<(), LoadError> {
        let end = self.ledger.published() + count;
        while self.ledger.published() < end {
            while self.ledger.in_flight() < WINDOW && self.ledger.published() < end {
                self.publish(load)?;
            }
            load.turn(self)?;
        }
        load.drive(self)
    }

    fn measure(
        &mut self,
        stuck: bool,
        server: &Server,
        time: Duration,
        load: &mut Load,
        samples: &mut Vec<Sample>,
    ) -> Result<(), RoundError> {
        let (cpu, deliveries) = (server.cpu()?, self.ledger.deliveries());
        let value = self.p99_for(time, load)?;
        samples.push(Sample { metric: Metric::DeliveryP99 { stuck }, value });
        let cpu = server.cpu()?.saturating_sub(cpu);
        let value = cpu.as_secs_f64() * 1e6 / (self.ledger.deliveries() - deliveries) as f64;
        samples.push(Sample { metric: Metric::DeliveryCpu { stuck }, value });
        Ok(())
    }

    /// Publishes at a steady pace for a time. The 99th percentile of all deliveries, in ms.
    fn p99_for(&mut self, time: Duration, load: &mut Load) -> Result<f64, LoadError> {
        self.latencies.clear();
        let started = Instant::now();
        let mut due = started;
        while due < started + time {
            match due.saturating_duration_since(Instant::now()) {
                Duration::ZERO => {
                    self.publish(load)?;
                    due += PACE;
                }
                wait => load.turn_within(wait, self)?,
            }
        }
        load.drive(self)?;
        self.latencies.sort_unstable();
        let index = (self.latencies.len() * 99 / 100).min(self.latencies.len().saturating_sub(1));
        Ok(f64::from(self.latencies.get(index).copied().unwrap_or_default()) / 1000.0)
    }

    fn add_stuck(&mut self, load: &mut Load) -> Result<(), LoadError> {
        let conn = load.open_narrow()?;
        self.stuck = Some(Stuck { conn, subscribed: false, at: 0, gaps: 0, reading: false });
        load.drive(self)?;
        load.mute(conn)
    }

    /// Lets it read until it has reached the top, checks the publications that it got, and ends it.
    fn release_stuck(&mut self, load: &mut Load) -> Result<(), LoadError> {
        let Some(stuck) = &mut self.stuck else { return Ok(()) };
        stuck.reading = true;
        let conn = stuck.conn;
        load.unmute(conn)?;
        load.drive(self)?;
        load.cut(conn);
        match self.stuck.take() {
            Some(Stuck { gaps: 0, .. }) => {
                Err(LoadError::Wrong { conn, what: "was not told of a gap: it never fell behind".to_owned() })
            }
            _ => Ok(()),
        }
    }
}

impl Stuck {
    fn hear(&mut self, payload: &[u8]) -> Result<(), LoadError> {
        match native::read(payload) {
            Heard::Connected { .. } => {}
            Heard::Subscribed { offset, .. } => (self.subscribed, self.at) = (true, offset),
            Heard::Gap { offset } if offset > self.at => (self.at, self.gaps) = (offset, self.gaps + 1),
            Heard::Message(entry) if entry.offset == self.at + 1 => {
                check::numbered(self.conn, entry.offset, entry.content)?;
                self.at = entry.offset;
            }
            _ => return Err(LoadError::unexpected(self.conn, payload)),
        }
        Ok(())
    }
}

impl Handler for Audience {
    fn on_ready(&mut self, _conn: usize, out: &mut Outgoing) -> Result<(), LoadError> {
        self.scratch.clear();
        native::connect(None, Some((&self.channel, None)), &mut self.scratch);
        out.text(&self.scratch);
        Ok(())
    }

    fn on_message(&mut self, conn: usize, payload: &[u8], _out: &mut Outgoing) -> Result<(), LoadError> {
        if let Some(stuck) = self.stuck.as_mut().filter(|stuck| stuck.conn == conn) {
            return stuck.hear(payload);
        }
        match native::read(payload) {
            Heard::Message(entry) => {
                let seq = check::numbered(conn, entry.offset, entry.content)?;
                self.ledger.deliver(conn, entry.content)?;
                let took = self.sent.get(seq as usize).map_or(Duration::ZERO, Instant::elapsed);
                self.latencies.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
                Ok(())
            }
            Heard::Published => Ok(()),
            _ => Err(LoadError::unexpected(conn, payload)),
        }
    }

    fn owed(&self) -> (u64, &'static str) {
        match &self.stuck {
            Some(stuck) if !stuck.subscribed => (1, "subscription"),
            Some(stuck) if stuck.reading => (self.ledger.published() - stuck.at, "publications for the stuck one"),
            _ => (self.ledger.owed() as u64, "deliveries"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stuck_one_must_get_every_offset_or_be_told_of_a_gap() {
        let message = |offset: u64| {
            let mut text = String::new();
            native::message("bench-0", offset, &check::content(offset - 1), &mut text);
            text
        };
        let gap = |offset: u64| format!(r#"{{"type":"gap","channel":"bench-0","epoch":"e","offset":{offset}}}"#);
        let table = [
            ("in order", vec![message(4), message(5)], Some((5, 0))),
            ("a gap that was told", vec![message(4), gap(9), message(10)], Some((10, 1))),
            ("a gap that was not", vec![message(4), message(10)], None),
            ("one again", vec![message(4), message(4)], None),
            ("a gap backwards", vec![message(4), gap(4)], None),
            ("one from before the gap", vec![gap(9), message(9)], None),
        ];
        for (name, said, expected) in table {
            let mut stuck = Stuck { conn: 0, subscribed: true, at: 3, gaps: 0, reading: true };
            let heard = said.iter().try_for_each(|text| stuck.hear(text.as_bytes()));
            assert_eq!(heard.is_ok().then_some((stuck.at, stuck.gaps)), expected, "{name}");
        }
    }
}
