//! What a rule says about data, as it is written: schemas (in a file, as a table, or as JSON in quotes; one for all
//! messages, or one for each event), and fields with texts.

use super::kind::{count, kind_of, within as within_range};
use super::nearest;
use super::units::Wrong;
use super::written::{Field, Raw, Written};
use crate::validation::{EventSchemas, SCHEMA_BYTES_MAX, Schema, SchemaError, TextRule, Texts};
use fanfare_hub::{EVENT_BYTES_MAX, is_event};
use serde_json::{Map, Number, Value};
use std::io::Read as _;
use std::path::Path;

const FORM: &str =
    "write { file = \"schemas/chat.json\" }, or the schema itself: { type = \"object\", required = [\"text\"] }";

const TEXT_OPTIONS: [&str; 4] = ["field", "max", "one_line", "escape"];
const TEXT_FORM: &str = "write [{ field = \"/content\", max = 4000 }]";
const CHARS_MAX: u64 = 1 << 30;

/// Reads the value of `text`.
pub(super) fn texts(value: &Written) -> Result<Texts, Wrong> {
    let rows = match &value.raw {
        Raw::List(rows) => rows.as_slice(),
        Raw::Table(_) => std::slice::from_ref(value),
        _ => return Err(kind_of(value, TEXT_FORM)),
    };
    let wrong = |problem: String, hint: &str| Wrong { problem, hint: hint.to_owned() };
    if rows.is_empty() {
        return Err(wrong("the list is empty".to_owned(), TEXT_FORM));
    }
    if rows.len() > Texts::FIELDS_MAX {
        let problem = format!("{} fields exceed the limit of {}", rows.len(), Texts::FIELDS_MAX);
        return Err(wrong(problem, "a schema bounds texts too, by maxLength"));
    }
    let mut texts = Texts::default();
    for row in rows {
        let Raw::Table(fields) = &row.raw else { return Err(kind_of(row, TEXT_FORM)) };
        let (mut pointer, mut rule) = (None, TextRule::default());
        for Field { key, value, .. } in fields {
            match (key.as_str(), &value.raw) {
                ("field", Raw::Text(text)) => pointer = Some(text),
                ("max", Raw::Number(_) | Raw::Text(_)) => {
                    let max = within_range(count(value)?, 1, CHARS_MAX, |n| n.to_string());
                    rule.chars_max = Some(max.map_err(|wrong| within("max", wrong))? as usize);
                }
                ("one_line", Raw::Switch(on)) => rule.one_line = *on,
                ("escape", Raw::Text(word)) if word == "html" => rule.escape_html = true,
                ("escape", Raw::Text(word)) => {
                    return Err(wrong(
                        format!("escape: {word:?} is not one of the words"),
                        "write \"html\", or leave it out",
                    ));
                }
                (known, _) if TEXT_OPTIONS.contains(&known) => {
                    return Err(wrong(format!("{known}: it is {}", value.kind()), TEXT_FORM));
                }
                (unknown, _) => {
                    let problem = format!("a field has no {unknown:?}");
                    return Err(Wrong { problem, hint: nearest::hint(unknown, TEXT_OPTIONS) });
                }
            }
        }
        let Some(pointer) = pointer else { return Err(wrong("a table names no `field`".to_owned(), TEXT_FORM)) };
        let hint = "write a JSON pointer: \"/content\", \"/user/name\", or \"\" for the data itself";
        texts.add(pointer, rule).map_err(|error| wrong(error.to_string(), hint))?;
    }
    Ok(texts)
}

/// Reads the value of `presence_schema`.
pub(super) fn read_one(value: &Written, folder: &Path) -> Result<Schema, Wrong> {
    if let Raw::Table(fields) = &value.raw
        && of(fields, "events").is_some()
    {
        let problem = "presence has no events".to_owned();
        return Err(Wrong { problem, hint: "write one schema, without { events = … }".to_owned() });
    }
    one(value, folder)
}

/// Reads the value of `schema`.
pub(super) fn read(value: &Written, folder: &Path) -> Result<EventSchemas, Wrong> {
    let Raw::Table(fields) = &value.raw else { return one(value, folder).map(EventSchemas::all) };
    let Some(events) = of(fields, "events") else { return one(value, folder).map(EventSchemas::all) };
    if let Some(field) = fields.iter().find(|field| !["events", "other"].contains(&field.key.as_str())) {
        let problem = format!("beside `events` only `other` may stand, found {:?}", field.key);
        return Err(Wrong { problem, hint: nearest::hint(&field.key, ["events", "other"]) });
    }
    let Raw::Table(events) = &events.raw else {
        return Err(kind_of(events, "write { events = { message = { file = \"schemas/message.json\" } } }"));
    };
    if events.is_empty() {
        let problem = "`events` names none".to_owned();
        return Err(Wrong { problem, hint: "write each event with its schema".to_owned() });
    }
    let mut by_event = Vec::new();
    for Field { key, value, .. } in events {
        if !is_event(key) {
            let problem =
                format!("{key:?} is no event: 1 to {EVENT_BYTES_MAX} bytes without controls, quotes, backslashes");
            return Err(Wrong { problem, hint: "`other` is for messages without an event".to_owned() });
        }
        by_event.push((key.as_str(), one(value, folder).map_err(|wrong| within(&format!("events.{key}"), wrong))?));
    }
    let other = of(fields, "other").map(|other| one(other, folder).map_err(|wrong| within("other", wrong)));
    Ok(EventSchemas::by_event(by_event, other.transpose()?))
}

fn of<'f>(fields: &'f [Field], key: &str) -> Option<&'f Written> {
    fields.iter().find(|field| field.key == key).map(|field| &field.value)
}

fn within(part: &str, Wrong { problem, hint }: Wrong) -> Wrong {
    Wrong { problem: format!("{part}: {problem}"), hint }
}

/// One schema.
fn one(value: &Written, folder: &Path) -> Result<Schema, Wrong> {
    let refused = |error: SchemaError| Wrong {
        problem: format!("the schema is not valid: {error}"),
        hint: "docs/validation.md tells what a schema may have".to_owned(),
    };
    match &value.raw {
        Raw::Text(text) if text.trim_start().starts_with(['{', 't', 'f']) => Schema::parse(text).map_err(refused),
        Raw::Text(text) => {
            let problem = "the text is no schema in JSON".to_owned();
            Err(Wrong { problem, hint: format!("write {{ file = {text:?} }} where it is the path of one") })
        }
        Raw::Switch(on) => Schema::new(Value::Bool(*on)).map_err(refused),
        Raw::Table(fields) => match of(fields, "file") {
            Some(path) if fields.len() == 1 => of_file(path, folder),
            Some(_) => {
                let problem = "beside `file` nothing else may stand".to_owned();
                Err(Wrong { problem, hint: "write the rest of the schema into the file".to_owned() })
            }
            None => Schema::new(json(value)?).map_err(refused),
        },
        _ => Err(kind_of(value, FORM)),
    }
}

fn of_file(path: &Written, folder: &Path) -> Result<Schema, Wrong> {
    let Raw::Text(name) = &path.raw else { return Err(kind_of(path, "write the path of a file in quotes")) };
    let whole = folder.join(name);
    let mut text = String::new();
    let file = std::fs::File::open(&whole);
    // One that is longer is refused as too long, and not read to its end.
    let read = file.and_then(|file| file.take(SCHEMA_BYTES_MAX as u64 + 1).read_to_string(&mut text));
    read.map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => "a relative path begins at the configuration's own folder",
            std::io::ErrorKind::InvalidData => "it must be JSON in UTF-8",
            _ => "the server's user must be able to read it",
        };
        Wrong { problem: format!("{} cannot be read: {error}", whole.display()), hint: hint.to_owned() }
    })?;
    let schema = Schema::parse(&text).map_err(|error| Wrong {
        problem: format!("{} is no valid schema: {error}", whole.display()),
        hint: "docs/validation.md tells what a schema may have".to_owned(),
    })?;
    Ok(schema.of_file(name))
}

/// A value of the file as JSON.
fn json(value: &Written) -> Result<Value, Wrong> {
    let wrong = || Err(Wrong { problem: format!("the schema holds {}", value.kind()), hint: FORM.to_owned() });
    Ok(match &value.raw {
        Raw::Text(text) => Value::String(text.clone()),
        Raw::Number(number) => match Number::from_i128(*number) {
            Some(number) => Value::Number(number),
            None => return wrong(),
        },
        Raw::Fraction(number) => match Number::from_f64(*number) {
            Some(number) => Value::Number(number),
            None => return wrong(),
        },
        Raw::Switch(on) => Value::Bool(*on),
        Raw::List(list) => Value::Array(list.iter().map(json).collect::<Result<_, _>>()?),
        Raw::Table(fields) => {
            let mut map = Map::new();
            for field in fields {
                map.insert(field.key.clone(), json(&field.value)?);
            }
            Value::Object(map)
        }
        Raw::Other(_) | Raw::Unknown => return wrong(),
    })
}
