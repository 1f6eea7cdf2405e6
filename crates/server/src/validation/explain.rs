//! Finds the place where data breaks a schema.
//!
//! In: the parts of a schema, and data that it refuses. Out: one sentence, with the place in the data and a short part
//! of it. The search goes down through the keywords that all must hold; where one of several schemas must, the place is
//! that of the whole choice. It takes a bounded number of steps, after which the answer is a general one.

use super::parts::{Part, Parts, escaped};
use super::value::shortened;
use jsonschema::error::{ValidationError, ValidationErrorKind};
use serde_json::Value;

/// The most pairs of a schema and a value that one search looks at.
const STEPS_MAX: usize = 20_000;
/// The longest place in a message, in bytes.
const PLACE_BYTES_MAX: usize = 48;

/// Names the first place at which the data breaks the schema.
pub(super) fn explain(parts: &Parts, data: &Value) -> String {
    let mut search = Search { parts, place: Vec::new(), steps: 0 };
    search.part(0, data).unwrap_or_else(|| "data: it breaks the schema".to_owned())
}

/// A step of the place.
enum Step<'d> {
    Key(&'d str),
    Index(usize),
}

struct Search<'s, 'd> {
    parts: &'s Parts,
    place: Vec<Step<'d>>,
    steps: usize,
}

impl<'d> Search<'_, 'd> {
    fn part(&mut self, at: usize, data: &'d Value) -> Option<String> {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return None;
        }
        let part = &self.parts.parts[at];
        if let Some(own) = &part.own
            && let Err(error) = own.validate(data)
        {
            return Some(self.message(&in_words(&error, data)));
        }
        if let Some(found) = part.all.iter().find_map(|&one| self.part(one, data)) {
            return Some(found);
        }
        match data {
            Value::Object(map) => {
                for (name, schema) in &part.properties {
                    if let Some((key, value)) = map.get_key_value(name)
                        && let Some(found) = self.below(Step::Key(key), *schema, value)
                    {
                        return Some(found);
                    }
                }
                if let Some(schema) = part.additional {
                    let is_other = |key: &str| part.properties.iter().all(|(name, _)| name != key);
                    for (key, value) in map.iter().filter(|(key, _)| is_other(key)) {
                        if let Some(found) = self.below(Step::Key(key), schema, value) {
                            return Some(found);
                        }
                    }
                }
            }
            Value::Array(list) => {
                for (index, value) in list.iter().enumerate() {
                    let Some(schema) = part.first.get(index).copied().or(part.items) else { break };
                    if let Some(found) = self.below(Step::Index(index), schema, value) {
                        return Some(found);
                    }
                }
            }
            _ => {}
        }
        let whole = part.whole.as_ref()?;
        (!whole.is_valid(data)).then(|| self.message(&choice(part, data)))
    }

    fn below(&mut self, step: Step<'d>, schema: usize, data: &'d Value) -> Option<String> {
        self.place.push(step);
        let found = self.part(schema, data);
        self.place.pop();
        found
    }

    fn message(&self, problem: &str) -> String {
        let mut place = String::new();
        for step in &self.place {
            place.push('/');
            match step {
                Step::Key(key) => place.push_str(&escaped(key)),
                Step::Index(index) => place.push_str(&index.to_string()),
            }
            if place.len() > PLACE_BYTES_MAX {
                place.truncate(place.floor_char_boundary(PLACE_BYTES_MAX));
                place.push('…');
                break;
            }
        }
        if place.is_empty() {
            place.push_str("data");
        }
        format!("{place}: {problem}")
    }
}

/// The crate's words, with at most a short part of the data.
fn in_words(error: &ValidationError<'_>, data: &Value) -> String {
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let first = unexpected.first().map_or("", String::as_str);
            format!("the schema has no property {:?}", shortened(first))
        }
        _ => error.masked_with(shown(data)).to_string(),
    }
}

fn choice(part: &Part, data: &Value) -> String {
    const OF_LISTS: [&str; 4] = ["items", "contains", "unevaluatedItems", "additionalItems"];
    const OF_OBJECTS: [&str; 6] = [
        "propertyNames",
        "patternProperties",
        "dependentSchemas",
        "dependencies",
        "unevaluatedProperties",
        "additionalProperties",
    ];
    let concerns = |keyword: &&str| {
        (data.is_array() || !OF_LISTS.contains(keyword)) && (data.is_object() || !OF_OBJECTS.contains(keyword))
    };
    let choices: Vec<&str> = part.choices.iter().copied().filter(concerns).collect();
    match choices.as_slice() {
        ["anyOf"] => format!("{} is as none of the alternatives of `anyOf` has it", shown(data)),
        ["oneOf"] => format!("{} is as none, or more than one, of the alternatives of `oneOf` has it", shown(data)),
        keywords => {
            let keywords: Vec<String> = keywords.iter().map(|keyword| format!("`{keyword}`")).collect();
            format!("{} is not as {} of the schema has it", shown(data), keywords.join(" and "))
        }
    }
}

/// A value in a sentence.
fn shown(data: &Value) -> String {
    match data {
        Value::Array(_) => "the list".to_owned(),
        Value::Object(_) => "the object".to_owned(),
        Value::String(text) => Value::String(shortened(text)).to_string(),
        other => other.to_string(),
    }
}
