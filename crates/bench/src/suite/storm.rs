//! Storm: all clients are cut off in the same moment, miss some publications, and come back in the same moment.
//!
//! One channel, one subscription for each client, and a publisher that stays. A cut connection ends without a closing
//! handshake. Each client comes back as a real client does, with its ticket and its position; there is no back-off, so
//! all connects come at once. Checks for each client: the session continues, nothing is lost (`recovered`), and every
//! publication is there once, in order, at its offset. Then live publications reach all, so every subscription is live
//! again. The measured values are the time from the first connect to the last missed publication, and the server's CPU
//! time for it. The load generator works as much as the server meanwhile.

use std::time::Instant;

use super::{RoundError, Sample, Settings, join};
use crate::load::check;
use crate::load::native::{self, Entry, Heard, Since};
use crate::load::{Handler, Load, LoadError, Outgoing};
use crate::peers::{Role, ServerKind};
use crate::report::Metric;
use crate::server::Server;

/// Publications before the cut, and after the return.
const LIVE: u64 = 5;

/// Connections that are made together before it.
const IN_FLIGHT: usize = 64;

pub(super) fn round(kind: ServerKind, server: &Server, settings: &Settings) -> Result<Vec<Sample>, RoundError> {
    let mut load = Load::new(server.addr, kind.dialect(Role::Native), settings.wait)?;
    let mut crowd = Crowd::new(settings.storm_clients);
    crowd.gather(&mut load)?;
    crowd.publish(LIVE, &mut load)?;
    load.drive(&mut crowd)?;
    crowd.cut(&mut load);
    crowd.publish(settings.storm_missed, &mut load)?;
    let (cpu, started) = (server.cpu()?, Instant::now());
    for client in 0..crowd.clients.len() {
        crowd.open(client, &mut load)?;
    }
    load.drive(&mut crowd)?;
    let took = started.elapsed();
    let cpu = server.cpu()?.saturating_sub(cpu);
    crowd.publish(LIVE, &mut load)?;
    load.drive(&mut crowd)?;
    Ok(vec![
        Sample { metric: Metric::StormTime, value: took.as_secs_f64() },
        Sample { metric: Metric::StormCpu, value: cpu.as_secs_f64() },
    ])
}

struct Crowd {
    clients: Vec<Client>,
    /// Which client a connection belongs to; `None` is the publisher's.
    who: Vec<Option<usize>>,
    /// The publisher's connection.
    publisher: usize,
    publisher_ready: bool,
    channel: String,
    published: u64,
    answered: u64,
    /// Live subscriptions.
    live: usize,
    /// Publications that all clients together have.
    have: u64,
    scratch: String,
}

#[derive(Debug, Clone, Default)]
struct Client {
    conn: usize,
    ticket: String,
    epoch: String,
    at: u64,
    live: bool,
}

impl Crowd {
    fn new(clients: usize) -> Self {
        Self {
            clients: vec![Client::default(); clients],
            who: Vec::new(),
            publisher: 0,
            publisher_ready: false,
            channel: join::room(0),
            published: 0,
            answered: 0,
            live: 0,
            have: 0,
            scratch: String::new(),
        }
    }

    /// Connects the publisher and then all clients, few at a time.
    fn gather(&mut self, load: &mut Load) -> Result<(), LoadError> {
        self.publisher = load.open()?;
        self.who.resize(self.publisher + 1, None);
        while !self.publisher_ready {
            load.turn(self)?;
        }
        let mut opened = 0;
        while self.live < self.clients.len() {
            while opened < self.clients.len() && opened - self.live < IN_FLIGHT {
                self.open(opened, load)?;
                opened += 1;
            }
            load.turn(self)?;
        }
        Ok(())
    }

    fn open(&mut self, client: usize, load: &mut Load) -> Result<(), LoadError> {
        let conn = load.open()?;
        if self.who.len() <= conn {
            self.who.resize(conn + 1, None);
        }
        self.who[conn] = Some(client);
        self.clients[client].conn = conn;
        Ok(())
    }

    /// All at once, and without close frames.
    fn cut(&mut self, load: &mut Load) {
        for client in &mut self.clients {
            load.cut(client.conn);
            client.live = false;
        }
        self.live = 0;
    }

    /// Publishes, and waits for the server's answers only.
    fn publish(&mut self, count: u64, load: &mut Load) -> Result<(), LoadError> {
        let mut out = Outgoing::default();
        for seq in self.published..self.published + count {
            self.scratch.clear();
            native::publish(seq, &self.channel, &check::content(seq), &mut self.scratch);
            out.text(&self.scratch);
        }
        self.published += count;
        load.send(self.publisher, &mut out)?;
        while self.answered < self.published {
            load.turn(self)?;
        }
        Ok(())
    }

    /// A client's next publication must be the next one of the channel.
    fn deliver(&mut self, client: usize, entry: Entry<'_>) -> Result<(), LoadError> {
        check::numbered(client, entry.offset, entry.content)?;
        let Client { at, conn, .. } = &mut self.clients[client];
        if entry.offset != *at + 1 || entry.offset > self.published {
            let what = format!("got offset {} after {at}, {} are published", entry.offset, self.published);
            return Err(LoadError::Wrong { conn: *conn, what });
        }
        *at += 1;
        self.have += 1;
        Ok(())
    }
}

impl Handler for Crowd {
    fn on_ready(&mut self, conn: usize, out: &mut Outgoing) -> Result<(), LoadError> {
        self.scratch.clear();
        match self.who[conn].map(|client| &self.clients[client]) {
            None => native::connect(None, None, &mut self.scratch),
            Some(Client { ticket, epoch, at, .. }) => {
                let since = (!epoch.is_empty()).then_some(Since { epoch, offset: *at });
                let ticket = (!ticket.is_empty()).then_some(ticket.as_str());
                native::connect(ticket, Some((&self.channel, since)), &mut self.scratch);
            }
        }
        out.text(&self.scratch);
        Ok(())
    }

    fn on_message(&mut self, conn: usize, payload: &[u8], _out: &mut Outgoing) -> Result<(), LoadError> {
        let heard = native::read(payload);
        let Some(index) = self.who[conn] else {
            match heard {
                Heard::Connected { .. } => self.publisher_ready = true,
                Heard::Published => self.answered += 1,
                _ => return Err(LoadError::unexpected(conn, payload)),
            }
            return Ok(());
        };
        let client = &mut self.clients[index];
        let returning = !client.ticket.is_empty();
        match heard {
            Heard::Connected { ticket, resumed } if resumed == returning && !client.live => {
                ticket.clone_into(&mut client.ticket);
            }
            Heard::Subscribed { epoch, offset, recovered, entries } if !client.live => {
                let back = !client.epoch.is_empty();
                if recovered != back || (back && client.epoch != epoch) {
                    return Err(LoadError::unexpected(conn, payload));
                }
                epoch.clone_into(&mut client.epoch);
                client.live = true;
                self.live += 1;
                for entry in entries {
                    self.deliver(index, entry)?;
                }
                let at = self.clients[index].at;
                if at != offset {
                    let what = format!("is said to be at {offset}, but has what leads to {at}");
                    return Err(LoadError::Wrong { conn, what });
                }
            }
            Heard::Message(entry) if client.live => self.deliver(index, entry)?,
            _ => return Err(LoadError::unexpected(conn, payload)),
        }
        Ok(())
    }

    fn owed(&self) -> (u64, &'static str) {
        let clients = self.clients.len() as u64;
        match clients - self.live as u64 {
            0 => (clients * self.published - self.have, "publications"),
            away => (away, "subscriptions"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client that had two of five publications when it was cut, on connection 0.
    fn returning() -> Crowd {
        let mut crowd = Crowd::new(1);
        crowd.who.push(Some(0));
        crowd.published = 5;
        crowd.have = 2;
        crowd.clients[0] = Client { conn: 0, ticket: "t".into(), epoch: "e".into(), at: 2, live: false };
        crowd
    }

    fn connected(resumed: bool) -> String {
        format!(r#"{{"type":"connected","id":0,"session_resumed":{resumed},"ticket":"t2"}}"#)
    }

    fn subscribed(epoch: &str, top: u64, recovered: bool, offsets: &[u64]) -> String {
        let entry = |offset: &u64| {
            format!(r#"{{"offset":{offset},"data":{{"text":"{}"}},"ts":1}}"#, check::content(offset - 1))
        };
        let entries: Vec<_> = offsets.iter().map(entry).collect();
        format!(
            r#"{{"type":"subscribed","channel":"bench-0","epoch":"{epoch}","offset":{top},"recovered":{recovered},"publications":[{}]}}"#,
            entries.join(",")
        )
    }

    fn message(offset: u64) -> String {
        let mut text = String::new();
        native::message("bench-0", offset, &check::content(offset - 1), &mut text);
        text
    }

    fn hear(crowd: &mut Crowd, said: &[String]) -> Result<(), LoadError> {
        said.iter().try_for_each(|text| crowd.on_message(0, text.as_bytes(), &mut Outgoing::default()))
    }

    #[test]
    fn a_client_with_everything_once_and_in_order_owes_nothing() {
        let tables = [
            vec![connected(true), subscribed("e", 5, true, &[3, 4, 5])],
            vec![connected(true), subscribed("e", 4, true, &[3, 4]), message(5)],
        ];
        for said in tables {
            let mut crowd = returning();
            assert_eq!(crowd.owed(), (1, "subscriptions"));
            hear(&mut crowd, &said).expect("valid");
            assert_eq!(crowd.owed(), (0, "publications"), "{said:?}");
        }
    }

    #[test]
    fn a_client_that_misses_one_is_waited_for() {
        let mut crowd = returning();
        hear(&mut crowd, &[connected(true), subscribed("e", 4, true, &[3, 4])]).expect("valid so far");
        assert_eq!(crowd.owed(), (1, "publications"));
    }

    #[test]
    fn every_way_to_recover_badly_is_an_error() {
        let table = [
            ("another session", vec![connected(false)]),
            ("not recovered", vec![connected(true), subscribed("e", 5, false, &[])]),
            ("another epoch", vec![connected(true), subscribed("f", 5, true, &[3, 4, 5])]),
            ("one missing", vec![connected(true), subscribed("e", 5, true, &[3, 5])]),
            ("the first missing", vec![connected(true), subscribed("e", 5, true, &[4, 5])]),
            ("the last missing", vec![connected(true), subscribed("e", 5, true, &[3, 4])]),
            ("one again", vec![connected(true), subscribed("e", 5, true, &[3, 4, 4, 5])]),
            ("one that it had", vec![connected(true), subscribed("e", 5, true, &[2, 3, 4, 5])]),
            ("one that nobody published", vec![connected(true), subscribed("e", 6, true, &[3, 4, 5, 6])]),
            ("again, live", vec![connected(true), subscribed("e", 5, true, &[3, 4, 5]), message(5)]),
            ("before it is subscribed", vec![connected(true), message(3)]),
            (
                "told of a gap",
                vec![
                    connected(true),
                    subscribed("e", 4, true, &[3, 4]),
                    r#"{"type":"gap","channel":"bench-0","epoch":"e","offset":5}"#.to_owned(),
                ],
            ),
        ];
        for (name, said) in table {
            assert!(hear(&mut returning(), &said).is_err(), "{name}");
        }
    }
}
