//! Rooms: who may see a publication that is for the members of rooms, by the commands of the members and their answers.
//!
//! A stay in a room is an interval of the channel's log: from the place of a `join` to the place of a `leave`. No
//! answer names these places, so the judge has bounds for them: a change lies behind all that its home knew when the
//! shard was given the command, and before all that was accepted after the shard's answer. One's own publications are
//! judged by the order of the commands. For what lies within the bounds both outcomes are accepted.
//!
//! A subscription of the application begins anew with another `subscribe`, and its rooms go on. A stay that had ended
//! before that may be forgotten as far as it had been read. So what was told from it need not be told again, and what
//! it kept from the client may be told.

use super::view::{PendingCommand, View};
use super::{Checker, Verdict};
use crate::ledger::Kept;
use crate::model::is_for;
use crate::store::Stores;
use fanfare_hub::{ChannelName, ErrorCode, Position, Reply, ReplyBody, Request, RequestId, Room, RoomCommand};

/// The knowledge of a yes or no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    Yes,
    No,
    Either,
}

/// A join or a leave.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) room: Room,
    joins: bool,
    /// Its place among all commands of all clients.
    place: u64,
    /// When the shard was given it: how many entries had been accepted anywhere, and the newest position of the channel
    /// that had been acknowledged.
    given: Option<(u64, Option<Position>)>,
    /// How many entries had been accepted anywhere when the shard answered.
    answered: Option<u64>,
}

/// A stay of a subscription in a room. It is there, or has left.
#[derive(Debug, Clone)]
pub(super) struct Stay {
    joined: Change,
    left: Option<Change>,
    /// Joins while it was there.
    again: usize,
    /// It had ended before its subscription began anew, which had been told everything up to here.
    told_to: Option<Position>,
}

/// An entry as the judge of rooms sees it.
struct Entry {
    at: Position,
    order: u64,
    /// The place of the command that published it, where the same connection did.
    place: Option<u64>,
    /// A home knows what its store has accepted as soon as that is accepted.
    is_known_at_once: bool,
}

impl Change {
    /// A shard has it.
    pub(super) fn is_given(&self) -> bool {
        self.given.is_some()
    }

    /// Whether the entry stands after it.
    fn is_before(&self, entry: &Entry) -> Known {
        if let Some(place) = entry.place {
            return if place > self.place { Known::Yes } else { Known::No };
        }
        if self.answered.is_some_and(|answered| entry.order > answered) {
            return Known::Yes;
        }
        // A command that the shard does not have yet, and one that it had when this entry was known.
        let Some((order, known)) = self.given else { return Known::No };
        let is_known = entry.is_known_at_once && entry.order <= order
            || known.is_some_and(|known| known.epoch == entry.at.epoch && entry.at.offset <= known.offset);
        if is_known { Known::No } else { Known::Either }
    }
}

/// What the audience of an entry says about a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Naming {
    /// It is for those in the room.
    For,
    /// It is not for those in the room.
    Except,
}

impl Stay {
    pub(super) fn room(&self) -> &Room {
        &self.joined.room
    }

    /// How many places it may take.
    pub(super) fn weight(&self) -> usize {
        1 + self.again
    }

    /// Changes of a room may have taken effect or not, and the client is told whether it is in the room now, when so
    /// many entries had been accepted anywhere.
    pub(super) fn settle<'a>(
        stays: &mut Vec<Stay>,
        room: &Room,
        doubts: impl Iterator<Item = &'a Change>,
        is_in: bool,
        order: u64,
    ) -> Verdict {
        let doubts: Vec<&Change> = doubts.collect();
        let open = stays.iter_mut().find(|stay| stay.joined.room == *room && stay.left.is_none());
        let Some(first) = doubts.first() else {
            return match (open.is_some(), is_in) {
                (true, false) => Err(format!("is in {room:?}, and goes on without it")),
                (false, true) => Err(format!("has left {room:?}, and goes on in it")),
                _ => Ok(()),
            };
        };
        // Before the answer. One that was under way at a cut may take effect before what its shard did not know yet.
        let by_now = |joins| {
            let (given, answered) = (Some((0, None)), Some(order));
            Change { joins, place: 0, given, answered, ..(*first).clone() }
        };
        let has_left = doubts.iter().any(|doubt| !doubt.joins);
        let has_joined = doubts.iter().any(|doubt| doubt.joins);
        match open {
            Some(open) if is_in && !has_left => open.again += doubts.len(),
            Some(open) => {
                open.left = Some(by_now(false));
                if !has_left {
                    return Err(format!("is in {room:?}, and goes on without it"));
                }
            }
            None if is_in && !has_joined => return Err(format!("has left {room:?}, and goes on in it")),
            None => {}
        }
        let is_open = stays.iter().any(|stay| stay.joined.room == *room && stay.left.is_none());
        if is_in && !is_open {
            stays.push(Stay { joined: by_now(true), left: None, again: doubts.len(), told_to: None });
        } else if !is_in && has_joined {
            stays.push(Stay { joined: by_now(true), left: Some(by_now(false)), again: doubts.len(), told_to: None });
        }
        Ok(())
    }

    fn covers(&self, entry: &Entry, naming: Naming) -> Known {
        let left = self.left.as_ref().map_or(Known::No, |left| left.is_before(entry));
        match (self.joined.is_before(entry), left) {
            (Known::No, _) | (_, Known::Yes) => Known::No,
            (Known::Yes, Known::No) if !self.may_be_forgotten(entry.at, naming) => Known::Yes,
            _ => Known::Either,
        }
    }

    /// It had ended and was read before the subscription began anew. It is not known how far it was read where nothing
    /// was told.
    fn may_be_forgotten(&self, at: Position, naming: Naming) -> bool {
        let was_told = |to: Position| naming == Naming::Except || to.epoch == at.epoch && at.offset <= to.offset;
        self.told_to.is_some_and(was_told)
    }
}

impl View {
    /// An `unsubscribe` is not answered.
    pub(super) fn is_leaving(&self, channel: &ChannelName) -> bool {
        self.pending.values().any(|(_, asked)| matches!(asked, PendingCommand::Unsubscribe(of) if of == channel))
    }

    /// Joins and leaves that are not answered.
    pub(super) fn changes_on(&self, channel: &ChannelName) -> impl Iterator<Item = &Change> {
        self.pending.values().filter_map(move |(_, asked)| match asked {
            PendingCommand::Room { channel: of, change } if of == channel => Some(change),
            _ => None,
        })
    }

    /// Whether the entry of a channel is for this client.
    pub(super) fn means(
        &self,
        channel: &ChannelName,
        epoch: fanfare_hub::Epoch,
        kept: &Kept,
        stores: &Stores,
    ) -> Known {
        let publication = &kept.publication;
        if self.client.is_some_and(|client| !is_for(publication, client)) {
            return Known::No;
        }
        let Some(audience) = publication.audience.as_deref() else { return Known::Yes };
        if audience.rooms.is_empty() && audience.except_rooms.is_empty() {
            return Known::Yes;
        }
        if self.is_recent && self.stays.contains_key(channel) || !self.keeping.knows_rooms(channel) {
            return Known::Either;
        }
        // A new epoch has places of its own: what is said of an earlier one may have been judged by them.
        let is_past = stores.losses > 0 && stores.top(channel).is_none_or(|top| top.epoch != epoch);
        let own = kept.client().is_some() && kept.client() == self.client;
        let at = Position { epoch, offset: publication.offset };
        // One whose outcome was not known may have been accepted at any time.
        let acknowledged = self.published.get(channel);
        let is_acknowledged = |place: &u64| acknowledged.and_then(|all| all.get(place)) == Some(&at);
        let place = self.to_rooms.get(&publication.data.bytes()[..]).copied().filter(is_acknowledged);
        let entry = Entry {
            at,
            order: kept.order,
            place: place.filter(|_| own && !is_past && !stores.answers_disordered),
            is_known_at_once: !stores.answers_late && stores.unknowns == 0 && stores.silences == 0,
        };
        let any = |rooms: &[Room], naming| {
            let is_in =
                |room| if is_past { self.was_in(channel, room) } else { self.is_in(channel, room, &entry, naming) };
            let each: Vec<Known> = rooms.iter().map(is_in).collect();
            match each.contains(&Known::Yes) {
                true => Known::Yes,
                false if each.contains(&Known::Either) => Known::Either,
                false => Known::No,
            }
        };
        let (wanted, excepted) = (any(&audience.rooms, Naming::For), any(&audience.except_rooms, Naming::Except));
        match (audience.rooms.is_empty() || wanted == Known::Yes, wanted, excepted) {
            (_, _, Known::Yes) => Known::No,
            (false, Known::No, _) => Known::No,
            (true, _, Known::No) => Known::Yes,
            _ => Known::Either,
        }
    }

    /// The subscription begins anew, and had been told everything up to this place.
    pub(super) fn begins_anew(&mut self, channel: &ChannelName, told_to: Position) {
        for stay in self.stays.get_mut(channel).into_iter().flatten().filter(|stay| stay.left.is_some()) {
            let is_further = |to: &Position| to.epoch == told_to.epoch && to.offset > told_to.offset;
            stay.told_to = Some(stay.told_to.filter(is_further).unwrap_or(told_to));
        }
    }

    fn is_in(&self, channel: &ChannelName, room: &Room, entry: &Entry, naming: Naming) -> Known {
        let stays = self.stays.get(channel).into_iter().flatten().filter(|stay| stay.joined.room == *room);
        let each: Vec<Known> = stays.map(|stay| stay.covers(entry, naming)).collect();
        let settled = match each.contains(&Known::Yes) {
            true => Known::Yes,
            false if each.contains(&Known::Either) => Known::Either,
            false => Known::No,
        };
        match self.changes_under_way(channel, room).all(|change| change.is_before(entry) == Known::No) {
            true => settled,
            false => Known::Either,
        }
    }

    /// Of an earlier epoch it is only known whether it can have been in the room at all.
    fn was_in(&self, channel: &ChannelName, room: &Room) -> Known {
        let was = self.stays.get(channel).is_some_and(|stays| stays.iter().any(|stay| stay.joined.room == *room));
        if was || self.changes_under_way(channel, room).next().is_some() { Known::Either } else { Known::No }
    }

    fn changes_under_way(&self, channel: &ChannelName, room: &Room) -> impl Iterator<Item = &Change> {
        self.changes_on(channel).filter(move |change| change.room == *room)
    }
}

impl PendingCommand {
    /// Of a command about rooms.
    pub(super) fn of_room(command: &RoomCommand, place: u64) -> Self {
        let (channel, room, joins) = match command {
            RoomCommand::Join { channel, room } => (channel, room, true),
            RoomCommand::Leave { channel, room } => (channel, room, false),
            RoomCommand::Answer { .. } => return PendingCommand::Other,
            RoomCommand::Publish { publish, .. } => {
                let (channel, data) = (publish.channel.clone(), publish.data.bytes().to_vec());
                return PendingCommand::Publish { channel, data };
            }
        };
        let change = Change { room: room.clone(), joins, place, given: None, answered: None };
        PendingCommand::Room { channel: channel.clone(), change }
    }
}

impl Checker {
    /// A shard is given a command.
    pub(crate) fn given(&mut self, pipe: usize, request: &Request, stores: &Stores) {
        let (Some(view), Some(RequestId::Number(id))) = (self.views.get_mut(&pipe), &request.id) else { return };
        if let Some((_, PendingCommand::Room { channel, change })) = view.pending.get_mut(id) {
            change.given = Some((stores.ledger.order, self.acknowledged.get(channel).copied()));
        }
    }

    /// A shard answers a command.
    pub(super) fn said_of_rooms(&mut self, pipe: usize, reply: &Reply, stores: &Stores) {
        let (Some(view), Some(RequestId::Number(id))) = (self.views.get_mut(&pipe), &reply.id) else { return };
        match (view.pending.get_mut(id), &reply.body) {
            (Some((_, PendingCommand::Room { change, .. })), _) => change.answered = Some(stores.ledger.order),
            (Some((_, PendingCommand::Publish { channel, .. })), ReplyBody::Published { position, .. }) => {
                let newest = self.acknowledged.entry(channel.clone()).or_insert(*position);
                if newest.epoch != position.epoch || newest.offset < position.offset {
                    *newest = *position;
                }
            }
            _ => {}
        }
    }

    /// A client has the answer to a join or a leave.
    pub(super) fn room_answered(
        &mut self,
        view: &mut View,
        channel: ChannelName,
        change: Change,
        body: &ReplyBody,
    ) -> Verdict {
        let stays = view.stays.entry(channel.clone()).or_default();
        let open = stays.iter_mut().find(|stay| stay.joined.room == change.room && stay.left.is_none());
        match (body, open) {
            (ReplyBody::Done, Some(open)) if !change.joins => {
                self.counts.rooms_left += 1;
                open.left = Some(change);
            }
            (ReplyBody::Done, None) if change.joins => {
                self.counts.rooms_joined += 1;
                stays.push(Stay { joined: change, left: None, again: 0, told_to: None });
                let open = stays.iter().filter(|stay| stay.left.is_none()).count();
                if open > self.rooms_max {
                    return Err(format!("rooms: {channel}: in {open} rooms, {} may be", self.rooms_max));
                }
            }
            (ReplyBody::Done, Some(open)) => open.again += 1,
            (ReplyBody::Done, None) => {}
            (ReplyBody::Error(error), _) if error.code == ErrorCode::LimitExceeded => {
                self.counts.rooms_refused += 1;
                // Those that it has left count until it has read everything from them, and joins of a room where it
                // is may count that long too.
                let known = stays.len() + stays.iter().map(|stay| stay.again).sum::<usize>();
                // It may be in more rooms than the judge knows, where it came back to them.
                if known < self.rooms_max && view.keeping.knows_rooms(&channel) {
                    return Err(format!("rooms: {channel}: refused after {known} stays, {} may be", self.rooms_max));
                }
            }
            (ReplyBody::Error(error), _) if error.code == ErrorCode::NotSubscribed => {
                if view.subs.contains_key(&channel) {
                    return Err(format!("promise 9: a room of {channel} is refused while subscribed: {error}"));
                }
            }
            (ReplyBody::Error(_), _) => {}
            (body, _) => return Err(format!("rooms: {change:?} was answered with {body:?}")),
        }
        Ok(())
    }
}
