//! A bounded number of places for short visits: a visitor that keeps the server waiting makes room for the next one.
//!
//! In: a visitor, with its address where it has one. Out: a [`Place`], held as long as its socket is open. A place
//! *waits* until a whole request has come, and again when the request has been answered. If an address has used its
//! share, the newcomer takes the place of that address that has waited longest. If all places are used, it takes the
//! one that has waited longest of all. [`Place::displaced`] tells the displaced connection, and it is closed. A visitor
//! whose request is being answered is never displaced. A visitor may go on to other places ([`Place::move_to`]).
//!
//! The places are few, so each newcomer looks at all of them.

use crate::transport::admission::Block;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Places {
    max: usize,
    /// For one address.
    share: usize,
    state: Mutex<State>,
    /// Notified when a place may have become free.
    freed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// By their ids, which are never used again.
    visitors: BTreeMap<u64, Visitor>,
    /// Counts what happens: the next id, and the order in which visitors began to wait.
    clock: u64,
}

#[derive(Debug)]
struct Visitor {
    address: Option<Block>,
    /// Since when it keeps the server waiting.
    waits: Option<u64>,
    displaced: Arc<Notify>,
}

/// A place that is held until this is dropped, or until it is given to another visitor.
#[derive(Debug)]
pub(crate) struct Place {
    held: Mutex<Held>,
    displaced: Arc<Notify>,
}

/// The place that a visitor has now.
#[derive(Debug)]
struct Held {
    places: Arc<Places>,
    id: u64,
}

/// A visitor has got a place.
#[derive(Debug)]
pub(crate) struct Entered {
    pub(crate) place: Place,
    /// Another visitor was displaced for it.
    pub(crate) displaces: bool,
}

impl Places {
    /// `max` places, and at most `share` of them for one address.
    pub(crate) fn new(max: usize, share: usize) -> Arc<Self> {
        Arc::new(Places { max, share, state: Mutex::default(), freed: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place. `None` if all are taken and no visitor can be displaced.
    pub(crate) fn enter(self: &Arc<Self>, address: Option<Block>) -> Option<Entered> {
        let displaced: Arc<Notify> = Arc::default();
        let (id, displaces) = self.enter_as(address, &displaced)?;
        let place = Place { held: Mutex::new(Held { places: self.clone(), id }), displaced };
        Some(Entered { place, displaces })
    }

    /// The id of a new place, and whether another visitor was displaced for it.
    fn enter_as(&self, address: Option<Block>, displaced_by: &Arc<Notify>) -> Option<(u64, bool)> {
        let mut state = self.state();
        let is_same = |visitor: &Visitor| address.is_some() && visitor.address == address;
        let has_share = state.visitors.values().filter(|visitor| is_same(visitor)).count() < self.share;
        let has_room = has_share && state.visitors.len() < self.max;
        if !has_room {
            let waiting = state.visitors.iter().filter(|(_, visitor)| has_share || is_same(visitor));
            let longest = waiting.filter_map(|(id, visitor)| Some((visitor.waits?, *id))).min();
            let displaced = longest.and_then(|(_, id)| state.visitors.remove(&id))?;
            displaced.displaced.notify_one();
        }
        state.clock += 1;
        let id = state.clock;
        state.visitors.insert(id, Visitor { address, waits: Some(id), displaced: displaced_by.clone() });
        Some((id, !has_room))
    }

    /// A visitor has gone, if it had a place.
    fn leave(&self, id: u64) {
        if self.state().visitors.remove(&id).is_some() {
            self.freed.notify_one();
        }
    }

    /// The same; waits while no visitor can be displaced. For one caller at a time.
    pub(crate) async fn enter_patiently(self: &Arc<Self>, address: Option<Block>) -> Place {
        loop {
            match self.enter(address) {
                Some(Entered { place, .. }) => return place,
                None => self.freed.notified().await,
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn used(&self) -> usize {
        self.state().visitors.len()
    }
}

impl Place {
    /// A whole request has come: until it is answered the place is kept.
    pub(crate) fn serves(&self) {
        let held = self.held();
        if let Some(visitor) = held.places.state().visitors.get_mut(&held.id) {
            visitor.waits = None;
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place of `others` in place of this one, for a whole request. `None` if there is none, or this one has
    /// gone to another visitor. `Some`: whether a visitor was displaced for it.
    pub(crate) fn move_to(&self, others: &Arc<Places>) -> Option<bool> {
        let displaces = {
            let mut held = self.held();
            let address = held.places.state().visitors.get(&held.id)?.address;
            let (id, displaces) = others.enter_as(address, &self.displaced)?;
            let before = std::mem::replace(&mut *held, Held { places: others.clone(), id });
            before.places.leave(before.id);
            displaces
        };
        self.serves();
        Some(displaces)
    }

    /// The server waits for the peer again.
    pub(crate) fn waits(&self) {
        let held = self.held();
        let mut state = held.places.state();
        state.clock += 1;
        let now = state.clock;
        if let Some(visitor) = state.visitors.get_mut(&held.id) {
            visitor.waits = Some(now);
            held.places.freed.notify_one();
        }
    }

    /// Returns when another visitor has the place. For one caller at a time.
    pub(crate) fn displaced(&self) -> impl Future<Output = ()> + use<> {
        let displaced = self.displaced.clone();
        async move { displaced.notified().await }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let held = self.held.get_mut().unwrap_or_else(PoisonError::into_inner);
        held.places.leave(held.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    fn of(last: u8) -> Option<Block> {
        Some(Block::of([192, 0, 2, last].into()))
    }

    fn is_displaced(place: &Place) -> bool {
        place.displaced().now_or_never().is_some()
    }

    #[test]
    fn a_newcomer_takes_the_place_of_its_own_address_that_has_waited_longest() {
        let places = Places::new(8, 2);
        let enter = |last| places.enter(of(last));
        let other = enter(2).expect("room").place;
        let Entered { place: first, displaces } = enter(1).expect("room");
        assert!(!displaces);
        let second = enter(1).expect("room").place;
        first.serves();
        first.waits(); // its wait began anew
        let Entered { place: third, displaces } = enter(1).expect("the second waits");
        assert!(displaces && is_displaced(&second));
        first.serves();
        third.serves();
        assert!(enter(1).is_none(), "both are being answered");
        assert!(enter(3).is_some_and(|entered| !entered.displaces), "another address has its own share");
        drop(second);
        assert_eq!(places.used(), 3, "a place that was given away is not given back");
        assert!(!is_displaced(&other) && !is_displaced(&first) && !is_displaced(&third));
        drop((other, first, third));
        assert_eq!(places.used(), 0);
    }

    #[test]
    fn a_visitor_that_moves_leaves_its_place_and_keeps_its_address() {
        let (first, second) = (Places::new(4, 1), Places::new(4, 1));
        let visitor = first.enter(of(1)).expect("room").place;
        assert_eq!(visitor.move_to(&second), Some(false));
        assert_eq!((first.used(), second.used()), (0, 1));
        let other = first.enter(of(1)).expect("its place is free").place;
        assert_eq!(other.move_to(&second), None, "the share of its address is being answered");
        assert_eq!((first.used(), second.used()), (1, 1), "it keeps the place that it has");
        visitor.waits();
        assert_eq!(other.move_to(&second), Some(true));
        assert!(is_displaced(&visitor) && !is_displaced(&other));
        assert_eq!(visitor.move_to(&first), None, "it has none to leave");
        drop((visitor, other));
        assert_eq!((first.used(), second.used()), (0, 0));
    }

    #[test]
    fn where_all_places_are_used_the_one_that_has_waited_longest_goes() {
        let places = Places::new(4, 2);
        let mut held: Vec<Place> = [1, 1, 2, 2].map(|last| places.enter(of(last)).expect("room").place).into();
        held[0].serves();
        let Entered { place: newcomer, displaces } = places.enter(of(3)).expect("somebody waits");
        assert!(displaces && is_displaced(&held[1]));
        held.push(places.enter(None).expect("a Unix socket has no share").place);
        assert!(is_displaced(&held[2]));
        held.iter().for_each(Place::serves);
        newcomer.serves();
        assert!(places.enter(of(4)).is_none());
        let mut waiting = Box::pin(places.enter_patiently(of(4)));
        assert!(waiting.as_mut().now_or_never().is_none());
        newcomer.waits();
        assert!(waiting.now_or_never().is_some());
    }
}
