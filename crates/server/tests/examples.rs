//! Runs each example as it stands, and uses it as its first lines describe.

use fanfare_wire::websocket::{Decoder, Event, Limits, Opcode, Role, put_frame};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

/// An example that runs, on a Unix socket of its own.
struct Example {
    child: Child,
    socket: PathBuf,
}

impl Example {
    fn run(name: &str) -> Self {
        // …/debug/deps/examples-… → …/debug/examples/NAME, which cargo has built beside this test.
        let mut program = std::env::current_exe().expect("a test has a path");
        program.pop();
        program.set_file_name("examples");
        program.push(name);
        let socket = std::env::temp_dir().join(format!("fanfare-example-{name}-{}.sock", std::process::id()));
        let child = Command::new(&program).arg(format!("unix:{}", socket.display())).stderr(Stdio::null()).spawn();
        let child = child.unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        Example { child, socket }
    }

    fn connect(&self) -> UnixStream {
        let begun = Instant::now();
        loop {
            match UnixStream::connect(&self.socket) {
                Ok(socket) => {
                    socket.set_read_timeout(Some(PATIENCE)).expect("a socket takes the option");
                    return socket;
                }
                Err(error) => assert!(begun.elapsed() < PATIENCE, "it does not listen: {error}"),
            }
            std::thread::yield_now();
        }
    }

    fn http(&self, request: &str) -> String {
        let mut socket = self.connect();
        socket.write_all(request.as_bytes()).expect("written");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("an answer");
        answer
    }

    fn client(&self) -> Client {
        self.websocket("/v1/ws", "Sec-WebSocket-Protocol: fanfare.v1\r\n")
    }

    fn websocket(&self, path: &str, header: &str) -> Client {
        let mut socket = self.connect();
        let upgrade = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{header}\r\n"
        );
        socket.write_all(upgrade.as_bytes()).expect("written");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).expect("a head");
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
        Client { socket, decoder: Decoder::new(Role::Client, Limits { message_bytes_max: 1 << 20 }) }
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}

struct Client {
    socket: UnixStream,
    decoder: Decoder,
}

impl Client {
    fn send(&mut self, command: Value) {
        self.send_text(&command.to_string());
    }

    fn send_text(&mut self, text: &str) {
        let mut frame = Vec::new();
        put_frame(&mut frame, Opcode::Text, text.as_bytes(), Some([1, 2, 3, 4]));
        self.socket.write_all(&frame).expect("written");
    }

    fn receive(&mut self) -> Value {
        serde_json::from_str(&self.receive_text()).expect("JSON")
    }

    fn receive_text(&mut self) -> String {
        loop {
            let mut byte = [0];
            self.socket.read_exact(&mut byte).expect("a push");
            if let Some(Event::Text(text)) = self.decoder.decode(&mut &mut byte[..]).expect("WebSocket") {
                return text.to_owned();
            }
        }
    }

    /// The next message of this type; skips those before it.
    fn receive_of(&mut self, kind: &str) -> Value {
        loop {
            let push = self.receive();
            if push["type"] == kind {
                return push;
            }
            assert_ne!(push["type"], "error", "{push}");
        }
    }
}

#[test]
fn the_chat_lets_in_who_is_known_and_keeps_its_manners() {
    let chat = Example::run("chat_server");
    let mut stranger = chat.client();
    stranger.send(json!({"type": "connect", "id": 1, "token": "ada:guess"}));
    assert_eq!(stranger.receive()["code"], "unauthorized");
    let join = |token: &str| {
        let mut client = chat.client();
        client.send(json!({"type": "connect", "token": token}));
        client.send(json!({"type": "subscribe", "id": 1, "channel": "chat:general", "recent": 10, "presence": true}));
        client.receive_of("subscribed");
        client
    };
    let (mut ada, mut bob) = (join("ada:wonderland"), join("bob:builder"));
    ada.send(json!({"type": "publish", "channel": "chat:general", "data": {"text": "hello"}}));
    let message = bob.receive_of("message");
    assert_eq!((&message["data"]["text"], &message["from"]["user"]), (&json!("hello"), &json!("ada")));
    ada.send(json!({"type": "publish", "id": 2, "channel": "chat:general", "data": {"text": "Darn"}}));
    // Her own copy of the first may come before or after it.
    let refused = std::iter::repeat_with(|| ada.receive()).find(|push| push["id"] == 2).expect("endless");
    assert_eq!(refused["code"], "denied", "{refused}");
    bob.send(json!({"type": "subscribe", "id": 2, "channel": "inbox:bob"}));
    bob.receive_of("subscribed"); // calls and channels have no order between them
    bob.send(json!({"type": "rpc", "id": 3, "method": "remind", "data": "milk"}));
    // Her publications and her results have no order either.
    let mut both = [bob.receive(), bob.receive()];
    both.sort_by_key(|push| push["type"].to_string());
    assert_eq!(both[0]["data"], json!({"remember": "milk"}), "{both:?}");
    assert_eq!(both[1]["data"], json!({"offset": 1}), "{both:?}");
}

#[test]
fn the_dashboard_shows_the_load() {
    let dashboard = Example::run("dashboard");
    let page = dashboard.http("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert!(page.starts_with("HTTP/1.1 200 ") && page.contains("dash:load"), "{page}");
    let mut client = dashboard.client();
    client.send(json!({"type": "connect", "subscribe": [{"channel": "dash:load", "recent": 60}]}));
    let first = client.receive_of("subscribed");
    assert_eq!(first["channel"], "dash:load");
    let message = client.receive_of("message");
    assert!(message["data"]["load"].is_number(), "{message}");
}

#[test]
fn the_axum_application_tells_of_its_orders() {
    let shop = Example::run("axum");
    let mut client = shop.client();
    client.send(json!({"type": "connect", "subscribe": [{"channel": "orders:all"}]}));
    client.receive_of("subscribed");
    let body = r#"{"item":"tea"}"#;
    let answer = shop.http(&format!(
        "POST /orders HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    assert_eq!(client.receive_of("message")["data"], json!({"item": "tea"}));
}

#[test]
fn the_socketio_chat_lets_in_who_has_a_token_and_serves_rooms() {
    let chat = Example::run("socketio");
    let open = || {
        let mut client = chat.websocket("/socket.io/?EIO=4&transport=websocket", "");
        assert!(client.receive_text().starts_with("0{"));
        client
    };
    let mut stranger = open();
    for auth in ["", r#"{"token":"guess"}"#] {
        stranger.send_text(&format!("40{auth}"));
        assert_eq!(stranger.receive_text(), r#"44{"message":"认证错误"}"#);
    }
    let enter = || {
        let mut client = open();
        client.send_text(r#"40{"token":"let me in"}"#);
        let connected: Value =
            serde_json::from_str(client.receive_text().strip_prefix("40").expect("a CONNECT")).expect("JSON");
        let id = connected["sid"].as_str().expect("an id").to_owned();
        client.send_text(r#"42["join-room","lobby"]"#);
        client.send_text(r#"42["message",{"n":0}]"#);
        while event(&mut client)[0] != "message" {}
        (client, id)
    };
    fn event(client: &mut Client) -> Value {
        let text = client.receive_text();
        let mut event: Value = serde_json::from_str(text.strip_prefix("42").expect(&text)).expect("JSON");
        if let Some(timestamp) = event[1].as_object_mut().and_then(|data| data.remove("timestamp")) {
            assert!(timestamp.is_u64(), "{text}");
        }
        event
    }
    let (mut ada, ada_id) = enter();
    let (mut bob, bob_id) = enter();
    assert_eq!(event(&mut ada), json!(["user-joined", {"userId": bob_id}]));
    assert_eq!(event(&mut ada), json!(["message", {"n": 0, "userId": bob_id}]));
    ada.send_text(r#"42["typing",true]"#);
    ada.send_text(r#"42["message",{"text":"hi","userId":"mallory"}]"#);
    assert_eq!(event(&mut bob), json!(["user-typing", {"userId": ada_id, "isTyping": true}]));
    for client in [&mut ada, &mut bob] {
        assert_eq!(event(client), json!(["message", {"text": "hi", "userId": ada_id}]));
    }
}
