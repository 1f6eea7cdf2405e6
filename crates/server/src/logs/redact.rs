//! Removes secrets from a line of the log: text of a peer that looks like a secret is replaced.
//!
//! In: a finished line and the secrets that are known. Out: the line, with `[redacted]` in the place of each.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

const SECRET_BYTES_MIN: usize = 8;
/// The replacement of a secret.
const BLOT: &[u8] = b"[redacted]";

/// The secrets that a log replaces. Later keys, as by a reload, are added here.
#[derive(Clone, Default)]
pub struct LogSecrets(Arc<RwLock<Vec<Box<str>>>>);

impl fmt::Debug for LogSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogSecrets(hidden)")
    }
}

impl LogSecrets {
    /// Adds a text that must not appear from here on. Earlier ones stay: a client may still send a key that is no
    /// longer valid. Texts of less than 8 bytes are not searched for.
    pub fn add(&self, secret: &str) {
        if secret.len() < SECRET_BYTES_MIN {
            return;
        }
        // Values are quoted before they come here, so a secret with a quote or a backslash stands there escaped.
        let quoted = format!("{secret:?}");
        let as_quoted = &quoted[1..quoted.len() - 1];
        let mut secrets = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for form in [secret, as_quoted] {
            if secrets.iter().all(|other| **other != *form) {
                secrets.push(form.into());
            }
        }
    }

    pub(super) fn redact<'a>(&self, line: &'a [u8]) -> Cow<'a, [u8]> {
        redact(line, &self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A line without secrets. The server logs no secret on purpose; this is for texts of peers: known secrets, the text
/// after `Bearer`, `token=` or `connect=`, and text that looks like a JWT or a ticket.
fn redact<'a>(line: &'a [u8], secrets: &[Box<str>]) -> Cow<'a, [u8]> {
    let mut out = Cow::Borrowed(line);
    for secret in secrets {
        // Continues behind the replacement, which may contain the secret itself.
        let mut searched = 0;
        while let Some(at) = memchr::memmem::find(&out[searched..], secret.as_bytes()) {
            let at = searched + at;
            out = Cow::Owned([&out[..at], BLOT, &out[at + secret.len()..]].concat());
            searched = at + BLOT.len();
        }
    }
    let mut cuts = Vec::new();
    let mut at = 0;
    while at < out.len() {
        // A token may stand anywhere in a command, which is percent-encoded in a query: all of it goes.
        let is_of_secret = if ends_with(&out[..at], b"connect=") { is_of_query } else { is_of_token };
        let len = out[at..].iter().take_while(|byte| is_of_secret(**byte)).count();
        if len > 0 && (follows_a_name(&out[..at]) || looks_secret(&out[at..at + len])) {
            cuts.push((at, at + len));
        }
        at += len.max(1);
    }
    if cuts.is_empty() {
        return out;
    }
    let (mut clean, mut kept) = (Vec::with_capacity(out.len()), 0);
    for (from, to) in cuts {
        clean.extend_from_slice(&out[kept..from]);
        clean.extend_from_slice(BLOT);
        kept = to;
    }
    clean.extend_from_slice(&out[kept..]);
    Cow::Owned(clean)
}

/// The characters of tokens: base64 of both kinds, and the dots of a JWT.
fn is_of_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'+' | b'/')
}

/// All but the ends of a parameter of a query, and of the text that it stands in.
fn is_of_query(byte: u8) -> bool {
    !byte.is_ascii_whitespace() && !matches!(byte, b'&' | b'#' | b'"')
}

fn ends_with(before: &[u8], name: &[u8]) -> bool {
    before.len() >= name.len() && before[before.len() - name.len()..].eq_ignore_ascii_case(name)
}

/// True if the text before announces a secret.
fn follows_a_name(before: &[u8]) -> bool {
    const NAMES: [&str; 9] = [
        "bearer ",
        "token=",
        "ticket=",
        "connect=",
        "api_key=",
        "token\":\"",
        "ticket\":\"",
        "token\\\":\\\"",
        "ticket\\\":\\\"",
    ];
    NAMES.iter().any(|name| ends_with(before, name.as_bytes()))
}

/// A JWT begins with the base64 of `{"`, and has three parts. A ticket begins with its version (3, and four bits of the
/// next byte), and has 79 characters.
fn looks_secret(word: &[u8]) -> bool {
    let jwt = word.starts_with(b"eyJ") && word.iter().filter(|byte| **byte == b'.').count() >= 2;
    let ticket = word.len() >= 79
        && word[0] == b'A'
        && matches!(word[1], b'w'..=b'z' | b'0'..=b'9' | b'-' | b'_')
        && !word.contains(&b'.')
        && !word.contains(&b'/');
    jwt || ticket
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfare_hub::{ClientId, ShardId};
    use fanfare_wire::ticket::{self, Claims};

    #[test]
    fn secrets_are_blotted_out_and_nothing_else_is() {
        let claims = Claims { node: u64::MAX, shard: ShardId(1), client: ClientId(7), expires_ms: 1_700_003_600_000 };
        let ticket = ticket::seal(&claims, b"key");
        let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl";
        let secrets = ["s3cret-of-the-file".into()];
        let rows = [
            (format!("took {ticket} of it"), "took [redacted] of it".to_owned()),
            (format!("why=\"{jwt}\""), "why=\"[redacted]\"".to_owned()),
            ("authorization: bearer abc123+/==".into(), "authorization: bearer [redacted]==".into()),
            ("/v1/sse?token=abc&x=1".into(), "/v1/sse?token=[redacted]&x=1".into()),
            ("/v1/sse?connect=%7B%22a%22:1%7D&x=1 y".into(), "/v1/sse?connect=[redacted]&x=1 y".into()),
            (
                r#"{"uri":"/v1/sse?connect=%7B%22","a":1}"#.into(),
                r#"{"uri":"/v1/sse?connect=[redacted]","a":1}"#.into(),
            ),
            (r#"{"token":"abc","a":1}"#.into(), r#"{"token":"[redacted]","a":1}"#.into()),
            ("s3cret-of-the-file s3cret-of-the-file".into(), "[redacted] [redacted]".into()),
            ("denied client=00c0ffee00c0ffee user=\"ada\" channel=\"chat:a\"".into(), String::new()),
            ("Aw is short, eyJ has no dots".into(), String::new()),
        ];
        for (line, expected) in rows {
            let expected = if expected.is_empty() { line.clone() } else { expected };
            assert_eq!(String::from_utf8_lossy(&redact(line.as_bytes(), &secrets)), expected);
        }
        // A secret that is a part of the replacement is replaced once.
        for (secret, line, expected) in [
            ("redacted", "redacted, redacted", "[redacted], [redacted]"),
            ("[redacted]", "a [redacted] b", "a [redacted] b"),
        ] {
            assert_eq!(String::from_utf8_lossy(&redact(line.as_bytes(), &[secret.into()])), expected);
        }
    }

    #[test]
    fn a_secret_that_is_quoted_is_blotted_out_too() {
        let secrets = LogSecrets::default();
        secrets.add("a\"quote\\and more");
        let line = format!("{:?} and a\"quote\\and more", "it is a\"quote\\and more");
        let clean = secrets.redact(line.as_bytes()).into_owned();
        assert_eq!(String::from_utf8_lossy(&clean), "\"it is [redacted]\" and [redacted]");
    }
}
