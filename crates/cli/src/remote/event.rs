//! The events of a subscription as lines of JSON: the native protocol's pushes, with an `epoch` beside every `offset`,
//! so that each line says from where to go on.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use fanfare_client::core::Event;
use fanfare_client::{Data, From, Position, PresenceEntry, PresenceKind};
use serde::Serialize;
use serde_json::value::RawValue;

/// The word with which the client, and not the server, ends a subscription: because it has ended itself.
const ENDED_ITSELF: &str = "ended";

/// True where the client has ended: that is printed elsewhere.
pub(super) fn is_ours(code: &str) -> bool {
    code == ENDED_ITSELF
}

/// The fields of all pushes, in the order in which they are read best.
#[derive(Default, Serialize)]
struct Line<'e> {
    r#type: &'static str,
    channel: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<&'e RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Sender<'e>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ts: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'e RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entries: Option<Vec<Entry<'e>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reset: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'e str>,
}

#[derive(Serialize)]
struct Sender<'e> {
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'e str>,
}

#[derive(Serialize)]
struct Entry<'e> {
    client: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<&'e RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'e RawValue>,
}

impl<'e> Line<'e> {
    fn new(r#type: &'static str, channel: &'e str) -> Self {
        Line { r#type, channel, ..Line::default() }
    }

    fn at(self, position: &'e Position) -> Self {
        Line { epoch: Some(&position.epoch), offset: Some(position.offset), ..self }
    }
}

/// The line of an event; `None` where it is none of the server's pushes.
pub(super) fn json_line(channel: &str, event: &Event) -> Option<String> {
    let new = |r#type| Line::new(r#type, channel);
    let line = match event {
        Event::Live { .. } => return None,
        Event::Message { publication, position } => {
            let (data, data64) = match &publication.data {
                Data::Json(json) => (raw(json), None),
                Data::Binary(bytes) => (None, Some(STANDARD.encode(bytes))),
            };
            Line {
                event: publication.event.as_deref(),
                idempotency_key: publication.idempotency_key.as_deref(),
                from: publication.from.as_ref().map(sender),
                ts: Some(publication.ts_ms),
                data,
                data64,
                ..new("message").at(position)
            }
        }
        Event::Signal(signal) => Line {
            event: Some(&signal.event),
            from: Some(sender(&signal.from)),
            data: raw(&signal.data),
            ..new("signal")
        },
        Event::Presence(presence) => Line {
            seq: Some(presence.seq),
            count: Some(presence.count),
            entries: presence.entries.as_ref().map(|entries| entries.iter().map(entry).collect()),
            ..new("presence")
        },
        Event::PresenceChange(change) => {
            let Entry { client, user, info, data } = entry(&change.entry);
            let kind = match change.kind {
                PresenceKind::Join => "join",
                PresenceKind::Leave => "leave",
                PresenceKind::Update => "presence_update",
            };
            Line { client: Some(client), user, info, data, seq: Some(change.seq), ..new(kind) }
        }
        Event::PresenceCount { count } => Line { count: Some(*count), ..new("presence_update") },
        Event::Gap { position, reset } => Line { reset: Some(*reset), ..new("gap").at(position) },
        Event::Ended { code, .. } if is_ours(code) => return None,
        Event::Ended { code, message } => Line { code: Some(code), message: Some(message), ..new("unsubscribed") },
    };
    // Texts, numbers and checked JSON: each has a JSON form.
    serde_json::to_string(&line).ok()
}

/// The client has checked that it is JSON; it came in one line.
fn raw(json: &Bytes) -> Option<&RawValue> {
    serde_json::from_slice(json).ok()
}

fn sender(from: &From) -> Sender<'_> {
    Sender { client: from.client.as_deref(), user: from.user.as_deref() }
}

fn entry(entry: &PresenceEntry) -> Entry<'_> {
    Entry {
        client: &entry.client,
        user: entry.user.as_deref(),
        info: entry.info.as_ref().and_then(raw),
        data: entry.data.as_ref().and_then(raw),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfare_client::{Presence, PresenceChange, Publication, Signal};

    fn line(event: Event) -> String {
        json_line("c", &event).unwrap_or_default()
    }

    fn position(offset: u64) -> Position {
        Position { epoch: "e".into(), offset }
    }

    #[test]
    fn every_push_has_its_line() {
        let publication =
            |data| Publication { offset: 7, data, event: None, idempotency_key: None, from: None, ts_ms: 9 };
        let message =
            |publication: Publication| Event::Message { publication: Box::new(publication), position: position(7) };
        let ada = || PresenceEntry {
            client: "a".into(),
            user: Some("ada".into()),
            info: Some(Bytes::from_static(b"{\"x\":1}")),
            data: None,
        };
        let from = From { client: Some("a".into()), user: Some("ada".into()) };
        let change =
            |kind| Event::PresenceChange(Box::new(PresenceChange { channel: "c".into(), kind, entry: ada(), seq: 3 }));
        let rows = [
            (
                message(publication(Data::Json(Bytes::from_static(b"{\"b\":1, \"a\":2}")))),
                r#"{"type":"message","channel":"c","epoch":"e","offset":7,"ts":9,"data":{"b":1, "a":2}}"#,
            ),
            (
                message(Publication {
                    event: Some("paid".into()),
                    idempotency_key: Some("k".into()),
                    from: Some(from.clone()),
                    ..publication(Data::Binary(Bytes::from_static(b"\0\xff")))
                }),
                r#"{"type":"message","channel":"c","epoch":"e","offset":7,"event":"paid","idempotency_key":"k","from":{"client":"a","user":"ada"},"ts":9,"data64":"AP8="}"#,
            ),
            (
                Event::Signal(Box::new(Signal {
                    channel: "c".into(),
                    event: "typing".into(),
                    data: Bytes::from_static(b"null"),
                    from,
                })),
                r#"{"type":"signal","channel":"c","event":"typing","from":{"client":"a","user":"ada"},"data":null}"#,
            ),
            (
                Event::Presence(Box::new(Presence {
                    id: None,
                    channel: "c".into(),
                    seq: 2,
                    count: 1,
                    entries: Some(vec![ada()]),
                })),
                r#"{"type":"presence","channel":"c","seq":2,"count":1,"entries":[{"client":"a","user":"ada","info":{"x":1}}]}"#,
            ),
            (
                change(PresenceKind::Join),
                r#"{"type":"join","channel":"c","client":"a","user":"ada","info":{"x":1},"seq":3}"#,
            ),
            (
                change(PresenceKind::Leave),
                r#"{"type":"leave","channel":"c","client":"a","user":"ada","info":{"x":1},"seq":3}"#,
            ),
            (
                change(PresenceKind::Update),
                r#"{"type":"presence_update","channel":"c","client":"a","user":"ada","info":{"x":1},"seq":3}"#,
            ),
            (Event::PresenceCount { count: 5000 }, r#"{"type":"presence_update","channel":"c","count":5000}"#),
            (
                Event::Gap { position: position(9), reset: true },
                r#"{"type":"gap","channel":"c","epoch":"e","offset":9,"reset":true}"#,
            ),
            (
                Event::Ended { code: "denied".into(), message: "no".into() },
                r#"{"type":"unsubscribed","channel":"c","code":"denied","message":"no"}"#,
            ),
            (Event::Ended { code: ENDED_ITSELF.into(), message: "stopped".into() }, ""),
            (Event::Live { position: position(1), recovered: None }, ""),
        ];
        for (event, expected) in rows {
            assert_eq!(line(event), expected);
        }
    }
}
