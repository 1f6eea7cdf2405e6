//! The seam to where channels live: one operation in, exactly one answer out.
//!
//! The memory store answers in place, at the cost of a call; an outside store returns `None` and its answer comes
//! later as [`Input::Answer`](crate::Input::Answer). The simulation's faulty store delays, repeats and refuses.

use crate::act::Act;
use crate::ids::{ClientId, Epoch, OpToken, Position};
use crate::message::{Audience, Publication, Publish, Sender};
use crate::name::ChannelName;
use crate::rules::{Retain, SenderShown};
use crate::time::Now;
use std::sync::Arc;

/// A publication to append. The store assigns its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The payload.
    pub publish: Publish,
    /// The publisher.
    pub from: Option<Sender>,
    /// What of it is shown.
    pub shown: SenderShown,
    /// The name of the application's API key; `None` is the embedding program, or a client.
    pub by: Option<Arc<str>>,
    /// The audience, if it is not for all.
    pub audience: Option<Box<Audience>>,
    /// Its effect on the members in its audience, besides being shown, or instead.
    pub act: Option<Box<Act>>,
    /// The server's time, in ms since 1970.
    pub ts_ms: u64,
}

impl Entry {
    /// The publication that stands at `offset`, after `prev`; it `begins` an epoch where it is the first one in it.
    pub fn at(self, prev: u64, offset: u64, begins: Option<Epoch>) -> Publication {
        let Publish { channel: _, data, event, idempotency_key, echo } = self.publish;
        let client = self.from.as_ref().and_then(|from| from.client);
        let is_hidden = !echo && self.shown != SenderShown::Client;
        Publication {
            offset,
            prev,
            ts_ms: self.ts_ms,
            data,
            event,
            idempotency_key,
            from: self.from.and_then(|from| shown_part(self.shown, from)),
            hidden: client.filter(|_| is_hidden).map(Box::new),
            audience: self.audience,
            act: self.act,
            echo,
            begins: begins.map(Box::new),
        }
    }

    /// The bytes that it takes while it waits: payload, texts and an estimate of the overhead.
    pub(crate) fn cost(&self) -> usize {
        let Publish { data, event, idempotency_key, .. } = &self.publish;
        size_of::<Entry>()
            + data.bytes().len()
            + event.as_deref().map_or(0, str::len)
            + idempotency_key.as_deref().map_or(0, str::len)
            + self.audience.as_deref().map_or(0, Audience::cost)
            + self.act.as_deref().map_or(0, Act::cost)
    }

    /// The owner of these keys: a key is scoped to (channel, user, else session, else the API key).
    pub fn key_scope(&self) -> KeyScope {
        match &self.from {
            Some(Sender { user: Some(user), .. }) => KeyScope::User(user.0.clone()),
            Some(Sender { client: Some(client), .. }) => KeyScope::Client(*client),
            _ => KeyScope::Application(self.by.clone()),
        }
    }
}

/// The part of a sender that its channel shows.
fn shown_part(shown: SenderShown, sender: Sender) -> Option<Sender> {
    match shown {
        SenderShown::Client => Some(sender),
        SenderShown::User => sender.user.map(|user| Sender { client: None, user: Some(user) }),
        SenderShown::Nothing => None,
    }
}

/// The scope in which an idempotency key is unique.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KeyScope {
    /// All sessions of a user.
    User(Arc<str>),
    /// One session without a user.
    Client(ClientId),
    /// An API key of the application, by its name; `None` is the embedding program.
    Application(Option<Arc<str>>),
}

/// An operation that the home asks of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// The channel is going to be used: answer its newest position. An unknown channel begins a new epoch.
    Attach {
        /// The channel.
        channel: ChannelName,
    },
    /// The channel is not used any more; its history and metadata live on for their times.
    Detach {
        /// The channel.
        channel: ChannelName,
    },
    /// Appends, in one step with the check of the key.
    Append {
        /// The entry, which names its channel.
        entry: Box<Entry>,
        /// The channel's retention.
        retain: Retain,
    },
    /// Reads retained publications.
    Read {
        /// The channel.
        channel: ChannelName,
        /// Which ones.
        range: Range,
        /// The reader: publications for others are neither answered nor counted. `None` reads all.
        reader: Option<Reader>,
        /// At most this many publications.
        count_max: usize,
        /// At most this many bytes of them, but always one.
        bytes_max: usize,
        /// Look at no more than about this many, for any reader, but always at one: then the page ends
        /// ([`Rest::Unseen`]), and the home reads on in a later turn.
        scan_max: usize,
        /// The history that the rule keeps: older entries are not answered, even if the store still has them.
        retain: Retain,
    },
    /// Drops every retained publication; epoch and top stay.
    Purge {
        /// The channel.
        channel: ChannelName,
    },
}

/// The reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reader {
    /// The client.
    pub client: ClientId,
    /// It reads its own publications too whose copy it did not want live: in history and recovery.
    pub own: bool,
    /// It reads publications to rooms: the shard that has its subscription judges whether it was there.
    pub in_rooms: bool,
}

impl Reader {
    /// A reader of history, or in recovery.
    pub fn of(client: ClientId) -> Self {
        Reader { client, own: true, in_rooms: true }
    }

    /// A live subscriber: it gets its own copy only where it wants it.
    pub fn live(client: ClientId) -> Self {
        Reader { client, own: false, in_rooms: true }
    }

    /// The same for a reader that is in no room.
    #[must_use]
    pub fn outside_rooms(self) -> Self {
        Reader { in_rooms: false, ..self }
    }

    /// Whether a publication is for this reader. Delivery, reading and counting all use this check.
    pub fn wants(self, publication: &Publication) -> bool {
        let is_own = || publication.client() == Some(self.client);
        publication.is_for(self.client)
            && (self.in_rooms || !publication.is_to_rooms() && publication.act.is_none())
            && (self.own || publication.echo || !is_own())
    }
}

/// Which publications are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// After a position, oldest first.
    After(Position),
    /// The last ones, oldest of them first.
    Last {
        /// Only those after this position.
        after: Option<Position>,
        /// Only those before this position.
        before: Option<Position>,
    },
}

impl Range {
    /// The newest ones.
    pub const NEWEST: Range = Range::Last { after: None, before: None };

    /// The last ones before a position.
    pub fn before(at: Position) -> Self {
        Range::Last { after: None, before: Some(at) }
    }
}

/// Retained publications, with their meaning for a reader that was at the beginning of the range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The publications, in order.
    pub publications: Vec<Arc<Publication>>,
    /// The place before the first that was looked at: a range of the last ones goes on backwards from here.
    pub start: u64,
    /// The place after the last that was looked at: a range after a place goes on from here.
    pub end: u64,
    /// The channel's newest position.
    pub top: Position,
    /// True when nothing is missing between the place that the range is after and the oldest retained publication.
    pub complete: bool,
    /// True when a place of the range does not belong to this log: it is of another epoch, or beyond the top. Then it
    /// is not complete.
    pub reset: bool,
    /// The entries of the range beyond the page.
    pub rest: Rest,
}

/// The entries of a range beyond a page of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// Nothing for the reader.
    Nothing,
    /// At least one more for the reader, for which the page has no room.
    More,
    /// Entries that were not looked at: the page has looked at as many as it may.
    Unseen,
}

/// The answer to an [`Op`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreAnswer {
    /// To `Attach`: the channel's newest position.
    Attached(Position),
    /// To `Append`.
    Appended {
        /// The epoch it stands in.
        epoch: Epoch,
        /// It.
        publication: Arc<Publication>,
    },
    /// To `Append`: the key was used for the same payload, which stands here.
    Duplicate(Position),
    /// To `Append`: the key was used for another payload.
    KeyConflict,
    /// To `Read`.
    Page(Page),
    /// To `Detach` and `Purge`.
    Done,
    /// Nothing was done, and nothing will be.
    Unavailable,
    /// Whether it was done is not known. To `Read` the same as `Unavailable`: it changes nothing.
    Unknown,
    /// The store lost entries it had acknowledged and began a new epoch.
    EpochLost(Position),
}

/// Where channels live.
///
/// Operations on one channel take effect in the order in which they are submitted; their answers may come in any order.
/// An implementation must give an accepted `Append` a place that no other entry of the epoch ever had or will have,
/// must check the key in the same step, must begin a new epoch whenever it may have lost an acknowledged entry, and
/// must name the epoch in its first entry, and in no other ([`Publication::begins`]).
pub trait Store {
    /// Takes an operation. `Some` is its answer; after `None` the store has the operation, and its answer comes later
    /// as [`Input::Answer`](crate::Input::Answer) under the same token, exactly once.
    fn submit(&mut self, now: Now, token: OpToken, op: Op) -> Option<StoreAnswer>;

    /// Does a bounded piece of housekeeping: called about once a second.
    fn tidy(&mut self, now: Now);

    /// Bytes of retained publications, for the accounting.
    fn bytes_used(&self) -> usize;

    /// Whether it knows this channel, as far as it can tell without asking anybody. The name of a channel that nobody
    /// knows counts as new ([`Quotas::new_channels_per_user`](crate::Quotas)).
    fn knows(&self, channel: &ChannelName) -> bool {
        let _ = channel;
        false
    }

    /// Idempotency keys that were forgotten before their time, for want of room.
    fn keys_shed(&self) -> u64 {
        0
    }

    /// How often its limits were reached, by the names of their options: something was dropped before its time.
    fn limits_reached(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}
