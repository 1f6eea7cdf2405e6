//! The shell of a shard: one input goes in, and the hub's effects are executed in order.
//!
//! A push is encoded once and appended to the outbox of each recipient, messages go on their way to other shards, and
//! questions go to the application. The judges see each effect before it takes place.

use super::polls::PollRequest;
use super::{Event, Verdict, World};
use crate::application::ScheduledAnswer;
use crate::chances::Chances;
use crate::chat::CHAT_WIRE;
use crate::pipe::{Pipe, SinceFull};
use crate::watch::Said;
use crate::wire::{self, ToClient};
use bytes::Bytes;
use fanfare_hub::{
    Appended, ChannelName, ConnId, Effect, Effects, Input, PeerMessage, PollTable, Push, ReplyBody, Rng, Shard,
};
use std::cell::OnceCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// What goes from one shard to another.
pub(super) enum Carried {
    Message(PeerMessage),
    /// A poll for a session that the other shard may have.
    Poll(PollRequest),
}

/// The link from one shard to another.
pub(super) struct Link {
    /// What arrives together.
    pub(super) messages: VecDeque<Vec<Carried>>,
    /// What the turn has said so far.
    pub(super) turn: Vec<Carried>,
    /// When the last of them arrives.
    pub(super) last_ms: u64,
    pub(super) rng: Rng,
}

impl Link {
    pub(super) fn new(chances: Chances, from: usize, to: usize) -> Self {
        let number = (from as u64) << 32 | to as u64;
        Link { messages: VecDeque::new(), turn: Vec::new(), last_ms: 0, rng: chances.of("link", number) }
    }
}

/// A shard and what its shell keeps for it.
pub(super) struct Core {
    pub(super) shard: Shard,
    pub(super) effects: Effects,
    /// From each shard.
    pub(super) inbox: Vec<Link>,
    pub(super) rng: Rng,
    pub(super) wake_ms: Option<u64>,
    pub(super) continuing: bool,
    pub(super) stalled_until_ms: u64,
    /// Its polled connections.
    pub(super) polls: PollTable,
    /// Pipe of each connection index, with the generation that it stands for.
    pub(super) conns: Vec<(u32, Option<usize>)>,
    /// Its pipes that the server has open, in order; those that have ended are taken out at the next step.
    pub(super) open: Vec<usize>,
}

impl Core {
    /// The server has a connection open.
    pub(super) fn has_open(&mut self, pipe: usize) {
        if let Err(at) = self.open.binary_search(&pipe) {
            self.open.insert(at, pipe);
        }
    }
}

impl World {
    /// The shell: one input, then the hub's effects, in order.
    pub(super) fn handle(&mut self, shard: usize, input: Input) -> Verdict {
        let (mut next, mut inputs) = (Some(input), VecDeque::new());
        while let Some(input) = next.take().or_else(|| inputs.pop_front()) {
            let mut effects = std::mem::take(&mut self.shards[shard].effects);
            effects.clear();
            let now = self.now();
            self.turn += 1;
            self.turn_order = self.stores.borrow().ledger.order;
            let full = if let Input::Full(conn) = &input { Some(*conn) } else { None };
            self.kept.at(self.now_ms);
            self.signals_given(shard, &input);
            self.shards[shard].shard.handle(now, input, &mut effects);
            let full = full.and_then(|conn| self.pipe_of(shard, conn));
            let mut must_close = false;
            if let Some(pipe) = full {
                self.pipes[pipe].full = Some(SinceFull::default());
                self.pipes[pipe].full_ms = Some(self.now_ms);
                // Where a store loses, subscribers are set back without a word, and catch up.
                // A subscription made by sends is not watched, and may be catching up.
                let must = self.pipes[pipe].watch.full() && self.pipes[pipe].apart.is_none();
                must_close = must && !self.plan.loses();
            }
            let mut list = effects.take_list();
            self.is_sliced(&list, &effects)?;
            for effect in list.drain(..) {
                self.effect(shard, effect, &effects, &mut inputs)?;
            }
            effects.put_back(list);
            if let Some(pipe) = full.filter(|pipe| must_close && self.pipes[*pipe].server_open) {
                return Err(format!("pipe {pipe} is slow and follows a channel that disconnects for it"));
            }
            self.after_handle(shard, &effects);
            self.shards[shard].effects = effects;
        }
        self.carry(shard);
        self.chats_leave(shard)?;
        self.readers_are_let_in(shard)?;
        self.app_answers()?;
        self.signals_told()?;
        self.bounds(shard)
    }

    fn effect(&mut self, shard: usize, effect: Effect, effects: &Effects, inputs: &mut VecDeque<Input>) -> Verdict {
        match effect {
            Effect::Push { push, wire, to } => {
                let recipients = effects.recipients(to);
                self.trace.note(self.now_ms, || format!("shard {shard} tells {recipients:?}: {push:?}"));
                let counts = matches!(push, Push::Message { .. } | Push::Messages { .. });
                let in_chat = if wire == CHAT_WIRE { Some(self.chat_push(&push)?) } else { None };
                let in_stream = Self::reader_push(&push, wire);
                let message = Rc::new(ToClient::Push(push));
                let frame = OnceCell::new();
                for conn in recipients {
                    let turn = self.turn;
                    if let Some(pipe) = self.pipe_of(shard, *conn) {
                        if self.pipes[pipe].wire() != wire {
                            let has = self.pipes[pipe].wire();
                            return Err(format!(
                                "rewire: pipe {pipe} has {has:?}, and is told for {wire:?}: {message:?}"
                            ));
                        }
                        if let ToClient::Push(push) = &*message {
                            self.application.pushed(pipe, push);
                        }
                        let (said, pipe) = (self.said(), &mut self.pipes[pipe]);
                        if let ToClient::Push(Push::Signal(signal)) = &*message
                            && let Some(to) = signal.signal.to
                        {
                            pipe.signals_told.insert(signal.signal.data.clone());
                            pipe.directed_ms.insert(signal.signal.channel.clone(), self.now_ms);
                            self.kept.told(to, &signal.signal.data);
                        }
                        let is_of_the_moment = |push: &Push| {
                            matches!(push, Push::Signal(_) | Push::Presence(_) | Push::PresenceCount { .. })
                        };
                        if let (ToClient::Push(push), Some(_)) = (&*message, &pipe.full)
                            && is_of_the_moment(push)
                        {
                            return Err(format!("promise 6: a full connection is told {push:?}"));
                        }
                        // The application's subscription takes the place of one that was kept, and has no rooms.
                        if let ToClient::Push(Push::Subscribed(subscribed)) = &*message {
                            self.checker.end_sent(pipe.number, &subscribed.channel);
                        }
                        if let ToClient::Push(Push::Unsubscribed { channel, .. }) = &*message {
                            self.checker.end_sent(pipe.number, channel);
                            pipe.entering.retain(|_, of| of != channel);
                            if let Some(client) = pipe.session {
                                self.kept.left(client, channel);
                            }
                        }
                        if let (ToClient::Push(Push::Unsubscribed { channel, .. }), Some(_)) = (&*message, &pipe.apart)
                        {
                            self.checker.end_told(pipe.number, channel);
                        }
                        if let ToClient::Push(push) = &*message {
                            let (number, session) = (pipe.number, pipe.session);
                            Self::tells_strictly(&mut self.strict, &self.policy, self.now_ms, (number, session), push)?;
                        }
                        if let ToClient::Push(Push::Disconnect { delay_ms, .. }) = &*message {
                            pipe.drain_delay_ms = Some(*delay_ms);
                        }
                        if let ToClient::Push(push) = &*message {
                            let batch = pipe.watch.pushed(push, said, &self.plan, &self.stores.borrow().ledger)?;
                            self.counts.batches += u64::from(batch);
                        }
                    }
                    self.counts.prompt += u64::from(counts && self.said().is_prompt);
                    if let Some(since) = self.full_of(shard, *conn).filter(|_| counts) {
                        since.turns += usize::from(since.last_turn != turn);
                        since.last_turn = turn;
                    }
                    match (&in_chat, &in_stream) {
                        (Some(push), _) => self.chat_is_told((shard, *conn), &message, push, inputs)?,
                        (_, Some(push)) => self.reader_is_told((shard, *conn), &message, push, inputs)?,
                        _ => self.append(shard, *conn, &message, &frame, inputs),
                    }
                    if let (Some(pipe), ToClient::Push(Push::Signal(signal))) = (self.pipe_of(shard, *conn), &*message)
                        && signal.signal.to.is_some()
                    {
                        self.poll_directed(pipe);
                    }
                }
            }
            Effect::Reply { conn, reply, .. } => {
                self.trace.note(self.now_ms, || format!("shard {shard} answers {conn:?}: {reply:?}"));
                if let Some(pipe) = self.pipe_of(shard, conn) {
                    if let ReplyBody::Connected(connected) = &reply.body {
                        self.checker.taken_up(pipe, connected.client);
                        self.checker.is_given(pipe, connected);
                    }
                    let asked = |channel: &ChannelName| self.checker.habit(pipe, reply.id.as_ref(), channel);
                    self.pipes[pipe].watch.replied(self.now_ms, &reply.body, &self.plan, &asked)?;
                    let now = self.now();
                    self.checker.said_kept(now, pipe, &reply, &self.stores.borrow(), &self.policy)?;
                    self.checker.said(pipe, &reply, &self.stores.borrow());
                    if let ReplyBody::Subscribed(subscribed) = &reply.body
                        && let (Some(_), Some(_)) = (&self.pipes[pipe].full, subscribed.publications.first())
                    {
                        return Err(format!("promise 6: a full connection is given a page: {subscribed:?}"));
                    }
                    self.answers(pipe, shard, &reply)?;
                }
                let message = Rc::new(ToClient::Reply(reply));
                if let Some(since) = self.full_of(shard, conn) {
                    since.answers += 1;
                }
                if let (Some(pipe), ToClient::Reply(reply)) = (self.pipe_of(shard, conn), &*message) {
                    if let ReplyBody::Connected(connected) = &reply.body
                        && !self.pipes[pipe].is_without_grace()
                    {
                        self.forwards.connected(self.now_ms, connected.client, pipe, shard);
                        self.send_judge.is_resumed(connected.client);
                    }
                    self.application.said(pipe, reply);
                    self.poll_replied(pipe, reply);
                    self.stream_replied(pipe, reply);
                }
                match (self.pipe_of(shard, conn), &*message) {
                    (Some(pipe), ToClient::Reply(reply)) if self.pipes[pipe].chat.is_some() => {
                        self.chat_is_answered(pipe, reply, inputs)?;
                    }
                    (Some(pipe), ToClient::Reply(reply)) if self.pipes[pipe].reader.is_some() => {
                        self.reader_is_answered(pipe, reply, inputs)?;
                    }
                    _ => self.append(shard, conn, &message, &OnceCell::new(), inputs),
                }
            }
            Effect::Pause(conn) => {
                self.counts.held += 1;
                if let Some(pipe) = self.pipe_of(shard, conn) {
                    self.pipes[pipe].held = true;
                }
            }
            Effect::Resume(conn) => {
                if let Some(pipe) = self.pipe_of(shard, conn) {
                    self.pipes[pipe].held = false;
                    self.pipes[pipe].alive_ms = self.now_ms;
                    self.after(0, Event::Up { pipe });
                }
            }
            Effect::Close { conn, reason } => self.server_closes(shard, conn, reason)?,
            Effect::Answer { token, answer } => self.app_answers.push((token, answer)),
            Effect::Answers { .. } => unreachable!("nobody puts questions to members"),
            Effect::Describe(_) => unreachable!("nobody asks for a list of connections"),
            Effect::Forwarded(forwarded) => self.forwarded(&forwarded)?,
            Effect::Ask { token, question, .. } => {
                self.trace.note(self.now_ms, || format!("shard {shard} asks as {token:?}: {question:?}"));
                self.may_end_caller(&question);
                let answering = self.application.asked(self.now(), &question, self.plan.limits.hook_timeout_ms);
                if let Some(ScheduledAnswer { number, answer, after_ms }) = answering {
                    self.after(after_ms, Event::Hook { shard, token, number, answer });
                }
            }
            Effect::Notice(notice) => {
                self.trace.note(self.now_ms, || format!("shard {shard} tells the application {notice:?}"));
                self.application.told(&notice);
            }
            Effect::Tell { shard: to, message } => {
                let to = usize::from(to.0);
                self.shards[to].inbox[shard].turn.push(Carried::Message(message));
                if !self.plan.batched_links {
                    self.carry(shard);
                }
            }
        }
        Ok(())
    }

    /// The messages of a shard go on their way: in order from one shard to another, and in no order beside those of
    /// others or those to others. That is less than the real carrier keeps.
    pub(super) fn carry(&mut self, from: usize) {
        for to in 0..self.shards.len() {
            let link = &mut self.shards[to].inbox[from];
            if link.turn.is_empty() {
                continue;
            }
            let mut late = link.rng.below(3);
            let (one_in, late_max_ms) = if self.plan.faults.slow_links { (6, 200) } else { (30, 80) };
            if !self.calm && link.rng.below(one_in) == 0 {
                late += link.rng.below(late_max_ms);
            }
            let turn = std::mem::take(&mut link.turn);
            self.counts.batched_links += u64::from(turn.len() > 1);
            link.messages.push_back(turn);
            link.last_ms = link.last_ms.max(self.now_ms + late);
            let at_ms = link.last_ms;
            self.at(at_ms, Event::Inbox { shard: to, from });
        }
    }

    fn said(&self) -> Said {
        let (page_bytes_max, steady) = (self.plan.limits.page_bytes_max, !self.plan.loses());
        let is_prompt = !self.plan.faults.shard_stalls && self.plan.is_exact();
        let (now_ms, turn, turn_order) = (self.now_ms, self.turn, self.turn_order);
        Said { now_ms, turn, turn_order, page_bytes_max, steady, is_prompt }
    }

    fn after_handle(&mut self, shard: usize, effects: &Effects) {
        if effects.again() && !self.shards[shard].continuing {
            self.shards[shard].continuing = true;
            let rng = &mut self.shards[shard].rng;
            let busy = !self.calm && rng.below(10) == 0;
            let later = rng.below(if busy { 60 } else { 3 });
            self.after(later, Event::Continue { shard });
        }
        let wake_ms = effects.wake_ms().map(|at| at.max(self.now_ms));
        if let Some(at_ms) = wake_ms.filter(|at| self.shards[shard].wake_ms.is_none_or(|set| *at < set)) {
            self.shards[shard].wake_ms = Some(at_ms);
            self.at(at_ms, Event::Wake { shard, at_ms });
        }
        self.store_answers();
    }

    /// Answers of the stores go on their way.
    pub(super) fn store_answers(&mut self) {
        let answers = std::mem::take(&mut self.stores.borrow_mut().answers);
        for (shard, at_ms, told) in answers {
            self.counts.store_late += 1;
            self.at(at_ms, Event::Answer { shard, told });
        }
    }

    /// The application may have subscribed the session that begins with a message.
    pub(super) fn overhears(&mut self, index: usize, message: &ToClient) {
        let owner = self.number_of(self.pipes[index].client);
        if let Some((client, channel)) = self.app.overhears(self.now_ms, (index, owner), message, &mut self.counts) {
            self.application.grants([client].into(), &channel);
        }
    }

    /// `frame`: the message as a frame of a WebSocket, which is made for the first recipient that needs it.
    fn append(
        &mut self,
        shard: usize,
        conn: ConnId,
        message: &Rc<ToClient>,
        frame: &OnceCell<Bytes>,
        inputs: &mut VecDeque<Input>,
    ) {
        let Some(index) = self.pipe_of(shard, conn) else { return };
        self.overhears(index, message);
        let (wall_ms, limits) = (self.wall_ms, &self.plan.limits);
        let frame = match &self.pipes[index] {
            Pipe { polling: Some(_), .. } => wire::encode_entry(message, shard, wall_ms, limits),
            Pipe { stream: Some(stream), .. } => wire::encode_streamed(message, stream.form, shard, wall_ms, limits),
            Pipe { engine: Some(_), .. } => wire::encode_packet(message, shard, wall_ms, limits),
            _ => frame.get_or_init(|| wire::encode(message, shard, wall_ms, limits)).clone(),
        };
        let pipe = &mut self.pipes[index];
        let largest = if wire::is_page(message) { &mut pipe.page_frame_max } else { &mut pipe.frame_max };
        *largest = (*largest).max(frame.len());
        pipe.said.push_back(message.clone());
        pipe.said_count += 1;
        if pipe.outbox.push(frame, self.plan.limits.outbox_bytes_max) == Appended::Full {
            self.counts.full += 1;
            self.trace.note(self.now_ms, || format!("pipe {index} is full"));
            inputs.push_back(Input::Full(conn));
        }
        self.flush_later(index);
    }

    fn full_of(&mut self, shard: usize, conn: ConnId) -> Option<&mut SinceFull> {
        let pipe = self.pipe_of(shard, conn)?;
        self.pipes[pipe].full.as_mut()
    }

    pub(super) fn pipe_of(&self, shard: usize, conn: ConnId) -> Option<usize> {
        let (generation, pipe) = *self.shards[shard].conns.get(conn.index as usize)?;
        pipe.filter(|pipe| generation == conn.generation && self.pipes[*pipe].server_open)
    }
}
