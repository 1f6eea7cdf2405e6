//! Keys that an issuer publishes at an address (RFC 7517), kept for a while.
//!
//! In: the address of the configuration. Out: the newest good set of keys; a set that cannot be had, or cannot be read,
//! leaves the one before it. They are fetched at the start, when they are old, and when a token has a `kid` that is not
//! among them, at most once in [`JwksConfig::unknown_kid_every`]. The address is never built from what a token says.

use super::fetch::fetch;
use crate::config::auth::{JwksConfig, KID_BYTES_MAX, TokenAlgorithm, TokenKey};
use crate::logs;
use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// The longest answer that is read.
pub(super) const SET_BYTES_MAX: usize = 256 << 10;
/// So many keys of a set are kept.
const KEYS_MAX: usize = 64;
/// Before the first set is there it is tried again after this time, then after twice, up to the longest.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// The keys of an address, as they are known now.
#[derive(Debug, Clone, Default)]
pub(super) struct Published {
    pub(super) keys: Arc<[TokenKey]>,
    /// They have been had once.
    pub(super) is_there: bool,
    /// A fetch is under way.
    is_fetching: bool,
    /// When the last one began.
    last: Option<Instant>,
}

/// The cache. Dropping it ends the fetching.
#[derive(Debug)]
pub(super) struct Jwks {
    config: JwksConfig,
    published: watch::Receiver<Published>,
    /// Somebody has an unknown `kid`.
    asked: Arc<Notify>,
    task: tokio::task::AbortHandle,
}

impl Drop for Jwks {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Jwks {
    /// Begins to fetch, on this runtime.
    pub(super) fn start(config: JwksConfig, runtime: &tokio::runtime::Handle) -> Self {
        let first = Published { is_fetching: true, ..Published::default() };
        let (sender, published) = watch::channel(first);
        let asked = Arc::new(Notify::new());
        let task = runtime.spawn(keep(config.clone(), sender, asked.clone())).abort_handle();
        Jwks { config, published, asked, task }
    }

    pub(super) fn published(&self) -> Published {
        self.published.borrow().clone()
    }

    /// Whether a set that is newer than `seen` may be had soon: one is on its way, or may be fetched now.
    pub(super) fn may_be_newer(&self, seen: &Published) -> bool {
        seen.is_fetching || seen.last.is_none_or(|last| last.elapsed() >= self.config.unknown_kid_every)
    }

    /// Waits for the set behind `seen`.
    pub(super) fn newer(&self, seen: &Published) -> impl Future<Output = Published> + Send + use<> {
        let (mut published, seen) = (self.published.clone(), seen.clone());
        if !seen.is_fetching {
            self.asked.notify_one();
        }
        async move {
            // The one that is being fetched is over, or one has begun since and is over.
            let is_newer = |now: &Published| !now.is_fetching && (seen.is_fetching || now.last != seen.last);
            let newer = published.wait_for(is_newer).await.map(|now| now.clone());
            newer.unwrap_or(seen) // nobody fetches any more
        }
    }
}

/// Fetches, for the life of the cache.
async fn keep(config: JwksConfig, published: watch::Sender<Published>, asked: Arc<Notify>) {
    let mut failures = 0_u32;
    loop {
        let begun = Instant::now();
        published.send_modify(|now| (now.is_fetching, now.last) = (true, Some(begun)));
        let url = config.url.shown();
        match set_of(&config).await {
            Ok(Set { keys, left_out }) => {
                failures = 0;
                tracing::debug!(%url, keys = keys.len(), left_out, "the keys of tokens were fetched");
                published.send_modify(|now| (now.keys, now.is_there, now.is_fetching) = (keys.into(), true, false));
            }
            Err(why) => {
                failures += 1;
                let kept = published.borrow().keys.len();
                logs::limited!(Keys, WARN, %url, why = &*why, kept, "the keys of tokens cannot be fetched");
                published.send_modify(|now| now.is_fetching = false);
            }
        }
        let retry = RETRY_MIN.saturating_mul(1 << (failures.clamp(1, 7) - 1)).min(RETRY_MAX);
        let is_there = published.borrow().is_there;
        let pause = if failures > 0 && !is_there { retry } else { config.refresh };
        let until = Instant::now() + pause;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => break,
                // Several may have asked at a time: those behind the first have their answer.
                () = asked.notified() => if begun.elapsed() >= config.unknown_kid_every { break },
            }
        }
    }
}

/// Fetches the keys once.
pub(super) async fn fetch_keys(config: &JwksConfig) -> Result<Vec<TokenKey>, String> {
    set_of(config).await.map(|set| set.keys)
}

async fn set_of(config: &JwksConfig) -> Result<Set, String> {
    match tokio::time::timeout(config.timeout, fetch(config)).await {
        Ok(Ok(body)) => read(&body),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} ms", config.timeout.as_millis())),
    }
}

/// The keys of an answer.
#[derive(Debug)]
struct Set {
    keys: Vec<TokenKey>,
    /// Keys for other purposes, or of unknown kinds.
    left_out: usize,
}

#[derive(Deserialize)]
struct WrittenSet<'t> {
    #[serde(borrow)]
    keys: Vec<&'t RawValue>,
}

#[derive(Deserialize)]
struct WrittenKey {
    kty: String,
    r#use: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// Reads a set. A key that is of no use is left out; a set without a key is none.
fn read(body: &[u8]) -> Result<Set, String> {
    let text = std::str::from_utf8(body).map_err(|_| "the answer is not UTF-8")?;
    let WrittenSet { keys } = serde_json::from_str(text).map_err(|error| format!("it is no JWK set: {error}"))?;
    let all = keys.len();
    let keys: Vec<TokenKey> =
        keys.into_iter().filter_map(|raw| key(serde_json::from_str(raw.get()).ok()?)).take(KEYS_MAX).collect();
    if keys.is_empty() {
        return Err(format!("none of its {all} keys is a public one for signatures of a known algorithm"));
    }
    Ok(Set { left_out: all - keys.len(), keys })
}

/// A public key for signatures. A secret (`oct`) that is published is none.
fn key(written: WrittenKey) -> Option<TokenKey> {
    let WrittenKey { kty, r#use, key_ops, alg, kid, crv, n, e, x, y } = written;
    let is_for_others =
        r#use.is_some_and(|it| it != "sig") || key_ops.is_some_and(|ops| ops.iter().all(|op| op != "verify"));
    if is_for_others || kid.as_ref().is_some_and(|kid| kid.is_empty() || kid.len() > KID_BYTES_MAX) {
        return None;
    }
    // An algorithm that is named is the only one, and one that is not known here makes the key useless.
    let algorithm = match alg {
        Some(alg) => Some(TokenAlgorithm::find(&alg)?),
        None => None,
    };
    let key = match (kty.as_str(), crv.as_deref()) {
        ("RSA", _) => DecodingKey::from_rsa_components(&n?, &e?),
        ("EC", Some("P-256" | "P-384")) => DecodingKey::from_ec_components(&x?, &y?),
        ("OKP", Some("Ed25519")) => DecodingKey::from_ed_components(&x?),
        _ => return None,
    };
    TokenKey::of("jwks", kid.as_deref(), algorithm, key.ok()?).ok()
}

/// A part of the fuzz target `application_answers`: any answer of the issuer is a bounded set of keys, or none.
pub(super) fn fuzz(data: &[u8]) {
    if let Ok(Set { keys, .. }) = read(data) {
        assert!((1..=KEYS_MAX).contains(&keys.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7517, appendix A.1, with the parameters that this reader leaves alone.
    const SET: &str = r#"{"keys":[
      {"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","use":"enc","kid":"1"},
      {"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}]}"#;

    #[test]
    fn keys_for_signatures_are_taken_and_others_are_left_out() {
        let Set { keys, left_out } = read(SET.as_bytes()).unwrap();
        assert_eq!((keys.len(), left_out), (1, 1));
        assert_eq!((keys[0].kid(), keys[0].algorithm()), (Some("2011-04-29"), TokenAlgorithm::RS256));
        let as_sig = SET.replace("\"use\":\"enc\",", "");
        let Set { keys, .. } = read(as_sig.as_bytes()).unwrap();
        assert_eq!(
            keys.iter().map(TokenKey::algorithm).collect::<Vec<_>>(),
            [TokenAlgorithm::ES256, TokenAlgorithm::RS256]
        );
    }

    #[test]
    fn a_set_without_a_usable_key_is_none() {
        let rows = [
            ("", "it is no JWK set"),
            ("[]", "it is no JWK set"),
            (r#"{"keys":[]}"#, "none of its 0 keys"),
            // A secret in public, another's algorithm, a short key, a key for something else, one that is none.
            (r#"{"keys":[{"kty":"oct","k":"c2VjcmV0","alg":"HS256"}]}"#, "none of its 1 keys"),
            (&SET.replace("RS256", "HS256"), "none of its 2 keys"),
            (&SET.replace("RS256", "none"), "none of its 2 keys"),
            (&SET.replace("RS256", "ES256"), "none of its 2 keys"),
            (r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}"#, "none of its 1 keys"),
            (r#"{"keys":[{"kty":"EC","crv":"P-256","x":"AQAB","y":"AQAB"}]}"#, "none of its 1 keys"),
            (r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AQAB"}, 7, {}]}"#, "none of its 3 keys"),
        ];
        for (text, expected) in rows {
            let error = read(text.as_bytes()).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
        let many = format!(
            r#"{{"keys":[{}]}}"#,
            vec![&SET[SET.find("{\"kty\":\"RSA").unwrap()..SET.len() - 2]; 100].join(",")
        );
        assert_eq!(read(many.as_bytes()).unwrap().keys.len(), KEYS_MAX);
    }
}
