//! The actions of the network: connections, frames that are cut, bytes that wait, and ends that each side notices at
//! its own time.

use super::{Event, Verdict, World};
use crate::client::Transport;
use crate::pipe::{Heard, Pipe};
use crate::wire::{self, ToClient};
use bytes::Bytes;
use fanfare_client::core::Input as CoreInput;
use fanfare_hub::{
    Command, ConnId, Disconnect, HeartbeatKind, Input, Opened, OverRate, Push, Reply, ReplyBody, Request, RoomCommand,
};
use std::rc::Rc;

impl World {
    pub(super) fn open(&mut self, client: usize, shard: usize) -> Verdict {
        if self.draining.is_some() && !self.comes_late(client) {
            return self.refuse(client);
        }
        if let Some(chat) = self.chat_of(client) {
            return self.open_chat(client, chat, shard);
        }
        if let Some(reader) = self.reader_of(client) {
            return self.open_reader(client, reader, shard);
        }
        if self.polls_next(client) {
            return self.open_polled(client, shard);
        }
        if self.begins_by_requests(client) {
            return self.open_engine(client, shard);
        }
        let pipe = self.new_pipe(client, shard);
        self.checker.opened(pipe, shard);
        self.checker.is_of(pipe, client);
        let keeps = !self.plan.kept(client).is_empty();
        self.bind(pipe, if keeps { HeartbeatKind::Waits } else { HeartbeatKind::Asks })?;
        if client >= self.clients.len() {
            let core = &mut self.cores[client - self.plan.clients];
            core.pipe = Some(pipe);
            let late = 1 + self.pipes[pipe].rng.below(20);
            self.after(late, Event::CoreOpened { pipe });
            return Ok(());
        }
        self.clients[client].transport = Transport::Socket;
        self.meets(client, pipe, shard);
        // Now and then somebody opens a connection and says nothing.
        if !self.calm && self.pipes[pipe].rng.below(40) == 0 {
            return Ok(());
        }
        let request = self.clients[client].connect(&mut self.client_rngs[client], &self.plan, self.calm);
        self.send(pipe, request)
    }

    /// A connection between a client and a shard, which the shard does not know yet.
    pub(super) fn new_pipe(&mut self, client: usize, shard: usize) -> usize {
        let pipe = self.pipes.len();
        let number =
            self.number_of(client) << 32 | self.pipes.iter().filter(|pipe| pipe.client == client).count() as u64;
        self.pipes.push(Pipe::new(pipe, shard, client, self.now_ms, self.chances.of("pipe", number)));
        self.shards[shard].has_open(pipe);
        pipe
    }

    /// The shard of a connection learns of it.
    pub(super) fn bind(&mut self, pipe: usize, heartbeat: HeartbeatKind) -> Verdict {
        let (client, shard) = (self.pipes[pipe].client, self.pipes[pipe].shard);
        let index =
            self.shards[shard].conns.iter().position(|(_, pipe)| pipe.is_none_or(|p| !self.pipes[p].server_open));
        let core = &mut self.shards[shard];
        core.has_open(pipe);
        let index = index.unwrap_or_else(|| {
            core.conns.push((0, None));
            core.conns.len() - 1
        });
        core.conns[index].0 += 1;
        core.conns[index].1 = Some(pipe);
        let conn = ConnId { index: index as u32, generation: core.conns[index].0 };
        self.trace.note(self.now_ms, || format!("client {client} opens pipe {pipe} to shard {shard} as {conn:?}"));
        let now_ms = self.now_ms;
        let of = &mut self.pipes[pipe];
        (of.conn, of.is_bound, of.server_open, of.opened_ms, of.alive_ms) = (conn, true, true, now_ms, now_ms);
        let grace_ms = if self.pipes[pipe].is_without_grace() { 0 } else { self.plan.limits.grace_ms as u32 };
        let opened = Opened {
            wire: self.pipes[pipe].wire(),
            grace_ms,
            heartbeat_ms: self.plan.limits.heartbeat_ms as u32,
            heartbeat,
            connect_timeout_ms: None,
            over_rate: if self.pipes[pipe].chat.is_some() { OverRate::WaitAtLimits } else { OverRate::Refuse },
            attachment: None,
        };
        self.handle(shard, Input::Opened { conn, opened })
    }

    /// A client of the simulation has this connection from now on.
    pub(super) fn meets(&mut self, client: usize, pipe: usize, shard: usize) {
        let connector = &mut self.clients[client];
        connector.pipe = Some(pipe);
        connector.shard = shard;
        connector.heard_ms = self.now_ms;
        if !self.calm && self.pipes[pipe].rng.below(6) == 0 {
            self.copy_ticket(client);
        }
    }

    /// A tab is duplicated: the copy has the ticket of a client that is online, and its own page.
    fn copy_ticket(&mut self, client: usize) {
        let user = self.clients[client].user.clone();
        let others = self
            .clients
            .iter()
            .enumerate()
            .filter(|(at, other)| *at != client && other.online && other.user == user && other.sealed.is_some());
        let Some((sealed, ticket)) = others.map(|(_, other)| (other.sealed.clone(), other.ticket)).next() else {
            return;
        };
        let copy = &mut self.clients[client];
        (copy.sealed, copy.ticket, copy.ack) = (sealed, ticket, None);
    }

    /// A command of the hub, in a client's form. The server must decode it as it was meant.
    pub(super) fn send(&mut self, index: usize, request: Request) -> Verdict {
        if self.pipes[index].apart.is_some() {
            return self.bring(index, request);
        }
        let text = self.written(self.pipes[index].client, &request)?;
        self.send_text(index, &text)
    }

    pub(super) fn written(&mut self, client: usize, request: &Request) -> Result<String, String> {
        if matches!(request.command, Command::Room(_)) {
            self.unspoken.push(request.clone());
            return Ok(wire::write_unspoken(self.unspoken.len() - 1));
        }
        let number = client;
        let client = &self.clients[client];
        let with_info = matches!(&request.command, Command::Connect(connect) if connect.proof.info.is_some());
        let text = wire::write_command(request, wire::token_of(client.user.as_ref(), with_info), client.sealed.clone());
        let read = wire::read_commands(&text, self.reading(number))?;
        let is_connect = matches!(request.command, Command::Connect(_));
        if !is_connect && read != [request.clone()] {
            return Err(format!("wire: {request:?} was read as {read:?}"));
        }
        Ok(text)
    }

    pub(super) fn send_text(&mut self, index: usize, text: &str) -> Verdict {
        self.trace.note(self.now_ms, || format!("client {} sends on pipe {index}: {text}", self.pipes[index].client));
        for request in wire::read_commands(text, self.reading(self.pipes[index].client))? {
            if let Command::Room(command) = &request.command {
                let audience =
                    if let RoomCommand::Publish { audience, .. } = &**command { Some(audience) } else { None };
                self.trace.note(self.now_ms, || format!("{text} is {:?}: for {audience:?}: {command:?}", request.id));
            }
            if let Command::Invalid(error) = &request.command {
                return Err(format!("the server does not understand a command: {error}"));
            }
            self.application.shown(index, &request);
            self.checker.sent(index, &request, &self.stores.borrow());
        }
        self.carry_up(index, text)
    }

    /// A text goes to the server.
    pub(super) fn carry_up(&mut self, index: usize, text: &str) -> Verdict {
        if self.posts(index, text) {
            return Ok(());
        }
        self.carry_frame(index, |mask| wire::frame_up(text, mask))
    }

    /// The answer to a ping of WebSocket goes to the server.
    pub(super) fn carry_pong(&mut self, index: usize) -> Verdict {
        self.carry_frame(index, wire::pong_up)
    }

    fn carry_frame(&mut self, index: usize, frame: impl FnOnce(u64) -> Vec<u8>) -> Verdict {
        let pipe = &mut self.pipes[index];
        if pipe.half_open || !pipe.server_open {
            return Ok(());
        }
        let mut frame = frame(pipe.rng.next_u64());
        // Now and then a frame arrives in two pieces, the second of them never if the connection ends in between.
        let cut = if pipe.rng.below(8) == 0 { pipe.rng.below(frame.len() as u64) as usize } else { 0 };
        let rest = frame.split_off(cut);
        for piece in [frame, rest].into_iter().filter(|piece| !piece.is_empty()) {
            let pipe = &mut self.pipes[index];
            let late = 1 + pipe.rng.below(12);
            pipe.up_last_ms = pipe.up_last_ms.max(self.now_ms + late);
            let at_ms = pipe.up_last_ms;
            if let Some(engine) = &mut pipe.engine {
                engine.early.push((at_ms, piece)); // behind its `5`
                continue;
            }
            pipe.up.push_back((at_ms, piece));
            self.at(at_ms, Event::Up { pipe: index });
        }
        Ok(())
    }

    pub(super) fn read(&mut self, pipe: usize) -> Verdict {
        let Pipe { shard, conn, server_open, .. } = self.pipes[pipe];
        if server_open && !self.pipes[pipe].held {
            self.pipes[pipe].alive_ms = self.now_ms;
            self.handle(shard, Input::Alive(conn))?;
        }
        if self.pipes[pipe].chat.is_some() {
            return self.read_chat(pipe);
        }
        while let Some(request) = self.next_command(pipe)? {
            self.command(pipe, request)?;
        }
        self.engine_has_read(pipe)
    }

    /// How the server reads at this time what this client sends.
    pub(super) fn reading(&self, client: usize) -> wire::Reading<'_> {
        let (asks, keeps) = (self.plan.hooks.hooks.connect, self.plan.kept(client));
        wire::Reading { wall_ms: self.wall_ms, limits: &self.plan.limits, asks, unspoken: &self.unspoken, keeps }
    }

    fn next_command(&mut self, pipe: usize) -> Result<Option<Request>, String> {
        let (asks, keeps) = (self.plan.hooks.hooks.connect, self.plan.kept(self.pipes[pipe].client));
        let (limits, unspoken) = (&self.plan.limits, &self.unspoken);
        let reading = wire::Reading { wall_ms: self.wall_ms, limits, asks, unspoken, keeps };
        self.pipes[pipe].read(self.now_ms, reading)
    }

    pub(super) fn flush_later(&mut self, pipe: usize) {
        if !std::mem::replace(&mut self.pipes[pipe].flushing, true) {
            let later = self.pipes[pipe].rng.below(2);
            self.after(later, Event::Flush { pipe });
        }
    }

    pub(super) fn flush(&mut self, index: usize) -> Verdict {
        let (window, outbox_max) = (self.plan.window, self.plan.limits.outbox_bytes_max);
        if self.pipes[index].polling.is_some() {
            self.pipes[index].flushing = false;
            return self.poll_woken(index);
        }
        if self.pipes[index].stream.as_ref().is_some_and(|stream| !stream.is_answered) {
            self.pipes[index].flushing = false;
            return Ok(());
        }
        if self.pipes[index].engine.is_some() {
            self.pipes[index].flushing = false;
            return self.engine_woken(index);
        }
        if self.pipes[index].reader.as_ref().is_some_and(|end| end.opening.is_some()) {
            self.pipes[index].flushing = false;
            return Ok(());
        }
        let pipe = &mut self.pipes[index];
        let late = 1 + pipe.rng.below(10);
        pipe.flushing = false;
        let room = window.saturating_sub(pipe.in_flight);
        if room == 0 || pipe.outbox.is_empty() {
            return Ok(());
        }
        let (shard, conn, open, held) = (pipe.shard, pipe.conn, pipe.server_open, pipe.held);
        let (bytes, drained) = pipe.write(room, outbox_max);
        pipe.in_flight += bytes.len();
        pipe.down_last_ms = pipe.down_last_ms.max(self.now_ms + late);
        let at_ms = pipe.down_last_ms;
        self.at(at_ms, Event::Down { pipe: index, bytes });
        if open {
            // A write goes into a buffer of the network, whether or not the client is there: it counts as a sign of
            // life only if no other sign can be seen.
            if held {
                self.pipes[index].alive_ms = self.now_ms;
                self.handle(shard, Input::Alive(conn))?;
            }
            if drained {
                self.has_drained(index)?;
            }
        }
        if !self.pipes[index].outbox.is_empty() {
            self.flush_later(index);
        }
        Ok(())
    }

    /// The outbox of an open connection is no longer over its mark.
    pub(super) fn has_drained(&mut self, index: usize) -> Verdict {
        self.counts.drained += 1;
        self.pipes[index].full = None;
        self.pipes[index].watch.drained(self.plan.is_exact(), &self.stores.borrow().ledger);
        self.trace.note(self.now_ms, || format!("pipe {index} has drained"));
        let (shard, conn) = (self.pipes[index].shard, self.pipes[index].conn);
        self.handle(shard, Input::Drained(conn))
    }

    pub(super) fn down(&mut self, index: usize, bytes: Bytes) -> Verdict {
        let pipe = &mut self.pipes[index];
        if pipe.half_open {
            return Ok(()); // never acknowledged: the window stays full
        }
        if pipe.stalled {
            pipe.waiting.push(bytes);
            return Ok(());
        }
        pipe.in_flight -= bytes.len();
        self.flush_later(index);
        if !self.pipes[index].client_open {
            return Ok(());
        }
        if self.pipes[index].reader.is_some() {
            return self.reader_hears(index, &bytes);
        }
        for heard in self.pipes[index].hear(&bytes)? {
            match heard {
                Heard::Text(text) if self.pipes[index].chat.is_some() => self.chat_hears(index, Some(&text))?,
                Heard::Text(text) => self.hear(index, &text)?,
                Heard::Ping => self.chat_hears(index, None)?,
                Heard::Close(code) => {
                    self.trace.note(self.now_ms, || format!("pipe {index} is closed with {code:?}"));
                    self.client_closed(index, false, code)?;
                }
            }
            if !self.pipes[index].client_open {
                break;
            }
        }
        Ok(())
    }

    /// A client reads one text: it must be the hub's message, and an allowed one.
    pub(super) fn hear(&mut self, index: usize, text: &str) -> Verdict {
        let client = self.pipes[index].client;
        self.pipes[index].heard_ms = self.now_ms;
        self.pipes[index].heard_count += 1;
        let said = self.pipes[index].said.pop_front().ok_or("wire: a text that nobody said")?;
        let read = wire::read_messages(text)?;
        if !wire::agree(&read, &said) {
            return Err(format!("wire: {said:?} was read as {read:?}"));
        }
        self.trace.note(self.now_ms, || format!("client {client} receives on pipe {index}: {text}"));
        match self.pipes[index].apart {
            Some(_) => self.hear_apart(index, said, text)?,
            None => self.deliver(index, &said, text)?,
        }
        match self.pipes[index].stream {
            Some(_) => self.core_streamed(index, text),
            None => Ok(()),
        }
    }

    /// A client looks at a message. `text`: as it came by the connection; empty for an answer that came by a send.
    pub(super) fn deliver(&mut self, index: usize, said: &ToClient, text: &str) -> Verdict {
        let client = self.pipes[index].client;
        let now = self.now();
        self.checker.got(now, index, said, &self.stores.borrow(), &self.policy)?;
        if client >= self.clients.len() {
            if let ToClient::Reply(Reply { body: ReplyBody::Connected(connected), .. }) = said {
                self.cores[client - self.plan.clients].known_as(connected.client);
                self.core_connected(index, connected);
            }
            return match self.pipes[index].apart {
                // Its core gets the bytes as they come.
                Some(_) => Ok(()),
                None => self.core(client, CoreInput::Text(text)),
            };
        }
        let answer = self.clients[client].got(self.now_ms, said);
        if let ToClient::Reply(Reply { body: ReplyBody::Connected(connected), .. }) = said {
            if let Some(sealed) = wire::read_messages(text)?.first().and_then(wire::ticket_in) {
                self.clients[client].sealed = Some(sealed);
            }
            self.sends_go_on(index, connected.client);
        }
        if self.pipes[index].polling.is_some() && Self::is_last(said) {
            return self.client_closed(index, false, None);
        }
        match answer {
            Some(answer) => self.send(index, answer),
            None => Ok(()),
        }
    }

    pub(super) fn server_closes(&mut self, shard: usize, conn: ConnId, reason: Disconnect) -> Verdict {
        let Some(index) = self.pipe_of(shard, conn) else { return Ok(()) };
        self.trace.note(self.now_ms, || format!("shard {shard} closes pipe {index}: {reason}"));
        // It may go to one that has ended since it asked, also where a later one is open and asks.
        if reason != Disconnect::Moved || !self.is_fetched(index) || self.is_fetched_for_nobody(index) {
            self.over(index);
        } else {
            self.strictly_unheard(index);
        }
        self.closes(index, reason)?;
        match reason {
            Disconnect::Moved => {
                self.counts.moved += 1;
                let client = self.pipes[index].client;
                let now_on = match self.clients.get(client) {
                    Some(client) => client.pipe,
                    None => self.cores[client - self.plan.clients].pipe,
                };
                // The `connect` of a client that polls may still be on its way when the client has begun anew.
                let is_ghost = |pipe: &Pipe| pipe.client == client && pipe.polling.is_some() && pipe.server_open;
                if now_on == Some(index) && !self.pipes.iter().any(is_ghost) {
                    return Err(format!("ticket: client {client} is pushed out of pipe {index}"));
                }
            }
            Disconnect::Slow => self.counts.slow += 1,
            Disconnect::HeartbeatTimeout => self.counts.timeouts += 1,
            Disconnect::Expired => self.counts.hook_expired += 1,
            _ => {}
        }
        // Sends the reason, writes the waiting bytes, and closes: the farewell comes after everything else.
        if self.pipes[index].reader.is_some() {
            return self.reader_farewell(index, reason);
        }
        let farewell = Rc::new(ToClient::Push(Push::Disconnect { reason, delay_ms: 0 }));
        self.stream_closes(index);
        let (wall_ms, limits) = (self.wall_ms, &self.plan.limits);
        let frame = match &self.pipes[index] {
            Pipe { polling: Some(_), .. } => wire::encode_entry(&farewell, shard, wall_ms, limits),
            Pipe { stream: Some(stream), .. } => wire::encode_streamed(&farewell, stream.form, shard, wall_ms, limits),
            Pipe { engine: Some(_), .. } => wire::encode_packet(&farewell, shard, wall_ms, limits),
            _ => wire::encode(&farewell, shard, wall_ms, limits),
        };
        if self.pipes[index].chat.is_some() {
            self.chat_farewell(index, farewell);
        } else {
            let pipe = &mut self.pipes[index];
            pipe.said.push_back(farewell);
            pipe.said_count += 1;
            pipe.outbox.push(frame, usize::MAX);
        }
        let pipe = &mut self.pipes[index];
        if pipe.polling.is_some() {
            pipe.server_open = false;
            self.polled_closes(index);
            return Ok(());
        }
        if pipe.stream.is_none() && pipe.engine.is_none() {
            pipe.outbox.push(wire::encode_close(reason), usize::MAX);
        }
        self.has_written_its_end(index);
        Ok(())
    }

    /// The server has written all that it writes. The client sees the end behind the last bytes.
    pub(super) fn has_written_its_end(&mut self, index: usize) {
        self.pipes[index].server_open = false;
        self.flush_later(index);
        let pipe = &self.pipes[index];
        if !pipe.half_open && !pipe.stalled {
            let at_ms = pipe.down_last_ms.max(self.now_ms) + 200;
            self.at(at_ms, Event::ClientCloses { pipe: index });
        }
    }

    /// On a healthy connection no client waits longer for a message than the time between two pings.
    pub(super) fn hears_enough(&self, index: usize) -> Verdict {
        /// The delay that the network and a busy shard may cause.
        const SLACK_MS: u64 = 1_500;
        let pipe = &self.pipes[index];
        let since_ms = pipe.heard_ms.max(self.calm_ms);
        let silence_ms = self.now_ms.saturating_sub(since_ms);
        // A client that polls finds out by itself that an answer is lost.
        let slack_ms = if pipe.polling.is_some() { 4 * SLACK_MS } else { SLACK_MS };
        let healthy = self.calm && pipe.server_open && pipe.client_open && !pipe.half_open && !pipe.stalled;
        if healthy && silence_ms > self.plan.limits.heartbeat_ms + slack_ms {
            return Err(format!("heartbeat: client {} heard nothing on pipe {index} for {silence_ms} ms", pipe.client));
        }
        Ok(())
    }

    pub(super) fn client_closed(&mut self, index: usize, finally: bool, code: Option<u16>) -> Verdict {
        let pipe = &mut self.pipes[index];
        if !std::mem::take(&mut pipe.client_open) {
            return Ok(());
        }
        let client = pipe.client;
        self.trace.note(self.now_ms, || format!("client {client} is done with pipe {index}"));
        self.checker.closed(index, finally);
        self.checker.leaves(index, self.stores.borrow().ledger.order);
        if let Some(chat) = self.chat_of(client) {
            if self.chats[chat].pipe == Some(index) {
                self.chats[chat].closed(self.now_ms, &mut self.client_rngs[client]);
            }
        } else if let Some(reader) = self.reader_of(client) {
            self.reader_leaves(client, reader, index);
        } else if client >= self.clients.len() {
            if self.cores[client - self.plan.clients].pipe == Some(index) {
                self.cores[client - self.plan.clients].pipe = None;
                return self.core_hears_end(client, index, code);
            }
        } else if self.clients[client].pipe == Some(index) {
            self.clients[client].closed(self.now_ms, &mut self.client_rngs[client]);
        }
        Ok(())
    }

    /// Both ends learn that the connection has ended, each at its own time.
    pub(super) fn cut(&mut self, pipe: usize, finally: bool) -> Verdict {
        // A server does not learn that a client polls no more.
        if self.pipes[pipe].polling.is_some() {
            if self.pipes[pipe].client < self.clients.len() {
                return self.client_closed(pipe, false, None);
            }
            self.core_cut_off(self.pipes[pipe].client);
            return Ok(());
        }
        self.server_hears_end(pipe, finally);
        self.client_closed(pipe, finally, None)
    }

    pub(super) fn server_hears_end(&mut self, pipe: usize, finally: bool) {
        if !self.pipes[pipe].half_open && self.pipes[pipe].polling.is_none() {
            let rng = &mut self.pipes[pipe].rng;
            let late_max_ms = if rng.below(4) == 0 { 1_500 } else { 30 };
            let late = rng.below(late_max_ms);
            self.after(late, Event::ServerCloses { pipe, finally });
        }
    }

    pub(super) fn mend(&mut self, index: usize) -> Verdict {
        if !std::mem::take(&mut self.pipes[index].stalled) {
            return Ok(());
        }
        for bytes in std::mem::take(&mut self.pipes[index].waiting) {
            self.down(index, bytes)?;
        }
        if !self.pipes[index].server_open && self.pipes[index].polling.is_none() {
            self.after(20, Event::ClientCloses { pipe: index });
        }
        Ok(())
    }
}
