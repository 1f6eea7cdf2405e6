//! Reading one JSON object: its known fields as raw values, then each by its type. A [`Fault`] names the field, the
//! limit and the value found.
//!
//! Unknown fields are skipped, a known one that occurs twice is a fault: two readers could take different ones of them.
//! `null` counts as absent (many languages write their absent values so), except where a payload is asked for.

use crate::json;
use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use fanfare_hub::{ChannelName, Error, ErrorCode, InvalidName, NUMBER_MAX, REQUEST_ID_BYTES_MAX, RequestId};
use serde::Deserializer as _;
use serde::de::{Deserialize, Error as _, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

macro_rules! fields {
    ($($variant:ident $name:literal,)*) => {
        /// Every field name of the protocol, both directions.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Field { $($variant,)* }

        impl Field {
            const COUNT: usize = [$($name),*].len();

            pub(super) fn name(self) -> &'static str {
                match self { $(Field::$variant => $name,)* }
            }

            fn find(name: &str) -> Option<Field> {
                match name { $($name => Some(Field::$variant),)* _ => None }
            }
        }
    };
}

fields! {
    Ack "ack", After "after", Args "args", Attempt "attempt", Audience "audience", Ban "ban", Batch "batch", Before "before", Channel "channel", Channels "channels",
    Client "client", Code "code", Commands "commands", Count "count", Cursor "cursor", Data "data", Data64 "data64", Delay "delay",
    Duplicate "duplicate", Echo "echo", Entries "entries", Epoch "epoch", Event "event", Except "except",
    Expires "expires", Features "features", Filter "filter", From "from", Gap "gap", Id "id",
    IdempotencyKey "idempotency_key", IdempotencyKeysBytes "idempotency_keys_bytes",
    IdempotencyKeysTtl "idempotency_keys_ttl", If "if", Info "info", Key "key", Label "label", Limit "limit", Limits "limits",
    Match "match", Message "message", MessageBytes "message_bytes", Messages "messages", Method "method", More "more", N "n", Namespace "namespace", Offset "offset",
    Only "only", Op "op", Page "page", Ping "ping", Presence "presence", PresenceBytes "presence_bytes",
    Protocol "protocol", Publications "publications", Reason "reason", Recent "recent", Recovered "recovered", Replies "replies", Reset "reset", Retry "retry", RetryAfter "retry_after",
    Retryable "retryable", Room "room", Rooms "rooms", Rule "rule", Seq "seq", SessionResumed "session_resumed", Signals "signals", Since "since",
    Size "size", Slow "slow", Spread "spread", State "state", Subscribe "subscribe", Subscriptions "subscriptions", Tags "tags",
    Ticket "ticket", To "to", Token "token", Ts "ts", Type "type", User "user", Users "users", Version "version", Wait "wait",
}

/// Fields that will mean something later. A server that ignored one would answer as if it had obeyed it.
pub(super) const RESERVED: [Field; 7] =
    [Field::Key, Field::Op, Field::If, Field::Version, Field::Tags, Field::Filter, Field::State];

/// A fault of a message, and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    code: ErrorCode,
    /// E.g. `channels[3].since.offset`; empty for the message itself.
    field: String,
    /// E.g. `must be a text, not 7`.
    problem: String,
}

impl Fault {
    /// A fault of the message as a whole.
    pub(super) fn whole(code: ErrorCode, problem: impl Into<String>) -> Self {
        Fault { code, field: String::new(), problem: problem.into() }
    }

    pub(super) fn bad(field: Field, problem: impl Into<String>) -> Self {
        Fault { code: ErrorCode::BadRequest, field: field.name().to_owned(), problem: problem.into() }
    }

    pub(super) fn too_large(field: Field, problem: impl Into<String>) -> Self {
        Fault { code: ErrorCode::TooLarge, field: field.name().to_owned(), problem: problem.into() }
    }

    fn too_long(field: Field, len: usize, max: usize) -> Self {
        Self::too_large(field, format!("of {len} bytes exceeds the limit of {max}"))
    }

    pub(super) fn limit(field: Field, problem: impl Into<String>) -> Self {
        Fault { code: ErrorCode::LimitExceeded, field: field.name().to_owned(), problem: problem.into() }
    }

    pub(super) fn missing(field: Field) -> Self {
        Self::bad(field, "is missing")
    }

    pub(super) fn must_be(field: Field, what: impl fmt::Display, found: &str) -> Self {
        Self::bad(field, format!("must be {what}, not {}", Shown(found)))
    }

    /// The same, in a field of the object around.
    pub(super) fn within(mut self, field: Field, index: Option<usize>) -> Self {
        let index = index.map_or(String::new(), |index| format!("[{index}]"));
        let dot = if self.field.is_empty() { "" } else { "." };
        self.field = format!("{}{index}{dot}{}", field.name(), self.field);
        self
    }

    pub(super) fn into_error(self) -> Error {
        Error::new(self.code, self.to_string())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.as_str() {
            "" => f.write_str(&self.problem),
            field => write!(f, "`{field}` {}", self.problem),
        }
    }
}

/// A raw value for people: short ones as they are, long ones cut.
pub(super) struct Shown<'a>(pub(super) &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN_BYTES_MAX: usize = 40;
        match self.0.as_bytes().first() {
            Some(b'{') => f.write_str("an object"),
            Some(b'[') => f.write_str("an array"),
            _ if self.0.len() <= SHOWN_BYTES_MAX => f.write_str(self.0),
            _ => write!(f, "{}…", &self.0[..self.0.floor_char_boundary(SHOWN_BYTES_MAX)]),
        }
    }
}

/// The known fields of one object.
pub(super) struct Object<'a> {
    fields: [Option<&'a RawValue>; Field::COUNT],
    twice: Option<Field>,
}

impl<'a> Object<'a> {
    /// Reads one object. A field that occurs twice is found by [`no_duplicate`](Self::no_duplicate), so that the `id`
    /// can be read all the same.
    pub(super) fn read(text: &'a str) -> Result<Self, Fault> {
        Self::parse(text).map_err(|error| {
            let what = if error.is_data() { "is not an object" } else { "is not JSON" };
            let hint = if text.starts_with(json::MARK) { json::MARK_HINT } else { "" };
            Fault::whole(ErrorCode::BadRequest, format!("the message {what}: {error}{hint}"))
        })
    }

    /// The same, with the parser's own error.
    pub(super) fn parse(text: &'a str) -> Result<Self, serde_json::Error> {
        json::object(text, |object: &mut Self, name, value| {
            let Some(field) = Field::find(name) else { return };
            if object.fields[field as usize].replace(value).is_some() {
                object.twice.get_or_insert(field);
            }
        })
    }

    pub(super) fn no_duplicate(&self) -> Result<(), Fault> {
        self.twice.map_or(Ok(()), |field| Err(Fault::bad(field, "occurs twice in one object")))
    }

    /// Refuses a reserved field. Asked of publications, subscriptions and queries of the history.
    pub(super) fn nothing_reserved(&self) -> Result<(), Fault> {
        match RESERVED.into_iter().find(|&field| self.get(field).is_some()) {
            None => Ok(()),
            Some(field) => Err(Fault::bad(field, "is reserved: it has no meaning yet")),
        }
    }

    /// The raw value, `null` included.
    pub(super) fn raw(&self, field: Field) -> Option<&'a str> {
        self.fields[field as usize].map(RawValue::get)
    }

    /// The raw value where there is one other than `null`.
    pub(super) fn get(&self, field: Field) -> Option<&'a str> {
        self.raw(field).filter(|raw| *raw != "null")
    }

    /// The value as a text of 0 to `len_max` bytes.
    pub(super) fn text(&self, field: Field, len_max: usize) -> Result<Option<Cow<'a, str>>, Fault> {
        let Some(raw) = self.get(field) else { return Ok(None) };
        let Text(text) = serde_json::from_str(raw).map_err(|error| {
            if raw.starts_with('"') {
                Fault::bad(field, format!("is not Unicode text: {error}"))
            } else {
                Fault::must_be(field, "a text", raw)
            }
        })?;
        if text.len() > len_max {
            return Err(Fault::too_long(field, text.len(), len_max));
        }
        Ok(Some(text))
    }

    /// The value as a text that must be there.
    pub(super) fn needed_text(&self, field: Field, len_max: usize) -> Result<Cow<'a, str>, Fault> {
        self.text(field, len_max)?.ok_or_else(|| Fault::missing(field))
    }

    /// An integer: digits, and perhaps a fraction of zeros, which some languages write and JSON Schema counts as one.
    /// No exponent and no sign.
    pub(super) fn number(&self, field: Field, min: u64, max: u64) -> Result<Option<u64>, Fault> {
        let Some(raw) = self.get(field) else { return Ok(None) };
        let whole = match raw.split_once('.') {
            Some((whole, fraction)) if fraction.bytes().all(|byte| byte == b'0') => whole,
            _ => raw,
        };
        let digits = whole.bytes().all(|byte| byte.is_ascii_digit());
        match whole.parse() {
            Ok(number) if digits && (min..=max).contains(&number) => Ok(Some(number)),
            _ => Err(Fault::must_be(field, format_args!("an integer from {min} to {max}"), raw)),
        }
    }

    pub(super) fn needed_number(&self, field: Field, max: u64) -> Result<u64, Fault> {
        self.number(field, 0, max)?.ok_or_else(|| Fault::missing(field))
    }

    pub(super) fn flag(&self, field: Field) -> Result<Option<bool>, Fault> {
        match self.get(field) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(raw) => Err(Fault::must_be(field, "true or false", raw)),
        }
    }

    /// An object in a field.
    pub(super) fn object(&self, field: Field) -> Result<Option<Object<'a>>, Fault> {
        let Some(raw) = self.get(field) else { return Ok(None) };
        if !raw.starts_with('{') {
            return Err(Fault::must_be(field, "an object", raw));
        }
        let object = Object::read(raw).map_err(|fault| fault.within(field, None))?;
        object.no_duplicate().map_err(|fault| fault.within(field, None))?;
        Ok(Some(object))
    }

    /// The items of an array in a field, at most `count_max` of them.
    pub(super) fn items(&self, field: Field, count_max: usize) -> Result<Option<Items<'a>>, Fault> {
        let Some(raw) = self.get(field) else { return Ok(None) };
        if !raw.starts_with('[') {
            return Err(Fault::must_be(field, "an array", raw));
        }
        Items::read(raw, count_max).map(Some).map_err(|error| Fault::bad(field, error.to_string()))
    }

    /// Several objects in a field, each read by `item`.
    pub(super) fn objects<T>(
        &self,
        field: Field,
        count_max: usize,
        mut item: impl FnMut(&Object<'a>) -> Result<T, Fault>,
    ) -> Result<Option<Vec<T>>, Fault> {
        let Some(Items { list, count }) = self.items(field, count_max)? else { return Ok(None) };
        if count > count_max {
            return Err(Fault::limit(field, format!("of {count} entries exceeds the limit of {count_max}")));
        }
        let mut all = Vec::with_capacity(list.len());
        for (index, raw) in list.into_iter().enumerate() {
            let within = |fault: Fault| fault.within(field, Some(index));
            if !raw.starts_with('{') {
                let problem = format!("must be an object, not {}", Shown(raw));
                return Err(within(Fault::whole(ErrorCode::BadRequest, problem)));
            }
            let object = Object::read(raw).map_err(within)?;
            object.no_duplicate().map_err(within)?;
            all.push(item(&object).map_err(within)?);
        }
        Ok(Some(all))
    }

    pub(super) fn id(&self) -> Result<Option<RequestId>, Fault> {
        match self.get(Field::Id) {
            None => Ok(None),
            Some(raw) if raw.starts_with('"') => {
                Ok(self.text(Field::Id, REQUEST_ID_BYTES_MAX)?.map(|text| RequestId::Text(text.into())))
            }
            Some(raw) => match self.number(Field::Id, 0, NUMBER_MAX) {
                Ok(number) => Ok(number.map(RequestId::Number)),
                Err(_) => {
                    let what = format_args!(
                        "an integer from 0 to {NUMBER_MAX} or a text of up to {REQUEST_ID_BYTES_MAX} bytes"
                    );
                    Err(Fault::must_be(Field::Id, what, raw))
                }
            },
        }
    }

    /// A channel name.
    pub(super) fn channel(&self) -> Result<ChannelName, Fault> {
        let name = self.needed_text(Field::Channel, usize::MAX)?;
        ChannelName::new(&name).map_err(|why| match why {
            InvalidName::TooLong { .. } => Fault::too_large(Field::Channel, format!("is not a channel name: {why}")),
            _ => Fault::bad(Field::Channel, format!("is not a channel name: {why}")),
        })
    }

    /// A name: an event, a method. 1 to `len_max` bytes without control characters, quotes and backslashes.
    pub(super) fn label(&self, field: Field, len_max: usize) -> Result<Option<Box<str>>, Fault> {
        let Some(text) = self.text(field, len_max)? else { return Ok(None) };
        if text.is_empty() {
            return Err(Fault::bad(field, format!("of 0 bytes is too short: it must have 1 to {len_max}")));
        }
        let forbidden = |c: &(usize, char)| c.1.is_control() || matches!(c.1, '"' | '\\');
        if let Some((at, found)) = text.char_indices().find(forbidden) {
            let problem = format!("cannot hold {found:?} (at byte {at}): no control characters, quotes or backslashes");
            return Err(Fault::bad(field, problem));
        }
        Ok(Some(text.into()))
    }

    /// The same where it must be there.
    pub(super) fn needed_label(&self, field: Field, len_max: usize) -> Result<Box<str>, Fault> {
        self.label(field, len_max)?.ok_or_else(|| Fault::missing(field))
    }

    /// A payload, copied here: the one copy that is made of it.
    pub(super) fn payload(&self, field: Field, len_max: usize) -> Result<Option<Bytes>, Fault> {
        let Some(raw) = self.raw(field) else { return Ok(None) };
        if raw.len() > len_max {
            return Err(Fault::too_long(field, raw.len(), len_max));
        }
        match json::payload(raw.as_bytes()) {
            Ok(Cow::Borrowed(json)) => Ok(Some(Bytes::copy_from_slice(json))),
            Ok(Cow::Owned(json)) => Ok(Some(Bytes::from(json))),
            Err(too_deep) => Err(Fault::too_large(field, too_deep.to_string())),
        }
    }

    /// Bytes in base64 (RFC 4648 §4), with or without padding.
    pub(super) fn base64(&self, field: Field, len_max: usize) -> Result<Option<Bytes>, Fault> {
        const LENIENT: GeneralPurpose = GeneralPurpose::new(
            &base64::alphabet::STANDARD,
            GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
        );
        let Some(text) = self.text(field, usize::MAX)? else { return Ok(None) };
        // Three bytes in four characters; the last group may hold less than it could.
        let len_min = (text.len() / 4 * 3).saturating_sub(2);
        if len_min > len_max {
            return Err(Fault::too_long(field, len_min, len_max));
        }
        let bytes =
            LENIENT.decode(text.as_bytes()).map_err(|error| Fault::bad(field, format!("is not base64: {error}")))?;
        if bytes.len() > len_max {
            return Err(Fault::too_long(field, bytes.len(), len_max));
        }
        Ok(Some(Bytes::from(bytes)))
    }
}

impl Default for Object<'_> {
    fn default() -> Self {
        Object { fields: [None; Field::COUNT], twice: None }
    }
}

/// A text that is copied only where it holds escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// An array's items as raw values; those beyond the limit are only counted.
pub(super) struct Items<'a> {
    /// The first ones, as many as the limit allows.
    pub(super) list: Vec<&'a str>,
    /// How many there are in all.
    pub(super) count: usize,
}

impl<'a> Items<'a> {
    pub(super) fn read(text: &'a str, count_max: usize) -> Result<Self, serde_json::Error> {
        struct ItemsVisitor(usize);
        impl<'de> Visitor<'de> for ItemsVisitor {
            type Value = Items<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Items<'de>, A::Error> {
                let mut items = Items { list: Vec::new(), count: 0 };
                while items.list.len() < self.0 {
                    let Some(raw) = seq.next_element::<&'de RawValue>()? else { return Ok(items) };
                    items.list.push(raw.get());
                    items.count += 1;
                }
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    items.count = items.count.checked_add(1).ok_or_else(|| A::Error::custom("too many items"))?;
                }
                Ok(items)
            }
        }
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let items = deserializer.deserialize_seq(ItemsVisitor(count_max))?;
        deserializer.end()?;
        Ok(items)
    }
}
