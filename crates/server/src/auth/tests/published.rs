//! Keys of an address: fetched, kept, and not believed when the address misbehaves. Real sockets on loopback.

use super::*;
use crate::auth::fetch::fetch;
use crate::auth::{Authenticator, Verdict};
use crate::clock::Clock;
use crate::config::auth::JwksConfig;
use fanfare_hub::{ErrorCode, HookAnswer};
use jsonwebtoken::DecodingKey;
use jsonwebtoken::DecodingKeyKind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// A server that answers every request with what it is told to.
struct Issuer {
    url: String,
    says: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
}

impl Issuer {
    async fn new(says: String) -> Issuer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let (says, asked) = (Arc::new(Mutex::new(says)), Arc::new(AtomicUsize::new(0)));
        let (said, count) = (says.clone(), asked.clone());
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(socket.read_u8().await.unwrap());
                }
                count.fetch_add(1, Ordering::SeqCst);
                let answer = said.lock().unwrap().clone();
                match answer.as_str() {
                    "" => {
                        tokio::spawn(async move { socket.read_u8().await }); // it is asked, and never answers
                    }
                    answer => {
                        let _ = socket.write_all(answer.as_bytes()).await; // who has read enough goes away
                    }
                }
            }
        });
        Issuer { url, says, asked }
    }

    fn says(&self, answer: String) {
        *self.says.lock().unwrap() = answer;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

/// A set with the public half of the tests' EC key, under this `kid`.
fn set(kid: &str) -> String {
    let key = DecodingKey::from_ec_pem(pair(TokenAlgorithm::ES256).public_pem.as_bytes()).unwrap();
    let DecodingKeyKind::SecretOrDer(point) = key.kind() else { panic!("a point") };
    let [x, y] = [&point[1..33], &point[33..]].map(|half| URL_SAFE_NO_PAD.encode(half));
    json!({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": kid, "x": x, "y": y}]})
        .to_string()
}

fn token(kid: &str) -> String {
    let claims = json!({"sub": "ada", "exp": 4_000_000_000_u64});
    signed_by(TokenAlgorithm::ES256, &pair(TokenAlgorithm::ES256).signer, &json!({"alg": "ES256", "kid": kid}), &claims)
}

fn jwks(url: &str) -> JwksConfig {
    JwksConfig { http: true, private: true, unknown_kid_every: Duration::ZERO, ..JwksConfig::new(url).unwrap() }
}

fn start(jwks: JwksConfig) -> Authenticator {
    let config = AuthConfig { jwks: Some(jwks), ..config(Vec::new()) };
    Authenticator::start(&config, &Limits::default(), Clock::system(), &tokio::runtime::Handle::current())
}

/// The user, or the code and the sentence of a refusal.
async fn answer(authenticator: &Authenticator, token: &str) -> Result<String, (ErrorCode, String)> {
    let answer = match authenticator.answer(Some(token)) {
        Verdict::Now(answer) => answer,
        Verdict::Later(answer) => answer.await,
    };
    match answer {
        HookAnswer::Identity(identity) => Ok(identity.user.unwrap().0.to_string()),
        HookAnswer::Refused(error) => Err((error.code, error.message.to_string())),
        other => panic!("{other:?}"),
    }
}

fn unknown(kid: &str) -> Result<String, (ErrorCode, String)> {
    Err((ErrorCode::Unauthorized, format!("no key has the `kid` {kid:?}")))
}

#[tokio::test]
async fn an_unknown_kid_has_the_keys_fetched_again() {
    let issuer = Issuer::new(ok(&set("1"))).await;
    let authenticator = start(jwks(&issuer.url));
    assert_eq!(answer(&authenticator, &token("1")).await, Ok("ada".to_owned()), "it waits for the first set");
    assert_eq!(issuer.asked(), 1);
    issuer.says(ok(&set("2")));
    assert_eq!(answer(&authenticator, &token("1")).await, Ok("ada".to_owned()));
    assert_eq!(issuer.asked(), 1, "known");
    assert_eq!(answer(&authenticator, &token("2")).await, Ok("ada".to_owned()));
    assert_eq!(issuer.asked(), 2);
    assert_eq!(answer(&authenticator, &token("1")).await, unknown("1"), "the issuer has taken it back");
}

#[tokio::test]
async fn unknown_kids_have_the_keys_fetched_once_in_a_while_and_no_more() {
    let issuer = Issuer::new(ok(&set("1"))).await;
    let config = JwksConfig { unknown_kid_every: Duration::from_secs(3600), ..jwks(&issuer.url) };
    let authenticator = start(config);
    assert_eq!(answer(&authenticator, &token("1")).await, Ok("ada".to_owned()));
    for kid in ["2", "3", "4"] {
        assert_eq!(answer(&authenticator, &token(kid)).await, unknown(kid));
    }
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test]
async fn what_is_no_good_set_leaves_the_last_good_one() {
    let issuer = Issuer::new(ok(&set("1"))).await;
    let authenticator = start(jwks(&issuer.url));
    assert_eq!(answer(&authenticator, &token("1")).await, Ok("ada".to_owned()));
    let cut = format!("HTTP/1.1 200 OK\r\ncontent-length: 9999\r\nconnection: close\r\n\r\n{}", set("2"));
    let short = format!("HTTP/1.1 200 OK\r\ncontent-length: 10\r\nconnection: close\r\n\r\n{}", set("2"));
    let huge = format!("{}{}", &set("2")[..1], " ".repeat(300 << 10));
    let rows = [
        ("an error", "HTTP/1.1 500 No\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".to_owned()),
        ("no JSON", ok("<html>")),
        ("no keys", ok("{\"keys\":[]}")),
        ("too long", ok(&huge)),
        ("longer than it says", short),
        ("shorter than it says", cut),
        ("not HTTP", "SSH-2.0-x\r\n\r\n".to_owned()),
        ("elsewhere", format!("HTTP/1.1 302 Found\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", issuer.url)),
    ];
    for (name, says) in rows {
        let before = issuer.asked();
        issuer.says(says);
        assert_eq!(answer(&authenticator, &token("2")).await, unknown("2"), "{name}");
        assert_eq!(issuer.asked(), before + 1, "{name}");
        assert_eq!(answer(&authenticator, &token("1")).await, Ok("ada".to_owned()), "{name}: the good one stays");
    }
}

#[tokio::test]
async fn as_long_as_no_set_is_there_clients_are_asked_to_come_back() {
    let issuer = Issuer::new(ok("{}")).await;
    let config = JwksConfig { unknown_kid_every: Duration::from_secs(3600), ..jwks(&issuer.url) };
    let authenticator = start(config);
    for _ in 0..2 {
        let Err((code, words)) = answer(&authenticator, &token("1")).await else { panic!("nobody can tell") };
        assert_eq!((code, words.contains("not there yet")), (ErrorCode::Unavailable, true), "{words}");
    }
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test]
async fn a_fetch_says_what_went_wrong() {
    let issuer = Issuer::new(String::new()).await;
    let slow = JwksConfig { timeout: Duration::from_millis(50), ..jwks(&issuer.url) };
    let words = crate::auth::jwks::fetch_keys(&slow).await.expect_err("it never answers");
    assert_eq!(words, "no answer within 50 ms");
    let failed = async |config: JwksConfig| fetch(&config).await.expect_err("it fails").to_string();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert!(failed(jwks(&format!("http://{closed}/"))).await.starts_with("cannot connect to 127.0.0.1: "));
    // The name of a public place leads to this machine.
    let port = issuer.url.rsplit(':').next().unwrap();
    let neighbour = JwksConfig { private: false, ..jwks(&format!("http://localhost:{port}")) };
    let words = "localhost is an address of a private network: list \"private\" in auth.jwks_allow if you trust it";
    assert_eq!(failed(neighbour).await, words);
    let plain = JwksConfig { http: false, ..jwks(&issuer.url) };
    assert!(failed(plain).await.contains("is not allowed: list \"http\" in auth.jwks_allow"));
    assert_eq!(issuer.asked(), 1, "those that may not be asked are not asked");
}

#[tokio::test]
async fn redirects_are_followed_where_they_may_be_and_judged_like_the_address() {
    let (issuer, other) = (Issuer::new(String::new()).await, Issuer::new(ok(&set("1"))).await);
    let to = |location: &str| format!("HTTP/1.1 307 Go\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
    let strict = jwks(&issuer.url);
    let lax = JwksConfig { redirects: true, ..strict.clone() };
    issuer.says(to(&other.url));
    let words = fetch(&strict).await.expect_err("it redirects").to_string();
    assert_eq!(words, "it redirects: list \"redirects\" in auth.jwks_allow if that is intended");
    assert_eq!(fetch(&lax).await.unwrap(), set("1").as_bytes());
    let rows = [
        ("/again", "it redirects more than 3 times, or to no address"),
        ("//evil.example/", "it redirects more than 3 times, or to no address"),
        ("file:///etc/passwd", "it redirects more than 3 times, or to no address"),
        ("https://user:pass@id.example/", "it redirects more than 3 times, or to no address"),
    ];
    for (location, expected) in rows {
        issuer.says(to(location));
        assert_eq!(fetch(&lax).await.expect_err(location).to_string(), expected, "{location}");
    }
    // The first address may be public, and lead to a neighbour.
    let secure = JwksConfig { http: true, private: false, redirects: true, ..lax };
    let url = crate::config::url::HttpUrl::new("http://169.254.169.254/latest").unwrap();
    assert_eq!(secure.may_ask(&url), Err("private"));
}

/// An application's own secret beside the keys of an issuer.
#[tokio::test]
async fn a_secret_without_a_kid_does_not_hide_that_the_issuer_has_a_newer_key() {
    let issuer = Issuer::new(ok(&set("1"))).await;
    let config = AuthConfig { jwks: Some(jwks(&issuer.url)), ..config(vec![secret("own", TokenAlgorithm::HS256)]) };
    let runtime = tokio::runtime::Handle::current();
    let authenticator = Authenticator::start(&config, &Limits::default(), Clock::system(), &runtime);
    assert_eq!(answer(&authenticator, &token("1")).await, Ok("ada".to_owned()));
    issuer.says(ok(&set("2")));
    assert_eq!(answer(&authenticator, &token("2")).await, Ok("ada".to_owned()));
    assert_eq!(issuer.asked(), 2);
    let own = by_secret(&json!({"alg": "HS256", "kid": "own"}), &json!({"sub": "bob", "exp": 4_000_000_000_u64}));
    assert_eq!(answer(&authenticator, &own).await, Ok("bob".to_owned()));
    assert_eq!(issuer.asked(), 2, "it is taken without asking the issuer");
    let why = "its `alg` is \"ES256\", and its key is for HS256".to_owned();
    assert_eq!(answer(&authenticator, &token("3")).await, Err((ErrorCode::Unauthorized, why)));
}
