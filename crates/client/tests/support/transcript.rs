//! The transcripts of docs/protocol.md: reads them from the page, and compares them with a server's messages.

use serde_json::Value;
use std::collections::HashMap;

pub(crate) const PAGE: &str = include_str!("../../../../docs/protocol.md");

/// One line of a transcript: the connection, whether it is sent, the text.
pub(crate) type Line<'a> = (&'a str, bool, &'a str);

/// The blocks of JSON whose lines begin with `>` or `<`, with the number of their first line.
pub(crate) fn transcripts() -> Vec<(usize, Vec<Line<'static>>)> {
    let mut all = Vec::new();
    let mut block: Option<(usize, Vec<Line<'static>>)> = None;
    for (number, line) in PAGE.lines().enumerate() {
        match (&mut block, line) {
            (None, "```json") => block = Some((number + 2, Vec::new())),
            (Some(_), "```") => all.extend(block.take()),
            (Some((_, lines)), line) => {
                let (who, text) = line.split_once([' ']).expect("a direction and a message");
                let sent = who.ends_with('>');
                assert!(sent || who.ends_with('<'), "line {}: {line}", number + 1);
                lines.push((&who[..who.len() - 1], sent, text));
            }
            (None, _) => {}
        }
    }
    all
}

/// A pattern as JSON: a bare `…` becomes a field of that name.
pub(crate) fn pattern(text: &str) -> Value {
    let text = text.replace(", …", r#","…":1"#).replace("{…", r#"{"…":1"#);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Compares, and learns the values of placeholders.
pub(crate) fn fits(pattern: &Value, found: &Value, words: &mut HashMap<String, Value>) -> bool {
    match (pattern, found) {
        (Value::String(any), _) if any == "…" => true,
        (Value::String(word), _) if word.starts_with('$') => {
            words.entry(word.clone()).or_insert_with(|| found.clone()) == found
        }
        (Value::Object(pattern), Value::Object(found)) => {
            let open = pattern.contains_key("…");
            let known = |name: &String| pattern.contains_key(name);
            (open || found.keys().all(known))
                && pattern
                    .iter()
                    .filter(|(name, _)| *name != "…")
                    .all(|(name, pattern)| found.get(name).is_some_and(|found| fits(pattern, found, words)))
        }
        (Value::Array(pattern), Value::Array(found)) => {
            pattern.len() == found.len()
                && pattern.iter().zip(found).all(|(pattern, found)| fits(pattern, found, words))
        }
        (pattern, found) => pattern == found,
    }
}

pub(crate) fn filled(text: &str, words: &HashMap<String, Value>) -> String {
    words.iter().fold(text.to_owned(), |text, (word, value)| text.replace(&format!("\"{word}\""), &value.to_string()))
}
