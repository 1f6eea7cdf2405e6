//! The counts of the hub for monitoring, and its events for the log.
//!
//! Plain numbers of one shard, added to where the thing happens and read by [`Shard::stats`](crate::Shard::stats);
//! nothing on the way of a delivery is counted for each receiver. A [`Note`] is something a person will ask about
//! ("why did my user not get it?"); it names client, user and channel, and leaves with the effects of the input that
//! caused it. Writing it down, and not too often, is the shell's business.

use crate::disconnect::Disconnect;
use crate::error::{ERRORS, Error, ErrorCode};
use crate::ids::{ClientId, ConnId, UserId};
use crate::name::ChannelName;
use crate::rules::Rules;

/// The most (rule, option) pairs by which denials are counted. Only reloads with ever new rules come near it. All pairs
/// beyond it share one entry.
const DENIALS_MAX: usize = 4096;
/// The rule of denials without one, and of those beyond [`DENIALS_MAX`]. No pattern has parentheses around it by
/// chance.
const NO_RULE: &str = "(none)";

/// Counts of a shard since it began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Publications that got a place in a channel living here.
    pub publications: u64,
    /// Publications whose key had been used: they stand where the first one does.
    pub duplicates: u64,
    /// Signals taken in by channels living here.
    pub signals: u64,
    /// Operations that the store refused, or did not say whether it did them.
    pub store_failures: u64,
    /// Times that the store began a channel anew because it may have lost something.
    pub epochs_lost: u64,
    /// Subscriptions with a position that got everything after it.
    pub recovered: u64,
    /// Subscriptions with a position that was not retained any more, or of another epoch.
    pub not_recovered: u64,
    /// Times that a connection's outbox went over its mark.
    pub behind: u64,
    /// Times that an edge stopped taking deliveries of a channel from another shard.
    pub edge_behind: u64,
    /// Pages asked for by connections that catch up.
    pub pulls: u64,
    /// Pages asked for by edges that catch up.
    pub edge_pulls: u64,
    /// Refusals that clients got, by the place of their code in [`ERRORS`].
    pub errors: Vec<u64>,
    /// Refusals by a rule, an option of it, or a handler.
    pub denials: Vec<Denied>,
    /// How often limits of the server were reached, by the name of the option.
    pub limits: Vec<(&'static str, u64)>,
}

/// How often one option of one rule refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// The rule's pattern; `(none)` where no rule matched.
    pub rule: Box<str>,
    /// The option; `match` where no rule matched, `hook` where a handler refused.
    pub option: &'static str,
    /// How often.
    pub count: u64,
}

/// Something that a person may look for in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The connection that it concerns, if it is of this shard and not over.
    pub conn: Option<ConnId>,
    /// The session's client.
    pub client: Option<ClientId>,
    /// Its user.
    pub user: Option<UserId>,
    /// The event.
    pub what: Noted,
}

/// The event.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Noted {
    /// The client asked for something and may not. The error names channel, rule and option.
    Denied(Error),
    /// The server ended a subscription, as the rules have changed or a grant is gone.
    Unsubscribed(Error),
    /// The missed publications are no longer kept, and the client was notified.
    NotRecovered {
        /// Where.
        channel: ChannelName,
    },
    /// Live from here on, and something before it is lost.
    Gap {
        /// Where.
        channel: ChannelName,
        /// The channel has begun anew.
        reset: bool,
    },
    /// It reads more slowly than its channels speak: from now on it pulls.
    Behind,
    /// It does more than its rates allow, and its protocol has no refusal: it is not read until there is room. The
    /// error is what another client would get. Once for each time in which that goes on.
    Throttled(Error),
    /// The server ended its connection.
    Closed(Disconnect),
    /// Other rules are in force.
    Reloaded {
        /// How many there are now.
        rules: usize,
        /// Subscriptions that they ended.
        ended: usize,
    },
}

impl Counts {
    /// Counts a refusal that a client gets. True where a person may ask about it: it was a decision of the policy.
    pub(crate) fn refused(&mut self, error: &Error, rules: &Rules) -> bool {
        let code = ERRORS.iter().position(|row| row.code == error.code).unwrap_or_default();
        if self.errors.is_empty() {
            self.errors = vec![0; ERRORS.len()];
        }
        self.errors[code] += 1;
        self.decided(error, rules)
    }

    /// Counts a client that waits at a limit or a rate, and is not refused.
    pub(crate) fn throttled(&mut self, error: &Error, rules: &Rules) {
        self.decided(error, rules);
    }

    /// Counts a refusal by its limit or rule. True where a person may ask about it.
    fn decided(&mut self, error: &Error, rules: &Rules) -> bool {
        if let Some(limit) = error.limit {
            self.limited(limit);
            return true;
        }
        match error.code {
            ErrorCode::NoRule => self.denied(NO_RULE, "match"),
            ErrorCode::Denied | ErrorCode::RateLimited | ErrorCode::InvalidData => {
                let rule = error.rule.as_deref().or_else(|| {
                    let channel = error.channel.as_ref()?; // a handler's refusal names no rule
                    rules.of(channel).map(|rule| rule.pattern.as_str())
                });
                self.denied(rule.unwrap_or(NO_RULE), error.option.unwrap_or("hook"));
                // Its message has a part of the client's data, which is not for the log.
                return error.code != ErrorCode::InvalidData;
            }
            ErrorCode::Unauthorized => {}
            // An option like `max_subscribers` or `max_size` has a code of its own, and is a decision of the rule too.
            _ => match (error.rule.as_deref(), error.option) {
                (Some(rule), Some(option)) => self.denied(rule, option),
                _ => return false,
            },
        }
        true
    }

    /// Counts that a limit was reached. There are few of them: the names are of the code.
    pub(crate) fn limited(&mut self, limit: &'static str) {
        self.limited_times(limit, 1);
    }

    /// The same for so many times.
    pub(crate) fn limited_times(&mut self, limit: &'static str, times: u64) {
        match self.limits.iter_mut().find(|(name, _)| *name == limit) {
            Some((_, count)) => *count += times,
            None if times > 0 => self.limits.push((limit, times)),
            None => {}
        }
    }

    fn denied(&mut self, rule: &str, option: &'static str) {
        if let Some(denied) = self.denials.iter_mut().find(|d| d.option == option && *d.rule == *rule) {
            denied.count += 1;
        } else if self.denials.len() < DENIALS_MAX || rule == NO_RULE {
            self.denials.push(Denied { rule: rule.into(), option, count: 1 });
        } else {
            self.denied(NO_RULE, "other");
        }
    }

    /// Adds the counts of another part of the same shard.
    pub(crate) fn add(&mut self, other: &HomeCounts) {
        self.publications += other.publications;
        self.duplicates += other.duplicates;
        self.signals += other.signals;
        self.store_failures += other.store_failures;
        self.epochs_lost += other.epochs_lost;
        self.limited_times("presence_entries_max", other.presence_limited);
        self.limited_times("signals_waiting_max", other.signals_dropped);
        self.limited_times("link_bytes_max", other.links_full);
        self.limited_times("presence_left_max", other.leaves_forgotten);
    }
}

/// The part that homes count.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct HomeCounts {
    pub(crate) publications: u64,
    pub(crate) duplicates: u64,
    pub(crate) signals: u64,
    pub(crate) store_failures: u64,
    pub(crate) epochs_lost: u64,
    /// Channels of which only the number of members is told from then on.
    pub(crate) presence_limited: u64,
    /// Signals that found no room while an edge was behind.
    pub(crate) signals_dropped: u64,
    /// Times that a channel found too many bytes on the way to a shard, which goes on by pages.
    pub(crate) links_full: u64,
    /// Departures that were forgotten for later ones.
    pub(crate) leaves_forgotten: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::Pattern;
    use crate::rules::Rule;

    #[test]
    fn denials_are_counted_by_rule_and_option_and_the_table_has_an_end() {
        let rules = Rules::new(vec![Rule::open(Pattern::new("chat:*").expect("valid"))]);
        let channel = ChannelName::new("chat:a").expect("valid");
        let mut counts = Counts::default();
        let denied = |code| Error::new(code, "no").on(&channel);
        assert!(counts.refused(&denied(ErrorCode::Denied), &rules), "a handler's word names the rule of the channel");
        assert!(counts.refused(&denied(ErrorCode::NoRule), &rules));
        assert!(!counts.refused(&denied(ErrorCode::BadRequest), &rules), "nobody asks the log about it");
        for rule in 0..2 * DENIALS_MAX {
            counts.refused(&denied(ErrorCode::Denied).by_rule(&format!("r:{rule}")).by_option("publish"), &rules);
        }
        let of = |rule: &str, option: &str| {
            counts.denials.iter().find(|d| *d.rule == *rule && d.option == option).map_or(0, |d| d.count)
        };
        assert_eq!((of("chat:*", "hook"), of(NO_RULE, "match"), of("r:7", "publish")), (1, 1, 1));
        assert_eq!(counts.denials.len(), DENIALS_MAX + 1);
        assert_eq!(counts.denials.iter().map(|d| d.count).sum::<u64>(), 2 * DENIALS_MAX as u64 + 2, "none is lost");
        assert_eq!(counts.errors.iter().sum::<u64>(), 2 * DENIALS_MAX as u64 + 3);
    }
}

/// The counts of a shard that are not in its [`Stats`](crate::Stats), for tests. They are bounded, and zero after all
/// clients have left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// Questions to homes, to other shards and to the application, and answers that are being gathered.
    pub pending: usize,
    /// Work for many that waits for its turn.
    pub queued: usize,
    /// Sessions that went to other shards and are remembered.
    pub moved: usize,
    /// Users that have sessions, or had some lately.
    pub users: usize,
    /// Leaves that are remembered.
    pub left: usize,
    /// Operations and messages that wait for the store.
    pub store_operations: usize,
    /// Bytes on the way to the shard with the most of them.
    pub link_bytes: usize,
    /// Bytes of signals that wait for the shard with the most of them.
    pub link_signal_bytes: usize,
    /// Bytes that the numbered sends of sessions hold, added up anew.
    pub sends_bytes: usize,
    /// Those of the session with the most of them.
    pub sends_bytes_most: usize,
    /// Signals in the fullest mailbox.
    pub mailbox_signals: usize,
    /// Payload bytes in the largest mailbox.
    pub mailbox_bytes: usize,
    /// Sessions in the lists of rooms, once for each room.
    pub room_places: usize,
}
