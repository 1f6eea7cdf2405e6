//! A server that runs: its addresses and figures, other rules and keys, and its end in good order.

use crate::config::Config;
use crate::config::address::Address;
use crate::config::api_key::ApiKey;
use crate::config::auth::AuthConfig;
use crate::config::hooks::{HooksConfig, NoticesConfig};
use crate::config::tls::Tls;
use crate::control::Control;
use crate::embed::NewsBounds;
use crate::embed::handle::Handle;
use crate::error::ServeError;
use crate::server::reload::Reloader;
use crate::server::start::{Started, StopWithMe};
use crate::shard::DrainReport;
use crate::watch::State;
use fanfare_hub::{Rules, Stats};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot::{self, error::TryRecvError};

/// A running server. [`drain`](Self::drain) stops it.
///
/// Dropping it stops the server too, even while a [`Handle`](crate::Handle) or a
/// [`FanfareService`](crate::FanfareService) is held: the server stops accepting, asks clients to come back, and ends
/// its shards. A drop does not wait for that.
#[must_use = "dropping this stops the server"]
pub struct Running {
    pub(super) addresses: Vec<Address>,
    pub(super) started: Started,
    pub(super) reloader: Reloader,
}

/// The figures of one shard.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ShardStats {
    /// The figures of its hub.
    pub hub: Stats,
    /// Its open connections.
    pub connections: usize,
}

/// Between two checks whether the shards have ended.
const LOOK: Duration = Duration::from_millis(2);
/// A shard that does not answer for so long takes no turns.
const SILENCE: Duration = Duration::from_secs(1);

/// Runs this on a thread of its own: the task that awaits the result may be on any runtime, or on one without a clock.
/// The result is `None` when it panicked.
fn on_a_thread<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<impl Future<Output = Option<T>>, ServeError> {
    let (done, is_done) = oneshot::channel();
    let thread = std::thread::Builder::new().name(name.to_owned());
    let failed = |source| ServeError::System { what: "thread", source };
    thread.spawn(move || drop(done.send(run()))).map_err(failed)?;
    Ok(async { is_done.await.ok() })
}

impl Running {
    /// The address of `/metrics`, if it has an address of its own.
    pub fn admin_address(&self) -> Option<&Address> {
        self.started.admin.as_ref().map(|admin| &admin.address)
    }

    /// The application's interface, as [`Fanfare::handle`](crate::Fanfare::handle) gives it.
    pub fn handle(&self) -> Handle {
        self.reloader.handle.clone()
    }

    /// The addresses on which it listens, with the ports that were chosen.
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

    /// Stops in good order, and waits for it.
    ///
    /// For [`Config::shutdown_delay`](crate::Config::shutdown_delay) the server serves as before and is not ready.
    /// Then it stops accepting and listening, answers and delivers the accepted commands, asks every client to come
    /// back at a given time, and waits until they have left. Every acknowledged publication has been sent to all
    /// subscribers that were connected then. The log has the result.
    ///
    /// Handlers continue meanwhile, and the drain waits for their answers. Dropping the future stops the wait. The
    /// shards still end: at once if the delay was not over.
    ///
    /// # Errors
    /// [`ServeError::Shard`] when a shard had failed. [`ServeError::Silent`] when the shards have not ended within
    /// [`Config::drain_max`](crate::Config::drain_max): their threads still run then, and the program should end.
    pub async fn drain(self) -> Result<(), ServeError> {
        let begin = Instant::now();
        if let Some(delay) = self.leave() {
            on_a_thread("shutdown-delay", move || std::thread::sleep(delay))?.await;
        }
        self.begin_drain();
        on_a_thread("drain", move || self.drained(begin))?.await.unwrap_or(Err(ServeError::Shard))
    }

    /// A blocking [`drain`](Self::drain). Do not call it within async code: it would block the handlers of this thread.
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

    /// The first step of a drain. Returns its duration.
    fn leave(&self) -> Option<Duration> {
        let delay = Some(self.reloader.config.shutdown_delay).filter(|delay| !delay.is_zero())?;
        self.started.watch.set(State::Leaving);
        tracing::info!("no longer ready; clients are still served for {delay:?} (shutdown_delay)");
        Some(delay)
    }

    /// Asks the shards to end, and does not wait for it.
    fn begin_drain(&self) {
        drop(self.stop_with_me());
    }

    fn drained(mut self, begin: Instant) -> Result<(), ServeError> {
        let patience = self.reloader.config.drain_max();
        while !self.started.threads.iter().all(|shard| shard.is_finished()) {
            if begin.elapsed() >= self.reloader.config.shutdown_delay + patience {
                return Err(ServeError::Silent { shards: self.silent_shards(), waited: patience });
            }
            std::thread::sleep(LOOK);
        }
        // They send what waits, which the runtime does: it must outlive the shards.
        let (notifying, _own_thread) = (self.started.notifying.take(), self.started.own_thread.take());
        let (close_timeout, news) = (self.reloader.config.close_timeout, self.started.news.clone());
        let DrainReport { notified, cut_off, answered, unanswered } = self.ended()?;
        let end = Instant::now() + close_timeout;
        let time = || end.saturating_duration_since(Instant::now());
        let left = news.ends.flush(time()) + news.channels.flush(time());
        if left > 0 {
            tracing::error!(left, "events are lost: handlers did not take them before the end (limits.close_timeout)");
        }
        if let Some(left) = notifying.map(|notifying| notifying.notifier.flush(time())).filter(|left| *left > 0) {
            tracing::error!(
                left,
                "notices are lost: the application did not take them before the end (limits.close_timeout)"
            );
        }
        let seconds = begin.elapsed().as_millis() as f64 / 1e3;
        tracing::info!(clients_notified = notified, cut_off, answered, unanswered, seconds, "stopped");
        Ok(())
    }

    /// The shards that take no turns now.
    fn silent_shards(&self) -> Vec<usize> {
        let ask = |control: &UnboundedSender<Control>| {
            let (answer, answered) = oneshot::channel();
            control.send(Control::Stats(answer)).ok().map(|()| answered)
        };
        let mut asked: Vec<_> = self.reloader.handle.controls().iter().map(ask).collect();
        let end = Instant::now() + SILENCE;
        loop {
            for answered in &mut asked {
                if answered.as_mut().is_some_and(|answered| !matches!(answered.try_recv(), Err(TryRecvError::Empty))) {
                    *answered = None; // it has answered, or ended
                }
            }
            let silent: Vec<usize> = (0..asked.len()).filter(|&shard| asked[shard].is_some()).collect();
            if silent.is_empty() || Instant::now() >= end {
                return silent;
            }
            std::thread::sleep(LOOK);
        }
    }

    fn stop_with_me(&self) -> StopWithMe {
        StopWithMe { watch: self.started.watch.clone(), shards: self.reloader.handle.controls().to_vec() }
    }

    /// Waits until every shard has ended.
    pub(super) async fn gone(&mut self) {
        let nothing = self.started.gone.recv().await;
        debug_assert!(nothing.is_none());
    }

    /// Replaces the configuration's rules by these; the rules of the code stay below them. Subscriptions that the new
    /// rules refuse are ended; other clients do not notice.
    pub fn reload_rules(&self, rules: &Rules) {
        self.reloader.rules(rules);
    }

    /// Replaces the configuration's API keys by these; the keys of the code stay. They apply to every request from now
    /// on; an earlier request that was accepted is answered.
    ///
    /// # Errors
    /// [`ServeError::SameApiKey`]: then nothing has changed.
    pub fn reload_api_keys(&self, keys: &[ApiKey]) -> Result<(), ServeError> {
        self.reloader.api_keys(keys)
    }

    /// Tokens are judged by these settings from now on: keys, `iss`, `aud`, the leeway, and whether clients may come
    /// without one. Sessions that exist go on. The address of keys and the cookie stay as they are. False, and nothing
    /// has changed, where the server was started without [`Config::auth`](crate::Config::auth): it asks about no token.
    pub fn reload_auth(&self, config: &AuthConfig) -> bool {
        let Some(authenticator) = &self.started.authenticator else { return !config.is_on() };
        authenticator.replace(config);
        true
    }

    /// Puts the quotas of [`Config::limits`](crate::Config::limits), [`Config::new_connections`],
    /// [`Config::overload_lag`](crate::Config::overload_lag) and [`Config::memory_max`](crate::Config::memory_max) in
    /// force; the other limits stay as they are.
    ///
    /// [`Config::new_connections`]: crate::Config::new_connections
    pub fn reload_limits(&self, config: &Config) {
        self.reloader.quotas(config.limits.quotas);
        self.started.watch.connections.reload(config);
    }

    /// Later requests of hooks go to these addresses, are signed with these secrets, are about these channels and
    /// notices, and keep these bounds. Which kinds of questions are asked stays as it is, and so does whether there are
    /// notices at all. False, where the server was started without [`Config::hooks`](crate::Config::hooks): then only
    /// the bounds of notices for handlers of the program have changed.
    pub fn reload_hooks(&self, config: &HooksConfig) -> bool {
        let NoticesConfig { bytes_max, age_max, .. } = config.notices;
        self.started.news.channels.reload(NewsBounds { bytes_max, age_max });
        let Some(hooks) = &self.reloader.hooks else { return !config.is_on() };
        self.reloader.hooks(hooks, self.started.authenticator.is_some(), config);
        true
    }

    /// Later TLS handshakes get this certificate; open connections keep theirs. A server that was started without TLS
    /// stays without.
    pub fn reload_tls(&self, tls: &Tls) {
        if let Some(current) = &self.reloader.config.tls {
            current.renew(tls);
        }
    }

    /// Figures of each shard.
    pub async fn stats(&self) -> Vec<ShardStats> {
        let mut all = Vec::new();
        for control in self.reloader.handle.controls() {
            let (answer, answered) = oneshot::channel();
            if control.send(Control::Stats(answer)).is_ok() {
                all.extend(answered.await.map(|figures| ShardStats { hub: figures.hub, connections: figures.open }));
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

    /// A blocking [`join`](Self::join).
    ///
    /// # Errors
    /// As for [`join`](Self::join).
    pub fn join_blocking(self) -> Result<(), ServeError> {
        self.ended().map(drop)
    }

    fn ended(self) -> Result<DrainReport, ServeError> {
        let mut all = Ok(DrainReport::default());
        for thread in self.started.threads {
            match (thread.join(), &mut all) {
                (Ok(report), Ok(sum)) => *sum += report,
                (Ok(_), Err(_)) => {}
                (Err(_), _) => all = Err(ServeError::Shard),
            }
        }
        all
    }
}
