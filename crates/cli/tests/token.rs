//! `fanfare token`, and servers that identify clients by tokens: by a secret that is replaced while it runs, and by the
//! keys of an issuer over TLS.

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fanfare_client::core::Event;
use fanfare_client::{Client, ConnectError};
use rcgen::{CertificateParams, KeyPair, SigningKey as _};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Stdio;
use std::sync::Arc;
use support::{DEADLINE, Folder, Said, Server};
use tokio_rustls::rustls::{self, ServerConfig, ServerConnection, Stream};

const OLD: &str = "an-example-of-a-secret-of-enough-bytes!";
const NEW: &str = "another-example-of-a-secret-of-enough-bytes";

const RULES: &str = r#"
listen = "127.0.0.1:0"

[admin]
listen = "off"

[session]
drain_window = "0s"

[[channels]]
match = "inbox:{user}"
subscribe = "authenticated"
publish = "subscriber"

[[channels]]
match = "room:*"
subscribe = "grant"
publish = "nobody"
"#;

fn with_auth(auth: &str) -> String {
    format!("{RULES}\n[auth]\n{auth}\n")
}

fn with_keys(keys: &str) -> String {
    format!("{RULES}\n[auth.keys]\n{keys}\n")
}

/// A token that is printed, alone.
fn token(folder: &Folder, words: &[&str]) -> String {
    let said = folder.run(&[&["token"], words].concat());
    assert_eq!((said.status, said.stderr.as_str()), (Some(0), ""), "{}", said.stdout);
    said.stdout.strip_suffix('\n').expect("a line").to_owned()
}

fn inspect(folder: &Folder, token: &str) -> Said {
    folder.run(&["token", "inspect", token])
}

#[test]
fn a_token_is_made_with_the_secret_of_the_configuration_and_looked_at_by_it() {
    let keys =
        format!("main = \"{OLD}\"\nnext = {{ kid = \"2\", algorithm = \"HS384\", secret = \"{NEW}-and-more\" }}");
    let file =
        format!("{}\n[auth]\nissuer = \"https://id.example\"\naudience = [\"chat\", \"news\"]\n", with_keys(&keys));
    let folder = Folder::with(&file);
    let words = ["--user", "ada", "--expires", "5m", "--channel", "room:*", "--channel", "chat:*=subscribe,publish"];
    let more =
        ["--subscribe", "inbox:ada", "--info", "{\"name\":\"Ada\"}", "--claim", "role=admin", "--claim", "level=7"];
    let made = token(&folder, &[&words[..], &more].concat());
    let said = inspect(&folder, &made);
    assert_eq!(said.status, Some(0), "{}{}", said.stdout, said.stderr);
    assert!(said.stdout.starts_with("valid by fanfare.toml\nheader {\n"), "{}", said.stdout);
    let claims: Value = serde_json::from_str(said.stdout.split_once("claims ").expect("claims").1).expect("JSON");
    let issued = claims["iat"].as_u64().expect("a time");
    let expected = json!({
        "sub": "ada", "iat": issued, "exp": issued + 300, "iss": "https://id.example", "aud": "chat", "role": "admin", "level": 7,
        "info": {"name": "Ada"}, "subscribe": ["inbox:ada"], "channels": [
            {"match": "room:*", "allow": ["subscribe"]}, {"match": "chat:*", "allow": ["subscribe", "publish"]},
        ],
    });
    assert_eq!(claims, expected);

    let by_next = token(&folder, &["--user", "ada", "--key", "next"]);
    let said = inspect(&folder, &by_next);
    assert!(said.stdout.contains("\"kid\": \"2\"") && said.stdout.contains("\"HS384\""), "{}", said.stdout);
    let mut piped =
        folder.command(&["token", "inspect", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    writeln!(piped.stdin.take().unwrap(), "{by_next}").unwrap();
    assert!(piped.wait_with_output().unwrap().status.success());

    // Another server's, and one that has been changed.
    let (message, signature) = made.rsplit_once('.').expect("three parts");
    let changed = format!("{message}.{}{}", if signature.starts_with('A') { 'B' } else { 'A' }, &signature[1..]);
    folder.write("other.secret", &format!("{NEW}\n"));
    let other = token(&folder, &["--user", "ada", "--secret-file", "other.secret"]);
    for (bad, why) in [
        (other.clone(), "not valid: its signature is not that of a key for HS256\n"),
        (changed, "not valid: its signature is not that of a key for HS256\n"),
        ("a.b.c".to_owned(), "not valid: it is no JWT: "),
    ] {
        let said = inspect(&folder, &bad);
        assert_eq!(said.status, Some(1));
        assert!(said.stdout.starts_with(why), "{}", said.stdout);
    }
    for said in [folder.run(&["config"]), folder.run(&["check"]), inspect(&folder, &other)] {
        for secret in [OLD, NEW] {
            assert!(!said.stdout.contains(secret) && !said.stderr.contains(secret), "{said:?}");
        }
    }
    assert!(folder.run(&["config"]).stdout.contains("# auth.keys.main = (hidden, HS256)"));
}

#[test]
fn a_token_that_no_server_would_take_is_not_made() {
    let folder = Folder::with(&with_keys(&format!("main = \"{OLD}\"")));
    folder.write("short.secret", "hunter2");
    let rows: &[(&[&str], &str)] = &[
        (&[], "error: the server would refuse this token: the claim `sub` is missing\n"),
        (&["--user", ""], "error: the server would refuse this token: the claim `sub` is not valid: it is empty\n"),
        (&["--user", "ada", "--channel", "a b"], "\"a b\" is not a pattern"),
        (
            &["--user", "ada", "--channel", "a=read"],
            "error: \"read\" is not an action: subscribe, publish, signal, enter, history_read, presence_read\n",
        ),
        (&["--user", "ada", "--subscribe", "*"], "\"*\" is not a channel"),
        (&["--user", "ada", "--info", "{"], "error: --info is not JSON: "),
        (&["--user", "ada", "--claim", "role"], "error: \"role\" is no claim\n"),
        (
            &["--user", "ada", "--key", "other"],
            "error: fanfare.toml has no key \"other\" in [auth.keys]\n\nhint: its keys are: main\n",
        ),
        (&["--user", "ada", "--secret-file", "short.secret"], "error: short.secret holds no secret for HS256: "),
        (&["--user", "ada", "--secret-file", "none"], "error: cannot read none: "),
    ];
    for (words, expected) in rows {
        let said = folder.run(&[&["token"], *words].concat());
        assert_eq!((said.status, said.stdout.as_str()), (Some(1), ""), "{words:?}");
        assert!(said.stderr.contains(expected) && !said.stderr.contains("hunter2"), "{words:?}: {}", said.stderr);
    }
    let open = Folder::with(RULES);
    for words in [&["token", "--user", "ada"][..], &["token", "inspect", "a.b.c"]] {
        let said = open.run(words);
        assert_eq!(said.status, Some(1));
        assert!(said.stderr.contains("in [auth.keys]"), "{}", said.stderr);
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

async fn client(server: &Server, token: Option<&str>) -> Result<Client, ConnectError> {
    let builder = Client::builder(format!("ws://{}", server.address));
    match token {
        Some(token) => builder.token(token).connect().await,
        None => builder.connect().await,
    }
}

/// The sentence for a client that is not let in.
async fn refused(server: &Server, token: Option<&str>) -> String {
    client(server, token).await.expect_err("it is not let in").to_string()
}

#[test]
fn a_secret_is_replaced_while_clients_stay() {
    let folder = Folder::with(&with_keys(&format!("old = \"{OLD}\"")));
    let mut server = folder.start(&["serve"]);
    let old = token(&folder, &["--user", "ada"]);
    runtime().block_on(async {
        let ada = client(&server, Some(&old)).await.expect("a good token");
        let mut inbox = ada.subscribe("inbox:ada").await.expect("it is hers");
        let why = ada.subscribe("inbox:bob").await.expect_err("it is not hers").to_string();
        assert!(why.contains("inbox:{user}"), "{why}");
        let why = refused(&server, None).await;
        assert!(why.contains("a token is needed: the option auth.anonymous is false"), "{why}");

        folder.write("fanfare.toml", &with_keys(&format!("new = \"{NEW}\"")));
        server.signal(Signal::HUP);
        server.wait_for("of the file are in force");
        let new = token(&folder, &["--user", "ada", "--channel", "room:*"]);
        let why = refused(&server, Some(&old)).await;
        assert!(why.contains("its signature is not that of a key for HS256"), "{why}");
        let other = client(&server, Some(&new)).await.expect("the new secret counts");
        other.subscribe("room:a").await.expect("granted");
        other.subscribe("inbox:ada").await.expect("it is hers too");
        other.publish("inbox:ada", &json!("hi")).await.expect("a subscriber may");
        loop {
            let event = tokio::time::timeout(DEADLINE, inbox.next()).await.expect("in time").expect("it goes on");
            if matches!(event, Event::Message { .. }) {
                break; // the session of the old token
            }
        }
        other.close().await;
        ada.close().await;
    });
    for secret in [OLD, NEW, &old] {
        assert!(!server.said.contains(secret), "{}", server.said);
    }
    assert_eq!(server.stop(), Some(0));
}

/// An issuer with a certificate of an authority of its own, which answers every request with this set.
fn issuer(folder: &Folder, set: String) -> u16 {
    let key = KeyPair::generate().expect("a key");
    let certificate =
        CertificateParams::new(vec!["localhost".to_owned()]).expect("a name").self_signed(&key).expect("signed");
    folder.write("ca.pem", &certificate.pem());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let private = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config =
        versions.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], private).expect("a pair");
    let (config, listener) = (Arc::new(config), TcpListener::bind("127.0.0.1:0").expect("a free port"));
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let (Ok(mut socket), Ok(mut tls)) = (socket, ServerConnection::new(config.clone())) else { return };
            let mut stream = Stream::new(&mut tls, &mut socket);
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                head.extend_from_slice(&byte);
            }
            let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{set}", set.len()); // it may have gone
            let _ = stream.flush();
        }
    });
    port
}

#[test]
fn the_keys_of_an_issuer_are_fetched_over_tls() {
    let folder = Folder::new();
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
    let x = URL_SAFE_NO_PAD.encode(rcgen::PublicKeyData::der_bytes(&key));
    let set = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": "k1", "x": x}]}).to_string();
    let port = issuer(&folder, set);
    let signed = |kid: &str| {
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let claims = json!({"sub": "ada", "aud": "chat", "exp": 4_000_000_000_u64});
        let message = format!("{}.{}", part(json!({"alg": "EdDSA", "kid": kid})), part(claims));
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(key.sign(message.as_bytes()).expect("signed")))
    };
    let auth = format!("jwks_url = \"https://localhost:{port}/keys\"\njwks_allow = [\"private\"]\naudience = \"chat\"");
    folder.write("fanfare.toml", &with_auth(&auth));
    let trusting = |words: &[&str]| {
        let mut command = folder.command(words);
        command.env("SSL_CERT_FILE", folder.path("ca.pem"));
        command
    };
    let server = Server::start(&mut trusting(&["serve"]));
    runtime().block_on(async {
        let ada = client(&server, Some(&signed("k1"))).await.expect("the issuer's token");
        ada.subscribe("inbox:ada").await.expect("it is hers");
        let why = refused(&server, Some(&signed("k2"))).await;
        assert!(why.contains("no key has the `kid` \"k2\""), "{why}");
        ada.close().await;
    });
    assert_eq!(server.stop(), Some(0));
    let said = Said::of(&mut trusting(&["token", "inspect", &signed("k1")]));
    assert!(said.stdout.starts_with("valid by fanfare.toml\n"), "{}{}", said.stdout, said.stderr);

    // A program that does not trust the authority has no keys, and says why.
    folder.write("none.pem", "");
    let mut doubting = folder.command(&["token", "inspect", &signed("k1")]);
    let said = Said::of(doubting.env("SSL_CERT_FILE", folder.path("none.pem")));
    assert_eq!(said.status, Some(1));
    assert!(said.stdout.contains("the keys of auth.jwks_url are not there: "), "{}", said.stdout);
}
