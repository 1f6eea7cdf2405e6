//! Client cores over HTTP: streams, polls and sends on their way to shards, and what comes back of them.
//!
//! A core gets the bytes and answers as they come. Beside it the judge looks at the same messages as those of any
//! client whose commands go up by requests of their own (`sends.rs`), in the order in which such a client would. So it
//! judges the hub, and the application over the core judges the core.
//!
//! Requests and answers are lost, which the client learns at once, late, or never; they are late, repeated, and
//! cross each other; a proxy answers in the server's place. Now and then a network does not let a transport through.

use super::polls::PollRequest;
use super::sends::SendAnswer;
use super::{Event, Verdict, World};
use crate::core_requests::{Exchange, Streamed};
use crate::polling::{PollAnswer, Polling};
use crate::sends::{Asked, Outgoing};
use crate::wire::{self, ToClient};
use fanfare_client::core::{ExchangeId, HttpAnswer, HttpInput, HttpKind, HttpRequest, Input as CoreInput};
use fanfare_hub::{
    Attempt, ClientId, Connected, Disconnect, Error, ErrorCode, HeartbeatKind, Input, Push, Reply, ReplyBody, Request,
    RequestId, Rng,
};
use fanfare_wire::native::app::encode_refusal;
use fanfare_wire::native::requests::{PollBody, decode_poll};
use fanfare_wire::stream::StreamForm;
use std::rc::Rc;

/// The outcome of a request, on its way to a client core.
#[derive(Debug, Clone)]
pub(super) struct CoreHttp {
    pub(super) client: usize,
    exchange: ExchangeId,
    outcome: Outcome,
}

#[derive(Debug, Clone)]
enum Outcome {
    Answer { status: u16, retry_after_ms: Option<u64>, body: String },
    Lost,
    Foreign,
    Unreachable,
}

impl Outcome {
    fn refusal(status: u16, error: &Error) -> Outcome {
        let mut body = Vec::new();
        let is_repeatable = error.code.row().retryable && error.code != fanfare_hub::ErrorCode::Unknown;
        encode_refusal(&mut body, error, is_repeatable, None, None);
        // As the server does (RFC 9110 §10.2.3).
        let retry_after_ms = matches!(status, 429 | 503).then(|| error.retry_after_ms.unwrap_or(1_000).max(1_000));
        Outcome::Answer { status, retry_after_ms, body: String::from_utf8_lossy(&body).into_owned() }
    }

    /// The answer of a proxy that does not know more.
    fn of_a_proxy(status: u16, retry_after_ms: Option<u64>) -> Outcome {
        Outcome::Answer { status, retry_after_ms, body: "<html>bad gateway</html>".to_owned() }
    }

    fn good(body: String) -> Outcome {
        Outcome::Answer { status: 200, retry_after_ms: None, body }
    }
}

/// The requests of client cores, on their way up.
impl World {
    /// A client core asks for a request.
    pub(super) fn core_asks(&mut self, client: usize, request: HttpRequest) -> Verdict {
        self.trace.note(self.now_ms, || format!("client {client} asks: {request:?}"));
        match request.kind {
            HttpKind::Sse => self.core_streams(client, request, StreamForm::Blocks),
            HttpKind::Stream => self.core_streams(client, request, StreamForm::Lines),
            HttpKind::Poll => self.core_polls(client, request),
            HttpKind::Send => self.core_sends(client, request),
        }
    }

    fn core_streams(&mut self, client: usize, request: HttpRequest, form: StreamForm) -> Verdict {
        let exchange = request.exchange;
        self.core_leaves(client)?;
        self.requests(client).begins(&request, Exchange::Stream)?;
        if self.is_unanswered(client, exchange) || self.is_blocked(client, exchange) {
            return Ok(());
        }
        let shard = self.any_shard(client);
        let pipe = self.core_connects(client, shard, &request.body)?;
        self.pipes[pipe].stream = Some(Box::new(Streamed::new(form, request.body)));
        // A proxy that holds the body back.
        if self.obstructs(client) && self.requests(client).rng.below(3) == 0 {
            self.counts.core_blocked += 1;
            self.trace.note(self.now_ms, || format!("the body of pipe {pipe} is held back"));
            self.pipes[pipe].stalled = true;
        }
        if let Some(late) = self.core_way_ms(client, exchange) {
            self.after(late, Event::StreamArrives { shard, pipe });
        }
        Ok(())
    }

    /// A client core opens a connection over HTTP, which no shard knows yet.
    fn core_connects(&mut self, client: usize, shard: usize, connect: &str) -> Result<usize, String> {
        let pipe = self.new_pipe(client, shard);
        self.pipes[pipe].apart = Some(Box::default());
        self.pipes[pipe].server_open = false;
        self.checker.opened(pipe, shard);
        self.checker.is_apart(pipe);
        for request in wire::read_commands(connect, self.reading(client))? {
            self.application.shown(pipe, &request);
            self.checker.sent(pipe, &request, &self.stores.borrow());
        }
        self.core_client(client).pipe = Some(pipe);
        self.requests(client).pipe = Some(pipe);
        Ok(pipe)
    }

    fn core_polls(&mut self, client: usize, request: HttpRequest) -> Verdict {
        self.next_poll += 1;
        let (exchange, number) = (request.exchange, self.next_poll);
        let body = decode_poll(&request.body).map_err(|error| format!("core: {}: {error}", request.body))?;
        let current = self.core_client(client).pipe;
        let is_again = |pipe: &usize| {
            let polling = self.pipes[*pipe].polling.as_ref();
            polling.is_some_and(|polling| polling.connect == request.body)
        };
        match body {
            PollBody::Connect { .. } => {
                let again = current.filter(is_again);
                if again.is_none() {
                    self.core_leaves(client)?;
                }
                self.requests(client).begins(&request, Exchange::Poll(number))?;
                if self.is_unanswered(client, exchange) || again.is_none() && self.is_blocked(client, exchange) {
                    return Ok(());
                }
                let pipe = match again {
                    Some(pipe) => pipe,
                    None => self.core_begins_polls(client, request.body)?,
                };
                self.polls_of_core(client, pipe, exchange, |pipe| PollRequest::connect(pipe, number))
            }
            PollBody::Poll { .. } => {
                self.requests(client).begins(&request, Exchange::Poll(number))?;
                let Some(pipe) = current.filter(|pipe| self.pipes[*pipe].polling.is_some()) else {
                    return Err(format!("core: a poll without a session that is polled: {}", request.body));
                };
                if self.is_unanswered(client, exchange) {
                    return Ok(());
                }
                let (to, ack, wait_ms) = wire::read_poll(&request.body, self.wall_ms)?;
                self.polls_of_core(client, pipe, exchange, |pipe| PollRequest::poll(pipe, number, (to, ack, wait_ms)))
            }
        }
    }

    fn core_begins_polls(&mut self, client: usize, connect: String) -> Result<usize, String> {
        let attempt = digest(&connect);
        let shard = usize::from(fanfare_hub::attempt_shard(&attempt, self.shards.len()).0);
        let pipe = self.core_connects(client, shard, &connect)?;
        let mut polling = Polling::new(Some(attempt));
        polling.connect = connect;
        self.pipes[pipe].polling = Some(Box::new(polling));
        self.counts.polled += 1;
        Ok(pipe)
    }

    fn polls_of_core(
        &mut self,
        client: usize,
        pipe: usize,
        exchange: ExchangeId,
        request: impl Fn(usize) -> PollRequest,
    ) -> Verdict {
        self.counts.polls += 1;
        for late in self.core_ways_ms(client, exchange) {
            let shard = self.core_landing(client);
            self.after(late, Event::PollArrives { shard, request: request(pipe) });
        }
        Ok(())
    }

    /// The `connect` of a client core comes once more, when the connection that it led to has ended: it leads to
    /// another one.
    pub(super) fn core_begins_anew(&mut self, pipe: usize) -> Result<Option<usize>, String> {
        let client = self.pipes[pipe].client;
        if client < self.clients.len() || self.core_client(client).pipe != Some(pipe) {
            return Ok(None);
        }
        let Some(connect) = self.pipes[pipe].polling.as_ref().map(|polling| polling.connect.clone()) else {
            return Ok(None);
        };
        self.core_client(client).pipe = None;
        self.client_closed(pipe, false, None)?;
        Ok(Some(self.core_begins_polls(client, connect)?))
    }

    fn core_sends(&mut self, client: usize, request: HttpRequest) -> Verdict {
        let exchange = request.exchange;
        let read = wire::read_send(&request.body, self.reading(client))?;
        self.requests(client).begins(&request, Exchange::Send { is_numbered: read.n.is_some() })?;
        let Some(to) = read.to else { return Err(format!("core: the ticket of {} does not open", request.body)) };
        let current = self.core_client(client).pipe;
        if let Some(n) = read.n {
            let outgoing = self.outgoing.entry(to.client).or_default();
            if outgoing.of_core(current, n, &read.requests)? {
                self.send_judge.begins(self.now_ms, to.client, n);
                self.core_brings(current, &read.requests)?;
            } else {
                self.counts.core_sends_again += 1;
            }
        }
        self.counts.sends += 1;
        self.counts.core_sends += 1;
        let Some(pipe) = current.or(self.requests(client).pipe) else {
            return Err(format!("core: a send without a connection: {}", request.body));
        };
        if self.is_unanswered(client, exchange) {
            return Ok(());
        }
        let body: Rc<str> = request.body.into();
        for late in self.core_ways_ms(client, exchange) {
            let shard = self.core_landing(client);
            self.after(late, Event::SendArrives { shard, pipe, body: body.clone(), exchange: Some(exchange) });
        }
        // Now and then the network brings one once more that was answered long ago.
        let is_old = self.requests(client).rng.below(30) == 0 && !self.calm;
        let old = self.outgoing.get(&to.client).filter(|_| is_old).and_then(Outgoing::oldest_kept);
        if let Some((n, requests)) = old {
            self.counts.sends_old += 1;
            let body: Rc<str> = wire::write_send(&read.ticket, Some(n), &requests).into();
            let (late, shard) = (1 + self.requests(client).rng.below(300), self.core_landing(client));
            self.after(late, Event::SendArrives { shard, pipe, body, exchange: None });
        }
        Ok(())
    }

    /// The judge of connections hears of the commands in a new send.
    fn core_brings(&mut self, pipe: Option<usize>, requests: &[Request]) -> Verdict {
        let Some(pipe) = pipe.filter(|pipe| self.pipes[*pipe].apart.is_some()) else {
            return Err(format!("core: a send with commands and without a connection over HTTP: {requests:?}"));
        };
        for request in requests {
            self.application.shown(pipe, request);
            self.checker.sent(pipe, request, &self.stores.borrow());
            let asked = Asked::by(&request.command);
            if let (Some(apart), Some(RequestId::Number(id)), Some(asked)) =
                (&mut self.pipes[pipe].apart, &request.id, asked)
            {
                apart.asked.insert(*id, asked);
            }
        }
        Ok(())
    }

    /// A client core gives a request up.
    pub(super) fn core_aborts(&mut self, client: usize, exchange: ExchangeId) -> Verdict {
        self.trace.note(self.now_ms, || format!("client {client} gives {exchange:?} up"));
        match self.requests(client).aborted(exchange)? {
            Some(Exchange::Stream) => self.core_leaves(client),
            Some(Exchange::Poll(_) | Exchange::Send { .. }) | None => Ok(()),
        }
    }

    /// A client core has left its connection over HTTP, if it had one.
    pub(super) fn core_leaves(&mut self, client: usize) -> Verdict {
        let Some(pipe) = self.core_client(client).pipe.filter(|pipe| self.pipes[*pipe].apart.is_some()) else {
            return Ok(());
        };
        self.core_client(client).pipe = None;
        // A client that goes before it is let in has never been there.
        let is_answered = self.pipes[pipe].stream.as_ref().is_none_or(|stream| stream.is_answered);
        self.server_hears_end(pipe, !is_answered);
        self.client_closed(pipe, false, None)
    }

    /// The network loses all requests of a client core that are on their way.
    pub(super) fn core_cut_off(&mut self, client: usize) {
        for exchange in self.requests(client).on_their_way() {
            let late = self.requests(client).rng.below(50);
            self.core_gets(client, exchange, late, Outcome::Lost);
        }
    }

    /// The connection of a client core has ended: a WebSocket, or a stream whose body ends.
    pub(super) fn core_hears_end(&mut self, client: usize, pipe: usize, code: Option<u16>) -> Verdict {
        if self.pipes[pipe].apart.is_none() {
            return self.core(client, CoreInput::Closed(code));
        }
        let Some(exchange) = self.requests(client).stream().filter(|_| self.pipes[pipe].stream.is_some()) else {
            return Ok(());
        };
        self.requests(client).ends(exchange);
        self.core(client, CoreInput::Http(exchange, HttpInput::Lost))
    }
}

/// The outcomes of requests.
impl World {
    /// A shard is given the request for a stream.
    pub(super) fn stream_arrives(&mut self, pipe: usize) -> Verdict {
        // A client that has left has ended its request.
        if !self.pipes[pipe].client_open || self.pipes[pipe].half_open || self.is_closing {
            return Ok(());
        }
        let Some(connect) = self.pipes[pipe].stream.as_ref().map(|stream| stream.connect.clone()) else {
            return Ok(());
        };
        self.counts.core_streams += 1;
        self.bind(pipe, HeartbeatKind::Asks)?;
        for request in wire::read_commands(&connect, self.reading(self.pipes[pipe].client))? {
            self.command(pipe, request)?;
        }
        Ok(())
    }

    /// The hub answers a stream: its first reply says whether the client is let in.
    pub(super) fn stream_replied(&mut self, pipe: usize, reply: &Reply) {
        let Some(stream) = self.pipes[pipe].stream.as_mut().filter(|stream| stream.verdict.is_none()) else { return };
        stream.verdict = match &reply.body {
            ReplyBody::Connected(_) => Some(Ok(())),
            ReplyBody::Error(error) => Some(Err(error.clone())),
            _ => return,
        };
        self.after(0, Event::StreamBegins { pipe });
    }

    /// The answer of a stream begins.
    pub(super) fn stream_begins(&mut self, pipe: usize) -> Verdict {
        let client = self.pipes[pipe].client;
        let Some(stream) = self.pipes[pipe].stream.as_mut().filter(|stream| !stream.is_answered) else { return Ok(()) };
        stream.is_answered = true;
        let (form, Some(Err(error))) = (stream.form, stream.verdict.clone()) else {
            self.flush_later(pipe);
            return Ok(());
        };
        // It is not let in: its connection is over, and what the hub has said is not written.
        let outbox_max = self.plan.limits.outbox_bytes_max;
        let bytes = self.pipes[pipe].outbox.bytes();
        self.pipes[pipe].outbox.advance(bytes, outbox_max);
        self.pipes[pipe].said.clear();
        if std::mem::take(&mut self.pipes[pipe].server_open) {
            self.over(pipe);
            self.ends(pipe, true);
            let (shard, conn) = (self.pipes[pipe].shard, self.pipes[pipe].conn);
            self.handle(shard, Input::Closed { conn, finally: true })?;
        }
        if !error.code.row().retryable {
            let status = error.code.row().status;
            if let Some(exchange) = self.requests(client).stream() {
                self.core_gets(client, exchange, 1, Outcome::refusal(status, &error));
            }
            return Ok(());
        }
        let delay_ms = 1_000 + self.pipes[pipe].rng.below(2_000);
        let farewell = Rc::new(ToClient::Push(Push::Disconnect { reason: Disconnect::Overloaded, delay_ms }));
        let frame = wire::encode_streamed(&farewell, form, self.pipes[pipe].shard, self.wall_ms, &self.plan.limits);
        self.pipes[pipe].said.push_back(farewell);
        self.pipes[pipe].outbox.push(frame, usize::MAX);
        self.flush_later(pipe);
        self.after(200, Event::ClientCloses { pipe });
        Ok(())
    }

    /// A shard closes the connection of a stream: the farewell is the last of its body.
    pub(super) fn stream_closes(&mut self, pipe: usize) {
        if let Some(stream) = &mut self.pipes[pipe].stream {
            stream.verdict.get_or_insert(Ok(()));
            stream.is_answered = true;
        }
    }

    /// A client core has a whole message of its stream, at which the judge has looked.
    pub(super) fn core_streamed(&mut self, pipe: usize, text: &str) -> Verdict {
        let client = self.pipes[pipe].client;
        match self.requests(client).stream().filter(|_| self.pipes[pipe].client_open) {
            Some(exchange) => self.core(client, CoreInput::Http(exchange, HttpInput::Message(text))),
            None => Ok(()),
        }
    }

    /// A client core gets the answer to a poll.
    pub(super) fn core_poll_heard(&mut self, pipe: usize, request: u64, answer: PollAnswer) -> Verdict {
        let client = self.pipes[pipe].client;
        let Some(exchange) = self.requests(client).poll(request) else { return Ok(()) };
        if self.frozen_until_ms[client] > self.now_ms {
            let until_ms = self.frozen_until_ms[client];
            self.at(until_ms, Event::PollHeard { pipe, request, answer });
            return Ok(());
        }
        let outcome = match answer {
            PollAnswer::Given(body) => {
                self.pipes[pipe].heard_ms = self.now_ms;
                let (n, texts) = wire::read_poll_answer(&body)?;
                let Some(polling) = &mut self.pipes[pipe].polling else { return Ok(()) };
                let is_news = polling.client.takes(n, texts.is_empty())?;
                polling.client.is_connected |= !texts.is_empty();
                for text in texts.iter().filter(|_| is_news) {
                    self.hear(pipe, text)?;
                }
                Outcome::good(body)
            }
            PollAnswer::Gone => Outcome::refusal(401, &Error::new(ErrorCode::NotConnected, "the session is over")),
            PollAnswer::Refused => {
                let refusal = self.pipes[pipe].polling.as_ref().and_then(|polling| polling.server.refusal.clone());
                match refusal {
                    Some(error) => Outcome::refusal(error.code.row().status, &error),
                    None => Outcome::of_a_proxy(409, None),
                }
            }
        };
        self.core_http(CoreHttp { client, exchange, outcome })
    }

    /// A client core gets the answer to a send. The judge looks at the replies as any client would that has this
    /// connection.
    pub(super) fn core_send_heard(&mut self, exchange: ExchangeId, answered: SendAnswer) -> Verdict {
        let SendAnswer { pipe, client: session, n, ref answer, said, .. } = answered;
        let client = self.pipes[pipe].client;
        if !self.requests(client).is_open(exchange) {
            return Ok(());
        }
        if self.frozen_until_ms[client] > self.now_ms {
            let until_ms = self.frozen_until_ms[client];
            self.at(until_ms, Event::SendAnswered(Box::new(answered)));
            return Ok(());
        }
        let outcome = match answer {
            Ok((replies, text)) => {
                let texts = wire::entries(text, "replies")?;
                let is_heard = n.is_some_and(|n| self.core_send_is_done(pipe, session, n));
                if texts.len() != replies.len() {
                    return Err(format!("wire: {replies:?} was read as {texts:?}"));
                }
                // A command without an id gets at most an error, which its core passes on.
                for (reply, text) in replies.iter().zip(&texts).filter(|(reply, _)| is_heard && reply.id.is_some()) {
                    let (read, said_reply) = (wire::read_messages(text)?, ToClient::Reply(reply.clone()));
                    if !wire::agree(&read, &said_reply) {
                        return Err(format!("wire: {said_reply:?} was read as {read:?}"));
                    }
                    self.reply_heard(pipe, reply.clone(), said)?;
                }
                Outcome::good(text.clone())
            }
            Err(error) if error.code == ErrorCode::NotConnected => Outcome::refusal(401, error),
            Err(error) => {
                if error.code == ErrorCode::Unknown
                    && let Some(n) = n
                {
                    self.counts.sends_unknown += 1;
                    self.core_send_is_unknown(pipe, session, n);
                }
                Outcome::refusal(error.code.row().status, error)
            }
        };
        self.core_http(CoreHttp { client, exchange, outcome })
    }

    /// A send has its answer. True if its replies are for this connection.
    fn core_send_is_done(&mut self, pipe: usize, session: ClientId, n: u64) -> bool {
        let Some(outgoing) = self.outgoing.get_mut(&session) else { return false };
        let Some(sent) = outgoing.unanswered.get(&n) else { return false };
        let is_heard = sent.pipe == pipe && !sent.requests.is_empty() && self.pipes[pipe].client_open;
        outgoing.is_done(n);
        is_heard
    }

    /// The answer to a send is not kept: nobody knows what became of its commands.
    fn core_send_is_unknown(&mut self, pipe: usize, session: ClientId, n: u64) {
        let Some(outgoing) = self.outgoing.get_mut(&session) else { return };
        let Some(sent) = outgoing.unanswered.remove(&n).filter(|sent| sent.pipe == pipe) else { return };
        for request in &sent.requests {
            if let Some(RequestId::Number(id)) = request.id {
                if let Some(apart) = &mut self.pipes[pipe].apart {
                    apart.asked.remove(&id);
                }
                self.checker.never_known(pipe, id);
            }
        }
    }

    /// An outcome comes to a client core, the first of its request.
    pub(super) fn core_http(&mut self, came: CoreHttp) -> Verdict {
        let CoreHttp { client, exchange, ref outcome } = came;
        if !self.requests(client).is_open(exchange) {
            return Ok(());
        }
        if self.frozen_until_ms[client] > self.now_ms {
            let until_ms = self.frozen_until_ms[client];
            self.at(until_ms, Event::CoreHttp(Box::new(came)));
            return Ok(());
        }
        self.trace.note(self.now_ms, || format!("client {client}: {exchange:?} ends with {outcome:?}"));
        self.requests(client).ends(exchange);
        let input = match outcome {
            Outcome::Answer { status, retry_after_ms, body } => {
                HttpInput::Answer(HttpAnswer { status: *status, retry_after_ms: *retry_after_ms, body })
            }
            Outcome::Lost => HttpInput::Lost,
            Outcome::Foreign => HttpInput::Foreign("the answer is not HTTP"),
            Outcome::Unreachable => HttpInput::Unreachable,
        };
        self.core(client, CoreInput::Http(exchange, input))
    }

    /// A client core is given a session.
    pub(super) fn core_connected(&mut self, pipe: usize, connected: &Connected) {
        let client = self.pipes[pipe].client;
        let transport = self.core_client(client).core.transport();
        let before = self.requests(client).was_over.replace(transport);
        self.outgoing.entry(connected.client).or_default().resumed(pipe);
        if connected.resumed {
            let is_stream = u64::from(self.pipes[pipe].stream.is_some());
            self.counts.core_streams_resumed += is_stream;
            self.counts.core_changes += u64::from(before.is_some_and(|before| before != transport));
        }
    }
}

/// The network between client cores and shards.
impl World {
    fn core_client(&mut self, client: usize) -> &mut crate::core_client::CoreClient {
        &mut self.cores[client - self.plan.clients]
    }

    fn requests(&mut self, client: usize) -> &mut crate::core_requests::CoreRequests {
        &mut self.cores[client - self.plan.clients].requests
    }

    fn core_gets(&mut self, client: usize, exchange: ExchangeId, late: u64, outcome: Outcome) {
        self.after(late, Event::CoreHttp(Box::new(CoreHttp { client, exchange, outcome })));
    }

    /// The time that a request or an answer takes; `None` if it is lost, of which its client may learn.
    pub(super) fn core_way_ms(&mut self, client: usize, exchange: ExchangeId) -> Option<u64> {
        let calm = self.calm;
        let pipe = self.core_client(client).pipe.map(|pipe| &self.pipes[pipe]);
        // A stream that is half open does not stop the requests beside it.
        let is_dead = pipe.is_some_and(|pipe| pipe.half_open && pipe.polling.is_some());
        let rng = &mut self.requests(client).rng;
        let (is_lost, is_late, some, long) = (rng.below(14) == 0, rng.below(10) == 0, rng.below(12), rng.below(900));
        let (is_told, is_refused, told_ms) = (rng.below(2) == 0, rng.below(4) == 0, 1 + rng.below(600));
        if is_dead {
            return None;
        }
        if !calm && is_lost {
            self.counts.core_lost += 1;
            if is_told {
                // A proxy that has lost its connection to the server says so, or closes the client's.
                let outcome = if is_refused { Outcome::of_a_proxy(502, None) } else { Outcome::Lost };
                self.core_gets(client, exchange, told_ms, outcome);
            }
            return None;
        }
        Some(1 + if is_late && !calm { long } else { some })
    }

    /// The times at which the copies of a request arrive: none, one or two.
    fn core_ways_ms(&mut self, client: usize, exchange: ExchangeId) -> Vec<u64> {
        let calm = self.calm;
        let twice = self.requests(client).rng.below(16) == 0 && !calm;
        (0..1 + usize::from(twice)).filter_map(|_| self.core_way_ms(client, exchange)).collect()
    }

    /// The shard on which a request lands.
    fn core_landing(&mut self, client: usize) -> usize {
        let shards = self.shards.len() as u64;
        self.requests(client).rng.below(shards) as usize
    }

    /// True if no server is there for the request: it stops, or the connection to it fails.
    fn is_unanswered(&mut self, client: usize, exchange: ExchangeId) -> bool {
        if self.leaving {
            return true;
        }
        let calm = self.calm;
        let rng = &mut self.requests(client).rng;
        let (fails, is_busy, late) = (rng.below(40) == 0, rng.below(3) == 0, 1 + rng.below(20));
        if self.draining.is_none() && (calm || !fails) {
            return false;
        }
        let outcome = if is_busy && !calm { Outcome::of_a_proxy(503, Some(late * 30)) } else { Outcome::Unreachable };
        self.core_gets(client, exchange, late, outcome);
        true
    }

    /// Something between this client core and the server hinders transports now and then.
    fn obstructs(&mut self, client: usize) -> bool {
        let obstructs = self.plan.faults.obstructs && !self.calm;
        obstructs && self.requests(client).rng.below(4) == 0
    }

    /// True if the transport of this `connect` is not let through.
    fn is_blocked(&mut self, client: usize, exchange: ExchangeId) -> bool {
        if !self.obstructs(client) {
            return false;
        }
        let rng = &mut self.requests(client).rng;
        let (how, late) = (rng.below(4), 1 + rng.below(300));
        let outcome = match how {
            0 => Outcome::of_a_proxy(404, None),
            1 => Outcome::of_a_proxy(502, Some(late)),
            2 => Outcome::Foreign,
            _ => Outcome::Lost,
        };
        self.counts.core_blocked += 1;
        self.core_gets(client, exchange, late, outcome);
        true
    }

    /// A client core opens a WebSocket. True if that is not let through.
    pub(super) fn is_websocket_blocked(&mut self, client: usize) -> bool {
        if !self.obstructs(client) {
            return false;
        }
        self.counts.core_blocked += 1;
        let rng = &mut self.requests(client).rng;
        let (how, late) = (rng.below(3), 1 + rng.below(300));
        self.after(late, Event::CoreBlocked { client, how });
        true
    }

    /// The WebSocket of a client core was not let through.
    pub(super) fn core_is_blocked(&mut self, client: usize, how: u64) -> Verdict {
        match how {
            0 => self.core(client, CoreInput::NoTransport("the upgrade was stripped".into())),
            1 => self.core(client, CoreInput::Unavailable { retry_after_ms: 300 }),
            _ => {
                self.core(client, CoreInput::Reached)?;
                self.core(client, CoreInput::Closed(None))
            }
        }
    }
}

/// Names an attempt by the body of its `connect`, as the server does by a digest.
fn digest(text: &str) -> Attempt {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mut rng = Rng::new(hash);
    let mut attempt = [0; 32];
    attempt.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&rng.next_u64().to_le_bytes()));
    attempt
}
