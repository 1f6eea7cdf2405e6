//! The application's side over HTTP: `POST /api/v1/<command>`, one command of [`ApiCommand`] a request.
//!
//! In: a request, checked in this order, so that a caller without permission causes no work: path (404), method (405),
//! key (401), the key's rights (403), content type (415), length (413, before a byte of the body is read), the body
//! (400), and then the hub's answer. Out: one JSON object. A refusal is the native protocol's
//! `{code, message, retryable, …}` with the status of its code in the table of errors. There are no CORS headers: the
//! API is for servers, because a browser would reveal the key to its user.
//!
//! A [`Handle`] asks the hub, for every way of a request: a listener of the server, a service within another server, or
//! a router that the embedder mounts ([`Api::router`]). (A shortcut around the handle's queue, for requests on the
//! thread of the shard that they concern, was tried: it had no measurable effect.)

pub(crate) mod body;
mod keys;
mod openapi;
mod refusal;
mod table;

#[cfg(test)]
mod tests;

use crate::config::api_key::ApiKey;
use crate::embed::handle::Handle;
use crate::harden;
use crate::journal::{Act, By};
use crate::refusal::HttpRefusal;
use crate::request::{API_COMMANDS, API_DOCUMENT, REQUEST_ID, RequestId, is_api_path, path_as_sent};
use axum::BoxError;
use axum::body::Body;
use bytes::Bytes;
use fanfare_hub::{AppAnswer, AppCommand, Error, ErrorCode};
use fanfare_wire::native::Limits;
use fanfare_wire::native::app::{ApiCommand, ApiRequest, Caller, decode, encode_answer, encode_results};
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, EXPECT};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use keys::Keys;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;
use tokio::time::sleep;

/// The endpoint that answers at `/api/v1/` now, shared by all shards. There is none until there are keys. Other keys
/// are another endpoint.
#[derive(Clone, Default)]
pub(crate) struct CurrentApi(Arc<RwLock<Option<Arc<Endpoint>>>>);

impl CurrentApi {
    /// The endpoint that answers this path, if there is one.
    pub(crate) fn at(&self, path: &str) -> Option<Arc<Endpoint>> {
        if is_api_path(path) { self.get() } else { None }
    }

    /// Whether the caller shows a key that may ask for the server's state (`info`).
    pub(crate) fn permits_info(&self, headers: &HeaderMap) -> Result<(), HttpRefusal> {
        let Some(endpoint) = self.get() else { return Err(refusal::no_keys()) };
        let audit = endpoint.handle.audit();
        let by = |key| By::Api {
            key,
            request_id: headers.get(REQUEST_ID).and_then(|id| Some(id.to_str().ok()?.to_owned())),
        };
        let act = || Act::named(ApiCommand::Info.word());
        let key = endpoint.key(headers).inspect_err(|refusal| audit.refused(by(None), act(), refusal.error()))?;
        key.may_ask(ApiCommand::Info).inspect_err(|error| audit.refused(by(Some(key.name().clone())), act(), error))?;
        Ok(())
    }

    fn get(&self) -> Option<Arc<Endpoint>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From the next request on this one answers. One without keys replaces one with keys, so that a request with an
    /// old key gets the refusal of that key; it does not replace none.
    pub(crate) fn replace(&self, endpoint: Arc<Endpoint>) {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if current.is_some() || !endpoint.keys.is_empty() {
            *current = Some(endpoint);
        }
    }
}

/// The endpoint of the API: keys and limits. The same on every shard.
pub(crate) struct Endpoint {
    handle: Handle,
    keys: Keys,
    limits: Limits,
    body_pause_max: Duration,
    /// The time that the shards have for an answer.
    patience: Duration,
    document: OnceLock<Bytes>,
}

impl Endpoint {
    pub(crate) fn new(
        handle: Handle,
        keys: &[ApiKey],
        limits: Limits,
        body_pause_max: Duration,
        patience: Duration,
        salt: [u8; 32],
    ) -> Self {
        Endpoint { handle, keys: Keys::new(keys, salt), limits, body_pause_max, patience, document: OnceLock::new() }
    }

    /// Two of its keys that are the same text, by name.
    pub(crate) fn same_keys(&self) -> Option<(&str, &str)> {
        self.keys.same().map(|(a, b)| (&**a.name(), &**b.name()))
    }

    /// Answers a request.
    pub(crate) async fn serve<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let (head, mut body) = request.into_parts();
        let answer = self.answer(&head, &mut body).await.unwrap_or_else(|refusal| {
            tracing::debug!(
                path = head.uri.path(),
                status = refusal.status(),
                error = refusal.error().to_string(),
                "refused"
            );
            refusal.in_json().into_response()
        });
        // A client that waits for `100 Continue` sends none, and the connection of one that was too slow is closed.
        let is_late = answer.status() == StatusCode::REQUEST_TIMEOUT;
        if !body.is_end_stream() && !is_late && !head.headers.contains_key(EXPECT) {
            tokio::spawn(tokio::time::timeout(self.body_pause_max, body::forget(body)));
        }
        answer
    }

    async fn answer<B>(&self, head: &Parts, body: &mut B) -> Result<Response<Body>, HttpRefusal>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
        B::Error: Into<BoxError>,
    {
        let (path, sent) = (head.uri.path(), path_as_sent(&head.uri, &head.extensions));
        if path == API_DOCUMENT {
            return self.document(&head.method, sent);
        }
        let kind =
            path.strip_prefix(API_COMMANDS).and_then(ApiCommand::find).ok_or_else(|| refusal::no_command(sent))?;
        if head.method != Method::POST {
            return Err(refusal::method(&head.method, sent, "POST"));
        }
        let by = |key| By::Api { key, request_id: head.extensions.get().map(|id: &RequestId| id.as_str().to_owned()) };
        let audit = self.handle.audit();
        let key = self.key(&head.headers).inspect_err(|refusal| {
            audit.refused(by(None), Act::named(kind.word()), refusal.error());
        })?;
        let by = by(Some(key.name().clone()));
        if let Err(error) = key.may_ask(kind) {
            audit.refused(by, Act::named(kind.word()), &error);
            return Err(error.into());
        }
        body::check_type(&head.headers)?;
        let idempotency_key = body::idempotency_key(&head.headers)?;
        let read = body::read(body, kind, &self.limits, self.body_pause_max).await?;
        body::check_form(&head.headers, &read)?;
        let caller = Caller { name: key.name(), idempotency_key };
        let mut out = Vec::new();
        match decode(kind, &read, &caller, &self.limits)? {
            ApiRequest::One(command) => {
                let act = Act::of_action(&command);
                if let Err(error) = key.may(&command) {
                    audit.refused(by, Act::of(&command), &error);
                    return Err(error.into());
                }
                let answer = self.handle.put_until(command, sleep(self.patience)).await;
                if let Some(act) = act {
                    audit.answered(by, act, &answer);
                }
                if let AppAnswer::Error(error) = answer {
                    return Err(error.into());
                }
                encode_answer(&mut out, &answer);
            }
            ApiRequest::Many(commands) => encode_results(&mut out, &self.many(key, &by, commands).await),
        }
        Ok(json(out))
    }

    /// Sends the permitted commands, in one message to each shard, and puts the answers between the refusals.
    async fn many(&self, key: &ApiKey, by: &By, commands: Vec<Result<AppCommand, Error>>) -> Vec<AppAnswer> {
        let audit = self.handle.audit();
        let mut acts = Vec::with_capacity(commands.len());
        let mut answers = Vec::with_capacity(commands.len());
        let mut asked = Vec::with_capacity(commands.len());
        for command in commands {
            let judged = |command: AppCommand| match key.may(&command) {
                Ok(()) => Ok(command),
                Err(error) => {
                    audit.refused(by.clone(), Act::of(&command), &error);
                    Err(error)
                }
            };
            let judged = command.and_then(judged);
            acts.push(judged.as_ref().ok().and_then(Act::of_action));
            match judged {
                Ok(command) => {
                    asked.push(Ok(command));
                    answers.push(None);
                }
                Err(error) => answers.push(Some(AppAnswer::Error(error))),
            }
        }
        let mut rest = self.handle.put_all_until(asked, sleep(self.patience)).await.into_iter();
        let answers: Vec<AppAnswer> =
            answers.into_iter().map(|answer| answer.or_else(|| rest.next()).unwrap_or_else(stopped)).collect();
        for (act, answer) in acts.into_iter().zip(&answers) {
            if let Some(act) = act {
                audit.answered(by.clone(), act, answer);
            }
        }
        answers
    }

    /// The OpenAPI document. Every client that reaches the port may read it: it has the same content as the
    /// documentation.
    fn document(&self, method: &Method, sent: &str) -> Result<Response<Body>, HttpRefusal> {
        if method != Method::GET && method != Method::HEAD {
            return Err(refusal::method(method, sent, "GET, HEAD"));
        }
        let print = || Bytes::from(openapi::document().to_string());
        let mut response = Response::new(Body::from(self.document.get_or_init(print).clone()));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        harden::shown(response.headers_mut());
        Ok(response)
    }

    /// The key of the caller, if it is valid. A missing key and a wrong one get different refusals.
    fn key(&self, headers: &HeaderMap) -> Result<&ApiKey, HttpRefusal> {
        let mut shown = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (shown.next(), shown.next()) else {
            return Err(refusal::unauthorized(None));
        };
        // RFC 9110 §11.1: the scheme's name has no case.
        let value = value.as_bytes();
        let secret = match value.split_at_checked(7) {
            Some((scheme, secret)) if scheme.eq_ignore_ascii_case(b"bearer ") => secret.trim_ascii(),
            _ => return Err(refusal::unauthorized(None)),
        };
        self.keys.find(secret).ok_or_else(|| refusal::unauthorized(Some("invalid_token")))
    }
}

fn stopped() -> AppAnswer {
    AppAnswer::Error(Error::new(ErrorCode::Unavailable, "the server has stopped"))
}

fn json(mut body: Vec<u8>) -> Response<Body> {
    body.push(b'\n'); // so that a terminal's prompt begins on its own line
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    harden::data(headers);
    response
}

/// True for an address of [`is_api_path`] with an answer other than 404.
pub(crate) fn is_known(path: &str) -> bool {
    path == API_DOCUMENT || path.strip_prefix(API_COMMANDS).and_then(ApiCommand::find).is_some()
}

/// The answer of a server without keys, if no page of the embedder answers. There is no API that could refuse, so the
/// status is 404.
pub(crate) fn without_keys() -> Response<Body> {
    refusal::no_keys().in_json().into_response()
}

/// The HTTP API as a router, to be mounted in another server. A Fanfare that has keys serves it by itself.
#[derive(Clone)]
pub struct Api {
    current: CurrentApi,
}

impl Api {
    /// `None` while there are no keys.
    pub(crate) fn of(current: &CurrentApi) -> Option<Self> {
        current.get().map(|_| Api { current: current.clone() })
    }

    /// Answers every path below `/api/`, by the keys of the moment.
    pub fn router(self) -> axum::Router {
        let serve = async move |request: Request<Body>| match self.current.get() {
            Some(endpoint) => endpoint.serve(request).await,
            // cannot happen: an endpoint is only ever replaced
            None => refusal::unauthorized(None).in_json().into_response(),
        };
        axum::Router::new().fallback(serve)
    }
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
}
