//! The kinds of Socket.IO handlers, and what they may return.

use super::args::NotArgs;
use crate::embed::answer::{Identity, Refusal};
use crate::protocol::socketio::Payload;
use serde::Serialize;

/// Marks the guards of a namespace: they let a client in or refuse it.
#[derive(Debug, Clone, Copy)]
pub enum OnGuard {}
/// Marks handlers of a socket that has entered.
#[derive(Debug, Clone, Copy)]
pub enum OnSocket {}
/// Marks handlers of events.
#[derive(Debug, Clone, Copy)]
pub enum OnEvent {}
/// Marks the middlewares of sockets: they see each event before its handler, and let it through or refuse it.
#[derive(Debug, Clone, Copy)]
pub enum OnUse {}
/// Marks handlers of a socket that has left.
#[derive(Debug, Clone, Copy)]
pub enum OnSocketEnd {}
/// Marks a handler of events whose return value is the ack: any value that can be written as JSON.
#[derive(Debug, Clone, Copy)]
pub enum Plain {}
/// Marks a handler of events that can fail.
#[derive(Debug, Clone, Copy)]
pub enum Fallible {}

/// The result of a handler, of any kind.
#[derive(Debug)]
pub struct Outcome(pub(super) Done);

#[derive(Debug)]
pub(super) enum Done {
    /// Done; there is nothing to say.
    Quietly,
    /// The arguments of the ack.
    Ack(Result<Payload, NotArgs>),
    /// A guard lets the client in, perhaps as a user.
    Admitted(Option<Box<Identity>>),
    Refused(Refusal),
}

/// An output of a Socket.IO handler of the kind `K`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an output of this kind of Socket.IO handler",
    label = "the handler returns `{Self}`",
    note = "guard: `()`, or an `Identity`, `String`, `&str`, `UserId` or `Option<UserId>` for the user, or a \
            `Result<_, fanfare::Refusal>` of these",
    note = "use_, on_any, on_connect and on_disconnect: `()`, or `Result<(), fanfare::Refusal>`"
)]
pub trait SocketAnswers<K> {
    /// The result for the server.
    #[doc(hidden)]
    fn outcome(self) -> Outcome;
}

macro_rules! nothing_to_say {
    ($($Kind:ty => $done:expr;)*) => {
        $(
            impl SocketAnswers<$Kind> for () {
                fn outcome(self) -> Outcome {
                    $done
                }
            }

            impl SocketAnswers<$Kind> for Result<(), Refusal> {
                fn outcome(self) -> Outcome {
                    match self {
                        Ok(()) => $done,
                        Err(refusal) => Outcome(Done::Refused(refusal)),
                    }
                }
            }
        )*
    };
}

nothing_to_say! {
    OnGuard => Outcome(Done::Admitted(None));
    OnSocket => Outcome(Done::Quietly);
    OnUse => Outcome(Done::Quietly);
    OnEvent => Outcome(Done::Quietly);
    OnSocketEnd => Outcome(Done::Quietly);
}

macro_rules! users {
    ($($T:ty),*) => {
        $(
            impl SocketAnswers<OnGuard> for $T {
                fn outcome(self) -> Outcome {
                    Outcome(Done::Admitted(Some(Box::new(Identity::from(self)))))
                }
            }

            impl SocketAnswers<OnGuard> for Result<$T, Refusal> {
                fn outcome(self) -> Outcome {
                    match self {
                        Ok(user) => SocketAnswers::<OnGuard>::outcome(user),
                        Err(refusal) => Outcome(Done::Refused(refusal)),
                    }
                }
            }
        )*
    };
}

users!(Identity, fanfare_hub::UserId, String, &'static str, Option<fanfare_hub::UserId>);

/// An output of a handler of events: what its client gets as the ack, if it asked for one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an output of a handler of Socket.IO events",
    label = "the handler returns `{Self}`",
    note = "it returns any value that implements `serde::Serialize`, which is the ack: a tuple is several arguments, `()` none",
    note = "a handler that can fail returns `Result<_, fanfare::Refusal>`; `?` turns any error into a `Refusal`. A closure says \
            so at its end: `Ok::<_, Refusal>(…)`"
)]
pub trait EventAnswers<M> {
    /// The result for the server.
    #[doc(hidden)]
    fn outcome(self) -> Outcome;
}

impl<T: Serialize> EventAnswers<Plain> for T {
    fn outcome(self) -> Outcome {
        Outcome(Done::Ack(Payload::ack(&self)))
    }
}

impl<T: Serialize> EventAnswers<Fallible> for Result<T, Refusal> {
    fn outcome(self) -> Outcome {
        match self {
            Ok(value) => Outcome(Done::Ack(Payload::ack(&value))),
            Err(refusal) => Outcome(Done::Refused(refusal)),
        }
    }
}
