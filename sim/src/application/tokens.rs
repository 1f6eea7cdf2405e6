//! The rights of tokens: a subscription to one channel, independent of its rule.
//!
//! In: the tokens that clients show, and the hub's answers. The hub may allow a subscription by a token only while the
//! last token that the session has shown is good for it, or may still turn out to be the last. As soon as the hub has
//! answered that another token is valid, which is good for nothing, the subscriptions by the earlier one must have
//! ended.

use super::WITH_INFO;
use fanfare_hub::{ChannelName, Command, Reply, ReplyBody, Request, RequestId};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug)]
pub(super) struct Tokens {
    /// The right of a token with trusted facts.
    channel: Option<ChannelName>,
    pipes: BTreeMap<usize, Shown>,
    /// (pipe, reason) of a subscription that must have ended when the hub has finished its turn.
    owed: Option<(usize, String)>,
    pub(super) ended: u64,
}

/// The tokens that the client of one connection has shown.
#[derive(Debug, Default)]
struct Shown {
    /// Whether the token of `connect` is good; `None` if a ticket stands for an earlier one.
    connect: Option<bool>,
    /// Commands with newer tokens that are not answered, and whether those tokens are good.
    refreshes: BTreeMap<u64, bool>,
    /// The last of them that was answered.
    answered: u64,
    /// Whether the current token is good.
    holds: bool,
    /// Whether any token that was valid on this connection was good.
    has_held: bool,
    /// Channels to which it is subscribed by its token alone.
    by_token: BTreeSet<ChannelName>,
    /// Lists of subscriptions that are not answered.
    lists: BTreeMap<u64, Vec<ChannelName>>,
}

impl Tokens {
    pub(super) fn new(channel: Option<ChannelName>) -> Self {
        Tokens { channel, pipes: BTreeMap::new(), owed: None, ended: 0 }
    }

    /// The rights of this token.
    pub(super) fn of(&self, token: &str) -> Option<&ChannelName> {
        self.channel.as_ref().filter(|_| token.ends_with(WITH_INFO))
    }

    pub(super) fn shown(&mut self, pipe: usize, request: &Request) {
        match &request.command {
            Command::Connect(connect) => {
                let is_good = connect.token.as_deref().map(|token| self.of(token).is_some());
                self.pipes.entry(pipe).or_default().connect = is_good;
            }
            Command::Refresh { token } => {
                let is_good = self.of(token).is_some();
                if let Some(RequestId::Number(id)) = request.id {
                    self.pipes.entry(pipe).or_default().refreshes.insert(id, is_good);
                }
            }
            Command::Subscribe { subs, many: true } => {
                if let Some(RequestId::Number(id)) = request.id {
                    let channels = subs.iter().map(|options| options.channel.clone()).collect();
                    self.pipes.entry(pipe).or_default().lists.insert(id, channels);
                }
            }
            _ => {}
        }
    }

    pub(super) fn said(&mut self, pipe: usize, reply: &Reply) {
        let shown = self.pipes.entry(pipe).or_default();
        match (&reply.body, &reply.id) {
            // With a ticket alone the session keeps its rights: this judge does not follow them over connections.
            (ReplyBody::Connected(_), _) => {
                shown.holds = shown.connect.unwrap_or(true);
                shown.has_held = shown.holds;
            }
            (ReplyBody::Unsubscribed { channel, .. }, _) => drop(shown.by_token.remove(channel)),
            (body, Some(RequestId::Number(id))) => {
                let holds = shown.holds;
                for channel in shown.lists.remove(id).unwrap_or_default() {
                    // One that is in the answer is judged by itself.
                    if !holds && !is_in(body, &channel) && shown.by_token.contains(&channel) {
                        self.owed = Some((pipe, format!("{channel} is held by a token that holds no more")));
                    }
                }
                let Some(is_good) = shown.refreshes.remove(id) else { return };
                // Answers overtake each other; the token that was shown last is valid.
                if matches!(body, ReplyBody::Refreshed { .. }) && *id > shown.answered {
                    shown.answered = *id;
                    shown.holds = is_good;
                    shown.has_held |= is_good;
                    // One that begins anew in a list says nothing until the list is answered, and its end comes then.
                    let in_list = |channel: &&ChannelName| shown.lists.values().flatten().any(|of| of == *channel);
                    if let (false, Some(channel)) = (is_good, shown.by_token.iter().find(|of| !in_list(of))) {
                        self.owed = Some((pipe, format!("{channel} is held by a token that holds no more")));
                    }
                }
            }
            _ => {}
        }
    }

    /// The hub reports a subscription that only a token can allow. False if no token was good for it. A subscription
    /// that was decided while an earlier token was valid must end at once.
    pub(super) fn subscribed(&mut self, pipe: usize, channel: &ChannelName) -> bool {
        let shown = self.pipes.entry(pipe).or_default();
        if self.channel.as_ref() != Some(channel) || !shown.has_held {
            return false;
        }
        match shown.holds {
            true => drop(shown.by_token.insert(channel.clone())),
            false => self.owed = Some((pipe, format!("{channel} is told by a token that holds no more"))),
        }
        true
    }

    /// The application has subscribed it by itself: that outlives the token.
    pub(super) fn kept(&mut self, pipe: usize, channel: &ChannelName) {
        self.pipes.entry(pipe).or_default().by_token.remove(channel);
    }

    pub(super) fn ended(&mut self, pipe: usize, channel: &ChannelName) {
        self.pipes.entry(pipe).or_default().by_token.remove(channel);
        self.ended += u64::from(self.owed.take_if(|(owing, _)| *owing == pipe).is_some());
    }

    /// The hub has finished its turn.
    pub(super) fn settled(&mut self) -> Result<(), String> {
        self.owed.take().map_or(Ok(()), |(pipe, why)| Err(format!("hooks: on pipe {pipe} {why}")))
    }
}

/// True if this answer to a list reports a subscription to the channel.
fn is_in(body: &ReplyBody, channel: &ChannelName) -> bool {
    let reports = |body: &ReplyBody| matches!(body, ReplyBody::Subscribed(of) if of.channel == *channel);
    matches!(body, ReplyBody::Many(bodies) if bodies.iter().any(reports))
}
