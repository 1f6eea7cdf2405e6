//! A server that runs: its addresses and figures, other rules and keys, and its end in good order.

use crate::config::address::Address;
use crate::config::api_key::ApiKey;
use crate::control::Control;
use crate::error::ServeError;
use crate::server::reload::Reloader;
use crate::server::start::{Started, StopWithMe};
use crate::shard::DrainReport;
use crate::watch::State;
use fanfare_hub::{Rules, Stats};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// A server that runs, until it is told to stop: [`drain`](Self::drain).
///
/// Dropping it stops the server too, even while a [`Handle`](crate::Handle) or a
/// [`FanfareService`](crate::FanfareService) is held: the server accepts nothing any more, tells clients to come back,
/// and ends its shards. A drop does not wait for that.
#[must_use = "dropping this stops the server"]
pub struct Running {
    pub(super) addresses: Vec<Address>,
    pub(super) started: Started,
    pub(super) reloader: Reloader,
}

impl Running {
    /// The address of `/metrics`, if it has an address of its own.
    pub fn admin_address(&self) -> Option<&Address> {
        self.started.admin.as_ref().map(|admin| &admin.address)
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
    /// Then it stops accepting and listening, answers and delivers what it has taken in, tells every client when to
    /// come back, and waits until they have gone. What was acknowledged has been sent to all who were connected then.
    /// The log tells how it went.
    ///
    /// Handlers go on meanwhile: their answers are waited for. Dropping the future stops the wait, and the shards end
    /// all the same: at once if the delay was not over.
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

    /// The first step of a drain, and how long it takes.
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

    fn drained(self, begin: Instant) -> Result<(), ServeError> {
        let DrainReport { notified, cut_off, answered, unanswered } = self.ended()?;
        let seconds = begin.elapsed().as_millis() as f64 / 1e3;
        tracing::info!(clients_told = notified, cut_off, answered, unanswered, seconds, "stopped");
        Ok(())
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
