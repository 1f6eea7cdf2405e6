//! The application's side over HTTP: `POST /api/v1/<command>`, one command of [`Kind`] a request.
//!
//! In: a request, judged in this order, so that nobody gets work done who may not: path (404), method (405), key (401), what
//! the key is for (403), content type (415), length (413, before a byte of the body is taken), then the body (400), then
//! what the hub says. Out: one JSON object; of a refusal the native protocol's `{code, message, retryable, …}`, whose status
//! is the one in the table of errors. No CORS headers: this is for servers, a browser would have to show the key to everybody.
//!
//! A request that arrives at the server's own listeners asks the hub of the shard that it arrived on, in place. A router that
//! the embedder mounts elsewhere ([`Api::router`]) asks through a [`Handle`].

mod body;
mod keys;
mod openapi;
mod refusal;
mod table;

#[cfg(test)]
mod tests;

pub use keys::{ApiKey, ApiKeyError};

use crate::handle::Handle;
use crate::shard::Shared;
use axum::body::Body;
use bytes::Bytes;
use fanfare_hub::{AppAnswer, AppCommand, Error, ErrorCode};
use fanfare_wire::native::Limits;
use fanfare_wire::native::app::{Asked, Caller, Kind, decode, encode_answer, encode_results};
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use keys::Keys;
use refusal::Refusal;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::oneshot;

/// Every address of the API begins so.
const PREFIX: &str = "/api/";
/// Where the OpenAPI document is.
const DOCUMENT: &str = "/api/openapi.json";
const COMMANDS_PREFIX: &str = "/api/v1/";

/// Whom a command is asked of.
pub(crate) trait Ask {
    /// Begins; the answer comes later, or the sender is dropped where there is nobody left to answer.
    fn begin(&self, command: AppCommand) -> oneshot::Receiver<AppAnswer>;
}

impl Ask for Handle {
    fn begin(&self, command: AppCommand) -> oneshot::Receiver<AppAnswer> {
        Handle::begin(self, command)
    }
}

/// The shard on whose thread this runs. With a store in memory and the channel's home here the answer is there at once.
impl Ask for Shared {
    fn begin(&self, command: AppCommand) -> oneshot::Receiver<AppAnswer> {
        let (answer, answered) = oneshot::channel();
        self.borrow_mut().ask_now(command, answer);
        answered
    }
}

/// What answers requests: keys and limits. The same on every shard.
pub(crate) struct Endpoint {
    keys: Keys,
    limits: Limits,
    body_timeout: Duration,
    document: OnceLock<Bytes>,
}

impl Endpoint {
    pub(crate) fn new(keys: &[ApiKey], limits: Limits, body_timeout: Duration, salt: [u8; 32]) -> Self {
        Endpoint { keys: Keys::new(keys, salt), limits, body_timeout, document: OnceLock::new() }
    }

    /// Two of its keys that are the same text, by name.
    pub(crate) fn same_keys(&self) -> Option<(&str, &str)> {
        self.keys.same().map(|(a, b)| (&**a.name(), &**b.name()))
    }

    /// True for what it answers.
    pub(crate) fn is_at(&self, path: &str) -> bool {
        path.starts_with(PREFIX)
    }

    /// Answers a request. What is left of `body` has not been read.
    pub(crate) async fn answer<A, B>(&self, ask: &A, head: &Parts, body: &mut B) -> Response<Body>
    where
        A: Ask,
        B: http_body::Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        self.served(ask, head, body).await.unwrap_or_else(|refusal| {
            tracing::debug!(path = head.uri.path(), status = refusal.status(), error = %refusal.error(), "refused");
            refusal.into_response()
        })
    }

    async fn served<A, B>(&self, ask: &A, head: &Parts, body: &mut B) -> Result<Response<Body>, Refusal>
    where
        A: Ask,
        B: http_body::Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        let path = head.uri.path();
        if path == DOCUMENT {
            return self.document(&head.method);
        }
        let kind = path.strip_prefix(COMMANDS_PREFIX).and_then(Kind::find).ok_or_else(|| Refusal::no_command(path))?;
        if head.method != Method::POST {
            return Err(Refusal::method(&head.method, path, "POST"));
        }
        let key = self.key(&head.headers)?;
        key.may_ask(kind)?;
        body::check_type(&head.headers)?;
        let idempotency_key = body::idempotency_key(&head.headers)?;
        let read = body::read(body, kind, &self.limits, self.body_timeout).await?;
        body::check_form(&head.headers, &read)?;
        let caller = Caller { name: key.name(), key: idempotency_key };
        let mut out = Vec::new();
        match decode(kind, &read, &caller, &self.limits)? {
            Asked::One(command) => {
                key.may(&command)?;
                let answer = answered(ask.begin(command)).await;
                if let AppAnswer::Error(error) = answer {
                    return Err(error.into());
                }
                encode_answer(&mut out, &answer);
            }
            Asked::Many(commands) => {
                // All are asked before the first answer is waited for: they take effect in their order all the same, for
                // what goes to one home goes there in the order asked.
                let begin = |command: Result<AppCommand, Error>| {
                    let command = command.and_then(|command| key.may(&command).map(|()| command));
                    command.map(|command| ask.begin(command))
                };
                let begun: Vec<_> = commands.into_iter().map(begin).collect();
                let mut answers = Vec::with_capacity(begun.len());
                for asked in begun {
                    answers.push(match asked {
                        Ok(receiver) => answered(receiver).await,
                        Err(error) => AppAnswer::Error(error),
                    });
                }
                encode_results(&mut out, &answers);
            }
        }
        Ok(json(out))
    }

    /// What the API is, for programs. Whoever may reach the port may read it: it says no more than the documentation.
    fn document(&self, method: &Method) -> Result<Response<Body>, Refusal> {
        if method != Method::GET && method != Method::HEAD {
            return Err(Refusal::method(method, DOCUMENT, "GET, HEAD"));
        }
        let print = || Bytes::from(openapi::document().to_string());
        let mut response = Response::new(Body::from(self.document.get_or_init(print).clone()));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    }

    /// The key that was shown, if it is one. Missing and wrong are told apart: the caller knows which it did.
    fn key(&self, headers: &HeaderMap) -> Result<&ApiKey, Refusal> {
        let mut shown = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (shown.next(), shown.next()) else {
            return Err(Refusal::unauthorized(None));
        };
        // RFC 9110 §11.1: the scheme's name has no case.
        let value = value.as_bytes();
        let secret = match value.split_at_checked(7) {
            Some((scheme, secret)) if scheme.eq_ignore_ascii_case(b"bearer ") => secret.trim_ascii(),
            _ => return Err(Refusal::unauthorized(None)),
        };
        self.keys.find(secret).ok_or_else(|| Refusal::unauthorized(Some("invalid_token")))
    }
}

async fn answered(receiver: oneshot::Receiver<AppAnswer>) -> AppAnswer {
    receiver.await.unwrap_or_else(|_| AppAnswer::Error(Error::new(ErrorCode::Unavailable, "the server has stopped")))
}

fn json(mut body: Vec<u8>) -> Response<Body> {
    body.push(b'\n'); // whoever looks at it in a terminal finds the prompt on a line of its own
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The HTTP API as a router, to be mounted in another server. A Fanfare that has keys serves it by itself.
#[derive(Clone)]
pub struct Api {
    endpoint: Arc<Endpoint>,
    handle: Handle,
}

impl Api {
    pub(crate) fn new(endpoint: Arc<Endpoint>, handle: Handle) -> Self {
        Api { endpoint, handle }
    }

    /// Answers every path below `/api/`.
    pub fn router(self) -> axum::Router {
        let serve = async move |request: Request<Body>| {
            let (head, mut body) = request.into_parts();
            self.endpoint.answer(&self.handle, &head, &mut body).await
        };
        axum::Router::new().fallback(serve)
    }
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
}
