//! The body of the fuzz target `texts_apply`, and of the tests that feed it on every run.
//!
//! For any JSON and some fields: no panic; the result is JSON on as many lines; outside of the fields nothing differs;
//! cleaning again changes nothing; a text is within its limit and holds nothing that is removed.

use super::{TextFields, TextRule, is_removed};
use crate::json;
use serde_json::Value;

const FIELDS: [&str; 5] = ["", "/content", "/user/name", "/list/0", "/a~1b"];

/// One round. The first byte chooses the rule, and the rest is the data.
pub fn apply(data: &[u8]) {
    let Some((&choice, data)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(data) else { return };
    let rule =
        TextRule { chars_max: (choice & 1 != 0).then_some(8), one_line: choice & 2 != 0, escape_html: choice & 4 != 0 };
    let mut fields = TextFields::default();
    for pointer in FIELDS {
        fields.add(pointer, rule).expect("good pointers");
    }
    let Ok(cleaned) = fields.apply(text, false) else { return };
    let cleaned = cleaned.as_deref().unwrap_or(text);
    assert!(json::payload(cleaned.as_bytes()).is_ok() || json::payload(data).is_err(), "no deeper than before");
    assert_eq!(fields.apply(cleaned, false), Ok(None), "{cleaned:?}");
    let escaped = fields.apply(cleaned, true).expect("what is clean is not refused");
    let escaped = escaped.as_deref().unwrap_or(cleaned);
    // What serde_json cannot hold as a value (lone surrogates elsewhere, 1e400) is compared no further.
    let values = [text, cleaned, escaped].map(serde_json::from_str::<Value>);
    let [_, Ok(mut after), Ok(last)] = values else { return };
    for pointer in FIELDS {
        if let Some(Value::String(text)) = after.pointer(pointer) {
            assert!(!text.chars().any(is_removed), "{text:?}");
            assert!(rule.chars_max.is_none_or(|max| text.chars().count() <= max), "{text:?}");
        }
        if let (true, Some(Value::String(text))) = (rule.escape_html, last.pointer(pointer)) {
            assert!(!text.contains(['<', '>', '"', '\'']), "{text:?}");
        }
    }
    let [Ok(mut before), ..] = [text, cleaned, escaped].map(serde_json::from_str::<Value>) else { return };
    for pointer in FIELDS {
        for value in [&mut before, &mut after] {
            if let Some(text) = value.pointer_mut(pointer).filter(|value| value.is_string()) {
                *text = Value::Null;
            }
        }
    }
    assert_eq!(before, after);
}
