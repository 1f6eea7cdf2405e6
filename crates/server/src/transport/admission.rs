//! The limits of connections: on the node, and from one address.
//!
//! In: each accepted connection, with its peer's address. Out: an [`Admitted`], held as long as its socket is open. A
//! connection over a limit is still read, by a descriptor of a reserve: a WebSocket is asked to come back later, a page
//! is refused, and probes and the application's API are served, because an operator needs them then. If the reserve is
//! used up too, the connection is closed without an answer.
//!
//! The reserve is for short visits ([`Places`]): such a connection has one request and [`TIME_OVER`] for it
//! ([`hasten`]), and one address has at most a quarter of the reserve. A connection whose request is not whole makes
//! room for a newcomer. So silent connections keep no probe out, even from the same address: all clients behind a proxy
//! have its address.
//!
//! Requests for a session that exists (a poll, a send, packets of Engine.IO) are served over a limit too, because a
//! client that is being served must be able to go on. They have a reserve of their own, half as large: once the seal
//! of their ticket is found valid, their connection moves there ([`Guest::enter`]). There a poll waits for
//! [`TIME_OVER`] at most.
//!
//! The address is the peer's, as the kernel reports it, and of IPv6 its first 64 bits. Unix sockets have none. A
//! connection of a trusted proxy may carry the requests of many clients, so it counts for no address; when it becomes
//! one client's (a WebSocket, a stream, or a PROXY header told it), it counts for that client's
//! ([`Admitted::count_for`]).
//!
//! New connections have rates too: in all, and from one address ([`Arrivals`](super::arrivals)). A connection that comes
//! too fast is one over a limit.
//!
//! Under overload ([`Overload`](super::overload)) every new connection is one over a limit, and no session that polls begins.
//!
//! A session of a client that polls has no socket, and none of its requests is open all the time. Such sessions are
//! counted by themselves against the same limits ([`Connections::admit_session`]): so they take no place of a socket
//! that their own requests need, and a client that opens sessions and never comes back is bounded too. One that goes on
//! with a WebSocket gives its place back when the WebSocket, which has its own, replaces it.

use super::arrivals::{Arrivals, TooFast, counted};
use super::overload::Overload;
use crate::config::Config;
use crate::transport::places::{Place, Places};
use fanfare_hub::ErrorCode;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Descriptors that a node has besides its connections: listeners, runtimes, the admin port, the log.
const FILES_OWN: usize = 64;
/// The same for each shard.
const FILES_SHARD: usize = 8;
/// Descriptors kept for connections over a limit: an eighth of all, but at least so many.
const FILES_KEPT_MIN: usize = 16;
/// And at most so many.
const FILES_KEPT_MAX: usize = 1024;

/// The part of the reserve that one address may have: one of so many.
const RESERVE_PARTS: usize = 4;
/// The longest time that a connection over a limit has for the head of its request, for being idle, and for taking
/// nothing of its answer.
pub(crate) const TIME_OVER: Duration = Duration::from_secs(2);

/// After this time a client of a connection over a limit of how many there are may come back.
const RETRY_AFTER_MS: u64 = 5_000;
/// And after this time at least, where they came too fast.
const RETRY_AFTER_MIN_MS: u64 = 1_000;

/// A time of the configuration, for a connection over a limit.
pub(crate) fn hasten(time: Duration) -> Duration {
    time.min(TIME_OVER)
}

/// The word for them.
const WHAT: &str = "connections";

/// The connections of a node, on all its shards.
#[derive(Debug)]
pub(crate) struct Connections {
    max: usize,
    per_address_max: usize,
    open: AtomicUsize,
    by_address: Mutex<HashMap<Block, usize>>,
    /// Sessions without a socket.
    sessions: AtomicUsize,
    sessions_by_address: Mutex<HashMap<Block, usize>>,
    /// The times of arrivals count from here.
    begun: Instant,
    arrivals: Mutex<Arrivals>,
    /// Those of sessions without a socket.
    session_arrivals: Mutex<Arrivals>,
    overload: Overload,
    reserve: Arc<Places>,
    /// For requests of sessions over a limit.
    session_reserve: Arc<Places>,
    refused: [AtomicU64; REASONS.len()],
    proxy_headers: [AtomicU64; PROXY_HEADERS.len()],
    handshakes: [AtomicU64; HANDSHAKES.len()],
}

/// The words for what came of the headers of the PROXY protocol, in the order of [`ProxyHeader`].
pub(crate) const PROXY_HEADERS: [&str; 3] = ["done", "failed", "untrusted"];

/// The outcome of a header of the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProxyHeader {
    Done,
    /// The connection did not begin with one, or not in time.
    Failed,
    /// The peer is none of the trusted proxies.
    Untrusted,
}

/// When a connection is counted for an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counts {
    Now,
    /// It came from a proxy: for its client's, when that is known.
    Later,
}

/// The words for the outcomes of TLS handshakes, in the order of [`Handshake`].
pub(crate) const HANDSHAKES: [&str; 3] = ["done", "failed", "proof"];

/// The outcome of a TLS handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handshake {
    Done,
    /// Also where it took too long, or was none.
    Failed,
    /// An ACME authority has seen what it wanted to see.
    Proof,
}

/// The words for why a connection was refused, in the order of [`Reason`].
pub(crate) const REASONS: [&str; 9] = [
    "connections_max",
    "connections_per_address_max",
    "no_reserve",
    "no_descriptor",
    "accept_failed",
    "new_connections",
    "new_connections_per_address",
    "overload_lag",
    "memory_max",
];

/// Why a connection was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    Node,
    Address,
    /// Over a limit, and nothing is left of the reserve.
    NoReserve,
    /// The system has no descriptor left: it was refused by the spare one.
    NoDescriptor,
    /// An attempt to accept failed for another reason.
    AcceptFailed,
    /// Too many new ones in too short a time, in all.
    Rate,
    /// The same from one address.
    AddressRate,
    /// A shard takes its turns late.
    Lag,
    /// The process has too much memory.
    Memory,
}

/// The addresses that count as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Block {
    V4(u32),
    V6(u64),
}

/// The limit that a connection exceeds, for the answer to it.
#[derive(Debug, Clone)]
pub(crate) struct Over {
    reason: Reason,
    pub(crate) words: String,
    pub(crate) option: &'static str,
    pub(crate) limit: usize,
    pub(crate) code: ErrorCode,
    /// After this time a client may come back.
    pub(crate) retry_after_ms: u64,
}

/// The number of connections, and its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OpenCount {
    /// Connections over a limit are not counted.
    pub(crate) open: usize,
    /// Sessions without a socket.
    pub(crate) sessions: usize,
    pub(crate) max: usize,
}

/// A connection that is over a limit.
#[derive(Debug)]
struct OverLimit {
    over: Over,
    /// Its place of the reserve.
    place: Arc<Place>,
}

/// A connection over a limit, on which a request has come.
#[derive(Debug, Clone)]
pub(crate) struct Guest {
    pub(crate) over: Over,
    connections: Arc<Connections>,
    place: Arc<Place>,
}

impl Guest {
    /// The request is whole, and for a session that exists. False if the reserve for such requests is used up.
    pub(crate) fn enter(&self) -> bool {
        let entered = self.place.move_to(&self.connections.session_reserve);
        if entered.unwrap_or(true) {
            self.connections.refuse(Reason::NoReserve); // this one, or the one that makes room for it
        }
        entered.is_some()
    }
}

/// A client that uses the connection of a proxy for a while, counted for its address until this is dropped.
#[derive(Debug)]
pub(crate) struct ProxiedClient {
    connections: Arc<Connections>,
    block: Option<Block>,
}

impl Drop for ProxiedClient {
    fn drop(&mut self) {
        if let Some(block) = self.block {
            leave(&self.connections.by_address, block);
        }
    }
}

/// A session without a socket that is counted, until this is dropped.
#[derive(Debug)]
pub(crate) struct AdmittedSession {
    connections: Arc<Connections>,
    block: Option<Block>,
}

impl Drop for AdmittedSession {
    fn drop(&mut self) {
        self.connections.sessions.fetch_sub(1, Relaxed);
        if let Some(block) = self.block {
            leave(&self.connections.sessions_by_address, block);
        }
    }
}

/// A connection that is counted, until this is dropped.
#[derive(Debug)]
pub(crate) struct Admitted {
    connections: Arc<Connections>,
    /// The address that it counts for.
    block: Option<Block>,
    /// It is not counted for an address yet: that of its proxy, if it has one.
    waits: Option<Option<Block>>,
    over: Option<OverLimit>,
}

impl Block {
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Block::V4(address.to_bits()),
            IpAddr::V6(address) => Block::V6((address.to_bits() >> 64) as u64),
        }
    }
}

impl Connections {
    pub(crate) fn new(config: &Config) -> Arc<Self> {
        let files = files_max();
        let kept = (files / 8).clamp(FILES_KEPT_MIN, FILES_KEPT_MAX);
        let own = FILES_OWN + FILES_SHARD * config.shards;
        let possible = files.saturating_sub(kept + own).max(1);
        let max = if config.connections_max == 0 { possible } else { config.connections_max };
        if max > possible {
            tracing::warn!(
                connections_max = max,
                open_files_max = files,
                "the limit of connections is above the limit of open files; about {possible} are possible"
            );
        }
        tracing::debug!(connections_max = max, open_files_max = files, "the limit of connections");
        Arc::new(Connections {
            max,
            per_address_max: config.connections_per_address_max,
            open: AtomicUsize::new(0),
            by_address: Mutex::default(),
            sessions: AtomicUsize::new(0),
            sessions_by_address: Mutex::default(),
            begun: Instant::now(),
            arrivals: Mutex::new(Arrivals::new(config.new_connections)),
            session_arrivals: Mutex::new(Arrivals::new(config.new_connections)),
            overload: Overload::new(config),
            reserve: reserve(kept / 2),
            session_reserve: reserve(kept / 4),
            refused: Default::default(),
            proxy_headers: Default::default(),
            handshakes: Default::default(),
        })
    }

    /// Counts a connection. `None` if it must be closed at once.
    pub(crate) fn admit(self: &Arc<Self>, address: Option<IpAddr>, counts: Counts) -> Option<Admitted> {
        let peer = address.map(Block::of);
        let waits = (counts == Counts::Later).then_some(peer);
        let block = peer.filter(|_| self.per_address_max > 0 && counts == Counts::Now);
        let over = if !take(&self.open, self.max) {
            Some(Reason::Node)
        } else if !block.is_none_or(|block| enter(&self.by_address, block, self.per_address_max)) {
            self.open.fetch_sub(1, Relaxed);
            Some(Reason::Address)
        } else {
            None
        };
        let over = over.map(|reason| self.over(reason, WHAT));
        let over = over.or_else(|| {
            let address = address.filter(|_| counts == Counts::Now).and_then(counted);
            let too_fast = self.arrive(&self.arrivals, address, true, WHAT)?;
            self.open.fetch_sub(1, Relaxed);
            if let Some(block) = block {
                leave(&self.by_address, block);
            }
            Some(too_fast)
        });
        let Some(over) = over else { return Some(Admitted { connections: self.clone(), block, waits, over: None }) };
        self.refuse(over.reason);
        let entered = self.reserve.enter(peer);
        if entered.as_ref().is_none_or(|entered| entered.displaces) {
            self.refuse(Reason::NoReserve); // this one, or the one that makes room for it
        }
        let over = OverLimit { over, place: Arc::new(entered?.place) };
        Some(Admitted { connections: self.clone(), block: None, waits: None, over: Some(over) })
    }

    /// Counts a client that uses the connection of a proxy for a stream. `None`: its address has too many.
    pub(crate) fn enter(self: &Arc<Self>, client: Option<IpAddr>) -> Option<ProxiedClient> {
        let block = client.map(Block::of).filter(|_| self.per_address_max > 0);
        if block.is_some_and(|block| !enter(&self.by_address, block, self.per_address_max)) {
            self.refuse(Reason::Address);
            return None;
        }
        if let Some(over) = self.arrive(&self.arrivals, client.and_then(counted), false, WHAT) {
            if let Some(block) = block {
                leave(&self.by_address, block);
            }
            self.refuse(over.reason);
            return None;
        }
        Some(ProxiedClient { connections: self.clone(), block })
    }

    /// Counts a session without a socket, of a client at this address.
    ///
    /// # Errors
    /// There are as many as a limit allows.
    pub(crate) fn admit_session(self: &Arc<Self>, client: Option<IpAddr>) -> Result<AdmittedSession, Over> {
        let block = client.map(Block::of).filter(|_| self.per_address_max > 0);
        let reason = if !take(&self.sessions, self.max) {
            Reason::Node
        } else if !block.is_none_or(|block| enter(&self.sessions_by_address, block, self.per_address_max)) {
            self.sessions.fetch_sub(1, Relaxed);
            Reason::Address
        } else {
            let what = "sessions that poll";
            let admitted = AdmittedSession { connections: self.clone(), block };
            let Some(over) = self.arrive(&self.session_arrivals, client.and_then(counted), true, what) else {
                return Ok(admitted);
            };
            self.refuse(over.reason);
            return Err(over);
        };
        self.refuse(reason);
        Err(self.over(reason, "sessions that poll"))
    }

    /// Other rates for new connections, and other limits of overload, are in force.
    pub(crate) fn reload(&self, config: &Config) {
        self.overload.reload(config);
        for arrivals in [&self.arrivals, &self.session_arrivals] {
            arrivals.lock().unwrap_or_else(PoisonError::into_inner).set(config.new_connections);
        }
    }

    /// How busy the node is.
    pub(crate) fn overload(&self) -> &Overload {
        &self.overload
    }

    /// The answer to a client that comes under overload.
    fn overloaded(&self) -> Option<Over> {
        let reason = self.overload.reason()?;
        let (option, words, limit) = match reason {
            Reason::Memory => {
                let max = self.overload.memory_max();
                ("limits.memory_max", format!("the server is overloaded: it has more than {max} bytes of memory"), max)
            }
            _ => ("limits.overload_lag", "the server is overloaded: it takes its turns late".to_owned(), 0),
        };
        let (words, code) = (format!("{words} ({option})"), ErrorCode::Overloaded);
        Some(Over { reason, words, option, limit, code, retry_after_ms: RETRY_AFTER_MS })
    }

    /// One comes now. The overload, or the rate that it exceeds, if there is one.
    fn arrive(&self, arrivals: &Mutex<Arrivals>, block: Option<Block>, in_all: bool, what: &str) -> Option<Over> {
        if let Some(over) = self.overloaded() {
            return Some(over);
        }
        let now_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let taken = arrivals.lock().unwrap_or_else(PoisonError::into_inner).take(now_ms, block, in_all);
        let TooFast { of_address, rate, retry_after_ms } = taken.err()?;
        let (reason, option, whose) = match of_address {
            true => (Reason::AddressRate, "limits.new_connections_per_address", " from this address"),
            false => (Reason::Rate, "limits.new_connections", ""),
        };
        let (count, window_ms) = (rate.count(), rate.window_ms());
        let words = format!("{count} new {what}{whose} may come in {window_ms} ms ({option})");
        let limit = usize::try_from(count).unwrap_or(usize::MAX);
        let retry_after_ms = retry_after_ms.max(RETRY_AFTER_MIN_MS);
        Some(Over { reason, words, option, limit, code: ErrorCode::RateLimited, retry_after_ms })
    }

    /// The limit of this reason, in words.
    fn over(&self, reason: Reason, what: &str) -> Over {
        let (limit, option, whose) = match reason {
            Reason::Address => {
                (self.per_address_max, "limits.connections_per_address_max", " from this address, the limit of one")
            }
            _ => (self.max, "limits.connections_max", ", the limit of this server"),
        };
        let words = format!("there are {limit} {what}{whose} ({option})");
        Over { reason, words, option, limit, code: ErrorCode::Unavailable, retry_after_ms: RETRY_AFTER_MS }
    }

    /// Counts a connection that was refused or is over a limit.
    pub(crate) fn refuse(&self, reason: Reason) {
        self.refused[reason as usize].fetch_add(1, Relaxed);
    }

    /// Counts a header of the PROXY protocol, or its absence.
    pub(crate) fn proxy_header(&self, outcome: ProxyHeader) {
        self.proxy_headers[outcome as usize].fetch_add(1, Relaxed);
    }

    /// How many there were, by their outcome.
    pub(crate) fn proxy_headers(&self) -> [u64; PROXY_HEADERS.len()] {
        std::array::from_fn(|at| self.proxy_headers[at].load(Relaxed))
    }

    /// Counts a TLS handshake.
    pub(crate) fn handshake(&self, outcome: Handshake) {
        self.handshakes[outcome as usize].fetch_add(1, Relaxed);
    }

    /// How many there were, by their outcome.
    pub(crate) fn handshakes(&self) -> [u64; HANDSHAKES.len()] {
        std::array::from_fn(|at| self.handshakes[at].load(Relaxed))
    }

    /// Refused connections, by [`REASONS`].
    pub(crate) fn refused(&self) -> [u64; REASONS.len()] {
        std::array::from_fn(|at| self.refused[at].load(Relaxed))
    }

    /// How many are open now.
    pub(crate) fn open(&self) -> OpenCount {
        OpenCount { open: self.open.load(Relaxed), sessions: self.sessions.load(Relaxed), max: self.max }
    }
}

/// The places of so many descriptors.
fn reserve(max: usize) -> Arc<Places> {
    Places::new(max, (max / RESERVE_PARTS).max(1))
}

/// Counts one more of an address, if there is room.
fn enter(by_address: &Mutex<HashMap<Block, usize>>, block: Block, max: usize) -> bool {
    let mut by_address = by_address.lock().unwrap_or_else(PoisonError::into_inner);
    let count = by_address.entry(block).or_default();
    let has_room = *count < max;
    *count += usize::from(has_room);
    has_room
}

/// Counts one less.
fn leave(by_address: &Mutex<HashMap<Block, usize>>, block: Block) {
    let mut by_address = by_address.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(count) = by_address.get_mut(&block) {
        *count -= 1;
        if *count == 0 {
            by_address.remove(&block);
        }
    }
}

/// Counts one more, if there is room.
fn take(count: &AtomicUsize, max: usize) -> bool {
    count.fetch_update(Relaxed, Relaxed, |count| (count < max).then_some(count + 1)).is_ok()
}

impl Admitted {
    /// Counts a connection of a proxy for its client's address, once; for the proxy's where the client's is not known.
    /// Over the limit of that address it gets a place of the reserve. False if none is left: it must be closed.
    pub(crate) fn count_for(&mut self, client: Option<IpAddr>) -> bool {
        let Some(proxy) = self.waits.take() else { return true };
        let Connections { per_address_max, by_address, .. } = &*self.connections;
        let known = client.map(Block::of).or(proxy);
        let block = known.filter(|_| *per_address_max > 0);
        let over = if block.is_none_or(|block| enter(by_address, block, *per_address_max)) {
            self.block = block;
            let Some(over) = self.connections.arrive(&self.connections.arrivals, client.and_then(counted), false, WHAT)
            else {
                return true;
            };
            if let Some(block) = self.block.take() {
                leave(by_address, block);
            }
            over
        } else {
            self.connections.over(Reason::Address, WHAT)
        };
        self.connections.refuse(over.reason);
        let entered = self.connections.reserve.enter(known);
        if entered.as_ref().is_none_or(|entered| entered.displaces) {
            self.connections.refuse(Reason::NoReserve);
        }
        let Some(entered) = entered else { return false };
        self.connections.open.fetch_sub(1, Relaxed);
        self.over = Some(OverLimit { over, place: Arc::new(entered.place) });
        true
    }

    /// The limit that this one exceeds; `None` for most.
    pub(crate) fn over(&self) -> Option<Over> {
        self.over.as_ref().map(|over| over.over.clone())
    }

    /// The same, for a request on it.
    pub(crate) fn guest(&self) -> Option<Guest> {
        let (over, place) = (self.over()?, self.place()?.clone());
        Some(Guest { over, connections: self.connections.clone(), place })
    }

    /// True for the connection of a proxy, until it is one client's.
    pub(crate) fn is_shared(&self) -> bool {
        self.waits.is_some()
    }

    /// Its place of the reserve, if it is over a limit.
    pub(crate) fn place(&self) -> Option<&Arc<Place>> {
        self.over.as_ref().map(|over| &over.place)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if self.over.is_some() {
            return; // its place goes with it
        }
        self.connections.open.fetch_sub(1, Relaxed);
        if let Some(block) = self.block {
            leave(&self.connections.by_address, block);
        }
    }
}

/// How many files this process may have open.
fn files_max() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current.and_then(|files| usize::try_from(files).ok()).unwrap_or(1 << 24)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_sessions_have_a_bounded_reserve_of_their_own() {
        let connections = connections(1, 0, 8); // and four for sessions
        let _open = connections.admit(None, Counts::Now).expect("room");
        let over = || {
            let admitted = connections.admit(None, Counts::Now).expect("from the reserve");
            admitted.place().expect("over the limit").serves();
            admitted
        };
        let guests: Vec<_> = (0..4).map(|_| over()).collect();
        assert!(guests.iter().all(|admitted| admitted.guest().expect("over the limit").enter()));
        assert_eq!((connections.reserve.used(), connections.session_reserve.used()), (0, 4));
        let one_more = over();
        assert!(!one_more.guest().expect("over the limit").enter(), "all of them are being answered");
        assert_eq!(connections.refused()[Reason::NoReserve as usize], 1);
        assert_eq!((connections.reserve.used(), connections.session_reserve.used()), (1, 4));
        drop((guests, one_more));
        assert_eq!((connections.reserve.used(), connections.session_reserve.used()), (0, 0));
    }

    fn connections(max: usize, per_address_max: usize, reserve_max: usize) -> Arc<Connections> {
        let config = Config { connections_max: max, connections_per_address_max: per_address_max, ..Config::default() };
        let mut connections = Arc::into_inner(Connections::new(&config)).expect("nobody else has it");
        connections.reserve = reserve(reserve_max);
        connections.session_reserve = reserve(reserve_max / 2);
        Arc::new(connections)
    }

    #[test]
    fn each_limit_holds_and_what_goes_makes_room() {
        let connections = connections(2, 0, 1);
        let first = connections.admit(None, Counts::Now).expect("room");
        let second = connections.admit(None, Counts::Now).expect("room");
        assert!(first.over().is_none() && second.over().is_none());
        let over = connections.admit(None, Counts::Now).expect("from the reserve");
        over.place().expect("over the limit").serves();
        let words = over.over().expect("over the limit").words;
        assert!(words.contains("there are 2 connections") && words.contains("limits.connections_max"), "{words}");
        assert!(connections.admit(None, Counts::Now).is_none(), "the reserve has an end");
        assert_eq!(connections.refused(), [2, 0, 1, 0, 0, 0, 0, 0, 0]);
        drop(first);
        assert!(connections.admit(None, Counts::Now).expect("room").place().is_none());
        drop((second, over));
        assert_eq!(connections.open(), OpenCount { open: 0, sessions: 0, max: 2 });
        assert_eq!(connections.reserve.used(), 0);
    }

    #[test]
    fn a_connection_of_a_proxy_counts_for_its_client_once_that_is_known() {
        let connections = connections(10, 1, 2);
        let address = |text: &str| Some(text.parse::<IpAddr>().expect(text));
        let proxy = address("10.0.0.1");
        let admit = || connections.admit(proxy, Counts::Later).expect("room");
        let (mut one, mut same, mut other, mut unknown, mut unknown_too) =
            (admit(), admit(), admit(), admit(), admit());
        assert!(connections.by_address.lock().expect("sound").is_empty(), "the proxy itself is not counted");
        assert!(one.count_for(address("192.0.2.1")) && one.place().is_none());
        assert!(one.count_for(address("192.0.2.2")), "it is counted once");
        assert!(other.count_for(address("192.0.2.2")) && other.place().is_none(), "for the first address alone");
        assert!(same.count_for(address("192.0.2.1")) && same.place().is_some(), "over the limit of its client");
        same.place().expect("over the limit").serves();
        assert!(unknown.count_for(None) && unknown.place().is_none(), "then it counts for the proxy");
        assert!(unknown_too.count_for(None) && unknown_too.place().is_some());
        unknown_too.place().expect("over the limit").serves();
        let mut last = admit();
        assert!(!last.count_for(address("192.0.2.2")), "the reserve has an end");
        assert_eq!(connections.open().open, 4, "the two of the reserve are not counted");
        let mut direct = connections.admit(address("192.0.2.3"), Counts::Now).expect("room");
        assert!(direct.count_for(address("192.0.2.1")) && direct.place().is_none(), "nobody speaks for it");
        drop((one, same, other, unknown, unknown_too, last, direct));
        assert!(connections.by_address.lock().expect("sound").is_empty());
        assert_eq!((connections.open().open, connections.reserve.used()), (0, 0));
    }

    #[test]
    fn sessions_without_a_socket_count_by_themselves() {
        let connections = connections(2, 1, 1);
        let address = |text: &str| Some(text.parse::<IpAddr>().expect(text));
        let admit = |client| connections.admit_session(client);
        let _socket = connections.admit(address("192.0.2.1"), Counts::Now).expect("room");
        let first = admit(address("192.0.2.1")).expect("a socket is no session");
        let over = admit(address("192.0.2.1")).expect_err("one address has one");
        assert_eq!((over.option, over.limit), ("limits.connections_per_address_max", 1));
        let other = admit(None).expect("an unknown address has no limit of its own");
        let full = admit(address("192.0.2.2")).expect_err("the node has two");
        assert_eq!(full.words, "there are 2 sessions that poll, the limit of this server (limits.connections_max)");
        assert_eq!(connections.refused(), [1, 1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(connections.open(), OpenCount { open: 1, sessions: 2, max: 2 });
        drop((first, other));
        let again = admit(address("192.0.2.1")).expect("there is room again");
        drop(again);
        assert!(connections.sessions_by_address.lock().expect("sound").is_empty());
        assert_eq!(connections.open().sessions, 0);
    }

    #[test]
    fn one_address_has_a_quarter_of_the_reserve_and_its_newcomers_get_in() {
        let connections = connections(1, 0, 8);
        let _open = connections.admit(None, Counts::Now).expect("room");
        let admit = |text: &str| connections.admit(Some(text.parse().expect(text)), Counts::Now);
        let hostile: Vec<_> = (0..8).filter_map(|_| admit("192.0.2.1")).collect();
        assert_eq!(hostile.len(), 8);
        assert_eq!(connections.reserve.used(), 2, "six were displaced by later ones");
        assert_eq!(connections.refused()[Reason::NoReserve as usize], 6);
        let probe = admit("192.0.2.2").expect("another address has its own part");
        assert!(probe.place().is_some());
        assert_eq!(connections.reserve.used(), 3);
        drop((hostile, probe));
        assert_eq!(connections.reserve.used(), 0);
    }

    #[test]
    fn an_address_is_one_of_ipv4_and_64_bits_of_ipv6() {
        let rows = [
            ("the same", "192.0.2.1", "192.0.2.1", true),
            ("another", "192.0.2.1", "192.0.2.2", false),
            ("one network", "2001:db8:1:2::1", "2001:db8:1:2:ffff::9", true),
            ("another network", "2001:db8:1:2::1", "2001:db8:1:3::1", false),
            ("IPv4 within IPv6", "192.0.2.1", "::ffff:192.0.2.1", true),
        ];
        for (name, one, other, same) in rows {
            let connections = connections(10, 1, 10);
            let admit = |text: &str| connections.admit(Some(text.parse().expect(text)), Counts::Now).expect("room");
            let first = admit(one);
            let second = admit(other);
            assert!(first.place().is_none(), "{name}");
            assert_eq!(second.place().is_some(), same, "{name}");
            assert!(
                connections.admit(None, Counts::Now).expect("room").place().is_none(),
                "{name}: a Unix socket is of no address"
            );
            drop((first, second));
            assert!(connections.by_address.lock().expect("sound").is_empty(), "{name}: what has gone is not kept");
            assert_eq!(connections.open().open, 0, "{name}");
        }
    }
}
