//! Extractors: the values that a handler gets by the types of its arguments.
//!
//! | argument | in | what |
//! |---|---|---|
//! | [`State<T>`](crate::State) | all | the application's state, or a part of it by `FromRef` |
//! | [`Handle`](crate::Handle) | all | the server itself: publish, signal, disconnect, … |
//! | [`Member`], [`User`], `Option<User>`, [`Caller`] | all | who it is |
//! | [`Claims<T>`] | all | what else is proven about it |
//! | [`Headers`], [`Cookies`], [`Query<T>`](crate::Query) | all | of the request that the connection began with |
//! | [`Peer`] | all | the other end of the connection |
//! | `Arc<`[`RequestInfo`]`>` | all | the whole request |
//! | [`Token`], `Option<Token>` | connect | what the client sent to prove it |
//! | [`Channel`] | subscribe, publish, all notices of channels | the channel's name |
//! | [`SubOptions`](crate::hub::SubOptions) | subscribe | how it is to be followed |
//! | [`Publish`](crate::hub::Publish) | publish | the whole publication; returning it publishes it |
//! | [`Json<T>`](crate::Json) | publish, rpc, join, leave, published | the payload, decoded |
//! | [`Method`] | rpc | the method's name |
//! | [`Ended`](crate::hub::Ended) | disconnect | why the session ended |
//! | `Arc<`[`PresenceEntry`](crate::hub::PresenceEntry)`>` | join, leave | the whole entry |
//! | `Arc<`[`Publication`](crate::hub::Publication)`>` | published | the whole publication |
//! | [`Position`](crate::hub::Position) | published | its place |
//! | [`HappenedAt`] | join, leave, occupied, vacated, published | when |
//!
//! Handlers of Socket.IO take those for all, and their own ([`socketio`](crate::socketio)).

use super::answer::Refusal;
use super::handler::{OnConnect, OnDisconnect, OnOccupancy, OnPresence, OnPublish, OnPublished, OnRpc, OnSubscribe};
use super::notice::NoticeKind;
use crate::clock::Clock;
use crate::embed::handle::Handle;
use crate::embed::socketio::SocketCall;
use crate::request::{Peer, RequestInfo};
use axum::Json;
use axum::extract::{FromRef, Query, State};
use bytes::Bytes;
use fanfare_hub::{
    Caller, ChannelEvent, ChannelName, ClientId, Data, Ended, Position, PresenceEntry, Publication, Publish,
    SubOptions, UserId, UserToken,
};
use http::HeaderMap;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// One question with everything that extractors take from.
#[derive(Debug)]
pub struct Call {
    /// The caller, as far as it is known.
    pub caller: Caller,
    /// Its subject.
    pub subject: Subject,
    pub(crate) request: Option<Arc<RequestInfo>>,
    pub(crate) handle: Handle,
    pub(crate) clock: Clock,
    /// The call's part of Socket.IO.
    pub(crate) socket: Option<SocketCall>,
}

impl Call {
    /// The request that the connection began with. In `on_disconnect` it is that of the session's last connection,
    /// which has ended. `None` if no handler [needs](FromCall::NEEDS_REQUEST) it.
    pub fn request(&self) -> Option<&Arc<RequestInfo>> {
        self.request.as_ref()
    }
}

/// The subject of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Subject {
    /// A connection, or a newer token for one.
    Connect {
        /// As the client sent it.
        token: Option<Token>,
    },
    /// A subscription.
    Subscribe(Box<SubOptions>),
    /// A publication.
    Publish(Box<Publish>),
    /// A call of a method.
    Rpc {
        /// Which.
        method: Box<str>,
        /// With what: JSON.
        data: Bytes,
    },
    /// The end of a session.
    Ended(Ended),
    /// Something has happened in a channel.
    Notice {
        /// Which.
        channel: ChannelName,
        /// When, in ms since 1970.
        ts_ms: u64,
        /// The event.
        event: ChannelEvent,
    },
    /// A handler of Socket.IO.
    Socket {
        /// The namespace.
        namespace: Box<str>,
        /// The name of the event, if it is one.
        event: Option<Box<str>>,
    },
}

impl Subject {
    /// The name of its handler in the log.
    pub(super) fn handler(&self) -> &str {
        match self {
            Subject::Connect { .. } => "on_connect",
            Subject::Subscribe(_) => "on_subscribe",
            Subject::Publish(_) => "on_publish",
            Subject::Rpc { method, .. } => method,
            Subject::Ended(_) => "on_disconnect",
            Subject::Notice { event, .. } => NoticeKind::of(event).word(),
            Subject::Socket { event, .. } => event.as_deref().unwrap_or("socketio"),
        }
    }

    /// Its channel.
    pub(crate) fn channel(&self) -> Option<&ChannelName> {
        match self {
            Subject::Subscribe(options) => Some(&options.channel),
            Subject::Publish(publish) => Some(&publish.channel),
            Subject::Notice { channel, .. } => Some(channel),
            Subject::Connect { .. } | Subject::Rpc { .. } | Subject::Ended(_) | Subject::Socket { .. } => None,
        }
    }
}

/// A value that a handler of the kind `K` can ask for, in an application with the state `S`.
///
/// Implement it for a type of your own to share what several handlers need. It may await: a look into a database, say.
/// Its time counts to the handler's.
///
/// ```
/// use fanfare::{Call, FromCall, FromRef, Refusal, User};
///
/// #[derive(Clone)]
/// struct Database;
///
/// impl Database {
///     async fn is_admin(&self, user: &str) -> Result<bool, std::io::Error> {
///         Ok(user == "ada") // a real one asks
///     }
/// }
///
/// struct Admin(User);
///
/// impl<K, S: Sync> FromCall<K, S> for Admin
/// where
///     Database: FromRef<S>,
/// {
///     async fn from_call(state: &S, call: &Call) -> Result<Self, Refusal> {
///         let user = <User as FromCall<K, S>>::from_call(state, call).await?;
///         match Database::from_ref(state).is_admin(&user).await? {
///             true => Ok(Admin(user)),
///             false => Err(Refusal::denied("only administrators may do this")),
///         }
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an extractor for this kind of handler",
    label = "an argument of the handler has the type `{Self}`",
    note = "for all kinds: `State<T>` of the application's state, `Handle`, `Caller`, `Member`, `User`, `Option<User>`, \
            `Claims<T>`, `Headers`, `Cookies`, `Query<T>`, `Peer`, `Arc<RequestInfo>`",
    note = "for on_connect: `Token`, `Option<Token>`; for on_subscribe: `SubOptions`, `Channel`; for on_publish: `Publish`, \
            `Channel`, `Json<T>`; for rpc: `Json<T>`, `Method`; for on_disconnect: `Ended`",
    note = "for on_occupied and on_vacated: `Channel`, `HappenedAt`; for on_join and on_leave besides: `Json<T>`, \
            `Arc<PresenceEntry>`; for on_published: `Json<T>`, `Arc<Publication>`, `Position`",
    note = "for Socket.IO (`fanfare::socketio`): `Io`, `Auth<T>`, `Handshake`, `SocketExtensions`, `SocketData<T>`; but in guards \
            `Socket`; for events `Data<T>`, `Args`, `EventName`, `Bytes`, `Attachments`, `Ack`; for on_disconnect `Reason`"
)]
pub trait FromCall<K, S>: Sized + Send {
    /// Whether [`from_call`](Self::from_call) reads [`Call::request`]. The server keeps the requests of connections,
    /// one or two KiB each, if any argument of any handler needs them. Default `true`; say `false` in an extractor that
    /// does without.
    const NEEDS_REQUEST: bool = true;

    /// Takes the value out of the call. Written as an `async fn`.
    ///
    /// # Errors
    /// A [`Refusal`] is the client's answer, and the handler is not run.
    fn from_call(state: &S, call: &Call) -> impl Future<Output = Result<Self, Refusal>> + Send;
}

/// The proof of identity that a client sent. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(UserToken);

impl Token {
    pub(crate) fn new(text: UserToken) -> Self {
        Token(text)
    }

    /// The token as it came.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

impl AsRef<str> for Token {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// The session that asks. There is one in every handler but the first `on_connect` of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member(pub ClientId);

/// The user that asks: a caller without one is refused. Take `Option<User>` to serve both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User(pub UserId);

impl std::ops::Deref for User {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0.0
    }
}

/// The claims of the caller as a type of the program: those of its token, or of [`Identity::claims`](crate::Identity).
///
/// A caller whose claims are not of this type is refused as `denied`. A caller without claims has an empty object, so
/// that a type whose fields are all `Option` or have a default serves everybody. One claim by its name is
/// [`Caller::claim`]. Nobody has claims in the first `on_connect` of a session and in notices of channels.
///
/// ```
/// use fanfare::{Claims, Fanfare, Identity, Json, Refusal, Token};
///
/// #[derive(serde::Deserialize)]
/// struct Staff {
///     team: String,
/// }
///
/// Fanfare::builder(())
///     .on_connect(async |token: Token| match token.as_str() {
///         "s3cret" => Ok(Identity::user("ada").claims(&serde_json::json!({"team": "red"}))),
///         _ => Err(Refusal::unauthorized("this token is not one of ours")),
///     })
///     .rpc("team", async |Claims(staff): Claims<Staff>| Json(staff.team));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claims<T>(pub T);

/// The name of the channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel(pub ChannelName);

impl std::ops::Deref for Channel {
    type Target = str;

    fn deref(&self) -> &str {
        self.0.as_str()
    }
}

/// The headers of the request that the connection began with.
///
/// A client can send any header: trust `X-Forwarded-For` only if a proxy of yours sets it.
#[derive(Debug, Clone)]
pub struct Headers(Arc<RequestInfo>);

impl std::ops::Deref for Headers {
    type Target = HeaderMap;

    fn deref(&self) -> &HeaderMap {
        &self.0.headers
    }
}

/// The cookies of the request that the connection began with.
#[derive(Debug, Clone)]
pub struct Cookies(Arc<RequestInfo>);

impl Cookies {
    /// The value of a cookie, as the client sent it; of several the first.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.cookie(name)
    }

    /// All names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.cookies()
    }
}

/// When something happened in a channel, by the server's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HappenedAt(pub SystemTime);

/// The name of the method that is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Method(pub Box<str>);

impl<K, S, T> FromCall<K, S> for State<T>
where
    S: Sync,
    T: FromRef<S> + Send,
{
    const NEEDS_REQUEST: bool = false;

    async fn from_call(state: &S, _call: &Call) -> Result<Self, Refusal> {
        Ok(State(T::from_ref(state)))
    }
}

impl<K, S: Sync> FromCall<K, S> for Handle {
    const NEEDS_REQUEST: bool = false;

    async fn from_call(_state: &S, call: &Call) -> Result<Self, Refusal> {
        Ok(call.handle.clone())
    }
}

impl<K, S: Sync> FromCall<K, S> for Caller {
    const NEEDS_REQUEST: bool = false;

    async fn from_call(_state: &S, call: &Call) -> Result<Self, Refusal> {
        Ok(call.caller.clone())
    }
}

impl<K, S: Sync> FromCall<K, S> for Member {
    const NEEDS_REQUEST: bool = false;

    async fn from_call(_state: &S, call: &Call) -> Result<Self, Refusal> {
        call.caller.client.map(Member).ok_or_else(|| Refusal::bad_request("there is no session yet"))
    }
}

impl<K, S: Sync> FromCall<K, S> for User {
    const NEEDS_REQUEST: bool = false;

    async fn from_call(_state: &S, call: &Call) -> Result<Self, Refusal> {
        let user = call.caller.user.clone();
        user.map(User).ok_or_else(|| Refusal::denied("this needs a user, and the caller has none"))
    }
}

impl<K, S: Sync> FromCall<K, S> for Option<User> {
    const NEEDS_REQUEST: bool = false;

    async fn from_call(_state: &S, call: &Call) -> Result<Self, Refusal> {
        Ok(call.caller.user.clone().map(User))
    }
}

impl<K, S: Sync, T: DeserializeOwned + Send> FromCall<K, S> for Claims<T> {
    const NEEDS_REQUEST: bool = false;

    async fn from_call(_state: &S, call: &Call) -> Result<Self, Refusal> {
        // The client is not told what its claims lack: serde's words could quote them, and only the server sees them.
        serde_json::from_slice(call.caller.claims.as_deref().unwrap_or(b"{}"))
            .map(Claims)
            .map_err(|_| Refusal::denied("this needs claims that the caller does not have"))
    }
}

impl<S: Sync> FromCall<OnConnect, S> for Option<Token> {
    const NEEDS_REQUEST: bool = false;

    async fn from_call(_state: &S, call: &Call) -> Result<Self, Refusal> {
        match &call.subject {
            Subject::Connect { token } => Ok(token.clone()),
            _ => Ok(None),
        }
    }
}

impl<S: Sync> FromCall<OnConnect, S> for Token {
    const NEEDS_REQUEST: bool = false;

    async fn from_call(state: &S, call: &Call) -> Result<Self, Refusal> {
        let token = <Option<Token> as FromCall<OnConnect, S>>::from_call(state, call).await?;
        token.ok_or_else(|| Refusal::unauthorized("`connect` needs a `token` here"))
    }
}

impl<S: Sync> FromCall<OnSubscribe, S> for SubOptions {
    const NEEDS_REQUEST: bool = false;

    async fn from_call(_state: &S, call: &Call) -> Result<Self, Refusal> {
        match &call.subject {
            Subject::Subscribe(options) => Ok((**options).clone()),
            _ => Err(misplaced()),
        }
    }
}

impl<S: Sync> FromCall<OnPublish, S> for Publish {
    const NEEDS_REQUEST: bool = false;

    async fn from_call(_state: &S, call: &Call) -> Result<Self, Refusal> {
        publish(call).cloned()
    }
}

impl<S: Sync> FromCall<OnSubscribe, S> for Channel {
    const NEEDS_REQUEST: bool = false;

    async fn from_call(_state: &S, call: &Call) -> Result<Self, Refusal> {
        match &call.subject {
            Subject::Subscribe(options) => Ok(Channel(options.channel.clone())),
            _ => Err(misplaced()),
        }
    }
}

impl<S: Sync> FromCall<OnPublish, S> for Channel {
    const NEEDS_REQUEST: bool = false;

    async fn from_call(_state: &S, call: &Call) -> Result<Self, Refusal> {
        publish(call).map(|publish| Channel(publish.channel.clone()))
    }
}

impl<S: Sync, T: DeserializeOwned + Send> FromCall<OnPublish, S> for Json<T> {
    const NEEDS_REQUEST: bool = false;

    async fn from_call(_state: &S, call: &Call) -> Result<Self, Refusal> {
        json(&publish(call)?.data)
    }
}

impl<S: Sync, T: DeserializeOwned + Send> FromCall<OnRpc, S> for Json<T> {
    const NEEDS_REQUEST: bool = false;

    async fn from_call(_state: &S, call: &Call) -> Result<Self, Refusal> {
        match &call.subject {
            Subject::Rpc { data, .. } => decode(data),
            _ => Err(misplaced()),
        }
    }
}

impl<S: Sync> FromCall<OnRpc, S> for Method {
    const NEEDS_REQUEST: bool = false;

    async fn from_call(_state: &S, call: &Call) -> Result<Self, Refusal> {
        match &call.subject {
            Subject::Rpc { method, .. } => Ok(Method(method.clone())),
            _ => Err(misplaced()),
        }
    }
}

impl<S: Sync> FromCall<OnDisconnect, S> for Ended {
    const NEEDS_REQUEST: bool = false;

    async fn from_call(_state: &S, call: &Call) -> Result<Self, Refusal> {
        match &call.subject {
            Subject::Ended(why) => Ok(*why),
            _ => Err(misplaced()),
        }
    }
}

/// What every notice of a channel has.
macro_rules! of_notices {
    ($($Kind:ident),*) => {
        $(impl<S: Sync> FromCall<$Kind, S> for Channel {
            const NEEDS_REQUEST: bool = false;

            async fn from_call(_state: &S, call: &Call) -> Result<Self, Refusal> {
                notice(call).map(|(channel, ..)| Channel(channel.clone()))
            }
        }

        impl<S: Sync> FromCall<$Kind, S> for HappenedAt {
            const NEEDS_REQUEST: bool = false;

            async fn from_call(_state: &S, call: &Call) -> Result<Self, Refusal> {
                notice(call).map(|(_, ts_ms, _)| HappenedAt(UNIX_EPOCH + Duration::from_millis(ts_ms)))
            }
        })*
    };
}

of_notices!(OnPresence, OnOccupancy, OnPublished);

impl<S: Sync> FromCall<OnPresence, S> for Arc<PresenceEntry> {
    const NEEDS_REQUEST: bool = false;

    async fn from_call(_state: &S, call: &Call) -> Result<Self, Refusal> {
        entry(call).cloned()
    }
}

impl<S: Sync, T: DeserializeOwned + Send> FromCall<OnPresence, S> for Json<T> {
    const NEEDS_REQUEST: bool = false;

    async fn from_call(_state: &S, call: &Call) -> Result<Self, Refusal> {
        decode(&entry(call)?.data)
    }
}

impl<S: Sync> FromCall<OnPublished, S> for Arc<Publication> {
    const NEEDS_REQUEST: bool = false;

    async fn from_call(_state: &S, call: &Call) -> Result<Self, Refusal> {
        published(call).map(|(_, publication)| publication.clone())
    }
}

impl<S: Sync> FromCall<OnPublished, S> for Position {
    const NEEDS_REQUEST: bool = false;

    async fn from_call(_state: &S, call: &Call) -> Result<Self, Refusal> {
        published(call).map(|(position, _)| position)
    }
}

impl<S: Sync, T: DeserializeOwned + Send> FromCall<OnPublished, S> for Json<T> {
    const NEEDS_REQUEST: bool = false;

    async fn from_call(_state: &S, call: &Call) -> Result<Self, Refusal> {
        json(&published(call)?.1.data)
    }
}

impl<K, S: Sync> FromCall<K, S> for Arc<RequestInfo> {
    async fn from_call(_state: &S, call: &Call) -> Result<Self, Refusal> {
        request(call).cloned()
    }
}

impl<K, S: Sync> FromCall<K, S> for Headers {
    async fn from_call(_state: &S, call: &Call) -> Result<Self, Refusal> {
        request(call).map(|request| Headers(request.clone()))
    }
}

impl<K, S: Sync> FromCall<K, S> for Cookies {
    async fn from_call(_state: &S, call: &Call) -> Result<Self, Refusal> {
        request(call).map(|request| Cookies(request.clone()))
    }
}

impl<K, S: Sync> FromCall<K, S> for Peer {
    async fn from_call(_state: &S, call: &Call) -> Result<Self, Refusal> {
        request(call).map(|request| request.peer)
    }
}

impl<K, S: Sync, T: DeserializeOwned + Send> FromCall<K, S> for Query<T> {
    async fn from_call(_state: &S, call: &Call) -> Result<Self, Refusal> {
        // The client's mistake, and its to read: the message names the field.
        Query::try_from_uri(&request(call)?.uri)
            .map_err(|rejection| Refusal::bad_request(format!("the query of the address: {}", rejection.body_text())))
    }
}

fn request(call: &Call) -> Result<&Arc<RequestInfo>, Refusal> {
    call.request().ok_or_else(|| {
        Refusal::internal(
            "an extractor needs the request that the connection began with, and it was not kept: an implementation of \
             `FromCall` says `NEEDS_REQUEST = false`, or the connection has none",
        )
    })
}

fn publish(call: &Call) -> Result<&Publish, Refusal> {
    match &call.subject {
        Subject::Publish(publish) => Ok(publish),
        _ => Err(misplaced()),
    }
}

fn json<T: DeserializeOwned>(data: &Data) -> Result<Json<T>, Refusal> {
    match data {
        Data::Json(bytes) => decode(bytes),
        Data::Binary(_) => Err(Refusal::bad_request("`data` must be JSON here, not binary")),
    }
}

fn notice(call: &Call) -> Result<(&ChannelName, u64, &ChannelEvent), Refusal> {
    match &call.subject {
        Subject::Notice { channel, ts_ms, event } => Ok((channel, *ts_ms, event)),
        _ => Err(misplaced()),
    }
}

fn entry(call: &Call) -> Result<&Arc<PresenceEntry>, Refusal> {
    match notice(call)?.2 {
        ChannelEvent::Joined(entry) | ChannelEvent::Left(entry) => Ok(entry),
        _ => Err(misplaced()),
    }
}

fn published(call: &Call) -> Result<(Position, &Arc<Publication>), Refusal> {
    match notice(call)?.2 {
        ChannelEvent::Published { epoch, publication } => {
            Ok((Position { epoch: *epoch, offset: publication.offset }, publication))
        }
        _ => Err(misplaced()),
    }
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<Json<T>, Refusal> {
    // The client's mistake, and its to read: serde names the field and the place.
    serde_json::from_slice(bytes).map(Json).map_err(|error| Refusal::bad_request(format!("`data`: {error}")))
}

/// The kinds make this unreachable from a handler; a `Call` made by hand could still do it.
pub(super) fn misplaced() -> Refusal {
    Refusal::bad_request("this extractor belongs to another kind of handler")
}
