//! What the application is notified of about channels, judged: each change once, in the order of the channel.
//!
//! A channel is occupied and vacated in turn, a client enters and leaves in turn, and offsets rise within an epoch. In
//! the end the channels that are occupied are those with subscribers. A server that starts again notifies anew.

use fanfare_hub::{ChannelEvent, ChannelName, ClientId, Epoch};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub(super) struct Notices {
    channels: BTreeMap<ChannelName, Heard>,
    pub(super) count: u64,
    pub(super) vacated: u64,
}

/// One channel, as the application knows it.
#[derive(Debug, Default)]
struct Heard {
    is_occupied: bool,
    present: BTreeSet<ClientId>,
    /// The last publication.
    last: Option<(Epoch, u64)>,
    /// Epochs that are over.
    over: Vec<Epoch>,
}

impl Notices {
    pub(super) fn told(&mut self, channel: &ChannelName, event: &ChannelEvent) -> Result<(), String> {
        let heard = self.channels.entry(channel.clone()).or_default();
        self.count += 1;
        let is_new = match event {
            ChannelEvent::Occupied => !std::mem::replace(&mut heard.is_occupied, true),
            ChannelEvent::Vacated => {
                self.vacated += 1;
                std::mem::take(&mut heard.is_occupied)
            }
            ChannelEvent::Joined(entry) => heard.present.insert(entry.client),
            ChannelEvent::Left(entry) => heard.present.remove(&entry.client),
            ChannelEvent::Published { epoch, publication } => {
                let before = heard.last.replace((*epoch, publication.offset));
                match before {
                    Some((last, offset)) if last == *epoch => offset < publication.offset,
                    before => {
                        heard.over.extend(before.map(|(epoch, _)| epoch));
                        !heard.over.contains(epoch)
                    }
                }
            }
        };
        if is_new { Ok(()) } else { Err(format!("notices: {channel}: {event:?} is no news after {heard:?}")) }
    }

    /// Another server knows nothing of what was.
    pub(super) fn server_gone(&mut self) {
        for heard in self.channels.values_mut() {
            *heard = Heard { over: std::mem::take(&mut heard.over), ..Heard::default() };
        }
    }

    /// The world is calm: the least and the most subscribers of each channel.
    pub(super) fn finish(&self, subscribers: &BTreeMap<ChannelName, (u64, u64)>) -> Result<(), String> {
        let known = |channel: &ChannelName| self.channels.get(channel).is_some_and(|heard| heard.is_occupied);
        let missed = |(channel, (least, _)): &(&ChannelName, &(u64, u64))| *least > 0 && !known(channel);
        if let Some((channel, _)) = subscribers.iter().find(missed) {
            return Err(format!("notices: {channel} has subscribers, and it was not told that it is occupied"));
        }
        let most = |channel: &ChannelName| subscribers.get(channel).map_or(0, |(_, most)| *most);
        let over = |(channel, heard): &(&ChannelName, &Heard)| heard.is_occupied && most(channel) == 0;
        match self.channels.iter().find(over) {
            Some((channel, _)) => {
                Err(format!("notices: {channel} has no subscriber, and it was not told that it is vacated"))
            }
            None => Ok(()),
        }
    }
}
