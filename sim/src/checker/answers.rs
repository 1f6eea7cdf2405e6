//! Answers to commands: one for each, consistent with the commands before it (promise 9).

use super::deliveries::is_place;
use super::kept::KeptSub;
use super::view::{FirstPage, PendingCommand, Sub, View, Want};
use super::{Checker, Verdict};
use crate::quotas::is_over_quota;
use crate::store::Stores;
use fanfare_hub::{ChannelName, ErrorCode, Position, ReplyBody, SubOptions, Subscribed};

impl Checker {
    pub(super) fn answered_bare(&mut self, pipe: usize, view: &mut View, body: &ReplyBody, stores: &Stores) -> Verdict {
        if let ReplyBody::Error(error) = body
            && error.channel.is_none()
            && let Some(at) = view.bad.iter().position(|code| *code == error.code)
        {
            view.bad.remove(at);
            self.counts.bad_refused += 1;
            return Ok(());
        }
        let channel = match body {
            ReplyBody::Subscribed(subscribed) => Some(&subscribed.channel),
            ReplyBody::Error(error) => error.channel.as_ref(),
            _ => None,
        };
        if let (ReplyBody::Error(error), None, true) = (body, channel, view.is_chat)
            && matches!(error.code, ErrorCode::NotConnected | ErrorCode::LimitExceeded | ErrorCode::Unavailable)
        {
            return Ok(());
        }
        // A command without an id is refused for a quota without a word about its channel.
        if let (ReplyBody::Error(error), None, false) = (body, channel, view.silent.is_empty())
            && is_over_quota(error)
        {
            return Ok(());
        }
        let channel = channel.ok_or_else(|| format!("an answer without id that is about no channel: {body:?}"))?;
        if view.is_chat && matches!(body, ReplyBody::Error(_)) {
            view.refused.insert(channel.clone());
        }
        match view.bare.remove(channel) {
            Some(want) => self.subscribe_answered(pipe, view, want, body, stores),
            None if matches!(body, ReplyBody::Error(_)) && view.silent.contains(channel) => Ok(()),
            None if view.granted_late && self.grant.as_ref() == Some(channel) && view.blurs_by_server(channel) => {
                self.presences.unsubscribed(pipe, channel);
                view.blur(channel.clone());
                Ok(())
            }
            None if view.granted_late && self.grant.as_ref() == Some(channel) => {
                let mut want = granted_want(view, channel, stores);
                if matches!(body, ReplyBody::Error(_)) {
                    want.sent = view.decided(channel);
                }
                self.subscribe_answered(pipe, view, want, body, stores)
            }
            None => Err(format!("an answer without id for {channel}, which `connect` did not ask for: {body:?}")),
        }
    }

    pub(super) fn answered(
        &mut self,
        pipe: usize,
        view: &mut View,
        place: u64,
        asked: PendingCommand,
        body: &ReplyBody,
        stores: &Stores,
    ) -> Verdict {
        if let ReplyBody::Error(error) = body
            && is_over_quota(error)
        {
            // It has changed nothing.
            match asked {
                PendingCommand::Publish { channel, data } => {
                    return self.published(view, place, &channel, data, body, stores);
                }
                PendingCommand::Bad(code) => {
                    return Err(format!("commands: an invalid one ({code}) was answered with {body:?}"));
                }
                asked => {
                    for channel in asked.channels() {
                        self.presences.doubt(view.client, channel, place);
                    }
                    return Ok(());
                }
            }
        }
        match (asked, body) {
            // The client cannot know of which subscription it hears.
            (PendingCommand::Unsubscribe(channel), _) if view.blurred.contains(&channel) => {
                self.presences.doubt(view.client, &channel, place);
            }
            (PendingCommand::Presence(channel), _) if view.blurred.contains(&channel) => {}
            (PendingCommand::Connect, ReplyBody::Connected(connected)) => {
                view.client = Some(connected.client);
                view.incarnation = connected.incarnation;
                view.known = connected.user.is_some();
                if view.shown.is_some() && view.shown != connected.user {
                    return Err(format!("hooks: {:?} showed its token and is {:?}", view.shown, connected.user));
                }
                view.shown = connected.user.clone();
                if connected.resumed != (view.resumed_from == Some(connected.client)) {
                    return Err(format!("`connected` says resumed = {} and names another client", connected.resumed));
                }
                match (connected.resumed, view.resumed_from) {
                    (true, _) => {
                        self.counts.resumed += 1;
                        self.counts.adopted += u64::from(view.elsewhere);
                    }
                    (false, Some(_)) => self.counts.not_resumed += 1,
                    _ => {}
                }
                if let Some(channel) = self.grant.as_ref().filter(|_| view.granted)
                    && !view.bare.contains_key(channel)
                {
                    let want = Want { sent: view.taken_up, ..granted_want(view, channel, stores) };
                    view.by_server.insert(channel.clone());
                    view.bare.insert(channel.clone(), want);
                }
                self.presences.connected(pipe, connected.client);
            }
            (PendingCommand::Subscribe(wants), ReplyBody::Many(bodies)) if wants.len() == bodies.len() => {
                for (want, body) in wants.into_iter().zip(bodies) {
                    // A refusal was decided in its turn and is sent with the others, when much may have changed again.
                    if !matches!(body, ReplyBody::Error(_)) {
                        self.subscribe_answered(pipe, view, want, body, stores)?;
                    }
                }
            }
            (PendingCommand::Subscribe(wants), body) if wants.len() == 1 => {
                for want in wants {
                    self.subscribe_answered(pipe, view, want, body, stores)?;
                }
            }
            (PendingCommand::Unsubscribe(channel), ReplyBody::Unsubscribed { .. }) => {
                view.keeping.refused(&channel, false);
                // A request that its client has left behind may have subscribed it on this connection.
                let is_stray = self.is_uncertain_to(view, &channel);
                view.stays.remove(&channel);
                if view.subs.remove(&channel).is_none() && !is_stray {
                    return Err(format!("promise 9: unsubscribed from {channel}, to which nothing was subscribed"));
                }
                self.presences.left(view.client, &channel, place);
                self.presences.unsubscribed(pipe, &channel);
            }
            // Requests bring commands also when too many have no answer yet.
            (PendingCommand::Unsubscribe(_), ReplyBody::Error(error))
                if view.is_apart && error.code == ErrorCode::Unavailable => {}
            (PendingCommand::Unsubscribe(channel), ReplyBody::Error(_)) => {
                view.keeping.refused(&channel, false);
                // A request that its client has left behind may have ended it on this connection.
                let is_stray = self.is_uncertain_to(view, &channel);
                if view.subs.remove(&channel).is_some() && !is_stray {
                    return Err(format!("promise 9: `unsubscribe` from {channel} refused while subscribed: {body:?}"));
                }
                self.presences.left(view.client, &channel, place);
                self.presences.unsubscribed(pipe, &channel);
            }
            (PendingCommand::Publish { channel, data }, body) => {
                return self.published(view, place, &channel, data, body, stores);
            }
            (PendingCommand::PresenceSet { channel, data }, ReplyBody::Done) => {
                self.presences.entered(view.client, &channel, place, data);
            }
            (PendingCommand::PresenceSet { channel, .. }, ReplyBody::Error(_)) => {
                self.presences.doubt(view.client, &channel, place)
            }
            (PendingCommand::PresenceClear(channel), ReplyBody::Done) => {
                self.presences.left(view.client, &channel, place)
            }
            (PendingCommand::PresenceClear(channel), ReplyBody::Error(_)) => {
                self.presences.doubt(view.client, &channel, place)
            }
            // The answer to a later send came first: this one describes the time before the subscription.
            (PendingCommand::Presence(channel), ReplyBody::Presence { .. })
                if view.is_apart && self.presences.is_subscribed_after(pipe, &channel, place) => {}
            (PendingCommand::Presence(channel), ReplyBody::Presence { snapshot, .. }) => {
                let ends = |asked: &PendingCommand| matches!(asked, PendingCommand::Unsubscribe(of) if *of == channel);
                if view.is_apart && view.pending.values().any(|(_, asked)| ends(asked)) {
                    self.presences.may_have_ended(pipe, &channel);
                }
                if view.is_chat {
                    self.stands_in_room(view, &channel, place, snapshot)?;
                }
                self.presences.snapshot(pipe, &channel, snapshot)?;
            }
            (PendingCommand::History { channel, since }, ReplyBody::History(history)) => {
                return self.history(view.client, &channel, since.is_some(), history, stores);
            }
            (PendingCommand::Room { channel, change }, body) => return self.room_answered(view, channel, change, body),
            (PendingCommand::Rpc(data), ReplyBody::Result(result)) if data == *result => self.counts.rpc += 1,
            (PendingCommand::Refresh(user), ReplyBody::Refreshed { .. }) if view.shown.as_ref() == Some(&user) => {
                self.counts.refreshed += 1;
            }
            (PendingCommand::Bad(code), body) => match body {
                ReplyBody::Error(error) if error.code == code => self.counts.bad_refused += 1,
                body => return Err(format!("commands: an invalid one ({code}) was answered with {body:?}")),
            },
            (_, ReplyBody::Error(_)) | (PendingCommand::Other, _) => {}
            (asked, body) => return Err(format!("{asked:?} was answered with {body:?}")),
        }
        Ok(())
    }

    pub(super) fn subscribe_answered(
        &mut self,
        pipe: usize,
        view: &mut View,
        want: Want,
        body: &ReplyBody,
        stores: &Stores,
    ) -> Verdict {
        let channel = want.options.channel.clone();
        if view.blurred.contains(&channel) {
            return Ok(());
        }
        let subscribed = match body {
            ReplyBody::Subscribed(subscribed) => subscribed,
            ReplyBody::Error(error) => {
                // Requests bring commands also when too many have no answer yet.
                if view.is_apart && error.code == ErrorCode::Unavailable && view.subs.contains_key(&channel) {
                    return Ok(());
                }
                let already = error.code == ErrorCode::AlreadySubscribed;
                view.keeping.refused(&channel, error.code == ErrorCode::Unavailable && want.options.keep);
                self.counts.slow_refused += u64::from(error.code == ErrorCode::BadRequest);
                // New rules apply to new commands at once; a subscription that they end ends when its session's turn
                // comes.
                let is_ending = error.code == ErrorCode::Denied && self.shut.get(&channel) >= Some(&want.sent);
                let goes_on = view.subs.contains_key(&channel) && self.may_begin_anew(&channel);
                // A send is answered as a whole: the rules may have ended it since its command was decided.
                let is_over = already && view.is_apart && self.shut.get(&channel) >= Some(&want.sent);
                let is_stray = self.is_uncertain_to(view, &channel);
                // Asked for what is past, before anything else is looked at.
                if error.option == Some("read") && view.subs.contains_key(&channel) {
                    return Ok(());
                }
                if already != view.subs.contains_key(&channel) && !is_ending && !is_over && !goes_on && !is_stray {
                    return Err(format!("promise 9: `subscribe` to {channel}: {error}"));
                }
                if !already && !goes_on {
                    self.presences.left(view.client, &channel, want.sent);
                }
                return Ok(());
            }
            body => return Err(format!("`subscribe` was answered with {body:?}")),
        };
        view.keeping.refused(&channel, false);
        let told_to = view.subs.get(&channel).map(|sub| sub.at);
        match told_to {
            Some(told_to) => view.begins_anew(&channel, told_to),
            None => {
                view.stays.remove(&channel);
                view.keeping.begins(&channel);
            }
        }
        let is_anew = told_to.is_some();
        if is_anew && !self.may_begin_anew(&channel) {
            return Err(format!("promise 9: subscribed to {channel} twice"));
        }
        self.counts.anew += u64::from(is_anew);
        let Subscribed { position, recovered, publications, more, .. } = &**subscribed;
        is_place(stores, &channel, *position)?;
        match recovered {
            Some(true) => self.counts.recovered_true += 1,
            Some(false) => self.counts.recovered_false += 1,
            None => {}
        }
        self.counts.pages_more += u64::from(*more);
        let is_kept = want.options.keep && !is_anew;
        if recovered.is_some() != want.options.since.is_some() && !is_kept {
            return Err(format!(
                "`subscribed` to {channel}: recovered = {recovered:?} with since {:?}",
                want.options.since
            ));
        }
        // The position before the first page: `since` if that was honoured, else the one before its first publication.
        let first = publications.first().map_or(position.offset, |p| p.prev);
        let from = match (recovered, want.options.since) {
            (Some(true), Some(since)) if since.epoch != position.epoch && !is_kept => {
                return Err(format!(
                    "promise 2: recovered = true on {channel} across epochs, {since:?} to {position:?}"
                ));
            }
            (Some(true), Some(since)) if !is_kept => since.offset,
            _ => first,
        };
        let goes_on = match recovered {
            Some(true) if is_kept => Some(self.goes_on(view, &want, subscribed, stores)?),
            _ => None,
        };
        let was_at = goes_on.as_ref().and_then(|goes_on| goes_on.at).map(|at| at.offset);
        let from = was_at.unwrap_or(from);
        let kept = goes_on.map_or(KeptSub::new(*position, want.options.since, view), |goes_on| goes_on.kept);
        let presence = want.options.presence;
        let signals = want.options.signals;
        let sent = want.sent;
        let at = Position { epoch: position.epoch, offset: from };
        let mut want = want;
        want.options.keep = is_kept;
        let first_page = if *more { FirstPage::More } else { FirstPage::Whole { up_to: *position } };
        let mut sub = Sub { at, want, recovered: *recovered, first_page, presence, signals, kept };
        view.is_recent = *recovered != Some(true);
        for publication in publications {
            self.message(view, &channel, &mut sub, publication, stores)?;
        }
        // A page may reach beyond what the home has told. A client that comes back then goes on behind its last
        // publication, and had everything up to where it was.
        let page_end = publications.last().map_or(position.offset, |last| last.offset);
        let was_further = was_at.is_some_and(|was_at| position.offset < was_at);
        if position.offset < page_end || position.offset < sub.at.offset && !was_further {
            return Err(format!("`subscribed` to {channel} names {position:?}, which lies before its page's end"));
        }
        self.nothing_between(view, &channel, &sub, position.offset + 1, stores)?;
        view.is_recent = false;
        if !was_further {
            sub.at = *position;
        }
        self.presences.subscribed(pipe, &channel, presence, sent);
        // One that has subscribed anew may be told again of a signal that is still on its way.
        view.undirected.retain(|(of, ..), _| *of != channel);
        view.subs.insert(channel, sub);
        Ok(())
    }
}

/// The server's way to subscribe a client to a channel of its token.
fn granted_want(view: &View, channel: &ChannelName, stores: &Stores) -> Want {
    Want { options: SubOptions::new(channel.clone()), order: stores.ledger.order, sent: view.sent }
}
