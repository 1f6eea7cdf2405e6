//! Pages of the connections and users on this shard. Nothing is changed by a list.
//!
//! In: of which, after which place, how many. Out: this shard's part. The sessions of a client, a user, a label or a
//! channel are taken from their index where these are few. Otherwise the table of sessions is walked, and only
//! `Limits::list_looks_max` places of it for one page: the part then says up to where it has looked.

use super::table::{Session, SessionTable};
use super::{Cx, Sessions};
use crate::app::AppAnswer;
use crate::ids::{ReplyAddress, UserId};
use crate::listing::{Among, ConnectionCursor, ConnectionInfo, ConnectionsPart, UserInfo, UserStatus};
use crate::name::ChannelName;
use crate::peer::PeerBody;
use std::collections::BTreeMap;
use std::mem::size_of;
use std::ops::Bound;

// So that the walk is as short as `list_looks_max` says.
const _: () = assert!(size_of::<Session>() <= 512, "a walk over the table takes longer");

/// What a list is of, with the channel's edge looked up.
enum Wanted<'a> {
    Any,
    Of(&'a Among),
    /// Subscribers of this edge.
    Edge(u32),
}

impl Wanted<'_> {
    fn is(&self, session: &Session) -> bool {
        session.conn.is_some()
            && match self {
                Wanted::Any => true,
                Wanted::Edge(edge) => session.sub_on(*edge).is_some_and(|slot| session.subs[slot].live().is_some()),
                Wanted::Of(Among::Client(client)) => session.client == *client,
                Wanted::Of(Among::User(user)) => session.user() == Some(user),
                Wanted::Of(Among::Label(label)) => {
                    session.identity().is_some_and(|identity| identity.proof.labels.contains(label))
                }
                Wanted::Of(Among::All | Among::Channel(_)) => false,
            }
    }
}

impl SessionTable {
    /// Users after this one, in their order, with their sessions.
    fn users_after(&self, after: Option<&UserId>) -> impl Iterator<Item = (&UserId, &[u32])> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let users = self.by_user.range::<UserId, _>((from, Bound::Unbounded));
        users.map(|(user, &at)| (user, &*self.users[at as usize].sessions))
    }
}

impl Sessions {
    /// This shard's part of a page of connections.
    pub(super) fn connections(
        &self,
        cx: &Cx<'_>,
        among: &Among,
        after: Option<ConnectionCursor>,
        limit: usize,
        to: ReplyAddress,
    ) -> ConnectionsPart {
        let (me, looks_max) = (cx.me, cx.limits.list_looks_max);
        let first = after.map_or(0, |after| after.place.saturating_add(u32::from(me <= after.shard)));
        let (places, looked_to) = self.places(among, first, limit, looks_max);
        let at = |place| ConnectionCursor { place, shard: me };
        let connection = |place: u32| {
            let session = &self.sessions.slab[place as usize];
            ConnectionInfo {
                client: session.client,
                user: session.user().cloned(),
                labels: session.identity().map(|identity| identity.proof.labels.clone()).unwrap_or_default(),
                channels: session.subs.len() as u32,
                facts: None,
                conn: session.conn.expect("only sessions with a connection are listed"),
                at: at(place),
            }
        };
        let connections = places.into_iter().map(connection).collect();
        ConnectionsPart { connections, looked_to: looked_to.map(at), to }
    }

    /// The places from `first` on, in order, at most `limit` of them, and the last place looked at if that is not the
    /// end.
    fn places(&self, among: &Among, first: u32, limit: usize, looks_max: usize) -> (Vec<u32>, Option<u32>) {
        let table = &self.sessions;
        let few = |len: usize| len <= looks_max;
        let wanted = match among {
            Among::All => Wanted::Any,
            Among::Client(client) => {
                return self.first_of(Wanted::Any, table.by_client.get(client).copied(), first, limit);
            }
            Among::User(user) => match table.sessions_of(user) {
                all if few(all.len()) => return self.first_of(Wanted::Any, all.iter().copied(), first, limit),
                _ => Wanted::Of(among),
            },
            Among::Label(label) => match table.labelled(label) {
                None => return (Vec::new(), None),
                Some(all) if few(all.len()) => {
                    return self.first_of(Wanted::Any, all.iter().copied(), first, limit);
                }
                Some(_) => Wanted::Of(among),
            },
            Among::Channel(channel) => match self.edges.find(channel) {
                None => return (Vec::new(), None),
                Some(index) => {
                    let edge = &self.edges.edges[index as usize];
                    if few(edge.count() as usize) {
                        let members = edge.places().map(|(_, _, member)| member.session);
                        return self.first_of(Wanted::Edge(index), members, first, limit);
                    }
                    Wanted::Edge(index)
                }
            },
        };
        self.walk(&wanted, first, limit, looks_max)
    }

    /// The first of these sessions.
    fn first_of(
        &self,
        wanted: Wanted<'_>,
        all: impl IntoIterator<Item = u32>,
        first: u32,
        limit: usize,
    ) -> (Vec<u32>, Option<u32>) {
        let is_wanted = |place: &u32| *place >= first && wanted.is(&self.sessions.slab[*place as usize]);
        let mut places: Vec<u32> = all.into_iter().filter(is_wanted).collect();
        let has_more = places.len() > limit;
        if has_more {
            places.select_nth_unstable(limit);
            places.truncate(limit);
        }
        places.sort_unstable();
        let last = places.last().copied().filter(|_| has_more);
        (places, last)
    }

    fn walk(&self, wanted: &Wanted<'_>, first: u32, limit: usize, looks_max: usize) -> (Vec<u32>, Option<u32>) {
        let slab = &self.sessions.slab;
        let mut places = Vec::new();
        for (looks, place) in (first..slab.capacity() as u32).enumerate() {
            if looks == looks_max {
                return (places, Some(place - 1));
            }
            if slab.get(place as usize).is_some_and(|session| wanted.is(session)) {
                if places.len() == limit {
                    return (places, Some(place - 1));
                }
                places.push(place);
            }
        }
        (places, None)
    }

    /// The shell has added what it knows.
    pub(crate) fn described(&mut self, cx: &mut Cx<'_>, part: ConnectionsPart) {
        let ConnectionsPart { connections, looked_to, to } = part;
        let part = AppAnswer::Connections { connections, next: looked_to };
        cx.out.push_back((to.shard, PeerBody::AppPart { token: to.token, part }));
    }

    /// This shard's part of a page of users.
    pub(super) fn users(
        &self,
        cx: &Cx<'_>,
        channel: Option<&ChannelName>,
        after: Option<&UserId>,
        limit: usize,
    ) -> AppAnswer {
        let looks_max = cx.limits.list_looks_max;
        let edge = channel.map(|channel| self.edges.find(channel));
        let (users, next) = match edge {
            Some(None) => (Vec::new(), None),
            Some(Some(index)) if self.edges.edges[index as usize].count() as usize <= looks_max => {
                self.users_of_edge(index, after, limit)
            }
            edge => self.users_walk(&edge.flatten().map_or(Wanted::Any, Wanted::Edge), after, limit, looks_max),
        };
        AppAnswer::Users { users, next }
    }

    fn users_of_edge(&self, index: u32, after: Option<&UserId>, limit: usize) -> (Vec<UserInfo>, Option<UserId>) {
        let mut users: BTreeMap<&UserId, u64> = BTreeMap::new();
        for (_, _, member) in self.edges.edges[index as usize].places() {
            let session = &self.sessions.slab[member.session as usize];
            if let Some(user) = session.user().filter(|user| after.is_none_or(|after| *user > after))
                && Wanted::Edge(index).is(session)
            {
                *users.entry(user).or_default() += 1;
            }
        }
        let has_more = users.len() > limit;
        let info = |(user, clients): (&UserId, u64)| UserInfo { user: user.clone(), clients };
        let users: Vec<UserInfo> = users.into_iter().take(limit).map(info).collect();
        let next = users.last().filter(|_| has_more).map(|last| last.user.clone());
        (users, next)
    }

    /// What this shard knows of a user.
    pub(super) fn status(&self, user: &UserId) -> UserStatus {
        let sessions = self.sessions.sessions_of(user).iter();
        let clients = sessions.filter(|&&place| self.sessions.slab[place as usize].conn.is_some()).count() as u64;
        UserStatus { user: user.clone(), clients, last_seen_ms: self.seen.last_ms(user) }
    }

    /// Users in their order. One user's sessions are always looked at together, however many they are.
    fn users_walk(
        &self,
        wanted: &Wanted<'_>,
        after: Option<&UserId>,
        limit: usize,
        looks_max: usize,
    ) -> (Vec<UserInfo>, Option<UserId>) {
        let (mut users, mut looks) = (Vec::new(), 0);
        let mut last = after;
        for (user, sessions) in self.sessions.users_after(after) {
            if looks >= looks_max {
                return (users, last.cloned());
            }
            looks += 1 + sessions.len();
            let clients =
                sessions.iter().filter(|&&place| wanted.is(&self.sessions.slab[place as usize])).count() as u64;
            if clients > 0 {
                if users.len() == limit {
                    return (users, last.cloned());
                }
                users.push(UserInfo { user: user.clone(), clients });
            }
            last = Some(user);
        }
        (users, None)
    }
}
