//! `uniqueItems`, in time that is proportional to the data's length whatever the data is.
//!
//! The crate `jsonschema` puts the items into a hash table, and its hash of a list has no brackets: `[[]]` and
//! `[[], []]` have the same one, under every key. A message of a few thousand such items made it compare each with each
//! other. Here each item has a text of its own, as JSON Schema compares values (`1` and `1.0` are one number, the order
//! of fields does not matter), and a table whose key is random holds the texts.

use jsonschema::paths::Location;
use jsonschema::{Keyword, ValidationError};
use serde_json::{Map, Number, Value};
use std::collections::HashSet;

/// The keyword with the value `true`, or `false`, which says nothing.
struct UniqueItems {
    is_on: bool,
}

/// Makes the keyword. That the value is a boolean is the metaschema's business.
pub(super) fn keyword<'a>(
    _parent: &'a Map<String, Value>,
    value: &'a Value,
    _at: Location,
) -> Result<Box<dyn for<'i> Keyword<'i>>, ValidationError<'a>> {
    Ok(Box::new(UniqueItems { is_on: value == &Value::Bool(true) }))
}

impl<'i> Keyword<'i> for UniqueItems {
    fn validate(&self, instance: &'i Value) -> Result<(), ValidationError<'i>> {
        match self.is_valid(instance) {
            true => Ok(()),
            false => Err(ValidationError::custom("the list has non-unique elements")),
        }
    }

    fn is_valid(&self, instance: &'i Value) -> bool {
        let Value::Array(items) = instance else { return true };
        if !self.is_on {
            return true;
        }
        let mut seen = HashSet::with_capacity(items.len());
        items.iter().all(|item| {
            let mut text = Vec::new();
            put(item, &mut text);
            seen.insert(text)
        })
    }
}

/// Appends the text of a value: that of no other value, and the beginning of no other text.
fn put(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(b'n'),
        Value::Bool(true) => out.push(b't'),
        Value::Bool(false) => out.push(b'f'),
        Value::Number(number) => put_number(number, out),
        Value::String(text) => put_text(text, out),
        Value::Array(items) => {
            out.push(b'[');
            items.iter().for_each(|item| put(item, out));
            out.push(b']');
        }
        // Its fields are in the order of their names.
        Value::Object(fields) => {
            out.push(b'{');
            for (name, value) in fields {
                put_text(name, out);
                put(value, out);
            }
            out.push(b'}');
        }
    }
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    out.push(b's');
    out.extend_from_slice(&text.len().to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn put_number(number: &Number, out: &mut Vec<u8>) {
    let whole = match (number.as_i64(), number.as_u64(), number.as_f64()) {
        (Some(whole), ..) => Some(i128::from(whole)),
        (None, Some(whole), _) => Some(i128::from(whole)),
        // Exact: a whole number in this range is an `i128`.
        (None, None, Some(number)) if number.fract() == 0.0 && number.abs() < 1e38 => Some(number as i128),
        _ => None,
    };
    match (whole, number.as_f64()) {
        (Some(whole), _) => {
            out.push(b'i');
            out.extend_from_slice(&whole.to_be_bytes());
        }
        (None, float) => {
            out.push(b'd');
            out.extend_from_slice(&float.unwrap_or_default().to_bits().to_be_bytes());
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    /// All lists of lists with so many brackets in each.
    pub(in super::super) fn trees(brackets: usize) -> Vec<Value> {
        // Sequences of trees with so many brackets in all: the first tree, and the rest.
        fn forests(brackets: usize) -> Vec<Vec<Value>> {
            if brackets == 0 {
                return vec![Vec::new()];
            }
            let with = |inner: usize| {
                let rest = forests(brackets - inner - 1);
                forests(inner).into_iter().flat_map(move |first| {
                    let first = Value::Array(first);
                    rest.clone().into_iter().map(move |rest| std::iter::once(first.clone()).chain(rest).collect())
                })
            };
            (0..brackets).flat_map(with).collect()
        }
        forests(brackets).into_iter().map(Value::Array).collect()
    }

    fn text(value: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        put(value, &mut out);
        out
    }

    #[test]
    fn values_are_one_where_json_schema_says_so() {
        let rows = [
            (json!(1), json!(1.0), true),
            (json!(0), json!(-0.0), true),
            (json!(1e20), json!(1e20), true),
            (json!(u64::MAX), json!(u64::MAX - 1), false),
            (json!(1.5), json!(1.25), false),
            (json!(1), json!("1"), false),
            (json!(1), json!(true), false),
            (json!(null), json!([]), false),
            (json!("ab"), json!(["a", "b"]), false),
            (json!(["ab"]), json!(["a", "b"]), false),
            (json!({"a": 1, "b": 2}), json!({"b": 2, "a": 1}), true),
            (json!({"a": {"b": 1}}), json!({"a": "b"}), false),
            (json!([[1], [2]]), json!([[1, 2], []]), false),
        ];
        for (one, other, is_same) in rows {
            assert_eq!(text(&one) == text(&other), is_same, "{one} and {other}");
        }
    }

    #[test]
    fn lists_of_nothing_but_brackets_have_texts_of_their_own() {
        let all: Vec<Value> = (1..=7).flat_map(trees).collect();
        assert_eq!(all.len(), 1 + 2 + 5 + 14 + 42 + 132 + 429);
        let texts: HashSet<Vec<u8>> = all.iter().map(text).collect();
        assert_eq!(texts.len(), all.len());
    }
}
