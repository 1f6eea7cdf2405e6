//! The HTTP API from the caller's side: one kept-alive connection, one command after another, each repeated until it is
//! answered.
//!
//! Every command may be repeated: those that ask change nothing, a publication has its key, and a client that is sent
//! away is gone already. A server that was never met is not waited for: its address is probably wrong.

use super::base::Base;
use super::{Key, Server};
use crate::failure::Failure;
use crate::stderr::tell;
use bytes::Bytes;
use fanfare_client::{Endpoint, Problem};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, LOCATION, RETRY_AFTER, USER_AGENT};
use http::response::Parts;
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;
use tokio::time::{Instant, timeout};

const CONNECTING: Duration = Duration::from_secs(10);
/// For the whole answer.
const ANSWERING: Duration = Duration::from_secs(30);
/// A page of 1,000 channels with long names has less.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// With the last attempt this stays below the 2 min for which the server knows a key: no publication can stand twice.
const GIVE_UP: Duration = Duration::from_secs(60);
const WAIT_MIN: Duration = Duration::from_millis(200);
const WAIT_MAX: Duration = Duration::from_secs(5);

pub(super) struct Api {
    base: Base,
    endpoint: Endpoint,
    authorization: HeaderValue,
    connection: Option<SendRequest<Full<Bytes>>>,
    /// It has answered before.
    met: bool,
}

/// Why an attempt has no good answer.
#[derive(Debug)]
enum Trouble {
    /// No connection.
    Absent(Problem),
    /// A connection that was idle is over: that says nothing of the server.
    Stale,
    /// It may have taken effect.
    Lost(String),
    /// The server says no, or not now.
    Refused { status: StatusCode, error: Option<ErrorBody>, wait: Option<Duration> },
    /// It is elsewhere. No redirect is followed: the key is only for the server that it was given for.
    Elsewhere { status: StatusCode, location: String },
    /// The server is not a Fanfare.
    Foreign(String),
}

/// The body of a refusal.
#[derive(Debug, Deserialize)]
struct ErrorBody {
    code: String,
    message: String,
    #[serde(default)]
    retryable: bool,
    retry_after: Option<u64>,
}

impl Api {
    pub(super) fn new(server: Server, key: Key) -> Result<Self, Failure> {
        let key = key.api_key.filter(|key| !key.is_empty()).ok_or_else(|| {
            Failure::users("this needs a key of the server's HTTP API".to_owned())
                .hint("give --api-key KEY or set FANFARE_API_KEY; `fanfare dev` prints one at its start")
        })?;
        let mut authorization = HeaderValue::try_from(format!("Bearer {key}")).map_err(|_| {
            Failure::users("the API key holds a control character or a line end, which no key can have".to_owned())
                .hint("check for text that was copied with it")
        })?;
        authorization.set_sensitive(true);
        let endpoint = server.endpoint()?;
        Ok(Api { base: server.url, endpoint, authorization, connection: None, met: false })
    }

    /// Sends a command and gives its answer: JSON, in one line, an object with this field.
    pub(super) async fn call(
        &mut self,
        command: &str,
        body: impl Into<Bytes>,
        field: &'static str,
    ) -> Result<String, Failure> {
        let body = body.into();
        let start = Instant::now();
        let mut wait = WAIT_MIN;
        loop {
            let trouble = match self.attempt(command, body.clone(), field).await {
                Ok(answer) => {
                    self.met = true;
                    return Ok(answer);
                }
                Err(Trouble::Stale) => continue, // on a new connection, which cannot be stale
                Err(trouble) => trouble,
            };
            let pause = trouble.retry_after().unwrap_or_else(|| jittered(wait));
            if !trouble.passes(self.met) || start.elapsed() + pause > GIVE_UP {
                return Err(trouble.into_failure(&self.base));
            }
            self.met = true; // somebody is there: worth some patience
            tell(format_args!("{}: {trouble}; trying again in {:.1} s", self.base, pause.as_secs_f64()));
            tokio::time::sleep(pause).await;
            wait = (wait * 2).min(WAIT_MAX);
        }
    }

    /// Gets what the server says of itself at a target beside its metrics: JSON in one line, an object with this field.
    pub(super) async fn look(&mut self, target: &str, field: &'static str) -> Result<String, Failure> {
        let request = self.get(target);
        let answer = match request {
            Ok(request) => self.exchange(request, field).await,
            Err(trouble) => Err(trouble),
        };
        answer.map_err(|trouble| self.not_seen(trouble))
    }

    /// Gets the body of a target there, which has no end.
    pub(super) async fn watch(&mut self, target: &str) -> Result<Incoming, Failure> {
        let opened = async {
            let request = self.get(target)?;
            let mut connection = self.connect().await?;
            let sent = timeout(ANSWERING, connection.send_request(request)).await;
            let late = |_| Trouble::Lost(format!("no answer within {} s", ANSWERING.as_secs()));
            let (head, body) = sent.map_err(late)?.map_err(|error| Trouble::Lost(error.to_string()))?.into_parts();
            if head.status == StatusCode::OK {
                self.connection = Some(connection); // it lives as long as the body
                return Ok(body);
            }
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| Trouble::Lost(error.to_string()))?.to_bytes();
            Err(Trouble::of(&head, &body))
        };
        match opened.await {
            Ok(body) => Ok(body),
            Err(trouble) => Err(self.not_seen(trouble)),
        }
    }

    fn get(&self, target: &str) -> Result<Request<Full<Bytes>>, Trouble> {
        let request = Request::get(format!("{}{target}", self.base.path())).header(ACCEPT, "application/json");
        self.signed(request, Bytes::new())
    }

    fn signed(&self, request: http::request::Builder, body: Bytes) -> Result<Request<Full<Bytes>>, Trouble> {
        let request = request
            .header(HOST, self.base.authority())
            .header(AUTHORIZATION, self.authorization.clone())
            .header(USER_AGENT, concat!("fanfare/", env!("CARGO_PKG_VERSION")));
        request.body(Full::new(body)).map_err(|error| Trouble::Foreign(error.to_string()))
    }

    fn not_seen(&self, trouble: Trouble) -> Failure {
        const HINT: &str = "say with --url URL where the server's metrics are: `fanfare serve` has them at \
                            http://127.0.0.1:8081 (admin.listen), `fanfare dev` at its own address";
        match &trouble {
            Trouble::Refused { status: StatusCode::NOT_FOUND, error, .. }
                if error.as_ref().is_none_or(|error| error.code != "unknown_command") =>
            {
                Failure::users(format!("{} does not show its state: {trouble}", self.base)).hint(HINT)
            }
            Trouble::Absent(_) => trouble.into_failure(&self.base).hint(HINT),
            _ => trouble.into_failure(&self.base),
        }
    }

    async fn attempt(&mut self, command: &str, body: Bytes, field: &'static str) -> Result<String, Trouble> {
        let request = Request::post(self.base.api(command)).header(CONTENT_TYPE, "application/json");
        let request = self.signed(request, body)?;
        self.exchange(request, field).await
    }

    /// Sends a request, on the kept connection if there is one.
    async fn exchange(&mut self, request: Request<Full<Bytes>>, field: &'static str) -> Result<String, Trouble> {
        let (mut connection, reused) = match self.connection.take() {
            Some(connection) => (connection, true),
            None => (self.connect().await?, false),
        };
        let lost = |error: hyper::Error| {
            if reused && (error.is_closed() || error.is_canceled() || error.is_incomplete_message()) {
                Trouble::Stale
            } else if error.is_parse() {
                Trouble::Foreign(error.to_string())
            } else {
                Trouble::Lost(error.to_string())
            }
        };
        let exchange = async {
            connection.ready().await.map_err(lost)?;
            let response = connection.send_request(request).await.map_err(lost)?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| Trouble::Lost(error.to_string()))?.to_bytes();
            Ok((head, body))
        };
        let late = |_| Trouble::Lost(format!("no answer within {} s", ANSWERING.as_secs()));
        let (head, body) = timeout(ANSWERING, exchange).await.map_err(late)??;
        self.connection = Some(connection);
        if head.status == StatusCode::OK {
            let foreign = |_| Trouble::Foreign("its answer is not JSON".to_owned());
            let answer: &RawValue = serde_json::from_slice(&body).map_err(foreign)?;
            let fields = serde_json::from_str::<BTreeMap<String, &RawValue>>(answer.get());
            if !fields.is_ok_and(|fields| fields.contains_key(field)) {
                return Err(Trouble::Foreign(format!("its answer has no {field:?}")));
            }
            // Raw ends of lines can only stand between JSON's words.
            return Ok(answer.get().replace(['\n', '\r'], " "));
        }
        Err(Trouble::of(&head, &body))
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Trouble> {
        let opening = timeout(CONNECTING, self.endpoint.open()).await;
        let late = Problem::TimedOut { after_ms: CONNECTING.as_millis() as u64 };
        let stream = opening.unwrap_or(Err(late)).map_err(Trouble::Absent)?;
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|error| Trouble::Lost(error.to_string()))?;
        // Its errors are those of the requests on it.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }
}

impl Trouble {
    /// An answer that is no 200.
    fn of(head: &Parts, body: &[u8]) -> Self {
        if let Some(location) = head.headers.get(LOCATION).filter(|_| head.status.is_redirection()) {
            let location = String::from_utf8_lossy(location.as_bytes()).into_owned();
            return Trouble::Elsewhere { status: head.status, location };
        }
        let error: Option<ErrorBody> = serde_json::from_slice(body).ok();
        let seconds = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let wait = match error.as_ref().and_then(|error| error.retry_after) {
            Some(ms) => Some(Duration::from_millis(ms)),
            None => seconds.map(Duration::from_secs),
        };
        Trouble::Refused { status: head.status, error, wait }
    }

    /// Whether the same may go well soon.
    fn passes(&self, met: bool) -> bool {
        match self {
            Trouble::Absent(_) => met,
            Trouble::Stale | Trouble::Lost(_) => true,
            Trouble::Refused { error: Some(error), .. } => error.retryable,
            // A proxy before a server that is just starting.
            Trouble::Refused { status, error: None, .. } => matches!(status.as_u16(), 408 | 429 | 502..=504),
            Trouble::Foreign(_) | Trouble::Elsewhere { .. } => false,
        }
    }

    /// How long the server wants to be left alone.
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Trouble::Refused { wait, .. } => *wait,
            _ => None,
        }
    }

    fn into_failure(self, base: &Base) -> Failure {
        match self {
            Trouble::Absent(problem) => super::unreached(base, &problem),
            // Somebody answers there, and it was waited for.
            Trouble::Refused { status, error: None, .. } if status.is_server_error() => {
                Failure::ours(format!("{base} exists but does not serve: {self}"))
            }
            Trouble::Elsewhere { .. } => Failure::users(format!("{base} redirects to another address: {self}"))
                .hint("give that address by --url URL (or FANFARE_URL), up to where /api/v1 begins"),
            Trouble::Foreign(_) | Trouble::Refused { error: None, .. } => {
                Failure::users(format!("the server at {base} is not Fanfare's HTTP API: {self}"))
                    .hint("say with --url URL (or FANFARE_URL) where it is; a server without API keys has no API")
            }
            Trouble::Refused { status, error: Some(ref error), .. } => {
                let failure = if status.is_server_error() {
                    Failure::ours(self.to_string())
                } else {
                    Failure::users(self.to_string())
                };
                match (status, error.code.as_str()) {
                    (StatusCode::UNAUTHORIZED, _) => failure.hint(
                        "give the right one by --api-key KEY or FANFARE_API_KEY; `fanfare dev` prints one at its start",
                    ),
                    (StatusCode::CONFLICT, "key_conflict") => failure
                        .hint("choose another --idempotency-key, or leave it out: then each publication has a new one"),
                    (StatusCode::FORBIDDEN, _) => failure.hint("use a key that is for this command and channel"),
                    _ => failure,
                }
            }
            Trouble::Stale | Trouble::Lost(_) => Failure::ours(format!("{self}: it may have taken effect or not")),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Absent(problem) => write!(f, "no connection: {problem}"),
            Trouble::Stale => write!(f, "the connection was lost"),
            Trouble::Lost(problem) => write!(f, "the connection was lost: {problem}"),
            Trouble::Refused { error: Some(error), .. } => {
                write!(f, "the server refused: {} ({})", error.message, error.code)
            }
            Trouble::Refused { status, error: None, .. } => write!(f, "the answer is {status}"),
            Trouble::Elsewhere { status, location } => {
                write!(f, "the answer is {status}, to {location:?}; redirects are not followed")
            }
            Trouble::Foreign(problem) => f.write_str(problem),
        }
    }
}

/// Between half of it and all of it, so that many that failed together do not come back together.
fn jittered(wait: Duration) -> Duration {
    let share = getrandom::u32().unwrap_or(u32::MAX); // without randomness: all of it
    wait / 2 + (wait / 2).mul_f64(f64::from(share) / f64::from(u32::MAX))
}
