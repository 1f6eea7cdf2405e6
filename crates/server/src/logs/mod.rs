//! The log: the hub's notes, each at a suitable level and at a bounded rate; and the process's log as a whole.
//!
//! Every line that a peer can cause goes through [`admit`]: of each kind a few lines at once and then one a second for
//! each thread, and the next line has the number of those that were left out. So an attack cannot fill a disk, under
//! any subscriber of the embedding program. [`Logs`] (`setup`) sets one up, with a bound on all lines together: `quote`
//! writes values so that none begins a line or makes a field, `redact` removes secrets, and `queue` takes the lines, so
//! that threads which log do not wait for the reader. Texts of peers and of handlers are recorded as strings, which
//! other subscribers quote too.

mod queue;
mod quote;
mod redact;
mod setup;

pub(crate) use queue::lines_lost;
pub use redact::LogSecrets;
pub(crate) use setup::flush_last_words;
pub use setup::{LogError, LogFormat, LogGuard, Logs};

use crate::request::{Peer, RequestId};
use fanfare_hub::{Caller, ClientId, Disconnect, Note, Noted, UserId};
use std::cell::RefCell;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tracing::field::display;

/// The kinds of lines that are limited separately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LineKind {
    Denied,
    Unsubscribed,
    NotRecovered,
    Gap,
    Behind,
    Throttled,
    Closed,
    Ignored,
    Refused,
    Request,
    Accept,
    Handler,
    Keys,
    Hook,
    Audit,
}

const KINDS: usize = LineKind::Audit as usize + 1;
/// Lines of one kind that may come at once.
const BURST: f64 = 10.0;
/// Lines of one kind in a second, in the long run.
const PER_SECOND: f64 = 1.0;

/// Lines that were left out, by any limit.
static LEFT_OUT: AtomicU64 = AtomicU64::new(0);

pub(crate) fn lines_left_out() -> u64 {
    LEFT_OUT.load(Relaxed)
}

/// Fills with time and is emptied by lines.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    room: f64,
    seen: Option<Instant>,
    left_out: u64,
}

impl Bucket {
    const fn full(burst: f64) -> Self {
        Bucket { room: burst, seen: None, left_out: 0 }
    }

    /// `Some` if there is room for one more line, with the number of lines that were left out since the last one.
    fn take(&mut self, now: Instant, per_second: f64, burst: f64) -> Option<u64> {
        let since = self.seen.map_or(Duration::ZERO, |seen| now.saturating_duration_since(seen));
        self.seen = Some(now);
        self.room = (self.room + since.as_secs_f64() * per_second).min(burst);
        if self.room < 1.0 {
            self.left_out += 1;
            return None;
        }
        self.room -= 1.0;
        Some(std::mem::take(&mut self.left_out))
    }
}

/// `Some` if one more line of this kind may be logged, with the number that was left out before it, if any.
pub(crate) fn admit(kind: LineKind) -> Option<Option<u64>> {
    thread_local! {
        static BUCKETS: RefCell<[Bucket; KINDS]> = const { RefCell::new([Bucket::full(BURST); KINDS]) };
    }
    let admitted = BUCKETS.with_borrow_mut(|buckets| buckets[kind as usize].take(Instant::now(), PER_SECOND, BURST));
    if admitted.is_none() {
        LEFT_OUT.fetch_add(1, Relaxed);
    }
    admitted.map(|left_out| (left_out > 0).then_some(left_out))
}

/// Logs, unless there were too many lines of the kind. It counts only if a subscriber takes the level.
macro_rules! limited {
    ($kind:ident, $level:ident, $($line:tt)*) => {
        if tracing::enabled!(tracing::Level::$level)
            && let Some(left_out) = $crate::logs::admit($crate::logs::LineKind::$kind)
        {
            tracing::event!(tracing::Level::$level, left_out, $($line)*);
        }
    };
}
pub(crate) use limited;

/// Logs a note of the hub. `peer` is the client's end of its connection.
pub(crate) fn say(note: &Note, peer: Option<&Peer>) {
    let peer = peer.map(display);
    let client = note.client.map(display);
    let user = note.user.as_ref().map(|user| &*user.0);
    match &note.what {
        Noted::Denied(error) | Noted::Unsubscribed(error) | Noted::Throttled(error) => {
            let channel = error.channel.as_ref().map(|channel| channel.as_str());
            let (code, rule) = (error.code.row().word, error.rule.as_deref());
            let (option, why) = (error.option.or(error.limit), &*error.message);
            // A line's words are fixed in the source, so that no text is made for a level that is not logged.
            macro_rules! refused {
                ($kind:ident, $words:literal) => {
                    limited!($kind, INFO, client, user, peer, channel, code, rule, option, why, $words)
                };
            }
            match &note.what {
                Noted::Denied(_) => refused!(Denied, "denied"),
                Noted::Throttled(_) => {
                    refused!(Throttled, "rate limited: the client is not read until there is room")
                }
                _ => refused!(Unsubscribed, "a subscription was ended"),
            }
        }
        Noted::NotRecovered { channel } => {
            let channel = channel.as_str();
            limited!(
                NotRecovered,
                INFO,
                client,
                user,
                peer,
                channel,
                "not recovered: the missed publications are no longer kept"
            );
        }
        Noted::Gap { channel, reset } => {
            let channel = channel.as_str();
            limited!(Gap, INFO, client, user, peer, channel, reset, "a gap: messages are lost to this client");
        }
        Noted::Behind => {
            limited!(Behind, INFO, client, user, peer, "reads too slowly: it gets missed publications as it reads")
        }
        // Every end of a connection has its line, also one that no note tells ([`ended`]). `Reloaded` is each shard's
        // part of a line that the node logs once (`crate::server::reload`).
        _ => {}
    }
}

/// The side that has ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ender {
    Client,
    Server,
    Network,
    Application,
}

impl Ender {
    /// The word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Ender::Client => "client",
            Ender::Server => "server",
            Ender::Network => "network",
            Ender::Application => "application",
        }
    }
}

/// A connection that has ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EndedLine<'a> {
    pub(crate) by: Ender,
    /// The word that it has in figures too.
    pub(crate) reason: &'static str,
    /// Of the close frame, and of the table of reasons.
    pub(crate) code: Option<u16>,
    /// What more is known.
    pub(crate) why: Option<&'a str>,
    pub(crate) client: Option<ClientId>,
    pub(crate) user: Option<&'a UserId>,
    pub(crate) peer: &'a Peer,
    /// The labels of its wire.
    pub(crate) transport: &'static str,
    pub(crate) protocol: &'static str,
    pub(crate) lived_ms: u64,
    /// How much a person wants to know of it.
    pub(crate) weight: EndWeight,
}

/// How much a person wants to know of an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndWeight {
    /// The server's own failure.
    Fault,
    /// Too much came of a client, or of all.
    Excess,
    /// Somebody may ask about it.
    Notable,
    /// It happens all the time.
    Everyday,
}

impl EndWeight {
    /// Of an end by the server.
    pub(crate) fn of(reason: Disconnect) -> Self {
        match reason {
            Disconnect::Internal => EndWeight::Fault,
            Disconnect::Abuse | Disconnect::Overloaded => EndWeight::Excess,
            Disconnect::Slow
            | Disconnect::Lost
            | Disconnect::Unauthorized
            | Disconnect::Kicked
            | Disconnect::BadProtocol => EndWeight::Notable,
            _ => EndWeight::Everyday,
        }
    }
}

/// Logs the end of a connection. Everyday ends are logged one by one, as requests are, at a level that is off unless
/// somebody wants to see each.
pub(crate) fn ended(line: &EndedLine<'_>) {
    let EndedLine { reason, code, why, transport, protocol, lived_ms, .. } = *line;
    let (by, user) = (line.by.word(), line.user.map(|user| &*user.0));
    let (client, peer) = (line.client.map(display), display(line.peer));
    macro_rules! ended {
        ($level:ident) => {
            limited!(
                Closed,
                $level,
                by,
                reason,
                code,
                why,
                client,
                user,
                peer,
                transport,
                protocol,
                lived_ms,
                "disconnected"
            )
        };
    }
    match line.weight {
        EndWeight::Fault => ended!(ERROR),
        EndWeight::Excess => ended!(WARN),
        EndWeight::Notable => ended!(INFO),
        EndWeight::Everyday => {
            tracing::debug!(by, reason, code, why, client, user, peer, transport, protocol, lived_ms, "disconnected");
        }
    }
}

/// Logs a message of a client that was ignored.
pub(crate) fn ignored(why: &dyn fmt::Display, peer: &Peer) {
    limited!(Ignored, INFO, peer = display(peer), why = &*why.to_string(), "message ignored");
}

/// Logs a request that was answered.
pub(crate) fn request(id: &RequestId, peer: Option<SocketAddr>, method: &str, path: &str, status: u16, took: Duration) {
    let peer = peer.map(display);
    let (request_id, ms) = (id.as_str(), took.as_millis() as u64);
    if status >= 500 {
        limited!(Request, WARN, request_id, peer, method, path, status, ms, "request failed");
    } else {
        tracing::debug!(request_id, peer, method, path, status, ms, "request");
    }
}

/// A request by which a client connects, or talks without a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    WebSocket,
    Stream,
    Poll,
    Send,
}

/// Logs a request that was refused for its form or its page: why a client cannot connect.
pub(crate) fn refused(asked: Asked, id: &RequestId, peer: &Peer, path: &str, status: u16, why: &str) {
    let path = &path[..path.char_indices().nth(128).map_or(path.len(), |(at, _)| at)];
    let (request_id, peer) = (id.as_str(), display(peer));
    macro_rules! refused {
        ($words:literal) => {
            limited!(Refused, INFO, request_id, peer, path, status, why, $words)
        };
    }
    match asked {
        Asked::WebSocket => refused!("a WebSocket was refused"),
        Asked::Stream => refused!("a stream was refused"),
        Asked::Poll => refused!("a poll was refused"),
        Asked::Send => refused!("a send was refused"),
    }
}

/// A row of the audit log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AuditLine<'a> {
    pub(crate) by: &'static str,
    pub(crate) key: Option<&'a str>,
    pub(crate) command: &'static str,
    pub(crate) client: Option<&'a str>,
    pub(crate) user: Option<&'a str>,
    pub(crate) label: Option<&'a str>,
    pub(crate) channel: Option<&'a str>,
    pub(crate) result: &'static str,
    pub(crate) why: Option<&'a str>,
    pub(crate) sessions: Option<u64>,
    pub(crate) banned_until: Option<u64>,
    pub(crate) request_id: Option<&'a str>,
}

/// Logs a row of the audit log, under a target of its own. Callers without a valid key can cause any number of them:
/// theirs are limited.
pub(crate) fn audited(line: &AuditLine<'_>) {
    let AuditLine { by, key, command, client, user, label, channel, result, why, .. } = *line;
    let AuditLine { sessions, banned_until, request_id, .. } = *line;
    macro_rules! audited {
        ($left_out:expr) => {
            tracing::info!(
                target: "audit",
                left_out = $left_out,
                by,
                key,
                command,
                client,
                user,
                label,
                channel,
                result,
                why,
                sessions,
                banned_until,
                request_id,
                "audit"
            )
        };
    }
    let is_known = key.is_some() || by == "program";
    if is_known {
        audited!(None::<u64>);
    } else if tracing::enabled!(target: "audit", tracing::Level::INFO)
        && let Some(left_out) = admit(LineKind::Audit)
    {
        audited!(left_out);
    }
}

/// Logs the error of a handler. Its caller does not get the cause.
pub(crate) fn handler_failed(handler: &str, channel: Option<&str>, caller: &Caller, peer: Option<&Peer>, cause: &str) {
    let (client, user) = (caller.client.map(display), caller.user.as_ref().map(|user| &*user.0));
    limited!(Handler, ERROR, handler, channel, client, user, peer = peer.map(display), cause, "a handler failed");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_logs_a_few_lines_and_the_next_one_tells_how_many_were_left_out() {
        let mut bucket = Bucket::full(BURST);
        let born = Instant::now();
        let at = |ms| born + Duration::from_millis(ms);
        let logged = (0..1_000).filter(|&ms| bucket.take(at(ms), PER_SECOND, BURST).is_some()).count();
        assert_eq!(logged, 10);
        assert_eq!(bucket.take(at(1_100), PER_SECOND, BURST), Some(990));
        assert_eq!(bucket.take(at(1_101), PER_SECOND, BURST), None);
        assert_eq!(bucket.take(at(60_000), PER_SECOND, BURST), Some(1));
        let logged = (0..100).filter(|_| bucket.take(at(60_000), PER_SECOND, BURST).is_some()).count();
        assert_eq!(logged, 9, "quiet does not save up more than a burst");
    }
}
