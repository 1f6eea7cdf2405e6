//! Schemas by tables: what breaks them and how that is said, schemas that are refused, and both where somebody made
//! them to be slow.

use super::*;
use serde_json::{Value, json};

fn schema(json: Value) -> Schema {
    Schema::new(json.clone()).unwrap_or_else(|error| panic!("{json}: {error}"))
}

/// What is wrong with data.
fn breach(schema: &Schema, data: &Value) -> String {
    schema.check(data).expect_err(&data.to_string())
}

#[test]
fn a_refusal_names_the_first_place_and_what_is_wrong_there() {
    let order = schema(json!({
        "type": "object",
        "required": ["price"],
        "properties": {
            "price": {"type": "number", "minimum": 0, "multipleOf": 0.01},
            "kind": {"enum": ["buy", "sell"]},
            "code": {"pattern": "^[a-z]+$", "maxLength": 4},
            "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}, "uniqueItems": true, "maxItems": 3},
            "pair": {"prefixItems": [{"type": "string"}, {"type": "integer"}], "items": false},
            "by": {"oneOf": [{"type": "string"}, {"type": "object", "required": ["id"]}]},
            "any": {"anyOf": [{"const": 1}, {"$ref": "#/$defs/tag"}]},
            "when": {"if": {"type": "string"}, "then": {"minLength": 2}},
            "a/b": {"allOf": [{"type": "object"}, {"additionalProperties": {"type": "boolean"}}]},
        },
        "patternProperties": {"^x-": true},
        "additionalProperties": false,
        "$defs": {"tag": {"type": "string", "minLength": 1}},
    }));
    let long = "z".repeat(4_000);
    let rows = [
        (json!({"price": "abc"}), r#"/price: "abc" is not of type "number""#),
        (json!({"price": -1}), "/price: -1 is less than the minimum of 0"),
        (json!({"price": 0.001}), "/price: 0.001 is not a multiple of 0.01"),
        (json!({}), r#"data: "price" is a required property"#),
        (json!("abc"), r#"data: "abc" is not of type "object""#),
        (json!([1]), r#"data: the list is not of type "object""#),
        (json!({"price": 1, "kind": "rent"}), r#"/kind: "rent" is not one of "buy" or "sell""#),
        (json!({"price": 1, "code": "A"}), r#"/code: "A" does not match "^[a-z]+$""#),
        (json!({"price": 1, "code": "abcde"}), r#"/code: "abcde" is longer than 4 characters"#),
        (json!({"price": 1, "tags": ["a", 7]}), r#"/tags/1: 7 is not of type "string""#),
        (json!({"price": 1, "tags": ["a", "a"]}), "/tags: the list has non-unique elements"),
        (json!({"price": 1, "pair": ["a", "b"]}), r#"/pair/1: "b" is not of type "integer""#),
        (json!({"price": 1, "pair": ["a", 1, 2]}), "/pair/2: False schema does not allow 2"),
        (
            json!({"price": 1, "by": {}}),
            "/by: the object is as none, or more than one, of the alternatives of `oneOf` has it",
        ),
        (json!({"price": 1, "any": ""}), r#"/any: "" is as none of the alternatives of `anyOf` has it"#),
        (json!({"price": 1, "when": "x"}), r#"/when: "x" is not as `if` of the schema has it"#),
        (json!({"price": 1, "a/b": {"~": 0}}), r#"/a~1b/~0: 0 is not of type "boolean""#),
        (json!({"price": 1, "other": 2, "x-y": 3}), r#"data: the schema has no property "other""#),
        (json!({"price": 1, "b": 2, "c": 3}), r#"data: the schema has no property "b""#),
        (json!({"price": long}), r#"/price: "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz…" is not of type "number""#),
        (
            json!({"price": 1, long.clone(): 2}),
            r#"data: the schema has no property "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz…""#,
        ),
        (json!({"price": 1, "a/b": {long.clone(): 0}}), "/a~1b/zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz…: 0 is not"),
    ];
    for (data, expected) in rows {
        let message = breach(&order, &data);
        assert!(message.starts_with(expected), "{message}\nexpected {expected}");
        assert!(message.matches('z').count() < 100, "so much of the data is nobody's business: {message}");
    }
    for data in [json!({"price": 1.25, "tags": ["a"], "by": "me", "any": 1, "when": 3, "x-y": 1}), json!({"price": 0})]
    {
        assert_eq!(order.check(&data), Ok(()), "{data}");
    }
}

#[test]
fn a_schema_that_cannot_be_used_is_refused_with_the_place() {
    let chain = |links: usize| {
        let mut defs = json!({});
        for link in 0..links {
            defs[format!("d{link}")] = json!({"$ref": format!("#/$defs/d{}", link + 1)});
        }
        defs[format!("d{links}")] = json!({"type": "string"});
        json!({"$ref": "#/$defs/d0", "$defs": defs})
    };
    let many: Value = (0..2_001).map(|n| (format!("p{n}"), json!({}))).collect::<serde_json::Map<_, _>>().into();
    let deep = (0..20).fold(json!({}), |inner, _| json!({"not": inner}));
    let rows = [
        (json!({"type": "strin"}), r#"/type: "strin" is not valid"#),
        (
            json!({"properties": {"price": {"minLength": "x"}}}),
            r#"/properties/price/minLength: "x" is not of type "integer""#,
        ),
        (json!({"properties": 3}), r#"/properties: 3 is not of type "object""#),
        (json!({"properties": {"a": 3}}), "/properties/a: here must be a schema"),
        (json!(7), "here must be a schema"),
        (json!({"pattern": "(?=a)b"}), "/pattern: the pattern is not valid here"),
        (json!({"pattern": r"(a)\1"}), "/pattern: the pattern is not valid here"),
        (json!({"pattern": r"\p{L}{1000}{1000}"}), "/pattern: the pattern is not valid here"),
        (json!({"pattern": "(a"}), "/pattern: the pattern is not valid here"),
        (
            json!({"$ref": "https://example.com/s.json"}),
            "/$ref: the reference to \"https://example.com/s.json\" leads elsewhere",
        ),
        (
            json!({"items": {"$ref": "file:///etc/passwd"}}),
            "/items/$ref: the reference to \"file:///etc/passwd\" leads elsewhere",
        ),
        (json!({"$ref": "other.json#/a"}), "/$ref: the reference to \"other.json#/a\" leads elsewhere"),
        (json!({"$ref": "#/$defs/nope"}), "/$ref: there is no \"#/$defs/nope\" in the schema"),
        (json!({"$schema": "https://example.com/mine"}), "Unknown meta-schema"),
        (json!({"$ref": "#"}), "it refers to itself for the same data"),
        (
            json!({"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{}, {"$ref": "#/$defs/a"}]}}}),
            "/$defs/a: it refers to itself",
        ),
        (chain(16), "more than 16 schemas refer to each other for the same data"),
        (deep, "more than 16 schemas refer to each other for the same data"),
        (json!({"properties": many}), "the schema has more than 2000 schemas in it"),
    ];
    for (json, expected) in rows {
        let error = Schema::new(json.clone()).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}\nexpected {expected}");
        assert!(error.len() < 500, "{error}");
    }
    assert_eq!(schema(chain(14)).check(&json!("a")), Ok(()));
    let texts = [
        ("{", "EOF while parsing"),
        (r#"{"type":"string","type":"number"}"#, r#"the key "type" occurs twice"#),
        (&format!("{}{{}}{}", r#"{"not":"#.repeat(200), "}".repeat(200)), "recursion limit"),
        (&format!(r#"{{"enum":[{}0]}}"#, "0,".repeat(200_000)), "exceeds the limit of 262144"),
    ];
    for (text, expected) in texts {
        let error = Schema::parse(text).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    }
}

/// A tree whose nodes are one of two kinds: both alternatives look at the children.
fn tree() -> Schema {
    schema(json!({"$ref": "#/$defs/node", "$defs": {"node": {"oneOf": [
        {"type": "object", "required": ["t"], "properties": {"t": {"const": "a"}, "c": {"$ref": "#/$defs/nodes"}}},
        {"type": "object", "required": ["t"], "properties": {"c": {"$ref": "#/$defs/nodes"}, "t": {"const": "b"}}},
        {"type": "number"},
    ]}, "nodes": {"type": "array", "items": {"$ref": "#/$defs/node"}}}}))
}

/// Each of these would run for hours if its cost were exponential.
#[test]
fn what_is_made_to_be_slow_is_judged_at_once() {
    let nested = |leaf: Value| (0..31).fold(leaf, |inner, _| json!({"c": [inner], "t": "b"}));
    assert_eq!(tree().check(&nested(json!(1))), Ok(()));
    let message = breach(&tree(), &nested(json!("x")));
    assert_eq!(message, "data: the object is as none, or more than one, of the alternatives of `oneOf` has it");
    // Both of two schemas hold for the same data, and each for the next level.
    let twice = schema(json!({"$ref": "#/$defs/n", "$defs": {"n": {
        "allOf": [{"items": {"$ref": "#/$defs/n"}}, {"items": {"$ref": "#/$defs/n"}}], "not": {"const": 7},
    }}}));
    let lists = |leaf: Value| (0..63).fold(leaf, |inner, _| json!([inner]));
    assert_eq!(twice.check(&lists(json!(1))), Ok(()));
    breach(&twice, &lists(json!(7)));
    let many = (0..15_000).map(|n| json!([n])).chain([json!([14_999])]).collect();
    assert_eq!(breach(&schema(json!({"uniqueItems": true})), &many), "data: the list has non-unique elements");
    // Items that a hash without brackets cannot tell apart.
    let mut trees: Vec<Value> = (1..=9).flat_map(unique::tests::trees).take(3_000).collect();
    assert_eq!(trees.len(), 3_000);
    let of_trees = schema(json!({"uniqueItems": true}));
    assert_eq!(of_trees.check(&Value::Array(trees.clone())), Ok(()));
    trees.push(trees[1_000].clone());
    assert_eq!(breach(&of_trees, &Value::Array(trees)), "data: the list has non-unique elements");
    let text = format!("{}!", "a".repeat(60_000));
    for pattern in ["^(a+)+$", "^(a|aa)+$", "(.*)*x$", "^(([a-z])+.)+[A-Z]([a-z])+$"] {
        assert!(breach(&schema(json!({"pattern": pattern})), &json!(text)).contains("does not match"));
    }
    let options: Vec<String> = (0..20_000).map(|n| format!("o{n}")).collect();
    let message = breach(&schema(json!({"enum": options})), &json!("x"));
    assert!(message.len() < 320, "{} bytes", message.len());
    // A long chain at each level of the data: the calls on the stack.
    let mut defs = json!({"d0": {"items": {"$ref": "#"}, "type": ["array", "number"]}});
    for link in 1..7 {
        defs[format!("d{link}")] = json!({"allOf": [{"$ref": format!("#/$defs/d{}", link - 1)}]});
    }
    let long = schema(json!({"$ref": "#/$defs/d6", "$defs": defs}));
    defs["d7"] = json!({"allOf": [{"$ref": "#/$defs/d6"}]});
    defs["d8"] = json!({"allOf": [{"$ref": "#/$defs/d7"}]});
    let longer = Schema::new(json!({"$ref": "#/$defs/d8", "$defs": defs})).expect_err("two links each");
    assert!(longer.to_string().contains("more than 16"), "{longer}");
    let mut far = json!({"d900": {"type": "number"}});
    for link in 0..900 {
        far[format!("d{link}")] = json!({"properties": {"a": {"$ref": format!("#/$defs/d{}", link + 1)}}});
    }
    let far = json!({"$ref": "#/$defs/d0", "$defs": far});
    let objects = |leaf: Value| (0..63).fold(leaf, |inner, _| json!({"a": inner}));
    let on_a_shard = std::thread::Builder::new().stack_size(2 << 20).spawn(move || {
        assert_eq!(schema(far).check(&objects(json!("x"))), Ok(()), "its other levels are further down");
        assert_eq!(long.check(&lists_of(63, json!(1))), Ok(()));
        breach(&long, &lists_of(63, json!("x")));
    });
    on_a_shard.expect("a thread").join().expect("its stack suffices");
}

fn lists_of(levels: usize, leaf: Value) -> Value {
    (0..levels).fold(leaf, |inner, _| json!([inner]))
}

#[test]
fn schemas_by_event_refuse_what_has_none() {
    let schemas = || [("price", schema(json!({"type": "number"}))), ("name", schema(json!({"type": "string"})))];
    let check = |validation: &Validation, event: Option<&str>, data: &str| {
        let (of, is_binary, is_last) = (PayloadOf::Publication, false, true);
        validation.check(Given { of, event, data: data.as_bytes(), is_binary, is_last }).map_err(|error| error.message)
    };
    let closed = Validation { schema: Some(EventSchemas::by_event(schemas(), None)), ..Validation::default() };
    assert_eq!(check(&closed, Some("price"), "1"), Ok(None));
    assert_eq!(check(&closed, Some("name"), "1"), Err(r#"data: 1 is not of type "string""#.into()));
    let none = r#"there is no schema for no event; the events are "price", "name""#;
    assert_eq!(check(&closed, None, "1"), Err(none.into()));
    let other = r#"there is no schema for the event "x"; the events are "price", "name""#;
    assert_eq!(check(&closed, Some("x"), "1"), Err(other.into()));
    let open = EventSchemas::by_event(schemas(), Some(schema(json!(true))));
    let open = Validation { schema: Some(open), ..Validation::default() };
    assert_eq!(check(&open, None, "[]"), Ok(None));
    assert_eq!(
        open.options(),
        [(
            "schema",
            r#"{ events = { "price" = '{"type":"number"}', "name" = '{"type":"string"}' }, other = 'true' }"#
                .to_owned()
        )]
    );
}

#[test]
fn earlier_drafts_are_read_where_schema_names_one() {
    let draft7 = schema(json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "definitions": {"name": {"type": "string"}},
        "items": [{"$ref": "#/definitions/name"}, {"type": "number"}],
        "dependencies": {"a": ["b"]},
    }));
    assert_eq!(draft7.check(&json!(["a", 1])), Ok(()));
    assert_eq!(breach(&draft7, &json!(["a", "b"])), "data: the list is not as `items` of the schema has it");
    assert!(breach(&draft7, &json!({"a": 1})).contains("`dependencies`"));
}
