//! Text to server messages. A message that breaks the protocol is an error; one of an unknown type is not.

use super::{
    Connected, ErrorReply, From, History, Position, Presence, PresenceChange, PresenceEntry, Publication, ServerLimits,
    ServerMessage, Signal, Subscribed, Unsubscribed,
};
use crate::json;
use crate::native::PING;
use crate::native::object::{Fault, Field, Items, Object};
use bytes::Bytes;
use fanfare_hub::{Data, NUMBER_MAX, PresenceKind};
use std::borrow::Cow;
use std::sync::Arc;

/// The server broke the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the server's message cannot be understood: {problem}")]
pub struct DecodeError {
    /// The field, and its fault.
    pub problem: Box<str>,
}

impl std::convert::From<Fault> for DecodeError {
    fn from(fault: Fault) -> Self {
        DecodeError { problem: fault.to_string().into() }
    }
}

/// Takes one text frame, a message or an array of them, and appends the result to `out`.
///
/// # Errors
/// The first message that breaks the protocol; those before it are in `out`.
pub fn decode(text: &str, out: &mut Vec<ServerMessage>) -> Result<(), DecodeError> {
    if text == PING {
        out.push(ServerMessage::Ping);
        return Ok(());
    }
    let text = json::unmarked(text);
    if !text.trim_ascii_start().starts_with('[') {
        out.push(element(text)?);
        return Ok(());
    }
    let items = Items::read(text, usize::MAX).map_err(|error| DecodeError { problem: error.to_string().into() })?;
    for text in items.list {
        out.push(element(text)?);
    }
    Ok(())
}

/// The answers in the `data` of a `result` to [`SubscribeMany`](super::ClientCommand::SubscribeMany), in the order
/// asked.
///
/// # Errors
/// As for [`decode`].
pub fn decode_many(data: &[u8]) -> Result<Vec<ServerMessage>, DecodeError> {
    let text = std::str::from_utf8(data).map_err(|error| DecodeError { problem: error.to_string().into() })?;
    let mut all = Vec::new();
    decode(text, &mut all)?;
    Ok(all)
}

fn element(text: &str) -> Result<ServerMessage, Fault> {
    let object = Object::read(text)?;
    object.no_duplicate()?;
    let kind = object.needed_text(Field::Type, usize::MAX)?;
    Ok(match &*kind {
        "connected" => ServerMessage::Connected(Box::new(connected(&object)?)),
        "subscribed" => ServerMessage::Subscribed(Box::new(Subscribed {
            id: object.id()?,
            channel: shared(&object, Field::Channel)?,
            position: position(&object)?,
            recovered: object.flag(Field::Recovered)?,
            publications: publications(&object)?,
            more: object.flag(Field::More)?.unwrap_or(false),
        })),
        "unsubscribed" => ServerMessage::Unsubscribed(Box::new(Unsubscribed {
            id: object.id()?,
            channel: shared(&object, Field::Channel)?,
            code: object.needed_text(Field::Code, usize::MAX)?.into(),
            message: boxed(&object, Field::Message)?,
            rule: boxed(&object, Field::Rule)?,
        })),
        "published" => ServerMessage::Published {
            id: object.id()?,
            position: position(&object)?,
            duplicate: object.flag(Field::Duplicate)?.unwrap_or(false),
        },
        "history" => ServerMessage::History(Box::new(History {
            id: object.id()?,
            channel: shared(&object, Field::Channel)?,
            top: position(&object)?,
            publications: publications(&object)?,
            more: object.flag(Field::More)?.unwrap_or(false),
            gap: object.flag(Field::Gap)?.unwrap_or(false),
            reset: object.flag(Field::Reset)?.unwrap_or(false),
        })),
        "presence" => ServerMessage::Presence(Box::new(Presence {
            id: object.id()?,
            channel: shared(&object, Field::Channel)?,
            seq: object.needed_number(Field::Seq, NUMBER_MAX)?,
            count: object.needed_number(Field::Count, NUMBER_MAX)?,
            entries: object.objects(Field::Entries, usize::MAX, entry)?,
        })),
        "result" => ServerMessage::Result {
            id: object.id()?,
            data: json(&object, Field::Data),
            expires_ms: object.number(Field::Expires, 0, NUMBER_MAX)?,
        },
        "error" => ServerMessage::Error(Box::new(error(&object)?)),
        "message" => ServerMessage::Message {
            channel: shared(&object, Field::Channel)?,
            epoch: object.text(Field::Epoch, usize::MAX)?.map(Arc::from),
            publication: Box::new(publication(&object)?),
        },
        "signal" => ServerMessage::Signal(Box::new(Signal {
            channel: shared(&object, Field::Channel)?,
            event: object.needed_text(Field::Event, usize::MAX)?.into(),
            data: json(&object, Field::Data).unwrap_or(Bytes::from_static(b"null")),
            from: from(&object)?.unwrap_or_default(),
        })),
        "presence_update" if object.get(Field::Count).is_some() => ServerMessage::PresenceCount {
            channel: shared(&object, Field::Channel)?,
            count: object.needed_number(Field::Count, NUMBER_MAX)?,
            seq: object.needed_number(Field::Seq, NUMBER_MAX)?,
        },
        "join" => change(&object, PresenceKind::Join)?,
        "leave" => change(&object, PresenceKind::Leave)?,
        "presence_update" => change(&object, PresenceKind::Update)?,
        "gap" => ServerMessage::Gap {
            channel: shared(&object, Field::Channel)?,
            position: position(&object)?,
            reset: object.flag(Field::Reset)?.unwrap_or(false),
        },
        "ticket" => ServerMessage::Ticket { ticket: object.needed_text(Field::Ticket, usize::MAX)?.into() },
        "token_expiring" => {
            ServerMessage::TokenExpiring { expires_ms: object.needed_number(Field::Expires, NUMBER_MAX)? }
        }
        "ping" => ServerMessage::Ping,
        "disconnect" => ServerMessage::Disconnect {
            code: object.needed_number(Field::Code, u64::from(u16::MAX))? as u16,
            reason: object.needed_text(Field::Reason, usize::MAX)?.into(),
            retry: object.flag(Field::Retry)?.unwrap_or(true),
            delay_ms: object.number(Field::Delay, 0, NUMBER_MAX)?.unwrap_or(0),
        },
        _ => ServerMessage::Unknown { kind: kind.into() },
    })
}

fn connected(object: &Object<'_>) -> Result<Connected, Fault> {
    let limits = match object.object(Field::Limits)? {
        None => ServerLimits::default(),
        Some(limits) => ServerLimits {
            message_bytes: limits.number(Field::MessageBytes, 0, NUMBER_MAX)?,
            subscriptions: limits.number(Field::Subscriptions, 0, NUMBER_MAX)?,
            presence_bytes: limits.number(Field::PresenceBytes, 0, NUMBER_MAX)?,
            idempotency_keys_bytes: limits.number(Field::IdempotencyKeysBytes, 0, NUMBER_MAX)?,
            idempotency_keys_ttl_ms: limits.number(Field::IdempotencyKeysTtl, 0, NUMBER_MAX)?,
        },
    };
    let mut features = Vec::new();
    for raw in object.items(Field::Features, usize::MAX)?.map_or(Vec::new(), |items| items.list) {
        // A feature that is no text is skipped as an unknown one.
        if let Ok(feature) = serde_json::from_str::<Box<str>>(raw) {
            features.push(feature);
        }
    }
    Ok(Connected {
        id: object.id()?,
        client: shared(object, Field::Client)?,
        user: object.text(Field::User, usize::MAX)?.map(Arc::from),
        session_resumed: object.flag(Field::SessionResumed)?.unwrap_or(false),
        ticket: boxed(object, Field::Ticket)?,
        expires_ms: object.number(Field::Expires, 0, NUMBER_MAX)?,
        ping_ms: object.needed_number(Field::Ping, NUMBER_MAX)?,
        protocol: boxed(object, Field::Protocol)?.unwrap_or_default(),
        features,
        limits,
    })
}

pub(super) fn error(object: &Object<'_>) -> Result<ErrorReply, Fault> {
    Ok(ErrorReply {
        id: object.id()?,
        code: object.needed_text(Field::Code, usize::MAX)?.into(),
        message: boxed(object, Field::Message)?.unwrap_or_default(),
        retryable: object.flag(Field::Retryable)?.unwrap_or(false),
        retry_after_ms: object.number(Field::RetryAfter, 0, NUMBER_MAX)?,
        channel: object.text(Field::Channel, usize::MAX)?.map(Arc::from),
        rule: boxed(object, Field::Rule)?,
    })
}

fn publications(object: &Object<'_>) -> Result<Vec<Publication>, Fault> {
    Ok(object.objects(Field::Publications, usize::MAX, publication)?.unwrap_or_default())
}

fn publication(object: &Object<'_>) -> Result<Publication, Fault> {
    let data = match (json(object, Field::Data), object.base64(Field::Data64, usize::MAX)?) {
        (Some(json), _) => Data::Json(json),
        (None, Some(bytes)) => Data::Binary(bytes),
        (None, None) => return Err(Fault::bad(Field::Data, "is missing, and `data64` too")),
    };
    Ok(Publication {
        offset: object.needed_number(Field::Offset, NUMBER_MAX)?,
        data,
        event: boxed(object, Field::Event)?,
        idempotency_key: boxed(object, Field::IdempotencyKey)?,
        from: from(object)?,
        ts_ms: object.needed_number(Field::Ts, NUMBER_MAX)?,
    })
}

fn from(object: &Object<'_>) -> Result<Option<From>, Fault> {
    let Some(from) = object.object(Field::From)? else { return Ok(None) };
    let read = |field| from.text(field, usize::MAX).map(|text| text.map(Arc::from));
    Ok(Some(From { client: read(Field::Client)?, user: read(Field::User)? }))
}

fn change(object: &Object<'_>, kind: PresenceKind) -> Result<ServerMessage, Fault> {
    Ok(ServerMessage::PresenceChange(Box::new(PresenceChange {
        channel: shared(object, Field::Channel)?,
        kind,
        entry: entry(object)?,
        seq: object.needed_number(Field::Seq, NUMBER_MAX)?,
    })))
}

fn entry(object: &Object<'_>) -> Result<PresenceEntry, Fault> {
    Ok(PresenceEntry {
        client: shared(object, Field::Client)?,
        user: object.text(Field::User, usize::MAX)?.map(Arc::from),
        info: json(object, Field::Info),
        data: json(object, Field::Data),
    })
}

fn position(object: &Object<'_>) -> Result<Position, Fault> {
    let epoch = shared(object, Field::Epoch)?;
    Ok(Position { epoch, offset: object.needed_number(Field::Offset, NUMBER_MAX)? })
}

fn shared(object: &Object<'_>, field: Field) -> Result<Arc<str>, Fault> {
    object.needed_text(field, usize::MAX).map(Arc::from)
}

fn boxed(object: &Object<'_>, field: Field) -> Result<Option<Box<str>>, Fault> {
    Ok(object.text(field, usize::MAX)?.map(Cow::into_owned).map(String::into_boxed_str))
}

/// A payload as it came; the server has judged its depth.
fn json(object: &Object<'_>, field: Field) -> Option<Bytes> {
    object.raw(field).map(|raw| Bytes::copy_from_slice(raw.as_bytes()))
}
