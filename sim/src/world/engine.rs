//! Clients that begin by requests and go on over a WebSocket, and the server's end of their connections: what the shell
//! does for Engine.IO, at any moment, also in the middle of fan-outs.
//!
//! What waited for the next GET is written to the WebSocket, in order, and a POST that is under way is taken in before
//! what the WebSocket brings. A WebSocket that is closed, cut or turned away costs the session nothing. The judge
//! checks that each push is for the wire that its connection has, and that messages arrive as they were said.

use super::{Event, Verdict, World};
use crate::client::Transport;
use crate::engine::{Engine, EngineStep, GIVES_UP_MS, Way};
use crate::wire;
use fanfare_hub::{Appended, HeartbeatKind, Input};
use fanfare_wire::engineio::{Probe, ProbeStep, Release};

/// The probe, the word that ends an upgrade, and one that spoils it.
const PROBE: &str = "2probe";
const UPGRADE: &str = "5";
const EARLY: &str = "4";
/// A GET that is let go later, as in the server.
const RELEASE_MS: u64 = 100;

impl World {
    /// True if this client's next connection begins by requests.
    pub(super) fn begins_by_requests(&mut self, client: usize) -> bool {
        let percent = self.plan.engine;
        percent > 0 && client < self.clients.len() && {
            let rng = self.engine_rngs.entry(client).or_insert_with(|| self.chances.of("engine", client as u64));
            rng.below(100) < percent
        }
    }

    pub(super) fn open_engine(&mut self, client: usize, shard: usize) -> Verdict {
        let pipe = self.new_pipe(client, shard);
        self.checker.opened(pipe, shard);
        self.checker.is_of(pipe, client);
        self.pipes[pipe].engine = Some(Box::default());
        self.bind(pipe, HeartbeatKind::WaitsDetached)?;
        self.counts.engine_begun += 1;
        self.clients[client].transport = Transport::Socket;
        self.meets(client, pipe, shard);
        let request = self.clients[client].connect(&mut self.client_rngs[client], &self.plan, self.calm);
        self.send(pipe, request)?;
        let tries_ms = self.pipes[pipe].rng.below(1_500);
        self.step_later(pipe, tries_ms, EngineStep::Tries);
        self.get(pipe);
        Ok(())
    }

    fn engine(&mut self, pipe: usize) -> &mut Engine {
        self.pipes[pipe].engine.get_or_insert_default()
    }

    fn step_later(&mut self, pipe: usize, later_ms: u64, step: EngineStep) {
        self.after(later_ms, Event::Engine { pipe, step });
    }

    /// A request or an answer is on its way.
    fn travels(&mut self, pipe: usize, step: EngineStep) {
        let late_ms = 1 + self.pipes[pipe].rng.below(12);
        self.step_later(pipe, late_ms, step);
    }

    pub(super) fn engine_step(&mut self, pipe: usize, step: EngineStep) -> Verdict {
        let of = &self.pipes[pipe];
        if of.engine.is_none() || of.half_open {
            return Ok(()); // it has a WebSocket, or nothing arrives
        }
        let (client, at_shard) = (of.client, step.is_at_shard());
        if !at_shard && !of.client_open || at_shard && !of.server_open && !matches!(step, EngineStep::Get) {
            return Ok(());
        }
        if !at_shard && (of.stalled || self.frozen_until_ms[client] > self.now_ms) {
            self.step_later(pipe, 40, step);
            return Ok(());
        }
        match step {
            EngineStep::Get => {
                self.engine(pipe).get_waits = true;
                if let Some(release) = self.engine(pipe).upgrade.release() {
                    self.releases(pipe, release);
                }
                self.engine_woken(pipe)
            }
            EngineStep::Post(body) => {
                self.engine(pipe).post_waits = true;
                self.pipes[pipe].take_post(self.now_ms, &body)?;
                self.read(pipe)
            }
            EngineStep::Release => {
                self.lets_go(pipe);
                Ok(())
            }
            // The shard stood still when the POST came, and goes on earlier than was said: the faults have ended.
            EngineStep::Says { text: UPGRADE, .. } if self.engine(pipe).post_comes_ms > self.now_ms => {
                let at_ms = self.engine(pipe).post_comes_ms + 1;
                self.at(at_ms, Event::Engine { pipe, step });
                Ok(())
            }
            EngineStep::Says { socket, text } => self.socket_says(pipe, socket, text),
            EngineStep::Cut { socket } => {
                let engine = self.engine(pipe);
                if engine.socket == socket && !engine.is_upgraded {
                    engine.upgrade.fail();
                    engine.socket = 0;
                    self.counts.upgrades_failed += 1;
                }
                Ok(())
            }
            // A full connection is not read, and the client takes nothing any more: it comes back.
            EngineStep::Late => self.cut(pipe, false),
            EngineStep::Got => {
                self.engine(pipe).is_getting = false;
                self.goes_on(pipe)
            }
            EngineStep::Posted => {
                self.engine(pipe).is_posting = false;
                self.posts_next(pipe);
                self.goes_on(pipe)
            }
            EngineStep::Tries => {
                self.tries(pipe);
                Ok(())
            }
            EngineStep::Probed { socket } => {
                let gives_up = !self.calm && self.pipes[pipe].rng.below(6) == 0;
                let engine = self.engine(pipe);
                if engine.way != Way::Probes(socket) {
                    return Ok(());
                }
                engine.way = Way::Ends(socket);
                if gives_up || engine.is_doomed {
                    self.travels(pipe, EngineStep::Cut { socket });
                    return self.fails(pipe, socket);
                }
                self.goes_on(pipe)
            }
            EngineStep::Fails { socket } => self.fails(pipe, socket),
        }
    }

    /// The client sends a GET, unless one is under way or it ends them.
    fn get(&mut self, pipe: usize) {
        let engine = self.engine(pipe);
        if matches!(engine.way, Way::Polls | Way::Probes(_)) && !std::mem::replace(&mut engine.is_getting, true) {
            self.counts.engine_gets += 1;
            self.travels(pipe, EngineStep::Get);
        }
    }

    /// The client says something: by a POST behind the one that is under way. `false`: it has a WebSocket for that.
    pub(super) fn posts(&mut self, pipe: usize, text: &str) -> bool {
        match &mut self.pipes[pipe].engine {
            Some(engine) if engine.way != Way::Moved => {
                engine.to_post.push(text.to_owned());
                self.posts_next(pipe);
                true
            }
            _ => false,
        }
    }

    fn posts_next(&mut self, pipe: usize) {
        let engine = self.engine(pipe);
        if engine.to_post.is_empty() || engine.way == Way::Moved || std::mem::replace(&mut engine.is_posting, true) {
            return;
        }
        let body = wire::write_post(&std::mem::take(&mut engine.to_post));
        self.counts.engine_posts += 1;
        let late_ms = 1 + self.pipes[pipe].rng.below(12);
        self.engine(pipe).post_comes_ms = self.now_ms + late_ms;
        self.step_later(pipe, late_ms, EngineStep::Post(body));
    }

    /// The POST that is under way is taken in at this time.
    pub(super) fn post_comes(&mut self, pipe: usize, at_ms: u64) {
        self.pipes[pipe].engine.iter_mut().for_each(|engine| engine.post_comes_ms = at_ms);
    }

    /// The client opens a WebSocket for its session, and sends its probe or something else.
    fn tries(&mut self, pipe: usize) {
        let engine = self.engine(pipe);
        if engine.way != Way::Polls {
            return;
        }
        engine.sockets += 1;
        let socket = engine.sockets;
        engine.way = Way::Probes(socket);
        let rng = &mut self.pipes[pipe].rng;
        let (is_hasty, fate) = (rng.below(2) == 0, if self.calm { 9 } else { rng.below(10) });
        let engine = self.engine(pipe);
        (engine.is_hasty, engine.is_doomed) = (is_hasty, fate == 2);
        self.trace.note(self.now_ms, || format!("pipe {pipe}: WebSocket {socket} comes, its fate is {fate}"));
        match fate {
            0 => self.travels(pipe, EngineStep::Says { socket, text: EARLY }),
            1 => {
                self.travels(pipe, EngineStep::Says { socket: socket | SECOND, text: PROBE });
                self.step_later(pipe, GIVES_UP_MS / 2, EngineStep::Cut { socket: socket | SECOND });
            }
            _ => {}
        }
        self.travels(pipe, EngineStep::Says { socket, text: PROBE });
        if fate == 2 {
            let later_ms = 1 + self.pipes[pipe].rng.below(40);
            self.step_later(pipe, later_ms, EngineStep::Cut { socket });
        }
        self.step_later(pipe, GIVES_UP_MS, EngineStep::Fails { socket });
    }

    /// The WebSocket of the client has failed, or has taken too long.
    fn fails(&mut self, pipe: usize, socket: u64) -> Verdict {
        let engine = self.engine(pipe);
        if ![Way::Probes(socket), Way::Ends(socket)].contains(&engine.way) {
            return Ok(());
        }
        engine.way = Way::Polls;
        self.travels(pipe, EngineStep::Cut { socket });
        let later_ms = 50 + self.pipes[pipe].rng.below(1_500);
        self.step_later(pipe, later_ms, EngineStep::Tries);
        self.get(pipe);
        Ok(())
    }

    /// The client goes on: with its next GET, or with its WebSocket if its requests have ended.
    fn goes_on(&mut self, pipe: usize) -> Verdict {
        let engine = self.engine(pipe);
        let Way::Ends(socket) = engine.way else {
            self.get(pipe);
            return Ok(());
        };
        if engine.is_getting || engine.is_posting && !engine.is_hasty {
            return Ok(());
        }
        engine.way = Way::Moved;
        let (waiting, is_before) = (std::mem::take(&mut engine.to_post), engine.is_posting);
        // A POST that comes behind the `5` is refused, and lost: no client goes on before its POST has come.
        let behind_ms = engine.post_comes_ms + 1;
        self.counts.upgrades_before_post += u64::from(is_before);
        let of = &mut self.pipes[pipe];
        of.up_last_ms = of.up_last_ms.max(self.now_ms + 1 + of.rng.below(12)).max(behind_ms);
        let at_ms = of.up_last_ms;
        self.at(at_ms, Event::Engine { pipe, step: EngineStep::Says { socket, text: UPGRADE } });
        waiting.iter().try_for_each(|text| self.carry_up(pipe, text))
    }

    /// A WebSocket says something to the server.
    fn socket_says(&mut self, pipe: usize, socket: u64, text: &str) -> Verdict {
        let engine = self.engine(pipe);
        if engine.is_upgraded || engine.socket != socket && !engine.upgrade.begin() {
            self.counts.upgrades_turned_away += 1;
            self.travels(pipe, EngineStep::Fails { socket });
            return Ok(());
        }
        if engine.socket != socket {
            (engine.socket, engine.probe) = (socket, Probe::default());
        }
        match engine.probe.text(text) {
            ProbeStep::Answer => {
                let is_new = engine.upgrade.probed();
                self.travels(pipe, EngineStep::Probed { socket });
                if is_new
                    && self.engine(pipe).get_waits
                    && let Some(release) = self.engine(pipe).upgrade.release()
                {
                    self.releases(pipe, release);
                }
                Ok(())
            }
            ProbeStep::Upgrade => {
                engine.is_upgraded = true;
                self.step_later(pipe, GIVES_UP_MS, EngineStep::Late);
                self.attach(pipe)
            }
            ProbeStep::Refuse(_) => {
                engine.upgrade.fail();
                engine.socket = 0;
                self.counts.upgrades_failed += 1;
                self.travels(pipe, EngineStep::Fails { socket });
                Ok(())
            }
        }
    }

    fn releases(&mut self, pipe: usize, release: Release) {
        match release {
            Release::Now => self.lets_go(pipe),
            Release::Later => self.step_later(pipe, RELEASE_MS, EngineStep::Release),
        }
    }

    /// A GET that waits is answered by nothing.
    fn lets_go(&mut self, pipe: usize) {
        if std::mem::take(&mut self.engine(pipe).get_waits) {
            self.travels(pipe, EngineStep::Got);
        }
    }

    /// The GET that waits has packets to take. They are gone from the server.
    pub(super) fn engine_woken(&mut self, pipe: usize) -> Verdict {
        let (answer_max, outbox_max) = (self.plan.limits.page_bytes_max, self.plan.limits.outbox_bytes_max);
        if !self.engine(pipe).get_waits || self.pipes[pipe].outbox.is_empty() {
            return Ok(());
        }
        self.engine(pipe).get_waits = false;
        let of = &mut self.pipes[pipe];
        let packets = of.front(answer_max);
        let drained = of.outbox.advance(packets.len(), outbox_max);
        let frames = wire::reframed(&packets)?;
        of.in_flight += frames.len();
        of.down_last_ms = of.down_last_ms.max(self.now_ms + 1 + of.rng.below(12));
        let (at_ms, open) = (of.down_last_ms, of.server_open);
        self.at(at_ms, Event::Down { pipe, bytes: frames });
        self.at(at_ms, Event::Engine { pipe, step: EngineStep::Got });
        if open && self.pipes[pipe].held {
            self.pipes[pipe].alive_ms = self.now_ms;
            let (shard, conn) = (self.pipes[pipe].shard, self.pipes[pipe].conn);
            self.handle(shard, Input::Alive(conn))?;
        }
        if open && drained { self.has_drained(pipe) } else { Ok(()) }
    }

    /// The server has read what it may: a POST may be taken in.
    pub(super) fn engine_has_read(&mut self, pipe: usize) -> Verdict {
        let Some(engine) = &mut self.pipes[pipe].engine else { return Ok(()) };
        if !engine.post_waits || !self.pipes[pipe].has_read() {
            return Ok(());
        }
        self.engine(pipe).post_waits = false;
        self.travels(pipe, EngineStep::Posted);
        self.attach(pipe)
    }

    /// The connection goes on over the WebSocket that has said so, as soon as no POST is being taken in.
    fn attach(&mut self, pipe: usize) -> Verdict {
        let is_ready = |engine: &Engine| engine.is_upgraded && !engine.post_waits;
        if !self.pipes[pipe].engine.as_deref().is_some_and(is_ready) || !self.pipes[pipe].server_open {
            return Ok(());
        }
        let Some(engine) = self.pipes[pipe].engine.take() else { return Ok(()) };
        let outbox_max = self.plan.limits.outbox_bytes_max;
        let of = &mut self.pipes[pipe];
        let held = std::mem::take(&mut of.outbox);
        let mut becomes_full = false;
        for packets in held.frames() {
            becomes_full |= of.outbox.push(wire::reframed(packets)?, outbox_max) == Appended::Full;
        }
        of.watch.rewired();
        let (shard, conn, wire) = (of.shard, of.conn, of.wire());
        self.counts.upgraded += 1;
        self.counts.upgraded_again += u64::from(engine.sockets > 1);
        self.counts.upgraded_with_packets += u64::from(!held.is_empty());
        self.counts.upgraded_in_fan_out += u64::from(self.shards[shard].continuing);
        self.trace.note(self.now_ms, || format!("pipe {pipe} goes on over a WebSocket; {} bytes wait", held.bytes()));
        self.handle(shard, Input::Rewired { conn, wire })?;
        match (held.is_full(), becomes_full) {
            (false, true) => self.handle(shard, Input::Full(conn))?,
            (true, false) => self.has_drained(pipe)?,
            _ => {}
        }
        for (at_ms, piece) in engine.early {
            self.pipes[pipe].up.push_back((at_ms, piece));
            self.at(at_ms.max(self.now_ms), Event::Up { pipe });
        }
        self.flush_later(pipe);
        Ok(())
    }
}

/// The number of a WebSocket that comes at the same time.
const SECOND: u64 = 1 << 32;
