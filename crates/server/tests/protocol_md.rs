//! docs/protocol.md, replayed against the real server: what the page promises is what it does, with one shard and with several.
//!
//! Transcripts with tokens or methods need an application behind the server; until this one can have its handlers they are
//! replayed in crates/client/tests/protocol_md.rs only. [`needs_an_application`] is the seam: where it says no, they are here.

mod support;
#[allow(dead_code, unreachable_pub)]
#[path = "../../client/tests/support/transcript.rs"]
mod transcript;

use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use support::{Client, Server, config};
use transcript::{filled, fits, needs_an_application, pattern, transcripts};

#[test]
fn the_transcripts_of_the_documentation_are_true_of_the_real_server() {
    let (left_out, replayed): (Vec<_>, Vec<_>) =
        transcripts().into_iter().partition(|(_, lines)| needs_an_application(lines));
    assert!(replayed.len() >= 8 && left_out.len() <= 5, "{} of them, without {}", replayed.len(), left_out.len());
    // The heartbeat of `Native::default()`, which the page shows; no transcript takes that long.
    let server =
        Server::of(fanfare::Fanfare::builder(()).config(config()).protocol("/v1/ws", fanfare::Native::default()));
    for (number, lines) in replayed {
        let mut peers: BTreeMap<&str, Client> = BTreeMap::new();
        let mut words = HashMap::new();
        for (place, (who, sent, text)) in lines.into_iter().enumerate() {
            let peer = peers.entry(who).or_insert_with(|| Client::native(server.address));
            if sent {
                peer.text(&filled(text, &words));
                continue;
            }
            let found: Value = peer.message();
            assert!(
                fits(&pattern(text), &found, &mut words),
                "docs/protocol.md:{}\npromised {text}\nfound    {found}",
                number + place
            );
        }
        for (who, mut peer) in peers {
            // Nothing was said that the transcript keeps quiet about: it would come before this answer. Only a connection whose
            // session another one took up is told so.
            let mut socket = peer.socket.try_clone().expect("a socket");
            let asked =
                support::frame(fanfare_wire::websocket::Opcode::Text, br#"{"type":"no such command","id":"the end"}"#);
            let _ = std::io::Write::write_all(&mut socket, &asked); // a connection that was ended says so to the read
            let found = peer.message();
            let expected = found["id"] == "the end" || found["reason"] == "moved";
            assert!(expected, "docs/protocol.md:{number}: {who} also got {found}");
        }
    }
}
