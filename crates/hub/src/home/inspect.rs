//! The view of a channel's home for an operator. It changes nothing.

use super::{Homes, State};
use crate::inspect::{HomeView, InterestView};
use crate::name::ChannelName;

impl Homes {
    /// The home of a channel, if it is here and in use.
    pub(crate) fn view(&self, name: &ChannelName) -> Option<HomeView> {
        let index = self.names.find(name, |at| &self.homes[at as usize].name)?;
        let home = &self.homes[index as usize];
        let interests = home.interests.iter().map(|interest| InterestView {
            shard: interest.shard,
            subscribers: interest.members,
            is_behind: interest.behind,
        });
        Some(HomeView {
            top: match home.state {
                State::Attaching => None,
                State::Live(top) => Some(top),
            },
            shards: interests.collect(),
            present: home.presence.as_ref().map_or(0, |presence| presence.len()),
        })
    }
}
