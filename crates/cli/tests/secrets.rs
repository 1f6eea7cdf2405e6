//! Secrets stay secret: a server that has one in every setting for secrets, whose clients show good ones and bad ones
//! in every place, at `log.level = "trace"`. None of them is in its log, in an answer, in its figures, or in what
//! `check`, `config` and a mistake say.

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustix::process::Signal;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use support::{DEADLINE, Folder, Server};

const TOKEN_KEY: &str = "t0ken-key-0123456789-abcdefghij-klmnop";
const API_KEY: &str = "4pi-key-0123456789-abcdefghij";
const OTHER_API_KEY: &str = "0ther-4pi-key-0123456789-abcdefghij";
const HOOK_SECRET: &str = "whsec_c2VjcmV0LW9mLXRoZS1ob29rcy0wMTIzNDU2Nzg5";
const URL_SECRET: &str = "s3cret-of-the-address";
/// What strangers show.
const BAD_TOKEN: &str = "b4d.t0ken.of-a-stranger";
const BAD_KEY: &str = "b4d-4pi-key-0123456789-abcdefghij";
const BAD_TICKET: &str = "AwAAb4d-ticket-0123456789-abcdefghij-0123456789-abcdefghij-0123456789-abcdefghij0123456789";

/// `port`: nobody listens there, so that hooks fail and the log tells of it.
fn file(port: u16) -> String {
    format!(
        r#"
listen = "127.0.0.1:0"

[admin]
listen = "main"

[session]
drain_window = "0s"

[log]
level = "trace"

[auth]
anonymous = true
cookie = "session"

[auth.keys]
main = "{TOKEN_KEY}"

[api_keys]
backend = "{API_KEY}"
reader = {{ key = ["{OTHER_API_KEY}"], commands = ["history"] }}

[hooks]
url = "http://127.0.0.1:{port}/hook?key={URL_SECRET}"
ask = ["publish", "rpc"]
notify = ["disconnect", "published"]
secret = "{HOOK_SECRET}"
publish_channels = ["**"]

[chat]
enabled = true

[socketio]
enabled = true

[[channels]]
match = "**"
subscribe = "anyone"
publish = "anyone"
"#
    )
}

/// A request on a connection of its own, and what comes back until `until` is there or the connection ends.
fn asked(server: &Server, head: &str, body: &str, until: &str) -> String {
    let mut socket = TcpStream::connect(&server.address).expect("it listens");
    socket.set_read_timeout(Some(DEADLINE)).expect("a socket takes a timeout");
    let len = body.len();
    let text = format!("{head}\r\nHost: localhost\r\nContent-Length: {len}\r\n\r\n{body}");
    socket.write_all(text.replace("Content-Length: 0\r\n", "").as_bytes()).expect("written");
    let (mut read, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&read);
        if !until.is_empty() && text.contains(until) {
            return text.into_owned();
        }
        match socket.read(&mut buffer) {
            Ok(0) => return text.into_owned(),
            Ok(count) => read.extend_from_slice(&buffer[..count]),
            Err(error) => panic!("{error}: {text}"),
        }
    }
}

/// A client's masked text frame.
fn frame(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81];
    match u8::try_from(text.len()) {
        Ok(len @ ..126) => frame.push(0x80 | len),
        _ => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&u16::try_from(text.len()).expect("short").to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]); // a mask that changes nothing
    frame.extend_from_slice(text.as_bytes());
    frame
}

/// A WebSocket with these lines in its head, which sends a text; what it gets until `until` is there, or its end.
fn websocket(server: &Server, path: &str, lines: &str, text: &str, until: &str) -> String {
    let mut socket = TcpStream::connect(&server.address).expect("it listens");
    socket.set_read_timeout(Some(DEADLINE)).expect("a socket takes a timeout");
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
    );
    socket.write_all(head.as_bytes()).expect("written");
    socket.write_all(&frame(text)).expect("written");
    let (mut read, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        if text.contains(until) {
            return text;
        }
        match socket.read(&mut buffer) {
            Ok(0) => return text,
            Ok(count) => read.extend_from_slice(&buffer[..count]),
            Err(error) => panic!("{error}: {text}"),
        }
    }
}

fn between<'t>(text: &'t str, before: &str, after: &str) -> &'t str {
    let rest = text.split_once(before).unwrap_or_else(|| panic!("no {before} in {text}")).1;
    rest.split_once(after).unwrap_or_else(|| panic!("no {after} in {rest}")).0
}

/// None of the secrets is in a text.
fn assert_clean(what: &str, text: &str, secrets: &[&str]) {
    for secret in secrets {
        let line = text.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{what} shows {secret:?}: {line:?}");
    }
}

#[test]
fn no_secret_is_in_the_log_in_an_answer_or_in_a_figure() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let folder = Folder::with(&file(closed.local_addr().expect("bound").port()));
    drop(closed);
    let minted = folder.run(&["token", "--user", "ada", "--expires", "1h"]);
    let token = minted.stdout.trim().to_owned();
    assert_eq!(token.matches('.').count(), 2, "{minted:?}");
    let mut server = folder.start(&["serve"]);
    let signature = token.rsplit('.').next().expect("three parts").to_owned();
    let own = [TOKEN_KEY, API_KEY, OTHER_API_KEY, HOOK_SECRET, &HOOK_SECRET[6..], URL_SECRET];
    let shown = [&*token, &signature, BAD_TOKEN, BAD_KEY, BAD_TICKET];
    let secrets: Vec<&str> = own.iter().chain(&shown).copied().collect();

    let connect = |token: &str| format!(r#"{{"type":"connect","id":1,"token":"{token}"}}"#);
    let bare = r#"{"type":"connect","id":1}"#;
    let mut answers = Vec::new();
    let mut tickets = Vec::new();
    for token in [&*token, BAD_TOKEN] {
        let encoded = URL_SAFE_NO_PAD.encode(token);
        let protocol = "Sec-WebSocket-Protocol: fanfare.v1";
        let rows = [
            ("/v1/ws", format!("{protocol}\r\nAuthorization: Bearer {token}\r\n"), bare.to_owned()),
            ("/v1/ws", format!("{protocol}, fanfare.token.{token}\r\n"), bare.to_owned()),
            ("/v1/ws", format!("{protocol}, fanfare.token.{encoded}\r\n"), bare.to_owned()),
            (&*format!("/v1/ws?token={token}"), format!("{protocol}\r\n"), bare.to_owned()),
            (
                "/v1/ws",
                format!("{protocol}\r\nOrigin: http://localhost\r\nCookie: session={token}\r\n"),
                bare.to_owned(),
            ),
            ("/v1/ws", format!("{protocol}\r\n"), connect(token)),
        ];
        for (path, lines, text) in rows {
            let until = if token == BAD_TOKEN { "\"code\":\"unauthorized\"" } else { "\"ticket\":\"" };
            let answer = websocket(&server, path, &lines, &text, until);
            assert!(answer.contains(until), "{path} {lines}: {answer}");
            assert!(!answer.contains(&encoded), "{answer}");
            answers.push(answer);
        }
        let (json, bearer) = ("Content-Type: application/json", format!("Authorization: Bearer {token}"));
        for (head, body, until) in [
            (format!("GET /events?channel=a&token={token} HTTP/1.1"), "", "\r\n\r\n"),
            (format!("GET /events?channel=a HTTP/1.1\r\n{bearer}"), "", "\r\n\r\n"),
            (format!("GET /v1/sse HTTP/1.1\r\n{bearer}\r\nConnection: close"), "", "\n\n"),
            (
                format!("GET /v1/stream?connect=%7B%22type%22:%22connect%22,%22token%22:%22{token}%22%7D HTTP/1.1"),
                "",
                "}",
            ),
            (format!("POST /v1/poll HTTP/1.1\r\n{json}\r\nConnection: close"), &*connect(token), ""),
            (format!("POST /v1/poll?token={token} HTTP/1.1\r\n{json}\r\nConnection: close"), bare, ""),
            (format!("GET /nothing?token={token} HTTP/1.1\r\n{bearer}\r\nConnection: close"), "", ""),
        ] {
            let answer = asked(&server, &head, body, until);
            assert!(answer.starts_with("HTTP/1.1 "), "{head}: {answer}");
            answers.push(answer);
        }
        // Chat, and Socket.IO, by polls and over a WebSocket.
        answers.push(websocket(&server, &format!("/?token={token}"), "", "{}", "HTTP/1.1 101"));
        let path = "/socket.io/?EIO=4&transport=polling";
        let opened = asked(&server, &format!("GET {path} HTTP/1.1\r\nConnection: close"), "", "");
        let path = format!("{path}&sid={}", between(&opened, "\"sid\":\"", "\""));
        let auth = format!(r#"40{{"token":"{token}"}}"#);
        assert!(asked(&server, &format!("POST {path} HTTP/1.1\r\nConnection: close"), &auth, "").ends_with("ok"));
        answers.push(asked(&server, &format!("GET {path} HTTP/1.1\r\nConnection: close"), "", ""));
    }
    // Tickets: good ones, and one that is none.
    for answer in &mut answers {
        if answer.contains("\"ticket\":\"") {
            let ticket = between(answer, "\"ticket\":\"", "\"").to_owned();
            *answer = answer.replace(&ticket, ""); // its own client has it
            tickets.push(ticket);
        }
    }
    assert!(tickets.len() >= 8, "{} tickets", tickets.len());
    for ticket in tickets.iter().map(String::as_str).chain([BAD_TICKET]) {
        let head = "HTTP/1.1\r\nContent-Type: application/json\r\nConnection: close";
        let send =
            format!(r#"{{"ticket":"{ticket}","commands":[{{"type":"publish","id":9,"channel":"a","data":1}}]}}"#);
        answers.push(asked(&server, &format!("POST /v1/send {head}"), &send, ""));
        let poll = format!(r#"{{"ticket":"{ticket}","ack":0,"wait":0}}"#);
        answers.push(asked(&server, &format!("POST /v1/poll {head}"), &poll, ""));
        let again = format!(r#"{{"type":"connect","id":1,"ticket":"{ticket}"}}"#);
        let answer = websocket(&server, "/v1/ws", "Sec-WebSocket-Protocol: fanfare.v1\r\n", &again, "\"type\":");
        answers.push(answer.split("\"ticket\":\"").next().unwrap_or_default().to_owned());
    }
    for key in [API_KEY, OTHER_API_KEY, BAD_KEY] {
        for body in ["{}", r#"{"channel":"a","data":1}"#, key] {
            let json = "Content-Type: application/json\r\nConnection: close";
            let head = format!("POST /api/v1/publish HTTP/1.1\r\nAuthorization: Bearer {key}\r\n{json}");
            answers.push(asked(&server, &head, body, ""));
        }
        // Where it does not belong.
        answers.push(asked(&server, &format!("GET /v1/sse?token={key} HTTP/1.1\r\nConnection: close"), "", "\n\n"));
    }
    let figures = asked(&server, "GET /metrics HTTP/1.1\r\nConnection: close", "", "");
    assert!(figures.contains("fanfare_"), "{figures}");
    for answer in answers.iter().chain([&figures]) {
        let bodies = answer.split_once("\r\n\r\n").map_or(&**answer, |(_, body)| body);
        assert_clean("an answer", bodies, &secrets);
    }

    // A reload with other secrets, of which one is wrong.
    let other = "an0ther-t0ken-key-0123456789-abcdefghij";
    folder.write(
        "fanfare.toml",
        &folder.read("fanfare.toml").replace(TOKEN_KEY, other).replace(URL_SECRET, "n3w-s3cret"),
    );
    server.signal(Signal::HUP);
    server.wait_for("reloaded: ");
    folder.write("fanfare.toml", &folder.read("fanfare.toml").replace(other, "sh0rt-s3cret"));
    server.signal(Signal::HUP);
    server.wait_for("not reloaded");
    server.signal(Signal::TERM);
    server.wait_for("stopping");
    let log = server.rest();
    for word in ["DEBUG", "INFO", "WARN", "ERROR", "hook", "unauthorized"] {
        assert!(log.contains(word), "the log is to be one of everything, and has no {word}: {log}");
    }
    let more = [other, "n3w-s3cret", "sh0rt-s3cret"];
    let all: Vec<&str> = secrets.iter().chain(&more).copied().chain(tickets.iter().map(String::as_str)).collect();
    assert_clean("the log", &log, &all);
}

#[test]
fn no_secret_is_in_what_the_commands_say() {
    let good = file(9);
    let mistakes = [
        ("none", good.clone()),
        ("a short token key", good.replace(TOKEN_KEY, &TOKEN_KEY[..12])),
        ("a short API key", good.replace(API_KEY, &API_KEY[..12])),
        ("a hook's secret that is none", good.replace(HOOK_SECRET, &HOOK_SECRET[6..])),
        ("a user in an address", good.replace("http://127", &format!("http://me:{URL_SECRET}@127"))),
        ("an address that is none", good.replace("http://127", &format!("me:{URL_SECRET}@127"))),
        (
            "a list of addresses",
            good.replace("url = \"", "url = [\"").replace(&format!("{URL_SECRET}\""), &format!("{URL_SECRET}\"]")),
        ),
        ("a quote that is missing", good.replace(&format!("{URL_SECRET}\""), URL_SECRET)),
        ("a variable that is missing", good.replace("key=", "key=${MISSING}")),
        (
            "a user in the address of keys",
            good.replace("cookie = ", &format!("jwks_url = \"https://me:{URL_SECRET}@id.example/keys\"\ncookie = ")),
        ),
        (
            "a query in the address of keys that is refused",
            good.replace("cookie = ", &format!("jwks_url = \"http://id.example/keys?key={URL_SECRET}\"\ncookie = ")),
        ),
        ("a misspelt section", good.replace("[api_keys]", "[api_key]")),
        ("a misspelt table", good.replace("[auth.keys]", "[auth.key]")),
        ("a public address", good.replace("listen = \"127.0.0.1:0\"", "listen = \"0.0.0.0:0\"")),
    ];
    let secrets = [TOKEN_KEY, API_KEY, OTHER_API_KEY, HOOK_SECRET, URL_SECRET, &TOKEN_KEY[..12], &API_KEY[..12]];
    for (name, text) in &mistakes {
        let folder = Folder::with(text);
        for words in [&["check"][..], &["config"], &["why", "publish", "a"], &["token", "inspect", BAD_TOKEN]] {
            let said = folder.run(words);
            assert_clean(&format!("{words:?} with {name}"), &format!("{}{}", said.stdout, said.stderr), &secrets);
            assert!(!said.stdout.is_empty() || !said.stderr.is_empty(), "{words:?} with {name}");
        }
        if *name != "none" {
            let said = folder.run(&["serve"]);
            assert_eq!(said.status, Some(1), "{name}: {said:?}");
            assert_clean(&format!("`serve` with {name}"), &said.stderr, &secrets);
        }
    }
}
