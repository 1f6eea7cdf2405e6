//! The native protocol of a load generator: texts written by hand, answers recognised by needles.
//!
//! In: a client's intention; out: one JSON command. In the other direction: the parts of a server's message that a
//! measurement reads. Nothing is parsed as JSON: every payload is one of [`check::content`](super::check::content),
//! which contains no needle. The caller gets the fields that matter (offsets, contents, tickets, epochs) to check.
//! Wire: docs/protocol.md.

use std::fmt::Write as _;

use memchr::memmem;

use super::check::CONTENT_LEN;

/// The subprotocol to ask for.
pub const SUBPROTOCOL: &str = "fanfare.v1";
/// The request target.
pub const TARGET: &str = "/v1/ws";
/// The server's heartbeat, byte for byte.
pub const PING: &[u8] = br#"{"type":"ping"}"#;
/// Its answer.
pub const PONG: &str = r#"{"type":"pong"}"#;

/// The position that a returning client sends.
#[derive(Debug, Clone, Copy)]
pub struct Since<'a> {
    /// As the server sent it.
    pub epoch: &'a str,
    /// The newest offset that the client has.
    pub offset: u64,
}

/// The kinds of messages from the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard<'a> {
    /// A publication, live or caught up.
    Message(Entry<'a>),
    /// The session was made, or resumed.
    Connected {
        /// The ticket for the next `connect`.
        ticket: &'a str,
        /// Whether the ticket's session goes on.
        resumed: bool,
    },
    /// One subscription is made.
    Subscribed {
        /// The epoch of its positions.
        epoch: &'a str,
        /// The place after `entries`.
        offset: u64,
        /// Whether the subscription recovered everything after the client's position.
        recovered: bool,
        /// The first page of missed publications.
        entries: Entries<'a>,
    },
    /// This many subscriptions are made.
    ManySubscribed(usize),
    /// A publication was stored.
    Published,
    /// Some publications are lost, and the subscription continues from here.
    Gap {
        /// The position from which it continues.
        offset: u64,
    },
    /// A refusal, or the notice that the connection is about to end.
    Refused,
    /// Anything else.
    Other,
}

/// One publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its place.
    pub offset: u64,
    /// The text in place of our content; the check judges it.
    pub content: &'a [u8],
}

/// The publications of a list, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entries<'a>(&'a [u8]);

/// Appends `connect`, with one subscription or none. All clients name the same page: a client that comes back takes its
/// session over even if the server has not seen the end of its connection.
pub fn connect(ticket: Option<&str>, channel: Option<(&str, Option<Since<'_>>)>, out: &mut String) {
    out.push_str(r#"{"type":"connect","id":0,"page":"bench""#);
    if let Some(ticket) = ticket {
        let _ = write!(out, r#","ticket":"{ticket}""#); // writing to a String cannot fail, here and below
    }
    if let Some((channel, since)) = channel {
        let _ = write!(out, r#","subscribe":[{{"channel":"{channel}""#);
        if let Some(Since { epoch, offset }) = since {
            let _ = write!(out, r#","since":{{"epoch":"{epoch}","offset":{offset}}}"#);
        }
        out.push_str("}]");
    }
    out.push('}');
}

/// Appends the first poll of a client: a `connect` with one subscription. `attempt` is the client's own.
pub fn connect_by_poll(attempt: &str, channel: &str, out: &mut String) {
    let _ = write!(
        out,
        r#"{{"type":"connect","id":0,"page":"bench","attempt":"{attempt}","subscribe":[{{"channel":"{channel}"}}]}}"#
    );
}

/// Appends a later poll, which acknowledges answer `ack` and may wait as long as the server allows.
pub fn poll(ticket: &str, ack: u64, out: &mut String) {
    let _ = write!(out, r#"{{"ticket":"{ticket}","ack":{ack}}}"#);
}

/// The answer to a poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Polled<'a> {
    /// Its number, to be acknowledged.
    pub n: u64,
    /// The ticket of a new session.
    pub ticket: Option<&'a str>,
    /// Whether a subscription was made.
    pub is_subscribed: bool,
    /// Its publications.
    pub entries: Entries<'a>,
}

/// Reads the answer to a poll; `None` if it is none.
pub fn polled(body: &[u8]) -> Option<Polled<'_>> {
    let digits = body.strip_prefix(br#"{"n":"#)?;
    let len = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    let n = std::str::from_utf8(&digits[..len]).ok()?.parse().ok()?;
    let rest = &digits[len..];
    let subscribed = memmem::find(rest, br#"{"type":"subscribed""#);
    let entries = match subscribed {
        // It has an offset of its own, which is no publication's.
        Some(at) => &rest[at + memmem::find(&rest[at..], br#""publications":["#)?..],
        None => rest,
    };
    let ticket = text_after(rest, br#""ticket":""#);
    Some(Polled { n, ticket, is_subscribed: subscribed.is_some(), entries: Entries(entries) })
}

/// The content of a publication as an event stream of plain payloads has it.
pub fn payload(data: &[u8]) -> Option<&[u8]> {
    data.strip_prefix(br#"{"text":""#)?.strip_suffix(br#""}"#)
}

/// Appends the body of a publication by the HTTP API.
pub fn api_publish(channel: &str, content: &str, out: &mut String) {
    let _ = write!(out, r#"{{"channel":"{channel}","data":{{"text":"{content}"}}}}"#);
}

/// The offset in the answer to a publication by the HTTP API.
pub fn offset_of(body: &[u8]) -> Option<u64> {
    offset(body).map(|(offset, _)| offset)
}

/// Appends `subscribe` to many channels.
pub fn subscribe(channels: impl Iterator<Item = String>, out: &mut String) {
    out.push_str(r#"{"type":"subscribe","id":1,"channels":["#);
    for (index, channel) in channels.enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(out, r#"{comma}{{"channel":"{channel}"}}"#);
    }
    out.push_str("]}");
}

/// Appends `publish` with an id, so that it is answered.
pub fn publish(id: u64, channel: &str, content: &str, out: &mut String) {
    let _ = write!(out, r#"{{"type":"publish","id":{id},"channel":"{channel}","data":{{"text":"{content}"}}}}"#);
}

/// Appends the `message` that a server makes of [`publish`]: the floor's frames then have the same size as the
/// servers'.
pub fn message(channel: &str, offset: u64, content: &str, out: &mut String) {
    let _ = write!(
        out,
        r#"{{"type":"message","channel":"{channel}","offset":{offset},"data":{{"text":"{content}"}},"from":{{"client":"0000000000000000"}},"ts":1700000000000}}"#
    );
}

/// Recognises a message from the server.
pub fn read(payload: &[u8]) -> Heard<'_> {
    const TYPE: &[u8] = br#"{"type":""#;
    let Some(rest) = payload.strip_prefix(TYPE) else { return Heard::Other };
    let kind = &rest[..memchr::memchr(b'"', rest).unwrap_or(rest.len())];
    match kind {
        b"message" => entry(rest).map_or(Heard::Other, Heard::Message),
        b"published" => Heard::Published,
        b"connected" => text_after(rest, br#""ticket":""#).map_or(Heard::Other, |ticket| Heard::Connected {
            ticket,
            resumed: memmem::find(rest, br#""session_resumed":true"#).is_some(),
        }),
        b"subscribed" => subscribed(rest).unwrap_or(Heard::Other),
        b"result" if memmem::find(rest, br#"{"type":"error""#).is_some() => Heard::Refused,
        b"result" => Heard::ManySubscribed(memmem::find_iter(rest, br#"{"type":"subscribed""#).count()),
        b"gap" => offset(rest).map_or(Heard::Other, |(offset, _)| Heard::Gap { offset }),
        b"error" | b"disconnect" | b"unsubscribed" => Heard::Refused,
        _ => Heard::Other,
    }
}

fn subscribed(bytes: &[u8]) -> Option<Heard<'_>> {
    let epoch = text_after(bytes, br#""epoch":""#)?;
    let (offset, rest) = offset(bytes)?;
    let list = memmem::find(rest, br#""publications":["#)?;
    let recovered = memmem::find(&rest[..list], br#""recovered":true"#).is_some();
    Some(Heard::Subscribed { epoch, offset, recovered, entries: Entries(&rest[list..]) })
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let entry = entry(self.0)?;
        let (_, rest) = offset(self.0)?;
        self.0 = rest;
        Some(entry)
    }
}

/// The next publication in `bytes`.
fn entry(bytes: &[u8]) -> Option<Entry<'_>> {
    let (offset, rest) = offset(bytes)?;
    let text = rest.strip_prefix(br#","data":{"text":""#).unwrap_or_default();
    let content = match text.get(CONTENT_LEN) {
        Some(b'"') => &text[..CONTENT_LEN],
        _ => text, // of another length: the check will report damage
    };
    Some(Entry { offset, content })
}

/// The next `offset` and what follows its digits.
fn offset(bytes: &[u8]) -> Option<(u64, &[u8])> {
    const OFFSET: &[u8] = br#""offset":"#;
    let digits = &bytes[memmem::find(bytes, OFFSET)? + OFFSET.len()..];
    let len = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    let offset = digits[..len].iter().try_fold(0u64, |value, &digit| {
        value.checked_mul(10)?.checked_add(u64::from(digit - b'0')) // an offset has at most 16 digits
    })?;
    Some((offset, &digits[len..]))
}

/// The text that begins right after the first `needle`.
pub(super) fn text_after<'a>(bytes: &'a [u8], needle: &[u8]) -> Option<&'a str> {
    let text = &bytes[memmem::find(bytes, needle)? + needle.len()..];
    std::str::from_utf8(&text[..memchr::memchr(b'"', text)?]).ok()
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    fn listed(offset: u64) -> String {
        let content = check::content(offset);
        format!(r#"{{"offset":{offset},"data":{{"text":"{content}"}},"from":{{"client":"00000000000000a1"}},"ts":1}}"#)
    }

    #[test]
    fn commands() {
        let (mut bare, mut back, mut many) = (String::new(), String::new(), String::new());
        connect(None, Some(("room", None)), &mut bare);
        assert_eq!(bare, r#"{"type":"connect","id":0,"page":"bench","subscribe":[{"channel":"room"}]}"#);
        connect(Some("t"), Some(("room", Some(Since { epoch: "e", offset: 7 }))), &mut back);
        let expected = r#"{"type":"connect","id":0,"page":"bench","ticket":"t","subscribe":[{"channel":"room","since":{"epoch":"e","offset":7}}]}"#;
        assert_eq!(back, expected);
        subscribe(["a", "b"].into_iter().map(str::to_owned), &mut many);
        assert_eq!(many, r#"{"type":"subscribe","id":1,"channels":[{"channel":"a"},{"channel":"b"}]}"#);
    }

    #[test]
    fn a_message_is_recognised_and_its_content_checked_for_length_only() {
        let content = check::content(3);
        let mut text = String::new();
        message("room", 12, &content, &mut text);
        assert_eq!(read(text.as_bytes()), Heard::Message(Entry { offset: 12, content: content.as_bytes() }));
        let short = br#"{"type":"message","channel":"room","offset":1,"data":{"text":"short"},"ts":1}"#;
        let Heard::Message(entry) = read(short) else { panic!("a message") };
        assert_eq!(check::seq_of(entry.content), None);
    }

    #[test]
    fn subscribed_with_what_was_missed() {
        let text = format!(
            r#"{{"type":"subscribed","channel":"room","epoch":"00e1","offset":9,"recovered":true,"publications":[{},{}]}}"#,
            listed(8),
            listed(9)
        );
        let Heard::Subscribed { epoch, offset, recovered, entries } = read(text.as_bytes()) else { panic!("{text}") };
        assert_eq!((epoch, offset, recovered), ("00e1", 9, true));
        let offsets: Vec<_> = entries.map(|entry| (entry.offset, check::seq_of(entry.content))).collect();
        assert_eq!(offsets, [(8, Some(8)), (9, Some(9))]);
    }

    #[test]
    fn polls_and_their_answers() {
        let (mut first, mut next) = (String::new(), String::new());
        connect_by_poll("c1", "room", &mut first);
        let expected = r#"{"type":"connect","id":0,"page":"bench","attempt":"c1","subscribe":[{"channel":"room"}]}"#;
        assert_eq!(first, expected);
        poll("t", 3, &mut next);
        assert_eq!(next, r#"{"ticket":"t","ack":3}"#);

        let subscribed = r#"{"type":"subscribed","channel":"room","epoch":"e","offset":2,"publications":[]}"#;
        let connected = r#"{"type":"connected","id":0,"session_resumed":false,"ticket":"t1","ping":25000}"#;
        let mut message = String::new();
        super::message("room", 3, &check::content(2), &mut message);
        let rows = [
            (format!(r#"{{"n":1,"messages":[{connected},{subscribed},{message}]}}"#), 1, Some("t1"), true, vec![3]),
            (format!(r#"{{"n":12,"messages":[{message},{message}]}}"#), 12, None, false, vec![3, 3]),
            (r#"{"n":4,"messages":[]}"#.to_owned(), 4, None, false, vec![]),
        ];
        for (body, n, ticket, is_subscribed, offsets) in rows {
            let answer = polled(body.as_bytes()).expect("an answer");
            assert_eq!((answer.n, answer.ticket, answer.is_subscribed), (n, ticket, is_subscribed), "{body}");
            assert_eq!(answer.entries.map(|entry| entry.offset).collect::<Vec<u64>>(), offsets, "{body}");
        }
        assert_eq!(polled(br#"{"code":"unauthorized"}"#), None);
    }

    #[test]
    fn a_plain_payload() {
        let content = check::content(7);
        assert_eq!(payload(format!(r#"{{"text":"{content}"}}"#).as_bytes()), Some(content.as_bytes()));
        assert_eq!(payload(br#"{"type":"connected"}"#), None);
    }

    #[test]
    fn answers_of_the_server() {
        let connected =
            r#"{"type":"connected","id":0,"client":"a1","session_resumed":true,"ticket":"t1","ping":25000}"#;
        let result = r#"{"type":"result","id":1,"data":[{"type":"subscribed","channel":"a"},{"type":"subscribed"}]}"#;
        let refused = r#"{"type":"result","id":1,"data":[{"type":"subscribed"},{"type":"error","code":"denied"}]}"#;
        let table = [
            (connected, Heard::Connected { ticket: "t1", resumed: true }),
            (result, Heard::ManySubscribed(2)),
            (refused, Heard::Refused),
            (r#"{"type":"published","id":4,"epoch":"e","offset":1}"#, Heard::Published),
            (r#"{"type":"gap","channel":"room","epoch":"e","offset":40}"#, Heard::Gap { offset: 40 }),
            (r#"{"type":"error","code":"denied"}"#, Heard::Refused),
            (r#"{"type":"signal","channel":"room"}"#, Heard::Other),
            ("[]", Heard::Other),
        ];
        for (text, heard) in table {
            assert_eq!(read(text.as_bytes()), heard, "{text}");
        }
    }
}
