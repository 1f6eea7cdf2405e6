//! Lanes: what one session asked of one channel while an earlier command for the same channel is still being decided.
//! So commands of one connection on one channel take effect in the order sent, and other channels do not wait for them.

use super::ask::ReplyTo;
use crate::name::ChannelName;
use crate::vocabulary::{Command, SubOptions};
use std::collections::VecDeque;

/// A command that waits for its turn.
#[derive(Debug)]
pub(crate) enum Waiting {
    Subscribe(SubOptions, ReplyTo),
    Command(Command, ReplyTo),
    /// The application ends the subscription.
    End(ReplyTo),
}

#[derive(Debug, Default)]
pub(crate) struct Lanes(Vec<(ChannelName, VecDeque<Waiting>)>);

impl Lanes {
    pub(crate) fn wait(&mut self, channel: &ChannelName, waiting: Waiting) {
        match self.0.iter_mut().find(|(name, _)| name == channel) {
            Some((_, lane)) => lane.push_back(waiting),
            None => self.0.push((channel.clone(), VecDeque::from([waiting]))),
        }
    }

    /// Everything that waits, lane by lane.
    pub(crate) fn into_waiting(self) -> impl Iterator<Item = Waiting> {
        self.0.into_iter().flat_map(|(_, lane)| lane)
    }

    pub(crate) fn next(&mut self, channel: &ChannelName) -> Option<Waiting> {
        let at = self.0.iter().position(|(name, _)| name == channel)?;
        let next = self.0[at].1.pop_front();
        if self.0[at].1.is_empty() {
            self.0.swap_remove(at);
        }
        next
    }
}
