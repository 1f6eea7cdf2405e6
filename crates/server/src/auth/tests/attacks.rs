//! Tokens that somebody has made to get in without a key, each refused by its name.

use super::*;

#[test]
fn a_token_of_every_algorithm_is_taken_with_its_key_and_with_no_other() {
    let keys: Vec<TokenKey> = TokenAlgorithm::all()
        .map(|algorithm| if algorithm.is_secret() { secret("main", algorithm) } else { public("main", algorithm) })
        .collect();
    for algorithm in TokenAlgorithm::all() {
        let header = json!({"alg": algorithm.name()});
        let own = EncodingKey::from_secret(SECRET.as_bytes()).unwrap();
        let signer = if algorithm.is_secret() { &own } else { &pair(algorithm).signer };
        let token = signed_by(algorithm, signer, &header, &ada());
        for key in &keys {
            let result = check(&config(vec![key.clone()]), &token);
            match key.algorithm() == algorithm {
                true => assert_eq!(result.map(|it| it.user.unwrap().0), Ok("ada".into()), "{algorithm}"),
                false => {
                    let error = result.expect_err("another algorithm").to_string();
                    let expected = format!("its `alg` is \"{algorithm}\", and its key is for {}", key.algorithm());
                    assert_eq!(error, expected);
                }
            }
        }
    }
}

#[test]
fn a_public_key_is_no_secret() {
    for algorithm in [TokenAlgorithm::RS256, TokenAlgorithm::ES256, TokenAlgorithm::EdDSA] {
        let config = config(vec![public("main", algorithm)]);
        let pem = &pair(algorithm).public_pem;
        for text in [pem.as_str(), pem.trim(), &pem.replace('\n', "\r\n")] {
            let signer = EncodingKey::from_secret(text.as_bytes()).unwrap();
            let token = signed_by(TokenAlgorithm::HS256, &signer, &hs256(), &ada());
            let expected = format!("its `alg` is \"HS256\", and its key is for {algorithm}");
            assert_eq!(refused(&config, &token), expected);
            // The header lies about how it was signed.
            let header = json!({"alg": algorithm.name()});
            let token = signed_by(TokenAlgorithm::HS256, &signer, &header, &ada());
            assert_eq!(refused(&config, &token), format!("its signature is not that of a key for {algorithm}"));
        }
    }
}

#[test]
fn an_unsigned_token_is_refused_however_it_is_spelt() {
    let config = config(vec![secret("main", TokenAlgorithm::HS256)]);
    for alg in ["none", "None", "NONE", "nOnE"] {
        for signature in ["", "AAAA"] {
            let token = format!("{}.{}.{signature}", part(&json!({"alg": alg})), part(&ada()));
            assert_eq!(refused(&config, &token), format!("the token is unsigned (`alg` is {alg:?})"));
        }
    }
    let token = format!("{}.{}.", part(&hs256()), part(&ada()));
    assert_eq!(refused(&config, &token), "its signature is not that of a key for HS256");
}

#[test]
fn a_signature_that_is_not_the_keys_is_refused() {
    let good = by_secret(&hs256(), &ada());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let config = config(vec![secret("main", TokenAlgorithm::HS256)]);
    assert!(check(&config, &good).is_ok());
    let mut other = signature.to_owned().into_bytes();
    other[0] ^= 1;
    let other_claims = format!("{}.{}.{signature}", part(&hs256()), part(&json!({"sub": "eve", "exp": NOW_S + 60})));
    let rows = [
        format!("{message}.{}", String::from_utf8(other).unwrap()),
        format!("{message}.{}", &signature[..signature.len() - 3]),
        other_claims,
    ];
    for token in rows {
        assert_eq!(refused(&config, &token), "its signature is not that of a key for HS256");
    }
    // A curve's signature of zeros (CVE-2022-21449).
    let zeros = URL_SAFE_NO_PAD.encode([0_u8; 64]);
    let token = format!("{}.{}.{zeros}", part(&json!({"alg": "ES256"})), part(&ada()));
    let curve = super::config(vec![public("main", TokenAlgorithm::ES256)]);
    assert_eq!(refused(&curve, &token), "its signature is not that of a key for ES256");
}

#[test]
fn a_kid_is_compared_and_leads_nowhere() {
    let old = secret("old", TokenAlgorithm::HS256).with_kid("2025").unwrap();
    let new =
        TokenKey::new("new", None, "another-example-of-a-secret-of-enough-bytes").unwrap().with_kid("2026").unwrap();
    let both = config(vec![old.clone(), new.clone()]);
    let with = |kid: &str| by_secret(&json!({"alg": "HS256", "kid": kid}), &ada());
    assert!(check(&both, &with("2025")).is_ok());
    assert!(check(&both, &by_secret(&hs256(), &ada())).is_ok(), "without a kid any key may be meant");
    assert_eq!(refused(&both, &with("2026")), "its signature is not that of a key for HS256");
    for kid in ["2027", "", "../../dev/null", "' OR 1=1 --", "https://evil.example/jwks.json", "/proc/self/environ"] {
        assert_eq!(refused(&both, &with(kid)), format!("no key has the `kid` {kid:?}"));
    }
    assert!(refused(&both, &with(&"k".repeat(4000))).len() < 200, "what it echoes is short");
    // A key without one is for every other kid, and not for those that another key has.
    let rest = config(vec![secret("rest", TokenAlgorithm::HS256), new]);
    assert!(check(&rest, &with("2025")).is_ok());
    assert_eq!(refused(&rest, &with("2026")), "its signature is not that of a key for HS256");
}

/// The token brings its own key, or says where it is.
#[test]
fn a_token_does_not_say_what_its_key_is() {
    let config = config(vec![public("main", TokenAlgorithm::RS256)]);
    let own = EncodingKey::from_secret(SECRET.as_bytes()).unwrap();
    let jwk = json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode(SECRET), "alg": "RS256"});
    for (name, value) in [
        ("jwk", jwk),
        ("jku", json!("https://evil.example/")),
        ("x5u", json!("https://evil.example/")),
        ("x5c", json!(["AAAA"])),
    ] {
        let mut header = json!({"alg": "RS256"});
        header[name] = value;
        let token = signed_by(TokenAlgorithm::HS256, &own, &header, &ada());
        assert_eq!(refused(&config, &token), "its signature is not that of a key for RS256", "{name}");
    }
    let header = json!({"alg": "RS256", "crit": ["b64"], "b64": false});
    let token = signed_by(TokenAlgorithm::RS256, &pair(TokenAlgorithm::RS256).signer, &header, &ada());
    assert_eq!(refused(&config, &token), "its header \"crit\" is not supported");
    let header = json!({"alg": "RS256", "typ": "logout+jwt"});
    let token = signed_by(TokenAlgorithm::RS256, &pair(TokenAlgorithm::RS256).signer, &header, &ada());
    assert_eq!(refused(&config, &token), "its `typ` is \"logout+jwt\"; JWT and at+jwt are accepted");
}

#[test]
fn what_is_no_token_is_refused_before_any_key_is_used() {
    let config = config(vec![secret("main", TokenAlgorithm::HS256)]);
    let header = part(&hs256());
    let rows = [
        (String::new(), "it is no JWT: it is not three parts"),
        ("a".to_owned(), "it is no JWT: it is not three parts"),
        ("a.b".to_owned(), "it is no JWT: it is not three parts"),
        ("a.b.c.d.e".to_owned(), "it has more than three parts"),
        ("!.b.c".to_owned(), "its first part is not base64url"),
        ("YQ.b.c".to_owned(), "its first part is not a header in JSON"),
        (format!("{}.e30.AAAA", part(&json!({"typ": "JWT"}))), "its header has no `alg`"),
        (format!("{}.e30.AAAA", part(&json!({"alg": 7}))), "its first part is not a header in JSON"),
        (format!("{header}.=.AAAA"), "its second part is not base64url"),
        (format!("{header}.e30.A A"), "its third part is not base64url"),
        (format!("{}=.e30.AAAA", header), "its first part is not base64url"),
        ("a".repeat(8193), "the token has 8193 bytes, the limit (auth.token_bytes_max) is 8192"),
        (
            format!("{}.e30.AAAA", URL_SAFE_NO_PAD.encode(format!("{{\"alg\":{}", "[".repeat(5000)))),
            "not a header in JSON",
        ),
        (format!("{}.e30.AAAA", part(&json!({"alg": "X".repeat(3000)}))), "and its key is for HS256"),
    ];
    for (token, expected) in rows {
        let error = refused(&config, &token);
        assert!(error.contains(expected) && error.len() < 300, "{error}");
    }
}

#[test]
fn a_token_with_ten_thousand_grants_is_refused() {
    let grants = vec![json!({"match": "a:*", "allow": ["subscribe"]}); 10_000];
    let token = by_secret(&hs256(), &json!({"sub": "ada", "exp": NOW_S + 60, "channels": grants}));
    let strict = config(vec![secret("main", TokenAlgorithm::HS256)]);
    assert!(refused(&strict, &token).contains("auth.token_bytes_max"));
    let lax = AuthConfig { token_bytes_max: 1 << 20, ..strict };
    let expected = "the claim `channels` is not valid: it has 10000 grants, the limit (limits.grants_max) is 128";
    assert_eq!(refused(&lax, &token), expected);
}

#[test]
fn a_refusal_shows_neither_the_token_nor_a_secret() {
    let config = AuthConfig {
        issuers: vec!["https://id.example".to_owned()],
        ..config(vec![secret("main", TokenAlgorithm::HS256)])
    };
    let tokens = [
        by_secret(&hs256(), &json!({"sub": "ada", "exp": NOW_S - 60, "password": "hunter2"})),
        by_secret(
            &hs256(),
            &json!({"sub": "ada", "exp": NOW_S + 60, "iss": "https://evil.example", "password": "hunter2"}),
        ),
        by_secret(&json!({"alg": "HS384"}), &ada()),
        format!("{}x", by_secret(&hs256(), &ada())),
    ];
    for token in tokens {
        let error = check(&config, &token).expect_err("it is refused");
        let shown = format!("{error} {error:?} {:?}", Verifier::new(config.clone(), Limits::default()));
        let signature = token.rsplit('.').next().unwrap();
        for secret in [SECRET, signature, "hunter2", &token] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}
