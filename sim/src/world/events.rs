//! The events of a world: which there are, the queue that keeps them in order of time, and where each one leads.
//!
//! An event of a shard that stands still waits until the shard goes on.

use super::core_http::CoreHttp;
use super::faults::Fault;
use super::polls::PollRequest;
use super::sends::SendAnswer;
use super::{Carried, Verdict, World};
use crate::engine::EngineStep;
use crate::pipe::Pipe;
use crate::polling::PollAnswer;
use bytes::Bytes;
use fanfare_client::core::{ExchangeId, Input as CoreInput};
use fanfare_hub::{ChannelName, ClientId, HookAnswer, HookToken, Input, OpToken, ShardId, StoreAnswer};
use std::cmp::Reverse;
use std::rc::Rc;

#[derive(Debug)]
pub(super) enum Event {
    Wake { shard: usize, at_ms: u64 },
    Continue { shard: usize },
    Inbox { shard: usize, from: usize },
    Answer { shard: usize, told: Option<(OpToken, StoreAnswer)> },
    EndCaller { client: ClientId, channel: Option<ChannelName> },
    Hook { shard: usize, token: HookToken, number: u64, answer: Box<HookAnswer> },
    CoreToken { client: usize },
    Up { pipe: usize },
    Flush { pipe: usize },
    Down { pipe: usize, bytes: Bytes },
    ServerCloses { pipe: usize, finally: bool },
    ClientCloses { pipe: usize },
    CoreOpened { pipe: usize },
    CoreWake { client: usize },
    CoreBlocked { client: usize, how: u64 },
    CoreHttp(Box<CoreHttp>),
    StreamArrives { shard: usize, pipe: usize },
    StreamBegins { pipe: usize },
    Tick { client: usize },
    App,
    Whisper,
    Forward,
    Request { shard: usize, input: Box<Input> },
    PollArrives { shard: usize, request: PollRequest },
    PollOver { pipe: usize, turn: u64 },
    PollHeard { pipe: usize, request: u64, answer: PollAnswer },
    PollNext { pipe: usize },
    PollForget { pipe: usize },
    LetIn { pipe: usize },
    Engine { pipe: usize, step: EngineStep },
    SendOut { pipe: usize },
    SendArrives { shard: usize, pipe: usize, body: Rc<str>, exchange: Option<ExchangeId> },
    SendAnswered(Box<SendAnswer>),
    Fault(Fault),
    ReaderFault,
    ReaderRefused { pipe: usize, status: u16 },
    Stick,
    Flit,
    Leap { pipe: usize, to: usize },
    Mend { pipe: usize },
    Reopen,
    Heal,
    Look,
    Drain,
    Settle { until_ms: u64 },
    Restart,
    Empty,
    LastPublish,
    LastSignal,
    LastQuestion,
    End,
}

impl Event {
    /// It is for the process of a shard, and is lost with it.
    pub(super) fn is_of_a_shard(&self) -> bool {
        if let Event::Engine { step, .. } = self {
            return step.is_at_shard();
        }
        matches!(
            self,
            Event::Wake { .. }
                | Event::Continue { .. }
                | Event::Inbox { .. }
                | Event::Answer { .. }
                | Event::Hook { .. }
                | Event::Request { .. }
                | Event::PollArrives { .. }
                | Event::PollOver { .. }
                | Event::PollForget { .. }
                | Event::LetIn { .. }
                | Event::StreamArrives { .. }
                | Event::SendArrives { .. }
        )
    }
}

impl World {
    pub(super) fn after(&mut self, ms: u64, event: Event) {
        self.at(self.now_ms + ms, event);
    }

    pub(super) fn at(&mut self, at_ms: u64, event: Event) {
        let slot = match self.free.pop() {
            Some(slot) => {
                self.events[slot] = Some((self.life, event));
                slot
            }
            None => {
                self.events.push(Some((self.life, event)));
                self.events.len() - 1
            }
        };
        self.seq += 1;
        self.queue.push(Reverse((at_ms, self.seq, slot)));
    }

    /// The time at which the shard goes on, while it stands still.
    pub(super) fn stands_still(&mut self, shard: usize) -> Option<u64> {
        let until = self.shards[shard].stalled_until_ms;
        (until > self.now_ms).then_some(until)
    }

    pub(super) fn step(&mut self, event: Event) -> Verdict {
        let shard = match &event {
            Event::Wake { shard, .. }
            | Event::Continue { shard }
            | Event::Inbox { shard, .. }
            | Event::Answer { shard, .. }
            | Event::Hook { shard, .. }
            | Event::Request { shard, .. }
            | Event::PollArrives { shard, .. }
            | Event::StreamArrives { shard, .. }
            | Event::SendArrives { shard, .. } => Some(*shard),
            Event::Up { pipe }
            | Event::Flush { pipe }
            | Event::ServerCloses { pipe, .. }
            | Event::PollOver { pipe, .. }
            | Event::PollForget { pipe }
            | Event::StreamBegins { pipe }
            | Event::LetIn { pipe } => Some(self.pipes[*pipe].shard),
            Event::Engine { pipe, step } if step.is_at_shard() => Some(self.pipes[*pipe].shard),
            _ => None,
        };
        if let Some(until) = shard.and_then(|shard| self.stands_still(shard)) {
            if let Event::Engine { pipe, step: EngineStep::Post(_) } = &event {
                self.post_comes(*pipe, until);
            }
            self.at(until, event);
            return Ok(());
        }
        match event {
            Event::Wake { shard, at_ms } => {
                if self.shards[shard].wake_ms == Some(at_ms) {
                    self.shards[shard].wake_ms = None;
                    self.handle(shard, Input::Wake)?;
                }
            }
            Event::Continue { shard } => {
                self.shards[shard].continuing = false;
                self.counts.continued += 1;
                self.handle(shard, Input::Continue)?;
            }
            Event::Inbox { shard, from } => {
                for message in self.shards[shard].inbox[from].messages.pop_front().into_iter().flatten() {
                    let (now_ms, to) = (self.now_ms, shard);
                    match message {
                        Carried::Message(message) => {
                            self.trace.note(now_ms, || format!("shard {from} → {to}: {message:?}"));
                            self.handle(shard, Input::Peer { from: ShardId(from as u16), message })?;
                        }
                        Carried::Poll(request) => self.poll_arrives(shard, request)?,
                    }
                }
            }
            Event::Answer { shard, told } => {
                let now = self.now();
                let told = told.or_else(|| self.stores.borrow_mut().next_answer(now, shard));
                self.store_answers();
                let Some((token, answer)) = told else { return Ok(()) };
                self.trace.note(self.now_ms, || format!("store of shard {shard} answers {token:?}: {answer:?}"));
                self.handle(shard, Input::Answer { token, answer })?;
            }
            Event::Hook { shard, token, number, answer } => {
                self.trace
                    .note(self.now_ms, || format!("the application answers {token:?} of shard {shard}: {answer:?}"));
                self.application.answers(number, &answer);
                self.handle(shard, Input::HookAnswer { token, answer })?;
            }
            Event::EndCaller { client, channel } => self.end_caller(client, channel)?,
            Event::CoreToken { client } => self.core_token(client)?,
            Event::Up { pipe } => self.read(pipe)?,
            Event::Flush { pipe } => self.flush(pipe)?,
            Event::Down { pipe, bytes } => self.down(pipe, bytes)?,
            Event::ServerCloses { pipe, finally } => {
                let Pipe { shard, conn, server_open, .. } = self.pipes[pipe];
                if server_open {
                    self.pipes[pipe].server_open = false;
                    self.over(pipe);
                    self.ends(pipe, finally);
                    self.trace.note(self.now_ms, || format!("server sees the end of pipe {pipe} (finally: {finally})"));
                    self.handle(shard, Input::Closed { conn, finally })?;
                }
            }
            Event::ClientCloses { pipe } => self.client_closed(pipe, false, None)?,
            Event::CoreOpened { pipe } => {
                if self.pipes[pipe].client_open {
                    self.core(self.pipes[pipe].client, CoreInput::Opened)?;
                }
            }
            Event::CoreWake { client } => match self.frozen_until_ms[client] {
                until_ms if until_ms > self.now_ms => self.at(until_ms, event),
                _ => self.core(client, CoreInput::Wake)?,
            },
            Event::CoreBlocked { client, how } => self.core_is_blocked(client, how)?,
            Event::CoreHttp(came) => self.core_http(*came)?,
            Event::StreamArrives { pipe, .. } => self.stream_arrives(pipe)?,
            Event::StreamBegins { pipe } => self.stream_begins(pipe)?,
            Event::Tick { client } => self.tick(client)?,
            Event::App => self.app_tick()?,
            Event::Whisper => self.whisper()?,
            Event::Forward => self.forward_tick()?,
            Event::Request { shard, input } => self.handle(shard, *input)?,
            Event::PollArrives { shard, request } => self.poll_arrives(shard, request)?,
            Event::PollOver { pipe, turn } => self.poll_ready(pipe, turn)?,
            Event::PollHeard { pipe, request, answer } => self.poll_heard(pipe, request, answer)?,
            Event::PollNext { pipe } => self.keep_polling(pipe)?,
            Event::PollForget { pipe } => self.remove_polled(pipe),
            Event::LetIn { pipe } => self.let_in(pipe)?,
            Event::Engine { pipe, step } => self.engine_step(pipe, step)?,
            Event::SendOut { pipe } => self.send_out(pipe)?,
            Event::SendArrives { shard, pipe, body, exchange } => self.send_arrives(shard, (pipe, exchange), &body)?,
            Event::SendAnswered(answer) => self.send_heard(*answer)?,
            Event::Fault(fault) => self.fault(fault)?,
            Event::ReaderFault => self.reader_fault()?,
            Event::ReaderRefused { pipe, status } => self.reader_is_refused(pipe, status)?,
            Event::Stick => self.stick()?,
            Event::Flit => self.flit()?,
            Event::Leap { pipe, to } => self.leap(pipe, to)?,
            Event::Mend { pipe } => self.mend(pipe)?,
            Event::Reopen => self.reload(None)?,
            Event::Heal => self.heal()?,
            Event::Look => self.look()?,
            Event::Drain => self.drain()?,
            Event::Settle { until_ms } => self.settle(until_ms)?,
            Event::Restart => self.restart()?,
            Event::LastPublish => self.last_publish()?,
            Event::LastSignal => self.last_signal()?,
            Event::LastQuestion => self.last_question()?,
            Event::End | Event::Empty => {}
        }
        Ok(())
    }
}
