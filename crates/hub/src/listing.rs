//! Lists of connections and of users, page by page, and the status of users.
//!
//! A page of connections is in the order of the places that sessions have on their shards, then of the shards. A
//! session keeps its place as long as it stays on its shard, so a list has each session once that was connected all the
//! time and did not change shards. A page costs every shard a bounded number of looks; where that is used up, a page
//! has fewer entries than were asked for, or none, and a cursor to go on from.

use crate::ids::{ClientId, ConnId, ReplyAddress, ShardId, UserId};
use crate::labels::Labels;
use crate::name::ChannelName;
use std::fmt;
use std::str::FromStr;

/// The most entries of one page of connections or users.
pub const LISTED_MAX: u32 = 1_000;
/// The most users whose status one command asks for.
pub const STATUS_USERS_MAX: usize = 1_000;

/// The connections that a list is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Among {
    /// All.
    All,
    /// That of one client.
    Client(ClientId),
    /// Those of a user.
    User(UserId),
    /// Those whose session has this label.
    Label(Box<str>),
    /// The subscribers of a channel.
    Channel(ChannelName),
}

/// A place in a list of connections: up to where it has come. As text it is opaque to its reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionCursor {
    /// The session's place on its shard.
    pub(crate) place: u32,
    pub(crate) shard: ShardId,
}

impl fmt::Display for ConnectionCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.place, self.shard.0)
    }
}

/// The error for a text that no list gave as its cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidCursor;

impl FromStr for ConnectionCursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let (place, shard) = text.split_once('-').ok_or(InvalidCursor)?;
        let cursor = ConnectionCursor {
            place: u32::from_str_radix(place, 16).map_err(|_| InvalidCursor)?,
            shard: ShardId(u16::from_str_radix(shard, 16).map_err(|_| InvalidCursor)?),
        };
        if cursor.to_string() == text { Ok(cursor) } else { Err(InvalidCursor) }
    }
}

/// A session with a connection, in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// Its client.
    pub client: ClientId,
    /// Its user.
    pub user: Option<UserId>,
    /// Its labels.
    pub labels: Labels,
    /// How many channels it is subscribed to.
    pub channels: u32,
    /// What only the shell of its shard knows.
    pub facts: Option<Box<ConnectionFacts>>,
    /// Its connection there.
    pub conn: ConnId,
    pub(crate) at: ConnectionCursor,
}

/// The shell's part of a [`ConnectionInfo`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionFacts {
    /// How its bytes are carried.
    pub transport: Box<str>,
    /// What it speaks.
    pub protocol: Box<str>,
    /// Its peer's address.
    pub peer: Box<str>,
    /// The begin of the connection, in ms since 1970.
    pub connected_ms: u64,
}

/// A shard's part of a page of connections: the shell adds its facts to it ([`Effect::Describe`](crate::Effect)) and
/// gives it back ([`Input::Described`](crate::Input)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionsPart {
    /// Those of this shard.
    pub connections: Vec<ConnectionInfo>,
    /// Up to where this shard has looked, where that is not its end.
    pub(crate) looked_to: Option<ConnectionCursor>,
    pub(crate) to: ReplyAddress,
}

/// A user with a connection, in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserInfo {
    /// Who.
    pub user: UserId,
    /// Its sessions that have a connection; in the list of a channel: of those, its subscribers.
    pub clients: u64,
}

/// Whether a user is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserStatus {
    /// Who.
    pub user: UserId,
    /// Its sessions that have a connection. More than 0: it is online.
    pub clients: u64,
    /// When the last one of them lost its connection, in ms since 1970, where that is known: the newest are, since the
    /// server started. `None` while it is online.
    pub last_seen_ms: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back_as_written_and_nothing_else_is() {
        for (place, shard) in [(0, 0), (0x1f, 2), (u32::MAX, u16::MAX)] {
            let cursor = ConnectionCursor { place, shard: ShardId(shard) };
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        for text in ["", "-", "1", "1-", "-1", "+1-0", "1-0 ", "01-0", "A-0", "100000000-0", "0-10000", "1-0-0"] {
            assert_eq!(text.parse::<ConnectionCursor>(), Err(InvalidCursor), "{text:?}");
        }
    }
}
