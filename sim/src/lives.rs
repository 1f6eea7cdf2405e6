//! The judge of times: how long sessions live without a connection, and how long connections live without a sign of
//! life.
//!
//! It sees what the world hands to shards and what they do, at the moment at which they do it. A session whose
//! connection ended can be resumed during its grace and not after it; one that was ended is never resumed, and none on
//! a connection that its page opened before the last one that had it. A connection is closed for silence after one
//! heartbeat at the earliest and two at the latest, and for want of `connect` when its time is over.

use fanfare_hub::{ClientId, Connected, Limits, Resume};
use std::collections::BTreeMap;

/// What a shard that stands still and the steps of its clock may add.
const SLACK_MS: u64 = 1_000;
/// So long after a session has changed shards, a ticket of its earlier shard surely finds it.
const OLD_TICKET_MS: u64 = 10_000;

#[derive(Debug)]
pub(crate) struct Lives {
    grace_ms: u64,
    heartbeat_ms: u64,
    connect_timeout_ms: u64,
    sessions: BTreeMap<ClientId, Life>,
    /// Sessions resumed within their grace, and those that could not be after it.
    pub(crate) within: u64,
    pub(crate) after: u64,
    pub(crate) mute: u64,
}

#[derive(Debug)]
struct Life {
    state: State,
    shard: usize,
    /// When it came to that shard.
    moved_ms: u64,
    user: Option<String>,
    /// The page of its last connection, and when that was opened.
    page: usize,
    opened_ms: u64,
    /// Its proof ends at some time.
    expires: bool,
    /// Something may have ended it, or is fetching it.
    is_doubtful: bool,
    /// Since then it is known no better.
    doubt_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    On(usize),
    Away { since_ms: u64 },
    Ended,
}

/// A connection at the time at which its shard answers `connect`.
#[derive(Debug)]
pub(crate) struct Arrival<'a> {
    pub(crate) now_ms: u64,
    pub(crate) pipe: usize,
    pub(crate) shard: usize,
    pub(crate) page: usize,
    pub(crate) opened_ms: u64,
    /// When the shard was given the command.
    pub(crate) given_ms: u64,
    pub(crate) ticket: Option<Resume>,
    pub(crate) connected: &'a Connected,
}

impl Lives {
    pub(crate) fn new(limits: &Limits) -> Self {
        Lives {
            grace_ms: limits.grace_ms,
            heartbeat_ms: limits.heartbeat_ms,
            connect_timeout_ms: limits.connect_timeout_ms,
            sessions: BTreeMap::new(),
            within: 0,
            after: 0,
            mute: 0,
        }
    }

    /// A shard answers `connect` with a session.
    pub(crate) fn connected(&mut self, arrival: Arrival<'_>) -> Result<(), String> {
        let Arrival { now_ms, pipe, shard, page, opened_ms, given_ms, ticket, connected } = arrival;
        let client = connected.client;
        let user = connected.user.as_ref().map(|user| user.0.to_string());
        let shown = ticket.and_then(|ticket| Some((ticket, self.sessions.get(&ticket.client)?)));
        let is_earlier = |life: &Life| life.page == page && opened_ms < life.opened_ms;
        match (connected.resumed, shown) {
            (true, Some((_, life))) if is_earlier(life) => {
                return Err(format!("lives: {client:?} is resumed on pipe {pipe}, and has had a later connection"));
            }
            (true, Some((_, life))) => match life.state {
                State::Ended if !life.is_doubtful => {
                    return Err(format!("lives: {client:?} was ended, and is resumed on pipe {pipe}"));
                }
                State::Away { since_ms } if !life.is_doubtful => {
                    if given_ms > since_ms + self.grace_ms + SLACK_MS {
                        return Err(format!(
                            "lives: {client:?} had no connection for {} ms of {}, and is resumed on pipe {pipe}",
                            given_ms - since_ms,
                            self.grace_ms
                        ));
                    }
                    self.within += 1;
                }
                _ => {}
            },
            (true, None) => return Err(format!("lives: {client:?} is resumed on pipe {pipe}, and never was there")),
            (false, shown) => {
                if self.sessions.contains_key(&client) {
                    return Err(format!("lives: {client:?} is new on pipe {pipe}, and was there before"));
                }
                // Two things in one millisecond have an order that is not known here: the session may have had its
                // connection when it was looked for.
                if let Some((ticket, life)) = shown
                    && let State::Away { since_ms } = life.state
                    && !life.is_doubtful
                    && !life.expires
                    && !is_earlier(life)
                    && since_ms < given_ms
                    && life.user == user
                {
                    let is_found = usize::from(ticket.shard.0) == life.shard || now_ms < life.moved_ms + OLD_TICKET_MS;
                    if is_found && now_ms < since_ms + self.grace_ms {
                        return Err(format!(
                            "lives: {:?} has had no connection for {} ms of {}, and is not resumed on pipe {pipe}",
                            ticket.client,
                            now_ms - since_ms,
                            self.grace_ms
                        ));
                    }
                    self.after += u64::from(given_ms > since_ms + self.grace_ms);
                }
            }
        }
        let moved_ms = match self.sessions.get(&client) {
            Some(life) if life.shard == shard => life.moved_ms,
            _ => now_ms,
        };
        let expires = connected.expires_in_ms.is_some();
        let (state, is_doubtful, doubt_ms) = (State::On(pipe), false, 0);
        let life = Life { state, shard, moved_ms, user, page, opened_ms, expires, is_doubtful, doubt_ms };
        self.sessions.insert(client, life);
        Ok(())
    }

    /// The connection is over for its shard. `fetches`: the session that it was being given.
    pub(crate) fn over(&mut self, now_ms: u64, pipe: usize, is_end: bool, fetches: Option<ClientId>) {
        for life in self.sessions.values_mut().filter(|life| life.state == State::On(pipe)) {
            life.state = if is_end { State::Ended } else { State::Away { since_ms: now_ms } };
        }
        if let Some(life) = fetches.and_then(|client| self.sessions.get_mut(&client)) {
            (life.is_doubtful, life.doubt_ms) = (true, now_ms);
        }
    }

    /// A newer connection takes the session over: what comes next is its answer, or its end.
    pub(crate) fn moves(&mut self, now_ms: u64, pipe: usize) {
        for life in self.sessions.values_mut().filter(|life| life.state == State::On(pipe)) {
            (life.state, life.is_doubtful, life.doubt_ms) = (State::Away { since_ms: now_ms }, true, now_ms);
        }
    }

    /// Something may have ended this session, where it has no connection.
    pub(crate) fn doubt(&mut self, client: ClientId) {
        if let Some(life) = self.sessions.get_mut(&client) {
            life.is_doubtful = true;
        }
    }

    /// Something may have ended any session that has no connection.
    pub(crate) fn doubt_away(&mut self) {
        let away = self.sessions.values_mut().filter(|life| matches!(life.state, State::Away { .. }));
        away.for_each(|life| life.is_doubtful = true);
    }

    /// The server has gone: no session is left.
    pub(crate) fn all_gone(&mut self) {
        self.sessions.values_mut().for_each(|life| (life.state, life.is_doubtful) = (State::Ended, false));
    }

    /// Sessions that have a connection.
    pub(crate) fn online(&self) -> usize {
        self.sessions.values().filter(|life| matches!(life.state, State::On(_))).count()
    }

    /// How many sessions there may be: those with a connection, and those whose grace may not be over.
    pub(crate) fn at_most(&self, now_ms: u64) -> usize {
        /// What a session's way to another shard may take.
        const ON_THE_WAY_MS: u64 = 5_000;
        let may_live = |life: &&Life| match life.state {
            State::On(_) => true,
            State::Away { since_ms } => now_ms < since_ms.max(life.doubt_ms) + self.grace_ms + ON_THE_WAY_MS,
            State::Ended => now_ms < life.doubt_ms + self.grace_ms + ON_THE_WAY_MS,
        };
        self.sessions.values().filter(may_live).count()
    }

    /// The connection of a session.
    pub(crate) fn pipe_of(&self, client: ClientId) -> Option<usize> {
        match self.sessions.get(&client)?.state {
            State::On(pipe) => Some(pipe),
            _ => None,
        }
    }

    /// A connection is closed for silence, which must have lasted for so many heartbeats.
    pub(crate) fn timed_out(&self, pipe: usize, silence_ms: u64, intervals: u64) -> Result<(), String> {
        if silence_ms < intervals * self.heartbeat_ms {
            let heartbeat_ms = self.heartbeat_ms;
            return Err(format!(
                "lives: pipe {pipe} is closed for a silence of {silence_ms} ms; {intervals} of {heartbeat_ms} ms may be"
            ));
        }
        Ok(())
    }

    /// A connection that is open and read, and has been silent for so long; so many heartbeats it may be.
    pub(crate) fn is_silent(&self, pipe: usize, intervals: u64, silence_ms: u64) -> Result<(), String> {
        if silence_ms > intervals * self.heartbeat_ms + SLACK_MS {
            return Err(format!("lives: pipe {pipe} has been silent for {silence_ms} ms, and is still open"));
        }
        Ok(())
    }

    /// A connection is closed, as it has not sent `connect`.
    pub(crate) fn never_connected(&mut self, pipe: usize, open_ms: u64, has_session: bool) -> Result<(), String> {
        self.mute += 1;
        if open_ms < self.connect_timeout_ms || has_session {
            return Err(format!("lives: pipe {pipe} is closed after {open_ms} ms for want of `connect`"));
        }
        Ok(())
    }

    /// A connection without session or `connect` has been open for so long.
    pub(crate) fn is_mute(&self, pipe: usize, open_ms: u64) -> Result<(), String> {
        if open_ms > self.connect_timeout_ms + SLACK_MS {
            return Err(format!("lives: pipe {pipe} has sent nothing for {open_ms} ms, and is still open"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfare_hub::{Proof, ShardId};

    const ADA: ClientId = ClientId(0xada);
    const BOB: ClientId = ClientId(0xb0b);

    /// A page is answered with a session. `ticket`: it has shown Ada's.
    fn arrives(lives: &mut Lives, client: ClientId, page: usize, given_ms: u64, ticket: bool) -> Result<(), String> {
        let connected = Connected {
            client,
            user: None,
            resumed: false,
            incarnation: 0,
            ping_ms: 0,
            proof: Proof::default(),
            expires_in_ms: None,
            message_rate: None,
            byte_rate: None,
            before: None,
        };
        let ticket = ticket.then_some(Resume { shard: ShardId(0), client: ADA });
        let (now_ms, opened_ms) = (given_ms + 2, given_ms);
        let connected = &connected;
        lives.connected(Arrival { now_ms, pipe: page, shard: 0, page, opened_ms, given_ms, ticket, connected })
    }

    /// Ada's connection is over at 100 ms. Another page shows her ticket then.
    fn copied_ticket(given_ms: u64) -> Result<(), String> {
        let mut lives = Lives::new(&Limits::default());
        arrives(&mut lives, ADA, 0, 0, false)?;
        lives.over(100, 0, false, None);
        arrives(&mut lives, BOB, 1, given_ms, true)
    }

    #[test]
    fn a_session_whose_connection_is_over_goes_on_with_its_ticket() {
        assert!(copied_ticket(101).is_err_and(|what| what.contains("is not resumed")));
    }

    #[test]
    fn it_may_have_had_its_connection_in_the_millisecond_in_which_that_ended() {
        assert_eq!(copied_ticket(100), Ok(()));
        assert_eq!(copied_ticket(99), Ok(()));
    }
}
