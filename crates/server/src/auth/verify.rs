//! Whether a token is good: its signature by one of the keys, then its claims by the settings and the clock.
//!
//! In: a token, the time, the keys. Out: the identity that it proves, or a [`TokenError`]. Signatures come before
//! claims: of a token that nobody has signed, only `alg` and `kid` are spoken of. The key is chosen by `kid`, then by
//! the algorithm that the *key* is for.

use super::claims::Claims;
use super::error::{TokenError, shortened};
use super::jws::{Header, Jws};
use crate::config::auth::{AuthConfig, TokenAlgorithm, TokenKey};
use fanfare_hub::{Identified, Limits};

/// A token without a `kid` may be of any key: so many of them are tried.
const TRIED_MAX: usize = 16;

/// Looks at tokens.
#[derive(Debug)]
pub(crate) struct Verifier {
    config: AuthConfig,
    limits: Limits,
}

/// What is known of a token before its claims are looked at.
pub(super) enum Proof<'t> {
    /// A key has signed it.
    Signed(Jws<'t>),
    /// Its `kid` is no key's, and the keys without one have not signed it. The issuer may have a newer one.
    UnknownKid(TokenError),
}

impl Verifier {
    pub(crate) fn new(config: AuthConfig, limits: Limits) -> Self {
        Verifier { config, limits }
    }

    pub(super) fn config(&self) -> &AuthConfig {
        &self.config
    }

    /// Checks the signature. `published` are the keys of the issuer's address.
    pub(super) fn prove<'t>(&self, token: &'t str, published: &[TokenKey]) -> Result<Proof<'t>, TokenError> {
        let jws = Jws::parse(token, self.config.token_bytes_max)?;
        let own = self.config.keys.iter();
        let Candidates { keys: candidates, is_kid_known } = candidates(own.chain(published), &jws.header);
        if candidates.is_empty() {
            let unknown = match &jws.header.kid {
                Some(kid) => TokenError::UnknownKid { kid: shortened(kid) },
                None => TokenError::NoKid,
            };
            return Ok(Proof::UnknownKid(unknown));
        }
        let fitting = candidates.iter().filter(|key| key.algorithm().name() == jws.header.alg);
        let mut tried = None;
        for key in fitting.take(TRIED_MAX) {
            if key.has_signed(jws.message, &jws.signature) {
                return Ok(Proof::Signed(jws));
            }
            tried = Some(key.algorithm());
        }
        let error = match tried {
            Some(algorithm) => TokenError::Signature { algorithm },
            None => TokenError::Algorithm { found: shortened(&jws.header.alg), expected: algorithms(&candidates) },
        };
        if is_kid_known { Err(error) } else { Ok(Proof::UnknownKid(error)) }
    }

    /// Checks the claims of a signed token. The identity holds until `exp` and the leeway.
    pub(super) fn identity(&self, jws: &Jws<'_>, now_ms: u64) -> Result<Identified, TokenError> {
        let claims = Claims::parse(&jws.claims, &self.limits)?;
        let leeway_ms = u64::try_from(self.config.leeway.as_millis()).unwrap_or(u64::MAX);
        let expires_ms = claims.exp_ms.ok_or(TokenError::Missing { claim: "exp" })?.saturating_add(leeway_ms);
        if expires_ms <= now_ms {
            return Err(TokenError::Expired { ago_ms: now_ms - expires_ms });
        }
        if let Some(begins_ms) = claims.nbf_ms.map(|nbf_ms| nbf_ms.saturating_sub(leeway_ms)).filter(|at| *at > now_ms)
        {
            return Err(TokenError::NotYet { in_ms: begins_ms - now_ms });
        }
        self.judge_issuer(&claims)?;
        if claims.user.is_none() && !self.config.anonymous {
            return Err(TokenError::Missing { claim: "sub" });
        }
        let Claims { user, info, grants, subscribe, labels, others, .. } = claims;
        Ok(Identified { user, info, expires_ms: Some(expires_ms), subscribe, grants, claims: others, labels })
    }

    fn judge_issuer(&self, claims: &Claims) -> Result<(), TokenError> {
        let AuthConfig { issuers, audiences, .. } = &self.config;
        if !issuers.is_empty() {
            let iss = claims.iss.as_ref().ok_or(TokenError::Missing { claim: "iss" })?;
            if !issuers.contains(iss) {
                let found = format!("{:?}", shortened(iss));
                return Err(TokenError::Foreign { claim: "iss", found, accepted: listed(issuers) });
            }
        }
        if !audiences.is_empty() {
            if claims.aud.is_empty() {
                return Err(TokenError::Missing { claim: "aud" });
            }
            if !claims.aud.iter().any(|aud| audiences.contains(aud)) {
                let found = listed(claims.aud.iter().take(4).map(|aud| shortened(aud)));
                return Err(TokenError::Foreign { claim: "aud", found, accepted: listed(audiences) });
            }
        }
        Ok(())
    }
}

/// The keys that a token may be signed with.
struct Candidates<'k> {
    keys: Vec<&'k TokenKey>,
    /// No newer set of keys could have another one for it.
    is_kid_known: bool,
}

/// Those of its `kid`, else those that have none. Without a `kid` any.
fn candidates<'k>(keys: impl Iterator<Item = &'k TokenKey> + Clone, header: &Header) -> Candidates<'k> {
    let Some(kid) = header.kid.as_deref() else { return Candidates { keys: keys.collect(), is_kid_known: true } };
    let named: Vec<&TokenKey> = keys.clone().filter(|key| key.kid() == Some(kid)).collect();
    match named.is_empty() {
        true => Candidates { keys: keys.filter(|key| key.kid().is_none()).collect(), is_kid_known: false },
        false => Candidates { keys: named, is_kid_known: true },
    }
}

fn algorithms(keys: &[&TokenKey]) -> String {
    let mut names: Vec<&str> = keys.iter().map(|key| TokenAlgorithm::name(key.algorithm())).collect();
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}

fn listed(texts: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    texts.into_iter().map(|text| format!("{:?}", text.as_ref())).collect::<Vec<_>>().join(", ")
}
