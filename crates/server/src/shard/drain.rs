//! The end of a shard, together with the others of its node: nobody who was told `published` is wrong about those who were
//! connected then.
//!
//! Each step ends on all shards before the next begins, since what one takes in may concern clients of another:
//!
//! 1. *deaf*: nothing is accepted and no command is read any more;
//! 2. *answered*: what was taken in has its answer, so all homes have done their part;
//! 3. *marked*: each shard has sent a mark behind everything it had to say to the others, and has taken in theirs: every
//!    delivery has arrived, and is fanned out;
//! 4. *told*: behind all that, everybody gets the word of when to come back, spread over the window, and then the close.
//!
//! Then the shard waits until its connections have gone. Steps 1 to 3 take milliseconds; whoever is too slow for them, a
//! reader that does not read or a shard that hangs, is given `close_timeout`, and the end another one.

use super::{Shared, Shell};
use crate::config::Config;
use fanfare_hub::{Input, Now};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

/// Between two looks at whether something is over that tells nobody of its end.
const LOOK: Duration = Duration::from_millis(2);

/// The steps that end together.
#[derive(Debug, Clone, Copy)]
enum Step {
    Deaf,
    Answered,
    Marked,
    Told,
}

impl Step {
    const COUNT: usize = Step::Told as usize + 1;
}

/// Where the shards of a node wait for each other.
#[derive(Clone)]
pub(crate) struct Meeting {
    shards: usize,
    /// How many shards have finished each step.
    arrived: watch::Sender<[usize; Step::COUNT]>,
}

impl Meeting {
    pub(crate) fn of(shards: usize) -> Self {
        Meeting { shards, arrived: watch::Sender::new([0; Step::COUNT]) }
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
pub(super) async fn drain(shell: &Shared, meeting: &Meeting) {
    let config: Arc<Config> = shell.borrow().config.clone();
    let deadline = Instant::now() + config.close_timeout;
    if timeout_at(deadline, settle(shell, meeting)).await.is_err() {
        tracing::warn!("not all that was asked could be answered and delivered within {:?}", config.close_timeout);
    }
    {
        let mut shell = shell.borrow_mut();
        shell.deaf = true;
        shell.draining = true;
        let now = shell.now();
        shell.send_away(now);
    }
    let deadline = Instant::now() + config.close_timeout;
    let _ = timeout_at(deadline, meeting.wait(Step::Told)).await; // the channels that live here are needed until then
    while shell.borrow().readers > 0 && Instant::now() < deadline {
        sleep(LOOK).await;
    }
}

async fn settle(shell: &Shared, meeting: &Meeting) {
    shell.borrow_mut().deaf = true;
    meeting.wait(Step::Deaf).await;
    until_settled(shell).await;
    meeting.wait(Step::Answered).await;
    shell.borrow_mut().links.mark();
    while shell.borrow().marks + 1 < meeting.shards {
        sleep(LOOK).await;
    }
    until_settled(shell).await;
    meeting.wait(Step::Marked).await;
}

async fn until_settled(shell: &Shared) {
    loop {
        {
            let shell = shell.borrow();
            if !shell.again && !shell.links.waiting() && shell.hub.is_settled() {
                return;
            }
        }
        sleep(LOOK).await;
    }
}

impl Shell {
    /// Tells everybody who is connected to come back, and when, and begins their goodbye.
    pub(super) fn send_away(&mut self, now: Now) {
        let window_ms = u64::try_from(self.config.drain_window.as_millis()).unwrap_or(u64::MAX);
        self.act(now, Input::Drain { window_ms });
    }
}
