//! The table, the documents that are printed from it, and the decoder say the same.
//!
//! `UPDATE_DOCS=1 cargo test -p fanfare api` writes docs/openapi.json and the tables of docs/http-api.md anew.

use super::openapi;
use super::table::{CHANNEL_MAX, COMMANDS, EVENT_MAX, Field, NAMED, STATUSES, Shape};
use fanfare_hub::{ChannelName, ERRORS, ErrorCode, LABEL_BYTES_MAX};
use fanfare_wire::native::app::{ApiCommand, ApiRequest, Caller, REASONS, decode};
use fanfare_wire::native::{Limits, reserved_fields};
use serde_json::Value;
use std::fmt::Write as _;

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/");
const AGAIN: &str = "UPDATE_DOCS=1 cargo test -p fanfare api";

fn is_current(name: &str, printed: impl FnOnce(&str) -> String) {
    let path = format!("{DOCS}{name}");
    let page = std::fs::read_to_string(&path).unwrap_or_default();
    let printed = printed(&page);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, printed).unwrap();
    } else {
        assert!(page == printed, "docs/{name} is out of date: {AGAIN}");
    }
}

#[test]
fn the_committed_openapi_document_is_that_of_the_source() {
    is_current("openapi.json", |_| serde_json::to_string_pretty(&openapi::document()).unwrap() + "\n");
}

fn ask(kind: ApiCommand, body: &Value) -> Result<ApiRequest, fanfare_hub::Error> {
    let caller = Caller { name: &"test".into(), idempotency_key: None };
    decode(kind, body.to_string().as_bytes(), &caller, &Limits::default())
}

#[test]
fn every_command_has_its_row_and_its_example_is_understood() {
    assert_eq!(COMMANDS.iter().map(|command| command.kind).collect::<Vec<_>>(), ApiCommand::ALL);
    for command in COMMANDS {
        let word = command.kind.word();
        let example: Value = serde_json::from_str(command.example).unwrap();
        match ask(command.kind, &example) {
            Ok(ApiRequest::Many(all)) => assert!(all.iter().all(Result::is_ok), "{word}: {all:?}"),
            asked => assert!(asked.is_ok(), "{word}: {asked:?}"),
        }
        for field in command.fields.iter().filter(|field| field.needed) {
            let mut without = example.clone();
            without.as_object_mut().unwrap().remove(field.name);
            let error = ask(command.kind, &without).expect_err(field.name);
            assert!(error.code == ErrorCode::BadRequest && error.message.contains(field.name), "{word}: {error}");
        }
        if !command.one_of.is_empty() {
            let mut none = example.clone();
            none.as_object_mut().unwrap().retain(|name, _| !command.one_of.contains(&name.as_str()));
            let error = ask(command.kind, &none).expect_err(word);
            assert!(command.one_of.iter().all(|name| error.message.contains(name)), "{word}: {error}");
        }
    }
}

/// A field of the table that the decoder does not know would be ignored, whatever it holds. No field takes this list.
#[test]
fn every_field_of_a_request_is_read() {
    let nobodys = serde_json::json!([[[]]]);
    for command in COMMANDS.iter().filter(|command| !command.kind.is_many()) {
        for field in command
            .fields
            .iter()
            .filter(|field| !matches!(field.shape, Shape::Any | Shape::List { of: Shape::Any, .. }))
        {
            let mut body: Value = serde_json::from_str(command.example).unwrap();
            body[field.name] = nobodys.clone();
            let error = ask(command.kind, &body).expect_err(field.name);
            assert!(error.message.contains(field.name), "{}.{}: {error}", command.kind.word(), field.name);
        }
    }
}

/// Until a reserved field means something, a body that has it is refused, and the document says so.
#[test]
fn each_field_of_which_a_request_has_one_is_among_its_fields() {
    for command in COMMANDS {
        for name in command.one_of {
            assert!(command.fields.iter().any(|field| field.name == *name), "{:?}: {name}", command.kind);
        }
    }
}

#[test]
fn reserved_fields_are_refused_in_every_body_that_may_have_them_later() {
    let document = openapi::document();
    for command in COMMANDS.iter().filter(|command| command.kind.reserves_fields()) {
        let request = format!("/components/schemas/{}/properties", openapi::pascal(command.kind, "Request"));
        let properties = document.pointer(&request).expect(&request);
        for name in reserved_fields() {
            assert_eq!(properties[name]["type"], "null", "{name} in {request}");
            let mut body: Value = serde_json::from_str(command.example).unwrap();
            body[name] = Value::Null;
            assert!(ask(command.kind, &body).is_ok(), "{body}");
            body[name] = 1.into();
            let error = ask(command.kind, &body).expect_err(name);
            assert_eq!(error.code, ErrorCode::BadRequest, "{body}");
            assert!(error.message.starts_with(&format!("`{name}` is reserved")), "{error}");
            // In a batch it spoils only its own command.
            let Some(fields) = body.as_object_mut().filter(|_| !command.kind.is_many()) else { continue };
            fields.insert("type".to_owned(), command.kind.word().into());
            let batch = serde_json::json!({ "commands": [{ "type": "info" }, body] });
            let Ok(ApiRequest::Many(asked)) = ask(ApiCommand::Batch, &batch) else { panic!("{batch}") };
            assert!(asked[0].is_ok(), "{batch}");
            assert_eq!(asked[1].as_ref().expect_err(name).message, error.message, "{batch}");
        }
    }
}

/// The class of characters in the patterns is the hub's own.
#[test]
fn the_schema_forbids_the_characters_that_the_hub_forbids() {
    for c in '\0'..=char::MAX {
        let refused = c != ':' && ChannelName::new(&format!("a{c}")).is_err();
        assert_eq!(openapi::is_forbidden(c), refused, "{c:?}");
    }
}

#[test]
fn every_status_of_an_error_is_documented() {
    for row in ERRORS {
        assert!(STATUSES.iter().any(|(status, _)| *status == row.status), "{}", row.word);
    }
}

#[test]
fn the_tables_of_the_page_are_those_of_the_source() {
    is_current("http-api.md", |page| {
        let mut page = page.to_owned();
        for (name, table) in tables() {
            let begin = format!("<!-- generated: {name} -->\n");
            let (before, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("there is no {begin:?}"));
            let (_, after) = rest.split_once("<!-- /generated -->").unwrap_or_else(|| panic!("{name} has no end"));
            page = format!("{before}{begin}{table}<!-- /generated -->{after}");
        }
        page
    });
}

fn tables() -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut statuses = String::from("| status | when |\n|---|---|\n");
    for (status, about) in STATUSES {
        let _ = writeln!(statuses, "| {status} | {about} |");
    }
    all.push(("statuses".to_owned(), statuses));
    for command in COMMANDS {
        let mut text = format!("{}\n\n", command.about);
        if command.fields.is_empty() {
            text.push_str("The body has no fields.\n");
        } else {
            text.push_str("| field | is | |\n|---|---|---|\n");
            rows(&mut text, command.fields, command.one_of);
        }
        text.push('\n');
        match command.answer {
            [] => text.push_str("Answer: `{}`.\n"),
            fields => {
                text.push_str("| answer | is | |\n|---|---|---|\n");
                rows(&mut text, fields, &[]);
            }
        }
        all.push((command.kind.word().to_owned(), text));
    }
    for (name, about, fields) in NAMED.iter().filter(|(name, ..)| !matches!(*name, "Published" | "Position")) {
        let mut text = format!("{about}\n\n| field | is | |\n|---|---|---|\n");
        rows(&mut text, fields, &[]);
        all.push(((*name).to_owned(), text));
    }
    all
}

fn rows(text: &mut String, fields: &[Field], one_of: &[&str]) {
    for field in fields {
        let either = one_of.contains(&field.name);
        let mark = if field.needed || either { "" } else { "?" };
        let _ = writeln!(text, "| `{}`{mark} | {} | {} |", field.name, shape(field.shape), field.about);
    }
}

fn shape(shape: Shape) -> String {
    match shape {
        Shape::Text { max: usize::MAX, .. } => "text".to_owned(),
        Shape::Text { min, max } => format!("text of {min}–{max} bytes"),
        Shape::Event => format!("name of 1–{EVENT_MAX} bytes"),
        Shape::Channel => format!("channel name of 1–{CHANNEL_MAX} bytes"),
        Shape::Pattern => "pattern".to_owned(),
        Shape::Namespace => "name of a namespace".to_owned(),
        Shape::Client => "client's id".to_owned(),
        Shape::Epoch => "epoch".to_owned(),
        Shape::Time => "a time of up to 6 digits, like `\"1h\"`".to_owned(),
        Shape::Spread => "a time of up to `\"1h\"`, like `\"30s\"`".to_owned(),
        Shape::Label => format!("label of 1–{LABEL_BYTES_MAX} bytes"),
        Shape::Cursor => "cursor".to_owned(),
        Shape::Reason => REASONS.iter().map(|reason| format!("`\"{reason}\"`")).collect::<Vec<_>>().join(", "),
        Shape::Number { max: fanfare_hub::NUMBER_MAX, .. } => "integer".to_owned(),
        Shape::Number { min, max } => format!("integer, {min}–{max}"),
        Shape::Flag => "`true` or `false`".to_owned(),
        Shape::Any => "any JSON".to_owned(),
        Shape::Base64 => "base64".to_owned(),
        Shape::Named("BatchCommand") => "command with its `type`".to_owned(),
        Shape::Named("Result") => "result or error".to_owned(),
        Shape::Named("Position") => "`{epoch, offset}`".to_owned(),
        Shape::Named(name) => format!("[{name}](#{})", name.to_lowercase()),
        Shape::List { of, max: usize::MAX, .. } => format!("list of {}", self::shape(*of)),
        Shape::List { of, min, max } => format!("list of {min}–{max}: {}", self::shape(*of)),
    }
}
