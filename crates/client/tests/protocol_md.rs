//! Replays docs/protocol.md: each transcript is sent over real sockets, and every answer is compared with the page.
//! This test uses only the hub and the codec; crates/server/tests/protocol_md.rs replays the page against the real
//! server.

mod support;

use fanfare_wire::native::PROTOCOL;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use support::transcript::{filled, fits, pattern, transcripts};
use support::{Peer, Server};

#[tokio::test]
async fn the_transcripts_of_the_documentation_are_true() {
    let transcripts = transcripts();
    assert!(transcripts.len() > 10, "the page has transcripts: {}", transcripts.len());
    let server = Server::start().await;
    for (number, lines) in transcripts {
        let mut peers: BTreeMap<&str, Peer> = BTreeMap::new();
        let (mut words, mut ended) = (HashMap::new(), BTreeSet::new());
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
            let value: Value = serde_json::from_str(&found).expect("the server speaks JSON");
            assert!(
                fits(&pattern(text), &value, &mut words),
                "docs/protocol.md:{line}\npromised {text}\nfound    {found}"
            );
            if value["type"] == "disconnect" {
                ended.insert(who);
            }
        }
        for (who, mut peer) in peers.into_iter().filter(|(who, _)| !ended.contains(who)) {
            // The server sent nothing that the transcript leaves out: it would come before this answer. Only a
            // connection whose session another connection has taken over gets a message about that.
            peer.send(r#"{"type":"no such command","id":"the end"}"#).await;
            let found = peer.next().await;
            let expected = found.contains("\"the end\"") || found.contains(r#""reason":"moved""#);
            assert!(expected, "docs/protocol.md:{number}: {who} also got {found}");
        }
    }
}
