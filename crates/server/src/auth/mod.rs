//! Identities by configuration: tokens (JWT) that are signed with a key of `[auth]`.
//!
//! In: the hub's questions `connect` and `refresh`, with the token that the client shows, if it shows one. Out: the
//! answer that `on_connect` would give: an identity with its grants, or a refusal. A token is looked at on the thread
//! that asks, for that takes microseconds; only one with an unknown `kid` waits until the issuer's keys are fetched
//! anew. `Authenticator::replace` puts other keys in force: sessions that exist go on.
//!
//! docs/auth.md has the rules for tokens.

pub(crate) mod claims;
mod error;
mod fetch;
mod jwks;
mod jws;
mod mint;
#[cfg(test)]
mod tests;
mod verify;

pub use crate::config::auth::{AuthConfig, JwksConfig, TokenAlgorithm, TokenKey, TokenKeyError};
pub use crate::config::url::UrlError;
pub use error::TokenError;
pub use mint::{Inspected, Minting, claimed, inspect};

use crate::clock::Clock;
use crate::config::auth::ANONYMOUS;
use fanfare_hub::{Error, ErrorCode, HookAnswer, Identified, Limits};
use jwks::{Jwks, Published};
use std::sync::{Arc, PoisonError, RwLock};
use verify::{Proof, Verifier};

/// Answers for the configuration. The same on every shard.
#[derive(Debug)]
pub(crate) struct Authenticator {
    verifier: RwLock<Arc<Verifier>>,
    jwks: Option<Jwks>,
    limits: Limits,
    clock: Clock,
}

/// An answer, now or when newer keys are there.
pub(crate) enum Verdict {
    Now(HookAnswer),
    Later(std::pin::Pin<Box<dyn Future<Output = HookAnswer> + Send>>),
}

impl Authenticator {
    /// Answers by these settings. Keys of an address are fetched on `runtime`.
    pub(crate) fn start(config: &AuthConfig, limits: &Limits, clock: Clock, runtime: &tokio::runtime::Handle) -> Self {
        let jwks = config.jwks.clone().map(|jwks| Jwks::start(jwks, runtime));
        let verifier = RwLock::new(Arc::new(Verifier::new(config.clone(), limits.clone())));
        Authenticator { verifier, jwks, limits: limits.clone(), clock }
    }

    /// Puts other settings in force, from the next token on. The address of keys stays as it is.
    pub(crate) fn replace(&self, config: &AuthConfig) {
        let verifier = Arc::new(Verifier::new(config.clone(), self.limits.clone()));
        *self.verifier.write().unwrap_or_else(PoisonError::into_inner) = verifier;
    }

    fn verifier(&self) -> Arc<Verifier> {
        self.verifier.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Answers the question of a client that shows this token, or none.
    pub(crate) fn answer(&self, token: Option<&str>) -> Verdict {
        let verifier = self.verifier();
        let Some(token) = token else { return Verdict::Now(answer(without(verifier.config()))) };
        let published = self.jwks.as_ref().map(Jwks::published);
        let unknown = match judge(&verifier, token, published.as_ref(), &self.clock) {
            Judged::Done(result) => return Verdict::Now(answer(result)),
            Judged::UnknownKid(unknown) => unknown,
        };
        match self.jwks.as_ref().zip(published) {
            Some((jwks, seen)) if jwks.may_be_newer(&seen) => {
                let (newer, token, clock) = (jwks.newer(&seen), token.to_owned(), self.clock.clone());
                Verdict::Later(Box::pin(async move {
                    let published = newer.await;
                    answer(match judge(&verifier, &token, Some(&published), &clock) {
                        Judged::Done(result) => result,
                        Judged::UnknownKid(unknown) => Err(unknown.into_error()),
                    })
                }))
            }
            _ => Verdict::Now(answer(Err(unknown.into_error()))),
        }
    }
}

enum Judged {
    Done(Result<Identified, Error>),
    /// By these keys.
    UnknownKid(TokenError),
}

fn judge(verifier: &Verifier, token: &str, published: Option<&Published>, clock: &Clock) -> Judged {
    let keys: &[TokenKey] = published.map_or(&[], |published| &published.keys);
    let result = match verifier.prove(token, keys) {
        // Nobody knows which keys there are.
        Ok(Proof::UnknownKid(_)) if published.is_some_and(|published| !published.is_there) => {
            return Judged::UnknownKid(TokenError::NoKeysYet);
        }
        Ok(Proof::UnknownKid(unknown)) => return Judged::UnknownKid(unknown),
        Ok(Proof::Signed(jws)) => verifier.identity(&jws, clock.now().wall_ms),
        Err(error) => Err(error),
    };
    Judged::Done(result.map_err(TokenError::into_error))
}

fn without(config: &AuthConfig) -> Result<Identified, Error> {
    if config.anonymous {
        return Ok(Identified::default());
    }
    let words = "a token is needed: the option auth.anonymous is false";
    Err(Error::new(ErrorCode::Unauthorized, words).by_option(ANONYMOUS))
}

fn answer(result: Result<Identified, Error>) -> HookAnswer {
    match result {
        Ok(identified) => HookAnswer::Identity(identified),
        Err(error) => HookAnswer::Refused(error),
    }
}

/// A part of the fuzz target `application_answers`.
pub(crate) fn fuzz_keys(data: &[u8]) {
    jwks::fuzz(data);
}

/// The body of the fuzz target `token_claims`.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    claims::fuzz(data);
    // A whole token whose claims nobody has signed never gets through, whatever its parts are.
    if let Ok(token) = std::str::from_utf8(data) {
        let key = TokenKey::new("main", None, "a-secret-that-no-fuzzer-knows-of-32-bytes").expect("a key");
        let config = AuthConfig { keys: vec![key], ..AuthConfig::default() };
        let verifier = Verifier::new(config, Limits::default());
        assert!(!matches!(verifier.prove(token, &[]), Ok(Proof::Signed(_))), "nobody has signed {token:?}");
    }
}
