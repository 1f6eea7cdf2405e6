//! `unsubscribe` commands: those without an answer, and those that the server could not do now.
//!
//! In: channels to leave, and the answers. Out: commands. A server that has too much to do for this session refuses an
//! `unsubscribe` like any other command. The subscription would then go on for as long as the connection, and nobody
//! would read its messages, so the command is sent again later.
//!
//! Over HTTP messages of the subscription may come long after the answer, when the channel is followed again. Their
//! offsets tell them from newer ones if the new subscription begins at the newest position, in the epoch in which the
//! channel was left. So this epoch is remembered. Where the channel was left before its `subscribe` was answered, that
//! answer names the epoch, and the new subscription waits for it.
//!
//! Over HTTP the server's `subscribed` to a subscription of its own making may come late too, when ours has begun that
//! anew and was left. Where it names an earlier place than we have had, it is passed over.
//!
//! The server may have ended the subscription by itself, and say so late too. Then the `unsubscribe` is answered
//! `not_subscribed`, and one `unsubscribed` is owed that ends nothing any more.

use super::out::Out;
use super::publishes::rest_ms;
use fanfare_hub::{ErrorCode, Rng};
use fanfare_wire::native::client::{ClientCommand, Position, ServerMessage, Subscribed};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// So many channels are remembered.
const LEFT_MAX: usize = 1024;
/// The epoch of a subscription that nobody can tell: it equals no other.
const UNKNOWN: &str = "";

#[derive(Debug, Default)]
pub(super) struct Leaving {
    /// By the ids of the commands.
    asked: BTreeMap<u64, Asked>,
    /// To be sent again: when, and how often it was refused.
    later: BTreeMap<Arc<str>, (u64, u32)>,
    /// Channels that were followed again before that, and that may still have the subscription from before: the
    /// `subscribe` that finds that out has not been answered, or was refused for now.
    doubted: BTreeSet<Arc<str>>,
    /// Channels with a subscription that ended on this connection, with the epochs in which late messages may be: two
    /// at most, for no new subscription is in both.
    left: BTreeMap<Arc<str>, Vec<Arc<str>>>,
    /// The newest place of a subscription that ended on this connection: what the server says of an earlier place, it
    /// said before.
    left_at: BTreeMap<Arc<str>, Position>,
    /// Channels to which the server subscribed us while our `unsubscribe` was on its way.
    crossed: BTreeSet<Arc<str>>,
    /// Channels whose subscription the server had ended before our `unsubscribe`, and has not said so yet.
    owed_ends: BTreeSet<Arc<str>>,
}

/// An `unsubscribe` without an answer.
#[derive(Debug)]
struct Asked {
    channel: Arc<str>,
    /// How often it was refused.
    retries: u32,
    end: End,
}

/// What is known of an end by the server of the subscription that an `unsubscribe` is to end.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// Nobody knows whether the subscription was there, so no end is owed.
    Unknown,
    /// If the subscription is found to have ended, the server will say so.
    MayCome,
    /// An end has come. It may also be that of the next subscription.
    HasCome,
}

/// The place of a subscription that ends.
#[derive(Debug)]
pub(super) enum Known {
    /// Its messages have come up to here.
    At(Position),
    /// It was asked for from here, and not answered.
    Since(Position),
    Nothing,
}

impl Leaving {
    /// Sends it. `known`: the place at which the subscription was, as for [`begins_anew`](Self::begins_anew).
    pub(super) fn ask(&mut self, channel: &Arc<str>, known: Known, out: &mut Out) {
        let end = if matches!(known, Known::At(_)) { End::MayCome } else { End::Unknown };
        self.begins_anew(channel, known);
        let retries = self.later.remove(channel).map_or(0, |(_, retries)| retries);
        self.doubted.remove(channel);
        let id = out.next_id();
        self.asked.insert(id, Asked { channel: channel.clone(), retries, end });
        out.send(Some(id), ClientCommand::Unsubscribe { channel: channel.clone() });
    }

    /// A subscription ends, or begins anew, and messages of it may still come.
    pub(super) fn begins_anew(&mut self, channel: &Arc<str>, known: Known) {
        if let Known::At(position) = &known
            && self.left_at.get(channel).is_none_or(|at| at.epoch != position.epoch || at.offset < position.offset)
        {
            self.left_at.insert(channel.clone(), position.clone());
            if self.left_at.len() > LEFT_MAX {
                self.left_at.pop_first();
            }
        }
        let left_in = self.left.entry(channel.clone()).or_default();
        match known {
            // What comes now lies behind that place.
            Known::At(Position { epoch, .. }) => *left_in = vec![epoch],
            Known::Since(Position { epoch, .. }) if left_in.is_empty() => left_in.push(epoch),
            Known::Since(_) | Known::Nothing => {}
        }
        if self.left.len() > LEFT_MAX {
            self.left.pop_first();
        }
    }

    /// A `subscribe` to the channel, of now or of a subscription that has ended, is answered.
    pub(super) fn began(&mut self, channel: &str, answer: &ServerMessage) {
        let epoch = match answer {
            ServerMessage::Subscribed(subscribed) => {
                self.doubted.remove(channel);
                &*subscribed.position.epoch
            }
            // It has taken effect, and how is not known.
            ServerMessage::Error(error) if *error.code == *ErrorCode::Unknown.row().word => UNKNOWN,
            _ => return,
        };
        self.may_be_in(channel, epoch);
    }

    /// The server has a subscription of ours of which nobody knows where it began.
    pub(super) fn is_there(&mut self, channel: &str) {
        if self.left.get(channel).is_some_and(Vec::is_empty) {
            self.may_be_in(channel, UNKNOWN);
        }
    }

    fn may_be_in(&mut self, channel: &str, epoch: &str) {
        if let Some(left_in) = self.left.get_mut(channel)
            && left_in.len() < 2
            && left_in.iter().all(|it| **it != *epoch)
        {
            left_in.push(epoch.into());
        }
    }

    /// The server subscribes us while an `unsubscribe` has no answer. Over HTTP nobody knows which came last: another
    /// `unsubscribe` ends what may be there.
    pub(super) fn crosses(&mut self, channel: &Arc<str>) {
        self.crossed.insert(channel.clone());
    }

    /// True for a place before that of a subscription that we have left.
    pub(super) fn is_behind(&self, channel: &str, position: &Position) -> bool {
        self.left_at.get(channel).is_some_and(|at| at.epoch == position.epoch && position.offset < at.offset)
    }

    /// The server has ended a subscription to the channel. True where it is one that we have left.
    pub(super) fn ends(&mut self, channel: &str) -> bool {
        let mut asked = self.asked.values_mut().filter(|asked| *asked.channel == *channel);
        if let Some(asked) = asked.find(|asked| asked.end == End::MayCome) {
            asked.end = End::HasCome;
        }
        self.owed_ends.remove(channel)
    }

    /// True where an end has come, and no answer says yet whether it is that of a subscription that we have left.
    pub(super) fn may_have_ended(&self, channel: &str) -> bool {
        self.asked.values().any(|asked| *asked.channel == *channel && asked.end == End::HasCome)
    }

    /// A send of an earlier connection may have ended the subscription: then the server says nothing of that.
    pub(super) fn owes_no_end(&mut self, channel: &str) {
        self.owed_ends.remove(channel);
        let asked = self.asked.values_mut().filter(|asked| *asked.channel == *channel);
        asked.for_each(|asked| asked.end = End::Unknown);
    }

    /// Something with this id was answered. Gives the channel of which an end has come that was for the subscription
    /// that we have left.
    pub(super) fn answered(
        &mut self,
        now_ms: u64,
        rng: &mut Rng,
        id: u64,
        message: &ServerMessage,
    ) -> Option<Arc<str>> {
        let Asked { channel, retries, end } = self.asked.remove(&id)?;
        let had_ended = matches!(message, ServerMessage::Error(error)
            if *error.code == *ErrorCode::NotSubscribed.row().word);
        if had_ended && end == End::MayCome {
            self.owed_ends.insert(channel.clone());
        }
        let ended = (had_ended && end == End::HasCome).then(|| channel.clone());
        let is_refused = matches!(message, ServerMessage::Error(error) if error.retryable);
        let has_crossed = self.crossed.remove(&channel);
        match message {
            ServerMessage::Error(error) if is_refused => {
                self.later.insert(channel, (now_ms + rest_ms(retries, error, rng), retries + 1));
            }
            _ if has_crossed => drop(self.later.insert(channel, (now_ms, 0))),
            _ => {}
        }
        ended
    }

    /// True where a subscription to the channel has ended, or begun anew, on this connection.
    pub(super) fn was_left(&self, channel: &str) -> bool {
        self.left.contains_key(channel)
    }

    /// True where a late message of the subscription before may pass for one of the new subscription: the channel was
    /// left in another epoch, or pages follow that are older than such a message.
    pub(super) fn is_ambiguous(&self, channel: &str, subscribed: &Subscribed) -> bool {
        let Some(left_in) = self.left.get(channel) else { return false };
        subscribed.more || left_in.iter().any(|epoch| *epoch != subscribed.position.epoch)
    }

    /// True where an `unsubscribe` from this channel has no answer.
    pub(super) fn is_asked(&self, channel: &str) -> bool {
        self.asked.values().any(|asked| *asked.channel == *channel)
    }

    /// Channels whose time has come to be left once more.
    pub(super) fn due(&self, now_ms: u64) -> Vec<Arc<str>> {
        self.later.iter().filter(|(_, (at_ms, _))| *at_ms <= now_ms).map(|(channel, _)| channel.clone()).collect()
    }

    /// A channel is followed again: its `subscribe` finds out whether an earlier subscription is still there, unless it
    /// has already (`is_live`).
    pub(super) fn stays(&mut self, channel: &Arc<str>, is_live: bool) {
        self.later.remove(channel);
        if !is_live {
            self.doubted.insert(channel.clone());
        }
    }

    /// True where the server may have a subscription to the channel that was to end.
    pub(super) fn may_be_there(&self, channel: &str) -> bool {
        self.doubted.contains(channel)
    }

    pub(super) fn wake_ms(&self) -> Option<u64> {
        self.later.values().map(|(at_ms, _)| *at_ms).min()
    }

    /// The connection is gone. The next one has the subscriptions that its `connect` names.
    pub(super) fn offline(&mut self) {
        *self = Leaving::default();
    }
}
