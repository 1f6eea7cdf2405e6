//! Where clients joined channels that show them only what was published since (`read = "since_join"`).
//!
//! In: subscriptions that begin, go on after a cut, and end. Out: what of a channel's past a session may be given. The
//! place of a join lives as long as the subscription: over a cut, where the client comes back to its session and names
//! the channel in `connect`, and no longer. A session that did not join may be given nothing of the past, so a place
//! that was forgotten shows too little and never too much.

use super::subscribe::may_read;
use super::table::Session;
use super::{Cx, Sessions};
use crate::error::{Error, ErrorCode};
use crate::ids::{Position, SessionRef};
use crate::name::ChannelName;
use crate::peer::Joined;
use crate::reads::Reads;
use crate::rules::{Action, Past};

impl Session {
    pub(super) fn joined_at(&self, channel: &ChannelName) -> Option<Position> {
        let joined = self.extra.iter().flat_map(|extra| &extra.joined);
        joined.into_iter().find(|joined| joined.channel == *channel).map(|joined| joined.at)
    }

    /// It is subscribed from this place on, unless it was before.
    pub(super) fn joins(&mut self, channel: &ChannelName, at: Position) {
        if self.joined_at(channel).is_none() {
            self.extra().joined.push(Joined { channel: channel.clone(), at });
        }
    }

    /// Its subscription has ended.
    pub(super) fn left(&mut self, channel: &ChannelName) {
        if let Some(extra) = &mut self.extra {
            extra.joined.retain(|joined| joined.channel != *channel);
        }
    }

    /// What of a channel's past its client may be given.
    pub(super) fn reads(&self, cx: &Cx<'_>, channel: &ChannelName) -> Reads {
        if may_read(cx, channel, Action::ReadHistory, self.entitlement()).is_err() {
            return Reads::Nothing;
        }
        match past(cx, channel) {
            Past::All => Reads::All,
            Past::SinceJoin => self.joined_at(channel).map_or(Reads::Nothing, Reads::Since),
            Past::Nothing => Reads::Nothing,
        }
    }
}

fn past(cx: &Cx<'_>, channel: &ChannelName) -> Past {
    cx.rules.of(channel).map_or(Past::Nothing, |rule| rule.read)
}

impl Sessions {
    /// Whether the history of this channel begins somewhere for a client that may read it.
    pub(super) fn has_joined(&mut self, cx: &Cx<'_>, at: SessionRef, channel: &ChannelName) -> Result<(), Error> {
        let Some(rule) = cx.rules.of(channel).filter(|rule| rule.read == Past::SinceJoin) else { return Ok(()) };
        if self.sessions.get(at).is_some_and(|session| session.joined_at(channel).is_some()) {
            return Ok(());
        }
        let (pattern, read) = (rule.pattern.as_str(), rule.read.word());
        let message = format!(
            "the rule {pattern:?} says read = {read:?}: subscribe first, and read what is published from then on"
        );
        Err(Error::new(ErrorCode::NotSubscribed, message).on(channel).by_rule(pattern).by_option("read"))
    }

    /// The rules have changed: a subscription whose rule shows now what was published since it began has joined, as far
    /// as is known, where it is.
    pub(super) fn note_joins(&mut self, cx: &Cx<'_>, at: SessionRef) {
        let Some(session) = self.sessions.get(at) else { return };
        let mut joins = Vec::new();
        for sub in &session.subs {
            let edge = &self.edges.edges[sub.edge as usize];
            if let Some(live) = sub.live().filter(|_| past(cx, &edge.name) == Past::SinceJoin) {
                joins.push((edge.name.clone(), edge.reached(sub.variant(session.wire), live.place)));
            }
        }
        for (channel, place) in joins {
            session.joins(&channel, place);
        }
    }
}
