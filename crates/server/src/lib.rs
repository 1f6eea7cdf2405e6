//! Fanfare as a library: a realtime server to embed, or to run as the binary `fanfare`.
//!
//! In: connections. Out: what their channels carry. A node is a few shards, one to a core: each is a single-threaded
//! runtime with its own listener, its own connections and its own part of the hub ([`fanfare_hub::Shard`]), so that
//! the delivery path has no lock and no task to wake. The shells here own sockets and time, and decide nothing about
//! channels.
//!
//! ```no_run
//! # async fn run() -> Result<(), fanfare::ServeError> {
//! use fanfare::{Chat, Fanfare};
//!
//! let server = Fanfare::builder(()).channel("**", |c| c.open()).protocol("/", Chat::default()).build()?;
//! server.serve("127.0.0.1:8080").await
//! # }
//! ```

mod admission;
mod api;
mod authority;
mod chat;
mod clock;
mod config;
mod embed;
mod gate;
mod handle;
mod hosts;
mod http;
mod listen;
mod native;
mod origin;
mod pace;
mod pages;
mod payload;
mod protocol;
mod refusal;
mod reload;
mod server;
mod service;
pub mod settings;
mod shard;
mod spare;
mod testing;
mod watch;

pub use api::{Api, ApiKey, ApiKeyError};
pub use axum::Json;
pub use axum::extract::{FromRef, State};
pub use chat::Chat;
pub use config::Config;
pub use embed::{
    Answers, Call, Channel, ChannelRule, FromCall, Handler, Identity, IntoPresence, IntoWho, Member, Method, OnConnect,
    OnDisconnect, OnPublish, OnRpc, OnSubscribe, Refusal, Subject, Token, User, hours, mins, secs,
};
pub use fanfare_hub as hub;
pub use fanfare_hub::{Caller, ChannelName, Data, PresenceMode, Publish, Slow, SubOptions, UserId, Who};
pub use fanfare_wire::native::app::Kind as ApiCommand;
pub use handle::{Handle, Published};
pub use hosts::{HostError, HostPattern, Hosts};
pub use listen::{Address, InvalidAddress};
pub use native::Native;
pub use origin::{Origin, OriginError, Origins};
pub use protocol::{Conversation, Echo, Encoded, Message, Place, Protocol, Turn};
pub use server::{Builder, Fanfare, Running, ServeError};
pub use service::FanfareService;
pub use testing::{TestClient, TestServer};
pub use watch::AdminOn;
pub use watch::logs::{LogError, LogFormat, LogGuard, LogSecrets, Logs};
pub use watch::request::RequestId;

/// The program in the README, compiled as it stands there.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
#[doc = include_str!("../../../README.zh-CN.md")]
struct Readme;
