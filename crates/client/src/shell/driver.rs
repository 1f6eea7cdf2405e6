//! The task that owns the connection and the clock: a list of steps that decides nothing. It ends when the client has
//! ended and nobody can call any more.

use super::http::{Answer as HttpWhole, Http, HttpEvent};
use super::net::{Endpoint, Problem, Stream};
use super::subscription::{Feed, Subscription};
use super::transport::{Closing, Read, Socket};
use super::{Command, Fetching, Status, Tokens};
use crate::core::{
    Answer, Call, CallError, CallId, Core, EndReason, Event, ExchangeId, HttpAnswer, HttpInput, Input, Output, State,
};
use fanfare_hub::Rng;
use std::collections::{BTreeSet, HashMap};
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

/// With so much unwritten no more calls are taken.
pub(super) const BACKLOG_BYTES_MAX: usize = 1 << 20;

/// The receiver of a call's answer.
enum Waiter {
    Plain(oneshot::Sender<Result<Answer, CallError>>),
    Subscribe { channel: Arc<str>, reply: oneshot::Sender<Result<Subscription, CallError>> },
}

enum Transport {
    None,
    Reaching(Pin<Box<dyn Future<Output = Result<Stream, Problem>> + Send>>),
    Opening(Pin<Box<dyn Future<Output = Result<Socket, Problem>> + Send>>),
    Open(Box<Socket>),
}

/// The event that woke the task.
enum Wakeup {
    Command(Option<Command>),
    Reached(Result<Stream, Problem>),
    Opened(Result<Socket, Problem>),
    Http(ExchangeId, HttpEvent),
    Ready,
    Token(Option<Box<str>>),
    Wake,
}

/// The queue of commands, as the driver holds it.
pub(super) struct CommandQueue {
    pub(super) received: mpsc::UnboundedReceiver<Command>,
    pub(super) sender: mpsc::WeakUnboundedSender<Command>,
}

pub(super) struct Driver {
    core: Core,
    endpoint: Endpoint,
    /// How long a connection may take, for the message that there is none.
    connect_timeout_ms: u64,
    rng: Rng,
    start: Instant,
    transport: Transport,
    http: Http,
    tokens: Option<Tokens>,
    /// The request of the caller that ends the client.
    closing: Option<Closing>,
    /// The application's answer to the question for a token.
    token: Option<Fetching>,
    commands: mpsc::UnboundedReceiver<Command>,
    /// For the subscriptions that are handed out. Weak: the task itself must not keep itself alive.
    sender: mpsc::WeakUnboundedSender<Command>,
    status: watch::Sender<Status>,
    /// The first transport's problem that no retry changes, while the others are tried: it tells more than theirs.
    first_final: Option<Problem>,
    calls: HashMap<CallId, Waiter>,
    last_call: u64,
    feeds: HashMap<Arc<str>, Feed>,
    last_feed: u64,
    /// The receiver of subscriptions that the server made.
    incoming: Option<mpsc::UnboundedSender<Subscription>>,
    /// Those that nobody has taken.
    unclaimed: BTreeSet<Arc<str>>,
}

impl Driver {
    pub(super) fn new(
        core: Core,
        endpoint: Endpoint,
        connect_timeout_ms: u64,
        seed: u64,
        tokens: Option<Tokens>,
        commands: CommandQueue,
        status: watch::Sender<Status>,
    ) -> Self {
        Driver {
            core,
            http: Http::new(endpoint.clone()),
            endpoint,
            connect_timeout_ms,
            rng: Rng::new(seed),
            start: Instant::now(),
            transport: Transport::None,
            tokens,
            closing: None,
            token: None,
            commands: commands.received,
            sender: commands.sender,
            status,
            first_final: None,
            calls: HashMap::new(),
            last_call: 0,
            feeds: HashMap::new(),
            last_feed: 0,
            incoming: None,
            unclaimed: BTreeSet::new(),
        }
    }

    pub(super) async fn run(mut self) {
        self.tell(Input::Start);
        loop {
            match self.next_wakeup().await {
                Wakeup::Command(Some(command)) => self.command(command),
                Wakeup::Command(None) => return self.tell(Input::Stop),
                Wakeup::Reached(Ok(stream)) => {
                    let opening = Socket::open(stream, self.endpoint.url().clone(), self.rng.next_u64());
                    self.transport = Transport::Opening(Box::pin(opening));
                    self.tell(Input::Reached);
                }
                Wakeup::Opened(Ok(socket)) => {
                    self.transport = Transport::Open(Box::new(socket));
                    self.tell(Input::Opened);
                }
                Wakeup::Reached(Err(problem)) | Wakeup::Opened(Err(problem)) => {
                    self.transport = Transport::None;
                    let input = match &problem {
                        problem if problem.is_final() => Input::NoTransport(problem.to_string().into()),
                        Problem::Answer { retry_after_ms, .. } => {
                            Input::Unavailable { retry_after_ms: retry_after_ms.unwrap_or(0) }
                        }
                        _ => Input::Closed(None),
                    };
                    self.note(problem);
                    self.tell(input);
                }
                Wakeup::Http(exchange, event) => self.exchanged(exchange, event),
                Wakeup::Ready => self.exchange(),
                Wakeup::Token(token) => {
                    self.token = None;
                    self.tell(Input::Token(token));
                }
                Wakeup::Wake => self.tell(Input::Wake),
            }
        }
    }

    async fn next_wakeup(&mut self) -> Wakeup {
        let wake_at = self.core.wake_ms().map(|wake_ms| self.start + Duration::from_millis(wake_ms));
        let backlog = match &self.transport {
            Transport::Open(socket) => socket.backlog(),
            _ => self.core.backlog(),
        };
        let transport = async {
            match &mut self.transport {
                Transport::None => pending().await,
                Transport::Reaching(reaching) => Wakeup::Reached(reaching.await),
                Transport::Opening(opening) => Wakeup::Opened(opening.await),
                Transport::Open(socket) => {
                    socket.ready().await;
                    Wakeup::Ready
                }
            }
        };
        let wake = async {
            match wake_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => pending().await,
            }
        };
        let token = async {
            match &mut self.token {
                Some(token) => token.await,
                None => pending().await,
            }
        };
        tokio::select! {
            wakeup = transport => wakeup,
            (exchange, event) = self.http.next() => Wakeup::Http(exchange, event),
            token = token => Wakeup::Token(token),
            command = self.commands.recv(), if backlog < BACKLOG_BYTES_MAX => Wakeup::Command(command),
            () = wake => Wakeup::Wake,
        }
    }

    fn tell(&mut self, input: Input<'_>) {
        let now_ms = self.start.elapsed().as_millis() as u64;
        self.core.handle(now_ms, input);
        while let Some(output) = self.core.poll_output() {
            self.act(now_ms, output);
        }
        let failed = match &mut self.transport {
            Transport::Open(socket) => socket.flush().is_err(),
            _ => false,
        };
        if failed {
            self.transport = Transport::None;
            self.tell(Input::Closed(None));
        }
    }

    fn act(&mut self, now_ms: u64, output: Output) {
        match output {
            Output::Connect => {
                let endpoint = self.endpoint.clone();
                self.transport = Transport::Reaching(Box::pin(async move { endpoint.open().await }));
            }
            Output::Http(request) => self.http.send(request),
            Output::Abort(exchange) => self.http.abort(exchange),
            // Without a provider the core does not ask.
            Output::Token => self.token = self.tokens.as_ref().map(|tokens| tokens()),
            Output::Send(text) => {
                if let Transport::Open(socket) = &mut self.transport {
                    socket.send(&text);
                }
            }
            Output::Close(code) => match std::mem::replace(&mut self.transport, Transport::None) {
                Transport::None => {}
                Transport::Reaching(_) | Transport::Opening(_) => {
                    let problem = Problem::TimedOut { after_ms: self.connect_timeout_ms };
                    self.status.send_modify(|status| status.problem = Some(problem));
                }
                Transport::Open(socket) => socket.close(code, self.closing.clone()),
            },
            Output::Answer(call, result) => self.answer(call, result),
            Output::Channel { channel, event, before } => {
                if !self.feeds.contains_key(&channel) {
                    match &event {
                        Event::Live { .. } => drop(self.unclaimed.insert(channel.clone())),
                        Event::Ended { .. } => drop(self.unclaimed.remove(&channel)),
                        _ => {}
                    }
                    self.hand_out();
                }
                if let Some(feed) = self.feeds.get_mut(&channel) {
                    if !feed.offer(event) {
                        self.core.handle(now_ms, Input::Pause { channel: channel.clone(), before });
                        if feed.is_drained() {
                            self.core.handle(now_ms, Input::Resume(channel.clone()));
                        }
                    }
                    if feed.is_ended() {
                        self.feeds.remove(&channel);
                    }
                }
            }
            Output::State(state) => {
                if let State::Ended(reason) = &state {
                    self.http.finish(self.closing.clone());
                    for (_, mut feed) in self.feeds.drain() {
                        feed.end("ended".into(), reason.to_string().into());
                    }
                }
                let (start, transport) = (self.start, self.core.transport());
                let first_final = match state {
                    State::Connecting => None,
                    _ => self.first_final.take(),
                };
                self.status.send_modify(|status| {
                    if matches!(state, State::Online(_)) {
                        status.problem = None;
                    }
                    if let (State::Ended(EndReason::NoTransport(_)), Some(problem)) = (&state, first_final) {
                        status.problem = Some(problem);
                    }
                    status.retry_at = match state {
                        State::Waiting { until_ms, .. } => Some(start + Duration::from_millis(until_ms)),
                        _ => None,
                    };
                    (status.state, status.transport) = (state, transport);
                });
            }
            Output::Error(error) => {
                let problem = Problem::Server { code: error.code, message: error.message };
                self.status.send_modify(|status| status.problem = Some(problem));
            }
        }
    }

    fn note(&mut self, problem: Problem) {
        if self.first_final.is_none() && problem.is_final() {
            self.first_final = Some(problem.clone());
        }
        self.status.send_modify(|status| status.problem = Some(problem));
    }

    fn exchanged(&mut self, exchange: ExchangeId, event: HttpEvent) {
        let foreign;
        let input = match &event {
            HttpEvent::Reached => return self.tell(Input::Reached),
            HttpEvent::Message(text) => HttpInput::Message(text),
            HttpEvent::Answer(HttpWhole { status, retry_after_ms, body, .. }) => {
                HttpInput::Answer(HttpAnswer { status: *status, retry_after_ms: *retry_after_ms, body })
            }
            HttpEvent::Lost(problem) if problem.is_final() => {
                foreign = problem.to_string();
                HttpInput::Foreign(&foreign)
            }
            HttpEvent::Lost(_) => HttpInput::Lost,
            HttpEvent::Unreachable(_) => HttpInput::Unreachable,
        };
        let problem = match &event {
            HttpEvent::Answer(HttpWhole { problem, .. }) => problem.as_ref(),
            HttpEvent::Lost(problem) | HttpEvent::Unreachable(problem) => Some(problem),
            HttpEvent::Reached | HttpEvent::Message(_) => None,
        };
        if let Some(problem) = problem {
            self.note(problem.clone());
        }
        self.tell(Input::Http(exchange, input));
    }

    fn answer(&mut self, call: CallId, result: Result<Answer, CallError>) {
        match self.calls.remove(&call) {
            // The caller may have stopped waiting.
            Some(Waiter::Plain(reply)) => drop(reply.send(result)),
            Some(Waiter::Subscribe { channel, reply }) => {
                let Some(sender) = self.sender.upgrade() else { return };
                let subscription = result.map(|_| {
                    self.last_feed += 1;
                    let (feed, subscription) = Feed::open(self.last_feed, channel.clone(), sender);
                    self.unclaimed.remove(&channel);
                    self.feeds.insert(channel, feed);
                    subscription
                });
                drop(reply.send(subscription));
            }
            None => {}
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Call { call, reply } => self.call(call, Waiter::Plain(reply)),
            Command::Subscribe { options, reply } => {
                let channel = options.channel.clone();
                self.call(Call::Subscribe(options), Waiter::Subscribe { channel, reply });
            }
            Command::Unsubscribe { channel, feed } => {
                // Not where the channel has been subscribed to anew since.
                if self.feeds.get(&channel).is_some_and(|it| it.id() == feed) {
                    self.feeds.remove(&channel);
                    self.last_call += 1;
                    self.tell(Input::Call(CallId(self.last_call), Call::Unsubscribe(channel)));
                }
            }
            Command::Resume { channel, feed } => {
                if self.feeds.get(&channel).is_some_and(|it| it.id() == feed) {
                    self.tell(Input::Resume(channel));
                }
            }
            Command::Incoming(incoming) => {
                self.incoming = Some(incoming);
                self.hand_out();
            }
            Command::Start => self.tell(Input::Start),
            Command::Stop(closing) => {
                self.closing = Some(closing);
                self.tell(Input::Stop);
                self.closing = None;
            }
        }
    }

    /// Gives the subscriptions that the server made to the receiver of `incoming`.
    fn hand_out(&mut self) {
        let (Some(incoming), Some(commands)) = (&self.incoming, self.sender.upgrade()) else { return };
        while let Some(channel) = self.unclaimed.first().filter(|_| !incoming.is_closed()).cloned() {
            self.last_feed += 1;
            let (feed, subscription) = Feed::open(self.last_feed, channel.clone(), commands.clone());
            self.feeds.insert(channel.clone(), feed);
            self.unclaimed.remove(&channel);
            drop(incoming.send(subscription)); // closed at this moment: it unsubscribes as it is dropped
        }
    }

    fn call(&mut self, call: Call, waiter: Waiter) {
        self.last_call += 1;
        let id = CallId(self.last_call);
        self.calls.insert(id, waiter);
        self.tell(Input::Call(id, call));
    }

    /// Writes and reads once.
    fn exchange(&mut self) {
        let Transport::Open(socket) = &mut self.transport else { return };
        let mut texts = Vec::new();
        let read = socket.read(|text| texts.push(text.to_owned()));
        for text in texts {
            self.tell(Input::Text(&text));
        }
        if let Read::Over(code) = read
            && let Transport::Open(socket) = std::mem::replace(&mut self.transport, Transport::None)
        {
            socket.finish();
            self.tell(Input::Closed(code));
        } else {
            self.tell_nothing();
        }
    }

    /// Only the writing of [`tell`](Self::tell).
    fn tell_nothing(&mut self) {
        if let Transport::Open(socket) = &mut self.transport
            && socket.flush().is_err()
        {
            self.transport = Transport::None;
            self.tell(Input::Closed(None));
        }
    }
}
