//! Payloads: JSON that is passed on as it came, and the checks before that is safe.
//!
//! In: one JSON value whose grammar serde_json has checked. Out: the same bytes, nested at most [`DEPTH_MAX`] deep
//! and on one line: raw CR and LF between tokens become spaces, since a line break in a payload would end an NDJSON
//! record or an SSE field. Inside of strings there are none: JSON forbids raw control characters there. Copies only
//! where it changes something. Everything else stays as it came, lone surrogates (`"\ud800"`) and `1e9999` included:
//! both are JSON.
//!
//! `object` and `text_bytes` read what surrounds payloads by the same rule: a key or a text with a lone surrogate is
//! JSON, though no Rust `str` can hold it.

use serde::Deserializer as _;
use serde::de::{DeserializeSeed, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// How deep a payload may be nested. serde_json's raw values have no limit of their own, and receivers recurse.
pub const DEPTH_MAX: usize = 64;

/// The payload is nested deeper than [`DEPTH_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nested {depth} levels deep exceeds the limit of {DEPTH_MAX}")]
pub struct TooDeep {
    /// How deep it is, all of it.
    pub depth: usize,
}

/// Judges one valid JSON value and puts it on one line.
///
/// # Errors
/// [`TooDeep`] says how deep it is.
pub fn payload(json: &[u8]) -> Result<Cow<'_, [u8]>, TooDeep> {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut changed: Option<Vec<u8>> = None;
    let mut at = 0;
    while let Some(&byte) = json.get(at) {
        match byte {
            b'"' => {
                at = string_end(json, at + 1);
                continue;
            }
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'\r' | b'\n' => changed.get_or_insert_with(|| json.to_vec())[at] = b' ',
            _ => {}
        }
        at += 1;
    }
    if deepest > DEPTH_MAX {
        return Err(TooDeep { depth: deepest });
    }
    Ok(changed.map_or(Cow::Borrowed(json), Cow::Owned))
}

/// The place after the quote that ends the string whose content begins at `at`.
pub(crate) fn string_end(json: &[u8], mut at: usize) -> usize {
    while let Some(found) = json.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += found;
        if json[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    json.len()
}

/// The byte order mark, which RFC 8259 §8.1 forbids to send and allows to ignore.
pub(crate) const MARK: char = '\u{feff}';

/// A text without the byte order mark that it may begin with: one rule for every text that is read, a message, a
/// body, a file. A second one is a character like any other.
pub fn unmarked(text: &str) -> &str {
    text.strip_prefix(MARK).unwrap_or(text)
}

/// [`unmarked`] for bytes that may be no text.
pub fn unmarked_bytes(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes)
}
/// The hint in an error: the parser only says that it expected a value.
pub(crate) const MARK_HINT: &str = " (it begins with a byte order mark, U+FEFF)";

/// Reads one JSON object: each field is given to `add` in its turn, as a raw value. A key with a lone surrogate is
/// passed over, for no known field has such a name.
pub(crate) fn object<'a, T: Default>(
    text: &'a str,
    add: impl Fn(&mut T, &str, &'a RawValue),
) -> Result<T, serde_json::Error> {
    let read = |lone, into: &mut T| {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        deserializer.deserialize_map(ObjectVisitor { lone, add: &add, into })?;
        deserializer.end()
    };
    // It is filled in its place: the fields of a message take more than a kilobyte, and each layer of the parser would
    // move them.
    let mut object = T::default();
    match read(false, &mut object) {
        // Reading keys as bytes checks less than the grammar asks for, so all of it is checked before.
        Err(_) if text.contains("\\u") => {
            serde_json::from_str::<&RawValue>(text)?;
            object = T::default();
            read(true, &mut object)?;
        }
        read => read?,
    }
    Ok(object)
}

struct ObjectVisitor<'f, F, T> {
    /// Keys may hold lone surrogates.
    lone: bool,
    add: &'f F,
    into: &'f mut T,
}

impl<'de, F: Fn(&mut T, &str, &'de RawValue), T> Visitor<'de> for ObjectVisitor<'_, F, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        // A key that had to be unescaped lives only until the value is read, so it is copied: few are.
        while let Some(key) = map.next_key_seed(Key { lone: self.lone })? {
            let value = map.next_value()?;
            if let Ok(key) = std::str::from_utf8(&key) {
                (self.add)(self.into, key, value);
            }
        }
        Ok(())
    }
}

struct Key {
    lone: bool,
}

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, [u8]>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Cow<'de, [u8]>, D::Error> {
        if self.lone { deserializer.deserialize_bytes(self) } else { deserializer.deserialize_identifier(self) }
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, [u8]>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Cow<'de, [u8]>, E> {
        Ok(Cow::Borrowed(text.as_bytes()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Cow<'de, [u8]>, E> {
        Ok(Cow::Owned(text.as_bytes().to_vec()))
    }

    fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Cow<'de, [u8]>, E> {
        Ok(Cow::Borrowed(bytes))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Cow<'de, [u8]>, E> {
        Ok(Cow::Owned(bytes.to_vec()))
    }
}

/// A raw value that is a text, without its escapes; `None` for other values. Bytes that are not UTF-8 hold a lone
/// surrogate, in the three bytes that UTF-8 would give it. Two texts are equal where these bytes are.
pub(crate) fn text_bytes(raw: &RawValue) -> Option<Cow<'_, [u8]>> {
    if !raw.get().starts_with('"') {
        return None;
    }
    Key { lone: true }.deserialize(&mut serde_json::Deserializer::from_str(raw.get())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(depth: usize) -> String {
        "[".repeat(depth) + &"]".repeat(depth)
    }

    #[test]
    fn line_breaks_become_spaces_and_nothing_else_changes() {
        let rows: &[(&str, &str)] = &[
            ("1", "1"),
            ("{\n\"a\":\r\n[1,\n2]}", "{ \"a\":  [1, 2]}"),
            (r#""a\nb""#, r#""a\nb""#),
            ("[\"\\\\\",\n\"\\\"\",\n1]", "[\"\\\\\", \"\\\"\", 1]"),
            (r#""\ud800""#, r#""\ud800""#),
            ("1e9999", "1e9999"),
            ("\t[ ]", "\t[ ]"),
        ];
        for (json, expected) in rows {
            let got = payload(json.as_bytes()).unwrap();
            assert_eq!(std::str::from_utf8(&got).unwrap(), *expected, "{json:?}");
            assert_eq!(matches!(got, Cow::Borrowed(_)), json == expected, "{json:?} is copied only where it changes");
        }
    }

    #[test]
    fn sixty_four_levels_are_the_limit() {
        assert!(payload(nested(64).as_bytes()).is_ok());
        assert_eq!(payload(nested(65).as_bytes()), Err(TooDeep { depth: 65 }));
        assert_eq!(payload(nested(200_000).as_bytes()), Err(TooDeep { depth: 200_000 }));
        assert!(payload(format!("[{}]", vec!["[]"; 100].join(",")).as_bytes()).is_ok(), "siblings are not depth");
        assert!(
            payload(format!("\"{}\\\"{}\"", "[".repeat(100), "{".repeat(100)).as_bytes()).is_ok(),
            "nor are strings"
        );
    }

    #[test]
    fn invalid_json_causes_no_panic() {
        for json in ["", "\"", "\"\\", "\"\\\"", "]]]]", "}{", "\\"] {
            let _ = payload(json.as_bytes());
        }
    }
}
