//! The actions of clients: of the simulation's own, and of the real client core under an application.

use super::{Event, Verdict, World};
use crate::client::Act;
use fanfare_client::core::{Input as CoreInput, Output as CoreOutput, State as CoreState};
use fanfare_hub::RequestId;

impl World {
    pub(super) fn tick(&mut self, client: usize) -> Verdict {
        let pace = self.plan.pace_ms;
        let next = 1 + self.client_rngs[client].below(if self.calm { 400 } else { 2 * pace });
        if self.leaving {
            return Ok(());
        }
        self.after(next, Event::Tick { client });
        if self.frozen_until_ms[client] > self.now_ms {
            return Ok(());
        }
        if let Some(chat) = self.chat_of(client) {
            return self.tick_chat(client, chat);
        }
        if let Some(reader) = self.reader_of(client) {
            return self.tick_reader(client, reader);
        }
        if client >= self.clients.len() {
            return self.tick_core(client);
        }
        let now_ms = self.now_ms;
        let Some(pipe) = self.clients[client].pipe else {
            if now_ms >= self.clients[client].retry_ms {
                let shard = self.any_shard(client);
                return self.open(client, shard);
            }
            return Ok(());
        };
        self.hears_enough(pipe)?;
        if self.pipes[pipe].polling.is_some() {
            self.keep_polling(pipe)?;
        }
        if self.pipes[pipe].apart.is_some() {
            self.send_out(pipe)?;
        }
        let silence_max_ms = 2 * self.plan.limits.heartbeat_ms + 500;
        let mut acts = vec![self.clients[client].upkeep(now_ms, silence_max_ms, &self.plan)];
        let apart = self.pipes[pipe].apart.as_ref();
        let has_room = apart.is_none_or(|apart| apart.has_room());
        let is_apart = apart.is_some();
        if matches!(acts[0], Act::Nothing) && !self.calm && self.clients[client].online && has_room {
            // Now and then one client sends a lot.
            let (rng, numbers) = (&mut self.client_rngs[client], &mut self.numbers[client]);
            let many = if rng.below(40) == 0 { rng.below(20) } else { 1 };
            let actor = &mut self.clients[client];
            acts.extend((0..many).map(|_| actor.act(rng, &self.plan, numbers)));
            if rng.below(30) == 0 {
                acts.extend(actor.signals_in_a_row(rng, numbers).into_iter().map(Act::Send));
            }
            if !is_apart && self.plan.rooms {
                let many = if rng.below(10) == 0 { rng.below(8) } else { 1 };
                acts.extend((0..many).map(|_| actor.in_rooms(rng, &self.plan, numbers)));
            }
            if !is_apart && self.plan.rude && rng.below(12) == 0 {
                acts.push(actor.rude(rng, &self.plan));
            }
            if self.plan.hooks.hooks.rpc && rng.below(12) == 0 {
                acts.push(actor.call(rng, numbers));
            }
            if !is_apart && self.plan.hooks.hooks.connect && rng.below(20) == 0 {
                acts.push(actor.refresh(rng, &self.plan));
            }
        }
        for act in acts {
            match act {
                Act::Text(text, code) => self.send_bad(pipe, &text, code)?,
                Act::Send(_) if self.clients[client].pipe != Some(pipe) => return Ok(()),
                Act::Send(request) => self.send(pipe, request)?,
                Act::Close { finally } => {
                    return self.cut(pipe, finally);
                }
                Act::Nothing => {}
            }
        }
        Ok(())
    }

    /// One client publishes more than a narrow link takes at once, and sends a signal behind it.
    pub(super) fn last_signal(&mut self) -> Verdict {
        const BURST: usize = 6;
        let Some(client) = self.clients.iter().position(|client| client.online) else { return Ok(()) };
        let (Some(pipe), Some(channel)) = (self.clients[client].pipe, self.plan.channels.first().cloned()) else {
            return Ok(());
        };
        for _ in 0..BURST {
            let request =
                self.clients[client].last_publish(&channel, &mut self.client_rngs[client], &mut self.numbers[client]);
            self.send(pipe, request)?;
        }
        self.signals_shed = self.shed_signals();
        // Many clients send two of one event: the first may be lost behind the second, and the second is never lost. As
        // many as a link has room for, while the shard behind it catches up.
        const ROOM: usize = 300;
        let limits = &self.plan.limits;
        let senders = (limits.link_bytes_max / ROOM).clamp(1, limits.signals_waiting_max);
        for client in (client..self.clients.len()).chain(0..client).take(senders) {
            let Some(pipe) = self.clients[client].pipe.filter(|_| self.clients[client].online) else { continue };
            for is_last in [false, true] {
                let (rng, numbers) = (&mut self.client_rngs[client], &mut self.numbers[client]);
                let (request, data) = self.clients[client].last_signal(&channel, rng, numbers);
                if let (true, Some(RequestId::Number(id))) = (is_last, &request.id) {
                    self.checker.sends_last_signal((pipe, *id), &channel, &data);
                }
                self.send(pipe, request)?;
            }
        }
        Ok(())
    }

    /// Signals that found no room behind fan-outs, on all shards.
    pub(super) fn shed_signals(&self) -> u64 {
        self.shards.iter().map(|core| core.shard.stats().signals_shed).sum()
    }

    /// Epochs that were lost without a notice are found by the next operation: there is one on every channel.
    pub(super) fn last_publish(&mut self) -> Verdict {
        if self.stores.borrow().losses == 0 && self.chances.of("last publish", 0).below(2) == 0 {
            return Ok(());
        }
        let Some(client) = self.clients.iter().position(|client| client.online) else { return Ok(()) };
        let Some(pipe) = self.clients[client].pipe else { return Ok(()) };
        for channel in self.plan.channels.clone() {
            let request =
                self.clients[client].last_publish(&channel, &mut self.client_rngs[client], &mut self.numbers[client]);
            self.send(pipe, request)?;
        }
        if self.plan.app { self.last_app_publish() } else { Ok(()) }
    }

    pub(super) fn last_question(&mut self) -> Verdict {
        self.chats_have_left();
        self.checker.expect_presences(&self.plan.channels)?;
        if self.plan.app {
            self.last_app_questions()?;
        }
        for client in 0..self.clients.len() {
            let Some(pipe) = self.clients[client].pipe.filter(|_| self.clients[client].online) else { continue };
            for channel in self.checker.subscribed(pipe) {
                let request = self.clients[client].ask_presence(&channel);
                self.send(pipe, request)?;
            }
        }
        Ok(())
    }
}

/// The actions of the real client core.
impl World {
    pub(super) fn tick_core(&mut self, client: usize) -> Verdict {
        let index = client - self.plan.clients;
        if !self.cores[index].is_started {
            self.cores[index].is_started = true;
            return self.core(client, CoreInput::Start);
        }
        if let Some(pipe) = self.cores[index].pipe {
            self.hears_enough(pipe)?;
        }
        if !self.calm {
            let (rng, numbers) = (&mut self.client_rngs[client], &mut self.numbers[client]);
            if self.plan.hooks.hooks.rpc && rng.below(20) == 0 {
                self.cores[index].ask_method(self.now_ms, numbers, rng);
            }
            self.cores[index].act(self.now_ms, rng, &self.plan, numbers);
        }
        self.core_outputs(client)
    }

    pub(super) fn core(&mut self, client: usize, input: CoreInput<'_>) -> Verdict {
        self.cores[client - self.plan.clients].core.handle(self.now_ms, input);
        self.core_outputs(client)
    }

    /// The core asked its application for a token; now and then the application has none.
    pub(super) fn core_token(&mut self, client: usize) -> Verdict {
        let token = self.cores[client - self.plan.clients].token.clone();
        let token = token.filter(|_| self.calm || self.client_rngs[client].below(6) > 0);
        self.core(client, CoreInput::Token(token))
    }

    pub(super) fn core_outputs(&mut self, client: usize) -> Verdict {
        let index = client - self.plan.clients;
        while let Some(output) = self.cores[index].core.poll_output() {
            let pipe = self.cores[index].pipe;
            match (output, pipe) {
                (CoreOutput::Connect, _) if self.leaving => {}
                (CoreOutput::Connect, _) => {
                    self.core_leaves(client)?;
                    if !self.is_websocket_blocked(client) {
                        let shard = self.any_shard(client);
                        self.open(client, shard)?;
                    }
                }
                (CoreOutput::Http(request), _) => self.core_asks(client, request)?,
                (CoreOutput::Abort(exchange), _) => self.core_aborts(client, exchange)?,
                (CoreOutput::Token, _) => {
                    let late = self.client_rngs[client].below(300);
                    self.after(late, Event::CoreToken { client });
                }
                (CoreOutput::Send(text), Some(pipe)) => self.send_text(pipe, &text)?,
                (CoreOutput::Close(code), Some(pipe)) => {
                    self.trace.note(self.now_ms, || format!("client {client} leaves pipe {pipe} with {code}"));
                    self.cores[index].pipe = None;
                    self.server_hears_end(pipe, false);
                    self.client_closed(pipe, false, None)?;
                }
                (CoreOutput::Send(_) | CoreOutput::Close(_), None) => {}
                (output, _) => {
                    if matches!(output, CoreOutput::State(CoreState::Ended(_) | CoreState::Waiting { .. })) {
                        self.core_leaves(client)?;
                    }
                    // A client that was disconnected for good begins anew: the application wants it to continue.
                    if matches!(output, CoreOutput::State(CoreState::Ended(_))) {
                        self.cores[index].is_started = false;
                    }
                    self.trace.note(self.now_ms, || format!("client {client} tells its application {output:?}"));
                    self.cores[index].told(output, &self.stores.borrow())?;
                }
            }
        }
        if let Some(at_ms) = self.cores[index].core.wake_ms() {
            let at_ms = at_ms.max(self.now_ms + 1);
            if self.cores[index].wake_ms.is_none_or(|set| at_ms < set || set <= self.now_ms) {
                self.cores[index].wake_ms = Some(at_ms);
                self.at(at_ms, Event::CoreWake { client });
            }
        }
        Ok(())
    }
}
