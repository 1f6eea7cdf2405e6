//! Fills rooms: opens connections and has each join, before anything is measured.
//!
//! Every join goes to all members of the room, so a room of n costs n(n+1)/2 deliveries. That is the same for every
//! server, because a chat has no silent join. It also warms the servers up. Few joins are under way together. The step
//! ends only when every newcomer has its `room_state` and every member has every join that is due, so nothing is left
//! to arrive during a measurement. Natively other clients get no notice of a subscription, and the step ends when each
//! is confirmed.

use crate::load::dialect::{Dialect, Said};
use crate::load::{Handler, Load, LoadError, Outgoing};
use crate::peers::{Role, ServerKind};

/// Joins under way together.
const IN_FLIGHT: usize = 64;

/// Opens `connections`, numbered from zero, into rooms of `room` members. The floor has no rooms: there it only opens.
pub(super) fn join(
    load: &mut Load,
    kind: ServerKind,
    role: Role,
    connections: usize,
    room: usize,
) -> Result<(), LoadError> {
    let dialect = kind.dialect(role);
    let mut joiner = Joiner { kind, dialect, room, joined: 0, of: connections, joins: 0, scratch: String::new() };
    let mut opened = 0;
    while joiner.owed().0 > 0 {
        while opened < connections && opened - joiner.joined < IN_FLIGHT {
            opened = load.open()? + 1;
        }
        load.turn(&mut joiner)?;
    }
    Ok(())
}

/// Opens the connection with number zero, which subscribes to `channel` by the native protocol.
pub(super) fn publisher(load: &mut Load, channel: &str) -> Result<(), LoadError> {
    let mut joiner = Subscriber { channel, open: 0, of: 1 };
    load.open()?;
    load.drive(&mut joiner)
}

/// Opens event streams at `target` until there are `connections`, with those that are open already.
pub(super) fn streams(load: &mut Load, target: &str, connections: usize) -> Result<(), LoadError> {
    let mut joiner = Subscriber { channel: "", open: 1, of: connections };
    let mut opened = 1;
    while joiner.owed().0 > 0 {
        while opened < connections && opened - joiner.open < IN_FLIGHT {
            opened = load.open_stream(target)? + 1;
        }
        load.turn(&mut joiner)?;
    }
    Ok(())
}

/// Connections of one channel: a WebSocket subscribes by itself, an event stream by its target.
struct Subscriber<'a> {
    channel: &'a str,
    open: usize,
    of: usize,
}

impl Handler for Subscriber<'_> {
    fn on_ready(&mut self, conn: usize, out: &mut Outgoing) -> Result<(), LoadError> {
        if conn > 0 {
            self.open += 1;
            return Ok(());
        }
        let mut connect = String::new();
        Dialect::Native.join("", self.channel, &mut connect);
        out.text(&connect);
        Ok(())
    }

    fn on_message(&mut self, _conn: usize, payload: &[u8], _out: &mut Outgoing) -> Result<(), LoadError> {
        self.open += usize::from(Dialect::Native.read(payload) == Said::RoomState);
        Ok(())
    }

    fn owed(&self) -> (u64, &'static str) {
        ((self.of - self.open) as u64, "subscriptions")
    }
}

struct Joiner {
    kind: ServerKind,
    dialect: Dialect,
    room: usize,
    joined: usize,
    of: usize,
    /// Joins that members received.
    joins: u64,
    scratch: String,
}

impl Joiner {
    fn joins_due(&self) -> u64 {
        if !self.kind.joins() || self.dialect == Dialect::Native {
            return 0;
        }
        // In Socket.IO's rooms a newcomer is told to the others only.
        let of_room = |members: usize| match self.dialect {
            Dialect::Rooms => (members * members.saturating_sub(1) / 2) as u64,
            _ => (members * (members + 1) / 2) as u64,
        };
        (self.of / self.room) as u64 * of_room(self.room) + of_room(self.of % self.room)
    }
}

impl Handler for Joiner {
    fn on_ready(&mut self, conn: usize, out: &mut Outgoing) -> Result<(), LoadError> {
        if !self.kind.joins() {
            self.joined += 1;
            return Ok(());
        }
        self.scratch.clear();
        let (user, room) = (user(conn), room(conn / self.room));
        self.dialect.join(&user, &room, &mut self.scratch);
        out.text(&self.scratch);
        // Nothing tells it that it has joined; that all joins came tells it of all of them.
        self.joined += usize::from(self.dialect == Dialect::Rooms);
        Ok(())
    }

    fn on_message(&mut self, _conn: usize, payload: &[u8], _out: &mut Outgoing) -> Result<(), LoadError> {
        match self.dialect.read(payload) {
            Said::Join => self.joins += 1,
            Said::RoomState => self.joined += 1,
            Said::Message(_) | Said::Other => {}
        }
        let expected = self.joins_due();
        if self.joins > expected {
            return Err(LoadError::TooMany { what: "joins", got: self.joins, expected });
        }
        Ok(())
    }

    fn owed(&self) -> (u64, &'static str) {
        match (self.of - self.joined) as u64 {
            0 => (self.joins_due() - self.joins, "joins"),
            newcomers => (newcomers, "newcomers' welcomes"),
        }
    }
}

/// The name of a room; in the native protocol, of a channel.
pub(super) fn room(index: usize) -> String {
    format!("bench-{index}")
}

/// The user of a connection; all have the same length, so that all frames do.
pub(super) fn user(conn: usize) -> String {
    format!("u{conn:05}")
}
