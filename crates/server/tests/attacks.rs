//! Attacks that need no malformed byte: user ids that look like patterns, tickets that are not the client's, a new
//! channel name in every command, names that are chosen to collide. docs/security.md lists the tests of the others.

#![allow(clippy::unwrap_used)] // helpers stand outside of `#[test]`; a panic in one fails the test

mod support;

use fanfare::auth::{AuthConfig, Minting, TokenKey};
use fanfare::hub::{ChannelName, Limits, Pattern, Placement, Quotas, Retain, Rule, Rules};
use fanfare::{Config, Who};
use fanfare_wire::websocket::Opcode;
use serde_json::json;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;
use support::native::command;
use support::polls::{json_of, post};
use support::{Client, Server, config, frame, patient_chat};

const SECRET: &str = "an-example-of-a-secret-of-enough-bytes!";

fn key() -> TokenKey {
    TokenKey::new("main", None, SECRET).unwrap()
}

fn token(user: &str) -> String {
    Minting::new(Duration::from_secs(600)).user(user).sign(&key()).unwrap()
}

fn rule(pattern: &str, subscribe: Who) -> Rule {
    let rule = Rule::open(Pattern::new(pattern).unwrap());
    Rule { subscribe: vec![subscribe], publish: vec![Who::Subscriber], ..rule }
}

/// `inbox:{user}`, `team:{user}:*` and `room:*` are for a user; the rest is nobody's.
fn with_tokens() -> Config {
    let rules = vec![
        rule("inbox:{user}", Who::Authenticated),
        rule("team:{user}:*", Who::Authenticated),
        rule("granted:**", Who::Grant),
        rule("**", Who::Nobody),
    ];
    let auth = AuthConfig { anonymous: false, keys: vec![key()], ..AuthConfig::default() };
    Config { auth, rules: Arc::new(Rules::new(rules)), ..config() }
}

fn serve(settings: Config) -> (Server, tokio::runtime::Runtime) {
    let runtime = support::runtime();
    let server = {
        let _entered = runtime.enter();
        let builder = fanfare::Fanfare::builder(()).config(settings).protocol("/", patient_chat());
        Server::of(builder.protocol("/v1/ws", support::native::patient()))
    };
    (server, runtime)
}

/// A user id is compared as a whole: no character of it is a wildcard, a separator or a placeholder.
#[test]
fn a_user_id_opens_no_channel_but_its_own() {
    let (server, _runtime) = serve(with_tokens());
    let others = [
        "inbox:ada",
        "inbox:bob",
        "inbox:*",
        "inbox:**",
        "inbox:a",
        "inbox:a:b",
        "inbox:{user}",
        "team:ada:x",
        "team:*:x",
        "team:a:b",
        "team:a:b:x",
        "granted:ada",
        "$sio",
        "secret",
        "inbox:",
    ];
    let users = [
        "*",
        "**",
        "a:b",
        "ada:x",
        ":",
        "::",
        "ada:",
        ":ada",
        "{user}",
        "inbox:ada",
        "ada*",
        "*ada",
        "ADA",
        "ada ",
        " ada",
        "аda", // its first letter is Cyrillic
        "a/b",
        "ada%00",
        "a\"b",
        "$sio",
        "..",
    ];
    for user in users {
        let mut client = Client::native(server.address);
        assert_eq!(client.hello(json!({"token": token(user)}))["user"], user);
        // A name with the user's own text: only where that is one segment of it.
        let own: BTreeSet<String> = if user.contains(':') {
            BTreeSet::new()
        } else {
            [format!("inbox:{user}"), format!("team:{user}:x")].into()
        };
        let all: BTreeSet<String> = others
            .iter()
            .map(|name| (*name).to_owned())
            .chain([format!("inbox:{user}"), format!("team:{user}:x")])
            .collect();
        for channel in all {
            let answer = client.ask("subscribe", json!({"channel": channel}));
            let is_in = answer["type"] == "subscribed";
            assert!(
                is_in || ["denied", "bad_request", "not_found"].contains(&answer["code"].as_str().unwrap()),
                "{answer}"
            );
            assert!(!is_in || own.contains(&channel), "{user:?} is in {channel:?}");
            if is_in {
                client.ask("unsubscribe", json!({"channel": channel}));
            }
        }
    }
    // The check can fail: ada's own is open to her.
    let mut ada = Client::native(server.address);
    ada.hello(json!({"token": token("ada")}));
    for channel in ["inbox:ada", "team:ada:x"] {
        assert_eq!(ada.ask("subscribe", json!({"channel": channel}))["type"], "subscribed");
    }
}

/// A token's grants say `{user}` too. The pattern of a grant is the issuer's, the user id in it is literal.
#[test]
fn a_user_id_within_a_grant_is_no_pattern() {
    let (server, _runtime) = serve(with_tokens());
    for user in ["*", "**", "ada"] {
        let minting = Minting::new(Duration::from_secs(600)).user(user);
        let token = minting.grant("granted:{user}", &[fanfare::hub::Action::Subscribe]);
        let mut client = Client::native(server.address);
        client.hello(json!({"token": token.sign(&key()).unwrap()}));
        let answer = client.ask("subscribe", json!({"channel": "granted:ada"}));
        assert_eq!(answer["type"] == "subscribed", user == "ada", "{user}: {answer}");
    }
}

/// A ticket names a session; it holds no right that the session has lost, and none of another one.
#[test]
fn a_forged_ticket_is_nobody_and_a_changed_one_is_forged() {
    let (server, _runtime) = serve(with_tokens());
    let mut ada = Client::native(server.address);
    let connected = ada.hello(json!({"token": token("ada")}));
    let ticket = connected["ticket"].as_str().unwrap();
    let mut forged: Vec<String> = vec![String::new(), "x".to_owned(), "A".repeat(ticket.len()), format!("{ticket}A")];
    for at in [0, 1, 5, 20, 40, ticket.len() - 2] {
        let other = if &ticket[at..=at] == "B" { "C" } else { "B" };
        forged.push(format!("{}{other}{}", &ticket[..at], &ticket[at + 1..]));
        forged.push(ticket[..at].to_owned());
    }
    for ticket in &forged {
        let commands = json!([{"type": "publish", "id": 1, "channel": "inbox:ada", "data": "forged"}]);
        let sent = post(server.address, "/v1/send", &json!({"ticket": ticket, "commands": commands}));
        assert!((400..=401).contains(&sent.status()), "{ticket}: {}{}", sent.head, sent.body);
        let polled = post(server.address, "/v1/poll", &json!({"ticket": ticket, "ack": 0, "wait": 0}));
        assert!((400..=401).contains(&polled.status()), "{ticket}: {}{}", polled.head, polled.body);
        let refused = Client::native(server.address).ask("connect", json!({"ticket": ticket}));
        assert_eq!(refused["type"], "error", "{ticket}: it proves nobody: {refused}");
    }
    // A ticket with the token of another user brings that user, and leaves the session alone.
    let mut eve = Client::native(server.address);
    let answer = eve.hello(json!({"token": token("eve"), "ticket": ticket}));
    assert_eq!((&answer["user"], answer["client"] == connected["client"]), (&json!("eve"), false), "{answer}");
    assert_eq!(ada.ask("subscribe", json!({"channel": "inbox:ada"}))["type"], "subscribed", "she is still there");
}

/// As many names as commands: what is kept of them has the bound of all history, and others are served meanwhile.
#[test]
fn a_new_channel_name_in_every_command_takes_no_more_than_its_share() {
    const NAMES: usize = 10_000;
    const BYTES_MAX: usize = 1 << 20;
    let quotas = Quotas::NONE;
    let limits = Limits { history_bytes_max: BYTES_MAX, linger_ms: 1, quotas, ..Limits::default() };
    let kept = Retain { count: 10, bytes: 1 << 20, ttl_ms: 600_000 };
    let rule = Rule { history: kept, ..Rule::open(Pattern::new("**").unwrap()) };
    let server = Server::native(Config { limits, rules: Arc::new(Rules::new(vec![rule])), ..config() });
    let mut bystander = Client::connected(server.address);
    bystander.follow("room:a");
    let mut flooding = Client::connected(server.address);
    let mut bytes = Vec::new();
    for n in 0..NAMES {
        let fields = json!({"channel": format!("flood:{n}"), "data": "0123456789"});
        let publish = command("publish", fields, &json!(n)).to_string();
        bytes.extend_from_slice(&frame(Opcode::Text, publish.as_bytes()));
    }
    let mut socket = flooding.socket.try_clone().unwrap();
    let writing = std::thread::spawn(move || socket.write_all(&bytes).unwrap());
    let reading = std::thread::spawn(move || {
        for n in 0..NAMES {
            let answer = flooding.message();
            assert_eq!(answer["type"], "published", "{n}: {answer}"); // different channels have no order
        }
        flooding
    });
    for n in 0..100 {
        assert_eq!(bystander.ask_next("publish", json!({"channel": "room:a", "data": n}))["type"], "published");
        assert_eq!(bystander.message()["data"], n);
        assert!(server.kept().0 <= BYTES_MAX, "{} bytes", server.kept().0);
    }
    writing.join().unwrap();
    reading.join().unwrap();
    let bytes = server.kept().0;
    assert!(bytes <= BYTES_MAX, "{bytes} bytes are kept");
    // The newest is there and the first is not: what is old goes, and nothing new is refused.
    for (n, kept) in [(NAMES - 1, 1), (0, 0)] {
        let answer = bystander.ask_next("history", json!({"channel": format!("flood:{n}"), "limit": 1}));
        let found = answer["messages"].as_array().or(answer["publications"].as_array()).map(Vec::len);
        assert_eq!(found, Some(kept), "{answer}");
    }
}

/// Names that land on one shard under one key are spread under another, and each server draws its own at random.
#[test]
fn names_that_collide_under_one_key_are_spread_under_another() {
    const SHARDS: usize = 8;
    const NAMES: usize = 2_000;
    let name = |n: usize| ChannelName::new(&format!("flood:{n}")).unwrap();
    let known = Placement::new(7, SHARDS);
    let home = known.home_of(&name(0));
    let chosen: Vec<ChannelName> = (0..).map(name).filter(|name| known.home_of(name) == home).take(NAMES).collect();
    for key in [8, 1 << 40, u64::MAX] {
        let other = Placement::new(key, SHARDS);
        let mut counts = [0; SHARDS];
        chosen.iter().for_each(|name| counts[usize::from(other.home_of(name).0)] += 1);
        // An even share is 250; 40 less or more are 2.7 standard deviations.
        assert!(counts.iter().all(|count| (150..350).contains(count)), "key {key}: {counts:?}");
    }
}

/// A poll session is its ticket's alone: no other client takes its messages away by guessing at its address.
#[test]
fn a_poll_session_answers_nobody_but_its_ticket() {
    let server = Server::native(config());
    let connect = |page: &str| {
        let answer = json_of(post(server.address, "/v1/poll", &json!({"type": "connect", "id": 1, "page": page})));
        let text = answer.to_string();
        text.split_once("\"ticket\":\"").unwrap().1.split('"').next().unwrap().to_owned()
    };
    let (one, two) = (connect("a"), connect("b"));
    let half = one.len() / 2;
    for mixed in [format!("{}{}", &one[..half], &two[half..]), format!("{}{}", &two[..half], &one[half..])] {
        let polled = post(server.address, "/v1/poll", &json!({"ticket": mixed, "ack": 0, "wait": 0}));
        assert_eq!(polled.status(), 401, "{}{}", polled.head, polled.body);
    }
}
