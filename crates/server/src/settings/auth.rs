//! `[auth]`: whom tokens prove, and `[auth.keys]`: the keys that they are signed with.
//!
//! `name = "text"` is a secret (HS256) or a public key in PEM; a table says more:
//! `name = { algorithm = "ES256", kid = "2026-01", public_key_file = "…" }`. A key is never printed, neither in a
//! problem nor by `Debug`. What depends on several settings is judged when all are known.

use super::kind::kind_of;
use super::nearest;
use super::problem::{Problem, Severity, Source};
use super::units::Wrong;
use super::written::{Field, Raw, Written, secret_of_file};
use super::{Loading, Setting};
use crate::config::auth::{JwksConfig, TokenAlgorithm, TokenKey, TokenKeyError};
use crate::config::url::without_secrets;
use std::fmt;
use std::path::Path;
use std::time::Duration;

pub(super) const OPTIONS: [&str; 6] = ["algorithm", "kid", "secret", "secret_file", "public_key", "public_key_file"];
/// The words of `jwks_allow`.
const ALLOWED: [&str; 3] = ["http", "private", "redirects"];
/// How a secret is made.
const MAKE_SECRET: &str = "make a secret with: (umask 077; openssl rand -base64 32 > FILE)";
const URL: &str = "auth.jwks_url";
const ALLOW: &str = "auth.jwks_allow";
const ANONYMOUS: &str = "auth.anonymous";
const AUDIENCE: &str = "auth.audience";
const COOKIE: &str = "auth.cookie";

/// The settings of `[auth]` that are read before they are judged. `Debug` shows no query of an address.
#[derive(Clone)]
pub struct AuthSettings {
    /// The address of published keys; empty for none.
    pub jwks_url: String,
    /// What that address may be: `http`, `private`, `redirects`.
    pub jwks_allow: Vec<String>,
    /// How old its keys may become.
    pub jwks_refresh: Duration,
    /// Where each key was written, in the order of `config.auth.keys`.
    pub(super) places: Vec<Source>,
    /// Clients may come without a token although there is a key, unless the settings say otherwise: `fanfare dev`.
    pub(super) stays_open: bool,
}

impl fmt::Debug for AuthSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AuthSettings { jwks_url, jwks_allow, jwks_refresh, places, stays_open } = self;
        f.debug_struct("AuthSettings")
            .field("jwks_url", &without_secrets(jwks_url))
            .field("jwks_allow", jwks_allow)
            .field("jwks_refresh", jwks_refresh)
            .field("places", places)
            .field("stays_open", stays_open)
            .finish()
    }
}

impl Default for AuthSettings {
    fn default() -> Self {
        AuthSettings {
            jwks_url: String::new(),
            jwks_allow: Vec::new(),
            jwks_refresh: Duration::from_secs(600),
            places: Vec::new(),
            stays_open: false,
        }
    }
}

/// Reads one key and reports all its problems. A file is relative to `folder`.
fn read(name: &str, value: &Written, folder: &Path, problems: &mut Vec<Problem>) -> Option<TokenKey> {
    let before = problems.len();
    let mut refuse = |option: Option<&str>, at: &Source, shown: Option<String>, wrong: Wrong| {
        problems.push(Problem {
            severity: Severity::Error,
            at: at.clone(),
            key: option.map_or_else(|| format!("auth.keys.{name}"), |option| format!("auth.keys.{name}.{option}")),
            value: shown,
            problem: wrong.problem,
            allowed: match option {
                Some("algorithm") => algorithms(),
                Some("kid") => "the `kid` of its tokens, 1 to 256 bytes".to_owned(),
                Some("secret_file" | "public_key_file") => "the path of a file that holds the key alone".to_owned(),
                Some("public_key") => "a public key in PEM (-----BEGIN PUBLIC KEY-----)".to_owned(),
                Some("secret") => "a secret of 32 bytes or more".to_owned(),
                Some(_) => OPTIONS.join(", "),
                None => "a secret, a public key in PEM, or a table with one of secret, secret_file, public_key, public_key_file; and algorithm, kid".to_owned(),
            },
            hint: wrong.hint,
        });
    };
    let (mut algorithm, mut kid, mut is_known) = (None, None, !value.is_unknown());
    // The text, the place that is blamed for it, and whether it is meant to be public.
    let mut text: Option<(String, Option<&'static str>, &Source, Option<bool>)> = None;
    match &value.raw {
        Raw::Table(fields) => {
            for Field { key, at, value } in fields {
                let Some(option) = OPTIONS.into_iter().find(|option| option == key) else {
                    let hint = nearest::hint(key, OPTIONS);
                    refuse(Some(key), at, None, Wrong { problem: "a key has no such option".to_owned(), hint });
                    continue;
                };
                if value.is_unknown() {
                    is_known = false;
                    continue;
                }
                let Raw::Text(given) = &value.raw else {
                    refuse(Some(option), at, None, kind_of(value, "write it in quotes"));
                    continue;
                };
                let found = match option {
                    "algorithm" => {
                        algorithm = TokenAlgorithm::find(given);
                        if algorithm.is_none() {
                            refuse(Some(option), at, Some(value.shown.clone()), no_algorithm(given));
                        }
                        continue;
                    }
                    "kid" => {
                        kid = Some((given.clone(), at));
                        continue;
                    }
                    "secret" => given.clone(),
                    "public_key" => given.clone(),
                    _ => match secret_of_file(&folder.join(given), MAKE_SECRET) {
                        Ok(text) => text,
                        Err(wrong) => {
                            refuse(Some(option), at, Some(value.shown.clone()), wrong);
                            is_known = false;
                            continue;
                        }
                    },
                };
                if text.is_some() {
                    let hint = format!("give it one of {}", OPTIONS[2..].join(", "));
                    refuse(None, at, None, Wrong { problem: "it has two keys".to_owned(), hint });
                }
                text = Some((found, Some(option), at, Some(option.starts_with("public"))));
            }
        }
        Raw::Text(given) => text = Some((given.clone(), None, &value.at, None)),
        _ if !is_known => {}
        _ => refuse(None, &value.at, None, kind_of(value, "write the key in quotes")),
    }
    if problems_since(before, problems) || !is_known {
        return None;
    }
    let mut refuse = |option: Option<&'static str>, at: &Source, wrong: Wrong| {
        problems.push(Problem {
            severity: Severity::Error,
            at: at.clone(),
            key: option.map_or_else(|| format!("auth.keys.{name}"), |option| format!("auth.keys.{name}.{option}")),
            value: None,
            problem: wrong.problem,
            allowed: "a secret (HS256: 32 bytes or more), or a public key in PEM of RSA, P-256, P-384 or Ed25519"
                .to_owned(),
            hint: wrong.hint,
        });
        None
    };
    let Some((text, option, at, is_public)) = text else {
        let hint = format!("give it one of {}", OPTIONS[2..].join(", "));
        return refuse(None, &value.at, Wrong { problem: "it has no key".to_owned(), hint });
    };
    let is_pem = text.trim_start().starts_with("-----BEGIN");
    let confused = |problem: &str, hint: &str| Wrong { problem: problem.to_owned(), hint: hint.to_owned() };
    match is_public {
        // A public key that served as a secret would let everybody sign.
        Some(false) if is_pem => {
            return refuse(
                option,
                at,
                confused("a key in PEM is no secret", "write it as public_key, or public_key_file"),
            );
        }
        Some(true) if !is_pem => {
            return refuse(
                option,
                at,
                confused("it is no key in PEM", "a secret is written as secret, or secret_file"),
            );
        }
        _ => {}
    }
    // Variables of the environment often have `\n` in the place of line breaks.
    let text = if is_pem { text.replace("\\n", "\n") } else { text };
    let key = match TokenKey::new(name, algorithm, &text) {
        Ok(key) => key,
        Err(error) => return refuse(option, at, Wrong { problem: error.to_string(), hint: remedy(&error) }),
    };
    match kid {
        None => Some(key),
        Some((kid, at)) => match key.with_kid(&kid) {
            Ok(key) => Some(key),
            Err(error) => refuse(Some("kid"), at, Wrong { problem: error.to_string(), hint: remedy(&error) }),
        },
    }
}

fn problems_since(before: usize, problems: &[Problem]) -> bool {
    problems.len() > before
}

fn algorithms() -> String {
    TokenAlgorithm::all().map(TokenAlgorithm::name).collect::<Vec<_>>().join(", ")
}

fn no_algorithm(found: &str) -> Wrong {
    let hint = match found {
        found if found.eq_ignore_ascii_case("none") => {
            "an unsigned token proves nothing; leave `algorithm` out for the usual one of the key".to_owned()
        }
        found => nearest::hint(found, TokenAlgorithm::all().map(TokenAlgorithm::name)),
    };
    Wrong { problem: format!("{found:?} is not an algorithm of signatures"), hint }
}

fn remedy(error: &TokenKeyError) -> String {
    match error {
        TokenKeyError::TooShort { min, .. } => format!("make one with: openssl rand -base64 {min}"),
        TokenKeyError::Name { .. } => "use lower-case letters, digits, - and _ only, at most 64".to_owned(),
        TokenKeyError::Private => "make the public one with: openssl pkey -in KEY -pubout".to_owned(),
        TokenKeyError::NotPem => "look at it with: openssl pkey -pubin -in FILE -text".to_owned(),
        TokenKeyError::ShortRsa => {
            "make another with: openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072".to_owned()
        }
        TokenKeyError::Algorithm { .. } => "leave `algorithm` out for the usual one of the key".to_owned(),
        TokenKeyError::Kid { .. } => "leave `kid` out for tokens without one".to_owned(),
    }
}

impl Loading {
    /// A key of `[auth.keys]`. One of the same name takes the place of an earlier source's.
    pub(super) fn take_token_key(&mut self, name: &str, value: &Written, folder: &Path) {
        let Some(key) = read(name, value, folder, &mut self.problems) else { return };
        let (keys, places) = (&mut self.settings.config.auth.keys, &mut self.settings.auth.places);
        match keys.iter().position(|other| other.name() == name) {
            Some(place) => (keys[place], places[place]) = (key, value.at.clone()),
            None => {
                keys.push(key);
                places.push(value.at.clone());
            }
        }
    }

    /// Judges `[auth]` as a whole.
    pub(super) fn load_auth(&mut self) {
        self.load_jwks();
        let auth = &mut self.settings.config.auth;
        let (is_told, has_keys) = (self.settings.sources.contains_key(ANONYMOUS), auth.has_keys());
        if !is_told && has_keys && !self.settings.auth.stays_open {
            auth.anonymous = false;
        }
        let auth = &self.settings.config.auth;
        let keys_are_wrong = self.is_wrong("auth.keys") || self.is_wrong(URL) || self.is_wrong(ALLOW);
        if !auth.anonymous && !has_keys && !keys_are_wrong {
            let hint = "give it a key: [auth.keys] and below it main = { secret_file = \"…\" }; or remove this line";
            self.blame_auth(ANONYMOUS, "nobody could connect: without a key no token can be checked", hint);
        }
        let auth = &self.settings.config.auth;
        let is_sane = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if !auth.cookie.chars().all(is_sane) {
            self.blame_auth(COOKIE, "it is not the name of a cookie", "use letters, digits, - and _ only");
        }
        let auth = &self.settings.config.auth;
        let is_shared = auth.jwks.is_some();
        if is_shared && auth.audiences.is_empty() && !self.is_wrong(AUDIENCE) {
            let at = self.settings.sources.get(URL).cloned().unwrap_or(Source::Default);
            self.problems.push(Problem {
                severity: Severity::Warning,
                at,
                key: AUDIENCE.to_owned(),
                value: None,
                problem: "it is not set, so a token that this issuer made for any other service is accepted too"
                    .to_owned(),
                allowed: "the values of `aud` in tokens for this server".to_owned(),
                hint: "name them: audience = [\"…\"]".to_owned(),
            });
        }
    }

    fn load_jwks(&mut self) {
        let AuthSettings { jwks_url, jwks_allow, jwks_refresh, .. } = self.settings.auth.clone();
        if let Some(odd) = jwks_allow.iter().find(|word| !ALLOWED.contains(&word.as_str())) {
            let hint = nearest::hint(odd, ALLOWED);
            return self.blame_auth(ALLOW, &format!("{odd:?} is not one of the words"), &hint);
        }
        if jwks_url.is_empty() {
            return;
        }
        let allows = |word: &str| jwks_allow.iter().any(|other| other == word);
        let mut jwks = match JwksConfig::new(&jwks_url) {
            Ok(jwks) => jwks,
            Err(error) => {
                return self.blame_auth(URL, error.problem, "write it like https://id.example/.well-known/jwks.json");
            }
        };
        (jwks.http, jwks.private, jwks.redirects) = (allows("http"), allows("private"), allows("redirects"));
        jwks.refresh = jwks_refresh;
        if let Err(option) = jwks.may_ask(&jwks.url) {
            let (problem, hint) = match option {
                "http" => {
                    ("anybody on the way could put other keys there", "use https://, or list \"http\" in jwks_allow")
                }
                _ => ("it is an address of a private network", "list \"private\" in jwks_allow if that is intended"),
            };
            return self.blame_auth(URL, problem, hint);
        }
        self.settings.config.auth.jwks = Some(jwks);
    }

    fn blame_auth(&mut self, key: &'static str, problem: &str, hint: &str) {
        let at = self.settings.sources.get(key).cloned().unwrap_or(Source::Default);
        let setting = Setting::of(key);
        let shown = setting.map(|setting| self.settings.shown(setting));
        let allowed = match key {
            ALLOW => ALLOWED.map(|word| format!("{word:?}")).join(", "),
            URL => "an address that begins with https://".to_owned(),
            _ => setting.map_or_else(String::new, Setting::allowed),
        };
        self.refuse(key, &at, shown, problem, &allowed, hint);
    }
}
