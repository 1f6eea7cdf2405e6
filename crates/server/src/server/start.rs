//! Starting: a thread for each shard, all of which begin together or none does.

use crate::auth::Authenticator;
use crate::config::hooks::{HooksConfig, NoticesConfig};
use crate::config::hosts::Via;
use crate::config::{AdminOn, Config};
use crate::control::Control;
use crate::counters::TimedStore;
use crate::embed::runtime::{runtime_of_handlers, runtime_on_a_thread};
use crate::embed::socketio::desk::Desk;
use crate::embed::socketio::places::Places;
use crate::embed::{Dispatcher, Handlers, News, NewsBounds, NewsOfHandlers, Notify};
use crate::error::ServeError;
use crate::framing::deflate::Deflate;
use crate::framing::stream::{Lines, Stream};
use crate::framing::{Framing, Wire};
use crate::hooks::{HttpHooks, Notifier};
use crate::http::engine::EngineWire;
use crate::http::gate::Gate;
use crate::http::gzip::Gzip;
use crate::http::pages::Pages;
use crate::http::routes::{DeflatedWires, Routes, Upgrade};
use crate::http::streams::StreamWires;
use crate::protocol::{Node, Place, ProtocolAtPath, socketio};
use crate::random::{fill_random, random};
use crate::server::admin::AdminServer;
use crate::server::builder::NATIVE_PATH;
#[cfg(feature = "acme")]
use crate::server::ordering::Ordering;
use crate::server::{Fanfare, admin};
use crate::shard::{self, Batch, DrainBarrier, DrainReport, Inbox, Links, Shell, shard_id};
use crate::transport::admission::Connections;
use crate::transport::listen::ShardListener;
use crate::transport::pace::Times;
use crate::watch::{State, Watch};
use fanfare_hub::{Hooks, MemoryStore, Shard, ShardConfig, WireId};
use fanfare_wire::native;
use fanfare_wire::websocket::deflate::Window;
use std::convert::Infallible;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, UnboundedSender, channel, unbounded_channel};
use tokio::sync::oneshot;

/// The running server: the shards and their monitoring. Dropping it stops them.
pub(super) struct Started {
    pub(super) threads: Vec<JoinHandle<DrainReport>>,
    pub(super) watch: Arc<Watch>,
    pub(super) _stop: StopWithMe,
    pub(super) admin: Option<AdminServer>,
    pub(super) authenticator: Option<Arc<Authenticator>>,
    pub(super) notifying: Option<Notifying>,
    /// Events for the program's handlers.
    pub(super) news: NewsOfHandlers,
    /// Ends the thread that fetches keys and asks hooks, if there is one.
    pub(super) own_thread: Option<oneshot::Sender<()>>,
    #[cfg(feature = "acme")]
    pub(super) _ordering: Option<Ordering>,
    /// No message comes: the channel closes with the last shard.
    pub(super) gone: Receiver<Infallible>,
}

/// What the hub asks and notifies of: handlers of the program, tokens by configuration, hooks over HTTP.
pub(super) fn hooks_of(handlers: &Handlers, has_keys: bool, http: Option<&HttpHooks>, config: &HooksConfig) -> Hooks {
    let mut hooks = handlers.hooks();
    hooks.connect |= has_keys;
    if let Some(http) = http {
        http.add_to_hub(&mut hooks, config);
    }
    hooks
}

/// The application is notified over HTTP. Dropping it ends that.
pub(super) struct Notifying {
    pub(super) notifier: Arc<Notifier>,
    task: tokio::task::AbortHandle,
}

impl Drop for Notifying {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Threads of shards that wait for the signal to begin. If this is dropped before, they end without accepting, and the
/// drop waits for that. So a failed start leaves no thread, port or file behind.
#[derive(Default)]
struct Starting {
    threads: Vec<JoinHandle<DrainReport>>,
    words: Vec<oneshot::Sender<()>>,
}

impl Starting {
    /// Lets all of them begin.
    fn begin(mut self) -> Vec<JoinHandle<DrainReport>> {
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
            let _ = thread.join(); // the panic hook has reported it
        }
    }
}

/// Stops the shards when it is dropped.
pub(super) struct StopWithMe {
    pub(super) watch: Arc<Watch>,
    pub(super) shards: Vec<UnboundedSender<Control>>,
}

impl Drop for StopWithMe {
    fn drop(&mut self) {
        self.watch.set(State::Draining);
        for shard in &self.shards {
            let _ = shard.send(Control::Drain); // one that has ended or failed need not drain
        }
    }
}

impl Fanfare {
    /// Each protocol over WebSocket: a wire has the number of its protocol. Then the compressed ones, if there are any,
    /// and those of streams.
    fn wires(&self) -> (Vec<Wire>, Vec<Upgrade>, Option<StreamWires>) {
        let over = |at: &ProtocolAtPath, framing| Wire { protocol: at.protocol.clone(), framing };
        let mut wires: Vec<Wire> = self.protocols.iter().map(|at| over(at, Framing::WebSocket)).collect();
        let compression = &self.config.compression;
        // A request may carry a token. (A handler looks at the request itself, if it wants.)
        let handlers_need_request = self.handlers.need_request() || self.config.auth.is_on();
        let upgrades = self.protocols.iter().enumerate().map(|(wire, at)| {
            let mut deflated = |window| {
                let deflate = Deflate { window, message_bytes_min: compression.bytes_min };
                wires.push(over(at, Framing::DeflatedWebSocket(deflate)));
                WireId((wires.len() - 1) as u8) // see PROTOCOLS_MAX
            };
            let make = || DeflatedWires { full: deflated(Window::Full), small: deflated(Window::Small) };
            Upgrade {
                path: at.path.clone(),
                wire: WireId(wire as u8),
                deflated: compression.websocket.then(make),
                protocol: at.protocol.clone(),
                engine_io: None,
                needs_request: handlers_need_request || at.protocol.needs_request(),
            }
        });
        let mut upgrades: Vec<Upgrade> = upgrades.collect();
        let native = self.protocols.iter().find(|at| at.is(NATIVE_PATH, Some(native::PROTOCOL)));
        let streams = native
            .filter(|_| self.config.streams)
            .map(|at| StreamWires::add(&mut wires, at.protocol.clone(), handlers_need_request, &self.config));
        for (at, upgrade) in self.protocols.iter().zip(&mut upgrades) {
            if let Some(protocol) = &at.engine_io {
                wires.push(over(at, Framing::Stream(Stream { lines: Lines::Packets, chunked: false })));
                let wire = WireId((wires.len() - 1) as u8); // see PROTOCOLS_MAX
                let (protocol, pause_max) = (protocol.clone(), self.config.head_timeout);
                let needs_request = handlers_need_request || at.protocol.needs_request();
                upgrade.engine_io = Some(EngineWire { wire, protocol, pause_max, needs_request });
            }
        }
        (wires, upgrades, streams)
    }

    pub(super) fn start_shards(self, listeners: Vec<Vec<ShardListener>>) -> Result<(Routes, Started), ServeError> {
        let admin = match &self.config.admin {
            AdminOn::Address(address) => Some(admin::Bound::at(address)?),
            AdminOn::MainPort | AdminOn::Off => None,
        };
        let (wires, upgrades, streams) = self.wires();
        let labels = wires.iter().map(Wire::label).collect();
        let counts = self.hooks.as_ref().map(|hooks| hooks.counts.clone()).unwrap_or_default();
        let (connections, tls) = (Connections::new(&self.config), self.config.tls.clone());
        let watch = Watch::new(self.handle.controls(), labels, connections, tls, counts, self.handle.audit().clone());
        let own = match &self.config.admin {
            AdminOn::MainPort => admin::router(watch.clone(), self.api.clone()),
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
        let mut secret = [0; 32];
        fill_random(&mut secret)?;
        let node = Arc::new(Node { id: random()?, secret, limits: self.config.limits.clone() });
        let gate = Arc::new(Gate::of(&self.config));
        let routes = Routes {
            upgrades: upgrades.into(),
            streams: streams.map(Arc::new),
            api: self.api.clone(),
            watch: watch.clone(),
            node: node.clone(),
            gate: gate.clone(),
            via: Via::Mounted, // each listener sets its own, and `hsts`
            pages,
            gzip: self.config.compression.http.then_some(Gzip { bytes_min: self.config.compression.bytes_min }),
            hsts: None,
        };
        let is_on = self.config.auth.is_on();
        let mut own_thread = None;
        let asks = is_on || self.hooks.is_some();
        let runtime = match (self.handlers.are_of_program, asks) {
            (false, false) => None,
            (true, _) => Some(runtime_of_handlers()?),
            // Keys of an address are fetched, hooks are asked; the program need not have a runtime for that.
            (false, true) => Some(runtime_of_handlers().or_else(|_| {
                let (runtime, stop) = runtime_on_a_thread("outgoing")?;
                own_thread = Some(stop);
                Ok::<_, ServeError>(runtime)
            })?),
        };
        let authenticator = runtime.as_ref().filter(|_| is_on).map(|runtime| {
            let Config { auth, limits, .. } = &*self.config;
            Arc::new(Authenticator::start(auth, limits, self.clock.clone(), runtime))
        });
        let (batch_senders, batch_receivers): (Vec<UnboundedSender<Batch>>, Vec<_>) =
            (0..shards).map(|_| unbounded_channel()).unzip();
        let hooks = hooks_of(&self.handlers, authenticator.is_some(), self.hooks.as_deref(), &self.config.hooks);
        let notifier = self.hooks.as_ref().and_then(|hooks| hooks.notifier.clone());
        let notify =
            notifier.clone().map(|notifier| -> Notify { Arc::new(move |now, notice| notifier.put(now, notice)) });
        let hooks = Arc::new(hooks);
        let NoticesConfig { bytes_max, age_max, .. } = self.config.hooks.notices;
        let dropped = self.handle.notices_dropped_count().clone();
        let news = NewsOfHandlers {
            ends: Arc::new(News::new(NewsBounds::ENDS, Arc::default())),
            channels: Arc::new(News::new(NewsBounds { bytes_max, age_max }, dropped)),
        };
        let mut starting = Starting::default();
        let barrier = DrainBarrier::of(shards);
        let alive = Arc::new(());
        let (still_there, gone) = channel(1);
        let inboxes = listeners.into_iter().zip(batch_receivers).zip(self.inboxes);
        for (index, ((listeners, batches), control)) in inboxes.enumerate() {
            let me = shard_id(index);
            let links = Links::new(me, batch_senders.clone());
            let place = Place::new(node.clone(), me);
            let barrier = barrier.clone();
            let dispatcher = runtime.clone().map(|runtime| Dispatcher {
                desk: Arc::new(Desk {
                    runtime: runtime.clone(),
                    handle: self.handle.clone(),
                    clock: self.clock.clone(),
                    deadline: Duration::from_millis(self.config.limits.hook_timeout_ms),
                    watch: watch.clone(),
                    back: self.handle.controls()[index].clone(),
                    places: Places::new(&self.config.limits),
                    events_max: self.config.limits.outstanding_max,
                    bytes_max: self.config.limits.room_message_bytes_max,
                }),
                handlers: self.handlers.clone(),
                runtime,
                handle: self.handle.clone(),
                clock: self.clock.clone(),
                deadline: Duration::from_millis(self.config.limits.hook_timeout_ms),
                news: news.clone(),
                watch: watch.clone(),
                back: self.handle.controls()[index].clone(),
                notify: notify.clone(),
                authenticator: authenticator.clone(),
            });
            let seeds = (random()?, random()?);
            let (config, wires, shard_routes) = (self.config.clone(), wires.clone(), routes.clone());
            let (clock, hooks, alive) = (self.clock.clone(), hooks.clone(), alive.clone());
            let tail = watch.tail.clone();
            let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
            let (word, begin) = oneshot::channel();
            let still_there = still_there.clone();
            let body = move || {
                let _still_there = still_there;
                let now = clock.now();
                let limits = Arc::new(socketio::with_added(config.limits.for_one_of(config.shards)));
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
                let mut shell = Shell::new(hub, config, wires, place, links, dispatcher, clock);
                shell.watch_store(store_times);
                shell.show_to(tail);
                let inbox = Inbox { begin, batches, control, barrier, alive };
                shard::run(shell, listeners, shard_routes, inbox, ready)
            };
            let failed = |source| ServeError::System { what: "thread", source };
            let thread = std::thread::Builder::new().name(format!("shard-{index}")).spawn(body).map_err(failed)?;
            starting.threads.push(thread);
            starting.words.push(word);
            // within milliseconds: the thread only makes its runtime
            let is_ready = is_ready.recv().map_err(|_| ServeError::Shard)?;
            is_ready.map_err(|source| ServeError::System { what: "runtime for a shard", source })?;
        }
        let bounds = admin::HttpBounds { times: Times::of(&self.config), head_bytes_max: self.config.head_bytes_max };
        let admin = admin
            .map(|bound| bound.serve(admin::router(watch.clone(), self.api.clone()), gate, bounds, watch.clone()))
            .transpose()?;
        #[cfg(feature = "acme")]
        let _ordering = Ordering::start(self.config.tls.as_ref())?;
        let _stop = StopWithMe { watch: watch.clone(), shards: self.handle.controls().to_vec() };
        let notifying = notifier.zip(runtime).map(|(notifier, runtime)| {
            let task = runtime.spawn(notifier.clone().run()).abort_handle();
            Notifying { notifier, task }
        });
        watch.set(State::Ready);
        Ok((
            routes,
            Started {
                threads: starting.begin(),
                watch,
                _stop,
                admin,
                authenticator,
                notifying,
                news,
                own_thread,
                #[cfg(feature = "acme")]
                _ordering,
                gone,
            },
        ))
    }
}
