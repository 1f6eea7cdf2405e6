//! The schemas of a rule, in every form that a file may have, and what is wrong with others.

use super::*;
use fanfare_hub::{Given, PayloadOf, Rule};

fn rule(options: &str) -> String {
    format!("[[channels]]\nmatch = \"a:*\"\n{options}\n")
}

/// Whether the first rule takes this.
fn takes(settings: &Settings, of: PayloadOf, event: Option<&str>, data: &str) -> bool {
    let rule: &Rule = settings.config.rules.iter().next().expect("a rule");
    let given = Given { of, event, data: data.as_bytes(), is_binary: false, is_last: true };
    rule.check.as_ref().is_none_or(|check| check.check(given).is_ok())
}

#[test]
fn a_schema_is_a_file_a_table_or_json() {
    let folder = std::env::temp_dir().join(format!("fanfare-schemas-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("made");
    std::fs::write(folder.join("n.json"), "\u{feff}{\"type\": \"number\"}").expect("written");
    let of_folder = |file: &str| {
        let path = folder.join("fanfare.toml").to_string_lossy().into_owned();
        Settings::load(Sources { file: of_file(&path, file), ..sources("") }).unwrap_or_else(|error| panic!("{error}"))
    };
    let publication = PayloadOf::Publication;
    let forms = [
        "schema = { file = \"n.json\" }",
        "schema = { type = \"number\", multipleOf = 0.5, maximum = 1_000 }",
        "schema = '{\"type\": \"number\"}'",
        "schema = { \"$ref\" = \"#/$defs/n\", \"$defs\" = { n = { type = [\"number\"] } } }",
        "[channels.schema]\ntype = \"number\"",
    ];
    for form in forms {
        let settings = of_folder(&rule(form));
        assert!(takes(&settings, publication, None, "1.5"), "{form}");
        assert!(!takes(&settings, publication, None, "\"x\""), "{form}");
        assert!(takes(&settings, PayloadOf::Signal, Some("e"), "\"x\""), "{form}: it is not for signals");
    }
    let events = of_folder(&rule(
        "schema = { events = { n = { file = \"n.json\" }, t = { type = \"string\" } }, other = true }\nsignal_schema = false",
    ));
    for (of, event, data, expected) in [
        (publication, Some("n"), "1", true),
        (publication, Some("n"), "\"x\"", false),
        (publication, Some("t"), "\"x\"", true),
        (publication, None, "[]", true),
        (PayloadOf::Signal, Some("n"), "1", false),
    ] {
        assert_eq!(takes(&events, of, event, data), expected, "{of:?} {event:?} {data}");
    }
    let shown = show_rule(events.config.rules.iter().next().expect("one"));
    let schema = r#"{ events = { "n" = { file = "n.json" }, "t" = '{"type":"string"}' }, other = 'true' }"#;
    assert_eq!(shown[shown.len() - 2..], [("schema", schema.to_owned()), ("signal_schema", "'false'".to_owned())]);
    std::fs::write(folder.join("n.json"), "{\"type\": \"strin\"}").expect("written");
    let path = folder.join("fanfare.toml").to_string_lossy().into_owned();
    let file = rule("schema = { events = { n = { file = \"n.json\" } } }");
    let problems = Settings::load(Sources { file: of_file(&path, &file), ..sources("") }).expect_err("a bad schema");
    let [problem] = &problems.0[..] else { panic!("{problems}") };
    assert_eq!((&*problem.key, problem.at.line()), ("channels[\"a:*\"].schema", Some(3)));
    assert!(problem.problem.starts_with("events.n: "), "{problem:?}");
    let expected = "n.json is no valid schema: /type: \"strin\" is not valid";
    assert!(problem.problem.contains(expected), "{problem:?}");
    std::fs::remove_dir_all(&folder).expect("removed");
}

#[test]
fn what_is_no_schema_is_told() {
    let rows = [
        ("schema = 7", "it is a number"),
        ("schema = [1]", "it is a list"),
        ("schema = \"schemas/a.json\"", "the text is no schema in JSON"),
        ("schema = '{'", "the schema is not valid: it cannot be checked: EOF while parsing"),
        ("schema = { file = \"none/at/all.json\" }", "none/at/all.json cannot be read: No such file"),
        ("schema = { file = \"a.json\", type = \"string\" }", "beside `file` nothing else may stand"),
        ("schema = { file = 7 }", "it is a number"),
        ("schema = { type = \"strin\" }", "the schema is not valid: /type: \"strin\" is not valid"),
        ("schema = { minimum = 1979-05-27 }", "the schema holds a date"),
        ("schema = { minimum = nan }", "the schema holds a number with a fraction"),
        (
            "schema = { \"$ref\" = \"https://example.com/x\" }",
            "/$ref: the reference to \"https://example.com/x\" leads elsewhere",
        ),
        ("schema = { pattern = \"(?!x)\" }", "/pattern: the pattern is not valid here"),
        ("schema = { events = {} }", "`events` names none"),
        ("schema = { events = 1 }", "it is a number"),
        ("schema = { events = { \"\" = true } }", "\"\" is no event"),
        (
            "schema = { events = { a = true }, others = true }",
            "beside `events` only `other` may stand, found \"others\"",
        ),
        ("schema = { events = { a = { type = 1 } } }", "events.a: the schema is not valid: /type: 1 is not"),
        ("schema = { events = { a = true }, other = { type = 1 } }", "other: the schema is not valid: /type: 1 is not"),
        ("signal_schema = { type = 1 }", "the schema is not valid: /type: 1 is not"),
    ];
    for (options, expected) in rows {
        let problems = refused(&rule(options));
        let [problem] = &problems[..] else { panic!("{options}: {problems:?}") };
        assert!(problem.problem.contains(expected), "{options}: {problem:?}\nexpected {expected}");
        assert!(problem.key.starts_with("channels[\"a:*\"].s"), "{problem:?}");
    }
    let unset = refused(&rule("schema = { pattern = \"${UNSET}\" }"));
    assert_eq!(unset.len(), 1, "an unset variable is told once: {unset:?}");
}

#[test]
fn fields_with_texts_are_read_and_shown_as_they_are_written() {
    let text = "[{ field = \"/content\", max = 4, escape = \"html\" }, { field = \"/name\", one_line = true }, { field = \"\" }]";
    let settings = load(&rule(&format!("text = {text}")));
    let rule_of = |settings: &Settings| settings.config.rules.iter().next().expect("one").clone();
    assert_eq!(show_rule(&rule_of(&settings)).last(), Some(&("text", text.to_owned())));
    let publication = PayloadOf::Publication;
    assert!(takes(&settings, publication, None, r#"{"content":"abcd"}"#));
    assert!(!takes(&settings, publication, None, r#"{"content":"abcde"}"#));
    assert!(!takes(&settings, PayloadOf::Signal, Some("e"), r#"{"content":"abcde"}"#));
    let one = load(&rule("text = { field = \"/a\" }"));
    assert_eq!(show_rule(&rule_of(&one)).last(), Some(&("text", "[{ field = \"/a\" }]".to_owned())));
    let many = format!("[{}]", "{ field = \"/a\" }, ".repeat(65));
    let rows = [
        ("7", "it is a number"),
        ("[]", "the list is empty"),
        ("[1]", "it is a number"),
        (&many, "65 fields exceed the limit of 64"),
        ("[{ max = 4 }]", "a table names no `field`"),
        ("[{ field = 4 }]", "field: it is a number"),
        ("[{ field = \"content\" }]", "\"content\" is no JSON pointer"),
        ("[{ field = \"/a\" }, { field = \"/a\" }]", "\"/a\" is named twice"),
        ("[{ field = \"/a\", max = 0 }]", "max: "),
        ("[{ field = \"/a\", max = true }]", "max: it is true or false"),
        ("[{ field = \"/a\", one_line = 1 }]", "one_line: it is a number"),
        ("[{ field = \"/a\", escape = \"xml\" }]", "escape: \"xml\" is not one of the words"),
        ("[{ field = \"/a\", maximum = 4 }]", "a field has no \"maximum\""),
    ];
    for (text, expected) in rows {
        let problems = refused(&rule(&format!("text = {text}")));
        let [problem] = &problems[..] else { panic!("{text}: {problems:?}") };
        assert!(problem.problem.starts_with(expected), "{text}: {problem:?}");
    }
}
