//! The commands of one connection that its shard has not answered yet, as the world hands them over.
//!
//! The judge at the client's end (`checker`) does not see when a shard took a command in. Here it is known: which
//! channels are still being decided, and whether a shard that says it is done has left something unanswered.

use bytes::Bytes;
use fanfare_hub::{ChannelName, Command, PayloadOf, Reply, ReplyBody, RequestId, RoomCommand};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub(crate) struct Desk {
    /// The shard has answered `connect` with a session.
    pub(crate) is_connected: bool,
    /// It has been given a `connect`.
    pub(crate) has_connect: bool,
    /// Commands with an id, and the channels on which later commands wait for them.
    open: BTreeMap<u64, Open>,
    /// Subscriptions of `connect`.
    bare: BTreeSet<ChannelName>,
    /// Channels about which the application is asked for a command without an id: it is not known for how long.
    unsure: BTreeSet<ChannelName>,
}

/// A command without an answer.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) given_ms: u64,
    /// Later commands on these channels wait.
    holds: Vec<ChannelName>,
    /// The channel and the payload of a directed signal.
    pub(crate) signal: Option<Box<fanfare_hub::Signal>>,
    /// The data in it.
    pub(crate) sent: Option<Sent>,
}

/// Data that a client gives to a channel.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) channel: ChannelName,
    pub(crate) data: Bytes,
    pub(crate) of: PayloadOf,
}

impl Sent {
    fn of(command: &Command) -> Option<Sent> {
        let (channel, data, of) = match command {
            Command::Publish(publish) => (&publish.channel, publish.data.bytes(), PayloadOf::Publication),
            Command::Signal(signal) => (&signal.channel, &signal.data, PayloadOf::Signal),
            Command::PresenceSet { channel, data, .. } => (channel, data, PayloadOf::Presence),
            Command::Room(command) => match &**command {
                RoomCommand::Publish { publish, .. } => {
                    (&publish.channel, publish.data.bytes(), PayloadOf::Publication)
                }
                _ => return None,
            },
            _ => return None,
        };
        Some(Sent { channel: channel.clone(), data: data.clone(), of })
    }
}

impl Desk {
    /// A shard is given a command. `is_asked`: the application is asked about publications to a channel.
    pub(crate) fn given(
        &mut self,
        now_ms: u64,
        id: Option<&RequestId>,
        command: &Command,
        is_asked: impl Fn(&ChannelName) -> bool,
    ) {
        let mut signal = None;
        let holds = match command {
            Command::Connect(connect) => {
                self.has_connect = true;
                self.bare.extend(connect.subscribe.iter().map(|options| options.channel.clone()));
                Vec::new()
            }
            Command::Subscribe { subs, .. } => subs.iter().map(|options| options.channel.clone()).collect(),
            Command::Publish(publish) if is_asked(&publish.channel) && id.is_none() => {
                self.unsure.insert(publish.channel.clone());
                Vec::new()
            }
            Command::Publish(publish) if is_asked(&publish.channel) => vec![publish.channel.clone()],
            Command::Unsubscribe { channel }
            | Command::History { channel, .. }
            | Command::Presence { channel }
            | Command::PresenceSet { channel, .. }
            | Command::PresenceClear { channel } => vec![channel.clone()],
            Command::Signal(sent) => {
                signal = Some(sent.clone());
                Vec::new()
            }
            _ => Vec::new(),
        };
        if let Some(RequestId::Number(id)) = id {
            self.open.insert(*id, Open { given_ms: now_ms, holds, signal, sent: Sent::of(command) });
        }
    }

    /// A shard answers. Gives the command back.
    pub(crate) fn answered(&mut self, reply: &Reply) -> Option<Open> {
        match (&reply.id, &reply.body) {
            (Some(RequestId::Number(id)), body) => {
                self.is_connected |= matches!(body, ReplyBody::Connected(_));
                if matches!(body, ReplyBody::Error(_)) && !self.is_connected {
                    self.bare.clear();
                }
                self.open.remove(id)
            }
            (_, ReplyBody::Subscribed(subscribed)) => {
                self.bare.remove(&subscribed.channel);
                None
            }
            (_, ReplyBody::Error(error)) => {
                if let Some(channel) = &error.channel {
                    self.bare.remove(channel);
                }
                None
            }
            _ => None,
        }
    }

    /// True if a command on this channel is decided at once.
    pub(crate) fn decides_at_once(&self, channel: &ChannelName) -> bool {
        self.is_connected
            && !self.bare.contains(channel)
            && !self.unsure.contains(channel)
            && !self.open.values().any(|open| open.holds.contains(channel))
    }

    /// True if it may be asking for a subscription to this channel.
    pub(crate) fn is_asking(&self, channel: &ChannelName) -> bool {
        self.bare.contains(channel) || self.open.values().any(|open| open.holds.contains(channel))
    }

    /// True if commands on this channel wait for one with this number, or an earlier one.
    pub(crate) fn waits_for(&self, channel: &ChannelName, id: u64) -> bool {
        self.open.range(..=id).any(|(_, open)| open.holds.contains(channel))
    }

    /// A command without an answer.
    pub(crate) fn unanswered(&self) -> Option<u64> {
        self.open.keys().next().copied()
    }
}
