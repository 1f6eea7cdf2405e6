//! Readers of plain event streams in the world: the shell's part of their streams, and what they read.
//!
//! The shell decides nothing. It asks `fanfare_wire::events` for the commands of a request and the blocks of a push,
//! and `fanfare_wire::admission` whether the reader is let in, as the server does. The judge of streams sees the blocks
//! that were read, and the judge of connections the hub's own messages, each as soon as its text was read.

use super::{Event, Verdict, World};
use crate::app::CLOSED;
use crate::chances::pick;
use crate::model::is_lasting;
use crate::readers::{BlockReader, ReaderEnd, Reading, StreamJudge, variant_of};
use crate::wire::{self, ToClient};
use fanfare_hub::{
    Appended, ChannelName, ConnId, Disconnect, Error, ErrorCode, HeartbeatKind, Input, Outbox, Push, Reply, ReplyBody,
    Request, WireId,
};
use fanfare_wire::admission::{Admission, AdmissionReply, Opening};
use fanfare_wire::events::{Events, Written};
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

/// A comment between blocks, as the framing writes it in the place of a ping.
const PING: &[u8] = b":\n\n";
/// A kernel gives up after so long to send to a peer that acknowledges nothing, and a part of it more.
const GIVES_UP_MS: u64 = 2_000;

/// A push in the form in which all readers of one wire get it, encoded once.
pub(super) struct ReaderPush {
    written: Written,
    bytes: Vec<u8>,
}

impl World {
    /// The number of a reader among its kind.
    pub(super) fn reader_of(&self, client: usize) -> Option<usize> {
        client.checked_sub(self.clients.len() + self.cores.len() + self.chats.len())
    }

    pub(super) fn open_reader(&mut self, client: usize, reader: usize, shard: usize) -> Verdict {
        let others = self.readers.iter().enumerate().filter(|(other, _)| *other != reader);
        let other = others.filter_map(|(_, other)| other.id.clone()).next();
        let (rng, of) = (&mut self.client_rngs[client], &mut self.readers[reader]);
        let (asked, shown) = of.asks(rng, &self.plan, self.calm, other);
        let request = of.request(&asked, &shown);
        let pipe = self.new_pipe(client, shard);
        self.trace.note(self.now_ms, || format!("reader {client} asks on pipe {pipe} for {asked:?}, shows {shown:?}"));
        self.checker.opened(pipe, shard);
        self.checker.is_reader(pipe);
        self.app.takes_no_subscriptions(pipe);
        let events = Events::of(&request);
        let mut requests = Vec::new();
        let stream = events.begin(request, &mut requests);
        let shut: BTreeSet<_> = self.shut.iter().filter(|shut| asked.channels.contains(shut)).cloned().collect();
        let judge = StreamJudge::new(asked, shown, self.stores.borrow().ledger.order);
        self.pipes[pipe].reader = Some(Box::new(ReaderEnd {
            events,
            stream,
            opening: Some(Opening::new(AdmissionReply::Subscribed)),
            said: VecDeque::new(),
            read: 0,
            blocks: BlockReader::default(),
            judge,
            is_shut_out: !shut.is_empty(),
            shut,
            must_end: false,
        }));
        self.readers[reader].opened(pipe, self.now_ms);
        self.bind(pipe, HeartbeatKind::Marks)?;
        for request in requests {
            if self.pipes[pipe].server_open {
                self.reader_command(pipe, request)?;
            }
        }
        Ok(())
    }

    fn reader_command(&mut self, pipe: usize, request: Request) -> Verdict {
        self.trace.note(self.now_ms, || format!("the stream of pipe {pipe} asks for {request:?}"));
        self.application.shown(pipe, &request);
        self.checker.sent(pipe, &request, &self.stores.borrow());
        self.command(pipe, request)
    }

    pub(super) fn tick_reader(&mut self, client: usize, reader: usize) -> Verdict {
        let Some(pipe) = self.readers[reader].pipe else {
            if self.now_ms < self.readers[reader].retry_ms {
                return Ok(());
            }
            let shard = self.any_shard(client);
            return self.open(client, shard);
        };
        self.hears_enough(pipe)?;
        let is_silent = self.now_ms > self.readers[reader].heard_ms + 2 * self.plan.limits.heartbeat_ms + 500;
        let leaves = !self.calm && self.client_rngs[client].below(60) == 0;
        if is_silent || leaves { self.cut(pipe, false) } else { Ok(()) }
    }

    /// A push for readers, in the blocks of their protocol.
    pub(super) fn reader_push(push: &Push, wire: WireId) -> Option<ReaderPush> {
        let mut bytes = Vec::new();
        let written = variant_of(wire)?.encode_push(push, &mut bytes);
        Some(ReaderPush { written, bytes })
    }

    /// A shard tells a reader something.
    pub(super) fn reader_is_told(
        &mut self,
        (shard, conn): (usize, ConnId),
        message: &Rc<ToClient>,
        push: &ReaderPush,
        inputs: &mut VecDeque<Input>,
    ) -> Verdict {
        let (Some(index), ToClient::Push(said)) = (self.pipe_of(shard, conn), &**message) else { return Ok(()) };
        let Some(end) = &mut self.pipes[index].reader else { return Ok(()) };
        let mut bytes = push.bytes.clone();
        match push.written {
            Written::Begun => end.stream.encode_rest(said, &mut bytes),
            Written::Ping => bytes.extend_from_slice(PING),
            Written::Blocks | Written::Last(_) | Written::Nothing => {}
        }
        self.reader_append(index, message, bytes, inputs);
        let Written::Last(reason) = push.written else { return Ok(()) };
        self.over(index);
        self.ends(index, true);
        inputs.push_back(Input::Closed { conn, finally: !reason.reconnect() });
        self.reader_has_last_word(index, reason)
    }

    /// A shard answers the commands of a stream.
    pub(super) fn reader_is_answered(&mut self, index: usize, reply: &Reply, inputs: &mut VecDeque<Input>) -> Verdict {
        let (wall_ms, retry_ms) = (self.wall_ms, 50 + self.pipes[index].rng.below(300));
        let Some(end) = &mut self.pipes[index].reader else { return Ok(()) };
        let mut bytes = Vec::new();
        if let Some(opening) = &mut end.opening {
            opening.judge(&reply.body);
        }
        end.stream.encode_reply(reply, wall_ms, retry_ms, &mut bytes);
        self.reader_append(index, &Rc::new(ToClient::Reply(reply.clone())), bytes, inputs);
        let Some(refused) = self.reader_verdict(index)? else { return Ok(()) };
        self.over(index);
        self.ends(index, true);
        inputs.push_back(Input::Closed { conn: self.pipes[index].conn, finally: true });
        self.reader_is_turned_away(index, &refused);
        Ok(())
    }

    fn reader_append(&mut self, index: usize, message: &Rc<ToClient>, bytes: Vec<u8>, inputs: &mut VecDeque<Input>) {
        self.overhears(index, message);
        let pipe = &mut self.pipes[index];
        let Some(end) = &mut pipe.reader else { return };
        end.said.push_back((message.clone(), bytes.len()));
        if bytes.is_empty() {
            return;
        }
        let largest = if wire::is_page(message) { &mut pipe.page_frame_max } else { &mut pipe.frame_max };
        *largest = (*largest).max(bytes.len());
        let conn = pipe.conn;
        if pipe.outbox.push(bytes.into(), self.plan.limits.outbox_bytes_max) == Appended::Full {
            self.counts.full += 1;
            self.counts.reader_full += 1;
            self.trace.note(self.now_ms, || format!("pipe {index} is full"));
            inputs.push_back(Input::Full(conn));
        }
        self.flush_later(index);
    }

    /// Whether the reader is let in, as soon as that is decided; and its refusal, if it is not.
    fn reader_verdict(&mut self, index: usize) -> Result<Option<Error>, String> {
        let Some(end) = &mut self.pipes[index].reader else { return Ok(None) };
        let Some(admission) = end.opening.as_mut().and_then(Opening::take) else { return Ok(None) };
        end.opening = None;
        self.trace.note(self.now_ms, || format!("the stream of pipe {index} is {admission:?}"));
        if admission == Admission::Admitted {
            self.is_open_to_it(index)?;
        }
        match admission.refusal() {
            Some(error) => {
                self.may_be_refused(index, &error)?;
                Ok(Some(error))
            }
            None => {
                self.flush_later(index);
                Ok(None)
            }
        }
    }

    /// A refusal that lasts is the answer. Where it will pass, a stream ends at once, and says when to come back.
    fn reader_is_turned_away(&mut self, index: usize, error: &Error) {
        let row = error.code.row();
        let pipe = &mut self.pipes[index];
        (pipe.server_open, pipe.outbox) = (false, Outbox::default());
        let late_ms = 1 + pipe.rng.below(300);
        if !row.retryable {
            return self.after(late_ms, Event::ReaderRefused { pipe: index, status: row.status });
        }
        self.counts.readers_put_off += 1;
        let push = Push::Disconnect { reason: Disconnect::Overloaded, delay_ms: 50 + late_ms };
        if let Some(end) = &mut pipe.reader {
            let mut bytes = Vec::new();
            end.events.encode_push(&push, &mut bytes);
            end.said = VecDeque::from([(Rc::new(ToClient::Push(push)), bytes.len())]);
            pipe.outbox.push(bytes.into(), usize::MAX);
        }
        self.has_written_its_end(index);
    }

    /// Promise 7: a stream begins only if the rules let the reader subscribe, or its token does. If they have changed
    /// since it asked, it may begin, and ends at once.
    fn is_open_to_it(&mut self, index: usize) -> Verdict {
        let Some(end) = &mut self.pipes[index].reader else { return Ok(()) };
        let is_closed = |channel: &&ChannelName| ***channel == *CLOSED;
        let is_shut = |channel: &&ChannelName| self.shut.as_ref() == Some(*channel);
        let is_granted = |channel: &&ChannelName| self.plan.hooks.grant.as_ref() == Some(*channel);
        let mut denied = end.judge.channels().iter().filter(|channel| !is_granted(channel));
        let Some(channel) = denied.find(|channel| is_closed(channel) || is_shut(channel)) else { return Ok(()) };
        if is_closed(&channel) || end.is_shut_out {
            return Err(format!("promise 7: a stream of {channel} begins, which the rules close"));
        }
        end.must_end = true;
        Ok(())
    }

    /// No stream goes on that the rules have closed before it began.
    pub(super) fn readers_are_let_in(&self, shard: usize) -> Verdict {
        for pipe in self.readers.iter().filter_map(|reader| Some(&self.pipes[reader.pipe?])) {
            if pipe.shard == shard && pipe.server_open && pipe.reader.as_ref().is_some_and(|end| end.must_end) {
                return Err(format!("promise 7: the stream of pipe {} goes on, which the rules close", pipe.number));
            }
        }
        Ok(())
    }

    /// A refusal that lasts has a cause that lasts, and the other way round.
    fn may_be_refused(&self, index: usize, error: &Error) -> Verdict {
        let Some(end) = &self.pipes[index].reader else { return Ok(()) };
        let lasts = !error.code.row().retryable;
        let wrong = |what: &str| Err(format!("events: pipe {index} is refused with {error}, and {what}"));
        let is_closed = end.judge.channels().iter().any(|channel| **channel == *CLOSED);
        match (is_lasting(error.code), error.code) {
            (is_so, _) if is_so != lasts => wrong(&format!("lasts: {lasts}")),
            (true, ErrorCode::Denied)
                if is_closed || !end.shut.is_empty() || self.plan.hooks.is_on || self.plan.app =>
            {
                Ok(()) // the application may end a subscription, or send the reader away
            }
            (true, ErrorCode::Denied) => wrong("no rule denies it"),
            (true, ErrorCode::Unauthorized) if self.plan.hooks.hooks.connect => Ok(()),
            // The application has answered so late that what it allowed was over.
            (true, ErrorCode::TokenExpired) if self.plan.hooks.hooks.connect && self.plan.hooks.expires => Ok(()),
            (true, _) => wrong("has done nothing wrong"),
            (false, _) if self.plan.is_exact() && !self.plan.hooks.is_on && self.draining.is_none() => {
                wrong("everything can be answered")
            }
            (false, _) => Ok(()),
        }
    }

    /// Other rules are in force: readers may be refused for the channel that they shut.
    pub(super) fn rules_for_readers(&mut self, shut: Option<&ChannelName>) {
        for end in self.pipes.iter_mut().filter_map(|pipe| pipe.reader.as_mut()) {
            let shut = shut.filter(|shut| end.judge.channels().contains(shut));
            end.is_shut_out &= shut.is_some_and(|shut| end.shut.contains(shut));
            end.shut.extend(shut.cloned());
        }
    }

    /// A shard closes the connection, and the protocol has a word for that.
    pub(super) fn reader_farewell(&mut self, index: usize, reason: Disconnect) -> Verdict {
        let push = Push::Disconnect { reason, delay_ms: 0 };
        let pipe = &mut self.pipes[index];
        if let Some(end) = &mut pipe.reader {
            let mut bytes = Vec::new();
            end.events.encode_push(&push, &mut bytes);
            end.said.push_back((Rc::new(ToClient::Push(push)), bytes.len()));
            pipe.outbox.push(bytes.into(), usize::MAX);
        }
        self.reader_has_last_word(index, reason)
    }

    /// Nothing more is appended. Where the reader was not let in yet, this decides it.
    fn reader_has_last_word(&mut self, index: usize, reason: Disconnect) -> Verdict {
        if let Some(opening) = self.pipes[index].reader.as_mut().and_then(|end| end.opening.as_mut()) {
            opening.end(reason);
        }
        match self.reader_verdict(index)? {
            Some(refused) => self.reader_is_turned_away(index, &refused),
            None => self.has_written_its_end(index),
        }
        Ok(())
    }

    /// A reader reads bytes of its stream.
    pub(super) fn reader_hears(&mut self, index: usize, bytes: &[u8]) -> Verdict {
        let client = self.pipes[index].client;
        let Some(reader) = self.reader_of(client) else { return Ok(()) };
        self.pipes[index].heard_ms = self.now_ms;
        self.readers[reader].heard_ms = self.now_ms;
        let mut rest = bytes;
        while !rest.is_empty() && self.pipes[index].client_open {
            let Some(end) = &mut self.pipes[index].reader else { return Ok(()) };
            let front = end.said.iter().find(|(_, len)| *len > 0);
            let Some((said, len)) = front else { return Err("wire: events: a text that nobody said".to_owned()) };
            let is_first_page = matches!(&**said, ToClient::Reply(Reply { body: ReplyBody::Many(_), .. }));
            let (part, later) = rest.split_at(rest.len().min(len - end.read));
            (rest, end.read) = (later, end.read + part.len());
            let (is_whole, blocks) = (end.read == *len, end.blocks.read(part)?);
            if is_whole && end.blocks.is_within() {
                return Err(format!("wire: events: {said:?} does not end its block"));
            }
            for block in blocks {
                self.trace.note(self.now_ms, || format!("reader {client} reads on pipe {index}: {block:?}"));
                let now = self.now();
                let Some(end) = &mut self.pipes[index].reader else { return Ok(()) };
                let (stores, of) = (self.stores.borrow(), &mut self.readers[reader]);
                let (policy, counts) = (&self.policy, &mut self.counts);
                let page_bytes_max = self.plan.limits.page_bytes_max;
                let stores = &stores;
                let mut reading = Reading { now, stores, policy, counts, page_bytes_max, is_first_page };
                end.judge.reads(&block, of, &mut reading)?;
                if let Some(id) = &block.id {
                    of.keeps(id, &mut self.client_rngs[client]);
                }
                if let Some(retry_ms) = block.retry_ms {
                    of.wait_ms = retry_ms;
                }
            }
            while let Some(said) = self.pipes[index].reader.as_mut().and_then(|end| end.next_read()) {
                let now = self.now();
                self.checker.got(now, index, &said, &self.stores.borrow(), &self.policy)?;
            }
        }
        Ok(())
    }

    /// A reader is answered that it may not read: a browser gives up, and its page is loaded again some time.
    pub(super) fn reader_is_refused(&mut self, index: usize, status: u16) -> Verdict {
        self.trace.note(self.now_ms, || format!("the stream of pipe {index} is refused with {status}"));
        if self.pipes[index].half_open || !self.pipes[index].client_open {
            return Ok(());
        }
        self.counts.readers_denied += 1;
        self.client_closed(index, false, None)
    }

    /// A reader is done with a stream.
    pub(super) fn reader_leaves(&mut self, client: usize, reader: usize, index: usize) {
        let is_cut = self.pipes[index].reader.as_ref().is_some_and(|end| end.blocks.is_within());
        self.counts.readers_cut_within += u64::from(is_cut);
        if self.readers[reader].pipe == Some(index) {
            self.readers[reader].closed(self.now_ms, &mut self.client_rngs[client]);
        }
    }

    /// Something happens to a reader's connection. Its chances are its own, so that those of other clients stay.
    pub(super) fn reader_fault(&mut self) -> Verdict {
        if self.calm {
            return Ok(());
        }
        let open = self.readers.iter().enumerate().filter_map(|(number, reader)| Some((number as u64, reader.pipe?)));
        let open: Vec<_> = open.filter(|(_, pipe)| self.pipes[*pipe].client_open).collect();
        let rng = &mut self.reader_fault_rng;
        let (next_ms, kind, long_ms) = (50 + rng.below(3_000), rng.below(8), rng.below(5_000));
        let chosen = pick(rng, open);
        self.after(next_ms, Event::ReaderFault);
        let Some(pipe) = chosen else { return Ok(()) };
        match kind {
            0 if !self.pipes[pipe].half_open => {
                self.trace.note(self.now_ms, || format!("pipe {pipe} is half open from here on"));
                self.pipes[pipe].half_open = true;
                self.after(GIVES_UP_MS + long_ms / 2, Event::ServerCloses { pipe, finally: false });
                Ok(())
            }
            1..=3 if !self.pipes[pipe].stalled => {
                self.trace.note(self.now_ms, || format!("pipe {pipe} is not read for a while"));
                self.pipes[pipe].stalled = true;
                self.after(100 + long_ms, Event::Mend { pipe });
                Ok(())
            }
            4..=6 => self.cut(pipe, false),
            _ => Ok(()),
        }
    }

    /// All has been calm for long: every reader has a stream, and has read all that is for it.
    pub(super) fn judge_readers(&mut self) -> Verdict {
        for (number, reader) in self.readers.iter().enumerate() {
            let end = reader.pipe.and_then(|pipe| self.pipes[pipe].reader.as_ref());
            let Some(end) = end.filter(|end| end.judge.is_live()) else {
                return Err(format!("promise 3: reader {number} has no stream: {reader:?}"));
            };
            end.judge.finish(self.now_ms, self.plan.limits.heartbeat_ms, &self.stores.borrow())?;
        }
        Ok(())
    }
}
