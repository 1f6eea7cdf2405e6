//! Walks JSON whose grammar has been checked, without building a tree: the arguments of an event, its name, and the
//! placeholders of attachments.
//!
//! In: one valid JSON value. Out: parts of it, borrowed. Memory does not grow with the number of arguments.

use crate::json::string_end;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// The elements of a valid JSON array, each as its JSON text without white space around it.
#[derive(Debug, Clone)]
pub struct Elements<'a> {
    /// The text after the opening bracket or the last comma; `None` after the last element.
    rest: Option<&'a str>,
}

impl<'a> Elements<'a> {
    /// The elements of an array; any other value has none.
    pub fn of(array: &'a str) -> Self {
        Elements::between(array, '[', ']')
    }

    /// The elements of a value between these brackets; any other value has none.
    fn between(json: &'a str, open: char, close: char) -> Self {
        let inner = json.trim_matches(WHITE).strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
        Elements { rest: inner.filter(|inner| !inner.trim_matches(WHITE).is_empty()) }
    }

    /// The elements that were not taken yet, joined by commas as they came; empty after the last one.
    pub fn rest(&self) -> &'a str {
        self.rest.map_or("", |rest| rest.trim_matches(WHITE))
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let rest = self.rest.take()?;
        let end = comma(rest.as_bytes());
        if end < rest.len() {
            self.rest = Some(&rest[end + 1..]);
        }
        Some(rest[..end].trim_matches(WHITE))
    }
}

/// JSON's white space.
const WHITE: [char; 4] = [' ', '\t', '\n', '\r'];

/// The place of the first comma that is within no string, array or object; the length where there is none.
fn comma(json: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(&byte) = json.get(at) {
        match byte {
            b'"' => {
                at = string_end(json, at + 1);
                continue;
            }
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => return at,
            _ => {}
        }
        at += 1;
    }
    json.len()
}

/// The payload of an event: a name and arguments.
#[derive(Debug, Clone)]
pub struct Event<'a> {
    /// The name as JSON: a string, or a number.
    pub name: &'a str,
    /// The arguments.
    pub args: Elements<'a>,
}

impl<'a> Event<'a> {
    /// Reads the payload of an event packet.
    pub fn of(data: &'a str) -> Option<Event<'a>> {
        let mut args = Elements::of(data);
        Some(Event { name: args.next()?, args })
    }

    /// The name as text. `None` for a number, and for a text that holds half a character (a lone surrogate).
    pub fn text(&self) -> Option<Cow<'a, str>> {
        text(self.name)
    }
}

/// Appends the fields of a valid JSON object, each with a comma behind it, as `...object` does in JavaScript. Fields
/// that the text behind them sets anew are left out by their names. Any other value has no fields.
pub fn put_spread(out: &mut Vec<u8>, object: &str, without: &[&str]) {
    for field in Elements::between(object, '{', '}') {
        let name = field.get(..string_end(field.as_bytes(), 1)).and_then(text);
        if name.is_none_or(|name| !without.contains(&&*name)) {
            out.extend_from_slice(field.as_bytes());
            out.push(b',');
        }
    }
}

/// The text of a JSON string.
pub(super) fn text(json: &str) -> Option<Cow<'_, str>> {
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str(json).ok().map(Cow::Owned)
}

/// Whether every placeholder in valid JSON stands for one of `count` attachments.
pub(super) fn are_placeholders_valid(json: &str, count: usize) -> bool {
    // The key may be written with escapes, so that no search finds it.
    if memchr::memmem::find(json.as_bytes(), b"_placeholder").is_none() && !json.contains("\\u") {
        return true;
    }
    let json = json.as_bytes();
    // Of the objects that are open, the key and value that are looked for. The depth is limited before.
    let mut open: Vec<Found> = Vec::new();
    let mut at = 0;
    while let Some(&byte) = json.get(at) {
        match byte {
            b'"' => {
                let end = string_end(json, at + 1);
                if let Some(value) = value_after_key(json, end)
                    && let Some(found) = open.last_mut()
                {
                    found.field(&json[at..end], value);
                }
                at = end;
                continue;
            }
            b'{' | b'[' => open.push(Found::default()),
            b'}' | b']' if open.pop().is_some_and(|found| !found.is_valid(count)) => return false,
            _ => {}
        }
        at += 1;
    }
    true
}

/// The fields of an object that make it a placeholder.
#[derive(Debug, Clone, Copy, Default)]
struct Found {
    placeholder: bool,
    num: Option<usize>,
}

impl Found {
    /// One field; of two with the same name the last one counts, as in JavaScript.
    fn field(&mut self, key: &[u8], value: &[u8]) {
        let Some(key) = std::str::from_utf8(key).ok().and_then(text) else { return };
        let is_token_end = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
        let end = value.iter().position(is_token_end).unwrap_or(value.len());
        let token = &value[..end];
        match &*key {
            "_placeholder" => self.placeholder = token == b"true",
            "num" => self.num = std::str::from_utf8(token).ok().and_then(|text| text.parse().ok()),
            _ => {}
        }
    }

    fn is_valid(self, count: usize) -> bool {
        !self.placeholder || self.num.is_some_and(|num| num < count)
    }
}

/// The value of the key that ends at `end`; `None` where the string is no key.
fn value_after_key(json: &[u8], end: usize) -> Option<&[u8]> {
    let after = json.get(end..)?.trim_ascii_start();
    Some(after.strip_prefix(b":")?.trim_ascii_start())
}

/// Checks the grammar of JSON, at any depth.
pub(super) fn check(json: &str) -> Result<(), serde_json::Error> {
    serde_json::from_str::<&RawValue>(json).map(drop)
}
