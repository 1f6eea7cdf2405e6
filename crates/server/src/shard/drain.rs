//! The end of a shard, together with the others of its node. Every publication that was answered with `published` is
//! sent to all subscribers that were connected then.
//!
//! Each step ends on all shards before the next begins, because an input of one shard may concern clients of another:
//!
//! 1. *closing*: the shard accepts no connection and reads no command. It refuses changes of the application as
//!    `unavailable` (`app`);
//! 2. *answered*: every accepted command has its answer, so all homes have done their part;
//! 3. *marked*: each shard has sent a mark behind its messages to the others, and has received their marks. So every
//!    delivery has arrived and is fanned out.
//!
//! Then every client gets the time at which to come back, spread over the window, and the close. The shard waits until
//! the connections of all shards have ended and requests over HTTP have their answers (`http_connection`). The steps
//! take milliseconds. An asked handler has its deadline, a silent shard has `close_timeout`, and the last wait has
//! `close_timeout` again.

use super::http_connection::HttpLeft;
use super::{Shared, Shell};
use crate::config::Config;
use fanfare_hub::{Input, Now, ShardId};
use std::ops::AddAssign;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

/// Between two checks for an end that wakes no task.
const LOOK: Duration = Duration::from_millis(2);

/// The steps that end together.
#[derive(Debug, Clone, Copy)]
enum Step {
    Closing,
    Answered,
    Marked,
}

impl Step {
    const COUNT: usize = Step::Marked as usize + 1;
}

/// How it went, on one shard or on all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct DrainReport {
    /// Clients that were asked to come back.
    pub(crate) notified: usize,
    /// Connections that did not end in time and were cut off.
    pub(crate) cut_off: usize,
    /// Commands that had no answer at the beginning of the drain, and got one.
    pub(crate) answered: usize,
    /// Commands that got none: their publishers do not know the outcome.
    pub(crate) unanswered: usize,
}

impl AddAssign for DrainReport {
    fn add_assign(&mut self, other: DrainReport) {
        let DrainReport { notified, cut_off, answered, unanswered } = other;
        self.notified += notified;
        self.cut_off += cut_off;
        self.answered += answered;
        self.unanswered += unanswered;
    }
}

/// Where the shards of a node wait for each other.
#[derive(Clone)]
pub(crate) struct DrainBarrier {
    shards: usize,
    /// How many shards have finished each step.
    arrived: watch::Sender<[usize; Step::COUNT]>,
    /// The open connections of each shard; the log has their sum.
    left: Arc<[AtomicUsize]>,
}

impl DrainBarrier {
    pub(crate) fn of(shards: usize) -> Self {
        let left = (0..shards).map(|_| AtomicUsize::new(0)).collect();
        DrainBarrier { shards, arrived: watch::Sender::new([0; Step::COUNT]), left }
    }

    fn leave(&self, shard: ShardId, left: usize) {
        self.left[usize::from(shard.0)].store(left, Relaxed);
    }

    fn left(&self) -> usize {
        self.left.iter().map(|left| left.load(Relaxed)).sum()
    }

    /// Says that this shard has finished a step, and waits until all have.
    async fn wait(&self, step: Step) {
        let at = step as usize;
        self.arrived.send_modify(|arrived| arrived[at] += 1);
        let all = self.shards;
        let mut arrived = self.arrived.subscribe();
        let _ = arrived.wait_for(|arrived| arrived[at] >= all).await; // the sender is ours: it cannot be gone
    }
}

/// See the module's description. The listeners are closed already.
pub(super) async fn drain(shell: &Shared, barrier: &DrainBarrier, alive: Arc<()>) -> DrainReport {
    let config: Arc<Config> = shell.borrow().config.clone();
    let me = shell.borrow().links.me();
    // before the first step ends, so that the first line of the log counts all
    barrier.leave(me, shell.borrow().readers);
    let asked = shell.borrow().hub.outstanding();
    // An asked handler has its deadline.
    let patience = config.close_timeout.max(Duration::from_millis(config.limits.hook_timeout_ms));
    if timeout_at(Instant::now() + patience, settle(shell, barrier)).await.is_err() {
        let shard = me.0;
        tracing::warn!(shard, "some commands could not be answered and delivered within {patience:?}");
    }
    let unanswered = shell.borrow().hub.outstanding();
    {
        let mut shell = shell.borrow_mut();
        shell.stop_intake();
        shell.draining = true;
        let now = shell.now();
        shell.send_away(now);
    }
    let mut words = Words { speaks: me == ShardId(0), begin: Instant::now(), next: Instant::now() };
    let cut_off = go(shell, config.close_timeout, barrier, me, &mut words).await;
    // Shards end together: the channels of this shard are needed while a client is connected to another.
    let others = Arc::downgrade(&alive);
    drop(alive);
    let end = words.begin + config.close_timeout;
    // HTTP requests that come meanwhile are still answered.
    while others.strong_count() > 0 || shell.borrow().http_left().busy > 0 && Instant::now() < end {
        words.say(barrier);
        sleep(LOOK).await;
    }
    DrainReport { notified: shell.borrow().notified, cut_off, answered: asked.saturating_sub(unanswered), unanswered }
}

/// Logs the number of open connections each second. One shard does it for all.
struct Words {
    speaks: bool,
    begin: Instant,
    next: Instant,
}

impl Words {
    fn say(&mut self, barrier: &DrainBarrier) {
        let now = Instant::now();
        if self.speaks && now >= self.next {
            self.next = now + Duration::from_secs(1);
            let (connections, ms) = (barrier.left(), (now - self.begin).as_millis() as u64);
            if connections > 0 {
                tracing::info!(connections, ms, "draining: clients are asked to come back");
            }
        }
    }
}

/// Waits until the connections have ended, with the HTTP connections that are being answered, but no longer than this.
/// Returns the number of those that have not. (Each reader gives its peer the same time, so usually none is left.)
async fn go(shell: &Shared, patience: Duration, barrier: &DrainBarrier, me: ShardId, words: &mut Words) -> usize {
    let end = Instant::now() + patience;
    loop {
        let left = shell.borrow().readers;
        let HttpLeft { busy: answering, lingering } = shell.borrow().http_left();
        words.say(barrier);
        barrier.leave(me, left);
        if left + answering + lingering == 0 || Instant::now() >= end {
            let (shard, connections) = (me.0, shell.borrow().cut_off + left + answering);
            if connections > 0 {
                tracing::warn!(
                    shard,
                    connections,
                    "drained; these clients did not leave within {patience:?} and are disconnected"
                );
            }
            return connections;
        }
        sleep(LOOK).await;
    }
}

async fn settle(shell: &Shared, barrier: &DrainBarrier) {
    shell.borrow_mut().stop_intake();
    barrier.wait(Step::Closing).await;
    until_settled(shell).await;
    barrier.wait(Step::Answered).await;
    shell.borrow_mut().links.mark();
    while shell.borrow().marks + 1 < barrier.shards {
        sleep(LOOK).await;
    }
    until_settled(shell).await;
    barrier.wait(Step::Marked).await;
}

async fn until_settled(shell: &Shared) {
    loop {
        {
            let shell = shell.borrow();
            // The hub knows the commands of clients; the application's are in `asked`.
            if !shell.again && !shell.links.waiting() && shell.asked.is_empty() && shell.hub.is_settled() {
                return;
            }
        }
        sleep(LOOK).await;
    }
}

impl Shell {
    /// Asks every client to come back at a given time, and begins to close its connection.
    pub(super) fn send_away(&mut self, now: Now) {
        let window_ms = u64::try_from(self.config.drain_window.as_millis()).unwrap_or(u64::MAX);
        self.act(now, Input::Drain { window_ms });
    }
}
