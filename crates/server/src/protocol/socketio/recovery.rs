//! Connection state recovery: a client whose connection was cut goes on as the same socket, in its rooms.
//!
//! In: the `pid` and the `offset` that a client comes with. Out: the session that it means, the place up to which it
//! has the events of its namespace, and the `pid` and offsets that are given out. The rest is the hub's: a session
//! outlives its connection, and its subscription goes on where the client was (`SubOptions::keep`).
//!
//! Guards have let the socket in before, so a client that shows its `pid` is first taken at that word, without asking
//! them (`socketio.skip_middlewares`). Where the socket does not go on, it has not been let in, and begins anew: the
//! guards are asked then.
//!
//! A `pid` is a ticket under a key of its own for each namespace: it opens no other namespace, nothing native, and no
//! native ticket is one. It names the shard on which the socket began for as long as the socket lives, so the shards
//! look for the session (`Claim`). An offset is the place of the event in the log of its namespace.

use super::Parts;
use crate::protocol::Place;
use fanfare_hub::{ClientId, Epoch, Now, Position, Resume, SubOptions};
use fanfare_wire::ticket::{self, Claims};
use serde::Deserialize;
use serde_json::Value;

/// Longer than any socket lives.
const PID_MS: u64 = 100 * 365 * 24 * 3_600_000;

/// What a client says of itself in a CONNECT packet. Values of other types are none.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Auth {
    pub(super) token: Value,
    pid: Value,
    offset: Value,
}

/// A client that comes back.
#[derive(Debug)]
pub(super) struct Returning {
    /// It gets the same again if it goes on: by that it knows.
    pub(super) pid: Box<str>,
    pub(super) resume: Resume,
    last: Option<Position>,
    /// No guard was asked, so nothing but the socket that it was may be given to it. What it has shown for that case.
    pub(super) unasked: Option<Shown>,
}

/// The `auth` of a client: JSON text.
pub(super) type Shown = Option<Box<str>>;

impl Auth {
    pub(super) fn of(json: Option<&str>) -> Self {
        json.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default()
    }

    /// The session that it means. `None`: it names none, or one that it may not have.
    pub(super) fn returning(&self, place: &Place, namespace: &str, now: Now) -> Option<Returning> {
        let pid = self.pid.as_str()?;
        let claims = ticket::open(pid, &key(place, namespace), now.wall_ms);
        let claims = claims.inspect_err(|error| tracing::debug!(error = error.to_string(), "a pid was not honoured"));
        let claims = claims.ok().filter(|claims| claims.node == place.node())?;
        // A client that has had no event has no offset. Any other text is the last argument of an event without one.
        let last = match &self.offset {
            Value::Null => None,
            offset => Some(place_of(offset.as_str()?)?),
        };
        Some(Returning { pid: pid.into(), resume: claims.resume(), last, unasked: None })
    }
}

impl Parts {
    /// How a socket subscribes to its namespace.
    pub(super) fn options(&self, options: SubOptions, returning: Option<&Returning>) -> SubOptions {
        let since = returning.and_then(|returning| returning.last);
        // A bridged room is a subscription that ends with the connection, so its socket does not go on.
        SubOptions { signals: false, keep: self.recovers(), whole: true, since, ..options }
    }
}

/// A new `pid` for a socket that begins here.
pub(super) fn pid(place: &Place, namespace: &str, client: ClientId, now: Now) -> String {
    let expires_ms = now.wall_ms.saturating_add(PID_MS);
    let claims = Claims { node: place.node(), shard: place.shard(), client, expires_ms };
    ticket::seal(&claims, &key(place, namespace))
}

fn key(place: &Place, namespace: &str) -> Vec<u8> {
    [place.secret(), b"socket.io ", namespace.as_bytes()].concat()
}

/// The offset of an event, as text.
pub(super) fn put_offset(Position { epoch, offset }: Position, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{:x}-{offset:x}", epoch.0).as_bytes());
}

fn place_of(text: &str) -> Option<Position> {
    let (epoch, offset) = text.split_once('-')?;
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    Some(Position { epoch: Epoch(number(epoch)?), offset: number(offset)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Node;
    use fanfare_hub::{Limits, ShardId};
    use std::sync::Arc;

    const NOW: Now = Now { mono_ms: 0, wall_ms: 1_700_000_000_000 };

    fn place(id: u64, shard: u16) -> Place {
        Place::new(Arc::new(Node { id, secret: [7; 32], limits: Limits::default() }), ShardId(shard))
    }

    fn returning(json: &str, place: &Place, namespace: &str) -> Option<(Resume, Option<Position>)> {
        Auth::of(Some(json)).returning(place, namespace, NOW).map(|returning| (returning.resume, returning.last))
    }

    #[test]
    fn a_pid_names_its_socket_in_its_namespace_on_every_shard_of_this_run() {
        let pid = pid(&place(1, 2), "/admin", ClientId(5), NOW);
        let json = format!(r#"{{"pid":"{pid}","token":{{"a":1}}}}"#);
        let resume = Resume { shard: ShardId(2), client: ClientId(5) };
        assert_eq!(returning(&json, &place(1, 0), "/admin"), Some((resume, None)));
        assert_eq!(returning(&json, &place(1, 0), "/"), None, "another namespace has another guard");
        assert_eq!(returning(&json, &place(2, 0), "/admin"), None, "another run knows other sessions");
        let claims = Claims { node: 1, shard: ShardId(2), client: ClientId(5), expires_ms: u64::MAX };
        let native = ticket::seal(&claims, place(1, 2).secret());
        assert_eq!(returning(&format!(r#"{{"pid":"{native}"}}"#), &place(1, 0), "/admin"), None);
        assert!(ticket::open(&pid, place(1, 2).secret(), NOW.wall_ms).is_err());
    }

    #[test]
    fn an_offset_is_the_place_of_an_event_and_any_other_text_is_none() {
        let pid = pid(&place(1, 2), "/", ClientId(5), NOW);
        let at = Position { epoch: Epoch(u64::MAX), offset: 258 };
        let mut text = Vec::new();
        put_offset(at, &mut text);
        let text = String::from_utf8(text).expect("text");
        assert_eq!(text, "ffffffffffffffff-102");
        let of = |offset: &str| {
            let json = format!(r#"{{"pid":"{pid}","offset":{offset}}}"#);
            returning(&json, &place(1, 0), "/").map(|(_, last)| last)
        };
        assert_eq!((of("null"), of(&format!("{text:?}"))), (Some(None), Some(Some(at))));
        for other in ["\"\"", "\"-\"", "\"a text\"", "7", "\"1-\"", "\"1-g\"", "\"1-10000000000000000\"", "[]"] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
