//! One connection as its client sees it: its requests, its subscriptions, and its positions.

use super::kept::{Keeping, KeptSub};
use super::rooms::{Change, Stay};
use fanfare_hub::{ChannelName, ClientId, Command, ErrorCode, Position, SubOptions, UserId};
use std::collections::{BTreeMap, BTreeSet};

/// One connection, as its client sees it.
#[derive(Debug)]
pub(super) struct View {
    pub(super) open: bool,
    /// Its commands are answered by another way than its messages come.
    pub(super) is_apart: bool,
    /// It speaks the chat protocol: most of its commands have no id.
    pub(super) is_chat: bool,
    /// It is a plain event stream: the server subscribes it to nothing by itself.
    pub(super) is_reader: bool,
    /// Channels that a chat client has left: where it is not known yet that its shard has done it.
    pub(super) leaving: BTreeSet<ChannelName>,
    /// Channels about which an error without an id has come since the chat client entered.
    pub(super) refused: BTreeSet<ChannelName>,
    /// What a chat client has entered rooms as.
    pub(super) entering: BTreeMap<ChannelName, Vec<u8>>,
    /// A chat client's commands about presence of the time before its shard gave it a session, by their places.
    pub(super) early: BTreeMap<u64, Early>,
    /// Whose it is, as its client knows.
    pub(super) client: Option<ClientId>,
    /// Whose it is, as its shard has said; the client may be slow to read that.
    pub(super) given: Option<ClientId>,
    /// It has a user: the scope of its keys outlives the session.
    pub(super) known: bool,
    pub(super) subs: BTreeMap<ChannelName, Sub>,
    /// Subscriptions asked for by `connect`, whose answers carry no id.
    pub(super) bare: BTreeMap<ChannelName, Want>,
    /// Those of them that the shard has not answered yet; the client may be slow to read an answer.
    pub(super) unanswered: BTreeMap<ChannelName, SubOptions>,
    /// Channels on which a command without an id was sent: it gets at most an error as an answer.
    pub(super) silent: BTreeSet<ChannelName>,
    /// The place of the last directed signal received, by the channel and the connection that it was sent on.
    pub(super) directed: BTreeMap<(ChannelName, usize), u64>,
    /// The place of the last signal to everybody received, by its channel and its sender's connection.
    pub(super) undirected: BTreeMap<(ChannelName, usize), u64>,
    /// Errors that are owed for messages without a readable id.
    pub(super) bad: Vec<ErrorCode>,
    /// Unanswered commands by number, with their places among all commands of all clients.
    pub(super) pending: BTreeMap<u64, (u64, PendingCommand)>,
    /// The place of the last command sent among all commands of all clients.
    pub(super) sent: u64,
    /// The place at which a shard gave it a session.
    pub(super) taken_up: u64,
    /// Publishes without answer: the place of each, by payload.
    pub(super) publishes: BTreeMap<Vec<u8>, u64>,
    /// Acknowledged publishes by the place of the command, which tells the order sent.
    pub(super) published: BTreeMap<ChannelName, BTreeMap<u64, Position>>,
    pub(super) shard: usize,
    pub(super) resumed_from: Option<ClientId>,
    /// How often its session had been resumed before.
    pub(super) incarnation: u32,
    /// It comes back, and acknowledges no answer to a poll of this incarnation or a later one: signals in those come
    /// again. 0: it shows the number of no answer.
    pub(super) unheard_from: Option<u32>,
    /// The ticket named another shard than the one connected to.
    pub(super) elsewhere: bool,
    /// The user of the token that was shown.
    pub(super) shown: Option<UserId>,
    /// That token is good for a subscription.
    pub(super) granted: bool,
    /// The last answer was that a newer token is valid: the ends that follow from it are still to come.
    pub(super) refreshed: bool,
    /// A gap has passed over this entry (channel, offset) for a subscriber that wants only the latest: the next
    /// publication is newer.
    pub(super) owed: Option<(ChannelName, u64)>,
    /// The publications that it looks at are those that its subscription asked for as `recent`: they are found for a
    /// reader in no room.
    pub(super) is_recent: bool,
    /// Its stays in rooms since each subscription began.
    pub(super) stays: BTreeMap<ChannelName, Vec<Stay>>,
    /// The places of its publications to rooms, by payload.
    pub(super) to_rooms: BTreeMap<Vec<u8>, u64>,
    /// Channels that it left and subscribed to while one of both had no answer, or to which the server subscribed it
    /// besides, where answers come by another way than messages. Their messages may be of either subscription.
    pub(super) blurred: BTreeSet<ChannelName>,
    /// Channels to which the server has subscribed it by itself.
    pub(super) by_server: BTreeSet<ChannelName>,
    /// Channels that it has subscribed to or left by requests of their own.
    pub(super) by_requests: BTreeSet<ChannelName>,
    pub(super) keeping: Keeping,
    /// A newer token was: the server may subscribe it, or find that it is subscribed.
    pub(super) granted_late: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Want {
    pub(super) options: SubOptions,
    /// How many entries had been accepted anywhere when it was sent.
    pub(super) order: u64,
    /// The place of the command that asked for it.
    pub(super) sent: u64,
}

#[derive(Debug)]
pub(super) enum PendingCommand {
    Connect,
    Subscribe(Vec<Want>),
    Unsubscribe(ChannelName),
    Publish {
        channel: ChannelName,
        data: Vec<u8>,
    },
    PresenceSet {
        channel: ChannelName,
        data: Vec<u8>,
    },
    PresenceClear(ChannelName),
    Presence(ChannelName),
    History {
        channel: ChannelName,
        /// The place that it goes on from.
        since: Option<Position>,
    },
    Rpc(Vec<u8>),
    Room {
        channel: ChannelName,
        change: Change,
    },
    Refresh(UserId),
    /// No valid command: it is refused with this error.
    Bad(ErrorCode),
    Other,
}

/// A command of a chat client that has no session yet.
#[derive(Debug)]
pub(super) enum Early {
    Enters(ChannelName),
    Leaves(ChannelName),
}

/// A live subscription.
#[derive(Debug)]
pub(super) struct Sub {
    pub(super) at: Position,
    pub(super) want: Want,
    pub(super) recovered: Option<bool>,
    pub(super) first_page: FirstPage,
    pub(super) presence: bool,
    pub(super) signals: bool,
    pub(super) kept: KeptSub,
}

/// How far the publications go that came with `subscribed`.
#[derive(Debug, Clone, Copy)]
pub(super) enum FirstPage {
    /// To the newest position that the channel's home knew.
    Whole { up_to: Position },
    /// Others follow.
    More,
}

impl PendingCommand {
    /// The channels of which it changes the presence or the subscription.
    pub(super) fn channels(&self) -> Vec<&ChannelName> {
        match self {
            PendingCommand::Subscribe(wants) => wants.iter().map(|want| &want.options.channel).collect(),
            asked => asked.enters_or_leaves().into_iter().collect(),
        }
    }

    /// The channel whose presence it changes.
    pub(super) fn enters_or_leaves(&self) -> Option<&ChannelName> {
        match self {
            PendingCommand::Unsubscribe(channel)
            | PendingCommand::PresenceSet { channel, .. }
            | PendingCommand::PresenceClear(channel) => Some(channel),
            _ => None,
        }
    }
}

impl View {
    /// The place up to which commands about a channel are decided if the server sends a message about it by itself:
    /// unanswered commands may have waited for that.
    pub(super) fn decided(&self, channel: &ChannelName) -> u64 {
        let waiting = self.pending.values().filter(|(_, asked)| asked.enters_or_leaves() == Some(channel));
        waiting.map(|(place, _)| place - 1).min().unwrap_or(self.sent)
    }

    /// Channels of which this command makes the messages ambiguous, where its answer comes by another way than they: it
    /// subscribes to a channel or leaves one, while such a command has no answer, or the server has subscribed it by
    /// itself.
    pub(super) fn blurs(&mut self, command: &Command, begins_anew: impl Fn(&ChannelName) -> bool) -> Vec<ChannelName> {
        let channels: Vec<ChannelName> = match command {
            _ if !self.is_apart => return Vec::new(),
            Command::Subscribe { subs, .. } => subs.iter().map(|options| options.channel.clone()).collect(),
            Command::Unsubscribe { channel } => vec![channel.clone()],
            _ => return Vec::new(),
        };
        let is_open = |channel: &ChannelName| {
            self.pending.values().any(|(_, asked)| match asked {
                PendingCommand::Subscribe(wants) => wants.iter().any(|want| want.options.channel == *channel),
                PendingCommand::Unsubscribe(of) => of == channel,
                _ => false,
            })
        };
        let is_ambiguous = |channel: &&ChannelName| {
            is_open(channel)
                || self.by_server.contains(*channel)
                || self.subs.contains_key(*channel) && begins_anew(channel)
        };
        let ambiguous = channels.iter().filter(is_ambiguous).cloned().collect();
        self.by_requests.extend(channels);
        ambiguous
    }

    /// From here on nobody says of which subscription a message about this channel is.
    pub(super) fn blur(&mut self, channel: ChannelName) {
        self.subs.remove(&channel);
        self.blurred.insert(channel);
    }

    /// The server subscribes it by itself. True if that makes the messages of the channel ambiguous: it has subscribed
    /// or left by requests, and the answers and this may have overtaken each other.
    pub(super) fn blurs_by_server(&mut self, channel: &ChannelName) -> bool {
        self.by_server.insert(channel.clone());
        self.is_apart && self.by_requests.contains(channel)
    }

    /// A newer token may be valid that is not good for the channel of an earlier one.
    pub(super) fn doubts_grant(&self) -> bool {
        self.refreshed || self.pending.values().any(|(_, asked)| matches!(asked, PendingCommand::Refresh(_)))
    }
}
