//! A server: built from protocols and settings, then running on its shards until it is stopped.

pub(crate) mod admin;
pub(crate) mod reload;
pub(crate) mod service;
pub(crate) mod testing;

use crate::api::{Api, CurrentApi};
use crate::clock::Clock;
use crate::config::AdminOn;
use crate::config::Config;
use crate::config::address::Address;
use crate::config::api_key::ApiKey;
use crate::config::hosts::Via;
use crate::control::Control;
use crate::counters::TimedStore;
use crate::embed::handle::Handle;
use crate::embed::runtime::runtime_of_handlers;
use crate::embed::{
    Answers, Arguments, ChannelRule, Dispatcher, Erased, Handler, Handlers, News, OnConnect, OnDisconnect, OnPublish,
    OnRpc, OnSubscribe, erase,
};
use crate::error::ServeError;
use crate::http::gate::Gate;
use crate::http::pages::Pages;
use crate::http::routes::{Routes, Upgrade};
use crate::protocol::native::Native;
use crate::protocol::{Node, Place, Protocol};
use crate::random::{fill_random, random};
use crate::server::admin::AdminServer;
use crate::server::reload::{Code, Reloader};
use crate::server::service::FanfareService;
use crate::settings::Setting;
use crate::shard::{self, Batch, Inbox, Links, Meeting, Parted, Shell, shard_id};
use crate::transport::admission::Connections;
use crate::transport::listen::{Listener, listen};
use crate::transport::pace::Times;
use crate::watch::{State, Watch};
use fanfare_hub::{MemoryStore, Pattern, Rule, Rules, Shard, ShardConfig, Stats, WireId};
use std::convert::Infallible;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{Receiver, UnboundedReceiver, UnboundedSender, channel, unbounded_channel};
use tokio::sync::oneshot;

/// The most shards that a node may have.
const SHARDS_MAX: usize = 1024;
/// Where the native protocol is spoken, unless the builder puts another one of its own there.
const NATIVE_PATH: &str = "/v1/ws";
/// The most protocols that a server may speak, besides the native one.
const PROTOCOLS_MAX: usize = 255;

/// Collects what a server is to be. `S` is the application's state, which handlers take by [`State`](crate::State);
/// nothing is generic after [`build`](Self::build).
pub struct Builder<S = ()> {
    state: S,
    config: Config,
    protocols: Vec<(String, Arc<dyn Protocol>)>,
    pages: Option<axum::Router>,
    channels: Vec<Rule>,
    api_keys: Vec<ApiKey>,
    handlers: Handlers,
    /// The first thing that was wrong: `build` tells it, so that the calls can be chained.
    wrong: Option<ServeError>,
}

/// A server that has been built and does not run yet.
pub struct Fanfare {
    pub(crate) handlers: Arc<Handlers>,
    handle: Handle,
    inboxes: Vec<UnboundedReceiver<Control>>,
    clock: Clock,
    config: Arc<Config>,
    code: Code,
    protocols: Vec<(String, Arc<dyn Protocol>)>,
    api: CurrentApi,
    pages: Option<axum::Router>,
}

/// A server that runs, until it is told to stop: [`drain`](Self::drain). Dropping it stops the server too, whatever
/// else of it is still held (a [`Handle`], a [`FanfareService`]): nothing is accepted any more, clients are told to
/// come back, and the shards end. A drop does not wait for that.
#[must_use = "dropping this stops the server"]
pub struct Running {
    addresses: Vec<Address>,
    started: Started,
    reloader: Reloader,
}

/// What runs: the shards, and whoever watches them. Dropped, it stops them.
struct Started {
    threads: Vec<JoinHandle<Parted>>,
    watch: Arc<Watch>,
    _stop: StopWithMe,
    admin: Option<AdminServer>,
    /// Nothing comes: it ends with the last shard.
    gone: Receiver<Infallible>,
}

/// Threads of shards that wait for the word to begin. Dropped before that, none of them accepts anything: they end,
/// and the drop waits for that, so that a start that failed leaves no thread, port or file behind.
#[derive(Default)]
struct Starting {
    threads: Vec<JoinHandle<Parted>>,
    words: Vec<oneshot::Sender<()>>,
}

impl Starting {
    /// Lets all of them begin.
    fn begin(mut self) -> Vec<JoinHandle<Parted>> {
        for word in self.words.drain(..) {
            let _ = word.send(()); // a shard that has failed since is found by `join`
        }
        std::mem::take(&mut self.threads)
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        self.words.clear();
        for thread in self.threads.drain(..) {
            let _ = thread.join(); // its panic was told by its hook
        }
    }
}

/// Has the shards stop when it is dropped, for whoever is not there any more to say so.
struct StopWithMe {
    watch: Arc<Watch>,
    shards: Vec<UnboundedSender<Control>>,
}

impl Drop for StopWithMe {
    fn drop(&mut self) {
        self.watch.set(State::Draining);
        for shard in &self.shards {
            let _ = shard.send(Control::Drain); // one that has ended or failed needs no telling
        }
    }
}

impl Fanfare {
    /// Begins a server without any protocol or rule. `state` is what handlers get by [`State`](crate::State): `()`
    /// where there is nothing to share.
    pub fn builder<S: Clone + Send + Sync + 'static>(state: S) -> Builder<S> {
        Builder {
            state,
            config: Config::default(),
            protocols: Vec::new(),
            pages: None,
            channels: Vec::new(),
            api_keys: Vec::new(),
            handlers: Handlers::default(),
            wrong: None,
        }
    }

    /// For a test: time goes on only when it says so. One shard, as then its clock is the only one.
    pub(crate) fn on_manual_clock(&mut self) {
        self.clock = Clock::manual();
        // Handles that were taken before are of the same server: what they ask, and have asked, goes to the shard
        // that there is.
        self.handle.restrict_to_one_shard();
        for mut unused in self.inboxes.drain(1..) {
            while let Ok(asked) = unused.try_recv() {
                let _ = self.handle.controls()[0].send(asked); // its inbox is ours: it takes it
            }
        }
        self.config = Arc::new(Config { shards: 1, ..(*self.config).clone() });
    }

    pub(crate) fn protocols(&self) -> &[(String, Arc<dyn Protocol>)] {
        &self.protocols
    }

    /// The application's way in: publishes, asks, disconnects. Commands that are given before the start wait for it.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The HTTP API, to be mounted elsewhere too; `None` without keys. The server's own listeners serve it anyway.
    pub fn api(&self) -> Option<Api> {
        Api::of(&self.api)
    }

    /// Serves what no protocol takes from here: any axum router. Its pages run on the runtime that the server is
    /// started on, as handlers do, or on a thread of their own where there is none: a page that takes its time keeps
    /// no client waiting but its own.
    #[must_use]
    pub fn fallback(mut self, pages: axum::Router) -> Self {
        self.pages = Some(pages);
        self
    }

    /// Starts on an address and runs until a shard fails: `127.0.0.1:8080`, a name with a port, or `unix:PATH`.
    ///
    /// Dropping the future stops the server: nothing is accepted any more, clients are sent away and the shards end,
    /// but nobody waits for that. To stop in good order, which waits, use [`serve_until`](Self::serve_until).
    ///
    /// # Errors
    /// [`ServeError`] when it cannot start, or a shard failed.
    pub async fn serve(self, address: &str) -> Result<(), ServeError> {
        self.serve_until(address, std::future::pending()).await
    }

    /// The same until `signal` comes: then it [drains](Running::drain), so that clients miss nothing and know when to
    /// come back.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), fanfare::ServeError> {
    /// use fanfare::Fanfare;
    ///
    /// let server = Fanfare::builder(()).channel("chat:*", |c| c.open()).build()?;
    /// // Most wait for `tokio::signal::ctrl_c()` here; this one is told from elsewhere.
    /// let (stop, stopped) = tokio::sync::oneshot::channel();
    /// tokio::spawn(async move { stop.send(()) });
    /// server.serve_until("127.0.0.1:0", async { drop(stopped.await) }).await
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ServeError`] when it cannot start, or a shard failed.
    #[doc(alias = "with_graceful_shutdown")]
    pub async fn serve_until(self, address: &str, signal: impl Future<Output = ()>) -> Result<(), ServeError> {
        let addresses = match address.parse::<Address>() {
            Ok(address) => vec![address],
            Err(_) => {
                let resolve = |source| ServeError::Resolve { address: address.to_owned(), source };
                tokio::net::lookup_host(address).await.map_err(resolve)?.map(Address::Tcp).collect()
            }
        };
        let mut running = self.start(&addresses)?; // stops with this future
        tokio::select! {
            () = running.gone() => running.join_blocking(), // they have ended: nothing blocks
            () = signal => running.drain().await,
        }
    }

    /// Starts on all of these addresses, each shared by all shards, and returns when connections are accepted.
    ///
    /// # Errors
    /// [`ServeError::Listen`] names the address that could not be had; nothing runs then.
    pub fn start(self, addresses: &[Address]) -> Result<Running, ServeError> {
        let shards = self.config.shards;
        let mut listeners: Vec<Vec<Listener>> = (0..shards).map(|_| Vec::new()).collect();
        let mut bound = Vec::new();
        for address in addresses {
            let refused = |source| ServeError::Listen { address: address.clone(), source };
            let opened = listen(address, shards).map_err(refused)?;
            bound.push(opened.address);
            for (listeners, listener) in listeners.iter_mut().zip(opened.sockets) {
                listeners.push(listener);
            }
        }
        let reloader = self.reloader();
        let (_, started) = self.start_shards(listeners)?;
        Ok(Running { addresses: bound, started, reloader })
    }

    /// Starts without listening: the service takes requests and upgrades from another server, and the shards do the
    /// rest. What that costs beside [`serve`](Self::serve): see [`FanfareService`].
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
        let (handle, config) = (self.handle.clone(), self.config.clone());
        Reloader { handle, config, api: self.api.clone(), code: self.code.clone() }
    }

    fn start_shards(self, listeners: Vec<Vec<Listener>>) -> Result<(Routes, Started), ServeError> {
        let admin = match &self.config.admin {
            AdminOn::Address(address) => Some(admin::Bound::at(address)?),
            AdminOn::MainPort | AdminOn::Off => None,
        };
        let names = self.protocols.iter().map(|(_, protocol)| protocol.name()).collect();
        let watch = Watch::new(self.handle.controls(), names, Connections::new(&self.config));
        let own = match &self.config.admin {
            AdminOn::MainPort => admin::router(watch.clone()),
            AdminOn::Address(_) | AdminOn::Off => admin::health(watch.clone()),
        };
        let pages = match &self.pages {
            Some(pages) => {
                let Config { pages_outstanding_max, head_timeout, .. } = *self.config;
                own.fallback_service(Pages::new(pages.clone(), pages_outstanding_max, head_timeout)?)
            }
            None => own,
        };
        let shards = self.config.shards;
        let placement_key = self.handle.placement_key();
        let protocols: Vec<Arc<dyn Protocol>> = self.protocols.iter().map(|(_, protocol)| protocol.clone()).collect();
        let upgrades = self.protocols.iter().enumerate().map(|(wire, (path, protocol))| Upgrade {
            path: path.clone(),
            wire: WireId(wire as u8),
            protocol: protocol.clone(),
        });
        let mut secret = [0; 32];
        fill_random(&mut secret)?;
        let node = Arc::new(Node { id: random()?, secret, limits: self.config.limits.clone() });
        let gate = Arc::new(Gate { hosts: self.config.hosts.clone(), origins: self.config.origins.clone() });
        let routes = Routes {
            upgrades: upgrades.collect(),
            api: self.api.clone(),
            watch: watch.clone(),
            gate: gate.clone(),
            via: Via::Mounted, // a listener puts its own way there
            pages,
        };
        let runtime = if self.handlers.is_empty() { None } else { Some(runtime_of_handlers()?) };
        let (batch_senders, batch_receivers): (Vec<UnboundedSender<Batch>>, Vec<_>) =
            (0..shards).map(|_| unbounded_channel()).unzip();
        let hooks = Arc::new(self.handlers.hooks());
        let news = Arc::new(News::default());
        let mut starting = Starting::default();
        let meeting = Meeting::of(shards);
        let alive = Arc::new(());
        let (still_there, gone) = channel(1);
        let inboxes = listeners.into_iter().zip(batch_receivers).zip(self.inboxes);
        for (index, ((listeners, batches), control)) in inboxes.enumerate() {
            let me = shard_id(index);
            let links = Links::new(me, batch_senders.clone());
            let place = Place::new(node.clone(), me);
            let meeting = meeting.clone();
            let dispatcher = runtime.clone().map(|runtime| Dispatcher {
                handlers: self.handlers.clone(),
                runtime,
                handle: self.handle.clone(),
                clock: self.clock.clone(),
                deadline: Duration::from_millis(self.config.limits.hook_timeout_ms),
                news: news.clone(),
                watch: watch.clone(),
                back: self.handle.controls()[index].clone(),
            });
            let seeds = (random()?, random()?);
            let (config, protocols, shard_routes) = (self.config.clone(), protocols.clone(), routes.clone());
            let (clock, hooks, alive) = (self.clock.clone(), hooks.clone(), alive.clone());
            let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
            let (word, begin) = oneshot::channel();
            let still_there = still_there.clone();
            let body = move || {
                let _still_there = still_there;
                let now = clock.now();
                let limits = Arc::new(config.limits.for_one_of(config.shards));
                let (store, store_times) = TimedStore::new(MemoryStore::new(&limits, seeds.0));
                let shard = ShardConfig {
                    me,
                    shards: config.shards,
                    rules: config.rules.clone(),
                    hooks,
                    limits,
                    seed: seeds.1,
                    placement_key,
                };
                let hub = Shard::new(shard, Box::new(store), now);
                let mut shell = Shell::new(hub, config, protocols, place, links, dispatcher, clock);
                shell.watch_store(store_times);
                let inbox = Inbox { begin, batches, control, meeting, alive };
                shard::run(shell, listeners, shard_routes, inbox, ready)
            };
            let failed = |source| ServeError::System { what: "thread", source };
            let thread = std::thread::Builder::new().name(format!("shard-{index}")).spawn(body).map_err(failed)?;
            starting.threads.push(thread);
            starting.words.push(word);
            let is_ready = is_ready.recv().map_err(|_| ServeError::Shard)?; // within milliseconds: the thread only makes its runtime
            is_ready.map_err(|source| ServeError::System { what: "runtime for a shard", source })?;
        }
        let admin = admin
            .map(|bound| bound.serve(admin::router(watch.clone()), gate, Times::of(&self.config), watch.clone()))
            .transpose()?;
        let _stop = StopWithMe { watch: watch.clone(), shards: self.handle.controls().to_vec() };
        watch.set(State::Ready);
        Ok((routes, Started { threads: starting.begin(), watch, _stop, admin, gone }))
    }
}

impl<S: Clone + Send + Sync + 'static> Builder<S> {
    /// Takes these settings in place of the defaults.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Takes the settings of this file, of the environment (`FANFARE__…`) and of the defaults, as `docs/config.md`
    /// has them. Its rules stand before those of the code. Where it listens is said by [`Fanfare::serve`], not by the
    /// file.
    ///
    /// # Errors
    /// [`Problems`](crate::settings::Problems) name everything that is wrong; a file that cannot be read is one.
    pub fn config_file(self, path: &str) -> Result<Self, crate::settings::Problems> {
        Ok(self.config(crate::settings::of_embedder(path, true)?))
    }

    /// The same for a file that need not be there.
    ///
    /// # Errors
    /// See [`config_file`](Self::config_file).
    pub fn config_file_if_exists(self, path: &str) -> Result<Self, crate::settings::Problems> {
        Ok(self.config(crate::settings::of_embedder(path, false)?))
    }

    /// Lets whoever shows this key use the HTTP API, below `/api/v1/`; besides the settings' own
    /// ([`Config::api_keys`]), also after a reload.
    #[must_use]
    pub fn api_key(mut self, key: ApiKey) -> Self {
        self.api_keys.push(key);
        self
    }

    /// Speaks `protocol` to WebSockets that are opened at `path`. The native protocol is spoken at `/v1/ws` in any
    /// case; give [`Native`] with other times for that path to replace it.
    #[must_use]
    pub fn protocol(mut self, path: &str, protocol: impl Protocol) -> Self {
        self.protocols.push((path.to_owned(), Arc::new(protocol)));
        self
    }

    /// Adds a rule for the channels of a pattern, after those of the configuration and of earlier calls: the first that
    /// matches a name governs it. A rule of the configuration with the same pattern takes this one's place, so that an
    /// operator can change what the code says.
    ///
    /// ```
    /// use fanfare::{Fanfare, Who::*, mins};
    ///
    /// let server = Fanfare::builder(())
    ///     .channel("chat:*", |c| c.subscribe(Anyone).publish(Subscriber).history(100, mins(10)).presence(true))
    ///     .channel("inbox:{user}", |c| c.subscribe(Authenticated).publish(Server));
    /// ```
    #[must_use]
    pub fn channel(mut self, pattern: &str, rule: impl FnOnce(ChannelRule) -> ChannelRule) -> Self {
        match ChannelRule::new(pattern) {
            Ok(new) => self.channels.push(rule(new).into_rule()),
            Err(source) => self.fail(ServeError::Pattern { pattern: pattern.to_owned(), source }),
        }
        self
    }

    /// Asks `handler` who a connection is, with the token that it sent (or without one), and again when it brings a
    /// newer one. Without such a handler everybody is anonymous, and a token is refused.
    ///
    /// It is not asked where a client comes back to its living session by the ticket alone: to send a user away for
    /// good, refuse its tokens here, then [`Handle::disconnect`] it for a reason that does not let it come back,
    /// which ends its sessions.
    #[must_use]
    pub fn on_connect<Args: Arguments<OnConnect, S>>(
        mut self,
        handler: impl Handler<Args, Future: Future<Output: Answers<OnConnect>> + Send + 'static>,
    ) -> Self {
        let handler = erase(handler, &self.state);
        if self.handlers.connect.replace(handler).is_some() {
            self.fail(ServeError::TwoHandlers { kind: "on_connect", name: String::new() });
        }
        self
    }

    /// Asks `handler` whether a caller may subscribe to a channel of this pattern, where its rule names `hook` or
    /// lets the caller in anyway. Of several handlers the first whose pattern matches is asked.
    #[must_use]
    pub fn on_subscribe<Args: Arguments<OnSubscribe, S>>(
        mut self,
        pattern: &str,
        handler: impl Handler<Args, Future: Future<Output: Answers<OnSubscribe>> + Send + 'static>,
    ) -> Self {
        match self.handled(pattern, "on_subscribe", |handlers| &handlers.subscribe) {
            Ok(pattern) => self.handlers.subscribe.push((pattern, erase(handler, &self.state))),
            Err(error) => self.fail(error),
        }
        self
    }

    /// Asks `handler` whether a caller may publish this to a channel of this pattern, where its rule names `hook` or
    /// lets the caller publish anyway. The publication that it returns is the one that is published. What the
    /// application publishes itself is not asked about.
    #[must_use]
    pub fn on_publish<Args: Arguments<OnPublish, S>>(
        mut self,
        pattern: &str,
        handler: impl Handler<Args, Future: Future<Output: Answers<OnPublish>> + Send + 'static>,
    ) -> Self {
        match self.handled(pattern, "on_publish", |handlers| &handlers.publish) {
            Ok(pattern) => self.handlers.publish.push((pattern, erase(handler, &self.state))),
            Err(error) => self.fail(error),
        }
        self
    }

    /// Answers calls of `method`.
    #[must_use]
    pub fn rpc<Args: Arguments<OnRpc, S>>(
        mut self,
        method: &str,
        handler: impl Handler<Args, Future: Future<Output: Answers<OnRpc>> + Send + 'static>,
    ) -> Self {
        let handler = erase(handler, &self.state);
        if self.handlers.rpc.insert(method.into(), handler).is_some() {
            self.fail(ServeError::TwoHandlers { kind: "rpc", name: method.to_owned() });
        }
        self
    }

    /// Tells `handler` of every session that has ended: not of each connection that was cut, but once its client has
    /// not come back in time.
    #[must_use]
    pub fn on_disconnect<Args: Arguments<OnDisconnect, S>>(
        mut self,
        handler: impl Handler<Args, Future: Future<Output: Answers<OnDisconnect>> + Send + 'static>,
    ) -> Self {
        let handler = erase(handler, &self.state);
        if self.handlers.disconnect.replace(handler).is_some() {
            self.fail(ServeError::TwoHandlers { kind: "on_disconnect", name: String::new() });
        }
        self
    }

    fn handled(
        &self,
        pattern: &str,
        kind: &'static str,
        handlers: impl FnOnce(&Handlers) -> &Vec<(Pattern, Erased)>,
    ) -> Result<Pattern, ServeError> {
        let parsed = Pattern::new(pattern);
        let parsed = parsed.map_err(|source| ServeError::Pattern { pattern: pattern.to_owned(), source })?;
        if handlers(&self.handlers).iter().any(|(other, _)| *other == parsed) {
            return Err(ServeError::TwoHandlers { kind, name: pattern.to_owned() });
        }
        Ok(parsed)
    }

    fn fail(&mut self, error: ServeError) {
        self.wrong.get_or_insert(error);
    }

    /// Checks the whole.
    ///
    /// # Errors
    /// [`ServeError`] names what does not fit: the first of several.
    pub fn build(mut self) -> Result<Fanfare, ServeError> {
        if let Some(wrong) = self.wrong {
            return Err(wrong);
        }
        let code = Code { rules: self.channels.into(), keys: self.api_keys.into() };
        self.config.rules = Arc::new(code.with_rules(&self.config.rules));
        let in_range = |option, found, min, max| {
            if (min..=max).contains(&found) { Ok(()) } else { Err(ServeError::OutOfRange { option, found, min, max }) }
        };
        in_range("shards", self.config.shards, 1, SHARDS_MAX)?;
        in_range("protocols", self.protocols.len(), 0, PROTOCOLS_MAX)?;
        if let Some((setting, found)) = Setting::first_in_vain(&self.config) {
            return Err(ServeError::InVain { option: setting.key, found, allowed: setting.allowed() });
        }
        let limits = &self.config.limits;
        let ms = |ms: u64| u32::try_from(ms).unwrap_or(u32::MAX);
        let native = Native::default().heartbeat_ms(ms(limits.heartbeat_ms)).grace_ms(ms(limits.grace_ms));
        let is_native = |(path, protocol): &(String, Arc<dyn Protocol>)| {
            path == NATIVE_PATH && protocol.subprotocol() == native.subprotocol()
        };
        if !self.protocols.iter().any(is_native) {
            self.protocols.push((NATIVE_PATH.to_owned(), Arc::new(native)));
        }
        for (place, (path, protocol)) in self.protocols.iter().enumerate() {
            let same =
                |(other, p): &(String, Arc<dyn Protocol>)| other == path && p.subprotocol() == protocol.subprotocol();
            if self.protocols[..place].iter().any(same) {
                return Err(ServeError::Ambiguous { path: path.clone(), subprotocol: protocol.subprotocol() });
            }
        }
        let (controls, inboxes) = (0..self.config.shards).map(|_| unbounded_channel()).unzip();
        let handle = Handle::new(controls, random()?, self.config.limits.app_outstanding_max);
        let api = CurrentApi::default();
        api.replace(code.endpoint(&self.config.api_keys, &self.config, &handle)?);
        let handlers = Arc::new(self.handlers);
        Ok(Fanfare {
            handlers,
            handle,
            inboxes,
            clock: Clock::system(),
            config: Arc::new(self.config),
            code,
            protocols: self.protocols,
            api,
            pages: self.pages,
        })
    }

    /// Serves `/metrics`, `/healthz` and `/readyz` there. Default: what the configuration says, which is nowhere.
    #[must_use]
    pub fn admin(mut self, on: AdminOn) -> Self {
        self.config.admin = on;
        self
    }

    /// Serves what no protocol takes from here: any axum router. Its pages run on the runtime that the server is
    /// started on, as handlers do, or on a thread of their own where there is none: a page that takes its time keeps
    /// no client waiting but its own.
    #[must_use]
    pub fn fallback(mut self, pages: axum::Router) -> Self {
        self.pages = Some(pages);
        self
    }
}

impl Running {
    /// Where `/metrics` is served, where that has an address of its own.
    pub fn admin_address(&self) -> Option<&Address> {
        self.started.admin.as_ref().map(|admin| &admin.address)
    }

    /// Where it listens, with the ports that were chosen.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// The first TCP address, with the port that was chosen.
    pub fn tcp_address(&self) -> Option<std::net::SocketAddr> {
        self.addresses.iter().find_map(|address| match address {
            Address::Tcp(address) => Some(*address),
            Address::Unix(_) => None,
        })
    }

    /// Is not ready any more and serves on as before for [`Config::shutdown_delay`]; then stops accepting and
    /// listening, answers what was asked and delivers it, sends everybody away with a word of when to come back, and
    /// waits until they have gone. What was acknowledged has been sent to all who were connected then. The log tells
    /// how it went.
    ///
    /// Handlers go on meanwhile: their answers are waited for. Whoever drops the future does not wait: the shards end
    /// all the same, at once where that was still to come.
    ///
    /// # Errors
    /// [`ServeError::Shard`] when a shard had failed.
    pub async fn drain(mut self) -> Result<(), ServeError> {
        let begin = Instant::now();
        if let Some(delay) = self.leave() {
            // Slept by a thread, as whoever awaits this may be on any runtime, or one without a clock.
            let (over, is_over) = oneshot::channel::<()>();
            let sleep = move || {
                std::thread::sleep(delay);
                drop(over);
            };
            let failed = |source| ServeError::System { what: "thread", source };
            std::thread::Builder::new().name("shutdown-delay".to_owned()).spawn(sleep).map_err(failed)?;
            let _ = is_over.await; // it says no more than that it is over
        }
        self.begin_drain();
        self.gone().await;
        self.drained(begin)
    }

    /// [`drain`](Self::drain) for a thread that has no more to do than to wait for it. Not within async code: there
    /// the handlers of this thread would have no turn.
    ///
    /// # Errors
    /// As for [`drain`](Self::drain).
    pub fn drain_blocking(self) -> Result<(), ServeError> {
        let begin = Instant::now();
        if let Some(delay) = self.leave() {
            std::thread::sleep(delay);
        }
        self.begin_drain();
        self.drained(begin)
    }

    /// The first step of a drain, and how long it takes.
    fn leave(&self) -> Option<Duration> {
        let delay = Some(self.reloader.config.shutdown_delay).filter(|delay| !delay.is_zero())?;
        self.started.watch.set(State::Leaving);
        tracing::info!("not ready any more; clients are served as before for another {delay:?} (shutdown_delay)");
        Some(delay)
    }

    /// Tells the shards to end, and does not wait for it.
    fn begin_drain(&self) {
        drop(self.stop_with_me());
    }

    fn drained(self, begin: Instant) -> Result<(), ServeError> {
        let Parted { told, cut_off, answered, unanswered } = self.ended()?;
        let seconds = begin.elapsed().as_millis() as f64 / 1e3;
        tracing::info!(clients_told = told, cut_off, answered, unanswered, seconds, "stopped");
        Ok(())
    }

    fn stop_with_me(&self) -> StopWithMe {
        StopWithMe { watch: self.started.watch.clone(), shards: self.reloader.handle.controls().to_vec() }
    }

    /// Waits until every shard has ended.
    async fn gone(&mut self) {
        let nothing = self.started.gone.recv().await;
        debug_assert!(nothing.is_none());
    }

    /// Puts these rules in the place of the configuration's; those of the code stay below them. Subscriptions that
    /// would be refused now are ended, and nobody else notices.
    pub fn reload_rules(&self, rules: &Rules) {
        self.reloader.rules(rules);
    }

    /// Puts these API keys in the place of the configuration's; those of the code stay. Every request from now on is
    /// judged by them; one that was let in before is answered.
    ///
    /// # Errors
    /// [`ServeError::SameApiKey`]: nothing has changed then.
    pub fn reload_api_keys(&self, keys: &[ApiKey]) -> Result<(), ServeError> {
        self.reloader.api_keys(keys)
    }

    /// Figures of each shard, with its number of connections.
    pub async fn stats(&self) -> Vec<(Stats, usize)> {
        let mut all = Vec::new();
        for control in self.reloader.handle.controls() {
            let (answer, answered) = oneshot::channel();
            if control.send(Control::Stats(answer)).is_ok() {
                all.extend(answered.await.map(|figures| (figures.hub, figures.open)));
            }
        }
        all
    }

    /// Waits until every shard has ended.
    ///
    /// # Errors
    /// [`ServeError::Shard`] when one failed.
    pub async fn join(mut self) -> Result<(), ServeError> {
        self.gone().await;
        self.join_blocking()
    }

    /// [`join`](Self::join) for a thread that has no more to do than to wait for it.
    ///
    /// # Errors
    /// As for [`join`](Self::join).
    pub fn join_blocking(self) -> Result<(), ServeError> {
        self.ended().map(drop)
    }

    fn ended(self) -> Result<Parted, ServeError> {
        let mut all = Ok(Parted::default());
        for thread in self.started.threads {
            match (thread.join(), &mut all) {
                (Ok(parted), Ok(sum)) => *sum += parted,
                (Ok(_), Err(_)) => {}
                (Err(_), _) => all = Err(ServeError::Shard),
            }
        }
        all
    }
}
