//! Chat clients, as far as they differ: their commands have no id, so only errors answer them.
//!
//! A chat client leaves a room without an answer. The world tells where the shard has done it ([`Checker::left`]);
//! until then messages of the room are judged as before. It stands in its room when the answer about the room's
//! presence says so, which a home gives after it was told of the entry.

use super::view::{Early, View};
use super::{Checker, Verdict};
use crate::store::Stores;
use fanfare_hub::{ChannelName, Command, PresenceSnapshot, Request};

impl Checker {
    /// This connection speaks the chat protocol.
    pub(crate) fn is_chat(&mut self, pipe: usize) {
        self.views.entry(pipe).and_modify(|view| view.is_chat = true);
    }

    /// A shard is given a command without an id.
    pub(super) fn sent_silently(&mut self, pipe: usize, request: &Request) {
        let Some(view) = self.views.get_mut(&pipe) else { return };
        match &request.command {
            Command::Signal(signal) => drop(view.silent.insert(signal.channel.clone())),
            Command::Invalid(error) => view.bad.push(error.code),
            _ => {}
        }
        if !view.is_chat {
            return;
        }
        self.sent += 1;
        let place = self.sent;
        view.sent = place;
        match &request.command {
            // Typing without a content is like any other of its client.
            Command::Signal(signal) if signal.data.starts_with(b"{\"content\":") => {
                self.signals.insert(signal.data.to_vec(), (pipe, place));
            }
            Command::Publish(publish) => {
                view.silent.insert(publish.channel.clone());
                let attempt = self.attempts.entry(publish.data.bytes().to_vec()).or_default();
                attempt.tries += 1;
                attempt.unknown += 1;
            }
            Command::PresenceSet { channel, data, .. } => {
                view.silent.insert(channel.clone());
                view.refused.remove(channel);
                view.entering.insert(channel.clone(), data.to_vec());
                match view.given {
                    Some(client) => self.presences.doubt(Some(client), channel, place),
                    None => drop(view.early.insert(place, Early::Enters(channel.clone()))),
                }
            }
            Command::Unsubscribe { channel } => {
                view.silent.insert(channel.clone());
                view.leaving.insert(channel.clone());
                view.entering.remove(channel);
                match view.given {
                    Some(client) => self.presences.left(Some(client), channel, place),
                    None => drop(view.early.insert(place, Early::Leaves(channel.clone()))),
                }
            }
            _ => {}
        }
    }

    /// From here on a chat client is not subscribed to the channel that it has left.
    pub(crate) fn left(&mut self, pipe: usize, channel: &ChannelName) {
        let Some(view) = self.views.get_mut(&pipe) else { return };
        view.leaving.remove(channel);
        view.stays.remove(channel);
        if view.subs.remove(channel).is_some() {
            self.counts.chat_left += 1;
            self.presences.unsubscribed(pipe, channel);
        }
    }

    /// A chat client that has joined a room has the answer about the room's presence: it stands there itself, unless
    /// that was refused.
    pub(super) fn stands_in_room(
        &mut self,
        view: &View,
        channel: &ChannelName,
        place: u64,
        snapshot: &PresenceSnapshot,
    ) -> Verdict {
        let Some(client) = view.client else { return Ok(()) };
        let is_there = match (snapshot.entries.as_deref(), view.entering.get(channel)) {
            (Some(entries), _) => entries.iter().find(|entry| entry.client == client).map(|entry| entry.data.to_vec()),
            // Too many are there for names: it is one of them, as it was let in.
            (None, Some(data)) if !view.refused.contains(channel) && view.subs.contains_key(channel) => {
                Some(data.clone())
            }
            (None, _) => return Ok(()),
        };
        match is_there {
            Some(data) => self.presences.entered(Some(client), channel, place, data),
            None if view.refused.contains(channel) || view.leaving.contains(channel) => {}
            None if !view.subs.contains_key(channel) => self.presences.left(Some(client), channel, place),
            None => {
                return Err(format!("promise 5: {channel}: {client} has joined the room, and does not stand there"));
            }
        }
        Ok(())
    }

    /// In the end every chat client follows its room up to the top.
    pub(crate) fn follows(&self, pipe: usize, channel: &ChannelName, stores: &Stores) -> Verdict {
        let Some(view) = self.views.get(&pipe) else { return Err(format!("chat: pipe {pipe} was never opened")) };
        let Some(sub) = view.subs.get(channel) else {
            return Err(format!("promise 3: chat: pipe {pipe} is in {channel} and is not subscribed"));
        };
        self.nothing_between(view, channel, sub, u64::MAX, stores)
    }
}
