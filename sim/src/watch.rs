//! A shard's messages to one connection, judged in the moment in which they are sent: the treatment of slow readers,
//! and the gathering of batches. The judge at the other end (`checker`) sees the messages that arrive, but neither the
//! time at which they were sent nor the state at that time.

use crate::ledger::{Kept, Ledger};
use crate::model::{cost_max, is_narrow, is_told, may_choose};
use crate::plan::{Habit, Plan};
use fanfare_hub::{ChannelName, ClientId, Position, Publication, Push, ReplyBody, Slow, Subscribed};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The live subscriptions of a connection, as the shard has reported them.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    live: BTreeMap<ChannelName, Live>,
    /// Whose it is.
    client: Option<ClientId>,
    /// The outbox is over its mark.
    is_full: bool,
    /// When it was last told how many are present.
    counted_ms: BTreeMap<ChannelName, u64>,
    /// Channels to which its client subscribes by requests of their own.
    by_requests: BTreeSet<ChannelName>,
}

/// Counts of presence are at least so far apart: a second, but for the steps of the shard's clock.
const COUNTS_MS: u64 = 870;

/// What a busy shard and the steps of its clock may add to the time of a batch.
const LATE_MS: u64 = 1_500;
/// What each publication to any channel since then may add to that: where a turn goes on with one member, a burst takes
/// its time, and channels have their turns.
const LATE_EACH_MS: u64 = 10;

#[derive(Debug)]
struct Live {
    habit: Habit,
    since_ms: u64,
    slow: Slow,
    at: Position,
    /// It is at the newest position, or was before it was slow: it misses later publications because it is slow.
    complete: bool,
    /// The outbox has been over its mark since then: it may be catching up.
    was_full: bool,
    /// It wants only the latest, and has missed publications: the turn in which it gets the newest one, once that has
    /// come.
    owed: Option<Option<u64>>,
    /// Deliveries are gathered from a known beginning.
    in_step: bool,
    /// A batch that was sent too early, unless a gap follows.
    early: Option<String>,
    /// It may be in rooms: then nothing is passed over, however it wants to be treated.
    in_rooms: bool,
}

/// The time and the place of a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Said {
    pub(crate) now_ms: u64,
    pub(crate) turn: u64,
    /// How many entries had been accepted anywhere when the turn began.
    pub(crate) turn_order: u64,
    pub(crate) page_bytes_max: usize,
    /// No store loses anything in this world: a store that does so sets subscribers back without a notice, and they
    /// catch up by pages.
    pub(crate) steady: bool,
    /// The shard is alone, never stands still and has a good store: a publication is told at once, or when its batch is
    /// due.
    pub(crate) is_prompt: bool,
}

impl Watch {
    /// An answer is given. `asked`: the options of the subscription, if that is answered.
    pub(crate) fn replied(
        &mut self,
        now_ms: u64,
        body: &ReplyBody,
        plan: &Plan,
        asked: &impl Fn(&ChannelName) -> Habit,
    ) -> Result<(), String> {
        match body {
            ReplyBody::Subscribed(subscribed) => self.subscribed(now_ms, subscribed, asked(&subscribed.channel), plan),
            ReplyBody::Many(bodies) => {
                for body in bodies {
                    self.replied(now_ms, body, plan, asked)?;
                    if let ReplyBody::Subscribed(subscribed) = body {
                        // It was held back until the others were answered, and pulls the publications that have come
                        // since.
                        self.live.get_mut(&subscribed.channel).into_iter().for_each(|live| live.complete = false);
                    }
                }
                Ok(())
            }
            ReplyBody::Unsubscribed { channel } => {
                self.live.remove(channel);
                Ok(())
            }
            ReplyBody::Connected(connected) => {
                self.client = Some(connected.client);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn subscribed(&mut self, now_ms: u64, subscribed: &Subscribed, habit: Habit, plan: &Plan) -> Result<(), String> {
        let Subscribed { channel, position, more, .. } = subscribed;
        let rule = plan.slow(channel);
        if habit.slow.is_some_and(|choice| !may_choose(choice, rule)) {
            return Err(format!("{channel}: subscribed with slow = {:?}, where the rule says {rule:?}", habit.slow));
        }
        let slow = habit.slow.unwrap_or(rule);
        if self.by_requests.contains(channel) {
            return Ok(());
        }
        let (at, complete) = (*position, !more);
        let since_ms = now_ms;
        let live = Live {
            habit,
            since_ms,
            slow,
            at,
            complete,
            was_full: self.is_full,
            owed: None,
            in_step: false,
            early: None,
            in_rooms: habit.keep,
        };
        self.live.insert(channel.clone(), live);
        self.counted_ms.remove(channel);
        Ok(())
    }

    /// The shard is given a command to enter a room.
    pub(crate) fn enters_room(&mut self, channel: &ChannelName) {
        if let Some(live) = self.live.get_mut(channel) {
            (live.in_rooms, live.owed) = (true, None);
        }
    }

    /// The connection has another wire: subscriptions may have to catch up.
    pub(crate) fn rewired(&mut self) {
        for live in self.live.values_mut() {
            (live.complete, live.in_step, live.owed, live.early) = (false, false, None, None);
        }
    }

    /// A request of its own has ended it.
    pub(crate) fn forget(&mut self, channel: &ChannelName) {
        self.live.remove(channel);
    }

    /// A request of its own subscribes to it, and nobody sees when: a subscription that the server has made begins anew
    /// with other options.
    pub(crate) fn subscribes_by_request(&mut self, channel: &ChannelName) {
        self.live.remove(channel);
        self.by_requests.insert(channel.clone());
    }

    /// Since when it is subscribed to a channel, and whether it wants its signals.
    pub(crate) fn follows(&self, channel: &ChannelName) -> Option<(u64, bool)> {
        self.live.get(channel).map(|live| (live.since_ms, !live.habit.no_signals))
    }

    /// The outbox is over its mark. True if the connection must be closed for it: one of its channels demands that, and
    /// it was not catching up.
    pub(crate) fn full(&mut self) -> bool {
        self.is_full = true;
        let catches_up = self.live.values().any(|live| !live.complete || live.was_full);
        for live in self.live.values_mut() {
            (live.owed, live.in_step, live.was_full) = (None, false, true);
        }
        !catches_up && self.live.values().any(|live| live.slow == Slow::Disconnect)
    }

    /// The outbox has drained. `exact`: a shard, and all subscribers, learn at once of each publication that a store
    /// accepts.
    pub(crate) fn drained(&mut self, exact: bool, ledger: &Ledger) {
        self.is_full = false;
        let passes_over = |live: &Live| live.slow == Slow::Latest && live.complete && !live.in_rooms;
        for (channel, live) in self.live.iter_mut().filter(|(_, live)| passes_over(live)) {
            let missed = ledger.between(channel, live.at.epoch, live.at.offset, u64::MAX);
            if exact && missed.iter().any(|kept| !is_narrow(&kept.publication)) {
                live.owed = Some(None);
            }
        }
    }

    /// A message is sent. Returns true for a batch.
    pub(crate) fn pushed(&mut self, push: &Push, said: Said, plan: &Plan, ledger: &Ledger) -> Result<bool, String> {
        match push {
            Push::Message { channel, publication, .. } => {
                self.published(channel, std::slice::from_ref(publication), said, ledger)?;
            }
            Push::Messages { channel, publications } => {
                self.published(channel, publications, said, ledger)?;
                return Ok(true);
            }
            Push::Gap { channel, position, .. } => {
                if let Some(live) = self.live.get_mut(channel) {
                    live.at = *position;
                    live.in_step = false;
                    live.early = None;
                    live.owed = live.owed.and_then(|turn| Live::owed_in(turn, said.turn)).map(Some);
                }
            }
            Push::PresenceCount { channel, .. } => {
                const WHOLE: usize = 4096;
                // A fan-out in slices may be late itself.
                let is_exact = said.is_prompt && plan.limits.fanout_slice >= WHOLE;
                let before_ms = self.counted_ms.insert(channel.clone(), said.now_ms);
                if let Some(before_ms) = before_ms.filter(|ms| is_exact && said.now_ms < ms + COUNTS_MS) {
                    let since_ms = said.now_ms - before_ms;
                    return Err(format!("{channel}: the number of those present is told again after {since_ms} ms"));
                }
            }
            // The application's action: the client asked for no option.
            Push::Subscribed(subscribed) => self.subscribed(said.now_ms, subscribed, Habit::default(), plan)?,
            Push::Unsubscribed { channel, .. } => {
                self.live.remove(channel);
            }
            _ => {}
        }
        Ok(false)
    }

    fn published(
        &mut self,
        channel: &ChannelName,
        publications: &[Arc<Publication>],
        said: Said,
        ledger: &Ledger,
    ) -> Result<(), String> {
        let Some(live) = self.live.get_mut(channel) else { return Ok(()) }; // the checker finds that it is not subscribed
        let Some(last) = publications.last() else { return Err(format!("{channel}: an empty batch")) };
        let size = live.habit.batch.map_or(1, |batch| batch.size as usize);
        if publications.len() > size {
            return Err(format!("{channel}: {} publications in a batch of {size}", publications.len()));
        }
        live.owed = live.owed.and_then(|turn| Live::owed_in(turn, said.turn)).map(Some);
        if live.owed.is_some() {
            let newer = ledger.between(channel, live.at.epoch, last.offset, u64::MAX);
            let wants = |kept: &&Kept| self.client.is_some_and(|client| is_told(kept, client));
            // Those of this turn may have been accepted after this was told, and follow it.
            let newer = newer.iter().filter(|kept| kept.order <= said.turn_order).filter(wants).count();
            if newer > 0 || publications.len() > 1 {
                let at = last.offset;
                return Err(format!("{channel}: only the latest is wanted, and {at} is told with {newer} newer ones"));
            }
        }
        if said.is_prompt && live.in_step && live.complete && !live.was_full {
            let waited = ledger.between(channel, live.at.epoch, live.at.offset, last.offset + 1);
            let first = waited.iter().find(|kept| !is_narrow(&kept.publication));
            let waited_ms = first.map_or(0, |kept| said.now_ms - kept.at_ms);
            let may_ms = live.habit.batch.map_or(0, |batch| u64::from(batch.delay_ms)) + LATE_MS;
            let since_ms = said.now_ms - waited_ms;
            let newer = || ledger.all().filter(|(.., kept)| kept.at_ms >= since_ms).count() as u64;
            if waited_ms > may_ms && waited_ms > may_ms + LATE_EACH_MS * newer() {
                return Err(format!("{channel}: {} is told after {waited_ms} ms, {may_ms} may be", last.offset));
            }
        }
        if let Some(early) = live.early.take() {
            return Err(early);
        }
        if let (Some(batch), true) = (live.habit.batch, live.in_step) {
            // The last gathered publication may not be for this client.
            let after = ledger.between(channel, live.at.epoch, last.offset, u64::MAX);
            let unwanted = after.iter().take_while(|kept| is_narrow(&kept.publication)).last();
            let end = unwanted.map_or(last.offset, |kept| kept.publication.offset);
            let gathered = ledger.between(channel, live.at.epoch, live.at.offset, end + 1);
            let bytes: usize = gathered.iter().map(|kept| cost_max(&kept.publication)).sum();
            let waited_ms = gathered.first().map_or(u64::MAX, |kept| said.now_ms - kept.at_ms);
            let whole = gathered.len() >= size || bytes >= said.page_bytes_max;
            if !whole && waited_ms < u64::from(batch.delay_ms) {
                let len = publications.len();
                live.early = Some(format!(
                    "{channel}: a batch of {len} is told after {waited_ms} ms, where {size} or {} ms are wanted",
                    batch.delay_ms
                ));
            }
        }
        // The first one after a beginning may be the end of a batch that began for other subscribers.
        live.in_step = live.complete && !live.was_full && said.steady;
        live.at.offset = last.offset;
        Ok(())
    }
}

impl Live {
    /// All due publications are sent in one turn; publications of later turns are judged separately.
    fn owed_in(told: Option<u64>, turn: u64) -> Option<u64> {
        told.is_none_or(|told| told == turn).then_some(turn)
    }
}
