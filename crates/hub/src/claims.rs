//! Claims: facts of an identity that rules may ask for, found by name in the JSON object that holds them all.
//!
//! In: the object, as the application proved it, and the name of a claim. Out: its values: the claim itself, or the
//! entries of a list. They are read where a rule asks for them, and not kept in another form: most rules never do. A
//! name is first one of the object itself, as it is (`https://id.example/role`), and then a path through inner objects
//! (`realm_access.roles`). A name that is there twice in one object has no value: two readers could take two of them.

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// The longest name of a claim in a rule, in bytes.
pub const CLAIM_NAME_BYTES_MAX: usize = 255;

/// A value of a claim. Values of different kinds differ: `"1"` is not `1`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ClaimValue {
    /// A text.
    Text(Box<str>),
    /// A whole number.
    Number(i64),
    /// `true` or `false`.
    Switch(bool),
}

impl fmt::Display for ClaimValue {
    /// As JSON, and TOML, have it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClaimValue::Text(text) => write!(f, "{text:?}"),
            ClaimValue::Number(number) => write!(f, "{number}"),
            ClaimValue::Switch(on) => write!(f, "{on}"),
        }
    }
}

impl From<&str> for ClaimValue {
    fn from(text: &str) -> Self {
        ClaimValue::Text(text.into())
    }
}

impl From<i64> for ClaimValue {
    fn from(number: i64) -> Self {
        ClaimValue::Number(number)
    }
}

impl From<bool> for ClaimValue {
    fn from(on: bool) -> Self {
        ClaimValue::Switch(on)
    }
}

/// A value that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found<'f> {
    Text(&'f str),
    Number(i64),
    Switch(bool),
}

impl Found<'_> {
    pub(crate) fn is(self, value: &ClaimValue) -> bool {
        match value {
            ClaimValue::Text(text) => self == Found::Text(text),
            ClaimValue::Number(number) => self == Found::Number(*number),
            ClaimValue::Switch(on) => self == Found::Switch(*on),
        }
    }

    /// Whether this segment of a channel's name is this value: the same text, or the same digits.
    pub(crate) fn is_segment(self, segment: &str) -> bool {
        match self {
            Found::Text(text) => text == segment,
            Found::Number(number) => number.to_string() == segment,
            Found::Switch(_) => false,
        }
    }
}

/// Whether some value of the claim is the sought one. Values that are neither text, whole number nor switch are none.
pub(crate) fn any(claims: &[u8], name: &str, mut is: impl FnMut(Found<'_>) -> bool) -> bool {
    let Ok(whole) = serde_json::from_slice::<&RawValue>(claims) else { return false };
    let Some(value) = find(whole, name) else { return false };
    if !value.get().starts_with('[') {
        return is_scalar(value, &mut is);
    }
    let list: Vec<&RawValue> = serde_json::from_str(value.get()).unwrap_or_default();
    list.into_iter().any(|one| is_scalar(one, &mut is))
}

/// The claim, as JSON.
pub(crate) fn value<'c>(claims: &'c [u8], name: &str) -> Option<&'c str> {
    let whole = serde_json::from_slice::<&RawValue>(claims).ok()?;
    find(whole, name).map(RawValue::get)
}

fn is_scalar(value: &RawValue, is: &mut impl FnMut(Found<'_>) -> bool) -> bool {
    match value.get() {
        "true" => is(Found::Switch(true)),
        "false" => is(Found::Switch(false)),
        text if text.starts_with('"') => {
            serde_json::from_str::<Text<'_>>(text).is_ok_and(|Text(text)| is(Found::Text(&text)))
        }
        // A fraction and an exponent are no whole number, whatever they come to.
        number => number.parse::<i64>().is_ok_and(|number| is(Found::Number(number))),
    }
}

/// Borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'t>(#[serde(borrow)] Cow<'t, str>);

fn find<'c>(object: &'c RawValue, name: &str) -> Option<&'c RawValue> {
    match field(object, name) {
        Field::One(value) => Some(value),
        Field::Twice => None,
        Field::None => name.match_indices('.').find_map(|(dot, _)| {
            let Field::One(inner) = field(object, &name[..dot]) else { return None };
            find(inner, &name[dot + 1..])
        }),
    }
}

/// A field of an object.
enum Field<'c> {
    None,
    One(&'c RawValue),
    Twice,
}

/// A value that is no object has no fields.
fn field<'c>(object: &'c RawValue, name: &str) -> Field<'c> {
    struct Seek<'n>(&'n str);
    impl<'de> Visitor<'de> for Seek<'_> {
        type Value = Field<'de>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a JSON object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut found = Field::None;
            while let Some((Text(key), value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
                if key == self.0 {
                    found = if matches!(found, Field::None) { Field::One(value) } else { Field::Twice };
                }
            }
            Ok(found)
        }
    }
    if !object.get().starts_with('{') {
        return Field::None;
    }
    let mut deserializer = serde_json::Deserializer::from_str(object.get());
    deserializer.deserialize_map(Seek(name)).unwrap_or(Field::None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(claims: &str, name: &str) -> Vec<String> {
        let mut found = Vec::new();
        any(claims.as_bytes(), name, |value| {
            found.push(format!("{value:?}"));
            false
        });
        found
    }

    #[test]
    fn a_claim_is_found_by_its_name_or_by_a_path() {
        let claims = r#"{"role":"admin","n":-7,"on":true,"roles":["a","\u0062",3,false,null,1.5,{"x":1},["y"]],
            "realm":{"roles":["c"],"a.b":"inner"},"https://id.example/role":"d","a.b":"whole","a":{"b":"path"},
            "nothing":null,"fraction":1.0,"big":18446744073709551615,"twice":{"x":1,"x":2},"e":1e3}"#;
        let rows: &[(&str, &[&str])] = &[
            ("role", &["Text(\"admin\")"]),
            ("n", &["Number(-7)"]),
            ("on", &["Switch(true)"]),
            ("roles", &["Text(\"a\")", "Text(\"b\")", "Number(3)", "Switch(false)"]),
            ("realm.roles", &["Text(\"c\")"]),
            ("realm.a.b", &["Text(\"inner\")"]),
            ("https://id.example/role", &["Text(\"d\")"]),
            ("a.b", &["Text(\"whole\")"]),
            ("realm", &[]),
            ("nothing", &[]),
            ("fraction", &[]),
            ("e", &[]),
            ("big", &[]),
            ("twice.x", &[]),
            ("Role", &[]),
            ("role.x", &[]),
            (".", &[]),
            ("", &[]),
        ];
        for (name, expected) in rows {
            assert_eq!(values(claims, name), *expected, "{name}");
        }
        assert_eq!(values(r#"{"a":1,"\u0061":2}"#, "a"), [""; 0], "which of the two?");
    }

    #[test]
    fn what_is_no_object_has_no_claims() {
        for claims in ["", "[]", "7", "\"a\"", "{", "{\"a\"}", "null", "\u{feff}{}"] {
            assert_eq!(values(claims, "a"), [""; 0], "{claims}");
        }
    }

    #[test]
    fn kinds_differ_and_a_segment_is_compared_by_the_letter() {
        assert!(
            Found::Text("1").is(&"1".into()) && Found::Number(1).is(&1.into()) && Found::Switch(true).is(&true.into())
        );
        assert!(
            !Found::Text("1").is(&1.into()) && !Found::Number(1).is(&"1".into()) && !Found::Text("A").is(&"a".into())
        );
        assert!(Found::Text("a").is_segment("a") && Found::Number(-7).is_segment("-7"));
        assert!(!Found::Number(7).is_segment("07") && !Found::Switch(true).is_segment("true"));
        assert!(!Found::Text("*").is_segment("a") && !Found::Text("A").is_segment("a"));
    }
}
