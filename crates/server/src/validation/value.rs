//! Reads data for a schema.
//!
//! In: one JSON text. Out: its value, or why two readers could take it for different ones: an object names a key twice,
//! a text holds half a character, a number is none that a computer has (`1e400`). A schema that judged one reading
//! would say nothing about the other.

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// Reads a text.
///
/// # Errors
/// One sentence about what is wrong, with at most a short part of the data.
pub(super) fn read(json: &[u8]) -> Result<Value, String> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let value = Strict.deserialize(&mut deserializer);
    let value = value.and_then(|value| deserializer.end().map(|()| value));
    value.map_err(|error| {
        let text = error.to_string();
        // It is on one line.
        let what = match text.split(" at line ").next().unwrap_or_default() {
            surrogate if surrogate.contains("surrogate") || surrogate.contains("hex escape") => {
                "a text has half a character (a lone surrogate)"
            }
            what => what,
        };
        format!("it cannot be checked: {what} at byte {}", error.column())
    })
}

/// The beginning of a text of the data, for a message.
pub(super) fn shortened(text: &str) -> String {
    const BYTES_MAX: usize = 32;
    if text.len() <= BYTES_MAX {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(BYTES_MAX)])
}

struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, on: bool) -> Result<Value, E> {
        Ok(Value::Bool(on))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Number::from_f64(number).map_or(Value::Null, Value::Number)) // JSON has no other numbers
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(Strict)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(A::Error::custom(format!("the key {:?} occurs twice", shortened(&key))));
            }
            let value = map.next_value_seed(Strict)?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        let long = format!("{{{k}:1,{k}:2}}", k = format!("\"{}\"", "k".repeat(4_000)));
        let rows = [
            (r#"{"a":1,"a":2}"#, r#"the key "a" occurs twice at byte"#),
            (r#"{"a":1,"\u0061":2}"#, r#"the key "a" occurs twice at byte"#),
            (r#"[{"b":{"c":[],"c":0}}]"#, r#"the key "c" occurs twice at byte"#),
            (r#"{"x":"\ud800"}"#, "a text has half a character (a lone surrogate) at byte"),
            (r#"{"\udc00":1}"#, "a text has half a character (a lone surrogate) at byte"),
            ("[1e400]", "number out of range at byte"),
            ("[-1e999999]", "number out of range at byte"),
            (&long, "occurs twice at byte"),
            ("{}{}", "trailing characters at byte"),
            ("", "EOF while parsing a value at byte"),
        ];
        for (json, expected) in rows {
            let problem = read(json.as_bytes()).expect_err(json);
            assert!(problem.contains(expected), "{json}: {problem}");
            assert!(problem.len() < 120, "{problem}");
        }
    }

    #[test]
    fn everything_else_is_read() {
        let deep = format!("{}1{}", "[".repeat(64), "]".repeat(64));
        let rows = [
            r#"{"a":[1,-2,3.5,1e300,18446744073709551615,true,false,null,"\ud83d\ude00",{"":""}]}"#,
            "-0",
            "0.1e-400",
            &deep,
        ];
        for json in rows {
            assert_eq!(read(json.as_bytes()), Ok(serde_json::from_str(json).expect("JSON")), "{json}");
        }
    }
}
