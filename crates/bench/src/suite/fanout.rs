//! Fan-out: one member of a room publishes, and every member gets it, the publisher included. In a chat; or natively,
//! where the room is a channel with history and each publication is answered; or to event streams, which get the same
//! messages in blocks.
//!
//! `window` publications are in flight: when every member has one, the next is sent. With one in flight each delivery
//! is its own write; with eight a server may write several at once. The measured value is the server's CPU time from
//! the first publication until it rests after the last delivery, divided by the deliveries. The [`Ledger`] checks each
//! delivery.

use std::time::{Duration, Instant};

use super::{RoundError, Sample, Settings, join, tls};
use crate::load::check::{self, Ledger};
use crate::load::dialect::{Dialect, Said};
use crate::load::native::{self, Heard};
use crate::load::{Handler, Load, LoadError, Outgoing};
use crate::peers::{Role, ServerKind};
use crate::report::{Fanout, Metric};
use crate::server::Server;

const PUBLISHER: usize = 0;
/// The channel of event streams.
const STREAMED: &str = "bench-sse";

/// Before each measured phase, for a just-in-time compiler and for warm caches.
const WARM_UP: Duration = Duration::from_millis(300);

pub(super) fn round(
    of: Fanout,
    windows: &[usize],
    kind: ServerKind,
    server: &Server,
    settings: &Settings,
) -> Result<Vec<Sample>, RoundError> {
    let role = of.role();
    let mut load = match of {
        Fanout::Tls => tls::load(kind, server, settings)?,
        _ => Load::new(server.addr, kind.dialect(role), settings.wait)?,
    };
    let mut room = Room::new(kind, role, settings.subscribers);
    if of == Fanout::Sse {
        room.room = STREAMED.to_owned();
        // The publisher has a WebSocket, by which its own copy comes.
        join::publisher(&mut load, STREAMED)?;
        join::streams(&mut load, &format!("/events?channel={STREAMED}&envelope=1"), settings.subscribers)?;
    } else {
        join::join(&mut load, kind, role, settings.subscribers, settings.subscribers)?;
    }
    let mut samples = Vec::new();
    for &window in windows {
        room.publish_for(WARM_UP, window, &mut load)?;
        let (cpu, deliveries, started) = (server.cpu()?, room.ledger.deliveries(), Instant::now());
        room.publish_for(settings.phase, window, &mut load)?;
        let took = started.elapsed();
        let deliveries = (room.ledger.deliveries() - deliveries) as f64;
        let cpu = server.cpu()?.saturating_sub(cpu);
        samples.push(Sample { metric: Metric::FanoutCpu { of, window }, value: cpu.as_secs_f64() * 1e6 / deliveries });
        samples.push(Sample { metric: Metric::FanoutRate { of, window }, value: deliveries / took.as_secs_f64() });
    }
    samples.push(Sample { metric: Metric::FanoutBytes { of }, value: room.payload_len as f64 });
    Ok(samples)
}

/// One room or channel, its publisher, and the publications that its members have.
pub(super) struct Room {
    kind: ServerKind,
    pub(super) ledger: Ledger,
    dialect: Dialect,
    user: String,
    room: String,
    /// The length of the latest delivery; all have about the same, as they differ only in digits.
    payload_len: usize,
    scratch: String,
    outgoing: Outgoing,
}

impl Room {
    /// All of them are in [`join::room`] 0, and no publication was sent yet.
    pub(super) fn new(kind: ServerKind, role: Role, subscribers: usize) -> Self {
        Self {
            kind,
            ledger: Ledger::new(subscribers),
            dialect: kind.dialect(role),
            user: join::user(PUBLISHER),
            room: join::room(0),
            payload_len: 0,
            scratch: String::new(),
            outgoing: Outgoing::default(),
        }
    }

    /// Keeps `window` publications in flight for a time, then waits until every member has the last one.
    fn publish_for(&mut self, time: Duration, window: usize, load: &mut Load) -> Result<(), LoadError> {
        let started = Instant::now();
        while started.elapsed() < time {
            self.fill(window, load)?;
            load.turn(self)?;
        }
        load.drive(self)
    }

    /// The same for a number of publications.
    pub(super) fn publish_many(&mut self, count: u64, window: usize, load: &mut Load) -> Result<(), LoadError> {
        let end = self.ledger.published() + count;
        while self.ledger.published() < end {
            let rest = usize::try_from(end - self.ledger.published()).unwrap_or(window);
            self.fill(window.min(self.ledger.in_flight() + rest), load)?;
            load.turn(self)?;
        }
        load.drive(self)
    }

    /// Publications that completed in one turn are replaced by one write, for every server alike.
    fn fill(&mut self, window: usize, load: &mut Load) -> Result<(), LoadError> {
        while self.ledger.in_flight() < window {
            let seq = self.ledger.publish();
            let content = check::content(seq);
            self.scratch.clear();
            match (self.kind, self.dialect) {
                // It passes its input on unchanged, so the generator sends it a server's message.
                (ServerKind::Floor, Dialect::Native) => {
                    native::message(&self.room, seq + 1, &content, &mut self.scratch)
                }
                _ => self.dialect.message(&self.user, &self.room, seq, &content, &mut self.scratch),
            }
            self.outgoing.text(&self.scratch);
        }
        load.send(PUBLISHER, &mut self.outgoing)
    }
}

impl Handler for Room {
    fn on_ready(&mut self, _conn: usize, _out: &mut Outgoing) -> Result<(), LoadError> {
        Ok(()) // all are
    }

    fn on_message(&mut self, conn: usize, payload: &[u8], _out: &mut Outgoing) -> Result<(), LoadError> {
        let content = if self.dialect == Dialect::Native {
            match native::read(payload) {
                Heard::Message(entry) => {
                    check::numbered(conn, entry.offset, entry.content)?;
                    Some(entry.content)
                }
                Heard::Published => None,
                _ => {
                    return Err(LoadError::unexpected(conn, payload));
                }
            }
        } else {
            match self.dialect.read(payload) {
                Said::Message(content) => Some(content),
                _ => None,
            }
        };
        if let Some(content) = content {
            self.ledger.deliver(conn, content)?;
            self.payload_len = payload.len();
        }
        Ok(())
    }

    fn owed(&self) -> (u64, &'static str) {
        (self.ledger.owed() as u64, "deliveries")
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::thread;

    use super::*;
    use crate::load::check::DeliveryError;
    use crate::load::{Wait, frame};

    /// A server's treatment of publication `seq` for a subscriber: the publications that it sends in its place.
    type Cheat = fn(subscriber: usize, seq: u64) -> Vec<u64>;

    /// A server for two clients that is correct except for `cheat`. Ends when its clients do.
    fn serve(cheat: Cheat) -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let addr = listener.local_addr().expect("bound");
        thread::spawn(move || {
            let mut members: Vec<TcpStream> = (0..2).map(|_| upgraded(&listener)).collect();
            let mut bytes = Vec::new();
            let mut seq = 0;
            loop {
                while let Some((_, len)) = frame::decode(&bytes).expect("the publisher's frames") {
                    bytes.drain(..len);
                    for (subscriber, member) in members.iter_mut().enumerate() {
                        let mut out = Vec::new();
                        for seq in cheat(subscriber, seq) {
                            let mut text = String::new();
                            Dialect::Chat.message("u00000", "", seq, &check::content(seq), &mut text);
                            frame::encode(frame::TEXT, text.as_bytes(), &mut out);
                        }
                        if member.write_all(&out).is_err() {
                            return; // the cheat was noticed
                        }
                    }
                    seq += 1;
                }
                let mut buf = [0; 4096];
                match members[PUBLISHER].read(&mut buf) {
                    Ok(len @ 1..) => bytes.extend_from_slice(&buf[..len]),
                    _ => return,
                }
            }
        });
        addr
    }

    fn upgraded(listener: &TcpListener) -> TcpStream {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("a request");
            head.push(byte[0]);
        }
        let answer = "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        stream.write_all(answer.as_bytes()).expect("a client that reads");
        stream
    }

    fn publish_to(cheat: Cheat) -> Result<u64, LoadError> {
        let mut load = Load::new(serve(cheat), Dialect::Chat, Wait::Sleep)?;
        // One after the other, so that the server has them in the same order.
        join::join(&mut load, ServerKind::Floor, Role::Chat, 1, 1)?;
        load.open()?;
        let mut room = Room::new(ServerKind::Floor, Role::Chat, 2);
        room.publish_for(Duration::from_millis(20), 4, &mut load)?;
        Ok(room.ledger.deliveries())
    }

    #[test]
    fn an_honest_server_is_measured() {
        assert!(publish_to(|_, seq| vec![seq]).expect("valid") >= 8);
    }

    #[test]
    fn a_cheating_server_is_caught() {
        let table: [(&str, Cheat, DeliveryError); 3] = [
            (
                "one delivery repeated",
                |subscriber, seq| if (subscriber, seq) == (1, 2) { vec![2, 2] } else { vec![seq] },
                DeliveryError::Repeated { subscriber: 1, got: 2, expected: 3 },
            ),
            (
                "one delivery missing",
                |subscriber, seq| if (subscriber, seq) == (1, 1) { vec![] } else { vec![seq] },
                DeliveryError::Skipped { subscriber: 1, got: 2, expected: 1 },
            ),
            (
                "two deliveries in the wrong order",
                |subscriber, seq| match (subscriber, seq) {
                    (0, 1) => vec![2],
                    (0, 2) => vec![1],
                    _ => vec![seq],
                },
                DeliveryError::Skipped { subscriber: 0, got: 2, expected: 1 },
            ),
        ];
        for (name, cheat, expected) in table {
            match publish_to(cheat) {
                Err(LoadError::Delivery(error)) => assert_eq!(error, expected, "{name}"),
                other => panic!("{name}: {other:?}"),
            }
        }
    }
}
