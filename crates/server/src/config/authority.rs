//! The authority of an address, `host[:port]` (RFC 3986 §3.2), as in `Host`, `:authority`, a request's target, and an
//! origin behind its scheme.
//!
//! Hosts compare as browsers and resolvers do: without case, without a trailing dot, addresses by value.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longer ones than a name of the DNS, with room for a port, are cut where they are shown.
const SHOWN_CHARS_MAX: usize = 261;

/// A host: an address, or a name in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Host {
    Ip(IpAddr),
    Name(Box<str>),
}

/// A host, and a port where one is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Authority {
    pub(crate) host: Host,
    pub(crate) port: Option<u16>,
}

/// The error for a text that is no authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadAuthority {
    #[error("it names no host")]
    NoHost,
    #[error("it has a character that is not allowed in a host")]
    Character,
    #[error("it contains a user name")]
    UserInfo,
    #[error("the text in brackets is not an IPv6 address")]
    Brackets,
    #[error("its port is not a number up to 65535")]
    Port,
}

impl Host {
    /// An IPv6 address stands in brackets.
    pub(crate) fn parse(text: &str) -> Result<Self, BadAuthority> {
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(BadAuthority::Brackets)?;
            return inner.parse::<Ipv6Addr>().map(|ip| Host::Ip(ip.into())).map_err(|_| BadAuthority::Brackets);
        }
        is_reg_name(text)?;
        let name = match text.trim_end_matches('.') {
            "" => text,
            name => name,
        };
        Ok(match name.parse::<Ipv4Addr>() {
            Ok(ip) => Host::Ip(ip.into()),
            Err(_) => Host::Name(name.to_ascii_lowercase().into()),
        })
    }

    /// `localhost` and the names below it, which browsers and resolvers look up only on this machine (RFC 6761 §6.3).
    pub(crate) fn is_localhost(&self) -> bool {
        matches!(self, Host::Name(name) if **name == *"localhost" || name.ends_with(".localhost"))
    }

    /// This machine, by name or by address.
    pub(crate) fn is_this_machine(&self) -> bool {
        self.is_localhost() || matches!(self, Host::Ip(ip) if ip.to_canonical().is_loopback())
    }
}

/// RFC 3986 §3.2.2: `*( unreserved / pct-encoded / sub-delims )`, and something.
fn is_reg_name(text: &str) -> Result<(), BadAuthority> {
    if text.is_empty() {
        return Err(BadAuthority::NoHost);
    }
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let good = match byte {
            b'%' => {
                let digits = (bytes.next(), bytes.next());
                matches!(digits, (Some(a), Some(b)) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit())
            }
            b'-' | b'.' | b'_' | b'~' => true,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' => true,
            byte => byte.is_ascii_alphanumeric(),
        };
        if !good {
            return Err(if byte == b'@' { BadAuthority::UserInfo } else { BadAuthority::Character });
        }
    }
    Ok(())
}

impl Authority {
    /// `host`, `host:port`, `[address]:port`. A port may be empty, which is none (RFC 3986 §6.2.3).
    pub(crate) fn parse(text: &str) -> Result<Self, BadAuthority> {
        if text.contains('@') {
            return Err(BadAuthority::UserInfo);
        }
        let host_end = match text.find(']') {
            Some(bracket) if text.starts_with('[') => bracket + 1,
            _ => text.find(':').unwrap_or(text.len()),
        };
        let (host, rest) = text.split_at(host_end);
        let host = Host::parse(host)?;
        let port = match rest.strip_prefix(':') {
            None if rest.is_empty() => None,
            Some("") => None,
            // `u16` alone would take a sign.
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(port.parse().map_err(|_| BadAuthority::Port)?)
            }
            _ => return Err(BadAuthority::Port),
        };
        Ok(Authority { host, port })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Host::Ip(ip) => write!(f, "{ip}"),
            Host::Name(name) => f.write_str(name),
        }
    }
}

/// A text of a peer, in quotes, on one line and at a bounded length.
pub(crate) fn shown(sent: &[u8]) -> String {
    let text = String::from_utf8_lossy(sent);
    let mut chars = text.chars();
    let start: String = chars.by_ref().take(SHOWN_CHARS_MAX).collect();
    if chars.next().is_some() { format!("{start:?}…") } else { format!("{start:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities() {
        use BadAuthority::*;
        type Row<'a> = (&'a str, Result<(&'a str, Option<u16>), BadAuthority>);
        let rows: &[Row<'_>] = &[
            ("app.example", Ok(("app.example", None))),
            ("App.Example:443", Ok(("app.example", Some(443)))),
            ("app.example.", Ok(("app.example", None))),
            ("app.example.:1", Ok(("app.example", Some(1)))),
            ("app.example:", Ok(("app.example", None))),
            ("app.example:00080", Ok(("app.example", Some(80)))),
            ("127.0.0.1:8080", Ok(("127.0.0.1", Some(8080)))),
            ("127.0.0.1.", Ok(("127.0.0.1", None))),
            ("[::1]:3000", Ok(("[::1]", Some(3000)))),
            ("[0:0:0:0:0:0:0:1]", Ok(("[::1]", None))),
            ("a_b-c~d", Ok(("a_b-c~d", None))),
            ("a%41,b", Ok(("a%41,b", None))),
            (".", Ok((".", None))),
            ("a..", Ok(("a", None))),
            ("", Err(NoHost)),
            (":80", Err(NoHost)),
            ("a b", Err(Character)),
            ("a/b", Err(Character)),
            ("a?b", Err(Character)),
            ("a#b", Err(Character)),
            ("a\\b", Err(Character)),
            ("a\"b", Err(Character)),
            ("a%4", Err(Character)),
            ("a%zz", Err(Character)),
            ("ä.example", Err(Character)),
            ("user@a", Err(UserInfo)),
            ("user:secret@a:80", Err(UserInfo)),
            ("[::1", Err(Brackets)),
            ("[app.example]", Err(Brackets)),
            ("[::1%25eth0]", Err(Brackets)),
            ("[::1]x", Err(Port)),
            ("::1", Err(NoHost)),
            ("a:b", Err(Port)),
            ("a:+80", Err(Port)),
            ("a:-1", Err(Port)),
            ("a:65536", Err(Port)),
            ("a:80:80", Err(Port)),
            ("a: 80", Err(Port)),
        ];
        for (text, expected) in rows {
            let found = Authority::parse(text);
            let found = found.as_ref().map(|found| (found.host.to_string(), found.port)).map_err(|error| *error);
            let expected = expected.map(|(host, port)| (host.to_owned(), port));
            assert_eq!(found, expected, "{text:?}");
        }
    }

    proptest::proptest! {
        /// A text of a peer is parsed or refused, and a shown host reads back as the same.
        #[test]
        fn any_text_is_an_authority_or_none(text in "[\\PC]{0,20}|[a-z.:%@0-9\\[\\]]{0,20}") {
            if let Ok(Authority { host, port }) = Authority::parse(&text) {
                let port = port.map(|port| format!(":{port}")).unwrap_or_default();
                let again = Authority::parse(&format!("{host}{port}")).map(|again| again.host);
                proptest::prop_assert_eq!(again, Ok(host));
            }
            let _ = text.parse::<crate::Origin>().map(|origin| assert_eq!(origin.to_string().parse(), Ok(origin)));
            let _ = text.parse::<crate::HostPattern>().map(|host| assert_eq!(host.to_string().parse(), Ok(host)));
        }
    }

    #[test]
    fn this_machine_has_many_names() {
        let rows = [
            ("localhost", true),
            ("LOCALHOST.", true),
            ("app.localhost", true),
            ("localhost.evil.example", false),
            ("evillocalhost", false),
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("[::1]", true),
            ("[::ffff:127.0.0.1]", true),
            ("10.0.0.1", false),
            ("0.0.0.0", false),
        ];
        for (text, expected) in rows {
            assert_eq!(Host::parse(text).map(|host| host.is_this_machine()), Ok(expected), "{text}");
        }
    }

    #[test]
    fn the_shown_text_is_one_short_line() {
        assert_eq!(shown(b"a\nb\xFF"), "\"a\\nb\u{FFFD}\"");
        let long = shown("ä".repeat(10_000).as_bytes());
        assert!(long.chars().count() < 300 && long.ends_with("\"…"), "{long}");
    }
}
