//! The table of rules over every transport: each condition, for each action, of each kind of caller. The expected
//! answers stand in one table, and every transport must give them.

#![allow(clippy::unwrap_used)] // helpers stand outside of `#[test]`; a panic in one fails the test

mod support;

use fanfare::auth::{AuthConfig, Minting, TokenKey};
use fanfare::hub::{Action, Pattern, Rule, Rules};
use fanfare::{ApiKey, Caller, Config, Fanfare, Publish, Refusal, SocketIoConfig, Who};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use support::polls::{Poller, post, request};
use support::socketio::{entered, opened};
use support::stream::Stream;
use support::{Client, Server, config, connect, join, patient_chat, response, say};

const SECRET: &str = "an-example-of-a-secret-of-enough-bytes!";
const API_KEY: &str = "the-key-of-the-application";
/// The callers: without a token, a user, a user with a grant, an editor of the team `red`.
const CALLERS: [&str; 4] = ["anonymous", "ada", "bob", "eve"];

/// A channel with its condition for every action, and the callers that it lets in.
struct Row {
    pattern: &'static str,
    channel: &'static str,
    who: Vec<Who>,
    /// In the order of [`CALLERS`].
    allowed: [bool; 4],
}

#[rustfmt::skip]
fn rows() -> Vec<Row> {
    let row = |pattern, channel, who, allowed| Row { pattern, channel, who, allowed };
    let editors = || Who::claim("role", ["admin", "editor"]);
    vec![
        row("chat:anyone",        "chat:anyone",  vec![Who::Anyone],            [true, true, true, true]),
        row("chat:known",         "chat:known",   vec![Who::Authenticated],     [false, true, true, true]),
        row("chat:granted",       "chat:granted", vec![Who::Grant],             [false, false, true, false]),
        row("chat:editors",       "chat:editors", vec![editors()],              [false, false, false, true]),
        row("chat:either",        "chat:either",  vec![editors(), Who::Grant],  [false, false, true, true]),
        row("chat:ada-alone",     "chat:ada-alone", vec![Who::claim("sub", ["ada"])], [false, true, false, false]),
        row("chat:server",        "chat:server",  vec![Who::Server],            [false; 4]),
        row("chat:nobody",        "chat:nobody",  vec![Who::Nobody],            [false; 4]),
        row("chat:of:{user}",     "chat:of:ada",  vec![Who::Authenticated],     [false, true, false, false]),
        // Who subscribes is decided by `Row::who_for` here, and the rest follows from it.
        row("chat:members",       "chat:members", vec![Who::Subscriber],        [false, true, true, true]),
        row("chat:asked",         "chat:asked",   vec![Who::Hook],              [false, true, false, false]),
        row("chat:{claims.team}", "chat:red",     vec![Who::Anyone],            [false, false, false, true]),
    ]
}

impl Row {
    /// The condition for an action. Nobody is a subscriber by being one, and a hook decides two actions only.
    fn who_for(&self, action: Action) -> Vec<Who> {
        let is_asked = matches!(action, Action::Subscribe | Action::Publish);
        match self.who[..] {
            [Who::Subscriber] if action == Action::Subscribe => vec![Who::Authenticated],
            [Who::Hook] if !is_asked => vec![Who::claim("sub", ["ada"])],
            _ => self.who.clone(),
        }
    }

    fn is_decided_by_the_application(&self) -> bool {
        self.who == [Who::Hook]
    }
}

/// The application lets Ada in.
fn decides(caller: &Caller) -> Result<(), Refusal> {
    match &caller.user {
        Some(user) if *user.0 == *"ada" => Ok(()),
        _ => Err(Refusal::denied("for ada only")),
    }
}

fn token(caller: &str) -> Option<String> {
    let key = TokenKey::new("main", None, SECRET).unwrap();
    let minting = Minting::new(Duration::from_secs(3600)).user(caller);
    let minting = match caller {
        "anonymous" => return None,
        "bob" => minting.grant("chat:*", &Action::ALL),
        "eve" => minting.claim("role", json!("editor")).claim("team", json!(["blue", "red"])),
        _ => minting,
    };
    Some(minting.sign(&key).unwrap())
}

fn served() -> (Server, tokio::runtime::Runtime) {
    let rule = |row: Row| {
        let who = |action| row.who_for(action);
        Rule {
            subscribe: who(Action::Subscribe),
            publish: who(Action::Publish),
            signal: who(Action::Signal),
            enter: who(Action::Enter),
            history_read: who(Action::ReadHistory),
            presence_read: who(Action::ReadPresence),
            ..Rule::open(Pattern::new(row.pattern).unwrap())
        }
    };
    // What a capture refuses is not for the looser rule below.
    let all = Rule::open(Pattern::new("**").unwrap());
    let rules = rows().into_iter().map(rule).chain([all]).collect();
    let bridge = vec![Pattern::new("chat:**").unwrap()];
    let settings = Config {
        auth: AuthConfig {
            anonymous: true,
            keys: vec![TokenKey::new("main", None, SECRET).unwrap()],
            ..AuthConfig::default()
        },
        rules: Arc::new(Rules::new(rules)),
        api_keys: vec![ApiKey::new("backend", API_KEY).unwrap()],
        socketio: SocketIoConfig { enabled: true, bridge, ..SocketIoConfig::default() },
        ..config()
    };
    let runtime = support::runtime();
    let server = {
        let _entered = runtime.enter();
        let builder = Fanfare::builder(()).config(settings).protocol("/", patient_chat());
        let builder = builder.on_subscribe("chat:asked", async |caller: Caller| decides(&caller));
        Server::of(
            builder
                .on_publish("chat:asked", async |caller: Caller, publish: Publish| decides(&caller).map(|()| publish)),
        )
    };
    (server, runtime)
}

/// The commands for each action, with the option that decides it. `presence_set` needs a subscription too.
fn commands(channel: &str) -> [(&'static str, &'static str, Value); 6] {
    [
        ("subscribe", "subscribe", json!({"channel": channel})),
        ("publish", "publish", json!({"channel": channel, "data": 1})),
        ("signal", "signal", json!({"channel": channel, "event": "e", "data": 1})),
        ("presence_set", "enter", json!({"channel": channel, "data": 1})),
        ("history", "history_read", json!({"channel": channel, "limit": 1})),
        ("presence", "presence_read", json!({"channel": channel})),
    ]
}

/// An answer is the right one, and a denial names the rule and what decided.
fn check(name: &str, row: &Row, allowed: bool, option: &str, answer: &Value) {
    if allowed {
        assert_ne!(answer["type"], "error", "{name}: {answer}");
        return;
    }
    let is_answer = row.is_decided_by_the_application() && matches!(option, "subscribe" | "publish");
    if is_answer {
        assert_eq!(
            (&answer["code"], &answer["message"]),
            (&json!("denied"), &json!("for ada only")),
            "{name}: {answer}"
        );
        return;
    }
    let message = answer["message"].as_str().unwrap_or_default();
    assert_eq!((&answer["code"], &answer["rule"]), (&json!("denied"), &json!(row.pattern)), "{name}: {answer}");
    // Of subscribers: who may not subscribe is told so.
    let decisive = if row.who == [Who::Subscriber] { "subscribe" } else { option };
    let words = [option, decisive].map(|option| format!("says {option} = "));
    let mut words = words.into_iter().chain(["in the channel's name".to_owned()]);
    assert!(words.any(|words| message.contains(&words)), "{name}: {answer}");
}

/// Everything that a client of the native protocol can do, by the answers to its commands.
fn all_actions(transport: &str, caller: usize, mut ask: impl FnMut(&str, Value) -> Value) {
    for row in rows() {
        for (command, option, fields) in commands(row.channel) {
            let name = format!("{transport}, {}: {command} {}", CALLERS[caller], row.channel);
            check(&name, &row, row.allowed[caller], option, &ask(command, fields));
        }
    }
}

#[test]
fn native_websockets() {
    let (server, _runtime) = served();
    for (caller, name) in CALLERS.into_iter().enumerate() {
        let mut client = Client::native(server.address);
        client.hello(token(name).map_or(json!({}), |token| json!({"token": token})));
        all_actions("websocket", caller, |command, fields| client.ask(command, fields));
    }
}

#[test]
fn polls_and_sends() {
    let (server, _runtime) = served();
    for (caller, name) in CALLERS.into_iter().enumerate() {
        let mut poller =
            Poller::connect(server.address, token(name).map_or(json!({}), |token| json!({"token": token})));
        all_actions("poll", caller, |command, fields| poller.ask(command, fields));
    }
}

#[test]
fn streams_of_the_native_protocol() {
    let (server, _runtime) = served();
    for (caller, name) in CALLERS.into_iter().enumerate() {
        let subscribe: Vec<Value> = rows().iter().map(|row| json!({"channel": row.channel})).collect();
        let mut connect = json!({"type": "connect", "id": 1, "subscribe": subscribe});
        if let Some(token) = token(name) {
            connect["token"] = token.into();
        }
        let mut stream = Stream::post(server.address, "/v1/sse", &connect.to_string());
        let connected = stream.message().json();
        assert_eq!(connected["type"], "connected", "{name}: {connected}");
        // One answer for each channel, as they come from their homes.
        let answers: Vec<Value> = rows().iter().map(|_| stream.message().json()).collect();
        for row in rows() {
            let answer = answers.iter().find(|answer| answer["channel"] == row.channel);
            let answer = answer.unwrap_or_else(|| panic!("{name}: no answer for {}: {answers:?}", row.channel));
            check(&format!("sse, {name}: {}", row.channel), &row, row.allowed[caller], "subscribe", answer);
        }
        // Its commands come by sends, to the session of its ticket.
        let ticket = connected["ticket"].as_str().unwrap();
        for row in rows() {
            for (command, option, mut fields) in commands(row.channel).into_iter().skip(1) {
                (fields["type"], fields["id"]) = (command.into(), 1.into());
                let body = json!({"ticket": ticket, "commands": fields});
                let answer = post(server.address, "/v1/send", &body);
                let answer: Value = serde_json::from_str(&answer.body).unwrap();
                let name = format!("sse, {name}: {command} {}", row.channel);
                check(&name, &row, row.allowed[caller], option, &answer["replies"][0]);
            }
        }
    }
}

#[test]
fn plain_event_streams() {
    let (server, _runtime) = served();
    for (caller, name) in CALLERS.into_iter().enumerate() {
        let bearer = token(name).map_or(String::new(), |token| format!("Authorization: Bearer {token}\r\n"));
        for row in rows() {
            for query in ["", "&recent=1"] {
                let target = format!("/events?channel={}{query}", row.channel);
                let mut stream = Stream::get(server.address, &target, &bearer);
                let expected = if row.allowed[caller] { 200 } else { 403 };
                assert_eq!(stream.status(), expected, "{name}: {target}");
                if expected == 403 && !row.is_decided_by_the_application() {
                    let body = stream.rest();
                    assert!(body.contains(&format!("the rule {:?}", row.pattern)), "{name}: {target}: {body}");
                }
            }
        }
    }
}

/// The application's answer.
fn api(address: SocketAddr, command: &str, body: &Value) -> Value {
    use std::io::Write as _;
    let mut socket = connect(address);
    let bearer = format!("Authorization: Bearer {API_KEY}\r\n");
    socket.write_all(request("POST", &format!("/api/v1/{command}"), &bearer, &body.to_string()).as_bytes()).unwrap();
    let answer = response(&mut socket);
    assert_eq!(answer.status(), 200, "{command} {body}: {}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

/// Asks until it holds. What is allowed happens in its own time; what is denied does not happen at all.
fn wait_for(name: &str, holds: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !holds() {
        assert!(began.elapsed() < support::DEADLINE, "{name} did not happen");
    }
}

/// A chat is told nothing of a refusal. What it says in a room where it may not be is not there.
#[test]
fn chats() {
    let (server, _runtime) = served();
    let said = |channel: &str, words: &str| {
        let history = api(server.address, "history", &json!({"channel": channel}));
        history["publications"].as_array().unwrap().iter().any(|it| it["data"]["content"] == words)
    };
    for (caller, name) in CALLERS.into_iter().enumerate() {
        // A room's name has no colon.
        let of_rooms = |row: &&Row| row.channel.matches(':').count() == 1 && row.channel != "chat:anyone";
        for row in rows().iter().filter(of_rooms) {
            let path = token(name).map_or("/".to_owned(), |token| format!("/?token={token}"));
            let mut chat = Client::open(server.address, &path);
            let (mark, end) = (format!("mark of {name}"), format!("end of {name}"));
            chat.text(&join("x", row.channel.strip_prefix("chat:").unwrap()));
            chat.text(&say(&mark));
            chat.text(&join("x", "anyone"));
            chat.text(&say(&end));
            while chat.until("message")["content"] != *end {}
            let name = format!("chat, {name}: {}", row.channel);
            if row.allowed[caller] {
                wait_for(&name, || said(row.channel, &mark));
            }
            assert_eq!(said(row.channel, &mark), row.allowed[caller], "{name}");
        }
    }
}

#[test]
fn bridged_rooms_of_socket_io() {
    let (server, _runtime) = served();
    for (caller, name) in CALLERS.into_iter().enumerate() {
        let (mut socket, _) = opened(server.address);
        socket.text(&token(name).map_or("40".to_owned(), |token| format!("40{}", json!({"token": token}))));
        let id = entered(&mut socket, "");
        for row in rows() {
            socket.text(&format!("42{}", json!(["join-room", row.channel])));
        }
        let is_in = |row: &Row| {
            let presence = api(server.address, "presence", &json!({"channel": row.channel}));
            presence["entries"].as_array().unwrap().iter().any(|entry| entry["client"] == *id)
        };
        for row in rows().iter().filter(|row| row.allowed[caller]) {
            wait_for(&format!("Socket.IO, {name}: {}", row.channel), || is_in(row));
        }
        for row in rows() {
            assert_eq!(is_in(&row), row.allowed[caller], "Socket.IO, {name}: {}", row.channel);
            api(server.address, "publish", &json!({"channel": row.channel, "data": {"content": row.channel}}));
        }
        let mut expected: Vec<_> = rows().iter().filter(|row| row.allowed[caller]).map(|row| row.channel).collect();
        let mut heard: Vec<String> = Vec::new();
        while heard.len() < expected.len() {
            let event = support::socketio::event(&mut socket, "");
            if event[0] == "message" {
                heard.push(event[1]["content"].as_str().unwrap().to_owned());
            }
        }
        expected.sort_unstable();
        heard.sort_unstable(); // of several channels, in any order
        assert_eq!(heard, expected, "Socket.IO, {name}");
    }
}

#[test]
fn the_application_may_everything_where_there_is_a_rule() {
    let (server, _runtime) = served();
    for row in rows() {
        for (command, body) in [
            ("publish", json!({"channel": row.channel, "data": 1})),
            ("signal", json!({"channel": row.channel, "event": "e", "data": 1})),
            ("history", json!({"channel": row.channel})),
            ("presence", json!({"channel": row.channel})),
        ] {
            api(server.address, command, &body);
        }
    }
}
