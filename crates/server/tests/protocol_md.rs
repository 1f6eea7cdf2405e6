//! Replays docs/protocol.md against the real server: it does what the page promises, with one shard and with several.
//!
//! Handlers play the page's application; they do what crates/client/tests/support describes.

mod support;
#[allow(dead_code, unreachable_pub)]
#[path = "../../client/tests/support/transcript.rs"]
mod transcript;

use fanfare::{Config, Fanfare, Identity, Json, Publish, Refusal, Token};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use support::{Client, Server, config};
use transcript::{filled, fits, pattern, transcripts};

/// A token is the user's name, and `for` gives its lifetime in ms; `wrong` is invalid.
async fn who(token: Option<Token>) -> Result<Identity, Refusal> {
    let Some(token) = token else { return Ok(Identity::anonymous()) };
    let (user, ms) = token.as_str().split_once(" for ").unwrap_or((token.as_str(), ""));
    match (user, ms.parse()) {
        ("wrong", _) => Err(Refusal::unauthorized("the token is not one of ours")),
        (_, Ok(ms)) => Ok(Identity::user(user).expires_in(Duration::from_millis(ms))),
        (_, Err(_)) => Ok(Identity::user(user)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_transcripts_of_the_documentation_are_true_of_the_real_server() {
    // The heartbeat of `Native::default()`, which the page shows; no transcript takes that long.
    let builder = Fanfare::builder(())
        .config(Config { rules: Config::default().rules, ..config() })
        .channel("*:*", |c| c.open())
        .protocol("/v1/ws", fanfare::Native::default())
        .on_connect(who)
        .on_subscribe("doc:closed", async || -> Result<(), Refusal> { Err(Refusal::denied("members only")) })
        .on_publish("doc:moderated", async |publish: Publish| match &publish.data.bytes()[..] {
            b"null" => Err(Refusal::denied("say something")),
            _ => Ok(publish),
        })
        .rpc("echo", async |Json(data): Json<Value>| Ok(Json(data)));
    let server = Server::of(builder);
    tokio::task::spawn_blocking(move || replay(&server)).await.expect("the page is true");
}

fn replay(server: &Server) {
    let replayed = transcripts();
    assert!(replayed.len() >= 12, "{} transcripts", replayed.len());
    for (number, lines) in replayed {
        let mut peers: BTreeMap<&str, Client> = BTreeMap::new();
        let mut words = HashMap::new();
        for (place, (who, sent, text)) in lines.into_iter().enumerate() {
            let peer = peers.entry(who).or_insert_with(|| Client::native(server.address));
            if sent {
                peer.text(&filled(text, &words));
                continue;
            }
            let mut found: Value = peer.message();
            // A newer ticket comes when it is due. The page says so, and the transcripts leave it out.
            while found["type"] == "ticket" && !text.contains("\"ticket\"") {
                found = peer.message();
            }
            assert!(
                fits(&pattern(text), &found, &mut words),
                "docs/protocol.md:{}\npromised {text}\nfound    {found}",
                number + place
            );
        }
        for (who, mut peer) in peers {
            // The server sent nothing that the transcript leaves out: it would come before this answer. Only a
            // connection whose session another connection has taken over gets a message about that.
            let mut socket = peer.socket.try_clone().expect("a socket");
            let asked =
                support::frame(fanfare_wire::websocket::Opcode::Text, br#"{"type":"no such command","id":"the end"}"#);
            let _ = std::io::Write::write_all(&mut socket, &asked); // an ended connection shows at the read
            let found = peer.message();
            let expected = found["id"] == "the end" || found["reason"] == "moved";
            assert!(expected, "docs/protocol.md:{number}: {who} also got {found}");
        }
    }
}
