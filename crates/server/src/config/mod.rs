//! The checked settings that a server is built with: [`Config`], and the types of its values. The command line and
//! the embedder fill it.

#[cfg(feature = "acme")]
pub(crate) mod acme;
pub(crate) mod address;
pub(crate) mod api_key;
pub(crate) mod auth;
pub(crate) mod authority;
pub(crate) mod base_path;
pub(crate) mod cookie;
pub(crate) mod expiry;
pub(crate) mod hooks;
pub(crate) mod hosts;
pub(crate) mod namespace;
pub(crate) mod origin;
pub(crate) mod proxies;
pub(crate) mod tls;
pub(crate) mod url;

use crate::config::address::Address;
use crate::config::api_key::ApiKey;
use crate::config::auth::AuthConfig;
use crate::config::base_path::BasePath;
use crate::config::hooks::HooksConfig;
use crate::config::hosts::Hosts;
use crate::config::namespace::NamespacePattern;
use crate::config::origin::Origins;
use crate::config::proxies::TrustedProxy;
use crate::config::tls::Tls;
use fanfare_hub::{Limits, Pattern, Rate, Rule, Rules};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// All settings of a server, with defaults that are safe on a development machine. `Builder::build` refuses a limit or
/// a time of zero that a configuration file may not have; other small values work.
#[derive(Debug, Clone)]
pub struct Config {
    /// Shards, each a thread with its own listener. Default: one for each core that the process may use.
    pub shards: usize,
    /// The rules. Default: none, so no channel can be used; [`open`](Self::open) allows every client everything.
    pub rules: Arc<Rules>,
    /// How clients are identified by tokens. Default: no keys, and every client is anonymous.
    pub auth: AuthConfig,
    /// What the application decides over HTTP. Default: nothing.
    pub hooks: HooksConfig,
    /// The keys of the HTTP API, `/api/v1/`. Default: none; then there is no API.
    pub api_keys: Vec<ApiKey>,
    /// The bounds of connections, channels and memory.
    pub limits: Limits,
    /// The pages of browsers that may open connections. Default: those of the same host.
    pub origins: Origins,
    /// The hosts that requests may name; this excludes a name that an attacker points to this machine. Default: on
    /// loopback addresses this machine's and those of `origins`, elsewhere any.
    pub hosts: Hosts,
    /// The path below which everything is served; `/healthz` also at the root. Default: the root.
    pub base_path: BasePath,
    /// The proxies that are believed when they say whom they speak for: by `Forwarded`, `X-Forwarded-For` and
    /// `X-Forwarded-Proto`, and on the addresses of [`proxy_protocol`](Self::proxy_protocol) by its header. Default:
    /// none.
    pub trusted_proxies: Vec<TrustedProxy>,
    /// The addresses among those that the server listens on whose connections begin with a header of the PROXY
    /// protocol, version 1 or 2, from a trusted proxy. Others are closed there. Default: none.
    pub proxy_protocol: Vec<Address>,
    /// Time for the whole head of a request to arrive, and the longest pause in a body that the server waits for.
    /// Default 10 s.
    pub head_timeout: Duration,
    /// The largest request head, in bytes. Default 16 KiB. Below 8 KiB it holds for the first request of a
    /// connection; later ones have 8 KiB. Over HTTP/2 it is the largest list of headers (RFC 9113 §6.5.2).
    pub head_bytes_max: usize,
    /// Connections of all kinds at once. Beyond the limit a WebSocket is closed with code 4004 (come back later), a
    /// page is answered 503, and probes and the HTTP API still work. Default 0: the limit of open files, less a reserve
    /// for these.
    pub connections_max: usize,
    /// Connections from one address (for IPv6: from one /64). Unix sockets are not counted. Connections of a trusted
    /// proxy are not counted, and a WebSocket or a stream over one counts for the client's own address. Default 0, no
    /// limit: many clients behind a NAT share one address, and so do all behind a proxy that is not trusted.
    pub connections_per_address_max: usize,
    /// How fast new connections may come. These can change while the server runs.
    pub new_connections: NewConnections,
    /// A shard that takes a turn so late is overload: for a second the node takes no new connections. Zero: never.
    /// Default 2 s.
    pub overload_lag: Duration,
    /// The memory of this process above which it takes no new connections. Default 0: nine tenths of what its
    /// container or the machine has. It is known on Linux only.
    pub memory_max: usize,
    /// How long an HTTP connection may be idle between two requests; HTTP/1.1 answers announce it by `Keep-Alive:
    /// timeout=…`. It is longer than the 60 s of usual load balancers, so that the balancer closes idle connections
    /// first. Default 75 s.
    pub http_idle_timeout: Duration,
    /// How long a peer may read nothing while bytes wait for it, before its connection is closed. Default 60 s.
    pub write_timeout: Duration,
    /// Requests to pages of the embedder's router whose answers have not begun. Further ones are answered 503. Default
    /// 16,384.
    pub pages_outstanding_max: usize,
    /// Time for a closing connection to read its last bytes and to close its side. A request of HTTP/1 whose client has
    /// closed its sending side is dropped after the same time without a write. Default 3 s.
    pub close_timeout: Duration,
    /// How long a server that is asked to stop continues to serve while `/readyz` answers 503, so that a load balancer
    /// sends no more clients. Then the drain begins. Default none.
    pub shutdown_delay: Duration,
    /// Whether `/events`, `/v1/sse`, `/v1/stream`, `/v1/poll` and `/v1/send` are served. Default: they are. Without
    /// them these paths belong to the pages of the program.
    pub streams: bool,
    /// Socket.IO. Default: it is not served.
    pub socketio: SocketIoConfig,
    /// Compression, for clients that can read it. Default: messages of 1 KiB and more.
    pub compression: Compression,
    /// The window over which a stopping server spreads the return of its clients. Default 10 s.
    pub drain_window: Duration,
    /// Certificate and key: with them the server speaks TLS on its TCP addresses, and nothing else there. Unix sockets
    /// and the admin port stay plain. Default: none.
    pub tls: Option<Tls>,
    /// For how long browsers that have come over TLS come over nothing else (RFC 6797, `Strict-Transport-Security`). It
    /// stands on the answers that the server makes, and not on the pages of the program. Default zero: they are not
    /// told. It has no effect without [`tls`](Self::tls).
    pub hsts: Duration,
    /// Where `/metrics`, `/healthz` and `/readyz` are served. Default: nowhere but `/healthz` on the main port.
    pub admin: AdminOn,
}

impl Config {
    /// The defaults with one rule, `**`, that allows every client everything: for trials, not for public servers.
    pub fn open() -> Self {
        let open = Rule::open(Pattern::new("**").expect("a valid pattern"));
        Config { rules: Arc::new(Rules::new(vec![open])), ..Config::default() }
    }

    /// The longest that a drain takes after [`shutdown_delay`](Self::shutdown_delay), where every shard takes its
    /// turns: time for open commands, time for clients to leave, time for events and notices that wait, and 2 s for a
    /// busy machine.
    pub fn drain_max(&self) -> Duration {
        let answering = self.close_timeout.max(Duration::from_millis(self.limits.hook_timeout_ms));
        answering + 2 * self.close_timeout + Duration::from_secs(2)
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            shards: std::thread::available_parallelism().map_or(1, usize::from),
            rules: Arc::default(),
            auth: AuthConfig::default(),
            hooks: HooksConfig::default(),
            api_keys: Vec::new(),
            limits: Limits::default(),
            origins: Origins::default(),
            hosts: Hosts::default(),
            base_path: BasePath::default(),
            trusted_proxies: Vec::new(),
            proxy_protocol: Vec::new(),
            head_timeout: Duration::from_secs(10),
            head_bytes_max: 16 << 10,
            connections_max: 0,
            connections_per_address_max: 0,
            new_connections: NewConnections::default(),
            overload_lag: Duration::from_secs(2),
            memory_max: 0,
            http_idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(60),
            pages_outstanding_max: 16_384,
            close_timeout: Duration::from_secs(3),
            shutdown_delay: Duration::ZERO,
            drain_window: Duration::from_secs(10),
            tls: None,
            hsts: Duration::ZERO,
            streams: true,
            socketio: SocketIoConfig::default(),
            compression: Compression::default(),
            admin: AdminOn::Off,
        }
    }
}

/// The rates of new connections, and besides of new sessions of clients that poll. A connection above one is asked to
/// come back later; probes and the HTTP API still work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewConnections {
    /// In all. Default: no limit.
    pub in_all: Option<Rate>,
    /// From one address (for IPv6: from one /64). Loopback addresses and Unix sockets are not counted, and those of a
    /// trusted proxy count for its clients. Default 600 in 10 s.
    pub per_address: Option<Rate>,
}

impl Default for NewConnections {
    fn default() -> Self {
        NewConnections { in_all: None, per_address: Some(Rate::new(600, 10_000)) }
    }
}

/// Socket.IO for its clients, with the events of a chat room built in (docs/socketio.md). Its other bounds are limits:
/// [`Limits::pong_timeout_ms`] and [`Limits::room_message_bytes_max`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketIoConfig {
    /// Whether it is served. Default false.
    pub enabled: bool,
    /// Where. Default `/socket.io/`.
    pub path: String,
    /// Time between pings. Default 25 s.
    pub ping_interval: Duration,
    /// The namespaces that exist besides `/`, as names and patterns. Default: none.
    pub namespaces: Vec<NamespacePattern>,
    /// Rooms of `/` that are channels of this name, so that clients of other protocols meet their sockets there.
    /// Default: none.
    pub bridge: Vec<Pattern>,
    /// The most namespaces that one connection is in at a time. Default 64.
    pub namespaces_max: usize,
    /// Time for a connection to enter its first namespace. Default 45 s.
    pub connect_timeout: Duration,
    /// The parser of all its clients: the `parser` option of theirs. Default [`Parser::Standard`].
    pub parser: Parser,
    /// Whether clients may poll. Default true.
    pub polling: bool,
    /// Whether clients may use a WebSocket. Default true.
    pub websocket: bool,
    /// Whether a client that polls may go on with a WebSocket; it needs both transports. Default true.
    pub upgrades: bool,
    /// Time for that, from the upgrade request on. The client polls on after it. Default 10 s.
    pub upgrade_timeout: Duration,
    /// A cookie with the id of the session, given to clients that begin by polling. Default none.
    pub cookie: Option<cookie::Cookie>,
    /// How long a client that was cut off may be away and still go on as the same socket (connection state recovery).
    /// Zero: such a client begins anew. Default zero.
    pub max_disconnection_duration: Duration,
    /// Whether a client that goes on as the same socket is let in without asking the guards of its namespace and the
    /// `on_connect` handler again: the reference's `skipMiddlewares`. Default true.
    pub skip_middlewares: bool,
    /// The message for a client that the application does not let in. Default `认证错误` (authentication error).
    pub refusal: String,
}

impl Default for SocketIoConfig {
    fn default() -> Self {
        SocketIoConfig {
            enabled: false,
            path: "/socket.io/".to_owned(),
            ping_interval: Duration::from_secs(25),
            namespaces: Vec::new(),
            bridge: Vec::new(),
            namespaces_max: 64,
            connect_timeout: Duration::from_secs(45),
            parser: Parser::Standard,
            polling: true,
            websocket: true,
            upgrades: true,
            upgrade_timeout: Duration::from_secs(10),
            cookie: None,
            max_disconnection_duration: Duration::ZERO,
            skip_middlewares: true,
            refusal: "认证错误".to_owned(),
        }
    }
}

/// A form of Socket.IO's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Parser {
    /// JSON, with binary data as attachments.
    Standard,
    /// MessagePack, as `socket.io-msgpack-parser` has it.
    Msgpack,
}

impl Parser {
    /// All of them, by the names that the settings have for them.
    pub(crate) const NAMED: [(&'static str, Parser); 2] =
        [("standard", Parser::Standard), ("msgpack", Parser::Msgpack)];

    pub(crate) fn name(self) -> &'static str {
        Parser::NAMED.iter().find(|(_, parser)| *parser == self).map_or("", |(name, _)| name)
    }
}

/// Compression, for clients that can read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compression {
    /// Messages to WebSockets whose clients offer permessage-deflate (RFC 7692), as browsers do. Such a client may also
    /// compress its own messages. Default true.
    pub websocket: bool,
    /// Pages and answers of the HTTP API, of polls and of sends, by gzip, for clients that accept it. Event streams and
    /// answers whose length is not known are sent as they are. Default true.
    pub http: bool,
    /// Shorter messages and answers are sent as they are. Default 1 KiB. So are messages of more than 1 MiB.
    pub bytes_min: usize,
}

impl Default for Compression {
    fn default() -> Self {
        Compression { websocket: true, http: true, bytes_min: 1 << 10 }
    }
}

/// Where `/metrics`, `/healthz` and `/readyz` are served. `/healthz` is on the main port in any case.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AdminOn {
    /// Only there: an embedded server opens only the ports that the program names.
    #[default]
    Off,
    /// On the ports of the server: for development, or if only trusted clients can reach them.
    MainPort,
    /// On an address of its own, which answers until the last client has gone.
    Address(Address),
}

impl AdminOn {
    /// `127.0.0.1:8081`: the default address of the metrics of a stand-alone server.
    pub fn default_address() -> Self {
        AdminOn::Address(Address::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8081)))
    }
}
