//! Bodies to commands.

use super::{
    AUDIENCE_CLIENTS_MAX, ApiCommand, ApiRequest, BANS_LIMIT_MAX, BATCH_COMMANDS_MAX, BROADCAST_CHANNELS_MAX,
    CHANNELS_LIMIT_MAX, Caller, LIMIT_DEFAULT, LISTED_LIMIT_MAX, REASONS, SPREAD_MS_DEFAULT, STATUS_USERS_MAX,
    USER_BYTES_MAX,
};
use crate::json;
use crate::native::Limits;
use crate::native::decode::{content, history, signal, sub_options};
use crate::native::object::{Fault, Field, Items, Object, Shown};
use crate::socketio::{CHANNEL_PREFIX, MAIN_NAMESPACE, RESERVED_EVENTS, put_text};
use fanfare_hub::{
    Among, AppCommand, Audience, ChannelName, ClientId, ConnectionCursor, Data, Disconnect, Error, ErrorCode,
    IDEMPOTENCY_KEY_BYTES_MAX, InvalidName, LABEL_BYTES_MAX, Pattern, Publish, RECONNECT_SPREAD_MS_MAX, ROOM_BYTES_MAX,
    Room, UserId, Whom, check_label,
};

/// Takes the body of one request.
///
/// # Errors
/// A fault of the body as a whole: where it stops being JSON (line, column, byte), or which field is at fault.
pub fn decode(kind: ApiCommand, body: &[u8], caller: &Caller<'_>, limits: &Limits) -> Result<ApiRequest, Error> {
    let mut text = text(body)?;
    if text.trim_ascii().is_empty() {
        text = match kind {
            kind if kind.may_be_empty() => "{}",
            _ => return Err(Error::new(ErrorCode::BadRequest, "the body is empty: it must be a JSON object")),
        };
    }
    let object = Object::parse(text).map_err(|error| syntax(text, &error))?;
    let asked = match kind {
        ApiCommand::Batch => batch(&object, caller, limits),
        ApiCommand::Broadcast => broadcast(&object, caller, limits),
        _ => command(kind, &object, caller, limits).map(ApiRequest::One),
    };
    asked.map_err(|fault| fault_error(fault, &object))
}

fn text(body: &[u8]) -> Result<&str, Error> {
    std::str::from_utf8(body).map(json::unmarked).map_err(|error| {
        let at = error.valid_up_to();
        let line_start = body[..at].iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
        let line = 1 + body[..at].iter().filter(|&&byte| byte == b'\n').count();
        let place = format!("line {line} column {} (byte {at})", at - line_start + 1);
        Error::new(ErrorCode::BadRequest, format!("the body is not UTF-8 at {place}"))
    })
}

/// serde_json gives line and column, both from 1, the column in bytes; a program finds the place by its offset.
fn syntax(text: &str, error: &serde_json::Error) -> Error {
    let what = if error.is_data() { "is not an object" } else { "is not JSON" };
    let before: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    let offset = (before + error.column().saturating_sub(1)).min(text.len());
    Error::new(ErrorCode::BadRequest, format!("the body {what}: {error} (byte {offset})"))
}

fn fault_error(fault: Fault, object: &Object<'_>) -> Error {
    let mut error = fault.into_error();
    error.channel = object.channel().ok();
    error
}

fn command(kind: ApiCommand, object: &Object<'_>, caller: &Caller<'_>, limits: &Limits) -> Result<AppCommand, Fault> {
    object.no_duplicate()?;
    Ok(match kind {
        ApiCommand::Publish => {
            let channel = object.channel()?;
            let mut content = content(object, limits.message_bytes_max)?;
            content.idempotency_key = key(content.idempotency_key, caller.idempotency_key)?;
            publish(content.to(channel), audience(object)?, caller)
        }
        ApiCommand::Emit => emit(object, caller, limits)?,
        ApiCommand::Signal => AppCommand::Signal(Box::new(signal(object, limits.message_bytes_max)?)),
        ApiCommand::History => AppCommand::History { channel: object.channel()?, query: history(object)? },
        ApiCommand::HistoryRemove => AppCommand::HistoryRemove { channel: object.channel()? },
        ApiCommand::Presence => AppCommand::Presence { channel: object.channel()? },
        ApiCommand::Channels => AppCommand::Channels {
            pattern: pattern(object)?,
            after: object.text(Field::After, usize::MAX)?.map(|name| named(Field::After, &name)).transpose()?,
            limit: limit(object, CHANNELS_LIMIT_MAX)?,
        },
        ApiCommand::Subscribe => {
            AppCommand::Subscribe { whom: whom(object)?, options: Box::new(sub_options(object, limits)?) }
        }
        ApiCommand::Unsubscribe => AppCommand::Unsubscribe { whom: whom(object)?, channel: object.channel()? },
        ApiCommand::Disconnect => disconnect(object)?,
        ApiCommand::Reconnect => reconnect(object)?,
        ApiCommand::Connections => AppCommand::Connections {
            among: among(object)?,
            after: object.text(Field::Cursor, usize::MAX)?.map(|text| cursor(&text)).transpose()?,
            limit: limit(object, LISTED_LIMIT_MAX)?,
        },
        ApiCommand::Users => AppCommand::Users {
            channel: object.get(Field::Channel).is_some().then(|| object.channel()).transpose()?,
            after: object.text(Field::Cursor, usize::MAX)?.map(|user| UserId((&*user).into())),
            limit: limit(object, LISTED_LIMIT_MAX)?,
        },
        ApiCommand::UserStatus => user_status(object)?,
        ApiCommand::Unban => AppCommand::Unban { whom: one_of_two(object)? },
        ApiCommand::Bans => {
            let is_of_one = object.get(Field::Client).or(object.get(Field::User)).is_some();
            let whom = is_of_one.then(|| one_of_two(object)).transpose()?;
            AppCommand::Bans { whom, limit: limit(object, BANS_LIMIT_MAX)? }
        }
        ApiCommand::Info => AppCommand::Info,
        ApiCommand::Batch | ApiCommand::Broadcast => {
            let problem = format!("`{}` is not allowed in a `batch`", kind.word());
            return Err(Fault::whole(ErrorCode::BadRequest, problem));
        }
    })
}

fn publish(publish: Publish, audience: Option<Box<Audience>>, caller: &Caller<'_>) -> AppCommand {
    AppCommand::Publish { publish: Box::new(publish), audience, by: Some(caller.name.clone()) }
}

/// An event for the sockets of a Socket.IO namespace: a publication of its channel.
fn emit(object: &Object<'_>, caller: &Caller<'_>, limits: &Limits) -> Result<AppCommand, Fault> {
    object.nothing_reserved()?;
    let namespace = object.text(Field::Namespace, usize::MAX)?.unwrap_or(MAIN_NAMESPACE.into());
    let channel = Some(&*namespace).filter(|name| name.starts_with('/'));
    let channel = channel.and_then(|name| ChannelName::reserved(&format!("{CHANNEL_PREFIX}{name}")).ok());
    let problem = || format!("must be the name of a namespace, like \"/\" or \"/admin\", not {}", shown(&namespace));
    let channel = channel.ok_or_else(|| Fault::bad(Field::Namespace, problem()))?;
    let event = object.needed_text(Field::Event, limits.message_bytes_max)?;
    if RESERVED_EVENTS.contains(&&*event) {
        return Err(Fault::bad(Field::Event, format!("{} is raised by Socket.IO itself", shown(&event))));
    }
    let mut data = b"[".to_vec();
    put_text(&mut data, &event);
    for raw in object.items(Field::Args, usize::MAX)?.into_iter().flat_map(|items| items.list) {
        data.push(b',');
        data.extend_from_slice(raw.as_bytes());
    }
    data.push(b']');
    let max = limits.message_bytes_max;
    if data.len() > max {
        return Err(Fault::too_large(
            Field::Args,
            format!("and `event` of {} bytes exceed the limit of {max}", data.len()),
        ));
    }
    let data = json::payload(&data).map_err(|error| Fault::bad(Field::Args, error.to_string()))?.into_owned();
    let mut rooms = rooms(object, Field::Rooms)?;
    if let Some(name) = object.text(Field::Room, ROOM_BYTES_MAX)? {
        rooms.extend(Room::new(&name));
    }
    let audience = Audience { rooms, except_rooms: self::rooms(object, Field::Except)?, ..Audience::default() };
    let key = object.text(Field::IdempotencyKey, IDEMPOTENCY_KEY_BYTES_MAX)?.map(Box::from);
    let idempotency_key = key_of(key)?;
    let idempotency_key = self::key(idempotency_key, caller.idempotency_key)?;
    let content = Publish { channel, data: Data::Json(data.into()), event: None, idempotency_key, echo: true };
    let audience = Some(Box::new(audience)).filter(|audience| **audience != Audience::default());
    Ok(publish(content, audience, caller))
}

/// The names of rooms in a field that may be absent. An empty list would be for all: so it is refused.
fn rooms(object: &Object<'_>, field: Field) -> Result<Vec<Room>, Fault> {
    if object.get(field).is_none() {
        return Ok(Vec::new());
    }
    let one = |(index, raw): (usize, &str)| {
        let room = texts_item(raw).and_then(|name| {
            let too_long = format!("of {} bytes exceeds the limit of {ROOM_BYTES_MAX}", name.len());
            Room::new(&name).ok_or(Fault::whole(ErrorCode::BadRequest, too_long))
        });
        room.map_err(|fault| fault.within(field, Some(index)))
    };
    items(object, field, AUDIENCE_CLIENTS_MAX)?.into_iter().enumerate().map(one).collect()
}

fn key_of(key: Option<Box<str>>) -> Result<Option<Box<str>>, Fault> {
    if key.as_deref() == Some("") {
        let problem = format!("of 0 bytes is too short: it must have 1 to {IDEMPOTENCY_KEY_BYTES_MAX}");
        return Err(Fault::bad(Field::IdempotencyKey, problem));
    }
    Ok(key)
}

fn batch(object: &Object<'_>, caller: &Caller<'_>, limits: &Limits) -> Result<ApiRequest, Fault> {
    object.no_duplicate()?;
    if caller.idempotency_key.is_some() {
        let problem =
            "the header `Idempotency-Key` cannot apply to a whole batch: give each command its own `idempotency_key`";
        return Err(Fault::whole(ErrorCode::BadRequest, problem));
    }
    let items = items(object, Field::Commands, BATCH_COMMANDS_MAX)?;
    let one = |text: &str| {
        let object = Object::read(text).map_err(Fault::into_error)?;
        let decoded = object.needed_text(Field::Type, usize::MAX).and_then(|word| match ApiCommand::find(&word) {
            Some(kind) => command(kind, &object, caller, limits),
            None => Err(Fault::whole(ErrorCode::UnknownCommand, format!("there is no command {}", shown(&word)))),
        });
        decoded.map_err(|fault| fault_error(fault, &object))
    };
    Ok(ApiRequest::Many(items.into_iter().map(one).collect()))
}

/// The publication is read once and shared: only names differ.
fn broadcast(object: &Object<'_>, caller: &Caller<'_>, limits: &Limits) -> Result<ApiRequest, Fault> {
    object.no_duplicate()?;
    let items = items(object, Field::Channels, BROADCAST_CHANNELS_MAX)?;
    let mut content = content(object, limits.message_bytes_max)?;
    content.idempotency_key = key(content.idempotency_key, caller.idempotency_key)?;
    let audience = audience(object)?;
    // An entry that is no text makes the whole list invalid. A text that is no name is invalid alone.
    let within = |index| move |fault: Fault| fault.within(Field::Channels, Some(index));
    let one = |(index, raw): (usize, &str)| {
        let name = texts_item(raw).map_err(within(index))?;
        let channel = channel_name(&name).map_err(|fault| within(index)(fault).into_error());
        Ok(channel.map(|channel| publish(content.clone().to(channel), audience.clone(), caller)))
    };
    Ok(ApiRequest::Many(items.into_iter().enumerate().map(one).collect::<Result<_, Fault>>()?))
}

/// The raw items of an array that must be there and hold at least one.
fn items<'a>(object: &Object<'a>, field: Field, count_max: usize) -> Result<Vec<&'a str>, Fault> {
    let Items { list, count } = object.items(field, count_max)?.ok_or_else(|| Fault::missing(field))?;
    match count {
        0 => Err(Fault::bad(field, "is empty: it must hold at least one")),
        _ if count > count_max => {
            Err(Fault::too_large(field, format!("of {count} entries exceeds the limit of {count_max}")))
        }
        _ => Ok(list),
    }
}

/// One text of an array.
fn texts_item(raw: &str) -> Result<String, Fault> {
    serde_json::from_str(raw).map_err(|error| {
        let problem = match raw.starts_with('"') {
            true => format!("is not Unicode text: {error}"),
            false => format!("must be a text, not {}", Shown(raw)),
        };
        Fault::whole(ErrorCode::BadRequest, problem)
    })
}

fn channel_name(name: &str) -> Result<ChannelName, Fault> {
    ChannelName::new(name).map_err(|why| {
        let code = match why {
            InvalidName::TooLong { .. } => ErrorCode::TooLarge,
            _ => ErrorCode::BadRequest,
        };
        Fault::whole(code, format!("is not a channel name: {why}"))
    })
}

fn named(field: Field, name: &str) -> Result<ChannelName, Fault> {
    channel_name(name).map_err(|fault| fault.within(field, None))
}

/// The idempotency key of the body and that beside it: the same where both stand.
fn key(in_body: Option<Box<str>>, beside: Option<&str>) -> Result<Option<Box<str>>, Fault> {
    let Some(beside) = beside else { return Ok(in_body) };
    if !(1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&beside.len()) {
        let (len, code) = (beside.len(), if beside.is_empty() { ErrorCode::BadRequest } else { ErrorCode::TooLarge });
        let problem =
            format!("the header `Idempotency-Key` has {len} bytes: it must have 1 to {IDEMPOTENCY_KEY_BYTES_MAX}");
        return Err(Fault::whole(code, problem));
    }
    match in_body {
        Some(key) if *key != *beside => Err(Fault::bad(
            Field::IdempotencyKey,
            format!("is {key:?}, and the header `Idempotency-Key` is {beside:?}: they must be equal"),
        )),
        _ => Ok(Some(beside.into())),
    }
}

fn audience(object: &Object<'_>) -> Result<Option<Box<Audience>>, Fault> {
    let Some(audience) = object.object(Field::Audience)? else { return Ok(None) };
    let clients = |field| -> Result<Vec<ClientId>, Fault> {
        if audience.get(field).is_none() {
            return Ok(Vec::new());
        }
        // An empty `only` would be for nobody, and the hub takes it as for all: so it is refused.
        let items = items(&audience, field, AUDIENCE_CLIENTS_MAX)?;
        let client =
            |(index, raw)| texts_item(raw).and_then(|id| client(&id)).map_err(|f| f.within(field, Some(index)));
        items.into_iter().enumerate().map(client).collect()
    };
    let both = clients(Field::Only)
        .and_then(|only| Ok(Audience { only, except: clients(Field::Except)?, ..Audience::default() }));
    let audience = both.map_err(|fault| fault.within(Field::Audience, None))?;
    Ok(Some(Box::new(audience)).filter(|audience| **audience != Audience::default()))
}

fn client(text: &str) -> Result<ClientId, Fault> {
    let problem = |()| format!("must be a client's id as the server gave it, not {}", shown(text));
    text.parse().map_err(|error| Fault::whole(ErrorCode::BadRequest, problem(error)))
}

/// The user or the client that a ban is of.
fn one_of_two(object: &Object<'_>) -> Result<Whom, Fault> {
    match (client_field(object)?, user_field(object)?) {
        (Some(client), None) => Ok(Whom::Client(client)),
        (None, Some(user)) => Ok(Whom::User(user)),
        (None, None) => Err(Fault::bad(Field::Client, "is missing, and `user` too: one of them says whose sessions")),
        (Some(_), Some(_)) => {
            Err(Fault::bad(Field::Client, "and `user` are in one command: only one of them is allowed"))
        }
    }
}

fn whom(object: &Object<'_>) -> Result<Whom, Fault> {
    match (client_field(object)?, user_field(object)?, label_field(object)?) {
        (Some(client), None, None) => Ok(Whom::Client(client)),
        (None, Some(user), None) => Ok(Whom::User(user)),
        (None, None, Some(label)) => Ok(Whom::Label(label)),
        (None, None, None) => {
            Err(Fault::bad(Field::Client, "is missing, and `user` and `label` too: one of them says whose sessions"))
        }
        _ => Err(Fault::whole(
            ErrorCode::BadRequest,
            "`client`, `user` and `label`: only one of them is allowed in a command",
        )),
    }
}

fn client_field(object: &Object<'_>) -> Result<Option<ClientId>, Fault> {
    let id = object.text(Field::Client, usize::MAX)?;
    id.map(|id| client(&id).map_err(|fault| fault.within(Field::Client, None))).transpose()
}

fn user_field(object: &Object<'_>) -> Result<Option<UserId>, Fault> {
    object
        .text(Field::User, USER_BYTES_MAX)?
        .map(|user| named_user(&user).map_err(|it| it.within(Field::User, None)))
        .transpose()
}

fn named_user(user: &str) -> Result<UserId, Fault> {
    let fault = |code, problem| Err(Fault::whole(code, problem));
    match user.len() {
        0 => fault(ErrorCode::BadRequest, format!("of 0 bytes is too short: it must have 1 to {USER_BYTES_MAX}")),
        len if len > USER_BYTES_MAX => {
            fault(ErrorCode::TooLarge, format!("of {len} bytes exceeds the limit of {USER_BYTES_MAX}"))
        }
        _ => Ok(UserId(user.into())),
    }
}

fn label_field(object: &Object<'_>) -> Result<Option<Box<str>>, Fault> {
    let Some(label) = object.text(Field::Label, LABEL_BYTES_MAX)? else { return Ok(None) };
    check_label(&label).map_err(|why| Fault::bad(Field::Label, format!("cannot be one: {why}")))?;
    Ok(Some(label.into()))
}

/// The connections that a list is of: all where nothing is said.
fn among(object: &Object<'_>) -> Result<Among, Fault> {
    let channel = object.get(Field::Channel).is_some().then(|| object.channel()).transpose()?;
    let named = [
        client_field(object)?.map(Among::Client),
        user_field(object)?.map(Among::User),
        label_field(object)?.map(Among::Label),
        channel.map(Among::Channel),
    ];
    let mut named = named.into_iter().flatten();
    match (named.next(), named.next()) {
        (among, None) => Ok(among.unwrap_or(Among::All)),
        _ => Err(Fault::whole(
            ErrorCode::BadRequest,
            "only one of `client`, `user`, `label` and `channel` is allowed in a command",
        )),
    }
}

fn cursor(text: &str) -> Result<ConnectionCursor, Fault> {
    text.parse().map_err(|_| {
        Fault::bad(Field::Cursor, format!("must be a `cursor` as an answer of the server had it, not {}", shown(text)))
    })
}

fn user_status(object: &Object<'_>) -> Result<AppCommand, Fault> {
    let one = |(index, raw)| {
        texts_item(raw).and_then(|user| named_user(&user)).map_err(|fault| fault.within(Field::Users, Some(index)))
    };
    let users = items(object, Field::Users, STATUS_USERS_MAX)?.into_iter().enumerate().map(one);
    Ok(AppCommand::UserStatus { users: users.collect::<Result<_, Fault>>()? })
}

fn reconnect(object: &Object<'_>) -> Result<AppCommand, Fault> {
    let whom = whom(object)?;
    let spread_ms = match object.text(Field::Spread, usize::MAX)? {
        Some(text) => time(Field::Spread, &text)?,
        // One client alone has nobody to be spread with.
        None if matches!(whom, Whom::Client(_)) => 0,
        None => SPREAD_MS_DEFAULT,
    };
    if spread_ms > RECONNECT_SPREAD_MS_MAX {
        return Err(Fault::bad(Field::Spread, "exceeds the limit of \"1h\""));
    }
    Ok(AppCommand::Reconnect { whom, spread_ms })
}

fn reason(object: &Object<'_>) -> Result<Disconnect, Fault> {
    let Some(word) = object.text(Field::Reason, usize::MAX)? else { return Ok(REASONS[0]) };
    REASONS.into_iter().find(|reason| reason.row().word == &*word).ok_or_else(|| {
        let words: Vec<String> = REASONS.iter().map(|reason| format!("\"{reason}\"")).collect();
        Fault::bad(Field::Reason, format!("must be one of {}, not {}", words.join(", "), shown(&word)))
    })
}

fn disconnect(object: &Object<'_>) -> Result<AppCommand, Fault> {
    let (whom, reason) = (whom(object)?, reason(object)?);
    let ban_ms = object.text(Field::Ban, usize::MAX)?.map(|text| time(Field::Ban, &text)).transpose()?;
    if ban_ms.is_some() && matches!(whom, Whom::Label(_)) {
        return Err(Fault::bad(Field::Ban, "is of a `user` or a `client`, not of a `label`"));
    }
    if ban_ms.is_some() && reason.reconnect() {
        let problem = format!("needs a `reason` after which clients do not come back, not \"{reason}\"");
        return Err(Fault::bad(Field::Ban, problem));
    }
    Ok(AppCommand::Disconnect { whom, reason, ban_ms })
}

/// A time in ms; see [`TIME_PATTERN`](super::TIME_PATTERN).
fn time(field: Field, text: &str) -> Result<u64, Fault> {
    let (number, unit) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
    let scale = match unit {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        "d" => Some(86_400_000),
        _ => None,
    };
    let number = Some(number).filter(|number| (1..=6).contains(&number.len()) && !number.starts_with('0'));
    number.and_then(|number| Some(number.parse::<u64>().ok()? * scale?)).ok_or_else(|| {
        let problem = format!(
            "must be a whole number of up to 6 digits and a unit (ms, s, m, h or d), like \"1h\", not {}",
            shown(text)
        );
        Fault::bad(field, problem)
    })
}

fn limit(object: &Object<'_>, max: u32) -> Result<u32, Fault> {
    Ok(object.number(Field::Limit, 1, u64::from(max))?.map_or(LIMIT_DEFAULT, |limit| limit as u32))
}

fn pattern(object: &Object<'_>) -> Result<Option<Pattern>, Fault> {
    let Some(text) = object.text(Field::Match, fanfare_hub::CHANNEL_NAME_BYTES_MAX)? else { return Ok(None) };
    Pattern::new(&text).map(Some).map_err(|why| Fault::bad(Field::Match, format!("is not a pattern: {why}")))
}

/// A text for people, cut where it is long.
fn shown(text: &str) -> String {
    const SHOWN_BYTES_MAX: usize = 40;
    let cut = &text[..text.floor_char_boundary(SHOWN_BYTES_MAX)];
    if cut.len() < text.len() { format!("{cut:?}…") } else { format!("{cut:?}") }
}
