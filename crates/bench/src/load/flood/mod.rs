//! A flood: clients that misbehave in ten ways at once, each in a loop.
//!
//! In: an address, a number of clients, a pace. Out: a [`Tally`] of what they did, and of the ends that the server put
//! to it. It runs in a thread of its own with a low priority, so that it delays the clients that are measured as little
//! as one core allows. It expects nothing of the server: every answer, every close and every silence is counted and
//! the client goes on. Where the server is on a loopback address, each client has one of many source addresses, so that
//! ports do not run out.

mod bad;

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustix::process::nice;
use socket2::{Domain, Socket, Type};

pub use bad::{Bad, End};
use bad::{Heard, Next, Wish};

use super::LoadError;

/// The extent of a flood.
#[derive(Debug, Clone)]
pub struct FloodSettings {
    /// How many clients; the kinds take turns.
    pub clients: usize,
    /// The most acts of all clients in a second: a connect, or what the client does when it is connected. Zero: as many
    /// as they can.
    pub rate: u32,
    /// Whether those that act once a second do so in one instant, and not spread over the second.
    pub at_once: bool,
}

/// What came of a flood.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Tally {
    /// Connects and acts of each kind.
    pub acts: BTreeMap<Bad, u64>,
    /// How the server answered or ended them.
    pub ends: BTreeMap<(Bad, End), u64>,
}

/// Loopback addresses that the clients share, from 127.0.0.2 on.
const SOURCES: usize = 200;
/// How long a slow client waits before its next byte.
const TRICKLE: Duration = Duration::from_secs(1);
const NAP: Duration = Duration::from_millis(5);
const READ_BYTES: usize = 64 * 1024;
/// Few: after a turn the clients that are measured may have the core.
const EVENTS_PER_TURN: usize = 64;
/// Acts between two looks at the sockets.
const ACTS_PER_TURN: usize = 16;
/// Unsent bytes of a client; beyond them it waits until the server reads.
const UNSENT_BYTES_MAX: usize = 256 * 1024;

/// Floods until `stop` is set.
pub fn run(addr: SocketAddr, settings: &FloodSettings, stop: &AtomicBool) -> Result<Tally, LoadError> {
    // Of this thread only, on Linux. It stays as it is where that is not allowed.
    let _ = nice(10);
    let mut flood = Flood::new(addr, settings)?;
    while !stop.load(Ordering::Relaxed) {
        flood.turn()?;
        std::thread::yield_now();
    }
    Ok(flood.tally)
}

struct Flood {
    poll: Poll,
    addr: SocketAddr,
    rate: u32,
    started: Instant,
    /// Acts so far.
    done: u64,
    slots: Vec<Slot>,
    /// Slots that may act.
    ready: VecDeque<usize>,
    /// Those that act once a second by themselves.
    slow: Vec<usize>,
    at_once: bool,
    /// How often any of them has acted.
    trickled: u64,
    /// One for all connections.
    buf: Vec<u8>,
    sources: usize,
    tally: Tally,
}

/// A client, which has one connection after the other.
struct Slot {
    bad: Bad,
    conn: Option<Conn>,
    /// Whether it waits in `ready`.
    waits: bool,
    /// Its acts over all connections.
    acts: u64,
}

struct Conn {
    stream: TcpStream,
    is_connected: bool,
    is_upgraded: bool,
    /// Whether the server has said why it ends the connection.
    is_told: bool,
    /// Whether it reads.
    reads: bool,
    received: Vec<u8>,
    unsent: Vec<u8>,
}

impl Flood {
    fn new(addr: SocketAddr, settings: &FloodSettings) -> Result<Self, LoadError> {
        let bad = Bad::ALL.into_iter().cycle().take(settings.clients);
        let slots: Vec<Slot> = bad.map(|bad| Slot { bad, conn: None, waits: true, acts: 0 }).collect();
        Ok(Self {
            poll: Poll::new().map_err(LoadError::io("create a poll"))?,
            addr,
            rate: settings.rate,
            started: Instant::now(),
            done: 0,
            ready: (0..slots.len()).collect(),
            slow: (0..slots.len()).filter(|&slot| slots[slot].bad.is_slow()).collect(),
            slots,
            at_once: settings.at_once,
            trickled: 0,
            buf: vec![0; READ_BYTES],
            sources: 0,
            tally: Tally::default(),
        })
    }

    fn turn(&mut self) -> Result<(), LoadError> {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        let nap = if self.may_act() { Duration::ZERO } else { NAP };
        match self.poll.poll(&mut events, Some(nap)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => result.map_err(LoadError::io("poll"))?,
        }
        for event in &events {
            let slot = event.token().0;
            if event.is_writable() {
                self.on_writable(slot);
            }
            if event.is_readable() || event.is_error() || event.is_write_closed() {
                self.on_readable(slot);
            }
        }
        self.trickle();
        for _ in 0..ACTS_PER_TURN {
            if !self.may_act() {
                break;
            }
            let Some(slot) = self.ready.pop_front() else { break };
            self.slots[slot].waits = false;
            self.act(slot)?;
        }
        Ok(())
    }

    /// Each slow one may act once a second, at its place in the second or all of them at its end.
    fn trickle(&mut self) {
        let rounds = self.started.elapsed().as_secs_f64() / TRICKLE.as_secs_f64();
        let rounds = if self.at_once { rounds.floor() } else { rounds };
        let due = (rounds * self.slow.len() as f64) as u64;
        while self.trickled < due {
            let at = (self.trickled % self.slow.len() as u64) as usize;
            self.wait(self.slow[at]);
            self.trickled += 1;
        }
    }

    fn may_act(&self) -> bool {
        let due = self.started.elapsed().as_secs_f64() * f64::from(self.rate);
        !self.ready.is_empty() && (self.rate == 0 || (self.done as f64) < due)
    }

    fn wait(&mut self, slot: usize) {
        if !std::mem::replace(&mut self.slots[slot].waits, true) {
            self.ready.push_back(slot);
        }
    }

    fn act(&mut self, slot: usize) -> Result<(), LoadError> {
        let Slot { bad, conn, acts, .. } = &mut self.slots[slot];
        if let Some(conn) = conn
            && (!conn.is_connected || conn.unsent.len() > UNSENT_BYTES_MAX)
        {
            return Ok(());
        }
        self.done += 1;
        *acts += 1;
        *self.tally.acts.entry(*bad).or_default() += 1;
        match conn {
            None => self.open(slot),
            Some(conn) => {
                bad.act(slot, *acts, &mut conn.unsent);
                self.write(slot);
                Ok(())
            }
        }
    }

    fn open(&mut self, slot: usize) -> Result<(), LoadError> {
        let bad = self.slots[slot].bad;
        let stream = match self.connect(bad.is_deaf()) {
            Ok(stream) => stream,
            // No port or no descriptor now: later.
            Err(_) => {
                self.ended(slot, End::NotOpened);
                self.wait(slot);
                return Ok(());
            }
        };
        let conn = Conn {
            stream,
            is_connected: false,
            is_upgraded: false,
            is_told: false,
            reads: true,
            received: Vec::new(),
            unsent: Vec::new(),
        };
        let conn = self.slots[slot].conn.insert(conn);
        self.poll
            .registry()
            .register(&mut conn.stream, Token(slot), Interest::READABLE | Interest::WRITABLE)
            .map_err(LoadError::io("register a connection"))
    }

    fn connect(&mut self, is_narrow: bool) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(self.addr), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        if is_narrow {
            socket.set_recv_buffer_size(4096)?; // the kernel's least: its server soon notices that it does not read
        }
        if let IpAddr::V4(ip) = self.addr.ip()
            && ip.is_loopback()
        {
            self.sources = (self.sources + 1) % SOURCES;
            let source = Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + 1 + self.sources as u32);
            socket.bind(&SocketAddr::from((source, 0)).into())?;
        }
        match socket.connect(&self.addr.into()) {
            Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => Err(error),
            _ => Ok(TcpStream::from_std(socket.into())),
        }
    }

    fn on_writable(&mut self, slot: usize) {
        let addr = self.addr;
        let Slot { bad, conn: Some(conn), acts, .. } = &mut self.slots[slot] else { return };
        if !conn.is_connected {
            // An event of the connection before may come late: then this one is not connected yet.
            if conn.stream.peer_addr().is_err() {
                return;
            }
            conn.is_connected = true;
            bad.begin(addr, *acts, &mut conn.unsent);
        }
        self.write(slot);
    }

    fn write(&mut self, slot: usize) {
        let Some(conn) = &mut self.slots[slot].conn else { return };
        while !conn.unsent.is_empty() {
            match conn.stream.write(&conn.unsent) {
                Ok(len) => drop(conn.unsent.drain(..len)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The server may have said why before it closed.
                Err(_) => return self.on_readable(slot),
            }
        }
    }

    fn on_readable(&mut self, slot: usize) {
        loop {
            let Some(conn) = &mut self.slots[slot].conn else { return };
            if !conn.is_connected {
                if conn.stream.take_error().is_ok_and(|error| error.is_none()) {
                    return;
                }
                self.ended(slot, End::NotOpened);
                return self.again(slot);
            }
            if !conn.reads {
                // It looks at the socket only to see whether it is still there.
                if conn.stream.take_error().is_ok_and(|error| error.is_none()) && conn.stream.peer_addr().is_ok() {
                    return;
                }
                self.ended(slot, End::Dropped);
                return self.again(slot);
            }
            match conn.stream.read(&mut self.buf) {
                Ok(len) if len > 0 => conn.received.extend_from_slice(&self.buf[..len]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Ok(_) | Err(_) => {
                    if !conn.is_told {
                        self.ended(slot, End::Dropped);
                    }
                    return self.again(slot);
                }
            }
            if !self.hear(slot) {
                return self.again(slot);
            }
        }
    }

    /// Looks at all that has come. False: the connection is over.
    fn hear(&mut self, slot: usize) -> bool {
        loop {
            let Slot { bad, conn: Some(conn), .. } = &mut self.slots[slot] else { return false };
            let (heard, used) = match bad::hear(&conn.received, conn.is_upgraded) {
                Ok(Some(heard)) => heard,
                Ok(None) => break,
                // It is no partner for a conversation: what it says is not read.
                Err(_) => (Heard::Nothing, conn.received.len()),
            };
            conn.received.drain(..used);
            conn.is_upgraded |= heard == Heard::Upgraded;
            let Next { end, wish } = bad.answer(&heard, &mut conn.unsent);
            conn.is_told |= end.is_some_and(End::is_last);
            conn.reads &= wish != Wish::BeDeaf;
            if wish == Wish::BeDeaf {
                // Only its end is of interest from here on.
                let (registry, interest) = (self.poll.registry(), Interest::WRITABLE);
                let _ = registry.reregister(&mut conn.stream, Token(slot), interest);
            }
            if let Some(end) = end {
                self.ended(slot, end);
            }
            match wish {
                Wish::Leave => return false,
                Wish::Act | Wish::BeDeaf => self.wait(slot),
                Wish::Wait => {}
            }
        }
        self.write(slot);
        true
    }

    /// Cuts the connection; the client comes back in its turn.
    fn again(&mut self, slot: usize) {
        self.slots[slot].conn = None;
        self.wait(slot);
    }

    fn ended(&mut self, slot: usize, end: End) {
        *self.tally.ends.entry((self.slots[slot].bad, end)).or_default() += 1;
    }
}
