//! How much a client, and all clients of one user, may do in a time: rates, and buckets that count against them.
//!
//! A [`Bucket`] is one number: the time at which it will be empty. What a client does fills it, time drains it. It
//! takes a few arithmetic operations and no memory of its own. A rate of `100/10s` lets a client do a hundred things at
//! once, and ten a second for ever.

/// Fractions of a millisecond in the time of a bucket: enough for 1 GiB a second to within a tenth.
const FRACTION_BITS: u32 = 24;

/// So many in such a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    count: u64,
    window_ms: u64,
    /// The time that one takes to drain.
    each: u64,
}

impl Rate {
    /// `count` in `window_ms`. Zero counts as one.
    #[must_use]
    pub fn new(count: u64, window_ms: u64) -> Self {
        let (count, window_ms) = (count.max(1), window_ms.clamp(1, 86_400_000));
        Rate { count, window_ms, each: ((window_ms << FRACTION_BITS) / count).max(1) }
    }

    /// How many at once.
    #[must_use]
    pub fn count(self) -> u64 {
        self.count
    }

    /// The time after which a full bucket is empty.
    #[must_use]
    pub fn window_ms(self) -> u64 {
        self.window_ms
    }

    fn drains(self, cost: u64) -> u64 {
        cost.saturating_mul(self.each)
    }
}

/// How full a bucket is. It belongs to one rate; [`under`](Bucket::under) makes it one of another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bucket {
    /// When it is empty, in fractions of a millisecond of the shard's clock.
    empty_at: u64,
}

impl Bucket {
    /// The time after which there is room for `cost`, in ms; `None`: there is room now. An empty bucket has room for
    /// any cost, as there is no better time.
    #[must_use]
    pub fn waits_ms(self, now_ms: u64, rate: Rate, cost: u64) -> Option<u64> {
        let now = now_ms << FRACTION_BITS;
        let full = rate.window_ms << FRACTION_BITS;
        let room_at = self.empty_at.saturating_add(rate.drains(cost).min(full)).saturating_sub(full);
        (self.empty_at > now && room_at > now).then(|| (room_at - now).div_ceil(1 << FRACTION_BITS))
    }

    /// Takes this much, whether or not there is room.
    pub fn take(&mut self, now_ms: u64, rate: Rate, cost: u64) {
        self.empty_at = self.empty_at.max(now_ms << FRACTION_BITS).saturating_add(rate.drains(cost));
    }

    /// Gives back what was taken.
    pub fn give_back(&mut self, rate: Rate, cost: u64) {
        self.empty_at = self.empty_at.saturating_sub(rate.drains(cost));
    }

    /// How much of it has not drained yet.
    fn holds(self, now_ms: u64, rate: Rate) -> u64 {
        self.empty_at.saturating_sub(now_ms << FRACTION_BITS).div_ceil(rate.each)
    }

    /// Another rate is in force. The bucket is full at most, and what was taken above the former rate is forgiven:
    /// nobody waits for longer than the new rate tells.
    pub fn under(&mut self, now_ms: u64, rate: Option<Rate>) {
        let full = rate.map_or(0, |rate| rate.window_ms << FRACTION_BITS);
        self.empty_at = self.empty_at.min((now_ms << FRACTION_BITS).saturating_add(full));
    }

    /// True once everything has drained.
    #[must_use]
    pub fn is_empty(self, now_ms: u64) -> bool {
        self.empty_at <= now_ms << FRACTION_BITS
    }

    /// The fuller one.
    #[must_use]
    pub fn fuller(self, other: Bucket) -> Bucket {
        Bucket { empty_at: self.empty_at.max(other.empty_at) }
    }
}

/// The rates of clients and users. `None`: no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quotas {
    /// Sessions of one user, on all shards; 0: no limit. Default 100.
    pub connections_per_user_max: u32,
    /// Commands of one session. Default 1000 in 10 s.
    pub messages_per_connection: Option<Rate>,
    /// Bytes of data in them. Default 10 MiB in 10 s.
    pub bytes_per_connection: Option<Rate>,
    /// Commands of all sessions of one user. Default 3000 in 10 s.
    pub messages_per_user: Option<Rate>,
    /// Bytes of data in them. Default 30 MiB in 10 s.
    pub bytes_per_user: Option<Rate>,
    /// Names of channels that the node does not know yet, used by all sessions of one user, or by one session without
    /// a user. Default 600 in a minute.
    pub new_channels_per_user: Option<Rate>,
    /// Polls of one session: a client that does more waits for each answer. Default 1000 in 10 s.
    pub polls_per_connection: Option<Rate>,
}

impl Quotas {
    /// No limit at all.
    pub const NONE: Quotas = Quotas {
        connections_per_user_max: 0,
        messages_per_connection: None,
        bytes_per_connection: None,
        messages_per_user: None,
        bytes_per_user: None,
        new_channels_per_user: None,
        polls_per_connection: None,
    };
}

impl Default for Quotas {
    fn default() -> Self {
        Quotas {
            connections_per_user_max: 100,
            messages_per_connection: Some(Rate::new(1_000, 10_000)),
            bytes_per_connection: Some(Rate::new(10 << 20, 10_000)),
            messages_per_user: Some(Rate::new(3_000, 10_000)),
            bytes_per_user: Some(Rate::new(30 << 20, 10_000)),
            new_channels_per_user: Some(Rate::new(600, 60_000)),
            polls_per_connection: Some(Rate::new(1_000, 10_000)),
        }
    }
}

/// What one party has done lately.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    pub(crate) messages: Bucket,
    pub(crate) bytes: Bucket,
    pub(crate) channels: Bucket,
}

/// The rates that [`Spent`] counts against: a session's, or a user's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowance {
    pub(crate) messages: Option<Rate>,
    pub(crate) bytes: Option<Rate>,
    pub(crate) channels: Option<Rate>,
    /// The names of the options.
    names: [&'static str; 2],
    whose: &'static str,
}

/// What a command costs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    /// New names.
    pub(crate) channels: u64,
}

/// A rate that is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UsedUp {
    /// The option.
    pub(crate) limit: &'static str,
    pub(crate) rate: Rate,
    pub(crate) what: &'static str,
    pub(crate) whose: &'static str,
    pub(crate) retry_after_ms: u64,
}

impl Quotas {
    pub(crate) fn of_session(&self) -> Allowance {
        Allowance {
            messages: self.messages_per_connection,
            bytes: self.bytes_per_connection,
            channels: self.new_channels_per_user,
            names: ["messages_per_connection", "bytes_per_connection"],
            whose: "connection",
        }
    }

    pub(crate) fn of_user(&self) -> Allowance {
        Allowance {
            messages: self.messages_per_user,
            bytes: self.bytes_per_user,
            channels: self.new_channels_per_user,
            names: ["messages_per_user", "bytes_per_user"],
            whose: "user",
        }
    }
}

impl Allowance {
    /// The rate that has no room for this, if there is one: of several the one that takes longest.
    pub(crate) fn used_up(&self, now_ms: u64, spent: &Spent, cost: Cost) -> Option<UsedUp> {
        let [messages, bytes] = self.names;
        let rows = [
            (self.messages, spent.messages, cost.messages, messages, "messages"),
            (self.bytes, spent.bytes, cost.bytes, bytes, "bytes"),
        ];
        // One command may be longer than a rate allows at once. What has no data does not wait until it is paid for.
        let waits = rows.into_iter().filter_map(|(rate, bucket, cost, limit, what)| {
            let rate = rate.filter(|_| cost > 0)?;
            let retry_after_ms = bucket.waits_ms(now_ms, rate, cost)?;
            Some(UsedUp { limit, rate, what, whose: self.whose, retry_after_ms })
        });
        waits.max_by_key(|used_up| used_up.retry_after_ms)
    }

    /// The time after which one more new name may be used, if it may not now.
    pub(crate) fn name_waits_ms(&self, now_ms: u64, spent: &Spent) -> Option<u64> {
        spent.channels.waits_ms(now_ms, self.channels?, 1)
    }

    pub(crate) fn spend(&self, now_ms: u64, spent: &mut Spent, cost: Cost) {
        if let Some(rate) = self.messages {
            spent.messages.take(now_ms, rate, cost.messages);
        }
        if let Some(rate) = self.bytes {
            spent.bytes.take(now_ms, rate, cost.bytes);
        }
        if let Some(rate) = self.channels {
            spent.channels.take(now_ms, rate, cost.channels);
        }
    }

    /// What was spent without this part of it.
    pub(crate) fn without(&self, spent: &Spent, part: Cost) -> Spent {
        let without = |mut bucket: Bucket, rate: Option<Rate>, cost| {
            if let Some(rate) = rate {
                bucket.give_back(rate, cost);
            }
            bucket
        };
        Spent {
            messages: without(spent.messages, self.messages, part.messages),
            bytes: without(spent.bytes, self.bytes, part.bytes),
            channels: without(spent.channels, self.channels, part.channels),
        }
    }

    /// As much of this part of what was spent as has not drained yet.
    pub(crate) fn undrained(&self, now_ms: u64, spent: &Spent, part: Cost) -> Cost {
        let held = |bucket: Bucket, rate: Option<Rate>| rate.map_or(0, |rate| bucket.holds(now_ms, rate));
        Cost {
            messages: part.messages.min(held(spent.messages, self.messages)),
            bytes: part.bytes.min(held(spent.bytes, self.bytes)),
            channels: part.channels.min(held(spent.channels, self.channels)),
        }
    }

    /// These rates are in force now.
    pub(crate) fn begins(&self, now_ms: u64, spent: &mut Spent) {
        spent.messages.under(now_ms, self.messages);
        spent.bytes.under(now_ms, self.bytes);
        spent.channels.under(now_ms, self.channels);
    }

    /// True for an eighth of what may be done at once, or more: other shards should hear of it.
    pub(crate) fn is_much(&self, cost: Cost) -> bool {
        let is_much = |rate: Option<Rate>, cost: u64| rate.is_some_and(|rate| cost >= (rate.count() / 8).max(1));
        is_much(self.messages, cost.messages)
            || is_much(self.bytes, cost.bytes)
            || is_much(self.channels, cost.channels)
    }
}

impl Spent {
    pub(crate) fn is_empty(&self, now_ms: u64) -> bool {
        self.messages.is_empty(now_ms) && self.bytes.is_empty(now_ms) && self.channels.is_empty(now_ms)
    }

    pub(crate) fn fuller(&self, other: &Spent) -> Spent {
        Spent {
            messages: self.messages.fuller(other.messages),
            bytes: self.bytes.fuller(other.bytes),
            channels: self.channels.fuller(other.channels),
        }
    }
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, more: Cost) {
        self.messages += more.messages;
        self.bytes += more.bytes;
        self.channels += more.channels;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_takes_its_count_at_once_and_then_as_it_drains() {
        let rows = [(100, 10_000), (3, 1_000), (1, 60_000), (7, 3), (1 << 30, 1_000)];
        for (count, window_ms) in rows {
            let rate = Rate::new(count, window_ms);
            let start_ms = 500_000_000_000; // 15 years
            let mut bucket = Bucket::default();
            let part = count.div_ceil(100);
            let mut taken = 0;
            while bucket.waits_ms(start_ms, rate, part).is_none() {
                bucket.take(start_ms, rate, part);
                taken += part;
            }
            let name = format!("{count} in {window_ms} ms");
            assert!(taken <= count + count / 10 && taken + part > count, "{name}: {taken} at once");
            let wait_ms = bucket.waits_ms(start_ms, rate, part).expect("full");
            assert_eq!(bucket.waits_ms(start_ms + wait_ms, rate, part), None, "{name}: after what it says");
            assert!(bucket.waits_ms(start_ms + wait_ms - 1, rate, part).is_some(), "{name}: and not before");
            assert!(!bucket.is_empty(start_ms) && bucket.is_empty(start_ms + window_ms), "{name}");
        }
    }

    #[test]
    fn over_a_long_time_the_rate_holds() {
        let rate = Rate::new(10, 1_000);
        let (mut bucket, mut taken) = (Bucket::default(), 0);
        for now_ms in 0..100_000 {
            while bucket.waits_ms(now_ms, rate, 1).is_none() {
                bucket.take(now_ms, rate, 1);
                taken += 1;
            }
        }
        assert!((1_000..=1_010).contains(&taken), "{taken} in 100 s");
    }

    #[test]
    fn more_than_fits_is_taken_by_an_empty_bucket_and_paid_for() {
        let rate = Rate::new(10, 1_000);
        let mut bucket = Bucket::default();
        assert_eq!(bucket.waits_ms(0, rate, 25), None);
        bucket.take(0, rate, 25);
        assert_eq!(bucket.waits_ms(0, rate, 1), Some(1_600), "15 too many, and one more");
        assert_eq!(bucket.waits_ms(0, rate, 25), Some(2_500), "as for the whole of it");
        bucket.give_back(rate, 25);
        assert!(bucket.is_empty(0));
    }

    #[test]
    fn under_another_rate_nobody_waits_for_the_former_one() {
        let (slow, fast) = (Rate::new(10, 3_600_000), Rate::new(1_000, 10_000));
        let mut bucket = Bucket::default();
        bucket.take(0, slow, 30);
        assert!(bucket.waits_ms(0, fast, 1).is_some_and(|ms| ms > 10_000_000));
        bucket.under(0, Some(fast));
        assert_eq!(bucket.waits_ms(0, fast, 1), Some(10), "it is full");
        let mut little = Bucket::default();
        little.take(0, fast, 1);
        let before = little;
        little.under(0, Some(slow));
        assert_eq!(little, before, "it does not become fuller");
        bucket.under(0, None);
        assert!(bucket.is_empty(0));
    }

    #[test]
    fn nothing_overflows() {
        let rate = Rate::new(1, u64::MAX);
        let mut bucket = Bucket::default();
        for _ in 0..3 {
            bucket.take(u64::MAX >> FRACTION_BITS, rate, u64::MAX);
        }
        assert!(bucket.waits_ms(0, rate, u64::MAX).is_some());
    }

    /// It may be an `unsubscribe`.
    #[test]
    fn a_command_without_data_does_not_wait_for_bytes() {
        let bytes_per_user = Some(Rate::new(100, 1_000));
        let allowance = Quotas { bytes_per_user, ..Quotas::NONE }.of_user();
        let mut spent = Spent::default();
        allowance.spend(0, &mut spent, Cost { messages: 1, bytes: 5_000, channels: 0 });
        let waits_ms = |bytes| {
            let cost = Cost { messages: 1, bytes, channels: 0 };
            allowance.used_up(0, &spent, cost).map(|used_up| used_up.retry_after_ms)
        };
        assert_eq!([0, 1].map(waits_ms), [None, Some(49_010)]);
    }

    #[test]
    fn the_rate_that_takes_longest_is_named() {
        let allowance = Quotas {
            messages_per_user: Some(Rate::new(2, 1_000)),
            bytes_per_user: Some(Rate::new(100, 10_000)),
            ..Quotas::NONE
        }
        .of_user();
        let mut spent = Spent::default();
        let cost = Cost { messages: 1, bytes: 60, channels: 0 };
        assert_eq!(allowance.used_up(0, &spent, cost), None);
        allowance.spend(0, &mut spent, cost);
        let used_up = allowance.used_up(0, &spent, cost).expect("60 more bytes do not fit");
        assert_eq!((used_up.limit, used_up.what, used_up.retry_after_ms), ("bytes_per_user", "bytes", 2_000));
        assert_eq!(allowance.used_up(0, &spent, Cost { messages: 1, bytes: 1, channels: 0 }), None);
        assert!(allowance.is_much(cost) && !allowance.is_much(Cost { messages: 0, bytes: 11, channels: 0 }));
    }
}
