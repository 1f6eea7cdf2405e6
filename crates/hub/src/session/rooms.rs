//! The rooms of a subscription: which publications with an audience of rooms it sees.
//!
//! In: joins and leaves, each with the place of the channel at which it takes effect. Out: for a publication at a
//! place, whether the subscription was in a room then. A stay in a room is an interval of the channel's log, so a live
//! copy and a page that is read later are judged alike. A stay that is over is kept as long as its subscription may
//! still read a publication from it. All stays together are bounded by `rooms_max`.

use super::pending::{Pending, ReplyTo};
use super::{Cx, Sessions};
use crate::error::{Error, ErrorCode};
use crate::ids::{Epoch, Position, Room, SessionRef};
use crate::message::{Audience, Publication, ReplyBody, RoomCommand};
use crate::name::ChannelName;
use crate::peer::ToHome;

/// A join or a leave that waits for its place.
#[derive(Debug)]
pub(crate) enum RoomChange {
    Join(Room),
    Leave(Room),
}

/// The stays of one subscription.
#[derive(Debug, Default)]
pub(crate) struct Rooms {
    /// The epoch of their offsets; `None` before the first one.
    epoch: Option<Epoch>,
    stays: Vec<Stay>,
}

/// In `room` for the publications after `joined_at` and up to `left_at`.
#[derive(Debug)]
struct Stay {
    room: Room,
    joined_at: u64,
    left_at: Option<u64>,
}

impl Rooms {
    /// Begins a stay after this place. False where there are too many.
    fn join(&mut self, room: Room, at: Position, stays_max: usize) -> bool {
        self.begin_epoch(at.epoch);
        if self.stays.iter().any(|stay| stay.room == room && stay.left_at.is_none()) {
            return true;
        }
        let has_room = self.stays.len() < stays_max;
        if has_room {
            self.stays.push(Stay { room, joined_at: at.offset, left_at: None });
        }
        has_room
    }

    /// Ends a stay at this place, which belongs to it.
    fn leave(&mut self, room: &Room, at: Position) {
        self.begin_epoch(at.epoch);
        if let Some(stay) = self.stays.iter_mut().find(|stay| stay.room == *room && stay.left_at.is_none()) {
            stay.left_at = Some(at.offset);
        }
    }

    /// Offsets of another epoch say nothing about this one: who is in a room is in it from the beginning.
    fn begin_epoch(&mut self, epoch: Epoch) {
        if self.epoch.replace(epoch).is_some_and(|earlier| earlier != epoch) {
            self.stays.retain(|stay| stay.left_at.is_none());
            self.stays.iter_mut().for_each(|stay| stay.joined_at = 0);
        }
    }

    /// Forgets the stays that ended at or before a place that the subscription has reached.
    fn forget(&mut self, reached: Position) {
        if self.epoch == Some(reached.epoch) {
            self.stays.retain(|stay| stay.left_at.is_none_or(|left_at| left_at > reached.offset));
        }
    }

    fn is_in(&self, room: &Room, at: Position) -> bool {
        let same_epoch = self.epoch == Some(at.epoch);
        self.stays.iter().filter(|stay| stay.room == *room).any(|stay| match same_epoch {
            true => stay.joined_at < at.offset && stay.left_at.is_none_or(|left_at| at.offset <= left_at),
            false => stay.left_at.is_none(),
        })
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
            RoomCommand::Join { channel, room } => (channel, RoomChange::Join(room)),
            RoomCommand::Leave { channel, room } => (channel, RoomChange::Leave(room)),
        };
        let edge = self.edges.find(&channel);
        let Some(session) = self.sessions.get(at) else { return Ok(()) };
        let Some(slot) = edge.and_then(|edge| session.sub_on(edge)) else {
            let message = format!("a room of {channel:?} needs a live subscription to it");
            return Err(Error::new(ErrorCode::NotSubscribed, message).on(&channel));
        };
        let sub = session.subs[slot].id;
        let token = self.pending.insert(Pending::Room { session: at, sub, reply: reply.clone(), change });
        self.tell_home(cx, &channel, ToHome::Mark { token });
        Ok(())
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
        let member = self.edges.edges[sub.edge as usize].member(sub.variant(wire), membership.place);
        let reached = Position { epoch: member.epoch, offset: member.at };
        let rooms = sub.rooms.get_or_insert_default();
        rooms.forget(reached);
        match change {
            RoomChange::Leave(room) => rooms.leave(&room, place),
            RoomChange::Join(room) => {
                let max = cx.limits.rooms_max;
                if !rooms.join(room, place, max) {
                    let message =
                        format!("this subscription is in as many rooms as the limit (rooms_max) allows: {max}");
                    return ReplyBody::Error(Error::new(ErrorCode::LimitExceeded, message).on(channel));
                }
            }
        }
        sub.rooms.take_if(|rooms| rooms.stays.is_empty());
        ReplyBody::Done
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

    #[test]
    fn a_stay_is_an_interval_of_the_log() {
        let mut rooms = Rooms::default();
        assert!(rooms.join(room("a"), at(3), 10));
        assert!(rooms.join(room("a"), at(5), 10), "it is there already");
        rooms.leave(&room("a"), at(7));
        assert!(rooms.join(room("a"), at(9), 10));
        rooms.leave(&room("b"), at(9));
        let seen: Vec<u64> = (0..12).filter(|&offset| rooms.is_in(&room("a"), at(offset))).collect();
        assert_eq!(seen, [4, 5, 6, 7, 10, 11]);
        rooms.forget(at(6));
        assert!(rooms.is_in(&room("a"), at(7)), "it may still be read");
        rooms.forget(at(7));
        assert_eq!(rooms.stays.len(), 1);
    }

    #[test]
    fn a_new_epoch_keeps_the_rooms_and_forgets_the_places() {
        let mut rooms = Rooms::default();
        rooms.join(room("a"), at(9), 10);
        rooms.join(room("b"), at(9), 10);
        rooms.leave(&room("b"), at(9));
        let next = |offset| Position { epoch: Epoch(2), offset };
        assert!(rooms.is_in(&room("a"), next(1)) && !rooms.is_in(&room("b"), next(1)));
        rooms.join(room("c"), next(4), 10);
        let is_in = |name| rooms.is_in(&room(name), next(2));
        assert!(is_in("a") && !is_in("b") && !is_in("c"));
    }

    #[test]
    fn stays_are_bounded_also_those_that_are_over() {
        let mut rooms = Rooms::default();
        for number in 0..3 {
            assert!(rooms.join(room(&number.to_string()), at(number), 3));
            rooms.leave(&room(&number.to_string()), at(number + 1));
        }
        assert!(!rooms.join(room("more"), at(9), 3));
        rooms.forget(at(9));
        assert!(rooms.join(room("more"), at(9), 3));
    }
}
