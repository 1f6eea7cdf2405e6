//! Hooks over HTTP: what the application is asked and notified of, where, and within which bounds.
//!
//! A secret signs requests as Standard Webhooks has it, and `Debug` shows none. The addresses are the configuration's
//! alone: nothing that a client sends changes them, so private networks and `http` need no permission.

use crate::config::url::HttpUrl;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fanfare_hub::Pattern;
use jsonwebtoken::EncodingKey;
use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How a secret begins.
const PREFIX: &str = "whsec_";
/// The lengths that Standard Webhooks allows, in bytes.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// The first pause behind a notice that is not taken; then twice as long each time, up to the longest.
pub(crate) const PAUSE_MIN: Duration = Duration::from_millis(500);
pub(crate) const PAUSE_MAX: Duration = Duration::from_secs(30);

/// What the application decides and is notified of over HTTP. Default: nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct HooksConfig {
    /// Who answers `connect`: it identifies clients. It cannot stand beside keys of tokens or an `on_connect` handler.
    pub connect: Option<HttpUrl>,
    /// Who answers `refresh`, a newer token of a client. Default: the address of `connect`.
    pub refresh: Option<HttpUrl>,
    /// Who answers `subscribe`, for channels whose rule says `hook`.
    pub subscribe: Option<HttpUrl>,
    /// Channels whose subscriptions are asked about although their rule allows them.
    pub subscribe_channels: Vec<Pattern>,
    /// Who answers `publish`, for channels whose rule says `hook`.
    pub publish: Option<HttpUrl>,
    /// Channels whose publications are asked about although their rule allows them.
    pub publish_channels: Vec<Pattern>,
    /// Who answers calls of methods, and the events of Socket.IO clients that are not built in.
    pub rpc: Option<HttpUrl>,
    /// Every request is signed with each of them. Default: none.
    pub secrets: Vec<HookSecret>,
    /// Headers of the client's request that `connect` and `refresh` pass on, in lower case.
    pub forward_headers: Vec<String>,
    /// Cookies of the client's request that they pass on.
    pub forward_cookies: Vec<String>,
    /// Time for an answer, with the time in the queue. Default 3 s.
    pub timeout: Duration,
    /// Requests of one kind that are under way at once. Default 64.
    pub concurrency: usize,
    /// Questions of one kind that wait for that. Further ones are refused. Default 1,024.
    pub queue_max: usize,
    /// The longest answer. Default 64 KiB.
    pub answer_bytes_max: usize,
    /// When a hook is not asked any more.
    pub breaker: BreakerConfig,
    /// What the application is notified of.
    pub notices: NoticesConfig,
}

impl Default for HooksConfig {
    fn default() -> Self {
        HooksConfig {
            connect: None,
            refresh: None,
            subscribe: None,
            subscribe_channels: Vec::new(),
            publish: None,
            publish_channels: Vec::new(),
            rpc: None,
            secrets: Vec::new(),
            forward_headers: Vec::new(),
            forward_cookies: Vec::new(),
            timeout: Duration::from_secs(3),
            concurrency: 64,
            queue_max: 1024,
            answer_bytes_max: 64 << 10,
            breaker: BreakerConfig::default(),
            notices: NoticesConfig::default(),
        }
    }
}

impl HooksConfig {
    /// Whether anything is asked or notified.
    pub fn is_on(&self) -> bool {
        self.count() > 0
    }

    /// How many hooks there are.
    pub fn count(&self) -> usize {
        let HooksConfig { connect, subscribe, publish, rpc, notices, .. } = self;
        [connect, subscribe, publish, rpc, &notices.url].into_iter().filter(|url| url.is_some()).count()
    }
}

/// What the application is notified of over HTTP, and within which bounds. Default: nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct NoticesConfig {
    /// Who is notified.
    pub url: Option<HttpUrl>,
    /// Of the ends of sessions.
    pub disconnect: bool,
    /// Of clients that enter the presence of a channel.
    pub join: bool,
    /// Of those that leave it.
    pub leave: bool,
    /// Of channels that have a first subscriber.
    pub occupied: bool,
    /// Of those that have none any more.
    pub vacated: bool,
    /// Of publications.
    pub published: bool,
    /// The channels; `disconnect` is about none. Default: all but those whose names begin with `$`.
    pub channels: Vec<Pattern>,
    /// Time for an answer. Default 10 s.
    pub timeout: Duration,
    /// How long notices that are not taken are sent again. Default 10 min.
    pub age_max: Duration,
    /// The memory of notices that wait. Default 16 MiB.
    pub bytes_max: usize,
}

impl Default for NoticesConfig {
    fn default() -> Self {
        NoticesConfig {
            url: None,
            disconnect: false,
            join: false,
            leave: false,
            occupied: false,
            vacated: false,
            published: false,
            channels: Pattern::new("**").into_iter().collect(),
            timeout: Duration::from_secs(10),
            age_max: Duration::from_secs(600),
            bytes_max: 16 << 20,
        }
    }
}

/// When a hook is not asked any more, because its requests fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerConfig {
    /// So many failures in `window`, which are at least half of its requests, stop the requests. Default 10; 0: never.
    pub failures: u32,
    /// Default 10 s.
    pub window: Duration,
    /// After so long one request is tried. Default 5 s.
    pub pause: Duration,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        BreakerConfig { failures: 10, window: Duration::from_secs(10), pause: Duration::from_secs(5) }
    }
}

/// A secret that signs requests: `whsec_` and 24 to 64 bytes in base64.
#[derive(Clone, PartialEq, Eq)]
pub struct HookSecret {
    /// As it was written.
    text: Arc<str>,
    key: Arc<[u8]>,
}

impl fmt::Debug for HookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Why a text is no secret. It never shows the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HookSecretError {
    /// It has another form.
    #[error("it does not begin with {PREFIX}")]
    Prefix,
    /// The rest is something else.
    #[error("the part after {PREFIX} is not base64")]
    Base64,
    /// It would be guessed, or it is no key.
    #[error("it holds {len} bytes, a secret has {} to {}", SECRET_BYTES.start(), SECRET_BYTES.end())]
    Length {
        /// How many it holds.
        len: usize,
    },
}

impl HookSecret {
    /// The secret of this text.
    ///
    /// # Errors
    /// [`HookSecretError`] says why it is none.
    pub fn new(text: &str) -> Result<Self, HookSecretError> {
        let encoded = text.strip_prefix(PREFIX).ok_or(HookSecretError::Prefix)?;
        let key = STANDARD.decode(encoded).map_err(|_| HookSecretError::Base64)?;
        if !SECRET_BYTES.contains(&key.len()) {
            return Err(HookSecretError::Length { len: key.len() });
        }
        Ok(HookSecret { text: text.into(), key: key.into() })
    }

    /// The text, for a filter that keeps it out of a log.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// HMAC-SHA256. `None`: the provider of cryptography refuses the key, which it does for no length that is allowed.
    pub(crate) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let key = EncodingKey::from_secret(&self.key).ok()?;
        let signer = (DEFAULT_PROVIDER.signer_factory)(&jsonwebtoken::Algorithm::HS256, &key).ok()?;
        signer.try_sign(message).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_has_its_form_and_shows_nothing_of_itself() {
        let text = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let secret = HookSecret::new(text).unwrap();
        assert_eq!((secret.expose(), format!("{secret:?}").as_str()), (text, "(hidden)"));
        let config = HooksConfig { secrets: vec![secret], ..HooksConfig::default() };
        assert!(!format!("{config:?}").contains("MfKQ9r8"), "{config:?}");
        let long = format!("whsec_{}", STANDARD.encode([7; 65]));
        let rows = [
            ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", HookSecretError::Prefix),
            ("whsec_not base64", HookSecretError::Base64),
            ("whsec_", HookSecretError::Length { len: 0 }),
            ("whsec_AAAA", HookSecretError::Length { len: 3 }),
            (&long, HookSecretError::Length { len: 65 }),
        ];
        for (text, expected) in rows {
            assert_eq!(HookSecret::new(text), Err(expected), "{text}");
        }
    }
}
