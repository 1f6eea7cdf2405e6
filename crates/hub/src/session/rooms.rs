//! The rooms of a subscription: which publications with an audience of rooms it sees.
//!
//! In: joins and leaves, each with the place of the channel at which it takes effect. Out: for a publication at a
//! place, whether the subscription was in a room then. A stay in a room is an interval of the channel's log, so a live
//! copy and a page that is read later are judged alike. A stay that is over is kept as long as its subscription may
//! still read a publication from it, also after a recovery (`session/kept.rs`). The stays of an epoch are bounded by
//! `rooms_max`. As long as there is a stay in a room, the session is in the list of that room on its edge
//! (`edge/rooms.rs`).

use super::kept::Keeps;
use super::pending::{Pending, ReplyTo};
use super::table::Sub;
use super::{Cx, Sessions};
use crate::edge::rooms::RoomPlace;
use crate::error::{Error, ErrorCode};
use crate::ids::{Epoch, Position, Room, SessionRef};
use crate::message::{Audience, Publication, ReplyBody, RoomCommand};
use crate::name::ChannelName;
use crate::peer::{KeptStay, PendingToken, ToHome};
use smallvec::SmallVec;

/// A join or a leave that waits for its place.
#[derive(Debug, Clone)]
pub(crate) enum RoomChange {
    Join(Room),
    Leave(Room),
    /// By an entry of the log. It may be done later than a join behind it.
    LeaveByAct(Room),
}

/// The stays of one subscription.
#[derive(Debug, Default)]
pub(crate) struct Rooms {
    /// The epoch of their offsets; `None` before the first one.
    epoch: Option<Epoch>,
    stays: Vec<Stay>,
    /// The stays as they were when another epoch began, until the subscription has reached that.
    earlier: Option<Box<Earlier>>,
    /// Its edge will look at it when all that waits there has been told.
    is_looked_at_later: bool,
    /// Some of the stays may be second ones in their rooms.
    joined_again: bool,
    /// Where the subscription is kept while its session is away.
    pub(super) keeps: Option<Keeps>,
}

/// Stays in an epoch that is over.
#[derive(Debug)]
struct Earlier {
    epoch: Epoch,
    stays: Vec<Stay>,
}

/// In `at.room` for the publications after `joined_at` and up to `left_at`.
#[derive(Debug, Clone)]
struct Stay {
    at: RoomPlace,
    joined_at: u64,
    /// [`OPEN`] until it ends. (An `Option` would cost eight bytes for each.)
    left_at: u64,
}

const OPEN: u64 = u64::MAX;
/// The place in the list of a room of a stay that is over, and kept for a recovery only.
const UNLISTED: u32 = u32::MAX;

impl Stay {
    fn is_listed(&self) -> bool {
        self.at.place != UNLISTED
    }

    fn is_open(&self) -> bool {
        self.left_at == OPEN
    }

    fn has(&self, offset: u64) -> bool {
        self.joined_at < offset && offset <= self.left_at
    }
}

/// The rooms of whose lists the session is to be taken out.
type Gone = SmallVec<[RoomPlace; 2]>;

impl Rooms {
    /// Begins a stay after this place, where the subscription has `reached` another. `add` puts it in the room's list.
    /// False where there are too many.
    fn join(&mut self, room: Room, at: Position, stays_max: usize, add: impl FnOnce(Room) -> RoomPlace) -> bool {
        if self.stays.iter().any(|stay| stay.at.room == room && stay.is_open()) {
            return true;
        }
        // Those of an earlier epoch are the same rooms once more.
        if !self.has_room(stays_max) {
            self.give_way();
        }
        let has_room = self.has_room(stays_max);
        if has_room {
            let listed = self.all().find(|stay| stay.is_listed() && stay.at.room == room).map(|stay| stay.at.clone());
            let at_room = listed.unwrap_or_else(|| add(room));
            self.stays.push(Stay { at: at_room, joined_at: at.offset, left_at: OPEN });
        }
        has_room
    }

    /// Notes that it is joined once more at this place, where an entry before it may still take it out: then it is in
    /// from here on.
    fn join_again(&mut self, room: &Room, at: Position) {
        let (mut open, mut count) = (None, 0);
        for (index, stay) in self.stays.iter().enumerate() {
            if stay.at.room == *room && stay.is_open() {
                (open, count) = (Some(index), count + 1);
            }
        }
        let Some(last) = open.filter(|&last| self.stays[last].joined_at < at.offset) else { return };
        if count > 1 {
            self.stays[last].joined_at = at.offset;
        } else {
            self.joined_again = true;
            self.stays.push(Stay { joined_at: at.offset, ..self.stays[last].clone() });
        }
    }

    /// Whether it may enter another room. A second open stay in a room that it has joined once more does not count. So
    /// there are at most twice as many stays as the limit says.
    fn has_room(&mut self, stays_max: usize) -> bool {
        if self.stays.len() < stays_max || !self.joined_again {
            return self.stays.len() < stays_max;
        }
        let mut open: Vec<&Room> = self.open().collect();
        let all = open.len();
        open.sort_unstable();
        open.dedup();
        let again = all - open.len();
        self.joined_again = again > 0;
        self.stays.len() - again < stays_max
    }

    /// Ends a stay at this place, which belongs to it.
    fn leave(&mut self, room: &Room, at: Position) {
        self.end(room, at, |_| true);
    }

    /// The same by an entry of the log at this place: a stay that began there or later began behind it.
    fn leave_by_act(&mut self, room: &Room, at: Position) {
        self.end(room, at, |stay| stay.joined_at < at.offset);
    }

    fn end(&mut self, room: &Room, at: Position, ends: impl Fn(&Stay) -> bool) {
        for stay in self.stays.iter_mut().filter(|stay| stay.at.room == *room && stay.is_open() && ends(stay)) {
            stay.left_at = at.offset;
        }
    }

    /// Offsets of another epoch say nothing about this one: a stay that goes on begins with the epoch. Entries of the
    /// epoch before that the subscription still reads are judged by the stays in that one.
    fn begin_epoch(&mut self, epoch: Epoch, reached: Position, gone: &mut Gone) {
        let Some(before) = self.epoch.replace(epoch).filter(|before| *before != epoch) else { return };
        if reached.epoch == before && !self.stays.is_empty() {
            self.earlier = Some(Box::new(Earlier { epoch: before, stays: self.stays.clone() }));
        }
        self.keep(Stay::is_open, gone);
        self.stays.iter_mut().for_each(|stay| stay.joined_at = 0);
    }

    /// Forgets the stays that ended at or before a place that the subscription has reached.
    fn forget(&mut self, reached: Position, gone: &mut Gone) {
        if self.epoch != Some(reached.epoch) {
            return;
        }
        let earlier = self.earlier.take();
        let confirmed = self.keeps.as_ref().and_then(Keeps::confirmed).filter(|at| at.epoch == reached.epoch);
        // Messages after the last sign of life may be lost on their way, and are then recovered.
        if let Some(confirmed) = confirmed {
            for at in 0..self.stays.len() {
                let stay = &mut self.stays[at];
                if stay.is_listed() && stay.left_at <= reached.offset && stay.left_at > confirmed.offset {
                    let unlisted = RoomPlace { place: UNLISTED, ..stay.at.clone() };
                    let listed = Stay { at: std::mem::replace(&mut stay.at, unlisted), ..stay.clone() };
                    self.unlist(listed, gone);
                }
            }
        }
        let needed = confirmed.unwrap_or(reached).offset;
        self.keep(|stay| stay.left_at > needed, gone);
        for stay in earlier.into_iter().flat_map(|earlier| earlier.stays) {
            self.unlist(stay, gone);
        }
    }

    /// Forgets the oldest of the stays that are kept for a recovery only. A recovery from before its end is none.
    fn give_way(&mut self) {
        let unlisted = self.stays.iter().enumerate().filter(|(_, stay)| !stay.is_listed());
        let oldest = unlisted.min_by_key(|(_, stay)| stay.left_at).map(|(at, _)| at);
        if let (Some(at), Some(keeps)) = (oldest, &mut self.keeps) {
            keeps.forgotten = keeps.forgotten.max(self.stays.remove(at).left_at);
        }
    }

    /// Keeps only some of the stays.
    fn keep(&mut self, keep: impl Fn(&Stay) -> bool, gone: &mut Gone) {
        if self.stays.iter().all(&keep) {
            return;
        }
        let (kept, over) = std::mem::take(&mut self.stays).into_iter().partition(keep);
        self.stays = kept;
        over.into_iter().for_each(|stay: Stay| self.unlist(stay, gone));
    }

    /// A stay was forgotten: it may have been the last one in its room.
    fn unlist(&self, stay: Stay, gone: &mut Gone) {
        let has_other = self.all().any(|other| other.is_listed() && other.at.room == stay.at.room);
        if stay.is_listed() && !has_other && !gone.contains(&stay.at) {
            gone.push(stay.at);
        }
    }

    /// The rooms that it is in now, in the order in which it entered them.
    pub(super) fn open(&self) -> impl Iterator<Item = &Room> {
        self.stays.iter().filter(|stay| stay.is_open()).map(|stay| &stay.at.room)
    }

    fn all(&self) -> impl Iterator<Item = &Stay> {
        self.stays.iter().chain(self.earlier.iter().flat_map(|earlier| &earlier.stays))
    }

    fn is_empty(&self) -> bool {
        self.all().next().is_none() && self.keeps.is_none()
    }

    /// True where it is in lists only for what its subscription has not reached.
    fn waits(&self) -> bool {
        self.earlier.is_some() || self.stays.iter().any(|stay| stay.is_listed() && !stay.is_open())
    }

    /// True where it is in lists for what its edge has not had.
    fn waits_beyond(&self, at: Position) -> bool {
        let ends_later = |stay: &Stay| stay.is_listed() && !stay.is_open() && stay.left_at > at.offset;
        self.epoch == Some(at.epoch) && self.stays.iter().any(ends_later)
    }

    /// True where its edge is to look at it when all that waits there has been told: it will not by itself.
    pub(super) fn asks_for_look(&mut self) -> bool {
        self.waits() && !std::mem::replace(&mut self.is_looked_at_later, true)
    }

    /// True where some of it is kept only for what its subscription has not reached, or may have to be told again.
    fn has_past(&self) -> bool {
        self.earlier.is_some() || self.stays.iter().any(|stay| !stay.is_open())
    }

    /// The stays, for the time in which its session has no connection, of a subscription that has reached this epoch.
    pub(super) fn away(&self, reached: Epoch) -> (Option<Epoch>, Vec<KeptStay>) {
        let kept =
            |stay: &Stay| KeptStay { room: stay.at.room.clone(), joined_at: stay.joined_at, left_at: stay.left_at };
        if self.earlier.is_some() || self.epoch.is_none_or(|epoch| epoch == reached) {
            return (self.epoch, self.stays.iter().map(kept).collect());
        }
        // It has not changed rooms since the epoch began.
        let open = self.stays.iter().filter(|stay| stay.is_open()).map(|stay| KeptStay { joined_at: 0, ..kept(stay) });
        (Some(reached), open.collect())
    }

    /// The same stays again, in no list.
    pub(super) fn kept(epoch: Option<Epoch>, stays: Vec<KeptStay>, keeps: Keeps) -> Rooms {
        let back = |KeptStay { room, joined_at, left_at }| Stay {
            at: RoomPlace { room, place: UNLISTED },
            joined_at,
            left_at,
        };
        let stays = stays.into_iter().map(back).collect();
        Rooms { epoch, stays, keeps: Some(keeps), joined_again: true, ..Rooms::default() }
    }

    /// The rooms in which it is now, in the order in which it entered them.
    pub(super) fn now_in(&self) -> Vec<Room> {
        self.stays.iter().filter(|stay| stay.is_open()).map(|stay| stay.at.room.clone()).collect()
    }

    /// Its session goes on, and the home has told everything up to `top`: the stays that last are listed again. One
    /// that is over may end beyond that, behind publications that the home has still to read.
    pub(super) fn back(&mut self, top: Position, mut add: impl FnMut(Room) -> RoomPlace) {
        let lasts = |stay: &Stay| stay.is_open() || self.epoch == Some(top.epoch) && stay.left_at > top.offset;
        for index in (0..self.stays.len()).filter(|&index| lasts(&self.stays[index])).collect::<Vec<_>>() {
            let (before, rest) = self.stays.split_at_mut(index);
            let stay = &mut rest[0];
            // One that joined twice has two open stays, and one place in the list.
            let listed = before.iter().find(|other| other.is_listed() && other.at.room == stay.at.room);
            stay.at = listed.map_or_else(|| add(stay.at.room.clone()), |other| other.at.clone());
        }
    }

    /// Its session begins anew: it is in no room.
    pub(super) fn begin_anew(&mut self, at: Position, is_unheard: bool) {
        let keeps = self.keeps.take().unwrap_or_else(Keeps::new);
        *self = Rooms { keeps: Some(keeps.begins(at, is_unheard)), ..Rooms::default() };
    }

    /// It is kept, and its subscription begins on this connection. False where it has begun here before: then it goes
    /// on in its rooms.
    pub(super) fn begins_here(&self) -> bool {
        self.keeps.as_ref().is_some_and(|keeps| !keeps.is_begun)
    }

    /// Its subscription has begun on this connection.
    pub(super) fn has_begun(&mut self) {
        if let Some(keeps) = &mut self.keeps {
            keeps.is_begun = true;
        }
    }

    /// It has another place in the list of a room.
    fn moved(&mut self, RoomPlace { room, place }: &RoomPlace) {
        let earlier = self.earlier.iter_mut().flat_map(|earlier| &mut earlier.stays);
        let stays = self.stays.iter_mut().chain(earlier);
        for stay in stays.filter(|stay| stay.is_listed() && stay.at.room == *room) {
            stay.at.place = *place;
        }
    }

    /// All lists that it is in.
    fn into_places(mut self) -> Vec<RoomPlace> {
        let earlier = self.earlier.take().into_iter().flat_map(|earlier| earlier.stays);
        let listed = self.stays.into_iter().chain(earlier).filter(Stay::is_listed);
        let mut places: Vec<RoomPlace> = listed.map(|stay| stay.at).collect();
        places.sort_by(|one, other| one.room.cmp(&other.room));
        places.dedup();
        places
    }

    fn is_in(&self, room: &Room, at: Position) -> bool {
        let of_room = |stay: &&Stay| stay.at.room == *room;
        match &self.earlier {
            _ if self.epoch == Some(at.epoch) => self.stays.iter().filter(of_room).any(|stay| stay.has(at.offset)),
            Some(earlier) if earlier.epoch == at.epoch => {
                earlier.stays.iter().filter(of_room).any(|stay| stay.has(at.offset))
            }
            _ => self.stays.iter().filter(of_room).any(Stay::is_open),
        }
    }
}

/// Whether a subscription with these rooms (or none) sees a publication of this epoch, as far as rooms say.
pub(crate) fn sees(rooms: Option<&Rooms>, epoch: Epoch, publication: &Publication) -> bool {
    let Some(Audience { rooms: wanted, except_rooms, .. }) = publication.audience.as_deref() else { return true };
    let at = Position { epoch, offset: publication.offset };
    let is_in = |room: &Room| rooms.is_some_and(|rooms| rooms.is_in(room, at));
    (wanted.is_empty() || wanted.iter().any(is_in)) && !except_rooms.iter().any(is_in)
}

impl Sessions {
    pub(super) fn room_command(
        &mut self,
        cx: &mut Cx<'_>,
        at: SessionRef,
        reply: &ReplyTo,
        command: RoomCommand,
    ) -> Result<(), Error> {
        let (channel, change) = match command {
            RoomCommand::Publish { publish, audience } => {
                return self.publish_to(cx, at, reply, publish, Box::new(audience));
            }
            RoomCommand::Answer { id, data, .. } => {
                self.answers(cx, at, id, data);
                self.finish(cx, at, reply.clone(), ReplyBody::Done);
                return Ok(());
            }
            RoomCommand::Join { channel, room } => (channel, RoomChange::Join(room)),
            RoomCommand::Leave { channel, room } => (channel, RoomChange::Leave(room)),
        };
        let edge = self.edges.find(&channel);
        let Some(session) = self.sessions.get(at) else { return Ok(()) };
        let Some(slot) = edge.and_then(|edge| session.sub_on(edge)) else {
            let message = format!("a room of {channel:?} needs a live subscription to it");
            return Err(Error::new(ErrorCode::NotSubscribed, message).on(&channel));
        };
        let (sub, asked) = (session.subs[slot].id, change.clone());
        let token = self.pending.insert(Pending::Room { session: at, sub, reply: reply.clone(), change });
        if let Some(keeps) = session.subs[slot].keeps_mut() {
            keeps.asked.push((token, asked));
        }
        self.tell_home(cx, &channel, ToHome::Mark { token });
        Ok(())
    }

    /// The home has answered a question about a change of rooms. One that it refuses at once overtakes others, which
    /// wait for the store.
    pub(super) fn room_answered(&mut self, at: SessionRef, token: PendingToken) {
        let Some(session) = self.sessions.get(at) else { return };
        // The subscription may have begun anew meanwhile, and has another id.
        for keeps in session.subs.iter_mut().filter_map(Sub::keeps_mut) {
            keeps.asked.retain(|(asked, _)| *asked != token);
        }
    }

    /// The home has named the place at which a change of rooms takes effect.
    pub(super) fn room_changed(
        &mut self,
        cx: &mut Cx<'_>,
        channel: &ChannelName,
        (at, sub): (SessionRef, u32),
        change: RoomChange,
        place: Position,
    ) -> ReplyBody {
        let gone = || {
            let message = "the subscription ended before this was done";
            ReplyBody::Error(Error::new(ErrorCode::Unavailable, message).on(channel))
        };
        let Some(session) = self.sessions.get(at) else { return gone() };
        let wire = session.wire;
        let Some(sub) = session.subs.iter_mut().find(|it| it.id == sub) else { return gone() };
        let Some(membership) = sub.membership() else { return gone() };
        let (index, hasher) = (sub.edge, self.edges.hasher());
        let edge = &mut self.edges.edges[index as usize];
        let reached = edge.reached(sub.variant(wire), membership.place);
        // Entries before this place may still have to be done.
        let is_late = !edge.is_quiet();
        let listed = edge.rooms_or_insert(hasher);
        let rooms = sub.rooms.get_or_insert_default();
        let mut gone = Gone::new();
        rooms.begin_epoch(place.epoch, reached, &mut gone);
        rooms.forget(reached, &mut gone);
        let max = cx.limits.rooms_max;
        let is_done = match change {
            RoomChange::Leave(room) => {
                rooms.leave(&room, place);
                rooms.forget(reached, &mut gone);
                true
            }
            RoomChange::LeaveByAct(room) => {
                rooms.leave_by_act(&room, place);
                rooms.forget(reached, &mut gone);
                true
            }
            RoomChange::Join(room) if is_late && rooms.open().any(|open| *open == room) => {
                rooms.join_again(&room, place);
                true
            }
            // A stay there that has just been forgotten may still be in the list.
            RoomChange::Join(room) => rooms.join(room, place, max, |room| {
                let listed_at = gone.iter().position(|gone| gone.room == room);
                listed_at.map_or_else(|| listed.add(room, at.index), |listed_at| gone.swap_remove(listed_at))
            }),
        };
        if rooms.asks_for_look() {
            listed.look_later(at.index);
        }
        sub.rooms.take_if(|rooms| rooms.is_empty());
        self.leave_rooms(index, gone);
        if is_done {
            return ReplyBody::Done;
        }
        let message = format!("this subscription is in as many rooms as the limit (rooms_max) allows: {max}");
        ReplyBody::Error(Error::new(ErrorCode::LimitExceeded, message).by_limit("rooms_max").on(channel))
    }

    /// All that waited on an edge has been told: the stays that were kept for it are forgotten. The home may have named
    /// places that it has not reached: a stay that ends there is looked at again.
    pub(super) fn look_at_leaving(&mut self, edge: u32) {
        let at = self.edges.edges[edge as usize].at;
        let Some(rooms) = self.edges.edges[edge as usize].rooms() else { return };
        for session in rooms.take_leaving() {
            if let Some(rooms) = self.rooms_on(session, edge) {
                rooms.is_looked_at_later = false;
            }
            self.forget_stays(session, edge);
            let waits_beyond = |rooms: &mut Rooms| at.is_some_and(|at| rooms.waits_beyond(at)) && rooms.asks_for_look();
            if self.rooms_on(session, edge).is_some_and(waits_beyond)
                && let Some(rooms) = self.edges.edges[edge as usize].rooms()
            {
                rooms.look_later(session);
            }
        }
    }

    fn rooms_on(&mut self, session: u32, edge: u32) -> Option<&mut Rooms> {
        let session = self.sessions.slab.get_mut(session as usize)?;
        let slot = session.sub_on(edge)?;
        session.subs[slot].rooms.as_deref_mut()
    }

    /// A session has got further on an edge: stays that ended before that are forgotten.
    pub(super) fn forget_stays(&mut self, session: u32, edge: u32) {
        if self.rooms_on(session, edge).is_none_or(|rooms| !rooms.has_past()) {
            return;
        }
        let session = &mut self.sessions.slab[session as usize];
        let (Some(slot), wire) = (session.sub_on(edge), session.wire) else { return };
        let sub = &mut session.subs[slot];
        let Some(place) = sub.membership().map(|membership| membership.place) else { return };
        let reached = self.edges.edges[edge as usize].reached(sub.variant(wire), place);
        let mut gone = Gone::new();
        if let Some(rooms) = &mut sub.rooms {
            rooms.forget(reached, &mut gone);
        }
        sub.rooms.take_if(|rooms| rooms.is_empty());
        self.leave_rooms(edge, gone);
    }

    /// The subscription with these rooms has ended.
    pub(super) fn end_stays(&mut self, edge: u32, rooms: Rooms) {
        self.leave_rooms(edge, rooms.into_places());
    }

    /// A session is out of these rooms of an edge.
    fn leave_rooms(&mut self, edge: u32, gone: impl IntoIterator<Item = RoomPlace>) {
        for at in gone {
            let Some(rooms) = self.edges.edges[edge as usize].rooms() else { return };
            if let Some(moved) = rooms.remove(&at).and_then(|session| self.rooms_on(session, edge)) {
                moved.moved(&at);
            }
        }
        self.edges.edges[edge as usize].tidy();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u64) -> Position {
        Position { epoch: Epoch(1), offset }
    }

    fn room(name: &str) -> Room {
        Room::new(name).expect("a short name")
    }

    fn join(rooms: &mut Rooms, name: &str, place: Position, reached: Position, max: usize) -> bool {
        rooms.begin_epoch(place.epoch, reached, &mut Gone::new());
        rooms.join(room(name), place, max, |room| RoomPlace { room, place: 0 })
    }

    fn forget(rooms: &mut Rooms, reached: Position) -> Vec<String> {
        let mut gone = Gone::new();
        rooms.forget(reached, &mut gone);
        gone.iter().map(|gone| gone.room.as_str().to_owned()).collect()
    }

    fn seen(rooms: &Rooms, name: &str, epoch: u64) -> Vec<u64> {
        (0..12).filter(|&offset| rooms.is_in(&room(name), Position { epoch: Epoch(epoch), offset })).collect()
    }

    #[test]
    fn a_stay_is_an_interval_of_the_log() {
        let mut rooms = Rooms::default();
        assert!(join(&mut rooms, "a", at(3), at(3), 10));
        assert!(join(&mut rooms, "a", at(5), at(3), 10), "it is there already");
        rooms.leave(&room("a"), at(7));
        assert!(join(&mut rooms, "a", at(9), at(3), 10));
        rooms.leave(&room("b"), at(9));
        assert_eq!(seen(&rooms, "a", 1), [4, 5, 6, 7, 10, 11]);
        forget(&mut rooms, at(6));
        assert!(rooms.is_in(&room("a"), at(7)), "it may still be read");
        assert!(forget(&mut rooms, at(7)).is_empty(), "it is there again");
        assert_eq!(rooms.stays.len(), 1);
        rooms.leave(&room("a"), at(11));
        assert!(rooms.has_past());
        assert_eq!(forget(&mut rooms, at(11)), ["a"]);
        assert!(rooms.is_empty());
    }

    #[test]
    fn a_new_epoch_keeps_the_rooms_and_forgets_the_places() {
        let mut rooms = Rooms::default();
        join(&mut rooms, "a", at(9), at(9), 10);
        join(&mut rooms, "b", at(9), at(9), 10);
        rooms.leave(&room("b"), at(9));
        let next = |offset| Position { epoch: Epoch(2), offset };
        assert!(rooms.is_in(&room("a"), next(1)) && !rooms.is_in(&room("b"), next(1)));
        join(&mut rooms, "c", next(4), next(4), 10);
        let is_in = |name| rooms.is_in(&room(name), next(2));
        assert!(is_in("a") && !is_in("b") && !is_in("c"));
    }

    /// The subscription reads the rest of the epoch before when it is told of a join in the next one.
    #[test]
    fn the_rest_of_an_epoch_is_judged_by_the_stays_in_it() {
        let mut rooms = Rooms::default();
        join(&mut rooms, "a", at(2), at(2), 10);
        join(&mut rooms, "b", at(2), at(2), 10);
        rooms.leave(&room("b"), at(4));
        let next = |offset| Position { epoch: Epoch(2), offset };
        join(&mut rooms, "c", next(6), at(3), 10);
        assert_eq!(seen(&rooms, "a", 1), [3, 4, 5, 6, 7, 8, 9, 10, 11]);
        assert_eq!((seen(&rooms, "b", 1), seen(&rooms, "c", 1)), (vec![3, 4], vec![]));
        assert_eq!(seen(&rooms, "a", 2), (1..12).collect::<Vec<_>>());
        assert_eq!((seen(&rooms, "b", 2), seen(&rooms, "c", 2)), (vec![], vec![7, 8, 9, 10, 11]));
        assert!(forget(&mut rooms, at(9)).is_empty(), "it is still in the epoch before");
        assert_eq!(forget(&mut rooms, next(1)), ["b"]);
        assert!(!rooms.has_past());
    }

    /// A room's list has a session once: otherwise the last of its places would be that of another session.
    #[test]
    fn who_comes_back_after_joining_twice_is_listed_once() {
        let mut rooms = Rooms::default();
        join(&mut rooms, "a", at(1), at(1), 10);
        rooms.join_again(&room("a"), at(3));
        join(&mut rooms, "b", at(3), at(3), 10);
        let mut added = Vec::new();
        rooms.stays.iter_mut().for_each(|stay| stay.at.place = UNLISTED);
        rooms.back(at(9), |room| {
            added.push(room.as_str().to_owned());
            RoomPlace { room, place: 7 }
        });
        assert_eq!((rooms.stays.len(), added), (3, vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(rooms.into_places().len(), 2);
    }

    #[test]
    fn stays_are_bounded_also_those_that_are_over() {
        let mut rooms = Rooms::default();
        for number in 0..3 {
            assert!(join(&mut rooms, &number.to_string(), at(number), at(0), 3));
            rooms.leave(&room(&number.to_string()), at(number + 1));
        }
        assert!(!join(&mut rooms, "more", at(9), at(0), 3));
        forget(&mut rooms, at(9));
        assert!(join(&mut rooms, "more", at(9), at(0), 3));
    }

    /// A room that is joined once more while a fan-out is under way is one room, and the join counts at the limit too.
    #[test]
    fn joining_again_takes_no_room() {
        let mut rooms = Rooms::default();
        assert!(join(&mut rooms, "a", at(1), at(1), 2));
        rooms.join_again(&room("a"), at(3));
        assert!(join(&mut rooms, "b", at(3), at(3), 2), "it is in one room");
        rooms.join_again(&room("b"), at(5));
        assert!(!join(&mut rooms, "c", at(6), at(3), 2), "it is in two");
        assert_eq!(rooms.stays.len(), 4);
        rooms.leave_by_act(&room("b"), at(4));
        assert_eq!(seen(&rooms, "b", 1), [4, 6, 7, 8, 9, 10, 11], "it joined behind that");
        rooms.leave(&room("a"), at(7));
        forget(&mut rooms, at(7));
        assert!(join(&mut rooms, "c", at(8), at(7), 2));
    }

    #[test]
    fn stays_that_are_kept_for_an_earlier_epoch_take_no_room() {
        let mut rooms = Rooms::default();
        join(&mut rooms, "a", at(2), at(2), 2);
        let next = |offset| Position { epoch: Epoch(2), offset };
        assert!(join(&mut rooms, "b", next(1), at(2), 2), "it is in one room");
        assert!(!join(&mut rooms, "c", next(1), at(2), 2));
    }

    /// Else a change that is under way at the cut would have its place in the epoch before.
    #[test]
    fn who_loses_its_connection_takes_the_stays_of_its_epoch_along() {
        let mut rooms = Rooms::default();
        join(&mut rooms, "a", at(3), at(3), 10);
        join(&mut rooms, "b", at(4), at(3), 10);
        rooms.leave(&room("b"), at(7));
        let away = |rooms: &Rooms, epoch| {
            let (epoch, stays) = rooms.away(Epoch(epoch));
            let stays = stays.iter().map(|stay| (stay.room.as_str().to_owned(), stay.joined_at, stay.left_at));
            (epoch, stays.collect::<Vec<_>>())
        };
        let [a, b] = ["a", "b"].map(str::to_owned);
        assert_eq!(away(&rooms, 1), (Some(Epoch(1)), vec![(a.clone(), 3, OPEN), (b, 4, 7)]));
        assert_eq!(away(&rooms, 2), (Some(Epoch(2)), vec![(a, 0, OPEN)]), "it has reached the next epoch");
        assert_eq!(away(&Rooms::default(), 2), (None, vec![]));
    }

    #[test]
    fn a_stay_is_small() {
        assert!(size_of::<Stay>() <= 40, "{} bytes", size_of::<Stay>());
    }
}
