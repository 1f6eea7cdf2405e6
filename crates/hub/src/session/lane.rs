//! Lanes: commands of one session for one channel that wait while an earlier one for that channel is being decided.
//! So commands of one connection on one channel take effect in the order sent, and other channels do not wait for them.
//! A question that is answered by a page waits where the connection has no room for one, and its channel's later
//! commands with it. The application's subscriptions wait too, behind an undecided one. A subscription that the
//! application ends does not wait: the handler whose answer the lane waits for may be the one that ends it.

use super::pending::ReplyTo;
use crate::message::{Command, SubOptions};
use crate::name::ChannelName;
use std::collections::VecDeque;

/// A command that waits for its turn.
#[derive(Debug)]
pub(crate) enum Waiting {
    Subscribe(SubOptions, ReplyTo),
    Command(Command, ReplyTo),
}

#[derive(Debug, Default)]
pub(crate) struct Lanes(Vec<Lane>);

#[derive(Debug)]
struct Lane {
    channel: ChannelName,
    /// The application is asked about a publication: further commands wait until it has answered. (A subscription that
    /// is being decided says so itself.)
    blocked: bool,
    /// Its first command is answered by a page, and waits until the connection has room for one.
    paging: bool,
    waiting: VecDeque<Waiting>,
}

impl Lanes {
    pub(crate) fn wait(&mut self, channel: &ChannelName, waiting: Waiting) {
        self.lane(channel).waiting.push_back(waiting);
    }

    /// A command that has its turn is answered by a page for which there is no room: it is the first of its lane again.
    pub(crate) fn wait_for_page(&mut self, channel: &ChannelName, waiting: Waiting) {
        let lane = self.lane(channel);
        lane.paging = true;
        lane.waiting.push_front(waiting);
    }

    /// There is room for a page: a channel whose lane waits for that, and may go on.
    pub(crate) fn next_paging(&mut self) -> Option<ChannelName> {
        let lane = self.0.iter_mut().find(|lane| lane.paging)?;
        lane.paging = false;
        Some(lane.channel.clone())
    }

    pub(crate) fn is_any_paging(&self) -> bool {
        self.0.iter().any(|lane| lane.paging)
    }

    /// Makes further commands on this channel wait.
    pub(crate) fn block(&mut self, channel: &ChannelName) {
        self.lane(channel).blocked = true;
    }

    /// Lets the waiting commands continue.
    pub(crate) fn unblock(&mut self, channel: &ChannelName) {
        if let Some(at) = self.find(channel) {
            self.0[at].blocked = false;
            self.tidy(at);
        }
    }

    pub(crate) fn is_blocked(&self, channel: &ChannelName) -> bool {
        self.find(channel).is_some_and(|at| self.0[at].blocked || self.0[at].paging)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes out the application's commands: the addresses of their answers.
    pub(crate) fn take_counted(&mut self, channel: &ChannelName) -> Vec<ReplyTo> {
        let Some(at) = self.find(channel) else { return Vec::new() };
        let mut taken = Vec::new();
        for waiting in std::mem::take(&mut self.0[at].waiting) {
            match waiting {
                Waiting::Subscribe(_, reply @ ReplyTo::Counted(_)) => taken.push(reply),
                other => self.0[at].waiting.push_back(other),
            }
        }
        self.tidy(at);
        taken
    }

    /// Everything that waits, lane by lane.
    pub(crate) fn into_waiting(self) -> impl Iterator<Item = Waiting> {
        self.0.into_iter().flat_map(|lane| lane.waiting)
    }

    pub(crate) fn next(&mut self, channel: &ChannelName) -> Option<Waiting> {
        let at = self.find(channel)?;
        let next = self.0[at].waiting.pop_front();
        self.tidy(at);
        next
    }

    fn find(&self, channel: &ChannelName) -> Option<usize> {
        self.0.iter().position(|lane| lane.channel == *channel)
    }

    fn lane(&mut self, channel: &ChannelName) -> &mut Lane {
        let at = self.find(channel).unwrap_or_else(|| {
            self.0.push(Lane { channel: channel.clone(), blocked: false, paging: false, waiting: VecDeque::new() });
            self.0.len() - 1
        });
        &mut self.0[at]
    }

    fn tidy(&mut self, at: usize) {
        if self.0[at].waiting.is_empty() && !self.0[at].blocked && !self.0[at].paging {
            self.0.swap_remove(at);
        }
    }
}
