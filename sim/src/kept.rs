//! The judge of signals that wait: a signal to one client that was acknowledged is told to that client, once it has a
//! connection with room that follows the channel.
//!
//! It sees what shards are given and what they say. A signal that is *done* and was not told waits with the session:
//! its outbox is full, or it is away. It comes along to another connection and another shard if the client had entered
//! the channel and subscribes to it again. The judge gives up what it cannot know: signals beyond the bound of a
//! mailbox, and everything where the rules, the application or a newer token may have ended a subscription.

use bytes::Bytes;
use fanfare_hub::{ChannelName, ClientId, Limits, Signal};
use std::collections::{BTreeMap, BTreeSet, HashSet};

#[derive(Debug)]
pub(crate) struct KeptSignals {
    waiting_max: usize,
    told: HashSet<Bytes>,
    waits: BTreeMap<ClientId, Vec<Waits>>,
    /// When a client last may have lost signals that waited for it.
    broken: BTreeMap<ClientId, u64>,
    all_broken_ms: u64,
    now_ms: u64,
    /// Channels that clients have entered, and whose answer says so.
    entered: BTreeSet<(ClientId, ChannelName)>,
    /// When signals were given to shards: to everybody, and to each client.
    to_all: Vec<u64>,
    to_one: BTreeMap<ClientId, Vec<u64>>,
    /// Signals that waited and were told, and those that moved to another connection meanwhile.
    pub(crate) came: u64,
    pub(crate) moved: u64,
}

#[derive(Debug)]
struct Waits {
    channel: ChannelName,
    data: Bytes,
    /// When it was given to a shard.
    given_ms: u64,
    is_moved: bool,
}

impl KeptSignals {
    pub(crate) fn new(limits: &Limits) -> Self {
        KeptSignals {
            waiting_max: limits.signals_waiting_max,
            told: HashSet::new(),
            waits: BTreeMap::new(),
            broken: BTreeMap::new(),
            all_broken_ms: 0,
            now_ms: 0,
            entered: BTreeSet::new(),
            to_all: Vec::new(),
            to_one: BTreeMap::new(),
            came: 0,
            moved: 0,
        }
    }

    /// The next call happens at this time.
    pub(crate) fn at(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    /// A shard is given a signal.
    pub(crate) fn given(&mut self, now_ms: u64, signal: &Signal) {
        match signal.to {
            None => self.to_all.push(now_ms),
            Some(to) => self.to_one.entry(to).or_default().push(now_ms),
        }
    }

    /// How many signals may have come to this client after one that was given then: others overtake it.
    fn after(to_all: &[u64], to_one: &[u64], given_ms: u64) -> usize {
        /// A message between shards is so long on its way, at most.
        const ON_THE_WAY_MS: u64 = 3_000;
        let since = |times: &[u64]| times.len() - times.partition_point(|ms| ms + ON_THE_WAY_MS < given_ms);
        (since(to_all) + since(to_one)).saturating_sub(1)
    }

    /// Its sender is told that it is done. Where it was not told by then, it waits, unless that has ended since.
    pub(crate) fn done(&mut self, signal: &Signal, given_ms: u64) {
        let Some(to) = signal.to.filter(|_| !self.told.contains(&signal.data)) else { return };
        let broken_ms = self.broken.get(&to).copied().unwrap_or_default().max(self.all_broken_ms);
        if broken_ms >= given_ms {
            return;
        }
        let (channel, data) = (signal.channel.clone(), signal.data.clone());
        self.waits.entry(to).or_default().push(Waits { channel, data, given_ms, is_moved: false });
    }

    /// A connection is told a signal to its client.
    pub(crate) fn told(&mut self, client: ClientId, data: &Bytes) {
        self.told.insert(data.clone());
        let (came, moved) = (&mut self.came, &mut self.moved);
        if let Some(waits) = self.waits.get_mut(&client) {
            waits.retain(|it| {
                let is_it = it.data == *data;
                *came += u64::from(is_it);
                *moved += u64::from(is_it && it.is_moved);
                !is_it
            });
        }
    }

    /// The client has entered the channel, or may have left it.
    pub(crate) fn entered(&mut self, client: ClientId, channel: &ChannelName, is_sure: bool) {
        let key = (client, channel.clone());
        self.entered.remove(&key);
        self.entered.extend(is_sure.then_some(key));
    }

    /// The session has no connection any more: it keeps the signals of channels that it has entered.
    pub(crate) fn away(&mut self, client: ClientId) {
        self.broken.insert(client, self.now_ms);
        let entered = &self.entered;
        let Some(waits) = self.waits.get_mut(&client) else { return };
        waits.retain(|it| entered.contains(&(client, it.channel.clone())));
        waits.iter_mut().for_each(|it| it.is_moved = true);
    }

    /// The session goes on with these channels, and leaves the others.
    pub(crate) fn resumed(&mut self, client: ClientId, subscribes: &BTreeSet<ChannelName>) {
        self.broken.insert(client, self.now_ms);
        self.entered.retain(|(of, channel)| *of != client || subscribes.contains(channel));
        if let Some(waits) = self.waits.get_mut(&client) {
            waits.retain(|it| subscribes.contains(&it.channel));
        }
    }

    /// A subscription has ended.
    pub(crate) fn left(&mut self, client: ClientId, channel: &ChannelName) {
        self.broken.insert(client, self.now_ms);
        self.entered(client, channel, false);
        if let Some(waits) = self.waits.get_mut(&client) {
            waits.retain(|it| it.channel != *channel);
        }
    }

    /// Subscriptions of this client, or of all, may have ended.
    pub(crate) fn doubt(&mut self, client: Option<ClientId>) {
        match client {
            Some(client) => self.broken.extend([(client, self.now_ms)]),
            None => self.all_broken_ms = self.now_ms,
        }
        self.waits.retain(|of, _| client.is_some_and(|client| client != *of));
        self.entered.retain(|(of, _)| client.is_some_and(|client| client != *of));
    }

    /// Clients for which signals wait.
    pub(crate) fn clients(&self) -> Vec<ClientId> {
        self.waits.iter().filter(|(_, waits)| !waits.is_empty()).map(|(client, _)| *client).collect()
    }

    /// The client has a connection with room, which follows these channels.
    pub(crate) fn has_room(&mut self, client: ClientId, follows: impl Fn(&ChannelName) -> bool) -> Result<(), String> {
        let Some(waits) = self.waits.get_mut(&client) else { return Ok(()) };
        // The oldest go beyond the bound.
        let to_one = self.to_one.get(&client).map_or(&[][..], Vec::as_slice);
        waits.retain(|it| Self::after(&self.to_all, to_one, it.given_ms) < self.waiting_max);
        match waits.iter().find(|it| follows(&it.channel)) {
            None => Ok(()),
            Some(Waits { channel, data, is_moved, .. }) => Err(format!(
                "signals: {} to {client:?} in {channel} is done, and was not told when there was room (moved: \
                 {is_moved})",
                String::from_utf8_lossy(data)
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: ClientId = ClientId(1);

    fn channel() -> ChannelName {
        ChannelName::new("chat:a").expect("valid")
    }

    fn signal(text: &'static str) -> Signal {
        Signal { channel: channel(), event: "e".into(), data: Bytes::from_static(text.as_bytes()), to: Some(TO) }
    }

    fn with_one() -> KeptSignals {
        let limits = Limits { signals_waiting_max: 2, ..Limits::default() };
        let mut kept = KeptSignals::new(&limits);
        kept.given(1_000, &signal("1"));
        kept.done(&signal("1"), 1_000);
        kept
    }

    #[test]
    fn one_that_is_done_is_told_when_there_is_room() {
        let mut kept = with_one();
        assert_eq!(kept.has_room(TO, |_| false), Ok(()), "it does not follow the channel yet");
        assert!(kept.has_room(TO, |_| true).is_err());
        kept.told(TO, &signal("1").data);
        assert_eq!((kept.has_room(TO, |_| true), kept.came), (Ok(()), 1));
    }

    #[test]
    fn it_moves_with_a_client_that_has_entered_and_subscribes_again() {
        for (has_entered, subscribes, is_owed) in [(true, true, true), (false, true, false), (true, false, false)] {
            let mut kept = with_one();
            kept.entered(TO, &channel(), has_entered);
            kept.away(TO);
            kept.resumed(TO, &BTreeSet::from_iter(subscribes.then(channel)));
            assert_eq!(kept.has_room(TO, |_| true).is_err(), is_owed, "{has_entered} {subscribes}");
        }
    }

    #[test]
    fn beyond_the_bound_and_in_doubt_nothing_is_owed() {
        let mut kept = with_one();
        kept.given(1_001, &signal("2"));
        assert!(kept.has_room(TO, |_| true).is_err());
        kept.given(1_002, &signal("3"));
        assert_eq!(kept.has_room(TO, |_| true), Ok(()));
        let mut kept = with_one();
        kept.doubt(None);
        assert_eq!(kept.has_room(TO, |_| true), Ok(()));
    }
}
