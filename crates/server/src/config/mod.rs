//! The checked settings that a server is built with: [`Config`], and the types of its values. The command line and
//! the embedder fill it.

pub(crate) mod address;
pub(crate) mod api_key;
pub(crate) mod authority;
pub(crate) mod hosts;
pub(crate) mod origin;

use crate::config::address::Address;
use crate::config::api_key::ApiKey;
use crate::config::hosts::Hosts;
use crate::config::origin::Origins;
use fanfare_hub::{Limits, Pattern, Rule, Rules};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Everything that a server may be told, with defaults that are safe on a development machine.
/// `Builder::build` refuses a limit or a time of zero that a configuration file may not have; other small values work.
#[derive(Debug, Clone)]
pub struct Config {
    /// Shards, each a thread with its own listener. Default: one for each core that the process may use.
    pub shards: usize,
    /// The policy. Default: no rule, so that no channel can be used; [`open`](Self::open) lets everybody do everything.
    pub rules: Arc<Rules>,
    /// Who may use the HTTP API, `/api/v1/`. Default: nobody; then there is none.
    pub api_keys: Vec<ApiKey>,
    /// The bounds of connections, channels and memory.
    pub limits: Limits,
    /// Which pages of browsers may open connections. Default: those of the same host.
    pub origins: Origins,
    /// Which hosts requests may name: a name that was pointed to this machine for an attack is none of them. Default:
    /// on loopback addresses this machine's and those of `origins`, elsewhere any.
    pub hosts: Hosts,
    /// Time for a request's head to arrive whole, and the longest pause in a body that is waited for. Default 10 s.
    pub head_timeout: Duration,
    /// The largest request head, in bytes. Default 16 KiB. Below 8 KiB it holds for the first request of a
    /// connection; later ones have 8 KiB. Over HTTP/2 it is the largest list of headers (RFC 9113 §6.5.2).
    pub head_bytes_max: usize,
    /// Connections of all kinds at once. One more is told to come back (a WebSocket is closed by 4004), pages are
    /// refused by 503, and probes and the HTTP API go on. Default 0: what the limit of open files allows, with a part
    /// kept for those.
    pub connections_max: usize,
    /// Those from one address, of IPv6 from one /64. Unix sockets are not counted. Default 0, no limit: behind a
    /// proxy all clients have one address, behind a NAT many.
    pub connections_per_address_max: usize,
    /// How long an HTTP connection may be idle between two requests; HTTP/1.1 answers announce it by
    /// `Keep-Alive: timeout=…`. Longer than the 60 s of usual balancers, so that it is they who close. Default 75 s.
    pub http_idle_timeout: Duration,
    /// How long a peer may take nothing of what it is sent before its connection is closed. Default 60 s.
    pub write_timeout: Duration,
    /// Pages of the embedder's router that may be under way before their answers begin; more are refused by 503.
    /// Default 16,384.
    pub pages_outstanding_max: usize,
    /// Time for a closing connection to take what waits and to say goodbye. A request of HTTP/1 whose client has closed
    /// its sending side is dropped after the same time without a write. Default 3 s.
    pub close_timeout: Duration,
    /// How long a server that is told to stop goes on as before, but for `/readyz`, which says 503: so long a
    /// balancer may take to send no more clients. Then the drain begins. Default none.
    pub shutdown_delay: Duration,
    /// How long a stopping server spreads the return of its clients. Default 10 s.
    pub drain_window: Duration,
    /// Where `/metrics`, `/healthz` and `/readyz` are served. Default: nowhere but `/healthz` on the main port.
    pub admin: AdminOn,
}

impl Config {
    /// The defaults with one rule, `**`, that lets everybody do everything: to try things, not to serve strangers.
    pub fn open() -> Self {
        let open = Rule::open(Pattern::new("**").expect("a valid pattern"));
        Config { rules: Arc::new(Rules::new(vec![open])), ..Config::default() }
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            shards: std::thread::available_parallelism().map_or(1, usize::from),
            rules: Arc::default(),
            api_keys: Vec::new(),
            limits: Limits::default(),
            origins: Origins::default(),
            hosts: Hosts::default(),
            head_timeout: Duration::from_secs(10),
            head_bytes_max: 16 << 10,
            connections_max: 0,
            connections_per_address_max: 0,
            http_idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(60),
            pages_outstanding_max: 16_384,
            close_timeout: Duration::from_secs(3),
            shutdown_delay: Duration::ZERO,
            drain_window: Duration::from_secs(10),
            admin: AdminOn::Off,
        }
    }
}

/// Where `/metrics`, `/healthz` and `/readyz` are served. `/healthz` is on the main port in any case.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AdminOn {
    /// Nowhere else: a server within a program opens no port that nobody asked for.
    #[default]
    Off,
    /// On the ports of the server: for development, and where nobody else can reach them.
    MainPort,
    /// On an address of its own, which answers until the last client has gone.
    Address(Address),
}

impl AdminOn {
    /// `127.0.0.1:8081`: where a server that runs by itself is watched, unless told otherwise.
    pub fn default_address() -> Self {
        AdminOn::Address(Address::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8081)))
    }
}
