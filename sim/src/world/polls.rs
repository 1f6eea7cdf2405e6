//! Clients that poll, and the server's end of their connections: the decisions are the hub's (`PollTable`, `Polls`).
//! Requests land on any shard, and go on between shards behind the messages of these.
//!
//! In this world a `connect` that is repeated after its connection has ended is refused, where the server would open
//! another one: the client begins anew.

use super::{Carried, Event, Verdict, World};
use crate::client::Transport;
use crate::polling::{PollAnswer, Polling, Waiting};
use crate::wire::{self, ToClient};
use fanfare_hub::{
    Attempt, Command, ConnId, Disconnect, Input, PollRoute, Polled, Polls, Push, Reply, ReplyBody, Request, Resume,
    ShardId, attempt_shard,
};

/// The last messages of a connection wait so long for a poll.
const CLOSE_TIMEOUT_MS: u64 = 1_500;
/// So long a client that polls may do nothing at all, at most.
const PAUSE_MAX_MS: u64 = 16_000;

/// A poll on its way to a shard.
#[derive(Debug, Clone)]
pub(super) struct PollRequest {
    pipe: usize,
    request: u64,
    body: PollBody,
    /// It acknowledges an answer that was never given.
    is_ahead: bool,
}

#[derive(Debug, Clone)]
enum PollBody {
    Connect,
    Poll { to: Resume, ack: u64, wait_ms: u64, hops: u8 },
}

impl PollRequest {
    /// The first one of a conversation.
    pub(super) fn connect(pipe: usize, request: u64) -> Self {
        PollRequest { pipe, request, body: PollBody::Connect, is_ahead: false }
    }

    /// A later one: its session, the last answer that its client has, and how long it may wait.
    pub(super) fn poll(pipe: usize, request: u64, (to, ack, wait_ms): (Resume, u64, u64)) -> Self {
        PollRequest { pipe, request, body: PollBody::Poll { to, ack, wait_ms, hops: 0 }, is_ahead: false }
    }
}

impl World {
    /// A client begins a conversation by polls. Its `connect` has not reached a shard yet.
    pub(super) fn open_polled(&mut self, client: usize, shard: usize) -> Verdict {
        let rng = &mut self.client_rngs[client];
        let attempt: Option<Attempt> = (rng.below(4) > 0).then(|| {
            let mut attempt = [0; 32];
            attempt.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&rng.next_u64().to_le_bytes()));
            attempt
        });
        let shard = attempt.map_or(shard, |attempt| usize::from(attempt_shard(&attempt, self.shards.len()).0));
        let pipe = self.new_pipe(client, shard);
        self.pipes[pipe].polling = Some(Box::new(Polling::new(attempt)));
        self.pipes[pipe].apart = Some(Box::default());
        self.pipes[pipe].server_open = false;
        self.checker.opened(pipe, shard);
        self.checker.is_of(pipe, client);
        self.checker.is_apart(pipe);
        self.meets(client, pipe, shard);
        let request = self.clients[client].connect(&mut self.client_rngs[client], &self.plan, self.calm);
        let text = self.written(client, &request)?;
        for request in wire::read_commands(&text, self.reading(client))? {
            self.application.shown(pipe, &request);
            self.checker.sent(pipe, &request, &self.stores.borrow());
        }
        self.polling(pipe).connect = text;
        self.counts.polled += 1;
        self.keep_polling(pipe)
    }

    fn polling(&mut self, pipe: usize) -> &mut Polling {
        self.pipes[pipe].polling.get_or_insert_with(|| Box::new(Polling::new(None)))
    }

    /// The client polls if it waits for no answer.
    pub(super) fn keep_polling(&mut self, pipe: usize) -> Verdict {
        let (now_ms, client) = (self.now_ms, self.pipes[pipe].client);
        let is_stopped = self.pipes[pipe].stalled || self.frozen_until_ms[client] > now_ms;
        if !self.pipes[pipe].client_open || is_stopped || self.clients[client].pipe != Some(pipe) {
            return Ok(());
        }
        // Now and then a second poll crosses the first one.
        let crosses = !self.calm && self.pipes[pipe].rng.below(12) == 0;
        let is_asking = self.polling(pipe).client.is_asking(now_ms);
        if is_asking && !crosses {
            return Ok(());
        }
        if !is_asking && self.may_pause(pipe) {
            return Ok(());
        }
        self.poll(pipe)
    }

    /// Now and then a client does nothing for longer than a server waits for it. True from its beginning on.
    fn may_pause(&mut self, pipe: usize) -> bool {
        let pauses = !self.calm && self.polling(pipe).client.is_connected && self.pipes[pipe].rng.below(80) == 0;
        if pauses {
            let client = self.pipes[pipe].client;
            let long_ms = self.pipes[pipe].rng.below(PAUSE_MAX_MS);
            self.counts.poll_pauses += 1;
            self.trace.note(self.now_ms, || format!("client {client} neither polls nor sends for {long_ms} ms"));
            self.frozen_until_ms[client] = self.now_ms + long_ms;
            self.clients[client].heard_ms = self.now_ms + long_ms;
            self.pipes[pipe].heard_ms = self.now_ms + long_ms;
        }
        pauses
    }

    fn poll(&mut self, pipe: usize) -> Verdict {
        let (now_ms, heartbeat_ms) = (self.now_ms, self.plan.limits.heartbeat_ms);
        let wait_ms = match self.pipes[pipe].rng.below(3) {
            0 => self.pipes[pipe].rng.below(300),
            _ => heartbeat_ms,
        };
        self.next_poll += 1;
        let request = self.next_poll;
        let polling = self.polling(pipe);
        polling.client.asks(request, now_ms, wait_ms);
        let (is_connected, ack) = (polling.client.is_connected, polling.client.ack);
        let body = if is_connected {
            let Some(ticket) = self.clients[self.pipes[pipe].client].sealed.clone() else { return Ok(()) };
            let text = wire::write_poll(&ticket, ack, wait_ms);
            let (to, ack, wait_ms) = wire::read_poll(&text, self.wall_ms)?;
            PollBody::Poll { to, ack, wait_ms, hops: 0 }
        } else {
            PollBody::Connect
        };
        self.counts.polls += 1;
        self.trace.note(now_ms, || format!("poll {request} for pipe {pipe}: {body:?}"));
        for late in self.ways_ms(pipe) {
            // Without a name it is a connection of its own.
            let is_bound = matches!(body, PollBody::Connect) && self.polling(pipe).attempt.is_none();
            let shard = if is_bound { self.pipes[pipe].shard } else { self.landing(pipe) };
            let request = PollRequest { pipe, request, body: body.clone(), is_ahead: false };
            self.after(late, Event::PollArrives { shard, request });
        }
        self.polls_ahead(pipe, request, &body);
        Ok(())
    }

    /// Now and then another request with this client's ticket acknowledges what was never given.
    fn polls_ahead(&mut self, pipe: usize, request: u64, body: &PollBody) {
        /// Farther than a connection comes.
        const FAR: u64 = 1 << 20;
        let &PollBody::Poll { to, ack, wait_ms, hops } = body else { return };
        let mut rng = self.chances.of("polls ahead", request);
        if self.calm || rng.below(40) > 0 {
            return;
        }
        let (late, shard) = (1 + rng.below(20), rng.below(self.shards.len() as u64) as usize);
        let body = PollBody::Poll { to, ack: ack + FAR, wait_ms, hops };
        self.after(late, Event::PollArrives { shard, request: PollRequest { pipe, request: 0, body, is_ahead: true } });
    }

    /// A shard is given a poll.
    pub(super) fn poll_arrives(&mut self, shard: usize, poll: PollRequest) -> Verdict {
        let PollRequest { pipe, request, body, is_ahead } = &poll;
        let (pipe, request, is_ahead) = (*pipe, *request, *is_ahead);
        if self.pipes[pipe].half_open {
            return Ok(());
        }
        match *body {
            PollBody::Connect => {
                // A client that has left has ended its request.
                if !self.pipes[pipe].client_open || self.draining.is_some() {
                    return Ok(());
                }
                let to = self.pipes[pipe].shard;
                if to != shard {
                    self.pass_on(shard, to, poll);
                    return Ok(());
                }
                self.begin_polled(pipe, request)
            }
            PollBody::Poll { to, ack, wait_ms, hops } => {
                let whereabouts = self.shards[shard].shard.whereabouts(to.client);
                let route = {
                    let (table, me) = (&self.shards[shard].polls, ShardId(shard as u16));
                    table.route(to, hops, whereabouts, me, self.shards.len())
                };
                self.trace.note(self.now_ms, || format!("shard {shard}: poll {request} goes to {route:?}"));
                match route {
                    PollRoute::Conn(conn) => match self.polled(shard, conn) {
                        Some(at) if is_ahead => self.poll_is_ahead(at, pipe, ack),
                        Some(at) => self.poll_waits(at, (pipe, request), ack, wait_ms),
                        None => Err(format!("polls: {conn:?} of shard {shard} is no polled connection")),
                    },
                    PollRoute::Shard(next) => {
                        let body = PollBody::Poll { to, ack, wait_ms, hops: hops + 1 };
                        self.pass_on(shard, usize::from(next.0), PollRequest { pipe, request, body, is_ahead });
                        Ok(())
                    }
                    PollRoute::NotPolled | PollRoute::Gone => {
                        if self.pipes[pipe].server_open && self.polling(pipe).server.session == Some(to.client) {
                            return Err(format!("polls: pipe {pipe} has {to:?}, and poll {request} finds {route:?}"));
                        }
                        self.answer_poll(pipe, request, PollAnswer::Gone);
                        Ok(())
                    }
                }
            }
        }
    }

    /// Behind all messages to that shard.
    fn pass_on(&mut self, from: usize, to: usize, poll: PollRequest) {
        self.counts.polls_passed_on += 1;
        self.shards[to].inbox[from].turn.push(Carried::Poll(poll));
        self.carry(from);
    }

    /// The polled connection of a shard with this name; its last messages may still wait.
    fn polled(&self, shard: usize, conn: ConnId) -> Option<usize> {
        let is_it = |pipe: &&crate::pipe::Pipe| {
            let is_polled = pipe.polling.as_ref().is_some_and(|polling| !polling.server.is_removed);
            is_polled && pipe.shard == shard && pipe.conn == conn && pipe.is_bound
        };
        self.pipes.iter().find(is_it).map(|pipe| pipe.number)
    }

    /// A `connect` has come to its shard.
    fn begin_polled(&mut self, pipe: usize, request: u64) -> Verdict {
        let shard = self.pipes[pipe].shard;
        let attempt = self.polling(pipe).attempt;
        if let Some(conn) = self.shards[shard].polls.repeated(attempt.as_ref()) {
            if self.polled(shard, conn) != Some(pipe) {
                return Err(format!("polls: the attempt of pipe {pipe} leads to {conn:?}"));
            }
            self.counts.connects_repeated += 1;
            if let Some(earlier) = self.polling(pipe).server.connect.take() {
                self.polling(pipe).server.connect = Some(request);
                self.answer_poll(pipe, earlier, PollAnswer::Refused);
                return Ok(());
            }
            let start = self.polling(pipe).server.polls.start();
            return self.poll_waits(pipe, (pipe, request), start, 0);
        }
        let mut pipe = pipe;
        if self.pipes[pipe].is_bound {
            let Some(anew) = self.core_begins_anew(pipe)? else {
                self.answer_poll(pipe, request, PollAnswer::Gone);
                return Ok(());
            };
            pipe = anew;
        }
        self.polling(pipe).server.connect = Some(request);
        self.bind(pipe, fanfare_hub::HeartbeatKind::Polls)?;
        let conn = self.pipes[pipe].conn;
        self.shards[shard].polls.opened(conn, attempt);
        let text = self.polling(pipe).connect.clone();
        for request in wire::read_commands(&text, self.reading(self.pipes[pipe].client))? {
            self.command(pipe, request)?;
        }
        Ok(())
    }

    /// The hub answers a polled connection: its first reply says whether the client is let in.
    pub(super) fn poll_replied(&mut self, pipe: usize, reply: &Reply) {
        let (shard, conn) = (self.pipes[pipe].shard, self.pipes[pipe].conn);
        let Some(polling) = &mut self.pipes[pipe].polling else { return };
        let server = &mut polling.server;
        match &reply.body {
            ReplyBody::Connected(connected) => {
                server.session = Some(connected.client);
                server.polls = Polls::of_incarnation(connected.incarnation);
                server.verdict.get_or_insert(true);
                self.shards[shard].polls.connected(conn, connected.client);
            }
            ReplyBody::Error(error) => {
                server.verdict.get_or_insert(false);
                server.refusal.get_or_insert_with(|| error.clone());
            }
            _ => return,
        }
        self.after(0, Event::LetIn { pipe });
    }

    /// The `connect` of a client is answered.
    pub(super) fn let_in(&mut self, pipe: usize) -> Verdict {
        let server = &mut self.polling(pipe).server;
        let Some(verdict) = server.verdict else { return Ok(()) };
        let Some(request) = server.connect.take() else { return Ok(()) };
        if verdict {
            let start = server.polls.start();
            return self.poll_waits(pipe, (pipe, request), start, 0);
        }
        self.answer_poll(pipe, request, PollAnswer::Refused);
        if self.pipes[pipe].server_open {
            self.pipes[pipe].server_open = false;
            self.over(pipe);
            self.ends(pipe, true);
            let (shard, conn) = (self.pipes[pipe].shard, self.pipes[pipe].conn);
            self.handle(shard, Input::Closed { conn, finally: true })?;
        }
        self.remove_polled(pipe);
        Ok(())
    }

    /// A poll has found its connection. `from`: the client's connection, and the request.
    fn poll_waits(&mut self, pipe: usize, from: (usize, u64), ack: u64, wait_ms: u64) -> Verdict {
        let (of, request) = from;
        let signals = self.polling(pipe).server.polls.signals();
        let polled = self.polling(pipe).server.polls.poll(ack);
        let (shard, conn) = (self.pipes[pipe].shard, self.pipes[pipe].conn);
        if let (Polled::Take { .. }, Some(client)) = (polled, self.polling(pipe).server.session)
            && signals > 0
        {
            self.handle(shard, Input::PollAcknowledged { client, conn })?;
        }
        if of != pipe {
            // It comes late, and its client has a newer connection.
            self.counts.polls_of_earlier += 1;
            return match polled {
                Polled::Late | Polled::Ahead { .. } => {
                    self.answer_poll(of, request, PollAnswer::Gone);
                    Ok(())
                }
                polled => Err(format!("polls: poll {request} of pipe {of}, late, takes from pipe {pipe}: {polled:?}")),
            };
        }
        self.trace.note(self.now_ms, || format!("pipe {pipe}: poll {request} with {ack} is {polled:?}"));
        match polled {
            Polled::Take { turn, acknowledged } => {
                if let Some(earlier) = self.polling(pipe).server.waiting.take() {
                    self.counts.polls_crossed += 1;
                    self.give(pipe, earlier.request, earlier.ack, &[])?;
                }
                self.poll_fetched(pipe, acknowledged)?;
                if self.polling(pipe).server.is_removed {
                    self.answer_poll(pipe, request, PollAnswer::Gone);
                    return Ok(());
                }
                self.polling(pipe).server.waiting = Some(Waiting { request, turn, ack });
                self.is_alive(pipe)?;
                let wait_ms = wait_ms.min(self.plan.limits.heartbeat_ms);
                if !self.pipes[pipe].outbox.is_empty() || !self.pipes[pipe].server_open {
                    return self.poll_ready(pipe, turn);
                }
                self.after(wait_ms, Event::PollOver { pipe, turn });
                Ok(())
            }
            Polled::Again { n, bytes } => {
                self.counts.answers_again += 1;
                self.is_alive(pipe)?;
                let front = self.pipes[pipe].front(bytes);
                self.give(pipe, request, n, &front)
            }
            Polled::Late => self.give(pipe, request, ack, &[]),
            Polled::Ahead { last } => {
                Err(format!("polls: pipe {pipe} has had answer {ack}, and the server knows {last}"))
            }
        }
    }

    /// A poll acknowledges what was never given. It is refused, and nothing changes.
    fn poll_is_ahead(&mut self, pipe: usize, of: usize, ack: u64) -> Verdict {
        let polls = &mut self.polling(pipe).server.polls;
        let before = polls.clone();
        let polled = polls.poll(ack);
        let is_refused = matches!(polled, Polled::Ahead { .. }) || of != pipe && polled == Polled::Late;
        if !is_refused || self.polling(pipe).server.polls != before {
            return Err(format!("polls: pipe {pipe} never had an answer {ack}, and acknowledges it: {polled:?}"));
        }
        self.counts.polls_ahead += 1;
        Ok(())
    }

    /// A poll is a sign of life.
    fn is_alive(&mut self, pipe: usize) -> Verdict {
        if !self.pipes[pipe].server_open {
            return Ok(());
        }
        let (shard, conn) = (self.pipes[pipe].shard, self.pipes[pipe].conn);
        self.pipes[pipe].alive_ms = self.now_ms;
        self.handle(shard, Input::Alive(conn))?;
        if !self.pipes[pipe].server_open {
            return Ok(());
        }
        self.command(pipe, Request { id: None, command: Command::Pong })
    }

    /// The last message of a polled connection is a signal for its client alone.
    pub(super) fn poll_directed(&mut self, pipe: usize) {
        let bytes = self.pipes[pipe].outbox.bytes();
        if let Some(polling) = &mut self.pipes[pipe].polling {
            polling.server.polls.directed(bytes);
        }
    }

    /// The poll that waits has something to take.
    pub(super) fn poll_woken(&mut self, pipe: usize) -> Verdict {
        let waiting = self.pipes[pipe].polling.as_ref().and_then(|polling| polling.server.waiting);
        match waiting {
            Some(Waiting { turn, .. }) if !self.pipes[pipe].outbox.is_empty() => self.poll_ready(pipe, turn),
            _ => Ok(()),
        }
    }

    /// The waiting of a poll is over.
    pub(super) fn poll_ready(&mut self, pipe: usize, turn: u64) -> Verdict {
        let Some(waiting) = self.polling(pipe).server.waiting.take_if(|waiting| waiting.turn == turn) else {
            return Ok(());
        };
        let answer_max = self.plan.limits.page_bytes_max;
        let bytes = self.pipes[pipe].front(answer_max);
        let n = self.polling(pipe).server.polls.answer(turn, bytes.len());
        let (shard, conn) = (self.pipes[pipe].shard, self.pipes[pipe].conn);
        let server = &self.polling(pipe).server;
        if let (Some(number), Some(client), signals @ 1..) = (n, server.session, server.polls.signals()) {
            self.counts.polled_signals += signals as u64;
            self.handle(shard, Input::PollAnswered { client, conn, number, signals })?;
        }
        self.give(pipe, waiting.request, n.unwrap_or(waiting.ack), if n.is_some() { &bytes } else { &[] })?;
        if self.draining.is_some() && !self.pipes[pipe].server_open && self.pipes[pipe].outbox.bytes() == bytes.len() {
            return self.poll_fetched(pipe, bytes.len());
        }
        Ok(())
    }

    /// The client has these bytes.
    fn poll_fetched(&mut self, pipe: usize, bytes: usize) -> Verdict {
        let outbox_max = self.plan.limits.outbox_bytes_max;
        let drained = self.pipes[pipe].outbox.advance(bytes, outbox_max);
        let (shard, conn) = (self.pipes[pipe].shard, self.pipes[pipe].conn);
        if self.pipes[pipe].server_open {
            self.pipes[pipe].alive_ms = self.now_ms;
            self.handle(shard, Input::Alive(conn))?;
            if drained {
                self.has_drained(pipe)?;
            }
        }
        if !self.pipes[pipe].server_open && self.pipes[pipe].outbox.is_empty() {
            self.remove_polled(pipe);
        }
        Ok(())
    }

    /// Nothing is left of a polled connection at the server.
    pub(super) fn remove_polled(&mut self, pipe: usize) {
        let (shard, conn) = (self.pipes[pipe].shard, self.pipes[pipe].conn);
        let Some(polling) = &mut self.pipes[pipe].polling else { return };
        if std::mem::replace(&mut polling.server.is_removed, true) {
            return;
        }
        let (session, attempt) = (polling.server.session, polling.attempt);
        let waiting = polling.server.waiting.take().map(|waiting| waiting.request);
        let requests = [waiting, polling.server.connect.take()];
        self.shards[shard].polls.removed(conn, session, attempt.as_ref());
        for request in requests.into_iter().flatten() {
            self.answer_poll(pipe, request, PollAnswer::Gone);
        }
    }

    /// A shard has closed a polled connection: its last messages wait for a while.
    pub(super) fn polled_closes(&mut self, pipe: usize) {
        self.after(CLOSE_TIMEOUT_MS, Event::PollForget { pipe });
        self.flush_later(pipe);
        if self.polling(pipe).server.connect.is_some() {
            self.polling(pipe).server.verdict.get_or_insert(true);
            self.after(0, Event::LetIn { pipe });
        }
    }

    fn give(&mut self, pipe: usize, request: u64, n: u64, bytes: &[u8]) -> Verdict {
        if !bytes.is_empty() {
            self.polling(pipe).server.gives(n, bytes)?;
        }
        self.answer_poll(pipe, request, PollAnswer::Given(wire::write_poll_answer(n, bytes)));
        Ok(())
    }

    fn answer_poll(&mut self, pipe: usize, request: u64, answer: PollAnswer) {
        self.trace.note(self.now_ms, || format!("poll {request} of pipe {pipe} is answered: {answer:?}"));
        let client = self.pipes[pipe].client;
        let late = match self.cores.get_mut(client.wrapping_sub(self.plan.clients)) {
            Some(core) => core.requests.poll(request).and_then(|exchange| self.core_way_ms(client, exchange)),
            None => self.way_ms(pipe),
        };
        if let Some(late) = late {
            self.after(late, Event::PollHeard { pipe, request, answer });
        }
    }

    /// A client gets the answer to a poll.
    pub(super) fn poll_heard(&mut self, pipe: usize, request: u64, answer: PollAnswer) -> Verdict {
        let client = self.pipes[pipe].client;
        if client >= self.clients.len() {
            return self.core_poll_heard(pipe, request, answer);
        }
        let is_stopped = self.pipes[pipe].stalled || self.frozen_until_ms[client] > self.now_ms;
        if !self.pipes[pipe].client_open || self.pipes[pipe].half_open || is_stopped {
            return Ok(());
        }
        if !self.polling(pipe).client.hears(request) {
            return Ok(()); // it has given this one up
        }
        self.trace.note(self.now_ms, || format!("client {client} has the answer to poll {request}"));
        let body = match answer {
            PollAnswer::Given(body) => body,
            PollAnswer::Gone => return self.client_closed(pipe, false, None),
            PollAnswer::Refused => {
                let now_ms = self.now_ms;
                let is_asking = self.polling(pipe).client.is_asking(now_ms);
                return if is_asking { Ok(()) } else { self.client_closed(pipe, false, None) };
            }
        };
        self.pipes[pipe].heard_ms = self.now_ms;
        self.clients[client].heard_ms = self.now_ms;
        let (n, texts) = wire::read_poll_answer(&body)?;
        if self.polling(pipe).client.takes(n, texts.is_empty())? {
            self.clients[client].ack = Some(n);
            for text in texts {
                self.polling(pipe).client.is_connected = true;
                self.hear(pipe, &text)?;
                if !self.pipes[pipe].client_open {
                    return Ok(());
                }
            }
            self.clients[client].ack = Some(n);
        }
        let later = self.pipes[pipe].rng.below(25);
        self.after(later, Event::PollNext { pipe });
        Ok(())
    }

    /// The network loses all requests of a client that polls; other connections end.
    pub(super) fn lose_requests(&mut self, pipe: usize) -> Verdict {
        let client = self.pipes[pipe].client;
        match &mut self.pipes[pipe].polling {
            Some(_) if client >= self.clients.len() => self.core_cut_off(client),
            Some(polling) => polling.client.is_cut_off(),
            None => return self.cut(pipe, false),
        }
        Ok(())
    }

    /// The server has gone, with its requests.
    pub(super) fn polls_gone(&mut self) {
        let bound = self.pipes.iter_mut().filter(|pipe| pipe.is_bound);
        for polling in bound.filter_map(|pipe| pipe.polling.as_mut()) {
            (polling.server.waiting, polling.server.connect, polling.server.is_removed) = (None, None, true);
        }
    }

    /// True if this client's next connection is a polled one.
    pub(super) fn polls_next(&mut self, client: usize) -> bool {
        let polls = self.plan.polls;
        let polls = client < self.clients.len() && polls > 0 && self.client_rngs[client].below(100) < polls;
        if polls {
            let subscribes = !self.plan.app && !self.plan.hooks.is_on;
            self.clients[client].transport = Transport::Polls { subscribes };
        }
        polls
    }

    /// A message that ends the connection: no poll finds it any more.
    pub(super) fn is_last(said: &ToClient) -> bool {
        matches!(said, ToClient::Push(Push::Disconnect { reason, delay_ms: 0 }) if *reason != Disconnect::Shutdown)
    }
}
