//! The transports below the session: how a connection is opened, left and replaced by one over another transport, and
//! the course of requests over HTTP.
//!
//! In: the inputs of a transport. Out: the messages that it brings, given to the session one by one, and the failures
//! of connections. A refusal by the server is one on each transport. An answer that is not the server's says that the
//! transport cannot be had; one that asks for patience, or none at all, that it may be had later.

use super::out::{json_of, text_of};
use super::polls::Polls;
use super::types::{Config, EndReason, ExchangeId, HttpAnswer, HttpInput, HttpKind, Output, Setback, Transport};
use super::{Core, Link, RETRY_AFTER_MS_MAX, Step, id_of};
use fanfare_hub::{ErrorCode, RequestId};
use fanfare_wire::native::client::{
    self, ClientCommand, ErrorReply, ServerMessage, decode_poll_answer, decode_refusal, decode_send_answer,
    encode_attempt, encode_send,
};

/// Without a heartbeat, a poll session that got no answer for so long is given up.
const SILENCE_MS: u64 = 60_000;
/// A refused send shows that the server has ended the connection. What it had sent before is read for so long: longer
/// than a server waits until it cuts what it has closed (`limits.close_timeout`, 3 s).
const ENDING_MS: u64 = 5_000;
/// How much of a foreign answer is shown.
const EXCERPT_CHARS: usize = 80;

/// The way by which messages come.
#[derive(Debug)]
pub(super) enum Downlink {
    None,
    WebSocket,
    Stream(ExchangeId),
    Polls(Polls),
}

impl Downlink {
    pub(super) fn is_websocket(&self) -> bool {
        matches!(self, Downlink::WebSocket)
    }

    /// The session is there. How long the server may say nothing; 0: for ever.
    pub(super) fn online(&mut self, ping_ms: u64) -> u64 {
        let silence_ms = ping_ms.saturating_mul(2);
        match self {
            Downlink::Polls(polls) => {
                polls.online(ping_ms);
                if silence_ms == 0 { SILENCE_MS } else { silence_ms }
            }
            _ => silence_ms,
        }
    }

    pub(super) fn wake_ms(&self) -> Option<u64> {
        match self {
            Downlink::Polls(polls) => polls.wake_ms(),
            _ => None,
        }
    }
}

impl Core {
    /// Opens a connection over the transport whose turn it is.
    pub(super) fn begin(&mut self, now_ms: u64) {
        self.order.begin(now_ms);
        self.reached = false;
        let timeout_ms = self.config.connect_timeout_ms;
        let transport = self.order.current();
        self.out.over_http = transport != Transport::WebSocket;
        let kind = match transport {
            Transport::WebSocket => {
                self.downlink = Downlink::WebSocket;
                self.link = Link::Opening { deadline_ms: now_ms + timeout_ms };
                return self.out.put(Output::Connect);
            }
            Transport::Sse => HttpKind::Sse,
            Transport::Stream => HttpKind::Stream,
            Transport::Poll => HttpKind::Poll,
        };
        let deadline_ms = now_ms + timeout_ms;
        let connect = self.connect_command(deadline_ms);
        let Some(RequestId::Number(id)) = connect.id else { return };
        let mut body = Vec::new();
        if kind == HttpKind::Poll {
            let attempt = format!("{:016x}", self.rng.next_u64());
            encode_attempt(&mut body, &connect, &attempt);
        } else {
            client::encode(&mut body, &connect);
        }
        let body = json_of(body);
        self.downlink = if kind == HttpKind::Poll {
            Downlink::Polls(Polls::begin(now_ms, body, timeout_ms, &mut self.out))
        } else {
            Downlink::Stream(self.out.http(kind, body))
        };
        self.link = Link::Greeting { deadline_ms, id };
    }

    /// The transport cannot be had, for a reason that no retry will change.
    pub(super) fn no_transport(&mut self, now_ms: u64, why: Box<str>) {
        // Where the server was once, a proxy may say anything while it restarts.
        let known = self.session.client.is_some();
        match self.order.failed(Some(why)) {
            Step::Next => self.try_next(now_ms),
            Step::End(why) if !known => self.end(EndReason::NoTransport(why)),
            Step::End(_) | Step::Wait => self.lost(now_ms, None, Setback::Transport),
        }
    }

    /// The connection failed before it was online.
    pub(super) fn not_through(&mut self, now_ms: u64, why: Setback) {
        if self.reached && self.order.failed(None) == Step::Next {
            return self.try_next(now_ms);
        }
        self.lost(now_ms, None, why);
    }

    /// The answer asks for no further attempt for so long.
    pub(super) fn unavailable(&mut self, now_ms: u64, retry_after_ms: u64) {
        self.order.asked_for_patience();
        // All clients got the same delay: our own wait on top spreads them.
        let own_ms = self.backoff.next_ms(&mut self.rng, None);
        let asked_ms = retry_after_ms.min(RETRY_AFTER_MS_MAX) + own_ms;
        self.wait(now_ms, asked_ms, Setback::Transport);
    }

    fn try_next(&mut self, now_ms: u64) {
        self.detach();
        self.begin(now_ms);
    }

    /// Leaves the connection.
    pub(super) fn close(&mut self, code: u16) {
        if self.downlink.is_websocket() {
            self.out.put(Output::Close(code));
        }
        self.hang_up();
    }

    /// Nothing is heard of the connection any more, and its requests are given up.
    pub(super) fn hang_up(&mut self) {
        match std::mem::replace(&mut self.downlink, Downlink::None) {
            Downlink::Stream(exchange) => self.out.abort(exchange),
            Downlink::Polls(mut polls) => {
                self.session.ack = polls.acknowledged().or(self.session.ack);
                polls.abort(&mut self.out);
            }
            Downlink::WebSocket | Downlink::None => {}
        }
        self.out.pong_is_due = false;
        self.sends.queue(&mut self.out.commands);
        self.sends.offline(&mut self.out);
    }

    /// The application ends the client. Over HTTP the last command ends the session, where a WebSocket is closed; the
    /// commands before it may still arrive, so nothing is aborted: the server ends the stream or the poll.
    pub(super) fn last_words(&mut self, now_ms: u64) {
        let Some(ticket) = self.session.ticket.as_deref() else { return };
        let speaks_http = self.config.transports.iter().any(|transport| *transport != Transport::WebSocket);
        match self.link {
            Link::Online { .. } if self.out.over_http => {
                self.out.send(None, ClientCommand::Disconnect);
                self.sends.queue(&mut self.out.commands);
                self.sends.last_words(now_ms, &self.config, &mut self.rng, ticket, &mut self.out);
                self.downlink = Downlink::None;
            }
            // The session may be alive. Nothing is known of its numbers.
            Link::Waiting { .. }
            | Link::Fetching { .. }
            | Link::Opening { .. }
            | Link::Greeting { .. }
            | Link::Ending { .. }
                if speaks_http =>
            {
                let mut body = Vec::new();
                encode_send(&mut body, ticket, None, [&*text_of(None, ClientCommand::Disconnect)]);
                self.out.http(HttpKind::Send, json_of(body));
            }
            _ => {}
        }
    }

    /// Sends the commands that may be sent.
    pub(super) fn pump_sends(&mut self, now_ms: u64) {
        self.sends.queue(&mut self.out.commands);
        if let Some(ticket) = self.session.ticket.as_deref() {
            if std::mem::take(&mut self.out.pong_is_due) {
                self.sends.pong(now_ms, &self.config, ticket, &mut self.out);
            }
            self.sends.pump(now_ms, &self.config, &mut self.rng, ticket, self.message_bytes, &mut self.out);
        }
    }

    /// Polls that are due.
    pub(super) fn wake_polls(&mut self, now_ms: u64) {
        if let Downlink::Polls(polls) = &mut self.downlink {
            let ticket = self.session.ticket.as_deref().unwrap_or_default();
            polls.wake(now_ms, &mut self.rng, ticket, patience_ms(&self.config, &self.link), &mut self.out);
        }
    }

    /// An input of an exchange. One that was given up is passed over.
    pub(super) fn exchanged(&mut self, now_ms: u64, exchange: ExchangeId, input: HttpInput<'_>) {
        if self.sends.is_pong(exchange) {
            return self.pong_answered(now_ms, input);
        }
        if let Some(n) = self.sends.number_of(exchange) {
            return self.sent(now_ms, n, input);
        }
        match &self.downlink {
            Downlink::Stream(open) if *open == exchange => self.streamed(now_ms, input),
            Downlink::Polls(polls) if polls.is(exchange) => self.polled(now_ms, input),
            _ => {}
        }
    }

    /// The answer to a ping has arrived, or it is sent again. Where it was refused, the stream says more.
    fn pong_answered(&mut self, now_ms: u64, input: HttpInput<'_>) {
        let answer = match input {
            HttpInput::Answer(answer) if passes(answer.status) => {
                let asked_ms = self.asked_ms(now_ms, answer);
                return self.sends.pong_lost(now_ms, asked_ms, &mut self.rng);
            }
            HttpInput::Answer(answer) => answer,
            _ => return self.sends.pong_lost(now_ms, 0, &mut self.rng),
        };
        self.sends.end_pong();
        if answer.status == 200
            && let Some(ticket) = decode_send_answer(answer.body).ok().and_then(|sent| sent.ticket)
        {
            self.session.ticket = Some(ticket);
        }
    }

    fn streamed(&mut self, now_ms: u64, input: HttpInput<'_>) {
        self.reached |= !matches!(input, HttpInput::Unreachable);
        let is_greeting = matches!(self.link, Link::Greeting { .. });
        match input {
            HttpInput::Message(text) => return self.text(now_ms, text),
            _ => self.downlink = Downlink::None,
        }
        match input {
            HttpInput::Foreign(why) if is_greeting => self.no_transport(now_ms, why.into()),
            HttpInput::Answer(answer) if is_greeting => {
                let is_sse = self.order.current() == Transport::Sse;
                let kind = if is_sse { HttpKind::Sse } else { HttpKind::Stream };
                self.connect_answered(now_ms, kind, answer);
            }
            _ if is_greeting => self.not_through(now_ms, Setback::Transport),
            _ => self.ended_there(now_ms),
        }
    }

    /// The connection has come to its end, or has had the time for it.
    pub(super) fn ended_there(&mut self, now_ms: u64) {
        let why = match &self.link {
            Link::Ending { why, .. } => why.clone(),
            _ => Setback::Transport,
        };
        self.lost(now_ms, None, why);
    }

    /// The answer to a `connect` that is no `connected`.
    fn connect_answered(&mut self, now_ms: u64, kind: HttpKind, answer: HttpAnswer<'_>) {
        let HttpAnswer { status, body, .. } = answer;
        if passes(status) {
            return self.unavailable(now_ms, retry_after_ms(answer).unwrap_or(0));
        }
        match decode_refusal(body) {
            // There is no such address: an older server, or one with another prefix.
            Some(error) if !matches!(status, 404 | 405) => {
                self.hang_up();
                self.connect_refused(now_ms, Box::new(error));
            }
            refusal => {
                let why = refused(kind, status, refusal.map(|error| error.message).as_deref().unwrap_or(body));
                self.hang_up();
                self.no_transport(now_ms, why);
            }
        }
    }

    fn polled(&mut self, now_ms: u64, input: HttpInput<'_>) {
        self.reached |= !matches!(input, HttpInput::Unreachable);
        let is_greeting = matches!(self.link, Link::Greeting { .. });
        let answer = match input {
            HttpInput::Answer(answer) => answer,
            HttpInput::Unreachable if is_greeting => {
                self.downlink = Downlink::None;
                return self.lost(now_ms, None, Setback::Transport);
            }
            HttpInput::Foreign(why) if is_greeting => {
                self.downlink = Downlink::None;
                return self.no_transport(now_ms, why.into());
            }
            HttpInput::Lost | HttpInput::Unreachable | HttpInput::Foreign(_) => return self.poll_lost(now_ms),
            HttpInput::Message(_) => return,
        };
        match answer.status {
            200 => match decode_poll_answer(answer.body) {
                Ok(poll) => {
                    if let Downlink::Polls(polls) = &mut self.downlink {
                        polls.answered(now_ms, poll.n, poll.messages.is_empty(), &mut self.rng);
                    }
                    if let Link::Online { heard_ms, .. } = &mut self.link {
                        *heard_ms = now_ms;
                    }
                    for text in poll.messages {
                        self.text(now_ms, text);
                    }
                    self.poll_again(now_ms);
                }
                Err(_) if is_greeting => self.connect_answered(now_ms, HttpKind::Poll, answer),
                // A proxy, or half an answer.
                Err(_) => self.poll_lost(now_ms),
            },
            // An earlier request of the same attempt is overtaken by a later one.
            409 if is_greeting => self.poll_lost(now_ms),
            _ if is_greeting => self.connect_answered(now_ms, HttpKind::Poll, answer),
            status if passes(status) => {
                let asked_ms = self.asked_ms(now_ms, answer);
                if let Downlink::Polls(polls) = &mut self.downlink {
                    polls.rest(now_ms, asked_ms, &mut self.rng);
                }
            }
            _ => self.session_refused(now_ms, answer),
        }
    }

    /// How long an answer asks for patience. If the connection is lost in that time, the next one waits for its end.
    fn asked_ms(&mut self, now_ms: u64, answer: HttpAnswer<'_>) -> u64 {
        let asked_ms = retry_after_ms(answer).unwrap_or(0).min(RETRY_AFTER_MS_MAX);
        self.not_before_ms = self.not_before_ms.max(now_ms + asked_ms);
        asked_ms
    }

    fn poll_lost(&mut self, now_ms: u64) {
        if let Downlink::Polls(polls) = &mut self.downlink {
            polls.lost(now_ms, &mut self.rng);
        }
    }

    /// The messages of an answer are handled: the next poll acknowledges them.
    fn poll_again(&mut self, now_ms: u64) {
        if let Downlink::Polls(polls) = &mut self.downlink {
            let ticket = self.session.ticket.as_deref().unwrap_or_default();
            polls.ask(now_ms, ticket, patience_ms(&self.config, &self.link), &mut self.out);
        }
    }

    /// A poll or a send of our session was refused: another `connect` may take the session up.
    fn session_refused(&mut self, now_ms: u64, answer: HttpAnswer<'_>) {
        let refusal = decode_refusal(answer.body);
        let is = |code: ErrorCode| refusal.as_ref().is_some_and(|error| *error.code == *code.row().word);
        // It has expired, or it is of the server before this one. And a number that the server does not know shows
        // that it has another session in mind.
        if is(ErrorCode::Unauthorized) || is(ErrorCode::OutOfOrder) || is(ErrorCode::BadRequest) {
            self.session.ticket = None;
        }
        let why = refusal.map_or(Setback::Transport, |error| Setback::Refused(Box::new(error)));
        self.close(1000);
        self.lost(now_ms, None, why);
    }

    /// A send was refused because the server has ended the connection. Messages that it had sent before are read to
    /// their end: they overfilled this connection, perhaps, and without them the next one would begin where this one
    /// did, and end as it did. Where nothing came for a whole heartbeat, nothing more will.
    fn reads_to_the_end(&mut self, now_ms: u64, n: u64, answer: HttpAnswer<'_>) {
        match self.link {
            Link::Online { since_ms, heard_ms, silence_ms }
                if silence_ms == 0 || now_ms.saturating_sub(heard_ms) < silence_ms / 2 =>
            {
                let why = decode_refusal(answer.body);
                let why = why.map_or(Setback::Transport, |error| Setback::Refused(Box::new(error)));
                self.sends.lost(now_ms, &mut self.rng, n);
                self.link = Link::Ending { since_ms, until_ms: now_ms + ENDING_MS, why };
            }
            _ => self.session_refused(now_ms, answer),
        }
    }

    /// A send was refused with its session. One that is left of an earlier connection says nothing of a WebSocket.
    fn leftover_or_session_refused(&mut self, now_ms: u64, answer: HttpAnswer<'_>) {
        if self.out.over_http {
            self.session_refused(now_ms, answer);
        } else {
            self.sends.forget_leftovers();
        }
    }

    fn sent(&mut self, now_ms: u64, n: u64, input: HttpInput<'_>) {
        let answer = match input {
            HttpInput::Answer(answer) => answer,
            HttpInput::Unreachable => return self.sends.unreachable(now_ms, &mut self.rng, n),
            _ => return self.sends.lost(now_ms, &mut self.rng, n),
        };
        let refusal = decode_refusal(answer.body);
        let is = |code: ErrorCode| refusal.as_ref().is_some_and(|error| *error.code == *code.row().word);
        match answer.status {
            // It says no more than the refusal before it.
            status if status != 200 && matches!(self.link, Link::Ending { .. }) => {
                self.sends.lost(now_ms, &mut self.rng, n);
            }
            200 => match decode_send_answer(answer.body) {
                Ok(sent) => {
                    if let Some(ticket) = sent.ticket {
                        self.session.ticket = Some(ticket);
                    }
                    self.send_done(now_ms, n, &sent.replies);
                }
                Err(_) => self.sends.lost(now_ms, &mut self.rng, n),
            },
            401 if self.out.over_http && is(ErrorCode::NotConnected) => self.reads_to_the_end(now_ms, n, answer),
            401 => self.leftover_or_session_refused(now_ms, answer),
            409 if is(ErrorCode::OutOfOrder) => {
                if !self.sends.out_of_order(now_ms, &mut self.rng, n, &mut self.out) {
                    self.leftover_or_session_refused(now_ms, answer);
                }
            }
            // It has taken effect, and its answer is not kept: this number is done. Its commands are asked again, under
            // another number, where that does no harm.
            _ if is(ErrorCode::Unknown) => {
                let done = self.sends.done(n).unwrap_or_default();
                let error = refusal.map(|refusal| ErrorReply { retryable: true, ..refusal });
                self.refuse_commands(now_ms, &done.ids, error);
                // It may have ended subscriptions and begun others, before which something is missing.
                for channel in done.unsubscribed {
                    self.subscriptions.again(&channel, &mut self.out);
                }
            }
            status if passes(status) => {
                let asked_ms = self.asked_ms(now_ms, answer);
                self.sends.rest(now_ms, asked_ms, &mut self.rng, n);
            }
            status => {
                let ids = self.sends.refused(now_ms, n);
                let code = if status == 413 { ErrorCode::TooLarge } else { ErrorCode::BadRequest };
                let error = refusal.unwrap_or_else(|| ErrorReply {
                    id: None,
                    code: code.row().word.into(),
                    message: refused(HttpKind::Send, status, answer.body),
                    retryable: false,
                    retry_after_ms: None,
                    channel: None,
                    rule: None,
                });
                self.refuse_commands(now_ms, &ids, Some(error));
            }
        }
    }

    /// A send is answered, with the replies to its commands.
    fn send_done(&mut self, now_ms: u64, n: u64, replies: &[&str]) {
        let Some(done) = self.sends.done(n) else { return };
        let mut messages = Vec::new();
        let readable = replies.iter().all(|reply| client::decode(reply, &mut messages).is_ok());
        for message in messages {
            match message {
                _ if !self.is_heard() => return,
                ServerMessage::Error(error) if error.id.is_none() => self.out.put(Output::Error(error)),
                message if id_of(&message).is_some() => self.message(now_ms, message),
                _ => {}
            }
        }
        for channel in done.unsubscribed {
            self.subscriptions.again(&channel, &mut self.out);
        }
        if !readable && self.is_heard() {
            self.leave(now_ms, 1002, Setback::Nonsense);
        }
    }

    /// Answers commands whose send was refused as a whole.
    fn refuse_commands(&mut self, now_ms: u64, ids: &[u64], error: Option<ErrorReply>) {
        let Some(error) = error else { return };
        if ids.is_empty() {
            return self.out.put(Output::Error(Box::new(error)));
        }
        for &id in ids {
            if self.is_heard() {
                let error = ErrorReply { id: Some(RequestId::Number(id)), ..error.clone() };
                self.message(now_ms, ServerMessage::Error(Box::new(error)));
            }
        }
    }
}

/// How long an answer may take beyond the wait of its request.
fn patience_ms(config: &Config, link: &Link) -> u64 {
    match link {
        Link::Greeting { .. } => config.connect_timeout_ms,
        _ => config.request_timeout_ms,
    }
}

/// The delay that an answer asks for: by its header, else by its body.
fn retry_after_ms(answer: HttpAnswer<'_>) -> Option<u64> {
    answer.retry_after_ms.or_else(|| decode_refusal(answer.body)?.retry_after_ms)
}

/// A status that the same request may not get later.
fn passes(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500..)
}

/// Says in one line what came instead of an answer of the server's.
fn refused(kind: HttpKind, status: u16, body: &str) -> Box<str> {
    let line = body.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
    let mut chars = line.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut excerpt: String = chars.by_ref().take(EXCERPT_CHARS).collect();
    if chars.next().is_some() {
        excerpt.push('…');
    }
    let separator = if excerpt.is_empty() { "" } else { ": " };
    match status {
        200 => format!("the answer of {} is not Fanfare's{separator}{excerpt}", kind.path()).into(),
        _ => format!("the answer of {} is {status}{separator}{excerpt}", kind.path()).into(),
    }
}
