//! The judge of idempotency keys: a key that is used again within its time is answered with the first publication, and
//! after its time it is a new one.
//!
//! It sees each publication that a store is asked to append, and the answer. Keys are scoped to a channel and to the
//! user, else the session, else the application's API key. A store may forget keys before their time only where they
//! take more than their bound.

use fanfare_hub::{Audience, ChannelName, Data, Entry, Limits, Position, StoreAnswer};
use std::collections::BTreeMap;

/// More than a store takes for one key.
const KEY_BYTES: usize = 600;

#[derive(Debug)]
pub(crate) struct Keys {
    ttl_ms: u64,
    /// Of one channel, and of a shard.
    bytes_max: (usize, usize),
    used: BTreeMap<(ChannelName, String, String), Used>,
    /// Duplicates that were found, keys that were new again, and keys forgotten for want of room.
    pub(crate) duplicates: u64,
    pub(crate) expired: u64,
    pub(crate) shed: u64,
}

/// A key that stands for a publication.
#[derive(Debug)]
struct Used {
    at_ms: u64,
    at: Position,
    content: Content,
}

/// What must be the same where a key is used again.
type Content = (Data, Option<Box<str>>, Option<Box<Audience>>);

impl Keys {
    pub(crate) fn new(limits: &Limits) -> Self {
        let of_shard = (limits.history_bytes_max / 4).max(64 << 10);
        Keys {
            ttl_ms: limits.idempotency_keys_ttl_ms,
            bytes_max: (limits.idempotency_keys_bytes_max, of_shard),
            used: BTreeMap::new(),
            duplicates: 0,
            expired: 0,
            shed: 0,
        }
    }

    /// The store has lost everything.
    pub(crate) fn lost(&mut self) {
        self.used.clear();
    }

    /// A store answers an append. `answer` names the positions that the hub is told.
    pub(crate) fn appended(&mut self, now_ms: u64, entry: &Entry, answer: &StoreAnswer) -> Result<(), String> {
        let Some(key) = &entry.publish.idempotency_key else {
            let is_fine = !matches!(answer, StoreAnswer::Duplicate(_) | StoreAnswer::KeyConflict);
            return if is_fine { Ok(()) } else { Err(format!("keys: {entry:?} has none, and is answered {answer:?}")) };
        };
        let channel = &entry.publish.channel;
        let of = (channel.clone(), scope_of(entry), key.to_string());
        let content = (entry.publish.data.clone(), entry.publish.event.clone(), entry.audience.clone());
        let used = self.used.get(&of);
        let age_ms = used.map(|used| now_ms - used.at_ms);
        match answer {
            StoreAnswer::Appended { epoch, publication } => {
                if let Some(used) = used {
                    let is_of_epoch = used.at.epoch == *epoch;
                    if is_of_epoch && age_ms < Some(self.ttl_ms) {
                        if !self.may_be_shed(channel, used.at_ms) {
                            return Err(format!(
                                "keys: {channel}: {key} was used {age_ms:?} ms ago at {:?}, and is taken for a new one",
                                used.at
                            ));
                        }
                        self.shed += 1;
                    }
                    self.expired += u64::from(is_of_epoch && age_ms >= Some(self.ttl_ms));
                }
                let at = Position { epoch: *epoch, offset: publication.offset };
                self.used.insert(of, Used { at_ms: now_ms, at, content });
            }
            StoreAnswer::Duplicate(at) => {
                self.duplicates += 1;
                match used {
                    Some(used) if used.at == *at && used.content == content && age_ms <= Some(self.ttl_ms) => {}
                    used => {
                        let ttl_ms = self.ttl_ms;
                        return Err(format!(
                            "keys: {channel}: {key} is said to stand at {at:?}; it was {used:?}, {age_ms:?} ms ago \
                             of {ttl_ms}"
                        ));
                    }
                }
            }
            StoreAnswer::KeyConflict => {
                if used.is_none_or(|used| used.content == content || age_ms > Some(self.ttl_ms)) {
                    return Err(format!("keys: {channel}: {key} is said to conflict with {used:?}"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// True if the key of this time may have been forgotten for want of room: the oldest go first.
    fn may_be_shed(&self, channel: &ChannelName, at_ms: u64) -> bool {
        let newer = self.used.iter().filter(|(_, used)| used.at_ms >= at_ms);
        let (of_channel, of_shard) = newer.fold((0, 0), |(of_channel, of_shard), ((of, ..), _)| {
            (of_channel + usize::from(of == channel), of_shard + 1)
        });
        of_channel * KEY_BYTES > self.bytes_max.0 || of_shard * KEY_BYTES > self.bytes_max.1
    }

    /// True if any key may have been forgotten before its time.
    pub(crate) fn any_may_be_shed(&self) -> bool {
        // The keys are in the order of their channels.
        let mut channels: Vec<&ChannelName> = self.used.keys().map(|(channel, ..)| channel).collect();
        channels.dedup();
        self.shed > 0 || channels.into_iter().any(|channel| self.may_be_shed(channel, 0))
    }

    /// True if keys end within a run.
    pub(crate) fn end_early(&self) -> bool {
        self.ttl_ms < 60_000
    }
}

/// Within what a key is unique.
fn scope_of(entry: &Entry) -> String {
    let user = entry.from.as_ref().and_then(|from| from.user.as_ref());
    let client = entry.from.as_ref().and_then(|from| from.client);
    match (user, client) {
        (Some(user), _) => format!("user {user}"),
        (None, Some(client)) => format!("client {client}"),
        (None, None) => format!("application {:?}", entry.by),
    }
}
