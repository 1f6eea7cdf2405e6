//! The judge of quotas: what one session, and all sessions of one user, may send in a time.
//!
//! A rate of 10 in 1,000 ms is a bucket that holds ten and drains one in 100 ms. A command that finds no room is
//! refused, with the time after which there is room, and takes nothing. The judge keeps a bucket for each session and
//! each user, by the commands that shards are given and the costs that docs/config.md names. A command that waits for
//! its session may be charged or not: so a bucket has two levels, one that is reached at least and one at most. What a
//! user has done on another shard comes there late. In worlds with several shards only the highest level of a user is
//! known.

use fanfare_hub::{ClientId, Command, Error, ErrorCode, Rate, RoomCommand, UserId};
use std::collections::{BTreeMap, VecDeque};

/// Nanoseconds in a millisecond: a bucket is the time until it is empty.
const MS: u64 = 1_000_000;
/// So late a shard may hear of what a user has done on another.
const LATE_MS: u64 = 4_000;

/// The rates of a world. `None`: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct QuotaPlan {
    pub(crate) messages: Option<(u64, u64)>,
    pub(crate) bytes: Option<(u64, u64)>,
    pub(crate) user_messages: Option<(u64, u64)>,
    pub(crate) user_bytes: Option<(u64, u64)>,
}

impl QuotaPlan {
    pub(crate) fn is_on(&self) -> bool {
        *self != QuotaPlan::default()
    }

    /// In the hub's words.
    pub(crate) fn quotas(&self) -> fanfare_hub::Quotas {
        let rate = |rate: Option<(u64, u64)>| rate.map(|(count, window_ms)| Rate::new(count, window_ms));
        fanfare_hub::Quotas {
            messages_per_connection: rate(self.messages),
            bytes_per_connection: rate(self.bytes),
            messages_per_user: rate(self.user_messages),
            bytes_per_user: rate(self.user_bytes),
            ..fanfare_hub::Quotas::NONE
        }
    }
}

/// What a command takes: messages, and bytes of data.
pub(crate) fn cost(command: &Command) -> Option<[u64; 2]> {
    let bytes = match command {
        Command::Connect(_) | Command::Pong | Command::Invalid(_) | Command::Leave | Command::Disconnect => {
            return None;
        }
        Command::Subscribe { subs, .. } => return Some([subs.len().max(1) as u64, 0]),
        Command::Publish(publish) => publish.data.bytes().len(),
        Command::Signal(signal) => signal.data.len(),
        Command::PresenceSet { data, .. } | Command::Rpc { data, .. } => data.len(),
        Command::Room(command) => match &**command {
            RoomCommand::Publish { publish, .. } => publish.data.bytes().len(),
            RoomCommand::Answer { data, .. } => data.bytes().len(),
            _ => 0,
        },
        _ => 0,
    };
    Some([1, bytes as u64])
}

/// True for an error that is about a quota, and not about a rule's rate.
pub(crate) fn is_over_quota(error: &Error) -> bool {
    error.code == ErrorCode::RateLimited && error.limit.is_some()
}

#[derive(Debug, Default)]
pub(crate) struct Quotas {
    plan: QuotaPlan,
    has_shards: bool,
    sessions: BTreeMap<ClientId, [Bucket; 2]>,
    users: BTreeMap<UserId, Spent>,
    pub(crate) judged: u64,
    pub(crate) refused: u64,
    pub(crate) refused_users: u64,
    pub(crate) continued: u64,
}

#[derive(Debug, Default)]
struct Spent {
    buckets: [Bucket; 2],
    /// What was done lately, and when.
    lately: VecDeque<(u64, [u64; 2])>,
}

/// The times at which a bucket is empty at the earliest and at the latest, in ns.
#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    least: u64,
    most: u64,
}

/// A command that a session has given to a shard.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Charged<'w> {
    pub(crate) now_ms: u64,
    pub(crate) client: ClientId,
    pub(crate) user: Option<&'w UserId>,
    pub(crate) cost: [u64; 2],
    pub(crate) is_continued: bool,
}

impl Quotas {
    pub(crate) fn new(plan: QuotaPlan, shards: usize) -> Self {
        Quotas { plan, has_shards: shards > 1, ..Quotas::default() }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.plan.is_on()
    }

    /// Everything has healed: there are no limits.
    pub(crate) fn lift(&mut self) {
        self.plan = QuotaPlan::default();
        (self.sessions, self.users) = Default::default();
    }

    /// The server has gone, and all that it knew.
    pub(crate) fn server_gone(&mut self) {
        (self.sessions, self.users) = Default::default();
    }

    /// It is not known whether these commands of a session were charged.
    pub(crate) fn may_be_charged(&mut self, charged: Charged<'_>) {
        let Charged { now_ms, client, user, cost, .. } = charged;
        let rates = [self.plan.messages, self.plan.bytes];
        let buckets = self.sessions.entry(client).or_default();
        for ((bucket, rate), cost) in buckets.iter_mut().zip(rates).zip(cost) {
            if let Some(rate) = rate {
                bucket.most = filled(bucket.most, now_ms, rate, cost);
            }
        }
        let Some(user) = user else { return };
        let rates = [self.plan.user_messages, self.plan.user_bytes];
        let spent = self.users.entry(user.clone()).or_default();
        for ((bucket, rate), cost) in spent.buckets.iter_mut().zip(rates).zip(cost) {
            if let Some(rate) = rate {
                bucket.most = filled(bucket.most, now_ms, rate, cost);
            }
        }
        spent.lately.push_back((now_ms, cost));
    }

    /// A shard was given a command of a session, and has refused it for a quota or not.
    pub(crate) fn decided(&mut self, charged: Charged<'_>, refusal: Option<&Error>) -> Result<(), String> {
        let Charged { now_ms, client, user, cost, is_continued } = charged;
        let of_session = [self.plan.messages, self.plan.bytes];
        let of_user = [self.plan.user_messages, self.plan.user_bytes];
        let buckets = *self.sessions.entry(client).or_default();
        // (the rate, its bucket, what it takes, what may come besides)
        let mut rows: Vec<((u64, u64), Bucket, u64, u64)> = Vec::new();
        for ((rate, bucket), cost) in of_session.into_iter().zip(buckets).zip(cost) {
            rows.extend(rate.map(|rate| (rate, bucket, cost, 0)));
        }
        if let Some(user) = user {
            let has_shards = self.has_shards;
            let spent = self.users.entry(user.clone()).or_default();
            spent.lately.retain(|(at_ms, _)| at_ms + LATE_MS >= now_ms);
            for (n, (rate, bucket)) in of_user.into_iter().zip(spent.buckets).enumerate() {
                // A shard to which a session goes may hear of the same twice while it is on its way.
                let late = if has_shards { 2 * spent.lately.iter().map(|(_, cost)| cost[n]).sum::<u64>() } else { 0 };
                let least = if has_shards { 0 } else { bucket.least };
                // What a user's home is told is rounded up.
                rows.extend(rate.map(|rate| (rate, Bucket { least, ..bucket }, cost[n], late + 1)));
            }
        }
        let waits = |level: fn(&Bucket) -> u64, with_late: bool| {
            let each = rows.iter().filter(|(.., cost, _)| *cost > 0).map(|(rate, bucket, cost, late)| {
                let late = if with_late { *late } else { 0 };
                let empty = filled(level(bucket), now_ms, *rate, late);
                wait_ns(if late > 0 { empty } else { level(bucket) }, now_ms, *rate, *cost)
            });
            each.max().unwrap_or(0)
        };
        let (least, most) = (waits(|bucket| bucket.least, false), waits(|bucket| bucket.most, true));
        let whom = format!("quotas: {client} ({user:?}) sends {cost:?}");
        let Some(error) = refusal else {
            if least > MS {
                return Err(format!("{whom}, is to wait for {} µs, and is let", least / 1_000));
            }
            self.judged += 1;
            self.continued += u64::from(is_continued && most > 0);
            self.charge(charged);
            return Ok(());
        };
        self.judged += 1;
        self.refused += 1;
        self.refused_users += u64::from(error.limit.is_some_and(|limit| limit.ends_with("_per_user")));
        let after = error.retry_after_ms.unwrap_or(0) * MS;
        if most == 0 || after == 0 {
            return Err(format!("{whom}, has room, and is refused: {error:?}"));
        }
        if after + MS < least || after > most + 2 * MS {
            return Err(format!("{whom}, may in {} to {} µs, and is told: {error:?}", least / 1_000, most / 1_000));
        }
        Ok(())
    }

    fn charge(&mut self, charged: Charged<'_>) {
        let Charged { now_ms, client, user, cost, .. } = charged;
        let rates = [self.plan.messages, self.plan.bytes];
        let buckets = self.sessions.entry(client).or_default();
        take(buckets, now_ms, rates, cost);
        let Some(user) = user else { return };
        let rates = [self.plan.user_messages, self.plan.user_bytes];
        let spent = self.users.entry(user.clone()).or_default();
        take(&mut spent.buckets, now_ms, rates, cost);
        spent.lately.push_back((now_ms, cost));
    }
}

fn take(buckets: &mut [Bucket; 2], now_ms: u64, rates: [Option<(u64, u64)>; 2], cost: [u64; 2]) {
    for ((bucket, rate), cost) in buckets.iter_mut().zip(rates).zip(cost) {
        if let Some(rate) = rate {
            bucket.least = filled(bucket.least, now_ms, rate, cost);
            bucket.most = filled(bucket.most, now_ms, rate, cost);
        }
    }
}

/// When a bucket is empty that takes so much more now.
fn filled(empty: u64, now_ms: u64, (count, window_ms): (u64, u64), cost: u64) -> u64 {
    empty.max(now_ms * MS) + cost * window_ms * MS / count
}

/// How long a bucket has no room for so much. An empty one has room for everything.
fn wait_ns(empty: u64, now_ms: u64, (count, window_ms): (u64, u64), cost: u64) -> u64 {
    let (now, full) = (now_ms * MS, window_ms * MS);
    if empty <= now {
        return 0;
    }
    (empty + (cost * window_ms * MS / count).min(full)).saturating_sub(now + full)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn court() -> Quotas {
        Quotas::new(QuotaPlan { messages: Some((4, 1_000)), ..QuotaPlan::default() }, 1)
    }

    fn command(now_ms: u64) -> Charged<'static> {
        Charged { now_ms, client: ClientId(1), user: None, cost: [1, 0], is_continued: false }
    }

    fn refusal(after_ms: u64) -> Error {
        let error = Error::new(ErrorCode::RateLimited, "too much");
        Error { limit: Some("messages_per_connection"), retry_after_ms: Some(after_ms), ..error }
    }

    #[test]
    fn a_bucket_drains() {
        let mut quotas = court();
        for now_ms in [0, 0, 0, 100] {
            assert_eq!(quotas.decided(command(now_ms), None), Ok(()));
        }
        assert_eq!(quotas.decided(command(100), Some(&refusal(150))), Ok(()));
        assert_eq!(quotas.decided(command(250), None), Ok(()));
        assert_eq!(quotas.decided(command(260), Some(&refusal(240))), Ok(()));
    }

    #[test]
    fn one_too_many_and_a_wrong_time_are_faults() {
        for refusal in [None, Some(refusal(100)), Some(refusal(400))] {
            let mut quotas = court();
            for now_ms in [0, 0, 0, 100] {
                assert_eq!(quotas.decided(command(now_ms), None), Ok(()));
            }
            assert!(quotas.decided(command(100), refusal.as_ref()).is_err(), "{refusal:?}");
        }
        assert!(court().decided(command(0), Some(&refusal(250))).is_err(), "nothing was sent before");
    }
}
