//! The client as a machine: no socket, no clock, no randomness of its own.
//!
//! [`Core::handle`] takes one [`Input`] with the time, [`Core::poll_output`] gives the work, in order, until
//! `None`; then sleep until [`Core::wake_ms`] or the next input. The machine is a router over smaller ones: link (one
//! connection's life), the order of transports, polls, sends, backoff, tokens, requests, subscriptions, publishes. Its
//! promises:
//!
//! - every call is answered exactly once;
//! - within a subscription offsets rise, and a loss is reported as [`Event::Gap`] before anything newer;
//! - a publication is sent again, with its key, until it is answered, given up, or could stand twice;
//! - a connection on which nothing is heard for two heartbeats is left.
//!
//! The contract of the caller: after [`Output::Connect`] its next input is `Opened`, `NoTransport`, `Unavailable` or
//! `Closed`; after [`Output::Close`] it gives no more inputs of that WebSocket. For each [`Output::Http`] it sends the
//! request, on a connection of its own or on one that is kept, and gives [`Input::Http`] with the name of its exchange:
//! any number of [`HttpInput::Message`] where the answer is a stream, then one other input, which is the last; after
//! [`Output::Abort`] it gives none of that exchange. Time never goes back. Inputs out of turn are ignored.
//!
//! Which of them come depends on [`Config::transports`]. Over HTTP a stream or one poll after the other brings
//! messages, and commands go up in sends; the numbers, the repeats and their times are the core's.
//!
//! ```
//! use fanfare_client::core::{Call, CallId, Config, Core, Input, Output};
//! use fanfare_client::Subscribe;
//!
//! let mut core = Core::new(Config::default(), 42);
//! core.handle(0, Input::Call(CallId(1), Call::Subscribe(Box::new(Subscribe::new("chat:general")))));
//! core.handle(0, Input::Start);
//! let mut outputs = std::iter::from_fn(|| core.poll_output());
//! assert!(outputs.any(|output| output == Output::Connect));
//! drop(outputs);
//! core.handle(5, Input::Opened);
//! let sent = std::iter::from_fn(|| core.poll_output()).find_map(|output| match output {
//!     Output::Send(text) => Some(text),
//!     _ => None,
//! });
//! let sent = sent.expect("`connect` is the first");
//! assert!(sent.ends_with(r#""subscribe":[{"channel":"chat:general"}]}"#), "{sent}");
//! ```

mod backoff;
mod carried;
mod held;
mod leaving;
mod order;
mod out;
mod polls;
mod publishes;
mod requests;
mod sends;
mod subscription;
mod subscriptions;
mod tokens;
mod types;

#[cfg(test)]
mod tests;

pub use types::{
    Answer, Call, CallError, CallId, Config, EndReason, Event, ExchangeId, HttpAnswer, HttpInput, HttpKind,
    HttpRequest, Input, Output, Setback, State, Transport,
};

use backoff::Backoff;
use carried::Downlink;
use fanfare_hub::{Data, Disconnect, ErrorCode, RequestId, Rng};
use fanfare_wire::native::client::{self, ClientCommand, ClientRequest, Connected, ErrorReply, ServerMessage};
use fanfare_wire::websocket::close;
use order::{Order, Step};
use out::Out;
use publishes::{Publishes, Scope};
use requests::{Purpose, Requests, answer_of};
use sends::Sends;
use std::sync::Arc;
use subscriptions::{Online, Subscriptions};
use tokens::Tokens;

/// The longest delay that a proxy's answer can cause: its number may be meant for a page that is fetched once a day.
const RETRY_AFTER_MS_MAX: u64 = 10 * 60_000;

/// The client.
#[derive(Debug)]
pub struct Core {
    config: Config,
    rng: Rng,
    link: Link,
    /// How messages come.
    downlink: Downlink,
    /// How commands go up where they do not go by a WebSocket.
    sends: Sends,
    order: Order,
    /// The server, or a proxy before it, has accepted the connection that is being opened.
    reached: bool,
    backoff: Backoff,
    tokens: Tokens,
    session: Session,
    /// Shown with every `connect`: a connection of ours takes the session over from an earlier one of ours.
    page: Box<str>,
    requests: Requests,
    subscriptions: Subscriptions,
    publishes: Publishes,
    /// Bytes of one message, where the server says how many.
    message_bytes: Option<u64>,
    /// The last connection that was online ended with a message that cannot be read.
    unreadable: bool,
    /// An answer over HTTP has asked for patience until then: no `connect` goes up earlier.
    not_before_ms: u64,
    out: Out,
}

/// One connection's life.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Link {
    /// Not begun.
    Idle,
    /// For the next attempt.
    Waiting { until_ms: u64 },
    /// For a token.
    Fetching { deadline_ms: u64 },
    /// For the transport.
    Opening { deadline_ms: u64 },
    /// For the answer to `connect`.
    Greeting { deadline_ms: u64, id: u64 },
    /// `silence_ms` is how long the server may say nothing; 0: for ever.
    Online { since_ms: u64, heard_ms: u64, silence_ms: u64 },
    /// The server has ended the connection, and messages that it sent before are still on their way. Nothing goes up.
    Ending { since_ms: u64, until_ms: u64, why: Setback },
    /// Until [`Input::Start`].
    Ended(EndReason),
}

/// The identity that the server gave us, over all connections.
#[derive(Debug, Default)]
struct Session {
    ticket: Option<Box<str>>,
    client: Option<Arc<str>>,
    user: Option<Arc<str>>,
    /// The last answer to a poll that was had on the connection before: later ones are given again.
    ack: Option<u64>,
}

impl Session {
    /// Where our idempotency keys hold.
    fn scope(&self) -> Option<Scope> {
        let user = self.user.clone().map(Scope::User);
        user.or_else(|| self.client.clone().map(Scope::Client))
    }
}

impl Core {
    /// A client that has not begun. `seed` decides its waits and keys: no two clients may have the same.
    pub fn new(config: Config, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        Core {
            backoff: Backoff::new(config.backoff_min_ms, config.backoff_max_ms),
            page: format!("{:016x}", rng.next_u64()).into(),
            rng,
            link: Link::Idle,
            downlink: Downlink::None,
            sends: Sends::default(),
            order: Order::new(&config.transports),
            reached: false,
            message_bytes: None,
            tokens: Tokens::default(),
            session: Session::default(),
            requests: Requests::default(),
            subscriptions: Subscriptions::default(),
            publishes: Publishes::default(),
            unreadable: false,
            not_before_ms: 0,
            out: Out::default(),
            config,
        }
    }

    /// Takes one input. Then poll the outputs.
    pub fn handle(&mut self, now_ms: u64, input: Input<'_>) {
        match (input, &self.link) {
            (Input::Start, Link::Idle | Link::Ended(_)) => self.open(now_ms),
            (Input::Reached, Link::Opening { .. } | Link::Greeting { .. }) => self.reached = true,
            (Input::Http(exchange, input), _) => self.exchanged(now_ms, exchange, input),
            (Input::Opened, Link::Opening { .. }) => {
                self.reached = true;
                self.greet(now_ms);
            }
            (Input::NoTransport(why), Link::Opening { .. }) => self.no_transport(now_ms, why),
            (Input::Unavailable { retry_after_ms }, Link::Opening { .. }) => self.unavailable(now_ms, retry_after_ms),
            (Input::Closed(_) | Input::Text(_), Link::Opening { .. } | Link::Greeting { .. } | Link::Online { .. })
                if !self.downlink.is_websocket() => {}
            (Input::Closed(None), Link::Opening { .. } | Link::Greeting { .. }) => {
                self.not_through(now_ms, Setback::Transport);
            }
            (Input::Closed(code), Link::Opening { .. } | Link::Greeting { .. } | Link::Online { .. }) => match code {
                Some(code) if self.wants_token(code) => self.lost(now_ms, None, Setback::Closed(code)),
                Some(code) if !close::reconnect(code) => {
                    let reason = close::find(code).map_or("closed", |row| row.name).into();
                    self.end(EndReason::Disconnected { code, reason });
                }
                _ => self.lost(now_ms, None, code.map_or(Setback::Transport, Setback::Closed)),
            },
            (Input::Text(text), Link::Greeting { .. } | Link::Online { .. }) => self.text(now_ms, text),
            // The way out of an end that was the old token's.
            (Input::Call(call, Call::Refresh(token)), Link::Ended(_)) => {
                self.config.token = Some(token);
                self.tokens.given(now_ms, true);
                self.out.answer(call, Ok(Answer::Done));
            }
            (Input::Call(call, _), Link::Ended(reason)) => {
                let error = CallError::Ended(reason.clone());
                self.out.answer(call, Err(error));
            }
            (Input::Call(id, call), _) => self.call(now_ms, id, call),
            (Input::Token(token), _) => self.token(now_ms, token),
            (Input::Pause { channel, before }, _) => {
                let connected = self.is_connected();
                self.subscriptions.pause(&channel, before, connected, &mut self.out);
            }
            (Input::Resume(channel), _) => self.subscriptions.resume(&channel),
            (Input::Wake, _) => self.wake(now_ms),
            (Input::Stop, Link::Ended(_)) => {}
            (Input::Stop, _) => {
                self.last_words(now_ms);
                self.close(1000);
                self.end(EndReason::Stopped);
            }
            // Out of turn: a transport that we have left already.
            (
                Input::Start
                | Input::Reached
                | Input::Opened
                | Input::NoTransport(_)
                | Input::Unavailable { .. }
                | Input::Closed(_)
                | Input::Text(_),
                _,
            ) => {}
        }
        self.pump(now_ms);
    }

    /// The next thing to do. Call until `None` after each [`handle`](Self::handle).
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop()
    }

    /// When [`Input::Wake`] is due, on the clock of [`handle`](Self::handle).
    pub fn wake_ms(&self) -> Option<u64> {
        let link = match &self.link {
            Link::Idle | Link::Ended(_) => return None,
            Link::Waiting { until_ms } | Link::Ending { until_ms, .. } => Some(*until_ms),
            Link::Fetching { deadline_ms } | Link::Opening { deadline_ms } | Link::Greeting { deadline_ms, .. } => {
                Some(*deadline_ms)
            }
            Link::Online { silence_ms: 0, .. } => None,
            Link::Online { heard_ms, silence_ms, .. } => Some(heard_ms + silence_ms),
        };
        let subscriptions = self.subscriptions.wake_ms().filter(|_| self.is_online());
        let publishes = self.publishes.wake_ms(self.is_online());
        let token = self.tokens.renew_ms().filter(|_| self.config.token_provider && self.is_online());
        let polls = self.downlink.wake_ms();
        let sends = self.sends.wake_ms(&self.config, self.out.over_http).filter(|_| self.is_online());
        [link, subscriptions, publishes, token, self.requests.wake_ms(), polls, sends].into_iter().flatten().min()
    }

    /// The transport of the connection, or the one that is tried.
    pub fn transport(&self) -> Transport {
        self.order.current()
    }

    /// Bytes of commands that wait to be sent over HTTP. A caller takes no more calls while there are too many.
    pub fn backlog(&self) -> usize {
        self.sends.backlog()
    }

    /// One's own public id, once known.
    pub fn client(&self) -> Option<&Arc<str>> {
        self.session.client.as_ref()
    }

    /// True while commands can be sent.
    pub fn is_online(&self) -> bool {
        matches!(self.link, Link::Online { .. })
    }

    /// True while messages come that are the session's.
    fn is_heard(&self) -> bool {
        matches!(self.link, Link::Online { .. } | Link::Ending { .. })
    }

    /// `connect` is sent: later commands take effect after it.
    fn is_connected(&self) -> bool {
        matches!(self.link, Link::Greeting { .. } | Link::Online { .. })
    }

    fn open(&mut self, now_ms: u64) {
        self.out.state(State::Connecting);
        let deadline_ms = now_ms + self.config.connect_timeout_ms;
        if self.config.token_provider && self.tokens.is_stale(now_ms, self.config.token.as_deref()) {
            self.link = Link::Fetching { deadline_ms };
            if self.tokens.ask() {
                self.out.put(Output::Token);
            }
            return;
        }
        self.begin(now_ms);
    }

    /// The application has a token, or has none now.
    fn token(&mut self, now_ms: u64, token: Option<Box<str>>) {
        self.tokens.given(now_ms, token.is_some());
        if let Some(token) = &token {
            self.config.token = Some(token.clone());
        }
        match (&self.link, token) {
            (Link::Fetching { .. }, Some(_)) => self.begin(now_ms),
            (Link::Fetching { .. }, None) => self.lost(now_ms, None, Setback::NoToken),
            (Link::Online { .. }, Some(token)) => {
                let deadline_ms = now_ms + self.config.request_timeout_ms;
                let command = ClientCommand::Refresh { token };
                self.requests.ask(&mut self.out, true, deadline_ms, Purpose::Refresh, command);
            }
            _ => {}
        }
    }

    /// The outcome for a token that was shown on a live connection.
    fn refreshed(&mut self, now_ms: u64, message: ServerMessage) {
        match message {
            ServerMessage::Result { expires_ms, .. } => self.tokens.accepted(now_ms, expires_ms),
            ServerMessage::Error(error) => {
                if error.retryable {
                    self.tokens.later(now_ms);
                }
                self.out.put(Output::Error(error));
            }
            _ => {}
        }
    }

    /// True where a connection ended because of its token, and the application can give another one.
    fn wants_token(&mut self, code: u16) -> bool {
        let is_token = [Disconnect::Expired, Disconnect::Unauthorized].iter().any(|reason| reason.code() == code);
        is_token && self.config.token_provider && self.tokens.refused()
    }

    /// The WebSocket is there.
    fn greet(&mut self, now_ms: u64) {
        let deadline_ms = now_ms + self.config.connect_timeout_ms;
        let ClientRequest { id, command } = self.connect_command(deadline_ms);
        if let Some(RequestId::Number(id)) = id {
            self.out.send(Some(id), command);
            self.link = Link::Greeting { deadline_ms, id };
        }
    }

    /// `connect`, whose subscriptions are to be answered until then.
    fn connect_command(&mut self, deadline_ms: u64) -> ClientRequest {
        let id = Some(RequestId::Number(self.out.next_id()));
        let subscribe = self.subscriptions.connect(deadline_ms);
        let (token, ticket) = (self.config.token.clone(), self.session.ticket.clone());
        let (page, ack) = (Some(self.page.clone()), self.session.ack);
        ClientRequest { id, command: ClientCommand::Connect { token, ticket, page, ack, subscribe } }
    }

    /// The connection is of no more use; another one is made after a while.
    fn lost(&mut self, now_ms: u64, asked_ms: Option<u64>, why: Setback) {
        if let Setback::Closed(code) | Setback::Disconnected { code, .. } = why
            && code == Disconnect::Moved.code()
        {
            self.session.ticket = None; // another client has the session: to take it back would be to move it for ever
        }
        if let Link::Online { since_ms, .. } | Link::Ending { since_ms, .. } = self.link {
            self.backoff.lasted(now_ms - since_ms);
            self.unreadable = why == Setback::Nonsense;
        }
        let wait_ms = self.backoff.next_ms(&mut self.rng, asked_ms);
        self.wait(now_ms, wait_ms, why);
    }

    fn wait(&mut self, now_ms: u64, wait_ms: u64, why: Setback) {
        let until_ms = now_ms.saturating_add(wait_ms).max(self.not_before_ms);
        self.detach();
        self.link = Link::Waiting { until_ms };
        self.out.state(State::Waiting { until_ms, failures: self.backoff.failures(), why });
    }

    /// The connection is gone: nothing that was asked on it is answered any more.
    fn detach(&mut self) {
        self.hang_up();
        let unsent = self.sends.take_unsent();
        let asked = self.requests.offline(&unsent, &mut self.out);
        self.subscriptions.offline(asked, &mut self.out);
        self.publishes.offline(&unsent);
    }

    /// We leave the connection by ourselves.
    fn leave(&mut self, now_ms: u64, code: u16, why: Setback) {
        self.close(code);
        self.lost(now_ms, None, why);
    }

    fn end(&mut self, reason: EndReason) {
        self.hang_up();
        self.publishes.offline(&self.sends.take_unsent());
        self.sends = Sends::default();
        self.link = Link::Ended(reason.clone());
        let error = CallError::Ended(reason.clone());
        self.requests.end(&mut self.out, &error);
        self.publishes.end(&mut self.out, &error);
        self.subscriptions.end(&mut self.out, &error);
        self.session = Session::default();
        self.out.state(State::Ended(reason));
    }

    fn text(&mut self, now_ms: u64, text: &str) {
        if let Link::Online { heard_ms, .. } = &mut self.link {
            *heard_ms = now_ms;
        }
        let mut messages = Vec::new();
        let decoded = client::decode(text, &mut messages);
        for message in messages {
            match self.link {
                Link::Greeting { id, .. } => self.greeted(now_ms, id, message),
                Link::Online { .. } | Link::Ending { .. } => self.message(now_ms, message),
                // One of them ended the connection.
                _ => return,
            }
        }
        // A server whose messages cannot be decoded is left, because another server, or its next version, may be
        // better. If a message is undecodable twice, it will be so again: it is in the history, and every recovery
        // would end at it.
        if decoded.is_err() && (self.is_heard() || matches!(self.link, Link::Greeting { .. })) {
            if self.unreadable {
                self.subscriptions.pass_over();
            }
            self.leave(now_ms, 1002, Setback::Nonsense);
        }
    }

    fn greeted(&mut self, now_ms: u64, id: u64, message: ServerMessage) {
        match message {
            ServerMessage::Connected(connected) => self.online(now_ms, *connected),
            ServerMessage::Error(error) if error.id == Some(RequestId::Number(id)) => {
                self.close(1000);
                self.connect_refused(now_ms, error);
            }
            ServerMessage::Disconnect { code, reason, retry, delay_ms } => {
                self.disconnected(now_ms, code, reason, retry, delay_ms);
            }
            ServerMessage::Ping => self.out.send(None, ClientCommand::Pong),
            _ => {}
        }
    }

    fn connect_refused(&mut self, now_ms: u64, error: Box<ErrorReply>) {
        let is = |code: ErrorCode| *error.code == *code.row().word;
        let is_token = is(ErrorCode::Unauthorized) || is(ErrorCode::TokenExpired);
        let another = is_token && self.config.token_provider && self.tokens.refused();
        let too_many = is(ErrorCode::LimitExceeded) && self.subscriptions.too_many();
        if error.retryable || another || too_many {
            self.lost(now_ms, error.retry_after_ms, Setback::Refused(error));
        } else {
            self.end(EndReason::Refused(error));
        }
    }

    fn online(&mut self, now_ms: u64, connected: Connected) {
        let silence_ms = self.downlink.online(connected.ping_ms);
        self.order.worked(now_ms);
        self.sends.online(now_ms, connected.session_resumed);
        self.message_bytes = connected.limits.message_bytes;
        self.link = Link::Online { since_ms: now_ms, heard_ms: now_ms, silence_ms };
        let Connected { client, user, ticket, expires_ms, limits, .. } = connected.clone();
        self.subscriptions.online(limits.subscriptions);
        self.tokens.accepted(now_ms, expires_ms);
        self.session = Session { ticket, client: Some(client), user, ack: None };
        if let Some(scope) = self.session.scope() {
            self.publishes.online(&scope, limits.idempotency_keys_ttl_ms, &mut self.out);
        }
        self.requests.online(&mut self.out);
        self.out.state(State::Online(Box::new(connected)));
    }

    fn disconnected(&mut self, now_ms: u64, code: u16, reason: Box<str>, retry: bool, delay_ms: u64) {
        self.close(1000);
        if self.wants_token(code) || retry {
            // A delay of 0 counts as absent: our own jitter spreads the clients.
            let asked_ms = Some(delay_ms).filter(|delay_ms| *delay_ms > 0);
            self.lost(now_ms, asked_ms, Setback::Disconnected { code, reason });
        } else {
            self.end(EndReason::Disconnected { code, reason });
        }
    }

    /// The branches of one `match` are the machine; straight-line work is the smaller machines'.
    fn message(&mut self, now_ms: u64, message: ServerMessage) {
        let Core { config, rng, session, requests, subscriptions, publishes, sends, out, .. } = self;
        if session.client.is_none() {
            return;
        }
        let at = Online { now_ms, config };
        let may_be_left = |channel: &str| sends.may_leave(channel);
        let Some(message) = subscriptions.hold(message, out.over_http, may_be_left) else { return };
        if let Some(id) = id_of(&message) {
            let RequestId::Number(id) = *id else { return };
            subscriptions.left(now_ms, rng, id, &message);
            let Err(message) = publishes.answered(now_ms, rng, id, message, out) else { return };
            return match requests.take(id) {
                Some(Purpose::Call { call, .. }) => {
                    if let ServerMessage::Result { expires_ms: Some(ms), .. } = message {
                        self.tokens.accepted(now_ms, Some(ms)); // a refresh of the application's own
                    }
                    out.answer(call, answer_of(message));
                }
                Some(Purpose::Refresh) => self.refreshed(now_ms, message),
                Some(purpose) => {
                    let channel = purpose.channel().cloned();
                    subscriptions.answered(at, rng, purpose, message, requests, out);
                    if let Some(channel) = subscriptions.take_ambiguous() {
                        return self.leave(now_ms, 1000, Setback::Ambiguous { channel });
                    }
                    for held in channel.map(|channel| subscriptions.take_held(&channel)).unwrap_or_default() {
                        self.message(now_ms, held);
                    }
                }
                None => {}
            };
        }
        match message {
            ServerMessage::Message { channel, epoch, publication } => {
                subscriptions.message(&channel, epoch, *publication, out);
            }
            ServerMessage::Gap { channel, position, reset } => subscriptions.gap(&channel, position, reset, out),
            ServerMessage::Ping => out.send(None, ClientCommand::Pong),
            ServerMessage::Ticket { ticket } => session.ticket = Some(ticket),
            ServerMessage::Unsubscribed(push) => {
                subscriptions.unsubscribed(now_ms, rng, *push, out);
                if let Some(channel) = subscriptions.take_ambiguous() {
                    self.leave(now_ms, 1000, Setback::Ambiguous { channel });
                }
            }
            ServerMessage::Disconnect { code, reason, retry, delay_ms } => {
                self.disconnected(now_ms, code, reason, retry, delay_ms);
            }
            message @ (ServerMessage::Subscribed(_) | ServerMessage::Error(_)) => {
                if let Some(error) = subscriptions.answered_bare(at, rng, message, requests, out) {
                    out.put(Output::Error(error));
                }
                if let Some(channel) = subscriptions.take_ambiguous() {
                    self.leave(now_ms, 1000, Setback::Ambiguous { channel });
                }
            }
            message @ (ServerMessage::Presence(_)
            | ServerMessage::PresenceChange(_)
            | ServerMessage::PresenceCount { .. }
            | ServerMessage::Signal(_)) => subscriptions.presence(now_ms, message, out),
            // Without an id these answer nothing of ours; and a newer server may say more than we know. A token is
            // renewed before its reminder, by the time that the answer to `connect` told.
            ServerMessage::Connected(_)
            | ServerMessage::Published { .. }
            | ServerMessage::History(_)
            | ServerMessage::Result { .. }
            | ServerMessage::TokenExpiring { .. }
            | ServerMessage::Unknown { .. } => {}
        }
    }

    fn call(&mut self, now_ms: u64, id: CallId, call: Call) {
        if let Some(error) = bad_payload(&call) {
            return self.out.answer(id, Err(error));
        }
        let (online, connected) = (self.is_online(), self.is_connected());
        let max = self.config.waiting_max;
        let waits = !matches!(call, Call::Unsubscribe(_) | Call::Signal { to: None, .. });
        let is_full = !waits && self.sends.waiting() >= max && matches!(call, Call::Signal { .. });
        if is_full || waits && self.requests.len() + self.publishes.len() >= max {
            return self.out.answer(id, Err(CallError::TooMany { max }));
        }
        let Core { config, rng, tokens, session, requests, subscriptions, publishes, out, .. } = self;
        let deadline_ms = now_ms + config.request_timeout_ms;
        let mut ask = |out: &mut Out, repeat, command| {
            requests.ask(out, online, deadline_ms, Purpose::Call { call: id, repeat }, command);
        };
        match call {
            Call::Subscribe(options) => subscriptions.add(id, *options, out),
            Call::Unsubscribe(channel) => {
                subscriptions.remove(&channel, connected, out);
                out.answer(id, Ok(Answer::Done));
            }
            Call::Publish(publish) => publishes.add(now_ms, config, rng, id, *publish),
            Call::Signal { .. } if !online => out.answer(id, Err(CallError::Offline)),
            Call::Signal { channel, event, data, to } => {
                let directed = to.is_some();
                let command = ClientCommand::Signal { channel, event, data, to };
                if directed {
                    ask(out, false, command);
                } else {
                    out.send(None, command);
                    out.answer(id, Ok(Answer::Done));
                }
            }
            Call::PresenceSet { channel, data } => {
                let at = session.client.as_ref().filter(|_| online).map(|_| Online { now_ms, config });
                subscriptions.presence_set(at, id, channel, data, requests, out);
            }
            Call::PresenceClear(channel) => {
                if subscriptions.presence_clear(&channel, out) {
                    ask(out, true, ClientCommand::PresenceClear { channel });
                } else {
                    out.answer(id, Ok(Answer::Done));
                }
            }
            Call::Presence(channel) => ask(out, true, ClientCommand::Presence { channel }),
            Call::History { channel, from, limit } => {
                ask(out, true, ClientCommand::History { channel, from, limit });
            }
            Call::Rpc { method, data } => ask(out, false, ClientCommand::Rpc { method, data }),
            Call::Refresh(token) => {
                config.token = Some(token.clone());
                tokens.given(now_ms, true);
                if online {
                    ask(out, false, ClientCommand::Refresh { token });
                } else {
                    out.answer(id, Ok(Answer::Done));
                }
            }
        }
    }

    fn wake(&mut self, now_ms: u64) {
        match self.link {
            Link::Waiting { until_ms } if until_ms <= now_ms => self.open(now_ms),
            Link::Fetching { deadline_ms } if deadline_ms <= now_ms => self.lost(now_ms, None, Setback::NoToken),
            Link::Opening { deadline_ms } if deadline_ms <= now_ms => {
                self.close(1000);
                self.not_through(now_ms, Setback::Transport);
            }
            Link::Greeting { deadline_ms, .. } if deadline_ms <= now_ms => {
                self.close(1000);
                self.not_through(now_ms, Setback::NoAnswer { after_ms: self.config.connect_timeout_ms });
            }
            Link::Ending { until_ms, .. } if until_ms <= now_ms => self.ended_there(now_ms),
            Link::Online { heard_ms, silence_ms, .. } if silence_ms > 0 && heard_ms + silence_ms <= now_ms => {
                self.leave(now_ms, 1000, Setback::Silence { silence_ms });
            }
            _ => {}
        }
        if self.config.token_provider && self.is_online() && self.tokens.renew_ms().is_some_and(|at| at <= now_ms) {
            self.tokens.ask();
            self.out.put(Output::Token);
        }
        let after_ms = self.config.request_timeout_ms;
        self.wake_polls(now_ms);
        // Where there is a WebSocket, sends are left of earlier connections, and nobody waits for them.
        let sends_overdue = self.out.over_http && self.sends.is_overdue(now_ms, &self.config);
        let mut lost_touch = self.is_online() && (self.subscriptions.is_overdue(now_ms) || sends_overdue);
        for (id, purpose) in self.requests.expired(now_ms) {
            match purpose {
                Purpose::Call { call, repeat: false } => {
                    self.sends.withdraw(id); // it would take effect behind the caller's back
                    self.out.answer(call, Err(CallError::TimedOut { after_ms }));
                }
                Purpose::Call { call, .. } | Purpose::Enter { call: Some(call), .. } => {
                    self.out.answer(call, Err(CallError::TimedOut { after_ms }));
                }
                // Whether the server delivers is not known: only a new connection makes that sure.
                Purpose::Subscribe { .. } => lost_touch = true,
                Purpose::Refresh => self.tokens.later(now_ms),
                // It has waited long enough, and without a snapshot no change can be reported.
                Purpose::PresenceSync { channel, life } => self.subscriptions.presence_later(&channel, life, now_ms),
                Purpose::Enter { channel, life, call: None } => self.subscriptions.enter_later(&channel, life, now_ms),
                Purpose::Clear { channel, life } => self.subscriptions.clear_later(&channel, life, now_ms),
            }
        }
        self.publishes.wake(now_ms, &self.config, &mut self.sends, &mut self.out);
        if lost_touch && self.is_online() {
            self.leave(now_ms, 1000, Setback::NoAnswer { after_ms });
        }
    }

    /// Sends the messages that have become possible.
    fn pump(&mut self, now_ms: u64) {
        let (true, Some(scope)) = (self.is_online() && self.session.client.is_some(), self.session.scope()) else {
            return;
        };
        let at = Online { now_ms, config: &self.config };
        self.subscriptions.pump(at, &mut self.requests, &mut self.out);
        self.publishes.pump(now_ms, &self.config, &scope, &mut self.out);
        self.pump_sends(now_ms);
    }
}

fn id_of(message: &ServerMessage) -> Option<&RequestId> {
    match message {
        ServerMessage::Connected(it) => it.id.as_ref(),
        ServerMessage::Subscribed(it) => it.id.as_ref(),
        ServerMessage::Unsubscribed(it) => it.id.as_ref(),
        ServerMessage::History(it) => it.id.as_ref(),
        ServerMessage::Presence(it) => it.id.as_ref(),
        ServerMessage::Error(it) => it.id.as_ref(),
        ServerMessage::Published { id, .. } | ServerMessage::Result { id, .. } => id.as_ref(),
        _ => None,
    }
}

/// Payloads are spliced into messages as they are: one that is no JSON would break the message around it.
fn bad_payload(call: &Call) -> Option<CallError> {
    let json = match call {
        Call::Publish(publish) => match &publish.data {
            Data::Json(json) => json,
            Data::Binary(_) => return None,
        },
        Call::Signal { data, .. } | Call::PresenceSet { data, .. } | Call::Rpc { data, .. } => data,
        _ => return None,
    };
    let checked = serde_json::from_slice::<&serde_json::value::RawValue>(json);
    checked.err().map(|error| CallError::NotJson { problem: error.to_string().into() })
}
