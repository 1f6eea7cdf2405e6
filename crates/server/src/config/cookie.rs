//! The cookie that a session of Socket.IO begins with, for balancers that keep a client at one node by it.
//!
//! In: the value of a `Set-Cookie` header (RFC 6265) without the cookie's value: `io; Path=/; Secure`. Out: the header
//! for a session. A name alone has the attributes of the reference: `Path=/; HttpOnly; SameSite=Lax`.

use http::HeaderValue;
use std::fmt;
use std::str::FromStr;

/// The attributes of a cookie that is only named.
const USUAL: &str = "; Path=/; HttpOnly; SameSite=Lax";

/// A cookie with a session's id, by name and attributes. Made by [`parse`](str::parse).
///
/// ```
/// let cookie: fanfare::Cookie = "io; Path=/; Secure; SameSite=None".parse()?;
/// assert_eq!(cookie.to_string(), "io; Path=/; Secure; SameSite=None");
/// assert_eq!("io".parse::<fanfare::Cookie>()?.to_string(), "io; Path=/; HttpOnly; SameSite=Lax");
/// # Ok::<(), fanfare::CookieError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cookie {
    name: Box<str>,
    /// Each behind `; `.
    attributes: Box<str>,
}

/// The error for a text that is no [`Cookie`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is no cookie: {problem}")]
pub struct CookieError {
    /// As it was given.
    pub found: String,
    /// The problem, and the correct form.
    pub problem: &'static str,
}

impl Cookie {
    /// The header's value. A value that could not stand in one makes none.
    pub(crate) fn header(&self, value: &str) -> Option<HeaderValue> {
        HeaderValue::from_str(&format!("{}={value}{}", self.name, self.attributes)).ok()
    }
}

impl FromStr for Cookie {
    type Err = CookieError;

    fn from_str(text: &str) -> Result<Self, CookieError> {
        let wrong = |problem| Err(CookieError { found: text.to_owned(), problem });
        let (name, attributes) = text.split_once(';').map_or((text, None), |(name, rest)| (name, Some(rest)));
        // RFC 6265 §4.1.1: a name is a token of HTTP.
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let name = name.trim();
        if name.is_empty() || !name.bytes().all(is_token) {
            return wrong("it begins with its name, without a value: \"io\" or \"io; Path=/; Secure\"");
        }
        let Some(attributes) = attributes else {
            return Ok(Cookie { name: name.into(), attributes: USUAL.into() });
        };
        if !attributes.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return wrong("its attributes may have visible characters of ASCII and spaces");
        }
        let mut all = String::new();
        for attribute in attributes.split(';').map(str::trim).filter(|attribute| !attribute.is_empty()) {
            all.push_str("; ");
            all.push_str(attribute);
        }
        Ok(Cookie { name: name.into(), attributes: all.into() })
    }
}

impl fmt::Display for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.name, self.attributes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_has_the_attributes_that_it_is_given() {
        #[rustfmt::skip]
        let rows = [
            ("io", "io=abc; Path=/; HttpOnly; SameSite=Lax"),
            ("io;", "io=abc"),
            (" io ; Path=/chat ;; Secure", "io=abc; Path=/chat; Secure"),
            ("SERVERID; Max-Age=3600; Domain=app.example", "SERVERID=abc; Max-Age=3600; Domain=app.example"),
        ];
        for (text, expected) in rows {
            let cookie: Cookie = text.parse().expect(text);
            assert_eq!(cookie.header("abc").expect(text), expected);
            if text != "io;" {
                assert_eq!(cookie.to_string().parse::<Cookie>(), Ok(cookie), "{text}");
            }
        }
    }

    #[test]
    fn what_could_not_stand_in_a_header_is_refused() {
        for text in ["", ";", "a b", "a=b", "a\"", "é", "io; Path=/\r\nX: y", "io; Path=/é", "a,b"] {
            assert!(text.parse::<Cookie>().is_err(), "{text:?}");
        }
    }
}
