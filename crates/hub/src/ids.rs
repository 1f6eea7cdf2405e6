//! Identifiers, each a type of its own so that none is passed where another is meant.
//!
//! A *connection* is one transport's life ([`ConnId`]), a *client* is the public name of a session ([`ClientId`]), a
//! *user* the identity behind it ([`UserId`]). A [`Position`] is a place in a channel; clients compare positions,
//! they never compute with them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// One shard of a node: a core with its own listener, connections and channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

/// One connection of a shard. `index` is dense and reused, `generation` is not: inputs for an older generation are
/// ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnId {
    /// Place in the shard's table of connections.
    pub index: u32,
    /// Counts the connections that had this place before.
    pub generation: u32,
}

/// One of the sessions that a connection carries. Most protocols have one session a connection, in seat 0; one that
/// carries several numbers them itself, from 0 and without gaps. Below [`SEATS_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Seat(pub u16);

/// The most seats of a connection.
pub const SEATS_MAX: u16 = 1024;

/// A seat of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SeatId {
    pub(crate) conn: ConnId,
    pub(crate) seat: Seat,
}

/// The wire format of a connection: a protocol, carried by a framing, in one of its variants. The shell gives the
/// numbers out. A push is encoded once for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WireId(pub u8);

/// An operation that the store has been asked for and has not answered yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OpToken(pub u64);

/// The public id of a session, as others see it in `from` and in presence. 64 random bits, written as 16 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub u64);

/// Names one life of a channel's numbering: equal offsets in two epochs are different messages.
/// Zero is never minted; it stands for an epoch that this server cannot have given out.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(pub u64);

/// A place in a channel: the publication with `offset`, in `epoch`. Offset 0 is the place before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// The numbering's life.
    pub epoch: Epoch,
    /// The publication's number, at most 2⁵³−1.
    pub offset: u64,
}

/// The name of a room: a set of subscribers within a channel, for audiences. Any text of up to [`ROOM_BYTES_MAX`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Room(Arc<str>);

/// The longest name of a room, in bytes.
pub const ROOM_BYTES_MAX: usize = 255;

impl Room {
    /// `None` for a name that is too long.
    pub fn new(name: &str) -> Option<Room> {
        (name.len() <= ROOM_BYTES_MAX).then(|| Room(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The identity behind a session, from a token or a hook; never from a client's claim.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(pub Arc<str>);

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client:{self}")
    }
}

impl FromStr for ClientId {
    type Err = ();

    /// Reads the 16 hex digits that `Display` writes, in lower case.
    fn from_str(text: &str) -> Result<Self, ()> {
        parse_hex16(text).map(ClientId).ok_or(())
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch:{self}")
    }
}

impl Epoch {
    /// Reads a client's epoch. It is opaque to the client, so a text that this server never wrote is
    /// not an error but simply another epoch: [`Epoch(0)`](Epoch).
    pub fn from_wire(text: &str) -> Epoch {
        Epoch(parse_hex16(text).unwrap_or(0))
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user:{}", self.0)
    }
}

fn parse_hex16(text: &str) -> Option<u64> {
    let lower_hex = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != 16 || !text.as_bytes().iter().all(lower_hex) {
        return None;
    }
    u64::from_str_radix(text, 16).ok()
}

/// A session on the connection that it has, as long as it is this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SessionRef {
    pub(crate) index: u32,
    pub(crate) life: u32,
}

/// Names a question of an edge; the answer carries it back. The home does not look into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PendingToken {
    pub(crate) index: u32,
    pub(crate) life: u32,
}

/// Where the answer to a question of a shard goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReplyAddress {
    pub(crate) shard: ShardId,
    pub(crate) token: PendingToken,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_id_is_read_back_as_written_and_nothing_else_is() {
        for id in [0, 1, u64::MAX, 0x0123_4567_89ab_cdef] {
            assert_eq!(ClientId(id).to_string().parse(), Ok(ClientId(id)));
        }
        for text in ["", "1", "+123456789abcdef", "0123456789ABCDEF", "0123456789abcdef0", "0123456789abcdeg"] {
            assert!(text.parse::<ClientId>().is_err(), "{text:?} was read as a client id");
        }
    }

    #[test]
    fn a_room_is_written_as_its_name() {
        assert_eq!(Room::new("chat: 房间").map(|room| room.to_string()).as_deref(), Some("chat: 房间"));
    }

    #[test]
    fn a_foreign_epoch_is_another_epoch() {
        assert_eq!(Epoch::from_wire("not ours"), Epoch(0));
        assert_eq!(Epoch::from_wire(&Epoch(77).to_string()), Epoch(77));
    }
}
