//! Tokens good and bad, and keys of an address that misbehaves.

mod attacks;
mod published;
mod times;

use super::TokenError;
use super::verify::{Proof, Verifier};
use crate::config::auth::{AuthConfig, TokenAlgorithm, TokenKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fanfare_hub::{Identified, Limits};
use jsonwebtoken::EncodingKey;
use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;
use rcgen::KeyPair;
use serde_json::{Value, json};
use std::sync::OnceLock;

/// The tests' now.
const NOW_MS: u64 = 1_800_000_000_000;
const NOW_S: u64 = NOW_MS / 1000;
const SECRET: &str = "an-example-of-a-secret-that-is-long-enough-for-every-hash-of-them";

/// A pair of keys.
struct Pair {
    public_pem: String,
    signer: EncodingKey,
}

/// The pairs of every kind, made once: RSA takes its time.
fn pair(algorithm: TokenAlgorithm) -> &'static Pair {
    static PAIRS: OnceLock<[Pair; 4]> = OnceLock::new();
    let pairs = PAIRS.get_or_init(|| {
        let of = |kind, read: fn(&[u8]) -> jsonwebtoken::errors::Result<EncodingKey>| {
            let pair = KeyPair::generate_for(kind).expect("a pair of keys");
            let signer = read(pair.serialize_pem().as_bytes()).expect("a key to sign with");
            Pair { public_pem: pair.public_key_pem(), signer }
        };
        [
            of(&rcgen::PKCS_RSA_SHA256, EncodingKey::from_rsa_pem),
            of(&rcgen::PKCS_ECDSA_P256_SHA256, EncodingKey::from_ec_pem),
            of(&rcgen::PKCS_ECDSA_P384_SHA384, EncodingKey::from_ec_pem),
            of(&rcgen::PKCS_ED25519, EncodingKey::from_ed_pem),
        ]
    });
    match algorithm {
        TokenAlgorithm::ES256 => &pairs[1],
        TokenAlgorithm::ES384 => &pairs[2],
        TokenAlgorithm::EdDSA => &pairs[3],
        _ => &pairs[0],
    }
}

fn secret(name: &str, algorithm: TokenAlgorithm) -> TokenKey {
    TokenKey::new(name, Some(algorithm), SECRET).expect("a secret")
}

fn public(name: &str, algorithm: TokenAlgorithm) -> TokenKey {
    TokenKey::new(name, Some(algorithm), &pair(algorithm).public_pem).expect("a public key")
}

fn config(keys: Vec<TokenKey>) -> AuthConfig {
    AuthConfig { anonymous: false, keys, ..AuthConfig::default() }
}

fn part(json: &Value) -> String {
    URL_SAFE_NO_PAD.encode(json.to_string())
}

/// Signs as an issuer with this key would, whatever the header says.
fn signed_by(algorithm: TokenAlgorithm, signer: &EncodingKey, header: &Value, claims: &Value) -> String {
    let message = format!("{}.{}", part(header), part(claims));
    let signer = (DEFAULT_PROVIDER.signer_factory)(&algorithm.of_crate(), signer).expect("a signer");
    let signature = signer.try_sign(message.as_bytes()).expect("signed");
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn by_secret(header: &Value, claims: &Value) -> String {
    let signer = EncodingKey::from_secret(SECRET.as_bytes()).expect("a secret");
    signed_by(TokenAlgorithm::HS256, &signer, header, claims)
}

fn ada() -> Value {
    json!({"sub": "ada", "exp": NOW_S + 60})
}

fn hs256() -> Value {
    json!({"alg": "HS256", "typ": "JWT"})
}

fn check(config: &AuthConfig, token: &str) -> Result<Identified, TokenError> {
    let verifier = Verifier::new(config.clone(), Limits::default());
    match verifier.prove(token, &[])? {
        Proof::Signed(jws) => verifier.identity(&jws, NOW_MS),
        Proof::UnknownKid(error) => Err(error),
    }
}

/// The sentence for a token that is refused.
fn refused(config: &AuthConfig, token: &str) -> String {
    check(config, token).expect_err("it is refused").to_string()
}
