//! The judge: an independent model of what was asked, accepted and delivered.
//!
//! It sees what each client sent and received, in the order in which it did, what the stores accepted (`Ledger`), and
//! the moment at which a shard gives a connection its session. It knows nothing of the hub's states. Each rule names the promise of ARCHITECTURE.md that it holds the hub to.

mod presence;
#[cfg(test)]
mod tests;

use crate::application::{WITH_INFO, plain, user_of};
use crate::counts::Counts;
use crate::ledger::Kept;
use crate::plan::Habit;
use crate::store::Stores;
use crate::wire::ToClient;
use fanfare_hub::{
    AppAnswer, ChannelName, ClientId, Command, ErrorCode, History, HistoryFrom, Now, Position, Publication, Publish,
    Push, Reply, ReplyBody, Request, RequestId, Retain, Rules, SignalPush, Slow, SubOptions, Subscribed, UserId,
};
use presence::Presences;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a broken promise is told as.
pub(crate) type Verdict = Result<(), String>;

#[derive(Debug, Default)]
pub(crate) struct Checker {
    views: BTreeMap<usize, View>,
    /// By payload: what became of each publication.
    attempts: BTreeMap<Vec<u8>, Attempt>,
    presences: Presences,
    /// Directed signals by (from, to, channel): the connection and the payload of each, in the order sent.
    directed: BTreeMap<(ClientId, ClientId, ChannelName), Vec<Sent>>,
    /// How many commands have been sent, by all clients: several may have spoken for a session, each with numbers of
    /// its own.
    sent: u64,
    /// Channels that the rules have shut, with how many commands had been sent when they opened them again.
    shut: BTreeMap<ChannelName, u64>,
    /// What some tokens are good for: the server subscribes to it by itself.
    grant: Option<ChannelName>,
    pub(crate) counts: Counts,
}

/// A directed signal: the connection that it was sent on, and its payload.
type Sent = (usize, Vec<u8>);

/// One connection, as its client sees it.
#[derive(Debug)]
struct View {
    open: bool,
    client: Option<ClientId>,
    /// It has a user: the scope of its keys outlives the session.
    known: bool,
    subs: BTreeMap<ChannelName, Sub>,
    /// Subscriptions asked for by `connect`, whose answers carry no id.
    bare: BTreeMap<ChannelName, Want>,
    /// Channels on which something was sent without an id: it is answered by an error at most.
    silent: BTreeSet<ChannelName>,
    /// What is not answered yet, by the number of the command, with its place among all commands of all clients.
    pending: BTreeMap<u64, (u64, Asked)>,
    /// The place of the last command sent among all commands of all clients.
    sent: u64,
    /// The place at which a shard gave it a session.
    taken_up: u64,
    /// Publishes without answer: the place of each, by payload.
    publishes: BTreeMap<Vec<u8>, u64>,
    /// Acknowledged publishes by the place of the command, which tells the order sent.
    published: BTreeMap<ChannelName, BTreeMap<u64, Position>>,
    shard: usize,
    resumed_from: Option<ClientId>,
    /// The ticket named another shard than the one connected to.
    elsewhere: bool,
    /// Whose token was shown.
    shown: Option<UserId>,
    /// That token is good for a subscription.
    granted: bool,
    /// What was heard last is that a newer token holds: what that ends is still to be heard.
    refreshed: bool,
    /// A newer one was: the server may subscribe it, or find that it is subscribed.
    granted_late: bool,
}

#[derive(Debug, Clone)]
struct Want {
    options: SubOptions,
    /// How many entries had been accepted anywhere when it was sent.
    order: u64,
    /// The place of the command that asked for it.
    sent: u64,
}

#[derive(Debug)]
enum Asked {
    Connect,
    Subscribe(Vec<Want>),
    Unsubscribe(ChannelName),
    Publish { channel: ChannelName, data: Vec<u8> },
    PresenceSet { channel: ChannelName, data: Vec<u8> },
    PresenceClear(ChannelName),
    Presence(ChannelName),
    History { channel: ChannelName, forwards: bool },
    Rpc(Vec<u8>),
    Refresh(UserId),
    Other,
}

/// A live subscription.
#[derive(Debug)]
struct Sub {
    at: Position,
    want: Want,
    recovered: Option<bool>,
    presence: bool,
    signals: bool,
}

#[derive(Debug, Default)]
struct Attempt {
    tries: u32,
    acknowledged: Vec<(ChannelName, Position)>,
    /// Tries whose outcome is not known.
    unknown: u32,
    refused: u32,
    keyed: bool,
}

impl Asked {
    /// The channel whose presence it changes.
    fn enters_or_leaves(&self) -> Option<&ChannelName> {
        match self {
            Asked::Unsubscribe(channel) | Asked::PresenceSet { channel, .. } | Asked::PresenceClear(channel) => {
                Some(channel)
            }
            _ => None,
        }
    }
}

impl View {
    /// The place up to which commands about a channel are decided, where the server speaks of it by itself: those that
    /// are not answered yet may have waited for what it speaks of.
    fn decided(&self, channel: &ChannelName) -> u64 {
        let waiting = self.pending.values().filter(|(_, asked)| asked.enters_or_leaves() == Some(channel));
        waiting.map(|(place, _)| place - 1).min().unwrap_or(self.sent)
    }

    /// A newer token may hold that is not good for what an earlier one was.
    fn doubts_grant(&self) -> bool {
        self.refreshed || self.pending.values().any(|(_, asked)| matches!(asked, Asked::Refresh(_)))
    }
}

impl Checker {
    pub(crate) fn new(grant: Option<ChannelName>) -> Self {
        Checker { grant, ..Checker::default() }
    }

    pub(crate) fn opened(&mut self, pipe: usize, shard: usize) {
        let view = View {
            open: true,
            client: None,
            known: false,
            subs: BTreeMap::new(),
            bare: BTreeMap::new(),
            silent: BTreeSet::new(),
            pending: BTreeMap::new(),
            sent: 0,
            taken_up: 0,
            publishes: BTreeMap::new(),
            published: BTreeMap::new(),
            shard,
            resumed_from: None,
            elsewhere: false,
            shown: None,
            granted: false,
            refreshed: false,
            granted_late: false,
        };
        self.views.insert(pipe, view);
    }

    /// A client has sent a command.
    pub(crate) fn sent(&mut self, pipe: usize, request: &Request, stores: &Stores) {
        self.counts.commands += 1;
        let Some(view) = self.views.get_mut(&pipe) else { return };
        let order = stores.ledger.order;
        let Some(RequestId::Number(id)) = request.id else {
            if let Command::Signal(signal) = &request.command {
                view.silent.insert(signal.channel.clone());
            }
            return;
        };
        self.sent += 1;
        let place = self.sent;
        view.sent = place;
        // Until a shard takes it up, and where another connection has taken its session up since, it changes nothing.
        let client = view.client.or(view.resumed_from).filter(|client| self.presences.speaks(pipe, Some(*client)));
        let asked = match &request.command {
            Command::Connect(connect) => {
                let is_good = |token: &str| self.grant.is_some() && token.ends_with(WITH_INFO);
                view.shown = connect.token.as_deref().map(user_of);
                view.granted = connect.token.as_deref().is_some_and(is_good);
                view.resumed_from = connect.resume.map(|resume| resume.client);
                view.elsewhere = connect.resume.is_some_and(|resume| usize::from(resume.shard.0) != view.shard);
                for options in &connect.subscribe {
                    view.bare.insert(options.channel.clone(), Want { options: options.clone(), order, sent: place });
                }
                Asked::Connect
            }
            Command::Subscribe { subs, .. } => Asked::Subscribe(
                subs.iter().map(|options| Want { options: options.clone(), order, sent: place }).collect(),
            ),
            Command::Unsubscribe { channel } => {
                self.presences.doubt(client, channel, place);
                Asked::Unsubscribe(channel.clone())
            }
            Command::Publish(publish) => {
                let data = publish.data.bytes().to_vec();
                let attempt = self.attempts.entry(data.clone()).or_default();
                attempt.tries += 1;
                attempt.unknown += 1;
                attempt.keyed |= publish.idempotency_key.is_some() && view.known;
                view.publishes.insert(data.clone(), place);
                Asked::Publish { channel: publish.channel.clone(), data }
            }
            Command::PresenceSet { channel, data, .. } => {
                self.presences.doubt(client, channel, place);
                Asked::PresenceSet { channel: channel.clone(), data: data.to_vec() }
            }
            Command::PresenceClear { channel } => {
                self.presences.doubt(client, channel, place);
                Asked::PresenceClear(channel.clone())
            }
            Command::Presence { channel } => Asked::Presence(channel.clone()),
            Command::History { channel, query } => {
                Asked::History { channel: channel.clone(), forwards: matches!(query.from, HistoryFrom::Since(_)) }
            }
            Command::Signal(signal) => {
                if let (Some(from), Some(to)) = (view.client, signal.to) {
                    let key = (from, to, signal.channel.clone());
                    self.directed.entry(key).or_default().push((pipe, signal.data.to_vec()));
                }
                Asked::Other
            }
            Command::Rpc { data, .. } => Asked::Rpc(data.to_vec()),
            Command::Refresh { token } => {
                view.granted_late |= self.grant.is_some() && token.ends_with(WITH_INFO);
                Asked::Refresh(user_of(token))
            }
            _ => Asked::Other,
        };
        view.pending.insert(id, (place, asked));
    }

    /// A shard says to a connection that it has a session: what it has sent takes effect from here on, after all that
    /// others have done in the session. The client may never hear of it.
    pub(crate) fn taken_up(&mut self, pipe: usize, client: ClientId) {
        let Some(view) = self.views.get_mut(&pipe) else { return };
        self.sent += 1;
        view.taken_up = self.sent;
        view.bare.values_mut().for_each(|want| want.sent = self.sent);
        let granted = self.grant.iter().filter(|_| view.granted);
        let subscribes = view.bare.keys().chain(granted).cloned().collect();
        self.presences.taken_up(pipe, client, self.sent, &subscribes);
        for (place, asked) in view.pending.values_mut() {
            self.sent += 1;
            *place = self.sent;
            match asked {
                Asked::Subscribe(wants) => wants.iter_mut().for_each(|want| want.sent = self.sent),
                Asked::Publish { data, .. } => {
                    view.publishes.insert(data.clone(), self.sent);
                }
                _ => {}
            }
            if let Some(channel) = asked.enters_or_leaves() {
                self.presences.doubt(Some(client), channel, self.sent);
            }
        }
        view.sent = self.sent;
    }

    /// The client considers this connection over.
    pub(crate) fn closed(&mut self, pipe: usize, finally: bool) {
        let Some(view) = self.views.get_mut(&pipe) else { return };
        view.open = false;
        // A subscription that was refused unheard has ended the presence that was to go on with it; so has one that a
        // newer token was not good for. The client may come back to the session and to the channel, and is not
        // present any more.
        let client = view.client.or(view.resumed_from);
        let has_shown = view.granted && view.client.is_none() || view.doubts_grant();
        let entering = view.pending.values().filter_map(|(_, asked)| asked.enters_or_leaves());
        let unheard = view.bare.keys().chain(self.grant.iter().filter(|_| has_shown)).chain(entering);
        let is_new = view.taken_up == 0;
        let place = if is_new { self.sent } else { self.presences.up_to(pipe, client, self.sent) };
        for channel in unheard {
            self.presences.doubt(client, channel, place);
        }
        self.presences.closed(pipe, view.client, finally);
    }

    /// The rules shut a channel, and open the others: the subscriptions to it end, whether or not the clients hear of
    /// it.
    pub(crate) fn rules_shut(&mut self, channel: Option<&ChannelName>) {
        self.shut.values_mut().for_each(|until| *until = (*until).min(self.sent));
        let Some(channel) = channel else { return };
        self.shut.insert(channel.clone(), u64::MAX);
        for client in self.views.values().filter_map(|view| view.client) {
            self.presences.shut(client, channel, self.sent);
        }
    }

    /// The application ends the subscriptions of these sessions.
    pub(crate) fn shut_for(&mut self, channel: &ChannelName, clients: &BTreeSet<ClientId>) {
        for client in self.views.values().filter_map(|view| view.client.filter(|client| clients.contains(client))) {
            self.presences.shut(client, channel, self.sent);
        }
    }

    /// The application publishes.
    pub(crate) fn app_publishes(&mut self, data: &[u8]) {
        let attempt = self.attempts.entry(data.to_vec()).or_default();
        attempt.tries += 1;
        attempt.unknown += 1;
    }

    /// The application was told what became of a publication.
    pub(crate) fn app_published(&mut self, publish: &Publish, answer: &AppAnswer, stores: &Stores) -> Verdict {
        let Publish { channel, data, .. } = publish;
        let attempt = self.attempts.entry(data.bytes().to_vec()).or_default();
        attempt.unknown -= 1;
        match answer {
            AppAnswer::Published { position, .. } => {
                attempt.acknowledged.push((channel.clone(), *position));
                let stands = stores.ledger.at(channel, *position);
                if stands.is_none_or(|kept| kept.publication.data != *data) {
                    return Err(format!("promise 4: acknowledged at {channel} {position:?}, where it does not stand"));
                }
            }
            AppAnswer::Error(error) => match error.code {
                ErrorCode::Unknown | ErrorCode::Timeout | ErrorCode::Internal => attempt.unknown += 1,
                _ => attempt.refused += 1,
            },
            other => return Err(format!("app: a publication was answered with {other:?}")),
        }
        Ok(())
    }

    /// A page of history, for a client or (`None`) the application: what stands there, as far as it is for the reader.
    pub(crate) fn history(
        &self,
        client: Option<ClientId>,
        channel: &ChannelName,
        forwards: bool,
        history: &History,
        stores: &Stores,
    ) -> Verdict {
        if history.more && history.publications.is_empty() {
            return Err(format!("{channel}: a page of history is empty and says that there is more: {history:?}"));
        }
        // Read backwards: forwards, what the application removes meanwhile may be missing in between.
        if let ([first, .., last], Some(client), false) = (&history.publications[..], client, forwards) {
            let between = stores.ledger.between(channel, history.top.epoch, first.offset, last.offset);
            let is_listed = |offset| history.publications.iter().any(|listed| listed.offset == offset);
            let missed = |kept: &&Kept| kept.publication.is_for(client) && !is_listed(kept.publication.offset);
            if let Some(kept) = between.iter().find(missed) {
                return Err(format!("{channel}: history of {client:?} leaves out {:?}", kept.publication));
            }
        }
        for publication in &history.publications {
            let at = Position { epoch: history.top.epoch, offset: publication.offset };
            if stores.ledger.at(channel, at).is_none_or(|kept| kept.publication != *publication) {
                return Err(format!("{channel}: history tells {publication:?} at {at:?}, where it does not stand"));
            }
            if client.is_some_and(|client| !publication.is_for(client)) {
                return Err(format!("{channel}: history tells {client:?} what is not for it: {publication:?}"));
            }
        }
        Ok(())
    }

    /// How many open connections are subscribed to each channel, and how many there are.
    pub(crate) fn subscribers(&self) -> (BTreeMap<ChannelName, u64>, u64) {
        let mut subscribers = BTreeMap::new();
        let open = self.views.values().filter(|view| view.open && view.client.is_some());
        for channel in open.clone().flat_map(|view| view.subs.keys()) {
            *subscribers.entry(channel.clone()).or_default() += 1;
        }
        (subscribers, open.count() as u64)
    }

    /// How a client asked to follow the channel that is answered under this id.
    pub(crate) fn habit(&self, pipe: usize, id: Option<&RequestId>, channel: &ChannelName) -> Habit {
        let view = self.views.get(&pipe);
        let want = view.and_then(|view| match id {
            Some(RequestId::Number(id)) => match view.pending.get(id)? {
                (_, Asked::Subscribe(wants)) => wants.iter().find(|want| want.options.channel == *channel),
                _ => None,
            },
            _ => view.bare.get(channel),
        });
        want.map(|want| Habit { batch: want.options.batch, slow: want.options.slow }).unwrap_or_default()
    }

    /// A client has received a message.
    pub(crate) fn got(
        &mut self,
        now: Now,
        pipe: usize,
        message: &ToClient,
        stores: &mut Stores,
        rules: &Rules,
    ) -> Verdict {
        let mut view = self.views.remove(&pipe).ok_or("a message for a connection that never was")?;
        view.refreshed = matches!(message, ToClient::Reply(Reply { body: ReplyBody::Refreshed { .. }, .. }));
        let verdict = match message {
            ToClient::Push(push) => self.pushed(now, pipe, &mut view, push, stores, rules),
            ToClient::Reply(reply) => {
                let asked = match &reply.id {
                    Some(RequestId::Number(id)) => Some(view.pending.remove(id).ok_or_else(|| {
                        format!("an answer to {id}, which this connection never asked or has had answered: {reply:?}")
                    })),
                    _ => None,
                };
                match (asked.transpose(), &reply.id) {
                    (Err(error), _) => Err(error),
                    (Ok(Some((place, asked))), _) => self.answered(pipe, &mut view, place, asked, &reply.body, stores),
                    _ => self.answered_bare(pipe, &mut view, &reply.body, stores),
                }
            }
        };
        self.views.insert(pipe, view);
        verdict
    }

    fn answered_bare(&mut self, pipe: usize, view: &mut View, body: &ReplyBody, stores: &Stores) -> Verdict {
        let channel = match body {
            ReplyBody::Subscribed(subscribed) => Some(&subscribed.channel),
            ReplyBody::Error(error) => error.channel.as_ref(),
            _ => None,
        };
        let channel = channel.ok_or_else(|| format!("an answer without id that is about no channel: {body:?}"))?;
        match view.bare.remove(channel) {
            Some(want) => self.subscribe_answered(pipe, view, want, body, stores),
            None if matches!(body, ReplyBody::Error(_)) && view.silent.contains(channel) => Ok(()),
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

    fn answered(
        &mut self,
        pipe: usize,
        view: &mut View,
        place: u64,
        asked: Asked,
        body: &ReplyBody,
        stores: &Stores,
    ) -> Verdict {
        match (asked, body) {
            (Asked::Connect, ReplyBody::Connected(connected)) => {
                view.client = Some(connected.client);
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
                    view.bare.insert(channel.clone(), want);
                }
                self.presences.connected(pipe, connected.client);
            }
            (Asked::Subscribe(wants), ReplyBody::Many(bodies)) if wants.len() == bodies.len() => {
                for (want, body) in wants.into_iter().zip(bodies) {
                    // A refusal was decided in its turn and is told with the others, when much may have changed again.
                    if !matches!(body, ReplyBody::Error(_)) {
                        self.subscribe_answered(pipe, view, want, body, stores)?;
                    }
                }
            }
            (Asked::Subscribe(wants), body) if wants.len() == 1 => {
                for want in wants {
                    self.subscribe_answered(pipe, view, want, body, stores)?;
                }
            }
            (Asked::Unsubscribe(channel), ReplyBody::Unsubscribed { .. }) => {
                if view.subs.remove(&channel).is_none() {
                    return Err(format!("promise 9: unsubscribed from {channel}, to which nothing was subscribed"));
                }
                self.presences.left(view.client, &channel, place);
                self.presences.unsubscribed(pipe, &channel);
            }
            (Asked::Unsubscribe(channel), ReplyBody::Error(_)) => {
                if view.subs.contains_key(&channel) {
                    return Err(format!("promise 9: `unsubscribe` from {channel} refused while subscribed: {body:?}"));
                }
                self.presences.left(view.client, &channel, place);
            }
            (Asked::Publish { channel, data }, body) => {
                return self.published(view, place, &channel, data, body, stores);
            }
            (Asked::PresenceSet { channel, data }, ReplyBody::Done) => {
                self.presences.entered(view.client, &channel, place, data);
            }
            (Asked::PresenceSet { channel, .. }, ReplyBody::Error(_)) => {
                self.presences.doubt(view.client, &channel, place)
            }
            (Asked::PresenceClear(channel), ReplyBody::Done) => self.presences.left(view.client, &channel, place),
            (Asked::PresenceClear(channel), ReplyBody::Error(_)) => self.presences.doubt(view.client, &channel, place),
            (Asked::Presence(channel), ReplyBody::Presence { snapshot, .. }) => {
                self.presences.snapshot(pipe, &channel, snapshot);
            }
            (Asked::History { channel, forwards }, ReplyBody::History(history)) => {
                return self.history(view.client, &channel, forwards, history, stores);
            }
            (Asked::Rpc(data), ReplyBody::Result(result)) if data == *result => self.counts.rpc += 1,
            (Asked::Refresh(user), ReplyBody::Refreshed { .. }) if view.shown.as_ref() == Some(&user) => {
                self.counts.refreshed += 1;
            }
            (_, ReplyBody::Error(_)) | (Asked::Other, _) => {}
            (asked, body) => return Err(format!("{asked:?} was answered with {body:?}")),
        }
        Ok(())
    }

    fn published(
        &mut self,
        view: &mut View,
        id: u64,
        channel: &ChannelName,
        data: Vec<u8>,
        body: &ReplyBody,
        stores: &Stores,
    ) -> Verdict {
        if view.publishes.get(&data) == Some(&id) {
            view.publishes.remove(&data);
        }
        let attempt = self.attempts.entry(data.clone()).or_default();
        attempt.unknown -= 1;
        match body {
            ReplyBody::Published { position, duplicate } => {
                self.counts.published += 1;
                attempt.acknowledged.push((channel.clone(), *position));
                let kept = stores.ledger.at(channel, *position).ok_or_else(|| {
                    format!("promise 4: a publication was acknowledged at {channel} {position:?}, where there is none")
                })?;
                if plain(kept.publication.data.bytes()) != data {
                    return Err(format!("promise 4: acknowledged at {channel} {position:?}, where another one stands"));
                }
                if *duplicate {
                    return Ok(());
                }
                let sent = view.published.entry(channel.clone()).or_default();
                let before = sent.range(..id).next_back().map(|(_, at)| *at);
                let after = sent.range(id..).next().map(|(_, at)| *at);
                let pairs = [(before, Some(*position)), (Some(*position), after)];
                for (earlier, later) in pairs.into_iter().filter_map(|(a, b)| Some((a?, b?))) {
                    if earlier.epoch == later.epoch && earlier.offset >= later.offset {
                        return Err(format!("promise 9: {channel}: sent first, {earlier:?} stands after {later:?}"));
                    }
                }
                sent.insert(id, *position);
            }
            ReplyBody::Error(error) => match error.code {
                ErrorCode::Unknown | ErrorCode::Timeout | ErrorCode::Internal => {
                    self.counts.unknown += 1;
                    attempt.unknown += 1;
                }
                _ => {
                    self.counts.refused += 1;
                    attempt.refused += 1;
                }
            },
            body => return Err(format!("`publish` was answered with {body:?}")),
        }
        Ok(())
    }

    fn subscribe_answered(
        &mut self,
        pipe: usize,
        view: &mut View,
        want: Want,
        body: &ReplyBody,
        stores: &Stores,
    ) -> Verdict {
        let channel = want.options.channel.clone();
        let subscribed = match body {
            ReplyBody::Subscribed(subscribed) => subscribed,
            ReplyBody::Error(error) => {
                let already = error.code == ErrorCode::AlreadySubscribed;
                self.counts.slow_refused += u64::from(error.code == ErrorCode::BadRequest);
                // New rules hold for what is asked at once, and a subscription that they end when its session's turn
                // comes.
                let is_ending = error.code == ErrorCode::Denied && self.shut.get(&channel) >= Some(&want.sent);
                if already != view.subs.contains_key(&channel) && !is_ending {
                    return Err(format!("promise 9: `subscribe` to {channel}: {error}"));
                }
                if !already {
                    self.presences.left(view.client, &channel, want.sent);
                }
                return Ok(());
            }
            body => return Err(format!("`subscribe` was answered with {body:?}")),
        };
        if view.subs.contains_key(&channel) {
            return Err(format!("promise 9: subscribed to {channel} twice"));
        }
        let Subscribed { position, recovered, publications, more, .. } = &**subscribed;
        match recovered {
            Some(true) => self.counts.recovered_true += 1,
            Some(false) => self.counts.recovered_false += 1,
            None => {}
        }
        self.counts.pages_more += u64::from(*more);
        if recovered.is_some() != want.options.since.is_some() {
            return Err(format!(
                "`subscribed` to {channel}: recovered = {recovered:?} with since {:?}",
                want.options.since
            ));
        }
        // Where the first page begins: at `since` where that was honoured, else before its first publication.
        let first = publications.first().map_or(position.offset, |p| p.offset - 1);
        let from = match (recovered, want.options.since) {
            (Some(true), Some(since)) if since.epoch != position.epoch => {
                return Err(format!(
                    "promise 2: recovered = true on {channel} across epochs, {since:?} to {position:?}"
                ));
            }
            (Some(true), Some(since)) => since.offset,
            _ => first,
        };
        let presence = want.options.presence;
        let signals = want.options.signals;
        let at = Position { epoch: position.epoch, offset: from };
        let mut sub = Sub { at, want, recovered: *recovered, presence, signals };
        for publication in publications {
            self.message(view, &channel, &mut sub, publication, stores)?;
        }
        if position.offset < sub.at.offset {
            return Err(format!("`subscribed` to {channel} names {position:?}, which lies before its page's end"));
        }
        self.nothing_between(view, &channel, &sub, position.offset + 1, stores)?;
        sub.at = *position;
        self.presences.subscribed(pipe, &channel, presence);
        view.subs.insert(channel, sub);
        Ok(())
    }

    fn pushed(
        &mut self,
        now: Now,
        pipe: usize,
        view: &mut View,
        push: &Push,
        stores: &mut Stores,
        rules: &Rules,
    ) -> Verdict {
        let deaf = |channel: &ChannelName| format!("promise 7: {channel} is not subscribed, and yet came {push:?}");
        match push {
            Push::Message { channel, publication } => {
                let mut sub = view.subs.remove(channel).ok_or_else(|| deaf(channel))?;
                let verdict = self.message(view, channel, &mut sub, publication, stores);
                view.subs.insert(channel.clone(), sub);
                return verdict;
            }
            Push::Messages { channel, publications } => {
                let mut sub = view.subs.remove(channel).ok_or_else(|| deaf(channel))?;
                let mut each = publications.iter();
                let verdict = each.try_for_each(|p| self.message(view, channel, &mut sub, p, stores));
                view.subs.insert(channel.clone(), sub);
                return verdict;
            }
            Push::Gap { channel, position, reset } => {
                let sub = view.subs.get_mut(channel).ok_or_else(|| deaf(channel))?;
                let retain = rules.of(channel).map_or(Retain::default(), |rule| rule.history);
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
                    let rule = rules.of(channel).map_or(Slow::Pull, |rule| rule.slow);
                    if sub.want.options.slow.unwrap_or(rule) == Slow::Latest {
                        self.counts.passed_over += 1;
                        sub.at = *position;
                        return Ok(());
                    }
                    // A history only ever loses its beginning: what is there now was there when the gap was told.
                    if let Some((floor, top)) = stores.reach(now, channel, retain) {
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
            }
            Push::Signal(signal) => return self.signal(view, signal),
            Push::Presence(change) => {
                self.counts.presence += 1;
                let sub = view.subs.get(&change.channel).ok_or_else(|| deaf(&change.channel))?;
                if !sub.presence {
                    return Err(format!("{}: a presence change that was not asked for", change.channel));
                }
                self.presences.changed(pipe, change);
            }
            Push::PresenceCount { channel, count, seq } => {
                self.counts.presence_counts += 1;
                view.subs.get(channel).filter(|sub| sub.presence).ok_or_else(|| deaf(channel))?;
                self.presences.counted(pipe, channel, *count, *seq);
            }
            Push::PresenceSnapshot { channel, snapshot } => {
                self.counts.presence_whole += 1;
                view.subs.get(channel).filter(|sub| sub.presence).ok_or_else(|| deaf(channel))?;
                self.presences.snapshot(pipe, channel, snapshot);
            }
            Push::Subscribed(subscribed) => {
                self.counts.by_server += 1;
                let options = SubOptions::new(subscribed.channel.clone());
                let want = Want { options, order: stores.ledger.order, sent: view.sent };
                let body = ReplyBody::Subscribed(subscribed.clone());
                return self.subscribe_answered(pipe, view, want, &body, stores);
            }
            Push::Unsubscribed { channel, .. } => {
                self.counts.unsubscribed += 1;
                view.subs.remove(channel).ok_or_else(|| deaf(channel))?;
                self.presences.unsubscribed(pipe, channel);
                // What was sent before the client knew came too late, or was undone by this; unless it had subscribed
                // anew.
                let enters = |asked: &Asked| matches!(asked, Asked::PresenceSet { channel: of, .. } if of == channel);
                let up_to = |place| self.presences.up_to(pipe, view.client, place);
                let (sent, next) = (up_to(view.sent), up_to(view.sent + 1));
                match view.pending.values().map(|(_, asked)| asked).any(enters) {
                    true => self.presences.doubt(view.client, channel, next),
                    false => self.presences.left(view.client, channel, sent),
                }
            }
            Push::Ping | Push::Disconnect { .. } => {}
        }
        Ok(())
    }

    /// A publication reaches a subscription: at its place, as it was accepted, newer than all before, and none left
    /// out.
    fn message(
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
        if view.client.is_some_and(|client| !publication.is_for(client)) {
            return Err(format!("{channel}: {:?} was told what is not for it: {publication:?}", view.client));
        }
        self.counts.audiences += u64::from(publication.audience.is_some());
        let own = view.client.is_some() && kept.client() == view.client;
        let published = view.published.get(channel).and_then(|sent| sent.iter().find(|(_, place)| **place == at));
        if own && !publication.echo && published.is_some_and(|(sent, _)| *sent > sub.want.sent) {
            return Err(format!("{channel}: one's own copy at {at:?}, unwanted and acknowledged on this connection"));
        }
        // An unkeyed payload is sent once: while its answer is still owed, the message is early.
        let early = view.publishes.contains_key(&plain(publication.data.bytes()))
            && publication.idempotency_key.is_none()
            && !stores.answers_disordered
            && stores.silences == 0; // what was not answered is found by reading
        if own && early && kept.order > sub.want.order {
            return Err(format!("{channel}: one's own copy at {at:?} came before the answer"));
        }
        let begins = stores.ledger.begins_at(channel, at).then_some(&at.epoch);
        if publication.begins.as_deref() != begins {
            let named = &publication.begins;
            return Err(format!("{channel}: {at:?} names {named:?}: the first of an epoch names it, and no other"));
        }
        self.nothing_between(view, channel, sub, publication.offset, stores)?;
        sub.at = at;
        Ok(())
    }

    /// Promise 2 and 3: nothing that is meant for this client lies between where it is and `before`.
    fn nothing_between(&self, view: &View, channel: &ChannelName, sub: &Sub, before: u64, stores: &Stores) -> Verdict {
        let late = stores.answers_late || stores.silences > 0;
        let missed = stores
            .ledger
            .between(channel, sub.at.epoch, sub.at.offset, before)
            .iter()
            .find(|k| required(view, sub, k, late));
        match missed {
            None => Ok(()),
            Some(kept) => Err(format!(
                "promise 2: {channel}: from {:?} on to {before}, and {} was left out (recovered {:?})",
                sub.at, kept.publication.offset, sub.recovered
            )),
        }
    }

    fn signal(&mut self, view: &View, signal: &SignalPush) -> Verdict {
        self.counts.signals += 1;
        let channel = &signal.signal.channel;
        let Some(sub) = view.subs.get(channel) else {
            return Err(format!("promise 7: {channel} is not subscribed, and yet came {signal:?}"));
        };
        match signal.signal.to {
            None if !sub.signals => return Err(format!("{channel}: a signal that was not asked for")),
            None if signal.from.client == view.client => return Err(format!("{channel}: one's own signal came back")),
            Some(to) if Some(to) != view.client => {
                return Err(format!("{channel}: a signal to {to} reached {:?}", view.client));
            }
            Some(to) => {
                self.counts.signals_directed += 1;
                let Some(from) = signal.from.client else { return Ok(()) };
                let sent = self.directed.entry((from, to, channel.clone())).or_default();
                match sent.iter().position(|(_, data)| **data == *signal.signal.data) {
                    // One connection's are in order; those of two may overtake each other.
                    Some(at) => {
                        let (pipe, _) = sent.remove(at);
                        let mut place = 0;
                        sent.retain(|(of, _)| {
                            place += 1;
                            place > at || *of != pipe
                        });
                    }
                    None => {
                        return Err(format!(
                            "{channel}: a directed signal twice, out of order or never sent: {signal:?}"
                        ));
                    }
                }
            }
            None => {}
        }
        Ok(())
    }

    /// The world has been calm for long: everything that was promised must be true now.
    pub(crate) fn finish(&self, now: Now, stores: &mut Stores, rules: &Rules, channels: &[ChannelName]) -> Verdict {
        for view in self.views.values().filter(|view| view.open) {
            if let Some((id, (_, asked))) = view.pending.iter().next() {
                return Err(format!("command {id} of {:?} was never answered: {asked:?}", view.client));
            }
            if let Some(channel) = view.bare.keys().next() {
                return Err(format!(
                    "the subscription to {channel} in `connect` of {:?} was never answered",
                    view.client
                ));
            }
            for (channel, sub) in &view.subs {
                let retain = rules.of(channel).map_or(Retain::default(), |rule| rule.history);
                let Some((_, top)) = stores.reach(now, channel, retain) else { continue };
                if top.epoch != sub.at.epoch {
                    return Err(format!(
                        "promise 3: {channel}: {:?} is at {:?}, the top is {top:?}",
                        view.client, sub.at
                    ));
                }
                self.nothing_between(view, channel, sub, u64::MAX, stores)
                    .map_err(|missed| format!("promise 3: {:?} never reached the top: {missed}", view.client))?;
            }
        }
        self.finish_attempts(stores)?;
        self.presences.finish(channels)
    }

    fn finish_attempts(&self, stores: &Stores) -> Verdict {
        let mut found: BTreeMap<(Vec<u8>, u64), u32> = BTreeMap::new();
        let mut anywhere: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
        for (_, epoch, kept) in stores.ledger.all() {
            let data = plain(kept.publication.data.bytes());
            *found.entry((data.clone(), epoch.0)).or_default() += 1;
            *anywhere.entry(data).or_default() += 1;
        }
        if let Some(((data, _), times)) = found.iter().find(|((data, _), times)| {
            let once = |keyed: bool| keyed && !stores.has_shed_keys();
            **times > self.attempts.get(data).map_or(0, |a| if once(a.keyed) { 1 } else { a.tries })
        }) {
            let all = stores.ledger.all().filter(|(.., kept)| plain(kept.publication.data.bytes()) == *data);
            let places = all.map(|(_, _, kept)| (kept.at_ms, kept.publication.offset, kept.publication.from.clone()));
            let (data, places) = (String::from_utf8_lossy(data), places.collect::<Vec<_>>());
            return Err(format!("promise 4: {data} stands {times} times, at (ms, offset, from) {places:?}"));
        }
        for (data, attempt) in &self.attempts {
            let times = anywhere.get(data.as_slice()).copied().unwrap_or(0);
            if attempt.acknowledged.is_empty() && attempt.unknown == 0 && times > 0 {
                let data = String::from_utf8_lossy(data);
                return Err(format!("promise 4: {data} was refused {} times and stands all the same", attempt.refused));
            }
        }
        Ok(())
    }

    /// Every open connection and its client, with what it is subscribed to.
    pub(crate) fn subscribed(&self, pipe: usize) -> Vec<ChannelName> {
        self.views.get(&pipe).map(|view| view.subs.keys().cloned().collect()).unwrap_or_default()
    }

    /// What followers were told of presence must be true by now; then everybody asks once more.
    pub(crate) fn expect_presences(&mut self, channels: &[ChannelName]) -> Verdict {
        self.presences.only_followers();
        self.presences.finish(channels)?;
        self.presences.forget_answers();
        Ok(())
    }
}

/// How the server subscribes a client to what its token is good for.
fn granted_want(view: &View, channel: &ChannelName, stores: &Stores) -> Want {
    Want { options: SubOptions::new(channel.clone()), order: stores.ledger.order, sent: view.sent }
}

/// Whether the client must be told of an entry: all but its own that it did not want, unless it is recovering.
fn required(view: &View, sub: &Sub, kept: &Kept, late: bool) -> bool {
    if view.client.is_some_and(|client| !kept.publication.is_for(client)) {
        return false;
    }
    let own = view.client.is_some() && kept.client() == view.client;
    if !own || kept.publication.echo {
        return true;
    }
    // Where the store answers late, its newest entry is news to the home, and live for whoever has just subscribed.
    sub.recovered == Some(true) && kept.order <= sub.want.order && !late
}
