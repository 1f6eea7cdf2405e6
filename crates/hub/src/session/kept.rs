//! Subscriptions that are kept: what is known of one while its session has no connection, and where it goes on.
//!
//! In: places that a live subscription has reached when its client is pinged, and the client's answers. Out: for a
//! client that comes back with the last publication that it has had, the place from which it is to be told. Whatever
//! was sent before a ping that it has answered has arrived, and what it has missed without anything for it is read
//! once. So a client for which there was nothing for hours goes on from its last answer or return, and the log need not
//! reach back to its last publication. Rooms come along, with the stays that ended since that answer. A place that is
//! not known, a log that does not reach back, or another page with the same ticket is a new beginning.

use super::rooms::{RoomChange, Rooms};
use super::table::Session;
use super::{Cx, Sessions};
use crate::ids::{ConnId, Epoch, Position};
use crate::name::ChannelName;
use crate::page_id::PageId;
use crate::peer::{KeptStay, KeptSub, PendingToken};

/// What a subscription remembers so that it can be kept.
#[derive(Debug, Clone)]
pub(crate) struct Keeps {
    /// All that was for it up to here has arrived. (Epoch 0: it has not begun.)
    confirmed: Position,
    /// Where it was when its session lost the last connection: all that was sent lies before it.
    reached: Position,
    /// Where it was at a ping that is not answered. An answer to a ping from before it was live says nothing.
    pinged: Option<Pinged>,
    /// It began anew where its client wanted to go on, and the client may not know that.
    is_unheard: bool,
    /// The last publication that its client had when it asked. One that names another has heard the answer since.
    asked_with: Option<Position>,
    /// It is kept only where all others of its session are.
    pub(super) is_whole: bool,
    /// Its subscription is live, or was on this connection.
    pub(super) is_begun: bool,
    /// A stay that ended here was forgotten: from before this place nothing can be recovered.
    pub(super) forgotten: u64,
    /// Changes of rooms of which the home has not named the place yet, oldest first, and the question about each.
    pub(super) asked: Vec<(PendingToken, RoomChange)>,
}

/// A ping that waits for its answer.
#[derive(Debug, Clone, Copy)]
struct Pinged {
    /// All that was sent before it.
    at: Position,
    /// How many answers are still to come, its own included. A client that sends much and reads nothing is alive, so
    /// it gets several pings, and its next answer is for the oldest of them.
    answers: u16,
}

impl Keeps {
    /// It has not begun.
    pub(super) fn new() -> Self {
        Keeps::since(Position { epoch: Epoch(0), offset: 0 })
    }

    /// The same, asked for by a client with this last publication, which may not hear of the beginning (`is_unheard`).
    pub(super) fn asked_with(last: Option<Position>, is_unheard: bool) -> Self {
        Keeps { asked_with: last, is_unheard, ..Keeps::new() }
    }

    /// It begins here.
    pub(super) fn since(at: Position) -> Self {
        Keeps {
            confirmed: at,
            reached: at,
            pinged: None,
            is_unheard: false,
            asked_with: None,
            is_whole: false,
            is_begun: false,
            forgotten: 0,
            asked: Vec::new(),
        }
    }

    /// It begins, anew where its client wanted to go on (`is_unheard`). Until the client shows that it knows of that,
    /// it does not go on from here: the client would not learn that it has missed something.
    pub(super) fn begins(&self, at: Position, is_unheard: bool) -> Self {
        let Keeps { asked_with, is_whole, .. } = *self;
        Keeps { is_unheard: self.is_unheard || is_unheard, asked_with, is_whole, ..Keeps::since(at) }
    }

    /// An act at this place was done before the session lost its last connection.
    pub(super) fn has_done(&self, at: Position) -> bool {
        self.reached.epoch == at.epoch && at.offset <= self.reached.offset
    }

    /// The client is pinged here, and owes so many answers. A ping that waits already stays the one to be answered.
    fn pinged(&mut self, at: Position, answers: u16) {
        self.pinged.get_or_insert(Pinged { at, answers });
    }

    /// The client has answered a ping: if it was this one, the client has had everything up to there.
    fn answered(&mut self) {
        let Some(pinged) = &mut self.pinged else { return };
        pinged.answers = pinged.answers.saturating_sub(1);
        if pinged.answers == 0 {
            (self.confirmed, self.is_unheard) = (pinged.at, false);
            self.pinged = None;
        }
    }

    /// It goes on, and up to here nothing was for it, so that nothing can be lost on its way. A client that is cut
    /// again and again before it can answer a ping keeps up with a log in which little is for it.
    pub(super) fn read_in_vain(&mut self, up_to: Position) {
        self.confirmed = up_to;
    }

    /// Up to where everything has arrived, once it has begun.
    pub(super) fn confirmed(&self) -> Option<Position> {
        Some(self.confirmed).filter(|at| at.epoch != Epoch(0))
    }

    /// The place from which its client is to be told, where it has had the publication at `last`, or none.
    fn goes_on_from(&self, last: Option<Position>) -> Option<Position> {
        let confirmed = self.confirmed()?;
        let last = last.filter(|last| last.epoch == confirmed.epoch);
        // The same as when it asked says that it has had nothing since. It may be of an earlier session, which had got
        // further than the home said when this one began. If that one has been sent again since, the client may have
        // had it twice, or once: it would miss something, or get it once more.
        let is_old = last.is_some() && last == self.asked_with;
        let is_between = |last: Position| {
            confirmed.offset < last.offset && last.epoch == self.reached.epoch && last.offset <= self.reached.offset
        };
        if is_old && last.is_some_and(is_between) {
            return None;
        }
        let last = last.filter(|_| !is_old);
        if self.is_unheard && last.is_none() {
            return None;
        }
        let last = last.unwrap_or(confirmed);
        let from = Position { offset: confirmed.offset.max(last.offset), ..confirmed };
        // It cannot have had more than was sent.
        let was_sent = self.reached.epoch != from.epoch || from.offset <= self.reached.offset;
        (was_sent && from.offset >= self.forgotten).then_some(from)
    }
}

/// A subscription goes on where the client was: its rooms, and the place from which it is to be told. `None`: it begins
/// anew.
pub(super) fn back(kept: KeptSub, last: Option<Position>) -> Option<(Rooms, Position)> {
    let KeptSub { confirmed, reached, forgotten, is_unheard, asked_with, epoch, stays, .. } = kept;
    let keeps = Keeps { reached, forgotten, is_unheard, asked_with, ..Keeps::since(confirmed) };
    let from = keeps.goes_on_from(last)?;
    Some((Rooms::kept(epoch, stays, Keeps { confirmed: from, is_unheard: false, asked_with: last, ..keeps }), from))
}

impl Session {
    /// Its client comes back, or another page with its ticket. That page has had other publications, and knows of no
    /// rooms: nothing is kept for it.
    pub(super) fn comes_from(&mut self, page: Option<PageId>) {
        if self.page != page {
            self.extra.as_mut().into_iter().for_each(|extra| extra.kept.clear());
        }
        self.page = page;
    }

    /// It loses its connection: subscriptions that are kept only with all others are not, where one ends with it.
    pub(super) fn keep_whole(&mut self) {
        if self.subs.iter_mut().any(|sub| sub.keeps_mut().is_none()) {
            for rooms in self.subs.iter_mut().filter_map(|sub| sub.rooms.as_mut()) {
                rooms.keeps.take_if(|keeps| keeps.is_whole);
            }
        }
    }

    /// Takes out what was kept of a subscription.
    pub(super) fn take_kept(&mut self, channel: &ChannelName) -> Option<KeptSub> {
        let kept = &mut self.extra.as_mut()?.kept;
        let at = kept.iter().position(|kept| kept.channel == *channel)?;
        Some(kept.swap_remove(at))
    }
}

impl Sessions {
    /// The session loses its connection: what its subscription in this slot remembers is kept.
    pub(super) fn keep_sub(&mut self, cx: &Cx<'_>, index: u32, slot: usize) {
        let session = &mut self.sessions.slab[index as usize];
        let wire = session.wire;
        let sub = &mut session.subs[slot];
        let edge = &mut self.edges.edges[sub.edge as usize];
        let reached = sub.membership().map(|membership| edge.reached(sub.variant(wire), membership.place));
        let Some(rooms) = sub.rooms.as_ref() else { return };
        let Some(keeps) = &rooms.keeps else { return };
        // One that has not begun is kept only for what its client does not know.
        let Some(confirmed) = keeps.confirmed().or(keeps.is_unheard.then_some(keeps.confirmed)) else { return };
        // One that was not answered yet is kept as it was before.
        let reached = reached.unwrap_or(keeps.reached);
        let &Keeps { forgotten, is_unheard, asked_with, .. } = keeps;
        let channel = edge.name.clone();
        let known = edge.at.filter(|at| at.epoch == reached.epoch).map_or(reached.offset, |at| at.offset);
        let known = known.max(reached.offset);
        let (mut epoch, mut stays) = rooms.away(reached.epoch);
        // The answer to a join that is under way will find nobody: it takes effect behind all that is known here.
        for (_, change) in &keeps.asked {
            epoch.get_or_insert(reached.epoch);
            let (RoomChange::Join(room) | RoomChange::Leave(room) | RoomChange::LeaveByAct(room)) = change;
            let mut open = stays.iter_mut().filter(|stay| stay.room == *room && stay.left_at == u64::MAX).peekable();
            match change {
                RoomChange::Join(_) if open.peek().is_none() => {
                    drop(open);
                    // Else it would have been refused.
                    if stays.len() < cx.limits.rooms_max {
                        stays.push(KeptStay { room: room.clone(), joined_at: known, left_at: u64::MAX });
                    }
                }
                RoomChange::Join(_) => {}
                RoomChange::Leave(_) | RoomChange::LeaveByAct(_) => open.for_each(|stay| stay.left_at = known),
            }
        }
        let kept = KeptSub { channel, confirmed, reached, forgotten, is_unheard, asked_with, epoch, stays };
        session.extra().kept.push(kept);
    }

    /// The client of this connection is pinged: if it answers, it has had everything up to here.
    pub(super) fn note_places(&mut self, id: ConnId) {
        let Some(conn) = self.conn(id) else { return };
        conn.pongs_owed = conn.pongs_owed.saturating_add(1);
        let answers = conn.pongs_owed;
        self.each_keeping(id, |keeps, reached| keeps.pinged(reached, answers));
    }

    /// The client has answered a ping.
    pub(super) fn answered_ping(&mut self, cx: &mut Cx<'_>, id: ConnId) {
        if let Some(conn) = self.conn(id) {
            conn.pongs_owed = conn.pongs_owed.saturating_sub(1);
        }
        self.each_keeping(id, |keeps, _| keeps.answered());
        let sessions: Vec<u32> = self.conn(id).map(|conn| conn.sessions().collect()).unwrap_or_default();
        for index in sessions {
            for slot in 0..self.sessions.slab[index as usize].subs.len() {
                cx.slice.spend(1);
                let edge = self.sessions.slab[index as usize].subs[slot].edge;
                self.forget_stays(index, edge);
            }
        }
    }

    /// Does something for each live subscription that is kept: with its place.
    fn each_keeping(&mut self, id: ConnId, act: impl Fn(&mut Keeps, Position)) {
        let sessions: Vec<u32> = self.conn(id).map(|conn| conn.sessions().collect()).unwrap_or_default();
        for index in sessions {
            let session = &mut self.sessions.slab[index as usize];
            let wire = session.wire;
            for sub in &mut session.subs {
                let variant = sub.variant(wire);
                let Some(place) = sub.live().map(|live| live.place) else { continue };
                let reached = self.edges.edges[sub.edge as usize].reached(variant, place);
                if let Some(keeps) = sub.keeps_mut() {
                    act(keeps, reached);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u64) -> Position {
        Position { epoch: Epoch(1), offset }
    }

    #[test]
    fn a_client_goes_on_from_what_it_has_had_or_from_its_last_answer() {
        let keeps = Keeps { reached: at(20), asked_with: Some(at(30)), ..Keeps::since(at(10)) };
        let other = Position { epoch: Epoch(2), offset: 15 };
        let table = [
            ("nothing", None, Some(at(10))),
            ("before its last answer", Some(at(4)), Some(at(10))),
            ("since its last answer", Some(at(13)), Some(at(13))),
            ("all", Some(at(20)), Some(at(20))),
            ("what it had when it asked", Some(at(30)), Some(at(10))),
            ("more than there was", Some(at(21)), None),
            ("of another log", Some(other), Some(at(10))),
        ];
        for (name, last, expected) in table {
            assert_eq!(keeps.goes_on_from(last), expected, "{name}");
        }
        // What it had when it asked, and that was sent again since: did it arrive?
        let again = Keeps { asked_with: Some(at(20)), ..keeps.clone() };
        assert_eq!([Some(at(20)), Some(at(13))].map(|last| again.goes_on_from(last)), [None, Some(at(13))]);
        let arrived = Keeps { confirmed: at(20), reached: at(22), ..again };
        assert_eq!(arrived.goes_on_from(Some(at(20))), Some(at(20)));
        let forgets = Keeps { forgotten: 12, ..keeps.clone() };
        assert_eq!((forgets.goes_on_from(None), forgets.goes_on_from(Some(at(12)))), (None, Some(at(12))));
        assert_eq!(Keeps::new().goes_on_from(None), None);
        for (before, expected) in [
            (None, [None, Some(at(10)), None, Some(at(11))]),
            (Some(at(4)), [None, None, None, Some(at(11))]),
            (Some(other), [None, Some(at(10)), None, Some(at(11))]),
        ] {
            let unheard = Keeps { reached: at(20), ..Keeps::asked_with(before, true).begins(at(10), false) };
            let from = [None, Some(at(4)), Some(other), Some(at(11))].map(|last| unheard.goes_on_from(last));
            assert_eq!(from, expected, "it had {before:?}, and has had something since or not");
        }
    }
}
