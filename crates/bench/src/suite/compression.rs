//! Compression: fan-out of JSON of three lengths, to receivers without and with permessage-deflate.
//!
//! As in `native-fanout`, one publication is in flight, and each delivery is checked: its number, its place, and every
//! byte of its JSON, after decompression where it is compressed. Receivers ask for messages that can be decompressed
//! each for itself (no context takeover). The bytes on the wire are all that the generator reads, frame headers
//! included, TCP and IP not.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::{RoundError, Sample, Settings, join};
use crate::load::check::{self, CONTENT_LEN, DeliveryError, Ledger};
use crate::load::native::{self, Heard};
use crate::load::{Handler, Load, LoadError, Outgoing};
use crate::peers::{Role, ServerKind};
use crate::report::Metric;
use crate::server::Server;

const PUBLISHER: usize = 0;
const WARM_UP: Duration = Duration::from_millis(300);

/// Lengths of the JSON that is published.
const LENGTHS: [usize; 3] = [256, 2 * 1024, 16 * 1024];

pub(super) fn round(kind: ServerKind, server: &Server, settings: &Settings) -> Result<Vec<Sample>, RoundError> {
    let mut samples = Vec::new();
    // The channel goes on for the second crowd.
    let mut receivers =
        Receivers { ledger: Ledger::new(settings.subscribers), rows: String::new(), scratch: String::new() };
    for deflated in [false, true] {
        let load = Load::new(server.addr, kind.dialect(Role::Deflate), settings.wait)?;
        let mut load = if deflated { load.deflating() } else { load };
        join::join(&mut load, kind, Role::Deflate, settings.subscribers, settings.subscribers)?;
        for length in LENGTHS {
            receivers.rows = rows(length);
            receivers.publish_for(WARM_UP, &mut load)?;
            let (cpu, deliveries, received) = (server.cpu()?, receivers.ledger.deliveries(), load.received());
            receivers.publish_for(settings.phase, &mut load)?;
            let deliveries = (receivers.ledger.deliveries() - deliveries) as f64;
            let cpu = server.cpu()?.saturating_sub(cpu);
            let bytes = (load.received() - received) as f64;
            samples.push(Sample {
                metric: Metric::CompressionCpu { length, deflated },
                value: cpu.as_secs_f64() * 1e6 / deliveries,
            });
            samples.push(Sample { metric: Metric::CompressionBytes { length, deflated }, value: bytes / deliveries });
        }
    }
    Ok(samples)
}

/// The rest of a publication's JSON after its content: a list of records as an application has them. All of the JSON
/// is `length` bytes long.
fn rows(length: usize) -> String {
    const WORDS: [&str; 8] = ["Amsterdam", "booked", "invoice", "waiting", "Lagos", "standard", "express", "Osaka"];
    const END: &str = "\"]}";
    let room = length - r#"{"text":""#.len() - CONTENT_LEN - END.len();
    let mut rows = String::from(r#"","rows":["#);
    let mut number: u64 = 7;
    loop {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (id, bits) = (number >> 40, (number >> 33) as usize);
        let (place, state) = (WORDS[bits % 8], WORDS[(bits / 8) % 8]);
        let cents = id % 99_991;
        let record = format!(r#"{{"id":{id},"place":"{place}","state":"{state}","cents":{cents}}},"#);
        if rows.len() + record.len() + 1 > room {
            break;
        }
        rows.push_str(&record);
    }
    // A text fills the rest.
    rows.push('"');
    rows.extend(std::iter::repeat_n('y', room - rows.len()));
    rows.push_str(END);
    rows
}

struct Receivers {
    ledger: Ledger,
    rows: String,
    scratch: String,
}

impl Receivers {
    fn publish_for(&mut self, time: Duration, load: &mut Load) -> Result<(), LoadError> {
        let started = Instant::now();
        while started.elapsed() < time {
            self.publish(load)?;
            load.drive(self)?;
        }
        Ok(())
    }

    fn publish(&mut self, load: &mut Load) -> Result<(), LoadError> {
        let seq = self.ledger.publish();
        let (channel, content, rows) = (join::room(0), check::content(seq), &self.rows);
        self.scratch.clear();
        let _ = write!(
            self.scratch,
            r#"{{"type":"publish","id":{seq},"channel":"{channel}","data":{{"text":"{content}{rows}}}"#
        );
        let mut out = Outgoing::default();
        out.text(&self.scratch);
        load.send(PUBLISHER, &mut out)
    }
}

impl Handler for Receivers {
    fn on_ready(&mut self, _conn: usize, _out: &mut Outgoing) -> Result<(), LoadError> {
        Ok(()) // all are
    }

    fn on_message(&mut self, conn: usize, payload: &[u8], _out: &mut Outgoing) -> Result<(), LoadError> {
        match native::read(payload) {
            Heard::Message(entry) => {
                check::numbered(conn, entry.offset, entry.content)?;
                let end = entry.content.as_ptr().addr() - payload.as_ptr().addr() + entry.content.len();
                if !payload[end..].starts_with(self.rows.as_bytes()) {
                    return Err(DeliveryError::Damaged { subscriber: conn }.into());
                }
                Ok(self.ledger.deliver(conn, entry.content)?)
            }
            Heard::Published => Ok(()),
            _ => Err(LoadError::unexpected(conn, payload)),
        }
    }

    fn owed(&self) -> (u64, &'static str) {
        (self.ledger.owed() as u64, "deliveries")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_is_valid_and_as_long_as_promised() {
        for length in LENGTHS {
            let json = format!(r#"{{"text":"{}{}"#, check::content(7), rows(length));
            assert_eq!(json.len(), length);
            let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
            assert!(value["rows"].as_array().is_some_and(|rows| !rows.is_empty()), "{json}");
        }
    }

    #[test]
    fn another_row_is_damage() {
        let mut receivers = Receivers { ledger: Ledger::new(1), rows: rows(256), scratch: String::new() };
        receivers.ledger.publish();
        let message = |rows: &str| {
            let content = check::content(0);
            format!(r#"{{"type":"message","channel":"c","offset":1,"data":{{"text":"{content}{rows},"ts":1}}"#)
        };
        let mut hear = |text: String| receivers.on_message(0, text.as_bytes(), &mut Outgoing::default());
        let damaged = hear(message(&rows(256).replace("id", "di")));
        assert!(matches!(damaged, Err(LoadError::Delivery(DeliveryError::Damaged { .. }))), "{damaged:?}");
        hear(message(&rows(256))).expect("as published");
    }
}
