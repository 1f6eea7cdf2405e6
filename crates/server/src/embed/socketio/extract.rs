//! Extractors of Socket.IO handlers, besides those of all handlers.
//!
//! | argument | in | what |
//! |---|---|---|
//! | [`Auth<T>`], [`Handshake`], [`SocketExtensions`], [`Io`] | all | what the client brought, the program's values, the namespace |
//! | [`Socket`] | all but guards | the socket |
//! | [`SocketData<T>`], `Option<SocketData<T>>` | all | a value of `socket.data`, by its type |
//! | [`Data<T>`] | on, on_any, use_ | the first argument; for a tuple all arguments |
//! | [`Args`] | on, on_any, use_ | all arguments as they came |
//! | [`EventName`] | on, on_any, use_ | the name of the event |
//! | `Bytes`, [`Attachments`] | on, on_any, use_ | the first attachment; all attachments |
//! | [`Ack`] | on, on_any, use_ | the way to acknowledge later, or not |
//! | [`Reason`] | on_disconnect | why the socket has left |

use super::args;
use super::data::SocketExtensions;
use super::handshake::Handshake;
use super::io::Io;
use super::kinds::{OnEvent, OnGuard, OnSocket, OnSocketEnd, OnUse};
use super::sequence::Sending;
use super::socket::Socket;
use crate::embed::answer::Refusal;
use crate::embed::extract::{Call, FromCall, misplaced};
use crate::protocol::socketio::{Payload, Reason};
use bytes::Bytes;
use fanfare_hub::{Error, ErrorCode};
use fanfare_wire::socketio::Elements;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// The part of a call that Socket.IO handlers take from.
#[derive(Debug)]
pub(crate) struct SocketCall {
    /// There is none yet in a guard.
    pub(super) socket: Option<Socket>,
    pub(super) io: Io,
    pub(super) handshake: Handshake,
    pub(super) data: SocketExtensions,
    pub(super) event: Option<EventCall>,
    pub(super) reason: Option<Reason>,
}

/// An event of a client.
#[derive(Debug)]
pub(super) struct EventCall {
    pub(super) name: Box<str>,
    pub(super) args: Arc<str>,
    pub(super) attachments: Vec<Bytes>,
    pub(super) ack: Arc<AckState>,
}

/// Whether an event was acknowledged.
#[derive(Debug)]
pub(super) struct AckState {
    /// Its number, if the client asked for an ack.
    pub(super) id: Option<u64>,
    /// A handler has taken the ack, so its return value is none.
    pub(super) is_taken: AtomicBool,
    is_sent: AtomicBool,
}

impl AckState {
    pub(super) fn new(id: Option<u64>) -> Arc<Self> {
        Arc::new(AckState { id, is_taken: AtomicBool::new(false), is_sent: AtomicBool::new(false) })
    }

    /// Acknowledges, if the client asked for it and nobody has done it yet.
    pub(super) fn send(&self, socket: &Socket, payload: Payload) -> Option<Sending> {
        let id = self.id.filter(|_| !self.is_sent.swap(true, SeqCst))?;
        Some(socket.acknowledge(id, payload))
    }
}

/// The client's `auth`, decoded. A client without one has `{}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Auth<T>(pub T);

/// The argument of an event, decoded: the first one, or for a tuple all of them, one by one. A missing argument is
/// `null`, so an `Option` takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Data<T>(pub T);

/// A value of this type that the program has put into [`Socket::data`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketData<T>(pub T);

/// The name of the event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventName(pub Box<str>);

impl Deref for EventName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// All attachments of an event, in the order of their numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachments(pub Vec<Bytes>);

/// All arguments of an event as they came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Args {
    json: Arc<str>,
    attachments: Vec<Bytes>,
}

impl Args {
    /// A JSON array. `{"_placeholder":true,"num":n}` stands for the n-th attachment, if there are attachments.
    pub fn as_json(&self) -> &str {
        &self.json
    }

    /// The JSON of each argument.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        Elements::of(&self.json)
    }

    /// The attachments.
    pub fn attachments(&self) -> &[Bytes] {
        &self.attachments
    }

    /// Decodes them as [`Data`] does.
    ///
    /// # Errors
    /// `bad_request`, with the argument that is wrong.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        read(&self.json, &self.attachments)
    }
}

/// The ack of an event, to be sent when the program likes. Without it the return value of the handler is the ack.
pub struct Ack {
    socket: Socket,
    state: Arc<AckState>,
}

impl Ack {
    /// True if the client asked for an ack. Otherwise [`send`](Self::send) does nothing.
    pub fn is_wanted(&self) -> bool {
        self.state.id.is_some()
    }

    /// Acknowledges the event. A tuple is several arguments, `()` is none.
    pub fn send(self, args: impl Serialize) -> Sending {
        let nothing = || self.socket.sequence().nothing();
        match Payload::ack(&args) {
            Ok(payload) => self.state.send(&self.socket, payload).unwrap_or_else(nothing),
            Err(problem) => {
                let message = format!("the arguments of an ack cannot be sent: {problem}");
                self.socket.sequence().refused(Error::new(ErrorCode::BadRequest, message))
            }
        }
    }
}

impl fmt::Debug for Ack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ack").field("id", &self.state.id).finish_non_exhaustive()
    }
}

/// The kinds of Socket.IO handlers.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a kind of Socket.IO handlers",
    note = "this extractor is for the handlers in `.socketio(…)`"
)]
#[doc(hidden)]
pub trait OfNamespace {}
/// Those of a socket that has entered.
#[diagnostic::on_unimplemented(
    message = "there is no socket in this kind of handler",
    note = "a guard is asked before there is a socket: take `Auth<T>`, `Handshake` or `SocketExtensions`"
)]
#[doc(hidden)]
pub trait OfSocket: OfNamespace {}
/// Those of an event.
#[diagnostic::on_unimplemented(
    message = "there is no event in this kind of handler",
    note = "`Data`, `Args`, `Attachments`, `EventName` and `Ack` are for `on`, `on_any` and `use_`"
)]
#[doc(hidden)]
pub trait OfEvent: OfSocket {}

macro_rules! kinds {
    ($($Trait:ident: $($Kind:ident)*;)*) => {
        $($(impl $Trait for $Kind {})*)*
    };
}

kinds! {
    OfNamespace: OnGuard OnSocket OnEvent OnUse OnSocketEnd;
    OfSocket: OnSocket OnEvent OnUse OnSocketEnd;
    OfEvent: OnEvent OnUse;
}

fn of_call(call: &Call) -> Result<&SocketCall, Refusal> {
    call.socket.as_ref().ok_or_else(misplaced)
}

fn event(call: &Call) -> Result<&EventCall, Refusal> {
    of_call(call)?.event.as_ref().ok_or_else(misplaced)
}

fn read<T: DeserializeOwned>(json: &str, attachments: &[Bytes]) -> Result<T, Refusal> {
    // The client's mistake, and its to read: serde names the field and the place.
    args::read(json, attachments).map_err(|error| Refusal::bad_request(format!("the arguments: {error}")))
}

/// Extractors that need no request.
macro_rules! extractors {
    ($(<$K:ident: $Kind:ident> $(, $T:ident: ($($bound:path),+))? => $Type:ty, |$call:ident| $take:expr;)*) => {
        $(
            impl<$K: $Kind, S: Sync $(, $T: $($bound +)+ Send)?> FromCall<$K, S> for $Type {
                const NEEDS_REQUEST: bool = false;

                async fn from_call(_state: &S, $call: &Call) -> Result<Self, Refusal> {
                    $take
                }
            }
        )*
    };
}

extractors! {
    <K: OfSocket> => Socket, |call| of_call(call)?.socket.clone().ok_or_else(misplaced);
    <K: OfNamespace> => Io, |call| Ok(of_call(call)?.io.clone());
    <K: OfNamespace> => SocketExtensions, |call| Ok(of_call(call)?.data.clone());
    <K: OfNamespace>, T: (DeserializeOwned) => Auth<T>, |call| of_call(call)?.handshake.auth().map(Auth);
    <K: OfNamespace>, T: (Clone, Sync, Kept) => SocketData<T>, |call| {
        let missing = || Refusal::internal(format!("`socket.data` has no {}", std::any::type_name::<T>()));
        of_call(call)?.data.get().map(SocketData).ok_or_else(missing)
    };
    <K: OfNamespace>, T: (Clone, Sync, Kept) => Option<SocketData<T>>, |call| Ok(of_call(call)?.data.get().map(SocketData));
    <K: OfEvent>, T: (DeserializeOwned) => Data<T>, |call| {
        let event = event(call)?;
        read(&event.args, &event.attachments).map(Data)
    };
    <K: OfEvent> => Args, |call| {
        let event = event(call)?;
        Ok(Args { json: event.args.clone(), attachments: event.attachments.clone() })
    };
    <K: OfEvent> => EventName, |call| Ok(EventName(event(call)?.name.clone()));
    <K: OfEvent> => Attachments, |call| Ok(Attachments(event(call)?.attachments.clone()));
    <K: OfEvent> => Bytes, |call| {
        event(call)?.attachments.first().cloned().ok_or_else(|| Refusal::bad_request("the event has no attachment"))
    };
    <K: OfEvent> => Ack, |call| {
        let (socket, event) = (of_call(call)?.socket.clone().ok_or_else(misplaced)?, event(call)?);
        event.ack.is_taken.store(true, SeqCst);
        Ok(Ack { socket, state: event.ack.clone() })
    };
}

/// A type without borrowed parts.
#[doc(hidden)]
pub trait Kept: 'static {}
impl<T: 'static> Kept for T {}

impl<K: OfNamespace, S: Sync> FromCall<K, S> for Handshake {
    const NEEDS_REQUEST: bool = true;

    async fn from_call(_state: &S, call: &Call) -> Result<Self, Refusal> {
        Ok(of_call(call)?.handshake.clone())
    }
}

impl<S: Sync> FromCall<OnSocketEnd, S> for Reason {
    const NEEDS_REQUEST: bool = false;

    async fn from_call(_state: &S, call: &Call) -> Result<Self, Refusal> {
        of_call(call)?.reason.ok_or_else(misplaced)
    }
}
