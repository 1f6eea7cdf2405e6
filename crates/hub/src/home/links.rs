//! How many bytes are on their way to each shard, which channels wait for room there, and the signals that wait with
//! them.
//!
//! Signals are in no history, so an edge that is behind cannot pull them. Of each channel the latest of each (client,
//! event) waits here until the edge has caught up: `signals_waiting_max` of them, and `link_bytes_max` bytes for all
//! channels of one link. Beyond that the oldest of the channel goes.

use super::HomeRef;
use crate::ids::ShardId;
use crate::limits::Limits;
use crate::message::SignalPush;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// The bytes of a signal that waits, besides its payload.
const SIGNAL_BYTES: usize = 128;

#[derive(Debug)]
pub(super) struct Links(Vec<Link>);

#[derive(Debug, Default)]
struct Link {
    bytes: usize,
    /// Homes whose edge on that shard was behind when they came here, first come first served.
    waiting: VecDeque<HomeRef>,
    /// Signals by home, oldest first; a home that has none is not here.
    signals: BTreeMap<HomeRef, VecDeque<Arc<SignalPush>>>,
    signals_bytes: usize,
}

fn cost(signal: &SignalPush) -> usize {
    SIGNAL_BYTES + signal.signal.event.len() + signal.signal.data.len()
}

impl Links {
    pub(super) fn new(shards: usize) -> Self {
        Links((0..shards).map(|_| Link::default()).collect())
    }

    pub(super) fn has_room(&self, shard: ShardId, bytes_max: usize) -> bool {
        self.0[usize::from(shard.0)].bytes < bytes_max
    }

    pub(super) fn sent(&mut self, shard: ShardId, bytes: usize) {
        self.0[usize::from(shard.0)].bytes += bytes;
    }

    pub(super) fn acknowledged(&mut self, shard: ShardId, bytes: usize) {
        let link = &mut self.0[usize::from(shard.0)];
        debug_assert!(link.bytes >= bytes, "more was acknowledged than sent");
        link.bytes = link.bytes.saturating_sub(bytes);
    }

    pub(super) fn wait(&mut self, shard: ShardId, home: HomeRef) {
        self.0[usize::from(shard.0)].waiting.push_back(home);
    }

    /// Keeps a signal to everybody for an edge that is behind. Returns how many older ones went for it.
    pub(super) fn keep(&mut self, shard: ShardId, home: HomeRef, signal: Arc<SignalPush>, limits: &Limits) -> u64 {
        let link = &mut self.0[usize::from(shard.0)];
        let kept = link.signals.entry(home).or_default();
        let same =
            |old: &Arc<SignalPush>| old.from.client == signal.from.client && old.signal.event == signal.signal.event;
        if let Some(at) = kept.iter().position(same)
            && let Some(old) = kept.remove(at)
        {
            link.signals_bytes -= cost(&old);
        }
        link.signals_bytes += cost(&signal);
        kept.push_back(signal);
        let mut dropped = 0;
        while kept.len() > limits.signals_waiting_max || link.signals_bytes > limits.link_bytes_max {
            let Some(oldest) = kept.pop_front() else { break };
            link.signals_bytes -= cost(&oldest);
            dropped += 1;
        }
        if kept.is_empty() {
            link.signals.remove(&home);
        }
        dropped
    }

    /// Takes out the signals that wait for this edge: it has caught up, or is gone.
    pub(super) fn take_signals(&mut self, shard: ShardId, home: HomeRef) -> VecDeque<Arc<SignalPush>> {
        let link = &mut self.0[usize::from(shard.0)];
        let taken = link.signals.remove(&home).unwrap_or_default();
        link.signals_bytes -= taken.iter().map(|signal| cost(signal)).sum::<usize>();
        taken
    }

    /// The most bytes that are on their way to one shard.
    pub(super) fn bytes_most(&self) -> usize {
        self.0.iter().map(|link| link.bytes).max().unwrap_or(0)
    }

    /// The most bytes of signals that wait for one shard.
    pub(super) fn signals_bytes_most(&self) -> usize {
        self.0.iter().map(|link| link.signals_bytes).max().unwrap_or(0)
    }

    pub(super) fn next_waiting(&mut self, shard: ShardId) -> Option<HomeRef> {
        self.0[usize::from(shard.0)].waiting.pop_front()
    }

    pub(super) fn is_any_waiting(&self, shard: ShardId) -> bool {
        !self.0[usize::from(shard.0)].waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ClientId;
    use crate::message::{Sender, Signal};
    use crate::name::ChannelName;
    use bytes::Bytes;

    const SHARD: ShardId = ShardId(0);

    fn signal(client: u64, event: &str, text: &'static str) -> Arc<SignalPush> {
        let channel = ChannelName::new("a").expect("valid");
        let signal = Signal { channel, event: event.into(), data: Bytes::from_static(text.as_bytes()), to: None };
        Arc::new(SignalPush { signal, from: Sender { client: Some(ClientId(client)), user: None }, ts_ms: 0 })
    }

    fn home(index: u32) -> HomeRef {
        HomeRef { index, life: 0 }
    }

    fn texts(links: &mut Links, index: u32) -> Vec<Bytes> {
        links.take_signals(SHARD, home(index)).iter().map(|signal| signal.signal.data.clone()).collect()
    }

    #[test]
    fn the_latest_of_each_client_and_event_waits() {
        let (mut links, limits) = (Links::new(1), Limits::default());
        for (client, event, text) in [(1, "a", "1"), (2, "a", "2"), (1, "b", "3"), (1, "a", "4")] {
            links.keep(SHARD, home(0), signal(client, event, text), &limits);
        }
        assert_eq!(texts(&mut links, 0), ["2", "3", "4"]);
        assert_eq!((links.0[0].signals_bytes, links.0[0].signals.len()), (0, 0));
    }

    #[test]
    fn waiting_signals_are_bounded_in_number_and_over_all_channels_in_bytes() {
        let one = SIGNAL_BYTES + 2;
        let limits = Limits { signals_waiting_max: 3, link_bytes_max: 4 * one, ..Limits::default() };
        let mut links = Links::new(1);
        let dropped: u64 = (0..10).map(|client| links.keep(SHARD, home(0), signal(client, "a", "x"), &limits)).sum();
        assert_eq!((links.0[0].signals_bytes, dropped), (3 * one, 7));
        for client in 0..10 {
            links.keep(SHARD, home(1), signal(client, "a", "y"), &limits);
            assert!(links.0[0].signals_bytes <= limits.link_bytes_max);
        }
        links.keep(SHARD, home(2), signal(0, "a", "z"), &limits);
        assert_eq!(
            (texts(&mut links, 2).len(), links.0[0].signals.len()),
            (0, 2),
            "there is no room for another channel"
        );
        assert_eq!((texts(&mut links, 0).len(), texts(&mut links, 1).len()), (3, 1));
        assert_eq!((links.0[0].signals_bytes, links.0[0].signals.len()), (0, 0));
    }
}
