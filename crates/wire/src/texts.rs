//! Texts that people write, made fit to be shown.
//!
//! In: a text, or JSON with texts in chosen fields. Out: the same without control characters, in Unicode's normal
//! form NFC, and no longer than allowed; or a refusal, since a cut text says something else. JSON is edited in place:
//! bytes outside of a changed text stay as they came, and without a change nothing is copied.
//!
//! Removed are control characters (C0 and C1, U+007F) but line feed and tab; the marks that turn the direction of what
//! follows, also beyond the text's own end (U+202A to U+202E, U+2066 to U+2069); and U+FEFF. Joiners (U+200C, U+200D)
//! and direction marks (U+200E, U+200F) stay: Persian words and families of emoji need them. Half a character
//! (`"\ud83d"`) becomes U+FFFD. The time for a text is linear in its length.

use crate::json;
use serde_json::value::RawValue;
use std::borrow::Cow;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

#[doc(hidden)]
pub mod fuzz;
#[cfg(test)]
mod tests;

/// The most tokens of a field's pointer.
pub const FIELD_DEPTH_MAX: usize = 16;

/// What is done to one text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TextRule {
    /// The most characters (Unicode scalar values) after the cleaning. `None` is without limit.
    pub chars_max: Option<usize>,
    /// Line breaks and tabs become spaces.
    pub one_line: bool,
    /// `&`, `<`, `>` and quotes are written as HTML has them, for pages that insert the text as markup. It is done
    /// last, and once.
    pub escape_html: bool,
}

/// More characters than allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{len} characters exceed the limit of {max}")]
pub struct TooLong {
    /// So many it has.
    pub len: usize,
    /// So many it may have.
    pub max: usize,
}

impl TextRule {
    /// Cleans a text. Nothing is escaped.
    ///
    /// # Errors
    /// [`TooLong`].
    pub fn clean<'t>(&self, text: &'t str) -> Result<Cow<'t, str>, TooLong> {
        let cleaned = self.cleaned(text);
        match self.chars_max {
            // A character has a byte at least.
            Some(max) if cleaned.len() > max => match cleaned.chars().count() {
                len if len > max => Err(TooLong { len, max }),
                _ => Ok(cleaned),
            },
            _ => Ok(cleaned),
        }
    }

    /// Cleans a JSON text as it is written. Other values stay.
    pub(crate) fn clean_json<'r>(&self, raw: &'r RawValue, is_last: bool) -> Result<Cow<'r, str>, TooLong> {
        let Some(text) = decoded(raw) else { return Ok(Cow::Borrowed(raw.get())) };
        let mut cleaned = self.clean(&text)?;
        if is_last && self.escape_html {
            cleaned = Cow::Owned(escaped_html(&cleaned).into_owned());
        }
        // Half a character is read as a whole one, but still written as it was.
        let is_halved = || json::text_bytes(raw).is_some_and(|bytes| *bytes != *text.as_bytes());
        if *cleaned == *text && !is_halved() {
            return Ok(Cow::Borrowed(raw.get()));
        }
        Ok(Cow::Owned(serde_json::Value::String(cleaned.into_owned()).to_string()))
    }

    fn cleaned<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let is_plain = |byte: u8| matches!(byte, b' '..=b'~') || !self.one_line && matches!(byte, b'\n' | b'\t');
        if text.bytes().all(is_plain) {
            return Cow::Borrowed(text); // most are
        }
        let is_break = |c: char| matches!(c, '\n' | '\t' | '\u{2028}' | '\u{2029}');
        let kept = match text.chars().any(|c| is_removed(c) || self.one_line && is_break(c)) {
            false => Cow::Borrowed(text),
            true => {
                let kept = text.chars().filter(|c| !is_removed(*c));
                Cow::Owned(kept.map(|c| if self.one_line && is_break(c) { ' ' } else { c }).collect())
            }
        };
        match is_nfc_quick(kept.chars()) {
            IsNormalized::Yes => kept,
            _ => {
                let composed: String = kept.nfc().collect();
                if composed == kept { kept } else { Cow::Owned(composed) }
            }
        }
    }
}

fn is_removed(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\t')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// A text as HTML has it, also within an attribute's quotes.
fn escaped_html(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '"', '\'']) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// A JSON text without its escapes; half a character is U+FFFD. `None` for other values.
pub(crate) fn decoded(raw: &RawValue) -> Option<Cow<'_, str>> {
    Some(match json::text_bytes(raw)? {
        Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
        Cow::Owned(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Cow::Owned(text),
            Err(error) => Cow::Owned(whole_characters(error.as_bytes())),
        },
    })
}

/// Lone surrogates are in the three bytes that UTF-8 would give them (ED A0..BF xx), and nothing else is invalid.
fn whole_characters(bytes: &[u8]) -> String {
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte == 0xed && bytes.get(at + 1).is_some_and(|next| *next >= 0xa0) {
            out.extend_from_slice("\u{fffd}".as_bytes());
            at += 3;
        } else {
            out.push(byte);
            at += 1;
        }
    }
    String::from_utf8(out).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// The fields of JSON that hold such texts.
#[derive(Debug, Clone, Default)]
pub struct TextFields {
    root: Node,
}

/// One value: what is done to it, and to the fields below it.
#[derive(Debug, Clone, Default)]
struct Node {
    rule: Option<TextRule>,
    below: Vec<(Box<str>, Node)>,
}

/// A field that cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// It is no JSON pointer.
    #[error("{0:?} is no JSON pointer: it is empty, or begins with a slash, and a tilde in it is ~0 and a slash ~1")]
    Pointer(String),
    /// It is too deep.
    #[error("{0:?} has more than {FIELD_DEPTH_MAX} parts")]
    Deep(String),
    /// It is there already.
    #[error("{0:?} is named twice")]
    Twice(String),
}

/// Data with a text that is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextError {
    /// The place in the data, as a JSON pointer. It is one of the fields, and so not a client's word.
    pub place: String,
    /// What is wrong there.
    pub problem: TextProblem,
}

/// What is wrong with a text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextProblem {
    /// It is too long.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// A list or an object, in which other texts could hide.
    #[error("it must be a text, found {0}")]
    NotText(&'static str),
    /// Two readers could take different ones.
    #[error("the key occurs twice")]
    Twice,
    /// The data is no JSON.
    #[error("it is no JSON")]
    NotJson,
}

/// Texts to put into the data, with their places.
type Edits = Vec<(usize, usize, String)>;

impl TextFields {
    /// Adds a field by its JSON pointer (RFC 6901); `""` is the data itself.
    ///
    /// # Errors
    /// The pointer is invalid or known.
    pub fn add(&mut self, pointer: &str, rule: TextRule) -> Result<(), FieldError> {
        let tokens = tokens(pointer).ok_or_else(|| FieldError::Pointer(pointer.to_owned()))?;
        if tokens.len() > FIELD_DEPTH_MAX {
            return Err(FieldError::Deep(pointer.to_owned()));
        }
        let mut node = &mut self.root;
        for token in tokens {
            let place = match node.below.iter().position(|(name, _)| **name == *token) {
                Some(place) => place,
                None => {
                    node.below.push((token.into(), Node::default()));
                    node.below.len() - 1
                }
            };
            node = &mut node.below[place].1;
        }
        match node.rule.replace(rule) {
            None => Ok(()),
            Some(_) => Err(FieldError::Twice(pointer.to_owned())),
        }
    }

    /// True without any field.
    pub fn is_empty(&self) -> bool {
        self.root.rule.is_none() && self.root.below.is_empty()
    }

    /// Cleans the fields of JSON. `None`: nothing changes. `is_last`: texts are escaped too, where their rules say so.
    ///
    /// # Errors
    /// The first text that is refused.
    pub fn apply(&self, json: &str, is_last: bool) -> Result<Option<String>, TextError> {
        let wrong = |problem| TextError { place: String::new(), problem };
        let data: &RawValue = serde_json::from_str(json).map_err(|_| wrong(TextProblem::NotJson))?;
        let mut walk = Walk { json, place: Vec::new(), edits: Edits::new(), is_last };
        if let Err(problem) = walk.value(&self.root, data) {
            let tokens = walk.place.iter().map(|token| format!("/{}", token.replace('~', "~0").replace('/', "~1")));
            return Err(TextError { place: tokens.collect(), problem });
        }
        if walk.edits.is_empty() {
            return Ok(None);
        }
        walk.edits.sort_unstable_by_key(|(start, ..)| *start);
        let mut out = String::with_capacity(json.len());
        let mut done = 0;
        for (start, end, text) in walk.edits {
            out.push_str(&json[done..start]);
            out.push_str(&text);
            done = end;
        }
        out.push_str(&json[done..]);
        Ok(Some(out))
    }
}

/// The parts of a JSON pointer; `None` if it is none.
fn tokens(pointer: &str) -> Option<Vec<String>> {
    if pointer.is_empty() {
        return Some(Vec::new());
    }
    let unescaped = |token: &str| {
        let is_escape = |(at, _): (usize, &str)| matches!(token.as_bytes().get(at + 1), Some(b'0' | b'1'));
        token.match_indices('~').all(is_escape).then(|| token.replace("~1", "/").replace("~0", "~"))
    };
    pointer.strip_prefix('/')?.split('/').map(unescaped).collect()
}

struct Walk<'a> {
    json: &'a str,
    /// Where it is; after an error, where that is.
    place: Vec<&'a str>,
    edits: Edits,
    is_last: bool,
}

impl<'a> Walk<'a> {
    fn value(&mut self, node: &'a Node, value: &'a RawValue) -> Result<(), TextProblem> {
        match (value.get().as_bytes().first(), &node.rule) {
            (Some(b'"'), Some(rule)) => self.text(rule, value),
            (Some(b'{'), None) => self.object(node, value),
            (Some(b'{'), Some(_)) if !node.below.is_empty() => self.object(node, value),
            (Some(b'['), rule) => {
                let is_index = |token: &str| token == "0" || !token.starts_with('0') && token.parse::<u32>().is_ok();
                match node.below.iter().any(|(token, _)| is_index(token)) {
                    true => self.list(node, value),
                    false if rule.is_some() => Err(TextProblem::NotText("a list")),
                    false => Ok(()),
                }
            }
            (Some(b'{'), Some(_)) => Err(TextProblem::NotText("an object")),
            _ => Ok(()), // numbers, true, false and null hold no text
        }
    }

    fn text(&mut self, rule: &TextRule, value: &RawValue) -> Result<(), TextProblem> {
        if let Cow::Owned(written) = rule.clean_json(value, self.is_last)? {
            let start = value.get().as_ptr().addr() - self.json.as_ptr().addr();
            self.edits.push((start, start + value.get().len(), written));
        }
        Ok(())
    }

    fn object(&mut self, node: &'a Node, value: &'a RawValue) -> Result<(), TextProblem> {
        if node.below.is_empty() {
            return Ok(());
        }
        let add = |found: &mut Vec<(usize, &'a RawValue)>, key: &str, value: &'a RawValue| {
            found.extend(node.below.iter().position(|(name, _)| **name == *key).map(|place| (place, value)));
        };
        let found: Vec<(usize, &RawValue)> = json::object(value.get(), add).map_err(|_| TextProblem::NotJson)?;
        for (index, &(place, value)) in found.iter().enumerate() {
            let (name, below) = &node.below[place];
            self.place.push(name);
            if found[..index].iter().any(|(other, _)| *other == place) {
                return Err(TextProblem::Twice);
            }
            self.value(below, value)?;
            self.place.pop();
        }
        Ok(())
    }

    fn list(&mut self, node: &'a Node, value: &'a RawValue) -> Result<(), TextProblem> {
        let elements: Vec<&RawValue> = serde_json::from_str(value.get()).map_err(|_| TextProblem::NotJson)?;
        for (name, below) in &node.below {
            if let Some(element) = name.parse::<usize>().ok().and_then(|index| elements.get(index)) {
                self.place.push(name);
                self.value(below, element)?;
                self.place.pop();
            }
        }
        Ok(())
    }
}
