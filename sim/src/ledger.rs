//! The publications that the stores have accepted: every delivery and every answer is compared with them.
//!
//! The stores write it in the step in which they accept an entry; the hub's messages have no influence on it.

use fanfare_hub::{ChannelName, ClientId, Epoch, Position, Publication, Sender};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    channels: BTreeMap<ChannelName, Vec<Life>>,
    /// Counts all entries of all channels, which gives their order.
    pub(crate) order: u64,
}

/// One epoch of a channel.
#[derive(Debug)]
struct Life {
    epoch: Epoch,
    entries: Vec<Kept>,
}

/// An accepted entry.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) publication: Arc<Publication>,
    /// Its sender, whatever the rule shows of it.
    pub(crate) author: Option<Sender>,
    pub(crate) order: u64,
    /// When, on the monotonic clock.
    pub(crate) at_ms: u64,
}

impl Kept {
    pub(crate) fn client(&self) -> Option<ClientId> {
        self.author.as_ref().and_then(|author| author.client)
    }
}

impl Ledger {
    pub(crate) fn accepted(
        &mut self,
        at_ms: u64,
        channel: &ChannelName,
        epoch: Epoch,
        publication: Arc<Publication>,
        author: Option<Sender>,
    ) {
        self.order += 1;
        let kept = Kept { publication, author, order: self.order, at_ms };
        let lives = self.channels.entry(channel.clone()).or_default();
        match lives.iter_mut().find(|life| life.epoch == epoch) {
            Some(life) => life.entries.push(kept),
            None => lives.push(Life { epoch, entries: vec![kept] }),
        }
    }

    fn life(&self, channel: &ChannelName, epoch: Epoch) -> &[Kept] {
        let lives = self.channels.get(channel).map_or(&[][..], Vec::as_slice);
        lives.iter().find(|life| life.epoch == epoch).map_or(&[], |life| &life.entries)
    }

    pub(crate) fn at(&self, channel: &ChannelName, at: Position) -> Option<&Kept> {
        let life = self.life(channel, at.epoch);
        life.binary_search_by_key(&at.offset, |kept| kept.publication.offset).ok().map(|i| &life[i])
    }

    /// True where an entry stands, or the epoch begins: positions are given out, never computed.
    pub(crate) fn is_place(&self, channel: &ChannelName, at: Position) -> bool {
        let life = self.life(channel, at.epoch);
        life.first().is_none_or(|first| first.publication.prev == at.offset) || self.at(channel, at).is_some()
    }

    /// True where the first entry of an epoch stands.
    pub(crate) fn begins_at(&self, channel: &ChannelName, at: Position) -> bool {
        self.life(channel, at.epoch).first().is_some_and(|first| first.publication.offset == at.offset)
    }

    /// The entries with `after < offset < before`.
    pub(crate) fn between(&self, channel: &ChannelName, epoch: Epoch, after: u64, before: u64) -> &[Kept] {
        let life = self.life(channel, epoch);
        let from = life.partition_point(|kept| kept.publication.offset <= after);
        let to = life.partition_point(|kept| kept.publication.offset < before);
        &life[from..to.max(from)]
    }

    /// Every accepted entry, epoch by epoch.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&ChannelName, Epoch, &Kept)> {
        self.channels.iter().flat_map(|(channel, lives)| {
            lives.iter().flat_map(move |life| life.entries.iter().map(move |kept| (channel, life.epoch, kept)))
        })
    }
}
