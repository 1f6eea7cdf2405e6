//! Commands at the moment at which a shard is given them, and its answers at the moment at which it gives them: what
//! follows for rates, for the times of sessions and connections, and for signals to one client.

use super::{Event, Verdict, World};
use crate::lives::Arrival;
use crate::model::comes_back;
use crate::pipe::Pipe;
use crate::quotas;
use crate::rates::{Decided, Governed};
use crate::wire;
use fanfare_hub::{
    ChannelName, ClientId, Command, Disconnect, Error, ErrorCode, Input, Reply, ReplyBody, Request, RequestId,
    RoomCommand, Seat, Signal,
};

/// How often connections are looked at.
const LOOK_MS: u64 = 400;

impl World {
    /// A shard is given a command.
    pub(super) fn command(&mut self, pipe: usize, request: Request) -> Verdict {
        let (shard, conn) = (self.pipes[pipe].shard, self.pipes[pipe].conn);
        let governed = self.governed(pipe, &request);
        if let Command::Connect(connect) = &request.command {
            self.pipes[pipe].connect = Some((self.now_ms, connect.resume));
            if let Some(resume) = connect.resume {
                self.send_judge.is_sought(self.now_ms, resume.client);
            }
        }
        let is_bad = matches!(request.command, Command::Invalid(_));
        let hooks = &self.plan.hooks;
        let is_asked = |channel: &ChannelName| hooks.is_asked_to_publish(channel);
        self.pipes[pipe].desk.given(self.now_ms, request.id.as_ref(), &request.command, is_asked);
        if let Command::Room(command) = &request.command
            && let RoomCommand::Join { channel, .. } = &**command
        {
            self.pipes[pipe].watch.enters_room(channel);
        }
        self.checker.given(pipe, &request, &self.stores.borrow());
        self.answered_now.clear();
        let id = request.id.clone();
        if is_bad {
            let minute = self.now_ms / 60_000;
            let (of, count) = &mut self.pipes[pipe].bad;
            (*of, *count) = if *of == minute { (minute, *count + 1) } else { (minute, 1) };
        }
        let charged = quotas::cost(&request.command).filter(|_| self.quotas.is_on());
        let was_connected = self.pipes[pipe].desk.is_connected;
        self.handle(shard, Input::Command { conn, seat: Seat::default(), request })?;
        if let Some(cost) = charged {
            self.is_charged(pipe, was_connected, id.as_ref(), cost)?;
        }
        let bad_max = self.plan.limits.bad_requests_per_minute_max;
        if is_bad && self.pipes[pipe].bad.1 > bad_max && self.pipes[pipe].server_open {
            return Err(format!("commands: pipe {pipe} has sent more than {bad_max} invalid messages in a minute"));
        }
        let Some((governed, decides_at_once)) = governed else { return Ok(()) };
        let is_of_call = |(of, answered, _): &&(usize, Option<RequestId>, _)| *of == pipe && *answered == id;
        match (self.pipes[pipe].session, id.clone()) {
            (Some(client), _) if decides_at_once => {
                let error = self.answered_now.iter().find(is_of_call).and_then(|(.., error)| error.as_ref());
                self.rates.decided(Governed { client, ..governed }, &Decided::of(error))?;
            }
            (Some(client), id) => {
                self.rates.unknown(Governed { client, ..governed });
                if let Some(RequestId::Number(id)) = id {
                    self.pipes[pipe].undecided.push((id, governed.rule, governed.rate));
                }
            }
            (None, Some(RequestId::Number(id))) => {
                self.pipes[pipe].undecided.push((id, governed.rule, governed.rate));
            }
            // One without an id is never known to be decided.
            (None, _) => self.pipes[pipe].undecided.push((u64::MAX, governed.rule, governed.rate)),
        }
        Ok(())
    }

    /// The rate of a publication or signal, if its rule has one, and whether it is decided at once.
    fn governed(&self, pipe: usize, request: &Request) -> Option<(Governed, bool)> {
        let channel = match &request.command {
            Command::Publish(publish) => &publish.channel,
            Command::Signal(signal) => &signal.channel,
            Command::Room(command) => match &**command {
                RoomCommand::Publish { publish, .. } => &publish.channel,
                _ => return None,
            },
            _ => return None,
        };
        let (rule, row) = self.policy.of(channel)?;
        let is_granted = self.plan.hooks.grant.as_ref() == Some(channel);
        let at_once = self.pipes[pipe].desk.decides_at_once(channel);
        let is_asking = self.pipes[pipe].session.is_some_and(|client| self.forwards.is_asking(client));
        // While the rules shut the channel its rate does not hold, but for what is decided when they have opened it.
        let is_open = self.shut.as_ref() != Some(channel);
        let at_once = at_once && is_open && !is_granted && !is_asking && !self.app.is_deciding(channel);
        let client = ClientId(0);
        Some((Governed { client, pipe, rule, rate: row.rate?, now_ms: self.now_ms }, at_once))
    }

    /// A shard answers.
    pub(super) fn answers(&mut self, pipe: usize, shard: usize, reply: &Reply) -> Verdict {
        let now_ms = self.now_ms;
        let error = if let ReplyBody::Error(error) = &reply.body { Some(error.clone()) } else { None };
        // The refusal of a `connect` counts too, if the same would be refused again.
        let is_connect = self.pipes[pipe].chat.is_some() && reply.id == Some(RequestId::Number(0));
        let is_maybe_bad = |error: &Error| is_connect || error.code == ErrorCode::NotConnected;
        self.pipes[pipe].maybe_bad += u32::from(error.as_ref().is_some_and(is_maybe_bad));
        self.counts.key_conflicts += u64::from(error.as_ref().is_some_and(|it| it.code == ErrorCode::KeyConflict));
        self.answered_now.push((pipe, reply.id.clone(), error));
        if let ReplyBody::Connected(connected) = &reply.body {
            let Pipe { connect, client: page, opened_ms, .. } = self.pipes[pipe];
            let (given_ms, ticket) = connect.unwrap_or((now_ms, None));
            self.lives.connected(Arrival { now_ms, pipe, shard, page, opened_ms, given_ms, ticket, connected })?;
            self.pipes[pipe].session = Some(connected.client);
            self.pipes[pipe].user = connected.user.clone();
            self.pipes[pipe].is_continued = connected.resumed;
            self.charges_waiting(pipe, connected.client, connected.user.as_ref());
            self.pipes[pipe].has_moved = connected.resumed && self.plan.shards > 1;
            for (_, rule, rate) in self.pipes[pipe].undecided.clone() {
                self.rates.unknown(Governed { client: connected.client, pipe, rule, rate, now_ms });
            }
        }
        self.signals_answered(pipe, reply);
        let open = self.pipes[pipe].desk.answered(reply);
        self.answers_strictly(pipe, open.as_ref(), reply)?;
        if let Some(RequestId::Number(id)) = reply.id {
            self.settles(pipe, |of| of == id);
        }
        match open.and_then(|open| Some((open.given_ms, open.signal?))) {
            Some((given_ms, signal)) => self.signal_answered(given_ms, &signal, &reply.body),
            None => Ok(()),
        }
    }

    /// Commands of which nobody knew when they are decided are decided by now.
    fn settles(&mut self, pipe: usize, is_settled: impl Fn(u64) -> bool) {
        let Some(client) = self.pipes[pipe].session else { return };
        let (settled, open): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.pipes[pipe].undecided).into_iter().partition(|(id, ..)| is_settled(*id));
        for (_, rule, rate) in settled {
            if !open.iter().any(|(_, of, _)| *of == rule) {
                self.rates.settled(Governed { client, pipe, rule, rate, now_ms: self.now_ms });
            }
        }
        self.pipes[pipe].undecided = open;
    }

    /// A signal to one client is answered: *done* means that it was told or waits for room, and *not found* that the
    /// client was not subscribed.
    fn signal_answered(&mut self, given_ms: u64, signal: &Signal, body: &ReplyBody) -> Verdict {
        if *body == ReplyBody::Done {
            self.kept.done(signal, given_ms);
        }
        let Some(to) = signal.to.filter(|to| !self.send_judge.may_end(*to, &signal.channel)) else { return Ok(()) };
        let Some(receiver) = self.lives.pipe_of(to) else { return Ok(()) };
        let pipe = &self.pipes[receiver];
        let Some((since_ms, wants)) = pipe.watch.follows(&signal.channel).filter(|_| pipe.server_open) else {
            return Ok(());
        };
        // A subscription that begins anew waits for the others of the same command.
        let is_steady = since_ms < given_ms && pipe.opened_ms < given_ms && pipe.desk.decides_at_once(&signal.channel);
        let was_full = pipe.full.is_some() || pipe.full_ms.is_some_and(|full_ms| full_ms >= given_ms);
        match body {
            ReplyBody::Done if is_steady && wants && !was_full => {
                if !pipe.signals_told.contains(&signal.data) {
                    return Err(format!("signals: {signal:?} is done, and pipe {receiver} was not told of it"));
                }
                self.counts.acked_signals += 1;
            }
            ReplyBody::Error(error) if error.code == ErrorCode::NotFound && is_steady => {
                // A later one has come over the shard where the session was before, faster than this one came over the
                // link from the channel's home. Signals come in order: this one is passed over.
                let is_later_told = pipe.directed_ms.get(&signal.channel).is_some_and(|ms| *ms >= given_ms);
                if wants && pipe.has_moved && (is_later_told || was_full) {
                    return Ok(());
                }
                if wants {
                    return Err(format!("signals: {signal:?} finds nobody, and pipe {receiver} follows the channel"));
                }
                self.counts.unheard_signals += 1;
            }
            ReplyBody::Done if is_steady && !wants => {
                return Err(format!("signals: {signal:?} is done, and pipe {receiver} wants no signals"));
            }
            _ => {}
        }
        Ok(())
    }

    /// A client sends what is no command. The server must read it as such.
    pub(super) fn send_bad(&mut self, pipe: usize, text: &str, code: ErrorCode) -> Verdict {
        self.trace.note(self.now_ms, || format!("client {} sends on pipe {pipe}: {text}", self.pipes[pipe].client));
        let read = wire::read_commands(text, self.reading(self.pipes[pipe].client))?;
        let is_refused = |request: &Request| matches!(&request.command, Command::Invalid(error) if error.code == code);
        if read.len() != 1 || !read.iter().all(is_refused) {
            return Err(format!("wire: {text} is to be refused as {code}, and was read as {read:?}"));
        }
        for request in &read {
            self.checker.sent(pipe, request, &self.stores.borrow());
        }
        self.carry_up(pipe, text)
    }

    /// A shard hears of the end of a connection.
    pub(super) fn ends(&mut self, pipe: usize, finally: bool) {
        // The sessions of chat clients and readers end with their connections.
        let finally = finally || self.pipes[pipe].is_without_grace();
        self.signals_away(pipe, finally);
        self.settles(pipe, |_| true);
        self.lives.over(self.now_ms, pipe, finally, self.fetched(pipe));
        if self.app.is_disconnecting_any() {
            self.lives.doubt_away();
        }
    }

    /// A shard closes a connection.
    pub(super) fn closes(&mut self, pipe: usize, reason: Disconnect) -> Verdict {
        let now_ms = self.now_ms;
        let is_end = !comes_back(reason) || reason == Disconnect::Expired || self.pipes[pipe].is_without_grace();
        self.signals_away(pipe, is_end);
        self.settles(pipe, |_| true);
        let Pipe { opened_ms, alive_ms, ref desk, .. } = self.pipes[pipe];
        let has_session = desk.is_connected;
        match reason {
            Disconnect::Moved => self.lives.moves(now_ms, pipe),
            _ => {
                let fetched = self.fetched(pipe);
                self.lives.over(now_ms, pipe, is_end, fetched);
                if self.app.is_disconnecting_any() {
                    self.lives.doubt_away();
                }
            }
        }
        match reason {
            Disconnect::HeartbeatTimeout => {
                let intervals = if self.pipes[pipe].polling.is_some() { 2 } else { 1 };
                self.lives.timed_out(pipe, now_ms - alive_ms, intervals)
            }
            Disconnect::NotConnected => self.lives.never_connected(pipe, now_ms - opened_ms, has_session),
            Disconnect::Abuse => {
                self.counts.abuse += 1;
                let Pipe { bad: (_, count), maybe_bad, .. } = self.pipes[pipe];
                let (count, max) = (count + maybe_bad, self.plan.limits.bad_requests_per_minute_max);
                if count <= max {
                    return Err(format!("commands: pipe {pipe} is closed for {count} invalid messages, {max} may be"));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The session that a connection has asked for, and was not given yet.
    pub(super) fn fetched(&self, pipe: usize) -> Option<ClientId> {
        let Pipe { session: None, connect: Some((_, Some(ticket))), .. } = &self.pipes[pipe] else { return None };
        Some(ticket.client)
    }

    /// A connection that is open fetches the session of this one. It may have ended since it asked.
    pub(super) fn is_fetched(&self, pipe: usize) -> bool {
        let session = self.pipes[pipe].session;
        let fetches = |other: usize| self.pipes[other].server_open && self.fetched(other) == session;
        session.is_some() && (0..self.pipes.len()).any(fetches)
    }

    /// A later connection that has ended asked for the session of this one, and had no answer.
    pub(super) fn is_fetched_for_nobody(&self, pipe: usize) -> bool {
        let Pipe { session, opened_ms, .. } = self.pipes[pipe];
        let is_gone = |other: &Pipe| !other.server_open && other.opened_ms >= opened_ms;
        let fetches = |other: usize| is_gone(&self.pipes[other]) && self.fetched(other) == session;
        session.is_some() && (0..self.pipes.len()).any(fetches)
    }

    /// The application ends sessions; nothing is heard of those without a connection.
    pub(super) fn doubt_lives(&mut self, token: u64) {
        self.app.sessions_of(token).into_iter().for_each(|client| self.lives.doubt(client));
        self.lives.doubt_away();
    }

    pub(super) fn doubt_if_sent_away(&mut self, token: u64) {
        if self.app.is_disconnecting(token) {
            self.doubt_lives(token);
        }
    }

    /// Connections that have been silent for too long, or have never said who they are.
    pub(super) fn look(&mut self) -> Verdict {
        self.after(LOOK_MS, Event::Look);
        let sessions: usize = self.shards.iter().map(|core| core.shard.stats().sessions).sum();
        let at_most = self.lives.at_most(self.now_ms);
        if sessions > at_most {
            return Err(format!("lives: there are {sessions} sessions, and {at_most} may be"));
        }
        for (index, pipe) in self.pipes.iter().enumerate().filter(|(_, pipe)| pipe.server_open && !pipe.held) {
            if self.shards[pipe.shard].stalled_until_ms + 400 > self.now_ms {
                continue;
            }
            // A command by a request of its own is a sign of life too, when it arrives.
            let forwarded_ms = pipe.session.and_then(|client| self.forwards.last_ms(client)).map_or(0, |ms| ms + 3_000);
            let intervals = if pipe.polling.is_some() { 3 } else { 2 };
            // Readers cannot answer.
            if pipe.reader.is_none() {
                self.lives.is_silent(index, intervals, self.now_ms.saturating_sub(pipe.alive_ms.max(forwarded_ms)))?;
            }
            if !pipe.desk.has_connect {
                self.lives.is_mute(index, self.now_ms - pipe.opened_ms)?;
            }
        }
        Ok(())
    }
}
