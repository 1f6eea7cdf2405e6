//! The sessions of a shard by their labels. A session without labels costs nothing here.

use super::table::SessionTable;
use crate::ids::ClientId;
use crate::labels::Labels;
use crate::rng::Keyed;
use std::collections::{HashMap, HashSet};

#[derive(Debug)]
pub(crate) struct Labelled(HashMap<Box<str>, HashSet<u32, Keyed>, Keyed>);

impl Labelled {
    pub(super) fn new(hash: Keyed) -> Self {
        Labelled(HashMap::with_hasher(hash))
    }

    /// A session has these labels.
    pub(super) fn put(&mut self, index: u32, labels: &Labels) {
        let hash = *self.0.hasher();
        for label in labels.iter() {
            if let Some(sessions) = self.0.get_mut(label) {
                sessions.insert(index);
            } else {
                let mut sessions = HashSet::with_hasher(hash);
                sessions.insert(index);
                self.0.insert(label.into(), sessions);
            }
        }
    }

    /// It has them no more.
    pub(super) fn remove(&mut self, index: u32, labels: &Labels) {
        for label in labels.iter() {
            let Some(sessions) = self.0.get_mut(label) else { continue };
            sessions.remove(&index);
            if sessions.is_empty() {
                self.0.remove(label);
            }
        }
    }
}

impl SessionTable {
    /// The sessions with a label that are here, in no order.
    pub(super) fn labelled(&self, label: &str) -> Option<&HashSet<u32, Keyed>> {
        self.labelled.0.get(label)
    }

    /// The clients with a label whose sessions are here, or were here lately.
    pub(super) fn clients_with(&self, label: &str) -> Vec<ClientId> {
        let here = self.labelled(label).into_iter().flatten();
        let mut clients: Vec<ClientId> = here.map(|&index| self.slab[index as usize].client).collect();
        clients.extend(self.moved.clients_with(label).filter(|client| !self.by_client.contains_key(client)));
        clients
    }
}
