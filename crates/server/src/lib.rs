//! Fanfare as a library: a realtime server to embed, or to run as the binary `fanfare`.
//!
//! In: connections. Out: the messages of their channels. A node is a few shards, one to a core: each is a
//! single-threaded runtime with its own listener, its own connections and its own part of the hub
//! ([`fanfare_hub::Shard`]), so that the delivery path has no lock and no task to wake. The shells here own sockets and
//! time, and decide nothing about channels.
//!
//! ```no_run
//! # async fn run() -> Result<(), fanfare::ServeError> {
//! use fanfare::{Chat, Fanfare};
//!
//! let server = Fanfare::builder(()).channel("**", |c| c.open()).protocol("/", Chat::default()).build()?;
//! server.serve("127.0.0.1:8080").await
//! # }
//! ```

mod api;
pub mod auth;
mod clock;
mod config;
mod control;
mod counters;
mod embed;
mod error;
mod framing;
#[doc(hidden)]
pub mod fuzz;
mod harden;
pub mod hooks;
mod http;
mod journal;
mod limits;
mod logs;
mod outgoing;
mod protocol;
mod random;
mod refusal;
mod request;
mod server;
pub mod settings;
mod shard;
mod transport;
pub mod validation;
mod watch;

pub use api::Api;
pub use axum::Json;
pub use axum::extract::{FromRef, Query, State};
#[cfg(feature = "acme")]
pub use config::acme::Acme;
pub use config::address::{Address, InvalidAddress};
pub use config::api_key::{ApiKey, ApiKeyError};
pub use config::base_path::{BasePath, BasePathError};
pub use config::cookie::{Cookie, CookieError};
pub use config::hosts::{HostError, HostPattern, Hosts};
pub use config::namespace::{InvalidNamespace, NamespacePattern};
pub use config::origin::{Origin, OriginError, Origins};
pub use config::proxies::{TrustedProxy, TrustedProxyError};
pub use config::tls::{Tls, TlsError};
pub use config::{AdminOn, Compression, Config, NewConnections, Parser, SocketIoConfig};
pub use embed::handle::{ChannelPage, ConnectionPage, Handle, Published, UserPage};
pub use embed::publishing::{Broadcasting, Publishing};
pub use embed::signaling::Signaling;
pub use embed::socketio;
pub use embed::{
    Answers, Arguments, Call, Channel, ChannelRule, Claims, Cookies, FromCall, Handler, HappenedAt, Headers, Identity,
    IntoPresence, IntoWho, Member, Method, OnConnect, OnDisconnect, OnOccupancy, OnPresence, OnPublish, OnPublished,
    OnRpc, OnSubscribe, Refusal, Subject, Token, User, hours, mins, secs,
};
pub use error::ServeError;
pub use fanfare_hub as hub;
pub use fanfare_hub::{
    Caller, ChannelName, Data, Past, PresenceMode, Publish, SenderShown, Slow, SubOptions, UserId, Who,
};
pub use fanfare_wire::native::app::ApiCommand;
pub use logs::{LogError, LogFormat, LogGuard, LogSecrets, Logs};
pub use protocol::chat::Chat;
pub use protocol::native::Native;
pub use protocol::{Actions, Conversation, Echo, Encoded, Message, Place, Protocol, put_message};
pub use request::{Credentials, Peer, RequestId, RequestInfo};
pub use server::service::FanfareService;
pub use server::testing::{Closed, TestClient, TestServer};
pub use server::{Builder, Fanfare, Running, ShardStats};

pub use transport::listen_on::ListenOn;

/// The program in the README, compiled as it stands there.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
#[doc = include_str!("../../../README.zh-CN.md")]
struct Readme;

/// The programs of the guide, compiled and run as they stand there.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/embedding.md")]
#[doc = include_str!("../../../docs/socketio-handlers.md")]
struct Guide;
