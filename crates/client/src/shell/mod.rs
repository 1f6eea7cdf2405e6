//! The client over tokio: handles that call, a task that owns the connection.

mod driver;
mod http;
mod net;
mod subscription;
#[cfg(feature = "tls")]
mod tls;
mod transport;
mod url;

pub use net::{Endpoint, Problem, Stream};
pub use subscription::{Incoming, QUEUE_MAX, Subscription};
#[cfg(feature = "tls")]
pub use tls::{CertificateFault, Trust, TrustError};
pub use url::{NATIVE_PATH, Url, UrlError};

use crate::core::{Answer, Call, CallError, Config, Core, EndReason, Setback, State, Transport};
use crate::{Data, History, HistoryFrom, Position, Presence, Publish, Subscribe};
use bytes::Bytes;
use driver::{CommandQueue, Driver};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

/// A handle to one connection. Clones share it; it ends when the last handle and the last [`Subscription`] are gone.
///
/// Calls made while there is no connection wait for one, up to their time limits; signals do not wait.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use fanfare_client::{Client, core::Event};
///
/// let client = Client::connect("ws://localhost:8080").await?;
/// let mut chat = client.subscribe("chat:general").await?;
/// client.publish("chat:general", "hello").await?;
/// while let Some(event) = chat.next().await {
///     if let Event::Message { publication, .. } = event {
///         println!("{}", String::from_utf8_lossy(publication.data.bytes()));
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Client {
    commands: mpsc::UnboundedSender<Command>,
    status: watch::Receiver<Status>,
}

/// The messages of the handles to the task. The queue is unbounded: each caller waits for its answer or is a
/// subscription, and longer waits are bounded by [`Config::waiting_max`].
#[derive(Debug)]
enum Command {
    Call {
        call: Call,
        reply: oneshot::Sender<Result<Answer, CallError>>,
    },
    Subscribe {
        options: Box<Subscribe>,
        reply: oneshot::Sender<Result<Subscription, CallError>>,
    },
    Unsubscribe {
        channel: Arc<str>,
        feed: u64,
    },
    Resume {
        channel: Arc<str>,
        feed: u64,
    },
    Incoming(mpsc::UnboundedSender<Subscription>),
    Start,
    /// The sender is dropped when the last words are said.
    Stop(mpsc::Sender<()>),
}

/// How the connection is.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// Where it stands.
    pub state: State,
    /// The transport of the connection, or the one that is tried.
    pub transport: Transport,
    /// The last problem, until the client is online again: a failed connection, or an error of the server that no call
    /// waited for.
    pub problem: Option<Problem>,
    /// While it waits: when the next attempt begins.
    pub retry_at: Option<Instant>,
}

/// Why there is no client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The URL is not one.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// There is nobody to trust for a server with TLS.
    #[cfg(feature = "tls")]
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The first attempt failed.
    #[error("cannot connect: {problem}")]
    Failed {
        /// The failure.
        problem: Problem,
    },
    /// There was a connection, and it came to nothing.
    #[error("cannot connect: {why}")]
    Lost {
        /// The failure.
        why: Setback,
    },
    /// It was refused.
    #[error(transparent)]
    Ended(EndReason),
    /// The operating system has no random numbers.
    #[error("no random numbers: {problem}")]
    Randomness {
        /// Its message.
        problem: Box<str>,
    },
}

/// Why a call with a typed payload went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RpcError {
    /// The call itself.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The value cannot be written as JSON, or the received JSON is not of the type.
    #[error("the payload does not fit its type: {0}")]
    Payload(#[from] serde_json::Error),
}

/// Settings of a client that is to be.
#[derive(Clone)]
pub struct Builder {
    url: String,
    config: Config,
    tokens: Option<Tokens>,
    #[cfg(feature = "tls")]
    trust: Option<Trust>,
}

/// Where new tokens come from.
type Tokens = Arc<dyn Fn() -> Fetching + Send + Sync>;
/// One of them on its way.
type Fetching = Pin<Box<dyn Future<Output = Option<Box<str>>> + Send>>;

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("url", &self.url).finish_non_exhaustive() // a token is not for logs
    }
}

impl Builder {
    /// The user, as the application names it.
    #[must_use]
    pub fn token(mut self, token: impl Into<Box<str>>) -> Self {
        self.config.token = Some(token.into());
        self
    }

    /// Where tokens come from: asked for one before the first connection, unless [`token`](Self::token) gave it, in
    /// time before it expires, and when it is refused. `None` is "not now": it is asked again after a while.
    ///
    /// ```no_run
    /// # async fn fetch_token() -> Option<String> { None }
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = fanfare_client::Client::builder("ws://localhost:8080")
    ///     .token_provider(|| async { fetch_token().await })
    ///     .connect()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn token_provider<F, T>(mut self, provider: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Option<T>> + Send + 'static,
        T: Into<Box<str>>,
    {
        self.config.token_provider = true;
        self.tokens = Some(Arc::new(move || {
            let token = provider();
            Box::pin(async move { token.await.map(Into::into) })
        }));
        self
    }

    /// The authorities to trust for a server with TLS. Default: the system's.
    ///
    /// ```no_run
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// use fanfare_client::{Client, Trust};
    ///
    /// let trust = Trust::only_file("/etc/fanfare/our-ca.pem")?;
    /// let client = Client::builder("https://fanfare.internal").trust(trust).connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn trust(mut self, trust: Trust) -> Self {
        self.trust = Some(trust);
        self
    }

    /// Only this transport.
    ///
    /// ```no_run
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// use fanfare_client::{Client, Transport};
    ///
    /// let client = Client::builder("https://fanfare.example").transport(Transport::Poll).connect().await?;
    /// println!("connected over {}", client.status().borrow().transport.name());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn transport(self, transport: Transport) -> Self {
        self.transports(&[transport])
    }

    /// The transports to use, in the order in which they are tried; see [`Config::transports`]. Default:
    /// [`Transport::AUTO`].
    #[must_use]
    pub fn transports(mut self, transports: &[Transport]) -> Self {
        self.config.transports = transports.to_vec();
        self
    }

    /// Times and limits.
    #[must_use]
    pub fn config(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Begins, and returns at once: attempts go on until one succeeds.
    ///
    /// # Errors
    /// [`ConnectError::Url`], [`ConnectError::Randomness`], and with TLS `ConnectError::Trust`.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(self) -> Result<Client, ConnectError> {
        let endpoint = self.endpoint()?;
        let random =
            || getrandom::u64().map_err(|error| ConnectError::Randomness { problem: error.to_string().into() });
        let connect_timeout_ms = self.config.connect_timeout_ms;
        let core = Core::new(self.config, random()?);
        let (commands, received) = mpsc::unbounded_channel();
        let transport = core.transport();
        let first = Status { state: State::Connecting, transport, problem: None, retry_at: None };
        let (sender, status) = watch::channel(first);
        let queue = CommandQueue { received, sender: commands.downgrade() };
        let driver = Driver::new(core, endpoint, connect_timeout_ms, random()?, self.tokens, queue, sender);
        tokio::spawn(driver.run());
        Ok(Client { commands, status })
    }

    fn endpoint(&self) -> Result<Endpoint, ConnectError> {
        let url = self.url.parse()?;
        #[cfg(feature = "tls")]
        if let Some(trust) = &self.trust {
            return Ok(Endpoint::trusting(url, trust.clone()));
        }
        Endpoint::new(url)
    }

    /// Begins, and waits for the first attempt.
    ///
    /// # Errors
    /// [`ConnectError`]; after it nothing goes on in the background.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn connect(self) -> Result<Client, ConnectError> {
        let client = self.start()?;
        let mut status = client.status.clone();
        loop {
            let Status { state, problem, .. } = status.borrow_and_update().clone();
            match state {
                State::Online(_) => return Ok(client),
                State::Ended(reason) => return Err(ConnectError::Ended(reason)),
                State::Waiting { why, .. } => {
                    return Err(match (why, problem) {
                        (Setback::Transport, Some(problem)) => ConnectError::Failed { problem },
                        (why, _) => ConnectError::Lost { why },
                    });
                }
                State::Connecting => {}
            }
            if status.changed().await.is_err() {
                return Err(ConnectError::Ended(EndReason::Stopped));
            }
        }
    }
}

impl Client {
    /// Settings for a server, by its address: `http[s]://host[:port][/prefix]`; or by that of its native protocol,
    /// `ws[s]://host[:port][/path]`, whose path is `/v1/ws` where there is none; or by its socket on this machine,
    /// `unix:PATH`. `https` and `wss` need the feature `tls`.
    pub fn builder(url: impl Into<String>) -> Builder {
        Builder {
            url: url.into(),
            config: Config { transports: Transport::AUTO.to_vec(), ..Config::default() },
            tokens: None,
            #[cfg(feature = "tls")]
            trust: None,
        }
    }

    /// A client without a token, once its first connection stands.
    ///
    /// # Errors
    /// See [`Builder::connect`].
    pub async fn connect(url: impl Into<String>) -> Result<Self, ConnectError> {
        Self::builder(url).connect().await
    }

    /// How the connection is now, and, by `changed()`, when it changes.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Follows a channel from now on.
    ///
    /// # Errors
    /// [`CallError`]; a refusal by the server is [`CallError::Refused`].
    pub async fn subscribe(&self, channel: &str) -> Result<Subscription, CallError> {
        self.subscribe_with(Subscribe::new(channel)).await
    }

    /// Follows a channel, from a place, with presence, and so on.
    ///
    /// # Errors
    /// See [`subscribe`](Self::subscribe).
    pub async fn subscribe_with(&self, options: Subscribe) -> Result<Subscription, CallError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Subscribe { options: Box::new(options), reply })?;
        answer.await.unwrap_or(Err(STOPPED))
    }

    /// The channels that the server subscribes us to by itself, earlier ones included; their earlier events are not
    /// repeated. A later call takes over from an earlier one. Dropping a [`Subscription`] unsubscribes. If no call
    /// takes them, they continue unheard.
    ///
    /// # Errors
    /// [`CallError::Ended`].
    pub fn incoming(&self) -> Result<Incoming, CallError> {
        let (sender, subscriptions) = mpsc::unbounded_channel();
        self.send(Command::Incoming(sender))?;
        Ok(Incoming { subscriptions })
    }

    /// Publishes `data` as JSON and returns its position. It is retried until the server confirms it, and stands at
    /// most once.
    ///
    /// # Errors
    /// [`RpcError::Payload`] where `data` has no JSON form; [`CallError::Unknown`] where it may stand or not.
    pub async fn publish<T: Serialize + ?Sized>(&self, channel: &str, data: &T) -> Result<Position, RpcError> {
        let data = Data::Json(json(data)?);
        let publish = Publish { channel: channel.into(), data, event: None, idempotency_key: None, echo: true };
        Ok(self.publish_with(publish).await?)
    }

    /// Publishes with an event's name, a key of your own, binary data, or without one's own copy.
    ///
    /// # Errors
    /// [`CallError`], see [`publish`](Self::publish).
    pub async fn publish_with(&self, publish: Publish) -> Result<Position, CallError> {
        match self.call(Call::Publish(Box::new(publish))).await? {
            Answer::Published(position) => Ok(position),
            _ => Err(CallError::WrongAnswer),
        }
    }

    /// Sends a signal to current subscribers; done once it is on its way.
    ///
    /// # Errors
    /// [`CallError::Offline`] where there is no connection now.
    pub async fn signal<T: Serialize + ?Sized>(&self, channel: &str, event: &str, data: &T) -> Result<(), RpcError> {
        let (channel, event, data) = (channel.into(), event.into(), json(data)?);
        self.done(Call::Signal { channel, event, data, to: None }).await
    }

    /// Sends a signal to one client; done once the server has taken it.
    ///
    /// # Errors
    /// [`CallError::Refused`] with `not_found` where that client is gone.
    pub async fn signal_to<T: Serialize + ?Sized>(
        &self,
        channel: &str,
        to: &str,
        event: &str,
        data: &T,
    ) -> Result<(), RpcError> {
        let (channel, event, data) = (channel.into(), event.into(), json(data)?);
        self.done(Call::Signal { channel, event, data, to: Some(to.into()) }).await
    }

    /// Enters the presence of a channel that is subscribed to, or changes the entry; it is renewed after every
    /// reconnect.
    ///
    /// # Errors
    /// [`CallError::NotSubscribed`], [`CallError::Refused`].
    pub async fn presence_set<T: Serialize + ?Sized>(&self, channel: &str, data: &T) -> Result<(), RpcError> {
        let (channel, data) = (channel.into(), json(data)?);
        self.done(Call::PresenceSet { channel, data }).await
    }

    /// Leaves the presence of a channel.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn presence_clear(&self, channel: &str) -> Result<(), RpcError> {
        self.done(Call::PresenceClear(channel.into())).await
    }

    /// The members that are present in a channel.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn presence(&self, channel: &str) -> Result<Presence, CallError> {
        match self.call(Call::Presence(channel.into())).await? {
            Answer::Presence(presence) => Ok(*presence),
            _ => Err(CallError::WrongAnswer),
        }
    }

    /// Retained publications of a channel, at most `limit` (the server's default is 100, its limit 1000). One that
    /// reads on from a place with [`HistoryFrom::Since`] looks at `gap` on every page: it says that publications after
    /// the place are not in the history any more.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn history(&self, channel: &str, from: HistoryFrom, limit: Option<u32>) -> Result<History, CallError> {
        match self.call(Call::History { channel: channel.into(), from, limit }).await? {
            Answer::History(history) => Ok(*history),
            _ => Err(CallError::WrongAnswer),
        }
    }

    /// Calls a method of the application. Never repeated: [`CallError::Unknown`] where the answer was lost,
    /// [`CallError::NotSent`] where the connection was lost before it went up.
    ///
    /// # Errors
    /// [`RpcError::Payload`] where the answer is not of type `R`.
    pub async fn rpc<T: Serialize + ?Sized, R: DeserializeOwned>(&self, method: &str, data: &T) -> Result<R, RpcError> {
        let data = match self.call(Call::Rpc { method: method.into(), data: json(data)? }).await? {
            Answer::Data(data) => data,
            Answer::Done => Bytes::from_static(b"null"),
            _ => return Err(CallError::WrongAnswer.into()),
        };
        Ok(serde_json::from_slice(&data)?)
    }

    /// Shows a new token, on this connection and on later ones. Also taken when the client has ended: then
    /// [`restart`](Self::restart).
    ///
    /// # Errors
    /// [`CallError::Refused`].
    pub async fn refresh(&self, token: &str) -> Result<(), RpcError> {
        self.done(Call::Refresh(token.into())).await
    }

    /// Begins anew after the client has ended; nothing while it has not.
    pub fn restart(&self) {
        drop(self.send(Command::Start));
    }

    /// Ends the client for all its handles, and its session on the server: others see it leave at once, on whatever
    /// transport. Calls that wait are answered. Returns when the server knows, or after a second.
    ///
    /// Where no request gets through, or the program ends without this, the session ends by itself, after its grace.
    pub async fn close(&self) {
        let mut status = self.status.clone();
        let (closing, mut closed) = mpsc::channel(1);
        if self.send(Command::Stop(closing)).is_ok() {
            // An error means that it is gone.
            drop(status.wait_for(|status| matches!(status.state, State::Ended(_))).await);
            let _ = closed.recv().await; // nobody sends: the last words are said when it ends
        }
    }

    fn send(&self, command: Command) -> Result<(), CallError> {
        self.commands.send(command).map_err(|_| STOPPED)
    }

    async fn call(&self, call: Call) -> Result<Answer, CallError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Call { call, reply })?;
        answer.await.unwrap_or(Err(STOPPED))
    }

    async fn done(&self, call: Call) -> Result<(), RpcError> {
        self.call(call).await?;
        Ok(())
    }
}

/// The task is gone.
const STOPPED: CallError = CallError::Ended(EndReason::Stopped);

fn json<T: Serialize + ?Sized>(value: &T) -> Result<Bytes, serde_json::Error> {
    serde_json::to_vec(value).map(Bytes::from)
}
