//! The return types of handlers, and the answers that the client gets for them.

use super::extract::{Call, Subject};
use super::handler::{OnConnect, OnDisconnect, OnOccupancy, OnPresence, OnPublish, OnPublished, OnRpc, OnSubscribe};
use crate::clock::Clock;
use crate::embed::payload;
use crate::logs;
use crate::protocol::socketio::retry_data;
use axum::Json;
use bytes::Bytes;
use fanfare_hub::{
    Action, ChannelName, Error, ErrorCode, Grant, HookAnswer, Identified, Labels, Pattern, Publish, UserId,
};
use serde::Serialize;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// An output of a handler of the kind `K`, with its meaning for the client.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an output of this kind of handler",
    label = "the handler returns `{Self}`",
    note = "on_connect: `Identity`, or a `String`, `&str`, `UserId` or `Option<UserId>` for one",
    note = "on_subscribe: `()`; on_publish: `Publish`, or `()` to let it through as it is; rpc: `Json<_>`; on_disconnect \
            and the notices of channels: `()`",
    note = "a handler that can fail returns `Result<_, fanfare::Refusal>` of these; `?` turns any error into a `Refusal`"
)]
pub trait Answers<K> {
    /// The answer to `call`.
    #[doc(hidden)]
    fn answer(self, call: &Call) -> HookAnswer;
}

/// A handler's refusal: the text for the client, and the text for the log only.
///
/// `?` turns any [`std::error::Error`] into a refusal that is `internal` to the client. Its text and those of its
/// sources are only in the log, because they may hold details that clients must not see. The constructors set the text
/// for clients. An error of the hub (of a [`Handle`](crate::Handle), say) goes through as it is.
#[derive(Debug)]
pub struct Refusal {
    /// Boxed: a refusal stands in the result of every extractor.
    error: Box<Error>,
    /// For the log.
    pub(super) cause: Option<String>,
    /// For clients of Socket.IO: JSON.
    data: Option<Bytes>,
}

impl Refusal {
    /// A refusal with this code. `message` is one sentence, for the client.
    pub fn new(code: ErrorCode, message: impl Into<Box<str>>) -> Self {
        Refusal { error: Box::new(Error::new(code, message)), cause: None, data: None }
    }

    /// `denied`: this caller may not.
    pub fn denied(message: impl Into<Box<str>>) -> Self {
        Self::new(ErrorCode::Denied, message)
    }

    /// `unauthorized`: the token is missing, wrong or expired.
    pub fn unauthorized(message: impl Into<Box<str>>) -> Self {
        Self::new(ErrorCode::Unauthorized, message)
    }

    /// `bad_request`: the payload is invalid.
    pub fn bad_request(message: impl Into<Box<str>>) -> Self {
        Self::new(ErrorCode::BadRequest, message)
    }

    /// `not_found`: there is no such thing.
    pub fn not_found(message: impl Into<Box<str>>) -> Self {
        Self::new(ErrorCode::NotFound, message)
    }

    /// `unavailable`: it may work later; `retry_after` says when to come back.
    pub fn unavailable(message: impl Into<Box<str>>, retry_after: Duration) -> Self {
        let mut refusal = Self::new(ErrorCode::Unavailable, message);
        refusal.error.retry_after_ms = Some(u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX));
        refusal
    }

    /// `internal`, as `?` converts an error. For causes that are no [`std::error::Error`], `anyhow::Error` say. Only
    /// the log has `cause` (as `{:#}` writes it).
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        Refusal { cause: Some(format!("{cause:#}")), ..Self::failed() }
    }

    /// `internal`, where the log has the reason already.
    pub(super) fn failed() -> Self {
        Self::new(ErrorCode::Internal, "the server failed; its log has the reason")
    }

    /// With data for the client: the `data` of `connect_error`, or of the error in an ack. For Socket.IO; clients of
    /// other protocols get none. A value that cannot be written as JSON is left out, and the log says so.
    #[must_use]
    pub fn with_data(mut self, data: &impl Serialize) -> Self {
        let written = serde_json::to_vec(data).map_err(payload::NotPayload::from);
        match written.and_then(|json| payload::checked(&Bytes::from(json))) {
            Ok(json) => self.data = Some(json),
            Err(problem) => tracing::error!(%problem, "the data of a refusal cannot be written as JSON"),
        }
        self
    }

    /// The client's part of the refusal.
    pub fn error(&self) -> &Error {
        &self.error
    }
}

impl<E: std::error::Error + 'static> From<E> for Refusal {
    fn from(error: E) -> Self {
        if let Some(error) = (&error as &dyn std::any::Any).downcast_ref::<Error>() {
            return Refusal { error: Box::new(error.clone()), cause: None, data: None };
        }
        let mut cause = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            cause = format!("{cause}: {error}");
            source = error.source();
        }
        Refusal::internal(cause)
    }
}

impl Refusal {
    /// The answer to `call`. A client can bring the cause about as often as it likes, so its line is limited.
    pub(super) fn answer(self, call: &Call) -> HookAnswer {
        self.log(call);
        HookAnswer::Refused(*self.error)
    }

    /// Logs its cause, if it has one.
    pub(super) fn log(&self, call: &Call) {
        if let Some(cause) = &self.cause {
            let channel = call.subject.channel().map(ChannelName::as_str);
            let peer = call.request().map(|request| &request.peer);
            logs::handler_failed(call.subject.handler(), channel, &call.caller, peer, cause);
        }
    }

    /// The message and the data for a client. Without data of its own, a refusal after which the client may try again
    /// says so.
    pub(super) fn into_message(self) -> (Box<str>, Option<Bytes>) {
        let data = self.data.or_else(|| retry_data(&self.error).map(Bytes::from));
        (self.error.message, data)
    }

    /// The same as the argument of an ack.
    pub(super) fn for_ack(&self) -> impl Serialize + use<> {
        #[derive(Serialize)]
        struct Refused {
            code: &'static str,
            message: Box<str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            data: Option<serde_json::Value>,
        }
        #[derive(Serialize)]
        struct InAck {
            error: Refused,
        }
        let data = self.data.as_ref().and_then(|data| serde_json::from_slice(data).ok());
        InAck { error: Refused { code: self.error.code.row().word, message: self.error.message.clone(), data } }
    }
}

/// The identity of a caller, as `on_connect` found it.
///
/// ```
/// use fanfare::Identity;
/// use std::time::Duration;
///
/// let ada = Identity::user("ada").info(&serde_json::json!({"name": "Ada"})).expires_in(Duration::from_secs(3600));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    identified: Identified,
    /// From the answer on, by the server's clock.
    expires_in: Option<Duration>,
}

impl Identity {
    /// An anonymous caller, with the rights that rules give to `anyone`.
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// This user.
    pub fn user(id: impl AsRef<str>) -> Self {
        let identified = Identified { user: Some(UserId(id.as_ref().into())), ..Identified::default() };
        Identity { identified, expires_in: None }
    }

    /// Facts about the caller that others see in presence. A value that is no JSON (a map with keys that are no
    /// texts, say) is left out, and the log says so.
    #[must_use]
    pub fn info(mut self, info: &impl Serialize) -> Self {
        match serde_json::to_vec(info) {
            Ok(json) => self.identified.info = Some(Bytes::from(json)),
            Err(error) => {
                tracing::error!(error = error.to_string(), "the info of an identity cannot be written as JSON")
            }
        }
        self
    }

    /// Facts about the caller that rules may ask for ([`Who::claim`](crate::Who::claim), and `{claims.NAME}` in a
    /// pattern), and that nobody is shown: an object. A value that is no JSON object is left out, and the log says so.
    #[must_use]
    pub fn claims(mut self, claims: &impl Serialize) -> Self {
        match serde_json::to_vec(claims) {
            Ok(json) if json.starts_with(b"{") => self.identified.claims = Some(Bytes::from(json)),
            Ok(_) => tracing::error!("the claims of an identity are no JSON object"),
            Err(error) => {
                tracing::error!(error = error.to_string(), "the claims of an identity cannot be written as JSON")
            }
        }
        self
    }

    /// Words by which the program finds the session again ([`Whom::Label`](crate::hub::Whom),
    /// [`Handle::connections`](crate::Handle::connections)), in place of earlier ones: at most 16, of at most 64 bytes.
    /// Clients are never shown them. Words that are no labels are left out, all of them, and the log says so.
    #[must_use]
    pub fn labels(mut self, labels: impl IntoIterator<Item = impl Into<Box<str>>>) -> Self {
        match Labels::new(labels) {
            Ok(labels) => self.identified.labels = labels,
            Err(error) => tracing::error!(error = error.to_string(), "the labels of an identity cannot be used"),
        }
        self
    }

    /// Ends the session then, unless the client has brought a newer token.
    #[must_use]
    pub fn expires_at(mut self, at: SystemTime) -> Self {
        let since_1970 = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.expires_in = None;
        self.identified.expires_ms = Some(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// Ends the session after this time, unless the client has brought a newer token.
    #[must_use]
    pub fn expires_in(mut self, time: Duration) -> Self {
        self.expires_in = Some(time);
        self
    }

    /// Allows these actions on the channels of a pattern, where their rules say `grant` ([`Who::Grant`](crate::Who)).
    #[must_use]
    pub fn grant(mut self, pattern: Pattern, allow: &[Action]) -> Self {
        self.identified.grants.push(Grant { pattern, allow: allow.to_vec() });
        self
    }

    /// Subscribes the session to a channel without having been asked.
    #[must_use]
    pub fn subscribe(mut self, channel: ChannelName) -> Self {
        self.identified.subscribe.push(channel);
        self
    }
}

impl From<UserId> for Identity {
    fn from(user: UserId) -> Self {
        Self::user(&*user.0)
    }
}

impl From<String> for Identity {
    fn from(user: String) -> Self {
        Self::user(user)
    }
}

impl From<&str> for Identity {
    fn from(user: &str) -> Self {
        Self::user(user)
    }
}

impl From<Option<UserId>> for Identity {
    fn from(user: Option<UserId>) -> Self {
        user.map_or_else(Self::anonymous, Self::from)
    }
}

/// The answers of handlers that can fail. One impl for each kind, with the error's type fixed: so the compiler knows it
/// where a closure ends with `Ok(…)`, and `?` has something to convert to.
macro_rules! or_refusal {
    ($(<$T:ident: $bound:path>)? $Kind:ident, $Output:ty) => {
        impl$(<$T: $bound>)? Answers<$Kind> for Result<$Output, Refusal> {
            fn answer(self, call: &Call) -> HookAnswer {
                match self {
                    Ok(output) => Answers::<$Kind>::answer(output, call),
                    Err(refusal) => refusal.answer(call),
                }
            }
        }
    };
}

or_refusal!(OnSubscribe, ());
or_refusal!(OnPublish, Publish);
or_refusal!(OnPublish, ());
or_refusal!(<T: Serialize> OnRpc, Json<T>);
or_refusal!(OnDisconnect, ());
or_refusal!(OnPresence, ());
or_refusal!(OnOccupancy, ());
or_refusal!(OnPublished, ());

impl<T: Into<Identity>> Answers<OnConnect> for Result<T, Refusal> {
    fn answer(self, call: &Call) -> HookAnswer {
        match self {
            Ok(identity) => identity.into().answer(call),
            Err(refusal) => refusal.answer(call),
        }
    }
}

impl Identity {
    /// For the hub.
    pub(super) fn identified(self, clock: &Clock) -> Identified {
        let Identity { mut identified, expires_in } = self;
        if let Some(time) = expires_in {
            let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            identified.expires_ms = Some(clock.now().wall_ms.saturating_add(ms));
        }
        identified
    }
}

impl Answers<OnConnect> for Identity {
    fn answer(self, call: &Call) -> HookAnswer {
        HookAnswer::Identity(self.identified(&call.clock))
    }
}

/// The identities that a handler without an error may return.
macro_rules! identities {
    ($($T:ty),*) => {
        $(impl Answers<OnConnect> for $T {
            fn answer(self, call: &Call) -> HookAnswer {
                Identity::from(self).answer(call)
            }
        })*
    };
}

identities!(UserId, String, &'static str, Option<UserId>);

impl Answers<OnSubscribe> for () {
    fn answer(self, _call: &Call) -> HookAnswer {
        HookAnswer::Allowed
    }
}

impl Answers<OnPublish> for Publish {
    fn answer(self, _call: &Call) -> HookAnswer {
        HookAnswer::Publish(Box::new(self))
    }
}

impl Answers<OnPublish> for () {
    fn answer(self, call: &Call) -> HookAnswer {
        match &call.subject {
            Subject::Publish(publish) => HookAnswer::Publish(publish.clone()),
            _ => HookAnswer::Allowed,
        }
    }
}

impl<T: Serialize> Answers<OnRpc> for Json<T> {
    fn answer(self, call: &Call) -> HookAnswer {
        match serde_json::to_vec(&self.0) {
            Ok(json) => HookAnswer::Result(Bytes::from(json)),
            Err(error) => Refusal::from(error).answer(call),
        }
    }
}

/// Nobody reads the answers of these: what they are about has happened.
macro_rules! told {
    ($($Kind:ident),*) => {
        $(impl Answers<$Kind> for () {
            fn answer(self, _call: &Call) -> HookAnswer {
                HookAnswer::Allowed
            }
        })*
    };
}

told!(OnDisconnect, OnPresence, OnOccupancy, OnPublished);
