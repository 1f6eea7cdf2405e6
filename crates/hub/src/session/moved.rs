//! Where sessions went that have left this shard: commands of the application are passed on, and so are directed
//! signals, and a client that comes back with the ticket of this shard.
//!
//! A command of the application goes to all shards at once, and a session that changes shards meanwhile could be missed
//! by both: its new shard heard of the command before the session came, its old one after it had gone. So the old one
//! passes the command on, behind the session in the same queue. A client whose new connection broke before it had the
//! new ticket comes with the old one: as long as its session can live without a connection, its old shard knows where
//! that is. The records are bounded in bytes. At most one of the shards that a session has been on points to no other.

use crate::ids::{ClientId, ShardId, UserId};
use crate::labels::Labels;
use crate::rng::Keyed;
use crate::slice::Slice;
use smallvec::SmallVec;
use std::collections::{BTreeMap, HashMap};

/// The bytes of one entry in the three tables, besides its user.
const ENTRY_BYTES: usize = 160;

#[derive(Debug)]
pub(crate) struct Moved {
    to: HashMap<ClientId, Gone, Keyed>,
    users: HashMap<UserId, SmallVec<[ClientId; 1]>, Keyed>,
    /// In the order in which they are forgotten.
    order: BTreeMap<Expiry, ClientId>,
    next: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Gone {
    shard: ShardId,
    user: Option<UserId>,
    labels: Labels,
    /// Its place among those of its user.
    at: u32,
    expiry: Expiry,
}

/// The names by which commands find a session.
#[derive(Debug, Default)]
pub(super) struct Whose {
    pub(super) user: Option<UserId>,
    pub(super) labels: Labels,
}

/// When an entry is forgotten. Entries of the same instant go in the order in which they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Expiry {
    until_ms: u64,
    number: u64,
}

impl Gone {
    fn bytes(&self) -> usize {
        ENTRY_BYTES + self.user.as_ref().map_or(0, |user| user.0.len()) + self.labels.bytes()
    }
}

impl Moved {
    pub(super) fn new(hash: Keyed) -> Self {
        Moved {
            to: HashMap::with_hasher(hash),
            users: HashMap::with_hasher(hash),
            order: BTreeMap::new(),
            next: 0,
            bytes: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.to.len()
    }

    /// A session has left for another shard, which is remembered until then. Beyond `bytes_max` those go that are to be
    /// forgotten next.
    pub(crate) fn left(
        &mut self,
        until_ms: u64,
        client: ClientId,
        Whose { user, labels }: Whose,
        shard: ShardId,
        bytes_max: usize,
    ) -> u64 {
        self.arrived(client);
        let at = user.as_ref().map_or(0, |user| {
            let clients = self.users.entry(user.clone()).or_default();
            clients.push(client);
            clients.len() as u32 - 1
        });
        self.next += 1;
        let gone = Gone { shard, user, labels, at, expiry: Expiry { until_ms, number: self.next } };
        self.bytes += gone.bytes();
        self.order.insert(gone.expiry, client);
        self.to.insert(client, gone);
        let mut forgotten = 0;
        while self.bytes > bytes_max
            && let Some(&first) = self.order.values().next()
        {
            self.arrived(first);
            forgotten += 1;
        }
        forgotten
    }

    /// It is here again, or nowhere: asking further would go in circles.
    pub(crate) fn arrived(&mut self, client: ClientId) {
        let Some(gone) = self.to.remove(&client) else { return };
        self.order.remove(&gone.expiry);
        self.bytes -= gone.bytes();
        let Some(user) = gone.user else { return };
        let Some(clients) = self.users.get_mut(&user) else { return };
        // The last one takes its place: one user may have very many.
        clients.swap_remove(gone.at as usize);
        if let Some(last) = clients.get(gone.at as usize) {
            if let Some(last) = self.to.get_mut(last) {
                last.at = gone.at;
            }
        } else if clients.is_empty() {
            self.users.remove(&user);
        }
    }

    /// Where it went.
    pub(crate) fn shard_of(&self, client: ClientId) -> Option<ShardId> {
        self.to.get(&client).map(|gone| gone.shard)
    }

    /// Those of a user, in no order.
    pub(crate) fn clients_of(&self, user: &UserId) -> &[ClientId] {
        self.users.get(user).map_or(&[], |clients| clients)
    }

    /// Those with a label, in no order. It looks at all: they are few, and such a command is rare.
    pub(crate) fn clients_with<'s>(&'s self, label: &'s str) -> impl Iterator<Item = ClientId> + 's {
        self.to.iter().filter(|(_, gone)| gone.labels.contains(label)).map(|(client, _)| *client)
    }

    /// Forgets those whose time is over, as far as the slice goes. True where there are more.
    pub(crate) fn tidy(&mut self, now_ms: u64, slice: &mut Slice) -> bool {
        while let Some((&expiry, &client)) = self.order.first_key_value()
            && expiry.until_ms <= now_ms
        {
            if slice.is_spent() {
                return true;
            }
            slice.spend(1);
            self.arrived(client);
        }
        if self.to.is_empty() && self.to.capacity() > 0 {
            self.to = HashMap::with_hasher(*self.to.hasher()); // gives the memory of a storm back
            self.users = HashMap::with_hasher(*self.users.hasher());
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;

    /// A slice of so many steps.
    fn slice(steps: usize) -> Slice {
        Slice::new(&Limits { fanout_slice: steps, ..Limits::default() })
    }

    fn whose(user: &UserId) -> Whose {
        Whose { user: Some(user.clone()), labels: Labels::default() }
    }

    fn of(moved: &Moved, user: &UserId) -> Vec<u64> {
        let mut clients: Vec<u64> = moved.clients_of(user).iter().map(|client| client.0).collect();
        clients.sort_unstable();
        clients
    }

    #[test]
    fn a_session_that_left_is_remembered_for_its_time_and_not_after_coming_back() {
        let mut moved = Moved::new(Keyed(1));
        let ada = UserId("ada".into());
        moved.left(11_000, ClientId(1), whose(&ada), ShardId(2), 1 << 20);
        moved.left(90_000, ClientId(2), whose(&ada), ShardId(3), 1 << 20);
        moved.left(12_000, ClientId(3), Whose::default(), ShardId(1), 1 << 20);
        assert_eq!(of(&moved, &ada), [1, 2]);
        moved.arrived(ClientId(1));
        moved.left(19_000, ClientId(1), whose(&ada), ShardId(1), 1 << 20);
        assert!(!moved.tidy(12_000, &mut slice(100)));
        let places = [1, 2, 3].map(|client| moved.shard_of(ClientId(client)));
        assert_eq!(places, [Some(ShardId(1)), Some(ShardId(3)), None], "the first left anew");
        assert!(!moved.tidy(19_000, &mut slice(100)));
        assert_eq!(of(&moved, &ada), [2], "each has a time of its own");
        assert!(!moved.tidy(90_000, &mut slice(100)));
        assert!(moved.to.is_empty() && moved.users.is_empty() && moved.order.is_empty());
        assert_eq!(moved.bytes, 0);
    }

    #[test]
    fn beyond_its_bound_those_go_that_are_forgotten_next() {
        let mut moved = Moved::new(Keyed(1));
        let long = UserId("u".repeat(1_000).into());
        for n in 0..50 {
            moved.left(1_000 + n, ClientId(n), whose(&long), ShardId(1), 3 * (ENTRY_BYTES + 1_000));
            moved.left(1_000 + n, ClientId(n), whose(&long), ShardId(1), 3 * (ENTRY_BYTES + 1_000));
        }
        assert_eq!(of(&moved, &long), [47, 48, 49], "and one that leaves again counts once");
        assert_eq!((moved.to.len(), moved.order.len()), (3, 3));
    }
    #[test]
    fn those_of_one_user_may_come_back_in_any_order() {
        let mut moved = Moved::new(Keyed(1));
        let ada = UserId("ada".into());
        let mut left = |n| moved.left(1_000, ClientId(n), whose(&ada), ShardId(1), 1 << 20);
        assert_eq!((0..5).map(&mut left).sum::<u64>(), 0);
        for (gone, left) in [(1, vec![0, 2, 3, 4]), (4, vec![0, 2, 3]), (0, vec![2, 3]), (3, vec![2]), (2, vec![])] {
            moved.arrived(ClientId(gone));
            assert_eq!(of(&moved, &ada), left, "after {gone}");
        }
        assert!(moved.users.is_empty());
    }

    #[test]
    fn they_are_forgotten_in_slices() {
        let mut moved = Moved::new(Keyed(1));
        let ada = UserId("ada".into());
        let mut left = |n| moved.left(1_000, ClientId(n), whose(&ada), ShardId(1), 1 << 20);
        assert_eq!((0..100).map(&mut left).sum::<u64>(), 0);
        assert!(moved.tidy(1_000, &mut slice(20)));
        assert_eq!(of(&moved, &ada).len(), 80);
        assert!(!moved.tidy(1_000, &mut slice(80)));
        assert!(moved.to.is_empty() && moved.users.is_empty() && moved.order.is_empty());
    }

    #[test]
    fn those_with_a_label_are_found_and_their_labels_count() {
        let mut moved = Moved::new(Keyed(1));
        let labels = Labels::new(["beta", "ios"]).unwrap();
        moved.left(1_000, ClientId(1), Whose { user: None, labels }, ShardId(1), 1 << 20);
        moved.left(1_000, ClientId(2), Whose::default(), ShardId(1), 1 << 20);
        let with = |moved: &Moved, label| moved.clients_with(label).collect::<Vec<_>>();
        assert_eq!((with(&moved, "ios"), with(&moved, "web")), (vec![ClientId(1)], vec![]));
        assert_eq!(moved.bytes, 2 * ENTRY_BYTES + "betaios".len());
        moved.arrived(ClientId(1));
        assert_eq!((with(&moved, "ios"), moved.bytes), (vec![], ENTRY_BYTES));
    }
}
