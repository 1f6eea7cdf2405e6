//! Messages to subscribers: each once, in order, with none left out (promises 1 to 3 and 7).

use super::rooms::Known;
use super::view::{FirstPage, PendingCommand, Sub, View, Want};
use super::{Checker, Directed, HadByPoll, Verdict};
use crate::application::plain;
use crate::ledger::Kept;
use crate::model::{Policy, is_about_rooms};
use crate::store::Stores;
use crate::wire::channel_of;
use fanfare_hub::{ChannelName, Now, Position, Publication, Push, ReplyBody, SignalPush, Slow, SubOptions};
use std::sync::Arc;

impl Checker {
    pub(super) fn pushed(
        &mut self,
        now: Now,
        pipe: usize,
        view: &mut View,
        push: &Push,
        stores: &Stores,
        policy: &Policy,
    ) -> Verdict {
        let not_subscribed =
            |channel: &ChannelName| format!("promise 7: {channel} is not subscribed, and yet came {push:?}");
        if self.is_stray(view, push) {
            // The client's own request may begin that subscription anew, and its messages may come behind the answer.
            if let Push::Subscribed(subscribed) = push
                && view.blurs_by_server(&subscribed.channel)
            {
                self.presences.unsubscribed(pipe, &subscribed.channel);
                view.blur(subscribed.channel.clone());
            }
            // Its presence ends with the subscription, whichever that was.
            if let Push::Unsubscribed { channel, .. } = push {
                let next = self.presences.up_to(pipe, view.client, view.sent + 1);
                self.presences.doubt(view.client, channel, next);
            }
            return Ok(());
        }
        // A page for a subscriber that wants only the latest is sent at once: the gap, and the publication after it.
        // A client may look at the messages about one channel later than at others.
        if let Some((owed, kept)) = view.owed.take_if(|_| !view.is_apart)
            && !matches!(push, Push::Message { channel, .. } | Push::Messages { channel, .. } if *channel == owed)
        {
            return Err(format!("promise 2: {owed}: {kept} was passed over and nothing newer told but {push:?}"));
        }
        match push {
            Push::Message { channel, publication, .. } => {
                let mut sub = view.subs.remove(channel).ok_or_else(|| not_subscribed(channel))?;
                let verdict = self.message(view, channel, &mut sub, publication, stores);
                view.subs.insert(channel.clone(), sub);
                return verdict;
            }
            Push::Messages { channel, publications } => {
                let mut sub = view.subs.remove(channel).ok_or_else(|| not_subscribed(channel))?;
                let mut each = publications.iter();
                let verdict = each.try_for_each(|p| self.message(view, channel, &mut sub, p, stores));
                view.subs.insert(channel.clone(), sub);
                return verdict;
            }
            Push::Gap { channel, position, reset } => {
                let sub = view.subs.get_mut(channel).ok_or_else(|| not_subscribed(channel))?;
                let retain = policy.history(channel);
                is_place(stores, channel, *position)?;
                if *reset != (position.epoch != sub.at.epoch) {
                    return Err(format!("{channel}: a gap from {:?} to {position:?} says reset = {reset}", sub.at));
                }
                if *reset {
                    self.counts.resets += 1;
                } else {
                    self.counts.gaps += 1;
                    if position.offset <= sub.at.offset {
                        return Err(format!("promise 1: {channel}: a gap back from {:?} to {position:?}", sub.at));
                    }
                    let rule = policy.slow(channel);
                    let is_latest = sub.want.options.slow.unwrap_or(rule) == Slow::Latest;
                    if is_latest && !sub.want.options.keep {
                        self.counts.passed_over += 1;
                        let from = std::mem::replace(&mut sub.at, *position);
                        // If the channel has a new epoch, the history has lost everything of this one.
                        if let (Some((floor, top)), Some(sub)) =
                            (stores.kept(now, channel, retain), view.subs.get(channel))
                            && top.epoch == position.epoch
                        {
                            let after = floor.max(from.offset);
                            let over = stores.ledger.between(channel, position.epoch, after, position.offset + 1);
                            let newest = over.iter().rev().find(|kept| is_told(view, channel, sub, kept, stores));
                            view.owed = newest.map(|kept| (channel.clone(), kept.publication.offset));
                        }
                        return Ok(());
                    }
                    // A history only ever loses its beginning: the entries that it has now were there when the gap was
                    // sent.
                    if let Some((floor, top)) = stores.kept(now, channel, retain) {
                        let after = floor.max(sub.at.offset);
                        let over = stores.ledger.between(channel, position.epoch, after, position.offset + 1);
                        let is_there = top.epoch == position.epoch && (floor <= sub.at.offset || !over.is_empty());
                        if is_there {
                            let from = sub.at;
                            return Err(format!(
                                "promise 2: {channel}: a gap from {from:?} to {position:?}, where all after {floor} is there"
                            ));
                        }
                    }
                }
                sub.at = *position;
                sub.kept.told_gap();
            }
            Push::Signal(signal) => return self.signal(pipe, view, signal),
            Push::Presence(change) => {
                self.counts.presence += 1;
                let sub = view.subs.get(&change.channel).ok_or_else(|| not_subscribed(&change.channel))?;
                if !sub.presence {
                    return Err(format!("{}: a presence change that was not asked for", change.channel));
                }
                self.counts.still_there += u64::from(self.presences.changed(pipe, change)?);
            }
            Push::PresenceCount { channel, count, seq } => {
                self.counts.presence_counts += 1;
                view.subs.get(channel).filter(|sub| sub.presence).ok_or_else(|| not_subscribed(channel))?;
                self.presences.counted(pipe, channel, *count, *seq);
            }
            Push::PresenceSnapshot { channel, snapshot } => {
                self.counts.presence_whole += 1;
                view.subs.get(channel).filter(|sub| sub.presence).ok_or_else(|| not_subscribed(channel))?;
                self.presences.snapshot(pipe, channel, snapshot)?;
            }
            Push::Subscribed(subscribed) => {
                self.counts.by_server += 1;
                if view.blurs_by_server(&subscribed.channel) {
                    self.presences.unsubscribed(pipe, &subscribed.channel);
                    view.blur(subscribed.channel.clone());
                    return Ok(());
                }
                view.leaving.remove(&subscribed.channel); // it had left before
                let options = SubOptions::new(subscribed.channel.clone());
                let want = Want { options, order: stores.ledger.order, sent: view.sent };
                let body = ReplyBody::Subscribed(subscribed.clone());
                return self.subscribe_answered(pipe, view, want, &body, stores);
            }
            Push::Unsubscribed { channel, .. } => {
                self.counts.unsubscribed += 1;
                view.subs.remove(channel).ok_or_else(|| not_subscribed(channel))?;
                view.stays.remove(channel);
                self.presences.unsubscribed(pipe, channel);
                self.presences.end_heard(pipe, channel);
                // A command that was sent before the client knew this came too late, or this undid it; unless the
                // client subscribed anew. A client that sends may have the answer to a later command already.
                let enters = |asked: &PendingCommand| matches!(asked, PendingCommand::PresenceSet { channel: of, .. } if of == channel);
                let up_to = |place| self.presences.up_to(pipe, view.client, place);
                let (sent, next) = (up_to(view.sent), up_to(view.sent + 1));
                match view.is_apart || view.pending.values().map(|(_, asked)| asked).any(enters) {
                    true => self.presences.doubt(view.client, channel, next),
                    false => self.presences.left(view.client, channel, sent),
                }
            }
            Push::Volatile { .. } => unreachable!("nothing is volatile here"),
            Push::Ping | Push::Mark { .. } | Push::Disconnect { .. } => {}
        }
        Ok(())
    }

    /// A message about a channel to which an earlier connection of the client may have subscribed the session.
    fn is_stray(&self, view: &View, push: &Push) -> bool {
        let Some(channel) = channel_of(push).filter(|_| view.client.is_some()) else { return false };
        view.blurred.contains(channel) || !view.subs.contains_key(channel) && self.is_uncertain_to(view, channel)
    }

    /// A publication reaches a subscription: at its offset, as it was accepted, newer than all before, and none left
    /// out.
    pub(super) fn message(
        &mut self,
        view: &View,
        channel: &ChannelName,
        sub: &mut Sub,
        publication: &Arc<Publication>,
        stores: &Stores,
    ) -> Verdict {
        self.counts.messages += 1;
        let at = Position { epoch: sub.at.epoch, offset: publication.offset };
        if publication.offset <= sub.at.offset {
            return Err(format!("promise 1: {channel}: offset {} after {:?}", publication.offset, sub.at));
        }
        let kept =
            stores.ledger.at(channel, at).ok_or_else(|| format!("{channel}: delivered at {at:?}, where none is"))?;
        if *kept.publication != **publication {
            return Err(format!("{channel}: delivered at {at:?}: {publication:?}, accepted: {:?}", kept.publication));
        }
        let means = view.means(channel, at.epoch, kept, stores);
        if means == Known::No {
            return Err(format!("{channel}: {:?} was told what is not for it: {publication:?}", view.client));
        }
        if is_about_rooms(publication) {
            let count = if means == Known::Yes { &mut self.counts.room_messages } else { &mut self.counts.room_either };
            *count += 1;
        }
        self.counts.audiences += u64::from(publication.audience.is_some());
        let own = view.client.is_some() && kept.client() == view.client;
        let published = view.published.get(channel).and_then(|sent| sent.iter().find(|(_, place)| **place == at));
        if own && !publication.echo && published.is_some_and(|(sent, _)| *sent > sub.want.sent) {
            return Err(format!("{channel}: one's own copy at {at:?}, unwanted and acknowledged on this connection"));
        }
        // An unkeyed payload is sent once: while its answer is missing, the message comes before the answer.
        let early = !view.is_apart
            && view.publishes.contains_key(&plain(publication.data.bytes()))
            && publication.idempotency_key.is_none()
            && !stores.answers_disordered
            && stores.silences == 0; // entries without an answer are found by reading
        if own && early && kept.order > sub.want.order {
            return Err(format!("{channel}: one's own copy at {at:?} came before the answer"));
        }
        let begins = stores.ledger.begins_at(channel, at).then_some(&at.epoch);
        if publication.begins.as_deref() != begins {
            let named = &publication.begins;
            return Err(format!("{channel}: {at:?} names {named:?}: the first of an epoch names it, and no other"));
        }
        // A late request of an earlier connection may have ended the subscription and begun another one: what happened
        // between them is in neither, and nobody tells this connection. A client core asks for it again.
        if !self.is_uncertain_to(view, channel) {
            self.nothing_between(view, channel, sub, publication.offset, stores)?;
        }
        sub.at = at;
        sub.kept.told_message(at);
        Ok(())
    }

    /// Promises 2 and 3: there is no publication for this client between its position and `before`.
    pub(super) fn nothing_between(
        &self,
        view: &View,
        channel: &ChannelName,
        sub: &Sub,
        before: u64,
        stores: &Stores,
    ) -> Verdict {
        let missed = stores
            .ledger
            .between(channel, sub.at.epoch, sub.at.offset, before)
            .iter()
            .find(|k| required(view, channel, sub, k, stores));
        match missed {
            None => Ok(()),
            Some(kept) => Err(format!(
                "promise 2: {channel}: from {:?} on to {before}, and {} was left out (recovered {:?})",
                sub.at, kept.publication.offset, sub.recovered
            )),
        }
    }

    fn signal(&mut self, pipe: usize, view: &mut View, signal: &SignalPush) -> Verdict {
        self.counts.signals += 1;
        let channel = &signal.signal.channel;
        let Some(sub) = view.subs.get(channel) else {
            return Err(format!("promise 7: {channel} is not subscribed, and yet came {signal:?}"));
        };
        match signal.signal.to {
            None if !sub.signals => return Err(format!("{channel}: a signal that was not asked for")),
            None if self.last_signals.iter().any(|last| last.data == *signal.signal.data) => {
                self.counts.last_signals += 1;
                let of = self.last_signals.iter_mut().filter(|last| last.data == *signal.signal.data);
                of.for_each(|last| last.due.retain(|due| *due != pipe));
            }
            None if self.signals.contains_key(&signal.signal.data[..]) && signal.from.client != view.client => {
                let (sender, place) = self.signals[&signal.signal.data[..]];
                let key = (channel.clone(), sender);
                let last = view.undirected.entry(key).or_default();
                if *last >= place {
                    return Err(format!("{channel}: a signal is told after a newer one, or twice: {signal:?}"));
                }
                *last = place;
            }
            None if signal.from.client == view.client => return Err(format!("{channel}: one's own signal came back")),
            Some(to) if Some(to) != view.client => {
                return Err(format!("{channel}: a signal to {to} reached {:?}", view.client));
            }
            Some(to) => {
                self.counts.signals_directed += 1;
                let Some(from) = signal.from.client else { return Ok(()) };
                let sent = self.directed.entry((from, to, channel.clone())).or_default();
                let at = sent.iter().position(|sent| sent.data == *signal.signal.data);
                let Some(Directed { pipe: sender, place, .. }) = at.map(|at| sent.remove(at)) else {
                    let earlier = self.directed_by_polls.remove(&signal.signal.data[..]);
                    let may_come = |had: HadByPoll| {
                        let elsewhere = had.pipe != pipe;
                        let is_unheard = |from: Option<u32>, of| from.is_some_and(|from| of >= from);
                        had.may_return
                            || elsewhere && had.by_poll && is_unheard(view.unheard_from, had.incarnation)
                            || view.incarnation < had.incarnation
                                && is_unheard(had.unheard_from, view.incarnation)
                                && view.is_apart
                    };
                    if earlier.is_some_and(may_come) {
                        return Ok(());
                    }
                    return Err(format!("{channel}: a directed signal twice or never sent: {signal:?}"));
                };
                if view.is_apart || view.unheard_from.is_some() {
                    let (by_poll, unheard_from, incarnation) = (view.is_apart, view.unheard_from, view.incarnation);
                    let had = HadByPoll { client: to, pipe, incarnation, by_poll, unheard_from, may_return: false };
                    self.directed_by_polls.insert(signal.signal.data.to_vec(), had);
                }
                // One connection receives another connection's publications in the order sent. The client may read its
                // own connections in any order, and publications of two connections may overtake each other.
                let last = view.directed.entry((channel.clone(), sender)).or_default();
                if *last > place {
                    return Err(format!("{channel}: a directed signal out of order: {signal:?}"));
                }
                *last = place;
            }
            None => {}
        }
        Ok(())
    }
}

/// A position that a client is told is one that the store gave out: an entry's, or the beginning of an epoch.
pub(super) fn is_place(stores: &Stores, channel: &ChannelName, position: Position) -> Verdict {
    match stores.ledger.is_place(channel, position) {
        true => Ok(()),
        false => Err(format!("{channel}: {position:?} is named, where no entry stands")),
    }
}

/// Whether the client must get an entry: all that is told when it happens, and in a recovery also its own copies that
/// it does not want.
fn required(view: &View, channel: &ChannelName, sub: &Sub, kept: &Kept, stores: &Stores) -> bool {
    if view.means(channel, sub.at.epoch, kept, stores) != Known::Yes {
        return false;
    }
    // It may have passed its own one live, and confirmed that.
    !is_own_copy(view, kept) || !sub.want.options.keep && recovers(sub, kept, stores)
}

/// Whether the client must get an entry that happens now.
fn is_told(view: &View, channel: &ChannelName, sub: &Sub, kept: &Kept, stores: &Stores) -> bool {
    view.means(channel, sub.at.epoch, kept, stores) == Known::Yes && !is_own_copy(view, kept)
}

/// True for a publication of the client's own of which it wants no copy.
fn is_own_copy(view: &View, kept: &Kept) -> bool {
    view.client.is_some() && kept.client() == view.client && !kept.publication.echo
}

/// True if the entry is part of what the subscription recovers, and does not just happen. A store may have accepted it
/// long before the client came back, and the home may not know of it, because the store has answered late, never, or
/// without saying whether it did: then it is told as if it happened when the home finds it.
fn recovers(sub: &Sub, kept: &Kept, stores: &Stores) -> bool {
    match (sub.recovered, sub.first_page) {
        // What comes in another epoch has happened since.
        (Some(true), FirstPage::Whole { up_to }) => {
            sub.at.epoch == up_to.epoch && kept.publication.offset <= up_to.offset
        }
        // Nobody says how far the home was. It had all that a store has confirmed at once.
        (Some(true), FirstPage::More) => {
            let is_found_later = stores.answers_late || stores.silences > 0 || stores.unknowns > 0;
            kept.order <= sub.want.order && !is_found_later
        }
        _ => false,
    }
}
