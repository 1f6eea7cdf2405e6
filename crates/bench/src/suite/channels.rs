//! Channels: very many of them, each with one subscriber.
//!
//! Connections with 128 subscriptions each are made first and are not counted. Then they subscribe. The growth of the
//! server's memory (Pss), divided by the channels, is the cost of one channel with its history, its home, its edge and
//! its one member. Then each channel gets one publication. Its subscriber must get that one, and no other.

use super::{RoundError, Sample, Settings, idle};
use crate::load::check::{self, DeliveryError};
use crate::load::native::{self, Heard};
use crate::load::{Handler, Load, LoadError, Outgoing};
use crate::peers::{Role, ServerKind};
use crate::report::Metric;
use crate::server::Server;

/// Subscriptions of a connection: the server's default limit.
const EACH: usize = 128;

/// Connections that are made together.
const IN_FLIGHT: usize = 64;

/// Subscriptions asked for by one command.
const AT_ONCE: usize = 32;

pub(super) fn round(kind: ServerKind, server: &Server, settings: &Settings) -> Result<Vec<Sample>, RoundError> {
    let mut load = Load::new(server.addr, kind.dialect(Role::Native), settings.wait)?;
    let mut listeners = Listeners {
        channels: settings.channels,
        conns: settings.channels.div_ceil(EACH),
        connected: 0,
        step: Step::Connect,
        done: vec![0; settings.channels.div_ceil(EACH)],
        scratch: String::new(),
    };
    let mut opened = 0;
    while listeners.owed().0 > 0 {
        while opened < listeners.conns && opened - listeners.connected < IN_FLIGHT {
            opened = load.open()? + 1;
        }
        load.turn(&mut listeners)?;
    }
    let before = idle::quiet(&mut load, server, settings)?;
    let mut samples = Vec::new();
    for (step, published) in [(Step::Subscribe, 0), (Step::Publish, 1)] {
        listeners.begin(step, &mut load)?;
        load.drive(&mut listeners)?;
        let bytes = idle::quiet(&mut load, server, settings)?.saturating_sub(before);
        samples.push(Sample {
            metric: Metric::ChannelMemory { published },
            value: bytes as f64 / settings.channels as f64,
        });
    }
    Ok(samples)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Connect,
    Subscribe,
    Publish,
}

struct Listeners {
    channels: usize,
    conns: usize,
    connected: usize,
    step: Step,
    /// Per connection, the number of its channels that have finished this step.
    done: Vec<usize>,
    scratch: String,
}

impl Listeners {
    fn begin(&mut self, step: Step, load: &mut Load) -> Result<(), LoadError> {
        self.step = step;
        self.done.fill(0);
        for conn in 0..self.conns {
            let mut out = Outgoing::default();
            self.ask(conn, &mut out);
            load.send(conn, &mut out)?;
        }
        Ok(())
    }

    /// The channels of a connection.
    fn of(&self, conn: usize) -> std::ops::Range<usize> {
        conn * EACH..((conn + 1) * EACH).min(self.channels)
    }

    /// Sends the command for a connection's next channel, so that one command is under way for each.
    fn ask(&mut self, conn: usize, out: &mut Outgoing) {
        let channels = self.of(conn);
        let next = channels.start + self.done[conn];
        if next == channels.end {
            return;
        }
        self.scratch.clear();
        if self.step == Step::Publish {
            native::publish(next as u64, &name(next), &check::content(next as u64), &mut self.scratch);
        } else {
            let end = channels.end.min(next + AT_ONCE);
            native::subscribe((next..end).map(name), &mut self.scratch);
        }
        out.text(&self.scratch);
    }
}

impl Handler for Listeners {
    fn on_ready(&mut self, _conn: usize, out: &mut Outgoing) -> Result<(), LoadError> {
        self.scratch.clear();
        native::connect(None, None, &mut self.scratch);
        out.text(&self.scratch);
        Ok(())
    }

    fn on_message(&mut self, conn: usize, payload: &[u8], out: &mut Outgoing) -> Result<(), LoadError> {
        match (self.step, native::read(payload)) {
            (Step::Connect, Heard::Connected { .. }) => self.connected += 1,
            (Step::Subscribe, Heard::ManySubscribed(count)) if count > 0 => {
                self.done[conn] += count;
                if self.done[conn] > self.of(conn).len() {
                    return Err(LoadError::unexpected(conn, payload));
                }
                self.ask(conn, out);
            }
            (Step::Publish, Heard::Published) => {}
            (Step::Publish, Heard::Message(entry)) => {
                let expected = (self.of(conn).start + self.done[conn]) as u64;
                match check::seq_of(entry.content) {
                    Some(got) if got == expected && entry.offset == 1 => {}
                    Some(_) => return Err(LoadError::unexpected(conn, payload)),
                    None => return Err(DeliveryError::Damaged { subscriber: conn }.into()),
                }
                self.done[conn] += 1;
                self.ask(conn, out);
            }
            _ => return Err(LoadError::unexpected(conn, payload)),
        }
        Ok(())
    }

    fn owed(&self) -> (u64, &'static str) {
        let channels = (self.channels - self.done.iter().sum::<usize>()) as u64;
        match self.step {
            Step::Connect => ((self.conns - self.connected) as u64, "connections"),
            Step::Subscribe => (channels, "subscriptions"),
            Step::Publish => (channels, "deliveries"),
        }
    }
}

/// As long as the name of a real application's channel may be: a kind and a number.
fn name(index: usize) -> String {
    format!("room:{index:06}")
}
