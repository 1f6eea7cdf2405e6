//! Values in the log are quoted, by construction: no text of a peer or of a handler begins a line, makes a field, or
//! moves the cursor of a terminal.
//!
//! Two steps. [`TextFields`] writes the fields of a line of text: a text stands in quotes, with quotes and
//! backslashes escaped; a value of another kind stands plain only where it is one plain word. [`escape`] takes every
//! finished line, text and JSON alike, and leaves no control character, line separator, or character that changes the
//! direction or is invisible. A message is not quoted: it stands before the fields, and its words come from the code.

use super::LogFormat;
use fanfare_hub::is_format;
use std::borrow::Cow;
use std::fmt::{self, Write as _};
use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

/// A longer value is cut. An error's text can hold a whole answer of a database.
const VALUE_BYTES_MAX: usize = 8 << 10;

/// Writes fields as `name="a text" name=word name=7`.
#[derive(Debug, Clone, Copy)]
pub(super) struct TextFields;

impl<'w> FormatFields<'w> for TextFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut visitor = TextVisitor { writer, is_first: true, result: Ok(()) };
        fields.record(&mut visitor);
        visitor.result
    }
}

struct TextVisitor<'w> {
    writer: Writer<'w>,
    is_first: bool,
    result: fmt::Result,
}

impl TextVisitor<'_> {
    fn put(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let space = if std::mem::take(&mut self.is_first) { "" } else { " " };
        let written = match field.name() {
            "message" => write!(self.writer, "{space}{value}"),
            name => write!(self.writer, "{space}{name}={value}"),
        };
        self.result = self.result.and(written);
    }
}

impl Visit for TextVisitor<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.put(field, format_args!("{}", Cut(value))),
            _ => self.put(field, format_args!("{}", Quoted(value))),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, format_args!("{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, format_args!("{value}"));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, format_args!("{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        if write!(text, "{value:?}").is_err() {
            text.push_str("(this value cannot be shown)");
        }
        match field.name() {
            "message" => self.put(field, format_args!("{}", Cut(&text))),
            _ if is_plain_word(&text) => self.put(field, format_args!("{text}")),
            _ => self.put(field, format_args!("{}", Quoted(&text))),
        }
    }
}

/// An id, an address, a number: no space, quote or sign that could end it or begin another field.
fn is_plain_word(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/@+[]".contains(&byte);
    (1..=VALUE_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_plain)
}

/// In quotes, and cut if it is too long.
struct Quoted<'t>(&'t str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match cut(self.0) {
            (text, 0) => write!(f, "{text:?}"),
            (text, more) => write!(f, "\"{}… ({more} bytes more)\"", text.escape_debug()),
        }
    }
}

/// Without quotes, and cut if it is too long.
struct Cut<'t>(&'t str);

impl fmt::Display for Cut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match cut(self.0) {
            (text, 0) => f.write_str(text),
            (text, more) => write!(f, "{text}… ({more} bytes more)"),
        }
    }
}

/// The beginning of a text, and how many bytes follow.
fn cut(text: &str) -> (&str, usize) {
    let at = text.floor_char_boundary(VALUE_BYTES_MAX);
    (&text[..at], text.len() - at)
}

/// Cannot stand in a line as it is.
fn is_hostile(c: char) -> bool {
    c.is_control() || is_format(c) || matches!(c, '\u{2028}' | '\u{2029}')
}

/// A finished line (without its line break) in which every character can be seen and none begins another line.
pub(super) fn escape(line: &str, format: LogFormat) -> Cow<'_, str> {
    if !line.chars().any(is_hostile) {
        return Cow::Borrowed(line);
    }
    let mut out = String::with_capacity(line.len() + 16);
    for c in line.chars() {
        if !is_hostile(c) {
            out.push(c);
            continue;
        }
        match format {
            LogFormat::Text => out.extend(c.escape_default()),
            // JSON has such characters within strings only, where this is their other spelling.
            LogFormat::Json => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}"); // writing to a String cannot fail
                }
            }
        }
    }
    Cow::Owned(out)
}
