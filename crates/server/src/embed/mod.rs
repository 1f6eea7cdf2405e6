//! Embedding: an application's handlers, as plain async functions whose arguments are extractors.
//!
//! In: the hub's questions (may this one connect, subscribe, publish; this method is called), and its notices of what
//! has happened ([`news`]), which need no answer. Out: one answer to each question, always: a handler that panics
//! answers `internal`, one that is too slow `timeout`. Handlers run on the runtime that
//! [`Fanfare::start`](crate::Fanfare::start) was called on, never on a shard; the hub bounds how many run at once, and
//! keeps one connection's commands on one channel in order while it waits.
//!
//! [`handler`] turns functions into erased handlers, [`extract`] has the extractors, [`answer`] what handlers may
//! return, [`dispatch`] runs them, [`channels`] builds rules in code. [`socketio`] has the handlers of Socket.IO.

mod answer;
mod channels;
mod dispatch;
mod extract;
pub(crate) mod handle;
mod handler;
#[allow(dead_code)] // for programs: their interface to it comes with handlers in code
pub(crate) mod namespace;
mod news;
mod notice;
pub(crate) mod payload;
pub(crate) mod publishing;
pub(crate) mod runtime;
pub(crate) mod signaling;
pub mod socketio;
#[cfg(test)]
mod tests;

pub use answer::{Answers, Identity, Refusal};
pub use channels::{ChannelRule, IntoPresence, IntoWho, hours, mins, secs};
pub use extract::{
    Call, Channel, Claims, Cookies, FromCall, HappenedAt, Headers, Member, Method, Subject, Token, User,
};
pub use handler::{
    Arguments, Handler, OnConnect, OnDisconnect, OnOccupancy, OnPresence, OnPublish, OnPublished, OnRpc, OnSubscribe,
};

pub(crate) use dispatch::{ChannelHandler, Dispatcher, Handlers, NewsOfHandlers, Notify, text as panic_text};
pub(crate) use handler::{Erased, erase};
pub(crate) use news::{News, NewsBounds};
pub(crate) use notice::NoticeKind;
