//! Commands for sessions that come in requests of their own, on any shard, and the answers that are allowed.
//!
//! Every command is answered once. `not_connected` is an allowed answer only if the session had no connection at some
//! time between the command and the answer: a session that is changing shards has one. The commands leave no trace (a
//! `pong`, a question about presence), so that the other judges need not know of them.

use crate::chances::{pick, pick_of};
use crate::checker::Verdict;
use fanfare_hub::{
    ChannelName, ClientId, Command, ErrorCode, ForwardToken, Forwarded, Reply, ReplyBody, Request, RequestId, Resume,
    Rng, ShardId,
};
use std::collections::BTreeMap;

/// For this long after a session has left a shard, a ticket of that shard finds it.
const OLD_TICKET_MS: u64 = 5_000;

#[derive(Debug)]
pub(crate) struct Forwards {
    rng: Rng,
    sessions: BTreeMap<u64, Session>,
    open: BTreeMap<u64, Open>,
    last_ms: BTreeMap<ClientId, u64>,
    next: u64,
}

/// The place of a session, as the hub has reported it.
#[derive(Debug)]
struct Session {
    pipe: usize,
    shard: usize,
    /// The shard before, and the time at which the session left it.
    left: Option<(usize, u64)>,
    is_away: bool,
    /// Since when it is on its connection.
    since_ms: u64,
    /// The last instant at which it had no connection.
    away_ms: u64,
}

/// A command without an answer.
#[derive(Debug)]
struct Open {
    client: ClientId,
    since_ms: u64,
    command: Command,
}

impl Forwards {
    pub(crate) fn new(rng: Rng) -> Self {
        Forwards { rng, sessions: BTreeMap::new(), open: BTreeMap::new(), last_ms: BTreeMap::new(), next: 0 }
    }

    /// The time until the next one.
    pub(crate) fn pause_ms(&mut self, pace_ms: u64) -> u64 {
        1 + self.rng.below(pace_ms)
    }

    /// A command for a session, and the shard that it comes to.
    pub(crate) fn draw(
        &mut self,
        now_ms: u64,
        shards: usize,
        channels: &[ChannelName],
    ) -> Option<(usize, ForwardToken, Resume, Request)> {
        let connected: Vec<(&u64, &Session)> = self.sessions.iter().filter(|(_, session)| !session.is_away).collect();
        let (client, session) = pick(&mut self.rng, connected.into_iter().map(|of| (*of.0, of)))?;
        let client = ClientId(*client);
        let left = session.left.filter(|(_, at_ms)| at_ms + OLD_TICKET_MS > now_ms && self.rng.below(2) == 0);
        let shard = ShardId(left.map_or(session.shard, |(shard, _)| shard) as u16);
        let channel = pick_of(&mut self.rng, channels)?.clone();
        let command = if self.rng.below(2) == 0 { Command::Pong } else { Command::Presence { channel } };
        self.next += 1;
        self.last_ms.insert(client, now_ms);
        let id = (self.rng.below(3) > 0).then_some(RequestId::Number(self.next));
        self.open.insert(self.next, Open { client, since_ms: now_ms, command: command.clone() });
        let to = pick(&mut self.rng, (0..shards).map(|shard| (shard as u64, shard)))?;
        Some((to, ForwardToken(self.next), Resume { shard, client }, Request { id, command }))
    }

    /// The server has gone with all sessions.
    pub(crate) fn server_gone(&mut self) {
        self.sessions.clear();
        self.open.clear();
    }

    /// When the last command for this session was given, if there was one.
    pub(crate) fn last_ms(&self, client: ClientId) -> Option<u64> {
        self.last_ms.get(&client).copied()
    }

    /// A send for this session has come to a shard.
    pub(crate) fn brought(&mut self, now_ms: u64, client: ClientId) {
        self.last_ms.insert(client, now_ms);
    }

    /// True if the session has been on one connection since before then.
    pub(crate) fn is_there_since(&self, client: ClientId, then_ms: u64) -> bool {
        self.sessions.get(&client.0).is_some_and(|session| !session.is_away && session.since_ms < then_ms)
    }

    /// True if a question for this session has not been answered: its other commands may wait behind it.
    pub(crate) fn is_asking(&self, client: ClientId) -> bool {
        self.open.values().any(|open| open.client == client && open.command != Command::Pong)
    }

    /// A connection was told that it has this session.
    pub(crate) fn connected(&mut self, now_ms: u64, client: ClientId, pipe: usize, shard: usize) {
        let new = Session { pipe, shard, left: None, is_away: false, since_ms: now_ms, away_ms: now_ms };
        let session = self.sessions.entry(client.0).or_insert(new);
        if session.is_away {
            session.away_ms = now_ms;
        }
        if session.pipe != pipe {
            session.since_ms = now_ms;
        }
        if session.shard != shard {
            session.left = Some((session.shard, now_ms));
        }
        (session.pipe, session.shard, session.is_away) = (pipe, shard, false);
    }

    /// A connection has ended for the hub, and no other one has resumed its session. `shown`: the session whose ticket
    /// it had shown, and may just have resumed.
    pub(crate) fn over(&mut self, now_ms: u64, pipe: usize, shown: Option<ClientId>) {
        for (client, session) in &mut self.sessions {
            if session.pipe == pipe || shown == Some(ClientId(*client)) {
                (session.is_away, session.away_ms) = (true, now_ms);
            }
        }
    }

    /// A command is answered.
    pub(crate) fn answered(&mut self, forwarded: &Forwarded) -> Verdict {
        let Forwarded { token, answer } = forwarded;
        let Some(Open { client, since_ms, command }) = self.open.remove(&token.0) else {
            return Err(format!("forward: {token:?} was not asked, or is answered again: {answer:?}"));
        };
        let reply = answer.as_ref().map(|replies| replies.first());
        let error = match reply {
            Err(error) => error,
            Ok(Some(reply)) if command == Command::Pong => {
                return Err(format!("forward: a pong is answered with {reply:?}"));
            }
            Ok(Some(Reply { body: ReplyBody::Error(error), .. })) => error,
            Ok(_) => return Ok(()),
        };
        let Some(session) = self.sessions.get(&client.0) else { return Ok(()) };
        let was_away = session.is_away || session.away_ms >= since_ms;
        if error.code == ErrorCode::NotConnected && !was_away {
            return Err(format!("forward: {client:?} had a connection all the time, and {command:?} did not find it"));
        }
        Ok(())
    }

    /// No command is left without an answer.
    pub(crate) fn verdict(&self) -> Verdict {
        self.verdict_before(u64::MAX)
    }

    /// The same, of what was asked before this time.
    pub(crate) fn verdict_before(&self, before_ms: u64) -> Verdict {
        match self.open.iter().find(|(_, open)| open.since_ms < before_ms) {
            None => Ok(()),
            Some((token, open)) => Err(format!("forward: {token} was never answered: {open:?}")),
        }
    }
}
