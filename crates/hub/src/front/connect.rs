//! A session begins, comes back on another connection or shard, and ends.
//!
//! A connection that resumes *adopts* its session where it landed: the old connection is let go, the incarnation counts up,
//! and what the old shard held (identity, presence, waiting signals) comes along. The presence of channels that the client
//! does not subscribe to again is cleared.

use super::ask::{Adopting, Ask, ReplyTo};
use super::lane::{Lanes, Waiting};
use super::session::{Identity, SessionRef};
use super::{Cx, Front};
use crate::disconnect::Disconnect;
use crate::effects::Effect;
use crate::error::{Error, ErrorCode};
use crate::ids::{ClientId, ConnId, ShardId};
use crate::name::ChannelName;
use crate::peer::{Adopted, AskToken, PeerBody, ToHome};
use crate::planted::{Planted, planted};
use crate::shard::Timer;
use crate::vocabulary::{Connect, Connected, ReplyBody, Resume};
use std::collections::VecDeque;

impl Front {
    pub(super) fn connect(&mut self, cx: &mut Cx<'_>, conn: ConnId, reply: ReplyTo, connect: Connect) {
        match connect.resume {
            // Here, whatever the ticket says: it may have come over by an earlier resume whose answer was lost.
            Some(Resume { client, .. }) if self.sessions.by_client.contains_key(&client) => {
                match self.sessions.by_client.get(&client) {
                    Some(&index) if self.may_resume(index, &connect) => {
                        self.resume_here(cx, conn, reply, connect, index)
                    }
                    _ => self.start_session(cx, conn, reply, connect, None),
                }
            }
            Some(Resume { shard, .. }) if shard == cx.me || !self.edges.is_shard(shard) => {
                self.start_session(cx, conn, reply, connect, None);
            }
            Some(Resume { shard, client }) => {
                let adopting = Adopting { conn, reply, connect, waiting: VecDeque::new() };
                let token = self.asks.insert(Ask::Adopt(Box::new(adopting)));
                if let Some(conn) = self.conn(conn) {
                    conn.adopting = Some(token);
                }
                cx.out.push_back((shard, PeerBody::Adopt { token, client }));
            }
            None => self.start_session(cx, conn, reply, connect, None),
        }
    }

    /// A ticket names a session, a token a user: they must be of the same one.
    fn may_resume(&self, index: u32, connect: &Connect) -> bool {
        let session = &self.sessions.slab[index as usize];
        connect.user.is_none() || connect.user.as_ref() == session.user()
    }

    fn start_session(
        &mut self,
        cx: &mut Cx<'_>,
        id: ConnId,
        reply: ReplyTo,
        connect: Connect,
        adopted: Option<(ClientId, Adopted)>,
    ) {
        let Some(conn) = self.conn(id) else { return };
        let (wire, grace_ms, full) = (conn.wire, conn.grace_ms, conn.full);
        let resumed = adopted.is_some();
        let (client, adopted) = match adopted {
            Some((client, adopted)) => (client, Some(adopted)),
            None => (ClientId(cx.rng.next_u64()), None),
        };
        let at = self.sessions.open(client, id, wire, grace_ms);
        let mut identity = Identity { user: connect.user.clone(), info: connect.info.clone() };
        let session = self.sessions.get(at).expect("just opened");
        session.full = full;
        let mut entered = Vec::new();
        let mut mailbox = Vec::new();
        if let Some(adopted) = adopted {
            session.incarnation = adopted.incarnation;
            if identity == Identity::default() {
                identity = adopted.identity;
            }
            if !adopted.granted.is_empty() {
                session.extra().granted = adopted.granted;
            }
            entered = adopted.entered;
            mailbox = adopted.mailbox;
        }
        for signal in mailbox {
            session.extra().mailbox.put(signal, cx.limits.signals_waiting_max);
        }
        self.sessions.identify(at.index, identity);
        if let Some(conn) = self.conn(id) {
            conn.session = Some(at.index);
        }
        self.welcome(cx, id, at, reply, connect, resumed, entered);
    }

    fn resume_here(&mut self, cx: &mut Cx<'_>, id: ConnId, reply: ReplyTo, connect: Connect, index: u32) {
        if let Some(old) = self.sessions.slab[index as usize].conn {
            cx.effects.add(Effect::Close { conn: old, reason: Disconnect::Moved });
            self.forget_conn(old);
            self.detach(cx, index);
        }
        let Some(conn) = self.conn(id) else { return };
        conn.session = Some(index);
        let (wire, grace_ms, full) = (conn.wire, conn.grace_ms, conn.full);
        let at = self.sessions.reference(index);
        let session = &mut self.sessions.slab[index as usize];
        session.conn = Some(id);
        self.sessions.connected += 1;
        session.full = full;
        session.wire = wire;
        session.grace_ms = grace_ms;
        session.incarnation += 1;
        if connect.info.is_some() {
            let user = session.user().cloned();
            self.sessions.identify(index, Identity { user, info: connect.info.clone() });
        }
        let session = &mut self.sessions.slab[index as usize];
        let entered = session.extra.as_mut().map(|e| std::mem::take(&mut e.entered)).unwrap_or_default();
        self.welcome(cx, id, at, reply, connect, true, entered);
    }

    /// Answers `connect` and makes its subscriptions; presence goes on where the channel is subscribed to again.
    #[allow(clippy::too_many_arguments)] // each is a different part of one answer; a struct would only rename them
    fn welcome(
        &mut self,
        cx: &mut Cx<'_>,
        id: ConnId,
        at: SessionRef,
        reply: ReplyTo,
        connect: Connect,
        resumed: bool,
        entered: Vec<ChannelName>,
    ) {
        let ping_ms = self.conn(id).map_or(0, |conn| u64::from(conn.heartbeat.every_ms));
        let Some(session) = self.sessions.get(at) else { return };
        let (client, user) = (session.client, session.user().cloned());
        let connected = Connected { client, user, resumed, ping_ms };
        self.reply(cx, Some(id), reply, ReplyBody::Connected(Box::new(connected)));
        if let Some(extra) = self.sessions.get(at).and_then(|session| session.extra.as_mut()) {
            extra.granted.retain(|granted| connect.subscribe.iter().any(|options| options.channel == *granted));
        }
        for channel in &entered {
            let goes_on = connect.subscribe.iter().any(|options| options.channel == *channel);
            if !goes_on && !planted(Planted::PresenceResumed) {
                if let Some(extra) = self.sessions.get(at).and_then(|session| session.extra.as_mut()) {
                    extra.mailbox.forget(channel, false);
                }
                self.tell_home(cx, channel, ToHome::Leave { token: None, client });
            }
        }
        for options in connect.subscribe {
            let goes_on = entered.contains(&options.channel);
            self.subscribe(cx, at, ReplyTo::Bare, options, goes_on);
        }
    }

    /// Another shard asks for a session of ours whose client has come back there.
    pub(crate) fn adopt(&mut self, cx: &mut Cx<'_>, from: ShardId, token: AskToken, client: ClientId) {
        let session = self.sessions.by_client.get(&client).copied().map(|index| {
            if let Some(old) = self.sessions.slab[index as usize].conn {
                cx.effects.add(Effect::Close { conn: old, reason: Disconnect::Moved });
                self.forget_conn(old);
                self.detach(cx, index);
            }
            let (session, identity) = self.sessions.remove(index);
            self.sessions.moved.left(cx.now.mono_ms, client, identity.user.clone(), from);
            let extra = session.extra.map(|e| *e).unwrap_or_default();
            let mut mailbox = extra.mailbox;
            Box::new(Adopted {
                identity,
                incarnation: session.incarnation + 1,
                entered: extra.entered,
                granted: extra.granted,
                mailbox: mailbox.take(),
            })
        });
        cx.out.push_back((from, PeerBody::Adopted { token, session }));
    }

    /// The answer to our `Adopt`: the connection has a session, the old one or a new one, and its commands go on.
    pub(crate) fn adopted(&mut self, cx: &mut Cx<'_>, token: AskToken, session: Option<Box<Adopted>>) {
        let Some(Ask::Adopt(adopting)) = self.asks.take(token) else { return };
        let Adopting { conn: id, reply, connect, waiting } = *adopting;
        let client = connect.resume.map(|resume| resume.client);
        if let Some(client) = client {
            self.sessions.moved.arrived(client);
        }
        let gone = self.conn(id).is_none();
        if gone {
            // The client is away again. What was fetched lives out its grace here, under no connection.
            if let (Some(session), Some(client)) = (session, client) {
                self.keep_orphan(cx, client, *session);
            }
            return;
        }
        if let Some(conn) = self.conn(id) {
            conn.adopting = None;
        }
        let same_user = |s: &Adopted| connect.user.is_none() || connect.user == s.identity.user;
        let adopted = match (client, session) {
            (Some(client), Some(session)) if same_user(&session) => Some((client, *session)),
            (Some(client), Some(session)) => {
                for channel in &session.entered {
                    self.tell_home(cx, channel, ToHome::Leave { token: None, client });
                }
                None
            }
            _ => None,
        };
        self.start_session(cx, id, reply, connect, adopted);
        for request in waiting {
            self.command(cx, id, request);
        }
        let session = self.conn(id).and_then(|conn| conn.session);
        let outstanding = session.map_or(0, |index| self.sessions.slab[index as usize].outstanding);
        self.hold_or_resume(cx, Some(id), outstanding);
    }

    fn keep_orphan(&mut self, cx: &mut Cx<'_>, client: ClientId, adopted: Adopted) {
        let nowhere = ConnId { index: u32::MAX, generation: 0 };
        let at = self.sessions.open(client, nowhere, crate::ids::WireId(0), 0);
        self.sessions.disconnect(at.index);
        self.sessions.identify(at.index, adopted.identity);
        let session = self.sessions.get(at).expect("just opened");
        session.incarnation = adopted.incarnation;
        session.extra().entered = adopted.entered;
        session.extra().granted = adopted.granted;
        for signal in adopted.mailbox {
            session.extra().mailbox.put(signal, cx.limits.signals_waiting_max);
        }
        let timer = Timer::Grace { session: at.index, life: at.life, incarnation: adopted.incarnation };
        cx.wheel.add(cx.now.mono_ms + cx.limits.grace_ms, timer);
    }

    fn forget_conn(&mut self, id: ConnId) {
        if let Some(conn) = self.conn(id) {
            conn.open = false;
            conn.session = None;
        }
    }

    /// A connection is gone. `finally` when its client will not come back: then no grace is given.
    pub(crate) fn closed(&mut self, cx: &mut Cx<'_>, id: ConnId, finally: bool) {
        let Some(conn) = self.conn(id) else { return };
        let (session, grace_ms) = (conn.session, conn.grace_ms);
        self.forget_conn(id);
        let Some(index) = session else { return };
        self.detach(cx, index);
        let session = &mut self.sessions.slab[index as usize];
        if grace_ms == 0 || finally {
            return self.end(cx, index);
        }
        let timer = Timer::Grace { session: index, life: session.life, incarnation: session.incarnation };
        cx.wheel.add(cx.now.mono_ms + u64::from(grace_ms), timer);
    }

    /// Takes a session off its connection: nothing is delivered to it, its presence stays.
    fn detach(&mut self, cx: &mut Cx<'_>, index: u32) {
        if !planted(Planted::StaleAnswer) {
            self.sessions.renew(index);
        }
        self.sessions.disconnect(index);
        let session = &mut self.sessions.slab[index as usize];
        session.full = false;
        session.pulling = None;
        session.outstanding = 0;
        let lanes = session.extra.as_mut().map(|e| std::mem::take(&mut e.lanes)).unwrap_or_default();
        self.drop_lanes(cx, lanes);
        while let Some(sub) = self.sessions.slab[index as usize].subs.last() {
            let (edge, entered) = (sub.edge, sub.entered);
            let slot = self.sessions.slab[index as usize].subs.len() - 1;
            if entered {
                let name = self.edges.edges[edge as usize].name.clone();
                self.sessions.slab[index as usize].extra().entered.push(name);
            }
            self.take_sub(cx, index, slot);
        }
    }

    /// Commands that never had their turn: their places in a gathered answer are filled, so that nothing is kept for them.
    fn drop_lanes(&mut self, cx: &mut Cx<'_>, lanes: Lanes) {
        for waiting in lanes.into_waiting() {
            let (Waiting::Subscribe(_, reply) | Waiting::Command(_, reply) | Waiting::End(reply)) = waiting;
            let error = Error::new(ErrorCode::Unavailable, "the connection ended before this was done");
            self.reply(cx, None, reply, ReplyBody::Error(error));
        }
    }

    /// The grace is over, unless the client came back meanwhile.
    pub(crate) fn grace_over(&mut self, cx: &mut Cx<'_>, index: u32, life: u32, incarnation: u32) {
        let at = SessionRef { index, life };
        if self.sessions.get(at).is_some_and(|s| s.conn.is_none() && s.incarnation == incarnation) {
            self.end(cx, at.index);
        }
    }

    /// The session ends, and its presence with it.
    pub(super) fn end(&mut self, cx: &mut Cx<'_>, index: u32) {
        let (session, _) = self.sessions.remove(index);
        for channel in session.extra.map(|e| e.entered).unwrap_or_default() {
            self.tell_home(cx, &channel, ToHome::Leave { token: None, client: session.client });
        }
    }

    /// No valid `connect` came in time.
    pub(crate) fn connect_timeout(&mut self, cx: &mut Cx<'_>, id: ConnId) {
        if self.conn(id).is_some_and(|conn| conn.session.is_none() && conn.adopting.is_none()) {
            self.close(cx, id, Disconnect::NotConnected);
        }
    }
}
