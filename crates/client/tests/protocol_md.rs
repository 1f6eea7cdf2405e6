//! docs/protocol.md, replayed: each transcript is sent over real sockets, and every answer is compared with what it promises.

mod support;

use fanfare_wire::native::PROTOCOL;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use support::{Peer, Server};

const PAGE: &str = include_str!("../../../docs/protocol.md");

/// One line of a transcript: who, whether it is sent, what.
type Line<'a> = (&'a str, bool, &'a str);

/// The blocks of JSON whose lines begin with `>` or `<`, with the number of their first line.
fn transcripts() -> Vec<(usize, Vec<Line<'static>>)> {
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
fn pattern(text: &str) -> Value {
    let text = text.replace(", …", r#","…":1"#).replace("{…", r#"{"…":1"#);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Compares, and learns what the words stand for.
fn fits(pattern: &Value, found: &Value, words: &mut HashMap<String, Value>) -> bool {
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

fn filled(text: &str, words: &HashMap<String, Value>) -> String {
    words.iter().fold(text.to_owned(), |text, (word, value)| text.replace(&format!("\"{word}\""), &value.to_string()))
}

#[tokio::test]
async fn the_transcripts_of_the_documentation_are_true() {
    let transcripts = transcripts();
    assert!(transcripts.len() > 10, "the page has transcripts: {}", transcripts.len());
    let server = Server::start().await;
    for (number, lines) in transcripts {
        let mut peers: BTreeMap<&str, Peer> = BTreeMap::new();
        let mut words = HashMap::new();
        for (place, (who, sent, text)) in lines.into_iter().enumerate() {
            let line = number + place;
            if !peers.contains_key(who) {
                peers.insert(who, Peer::connect(&server, PROTOCOL).await);
            }
            let peer = peers.get_mut(who).expect("just connected");
            if sent {
                peer.send(&filled(text, &words)).await;
                continue;
            }
            let found = peer.next().await;
            let value = serde_json::from_str(&found).expect("the server speaks JSON");
            assert!(
                fits(&pattern(text), &value, &mut words),
                "docs/protocol.md:{line}\npromised {text}\nfound    {found}"
            );
        }
        for (who, mut peer) in peers {
            // Nothing was said that the transcript keeps quiet about: it would come before this answer. Only a connection whose
            // session another one took up is told so.
            peer.send(r#"{"type":"no such command","id":"the end"}"#).await;
            let found = peer.next().await;
            let expected = found.contains("\"the end\"") || found.contains(r#""reason":"moved""#);
            assert!(expected, "docs/protocol.md:{number}: {who} also got {found}");
        }
    }
}
