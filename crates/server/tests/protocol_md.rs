//! Replays docs/protocol.md against the real server: it does what the page promises, with one shard and with several.
//!
//! Handlers play the page's application; they do what crates/client/tests/support describes.

mod support;
#[allow(dead_code, unreachable_pub)]
#[path = "../../client/tests/support/transcript.rs"]
mod transcript;

use fanfare::{Builder, Config, Data, Fanfare, Identity, Json, Publish, Refusal, Token};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::Duration;
use support::stream::Stream;
use support::{Client, Frame, Server, config};
use transcript::{PAGE, filled, fits, pattern, transcripts};

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

fn builder() -> Builder {
    // The heartbeat of `Native::default()`, which the page shows; no transcript takes that long.
    Fanfare::builder(())
        .config(Config { rules: Config::default().rules, ..config() })
        .channel("doc:short", |c| c.open().history(1, Duration::from_secs(60)))
        .channel("*:*", |c| c.open())
        .protocol("/v1/ws", fanfare::Native::default())
        .on_connect(who)
        .on_subscribe("doc:closed", async || -> Result<(), Refusal> { Err(Refusal::denied("members only")) })
        .on_publish("doc:moderated", async |publish: Publish| match &publish.data.bytes()[..] {
            b"null" => Err(Refusal::denied("say something")),
            _ => Ok(publish),
        })
        .rpc("echo", async |Json(data): Json<Value>| Ok(Json(data)))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_transcripts_of_the_documentation_are_true_of_the_real_server() {
    let server = Server::of(builder());
    tokio::task::spawn_blocking(move || replay(&server)).await.expect("the page is true");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_transcripts_of_streams_are_true_too() {
    let server = builder().build().expect("good settings");
    let handle = server.handle();
    let running = server.start(&["127.0.0.1:0".parse().expect("an address")]).expect("a free port");
    let address = running.tcp_address().expect("TCP");
    let runtime = tokio::runtime::Handle::current();
    let replay = move || {
        let blocks = http_transcripts();
        assert!(blocks.len() >= 3, "{} transcripts", blocks.len());
        for (number, lines) in blocks {
            let publish = |channel: &str, json: &str| {
                let data = Data::Json(json.to_owned().into());
                runtime.block_on(async { handle.publish_data(channel, data).await }).expect("published");
            };
            Replay { address, stream: None, words: HashMap::new() }.run(number, &lines, publish);
        }
    };
    tokio::task::spawn_blocking(replay).await.expect("the page is true");
    drop(running);
}

/// The blocks of HTTP, with the number of their first line.
fn http_transcripts() -> Vec<(usize, Vec<&'static str>)> {
    let mut blocks = Vec::new();
    let mut lines = PAGE.lines().enumerate();
    while let Some((number, _)) = lines.by_ref().find(|(_, line)| *line == "```http") {
        blocks.push((number + 2, lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect()));
    }
    blocks
}

/// A client that follows a transcript of streams.
struct Replay {
    address: SocketAddr,
    stream: Option<Stream>,
    words: HashMap<String, Value>,
}

impl Replay {
    fn run(&mut self, number: usize, lines: &[&str], publish: impl Fn(&str, &str)) {
        let mut request: Option<(String, String)> = None;
        for (place, line) in lines.iter().enumerate() {
            let at = format!("docs/protocol.md:{}: {line}", number + place);
            let (mark, text) = line.split_once(' ').unwrap_or((line, ""));
            if mark == ">" {
                match &mut request {
                    Some((_, headers)) => headers.push_str(&format!("{}\r\n", self.raw(text))),
                    None => request = Some((text.to_owned(), String::new())),
                }
                continue;
            }
            if let Some((line, headers)) = request.take() {
                self.ask(&line, &headers);
            }
            match (mark, text.split_once(' ')) {
                ("=", _) => {
                    let (channel, json) = text.strip_prefix("publish ").and_then(|it| it.split_once(' ')).expect(&at);
                    publish(channel, json);
                }
                ("<", Some((status, kind))) if status.parse::<u16>().is_ok() => {
                    let stream = self.stream.as_ref().expect(&at);
                    let found = (stream.status().to_string(), stream.header("content-type").unwrap_or_default());
                    assert_eq!((found.0.as_str(), found.1), (status, kind), "{at}");
                }
                ("<", _) => {
                    let found =
                        self.stream.as_mut().and_then(Stream::text_line).unwrap_or_else(|| panic!("{at}: the end"));
                    let fits = match (text.split_once(": "), found.split_once(": ")) {
                        _ if text.starts_with('{') => self.json(text, &found),
                        (Some(("data", text)), Some(("data", found))) => self.json(text, found),
                        (Some((name, "…")), Some((found, _))) => name == found,
                        (Some((name, word)), Some((found, value))) if word.starts_with('$') => {
                            let known = self.words.entry(word.to_owned()).or_insert_with(|| value.into());
                            name == found && known == value
                        }
                        _ => text == found,
                    };
                    assert!(fits, "{at}\nfound {found}");
                }
                other => panic!("{at}: {other:?}"),
            }
        }
    }

    fn json(&mut self, text: &str, found: &str) -> bool {
        let found: Value = serde_json::from_str(found).expect("JSON");
        fits(&pattern(text), &found, &mut self.words)
    }

    /// With the values of words that stand without quotes.
    fn raw(&self, text: &str) -> String {
        let value = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        self.words.iter().fold(text.to_owned(), |text, (word, known)| text.replace(word, &value(known)))
    }

    fn ask(&mut self, line: &str, headers: &str) {
        let (method, rest) = line.split_once(' ').expect("a method");
        let line = filled(rest, &self.words);
        self.stream = Some(match (method, line.split_once(' ')) {
            ("POST", Some((target, body))) => Stream::post(self.address, target, body),
            ("GET", None) => {
                let target = line.replace('{', "%7B").replace('}', "%7D").replace('"', "%22");
                Stream::get(self.address, &target, headers)
            }
            other => panic!("{other:?}"),
        });
    }
}

fn replay(server: &Server) {
    let replayed = transcripts();
    assert!(replayed.len() >= 12, "{} transcripts", replayed.len());
    for (number, lines) in replayed {
        let mut peers: BTreeMap<&str, Client> = BTreeMap::new();
        let (mut words, mut ended) = (HashMap::new(), BTreeSet::new());
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
            if found["type"] == "disconnect" {
                ended.insert(who);
            }
        }
        for (who, mut peer) in peers {
            // The server sent nothing that the transcript leaves out: it would come before this answer. Only a
            // connection whose session another connection has taken over gets a message about that.
            let mut socket = peer.socket.try_clone().expect("a socket");
            let asked =
                support::frame(fanfare_wire::websocket::Opcode::Text, br#"{"type":"no such command","id":"the end"}"#);
            let _ = std::io::Write::write_all(&mut socket, &asked); // an ended connection shows at the read
            if ended.contains(who) {
                assert!(matches!(peer.next(), Frame::Close(..)), "docs/protocol.md:{number}: {who} got more");
                continue;
            }
            let found = peer.message();
            let expected = found["id"] == "the end" || found["reason"] == "moved";
            assert!(expected, "docs/protocol.md:{number}: {who} also got {found}");
        }
    }
}
