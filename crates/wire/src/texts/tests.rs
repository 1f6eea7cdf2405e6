//! Texts by tables, and data that is made to be a nuisance.

use super::*;
use proptest::prelude::*;

const ANY: TextRule = TextRule { chars_max: None, one_line: false, escape_html: false };

fn fields(rows: &[(&str, TextRule)]) -> TextFields {
    let mut fields = TextFields::default();
    for (pointer, rule) in rows {
        fields.add(pointer, *rule).expect(pointer);
    }
    fields
}

#[test]
fn texts_are_cleaned() {
    let one_line = TextRule { one_line: true, ..ANY };
    let rows = [
        ("plain", ANY, "a\n\tb ~", "a\n\tb ~"),
        ("controls", ANY, "a\0\u{1b}[31m\r\n\u{7f}\u{85}\u{9f}b", "a[31m\nb"),
        ("turned direction", ANY, "\u{202e}evil\u{202c}\u{2066}x\u{2069}", "evilx"),
        ("byte order mark", ANY, "\u{feff}a\u{feff}b", "ab"),
        (
            "joiners and direction marks stay",
            ANY,
            "👨\u{200d}👩 می\u{200c}خواهم \u{200f}",
            "👨\u{200d}👩 می\u{200c}خواهم \u{200f}",
        ),
        ("NFC", ANY, "e\u{301} A\u{30a} \u{1100}\u{1161}", "é Å 가"),
        ("NFC orders marks", ANY, "q\u{307}\u{323}", "q\u{323}\u{307}"),
        ("NFC grows", ANY, "\u{1d160}\u{fb2c}", "\u{1d158}\u{1d165}\u{1d16e}\u{5e9}\u{5bc}\u{5c1}"),
        ("a control between a letter and its mark", ANY, "e\u{0}\u{301}", "é"),
        ("one line", one_line, "a\r\nb\tc\u{2028}d\u{85}", "a b c d"),
        ("nothing is left", one_line, "\u{202e}\0", ""),
    ];
    for (name, rule, text, expected) in rows {
        let cleaned = rule.clean(text).expect(name);
        assert_eq!(cleaned, expected, "{name}");
        assert_eq!(matches!(cleaned, Cow::Borrowed(_)), text == expected, "{name}: copied only where it changes");
        assert_eq!(rule.clean(expected).as_deref(), Ok(expected), "{name}: again");
    }
}

#[test]
fn characters_are_counted_after_the_cleaning() {
    let rule = TextRule { chars_max: Some(4), ..ANY };
    for (text, len) in [
        ("abcd", 4),
        ("abcde", 5),
        ("日本語字", 4),
        ("👨\u{200d}👩\u{200d}👧", 5),
        ("e\u{301}e\u{301}", 2),
        ("\0\0\0\0ab", 2),
        ("\u{1d160}é", 4),
        ("\u{1d160}éé", 5),
    ] {
        let expected = if len > 4 { Err(TooLong { len, max: 4 }) } else { Ok(len) };
        assert_eq!(rule.clean(text).map(|text| text.chars().count()), expected, "{text:?}");
    }
}

#[test]
fn only_the_fields_change_and_only_where_they_must() {
    let html = TextRule { escape_html: true, ..ANY };
    let of = fields(&[("/content", html), ("/user/name", ANY), ("/list/1", ANY), ("/a~1b~0", ANY)]);
    let rows = [
        // (data, cleaned, as it is published)
        (r#"{"content":"hi","n":1e400,"x":"\ud800\u0000"}"#, None, None),
        (r#"{"content":"\u0068i"}"#, None, None),
        (
            r#" { "content" : "a\u0000b" , "n":1.0 } "#,
            Some(r#" { "content" : "ab" , "n":1.0 } "#),
            Some(r#" { "content" : "ab" , "n":1.0 } "#),
        ),
        (r#"{"content":"<b>&'\""}"#, None, Some(r#"{"content":"&lt;b&gt;&amp;&#39;&quot;"}"#)),
        (r#"{"cont\u0065nt":"a\u202e<"}"#, Some(r#"{"cont\u0065nt":"a<"}"#), Some(r#"{"cont\u0065nt":"a&lt;"}"#)),
        (
            r#"{"user":{"name":"e\u0301"},"list":["\u0000","\u0000",0]}"#,
            Some(r#"{"user":{"name":"é"},"list":["\u0000","",0]}"#),
            Some(r#"{"user":{"name":"é"},"list":["\u0000","",0]}"#),
        ),
        (
            r#"{"list":["\u0000"],"user":"\u0000","a/b~":"\u0007x"}"#,
            Some(r#"{"list":["\u0000"],"user":"\u0000","a/b~":"x"}"#),
            Some(r#"{"list":["\u0000"],"user":"\u0000","a/b~":"x"}"#),
        ),
        (r#"{"content":"cut \ud83d"}"#, Some(r#"{"content":"cut �"}"#), Some(r#"{"content":"cut �"}"#)),
        (
            r#"{"content":"\ude00\ud83d\u0000 \ud83d\ude00"}"#,
            Some(r#"{"content":"�� 😀"}"#),
            Some(r#"{"content":"�� 😀"}"#),
        ),
        (r#"{"content":null,"user":7}"#, None, None),
        (r#""a\u0000""#, None, None),
        ("[[]]", None, None),
    ];
    for (data, cleaned, last) in rows {
        assert_eq!(of.apply(data, false).as_ref().map(Option::as_deref), Ok(cleaned), "{data}");
        assert_eq!(of.apply(data, true).as_ref().map(Option::as_deref), Ok(last), "{data}");
    }
    let whole = fields(&[("", ANY), ("/content", ANY)]);
    assert_eq!(whole.apply(r#" "a\u0000" "#, true), Ok(Some(r#" "a" "#.to_owned())));
    assert_eq!(whole.apply(r#"{"content":"\u0000"}"#, true), Ok(Some(r#"{"content":""}"#.to_owned())));
}

#[test]
fn what_could_hide_a_text_is_refused() {
    let short = TextRule { chars_max: Some(2), ..ANY };
    let of = fields(&[("", short), ("/content", short), ("/user/name", short), ("/list/0", short)]);
    let problem = |data: &str| of.apply(data, true).map_err(|error| format!("{}: {}", error.place, error.problem));
    let refused = |place: &str, what: &str| Err(format!("{place}: {what}"));
    let rows = [
        (r#""abc""#, refused("", "3 characters exceed the limit of 2")),
        (r#"{"content":"abc"}"#, refused("/content", "3 characters exceed the limit of 2")),
        (r#"{"user":{"name":"a\u0301bc"}}"#, refused("/user/name", "3 characters exceed the limit of 2")),
        (r#"{"list":["abcd"]}"#, refused("/list/0", "4 characters exceed the limit of 2")),
        (r#"{"content":["<b>"]}"#, refused("/content", "it must be a text, found a list")),
        (r#"{"content":{"x":"<b>"}}"#, refused("/content", "it must be a text, found an object")),
        (r#"["<b>"]"#, refused("", "it must be a text, found a list")),
        (r#"{"content":"a","conten\u0074":"b"}"#, refused("/content", "the key occurs twice")),
        (r#"{"user":{"name":1,"name":2}}"#, refused("/user/name", "the key occurs twice")),
        ("{", refused("", "it is no JSON")),
        (r#"{"other":1,"other":2,"content":7}"#, Ok(None)),
    ];
    for (data, expected) in rows {
        assert_eq!(problem(data), expected, "{data}");
    }
}

#[test]
fn fields_are_json_pointers() {
    for bad in ["content", "/a~", "/a~2", "~0"] {
        assert_eq!(TextFields::default().add(bad, ANY), Err(FieldError::Pointer(bad.to_owned())));
    }
    let deep = "/a".repeat(FIELD_DEPTH_MAX + 1);
    assert_eq!(TextFields::default().add(&deep, ANY), Err(FieldError::Deep(deep.clone())));
    let mut of = fields(&[("/a/b", ANY), ("/a", ANY)]);
    assert_eq!(of.add("/a/b", ANY), Err(FieldError::Twice("/a/b".to_owned())));
    assert!(!of.is_empty() && TextFields::default().is_empty());
}

/// Each would take very long if its cost were not linear.
#[test]
fn long_and_deep_data_is_cleaned_at_once() {
    let of = fields(&[("/content", ANY), ("/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a", ANY)]);
    let marks = format!(r#"{{"content":"q{}"}}"#, "\u{307}\u{323}".repeat(100_000));
    assert!(of.apply(&marks, true).expect("clean").is_some());
    let twice = format!(r#"{{"content":0{}}}"#, r#","content":0"#.repeat(100_000));
    assert!(of.apply(&twice, true).is_err());
    let deep = format!("{}\"\\u0000\"{}", r#"{"a":"#.repeat(64), "}".repeat(64));
    assert_eq!(
        of.apply(&deep, true),
        Err(TextError { place: "/a".repeat(16), problem: TextProblem::NotText("an object") })
    );
    let keys = format!("{{{}\"content\":\"\\u0000\"}}", r#""k":{},"#.repeat(100_000));
    assert!(of.apply(&keys, true).expect("clean").is_some());
}

#[test]
fn the_fuzz_body_holds_for_samples() {
    for choice in 0..8 {
        for data in [
            r#"{"content":"a\u0000<\ud83d\ude00e\u0301\ud83d"}"#,
            "\"\\u202e\u{1d160}\\n\"",
            r#"{"user":{"name":"\t"},"list":["&"],"a/b":"\udc00"}"#,
            "[1]",
            "\u{feff}1",
            "",
        ] {
            fuzz::apply(&[&[choice], data.as_bytes()].concat());
        }
    }
}

proptest! {
    #[test]
    fn any_text_is_cleaned_once_and_for_all(choice in 0_u8..8, text in any::<String>()) {
        let data = serde_json::json!({"content": text, "user": {"name": text}, "x": text}).to_string();
        fuzz::apply(&[&[choice], data.as_bytes()].concat());
        fuzz::apply(&[&[choice], serde_json::Value::String(text).to_string().as_bytes()].concat());
    }
}
