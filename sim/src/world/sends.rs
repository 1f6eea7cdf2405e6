//! Clients whose connection carries messages down only: their commands go up by requests with a number, to any shard.
//! Requests and answers are lost, late and repeated, and cross each other.
//!
//! An answer and the messages of the connection come by different ways. A client holds back the messages about a
//! channel until it has the answer to its `subscribe`. The answer to an `unsubscribe` is looked at when the messages
//! that were sent before it have come.

use super::{Event, Verdict, World};
use crate::rates::Governed;
use crate::sends::{Asked, Open, Outgoing, Postponed};
use crate::wire::{self, ToClient};
use fanfare_client::core::ExchangeId;
use fanfare_hub::{
    ChannelName, ClientId, Command, Error, ErrorCode, ForwardToken, Forwarded, Input, Push, Reply, ReplyBody, Request,
    RequestId, SendRequest, SubOptions,
};
use std::rc::Rc;
use std::sync::Arc;

/// An answer to a send on its way to its client.
#[derive(Debug, Clone)]
pub(super) struct SendAnswer {
    pub(super) pipe: usize,
    /// The request of a client core.
    pub(super) exchange: Option<ExchangeId>,
    pub(super) client: ClientId,
    pub(super) n: Option<u64>,
    pub(super) answer: Result<(Arc<[Reply]>, String), Error>,
    /// The messages that the server had for the connection when it answered.
    pub(super) said: u64,
}

impl World {
    /// The time that a request or an answer takes; `None` if it is lost.
    pub(super) fn way_ms(&mut self, pipe: usize) -> Option<u64> {
        let calm = self.calm;
        let pipe = &mut self.pipes[pipe];
        let (is_lost, is_late, some, long) =
            (pipe.rng.below(14) == 0, pipe.rng.below(10) == 0, pipe.rng.below(12), pipe.rng.below(900));
        match (calm, is_lost, is_late) {
            _ if pipe.half_open => None,
            (false, true, _) => None,
            (false, false, true) => Some(1 + long),
            _ => Some(1 + some),
        }
    }

    /// The times at which the copies of a request arrive: none, one or two.
    pub(super) fn ways_ms(&mut self, pipe: usize) -> Vec<u64> {
        let twice = !self.calm && self.pipes[pipe].rng.below(16) == 0;
        (0..1 + usize::from(twice)).filter_map(|_| self.way_ms(pipe)).collect()
    }

    /// The shard on which a request lands.
    pub(super) fn landing(&mut self, pipe: usize) -> usize {
        self.pipes[pipe].rng.below(self.shards.len() as u64) as usize
    }

    /// A command waits for the next send.
    pub(super) fn bring(&mut self, pipe: usize, request: Request) -> Verdict {
        let client = self.pipes[pipe].client;
        if !self.clients[client].online {
            return Ok(());
        }
        self.trace.note(self.now_ms, || format!("client {client} is to bring for pipe {pipe}: {request:?}"));
        self.application.shown(pipe, &request);
        self.checker.sent(pipe, &request, &self.stores.borrow());
        let asked = Asked::by(&request.command);
        let Some(apart) = &mut self.pipes[pipe].apart else { return Ok(()) };
        if let (Some(RequestId::Number(id)), Some(asked)) = (&request.id, asked) {
            apart.asked.insert(*id, asked);
        }
        apart.gathered.push_back(request);
        if !std::mem::replace(&mut apart.is_sending, true) {
            let later = self.pipes[pipe].rng.below(20);
            self.after(later, Event::SendOut { pipe });
        }
        Ok(())
    }

    /// Commands that wait go on their way, and sends whose answer does not come.
    pub(super) fn send_out(&mut self, pipe: usize) -> Verdict {
        let Some(client) = self.sender(pipe) else { return Ok(()) };
        // Another tab may have the session by now, and its numbers.
        if !self.pipes[pipe].server_open {
            return Ok(());
        }
        let now_ms = self.now_ms;
        let outgoing = self.outgoing.entry(client).or_default();
        let Some(apart) = &mut self.pipes[pipe].apart else { return Ok(()) };
        apart.is_sending = false;
        while let Some(n) = outgoing.begin(pipe, &mut apart.gathered) {
            self.send_judge.begins(now_ms, client, n);
        }
        for n in outgoing.due(now_ms) {
            self.post_send(pipe, client, n);
        }
        self.post_old(pipe, client);
        Ok(())
    }

    /// The session of the client that speaks over this connection.
    fn sender(&self, pipe: usize) -> Option<ClientId> {
        let client = &self.clients[self.pipes[pipe].client];
        client.id.filter(|_| client.online && client.pipe == Some(pipe) && self.pipes[pipe].apart.is_some())
    }

    /// A client has a session on a new connection: it goes on with the numbers of that session.
    pub(super) fn sends_go_on(&mut self, pipe: usize, client: ClientId) {
        if self.pipes[pipe].apart.is_some() {
            self.outgoing.entry(client).or_default().resumed(pipe);
            self.after(0, Event::SendOut { pipe });
        }
    }

    fn post_send(&mut self, pipe: usize, client: ClientId, n: u64) {
        let patience_ms = 700 + self.pipes[pipe].rng.below(1_500);
        let again_ms = self.now_ms + patience_ms;
        let Some(sent) = self.outgoing.get_mut(&client).and_then(|outgoing| outgoing.unanswered.get_mut(&n)) else {
            return;
        };
        sent.again_ms = again_ms;
        let requests = sent.requests.clone();
        self.post(pipe, Some(n), &requests);
    }

    /// Now and then the network brings a send once more that was answered long ago.
    fn post_old(&mut self, pipe: usize, client: ClientId) {
        let mut rng = self.chances.of("old sends", self.counts.sends);
        if self.calm || rng.below(30) > 0 {
            return;
        }
        if let Some((n, requests)) = self.outgoing.get(&client).and_then(Outgoing::oldest_kept) {
            self.counts.sends_old += 1;
            self.post(pipe, Some(n), &requests);
        }
    }

    /// A request with commands goes on its way.
    fn post(&mut self, pipe: usize, n: Option<u64>, requests: &[Request]) {
        let Some(ticket) = self.clients[self.pipes[pipe].client].sealed.clone() else { return };
        let body: Rc<str> = wire::write_send(&ticket, n, requests).into();
        self.trace.note(self.now_ms, || format!("a send for pipe {pipe}: {body}"));
        self.counts.sends += 1;
        for late in self.ways_ms(pipe) {
            let shard = self.landing(pipe);
            self.after(late, Event::SendArrives { shard, pipe, body: body.clone(), exchange: None });
        }
    }

    /// A shard is given a send.
    pub(super) fn send_arrives(
        &mut self,
        shard: usize,
        (pipe, exchange): (usize, Option<ExchangeId>),
        body: &str,
    ) -> Verdict {
        let send = wire::read_send(body, self.reading(self.pipes[pipe].client))?;
        let Some(to) = send.to else { return Err(format!("send: the ticket of {body} does not open")) };
        // A client that has left its connection has ended its requests. Those that get through all the same are
        // without consequence for later connections.
        let changes = |request: &Request| {
            matches!(
                request.command,
                Command::Subscribe { .. }
                    | Command::Unsubscribe { .. }
                    | Command::PresenceSet { .. }
                    | Command::PresenceClear { .. }
            )
        };
        let is_dead = self.pipes[pipe].half_open && self.pipes[pipe].stream.is_none() && exchange.is_none();
        if is_dead || !self.pipes[pipe].client_open && send.requests.iter().any(changes) {
            return Ok(());
        }
        if !self.send_judge.is_answered(to.client, send.n) {
            for request in &send.requests {
                self.brings_governed(pipe, to.client, request);
            }
        }
        for pipe in [Some(pipe), self.lives.pipe_of(to.client)].into_iter().flatten() {
            for request in &send.requests {
                self.changes_by_request(pipe, &request.command);
            }
        }
        let token = self.send_judge.given(self.now_ms, (pipe, exchange), to.client, send.n, &send.requests);
        self.forwards.brought(self.now_ms, to.client);
        self.trace.note(self.now_ms, || format!("shard {shard} is given {token}, send {:?} of {to:?}", send.n));
        let send = SendRequest { n: send.n, requests: send.requests, bytes: body.len() };
        self.handle(shard, Input::Forward { token: ForwardToken(token), to, send })
    }

    /// Nobody sees when a subscription that a request brings begins, or ends.
    fn changes_by_request(&mut self, pipe: usize, command: &Command) {
        match command {
            Command::Subscribe { subs, .. } => {
                for SubOptions { channel, .. } in subs {
                    self.pipes[pipe].watch.subscribes_by_request(channel);
                    self.app.changes_by_request(pipe, channel);
                }
            }
            Command::Unsubscribe { channel } => self.app.changes_by_request(pipe, channel),
            _ => {}
        }
    }

    /// A publication or signal whose rule has a rate: nobody knows when it is decided.
    fn brings_governed(&mut self, pipe: usize, client: ClientId, request: &Request) {
        let channel = match &request.command {
            Command::Publish(publish) => &publish.channel,
            Command::Signal(signal) => &signal.channel,
            _ => return,
        };
        let rule = self.policy.of(channel).and_then(|(rule, row)| Some((rule, row.rate?)));
        if let Some((rule, rate)) = rule {
            self.rates.unknown(Governed { client, pipe, rule, rate, now_ms: self.now_ms });
        }
    }

    /// A shard answers a send. False if it is none.
    pub(super) fn send_answered(&mut self, forwarded: &Forwarded) -> Result<bool, String> {
        let Forwarded { token, answer } = forwarded;
        let bytes_max = self.plan.limits.outbox_bytes_max;
        let Some(open) = self.send_judge.answered((self.now_ms, token.0), answer, bytes_max)? else { return Ok(false) };
        let Open { pipe, exchange, client, n, since_ms, ends, .. } = open;
        for channel in &ends {
            self.kept.left(client, channel);
            for pipe in [Some(pipe), self.lives.pipe_of(client)].into_iter().flatten() {
                self.pipes[pipe].watch.forget(channel);
            }
        }
        if let Err(error) = answer
            && error.code == ErrorCode::NotConnected
            && self.pipes[pipe].server_open
            && self.forwards.is_there_since(client, since_ms)
        {
            return Err(format!("send: {client} had a connection all the time, and {n:?} did not find it"));
        }
        for reply in answer.iter().flat_map(|replies| replies.iter()) {
            self.checker.said_to_send(pipe, reply);
        }
        let answer = match answer {
            Ok(replies) => Ok((replies.clone(), wire::write_send_answer(n, replies))),
            Err(error) => Err(error.clone()),
        };
        let said = self.pipes[pipe].said_count;
        let answer = SendAnswer { pipe, exchange, client, n, answer, said };
        let owner = self.pipes[pipe].client;
        let late = match exchange {
            Some(exchange) => self.core_way_ms(owner, exchange),
            None if owner >= self.clients.len() => None,
            None => self.way_ms(pipe),
        };
        if let Some(late) = late {
            self.after(late, Event::SendAnswered(Box::new(answer)));
        }
        Ok(true)
    }

    /// A client gets the answer to a send.
    pub(super) fn send_heard(&mut self, answered: SendAnswer) -> Verdict {
        if let Some(exchange) = answered.exchange {
            return self.core_send_heard(exchange, answered);
        }
        let SendAnswer { pipe, client, n, answer, said, .. } = answered;
        let number = self.pipes[pipe].client;
        if self.sender(pipe) != Some(client) || self.pipes[pipe].half_open || self.frozen_until_ms[number] > self.now_ms
        {
            return Ok(());
        }
        self.trace.note(self.now_ms, || format!("client {number} has the answer to send {n:?}: {answer:?}"));
        self.clients[number].heard_ms = self.now_ms;
        let Some(n) = n else { return Ok(()) };
        let Some(outgoing) = self.outgoing.get_mut(&client) else { return Ok(()) };
        let Some(sent) = outgoing.unanswered.get_mut(&n).filter(|sent| sent.pipe == pipe) else { return Ok(()) };
        match answer {
            Ok((replies, text)) => {
                let is_filler = sent.requests.is_empty();
                outgoing.is_done(n);
                let texts = wire::entries(&text, "replies")?;
                if texts.len() != replies.len() {
                    return Err(format!("wire: {replies:?} was read as {texts:?}"));
                }
                for (reply, text) in replies.iter().zip(&texts).filter(|_| !is_filler) {
                    let (read, reply) = (wire::read_messages(text)?, ToClient::Reply(reply.clone()));
                    if !wire::agree(&read, &reply) {
                        return Err(format!("wire: {reply:?} was read as {read:?}"));
                    }
                    if let ToClient::Reply(reply) = reply {
                        self.reply_heard(pipe, reply, said)?;
                    }
                }
            }
            Err(error) => match error.code {
                ErrorCode::NotConnected => return self.client_closed(pipe, false, None),
                // The outcome of its commands is not known: the next connection begins with a known state.
                ErrorCode::Unknown => {
                    outgoing.unanswered.remove(&n);
                    self.counts.sends_unknown += 1;
                    return self.client_closed(pipe, false, None);
                }
                ErrorCode::OutOfOrder => outgoing.unanswered.values_mut().for_each(|sent| sent.again_ms = 0),
                _ => sent.again_ms = self.now_ms + 200,
            },
        }
        self.send_out(pipe)
    }

    /// A client has the answer to one command. `said`: the number of messages after which it may be looked at.
    pub(super) fn reply_heard(&mut self, pipe: usize, reply: Reply, said: u64) -> Verdict {
        let Some(apart) = &mut self.pipes[pipe].apart else { return Ok(()) };
        let id = if let Some(RequestId::Number(id)) = reply.id { id } else { 0 };
        let is_early = match (apart.asked.get(&id), &reply.body) {
            (Some(Asked::Subscribe(_)), ReplyBody::Subscribed(_)) => false,
            (Some(Asked::Subscribe(_)), ReplyBody::Many(bodies)) => {
                bodies.iter().any(|body| matches!(body, ReplyBody::Error(_)))
            }
            (Some(_), _) => true,
            (None, _) => false,
        };
        if is_early {
            apart.postponed.push(Postponed { after: said, id, reply });
            return self.look_at_postponed(pipe);
        }
        self.take_reply(pipe, id, reply)
    }

    /// Answers behind whose messages the client has come are looked at.
    fn look_at_postponed(&mut self, pipe: usize) -> Verdict {
        let heard = self.pipes[pipe].heard_count;
        while let Some(apart) = &mut self.pipes[pipe].apart
            && let Some(at) = apart.postponed.iter().position(|postponed| postponed.after <= heard)
        {
            let Postponed { id, reply, .. } = apart.postponed.remove(at);
            self.take_reply(pipe, id, reply)?;
        }
        Ok(())
    }

    /// An answer is looked at, and then the messages that have waited for it.
    fn take_reply(&mut self, pipe: usize, id: u64, reply: Reply) -> Verdict {
        let asked = self.pipes[pipe].apart.as_mut().and_then(|apart| apart.asked.remove(&id));
        let is_end = matches!(asked, Some(Asked::Unsubscribe));
        let channels = if let Some(Asked::Subscribe(channels)) = asked { channels } else { Vec::new() };
        // The server had subscribed it by itself: that message comes first.
        for channel in &channels {
            if is_subscribed_already(&reply.body) {
                self.release(pipe, channel, |push| !matches!(push, Push::Subscribed(_)))?;
            }
        }
        let is_refused = matches!(&reply.body, ReplyBody::Error(error) if error.code == ErrorCode::Unavailable);
        self.deliver(pipe, &ToClient::Reply(reply), "")?;
        // Its client does not want the channel any more, and is still subscribed: it begins anew.
        let is_core = self.pipes[pipe].client >= self.clients.len();
        if is_refused && is_end && !is_core {
            return self.client_closed(pipe, false, None);
        }
        for channel in &channels {
            self.release(pipe, channel, |_| true)?;
        }
        Ok(())
    }

    /// Messages about a channel that were held back are looked at, up to and with the first that is not `more`.
    fn release(&mut self, pipe: usize, channel: &ChannelName, more: impl Fn(&Push) -> bool) -> Verdict {
        while let Some(apart) = &mut self.pipes[pipe].apart
            && let Some((said, text)) = apart.held.get_mut(channel).and_then(|held| held.pop_front())
        {
            self.deliver(pipe, &said, &text)?;
            if let ToClient::Push(push) = &*said
                && !more(push)
            {
                return Ok(());
            }
        }
        Ok(())
    }

    /// A client whose commands go by sends has a message: it looks at it, or holds it back.
    pub(super) fn hear_apart(&mut self, pipe: usize, said: Rc<ToClient>, text: &str) -> Verdict {
        let channel = if let ToClient::Push(push) = &*said { wire::channel_of(push).cloned() } else { None };
        if let (Some(apart), Some(channel)) = (&mut self.pipes[pipe].apart, channel)
            && apart.is_subscribing(&channel)
        {
            apart.held.entry(channel).or_default().push_back((said, text.to_owned()));
            return self.look_at_postponed(pipe);
        }
        self.deliver(pipe, &said, text)?;
        self.look_at_postponed(pipe)
    }
}

fn is_subscribed_already(body: &ReplyBody) -> bool {
    match body {
        ReplyBody::Error(error) => error.code == ErrorCode::AlreadySubscribed,
        ReplyBody::Many(bodies) => bodies.iter().any(is_subscribed_already),
        _ => false,
    }
}
