//! One hook: its address, its bounds, and what becomes of one question.
//!
//! In: the body of a question. Out: the body of a 200 within the time, or a [`Failure`]. At most `concurrency` requests
//! are under way and `queue_max` wait; each kind of hook has a line of its own, so a slow one delays no other. A
//! connection is kept for the next request. If a kept one turns out to be closed before any of the answer came, the
//! same request (with the same `webhook-id`) is sent once more on a new one.

use super::breaker::{Breaker, Change, Pass};
use super::sign::signature;
use crate::config::hooks::{HookSecret, HooksConfig};
use crate::config::url::HttpUrl;
use crate::outgoing::{Answer, Connection, OutgoingError, USER_AGENT, tls_of_system};
use crate::watch::hooks::{Outcome, QuestionCounts};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Full;
use rustls::ClientConfig;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::Semaphore;

/// Idle connections that are kept.
const KEPT_MAX: usize = 64;
/// How long: usual servers close an idle connection after 5 s.
const KEPT_FOR: Duration = Duration::from_secs(4);
/// A refusal for want of room says to come back after so long.
const BUSY_RETRY: Duration = Duration::from_millis(500);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{waiting} questions wait for this hook, the limit (hooks.queue_max) is {max}")]
    Busy { waiting: usize, max: usize },
    #[error("requests to this hook fail and are stopped for now")]
    Open { retry_after: Duration },
    #[error("no answer within {} ms (hooks.timeout)", .0.as_millis())]
    Timeout(Duration),
    #[error("{0}")]
    Unreachable(OutgoingError),
    #[error("the answer is longer than {max} bytes (hooks.answer_bytes_max)")]
    TooLong { max: usize },
    #[error("the status is {0}, and 200 is expected")]
    Status(StatusCode),
}

impl Failure {
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Failure::Timeout(_) => Outcome::Timeout,
            Failure::Unreachable(_) => Outcome::Unreachable,
            Failure::Status(_) => Outcome::Status,
            Failure::TooLong { .. } => Outcome::Invalid,
            Failure::Busy { .. } => Outcome::Busy,
            Failure::Open { .. } => Outcome::Open,
        }
    }

    /// When the same may succeed, where that is known.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Failure::Busy { .. } => Some(BUSY_RETRY),
            Failure::Open { retry_after } => Some(*retry_after),
            _ => None,
        }
    }

    /// Whether the application as a whole seems to be gone. An answer that only one client's data may have caused (a
    /// 500, a text that is no JSON) does not count: that client could stop the hook for all.
    fn is_of_the_application(&self) -> bool {
        match self {
            Failure::Timeout(_) | Failure::Unreachable(_) => true,
            Failure::Status(status) => matches!(status.as_u16(), 429 | 502 | 503 | 504),
            Failure::Busy { .. } | Failure::Open { .. } | Failure::TooLong { .. } => false,
        }
    }
}

/// What all lines share.
#[derive(Debug)]
pub(super) struct Sender {
    secrets: Mutex<Arc<[HookSecret]>>,
    /// Of this process, for ids.
    pub(super) node: u64,
    pub(super) next: AtomicU64,
    tls: OnceLock<Arc<ClientConfig>>,
}

impl Sender {
    pub(super) fn new(secrets: Vec<HookSecret>, node: u64) -> Self {
        Sender { secrets: Mutex::new(secrets.into()), node, next: AtomicU64::new(0), tls: OnceLock::new() }
    }

    /// Later requests are signed with these.
    pub(super) fn sign_with(&self, secrets: &[HookSecret]) {
        *locked(&self.secrets) = secrets.into();
    }

    /// An id that no other request has.
    pub(super) fn id(&self) -> String {
        format!("msg_{:016x}_{:x}", self.node, self.next.fetch_add(1, Relaxed))
    }

    /// The authorities of the system are read once, before the first request that needs them.
    fn tls(&self, url: &HttpUrl) -> Result<Option<Arc<ClientConfig>>, OutgoingError> {
        if !url.is_https {
            return Ok(None);
        }
        if let Some(tls) = self.tls.get() {
            return Ok(Some(tls.clone()));
        }
        let tls = tls_of_system()?;
        Ok(Some(self.tls.get_or_init(|| tls).clone()))
    }

    fn request(&self, url: &HttpUrl, id: &str, body: &Bytes) -> Request<Full<Bytes>> {
        let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut request = Request::post(&url.target)
            .header(header::HOST, url.authority())
            .header(header::USER_AGENT, USER_AGENT)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json")
            .header(header::ACCEPT_ENCODING, "identity")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp);
        let secrets = locked(&self.secrets).clone();
        if let Some(signature) = signature(&secrets, id, timestamp, body) {
            request = request.header("webhook-signature", signature);
        }
        request.body(Full::new(body.clone())).expect("the parts of a parsed address are a request's")
    }
}

/// Nothing panics between two changes of what these hold.
fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection that waits for its next request.
#[derive(Debug)]
struct Kept {
    connection: Connection,
    since: Instant,
}

/// The connections to one address. Another one may come in its place.
#[derive(Debug)]
pub(super) struct Connections {
    url: Mutex<Arc<HttpUrl>>,
    sender: Arc<Sender>,
    kept: Mutex<Vec<Kept>>,
}

impl Connections {
    pub(super) fn new(url: HttpUrl, sender: Arc<Sender>) -> Self {
        Connections { url: Mutex::new(Arc::new(url)), sender, kept: Mutex::default() }
    }

    fn url(&self) -> Arc<HttpUrl> {
        locked(&self.url).clone()
    }

    /// Later requests go to this address. True where it is another one.
    pub(super) fn go_to(&self, url: &HttpUrl) -> bool {
        let mut current = locked(&self.url);
        if **current == *url {
            return false;
        }
        *current = Arc::new(url.clone());
        // With the address held: a request that ends now finds that its connection leads elsewhere.
        self.kept().clear();
        true
    }

    /// The address for a log: its query may hold a secret.
    pub(super) fn shown(&self) -> String {
        self.url().to_string().split('?').next().unwrap_or_default().to_owned()
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Kept>> {
        locked(&self.kept)
    }

    /// The one that was used last and is still open.
    fn take(&self) -> Option<Connection> {
        let (now, mut kept) = (Instant::now(), self.kept());
        kept.retain(|kept| now.saturating_duration_since(kept.since) < KEPT_FOR && !kept.connection.is_closed());
        kept.pop().map(|kept| kept.connection)
    }

    /// A connection to this address is free.
    fn keep(&self, url: &Arc<HttpUrl>, connection: Connection) {
        let current = locked(&self.url);
        let mut kept = self.kept();
        if Arc::ptr_eq(&current, url) && kept.len() < KEPT_MAX && !connection.is_closed() {
            kept.push(Kept { connection, since: Instant::now() });
        }
    }

    /// Sends a request and reads its answer.
    pub(super) async fn post(&self, id: &str, body: &Bytes, bytes_max: usize) -> Result<Answer, OutgoingError> {
        let (url, kept) = self.begin();
        if let Some(mut connection) = kept {
            match connection.ask(self.sender.request(&url, id, body), bytes_max).await {
                Err(OutgoingError::Http { source, .. })
                    if source.is_closed() || source.is_canceled() || source.is_incomplete_message() => {}
                other => return self.done(&url, connection, other),
            }
        }
        let tls = self.sender.tls(&url)?;
        let mut connection = Connection::open(&url, tls, |_| true).await?;
        let answer = connection.ask(self.sender.request(&url, id, body), bytes_max).await;
        self.done(&url, connection, answer)
    }

    /// The address, and a connection to it that is free.
    fn begin(&self) -> (Arc<HttpUrl>, Option<Connection>) {
        let current = locked(&self.url);
        (current.clone(), self.take())
    }

    fn done(
        &self,
        url: &Arc<HttpUrl>,
        connection: Connection,
        answer: Result<Answer, OutgoingError>,
    ) -> Result<Answer, OutgoingError> {
        if answer.as_ref().is_ok_and(|answer| answer.is_reusable) {
            self.keep(url, connection);
        }
        answer
    }
}

/// One kind of question.
#[derive(Debug)]
pub(crate) struct Line {
    connections: Connections,
    /// With those that are under way.
    inside: AtomicUsize,
    bounds: Mutex<LineBounds>,
    breaker: Mutex<Breaker>,
    pub(super) counts: Arc<QuestionCounts>,
}

/// What other settings may replace.
#[derive(Debug, Clone)]
struct LineBounds {
    timeout: Duration,
    answer_bytes_max: usize,
    /// A place for each request that may be under way.
    gate: Arc<Semaphore>,
    concurrency: usize,
    queue_max: usize,
}

impl LineBounds {
    fn of(config: &HooksConfig) -> Self {
        let HooksConfig { timeout, answer_bytes_max, concurrency, queue_max, .. } = *config;
        LineBounds { timeout, answer_bytes_max, gate: Arc::new(Semaphore::new(concurrency)), concurrency, queue_max }
    }

    /// Where the number of places changes, requests under way keep their old ones besides, and so do those that wait
    /// for one.
    fn reload(&mut self, config: &HooksConfig) {
        let new = LineBounds::of(config);
        let gate = if new.concurrency == self.concurrency { self.gate.clone() } else { new.gate.clone() };
        *self = LineBounds { gate, ..new };
    }
}

/// Counts a question as long as it is inside, also where its task is dropped.
struct Inside<'l>(&'l AtomicUsize);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Line {
    pub(super) fn new(kind: &'static str, url: HttpUrl, config: &HooksConfig, sender: Arc<Sender>) -> Self {
        Line {
            connections: Connections::new(url, sender),
            inside: AtomicUsize::new(0),
            bounds: Mutex::new(LineBounds::of(config)),
            breaker: Mutex::new(Breaker::new(config.breaker)),
            counts: Arc::new(QuestionCounts::new(kind)),
        }
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        locked(&self.breaker)
    }

    /// Later questions go to this address, within these bounds. Another application has not failed yet.
    pub(super) fn reload(&self, url: &HttpUrl, config: &HooksConfig) {
        locked(&self.bounds).reload(config);
        match self.connections.go_to(url) {
            true => *self.breaker() = Breaker::new(config.breaker),
            false => self.breaker().reload(config.breaker),
        }
    }

    /// Whether a request may be sent.
    fn may_ask(&self) -> Result<Pass, Failure> {
        let mut breaker = self.breaker();
        let pass = breaker.may_ask(Instant::now()).map_err(|retry_after| Failure::Open { retry_after });
        self.counts.breaker.store(breaker.state() as u8, Relaxed);
        pass
    }

    /// The address for a log.
    pub(super) fn shown(&self) -> String {
        self.connections.shown()
    }

    /// Asks, within the time.
    pub(super) async fn ask(&self, body: Bytes) -> Result<Bytes, Failure> {
        let inside = self.inside.fetch_add(1, Relaxed);
        let _inside = Inside(&self.inside);
        let LineBounds { timeout, answer_bytes_max, gate, concurrency, queue_max } = locked(&self.bounds).clone();
        if inside >= concurrency.saturating_add(queue_max) {
            return Err(Failure::Busy { waiting: queue_max, max: queue_max });
        }
        let pass = self.may_ask()?;
        let id = self.connections.sender.id();
        let asking = async {
            let _permit = gate.acquire().await;
            self.connections.post(&id, &body, answer_bytes_max).await
        };
        let result = match tokio::time::timeout(timeout, asking).await {
            Ok(Ok(answer)) if answer.status == StatusCode::OK => Ok(answer.body),
            Ok(Ok(answer)) => Err(Failure::Status(answer.status)),
            Ok(Err(OutgoingError::TooLong { max })) => Err(Failure::TooLong { max }),
            Ok(Err(error)) => Err(Failure::Unreachable(error)),
            Err(_) => Err(Failure::Timeout(timeout)),
        };
        self.settle(pass, result.as_ref().err());
        result
    }

    fn settle(&self, pass: Pass, failure: Option<&Failure>) {
        let is_failure = failure.is_some_and(Failure::is_of_the_application);
        let change = {
            let mut breaker = self.breaker();
            let change = breaker.ended(Instant::now(), pass, is_failure);
            self.counts.breaker.store(breaker.state() as u8, Relaxed);
            change
        };
        let (hook, url) = (self.counts.hook, self.shown());
        match change {
            Some(Change::Opened { failures }) => {
                let why = failure.map(ToString::to_string);
                tracing::warn!(
                    hook,
                    url,
                    failures,
                    why,
                    "a hook fails: its questions are refused until it answers again"
                );
            }
            Some(Change::Closed) => tracing::info!(hook, url, "a hook answers again"),
            None => {}
        }
    }
}
