//! Subscriptions that are kept: a client that comes back to its session goes on where it was, in its rooms, and misses
//! nothing that was for it.
//!
//! The judge takes over what the client's last connection knew: its position and its stays in rooms. Joins and leaves
//! whose answers the client never had are settled by the rooms that `subscribed` names. Where the log still has
//! everything since the client's last publication, it must go on, unless a shard has ended the subscription since. A
//! refusal as `unavailable` ends nothing.

use super::rooms::{Change, Stay};
use super::view::{PendingCommand, Sub, View, Want};
use super::{Checker, Verdict};
use crate::model::Policy;
use crate::store::Stores;
use fanfare_hub::{
    ChannelName, ClientId, Connected, Error, ErrorCode, Now, Position, Reply, ReplyBody, RequestId, Room, SubOptions,
    Subscribed,
};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// What is known of a connection besides what its client has heard.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    /// Whose it is.
    actor: usize,
    /// The session that a shard has given it, and whether that goes on.
    session: Option<(ClientId, bool)>,
    /// When a shard answered the subscription to each channel.
    said: BTreeMap<ChannelName, Said>,
    /// Channels to which `connect` asked for a subscription that is kept, until it is answered for good. Others that
    /// were kept have ended with `connect`.
    asked: BTreeSet<ChannelName>,
    /// Those of them to which the client has no subscription, as the last answer to it was `unavailable`.
    refused: BTreeSet<ChannelName>,
    /// How many entries had been accepted anywhere when the client left the connection.
    left: u64,
    /// Channels of which nobody knows the rooms in which it is.
    unjudged: BTreeSet<ChannelName>,
}

/// The answer of a shard to a subscription.
#[derive(Debug, Clone, Copy)]
struct Said {
    /// How many entries had been accepted anywhere.
    order: u64,
    /// Its place among all answers and ends.
    moment: u64,
}

/// Ends of subscriptions that may be kept.
#[derive(Debug, Default)]
pub(super) struct Ends {
    /// Counts answers and ends.
    moment: u64,
    /// The last end of each.
    last: BTreeMap<(ClientId, ChannelName), u64>,
    /// Commands of the application that are under way, and may end some of each channel at any time.
    under_way: BTreeMap<ChannelName, usize>,
}

impl Ends {
    fn next(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    pub(super) fn ends(&mut self, client: ClientId, channel: &ChannelName) {
        let moment = self.next();
        self.last.insert((client, channel.clone()), moment);
    }

    /// The application asks for ends, or is answered (`is_over`).
    pub(super) fn asked(&mut self, channel: &ChannelName, is_over: bool) {
        let count = self.under_way.entry(channel.clone()).or_default();
        *count = if is_over { count.saturating_sub(1) } else { *count + 1 };
    }

    /// Whether the subscription may have ended since this answer.
    fn has_ended(&self, client: ClientId, channel: &ChannelName, since: Option<Said>) -> bool {
        let since = since.map_or(0, |said| said.moment);
        self.under_way.get(channel).is_some_and(|count| *count > 0)
            || self.last.get(&(client, channel.clone())).is_some_and(|end| *end > since)
    }
}

impl Keeping {
    /// The client connects, and asks for these subscriptions.
    pub(super) fn connects(&mut self, subscribe: &[SubOptions]) {
        self.asked.extend(subscribe.iter().filter(|options| options.keep).map(|options| options.channel.clone()));
    }

    /// The client is told that its subscription is not made now (`is_kept`), or how it is otherwise.
    pub(super) fn refused(&mut self, channel: &ChannelName, is_kept: bool) {
        if is_kept && self.asked.contains(channel) {
            self.refused.insert(channel.clone());
        } else {
            // What begins on this connection, or is given up, is not kept any more once that ends.
            self.asked.remove(channel);
            self.refused.remove(channel);
        }
    }

    pub(super) fn knows_rooms(&self, channel: &ChannelName) -> bool {
        !self.unjudged.contains(channel)
    }

    /// A subscription begins, in no room.
    pub(super) fn begins(&mut self, channel: &ChannelName) {
        self.unjudged.remove(channel);
    }
}

/// What is known of a subscription that may be kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeptSub {
    /// Where it began, on whichever connection, behind its first page; or a later place up to which nothing was for it.
    begun: Position,
    /// It began in a session that was there before, and its client has not come back since. One that got nothing since
    /// may not know of the beginning.
    is_anew: bool,
    /// The last publication that its client had when it asked.
    asked_with: Option<Position>,
    /// How often its client has come back.
    returns: u64,
    /// The place of the last publication that its client has had.
    had: Option<Position>,
    /// A gap was told, and nothing after it.
    is_gapped: bool,
}

impl KeptSub {
    pub(super) fn new(begun: Position, asked_with: Option<Position>, view: &View) -> Self {
        let is_anew = view.keeping.session.is_some_and(|(_, is_resumed)| is_resumed);
        KeptSub { begun, is_anew, asked_with, returns: 0, had: None, is_gapped: false }
    }

    pub(super) fn told_gap(&mut self) {
        self.is_gapped = true;
    }

    pub(super) fn told_message(&mut self, at: Position) {
        (self.is_gapped, self.had) = (false, Some(at));
    }
}

/// How a client goes on: from its position.
pub(super) struct GoesOn {
    pub(super) at: Option<Position>,
    pub(super) kept: KeptSub,
}

impl Checker {
    /// Whose a connection is.
    pub(crate) fn is_of(&mut self, pipe: usize, actor: usize) {
        self.views.entry(pipe).and_modify(|view| view.keeping.actor = actor);
    }

    /// A shard gives it a session.
    pub(crate) fn is_given(&mut self, pipe: usize, connected: &Connected) {
        let session = Some((connected.client, connected.resumed));
        self.views.entry(pipe).and_modify(|view| view.keeping.session = session);
    }

    /// Its client leaves the connection.
    pub(crate) fn leaves(&mut self, pipe: usize, order: u64) {
        self.views.entry(pipe).and_modify(|view| view.keeping.left = order);
    }

    /// A shard has ended a subscription, and the client may not hear of it.
    pub(crate) fn end_sent(&mut self, pipe: usize, channel: &ChannelName) {
        let session = self.views.get(&pipe).and_then(|view| view.keeping.session);
        if let Some((client, _)) = session {
            self.ends.ends(client, channel);
        }
    }

    /// The options of the subscriptions that a shard answers, and what it answers.
    fn answered_subscriptions<'a>(&self, pipe: usize, reply: &'a Reply) -> Vec<(SubOptions, &'a ReplyBody)> {
        let Some(view) = self.views.get(&pipe) else { return Vec::new() };
        let bodies = match &reply.body {
            ReplyBody::Many(bodies) => bodies.as_slice(),
            body => std::slice::from_ref(body),
        };
        match &reply.id {
            None => {
                let channel = match &reply.body {
                    ReplyBody::Subscribed(subscribed) => Some(&subscribed.channel),
                    ReplyBody::Error(error) => error.channel.as_ref(),
                    _ => None,
                };
                let options = channel.and_then(|channel| view.unanswered.get(channel));
                options.map(|options| (options.clone(), &reply.body)).into_iter().collect()
            }
            Some(RequestId::Number(id)) => match view.pending.get(id) {
                Some((_, PendingCommand::Subscribe(wants))) => {
                    wants.iter().map(|want| want.options.clone()).zip(bodies.iter().cycle()).collect()
                }
                _ => Vec::new(),
            },
            Some(_) => Vec::new(),
        }
    }

    /// A shard answers. A subscription that was kept goes on if the log still has everything that is for it.
    pub(crate) fn said_kept(
        &mut self,
        now: Now,
        pipe: usize,
        reply: &Reply,
        stores: &Stores,
        policy: &Policy,
    ) -> Verdict {
        for (options, body) in self.answered_subscriptions(pipe, reply) {
            match body {
                ReplyBody::Subscribed(subscribed) => {
                    self.said_subscribed(now, pipe, &options, subscribed, stores, policy)?;
                }
                body => self.refused_kept(pipe, &options.channel, body),
            }
        }
        Ok(())
    }

    /// A shard answers a send over this connection.
    pub(crate) fn said_to_send(&mut self, pipe: usize, reply: &Reply) {
        for (options, body) in self.answered_subscriptions(pipe, reply) {
            self.refused_kept(pipe, &options.channel, body);
        }
    }

    /// One that is refused for good is not kept any more, and the client may not hear of it.
    fn refused_kept(&mut self, pipe: usize, channel: &ChannelName, body: &ReplyBody) {
        match body {
            ReplyBody::Error(Error { code: ErrorCode::Unavailable | ErrorCode::AlreadySubscribed, .. }) => {}
            ReplyBody::Error(_) => self.end_sent(pipe, channel),
            _ => {}
        }
    }

    fn said_subscribed(
        &mut self,
        now: Now,
        pipe: usize,
        options: &SubOptions,
        subscribed: &Subscribed,
        stores: &Stores,
        policy: &Policy,
    ) -> Verdict {
        let moment = self.ends.next();
        let Some(view) = self.views.get_mut(&pipe) else { return Ok(()) };
        let channel = &subscribed.channel;
        view.keeping.said.insert(channel.clone(), Said { order: stores.ledger.order, moment });
        // One that its client asks for on this connection once more goes on if the last answer was `unavailable`.
        let is_again = view.keeping.refused.contains(channel) && !view.is_leaving(channel);
        if !options.keep || !view.unanswered.contains_key(channel) && !is_again {
            return Ok(());
        }
        if subscribed.recovered != Some(true) && !subscribed.rooms.is_empty() {
            return Err(format!("kept: {channel} begins anew, in the rooms {:?}", subscribed.rooms));
        }
        let view = &self.views[&pipe];
        let Some((client, true)) = view.keeping.session else { return Ok(()) };
        let Some(before) = self.had(view, client, channel).filter(|before| self.must_go_on(before, view, channel))
        else {
            return Ok(());
        };
        let Some((floor, top)) = stores.kept(now, channel, policy.history(channel)) else { return Ok(()) };
        let sub = &before.subs[channel];
        let begun = sub.kept.begun;
        if [sub.at.epoch, begun.epoch] != [top.epoch; 2] {
            return Ok(());
        }
        let from = options.since.filter(|since| since.epoch == top.epoch).map_or(0, |since| since.offset);
        let from = from.max(begun.offset);
        let has_heard =
            options.since != sub.kept.asked_with && options.since.is_some_and(|since| since.epoch == top.epoch);
        // The last one that it had before, and that comes again since, does not say whether it has.
        let is_unclear = !has_heard && begun.offset < from;
        if floor > from || is_unclear || sub.kept.is_anew && !has_heard {
            return Ok(());
        }
        self.counts.kept_required += 1;
        if subscribed.recovered != Some(true) {
            return Err(format!(
                "kept: {channel}: {client} is at {from}, all after {floor} is there, and it is told {:?}",
                subscribed.recovered
            ));
        }
        Ok(())
    }

    /// The last connection on which the client knew of the subscription, if each one since then asked for it again, and
    /// had no answer or was refused for a while.
    fn had(&self, view: &View, client: ClientId, channel: &ChannelName) -> Option<&View> {
        let is_earlier =
            |other: &&View| other.keeping.session.is_some_and(|(of, _)| of == client) && other.taken_up < view.taken_up;
        let mut earlier: Vec<&View> = self.views.values().map(|other| &**other).filter(is_earlier).collect();
        earlier.sort_by_key(|other| Reverse(other.taken_up));
        let asks = |other: &&View| {
            let is_asking = other.bare.get(channel).is_some_and(|want| want.options.keep);
            (is_asking || other.keeping.refused.contains(channel)) && !other.is_leaving(channel)
        };
        let has = |other: &View| other.subs.get(channel).is_some_and(|sub| sub.want.options.keep);
        earlier.into_iter().find(|other| !asks(other)).filter(|other| has(other))
    }

    /// False where something may have ended the subscription, or its client may say what it never had.
    fn must_go_on(&self, before: &View, view: &View, channel: &ChannelName) -> bool {
        let Some((client, _)) = view.keeping.session else { return false };
        let stays = before.stays.get(channel).into_iter().flatten();
        let stays: usize = stays.map(Stay::weight).sum::<usize>() + before.changes_on(channel).count();
        // One that the application has made begins anew by its client's `subscribe`.
        let is_asking = |asked: &PendingCommand| {
            let is_it = |want: &Want| want.options.channel == *channel;
            matches!(asked, PendingCommand::Subscribe(wants) if wants.iter().any(is_it))
        };
        let is_leaving = before.is_leaving(channel) || before.pending.values().any(|(_, asked)| is_asking(asked));
        let is_ended = self.ends.has_ended(client, channel, before.keeping.said.get(channel).copied());
        // What was kept for its page ends where another page shows the same ticket and is given the session.
        // That one may have ended before it was told, and then nobody knows whether it was.
        let is_others = |other: &View| {
            let is_since = match other.keeping.session {
                Some((of, _)) => of == client && (before.taken_up..view.taken_up).contains(&other.taken_up),
                None => other.resumed_from == Some(client) && other.sent >= before.taken_up,
            };
            other.keeping.actor != view.keeping.actor && is_since
        };
        let is_anothers = self.views.values().any(|other| is_others(other));
        !is_anothers && !before.is_apart && !is_leaving && !is_ended && stays < self.rooms_max
    }

    /// A client reads that its subscription goes on: it is where its last connection was, and in its rooms.
    pub(super) fn goes_on(
        &mut self,
        view: &mut View,
        want: &Want,
        subscribed: &Subscribed,
        stores: &Stores,
    ) -> Result<GoesOn, String> {
        let Subscribed { channel, position, publications, rooms, .. } = subscribed;
        let client = view.client.unwrap_or(ClientId(0));
        let Some(before) = self.had(view, client, channel) else {
            // Its client never knew of it, was refused when it asked again, or had one of the application begin anew.
            view.keeping.unjudged.insert(channel.clone());
            let begun = publications.first().map_or(position.offset, |first| first.prev);
            let kept = KeptSub::new(Position { offset: begun, ..*position }, want.options.since, view);
            return Ok(GoesOn { at: None, kept });
        };
        if before.keeping.actor != view.keeping.actor {
            return Err(format!("kept: {channel}: {:?} goes on for another page", view.client));
        }
        let Sub { at, kept, want: wanted, .. } = &before.subs[channel];
        let says_all = want.options.since == kept.had;
        let is_own = at.epoch == position.epoch && says_all;
        let has_followed = wanted.options.keep && is_own && !kept.is_gapped && !before.is_apart && !view.is_apart;
        let has_followed = has_followed && !before.is_leaving(channel);
        let order = view.keeping.said.get(channel).map_or(u64::MAX, |said| said.order);
        let mut stays = before.stays.get(channel).cloned().unwrap_or_default();
        let doubts: Vec<Change> = before.changes_on(channel).filter(|change| change.is_given()).cloned().collect();
        let named: BTreeSet<&Room> =
            stays.iter().map(Stay::room).chain(doubts.iter().map(|doubt| &doubt.room)).collect();
        if let Some(room) = rooms.iter().find(|room| !named.contains(room))
            && before.keeping.knows_rooms(channel)
        {
            return Err(format!("kept: {channel}: {:?} goes on in {room:?}, where it never was", view.client));
        }
        let is_leaving = before.is_leaving(channel);
        if is_leaving || !before.keeping.knows_rooms(channel) {
            view.keeping.unjudged.insert(channel.clone());
        }
        for room in named.into_iter().cloned().collect::<Vec<_>>() {
            let doubts = doubts.iter().filter(|doubt| doubt.room == room);
            let settled = Stay::settle(&mut stays, &room, doubts, rooms.contains(&room), order);
            if view.keeping.knows_rooms(channel) {
                settled.map_err(|wrong| format!("kept: {channel}: {:?} {wrong}", view.client))?;
            }
        }
        let was_sent = |offset| {
            let entry = stores.ledger.at(channel, Position { offset, ..*position });
            entry.is_some_and(|entry| entry.order <= before.keeping.left)
        };
        let was_lost = publications.iter().any(|publication| was_sent(publication.offset));
        let has_moved = before.shard != view.shard;
        // Where nothing up to there was for it, it goes on from there the next time.
        let begun = if publications.is_empty() && kept.begun.epoch == position.epoch { *position } else { kept.begun };
        let (returns, had) = (kept.returns + 1, want.options.since);
        let kept = KeptSub { begun, returns, is_anew: false, is_gapped: false, had, ..*kept };
        let at = has_followed.then_some(*at);
        let counts = [
            (&mut self.counts.kept_on, true),
            (&mut self.counts.kept_again, kept.returns > 1),
            (&mut self.counts.kept_quiet, want.options.since.is_none()),
            (&mut self.counts.kept_moved, has_moved),
            (&mut self.counts.kept_in_rooms, !rooms.is_empty()),
            (&mut self.counts.kept_lost, was_lost),
        ];
        counts.into_iter().filter(|(_, is_so)| *is_so).for_each(|(count, _)| *count += 1);
        view.stays.insert(channel.clone(), stays);
        Ok(GoesOn { at, kept })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str) -> ChannelName {
        ChannelName::new(name).expect("valid")
    }

    #[test]
    fn only_an_end_after_the_last_answer_ends_what_is_kept() {
        let (ada, a, b) = (ClientId(1), channel("chat:a"), channel("chat:b"));
        let mut ends = Ends::default();
        ends.ends(ada, &a);
        let said = Some(Said { order: 0, moment: ends.next() });
        assert!(!ends.has_ended(ada, &a, said) && ends.has_ended(ada, &a, None));
        ends.asked(&b, false);
        assert!(ends.has_ended(ada, &b, said), "the application may end it at any time");
        ends.asked(&b, true);
        assert!(!ends.has_ended(ada, &b, said));
        ends.ends(ada, &a);
        assert!(ends.has_ended(ada, &a, said) && !ends.has_ended(ClientId(2), &a, said));
    }

    #[test]
    fn a_refusal_for_a_while_keeps_what_connect_has_asked_for_until_it_begins() {
        let (a, b) = (channel("chat:a"), channel("chat:b"));
        let mut keeping = Keeping::default();
        keeping.connects(&[SubOptions { keep: true, ..SubOptions::new(a.clone()) }, SubOptions::new(b.clone())]);
        for channel in [&a, &b] {
            keeping.refused(channel, true);
        }
        assert_eq!(keeping.refused, BTreeSet::from([a.clone()]), "the other one was not to be kept");
        keeping.refused(&a, false); // it has begun
        keeping.refused(&a, true);
        assert!(keeping.refused.is_empty(), "it was left since, and asked for anew");
    }
}
