//! Where sessions went that have left this shard: what the application says of them is passed on.
//!
//! A command of the application goes to all shards at once, and a session that changes shards meanwhile could be missed by
//! both: its new shard heard of the command before the session came, its old one after it had gone. So the old one passes
//! the command on, behind the session in the same queue. Whoever has left is remembered for a while that is long beside
//! what a message takes between shards. At most one of the shards that a session has been on points to no other.

use crate::ids::{ClientId, ShardId, UserId};
use crate::rng::Keyed;
use smallvec::SmallVec;
use std::collections::{HashMap, VecDeque};

/// How long it is remembered where a session went.
const REMEMBER_MS: u64 = 10_000;

#[derive(Debug)]
pub(crate) struct Moved {
    to: HashMap<ClientId, Gone, Keyed>,
    users: HashMap<UserId, SmallVec<[ClientId; 1]>, Keyed>,
    order: VecDeque<(u64, ClientId)>,
}

#[derive(Debug)]
struct Gone {
    shard: ShardId,
    user: Option<UserId>,
    left_ms: u64,
}

impl Moved {
    pub(super) fn new(hash: Keyed) -> Self {
        Moved { to: HashMap::with_hasher(hash), users: HashMap::with_hasher(hash), order: VecDeque::new() }
    }

    /// A session has left for another shard.
    pub(crate) fn left(&mut self, now_ms: u64, client: ClientId, user: Option<UserId>, shard: ShardId) {
        self.arrived(client);
        if let Some(user) = &user {
            self.users.entry(user.clone()).or_default().push(client);
        }
        self.to.insert(client, Gone { shard, user, left_ms: now_ms });
        self.order.push_back((now_ms, client));
    }

    /// It is here again, or nowhere: asking further would go in circles.
    pub(crate) fn arrived(&mut self, client: ClientId) {
        let Some(Gone { user: Some(user), .. }) = self.to.remove(&client) else { return };
        if let Some(clients) = self.users.get_mut(&user) {
            clients.retain(|other| *other != client);
            if clients.is_empty() {
                self.users.remove(&user);
            }
        }
    }

    /// Where it went.
    pub(crate) fn shard_of(&self, client: ClientId) -> Option<ShardId> {
        self.to.get(&client).map(|gone| gone.shard)
    }

    pub(crate) fn clients_of(&self, user: &UserId) -> &[ClientId] {
        self.users.get(user).map_or(&[], |clients| clients)
    }

    /// Forgets who left long ago.
    pub(crate) fn tidy(&mut self, now_ms: u64) {
        while let Some(&(left_ms, client)) = self.order.front().filter(|(at, _)| at + REMEMBER_MS <= now_ms) {
            self.order.pop_front();
            // It may have come back and left again since.
            if self.to.get(&client).is_some_and(|gone| gone.left_ms == left_ms) {
                self.arrived(client);
            }
        }
        if self.order.is_empty() {
            self.order = VecDeque::new(); // gives the memory of a storm back
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_left_is_remembered_for_a_while_and_not_after_coming_back() {
        let mut moved = Moved::new(Keyed(1));
        let ada = UserId("ada".into());
        moved.left(1_000, ClientId(1), Some(ada.clone()), ShardId(2));
        moved.left(2_000, ClientId(2), Some(ada.clone()), ShardId(3));
        moved.left(2_000, ClientId(3), None, ShardId(1));
        assert_eq!(moved.clients_of(&ada), [ClientId(1), ClientId(2)]);
        moved.arrived(ClientId(1));
        moved.left(9_000, ClientId(1), Some(ada.clone()), ShardId(1));
        moved.tidy(12_000);
        assert_eq!(moved.clients_of(&ada), [ClientId(1)], "it left anew");
        assert_eq!((moved.shard_of(ClientId(1)), moved.shard_of(ClientId(3))), (Some(ShardId(1)), None));
        moved.tidy(19_000);
        assert!(moved.to.is_empty() && moved.users.is_empty() && moved.order.is_empty());
    }
}
