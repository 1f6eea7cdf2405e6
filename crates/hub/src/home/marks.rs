//! Places in the order of a channel at which something takes effect, as a join or a leave of a room.
//!
//! In: a question for a place, between publications of the same connection. Out: a place behind all that came before it
//! and before all that came after it, told before anything behind it is delivered. A store may answer late: then the
//! question waits for the appends before it, until the store answers one after it. Where the store answers these out of
//! order, a publication whose answer is overtaken may be taken for an earlier one. A store that answers in place needs
//! none of this.

use super::{Cx, HomeRef, Homes};
use crate::ids::{Epoch, OpToken, Position};
use crate::message::Publication;
use crate::peer::{ReplyAddress, ToEdge};
use std::collections::{BTreeSet, VecDeque};

#[derive(Debug)]
pub(super) struct Marks {
    /// Appends that the store has not answered, and whose time is not over.
    appends: BTreeSet<OpToken>,
    /// In order. As many as there are commands without an answer.
    waiting: VecDeque<Mark>,
    /// The newest place that the store has named.
    newest: Position,
}

impl Marks {
    fn new(newest: Position) -> Self {
        Marks { appends: BTreeSet::new(), waiting: VecDeque::new(), newest }
    }

    /// The home has reached all that the store has named.
    fn is_idle_at(&self, top: Position) -> bool {
        self.appends.is_empty() && self.waiting.is_empty() && newer(self.newest, top) == top
    }

    /// The next question that waits for no append any more.
    fn next(&mut self) -> Option<Mark> {
        let first = self.appends.first();
        self.waiting.pop_front_if(|mark| first.is_none_or(|first| *first > mark.token))
    }
}

/// A question for a place that waits for appends before it.
#[derive(Debug)]
struct Mark {
    /// The number of the operation that would have come next.
    token: OpToken,
    to: ReplyAddress,
    /// The newest place of all that came before it, so far.
    place: Position,
}

/// The newer of two places; of two epochs it is the second that counts.
fn newer(one: Position, other: Position) -> Position {
    if one.epoch == other.epoch && one.offset > other.offset { one } else { other }
}

impl Homes {
    pub(super) fn mark(&mut self, cx: &mut Cx<'_>, index: u32, to: ReplyAddress) {
        let home = &mut self.homes[index as usize];
        let (top, at) = (home.top(), HomeRef { index, life: home.life });
        let mut place = top;
        if let Some(marks) = self.marks.get_mut(&at) {
            place = newer(marks.newest, top);
            if !marks.appends.is_empty() {
                home.pending += 1;
                return marks.waiting.push_back(Mark { token: self.ops.next(), to, place });
            }
            if marks.is_idle_at(top) {
                self.marks.remove(&at);
            }
        }
        self.marked(cx, index, to, place);
    }

    fn marked(&mut self, cx: &mut Cx<'_>, index: u32, to: ReplyAddress, place: Position) {
        self.answer(cx, index, to.shard, ToEdge::Marked { token: to.token, result: Ok(place) });
    }

    /// The store did not answer an append at once.
    pub(super) fn append_waits(&mut self, index: u32, token: OpToken) {
        let home = &self.homes[index as usize];
        let at = HomeRef { index, life: home.life };
        self.marks.entry(at).or_insert_with(|| Marks::new(home.top())).appends.insert(token);
    }

    /// The store has accepted an append. Called before anything is said or done about it.
    pub(super) fn append_has(
        &mut self,
        cx: &mut Cx<'_>,
        at: HomeRef,
        token: OpToken,
        epoch: Epoch,
        publication: &Publication,
    ) {
        loop {
            let Some(home) = self.homes.get_mut(at.index as usize).filter(|home| home.life == at.life) else { return };
            let top = home.top();
            let follows = epoch == top.epoch && publication.prev == top.offset;
            if follows && !self.marks.contains_key(&at) {
                return;
            }
            // The home does not reach the place before it has read what lies before that.
            let marks = self.marks.entry(at).or_insert_with(|| Marks::new(top));
            let Some(mark) = marks.waiting.pop_front_if(|mark| mark.token < token) else {
                let place = Position { epoch, offset: publication.offset };
                marks.newest = newer(marks.newest, place);
                marks.waiting.iter_mut().for_each(|mark| mark.place = newer(mark.place, place));
                return;
            };
            home.pending -= 1;
            self.marked(cx, at.index, mark.to, Position { epoch, offset: publication.prev });
        }
    }

    /// An append that waited is answered, or its time is over: questions for a place may have their turn.
    pub(super) fn append_over(&mut self, cx: &mut Cx<'_>, at: HomeRef, token: OpToken) {
        loop {
            let Some(home) = self.homes.get_mut(at.index as usize).filter(|home| home.life == at.life) else { return };
            let top = home.top();
            let Some(marks) = self.marks.get_mut(&at) else { return };
            marks.appends.remove(&token);
            let Some(mark) = marks.next() else {
                if marks.is_idle_at(top) {
                    self.marks.remove(&at);
                }
                return self.linger(cx, at.index);
            };
            home.pending -= 1;
            // A place of an earlier epoch says nothing about this one.
            let place = if mark.place.epoch == top.epoch { mark.place } else { top };
            self.marked(cx, at.index, mark.to, place);
        }
    }
}
