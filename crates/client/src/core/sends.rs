//! The way up of a client whose messages come by a stream or by polls: commands in numbered sends.
//!
//! In: the texts of commands, and the answers to sends. Out: requests. A send without an answer is sent again as it
//! was: it takes effect once. Up to [`FLYING_MAX`] sends are on their way, so one whose commands take long does not
//! hold up the others, with at most as many commands as the server takes in one; so no command is refused because too
//! many are outstanding.
//!
//! The numbers belong to the session. Where it goes on over another connection, the numbers that were not answered are
//! sent again *without* their commands: those that had not arrived take no effect any more, and none is missing. (The
//! client has decided about these commands when the connection was lost: they were answered as unknown, or as not sent
//! where the server cannot have seen them, or asked again under new numbers.) An `unsubscribe` among them may have
//! ended a subscription of the new connection: [`Done::unsubscribed`] says which.

use super::out::{Out, QueuedCommand, json_of};
use super::types::{Config, ExchangeId, HttpKind};
use fanfare_hub::Rng;
use fanfare_wire::native::COMMANDS_MAX;
use fanfare_wire::native::client::{PONG, encode_send};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Sends on their way.
const FLYING_MAX: usize = 4;
/// The server keeps so many answers for repeats.
const SPAN_MAX: u64 = 8;
/// Commands in one body have together no more bytes than one message may have where the server does not say how many.
const BODY_BYTES: usize = 64 << 10;
/// The waits between attempts: nothing after the first failure, then from this on, doubled each time to the maximum.
const REST_MS_MIN: u64 = 250;
const REST_MS_MAX: u64 = 8_000;
/// After so many attempts the connection is given up, unless it is a WebSocket: then what is left of sends has time.
const PATIENT_FAILURES: u32 = 10;
const PATIENT_MS: u64 = 60_000;
/// A send that lacks one before it waits so long, at most.
const ORDER_MS: u64 = 500;
/// A send that is without an answer for so many times the limit of one request ends the connection.
const GIVE_UP_TIMES: u64 = 3;

#[derive(Debug, Default)]
pub(super) struct Sends {
    queue: VecDeque<QueuedCommand>,
    queued_bytes: usize,
    flying: BTreeMap<u64, Send>,
    /// The answer to the last ping, until it has arrived. It has no number, and waits for no send before it.
    pong: Option<Pong>,
    /// An answer has asked for patience until then: no send goes up earlier.
    quiet_until_ms: u64,
    /// Ids of commands that were given up before the server can have seen them.
    unsent: BTreeSet<u64>,
    /// The last number that was used in this session.
    last: u64,
}

#[derive(Debug)]
struct Send {
    /// Empty until it is sent for the first time on this connection.
    body: String,
    /// Ids of its commands that wait for an answer.
    ids: Vec<u64>,
    commands: usize,
    unsubscribes: Vec<Arc<str>>,
    /// Its commands were taken out.
    is_filler: bool,
    /// The server may have got it: one of its requests did not end as unreachable.
    may_be_seen: bool,
    state: State,
    failures: u32,
    first_ms: u64,
}

/// The answer to a ping. It may be said twice.
#[derive(Debug)]
struct Pong {
    state: State,
    failures: u32,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Asked { exchange: ExchangeId, deadline_ms: u64, was_seen: bool },
    Resting { until_ms: u64 },
}

/// A send that has its answer.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// The ids of its commands.
    pub(super) ids: Vec<u64>,
    /// Channels whose subscription it may have ended, although the client follows them again.
    pub(super) unsubscribed: Vec<Arc<str>>,
}

impl Sends {
    /// Takes the commands that the other machines have written.
    pub(super) fn queue(&mut self, commands: &mut VecDeque<QueuedCommand>) {
        self.queued_bytes += commands.iter().map(|command| command.text.len()).sum::<usize>();
        self.queue.append(commands);
    }

    /// Bytes of commands that wait.
    pub(super) fn backlog(&self) -> usize {
        self.queued_bytes
    }

    /// Commands that wait.
    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Sends what may be sent. `bytes_max` is of one message.
    pub(super) fn pump(
        &mut self,
        now_ms: u64,
        config: &Config,
        rng: &mut Rng,
        ticket: &str,
        bytes_max: Option<u64>,
        out: &mut Out,
    ) {
        for send in self.flying.values_mut() {
            if let State::Asked { exchange, deadline_ms, .. } = send.state
                && deadline_ms <= now_ms
            {
                out.abort(exchange);
                send.lost(now_ms, rng);
            }
        }
        self.pump_pong(now_ms, config, rng, ticket, out);
        if self.quiet_until_ms > now_ms {
            return;
        }
        for (&n, send) in &mut self.flying {
            if matches!(send.state, State::Resting { until_ms } if until_ms <= now_ms) {
                send.ask(now_ms, config, ticket, n, &[], out);
            }
        }
        let bytes_max = bytes_max.map_or(BODY_BYTES, |bytes| usize::try_from(bytes).unwrap_or(BODY_BYTES));
        while let Some(commands) = self.next_commands(bytes_max) {
            self.last += 1;
            let mut send = Send {
                body: String::new(),
                ids: commands.iter().filter_map(|command| command.id).collect(),
                commands: commands.len(),
                unsubscribes: commands.iter().filter_map(|command| command.unsubscribes.clone()).collect(),
                is_filler: false,
                may_be_seen: false,
                state: State::Resting { until_ms: now_ms },
                failures: 0,
                first_ms: now_ms,
            };
            send.ask(now_ms, config, ticket, self.last, &commands, out);
            self.flying.insert(self.last, send);
        }
    }

    /// The commands of the next send, where one may begin now.
    fn next_commands(&mut self, bytes_max: usize) -> Option<Vec<QueuedCommand>> {
        let oldest = self.flying.keys().next().copied().unwrap_or(self.last + 1);
        let flying: usize = self.flying.values().map(|send| send.commands).sum();
        if self.flying.len() >= FLYING_MAX || self.last + 1 - oldest >= SPAN_MAX {
            return None;
        }
        let room = COMMANDS_MAX.saturating_sub(flying);
        let mut bytes = 0;
        let fits = |command: &&QueuedCommand| {
            bytes += command.text.len() + 1;
            bytes <= bytes_max
        };
        // One that is over the limit goes alone: the server says so.
        let count = self.queue.iter().take_while(fits).count().max(1).min(room).min(self.queue.len());
        let commands: Vec<_> = self.queue.drain(..count).collect();
        self.queued_bytes -= commands.iter().map(|command| command.text.len()).sum::<usize>();
        Some(commands).filter(|commands| !commands.is_empty())
    }

    /// Answers a ping of a stream. An earlier answer that is still on its way is stuck.
    pub(super) fn pong(&mut self, now_ms: u64, config: &Config, ticket: &str, out: &mut Out) {
        self.abort_pong(out);
        self.ask_pong(now_ms, config, ticket, 0, out);
    }

    fn ask_pong(&mut self, now_ms: u64, config: &Config, ticket: &str, failures: u32, out: &mut Out) {
        let mut body = Vec::new();
        encode_send(&mut body, ticket, None, [PONG]);
        let exchange = out.http(HttpKind::Send, json_of(body));
        let deadline_ms = now_ms + config.request_timeout_ms;
        self.pong = Some(Pong { state: State::Asked { exchange, deadline_ms, was_seen: true }, failures });
    }

    /// Sends the answer to a ping again, where it was lost.
    fn pump_pong(&mut self, now_ms: u64, config: &Config, rng: &mut Rng, ticket: &str, out: &mut Out) {
        if let Some(Pong { state: State::Asked { exchange, deadline_ms, .. }, .. }) = self.pong
            && deadline_ms <= now_ms
        {
            out.abort(exchange);
            self.pong_lost(now_ms, 0, rng);
        }
        if let Some(Pong { state: State::Resting { until_ms }, failures }) = self.pong
            && until_ms <= now_ms
        {
            self.ask_pong(now_ms, config, ticket, failures, out);
        }
    }

    /// True where this exchange is the answer to a ping.
    pub(super) fn is_pong(&self, exchange: ExchangeId) -> bool {
        self.pong
            .as_ref()
            .is_some_and(|pong| matches!(pong.state, State::Asked { exchange: asked, .. } if asked == exchange))
    }

    /// It has arrived.
    pub(super) fn end_pong(&mut self) {
        self.pong = None;
    }

    /// It has not, or not now.
    pub(super) fn pong_lost(&mut self, now_ms: u64, asked_ms: u64, rng: &mut Rng) {
        if let Some(pong) = &mut self.pong {
            pong.state = State::Resting { until_ms: now_ms + asked_ms + rest_ms(pong.failures, rng) };
            pong.failures = pong.failures.saturating_add(1);
        }
    }

    fn abort_pong(&mut self, out: &mut Out) {
        if let Some(Pong { state: State::Asked { exchange, .. }, .. }) = self.pong.take() {
            out.abort(exchange);
        }
    }

    /// Takes a command back that has not gone up. False where it has.
    pub(super) fn withdraw(&mut self, id: u64) -> bool {
        let Some(at) = self.queue.iter().position(|command| command.id == Some(id)) else { return false };
        self.queued_bytes -= self.queue.remove(at).map_or(0, |command| command.text.len());
        true
    }

    /// True while a command waits to go up, or is in a send that has no answer: it is not lost, and nobody else needs
    /// to send it again.
    pub(super) fn holds(&self, id: u64) -> bool {
        self.queue.iter().any(|command| command.id == Some(id))
            || self.flying.values().any(|send| send.ids.contains(&id))
    }

    /// True while a send that leaves this channel is sent again without its commands, and has no answer: as it was, it
    /// may still arrive, and end a subscription of this connection.
    pub(super) fn may_leave(&self, channel: &str) -> bool {
        let leaves = |send: &Send| send.is_filler && send.unsubscribes.iter().any(|of| **of == *channel);
        self.flying.values().any(leaves)
    }

    /// The server does not know the sends of earlier connections, so they are of no use.
    pub(super) fn forget_leftovers(&mut self) {
        self.flying.clear();
    }

    /// The number of the send whose answer this exchange brings.
    pub(super) fn number_of(&self, exchange: ExchangeId) -> Option<u64> {
        let is_it = |send: &Send| matches!(send.state, State::Asked { exchange: asked, .. } if asked == exchange);
        self.flying.iter().find(|(_, send)| is_it(send)).map(|(&n, _)| n)
    }

    /// It has taken effect and is answered.
    pub(super) fn done(&mut self, n: u64) -> Option<Done> {
        let send = self.flying.remove(&n)?;
        let unsubscribed = if send.is_filler { send.unsubscribes } else { Vec::new() };
        Some(Done { ids: send.ids, unsubscribed })
    }

    /// It was refused as a whole, and will be again: its number is sent without its commands. The ids of these.
    pub(super) fn refused(&mut self, now_ms: u64, n: u64) -> Vec<u64> {
        let Some(send) = self.flying.get_mut(&n) else { return Vec::new() };
        send.state = State::Resting { until_ms: now_ms };
        send.empty()
    }

    /// No answer has come, or none that can be read.
    pub(super) fn lost(&mut self, now_ms: u64, rng: &mut Rng, n: u64) {
        if let Some(send) = self.flying.get_mut(&n) {
            send.lost(now_ms, rng);
        }
    }

    /// There was no connection for its request.
    pub(super) fn unreachable(&mut self, now_ms: u64, rng: &mut Rng, n: u64) {
        if let Some(send) = self.flying.get_mut(&n) {
            if let State::Asked { was_seen, .. } = send.state {
                send.may_be_seen = was_seen;
            }
            send.lost(now_ms, rng);
        }
    }

    /// The server, or a proxy, asks for patience.
    pub(super) fn rest(&mut self, now_ms: u64, asked_ms: u64, rng: &mut Rng, n: u64) {
        let until_ms = self.rest_one(now_ms, asked_ms, rng, n);
        if asked_ms > 0 {
            // Not before it either: its number is the lower one.
            self.quiet_until_ms = self.quiet_until_ms.max(until_ms);
        }
    }

    fn rest_one(&mut self, now_ms: u64, asked_ms: u64, rng: &mut Rng, n: u64) -> u64 {
        let Some(send) = self.flying.get_mut(&n) else { return now_ms };
        // One answer of this kind may pass at once; many in a row may not be answered with as many requests.
        let until_ms = now_ms + asked_ms + rng.below(rest_ms_max(send.failures));
        send.failures = send.failures.saturating_add(1);
        send.state = State::Resting { until_ms };
        until_ms
    }

    /// One before it has not arrived: the oldest is sent again now. False where there is none before it.
    pub(super) fn out_of_order(&mut self, now_ms: u64, rng: &mut Rng, n: u64, out: &mut Out) -> bool {
        let Some((&oldest, first)) = self.flying.iter_mut().next().filter(|(oldest, _)| **oldest < n) else {
            return false;
        };
        // Its request may be stuck, or it rests.
        if let State::Asked { exchange, .. } = first.state {
            out.abort(exchange);
        }
        first.state = State::Resting { until_ms: now_ms };
        debug_assert!(oldest < n);
        self.rest_one(now_ms, ORDER_MS / 2, rng, n);
        true
    }

    /// True where one of them is without an answer for too long.
    pub(super) fn is_overdue(&self, now_ms: u64, config: &Config) -> bool {
        self.flying.values().any(|send| send.give_up_ms(config) <= now_ms)
    }

    /// `gives_up`: [`is_overdue`](Self::is_overdue) will be asked.
    pub(super) fn wake_ms(&self, config: &Config, gives_up: bool) -> Option<u64> {
        let due_ms = |send: &Send| {
            let due_ms = match send.state {
                State::Asked { deadline_ms, .. } => deadline_ms,
                State::Resting { until_ms } => until_ms.max(self.quiet_until_ms),
            };
            if gives_up { due_ms.min(send.give_up_ms(config)) } else { due_ms }
        };
        let pong_ms = self.pong.as_ref().map(|pong| match pong.state {
            State::Asked { deadline_ms: at_ms, .. } | State::Resting { until_ms: at_ms } => at_ms,
        });
        self.flying.values().map(due_ms).chain(pong_ms).min()
    }

    /// The connection is gone: what waits is given up, and numbers without an answer are kept.
    pub(super) fn offline(&mut self, out: &mut Out) {
        self.give_up_queue();
        self.abort_pong(out);
        for send in self.flying.values_mut() {
            if let State::Asked { exchange, .. } = send.state {
                out.abort(exchange);
            }
            let ids = send.empty();
            if !send.may_be_seen {
                self.unsent.extend(ids);
            }
        }
    }

    fn give_up_queue(&mut self) {
        self.queued_bytes = 0;
        self.unsent.extend(self.queue.drain(..).filter_map(|command| command.id));
    }

    /// The ids of commands that were given up, and that the server has not seen.
    pub(super) fn take_unsent(&mut self) -> BTreeSet<u64> {
        std::mem::take(&mut self.unsent)
    }

    /// A connection is there: of the same session, or of another, whose numbers begin anew.
    pub(super) fn online(&mut self, now_ms: u64, resumed: bool) {
        if !resumed {
            self.flying.clear();
            self.last = 0;
        }
        for send in self.flying.values_mut() {
            (send.state, send.failures, send.first_ms) = (State::Resting { until_ms: now_ms }, 0, now_ms);
        }
    }

    /// The client ends by itself: all that waits is sent, as far as it fits, and nothing is aborted.
    pub(super) fn last_words(&mut self, now_ms: u64, config: &Config, rng: &mut Rng, ticket: &str, out: &mut Out) {
        self.pump(now_ms, config, rng, ticket, None, out);
        self.give_up_queue();
        *self = Sends { unsent: self.take_unsent(), quiet_until_ms: self.quiet_until_ms, ..Sends::default() };
    }
}

impl Send {
    /// Sends it, for the first time with these commands.
    fn ask(&mut self, now_ms: u64, config: &Config, ticket: &str, n: u64, commands: &[QueuedCommand], out: &mut Out) {
        if self.body.is_empty() {
            let mut body = Vec::new();
            encode_send(&mut body, ticket, Some(n), commands.iter().map(|command| &*command.text));
            self.body = String::from_utf8_lossy(&body).into_owned();
        }
        let exchange = out.http(HttpKind::Send, self.body.clone());
        let deadline_ms = now_ms + config.request_timeout_ms;
        let was_seen = std::mem::replace(&mut self.may_be_seen, true);
        self.state = State::Asked { exchange, deadline_ms, was_seen };
    }

    fn lost(&mut self, now_ms: u64, rng: &mut Rng) {
        let rest_ms = rest_ms(self.failures, rng);
        self.failures = self.failures.saturating_add(1);
        self.state = State::Resting { until_ms: now_ms + rest_ms };
    }

    /// Takes its commands out, and returns their ids.
    fn empty(&mut self) -> Vec<u64> {
        (self.is_filler, self.commands) = (true, 0);
        self.body.clear();
        std::mem::take(&mut self.ids)
    }

    fn give_up_ms(&self, config: &Config) -> u64 {
        self.first_ms.saturating_add(config.request_timeout_ms.saturating_mul(GIVE_UP_TIMES))
    }
}

/// The wait after a loss, with so many failures before it.
fn rest_ms(failures: u32, rng: &mut Rng) -> u64 {
    match failures {
        0 => 0,
        failures => rng.below(rest_ms_max(failures - 1)),
    }
}

fn rest_ms_max(failures: u32) -> u64 {
    if failures < PATIENT_FAILURES { (REST_MS_MIN << failures).min(REST_MS_MAX) } else { PATIENT_MS }
}
