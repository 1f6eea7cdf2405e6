//! The list of channels that live here, a page at a time, in the order of their names.

use super::Homes;
use crate::app::{AppAnswer, ChannelInfo};
use crate::name::ChannelName;
use crate::pattern::Pattern;
use std::ops::Bound;

impl Homes {
    /// At most `limit` channels after `after` that match. The cost is the number of channels that it lists, or that
    /// share the pattern's first words with it: `chat:*` does not look at other channels, `*:general` looks at all.
    pub(crate) fn page(&self, pattern: Option<&Pattern>, after: Option<&ChannelName>, limit: usize) -> AppAnswer {
        let prefix = pattern.map(Pattern::prefix).unwrap_or_default();
        let from = match after {
            Some(after) if **after >= *prefix => Bound::Excluded(&**after),
            _ => Bound::Included(&*prefix),
        };
        let name = |index: u32| &*self.homes[index as usize].name;
        let mut matching = self
            .in_order
            .from(from, name)
            .take_while(|&index| name(index).starts_with(&*prefix))
            .filter(|&index| !self.homes[index as usize].name.is_reserved())
            .filter(|&index| pattern.is_none_or(|pattern| pattern.matches(name(index))));
        let channels = matching.by_ref().take(limit).map(|index| self.info(index)).collect();
        AppAnswer::Channels { channels, more: matching.next().is_some() }
    }

    fn info(&self, index: u32) -> ChannelInfo {
        let home = &self.homes[index as usize];
        ChannelInfo {
            channel: home.name.clone(),
            subscribers: home.subscribers(),
            present: home.presence.as_ref().map_or(0, |presence| presence.len() as u64),
            top: home.is_live().then(|| home.top()),
        }
    }
}
