//! Centrifugo's client protocol in JSON, as far as a subscriber that recovers needs it.
//!
//! In: a client's intention; out: a WebSocket message of commands, one a line. In the other direction: the parts of one
//! reply (one line) that a measurement reads, recognised by needles, as in [`native`](super::native). Written from its
//! public documentation (<https://centrifugal.dev/docs/transports/client_protocol>) and the schema `client.proto`.

use std::fmt::Write as _;

use memchr::memmem;

use super::check::CONTENT_LEN;
use super::native::{Entry, Since};

/// The request target.
pub const TARGET: &str = "/connection/websocket";
/// The server's ping: an empty reply.
pub const PING: &[u8] = b"{}";
/// Its answer: an empty command.
pub const PONG: &str = "{}";

/// The kinds of replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply<'a> {
    /// A live publication.
    Publication(Entry<'a>),
    /// The subscription is made.
    Subscribed {
        /// The epoch of its positions.
        epoch: &'a str,
        /// The missed publications.
        entries: Entries<'a>,
    },
    /// An error, or the end of the subscription or connection.
    Refused,
    /// Anything else.
    Other,
}

/// The publications of a list, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entries<'a>(&'a [u8]);

/// Appends `connect` and one `subscribe`. A client that comes back asks to recover.
pub fn connect(channel: &str, since: Option<Since<'_>>, out: &mut String) {
    // Writing to a String cannot fail, here and below.
    let _ = write!(out, "{{\"id\":1,\"connect\":{{}}}}\n{{\"id\":2,\"subscribe\":{{\"channel\":\"{channel}\"");
    if let Some(Since { epoch, offset }) = since {
        let _ = write!(out, r#","recover":true,"epoch":"{epoch}","offset":{offset}"#);
    }
    out.push_str("}}");
}

/// Appends `publish`.
pub fn publish(id: u64, channel: &str, content: &str, out: &mut String) {
    let _ = write!(out, r#"{{"id":{id},"publish":{{"channel":"{channel}","data":{{"text":"{content}"}}}}}}"#);
}

/// Recognises one reply.
pub fn read(reply: &[u8]) -> Reply<'_> {
    if let Some(rest) = reply.strip_prefix(br#"{"push":"#) {
        if let Some(entry) = memmem::find(rest, br#""pub":{"#).and_then(|at| Entries(&rest[at..]).next()) {
            return Reply::Publication(entry);
        }
        let is_end = [br#""unsubscribe":{"#.as_slice(), br#""disconnect":{"#].iter().any(|end| has(rest, end));
        return if is_end { Reply::Refused } else { Reply::Other };
    }
    if has(reply, br#""error":{"#) {
        return Reply::Refused;
    }
    match memmem::find(reply, br#""subscribe":{"#) {
        Some(at) => subscribed(&reply[at..]).unwrap_or(Reply::Other),
        None => Reply::Other,
    }
}

fn subscribed(bytes: &[u8]) -> Option<Reply<'_>> {
    const EPOCH: &[u8] = br#""epoch":""#;
    let epoch = &bytes[memmem::find(bytes, EPOCH)? + EPOCH.len()..];
    let epoch = std::str::from_utf8(&epoch[..memchr::memchr(b'"', epoch)?]).ok()?;
    // The list is left out if it is empty.
    let list = memmem::find(bytes, br#""publications":["#).unwrap_or(bytes.len());
    Some(Reply::Subscribed { epoch, entries: Entries(&bytes[list..]) })
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    /// A publication's data stands before its offset.
    fn next(&mut self) -> Option<Entry<'a>> {
        const DATA: &[u8] = br#""data":{"text":""#;
        const OFFSET: &[u8] = br#""offset":"#;
        let data = memmem::find(self.0, DATA)? + DATA.len();
        let text = &self.0[data..];
        let content = match text.get(CONTENT_LEN) {
            Some(b'"') => &text[..CONTENT_LEN],
            _ => text, // of another length: the check will report damage
        };
        let rest = &text[content.len()..];
        let digits = &rest[memmem::find(rest, OFFSET)? + OFFSET.len()..];
        let len = digits.iter().position(|byte| !byte.is_ascii_digit())?;
        let offset = std::str::from_utf8(&digits[..len]).ok()?.parse().ok()?;
        self.0 = &digits[len..];
        Some(Entry { offset, content })
    }
}

fn has(bytes: &[u8], needle: &[u8]) -> bool {
    memmem::find(bytes, needle).is_some()
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    fn publication(offset: u64) -> String {
        format!(r#"{{"data":{{"text":"{}"}},"offset":{offset}}}"#, check::content(offset - 1))
    }

    #[test]
    fn commands_are_lines() {
        let (mut first, mut back) = (String::new(), String::new());
        connect("room", None, &mut first);
        assert_eq!(first, "{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":\"room\"}}");
        connect("room", Some(Since { epoch: "e", offset: 7 }), &mut back);
        let expected = r#"{"id":2,"subscribe":{"channel":"room","recover":true,"epoch":"e","offset":7}}"#;
        assert_eq!(back.lines().nth(1), Some(expected));
    }

    #[test]
    fn replies() {
        let content = check::content(4);
        let push = format!(r#"{{"push":{{"channel":"room","pub":{}}}}}"#, publication(5));
        assert_eq!(read(push.as_bytes()), Reply::Publication(Entry { offset: 5, content: content.as_bytes() }));
        let text = format!(
            r#"{{"id":2,"subscribe":{{"recoverable":true,"epoch":"abc","publications":[{},{}],"recovered":true,"offset":6}}}}"#,
            publication(5),
            publication(6)
        );
        let Reply::Subscribed { epoch, entries } = read(text.as_bytes()) else { panic!("{text}") };
        let offsets: Vec<_> = entries.map(|entry| (entry.offset, check::seq_of(entry.content))).collect();
        assert_eq!((epoch, offsets), ("abc", vec![(5, Some(4)), (6, Some(5))]));
        let first = br#"{"id":2,"subscribe":{"recoverable":true,"epoch":"abc","positioned":true}}"#;
        let Reply::Subscribed { entries, .. } = read(first) else { panic!("subscribed") };
        assert_eq!(entries.count(), 0);
        let rows = [
            (r#"{"id":1,"connect":{"client":"a","version":"6","ping":25,"pong":true}}"#, Reply::Other),
            (r#"{"id":2,"error":{"code":103,"message":"permission denied"}}"#, Reply::Refused),
            (r#"{"push":{"channel":"room","unsubscribe":{"code":2500,"reason":"x"}}}"#, Reply::Refused),
            (r#"{"push":{"channel":"room","join":{"info":{}}}}"#, Reply::Other),
        ];
        for (text, expected) in rows {
            assert_eq!(read(text.as_bytes()), expected, "{text}");
        }
    }
}
