//! Schemas of rules in the hands of an operator: `why --data` says what a rule makes of data, `check` names the place
//! of a mistake in a schema, and a reload brings a new schema into force or keeps the old one.

mod support;

use fanfare_client::Client;
use rustix::process::Signal;
use serde_json::json;
use support::Folder;

const FILE: &str = r#"
listen = "127.0.0.1:0"

[admin]
listen = "off" # others may run on this machine

[session]
drain_window = "0s"

[[channels]]
match = "prices:*"
subscribe = "anyone"
publish = "anyone"
schema = { file = "price.json" }

[[channels]]
match = "talk:*"
subscribe = "anyone"
publish = "anyone"
signal = "anyone"
text = [{ field = "/content", max = 5, escape = "html" }]
"#;

const SCHEMA: &str = r#"{"type": "object", "required": ["price"], "properties": {"price": {"type": "number"}}}"#;

fn folder() -> Folder {
    let folder = Folder::with(FILE);
    folder.write("price.json", SCHEMA);
    folder
}

#[test]
fn why_says_what_a_rule_makes_of_data() {
    let folder = folder();
    let rows: &[(&[&str], Option<i32>, &str)] = &[
        (&["--data", r#"{"price":1}"#, "publish", "prices:a"], Some(0), "allowed"),
        (&["--data", r#"{"price":"x"}"#, "publish", "prices:a"], Some(1), "/price: \"x\" is not of type \"number\""),
        (&["--data", "{}", "publish", "prices:a"], Some(1), "\"price\" is a required property"),
        (&["--data", r#"{"content":"toolong"}"#, "publish", "talk:a"], Some(1), "content"),
        (
            &["--data", r#"{"content":"a<b"}"#, "publish", "talk:a"],
            Some(0),
            r#"good; published as {"content":"a&lt;b"}"#,
        ),
        (&["--data", r#"{"content":"a<b"}"#, "signal", "talk:a"], Some(0), "published as"),
    ];
    for (words, status, expected) in rows {
        let said = folder.run(&[&["why"], *words].concat());
        assert_eq!(said.status, *status, "{words:?}: {said:?}");
        assert!(said.stdout.contains(expected), "{words:?}: {said:?}");
        assert!(said.stderr.is_empty(), "{words:?}: {said:?}");
    }
    let mistakes: &[(&[&str], &str)] = &[
        (&["--data", "{price:1}", "publish", "prices:a"], "--data: "),
        (&["--data", "{}", "subscribe", "prices:a"], "--data is of a publication, a signal or a presence"),
    ];
    for (words, expected) in mistakes {
        let said = folder.run(&[&["why"], *words].concat());
        assert_eq!((said.status, said.stdout.as_str()), (Some(1), ""), "{words:?}: {said:?}");
        assert!(said.stderr.contains(expected), "{words:?}: {said:?}");
    }
}

#[test]
fn check_names_the_file_of_a_bad_schema_and_the_place_in_it() {
    let folder = folder();
    assert_eq!(folder.run(&["check"]).status, Some(0));
    let rows = [
        (r#"{"type": "objekt"}"#, "/type"),
        (r#"{"type": "object""#, "EOF"),
        (r#"{"properties": {"price": {"minimum": "no"}}}"#, "/properties/price/minimum"),
    ];
    for (schema, expected) in rows {
        folder.write("price.json", schema);
        for command in ["check", "serve", "config"] {
            let said = folder.run(&[command]);
            assert_eq!(said.status, Some(1), "{command} {schema}: {said:?}");
            assert!(
                said.stderr.contains("price.json") && said.stderr.contains(expected),
                "{command} {schema}: {said:?}"
            );
            assert!(said.stderr.contains("channels[\"prices:*\"].schema"), "{command} {schema}: {said:?}");
        }
    }
}

#[test]
fn a_hangup_reads_the_file_of_a_schema_again_or_keeps_the_old_schema() {
    let folder = folder();
    let mut server = folder.start(&["serve"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let client = Client::connect(format!("ws://{}", server.address)).await.expect("it connects");
        client.publish("prices:a", &json!({"price": 1})).await.expect("it fits");
        client.publish("prices:a", &json!({"cost": 1})).await.expect_err("it does not fit");

        folder.write("price.json", r#"{"type": "objekt"}"#);
        server.signal(Signal::HUP);
        server.wait_for("not reloaded: the old settings stay in force");
        assert!(server.said.contains("price.json"), "{}", server.said);
        client.publish("prices:a", &json!({"cost": 1})).await.expect_err("the old schema holds");
        client.publish("prices:a", &json!({"price": 2})).await.expect("and no other");

        folder.write("price.json", &SCHEMA.replace("price", "cost"));
        server.signal(Signal::HUP);
        server.wait_for("reloaded: 2 rules and 0 API keys of the file are in force");
        client.publish("prices:a", &json!({"cost": 1})).await.expect("the new schema holds");
        let error = client.publish("prices:a", &json!({"price": 1})).await.expect_err("and no other");
        assert!(error.to_string().contains("cost"), "{error}");
        client.close().await;
    });
    assert_eq!(server.stop(), Some(0));
}
