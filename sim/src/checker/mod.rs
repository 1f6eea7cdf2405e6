//! The judge: an independent model of the commands, the accepted publications and the deliveries.
//!
//! It sees the messages that each client sent and received, in order, the entries that the stores accepted (`Ledger`),
//! and the moment at which a shard gives a connection its session. It knows nothing of the hub's states. Each rule
//! names the promise of ARCHITECTURE.md that it checks.

mod answers;
mod chat;
mod commands;
mod deliveries;
mod kept;
mod presence;
mod publications;
mod rooms;
#[cfg(test)]
mod tests;
mod view;

use crate::counts::Counts;
use crate::model::Policy;
use crate::plan::Habit;
use crate::store::Stores;
use crate::wire::ToClient;
use fanfare_hub::{ChannelName, ClientId, Error, Now, Position, Reply, ReplyBody, RequestId, SubOptions};
use kept::Ends;
use presence::Presences;
use publications::Attempt;
use std::collections::{BTreeMap, BTreeSet};
use view::{PendingCommand, View};

/// The message of a broken promise.
pub(crate) type Verdict = Result<(), String>;

#[derive(Debug, Default)]
pub(crate) struct Checker {
    /// Boxed, because each message takes its view out and puts it back.
    views: BTreeMap<usize, Box<View>>,
    /// By payload: the fate of each publication.
    attempts: BTreeMap<Vec<u8>, Attempt>,
    presences: Presences,
    /// Where and when signals to everybody were sent, by payload.
    signals: BTreeMap<Vec<u8>, (usize, u64)>,
    /// Directed signals that have not been received, by (from, to, channel).
    directed: BTreeMap<(ClientId, ClientId, ChannelName), Vec<Directed>>,
    /// Directed signals that clients have had by polls: one that comes back without `ack` may get them once more.
    directed_by_polls: BTreeMap<Vec<u8>, HadByPoll>,
    /// The number of commands that all clients have sent: several may have spoken for a session, each with numbers of
    /// its own.
    sent: u64,
    /// Channels that the rules have closed, with the number of commands that had been sent when the rules opened them
    /// again.
    shut: BTreeMap<ChannelName, u64>,
    /// Subscriptions and their ends that clients asked for on connections that they have left: they take effect, or do
    /// not, at any time.
    strays: BTreeSet<(ClientId, ChannelName)>,
    /// The right of some tokens: the server subscribes the client to it by itself.
    grant: Option<ChannelName>,
    /// Channels to which the application has subscribed somebody.
    let_in: BTreeSet<ChannelName>,
    /// Rooms of one subscription.
    rooms_max: usize,
    /// When shards have ended subscriptions of sessions: they are not kept.
    ends: Ends,
    /// The newest position of each channel that a shard has acknowledged to somebody.
    acknowledged: BTreeMap<ChannelName, Position>,
    /// A signal after which nothing follows.
    last_signals: Vec<LastSignal>,
    pub(crate) counts: Counts,
}

/// The last signal of a run, sent after all faults.
#[derive(Debug)]
struct LastSignal {
    channel: ChannelName,
    data: Vec<u8>,
    /// The connection and the number of the command.
    asked: (usize, u64),
    /// Connections that were subscribed when it was sent, and have not received it.
    due: BTreeSet<usize>,
    /// Its sender was told that it is done.
    accepted: bool,
}

/// A directed signal that was in the answer to a poll, or may have been in one that is read later.
#[derive(Debug, Clone, Copy)]
struct HadByPoll {
    client: ClientId,
    pipe: usize,
    incarnation: u32,
    /// It came by a poll. A signal that came otherwise does not come again.
    by_poll: bool,
    /// The connection acknowledged no answer of this incarnation or a later one: the signal was said anew, and such an
    /// answer that has it may be read later.
    unheard_from: Option<u32>,
    /// A later connection of this session acknowledged no answer of this one: the signal may come on that one, or on
    /// any later one if the answer that brings it is lost.
    may_return: bool,
}

/// A directed signal.
#[derive(Debug)]
struct Directed {
    /// The connection that it was sent on.
    pipe: usize,
    /// The place of its command among all commands of all clients.
    place: u64,
    data: Vec<u8>,
}

impl Checker {
    pub(crate) fn new(grant: Option<ChannelName>, rooms_max: usize) -> Self {
        Checker { grant, rooms_max, ..Checker::default() }
    }

    /// The rules close a channel, and open the others: the subscriptions to it end, even if their clients do not
    /// receive that.
    pub(crate) fn rules_shut(&mut self, channel: Option<&ChannelName>) {
        self.shut.values_mut().for_each(|until| *until = (*until).min(self.sent));
        let Some(channel) = channel else { return };
        self.shut.insert(channel.clone(), u64::MAX);
        for client in self.views.values().filter_map(|view| view.client) {
            self.presences.shut(client, channel, self.sent);
        }
    }

    /// True if earlier connections of the client have left requests behind that concern this channel.
    pub(crate) fn is_uncertain(&self, pipe: usize, channel: &ChannelName) -> bool {
        self.views.get(&pipe).is_some_and(|view| self.is_uncertain_to(view, channel))
    }

    fn is_uncertain_to(&self, view: &View, channel: &ChannelName) -> bool {
        view.client.is_some_and(|client| self.strays.contains(&(client, channel.clone())))
    }

    /// A client core must tell its application the truth about a channel's presence, also where the server's
    /// application had subscribed it first.
    pub(crate) fn presence_agrees(&self, channel: &ChannelName, names: &BTreeMap<ClientId, Vec<u8>>) -> Verdict {
        let agrees = self.presences.agrees(channel, names.len() as u64, Some(names));
        agrees.map_err(|wrong| format!("core: {wrong}"))
    }

    /// The same of what a chat client has read of the people in its room.
    pub(crate) fn chat_presence_agrees(&self, channel: &ChannelName, names: &BTreeMap<ClientId, Vec<u8>>) -> Verdict {
        let agrees = self.presences.agrees(channel, names.len() as u64, Some(names));
        agrees.map_err(|wrong| format!("chat: {wrong}"))
    }

    /// The application subscribes somebody to a channel.
    pub(crate) fn app_lets_in(&mut self, channel: &ChannelName) {
        self.let_in.insert(channel.clone());
    }

    /// A subscription that the application has let in begins anew with another `subscribe` of its client.
    fn may_begin_anew(&self, channel: &ChannelName) -> bool {
        self.let_in.contains(channel) || self.grant.as_ref() == Some(channel)
    }

    /// The application asks for the ends of the subscriptions of these sessions, or is answered (`is_over`).
    pub(crate) fn shut_for(&mut self, channel: &ChannelName, clients: &BTreeSet<ClientId>, is_over: bool) {
        self.ends.asked(channel, is_over);
        clients.iter().for_each(|client| self.ends.ends(*client, channel));
        for client in self.views.values().filter_map(|view| view.client.filter(|client| clients.contains(client))) {
            self.presences.shut(client, channel, self.sent);
        }
    }

    /// The number of open connections that are subscribed to each channel, at least and at most, and of all open
    /// connections. `cores`: the connections of client cores, with the channels that are live for their applications.
    pub(crate) fn subscribers(
        &self,
        cores: &BTreeMap<usize, BTreeSet<ChannelName>>,
    ) -> (BTreeMap<ChannelName, (u64, u64)>, u64) {
        let mut subscribers: BTreeMap<ChannelName, (u64, u64)> = BTreeMap::new();
        let open = self.views.iter().filter(|(_, view)| view.open && view.client.is_some());
        for (pipe, view) in open.clone() {
            let is_stray = |channel: &ChannelName| self.is_uncertain_to(view, channel);
            let core = cores.get(pipe);
            let follows = view.subs.keys().filter(|channel| !view.leaving.contains(*channel));
            for channel in follows.chain(core.into_iter().flatten()).collect::<BTreeSet<_>>() {
                // Messages of a client core may be of one subscription or another: only its application knows.
                let is_live = match core {
                    Some(live) if view.blurred.contains(channel) || is_stray(channel) => live.contains(channel),
                    _ => view.subs.contains_key(channel),
                };
                let (least, most) = subscribers.entry(channel.clone()).or_default();
                (*least, *most) = (*least + u64::from(is_live), *most + u64::from(is_live));
            }
            // A request that its client has left behind may have subscribed the session, and the client does not know.
            let strays =
                self.strays.iter().filter(|(client, _)| Some(*client) == view.client).map(|(_, channel)| channel);
            for channel in strays.filter(|channel| core.is_some_and(|live| !live.contains(*channel))) {
                subscribers.entry(channel.clone()).or_default().1 += 1;
            }
        }
        (subscribers, open.count() as u64)
    }

    /// The options of the subscription that is answered under this id.
    pub(crate) fn habit(&self, pipe: usize, id: Option<&RequestId>, channel: &ChannelName) -> Habit {
        let view = self.views.get(&pipe);
        let want = view.and_then(|view| match id {
            Some(RequestId::Number(id)) => match view.pending.get(id)? {
                (_, PendingCommand::Subscribe(wants)) => {
                    wants.iter().map(|want| &want.options).find(|options| options.channel == *channel)
                }
                _ => None,
            },
            _ => view.unanswered.get(channel),
        });
        want.map(|options| {
            let &SubOptions { batch, slow, signals, keep, .. } = options;
            Habit { batch, slow, no_signals: !signals, keep }
        })
        .unwrap_or_default()
    }

    /// A shard answers. The subscription of `connect` that it answers is settled now. The next answer without id about
    /// the channel belongs to something else, even if the client reads both later.
    pub(crate) fn said(&mut self, pipe: usize, reply: &Reply, stores: &Stores) {
        self.said_of_rooms(pipe, reply, stores);
        let Some(view) = self.views.get_mut(&pipe).filter(|_| reply.id.is_none()) else { return };
        match &reply.body {
            ReplyBody::Subscribed(subscribed) => view.unanswered.remove(&subscribed.channel),
            // An error on a channel on which a command without id was sent may be the answer to that command.
            ReplyBody::Error(Error { channel: Some(channel), .. }) if !view.silent.contains(channel) => {
                view.unanswered.remove(channel)
            }
            _ => None,
        };
    }

    /// A client has received a message.
    pub(crate) fn got(
        &mut self,
        now: Now,
        pipe: usize,
        message: &ToClient,
        stores: &Stores,
        policy: &Policy,
    ) -> Verdict {
        let mut view = self.views.remove(&pipe).ok_or("a message for a connection that never was")?;
        view.refreshed = matches!(message, ToClient::Reply(Reply { body: ReplyBody::Refreshed { .. }, .. }));
        let verdict = match message {
            ToClient::Push(push) => self.pushed(now, pipe, &mut view, push, stores, policy),
            ToClient::Reply(reply) => {
                let refused = |last: &LastSignal| {
                    let id = RequestId::Number(last.asked.1);
                    last.asked.0 == pipe && reply.id == Some(id) && matches!(reply.body, ReplyBody::Error(_))
                };
                self.last_signals.retain(|last| !refused(last));
                let is_answered =
                    |last: &&mut LastSignal| last.asked.0 == pipe && reply.id == Some(RequestId::Number(last.asked.1));
                self.last_signals.iter_mut().filter(is_answered).for_each(|last| last.accepted = true);
                let asked = match &reply.id {
                    Some(RequestId::Number(id)) => Some(view.pending.remove(id).ok_or_else(|| {
                        format!("an answer to {id}, which this connection never asked or has had answered: {reply:?}")
                    })),
                    _ => None,
                };
                match (asked.transpose(), &reply.id) {
                    (Err(error), _) => Err(error),
                    (Ok(Some((place, asked))), _) => self
                        .goes_on_from((now, view.client), &asked, &reply.body, (stores, policy))
                        .and_then(|()| self.answered(pipe, &mut view, place, asked, &reply.body, stores)),
                    _ => self.answered_bare(pipe, &mut view, &reply.body, stores),
                }
            }
        };
        self.views.insert(pipe, view);
        verdict
    }

    /// A client sends the last signal on a channel. No signal replaces it, however full the links are.
    pub(crate) fn sends_last_signal(&mut self, asked: (usize, u64), channel: &ChannelName, data: &[u8]) {
        let from = self.views.get(&asked.0).and_then(|view| view.client);
        let due = self.views.iter().filter(|(_, view)| view.open && view.client.is_some() && view.client != from);
        let due = due.filter(|(_, view)| view.subs.get(channel).is_some_and(|sub| sub.signals));
        let due = due.map(|(pipe, _)| *pipe).collect();
        self.last_signals.push(LastSignal {
            channel: channel.clone(),
            data: data.to_vec(),
            asked,
            due,
            accepted: false,
        });
    }

    /// Every connection that was subscribed then and still is has received it. A sender that is closed as too slow may
    /// be closed before its signal is read; then there is no answer, and nobody is owed anything. A late request of an
    /// earlier connection may have ended the subscription.
    pub(crate) fn finish_last_signal(&self) -> Verdict {
        for LastSignal { channel, due, .. } in self.last_signals.iter().filter(|last| last.accepted) {
            let is_subscribed = |view: &View| view.subs.contains_key(channel) && !self.is_uncertain_to(view, channel);
            let owed = |pipe: &&usize| self.views.get(*pipe).is_some_and(|view| view.open && is_subscribed(view));
            if let Some(pipe) = due.iter().find(owed) {
                return Err(format!("{channel}: pipe {pipe} never received the last signal"));
            }
        }
        Ok(())
    }

    /// The world has been calm for long: every promise must be fulfilled now.
    pub(crate) fn finish(&self, stores: &Stores, channels: &[ChannelName]) -> Verdict {
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
            for (channel, sub) in view.subs.iter().filter(|(channel, _)| !view.leaving.contains(*channel)) {
                if self.is_uncertain_to(view, channel) {
                    continue;
                }
                let Some(top) = stores.top(channel) else { continue };
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

    /// Every open connection and its client, with its subscriptions.
    pub(crate) fn subscribed(&self, pipe: usize) -> Vec<ChannelName> {
        self.views.get(&pipe).map(|view| view.subs.keys().cloned().collect()).unwrap_or_default()
    }

    /// The followers' view of presence must be right by now; then every client asks once more.
    pub(crate) fn expect_presences(&mut self, channels: &[ChannelName]) -> Verdict {
        self.presences.only_followers();
        self.presences.finish(channels)?;
        self.presences.forget_answers();
        Ok(())
    }
}
