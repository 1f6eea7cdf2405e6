//! The claims of a token that is signed well: its time, its issuer, its audience, and what becomes of the others.

use super::*;
use crate::auth::{Authenticator, Verdict, inspect};
use crate::clock::Clock;
use fanfare_hub::{ErrorCode, HookAnswer};
use std::time::Duration;

fn main() -> AuthConfig {
    config(vec![secret("main", TokenAlgorithm::HS256)])
}

fn with(claims: Value) -> String {
    by_secret(&hs256(), &claims)
}

#[test]
fn a_token_holds_from_nbf_until_exp_with_the_leeway_on_both_sides() {
    let leeway = |seconds| AuthConfig { leeway: Duration::from_secs(seconds), ..main() };
    let token = |nbf: u64, exp: u64| with(json!({"sub": "ada", "nbf": nbf, "exp": exp}));
    let taken = [
        (0, token(NOW_S, NOW_S + 1), NOW_MS + 1_000),
        (30, token(NOW_S + 30, NOW_S - 29), NOW_MS + 1_000),
        (0, with(json!({"sub": "ada", "exp": NOW_S as f64 + 0.5})), NOW_MS + 500),
    ];
    for (seconds, token, expires_ms) in taken {
        assert_eq!(check(&leeway(seconds), &token).map(|it| it.expires_ms), Ok(Some(expires_ms)), "{seconds} s");
    }
    let refused_ones = [
        (0, token(NOW_S, NOW_S), "the token expired 0 ms ago (claim `exp`)"),
        (30, token(NOW_S, NOW_S - 42), "the token expired 12 s ago (claim `exp`)"),
        (0, token(NOW_S + 1, NOW_S + 9), "the token is not valid yet: it will be in 1000 ms (claim `nbf`)"),
        (30, token(NOW_S + 90, NOW_S + 99), "the token is not valid yet: it will be in 60 s (claim `nbf`)"),
        (0, with(json!({"sub": "ada"})), "the claim `exp` is missing"),
    ];
    for (seconds, token, expected) in refused_ones {
        assert_eq!(refused(&leeway(seconds), &token), expected);
    }
}

#[test]
fn issuer_and_audience_are_compared_where_the_settings_name_some() {
    let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let strict =
        AuthConfig { issuers: list(&["https://a", "https://b"]), audiences: list(&["chat", "news"]), ..main() };
    let token = |iss: Value, aud: Value| {
        let mut claims = ada();
        (claims["iss"], claims["aud"]) = (iss, aud);
        let Value::Object(claims) = claims else { panic!() };
        with(Value::Object(claims.into_iter().filter(|(_, value)| !value.is_null()).collect()))
    };
    for (iss, aud) in [("https://a", json!("chat")), ("https://b", json!(["other", "news"]))] {
        assert!(check(&strict, &token(json!(iss), aud)).is_ok(), "{iss}");
    }
    let rows = [
        (json!("https://a"), json!("other"), "the claim `aud` is \"other\"; accepted: \"chat\", \"news\""),
        (json!("https://a"), json!(["x", "y"]), "the claim `aud` is \"x\", \"y\"; accepted: \"chat\", \"news\""),
        (json!("https://a"), json!([]), "the claim `aud` is missing"),
        (json!("https://a"), Value::Null, "the claim `aud` is missing"),
        (json!("https://c"), json!("chat"), "the claim `iss` is \"https://c\"; accepted: \"https://a\", \"https://b\""),
        (
            json!("https://a/"),
            json!("chat"),
            "the claim `iss` is \"https://a/\"; accepted: \"https://a\", \"https://b\"",
        ),
        (Value::Null, json!("chat"), "the claim `iss` is missing"),
    ];
    for (iss, aud, expected) in rows {
        assert_eq!(refused(&strict, &token(iss, aud)), expected);
    }
    assert!(check(&main(), &token(json!("any"), json!("any"))).is_ok());
}

#[test]
fn a_token_without_a_user_is_anonymous_where_that_is_allowed() {
    let token = with(json!({"exp": NOW_S + 60, "role": "guest"}));
    assert_eq!(refused(&main(), &token), "the claim `sub` is missing");
    let open = AuthConfig { anonymous: true, ..main() };
    let identity = check(&open, &token).unwrap();
    assert_eq!((identity.user, identity.claims.as_deref()), (None, Some(&br#"{"role":"guest"}"#[..])));
}

fn now(authenticator: &Authenticator, token: Option<&str>) -> HookAnswer {
    match authenticator.answer(token) {
        Verdict::Now(answer) => answer,
        Verdict::Later(_) => panic!("there is nothing to wait for"),
    }
}

/// As a SIGHUP does: an old key and a new one for a while, then the new one alone.
#[tokio::test]
async fn keys_are_replaced_while_it_runs() {
    let old = secret("old", TokenAlgorithm::HS256);
    let new = TokenKey::new("new", None, "another-example-of-a-secret-of-enough-bytes").unwrap();
    let runtime = tokio::runtime::Handle::current();
    let start = config(vec![old.clone()]);
    let authenticator = Authenticator::start(&start, &Limits::default(), Clock::system(), &runtime);
    let minted = |key: &TokenKey| crate::auth::Minting::new(Duration::from_secs(60)).user("ada").sign(key).unwrap();
    let tokens = [minted(&old), minted(&new)];
    let taken = |config: Option<AuthConfig>| {
        config.iter().for_each(|config| authenticator.replace(config));
        tokens.each_ref().map(|token| matches!(now(&authenticator, Some(token)), HookAnswer::Identity(_)))
    };
    assert_eq!(taken(None), [true, false]);
    assert_eq!(taken(Some(config(vec![old, new.clone()]))), [true, true]);
    assert_eq!(taken(Some(config(vec![new.clone()]))), [false, true]);
    let HookAnswer::Refused(error) = now(&authenticator, None) else { panic!("it needs a token") };
    assert_eq!((error.code, error.option), (ErrorCode::Unauthorized, Some("auth.anonymous")));
    authenticator.replace(&AuthConfig { anonymous: true, ..config(vec![new]) });
    assert_eq!(now(&authenticator, None), HookAnswer::Identity(Identified::default()));
}

#[tokio::test]
async fn what_is_minted_is_good_and_inspection_says_why_another_is_not() {
    let key = secret("main", TokenAlgorithm::HS512).with_kid("k1").unwrap();
    let actions = [fanfare_hub::Action::Subscribe];
    let minting =
        crate::auth::Minting::new(Duration::from_secs(3600)).user("ada").claim("info", json!({"name": "Ada"}));
    let token = minting.grant("chat:*", &actions).subscribe("inbox:ada").sign(&key).unwrap();
    let config = config(vec![key]);
    let inspected = inspect(&token, &config, &Limits::default()).await;
    assert_eq!(inspected.verdict, Ok(()));
    assert_eq!(inspected.header, Some(json!({"alg": "HS512", "typ": "JWT", "kid": "k1"})));
    let claims = inspected.claims.unwrap();
    assert_eq!((&claims["sub"], &claims["subscribe"]), (&json!("ada"), &json!(["inbox:ada"])));
    assert_eq!(claims["channels"], json!([{"match": "chat:*", "allow": ["subscribe"]}]));
    let inspected = inspect(&by_secret(&hs256(), &ada()), &config, &Limits::default()).await;
    let Err(TokenError::Algorithm { .. }) = inspected.verdict else { panic!("{:?}", inspected.verdict) };
    assert_eq!(inspected.claims, Some(ada()), "and shows what is in it");
    assert_eq!(crate::auth::Minting::new(Duration::from_secs(1)).sign(&public("p", TokenAlgorithm::ES256)), None);
}
