//! The actions of clients: they open connections, send commands and close, and shards resume their sessions.

use super::kept::Keeping;
use super::view::{Early, PendingCommand, View, Want};
use super::{Checker, Directed};
use crate::application::{WITH_INFO, user_of};
use crate::store::Stores;
use fanfare_hub::{ChannelName, ClientId, Command, HistoryFrom, Request, RequestId, RoomCommand};
use std::collections::{BTreeMap, BTreeSet};

impl Checker {
    pub(crate) fn opened(&mut self, pipe: usize, shard: usize) {
        let view = View {
            open: true,
            is_apart: false,
            is_chat: false,
            is_reader: false,
            leaving: BTreeSet::new(),
            refused: BTreeSet::new(),
            entering: BTreeMap::new(),
            early: BTreeMap::new(),
            client: None,
            given: None,
            known: false,
            subs: BTreeMap::new(),
            bare: BTreeMap::new(),
            unanswered: BTreeMap::new(),
            silent: BTreeSet::new(),
            directed: BTreeMap::new(),
            incarnation: 0,
            unheard_from: None,
            undirected: BTreeMap::new(),
            bad: Vec::new(),
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
            blurred: BTreeSet::new(),
            by_server: BTreeSet::new(),
            by_requests: BTreeSet::new(),
            owed: None,
            is_recent: false,
            stays: BTreeMap::new(),
            to_rooms: BTreeMap::new(),
            keeping: Keeping::default(),
        };
        self.views.insert(pipe, Box::new(view));
    }

    /// The answers to the commands of a connection come by requests of their own.
    pub(crate) fn is_apart(&mut self, pipe: usize) {
        self.views.entry(pipe).and_modify(|view| view.is_apart = true);
    }

    /// A connection is a plain event stream.
    pub(crate) fn is_reader(&mut self, pipe: usize) {
        self.views.entry(pipe).and_modify(|view| view.is_reader = true);
    }

    /// A shard tells such a connection that a subscription has ended.
    pub(crate) fn end_told(&mut self, pipe: usize, channel: &ChannelName) {
        self.presences.end_told(pipe, channel);
    }

    /// A client has sent a command.
    pub(crate) fn sent(&mut self, pipe: usize, request: &Request, stores: &Stores) {
        self.counts.commands += 1;
        let Some(view) = self.views.get_mut(&pipe) else { return };
        let order = stores.ledger.order;
        let Some(RequestId::Number(id)) = request.id else { return self.sent_silently(pipe, request) };
        // The application may have let it in where it is subscribed already: then it begins anew.
        let begins_anew = |channel: &ChannelName| self.let_in.contains(channel) || self.grant.as_ref() == Some(channel);
        for channel in view.blurs(&request.command, begins_anew) {
            self.presences.unsubscribed(pipe, &channel);
            view.blur(channel);
        }
        self.sent += 1;
        let place = self.sent;
        view.sent = place;
        // Until a shard resumes the session, and after another connection has resumed it, the command changes nothing.
        let client = view.client.or(view.resumed_from).filter(|client| self.presences.speaks(pipe, Some(*client)));
        let asked = match &request.command {
            Command::Connect(connect) => {
                let is_good = |token: &str| self.grant.is_some() && token.ends_with(WITH_INFO);
                view.shown = connect.token.as_deref().map(user_of);
                view.granted = connect.token.as_deref().is_some_and(is_good) && !view.is_reader;
                view.resumed_from = connect.resume.map(|resume| resume.client);
                // The numbers of answers begin with the incarnation. A tab may know only those of long ago.
                let next = connect.ack.map_or(0, |ack| (ack >> 32) as u32 + 1);
                view.unheard_from = connect.resume.map(|_| next);
                if let Some(from) = view.unheard_from {
                    let had = self.directed_by_polls.values_mut();
                    let had = had.filter(|had| had.by_poll && Some(had.client) == view.resumed_from);
                    had.filter(|had| had.incarnation >= from).for_each(|had| had.may_return = true);
                }
                view.elsewhere = connect.resume.is_some_and(|resume| usize::from(resume.shard.0) != view.shard);
                view.keeping.connects(&connect.subscribe);
                for options in &connect.subscribe {
                    view.unanswered.insert(options.channel.clone(), options.clone());
                    view.bare.insert(options.channel.clone(), Want { options: options.clone(), order, sent: place });
                }
                PendingCommand::Connect
            }
            Command::Subscribe { subs, .. } => PendingCommand::Subscribe(
                subs.iter().map(|options| Want { options: options.clone(), order, sent: place }).collect(),
            ),
            Command::Unsubscribe { channel } => {
                self.presences.doubt(client, channel, place);
                PendingCommand::Unsubscribe(channel.clone())
            }
            Command::Publish(publish) => {
                let data = publish.data.bytes().to_vec();
                let attempt = self.attempts.entry(data.clone()).or_default();
                attempt.tries += 1;
                attempt.unknown += 1;
                attempt.keyed |= publish.idempotency_key.is_some() && view.known;
                view.publishes.insert(data.clone(), place);
                PendingCommand::Publish { channel: publish.channel.clone(), data }
            }
            Command::PresenceSet { channel, data, .. } => {
                self.presences.doubt(client, channel, place);
                PendingCommand::PresenceSet { channel: channel.clone(), data: data.to_vec() }
            }
            Command::PresenceClear { channel } => {
                self.presences.doubt(client, channel, place);
                PendingCommand::PresenceClear(channel.clone())
            }
            Command::Presence { channel } => PendingCommand::Presence(channel.clone()),
            Command::History { channel, query } => PendingCommand::History {
                channel: channel.clone(),
                since: match query.from {
                    HistoryFrom::Since(at) => Some(at),
                    HistoryFrom::Newest | HistoryFrom::Before(_) => None,
                },
            },
            Command::Invalid(error) => PendingCommand::Bad(error.code),
            Command::Signal(signal) => {
                if signal.to.is_none() {
                    self.signals.insert(signal.data.to_vec(), (pipe, place));
                }
                if let (Some(from), Some(to)) = (view.client, signal.to) {
                    let key = (from, to, signal.channel.clone());
                    self.directed.entry(key).or_default().push(Directed { pipe, place, data: signal.data.to_vec() });
                }
                PendingCommand::Other
            }
            Command::Room(command) => {
                if let RoomCommand::Publish { publish, .. } = &**command {
                    let data = publish.data.bytes().to_vec();
                    let attempt = self.attempts.entry(data.clone()).or_default();
                    attempt.tries += 1;
                    attempt.unknown += 1;
                    view.publishes.insert(data.clone(), place);
                    view.to_rooms.insert(data, place);
                }
                PendingCommand::of_room(command, place)
            }
            Command::Rpc { data, .. } => PendingCommand::Rpc(data.to_vec()),
            Command::Refresh { token } => {
                view.granted_late |= self.grant.is_some() && token.ends_with(WITH_INFO);
                PendingCommand::Refresh(user_of(token))
            }
            _ => PendingCommand::Other,
        };
        view.pending.insert(id, (place, asked));
    }

    /// The answer to a command of this connection is lost for ever: it has taken effect or not.
    pub(crate) fn never_known(&mut self, pipe: usize, id: u64) {
        let Some(view) = self.views.get_mut(&pipe) else { return };
        let Some((_, asked)) = view.pending.remove(&id) else { return };
        if let PendingCommand::Publish { data, .. } = &asked {
            view.publishes.remove(data);
        }
        let subscribes = matches!(asked, PendingCommand::Subscribe(_) | PendingCommand::Unsubscribe(_));
        for channel in asked.channels() {
            if subscribes {
                // A core may follow the channel again while messages of the subscription before are still on their way.
                // The lost answer would have said where they end.
                view.blur(channel.clone());
                // Whether it is told of changes is not known either.
                self.presences.unsubscribed(pipe, channel);
            }
            if let Some(client) = view.client {
                self.presences.stray(client, channel);
                if subscribes {
                    self.strays.insert((client, channel.clone()));
                }
            }
        }
    }

    /// A shard tells a connection that it has a session: its commands take effect from here on, after all commands of
    /// other connections for the session. The client may never receive this message.
    pub(crate) fn taken_up(&mut self, pipe: usize, client: ClientId) {
        let Some(view) = self.views.get_mut(&pipe) else { return };
        self.sent += 1;
        view.taken_up = self.sent;
        view.bare.values_mut().for_each(|want| want.sent = self.sent);
        let granted = self.grant.iter().filter(|_| view.granted);
        let subscribes = view.bare.keys().chain(granted).cloned().collect();
        self.presences.taken_up(pipe, client, self.sent, &subscribes);
        view.given = Some(client);
        // Its earlier commands get new places, in their order.
        let early = std::mem::take(&mut view.early);
        let earlier = view.pending.values().map(|(place, _)| *place).chain(early.keys().copied());
        let order: BTreeSet<u64> = earlier.collect();
        let new_places: BTreeMap<u64, u64> = order.into_iter().zip(self.sent + 1..).collect();
        self.sent += new_places.len() as u64;
        for (place, asked) in view.pending.values_mut() {
            *place = new_places[place];
            match asked {
                PendingCommand::Subscribe(wants) => wants.iter_mut().for_each(|want| want.sent = *place),
                PendingCommand::Publish { data, .. } => {
                    view.publishes.insert(data.clone(), *place);
                }
                _ => {}
            }
            if let Some(channel) = asked.enters_or_leaves() {
                self.presences.doubt(Some(client), channel, *place);
            }
        }
        for (place, early) in early {
            match early {
                Early::Enters(channel) => self.presences.doubt(Some(client), &channel, new_places[&place]),
                Early::Leaves(channel) => self.presences.left(Some(client), &channel, new_places[&place]),
            }
        }
        view.sent = self.sent;
    }

    /// The client considers this connection closed.
    pub(crate) fn closed(&mut self, pipe: usize, finally: bool) {
        let Some(view) = self.views.get_mut(&pipe) else { return };
        view.open = false;
        // A refused subscription ends the presence that it would have continued, even if the client does not receive
        // the refusal. The same applies to a subscription for which a newer token was not good. The client may come
        // back to the session and to the channel, and is not present any more.
        let client = view.client.or(view.resumed_from);
        let has_shown = view.granted && view.client.is_none() || view.doubts_grant();
        let entering = view.pending.values().filter_map(|(_, asked)| asked.enters_or_leaves());
        // A request that is on its way may take effect when another connection has the session.
        if let Some(client) = client.filter(|_| view.is_apart) {
            for (_, asked) in view.pending.values() {
                let subscribes = matches!(asked, PendingCommand::Subscribe(_) | PendingCommand::Unsubscribe(_));
                for channel in asked.channels() {
                    self.presences.stray(client, channel);
                    if subscribes {
                        self.strays.insert((client, channel.clone()));
                    }
                }
            }
        }
        let unheard = view.bare.keys().chain(self.grant.iter().filter(|_| has_shown)).chain(entering);
        let is_new = view.taken_up == 0;
        let place = if is_new { self.sent } else { self.presences.up_to(pipe, client, self.sent) };
        for channel in unheard {
            self.presences.doubt(client, channel, place);
        }
        self.presences.closed(pipe, view.client, finally);
    }
}
