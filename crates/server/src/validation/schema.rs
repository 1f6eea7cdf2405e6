//! A JSON Schema, compiled once.
//!
//! In: a schema as JSON (draft 2020-12, or the one that its `$schema` names). Out: yes, or a sentence that names the
//! first place where data breaks it.
//!
//! What a check costs is bounded, also for data made to be slow. Patterns run in time linear to the text: look-around
//! and back-references, which need backtracking, are refused with the schema. Data is judged by `is_valid`, which
//! remembers what it has found out about each part of recursive data. The crate's own error messages do not: for a tree
//! of `oneOf`, 18 levels deep, it took 34 s to make one. So the place of an error is found by `explain`. `uniqueItems`
//! is our own (`unique`). Nothing is fetched: a `$ref` leads to another part of the same schema.

use super::explain::explain;
use super::parts::Parts;
use super::{unique, value};
use jsonschema::{PatternOptions, Registry, Validator};
use serde_json::Value;
use std::fmt;
use std::sync::Arc;

/// The longest schema, in bytes of JSON.
pub(crate) const SCHEMA_BYTES_MAX: usize = 256 << 10;
/// The largest compiled pattern, in bytes, and the largest cache for it.
const PATTERN_BYTES_MAX: usize = 1 << 20;
/// The root of a schema while it is compiled. Nothing is fetched from there.
const ROOT: &str = "fanfare:schema";
/// The longest message about data or a schema, in bytes.
const MESSAGE_BYTES_MAX: usize = 300;

/// A compiled schema.
#[derive(Clone)]
pub struct Schema(Arc<Compiled>);

struct Compiled {
    json: Value,
    /// The file that it came from.
    file: Option<Box<str>>,
    validator: Validator,
    parts: Parts,
}

/// A schema that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", if place.is_empty() { problem.clone() } else { format!("{place}: {problem}") })]
pub struct SchemaError {
    /// The place in the schema, as a JSON pointer.
    pub place: String,
    /// What is wrong there.
    pub problem: String,
}

impl SchemaError {
    pub(super) fn new(place: impl Into<String>, problem: impl Into<String>) -> Self {
        let mut problem = problem.into();
        shorten(&mut problem, MESSAGE_BYTES_MAX);
        SchemaError { place: place.into(), problem }
    }
}

impl Schema {
    /// Compiles the text of a schema.
    ///
    /// # Errors
    /// It is no JSON, no valid schema, or one that asks for more than this server does: a reference to elsewhere, a
    /// pattern with look-around.
    pub fn parse(json: &str) -> Result<Self, SchemaError> {
        if json.len() > SCHEMA_BYTES_MAX {
            let problem = format!("a schema of {} bytes exceeds the limit of {SCHEMA_BYTES_MAX}", json.len());
            return Err(SchemaError::new("", problem));
        }
        let json = fanfare_wire::json::unmarked(json);
        let value = value::read(json.as_bytes()).map_err(|problem| SchemaError::new("", problem))?;
        Schema::new(value)
    }

    /// Compiles a schema.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn new(json: Value) -> Result<Self, SchemaError> {
        let len = json.to_string().len();
        if len > SCHEMA_BYTES_MAX {
            let problem = format!("a schema of {len} bytes exceeds the limit of {SCHEMA_BYTES_MAX}");
            return Err(SchemaError::new("", problem));
        }
        let parts = Parts::of(&json)?;
        let validator = compile(&json)?;
        let parts = parts.compiled(&json)?;
        Ok(Schema(Arc::new(Compiled { json, file: None, validator, parts })))
    }

    /// The same, known by the file that it came from.
    pub(crate) fn of_file(self, path: &str) -> Self {
        let Ok(compiled) = Arc::try_unwrap(self.0) else { unreachable!("a schema that was just made has one owner") };
        Schema(Arc::new(Compiled { file: Some(path.into()), ..compiled }))
    }

    /// Judges data.
    ///
    /// # Errors
    /// One sentence that begins with the place in the data, as a JSON pointer, or with `data` for the whole.
    pub(super) fn check(&self, data: &Value) -> Result<(), String> {
        if self.0.validator.is_valid(data) {
            return Ok(());
        }
        let mut message = explain(&self.0.parts, data);
        shorten(&mut message, MESSAGE_BYTES_MAX);
        Err(message)
    }

    /// As it would be written: its file, or the schema itself.
    pub(super) fn shown(&self) -> String {
        const CHARS_MAX: usize = 60;
        match &self.0.file {
            Some(file) => format!("{{ file = {file:?} }}"),
            None => {
                let json = self.0.json.to_string();
                match json.char_indices().nth(CHARS_MAX) {
                    Some((end, _)) => format!("'{}…'", &json[..end]),
                    None => format!("'{json}'"),
                }
            }
        }
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

fn options<'i>() -> jsonschema::ValidationOptions<'i> {
    let patterns = PatternOptions::regex().size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX);
    jsonschema::options().offline().with_pattern_options(patterns).with_keyword("uniqueItems", unique::keyword)
}

/// Compiles a whole schema, or a part that refers to no other.
pub(super) fn compile(json: &Value) -> Result<Validator, SchemaError> {
    options().build(json).map_err(|error| {
        let mut problem = error.to_string();
        if problem.ends_with("is not a \"regex\"") {
            problem = "the pattern is not valid here: too large, or with look-around or back-references, which no pattern in linear \
                       time has"
                .to_owned();
        }
        SchemaError::new(error.instance_path().as_str(), problem)
    })
}

/// Compiles the part of a schema at this pointer, which may refer to others.
pub(super) fn compile_part(root: &Value, pointer: &str) -> Result<Validator, SchemaError> {
    let wrong = |error: &dyn fmt::Display| SchemaError::new(pointer, error.to_string());
    let draft = jsonschema::Draft::default().detect(root);
    let registry = Registry::new().draft(draft).add(ROOT, draft.create_resource(root.clone()));
    let registry = registry.and_then(|registry| registry.prepare()).map_err(|error| wrong(&error))?;
    let mut reference = format!("{ROOT}#");
    for byte in pointer.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' | b'$' => {
                reference.push(char::from(byte));
            }
            _ => reference.push_str(&format!("%{byte:02X}")),
        }
    }
    let part = serde_json::json!({ "$ref": reference });
    options().with_draft(draft).with_registry(&registry).build(&part).map_err(|error| wrong(&error))
}

/// Cuts a text to so many bytes.
fn shorten(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
        text.push('…');
    }
}
