//! What one user may have and do, over all of its sessions and on all shards.
//!
//! Every user has a home shard, by a hash of its id ([`UserHomes`]). It counts the user's sessions: a session with a
//! user begins when the home has counted it, and is counted until it is over, also while it has no connection. A
//! session that goes on elsewhere stays counted. So the number is exact.
//!
//! What a user does is counted by each shard for itself ([`UserState`]). A shard tells the home after every eighth of
//! what may be done at once, and the home tells the other shards: what has not drained, in whole messages and bytes. So
//! no user is refused below its rate, but for the part of one, and one with
//! sessions on several shards exceeds it by an eighth for each of the other shards at most, and by what is on its way.
//! New names of channels are counted by the home of the channel, which alone knows whether a name is new. The session's
//! shard tells it with each command whether the client may use one more, and charges the client when the home says that
//! it has. So commands that are under way may exceed the rate: `outstanding_max` of each session at most.
//!
//! A user without sessions is remembered until it would have had everything back; of such users the home keeps
//! [`IDLE_MAX`], and the one that left first is forgotten first.

use super::pending::{Connecting, Pending};
use super::{Cx, Sessions};
use crate::error::{Error, ErrorCode};
use crate::ids::{SessionRef, ShardId, UserId};
use crate::message::Command;
use crate::peer::{PeerBody, PendingToken};
use crate::quota::{Allowance, Cost, Quotas, Spent, UsedUp};
use crate::rng::Keyed;
use smallvec::SmallVec;
use std::collections::{HashMap, VecDeque};

/// Users without sessions that a home remembers.
const IDLE_MAX: usize = 65_536;
/// How long such a user waits before the home looks whether it may be forgotten.
const IDLE_MS: u64 = 1_000;
/// The least that a command costs.
const ONE: Cost = Cost { messages: 1, bytes: 1, channels: 0 };
/// A client whose user has too many connections may try again after this time.
const RETRY_AFTER_MS: u64 = 5_000;

/// A user that has sessions on this shard.
#[derive(Debug)]
pub(crate) struct UserState {
    pub(crate) user: UserId,
    pub(crate) sessions: SmallVec<[u32; 2]>,
    /// What it has done here, and elsewhere as far as is known here.
    pub(crate) spent: Spent,
    /// The part that its home does not know.
    pub(crate) untold: Cost,
}

impl UserState {
    /// What its home is to be told now. What has drained meanwhile is not held against the user elsewhere.
    pub(super) fn take_untold(&mut self, now_ms: u64, of_user: &Allowance) -> Cost {
        of_user.undrained(now_ms, &self.spent, std::mem::take(&mut self.untold))
    }

    /// What a shard is told to which a session goes from here. It hears of the rest by the home.
    pub(super) fn told(&self, of_user: &Allowance) -> Spent {
        of_user.without(&self.spent, self.untold)
    }
}

/// The users whose home is this shard.
#[derive(Debug)]
pub(crate) struct UserHomes {
    users: HashMap<UserId, UserHome, Keyed>,
    /// Users that had no sessions, and when to look at them.
    idle: VecDeque<(u64, UserId)>,
}

#[derive(Debug, Default)]
struct UserHome {
    sessions: u32,
    spent: Spent,
    is_idle: bool,
}

impl UserHomes {
    pub(crate) fn new(hash: Keyed) -> Self {
        UserHomes { users: HashMap::with_hasher(hash), idle: VecDeque::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.users.len()
    }

    /// Counts a session where the user has less than `max` (0: no limit).
    fn enter(&mut self, user: UserId, max: u32) -> Result<Spent, u32> {
        let home = self.users.entry(user).or_default();
        if max > 0 && home.sessions >= max {
            return Err(home.sessions);
        }
        home.sessions += 1;
        Ok(home.spent)
    }

    fn leave(&mut self, now_ms: u64, user: &UserId) {
        let Some(home) = self.users.get_mut(user) else { return };
        home.sessions = home.sessions.saturating_sub(1);
        if home.sessions == 0 && !std::mem::replace(&mut home.is_idle, true) {
            self.idle.push_back((now_ms + IDLE_MS, user.clone()));
            if self.idle.len() > IDLE_MAX {
                let (_, first) = self.idle.pop_front().expect("just found too long");
                self.look(now_ms, first, true);
            }
        }
    }

    /// Other rates are in force.
    fn rates_change(&mut self, now_ms: u64, of_user: &Allowance) {
        self.users.values_mut().for_each(|home| of_user.begins(now_ms, &mut home.spent));
    }

    /// Forgets users that have no sessions and have done nothing lately.
    fn tidy(&mut self, now_ms: u64) {
        while let Some((_, user)) = self.idle.pop_front_if(|(at_ms, _)| *at_ms <= now_ms) {
            self.look(now_ms, user, false);
        }
    }

    fn look(&mut self, now_ms: u64, user: UserId, at_once: bool) {
        let Some(home) = self.users.get_mut(&user) else { return };
        home.is_idle = false;
        if home.sessions > 0 {
            return;
        }
        if at_once || home.spent.is_empty(now_ms) {
            self.users.remove(&user);
        } else {
            home.is_idle = true;
            self.idle.push_back((now_ms + IDLE_MS, user));
        }
    }
}

impl Sessions {
    /// Asks the home of the user whether one more session may begin.
    pub(super) fn ask_user(&mut self, cx: &mut Cx<'_>, connecting: Connecting, user: UserId) {
        let id = connecting.at;
        let token = self.pending.insert(Pending::User(Box::new(connecting)));
        if let Some(conn) = self.conn(id.conn) {
            conn.seat_mut(id.seat).adopting = Some(token);
        }
        cx.out.push_back((self.edges.home_of_user(&user), PeerBody::UserEnter { token, user }));
    }

    /// A shard asks that of this one.
    pub(crate) fn user_enters(&mut self, cx: &mut Cx<'_>, from: ShardId, token: PendingToken, user: UserId) {
        let result = self.user_homes.enter(user, cx.limits.quotas.connections_per_user_max);
        cx.out.push_back((from, PeerBody::UserEntered { token, result }));
    }

    /// The home has answered.
    pub(crate) fn user_entered(&mut self, cx: &mut Cx<'_>, token: PendingToken, result: Result<Spent, u32>) {
        if !matches!(self.pending.get(token), Some(Pending::User(_))) {
            return;
        }
        let Some(Pending::User(mut connecting)) = self.pending.take(token) else { return };
        connecting.entered = result.ok();
        let Some(conn) = self.conn(connecting.at.conn) else { return self.user_leaves(cx, &connecting) };
        conn.seat_mut(connecting.at.seat).adopting = None;
        match result {
            Ok(_) => self.start_session(cx, *connecting, None),
            Err(sessions) => {
                let message = format!(
                    "the user has {sessions} connections, with those that were cut off lately: the limit \
                     (limits.connections_per_user_max)"
                );
                let error = Error::new(ErrorCode::TooManyConnections, message).by_limit("connections_per_user_max");
                self.connect_refused(cx, *connecting, error.after_ms(RETRY_AFTER_MS));
            }
        }
    }

    /// A session that was counted does not begin.
    pub(super) fn user_leaves(&mut self, cx: &mut Cx<'_>, connecting: &Connecting) {
        if let (Some(_), Some(user)) = (connecting.entered, &connecting.connect.user) {
            self.user_left(cx, user.clone());
        }
    }

    /// A session of this user is over.
    pub(super) fn user_left(&mut self, cx: &mut Cx<'_>, user: UserId) {
        cx.out.push_back((self.edges.home_of_user(&user), PeerBody::UserLeft { user }));
    }

    pub(crate) fn user_home_left(&mut self, cx: &Cx<'_>, user: &UserId) {
        self.user_homes.leave(cx.now.mono_ms, user);
    }

    /// Other quotas are in force: a client that was over the former ones waits for the new ones at most. (A step for
    /// each session, at an operator's command.)
    pub(crate) fn quotas_changed(&mut self, now_ms: u64, quotas: &Quotas) {
        let (of_session, of_user) = (quotas.of_session(), quotas.of_user());
        for (_, session) in &mut self.sessions.slab {
            of_session.begins(now_ms, &mut session.spent);
        }
        for (_, state) in &mut self.sessions.users {
            of_user.begins(now_ms, &mut state.spent);
        }
        self.left.clear();
        self.user_homes.rates_change(now_ms, &of_user);
        self.rates_changed();
    }

    pub(super) fn tidy_users(&mut self, cx: &Cx<'_>) {
        self.user_homes.tidy(cx.now.mono_ms);
    }

    /// A session does something: refused where it, or its user, has done too much lately. A refusal costs nothing. A
    /// connection that waits instead does it, and is not read until there is room for another command.
    pub(super) fn charge(&mut self, cx: &mut Cx<'_>, at: SessionRef, command: &Command) -> Result<(), Error> {
        let (now_ms, quotas) = (cx.now.mono_ms, &cx.limits.quotas);
        let waits = self.waits(at, false);
        let Some(session) = self.sessions.get(at) else { return Ok(()) };
        let (cost, user) = (command.cost(), session.user_index());
        let (of_session, of_user) = (quotas.of_session(), quotas.of_user());
        let spent = session.spent;
        let mut state = user.map(|user| &mut self.sessions.users[user as usize]);
        let used_up = |spent: &Spent, of_user_spent: Option<&Spent>, cost| {
            let users = of_user_spent.and_then(|spent| of_user.used_up(now_ms, spent, cost));
            of_session.used_up(now_ms, spent, cost).into_iter().chain(users).max_by_key(wait_ms)
        };
        let over = used_up(&spent, state.as_ref().map(|state| &state.spent), cost);
        if let Some(used_up) = over.filter(|_| waits.is_none()) {
            return Err(refusal(used_up));
        }
        let mut told = None;
        let mut spent_by_user = None;
        if let Some(state) = &mut state {
            of_user.spend(now_ms, &mut state.spent, cost);
            spent_by_user = Some(state.spent);
            state.untold += cost;
            if of_user.is_much(state.untold) {
                told = Some((state.user.clone(), state.take_untold(now_ms, &of_user)));
            }
        }
        let mut spent = spent;
        of_session.spend(now_ms, &mut spent, cost);
        if let Some(session) = self.sessions.get(at) {
            session.spent = spent;
        }
        if let Some((user, cost)) = told {
            self.tell_spent(cx, user, cost);
        }
        if let (Some(over), Some(id)) = (over, waits) {
            let over = used_up(&spent, spent_by_user.as_ref(), ONE).unwrap_or(over);
            self.throttle(cx, id, (over.limit, over.retry_after_ms), || refusal(over));
        }
        Ok(())
    }

    /// The time after which the client of a session may use one more new name, if it is to be refused one now.
    pub(super) fn name_refused_ms(&self, cx: &Cx<'_>, at: SessionRef) -> Option<u64> {
        self.name_waits_ms(cx, at).filter(|_| self.waits(at, false).is_none())
    }

    /// The time after which there is room for one more new name, if there is none now.
    fn name_waits_ms(&self, cx: &Cx<'_>, at: SessionRef) -> Option<u64> {
        let session = self.sessions.slab.get(at.index as usize).filter(|session| session.life == at.life)?;
        let spent = session.user_index().map_or(&session.spent, |user| &self.sessions.users[user as usize].spent);
        cx.limits.quotas.of_user().name_waits_ms(cx.now.mono_ms, spent)
    }

    /// The client of a session has used a new name.
    pub(crate) fn made(&mut self, cx: &mut Cx<'_>, at: SessionRef) {
        let (now_ms, quotas) = (cx.now.mono_ms, cx.limits.quotas);
        let of_user = quotas.of_user();
        let cost = Cost { channels: 1, ..Cost::default() };
        let is_over = self.name_waits_ms(cx, at).is_some();
        let Some(session) = self.sessions.get(at) else { return };
        match session.user_index() {
            None => of_user.spend(now_ms, &mut session.spent, cost),
            Some(user) => {
                let state = &mut self.sessions.users[user as usize];
                of_user.spend(now_ms, &mut state.spent, cost);
                state.untold += cost;
                if of_user.is_much(state.untold) {
                    let (user, cost) = (state.user.clone(), state.take_untold(now_ms, &of_user));
                    self.tell_spent(cx, user, cost);
                }
            }
        }
        if is_over
            && let Some(id) = self.waits(at, false)
            && let Some(wait_ms) = self.name_waits_ms(cx, at)
        {
            self.throttle(cx, id, ("new_channels_per_user", wait_ms), || Error::too_many_names(&quotas));
        }
    }

    /// Tells the home of the user what the user has done here.
    pub(super) fn tell_spent(&self, cx: &mut Cx<'_>, user: UserId, cost: Cost) {
        if cost != Cost::default() {
            cx.out.push_back((self.edges.home_of_user(&user), PeerBody::UserSpent { user, cost }));
        }
    }

    /// A user has done this much on another shard, or on any where this is its home.
    pub(crate) fn user_spent(&mut self, cx: &mut Cx<'_>, from: ShardId, user: UserId, cost: Cost) {
        let (now_ms, of_user) = (cx.now.mono_ms, cx.limits.quotas.of_user());
        if from != cx.me
            && let Some(state) = self.sessions.user_state(&user)
        {
            of_user.spend(now_ms, &mut state.spent, cost);
        }
        if self.edges.home_of_user(&user) != cx.me {
            return;
        }
        let Some(home) = self.user_homes.users.get_mut(&user) else { return };
        of_user.spend(now_ms, &mut home.spent, cost);
        if home.sessions > 1 {
            for shard in self.edges.shards().filter(|shard| *shard != from && *shard != cx.me) {
                cx.out.push_back((shard, PeerBody::UserSpent { user: user.clone(), cost }));
            }
        }
    }
}

fn wait_ms(used_up: &UsedUp) -> u64 {
    used_up.retry_after_ms
}

fn refusal(used_up: UsedUp) -> Error {
    let UsedUp { limit, rate, what, whose, retry_after_ms } = used_up;
    let (count, window_ms) = (rate.count(), rate.window_ms());
    let message = format!("one {whose} may send {count} {what} in {window_ms} ms, the limit (limits.{limit})");
    Error::new(ErrorCode::RateLimited, message).by_limit(limit).after_ms(retry_after_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::{Quotas, Rate};

    fn user(number: u64) -> UserId {
        UserId(number.to_string().into())
    }

    #[test]
    fn sessions_of_a_user_are_counted_up_to_the_limit() {
        let mut homes = UserHomes::new(Keyed(1));
        assert!(homes.enter(user(1), 2).is_ok() && homes.enter(user(1), 2).is_ok());
        assert_eq!(homes.enter(user(1), 2), Err(2));
        assert!(homes.enter(user(2), 2).is_ok(), "another user");
        assert!(homes.enter(user(1), 0).is_ok(), "no limit");
        for _ in 0..2 {
            homes.leave(0, &user(1));
        }
        assert!(homes.enter(user(1), 2).is_ok());
    }

    #[test]
    fn a_flood_of_users_takes_no_memory_for_ever() {
        let mut homes = UserHomes::new(Keyed(1));
        let allowance = Quotas { messages_per_user: Some(Rate::new(10, 60_000)), ..Quotas::NONE }.of_user();
        for number in 0..2 * IDLE_MAX as u64 {
            homes.enter(user(number), 1).expect("the first one");
            let home = homes.users.get_mut(&user(number)).expect("it is there");
            allowance.spend(0, &mut home.spent, Cost { messages: 10, ..Cost::default() });
            homes.leave(0, &user(number));
        }
        assert_eq!((homes.users.len(), homes.idle.len()), (IDLE_MAX, IDLE_MAX));
        homes.tidy(IDLE_MS);
        assert_eq!(homes.users.len(), IDLE_MAX, "they have done something lately");
        homes.tidy(60_000);
        assert_eq!((homes.users.len(), homes.idle.len()), (0, 0));
    }
}
