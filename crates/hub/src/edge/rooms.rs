//! The rooms of an edge: which sessions are in each, so that a publication to a room costs what its members cost.
//!
//! In: a session that enters a room, or is out of it. Out: the sessions of a room. A session is listed as long as a
//! fan-out may still bring something for its stay, so also after it has left a room while earlier publications wait;
//! what it sees is judged by its stays (`session/rooms.rs`). A session remembers its place in each list, so that each
//! change costs the same however many are in the room.
//!
//! Memory: 40 bytes for a stay in its session and 4 in the list, twice that right after a list has grown. Up to four
//! sessions of a room stand in the table itself, and a room's name is kept once.

use crate::ids::Room;
use crate::rng::Keyed;
use smallvec::{SmallVec, smallvec};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

#[derive(Debug)]
pub(crate) struct RoomIndex {
    rooms: HashMap<Room, SmallVec<[u32; 4]>, Keyed>,
    /// Sessions with stays that are over, and that fan-outs which wait may still reach. Each once.
    leaving: Vec<u32>,
}

/// A session's place in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RoomPlace {
    pub(crate) room: Room,
    pub(crate) place: u32,
}

impl RoomIndex {
    pub(crate) fn new(hash: Keyed) -> Self {
        RoomIndex { rooms: HashMap::with_hasher(hash), leaving: Vec::new() }
    }

    /// Adds a session that is not in the room's list. The room that is returned shares the text of its name with all
    /// others.
    pub(crate) fn add(&mut self, room: Room, session: u32) -> RoomPlace {
        match self.rooms.entry(room) {
            Entry::Occupied(mut entry) => {
                let place = entry.get().len() as u32;
                entry.get_mut().push(session);
                RoomPlace { room: entry.key().clone(), place }
            }
            Entry::Vacant(entry) => {
                let room = entry.key().clone();
                entry.insert(smallvec![session]);
                RoomPlace { room, place: 0 }
            }
        }
    }

    /// Takes a session out. Returns the session that has this place now, where another one has moved.
    pub(crate) fn remove(&mut self, RoomPlace { room, place }: &RoomPlace) -> Option<u32> {
        let sessions = self.rooms.get_mut(room)?;
        sessions.swap_remove(*place as usize);
        let moved = sessions.get(*place as usize).copied();
        if sessions.is_empty() {
            self.rooms.remove(room);
            if self.rooms.capacity() > ROOMS_KEPT && self.rooms.len() < self.rooms.capacity() / 8 {
                self.rooms.shrink_to(self.rooms.len() * 2);
            }
        } else if sessions.spilled() && sessions.len() < sessions.capacity() / 4 {
            sessions.shrink_to_fit();
        }
        moved
    }

    pub(crate) fn sessions(&self, room: &Room) -> &[u32] {
        self.rooms.get(room).map_or(&[], |sessions| sessions)
    }

    /// This session has left a room and may still see something from it: its stays are looked at again when nothing
    /// waits on the edge.
    pub(crate) fn look_later(&mut self, session: u32) {
        self.leaving.push(session);
    }

    /// The sessions to look at again.
    pub(crate) fn take_leaving(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.leaving)
    }

    pub(crate) fn has_leaving(&self) -> bool {
        !self.leaving.is_empty()
    }

    pub(crate) fn places(&self) -> usize {
        self.rooms.values().map(SmallVec::len).sum::<usize>() + self.leaving.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rooms.is_empty() && self.leaving.is_empty()
    }
}

/// A table that is not larger keeps its memory.
const ROOMS_KEPT: usize = 64;
