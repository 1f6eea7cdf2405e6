//! The inputs and outputs of the core.

use bytes::Bytes;
use fanfare_wire::native::client::{
    Connected, ErrorReply, History, HistoryFrom, Position, Presence, PresenceChange, Publication, Publish, Signal,
    Subscribe,
};
use fanfare_wire::stream::StreamForm;
use std::sync::Arc;

/// A way to carry the native protocol. Messages, guarantees and calls are the same on each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Transport {
    /// One WebSocket for both directions: the cheapest.
    #[default]
    WebSocket,
    /// Messages come by an event stream (`/v1/sse`), commands go up by requests of their own (`/v1/send`).
    Sse,
    /// The same with lines of JSON (`/v1/stream`).
    Stream,
    /// Messages come by polls (`/v1/poll`), commands go up as with [`Sse`](Self::Sse). It needs nothing but whole
    /// requests and answers.
    Poll,
}

impl Transport {
    /// All of them.
    pub const ALL: &'static [Transport] = &[Transport::WebSocket, Transport::Sse, Transport::Stream, Transport::Poll];
    /// From the cheapest to the one that passes everything. [`Stream`](Self::Stream) is left out: a network that stops
    /// an event stream stops it too.
    pub const AUTO: &'static [Transport] = &[Transport::WebSocket, Transport::Sse, Transport::Poll];

    /// Its name: `websocket`, `sse`, `stream` or `poll`.
    pub fn name(self) -> &'static str {
        match self {
            Transport::WebSocket => "websocket",
            Transport::Sse => "sse",
            Transport::Stream => "stream",
            Transport::Poll => "poll",
        }
    }
}

/// How a client behaves.
#[derive(Debug, Clone)]
pub struct Config {
    /// The transports to use, in the order in which they are tried: where one does not get through to a server that
    /// can be reached, the next one is tried at once. The one that worked is kept; five minutes later the next
    /// connection begins with the first one again. Default: only [`Transport::WebSocket`].
    pub transports: Vec<Transport>,
    /// Shown with every `connect`.
    pub token: Option<Box<str>>,
    /// The application gives tokens when it is asked, by [`Output::Token`]: before the first connection where there
    /// is none yet, in time before one expires, and when one is refused. Default false.
    pub token_provider: bool,
    /// The first wait before coming back is drawn from 0 to this; it doubles. Default 500 ms.
    pub backoff_min_ms: u64,
    /// No wait is longer. Default 30 s.
    pub backoff_max_ms: u64,
    /// For the transport, and for the answer to `connect`, each; over HTTP for both together. Default 10 s.
    pub connect_timeout_ms: u64,
    /// For the answer to a command on a live connection, and over HTTP for the answer to each request beyond the time
    /// for which it may wait. Default 10 s.
    pub request_timeout_ms: u64,
    /// A publication that was not answered for so long is given up. One that was sent is given up earlier where the
    /// server remembers keys for a shorter time (`connected.limits.idempotency_keys_ttl`): a later retry could
    /// publish twice. Default 90 s.
    pub publish_give_up_ms: u64,
    /// Publications sent and not answered. Default 16, half of what a server admits.
    pub in_flight_max: usize,
    /// Commands waiting for a connection or an answer; more are refused. Default 1024.
    pub waiting_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            transports: vec![Transport::WebSocket],
            token: None,
            token_provider: false,
            backoff_min_ms: 500,
            backoff_max_ms: 30_000,
            connect_timeout_ms: 10_000,
            request_timeout_ms: 10_000,
            publish_give_up_ms: 90_000,
            in_flight_max: 16,
            waiting_max: 1024,
        }
    }
}

/// Names a call until it is answered. Chosen by the caller; it must not be in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(pub u64);

/// Names a request until its answer has come or it is aborted. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExchangeId(pub u64);

/// The address of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HttpKind {
    /// Opens an event stream.
    Sse,
    /// Opens a stream of lines.
    Stream,
    /// Takes messages.
    Poll,
    /// Brings commands.
    Send,
}

impl HttpKind {
    /// The path, below that of the server.
    pub fn path(self) -> &'static str {
        match self {
            HttpKind::Sse => "/v1/sse",
            HttpKind::Stream => "/v1/stream",
            HttpKind::Poll => "/v1/poll",
            HttpKind::Send => "/v1/send",
        }
    }

    /// The media type of a good answer.
    pub fn media_type(self) -> &'static str {
        match self {
            HttpKind::Sse => "text/event-stream",
            HttpKind::Stream => "application/x-ndjson",
            HttpKind::Poll | HttpKind::Send => "application/json",
        }
    }

    /// The form of an answer that goes on; `None` where it comes whole.
    pub fn stream(self) -> Option<StreamForm> {
        match self {
            HttpKind::Sse => Some(StreamForm::Blocks),
            HttpKind::Stream => Some(StreamForm::Lines),
            HttpKind::Poll | HttpKind::Send => None,
        }
    }
}

/// A request: `POST` with a body of JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// Its name.
    pub exchange: ExchangeId,
    /// Its address, and the kind of answer.
    pub kind: HttpKind,
    /// JSON.
    pub body: String,
}

/// The course of an exchange.
#[derive(Debug)]
pub enum HttpInput<'a> {
    /// The next whole message of a stream: its answer is a 200 with the [media type](HttpKind::media_type) of its kind,
    /// and goes on.
    Message(&'a str),
    /// The whole answer: to a poll or a send, or one to a stream that is no stream. The last input of the exchange.
    Answer(HttpAnswer<'a>),
    /// No answer came, or only a part of it, or the stream has ended. The server may have seen the request. The last
    /// input of the exchange.
    Lost,
    /// The answer cannot be read, because it is not HTTP: the reason. The last input of the exchange.
    Foreign(&'a str),
    /// The server cannot have seen the request: there was no connection. The last input of the exchange.
    Unreachable,
}

/// A whole answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpAnswer<'a> {
    /// Its status.
    pub status: u16,
    /// The header `Retry-After`.
    pub retry_after_ms: Option<u64>,
    /// Its text.
    pub body: &'a str,
}

/// One input.
#[derive(Debug)]
pub enum Input<'a> {
    /// Begin, or begin again after an end.
    Start,
    /// There is a connection to the server, or to a proxy before it: if the transport is not had over it, another one
    /// may be. May be left out where that does not matter.
    Reached,
    /// Something has happened to a request that was asked for by [`Output::Http`].
    Http(ExchangeId, HttpInput<'a>),
    /// The WebSocket that was asked for is there.
    Opened,
    /// It could not be had, for a reason that no retry will change.
    NoTransport(Box<str>),
    /// It could not be had, or is gone. With the close code, where there was one.
    Closed(Option<u16>),
    /// It could not be had, and the answer asks for no further attempt for this long.
    Unavailable {
        /// As it was asked for.
        retry_after_ms: u64,
    },
    /// One whole text message of the server.
    Text(&'a str),
    /// The answer to [`Output::Token`]; `None` where there is none to be had now.
    Token(Option<Box<str>>),
    /// The application asks for something. It is answered exactly once, by [`Output::Answer`].
    Call(CallId, Call),
    /// The receiver of this subscription's events cannot keep up; `before` is of the first event that found no room
    /// ([`Output::Channel`]). The subscription ends on the server and is kept here.
    Pause {
        /// The channel.
        channel: Arc<str>,
        /// From where to go on.
        before: Option<Position>,
    },
    /// There is room again: it goes on from where it was paused.
    Resume(Arc<str>),
    /// The instant of [`Core::wake_ms`](super::Core::wake_ms) has come.
    Wake,
    /// End for good, and the session on the server too. Requests that are on their way should get a moment longer.
    Stop,
}

/// The calls of an application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Follows a channel, through every reconnect, until it is unsubscribed or the server ends it.
    Subscribe(Box<Subscribe>),
    /// Stops following it; its events end at once.
    Unsubscribe(Arc<str>),
    /// Appends to a channel, retried until it is answered. Without a key it gets one.
    Publish(Box<Publish>),
    /// Sends a signal now, or not at all.
    Signal {
        /// The channel.
        channel: Arc<str>,
        /// Its kind.
        event: Box<str>,
        /// JSON.
        data: Bytes,
        /// Only this client.
        to: Option<Arc<str>>,
    },
    /// Enters a channel that is subscribed to, or changes the entry; renewed after every reconnect.
    PresenceSet {
        /// The channel.
        channel: Arc<str>,
        /// JSON.
        data: Bytes,
    },
    /// Leaves it.
    PresenceClear(Arc<str>),
    /// The members that are present.
    Presence(Arc<str>),
    /// Retained publications.
    History {
        /// The channel.
        channel: Arc<str>,
        /// From where.
        from: HistoryFrom,
        /// At most so many.
        limit: Option<u32>,
    },
    /// Calls a method of the application. Never repeated.
    Rpc {
        /// Its name.
        method: Box<str>,
        /// JSON.
        data: Bytes,
    },
    /// A new token, for this connection and later ones.
    Refresh(Box<str>),
}

/// The answer to a call that went well.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The subscription is live.
    Subscribed {
        /// The place after the retained publications.
        position: Position,
        /// With `since`: whether everything after it follows.
        recovered: Option<bool>,
    },
    /// It stands there.
    Published(Position),
    /// The clients that are present.
    Presence(Box<Presence>),
    /// Retained publications.
    History(Box<History>),
    /// The method's answer; `null` where it had none.
    Data(Bytes),
    /// Done.
    Done,
}

/// Why a call did not go well.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The server refused.
    #[error("{}: {}", .0.code, .0.message)]
    Refused(Box<ErrorReply>),
    /// There is no connection, and this call is not kept for the next one.
    #[error("there is no connection now")]
    Offline,
    /// No answer came in time.
    #[error("no answer within {after_ms} ms")]
    TimedOut {
        /// The limit.
        after_ms: u64,
    },
    /// It was sent, and whether it took effect cannot be known any more.
    #[error("it was sent and the answer was lost: it may have taken effect or not")]
    Unknown,
    /// The connection was lost while it waited to be sent: it took no effect.
    #[error("the connection was lost before it was sent: it took no effect")]
    NotSent,
    /// Too many calls wait already.
    #[error("{max} calls are waiting already, the limit (waiting_max)")]
    TooMany {
        /// The limit.
        max: usize,
    },
    /// The payload is no JSON.
    #[error("the payload is not JSON: {problem}")]
    NotJson {
        /// The fault, and its place.
        problem: Box<str>,
    },
    /// A channel is subscribed to once.
    #[error("{channel} is already subscribed to")]
    AlreadySubscribed {
        /// The channel.
        channel: Arc<str>,
    },
    /// This needs a subscription.
    #[error("{channel} is not subscribed to")]
    NotSubscribed {
        /// The channel.
        channel: Arc<str>,
    },
    /// The client has ended.
    #[error("the client has ended: {0}")]
    Ended(EndReason),
    /// The server answered with something else than was asked for.
    #[error("the server's answer is not of the kind that was asked for")]
    WrongAnswer,
}

/// Why a client does not come back by itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndReason {
    /// The application wanted it.
    #[error("stopped")]
    Stopped,
    /// The server said so.
    #[error("disconnected by the server: {reason} ({code})")]
    Disconnected {
        /// The close code.
        code: u16,
        /// Its word.
        reason: Box<str>,
    },
    /// The server refused `connect`.
    #[error("the server refused to connect: {}: {}", .0.code, .0.message)]
    Refused(Box<ErrorReply>),
    /// The transport refused.
    #[error("no connection is possible: {0}")]
    NoTransport(Box<str>),
}

/// Where the connection stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// A transport is being opened, or `connect` is not answered yet.
    Connecting,
    /// All is well.
    Online(Box<Connected>),
    /// The connection failed or was lost; the next attempt is at this time.
    Waiting {
        /// On the clock that [`Core::handle`](super::Core::handle) is given.
        until_ms: u64,
        /// Attempts that failed since the last good connection.
        failures: u32,
        /// The event.
        why: Setback,
    },
    /// It is over.
    Ended(EndReason),
}

/// Why a connection failed or was left, and another one is tried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Setback {
    /// It could not be opened, or was cut off without a close: the owner of the transport may know more.
    #[error("the connection was lost")]
    Transport,
    /// It was closed, with this code.
    #[error("the connection was closed with code {0}")]
    Closed(u16),
    /// The server said so.
    #[error("disconnected by the server: {reason} ({code})")]
    Disconnected {
        /// The close code.
        code: u16,
        /// Its word.
        reason: Box<str>,
    },
    /// The server refused `connect`, for now.
    #[error("the server refused to connect: {}: {}", .0.code, .0.message)]
    Refused(Box<ErrorReply>),
    /// `connect`, or a command whose outcome decides the state of the client, was not answered.
    #[error("the server did not answer within {after_ms} ms")]
    NoAnswer {
        /// The limit.
        after_ms: u64,
    },
    /// Not even a heartbeat came.
    #[error("the server sent nothing for {silence_ms} ms")]
    Silence {
        /// The limit.
        silence_ms: u64,
    },
    /// The server said something that cannot be understood.
    #[error("the server sent an invalid message")]
    Nonsense,
    /// The channel was left and followed again, and has a new epoch since, or more to recover than fits into one page:
    /// messages of the earlier subscription that are still on their way, by polls or a stream, cannot be told from
    /// newer ones.
    #[error("messages about {channel} that are on their way may be of an earlier subscription")]
    Ambiguous {
        /// The channel.
        channel: Arc<str>,
    },
    /// The application had no token to show.
    #[error("no token was available")]
    NoToken,
}

/// An event of a channel that is subscribed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It is live (again).
    Live {
        /// The place up to which all past publications have been or will be delivered.
        position: Position,
        /// Whether everything since the last place was kept; `None` the first time without `since`.
        recovered: Option<bool>,
    },
    /// A publication. Offsets rise.
    Message {
        /// It.
        publication: Box<Publication>,
        /// Its place: keep it, to go on from there in another life.
        position: Position,
    },
    /// A signal.
    Signal(Box<Signal>),
    /// The whole presence: it replaces the known one.
    Presence(Box<Presence>),
    /// Somebody entered, left or changed.
    PresenceChange(Box<PresenceChange>),
    /// The number of members, where only that is sent.
    PresenceCount {
        /// How many.
        count: u64,
    },
    /// Publications may have been missed: the application must load its copy of the channel again.
    Gap {
        /// Where it goes on: every publication that follows is above it, also those of the `recent` page that comes
        /// first where a subscription could not be recovered.
        position: Position,
        /// True when the channel began a new epoch.
        reset: bool,
    },
    /// The server ended the subscription; nothing more comes.
    Ended {
        /// An error's word.
        code: Box<str>,
        /// Why, for people.
        message: Box<str>,
    },
}

/// The work of the caller, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Open a WebSocket, then give [`Input::Opened`], [`Input::NoTransport`], [`Input::Unavailable`] or
    /// [`Input::Closed`].
    Connect,
    /// Get a new token, then give [`Input::Token`].
    Token,
    /// Write one text message to the WebSocket.
    Send(String),
    /// Close the WebSocket with this code, or give up opening it, and say nothing more of it.
    Close(u16),
    /// Send a request, then give [`Input::Http`] with its exchange. Several are on their way at once.
    Http(HttpRequest),
    /// Give this exchange up, and say nothing more of it.
    Abort(ExchangeId),
    /// The answer to a call.
    Answer(CallId, Result<Answer, CallError>),
    /// Something happened in a channel: one that was subscribed to, or one that the server subscribed us to by
    /// itself, which begins with [`Event::Live`]. [`Call::Unsubscribe`] ends either.
    Channel {
        /// Which.
        channel: Arc<str>,
        /// What.
        event: Event,
        /// The place of the subscription before it, for [`Input::Pause`].
        before: Option<Position>,
    },
    /// The connection's state has changed.
    State(State),
    /// The server found an error in something that wanted no answer.
    Error(Box<ErrorReply>),
}
