//! Flood: good clients, first alone and then beside clients that misbehave in ten ways at once.
//!
//! The good ones are in rooms of fifty. Every few milliseconds one of them publishes to its room, and the time from
//! sending until each member of the room has read it is taken: a good one that misses, repeats or reorders a
//! publication, or is closed, ends the run with an error. Several times a second a newcomer connects, subscribes and
//! leaves; the time until it is subscribed is taken too. The bad ones (`load::flood`) come from a thread of their own
//! on the load generator's core, with a low priority. The server has its default limits, but those of addresses do not
//! apply: a loopback address has none. So this is a flood from many addresses.
//!
//! Reported are the percentiles of both times without and with the flood, the same as the server itself measures it
//! (from a publication's arrival until it is written), the server's memory before, at its most and
//! some seconds after the flood, its CPU, and what the server answered to the bad ones.

mod scrape;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use self::scrape::Buckets;
use super::{RoundError, Sample, Settings, join};
use crate::load::check;
use crate::load::flood::{self, FloodSettings, Tally};
use crate::load::native::{self, Heard};
use crate::load::{Handler, Load, LoadError, Outgoing};
use crate::peers::{Role, ServerKind};
use crate::report::{FloodPart, Metric};
use crate::server::Server;
use crate::stats;

/// The pause between two publications, each to another room.
const PACE: Duration = Duration::from_millis(5);
/// The pause between two newcomers.
const NEWCOMERS: Duration = Duration::from_millis(200);
/// The pause between two looks at the server's memory, which cost it a few milliseconds.
const MEMORY: Duration = Duration::from_secs(1);

pub(super) fn round(kind: ServerKind, server: &Server, settings: &Settings) -> Result<Vec<Sample>, RoundError> {
    let Settings { flood, flood_phase, .. } = settings;
    let empty = server.memory_bytes()?;
    let mut load = Load::new(server.addr, kind.dialect(Role::Guarded), settings.wait)?;
    join::join(&mut load, kind, Role::Guarded, settings.idle_connections, settings.idle_room)?;
    let mut good = Good::new(settings.idle_connections, settings.idle_room);

    let mut samples = good.phase(FloodPart::Before, server, *flood_phase, &mut load)?;
    let (tally, during) = beside(flood, server, || good.phase(FloodPart::During, server, *flood_phase, &mut load))?;
    samples.extend(during?);
    good.rest(settings.idle_quiet, &mut load)?;
    samples.extend(good.phase(FloodPart::After, server, *flood_phase, &mut load)?);

    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    samples.push(Sample { metric: Metric::FloodMemory { part: FloodPart::Empty }, value: mib(empty) });
    let seconds = flood_phase.as_secs_f64();
    samples.extend(tally.acts.iter().map(|(&bad, &acts)| {
        let metric = Metric::FloodActs { bad };
        Sample { metric, value: acts as f64 / seconds }
    }));
    samples.extend(tally.ends.iter().map(|(&(bad, end), &count)| {
        let metric = Metric::FloodEnds { bad, end };
        Sample { metric, value: count as f64 }
    }));
    Ok(samples)
}

/// Does `work` beside a flood, which has begun before and ends after it.
fn beside<T>(settings: &FloodSettings, server: &Server, work: impl FnOnce() -> T) -> Result<(Tally, T), LoadError> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let flooding = scope.spawn(|| flood::run(server.addr, settings, &stop));
        let done = work();
        stop.store(true, Ordering::Relaxed);
        let tally = flooding.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok((tally, done))
    })
}

struct Good {
    room: usize,
    /// By connection: how many publications of its room it has.
    have: Vec<u64>,
    /// By room: when each publication was sent.
    sent: Vec<Vec<Instant>>,
    published: u64,
    answered: u64,
    due: u64,
    delivered: u64,
    /// In µs.
    delays: Vec<u32>,
    welcomes: Vec<u32>,
    /// Newcomers that are on their way, and when they began.
    newcomers: BTreeMap<usize, Instant>,
    /// Those that are subscribed, or were closed.
    arrived: Vec<usize>,
    refused: u64,
    scratch: String,
}

impl Good {
    fn new(clients: usize, room: usize) -> Self {
        Self {
            room,
            have: vec![0; clients],
            sent: vec![Vec::new(); clients.div_ceil(room)],
            published: 0,
            answered: 0,
            due: 0,
            delivered: 0,
            delays: Vec::new(),
            welcomes: Vec::new(),
            newcomers: BTreeMap::new(),
            arrived: Vec::new(),
            refused: 0,
            scratch: String::new(),
        }
    }

    fn members(&self, room: usize) -> usize {
        self.room.min(self.have.len() - room * self.room)
    }

    /// Publishes at a steady pace for a time, and waits for all deliveries.
    fn phase(
        &mut self,
        part: FloodPart,
        server: &Server,
        time: Duration,
        load: &mut Load,
    ) -> Result<Vec<Sample>, RoundError> {
        self.delays.clear();
        self.welcomes.clear();
        self.refused = 0;
        let buckets = |load: &Load| Buckets::of(load.addr()).map_err(LoadError::io("ask for the metrics"));
        let earlier = buckets(load)?;
        let (cpu, started) = (server.cpu_now()?, Instant::now());
        let (mut publish_at, mut newcomer_at, mut memory_at) = (started, started, started);
        let (mut most, mut least) = (0, u64::MAX);
        while started.elapsed() < time {
            let now = Instant::now();
            if now >= publish_at {
                self.publish(load)?;
                publish_at += PACE;
            }
            if now >= newcomer_at {
                let conn = load.open()?;
                self.newcomers.insert(conn, now);
                newcomer_at += NEWCOMERS;
            }
            if now >= memory_at {
                let bytes = server.memory_bytes()?;
                (most, least) = (bytes.max(most), bytes.min(least));
                memory_at = now + MEMORY;
            }
            load.turn_within(publish_at.saturating_duration_since(Instant::now()), self)?;
            self.arrived.drain(..).for_each(|conn| load.cut(conn));
        }
        let cpu = server.cpu_now()?.saturating_sub(cpu).as_secs_f64() / started.elapsed().as_secs_f64() * 100.0;
        load.drive(self)?;
        self.arrived.drain(..).for_each(|conn| load.cut(conn));

        let bytes = if part == FloodPart::During { most } else { least };
        let mib = bytes as f64 / f64::from(1 << 20);
        let mut samples = vec![
            Sample { metric: Metric::FloodMemory { part }, value: mib },
            Sample { metric: Metric::FloodCpu { part }, value: cpu },
            Sample { metric: Metric::FloodRefused { part }, value: self.refused as f64 },
        ];
        let now = buckets(load)?;
        for percent in [50, 99] {
            let micros = now.percentile_since(&earlier, percent);
            let metric = Metric::FloodServer { part, percent };
            samples.extend(micros.map(|micros| Sample { metric, value: micros as f64 / 1e3 }));
        }
        for percent in [50, 99, 100] {
            let times = [
                (Metric::FloodDelay { part, percent }, &mut self.delays),
                (Metric::FloodWelcome { part, percent }, &mut self.welcomes),
            ];
            for (metric, micros) in times {
                let micros = stats::percentile(micros, percent);
                samples.extend(micros.map(|micros| Sample { metric, value: f64::from(micros) / 1e3 }));
            }
        }
        Ok(samples)
    }

    /// Answers pings for a while.
    fn rest(&mut self, time: Duration, load: &mut Load) -> Result<(), LoadError> {
        let started = Instant::now();
        while started.elapsed() < time {
            load.turn(self)?;
        }
        Ok(())
    }

    /// The first member of the next room publishes.
    fn publish(&mut self, load: &mut Load) -> Result<(), LoadError> {
        let room = (self.published % self.sent.len() as u64) as usize;
        let seq = self.sent[room].len() as u64;
        self.scratch.clear();
        native::publish(seq, &join::room(room), &check::content(seq), &mut self.scratch);
        let mut out = Outgoing::default();
        out.text(&self.scratch);
        self.sent[room].push(Instant::now());
        self.published += 1;
        self.due += self.members(room) as u64;
        load.send(room * self.room, &mut out)
    }

    /// True if it is a newcomer's.
    fn welcome(&mut self, conn: usize, payload: &[u8]) -> Result<bool, LoadError> {
        let Some(&began) = self.newcomers.get(&conn) else { return Ok(false) };
        match native::read(payload) {
            Heard::Subscribed { .. } => {
                self.newcomers.remove(&conn);
                self.welcomes.push(micros(began));
                self.arrived.push(conn);
            }
            Heard::Connected { .. } | Heard::Other => {}
            Heard::Refused => self.refused += 1,
            _ => return Err(LoadError::unexpected(conn, payload)),
        }
        Ok(true)
    }
}

fn micros(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX)
}

impl Handler for Good {
    fn on_ready(&mut self, _conn: usize, out: &mut Outgoing) -> Result<(), LoadError> {
        self.scratch.clear();
        native::connect(None, Some(("newcomer", None)), &mut self.scratch);
        out.text(&self.scratch);
        Ok(())
    }

    fn on_message(&mut self, conn: usize, payload: &[u8], _out: &mut Outgoing) -> Result<(), LoadError> {
        if self.welcome(conn, payload)? {
            return Ok(());
        }
        match native::read(payload) {
            Heard::Message(entry) => {
                let seq = check::numbered(conn, entry.offset, entry.content)?;
                let have = self.have.get_mut(conn).ok_or_else(|| LoadError::unexpected(conn, payload))?;
                if seq != *have {
                    let what = format!("got publication {seq} after {have}");
                    return Err(LoadError::Wrong { conn, what });
                }
                *have += 1;
                self.delivered += 1;
                let sent = self.sent[conn / self.room].get(seq as usize);
                self.delays.push(micros(*sent.ok_or_else(|| LoadError::unexpected(conn, payload))?));
            }
            Heard::Published => self.answered += 1,
            // A new ticket, after half an hour.
            Heard::Other => {}
            _ => return Err(LoadError::unexpected(conn, payload)),
        }
        Ok(())
    }

    fn on_closed(&mut self, conn: usize) -> Result<(), LoadError> {
        match self.newcomers.remove(&conn) {
            Some(_) => self.refused += 1,
            None => return Err(LoadError::Closed { conn }),
        }
        Ok(())
    }

    fn owed(&self) -> (u64, &'static str) {
        match (self.due - self.delivered, self.published - self.answered) {
            (0, 0) => (self.newcomers.len() as u64, "newcomers"),
            (0, answers) => (answers, "answers to publications"),
            (deliveries, _) => (deliveries, "deliveries"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(room: usize, seq: u64) -> String {
        let mut text = String::new();
        native::message(&join::room(room), seq + 1, &check::content(seq), &mut text);
        text
    }

    #[test]
    fn a_good_one_that_is_harmed_ends_the_run() {
        let table: [(&str, &[u64], bool); 4] = [
            ("in order", &[0, 1], true),
            ("one again", &[0, 0], false),
            ("one missing", &[1], false),
            ("none", &[], true),
        ];
        for (name, seqs, is_fine) in table {
            let mut good = Good::new(4, 2);
            good.sent[1] = vec![Instant::now(); 2];
            let heard = seqs
                .iter()
                .try_for_each(|&seq| good.on_message(3, message(1, seq).as_bytes(), &mut Outgoing::default()));
            assert_eq!(heard.is_ok(), is_fine, "{name}");
        }
        assert!(Good::new(4, 2).on_closed(1).is_err(), "no good one is closed");
    }

    #[test]
    fn a_newcomer_may_be_refused() {
        let mut good = Good::new(4, 2);
        good.newcomers.insert(4, Instant::now());
        assert!(good.on_closed(4).is_ok());
        assert_eq!((good.refused, good.owed().0), (1, 0));
    }
}
