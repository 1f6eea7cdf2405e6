//! A server, built and then started: the types that an embedding program begins with.
//!
//! `builder` collects its parts and checks them, `start` starts its shards, `running` is the server while it runs, and
//! `reload` replaces its rules and keys. `admin` has its probes and metrics, `inspect` answers an operator, `service`
//! makes it a part of another server, and `testing` is a server for tests.

pub(crate) mod admin;
mod builder;
mod inspect;
#[cfg(feature = "acme")]
mod ordering;
pub(crate) mod reload;
mod running;
pub(crate) mod service;
mod start;
pub(crate) mod testing;

pub use builder::Builder;
pub use running::{Running, ShardStats};

use crate::api::{Api, CurrentApi};
use crate::clock::Clock;
use crate::config::Config;
use crate::config::address::Address;
use crate::control::Control;
use crate::embed::Handlers;
use crate::embed::handle::Handle;
use crate::error::ServeError;
use crate::hooks::HttpHooks;
use crate::protocol::ProtocolAtPath;
use crate::server::reload::{Code, Reloader};
use crate::server::service::FanfareService;
use crate::transport::listen::{Listeners, ShardListener, listen};
use crate::transport::listen_on::{ListenOn, Target};
use std::net::ToSocketAddrs as _;
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedReceiver;

/// A server that has been built and does not run yet.
pub struct Fanfare {
    pub(crate) handlers: Arc<Handlers>,
    hooks: Option<Arc<HttpHooks>>,
    handle: Handle,
    inboxes: Vec<UnboundedReceiver<Control>>,
    clock: Clock,
    config: Arc<Config>,
    code: Code,
    protocols: Vec<ProtocolAtPath>,
    api: CurrentApi,
    pages: Option<axum::Router>,
}

impl Fanfare {
    /// Begins a server without any protocol or rule. Handlers get `state` by [`State`](crate::State): `()` if
    /// they share nothing.
    pub fn builder<S: Clone + Send + Sync + 'static>(state: S) -> Builder<S> {
        Builder::new(state)
    }

    /// For a test: time advances only on request. One shard, as then its clock is the only one.
    pub(crate) fn on_manual_clock(&mut self) {
        self.clock = Clock::manual();
        // Earlier handles are of the same server: their commands, earlier ones included, go to the one shard.
        self.handle.restrict_to_one_shard();
        for mut unused in self.inboxes.drain(1..) {
            while let Ok(asked) = unused.try_recv() {
                let _ = self.handle.controls()[0].send(asked); // its inbox is ours, so the send succeeds
            }
        }
        self.config = Arc::new(Config { shards: 1, ..(*self.config).clone() });
    }

    pub(crate) fn protocols(&self) -> &[ProtocolAtPath] {
        &self.protocols
    }

    /// The application's interface: publishes, reads, disconnects. Commands that are sent before the start wait for it.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The HTTP API, to be mounted elsewhere too; `None` without keys. The server's own listeners serve it anyway.
    pub fn api(&self) -> Option<Api> {
        Api::of(&self.api)
    }

    /// Serves all other requests by an axum router. Its pages run on the runtime that the server is started on, as
    /// handlers do, or on a thread of their own if there is none. So a slow page delays only its own client.
    #[must_use]
    pub fn fallback(mut self, pages: axum::Router) -> Self {
        self.pages = Some(pages);
        self
    }

    /// Starts on an address and runs until a shard fails: `127.0.0.1:8080`, a name with a port, `unix:PATH`, or a
    /// listener of std or tokio that is open already ([`ListenOn`] has the list).
    ///
    /// Dropping the future stops the server: it accepts nothing more, closes its connections and ends the shards, but
    /// the drop does not wait for that. To stop in good order and wait, use [`serve_until`](Self::serve_until).
    ///
    /// # Errors
    /// [`ServeError`] when it cannot start, or a shard failed.
    pub async fn serve(self, on: impl Into<ListenOn>) -> Result<(), ServeError> {
        self.serve_until(on, std::future::pending()).await
    }

    /// The same until `signal` comes: then it [drains](Running::drain), so that clients miss nothing and know when to
    /// come back.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), fanfare::ServeError> {
    /// use fanfare::Fanfare;
    ///
    /// let server = Fanfare::builder(()).channel("chat:*", |c| c.open()).build()?;
    /// // Most programs wait for `tokio::signal::ctrl_c()` here; this one uses a channel.
    /// let (stop, stopped) = tokio::sync::oneshot::channel();
    /// tokio::spawn(async move { stop.send(()) });
    /// server.serve_until("127.0.0.1:0", async { drop(stopped.await) }).await
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ServeError`] when it cannot start, or a shard failed.
    #[doc(alias = "with_graceful_shutdown")]
    pub async fn serve_until(
        self,
        on: impl Into<ListenOn>,
        signal: impl Future<Output = ()>,
    ) -> Result<(), ServeError> {
        let on = on.into();
        let all = match on.0 {
            Target::Name(address) => {
                let found = tokio::net::lookup_host(&address).await.map(|found| found.map(ListenOn::from).collect());
                found.map_err(|source| ServeError::Resolve { address, source })?
            }
            known => vec![ListenOn(known)],
        };
        let mut running = self.start_on(all)?; // stops with this future
        tokio::select! {
            () = running.gone() => running.join_blocking(), // they have ended: nothing blocks
            () = signal => running.drain().await,
        }
    }

    /// Starts on all of these addresses, each shared by all shards, and returns when connections are accepted.
    ///
    /// # Errors
    /// [`ServeError::Listen`] names the address that cannot be listened on; nothing runs then.
    pub fn start(self, addresses: &[Address]) -> Result<Running, ServeError> {
        self.start_on(addresses)
    }

    /// The same for addresses and listeners that the program has opened. A name is looked up, which blocks.
    ///
    /// # Errors
    /// [`ServeError`] names the address that cannot be listened on; nothing runs then.
    pub fn start_on(self, all: impl IntoIterator<Item = impl Into<ListenOn>>) -> Result<Running, ServeError> {
        let shards = self.config.shards;
        let mut listeners: Vec<Vec<ShardListener>> = (0..shards).map(|_| Vec::new()).collect();
        let mut bound = Vec::new();
        let mut proxied = self.config.proxy_protocol.clone();
        for on in all {
            let on = on.into();
            let asked = on.address().cloned();
            for opened in open(on, shards)? {
                let is_it = |address: &Address| *address == opened.address || asked.as_ref() == Some(address);
                let expects_proxy = self.config.proxy_protocol.iter().any(is_it);
                proxied.retain(|address| !is_it(address));
                bound.push(opened.address);
                for (listeners, listener) in listeners.iter_mut().zip(opened.sockets) {
                    listeners.push(ShardListener { listener, expects_proxy });
                }
            }
        }
        for address in proxied {
            tracing::warn!(%address, "proxy_protocol names an address that this server does not listen on");
        }
        let reloader = self.reloader();
        let (_, started) = self.start_shards(listeners)?;
        Ok(Running { addresses: bound, started, reloader })
    }

    /// Starts without listening: the service takes requests and upgrades from another server, and the shards do the
    /// rest. [`FanfareService`] describes the cost compared with [`serve`](Self::serve).
    ///
    /// # Errors
    /// [`ServeError`] when the shards cannot start.
    pub fn into_service(self) -> Result<(FanfareService, Running), ServeError> {
        let reloader = self.reloader();
        let no_listeners = (0..self.config.shards).map(|_| Vec::new()).collect();
        let (routes, started) = self.start_shards(no_listeners)?;
        let service = FanfareService::new(routes, reloader.handle.controls().to_vec());
        Ok((service, Running { addresses: Vec::new(), started, reloader }))
    }

    fn reloader(&self) -> Reloader {
        let (handle, config, handlers) = (self.handle.clone(), self.config.clone(), self.handlers.clone());
        Reloader { handle, config, api: self.api.clone(), code: self.code.clone(), hooks: self.hooks.clone(), handlers }
    }
}

/// The listeners of all addresses of `on`.
fn open(on: ListenOn, shards: usize) -> Result<Vec<Listeners>, ServeError> {
    let at = |address: Address| listen(&address, shards).map_err(|source| ServeError::Listen { address, source });
    let failed = |source| ServeError::System { what: "listener", source };
    match on.0 {
        Target::Address(address) => Ok(vec![at(address)?]),
        Target::Name(address) => match address.to_socket_addrs() {
            Ok(found) => found.map(|address| at(Address::Tcp(address))).collect(),
            Err(source) => Err(ServeError::Resolve { address, source }),
        },
        Target::Opened(opened) => Ok(vec![opened.share(shards).map_err(failed)?]),
        Target::Failed(source) => Err(failed(source)),
    }
}
