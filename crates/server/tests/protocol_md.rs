//! docs/protocol.md, replayed against the real server: what the page promises is what it does, with one shard and with several.
//!
//! Behind the server stands the application that the page describes: a token is its user's name, and `for` how many ms
//! after it; `wrong` is none. Nobody may publish `null` to a `doc:` channel or enter `doc:closed`, and there is one method,
//! `echo`. (crates/client/tests/protocol_md.rs replays the same with the hub alone and the client's end of the codec.)

mod support;
#[allow(dead_code, unreachable_pub)]
#[path = "../../client/tests/support/transcript.rs"]
mod transcript;

use fanfare::hub::{Pattern, Rule, Rules};
use fanfare::{Config, Fanfare, Identity, Json, Publish, Refusal, Token};
use fanfare_wire::websocket::Opcode;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;
use support::{Client, Server, config, frame};
use transcript::{filled, fits, pattern, transcripts};

async fn who(token: Option<Token>) -> Result<Identity, Refusal> {
    let Some(token) = token else { return Ok(Identity::anonymous()) };
    match token.as_str().split_once(" for ") {
        _ if token.as_str() == "wrong" => Err(Refusal::unauthorized("the token is not one of ours")),
        None => Ok(Identity::user(token)),
        Some((user, ms)) => Ok(Identity::user(user).expires_in(Duration::from_millis(ms.parse()?))),
    }
}

async fn said(publish: Publish) -> Result<Publish, Refusal> {
    match &publish.data.bytes()[..] {
        b"null" => Err(Refusal::denied("say something")),
        _ => Ok(publish),
    }
}

/// The next message but for a new ticket, which may come at any time.
fn next(peer: &mut Client) -> Value {
    std::iter::repeat_with(|| peer.message()).find(|message| message["type"] != "ticket").expect("they do not end")
}

fn serve() -> Server {
    let rules = ["*", "*:*"].map(|pattern| Rule::open(Pattern::new(pattern).expect("a pattern")));
    let config = Config { rules: Arc::new(Rules::new(rules.into())), ..config() };
    Server::of(
        Fanfare::builder(())
            .config(config)
            .on_connect(who)
            .on_subscribe("doc:closed", async || -> Result<(), Refusal> { Err(Refusal::denied("members only")) })
            .on_publish("doc:*", said)
            .rpc("echo", async |Json(data): Json<Value>| -> Result<Json<Value>, Refusal> { Ok(Json(data)) }),
    )
}

#[test]
fn the_transcripts_of_the_documentation_are_true_of_the_real_server() {
    let transcripts = transcripts();
    assert!(transcripts.len() > 10, "the page has transcripts: {}", transcripts.len());
    // Handlers run on the runtime of whoever starts the server; this thread is busy with waiting for sockets.
    let runtime = Arc::new(tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime"));
    let handlers = runtime.clone();
    std::thread::spawn(move || handlers.block_on(std::future::pending::<()>()));
    let _entered = runtime.enter();
    let server = serve();
    for (number, lines) in transcripts {
        let mut peers: BTreeMap<&str, Client> = BTreeMap::new();
        let mut words = HashMap::new();
        for (place, (who, sent, text)) in lines.into_iter().enumerate() {
            let peer = peers.entry(who).or_insert_with(|| Client::native(server.address));
            if sent {
                peer.text(&filled(text, &words));
                continue;
            }
            let found = next(peer);
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
            let asked = frame(Opcode::Text, br#"{"type":"no such command","id":"the end"}"#);
            let _ = socket.write_all(&asked); // a connection that was ended says so to the read
            let found = next(&mut peer);
            let expected = found["id"] == "the end" || found["reason"] == "moved";
            assert!(expected, "docs/protocol.md:{number}: {who} also got {found}");
        }
    }
}
