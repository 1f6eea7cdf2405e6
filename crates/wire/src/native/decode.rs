//! Text to commands: the server's ear.

use super::object::{Fault, Field, Items, Object};
use super::{
    COMMANDS_MAX, Decoded, EPOCH_BYTES_MAX, HISTORY_LIMIT_DEFAULT, HISTORY_LIMIT_MAX, Limits, METHOD_BYTES_MAX,
};
use crate::json;
use bytes::Bytes;
use fanfare_hub::{
    Batch, ChannelName, Command, Data, EVENT_BYTES_MAX, Epoch, ErrorCode, HistoryFrom, HistoryQuery,
    IDEMPOTENCY_KEY_BYTES_MAX, NUMBER_MAX, PAGE_ID_BYTES_MAX, PageId, Position, Publish, Request, RequestId, Signal,
    Slow, SubOptions,
};

/// The payload of a signal or call that came without.
const NULL: Bytes = Bytes::from_static(b"null");

/// Takes one message, a command or an array of at most [`COMMANDS_MAX`], and appends the result to `out`.
///
/// An array that is too long, or not JSON, is one invalid command: nothing of it is done. A bad element of an array
/// spoils only itself.
pub fn decode(text: &str, limits: &Limits, out: &mut Vec<Decoded>) {
    // An idle client sends only this.
    if text == r#"{"type":"pong"}"# {
        return out.push(Decoded::Request(Request { id: None, command: Command::Pong }));
    }
    let text = json::unmarked(text);
    if !text.trim_ascii_start().starts_with('[') {
        return out.push(element(text, limits));
    }
    match Items::read(text, COMMANDS_MAX) {
        Ok(items) if items.count <= COMMANDS_MAX => {
            out.extend(items.list.into_iter().map(|text| element(text, limits)))
        }
        Ok(Items { count, .. }) => {
            let problem = format!("an array of {count} commands exceeds the limit of {COMMANDS_MAX}");
            out.push(invalid(None, Fault::whole(ErrorCode::TooLarge, problem)));
        }
        Err(error) => {
            out.push(invalid(None, Fault::whole(ErrorCode::BadRequest, format!("the message is not JSON: {error}"))));
        }
    }
}

fn element(text: &str, limits: &Limits) -> Decoded {
    let object = match Object::read(text) {
        Ok(object) => object,
        Err(fault) => return invalid(None, fault),
    };
    let id = match object.id() {
        Ok(id) => id,
        Err(fault) => return invalid(None, fault),
    };
    match command(&object, id.clone(), limits) {
        Ok(decoded) => decoded,
        Err(fault) => {
            let mut error = fault.into_error();
            error.channel = object.channel().ok();
            Decoded::Request(Request { id, command: Command::Invalid(error) })
        }
    }
}

fn invalid(id: Option<RequestId>, fault: Fault) -> Decoded {
    Decoded::Request(Request { id, command: Command::Invalid(fault.into_error()) })
}

fn command(object: &Object<'_>, id: Option<RequestId>, limits: &Limits) -> Result<Decoded, Fault> {
    object.no_duplicate()?;
    let kind = object.needed_text(Field::Type, usize::MAX)?;
    let data_max = limits.message_bytes_max;
    let options = |object: &Object<'_>| sub_options(object, limits);
    let command = match &*kind {
        "connect" => {
            let subscribe = object.objects(Field::Subscribe, limits.subscriptions_max, options)?.unwrap_or_default();
            let token = object.text(Field::Token, usize::MAX)?.map(Into::into);
            let ticket = object.text(Field::Ticket, usize::MAX)?.map(Into::into);
            let page = page(object)?;
            let ack = object.number(Field::Ack, 0, NUMBER_MAX)?;
            return Ok(Decoded::Connect { id, token, ticket, page, ack, subscribe });
        }
        "refresh" => {
            let token = object.needed_text(Field::Token, usize::MAX)?.into();
            Command::Refresh { token }
        }
        "rpc" => {
            let method = object.needed_label(Field::Method, METHOD_BYTES_MAX)?;
            let data = object.payload(Field::Data, data_max)?.unwrap_or(NULL);
            Command::Rpc { method, data }
        }
        "subscribe" => match object.objects(Field::Channels, limits.subscriptions_max, options)? {
            None => Command::Subscribe { subs: vec![options(object)?], many: false },
            Some(_) if object.get(Field::Channel).is_some() => {
                return Err(Fault::bad(
                    Field::Channels,
                    "and `channel` are in one `subscribe`: only one of them is allowed",
                ));
            }
            Some(subs) => Command::Subscribe { subs, many: true },
        },
        "unsubscribe" => Command::Unsubscribe { channel: object.channel()? },
        "publish" => Command::Publish(Box::new(publish(object, data_max)?)),
        "history" => Command::History { channel: object.channel()?, query: history(object)? },
        "presence" => Command::Presence { channel: object.channel()? },
        "signal" => Command::Signal(Box::new(signal(object, data_max)?)),
        "presence_set" => {
            let channel = object.channel()?;
            let data = object.payload(Field::Data, data_max)?.unwrap_or(NULL);
            let person = crate::chat::person_of(&data); // whom chats in the channel see
            Command::PresenceSet { channel, data, person }
        }
        "presence_clear" => Command::PresenceClear { channel: object.channel()? },
        "disconnect" => Command::Disconnect,
        "pong" => Command::Pong,
        _ => {
            let shown = &kind[..kind.floor_char_boundary(40)];
            return Err(Fault::whole(ErrorCode::UnknownCommand, format!("there is no command of type {shown:?}")));
        }
    };
    Ok(Decoded::Request(Request { id, command }))
}

fn page(object: &Object<'_>) -> Result<Option<PageId>, Fault> {
    let Some(text) = object.text(Field::Page, usize::MAX)? else { return Ok(None) };
    let of_another_length = || {
        let problem = format!("must be a text of 1 to {PAGE_ID_BYTES_MAX} bytes, not of {}", text.len());
        Fault::bad(Field::Page, problem)
    };
    PageId::new(&text).map(Some).ok_or_else(of_another_length)
}

pub(super) fn sub_options(object: &Object<'_>, limits: &Limits) -> Result<SubOptions, Fault> {
    object.nothing_reserved()?;
    let channel = object.channel()?;
    let since = position(object, Field::Since)?;
    let recent = object.number(Field::Recent, 0, u64::from(u32::MAX))?.map(|recent| recent as u32);
    let presence = object.flag(Field::Presence)?.unwrap_or(false);
    let signals = object.flag(Field::Signals)?.unwrap_or(true);
    let (batch, slow) = (batch(object, limits)?, slow(object)?);
    Ok(SubOptions { since, recent, presence, signals, batch, slow, ..SubOptions::new(channel) })
}

fn batch(object: &Object<'_>, limits: &Limits) -> Result<Option<Batch>, Fault> {
    let Some(batch) = object.object(Field::Batch)? else { return Ok(None) };
    let within = |fault: Fault| fault.within(Field::Batch, None);
    // As far as the hub's numbers reach, which no configuration changes.
    let max = |limit: u64| limit.min(u64::from(u32::MAX));
    let size_max = max(limits.batch_size_max as u64);
    let size = batch.number(Field::Size, 1, size_max).map_err(within)?.unwrap_or(size_max);
    let delay = batch.needed_number(Field::Delay, max(limits.batch_delay_ms_max)).map_err(within)?;
    Ok(Some(Batch { size: size as u32, delay_ms: delay as u32 }))
}

fn slow(object: &Object<'_>) -> Result<Option<Slow>, Fault> {
    match object.text(Field::Slow, usize::MAX)?.as_deref() {
        None => Ok(None),
        Some(word) if let Some(slow) = Slow::ALL.into_iter().find(|slow| slow.word() == word) => Ok(Some(slow)),
        Some(other) => {
            let shown = &other[..other.floor_char_boundary(40)];
            Err(Fault::bad(Field::Slow, format!("must be \"pull\", \"latest\" or \"disconnect\", not {shown:?}")))
        }
    }
}

fn position(object: &Object<'_>, field: Field) -> Result<Option<Position>, Fault> {
    let Some(position) = object.object(field)? else { return Ok(None) };
    let within = |fault: Fault| fault.within(field, None);
    let epoch = position.needed_text(Field::Epoch, EPOCH_BYTES_MAX).map_err(within)?;
    let offset = position.needed_number(Field::Offset, NUMBER_MAX).map_err(within)?;
    Ok(Some(Position { epoch: Epoch::from_wire(&epoch), offset }))
}

fn publish(object: &Object<'_>, data_max: usize) -> Result<Publish, Fault> {
    let channel = object.channel()?;
    Ok(content(object, data_max)?.to(channel))
}

/// The fields of a publication, for each command that has them.
#[derive(Clone)]
pub(super) struct Content {
    data: Data,
    event: Option<Box<str>>,
    pub(super) idempotency_key: Option<Box<str>>,
    echo: bool,
}

impl Content {
    pub(super) fn to(self, channel: ChannelName) -> Publish {
        let Content { data, event, idempotency_key, echo } = self;
        Publish { channel, data, event, idempotency_key, echo }
    }
}

pub(super) fn content(object: &Object<'_>, data_max: usize) -> Result<Content, Fault> {
    if object.get(Field::Key).is_some() {
        return Err(Fault::bad(Field::Key, "is reserved; the idempotency key is `idempotency_key`"));
    }
    object.nothing_reserved()?;
    let data = match (object.payload(Field::Data, data_max)?, object.base64(Field::Data64, data_max)?) {
        (Some(json), None) => Data::Json(json),
        (None, Some(bytes)) => Data::Binary(bytes),
        (None, None) => {
            return Err(Fault::bad(Field::Data, "is missing, and `data64` too: one of them is the payload"));
        }
        (Some(_), Some(_)) => {
            return Err(Fault::bad(Field::Data, "and `data64` are in one `publish`: only one of them is allowed"));
        }
    };
    let event = object.label(Field::Event, EVENT_BYTES_MAX)?;
    let idempotency_key: Option<Box<str>> =
        object.text(Field::IdempotencyKey, IDEMPOTENCY_KEY_BYTES_MAX)?.map(Into::into);
    if idempotency_key.as_deref() == Some("") {
        return Err(Fault::bad(
            Field::IdempotencyKey,
            format!("of 0 bytes is too short: it must have 1 to {IDEMPOTENCY_KEY_BYTES_MAX}"),
        ));
    }
    let echo = object.flag(Field::Echo)?.unwrap_or(true);
    Ok(Content { data, event, idempotency_key, echo })
}

pub(super) fn history(object: &Object<'_>) -> Result<HistoryQuery, Fault> {
    object.nothing_reserved()?;
    let from = match (position(object, Field::Since)?, position(object, Field::Before)?) {
        (None, None) => HistoryFrom::Newest,
        (Some(since), None) => HistoryFrom::Since(since),
        (None, Some(before)) => HistoryFrom::Before(before),
        (Some(_), Some(_)) => {
            return Err(Fault::bad(Field::Since, "and `before` are in one `history`: only one of them is allowed"));
        }
    };
    let limit = object.number(Field::Limit, 1, u64::from(HISTORY_LIMIT_MAX))?;
    Ok(HistoryQuery { from, limit: limit.map_or(HISTORY_LIMIT_DEFAULT, |limit| limit as u32) })
}

pub(super) fn signal(object: &Object<'_>, data_max: usize) -> Result<Signal, Fault> {
    let channel = object.channel()?;
    let event = object.needed_label(Field::Event, EVENT_BYTES_MAX)?;
    let data = object.payload(Field::Data, data_max)?.unwrap_or(NULL);
    let to = match object.text(Field::To, usize::MAX)? {
        None => None,
        Some(text) => Some(text.parse().map_err(|()| {
            let shown = &text[..text.floor_char_boundary(40)];
            Fault::bad(Field::To, format!("must be a client's id as the server gave it, not {shown:?}"))
        })?),
    };
    Ok(Signal { channel, event, data, to })
}
