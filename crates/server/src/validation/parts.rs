//! The parts of a schema: every schema within it, with the keywords that `explain` understands.
//!
//! In: a schema. Out: its parts, bounded in number and in depth, each `$ref` with its target. A reference to elsewhere
//! is refused. A chain of schemas for the same data (`$ref`, `allOf`, `anyOf` and the like) is bounded and has no
//! circle: the validator calls itself once for each link of it, at each level of the data.

use super::schema::{SchemaError, compile, compile_part};
use jsonschema::Validator;
use serde_json::{Map, Value};
use std::collections::HashMap;

/// The most schemas in a schema.
const PARTS_MAX: usize = 2_000;
/// The longest chain of schemas for the same data. Data has at most 64 levels, so at most 64 times as many links stand
/// on the stack. (With 32, and not optimised, 2 MiB were not enough.)
const CHAIN_MAX: usize = 16;
/// The most parts that are compiled once more, to find out whether it is they that data breaks. Data that breaks other
/// ones is told so in general words.
const CHOICES_MAX: usize = 64;

/// Keywords that say something about a value itself.
const OWN: [&str; 19] = [
    "type",
    "enum",
    "const",
    "multipleOf",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "uniqueItems",
    "maxProperties",
    "minProperties",
    "required",
    "dependentRequired",
    "format",
];
/// Keywords with schemas of which some must hold, or that depend on what others have judged.
const CHOICES: [&str; 15] = [
    "anyOf",
    "oneOf",
    "not",
    "if",
    "contains",
    "propertyNames",
    "patternProperties",
    "dependentSchemas",
    "dependencies",
    "unevaluatedProperties",
    "unevaluatedItems",
    "additionalItems",
    "$dynamicRef",
    "$recursiveRef",
    "contentSchema",
];

/// The parts of a schema; the first is the whole.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) parts: Vec<Part>,
    by_pointer: HashMap<String, usize>,
}

/// One schema within a schema.
#[derive(Default)]
pub(super) struct Part {
    pointer: String,
    /// Judges what it says about a value itself; `None` where that is nothing.
    pub(super) own: Option<Validator>,
    /// The schemas that hold for the same value.
    pub(super) all: Vec<usize>,
    /// The schemas of properties.
    pub(super) properties: Vec<(String, usize)>,
    /// The schema of all other properties.
    pub(super) additional: Option<usize>,
    /// The schemas of the first elements.
    pub(super) first: Vec<usize>,
    /// The schema of all other elements.
    pub(super) items: Option<usize>,
    /// Its keywords that are judged as a whole.
    pub(super) choices: Vec<&'static str>,
    /// Judges the whole part, where it has choices.
    pub(super) whole: Option<Validator>,
    /// All schemas for the same value.
    chained: Vec<usize>,
}

impl Parts {
    pub(super) fn of(root: &Value) -> Result<Self, SchemaError> {
        let mut parts = Parts::default();
        parts.part(root, String::new())?;
        let mut at = 0;
        while at < parts.parts.len() {
            parts.read(root, at)?;
            at += 1;
        }
        parts.check_chains()?;
        Ok(parts)
    }

    /// Compiles what errors are found by.
    pub(super) fn compiled(mut self, root: &Value) -> Result<Self, SchemaError> {
        let draft = root.get("$schema").cloned();
        let mut choices = 0;
        for part in &mut self.parts {
            let schema = match root.pointer(&part.pointer) {
                Some(Value::Object(schema)) => schema,
                Some(never @ Value::Bool(false)) => {
                    part.own = Some(compile(never)?);
                    continue;
                }
                _ => continue,
            };
            if let Some(mut own) = own(schema) {
                own.extend(draft.clone().map(|draft| ("$schema".to_owned(), draft)));
                part.own = Some(compile(&Value::Object(own)).map_err(|error| within(&part.pointer, error))?);
            }
            if !part.choices.is_empty() && choices < CHOICES_MAX {
                choices += 1;
                part.whole = Some(compile_part(root, &part.pointer)?);
            }
        }
        Ok(self)
    }

    /// The place of the schema at this pointer.
    fn part(&mut self, root: &Value, pointer: String) -> Result<usize, SchemaError> {
        if let Some(&at) = self.by_pointer.get(&pointer) {
            return Ok(at);
        }
        if !matches!(root.pointer(&pointer), Some(Value::Object(_) | Value::Bool(_))) {
            return Err(SchemaError::new(pointer, "here must be a schema: an object, true or false"));
        }
        let at = self.parts.len();
        if at >= PARTS_MAX {
            return Err(SchemaError::new(pointer, format!("the schema has more than {PARTS_MAX} schemas in it")));
        }
        self.parts.push(Part { pointer: pointer.clone(), ..Part::default() });
        self.by_pointer.insert(pointer, at);
        Ok(at)
    }

    /// Reads the keywords of one part.
    fn read(&mut self, root: &Value, at: usize) -> Result<(), SchemaError> {
        let pointer = self.parts[at].pointer.clone();
        let Some(Value::Object(schema)) = root.pointer(&pointer) else { return Ok(()) };
        let mut part = std::mem::take(&mut self.parts[at]);
        for (key, value) in schema {
            let here = format!("{pointer}/{}", escaped(key));
            let own = CHOICES.iter().find(|known| *known == key);
            match (key.as_str(), value) {
                ("$ref" | "$dynamicRef" | "$recursiveRef", Value::String(target)) => {
                    let Some(fragment) = target.strip_prefix('#') else {
                        let problem = format!(
                            "the reference to {:?} leads elsewhere; only parts of the same schema can be referred to, like \
                             \"#/$defs/name\"",
                            super::value::shortened(target)
                        );
                        return Err(SchemaError::new(here, problem));
                    };
                    let fragment = percent_decoded(fragment);
                    if key == "$ref" && (fragment.is_empty() || fragment.starts_with('/')) {
                        if root.pointer(&fragment).is_none() {
                            let problem = format!("there is no {:?} in the schema", super::value::shortened(target));
                            return Err(SchemaError::new(here, problem));
                        }
                        let target = self.part(root, fragment)?;
                        part.all.push(target);
                        part.chained.push(target);
                    } else {
                        part.choices.push(own.copied().unwrap_or("$ref")); // by the name of an anchor
                    }
                }
                ("allOf", Value::Array(list)) => {
                    for index in 0..list.len() {
                        let one = self.part(root, format!("{here}/{index}"))?;
                        part.all.push(one);
                        part.chained.push(one);
                    }
                }
                ("properties", Value::Object(map)) => {
                    for name in map.keys() {
                        part.properties.push((name.clone(), self.part(root, format!("{here}/{}", escaped(name)))?));
                    }
                }
                ("additionalProperties", _) if value != &Value::Bool(false) => {
                    // Which properties are the others, patterns say too.
                    let other = self.part(root, here)?;
                    match schema.contains_key("patternProperties") {
                        true => part.choices.push("additionalProperties"),
                        false => part.additional = Some(other),
                    }
                }
                ("prefixItems", Value::Array(list)) => {
                    for index in 0..list.len() {
                        part.first.push(self.part(root, format!("{here}/{index}"))?);
                    }
                }
                // In earlier drafts a list of schemas for the first elements.
                ("items", Value::Array(list)) => {
                    for index in 0..list.len() {
                        self.part(root, format!("{here}/{index}"))?;
                    }
                    part.choices.push("items");
                }
                ("items", _) => part.items = Some(self.part(root, here)?),
                ("$defs" | "definitions", Value::Object(map)) => {
                    for name in map.keys() {
                        self.part(root, format!("{here}/{}", escaped(name)))?;
                    }
                }
                ("patternProperties" | "dependentSchemas", Value::Object(map)) => {
                    for name in map.keys() {
                        let one = self.part(root, format!("{here}/{}", escaped(name)))?;
                        part.chained.extend((key == "dependentSchemas").then_some(one));
                    }
                    part.choices.extend(own);
                }
                ("dependencies", Value::Object(map)) => {
                    for (name, _) in map.iter().filter(|(_, value)| !value.is_array()) {
                        part.chained.push(self.part(root, format!("{here}/{}", escaped(name)))?);
                    }
                    part.choices.extend(own);
                }
                ("anyOf" | "oneOf", Value::Array(list)) => {
                    for index in 0..list.len() {
                        part.chained.push(self.part(root, format!("{here}/{index}"))?);
                    }
                    part.choices.extend(own);
                }
                ("not" | "if", _) => {
                    part.chained.push(self.part(root, here)?);
                    part.choices.extend(own);
                }
                ("then" | "else", _) => part.chained.push(self.part(root, here)?),
                (
                    "contains" | "propertyNames" | "unevaluatedProperties" | "unevaluatedItems" | "additionalItems",
                    _,
                ) => {
                    self.part(root, here)?;
                    part.choices.extend(own);
                }
                _ => {}
            }
        }
        self.parts[at] = part;
        Ok(())
    }

    /// Bounds the chains of schemas for the same data.
    fn check_chains(&self) -> Result<(), SchemaError> {
        #[derive(Clone, Copy, PartialEq)]
        enum Seen {
            No,
            /// It is below one that is being measured.
            Open,
            Length(usize),
        }
        let mut seen = vec![Seen::No; self.parts.len()];
        for root in 0..self.parts.len() {
            let mut open = vec![(root, 0)];
            while let Some((at, next)) = open.pop() {
                if next == 0 && matches!(seen[at], Seen::Length(_)) {
                    continue;
                }
                seen[at] = Seen::Open;
                let part = &self.parts[at];
                if let Some(&below) = part.chained.get(next) {
                    open.push((at, next + 1));
                    match seen[below] {
                        Seen::Open => {
                            let problem = "it refers to itself for the same data, so it says nothing";
                            return Err(SchemaError::new(self.parts[below].pointer.clone(), problem));
                        }
                        Seen::No => open.push((below, 0)),
                        Seen::Length(_) => {}
                    }
                    continue;
                }
                let length = part.chained.iter().map(|&below| match seen[below] {
                    Seen::Length(length) => length + 1,
                    Seen::No | Seen::Open => 1,
                });
                let length = length.max().unwrap_or(1);
                if length > CHAIN_MAX {
                    let problem = format!("more than {CHAIN_MAX} schemas refer to each other for the same data");
                    return Err(SchemaError::new(part.pointer.clone(), problem));
                }
                seen[at] = Seen::Length(length);
            }
        }
        Ok(())
    }
}

/// The keywords that say something about a value itself, as a schema.
fn own(schema: &Map<String, Value>) -> Option<Map<String, Value>> {
    let mut own: Map<String, Value> =
        OWN.iter().filter_map(|key| Some(((*key).to_owned(), schema.get(*key)?.clone()))).collect();
    if schema.get("additionalProperties") == Some(&Value::Bool(false)) {
        own.insert("additionalProperties".to_owned(), Value::Bool(false));
        for key in ["properties", "patternProperties"] {
            if let Some(Value::Object(map)) = schema.get(key) {
                let names = map.keys().map(|name| (name.clone(), Value::Bool(true))).collect();
                own.insert(key.to_owned(), Value::Object(names));
            }
        }
    }
    (!own.is_empty()).then_some(own)
}

fn within(pointer: &str, error: SchemaError) -> SchemaError {
    SchemaError { place: format!("{pointer}{}", error.place), ..error }
}

/// A key as a JSON pointer has it (RFC 6901 §3).
pub(super) fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// A fragment without its percent signs (RFC 6901 §6). Anything that is none stays as it is.
fn percent_decoded(fragment: &str) -> String {
    if !fragment.contains('%') {
        return fragment.to_owned();
    }
    let (bytes, mut out, mut at) = (fragment.as_bytes(), Vec::new(), 0);
    while let Some(&byte) = bytes.get(at) {
        let hex =
            fragment.get(at + 1..at + 3).filter(|_| byte == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(hex.unwrap_or(byte));
        at += if hex.is_some() { 3 } else { 1 };
    }
    String::from_utf8(out).unwrap_or_else(|_| fragment.to_owned())
}
