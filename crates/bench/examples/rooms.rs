//! What rooms cost in the hub, with few and with very many sockets in the namespace.
//!
//! One shard in this thread, as the server drives it, without sockets and frames: subscribers of one channel, three of
//! them in a room, and all of them in another. The figures are this thread's CPU time for an emit to the three, an emit
//! to three clients by their ids, a leave and a join of the room that all are in, and the end of a socket that is in it
//! with the arrival of another one. Every delivery is counted. A flat line means that none of this depends on the
//! number of sockets: `cargo run --release --package fanfare-bench --example rooms`.

use anyhow::{Context as _, Result, ensure};
use fanfare_hub::{
    Audience, ChannelName, ClientId, Command, ConnId, Connect, Data, Effect, Effects, HeartbeatKind, Input, Limits,
    MemoryStore, Now, Opened, OverRate, Pattern, Publish, Push, ReplyBody, Request, RequestId, Retain, Room,
    RoomCommand, Rule, Rules, Seat, Shard, ShardConfig, ShardId, SubOptions, WireId,
};
use rustix::time::{ClockId, clock_gettime};
use std::sync::Arc;

/// Sockets in the namespace.
const SOCKETS: [usize; 3] = [10, 1_000, 100_000];
/// Measurements of each kind, whose median counts.
const ROUNDS: usize = 9;
/// Operations of one measurement.
const OPERATIONS: usize = 20_000;

fn main() -> Result<()> {
    println!(
        "| sockets in the namespace | emit to a room of three | emit to three ids | leave and join | end and arrival |"
    );
    println!("|---|---|---|---|---|");
    for sockets in SOCKETS {
        let mut hub = Hub::new(sockets)?;
        let to_room =
            hub.measure(|hub, _| hub.emit(Audience { rooms: vec![room("three")?], ..Audience::default() }, 3))?;
        let only = hub.clients[..3].to_vec();
        let to_ids = hub.measure(|hub, _| hub.emit(Audience { only: only.clone(), ..Audience::default() }, 3))?;
        let leave_and_join = hub.measure(|hub, at| {
            let conn = hub.conns[at % hub.conns.len()];
            hub.command(conn, RoomCommand::Leave { channel: channel(), room: room("all")? })?;
            hub.command(conn, RoomCommand::Join { channel: channel(), room: room("all")? })
        })?;
        // Not the three, whose ids stay.
        let end_and_arrival = hub.measure(|hub, at| {
            let place = 3 + at % (hub.conns.len() - 3);
            hub.input(Input::Closed { conn: hub.conns[place], finally: true });
            let conn = ConnId { generation: hub.conns[place].generation + 1, ..hub.conns[place] };
            hub.clients[place] = hub.arrive(conn)?;
            hub.conns[place] = conn;
            Ok(())
        })?;
        // They are all still where they should be.
        hub.emit(Audience { rooms: vec![room("all")?], ..Audience::default() }, sockets)?;
        println!("| {sockets} | {to_room} ns | {to_ids} ns | {leave_and_join} ns | {end_and_arrival} ns |");
    }
    Ok(())
}

/// A shard, and its subscribers.
struct Hub {
    shard: Shard,
    effects: Effects,
    now: Now,
    conns: Vec<ConnId>,
    clients: Vec<ClientId>,
}

impl Hub {
    /// With so many sockets, all in the room `all` and the first three in the room `three`.
    fn new(sockets: usize) -> Result<Self> {
        let limits = Arc::new(Limits::default());
        let now = Now { mono_ms: 1_000_000, wall_ms: 1_700_000_000_000 };
        let retain = Retain { count: 100_000, bytes: 64 << 20, ttl_ms: 120_000 };
        let rule = Rule { history: retain, ..Rule::open(Pattern::new("$sio:**")?) };
        let config = ShardConfig {
            me: ShardId(0),
            shards: 1,
            rules: Arc::new(Rules::new(vec![rule])),
            hooks: Arc::default(),
            limits: limits.clone(),
            seed: 1,
            placement_key: 1,
        };
        let shard = Shard::new(config, Box::new(MemoryStore::new(&limits, 1)), now);
        let mut hub = Hub { shard, effects: Effects::new(), now, conns: Vec::new(), clients: Vec::new() };
        for index in 0..sockets {
            let conn = ConnId { index: index as u32, generation: 1 };
            let client = hub.arrive(conn)?;
            hub.conns.push(conn);
            hub.clients.push(client);
        }
        for index in 0..3 {
            let conn = hub.conns[index];
            hub.command(conn, RoomCommand::Join { channel: channel(), room: room("three")? })?;
        }
        Ok(hub)
    }

    /// A socket connects, subscribes and joins the room of all.
    fn arrive(&mut self, conn: ConnId) -> Result<ClientId> {
        let opened = Opened {
            wire: WireId(0),
            grace_ms: 0,
            heartbeat_ms: 25_000,
            heartbeat: HeartbeatKind::Waits,
            connect_timeout_ms: None,
            over_rate: OverRate::Wait,
            attachment: None,
        };
        self.input(Input::Opened { conn, opened });
        let subscribe = vec![SubOptions { signals: false, ..SubOptions::new(channel()) }];
        let connect = Command::Connect(Box::new(Connect { subscribe, ..Connect::default() }));
        let request = Request { id: Some(RequestId::Number(1)), command: connect };
        self.input(Input::Command { conn, seat: Seat::default(), request });
        let mut client = None;
        for effect in self.effects.drain() {
            if let Effect::Reply { reply, .. } = effect {
                match reply.body {
                    ReplyBody::Connected(connected) => client = Some(connected.client),
                    ReplyBody::Subscribed(_) => {}
                    other => anyhow::bail!("a socket was refused: {other:?}"),
                }
            }
        }
        self.command(conn, RoomCommand::Join { channel: channel(), room: room("all")? })?;
        client.context("a socket has no id")
    }

    fn command(&mut self, conn: ConnId, command: RoomCommand) -> Result<()> {
        let command = Command::Room(Box::new(command));
        self.input(Input::Command {
            conn,
            seat: Seat::default(),
            request: Request { id: Some(RequestId::Number(2)), command },
        });
        for effect in self.effects.drain() {
            if let Effect::Reply { reply, .. } = effect {
                ensure!(!matches!(reply.body, ReplyBody::Error(_)), "a command was refused: {:?}", reply.body);
            }
        }
        Ok(())
    }

    /// The last socket says something, and so many get it.
    fn emit(&mut self, audience: Audience, receivers: usize) -> Result<()> {
        let data = Data::Json(br#"["message",{"text":"a text of some length, as people write them"}]"#.to_vec().into());
        let publish = Publish { channel: channel(), data, event: None, idempotency_key: None, echo: true };
        let command = Command::Room(Box::new(RoomCommand::Publish { publish, audience }));
        let conn = *self.conns.last().context("there are sockets")?;
        let mut input = Input::Command { conn, seat: Seat::default(), request: Request { id: None, command } };
        let mut got = 0;
        loop {
            self.input(input);
            let mut list = self.effects.take_list();
            for effect in list.drain(..) {
                if let Effect::Push { push: Push::Message { .. }, to, .. } = effect {
                    got += self.effects.recipients(to).len();
                }
            }
            self.effects.put_back(list);
            if !self.effects.again() {
                break;
            }
            input = Input::Continue;
        }
        ensure!(got == receivers, "{got} got it instead of {receivers}");
        Ok(())
    }

    fn input(&mut self, input: Input) {
        self.effects.clear();
        self.shard.handle(self.now, input, &mut self.effects);
    }

    /// The median CPU time of one operation, in ns.
    fn measure(&mut self, mut operation: impl FnMut(&mut Self, usize) -> Result<()>) -> Result<u128> {
        let mut rounds = [0; ROUNDS];
        for round in &mut rounds {
            let begun = clock_gettime(ClockId::ThreadCPUTime);
            for at in 0..OPERATIONS {
                operation(self, at * 7)?;
            }
            let spent = clock_gettime(ClockId::ThreadCPUTime) - begun;
            *round = (spent.tv_sec as u128 * 1_000_000_000 + spent.tv_nsec as u128) / OPERATIONS as u128;
            self.now.mono_ms += 1_000; // what is over in the history makes room
            self.now.wall_ms += 1_000;
        }
        rounds.sort_unstable();
        Ok(rounds[ROUNDS / 2])
    }
}

fn channel() -> ChannelName {
    ChannelName::reserved("$sio:/").expect("a reserved name")
}

fn room(name: &str) -> Result<Room> {
    Room::new(name).context("a short name")
}
