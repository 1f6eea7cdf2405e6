//! Why a token is not taken: each reason has its sentence, with the fact that a person asks for next.
//!
//! The sentences are for the client and the log. They have names, times and claims of the token, and never the token,
//! its signature or a key.

use crate::config::auth::{KID_BYTES_MAX, TokenAlgorithm};
use fanfare_hub::{Error, ErrorCode};

/// Why a token is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Longer than a token may be.
    #[error("the token has {len} bytes, the limit (auth.token_bytes_max) is {max}")]
    TooLong {
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// It is not three parts of base64 with JSON in them.
    #[error("it is no JWT: {problem}")]
    NotJwt {
        /// What is missing.
        problem: &'static str,
    },
    /// `none`.
    #[error("the token is unsigned (`alg` is {found:?})")]
    Unsigned {
        /// As the token has it.
        found: String,
    },
    /// A header that asks for what this server does not do.
    #[error("its header {name:?} is not supported")]
    Header {
        /// The header's name.
        name: &'static str,
    },
    /// It is a JWT for another purpose.
    #[error("its `typ` is {found:?}; JWT and at+jwt are accepted")]
    Type {
        /// As the token has it.
        found: String,
    },
    /// No key is for it.
    #[error("no key has the `kid` {kid:?}")]
    UnknownKid {
        /// As the token has it.
        kid: String,
    },
    /// It has no `kid`, and all keys have one.
    #[error("it has no `kid`, and every key has one")]
    NoKid,
    /// Its key is for another algorithm.
    #[error("its `alg` is {found:?}, and its key is for {expected}")]
    Algorithm {
        /// As the token has it.
        found: String,
        /// The algorithms of the keys in question.
        expected: String,
    },
    /// Nobody with a key has signed this.
    #[error("its signature is not that of a key for {algorithm}")]
    Signature {
        /// The algorithm.
        algorithm: TokenAlgorithm,
    },
    /// Its time is over.
    #[error("the token expired {} ago (claim `exp`)", seconds(*.ago_ms))]
    Expired {
        /// Since when, leeway included.
        ago_ms: u64,
    },
    /// Its time has not come.
    #[error("the token is not valid yet: it will be in {} (claim `nbf`)", seconds(*.in_ms))]
    NotYet {
        /// In how many ms, leeway included.
        in_ms: u64,
    },
    /// A claim that it must have is not there.
    #[error("the claim `{claim}` is missing")]
    Missing {
        /// Which.
        claim: &'static str,
    },
    /// A claim has another form than it must have.
    #[error("the claim `{claim}` is not valid: {problem}")]
    Claim {
        /// Which.
        claim: String,
        /// The problem.
        problem: String,
    },
    /// Another service is meant, or another one has made it.
    #[error("the claim `{claim}` is {found}; accepted: {accepted}")]
    Foreign {
        /// `iss` or `aud`.
        claim: &'static str,
        /// As the token has it.
        found: String,
        /// The configured values.
        accepted: String,
    },
    /// The keys of the address could not be had yet.
    #[error("the keys of the issuer are not there yet; its log has the reason")]
    NoKeysYet,
}

/// After so long a client may ask again.
const RETRY_MS: u64 = 2_000;

impl TokenError {
    /// The error that the client gets.
    pub(crate) fn into_error(self) -> Error {
        let code = match self {
            TokenError::Expired { .. } => ErrorCode::TokenExpired,
            TokenError::NoKeysYet => ErrorCode::Unavailable,
            _ => ErrorCode::Unauthorized,
        };
        let mut error = Error::new(code, self.to_string());
        error.retry_after_ms = (code == ErrorCode::Unavailable).then_some(RETRY_MS);
        error
    }
}

/// A text of a token that is not proven, at a bounded length.
pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(KID_BYTES_MAX / 4) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Whole seconds where they say enough.
fn seconds(ms: u64) -> String {
    if ms < 10_000 { format!("{ms} ms") } else { format!("{} s", ms / 1_000) }
}
