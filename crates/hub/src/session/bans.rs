//! The users and clients that the application has banned for a time: their next `connect` is refused.
//!
//! In: a ban with its end, and the end of a ban. Out: the refusal of a `connect`. Every shard has the same table,
//! because a client comes back on any of them. The application's command adds the ban to a shard's table before it ends
//! the sessions there, so no session slips in between. The table lives as long as its process.

use super::{Cx, Sessions};
use crate::app::{AppAnswer, BANS_LIMIT_MAX, BANS_MAX, Ban, Whom};
use crate::error::{Error, ErrorCode};
use crate::ids::{ClientId, UserId};
use crate::rng::Keyed;
use crate::time::Now;
use std::collections::HashMap;

/// The first number of bans at which those that are over are looked for.
const SWEEP_FROM: usize = 64;

/// See the module's description. Times are of the monotonic clock.
#[derive(Debug)]
pub(super) struct Bans {
    users: HashMap<UserId, u64, Keyed>,
    clients: HashMap<ClientId, u64, Keyed>,
    /// Bans that are over are dropped when there are so many in all.
    sweep_at: usize,
}

impl Bans {
    pub(super) fn new(hash: Keyed) -> Self {
        Bans { users: HashMap::with_hasher(hash), clients: HashMap::with_hasher(hash), sweep_at: SWEEP_FROM }
    }

    /// A later ban replaces an earlier one, whichever ends first.
    pub(super) fn put(&mut self, now: Now, whom: &Whom, ban_ms: u64) {
        let until_ms = now.mono_ms.saturating_add(ban_ms);
        if self.len() >= self.sweep_at {
            self.sweep(now);
            self.sweep_at = (2 * self.len()).max(SWEEP_FROM);
        }
        match whom {
            Whom::User(user) => self.users.insert(user.clone(), until_ms),
            Whom::Client(client) => self.clients.insert(*client, until_ms),
            Whom::Label(_) => None, // such a ban is refused
        };
    }

    /// Whether there was one.
    pub(super) fn remove(&mut self, now: Now, whom: &Whom) -> bool {
        let until_ms = match whom {
            Whom::User(user) => self.users.remove(user),
            Whom::Client(client) => self.clients.remove(client),
            Whom::Label(_) => None,
        };
        until_ms.is_some_and(|at| at > now.mono_ms)
    }

    /// Whether one more ban fits.
    fn has_room(&mut self, now: Now, whom: &Whom) -> bool {
        let is_known = match whom {
            Whom::User(user) => self.users.contains_key(user),
            Whom::Client(client) => self.clients.contains_key(client),
            Whom::Label(_) => false,
        };
        if !is_known && self.len() >= BANS_MAX {
            self.sweep(now);
        }
        is_known || self.len() < BANS_MAX
    }

    fn sweep(&mut self, now: Now) {
        self.users.retain(|_, until_ms| *until_ms > now.mono_ms);
        self.clients.retain(|_, until_ms| *until_ms > now.mono_ms);
    }

    fn len(&self) -> usize {
        self.users.len() + self.clients.len()
    }

    /// How long a ban still holds, in ms: of the user or of the client, the longer one.
    fn left_ms(&self, now: Now, user: Option<&UserId>, client: Option<ClientId>) -> Option<u64> {
        let of_user = user.and_then(|user| self.users.get(user));
        let of_client = client.and_then(|client| self.clients.get(&client));
        let until_ms = of_user.into_iter().chain(of_client).max()?;
        until_ms.checked_sub(now.mono_ms).filter(|left| *left > 0)
    }

    /// Those that hold, in the order of their names, users first.
    fn list(&self, now: Now) -> Vec<Ban> {
        let users = self.users.iter().map(|(user, until_ms)| (Whom::User(user.clone()), *until_ms));
        let clients = self.clients.iter().map(|(client, until_ms)| (Whom::Client(*client), *until_ms));
        let left = users.chain(clients).filter_map(|(whom, until_ms)| {
            let left_ms = until_ms.checked_sub(now.mono_ms).filter(|left| *left > 0)?;
            Some(Ban { whom, until_ms: now.wall_ms.saturating_add(left_ms) })
        });
        let mut list: Vec<Ban> = left.collect();
        list.sort_unstable_by(|a, b| a.whom.cmp(&b.whom));
        list
    }
}

impl Sessions {
    /// The refusal of a `connect` as this user or with the ticket of this client, if it is banned.
    pub(super) fn banned(&self, cx: &Cx<'_>, user: Option<&UserId>, client: Option<ClientId>) -> Option<Error> {
        let left_ms = self.bans.left_ms(cx.now, user, client)?;
        let whom = if self.bans.left_ms(cx.now, user, None) == Some(left_ms) { "user" } else { "client" };
        let message = format!("the application has banned this {whom} for {} more seconds", left_ms.div_ceil(1000));
        let mut error = Error::new(ErrorCode::Denied, message);
        error.retry_after_ms = Some(left_ms);
        Some(error)
    }

    /// Bans for so long, if there is room, and gives the end of the ban.
    pub(super) fn may_ban(&mut self, cx: &Cx<'_>, whom: &Whom, ban_ms: u64) -> Result<u64, Error> {
        if !self.bans.has_room(cx.now, whom) {
            let message = format!("{BANS_MAX} users and clients are banned, the most that is possible");
            return Err(Error::new(ErrorCode::LimitExceeded, message));
        }
        Ok(cx.now.wall_ms.saturating_add(ban_ms))
    }

    /// The bans, or those of one user or client.
    pub(super) fn list_bans(&self, cx: &Cx<'_>, whom: Option<&Whom>, limit: u32) -> AppAnswer {
        let mut bans = self.bans.list(cx.now);
        bans.retain(|ban| whom.is_none_or(|whom| ban.whom == *whom));
        let limit = limit.clamp(1, BANS_LIMIT_MAX) as usize;
        let more = bans.len() > limit;
        bans.truncate(limit);
        AppAnswer::Bans { bans, more }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none() -> Bans {
        Bans::new(Keyed(1))
    }

    fn at(mono_ms: u64) -> Now {
        Now { mono_ms, wall_ms: 1_000_000 + mono_ms }
    }

    #[test]
    fn bans_that_are_over_take_no_memory_for_ever() {
        let mut bans = none();
        for number in 0..100_000u64 {
            bans.put(at(number), &Whom::user(&number.to_string()), 10);
            bans.put(at(number), &Whom::Client(ClientId(number)), 10);
        }
        assert!(bans.len() <= SWEEP_FROM + 2, "{} are kept", bans.len());
    }

    #[test]
    fn at_the_most_only_known_ones_are_banned_anew() {
        let mut bans = none();
        for number in 0..BANS_MAX as u64 {
            bans.put(at(0), &Whom::Client(ClientId(number)), 1000);
        }
        let (known, new) = (Whom::Client(ClientId(7)), Whom::user("ada"));
        assert!(bans.has_room(at(999), &known) && !bans.has_room(at(999), &new));
        assert!(bans.has_room(at(1000), &new), "the others are over");
    }

    #[test]
    fn a_ban_holds_to_its_end() {
        let mut bans = none();
        let ada = UserId("ada".into());
        bans.put(at(5), &Whom::User(ada.clone()), 10);
        bans.put(at(5), &Whom::Client(ClientId(1)), 20);
        assert_eq!(bans.left_ms(at(14), Some(&ada), None), Some(1));
        assert_eq!(bans.left_ms(at(15), Some(&ada), None), None);
        assert_eq!(bans.left_ms(at(14), Some(&ada), Some(ClientId(1))), Some(11));
        assert_eq!(bans.left_ms(at(14), None, Some(ClientId(2))), None);
        assert_eq!(bans.list(at(14)).len(), 2);
        assert_eq!(bans.list(at(15)), [Ban { whom: Whom::Client(ClientId(1)), until_ms: 1_000_025 }]);
        assert!(!bans.remove(at(15), &Whom::User(ada)) && bans.remove(at(15), &Whom::Client(ClientId(1))));
        assert_eq!(bans.list(at(15)), []);
    }
}
