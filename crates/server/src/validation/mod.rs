//! What the data of a channel must be: its texts in chosen fields, a schema for its publications, one for its signals,
//! one for what clients show of themselves in its presence.
//!
//! In: the options of a rule, compiled when the configuration is read. Out: a [`DataCheck`] of the hub, which is asked
//! for every publication and signal of the rule's channels, by clients and by the application. It holds no state: the
//! same data gets the same answer. Texts are cleaned first (`fanfare_wire::texts`), so the schema judges what
//! subscribers will get; only the escapes of HTML are put in at the end, behind a handler that edits the data. No check
//! runs for longer than in proportion to the data's length (`schema.rs` says why).

mod explain;
mod parts;
mod schema;
#[cfg(test)]
mod tests;
mod unique;
mod value;

pub(crate) use schema::SCHEMA_BYTES_MAX;
pub use schema::{Schema, SchemaError};

use bytes::Bytes;
use fanfare_hub::{DataCheck, Error, ErrorCode, Given, PayloadOf};
pub use fanfare_wire::texts::{FieldError, TextFields, TextRule};
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// The schemas of one option: one for all messages, or one for each event.
#[derive(Clone, Default)]
pub struct EventSchemas {
    by_event: Vec<(Box<str>, Schema)>,
    other: Option<Schema>,
    /// The messages without an event's own schema are refused where there is none for them.
    is_closed: bool,
}

impl EventSchemas {
    /// This schema for all messages.
    pub fn all(schema: Schema) -> Self {
        EventSchemas { by_event: Vec::new(), other: Some(schema), is_closed: false }
    }

    /// A schema for each event. `other` is for messages with another event or none; without it they are refused.
    pub fn by_event(events: impl IntoIterator<Item = (impl Into<Box<str>>, Schema)>, other: Option<Schema>) -> Self {
        let by_event = events.into_iter().map(|(event, schema)| (event.into(), schema)).collect();
        EventSchemas { by_event, other, is_closed: true }
    }

    /// The schema for a message, or why there is none.
    fn of(&self, event: Option<&str>) -> Result<Option<&Schema>, String> {
        let own = self.by_event.iter().find(|(name, _)| Some(&**name) == event);
        match own.map(|(_, schema)| schema).or(self.other.as_ref()) {
            None if self.is_closed => {
                let names: Vec<String> = self.by_event.iter().take(8).map(|(name, _)| format!("{name:?}")).collect();
                let more = if self.by_event.len() > names.len() { ", …" } else { "" };
                let found = event.map_or("no event".to_owned(), |event| format!("the event {event:?}"));
                Err(format!("there is no schema for {found}; the events are {}{more}", names.join(", ")))
            }
            schema => Ok(schema),
        }
    }

    /// As it would be written.
    fn shown(&self) -> String {
        if !self.is_closed {
            return self.other.as_ref().map_or_else(String::new, Schema::shown);
        }
        let events: Vec<String> =
            self.by_event.iter().map(|(name, schema)| format!("{name:?} = {}", schema.shown())).collect();
        let other = self.other.as_ref().map_or_else(String::new, |other| format!(", other = {}", other.shown()));
        format!("{{ events = {{ {} }}{other} }}", events.join(", "))
    }
}

impl From<Schema> for EventSchemas {
    fn from(schema: Schema) -> Self {
        EventSchemas::all(schema)
    }
}

impl fmt::Debug for EventSchemas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

/// The checks of one rule.
///
/// ```
/// # use fanfare::hub::Rule;
/// # use fanfare::validation::{Schema, Validation};
/// let price = Schema::parse(r#"{"properties": {"price": {"type": "number"}}, "required": ["price"]}"#)?;
/// let check = Validation { schema: Some(price.into()), ..Validation::default() }.into_check();
/// # let pattern = fanfare::hub::Pattern::new("prices:*").expect("a pattern");
/// let rule = Rule { check, ..Rule::open(pattern) };
/// # Ok::<(), fanfare::validation::SchemaError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Validation {
    /// For publications.
    pub schema: Option<EventSchemas>,
    /// For signals.
    pub signal_schema: Option<EventSchemas>,
    /// For what clients show of themselves in the presence.
    pub presence_schema: Option<Schema>,
    /// The texts in all of them.
    pub texts: Texts,
}

/// Fields that hold texts, in the order in which they were named.
#[derive(Debug, Clone, Default)]
pub struct Texts {
    fields: TextFields,
    /// All but the data itself.
    inner: TextFields,
    rows: Vec<(Box<str>, TextRule)>,
}

impl Texts {
    /// The most fields.
    pub const FIELDS_MAX: usize = 64;

    /// Adds a field by its JSON pointer; `""` is the data itself.
    ///
    /// # Errors
    /// The pointer is none, or named already.
    pub fn add(&mut self, pointer: &str, rule: TextRule) -> Result<(), FieldError> {
        self.fields.add(pointer, rule)?;
        if !pointer.is_empty() {
            self.inner.add(pointer, rule)?;
        }
        self.rows.push((pointer.into(), rule));
        Ok(())
    }

    /// The data with clean texts; `None` where nothing changes.
    fn apply(&self, fields: &TextFields, data: &str, is_last: bool) -> Result<Option<String>, String> {
        if self.rows.is_empty() {
            return Ok(None);
        }
        fields.apply(data, is_last).map_err(|error| {
            let place = if error.place.is_empty() { "data" } else { &error.place };
            format!("{place}: {}", error.problem)
        })
    }

    fn escape(&self) -> bool {
        self.rows.iter().any(|(_, rule)| rule.escape_html)
    }

    /// As it would be written.
    fn shown(&self) -> String {
        let row = |(pointer, rule): &(Box<str>, TextRule)| {
            let max = rule.chars_max.map_or_else(String::new, |max| format!(", max = {max}"));
            let one_line = if rule.one_line { ", one_line = true" } else { "" };
            let escape = if rule.escape_html { ", escape = \"html\"" } else { "" };
            format!("{{ field = {pointer:?}{max}{one_line}{escape} }}")
        };
        format!("[{}]", self.rows.iter().map(row).collect::<Vec<_>>().join(", "))
    }
}

impl Validation {
    /// What a rule asks; `None` where there is nothing to check.
    pub fn into_check(self) -> Option<Arc<dyn DataCheck>> {
        let Validation { schema, signal_schema, presence_schema, texts } = &self;
        let is_empty =
            schema.is_none() && signal_schema.is_none() && presence_schema.is_none() && texts.rows.is_empty();
        (!is_empty).then(|| Arc::new(self) as Arc<dyn DataCheck>)
    }
}

impl Validation {
    /// The schema for such data, and the option that it stands in. An error says why there is none for its event.
    fn schema(&self, of: PayloadOf, event: Option<&str>) -> (Result<Option<&Schema>, String>, &'static str) {
        let (schemas, option) = match of {
            PayloadOf::Publication => (self.schema.as_ref(), "schema"),
            PayloadOf::Signal => (self.signal_schema.as_ref(), "signal_schema"),
            PayloadOf::Presence => return (Ok(self.presence_schema.as_ref()), "presence_schema"),
        };
        (schemas.map_or(Ok(None), |schemas| schemas.of(event)), option)
    }
}

/// JSON on one line, as a rule checks it.
///
/// # Errors
/// It is no JSON, or nested too deep.
#[doc(hidden)]
pub fn one_line(json: &str) -> Result<String, String> {
    let json: &serde_json::value::RawValue = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let line = fanfare_wire::json::payload(json.get().as_bytes()).map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&line).into_owned())
}

impl DataCheck for Validation {
    fn check(&self, given: Given<'_>) -> Result<Option<Bytes>, Error> {
        let refused = |option, message: String| Error::new(ErrorCode::InvalidData, message).by_option(option);
        let (schema, option) = self.schema(given.of, given.event);
        let schema = schema.map_err(|problem| refused(option, problem))?;
        if given.is_binary {
            let option = if schema.is_some() { option } else { "text" };
            let is_checked = schema.is_some() || !self.texts.rows.is_empty();
            let message = || "data: it is binary, and the rule is for JSON".to_owned();
            return if is_checked { Err(refused(option, message())) } else { Ok(None) };
        }
        let of_text = |problem: String| refused("text", problem);
        let json = std::str::from_utf8(given.data).map_err(|_| of_text("data: it is no text in UTF-8".to_owned()))?;
        // The whole data of messages may be one text, where presence is an object.
        let fields = match given.of {
            PayloadOf::Presence if !json.starts_with('"') => &self.texts.inner,
            _ => &self.texts.fields,
        };
        let cleaned = self.texts.apply(fields, json, false).map_err(of_text)?;
        if let Some(schema) = schema {
            let json = cleaned.as_deref().unwrap_or(json);
            let value = value::read(json.as_bytes()).map_err(|problem| refused(option, format!("data: {problem}")))?;
            schema.check(&value).map_err(|problem| refused(option, problem))?;
        }
        if !given.is_last || !self.texts.escape() {
            return Ok(cleaned.map(Bytes::from));
        }
        let clean = cleaned.map_or(Cow::Borrowed(json), Cow::Owned);
        let escaped = self.texts.apply(fields, &clean, true).map_err(of_text)?;
        let changed = match (escaped, clean) {
            (Some(escaped), _) => Some(escaped),
            (None, Cow::Owned(cleaned)) => Some(cleaned),
            (None, Cow::Borrowed(_)) => None,
        };
        Ok(changed.map(Bytes::from))
    }

    fn options(&self) -> Vec<(&'static str, String)> {
        let named = [("schema", &self.schema), ("signal_schema", &self.signal_schema)];
        let schemas = named.into_iter().filter_map(|(name, of)| Some((name, of.as_ref()?.shown())));
        let of_presence = self.presence_schema.iter().map(|schema| ("presence_schema", schema.shown()));
        schemas.chain(of_presence).chain((!self.texts.rows.is_empty()).then(|| ("text", self.texts.shown()))).collect()
    }
}
