//! Commands of clients in short, and what a connection has received, by kind.

use super::{Received, channel};
use bytes::Bytes;
use fanfare_hub::*;
use std::sync::Arc;

pub fn publish(name: &str, json: &str) -> Command {
    Command::Publish(Box::new(Publish {
        channel: channel(name),
        data: Data::Json(Bytes::from(json.to_owned())),
        event: None,
        idempotency_key: None,
        echo: true,
    }))
}

pub fn unsubscribe(name: &str) -> Command {
    Command::Unsubscribe { channel: channel(name) }
}

pub fn signal(name: &str, event: &str, json: &str, to: Option<ClientId>) -> Command {
    let data = Bytes::from(json.to_owned());
    Command::Signal(Box::new(Signal { channel: channel(name), event: event.into(), data, to }))
}

pub fn enter(name: &str, json: &str) -> Command {
    Command::PresenceSet { channel: channel(name), data: Bytes::from(json.to_owned()), person: None }
}

pub fn since(name: &str, at: Position) -> SubOptions {
    SubOptions { since: Some(at), ..SubOptions::new(channel(name)) }
}

/// A subscription that follows presence.
pub fn with_presence(name: &str) -> SubOptions {
    SubOptions { presence: true, ..SubOptions::new(channel(name)) }
}

pub fn texts(publications: &[Arc<Publication>]) -> Vec<String> {
    publications.iter().map(|p| String::from_utf8_lossy(p.data.bytes()).into_owned()).collect()
}

pub fn messages(received: &[Received]) -> Vec<String> {
    batches(received).concat()
}

/// The payloads of the messages, by the frame that they came in.
pub fn batches(received: &[Received]) -> Vec<Vec<String>> {
    received
        .iter()
        .filter_map(|received| match received {
            Received::Push(Push::Message { publication, .. }) => Some(texts(std::slice::from_ref(publication))),
            Received::Push(Push::Messages { publications, .. }) => Some(texts(publications)),
            _ => None,
        })
        .collect()
}

pub fn signals(received: &[Received]) -> Vec<String> {
    received
        .iter()
        .filter_map(|received| match received {
            Received::Push(Push::Signal(push)) => Some(String::from_utf8_lossy(&push.signal.data).into_owned()),
            _ => None,
        })
        .collect()
}

pub fn gaps(received: &[Received]) -> Vec<(u64, bool)> {
    received
        .iter()
        .filter_map(|received| match received {
            Received::Push(Push::Gap { position, reset, .. }) => Some((position.offset, *reset)),
            _ => None,
        })
        .collect()
}

/// Changes of presence, as (kind, client).
pub fn presence_changes(received: &[Received]) -> Vec<(PresenceKind, ClientId)> {
    received
        .iter()
        .filter_map(|received| match received {
            Received::Push(Push::Presence(push)) => Some((push.kind, push.entry.client)),
            _ => None,
        })
        .collect()
}

pub fn error_code(body: &ReplyBody) -> ErrorCode {
    match body {
        ReplyBody::Error(error) => error.code,
        other => panic!("no error but {other:?}"),
    }
}

/// Numbers as payloads in the form of [`Net::publish_all`].
pub fn numbers(range: std::ops::RangeInclusive<u32>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}
