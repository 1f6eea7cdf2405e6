//! `fanfare serve` and `dev` for an operator: a file becomes a server, SIGHUP changes its rules or nothing, and
//! mistakes are reported before the server listens.

mod support;

use fanfare_client::core::Event;
use fanfare_client::{Client, Subscription};
use rustix::process::Signal;
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use support::{DEADLINE, Folder, Said, Server};

const FILE: &str = r#"
listen = "127.0.0.1:0"

[admin]
listen = "off" # others may run on this machine

[session]
drain_window = "0s"

[api_keys]
backend = "0123456789abcdef"
reader = { key = "fedcba9876543210", commands = ["history"], channels = ["news:*"] }

[[channels]]
match = "chat:*"
subscribe = "anyone"
publish = "subscriber"

[[channels]]
match = "news:*"
subscribe = "anyone"
publish = "server"
"#;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

async fn connect(server: &Server) -> Client {
    Client::connect(format!("ws://{}", server.address)).await.expect("it connects")
}

/// The next event, which must come in time.
async fn next(subscription: &mut Subscription) -> Event {
    tokio::time::timeout(DEADLINE, subscription.next()).await.expect("it comes").expect("it goes on")
}

/// The status of an API call.
fn post(server: &Server, key: &str, command: &str, body: &str) -> u16 {
    let mut socket = TcpStream::connect(&server.address).expect("it listens");
    let request = format!(
        "POST /api/v1/{command} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(request.as_bytes()).expect("written");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("read");
    answer[9..12].parse().expect("a status")
}

#[test]
fn a_file_becomes_a_server_with_its_rules_and_keys() {
    let folder = Folder::with(FILE);
    let server = folder.start(&["serve"]);
    assert!(server.said.contains("2 rules of fanfare.toml"), "{}", server.said);
    runtime().block_on(async {
        let client = connect(&server).await;
        let mut chat = client.subscribe("chat:a").await.expect("a rule lets everybody");
        assert!(matches!(next(&mut chat).await, Event::Live { .. }));
        client.publish("chat:a", &json!("hello")).await.expect("a subscriber may");
        assert!(matches!(next(&mut chat).await, Event::Message { .. }));
        let refused = client.publish("news:a", &json!("hello")).await.expect_err("the server alone").to_string();
        assert!(refused.contains("news:*"), "{refused}");
        client.close().await;
    });
    let body = r#"{"channel":"news:a","data":1}"#;
    assert_eq!(post(&server, "0123456789abcdef", "publish", body), 200);
    assert_eq!(post(&server, "0123456789abcdeX", "publish", body), 401);
    assert_eq!(post(&server, "fedcba9876543210", "publish", body), 403);
    assert_eq!(post(&server, "fedcba9876543210", "history", r#"{"channel":"news:a","limit":1}"#), 200);
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_hangup_changes_the_rules_of_live_subscriptions() {
    let folder = Folder::with(FILE);
    let mut server = folder.start(&["serve"]);
    runtime().block_on(async {
        let client = connect(&server).await;
        let mut chat = client.subscribe("chat:a").await.expect("allowed");
        let mut news = client.subscribe("news:a").await.expect("allowed");
        for subscription in [&mut chat, &mut news] {
            assert!(matches!(next(subscription).await, Event::Live { .. }));
        }
        // A broken file changes nothing, and its mistakes are reported.
        folder.write("fanfare.toml", &FILE.replace("subscribe = \"anyone\"", "subscribe = \"anyon\""));
        server.signal(Signal::HUP);
        server.wait_for("not reloaded: the old settings stay in force");
        assert!(server.said.contains("fanfare.toml:16: channels[\"chat:*\"].subscribe"), "{}", server.said);
        client.publish("chat:a", &json!("still here")).await.expect("nothing has changed");
        assert!(matches!(next(&mut chat).await, Event::Message { .. }));

        let shut = FILE.replacen("subscribe = \"anyone\"", "subscribe = \"nobody\"", 1);
        folder.write("fanfare.toml", &shut);
        server.signal(Signal::HUP);
        server.wait_for("reloaded: 2 rules and 2 API keys of the file are in force");
        match next(&mut chat).await {
            Event::Ended { code, message } => {
                assert_eq!(&*code, "denied");
                assert!(message.contains("nobody"), "{message}");
            }
            event => panic!("{event:?}"),
        }
        assert_eq!(post(&server, "0123456789abcdef", "publish", r#"{"channel":"news:a","data":1}"#), 200);
        assert!(matches!(next(&mut news).await, Event::Message { .. }), "the others notice nothing");
        client.close().await;
    });
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn without_a_file_nothing_is_served() {
    let said = Folder::new().run(&["serve"]);
    assert_eq!(said.status, Some(1));
    assert_eq!(
        said.stderr,
        "error: fanfare.toml: the file: it cannot be read: No such file or directory (os error 2)\nallowed: a TOML file\n\n\
         hint: `fanfare init` writes one to begin with; --config names another\n\nerror: 1 setting is not accepted\n"
    );
}

#[test]
fn a_file_without_rules_is_served_with_a_word() {
    let folder = Folder::with("[session]\ndrain_window = \"0s\"\n");
    let server = folder.start(&["serve", "--listen", "127.0.0.1:0", "--admin-listen", "off"]);
    assert!(server.said.contains("warning: fanfare.toml: channels: there is no rule, so no channel can be used"));
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_file_with_a_mistake_is_not_served() {
    let said = Folder::with("[[channels]]\nmatch = \"a*\"\n").run(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(said.status, Some(1), "{}", said.stderr);
    assert!(!said.stderr.contains("listening"), "{}", said.stderr);
}

#[test]
fn a_flag_stands_before_a_variable_before_the_file() {
    let folder = Folder::with(FILE);
    folder.write("other.toml", FILE);
    let mut command = folder.command(&["config", "--limits-signals-waiting-max", "3"]);
    command.env("FANFARE_CONFIG", "other.toml");
    command.env("FANFARE__LIMITS__SIGNALS_WAITING_MAX", "4").env("FANFARE__LIMITS__OUTSTANDING_MAX", "5");
    let said = Said::of(&mut command);
    assert_eq!((said.status, said.stderr.as_str()), (Some(0), ""));
    let line = |key: &str| said.stdout.lines().find(|line| line.starts_with(key)).expect("a line").to_owned();
    let words = |key| line(key).split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(words("limits.signals_waiting_max"), "limits.signals_waiting_max = 3 # --limits-signals-waiting-max");
    assert_eq!(
        words("limits.outstanding_max"),
        "limits.outstanding_max = 5 # environment variable FANFARE__LIMITS__OUTSTANDING_MAX"
    );
    assert_eq!(words("session.drain_window"), "session.drain_window = \"0s\" # other.toml:8");
    assert_eq!(words("limits.questions_max"), "limits.questions_max = 1024 # default");
    assert!(said.stdout.contains("# api_keys.backend = (hidden)"), "{}", said.stdout);
    assert!(!said.stdout.contains("0123456789abcdef"), "{}", said.stdout);
}

#[test]
fn dev_takes_the_same_settings_and_refuses_the_same_mistakes() {
    let folder = Folder::new();
    let key = "0123456789abcdef";
    let mut command = folder.command(&["dev", "--listen", "127.0.0.1:0", "--shards", "1", "--api-key", key]);
    let server = Server::start(command.env("FANFARE__LIMITS__MESSAGE_BYTES_MAX", "1KiB"));
    assert!(server.said.contains("dev mode: every channel is open"), "{}", server.said);
    assert!(server.said.contains("1 shard\n"), "{}", server.said);
    let large = format!(r#"{{"channel":"a","data":"{}"}}"#, "x".repeat(2000));
    assert_eq!(post(&server, key, "publish", &large), 413);
    drop(server);
    let said = Said::of(folder.command(&["dev"]).env("FANFARE__LISTN", "127.0.0.1:0"));
    assert_eq!(said.status, Some(1));
    assert!(said.stderr.contains("did you mean \"FANFARE__LISTEN\"?"), "{}", said.stderr);
    let said = folder.run(&["dev", "--listen", "localhost:8080"]);
    assert_eq!(said.status, Some(1));
    assert!(said.stderr.contains("--listen: listen = \"localhost:8080\""), "{}", said.stderr);
}

/// The file's rules replace those that allow everybody everything, even if the file has none.
#[test]
fn dev_with_a_file_without_rules_lets_nobody_in() {
    let folder = Folder::with("listen = \"127.0.0.1:0\"\nshards = 1\n");
    let server = folder.start(&["dev", "--config", "fanfare.toml"]);
    assert!(server.said.contains("dev mode: 0 rules of fanfare.toml"), "{}", server.said);
    assert!(server.said.contains("channels: there is no rule"), "{}", server.said);
    runtime().block_on(async {
        let refused = connect(&server).await.subscribe("chat:general").await.expect_err("no rule").to_string();
        assert!(refused.contains("chat:general"), "{refused}");
    });
}

/// One exported key serves `dev` and the commands that call it; a variable of an earlier version gets a hint.
#[test]
fn dev_takes_the_key_that_publish_shows() {
    const KEY: &str = "a-key-of-the-environment";
    let folder = Folder::with(&FILE.replace("0123456789abcdef", KEY));
    // With a file that has the same key, and with a file that has another one.
    for words in [&["dev", "--listen", "127.0.0.1:0", "--shards", "1"][..], &["dev", "--config", "fanfare.toml"]] {
        let mut server = Server::start(folder.command(words).env("FANFARE_API_KEY", KEY));
        server.wait_for(&format!("API key: {KEY}"));
        server.wait_for("curl http://");
        let words = ["publish", "news:a", "1", "--url", &format!("http://{}", server.address)];
        let said = Said::of(folder.command(&words).env("FANFARE_API_KEY", KEY));
        assert_eq!(said.status, Some(0), "{}", said.stderr);
    }
    let server = Server::start(folder.command(&["dev"]).env("FANFARE_CONFIG", "fanfare.toml"));
    assert!(server.said.contains("dev mode: 2 rules of fanfare.toml"), "{}", server.said);
    drop(server);
    for (name, value, expected) in [
        (
            "FANFARE_API_KEY",
            "abc",
            "error: environment variable FANFARE_API_KEY: api_keys.dev: a key of 3 characters is too short",
        ),
        (
            "FANFARE__API_KEY",
            KEY,
            "hint: the key of `fanfare dev` and of `fanfare publish` is FANFARE_API_KEY, with one underscore",
        ),
    ] {
        let said = Said::of(folder.command(&["dev", "--listen", "127.0.0.1:0"]).env(name, value));
        assert_eq!(said.status, Some(1), "{}", said.stderr);
        assert!(said.stderr.contains(expected), "{}", said.stderr);
    }
    let said = folder.run(&["dev", "--api-key", "abc"]);
    assert!(
        said.stderr.starts_with("error: --api-key: api_keys.dev: a key of 3 characters is too short\n"),
        "{said:?}"
    );
}

/// Without keys, a request to the address of the API says how to make a key.
#[test]
fn without_keys_the_place_of_the_api_says_how_to_make_one() {
    let folder = Folder::with(&FILE.replace("backend = ", "#").replace("reader = ", "#"));
    let server = folder.start(&["serve"]);
    assert!(server.said.contains("nobody can publish here"), "{}", server.said);
    let url = format!("http://{}", server.address);
    let said = folder.run(&["publish", "news:a", "1", "--url", &url, "--api-key", "0123456789abcdef"]);
    assert_eq!(said.status, Some(1));
    assert!(said.stderr.contains("this server has no API keys"), "{}", said.stderr);
    assert!(said.stderr.contains("[api_keys]") && said.stderr.contains("FANFARE__API_KEYS__NAME"), "{}", said.stderr);
    assert_eq!(post(&server, "0123456789abcdef", "publish", "{}"), 404);
    assert_eq!(post(&server, "0123456789abcdef", "nothing", "{}"), 404);
}

/// Open to others, and no danger.
const PUBLIC: &str = r#"
listen = "0.0.0.0:0"

[admin]
listen = "off" # others may run on this machine

[session]
drain_window = "0s"

[[channels]]
match = "chat:*"
subscribe = "anyone"
publish = "subscriber"
"#;

/// The new file is no danger by itself: it listens on this machine. The server goes on to listen to everybody.
#[test]
fn a_hangup_brings_no_danger_into_force() {
    let folder = Folder::with(PUBLIC);
    let mut server = folder.start(&["serve"]);
    runtime().block_on(async {
        let client = connect(&server).await;
        let open = PUBLIC.replace("0.0.0.0:0", "127.0.0.1:0").replace("chat:*", "**");
        assert_eq!(Folder::with(&open).run(&["check"]).status, Some(0));
        folder.write("fanfare.toml", &open);
        server.signal(Signal::HUP);
        server.wait_for("not reloaded: the old settings stay in force");
        assert!(server.said.contains("channels[\"**\"].publish = "), "{}", server.said);
        client.subscribe("other:a").await.expect_err("no rule has come into force");

        folder.write("fanfare.toml", &format!("allow_insecure = \"open_rules\"\n{open}"));
        server.signal(Signal::HUP);
        server.wait_for("reloaded: 1 rule and 0 API keys of the file are in force");
        client.subscribe("other:a").await.expect("the operator has accepted it");
        client.close().await;
    });
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_danger_is_accepted_by_its_word_and_dev_knows_none() {
    let folder = Folder::with(&FILE.replace("127.0.0.1:0", "0.0.0.0:0"));
    let said = folder.run(&["serve"]);
    assert_eq!(said.status, Some(1), "{said:?}");
    assert_eq!(
        said.stderr.matches("allow_insecure").count(),
        6,
        "two weak keys and no TLS, twice each: {}",
        said.stderr
    );
    assert!(!said.stderr.contains("0123456789abcdef"), "{}", said.stderr);
    assert_eq!(folder.run(&["check"]).stderr, said.stderr, "`check` says the same");
    let accepted = ["serve", "--allow-insecure", "plaintext", "--allow-insecure", "weak_keys"];
    assert_eq!(folder.start(&accepted).stop(), Some(0));
    assert_eq!(folder.start(&["dev", "--config", "fanfare.toml"]).stop(), Some(0));
}

#[test]
fn a_flag_of_other_servers_is_answered_with_ours() {
    let folder = Folder::new();
    for (words, expected) in [
        (
            &["serve", "--port", "9000"][..],
            "write --listen 127.0.0.1:9000 (this machine only), or 0.0.0.0:9000 (everybody)",
        ),
        (&["dev", "--port=9000"], "write --listen 127.0.0.1:9000 (this machine only), or 0.0.0.0:9000 (everybody)"),
        (&["dev", "-p"], "write --listen 127.0.0.1:N"),
        (&["check", "--workers", "3"], "write --shards 3"),
        (&["serve", "--host", "0.0.0.0"], "write --listen ADDRESS:PORT"),
    ] {
        let said = folder.run(words);
        assert_eq!(said.status, Some(1), "{said:?}");
        assert!(said.stderr.contains(expected) && !said.stderr.contains("similar"), "{}", said.stderr);
    }
    let said = folder.run(&["publish", "a", "--port", "9"]);
    assert!(!said.stderr.contains("--listen"), "{}", said.stderr);
}

#[test]
fn an_address_that_is_taken_names_the_setting_that_wants_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let folder = Folder::with(FILE);
    for (flag, other) in [("--admin-listen", "--admin-listen"), ("--listen", "choose another port with --listen")] {
        let said = folder.run(&["serve", flag, &address]);
        assert_eq!(said.status, Some(1), "{}", said.stderr);
        assert!(said.stderr.contains(&format!("cannot listen on {address}")), "{}", said.stderr);
        assert!(said.stderr.contains(other), "{}", said.stderr);
    }
}

/// `config` prints the values also where it says that they are refused.
#[test]
fn config_refuses_what_check_and_serve_refuse() {
    let danger = PUBLIC.replace("chat:*", "**");
    let rows = [
        ("good", FILE.to_owned(), Some(0), ""),
        ("a value", FILE.replace("subscribe = \"anyone\"", "subscribe = \"anyon\""), Some(1), "anyon"),
        ("a danger", danger, Some(1), "channels[\"**\"].publish"),
    ];
    for (name, file, status, expected) in rows {
        let folder = Folder::with(&file);
        let (config, check) = (folder.run(&["config"]), folder.run(&["check"]));
        assert_eq!((config.status, check.status), (status, status), "{name}: {config:?} {check:?}");
        assert!(config.stderr.contains(expected) && check.stderr.contains(expected), "{name}: {config:?} {check:?}");
        assert!(config.stdout.contains("limits.message_bytes_max = "), "{name}: {config:?}");
        if status == Some(1) {
            let serve = folder.run(&["serve"]);
            assert_eq!(serve.status, status, "{name}: {serve:?}");
        }
    }
}
