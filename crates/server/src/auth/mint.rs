//! Makes tokens, and says of a token what is in it and whether it is good: for the command `fanfare token`, for tests,
//! and for applications in Rust.
//!
//! In: a key with its secret, and claims. Out: a signed token. Nothing here prints a secret.

use super::claims::Claims;
use super::error::TokenError;
use super::jwks::fetch_keys;
use super::verify::{Proof, Verifier};
use crate::config::auth::{AuthConfig, TokenKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fanfare_hub::{Action, Identified, Limits};
use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;
use serde_json::{Map, Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The claims of a token that is made.
///
/// ```
/// use fanfare::auth::{Minting, TokenKey};
/// use std::time::Duration;
///
/// let key = TokenKey::new("main", None, "an-example-of-a-secret-of-enough-bytes!")?;
/// let token = Minting::new(Duration::from_secs(3600)).user("ada").subscribe("inbox:ada").sign(&key).expect("a secret signs");
/// assert_eq!(token.split('.').count(), 3);
/// # Ok::<(), fanfare::auth::TokenKeyError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Minting {
    claims: Map<String, Value>,
    expires_in: Duration,
}

impl Minting {
    /// A token that is good for so long, without any other claim.
    pub fn new(expires_in: Duration) -> Self {
        Minting { claims: Map::new(), expires_in }
    }

    /// For this user (`sub`).
    #[must_use]
    pub fn user(self, user: &str) -> Self {
        self.claim("sub", json!(user))
    }

    /// With one more claim, in the place of an earlier one of this name. `exp` is set by [`new`](Self::new).
    #[must_use]
    pub fn claim(mut self, name: &str, value: Value) -> Self {
        self.claims.insert(name.to_owned(), value);
        self
    }

    /// Grants these actions on the channels of a pattern (`channels`).
    #[must_use]
    pub fn grant(self, pattern: &str, allow: &[Action]) -> Self {
        let words: Vec<&str> = allow.iter().map(|action| action.option()).collect();
        self.listed("channels", json!({ "match": pattern, "allow": words }))
    }

    /// Subscribes its sessions to a channel (`subscribe`).
    #[must_use]
    pub fn subscribe(self, channel: &str) -> Self {
        self.listed("subscribe", json!(channel))
    }

    fn listed(mut self, name: &str, value: Value) -> Self {
        if let Value::Array(list) = self.claims.entry(name).or_insert_with(|| json!([])) {
            list.push(value);
        }
        self
    }

    /// Signs it. `None`: the key has no secret, so that it can only check.
    pub fn sign(self, key: &TokenKey) -> Option<String> {
        let signer = key.signer()?;
        let Minting { mut claims, expires_in } = self;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        claims.entry("iat").or_insert(json!(now.as_secs()));
        claims.insert("exp".to_owned(), json!(now.saturating_add(expires_in).as_secs()));
        let mut header = json!({ "alg": key.algorithm().name(), "typ": "JWT" });
        if let Some(kid) = key.kid() {
            header["kid"] = json!(kid);
        }
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(&header), part(&Value::Object(claims)));
        let signer = (DEFAULT_PROVIDER.signer_factory)(&key.algorithm().of_crate(), &signer).ok()?;
        let signature = signer.try_sign(message.as_bytes()).ok()?;
        Some(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// What is in a token, and whether it is good.
#[derive(Debug)]
pub struct Inspected {
    /// Its header, where it is JSON. Unproven unless `verdict` is `Ok`.
    pub header: Option<Value>,
    /// Its claims, where they are JSON. Unproven unless `verdict` is `Ok`.
    pub claims: Option<Value>,
    /// Whether a server with these settings takes it now.
    pub verdict: Result<(), TokenError>,
    /// Whom it proves, where `verdict` is `Ok`.
    pub identity: Option<Identified>,
    /// Why the keys of the issuer's address could not be had.
    pub keys_missing: Option<String>,
}

/// Looks at a token as a server with these settings would. Keys of an address are fetched for a token that needs them.
pub async fn inspect(token: &str, config: &AuthConfig, limits: &Limits) -> Inspected {
    let part = |at: usize| {
        let decoded = URL_SAFE_NO_PAD.decode(token.split('.').nth(at)?).ok()?;
        serde_json::from_slice(&decoded).ok()
    };
    let verifier = Verifier::new(config.clone(), limits.clone());
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    let mut keys_missing = None;
    let mut proof = verifier.prove(token, &[]);
    let published;
    if let (Ok(Proof::UnknownKid(_)), Some(jwks)) = (&proof, &config.jwks) {
        published = fetch_keys(jwks).await.unwrap_or_else(|why| {
            keys_missing = Some(why);
            Vec::new()
        });
        proof = verifier.prove(token, &published);
    }
    let judged = match proof {
        Ok(Proof::Signed(jws)) => verifier.identity(&jws, now_ms),
        Ok(Proof::UnknownKid(error)) | Err(error) => Err(error),
    };
    let (verdict, identity) = match judged {
        Ok(identity) => (Ok(()), Some(identity)),
        Err(error) => (Err(error), None),
    };
    Inspected { header: part(0), claims: part(1), verdict, identity, keys_missing }
}

/// The identity that a token with these claims would prove, for a question about rules. Nothing is checked that
/// depends on a signature, on the time or on the issuer.
///
/// # Errors
/// They are no JSON object, or a claim has another form than it must have.
pub fn claimed(claims: &str, limits: &Limits) -> Result<Identified, TokenError> {
    let Claims { user, info, grants, subscribe, labels, others, .. } = Claims::parse(claims.as_bytes(), limits)?;
    Ok(Identified { user, info, expires_ms: None, subscribe, grants, claims: others, labels })
}
