//! The OpenAPI 3.1 document, printed from the table of commands.
//!
//! The schemas are as exact as JSON Schema can be: a body that fits is accepted, and a body that does not fit is
//! refused. There are two exceptions. The server bounds lengths in bytes and JSON Schema counts characters, so a long
//! text beyond ASCII may be refused as `too_large`. And `idempotency_key` together with a different `Idempotency-Key`
//! is refused.

use super::table::{CHANNEL_MAX, EPOCH_MAX, EVENT_MAX};
use super::table::{COMMANDS, Command, Field, NAMED, STATUSES, Shape};
use fanfare_hub::{IDEMPOTENCY_KEY_BYTES_MAX, LABEL_BYTES_MAX, is_format};
use fanfare_wire::native::app::{ApiCommand, CURSOR_PATTERN, REASONS, SPREAD_PATTERN, TIME_PATTERN};
use fanfare_wire::native::reserved_fields;
use serde_json::{Map, Value, json};

#[rustfmt::skip]
/// The characters that a channel's name cannot hold, as ranges. `name.rs` of the hub decides, and a test compares both.
const FORBIDDEN: &[(u32, u32)] = &[
    (0x00, 0x20), (0x23, 0x23), (0x2A, 0x2C), (0x3F, 0x3F), (0x7B, 0x7B), (0x7D, 0x7D), (0x7F, 0xA0), (0xAD, 0xAD),
    (0x600, 0x605), (0x61C, 0x61C), (0x6DD, 0x6DD), (0x70F, 0x70F), (0x890, 0x891), (0x8E2, 0x8E2), (0x1680, 0x1680),
    (0x180E, 0x180E), (0x2000, 0x200F), (0x2028, 0x202F), (0x205F, 0x206F), (0x3000, 0x3000), (0xFEFF, 0xFEFF),
    (0xFFF9, 0xFFFB), (0x110BD, 0x110BD), (0x110CD, 0x110CD), (0x13430, 0x1343F), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A),
    (0xE0001, 0xE0001), (0xE0020, 0xE007F),
];

/// The document.
pub(super) fn document() -> Value {
    let mut paths = Map::new();
    for command in COMMANDS {
        paths.insert(format!("/api/v1/{}", command.kind.word()), json!({ "post": operation(command) }));
    }
    let mut schemas: Map<String, Value> = NAMED
        .iter()
        .map(|(name, about, fields)| {
            ((*name).to_owned(), object(fields, about, *name == "Audience" || *name == "Position"))
        })
        .collect();
    schemas.insert("Result".into(), result(&json!({ "type": "object" })));
    schemas.insert("BatchCommand".into(), batch_command());
    for command in COMMANDS {
        schemas.insert(pascal(command.kind, "Request"), request(command));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Fanfare's HTTP API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The API for the application's backend: publish, read, subscribe and disconnect. Every command is a POST with a JSON object. \
                            Unknown fields are ignored, `null` means the same as leaving a field out, except for `data`; a field \
                            that occurs twice is refused.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "key": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "key": { "type": "http", "scheme": "bearer", "description": "An API key of the configuration." } },
            "schemas": schemas,
            "responses": responses(),
        },
    })
}

fn operation(command: &Command) -> Value {
    let kind = command.kind;
    let mut responses: Map<String, Value> = STATUSES
        .iter()
        .map(|(status, _)| (status.to_string(), json!({ "$ref": format!("#/components/responses/{status}") })))
        .collect();
    let answer = match kind {
        ApiCommand::Publish => reference("Published"),
        ApiCommand::Broadcast => json!({
            "type": "object",
            "required": ["results"],
            "properties": { "results": { "type": "array", "minItems": 1, "items": result(&reference("Published")) } },
        }),
        _ => object(command.answer, "", false),
    };
    responses.insert(
        "200".into(),
        json!({ "description": "Done.", "content": { "application/json": { "schema": answer } } }),
    );
    let mut operation = json!({
        "operationId": kind.word(),
        "summary": command.summary,
        "description": command.about,
        "requestBody": {
            "required": !kind.may_be_empty(),
            "content": { "application/json": {
                "schema": reference(&pascal(kind, "Request")),
                "example": serde_json::from_str::<Value>(command.example).unwrap_or_default(),
            } },
        },
        "responses": responses,
    });
    if command.has_key {
        operation["parameters"] = json!([{
            "name": "Idempotency-Key",
            "in": "header",
            "description": "The same as `idempotency_key` in the body; if both are present they must be equal.",
            "schema": { "type": "string", "pattern": header_pattern() },
        }]);
    }
    operation
}

/// Plain or in quotes; a header's value neither begins nor ends with a space.
fn header_pattern() -> String {
    let (seen, any) = (r"[!#-\[\]-~]", r"[ !#-\[\]-~]");
    format!(
        "^({seen}({any}{{0,{}}}{seen})?|\"{any}{{1,{IDEMPOTENCY_KEY_BYTES_MAX}}}\")$",
        IDEMPOTENCY_KEY_BYTES_MAX - 2
    )
}

fn request(command: &Command) -> Value {
    let mut schema = object(command.fields, "", true);
    if command.kind.reserves_fields() {
        for name in reserved_fields() {
            schema["properties"][name] = json!({ "type": "null", "description": "Reserved" });
        }
    }
    if !command.one_of.is_empty() {
        schema["anyOf"] = either(command.fields, command.one_of);
    }
    match command.kind {
        ApiCommand::History => schema["anyOf"] = at_most_one(&["since", "before"]),
        ApiCommand::Bans => schema["anyOf"] = at_most_one(&["client", "user"]),
        ApiCommand::Connections => schema["anyOf"] = at_most_one(&["client", "user", "label", "channel"]),
        // A ban needs a reason after which clients do not come back.
        ApiCommand::Disconnect => {
            let final_words = REASONS.iter().filter(|reason| !reason.reconnect());
            let mut words: Vec<Value> = final_words.map(|reason| reason.row().word.into()).collect();
            words.push(Value::Null);
            let is_final = json!({ "properties": { "reason": { "enum": words } } });
            let no_ban = json!({ "properties": { "ban": { "type": "null" } } });
            let no_label = json!({ "properties": { "label": { "type": "null" } } });
            schema["allOf"] = json!([{ "anyOf": [no_ban, is_final] }, { "anyOf": [no_ban, no_label] }]);
        }
        _ => {}
    }
    schema
}

/// Exactly one of some fields. `null` counts as absent, except for `data`, where it is a payload.
fn either(fields: &[Field], names: &[&str]) -> Value {
    let shape = |name: &str| fields.iter().find(|field| field.name == name).map_or(Shape::Any, |field| field.shape);
    let alone = |this: &&str| {
        let mut alone = json!({ "required": [this], "properties": { *this: schema(shape(this), false) } });
        for other in names.iter().filter(|other| *other != this) {
            match *other {
                "data" => alone["not"] = json!({ "required": [other] }),
                other => alone["properties"][other] = json!({ "type": "null" }),
            }
        }
        alone
    };
    names.iter().map(alone).collect()
}

/// None or one of some fields.
fn at_most_one(names: &[&str]) -> Value {
    let alone = |this: &&str| {
        let others = names.iter().filter(|other| *other != this);
        let properties: Map<String, Value> =
            others.map(|other| ((*other).to_owned(), json!({ "type": "null" }))).collect();
        json!({ "properties": properties })
    };
    names.iter().map(alone).collect()
}

/// A command as it stands in a batch.
fn batch_command() -> Value {
    let one = |command: &Command| {
        let kind = json!({ "type": "object", "required": ["type"], "properties": { "type": { "const": command.kind.word() } } });
        json!({ "allOf": [kind, reference(&pascal(command.kind, "Request"))] })
    };
    json!({ "anyOf": COMMANDS.iter().filter(|command| !command.kind.is_many()).map(one).collect::<Vec<_>>() })
}

fn result(of: &Value) -> Value {
    json!({ "oneOf": [
        { "type": "object", "required": ["result"], "properties": { "result": of } },
        { "type": "object", "required": ["error"], "properties": { "error": reference("Error") } },
    ] })
}

fn responses() -> Value {
    let mut all = Map::new();
    for (status, about) in STATUSES {
        let mut response =
            json!({ "description": about, "content": { "application/json": { "schema": reference("Error") } } });
        let header = match status {
            401 => Some(("WWW-Authenticate", json!({ "type": "string" }), "The challenge of RFC 6750")),
            405 => Some(("Allow", json!({ "type": "string" }), "The method that is allowed")),
            429 | 503 => Some(("Retry-After", json!({ "type": "integer", "minimum": 1 }), "Seconds")),
            _ => None,
        };
        if let Some((name, schema, about)) = header {
            response["headers"] = json!({ name: { "description": about, "required": true, "schema": schema } });
        }
        all.insert(status.to_string(), response);
    }
    Value::Object(all)
}

/// An object's schema. An optional field of a request may also be `null`; an answer leaves it out.
fn object(fields: &[Field], about: &str, in_request: bool) -> Value {
    let mut properties = Map::new();
    for field in fields {
        let mut schema = schema(field.shape, in_request && !field.needed);
        if schema.get("$ref").is_none() {
            schema["description"] = field.about.into();
        }
        properties.insert(field.name.to_owned(), schema);
    }
    let needed: Vec<&str> = fields.iter().filter(|field| field.needed).map(|field| field.name).collect();
    let mut schema = json!({ "type": "object", "properties": properties });
    if !needed.is_empty() {
        schema["required"] = json!(needed);
    }
    if !about.is_empty() {
        schema["description"] = about.into();
    }
    schema
}

fn schema(shape: Shape, or_null: bool) -> Value {
    let text = |min: usize, max: usize, pattern: Option<String>| {
        let mut schema = json!({ "type": "string" });
        if min > 0 {
            schema["minLength"] = min.into();
        }
        if max < usize::MAX {
            schema["maxLength"] = max.into();
        }
        if let Some(pattern) = pattern {
            schema["pattern"] = pattern.into();
        }
        schema
    };
    let mut schema = match shape {
        Shape::Text { min, max } => text(min, max, None),
        Shape::Event => text(1, EVENT_MAX, Some(r#"^[^\u0000-\u001F"\\\u007F-\u009F]+$"#.into())),
        Shape::Channel => {
            let plain = forbidden();
            text(1, CHANNEL_MAX, Some(format!("^[^{plain}:@$][^{plain}:]*(:[^{plain}:]+)*$")))
        }
        Shape::Pattern => {
            let plain = forbidden();
            let segment = format!(r"(\*|\{{user\}}|[^{plain}:]+)");
            text(1, CHANNEL_MAX, Some(format!(r"^({segment}:)*({segment}|\*\*)$")))
        }
        Shape::Namespace => text(1, 200, Some("^/[A-Za-z0-9_/-]*$".into())),
        Shape::Client => text(16, 16, Some("^[0-9a-f]{16}$".into())),
        Shape::Epoch => text(0, EPOCH_MAX, None),
        Shape::Time => text(0, usize::MAX, Some(TIME_PATTERN.to_owned())),
        Shape::Spread => text(0, usize::MAX, Some(SPREAD_PATTERN.to_owned())),
        Shape::Label => text(1, LABEL_BYTES_MAX, Some(format!("^[^{}]+$", unseen()))),
        Shape::Cursor => text(0, usize::MAX, Some(CURSOR_PATTERN.to_owned())),
        Shape::Reason => {
            let mut words: Vec<Value> = REASONS.iter().map(|reason| reason.row().word.into()).collect();
            if or_null {
                words.push(Value::Null);
            }
            return json!({ "enum": words });
        }
        Shape::Number { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Shape::Flag => json!({ "type": "boolean" }),
        Shape::Any => return json!({}),
        Shape::Base64 => {
            // The last group has the rest of its bits zero; padding may be left out.
            let any = "[A-Za-z0-9+/]";
            let last = format!("({any}[AQgw]={{0,2}}|{any}{any}[AEIMQUYcgkosw048]=?)");
            json!({ "type": "string", "contentEncoding": "base64", "pattern": format!("^({any}{{4}})*{last}?$") })
        }
        Shape::Named(name) if or_null => return json!({ "anyOf": [reference(name), { "type": "null" }] }),
        Shape::Named(name) => return reference(name),
        Shape::List { of, min, max } => {
            let mut schema = json!({ "type": "array", "items": self::schema(*of, false) });
            if min > 0 {
                schema["minItems"] = min.into();
            }
            if max < usize::MAX {
                schema["maxItems"] = max.into();
            }
            schema
        }
    };
    if or_null {
        let kind = schema["type"].take();
        schema["type"] = json!([kind, "null"]);
    }
    schema
}

/// True for characters that the patterns forbid.
#[cfg(test)]
pub(super) fn is_forbidden(c: char) -> bool {
    FORBIDDEN.iter().any(|&(first, last)| (first..=last).contains(&u32::from(c)))
}

/// The characters that no label can hold: those that nobody sees.
fn unseen() -> String {
    let is_unseen = |code: u32| char::from_u32(code).is_some_and(|c| c.is_control() || is_format(c));
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for code in (0..=u32::from(char::MAX)).filter(|code| is_unseen(*code)) {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == code => *last = code,
            _ => ranges.push((code, code)),
        }
    }
    class(&ranges)
}

/// The characters that no segment can hold.
fn forbidden() -> String {
    class(FORBIDDEN)
}

/// Ranges of characters as they stand in a class of a regular expression.
fn class(ranges: &[(u32, u32)]) -> String {
    let one = |code: u32| match char::from_u32(code) {
        Some(c @ ('*' | '?' | '+' | '{' | '}' | '#' | ',')) => c.to_string(),
        _ if code <= 0xFFFF => format!("\\u{code:04X}"),
        // Beyond the first plane the literal character: every dialect understands it.
        other => other.map(String::from).unwrap_or_default(),
    };
    let range =
        |&(first, last): &(u32, u32)| if first == last { one(first) } else { format!("{}-{}", one(first), one(last)) };
    ranges.iter().map(range).collect()
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

pub(super) fn pascal(kind: ApiCommand, suffix: &str) -> String {
    let word = |word: &str| word[..1].to_ascii_uppercase() + &word[1..];
    kind.word().split('_').map(word).collect::<String>() + suffix
}
