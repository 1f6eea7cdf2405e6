//! A session begins, comes back on another connection or shard, and ends.
//!
//! A connection that resumes *adopts* its session where it landed: the old connection is let go, the incarnation counts
//! up, and the state of the old shard (identity, presence, waiting signals) comes along. A ticket takes a session over
//! that has no open connection, or an earlier one of the same page; any other client with that ticket (a duplicated
//! tab) gets a session of its own, or the two would push each other out without end. The presence of channels that the
//! client does not subscribe to again is cleared.

use super::lane::{Lanes, Waiting};
use super::mailbox::MailboxMax;
use super::moved::Whose;
use super::pending::{Connecting, Pending, ReplyTo};
use super::question::no_tokens;
use super::sends::Sends;
use super::subscribe::may_enter;
use super::table::{Extra, SeatState};
use super::unheard::Unheard;
use super::{Cx, Sessions};
use crate::attachment::Attachment;
use crate::disconnect::Disconnect;
use crate::effects::Effect;
use crate::error::{Error, ErrorCode};
use crate::hook::{Caller, Ended, Notice};
use crate::identity::Identity;
use crate::ids::{ClientId, ConnId, Seat, SeatId, SessionRef, ShardId};
use crate::members::AnswerPart;
use crate::message::{Connect, Connected, Proof, ReplyBody, Resume, SignalPush};
use crate::peer::{Adopted, Claim, Entered, Found, PeerBody, PendingToken, ToHome};
use crate::quota::{Cost, Spent};
use crate::timer::Timer;
use crate::watch::Noted;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::sync::Arc;

/// Longer than a message between shards is under way.
const MOVE_MS: u64 = 10_000;

impl Sessions {
    pub(super) fn connect(&mut self, cx: &mut Cx<'_>, at: SeatId, reply: ReplyTo, connect: Connect) {
        if connect.token.is_some() && !cx.hooks.connect {
            self.reply(cx, Some(at), reply, ReplyBody::Error(no_tokens()));
            return self.count_bad(cx, at.conn);
        }
        // A ticket names a session: where that lives on, it needs no other word. Where it does not, `start_session`
        // asks.
        let ask = cx.hooks.connect && (connect.token.is_some() || connect.resume.is_none());
        let connecting = Connecting { at, reply, connect, identified: false, entered: None, waiting: VecDeque::new() };
        if ask { self.ask_connect(cx, connecting) } else { self.take_up(cx, connecting) }
    }

    /// The identity is known: resumes the session that the ticket names, or starts a new one.
    pub(super) fn take_up(&mut self, cx: &mut Cx<'_>, connecting: Connecting) {
        if let Some(error) = self.banned_from(cx, &connecting) {
            return self.connect_refused(cx, connecting, error);
        }
        match connecting.connect.resume {
            // The session is here, even if the ticket names another shard: an earlier resume whose answer was lost may
            // have moved it.
            Some(Resume { client, .. }) if self.sessions.by_client.contains_key(&client) => {
                match self.sessions.by_client.get(&client) {
                    Some(&index) if self.takes_over(cx, index, &self.claim(&connecting)) => {
                        self.resume_here(cx, connecting, index)
                    }
                    _ => self.start_session(cx, connecting, None),
                }
            }
            Some(Resume { shard, client }) if self.edges.is_shard(shard) => {
                // The ticket may be of here, and its session have gone on since.
                let left = self.sessions.moved.shard_of(client).filter(|_| shard == cx.me);
                let (id, claim) = (connecting.at, self.claim(&connecting));
                let next = (claim.looks > 0).then(|| self.edges.after(cx.me));
                let shard = left.or(Some(shard)).filter(|shard| *shard != cx.me).or(next);
                let Some(shard) = shard.filter(|shard| *shard != cx.me) else {
                    return self.start_session(cx, connecting, None);
                };
                let token = self.pending.insert(Pending::Adopt(Box::new(connecting)));
                if let Some(conn) = self.conn(id.conn) {
                    conn.seat_mut(id.seat).adopting = Some(token);
                }
                cx.out.push_back((shard, PeerBody::Adopt { token, client, claim, origin: cx.me }));
            }
            _ => self.start_session(cx, connecting, None),
        }
    }

    fn banned_from(&self, cx: &Cx<'_>, connecting: &Connecting) -> Option<Error> {
        let Connect { user, resume, .. } = &connecting.connect;
        self.banned(cx, user.as_ref(), resume.as_ref().map(|resume| resume.client))
    }

    /// The claim of a client that comes with a ticket.
    fn claim(&self, connecting: &Connecting) -> Claim {
        let Connect { user, page, .. } = &connecting.connect;
        let shown = (connecting.identified || user.is_some()).then(|| user.clone());
        // It comes with its old ticket for as long as it does not have the answer: until its new connection is found
        // dead, and then as long as its session lives.
        let (remember_ms, by_ms) = self.conns.get(connecting.at.conn.index as usize).map_or((0, 0), |conn| {
            (2 * u64::from(conn.heartbeat.every_ms) + u64::from(conn.grace_ms) + MOVE_MS, conn.connect_by_ms)
        });
        let is_kept = connecting.connect.subscribe.iter().any(|options| options.keep);
        let looks = if is_kept { self.edges.shards().count() } else { 0 };
        Claim { shown, page: page.clone(), by_ms, remember_ms, looks }
    }

    /// Whether a client with the ticket of this session goes on with it.
    fn takes_over(&self, cx: &Cx<'_>, index: u32, claim: &Claim) -> bool {
        let session = &self.sessions.slab[index as usize];
        // A ticket names a session, a token a user: they must be of the same one. Without a token the session's own
        // must hold.
        let expires_ms = session.identity().and_then(|identity| identity.proof.expires_ms);
        let is_its_user = match &claim.shown {
            Some(user) => user.as_ref() == session.user(),
            None => expires_ms.is_none_or(|at| cx.now.wall_ms < at),
        };
        // Two clients without a page id count as two pages.
        let same_page = claim.page.is_some() && claim.page == session.page;
        // The question of an earlier connection of a page may arrive after a later connection has the session, or has
        // had it: the page has given the earlier one up.
        let is_later = session.connect_by_ms <= claim.by_ms;
        is_its_user && if same_page { is_later } else { session.conn.is_none() }
    }

    /// A session begins, unless there is a reason against it: with the state of the one that goes on, if one does.
    pub(super) fn start_session(
        &mut self,
        cx: &mut Cx<'_>,
        mut connecting: Connecting,
        adopted: Option<(ClientId, Adopted)>,
    ) {
        if adopted.is_none() && connecting.connect.only_resume {
            let error = Error::new(ErrorCode::NotConnected, "the session is over, or goes on elsewhere");
            return self.connect_refused(cx, connecting, error);
        }
        if adopted.is_none() && cx.hooks.connect && !connecting.identified {
            // The ticket's facts end with the session: the application may have sent its user away since.
            let Connect { page, subscribe, program, .. } = connecting.connect;
            connecting.connect = Connect { page, subscribe, program, ..Connect::default() };
            return self.ask_connect(cx, connecting);
        }
        // The ban may have come while the session was looked for. One that was found is ended by the ban's own way.
        if adopted.is_none()
            && let Some(error) = self.banned_from(cx, &connecting)
        {
            self.user_leaves(cx, &connecting);
            return self.connect_refused(cx, connecting, error);
        }
        if adopted.is_none()
            && connecting.entered.is_none()
            && let Some(user) = connecting.connect.user.clone()
        {
            return self.ask_user(cx, connecting, user);
        }
        self.begin_session(cx, connecting, adopted);
    }

    fn begin_session(&mut self, cx: &mut Cx<'_>, mut connecting: Connecting, adopted: Option<(ClientId, Adopted)>) {
        let id = connecting.at;
        let Some(conn) = self.conn(id.conn) else { return self.user_leaves(cx, &connecting) };
        let (wire, grace_ms, connect_by_ms) = (conn.wire, conn.grace_ms, conn.connect_by_ms);
        let resumed = adopted.is_some();
        let (client, adopted) = match adopted {
            Some((client, adopted)) => (client, Some(adopted)),
            None => (ClientId(cx.rng.next_u64()), None),
        };
        let at = self.sessions.open(client, id, wire, grace_ms);
        let mut identity = identity_of(&mut connecting, resumed);
        let session = self.sessions.get(at).expect("just opened");
        (session.page, session.connect_by_ms) = (connecting.connect.page.take(), connect_by_ms);
        let mut entered = Vec::new();
        let (mut mailbox, mut sends) = (Vec::new(), None);
        let (mut user_spent, mut user_untold) = (connecting.entered.unwrap_or_default(), Cost::default());
        let is_new = adopted.is_none();
        if let Some(adopted) = adopted {
            session.spent = adopted.spent;
            (user_spent, user_untold) = (adopted.user_spent, adopted.user_untold);
            session.incarnation = adopted.incarnation;
            session.program = adopted.program;
            identity.get_or_insert(adopted.identity);
            if !adopted.granted.is_empty() {
                session.extra().granted = adopted.granted;
            }
            if !adopted.joined.is_empty() {
                session.extra().joined = adopted.joined;
            }
            if !adopted.rates.is_empty() {
                session.extra().rates = adopted.rates;
            }
            sends = adopted.sends;
            if let Some(unheard) = adopted.unheard {
                session.extra().unheard = Some(Box::new(Unheard::adopted(*unheard)));
            }
            if !adopted.directed.is_empty() {
                session.extra().directed = adopted.directed;
            }
            if !adopted.kept.is_empty() {
                session.extra().kept = adopted.kept;
            }
            entered = adopted.entered;
            mailbox = adopted.mailbox;
        }
        for signal in mailbox {
            session.extra().mailbox.put(signal, MailboxMax::of(cx.limits));
        }
        if let Some(sends) = sends {
            self.sessions.adopt_sends(at.index, Sends::adopted(*sends));
        }
        self.sessions.identify(at.index, identity.unwrap_or_default());
        self.sessions.has_spent(at.index, &user_spent, user_untold);
        if is_new {
            self.begins_spent(id.conn, at);
        }
        if let Some(conn) = self.conn(id.conn) {
            conn.seat_mut(id.seat).session = Some(at.index);
            conn.has_entered = true;
        }
        self.welcome(cx, at, connecting, resumed, entered);
    }

    fn resume_here(&mut self, cx: &mut Cx<'_>, mut connecting: Connecting, index: u32) {
        if let Some(old) = self.sessions.slab[index as usize].conn {
            self.moves(cx, old);
            self.let_go(cx, old, index);
            self.detach(cx, index);
        }
        let id = connecting.at;
        let Some(conn) = self.conn(id.conn) else { return };
        conn.seat_mut(id.seat).session = Some(index);
        conn.has_entered = true;
        let (wire, grace_ms, connect_by_ms) = (conn.wire, conn.grace_ms, conn.connect_by_ms);
        let at = self.sessions.reference(index);
        let session = &mut self.sessions.slab[index as usize];
        (session.conn, session.seat) = (Some(id.conn), id.seat);
        self.sessions.connected += 1;
        self.sessions.away.back(index);
        session.wire = wire;
        session.grace_ms = grace_ms;
        session.comes_from(connecting.connect.page.take());
        session.connect_by_ms = connect_by_ms;
        session.incarnation += 1;
        if let Some(identity) = identity_of(&mut connecting, true) {
            self.sessions.identify(index, identity);
        }
        let session = &mut self.sessions.slab[index as usize];
        if let Some(extra) = &mut session.extra {
            extra.attachment = None; // this connection has its own
        }
        let entered = session.extra.as_mut().map(|e| std::mem::take(&mut e.entered)).unwrap_or_default();
        self.welcome(cx, at, connecting, true, entered);
    }

    /// Answers `connect` and makes its subscriptions; presence goes on where the channel is subscribed to again.
    fn welcome(
        &mut self,
        cx: &mut Cx<'_>,
        at: SessionRef,
        connecting: Connecting,
        resumed: bool,
        entered: Vec<Entered>,
    ) {
        let Connecting { at: id, reply, connect, waiting, .. } = connecting;
        let ping_ms = self.conn(id.conn).map_or(0, |conn| u64::from(conn.heartbeat.every_ms));
        let Some(session) = self.sessions.get(at) else { return };
        let (client, incarnation, user) = (session.client, session.incarnation, session.user().cloned());
        let proof = session.proof();
        let expires_in_ms = proof.expires_in_ms(cx.now.wall_ms);
        let before = std::mem::replace(&mut session.program, connect.program.clone());
        let (message_rate, byte_rate) =
            (cx.limits.quotas.messages_per_connection, cx.limits.quotas.bytes_per_connection);
        let connected = Connected {
            client,
            user,
            resumed,
            incarnation,
            ping_ms,
            proof,
            expires_in_ms,
            message_rate,
            byte_rate,
            before,
        };
        self.reply(cx, Some(id), reply, ReplyBody::Connected(Box::new(connected)));
        self.begin_expiry(cx, at);
        if let Some(extra) = self.sessions.get(at).and_then(|session| session.extra.as_mut()) {
            extra.granted.retain(|granted| connect.subscribe.iter().any(|options| options.channel == *granted));
            extra.joined.retain(|joined| connect.subscribe.iter().any(|options| options.channel == joined.channel));
            extra.kept.retain(|kept| connect.subscribe.iter().any(|it| it.keep && it.channel == kept.channel));
        }
        self.say_again(cx, at, &connect);
        let mut going_on = Vec::new();
        for Entered { channel, entry } in entered {
            let Some(session) = self.sessions.get(at) else { return };
            let subscribes = connect.subscribe.iter().any(|options| options.channel == channel);
            if subscribes && may_enter(cx, &channel, session.entitlement()) {
                // The home gets a new entry with the current facts: it ignores messages of the earlier shard from here
                // on.
                let entry = Arc::new(session.presence_entry(entry.data.clone(), entry.person.clone()));
                self.tell_home(cx, &channel, ToHome::Enter { token: None, incarnation, entry: entry.clone() });
                going_on.push(Entered { channel, entry });
            } else {
                if let Some(extra) = &mut session.extra {
                    extra.mailbox.forget(&channel, false);
                }
                self.tell_home(cx, &channel, ToHome::Leave { token: None, incarnation, client });
            }
        }
        for options in connect.subscribe {
            let goes_on = going_on.iter().find(|entered| entered.channel == options.channel);
            let goes_on = goes_on.map(|entered| entered.entry.clone());
            self.subscribe(cx, at, ReplyTo::Bare, options, goes_on);
        }
        for request in waiting {
            self.command(cx, id, request);
        }
        self.pause_as_due(cx, id.conn);
    }

    /// Signals of its polled connection that the client has not had wait for its new connection, before those that wait
    /// already: on the channels that it subscribes to.
    fn say_again(&mut self, cx: &Cx<'_>, at: SessionRef, connect: &Connect) {
        let Some(extra) = self.sessions.get(at).and_then(|session| session.extra.as_mut()) else { return };
        let Some(unheard) = extra.unheard.take() else { return };
        let later = extra.mailbox.take();
        let follows =
            |signal: &Arc<SignalPush>| connect.subscribe.iter().any(|options| options.channel == signal.signal.channel);
        for signal in unheard.after(connect.ack).filter(follows).chain(later) {
            extra.mailbox.put(signal, MailboxMax::of(cx.limits));
        }
    }

    /// Another shard asks for a session of ours whose client has come back there. One that has gone on from here is
    /// asked for where it went: its client never had the ticket of that shard, when it was cut off again before the
    /// answer.
    pub(crate) fn adopt(
        &mut self,
        cx: &mut Cx<'_>,
        from: ShardId,
        token: PendingToken,
        client: ClientId,
        claim: Claim,
    ) {
        if let (None, Some(next)) = (self.sessions.by_client.get(&client), self.sessions.moved.shard_of(client)) {
            return cx.out.push_back((next, PeerBody::Adopt { token, client, claim, origin: from }));
        }
        let index = self.sessions.by_client.get(&client).copied();
        if index.is_none() && claim.looks > 0 {
            let next = std::iter::successors(Some(self.edges.after(cx.me)), |shard| Some(self.edges.after(*shard)));
            let next = next.take(2).find(|shard| *shard != from).filter(|shard| *shard != cx.me);
            if let Some(next) = next {
                let claim = Claim { looks: claim.looks - 1, ..claim };
                return cx.out.push_back((next, PeerBody::Adopt { token, client, claim, origin: from }));
            }
        }
        // A client that holds another's ticket must not end the connection of its owner.
        if index.is_some_and(|index| !self.takes_over(cx, index, &claim)) {
            return cx.out.push_back((from, PeerBody::Adopted { token, found: Found::Stays }));
        }
        let found = index.map_or(Found::Nothing, |index| {
            let mut attachment = None;
            if let Some(old) = self.sessions.slab[index as usize].conn {
                self.moves(cx, old);
                attachment = self.let_go(cx, old, index);
                self.detach(cx, index);
            }
            let user = self.sessions.slab[index as usize].user_index();
            // Where others of the user stay, this shard tells the home the rest, and the home tells the other shards.
            let of_user = cx.limits.quotas.of_user();
            let told = user.map_or_else(Spent::default, |user| self.sessions.users[user as usize].told(&of_user));
            let (mut session, identity, last) = self.sessions.remove(index);
            let (user_spent, user_untold) = last.map_or((told, Cost::default()), |user| (user.spent, user.untold));
            session.comes_from(claim.page);
            // If the client is away again when its session arrives, no edge there follows these channels. Signals for
            // it come to the edges here, which forward them.
            let grace_until_ms = cx.now.mono_ms + u64::from(session.grace_ms);
            for Entered { channel, .. } in session.extra.iter().flat_map(|extra| &extra.entered) {
                if let Some(edge) = self.edges.find(channel) {
                    self.edges.edges[edge as usize].keep(grace_until_ms);
                    self.linger(cx, edge);
                }
            }
            let until_ms = cx.now.mono_ms + claim.remember_ms;
            let of = Whose { user: identity.user.clone(), labels: identity.proof.labels.clone() };
            let forgotten = self.sessions.moved.left(until_ms, client, of, from, cx.limits.moved_bytes_max);
            self.counts.limited_times("moved_bytes_max", forgotten);
            let extra = session.extra.map(|e| *e).unwrap_or_default();
            let mut mailbox = extra.mailbox;
            Found::Session(Box::new(Adopted {
                identity,
                incarnation: session.incarnation + 1,
                page: session.page,
                connect_by_ms: claim.by_ms,
                grace_ms: session.grace_ms,
                entered: extra.entered,
                granted: extra.granted,
                joined: extra.joined,
                mailbox: mailbox.take(),
                directed: extra.directed,
                rates: extra.rates,
                sends: extra.sends.map(|sends| Box::new(sends.into_adopted())),
                unheard: extra.unheard.map(|unheard| Box::new(unheard.into_adopted())),
                attachment: attachment.or(extra.attachment).filter(|_| cx.hooks.disconnect),
                kept: extra.kept,
                program: session.program,
                spent: session.spent,
                user_spent,
                user_untold,
            }))
        });
        cx.out.push_back((from, PeerBody::Adopted { token, found }));
    }

    /// The answer to our `Adopt`: the connection has a session, the old one or a new one, and its commands go on.
    pub(crate) fn adopted(&mut self, cx: &mut Cx<'_>, token: PendingToken, found: Found) {
        let Some(Pending::Adopt(connecting)) = self.pending.take(token) else { return };
        let id = connecting.at;
        let client = connecting.connect.resume.map(|resume| resume.client);
        if let (Some(client), Found::Session(_) | Found::Nothing) = (client, &found) {
            self.sessions.moved.arrived(client);
        }
        let adopted = match (client, found) {
            (Some(client), Found::Session(session)) => Some((client, *session)),
            _ => None,
        };
        let Some(conn) = self.conn(id.conn) else {
            // The client is away again. The fetched session lives out its grace here, without a connection.
            if let Some((client, session)) = adopted {
                self.keep_orphan(cx, client, session);
            }
            return;
        };
        conn.seat_mut(id.seat).adopting = None;
        self.start_session(cx, *connecting, adopted);
    }

    fn keep_orphan(&mut self, cx: &mut Cx<'_>, client: ClientId, adopted: Adopted) {
        let nowhere = SeatId { conn: ConnId { index: u32::MAX, generation: 0 }, seat: Seat::default() };
        let at = self.sessions.open(client, nowhere, crate::ids::WireId(0), adopted.grace_ms);
        self.sessions.disconnect(at.index);
        self.sessions.identify(at.index, adopted.identity);
        self.sessions.has_spent(at.index, &adopted.user_spent, adopted.user_untold);
        if let Some(sends) = adopted.sends {
            self.sessions.adopt_sends(at.index, Sends::adopted(*sends));
        }
        let session = self.sessions.get(at).expect("just opened");
        session.incarnation = adopted.incarnation;
        (session.page, session.connect_by_ms) = (adopted.page, adopted.connect_by_ms);
        session.program = adopted.program;
        session.spent = adopted.spent;
        session.extra().entered = adopted.entered;
        session.extra().granted = adopted.granted;
        session.extra().joined = adopted.joined;
        session.extra().rates = adopted.rates;
        session.extra().directed = adopted.directed;
        session.extra().unheard = adopted.unheard.map(|unheard| Box::new(Unheard::adopted(*unheard)));
        session.extra().attachment = adopted.attachment;
        session.extra().kept = adopted.kept;
        for signal in adopted.mailbox {
            session.extra().mailbox.put(signal, MailboxMax::of(cx.limits));
        }
        let timer = Timer::Grace { session: at.index, life: at.life, incarnation: adopted.incarnation };
        cx.wheel.add(cx.now.mono_ms + u64::from(adopted.grace_ms), timer);
        self.judge_presence(cx, at);
        self.is_away(cx, at.index);
    }

    /// The connection is no more: returns the sessions that it had, and its attachment.
    fn forget_conn(&mut self, id: ConnId) -> (SmallVec<[u32; 1]>, Option<Attachment>) {
        let Some(conn) = self.conn(id) else { return (SmallVec::new(), None) };
        conn.open = false;
        let sessions = conn.sessions().collect();
        (conn.first, conn.others) = (SeatState::default(), None);
        let attachment = conn.attachment.take();
        if std::mem::take(&mut conn.full) {
            self.full -= 1;
        }
        self.left.remove(&id);
        (sessions, attachment)
    }

    /// One of its sessions goes on elsewhere, so a connection ends: the others are away from here on. Returns its
    /// attachment.
    fn let_go(&mut self, cx: &mut Cx<'_>, id: ConnId, goes: u32) -> Option<Attachment> {
        let grace_ms = self.conn(id).map_or(0, |conn| conn.grace_ms);
        let (sessions, attachment) = self.forget_conn(id);
        for session in sessions.into_iter().filter(|session| *session != goes) {
            self.away(cx, session, attachment.clone(), grace_ms, None);
        }
        attachment
    }

    /// A connection is gone. `finally` when its client will not come back: then no grace is given.
    pub(crate) fn closed(&mut self, cx: &mut Cx<'_>, id: ConnId, finally: bool) {
        self.over(cx, id, finally.then_some(Ended::Left));
    }

    /// The session of a connection goes on elsewhere, and the connection ends.
    fn moves(&mut self, cx: &mut Cx<'_>, old: ConnId) {
        cx.effects.add(Effect::Close { conn: old, reason: Disconnect::Moved });
        self.note(cx, Some(old), Noted::Closed(Disconnect::Moved));
    }

    /// The client ends its session. Commands of it that have no answer yet may take effect or not.
    pub(super) fn leave(&mut self, cx: &mut Cx<'_>, at: SessionRef, reply: ReplyTo) {
        let Some(seat) = self.sessions.get(at).map(|session| session.seat_id()) else { return };
        self.reply(cx, seat, reply, ReplyBody::Done);
        match seat {
            Some(seat) => self.close(cx, seat.conn, Disconnect::Left),
            None => self.end(cx, at.index, Ended::Left),
        }
    }

    /// A connection is over. `why` its sessions are too, where they are.
    pub(super) fn over(&mut self, cx: &mut Cx<'_>, id: ConnId, why: Option<Ended>) {
        let Some(conn) = self.conn(id) else { return };
        let grace_ms = conn.grace_ms;
        let (sessions, attachment) = self.forget_conn(id);
        for session in sessions {
            self.away(cx, session, attachment.clone(), grace_ms, why);
        }
    }

    /// A session ends, and its connection stays: another one may begin in the same seat.
    pub(super) fn leave_seat(&mut self, cx: &mut Cx<'_>, at: SeatId, why: Ended) {
        let Some(conn) = self.conn(at.conn) else { return };
        let session = conn.seat_mut(at.seat).session.take();
        let attachment = conn.attachment.clone();
        let Some(index) = session else { return };
        self.leaves_spent(cx.now.mono_ms, at.conn, index);
        self.away(cx, index, attachment, 0, Some(why));
        self.pause_as_due(cx, at.conn);
    }

    /// A session has lost its connection, or has left it.
    fn away(&mut self, cx: &mut Cx<'_>, index: u32, attachment: Option<Attachment>, grace_ms: u32, why: Option<Ended>) {
        self.detach(cx, index);
        let session = &mut self.sessions.slab[index as usize];
        if let Some(user) = session.user() {
            self.seen.put(user, cx.now.wall_ms);
        }
        if attachment.is_some() && cx.hooks.disconnect {
            session.extra().attachment = attachment;
        }
        if grace_ms == 0 || why.is_some() {
            return self.end(cx, index, why.unwrap_or(Ended::Lost));
        }
        let timer = Timer::Grace { session: index, life: session.life, incarnation: session.incarnation };
        cx.wheel.add(cx.now.mono_ms + u64::from(grace_ms), timer);
        self.is_away(cx, index);
    }

    /// Takes a session off its connection: nothing is delivered to it, its presence stays.
    fn detach(&mut self, cx: &mut Cx<'_>, index: u32) {
        self.sessions.renew(index);
        self.sessions.disconnect(index);
        let session = &mut self.sessions.slab[index as usize];
        session.pulling = None;
        session.pages = 0;
        session.outstanding = 0;
        let (mut lanes, mut queued_questions) = (Lanes::default(), VecDeque::new());
        if let Some(extra) = &mut session.extra {
            (lanes, queued_questions) = (std::mem::take(&mut extra.lanes), std::mem::take(&mut extra.queued_questions));
            extra.questions = 0; // answers to those of the old connection find nobody
            for ask in std::mem::take(&mut extra.asked) {
                cx.out.push_back((ask.to.shard, PeerBody::Answer { token: ask.to.token, part: AnswerPart::Left }));
            }
        }
        self.drop_lanes(cx, lanes);
        self.sessions.slab[index as usize].keep_whole();
        while let Some(sub) = self.sessions.slab[index as usize].subs.last() {
            let (edge, entered) = (sub.edge, sub.entered.clone());
            let slot = self.sessions.slab[index as usize].subs.len() - 1;
            if let Some(entry) = entered {
                let until_ms = cx.now.mono_ms + u64::from(self.sessions.slab[index as usize].grace_ms);
                let edge = &mut self.edges.edges[edge as usize];
                edge.keep(until_ms);
                let channel = edge.name.clone();
                self.sessions.slab[index as usize].extra().entered.push(Entered { channel, entry });
            }
            self.keep_sub(cx, index, slot);
            self.take_sub(cx, index, slot);
        }
        self.drop_queued_questions(cx, queued_questions);
        self.drop_early(cx, index);
    }

    /// Commands that never had their turn: their places in a gathered answer are filled, so that nothing is kept for
    /// them.
    fn drop_lanes(&mut self, cx: &mut Cx<'_>, lanes: Lanes) {
        for waiting in lanes.into_waiting() {
            let (Waiting::Subscribe(_, reply) | Waiting::Command(_, reply)) = waiting;
            self.not_done(cx, reply);
        }
    }

    /// The connection is over, and this command is not done. Its asker gets the error, unless that is the connection
    /// itself.
    pub(super) fn not_done(&mut self, cx: &mut Cx<'_>, reply: ReplyTo) {
        let error = Error::new(ErrorCode::Unavailable, "the connection ended before this was done");
        self.reply(cx, None, reply, ReplyBody::Error(error));
    }

    /// The grace is over, unless the client came back meanwhile.
    pub(crate) fn grace_over(&mut self, cx: &mut Cx<'_>, index: u32, life: u32, incarnation: u32) {
        let at = SessionRef { index, life };
        if self.sessions.get(at).is_some_and(|s| s.conn.is_none() && s.incarnation == incarnation) {
            self.end(cx, at.index, Ended::Lost);
        }
    }

    /// The session ends, and its presence with it.
    pub(super) fn end(&mut self, cx: &mut Cx<'_>, index: u32, why: Ended) {
        let (session, identity, last) = self.sessions.remove(index);
        if let Some(mut last) = last {
            let untold = last.take_untold(cx.now.mono_ms, &cx.limits.quotas.of_user());
            self.tell_spent(cx, last.user, untold);
        }
        if let Some(user) = &identity.user {
            self.user_left(cx, user.clone());
        }
        let (user, Proof { info, claims, .. }) = (identity.user, identity.proof);
        let caller = Caller { client: Some(session.client), user, info, claims };
        let (client, incarnation) = (session.client, session.incarnation);
        let Extra { entered, attachment, .. } = session.extra.map(|extra| *extra).unwrap_or_default();
        for Entered { channel, .. } in entered {
            self.tell_home(cx, &channel, ToHome::Leave { token: None, incarnation, client });
        }
        if cx.hooks.disconnect {
            cx.effects.add(Effect::Notice(Box::new(Notice::SessionEnded { caller, why, attachment })));
        }
    }

    /// The time for a valid `connect` is over. The connection is closed, unless a `connect` was accepted or is being
    /// decided.
    pub(crate) fn connect_timeout(&mut self, cx: &mut Cx<'_>, id: ConnId) {
        let Some(conn) = self.conn(id) else { return };
        if !conn.has_entered && !conn.is_deciding() && conn.connect_by_ms <= cx.now.mono_ms {
            let reason = if conn.may_come_back { Disconnect::Overloaded } else { Disconnect::NotConnected };
            self.close(cx, id, reason);
        }
    }
}

/// The identity that a connection proves, where it replaces the session's. `resumed`: a bare ticket never replaces the
/// session's identity.
fn identity_of(connecting: &mut Connecting, resumed: bool) -> Option<Identity> {
    let Connect { user, proof, .. } = &mut connecting.connect;
    let replaces = connecting.identified || (!resumed && (user.is_some() || *proof != Proof::default()));
    replaces.then(|| Identity { user: user.take(), proof: std::mem::take(proof), ..Identity::default() })
}
