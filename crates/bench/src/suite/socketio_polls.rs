//! Polls of Socket.IO: each client posts an event, and then gets it back, over one kept-alive connection.
//!
//! Each client has a room of its own, with the events that Fanfare has built in, so each POST causes one GET with an
//! event, which finds it there already or waits for it. The measured values are requests per second, POSTs and GETs
//! alike, and the server's CPU time for one. Each event is compared with the posted one.

use std::time::{Duration, Instant};

use memchr::memmem;

use super::{RoundError, Sample, Settings};
use crate::load::dialect::Dialect;
use crate::load::http::{self, Form};
use crate::load::{Handler, Load, LoadError, Outgoing, check, socketio};
use crate::peers::{Role, ServerKind};
use crate::report::Metric;
use crate::server::Server;

const WARM_UP: Duration = Duration::from_millis(300);

pub(super) fn round(kind: ServerKind, server: &Server, settings: &Settings) -> Result<Vec<Sample>, RoundError> {
    let mut load = Load::new(server.addr, kind.dialect(Role::Rooms), settings.wait)?;
    let mut callers = Callers { addr: server.addr, clients: Vec::new(), next: 0, requests: 0, going_on: true };
    for _ in 0..settings.echo_connections {
        load.open_request(Form::Answers, http::get(server.addr, socketio::POLLING, ""))?;
        callers.clients.push(Client::default());
    }
    let warm_up = Instant::now();
    while warm_up.elapsed() < WARM_UP || callers.clients.iter().any(|client| client.events == 0) {
        load.turn(&mut callers)?;
    }
    let (cpu, requests, started) = (server.cpu_now()?, callers.requests, Instant::now());
    while started.elapsed() < settings.phase {
        load.turn(&mut callers)?;
    }
    callers.going_on = false;
    load.drive(&mut callers)?;
    let took = started.elapsed();
    let requests = (callers.requests - requests) as f64;
    let cpu = server.cpu()?.saturating_sub(cpu);
    Ok(vec![
        Sample { metric: Metric::SocketPollRate, value: requests / took.as_secs_f64() },
        Sample { metric: Metric::SocketPollCpu, value: cpu.as_secs_f64() * 1e6 / requests },
    ])
}

struct Callers {
    addr: std::net::SocketAddr,
    clients: Vec<Client>,
    /// The number of the next event.
    next: u64,
    /// That were answered.
    requests: u64,
    going_on: bool,
}

#[derive(Debug, Default)]
struct Client {
    step: Step,
    /// Where its requests go.
    target: String,
    /// What it has posted.
    content: String,
    /// That came back.
    events: u64,
    /// The server has sent a ping, which the next POST answers.
    is_pinged: bool,
}

/// The request that is under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Handshake,
    PostsConnect,
    GetsConnected,
    PostsEvent,
    GetsEvent,
    Done,
}

impl Client {
    fn get(&mut self, step: Step, addr: std::net::SocketAddr, out: &mut Outgoing) {
        self.step = step;
        out.raw(&http::get(addr, &self.target, ""));
    }

    fn post(&mut self, step: Step, body: &str, addr: std::net::SocketAddr, out: &mut Outgoing) {
        self.step = step;
        let pong = if std::mem::take(&mut self.is_pinged) { "3\u{1e}" } else { "" };
        let body = format!("{pong}{body}");
        out.raw(&http::post_text(addr, &self.target, &body));
    }
}

impl Callers {
    fn call(&mut self, conn: usize, with_join: bool, out: &mut Outgoing) {
        let client = &mut self.clients[conn];
        client.content = check::content(self.next);
        self.next += 1;
        let mut body = String::new();
        if with_join {
            Dialect::Rooms.join("", &format!("room-{conn}"), &mut body);
            body.push('\u{1e}');
        }
        Dialect::Rooms.message("", "", 0, &client.content, &mut body);
        client.post(Step::PostsEvent, &body, self.addr, out);
    }
}

impl Handler for Callers {
    fn on_ready(&mut self, _conn: usize, _out: &mut Outgoing) -> Result<(), LoadError> {
        Ok(())
    }

    fn on_message(&mut self, conn: usize, body: &[u8], out: &mut Outgoing) -> Result<(), LoadError> {
        self.requests += 1;
        let addr = self.addr;
        let client = &mut self.clients[conn];
        client.is_pinged |= body.split(|&byte| byte == 0x1e).any(|packet| packet == b"2");
        match client.step {
            Step::Handshake => {
                let sid = socketio::sid(body).ok_or_else(|| LoadError::unexpected(conn, body))?;
                client.target = format!("{}&sid={sid}", socketio::POLLING);
                client.post(Step::PostsConnect, "40", addr, out);
            }
            Step::PostsConnect if body == b"ok" => client.get(Step::GetsConnected, addr, out),
            Step::GetsConnected if body.starts_with(b"40{") => self.call(conn, true, out),
            Step::PostsEvent if body == b"ok" => client.get(Step::GetsEvent, addr, out),
            Step::GetsEvent if memmem::find(body, client.content.as_bytes()).is_some() => {
                client.events += 1;
                match self.going_on {
                    true => self.call(conn, false, out),
                    false => client.step = Step::Done,
                }
            }
            // A ping alone.
            Step::GetsConnected | Step::GetsEvent if body == b"2" => client.get(client.step, addr, out),
            _ => return Err(LoadError::unexpected(conn, body)),
        }
        Ok(())
    }

    fn owed(&self) -> (u64, &'static str) {
        let under_way = self.clients.iter().filter(|client| client.step != Step::Done).count();
        (under_way as u64, "events by polls")
    }
}
