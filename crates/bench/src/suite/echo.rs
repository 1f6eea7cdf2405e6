//! Echo: every connection has one message of 128 bytes in flight, and sends the next when the echo has come.
//!
//! The measured values are echoes per second with the server on one core, and its CPU time per echo. Each echo is
//! compared with the sent message, byte by byte; the sequence number in it reveals an old one.

use std::time::{Duration, Instant};

use super::{RoundError, Sample, Settings};
use crate::load::check;
use crate::load::dialect::Dialect;
use crate::load::{Handler, Load, LoadError, Outgoing};
use crate::peers::{Role, ServerKind};
use crate::report::Metric;
use crate::server::Server;

const WARM_UP: Duration = Duration::from_millis(300);

pub(super) fn round(kind: ServerKind, server: &Server, settings: &Settings) -> Result<Vec<Sample>, RoundError> {
    let mut load = Load::new(server.addr, kind.dialect(Role::Echo), settings.wait)?;
    let mut callers = Callers {
        dialect: kind.dialect(Role::Echo),
        sent: vec![String::new(); settings.echo_connections],
        next: 0,
        echoes: 0,
        in_flight: settings.echo_connections,
        going_on: true,
    };
    // All must be connected before the clock starts, so each waits with its first message in flight: a warm-up.
    for _ in 0..settings.echo_connections {
        load.open()?;
    }
    let warm_up = Instant::now();
    while warm_up.elapsed() < WARM_UP || callers.sent.iter().any(String::is_empty) {
        load.turn(&mut callers)?;
    }
    let (cpu, echoes, started) = (server.cpu_now()?, callers.echoes, Instant::now());
    while started.elapsed() < settings.phase {
        load.turn(&mut callers)?;
    }
    callers.going_on = false;
    load.drive(&mut callers)?;
    let took = started.elapsed();
    let echoes = (callers.echoes - echoes) as f64;
    let cpu = server.cpu()?.saturating_sub(cpu);
    Ok(vec![
        Sample { metric: Metric::EchoRate, value: echoes / took.as_secs_f64() },
        Sample { metric: Metric::EchoCpu, value: cpu.as_secs_f64() * 1e6 / echoes },
    ])
}

struct Callers {
    dialect: Dialect,
    /// Per connection, the message in flight.
    sent: Vec<String>,
    next: u64,
    echoes: u64,
    in_flight: usize,
    going_on: bool,
}

impl Callers {
    fn call(&mut self, conn: usize, out: &mut Outgoing) {
        let message = &mut self.sent[conn];
        message.clear();
        self.dialect.echo(&check::content(self.next), message);
        self.next += 1;
        out.text(message);
    }
}

impl Handler for Callers {
    fn on_ready(&mut self, conn: usize, out: &mut Outgoing) -> Result<(), LoadError> {
        self.call(conn, out);
        Ok(())
    }

    fn on_message(&mut self, conn: usize, payload: &[u8], out: &mut Outgoing) -> Result<(), LoadError> {
        if payload != self.sent[conn].as_bytes() {
            return Err(LoadError::WrongEcho { conn });
        }
        self.echoes += 1;
        if self.going_on {
            self.call(conn, out);
        } else {
            self.in_flight -= 1;
        }
        Ok(())
    }

    fn owed(&self) -> (u64, &'static str) {
        (self.in_flight as u64, "echoes")
    }
}
