//! How clients are identified by tokens (JWT): the keys, and what a token must say.
//!
//! A key is for one algorithm. A token does not choose it: one that names another algorithm than its key's is refused,
//! so that a public key never serves as a secret (HS256 in the place of RS256), and `none` is no algorithm here.
//! `Debug` shows no key.

use crate::config::url::{HttpUrl, UrlError};
use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, EncodingKey};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// The option that lets clients in without a token.
pub(crate) const ANONYMOUS: &str = "auth.anonymous";
/// The longest name of a key, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// The longest `kid`, in bytes.
pub(crate) const KID_BYTES_MAX: usize = 256;
/// The DER of an RSA key of 2,048 bits is longer; rustls and aws-lc refuse shorter ones too.
const RSA_DER_BYTES_MIN: usize = 256;

/// The settings of tokens. Without a key no token can be checked, and every client is anonymous.
#[derive(Debug, Clone, PartialEq)]
pub struct AuthConfig {
    /// Whether clients may connect without a token. Default true: without a key nobody could connect otherwise. A
    /// configuration file that has a key and says nothing about it means false.
    pub anonymous: bool,
    /// The keys. Several may be valid at a time, so that one can be replaced. Default: none.
    pub keys: Vec<TokenKey>,
    /// Keys that an address publishes (RFC 7517), besides. Default: none.
    pub jwks: Option<JwksConfig>,
    /// The accepted values of `iss`. Default: none, and `iss` is not looked at.
    pub issuers: Vec<String>,
    /// The accepted values of `aud`. Default: none, and `aud` is not looked at.
    pub audiences: Vec<String>,
    /// The clocks of an issuer and of this server may differ by so much. Default 30 s.
    pub leeway: Duration,
    /// The longest token, in bytes. Default 8 KiB.
    pub token_bytes_max: usize,
    /// The cookie that may hold the token. Default: none. It counts for pages that `origins` names, and for those of
    /// the same host.
    pub cookie: String,
}

impl Default for AuthConfig {
    fn default() -> Self {
        AuthConfig {
            anonymous: true,
            keys: Vec::new(),
            jwks: None,
            issuers: Vec::new(),
            audiences: Vec::new(),
            leeway: Duration::from_secs(30),
            token_bytes_max: 8 << 10,
            cookie: String::new(),
        }
    }
}

impl AuthConfig {
    /// Tokens can be checked.
    pub fn has_keys(&self) -> bool {
        !self.keys.is_empty() || self.jwks.is_some()
    }

    /// Somebody must be asked about every `connect`.
    pub(crate) fn is_on(&self) -> bool {
        self.has_keys() || !self.anonymous
    }
}

/// An algorithm of a signature (RFC 7518 §3, RFC 8037).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // their names say it
#[non_exhaustive]
pub enum TokenAlgorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

/// Every algorithm with its name and what checks it.
const ALGORITHMS: [(TokenAlgorithm, &str, Algorithm, Family); 12] = [
    (TokenAlgorithm::HS256, "HS256", Algorithm::HS256, Family::Secret { bytes_min: 32 }),
    (TokenAlgorithm::HS384, "HS384", Algorithm::HS384, Family::Secret { bytes_min: 48 }),
    (TokenAlgorithm::HS512, "HS512", Algorithm::HS512, Family::Secret { bytes_min: 64 }),
    (TokenAlgorithm::RS256, "RS256", Algorithm::RS256, Family::Rsa),
    (TokenAlgorithm::RS384, "RS384", Algorithm::RS384, Family::Rsa),
    (TokenAlgorithm::RS512, "RS512", Algorithm::RS512, Family::Rsa),
    (TokenAlgorithm::PS256, "PS256", Algorithm::PS256, Family::Rsa),
    (TokenAlgorithm::PS384, "PS384", Algorithm::PS384, Family::Rsa),
    (TokenAlgorithm::PS512, "PS512", Algorithm::PS512, Family::Rsa),
    (TokenAlgorithm::ES256, "ES256", Algorithm::ES256, Family::Ec { point_bytes: 65 }),
    (TokenAlgorithm::ES384, "ES384", Algorithm::ES384, Family::Ec { point_bytes: 97 }),
    (TokenAlgorithm::EdDSA, "EdDSA", Algorithm::EdDSA, Family::Ed),
];

/// The kind of key that an algorithm takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    /// RFC 7518 §3.2: a secret is at least as long as the hash.
    Secret {
        bytes_min: usize,
    },
    Rsa,
    /// An uncompressed point of the curve.
    Ec {
        point_bytes: usize,
    },
    Ed,
}

impl TokenAlgorithm {
    /// All of them.
    pub fn all() -> impl Iterator<Item = TokenAlgorithm> + Clone {
        ALGORITHMS.into_iter().map(|(algorithm, ..)| algorithm)
    }

    /// Its name in tokens and in settings.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The algorithm of this name.
    pub fn find(name: &str) -> Option<Self> {
        Self::all().find(|algorithm| algorithm.name() == name)
    }

    /// It is of a secret that issuer and server share.
    pub fn is_secret(self) -> bool {
        matches!(self.family(), Family::Secret { .. })
    }

    fn row(self) -> (TokenAlgorithm, &'static str, Algorithm, Family) {
        let row = ALGORITHMS.into_iter().find(|(algorithm, ..)| *algorithm == self);
        row.unwrap_or(ALGORITHMS[0]) // the table holds every variant: a test counts them
    }

    fn family(self) -> Family {
        self.row().3
    }

    pub(crate) fn of_crate(self) -> Algorithm {
        self.row().2
    }
}

impl fmt::Display for TokenAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A key that tokens are signed with, or the public half of one.
#[derive(Clone)]
pub struct TokenKey {
    name: Arc<str>,
    kid: Option<Arc<str>>,
    algorithm: TokenAlgorithm,
    key: DecodingKey,
    /// For minting: a secret signs as well.
    secret: Option<Arc<[u8]>>,
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TokenKey { name, kid, algorithm, .. } = self;
        f.debug_struct("TokenKey")
            .field("name", name)
            .field("kid", kid)
            .field("algorithm", algorithm)
            .finish_non_exhaustive()
    }
}

impl PartialEq for TokenKey {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.kid, self.algorithm) == (&other.name, &other.kid, other.algorithm)
            && self.secret == other.secret
            && match (self.key.kind(), other.key.kind()) {
                (DecodingKeyKind::SecretOrDer(one), DecodingKeyKind::SecretOrDer(two)) => one == two,
                (
                    DecodingKeyKind::RsaModulusExponent { n, e },
                    DecodingKeyKind::RsaModulusExponent { n: other_n, e: other_e },
                ) => (n, e) == (other_n, other_e),
                _ => false,
            }
    }
}

/// Why a text is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenKeyError {
    /// Not a name for a key.
    #[error("{name:?} is not a valid name for a key")]
    Name {
        /// As it was given.
        name: String,
    },
    /// Not a `kid`.
    #[error("a `kid` has 1 to {KID_BYTES_MAX} bytes, this one has {len}")]
    Kid {
        /// Its length.
        len: usize,
    },
    /// It would be guessed.
    #[error("a secret of {len} bytes is too short for {algorithm}: RFC 7518 asks for {min} or more")]
    TooShort {
        /// Its length in bytes.
        len: usize,
        /// The least.
        min: usize,
        /// The algorithm.
        algorithm: TokenAlgorithm,
    },
    /// A signer's key: this server has no use for it.
    #[error("it is a private key; give the server the public one")]
    Private,
    /// The text says `BEGIN`, and is no public key.
    #[error("it is no public key in PEM of RSA, of the curves P-256 and P-384, or of Ed25519")]
    NotPem,
    /// An RSA key that is broken too easily.
    #[error("an RSA key of less than 2,048 bits is too short")]
    ShortRsa,
    /// The algorithm is for another kind of key.
    #[error("{algorithm} is not an algorithm for {found}")]
    Algorithm {
        /// The algorithm.
        algorithm: TokenAlgorithm,
        /// The kind of key.
        found: &'static str,
    },
}

impl TokenKey {
    /// A key of this text: a secret, or a public key in PEM. Its algorithm is by default HS256 for a secret, RS256 for
    /// RSA, ES256, ES384 or EdDSA by the curve. `name` is for logs, and to replace it by: small letters, digits, `-`
    /// and `_`.
    ///
    /// # Errors
    /// [`TokenKeyError`]. Nothing of the text is in it.
    pub fn new(name: &str, algorithm: Option<TokenAlgorithm>, text: &str) -> Result<Self, TokenKeyError> {
        let is_sane = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(is_sane) {
            return Err(TokenKeyError::Name { name: name.to_owned() });
        }
        match text.trim_start().starts_with("-----BEGIN") {
            true => Self::public(name, algorithm, text.trim()),
            false => Self::secret(name, algorithm.unwrap_or(TokenAlgorithm::HS256), text),
        }
    }

    /// For tokens whose header has this `kid`, or none. A key without one is for all whose `kid` no other key has.
    ///
    /// # Errors
    /// [`TokenKeyError::Kid`].
    pub fn with_kid(self, kid: &str) -> Result<Self, TokenKeyError> {
        match kid.len() {
            1..=KID_BYTES_MAX => Ok(TokenKey { kid: Some(kid.into()), ..self }),
            len => Err(TokenKeyError::Kid { len }),
        }
    }

    fn secret(name: &str, algorithm: TokenAlgorithm, text: &str) -> Result<Self, TokenKeyError> {
        let Family::Secret { bytes_min } = algorithm.family() else {
            return Err(TokenKeyError::Algorithm { algorithm, found: "a secret" });
        };
        let (len, min) = (text.len(), bytes_min);
        let too_short = TokenKeyError::TooShort { len, min, algorithm };
        let key = DecodingKey::from_secret(text.as_bytes()).map_err(|_| too_short.clone())?;
        if len < min {
            return Err(too_short);
        }
        let secret = Some(text.as_bytes().into());
        Ok(TokenKey { name: name.into(), kid: None, algorithm, key, secret })
    }

    fn public(name: &str, algorithm: Option<TokenAlgorithm>, pem: &str) -> Result<Self, TokenKeyError> {
        if pem.contains("PRIVATE KEY") {
            return Err(TokenKeyError::Private);
        }
        let readers = [DecodingKey::from_rsa_pem, DecodingKey::from_ec_pem, DecodingKey::from_ed_pem];
        let key = readers.iter().find_map(|read| read(pem.as_bytes()).ok()).ok_or(TokenKeyError::NotPem)?;
        Self::of(name, None, algorithm, key)
    }

    /// A public key, by the algorithm that it is for if that is told.
    pub(crate) fn of(
        name: &str,
        kid: Option<&str>,
        algorithm: Option<TokenAlgorithm>,
        key: DecodingKey,
    ) -> Result<Self, TokenKeyError> {
        use jsonwebtoken::AlgorithmFamily as Of;
        let (usual, found) = match (key.family(), key.kind()) {
            (Of::Rsa, DecodingKeyKind::SecretOrDer(der)) if der.len() < RSA_DER_BYTES_MIN => {
                return Err(TokenKeyError::ShortRsa);
            }
            (Of::Rsa, DecodingKeyKind::RsaModulusExponent { n, .. }) if n.len() < RSA_DER_BYTES_MIN => {
                return Err(TokenKeyError::ShortRsa);
            }
            (Of::Rsa, _) => (TokenAlgorithm::RS256, "an RSA key"),
            (Of::Ec, DecodingKeyKind::SecretOrDer(point)) => match point.len() {
                65 => (TokenAlgorithm::ES256, "a key of P-256"),
                97 => (TokenAlgorithm::ES384, "a key of P-384"),
                _ => return Err(TokenKeyError::NotPem),
            },
            (Of::Ed, DecodingKeyKind::SecretOrDer(point)) if point.len() == 32 => {
                (TokenAlgorithm::EdDSA, "a key of Ed25519")
            }
            _ => return Err(TokenKeyError::NotPem),
        };
        let algorithm = algorithm.unwrap_or(usual);
        if algorithm.family() != usual.family() {
            return Err(TokenKeyError::Algorithm { algorithm, found });
        }
        Ok(TokenKey { name: name.into(), kid: kid.map(Arc::from), algorithm, key, secret: None })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The `kid` that it is for, where it has one.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The one algorithm that it is for.
    pub fn algorithm(&self) -> TokenAlgorithm {
        self.algorithm
    }

    /// The secret, for a filter that keeps it out of a log. A public key has none.
    pub fn expose_secret(&self) -> Option<&[u8]> {
        self.secret.as_deref()
    }

    /// Signs with a secret.
    pub(crate) fn signer(&self) -> Option<EncodingKey> {
        EncodingKey::from_secret(self.secret.as_ref()?).ok()
    }

    /// Whether this signature of `message` is this key's. The provider is named: the default one of the process is
    /// none where a program has two of them.
    pub(crate) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let verifier = (DEFAULT_PROVIDER.verifier_factory)(&self.algorithm.of_crate(), &self.key);
        verifier.is_ok_and(|verifier| verifier.verify(message, &signature.to_vec()).is_ok())
    }
}

/// An address that publishes keys, and which answers of it count.
#[derive(Debug, Clone, PartialEq)]
pub struct JwksConfig {
    pub(crate) url: HttpUrl,
    /// `http://` is allowed. Default false.
    pub http: bool,
    /// Addresses of private networks and of this machine are allowed. Default false.
    pub private: bool,
    /// Redirects are followed. Default false.
    pub redirects: bool,
    /// How old the keys may become before they are fetched again. Default 10 min.
    pub refresh: Duration,
    /// A `kid` that is not known has the keys fetched again, at most once in this time. Default 1 min.
    pub unknown_kid_every: Duration,
    /// Time for one fetch. Default 4 s: clients that wait for it are answered in time.
    pub timeout: Duration,
}

impl JwksConfig {
    /// The keys of this address, with the defaults.
    ///
    /// # Errors
    /// [`UrlError`] says why it is none.
    pub fn new(url: &str) -> Result<Self, UrlError> {
        Ok(JwksConfig {
            url: HttpUrl::new(url)?,
            http: false,
            private: false,
            redirects: false,
            refresh: Duration::from_secs(600),
            unknown_kid_every: Duration::from_secs(60),
            timeout: Duration::from_secs(4),
        })
    }

    /// Its address.
    pub fn url(&self) -> String {
        self.url.to_string()
    }

    /// Whether an address may be asked.
    ///
    /// # Errors
    /// The option that would allow it.
    pub(crate) fn may_ask(&self, url: &HttpUrl) -> Result<(), &'static str> {
        let literal = url.host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
        match literal {
            _ if !url.is_https && !self.http => Err("http"),
            Some(ip) if !self.private && is_private(ip) => Err("private"),
            _ => Ok(()),
        }
    }
}

/// True for an address that is not of the public Internet: of this machine, of a private or local network, or of none.
/// A name that resolves to one would lead the server to its neighbours.
pub(crate) fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_multicast()
                || ip.is_documentation()
                || a == 0
                || a >= 240
                || (a == 100 && (64..128).contains(&b)) // RFC 6598: shared by a provider's customers
                || (a == 198 && (18..20).contains(&b)) // RFC 2544: benchmarks
                || (a == 192 && b == 0 && c == 0)
        }
        IpAddr::V6(ip) => {
            let of_four = |at: usize| {
                let octets = ip.octets();
                is_private(IpAddr::from([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]]))
            };
            match ip.segments() {
                [0, 0, 0, 0, 0, 0xffff, ..] => of_four(12),    // an address of version 4
                [0, 0, 0, 0, 0, 0, ..] => true,                // none, this machine, and their kin
                [0x64, 0xff9b, 0, 0, 0, 0, ..] => of_four(12), // NAT64
                [0x64, 0xff9b, 1, ..] => true,                 // NAT64 of a local network
                [0x2002, ..] => of_four(2),                    // 6to4
                [0x2001, 0, ..] | [0x2001, 0xdb8, ..] | [0x100, 0, ..] => true, // Teredo, documentation, discard
                [first, ..] => {
                    first & 0xfe00 == 0xfc00 || first & 0xffc0 == 0xfe80 || first & 0xffc0 == 0xfec0 || first >= 0xff00
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_algorithm_has_its_row() {
        for algorithm in TokenAlgorithm::all() {
            assert_eq!(TokenAlgorithm::find(algorithm.name()), Some(algorithm));
            assert_eq!(format!("{:?}", algorithm.of_crate()), algorithm.name());
        }
        for none in ["none", "None", "hs256", "", "ES512", "RSA-OAEP"] {
            assert_eq!(TokenAlgorithm::find(none), None, "{none}");
        }
    }

    #[test]
    fn a_key_is_for_one_algorithm_and_shows_nothing_of_itself() {
        let secret = "an-example-of-a-secret-of-enough-bytes!";
        let key = TokenKey::new("main", None, secret).unwrap().with_kid("k1").unwrap();
        assert_eq!((key.name(), key.kid(), key.algorithm()), ("main", Some("k1"), TokenAlgorithm::HS256));
        assert!(!format!("{key:?}").contains("example"), "{key:?}");
        let config = AuthConfig { keys: vec![key], ..AuthConfig::default() };
        assert!(!format!("{config:?}").contains("example"), "{config:?}");
        let too_short = |len, min, algorithm| Err(TokenKeyError::TooShort { len, min, algorithm });
        let rows = [
            ("main", None, &secret[..31], too_short(31, 32, TokenAlgorithm::HS256)),
            ("main", None, "", too_short(0, 32, TokenAlgorithm::HS256)),
            ("main", Some(TokenAlgorithm::HS384), &secret[..39], too_short(39, 48, TokenAlgorithm::HS384)),
            ("Main", None, secret, Err(TokenKeyError::Name { name: "Main".to_owned() })),
            ("", None, secret, Err(TokenKeyError::Name { name: String::new() })),
            (
                "main",
                Some(TokenAlgorithm::RS256),
                secret,
                Err(TokenKeyError::Algorithm { algorithm: TokenAlgorithm::RS256, found: "a secret" }),
            ),
            ("main", None, "-----BEGIN RSA PRIVATE KEY-----\nx", Err(TokenKeyError::Private)),
            ("main", None, "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", Err(TokenKeyError::NotPem)),
        ];
        for (name, algorithm, text, expected) in rows {
            assert_eq!(TokenKey::new(name, algorithm, text), expected, "{name:?} {algorithm:?}");
        }
        let key = TokenKey::new("main", None, secret).unwrap();
        assert_eq!(key.clone().with_kid(""), Err(TokenKeyError::Kid { len: 0 }));
        assert_eq!(key.with_kid(&"k".repeat(257)), Err(TokenKeyError::Kid { len: 257 }));
    }

    #[test]
    fn the_addresses_of_neighbours_are_private() {
        let private = [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "198.18.0.1",
            "192.0.0.8",
            "::1",
            "::",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
        ];
        for text in private {
            assert!(is_private(text.parse().unwrap()), "{text}");
        }
        let public = [
            "1.1.1.1",
            "172.15.0.1",
            "172.32.0.1",
            "100.128.0.1",
            "2606:4700::1111",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
        ];
        for text in public {
            assert!(!is_private(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn an_address_of_keys_is_a_url_and_what_it_may_be_is_the_configs_choice() {
        let shown = |text: &str| JwksConfig::new(text).map(|config| config.url()).map_err(|error| error.problem);
        let rows = [
            ("https://id.example/keys?a=b", Ok("https://id.example/keys?a=b")),
            ("https://id.example:443", Ok("https://id.example/")),
            ("http://[::1]:8080/k", Ok("http://[::1]:8080/k")),
            ("ftp://id.example/", Err("it does not begin with https://")),
            ("/keys", Err("it does not begin with https://")),
            ("https://user:pass@id.example/", Err("it holds a user or a password")),
            ("https://id example/", Err("it is not a URL")),
        ];
        for (text, expected) in rows {
            assert_eq!(shown(text), expected.map(str::to_owned), "{text}");
        }
        let rows = [
            ("https://id.example/", [Ok(()), Ok(())]),
            ("http://id.example/", [Err("http"), Ok(())]),
            ("https://127.0.0.1/", [Err("private"), Ok(())]),
            ("https://[fe80::1]/", [Err("private"), Ok(())]),
        ];
        for (text, expected) in rows {
            let strict = JwksConfig::new(text).unwrap();
            let loose = JwksConfig { http: true, private: true, ..strict.clone() };
            assert_eq!([&strict, &loose].map(|config| config.may_ask(&config.url)), expected, "{text}");
        }
    }
}
