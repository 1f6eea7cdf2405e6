//! A server: built from protocols and settings, then running on its shards until it is stopped.

use crate::config::Config;
use crate::http;
use crate::listen::listen;
use crate::protocol::{Node, Place, Protocol};
use crate::shard::{self, Batch, Control, Inbox, Links, Meeting, Routes, Shell, Upgrade, now_since, shard_id};
use fanfare_hub::{MemoryStore, Shard, ShardConfig, Stats, WireId};
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

/// The most shards that a node may have.
const SHARDS_MAX: usize = 1024;
/// The most protocols that a server may speak.
const PROTOCOLS_MAX: usize = 255;

/// Why a server did not start, or did not stop well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address is not one.
    #[error("cannot resolve the address {address:?}: {source}")]
    Address {
        /// As it was given.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A number outside of what is possible.
    #[error("{option} = {found} is not between 1 and {max}")]
    OutOfRange {
        /// The option.
        option: &'static str,
        /// What was given.
        found: usize,
        /// The most.
        max: usize,
    },
    /// Two protocols at one path answer to the same subprotocol.
    #[error("two protocols at {path:?} have the subprotocol {subprotocol:?}")]
    Ambiguous {
        /// The path.
        path: String,
        /// The subprotocol.
        subprotocol: Option<&'static str>,
    },
    /// The operating system gave no thread or no randomness.
    #[error("the operating system refused a {what}: {source}")]
    System {
        /// What.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A shard's thread panicked: the log has the reason.
    #[error("a shard failed")]
    Shard,
}

/// Collects what a server is to be.
#[derive(Default)]
pub struct Builder {
    config: Config,
    protocols: Vec<(String, Arc<dyn Protocol>)>,
    pages: axum::Router,
}

/// A server that has been built and does not run yet.
pub struct Fanfare {
    config: Arc<Config>,
    protocols: Vec<(String, Arc<dyn Protocol>)>,
    pages: axum::Router,
}

/// A server that runs.
pub struct Running {
    addresses: Vec<SocketAddr>,
    controls: Vec<UnboundedSender<Control>>,
    threads: Vec<JoinHandle<()>>,
}

impl Fanfare {
    /// Begins a server without any protocol.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Serves what no protocol takes from here: any axum router.
    #[must_use]
    pub fn fallback(mut self, pages: axum::Router) -> Self {
        self.pages = pages;
        self
    }

    /// Starts on these addresses and runs until a shard fails.
    ///
    /// # Errors
    /// [`ServeError`] when it cannot start, or a shard failed.
    pub async fn serve(self, address: &str) -> Result<(), ServeError> {
        let resolve = |source| ServeError::Address { address: address.to_owned(), source };
        let addresses: Vec<SocketAddr> = address.to_socket_addrs().map_err(resolve)?.collect();
        let running = self.start(&addresses)?;
        tokio::task::spawn_blocking(move || running.join()).await.unwrap_or(Err(ServeError::Shard))
    }

    /// Starts on all of these addresses, each shared by all shards, and returns when connections are accepted.
    ///
    /// # Errors
    /// [`ServeError::Listen`] names the address that could not be had; nothing runs then.
    pub fn start(self, addresses: &[SocketAddr]) -> Result<Running, ServeError> {
        let shards = self.config.shards;
        let mut listeners: Vec<Vec<TcpListener>> = (0..shards).map(|_| Vec::new()).collect();
        let mut bound = Vec::new();
        for &address in addresses {
            let refused = |source| ServeError::Listen { address, source };
            for (shard, listener) in listen(address, shards).map_err(refused)?.into_iter().enumerate() {
                if shard == 0 {
                    bound.push(listener.local_addr().map_err(refused)?);
                }
                listeners[shard].push(listener);
            }
        }
        let (controls, threads) = self.start_shards(listeners)?;
        Ok(Running { addresses: bound, controls, threads })
    }

    #[allow(clippy::type_complexity)] // the two halves of `Running`
    fn start_shards(
        self,
        listeners: Vec<Vec<TcpListener>>,
    ) -> Result<(Vec<UnboundedSender<Control>>, Vec<JoinHandle<()>>), ServeError> {
        let shards = self.config.shards;
        let born = Instant::now();
        let placement_key = random()?;
        let protocols: Vec<Arc<dyn Protocol>> = self.protocols.iter().map(|(_, protocol)| protocol.clone()).collect();
        let upgrades = self.protocols.iter().enumerate().map(|(wire, (path, protocol))| Upgrade {
            path: path.clone(),
            wire: WireId(wire as u8),
            protocol: protocol.clone(),
        });
        let mut secret = [0; 32];
        fill_random(&mut secret)?;
        let node = Arc::new(Node { id: random()?, secret, limits: self.config.limits.clone() });
        let routes = Routes { upgrades: upgrades.collect(), pages: self.pages };
        let (batch_senders, batch_receivers): (Vec<UnboundedSender<Batch>>, Vec<_>) =
            (0..shards).map(|_| unbounded_channel()).unzip();
        let (mut controls, mut threads) = (Vec::new(), Vec::new());
        let meeting = Meeting::of(shards);
        for (index, (listeners, batches)) in listeners.into_iter().zip(batch_receivers).enumerate() {
            let (sender, control) = unbounded_channel();
            controls.push(sender);
            let me = shard_id(index);
            let links = Links::new(me, batch_senders.clone());
            let place = Place::new(node.clone(), me);
            let meeting = meeting.clone();
            let seeds = (random()?, random()?);
            let (config, protocols, routes) = (self.config.clone(), protocols.clone(), routes.clone());
            let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
            let body = move || {
                let now = now_since(born);
                let limits = Arc::new(config.limits.for_one_of(config.shards));
                let store = Box::new(MemoryStore::new(&limits, seeds.0));
                let shard = ShardConfig {
                    me,
                    shards: config.shards,
                    rules: config.rules.clone(),
                    limits,
                    seed: seeds.1,
                    placement_key,
                };
                let shell = Shell::new(Shard::new(shard, store, now), config, protocols, place, links, born);
                shard::run(shell, listeners, routes, Inbox { batches, control, meeting }, ready);
            };
            let failed = |source| ServeError::System { what: "thread", source };
            threads.push(std::thread::Builder::new().name(format!("shard-{index}")).spawn(body).map_err(failed)?);
            is_ready.recv().map_err(|_| ServeError::Shard)?; // within milliseconds: the thread only makes its runtime
        }
        Ok((controls, threads))
    }
}

impl Builder {
    /// Takes these settings in place of the defaults.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Speaks `protocol` to WebSockets that are opened at `path`.
    #[must_use]
    pub fn protocol(mut self, path: &str, protocol: impl Protocol) -> Self {
        self.protocols.push((path.to_owned(), Arc::new(protocol)));
        self
    }

    /// Checks the whole.
    ///
    /// # Errors
    /// [`ServeError::OutOfRange`] and [`ServeError::Ambiguous`] name what does not fit.
    pub fn build(self) -> Result<Fanfare, ServeError> {
        let in_range = |option, found, max| {
            if (1..=max).contains(&found) { Ok(()) } else { Err(ServeError::OutOfRange { option, found, max }) }
        };
        in_range("shards", self.config.shards, SHARDS_MAX)?;
        in_range("protocols", self.protocols.len(), PROTOCOLS_MAX)?;
        for (place, (path, protocol)) in self.protocols.iter().enumerate() {
            let same =
                |(other, p): &(String, Arc<dyn Protocol>)| other == path && p.subprotocol() == protocol.subprotocol();
            if self.protocols[..place].iter().any(same) {
                return Err(ServeError::Ambiguous { path: path.clone(), subprotocol: protocol.subprotocol() });
            }
        }
        let health = axum::Router::new().route("/healthz", axum::routing::get(|| async { "ok\n" }));
        let pages = self.pages.fallback(http::not_found).merge(health);
        Ok(Fanfare { config: Arc::new(self.config), protocols: self.protocols, pages })
    }

    /// Serves what no protocol takes from here: any axum router.
    #[must_use]
    pub fn fallback(mut self, pages: axum::Router) -> Self {
        self.pages = pages;
        self
    }
}

impl Running {
    /// Where it listens, with the ports that were chosen.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Stops accepting and listening, answers what was asked and delivers it, sends everybody away with a word of when to come
    /// back, and waits until they have gone. What was acknowledged has been sent to all who were connected then.
    ///
    /// # Errors
    /// [`ServeError::Shard`] when a shard had failed.
    pub fn drain(self) -> Result<(), ServeError> {
        for control in &self.controls {
            let _ = control.send(Control::Drain); // a shard that has failed is found by `join`
        }
        self.join()
    }

    /// Figures of each shard, with its number of connections.
    pub async fn stats(&self) -> Vec<(Stats, usize)> {
        let mut all = Vec::new();
        for control in &self.controls {
            let (answer, answered) = oneshot::channel();
            if control.send(Control::Stats(answer)).is_ok() {
                all.extend(answered.await);
            }
        }
        all
    }

    /// Waits until every shard has ended.
    ///
    /// # Errors
    /// [`ServeError::Shard`] when one failed.
    pub fn join(self) -> Result<(), ServeError> {
        let mut result = Ok(());
        for thread in self.threads {
            if thread.join().is_err() {
                result = Err(ServeError::Shard);
            }
        }
        result
    }
}

fn random() -> Result<u64, ServeError> {
    let mut bytes = [0; 8];
    fill_random(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

fn fill_random(bytes: &mut [u8]) -> Result<(), ServeError> {
    let failed = |error: getrandom::Error| ServeError::System {
        what: "random number",
        source: io::Error::other(error.to_string()),
    };
    getrandom::fill(bytes).map_err(failed)
}
